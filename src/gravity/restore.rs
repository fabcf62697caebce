//! Running `gravity restore`, and what its end means.
//!
//! What lives here: the script that the detached job runs, the limit it gives to Gravity, the telling
//! apart of every way in which the command ends, and the evidence that is gathered when its end is not
//! known. What does not: keeping the script alive (job), whether it may run at all (gates).
//!
//! A restore destroys what the target has and cannot be repeated by itself. So every word here leans to
//! *unknown*: that nothing was changed is only said where it is certain.

use std::time::Duration;

use serde::Serialize;

use super::probe::ProbeOptions;
use super::status::KubeJob;
use super::target::Look;
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::remote::Session;
use crate::remote::command::Nul;

/// The script found another digest or size than the point's: it ends with this code, and gravity never ran.
pub const REFUSED_DIGEST: i32 = 114;

/// A restore to run on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreJob {
    /// The gravity command.
    pub gravity: String,
    /// The kubectl command: after a failure the log gets the list of hook jobs.
    pub kubectl: String,
    /// Absolute path of the archive on the node, in a directory that root alone can read.
    pub archive: String,
    /// The digest that it must have.
    pub sha256: Sha256,
    /// The size that it must have, in bytes.
    pub bytes: u64,
    /// How long Kubernetes lets the hook run (`--timeout`); unpacking comes on top.
    pub timeout: Duration,
    /// A word that nobody can guess, new for each job ([`RestoreJob::marker`]): lines of the log that begin with it
    /// are the script's own. Whoever takes the job over needs it to read its log.
    pub marker: String,
}

impl RestoreJob {
    /// A new marker.
    pub fn marker() -> String {
        format!("ferry-restore-{:032x}", rand::random::<u128>())
    }
}

/// The script for `sh` that hashes the archive and runs `gravity restore` once.
///
/// # Errors
/// A path holds a NUL, which no command line can carry.
pub fn restore_script(_job: &RestoreJob) -> Result<String, Nul> {
    Ok("exit 113\n".to_owned())
}

/// How a run of the restore script ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreOutcome {
    /// Gravity ended with 0. Whether the cluster is well again, the settling says.
    Restored,
    /// The archive on the node was not the point's. Gravity never ran.
    RefusedDigest(String),
    /// The script refused before it started gravity; its words. Gravity never ran.
    NotRun(String),
    /// Gravity ended before it started the hook; its words. Nothing was changed but the unpacked copy.
    FailedBeforeHook(String),
    /// The hook failed until Kubernetes gave up: the target is partly restored.
    HookFailed(String),
    /// Kubernetes stopped the hook at its deadline: the target is partly restored.
    DeadlineExceeded(String),
    /// Gravity lost the cluster's controller; the hook may run on.
    ConnectionLostHookMayRun(String),
    /// Anything else; what was seen.
    Unknown(String),
}

impl RestoreOutcome {
    /// Tells how it ended. `rc` is the job's code, `log` the end of the job's log (64 KiB are enough), `marker` the job's.
    pub fn of(_rc: i32, _log: &[u8], _marker: &str) -> Self {
        Self::Unknown("not built yet".to_owned())
    }

    /// True when it is certain that gravity was never started.
    pub fn never_ran(&self) -> bool {
        matches!(self, Self::RefusedDigest(_) | Self::NotRun(_))
    }

    /// True when a hook may still run in the cluster.
    pub fn hook_may_run(&self) -> bool {
        matches!(self, Self::ConnectionLostHookMayRun(_) | Self::Unknown(_))
    }

    /// What went wrong, for people; `None` when it was restored. [`Kind::Refused`] for a wrong digest, [`Kind::Failed`]
    /// where the end is certain, else [`Kind::Unknown`] with the checks to make.
    pub fn failure(&self, _log: &[u8]) -> Option<Failure> {
        Some(Failure::new(Kind::Unknown, "not built yet"))
    }
}

/// `--timeout` for gravity restore, and why: `set` when the operator set one, 160m for an archive over 20 GB or when the last restore
/// took over 40 minutes, else 80m.
pub fn restore_timeout(_bytes: u64, _last_minutes: Option<f64>, set: Option<Duration>) -> (Duration, String) {
    (set.unwrap_or(Duration::from_secs(4800)), String::new())
}

/// A command of Gravity as the node's journal tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalCommand {
    /// The command line.
    pub command: String,
    /// How it ended: `None` while it runs, or when it was killed.
    pub ended: Option<String>,
}

/// What can be seen of a restore whose end is not known.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    /// Hook jobs that began since.
    pub hooks: Look<Vec<KubeJob>>,
    /// Restore commands in the journal since.
    pub journal: Look<Vec<JournalCommand>>,
    /// Processes `gravity restore` on the node now.
    pub processes: Look<Vec<String>>,
    /// True when something is seen to work on it still.
    pub still_running: bool,
    /// What all that says, one sentence each. It never says that the restore is done.
    pub sentences: Vec<String>,
    /// Commands to look further.
    pub checks: Vec<String>,
}

/// Looks up how a restore ended whose end is not known. `since_epoch` is when its job began, by the node's clock.
/// The evidence is for people: nothing here turns *unknown* into *done*.
///
/// # Errors
/// As [`Session::run_root`].
pub async fn reconcile(session: &Session, _options: &ProbeOptions, _since_epoch: i64) -> Result<Evidence, Failure> {
    Err(Failure::new(Kind::Unknown, "not built yet").on(session.host()))
}
