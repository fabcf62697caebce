//! `cluster_settle`: after a restore, waits until the cluster is well again, at most half an hour.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Done, World, gravity_facts};
use crate::failure::{Failure, Kind};
use crate::gravity::{self, SETTLE_LIMIT, SettleExpect, TargetQuestions};

/// Between two looks, at the end; at first it is looked more often.
const PAUSE: Duration = Duration::from_secs(10);

pub(super) async fn run(world: &World, hosts: &[String]) -> Result<Done, Failure> {
    if world.choices.check {
        return Ok(Done::skipped("--check restores nothing"));
    }
    let expect = {
        let work = world.work.lock().await;
        let restoring = &work.restoring;
        if restoring.restored_seconds.is_none() && !restoring.amv_restored {
            return Ok(Done::skipped("nothing was restored"));
        }
        let target = restoring.gates.as_ref().and_then(|gates| gates.identity.clone());
        let target = target.or_else(|| restoring.found.as_ref().and_then(|found| found.meta.target.clone()));
        SettleExpect {
            pce_version: restoring.point.as_ref().and_then(|point| point.manifest.pce_version.clone()),
            gravity_name: target.map(|target| target.gravity_name),
        }
    };
    let limit = world
        .var(hosts.first().map(String::as_str).unwrap_or_default(), "pce_settle_timeout")
        .and_then(|text| gravity::parse_duration(&text).ok())
        .unwrap_or(SETTLE_LIMIT);
    // Where the operator waived that the cluster is ill, waiting for it to be well would be waiting for good.
    let ill = world.choices.waive.get("health");
    let limit = if ill.is_some() { limit.min(Duration::from_secs(120)) } else { limit };
    let (began, mut told) = (Instant::now(), Vec::new());
    let mut pause = Duration::from_secs(1);
    loop {
        let settled = look(world, hosts, &expect).await;
        let (settled, failure) = match settled {
            Ok(settled) => (Some(settled), None),
            Err(failure) => (None, Some(failure)),
        };
        if let Some(settled) = &settled {
            world.work.lock().await.restoring.settled = Some(settled.clone());
            if !settled.wrong.is_empty() {
                return Err(Failure::new(Kind::Failed, "the cluster is not what it should be after the restore")
                    .saw(settled.wrong.join("; "))
                    .why("waiting does not mend this")
                    .mend("sudo gravity status on a main node"));
            }
            if settled.green {
                let text = format!("well again after {} s", began.elapsed().as_secs());
                return Ok(Done::ok(text, json!({"seconds": began.elapsed().as_secs()})));
            }
            if told != settled.waiting_for {
                told.clone_from(&settled.waiting_for);
                world.events.note(None, format!("waiting for: {}", told.join("; ")));
            }
        }
        if began.elapsed() >= limit
            && let (Some(reason), None) = (ill, &failure)
        {
            let text = format!("the cluster is not well: {} (health was waived: {reason})", told.join("; "));
            world.warn(None, text.clone()).await;
            return Ok(Done::ok(text, json!({"green": false})));
        }
        if began.elapsed() >= limit {
            let seen = failure.map_or_else(|| told.join("; "), |failure| failure.to_string());
            return Err(Failure::new(
                Kind::Failed,
                format!("the restore has ended, and the cluster is not well after {} minutes", limit.as_secs() / 60),
            )
            .saw(seen)
            .why("the restore itself is done and is not repeated")
            .mend("sudo gravity status on a main node; sudo kubectl get pods --all-namespaces"));
        }
        tokio::time::sleep(pause.min(limit.saturating_sub(began.elapsed()))).await;
        pause = (pause * 2).min(PAUSE);
    }
}

async fn look(world: &World, hosts: &[String], expect: &SettleExpect) -> Result<gravity::Settled, Failure> {
    let already = world.work.lock().await.warnings.len();
    gravity_facts::run(world, hosts).await?;
    // A node that is not reached while the cluster settles is waited for, not kept as a warning each time.
    world.work.lock().await.warnings.truncate(already);
    let nodes: Vec<(String, String)> = {
        let work = world.work.lock().await;
        let gravity =
            work.facts.iter().filter_map(|facts| Some((facts.host.clone(), facts.gravity.as_ref()?.state_dir.clone())));
        gravity.collect()
    };
    let mut targets = std::collections::BTreeMap::new();
    for (host, state_dir) in nodes {
        let questions = TargetQuestions { state_dir: Some(state_dir), ..TargetQuestions::default() };
        let session = world.session(&host).await?;
        targets.insert(host.clone(), gravity::probe_target(&session, &world.probe_options(&host), &questions).await?);
    }
    let work = world.work.lock().await;
    let unreachable: Vec<(String, String)> =
        work.unreachable.iter().map(|(host, failure)| (host.clone(), failure.what.clone())).collect();
    Ok(gravity::settled(&work.facts, &targets, &unreachable, expect))
}
