//! `point_seal`, `node_cleanup`, `point_summary`: the end of a backup, in this order. The manifest
//! makes the point exist; only then the node is tidied; and what is said at the end is what was proved.

use serde_json::json;

use super::archive_collect::{AMV_FILE, FILE};
use super::gravity_backup::{already_sealed, remove_from_node};
use super::{Done, OurJob, World, straight};
use crate::catalog::{
    Archive, ArchiveKind, ClusterFacts, ContentsRow, Disk, Durations, Manifest, Note, Past, PointInProgress, Remark,
    Verdict, Volume, Waiver, contents_rows, judge,
};
use crate::digest::Sha256;
use crate::event::{Event, SummaryLine};
use crate::failure::{Failure, Kind};
use crate::transfer::{Arrived, note_path};

/// Parts that were wanted and are not there, one sentence each.
fn shortfalls(amv: &super::amv_backup::AmvPart, nfs: &super::nfs::NfsPart) -> Vec<String> {
    let mut missing = Vec::new();
    if let Some(failure) = &amv.failed {
        missing.push(format!("AMV archive: {failure}"));
    }
    if let Some(failure) = &nfs.failed {
        missing.push(format!("NFS files: {failure}"));
    }
    missing
}

/// Whether a host belongs to the cluster's group.
pub(super) fn in_cluster(world: &World, host: &str) -> bool {
    world.about().is_some_and(|cluster| world.belongs(host, cluster))
}

/// Whether any host of the cluster has the variable set (AMV: true).
pub(super) fn cluster_has(world: &World, name: &str) -> bool {
    world.vars.keys().any(|host| {
        in_cluster(world, host) && (world.flag(host, name) || name != "pce_amv" && world.var(host, name).is_some())
    })
}

/// The fresh backup of a restore's target: Gravity's archive alone, so labelled.
pub(super) async fn seal_safety(world: &World) -> Result<Done, Failure> {
    seal_parts(world, true).await
}

pub(super) async fn seal(world: &World) -> Result<Done, Failure> {
    seal_parts(world, false).await
}

async fn seal_parts(world: &World, safety: bool) -> Result<Done, Failure> {
    let (has_amv, has_nfs) = (cluster_has(world, "pce_amv"), cluster_has(world, "pce_nfs_export"));
    let mut work = world.work.lock().await;
    let missing = if safety { Vec::new() } else { shortfalls(&work.amv, &work.nfs) };
    work.shortfalls.clone_from(&missing);
    // Either part's job knows what the manifest needs; Gravity's came first.
    let job = work.job.clone().or_else(|| work.amv.job.clone());
    let known = job.as_ref().map(|job| (job.meta.clone(), job.host.clone())).or_else(|| work.nfs.meta.clone());
    let Some((meta, host)) = known else {
        return Ok(Done::skipped("nothing to seal"));
    };
    if work.point.is_none()
        && let Some(point) = already_sealed(world, &meta.point).await?
    {
        let message = format!("{} is sealed already", point.id());
        work.sealed = Some(point);
        let result = json!({"point": meta.point});
        // Where the run that is carried on was stopped between the seal and its word of it, this is that word.
        let told = world.before.contains_key("point_seal");
        return Ok(if told { Done::ok(message, result) } else { Done::changed(message, result) });
    }
    let mut archives = Vec::new();
    if let (Some(arrived), Some(job)) = (&work.arrived, &work.job) {
        let required = world.words(&job.host, "pce_required_members");
        let mut archive = archive_of("gravity", ArchiveKind::Gravity, FILE, arrived, job, &work.history, &required)?;
        if let Some(point) = &work.point {
            wrap(point, &mut archive);
        }
        if let Some(there) = work.landed.get(FILE) {
            straight::mark(&mut archive, there);
        }
        archives.push(archive);
    }
    if let (Some(arrived), Some(job)) = (&work.amv.arrived, &work.amv.job) {
        let mut archive = archive_of("amv", ArchiveKind::Amv, AMV_FILE, arrived, job, &work.amv.history, &[])?;
        archive.details.clone_from(&work.amv.details);
        if let Some(point) = &work.point {
            wrap(point, &mut archive);
        }
        if let Some(there) = work.landed.get(AMV_FILE) {
            straight::mark(&mut archive, there);
        }
        archives.push(archive);
    }
    archives.extend(work.nfs.archive.clone().filter(|_| !safety));
    let saved_nfs = archives.iter().any(|archive| archive.kind == ArchiveKind::Nfs);
    let saved_amv = archives.iter().any(|archive| archive.kind == ArchiveKind::Amv);
    if archives.is_empty() {
        return Err(Failure::new(Kind::Failed, "there is no proved archive: nothing is sealed"));
    }
    let Some(point) = work.point.take() else {
        return Err(Failure::new(Kind::Bug, "a proved archive without a folder"));
    };
    let verdict = archives.iter().map(|archive| archive.verdict).fold(Verdict::Verified, Verdict::max);
    let why: Vec<String> = archives
        .iter()
        .filter(|archive| archive.verdict != Verdict::Verified)
        .map(|archive| format!("{}: {}", archive.name, archive.why))
        .collect();
    let why = why.join("; ");
    let transfer_seconds: f64 =
        work.arrived.iter().chain(&work.amv.arrived).map(|arrived| arrived.took.as_secs_f64()).sum::<f64>()
            + work.nfs.seconds;
    let identity = meta.cluster.clone();
    let manifest = Manifest {
        format: 1,
        id: meta.point.clone(),
        label: if safety {
            work.restoring.point.as_ref().map(|point| format!("before the restore of {}", point.id()))
        } else {
            meta.label.clone()
        },
        run: world.run.id.clone(),
        job: job.as_ref().map(|job| job.id.clone()),
        who: meta.who.clone(),
        ferry_version: env!("CARGO_PKG_VERSION").to_owned(),
        inventory_sha256: world.run.inventory_sha256,
        playbook_sha256: world.run.playbook_sha256,
        cluster: ClusterFacts {
            group: world.cluster()?.clone(),
            gravity_name: identity.as_ref().map(|identity| identity.gravity_name.clone()),
            kube_system_uid: identity.as_ref().and_then(|identity| identity.kube_system_uid.clone()),
            advertise_addresses: identity
                .as_ref()
                .map(|identity| identity.advertise_addresses.clone())
                .unwrap_or_default(),
        },
        pce_version: identity.as_ref().and_then(|identity| identity.pce_version.clone()),
        gravity_version: identity.as_ref().and_then(|identity| identity.gravity_version.clone()),
        node: host.parse().map_err(|error: crate::name::BadName| Failure::new(Kind::Bug, error.to_string()))?,
        started: meta.since,
        finished: jiff::Timestamp::now(),
        status_before: meta.status_before.clone(),
        status_after: work.status_after.clone(),
        commands: work.commands.clone(),
        archives,
        complete: missing.is_empty(),
        contents: covered(contents_rows(has_amv, saved_amv, has_nfs, saved_nfs), &point),
        durations: Durations {
            backup_seconds: work.backup_seconds,
            transfer_seconds: Some(transfer_seconds),
            verify_seconds: None,
        },
        warnings: {
            let mut all = meta.warnings.clone();
            all.extend(work.warnings.iter().filter(|text| !meta.warnings.contains(text)).cloned());
            all
        },
        waivers: meta
            .waived
            .iter()
            .map(|(gate, reason)| Waiver { gate: gate.clone(), reason: reason.clone() })
            .collect(),
        files: Vec::new(),
        extra: serde_json::Map::new(),
    };
    let complete = manifest.complete;
    for file in [FILE, AMV_FILE] {
        let _ = std::fs::remove_file(note_path(&point.file(&format!("{file}.part"))));
        straight::forget(&point, file);
    }
    let recipients = world.kept.recipients.clone();
    let seal = move || {
        if let Some(recipients) = recipients {
            point.encrypt_logs(&recipients)?;
        }
        point.seal(manifest)
    };
    let sealed =
        tokio::task::spawn_blocking(seal).await.map_err(|error| Failure::new(Kind::Bug, error.to_string()))??;
    let mut sealed = sealed;
    let mut not_held = None;
    if let (Some(hold), false) = (world.choices.hold, safety) {
        let until = jiff::Timestamp::now().checked_add(jiff::SignedDuration::try_from(hold).unwrap_or_default()).ok();
        let note = Note { at: jiff::Timestamp::now(), who: world.run.who.clone(), remark: Remark::Held { until } };
        not_held = sealed.note(&Disk::default(), note).err();
    }
    let path = sealed.dir.display().to_string();
    work.sealed = Some(sealed);
    drop(work);
    if let Some(failure) = not_held {
        world.warn(None, format!("the point could not be held: {failure}")).await;
    }
    world
        .commit_done(Event::Sealed {
            cluster: world.cluster()?.to_string(),
            point: meta.point.to_string(),
            path: path.clone(),
            verdict: verdict.to_string(),
            complete,
        })
        .await;
    if verdict == Verdict::Suspect {
        world.events.warn(None, format!("the point is suspect: {why}"));
    }
    Ok(Done::changed(
        format!("{} {verdict}, {path}", meta.point),
        json!({"point": meta.point, "path": path, "verdict": verdict.to_string(), "complete": complete}),
    ))
}

/// What Gravity leaves out and we looked at ourselves, with where that is.
fn covered(mut rows: Vec<ContentsRow>, point: &PointInProgress) -> Vec<ContentsRow> {
    for (row, file, what) in [
        ("DNS settings", "settings/dns.json", "what the names were"),
        ("platform certificate", "settings/certificates.json", "its public part"),
        ("NFS configuration", "settings/nfs.json", "mounts, volumes and exports"),
    ] {
        if !point.file(file).is_file() {
            continue;
        }
        for row in rows.iter_mut().filter(|one| one.row == row) {
            row.note.push_str(&format!("; {what} at that time: {file}"));
        }
    }
    rows
}

/// Says in what files an archive lies that was received in volumes, or encrypted.
pub(super) fn wrap(point: &PointInProgress, archive: &mut Archive) {
    let Some(journal) = point.volumes_of(&archive.file) else { return };
    let as_it_is = |volume: &Volume| volume.file == archive.file && journal.encryption.is_none();
    if journal.volumes.iter().all(as_it_is) {
        return;
    }
    let count = journal.volumes.len();
    archive.verified_how.retain(|how| !how.contains("read back from the disk"));
    archive.verified_how.push(format!(
        "{count} {} read back from the disk here with the digest that {} written with",
        if count == 1 { "file" } else { "volumes" },
        if count == 1 { "it was" } else { "they were" }
    ));
    if let Some(encryption) = &journal.encryption {
        archive.verified_how.push(format!(
            "walked and hashed before it was encrypted ({}) for {}",
            encryption.format,
            encryption.recipients.join(", ")
        ));
    }
    archive.volumes = journal.volumes;
    archive.encryption = journal.encryption;
}

/// What a manifest says of an archive that arrived and was proved.
fn archive_of(
    name: &str,
    kind: ArchiveKind,
    file: &str,
    arrived: &Arrived,
    job: &OurJob,
    history: &[Past],
    required: &[String],
) -> Result<Archive, Failure> {
    let walk =
        arrived.walk.as_ref().ok_or_else(|| Failure::new(Kind::Bug, "an archive that was not walked is not sealed"))?;
    let mut names = walk.missing.clone();
    names.retain(|name| required.contains(name));
    let (verdict, why) = judge(arrived.source.bytes, walk.members, history, &names);
    let mut verified_how = vec![
        format!("every CRC, length and header of {} members walked to both end blocks", walk.members),
        "every piece read back from the disk here equal to what came in the stream, by a keyed digest (GMAC) beside the stream's sha256"
            .to_owned(),
    ];
    match &arrived.node_digest {
        Some(tool) => verified_how.push(format!("digest equal to the one made on the node by {tool}")),
        None => verified_how.push("no digest from the node: it has neither openssl nor sha256sum".to_owned()),
    }
    Ok(Archive {
        name: name.to_owned(),
        kind,
        file: file.to_owned(),
        bytes: arrived.source.bytes,
        sha256: arrived.sha256,
        volumes: Vec::new(),
        encryption: None,
        members: walk.members,
        content_bytes: walk.content_bytes,
        verdict,
        why,
        source_path: format!("{}:{}", job.host, job.meta.archive),
        verified_how,
        details: serde_json::Map::new(),
    })
}

pub(super) async fn cleanup(world: &World) -> Result<Done, Failure> {
    let landed = |point: &crate::catalog::Point| point.manifest.archives.iter().any(|one| one.landed().is_some());
    if straight::is_wanted(world) && world.work.lock().await.sealed.as_ref().is_some_and(landed) {
        world.job_is_over();
        let text = "what the source made stays there until it is restored: there is no other copy than the target's";
        return Ok(Done::ok(text, json!({"later": true})));
    }
    cleanup_now(world).await
}

/// Removes archives and jobs from the nodes of the cluster whose turn it is.
pub(super) async fn cleanup_now(world: &World) -> Result<Done, Failure> {
    let (jobs, sealed, tool) = {
        let work = world.work.lock().await;
        let gravity = work.job.clone().map(|job| (job, work.log_sha256));
        let amv = work.amv.job.clone().filter(|_| work.amv.failed.is_none()).map(|job| (job, work.amv.log_sha256));
        (gravity.into_iter().chain(amv).collect::<Vec<_>>(), work.sealed.is_some(), work.amv.tool_dir.clone())
    };
    if jobs.is_empty() {
        return Ok(Done::skipped("nothing of ours is on a node"));
    }
    if !sealed {
        return Err(Failure::new(Kind::Bug, "the node is tidied only after the seal"));
    }
    let mut removed = Vec::new();
    for (job, log) in jobs {
        // A run that takes over after the seal has not read the log: the node's own digest acknowledges it.
        let log = match log {
            Some(log) => Some(log),
            None => world.jobs(&job.host).await?.log_sha256(&job.id).await?.0,
        };
        match remove_from_node(world, &job, log.unwrap_or_else(|| Sha256::of(b""))).await {
            Ok(()) => removed.push(job.host.clone()),
            // The point is safe. What is left on the node is told, and the next run removes it.
            Err(failure) => {
                let text = format!(
                    "our files are still on the node: {failure}; the next backup, or ferry jobs clean {}, removes them",
                    job.id
                );
                world.warn(Some(&job.host), text).await;
            }
        }
    }
    world.job_is_over();
    if let Some((host, dir)) = tool {
        super::amv_backup::forget_tool(world, &host, &dir).await;
    }
    removed.dedup();
    if removed.is_empty() {
        return Ok(Done::ok("still there", json!({"left": true})));
    }
    Ok(Done::changed(format!("archive and job removed from {}", removed.join(", ")), json!({"node": removed.first()})))
}

pub(super) async fn summary(world: &World) -> Result<Done, Failure> {
    let work = world.work.lock().await;
    let line = |word: &str, text: String| SummaryLine { word: word.to_owned(), text };
    let mut lines = Vec::new();
    let mut next = Vec::new();
    let Some(point) = &work.sealed else {
        if !work.shortfalls.is_empty() || work.job.is_none() {
            let what: Vec<String> = work
                .shortfalls
                .iter()
                .cloned()
                .chain((!world.choices.wants("gravity")).then(|| "Gravity: left out by --only".to_owned()))
                .collect();
            return Err(Failure::new(Kind::Failed, "nothing was saved").saw(what.join("; ")));
        }
        return Ok(Done::skipped("nothing was sealed"));
    };
    let manifest = &point.manifest;
    lines.push(line("point", format!("{}/{} {}", manifest.cluster.group, manifest.id, point.verdict())));
    lines.push(line("where", point.dir.display().to_string()));
    for archive in &manifest.archives {
        lines.push(line(
            "saved",
            format!(
                "{} ({}, {} members) from {}",
                archive.name,
                super::node::size(archive.bytes),
                archive.members,
                archive.source_path.split(':').next().unwrap_or(manifest.node.as_str())
            ),
        ));
        for how in &archive.verified_how {
            lines.push(line("verified", how.clone()));
        }
        if archive.verdict == Verdict::Suspect {
            lines.push(line("suspect", archive.why.clone()));
            let catalog = &world.run.catalog_flag;
            next.push(format!(
                "ferry points show {}{catalog}   then, if it is right: ferry points accept",
                manifest.id
            ));
        }
    }
    if let Some(why) = &work.amv.skipped {
        lines.push(line("left out", format!("AMV: {why}")));
    }
    if let Some(why) = &work.nfs.skipped {
        lines.push(line("left out", format!("NFS files: {why}")));
    }
    for missing in &work.shortfalls {
        lines.push(line("NOT SAVED", missing.clone()));
    }
    let outside: Vec<&str> = manifest
        .contents
        .iter()
        .filter(|row| row.in_backup == crate::catalog::InBackup::No)
        .map(|row| row.row.as_str())
        .collect();
    lines.push(line(
        "not in it",
        format!("{} (yours to cover; see ferry points show {})", outside.join(", "), manifest.id),
    ));
    if let Some(seconds) = manifest.durations.backup_seconds {
        let before = work
            .history
            .iter()
            .find_map(|past| past.backup_seconds)
            .map(|before| format!(", last time {before:.0} s"))
            .unwrap_or_default();
        let transfer =
            manifest.durations.transfer_seconds.map(|seconds| format!(", collect {seconds:.1} s")).unwrap_or_default();
        lines.push(line("took", format!("backup {seconds:.0} s{before}{transfer}")));
    }
    if let Some(before) = work.history.first() {
        lines.push(line("last time", format!("{}, {} members", super::node::size(before.bytes), before.members)));
    }
    for copy in &work.replicas {
        match &copy.outcome {
            Ok(how) => lines.push(line("copied", format!("{}: {how}", copy.place))),
            Err(failure) => lines.push(line("NOT COPIED", format!("{}: {failure}", copy.place))),
        }
    }
    next.push(format!("ferry points verify {}{}", manifest.id, world.run.catalog_flag));
    world.events.tell(Event::Summary { lines, next });
    let missing = work.shortfalls.clone();
    let name = format!("{}/{}", manifest.cluster.group, manifest.id);
    let not_copied = super::point_keep::not_replicated(&work.replicas, &name, &world.run.catalog_flag);
    drop(work);
    if missing.is_empty() {
        not_copied.map_or_else(|| Ok(Done::ok("all that was asked for", json!({}))), Err)
    } else {
        Err(Failure::new(Kind::Failed, "not everything was saved")
            .saw(missing.join("; "))
            .why("what is in the point is verified; what is missing is not covered by ferry")
            .mend("save it by other means; ferry backup CLUSTER --only gravity says that this is known"))
    }
}
