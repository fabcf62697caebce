//! `amv_backup`: runs the vendor's script for Anypoint Monitoring and Visualizer as a job that outlives us, from a
//! copy that root alone can write; and `point_lacks`, which lets a good Gravity archive be sealed without it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Done;
use super::follow::{self, Running, follow, go_on};
use super::gravity_backup::{already_sealed, as_ours, look_at_archive, open_point};
use super::point_seal::{cluster_has, in_cluster};
use super::world::{JobMeta, OurJob, World};
use crate::amv::{self, Action, AmvBackup, AmvFacts, AmvOptions, Copied, Half, Outcome, ToolFile};
use crate::catalog::{ArchiveKind, Past, expected_bytes};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::gravity;
use crate::job::{Input, Lost, Spec, State};
use crate::name::{JobId, PointId};

/// What these jobs are called on the nodes.
pub const KIND: &str = "amv-backup";

/// The name of the script's log among a point's logs.
pub const LOG: &str = "amv-backup.log";

/// The AMV part of a backup.
#[derive(Default)]
pub struct AmvPart {
    /// Its job.
    pub job: Option<OurJob>,
    /// The archive as it arrived.
    pub arrived: Option<crate::transfer::Arrived>,
    /// Digest of the job's output as collected.
    pub log_sha256: Option<Sha256>,
    /// What the manifest keeps beside the archive.
    pub details: Map<String, Value>,
    /// Host and folder of the copy of the script.
    pub tool_dir: Option<(String, String)>,
    /// Why it was not saved.
    pub failed: Option<Failure>,
    /// Why it was left out on purpose.
    pub skipped: Option<String>,
    /// Earlier archives.
    pub history: Vec<Past>,
}

/// How often AMV is backed up unless `pce_amv_every` says otherwise.
const EVERY: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) async fn run(world: &World, args: &Map<String, Value>) -> Result<Done, Failure> {
    if !world.choices.wants("amv") {
        return Ok(Done::skipped("not among --only"));
    }
    if !cluster_has(world, "pce_amv") {
        return Ok(Done::skipped("the cluster has no AMV (pce_amv)"));
    }
    let ended = backup(world, args).await;
    if let Err(failure) = &ended {
        world.work.lock().await.amv.failed = Some(failure.clone());
    }
    ended
}

/// Lets the point be sealed without AMV's archive, when that has failed; not while its job may still run.
pub(super) async fn lacks(world: &World, part: &str) -> Result<Done, Failure> {
    match part {
        "amv" => {}
        "nfs" => return lacks_nfs(world).await,
        other => {
            return Err(Failure::new(Kind::CouldNotStart, format!("part {other:?} of point_lacks"))
                .why("expected: amv or nfs; a point without Gravity's archive is none"));
        }
    }
    let failed = world.work.lock().await.amv.failed.clone();
    let Some(failure) = failed else { return Ok(Done::ok("nothing is missing", json!({}))) };
    if matches!(failure.kind, Kind::Unknown | Kind::Unreachable) && world.work.lock().await.amv.job.is_some() {
        let mut failure = failure;
        failure.why =
            Some("the point is sealed when AMV's job has ended: Gravity's archive is proved and waits".to_owned());
        return Err(failure);
    }
    let (tool, gravity) = {
        let mut work = world.work.lock().await;
        (work.amv.tool_dir.take(), work.arrived.is_some())
    };
    if let Some((host, dir)) = tool {
        forget_tool(world, &host, &dir).await;
    }
    if !gravity {
        return Err(failure);
    }
    Ok(Done::ok("the point is sealed without AMV", json!({"lacks": ["amv"]})))
}

/// Lets the point be sealed without the NFS files, when there is something else in it.
async fn lacks_nfs(world: &World) -> Result<Done, Failure> {
    let work = world.work.lock().await;
    let Some(failure) = work.nfs.failed.clone() else { return Ok(Done::ok("nothing is missing", json!({}))) };
    if work.arrived.is_none() && work.amv.arrived.is_none() {
        return Err(failure);
    }
    Ok(Done::ok("the point is sealed without the NFS files", json!({"lacks": ["nfs"]})))
}

/// Removes the copy of the script from the node; what cannot be removed is told.
pub(super) async fn forget_tool(world: &World, host: &str, dir: &str) {
    let node_dir = world.probe_options(host).node_dir;
    let forgotten = async { amv::forget(&world.session(host).await?, &node_dir, dir).await };
    if let Err(failure) = forgotten.await {
        world.warn(Some(host), format!("the copy of AMV's script is still there ({dir}): {failure}")).await;
    }
}

/// Options of a look at a node.
pub(super) fn options(world: &World, host: &str, state_dir: &str, version: &str) -> Result<AmvOptions, Failure> {
    let probe = world.probe_options(host);
    let dir = world.var(host, "pce_amv_backup_dir").ok_or_else(|| {
        Failure::new(Kind::CouldNotStart, "pce_amv is set and pce_amv_backup_dir is not")
            .on(host)
            .why("the script's own default is on a disk that cannot hold a full backup")
            .mend("set pce_amv_backup_dir to an absolute path on a main node with room")
    })?;
    if !dir.starts_with('/') || dir.contains("/../") || dir.contains('\n') {
        return Err(Failure::new(Kind::CouldNotStart, "pce_amv_backup_dir is not an absolute path").on(host).saw(dir));
    }
    Ok(AmvOptions {
        state_dir: state_dir.to_owned(),
        version: version.to_owned(),
        backup_dir: dir.trim_end_matches('/').to_owned(),
        node_dir: probe.node_dir,
        kubectl: probe.kubectl,
    })
}

/// The first main node that has the script, `first` before the others; a node where it cannot be trusted refuses.
pub(super) async fn find_node(world: &World, first: Option<&str>) -> Result<(AmvFacts, AmvOptions), Failure> {
    let mut nodes: Vec<(String, String, Option<String>)> = {
        let work = world.work.lock().await;
        let node = |facts: &gravity::NodeFacts| {
            let gravity = facts.gravity.as_ref()?;
            let version =
                gravity.status.as_ref().map(|status| status.app_version.clone()).filter(|version| !version.is_empty());
            Some((facts.host.clone(), gravity.state_dir.clone(), version))
        };
        work.facts.iter().filter_map(node).collect()
    };
    nodes.sort_by_key(|(host, ..)| Some(host.as_str()) != first);
    let version = nodes.iter().find_map(|(_, _, version)| version.clone()).ok_or_else(|| {
        Failure::new(Kind::Failed, "the running PCE version is not known, and AMV's script is found by it")
            .mend("sudo gravity status on a main node")
    })?;
    let mut failures = Vec::new();
    for (host, state_dir, _) in nodes {
        let options = options(world, &host, &state_dir, &version)?;
        let looked = async { amv::look(&world.session(&host).await?, &options).await };
        match looked.await {
            Ok(facts) => return Ok((facts, options)),
            Err(failure) if failure.kind == Kind::Refused => return Err(failure),
            Err(failure) => failures.push(failure),
        }
    }
    Err(Failure::all(failures).unwrap_or_else(|| Failure::new(Kind::Failed, "no main node was reached for AMV")))
}

fn running(world: &World, job: &OurJob) -> Running {
    Running { id: job.id.clone(), host: job.host.clone(), what: "backup", go_on: go_on(world, "backup", &job.id) }
}

async fn backup(world: &World, args: &Map<String, Value>) -> Result<Done, Failure> {
    let history = {
        let (catalog, cluster) = (world.catalog()?.clone(), world.cluster()?.clone());
        tokio::task::spawn_blocking(move || catalog.history(&cluster, ArchiveKind::Amv))
            .await
            .map_err(|error| Failure::new(Kind::Bug, error.to_string()))??
    };
    let (found, point) = {
        let mut work = world.work.lock().await;
        work.amv.history.clone_from(&history);
        let begun = |job: &crate::job::Listed| !matches!(job.state, State::NotStarted | State::Absent);
        let found = work.found.iter().find(|(_, job)| job.kind == KIND && begun(job)).cloned();
        (found, work.job.as_ref().map(|job| job.meta.point.clone()))
    };
    let ours = found.and_then(|(host, listed)| as_ours(&host, &listed));
    let job = match ours {
        Some(job) if point.as_ref().is_none_or(|point| *point == job.meta.point) => {
            let text = format!(
                "taking over AMV's job {} of {} (since {}, run {})",
                job.id, job.meta.who, job.meta.since, job.meta.run
            );
            world.events.note(Some(&job.host), text);
            let mut work = world.work.lock().await;
            if let Some(details) = job.meta.extra.get("details").and_then(Value::as_object) {
                work.amv.details = details.clone();
            }
            work.amv.tool_dir =
                job.meta.extra.get("tool").and_then(Value::as_str).map(|dir| (job.host.clone(), dir.to_owned()));
            drop(work);
            world.job_may_run(&running(world, &job));
            if world.work.lock().await.point.is_none() {
                open_point(world, &job.meta.point).await?;
            }
            job
        }
        Some(job) => {
            return Err(Failure::new(Kind::Failed, "an AMV backup of an earlier point is still on this node")
                .on(&job.host)
                .saw(format!("job {}, point {}", job.id, job.meta.point))
                .mend(format!(
                    "ferry jobs attach {0}; when it has ended and is not needed: ferry jobs clean {0}",
                    job.id
                )));
        }
        None if world.work.lock().await.sealed.is_some() => {
            return Ok(Done::ok("its point is sealed already", json!({"sealed": true})));
        }
        None => {
            if let Some(why) = not_yet(world, &history, "amv", "pce_amv_every", EVERY)? {
                world.work.lock().await.amv.skipped = Some(why.clone());
                return Ok(Done::skipped(why));
            }
            start(world, args, point, &history).await?
        }
    };
    world.work.lock().await.amv.job = Some(job.clone());
    if already_sealed(world, &job.meta.point).await?.is_some() {
        return Ok(Done::ok(
            "its point is sealed already: only the node is left to be tidied",
            json!({"sealed": true}),
        ));
    }
    let path = match &world.work.lock().await.point {
        Some(point) => point.logs_dir().join(LOG),
        None => follow::run_log(world, LOG),
    };
    let (state, log) = follow(world, &running(world, &job), &path, None).await?;
    let digest = log.hasher.clone().finish();
    world.work.lock().await.amv.log_sha256 = Some(digest);
    let marker = job.meta.extra.get("marker").and_then(Value::as_str).unwrap_or_default().to_owned();
    let rc = match state {
        State::Done { rc } => rc,
        State::Lost(how) => {
            let seen = match how {
                Lost::Reboot => "the node has restarted since the job began",
                Lost::Died => "the job and its supervisor are gone and left no result",
            };
            // It may still run inside the cluster; a backup that is begun again has another name.
            return Err(Failure::new(Kind::Unknown, "how AMV's backup ended is not known")
                .on(&job.host)
                .saw(seen)
                .mend(format!(
                    "look: sudo kubectl -n dias get pods. Then: ferry jobs clean {}, and back up again",
                    job.id
                )));
        }
        other => return Err(Failure::new(Kind::Bug, format!("a job that is {other} was judged"))),
    };
    let (stat, ..) = look_at_archive(world, &job).await?;
    let (outcome, _) = Outcome::of(rc, &log.tail, &marker, Action::Backup);
    let failure = match (outcome, stat) {
        (Outcome::Done, Some(stat)) if stat.regular && stat.bytes > 0 => {
            return Ok(Done::changed(
                format!("{} on {}, {:.1} MiB", job.meta.archive, job.host, stat.bytes as f64 / f64::from(1 << 20)),
                json!({"node": job.host, "job": job.id, "archive": job.meta.archive, "bytes": stat.bytes}),
            ));
        }
        (Outcome::Done, _) => Failure::new(Kind::Failed, "AMV's script said success and left no archive")
            .saw(job.meta.archive.clone())
            .why("an exit code of 0 is no proof"),
        (Outcome::Mismatch(lines), _) => {
            Failure::new(Kind::Failed, "AMV's own report names differences").saw(lines.join("; "))
        }
        (Outcome::NeverRan(why), _) => Failure::new(Kind::Failed, "AMV's script was not run").saw(why),
        (Outcome::Failed(why) | Outcome::Aborted(why), _) => Failure::new(Kind::Failed, "AMV's backup failed").saw(why),
        (Outcome::Unknown(why), _) => Failure::new(Kind::Failed, "AMV's backup was ended before its end").saw(why),
    };
    discard(world, &job, digest).await;
    Err(failure.on(&job.host).mend("the log is kept with the point (logs/amv-backup.log)"))
}

/// Nothing of a failed AMV backup stays on the node.
async fn discard(world: &World, job: &OurJob, log: Sha256) {
    if let Err(failure) = super::gravity_backup::remove_from_node(world, job, log).await {
        world.events.warn(Some(&job.host), format!("our files could not be removed from the node: {failure}"));
    }
    world.work.lock().await.amv.job = None;
}

/// `pce_amv_every`, `pce_nfs_every`: why it is not yet time for a part. Asked for by `--only`, and in a migration, it is
/// always time.
pub(super) fn not_yet(
    world: &World,
    history: &[Past],
    part: &str,
    variable: &str,
    default: Duration,
) -> Result<Option<String>, Failure> {
    if world.choices.restore.migrate.is_some() || world.choices.only.iter().any(|only| only == part) {
        return Ok(None);
    }
    let ours = world.vars.keys().filter(|host| in_cluster(world, host));
    let text = ours.filter_map(|host| world.var(host, variable)).next();
    let every = match &text {
        None => default,
        Some(text) => crate::settings::duration::parse(text)
            .map_err(|what| Failure::new(Kind::CouldNotStart, format!("{variable} {text:?}: {what}")))?,
    };
    let Some(last) = history.first() else { return Ok(None) };
    let age = jiff::Timestamp::now().as_second() - last.finished.as_second();
    // A nightly backup that begins some minutes earlier than last time must not skip a turn.
    let due = i64::try_from(every.as_secs()).unwrap_or(i64::MAX).saturating_sub(3600.min(every.as_secs() as i64 / 10));
    if (0..due).contains(&age) {
        let shown = text.unwrap_or_else(|| format!("{}d", default.as_secs() / 86_400));
        return Ok(Some(format!(
            "last saved {} ({}), every {shown}",
            last.finished.strftime("%Y-%m-%d %H:%M UTC"),
            last.id
        )));
    }
    Ok(None)
}

/// The script's files at the last point of the same version.
fn last_tool(world: &World, version: Option<&str>) -> Option<Vec<ToolFile>> {
    let catalog = world.catalog().ok()?;
    let entries = catalog.list(world.about()).ok()?;
    entries.iter().rev().find_map(|entry| match entry {
        crate::catalog::Entry::Sealed(point) if point.manifest.pce_version.as_deref() == version => {
            let archive = point.manifest.archive(ArchiveKind::Amv)?;
            serde_json::from_value(archive.details.get("tool")?.clone()).ok()
        }
        _ => None,
    })
}

async fn start(
    world: &World,
    args: &Map<String, Value>,
    point: Option<PointId>,
    history: &[Past],
) -> Result<OurJob, Failure> {
    let cluster = world.cluster()?.clone();
    let half = match args.get("strategy").and_then(Value::as_str) {
        None => None,
        Some("meta") => Some(Half::Meta),
        Some("data") => Some(Half::Data),
        Some(other) => {
            return Err(Failure::new(Kind::CouldNotStart, format!("strategy {other:?} of amv_backup"))
                .why("expected: meta or data"));
        }
    };
    let (lead, first) = {
        let work = world.work.lock().await;
        let lead = work.job.as_ref().map(|job| job.meta.clone());
        let first = work.job.as_ref().map(|job| job.host.clone());
        (lead, first.or_else(|| work.preflight.as_ref().and_then(|preflight| preflight.node.clone())))
    };
    let (facts, options) = find_node(world, first.as_deref()).await?;
    room(world, &facts, history).await?;
    let id = JobId::random();
    let (copied, usage) = copy(world, &facts, &options, &id).await?;
    let known = last_tool(world, Some(&options.version));
    for change in known.map(|known| amv::changes(&known, &copied.files)).unwrap_or_default() {
        let text = format!("AMV's script of PCE {} has changed since the last point: {change}", options.version);
        world.warn(Some(&facts.host), text).await;
    }
    let point = point.unwrap_or_else(|| PointId::at(jiff::Timestamp::now()));
    let name = format!("ferry-{point}");
    let marker = format!("ferry-amv-{:032x}", rand::random::<u128>());
    let script = amv::backup_script(&AmvBackup {
        script: copied.script.clone(),
        script_sha256: copied.script_sha256,
        name: name.clone(),
        dir: options.backup_dir.clone(),
        half,
        usage: usage.clone(),
        marker: marker.clone(),
    })
    .map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()))?;
    let mut details = Map::new();
    details.insert("tool".to_owned(), json!(copied.files));
    details.insert("tool_sha256".to_owned(), json!(copied.digest));
    details.insert("folder".to_owned(), json!(facts.folder));
    details.insert("options".to_owned(), json!(usage.letters.iter().collect::<String>()));
    let mut extra = Map::new();
    extra.insert("marker".to_owned(), json!(marker));
    extra.insert("tool".to_owned(), json!(copied.dir));
    extra.insert("details".to_owned(), Value::Object(details.clone()));
    let archive = format!("{}/{name}.tar.gz", options.backup_dir);
    let (identity, status_before, warnings) = {
        let work = world.work.lock().await;
        let preflight = work.preflight.as_ref();
        (
            preflight.and_then(|preflight| preflight.cluster.clone()),
            preflight.map(|preflight| preflight.status.clone()).unwrap_or_default(),
            work.warnings.clone(),
        )
    };
    let meta = match lead {
        Some(lead) => JobMeta { archive, timeout_seconds: 0, extra, since: jiff::Timestamp::now(), ..lead },
        None => JobMeta {
            point: point.clone(),
            run: world.run.id.clone(),
            who: world.run.who.clone(),
            since: jiff::Timestamp::now(),
            archive,
            label: world.choices.label.clone(),
            timeout_seconds: 0,
            only: world.choices.only.clone(),
            cluster: identity,
            status_before,
            warnings,
            waived: world.choices.waive.clone(),
            extra,
        },
    };
    let job = OurJob { id, host: facts.host.clone(), meta };
    if world.work.lock().await.point.is_none() {
        open_point(world, &point).await?;
    }
    let spec = Spec {
        id: job.id.clone(),
        kind: KIND.to_owned(),
        cluster,
        script,
        meta: serde_json::to_value(&job.meta).map_err(|error| Failure::new(Kind::Bug, error.to_string()))?,
        umask: 0o077,
        restore_like: false,
        input: Input::Nothing,
    };
    {
        let mut work = world.work.lock().await;
        work.amv.details = details;
        work.amv.tool_dir = Some((facts.host.clone(), copied.dir.clone()));
        work.commands
            .push(format!("{}: bash {} -v -a backup -f {name} -d {}", facts.host, copied.script, options.backup_dir));
    }
    world.events.note(Some(&facts.host), format!("AMV backup by {} to {}", copied.script, job.meta.archive));
    follow::start(world, &running(world, &job), &spec, point.as_str()).await?;
    Ok(job)
}

/// Copies the script and asks the copy for its options.
pub(super) async fn copy(
    world: &World,
    facts: &AmvFacts,
    options: &AmvOptions,
    id: &JobId,
) -> Result<(Copied, amv::Usage), Failure> {
    let session = world.session(&facts.host).await?;
    let copied = amv::copy(&session, facts, &options.node_dir, id.as_str()).await?;
    let usage = amv::usage(&session, &copied).await?;
    if usage.letters.is_empty() {
        let text = "AMV's script gave no usage text (-h): the documented options are used";
        world.warn(Some(&facts.host), text).await;
    }
    Ok((copied, usage))
}

/// Room for the archive on the disk that it is written to.
async fn room(world: &World, facts: &AmvFacts, history: &[Past]) -> Result<(), Failure> {
    let Some((free, _)) = facts.room_kib else {
        world.warn(Some(&facts.host), "the room for AMV's archive could not be told").await;
        return Ok(());
    };
    let free = free << 10;
    let Some(expected) = expected_bytes(history) else {
        let text = format!("how large AMV's archive will be is not known; {} MiB are free", free >> 20);
        world.warn(Some(&facts.host), text).await;
        return Ok(());
    };
    if free >= expected.archive_bytes {
        return Ok(());
    }
    let seen = format!(
        "{} MiB free, {} MiB expected (1.3 times the largest of the last five)",
        free >> 20,
        expected.archive_bytes >> 20
    );
    if let Some(reason) = world.choices.waive.get("space") {
        world.warn(Some(&facts.host), format!("no room for AMV's archive: {seen} (waived: {reason})")).await;
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, "there is no room for AMV's archive")
        .on(&facts.host)
        .saw(seen)
        .within("gate space")
        .mend("set pce_amv_backup_dir to a disk with room, or --waive space=REASON"))
}
