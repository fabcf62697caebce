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

mod around;
mod asked;
mod cluster;
mod node;
mod point;
mod quiet;

use std::collections::BTreeMap;

use serde::Serialize;

use super::preflight::{self, ClusterIdentity, Master, Node};
use super::probe::NodeFacts;
use super::status::ClusterStatus;
use super::target::TargetFacts;
pub(super) use around::platform_host;
use around::{certificate, dns, nfs};
use asked::{confirmation, safety_backup};
use cluster::{identity, version};
pub(super) use node::some_pods;
use node::{choose, clock, health, space};
use point::{digest, verdict};
use quiet::{active, lock};

use crate::digest::Sha256;
use crate::event::{Finding, Severity};
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
    /// Which archive the next fields are about: empty for Gravity's; `AMV` when only that is restored.
    pub part: String,
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
    /// Host and bytes of this archive that lie there already (a resumed transfer): not counted twice.
    pub on_node: Option<(String, u64)>,
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
        self.refused_besides(&[])
    }

    /// As [`refused`](Self::refused), with these gates left out: for the plan, before the name is typed
    /// (`&["confirmation"]`).
    pub fn refused_besides(&self, later: &[&str]) -> bool {
        let counts = |finding: &&Finding| !later.contains(&finding.gate.as_str());
        self.findings.iter().filter(counts).any(|finding| finding.severity == Severity::Refuse)
    }

    /// Every refusal as one failure; `None` when there is none. What is pending is not counted.
    pub fn refusal(&self) -> Option<Failure> {
        self.refusal_besides(&[])
    }

    /// As [`refusal`](Self::refusal), with these gates left out.
    pub fn refusal_besides(&self, later: &[&str]) -> Option<Failure> {
        let refused =
            |finding: &&Finding| finding.severity == Severity::Refuse && !later.contains(&finding.gate.as_str());
        Failure::all(self.findings.iter().filter(refused).map(Finding::refusal))
    }

    /// The one place that says yes: nothing is refused, nothing is open, and there is a node and a place for the
    /// archive.
    ///
    /// # Errors
    /// [`Kind::Refused`] with every refusal and every open question.
    pub fn permit(&self) -> Result<(), Failure> {
        let mut all: Vec<Failure> = self.refusal().into_iter().collect();
        for gate in &self.pending {
            all.push(
                Failure::new(Kind::Refused, format!("the gate {gate} was not answered yet"))
                    .why("a restore begins only when every gate was answered")
                    .within(format!("gate {gate}")),
            );
        }
        if self.node.is_none() || self.work_dir.is_none() {
            all.push(
                Failure::new(Kind::Refused, "there is no main node that the restore could run on")
                    .saw(self.why_node.clone())
                    .why("no waiver makes one")
                    .mend("ferry ping the cluster; sudo gravity status on a main node"),
            );
        }
        Failure::all(all).map_or(Ok(()), Err)
    }
}

/// Which cluster the rows speak of, for `why` and `mend`.
struct Table<'a> {
    rows: Vec<Finding>,
    pending: Vec<String>,
    group: &'a str,
}

impl Table<'_> {
    fn add(&mut self, gate: &str, severity: Severity, host: Option<&str>, what: String, why: String, mend: String) {
        let mut mend = mend;
        if severity == Severity::Refuse && WAIVED_ONE_BY_ONE.contains(&gate) {
            let waive = format!("--waive {gate}=REASON");
            mend = if mend.is_empty() { waive } else { format!("{mend}\nor go on with {waive}") };
        }
        let host = host.map(str::to_owned);
        // What a node said was cleaned when it was read; the door washes everything once more.
        self.rows.push(Finding { gate: gate.to_owned(), severity, host, what, why, mend });
    }
    fn pass(&mut self, gate: &str, host: Option<&str>, what: impl Into<String>) {
        self.add(gate, Severity::Pass, host, what.into(), String::new(), String::new());
    }
    fn warn(&mut self, gate: &str, host: Option<&str>, what: impl Into<String>, why: &str, mend: impl Into<String>) {
        self.add(gate, Severity::Warn, host, what.into(), why.to_owned(), mend.into());
    }
    fn refuse(&mut self, gate: &str, host: Option<&str>, what: impl Into<String>, why: &str, mend: impl Into<String>) {
        self.add(gate, Severity::Refuse, host, what.into(), why.to_owned(), mend.into());
    }
    fn open(&mut self, gate: &str, what: impl Into<String>, why: &str, mend: impl Into<String>) {
        self.warn(gate, None, what, why, mend);
        self.pending.push(gate.to_owned());
    }
}

/// What the nodes say, sorted into clusters once.
struct View<'a> {
    nodes: Vec<Node<'a>>,
    groups: Vec<Vec<Node<'a>>>,
    ours: Vec<Node<'a>>,
    reference: Option<&'a ClusterStatus>,
    identity: Option<ClusterIdentity>,
    masters: Vec<Master>,
}

/// Evaluates every gate. `facts` are the hosts of the group that answered, `unreachable` those that did not,
/// each with the reason, `targets` the second look at the Gravity nodes by the inventory's name. Pure: the same input gives
/// the same answer.
pub fn restore_gates(
    point: &PointFacts,
    facts: &[NodeFacts],
    targets: &BTreeMap<String, TargetFacts>,
    unreachable: &[(String, String)],
    policy: &RestorePolicy,
) -> RestoreGates {
    let nodes = preflight::nodes(facts);
    let groups = preflight::clusters(&nodes);
    let ours = preflight::ours(&groups, policy.pce_cluster_name.as_deref());
    let reference = preflight::reference(&ours);
    let view = View {
        identity: reference.map(|reference| preflight::identity(&ours, reference)),
        masters: preflight::masters(&ours, facts, unreachable),
        nodes,
        groups,
        ours,
        reference,
    };
    let mut table = Table { rows: Vec::new(), pending: Vec::new(), group: &policy.cluster };
    digest(point, policy, &mut table);
    verdict(point, policy, &mut table);
    version(point, &view, policy, &mut table);
    identity(point, facts, unreachable, &view, policy, &mut table);
    lock(&view, unreachable, policy, &mut table);
    active(&view, policy, &mut table);
    confirmation(policy, &mut table);
    let choice = choose(point, &view, targets, policy);
    health(&view, targets, unreachable, &choice, &mut table);
    space(&view, &choice, &mut table);
    clock(&view, &mut table);
    dns(&view, targets, policy, &mut table);
    certificate(&view, targets, policy, &mut table);
    nfs(&view, targets, &mut table);
    safety_backup(policy, &mut table);
    RestoreGates {
        findings: table.rows,
        pending: table.pending,
        node: choice.node,
        why_node: choice.why,
        work_dir: choice.work_dir,
        identity: view.identity,
        masters: view.masters,
        lacks: point.lacks.clone(),
    }
}

/// Applies `--waive GATE=REASON`: every refusal of that gate becomes a warning that names the reason, and an open
/// `safety_backup` is closed. Nothing else changes. Told back is what was waived in fact.
///
/// # Errors
/// [`Kind::Usage`]: the gate is never waived, there is no such gate, or the reason is empty. Then nothing was applied.
pub fn apply_waivers(gates: &mut RestoreGates, waive: &BTreeMap<String, String>) -> Result<Vec<Waived>, Failure> {
    let wrong = waive.iter().filter_map(|(gate, reason)| {
        let what = if NEVER_WAIVED.contains(&gate.as_str()) {
            format!("nothing waives the gate {gate}")
        } else if !WAIVED_ONE_BY_ONE.contains(&gate.as_str()) {
            format!("there is no gate {gate:?}")
        } else if reason.trim().is_empty() {
            format!("the reason for waiving {gate} is empty")
        } else {
            return None;
        };
        Some(
            Failure::new(Kind::Usage, format!("--waive: {what}"))
                .why(format!(
                    "these can be waived, each with a reason: {}; these never: {}",
                    WAIVED_ONE_BY_ONE.join(", "),
                    NEVER_WAIVED.join(", ")
                ))
                .mend("--waive GATE=REASON, the reason is kept in journal and point"),
        )
    });
    if let Some(failure) = Failure::all(wrong) {
        return Err(failure);
    }
    let mut waived = Vec::new();
    for (gate, reason) in waive {
        let mut what = Vec::new();
        for finding in gates.findings.iter_mut().filter(|finding| finding.gate == *gate) {
            let open = gates.pending.contains(gate) && finding.severity == Severity::Warn;
            if finding.severity == Severity::Refuse || open {
                what.push(finding.what.clone());
                finding.severity = Severity::Warn;
                finding.what = format!("{} (waived: {reason})", finding.what);
            }
        }
        gates.pending.retain(|open| open != gate);
        if !what.is_empty() {
            waived.push(Waived { gate: gate.clone(), reason: reason.clone(), what });
        }
    }
    Ok(waived)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "../gates_tests.rs"]
pub(super) mod tests;
