//! `point_replicate`, `point_retention`: after the seal. The point goes to the other places of the catalog, where
//! it is proved; then what no rule keeps goes to the trash. Neither can harm what was sealed.

use serde_json::json;

use super::{Done, World};
use crate::catalog::retention::{self, Rules};
use crate::catalog::{overview, shelf};
use crate::event::Event;
use crate::failure::{Failure, Kind};

/// What became of the copy in one other place.
#[derive(Debug, Clone)]
pub struct Replica {
    /// The place.
    pub place: String,
    /// How it was proved there, or why it is not there.
    pub outcome: Result<String, Failure>,
}

/// Copies the sealed point to every other place. What fails is told at the end: one place that is away keeps the point
/// from no other.
pub(super) async fn replicate(world: &World) -> Result<Done, Failure> {
    let Some(mut point) = world.work.lock().await.sealed.clone() else {
        return Ok(Done::skipped("nothing was sealed"));
    };
    if world.others.is_empty() {
        return Ok(Done::skipped("the catalog has one place"));
    }
    let migrate = world.choices.restore.migrate.as_ref();
    if migrate.is_some_and(|migrate| migrate.spool.is_some()) {
        return Ok(Done::skipped("the point is not kept"));
    }
    let from = shelf::folder_place(world.catalog()?.clone());
    let mut all = Vec::new();
    for (place, other) in &world.others {
        let place = place.clone();
        let events = world.events.clone();
        let told = std::sync::Mutex::new(std::time::Instant::now());
        let copied = async {
            let other = other.as_ref().map_err(Clone::clone)?;
            other.probe().await?;
            shelf::copy(&from, &mut point, other, &world.run.who, false, &|done, total| {
                let mut last = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if done == total || last.elapsed().as_millis() >= 250 {
                    *last = std::time::Instant::now();
                    events.tell(Event::Progress {
                        what: format!("copy to {}", other.name()),
                        host: String::new(),
                        done,
                        total: Some(total),
                        unit: "bytes".to_owned(),
                    });
                }
            })
            .await
        }
        .await;
        let outcome = copied.map(|copied| copied.how);
        if let Err(failure) = &outcome {
            world.warn(None, format!("the point is not in {place}: {failure}")).await;
        }
        all.push(Replica { place, outcome });
    }
    let good: Vec<&str> = all.iter().filter(|copy| copy.outcome.is_ok()).map(|copy| copy.place.as_str()).collect();
    let message = format!("{} of {} other places: {}", good.len(), all.len(), good.join(", "));
    let result = json!({"places": good});
    let done = if good.is_empty() { Done::ok(message, result) } else { Done::changed(message, result) };
    let name = format!("{}/{}", point.cluster, point.id());
    let mut work = world.work.lock().await;
    work.sealed = Some(point);
    work.replicas = all;
    // A backup's summary says it. A migration's was said before the restore, which waits for no copy.
    match not_replicated(&work.replicas, &name, &world.run.catalog_flag) {
        Some(failure) if migrate.is_some() => Err(failure),
        _ => Ok(done),
    }
}

/// Applies the rules of the settings to the cluster's points in the first place.
pub(super) async fn retention(world: &World) -> Result<Done, Failure> {
    if !retention::any_rule(&world.keep) {
        return Ok(Done::skipped("no keep rule is set"));
    }
    {
        let work = world.work.lock().await;
        if work.sealed.is_none() {
            return Ok(Done::skipped("nothing was sealed"));
        }
        if work.replicas.iter().any(|copy| copy.outcome.is_err()) {
            return Ok(Done::skipped("nothing goes while the new point is not in every place"));
        }
    }
    let place = shelf::folder_place(world.catalog()?.clone());
    let cluster = world.cluster()?.clone();
    let rules = Rules { keep: world.keep.clone(), ..Rules::default() };
    let pruned = async {
        let entries = shelf::entries(&place, Some(&cluster)).await?;
        shelf::prune(&place, cluster, &entries, &rules, jiff::Timestamp::now(), &world.run.who).await
    }
    .await;
    match pruned {
        Ok(pruned) => {
            let grace = format!("for {} h", overview::grace(&world.keep).as_secs() / 3600);
            let message = format!(
                "{} to the trash ({grace}), {} deleted, {} stay",
                pruned.trashed.len(),
                pruned.emptied.len(),
                pruned.decisions.len().saturating_sub(pruned.trashed.len() + pruned.emptied.len())
            );
            let result = json!({"trashed": pruned.trashed, "emptied": pruned.emptied});
            let changed = !(pruned.trashed.is_empty() && pruned.emptied.is_empty());
            Ok(if changed { Done::changed(message, result) } else { Done::ok(message, result) })
        }
        // The new point is safe; that an old one is still there is told and harms nothing.
        Err(failure) => {
            world.warn(None, format!("old points were not looked through: {failure}")).await;
            Ok(Done::ok("not done", json!({})))
        }
    }
}

/// The first of the copies that failed, as a failure of the whole.
pub(super) fn not_replicated(replicas: &[Replica], point: &str, catalog_flag: &str) -> Option<Failure> {
    let failed: Vec<&Replica> = replicas.iter().filter(|copy| copy.outcome.is_err()).collect();
    let first = failed.first()?;
    let places: Vec<&str> = failed.iter().map(|copy| copy.place.as_str()).collect();
    let kind = match &first.outcome {
        Err(failure) if failure.kind == Kind::Unreachable => Kind::Failed,
        Err(failure) => failure.kind,
        Ok(_) => Kind::Failed,
    };
    let kind = if kind == Kind::Refused || kind == Kind::CouldNotStart { Kind::Failed } else { kind };
    Some(
        Failure::new(kind, format!("the point is not in {}", places.join(", ")))
            .saw(first.outcome.as_ref().err().map(ToString::to_string).unwrap_or_default())
            .why("it is sealed and verified here; a copy that was asked for is missing")
            .mend(format!("ferry points copy {point} --to {}{catalog_flag}", first.place)),
    )
}
