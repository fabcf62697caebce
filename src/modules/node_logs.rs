//! `node_logs`: brings home what Gravity wrote to the journal, and its status afterwards. What
//! cannot be had is a warning: logs never fail a backup.

use serde_json::json;

use super::{Done, World};
use crate::event::{Event, Stream};
use crate::failure::Failure;
use crate::gravity;

pub(super) async fn run(world: &World) -> Result<Done, Failure> {
    let (job, again) = {
        let mut work = world.work.lock().await;
        (work.job.clone(), std::mem::replace(&mut work.logs_home, true))
    };
    let Some(job) = job else { return Ok(Done::skipped("no job, no logs")) };
    if again {
        return Ok(Done::ok("already home", json!({})));
    }
    let options = world.probe_options(&job.host);
    let since = job.meta.since.as_second() - 60;
    let gathered = async {
        let session = world.session(&job.host).await?;
        let journal = gravity::gather_logs(&session, &options, since).await?;
        let facts = gravity::probe(&session, &options).await?;
        Ok::<_, Failure>((journal, facts))
    };
    let (journal, facts) = match gathered.await {
        Ok(gathered) => gathered,
        Err(failure) => {
            world.warn(Some(&job.host), format!("logs and status could not be brought home: {failure}")).await;
            return Ok(Done::ok("could not be had", json!({})));
        }
    };
    for line in journal.lines() {
        world.events.line(&job.host, Stream::Out, line.as_bytes());
    }
    let after = facts
        .gravity
        .as_ref()
        .and_then(|gravity| gravity.status.as_ref())
        .map_or(serde_json::Value::Null, |status| status.raw.clone());
    let mut work = world.work.lock().await;
    work.status_after = after.clone();
    let (mut written, mut lost) = (0, Vec::new());
    if let Some(point) = &work.point {
        // Files of a point pass the same cleaning as what people see.
        let masked = |text: &str| world.events.masker().mask(text).into_owned();
        let pretty = |value: &serde_json::Value| serde_json::to_string_pretty(value).unwrap_or_default();
        for (name, text) in [
            ("logs/gravity-cli.journal", masked(&journal)),
            ("logs/status-before.json", masked(&pretty(&job.meta.status_before))),
            ("logs/status-after.json", masked(&pretty(&after))),
        ] {
            match point.write_file(name, text.as_bytes()) {
                Ok(()) => written += 1,
                Err(failure) => lost.push(failure),
            }
        }
    }
    drop(work);
    for failure in lost {
        world.warn(None, format!("a log could not be kept with the point: {failure}")).await;
    }
    world.events.tell(Event::Note {
        host: Some(job.host.clone()),
        text: format!("{} journal lines brought home", journal.lines().count()),
    });
    Ok(Done::ok(format!("{written} files"), json!({"files": written})))
}
