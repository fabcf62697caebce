//! `restore_gates`: looks, asks every gate, shows the whole table, and asks for the confirmation. A
//! restore that an earlier run started is taken over without asking again.

use serde_json::{Value, json};

use super::restoring::{
    can_back_up, digest_of, done_before, erases_amv, evaluate, facts_of, find_point, look_for_jobs, main_kind, tell,
};
use super::{Before, Done, World, drill, nfs, settings_capture, straight};
use crate::catalog::ArchiveKind;
use crate::event::Severity;
use crate::failure::{Failure, Kind};
use crate::gravity::SafetyBackup;

pub(super) async fn run(world: &World, hosts: &[String]) -> Result<Done, Failure> {
    let cluster = world.cluster()?.clone();
    if world.work.lock().await.facts.is_empty() {
        return Err(Failure::new(Kind::Refused, "restore_gates needs gravity_facts before it in the playbook")
            .mend("ferry playbooks export restore shows the order"));
    }
    if world.choices.restore.drill {
        drill::permitted(world, hosts)?;
    }
    let point = find_point(world)?;
    look_for_jobs(world, point.id()).await?;
    let kind = main_kind(world);
    let nfs_plan = nfs::plan(world, &point).await?;
    nfs::tell_plan(world, nfs_plan.as_ref());
    let (gravity, erases) = (point.manifest.archive(kind).cloned(), erases_amv(world, &point));
    let taken_over = {
        let mut work = world.work.lock().await;
        work.restoring.point = Some(point.clone());
        work.restoring.nfs = nfs_plan;
        let found = work.restoring.found.clone().or_else(|| work.restoring.found_amv.clone());
        if let Some(found) = &found {
            work.restoring.confirm = Some(cluster.to_string());
            // Whoever began it confirmed this part only when it was in the plan.
            let amv_too = found.meta.amv_archive.is_some() || work.restoring.found_amv.is_some();
            work.restoring.erase_amv =
                if amv_too { Some(cluster.to_string()) } else { world.choices.restore.erase_amv.clone() };
            if let Some(safety) = &found.meta.safety {
                work.restoring.safety = SafetyBackup::Taken(safety.clone());
            }
        }
        found
    };
    if let Some(found) = taken_over {
        let text = format!(
            "a restore of this point is on {} already (job {}, {}, begun by {} {}): its gates were asked and confirmed when it was started",
            found.host, found.job.id, found.job.state, found.meta.who, found.meta.since
        );
        world.events.note(Some(&found.host), text.clone());
        if erases {
            confirmed_to_erase(world, cluster.as_str()).await?;
        }
        return Ok(Done::ok(text, json!({"taken_over": true, "point": point.id()})));
    }
    let part = match kind {
        ArchiveKind::Gravity => "gravity_restore",
        ArchiveKind::Amv => "amv_restore",
        ArchiveKind::Nfs => "nfs_restore",
    };
    if let Some(before) = done_before(world, part, &point) {
        return restored_before(world, before, erases && done_before(world, "amv_restore", &point).is_none()).await;
    }
    if let Some(archive) = gravity {
        let digest = if let Some(at) = straight::landing(&archive) {
            world.events.note(Some(&at.host), format!("{} is read again there: its digest is the first gate", at.path));
            straight::digest_there(world, &archive, &at).await?
        } else {
            let read = point.clone();
            world.events.note(None, format!("reading {} again: its digest is the first gate", archive.file));
            let reader = world.archive_reader(&point, &archive);
            tokio::task::spawn_blocking(move || digest_of(&read, &archive, reader))
                .await
                .map_err(|error| Failure::new(Kind::Bug, error.to_string()))?
        };
        world.work.lock().await.restoring.local_digest = Some(digest);
    }
    let safety = match can_back_up(world, hosts).await {
        Ok(()) => SafetyBackup::NotYet,
        Err(why) => SafetyBackup::NotPossible(why),
    };
    {
        let mut work = world.work.lock().await;
        work.restoring.safety = safety;
        // What a migration asked before its backup is not asked again.
        let asked = &world.choices.restore;
        work.restoring.confirm = asked.confirm.clone().or(work.restoring.confirm.take());
        work.restoring.erase_amv = asked.erase_amv.clone().or(work.restoring.erase_amv.take());
    }
    let mut gates = evaluate(world, hosts, false).await?;
    settings_capture::tell_differences(world, &point).await;
    let open = gates.findings.iter().any(|row| row.gate == "confirmation" && row.severity == Severity::Refuse);
    let ask = open && world.person.is_some() && !world.choices.check;
    tell(world, &gates, ask || (open && world.choices.check));
    if gates.refused_besides(&["confirmation"]) {
        return Err(gates
            .refusal_besides(&["confirmation"])
            .unwrap_or_else(|| Failure::new(Kind::Refused, "a gate said no")));
    }
    if ask {
        confirm(world, cluster.as_str(), erases).await;
        gates = evaluate(world, hosts, false).await?;
    }
    if !world.choices.check
        && let Some(failure) = gates.refusal()
    {
        return Err(failure);
    }
    let facts = facts_of(world, &point);
    for lack in &facts.lacks {
        world.events.warn(None, lack.clone());
    }
    let node = gates.node.clone().unwrap_or_default();
    Ok(Done::ok(
        format!("{node}: {}", gates.why_node),
        json!({"node": node, "point": point.id(), "lacks": facts.lacks, "pending": gates.pending}),
    ))
}

/// The run that is carried on has restored already and tidied up: its gates were asked, and asking them again
/// would measure what it restored.
async fn restored_before(world: &World, before: &Before, erases: bool) -> Result<Done, Failure> {
    let cluster = world.cluster()?.to_string();
    let word = |name: &str| before.result.get(name).and_then(Value::as_str);
    let (node, job) = (word("node").unwrap_or("?"), word("job").unwrap_or("?"));
    let text = format!(
        "run {} restored this point already (job {job} on {node}): its gates were asked and confirmed then",
        before.run
    );
    world.events.note(None, text.clone());
    {
        let mut work = world.work.lock().await;
        work.restoring.confirm = Some(cluster.clone());
        let amv_too = before.result.get("amv").and_then(Value::as_bool) == Some(true);
        work.restoring.erase_amv =
            if amv_too { Some(cluster.clone()) } else { world.choices.restore.erase_amv.clone() };
        if let Some(safety) = word("safety") {
            work.restoring.safety = SafetyBackup::Taken(safety.to_owned());
        }
    }
    if erases {
        confirmed_to_erase(world, &cluster).await?;
    }
    Ok(Done::ok(text, json!({"taken_over": true, "point": before.result.get("point")})))
}

/// Asks for the erasing of AMV's data where it was not confirmed when the restore began.
async fn confirmed_to_erase(world: &World, cluster: &str) -> Result<(), Failure> {
    confirm(world, cluster, true).await;
    let erase = world.work.lock().await.restoring.erase_amv.clone();
    if erase.as_deref() == Some(cluster) {
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, "erasing AMV's data was not confirmed when this restore began")
        .within("gate confirmation")
        .mend(format!("--erase-amv {cluster}, or --only gravity")))
}

/// The cluster's name, typed at the terminal; when AMV's data will be erased, once more for that.
pub(super) async fn confirm(world: &World, cluster: &str, erases_amv: bool) {
    let typed = world.work.lock().await.restoring.confirm.clone();
    if typed.is_none() {
        let question = format!(
            "This destroys what {cluster} holds now and puts the point's content in its place. To go on, type the cluster's name."
        );
        let answer = world.ask(&question, "cluster to be overwritten: ").await;
        world.work.lock().await.restoring.confirm = answer;
    }
    let erase = world.work.lock().await.restoring.erase_amv.clone();
    let confirmed = world.work.lock().await.restoring.confirm.as_deref() == Some(cluster);
    if erases_amv && erase.is_none() && confirmed {
        let question = format!(
            "The AMV restore erases the monitoring data that {cluster} has now. To go on, type the cluster's name once more."
        );
        let answer = world.ask(&question, "cluster whose AMV data is erased: ").await;
        world.work.lock().await.restoring.erase_amv = answer;
    }
}
