//! `restore_tidy` and `restore_summary`: nothing of ours stays on a node; then what was restored, what was
//! not, and what stays to be done by hand. Both are kept with the point.

use std::time::Duration;

use serde_json::json;

use super::restoring::facts_of;
use super::{Done, World};
use crate::catalog::Remark;
use crate::event::{Event, SummaryLine};
use crate::failure::{Failure, Kind};
use crate::gravity::{self, ChecklistFacts, RestorePolicy, SafetyBackup};
use crate::remote::quote;

pub(super) async fn tidy(world: &World) -> Result<Done, Failure> {
    let (jobs, leftovers) = {
        let mut work = world.work.lock().await;
        let restoring = &mut work.restoring;
        if restoring.restored_seconds.is_none() && !restoring.amv_restored && restoring.nfs_restored.is_none() {
            return Ok(Done::skipped("nothing was restored"));
        }
        (std::mem::take(&mut restoring.jobs), std::mem::take(&mut restoring.leftovers))
    };
    let mut left = Vec::new();
    for (host, path) in &leftovers {
        if let Err(failure) = remove(world, host, path).await {
            left.push(format!("{host}:{path}: {failure}"));
        }
    }
    for (host, job, log) in &jobs {
        let cleaned = async { world.jobs(host).await?.clean(job, *log).await };
        match cleaned.await {
            Ok(()) => world.events.tell(Event::JobCleaned { job: job.to_string(), host: host.clone() }),
            Err(failure) => left.push(format!("{host}: job {job}: {failure}")),
        }
    }
    // What AMV's script saved of the data that it erased is the way back: it stays, and is told.
    let amv = world.work.lock().await.restoring.delivered_amv.clone();
    let folder = amv
        .as_ref()
        .and_then(|sent| sent.path.rsplit_once('/').map(|(folder, _)| (sent.host.clone(), folder.to_owned())));
    if let Some((host, folder)) = folder {
        let kept = kept_in(world, &host, &folder).await;
        if !kept.is_empty() {
            let text = format!("{host}:{folder}: {}", kept.join(", "));
            world.events.note(Some(&host), format!("what AMV's script saved before it erased stays there: {text}"));
            world.work.lock().await.restoring.amv_saved = Some(text);
        }
    }
    for text in &left {
        world.warn(None, format!("still on the node: {text}")).await;
    }
    Ok(Done::changed(
        if left.is_empty() { "archives and jobs removed" } else { "not everything could be removed" },
        json!({"left": left}),
    ))
}

/// What lies in a folder of ours besides our own file.
async fn kept_in(world: &World, host: &str, folder: &str) -> Vec<String> {
    let Ok(word) = quote(folder) else { return Vec::new() };
    let script = format!("[ -L {word} ] || ls -1A {word} 2>/dev/null | head -n 20");
    match super::follow::ask_root(world, host, &script, Duration::from_secs(60)).await {
        Ok(said) => said
            .text()
            .lines()
            .map(|line| crate::secret::clean(line.as_bytes()))
            .filter(|line| !line.is_empty())
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Removes one archive of ours by its exact form, and its folder when that is empty.
///
/// # Errors
/// [`Kind::Refused`] when the path has another form; [`Kind::Unreachable`]; what the node said.
pub async fn remove(world: &World, host: &str, path: &str) -> Result<(), Failure> {
    let ours = path.rsplit('/').nth(1).is_some_and(|folder| folder.starts_with("restore-"))
        && path.ends_with(".tar.gz")
        && !path.contains("/../");
    if !ours {
        return Err(Failure::new(Kind::Refused, "this has not the form of our own files").saw(path.to_owned()));
    }
    let file = quote(path).map_err(|nul| Failure::new(Kind::Bug, nul.to_string()))?;
    let script = format!(
        "f={file}; rm -f -- \"$f\" \"$f.part\" && {{ rmdir -- \"${{f%/*}}\" 2>/dev/null || :; }}; [ ! -e \"$f\" ]"
    );
    let said = super::follow::ask_root(world, host, &script, Duration::from_secs(120)).await?;
    if said.exit.ok() {
        return Ok(());
    }
    Err(Failure::new(Kind::Failed, "it could not be removed").on(host).saw(said.err_text()))
}

pub(super) async fn summary(world: &World) -> Result<Done, Failure> {
    let mut work = world.work.lock().await;
    let restoring = &work.restoring;
    let Some(point) = restoring.point.clone() else { return Ok(Done::skipped("nothing was restored")) };
    if restoring.restored_seconds.is_none() && !restoring.amv_restored && restoring.nfs_restored.is_none() {
        return Ok(Done::skipped("nothing was restored"));
    }
    let cluster = world.cluster()?.clone();
    let line = |word: &str, text: String| SummaryLine { word: word.to_owned(), text };
    let name = format!("{}/{}", point.cluster, point.id());
    let (mut lines, mut next, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(seconds) = restoring.restored_seconds {
        lines.push(line("restored", format!("Gravity: {name} into {cluster}, gravity took {seconds:.0} s")));
        parts.push("gravity".to_owned());
    }
    if restoring.amv_restored {
        let report = restoring.amv_report.clone().unwrap_or_else(|| "its report was not understood".to_owned());
        lines.push(line("restored", format!("AMV: {report}")));
        parts.push("amv".to_owned());
    }
    match (&restoring.nfs_restored, &restoring.nfs) {
        (Some(text), _) => {
            lines.push(line("restored", format!("NFS: {text}")));
            parts.push("nfs".to_owned());
        }
        (None, Some(super::nfs::NfsPlan::LeftOut(why))) => {
            lines.push(line("NOT RESTORED", format!("NFS files, which stay in the point: {why}")));
        }
        _ => {}
    }
    let made = point.manifest.started.strftime("%Y-%m-%d %H:%M UTC");
    lines.push(line("made of", format!("{}, {made}", point.manifest.cluster.group)));
    match &restoring.settled {
        Some(settled) if settled.green => lines.push(line("health", "the cluster is well again".to_owned())),
        Some(settled) => lines.push(line("health", format!("NOT YET: {}", settled.waiting_for.join("; ")))),
        None => lines.push(line("health", "not looked at".to_owned())),
    }
    match &restoring.safety {
        SafetyBackup::Taken(id) => lines.push(line("way back", format!("{cluster}/{id}, the target as it was before"))),
        SafetyBackup::NotYet | SafetyBackup::NotPossible(_) => {
            lines.push(line("way back", "none: no fresh backup of the target was taken".to_owned()));
        }
    }
    if let Some(saved) = &restoring.amv_saved {
        lines.push(line("way back", format!("AMV's data as it was before, saved by its script: {saved}")));
        next.push("when that is not needed any more, remove it there: it holds passwords".to_owned());
    }
    for (gate, reason) in &world.choices.waive {
        lines.push(line("waived", format!("{gate}: {reason}")));
    }
    let facts = facts_of(world, &point);
    for lack in &facts.lacks {
        lines.push(line("NOT IN IT", lack.clone()));
    }
    let first = work.facts.first().map(|facts| facts.host.clone()).unwrap_or_default();
    let checks = ChecklistFacts {
        amv_restored: restoring.amv_restored,
        has_amv: super::point_seal::cluster_has(world, "pce_amv"),
        nfs_restored: restoring.nfs_restored.is_some(),
        certificate_source: world.var(&first, "pce_certificate_source"),
    };
    let policy = RestorePolicy {
        cluster: cluster.to_string(),
        platform_dns: world.var(&first, "pce_platform_dns"),
        ..RestorePolicy::default()
    };
    let rows = gravity::checklist(&facts, &restoring.targets, &policy, &checks);
    for row in &rows {
        lines.push(line("by hand", format!("{}: {}", row.item, row.todo)));
    }
    next.push(format!("ferry ping {cluster}"));
    let seconds = restoring.restored_seconds.unwrap_or_default();
    let remark = Remark::Restored {
        into: cluster.clone(),
        run: world.run.id.clone(),
        seconds,
        parts: parts.clone(),
        waived: world.choices.waive.clone(),
    };
    let mut noted = point.clone();
    if let Err(failure) = world.note_on(&mut noted, remark).await {
        world.events.warn(None, format!("the restore could not be noted on the point: {failure}"));
    }
    work.restoring.point = Some(noted);
    let result = json!({
        "point": point.id(), "into": cluster, "parts": parts, "seconds": seconds,
        "checklist": rows
    });
    drop(work);
    world.events.tell(Event::Summary { lines, next });
    Ok(Done::ok("all that was asked for", result))
}
