//! ssh_config: what the operator's files and ssh's own command-line options say about one host, by
//! OpenSSH's rules: the first value wins, `Host` and `Match` open and close, `Include` reads on, tokens are filled in.
//!
//! What lives here: reading, matching, the resolved answer. What does not: what is done with it (reach,
//! connect), which options ferry knows on a command line (options).
//!
//! A keyword that ferry cannot honour and that would change who is reached or what is trusted is an error with
//! its place, in every block that matches. What changes noise, speed or forwarding only is passed over. A bad
//! value is an error wherever it stands, as for OpenSSH.

mod keywords;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use words::algorithms;

use keywords::{Keyword, Takes};

use crate::failure::{Failure, Kind};

/// Who and where we are: what the files may ask about this machine.
#[derive(Clone)]
pub struct Here {
    /// The home folder: `~`, `%d`.
    pub home: PathBuf,
    /// The local user: `%u`.
    pub user: String,
    /// The local user's number: `%i`; also who may own the user's file.
    pub uid: u32,
    /// This machine's name: `%l`.
    pub machine: String,
    /// Reads an environment variable, for `${NAME}`.
    pub env: fn(&str) -> Option<String>,
}

/// Which files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// `~/.ssh/config`, or what `-F` names.
    pub user: Option<PathBuf>,
    /// `/etc/ssh/ssh_config`; not with `-F`.
    pub system: Option<PathBuf>,
    /// `-F` named the first: it must be there, and its owner and mode are not judged.
    pub named: bool,
}

impl Files {
    /// OpenSSH's own.
    pub fn usual(home: &Path) -> Self {
        Self { user: Some(home.join(".ssh/config")), system: Some(PathBuf::from("/etc/ssh/ssh_config")), named: false }
    }

    /// What `-F FILE` means; `none` is no file at all.
    pub fn only(file: &Path) -> Self {
        let none = file.as_os_str().eq_ignore_ascii_case("none");
        Self { user: (!none).then(|| file.to_owned()), system: None, named: !none }
    }
}

/// A hop of a `ProxyJump`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// `user@`, where it is written.
    pub user: Option<String>,
    /// Host as written: ssh_config is asked about it.
    pub host: String,
    /// `:port`, where it is written.
    pub port: Option<u16>,
}

/// What ssh_config says about a host. `None` and empty where it says nothing; then OpenSSH's default holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Where to connect to; the host as asked when no `HostName` says otherwise.
    pub host_name: String,
    values: BTreeMap<&'static str, String>,
    lists: BTreeMap<&'static str, Vec<String>>,
    /// Options that were met and are not used, each a sentence: told when nothing lets us in.
    pub notes: Vec<String>,
}

struct Reader<'a> {
    here: &'a Here,
    asked: &'a str,
    /// `%r` and `Match user` before `User` is known.
    resolved: Resolved,
    ignored: Vec<String>,
    wrong: Vec<Failure>,
    last_pass: bool,
    wants_last_pass: bool,
}

/// A line that is being read.
struct Line<'a> {
    file: &'a str,
    text: &'a str,
    number: usize,
    whole: &'a str,
    user_file: bool,
    never: bool,
    depth: usize,
}

/// Includes may stand in each other so deep.
const DEEPEST: usize = 16;
/// A configuration file is read to this size, in bytes.
const LARGEST: u64 = 4 << 20;

/// What options and files say about `asked`, a host as written on a command line. `given` are options
/// of the command line, in order, keyword and value; they come first.
///
/// # Errors
/// [`Kind::CouldNotStart`] with file, line and column of everything that is wrong.
pub fn resolve(asked: &str, given: &[(String, String)], files: &Files, here: &Here) -> Result<Resolved, Failure> {
    let mut reader = Reader {
        here,
        asked,
        resolved: Resolved { host_name: asked.to_owned(), ..Resolved::default() },
        ignored: Vec::new(),
        wrong: Vec::new(),
        last_pass: false,
        wants_last_pass: false,
    };
    for (keyword, value) in given {
        let text = format!("{keyword} {value}");
        let line = Line {
            file: "command line",
            text: &text,
            number: 1,
            whole: &text,
            user_file: true,
            never: false,
            depth: 0,
        };
        reader.line(&line, &mut true);
    }
    reader.files(files);
    if let Some(name) = reader.resolved.values.get("hostname").cloned() {
        match expand(&name, &[('h', asked), ('%', "%")], None) {
            Ok(name) => reader.resolved.host_name = name,
            Err(what) => reader.wrong.push(Failure::new(Kind::CouldNotStart, format!("HostName: {what}"))),
        }
    }
    reader.resolved.host_name = reader.resolved.host_name.to_ascii_lowercase();
    if reader.wants_last_pass {
        reader.last_pass = true;
        reader.files(files);
    }
    match Failure::all(std::mem::take(&mut reader.wrong)) {
        Some(failure) => Err(failure),
        None => Ok(reader.resolved),
    }
}

impl Reader<'_> {
    fn files(&mut self, files: &Files) {
        if let Some(path) = &files.user {
            let mut active = true;
            self.file(path, !files.named, files.named, true, false, 0, &mut active);
        }
        if let Some(path) = &files.system {
            let mut active = true;
            self.file(path, false, false, false, false, 0, &mut active);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a file is read under, and nothing keeps it together")]
    fn file(
        &mut self,
        path: &Path,
        judged: bool,
        needed: bool,
        user_file: bool,
        never: bool,
        depth: usize,
        active: &mut bool,
    ) {
        let name = path.display().to_string();
        let broken = |what: String| Failure::new(Kind::CouldNotStart, format!("{name}: {what}"));
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            Err(_) if !needed => return,
            Err(error) => return self.wrong.push(broken(format!("-F names it, and it cannot be read: {error}"))),
        };
        if judged {
            use std::os::unix::fs::MetadataExt as _;
            if (meta.uid() != 0 && meta.uid() != self.here.uid) || meta.mode() & 0o022 != 0 {
                let seen = format!("owner {}, mode {:04o}", meta.uid(), meta.mode() & 0o7777);
                let failure = broken("others may write to this file".to_owned()).saw(seen);
                let failure = failure.why("ssh refuses it, and whoever writes to it decides where we connect to");
                return self.wrong.push(failure.mend(format!("chmod go-w {name}")));
            }
        }
        if meta.is_file() && meta.len() > LARGEST {
            return self.wrong.push(broken("is larger than 4 MiB".to_owned()));
        }
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(_) if !needed && !judged => return,
            Err(error) => return self.wrong.push(broken(format!("cannot be read: {error}"))),
        };
        let whole = String::from_utf8_lossy(&bytes).into_owned();
        for (at, text) in whole.lines().enumerate() {
            let line = Line { file: &name, text, number: at + 1, whole: &whole, user_file, never, depth };
            self.line(&line, active);
        }
    }

    fn complain(&mut self, line: &Line<'_>, word: &str, what: String) -> Option<()> {
        let failure = self.failure(line, word, what);
        if !self.wrong.contains(&failure) {
            self.wrong.push(failure);
        }
        None
    }

    fn failure(&self, line: &Line<'_>, word: &str, what: String) -> Failure {
        let failure = Failure::new(Kind::CouldNotStart, what);
        if line.file == "command line" {
            return failure.saw(line.text.to_owned());
        }
        let column = line.text.find(word).map_or(0, |at| line.text[..at].chars().count()) + 1;
        failure.in_text(line.file, line.whole, line.number, column)
    }

    /// One line; `active` says whether the block that it stands in holds for this host.
    fn line(&mut self, line: &Line<'_>, active: &mut bool) -> Option<()> {
        let text = line.text.trim_end_matches([' ', '\t', '\r', '\n', '\x0c']);
        let mut rest = text.trim_start_matches([' ', '\t', '\r', '\x0c']);
        if rest.is_empty() || rest.starts_with('#') {
            return None;
        }
        let written = words::delimited(&mut rest).filter(|word| !word.is_empty())?;
        let lower = written.to_ascii_lowercase();
        let Some(keyword) = keywords::find(&lower) else {
            if !words::fits_list(&lower, &self.ignored.join(","), true) {
                let near = keywords::nearest(&lower).map_or_else(String::new, |near| format!(" (near: {near})"));
                self.complain(line, &written, format!("{written} is no option of ssh{near}"));
            }
            return None;
        };
        if rest.is_empty() {
            return self.complain(line, &written, format!("{written} needs a value"));
        }
        let words = match words::arguments(rest) {
            Ok(words) => words,
            Err(_) if matches!(keyword.takes, Takes::Command) => Vec::new(),
            Err(what) => return self.complain(line, &written, format!("{written}: {what}")),
        };
        match keyword.takes {
            Takes::Host => self.host_block(line, &words, active),
            Takes::Match => self.match_block(line, rest, active),
            Takes::Include => self.include(line, &words, *active),
            _ => self.option(line, keyword, &written, rest, &words, *active),
        }
    }

    fn host_block(&mut self, line: &Line<'_>, patterns: &[String], active: &mut bool) -> Option<()> {
        *active = false;
        if line.never {
            return None;
        }
        let name = if self.last_pass { self.resolved.host_name.clone() } else { self.asked.to_owned() };
        for pattern in patterns {
            let (negated, pattern) = pattern.strip_prefix('!').map_or((false, pattern.as_str()), |rest| (true, rest));
            if words::fits(&name, pattern) {
                *active = !negated;
                if negated {
                    return None;
                }
            }
        }
        Some(())
    }

    fn match_block(&mut self, line: &Line<'_>, text: &str, active: &mut bool) -> Option<()> {
        *active = false;
        let (mut rest, mut result, mut count, mut alone) = (text, true, 0, false);
        while let Some(word) = words::delimited(&mut rest) {
            if word.starts_with('#') {
                break;
            }
            count += 1;
            let (negated, name) = word.strip_prefix('!').map_or((false, word.as_str()), |rest| (true, rest));
            let fits = match name.to_ascii_lowercase().as_str() {
                "all" => {
                    alone = true;
                    true
                }
                "canonical" | "final" => {
                    // `canonical` matches in the last pass too; only `final` asks for one.
                    self.wants_last_pass |= name.eq_ignore_ascii_case("final");
                    self.last_pass
                }
                criterion => {
                    let Some(value) = words::delimited(&mut rest).filter(|value| !value.is_empty()) else {
                        return self.complain(line, &word, format!("Match {name} needs a value"));
                    };
                    if line.never {
                        false
                    } else {
                        match self.criterion(criterion, &value, result) {
                            Ok(fits) => fits,
                            Err(what) => return self.complain(line, &word, what),
                        }
                    }
                }
            };
            result &= fits != negated;
        }
        if count == 0 {
            return self.complain(line, "Match", "Match needs a criterion".to_owned());
        }
        if alone && count > 2 {
            return self.complain(line, "all", "Match all stands alone, or behind canonical or final".to_owned());
        }
        *active = result && !line.never;
        Some(())
    }

    /// One criterion of a `Match`; `so_far` is whether those before it held: a command runs only then.
    fn criterion(&self, name: &str, value: &str, so_far: bool) -> Result<bool, String> {
        let user = || self.resolved.values.get("user").cloned().unwrap_or_else(|| self.here.user.clone());
        let host = || match self.resolved.values.get("hostname") {
            Some(name) => expand(name, &[('h', self.asked), ('%', "%")], None).unwrap_or_else(|_| name.clone()),
            None if self.last_pass => self.resolved.host_name.clone(),
            None => self.asked.to_owned(),
        };
        Ok(match name {
            "host" => words::fits_list(&host().to_ascii_lowercase(), value, true),
            "originalhost" => words::fits_list(self.asked, value, true),
            "user" => words::fits_list(&user(), value, false),
            "localuser" => words::fits_list(&self.here.user, value, false),
            "tagged" => {
                let tag = self.resolved.values.get("tag").map_or("", String::as_str);
                words::fits_list(tag, value, false)
            }
            "exec" => {
                if !so_far {
                    return Ok(false);
                }
                let (host, user) = (host(), user());
                let port = self.resolved.values.get("port").map_or("22", String::as_str).to_owned();
                let command = self.fill(value, &host, &port, &user)?;
                runs(&command, self.here)?
            }
            "localnetwork" => {
                return Err("Match localnetwork is not built: write the host's own Host block instead".to_owned());
            }
            other => return Err(format!("Match {other} is no criterion that ferry knows")),
        })
    }

    fn include(&mut self, line: &Line<'_>, patterns: &[String], active: bool) -> Option<()> {
        if line.depth >= DEEPEST {
            return self.complain(line, "Include", "Include is nested too deeply".to_owned());
        }
        for pattern in patterns {
            let path = match pattern.strip_prefix("~/") {
                Some(rest) if line.user_file => self.here.home.join(rest),
                Some(_) => {
                    let what = format!("Include {pattern}: ~ is for the user's own file only");
                    return self.complain(line, pattern, what);
                }
                None if pattern.starts_with('/') => PathBuf::from(pattern),
                None if line.user_file => self.here.home.join(".ssh").join(pattern),
                None => Path::new("/etc/ssh").join(pattern),
            };
            for file in glob(&path) {
                // What an included file opens ends with it.
                let mut inner = active;
                self.file(&file, true, false, line.user_file, line.never || !active, line.depth + 1, &mut inner);
            }
        }
        Some(())
    }

    fn option(
        &mut self,
        line: &Line<'_>,
        keyword: &'static Keyword,
        written: &str,
        rest: &str,
        words: &[String],
        active: bool,
    ) -> Option<()> {
        let name = keyword.name;
        if let Takes::Command = keyword.takes {
            // A jump host that was named first wins; `ProxyJump none` names none.
            let jump = self.resolved.value("proxyjump").is_some_and(|jump| !jump.eq_ignore_ascii_case("none"));
            if active && !jump {
                let raw = rest.trim_start_matches([' ', '\t', '=']);
                self.resolved.values.entry("proxycommand").or_insert_with(|| raw.to_owned());
            }
            return Some(());
        }
        let Some(word) = words.first().filter(|word| !word.is_empty()) else {
            return self.complain(line, written, format!("{written} needs a value"));
        };
        let many = matches!(keyword.takes, Takes::Many | Takes::Anything);
        if words.len() > 1 && !many {
            return self.complain(line, words.get(1).map_or("", String::as_str), format!("{written} takes one value"));
        }
        if let Err(expected) = keyword.check(word) {
            return self.complain(line, word, format!("{written} {word:?}: {expected}"));
        }
        if let Some(why) = keyword.refuses(word)
            && active
        {
            return self.complain(line, written, format!("{written} {word}: {why}"));
        }
        if let Some(note) = keyword.notes(word)
            && active
            && !self.resolved.notes.iter().any(|known| known == note)
        {
            self.resolved.notes.push(note.to_owned());
        }
        if !active {
            return Some(());
        }
        match keyword.takes {
            Takes::Each => {
                let list = self.resolved.lists.entry(name).or_default();
                if !list.contains(word) {
                    list.push(word.clone());
                }
            }
            Takes::Many => {
                if words.len() > 1 && words.iter().any(|word| word.eq_ignore_ascii_case("none")) {
                    return self.complain(line, "none", format!("{written}: none stands alone"));
                }
                self.resolved.lists.entry(name).or_insert_with(|| words.to_vec());
            }
            Takes::Jump => {
                if let Err(what) = hops(word) {
                    return self.complain(line, word, what);
                }
                if !["proxycommand", "proxyjump"].iter().any(|name| self.resolved.values.contains_key(name)) {
                    self.resolved.values.insert("proxyjump", word.clone());
                }
            }
            _ => {
                if name == "ignoreunknown" && self.ignored.is_empty() {
                    self.ignored.push(word.to_ascii_lowercase());
                }
                self.resolved.values.entry(name).or_insert_with(|| keyword.normal(word));
            }
        }
        Some(())
    }

    fn fill(&self, text: &str, host: &str, port: &str, user: &str) -> Result<String, String> {
        self.resolved.fill(text, self.asked, host, port, user, self.here, true)
    }
}

impl Resolved {
    /// The value of an option that takes one, by its name in lower case.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The values of an option that takes several, as written; empty when it was not set.
    pub fn list(&self, name: &str) -> &[String] {
        self.lists.get(name).map_or(&[], Vec::as_slice)
    }

    /// An option that is yes or no.
    pub fn yes(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value == "yes")
    }

    /// An option that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// A time in seconds; `None` when it is not set, or `none`.
    pub fn seconds(&self, name: &str) -> Option<u64> {
        words::seconds(self.value(name)?)
    }

    /// `Port`.
    pub fn port(&self) -> Option<u16> {
        self.value("port")?.parse().ok()
    }

    /// The hops of `ProxyJump`, the first to be reached first; empty for none.
    pub fn proxy_jump(&self) -> Vec<Hop> {
        self.value("proxyjump").map(|text| hops(text).unwrap_or_default()).unwrap_or_default()
    }

    /// Fills the tokens and variables into a path or command of this host. `port` and `user` are those that are used in the end.
    ///
    /// # Errors
    /// A sentence about a token or variable that there is not.
    #[expect(clippy::too_many_arguments, reason = "each is one token")]
    fn fill(
        &self,
        text: &str,
        asked: &str,
        host: &str,
        port: &str,
        user: &str,
        here: &Here,
        variables: bool,
    ) -> Result<String, String> {
        let jump = self.proxy_jump();
        let jump = jump.last().map_or("", |hop| hop.host.as_str());
        let alias = self.value("hostkeyalias").unwrap_or(asked);
        let short = here.machine.split('.').next().unwrap_or_default();
        let home = here.home.display().to_string();
        let uid = here.uid.to_string();
        let hashed = {
            use sha1::Digest as _;
            let text = format!("{}{host}{port}{user}{jump}", here.machine);
            sha1::Sha1::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let tokens: [(char, &str); 14] = [
            ('%', "%"),
            ('h', host),
            ('n', asked),
            ('p', port),
            ('r', user),
            ('u', &here.user),
            ('d', &home),
            ('i', &uid),
            ('l', &here.machine),
            ('L', short),
            ('k', alias),
            ('j', jump),
            ('C', &hashed),
            ('T', "NONE"),
        ];
        expand(text, &tokens, variables.then_some(here.env))
    }

    /// A path of this host: `~`, tokens and `${NAME}` filled in.
    ///
    /// # Errors
    /// As OpenSSH: a token or variable that there is not.
    pub fn path(&self, text: &str, asked: &str, port: u16, user: &str, here: &Here) -> Result<PathBuf, String> {
        let filled = self.fill(text, asked, &self.host_name, &port.to_string(), user, here, true)?;
        Ok(match filled.strip_prefix("~/") {
            Some(rest) => here.home.join(rest),
            None if filled == "~" => here.home.clone(),
            None if filled.starts_with('~') => return Err(format!("{filled}: another user's home is not looked up")),
            None => PathBuf::from(filled),
        })
    }

    /// The `ProxyCommand`, tokens filled in; `None` when there is none.
    ///
    /// # Errors
    /// A token that it may not have.
    pub fn proxy_command(&self, asked: &str, port: u16, user: &str) -> Result<Option<String>, String> {
        let Some(text) = self.value("proxycommand").filter(|text| !text.eq_ignore_ascii_case("none")) else {
            return Ok(None);
        };
        let port = port.to_string();
        let tokens = [('%', "%"), ('h', self.host_name.as_str()), ('n', asked), ('p', &port), ('r', user)];
        expand(text, &tokens, None).map(Some).map_err(|what| format!("ProxyCommand: {what}"))
    }
}

/// Fills in `%x` and, where they are allowed, `${NAME}`.
fn expand(text: &str, tokens: &[(char, &str)], env: Option<fn(&str) -> Option<String>>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => {
                let token = chars.next().ok_or_else(|| format!("{text}: ends with %"))?;
                let (_, value) = tokens
                    .iter()
                    .find(|(name, _)| *name == token)
                    .ok_or_else(|| format!("{text}: there is no token %{token} here"))?;
                out.push_str(value);
            }
            '$' if env.is_some() && chars.as_str().starts_with('{') => {
                let (name, rest) = chars
                    .as_str()
                    .get(1..)
                    .and_then(|rest| rest.split_once('}'))
                    .ok_or_else(|| format!("{text}: ${{ is not closed"))?;
                let value = env.and_then(|env| env(name));
                out.push_str(&value.ok_or_else(|| format!("{text}: the variable {name} is not set"))?);
                chars = rest.chars();
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Reads `[user@]host[:port]` or `ssh://[user@]host[:port]`, several with commas.
///
/// # Errors
/// A sentence about the hop that is none.
pub fn hops(text: &str) -> Result<Vec<Hop>, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    text.split(',').map(hop).collect()
}

fn hop(text: &str) -> Result<Hop, String> {
    let wrong = || format!("{text:?} is no jump host: [user@]host[:port] expected");
    let uri = text.strip_prefix("ssh://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let (user, rest) = match uri.unwrap_or(text).rsplit_once('@') {
        Some(("", _)) => return Err(wrong()),
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, uri.unwrap_or(text)),
    };
    let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']').ok_or_else(wrong)?;
        (host, after.strip_prefix(':').or(after.is_empty().then_some("")).ok_or_else(wrong)?)
    } else if rest.matches(':').count() > 1 {
        // A bare IPv6 address has no port.
        (rest, "")
    } else {
        rest.split_once(':').unwrap_or((rest, ""))
    };
    let port = match port {
        "" if rest.ends_with(':') => return Err(wrong()),
        "" => None,
        port => Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?),
    };
    if host.is_empty() || host.starts_with('-') || host.contains(char::is_whitespace) {
        return Err(wrong());
    }
    Ok(Hop { user, host: host.to_owned(), port })
}

/// Runs a command of `Match exec` in the operator's shell, as ssh does: true when it ends with 0.
fn runs(command: &str, here: &Here) -> Result<bool, String> {
    let shell = (here.env)("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".to_owned());
    // What the operator named as a place of a secret is not for commands of a configuration file: only what they need.
    let mut child = Command::new(&shell);
    child.arg("-c").arg(command).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    for name in ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "SSH_AUTH_SOCK", "TERM"] {
        if let Some(value) = (here.env)(name) {
            child.env(name, value);
        }
    }
    child.status().map(|status| status.success()).map_err(|error| format!("Match exec: {shell}: {error}"))
}

/// The files that fit a path with patterns in any part, in order of their names; as the shell, names that begin with
/// a dot need one in the pattern.
fn glob(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.components().skip(1) {
        let part = part.as_os_str().to_string_lossy().into_owned();
        let mut next = Vec::new();
        for folder in found {
            if !part.contains(['*', '?']) {
                next.push(folder.join(&part));
                continue;
            }
            let mut names: Vec<String> = std::fs::read_dir(&folder)
                .map(|entries| {
                    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
                })
                .unwrap_or_default();
            names.retain(|name| words::fits(name, &part) && (part.starts_with('.') || !name.starts_with('.')));
            names.sort_unstable();
            next.extend(names.into_iter().map(|name| folder.join(name)));
        }
        found = next;
    }
    found.retain(|path| path.exists());
    found
}
