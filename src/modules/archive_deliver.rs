//! `archive_deliver`: the point's archives to a main node of the target, through sudo, whole and hashed
//! there, before anything is destroyed.

use serde_json::json;

use super::restoring::{OnNode, done_before, erases_amv, need_lock};
use super::{Done, World, straight};
use crate::catalog::{Archive, ArchiveKind, Point};
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::transfer::push::{Push, push, push_volumes};

pub(super) async fn run(world: &World) -> Result<Done, Failure> {
    if world.choices.check {
        return Ok(Done::skipped("--check moves nothing"));
    }
    let (point, gates, found, found_amv) = {
        let work = world.work.lock().await;
        let restoring = &work.restoring;
        (restoring.point.clone(), restoring.gates.clone(), restoring.found.clone(), restoring.found_amv.clone())
    };
    let Some(point) = point else {
        return Err(Failure::new(Kind::Refused, "archive_deliver needs restore_gates before it in the playbook"));
    };
    need_lock(world).await?;
    let amv = point.manifest.archive(ArchiveKind::Amv).filter(|_| erases_amv(world, &point)).cloned();
    let amv = amv.filter(|_| found_amv.is_some() || done_before(world, "amv_restore", &point).is_none());
    // A restore that has begun has its archives already; AMV's may be missing still.
    let begun = found.or(found_amv).map(|found| (found.host, found.meta.amv_host, found.meta.amv_archive));
    let begun = begun.or_else(|| {
        let before = ["gravity_restore", "amv_restore"].iter().find_map(|part| done_before(world, part, &point))?;
        Some((before.result.get("node")?.as_str()?.to_owned(), None, None))
    });
    if let Some((first, amv_host, amv_archive)) = begun {
        if let Some(archive) = amv {
            let (host, path) = match amv_archive {
                Some(path) => (amv_host.unwrap_or(first), path),
                None => {
                    let (facts, options) = super::amv_restore::ready(world, &first, archive.bytes).await?;
                    let path = format!("{}/restore-{}/amv-{}.tar.gz", options.backup_dir, point.id(), point.id());
                    (facts.host, path)
                }
            };
            let sent = deliver(world, &point, &archive, &host, path).await?;
            world.work.lock().await.restoring.delivered_amv = Some(sent);
        }
        return Ok(Done::ok("the restore has begun already", json!({})));
    }
    let Some((node, work_dir)) = gates.and_then(|gates| Some((gates.node?, gates.work_dir?))) else {
        return Err(Failure::new(Kind::Refused, "the gates picked no node"));
    };
    let folder = format!("{work_dir}/restore-{}", point.id());
    let mut result = Vec::new();
    let mut message = Vec::new();
    if let Some(archive) = point.manifest.archive(ArchiveKind::Gravity).filter(|_| world.choices.wants("gravity")) {
        let path = format!("{folder}/gravity-{}.tar.gz", point.id());
        let sent = deliver(world, &point, archive, &node, path).await?;
        message.push(format!("{}:{}", sent.host, sent.path));
        result.push(json!({"kind": "gravity", "host": sent.host, "path": sent.path, "bytes": sent.bytes}));
        world.work.lock().await.restoring.delivered = Some(sent);
    }
    if let Some(archive) = amv {
        // Looked at before Gravity is restored: a script that cannot be trusted must not be found out halfway.
        let (facts, options) = super::amv_restore::ready(world, &node, archive.bytes).await?;
        let path = format!("{}/restore-{}/amv-{}.tar.gz", options.backup_dir, point.id(), point.id());
        let sent = deliver(world, &point, &archive, &facts.host, path).await?;
        message.push(format!("{}:{}", sent.host, sent.path));
        result.push(json!({"kind": "amv", "host": sent.host, "path": sent.path, "bytes": sent.bytes}));
        world.work.lock().await.restoring.delivered_amv = Some(sent);
    }
    if message.is_empty() && work_has_nfs(world).await {
        return Ok(Done::skipped("NFS files need not be sent before"));
    }
    if message.is_empty() {
        return Err(Failure::new(
            Kind::Refused,
            "there is nothing to restore: the point lacks every part that is wanted",
        )
        .saw(format!("{}/{}", point.cluster, point.id())));
    }
    Ok(Done::changed(format!("{}, digests equal there", message.join(", ")), json!({"archives": result})))
}

/// Whether NFS files are put somewhere in this restore.
async fn work_has_nfs(world: &World) -> bool {
    matches!(world.work.lock().await.restoring.nfs, Some(super::nfs::NfsPlan::Put { .. }))
}

async fn deliver(world: &World, point: &Point, archive: &Archive, host: &str, path: String) -> Result<OnNode, Failure> {
    if let Some(at) = straight::landing(archive) {
        return landed(world, archive, &at).await;
    }
    let order = Push {
        host: host.to_owned(),
        source: point.dir.join(&archive.file),
        bytes: archive.bytes,
        sha256: archive.sha256,
        destination: path.clone(),
        patience: world.choices.patience,
    };
    let way = world.way(host)?.clone();
    let control = world.session(host).await?;
    let mut last: Option<std::time::Instant> = None;
    let mut told = |done, total| {
        if done == total || last.is_none_or(|last| last.elapsed().as_millis() >= 250) {
            last = Some(std::time::Instant::now());
            world.events.tell(Event::Progress {
                what: format!("deliver {}", archive.file),
                host: host.to_owned(),
                done,
                total: Some(total),
                unit: "bytes".to_owned(),
            });
        }
    };
    let sent = if archive.is_wrapped() || world.choices.restore.away.is_some() {
        let volumes = world.archive_reader(point, archive);
        push_volumes(&way, &control, &order, volumes, &mut told).await?
    } else {
        push(&way, &control, &order, &mut told).await?
    };
    let rate = sent.bytes as f64 / sent.took.as_secs_f64().max(0.001) / f64::from(1 << 20);
    let cuts = if sent.cuts > 0 { format!(", through {} cuts", sent.cuts) } else { String::new() };
    world.events.note(
        Some(host),
        format!(
            "{}: {:.1} MiB at {rate:.0} MiB/s{cuts}, digest equal to the one made there by {}",
            archive.file,
            sent.bytes as f64 / f64::from(1 << 20),
            sent.node_digest_tool
        ),
    );
    world.work.lock().await.restoring.leftovers.push((host.to_owned(), path.clone()));
    Ok(OnNode { host: host.to_owned(), path, sha256: sent.sha256, bytes: sent.bytes })
}

/// An archive that went straight lies there already. What the gates read of it in this run is not read once more: the restore's
/// own job hashes it before it touches anything.
async fn landed(world: &World, archive: &Archive, at: &straight::Landing) -> Result<OnNode, Failure> {
    let known = world.work.lock().await.restoring.delivered.clone();
    let there = match known.filter(|there| there.host == at.host && there.path == at.path) {
        Some(there) => there,
        None => straight::read_there(world, archive, at).await?,
    };
    if there.sha256 != archive.sha256 {
        return Err(Failure::new(Kind::Refused, "what lies at the target is not the archive that was brought there")
            .on(&at.host)
            .saw(format!("{}: sha256 {}, {} was proved", at.path, there.sha256, archive.sha256))
            .within("gate digest")
            .why("something else writes there, or a disk is failing"));
    }
    world.work.lock().await.restoring.leftovers.push((at.host.clone(), at.path.clone()));
    Ok(there)
}
