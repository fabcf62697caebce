//! What the steps of a restore share: the point, what was typed, the table of gates.
//!
//! What lives here: finding the point, asking every gate anew, what lies beside a restore's job on the
//! node. What does not: the gates' own judgement (gravity), the doing (each module's own).

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::world::{Before, World};
use super::{gravity_backup, gravity_facts};
use crate::catalog::{Archive, ArchiveKind, Point, Verdict, Who};
use crate::digest::{Hasher, Sha256};
use crate::event::{Event, Finding, Severity};
use crate::failure::{Failure, Kind};
use crate::gravity::{
    self, AmvPoint, ClusterIdentity, PointFacts, PointVerdict, RestoreGates, RestorePolicy, SafetyBackup, TargetFacts,
    TargetQuestions, Waived,
};
use crate::job::{Listed, State};
use crate::name::{ClusterName, PointId, RunId};
use crate::volume::Reader;

/// What restore jobs are called on the nodes.
pub const GRAVITY_RESTORE: &str = "gravity-restore";
/// What AMV restore jobs are called on the nodes.
pub const AMV_RESTORE: &str = "amv-restore";

/// A restore job that ended longer ago than this, in seconds, is not taken over: whoever starts a restore
/// now means a new one.
const STALE: i64 = 24 * 3600;

/// What is kept beside a restore job on the node: all that another ferry needs to finish the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoreMeta {
    /// The point that is restored.
    pub point: PointId,
    /// The cluster that it was made of.
    pub source: ClusterName,
    /// The run that started it.
    pub run: RunId,
    /// Who started it.
    pub who: Who,
    /// When, UTC.
    pub since: jiff::Timestamp,
    /// Where the archive lies on the node, absolute.
    pub archive: String,
    /// Its digest.
    pub sha256: Sha256,
    /// `--timeout` given to gravity, in seconds; 0 for AMV.
    pub timeout_seconds: u64,
    /// How the script's own lines begin.
    pub marker: String,
    /// The gates that were waived, with the reasons.
    #[serde(default)]
    pub waived: BTreeMap<String, String>,
    /// The target as it was before.
    pub target: Option<ClusterIdentity>,
    /// The fresh backup of the target that was taken first.
    #[serde(default)]
    pub safety: Option<String>,
    /// Where the copy of AMV's script lies on the node; AMV only.
    #[serde(default)]
    pub tool: Option<String>,
    /// Where the archive of AMV lies on that node, when it is part of this restore.
    #[serde(default)]
    pub amv_archive: Option<String>,
    /// The node that it lies on.
    #[serde(default)]
    pub amv_host: Option<String>,
    /// `--only`.
    #[serde(default)]
    pub only: Vec<String>,
}

/// An archive that lies on the node, whole.
#[derive(Debug, Clone)]
pub struct OnNode {
    /// The node.
    pub host: String,
    /// Absolute path there.
    pub path: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Size in bytes.
    pub bytes: u64,
}

/// A restore job that an earlier run left.
#[derive(Debug, Clone)]
pub struct FoundRestore {
    /// The node.
    pub host: String,
    /// The job.
    pub job: Listed,
    /// What lies beside it.
    pub meta: RestoreMeta,
}

/// What the steps of a restore found so far.
#[derive(Default)]
pub struct Restoring {
    /// The point.
    pub point: Option<Point>,
    /// What reading its Gravity archive again gave.
    pub local_digest: Option<Result<Sha256, String>>,
    /// The second look at the target's nodes.
    pub targets: BTreeMap<String, TargetFacts>,
    /// The last table of gates.
    pub gates: Option<RestoreGates>,
    /// What was waived.
    pub waived: Vec<Waived>,
    /// The cluster's name as typed or given.
    pub confirm: Option<String>,
    /// The same for erasing AMV's data.
    pub erase_amv: Option<String>,
    /// The fresh backup of the target.
    pub safety: SafetyBackup,
    /// A restore job of this point that is on a node already.
    pub found: Option<FoundRestore>,
    /// The same for AMV.
    pub found_amv: Option<FoundRestore>,
    /// The Gravity archive on the node.
    pub delivered: Option<OnNode>,
    /// The AMV archive on the node.
    pub delivered_amv: Option<OnNode>,
    /// The restore's job, for tidying up: host, id, digest of its log.
    pub jobs: Vec<(String, crate::name::JobId, Sha256)>,
    /// Files and folders of ours on the node, for tidying up.
    pub leftovers: Vec<(String, String)>,
    /// Gravity's restore ended well, after so many seconds by the node's clock.
    pub restored_seconds: Option<f64>,
    /// AMV's restore ended well.
    pub amv_restored: bool,
    /// What AMV's own report said.
    pub amv_report: Option<String>,
    /// Where AMV's script saved what it erased.
    pub amv_saved: Option<String>,
    /// Where the point's NFS files go; `None` when there are none, or they are not wanted.
    pub nfs: Option<super::nfs::NfsPlan>,
    /// What was done with the NFS files, once it was.
    pub nfs_restored: Option<String>,
    /// Whether the cluster is well again.
    pub settled: Option<gravity::Settled>,
}

/// What an earlier run that is carried on restored already, by the module that did it, when it was this point.
pub(super) fn done_before<'a>(world: &'a World, module: &str, point: &Point) -> Option<&'a Before> {
    let before = world.before.get(module)?;
    (before.result.get("point").and_then(Value::as_str) == Some(point.id().as_str())).then_some(before)
}

fn verdict(verdict: Verdict) -> PointVerdict {
    match verdict {
        Verdict::Verified => PointVerdict::Verified,
        Verdict::Suspect => PointVerdict::Suspect,
        Verdict::Damaged => PointVerdict::Damaged,
    }
}

/// The archive that the gates are about: Gravity's, else the first that is wanted.
pub(super) fn main_kind(world: &World) -> ArchiveKind {
    if world.choices.wants("gravity") {
        ArchiveKind::Gravity
    } else if world.choices.wants("amv") {
        ArchiveKind::Amv
    } else {
        ArchiveKind::Nfs
    }
}

/// What the gates need to know of a point.
pub(super) fn facts_of(world: &World, point: &Point) -> PointFacts {
    let manifest = &point.manifest;
    let gravity = manifest.archive(ArchiveKind::Gravity).filter(|_| world.choices.wants("gravity"));
    let amv = manifest.archive(ArchiveKind::Amv).filter(|_| world.choices.wants("amv"));
    let mut lacks = Vec::new();
    if manifest.archive(ArchiveKind::Gravity).is_none() {
        lacks.push("the point has no Gravity archive".to_owned());
    }
    if manifest.archive(ArchiveKind::Amv).is_none() {
        lacks.push("the point has no AMV archive: Anypoint Monitoring's data is not restored".to_owned());
    }
    if manifest.archive(ArchiveKind::Nfs).is_none() {
        lacks.push("the point has no NFS archive: files on the NFS server are not restored".to_owned());
    }
    let accepted_by = point.notes.known.iter().rev().find_map(|note| match &note.remark {
        crate::catalog::Remark::Accepted { reason } => Some(format!("{}: {reason}", note.who)),
        _ => None,
    });
    let cluster = &manifest.cluster;
    // With `--only amv`, or `--only nfs`, that archive is what the gates are about.
    let nfs = manifest.archive(ArchiveKind::Nfs).filter(|_| world.choices.wants("nfs"));
    let (part, gravity) = match main_kind(world) {
        ArchiveKind::Gravity => (String::new(), gravity),
        ArchiveKind::Amv => ("AMV".to_owned(), amv),
        ArchiveKind::Nfs => ("NFS".to_owned(), nfs),
    };
    PointFacts {
        part,
        id: point.id().to_string(),
        sha256: gravity.map(|archive| archive.sha256),
        bytes: gravity.map_or(0, |archive| archive.bytes),
        content_bytes: gravity.map_or(0, |archive| archive.content_bytes),
        verdict: gravity.map_or(PointVerdict::Unverified, |archive| verdict(point.verdict_of(archive))),
        accepted_by,
        complete: manifest.complete,
        pce_version: manifest.pce_version.clone(),
        gravity_version: manifest.gravity_version.clone(),
        cluster: cluster.group.to_string(),
        identity: cluster.gravity_name.clone().map(|gravity_name| ClusterIdentity {
            gravity_name,
            kube_system_uid: cluster.kube_system_uid.clone(),
            advertise_addresses: cluster.advertise_addresses.clone(),
            pce_version: manifest.pce_version.clone(),
            gravity_version: manifest.gravity_version.clone(),
        }),
        lacks,
        amv: amv.map(|archive| AmvPoint {
            sha256: archive.sha256,
            bytes: archive.bytes,
            verdict: verdict(point.verdict_of(archive)),
        }),
    }
}

/// The point that is to be restored.
///
/// # Errors
/// [`Kind::CouldNotStart`] when none is named or none fits.
pub fn find_point(world: &World) -> Result<Point, Failure> {
    let asked = &world.choices.restore;
    if asked.migrate.is_some() {
        return world.handed().ok_or_else(|| {
            Failure::new(Kind::Refused, "the backup of the source has not been made in this run")
                .within("gate verdict")
                .why("a migration restores the point that it made itself, when that is verified and complete")
                .mend("the playbook needs migrate_hand_over before the restore: ferry playbooks export migrate")
        });
    }
    let Some(text) = asked.point.as_deref() else {
        return Err(Failure::new(Kind::CouldNotStart, "which point is to be restored is not said").mend(
            "ferry restore POINT --to CLUSTER, or ferry run PLAYBOOK -e ferry_cluster=CLUSTER -e ferry_point=POINT",
        ));
    };
    if let Some(away) = &asked.away {
        return Ok((*away.point).clone());
    }
    if text.contains('/') && Path::new(text).is_dir() {
        return Point::open(Path::new(text));
    }
    let from = asked
        .from
        .as_deref()
        .map(str::parse::<ClusterName>)
        .transpose()
        .map_err(|error| Failure::new(Kind::CouldNotStart, error.to_string()))?;
    world.catalog()?.find(text, from.as_ref())
}

/// Whether AMV's data is part of this restore: the point has it, and it is wanted.
pub(super) fn erases_amv(world: &World, point: &Point) -> bool {
    world.choices.wants("amv") && point.manifest.archive(ArchiveKind::Amv).is_some()
}

/// Reads a point's archive again and hashes it.
pub(super) fn digest_of(point: &Point, archive: &Archive, mut file: Reader) -> Result<Sha256, String> {
    use std::io::Read as _;
    let path = point.dir.join(&archive.file);
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(told(error)),
        }
    }
}

/// What lies beside a job of a restore; `None` when it cannot be read.
pub fn meta_of(job: &Listed) -> Option<RestoreMeta> {
    serde_json::from_value(job.meta.clone()).ok()
}

/// Looks for restore jobs that an earlier run left on the nodes. One of this point is taken over; one of
/// another point, or one that nobody looked at for a day, refuses.
///
/// # Errors
/// [`Kind::Refused`].
pub(super) async fn look_for_jobs(world: &World, point: &PointId) -> Result<(), Failure> {
    let mut work = world.work.lock().await;
    let found = work.found.clone();
    let mut failures = Vec::new();
    for (host, job) in found {
        if job.kind != GRAVITY_RESTORE && job.kind != AMV_RESTORE {
            continue;
        }
        if matches!(job.state, State::NotStarted | State::Absent) {
            continue;
        }
        let refuse = |what: String| {
            Failure::new(Kind::Refused, what)
                .on(&host)
                .saw(format!("job {} ({}), {}", job.id, job.kind, job.state))
                .why("a restore is never begun over another whose end nobody has seen")
                .mend(format!("ferry jobs attach {0}; when you know how it ended: ferry jobs clean {0}", job.id))
                .within("gate active")
        };
        let Some(meta) = meta_of(&job) else {
            failures.push(refuse("a restore job is on this node, and what lies beside it cannot be read".to_owned()));
            continue;
        };
        let age = jiff::Timestamp::now().as_second() - meta.since.as_second();
        if meta.point != *point {
            failures.push(refuse(format!("a restore of another point ({}) is on this node", meta.point)));
        } else if job.state.is_final() && age > STALE {
            failures.push(refuse(format!("a restore of this point that began {} is on this node", meta.since)));
        } else if job.kind == GRAVITY_RESTORE {
            work.restoring.found = Some(FoundRestore { host, job, meta });
        } else {
            work.restoring.found_amv = Some(FoundRestore { host, job, meta });
        }
    }
    Failure::all(failures).map_or(Ok(()), Err)
}

/// Jobs of ferry that are active on the target and none of this restore's.
async fn other_jobs(world: &World) -> Vec<String> {
    let work = world.work.lock().await;
    work.found
        .iter()
        .filter(|(_, job)| matches!(job.state, State::Running { .. } | State::Orphan | State::Starting))
        .filter(|(_, job)| job.kind != GRAVITY_RESTORE && job.kind != AMV_RESTORE)
        .map(|(host, job)| format!("{host}: job {} ({}), {}", job.id, job.kind, job.state))
        .collect()
}

/// Looks at the target's nodes for the second time: name, certificate, NFS, pods.
pub(super) async fn look_at_targets(world: &World) -> Result<(), Failure> {
    let nodes: Vec<(String, String)> = {
        let work = world.work.lock().await;
        work.facts
            .iter()
            .filter_map(|facts| Some((facts.host.clone(), facts.gravity.as_ref()?.state_dir.clone())))
            .collect()
    };
    let looks = nodes.into_iter().map(|(host, state_dir)| async move {
        let questions = TargetQuestions {
            platform_dns: world.var(&host, "pce_platform_dns"),
            state_dir: Some(state_dir),
            ..TargetQuestions::default()
        };
        let look = async {
            gravity::probe_target(&world.session(&host).await?, &world.probe_options(&host), &questions).await
        };
        (host.clone(), look.await)
    });
    let looks = futures::future::join_all(looks).await;
    let mut work = world.work.lock().await;
    work.restoring.targets.clear();
    for (host, look) in looks {
        match look {
            Ok(facts) => {
                work.restoring.targets.insert(host, facts);
            }
            // The first look reached it; that it cannot be looked at now is an unreachable host.
            Err(failure) if failure.kind == Kind::Unreachable => {
                work.facts.retain(|facts| facts.host != host);
                work.unreachable.push((host, failure));
            }
            Err(failure) => return Err(if failure.host.is_none() { failure.on(host) } else { failure }),
        }
    }
    Ok(())
}

/// Asks every gate, with a fresh look at the target when `fresh`. Waivers are applied.
///
/// # Errors
/// What kept ferry from looking; a waiver that cannot be.
pub(super) async fn evaluate(world: &World, hosts: &[String], fresh: bool) -> Result<RestoreGates, Failure> {
    if fresh {
        gravity_facts::run(world, hosts).await?;
    }
    look_at_targets(world).await?;
    let ferry_jobs = other_jobs(world).await;
    let cluster = world.cluster()?.to_string();
    let mut work = world.work.lock().await;
    let first = hosts.first().map(String::as_str).unwrap_or_default();
    let asked = &world.choices.restore;
    let Some(point) = &work.restoring.point else {
        return Err(Failure::new(Kind::Bug, "gates without a point"));
    };
    let facts = facts_of(world, point);
    let policy = RestorePolicy {
        cluster,
        pce_cluster_name: world.var(first, "pce_cluster_name"),
        pce_version: world.var(first, "pce_version"),
        platform_dns: world.var(first, "pce_platform_dns"),
        in_place: asked.in_place,
        confirm: work.restoring.confirm.clone(),
        suspect_sha: asked.suspect_sha.clone(),
        erases_amv: erases_amv(world, point),
        erase_amv: work.restoring.erase_amv.clone(),
        local_digest: work.restoring.local_digest.clone(),
        lock_held: work.watch.as_ref().map(|watch| !watch.is_lost()),
        safety: work.restoring.safety.clone(),
        ferry_hook_jobs: Vec::new(),
        ferry_jobs,
        on_node: work.restoring.delivered.as_ref().map(|sent| (sent.host.clone(), sent.bytes)),
        now: jiff::Timestamp::now(),
    };
    let unreachable: Vec<(String, String)> =
        work.unreachable.iter().map(|(host, failure)| (host.clone(), failure.what.clone())).collect();
    let mut gates = gravity::restore_gates(&facts, &work.facts, &work.restoring.targets, &unreachable, &policy);
    work.restoring.waived = gravity::apply_waivers(&mut gates, &world.choices.waive)?;
    work.restoring.gates = Some(gates.clone());
    Ok(gates)
}

/// Tells the whole table.
pub(super) fn tell(world: &World, gates: &RestoreGates, to_be_typed: bool) {
    for finding in &gates.findings {
        let mut finding: Finding = finding.clone();
        if to_be_typed && finding.gate == "confirmation" && finding.severity == Severity::Refuse {
            finding.severity = Severity::Warn;
            finding.what = format!("{} (asked for next)", finding.what);
        }
        world.events.tell(Event::Found { finding });
    }
}

/// Whether the target is well enough for a fresh backup of its own: `Err` says why not.
pub(super) async fn can_back_up(world: &World, hosts: &[String]) -> Result<(), String> {
    if world.catalog.is_none() {
        return Err("no catalog is open".to_owned());
    }
    let first = hosts.first().map(String::as_str).unwrap_or_default();
    let work = world.work.lock().await;
    let policy = gravity::Policy {
        cluster: world.about().map(ToString::to_string).unwrap_or_default(),
        pce_cluster_name: world.var(first, "pce_cluster_name"),
        pce_version: world.var(first, "pce_version"),
        // A backup of a degraded cluster may end well; that it may not is the point of asking here.
        require_healthy: true,
        expected_archive: None,
        expected_staging: None,
        ferry_hook_jobs: Vec::new(),
        needs_gravity_job: true,
    };
    let unreachable: Vec<(String, String)> =
        work.unreachable.iter().map(|(host, failure)| (host.clone(), failure.what.clone())).collect();
    let preflight = gravity::preflight(&work.facts, &unreachable, &policy);
    let refused: Vec<String> = preflight
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Refuse)
        // What was waived for the restore is waived for its backup too; but an ill cluster's backup is no way back.
        .filter(|finding| finding.gate == "health" || !world.choices.waive.contains_key(&finding.gate))
        .map(|finding| format!("{}: {}", finding.gate, finding.what))
        .collect();
    if refused.is_empty() && preflight.node.is_some() { Ok(()) } else { Err(refused.join("; ")) }
}

/// The lock and what it found, when an earlier step has not done so.
pub(super) async fn need_lock(world: &World) -> Result<(), Failure> {
    if world.work.lock().await.watch.is_some() {
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, "the cluster is not locked by this run")
        .within("gate lock")
        .why("nothing that destroys is begun while another ferry may work on the cluster")
        .mend("the playbook needs gravity_facts, cluster_lock and restore_gates before this task: ferry playbooks export restore"))
}

/// Used where a backup is nested in a restore: what it left in the common state is put aside.
pub(super) async fn set_backup_aside(world: &World) {
    let mut work = world.work.lock().await;
    work.job = None;
    work.point = None;
    work.arrived = None;
    work.log_sha256 = None;
    work.preflight = None;
    work.backup_seconds = None;
    let kind = gravity_backup::KIND;
    work.found.retain(|(_, job)| job.kind != kind);
}
