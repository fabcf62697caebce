//! After a restore: is the target well again, and what stays to be done by hand?
//!
//! What lives here: two pure functions, from what the nodes say to what is still waited for, and from what is
//! known to the checklist. What does not: waiting (the module asks again, for at most
//! [`SETTLE_LIMIT`]).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::gates::{PointFacts, RestorePolicy, platform_host, some_pods};
use super::preflight;
use super::probe::NodeFacts;
use super::target::{Look, TargetFacts};

/// How long a cluster may take to become green after a restore.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What must hold after the restore.
#[derive(Debug, Clone, Default)]
pub struct SettleExpect {
    /// The PCE version.
    pub pce_version: Option<String>,
    /// Gravity's name of the cluster, as it was before.
    pub gravity_name: Option<String>,
}

/// Whether the cluster is well again.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Settled {
    /// Nothing is waited for and nothing is wrong.
    pub green: bool,
    /// What is waited for, one sentence each.
    pub waiting_for: Vec<String>,
    /// What waiting does not mend (another version), one sentence each.
    pub wrong: Vec<String>,
}

/// Judges a cluster after a restore: Gravity calls it active, every node is healthy, no hook runs any more, every pod is completed or
/// running with all containers ready, and it is the cluster and the version that it was. What nobody could see is
/// waited for: unknown is not green. Pure.
///
/// `unreachable` are hosts that did not answer, with the reason; a node that Gravity lists as healthy all the same is not waited for.
pub fn settled(
    facts: &[NodeFacts],
    targets: &BTreeMap<String, TargetFacts>,
    unreachable: &[(String, String)],
    expect: &SettleExpect,
) -> Settled {
    let mut waiting_for: Vec<String> = Vec::new();
    let mut wrong: Vec<String> = Vec::new();
    let nodes = preflight::nodes(facts);
    let statuses: Vec<_> = nodes.iter().filter_map(|node| Some((node.host(), node.gravity.status.as_ref()?))).collect();
    if statuses.is_empty() {
        waiting_for.push("an answer of gravity status on any node".to_owned());
        waiting_for.extend(unreachable.iter().map(|(host, why)| format!("{host}, which was not reached: {why}")));
    }
    for node in nodes.iter().filter(|node| node.gravity.status.is_none()) {
        waiting_for.push(format!("gravity status on {}: {}", node.host(), node.gravity.status_error));
    }
    for (_, status) in &statuses {
        if status.degraded() || status.state != "active" {
            waiting_for.push(preflight::ill_words(status));
        } else if let Some(ill) = status.nodes.iter().find(|node| node.status != "healthy") {
            waiting_for.push(format!("the node {} {}, which is {}", ill.hostname, ill.advertise_ip, ill.status));
        }
        waiting_for.extend(status.active_operations.iter().map(|what| format!("the end of an operation: {what}")));
    }
    let mut versions: Vec<&str> = Vec::new();
    for (host, status) in &statuses {
        if let Some(expected) = &expect.gravity_name
            && !status.name.is_empty()
            && status.name != *expected
        {
            wrong.push(format!("the cluster is called {} now on {host}, and was {expected}", status.name));
        }
        if !status.app_version.is_empty() && !versions.contains(&status.app_version.as_str()) {
            versions.push(&status.app_version);
        }
    }
    if let Some(expected) = &expect.pce_version {
        if versions.is_empty() {
            waiting_for.push("the PCE version".to_owned());
        }
        for version in versions.iter().filter(|version| **version != expected) {
            wrong.push(format!("the cluster runs PCE {version} now, and was {expected}"));
        }
    }
    let jobs: Vec<_> = nodes.iter().filter_map(|node| node.gravity.kube_jobs.as_ref()).flatten().collect();
    if nodes.iter().all(|node| node.gravity.kube_jobs.is_none()) {
        waiting_for.push("an answer of kubectl about running hooks".to_owned());
    }
    waiting_for.extend(
        jobs.iter().filter(|job| job.is_hook() && job.active).map(|job| format!("the end of the hook {}", job.name)),
    );
    let jobs: Vec<_> = jobs.into_iter().cloned().collect();
    // Pods are the same from every node: the first answer counts.
    match targets.values().find_map(|target| target.pods.seen()) {
        Some(pods) if pods.total == 0 => waiting_for.push("any pod at all".to_owned()),
        Some(pods) => {
            let ill = pods.not_well(&jobs);
            if !ill.is_empty() {
                waiting_for.push(format!("{} of {} pods: {}", ill.len(), pods.total, some_pods(&ill)));
            }
        }
        None => {
            let why = targets.values().find_map(|target| match &target.pods {
                Look::Unknown(why) => Some(why.as_str()),
                Look::Seen(_) | Look::NotAsked => None,
            });
            waiting_for.push(format!("how the pods are: {}", why.unwrap_or("nobody asked")));
        }
    }
    for list in [&mut waiting_for, &mut wrong] {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|sentence| seen.insert(sentence.clone()));
    }
    Settled { green: waiting_for.is_empty() && wrong.is_empty(), waiting_for, wrong }
}

/// One row of what stays to be done by hand.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct ChecklistRow {
    /// What it is about (`NFS files`, `DNS`, …).
    pub item: String,
    /// What is known of it.
    pub known: String,
    /// What to do.
    pub todo: String,
}

/// What the checklist needs to know.
#[derive(Debug, Clone, Default)]
pub struct ChecklistFacts {
    /// AMV's data was restored by this run.
    pub amv_restored: bool,
    /// The target has AMV (`pce_amv`).
    pub has_amv: bool,
    /// NFS files were restored by this run.
    pub nfs_restored: bool,
    /// `pce_certificate_source`.
    pub certificate_source: Option<String>,
}

/// What stays to be done by hand after a restore, each with what is known: the rows of the vendor's table that Gravity does not
/// cover. What is not known is called so.
pub fn checklist(
    point: &PointFacts,
    targets: &BTreeMap<String, TargetFacts>,
    policy: &RestorePolicy,
    facts: &ChecklistFacts,
) -> Vec<ChecklistRow> {
    let mut rows = Vec::new();
    let mut row = |item: &str, known: String, todo: String| {
        rows.push(ChecklistRow { item: item.to_owned(), known, todo });
    };
    let name = platform_host(policy.platform_dns.as_deref());
    let shown = name.unwrap_or("the platform's name");

    let mut sources: Vec<String> = Vec::new();
    for target in targets.values() {
        let mounts = target.nfs_mounts.seen().into_iter().flatten().map(|mount| mount.source.clone());
        let volumes = target.nfs_volumes.seen().into_iter().flatten().map(|it| format!("{}:{}", it.server, it.path));
        for source in mounts.chain(volumes) {
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
    }
    let sources =
        if sources.is_empty() { "no NFS was seen".to_owned() } else { format!("seen: {}", sources.join(", ")) };
    if facts.nfs_restored {
        row(
            "NFS files",
            format!("restored by this run; {sources}"),
            "compare a file or two with the source".to_owned(),
        );
    } else {
        row(
            "NFS files",
            format!("not restored by this run; {sources}"),
            "restore the files on the NFS server, unless the target uses the source's own NFS".to_owned(),
        );
    }

    let mut addresses: Vec<String> = Vec::new();
    for address in targets.values().filter_map(|target| target.dns.seen()).flatten() {
        if !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    let dns = match (name, addresses.is_empty()) {
        (None, _) => "pce_platform_dns is not set, so it was not looked at".to_owned(),
        (Some(name), true) => format!("where {name} leads is not known"),
        (Some(name), false) => format!("{name} is {} on the nodes", addresses.join(" ")),
    };
    row("DNS", dns, format!("{shown} must lead to this cluster for everybody who uses it, not only for its nodes"));

    let certificate = targets.values().find_map(|target| target.certificate.seen()).map_or_else(
        || "the certificate could not be seen".to_owned(),
        |seen| {
            let end = seen
                .not_after
                .and_then(|end| jiff::Timestamp::from_second(end).ok())
                .map_or_else(|| "end not known".to_owned(), |end| format!("valid until {end}"));
            let by =
                if seen.fingerprint.is_empty() { String::new() } else { format!(", SHA-256 {}", seen.fingerprint) };
            format!("{}, {end}{by}", if seen.subject.is_empty() { "no subject" } else { &seen.subject })
        },
    );
    let key = match &facts.certificate_source {
        Some(source) => format!("its private key is kept at: {source}"),
        None => "where its private key is kept is not known; note it in pce_certificate_source".to_owned(),
    };
    row("platform certificate", certificate, format!("if it is not the one for {shown}, install it; {key}"));
    row(
        "Ops Center certificate",
        "Gravity does not save it, and ferry cannot see it".to_owned(),
        "install it anew where one of your own is used".to_owned(),
    );
    let moved = point.identity.as_ref().map_or("not known", |identity| identity.gravity_name.as_str());
    row(
        "runtimes",
        format!(
            "names and status were restored; the runtimes themselves are not in a backup (the point is of {moved})"
        ),
        "restart every Mule runtime, so that it registers at this cluster".to_owned(),
    );
    row(
        "drives",
        "what lies on the nodes' drives outside of the databases and the object store is not in a backup".to_owned(),
        "restore it from the backups of those drives, where there are any".to_owned(),
    );
    if facts.has_amv || point.amv.is_some() || facts.amv_restored {
        if facts.amv_restored {
            row(
                "Anypoint Monitoring metrics",
                "restored by this run".to_owned(),
                "open a dashboard and compare with the source".to_owned(),
            );
        } else {
            let known = match (&point.amv, facts.has_amv) {
                (Some(_), _) => "the point has them, and they were not restored by this run",
                (None, _) => "the point has none",
            };
            row(
                "Anypoint Monitoring metrics",
                known.to_owned(),
                match &point.amv {
                    Some(_) => "restore them with AMV's own script, or run the restore again with AMV".to_owned(),
                    None => "old metrics stay missing unless another point has them: ferry points list".to_owned(),
                },
            );
        }
    } else {
        row(
            "Anypoint Monitoring metrics",
            "the inventory does not say that this cluster has AMV (pce_amv)".to_owned(),
            "if it has, its metrics were not restored: set pce_amv and back it up".to_owned(),
        );
    }
    rows
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "settle_tests.rs"]
mod tests;
