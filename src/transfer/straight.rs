//! An archive from a node to a node, through ferry, with nothing of it on a disk here: hashed and walked while it
//! passes.
//!
//! What lives here: the source's stream as something that is delivered (`Far`), and what proves that it arrived. What does
//! not: the way to the target, which is [`push`](super::push)'s: the part there, going on at the byte, the last step.
//!
//! The file gets its name at the target only after the walk has seen the end, the source is the same file as before, and the
//! stream, the source's own digest and the target's are equal. What the walk refuses is removed from there.
//!
//! After a cut the stream goes on at the byte that the target has: the walk stands where it stood and is not fed again what it
//! has had. After a crash of ferry the walk begins anew, so that all of the source is read once more; the target is sent what it
//! lacks.

use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use super::prove::Digest;
use super::push::{Local, Push};
use super::{
    Arrived, Source, Thread, Trouble, changed, missing, node_digest, parse_source, stream_script, taking, walk_pieces,
    which,
};
use crate::archive::{Fault, Walk};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::remote::ssh::connect::Lane;
use crate::remote::{Child, Exit, Piece, Session, Way};

/// A disk on a node that reads fewer bytes a second counts as hanging.
const SLOWEST: u64 = 20 << 20;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Straight {
    /// The source's host, for messages.
    pub from: String,
    /// Absolute path there.
    pub source: String,
    /// The target's host, for messages.
    pub to: String,
    /// Absolute path there, as [`Push::destination`].
    pub destination: String,
    /// Names that the archive must contain.
    pub required: Vec<String>,
    /// How long ferry tries to get a lost connection back without a byte of progress.
    pub patience: Duration,
}

/// An archive that lies at the target, and what was proved about it.
#[derive(Debug, Clone)]
pub struct Landed {
    /// As if it had come here.
    pub arrived: Arrived,
    /// The tool that made the target's digest.
    pub tool: String,
}

/// Brings one archive from node to node. `progress` hears the count of bytes that were given to the target and the total.
///
/// # Errors
/// [`Trouble::NotWhole`] when it is no whole archive: what the target had of it is removed. [`Trouble::Differs`] when the
/// source's own digest is not that of what it sent. Else as [`super::pull`] and [`super::push::push`].
pub async fn straight(
    from: (&Way, &Session),
    to: (&Way, &Session),
    order: &Straight,
    progress: impl FnMut(u64, u64),
) -> Result<Landed, Trouble> {
    let began = Instant::now();
    let known = which(from.1, &order.from, &order.source).await?;
    let far = Far::new(from, order, known)?;
    let push = Push {
        host: order.to.clone(),
        source: order.source.clone().into(),
        bytes: known.bytes,
        // Not known before the last byte has passed; until then nobody asks for it.
        sha256: Sha256::of(b""),
        destination: order.destination.clone(),
        patience: order.patience,
    };
    let mut local = Local::far(far);
    let delivered = super::push::push_local(to.0, to.1, &push, &mut local, progress).await;
    let Some(far) = local.into_far() else {
        return Err(Failure::new(Kind::Bug, "a stream from a node was lost").into());
    };
    let ended = far.end();
    let delivered = match (delivered, ended.trouble) {
        (Ok(delivered), _) => delivered,
        (Err(_), Some(trouble)) => return Err(trouble),
        (Err(failure), None) => return Err(failure.into()),
    };
    let Some(walk) = ended.walk else {
        return Err(Failure::new(Kind::Bug, "an archive arrived that was not walked").into());
    };
    Ok(Landed {
        arrived: Arrived {
            source: known,
            sha256: delivered.sha256,
            node_digest: ended.node_digest,
            walk: Some(walk),
            cuts: delivered.cuts,
            resumed_at: delivered.resumed_at,
            started_over: false,
            took: began.elapsed(),
        },
        tool: delivered.node_digest_tool,
    })
}

/// A file of another node as something to be delivered.
pub(super) struct Far {
    way: Way,
    order: Straight,
    known: Source,
    /// The stream, while one is open.
    open: Option<Open>,
    /// The next byte that is given.
    at: u64,
    /// So many bytes the walk has had.
    walked: u64,
    to_walker: Option<mpsc::Sender<Bytes>>,
    walker: Option<Thread<Result<Walk, Fault>>>,
    walk: Option<Walk>,
    digesting: Option<tokio::task::JoinHandle<Result<Option<(String, Digest)>, Failure>>>,
    node_digest: Option<Option<(String, Digest)>>,
    began: Instant,
    trouble: Option<Trouble>,
}

/// One connection's stream.
struct Open {
    session: Session,
    child: Child,
    mark: String,
    /// What has come and was not given yet; behind the file's end, what is said there.
    pending: Bytes,
    said: Vec<u8>,
}

/// What is left of a [`Far`] in the end.
struct Ended {
    walk: Option<Walk>,
    node_digest: Option<String>,
    trouble: Option<Trouble>,
}

impl Far {
    fn new(from: (&Way, &Session), order: &Straight, known: Source) -> Result<Self, Failure> {
        let required = order.required.clone();
        let (to_walker, walker) = taking("ferry-walk", move |pieces| walk_pieces(pieces, required))?;
        let digesting = tokio::spawn(node_digest(
            from.0.clone(),
            from.1.clone(),
            order.from.clone(),
            order.source.clone(),
            // Whether the target has the same bytes is told by SHA-256, which it makes as well.
            None,
            order.patience,
        ));
        Ok(Self {
            way: from.0.clone(),
            order: order.clone(),
            known,
            open: None,
            at: 0,
            walked: 0,
            to_walker,
            walker: Some(walker),
            walk: None,
            digesting: Some(digesting),
            node_digest: None,
            began: Instant::now(),
            trouble: None,
        })
    }

    /// From now on bytes are given from `to` on.
    pub(super) fn seek(&mut self, to: u64) {
        if self.at != to {
            // A stream does not go back; another one begins there.
            self.open = None;
            self.at = to;
        }
    }

    fn lost(&self, why: impl Into<String>) -> Failure {
        Failure::new(Kind::Unreachable, "the connection to the source was lost while the archive came")
            .on(&self.order.from)
            .saw(why)
            .again()
    }

    fn silence(&self) -> Duration {
        // A part of the patience, so that it lasts for another attempt.
        (self.order.patience / 4).max(Duration::from_secs(5))
    }

    /// What ends it for good. The reason is kept for whoever asked; the node's copy is removed by whoever delivers.
    fn over(&mut self, trouble: Trouble) -> Failure {
        self.open = None;
        let failure = match &trouble {
            Trouble::NotWhole(fault) => Failure::new(Kind::Bad, "it is no whole archive").saw(fault.to_string()),
            Trouble::Differs(failure) | Trouble::Failure(failure) => {
                Failure { kind: Kind::Bad, again: false, ..failure.clone() }
            }
        };
        self.trouble = Some(trouble);
        failure
    }

    async fn next(child: &mut Child, limit: Duration) -> Result<Option<Piece>, String> {
        tokio::time::timeout(limit, child.next())
            .await
            .map_err(|_| format!("nothing of the archive came for {} s", limit.as_secs()))
    }

    /// Opens the stream where it stands.
    async fn reach(&mut self) -> Result<(), Failure> {
        let session = self.way.connect(Lane::Bulk).await?;
        let mark = format!("@@{:032x}", rand::random::<u128>());
        let mut child = session.open_root(&stream_script(&mark, &self.order.source, self.at)?).await?;
        child.close_input().await;
        // Some tails read all that they skip.
        let limit = self.silence() + Duration::from_secs(self.at / SLOWEST);
        let (mut head, mut said) = (Vec::new(), Vec::new());
        loop {
            let start = head.windows(mark.len()).position(|window| window == mark.as_bytes());
            let line = start.and_then(|at| {
                let end = head.iter().skip(at).position(|byte| *byte == b'\n')?;
                Some((at + mark.len(), at + end))
            });
            if let Some((from, end)) = line {
                let text = String::from_utf8_lossy(head.get(from..end).unwrap_or_default()).trim().to_owned();
                let Some(seen) = text.strip_prefix("SOURCE ").and_then(parse_source) else {
                    let failure = missing(&self.order.from, &self.order.source, &text);
                    return Err(self.over(Trouble::Failure(failure)));
                };
                if seen != self.known {
                    let failure = changed(&self.order.from, &self.known, &seen);
                    return Err(self.over(Trouble::Failure(failure)));
                }
                let pending = Bytes::copy_from_slice(head.get(end + 1..).unwrap_or_default());
                self.open = Some(Open { session, child, mark, pending, said });
                return Ok(());
            }
            if head.len() > 64 << 10 {
                let failure =
                    Failure::new(Kind::Failed, "the host said something else than the archive").on(&self.order.from);
                return Err(self.over(Trouble::Failure(failure)));
            }
            match Self::next(&mut child, limit).await.map_err(|why| self.lost(why))? {
                Some(Piece::Out(bytes)) => head.extend_from_slice(&bytes),
                Some(Piece::Err(bytes)) => keep(&mut said, &bytes),
                None => return Err(self.ended_early(child.exit().await, &said)),
            }
        }
    }

    fn ended_early(&mut self, exit: Exit, said: &[u8]) -> Failure {
        if let Exit::Lost(why) = exit {
            return self.lost(why);
        }
        let failure = Failure::new(Kind::Failed, "the archive could not be read on the node").on(&self.order.from).saw(
            format!("{exit}, {} of {} bytes; {}", self.at, self.known.bytes, String::from_utf8_lossy(said).trim()),
        );
        self.over(Trouble::Failure(failure))
    }

    /// The next bytes, at most as many as `buffer` takes; 0 at the end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let left = self.known.bytes - self.at;
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        if self.open.is_none() {
            self.reach().await?;
        }
        let limit = self.silence();
        loop {
            let Some(open) = self.open.as_mut() else {
                return Err(Failure::new(Kind::Bug, "a stream ended without a word"));
            };
            if !open.pending.is_empty() {
                break;
            }
            match Self::next(&mut open.child, limit).await {
                Ok(Some(Piece::Out(bytes))) => open.pending = bytes,
                Ok(Some(Piece::Err(bytes))) => keep(&mut open.said, &bytes),
                Ok(None) => {
                    let exit = open.child.exit().await;
                    let said = std::mem::take(&mut open.said);
                    self.open = None;
                    return Err(self.ended_early(exit, &said));
                }
                Err(why) => {
                    self.open = None;
                    return Err(self.lost(why));
                }
            }
        }
        let mut count = 0;
        if let Some(open) = self.open.as_mut() {
            count = open.pending.len().min(buffer.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
            if let (Some(to), Some(from)) = (buffer.get_mut(..count), open.pending.get(..count)) {
                to.copy_from_slice(from);
            }
            open.pending.advance(count);
        }
        self.at += count as u64;
        // The walk has had what is behind it: after a cut some of it comes again.
        let new = usize::try_from(self.at.saturating_sub(self.walked)).unwrap_or(usize::MAX).min(count);
        if new > 0 {
            let piece = Bytes::copy_from_slice(buffer.get(count - new..count).unwrap_or_default());
            self.walked = self.at;
            let taken = match &self.to_walker {
                Some(walker) => walker.send(piece).await.is_ok(),
                None => false,
            };
            if !taken {
                return Err(self.walk_ended().await.map_or_else(
                    |failure| failure,
                    |()| Failure::new(Kind::Bug, "the walk ended before the archive did"),
                ));
            }
        }
        Ok(count)
    }

    /// Hears the walk's verdict.
    async fn walk_ended(&mut self) -> Result<(), Failure> {
        self.to_walker = None;
        let Some(walker) = self.walker.take() else { return Ok(()) };
        let joined = tokio::task::spawn_blocking(move || walker.join()).await;
        match joined {
            Ok(Ok(Ok(walk))) => {
                self.walk = Some(walk);
                Ok(())
            }
            Ok(Ok(Err(fault))) => Err(self.over(Trouble::NotWhole(fault))),
            _ => Err(Failure::new(Kind::Bug, "a thread of the transfer panicked")),
        }
    }

    /// All has passed: the walk saw the end, the source is the file that it was, and its own digest is the stream's.
    pub(super) async fn proved(&mut self, streamed: Sha256) -> Result<(), Failure> {
        if self.at != self.known.bytes || self.walked != self.known.bytes {
            return Err(Failure::new(Kind::Bug, "a stream was to be proved before its end"));
        }
        self.unchanged().await?;
        self.walk_ended().await?;
        if self.walk.is_none() {
            return Err(Failure::new(Kind::Bug, "an archive was not walked"));
        }
        if let Some(digesting) = self.digesting.as_mut() {
            // It began with the stream and has less to do: what takes several times as long will not come.
            let limit = self.order.patience + self.began.elapsed() * 3;
            let digest = match tokio::time::timeout(limit, &mut *digesting).await {
                Ok(Ok(digest)) => digest,
                Ok(Err(error)) => {
                    Err(Failure::new(Kind::Bug, "the node's digest was not taken").saw(error.to_string()))
                }
                Err(_) => {
                    digesting.abort();
                    Err(Failure::new(Kind::Unreachable, "the node's digest did not come")
                        .on(&self.order.from)
                        .why("the archive is whole on the node and what has arrived is kept"))
                }
            };
            self.digesting = None;
            self.node_digest = Some(digest?);
        }
        match &self.node_digest {
            Some(Some((tool, digest))) if *digest != Digest::Sha256(streamed) => {
                let failure =
                    Failure::new(Kind::Failed, "the source's digest is not that of the bytes that came from it")
                        .on(&self.order.from)
                        .saw(format!("{tool} there: {digest}; here: {streamed}"))
                        .why("the file changed while it was read, or a disk or memory is failing")
                        .mend("start again; the archive is still on the node");
                Err(self.over(Trouble::Differs(failure)))
            }
            Some(_) => Ok(()),
            None => Err(Failure::new(Kind::Bug, "the source's digest was not asked for")),
        }
    }

    /// The source is the file that it was before: the stream's own last word, else a new look.
    async fn unchanged(&mut self) -> Result<(), Failure> {
        let limit = self.silence();
        let after = match self.open.take() {
            Some(mut open) => {
                let mut tail = open.pending.to_vec();
                loop {
                    if tail.len() > 4096 {
                        // Behind the file stands one line. Whatever else comes has no end that we know of.
                        let failure = Failure::new(Kind::Failed, "the host sends more bytes than the archive has")
                            .on(&self.order.from)
                            .saw(format!("{} bytes were promised", self.known.bytes))
                            .why("something else writes to it, or the host lies");
                        return Err(self.over(Trouble::Failure(failure)));
                    }
                    match Self::next(&mut open.child, limit).await.map_err(|why| self.lost(why))? {
                        Some(Piece::Out(bytes)) => tail.extend_from_slice(&bytes),
                        Some(Piece::Err(bytes)) => keep(&mut open.said, &bytes),
                        None => break,
                    }
                }
                let exit = open.child.exit().await;
                open.session.close().await;
                let text = String::from_utf8_lossy(&tail).into_owned();
                let after = text.trim().strip_prefix(&open.mark);
                match after.and_then(|rest| rest.trim().strip_prefix("END ")).and_then(parse_source) {
                    Some(after) if exit == Exit::Code(0) => after,
                    _ => return Err(self.ended_early(exit, &open.said)),
                }
            }
            None => {
                let session = self.way.connect(Lane::Control).await?;
                which(&session, &self.order.from, &self.order.source).await?
            }
        };
        if after != self.known {
            let failure = changed(&self.order.from, &self.known, &after);
            return Err(self.over(Trouble::Failure(failure)));
        }
        Ok(())
    }

    fn end(mut self) -> Ended {
        if let Some(digesting) = self.digesting.take() {
            digesting.abort();
        }
        let node_digest = self.node_digest.take().flatten().map(|(tool, _)| tool);
        Ended { walk: self.walk.take(), node_digest, trouble: self.trouble.take() }
    }
}

/// The first that a host complains of.
fn keep(said: &mut Vec<u8>, bytes: &[u8]) {
    if said.len() < 4096 {
        said.extend_from_slice(bytes);
    }
}
