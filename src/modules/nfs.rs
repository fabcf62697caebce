//! `nfs_backup`, `nfs_restore`: the customer's NFS export as an archive of the point, and back.
//!
//! The export is a directory on one host of the cluster (`pce_nfs_export`, group `nfs`). It is read while it is in
//! use: files that changed meanwhile are listed with the point. It is put back into an empty directory, or into one that
//! was named for that, never over live files by itself.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::amv_backup::not_yet;
use super::gravity_backup::{already_sealed, open_point};
use super::point_seal::in_cluster;
use super::restoring::{digest_of, done_before, need_lock};
use super::world::JobMeta;
use super::{Done, World};
use crate::catalog::{Archive, ArchiveKind, Entry, Past, Point, PointInProgress, Verdict, judge};
use crate::event::{Event, Finding, Severity};
use crate::failure::{Failure, Kind};
use crate::name::PointId;
use crate::nfs::{self, Export, Place, Saved, Tar};

/// The archive's name in a point.
pub const FILE: &str = "nfs.tar.gz";

/// How often the export is saved unless `pce_nfs_every` says otherwise.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// How often a stream that broke is begun anew.
const TRIES: u32 = 3;

/// The NFS part of a backup.
#[derive(Default)]
pub struct NfsPart {
    /// What the manifest will say of the archive, once it is there and proved.
    pub archive: Option<Archive>,
    /// What is known of the point where no job of Gravity or AMV knows it (`--only nfs`), and the NFS host.
    pub meta: Option<(JobMeta, String)>,
    /// Why it was not saved.
    pub failed: Option<Failure>,
    /// Why it was left out on purpose.
    pub skipped: Option<String>,
    /// How long the stream took, in seconds.
    pub seconds: f64,
}

/// The NFS part of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NfsPlan {
    /// It goes there.
    Put {
        /// The host.
        host: String,
        /// The directory, absolute.
        dir: String,
        /// It was named although files are in it.
        over_live: bool,
    },
    /// It stays in the point, and why.
    LeftOut(String),
}

/// The cluster's NFS host and its exported directory; `None` when it has none.
pub(super) fn export(world: &World) -> Result<Option<(String, String)>, Failure> {
    let all = world.vars.keys().filter(|host| in_cluster(world, host));
    let mut found: Vec<(String, String)> =
        all.filter_map(|host| Some((host.clone(), world.var(host, "pce_nfs_export")?))).collect();
    // Set for a whole group, it is meant for the hosts of group nfs among them.
    let of_nfs = |host: &str| {
        let groups = world.vars.get(host).and_then(|vars| vars.get("group_names")).and_then(Value::as_array);
        groups.is_some_and(|groups| groups.iter().any(|group| group.as_str() == Some("nfs")))
    };
    if found.iter().any(|(host, _)| of_nfs(host)) {
        found.retain(|(host, _)| of_nfs(host));
    }
    match found.as_slice() {
        [] => Ok(None),
        [(host, dir)] => Ok(Some((host.clone(), nfs::directory("pce_nfs_export", dir)?))),
        several => Err(Failure::new(Kind::CouldNotStart, "several hosts of the cluster have pce_nfs_export")
            .saw(several.iter().map(|(host, _)| host.as_str()).collect::<Vec<_>>().join(", "))
            .why("a point holds one export")
            .mend("set it for one host of group nfs")),
    }
}

pub(super) async fn backup(world: &World, args: &Map<String, Value>) -> Result<Done, Failure> {
    if !world.choices.wants("nfs") {
        return Ok(Done::skipped("not among --only"));
    }
    let ended = match export(world) {
        Ok(None) if world.choices.only.iter().any(|only| only == "nfs") => {
            Err(Failure::new(Kind::CouldNotStart, "the cluster has no NFS export")
                .mend("set pce_nfs_export for a host of group nfs"))
        }
        Ok(None) => return Ok(Done::skipped("the cluster has no NFS export (pce_nfs_export)")),
        Ok(Some((host, dir))) => save(world, args, &host, dir).await,
        Err(failure) => Err(failure),
    };
    let ended = ended.map_err(|mut failure| {
        // A part of a backup that cannot be made has failed: the others are made already.
        if failure.kind == Kind::CouldNotStart {
            failure.kind = Kind::Failed;
        }
        failure
    });
    if let Err(failure) = &ended {
        world.work.lock().await.nfs.failed = Some(failure.clone());
    }
    ended
}

/// The point's id: that of the other parts; else that of one that an earlier `--only nfs` left; else a new one.
async fn point_id(world: &World) -> Result<PointId, Failure> {
    let known = {
        let work = world.work.lock().await;
        work.job.as_ref().or(work.amv.job.as_ref()).map(|job| job.meta.point.clone())
    };
    if let Some(id) = known {
        return Ok(id);
    }
    let (catalog, cluster, machine) =
        (world.catalog()?.clone(), world.cluster()?.clone(), world.run.who.machine.clone());
    let entries = tokio::task::spawn_blocking(move || catalog.list(Some(&cluster)))
        .await
        .map_err(|error| Failure::new(Kind::Bug, error.to_string()))??;
    let ours = entries.into_iter().find_map(|entry| match entry {
        Entry::LeftOver(part) if part.note.as_ref().is_some_and(|note| note.host == machine) => {
            let there = |name: &str| part.dir.join(name).exists() || part.dir.join(format!("{name}.part")).exists();
            (there(FILE) && !there("gravity.tar.gz") && !there("amv.tar.gz")).then_some(part.id)
        }
        _ => None,
    });
    Ok(ours.unwrap_or_else(|| PointId::at(jiff::Timestamp::now())))
}

async fn save(world: &World, args: &Map<String, Value>, host: &str, dir: String) -> Result<Done, Failure> {
    let history: Vec<Past> = {
        let (catalog, cluster) = (world.catalog()?.clone(), world.cluster()?.clone());
        tokio::task::spawn_blocking(move || catalog.history(&cluster, ArchiveKind::Nfs))
            .await
            .map_err(|error| Failure::new(Kind::Bug, error.to_string()))??
    };
    if let Some(why) = not_yet(world, &history, "nfs", "pce_nfs_every", EVERY)? {
        world.work.lock().await.nfs.skipped = Some(why.clone());
        return Ok(Done::skipped(why));
    }
    let id = point_id(world).await?;
    if already_sealed(world, &id).await?.is_some() || world.work.lock().await.sealed.is_some() {
        return Ok(Done::ok("its point is sealed already", json!({"sealed": true})));
    }
    let opened = world.work.lock().await.point.is_some();
    if !opened {
        open_point(world, &id).await?;
    }
    // What the playbook says goes before what the inventory says, as with any argument.
    let exclude: Vec<String> = match args.get("exclude") {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => world.words(host, "pce_nfs_exclude"),
    };
    let order = Export { host: host.to_owned(), dir: dir.clone(), exclude: exclude.clone() };
    let started = jiff::Timestamp::now();
    let saved = stream(world, &order).await;
    let saved = match saved {
        Ok(saved) => saved,
        Err(failure) => {
            let mut work = world.work.lock().await;
            if let Some(point) = &work.point {
                let _ = point.discard_archive(FILE);
            }
            // Opened for this part alone: there is nothing else to seal.
            if !opened && let Some(point) = work.point.take() {
                let _ = point.abandon();
            }
            return Err(failure);
        }
    };
    let (verdict, why) = judge(saved.bytes, saved.walk.members, &history, &[]);
    let mut archive = archive_of(&order, &saved, verdict, why);
    if let Some(point) = &world.work.lock().await.point {
        super::point_seal::wrap(point, &mut archive);
    }
    for text in remarks_of(&saved) {
        world.warn(Some(host), text).await;
    }
    let mut lost = None;
    {
        let mut work = world.work.lock().await;
        if !saved.changed.is_empty()
            && let Some(point) = &work.point
        {
            let text = format!("{}\n", saved.changed.join("\n"));
            lost = point.write_file("logs/nfs-changed.txt", world.events.masker().mask(&text).as_bytes()).err();
        }
        work.commands.push(format!("{host}: tar of {dir}"));
        if work.job.is_none() && work.amv.job.is_none() {
            let preflight = work.preflight.as_ref();
            let meta = JobMeta {
                point: id.clone(),
                run: world.run.id.clone(),
                who: world.run.who.clone(),
                since: started,
                archive: dir.clone(),
                label: world.choices.label.clone(),
                timeout_seconds: 0,
                only: world.choices.only.clone(),
                cluster: preflight.and_then(|preflight| preflight.cluster.clone()),
                status_before: preflight.map_or(Value::Null, |preflight| preflight.status.clone()),
                warnings: work.warnings.clone(),
                waived: world.choices.waive.clone(),
                extra: Map::new(),
            };
            work.nfs.meta = Some((meta, host.to_owned()));
        }
        work.nfs.seconds = saved.took.as_secs_f64();
        work.nfs.archive = Some(archive);
    }
    if let Some(failure) = lost {
        world.warn(None, format!("the list of files that changed could not be kept: {failure}")).await;
    }
    world
        .commit_done(Event::Verified {
            point: id.to_string(),
            file: FILE.to_owned(),
            bytes: saved.bytes,
            sha256: saved.sha256.to_string(),
            members: saved.walk.members,
        })
        .await;
    let message = format!(
        "{} members, {:.1} MiB from {host}:{dir}{}",
        saved.walk.members,
        saved.bytes as f64 / f64::from(1 << 20),
        if saved.changed_count > 0 {
            format!(", {} changed while they were read", saved.changed_count)
        } else {
            String::new()
        }
    );
    let result = json!({"host": host, "dir": dir, "bytes": saved.bytes, "sha256": saved.sha256,
        "members": saved.walk.members, "changed": saved.changed_count, "exclude": exclude});
    Ok(Done::changed(message, result))
}

/// The stream, begun anew where it broke.
async fn stream(world: &World, order: &Export) -> Result<Saved, Failure> {
    let way = world.way(&order.host)?.clone();
    let mut tries = 0;
    loop {
        tries += 1;
        let part = {
            let work = world.work.lock().await;
            let Some(point) = work.point.as_ref() else {
                return Err(Failure::new(Kind::Bug, "an NFS archive without a folder"));
            };
            fresh(point)?
        };
        let mut last: Option<std::time::Instant> = None;
        let ended = nfs::save_kept(&way, order, &part.path, Some(&world.kept), |done| {
            if last.is_none_or(|last| last.elapsed().as_millis() >= 250) {
                last = Some(std::time::Instant::now());
                world.events.tell(Event::Progress {
                    what: format!("save {FILE}"),
                    host: order.host.clone(),
                    done,
                    total: None,
                    unit: "bytes".to_owned(),
                });
            }
        })
        .await;
        match ended {
            // The volumes have their names already; one that is neither encrypted nor full is the archive itself.
            Ok(saved) => return Ok(saved),
            Err(failure) if failure.again && tries < TRIES => {
                let text = format!("the stream of NFS files broke off ({}): it begins anew", failure.what);
                world.events.note(Some(&order.host), text);
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The archive's file, empty: what an earlier attempt left is the beginning of another stream.
fn fresh(point: &PointInProgress) -> Result<crate::catalog::ArchivePart, Failure> {
    point.discard_archive(FILE)?;
    point.open_archive(FILE)
}

fn remarks_of(saved: &Saved) -> Vec<String> {
    let mut all = Vec::new();
    if !saved.tar.loses().is_empty() {
        all.push(format!("the tar of the NFS host does not keep {}", saved.tar.loses().join(", ")));
    }
    if saved.changed_count > 0 {
        all.push(format!(
            "{} files of the NFS export changed while they were read (logs/nfs-changed.txt of the point)",
            saved.changed_count
        ));
    }
    if !saved.remarks.is_empty() {
        let shown: Vec<&str> = saved.remarks.iter().take(5).map(String::as_str).collect();
        all.push(format!("left out of the NFS archive: {} ({} in all)", shown.join("; "), saved.remarks.len()));
    }
    all
}

fn archive_of(order: &Export, saved: &Saved, verdict: Verdict, why: String) -> Archive {
    let mut details = Map::new();
    details.insert("tar".to_owned(), json!(saved.tar));
    details.insert("loses".to_owned(), json!(saved.tar.loses()));
    details.insert("exclude".to_owned(), json!(order.exclude));
    details.insert("changed".to_owned(), json!(saved.changed_count));
    details.insert("left_out".to_owned(), json!(saved.remarks.iter().take(100).collect::<Vec<_>>()));
    Archive {
        name: "nfs".to_owned(),
        kind: ArchiveKind::Nfs,
        file: FILE.to_owned(),
        bytes: saved.bytes,
        sha256: saved.sha256,
        volumes: Vec::new(),
        encryption: None,
        members: saved.walk.members,
        content_bytes: saved.walk.content_bytes,
        verdict,
        why,
        source_path: format!("{}:{}", order.host, order.dir),
        verified_how: vec![
            format!("every CRC, length and header of {} members walked to both end blocks", saved.walk.members),
            "digest of what was written equal to the digest read back from the disk here".to_owned(),
            "tar's own exit code seen behind the last byte; no digest from the host: the stream exists only once"
                .to_owned(),
        ],
        details,
    }
}

/// Decides where the NFS files go, before anything is destroyed. Nothing to be restored: `None`.
pub(super) async fn plan(world: &World, point: &Point) -> Result<Option<NfsPlan>, Failure> {
    if !world.choices.wants("nfs") || point.manifest.archive(ArchiveKind::Nfs).is_none() {
        return Ok(None);
    }
    if done_before(world, "nfs_restore", point).is_some() {
        return Ok(Some(NfsPlan::LeftOut("it was restored in the run that is carried on".to_owned())));
    }
    let asked = &world.choices.restore;
    let explicit =
        asked.nfs_into.is_some() || asked.nfs_over.is_some() || world.choices.only.iter().any(|only| only == "nfs");
    let refuse =
        |failure: Failure| if explicit { Err(failure) } else { Ok(Some(NfsPlan::LeftOut(failure.to_string()))) };
    let Some((host, exported)) = export(world)? else {
        return refuse(
            Failure::new(Kind::Refused, "the target has no NFS host")
                .within("gate nfs")
                .mend("set pce_nfs_export for a host of group nfs of the target"),
        );
    };
    let dir = match asked.nfs_into.as_deref().or(asked.nfs_over.as_deref()) {
        Some(dir) => nfs::directory("the directory for NFS files", dir)?,
        None => exported,
    };
    let seen = async { nfs::look(&world.session(&host).await?, &dir).await };
    let place = match seen.await {
        Ok(place) => place,
        Err(failure) => return refuse(failure),
    };
    let named = asked.nfs_over.as_deref().map(|over| over.trim_end_matches('/')) == Some(dir.as_str());
    match place {
        Place::Absent | Place::Empty => Ok(Some(NfsPlan::Put { host, dir, over_live: false })),
        Place::Live(_) if named => Ok(Some(NfsPlan::Put { host, dir, over_live: true })),
        Place::Live(names) => refuse(
            Failure::new(Kind::Refused, "the directory for NFS files is not empty")
                .on(&host)
                .saw(format!("{dir}: {}, …", names.join(", ")))
                .within("gate nfs")
                .why("where the original NFS is used again, its files are newer than those of the point")
                .mend(format!("--nfs-into DIR for an empty one; --nfs-over {dir} to put them over what is there")),
        ),
        Place::NoDirectory => refuse(
            Failure::new(Kind::Refused, "the directory for NFS files is a link or no directory")
                .on(&host)
                .saw(dir)
                .within("gate nfs"),
        ),
    }
}

/// Tells what was decided.
pub(super) fn tell_plan(world: &World, plan: Option<&NfsPlan>) {
    let finding = |severity, host: Option<&String>, what: String| Finding {
        gate: "nfs".to_owned(),
        severity,
        host: host.cloned(),
        what,
        why: String::new(),
        mend: String::new(),
    };
    let finding = match plan {
        None => return,
        Some(NfsPlan::Put { host, dir, over_live: false }) => {
            finding(Severity::Pass, Some(host), format!("NFS files go into {dir}, which is empty"))
        }
        Some(NfsPlan::Put { host, dir, over_live: true }) => {
            finding(Severity::Warn, Some(host), format!("NFS files go over those in {dir}, as asked for"))
        }
        Some(NfsPlan::LeftOut(why)) => finding(Severity::Warn, None, format!("NFS files are not restored: {why}")),
    };
    world.events.tell(Event::Found { finding });
}

pub(super) async fn restore(world: &World) -> Result<Done, Failure> {
    if world.choices.check {
        return Ok(Done::skipped("--check restores nothing"));
    }
    let (point, plan, confirmed) = {
        let work = world.work.lock().await;
        (work.restoring.point.clone(), work.restoring.nfs.clone(), work.restoring.confirm.clone())
    };
    let Some(point) = point else {
        return Err(Failure::new(Kind::Refused, "nfs_restore needs restore_gates before it in the playbook"));
    };
    let (host, dir, over_live) = match plan {
        None => return Ok(Done::skipped("the point has no NFS files, or they are not wanted")),
        Some(NfsPlan::LeftOut(why)) => return Ok(Done::skipped(why)),
        Some(NfsPlan::Put { host, dir, over_live }) => (host, dir, over_live),
    };
    need_lock(world).await?;
    if confirmed.as_deref() != Some(world.cluster()?.as_str()) {
        return Err(Failure::new(Kind::Refused, "the restore was not confirmed").within("gate confirmation"));
    }
    let Some(archive) = point.manifest.archive(ArchiveKind::Nfs).cloned() else {
        return Err(Failure::new(Kind::Bug, "an NFS restore without an archive"));
    };
    if point.verdict_of(&archive) != Verdict::Verified {
        return Err(Failure::new(Kind::Refused, format!("the NFS archive is {}", point.verdict_of(&archive)))
            .saw(format!("{}/{}: {}", point.cluster, point.id(), archive.why))
            .within("gate verdict")
            .mend(format!("look at it: ferry points show {0}; then ferry points accept {0}", point.id())));
    }
    let (read, reader) = ((point.clone(), archive.clone()), world.archive_reader(&point, &archive));
    let digest = tokio::task::spawn_blocking(move || digest_of(&read.0, &read.1, reader))
        .await
        .map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    if digest != Ok(archive.sha256) {
        return Err(Failure::new(Kind::Refused, "the NFS archive is not what the manifest says")
            .saw(format!("{digest:?} instead of {}", archive.sha256))
            .within("gate digest")
            .mend(format!("ferry points verify {}", point.id())));
    }
    let made_by: Tar =
        archive.details.get("tar").and_then(|word| serde_json::from_value(word.clone()).ok()).unwrap_or(Tar::GnuFull);
    let order = nfs::Into { host: host.clone(), dir: dir.clone(), over_live, made_by, members: archive.members };
    let way = world.way(&host)?.clone();
    let mut last: Option<std::time::Instant> = None;
    let put = nfs::put(&way, &order, world.archive_reader(&point, &archive), |done| {
        if last.is_none_or(|last| last.elapsed().as_millis() >= 250) {
            last = Some(std::time::Instant::now());
            world.events.tell(Event::Progress {
                what: format!("restore {FILE}"),
                host: host.clone(),
                done,
                total: None,
                unit: "bytes".to_owned(),
            });
        }
    })
    .await?;
    for remark in put.remarks.iter().take(20) {
        world.warn(Some(&host), remark.clone()).await;
    }
    let counted = put.entries.map(|count| format!(", {count} files and folders there")).unwrap_or_default();
    let text = format!("{} members into {host}:{dir}{counted}", archive.members);
    world.work.lock().await.restoring.nfs_restored = Some(text.clone());
    Ok(Done::changed(
        text,
        json!({"point": point.id(), "node": host, "host": host, "dir": dir, "members": archive.members, "entries": put.entries, "seconds": put.took.as_secs_f64()}),
    ))
}
