//! `safety_backup`: before anything is destroyed, a fresh verified point of the target itself. The same
//! steps as a backup's; waived or impossible, it is not taken, and the gate has said so.

use serde_json::{Map, json};

use super::restoring::{done_before, need_lock, set_backup_aside};
use super::{Done, World, archive_collect, gravity_backup, gravity_preflight, node_logs, point_seal};
use crate::catalog::Verdict;
use crate::event::Outcome;
use crate::failure::{Failure, Kind};
use crate::gravity::SafetyBackup;

pub(super) async fn run(world: &World, hosts: &[String]) -> Result<Done, Failure> {
    if world.choices.check {
        return Ok(Done::skipped("--check takes no backup"));
    }
    let (safety, taken_over) = {
        let work = world.work.lock().await;
        if work.restoring.point.is_none() {
            return Err(Failure::new(Kind::Refused, "safety_backup needs restore_gates before it in the playbook"));
        }
        let restoring = &work.restoring;
        let before = restoring.point.as_ref().is_some_and(|point| {
            ["gravity_restore", "amv_restore"].iter().any(|part| done_before(world, part, point).is_some())
        });
        (restoring.safety.clone(), restoring.found.is_some() || restoring.found_amv.is_some() || before)
    };
    if taken_over {
        return Ok(Done::skipped("the restore has begun already"));
    }
    if world.choices.waive.contains_key("safety_backup") {
        return Ok(Done::skipped("waived"));
    }
    match safety {
        SafetyBackup::Taken(point) => {
            return Ok(Done::ok(format!("{point} was taken already"), json!({"point": point})));
        }
        SafetyBackup::NotPossible(why) => return Ok(Done::skipped(format!("not possible: {why}"))),
        SafetyBackup::NotYet => {}
    }
    need_lock(world).await?;
    if !world.choices.wants("gravity") {
        return Ok(Done::skipped("Gravity's data is not touched"));
    }
    world.events.note(None, "a fresh backup of the target comes first");
    gravity_preflight::run(world, hosts).await?;
    gravity_backup::run(world, &Map::new()).await?;
    archive_collect::run(world, "gravity").await?;
    node_logs::run(world).await?;
    point_seal::seal_safety(world).await?;
    point_seal::cleanup(world).await?;
    let sealed = world.work.lock().await.sealed.take();
    set_backup_aside(world).await;
    let Some(point) = sealed else {
        return Err(Failure::new(Kind::Bug, "a safety backup without a point"));
    };
    if point.verdict() != Verdict::Verified {
        return Err(Failure::new(Kind::Refused, format!("the fresh backup of the target is {}", point.verdict()))
            .saw(format!("{}/{}", point.cluster, point.id()))
            .within("gate safety_backup")
            .why("it is what there is to go back to")
            .mend("look at it: ferry points show; accept it, or go on with --waive safety_backup=REASON"));
    }
    let id = point.id().to_string();
    world.work.lock().await.restoring.safety = SafetyBackup::Taken(id.clone());
    Ok(Done {
        outcome: Outcome::Changed,
        message: format!("{} is what there is to go back to", point.dir.display()),
        result: json!({"point": id}),
        ..Done::ok("", json!({}))
    })
}
