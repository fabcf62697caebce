//! After a restore: is the target well again, and what stays to be done by hand?
//!
//! What lives here: two pure functions, from what the nodes say to what is still waited for, and from what is
//! known to the checklist. What does not: waiting (the module asks again, for at most
//! [`SETTLE_LIMIT`]).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::gates::{PointFacts, RestorePolicy};
use super::probe::NodeFacts;
use super::target::TargetFacts;

/// How long a cluster may take to become green after a restore.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What must hold after the restore.
#[derive(Debug, Clone, Default)]
pub struct SettleExpect {
    /// The PCE version.
    pub pce_version: Option<String>,
    /// Gravity's name of the cluster, as it was before.
    pub gravity_name: Option<String>,
}

/// Whether the cluster is well again.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Settled {
    /// Nothing is waited for and nothing is wrong.
    pub green: bool,
    /// What is waited for, one sentence each.
    pub waiting_for: Vec<String>,
    /// What waiting does not mend (another version), one sentence each.
    pub wrong: Vec<String>,
}

/// Judges a cluster after a restore. Pure.
pub fn settled(
    _facts: &[NodeFacts],
    _targets: &BTreeMap<String, TargetFacts>,
    _unreachable: &[(String, String)],
    _expect: &SettleExpect,
) -> Settled {
    Settled { green: false, waiting_for: Vec::new(), wrong: Vec::new() }
}

/// One row of what stays to be done by hand.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct ChecklistRow {
    /// What it is about (`NFS files`, `DNS`, …).
    pub item: String,
    /// What is known of it.
    pub known: String,
    /// What to do.
    pub todo: String,
}

/// What the checklist needs to know.
#[derive(Debug, Clone, Default)]
pub struct ChecklistFacts {
    /// AMV's data was restored by this run.
    pub amv_restored: bool,
    /// The target has AMV (`pce_amv`).
    pub has_amv: bool,
    /// NFS files were restored by this run.
    pub nfs_restored: bool,
    /// `pce_certificate_source`.
    pub certificate_source: Option<String>,
}

/// What stays to be done by hand after a restore, each with what is known.
pub fn checklist(
    _point: &PointFacts,
    _targets: &BTreeMap<String, TargetFacts>,
    _policy: &RestorePolicy,
    _facts: &ChecklistFacts,
) -> Vec<ChecklistRow> {
    Vec::new()
}
