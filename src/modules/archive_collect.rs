//! `archive_collect`: brings the archive into the point's folder and proves it.

use serde_json::json;

use super::gravity_backup::{LOG, go_on};
use super::{Done, World};
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::transfer::{self, Pull, Trouble};

/// The archive's name in a point.
pub const FILE: &str = "gravity.tar.gz";

pub(super) async fn run(world: &World) -> Result<Done, Failure> {
    let (job, part) = {
        let work = world.work.lock().await;
        let (Some(job), Some(point)) = (work.job.clone(), work.point.as_ref()) else {
            return Ok(Done::skipped("nothing to collect"));
        };
        // A run that was stopped between the last byte and the seal left the archive under its
        // final name: it goes back to being a part and is proved again.
        if point.finished_archive(FILE).is_some() {
            let (whole, part) = (point.file(FILE), point.file(&format!("{FILE}.part")));
            std::fs::rename(&whole, &part).map_err(|error| {
                Failure::new(Kind::Failed, format!("could not rename {}", whole.display())).saw(error.to_string())
            })?;
        }
        (job, point.open_archive(FILE)?)
    };
    let required = required(world, &job.host);
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
    let pulled = transfer::pull(&way, &control, &pull, |done, total| {
        if !told || done == total || last.elapsed().as_millis() >= 250 {
            (told, last) = (true, std::time::Instant::now());
            world.events.tell(Event::Progress {
                what: "collect".to_owned(),
                host: job.host.clone(),
                done,
                total: Some(total),
                unit: "bytes".to_owned(),
            });
        }
    })
    .await;
    let arrived = match pulled {
        Ok(arrived) => arrived,
        Err(Trouble::NotWhole(fault)) => {
            drop(part);
            let (point, log) = {
                let mut work = world.work.lock().await;
                (work.point.take(), work.log_sha256)
            };
            if let Some(point) = point {
                let _ = std::fs::copy(point.logs_dir().join(LOG), world.run.dir.join(LOG));
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
            return Err(Failure::new(Kind::Failed, "gravity said success, and what it wrote is no whole archive")
                .on(&job.host)
                .saw(fault.to_string())
                .why("gravity exits 0 although files are missing; a restore from this would lose data")
                .mend(format!(
                    "back up again. The file stays on the node to be looked at; remove it then: sudo rm {}",
                    job.meta.archive
                )));
        }
        Err(Trouble::Failure(failure) | Trouble::Differs(failure)) => {
            let mut failure = if failure.host.is_none() { failure.on(&job.host) } else { failure };
            failure.mend = Some(match failure.mend.take() {
                Some(mend) => format!("{mend}; go on with: {}", go_on(world, &job.id)),
                None => format!("the archive is still on the node; go on with: {}", go_on(world, &job.id)),
            });
            return Err(failure);
        }
    };
    if arrived.started_over {
        let text = "what an earlier attempt had left here was not what is on the node: all was fetched anew";
        world.warn(Some(&job.host), text).await;
    }
    // The note of the source stays until the seal: a run that is stopped in between need not fetch anew.
    part.finish().map_err(|failure| {
        failure.mend(format!("the archive is still on the node; go on with: {}", go_on(world, &job.id)))
    })?;
    let members = arrived.walk.as_ref().map_or(0, |walk| walk.members);
    world
        .commit_done(Event::Verified {
            point: job.meta.point.to_string(),
            file: FILE.to_owned(),
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
    world.work.lock().await.arrived = Some(arrived);
    Ok(Done::changed(message, result))
}

/// `pce_required_members`.
pub(super) fn required(world: &World, host: &str) -> Vec<String> {
    match world.vars.get(host).and_then(|vars| vars.get("pce_required_members")) {
        Some(serde_json::Value::Array(names)) => {
            names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
        }
        Some(serde_json::Value::String(name)) => vec![name.clone()],
        _ => Vec::new(),
    }
}
