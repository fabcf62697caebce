//! One end of a transfer: a path on a host, or here. What is asked of it and what it answers.
//!
//! Every question is a call of `end.sh` in a root shell there. Here the same calls run in a `sh` of our own, as
//! ourselves; only bytes and digests of a file here go without one.

use std::time::{Duration, Instant};

use crate::failure::{Failure, Kind};
use crate::remote::local::LocalSession;
use crate::remote::ssh::connect::Lane;
use crate::remote::sudo::Become;
use crate::remote::{Exit, Session, Way, quote};
use crate::secret::clean;

/// Where a file is.
#[derive(Debug, Clone)]
pub enum Place {
    /// On this machine, as the user that we are.
    Here,
    /// On a host, as the user that we become there.
    Host {
        /// The inventory's name of it.
        name: String,
        /// The way there.
        way: Way,
    },
}

/// One end of a transfer.
#[derive(Debug, Clone)]
pub struct End {
    /// Where.
    pub place: Place,
    /// Absolute path there, without `.`, `..` and control characters.
    pub path: String,
}

/// What ferry calls this machine.
const HERE: &str = "this machine";

impl End {
    /// Its host's name, for people.
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Here => HERE,
            Place::Host { name, .. } => name,
        }
    }

    /// Whether it is on this machine, without sudo.
    pub fn is_here(&self) -> bool {
        matches!(self.place, Place::Here)
    }

    /// As it is typed.
    pub fn shown(&self) -> String {
        match &self.place {
            Place::Here => clean(self.path.as_bytes()),
            Place::Host { name, .. } => format!("{name}:{}", clean(self.path.as_bytes())),
        }
    }

    pub(super) fn way(&self) -> Way {
        match &self.place {
            Place::Here => Way::Local(LocalSession::new(HERE, Become::off())),
            Place::Host { way, .. } => way.clone(),
        }
    }

    /// What is wrong with the path, if anything is.
    pub(super) fn wrong(&self) -> Option<Failure> {
        let ok = self.path.starts_with('/')
            && self.path.len() > 1
            && self.path.len() < 4000
            && self.path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..")
            && !self.path.chars().any(char::is_control);
        (!ok).then(|| {
            Failure::new(Kind::CouldNotStart, "this is no place for a file")
                .on(self.host())
                .saw(clean(self.path.as_bytes()))
                .why("expected: an absolute path of a file, without '.', '..' and control characters")
        })
    }

    pub(super) fn failed(&self, what: &str, said: &str) -> Failure {
        let said: String = clean(said.trim().as_bytes()).chars().take(400).collect();
        let failure = Failure::new(Kind::Failed, what.to_owned()).on(self.host()).saw(said.clone());
        if is_full(&said) {
            return failure
                .why(format!("the disk there is full: {}", self.shown()))
                .mend("make room there, or name another place, and start again; nothing of it was left behind");
        }
        failure
    }
}

/// Whether these are the words of a full disk.
pub(super) fn is_full(said: &str) -> bool {
    ["No space left", "Disk quota exceeded", "File too large"].iter().any(|word| said.contains(word))
}

/// A word that no file's content and no host knows.
pub(super) fn mark() -> String {
    format!("@@{:032x}", rand::random::<u128>())
}

/// The script of one call: names and values, each quoted, then the functions, then the call.
pub(super) fn script(end: &End, mark: &str, values: &[(&str, String)], call: &str) -> Result<String, Failure> {
    // What a call has no value for is nothing, whatever the environment there has.
    let mut text = "B= Q= q=\n".to_owned();
    for (name, value) in [("M", mark.to_owned()), ("F", end.path.clone())].iter().chain(values) {
        let value = quote(value).map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()))?;
        text.push_str(&format!("{name}={value}\n"));
    }
    text.push_str(include_str!("end.sh"));
    if call.starts_with("direct_") {
        text.push_str(include_str!("direct.sh"));
    }
    text.push_str(call);
    Ok(text)
}

/// Asks an end, on one connection as long as it lives and on new ones after that.
pub(super) struct Post {
    pub(super) end: End,
    session: Option<Session>,
    patience: Duration,
}

/// The lines of an answer, each a first word and the rest.
#[derive(Debug)]
pub(super) struct Answer(pub(super) Vec<(String, String)>);

impl Answer {
    /// The rest of the first line that begins with this word.
    pub(super) fn get(&self, word: &str) -> Option<&str> {
        self.all(word).next()
    }

    /// The same of every such line.
    pub(super) fn all(&self, word: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(first, _)| first == word).map(|(_, rest)| rest.as_str())
    }

    pub(super) fn shown(&self) -> String {
        self.0.iter().map(|(first, rest)| format!("{first} {rest}")).collect::<Vec<_>>().join("; ")
    }
}

/// A line of the host's that is meant for us: its first word, and the rest.
pub(super) fn meant<'a>(line: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    let rest = line.strip_prefix(mark)?.strip_prefix(' ')?.trim_end();
    Some(rest.split_once(' ').unwrap_or((rest, "")))
}

impl Post {
    pub(super) fn new(end: &End, patience: Duration) -> Self {
        Self { end: end.clone(), session: None, patience }
    }

    /// Goes on by a connection to that end which is there already.
    pub(super) fn with(mut self, session: Option<Session>) -> Self {
        self.session = session;
        self
    }

    /// The connection for questions, if one was made.
    pub(super) fn into_session(self) -> Option<Session> {
        self.session
    }

    /// The connection for questions, made when there is none.
    pub(super) async fn session(&mut self) -> Result<Session, Failure> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let session = self.end.way().connect(Lane::Control).await?;
        self.session = Some(session.clone());
        Ok(session)
    }

    /// Asks until there is an answer or the patience is over: every call of `end.sh` may be made twice.
    pub(super) async fn ask(
        &mut self,
        values: &[(&str, String)],
        call: &str,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(200);
        loop {
            match self.once(values, call, limit).await {
                Err(failure) if failure.again && began.elapsed() < self.patience => {
                    self.session = None;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(15));
                }
                Err(failure) if failure.host.is_none() => return Err(failure.on(self.end.host())),
                other => return other,
            }
        }
    }

    async fn once(&mut self, values: &[(&str, String)], call: &str, limit: Duration) -> Result<Answer, Failure> {
        let mark = mark();
        let script = script(&self.end, &mark, values, call)?;
        let said = self.session().await?.run_root(&script, limit).await?;
        let text = said.text();
        let lines: Vec<(String, String)> = text
            .lines()
            .filter_map(|line| meant(line, &mark))
            .map(|(first, rest)| (clean(first.as_bytes()), clean(rest.as_bytes())))
            .collect();
        match &said.exit {
            _ if lines.last().is_some_and(|(first, _)| first == "over") => Ok(Answer(lines)),
            Exit::Lost(why) => Err(Failure::new(Kind::Unreachable, "the connection ended in the middle of an answer")
                .on(self.end.host())
                .saw(why.clone())
                .again()),
            exit => Err(self.end.failed(
                "the host could not do its part of the transfer",
                &format!("{exit}; {}; {}", said.err_text(), Answer(lines).shown()),
            )),
        }
    }
}
