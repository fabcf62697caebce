//! `gravity_restore`: asks every gate anew, then runs `gravity restore` once, as a job that outlives us;
//! or takes over the one that is on a node already, and follows it to its end.
//!
//! It destroys what the target has. So: nothing in a playbook makes it go past a gate, it is never
//! repeated by itself, and an end that was not seen is *unknown*.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::follow::{self, Running, follow, run_log};
use super::restoring::{
    FoundRestore, GRAVITY_RESTORE, OnNode, RestoreMeta, done_before, evaluate, find_point, need_lock, tell,
};
use super::{Done, World};
use crate::catalog::ArchiveKind;
use crate::failure::{Failure, Kind};
use crate::gravity::{self, RestoreJob, RestoreOutcome, SafetyBackup};
use crate::job::{Input, Lost, Spec, State};
use crate::name::JobId;

/// The name of the restore's log in the run's folder.
pub const LOG: &str = "gravity-restore.log";

pub(super) async fn run(world: &World, hosts: &[String], args: &Map<String, Value>) -> Result<Done, Failure> {
    if !world.choices.wants("gravity") {
        return Ok(Done::skipped("not among --only"));
    }
    if world.choices.check {
        return Ok(Done::skipped("--check restores nothing"));
    }
    need_lock(world).await?;
    let (found, point) = {
        let work = world.work.lock().await;
        (work.restoring.found.clone(), work.restoring.point.clone())
    };
    // Its job was cleaned up: nothing on a node tells of it any more, only the journal does.
    if let (None, Some(point)) = (&found, &point)
        && let Some(before) = done_before(world, "gravity_restore", point)
    {
        let seconds = before.result.get("seconds").and_then(Value::as_f64).unwrap_or_default();
        world.work.lock().await.restoring.restored_seconds = Some(seconds);
        return Ok(Done::ok(format!("run {} did it; never twice", before.run), before.result.clone()));
    }
    let (job, meta) = match found {
        Some(found) => take_over(world, found),
        None => start(world, hosts, args).await?,
    };
    {
        let mut work = world.work.lock().await;
        work.commands.push(format!(
            "{}: {} restore --follow --timeout={} {}",
            job.host,
            world.probe_options(&job.host).gravity,
            gravity::go_duration(Duration::from_secs(meta.timeout_seconds)),
            meta.archive
        ));
        let ours = (job.host.clone(), meta.archive.clone());
        if !work.restoring.leftovers.contains(&ours) {
            work.restoring.leftovers.push(ours);
        }
    }
    let path = run_log(world, LOG);
    let (state, log) = follow(world, &job, &path, None).await?;
    judge(world, &job, &meta, state, log).await
}

fn running(world: &World, id: JobId, host: &str) -> Running {
    let go_on = follow::go_on(world, "restore", &id);
    Running { id, host: host.to_owned(), what: "restore", go_on }
}

fn take_over(world: &World, found: FoundRestore) -> (Running, RestoreMeta) {
    let job = running(world, found.job.id.clone(), &found.host);
    world.events.note(
        Some(&found.host),
        format!(
            "taking over job {} of {} (since {}, run {})",
            job.id, found.meta.who, found.meta.since, found.meta.run
        ),
    );
    world.job_may_run(&job);
    (job, found.meta)
}

/// Every gate once more, on a fresh look, right before the start.
async fn permitted(world: &World, hosts: &[String]) -> Result<OnNode, Failure> {
    let (point, delivered, confirmed) = {
        let work = world.work.lock().await;
        (work.restoring.point.clone(), work.restoring.delivered.clone(), work.restoring.confirm.clone())
    };
    let (Some(point), Some(delivered)) = (point, delivered) else {
        return Err(Failure::new(
            Kind::Refused,
            "gravity_restore needs restore_gates and archive_deliver before it in the playbook",
        )
        .why("the gates are asked before anything is sent, and the archive is hashed on the node before it is used")
        .mend("ferry playbooks export restore shows the order"));
    };
    if find_point(world)?.id() != point.id() {
        return Err(Failure::new(Kind::Refused, "the point is not the one that the gates were asked for")
            .within("gate identity"));
    }
    let archive = point.manifest.archive(ArchiveKind::Gravity);
    if archive.is_none_or(|archive| archive.sha256 != delivered.sha256) {
        return Err(Failure::new(Kind::Refused, "what was delivered is not the point's archive").within("gate digest"));
    }
    tracing::info!(confirmed = ?confirmed, "asking the gates for the last time");
    let gates = evaluate(world, hosts, true).await?;
    if let Err(failure) = gates.permit() {
        tell(world, &gates, false);
        return Err(failure);
    }
    if gates.node.as_deref() != Some(delivered.host.as_str()) {
        let still = world.work.lock().await.facts.iter().any(|facts| facts.host == delivered.host);
        if !still {
            return Err(Failure::new(Kind::Refused, "the node that has the archive is not reached any more")
                .on(delivered.host)
                .within("gate health")
                .mend("start again: another node is picked"));
        }
    }
    Ok(delivered)
}

async fn start(world: &World, hosts: &[String], args: &Map<String, Value>) -> Result<(Running, RestoreMeta), Failure> {
    let cluster = world.cluster()?.clone();
    let delivered = permitted(world, hosts).await?;
    let host = delivered.host.clone();
    let asked = args
        .get("timeout")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .or_else(|| world.var(&host, "pce_restore_timeout"));
    let set = asked
        .map(|text| {
            gravity::parse_duration(&text)
                .map_err(|what| Failure::new(Kind::CouldNotStart, format!("timeout {text:?}: {what}")))
        })
        .transpose()?;
    let (timeout, why) = gravity::restore_timeout(delivered.bytes, last_minutes(world), set);
    world.events.note(Some(&host), format!("gravity restore, timeout {why}, from {}", delivered.path));
    let options = world.probe_options(&host);
    let marker = RestoreJob::marker();
    let script = gravity::restore_script(&RestoreJob {
        gravity: options.gravity,
        kubectl: options.kubectl,
        archive: delivered.path.clone(),
        sha256: delivered.sha256,
        bytes: delivered.bytes,
        timeout,
        marker: marker.clone(),
    })
    .map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()))?;
    let (meta, point) = {
        let work = world.work.lock().await;
        let Some(point) = &work.restoring.point else {
            return Err(Failure::new(Kind::Bug, "a restore without a point"));
        };
        let safety = match &work.restoring.safety {
            SafetyBackup::Taken(point) => Some(point.clone()),
            _ => None,
        };
        let meta = RestoreMeta {
            point: point.id().clone(),
            source: point.cluster.clone(),
            run: world.run.id.clone(),
            who: world.run.who.clone(),
            since: jiff::Timestamp::now(),
            archive: delivered.path.clone(),
            sha256: delivered.sha256,
            timeout_seconds: timeout.as_secs(),
            marker,
            waived: world.choices.waive.clone(),
            only: world.choices.only.clone(),
            target: work.restoring.gates.as_ref().and_then(|gates| gates.identity.clone()),
            safety,
            tool: None,
            amv_host: work.restoring.delivered_amv.as_ref().map(|sent| sent.host.clone()),
            amv_archive: work.restoring.delivered_amv.as_ref().map(|sent| sent.path.clone()),
        };
        (meta, point.id().to_string())
    };
    let job = running(world, JobId::random(), &host);
    let spec = Spec {
        id: job.id.clone(),
        cluster,
        script,
        input: Input::Nothing,
        kind: GRAVITY_RESTORE.to_owned(),
        meta: serde_json::to_value(&meta).map_err(|error| Failure::new(Kind::Bug, error.to_string()))?,
        // Hook pods read what gravity unpacks; they need not run as root.
        umask: 0o022,
        restore_like: true,
    };
    follow::start(world, &job, &spec, &point).await?;
    Ok((job, meta))
}

/// How long the last restore into this cluster took, in minutes, by the notes of all points.
fn last_minutes(world: &World) -> Option<f64> {
    use crate::catalog::{Entry, Remark};
    let into = world.cluster.as_ref()?;
    let entries = world.catalog.as_ref()?.list(None).ok()?;
    let notes = entries.iter().filter_map(|entry| match entry {
        Entry::Sealed(point) => Some(&point.notes.known),
        _ => None,
    });
    let restores = notes.flatten().filter_map(|note| match &note.remark {
        Remark::Restored { into: there, seconds, .. } if there == into && *seconds > 0.0 => {
            Some((note.at, seconds / 60.0))
        }
        _ => None,
    });
    restores.max_by_key(|(at, _)| *at).map(|(_, minutes)| minutes)
}

/// What the end of the job means.
async fn judge(
    world: &World,
    job: &Running,
    meta: &RestoreMeta,
    state: State,
    log: follow::LogFile,
) -> Result<Done, Failure> {
    let digest = log.hasher.clone().finish();
    let rc = match state {
        State::Done { rc } => rc,
        State::Lost(how) => {
            return Err(lost(world, job, meta, how).await);
        }
        other => return Err(Failure::new(Kind::Bug, format!("a job that is {other} was judged"))),
    };
    let outcome = RestoreOutcome::of(rc, &log.tail, &meta.marker);
    match &outcome {
        RestoreOutcome::Restored => {
            let seconds = world
                .jobs(&job.host)
                .await?
                .list()
                .await
                .unwrap_or_default()
                .into_iter()
                .find(|listed| listed.id == job.id)
                .and_then(|listed| listed.started)
                .map(|started| jiff::Timestamp::now().as_second() as f64 - started as f64);
            let mut work = world.work.lock().await;
            let seconds = seconds.unwrap_or_default().max(0.0);
            work.restoring.restored_seconds = Some(seconds);
            work.restoring.jobs.push((job.host.clone(), job.id.clone(), digest));
            drop(work);
            world.job_is_over();
            Ok(Done::changed(
                format!("{} on {}", meta.point, job.host),
                json!({"node": job.host, "job": job.id, "point": meta.point, "rc": rc, "seconds": seconds,
                       "safety": meta.safety, "amv": meta.amv_archive.is_some()}),
            ))
        }
        other => {
            let failure = other
                .failure(&log.tail)
                .unwrap_or_else(|| Failure::new(Kind::Failed, "gravity restore failed"))
                .on(&job.host);
            if other.hook_may_run() {
                return Err(with_evidence(world, job, meta, failure).await);
            }
            // Told and judged: what is left of the job says no more. The archive stays for another attempt.
            if let Err(error) = world.jobs(&job.host).await?.clean(&job.id, digest).await {
                world.events.warn(Some(&job.host), format!("the job could not be removed from the node: {error}"));
            }
            world.job_is_over();
            world
                .events
                .note(Some(&job.host), format!("the archive stays there for another attempt: {}", meta.archive));
            Err(failure)
        }
    }
}

async fn lost(world: &World, job: &Running, meta: &RestoreMeta, how: Lost) -> Failure {
    let failure = Failure::new(Kind::Unknown, "how the restore ended is not known")
        .on(&job.host)
        .saw(match how {
            Lost::Reboot => "the node has restarted since the job began",
            Lost::Died => "the job and its supervisor are gone and left no result",
        })
        .why("Gravity's hook may still run in the cluster; a restore is never repeated by itself");
    with_evidence(world, job, meta, failure).await
}

/// Adds what can be seen of a restore whose end is not known, and the commands to look further.
async fn with_evidence(world: &World, job: &Running, meta: &RestoreMeta, mut failure: Failure) -> Failure {
    let seen = async {
        let session = world.session(&job.host).await?;
        gravity::reconcile(&session, &world.probe_options(&job.host), meta.since.as_second() - 60).await
    };
    let mut checks = vec![
        "sudo kubectl -n kube-system get jobs".to_owned(),
        "sudo journalctl -t gravity-cli --no-pager".to_owned(),
        "sudo gravity status".to_owned(),
    ];
    match seen.await {
        Ok(evidence) => {
            for sentence in &evidence.sentences {
                world.events.note(Some(&job.host), sentence.clone());
            }
            checks = evidence.checks;
        }
        Err(error) => world.events.note(Some(&job.host), format!("nothing more could be seen: {error}")),
    }
    failure.kind = Kind::Unknown;
    failure.mend = Some(format!(
        "look: {}. When you know how it ended: ferry jobs clean {}; then restore again if it is needed. To watch it: ferry jobs attach {}",
        checks.join("; "),
        job.id,
        job.id
    ));
    failure
}
