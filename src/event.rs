//! The door between work and eyes.
//!
//! What lives here: the events of a run, the handle by which work tells them, masking and cleaning
//! of everything that a person or a file will see. What does not: writing the journal, drawing a
//! terminal (report): they are handed in as a [`Recorder`] and as [`Window`]s.
//!
//! Two verbs. [`Events::tell`] never waits for a window: a slow window skips lines and is told how
//! many. [`Events::commit`] returns when the journal has the event on disk. Lines are told; starts
//! of jobs and verdicts are committed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{Failure, Kind};
use crate::secret::{Masker, clean};

/// Which of a host's streams a line came from; `Us` is ferry's own remark in that host's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// A log file on the host that is followed (a job's output).
    Log,
    /// ferry's own words.
    Us,
}

/// How one host came out of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done, nothing was changed.
    Ok,
    /// Done, something was changed.
    Changed,
    /// Not wanted here (`when`, `--check`).
    Skipped,
    /// Failed.
    Failed,
    /// The host was not reached.
    Unreachable,
    /// What became of it is not known.
    Unknown,
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Looked at and good.
    Pass,
    /// Told, goes on.
    Warn,
    /// Goes no further.
    Refuse,
}

/// One thing that a look at the cluster found: what, why it matters, what mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The gate it belongs to (`health`, `space`, `active`, …).
    pub gate: String,
    /// Pass, warn or refuse.
    pub severity: Severity,
    /// The host it was found on; none for the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// What was seen, one sentence.
    pub what: String,
    /// Why it matters.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub why: String,
    /// The command that mends or waives it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub mend: String,
}

impl Finding {
    /// As the failure of one who may not go on: [`Kind::Refused`], within its gate.
    pub fn refusal(&self) -> Failure {
        let mut failure = Failure::new(Kind::Refused, self.what.clone()).within(format!("gate {}", self.gate));
        if let Some(host) = &self.host {
            failure = failure.on(host);
        }
        if !self.why.is_empty() {
            failure = failure.why(self.why.clone());
        }
        if !self.mend.is_empty() {
            failure = failure.mend(self.mend.clone());
        }
        failure
    }
}

/// What happened. One JSON object a line in the journal, tagged by `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are the documentation; product.md names the format
pub enum Event {
    /// First line of every journal. `format` is the journal's format version.
    RunStarted {
        format: u32,
        run: String,
        ferry: String,
        command: Vec<String>,
        user: String,
        machine: String,
        ci: Option<String>,
        dir: String,
        /// The folder it was started in: relative paths of `command` begin there.
        #[serde(default)]
        cwd: Option<String>,
        /// Digest of the playbooks as read.
        #[serde(default)]
        playbook_sha256: Option<String>,
        /// Digest of the inventory as read.
        #[serde(default)]
        inventory_sha256: Option<String>,
        /// The run that this one carries on.
        #[serde(default)]
        resumes: Option<String>,
        /// The recovery point that is restored, where there is one: `latest` may be another one later.
        #[serde(default)]
        point: Option<String>,
    },
    /// What will be done, in order, as text lines, before it begins.
    Plan {
        title: String,
        lines: Vec<String>,
    },
    PlayStarted {
        play: String,
        hosts: Vec<String>,
    },
    /// A task begins. `number` of `of`, from 1, in the order in which the playbooks are written: the same
    /// task has the same number in every run of the same playbooks.
    TaskStarted {
        task: String,
        number: usize,
        of: usize,
        /// It is a handler.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        handler: bool,
    },
    /// One item of a task's loop ended on a host.
    ItemEnded {
        task: String,
        host: String,
        /// The item as it is shown.
        item: String,
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ignored: bool,
        #[serde(default)]
        result: Value,
    },
    /// A task was not as it is wanted (`until`, `retries`), and is tried again; so often more.
    Retrying {
        task: String,
        host: String,
        #[serde(default)]
        item: Option<String>,
        left: u64,
        #[serde(default)]
        result: Value,
    },
    /// A command that goes on without us (`async`) was asked for. `job` is its `ansible_job_id`.
    Polled {
        host: String,
        job: String,
        finished: bool,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        failed: bool,
    },
    /// A file of tasks or a role was read on the way, for these hosts.
    Included {
        what: String,
        #[serde(default)]
        label: Option<String>,
        hosts: Vec<String>,
    },
    /// A play's pattern matched no host.
    NoHosts {
        pattern: String,
    },
    /// All hosts of a play have failed or were not reached.
    NoHostsLeft,
    /// What tasks counted for the end of the run (`set_stats`): of single hosts, and of the run as a whole.
    Statistics {
        hosts: BTreeMap<String, serde_json::Map<String, Value>>,
        run: serde_json::Map<String, Value>,
    },
    /// A task ended on a host. `result` is what `register` would hold.
    TaskEnded {
        task: String,
        host: String,
        outcome: Outcome,
        seconds: f64,
        #[serde(default)]
        message: String,
        #[serde(default)]
        result: Value,
        /// The task's number; 0 in journals that did not keep it.
        #[serde(default)]
        number: usize,
        /// It failed, and `ignore_errors` let the host go on.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ignored: bool,
        /// It was not run: this earlier run had done it, and `result` is what it kept then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        done_in: Option<String>,
    },
    /// What failed in the block whose first task has this number was mended by its `rescue`.
    Rescued {
        first: usize,
        hosts: Vec<String>,
    },
    /// One line that a host said. In the journal only its place in the host's log is kept.
    Line {
        host: String,
        stream: Stream,
        text: String,
    },
    /// Journal form of lines: bytes `from..to` of `hosts/HOST.log`.
    Logged {
        host: String,
        from: u64,
        to: u64,
    },
    /// A count that moves. `total` is in the same unit, absent while unknown. `unit` is `bytes` or `seconds`.
    Progress {
        what: String,
        host: String,
        done: u64,
        total: Option<u64>,
        unit: String,
    },
    Found {
        finding: Finding,
    },
    /// A step of the work that is worth a line of its own but is no task ("taken over from …").
    Note {
        #[serde(default)]
        host: Option<String>,
        text: String,
    },
    Warning {
        #[serde(default)]
        host: Option<String>,
        text: String,
    },
    /// Committed before anything is sent to the node. `meta` is what the node keeps beside the job.
    JobStarting {
        job: String,
        host: String,
        kind: String,
        cluster: String,
        point: String,
        spec_sha256: String,
        meta: Value,
    },
    /// A person is asked. Windows show what waits, draw nothing more, and leave the terminal to the question.
    Asking {
        question: String,
    },
    /// The person answered, or the operator's own pattern did. `by` is `person` or `pattern`.
    Answered {
        question: String,
        answer: String,
        by: String,
    },
    /// A job's state was seen to change (`running`, `done`, `lost reboot`, …).
    JobState {
        job: String,
        host: String,
        state: String,
        rc: Option<i32>,
    },
    /// A job's directory and, where ours, its archive were removed from the node.
    JobCleaned {
        job: String,
        host: String,
    },
    /// An archive arrived whole and was proved.
    Verified {
        point: String,
        file: String,
        bytes: u64,
        sha256: String,
        members: u64,
    },
    /// The point's manifest is on disk and its folder has its final name.
    Sealed {
        cluster: String,
        point: String,
        path: String,
        verdict: String,
        complete: bool,
    },
    /// What was saved, what was not and who covers it, how it was verified, what to do next.
    Summary {
        lines: Vec<SummaryLine>,
        next: Vec<String>,
    },
    Failed {
        failure: Failure,
    },
    /// Last line of every journal.
    RunEnded {
        exit: u8,
        seconds: f64,
        #[serde(default)]
        recap: BTreeMap<String, BTreeMap<String, u64>>,
    },
}

/// One row of a summary: a word (`saved`, `not saved`, `verified`, `took`, …) and its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryLine {
    /// The row's heading.
    pub word: String,
    /// The text.
    pub text: String,
}

/// An event with its place in the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// UTC.
    pub at: jiff::Timestamp,
    /// Place in the run, from 1, without gaps.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Keeps events: host logs first, then the journal. Written by `report`.
pub trait Recorder: Send {
    /// Keeps one event. With `durable`, returns only when it is on disk.
    ///
    /// # Errors
    /// The disk's own error. The caller of `commit` gets it; a told event that cannot be kept is
    /// counted and reported at the next commit.
    fn record(&mut self, event: &Stamped, durable: bool) -> std::io::Result<()>;

    /// Keeps lines of one host that came together, as if each were recorded as an [`Event::Line`].
    ///
    /// # Errors
    /// As [`record`](Self::record).
    fn lines(&mut self, batch: &Batch) -> std::io::Result<()> {
        batch.each().try_for_each(|event| self.record(&event, false))
    }
}

/// Lines of one host that came together: what is done once for a line is then done once for many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// When they came, UTC.
    pub at: jiff::Timestamp,
    /// The first line's place in the run; the others follow without gaps.
    pub seq: u64,
    /// The inventory's name of the host, washed.
    pub host: Arc<str>,
    /// Where they came from.
    pub stream: Stream,
    /// The lines, washed, each with a line feed behind it. Never empty.
    pub text: String,
    /// How many lines there are.
    pub count: usize,
}

impl Batch {
    /// The last line's place in the run.
    pub fn last_seq(&self) -> u64 {
        self.seq + self.count.saturating_sub(1) as u64
    }

    /// The lines, without their line feeds.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split_inclusive('\n').map(|line| line.strip_suffix('\n').unwrap_or(line))
    }

    fn stamped(&self, number: usize, line: &str) -> Stamped {
        let event = Event::Line { host: self.host.to_string(), stream: self.stream, text: line.to_owned() };
        Stamped { at: self.at, seq: self.seq + number as u64, event }
    }

    /// Each line as the event that it is.
    pub fn each(&self) -> impl Iterator<Item = Stamped> {
        self.lines().enumerate().map(|(number, line)| self.stamped(number, line))
    }
}

/// How many lines may wait for a slow window before further ones are skipped.
const WAITING_LINES: usize = 2_000;
/// How many bytes of lines may wait for a window before further ones are skipped.
const WAITING_BYTES: usize = 4 << 20;
/// How long a window that wants every line may hold up those who read from hosts, while it takes nothing. No
/// longer: a connection that is not read from for a minute is dead.
const MOST_HELD: std::time::Duration = std::time::Duration::from_secs(10);

/// What waits for a window.
enum Item {
    Event(Arc<Stamped>),
    /// Lines; so many bytes and lines of them were taken already.
    Lines(Arc<Batch>, usize, usize),
}

#[derive(Default)]
struct Queue {
    idle: bool,
    waiting: VecDeque<Item>,
    lines: usize,
    bytes: usize,
    skipped: u64,
    closed: bool,
    /// It wants every line: see [`Window::patient`].
    patient: bool,
    /// How much it took so far, in items: whether it moves.
    taken: u64,
}

impl Queue {
    fn full(&self) -> bool {
        self.bytes >= WAITING_BYTES || !self.patient && self.lines >= WAITING_LINES
    }
}

/// A window's end of the door: it takes events in order, on a thread of its own.
#[derive(Clone, Default)]
pub struct Window {
    queue: Arc<(Mutex<Queue>, Condvar)>,
}

/// What a window gets that takes lines in batches.
#[derive(Debug, Clone)]
pub enum Taken {
    /// Lines of one host that came together.
    Lines(Arc<Batch>),
    /// Anything else; never an [`Event::Line`] that came in a batch.
    Seen(Seen),
}

/// What a window gets.
#[derive(Debug, Clone)]
pub enum Seen {
    /// An event.
    Event(Arc<Stamped>),
    /// The window was too slow: so many lines were not shown. The hosts' logs have them.
    Skipped(u64),
    /// Nothing happened within the time that was given: a chance to redraw.
    Quiet,
    /// Nothing more will come.
    End,
}

impl Window {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A window that wants every line, for a file or a program that reads along: whoever reads from hosts waits
    /// for it ([`Events::room`]), unless it takes nothing for ten seconds. Not for a terminal: a screen never
    /// holds up what is read.
    pub fn patient() -> Self {
        let window = Self::default();
        window.lock().patient = true;
        window
    }

    fn push(&self, event: &Arc<Stamped>) {
        let mut queue = self.lock();
        let is_line = matches!(event.event, Event::Line { .. } | Event::Progress { .. });
        if is_line && queue.full() {
            queue.skipped += u64::from(matches!(event.event, Event::Line { .. }));
        } else {
            queue.lines += usize::from(is_line);
            queue.bytes += line_bytes(event);
            queue.waiting.push_back(Item::Event(Arc::clone(event)));
        }
        self.queue.1.notify_one();
    }

    fn push_lines(&self, batch: &Arc<Batch>) {
        let mut queue = self.lock();
        if queue.full() {
            queue.skipped += batch.count as u64;
        } else {
            queue.lines += batch.count;
            queue.bytes += batch.text.len();
            queue.waiting.push_back(Item::Lines(Arc::clone(batch), 0, 0));
        }
        self.queue.1.notify_one();
    }

    /// Shows an event that was kept earlier, with its own time and place: for whoever reads a journal back. Waits
    /// while much is waiting already, so that a long journal is never in memory whole.
    pub fn again(&self, event: Stamped) {
        while self.lock().waiting.len() >= WAITING_LINES / 2 {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        self.push(&Arc::new(event));
    }

    /// Nothing more will come.
    pub fn end(&self) {
        self.close();
    }

    /// Whether it wants every line and cannot take more now, and how much it took so far.
    fn holds_up(&self) -> Option<u64> {
        let queue = self.lock();
        (queue.patient && !queue.closed && queue.full()).then_some(queue.taken)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.queue.1.notify_all();
    }

    /// Waits until everything that was told is shown and the window asks for more, at most `patience`.
    fn shown(&self, patience: std::time::Duration) {
        let until = std::time::Instant::now() + patience;
        let mut queue = self.lock();
        while !(queue.closed || queue.idle && queue.waiting.is_empty()) {
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.queue.1.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the next event, at most `patience`.
    pub fn next(&self, patience: std::time::Duration) -> Seen {
        match self.next_of(patience, false) {
            Taken::Seen(seen) => seen,
            Taken::Lines(batch) => batch.each().next().map_or(Seen::Quiet, |event| Seen::Event(Arc::new(event))),
        }
    }

    /// As [`next`](Self::next), and lines that came together are taken together.
    pub fn take(&self, patience: std::time::Duration) -> Taken {
        self.next_of(patience, true)
    }

    fn next_of(&self, patience: std::time::Duration, together: bool) -> Taken {
        let mut queue = self.lock();
        if queue.waiting.is_empty() && !queue.idle {
            queue.idle = true;
            self.queue.1.notify_all();
        }
        loop {
            if let Some(item) = queue.waiting.pop_front() {
                queue.idle = false;
                queue.taken += 1;
                return match item {
                    Item::Event(event) => {
                        if matches!(event.event, Event::Line { .. } | Event::Progress { .. }) {
                            queue.lines -= 1;
                            queue.bytes -= line_bytes(&event);
                        }
                        Taken::Seen(Seen::Event(event))
                    }
                    Item::Lines(batch, 0, _) if together => {
                        queue.lines -= batch.count;
                        queue.bytes -= batch.text.len();
                        Taken::Lines(batch)
                    }
                    Item::Lines(batch, from, number) => {
                        let rest = batch.text.get(from..).unwrap_or_default();
                        let line = rest.split_inclusive('\n').next().unwrap_or_default();
                        let to = from + line.len();
                        queue.lines -= 1;
                        queue.bytes -= line.len();
                        let event = Arc::new(batch.stamped(number, line.strip_suffix('\n').unwrap_or(line)));
                        if to < batch.text.len() {
                            queue.waiting.push_front(Item::Lines(batch, to, number + 1));
                        }
                        Taken::Seen(Seen::Event(event))
                    }
                };
            }
            if queue.skipped > 0 {
                return Taken::Seen(Seen::Skipped(std::mem::take(&mut queue.skipped)));
            }
            if queue.closed {
                return Taken::Seen(Seen::End);
            }
            let (back, timeout) = self.queue.1.wait_timeout(queue, patience).unwrap_or_else(PoisonError::into_inner);
            queue = back;
            if timeout.timed_out() && queue.waiting.is_empty() && queue.skipped == 0 && !queue.closed {
                return Taken::Seen(Seen::Quiet);
            }
        }
    }
}

/// What an event counts among the bytes of lines that wait.
fn line_bytes(event: &Stamped) -> usize {
    match &event.event {
        Event::Line { text, .. } => text.len() + 1,
        _ => 0,
    }
}

struct Door {
    recorder: Option<Box<dyn Recorder>>,
    windows: Vec<Window>,
    seq: u64,
    /// The first error of a told event that could not be kept.
    lost: Option<String>,
    /// The worst kind of failure of each host, and of none.
    worst: HashMap<Option<String>, Kind>,
}

/// The handle by which work tells what happens. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    door: Arc<Mutex<Door>>,
    masker: Masker,
}

impl Events {
    /// A door with this recorder and these windows behind it.
    pub fn new(masker: Masker, recorder: Option<Box<dyn Recorder>>, windows: Vec<Window>) -> Self {
        Self {
            door: Arc::new(Mutex::new(Door { recorder, windows, seq: 0, lost: None, worst: HashMap::new() })),
            masker,
        }
    }

    /// A door behind which nobody stands: for tests and for commands that keep no run.
    pub fn nobody() -> Self {
        Self::new(Masker::new(), None, Vec::new())
    }

    /// The secrets that this door masks.
    pub fn masker(&self) -> &Masker {
        &self.masker
    }

    fn pass(&self, event: Event, durable: bool) -> std::io::Result<()> {
        let event = self.washed(event);
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        door.seq += 1;
        if let Event::Failed { failure } = &event {
            let worst = door.worst.entry(failure.host.clone()).or_insert(failure.kind);
            *worst = worst.worse(failure.kind);
        }
        let stamped = Arc::new(Stamped { at: jiff::Timestamp::now(), seq: door.seq, event });
        let kept = match door.recorder.as_mut() {
            Some(recorder) => recorder.record(&stamped, durable),
            None => Ok(()),
        };
        for window in &door.windows {
            window.push(&stamped);
        }
        match kept {
            Err(error) if !durable => {
                door.lost.get_or_insert(error.to_string());
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) if durable => match door.lost.take() {
                Some(lost) => Err(std::io::Error::other(lost)),
                None => Ok(()),
            },
            Ok(()) => Ok(()),
        }
    }

    /// Tells an event. Never waits for a window and never fails: what the journal could not keep is
    /// an error of the next [`commit`](Self::commit).
    pub fn tell(&self, event: Event) {
        let _ = self.pass(event, false);
    }

    /// Tells an event and returns when the journal has it on disk.
    ///
    /// # Errors
    /// The journal cannot hold it (disk full, removed): a step that was about to start must not.
    pub fn commit(&self, event: Event) -> Result<(), Failure> {
        self.pass(event, true).map_err(|error| {
            Failure::new(Kind::CouldNotStart, "the run's journal could not be written")
                .saw(error.to_string())
                .why("no step is started that the journal cannot hold")
                .mend("free space for the runs folder, or name another with --run-dir DIR")
        })
    }

    /// Tells lines of a host that came together, as [`Lines::chunks`] gives them: line feeds stand between them,
    /// and one may stand at the end. They are masked and cleaned here, each as it would be alone.
    pub fn lines(&self, host: &str, stream: Stream, chunk: &[u8]) {
        let mut text = self.washed_lines(chunk);
        if !text.ends_with('\n') || chunk.is_empty() {
            text.push('\n');
        }
        let count = text.bytes().filter(|byte| *byte == b'\n').count();
        let host: Arc<str> = clean(host.as_bytes()).into();
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = door.seq + 1;
        door.seq += count as u64;
        let batch = Arc::new(Batch { at: jiff::Timestamp::now(), seq, host, stream, text, count });
        if let Some(recorder) = door.recorder.as_mut()
            && let Err(error) = recorder.lines(&batch)
        {
            door.lost.get_or_insert(error.to_string());
        }
        for window in &door.windows {
            window.push_lines(&batch);
        }
    }

    /// Several lines in one text, each masked and cleaned.
    fn washed_lines(&self, chunk: &[u8]) -> String {
        // Most of what hosts say is harmless as it is, which is seen by two looks at all of it.
        if is_plain(chunk) && !self.masker.finds(chunk) {
            return String::from_utf8_lossy(chunk).into_owned();
        }
        let mut text = String::with_capacity(chunk.len() + 64);
        for line in chunk.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            text.push_str(&self.wash(&String::from_utf8_lossy(line)));
            text.push('\n');
        }
        text
    }

    /// Waits until the windows that want every line ([`Window::patient`]) can take more; not longer than one of
    /// them goes without taking anything for ten seconds. For whoever reads a host's output, between two pieces.
    pub async fn room(&self) {
        let mut held: Option<(u64, std::time::Instant)> = None;
        loop {
            let taken = {
                let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
                door.windows.iter().filter_map(Window::holds_up).min()
            };
            let Some(taken) = taken else { return };
            match held {
                Some((before, since)) if before == taken => {
                    if since.elapsed() > MOST_HELD {
                        return;
                    }
                }
                _ => held = Some((taken, std::time::Instant::now())),
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// Tells one line of a host. `bytes` without its line end.
    pub fn line(&self, host: &str, stream: Stream, bytes: &[u8]) {
        self.tell(Event::Line { host: host.to_owned(), stream, text: String::from_utf8_lossy(bytes).into_owned() });
    }

    /// Tells a remark.
    pub fn note(&self, host: Option<&str>, text: impl Into<String>) {
        self.tell(Event::Note { host: host.map(str::to_owned), text: text.into() });
    }

    /// Tells a warning.
    pub fn warn(&self, host: Option<&str>, text: impl Into<String>) {
        self.tell(Event::Warning { host: host.map(str::to_owned), text: text.into() });
    }

    /// Waits until the windows have shown all that was told, at most two seconds: before a person is asked.
    pub fn shown(&self) {
        let windows = self.door.lock().unwrap_or_else(PoisonError::into_inner).windows.clone();
        for window in windows {
            window.shown(std::time::Duration::from_secs(2));
        }
    }

    /// The worst kind of failure that passed so far.
    pub fn worst(&self) -> Option<Kind> {
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        door.worst.values().copied().reduce(Kind::worse)
    }

    /// What failed on these hosts so far counts no longer: the playbook cleared it.
    pub fn forgive(&self, hosts: &[String]) {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        for host in hosts {
            door.worst.remove(&Some(host.clone()));
        }
    }

    /// Nothing more will come: the windows end when they have shown what waits.
    pub fn close(&self) {
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        for window in &door.windows {
            window.close();
        }
    }

    /// Masks and cleans every text of an event. This is the one door: it works on the event's JSON
    /// form, so that no field that is added later can be forgotten.
    fn washed(&self, event: Event) -> Event {
        // Lines are most of the traffic and have one text: no need for the way through JSON.
        if let Event::Line { host, stream, text } = event {
            return Event::Line { host: clean(host.as_bytes()), stream, text: self.wash(&text) };
        }
        let event = match event {
            Event::Failed { failure } => Event::Failed { failure: failure.coded() },
            event => event,
        };
        let Ok(mut value) = serde_json::to_value(&event) else {
            return Event::Warning { host: None, text: "an event could not be written down".to_owned() };
        };
        self.wash_value(&mut value);
        serde_json::from_value(value).unwrap_or_else(|error| Event::Warning {
            host: None,
            text: format!("an event could not be written down: {error}"),
        })
    }

    /// A text of one line as this door would let it pass, for what is shown without being told.
    pub fn washed_text(&self, text: &str) -> String {
        self.wash(text)
    }

    fn wash(&self, text: &str) -> String {
        clean(self.masker.mask(text).as_bytes())
    }

    /// Several lines in one text stay several lines.
    fn wash_lines(&self, text: &str) -> String {
        self.masker.mask(text).split('\n').map(|line| clean(line.as_bytes())).collect::<Vec<_>>().join("\n")
    }

    fn wash_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.wash_lines(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.wash_value(item)),
            Value::Object(map) => {
                let old = std::mem::take(map);
                for (key, mut item) in old {
                    self.wash_value(&mut item);
                    map.insert(self.wash(&key), item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// A failure with every text masked and cleaned, for commands that keep no run and have no door.
pub fn washed_failure(masker: &Masker, failure: &Failure) -> Failure {
    let door = Events::new(masker.clone(), None, Vec::new());
    match door.washed(Event::Failed { failure: failure.clone() }) {
        Event::Failed { failure } => failure,
        _ => Failure::new(failure.kind, "a failure could not be written down"),
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

/// Whether bytes are ASCII in which nothing acts on a terminal: line feeds and tabs, no other control characters.
fn is_plain(bytes: &[u8]) -> bool {
    // No way out of the loop before its end: so it is done for many bytes at once.
    let acts = |byte: u8| (byte < 0x20 && byte != b'\n' && byte != b'\t') || byte >= 0x7f;
    !bytes.iter().fold(false, |found, byte| found | acts(*byte))
}

/// Cuts a stream of bytes into lines, with a bound on a line's length: a longer one is told in
/// pieces. Memory is never more than that bound.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
    masker: Masker,
}

/// Longest line in bytes that is told in one piece.
pub const LONGEST_LINE: usize = 16 << 10;
/// From so many bytes on a chunk of lines is handed over.
const CHUNK: usize = 64 << 10;

impl Lines {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Lines::new`], and no line is cut within one of these secrets: a half of it would be masked
    /// in neither piece.
    pub fn sparing(masker: &Masker) -> Self {
        Self { rest: Vec::new(), masker: masker.clone() }
    }

    /// Takes bytes and hands every finished line to `each`, without `\n` and a `\r` before it.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.piece(piece, &mut each);
        }
    }

    /// As [`Lines::feed`], but hands over lines that came together in one chunk, tens of KiB at most: line feeds stand between them, and behind the last or not. A `\r` before a line feed is left to the
    /// event door.
    pub fn chunks(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut left = bytes;
        while !left.is_empty() {
            let window = left.get(..LONGEST_LINE).unwrap_or(left);
            let to = if self.rest.is_empty() {
                // Whole lines are handed over where they lie, as far as none of them is too long.
                let mut end = 0;
                while let Some(ahead) = left.get(end..).filter(|ahead| !ahead.is_empty() && end < CHUNK) {
                    let ahead = ahead.get(..LONGEST_LINE).unwrap_or(ahead);
                    let Some(at) = ahead.iter().rposition(|byte| *byte == b'\n') else { break };
                    end += at + 1;
                }
                if end > 0 {
                    let (chunk, later) = left.split_at(end);
                    each(chunk);
                    left = later;
                    continue;
                }
                window.len()
            } else {
                // The end of the line that was begun.
                window.iter().position(|byte| *byte == b'\n').map_or(window.len(), |at| at + 1)
            };
            let (piece, later) = left.split_at(to);
            self.piece(piece, &mut each);
            left = later;
        }
    }

    /// Takes bytes that hold at most one line feed, at their end.
    fn piece(&mut self, piece: &[u8], each: &mut impl FnMut(&[u8])) {
        let mut piece = piece;
        while self.rest.len() + piece.len() > LONGEST_LINE {
            let (now, later) = piece.split_at((LONGEST_LINE - self.rest.len()).min(piece.len()));
            self.rest.extend_from_slice(now);
            let whole = self.masker.cut(&self.rest);
            // What is nothing but the beginning of a secret is told all the same: it must come to an end.
            let whole = if whole == 0 { self.rest.len() } else { whole };
            each(self.rest.get(..whole).unwrap_or_default());
            self.rest.drain(..whole);
            piece = later;
        }
        self.rest.extend_from_slice(piece);
        if self.rest.last() == Some(&b'\n') {
            self.rest.pop();
            if self.rest.last() == Some(&b'\r') {
                self.rest.pop();
            }
            each(&self.rest);
            self.rest.clear();
        }
    }

    /// The stream ended: an unfinished line is a line.
    pub fn end(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            each(&self.rest);
            self.rest.clear();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Stamped>>>);
    impl Recorder for Kept {
        fn record(&mut self, event: &Stamped, _: bool) -> std::io::Result<()> {
            self.0.lock().unwrap().push(event.clone());
            Ok(())
        }
    }

    #[test]
    fn every_text_is_washed_once_whatever_field_it_is_in() {
        let masker = Masker::new();
        masker.learn(&"hunter22".into());
        let kept = Kept::default();
        let events = Events::new(masker, Some(Box::new(kept.clone())), vec![]);
        events.line("h", Stream::Out, b"pw hunter22 \x1b[2J");
        events.tell(Event::TaskEnded {
            task: "t\x07".into(),
            host: "h".into(),
            outcome: Outcome::Ok,
            seconds: 0.5,
            message: "a\nhunter22".into(),
            result: serde_json::json!({"hunter22": ["\u{9b}m"]}),
            number: 1,
            ignored: false,
            done_in: None,
        });
        let all = serde_json::to_string(&*kept.0.lock().unwrap()).unwrap();
        assert!(!all.contains("hunter22"), "{all}");
        assert!(!all.contains("\\u001b") && !all.contains('\u{9b}') && !all.contains("\\u0007"), "{all}");
        assert!(all.contains("a\\n********"), "{all}");
    }

    #[test]
    fn a_slow_window_skips_lines_only_and_is_told_how_many() {
        let window = Window::default();
        let events = Events::new(Masker::new(), None, vec![window.clone()]);
        for _ in 0..WAITING_LINES + 7 {
            events.line("h", Stream::Out, b"x");
        }
        events.note(None, "kept");
        events.close();
        let (mut lines, mut skipped, mut notes) = (0, 0, 0);
        loop {
            match window.next(Duration::from_millis(10)) {
                Seen::Event(event) if matches!(event.event, Event::Line { .. }) => lines += 1,
                Seen::Event(_) => notes += 1,
                Seen::Skipped(count) => skipped += count,
                Seen::Quiet => {}
                Seen::End => break,
            }
        }
        assert_eq!((lines, skipped, notes), (WAITING_LINES, 7, 1));
    }

    #[test]
    fn lines_are_bounded_and_none_is_lost() {
        let mut lines = Lines::new();
        let mut seen = Vec::new();
        lines.feed(b"a\r\nb", |line| seen.push(line.to_vec()));
        lines.feed(b"c\n\n", |line| seen.push(line.to_vec()));
        lines.feed(&vec![b'x'; LONGEST_LINE * 2 + 3], |line| seen.push(line.to_vec()));
        lines.end(|line| seen.push(line.to_vec()));
        let sizes: Vec<usize> = seen.iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 2, 0, LONGEST_LINE, LONGEST_LINE, 3]);
    }

    /// What is told in batches is what would have been told line by line.
    #[test]
    fn lines_that_come_together_are_told_as_they_would_be_alone() {
        let masker = Masker::new();
        masker.learn(&"hunter22".into());
        let long = [vec![b'x'; LONGEST_LINE + 5], b"\n".to_vec()].concat();
        let texts: [&[u8]; 7] = [
            b"one\ntwo\r\n\n three\thunter22\nlast",
            b"\n\n",
            b"\x1b[31mred\x1b[0m\n\xff\xfe\nhunter22hunter22\n",
            "\u{202e}é日本\nplain\n".as_bytes(),
            &long,
            &[b'y'; 3 * LONGEST_LINE],
            b"",
        ];
        for text in texts {
            for step in [1, 3, 1000, text.len().max(1)] {
                let (one, many) = (Kept::default(), Kept::default());
                let alone = Events::new(masker.clone(), Some(Box::new(one.clone())), vec![]);
                let window = Window::default();
                let together = Events::new(masker.clone(), Some(Box::new(many.clone())), vec![window.clone()]);
                let (mut a, mut b) = (Lines::sparing(&masker), Lines::sparing(&masker));
                for piece in text.chunks(step) {
                    a.feed(piece, |line| alone.line("h", Stream::Out, line));
                    b.chunks(piece, |chunk| together.lines("h", Stream::Out, chunk));
                }
                a.end(|line| alone.line("h", Stream::Out, line));
                b.end(|line| together.lines("h", Stream::Out, line));
                let of = |kept: &Kept| -> Vec<(u64, Event)> {
                    kept.0.lock().unwrap().iter().map(|event| (event.seq, event.event.clone())).collect()
                };
                assert_eq!(of(&one), of(&many), "{step} {text:?}");
                together.close();
                let mut shown = Vec::new();
                while let Seen::Event(event) = window.next(Duration::from_millis(1)) {
                    shown.push((event.seq, event.event.clone()));
                }
                assert_eq!(shown, of(&many), "{step} {text:?}");
            }
        }
    }

    #[test]
    fn a_patient_window_holds_up_who_reads_until_it_takes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let window = Window::patient();
        let events = Events::new(Masker::new(), None, vec![window.clone()]);
        let chunk = [vec![b'x'; 1023], b"\n".to_vec()].concat().repeat(16);
        let reader = std::thread::spawn(move || {
            let mut bytes = 0;
            loop {
                match window.take(Duration::from_secs(5)) {
                    Taken::Lines(batch) => bytes += batch.text.len(),
                    Taken::Seen(Seen::End) => return bytes,
                    Taken::Seen(other) => panic!("{other:?}"),
                }
            }
        });
        let told = 40 << 20;
        runtime.block_on(async {
            for _ in 0..told / chunk.len() {
                events.lines("h", Stream::Out, &chunk);
                events.room().await;
            }
        });
        events.close();
        assert_eq!(reader.join().unwrap(), told);
    }

    #[test]
    fn a_long_line_is_never_cut_within_a_secret() {
        let again = Masker::new();
        again.learn(&"abcab".into());
        assert_eq!((again.cut(b"..abcab"), again.cut(b"..abc"), again.cut(b"..abx")), (2, 2, 5));
        let masker = Masker::new();
        masker.learn(&"hunter22".into());
        masker.learn(&"2xx2".into());
        for before in LONGEST_LINE - 12..LONGEST_LINE + 2 {
            let line = [vec![b'h'; before], b"hunter22".to_vec(), vec![b'x'; 40], b"hunter2\n".to_vec()].concat();
            for step in [1, 7, line.len()] {
                let (mut lines, mut seen) = (Lines::sparing(&masker), Vec::new());
                for piece in line.chunks(step) {
                    lines.feed(piece, |line| seen.push(line.to_vec()));
                }
                assert!(seen.iter().all(|line| line.len() <= LONGEST_LINE));
                assert_eq!(seen.concat(), line[..line.len() - 1], "{before}");
                let whole = seen.iter().filter(|line| line.windows(8).any(|window| window == b"hunter22")).count();
                assert_eq!(whole, 1, "{before} {step}");
            }
        }
    }

    #[test]
    fn a_told_event_that_was_lost_is_an_error_of_the_next_commit() {
        struct Full(bool);
        impl Recorder for Full {
            fn record(&mut self, _: &Stamped, _: bool) -> std::io::Result<()> {
                if std::mem::replace(&mut self.0, false) { Err(std::io::Error::other("full")) } else { Ok(()) }
            }
        }
        let events = Events::new(Masker::new(), Some(Box::new(Full(true))), vec![]);
        events.note(None, "lost");
        assert!(events.commit(Event::Note { host: None, text: "x".into() }).is_err());
        assert!(events.commit(Event::Note { host: None, text: "x".into() }).is_ok());
    }
}
