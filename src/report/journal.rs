//! The journal: a run's events on disk, the truth that every report reads.
//!
//! What lives here: writing `journal.jsonl` and `hosts/HOST.log`, reading them back, and the short
//! account of a run for `runs list` and `runs show`. What does not: what events mean to the engine
//! (run), how they are shown (the other windows).
//!
//! How it is kept:
//! * What a host said goes to that host's log; the journal keeps the bytes' place there
//!   ([`Event::Logged`], with time and number of the last line it covers). A host's log is always
//!   written before the journal that points into it.
//! * Lines wait in memory for at most a second or 64 KiB; everything else is handed to the system at once, so
//!   that killing ferry loses at most a second of lines. Only a durable record waits for the disk.
//! * No half record stays: a write that fails is cut back to the last good end, then or at the next write.
//! * When the disk is full, what was merely told waits in memory (1 MiB a file) and is tried again;
//!   beyond that it is counted, and the count is written when there is room. A start of a job that
//!   could not be made durable is taken back: the job must not start.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::event::{Batch, Event, Recorder, Stamped, Stream};
use crate::failure::{Failure, Kind, Place};
use crate::secret::clean;

/// The format version that this ferry writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// A run's journal, below the run's folder.
pub const FILE: &str = "journal.jsonl";
/// The folder of the hosts' logs, below the run's folder.
pub const HOSTS: &str = "hosts";

/// A host's lines are written when so many bytes wait.
const ENOUGH: usize = 64 << 10;
/// What waits longer than about this is written by the clock.
const TICK: Duration = Duration::from_millis(500);
/// So many bytes a file wait in memory while the disk takes nothing.
const MOST_WAITING: usize = 1 << 20;
/// The longest line of a journal that is read.
const LONGEST_RECORD: u64 = 64 << 20;
/// A count that moves is kept this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Keeps a run's events. The lines that still wait are written when it is dropped.
pub struct Journal {
    keeper: Arc<Mutex<Keeper>>,
    /// Its end tells the clock to stop.
    _clock: mpsc::Sender<()>,
}

impl Journal {
    /// Makes the run's folder (0700) with an empty journal (0600) in it. Missing parents are made.
    /// The journal is locked while it is open; its first event must be [`Event::RunStarted`].
    ///
    /// # Errors
    /// The folder holds a journal already, or cannot be written.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let private = |dir: &Path| {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            std::fs::set_permissions(dir, Permissions::from_mode(0o700))
        };
        private(dir)?;
        private(&dir.join(HOSTS))?;
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(dir.join(FILE))?;
        lock(&file)?;
        sync_dir(dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        Self::open(dir, file, false)
    }

    /// Opens the journal of an earlier invocation to carry its run on. A torn last line is cut off.
    ///
    /// # Errors
    /// There is none, another ferry writes it, or it cannot be written.
    pub fn append(dir: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).open(dir.join(FILE))?;
        lock(&file)?;
        let length = file.metadata()?.len();
        let good = end_of_last_line(&mut file, length)?;
        if good < length {
            file.set_len(good)?;
        }
        Self::open(dir, file, good > 0)
    }

    fn open(dir: &Path, file: File, begun: bool) -> io::Result<Self> {
        let keeper = Arc::new(Mutex::new(Keeper {
            dir: dir.to_owned(),
            journal: file,
            torn: None,
            begun,
            backlog: Vec::new(),
            lost: 0,
            unsure: None,
            logs: Vec::new(),
            index: HashMap::new(),
            pending: Vec::new(),
            counts: HashMap::new(),
            clock: (i64::MIN, String::new()),
            new_logs: false,
        }));
        let (stop, stopped) = mpsc::channel::<()>();
        let weak = Arc::downgrade(&keeper);
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                let Some(keeper) = weak.upgrade() else { return };
                // An error here is no news: the lines wait, and the next commit meets it again.
                let _ = keeper.lock().unwrap_or_else(PoisonError::into_inner).flush_lines();
            }
        })?;
        Ok(Self { keeper, _clock: stop })
    }
}

impl Recorder for Journal {
    fn record(&mut self, event: &Stamped, durable: bool) -> io::Result<()> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).record(event, durable)
    }

    fn lines(&mut self, batch: &Batch) -> io::Result<()> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).lines(batch)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Best effort: whoever needs certainty commits.
        let _ = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).flush_lines();
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "another ferry is writing this run's journal"))
        }
        // A file system without locks (some network mounts): the run id is ours alone all the same.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The offset behind the last line feed of the first `length` bytes; 0 when there is none.
fn end_of_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut chunk = vec![0; 64 << 10];
    while end > 0 {
        let size = usize::try_from(end).unwrap_or(usize::MAX).min(chunk.len());
        let start = end - size as u64;
        let part = chunk.get_mut(..size).unwrap_or_default();
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Adds `bytes` at the end of a file, whole or not at all, and tells where they begin. `torn` is
/// the good end of a file whose cutting back failed earlier.
fn append(mut file: &File, torn: &mut Option<u64>, bytes: &[u8]) -> io::Result<u64> {
    let mut from = file.metadata()?.len();
    if let Some(good) = *torn {
        if from > good {
            file.set_len(good)?;
            from = good;
        }
        *torn = None;
    }
    if let Err(error) = file.write_all(bytes) {
        if file.set_len(from).is_err() {
            *torn = Some(from);
        }
        return Err(error);
    }
    Ok(from)
}

/// One host's log. No handle is kept open: hundreds of hosts would use up the descriptors.
struct HostLog {
    host: String,
    path: PathBuf,
    waiting: Vec<u8>,
    last: (Timestamp, u64),
    /// Lines that found no room in memory while the disk was full.
    lost: u64,
    torn: Option<u64>,
    opened: bool,
    unsynced: bool,
    /// When the disk last refused: not tried again for every line.
    refused: Option<Timestamp>,
}

impl HostLog {
    /// Writes what waits. Returns the place it got.
    fn write(&mut self) -> io::Result<(u64, u64)> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        if !self.opened {
            // An earlier ferry may have been killed within a line: that line stays, ours begins anew.
            let length = file.metadata()?.len();
            if end_of_last_line(&mut file, length)? < length {
                append(&file, &mut self.torn, b"\n")?;
            }
            self.opened = true;
        }
        let waited = self.waiting.len();
        if self.lost > 0 {
            let remark = format!("{} lines were lost here: the disk was full", self.lost);
            put_line(&mut self.waiting, &time(self.last.0), Stream::Us, &remark);
        }
        let added = self.waiting.len() as u64;
        let from = append(&file, &mut self.torn, &self.waiting).inspect_err(|_| self.waiting.truncate(waited))?;
        self.waiting.clear();
        self.waiting.shrink_to(ENOUGH * 2);
        self.lost = 0;
        self.refused = None;
        self.unsynced = true;
        Ok((from, from + added))
    }
}

fn time(at: Timestamp) -> String {
    format!("{}.{:03}Z", at.strftime("%Y-%m-%dT%H:%M:%S"), at.subsec_millisecond())
}

fn mark(stream: Stream) -> &'static str {
    match stream {
        Stream::Out => "out",
        Stream::Err => "err",
        Stream::Log => "log",
        Stream::Us => "us ",
    }
}

fn put_line(to: &mut Vec<u8>, time: &str, stream: Stream, text: &str) {
    to.extend_from_slice(time.as_bytes());
    to.push(b' ');
    to.extend_from_slice(mark(stream).as_bytes());
    to.extend_from_slice(b" | ");
    // The door has cleaned the text. A line feed here would still break the log's form, so look.
    if text.bytes().any(|byte| byte < 0x20 && byte != b'\t') {
        to.extend_from_slice(clean(text.as_bytes()).as_bytes());
    } else {
        to.extend_from_slice(text.as_bytes());
    }
    to.push(b'\n');
}

struct Keeper {
    dir: PathBuf,
    journal: File,
    torn: Option<u64>,
    /// Line one is written.
    begun: bool,
    /// Told records that the disk did not take yet.
    backlog: Vec<u8>,
    /// Told records that found no room in the backlog.
    lost: u64,
    /// A sync failed. The system may have dropped the pages and will not say so again, so nothing
    /// after it is called durable.
    unsure: Option<String>,
    logs: Vec<HostLog>,
    index: HashMap<String, usize>,
    /// Hosts with waiting lines.
    pending: Vec<usize>,
    counts: HashMap<(String, String), (Timestamp, u64)>,
    /// A second and its text.
    clock: (i64, String),
    new_logs: bool,
}

impl Keeper {
    fn record(&mut self, event: &Stamped, durable: bool) -> io::Result<()> {
        if !self.begun {
            match event.event {
                Event::RunStarted { format, .. } if format == FORMAT => {}
                Event::RunStarted { format, .. } => {
                    return Err(invalid(format!("this journal is of format {FORMAT}, not {format}")));
                }
                _ => return Err(invalid("a journal begins with run_started".to_owned())),
            }
        }
        match &event.event {
            Event::Line { host, stream, text } => {
                let kept = self.line(event, host, *stream, text);
                return if durable { kept.and(self.flush_lines()).and(self.sync()) } else { kept };
            }
            Event::Progress { what, host, done, total, .. }
                if !durable && !self.due(event.at, what, host, *done, *total) =>
            {
                return Ok(());
            }
            Event::TaskEnded { seconds, .. } | Event::RunEnded { seconds, .. } if !seconds.is_finite() => {
                return Err(invalid("seconds must be a number".to_owned()));
            }
            _ => {}
        }
        let mut record = serde_json::to_vec(event)?;
        record.push(b'\n');
        let lines = self.flush_lines();
        if !durable {
            return match self.put(&record) {
                Err(error) if !self.keep(&record) => Err(error),
                _ => Ok(()),
            };
        }
        // An intent that cannot be kept must not be read by whoever takes over; a thing that
        // happened has happened, and is written as soon as there is room.
        let intent = matches!(event.event, Event::JobStarting { .. });
        if intent {
            lines?;
            self.put_durably(&record)
        } else {
            match self.put(&record) {
                Ok(_) => lines.and(self.sync()),
                Err(error) => {
                    self.keep(&record);
                    Err(error)
                }
            }
        }
    }

    fn put_durably(&mut self, record: &[u8]) -> io::Result<()> {
        let from = self.put(record)?;
        self.sync().inspect_err(|_| {
            if self.journal.set_len(from).is_err() {
                self.torn = Some(from);
            }
        })
    }

    /// Whether this count is kept: the first, then one a second, and the last.
    fn due(&mut self, at: Timestamp, what: &str, host: &str, done: u64, total: Option<u64>) -> bool {
        if self.counts.len() > 4096 {
            self.counts.clear();
        }
        let last = self.counts.entry((what.to_owned(), host.to_owned())).or_insert((Timestamp::MIN, u64::MAX));
        let full = total == Some(done) && last.1 != done;
        if full || at.duration_since(last.0).unsigned_abs() >= PROGRESS_EVERY {
            *last = (at, done);
            return true;
        }
        false
    }

    fn line(&mut self, event: &Stamped, host: &str, stream: Stream, text: &str) -> io::Result<()> {
        let time = self.time(event.at);
        self.wait(host, event.at, event.seq, text.len() + 64, 1, |waiting| put_line(waiting, &time, stream, text))
    }

    fn lines(&mut self, batch: &Batch) -> io::Result<()> {
        if !self.begun {
            return Err(invalid("a journal begins with run_started".to_owned()));
        }
        let lead = format!("{} {} | ", self.time(batch.at), mark(batch.stream));
        let size = batch.text.len() + batch.count * lead.len();
        self.wait(&batch.host, batch.at, batch.last_seq(), size, batch.count as u64, |waiting| {
            waiting.reserve(size);
            // The door has cleaned the lines, and they are cut at their line feeds.
            for line in batch.text.split_inclusive('\n') {
                waiting.extend_from_slice(lead.as_bytes());
                waiting.extend_from_slice(line.as_bytes());
            }
        })
    }

    /// A time as host logs have it; its second is put into words once.
    fn time(&mut self, at: Timestamp) -> String {
        let second = at.as_second();
        if self.clock.0 != second {
            self.clock = (second, at.strftime("%Y-%m-%dT%H:%M:%S").to_string());
        }
        format!("{}.{:03}Z", self.clock.1, at.subsec_millisecond())
    }

    /// Lets `count` lines of a host wait that `put` writes, about `size` bytes, the last of them with this time
    /// and place in the run; writes all that waits when it is enough.
    fn wait(
        &mut self,
        host: &str,
        at: Timestamp,
        seq: u64,
        size: usize,
        count: u64,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let index = match self.index.get(host) {
            Some(index) => *index,
            None => self.new_log(host),
        };
        let Some(log) = self.logs.get_mut(index) else { return Ok(()) };
        let refused_lately =
            log.refused.is_some_and(|then| at.duration_since(then).unsigned_abs() < Duration::from_secs(1));
        if log.waiting.len() + size > MOST_WAITING && refused_lately {
            log.lost += count;
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("{}: no room for further lines", log.path.display()),
            ));
        }
        if log.waiting.is_empty() {
            self.pending.push(index);
        }
        put(&mut log.waiting);
        log.last = (at, seq);
        if log.waiting.len() >= ENOUGH && !refused_lately {
            // What could not be written waits and is tried again; nothing is lost yet.
            let _ = self.flush_log(index);
            self.pending.retain(|waiting| *waiting != index);
            if self.logs.get(index).is_some_and(|log| !log.waiting.is_empty()) {
                self.pending.push(index);
            }
        }
        Ok(())
    }

    fn new_log(&mut self, host: &str) -> usize {
        let index = self.logs.len();
        self.logs.push(HostLog {
            host: host.to_owned(),
            path: log_path(&self.dir, host),
            waiting: Vec::new(),
            last: (Timestamp::UNIX_EPOCH, 0),
            lost: 0,
            torn: None,
            opened: false,
            unsynced: false,
            refused: None,
        });
        self.index.insert(host.to_owned(), index);
        self.new_logs = true;
        index
    }

    /// Writes one host's waiting lines, then their place into the journal.
    fn flush_log(&mut self, index: usize) -> io::Result<()> {
        let Some(log) = self.logs.get_mut(index).filter(|log| !log.waiting.is_empty()) else { return Ok(()) };
        let (at, seq) = log.last;
        let (from, to) = match log.write() {
            Ok(place) => place,
            Err(error) => {
                log.refused = Some(at);
                return Err(named(&error, &log.path));
            }
        };
        let event = Event::Logged { host: log.host.clone(), from, to };
        let mut record = serde_json::to_vec(&Stamped { at, seq, event })?;
        record.push(b'\n');
        match self.put(&record) {
            Err(error) if !self.keep(&record) => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes all waiting lines. Those that could not be written still wait.
    fn flush_lines(&mut self) -> io::Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_by_key(|index| self.logs.get(*index).map(|log| log.last.1));
        let mut first = Ok(());
        for index in pending {
            if let Err(error) = self.flush_log(index) {
                self.pending.push(index);
                first = first.and(Err(error));
            }
        }
        first
    }

    /// Adds a record to the journal, behind those that waited. Returns where it begins.
    fn put(&mut self, record: &[u8]) -> io::Result<u64> {
        let mut batch = std::mem::take(&mut self.backlog);
        let waited = batch.len();
        if self.lost > 0 {
            let text = format!("{} events are missing here: the journal's disk was full", self.lost);
            let at = Timestamp::now();
            let event = Stamped { at, seq: 0, event: Event::Warning { host: None, text } };
            serde_json::to_writer(&mut batch, &event)?;
            batch.push(b'\n');
        }
        let before = batch.len() as u64;
        batch.extend_from_slice(record);
        match append(&self.journal, &mut self.torn, &batch) {
            Ok(from) => {
                self.lost = 0;
                self.begun = true;
                Ok(from + before)
            }
            Err(error) => {
                batch.truncate(waited);
                self.backlog = batch;
                Err(named(&error, &self.dir.join(FILE)))
            }
        }
    }

    /// Lets a record wait in memory; false when there is no room.
    fn keep(&mut self, record: &[u8]) -> bool {
        let room = self.backlog.len() + record.len() <= MOST_WAITING;
        if room {
            self.backlog.extend_from_slice(record);
            // Line one is in the backlog: what follows it may wait behind it.
            self.begun = true;
        } else {
            self.lost += 1;
        }
        room
    }

    /// Waits until the disk has everything: host logs, then the journal.
    fn sync(&mut self) -> io::Result<()> {
        if let Some(text) = &self.unsure {
            return Err(io::Error::other(text.clone()));
        }
        let path = self.dir.join(FILE);
        // A journal that was removed or replaced holds nothing for anybody.
        let (here, ours) = (std::fs::metadata(&path).map_err(|error| named(&error, &path))?, self.journal.metadata()?);
        if (here.dev(), here.ino()) != (ours.dev(), ours.ino()) {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{}: was replaced by another file", path.display()),
            ));
        }
        let synced = self.sync_all();
        if let Err(error) = &synced {
            self.unsure = Some(error.to_string());
        }
        synced
    }

    fn sync_all(&mut self) -> io::Result<()> {
        for log in self.logs.iter_mut().filter(|log| log.unsynced) {
            File::open(&log.path).and_then(|file| file.sync_data()).map_err(|error| named(&error, &log.path))?;
            log.unsynced = false;
        }
        if self.new_logs {
            sync_dir(&self.dir.join(HOSTS))?;
            self.new_logs = false;
        }
        self.journal.sync_data().map_err(|error| named(&error, &self.dir.join(FILE)))
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The file of a host's log: `hosts/HOST.log`. Two hosts never share one: letters, digits, `_`,
/// `-`, and `.` after the first character stand as they are, every other byte as `%XX`; a name that is too long
/// for a file is cut and gets a digest.
pub fn log_path(dir: &Path, host: &str) -> PathBuf {
    let mut name = String::new();
    for c in host.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || (c == '.' && !name.is_empty()) {
            name.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                name.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    if name.is_empty() {
        name.push('%');
    }
    if name.len() > 200 {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(host.as_bytes());
        name.truncate(160);
        name.push('%');
        name.extend(digest.iter().take(16).map(|byte| format!("{byte:02x}")));
    }
    dir.join(HOSTS).join(format!("{name}.log"))
}

/// One line of a host's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was heard, to the millisecond.
    pub at: Timestamp,
    /// Where it came from.
    pub stream: Stream,
    /// The line.
    pub text: String,
}

/// Reads bytes `from..to` of a host's log, the place that an [`Event::Logged`] names. What a crash
/// took from the log's end is simply not there.
///
/// # Errors
/// The log cannot be read.
pub fn log_lines(dir: &Path, host: &str, from: u64, to: u64) -> io::Result<Vec<LogLine>> {
    let mut lines = Vec::new();
    each_log_line(dir, host, from, to, &mut |line| lines.push(line))?;
    Ok(lines)
}

/// As [`log_lines`], one line after the other: however long the log is, one line is in memory.
///
/// # Errors
/// As [`log_lines`].
pub fn each_log_line(dir: &Path, host: &str, from: u64, to: u64, hear: &mut dyn FnMut(LogLine)) -> io::Result<()> {
    let path = log_path(dir, host);
    let mut file = File::open(&path).map_err(|error| named(&error, &path))?;
    file.seek(SeekFrom::Start(from))?;
    for line in BufReader::new(file.take(to.saturating_sub(from))).split(b'\n') {
        if let Some(line) = parse_line(&String::from_utf8_lossy(&line?)) {
            hear(line);
        }
    }
    Ok(())
}

fn parse_line(line: &str) -> Option<LogLine> {
    let (at, rest) = line.split_once(' ')?;
    let (mark, text) = rest.split_at_checked(6)?;
    let stream = match mark {
        "out | " => Stream::Out,
        "err | " => Stream::Err,
        "log | " => Stream::Log,
        "us  | " => Stream::Us,
        _ => return None,
    };
    Some(LogLine { at: at.parse().ok()?, stream, text: text.to_owned() })
}

/// All of a journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    /// The events, in order.
    pub events: Vec<Stamped>,
    /// True when the last line was not finished: ferry or the machine died while it was written.
    pub torn: bool,
    /// Events of a kind that this ferry does not know; a newer one of the same format wrote them.
    pub unknown: u64,
}

/// Reads a journal whole. Large ones are better read event by event ([`Reader`]).
///
/// # Errors
/// As [`Reader`].
pub fn read(path: &Path) -> Result<Contents, Failure> {
    let mut reader = Reader::open(path)?;
    let events = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
    Ok(Contents { events, torn: reader.torn, unknown: reader.unknown })
}

/// Reads a journal event by event, in constant memory.
///
/// An unfinished last line is left out and told by [`torn`](Self::torn). A finished line that is no
/// event, a first line that is not `run_started` and a newer format are errors with their place;
/// after one nothing more comes.
#[derive(Debug)]
pub struct Reader {
    name: String,
    file: BufReader<File>,
    line: usize,
    torn: bool,
    unknown: u64,
    ended: bool,
}

impl Reader {
    /// Opens a journal.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| {
            Failure::new(Kind::CouldNotStart, "the run's journal cannot be read").saw(format!("{name}: {error}"))
        })?;
        Ok(Self {
            name,
            file: BufReader::with_capacity(64 << 10, file),
            line: 0,
            torn: false,
            unknown: 0,
            ended: false,
        })
    }

    /// True when the end was reached and the last line was not finished.
    pub fn torn(&self) -> bool {
        self.torn
    }

    /// How many events of unknown kinds were left out so far.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    fn step(&mut self) -> Result<Option<Stamped>, Failure> {
        loop {
            let mut bytes = Vec::new();
            let read = self.file.by_ref().take(LONGEST_RECORD).read_until(b'\n', &mut bytes);
            read.map_err(|error| {
                Failure::new(Kind::CouldNotStart, "the run's journal cannot be read")
                    .saw(format!("{}: {error}", self.name))
            })?;
            if bytes.is_empty() {
                return Ok(None);
            }
            self.line += 1;
            if bytes.pop_if(|byte| *byte == b'\n').is_none() {
                if bytes.len() as u64 >= LONGEST_RECORD {
                    return Err(self.damage("", 1, "the line is longer than any event"));
                }
                self.torn = true;
                return Ok(None);
            }
            let text = std::str::from_utf8(&bytes).map_err(|error| {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let good = String::from_utf8_lossy(good).into_owned();
                self.damage(&good, good.chars().count() + 1, "the line is not UTF-8")
            })?;
            if let Some(event) = self.parse(text)? {
                return Ok(Some(event));
            }
        }
    }

    fn parse(&mut self, text: &str) -> Result<Option<Stamped>, Failure> {
        if self.line == 1 || text.contains("\"run_started\"") {
            self.check_format(text)?;
        }
        let error = match serde_json::from_str::<Stamped>(text) {
            Ok(event) => return Ok(Some(event)),
            Err(error) => error,
        };
        // A kind of event that was added later within this format is no damage.
        if let Ok(serde_json::Value::Object(map)) = serde_json::from_str(text)
            && let Some(serde_json::Value::String(kind)) = map.get("event")
            && map.get("seq").is_some_and(serde_json::Value::is_u64)
            && map.get("at").is_some_and(serde_json::Value::is_string)
            && !KINDS.contains(&kind.as_str())
        {
            self.unknown += 1;
            return Ok(None);
        }
        let column = text.get(..error.column().saturating_sub(1)).map_or(1, |before| before.chars().count() + 1);
        Err(self.damage(text, column, &error.to_string()))
    }

    fn check_format(&self, text: &str) -> Result<(), Failure> {
        let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let format = match value.get("event").and_then(serde_json::Value::as_str) {
            Some("run_started") => value.get("format").and_then(serde_json::Value::as_u64),
            // Only line one must be run_started; elsewhere the words stood in some text.
            _ if self.line > 1 => return Ok(()),
            _ => None,
        };
        match format {
            Some(format) if format <= u64::from(FORMAT) => Ok(()),
            Some(format) => {
                let by = value.get("ferry").and_then(serde_json::Value::as_str).unwrap_or("a newer version");
                Err(Failure::new(Kind::CouldNotStart, format!("this journal is of format {format}"))
                    .at(Place { file: self.name.clone(), line: self.line, column: 1 })
                    .saw(format!("written by ferry {}", clean(by.as_bytes())))
                    .why(format!("this ferry reads formats up to {FORMAT} and would misread a newer one"))
                    .mend("read it with the ferry that wrote it, or a newer one"))
            }
            None => Err(self.damage(text, 1, "a journal begins with run_started and its format")),
        }
    }

    fn damage(&self, text: &str, column: usize, seen: &str) -> Failure {
        let shown: String = text.chars().skip(column.saturating_sub(61)).take(120).collect();
        let column_shown = column.saturating_sub(column.saturating_sub(61)).max(1);
        let lead = self.line.to_string();
        let caret = format!("{:>width$} | {}^", "", " ".repeat(column_shown - 1), width = lead.len());
        let mut failure = Failure::new(Kind::CouldNotStart, "the run's journal is damaged")
            .at(Place { file: self.name.clone(), line: self.line, column })
            .saw(clean(seen.as_bytes()))
            .why("every finished line of a journal is one event; only the last may be cut off by a crash")
            .mend("put the file back from a copy, or remove the run's folder");
        failure.snippet = Some(format!("{lead} | {}\n{caret}", clean(shown.replace('\t', " ").as_bytes())));
        failure
    }
}

impl Iterator for Reader {
    type Item = Result<Stamped, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step().transpose();
        self.ended = !matches!(step, Some(Ok(_)));
        step
    }
}

/// The kinds of event that this ferry knows, as the journal spells them.
pub const KINDS: [&str; 29] = [
    "run_started",
    "plan",
    "play_started",
    "task_started",
    "task_ended",
    "item_ended",
    "retrying",
    "included",
    "no_hosts",
    "no_hosts_left",
    "statistics",
    "polled",
    "rescued",
    "line",
    "logged",
    "progress",
    "found",
    "note",
    "warning",
    "job_starting",
    "asking",
    "answered",
    "job_state",
    "job_cleaned",
    "verified",
    "sealed",
    "summary",
    "failed",
    "run_ended",
];

/// One job of a run, as the run last saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobSummary {
    /// Job id.
    pub job: String,
    /// The node.
    pub host: String,
    /// What kind of job (`gravity_backup`, …).
    pub kind: String,
    /// Its last state; `starting` when none was seen.
    pub state: String,
    /// Its directory on the node was removed.
    pub cleaned: bool,
}

/// The short account of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// Run id.
    pub id: String,
    /// The command line.
    pub command: Vec<String>,
    /// Who started it.
    pub user: String,
    /// On which machine.
    pub machine: String,
    /// First event's time.
    pub started: Option<Timestamp>,
    /// Last line's time, when the run came to its end.
    pub ended: Option<Timestamp>,
    /// The exit code, when the run came to its end.
    pub exit: Option<u8>,
    /// A ferry has this journal open now.
    pub live: bool,
    /// The cluster it was about.
    pub cluster: Option<String>,
    /// The recovery point it was making.
    pub point: Option<String>,
    /// The point was sealed with this verdict.
    pub verdict: Option<String>,
    /// Its jobs, in order of start.
    pub jobs: Vec<JobSummary>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// The journal's last line was cut off by a crash.
    pub torn: bool,
    /// The run that this one carried on.
    pub resumes: Option<String>,
}

impl RunSummary {
    /// One word for a listing: `running`, `broken off`, or the exit code's.
    pub fn state(&self) -> &'static str {
        match self.exit {
            Some(0) => "done",
            Some(8) => "open",
            Some(7) => "refused",
            Some(99) => "interrupted",
            Some(_) => "failed",
            None if self.live => "running",
            None => "broken off",
        }
    }
}

/// Holds the journal of a run that is over, so that no second ferry carries it on at the same time: until the
/// file is dropped the run counts as going on.
///
/// # Errors
/// [`io::ErrorKind::ResourceBusy`] when another ferry writes or holds it; else the disk's own.
pub fn hold(dir: &Path) -> io::Result<File> {
    let file = File::open(dir.join(FILE))?;
    lock(&file)?;
    Ok(file)
}

/// True while a ferry has this journal open, or holds it.
pub fn is_live(journal: &Path) -> bool {
    File::open(journal).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The short account of the run in this folder.
///
/// # Errors
/// As [`Reader`].
pub fn summarise(dir: &Path) -> Result<RunSummary, Failure> {
    let path = dir.join(FILE);
    let mut reader = Reader::open(&path)?;
    let mut run = RunSummary {
        id: dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        command: Vec::new(),
        user: String::new(),
        machine: String::new(),
        started: None,
        ended: None,
        exit: None,
        live: is_live(&path),
        cluster: None,
        point: None,
        verdict: None,
        jobs: Vec::new(),
        failures: Vec::new(),
        torn: false,
        resumes: None,
    };
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for event in reader.by_ref() {
        let Stamped { at, event, .. } = event?;
        let job_of = |jobs: &mut Vec<JobSummary>, change: &mut dyn FnMut(&mut JobSummary), job: &str| {
            if let Some(job) = places.get(job).and_then(|at| jobs.get_mut(*at)) {
                change(job);
            }
        };
        match event {
            Event::RunStarted { run: id, command, user, machine, resumes, .. } => {
                // A run that was carried on has several: the first says how it began, and it is
                // over when the last of them is.
                if run.started.is_none() {
                    (run.id, run.command, run.user, run.machine, run.started) = (id, command, user, machine, Some(at));
                    run.resumes = resumes;
                }
                (run.ended, run.exit) = (None, None);
            }
            Event::JobStarting { job, host, kind, cluster, point, .. } => {
                if !cluster.is_empty() {
                    run.cluster = Some(cluster);
                }
                if !point.is_empty() {
                    run.point = Some(point);
                }
                let summary = JobSummary { job: job.clone(), host, kind, state: "starting".to_owned(), cleaned: false };
                places.insert(job, run.jobs.len());
                run.jobs.push(summary);
            }
            Event::JobState { job, host, state, .. } => {
                if places.contains_key(&job) {
                    job_of(&mut run.jobs, &mut |seen| seen.state.clone_from(&state), &job);
                } else {
                    // Taken over from another run: this journal has no start of it.
                    places.insert(job.clone(), run.jobs.len());
                    run.jobs.push(JobSummary { job, host, kind: String::new(), state, cleaned: false });
                }
            }
            Event::JobCleaned { job, .. } => job_of(&mut run.jobs, &mut |seen| seen.cleaned = true, &job),
            Event::Verified { point, .. } => run.point = Some(point),
            Event::Sealed { cluster, point, verdict, .. } => {
                (run.cluster, run.point, run.verdict) = (Some(cluster), Some(point), Some(verdict));
            }
            Event::Failed { failure } => run.failures.push(failure),
            Event::RunEnded { exit, .. } => (run.ended, run.exit) = (Some(at), Some(exit)),
            _ => {}
        }
    }
    run.torn = reader.torn();
    Ok(run)
}

/// The runs in a folder of runs, newest first. A run whose journal cannot be read stands as its
/// folder and its failure. A missing folder holds no runs.
///
/// # Errors
/// The folder cannot be read.
pub fn list(runs: &Path) -> io::Result<Vec<(PathBuf, Result<RunSummary, Failure>)>> {
    let entries = match std::fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(named(&error, runs)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.join(FILE).is_file() {
            folders.push(path);
        }
    }
    let mut all: Vec<_> = folders.into_iter().map(|dir| (dir.clone(), summarise(&dir))).collect();
    // Ids begin with their second; within one the journal says which was first.
    all.sort_by_cached_key(|(dir, run)| (second(dir), run.as_ref().ok().and_then(|run| run.started), dir.clone()));
    all.reverse();
    Ok(all)
}

/// The second in which a run began, by its folder's name.
fn second(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().chars().take(16).collect()
}

/// The folder of the run that began last.
pub fn newest(runs: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().filter_map(Result::ok);
    let all: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.join(FILE).is_file()).collect();
    let last = all.iter().map(|dir| second(dir)).max()?;
    let started = |dir: &PathBuf| summarise(dir).ok().and_then(|run| run.started);
    all.into_iter().filter(|dir| second(dir) == last).max_by_key(|dir| (started(dir), dir.clone()))
}
