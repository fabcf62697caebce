//! A migration whose point is not kept: its archives go from the source's node to the target's as they are read, and
//! nothing of them lies here. What lies here is the point's manifest, until the end.
//!
//! What lives here: which place at the target an archive goes to, and what lies there. What does not: the bytes and their proofs
//! (transfer), the gates of the restore (`gravity_restore` asks them all, the digest's by the target's own reading).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::restoring::{self, OnNode};
use super::{OurJob, World, amv_restore};
use crate::catalog::{Archive, PointInProgress};
use crate::digest::Sha256;
use crate::event::{Event, Severity};
use crate::failure::{Failure, Kind};
use crate::gravity::{self, PointFacts, RestorePolicy};
use crate::transfer::Trouble;
use crate::transfer::push::{Push, look};
use crate::transfer::straight::{Landed, Straight, straight};

/// Where an archive lies at the target, or will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landing {
    /// The node, as the inventory calls it.
    pub host: String,
    /// Absolute path there.
    pub path: String,
}

/// An archive that lies there, proved by this tool of the node's.
#[derive(Debug, Clone)]
pub struct OnTarget {
    /// Where.
    pub landing: Landing,
    /// The tool that made the digest there.
    pub tool: String,
}

/// Whether the archives of the cluster whose turn it is go straight to the target.
pub(super) fn is_wanted(world: &World) -> bool {
    let away = world.choices.restore.migrate.as_ref().is_some_and(|migrate| migrate.spool.is_some());
    away && world.work.at_source()
}

/// The note of where it goes, beside the point that is made: another ferry goes on there.
fn note_path(point: &PointInProgress, file: &str) -> PathBuf {
    point.file(&format!("{file}.landing"))
}

/// Removes the notes of where archives go: from now on the manifest says so.
pub(super) fn forget(point: &PointInProgress, file: &str) {
    let _ = std::fs::remove_file(note_path(point, file));
}

fn write_note(path: &Path, landing: &Landing) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let text = serde_json::to_vec(landing).map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    let mut options = std::fs::OpenOptions::new();
    let written = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    written.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all())).map_err(|error| {
        Failure::new(Kind::Failed, format!("could not write {}", path.display())).saw(error.to_string())
    })
}

/// Brings an archive of the source's to the target.
pub(super) async fn bring(
    world: &World,
    job: &OurJob,
    file: &str,
    amv: bool,
    required: Vec<String>,
) -> Result<Landed, Trouble> {
    let note = match world.work.lock().await.point.as_ref() {
        Some(point) => note_path(point, file),
        None => return Err(Failure::new(Kind::Bug, "an archive without a point").into()),
    };
    let noted: Option<Landing> = std::fs::read(&note).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let landing = match noted.filter(|landing| world.way(&landing.host).is_ok()) {
        Some(landing) => landing,
        None => {
            let (stat, ..) = super::gravity_backup::look_at_archive(world, job).await?;
            let bytes = stat.map_or(0, |stat| stat.bytes);
            let gravity = world.work.lock().await.landed.get(super::archive_collect::FILE).cloned();
            world.work.turn(false);
            let chosen = choose(world, job, bytes, amv, gravity.map(|there| there.landing.host)).await;
            world.work.turn(true);
            let landing = chosen?;
            write_note(&note, &landing)?;
            landing
        }
    };
    world.events.note(
        Some(&job.host),
        format!("{file} goes straight to {}:{}; nothing of it lies here", landing.host, landing.path),
    );
    let order = Straight {
        from: job.host.clone(),
        source: job.meta.archive.clone(),
        to: landing.host.clone(),
        destination: landing.path.clone(),
        required,
        patience: world.choices.patience,
    };
    let (from, to) = (world.session(&job.host).await?, world.session(&landing.host).await?);
    let mut last: Option<std::time::Instant> = None;
    let landed = straight((world.way(&job.host)?, &from), (world.way(&landing.host)?, &to), &order, |done, total| {
        if done == total || last.is_none_or(|last| last.elapsed().as_millis() >= 250) {
            last = Some(std::time::Instant::now());
            world.events.tell(Event::Progress {
                what: format!("straight {file}"),
                host: landing.host.clone(),
                done,
                total: Some(total),
                unit: "bytes".to_owned(),
            });
        }
    })
    .await?;
    let there = OnTarget { landing, tool: landed.tool.clone() };
    world.work.lock().await.landed.insert(file.to_owned(), there);
    Ok(landed)
}

/// The place at the target that the restore would take as well, with room for it. The target has its turn.
async fn choose(world: &World, job: &OurJob, bytes: u64, amv: bool, first: Option<String>) -> Result<Landing, Failure> {
    let id = &job.meta.point;
    restoring::look_at_targets(world).await?;
    let gates = {
        let work = world.work.lock().await;
        let host = work.facts.first().map(|facts| facts.host.clone()).unwrap_or_default();
        let policy = RestorePolicy {
            cluster: world.cluster()?.to_string(),
            pce_cluster_name: world.var(&host, "pce_cluster_name"),
            pce_version: world.var(&host, "pce_version"),
            platform_dns: world.var(&host, "pce_platform_dns"),
            ..RestorePolicy::default()
        };
        let facts = if amv {
            PointFacts { id: id.to_string(), content_bytes: 1, ..PointFacts::default() }
        } else {
            PointFacts { id: id.to_string(), bytes, ..PointFacts::default() }
        };
        let unreachable: Vec<(String, String)> =
            work.unreachable.iter().map(|(host, failure)| (host.clone(), failure.what.clone())).collect();
        gravity::restore_gates(&facts, &work.facts, &work.restoring.targets, &unreachable, &policy)
    };
    let (Some(node), Some(work_dir)) = (first.or(gates.node), gates.work_dir) else {
        return Err(Failure::new(Kind::Refused, "no node of the target can take the archive").saw(gates.why_node));
    };
    if amv {
        let (facts, options) = amv_restore::ready(world, &node, bytes).await?;
        return Ok(Landing { path: format!("{}/restore-{id}/amv-{id}.tar.gz", options.backup_dir), host: facts.host });
    }
    let full = gates.findings.iter().find(|row| row.gate == "space" && row.severity == Severity::Refuse);
    if let Some(row) = full.filter(|_| !world.choices.waive.contains_key("space")) {
        return Err(Failure::new(Kind::Refused, row.what.clone())
            .on(node)
            .within("gate space")
            .why("asked before anything is sent")
            .mend(row.mend.clone()));
    }
    Ok(Landing { path: format!("{work_dir}/restore-{id}/gravity-{id}.tar.gz"), host: node })
}

/// Says in the manifest where an archive lies instead of here.
pub(super) fn mark(archive: &mut Archive, there: &OnTarget) {
    let Landing { host, path } = &there.landing;
    archive.verified_how.retain(|how| !how.contains("read back from the disk"));
    archive.verified_how.push(format!("digest equal to the one made on {host} by {} of what its disk has", there.tool));
    archive.details.insert("landed".to_owned(), json!({"host": host, "path": path}));
}

/// Where an archive of a point lies that went straight; `None`: it lies with the point.
pub(super) fn landing(archive: &Archive) -> Option<Landing> {
    archive.landed().and_then(|landed| serde_json::from_value(landed.clone()).ok())
}

/// What the target has of an archive that went straight, read and hashed there now.
///
/// # Errors
/// [`Kind::Unreachable`]; [`Kind::Refused`] where it is not there.
pub(super) async fn read_there(world: &World, archive: &Archive, at: &Landing) -> Result<OnNode, Failure> {
    let push = Push {
        host: at.host.clone(),
        source: PathBuf::from(&archive.file),
        bytes: archive.bytes,
        sha256: archive.sha256,
        destination: at.path.clone(),
        patience: world.choices.patience,
    };
    let seen = look(world.way(&at.host)?, &world.session(&at.host).await?, &push).await?;
    let Some((sha256, _)) = seen else {
        return Err(Failure::new(Kind::Refused, "the archive is not where it was brought to")
            .on(&at.host)
            .saw(format!("{}: no file of {} bytes", at.path, archive.bytes))
            .within("gate digest")
            .why("nothing of it was kept here; the source's node has it until the end of the migration"));
    };
    Ok(OnNode { host: at.host.clone(), path: at.path.clone(), sha256, bytes: archive.bytes })
}

/// The digest gate's answer for an archive that went straight.
pub(super) async fn digest_there(
    world: &World,
    archive: &Archive,
    at: &Landing,
) -> Result<Result<Sha256, String>, Failure> {
    match read_there(world, archive, at).await {
        Ok(there) => {
            let digest = there.sha256;
            // What it takes of the disk there is taken already.
            world.work.lock().await.restoring.delivered = Some(there);
            Ok(Ok(digest))
        }
        Err(failure) if failure.kind == Kind::Refused => Ok(Err(failure.to_string())),
        Err(failure) => Err(failure),
    }
}
