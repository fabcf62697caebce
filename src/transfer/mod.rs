//! An archive from a node to a file here: streamed through sudo, hashed and walked while it comes,
//! resumed at the byte, re-read from the disk, proved.
//!
//! What lives here: the one pass over the bytes and what proves that they arrived. What does not:
//! what an archive must contain (archive), where it is kept (catalog), whether it may be sealed.
//!
//! The way of a byte: bulk connection, on a thread of its own (`apart`) → pieces (`slab`) → a thread that hashes, one that
//! writes (`disk`) and one that walks, through bounded queues, so that memory is constant and a slow disk slows the
//! source. One more thread syncs and re-reads the destination behind the writer, part by part: that is the only second
//! pass. What it reads is held against the tags of what was written (`gmac`); the same tags together are what the node's own proof of
//! its file is held against.

mod apart;
mod authorized;
mod batch;
pub mod carry;
pub mod direct;
mod disk;
pub mod ends;
mod gmac;
mod kept;
mod ledger;
mod prove;
pub mod push;
mod slab;
pub mod straight;
mod streams;
mod tree;

pub use disk::is_memory;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use self::disk::Disk;
use self::prove::Digest;
use self::slab::{Pool, Slab};
use crate::archive::{Fault, Limits, Walk, Walker};
use crate::digest::{Hasher, Sha256};
use crate::failure::{Failure, Kind};
use crate::remote::ssh::connect::Lane;
use crate::remote::{Exit, Piece, Session, Way, quote};
use crate::volume::Keep;

/// Size of the pieces that go through the queues, in bytes: what one thread leaves of it in the cache, the next one finds there.
const PIECE: usize = 512 << 10;
/// How many pieces may wait for a thread.
const WAITING: usize = 8;
/// A disk on a node that reads fewer bytes a second counts as hanging.
const SLOWEST: u64 = 20 << 20;
/// So many bytes that were written are synced and re-read together at the least.
const PART: u64 = 16 << 20;
/// What is here of an archive that is not whole ends behind so many bytes, or twice, three times as many.
const BLOCK: usize = 16;
/// How often whoever waits hears how far it is.
const TELLING: Duration = Duration::from_millis(100);

/// Which file it is: if any of this changes while we read, it is another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Size in bytes.
    pub bytes: u64,
    /// Inode number.
    pub inode: u64,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// Change time, seconds since 1970.
    pub ctime: i64,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The host, for messages.
    pub host: String,
    /// Absolute path on the host.
    pub source: String,
    /// The file here that the bytes go to; it exists already, 0600, possibly with the beginning of
    /// an earlier attempt.
    pub destination: PathBuf,
    /// Names that the archive must contain.
    pub required: Vec<String>,
    /// Walk the archive while it comes. Off only for measuring.
    pub walk: bool,
    /// How long ferry tries to get a lost connection back without a byte of progress.
    pub patience: Duration,
}

/// What is wanted, and how it is kept.
#[derive(Clone)]
struct Order {
    pull: Pull,
    keep: Option<Keep>,
}

impl std::ops::Deref for Order {
    type Target = Pull;
    fn deref(&self) -> &Pull {
        &self.pull
    }
}

/// An archive that arrived, and what was proved about it.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The source as it was before and after.
    pub source: Source,
    /// Of the stream. What was re-read from the destination, and where the node has a tool what the node read of its own
    /// file, is equal to the stream by this digest or by a keyed one (GMAC).
    pub sha256: Sha256,
    /// What made the node's digest: `openssl (GMAC)`, `openssl` or `sha256sum`, the latter two SHA-256; `None` when the node has none.
    pub node_digest: Option<String>,
    /// What the walk found; `None` when it was switched off.
    pub walk: Option<Walk>,
    /// How often the connection was lost on the way.
    pub cuts: u32,
    /// Bytes that were here already from an earlier attempt.
    pub resumed_at: u64,
    /// What an earlier attempt had left here was not what is on the node: all was fetched anew.
    pub started_over: bool,
    /// How long it took.
    pub took: Duration,
}

/// Why it did not arrive.
#[derive(Debug)]
pub enum Trouble {
    /// It arrived, and it is no whole archive.
    NotWhole(Fault),
    /// What arrived has another digest than the node's own file.
    Differs(Failure),
    /// Anything else.
    Failure(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn local(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    let failure = Failure::new(Kind::Failed, format!("{what} {}", path.display())).saw(error.to_string());
    if full {
        failure
            .why("the catalog's disk is full; the archive stays on the node")
            .mend("free space there and start again: it goes on at the byte")
    } else {
        failure
    }
}

/// The path of the note beside the destination that says which source its bytes are from.
pub fn note_path(destination: &Path) -> PathBuf {
    let mut name = destination.as_os_str().to_owned();
    name.push(".transfer");
    PathBuf::from(name)
}

/// Brings one file here. `progress` hears the count of bytes that are here and the total.
///
/// # Errors
/// [`Trouble::NotWhole`] when it is no whole archive; [`Kind::Unreachable`] when the connection did
/// not come back within the patience; [`Kind::Failed`] when the source changed, digests differ or the disk here is full.
pub async fn pull(
    way: &Way,
    control: &Session,
    pull: &Pull,
    progress: impl FnMut(u64, u64),
) -> Result<Arrived, Trouble> {
    pull_kept(way, control, pull, None, progress).await
}

/// As [`pull`]; an archive that `keep` says so of goes into volumes beside the destination, which holds their journal
/// then ([`crate::volume::Journal`]).
///
/// # Errors
/// As [`pull`].
pub async fn pull_kept(
    way: &Way,
    control: &Session,
    pull: &Pull,
    keep: Option<&Keep>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Arrived, Trouble> {
    let pull = &Order { pull: pull.clone(), keep: keep.cloned() };
    let began = Instant::now();
    let mut resumed_at = 0;
    match once(way, control, pull, &mut progress, began, &mut resumed_at).await {
        // Bytes that lay here since an earlier attempt were not proved then, and a power cut may have left other ones.
        // Before the archive is called bad, or kept from arriving for ever, it is fetched whole.
        Err(Trouble::NotWhole(_) | Trouble::Differs(_)) if resumed_at > 0 => {
            empty(&pull.destination)?;
            let mut arrived = once(way, control, pull, &mut progress, began, &mut resumed_at).await?;
            arrived.started_over = true;
            Ok(arrived)
        }
        other => other,
    }
}

/// Throws away what an earlier attempt left.
fn empty(destination: &Path) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).open(destination);
    file.and_then(|file| file.set_len(0)).map_err(|error| local("could not empty", destination, &error))
}

async fn once(
    way: &Way,
    control: &Session,
    pull: &Order,
    progress: &mut impl FnMut(u64, u64),
    began: Instant,
    resumed_at: &mut u64,
) -> Result<Arrived, Trouble> {
    let key = gmac::Key::new().map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    let mut digesting = tokio::spawn(node_digest(
        way.clone(),
        control.clone(),
        pull.host.clone(),
        pull.source.clone(),
        Some(key.clone()),
        pull.patience,
    ));
    let result = fetch_apart(way, pull, &key, progress, began, resumed_at).await;
    let (mut arrived, tag) = match result {
        Ok(done) => done,
        Err(trouble) => {
            digesting.abort();
            return Err(trouble);
        }
    };
    // It began with the stream and has less to do: what takes several times as long will not come.
    let on_node = match tokio::time::timeout(pull.patience + began.elapsed() * 3, &mut digesting).await {
        Ok(Ok(digest)) => digest?,
        Ok(Err(error)) => {
            return Err(Failure::new(Kind::Bug, "the node's digest was not taken").saw(error.to_string()).into());
        }
        Err(_) => {
            digesting.abort();
            return Err(Failure::new(Kind::Unreachable, "the node's digest did not come")
                .on(&pull.host)
                .why("the archive is whole on the node and what has arrived is kept")
                .again()
                .into());
        }
    };
    if let Some((tool, digest)) = on_node {
        let streamed = match digest {
            Digest::Sha256(_) => Digest::Sha256(arrived.sha256),
            Digest::Gmac(_) => Digest::Gmac(tag),
        };
        if digest != streamed {
            return Err(Trouble::Differs(
                Failure::new(Kind::Failed, "the node's digest is not that of the bytes that arrived")
                    .on(&pull.host)
                    .saw(format!("{tool} there: {digest}; here: {streamed}"))
                    .why("the file changed while it was read, or a disk or memory is failing")
                    .mend("start again; the archive is still on the node"),
            ));
        }
        arrived.node_digest = Some(tool);
    }
    arrived.took = began.elapsed();
    Ok(arrived)
}

/// What a transfer is proved by, and how far it is, for whoever shows it.
struct Far {
    key: gmac::Key,
    here: AtomicU64,
    total: AtomicU64,
    resumed_at: AtomicU64,
}

impl Far {
    fn new(key: &gmac::Key) -> Self {
        let [here, total, resumed_at] = [const { AtomicU64::new(0) }; 3];
        Self { key: key.clone(), here, total, resumed_at }
    }
}

/// [`fetch`] on a thread of its own.
async fn fetch_apart(
    way: &Way,
    pull: &Order,
    key: &gmac::Key,
    progress: &mut impl FnMut(u64, u64),
    began: Instant,
    resumed_at: &mut u64,
) -> Result<(Arrived, gmac::Tag), Trouble> {
    let far = Arc::new(Far::new(key));
    let work = {
        let (way, pull, far) = (way.clone(), pull.clone(), Arc::clone(&far));
        move || async move { fetch(&way, &pull, &far, began).await }
    };
    let mut fetching = std::pin::pin!(apart::apart("ferry-wire", work));
    let mut tick = tokio::time::interval(TELLING);
    let done = loop {
        tokio::select! {
            biased;
            done = &mut fetching => break done,
            _ = tick.tick() => {}
        }
        match far.total.load(Ordering::Acquire) {
            0 => {}
            total => progress(far.here.load(Ordering::Relaxed), total),
        }
    };
    *resumed_at = far.resumed_at.load(Ordering::Acquire);
    match done? {
        Ok(done) => {
            progress(done.0.source.bytes, done.0.source.bytes);
            Ok(done)
        }
        other => other,
    }
}

async fn fetch(way: &Way, pull: &Order, far: &Far, began: Instant) -> Result<(Arrived, gmac::Tag), Trouble> {
    let mut here: Option<Pipe> = None;
    let mut source: Option<Source> = None;
    let mut cuts = 0;
    let mut last_progress = Instant::now();
    let mut pause = Duration::from_millis(200);
    loop {
        let before = here.as_ref().map_or(0, |pipe| pipe.received);
        let attempt = stream(way, pull, &mut here, &mut source, far).await;
        let failure = match attempt {
            Ok(()) => break,
            Err(Trouble::Failure(failure)) if failure.again => failure,
            Err(trouble) => return Err(prefer_fault(here, trouble).await),
        };
        cuts += 1;
        if here.as_ref().map_or(0, |pipe| pipe.received) > before {
            last_progress = Instant::now();
            pause = Duration::from_millis(200);
        }
        if last_progress.elapsed() > pull.patience {
            let mut failure = failure.within("collect");
            failure.why = Some("the archive is whole on the node and what has arrived is kept".to_owned());
            return Err(failure.into());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(15));
    }
    let (Some(pipe), Some(source)) = (here, source) else {
        return Err(Failure::new(Kind::Bug, "a transfer ended without a pipe").into());
    };
    let ended = pipe.finish().await?;
    if let Some(at) = ended.differs_at {
        return Err(Failure::new(Kind::Failed, "what was read back from the disk here is not what arrived")
            .saw(format!("{}: the piece at byte {at}", pull.destination.display()))
            .why("the disk or memory of this machine is failing, or something else writes there")
            .into());
    }
    let arrived = Arrived {
        source,
        sha256: ended.streamed,
        node_digest: None,
        walk: ended.walk,
        cuts,
        resumed_at: far.resumed_at.load(Ordering::Acquire),
        started_over: false,
        took: began.elapsed(),
    };
    Ok((arrived, far.key.whole(ended.share)))
}

/// A walker or writer that stopped makes the queue fail: its own word is the reason.
async fn prefer_fault(pipe: Option<Pipe>, trouble: Trouble) -> Trouble {
    let Some(pipe) = pipe else { return trouble };
    tokio::task::spawn_blocking(|| pipe.why_stopped()).await.ok().flatten().unwrap_or(trouble)
}

/// The script that streams one file as root: which file it is, its bytes from `offset`, which file
/// it was afterwards.
fn stream_script(mark: &str, source: &str, offset: u64) -> Result<String, Failure> {
    let file = quote(source).map_err(|nul| Failure::new(Kind::Bug, nul.to_string()))?;
    let read = if offset == 0 { "cat \"$f\"".to_owned() } else { format!("tail -c +{} \"$f\"", offset + 1) };
    Ok(format!(
        "f={file}\n\
         which_file() {{ stat -c '%s %i %Y %Z' \"$f\"; }}\n\
         if [ -L \"$f\" ] || [ ! -f \"$f\" ]; then printf '%s MISSING\\n' {mark}; exit 3; fi\n\
         w=$(which_file) || exit 4\n\
         printf '%s SOURCE %s\\n' {mark} \"$w\"\n\
         {read} || exit 5\n\
         printf '%s END %s\\n' {mark} \"$(which_file)\"\n"
    ))
}

fn parse_source(text: &str) -> Option<Source> {
    let mut words = text.split_whitespace();
    let source = Source {
        bytes: words.next()?.parse().ok()?,
        inode: words.next()?.parse().ok()?,
        mtime: words.next()?.parse().ok()?,
        ctime: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(source)
}

fn changed(host: &str, before: &Source, after: &Source) -> Failure {
    Failure::new(Kind::Failed, "the archive on the node changed while it was read")
        .on(host)
        .saw(format!("before: {before:?}; after: {after:?}"))
        .why("something else writes to it")
}

/// One attempt: connects, streams from where the pipe stands to the end.
async fn stream(
    way: &Way,
    pull: &Order,
    here: &mut Option<Pipe>,
    source: &mut Option<Source>,
    far: &Far,
) -> Result<(), Trouble> {
    let session = way.connect(Lane::Bulk).await?;
    // The first attempt asks which file it is before it decides where to begin.
    let offset = match here.as_ref() {
        Some(pipe) => pipe.received,
        None => {
            let offset = begin(&session, pull, here, source, far).await?;
            far.resumed_at.store(offset, Ordering::Release);
            offset
        }
    };
    let (Some(pipe), Some(known)) = (here.as_mut(), source.as_ref()) else {
        return Err(Failure::new(Kind::Bug, "a transfer began without a pipe").into());
    };
    let mark = format!("@@{:032x}", rand::random::<u128>());
    let mut child = session.open_root(&stream_script(&mark, &pull.source, offset)?).await?;
    child.close_input().await;
    let mut head = Vec::new();
    let mut tail = Vec::new();
    let mut said = Vec::new();
    let mut started = false;
    let mut slab = pipe.slab();
    // A node that answers keepalives while its disk hangs would be waited for without end. Some
    // tails read all that they skip.
    let skipping = Duration::from_secs(offset / SLOWEST);
    // A part of the patience, so that it lasts for another attempt.
    let silence = (pull.patience / 4).max(Duration::from_secs(5));
    // Only bytes of the archive are progress: a host that complains for ever is silent as well.
    let mut heard = tokio::time::Instant::now();
    loop {
        let limit = if started { silence } else { silence + skipping };
        // What is here already needs no clock.
        let piece = match child.next().now_or_never() {
            Some(piece) => Ok(piece),
            None => tokio::time::timeout_at(heard + limit, child.next()).await,
        };
        let piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(_) => {
                return Err(Failure::new(
                    Kind::Unreachable,
                    format!("nothing of the archive came for {} s", limit.as_secs()),
                )
                .on(&pull.host)
                .why("the connection lives, so the node's disk or the node itself may hang")
                .again()
                .into());
            }
        };
        let mut bytes = match piece {
            Piece::Out(bytes) => bytes,
            Piece::Err(bytes) => {
                if said.len() < 4096 {
                    said.extend_from_slice(&bytes);
                }
                continue;
            }
        };
        if !started {
            head.extend_from_slice(&bytes);
            let Some(at) = head.windows(mark.len()).position(|window| window == mark.as_bytes()) else {
                if head.len() > 64 << 10 {
                    return Err(Failure::new(Kind::Failed, "the host said something else than the archive")
                        .on(&pull.host)
                        .into());
                }
                continue;
            };
            let Some(end) = head.iter().skip(at).position(|byte| *byte == b'\n') else { continue };
            let line =
                String::from_utf8_lossy(head.get(at + mark.len()..at + end).unwrap_or_default()).trim().to_owned();
            let Some(seen) = line.strip_prefix("SOURCE ").and_then(parse_source) else {
                return Err(missing(&pull.host, &pull.source, &line).into());
            };
            if seen != *known {
                return Err(changed(&pull.host, known, &seen).into());
            }
            bytes = Bytes::copy_from_slice(head.get(at + end + 1..).unwrap_or_default());
            started = true;
        }
        let left = known.bytes - pipe.received - slab.len() as u64;
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let rest = bytes.split_off(take);
        tail.extend_from_slice(&rest);
        if tail.len() > 4096 {
            // Behind the file stands one line. Whatever else comes has no end that we know of.
            return Err(Failure::new(Kind::Failed, "the host sends more bytes than the archive has")
                .on(&pull.host)
                .saw(format!("{} bytes were promised", known.bytes))
                .why("something else writes to it, or the host lies")
                .into());
        }
        while !bytes.is_empty() {
            bytes.advance(slab.take(&bytes));
            if slab.is_full() {
                pipe.give(slab.freeze()).await?;
                far.here.store(pipe.received, Ordering::Relaxed);
                slab = pipe.slab();
            }
        }
        // After the wait for a disk here, which is no silence of the host.
        heard = tokio::time::Instant::now();
    }
    if pipe.received + (slab.len() as u64) < known.bytes {
        // It goes on where a block of the tags begins.
        slab.holds(slab.len() - slab.len() % BLOCK);
    }
    if slab.len() > 0 {
        pipe.give(slab.freeze()).await?;
        far.here.store(pipe.received, Ordering::Relaxed);
    }
    let exit = child.exit().await;
    session.close().await;
    if let Exit::Lost(why) = &exit {
        return Err(Failure::new(Kind::Unreachable, "the connection was lost while the archive came")
            .on(&pull.host)
            .saw(why.clone())
            .again()
            .into());
    }
    let tail = String::from_utf8_lossy(&tail).into_owned();
    let after =
        tail.trim().strip_prefix(&mark).and_then(|rest| rest.trim().strip_prefix("END ")).and_then(parse_source);
    match (&exit, after) {
        (Exit::Code(0), Some(after)) if after == *known && pipe.received == known.bytes => Ok(()),
        (Exit::Code(0), Some(after)) if after != *known => Err(changed(&pull.host, known, &after).into()),
        _ => Err(Failure::new(Kind::Failed, "the archive could not be read on the node")
            .on(&pull.host)
            .saw(format!(
                "{exit}, {} of {} bytes; {}",
                pipe.received,
                known.bytes,
                String::from_utf8_lossy(&said).trim()
            ))
            .into()),
    }
}

fn missing(host: &str, source: &str, seen: &str) -> Failure {
    Failure::new(Kind::Failed, format!("there is no regular file {source} on the node")).on(host).saw(seen.to_owned())
}

/// Asks which file the source is.
async fn which(session: &Session, host: &str, source: &str) -> Result<Source, Failure> {
    let file = quote(source).map_err(|nul| Failure::new(Kind::Bug, nul.to_string()))?;
    let mark = format!("@@{:032x}", rand::random::<u128>());
    let script = format!(
        "f={file}; if [ -L \"$f\" ] || [ ! -f \"$f\" ]; then echo {mark} MISSING; exit 0; fi; echo {mark} $(stat -c '%s %i %Y %Z' \"$f\")"
    );
    let said = session.run_root(&script, Duration::from_secs(60)).await?;
    if let Exit::Lost(why) = said.exit {
        return Err(Failure::new(Kind::Unreachable, "the connection was lost").on(host).saw(why).again());
    }
    let text = said.text();
    let line = text.lines().find_map(|line| line.strip_prefix(&mark)).unwrap_or_default().trim();
    parse_source(line).ok_or_else(|| missing(host, source, line))
}

/// Asks which file the source is, and opens the destination: going on where the note beside it names the
/// same file, from nothing else.
async fn begin(
    session: &Session,
    pull: &Order,
    here: &mut Option<Pipe>,
    source: &mut Option<Source>,
    far: &Far,
) -> Result<u64, Trouble> {
    let seen = which(session, &pull.host, &pull.source).await?;
    if let Some(keep) = &pull.keep {
        if keep.wraps(seen.bytes) {
            *source = Some(seen);
            far.total.store(seen.bytes, Ordering::Release);
            return kept::begin(pull, keep, seen, here, far).await;
        }
        // What an attempt left that kept it in another form.
        let folder = pull.destination.parent().unwrap_or(Path::new("/"));
        crate::volume::discard(folder, &kept::archive_name(&pull.destination))
            .map_err(|error| local("could not empty", &pull.destination, &error))?;
    }
    let note = note_path(&pull.destination);
    let noted: Option<Source> = std::fs::read(&note).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let destination = pull.destination.clone();
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&destination)
        .map_err(|error| local("could not open", &destination, &error))?;
    let mut present = file.metadata().map_err(|error| local("could not look at", &destination, &error))?.len();
    let resume = noted == Some(seen) && present <= seen.bytes;
    if resume && present < seen.bytes {
        present -= present % BLOCK as u64;
        file.set_len(present).map_err(|error| local("could not shorten", &destination, &error))?;
    } else if !resume {
        file.set_len(0).map_err(|error| local("could not empty", &destination, &error))?;
        let json = serde_json::to_vec(&seen).map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
        write_synced(&note, &json).map_err(|error| local("could not write", &note, &error))?;
    }
    far.total.store(seen.bytes, Ordering::Release);
    // Where both are known before the first byte goes in: what stops one of the threads is told by the thread, and is
    // laid at the door of what lay here.
    let pipe = here.insert(Pipe::start(&destination, &far.key, pull.required.clone(), pull.walk)?);
    if resume {
        far.resumed_at.store(present, Ordering::Release);
        // What an earlier attempt left goes through the same hash and walk first.
        let unread = |error: std::io::Error| local("could not read", &destination, &error);
        let mut from = Disk::open(&destination, false).map_err(unread)?;
        while pipe.received < present {
            let mut slab = pipe.slab();
            let length = slab.room().len().min(usize::try_from(present - pipe.received).unwrap_or(usize::MAX));
            from.read_at(pipe.received, length, slab.room()).map_err(unread)?;
            slab.holds(length);
            pipe.give(slab.freeze()).await?;
            far.here.store(pipe.received, Ordering::Relaxed);
        }
    }
    *source = Some(seen);
    Ok(pipe.received)
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The digest that the node itself makes, by the fastest tool it has; SHA-256 without a key for another one. Asked anew when the connection is lost.
async fn node_digest(
    way: Way,
    control: Session,
    host: String,
    source: String,
    key: Option<gmac::Key>,
    patience: Duration,
) -> Result<Option<(String, Digest)>, Failure> {
    let file = quote(&source).map_err(|nul| Failure::new(Kind::Bug, nul.to_string()))?;
    let mark = format!("@@{:032x}", rand::random::<u128>());
    let keyed = key.map_or_else(
        || "false".to_owned(),
        |key| {
            let (hex, nonce) = key.words();
            format!(
                "command -v openssl >/dev/null 2>&1 \\\n\
                 && d=$(openssl mac -cipher AES-128-GCM -macopt hexkey:{hex} -macopt hexiv:{nonce} GMAC < \"$f\" 2>/dev/null) \\\n\
                 && [ ${{#d}} = 32 ]"
            )
        },
    );
    let script = format!(
        "f={file}\n\
         if {keyed}; then t=gmac\n\
         elif command -v openssl >/dev/null 2>&1 && d=$(openssl dgst -sha256 -r < \"$f\" 2>/dev/null); then t=openssl\n\
         elif command -v sha256sum >/dev/null 2>&1 && d=$(sha256sum < \"$f\"); then t=sha256sum\n\
         else t=none d=none; fi\n\
         printf '%s %s %s\\n' {mark} \"$t\" \"${{d%% *}}\""
    );
    let began = Instant::now();
    let mut session = Some(control);
    loop {
        let asked = async {
            let session = match session.take() {
                Some(session) => session,
                None => way.connect(Lane::Control).await?,
            };
            let mut child = session.open_root(&script).await?;
            child.close_input().await;
            let mut text = Vec::new();
            while let Some(piece) = child.next().await {
                if let Piece::Out(bytes) = piece
                    && text.len() < 64 << 10
                {
                    text.extend_from_slice(&bytes);
                }
            }
            match child.exit().await {
                Exit::Lost(why) => Err(Failure::new(Kind::Unreachable, "the connection was lost").saw(why).again()),
                _ => Ok(String::from_utf8_lossy(&text).into_owned()),
            }
        };
        let text = match asked.await {
            Ok(text) => text,
            Err(failure) if failure.again && began.elapsed() < patience => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(failure) => return Err(failure.on(&host)),
        };
        let mut words = text.lines().find_map(|line| line.strip_prefix(&mark)).unwrap_or_default().split_whitespace();
        return match (words.next(), words.next()) {
            (Some("none"), _) => Ok(None),
            (Some("gmac"), Some(tag)) if let Ok(tag) = tag.parse() => {
                Ok(Some(("openssl (GMAC)".to_owned(), Digest::Gmac(tag))))
            }
            (Some(tool @ ("openssl" | "sha256sum")), Some(digest)) if let Ok(digest) = digest.parse() => {
                Ok(Some((tool.to_owned(), Digest::Sha256(digest))))
            }
            _ => Err(Failure::new(Kind::Failed, "the node's digest could not be read")
                .on(&host)
                .saw(text.chars().take(200).collect::<String>())),
        };
    }
}

/// What the threads found when all bytes had passed.
struct Ended {
    streamed: Sha256,
    /// What the stream was to the tag of the whole.
    share: gmac::Share,
    /// Where the first piece begins that the disk gave back as something else.
    differs_at: Option<u64>,
    walk: Option<Walk>,
}

type Thread<T> = std::thread::JoinHandle<T>;

/// The threads behind the stream.
struct Pipe {
    received: u64,
    pool: Pool,
    to_hasher: Option<mpsc::Sender<Bytes>>,
    to_writer: Option<mpsc::Sender<Bytes>>,
    to_walker: Option<mpsc::Sender<Bytes>>,
    hasher: Thread<Sha256>,
    writer: Thread<Result<gmac::Share, Failure>>,
    rereader: Thread<Result<Option<u64>, Failure>>,
    walker: Option<Thread<Result<Walk, Fault>>>,
}

/// A thread that is given pieces, and the way to it.
fn taking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(mpsc::Receiver<Bytes>) -> T + Send + 'static,
) -> Result<(Option<mpsc::Sender<Bytes>>, Thread<T>), Failure> {
    let (sender, pieces) = mpsc::channel(WAITING);
    Ok((Some(sender), thread(name, move || work(pieces))?))
}

fn thread<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<Thread<T>, Failure> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Failure::new(Kind::Failed, "could not start a thread").saw(error.to_string()))
}

impl Pipe {
    fn start(destination: &Path, key: &gmac::Key, required: Vec<String>, walk: bool) -> Result<Self, Failure> {
        let open = |write| Disk::open(destination, write).map_err(|error| local("could not open", destination, &error));
        let (mut to, mut from) = (open(true)?, open(false)?);
        let present = to.length().map_err(|error| local("could not look at", destination, &error))?;
        let (written, parts) = std::sync::mpsc::channel();
        let path: Arc<Path> = Arc::from(destination);
        let write_path = Arc::clone(&path);
        let (key, again) = (key.clone(), key.clone());
        let (to_hasher, hasher) = taking("ferry-hash", hash)?;
        let (to_writer, writer) = taking("ferry-write", move |pieces| {
            write(&mut to, present, pieces, &written, &key)
                .map_err(|error| local("could not write", &write_path, &error))
        })?;
        let rereader = thread("ferry-reread", move || {
            reread(&mut from, &parts, &again).map_err(|error| local("could not read back", &path, &error))
        })?;
        let (to_walker, walker) = if walk {
            let (to_walker, walker) = taking("ferry-walk", move |pieces| walk_pieces(pieces, required))?;
            (to_walker, Some(walker))
        } else {
            (None, None)
        };
        let pool = Pool::new(PIECE);
        Ok(Self { received: 0, pool, to_hasher, to_writer, to_walker, hasher, writer, rereader, walker })
    }

    /// An empty piece. It takes what is missing to the next whole one: after a resume somewhere in between all that
    /// follow begin where the disk wants them to.
    fn slab(&self) -> Slab {
        let past = usize::try_from(self.received % PIECE as u64).unwrap_or_default();
        self.pool.slab(PIECE - past)
    }

    /// Hands one piece to every thread; waits while they are behind.
    async fn give(&mut self, piece: Bytes) -> Result<(), Trouble> {
        let stopped = || Trouble::Failure(Failure::new(Kind::Failed, "the archive could not be taken in"));
        self.received += piece.len() as u64;
        if let Some(walker) = &self.to_walker {
            walker.send(piece.clone()).await.map_err(|_| stopped())?;
        }
        let (Some(hasher), Some(writer)) = (&self.to_hasher, &self.to_writer) else { return Err(stopped()) };
        writer.send(piece.clone()).await.map_err(|_| stopped())?;
        hasher.send(piece).await.map_err(|_| stopped())
    }

    async fn finish(mut self) -> Result<Ended, Trouble> {
        (self.to_hasher, self.to_writer, self.to_walker) = (None, None, None);
        let joined = tokio::task::spawn_blocking(move || self.join()).await;
        joined.map_err(|error| Failure::new(Kind::Bug, error.to_string()))?
    }

    fn join(self) -> Result<Ended, Trouble> {
        drop((self.to_hasher, self.to_writer, self.to_walker));
        let broken = || Failure::new(Kind::Bug, "a thread of the transfer panicked");
        // All are waited for before one of them is heard: whoever begins anew must not meet a writer of ours.
        let walked = self.walker.map(std::thread::JoinHandle::join);
        let (wrote, hashed, read) = (self.writer.join(), self.hasher.join(), self.rereader.join());
        let walk = match walked {
            Some(walked) => Some(walked.map_err(|_| broken())?.map_err(Trouble::NotWhole)?),
            None => None,
        };
        let share = wrote.map_err(|_| broken())??;
        let streamed = hashed.map_err(|_| broken())?;
        let differs_at = read.map_err(|_| broken())??;
        Ok(Ended { streamed, share, differs_at, walk })
    }

    /// The word of the thread that stopped early, if one did: a walker that has nothing to
    /// complain about yet would call the cut stream truncated, so it is asked only if it ended by itself. That it
    /// did is seen by its queue: the thread itself may still be about to end. Nothing writes any more afterwards.
    fn why_stopped(self) -> Option<Trouble> {
        let ended = |queue: &Option<mpsc::Sender<Bytes>>| queue.as_ref().is_some_and(mpsc::Sender::is_closed);
        let (walker_ended, writer_ended) = (ended(&self.to_walker), ended(&self.to_writer));
        drop((self.to_hasher, self.to_writer, self.to_walker));
        let wrote = self.writer.join().ok();
        let _ = self.rereader.join();
        let walked = self.walker.filter(|_| walker_ended).and_then(|walker| walker.join().ok());
        match walked.and_then(Result::err) {
            Some(fault) => Some(Trouble::NotWhole(fault)),
            None => wrote.filter(|_| writer_ended).and_then(Result::err).map(Trouble::Failure),
        }
    }
}

fn walk_pieces(mut pieces: mpsc::Receiver<Bytes>, required: Vec<String>) -> Result<Walk, Fault> {
    let mut walker = Walker::new(Limits::default(), required);
    while let Some(piece) = pieces.blocking_recv() {
        walker.feed(&piece)?;
    }
    walker.finish()
}

fn hash(mut pieces: mpsc::Receiver<Bytes>) -> Sha256 {
    let mut hasher = Hasher::new();
    while let Some(piece) = pieces.blocking_recv() {
        hasher.update(&piece);
    }
    hasher.finish()
}

/// A part of the destination that was written: its pieces in order, each with its length.
type Part = Vec<(usize, gmac::Tag)>;

/// Writes; what is already there (`present` bytes of an earlier attempt) is passed by.
fn write(
    to: &mut Disk,
    present: u64,
    mut pieces: mpsc::Receiver<Bytes>,
    written: &std::sync::mpsc::Sender<Part>,
    key: &gmac::Key,
) -> std::io::Result<gmac::Share> {
    let (mut at, mut last) = (0, 0);
    let mut whole = gmac::Running::new(key);
    let mut part = Part::new();
    while let Some(piece) = pieces.blocking_recv() {
        let skip = usize::try_from(present.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len());
        if let Some(new) = piece.get(skip..).filter(|new| !new.is_empty()) {
            to.write_at(at + skip as u64, new)?;
        }
        let tag = key.tag(at, &piece)?;
        whole.follow(key.share(at, piece.len(), tag))?;
        part.push((piece.len(), tag));
        at += piece.len() as u64;
        if at - last >= PART {
            last = at;
            let _ = written.send(std::mem::take(&mut part));
        }
    }
    to.sync_all()?;
    let _ = written.send(part);
    Ok(whole.share()?)
}

/// Syncs and reads back what was written, and says where the first piece begins that is not what was written. The bytes come
/// from the disk: past the kernel's pages, or after it was asked to forget them, where the file system heeds that. The writer
/// does not wait for it.
fn reread(from: &mut Disk, parts: &std::sync::mpsc::Receiver<Part>, key: &gmac::Key) -> std::io::Result<Option<u64>> {
    let mut at = 0;
    let mut differs = None;
    let pool = Pool::new(PIECE);
    let mut slab = pool.slab(PIECE);
    while let Ok(mut part) = parts.recv() {
        // One sync for all that has come meanwhile.
        while let Ok(more) = parts.try_recv() {
            part.extend(more);
        }
        from.sync()?;
        from.forget(at, part.iter().map(|(length, _)| *length as u64).sum());
        for (length, tag) in part {
            from.read_at(at, length, slab.room())?;
            let piece = slab.room().get(..length).unwrap_or_default();
            if differs.is_none() && key.tag(at, piece)? != tag {
                differs = Some(at);
            }
            at += length as u64;
        }
    }
    Ok(differs)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A disk that gives back something else than it was given is found, wherever that is.
    #[tokio::test]
    async fn what_the_disk_changed_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..PIECE as u32).flat_map(u32::to_le_bytes).collect();
        for flip in [None, Some(0), Some(PIECE - 1), Some(PIECE), Some(content.len() - 1)] {
            let path = dir.path().join("file");
            std::fs::write(&path, []).unwrap();
            let key = gmac::Key::new().unwrap();
            let (sender, pieces) = mpsc::channel(WAITING);
            for piece in content.chunks(PIECE) {
                sender.send(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            drop(sender);
            let (synced, parts) = std::sync::mpsc::channel();
            let (ours, to) = (key.clone(), path.clone());
            let wrote = tokio::task::spawn_blocking(move || {
                write(&mut Disk::open(&to, true).unwrap(), 0, pieces, &synced, &ours).unwrap();
            });
            wrote.await.unwrap();
            if let Some(at) = flip {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[at] ^= 4;
                std::fs::write(&path, bytes).unwrap();
            }
            let found = reread(&mut Disk::open(&path, false).unwrap(), &parts, &key).unwrap();
            assert_eq!(found, flip.map(|at| (at / PIECE * PIECE) as u64));
        }
    }

    #[test]
    fn a_full_disk_is_called_so() {
        let say = |kind: std::io::ErrorKind| local("could not write", Path::new("/x/y"), &kind.into());
        let full = say(std::io::ErrorKind::StorageFull);
        assert_eq!((full.kind, full.what.as_str()), (Kind::Failed, "could not write /x/y"));
        assert!(full.why.unwrap().contains("the catalog's disk is full") && full.mend.unwrap().contains("free space"));
        let other = say(std::io::ErrorKind::PermissionDenied);
        assert!(other.seen.is_some() && other.why.is_none() && other.mend.is_none());
    }
}
