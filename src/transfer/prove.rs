//! The digests of chunks at both ends, made while the stream runs on behind them.
//!
//! A host makes its own, by the fastest tool there: one shell stays open and is told which chunk is next. Here ferry
//! reads the file again itself. A chunk of the target is read only once its writer stands behind the chunk's end, and
//! after the file was synced.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::PIECE;
use super::disk::Disk;
use super::ends::{Answer, End, mark, meant, script};
use super::gmac::{Key, Running, Tag};
use super::slab::Pool;
use crate::digest::{Hasher, Sha256};
use crate::failure::{Failure, Kind};
use crate::remote::ssh::connect::Lane;
use crate::remote::{Exit, Piece, Session};
use crate::secret::clean;

const MIB: u64 = 1 << 20;
/// So long an end may say nothing while a digest is owed: a chunk of 64 MiB on a disk that reads 1 MiB a second.
const SILENCE: Duration = Duration::from_secs(120);

/// The slowest disk that is waited for where a whole file is read, in bytes a second.
const SLOWEST: u64 = 10 << 20;

/// Lines of an answer at most.
const MOST_LINES: usize = 64;

/// A digest of bytes, by either of two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digest {
    Sha256(Sha256),
    /// Under the key of this transfer.
    Gmac(Tag),
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::Gmac(tag) => tag.fmt(f),
        }
    }
}

impl std::str::FromStr for Digest {
    type Err = ();
    /// From 64 hexadecimal digits, or from 32.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text.len() {
            32 => text.parse().map(Self::Gmac).map_err(|_| ()),
            _ => text.parse().map(Self::Sha256).map_err(|_| ()),
        }
    }
}

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Target,
}

/// What tells that a chunk has arrived.
#[derive(Debug, Clone)]
pub(super) enum Landed {
    /// It is known.
    Certain,
    /// When this process there stands behind its end.
    Writer(u32),
    /// When what is written here does.
    Here(Arc<Stand>),
}

/// How far a file here is written.
#[derive(Debug, Default)]
pub(super) struct Stand {
    at: AtomicU64,
    over: AtomicBool,
}

impl Stand {
    /// All before this byte was written.
    pub(super) fn is_at(&self, byte: u64) {
        self.at.store(byte, Ordering::Release);
    }

    /// Nobody writes any more.
    pub(super) fn is_over(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Waits until all before this byte was written; whether that will be.
    async fn reaches(&self, byte: u64) -> bool {
        loop {
            // First: what is over has been told how far it came.
            let over = self.over.load(Ordering::Acquire);
            if self.at.load(Ordering::Acquire) >= byte {
                return true;
            }
            if over {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What a prover is told.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    /// The digest of a chunk: its number, the byte it begins at (whole MiB), its length.
    Digest { chunk: usize, at: u64, length: u64, landed: Landed },
    /// The tag of what the file has behind the last one, up to where it ends then: behind this chunk's end, or further on.
    Follow { chunk: usize, end: u64, landed: Landed },
    /// The journal shall hold it.
    Note { chunk: usize, digest: Option<Digest> },
    /// The digest of the whole file, of so many bytes.
    Whole { bytes: u64 },
    /// A call of `end.sh` in the shell that is open: its line, and how long it may take. A host's only.
    Call { number: u64, line: String, limit: Duration },
}

/// What a prover says.
#[derive(Debug)]
pub(super) enum Proof {
    /// The digest of a chunk.
    Digest(Side, usize, Digest),
    /// The tag of the target's bytes from here to there.
    Followed(u64, u64, Digest),
    /// The digest of the whole file.
    Whole(Digest),
    /// Its writer ended before it stood behind the chunk.
    Gone(usize),
    /// The answer to this call; `None` where it did not come to its end.
    Said(u64, Option<Answer>),
    /// No more digests come from there.
    Broken(Failure),
}

/// Which transfer an end answers for.
#[derive(Clone)]
pub(super) struct Whose {
    /// What its journal begins with.
    pub(super) header: String,
    /// What its digests are made by; `None`: SHA-256.
    pub(super) key: Option<Key>,
}

/// Answers for one end until nobody asks any more.
pub(super) async fn prover(
    end: End,
    side: Side,
    whose: Whose,
    first: Option<Session>,
    asks: UnboundedReceiver<Ask>,
    tell: UnboundedSender<Proof>,
    patience: Duration,
) {
    let result = if end.is_here() {
        here(&end, side, whose.key.as_ref(), asks, &tell).await
    } else {
        let here = Prover { end: &end, side, header: &whose.header, key: whose.key.as_ref(), tell: &tell };
        here.there(first, asks, patience).await
    };
    if let Err(failure) = result {
        let _ = tell.send(Proof::Broken(if failure.host.is_none() { failure.on(end.host()) } else { failure }));
    }
}

/// The file of an end that is here.
pub(super) fn path_here(end: &End, side: Side) -> PathBuf {
    match side {
        Side::Source => PathBuf::from(&end.path),
        Side::Target => PathBuf::from(format!("{}.ferry-part", end.path)),
    }
}

async fn here(
    end: &End,
    side: Side,
    key: Option<&Key>,
    mut asks: UnboundedReceiver<Ask>,
    tell: &UnboundedSender<Proof>,
) -> Result<(), Failure> {
    let path = path_here(end, side);
    let pool = Pool::new(PIECE);
    while let Some(ask) = asks.recv().await {
        match ask {
            Ask::Digest { chunk, at, length, landed } => {
                if let Landed::Here(stand) = landed
                    && !stand.reaches(at + length).await
                {
                    let _ = tell.send(Proof::Gone(chunk));
                    continue;
                }
                let (path, pool, key) = (path.clone(), pool.clone(), key.cloned());
                let made =
                    tokio::task::spawn_blocking(move || digest_here(&path, side, at, length, key.as_ref(), &pool))
                        .await;
                let digest = made
                    .map_err(|error| Failure::new(Kind::Bug, error.to_string()))?
                    .map_err(|error| end.failed("the file could not be read for its digest", &error.to_string()))?;
                let _ = tell.send(Proof::Digest(side, chunk, digest));
            }
            Ask::Note { chunk, digest } => {
                let journal = format!("{}.journal", path.display());
                let line = line(&Ask::Note { chunk, digest }, key).split_off(2);
                // Only for a later --resume: a transfer does not end for it.
                let noted = tokio::task::spawn_blocking(move || {
                    use std::io::Write as _;
                    std::fs::OpenOptions::new().append(true).open(journal)?.write_all(line.as_bytes())
                });
                if let Ok(Err(error)) = noted.await {
                    tracing::warn!(%error, "a chunk could not be noted");
                }
            }
            // What is read here is hashed as it is read, and what is written here chunk by chunk: nobody asks.
            Ask::Whole { .. } | Ask::Follow { .. } => {}
            Ask::Call { number, .. } => drop(tell.send(Proof::Said(number, None))),
        }
    }
    Ok(())
}

/// Reads and hashes a part of a file; of a target from its disk, where the file system lets go of what it keeps in memory.
pub(super) fn digest_here(
    path: &std::path::Path,
    side: Side,
    at: u64,
    length: u64,
    key: Option<&Key>,
    pool: &Pool,
) -> std::io::Result<Digest> {
    let mut file = Disk::open(path, false)?;
    if side == Side::Target {
        file.sync()?;
        file.forget(at, length);
    }
    let mut hasher = Hasher::new();
    let mut running = key.map(Running::new);
    let mut slab = pool.slab(PIECE);
    let mut done = 0;
    while done < length {
        let want = PIECE.min(usize::try_from(length - done).unwrap_or(usize::MAX));
        match file.read_at(at + done, want, slab.room()) {
            // Shorter than it was: its digest is not that of the chunk, and the look at the end says why.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        let piece = slab.room().get(..want).unwrap_or_default();
        match &mut running {
            Some(running) => running.update(piece)?,
            None => hasher.update(piece),
        }
        done += want as u64;
    }
    match (running, key) {
        (Some(running), Some(key)) => Ok(Digest::Gmac(key.whole(running.share()?))),
        _ => Ok(Digest::Sha256(hasher.finish())),
    }
}

/// One end that is a host.
struct Prover<'a> {
    end: &'a End,
    side: Side,
    header: &'a str,
    key: Option<&'a Key>,
    tell: &'a UnboundedSender<Proof>,
}

impl Prover<'_> {
    async fn there(
        &self,
        mut first: Option<Session>,
        mut asks: UnboundedReceiver<Ask>,
        patience: Duration,
    ) -> Result<(), Failure> {
        let mut owed: VecDeque<Ask> = VecDeque::new();
        let mut heard = Instant::now();
        let mut pause = Duration::from_millis(200);
        loop {
            let before = heard;
            let failure = match self.talk(&mut first, &mut asks, &mut owed, &mut heard).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if heard > before {
                pause = Duration::from_millis(200);
            }
            if !failure.again || heard.elapsed() > patience + SILENCE {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(15));
        }
    }

    /// One connection's worth of questions and answers.
    async fn talk(
        &self,
        first: &mut Option<Session>,
        asks: &mut UnboundedReceiver<Ask>,
        owed: &mut VecDeque<Ask>,
        heard: &mut Instant,
    ) -> Result<(), Failure> {
        let Self { end, side, header, key, .. } = *self;
        let session = match first.take() {
            Some(session) => session,
            None => end.way().connect(Lane::Control).await?,
        };
        let mark = mark();
        let path = path_here(end, side).to_string_lossy().into_owned();
        let (hex, nonce) = key.map(Key::words).unwrap_or_default();
        let tool = if key.is_some() { "gmac" } else { "" };
        let values = [("P", path), ("H", header.to_owned()), ("T", tool.to_owned()), ("G", hex), ("V", nonce)];
        let mut child = session.open_root(&script(end, &mark, &values, "prove")?).await?;
        for ask in owed.iter() {
            child.write(line(ask, key).as_bytes()).await?;
        }
        let mut text = Vec::new();
        let mut complaint = Vec::new();
        let mut lines = Vec::new();
        loop {
            let longest = owed.iter().map(|ask| match ask {
                Ask::Whole { bytes } | Ask::Follow { end: bytes, .. } => Duration::from_secs(bytes / SLOWEST),
                Ask::Call { limit, .. } => *limit,
                _ => Duration::ZERO,
            });
            let silence = match longest.max() {
                None => Duration::from_secs(86400 * 365),
                Some(longer) => SILENCE + longer,
            };
            tokio::select! {
                biased;
                piece = tokio::time::timeout(silence, child.next()) => match piece {
                    Err(_) => {
                        return Err(Failure::new(Kind::Unreachable, format!("no digest came for {} s", silence.as_secs()))
                            .on(end.host())
                            .why("the connection lives, so the disk there may hang")
                            .again());
                    }
                    Ok(None) => {
                        return Err(match child.exit().await {
                            Exit::Lost(why) => Failure::new(Kind::Unreachable, "the connection was lost").saw(why).again(),
                            exit => end.failed("no digest could be made there", &format!("{exit}; {}", String::from_utf8_lossy(&complaint))),
                        });
                    }
                    Ok(Some(Piece::Err(bytes))) => {
                        if complaint.len() < 4096 {
                            complaint.extend_from_slice(&bytes);
                        }
                    }
                    Ok(Some(Piece::Out(bytes))) => {
                        text.extend_from_slice(&bytes);
                        while let Some(at) = text.iter().position(|byte| *byte == b'\n') {
                            let rest = text.split_off(at + 1);
                            let said = std::mem::replace(&mut text, rest);
                            let said = String::from_utf8_lossy(&said).into_owned();
                            if let Some((word, rest)) = meant(said.trim_end(), &mark) {
                                *heard = Instant::now();
                                self.answer(word, rest, owed, &mut lines)?;
                            }
                        }
                        if text.len() > 64 << 10 {
                            return Err(end.failed("the host said something else than a digest", ""));
                        }
                    }
                },
                ask = asks.recv() => match ask {
                    None => {
                        child.close_input().await;
                        // Notes that it still has to take.
                        let _ = tokio::time::timeout(Duration::from_secs(20), child.exit()).await;
                        return Ok(());
                    }
                    Some(ask) => {
                        if owed.is_empty() {
                            *heard = Instant::now();
                        }
                        let line = line(&ask, key);
                        if !matches!(ask, Ask::Note { .. }) {
                            owed.push_back(ask);
                        }
                        child.write(line.as_bytes()).await?;
                    }
                },
            }
        }
    }

    fn answer(
        &self,
        word: &str,
        rest: &str,
        owed: &mut VecDeque<Ask>,
        lines: &mut Vec<(String, String)>,
    ) -> Result<(), Failure> {
        let Self { end, side, tell, .. } = *self;
        let (number, digest) = rest.split_once(' ').unwrap_or((rest, ""));
        let chunk = number.parse::<usize>().ok();
        let asked = owed.iter().position(
            |ask| matches!(ask, Ask::Digest { chunk: one, .. } | Ask::Follow { chunk: one, .. } if Some(*one) == chunk),
        );
        match (word, chunk, asked) {
            ("digest", Some(chunk), Some(asked)) => {
                let digest = digest
                    .parse::<Digest>()
                    .map_err(|()| end.failed("the digest there could not be read", &format!("{word} {rest}")))?;
                owed.remove(asked);
                let _ = tell.send(Proof::Digest(side, chunk, digest));
            }
            ("followed", Some(_), Some(asked)) => {
                let mut words = digest.split(' ');
                let mut place = || words.next().and_then(|word| word.parse::<u64>().ok());
                let (from, to) = (place(), place());
                match (from, to, words.next().and_then(|word| word.parse::<Digest>().ok())) {
                    (Some(from), Some(to), Some(digest)) => {
                        owed.remove(asked);
                        let _ = tell.send(Proof::Followed(from, to, digest));
                    }
                    _ => return Err(end.failed("the digest there could not be read", &format!("{word} {rest}"))),
                }
            }
            ("whole", _, _) => {
                let asked = owed.len();
                owed.retain(|ask| !matches!(ask, Ask::Whole { .. }));
                let digest = digest
                    .parse::<Digest>()
                    .map_err(|()| end.failed("the digest there could not be read", &format!("{word} {rest}")))?;
                if owed.len() < asked {
                    let _ = tell.send(Proof::Whole(digest));
                }
            }
            ("said", ..) if lines.len() < MOST_LINES => {
                lines.push((clean(number.as_bytes()), clean(digest.as_bytes())))
            }
            ("told", ..) => {
                let lines = std::mem::take(lines);
                if let Some(asked) = owed.iter().position(|ask| matches!(ask, Ask::Call { .. }))
                    && let Some(Ask::Call { number, .. }) = owed.remove(asked)
                {
                    let whole = lines.last().is_some_and(|(first, _)| first == "over");
                    let _ = tell.send(Proof::Said(number, whole.then_some(Answer(lines))));
                }
            }
            ("gone", Some(chunk), Some(asked)) => {
                owed.remove(asked);
                let _ = tell.send(Proof::Gone(chunk));
            }
            ("proving", _, _) if rest == "none" => {
                return Err(Failure::new(
                    Kind::Refused,
                    "there is no tool for sha256 (openssl, sha256sum, shasum, busybox)",
                )
                .on(end.host())
                .why("nothing counts as moved that was not hashed at both ends"));
            }
            // Answers of before a reconnection, and notes taken.
            _ => {}
        }
        Ok(())
    }
}

fn line(ask: &Ask, key: Option<&Key>) -> String {
    match ask {
        Ask::Digest { chunk, at, length, landed } => {
            let writer = if let Landed::Writer(pid) = landed { *pid } else { 0 };
            format!("d {chunk} {} {} {writer} {}\n", at / MIB, length.div_ceil(MIB), at + length)
        }
        Ask::Follow { chunk, end, landed } => {
            let writer = if let Landed::Writer(pid) = landed { *pid } else { 0 };
            format!("f {chunk} 0 0 {writer} {end}\n")
        }
        // A tag says something only beside its key.
        Ask::Note { chunk, digest } => match (digest, key) {
            (Some(Digest::Gmac(tag)), Some(key)) => format!("j {chunk} gmac:{}:{tag}\n", key.words().0),
            (Some(digest), _) => format!("j {chunk} {digest}\n"),
            (None, _) => format!("j {chunk} arrived\n"),
        },
        Ask::Whole { .. } => "a 0\n".to_owned(),
        Ask::Call { line, .. } => format!("{line}\n"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What is asked of a file here that nobody writes any more is answered: by its digest, or by the writer's end.
    #[tokio::test]
    async fn who_waits_for_a_writer_here_hears_of_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let end = End {
            place: super::super::ends::Place::Here,
            path: dir.path().join("file").to_string_lossy().into_owned(),
        };
        std::fs::write(dir.path().join("file.ferry-part"), b"hello").unwrap();
        let stands = [5, 3, 4].map(|at| {
            let stand = Arc::new(Stand::default());
            stand.is_at(at);
            stand
        });
        let (ask, asks) = tokio::sync::mpsc::unbounded_channel();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for (chunk, stand) in stands.iter().enumerate() {
            let landed = Landed::Here(Arc::clone(stand));
            ask.send(Ask::Digest { chunk, at: 0, length: 5, landed }).unwrap();
        }
        let proving = tokio::spawn(async move { here(&end, Side::Target, None, asks, &tell).await });
        let hello = Digest::Sha256(Sha256::of(b"hello"));
        let mut next = async || tokio::time::timeout(Duration::from_secs(20), told.recv()).await.unwrap();
        assert!(matches!(next().await, Some(Proof::Digest(Side::Target, 0, digest)) if digest == hello));
        stands[1].is_over();
        assert!(matches!(next().await, Some(Proof::Gone(1))));
        stands[2].is_at(5);
        stands[2].is_over();
        assert!(matches!(next().await, Some(Proof::Digest(Side::Target, 2, digest)) if digest == hello));
        drop(ask);
        assert!(next().await.is_none());
        proving.await.unwrap().unwrap();
    }
}
