//! Whether anybody else is at work there: another ferry, a hook, Gravity itself.

use super::super::preflight;
use super::super::status::KubeJob;
use super::{RestorePolicy, Table, View};
use crate::event::Severity;

pub(super) fn lock(view: &View<'_>, unreachable: &[(String, String)], policy: &RestorePolicy, table: &mut Table<'_>) {
    const WHY: &str = "one ferry at a time works on a cluster; Gravity itself has no lock";
    match policy.lock_held {
        Some(true) => table.pass("lock", None, "ferry holds the cluster's lock"),
        Some(false) => table.refuse(
            "lock",
            None,
            "ferry does not hold the cluster's lock",
            WHY,
            format!("ferry jobs list; wait for the other ferry, or make more than half of the main nodes reachable: ferry ping {}", table.group),
        ),
        None => {
            let mut found = preflight::Findings::default();
            preflight::lock(&view.masters, &view.ours, unreachable, &mut found);
            let refused = found.0.iter().any(|finding| finding.severity == Severity::Refuse);
            table.rows.extend(found.0.into_iter().filter(|finding| finding.severity != Severity::Pass));
            if !refused {
                table.open("lock", "the lock was not taken yet", WHY, "nothing to do: ferry takes it before the restore");
            }
        }
    }
}

pub(super) fn active(view: &View<'_>, policy: &RestorePolicy, table: &mut Table<'_>) {
    const WHY: &str = "Gravity has no lock: a restore would run into it, and neither could be trusted afterwards";
    let before = table.rows.len();
    let mut told: Vec<String> = Vec::new();
    for status in view.ours.iter().filter_map(|node| node.gravity.status.as_ref()) {
        let state = preflight::busy(&status.state).then(|| format!("the cluster is {}", status.state));
        for what in state.into_iter().chain(status.active_operations.iter().cloned()) {
            if !told.contains(&what) {
                told.push(what);
            }
        }
    }
    for what in told {
        table.refuse(
            "active",
            None,
            format!("an operation runs: {what}"),
            WHY,
            "wait for its end: sudo gravity plan, sudo gravity status on a main node",
        );
    }
    let mut answered = false;
    let mut jobs: Vec<&KubeJob> = Vec::new();
    for seen in view.ours.iter().filter_map(|node| node.gravity.kube_jobs.as_ref()) {
        answered = true;
        for job in seen.iter().filter(|job| job.is_hook() && job.active) {
            if !jobs.iter().any(|known| known.name == job.name) {
                jobs.push(job);
            }
        }
    }
    for job in jobs {
        let since = job.started.as_deref().map(|at| format!(" since {at}")).unwrap_or_default();
        if policy.ferry_hook_jobs.contains(&job.name) {
            table.pass("active", None, format!("the hook {} runs{since}; it is this run's own", job.name));
            continue;
        }
        table.refuse(
            "active",
            None,
            format!("the hook {} runs{since}, and it is not this run's", job.name),
            WHY,
            format!("kubectl -n kube-system logs job/{name} --all-containers; wait for its end", name = job.name),
        );
    }
    for job in &policy.ferry_jobs {
        table.refuse(
            "active",
            None,
            format!("another job of ferry is on a node: {job}"),
            WHY,
            "ferry jobs list; wait for its end, or carry it on with ferry jobs attach",
        );
    }
    if !answered {
        table.refuse(
            "active",
            None,
            "kubectl did not answer on any node: running hooks cannot be seen",
            WHY,
            "sudo kubectl -n kube-system get jobs on a main node; set pce_kubectl if it is elsewhere",
        );
    }
    if !table.rows.iter().skip(before).any(|row| row.severity == Severity::Refuse) {
        table.pass("active", None, "no operation, no other hook and no other job of ferry runs");
    }
}
