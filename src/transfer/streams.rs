//! The two ends of one stream of bytes: what a span is read from, and what it is written to.
//!
//! Both are bounded: a sink that is slow holds up the loop that feeds it, which stops reading its source, whose window
//! then stays closed. Nothing is kept beside what is on the way.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::sync::{mpsc, watch};

use super::batch::Batches;
use super::disk::Disk;
use super::ends::{End, mark, meant, script};
use super::prove::{Landed, Side, Stand, path_here};
use super::slab::Pool;
use super::thread;
use crate::failure::{Failure, Kind};
use crate::remote::ssh::connect::Lane;
use crate::remote::{Child, Exit, Piece, Session};

/// Pieces that are read here, in bytes.
const PIECE: usize = 256 << 10;
/// So many pieces of a file here are read ahead, on each stream.
const AHEAD: usize = 4;
/// So many bytes are copied at once into a file whose disk is memory: they fit the processor's cache.
const COPIED: usize = 128 << 10;
/// So many wait for their turn.
const HELD: usize = 1 << 20;
/// So long a piece may take to be taken over before the link counts as dead.
const STALL: Duration = Duration::from_secs(60);
/// The slowest disk that is waited for where a source has to be read up to the first byte, in bytes a second.
const SLOWEST: u64 = 20 << 20;

/// The source is another file than it was. What was read of it is of no use.
pub(super) const CHANGED: &str = "the source changed while it was read";

pub(super) fn changed(end: &End, before: &str, after: &str) -> Failure {
    Failure::new(Kind::Failed, CHANGED)
        .on(end.host())
        .saw(format!("size, inode, device, mtime, ctime before: {before}; after: {after}"))
        .why("something else writes to it: a copy of it would be neither the one nor the other")
        .mend("wait until it is finished, and start again")
}

fn lost(end: &End, why: impl Into<String>) -> Failure {
    Failure::new(Kind::Unreachable, "the connection was lost while the bytes were on their way")
        .on(end.host())
        .saw(why)
        .again()
}

/// Reads what a host says until it is ready. Gives what stands behind its word, and leaves the rest unread.
pub(super) async fn ready(end: &End, child: &mut Child, mark: &str, limit: Duration) -> Result<String, Failure> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        match tokio::time::timeout_at(deadline, child.next()).await {
            Err(_) => return Err(lost(end, format!("no answer for {} s", limit.as_secs()))),
            Ok(Some(Piece::Out(bytes))) => out.extend_from_slice(&bytes),
            Ok(Some(Piece::Err(bytes))) => err.extend_from_slice(&bytes),
            Ok(None) => {
                let exit = child.exit().await;
                let said = String::from_utf8_lossy(&out).into_owned();
                let word = said.lines().find_map(|line| meant(line, mark)).map_or("", |(word, _)| word).to_owned();
                return Err(match (exit, word.as_str()) {
                    (Exit::Lost(why), _) => lost(end, why),
                    (_, "taken") => Failure::new(Kind::Refused, "another transfer to the same place has taken over")
                        .on(end.host())
                        .why("two that write one file would make neither"),
                    (_, "gone") => changed(end, "a regular file", "none"),
                    (_, "unseekable") => end.failed("the dd there does not seek", &said),
                    (_, "busy") => lost(end, "an earlier connection still writes there and cannot be ended"),
                    (exit, _) => end.failed(
                        "the host could not begin the stream",
                        &format!("{exit}; {said}{}", String::from_utf8_lossy(&err)),
                    ),
                });
            }
        }
        let Some(at) = out.windows(mark.len()).position(|window| window == mark.as_bytes()) else {
            if out.len() + err.len() > 64 << 10 {
                return Err(end.failed("the host said something else than it should", ""));
            }
            continue;
        };
        let Some(length) = out.iter().skip(at).position(|byte| *byte == b'\n') else { continue };
        let line = String::from_utf8_lossy(out.get(at..at + length).unwrap_or_default()).into_owned();
        // What is no word of readiness ends the script: its exit says more.
        if let Some(("ready", rest)) = meant(&line, mark) {
            let rest = rest.to_owned();
            let behind = out.split_off(at + length + 1);
            child.unread(Piece::Out(behind.into()));
            return Ok(rest);
        }
    }
}

/// Where a span's bytes come from.
pub(super) enum Feed {
    Host { end: End, session: Session, child: Box<Child>, mark: String, identity: String, left: u64, silence: Duration },
    Here { end: End, pieces: mpsc::Receiver<std::io::Result<Bytes>>, left: u64 },
}

impl Feed {
    /// Opens the bytes from `from` to `to`.
    pub(super) async fn open(
        end: &End,
        identity: &str,
        from: u64,
        to: u64,
        lane: Lane,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let left = to - from;
        if end.is_here() {
            let path = path_here(end, Side::Source);
            let (sender, pieces) = mpsc::channel(AHEAD);
            let failed = |error: std::io::Error| end.failed("the file could not be read", &error.to_string());
            let mut file =
                std::fs::OpenOptions::new().read(true).custom_flags(no_follow()).open(path).map_err(failed)?;
            file.seek(SeekFrom::Start(from)).map_err(failed)?;
            thread("ferry-read", move || read_here(file, left, &sender))?;
            return Ok(Self::Here { end: end.clone(), pieces, left });
        }
        let session = end.way().connect(lane).await?;
        let mark = mark();
        let values = [("O", from.to_string()), ("L", left.to_string())];
        let mut child = session.open_root(&script(end, &mark, &values, "source_read")?).await?;
        child.close_input().await;
        let silence = (patience / 4).max(Duration::from_secs(5));
        let seen = ready(end, &mut child, &mark, silence).await?;
        if seen != identity {
            return Err(changed(end, identity, &seen));
        }
        let silence = silence + Duration::from_secs(from / SLOWEST);
        let (end, identity) = (end.clone(), identity.to_owned());
        Ok(Self::Host { end, session, child: Box::new(child), mark, identity, left, silence })
    }

    /// The next bytes; `None` when all have come and the source says that it is still the same file.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Here { end, pieces, left } => match pieces.recv().await {
                Some(Ok(piece)) => {
                    *left -= (piece.len() as u64).min(*left);
                    Ok(Some(piece))
                }
                Some(Err(error)) => Err(end.failed("the file could not be read", &error.to_string())),
                None if *left == 0 => Ok(None),
                None => Err(changed(end, "its whole size", &format!("it ends {left} bytes earlier"))),
            },
            Self::Host { end, session, child, mark, identity, left, silence } => {
                let mut tail = Vec::new();
                let mut said = Vec::new();
                let deadline = tokio::time::Instant::now() + *silence;
                loop {
                    // Only bytes of the file are progress: a host that complains for ever is silent as well.
                    let Ok(piece) = tokio::time::timeout_at(deadline, child.next()).await else {
                        return Err(lost(
                            end,
                            format!("nothing came for {} s, so the disk there may hang", silence.as_secs()),
                        ));
                    };
                    match piece {
                        Some(Piece::Out(mut bytes)) => {
                            if *left > 0 {
                                let behind =
                                    bytes.split_off(bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
                                *left -= bytes.len() as u64;
                                child.unread(Piece::Out(behind));
                                return Ok(Some(bytes));
                            }
                            tail.extend_from_slice(&bytes);
                            if tail.len() > 64 << 10 {
                                return Err(end.failed("the host sends more bytes than the file has", ""));
                            }
                        }
                        Some(Piece::Err(bytes)) => {
                            if said.len() < 4096 {
                                said.extend_from_slice(&bytes);
                            }
                        }
                        None => {
                            let exit = child.exit().await;
                            session.close().await;
                            let tail = String::from_utf8_lossy(&tail).into_owned();
                            let after =
                                meant(tail.trim_end(), mark).filter(|(word, _)| *word == "end").map(|(_, rest)| rest);
                            return match (exit, after) {
                                (Exit::Lost(why), _) => Err(lost(end, why)),
                                (Exit::Code(0), Some(after)) if after != identity => Err(changed(end, identity, after)),
                                (Exit::Code(0), Some(_)) if *left == 0 => Ok(None),
                                // The script's last word was taken for the file's.
                                (Exit::Code(0), _) => {
                                    Err(changed(end, identity, &format!("it ends some {left} bytes earlier")))
                                }
                                (exit, _) => Err(end.failed(
                                    "the file could not be read there",
                                    &format!("{exit}; {left} bytes did not come; {}", String::from_utf8_lossy(&said)),
                                )),
                            };
                        }
                    }
                }
            }
        }
    }
}

fn no_follow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

fn read_here(mut file: std::fs::File, mut left: u64, to: &mpsc::Sender<std::io::Result<Bytes>>) {
    let pool = Pool::new(PIECE);
    while left > 0 {
        let mut slab = pool.slab(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match file.read(slab.room()) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = to.blocking_send(Err(error));
                return;
            }
        };
        slab.holds(count);
        left -= count as u64;
        if to.blocking_send(Ok(slab.freeze())).is_err() {
            return;
        }
    }
}

/// The part that several sinks may write to. Cheap to clone.
#[derive(Clone)]
pub(super) struct Part {
    made: watch::Receiver<bool>,
    /// Whose turn it is to write to it here: the kernel lets one in at a time, and burns the processor of who waits for it.
    turn: Arc<Mutex<()>>,
}

impl Part {
    /// One that is made when the other end says so.
    pub(super) fn new() -> (watch::Sender<bool>, Self) {
        let (tell, made) = watch::channel(false);
        (tell, Self { made, turn: Arc::default() })
    }

    /// One that is made.
    pub(super) fn made() -> Self {
        Self { made: watch::channel(true).1, turn: Arc::default() }
    }

    async fn is_made(&mut self) {
        let _ = self.made.wait_for(|made| *made).await;
    }
}

/// What is written to a part whose disk is memory. The thread that received the bytes has them in its processor's cache: it copies them
/// itself, many at a time.
pub(super) struct Sheet {
    file: Disk,
    held: Vec<Bytes>,
    bytes: usize,
    at: u64,
    turn: Arc<Mutex<()>>,
}

impl Sheet {
    /// Takes a piece, and keeps it while it is another's turn.
    fn take(&mut self, piece: Bytes) -> std::io::Result<()> {
        self.bytes += piece.len();
        self.held.push(piece);
        match self.bytes {
            ..COPIED => Ok(()),
            COPIED..HELD => {
                let turn = Arc::clone(&self.turn);
                match turn.try_lock() {
                    Err(TryLockError::WouldBlock) => Ok(()),
                    _turn => self.write(),
                }
            }
            _ => self.flush(),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let turn = Arc::clone(&self.turn);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.write()
    }

    fn write(&mut self) -> std::io::Result<()> {
        self.file.write_all_at(self.at, &self.held)?;
        self.at += self.bytes as u64;
        self.bytes = 0;
        self.held.clear();
        Ok(())
    }
}

/// Where a span's bytes go.
pub(super) enum Sink {
    Host { end: End, session: Session, child: Box<Child>, mark: String, writer: u32, at: u64 },
    Here { end: End, to: Writer, stand: Stands, at: u64 },
}

/// What is told of a sink's progress here, until it is gone.
pub(super) struct Stands(Arc<Stand>);

impl Drop for Stands {
    fn drop(&mut self) {
        self.0.is_over();
    }
}

/// Who writes a file here.
pub(super) enum Writer {
    /// A thread, which waits for the disk.
    Thread { pieces: Option<Batches<Bytes>>, thread: Option<std::thread::JoinHandle<std::io::Result<u64>>> },
    /// Ourselves.
    Sheet(Sheet),
}

impl Sink {
    /// Opens the part at byte `from`, or further on where an earlier writer of this span is known to have stood, `to` at
    /// most. [`Sink::at`] tells. The connection is made at once; nothing there is touched before `part` says that it is made.
    pub(super) async fn open(
        end: &End,
        header: &str,
        span: &str,
        from: u64,
        to: u64,
        mut part: Part,
    ) -> Result<Self, Failure> {
        if end.is_here() {
            part.is_made().await;
            let failed = |error: std::io::Error| end.failed("the part could not be opened", &error.to_string());
            let mut file = Disk::open(&path_here(end, Side::Target), true).map_err(failed)?;
            let stand = Arc::new(Stand::default());
            stand.is_at(from);
            let to = if file.in_memory() {
                Writer::Sheet(Sheet { file, held: Vec::new(), bytes: 0, at: from, turn: part.turn })
            } else {
                let (pieces, taken) = Batches::new();
                let stand = Arc::clone(&stand);
                let thread = thread("ferry-write", move || write_here(&mut file, from, taken, &stand))?;
                Writer::Thread { pieces: Some(pieces), thread: Some(thread) }
            };
            return Ok(Self::Here { end: end.clone(), to, stand: Stands(stand), at: from });
        }
        let session = end.way().connect(Lane::Bulk).await?;
        part.is_made().await;
        let mark = mark();
        let values = [("H", header.to_owned()), ("S", span.to_owned()), ("O", from.to_string()), ("X", to.to_string())];
        let mut child = session.open_root(&script(end, &mark, &values, "target_write")?).await?;
        let said = ready(end, &mut child, &mark, STALL).await?;
        let (writer, at) = said.split_once(' ').unwrap_or_default();
        match (writer.parse(), at.parse::<u64>()) {
            (Ok(writer), Ok(at)) if (from..=to).contains(&at) => {
                Ok(Self::Host { end: end.clone(), session, child: Box::new(child), mark, writer, at })
            }
            _ => Err(end.failed("the host said something else than it should", &said)),
        }
    }

    /// The byte that it begins at.
    pub(super) fn at(&self) -> u64 {
        match self {
            Self::Host { at, .. } | Self::Here { at, .. } => *at,
        }
    }

    /// What tells that bytes have arrived.
    pub(super) fn landed(&self) -> Landed {
        match self {
            Self::Host { writer, .. } => Landed::Writer(*writer),
            Self::Here { stand, .. } => Landed::Here(Arc::clone(&stand.0)),
        }
    }

    /// Hands bytes over; waits while they are not taken.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        match self {
            Self::Host { end, child, .. } => match tokio::time::timeout(STALL, child.write_bytes(bytes)).await {
                Ok(Err(failure)) => Err(failure),
                Ok(Ok(())) => Ok(()),
                Err(_) => Err(lost(end, format!("nothing was taken for {} s", STALL.as_secs()))),
            },
            Self::Here { end, to: Writer::Sheet(sheet), stand, .. } => {
                sheet.take(bytes).map_err(|error| unwritten(end, &error))?;
                stand.0.is_at(sheet.at);
                Ok(())
            }
            Self::Here { end, to: Writer::Thread { pieces, .. }, .. } => {
                let count = bytes.len();
                let sent = match pieces {
                    Some(pieces) => pieces.give(bytes, count).await,
                    None => false,
                };
                if sent { Ok(()) } else { Err(end.failed("the part could not be written", "the writer ended").again()) }
            }
        }
    }

    /// Says that no more comes. Where the writer stood at last: all up to there has arrived.
    pub(super) async fn finish(&mut self) -> Result<u64, Failure> {
        match self {
            Self::Here { end, to: Writer::Sheet(sheet), stand, .. } => {
                sheet.flush().map_err(|error| unwritten(end, &error))?;
                stand.0.is_at(sheet.at);
                Ok(sheet.at)
            }
            Self::Here { end, to: Writer::Thread { pieces, thread }, at, .. } => {
                // Its thread says itself why it takes no more.
                if let Some(mut pieces) = pieces.take() {
                    pieces.flush().await;
                }
                if let Some(thread) = thread.take() {
                    let wrote = tokio::task::spawn_blocking(move || thread.join()).await;
                    *at = match wrote {
                        Ok(Ok(wrote)) => wrote.map_err(|error| unwritten(end, &error))?,
                        _ => return Err(Failure::new(Kind::Bug, "a thread of the transfer panicked")),
                    };
                }
                Ok(*at)
            }
            Self::Host { end, session, child, mark, .. } => {
                child.close_input().await;
                let (mut out, mut err) = (Vec::new(), Vec::new());
                let rest = async {
                    while let Some(piece) = child.next().await {
                        let (kept, bytes) = match piece {
                            Piece::Out(bytes) => (&mut out, bytes),
                            Piece::Err(bytes) => (&mut err, bytes),
                        };
                        if kept.len() < 64 << 10 {
                            kept.extend_from_slice(&bytes);
                        }
                    }
                    child.exit().await
                };
                // The last of it may wait for a slow disk.
                let exit = tokio::time::timeout(STALL * 2, rest).await.map_err(|_| lost(end, "no answer"))?;
                session.close().await;
                let out = String::from_utf8_lossy(&out).into_owned();
                let at = out.lines().find_map(|line| meant(line, mark).filter(|(word, _)| *word == "end"));
                let at = at.and_then(|(_, rest)| rest.split_once(' ')).and_then(|(_, at)| at.parse::<u64>().ok());
                match (exit, at) {
                    (Exit::Code(0), Some(at)) => Ok(at),
                    (Exit::Lost(why), _) => Err(lost(end, why)),
                    // Ended from outside: what it had written is asked anew.
                    (Exit::Signal(name), _) => Err(lost(end, format!("the writer there was ended by {name}"))),
                    (Exit::Code(code), None) if code > 128 => {
                        Err(lost(end, format!("the writer there was ended: exit code {code}")))
                    }
                    (exit, _) => Err(end.failed(
                        "the host could not write the file",
                        &format!("{exit}; {}", String::from_utf8_lossy(&err)),
                    )),
                }
            }
        }
    }
}

/// Why a file here was not written, a full disk by the words that all say of one.
fn unwritten(end: &End, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let full = matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge);
    let said = if full { format!("No space left: {error}") } else { error.to_string() };
    end.failed("the part could not be written", &said)
}

/// Writes what comes from byte `at` on, in pieces that the disk takes without the kernel's page cache where it can.
fn write_here(
    file: &mut Disk,
    mut at: u64,
    mut pieces: mpsc::Receiver<Vec<Bytes>>,
    stand: &Stand,
) -> std::io::Result<u64> {
    let pool = Pool::new(super::PIECE);
    // Up to where a whole one begins.
    let room = |at: u64| super::PIECE - usize::try_from(at % super::PIECE as u64).unwrap_or_default();
    let mut slab = pool.slab(room(at));
    loop {
        let batch = pieces.blocking_recv();
        let last = batch.is_none();
        // The last of it fills no whole one.
        for mut piece in batch.unwrap_or_else(|| vec![Bytes::new()]) {
            loop {
                piece.advance(slab.take(&piece));
                if slab.len() > 0 && (slab.is_full() || last) {
                    file.write_at(at, slab.as_ref())?;
                    at += slab.len() as u64;
                    stand.is_at(at);
                    slab = pool.slab(room(at));
                }
                if piece.is_empty() {
                    break;
                }
            }
        }
        if last {
            return Ok(at);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sheets(path: &std::path::Path, write: bool) -> [Sheet; 2] {
        let (_, part) = Part::new();
        [0, 2 * HELD as u64].map(|at| Sheet {
            file: Disk::open(path, write).unwrap(),
            held: Vec::new(),
            bytes: 0,
            at,
            turn: Arc::clone(&part.turn),
        })
    }

    /// While another writes a sheet keeps what it is given, and no more than it may.
    #[test]
    fn two_that_write_one_file_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part");
        std::fs::write(&path, []).unwrap();
        let [mut first, mut second] = sheets(&path, true);
        let piece = |byte: u8| Bytes::from(vec![byte; 48 << 10]);
        first.take(piece(1)).unwrap();
        first.take(piece(2)).unwrap();
        assert_eq!((first.at, std::fs::metadata(&path).unwrap().len()), (0, 0), "too little for a copy");
        first.take(piece(3)).unwrap();
        assert_eq!((first.at, std::fs::metadata(&path).unwrap().len()), (144 << 10, 144 << 10));

        let turn = Arc::clone(&first.turn);
        let held = turn.lock().unwrap();
        while second.bytes + (48 << 10) < HELD {
            second.take(piece(4)).unwrap();
        }
        assert_eq!((second.at, std::fs::metadata(&path).unwrap().len()), (2 * HELD as u64, 144 << 10));
        let waits = std::thread::spawn(move || {
            second.take(piece(5)).unwrap();
            second
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waits.is_finished(), "it wrote in another's turn");
        drop(held);
        let second = waits.join().unwrap();
        let end = 2 * HELD + 22 * (48 << 10);
        assert_eq!((second.at, second.bytes, second.held.len()), (end as u64, 0, 0));
        let all = std::fs::read(&path).unwrap();
        let counts = [1, 2, 3, 4, 5].map(|byte| all.iter().filter(|one| **one == byte).count() / (48 << 10));
        assert_eq!((all.len(), counts, all.last()), (end, [1, 1, 1, 21, 1], Some(&5)));
    }

    /// What was not written is told, and is not counted as written.
    #[test]
    fn what_cannot_be_written_is_told_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part");
        std::fs::write(&path, []).unwrap();
        let [mut sheet, _] = sheets(&path, false);
        sheet.flush().unwrap();
        let error = sheet.take(vec![7; COPIED].into()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()), "{error}");
        assert_eq!(sheet.flush().unwrap_err().kind(), error.kind());
        assert_eq!((sheet.at, sheet.bytes), (0, COPIED));
    }

    #[test]
    fn a_full_disk_has_one_name() {
        let end = End { place: super::super::ends::Place::Here, path: "/x".to_owned() };
        let told = |kind: std::io::ErrorKind| unwritten(&end, &kind.into()).why.unwrap_or_default();
        for kind in
            [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded, std::io::ErrorKind::FileTooLarge]
        {
            assert!(told(kind).contains("disk there is full"), "{kind}");
        }
        assert_eq!(told(std::io::ErrorKind::PermissionDenied), "");
    }
}
