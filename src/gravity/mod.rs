//! Gravity, the platform under PCE up to 3.2: all we know about it.
//!
//! What lives here: what one look at a node gathers ([`probe`]), what `gravity status` means in its
//! generations ([`ClusterStatus`]), the rules that decide whether and where a backup may run
//! ([`preflight`], a pure function), the script that runs `gravity backup`
//! ([`backup_script`]) and what its end means ([`outcome`]), the node's journal of Gravity's
//! commands ([`gather_logs`]), all there is to read about a cluster ([`gather_node`]) and the secrets in it ([`redact_log`]); for a restore, the second look at a target ([`probe_target`]), the gates
//! ([`restore_gates`], a pure function), the script and its ends ([`restore_script`], [`RestoreOutcome`]), the evidence
//! where an end is unknown ([`reconcile`]), and when the target is well again ([`settled`]). What does not: how a script outlives us (job), how an archive is
//! proved (archive) and brought home (transfer), the order of the steps (the playbook).
//!
//! Three things about Gravity shape this room. Every error ends with code 255, which is
//! also what an SSH client says of a broken connection, so codes are only ever read beside the log.
//! Errors go to standard output up to 6.x and to standard error from 7.0 on, coloured
//! even in a pipe. And the command creates state on a host that is no node of a cluster, so
//! it is never run to find out whether the host is one.

mod backup;
mod gates;
mod gather;
mod kept;
mod logs;
mod preflight;
mod probe;
mod redact;
mod restore;
mod settle;
mod staging;
mod status;
mod target;

pub use backup::{
    ArchiveStat, BackupJob, BackupOutcome, OWN_FAILURE, backup_script, error_text, go_duration, hook_job_name, outcome,
    parse_duration,
};
pub use gates::{
    AmvPoint, NEVER_WAIVED, PointFacts, PointVerdict, RestoreGates, RestorePolicy, SafetyBackup, WAIVED_ONE_BY_ONE,
    Waived, apply_waivers, restore_gates,
};
pub use gather::{Gathered, MOST, Report, forget_report, gather_cluster, gather_node, report};
pub use kept::{Kept, KeptCertificate, KeptQuestions, kept};
pub use logs::{HookState, gather_logs, hook_job_state};
pub use preflight::{ClusterIdentity, Master, Policy, Preflight, preflight};
pub use probe::{
    Disk, GravityFacts, NO_GRAVITY, NodeFacts, PCE_4, ProbeOptions, Staging, is_pce_4, probe, probe_with_nonce,
};
pub use redact::{Taken, redact, redact_json, redact_log, strip_ansi};
pub use restore::{
    CHECKS, Evidence, JournalCommand, REFUSED_DIGEST, RestoreJob, RestoreOutcome, reconcile, reconcile_with_nonce,
    restore_script, restore_timeout,
};
pub use settle::{ChecklistFacts, ChecklistRow, SETTLE_LIMIT, SettleExpect, Settled, checklist, settled};
pub use staging::{Leaked, QUIET_SECONDS, StagingJob, StagingRemoved, leaked, remove_staging, staging_jobs};
pub use status::{ClusterStatus, KubeJob, StatusNode, parse_jobs};
pub use target::{
    CertificateSeen, Look, NfsMount, NfsVolume, PodsSeen, Reach, TargetFacts, TargetQuestions, UnwellPod, probe_target,
    probe_target_with_nonce,
};
