//! The main node on which the restore runs: which one, how it and its cluster are, its room and its clock.

use std::collections::BTreeMap;

use super::super::preflight::{self, Master, Node, Room, SKEW, span};
use super::super::status::ClusterStatus;
use super::super::target::{Look, TargetFacts, UnwellPod};
use super::{PointFacts, RestorePolicy, Table, View};
use crate::event::{Finding, Severity};
use crate::remote::quote;

/// The node that is taken, and what is known of it.
pub(super) struct Choice {
    pub(super) node: Option<String>,
    pub(super) why: String,
    pub(super) work_dir: Option<String>,
    /// 0 healthy, 1 degraded, 2 offline or unknown.
    ill: u8,
    ill_word: String,
    room: Vec<(Severity, String)>,
    state_dir: String,
}

pub(super) fn choose(
    point: &PointFacts,
    view: &View<'_>,
    targets: &BTreeMap<String, TargetFacts>,
    policy: &RestorePolicy,
) -> Choice {
    let none = |why: String| Choice {
        node: None,
        why,
        work_dir: None,
        ill: 2,
        ill_word: String::new(),
        room: Vec::new(),
        state_dir: String::new(),
    };
    let Some(reference) = view.reference else {
        return none(if view.nodes.is_empty() {
            "no Gravity node was seen".to_owned()
        } else {
            "no node could tell which cluster this is".to_owned()
        });
    };
    let room = |node: &Node<'_>| room(point, node, targets.get(node.host()), policy);
    let mut candidates = preflight::candidates(&view.ours, reference, &room);
    preflight::sort_candidates(&mut candidates);
    let Some(first) = candidates.first() else { return none(preflight::no_master(&view.ours)) };
    let others = preflight::why_not(&candidates);
    let room = match first.room.severity {
        Severity::Pass => " with room",
        Severity::Warn => " with some room",
        Severity::Refuse => " without enough room",
    };
    let mut why = format!("{} Gravity master {}{room}", first.ill_word, first.seen.advertise_ip);
    if others.is_empty() {
        why.push_str("; the only one that was reached");
    } else {
        why.push_str(&format!("; not {}", others.join(", not ")));
    }
    Choice {
        node: Some(first.node.host().to_owned()),
        why,
        work_dir: first.room.work_dir.clone(),
        ill: first.ill,
        ill_word: first.ill_word.clone(),
        room: first.room.findings.clone(),
        state_dir: first.node.gravity.state_dir.clone(),
    }
}

/// How much a restore unpacks when the manifest does not say: this many times the archive.
const UNPACKED: u64 = 3;

/// What a restore would do to the disks of one node: the archive, and what Gravity unpacks of it.
fn room(point: &PointFacts, node: &Node<'_>, target: Option<&TargetFacts>, policy: &RestorePolicy) -> Room {
    let there = policy.on_node.as_ref().filter(|(host, _)| host == node.host()).map_or(0, |(_, bytes)| *bytes);
    let archive = ("the archive", Some(point.bytes.saturating_sub(there)));
    let content = match point.content_bytes {
        0 => ("what is unpacked (estimated)", Some(point.bytes.saturating_mul(UNPACKED))),
        known => ("what is unpacked", Some(known)),
    };
    let unpack_dir = format!("{}/planet/state", node.gravity.state_dir.trim_end_matches('/'));
    let disk = |path: &str| target.and_then(|target| target.disks.get(path)).or_else(|| node.facts.disks.get(path));
    let state = disk(&unpack_dir).or_else(|| disk(&node.gravity.state_dir));
    let mut best: Option<Room> = None;
    for work_dir in preflight::work_dirs(node) {
        let (Some(state), Some(work)) = (state, disk(&work_dir)) else { continue };
        let findings = if preflight::one_disk(state, work) {
            vec![preflight::fill(state, &[content, archive])]
        } else {
            vec![preflight::fill(state, &[content]), preflight::fill(work, &[archive])]
        };
        let severity = findings.iter().map(|(severity, _)| *severity).max().unwrap_or(Severity::Refuse);
        if best.as_ref().is_none_or(|best| severity < best.severity) {
            best = Some(Room { severity, work_dir: Some(work_dir), findings });
        }
    }
    best.unwrap_or_else(|| Room {
        severity: Severity::Refuse,
        // Where the disks are not told, the first place is used if that is waived.
        work_dir: preflight::work_dirs(node).first().cloned(),
        findings: vec![(Severity::Refuse, "the node did not tell its disks (df)".to_owned())],
    })
}

pub(super) fn health(
    view: &View<'_>,
    targets: &BTreeMap<String, TargetFacts>,
    unreachable: &[(String, String)],
    choice: &Choice,
    table: &mut Table<'_>,
) {
    const LOOK: &str = "sudo gravity status on a main node says what is wrong";
    let before = table.rows.len();
    let reached = |master: &Master| view.ours.iter().any(|node| Some(node.host()) == master.host.as_deref());
    let nameless = view.masters.iter().filter(|master| master.host.is_none()).count();
    match view.reference {
        None => {
            for node in &view.ours {
                let error = &node.gravity.status_error;
                table.refuse(
                    "health",
                    Some(node.host()),
                    format!(
                        "gravity status gave nothing to go by (code {}): {}",
                        node.gravity.status_rc,
                        if error.is_empty() { "no answer" } else { error }
                    ),
                    "without a status neither the cluster nor its masters are known",
                    "sudo gravity status on the node",
                );
            }
        }
        Some(reference) => {
            let ill = |status: &&ClusterStatus| status.degraded() || preflight::unusual(status);
            let worst = Some(reference)
                .filter(ill)
                .or_else(|| view.ours.iter().filter_map(|node| node.gravity.status.as_ref()).find(ill));
            if let Some(status) = worst {
                table.refuse(
                    "health",
                    None,
                    preflight::ill_words(status),
                    "the restore hook writes to databases and object store on all main nodes; one that is ill may miss its part",
                    LOOK,
                );
            }
            for node in view.ours.iter().filter(|node| node.gravity.status.is_none()) {
                let master = view.masters.iter().any(|master| master.host.as_deref() == Some(node.host()));
                let what = format!("gravity status gave nothing to go by here: {}", node.gravity.status_error);
                if master {
                    table.refuse(
                        "health",
                        Some(node.host()),
                        format!("a main node does not work: {what}"),
                        "Gravity does not run well on it",
                        "sudo gravity status on the node",
                    );
                } else {
                    table.warn(
                        "health",
                        Some(node.host()),
                        what,
                        "the other nodes tell of the cluster",
                        "sudo gravity status on the node",
                    );
                }
            }
            for master in view.masters.iter().filter(|master| !reached(master)) {
                let name = format!("the main node {} {}", master.hostname, master.advertise_ip);
                let why = unreachable.iter().find(|(host, _)| Some(host) == master.host.as_ref());
                let state = reference
                    .nodes
                    .iter()
                    .find(|node| node.advertise_ip == master.advertise_ip && node.hostname == master.hostname)
                    .map_or("unknown", |node| node.status.as_str());
                match why {
                    Some((host, why)) => table.refuse(
                        "health",
                        Some(host),
                        format!("{name} was not reached: {why}"),
                        "a main node that is down does not take part in the restore",
                        format!("ferry ping {host}"),
                    ),
                    None if state != "healthy" => table.refuse(
                        "health",
                        None,
                        format!("{name} is {state} and was not looked at"),
                        "a main node that is down does not take part in the restore",
                        LOOK,
                    ),
                    None if unreachable.is_empty() => table.warn(
                        "health",
                        None,
                        format!("{name} was not looked at: no host of the inventory is it"),
                        "what only that node knows was not seen",
                        format!("put it into the group {}: ferry inventory graph", table.group),
                    ),
                    // Told below, with the hosts that were not reached.
                    None => {}
                }
            }
        }
    }
    let named = |host: &String| view.masters.iter().any(|master| master.host.as_ref() == Some(host));
    for (host, why) in unreachable.iter().filter(|(host, _)| !named(host)) {
        if nameless > 0 || view.masters.is_empty() {
            let who: Vec<String> = view
                .masters
                .iter()
                .filter(|master| master.host.is_none())
                .map(|master| format!("{} {}", master.hostname, master.advertise_ip))
                .collect();
            let who = if who.is_empty() { String::new() } else { format!(" ({})", who.join(", ")) };
            table.refuse(
                "health",
                Some(host),
                format!("not reached: {why}; it may be a main node{who}"),
                "a main node that is down does not take part in the restore",
                format!("ferry ping {host}"),
            );
        } else {
            table.warn(
                "health",
                Some(host),
                format!("not reached: {why}"),
                "it is no main node; the restore does not need it",
                format!("ferry ping {host}"),
            );
        }
    }
    match &choice.node {
        None => {
            // No waiver makes a node: the line that would offer one is left out.
            let finding = Finding {
                gate: "health".to_owned(),
                severity: Severity::Refuse,
                host: None,
                what: choice.why.clone(),
                why: "backup and restore run on a main node".to_owned(),
                mend: format!(
                    "put a main node into the inventory's group {g}, and look why none was reached: ferry ping {g}",
                    g = table.group
                ),
            };
            table.rows.push(finding);
        }
        Some(node) if choice.ill > 0 => table.refuse(
            "health",
            Some(node),
            format!("no healthy Gravity master was reached; the best is {node} ({})", choice.ill_word),
            "the hook runs on the node on which it is started; a sick one may not finish it",
            LOOK,
        ),
        Some(_) => {}
    }
    pods(view, targets, table);
    if !table.rows.iter().skip(before).any(|row| row.severity == Severity::Refuse)
        && let Some(reference) = view.reference
    {
        let healthy = reference.nodes.iter().filter(|node| node.status == "healthy").count();
        table.pass(
            "health",
            None,
            format!("{}, {healthy} of {} nodes healthy", reference.state, reference.nodes.len()),
        );
    }
}

/// Pods are the same from every node: the first answer counts.
fn pods(view: &View<'_>, targets: &BTreeMap<String, TargetFacts>, table: &mut Table<'_>) {
    let asked = view.ours.iter().filter_map(|node| Some((node, targets.get(node.host())?)));
    let mut unknown: Option<String> = None;
    for (node, target) in asked {
        match &target.pods {
            Look::Seen(pods) => {
                let ill = pods.not_well(node.gravity.kube_jobs.as_deref().unwrap_or_default());
                if ill.is_empty() {
                    table.pass(
                        "health",
                        None,
                        format!(
                            "{} pods: {} run and are ready, {} are completed",
                            pods.total, pods.well, pods.completed
                        ),
                    );
                } else {
                    table.warn(
                        "health",
                        None,
                        format!("{} of {} pods are not well: {}", ill.len(), pods.total, some_pods(&ill)),
                        "what they hold may not be restored, or may not start afterwards",
                        "kubectl get pods --all-namespaces -o wide on a main node",
                    );
                }
                return;
            }
            Look::Unknown(why) => unknown = unknown.or_else(|| Some(why.clone())),
            Look::NotAsked => {}
        }
    }
    let why = unknown.unwrap_or_else(|| "nobody asked".to_owned());
    table.warn(
        "health",
        None,
        format!("how the pods are is not known: {why}"),
        "pods that are not well may not take what is restored",
        "kubectl get pods --all-namespaces -o wide on a main node",
    );
}

/// The first few pods by name.
pub(in super::super) fn some_pods(pods: &[&UnwellPod]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> =
        pods.iter().take(SHOWN).map(|pod| format!("{}/{} ({})", pod.namespace, pod.name, pod.why)).collect();
    if pods.len() > SHOWN {
        names.push(format!("and {} more", pods.len() - SHOWN));
    }
    names.join(", ")
}

pub(super) fn space(view: &View<'_>, choice: &Choice, table: &mut Table<'_>) {
    let Some(node) = &choice.node else {
        table.warn(
            "space",
            None,
            if view.nodes.is_empty() {
                "no node's disks are known"
            } else {
                "no node was chosen, so no disk was judged"
            },
            "an estimate belongs to the node on which the restore runs",
            "mend the gates above first",
        );
        return;
    };
    for (severity, what) in &choice.room {
        let (why, mend) = match severity {
            Severity::Pass => (String::new(), String::new()),
            _ => (
                "Gravity warns at 80 %, calls the node degraded at 90 % and evicts pods at 95 %; a restore that runs out of room leaves the target half restored".to_owned(),
                format!(
                    "sudo du -xk --max-depth=2 {} | sort -n | tail; free space, or set pce_work_dir to a directory on a larger disk",
                    quote(&choice.state_dir).unwrap_or_else(|_| "/var/lib/gravity".to_owned())
                ),
            ),
        };
        table.add("space", *severity, Some(node), what.clone(), why, mend);
    }
}

pub(super) fn clock(view: &View<'_>, table: &mut Table<'_>) {
    const WHY: &str = "databases and certificates of a cluster need equal clocks, and times in logs and points are compared across machines";
    const MEND: &str = "timedatectl on the node and here; chronyc tracking";
    let skews: Vec<(&str, i64)> = view
        .nodes
        .iter()
        .map(|node| (node.host(), node.facts.epoch.saturating_sub(node.facts.read_at.as_second())))
        .collect();
    let mut told = false;
    for (host, skew) in &skews {
        if skew.saturating_abs() > SKEW {
            told = true;
            let way = if *skew > 0 { "ahead of" } else { "behind" };
            table.refuse(
                "clock",
                Some(host),
                format!("its clock is {} {way} ours", span(skew.saturating_abs())),
                WHY,
                MEND,
            );
        }
    }
    let (low, high) = (skews.iter().min_by_key(|(_, skew)| *skew), skews.iter().max_by_key(|(_, skew)| *skew));
    let Some((low, high)) = low.zip(high) else {
        table.warn("clock", None, "no node's clock is known", WHY, "mend the gates above first");
        return;
    };
    let apart = high.1.saturating_sub(low.1);
    if apart > SKEW && !told {
        told = true;
        table.refuse(
            "clock",
            None,
            format!("the clocks of {} and {} are {} apart", low.0, high.0, span(apart)),
            WHY,
            MEND,
        );
    }
    if !told {
        table.pass("clock", None, format!("the clocks are at most {} apart", span(apart)));
    }
}
