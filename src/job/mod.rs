//! Long work on a node that outlives our connection: launch it, find it again, follow it, collect
//! its result, clean up after it; and the watch over a cluster while we work on it.
//!
//! What lives here: the job protocol (a folder per job, a supervisor in POSIX sh that alone writes
//! the result, states that never guess) and [`watch`]. What does not: what a job does (gravity
//! writes the script), and what its end means (gravity, modules).
//!
//! How it holds. The id is chosen here before anything is sent, and a start is idempotent by id, so every unclear
//! answer is solved by starting again. Who runs the command is decided on the node by one
//! `link(2)`, which happens once. The result is written into blocks that were taken before the
//! command began, so that a full disk cannot lose it. A dropped connection says nothing about a job:
//! only the node's answer does.
//!
//! What it cannot do. Power lost between the command's end and the disk: *lost: reboot*, never a
//! wrong code. A killed supervisor: the code is lost, what it started goes on as an *orphan*. A
//! process that closes the lock it inherited (sudo inside the script, a daemon), or a pod, is not seen.

mod frame;
pub mod watch;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, JobId};
use crate::remote::{Exit, Piece, Said, Session, quote, sudo};
use crate::secret::clean;
use frame::{Frame, Frames, garbled};

pub use watch::{Busy, NotTaken, Owner, Watch};

const NODE: &str = include_str!("node.sh");
const CONTROL: &str = include_str!("job.sh");
const SUPERVISOR: &str = include_str!("sup.sh");

/// Where jobs are kept on a node unless `ferry_node_dir` says otherwise.
pub const BASE: &str = "/var/lib/ferry";

/// The largest `meta` of a job, in bytes of JSON.
const META: usize = 60 << 10;

/// How we deal with a node: places and times. The defaults are right for production; tests change them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    /// The shell that runs supervisor and job.
    pub shell: String,
    /// The file whose content changes with every boot.
    pub boot_id: String,
    /// The folder that is there when systemd runs the node.
    pub systemd: String,
    /// False: do as if the node had no flock(1).
    pub flock: bool,
    /// How often a followed job that says nothing is heard of, in whole seconds.
    pub heart: Duration,
    /// How long a link may be silent until it counts as dead; more than two [`Manner::heart`]s.
    pub silence: Duration,
    /// How often the node looks for new output.
    pub poll: Duration,
    /// How long a start waits for the supervisor to claim the job, in whole seconds.
    pub start: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            shell: "/bin/sh".to_owned(),
            boot_id: "/proc/sys/kernel/random/boot_id".to_owned(),
            systemd: "/run/systemd/system".to_owned(),
            flock: true,
            heart: Duration::from_secs(10),
            silence: Duration::from_secs(45),
            poll: Duration::from_millis(500),
            start: Duration::from_secs(10),
        }
    }
}

/// The jobs on one node.
#[derive(Debug, Clone)]
pub struct Jobs {
    /// The conversation with the node.
    pub session: Session,
    /// The folder for jobs there (`ferry_node_dir`): absolute, ours alone, on a local disk.
    pub base: String,
    /// Places and times.
    pub manner: Manner,
}

/// A job to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Chosen here, and in our journal, before the start.
    pub id: JobId,
    /// What it is, such as `gravity-backup`: lower-case letters, digits, dashes. Two jobs of one
    /// kind for one cluster never run at once on a node.
    pub kind: String,
    /// The cluster it works on.
    pub cluster: ClusterName,
    /// The `sh` text that it runs, as root, in `/`, with a clean environment and no input. No secrets: it lies on the node's disk.
    pub script: String,
    /// Kept beside the job and read back by [`Jobs::list`]: who, since, run, point, paths. No secrets.
    pub meta: serde_json::Value,
    /// The umask of the script; the protocol's own files are always 0600.
    pub umask: u32,
    /// True: when the supervisor dies, what it started goes on even under systemd (half a restore is worse than a long one).
    pub restore_like: bool,
    /// What the script reads from its standard input.
    pub input: Input,
}

/// What a job's script has for its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// `/dev/null`.
    #[default]
    Nothing,
    /// A FIFO in the job's folder that never ends: a question waits until [`Jobs::answer`] writes into it.
    Fifo,
    /// The same, seen through a terminal of its own (`script` of util-linux): bash's `read -p` shows
    /// its prompt only there. The output has CR LF then, and echoes the answers.
    Terminal,
}

impl Input {
    fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Fifo => "fifo",
            Self::Terminal => "terminal",
        }
    }
}

/// What became of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// It was written into the job's input by this call.
    Now,
    /// This number was answered before, with this text, which is written: nothing was written again.
    Before(String),
    /// This number was claimed before, with this text, and whoever claimed it ended (kill -9) within the
    /// few milliseconds of writing: it was written once or not at all, and is never written again.
    /// The job's output tells which; if the question still stands, it takes the next number.
    Unknown(String),
}

/// Whether an answer has been written into a job's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// Yes, once.
    Yes,
    /// Not yet: the connection was lost before. Answering the same number again writes this text.
    No,
    /// As [`Answered::Unknown`].
    Unknown,
}

/// An answer as [`Jobs::answers`] finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its number.
    pub seq: u32,
    /// The text, without a line feed.
    pub text: String,
    /// Whether it was written.
    pub written: Written,
}

/// The longest answer, in bytes.
pub const ANSWER: usize = 1 << 10;

/// How a job was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// The node has started anew since the job began.
    Reboot,
    /// Supervisor and job are gone and left no result.
    Died,
}

/// What is known of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The node knows no such job.
    Absent,
    /// It is written down there and its command never ran. Starting it is safe.
    NotStarted,
    /// A supervisor is about to begin.
    Starting,
    /// It runs.
    Running {
        /// When it began, in seconds since the node's boot.
        since_up: u64,
    },
    /// Its supervisor is dead, and something that it started still runs. Its exit code will not be known.
    Orphan,
    /// It ended.
    Done {
        /// The exit code; 128 and the signal's number when a signal ended it.
        rc: i32,
    },
    /// It ran, it is gone, and how it ended is not known. Never to be repeated by itself.
    Lost(Lost),
}

impl State {
    /// True when nothing of it can change any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Lost(_))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("not there"),
            Self::NotStarted => f.write_str("not started"),
            Self::Starting => f.write_str("starting"),
            Self::Running { .. } => f.write_str("running"),
            Self::Orphan => f.write_str("running without its supervisor"),
            Self::Done { rc } => write!(f, "done, exit code {rc}"),
            Self::Lost(Lost::Reboot) => f.write_str("lost: the node has restarted"),
            Self::Lost(Lost::Died) => f.write_str("lost: it died and left no result"),
        }
    }
}

/// A state, and how well it could be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The state.
    pub state: State,
    /// False: the node has no flock(1), so only the supervisor is seen by its process number and start
    /// time. What it left behind is not: a job called lost may still have a process that works.
    pub descendants_seen: bool,
    /// What a supervisor that did not begin said about it; empty else.
    pub why: String,
}

/// A job as [`Jobs::list`] finds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its id.
    pub id: JobId,
    /// Its state.
    pub state: State,
    /// As in [`Look`].
    pub descendants_seen: bool,
    /// [`Spec::kind`]; empty when `meta` cannot be read.
    pub kind: String,
    /// [`Spec::cluster`]; `None` when `meta` cannot be read.
    pub cluster: Option<ClusterName>,
    /// [`Spec::meta`]; null when it cannot be read.
    pub meta: serde_json::Value,
    /// The digest of [`Spec::script`].
    pub spec_sha256: Option<Sha256>,
    /// When its command began, in seconds since 1970 by the node's clock; `None` when it did not.
    pub started: Option<u64>,
    /// How much output there is, in bytes.
    pub out_bytes: u64,
}

/// What [`Jobs::follow`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow<'a> {
    /// The next bytes of output, standard output and error in the order they were written.
    Bytes(&'a [u8]),
    /// A sign of life, with the state and the offset up to which bytes were told.
    Heart {
        /// The state.
        state: State,
        /// Bytes told up to here.
        offset: u64,
        /// Whether some process of the job waits for input: blocked in reading the job's FIFO or a
        /// terminal. True also for a command that reads without having asked (`cat`). Told at once when
        /// it changes, after the bytes that were written before. `None`: a job without input, one that
        /// does not run, or a node where it cannot be told.
        waits: Option<bool>,
    },
}

#[derive(Serialize, Deserialize)]
struct Meta {
    kind: String,
    cluster: ClusterName,
    meta: serde_json::Value,
}

/// How long a short question may take in all: sudo, a slow disk's sync.
const PATIENCE: Duration = Duration::from_secs(60);

impl Jobs {
    /// The jobs on this node, in the usual place.
    pub fn new(session: Session) -> Self {
        Self { session, base: BASE.to_owned(), manner: Manner::default() }
    }

    /// The jobs on this node, in another place.
    #[must_use]
    pub fn at(mut self, base: impl Into<String>) -> Self {
        self.base = base.into();
        self
    }

    /// Starts the job, or finds it when it was started before: the same id never runs twice, so an
    /// unclear answer is solved by calling this again. Waits up to [`Manner::start`] for it to begin.
    ///
    /// # Errors
    /// [`Kind::Refused`]: the base folder is not ours alone, the id belongs to another script, a job of
    /// this kind runs for the cluster. [`Kind::Failed`]: no room, no /proc. [`Kind::Unreachable`] and [`Kind::Unknown`]: ask again.
    pub async fn start(&self, spec: &Spec) -> Result<State, Failure> {
        let nonce = nonce();
        let script = self.start_script(spec, &nonce)?;
        let look = look(&self.ask(&script, &nonce, PATIENCE + self.manner.start).await?)?;
        if look.state == State::NotStarted && !look.why.is_empty() {
            return Err(self.not_begun(spec, &look.why));
        }
        Ok(look.state)
    }

    /// The whole text that [`Jobs::start`] sends. Public so that tests can cut it anywhere and see that
    /// a part of it runs nothing.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when the spec or the base folder cannot be used.
    pub fn start_script(&self, spec: &Spec, nonce: &str) -> Result<String, Failure> {
        let wrong = |what: &str, seen: &str| Failure::new(Kind::CouldNotStart, what.to_owned()).saw(seen.to_owned());
        let kind_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if spec.kind.is_empty() || spec.kind.len() > 40 || !spec.kind.chars().all(kind_ok) {
            return Err(wrong("the kind of a job is lower-case letters, digits and dashes", &spec.kind));
        }
        if spec.umask > 0o777 {
            return Err(wrong("a umask is three octal digits", &format!("{:o}", spec.umask)));
        }
        let meta = Meta { kind: spec.kind.clone(), cluster: spec.cluster.clone(), meta: spec.meta.clone() };
        let meta = serde_json::to_string(&meta).map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
        if meta.len() > META {
            return Err(wrong("what is kept beside a job is 60 KiB at most", &format!("{} bytes", meta.len())));
        }
        let lock = format!("{}/locks/{}.{}.job.lock", self.base()?, file_key(&spec.cluster), spec.kind);
        self.script(
            nonce,
            "start",
            &spec.id,
            &[
                ("j_sup", SUPERVISOR),
                ("j_spec", &spec.script),
                ("j_sha", &Sha256::of(spec.script.as_bytes()).to_string()),
                ("j_meta", &meta),
                ("j_umask", &format!("{:03o}", spec.umask)),
                ("j_kill", if spec.restore_like { "process" } else { "control-group" }),
                ("j_lock", &lock),
                ("j_input", spec.input.word()),
            ],
        )
    }

    /// The job's state.
    ///
    /// # Errors
    /// As [`Jobs::start`].
    pub async fn state(&self, id: &JobId) -> Result<State, Failure> {
        Ok(self.look(id).await?.state)
    }

    /// The job's state, and how well it could be seen.
    ///
    /// # Errors
    /// As [`Jobs::start`].
    pub async fn look(&self, id: &JobId) -> Result<Look, Failure> {
        let nonce = nonce();
        let script = self.script(&nonce, "state", id, &[])?;
        look(&self.ask(&script, &nonce, PATIENCE).await?)
    }

    /// Tells the job's output from byte `offset` on, as it comes, and returns the state when it is
    /// final and all bytes were told; also when the job is absent or was not started, where nothing will come.
    ///
    /// # Errors
    /// [`Kind::Unreachable`], to be tried again, when the link is lost or silent for
    /// [`Manner::silence`]: connect anew and follow from where the bytes ended. [`Kind::Bad`] when the output is
    /// shorter than `offset`. [`Kind::Unknown`] when the answer is garbled; what was told before is right.
    pub async fn follow(&self, id: &JobId, offset: u64, mut on: impl FnMut(Follow<'_>)) -> Result<State, Failure> {
        let host = self.session.host();
        let nonce = nonce();
        let script = self.script(&nonce, "follow", id, &[("j_offset", &offset.to_string())])?;
        let silence = self.manner.silence;
        let quiet = || {
            Failure::new(Kind::Unreachable, format!("nothing was heard from the job for {} s", silence.as_secs()))
                .on(host)
                .why("the job goes on without us")
                .again()
        };
        let mut child = tokio::time::timeout(silence.max(PATIENCE), self.session.open_root(&script))
            .await
            .map_err(|_| quiet())??;
        let mut frames = Frames::new(&nonce);
        let mut offset = offset;
        let mut pending: Option<Vec<u8>> = None;
        let mut complaint = Vec::new();
        // The script says nothing on standard error: a node that talks only there is not heard.
        let mut heard = tokio::time::Instant::now();
        loop {
            let bytes = match tokio::time::timeout_at(heard + silence, child.next()).await {
                Err(_) => return Err(quiet()),
                Ok(None) => {
                    let exit = child.exit().await;
                    return Err(broken_off(host, &exit, &complaint));
                }
                Ok(Some(Piece::Err(bytes))) => {
                    if complaint.len() < 2048 {
                        complaint.extend_from_slice(bytes.get(..bytes.len().min(2048)).unwrap_or_default());
                    }
                    continue;
                }
                Ok(Some(Piece::Out(bytes))) => bytes,
            };
            frames.feed(&bytes);
            while let Some(frame) = frames.next().map_err(|failure| failure.on(host))? {
                match (frame.word(0), pending.take()) {
                    // Told only when the line behind the piece stands where it must: so a file that
                    // was cut under our hands is seen before its bytes are believed.
                    ("D", None) if frame.number(1)? == offset => pending = Some(frame.body),
                    ("d", Some(body)) if frame.number(1)? == offset + body.len() as u64 => {
                        offset += body.len() as u64;
                        on(Follow::Bytes(&body));
                    }
                    ("H", None) if frame.number(4)? == offset => {
                        let waits = match frame.word(5) {
                            "yes" => Some(true),
                            "no" => Some(false),
                            "-" => None,
                            other => return Err(garbled(&format!("{other:?} for waiting")).on(host)),
                        };
                        on(Follow::Heart { state: state(frame.word(1), frame.word(2))?, offset, waits });
                    }
                    ("state", None) => return Ok(look(std::slice::from_ref(&frame))?.state),
                    ("no", None) => return Err(self.refusal(&frame)),
                    _ => return Err(garbled(&format!("{:?} at offset {offset}", frame.word(0))).on(host)),
                }
            }
            heard = tokio::time::Instant::now();
        }
    }

    /// Writes `line` and a line feed into the job's input, exactly once per number: which text it is, and who
    /// writes it, is decided on the node by a link(2) each. A number that was answered before is never
    /// written again, also when the text is another. After a lost connection calling this again is safe.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`]: longer than [`ANSWER`] or with control characters. [`Kind::Refused`]: the job does
    /// not run, takes no input, or was given 32 KiB of answers. [`Kind::Unreachable`] and [`Kind::Unknown`]: call again.
    pub async fn answer(&self, id: &JobId, seq: u32, line: &str) -> Result<Answered, Failure> {
        if line.len() > ANSWER || line.chars().any(char::is_control) {
            return Err(Failure::new(Kind::CouldNotStart, "this answer cannot be given to a job")
                .saw(format!("{} bytes", line.len()))
                .why("an answer is one line of 1024 bytes at most, without control characters"));
        }
        let nonce = nonce();
        let script = self.script(&nonce, "answer", id, &[("j_seq", &seq.to_string()), ("j_text", line)])?;
        let frames = self.ask(&script, &nonce, PATIENCE).await?;
        let [frame] = frames.as_slice() else {
            return Err(garbled(&format!("{} frames instead of an answer", frames.len())));
        };
        match (frame.word(0), frame.word(1)) {
            ("answer", "now") => Ok(Answered::Now),
            ("answer", "before") => Ok(Answered::Before(given_text(frame))),
            ("answer", "unknown") => Ok(Answered::Unknown(given_text(frame))),
            (what, how) => Err(garbled(&format!("{what} {how}"))),
        }
    }

    /// What the job was answered, by number.
    ///
    /// # Errors
    /// [`Kind::Refused`] when there is no such job. Else as [`Jobs::start`].
    pub async fn answers(&self, id: &JobId) -> Result<Vec<Given>, Failure> {
        let nonce = nonce();
        let script = self.script(&nonce, "answers", id, &[])?;
        let frames = self.ask(&script, &nonce, PATIENCE).await?;
        let mut all = frames.iter().map(given).collect::<Result<Vec<Given>, Failure>>()?;
        all.sort_by_key(|given| given.seq);
        Ok(all)
    }

    /// Whether the node can give a job a terminal ([`Input::Terminal`]): it has `script` of util-linux.
    ///
    /// # Errors
    /// As [`Jobs::start`].
    pub async fn has_terminal(&self) -> Result<bool, Failure> {
        let nonce = nonce();
        let script = self.compose(&nonce, &[("j_verb", "terminal")])?;
        let frames = self.ask(&script, &nonce, PATIENCE).await?;
        match frames.as_slice() {
            [frame] if frame.word(0) == "terminal" && frame.word(1) == "yes" => Ok(true),
            [frame] if frame.word(0) == "terminal" && frame.word(1) == "no" => Ok(false),
            other => Err(garbled(&format!("{} frames instead of yes or no", other.len()))),
        }
    }

    /// All jobs on the node.
    ///
    /// # Errors
    /// As [`Jobs::start`].
    pub async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let nonce = nonce();
        let script = self.compose(&nonce, &[("j_verb", "list")])?;
        let frames = self.ask(&script, &nonce, PATIENCE * 2).await?;
        frames.iter().map(listed).collect()
    }

    /// Ends the job: TERM to everything that it started, KILL after `kill_after`. The supervisor is spared, it
    /// writes down the code (143, 137). A job that was not started is claimed so that it never will be
    /// (code 143). What the job started elsewhere (pods) goes on.
    ///
    /// # Errors
    /// [`Kind::Refused`] for an orphan: without its supervisor nothing proves which processes are its. Else as [`Jobs::start`].
    pub async fn cancel(&self, id: &JobId, kill_after: Duration) -> Result<State, Failure> {
        let nonce = nonce();
        let after = kill_after.as_secs().max(1);
        let script = self.script(&nonce, "cancel", id, &[("j_after", &after.to_string())])?;
        let patience = PATIENCE * 2 + kill_after + self.manner.start;
        Ok(look(&self.ask(&script, &nonce, patience).await?)?.state)
    }

    /// Removes the job's files after its output was collected. `log_sha256` is the digest of the output as we
    /// have it; the node compares it with its own where it has a tool for that. Removed are the
    /// protocol's own files by name and the job's folder; when anything else lies in it, nothing is removed.
    /// A job that is gone already is no error. Its id is free again then: whoever cleans has noted the job's end.
    ///
    /// # Errors
    /// [`Kind::Refused`]: the state is not final, the digest differs, a file in the folder is not ours. Else as [`Jobs::start`].
    pub async fn clean(&self, id: &JobId, log_sha256: Sha256) -> Result<(), Failure> {
        let nonce = nonce();
        let script = self.script(&nonce, "clean", id, &[("j_sha", &log_sha256.to_string())])?;
        let look = look(&self.ask(&script, &nonce, PATIENCE * 10).await?)?;
        match look.state {
            State::Absent => Ok(()),
            other => Err(garbled(&format!("{other} after cleaning")).on(self.session.host())),
        }
    }

    /// The digest and the length in bytes of the job's output so far; no digest where the node has no tool for it.
    ///
    /// # Errors
    /// [`Kind::Refused`] when there is no such job. Else as [`Jobs::start`].
    pub async fn log_sha256(&self, id: &JobId) -> Result<(Option<Sha256>, u64), Failure> {
        let nonce = nonce();
        let script = self.script(&nonce, "digest", id, &[])?;
        let frames = self.ask(&script, &nonce, PATIENCE * 10).await?;
        match frames.as_slice() {
            [frame] if frame.word(0) == "digest" => Ok((digest(frame.word(1))?, frame.number(2)?)),
            other => Err(garbled(&format!("{} frames instead of a digest", other.len()))),
        }
    }

    fn base(&self) -> Result<&str, Failure> {
        base_of(&self.base)
    }

    fn script(&self, nonce: &str, verb: &str, id: &JobId, more: &[(&str, &str)]) -> Result<String, Failure> {
        let mut values = vec![("j_verb", verb), ("j_id", id.as_str())];
        values.extend(more);
        self.compose(nonce, &values)
    }

    fn compose(&self, nonce: &str, values: &[(&str, &str)]) -> Result<String, Failure> {
        let manner = &self.manner;
        let poll = format!("{}.{:03}", manner.poll.as_secs(), manner.poll.subsec_millis());
        let (heart, wait) = (manner.heart.as_secs().max(1).to_string(), manner.start.as_secs().max(1).to_string());
        let mut all = vec![
            ("j_systemd", manner.systemd.as_str()),
            ("j_poll", poll.as_str()),
            ("j_beat", heart.as_str()),
            ("j_wait", wait.as_str()),
        ];
        all.extend(values);
        compose(manner, nonce, self.base()?, &all, CONTROL, "j_main")
    }

    async fn ask(&self, script: &str, nonce: &str, patience: Duration) -> Result<Vec<Frame>, Failure> {
        let said = self.session.run_root(script, patience).await?;
        let frames = answer(self.session.host(), &said, nonce)?;
        match frames.iter().find(|frame| frame.word(0) == "no") {
            Some(frame) => Err(self.refusal(frame)),
            None => Ok(frames),
        }
    }

    fn refusal(&self, frame: &Frame) -> Failure {
        refusal(self.session.host(), &self.base, frame)
    }

    fn not_begun(&self, spec: &Spec, why: &str) -> Failure {
        let host = self.session.host();
        let first = why.split_whitespace().next().unwrap_or_default();
        match first {
            "busy" => Failure::new(Kind::Refused, format!("another {} job of this cluster runs there", spec.kind))
                .on(host)
                .saw(clean(why.as_bytes()))
                .mend("follow that one: ferry jobs list"),
            "room" => Failure::new(Kind::Failed, format!("there is no room for a job in {}", self.base))
                .on(host)
                .why("the room for its result is taken before it begins")
                .mend("make room on that disk, or set ferry_node_dir to another"),
            _ => Failure::new(Kind::Failed, "the job's supervisor did not begin").on(host).saw(clean(why.as_bytes())),
        }
    }
}

/// A base folder that can be used in paths: absolute, plain, not the root.
fn base_of(base: &str) -> Result<&str, Failure> {
    let trimmed = base.trim_end_matches('/');
    let plain = trimmed.starts_with('/')
        && trimmed.len() <= 1024
        && !trimmed.chars().any(char::is_control)
        && trimmed.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
    if plain {
        Ok(trimmed)
    } else {
        Err(Failure::new(Kind::CouldNotStart, "the folder for jobs on a node cannot be used")
            .saw(clean(base.as_bytes()))
            .why("expected: an absolute path without '.' and '..'")
            .mend("set ferry_node_dir, such as /var/lib/ferry"))
    }
}

/// A cluster's name as part of a file name: itself, or a digest of it where it is too long for one.
fn file_key(cluster: &ClusterName) -> String {
    if cluster.as_str().len() <= 120 {
        cluster.as_str().to_owned()
    } else {
        Sha256::of(cluster.as_str().as_bytes()).to_string()
    }
}

fn nonce() -> String {
    let bits: u128 = rand::random();
    format!("{bits:032x}")
}

/// A whole script: values as quoted assignments, functions, and one last line that runs them. The shell reads
/// that line whole before it runs it, so whatever is cut off, nothing of it runs.
fn compose(
    manner: &Manner,
    nonce: &str,
    base: &str,
    values: &[(&str, &str)],
    functions: &str,
    main: &str,
) -> Result<String, Failure> {
    let flock = if manner.flock { "yes" } else { "no" };
    let common = [
        ("f_nonce", nonce),
        ("f_base", base),
        ("f_boot", &manner.boot_id),
        ("f_sh", &manner.shell),
        ("f_flock", flock),
    ];
    let mut script = String::new();
    for (name, value) in common.iter().chain(values) {
        let value = quote(value).map_err(|nul| Failure::new(Kind::CouldNotStart, format!("{name} of a job: {nul}")))?;
        script.push_str(&format!("{name}={value}\n"));
    }
    script.push_str(NODE);
    script.push_str(functions);
    script.push_str(&format!("{{ {main}; exit; }}"));
    Ok(script)
}

/// The frames of a complete answer.
fn answer(host: &str, said: &Said, nonce: &str) -> Result<Vec<Frame>, Failure> {
    let mut frames = Frames::new(nonce);
    frames.feed(&said.out);
    let mut all = Vec::new();
    while let Some(frame) = frames.next().map_err(|failure| failure.on(host))? {
        all.push(frame);
    }
    if frames.ended() { Ok(all) } else { Err(broken_off(host, &said.exit, &said.err)) }
}

/// An answer that ended too early.
fn broken_off(host: &str, exit: &Exit, complaint: &[u8]) -> Failure {
    let tail = complaint.get(..complaint.len().min(600)).unwrap_or_default();
    if matches!(exit, Exit::Lost(_)) || sudo::was_cut(exit) {
        return Failure::new(Kind::Unreachable, "the connection ended in the middle of an answer")
            .on(host)
            .saw(exit.to_string())
            .why("a job goes on without us")
            .again();
    }
    Failure::new(Kind::Unknown, "the node's answer about the job broke off")
        .on(host)
        .saw(format!("{exit}; {}", clean(tail)).trim_end_matches("; ").to_owned())
        .mend("run the same command again; nothing is started twice")
}

/// What the node's script refuses, in sentences.
fn refusal(host: &str, base: &str, frame: &Frame) -> Failure {
    let text = clean(frame.text().as_bytes());
    let say = |kind: Kind, what: &str| Failure::new(kind, what.to_owned()).on(host).saw(text.clone());
    let own = "jobs run as root from there: whoever can write to it could run anything";
    let other = format!("look at it, then remove it or set ferry_node_dir to another place than {base}");
    match frame.word(1) {
        "dir-symlink" => say(Kind::Refused, "the folder for jobs is a symbolic link").why(own).mend(other),
        "dir-file" => say(Kind::Refused, "there is something in the place of the folder for jobs").mend(other),
        "dir-owner" => say(Kind::Refused, "the folder for jobs belongs to another user").why(own).mend(other),
        "dir-mode" => say(Kind::Refused, "others may write to the folder for jobs")
            .why(own)
            .mend(format!("look what is in it, then: chmod 0700 {base}")),
        "dir-make" => {
            say(Kind::Failed, "the folder for jobs cannot be made").mend("set ferry_node_dir to a place that can")
        }
        "room" => say(Kind::Failed, "there is no room for a job").mend("make room on that disk, or set ferry_node_dir"),
        "proc" => {
            say(Kind::Failed, "the node has no readable /proc").why("without it no process can be told from another")
        }
        "flock" => say(Kind::Failed, "the lock file cannot be locked").mend("set ferry_node_dir to a local disk"),
        "taken" => say(Kind::Refused, "this job id belongs to another script there"),
        "spec" => say(Kind::Unknown, "the job's script did not arrive as it was sent"),
        "session" => {
            say(Kind::Refused, "the node would end the job together with our connection (KillUserProcesses=yes)")
                .mend("make systemd-run work there, or set KillUserProcesses=no in logind.conf")
        }
        "gap" => say(Kind::Bad, "the job's output on the node is shorter than what was read of it before"),
        "orphan" => {
            say(Kind::Refused, "the job's supervisor is dead: what still runs cannot be told from other processes")
                .mend("look there for its processes and end them by hand")
        }
        "running" => say(Kind::Refused, "the job has not ended"),
        "script" => say(Kind::Refused, "the node cannot give the job a terminal: it has no script(1) of util-linux")
            .mend("install util-linux there, or run the job without a terminal"),
        "fifo" => say(Kind::Failed, "the FIFO for the job's input cannot be made"),
        "ended" => say(Kind::Refused, "the job does not run: nothing there would read an answer"),
        "input" => say(Kind::Refused, "this job takes no input"),
        "answers" => say(Kind::Refused, "this job was given too many answers")
            .why("its input holds what it has not read; a full one would block"),
        "digest" => say(Kind::Refused, "the job's output there differs from what was collected")
            .mend("follow the job again from the beginning: ferry jobs attach"),
        "foreign" => say(Kind::Refused, "there is a file in the job's folder that is not ours; nothing was removed")
            .mend("look at it, and move it away"),
        "remove" => say(Kind::Failed, "the job's files could not be removed"),
        "absent" => say(Kind::Refused, "there is no such job"),
        other => garbled(other).on(host),
    }
}

fn state(word: &str, arg: &str) -> Result<State, Failure> {
    let number = || -> Option<u64> { arg.bytes().all(|byte| byte.is_ascii_digit()).then(|| arg.parse().ok())? };
    let state = match (word, arg) {
        ("absent", "-") => Some(State::Absent),
        ("notstarted", "-") => Some(State::NotStarted),
        ("starting", "-") => Some(State::Starting),
        ("orphan", "-") => Some(State::Orphan),
        ("lost", "reboot") => Some(State::Lost(Lost::Reboot)),
        ("lost", "died") => Some(State::Lost(Lost::Died)),
        ("running", _) => number().map(|since_up| State::Running { since_up }),
        ("done", _) => {
            number().filter(|rc| *rc <= 255).and_then(|rc| i32::try_from(rc).ok()).map(|rc| State::Done { rc })
        }
        _ => None,
    };
    state.ok_or_else(|| garbled(&format!("state {word:?} {arg:?}")))
}

fn seen(word: &str) -> Result<bool, Failure> {
    match word {
        "flock" => Ok(true),
        "pid" => Ok(false),
        other => Err(garbled(other)),
    }
}

fn look(frames: &[Frame]) -> Result<Look, Failure> {
    match frames {
        [frame] if frame.word(0) == "state" => Ok(Look {
            state: state(frame.word(1), frame.word(2))?,
            descendants_seen: seen(frame.word(3))?,
            why: frame.text(),
        }),
        other => Err(garbled(&format!("{} frames instead of a state", other.len()))),
    }
}

fn digest(word: &str) -> Result<Option<Sha256>, Failure> {
    match word {
        "-" => Ok(None),
        hex => hex.parse().map(Some).map_err(|_| garbled(hex)),
    }
}

/// The text of an answer as it was given: its spaces count.
fn given_text(frame: &Frame) -> String {
    String::from_utf8_lossy(&frame.body).into_owned()
}

fn given(frame: &Frame) -> Result<Given, Failure> {
    let seq = frame.number(1).ok().and_then(|seq| u32::try_from(seq).ok());
    let written = match frame.word(2) {
        "yes" => Some(Written::Yes),
        "no" => Some(Written::No),
        "unknown" => Some(Written::Unknown),
        _ => None,
    };
    match (frame.word(0), seq, written) {
        ("given", Some(seq), Some(written)) => Ok(Given { seq, text: given_text(frame), written }),
        _ => Err(garbled(&format!("{} {} {}", frame.word(0), frame.word(1), frame.word(2)))),
    }
}

fn listed(frame: &Frame) -> Result<Listed, Failure> {
    if frame.word(0) != "job" {
        return Err(garbled(frame.word(0)));
    }
    let meta: Option<Meta> = serde_json::from_slice(&frame.body).ok();
    let (kind, cluster, meta) = match meta {
        Some(meta) => (meta.kind, Some(meta.cluster), meta.meta),
        None => (String::new(), None, serde_json::Value::Null),
    };
    Ok(Listed {
        id: frame.word(1).parse().map_err(|_| garbled(frame.word(1)))?,
        state: state(frame.word(2), frame.word(3))?,
        descendants_seen: seen(frame.word(4))?,
        kind,
        cluster,
        meta,
        spec_sha256: digest(frame.word(7)).unwrap_or(None),
        started: if frame.word(5) == "-" { None } else { Some(frame.number(5)?) },
        out_bytes: frame.number(6)?,
    })
}

/// Reads `bytes` as a node's answer, whole and in pieces: both ways must say the same. For `fuzz/` and `tests/fuzz.rs` only.
#[cfg(any(fuzzing, debug_assertions))]
pub fn fuzz_frames(bytes: &[u8]) {
    let read = |piece: usize| {
        let mut frames = frame::Frames::new("ab");
        let mut all = Vec::new();
        // Without a greeting nearly all that a fuzzer makes would be junk before the answer.
        for part in std::iter::once(&b"@ab hello 1\n"[..]).chain(bytes.chunks(piece)) {
            frames.feed(part);
            while let Some(frame) = frames.next().map_err(|_| all.len())? {
                all.push(frame);
            }
        }
        Ok::<_, usize>((all, frames.ended()))
    };
    assert_eq!(read(bytes.len().max(1)).is_ok(), read(3).is_ok());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bases_that_would_lead_elsewhere_are_refused() {
        for bad in ["", "/", "var/lib", "/a/../b", "/a//b", "/a/./b", "/a\nb", "/a\0"] {
            assert_eq!(base_of(bad).unwrap_err().kind, Kind::CouldNotStart, "{bad:?}");
        }
        assert_eq!(base_of("/var/lib/ferry/").unwrap(), "/var/lib/ferry");
    }

    #[test]
    fn states_are_read_exactly() {
        assert_eq!(state("done", "137").unwrap(), State::Done { rc: 137 });
        assert_eq!(state("running", "12").unwrap(), State::Running { since_up: 12 });
        for (word, arg) in [("done", "256"), ("done", "-1"), ("done", ""), ("done", "+1"), ("lost", "-"), ("odd", "-")]
        {
            assert!(state(word, arg).is_err(), "{word} {arg}");
        }
        assert!(State::Lost(Lost::Died).is_final() && !State::Orphan.is_final() && !State::NotStarted.is_final());
    }

    #[test]
    fn an_answer_reads_the_same_whole_and_in_pieces() {
        for answer in ["", "@ab state done 0 flock 0\n\n@ab bye\n", "@ab D 0 3\nabc\n", "@ab D 0 3\nabcd\n", "junk\n"] {
            fuzz_frames(answer.as_bytes());
        }
    }

    #[test]
    fn long_cluster_names_fit_a_file_name() {
        let long: ClusterName = "ü".repeat(120).parse().unwrap();
        assert_eq!(file_key(&long).len(), 64);
        assert_eq!(file_key(&"prod".parse().unwrap()), "prod");
    }
}
