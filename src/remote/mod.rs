//! A conversation with one host.
//!
//! What lives here: [`Session`], the kinds of it that we own (SSH, this machine, a scripted fake),
//! commands as values, sudo. russh is in `ssh/` and nowhere else. What does not: what is said in
//! the conversation (the crafts know that).
//!
//! A dropped child is not a killed child: a lost connection says nothing about what the host does
//! on. Whoever needs to know asks again.

pub mod command;
pub mod fake;
pub mod local;
pub mod reach;
pub mod shell;
pub mod ssh;
pub mod sudo;

use std::time::Duration;

use bytes::Bytes;

pub use command::{Command, quote};

use crate::failure::{Failure, Kind};

/// A conversation with one host: an authenticated connection on which commands are run. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Session {
    /// Over SSH.
    Ssh(ssh::SshSession),
    /// This machine (`ansible_connection: local`).
    Local(local::LocalSession),
    /// A host that says what its script says: for tests.
    Fake(fake::FakeSession),
}

/// How to get a conversation with a host, again and again: connections are lost and made anew.
#[derive(Clone, Debug)]
pub enum Way {
    /// Over SSH.
    Ssh(Box<ssh::connect::Target>),
    /// This machine.
    Local(local::LocalSession),
    /// Scripted.
    Fake(fake::FakeSession),
}

impl Way {
    /// What is wrong in the files (keys, known_hosts) that this way needs, before any host is touched.
    /// May ask for passphrases.
    pub fn wrong(&self) -> Vec<Failure> {
        match self {
            Self::Ssh(target) => target.wrong(),
            Self::Local(_) | Self::Fake(_) => Vec::new(),
        }
    }

    /// What makes this way less safe than it should be, each a sentence; empty where nothing does. Nothing that moves
    /// archives goes by such a way.
    pub fn careless(&self) -> Vec<String> {
        match self {
            Self::Ssh(target) => target.careless(),
            Self::Local(_) | Self::Fake(_) => Vec::new(),
        }
    }

    /// Meets hosts whose keys nobody recorded and asks about them, before anything else is done.
    ///
    /// # Errors
    /// As [`ssh::connect::introduce`].
    pub async fn introduce(&self, ask: ssh::connect::Decide<'_>) -> Result<(), Failure> {
        match self {
            Self::Ssh(target) => ssh::connect::introduce(target, ask).await,
            Self::Local(_) | Self::Fake(_) => Ok(()),
        }
    }

    /// Makes a new conversation.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] with the chain of steps and the one that failed.
    pub async fn connect(&self, lane: ssh::connect::Lane) -> Result<Session, Failure> {
        match self {
            Self::Ssh(target) => ssh::connect::connect(target, lane).await.map(Session::Ssh),
            Self::Local(session) => Ok(Session::Local(session.clone())),
            Self::Fake(session) => Ok(Session::Fake(session.clone())),
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It ended with this code.
    Code(i32),
    /// A signal ended it (`TERM`, `KILL`, …).
    Signal(String),
    /// The connection ended before an exit status was seen: what became of the command is not
    /// known. The text says how the connection ended.
    Lost(String),
}

impl Exit {
    /// True only for code 0.
    pub fn ok(&self) -> bool {
        *self == Self::Code(0)
    }

    /// The same end as a shell tells of it: a command that signal 9 ended has the code 137. A signal without a
    /// number that all systems share stays one.
    #[must_use]
    pub fn as_a_shell_says(self) -> Self {
        let Self::Signal(name) = &self else { return self };
        let number = match name.as_str() {
            "HUP" => 1,
            "INT" => 2,
            "QUIT" => 3,
            "ILL" => 4,
            "ABRT" => 6,
            "FPE" => 8,
            "KILL" => 9,
            "SEGV" => 11,
            "PIPE" => 13,
            "ALRM" => 14,
            "TERM" => 15,
            _ => return self,
        };
        Self::Code(128 + number)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(name) => write!(f, "killed by signal {name}"),
            Self::Lost(why) => write!(f, "connection lost before an exit status was seen ({why})"),
        }
    }
}

/// A piece of a command's output, as it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Standard output.
    Out(Bytes),
    /// Standard error.
    Err(Bytes),
}

/// What a short command said.
#[derive(Debug, Clone)]
pub struct Said {
    /// How it ended.
    pub exit: Exit,
    /// Standard output, at most the limit that was given.
    pub out: Vec<u8>,
    /// Standard error, at most the limit that was given.
    pub err: Vec<u8>,
    /// True when more was said than was kept.
    pub cut: bool,
}

impl Said {
    /// Standard output as text, ends trimmed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).trim().to_owned()
    }
    /// Standard error as text, ends trimmed.
    pub fn err_text(&self) -> String {
        String::from_utf8_lossy(&self.err).trim().to_owned()
    }
}

/// A running command. Dropping it closes our end; it does not kill the command.
#[derive(Debug)]
pub enum Child {
    /// Over SSH.
    Ssh(ssh::SshChild),
    /// A process of this machine.
    Local(local::LocalChild),
    /// Scripted.
    Fake(fake::FakeChild),
    /// A script in a shell that stays open.
    Shell(Box<shell::Task>),
}

impl Child {
    /// The next piece of output. `None` when both streams have ended; then ask [`Child::exit`].
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Piece> {
        match self {
            Self::Ssh(child) => child.next().await,
            Self::Local(child) => child.next().await,
            Self::Fake(child) => child.next().await,
            Self::Shell(task) => task.next().await,
        }
    }

    /// Writes to standard input, waiting for the other side to take it. Output that arrives
    /// meanwhile is kept for [`Child::next`], so a command that talks before it listens cannot
    /// block us. Ends with an error when the connection dies: a write never waits for a dead peer.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] when the connection or the command's input has ended.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Ssh(child) => child.write(bytes).await,
            Self::Local(child) => child.write(bytes).await,
            Self::Fake(child) => child.write(bytes).await,
            Self::Shell(_) => Err(Failure::new(Kind::Bug, "a script in a shared shell has no input")),
        }
    }

    /// As [`Child::write`], without a copy where the wire takes the bytes as they are.
    ///
    /// # Errors
    /// As [`Child::write`].
    pub(crate) async fn write_bytes(&mut self, bytes: Bytes) -> Result<(), Failure> {
        match self {
            Self::Ssh(child) => child.write_bytes(bytes).await,
            other => other.write(&bytes).await,
        }
    }

    /// Whether both outputs come as one, since the command runs on a terminal of the host's.
    fn has_terminal(&self) -> bool {
        matches!(self, Self::Ssh(child) if child.terminal)
    }

    /// Gives a piece back: it is the next that is heard. Empty pieces are nothing.
    pub(crate) fn unread(&mut self, piece: Piece) {
        match (self, &piece) {
            (_, Piece::Out(bytes) | Piece::Err(bytes)) if bytes.is_empty() => {}
            (Self::Ssh(child), _) => child.unread(piece),
            (Self::Local(child), _) => child.unread(piece),
            (Self::Fake(child), _) => child.unread(piece),
            // Nothing is read ahead from it.
            (Self::Shell(_), _) => {}
        }
    }

    /// Closes standard input.
    pub async fn close_input(&mut self) {
        match self {
            Self::Ssh(child) => child.close_input().await,
            Self::Local(child) => child.close_input().await,
            Self::Fake(child) => child.close_input().await,
            Self::Shell(_) => {}
        }
    }

    /// Reads all output that is left away and says how the command ended.
    pub async fn exit(&mut self) -> Exit {
        while self.next().await.is_some() {}
        match self {
            Self::Ssh(child) => child.exit_seen(),
            Self::Local(child) => child.exit_seen().await,
            Self::Fake(child) => child.exit_seen(),
            Self::Shell(task) => task.exit_seen(),
        }
    }
}

/// What a short command may say before the rest is thrown away, in bytes.
pub const SHORT: usize = 4 << 20;

impl Session {
    /// The least that a question and its answer took at this host so far, where that was seen: the way there and back, and
    /// what the server itself takes.
    pub fn round_trip(&self) -> Option<Duration> {
        match self {
            Self::Ssh(session) => session.round_trip(),
            Self::Local(_) | Self::Fake(_) => None,
        }
    }

    /// Starts a command through the login shell of the user that we are there, without sudo.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] when the connection is gone.
    pub async fn open(&self, command: &Command) -> Result<Child, Failure> {
        match self {
            Self::Ssh(session) => session.open(command, false).await.map(Child::Ssh),
            Self::Local(session) => session.open(command).await.map(Child::Local),
            Self::Fake(session) => session.open(command).await.map(Child::Fake),
        }
    }

    /// As [`Session::open`], with a terminal of the host's; `None` where there is none to have.
    async fn open_with_terminal(&self, command: &Command) -> Result<Option<Child>, Failure> {
        match self {
            Self::Ssh(session) => session.open(command, true).await.map(|child| Some(Child::Ssh(child))),
            Self::Local(_) | Self::Fake(_) => Ok(None),
        }
    }

    /// A name for messages: the inventory's name of the host.
    pub fn host(&self) -> &str {
        match self {
            Self::Ssh(session) => session.host(),
            Self::Local(session) => session.host(),
            Self::Fake(session) => session.host(),
        }
    }

    /// The same conversation, with `way`'s word on who to become.
    #[must_use]
    pub fn becoming(&self, way: &Way) -> Self {
        match (self, way) {
            (Self::Ssh(session), Way::Ssh(target)) => Self::Ssh(session.becoming(&target.become_plan)),
            (Self::Local(_), Way::Local(session)) => Self::Local(session.clone()),
            _ => self.clone(),
        }
    }

    /// Who we become there, and how.
    pub fn become_plan(&self) -> &sudo::Become {
        match self {
            Self::Ssh(session) => session.become_plan(),
            Self::Local(session) => session.become_plan(),
            Self::Fake(session) => session.become_plan(),
        }
    }

    /// Starts `script` in a `sh` that runs as the become user (root, unless told otherwise); as
    /// ourselves where become is off. The script goes over standard input, so it never is in argv.
    /// It is read to its last byte before anything of it runs: a cut script runs nothing.
    /// The child's input stays open behind the script for whatever the script reads.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] when the connection is gone; [`Kind::Refused`] or [`Kind::Failed`]
    /// with one of [`sudo::Denied`]'s sentences when sudo says no.
    pub async fn open_root(&self, script: &str) -> Result<Child, Failure> {
        sudo::open_root(self, script).await
    }

    /// Runs a short command as ourselves and gathers what it says (at most [`SHORT`] bytes of each stream).
    ///
    /// # Errors
    /// As [`Session::open`], and [`Kind::Unreachable`] when it takes longer than `patience`.
    pub async fn run(&self, command: &Command, patience: Duration) -> Result<Said, Failure> {
        let child = self.open(command).await?;
        gather(self.host(), child, patience).await
    }

    /// Runs a short script as root (see [`Session::open_root`]) and gathers what it says.
    ///
    /// # Errors
    /// As [`Session::open_root`], and [`Kind::Unreachable`] when it takes longer than `patience`.
    pub async fn run_root(&self, script: &str, patience: Duration) -> Result<Said, Failure> {
        let work = async {
            let child = self.open_root(script).await?;
            gather(self.host(), child, patience).await
        };
        match tokio::time::timeout(patience + Duration::from_secs(60), work).await {
            Ok(said) => said,
            Err(_) => Err(too_long(self.host(), patience)),
        }
    }

    /// Whether this is the same conversation as `other`, not only one with the same host.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ssh(this), Self::Ssh(other)) => this.same(other),
            (Self::Local(_), Self::Local(_)) => self.host() == other.host(),
            _ => false,
        }
    }

    /// Ends the connection politely. What was started on the host goes on.
    pub async fn close(&self) {
        if let Self::Ssh(session) = self {
            session.close().await;
        }
    }
}

fn too_long(host: &str, patience: Duration) -> Failure {
    Failure::new(Kind::Unreachable, format!("no answer within {} s", patience.as_secs())).on(host).again()
}

async fn gather(host: &str, mut child: Child, patience: Duration) -> Result<Said, Failure> {
    let mut said = Said { exit: Exit::Lost("not read".to_owned()), out: Vec::new(), err: Vec::new(), cut: false };
    let work = async {
        child.close_input().await;
        while let Some(piece) = child.next().await {
            let (kept, bytes) = match &piece {
                Piece::Out(bytes) => (&mut said.out, bytes),
                Piece::Err(bytes) => (&mut said.err, bytes),
            };
            let room = SHORT.saturating_sub(kept.len()).min(bytes.len());
            said.cut |= room < bytes.len();
            kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        said.exit = child.exit().await;
    };
    tokio::time::timeout(patience, work).await.map_err(|_| too_long(host, patience))?;
    Ok(said)
}
