//! May this point be restored into this cluster, and on which node?
//!
//! What lives here: one pure function from what is known (the point, the target's nodes, what was
//! typed) to a table of gates, and the waivers. What does not: seeing it (probe), asking (the command
//! line), doing it (restore).
//!
//! All gates are evaluated always: the operator sees the whole table at once, and a refusal in one never
//! hides another. A question that nobody has answered yet (the lock is not taken, the file was not read
//! again) is told and kept in [`RestoreGates::pending`]: only [`RestoreGates::permit`] says yes, and it says
//! no as long as anything is refused or open.

use std::collections::BTreeMap;

use serde::Serialize;

use super::preflight::{ClusterIdentity, Master};
use super::probe::NodeFacts;
use super::target::TargetFacts;
use crate::digest::Sha256;
use crate::event::Finding;
use crate::failure::{Failure, Kind};

/// Gates that nothing waives, in the order of the table.
pub const NEVER_WAIVED: [&str; 7] = ["digest", "verdict", "version", "identity", "lock", "active", "confirmation"];

/// Gates that `--waive GATE=REASON` takes, in the order of the table.
pub const WAIVED_ONE_BY_ONE: [&str; 7] = ["health", "space", "clock", "dns", "certificate", "nfs", "safety_backup"];

/// How far the point's archive is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum PointVerdict {
    /// All proofs passed.
    Verified,
    /// Whole, but unlike its predecessors.
    Suspect,
    /// A later verification failed.
    Damaged,
    /// Nobody has looked, or the answer is lost.
    #[default]
    Unverified,
}

/// The AMV archive of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AmvPoint {
    /// Digest in the manifest.
    pub sha256: Sha256,
    /// Size in bytes.
    pub bytes: u64,
    /// How far it is trusted.
    pub verdict: PointVerdict,
}

/// What the point says about itself.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PointFacts {
    /// Its id.
    pub id: String,
    /// Digest of the Gravity archive in the manifest; `None` when the point has no Gravity archive.
    pub sha256: Option<Sha256>,
    /// Size of the Gravity archive in bytes.
    pub bytes: u64,
    /// Size of what is in it, unpacked, in bytes; 0 when not known.
    pub content_bytes: u64,
    /// Verdict of the Gravity archive, later notes included.
    pub verdict: PointVerdict,
    /// Who accepted a suspect archive, and why (`points accept`).
    pub accepted_by: Option<String>,
    /// False when a part that was wanted is missing.
    pub complete: bool,
    /// PCE version of the source.
    pub pce_version: Option<String>,
    /// Gravity's version of the source.
    pub gravity_version: Option<String>,
    /// The inventory's group that it was made of.
    pub cluster: String,
    /// The cluster that it was made of; `None` when the manifest does not say.
    pub identity: Option<ClusterIdentity>,
    /// What it lacks, one sentence each.
    pub lacks: Vec<String>,
    /// Its AMV archive.
    pub amv: Option<AmvPoint>,
}

/// The fresh backup of the target that a restore wants first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub enum SafetyBackup {
    /// It was not taken yet.
    #[default]
    NotYet,
    /// It was taken: the id of the verified point.
    Taken(String),
    /// It cannot be taken, and why.
    NotPossible(String),
}

/// What the operator and the inventory say about this restore.
#[derive(Debug, Clone, Default)]
pub struct RestorePolicy {
    /// The inventory's group of the target, as typed.
    pub cluster: String,
    /// `pce_cluster_name`: must equal Gravity's name when set.
    pub pce_cluster_name: Option<String>,
    /// `pce_version`: must equal the version that is seen when set.
    pub pce_version: Option<String>,
    /// `pce_platform_dns`.
    pub platform_dns: Option<String>,
    /// `--in-place`: the target is the cluster that the point came from.
    pub in_place: bool,
    /// What was typed, or given with `--confirm`.
    pub confirm: Option<String>,
    /// `--accept-suspect`: the digest as typed.
    pub suspect_sha: Option<String>,
    /// The plan erases AMV's data on the target.
    pub erases_amv: bool,
    /// What was typed, or given with `--erase-amv`.
    pub erase_amv: Option<String>,
    /// What reading the point's file again gave here; `None` when it was not read yet.
    pub local_digest: Option<Result<Sha256, String>>,
    /// Whether ferry holds the cluster's lock; `None` when it did not try yet.
    pub lock_held: Option<bool>,
    /// The fresh backup of the target.
    pub safety: SafetyBackup,
    /// Names of hook jobs in Kubernetes that are this very run's: they do not refuse.
    pub ferry_hook_jobs: Vec<String>,
    /// Other jobs of ferry that are active on the target's nodes, one sentence each.
    pub ferry_jobs: Vec<String>,
    /// Bytes of this archive that lie on the node already (a resumed transfer): not counted twice.
    pub bytes_on_node: u64,
    /// Now, by our clock.
    pub now: jiff::Timestamp,
}

/// A gate that was waived, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waived {
    /// The gate.
    pub gate: String,
    /// The reason as given.
    pub reason: String,
    /// What was refused, or was still open, when it was waived.
    pub what: Vec<String>,
}

/// The outcome of all gates.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreGates {
    /// One row or more for each gate, in the order [`NEVER_WAIVED`], [`WAIVED_ONE_BY_ONE`].
    pub findings: Vec<Finding>,
    /// Gates that wait for something still to be done (`digest`, `lock`, `safety_backup`). They are told as a
    /// warning, and [`permit`](Self::permit) says no until they are answered.
    pub pending: Vec<String>,
    /// The main node on which the restore runs. There may be one in spite of a refusal.
    pub node: Option<String>,
    /// Why that one, and why not the others; or why none.
    pub why_node: String,
    /// Where the archive is put on that node.
    pub work_dir: Option<String>,
    /// The target as seen; `None` when no node could tell.
    pub identity: Option<ClusterIdentity>,
    /// Gravity's masters in order of advertise address.
    pub masters: Vec<Master>,
    /// What the point lacks.
    pub lacks: Vec<String>,
}

impl RestoreGates {
    /// True when a gate said no. What is only pending is not counted: see [`permit`](Self::permit).
    pub fn refused(&self) -> bool {
        true
    }

    /// As [`refused`](Self::refused), with these gates left out: for the plan, before the name is typed
    /// (`&["confirmation"]`).
    pub fn refused_besides(&self, _later: &[&str]) -> bool {
        true
    }

    /// Every refusal as one failure; `None` when there is none. What is pending is not counted.
    pub fn refusal(&self) -> Option<Failure> {
        self.permit().err()
    }

    /// The one place that says yes: nothing is refused, nothing is open, and there is a node.
    ///
    /// # Errors
    /// [`Kind::Refused`] with every refusal and every open question.
    pub fn permit(&self) -> Result<(), Failure> {
        Err(Failure::new(Kind::Refused, "the gates are not built yet"))
    }
}

/// Evaluates every gate. `facts` are the hosts of the group that answered, `unreachable` those that did not,
/// each with the reason, `targets` the second look at the Gravity nodes by the inventory's name. Pure: the same input gives
/// the same answer.
pub fn restore_gates(
    point: &PointFacts,
    _facts: &[NodeFacts],
    _targets: &BTreeMap<String, TargetFacts>,
    _unreachable: &[(String, String)],
    _policy: &RestorePolicy,
) -> RestoreGates {
    RestoreGates {
        findings: Vec::new(),
        pending: Vec::new(),
        node: None,
        why_node: String::new(),
        work_dir: None,
        identity: None,
        masters: Vec::new(),
        lacks: point.lacks.clone(),
    }
}

/// Applies `--waive GATE=REASON`: every refusal of that gate becomes a warning that names the reason, and an open
/// `safety_backup` is closed. Nothing else changes.
///
/// # Errors
/// [`Kind::Usage`]: the gate is never waived, there is no such gate, or the reason is empty. Then nothing was applied.
pub fn apply_waivers(_gates: &mut RestoreGates, _waive: &BTreeMap<String, String>) -> Result<Vec<Waived>, Failure> {
    Err(Failure::new(Kind::Usage, "the gates are not built yet"))
}
