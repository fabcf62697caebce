//! `gravity_preflight`: evaluates the gates before a backup on what was seen, picks the node, and
//! says each finding. A backup that already runs is taken over without asking them again.

use serde_json::json;

use super::gravity_backup::KIND;
use super::{Done, World};
use crate::catalog::{ArchiveKind, Expected, expected_bytes};
use crate::event::{Event, Finding, Severity};
use crate::failure::{Failure, Kind};
use crate::gravity::{self, Policy, Preflight};
use crate::job::{Listed, State};

/// Gates that `--waive` takes.
pub const WAIVABLE: &[&str] = &["health", "space", "clock", "dns", "certificate", "nfs", "safety_backup"];

/// A refusal that the operator waived becomes a warning that says so.
fn waive(world: &World, preflight: &mut Preflight) {
    for finding in &mut preflight.findings {
        if finding.severity != Severity::Refuse || !WAIVABLE.contains(&finding.gate.as_str()) {
            continue;
        }
        if let Some(reason) = world.choices.waive.get(&finding.gate) {
            finding.severity = Severity::Warn;
            finding.what = format!("{} (waived: {reason})", finding.what);
        }
    }
}

pub(super) fn refusal(findings: &[Finding]) -> Option<Failure> {
    Failure::all(findings.iter().filter(|finding| finding.severity == Severity::Refuse).map(Finding::refusal))
}

pub(super) async fn run(world: &World, hosts: &[String]) -> Result<Done, Failure> {
    let cluster = world.cluster()?.clone();
    if let Some(point) = &world.work.lock().await.sealed {
        return Ok(Done::ok(format!("{} is sealed already", point.id()), json!({"sealed": true})));
    }
    let first = hosts.first().map(String::as_str).unwrap_or_default();
    let catalog = world.catalog()?.clone();
    let history = {
        let cluster = cluster.clone();
        let catalog = catalog.clone();
        tokio::task::spawn_blocking(move || catalog.history(&cluster, ArchiveKind::Gravity))
            .await
            .map_err(|error| Failure::new(Kind::Bug, error.to_string()))??
    };
    let expected = expected_bytes(&history);
    let running = {
        let mut work = world.work.lock().await;
        work.history = history;
        // What never began is removed later and counts for nothing: the gates are asked as for a first start.
        let begun = |job: &Listed| !matches!(job.state, State::NotStarted | State::Absent);
        work.found.iter().find(|(_, job)| job.kind == KIND && begun(job)).cloned()
    };
    if let Some((host, job)) = running {
        let text = format!(
            "a backup of ferry is on this node already ({}): its gates were asked when it was started",
            job.state
        );
        world.events.note(Some(&host), text.clone());
        return Ok(Done::ok(text, json!({"taken_over": true, "node": host})));
    }
    room_here(&catalog, expected.as_ref())?;
    let policy = Policy {
        cluster: cluster.to_string(),
        pce_cluster_name: world.var(first, "pce_cluster_name"),
        pce_version: world.var(first, "pce_version"),
        require_healthy: world.flag(first, "pce_require_healthy"),
        expected_archive: expected.map(|expected| expected.archive_bytes),
        expected_staging: expected.map(|expected| expected.content_bytes),
        ferry_hook_jobs: Vec::new(),
        needs_gravity_job: world.choices.wants("gravity") || world.choices.wants("amv"),
    };
    let mut work = world.work.lock().await;
    let unreachable: Vec<(String, String)> =
        work.unreachable.iter().map(|(host, failure)| (host.clone(), failure.what.clone())).collect();
    let mut preflight = gravity::preflight(&work.facts, &unreachable, &policy);
    waive(world, &mut preflight);
    for finding in &preflight.findings {
        world.events.tell(Event::Found { finding: finding.clone() });
        if finding.severity == Severity::Warn {
            let host = finding.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
            work.warnings.push(format!("{host}{}: {}", finding.gate, finding.what));
        }
    }
    let refused = refusal(&preflight.findings);
    let node = preflight.node.clone();
    let message = match &node {
        Some(node) => format!("{node}: {}", preflight.why_node),
        None => preflight.why_node.clone(),
    };
    let result = json!(&preflight);
    work.preflight = Some(preflight);
    drop(work);
    if let Some(failure) = refused {
        return Err(failure);
    }
    if node.is_none() {
        return Err(Failure::new(Kind::Refused, "no main node of the cluster can make the backup").saw(message));
    }
    Ok(Done::ok(message, result))
}

/// The catalog's disk, told before a job is started: an archive that cannot be kept is not made.
fn room_here(catalog: &crate::catalog::Catalog, expected: Option<&Expected>) -> Result<(), Failure> {
    let room = catalog.room()?;
    let needed = expected.map_or(64 << 20, |expected| expected.archive_bytes.max(64 << 20));
    if room.free < needed {
        return Err(Failure::new(Kind::CouldNotStart, "the catalog's disk has no room for the archive")
            .saw(format!("{} MiB free in {}, {} MiB expected", room.free >> 20, catalog.root().display(), needed >> 20))
            .why("no backup is started that could not be kept")
            .mend("free space there, or name another place with --catalog URL"));
    }
    Ok(())
}
