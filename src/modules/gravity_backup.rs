//! `gravity_backup`: runs `gravity backup` as a job that outlives us, or takes over the one that is
//! on a node already, and follows it to its end.
//!
//! The order is the proof: the job's id is chosen here and in the journal, on disk, before anything
//! is sent; starting is idempotent by that id; an answer that was lost is asked for again. A lost
//! connection says nothing about the job.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::Done;
use super::follow::{self, LogFile, Running, TAIL, ask_root, follow, go_on, unknown};
use super::world::{JobMeta, OurJob, World};
use crate::catalog::backup_timeout;
use crate::digest::Sha256;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::gravity::{self, ArchiveStat, BackupJob};
use crate::job::{Listed, Lost, Spec, State};
use crate::name::{JobId, PointId};
use crate::remote::quote;

/// What these jobs are called on the nodes.
pub const KIND: &str = "gravity-backup";

/// The name of the hook's log among a point's logs.
pub const LOG: &str = "gravity-backup.log";

/// A job of this kind that was found on a node, as ours. `None` when what lies beside it cannot be read.
pub fn as_ours(host: &str, job: &Listed) -> Option<OurJob> {
    let meta: JobMeta = serde_json::from_value(job.meta.clone()).ok()?;
    Some(OurJob { id: job.id.clone(), host: host.to_owned(), meta })
}

/// The job as something that runs.
pub(super) fn running(world: &World, job: &OurJob) -> Running {
    Running { id: job.id.clone(), host: job.host.clone(), what: "backup", go_on: go_on(world, "backup", &job.id) }
}

pub(super) async fn run(world: &World, args: &Map<String, Value>) -> Result<Done, Failure> {
    if !world.choices.wants("gravity") {
        return Ok(Done::skipped("not among --only"));
    }
    let found: Vec<(String, Listed)> = world
        .work
        .lock()
        .await
        .found
        .iter()
        .filter(|(_, job)| job.kind == KIND || job.kind.is_empty())
        .cloned()
        .collect();
    sweep(world, &found).await?;
    let mut taken_over = None;
    for (host, listed) in found {
        if matches!(listed.state, State::NotStarted | State::Absent) {
            // Written down and never run: claimed, so that it never will, and removed.
            let jobs = world.jobs(&host).await?;
            jobs.cancel(&listed.id, Duration::from_secs(5)).await?;
            jobs.clean(&listed.id, Sha256::of(b"")).await?;
            world.events.note(Some(&host), format!("job {} was written down and never began: removed", listed.id));
            continue;
        }
        let Some(job) = as_ours(&host, &listed) else {
            let text = format!(
                "a job of ferry is there whose notes cannot be read ({}, {}): it is left alone; when it is of no use: ferry jobs clean {}",
                listed.id, listed.state, listed.id
            );
            world.warn(Some(&host), text).await;
            continue;
        };
        if taken_over.is_none() {
            taken_over = Some(job);
        } else {
            world
                .warn(
                    Some(&host),
                    format!(
                        "another backup job of ferry is there ({}, {}): the next run takes it",
                        listed.id, listed.state
                    ),
                )
                .await;
        }
    }
    let job = match taken_over {
        Some(job) => {
            world.events.note(
                Some(&job.host),
                format!(
                    "taking over job {} of {} (since {}, run {})",
                    job.id, job.meta.who, job.meta.since, job.meta.run
                ),
            );
            world.job_may_run(&running(world, &job));
            open_point(world, &job.meta.point).await?;
            job
        }
        // The run that a migration carries on has made it.
        None if world.work.lock().await.sealed.is_some() => {
            return Ok(Done::ok("its point is sealed already", json!({"sealed": true})));
        }
        None => start(world, args).await?,
    };
    {
        let mut work = world.work.lock().await;
        work.job = Some(job.clone());
        work.commands.push(format!(
            "{}: {} backup --follow --timeout={} {}",
            job.host,
            world.probe_options(&job.host).gravity,
            gravity::go_duration(Duration::from_secs(job.meta.timeout_seconds)),
            job.meta.archive
        ));
    }
    if already_sealed(world, &job.meta.point).await?.is_some() {
        return Ok(Done::ok(
            "its point is sealed already: only the node is left to be tidied",
            json!({"sealed": true}),
        ));
    }
    let path = log_path(world).await;
    let (state, log) = follow(world, &running(world, &job), &path, None).await?;
    judge(world, &job, state, &log).await
}

/// A ferry that was killed before its job began leaves an empty folder in the catalog, which no later
/// run would ever fill: removed here, where the lock says that nobody works on the cluster.
async fn sweep(world: &World, found: &[(String, Listed)]) -> Result<(), Failure> {
    let (catalog, cluster) = (world.catalog()?.clone(), world.cluster()?.clone());
    let machine = world.run.who.machine.clone();
    let keep: Vec<PointId> = found
        .iter()
        .filter(|(_, job)| !matches!(job.state, State::NotStarted | State::Absent))
        .filter_map(|(host, job)| Some(as_ours(host, job)?.meta.point))
        .collect();
    let removed = tokio::task::spawn_blocking(move || catalog.sweep(&cluster, &machine, &keep))
        .await
        .map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    for point in removed {
        world.events.note(
            None,
            format!("an earlier run was stopped before anything of {point} arrived: its empty folder was removed"),
        );
    }
    Ok(())
}

/// The point of an earlier run, when it was sealed before the run was stopped.
pub(super) async fn already_sealed(world: &World, id: &PointId) -> Result<Option<crate::catalog::Point>, Failure> {
    let (catalog, cluster) = (world.catalog()?.clone(), world.cluster()?.clone());
    let id = id.clone();
    let entries = tokio::task::spawn_blocking(move || catalog.list(Some(&cluster)))
        .await
        .map_err(|error| Failure::new(Kind::Bug, error.to_string()))??;
    Ok(entries.into_iter().find_map(|entry| match entry {
        crate::catalog::Entry::Sealed(point) if *point.id() == id => Some(*point),
        _ => None,
    }))
}

/// Opens the point's folder, the one that an earlier run left or a new one. A sealed point needs none.
pub(super) async fn open_point(world: &World, id: &PointId) -> Result<(), Failure> {
    if already_sealed(world, id).await?.is_some() {
        return Ok(());
    }
    let cluster = world.cluster()?;
    let go_on = format!("ferry backup {cluster}{}", world.run.flags);
    let point = world.catalog()?.begin(cluster, id, &world.run.id, &world.run.who.machine, &go_on)?;
    world.work.lock().await.point = Some(point);
    Ok(())
}

/// Chooses id, name and timeout, writes them down, starts the job.
async fn start(world: &World, args: &Map<String, Value>) -> Result<OurJob, Failure> {
    let cluster = world.cluster()?.clone();
    let (host, work_dir, identity, status_before, warnings, history) = {
        let work = world.work.lock().await;
        let preflight = work.preflight.as_ref().ok_or_else(|| {
            Failure::new(Kind::CouldNotStart, "gravity_backup needs gravity_preflight before it in the playbook")
        })?;
        let (Some(host), Some(work_dir)) = (preflight.node.clone(), preflight.work_dir.clone()) else {
            return Err(Failure::new(Kind::Refused, "the preflight picked no node"));
        };
        (
            host,
            work_dir,
            preflight.cluster.clone(),
            preflight.status.clone(),
            work.warnings.clone(),
            work.history.clone(),
        )
    };
    let asked = args
        .get("timeout")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .or_else(|| world.var(&host, "pce_backup_timeout"));
    let (timeout, why) = match asked {
        Some(text) => (
            gravity::parse_duration(&text)
                .map_err(|what| Failure::new(Kind::CouldNotStart, format!("timeout {text:?}: {what}")))?,
            format!("{text}, as set"),
        ),
        None => backup_timeout(&history),
    };
    let point = PointId::at(jiff::Timestamp::now());
    let archive = format!("{work_dir}/{point}/gravity-{point}.tar.gz");
    let options = world.probe_options(&host);
    let script = gravity::backup_script(&BackupJob {
        gravity: options.gravity,
        kubectl: options.kubectl,
        work_dir: format!("{work_dir}/{point}"),
        file: archive.clone(),
        timeout,
    })
    .map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()))?;
    world
        .events
        .note(Some(&host), format!("gravity backup, timeout {why} (the vendor's default is 20m), to {archive}"));
    let meta = JobMeta {
        point: point.clone(),
        run: world.run.id.clone(),
        who: world.run.who.clone(),
        since: jiff::Timestamp::now(),
        archive,
        label: world.choices.label.clone(),
        timeout_seconds: timeout.as_secs(),
        only: world.choices.only.clone(),
        cluster: identity,
        status_before,
        warnings,
        waived: world.choices.waive.clone(),
        extra: Map::new(),
    };
    let job = OurJob { id: JobId::random(), host, meta };
    let spec = Spec {
        id: job.id.clone(),
        kind: KIND.to_owned(),
        cluster,
        script,
        meta: serde_json::to_value(&job.meta).map_err(|error| Failure::new(Kind::Bug, error.to_string()))?,
        umask: 0o077,
        restore_like: false,
        input: crate::job::Input::Nothing,
    };
    // The catalog's folder first: if it cannot be made, nothing is started.
    open_point(world, &point).await?;
    if let Err(failure) = follow::start(world, &running(world, &job), &spec, point.as_str()).await {
        if world.running_job().is_none()
            && let Some(point) = world.work.lock().await.point.take()
        {
            let _ = point.abandon();
        }
        return Err(failure);
    }
    Ok(job)
}

/// Where the job's output is kept: with the point, where there is a folder for it.
async fn log_path(world: &World) -> PathBuf {
    match &world.work.lock().await.point {
        Some(point) => point.logs_dir().join(LOG),
        None => world.run.dir.join(LOG),
    }
}

/// What the end of the job means.
async fn judge(world: &World, job: &OurJob, state: State, log: &LogFile) -> Result<Done, Failure> {
    let digest = log.hasher.clone().finish();
    world.work.lock().await.log_sha256 = Some(digest);
    let rc = match state {
        State::Done { rc } => rc,
        State::Lost(how) => {
            return Err(Failure::new(Kind::Unknown, "how the backup ended is not known")
                .on(&job.host)
                .saw(match how {
                    Lost::Reboot => "the node has restarted since the job began",
                    Lost::Died => "the job and its supervisor are gone and left no result",
                })
                .why("Gravity's hook may still run in the cluster, and what is left of the archive proves nothing")
                .mend(format!(
                    "look: kubectl -n kube-system get jobs; journalctl -t gravity-cli --no-pager; gravity status. Then: ferry jobs clean {}, and back up again",
                    job.id
                )));
        }
        other => return Err(Failure::new(Kind::Bug, format!("a job that is {other} was judged"))),
    };
    let (stat, started, ended) = look_at_archive(world, job).await?;
    if let (Some(started), Some(ended)) = (started, ended) {
        world.work.lock().await.backup_seconds = Some((ended - started).max(0) as f64);
    }
    let tail = log.tail.get(log.tail.len().saturating_sub(TAIL)..).unwrap_or_default();
    match gravity::outcome(rc, tail, stat.as_ref(), started.unwrap_or(0)) {
        Ok(()) => {
            let bytes = stat.map_or(0, |stat| stat.bytes);
            Ok(Done::changed(
                format!("{} on {}, {:.1} MiB", job.meta.archive, job.host, bytes as f64 / f64::from(1 << 20)),
                json!({"node": job.host, "job": job.id, "archive": job.meta.archive, "bytes": bytes, "rc": rc}),
            ))
        }
        Err(failure) => {
            let failure = if failure.host.is_none() { failure.on(&job.host) } else { failure };
            discard_failed(world, job, digest).await;
            Err(failure)
        }
    }
}

/// Size, times and kind of the file that gravity wrote, and when its job began and ended by the node's clock.
pub(super) async fn look_at_archive(
    world: &World,
    job: &OurJob,
) -> Result<(Option<ArchiveStat>, Option<i64>, Option<i64>), Failure> {
    let began = Instant::now();
    let file = quote(&job.meta.archive).map_err(|nul| Failure::new(Kind::Bug, nul.to_string()))?;
    let base = world.var(&job.host, "ferry_node_dir").unwrap_or_else(|| "/var/lib/ferry".to_owned());
    let ended = quote(&format!("{base}/jobs/{}/rc", job.id)).map_err(|nul| Failure::new(Kind::Bug, nul.to_string()))?;
    let mark = format!("@@{:032x}", rand::random::<u128>());
    let script = format!(
        "f={file}; r={ended}\n\
         if [ -L \"$f\" ]; then printf '%s link\\n' {mark}; elif [ -e \"$f\" ]; then printf '%s file %s\\n' {mark} \"$(stat -c '%s %Y %i %a %F' \"$f\")\"; else printf '%s none\\n' {mark}; fi\n\
         printf '%s rc %s\\n' {mark} \"$(stat -c %Y \"$r\" 2>/dev/null)\""
    );
    let mut odd = 0;
    loop {
        let asked = async {
            let said = world.session(&job.host).await?.run_root(&script, Duration::from_secs(60)).await?;
            if let crate::remote::Exit::Lost(why) = &said.exit {
                return Err(Failure::new(Kind::Unreachable, "the connection was lost").saw(why.clone()).again());
            }
            let jobs = world.jobs(&job.host).await?.list().await?;
            let listed = jobs.into_iter().find(|listed| listed.id == job.id);
            match (seen_of_archive(&said.text(), &mark), listed) {
                (Some((stat, ended)), Some(listed)) => {
                    let started = listed.started.and_then(|at| i64::try_from(at).ok());
                    Ok((stat, started, ended))
                }
                // Not the same as "there is no file", which would end with its removal.
                _ => Err(Failure::new(Kind::Unknown, "the node's answer about the archive cannot be understood")
                    .saw(format!("{}; {} {}", said.exit, said.text(), said.err_text()))),
            }
        };
        match asked.await {
            Err(failure) if failure.again && began.elapsed() < world.choices.patience => {
                world.forget(&job.host).await;
            }
            Err(failure) if failure.kind == Kind::Unknown && odd < 3 => odd += 1,
            Err(failure) => return Err(unknown(&running(world, job), "the archive could not be looked at", &failure)),
            Ok(seen) => return Ok(seen),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// What the lines behind `mark` say: the file, `None` where there is none, and when the job ended by the
/// node's clock, `None` where that is not known. `None` in all when a line is missing or has not
/// the form that it must have.
fn seen_of_archive(text: &str, mark: &str) -> Option<(Option<ArchiveStat>, Option<i64>)> {
    let (mut file, mut ended) = (None, None);
    for line in text.lines().filter_map(|line| line.strip_prefix(mark)) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["none"] => file = Some(None),
            ["link"] => file = Some(Some(ArchiveStat { bytes: 0, mtime: 0, inode: 0, regular: false, mode: 0 })),
            ["file", bytes, mtime, inode, mode, kind @ ..] if !kind.is_empty() => {
                file = Some(Some(ArchiveStat {
                    bytes: bytes.parse().ok()?,
                    mtime: mtime.parse().ok()?,
                    inode: inode.parse().ok()?,
                    regular: kind.first() == Some(&"regular"),
                    mode: u32::from_str_radix(mode, 8).ok()?,
                }));
            }
            ["rc"] => ended = Some(None),
            ["rc", at] => ended = Some(Some(at.parse().ok()?)),
            _ => return None,
        }
    }
    Some((file?, ended?))
}

/// A failed backup is told, its log is kept here, and nothing of ours stays on the node: what is
/// left of the archive is no archive.
async fn discard_failed(world: &World, job: &OurJob, log: Sha256) {
    let kept = {
        let mut work = world.work.lock().await;
        let point = work.point.take();
        point.map(|point| {
            let from = point.logs_dir().join(LOG);
            let to = world.run.dir.join(LOG);
            let copied = std::fs::copy(&from, &to).map(|_| to);
            (copied, point.abandon())
        })
    };
    match kept {
        Some((Ok(to), _)) => world.events.note(None, format!("the hook's log is kept in {}", to.display())),
        Some((Err(error), _)) => world.events.warn(None, format!("the hook's log could not be kept: {error}")),
        None => {}
    }
    match remove_from_node(world, job, log).await {
        Ok(()) => world.job_is_over(),
        Err(failure) => {
            world.events.warn(Some(&job.host), format!("our files could not be removed from the node: {failure}"))
        }
    }
}

/// Removes our archive, by its exact name, and our job from the node.
///
/// # Errors
/// [`Kind::Unreachable`] or what the node said.
pub async fn remove_from_node(world: &World, job: &OurJob, log: Sha256) -> Result<(), Failure> {
    // Removing what is gone is no error, so it can be asked for again after a lost connection.
    let (began, limit) = (Instant::now(), world.choices.patience.min(Duration::from_secs(180)));
    loop {
        match remove_once(world, job, log).await {
            Err(failure) if (failure.again || failure.kind == Kind::Unknown) && began.elapsed() < limit => {
                world.forget(&job.host).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            other => return other,
        }
    }
}

async fn remove_once(world: &World, job: &OurJob, log: Sha256) -> Result<(), Failure> {
    let file = quote(&job.meta.archive).map_err(|nul| Failure::new(Kind::Bug, nul.to_string()))?;
    let point = &job.meta.point;
    let ours = [format!("/{point}/gravity-{point}.tar.gz"), format!("/ferry-{point}.tar.gz")];
    if !ours.iter().any(|form| job.meta.archive.ends_with(form)) || job.meta.archive.contains("/../") {
        return Err(Failure::new(
            Kind::Refused,
            "what the job says is its archive has not the form of ours: it is not removed",
        )
        .saw(job.meta.archive.clone()));
    }
    let script =
        format!("f={file}; rm -f -- \"$f\" && {{ rmdir -- \"${{f%/*}}\" 2>/dev/null || :; }}; [ ! -e \"$f\" ]");
    // A link that ended in the middle says nothing: it is asked again.
    let said = ask_root(world, &job.host, &script, Duration::from_secs(120)).await?;
    if !said.exit.ok() {
        return Err(Failure::new(Kind::Failed, "the archive could not be removed from the node")
            .on(&job.host)
            .saw(said.err_text()));
    }
    world.jobs(&job.host).await?.clean(&job.id, log).await?;
    world.events.tell(Event::JobCleaned { job: job.id.to_string(), host: job.host.clone() });
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_says_that_there_is_no_file() {
        let seen = |text: &str| seen_of_archive(text, "@@");
        assert_eq!(seen("@@ none\n@@ rc 17"), Some((None, Some(17))));
        assert_eq!(seen("@@ none\n@@ rc"), Some((None, None)));
        let (file, ended) = seen("motd\n@@ file 5 6 7 600 regular empty file\n@@ rc 9\nbye").unwrap();
        let file = file.unwrap();
        assert_eq!((file.bytes, file.mtime, file.mode, file.regular, ended), (5, 6, 0o600, true, Some(9)));
        assert!(!seen("@@ file 5 6 7 755 directory\n@@ rc 9").unwrap().0.unwrap().regular);
        assert!(!seen("@@ link\n@@ rc 9").unwrap().0.unwrap().regular);
        // Cut, stat without a word, numbers that are none, another mark.
        for broken in [
            "",
            "@@ none",
            "@@ rc 17",
            "@@ file \n@@ rc 17",
            "@@ file 5 6 7 600\n@@ rc 17",
            "@@ file x 6 7 600 regular file\n@@ rc 17",
            "@@ no",
            "@x none\n@x rc 17",
            "sh: stat: not found\n@@ file\n@@ rc",
        ] {
            assert_eq!(seen(broken), None, "{broken:?}");
        }
    }
}
