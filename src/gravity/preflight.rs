//! May this cluster be backed up now, and on which node?
//!
//! What lives here: one pure function from what was seen to findings and a choice. What does not:
//! seeing it (probe), waiving (the playbook's module takes `--waive` off the findings), locks
//! (the watch). A node is chosen even where a gate that can be waived says no, so that a waiver has
//! something to go on with.

use std::cmp::Reverse;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use super::probe::{Disk, GravityFacts, NO_GRAVITY, NodeFacts, PCE_4, is_pce_4};
use super::status::{ClusterStatus, StatusNode};
use crate::event::{Finding, Severity};

/// What the operator and the catalog say about this backup.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The inventory's name of the cluster: for texts.
    pub cluster: String,
    /// `pce_cluster_name`: must equal Gravity's name when set.
    pub pce_cluster_name: Option<String>,
    /// `pce_version`: must equal the version that is seen when set.
    pub pce_version: Option<String>,
    /// `pce_require_healthy`: a degraded cluster is a refusal.
    pub require_healthy: bool,
    /// How many bytes the archive may have, 1.3 times the largest of the last points; `None` at the first backup.
    pub expected_archive: Option<u64>,
    /// The same for what the hook collects before it is packed.
    pub expected_staging: Option<u64>,
    /// Hook jobs that are known to be ours: they may run.
    pub ferry_hook_jobs: Vec<String>,
    /// False when no `gravity backup` will be started (`--only amv`): space is not looked at then.
    pub needs_gravity_job: bool,
}

/// A Gravity master, and the inventory's host that it is.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// The inventory's name; `None` when no host of the inventory could be matched.
    pub host: Option<String>,
    /// The address that it announces.
    pub advertise_ip: String,
    /// Its own name.
    pub hostname: String,
}

/// Which cluster it is: what a manifest keeps and a restore compares.
#[derive(Serialize, serde::Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// Gravity's name of the cluster.
    pub gravity_name: String,
    /// The uid of the namespace `kube-system`, when kubectl gave one.
    pub kube_system_uid: Option<String>,
    /// The addresses that the nodes announce, in numerical order.
    pub advertise_addresses: Vec<String>,
    /// The version of the cluster image.
    pub pce_version: Option<String>,
    /// Gravity's version.
    pub gravity_version: Option<String>,
}

/// The outcome of the look at a cluster.
#[derive(Serialize, Clone, Debug)]
pub struct Preflight {
    /// What was found, gate by gate: refusals, warnings, and what passed.
    pub findings: Vec<Finding>,
    /// The inventory's host on which the backup runs. There may be one in spite of a refusal, for the case that it is waived.
    pub node: Option<String>,
    /// Why that one, and why not the others; or why none.
    pub why_node: String,
    /// Where the archive is made on that node.
    pub work_dir: Option<String>,
    /// Gravity's masters in order of advertise address.
    pub masters: Vec<Master>,
    /// The cluster; `None` when no node could tell.
    pub cluster: Option<ClusterIdentity>,
    /// The status that the conclusions rest on, without secrets (see [`ClusterStatus::summary`]); null when there is none.
    pub status: Value,
}

impl Preflight {
    /// True when a gate said no. Waivers are not looked at here.
    pub fn refused(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Refuse)
    }
}

/// Gates of this room that `--waive` takes.
const WAIVABLE: [&str; 3] = ["health", "space", "clock"];

/// From this part of a disk on, Gravity warns; from the second on, it calls the node degraded.
const WARN_PERCENT: u64 = 80;
const REFUSE_PERCENT: u64 = 90;
/// What must be free when nothing is known about the size.
const FREE_PERCENT: u64 = 25;
/// Clocks that are further apart than this many seconds are told.
pub(super) const SKEW: i64 = 60;

#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    fn add(&mut self, gate: &str, severity: Severity, host: Option<&str>, what: String, why: &str, mend: String) {
        let mut mend = mend;
        if severity == Severity::Refuse && WAIVABLE.contains(&gate) {
            let waive = format!("--waive {gate}=REASON");
            mend = if mend.is_empty() { waive } else { format!("{mend}\nor go on with {waive}") };
        }
        let host = host.map(str::to_owned);
        self.0.push(Finding { gate: gate.to_owned(), severity, host, what, why: why.to_owned(), mend });
    }
    fn pass(&mut self, gate: &str, host: Option<&str>, what: impl Into<String>) {
        self.add(gate, Severity::Pass, host, what.into(), "", String::new());
    }
    fn warn(&mut self, gate: &str, host: Option<&str>, what: impl Into<String>, why: &str, mend: impl Into<String>) {
        self.add(gate, Severity::Warn, host, what.into(), why, mend.into());
    }
    fn refuse(&mut self, gate: &str, host: Option<&str>, what: impl Into<String>, why: &str, mend: impl Into<String>) {
        self.add(gate, Severity::Refuse, host, what.into(), why, mend.into());
    }
}

/// Judges what the nodes of a cluster said. `facts` are the hosts that answered, `unreachable`
/// those that did not, each with the reason. Pure: the same input gives the same answer.
///
/// Gates: `identity`, `version`, `active`, `lock` (nothing waives them), `health`, `space`,
/// `clock` (waivable), `staging` (only ever a warning).
pub fn preflight(facts: &[NodeFacts], unreachable: &[(String, String)], policy: &Policy) -> Preflight {
    let mut found = Findings::default();
    let nodes = nodes(facts);

    not_gravity(facts, unreachable, nodes.is_empty(), policy, &mut found);
    let groups = clusters(&nodes);
    stray(&groups, policy, &mut found);
    let ours = ours(&groups, policy.pce_cluster_name.as_deref());
    let reference = reference(&ours);

    for node in &nodes {
        staging(node, policy, &mut found);
    }
    for facts in facts {
        clock(facts, &mut found);
    }
    let Some(reference) = reference else {
        return without_status(&ours, unreachable, found);
    };

    let identity = identity(&ours, reference);
    names(&identity, reference, policy, &mut found);
    versions(&ours, &identity, policy, &mut found);
    active(&ours, policy, &mut found);
    health(&ours, reference, policy, &mut found);

    let masters = masters(&ours, facts, unreachable);
    lock(&masters, &ours, unreachable, &mut found);
    let choice = choose(&ours, reference, policy, &mut found);
    for (host, why) in unreachable {
        let what = format!("not reached: {why}");
        match &choice.node {
            Some(node) => found.warn(
                "health",
                Some(host),
                what,
                "it is not needed for this backup; the summary and the manifest name it",
                format!("ferry ping {host} (the backup runs on {node})"),
            ),
            None => found.warn(
                "health",
                Some(host),
                what,
                "a node that could be used may be this one",
                format!("ferry ping {host}"),
            ),
        }
    }
    Preflight {
        findings: found.0,
        node: choice.node,
        why_node: choice.why,
        work_dir: choice.work_dir,
        masters,
        cluster: Some(identity),
        status: reference.summary(),
    }
}

/// The cluster that the inventory names, else the one that most hosts belong to.
pub(super) fn ours<'a>(groups: &[Vec<Node<'a>>], pce_cluster_name: Option<&str>) -> Vec<Node<'a>> {
    let named = |group: &&Vec<Node<'_>>| {
        let name = group.iter().find_map(|node| node.name());
        pce_cluster_name.is_some() && name == pce_cluster_name
    };
    groups
        .iter()
        .find(named)
        .or_else(|| groups.iter().rev().max_by_key(|group| group.len()))
        .cloned()
        .unwrap_or_default()
}

/// The status that conclusions rest on: the one that knows most.
pub(super) fn reference<'a>(ours: &[Node<'a>]) -> Option<&'a ClusterStatus> {
    ours.iter()
        .filter_map(|node| node.gravity.status.as_ref())
        .rev()
        .max_by_key(|status| (!status.name.is_empty(), masters_in(status), status.nodes.len()))
}

/// The hosts that are Gravity nodes.
pub(super) fn nodes(facts: &[NodeFacts]) -> Vec<Node<'_>> {
    facts.iter().filter_map(|facts| facts.gravity.as_ref().map(|gravity| Node { facts, gravity })).collect()
}

/// A host that is a Gravity node.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) facts: &'a NodeFacts,
    pub(super) gravity: &'a GravityFacts,
}

impl<'a> Node<'a> {
    pub(super) fn host(&self) -> &'a str {
        &self.facts.host
    }
    pub(super) fn name(&self) -> Option<&'a str> {
        self.gravity.status.as_ref().map(|status| status.name.as_str()).filter(|name| !name.is_empty())
    }
    pub(super) fn addresses(&self) -> Vec<&'a str> {
        let Some(status) = &self.gravity.status else { return Vec::new() };
        status.nodes.iter().map(|node| node.advertise_ip.as_str()).filter(|ip| !ip.is_empty()).collect()
    }
    /// Whether both can be nodes of one cluster. What one of them does not know decides nothing.
    fn same_cluster(&self, other: &Node<'_>) -> bool {
        if let (Some(a), Some(b)) = (&self.gravity.kube_uid, &other.gravity.kube_uid)
            && a != b
        {
            return false;
        }
        if let (Some(a), Some(b)) = (self.name(), other.name())
            && a != b
        {
            return false;
        }
        let (a, b) = (self.addresses(), other.addresses());
        let same_uid = self.gravity.kube_uid.is_some() && self.gravity.kube_uid == other.gravity.kube_uid;
        same_uid || a.is_empty() || b.is_empty() || a.iter().any(|ip| b.contains(ip))
    }
    pub(super) fn describe(&self) -> String {
        let uid = self.gravity.kube_uid.as_deref().map(|uid| format!(", kube-system uid {uid}")).unwrap_or_default();
        let addresses = self.addresses();
        let at = if addresses.is_empty() { String::new() } else { format!(", nodes {}", addresses.join(" ")) };
        format!("{}{uid}{at}", self.name().unwrap_or("a cluster that gave no name"))
    }
}

/// Hosts without a cluster: one such host beside Gravity nodes may be meant (an NFS server), none but such is not.
fn not_gravity(
    facts: &[NodeFacts],
    unreachable: &[(String, String)],
    alone: bool,
    policy: &Policy,
    found: &mut Findings,
) {
    for host in facts.iter().filter(|facts| facts.gravity.is_none()) {
        let why = host.not_gravity.as_deref().unwrap_or("it is no Gravity node");
        if alone {
            let set = policy.pce_version.as_deref().filter(|version| is_pce_4(version));
            found.refuse(
                "identity",
                Some(&host.host),
                match set {
                    Some(version) if why.contains(PCE_4) => format!("pce_version is {version}: {why}"),
                    Some(version) => format!("pce_version is {version}, and {why}. {PCE_4}"),
                    None => why.to_owned(),
                },
                "a backup needs a main node of a Gravity cluster (PCE up to 3.2)",
                format!("check the group {} in the inventory: ferry inventory graph", policy.cluster),
            );
        } else if why.starts_with(NO_GRAVITY) {
            found.pass("identity", Some(&host.host), "no Gravity node; not used for this backup");
        } else {
            found.warn(
                "identity",
                Some(&host.host),
                why,
                "it is not used for this backup",
                "sudo gravity status on that host",
            );
        }
    }
    if facts.is_empty() {
        let what = if unreachable.is_empty() { "there is no host to look at" } else { "no host was reached" };
        found.refuse(
            "identity",
            None,
            what,
            "nothing is known about the cluster",
            format!("ferry ping {}", policy.cluster),
        );
    }
}

/// Sorts the nodes into clusters.
pub(super) fn clusters<'a>(nodes: &[Node<'a>]) -> Vec<Vec<Node<'a>>> {
    let mut groups: Vec<Vec<Node<'a>>> = Vec::new();
    // Those that know most come first, so that one without an answer joins a cluster instead of making one.
    let mut order: Vec<&Node<'a>> = nodes.iter().collect();
    order.sort_by_key(|node| Reverse((node.name().is_some(), node.gravity.kube_uid.is_some())));
    for node in order {
        match groups.iter_mut().find(|group| group.iter().all(|other| other.same_cluster(node))) {
            Some(group) => group.push(*node),
            None => groups.push(vec![*node]),
        }
    }
    // Back in the inventory's order.
    for group in &mut groups {
        group.sort_by_key(|node| nodes.iter().position(|other| std::ptr::eq(other.facts, node.facts)));
    }
    groups
}

fn stray(groups: &[Vec<Node<'_>>], policy: &Policy, found: &mut Findings) {
    if groups.len() < 2 {
        return;
    }
    let parts: Vec<String> = groups
        .iter()
        .filter_map(|group| {
            let hosts: Vec<&str> = group.iter().map(Node::host).collect();
            let verb = if hosts.len() == 1 { "belongs" } else { "belong" };
            group.first().map(|first| format!("{} {verb} to {}", hosts.join(", "), first.describe()))
        })
        .collect();
    found.refuse(
        "identity",
        None,
        format!("the hosts of {} are not one cluster: {}", policy.cluster, parts.join("; ")),
        "a backup of one cluster must not be kept under the name of another",
        format!("take the stray host out of the group {}: ferry inventory graph", policy.cluster),
    );
}

fn staging(node: &Node<'_>, policy: &Policy, found: &mut Findings) {
    let jobs = node.gravity.kube_jobs.as_deref().unwrap_or_default();
    let running: Vec<&str> =
        jobs.iter().filter(|job| job.is_hook() && job.active).map(|job| job.name.as_str()).collect();
    let ours = !running.is_empty() && running.iter().all(|name| policy.ferry_hook_jobs.iter().any(|job| job == name));
    for staging in &node.gravity.staging {
        let age = if staging.mtime > 0 {
            format!(", last changed {} ago", span(node.facts.epoch.saturating_sub(staging.mtime)))
        } else {
            String::new()
        };
        let what = format!("{} holds {}{age}", staging.path, size(staging.kib));
        if ours {
            found.pass("staging", Some(node.host()), format!("{what}; in use by {}", running.join(", ")));
        } else if running.is_empty() {
            found.warn(
                "staging",
                Some(node.host()),
                format!("left behind by a hook: {what}"),
                "it takes space on Gravity's disk and holds the cluster's data unencrypted",
                format!("ferry jobs clean --staging {}   (it asks, and removes only what no job uses)", node.host()),
            );
        } else {
            found.warn(
                "staging",
                Some(node.host()),
                format!("{what}; it may be in use by {}", running.join(", ")),
                "a running hook may be writing there",
                "kubectl -n kube-system get jobs; do not remove it while one is active",
            );
        }
    }
}

fn clock(facts: &NodeFacts, found: &mut Findings) {
    let skew = facts.epoch.saturating_sub(facts.read_at.as_second());
    if skew.abs() > SKEW {
        let way = if skew > 0 { "ahead of" } else { "behind" };
        found.warn(
            "clock",
            Some(&facts.host),
            format!("its clock is {} {way} ours", span(skew.abs())),
            "clusters need equal clocks, and times in logs and points are compared across machines",
            "timedatectl on the node and here; chronyc tracking",
        );
    }
}

/// No node gave a status: nothing can be concluded, so nothing is chosen.
fn without_status(ours: &[Node<'_>], unreachable: &[(String, String)], mut found: Findings) -> Preflight {
    for node in ours {
        let error = if node.gravity.status_error.is_empty() { "no answer" } else { &node.gravity.status_error };
        let low = error.to_lowercase();
        let (why, mend) = if node.facts.uid != 0 && (low.contains("permission denied") || low.contains("as root")) {
            ("gravity must be run as root", "set ansible_become: true for the main nodes, or -b")
        } else if low.contains("etcd") {
            (
                "Gravity cannot read the cluster's state without etcd",
                "sudo gravity exec etcdctl cluster-health on the node",
            )
        } else {
            ("without a status neither the cluster nor its masters are known", "sudo gravity status on the node")
        };
        // Written by hand: nothing that could be waived is known here.
        found.0.push(Finding {
            gate: "health".to_owned(),
            severity: Severity::Refuse,
            host: Some(node.host().to_owned()),
            what: format!("gravity status gave nothing to go by (code {}): {error}", node.gravity.status_rc),
            why: why.to_owned(),
            mend: mend.to_owned(),
        });
    }
    for (host, why) in unreachable {
        found.warn(
            "health",
            Some(host),
            format!("not reached: {why}"),
            "a node that could be used may be this one",
            format!("ferry ping {host}"),
        );
    }
    Preflight {
        findings: found.0,
        node: None,
        why_node: if ours.is_empty() {
            "no Gravity node was seen".to_owned()
        } else {
            "no node could tell which cluster this is".to_owned()
        },
        work_dir: None,
        masters: Vec::new(),
        cluster: None,
        status: Value::Null,
    }
}

pub(super) fn identity(ours: &[Node<'_>], reference: &ClusterStatus) -> ClusterIdentity {
    let mut addresses: Vec<String> = ours.iter().flat_map(Node::addresses).map(str::to_owned).collect();
    addresses.sort_by(|a, b| by_address(a, b));
    addresses.dedup();
    ClusterIdentity {
        gravity_name: reference.name.clone(),
        kube_system_uid: ours.iter().find_map(|node| node.gravity.kube_uid.clone()),
        advertise_addresses: addresses,
        pce_version: Some(reference.app_version.clone()).filter(|version| !version.is_empty()).or_else(|| {
            let versions = ours.iter().filter_map(|node| node.gravity.status.as_ref());
            versions.map(|status| status.app_version.clone()).find(|version| !version.is_empty())
        }),
        gravity_version: reference
            .server_version
            .clone()
            .or_else(|| ours.iter().find_map(|node| node.gravity.version.clone()))
            .or_else(|| reference.client_version.clone()),
    }
}

fn names(identity: &ClusterIdentity, reference: &ClusterStatus, policy: &Policy, found: &mut Findings) {
    let uid = identity
        .kube_system_uid
        .as_deref()
        .map_or_else(|| "kube-system uid not known".to_owned(), |uid| format!("kube-system uid {uid}"));
    match &policy.pce_cluster_name {
        _ if identity.gravity_name.is_empty() => found.refuse(
            "identity",
            None,
            "gravity status does not say the cluster's name",
            "what cannot be named cannot be compared before a restore",
            "sudo gravity status on a main node; kubectl -n kube-system get pods -l app=gravity-site",
        ),
        Some(expected) if *expected != identity.gravity_name => found.refuse(
            "identity",
            None,
            format!("the cluster is {}, but pce_cluster_name says {expected}", identity.gravity_name),
            "a backup of one cluster must not be kept under the name of another",
            format!("correct pce_cluster_name of {}, or its hosts", policy.cluster),
        ),
        _ => found.pass("identity", None, format!("Gravity cluster {}, {uid}", identity.gravity_name)),
    }
    if !reference.app_name.is_empty() && reference.app_name != "anypoint" {
        found.warn(
            "identity",
            None,
            format!("the cluster image is {}, not anypoint", reference.app_name),
            "ferry is made for Anypoint Platform PCE",
            "sudo gravity status on a main node",
        );
    }
}

fn versions(ours: &[Node<'_>], identity: &ClusterIdentity, policy: &Policy, found: &mut Findings) {
    let gravity = identity.gravity_version.as_deref().unwrap_or("version not known");
    match (&policy.pce_version, &identity.pce_version) {
        (Some(expected), Some(seen)) if expected != seen => found.refuse(
            "version",
            None,
            format!("the cluster runs PCE {seen}, but pce_version says {expected}"),
            "a backup can only be restored into the version that it came from",
            format!("set pce_version: {seen} for {} if the upgrade was meant", policy.cluster),
        ),
        (Some(expected), None) => found.refuse(
            "version",
            None,
            format!("the PCE version could not be seen, and pce_version says {expected}"),
            "a backup can only be restored into the version that it came from",
            "sudo gravity site info --output=json on a main node",
        ),
        (None, None) => found.warn(
            "version",
            None,
            "the PCE version could not be seen",
            "a restore compares it; the point will be kept without one",
            "sudo gravity site info --output=json on a main node",
        ),
        (_, Some(seen)) => found.pass("version", None, format!("PCE {seen}, Gravity {gravity}")),
    }
    let mut seen: Vec<(&str, Vec<&str>)> = Vec::new();
    for node in ours {
        let Some(version) = node.gravity.version.as_deref() else { continue };
        match seen.iter_mut().find(|(known, _)| *known == version) {
            Some((_, hosts)) => hosts.push(node.host()),
            None => seen.push((version, vec![node.host()])),
        }
    }
    if seen.len() > 1 {
        let parts: Vec<String> =
            seen.iter().map(|(version, hosts)| format!("{version} on {}", hosts.join(", "))).collect();
        found.warn(
            "version",
            None,
            format!("the nodes have different versions of Gravity: {}", parts.join("; ")),
            "an upgrade may have stopped half way",
            "sudo gravity plan on a main node",
        );
    }
}

/// States in which Gravity works on the cluster itself.
pub(super) fn busy(state: &str) -> bool {
    state.starts_with("updating")
        || matches!(
            state,
            "installing" | "expanding" | "shrinking" | "uninstalling" | "reconfiguring" | "collecting_garbage"
        )
}

fn active(ours: &[Node<'_>], policy: &Policy, found: &mut Findings) {
    let mut quiet = true;
    let mut told: Vec<String> = Vec::new();
    for status in ours.iter().filter_map(|node| node.gravity.status.as_ref()) {
        let mut doing: Vec<String> = status.active_operations.clone();
        if busy(&status.state) {
            doing.insert(0, format!("the cluster is {}", status.state));
        }
        for what in doing {
            if !told.contains(&what) {
                told.push(what);
            }
        }
    }
    for what in told {
        quiet = false;
        found.refuse(
            "active",
            None,
            format!("an operation runs: {what}"),
            "nodes, versions and data change under it; a backup taken now may not be restorable",
            "wait for its end: sudo gravity plan, sudo gravity status on a main node",
        );
    }
    let mut jobs: Vec<(&str, &super::status::KubeJob)> = Vec::new();
    let mut answered = false;
    for node in ours {
        let Some(seen) = &node.gravity.kube_jobs else { continue };
        answered = true;
        for job in seen.iter().filter(|job| job.is_hook() && job.active) {
            if !jobs.iter().any(|(_, known)| known.name == job.name) {
                jobs.push((node.host(), job));
            }
        }
    }
    for (_, job) in jobs {
        let since = job.started.as_deref().map(|at| format!(" since {at}")).unwrap_or_default();
        if policy.ferry_hook_jobs.contains(&job.name) {
            found.pass("active", None, format!("the hook {} runs{since}; it is ferry's own", job.name));
            continue;
        }
        quiet = false;
        found.refuse(
            "active",
            None,
            format!("the hook {} runs{since}, and it is not ferry's", job.name),
            "Gravity has no lock: two backups, or a backup and a restore, would run into each other",
            format!(
                "kubectl -n kube-system logs job/{name} --all-containers; wait for its end, or: kubectl -n kube-system delete job {name}",
                name = job.name
            ),
        );
    }
    if !answered {
        found.warn(
            "active",
            None,
            "kubectl did not answer on any node, so running hooks cannot be seen",
            "Gravity has no lock: another backup or restore may be running",
            "sudo kubectl -n kube-system get jobs on a main node",
        );
    } else if quiet {
        found.pass("active", None, "no operation and no foreign hook is running");
    }
}

fn health(ours: &[Node<'_>], reference: &ClusterStatus, policy: &Policy, found: &mut Findings) {
    let statuses: Vec<(&str, &ClusterStatus)> =
        ours.iter().filter_map(|node| Some((node.host(), node.gravity.status.as_ref()?))).collect();
    for node in ours.iter().filter(|node| node.gravity.status.is_none()) {
        found.warn(
            "health",
            Some(node.host()),
            format!("gravity status gave nothing to go by here: {}", node.gravity.status_error),
            "the other nodes tell of the cluster; this one is used last",
            "sudo gravity status on the node",
        );
    }
    // The worst view counts: a node that sees trouble is believed.
    let Some((_, status)) = statuses
        .iter()
        .find(|(_, status)| std::ptr::eq(*status, reference) && (status.degraded() || unusual(status)))
        .or_else(|| statuses.iter().find(|(_, status)| status.degraded() || unusual(status)))
    else {
        let healthy = reference.nodes.iter().filter(|node| node.status == "healthy").count();
        found.pass(
            "health",
            None,
            format!("{}, {healthy} of {} nodes healthy", reference.state, reference.nodes.len()),
        );
        return;
    };
    let what = ill_words(status);
    let why = "the data of a node that is down may be missing or old in the backup";
    let mend = "sudo gravity status on a main node says what is wrong";
    if policy.require_healthy {
        found.refuse("health", None, what, why, mend);
    } else if unusual(status) {
        found.refuse("health", None, what, "Gravity calls this cluster neither active nor degraded", mend);
    } else {
        found.warn("health", None, what, why, mend);
    }
}

/// A state that is neither good nor ill nor work in progress.
pub(super) fn unusual(status: &ClusterStatus) -> bool {
    !busy(&status.state) && !matches!(status.state.as_str(), "active" | "degraded" | "")
}

/// What is wrong with a cluster that is not well, one sentence.
pub(super) fn ill_words(status: &ClusterStatus) -> String {
    let mut parts: Vec<String> = Vec::new();
    for node in status.nodes.iter().filter(|node| node.status != "healthy") {
        let probes =
            if node.failed_probes.is_empty() { String::new() } else { format!(" ({})", node.failed_probes.join("; ")) };
        parts.push(format!(
            "{} {} is {}{probes}",
            node.hostname,
            node.advertise_ip,
            if node.status.is_empty() { "unknown" } else { &node.status }
        ));
    }
    if parts.is_empty() {
        parts.push(match status.system_status {
            None => "no node agent answered".to_owned(),
            Some(code) => format!("system status {code}"),
        });
    }
    let state = match (status.state.as_str(), &status.reason) {
        ("", _) => "in a state that Gravity does not tell".to_owned(),
        (state, Some(reason)) => format!("{state} ({reason})"),
        (state, None) if status.degraded() && state != "degraded" => format!("{state}, but degraded"),
        (state, None) => state.to_owned(),
    };
    format!("the cluster is {state}: {}", parts.join("; "))
}

fn masters_in(status: &ClusterStatus) -> usize {
    status.nodes.iter().filter(|node| node.role == "master").count()
}

/// Addresses in numerical order; what is no address comes behind, by text.
pub(super) fn by_address(a: &str, b: &str) -> std::cmp::Ordering {
    match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
        (Ok(x), Ok(y)) => x.cmp(&y),
        (Ok(_), Err(_)) => std::cmp::Ordering::Less,
        (Err(_), Ok(_)) => std::cmp::Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

/// The host that a node of the status is: by address, then by its own name, then by the
/// inventory's. Each only where exactly one host fits: behind one address translation all would.
pub(super) fn host_of<'a>(
    facts: impl Iterator<Item = &'a NodeFacts> + Clone,
    node: &StatusNode,
) -> Option<&'a NodeFacts> {
    let only = |fits: &dyn Fn(&NodeFacts) -> bool| {
        let mut all = facts.clone().filter(|facts| fits(facts));
        match (all.next(), all.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    };
    let ip = node.advertise_ip.parse::<IpAddr>().ok();
    only(&|facts| ip.is_some() && facts.addresses.iter().any(|address| address.parse::<IpAddr>().ok() == ip))
        .or_else(|| only(&|facts| !node.hostname.is_empty() && facts.hostname == node.hostname))
        .or_else(|| only(&|facts| !node.hostname.is_empty() && facts.host == node.hostname))
}

pub(super) fn masters(ours: &[Node<'_>], facts: &[NodeFacts], unreachable: &[(String, String)]) -> Vec<Master> {
    let mut masters: Vec<Master> = Vec::new();
    for status in ours.iter().filter_map(|node| node.gravity.status.as_ref()) {
        for node in status.nodes.iter().filter(|node| node.role == "master" || node.role.is_empty()) {
            if masters.iter().any(|master| master.advertise_ip == node.advertise_ip && master.hostname == node.hostname)
            {
                continue;
            }
            let host =
                host_of(ours.iter().map(|node| node.facts), node).map(|facts| facts.host.clone()).or_else(|| {
                    let names = unreachable.iter().map(|(host, _)| host).chain(facts.iter().map(|facts| &facts.host));
                    names.into_iter().find(|host| **host == node.hostname).cloned()
                });
            // A node that is offline has no role in any view. If it is one of the hosts that we work
            // on, it counts as a master: else two ferries that see different nodes offline could
            // each hold more than half.
            if node.role.is_empty() && host.is_none() {
                continue;
            }
            masters.push(Master { host, advertise_ip: node.advertise_ip.clone(), hostname: node.hostname.clone() });
        }
    }
    masters.sort_by(|a, b| by_address(&a.advertise_ip, &b.advertise_ip).then_with(|| a.hostname.cmp(&b.hostname)));
    masters
}

pub(super) fn lock(masters: &[Master], ours: &[Node<'_>], unreachable: &[(String, String)], found: &mut Findings) {
    let node_of = |master: &Master| ours.iter().find(|node| Some(node.host()) == master.host.as_deref());
    let held: Vec<&Node<'_>> = masters.iter().filter_map(node_of).collect();
    let need = masters.len() / 2 + 1;
    if masters.is_empty() {
        // The choice of a node says that there is none.
        return;
    }
    if held.len() < need {
        let missing: Vec<String> = masters
            .iter()
            .filter(|master| node_of(master).is_none())
            .map(|master| {
                let why = unreachable.iter().find(|(host, _)| Some(host) == master.host.as_ref());
                let why = why.map_or("not a host that was looked at", |(_, why)| why.as_str());
                format!("{} {} ({why})", master.hostname, master.advertise_ip)
            })
            .collect();
        found.refuse(
            "lock",
            None,
            format!(
                "{} of the cluster's {} Gravity masters can be used, and the lock needs {need}; missing: {}",
                held.len(),
                masters.len(),
                missing.join(", ")
            ),
            "one ferry at a time works on a cluster; that is only sure on more than half of the masters",
            "put all masters into the inventory's group and make them reachable: ferry ping",
        );
        return;
    }
    let mut without = false;
    for node in &held {
        if !node.facts.tools.contains("flock") {
            without = true;
            found.warn(
                "lock",
                Some(node.host()),
                "there is no flock on this node",
                "locks and jobs are then guarded by process ids alone; a helper that outlives its job is not seen",
                "install util-linux on the node",
            );
        }
    }
    if !without {
        found.pass("lock", None, format!("{} of {} Gravity masters can hold the lock", held.len(), masters.len()));
    }
}

struct Choice {
    node: Option<String>,
    why: String,
    work_dir: Option<String>,
}

/// What a backup would do to the disks of one node.
pub(super) struct Room {
    pub(super) severity: Severity,
    pub(super) work_dir: Option<String>,
    pub(super) findings: Vec<(Severity, String)>,
}

/// A Gravity master on which a backup or a restore could run.
pub(super) struct Candidate<'a> {
    pub(super) node: Node<'a>,
    pub(super) seen: &'a StatusNode,
    /// 0 healthy, 1 degraded, 2 offline or unknown.
    pub(super) ill: u8,
    pub(super) ill_word: String,
    pub(super) room: Room,
}

/// The masters that were reached, each with its state and its room; not in order yet.
pub(super) fn candidates<'a>(
    ours: &[Node<'a>],
    reference: &ClusterStatus,
    room: &dyn Fn(&Node<'_>) -> Room,
) -> Vec<Candidate<'a>> {
    let ill = |word: &str| match word {
        "healthy" => 0,
        "degraded" => 1,
        _ => 2,
    };
    let mut candidates: Vec<Candidate<'_>> = Vec::new();
    for status in ours.iter().filter_map(|node| node.gravity.status.as_ref()) {
        for seen in status.nodes.iter().filter(|node| node.role == "master") {
            let Some(facts) = host_of(ours.iter().map(|node| node.facts), seen) else { continue };
            let Some(node) = ours.iter().find(|node| std::ptr::eq(node.facts, facts)) else { continue };
            if candidates.iter().any(|candidate| std::ptr::eq(candidate.node.facts, facts)) {
                continue;
            }
            // Its state in the view that we rest on and in its own: the worse one counts.
            let own = node.gravity.status.as_ref();
            let views = [Some(reference), own, Some(status)];
            let same = |other: &&StatusNode| other.advertise_ip == seen.advertise_ip && other.hostname == seen.hostname;
            let word = views
                .iter()
                .flatten()
                .filter_map(|view| view.nodes.iter().find(same))
                .map(|view| view.status.as_str())
                .max_by_key(|word| ill(word))
                .unwrap_or("unknown");
            let word =
                if own.is_none() && word == "healthy" { "unknown (its own gravity status failed)" } else { word };
            candidates.push(Candidate {
                node: *node,
                seen,
                ill: ill(word),
                ill_word: word.to_owned(),
                room: room(node),
            });
        }
    }
    candidates
}

/// The best first: health, then room, then address.
pub(super) fn sort_candidates(candidates: &mut [Candidate<'_>]) {
    candidates.sort_by(|a, b| {
        (a.ill, a.room.severity)
            .cmp(&(b.ill, b.room.severity))
            .then_with(|| by_address(&a.seen.advertise_ip, &b.seen.advertise_ip))
    });
}

/// Why no master can be chosen.
pub(super) fn no_master(ours: &[Node<'_>]) -> String {
    let all: Vec<String> = ours
        .iter()
        .filter_map(|node| node.gravity.status.as_ref())
        .flat_map(|status| &status.nodes)
        .filter(|node| node.role == "master")
        .map(|node| format!("{} {}", node.hostname, node.advertise_ip))
        .collect();
    let mut all = all;
    all.sort();
    all.dedup();
    if all.is_empty() {
        "gravity status names no master".to_owned()
    } else {
        format!("none of the hosts that were reached is a Gravity master (masters are {})", all.join(", "))
    }
}

/// Why the others were not chosen, each with its name.
pub(super) fn why_not(candidates: &[Candidate<'_>]) -> Vec<String> {
    let Some(first) = candidates.first() else { return Vec::new() };
    let mut others: Vec<String> = Vec::new();
    for other in candidates.iter().skip(1) {
        let why = if other.ill > first.ill {
            other.ill_word.clone()
        } else if other.room.severity > first.room.severity {
            match other.room.severity {
                Severity::Refuse => "no room",
                _ => "little room",
            }
            .to_owned()
        } else {
            "higher address".to_owned()
        };
        others.push(format!("{}: {why}", other.node.host()));
    }
    others
}

fn choose(ours: &[Node<'_>], reference: &ClusterStatus, policy: &Policy, found: &mut Findings) -> Choice {
    let mut candidates = candidates(ours, reference, &|node| room(node, policy));
    if candidates.is_empty() {
        let what = no_master(ours);
        // Nothing could be chosen if it were waived.
        found.0.push(Finding {
            gate: "health".to_owned(),
            severity: Severity::Refuse,
            host: None,
            what: what.clone(),
            why: "backup and restore run on a main node".to_owned(),
            mend: format!(
                "put a master into the inventory's group {}, and look why none was reached: ferry ping",
                policy.cluster
            ),
        });
        return Choice { node: None, why: what, work_dir: None };
    }
    sort_candidates(&mut candidates);
    // Health was compared before room: want of space can be mended or waived by the operator, and a
    // sick node is never slipped in for it.
    let Some(first) = candidates.first() else {
        return Choice { node: None, why: "no master was seen".to_owned(), work_dir: None };
    };
    if first.ill > 0 {
        found.refuse(
            "health",
            Some(first.node.host()),
            format!("no healthy Gravity master was reached; the best is {} ({})", first.node.host(), first.ill_word),
            "the hook runs on the node on which it is started; a sick one may not finish it",
            "sudo gravity status on a main node says what is wrong",
        );
    }
    let state_dir = &first.node.gravity.state_dir;
    for (severity, what) in &first.room.findings {
        let mend = match severity {
            Severity::Pass => String::new(),
            _ => format!(
                "sudo du -xk --max-depth=2 {} | sort -n | tail; free space, or set pce_work_dir to a directory on a larger disk",
                crate::remote::quote(state_dir).unwrap_or_else(|_| "/var/lib/gravity".to_owned())
            ),
        };
        let why = match severity {
            Severity::Pass => "",
            _ => {
                "Gravity warns at 80 %, calls the node degraded at 90 % and evicts pods at 95 %; when the disk fills, the collected data is lost"
            }
        };
        found.add("space", *severity, Some(first.node.host()), what.clone(), why, mend);
    }
    let others = why_not(&candidates);
    let room = match (policy.needs_gravity_job, first.room.severity) {
        (false, _) => "",
        (true, Severity::Pass) => " with room",
        (true, Severity::Warn) => " with some room",
        (true, Severity::Refuse) => " without enough room",
    };
    let mut why = format!("{} Gravity master {}{room}", first.ill_word, first.seen.advertise_ip);
    if others.is_empty() {
        why.push_str("; the only one that was reached");
    } else {
        why.push_str(&format!("; not {}", others.join(", not ")));
    }
    Choice { node: Some(first.node.host().to_owned()), why, work_dir: first.room.work_dir.clone() }
}

/// The directories in which an archive may be made, in order of preference. `pce_work_dir` when
/// it was given: then the node was asked for no other.
pub(super) fn work_dirs(node: &Node<'_>) -> Vec<String> {
    let state_dir = &node.gravity.state_dir;
    let below = format!("{}/ferry", state_dir.trim_end_matches('/'));
    const DATA: &str = "/var/lib/data/ferry";
    let rank = |path: &str| match path {
        DATA => 0,
        path if path == below => 1,
        _ => 2,
    };
    let mut all: Vec<String> = node.facts.disks.keys().filter(|path| *path != state_dir).cloned().collect();
    all.sort_by_key(|path| rank(path));
    if all.is_empty() && node.facts.disks.contains_key(state_dir) {
        // pce_work_dir is the state directory itself.
        all.push(state_dir.clone());
    }
    all
}

fn room(node: &Node<'_>, policy: &Policy) -> Room {
    let candidates = work_dirs(node);
    if !policy.needs_gravity_job {
        return Room { severity: Severity::Pass, work_dir: candidates.first().cloned(), findings: Vec::new() };
    }
    let mut best: Option<Room> = None;
    for work_dir in candidates {
        let (severity, findings) = space(node, &work_dir, policy);
        if best.as_ref().is_none_or(|best| severity < best.severity) {
            best = Some(Room { severity, work_dir: Some(work_dir), findings });
        }
    }
    best.unwrap_or_else(|| Room {
        severity: Severity::Refuse,
        work_dir: None,
        findings: vec![(Severity::Refuse, "the node did not tell its disks (df)".to_owned())],
    })
}

/// Whether two answers of `df` are one disk. Names such as `tmpfs` and `overlay` stand for many.
pub(super) fn one_disk(a: &Disk, b: &Disk) -> bool {
    a.mount == b.mount || a.device == b.device && a.device.contains('/')
}

fn space(node: &Node<'_>, work_dir: &str, policy: &Policy) -> (Severity, Vec<(Severity, String)>) {
    let disks = &node.facts.disks;
    let (Some(state), Some(work)) = (disks.get(&node.gravity.state_dir), disks.get(work_dir)) else {
        let what = "the node did not tell its disks (df)".to_owned();
        return (Severity::Refuse, vec![(Severity::Refuse, what)]);
    };
    let staging = ("staging", policy.expected_staging);
    let archive = ("the archive", policy.expected_archive);
    let findings = if one_disk(state, work) {
        vec![fill(state, &[staging, archive])]
    } else {
        vec![fill(state, &[staging]), fill(work, &[archive])]
    };
    let severity = findings.iter().map(|(severity, _)| *severity).max().unwrap_or(Severity::Pass);
    (severity, findings)
}

/// What becomes of one disk when these parts (name and bytes) are added.
pub(super) fn fill(disk: &Disk, parts: &[(&str, Option<u64>)]) -> (Severity, String) {
    // As Gravity counts: what a file system keeps in reserve is not free.
    let used = disk.total_kib.saturating_sub(disk.available_kib);
    let known: u64 = parts.iter().filter_map(|(_, bytes)| *bytes).map(|bytes| bytes.div_ceil(1024)).sum();
    let unknown: Vec<&str> = parts.iter().filter(|(_, bytes)| bytes.is_none()).map(|(name, _)| *name).collect();
    let after = used.saturating_add(known);
    let percent = |part: u64| part.saturating_mul(100) / disk.total_kib.max(1);
    let adds: Vec<String> = parts
        .iter()
        .filter_map(|(name, bytes)| Some(format!("{} for {name}", size((*bytes)?.div_ceil(1024)))))
        .collect();
    let now = format!(
        "{} ({}): {} % of {} used, {} free",
        disk.mount,
        disk.device,
        percent(used),
        size(disk.total_kib),
        size(disk.available_kib)
    );
    let then =
        if adds.is_empty() { String::new() } else { format!("; {} % after {}", percent(after), adds.join(" and ")) };
    if disk.total_kib == 0 {
        return (Severity::Warn, format!("{} ({}) tells no size", disk.mount, disk.device));
    }
    let left = disk.total_kib.saturating_sub(after);
    // Compared without rounding: 89.99 % is below 90 %.
    let at_least = |limit: u64| after.saturating_mul(100) >= disk.total_kib.saturating_mul(limit);
    let scarce = left.saturating_mul(100) < disk.total_kib.saturating_mul(FREE_PERCENT);
    if at_least(REFUSE_PERCENT) {
        (Severity::Refuse, format!("{now}{then}: {REFUSE_PERCENT} % or more"))
    } else if !unknown.is_empty() && scarce {
        (
            Severity::Refuse,
            format!(
                "{now}{then}: less than {FREE_PERCENT} % free, and the size of {} is not known yet",
                unknown.join(" and ")
            ),
        )
    } else if !unknown.is_empty() {
        (Severity::Warn, format!("{now}{then}; the size of {} is not known yet", unknown.join(" and ")))
    } else if at_least(WARN_PERCENT) {
        (Severity::Warn, format!("{now}{then}: {WARN_PERCENT} % or more"))
    } else {
        (Severity::Pass, format!("{now}{then}"))
    }
}

/// KiB for people.
pub(super) fn size(kib: u64) -> String {
    let tenth = |unit: u64| format!("{}.{}", kib / unit, kib % unit * 10 / unit);
    match kib {
        0..1024 => format!("{kib} KiB"),
        1024..1_048_576 => format!("{} MiB", tenth(1024)),
        1_048_576..1_073_741_824 => format!("{} GiB", tenth(1_048_576)),
        _ => format!("{} TiB", tenth(1_073_741_824)),
    }
}

/// Seconds for people.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        assert_eq!(size(0), "0 KiB");
        assert_eq!(size(1536), "1.5 MiB");
        assert_eq!(size(250 << 20), "250.0 GiB");
        assert_eq!(size(8 << 30), "8.0 TiB");
        assert_eq!(
            (span(-3), span(90), span(3599), span(90_000)),
            ("0 s".into(), "90 s".into(), "59 min".into(), "25 h".into())
        );
    }

    #[test]
    fn addresses_are_numbers() {
        let mut all = vec!["10.0.0.9", "x", "10.0.0.10", "9.9.9.9", "fe80::1"];
        all.sort_by(|a, b| by_address(a, b));
        assert_eq!(all, ["9.9.9.9", "10.0.0.9", "10.0.0.10", "fe80::1", "x"]);
    }

    fn disk(total: u64, available: u64) -> Disk {
        Disk {
            mount: "/m".into(),
            device: "/dev/a".into(),
            total_kib: total,
            used_kib: total - available,
            available_kib: available,
            exists: true,
        }
    }

    #[test]
    fn limits_are_exact() {
        let kib = 1024;
        for (available, add, severity) in [
            (1000, Some(0), Severity::Pass),
            (1000, Some(799 * kib), Severity::Pass),
            (1000, Some(799 * kib + 1), Severity::Warn),
            (1000, Some(800 * kib), Severity::Warn),
            (1000, Some(899 * kib), Severity::Warn),
            (1000, Some(900 * kib), Severity::Refuse),
            (1000, Some(u64::MAX), Severity::Refuse),
            (250, None, Severity::Warn),
            (249, None, Severity::Refuse),
            (0, Some(0), Severity::Refuse),
        ] {
            assert_eq!(fill(&disk(1000, available), &[("x", add)]).0, severity, "{available} {add:?}");
        }
        assert_eq!(fill(&disk(0, 0), &[("x", None)]).0, Severity::Warn);
    }

    #[test]
    fn disks_with_common_names_are_not_one() {
        let tmpfs = |mount: &str| Disk { mount: mount.into(), device: "tmpfs".into(), ..disk(1, 1) };
        assert!(!one_disk(&tmpfs("/a"), &tmpfs("/b")));
        assert!(one_disk(&tmpfs("/a"), &tmpfs("/a")));
        assert!(one_disk(&disk(1, 1), &Disk { mount: "/other".into(), ..disk(1, 1) }));
    }
}
