//! The watch over a cluster: one ferry at a time works on it.
//!
//! What lives here: taking, holding and losing `watch.lock` on more than half of the cluster's
//! masters. What does not: what one does who finds it taken (cli), and the jobs themselves: a
//! job goes on without a watch.
//!
//! On each node a small process holds the lock. It ends with its connection, or when it has heard nothing
//! from us for [`Pace::limit`]. It answers every beat of ours, so that we count the lock as lost no later than the
//! node does. All take the nodes in the same order, so of two that race one loses at the first node they share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::frame::{Frame, Frames, garbled};
use super::{Manner, base_of, broken_off, compose, file_key, nonce, refusal};
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, RunId};
use crate::remote::{Child, Piece, Session};
use crate::secret::clean;

const FUNCTIONS: &str = include_str!("watch.sh");

/// Who holds the watch: written beside the lock and read by whoever finds it taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user's name.
    pub who: String,
    /// The machine that ferry runs on.
    pub machine: String,
    /// Since when, UTC.
    pub since: jiff::Timestamp,
    /// The run.
    pub run: RunId,
    /// The process on that machine.
    pub pid: u32,
    /// What was typed, without secrets.
    pub command: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {} since {} (run {}, process {}): {}",
            self.who, self.machine, self.since, self.run, self.pid, self.command
        )
    }
}

/// Someone else has the watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// The node where it was met.
    pub host: String,
    /// Who it is; `None` when the text beside the lock cannot be read.
    pub owner: Option<Owner>,
    /// The text beside the lock as it stands there, control characters written out.
    pub text: String,
}

impl Busy {
    /// The refusal that it leads to (exit 7).
    pub fn into_failure(self) -> Failure {
        let who = self.owner.map_or(self.text, |owner| owner.to_string());
        let who = if who.is_empty() { "it does not say who".to_owned() } else { who };
        Failure::new(Kind::Refused, "another ferry works on this cluster")
            .on(self.host)
            .saw(who)
            .why("two at once would spoil each other's work")
    }
}

/// Why the watch was not taken.
#[derive(Debug, Clone, PartialEq)]
pub enum NotTaken {
    /// Someone else has it.
    Busy(Box<Busy>),
    /// It could not be tried on enough nodes.
    Failed(Box<Failure>),
}

impl NotTaken {
    /// As a failure, with its exit code.
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Busy(busy) => busy.into_failure(),
            Self::Failed(failure) => *failure,
        }
    }
}

/// The times of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How often we send a byte.
    pub beat: Duration,
    /// How long a node holds the lock without hearing from us, in whole seconds; more than two beats.
    pub limit: Duration,
    /// How long one node may take to give us the lock, sudo included.
    pub take: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { beat: Duration::from_secs(10), limit: Duration::from_secs(45), take: Duration::from_secs(60) }
    }
}

/// The watch, held. Dropping it lets go; [`Watch::release`] does so and waits for it.
#[derive(Debug)]
pub struct Watch {
    need: usize,
    held: watch::Receiver<usize>,
    stop: watch::Sender<bool>,
    holders: JoinSet<()>,
    hosts: Vec<String>,
    passed: Vec<Failure>,
}

impl Watch {
    /// Takes the watch on the nodes in the order given (by advertise address, everywhere the same).
    /// Nodes that are not reached are passed over as long as `need` can still be held.
    ///
    /// # Errors
    /// [`NotTaken::Busy`] at the first node where someone else has it; [`NotTaken::Failed`] when
    /// fewer than `need` nodes could be asked. What was taken by then is let go.
    pub async fn take(
        sessions: &[Session],
        need: usize,
        base: &str,
        cluster: &ClusterName,
        owner: &Owner,
    ) -> Result<Self, NotTaken> {
        Self::take_with(sessions, need, base, cluster, owner, Pace::default(), &Manner::default()).await
    }

    /// As [`Watch::take`], with other times and places.
    ///
    /// # Errors
    /// As [`Watch::take`].
    pub async fn take_with(
        sessions: &[Session],
        need: usize,
        base: &str,
        cluster: &ClusterName,
        owner: &Owner,
        pace: Pace,
        manner: &Manner,
    ) -> Result<Self, NotTaken> {
        let failed = |failure: Failure| NotTaken::Failed(Box::new(failure));
        let base = base_of(base).map_err(failed)?;
        let owner = serde_json::to_string(owner).map_err(|error| failed(Failure::new(Kind::Bug, error.to_string())))?;
        let (count, held) = watch::channel(0);
        let count = Arc::new(count);
        let stop = watch::Sender::new(false);
        let need = need.max(1);
        let mut this = Self { need, held, stop, holders: JoinSet::new(), hosts: Vec::new(), passed: Vec::new() };
        for (at, session) in sessions.iter().enumerate() {
            let nonce = nonce();
            let limit = pace.limit.as_secs().max(1).to_string();
            let values = [("w_name", &*file_key(cluster)), ("w_owner", &*owner), ("w_limit", &*limit)];
            let script = compose(manner, &nonce, base, &values, FUNCTIONS, "w_main").map_err(failed)?;
            let taken = match timeout(pace.take, grasp(session, &script, &nonce, base)).await {
                Ok(taken) => taken,
                Err(_) => Err(failed(
                    Failure::new(Kind::Unreachable, "no answer when the cluster's watch was asked for")
                        .on(session.host())
                        .again(),
                )),
            };
            match taken {
                Ok((child, frames)) => {
                    count.send_modify(|held| *held += 1);
                    this.hosts.push(session.host().to_owned());
                    let (count, stop) = (Arc::clone(&count), this.stop.subscribe());
                    this.holders.spawn(async move {
                        hold(child, frames, pace, stop).await;
                        count.send_modify(|held| *held = held.saturating_sub(1));
                    });
                }
                Err(NotTaken::Failed(failure)) if failure.kind == Kind::Unreachable => {
                    this.passed.push(*failure);
                    if this.hosts.len() + (sessions.len() - at - 1) < need {
                        break;
                    }
                }
                Err(other) => {
                    this.release().await;
                    return Err(other);
                }
            }
        }
        if this.hosts.len() >= need && !this.is_lost() {
            return Ok(this);
        }
        let (hosts, passed) = (this.hosts.len(), std::mem::take(&mut this.passed));
        this.release().await;
        let mut failure = Failure::new(
            Kind::Unreachable,
            format!("the cluster's watch was taken on {hosts} nodes; {need} are needed"),
        )
        .why("with fewer than half of the masters another ferry could work on the cluster at the same time");
        failure.more = passed;
        Err(failed(failure.again()))
    }

    /// The nodes on which it was taken.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Why nodes were passed over.
    pub fn passed(&self) -> &[Failure] {
        &self.passed
    }

    /// True when fewer nodes than needed hold it any more.
    pub fn is_lost(&self) -> bool {
        *self.held.borrow() < self.need
    }

    /// Returns when fewer nodes than needed hold it any more. Cancel safe.
    pub async fn lost(&self) {
        let (mut held, need) = (self.held.clone(), self.need);
        // An error means that every holder has ended: lost as well.
        let _ = held.wait_for(|held| *held < need).await;
    }

    /// Lets go on every node and waits until it is done, 10 s at most.
    pub async fn release(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.holders.join_next().await.is_some() {} };
        let _ = timeout(Duration::from_secs(10), all).await;
    }
}

/// Opens one holder and hears whether it has the lock.
async fn grasp(session: &Session, script: &str, nonce: &str, base: &str) -> Result<(Child, Frames), NotTaken> {
    let failed = |failure: Failure| NotTaken::Failed(Box::new(failure));
    let host = session.host();
    let mut child = session.open_root(script).await.map_err(failed)?;
    let mut frames = Frames::new(nonce);
    let mut complaint = Vec::new();
    loop {
        match child.next().await {
            Some(Piece::Out(bytes)) => frames.feed(&bytes),
            Some(Piece::Err(bytes)) => {
                complaint.extend_from_slice(bytes.get(..bytes.len().min(600)).unwrap_or_default());
                complaint.truncate(2048);
            }
            None => {
                let exit = child.exit().await;
                return Err(failed(broken_off(host, &exit, &complaint)));
            }
        }
        if let Some(frame) = frames.next().map_err(failed)? {
            return match frame.word(0) {
                "held" => Ok((child, frames)),
                "busy" => Err(NotTaken::Busy(Box::new(busy(host, &frame)))),
                "no" => Err(failed(refusal(host, base, &frame))),
                other => Err(failed(garbled(other).on(host))),
            };
        }
    }
}

fn busy(host: &str, frame: &Frame) -> Busy {
    let owner = frame.text().lines().next().and_then(|line| serde_json::from_str(line).ok());
    Busy { host: host.to_owned(), owner, text: clean(frame.text().as_bytes()) }
}

/// Holds one node's lock; returns when it is lost, or let go.
async fn hold(mut child: Child, mut frames: Frames, pace: Pace, mut stop: watch::Receiver<bool>) {
    // When the last beat that the node has answered was sent: the node counts from when it came, which is later.
    let mut proven = Instant::now();
    let mut sent = std::collections::VecDeque::new();
    let mut next = Instant::now() + pace.beat;
    loop {
        tokio::select! {
            () = async { let _ = stop.wait_for(|stop| *stop).await; } => {
                child.close_input().await;
                let _ = timeout(Duration::from_secs(5), child.exit()).await;
                return;
            }
            () = tokio::time::sleep_until(proven + pace.limit) => return,
            () = tokio::time::sleep_until(next) => {
                next = Instant::now() + pace.beat;
                sent.push_back(Instant::now());
                if !matches!(timeout(pace.limit, child.write(b"k\n")).await, Ok(Ok(()))) {
                    return;
                }
            }
            piece = child.next() => {
                match piece {
                    Some(Piece::Out(bytes)) => frames.feed(&bytes),
                    Some(Piece::Err(_)) => {}
                    None => return,
                }
                loop {
                    match frames.next() {
                        Ok(Some(frame)) if frame.word(0) == "ok" => {
                            if let Some(at) = sent.pop_front() {
                                proven = at;
                            }
                        }
                        Ok(None) if !frames.ended() => break,
                        _ => return,
                    }
                }
            }
        }
    }
}
