//! `archive_collect`: brings the archive into the point's folder and proves it.

use serde_json::json;

use super::follow::go_on;
use super::gravity_backup::LOG;
use super::{Done, OurJob, World, straight};
use crate::catalog::ArchivePart;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::transfer::{self, Arrived, Pull, Trouble};

/// The archive's name in a point.
pub const FILE: &str = "gravity.tar.gz";

/// The AMV archive's name in a point.
pub const AMV_FILE: &str = "amv.tar.gz";

/// Which part's archive.
pub(super) async fn run(world: &World, part: &str) -> Result<Done, Failure> {
    if part != "amv" {
        return collect(world, false).await;
    }
    let collected = collect(world, true).await;
    if let Err(failure) = &collected {
        world.work.lock().await.amv.failed = Some(failure.clone());
    }
    collected
}

async fn collect(world: &World, amv: bool) -> Result<Done, Failure> {
    let (file, log_name) = if amv { (AMV_FILE, super::amv_backup::LOG) } else { (FILE, LOG) };
    let to_target = straight::is_wanted(world);
    let (job, part) = {
        let work = world.work.lock().await;
        let job = if amv { work.amv.job.clone() } else { work.job.clone() };
        let (Some(job), Some(point)) = (job, work.point.as_ref()) else {
            return Ok(Done::skipped("nothing to collect"));
        };
        // A run that was stopped between the last byte and the seal left the archive under its
        // final name: it goes back to being a part and is proved again.
        if to_target {
            (job, None)
        } else {
            if point.finished_archive(file).is_some() {
                let (whole, part) = (point.file(file), point.file(&format!("{file}.part")));
                std::fs::rename(&whole, &part).map_err(|error| {
                    Failure::new(Kind::Failed, format!("could not rename {}", whole.display())).saw(error.to_string())
                })?;
            }
            (job, Some(point.open_archive(file)?))
        }
    };
    // What an AMV archive must contain nobody has written down.
    let required = if amv { Vec::new() } else { world.words(&job.host, "pce_required_members") };
    let pulled = match &part {
        Some(part) => bring_here(world, &job, file, part, required).await,
        None => straight::bring(world, &job, file, amv, required).await.map(|landed| landed.arrived),
    };
    let arrived = match pulled {
        Ok(arrived) => arrived,
        Err(Trouble::NotWhole(fault)) => {
            drop(part);
            let (point, log) = {
                let mut work = world.work.lock().await;
                // Where Gravity's archive is good, the point lives on without this part.
                let alone = !amv || work.arrived.is_none();
                let point = if alone { work.point.take() } else { None };
                (point, if amv { work.amv.log_sha256 } else { work.log_sha256 })
            };
            if point.is_none()
                && let Some(point) = &world.work.lock().await.point
            {
                straight::forget(point, file);
                point.discard_archive(file)?;
            }
            if let Some(point) = point {
                let _ = std::fs::copy(point.logs_dir().join(log_name), world.run.dir.join(log_name));
                let _ = point.abandon();
            }
            // The job is told and done with; the file stays, for whoever wants to know what is wrong with it.
            if let Some(log) = log {
                match world.jobs(&job.host).await?.clean(&job.id, log).await {
                    Ok(()) => world.job_is_over(),
                    Err(failure) => world
                        .events
                        .warn(Some(&job.host), format!("the job could not be removed from the node: {failure}")),
                }
            }
            return Err(Failure::new(
                Kind::Failed,
                format!(
                    "{} said success, and what it wrote is no whole archive",
                    if amv { "the AMV script" } else { "gravity" }
                ),
            )
            .on(&job.host)
            .saw(fault.to_string())
            .why("an exit code of 0 is no proof; a restore from this would lose data")
            .mend(format!(
                "back up again. The file stays on the node to be looked at; remove it then: sudo rm {}",
                job.meta.archive
            )));
        }
        Err(Trouble::Failure(failure) | Trouble::Differs(failure)) => {
            let mut failure = if failure.host.is_none() { failure.on(&job.host) } else { failure };
            failure.mend = Some(match failure.mend.take() {
                Some(mend) => format!("{mend}; go on with: {}", go_on(world, "backup", &job.id)),
                None => format!("the archive is still on the node; go on with: {}", go_on(world, "backup", &job.id)),
            });
            return Err(failure);
        }
    };
    if arrived.started_over {
        let text = "what an earlier attempt had left here was not what is on the node: all was fetched anew";
        world.warn(Some(&job.host), text).await;
    }
    // The note of the source stays until the seal: a run that is stopped in between need not fetch anew.
    // Volumes have their names already.
    if let Some(part) = part
        && !world.kept.wraps(arrived.source.bytes)
    {
        part.finish().map_err(|failure| {
            failure.mend(format!("the archive is still on the node; go on with: {}", go_on(world, "backup", &job.id)))
        })?;
    }
    let members = arrived.walk.as_ref().map_or(0, |walk| walk.members);
    world
        .commit_done(Event::Verified {
            point: job.meta.point.to_string(),
            file: file.to_owned(),
            bytes: arrived.source.bytes,
            sha256: arrived.sha256.to_string(),
            members,
        })
        .await;
    let rate = arrived.source.bytes as f64 / arrived.took.as_secs_f64().max(0.001) / f64::from(1 << 20);
    let cuts = if arrived.cuts > 0 { format!(", through {} cuts", arrived.cuts) } else { String::new() };
    let message = format!(
        "{members} members, {:.1} MiB at {rate:.0} MiB/s{cuts}, digests equal",
        arrived.source.bytes as f64 / f64::from(1 << 20)
    );
    let result = json!({"bytes": arrived.source.bytes, "sha256": arrived.sha256, "members": members, "cuts": arrived.cuts, "resumed_at": arrived.resumed_at});
    let mut work = world.work.lock().await;
    if amv {
        work.amv.arrived = Some(arrived);
    } else {
        work.arrived = Some(arrived);
    }
    drop(work);
    Ok(Done::changed(message, result))
}

/// From the node into the point's folder.
async fn bring_here(
    world: &World,
    job: &OurJob,
    file: &str,
    part: &ArchivePart,
    required: Vec<String>,
) -> Result<Arrived, Trouble> {
    let pull = Pull {
        host: job.host.clone(),
        source: job.meta.archive.clone(),
        destination: part.path.clone(),
        required,
        walk: true,
        patience: world.choices.patience,
    };
    let way = world.way(&job.host)?.clone();
    let control = world.session(&job.host).await?;
    let mut last = std::time::Instant::now();
    let mut told = false;
    transfer::pull_kept(&way, &control, &pull, Some(&world.kept), |done, total| {
        if !told || done == total || last.elapsed().as_millis() >= 250 {
            (told, last) = (true, std::time::Instant::now());
            world.events.tell(Event::Progress {
                what: format!("collect {file}"),
                host: job.host.clone(),
                done,
                total: Some(total),
                unit: "bytes".to_owned(),
            });
        }
    })
    .await
}
