//! `drill_end`, and the gate of a drill: a restore into a cluster that says it may be overwritten, measured, and
//! noted on the point. Everything else of a drill is a restore, with all its gates.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Done, World};
use crate::catalog::Remark;
use crate::event::{Event, SummaryLine};
use crate::failure::{Failure, Kind};
use crate::gravity::{self, Policy};

/// The steps whose time is the recovery time: what a disaster would take, gates and safety backup left out.
const RECOVERY: [&str; 5] = ["archive_deliver", "gravity_restore", "cluster_settle", "amv_restore", "nfs_restore"];

/// What has to be cut off before a copy of a platform comes to life, as rows of the first screen and the checklist.
pub const ISOLATE: [(&str, &str); 3] = [
    ("SMTP", "the copy would send the platform's mails: block its way to the mail server"),
    ("DNS", "the platform's name must still lead to the real one: leave the public record, use hosts files"),
    ("runtimes", "real runtimes must not reach the copy, nor deployments of the copy start: keep them off its network"),
];

/// Whether the target may be overwritten by a drill. Nothing waives it.
///
/// # Errors
/// [`Kind::Refused`].
pub(super) fn permitted(world: &World, hosts: &[String]) -> Result<(), Failure> {
    let not: Vec<&str> = hosts.iter().filter(|host| !world.flag(host, "pce_drill_ok")).map(String::as_str).collect();
    if not.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, "this cluster does not say that a drill may overwrite it")
        .saw(format!("pce_drill_ok is not true for {}", not.join(", ")))
        .within("gate identity")
        .why("a drill overwrites its target for the sake of practice: no real cluster may be one by mistake")
        .mend("set pce_drill_ok: true in the inventory's group of a cluster that is there for drills"))
}

pub(super) async fn end(world: &World, hosts: &[String]) -> Result<Done, Failure> {
    if !world.choices.restore.drill {
        return Ok(Done::skipped("this is no drill"));
    }
    let (point, restored, settled) = {
        let work = world.work.lock().await;
        let restoring = &work.restoring;
        let restored =
            restoring.restored_seconds.is_some() || restoring.amv_restored || restoring.nfs_restored.is_some();
        (restoring.point.clone(), restored, restoring.settled.clone())
    };
    let (Some(mut point), true) = (point, restored) else { return Ok(Done::skipped("nothing was restored")) };
    let cluster = world.cluster()?.clone();
    // The last look: the cluster that came out of it is the one that went in, and it is well.
    super::gravity_facts::run(world, hosts).await?;
    let seen = {
        let work = world.work.lock().await;
        gravity::preflight(&work.facts, &[], &Policy { cluster: cluster.to_string(), ..Policy::default() })
    };
    let version = seen.cluster.as_ref().and_then(|cluster| cluster.pce_version.clone());
    if version != point.manifest.pce_version {
        return Err(Failure::new(Kind::Failed, "the cluster does not run the version that was restored")
            .saw(format!("{version:?} instead of {:?}", point.manifest.pce_version)));
    }
    let well = settled.as_ref().is_none_or(|settled| settled.green);
    let phases: BTreeMap<String, f64> =
        world.phases().into_iter().filter(|(name, _)| RECOVERY.contains(&name.as_str())).collect();
    let seconds: f64 = phases.values().sum();
    let age = (world.run.started.as_second() - point.manifest.started.as_second()).max(0);
    let carried_on = RECOVERY.iter().any(|part| world.before.contains_key(*part));
    let line = |word: &str, text: String| SummaryLine { word: word.to_owned(), text };
    let mut lines: Vec<SummaryLine> = RECOVERY
        .iter()
        .filter_map(|name| Some(line("phase", format!("{name}: {:.1} s", phases.get(*name)?))))
        .collect();
    lines.push(line("recovery", format!("{seconds:.0} s, measured from the first byte to the cluster being well")));
    lines.push(line(
        "data age",
        format!("{:.1} h when the drill began: what a disaster then would have lost", age as f64 / 3600.0),
    ));
    for (what, todo) in ISOLATE {
        lines.push(line("isolate", format!("{what}: {todo}")));
    }
    if carried_on {
        lines
            .push(line("NOT NOTED", "the run was carried on: its times are those of parts, and no measure".to_owned()));
    }
    let next = vec![format!(
        "look into {cluster}, and then tear it down or keep it cut off: it is a copy of {}",
        point.cluster
    )];
    world.events.tell(Event::Summary { lines, next });
    if !well {
        return Err(Failure::new(Kind::Failed, "the drill restored a cluster that is not well: it is noted as none")
            .saw(settled.map(|settled| settled.waiting_for.join("; ")).unwrap_or_default()));
    }
    if !carried_on {
        let remark =
            Remark::Rehearsed { into: cluster.clone(), seconds, data_age_seconds: Some(age), phases: phases.clone() };
        if let Err(failure) = world.note_on(&mut point, remark).await {
            world.warn(None, format!("the drill could not be noted on the point: {failure}")).await;
        }
    }
    Ok(Done::ok(
        format!("recovered in {seconds:.0} s, data {:.1} h old", age as f64 / 3600.0),
        json!({"point": point.id(), "into": cluster, "seconds": seconds, "phases": phases, "data_age_seconds": age, "noted": !carried_on}),
    ))
}
