//! Moves one file from an end to an end: between two hosts through ferry, or between a host and here. A folder goes as one
//! tar stream (`tree`).
//!
//! What lives here: the look at both ends before anything is changed, the cutting into chunks and spans, and the last step that
//! gives the file its name. How bytes are read and written is in `streams`, how digests are made in `prove`, what they
//! prove in `ledger`, what is asked of an end in `ends`.
//!
//! The file is a row of chunks. A span of them goes over one connection for each end, several spans at once where the way
//! is long. The target makes the digest of each chunk from its synced file; it is held against that of the stream, and a chunk whose digests
//! are equal is written into a journal beside the part. What differs is sent again. The source makes one digest of its whole file meanwhile,
//! which all of the stream's together must give (`gmac`); where the file comes here, those of what was read back must. If they do not, if an
//! earlier transfer is gone on with, or if an end has no tool for that, the source makes the digest of each chunk as well. The file gets its
//! name when every chunk was proved and the source is still the file that it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

use super::BLOCK;
use super::apart::apart;
use super::batch::Batches;
use super::direct::{self, Direct, Fare};
use super::ends::{Answer, End, Place, Post, is_full};
use super::gmac::{Key, NoTag, Running};
use super::ledger::{By, Ledger, MOST_CHUNK, Settled};
use super::prove::{Ask, Digest, Landed, Proof, Side, Whose, digest_here, path_here, prover};
use super::slab::Pool;
use super::streams::{CHANGED, Feed, Part, Sink, changed};
use crate::digest::{Hasher, Sha256};
use crate::failure::{Failure, Kind};
use crate::remote::ssh::connect::Lane;
use crate::remote::{Command, Piece, Session, Way};

const MIB: u64 = 1 << 20;
/// The smallest chunk, in bytes: more than a cut can make of bytes that were given away and did not arrive, which is sshd's
/// window and what the pipes there hold. So no cut costs more than a chunk.
const LEAST_CHUNK: u64 = 4 * MIB;
/// sshd's receive window: so much is on its way to it on one connection, in bytes.
const WINDOW: u64 = 2 * MIB;
/// Connections at most.
const MOST_STREAMS: usize = 8;
/// The largest file, in bytes: 64 TiB are a million chunks, and what is known of them is memory here.
const MOST: u64 = 64 << 40;
/// The rate that connections are made for where nobody limits it, in bytes a second: some 3 Gbit/s.
const RATE: u64 = 384 * MIB;
/// A host that answers within this time is as near as can be: the window of one connection is no limit.
const NEAR: Duration = Duration::from_millis(4);
/// From this size on a second connection is worth its making, in bytes.
const LARGE: u64 = 64 * MIB;
/// The largest file whose target is read in a row, not chunk by chunk, in bytes: what differs is found at the end only.
const MOST_IN_A_ROW: u64 = 64 << 30;
/// The slowest disk that is waited for when it has to sync, in bytes a second.
const SLOWEST: u64 = 10 * MIB;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Order {
    /// The file.
    pub from: End,
    /// Its place; a file, not a folder.
    pub to: End,
    /// Replace a file that is there, and throw away what an earlier transfer left beside it.
    pub force: bool,
    /// Go on with what an earlier transfer left.
    pub resume: bool,
    /// Permissions of the file there (`0o600`).
    pub mode: u32,
    /// `USER` or `USER:GROUP` that it belongs to; else whoever writes it.
    pub owner: Option<String>,
    /// Bytes a second at most, over all connections.
    pub limit_rate: Option<u64>,
    /// The SHA-256 of the whole is wanted. It is made where it is the proof as well; else it costs more than the proof.
    pub sha256: bool,
    /// Connections; `None`: as many as the way there asks for.
    pub streams: Option<usize>,
    /// How long ferry tries to get a lost connection back without a byte of progress.
    pub patience: Duration,
    /// From node to node, not through ferry.
    pub direct: Option<Direct>,
}

/// What was found at both ends. Nothing was changed.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The file's size in bytes; of a folder what its files take on the disk, in about.
    pub bytes: u64,
    /// It is a folder.
    pub folder: bool,
    /// Size of a chunk in bytes; the last one may be shorter.
    pub chunk: u64,
    /// Connections at once.
    pub streams: usize,
    /// Why so many.
    pub why_streams: String,
    /// Free space at the target in bytes, where it is known.
    pub free: Option<u64>,
    /// What makes digests at the source and at the target.
    pub tools: [String; 2],
    /// Both ends make GMAC, which takes a fraction of SHA-256: chunks are proved by it.
    pub gmac: bool,
    /// A file is there that will be replaced.
    pub replaces: bool,
    /// Bytes that an earlier transfer of the same file left, that are gone on with.
    pub resumes: Option<u64>,
    /// Size, inode, device, mtime, ctime of the source.
    identity: String,
    /// What a transfer from node to node needs.
    direct: Option<direct::Found>,
    /// The connections to the source and the target that it was found by.
    sessions: [Option<Session>; 2],
}

impl Survey {
    /// The two programs that meet in a transfer from node to node: the source's ssh, the target's server, and whether the key's
    /// entry there expires by itself.
    pub fn direct(&self) -> Option<(&str, &str, bool)> {
        self.direct.as_ref().map(|found| (found.ssh.as_str(), found.server.as_str(), found.expires))
    }
}

/// A file that was moved, and what was proved.
#[derive(Debug, Clone)]
pub struct Moved {
    /// Its size in bytes.
    pub bytes: u64,
    /// How many chunks it has, each with equal digests at both ends.
    pub chunks: usize,
    /// SHA-256 of the whole, where it was wanted or was made anyhow.
    pub sha256: Option<Sha256>,
    /// How often a connection was lost.
    pub cuts: u32,
    /// Bytes that were sent more than once.
    pub sent_again: u64,
    /// Bytes of an earlier transfer that were proved again instead of being sent.
    pub kept: u64,
    /// Connections at once.
    pub streams: usize,
    /// The source changed once and all was begun anew.
    pub started_over: bool,
    /// How long it took.
    pub took: Duration,
}

fn number(text: Option<&str>) -> Option<u64> {
    text.and_then(|text| text.split_whitespace().next()).and_then(|word| word.parse().ok())
}

fn chunk_size(bytes: u64) -> u64 {
    (bytes.div_ceil(16).div_ceil(MIB) * MIB).clamp(LEAST_CHUNK, MOST_CHUNK)
}

/// Looks at both ends: is there such a file, may its place be taken, is there room. Changes nothing.
///
/// # Errors
/// [`Kind::CouldNotStart`] for a path that is none; [`Kind::Refused`] when there is a file already, no room, no tool, or a
/// left-over that nobody said what to do with; [`Kind::Failed`] when there is no such file; [`Kind::Unreachable`].
pub async fn survey(order: &Order) -> Result<Survey, Failure> {
    let (mut source, mut target) = (Post::new(&order.from, order.patience), Post::new(&order.to, order.patience));
    let mut found = look(order, &mut source, &mut target).await?;
    found.sessions = [source.into_session(), target.into_session()];
    Ok(found)
}

async fn look(order: &Order, source: &mut Post, target: &mut Post) -> Result<Survey, Failure> {
    if let Some(wrong) = Failure::all([&order.from, &order.to].into_iter().filter_map(End::wrong)) {
        return Err(wrong);
    }
    if order.from.shown() == order.to.shown() {
        return Err(Failure::new(Kind::Usage, "both ends are the same file").saw(order.from.shown()));
    }
    let limit = Duration::from_secs(60);
    // Here no tool of the system makes a digest.
    let bare = |end: &End| if end.is_here() { vec![("B", "1".to_owned())] } else { Vec::new() };
    let (from_values, to_values) = (bare(&order.from), bare(&order.to));
    let (from, to) =
        tokio::join!(source.ask(&from_values, "source_look", limit), target.ask(&to_values, "target_look", limit));
    let (from, to) = match (from, to) {
        (Ok(from), Ok(to)) => (from, to),
        (from, to) => return Err(Failure::all([from.err(), to.err()].into_iter().flatten()).unwrap_or_else(bug)),
    };
    if from.get("folder").is_some() {
        if order.direct.is_some() {
            return Err(Failure::new(Kind::Refused, "a folder does not go from node to node")
                .on(order.from.host())
                .saw(order.from.shown())
                .mend("--via relay; or pack it there and move the archive"));
        }
        // A folder's is made by one all the same.
        let to = if order.to.is_here() { target.ask(&[], "target_look", limit).await? } else { to };
        return look_at_folder(order, source, &to).await;
    }
    let identity = looked_at_source(order, &from)?;
    let bytes = number(Some(&identity))
        .ok_or_else(|| order.from.failed("the host's answer was not understood", &from.shown()))?;
    let chunk = chunk_size(bytes);
    let free = number(to.get("free")).map(|kib| kib.saturating_mul(1024));
    let resumes = looked_at_target(order, &to, &identity, chunk)?;
    if let Some(free) = free
        && free.saturating_add(resumes.unwrap_or(0)) < bytes
    {
        return Err(Failure::new(Kind::Refused, "there is no room for the file")
            .on(order.to.host())
            .saw(format!("{} MiB free, {} MiB to come", free / MIB, (bytes - resumes.unwrap_or(0)) / MIB))
            .why("nothing was sent")
            .mend("make room there, or name another place"));
    }
    if bytes > MOST {
        return Err(Failure::new(Kind::Refused, "the file is larger than what is moved")
            .on(order.from.host())
            .saw(format!("{bytes} bytes, of at most {MOST}"))
            .why("no archive has as many: it is a sparse file, or the host lies")
            .mend("look at it there: stat, du"));
    }
    let mut tools = Vec::new();
    for (end, answer) in [(&order.from, &from), (&order.to, &to)] {
        match answer.get("tool") {
            _ if end.is_here() => tools.push("ferry".to_owned()),
            Some(tool) if tool != "none" => tools.push(tool.to_owned()),
            _ => {
                return Err(Failure::new(
                    Kind::Refused,
                    "there is no tool for sha256 (openssl, sha256sum, shasum, busybox)",
                )
                .on(end.host())
                .why("nothing counts as moved that was not hashed at both ends"));
            }
        }
    }
    let gmac =
        [(&order.from, &from), (&order.to, &to)].iter().all(|(end, said)| end.is_here() || said.get("mac").is_some());
    let [from_tool, to_tool] = [tools.first().cloned().unwrap_or_default(), tools.pop().unwrap_or_default()];
    let found = match &order.direct {
        Some(_) => Some(direct::look(order, source, target).await?),
        None => None,
    };
    let (streams, why_streams) = match found {
        Some(_) => (1, "the target has one FIFO for it".to_owned()),
        None => how_many(order, bytes, gmac, source, target).await,
    };
    Ok(Survey {
        sessions: [None, None],
        bytes,
        folder: false,
        chunk,
        streams,
        why_streams,
        free,
        tools: [from_tool, to_tool],
        gmac,
        replaces: to.get("exists").is_some(),
        resumes,
        identity,
        direct: found,
    })
}

fn bug() -> Failure {
    Failure::new(Kind::Bug, "a look ended without an answer")
}

/// The source is a folder: its place must be free, and have room for the archive and what is in it.
async fn look_at_folder(order: &Order, source: &mut Post, to: &Answer) -> Result<Survey, Failure> {
    let new = Order { force: false, ..order.clone() };
    let resumes = match looked_at_target(&new, to, super::tree::FOLDER, 0) {
        Ok(resumes) => resumes,
        // What an earlier one left may be thrown away; what has the name may not.
        Err(failure) if order.force && to.get("part").is_some() && to.get("exists").or(to.get("folder")).is_none() => {
            if to.get("odd").is_some() || to.get("loose").is_some() || to.get("readonly").is_some() {
                return Err(failure);
            }
            None
        }
        Err(failure) => return Err(failure),
    };
    // It may have many files.
    let from = source.ask(&[], "tree_look", Duration::from_secs(3600)).await?;
    if from.get("tar").is_none() {
        return Err(
            Failure::new(Kind::Refused, "there is no tar, and a folder goes as a tar stream").on(order.from.host())
        );
    }
    let tool = |answer: &Answer| answer.get("tool").filter(|tool| *tool != "none").map(str::to_owned);
    let (Some(from_tool), Some(to_tool)) = (tool(&from), tool(to)) else {
        return Err(Failure::new(Kind::Refused, "an end has no tool for sha256 (openssl, sha256sum, shasum, busybox)")
            .why("nothing counts as moved that was not hashed at both ends"));
    };
    let bytes = number(from.get("size")).unwrap_or(0).saturating_mul(1024);
    let free = number(to.get("free")).map(|kib| kib.saturating_mul(1024));
    if let Some(free) = free
        && free.saturating_add(resumes.unwrap_or(0)) < bytes.saturating_mul(2)
    {
        return Err(Failure::new(Kind::Refused, "there is no room for the folder")
            .on(order.to.host())
            .saw(format!("{} MiB free, {} MiB needed", free / MIB, bytes.saturating_mul(2) / MIB))
            .why("it is there twice until it is unpacked")
            .mend("make room there, or name another place"));
    }
    Ok(Survey {
        sessions: [None, None],
        bytes,
        folder: true,
        chunk: MOST_CHUNK,
        streams: 1,
        why_streams: "a tar stream has one beginning".to_owned(),
        free,
        tools: [from_tool, to_tool],
        gmac: false,
        replaces: false,
        resumes,
        identity: String::new(),
        direct: None,
    })
}

/// Which file the source is.
fn looked_at_source(order: &Order, said: &Answer) -> Result<String, Failure> {
    let end = &order.from;
    let failed = |what: &str| Failure::new(Kind::Failed, what.to_owned()).on(end.host()).saw(end.shown());
    if let Some(identity) = said.get("file") {
        return Ok(identity.to_owned());
    }
    if let Some(what) = said.get("odd") {
        return Err(failed("only a regular file is moved").why(format!("it is {what}")).mend("name the file itself"));
    }
    if said.get("folder").is_some() {
        return Err(changed(end, "a file", "a folder"));
    }
    if said.get("unreadable").is_some() {
        return Err(failed("the file may not be read by us").mend("become root there: -b, or ansible_become"));
    }
    if said.get("missing").is_some() {
        return Err(failed("there is no such file").why("or its folder may not be entered by us"));
    }
    Err(end.failed("the host's answer was not understood", &said.shown()))
}

/// Whether the place may be taken; the bytes that are gone on with.
fn looked_at_target(order: &Order, said: &Answer, identity: &str, chunk: u64) -> Result<Option<u64>, Failure> {
    let end = &order.to;
    let refused = |what: &str| Failure::new(Kind::Refused, what.to_owned()).on(end.host()).saw(end.shown());
    if said.get("nofolder").is_some() {
        return Err(refused("there is no such folder").mend("make it there first"));
    }
    if said.get("folder").is_some() {
        return Err(refused("a folder has the name").mend("end the name with / to put the file into it"));
    }
    if let Some(what) = said.get("odd") {
        return Err(refused("something else than a file has the name")
            .why(format!("it is {what}"))
            .mend("look at it, then remove it"));
    }
    if let Some(mode) = said.get("loose") {
        return Err(refused("everybody may put files into that folder")
            .saw(format!("{}: mode {mode}", end.shown()))
            .why("somebody could put a link where we write")
            .mend("name a folder that only its owner may write to"));
    }
    if said.get("readonly").is_some() {
        return Err(refused("the folder may not be written to by us").mend("become root there: -b, or ansible_become"));
    }
    if said.get("exists").is_some() && !order.force {
        return Err(refused("there is a file of that name already").mend("--force replaces it, or name another"));
    }
    let Some(part) = said.get("part") else { return Ok(None) };
    let head = said.get("head").unwrap_or_default();
    match (order.resume, same_source(head, order, identity, chunk)) {
        (true, true) => Ok(Some(number(Some(part)).unwrap_or(0))),
        (true, false) if order.force => Ok(None),
        (true, false) => {
            Err(refused("what an earlier transfer left there is of another file, or of another state of it")
                .why("a file that is half of one and half of another is neither")
                .mend("--force instead of --resume starts over"))
        }
        (false, _) if order.force => Ok(None),
        (false, _) => Err(refused("an earlier transfer to that place was not finished")
            .saw(format!("{}.ferry-part", end.shown()))
            .why("it may still be running elsewhere")
            .mend("--resume goes on with it, --force starts over")),
    }
}

/// What the journal begins with: whose transfer it is (the first word after the format), and of which file.
pub(super) fn header(id: &str, order: &Order, identity: &str, chunk: u64) -> String {
    format!("ferry-transfer-1 {id} {chunk} {identity} {}", Sha256::of(order.from.shown().as_bytes()))
}

fn same_source(head: &str, order: &Order, identity: &str, chunk: u64) -> bool {
    let id = head.split(' ').nth(1).unwrap_or_default();
    head == header(id, order, identity, chunk)
}

/// Both ends, by the connections that are there already.
fn posts(order: &Order, found: &mut Survey) -> [Post; 2] {
    let [from, to] = std::mem::take(&mut found.sessions);
    [(&order.from, from), (&order.to, to)].map(|(end, session)| Post::new(end, order.patience).with(session))
}

/// How many connections the way between this machine and the hosts asks for.
async fn how_many(order: &Order, bytes: u64, gmac: bool, source: &mut Post, target: &mut Post) -> (usize, String) {
    // Between two hosts each is two connections, and their windows are memory here.
    let room = if order.from.is_here() || order.to.is_here() { MOST_STREAMS } else { MOST_STREAMS / 2 };
    let most = usize::try_from(bytes / (2 * WINDOW)).unwrap_or(usize::MAX).clamp(1, room);
    if let Some(asked) = order.streams {
        return (asked.clamp(1, most), "as asked for".to_owned());
    }
    if most == 1 {
        return (1, "the file is small".to_owned());
    }
    let decides = if order.to.is_here() { &mut *source } else { target };
    let Some(time) = round_trip(decides).await else { return (1, "the round trip is not known".to_owned()) };
    let rate = order.limit_rate.unwrap_or(RATE).min(RATE);
    let source_near =
        order.from.is_here() || order.to.is_here() || round_trip(source).await.is_some_and(|time| time < NEAR);
    if time < NEAR && source_near {
        // Of one stream alone the target's tool reads the file itself, which is worth more than a second connection.
        let in_a_row = gmac && !order.to.is_here() && bytes <= MOST_IN_A_ROW;
        let few = if rate < RATE || bytes < LARGE || in_a_row { 1 } else { 2.min(most) };
        let two = if few == 2 { ", and one sshd encrypts on one core only" } else { "" };
        return (few, format!("a round trip of {:.1} ms{two}", time.as_secs_f64() * 1000.0));
    }
    if order.to.is_here() {
        return (1, "our own window fills the way".to_owned());
    }
    let wanted = (rate as f64 * time.as_secs_f64() / WINDOW as f64).ceil() as usize;
    (wanted.clamp(1, most), format!("a round trip of {} ms, and 2 MiB a round trip on each", time.as_millis()))
}

/// How long a word to the target and back takes.
async fn round_trip(target: &mut Post) -> Option<Duration> {
    let session = target.session().await.ok()?;
    // The far end: connections are as many as there may be, and what the server itself takes is little beside it. The near
    // one: no less than what was heard matters.
    if let Some(time) = session.round_trip().filter(|time| *time < NEAR || *time >= Duration::from_millis(50)) {
        return Some(time);
    }
    let mut child = session.open(&Command::shell("exec cat".to_owned())).await.ok()?;
    let mut least = Duration::MAX;
    for turn in 0..3 {
        let began = Instant::now();
        child.write(b".\n").await.ok()?;
        loop {
            match tokio::time::timeout(Duration::from_secs(10), child.next()).await.ok()?? {
                Piece::Out(bytes) if bytes.contains(&b'.') => break,
                _ => {}
            }
        }
        // The first one waits for the program to start.
        if turn > 0 {
            least = least.min(began.elapsed());
        }
        if turn == 1 && least < Duration::from_millis(3) {
            break;
        }
    }
    child.close_input().await;
    Some(least)
}

/// Moves the file. `progress` hears the count of bytes that are on their way or there, and the total.
///
/// # Errors
/// As [`survey`], and [`Kind::Failed`] when a disk is full, digests differ again and again, or the source keeps changing;
/// [`Kind::Unreachable`] when a connection did not come back within the patience.
pub async fn carry(order: &Order, survey: &Survey, mut progress: impl FnMut(u64, u64)) -> Result<Moved, Failure> {
    let began = Instant::now();
    if survey.folder {
        return super::tree::carry_tree(order, survey, &mut progress).await;
    }
    let mut order = order.clone();
    let mut found = survey.clone();
    let mut started_over = false;
    loop {
        let [mut source, mut target] = posts(&order, &mut found);
        match once(&order, &found, &mut source, &mut target, &mut progress).await {
            Ok(mut moved) => {
                (moved.took, moved.started_over) = (began.elapsed(), started_over);
                return Ok(moved);
            }
            // Once may be the end of its being written. What is there already is of no use.
            Err(failure) if failure.what == CHANGED && !started_over => {
                started_over = true;
                (order.resume, order.force) = (false, true);
                let replaces = found.replaces;
                found = look(&order, &mut source, &mut target).await?;
                if found.replaces && !replaces {
                    return Err(failure);
                }
            }
            Err(failure) => return Err(if failure.host.is_none() { failure.on(order.to.host()) } else { failure }),
        }
    }
}

/// What all spans of a transfer share.
pub(super) struct Job {
    pub(super) order: Order,
    pub(super) identity: String,
    pub(super) header: String,
    chunk: u64,
    lane: Lane,
    bytes: u64,
    /// Both ends make GMAC.
    gmac: bool,
    pub(super) passed: AtomicU64,
    pub(super) again: AtomicU64,
    cuts: AtomicU32,
    pub(super) limiter: Limiter,
    fare: Option<Arc<Fare>>,
    /// A chunk that was sent; none of that number where all of the source was read.
    sent: UnboundedSender<(usize, Landed)>,
    /// Spans whose source is still read, and how often one was begun to be.
    reading: AtomicUsize,
    readings: AtomicU64,
    /// The target's part is made.
    part: Part,
}

/// A row of bytes that goes over one connection, whole chunks.
pub(super) struct Span {
    pub(super) name: String,
    begin: u64,
    pub(super) end: u64,
    /// So far it is known to have arrived.
    pub(super) landed: u64,
    /// So far it was given away at the most.
    pub(super) sent: u64,
    pub(super) attempts: u32,
    /// Its source was read to the end.
    read: bool,
}

async fn once(
    order: &Order,
    found: &Survey,
    source: &mut Post,
    target: &mut Post,
    progress: &mut impl FnMut(u64, u64),
) -> Result<Moved, Failure> {
    let header = header(&format!("{:016x}", rand::random::<u64>()), order, &found.identity, found.chunk);
    let fare = match (&order.direct, &found.direct) {
        (Some(direct), Some(seen)) => Some(Arc::new(Fare::new(order, direct, seen)?)),
        _ => None,
    };
    let mut result = proved(order, found, &header, fare.clone(), source, target, progress).await;
    if let Some(fare) = fare
        && let Err(left) = fare.end().await
    {
        result = Err(match result {
            Ok(_) => {
                let why = left.why.as_deref().unwrap_or("the key of the transfer may not be gone");
                let why = format!("the file is whole and in its place; {why}");
                left.why(why)
            }
            Err(failure) => Failure::all([failure, left]).unwrap_or_else(bug),
        });
    }
    if let Err(failure) = &result {
        // A full disk keeps nothing of it, and bytes of a file that changed are of no use: both are in the way.
        if failure.what == CHANGED || failure.seen.as_deref().is_some_and(is_full) {
            let _ = target.ask(&[("H", header)], "target_drop", Duration::from_secs(60)).await;
        }
    }
    result
}

/// Makes the part and its journal, or goes on with those that are there.
async fn begin(order: &Order, header: &str, resumes: bool, target: &mut Post) -> Result<Answer, Failure> {
    let owner = order.owner.clone().unwrap_or_default();
    let login = match &order.to.place {
        Place::Host { way: Way::Ssh(target), .. } => target.user.clone(),
        _ => String::new(),
    };
    let begin = [("H", header.to_owned()), ("R", u8::from(resumes).to_string()), ("W", owner.clone()), ("U", login)];
    let begun = target.ask(&begin, "target_begin", Duration::from_secs(120)).await?;
    if begun.get("noowner").is_some() {
        return Err(Failure::new(Kind::Refused, "the file cannot be given to that owner")
            .on(order.to.host())
            .saw(owner)
            .mend("name a user (and group) that exists there, and become root"));
    }
    if begun.get("begun").is_none() {
        return Err(order.to.failed("the part could not be made", &begun.shown()));
    }
    if begun.get("keys").is_some()
        && let Err(failure) = direct::tidy(&order.to, order.patience).await
    {
        tracing::warn!(%failure, "what an earlier transfer from node to node left in authorized_keys is still there");
    }
    Ok(begun)
}

/// The streams of a transfer, and what is made of them beside.
struct Streams {
    job: Arc<Job>,
    at_once: usize,
    spans: JoinSet<Result<(), Failure>>,
    names: u32,
    /// The SHA-256 of the whole is to be made of the stream, where that comes in one piece.
    named: bool,
    whole: Option<Whole>,
    /// It came otherwise, or some of it was sent again.
    spoiled: bool,
    proof: UnboundedSender<Proof>,
}

impl Streams {
    /// Begins to send these chunks, of a file that has `count`. With `marks` their tags are told as the source's.
    fn launch(&mut self, todo: &[usize], count: usize, marks: Option<&Key>) -> Result<(), Failure> {
        let cut = cut(todo, self.at_once);
        let in_one = cut.len() == 1 && todo.len() == count;
        let marker = |first| marks.map(|key| Marker::new(key, &self.job, first, &self.proof));
        let hashes = in_one
            && (count > 1 || self.job.gmac)
            && (self.named || marks.is_some())
            && self.whole.is_none()
            && !self.spoiled
            && self.job.fare.is_none();
        if hashes {
            self.whole = Some(Whole::start(marker(0), self.named)?);
        }
        for (first, last) in cut {
            self.names += 1;
            let begin = first as u64 * self.job.chunk;
            let end = ((last as u64 + 1) * self.job.chunk).min(self.job.bytes);
            let name = format!("{}", self.names);
            let span = Span { name, begin, end, landed: begin, sent: begin, attempts: 0, read: false };
            self.job.reading.fetch_add(1, Ordering::AcqRel);
            let beside = match &self.whole {
                Some(whole) if hashes => Beside::Thread(whole.pieces.another()),
                _ => marker(first).map_or(Beside::Nothing, |marker| Beside::Marker(Box::new(marker))),
            };
            let job = Arc::clone(&self.job);
            self.spans.spawn(async move {
                // No byte of it passes here, and its connections are needed when the span is over.
                match job.fare {
                    Some(_) => carry_span(job, span, beside).await,
                    None => apart("ferry-span", move || carry_span(job, span, beside)).await?,
                }
            });
        }
        Ok(())
    }

    /// What was made of the stream is of no use.
    fn spoil(&mut self) {
        (self.whole, self.spoiled) = (None, true);
    }
}

/// The last look at the source, made as soon as it is read: while the last bytes arrive.
#[derive(Default)]
struct LastLook {
    said: Option<Answer>,
    /// After so many readings it was made.
    readings: u64,
    /// The answer is owed by the shell that is open.
    owed: bool,
}

impl LastLook {
    /// The source was read once more: what was said counts no more.
    fn forget(&mut self) {
        (self.said, self.owed) = (None, false);
    }

    /// Looks where all has been read and nobody looked since.
    async fn take(&mut self, job: &Job, ledger: &Ledger, source: &mut Post) -> Result<(), Failure> {
        let readings = job.readings.load(Ordering::Acquire);
        if job.reading.load(Ordering::Acquire) > 0 || readings <= self.readings {
            return Ok(());
        }
        (self.said, self.readings) = (None, readings);
        let limit = Duration::from_secs(60);
        if job.order.from.is_here() || !job.gmac {
            self.said = Some(source.ask(&[("B", "1".to_owned())], "source_look", limit).await?);
        } else {
            self.owed = true;
            ledger.ask(Side::Source, Ask::Call { number: readings, line: "l".to_owned(), limit });
        }
        Ok(())
    }
}

/// Which digests prove the transfer, and whether the target is read in a row.
fn way_of_proof(order: &Order, found: &Survey, resumes: bool) -> (By, bool) {
    // One stream, from the first byte to the last, never torn, in whole blocks of the cipher: the target's tool reads behind its
    // writer what is there, and opens the file itself. A pipe that gives it a chunk costs three times the tag.
    let in_a_row = found.streams == 1 && !order.to.is_here() && found.bytes <= MOST_IN_A_ROW;
    let by = if resumes {
        By::Chunks
    } else if order.direct.is_some() || order.to.is_here() && !order.from.is_here() {
        // No stream passes here, or what it brings is read back here.
        By::Whole
    } else {
        By::Stream
    };
    (by, in_a_row)
}

async fn proved(
    order: &Order,
    found: &Survey,
    header: &str,
    fare: Option<Arc<Fare>>,
    source: &mut Post,
    target: &mut Post,
    progress: &mut impl FnMut(u64, u64),
) -> Result<Moved, Failure> {
    let bug_of = |error: NoTag| Failure::new(Kind::Bug, error.to_string());
    let resumes = order.resume && found.resumes.is_some();
    let key = if found.gmac { Some(Key::new().map_err(bug_of)?) } else { None };
    let (by, in_a_row) = way_of_proof(order, found, resumes);
    let (mut ledger, asked) = Ledger::new((found.bytes, found.chunk), key.clone(), by, in_a_row, order.from.is_here());
    let count = ledger.count();
    let (sent, mut words) = mpsc::unbounded_channel();
    let (proof, mut proofs) = mpsc::unbounded_channel();
    let (made, part) = Part::new();
    let job = Arc::new(Job {
        order: order.clone(),
        identity: found.identity.clone(),
        header: header.to_owned(),
        chunk: found.chunk,
        lane: if found.streams > 1 { Lane::Strand } else { Lane::Bulk },
        bytes: found.bytes,
        gmac: found.gmac,
        passed: AtomicU64::new(0),
        again: AtomicU64::new(0),
        cuts: AtomicU32::new(0),
        limiter: Limiter::new(order.limit_rate),
        fare,
        sent,
        reading: AtomicUsize::new(0),
        readings: AtomicU64::new(0),
        part,
    });
    let named = order.sha256 || key.is_none();
    // Its bytes do not pass here, or not in a row: the source makes the digest of the whole, beside the stream.
    let mut whole_there = JoinSet::new();
    let asunder = order.sha256 && key.is_some() && (found.streams > 1 || resumes);
    if (named && job.fare.is_some() || asunder) && (count > 1 || found.gmac) {
        let (from, bytes, mut post) = (order.from.clone(), found.bytes, Post::new(&order.from, order.patience));
        whole_there.spawn(async move { named_by(&from, bytes, &mut post).await });
    }
    let mut streams = Streams {
        job: Arc::clone(&job),
        at_once: found.streams,
        spans: JoinSet::new(),
        names: 0,
        named,
        whole: None,
        spoiled: false,
        proof: proof.clone(),
    };
    // A new part holds nothing: what goes into it is brought up to its door meanwhile.
    if !resumes && job.fare.is_none() {
        streams.launch(&ledger.sends(), count, ledger.marks())?;
    }
    let begun = begin(order, header, resumes, target).await?;
    let _ = made.send(true);
    // Those of hosts end when nobody asks any more; one here has its last notes still to take.
    let (mut provers, mut near) = (JoinSet::new(), JoinSet::new());
    for ((post, side), asked) in [(&mut *source, Side::Source), (&mut *target, Side::Target)].into_iter().zip(asked) {
        let session = if post.end.is_here() { None } else { Some(post.session().await?) };
        let whose = Whose { header: header.to_owned(), key: key.clone() };
        let set = if post.end.is_here() { &mut near } else { &mut provers };
        set.spawn(prover(post.end.clone(), side, whose, session, asked, proof.clone(), order.patience));
    }
    let kept = ledger.resume(begun.all("had"));
    job.passed.fetch_add(kept, Ordering::Relaxed);
    let mut look = LastLook::default();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        ledger.check_row(job.cuts.load(Ordering::Relaxed) > 0);
        look.take(&job, &ledger, source).await?;
        if streams.spans.is_empty() && words.is_empty() {
            let todo = ledger.sends();
            if !todo.is_empty() {
                streams.launch(&todo, count, ledger.marks())?;
            } else {
                match ledger.settle().map_err(bug_of)? {
                    Settled::Open => {}
                    Settled::Proved => break,
                    Settled::Differs => streams.spoil(),
                }
            }
        }
        tokio::select! {
            biased;
            Some((number, landed)) = words.recv() => ledger.sent(number, landed),
            Some(said) = proofs.recv() => match said {
                Proof::Broken(failure) => return Err(failure),
                Proof::Said(number, said) if number == look.readings => (look.said, look.owed) = (said, false),
                said => if let Some(bytes) = ledger.hear(said)? {
                    streams.spoil();
                    job.passed.fetch_sub(bytes, Ordering::Relaxed);
                    job.again.fetch_add(bytes, Ordering::Relaxed);
                },
            },
            Some(ended) = streams.spans.join_next(), if !streams.spans.is_empty() => {
                ended.map_err(|error| Failure::new(Kind::Bug, error.to_string()))??;
            }
            _ = tick.tick() => progress(job.passed.load(Ordering::Relaxed).min(found.bytes), found.bytes),
        }
    }
    progress(found.bytes, found.bytes);
    // After a cut some bytes came twice: the first ones are in its digest, the last ones in the file. The tags of the same stream say
    // whether they are the same.
    let bound = ledger.marks().is_some() || job.cuts.load(Ordering::Relaxed) == 0;
    let mut sha256 = match (ledger.sha256(), streams.whole.filter(|_| bound)) {
        (Some(digest), _) => Some(digest),
        (None, Some(whole)) => whole.finish(found.bytes).await?,
        (None, None) => match whole_there.join_next().await {
            Some(Ok(made)) => {
                look.forget();
                Some(made?)
            }
            _ => None,
        },
    };
    // Many streams, or one that was torn: no part of the proof, so the source alone is asked.
    if order.sha256 && sha256.is_none() {
        look.forget();
        sha256 = Some(named_by(&order.from, found.bytes, source).await?);
    }
    if look.owed {
        look.said = answer(&mut proofs, look.readings).await?;
    }
    unchanged(order, found, look.said, source).await?;
    // The shell that made the digests is open, and its notes are before the last step.
    let mut said = None;
    if !order.to.is_here()
        && found.gmac
        && let Some(line) = last_line(order, found)
    {
        let limit = Duration::from_secs(found.bytes / SLOWEST);
        ledger.ask(Side::Target, Ask::Call { number: u64::MAX, line, limit });
        said = answer(&mut proofs, u64::MAX).await?;
    }
    drop(ledger);
    while near.join_next().await.is_some() {}
    if said.is_none() && !order.to.is_here() {
        while provers.join_next().await.is_some() {}
    }
    finish(order, found, header, said, target).await?;
    Ok(Moved {
        bytes: found.bytes,
        chunks: count,
        sha256,
        cuts: job.cuts.load(Ordering::Relaxed),
        sent_again: job.again.load(Ordering::Relaxed),
        kept,
        streams: found.streams,
        started_over: false,
        took: Duration::ZERO,
    })
}

/// The SHA-256 of the source, read once more.
async fn named_by(from: &End, bytes: u64, source: &mut Post) -> Result<Sha256, Failure> {
    let failed = |why: &str| from.failed("no SHA-256 of the file could be made", why);
    if !from.is_here() {
        let answer = source.ask(&[], "source_digest", Duration::from_secs(600 + bytes / SLOWEST)).await?;
        return answer.get("digest").and_then(|digest| digest.parse().ok()).ok_or_else(|| failed(&answer.shown()));
    }
    let path = path_here(from, Side::Source);
    let made =
        tokio::task::spawn_blocking(move || digest_here(&path, Side::Source, 0, bytes, None, &Pool::new(super::PIECE)));
    match made.await.map_err(|error| Failure::new(Kind::Bug, error.to_string()))? {
        Ok(Digest::Sha256(digest)) => Ok(digest),
        Ok(Digest::Gmac(_)) => Err(bug()),
        Err(error) => Err(failed(&error.to_string())),
    }
}

/// The answer to a call in an open shell; `None` where it did not come to its end.
async fn answer(proofs: &mut UnboundedReceiver<Proof>, call: u64) -> Result<Option<Answer>, Failure> {
    while let Some(said) = proofs.recv().await {
        match said {
            Proof::Said(number, said) if number == call => return Ok(said),
            Proof::Broken(failure) => return Err(failure),
            _ => {}
        }
    }
    Ok(None)
}

/// The last step as a line for the target's open shell; `None` for an owner that no such line can hold.
fn last_line(order: &Order, found: &Survey) -> Option<String> {
    let owner = order.owner.as_deref().unwrap_or("-");
    let plain = !owner.is_empty() && !owner.contains(|c: char| c.is_whitespace() || c.is_control());
    let plain = plain && (order.owner.is_none() || !owner.starts_with('-'));
    let how = if order.force { "force" } else { "new" };
    plain.then(|| format!("x {} {:04o} {how} {owner}", found.bytes, order.mode))
}

/// The source is still the same file.
async fn unchanged(order: &Order, found: &Survey, still: Option<Answer>, source: &mut Post) -> Result<(), Failure> {
    let still = match still {
        Some(still) => still,
        None => source.ask(&[("B", "1".to_owned())], "source_look", Duration::from_secs(60)).await?,
    };
    let after = looked_at_source(order, &still)?;
    if after != found.identity {
        return Err(changed(&order.from, &found.identity, &after));
    }
    Ok(())
}

/// The part gets its name: what the target's open shell said of it, else it is asked.
async fn finish(
    order: &Order,
    found: &Survey,
    header: &str,
    said: Option<Answer>,
    target: &mut Post,
) -> Result<(), Failure> {
    let values = [
        ("H", header.to_owned()),
        ("N", found.bytes.to_string()),
        ("W", order.owner.clone().unwrap_or_default()),
        ("X", format!("{:04o}", order.mode)),
        ("K", if order.force { "force" } else { "new" }.to_owned()),
    ];
    let limit = Duration::from_secs(120 + found.bytes / SLOWEST);
    let said = match said {
        Some(said) => said,
        None => target.ask(&values, "target_finish", limit).await?,
    };
    if said.get("taken").is_some() {
        // The answer to a first question may have been lost: then the part has its name already.
        let now = target.ask(&[], "target_look", Duration::from_secs(60)).await?;
        if number(now.get("exists")) == Some(found.bytes) && now.get("part").is_none() && !order.force {
            return Ok(());
        }
        return Err(Failure::new(Kind::Unknown, "whether the file got its name is not known")
            .on(order.to.host())
            .saw(now.shown())
            .why("the part is gone or is another transfer's, and the connection was lost meanwhile")
            .mend("look at it there; --force moves it once more"));
    }
    if said.get("done").is_some() {
        return Ok(());
    }
    if said.get("exists").is_some() || said.get("odd").is_some() {
        return Err(Failure::new(Kind::Refused, "meanwhile something else got that name")
            .on(order.to.host())
            .saw(order.to.shown())
            .mend("look at it; --resume --force then replaces it"));
    }
    Err(order.to.failed("the file could not be put in place", &said.shown()))
}

/// Rows of chunks that follow each other, about as many as there are connections.
fn cut(todo: &[usize], streams: usize) -> Vec<(usize, usize)> {
    let each = todo.len().div_ceil(streams.max(1)).max(1);
    let mut rows: Vec<(usize, usize)> = Vec::new();
    for chunk in todo {
        match rows.last_mut() {
            Some((first, last)) if *last + 1 == *chunk && *last - *first + 1 < each => *last = *chunk,
            _ => rows.push((*chunk, *chunk)),
        }
    }
    rows
}

/// Carries a span, over as many connections as it takes.
async fn carry_span(job: Arc<Job>, mut span: Span, mut beside: Beside) -> Result<(), Failure> {
    let mut pause = Duration::from_millis(200);
    let mut moved = Instant::now();
    loop {
        let before = span.landed;
        let attempted = match &job.fare {
            Some(fare) => fare.attempt(&job, &mut span).await,
            None => attempt(&job, &mut span, &mut beside).await,
        };
        let failure = match attempted {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        tracing::info!(span = span.name, landed = span.landed, sent = span.sent, %failure, "a stream ended early");
        if !failure.again {
            return Err(failure);
        }
        job.cuts.fetch_add(1, Ordering::Relaxed);
        // What was sent is not what arrived.
        if span.landed > before {
            moved = Instant::now();
            pause = Duration::from_millis(200);
        }
        if moved.elapsed() > job.order.patience {
            let mut failure = failure.within("transfer");
            failure.why = Some("what has arrived is kept: --resume goes on with it".to_owned());
            return Err(failure);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(15));
    }
}

/// One pair of connections' worth of a span.
async fn attempt(job: &Job, span: &mut Span, beside: &mut Beside) -> Result<(), Failure> {
    let (from, to, patience) = (&job.order.from, &job.order.to, job.order.patience);
    let first = span.attempts == 0;
    span.attempts += 1;
    let sinking = Sink::open(to, &job.header, &span.name, span.landed, span.sent, job.part.clone());
    // Only after a cut it is not known where the target begins.
    let (mut sink, mut feed) = if first {
        let (sink, feed) =
            tokio::join!(sinking, Feed::open(from, &job.identity, span.begin, span.end, job.lane, patience));
        (sink?, feed?)
    } else {
        let sink = sinking.await?;
        let feed = Feed::open(from, &job.identity, sink.at(), span.end, job.lane, patience).await?;
        (sink, feed)
    };
    let back = span.sent - sink.at();
    job.passed.fetch_sub(back, Ordering::Relaxed);
    job.again.fetch_add(back, Ordering::Relaxed);
    (span.landed, span.sent) = (sink.at(), sink.at());
    job.arrived(span, Landed::Certain, span.begin, span.landed);
    job.reads(span);
    // What ends within a block of the cipher waits for the next piece: a server's packets end anywhere, and who reads behind the
    // writer reads whole blocks.
    let mut rest = Vec::new();
    loop {
        match feed.next().await {
            Ok(Some(bytes)) => {
                let count = bytes.len() as u64;
                job.limiter.take(count).await;
                match beside {
                    Beside::Nothing => {}
                    // Its end is not ours.
                    Beside::Thread(pieces) => drop(pieces.give((span.sent, bytes.clone()), bytes.len()).await),
                    Beside::Marker(marker) => marker.take(span.sent, &bytes),
                }
                // Before it is written: a part of it may arrive even if the write fails.
                span.sent += count;
                job.passed.fetch_add(count, Ordering::Relaxed);
                let given = span.sent - count - rest.len() as u64;
                sink = give(sink, span, whole_blocks(&mut rest, bytes)).await?;
                // What waits for the next piece has not been given to anybody.
                job.arrived(span, sink.landed(), given, span.sent - rest.len() as u64);
            }
            Ok(None) => {
                job.has_read(span);
                if let Beside::Thread(pieces) = beside {
                    pieces.flush().await;
                }
                sink = give(sink, span, rest.into()).await?;
                break;
            }
            Err(failure) => {
                // The target is still there: it tells exactly how far it came.
                if let (true, Ok(at)) = (failure.again, sink.finish().await) {
                    span.landed = at.clamp(span.landed, span.sent);
                }
                return Err(failure);
            }
        }
    }
    let at = sink.finish().await?;
    if at != span.end {
        span.landed = at.clamp(span.landed, span.sent);
        return Err(Failure::new(Kind::Unreachable, "not all bytes arrived")
            .on(to.host())
            .saw(format!("byte {at} of {}", span.end))
            .again());
    }
    span.landed = at;
    job.arrived(span, Landed::Certain, span.begin, span.end);
    Ok(())
}

/// Hands bytes of a span over, and the sink back.
async fn give(mut sink: Sink, span: &mut Span, bytes: Bytes) -> Result<Sink, Failure> {
    if bytes.is_empty() {
        return Ok(sink);
    }
    let Err(failure) = sink.write(bytes).await else { return Ok(sink) };
    // The writer's last words say more.
    Err(match sink.finish().await {
        Err(told) if !told.again => told,
        Ok(at) => {
            span.landed = at.clamp(span.landed, span.sent);
            failure.again()
        }
        Err(_) => failure.again(),
    })
}

/// What was left of the pieces before and this one, as far as there are whole blocks of the cipher.
fn whole_blocks(rest: &mut Vec<u8>, piece: Bytes) -> Bytes {
    let mut piece = if rest.is_empty() {
        piece
    } else {
        let mut joined = std::mem::take(rest);
        joined.extend_from_slice(&piece);
        joined.into()
    };
    *rest = piece.split_off(piece.len() - piece.len() % BLOCK).into();
    piece
}

impl Job {
    /// The source of a span is read, maybe once more.
    pub(super) fn reads(&self, span: &mut Span) {
        if std::mem::take(&mut span.read) {
            self.reading.fetch_add(1, Ordering::AcqRel);
        }
        self.readings.fetch_add(1, Ordering::AcqRel);
    }

    /// All of it was read.
    pub(super) fn has_read(&self, span: &mut Span) {
        if !std::mem::replace(&mut span.read, true) {
            self.reading.fetch_sub(1, Ordering::AcqRel);
            let _ = self.sent.send((usize::MAX, Landed::Certain));
        }
    }

    /// Tells of the chunks of a span that end behind `after` and not behind `until`.
    pub(super) fn arrived(&self, span: &Span, landed: Landed, after: u64, until: u64) {
        let first = span.begin.max(after) / self.chunk;
        let last = span.end.min(until).div_ceil(self.chunk);
        for chunk in first..last {
            let end = ((chunk + 1) * self.chunk).min(self.bytes);
            if end > after && end <= until {
                let _ = self.sent.send((usize::try_from(chunk).unwrap_or(usize::MAX), landed.clone()));
            }
        }
    }
}

/// What is made of a span's bytes beside sending them.
enum Beside {
    Nothing,
    /// All that [`Whole`] makes, on its thread.
    Thread(Batches<(u64, Bytes)>),
    /// The tags of its chunks.
    Marker(Box<Marker>),
}

/// Makes the tags of the chunks of a stream that pass, and tells them as the source's.
pub(super) struct Marker {
    key: Key,
    chunk: u64,
    bytes: u64,
    at: u64,
    running: Running,
    tell: UnboundedSender<Proof>,
}

impl Marker {
    /// Of a stream that begins with this chunk.
    fn new(key: &Key, job: &Job, first: usize, tell: &UnboundedSender<Proof>) -> Self {
        let (chunk, bytes) = (job.chunk, job.bytes);
        let at = first as u64 * chunk;
        Self { key: key.clone(), chunk, bytes, at, running: Running::new(key), tell: tell.clone() }
    }

    /// Takes a piece of the stream that begins at byte `at`. After a cut some come twice.
    fn take(&mut self, at: u64, piece: &[u8]) {
        if let Err(error) = self.try_take(at, piece) {
            let _ = self.tell.send(Proof::Broken(Failure::new(Kind::Bug, error.to_string())));
        }
    }

    fn try_take(&mut self, at: u64, piece: &[u8]) -> Result<(), NoTag> {
        let known = self.at.checked_sub(at).ok_or(NoTag)?;
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(piece.len());
        let mut piece = piece.get(known..).unwrap_or_default();
        while !piece.is_empty() {
            let number = self.at / self.chunk;
            let end = ((number + 1) * self.chunk).min(self.bytes);
            let (of_it, rest) = piece.split_at(piece.len().min(usize::try_from(end - self.at).unwrap_or(usize::MAX)));
            self.running.update(of_it)?;
            self.at += of_it.len() as u64;
            piece = rest;
            if of_it.is_empty() {
                return Err(NoTag);
            }
            if self.at == end {
                let done = std::mem::replace(&mut self.running, Running::new(&self.key));
                let digest = Digest::Gmac(self.key.whole(done.share()?));
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                let _ = self.tell.send(Proof::Digest(Side::Source, number, digest));
            }
        }
        Ok(())
    }
}

/// The digest of the whole stream, made beside it.
pub(super) struct Whole {
    pub(super) pieces: Batches<(u64, Bytes)>,
    thread: std::thread::JoinHandle<Hasher>,
    named: bool,
}

impl Whole {
    /// With a marker, that is fed as well. Where it is not to be `named`, the marker alone.
    pub(super) fn start(mut marker: Option<Marker>, named: bool) -> Result<Self, Failure> {
        let (pieces, mut taken) = Batches::<(u64, Bytes)>::new();
        let thread = super::thread("ferry-hash", move || {
            let mut hasher = Hasher::new();
            while let Some(batch) = taken.blocking_recv() {
                for (at, piece) in batch {
                    if let Some(marker) = &mut marker {
                        marker.take(at, &piece);
                    }
                    // After a cut some come twice.
                    let known = usize::try_from(hasher.bytes().saturating_sub(at)).unwrap_or(usize::MAX);
                    if named && at <= hasher.bytes() {
                        hasher.update(piece.get(known.min(piece.len())..).unwrap_or_default());
                    }
                }
            }
            hasher
        })?;
        Ok(Self { pieces, thread, named })
    }

    pub(super) async fn finish(mut self, bytes: u64) -> Result<Option<Sha256>, Failure> {
        self.pieces.flush().await;
        drop(self.pieces);
        let hasher = tokio::task::spawn_blocking(move || self.thread.join()).await;
        match hasher {
            Ok(Ok(hasher)) => Ok((self.named && hasher.bytes() == bytes).then(|| hasher.finish())),
            _ => Err(Failure::new(Kind::Bug, "a thread of the transfer panicked")),
        }
    }
}

/// Lets so many bytes a second through.
pub(super) struct Limiter {
    rate: Option<u64>,
    free: tokio::sync::Mutex<tokio::time::Instant>,
}

impl Limiter {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate, free: tokio::sync::Mutex::new(tokio::time::Instant::now()) }
    }

    pub(super) async fn take(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let due = {
            let mut free = self.free.lock().await;
            // What was not used is made up for within a burst of 50 ms.
            let now = tokio::time::Instant::now();
            let begin = (*free).max(now.checked_sub(Duration::from_millis(50)).unwrap_or(now));
            *free = begin + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            *free
        };
        tokio::time::sleep_until(due).await;
    }
}

/// `HOST:PATH`, or a path here: a colon before the first slash names a host, as with scp.
pub fn parse_end(text: &str) -> (Option<&str>, &str) {
    match text.split_once(':') {
        Some((host, path)) if !host.is_empty() && !host.contains('/') => (Some(host), path),
        _ => (None, text),
    }
}

/// Bytes a second from words such as `10M`, `500k`, `1G`: powers of 1024, a bare number is bytes.
pub fn parse_rate(text: &str) -> Option<u64> {
    let units: BTreeMap<char, u32> = [('k', 10), ('m', 20), ('g', 30)].into();
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix("/s").unwrap_or(&text);
    let text = text.strip_suffix("ib").or_else(|| text.strip_suffix('b')).unwrap_or(text);
    let (digits, shift) = match text.chars().last().and_then(|last| units.get(&last)) {
        Some(shift) => (text.get(..text.len() - 1)?, *shift),
        None => (text, 0),
    };
    let rate = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (rate > 0).then_some(rate)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_meant() {
        for (text, expected) in [
            ("a:/x", (Some("a"), "/x")),
            ("/x:y", (None, "/x:y")),
            ("./a:b", (None, "./a:b")),
            ("x", (None, "x")),
            (":x", (None, ":x")),
        ] {
            assert_eq!(parse_end(text), expected);
        }
        for (text, expected) in [
            ("10M", Some(10 << 20)),
            ("500k", Some(500 << 10)),
            ("1GiB/s", Some(1 << 30)),
            ("7", Some(7)),
            ("0", None),
            ("x", None),
            ("", None),
            ("99999999999G", None),
        ] {
            assert_eq!(parse_rate(text), expected, "{text}");
        }
    }

    #[test]
    fn pieces_end_with_whole_blocks() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let (mut rest, mut given, mut at) = (Vec::new(), Vec::new(), 0);
        for length in [16, 1, 0, 15, 17, 3, 4096, 7, 5, 1, 800, 39] {
            let piece = whole_blocks(&mut rest, Bytes::copy_from_slice(&bytes[at..at + length]));
            at += length;
            assert!(
                piece.len().is_multiple_of(BLOCK) && rest.len() < BLOCK,
                "{length}: {} and {}",
                piece.len(),
                rest.len()
            );
            given.extend_from_slice(&piece);
        }
        given.extend_from_slice(&rest);
        assert!(at == 5000 && given == bytes && !rest.is_empty());
    }

    #[test]
    fn every_chunk_is_in_one_span() {
        for streams in 1..=8 {
            for count in 0..40 {
                let todo: Vec<usize> = (0..count).filter(|chunk| chunk % 7 != 3).collect();
                let cut = cut(&todo, streams);
                let all: Vec<usize> = cut.iter().flat_map(|(first, last)| *first..=*last).collect();
                assert_eq!(all, todo);
            }
        }
        assert_eq!(cut(&(0..16).collect::<Vec<_>>(), 8).len(), 8);
        assert_eq!(cut(&(0..16).collect::<Vec<_>>(), 1), [(0, 15)]);
    }
}
