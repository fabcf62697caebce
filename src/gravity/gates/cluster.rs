//! The target: of which PCE version it is, and which cluster.

use super::super::preflight::{self, ClusterIdentity, Node};
use super::super::probe::{NO_GRAVITY, NodeFacts, PCE_4, is_pce_4};
use super::super::status::ClusterStatus;
use super::{PointFacts, RestorePolicy, Table, View};

pub(super) fn version(point: &PointFacts, view: &View<'_>, policy: &RestorePolicy, table: &mut Table<'_>) {
    const WHY: &str = "the vendor restores a backup into exactly the PCE version that it came from, and Gravity itself checks nothing";
    const LOOK: &str = "sudo gravity status; sudo gravity site info --output=json on a main node";
    let before = table.rows.len();
    let mut seen: Vec<(&str, Vec<&str>)> = Vec::new();
    for node in &view.ours {
        let Some(status) = &node.gravity.status else { continue };
        if status.app_version.is_empty() {
            continue;
        }
        match seen.iter_mut().find(|(known, _)| *known == status.app_version) {
            Some((_, hosts)) => hosts.push(node.host()),
            None => seen.push((&status.app_version, vec![node.host()])),
        }
    }
    if seen.len() > 1 {
        let parts: Vec<String> =
            seen.iter().map(|(version, hosts)| format!("{version} on {}", hosts.join(", "))).collect();
        table.refuse(
            "version",
            None,
            format!("the nodes do not agree on the PCE version: {}", parts.join("; ")),
            WHY,
            "sudo gravity plan on a main node: an upgrade may have stopped half way",
        );
    }
    let target = seen.first().map(|(version, _)| *version);
    if let (Some(expected), Some(target)) = (&policy.pce_version, target)
        && expected != target
    {
        table.refuse(
            "version",
            None,
            format!("the target runs PCE {target}, but pce_version says {expected}"),
            WHY,
            format!("correct pce_version of {}, or its hosts", table.group),
        );
    }
    let source = point.pce_version.as_deref().filter(|version| !version.is_empty());
    match (source, target) {
        (Some(source), Some(target)) if source != target => table.refuse(
            "version",
            None,
            format!("the point is of PCE {source}, the target runs PCE {target}"),
            WHY,
            format!("install PCE {source} on the target, or choose a point of PCE {target}: ferry points list"),
        ),
        (Some(_), Some(_)) => {}
        (None, _) => table.refuse(
            "version",
            None,
            "the point does not say which PCE version it is of",
            WHY,
            "ferry points list; choose a point that says its version",
        ),
        (_, None) => table.refuse("version", None, "the target's PCE version could not be seen", WHY, LOOK),
    }
    if table.rows.len() == before {
        table.pass("version", None, format!("PCE {} on both sides", target.unwrap_or_default()));
    }
    let gravity = view.identity.as_ref().and_then(|identity| identity.gravity_version.as_deref());
    if let (Some(source), Some(target)) = (point.gravity_version.as_deref(), gravity)
        && source != target
    {
        table.warn(
            "version",
            None,
            format!("the point is of Gravity {source}, the target runs Gravity {target}"),
            "the same PCE version normally brings the same Gravity",
            "gravity version on both sides",
        );
    }
}

/// Whether this is the cluster that the point was made of; `None` where it cannot be told.
pub(super) fn same_cluster(source: &ClusterIdentity, target: &ClusterIdentity) -> Option<bool> {
    if let (Some(a), Some(b)) = (&source.kube_system_uid, &target.kube_system_uid) {
        return Some(a == b);
    }
    if source.gravity_name.is_empty() || target.gravity_name.is_empty() {
        return None;
    }
    if source.gravity_name != target.gravity_name {
        return Some(false);
    }
    if source.advertise_addresses.is_empty() || target.advertise_addresses.is_empty() {
        return None;
    }
    Some(source.advertise_addresses.iter().any(|address| target.advertise_addresses.contains(address)))
}

fn words(identity: &ClusterIdentity) -> String {
    let uid = identity
        .kube_system_uid
        .as_deref()
        .map_or_else(|| "kube-system uid not known".to_owned(), |uid| format!("kube-system uid {uid}"));
    let at = if identity.advertise_addresses.is_empty() {
        "addresses not known".to_owned()
    } else {
        format!("nodes {}", identity.advertise_addresses.join(" "))
    };
    format!(
        "{} ({uid}, {at})",
        if identity.gravity_name.is_empty() { "without a name" } else { &identity.gravity_name }
    )
}

/// Whether a node is known to belong to the cluster that the reference describes: a guess is not enough to restore over it.
fn belongs(node: &Node<'_>, view: &View<'_>, reference: &ClusterStatus) -> bool {
    let uid = view.identity.as_ref().and_then(|identity| identity.kube_system_uid.as_ref());
    if let (Some(own), Some(uid)) = (&node.gravity.kube_uid, uid) {
        return own == uid;
    }
    let listed = || {
        reference.nodes.iter().any(|seen| {
            preflight::host_of(view.ours.iter().map(|node| node.facts), seen)
                .is_some_and(|facts| std::ptr::eq(facts, node.facts))
        })
    };
    match node.name() {
        Some(name) if name != reference.name => false,
        Some(_) => {
            let own = node.addresses();
            reference.nodes.iter().any(|seen| own.contains(&seen.advertise_ip.as_str())) || listed()
        }
        None => listed(),
    }
}

pub(super) fn identity(
    point: &PointFacts,
    facts: &[NodeFacts],
    unreachable: &[(String, String)],
    view: &View<'_>,
    policy: &RestorePolicy,
    table: &mut Table<'_>,
) {
    const WHY: &str = "a restore overwrites everything that the target has";
    let group = table.group.to_owned();
    let inventory = format!("check the group {group} in the inventory: ferry inventory graph");
    if facts.is_empty() {
        let what = if unreachable.is_empty() { "there is no host to look at" } else { "no host was reached" };
        table.refuse("identity", None, what, "nothing is known about the target", format!("ferry ping {group}"));
    }
    for host in facts.iter().filter(|facts| facts.gravity.is_none()) {
        let why = host.not_gravity.as_deref().unwrap_or("it is no Gravity node");
        if view.nodes.is_empty() {
            let text = if policy.pce_version.as_deref().is_some_and(is_pce_4) && !why.contains(PCE_4) {
                format!("{why}; pce_version is {}. {PCE_4}", policy.pce_version.as_deref().unwrap_or_default())
            } else {
                why.to_owned()
            };
            table.refuse(
                "identity",
                Some(&host.host),
                text,
                "gravity restore needs a main node of a Gravity cluster (PCE up to 3.2)",
                inventory.clone(),
            );
        } else if why.starts_with(NO_GRAVITY) && host.kubernetes.is_none() {
            table.pass("identity", Some(&host.host), "no Gravity node; not used for this restore");
        } else {
            table.refuse(
                "identity",
                Some(&host.host),
                why,
                "every host of the group that runs a cluster must be a node of the one that is restored",
                format!("take the host out of the group {group}, or join it to the cluster: ferry inventory graph"),
            );
        }
    }
    if view.groups.len() > 1 {
        let parts: Vec<String> = view
            .groups
            .iter()
            .filter_map(|nodes| {
                let hosts: Vec<&str> = nodes.iter().map(Node::host).collect();
                let verb = if hosts.len() == 1 { "belongs" } else { "belong" };
                nodes.first().map(|first| format!("{} {verb} to {}", hosts.join(", "), first.describe()))
            })
            .collect();
        table.refuse(
            "identity",
            None,
            format!("the hosts of {group} are not one cluster: {}", parts.join("; ")),
            WHY,
            format!("take the stray host out of the group {group}: ferry inventory graph"),
        );
    }
    let Some((target, reference)) = view.identity.as_ref().zip(view.reference) else {
        if !view.nodes.is_empty() {
            table.refuse(
                "identity",
                None,
                "no node could tell which cluster this is",
                WHY,
                "sudo gravity status on a main node",
            );
        }
        return;
    };
    for node in view.ours.iter().filter(|node| !belongs(node, view, reference)) {
        table.refuse(
            "identity",
            Some(node.host()),
            format!("it cannot be told that this node belongs to {}", words(target)),
            WHY,
            format!("sudo gravity status on the node; take it out of the group {group} if it is another cluster's"),
        );
    }
    if target.gravity_name.is_empty() {
        table.refuse(
            "identity",
            None,
            "gravity status does not say the target's name",
            WHY,
            "sudo gravity status on a main node; kubectl -n kube-system get pods -l app=gravity-site",
        );
    }
    if let Some(expected) = &policy.pce_cluster_name
        && *expected != target.gravity_name
    {
        table.refuse(
            "identity",
            None,
            format!("the target is {}, but pce_cluster_name says {expected}", words(target)),
            WHY,
            format!("correct pce_cluster_name of {group}, or its hosts"),
        );
    }
    if !reference.app_name.is_empty() && reference.app_name != "anypoint" {
        table.warn(
            "identity",
            None,
            format!("the cluster image is {}, not anypoint", reference.app_name),
            "ferry is made for Anypoint Platform PCE",
            "sudo gravity status on a main node",
        );
    }
    let Some(source) = &point.identity else {
        table.refuse(
            "identity",
            None,
            "the point does not say which cluster it was made of",
            "so it cannot be told whether the target is that cluster",
            "ferry points list; choose a point that says its cluster",
        );
        return;
    };
    match (same_cluster(source, target), policy.in_place) {
        (Some(false), false) => {
            if source.gravity_name == target.gravity_name {
                table.warn(
                    "identity",
                    None,
                    format!("the target has the name of the point's own cluster, but is another: {}", words(target)),
                    "it may have been installed anew since the point was made",
                    format!("compare: the point is of {}", words(source)),
                );
            }
            table.pass("identity", None, format!("the target is {}; the point is of {}", words(target), words(source)));
        }
        (Some(true), true) => {
            table.pass("identity", None, format!("the target is {}, the point's own cluster", words(target)));
        }
        (None, true) => table.warn(
            "identity",
            None,
            format!(
                "the target is taken for the point's own cluster, as --in-place says: it is {}, the point is of {}",
                words(target),
                words(source)
            ),
            "whether it is cannot be told from what is known of both",
            "make kubectl answer on a main node, so that the uid of kube-system tells",
        ),
        (Some(true), false) => table.refuse(
            "identity",
            None,
            format!("the target is the cluster that the point was made of: {}", words(target)),
            "everything that was done there since the point was made would be lost",
            "add --in-place if that is meant, else choose another target with --to",
        ),
        (None, false) => table.refuse(
            "identity",
            None,
            format!(
                "it cannot be told whether the target is the point's own cluster: the target is {}, the point is of {}",
                words(target),
                words(source)
            ),
            "everything that was done there since the point was made would be lost",
            "add --in-place if it is; else make kubectl answer on a main node, so that the uid of kube-system tells",
        ),
        (Some(false), true) => table.refuse(
            "identity",
            None,
            format!(
                "--in-place was given, but the target is another cluster: {}; the point is of {}",
                words(target),
                words(source)
            ),
            WHY,
            "leave --in-place out if that target is meant, else correct --to",
        ),
    }
}
