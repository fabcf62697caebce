//! A host that says what its script says: for tests of the rooms above, without a network.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Command, Exit, Piece, sudo::Become};
use crate::failure::{Failure, Kind};

/// One thing that the host knows to answer. Of several with the same `when` each is given once, in their order, and the last one
/// whenever it is asked again.
#[derive(Debug, Clone)]
pub struct Reply {
    /// A text that the command, or the script that it is fed, or what is sent behind that, has to contain. A line feed
    /// stands behind each: the call that a script ends with is told from its definition.
    pub when: String,
    /// What it says on standard output; `{mark}`, here and in `err`, is the word of the script that stands before what is
    /// meant for ferry.
    pub out: Vec<u8>,
    /// What it says on standard error.
    pub err: Vec<u8>,
    /// How it ends.
    pub exit: Exit,
}

#[derive(Debug)]
struct Inner {
    host: String,
    plan: Become,
    replies: Vec<Reply>,
    heard: Mutex<Vec<String>>,
    /// Replies that were given, by their place.
    given: Mutex<Vec<usize>>,
    listens: Mutex<Vec<String>>,
    hangs: Mutex<Vec<String>>,
}

fn held<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A conversation with a scripted host.
#[derive(Clone, Debug)]
pub struct FakeSession {
    inner: Arc<Inner>,
}

impl FakeSession {
    /// A host that answers the first reply whose `when` is in the command or script.
    pub fn new(host: impl Into<String>, replies: Vec<Reply>) -> Self {
        let inner = Inner {
            host: host.into(),
            plan: Become::off(),
            replies,
            heard: Mutex::default(),
            given: Mutex::default(),
            listens: Mutex::default(),
            hangs: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What contains this text goes on after its reply until its input is closed, and answers what it is sent meanwhile.
    #[must_use]
    pub fn listening(self, when: &str) -> Self {
        held(&self.inner.listens).push(when.to_owned());
        self
    }

    /// What contains this text never ends after its reply.
    #[must_use]
    pub fn hanging(self, when: &str) -> Self {
        held(&self.inner.hangs).push(when.to_owned());
        self
    }

    /// Commands and scripts that the host was given, in order.
    pub fn heard(&self) -> Vec<String> {
        held(&self.inner.heard).clone()
    }

    pub(super) fn host(&self) -> &str {
        &self.inner.host
    }

    pub(super) fn become_plan(&self) -> &Become {
        &self.inner.plan
    }

    pub(super) async fn open(&self, command: &Command) -> Result<FakeChild, Failure> {
        let text = command.as_str();
        // The bootstrap of a root script: greet, then wait for the script.
        let greeting = text
            .split_once("printf \"%s\\n\" ")
            .and_then(|(_, rest)| rest.split_once(';'))
            .map(|(nonce, _)| nonce.to_owned());
        let length = text
            .split_once(" -eq ")
            .and_then(|(_, rest)| rest.split_once(' '))
            .and_then(|(length, _)| length.parse().ok());
        let mut child = FakeChild {
            session: self.clone(),
            pieces: VecDeque::new(),
            exit: Exit::Code(0),
            script: None,
            mark: String::new(),
            stays: Stays::Ends,
        };
        match (greeting, length) {
            (Some(nonce), Some(length)) => {
                child.pieces.push_back(Piece::Out(Bytes::from(format!("{nonce}\n"))));
                child.script = Some((length, Vec::new()));
            }
            _ => child.answer(text),
        }
        Ok(child)
    }
}

/// What a command does after its reply.
#[derive(Debug, PartialEq, Eq)]
enum Stays {
    Ends,
    /// Until its input is closed.
    Listens,
    Hangs,
}

/// A scripted command.
#[derive(Debug)]
pub struct FakeChild {
    session: FakeSession,
    pieces: VecDeque<Piece>,
    exit: Exit,
    script: Option<(usize, Vec<u8>)>,
    mark: String,
    stays: Stays,
}

/// The word of a script that stands before what is meant for ferry: `@@` and 32 digits, or a job's nonce.
fn mark(script: &str) -> String {
    let after = |before: &str| {
        let rest = script.split_once(before)?.1.trim_start_matches('\'');
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        rest.get(..digits).filter(|digits| digits.len() == 32).map(str::to_owned)
    };
    match (after("f_nonce="), after("@@")) {
        (Some(nonce), _) => format!("@{nonce}"),
        (None, Some(digits)) => format!("@@{digits}"),
        (None, None) => String::new(),
    }
}

/// What is said, with the script's own word in it.
fn marked(said: &[u8], mark: &str) -> Vec<u8> {
    const PLACE: &[u8] = b"{mark}";
    let (mut all, mut rest) = (Vec::with_capacity(said.len()), said);
    while let Some(at) = rest.windows(PLACE.len()).position(|window| window == PLACE) {
        let (before, behind) = rest.split_at(at);
        all.extend_from_slice(before);
        all.extend_from_slice(mark.as_bytes());
        rest = behind.get(PLACE.len()..).unwrap_or_default();
    }
    all.extend_from_slice(rest);
    all
}

impl FakeChild {
    /// The reply to this text, if there is one.
    fn reply(&mut self, text: &str) -> Option<Exit> {
        let inner = &self.session.inner;
        let text = format!("{text}\n");
        let mut given = held(&inner.given);
        let all = inner.replies.iter().enumerate();
        let when = &all.clone().find(|(_, reply)| text.contains(&reply.when))?.1.when;
        let mut same = all.filter(|(_, reply)| reply.when == *when);
        let (at, reply) = same.clone().find(|(at, _)| !given.contains(at)).or_else(|| same.next_back())?;
        given.push(at);
        for (said, wrap) in [(&reply.out, Piece::Out as fn(Bytes) -> Piece), (&reply.err, Piece::Err)] {
            let said = marked(said, &self.mark);
            if !said.is_empty() {
                self.pieces.push_back(wrap(Bytes::from(said)));
            }
        }
        Some(reply.exit.clone())
    }

    fn answer(&mut self, text: &str) {
        let inner = Arc::clone(&self.session.inner);
        held(&inner.heard).push(text.to_owned());
        self.mark = mark(text);
        match self.reply(text) {
            Some(exit) => self.exit = exit,
            None => {
                self.pieces.push_back(Piece::Err(Bytes::from(format!("no reply is scripted for: {text}"))));
                self.exit = Exit::Code(127);
            }
        }
        let text = format!("{text}\n");
        let among = |all: &Mutex<Vec<String>>| held(all).iter().any(|when| text.contains(when));
        if among(&inner.hangs) {
            self.stays = Stays::Hangs;
        } else if among(&inner.listens) {
            self.stays = Stays::Listens;
        }
    }

    pub(super) async fn next(&mut self) -> Option<Piece> {
        match self.pieces.pop_front() {
            None if self.stays != Stays::Ends => std::future::pending().await,
            piece => piece,
        }
    }

    pub(super) fn unread(&mut self, piece: Piece) {
        self.pieces.push_front(piece);
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some((length, mut script)) = self.script.take() else {
            // What a command that fails was sent finds nobody.
            if self.exit != Exit::Code(0) && self.stays == Stays::Ends {
                return Err(Failure::new(Kind::Unreachable, "the command closed its input"));
            }
            if let Some(exit) = self.reply(&String::from_utf8_lossy(bytes)) {
                self.exit = exit;
            }
            return Ok(());
        };
        script.extend_from_slice(bytes);
        if script.len() < length {
            self.script = Some((length, script));
        } else {
            let text = String::from_utf8(script).map_err(|_| Failure::new(Kind::Bug, "a script is not UTF-8"))?;
            self.answer(&text);
        }
        Ok(())
    }

    pub(super) async fn close_input(&mut self) {
        if self.stays == Stays::Listens {
            self.stays = Stays::Ends;
        }
    }

    pub(super) fn exit_seen(&mut self) -> Exit {
        self.exit.clone()
    }
}
