//! May this point be restored into this cluster, and on which node?
//!
//! What lives here: one pure function from what is known (the point, the target's nodes, what was
//! typed) to a table of gates, and the waivers. What does not: seeing it (probe), asking (the command
//! line), doing it (restore).
//!
//! All gates are evaluated always: the operator sees the whole table at once, and a refusal in one never
//! hides another. A question that nobody has answered yet (the lock is not taken, the file was not read
//! again) is told and kept in [`RestoreGates::pending`]: only [`RestoreGates::permit`] says yes, and it says
//! no as long as anything is refused or open.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::preflight::{self, ClusterIdentity, Master, Node, Room, SKEW, span};
use super::probe::{NO_GRAVITY, NodeFacts, PCE_4, is_pce_4};
use super::status::{ClusterStatus, KubeJob};
use super::target::{CertificateSeen, Look, NfsVolume, Reach, TargetFacts, UnwellPod};
use crate::digest::Sha256;
use crate::event::{Finding, Severity};
use crate::failure::{Failure, Kind};
use crate::remote::quote;

/// Gates that nothing waives, in the order of the table.
pub const NEVER_WAIVED: [&str; 7] = ["digest", "verdict", "version", "identity", "lock", "active", "confirmation"];

/// Gates that `--waive GATE=REASON` takes, in the order of the table.
pub const WAIVED_ONE_BY_ONE: [&str; 7] = ["health", "space", "clock", "dns", "certificate", "nfs", "safety_backup"];

/// How far the point's archive is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum PointVerdict {
    /// All proofs passed.
    Verified,
    /// Whole, but unlike its predecessors.
    Suspect,
    /// A later verification failed.
    Damaged,
    /// Nobody has looked, or the answer is lost.
    #[default]
    Unverified,
}

/// The AMV archive of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AmvPoint {
    /// Digest in the manifest.
    pub sha256: Sha256,
    /// Size in bytes.
    pub bytes: u64,
    /// How far it is trusted.
    pub verdict: PointVerdict,
}

/// What the point says about itself.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PointFacts {
    /// Its id.
    pub id: String,
    /// Which archive the next fields are about: empty for Gravity's; `AMV` when only that is restored.
    pub part: String,
    /// Digest of the Gravity archive in the manifest; `None` when the point has no Gravity archive.
    pub sha256: Option<Sha256>,
    /// Size of the Gravity archive in bytes.
    pub bytes: u64,
    /// Size of what is in it, unpacked, in bytes; 0 when not known.
    pub content_bytes: u64,
    /// Verdict of the Gravity archive, later notes included.
    pub verdict: PointVerdict,
    /// Who accepted a suspect archive, and why (`points accept`).
    pub accepted_by: Option<String>,
    /// False when a part that was wanted is missing.
    pub complete: bool,
    /// PCE version of the source.
    pub pce_version: Option<String>,
    /// Gravity's version of the source.
    pub gravity_version: Option<String>,
    /// The inventory's group that it was made of.
    pub cluster: String,
    /// The cluster that it was made of; `None` when the manifest does not say.
    pub identity: Option<ClusterIdentity>,
    /// What it lacks, one sentence each.
    pub lacks: Vec<String>,
    /// Its AMV archive.
    pub amv: Option<AmvPoint>,
}

/// The fresh backup of the target that a restore wants first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub enum SafetyBackup {
    /// It was not taken yet.
    #[default]
    NotYet,
    /// It was taken: the id of the verified point.
    Taken(String),
    /// It cannot be taken, and why.
    NotPossible(String),
}

/// What the operator and the inventory say about this restore.
#[derive(Debug, Clone, Default)]
pub struct RestorePolicy {
    /// The inventory's group of the target, as typed.
    pub cluster: String,
    /// `pce_cluster_name`: must equal Gravity's name when set.
    pub pce_cluster_name: Option<String>,
    /// `pce_version`: must equal the version that is seen when set.
    pub pce_version: Option<String>,
    /// `pce_platform_dns`.
    pub platform_dns: Option<String>,
    /// `--in-place`: the target is the cluster that the point came from.
    pub in_place: bool,
    /// What was typed, or given with `--confirm`.
    pub confirm: Option<String>,
    /// `--accept-suspect`: the digest as typed.
    pub suspect_sha: Option<String>,
    /// The plan erases AMV's data on the target.
    pub erases_amv: bool,
    /// What was typed, or given with `--erase-amv`.
    pub erase_amv: Option<String>,
    /// What reading the point's file again gave here; `None` when it was not read yet.
    pub local_digest: Option<Result<Sha256, String>>,
    /// Whether ferry holds the cluster's lock; `None` when it did not try yet.
    pub lock_held: Option<bool>,
    /// The fresh backup of the target.
    pub safety: SafetyBackup,
    /// Names of hook jobs in Kubernetes that are this very run's: they do not refuse.
    pub ferry_hook_jobs: Vec<String>,
    /// Other jobs of ferry that are active on the target's nodes, one sentence each.
    pub ferry_jobs: Vec<String>,
    /// Host and bytes of this archive that lie there already (a resumed transfer): not counted twice.
    pub on_node: Option<(String, u64)>,
    /// Now, by our clock.
    pub now: jiff::Timestamp,
}

/// A gate that was waived, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waived {
    /// The gate.
    pub gate: String,
    /// The reason as given.
    pub reason: String,
    /// What was refused, or was still open, when it was waived.
    pub what: Vec<String>,
}

/// The outcome of all gates.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreGates {
    /// One row or more for each gate, in the order [`NEVER_WAIVED`], [`WAIVED_ONE_BY_ONE`].
    pub findings: Vec<Finding>,
    /// Gates that wait for something still to be done (`digest`, `lock`, `safety_backup`). They are told as a
    /// warning, and [`permit`](Self::permit) says no until they are answered.
    pub pending: Vec<String>,
    /// The main node on which the restore runs. There may be one in spite of a refusal.
    pub node: Option<String>,
    /// Why that one, and why not the others; or why none.
    pub why_node: String,
    /// Where the archive is put on that node.
    pub work_dir: Option<String>,
    /// The target as seen; `None` when no node could tell.
    pub identity: Option<ClusterIdentity>,
    /// Gravity's masters in order of advertise address.
    pub masters: Vec<Master>,
    /// What the point lacks.
    pub lacks: Vec<String>,
}

impl RestoreGates {
    /// True when a gate said no. What is only pending is not counted: see [`permit`](Self::permit).
    pub fn refused(&self) -> bool {
        self.refused_besides(&[])
    }

    /// As [`refused`](Self::refused), with these gates left out: for the plan, before the name is typed
    /// (`&["confirmation"]`).
    pub fn refused_besides(&self, later: &[&str]) -> bool {
        let counts = |finding: &&Finding| !later.contains(&finding.gate.as_str());
        self.findings.iter().filter(counts).any(|finding| finding.severity == Severity::Refuse)
    }

    /// Every refusal as one failure; `None` when there is none. What is pending is not counted.
    pub fn refusal(&self) -> Option<Failure> {
        self.refusal_besides(&[])
    }

    /// As [`refusal`](Self::refusal), with these gates left out.
    pub fn refusal_besides(&self, later: &[&str]) -> Option<Failure> {
        let refused =
            |finding: &&Finding| finding.severity == Severity::Refuse && !later.contains(&finding.gate.as_str());
        Failure::all(self.findings.iter().filter(refused).map(|finding| {
            let mut failure =
                Failure::new(Kind::Refused, finding.what.clone()).within(format!("gate {}", finding.gate));
            if let Some(host) = &finding.host {
                failure = failure.on(host);
            }
            if !finding.why.is_empty() {
                failure = failure.why(finding.why.clone());
            }
            if !finding.mend.is_empty() {
                failure = failure.mend(finding.mend.clone());
            }
            failure
        }))
    }

    /// The one place that says yes: nothing is refused, nothing is open, and there is a node and a place for the
    /// archive.
    ///
    /// # Errors
    /// [`Kind::Refused`] with every refusal and every open question.
    pub fn permit(&self) -> Result<(), Failure> {
        let mut all: Vec<Failure> = self.refusal().into_iter().collect();
        for gate in &self.pending {
            all.push(
                Failure::new(Kind::Refused, format!("the gate {gate} was not answered yet"))
                    .why("a restore begins only when every gate was answered")
                    .within(format!("gate {gate}")),
            );
        }
        if self.node.is_none() || self.work_dir.is_none() {
            all.push(
                Failure::new(Kind::Refused, "there is no main node that the restore could run on")
                    .saw(self.why_node.clone())
                    .why("no waiver makes one")
                    .mend("ferry ping the cluster; sudo gravity status on a main node"),
            );
        }
        Failure::all(all).map_or(Ok(()), Err)
    }
}

/// Which cluster the rows speak of, for `why` and `mend`.
struct Table<'a> {
    rows: Vec<Finding>,
    pending: Vec<String>,
    group: &'a str,
}

impl Table<'_> {
    fn add(&mut self, gate: &str, severity: Severity, host: Option<&str>, what: String, why: String, mend: String) {
        let mut mend = mend;
        if severity == Severity::Refuse && WAIVED_ONE_BY_ONE.contains(&gate) {
            let waive = format!("--waive {gate}=REASON");
            mend = if mend.is_empty() { waive } else { format!("{mend}\nor go on with {waive}") };
        }
        let host = host.map(str::to_owned);
        // What a node said was cleaned when it was read; the door washes everything once more.
        self.rows.push(Finding { gate: gate.to_owned(), severity, host, what, why, mend });
    }
    fn pass(&mut self, gate: &str, host: Option<&str>, what: impl Into<String>) {
        self.add(gate, Severity::Pass, host, what.into(), String::new(), String::new());
    }
    fn warn(&mut self, gate: &str, host: Option<&str>, what: impl Into<String>, why: &str, mend: impl Into<String>) {
        self.add(gate, Severity::Warn, host, what.into(), why.to_owned(), mend.into());
    }
    fn refuse(&mut self, gate: &str, host: Option<&str>, what: impl Into<String>, why: &str, mend: impl Into<String>) {
        self.add(gate, Severity::Refuse, host, what.into(), why.to_owned(), mend.into());
    }
    fn open(&mut self, gate: &str, what: impl Into<String>, why: &str, mend: impl Into<String>) {
        self.warn(gate, None, what, why, mend);
        self.pending.push(gate.to_owned());
    }
}

/// What the nodes say, sorted into clusters once.
struct View<'a> {
    nodes: Vec<Node<'a>>,
    groups: Vec<Vec<Node<'a>>>,
    ours: Vec<Node<'a>>,
    reference: Option<&'a ClusterStatus>,
    identity: Option<ClusterIdentity>,
    masters: Vec<Master>,
}

/// Evaluates every gate. `facts` are the hosts of the group that answered, `unreachable` those that did not,
/// each with the reason, `targets` the second look at the Gravity nodes by the inventory's name. Pure: the same input gives
/// the same answer.
pub fn restore_gates(
    point: &PointFacts,
    facts: &[NodeFacts],
    targets: &BTreeMap<String, TargetFacts>,
    unreachable: &[(String, String)],
    policy: &RestorePolicy,
) -> RestoreGates {
    let nodes = preflight::nodes(facts);
    let groups = preflight::clusters(&nodes);
    let ours = preflight::ours(&groups, policy.pce_cluster_name.as_deref());
    let reference = preflight::reference(&ours);
    let view = View {
        identity: reference.map(|reference| preflight::identity(&ours, reference)),
        masters: preflight::masters(&ours, facts, unreachable),
        nodes,
        groups,
        ours,
        reference,
    };
    let mut table = Table { rows: Vec::new(), pending: Vec::new(), group: &policy.cluster };
    digest(point, policy, &mut table);
    verdict(point, policy, &mut table);
    version(point, &view, policy, &mut table);
    identity(point, facts, unreachable, &view, policy, &mut table);
    lock(&view, unreachable, policy, &mut table);
    active(&view, policy, &mut table);
    confirmation(policy, &mut table);
    let choice = choose(point, &view, targets, policy);
    health(&view, targets, unreachable, &choice, &mut table);
    space(&view, &choice, &mut table);
    clock(&view, &mut table);
    dns(&view, targets, policy, &mut table);
    certificate(&view, targets, policy, &mut table);
    nfs(&view, targets, &mut table);
    safety_backup(policy, &mut table);
    RestoreGates {
        findings: table.rows,
        pending: table.pending,
        node: choice.node,
        why_node: choice.why,
        work_dir: choice.work_dir,
        identity: view.identity,
        masters: view.masters,
        lacks: point.lacks.clone(),
    }
}

fn digest(point: &PointFacts, policy: &RestorePolicy, table: &mut Table<'_>) {
    const WHY: &str = "what is restored must be, byte for byte, what was proved when the point was sealed";
    let verify = format!("ferry points verify {}; restore another point, or bring this one back from a copy", point.id);
    let Some(expected) = point.sha256 else {
        table.refuse(
            "digest",
            None,
            format!("the point {} has no Gravity archive", point.id),
            "without a digest nothing can be compared, and without the archive nothing restored",
            "ferry points list; choose a point with a Gravity archive",
        );
        return;
    };
    if point.bytes == 0 {
        table.refuse(
            "digest",
            None,
            format!("the Gravity archive of {} has no bytes", point.id),
            "gravity restore accepts an empty file and runs the restore hook against nothing",
            verify,
        );
        return;
    }
    match &policy.local_digest {
        None => table.open(
            "digest",
            format!("expected is {expected}; the file was not read again yet"),
            "it is read again here before it travels, and once more on the node right before gravity restore",
            "nothing to do: ferry reads it before the restore",
        ),
        Some(Err(why)) => {
            table.refuse("digest", None, format!("the archive could not be read again: {why}"), WHY, verify);
        }
        Some(Ok(seen)) if *seen != expected => {
            table.refuse(
                "digest",
                None,
                format!("the archive is {seen}, but the manifest says {expected}"),
                WHY,
                verify,
            );
        }
        Some(Ok(_)) => table.pass("digest", None, format!("{expected}, read again")),
    }
}

fn verdict(point: &PointFacts, policy: &RestorePolicy, table: &mut Table<'_>) {
    let mut archives = Vec::new();
    // Where only AMV is restored its archive is the one that counts, once.
    if point.part.is_empty() {
        archives.push(("Gravity", point.sha256, point.verdict));
    }
    match (&point.amv, policy.erases_amv) {
        (Some(amv), true) => archives.push(("AMV", Some(amv.sha256), amv.verdict)),
        (None, true) => table.refuse(
            "verdict",
            None,
            "AMV's data would be erased, but the point has no AMV archive",
            "there is nothing to put in its place",
            "restore without AMV, or choose a point that has it: ferry points list",
        ),
        (_, false) => {}
    }
    for (name, sha256, verdict) in archives {
        let typed = policy.suspect_sha.as_deref().map(str::trim).and_then(|typed| typed.parse::<Sha256>().ok());
        match verdict {
            PointVerdict::Verified => table.pass("verdict", None, format!("the {name} archive is verified")),
            PointVerdict::Suspect if name == "Gravity" && point.accepted_by.is_some() => table.warn(
                "verdict",
                None,
                format!(
                    "the {name} archive was suspect and was accepted by {}",
                    point.accepted_by.as_deref().unwrap_or_default()
                ),
                "it is whole, but unlike its predecessors",
                format!("ferry points show {}", point.id),
            ),
            PointVerdict::Suspect if sha256.is_some() && typed == sha256 => table.warn(
                "verdict",
                None,
                format!("the {name} archive is suspect; its digest was typed to accept it"),
                "it is whole, but unlike its predecessors",
                format!("ferry points show {}", point.id),
            ),
            PointVerdict::Suspect => {
                let seen = match (&policy.suspect_sha, sha256) {
                    (Some(_), Some(_)) => ", and the digest that was typed is another",
                    _ => "",
                };
                let typed = sha256
                    .map_or_else(String::new, |sha256| format!("; or type its digest: --accept-suspect {sha256}"));
                table.refuse(
                    "verdict",
                    None,
                    format!("the {name} archive is suspect{seen}"),
                    "it is whole, but unlike its predecessors: it may lack what the cluster holds",
                    format!("ferry points show {id}; ferry points accept {id} --reason TEXT{typed}", id = point.id),
                );
            }
            PointVerdict::Damaged => table.refuse(
                "verdict",
                None,
                format!("the {name} archive is damaged"),
                "a restore from it would leave the target half restored",
                "ferry points list; choose another point, or bring this one back from a copy",
            ),
            PointVerdict::Unverified => table.refuse(
                "verdict",
                None,
                format!("the {name} archive is not verified"),
                "nobody has proved that it is whole",
                format!("ferry points verify {}", point.id),
            ),
        }
    }
    if !point.complete || !point.lacks.is_empty() {
        let lacks = if point.lacks.is_empty() { "a part that was wanted".to_owned() } else { point.lacks.join("; ") };
        table.warn(
            "verdict",
            None,
            if point.complete { lacks } else { format!("the point is not complete: {lacks}") },
            "what it lacks stays on the target as it is now",
            format!("ferry points show {}", point.id),
        );
    }
}

fn version(point: &PointFacts, view: &View<'_>, policy: &RestorePolicy, table: &mut Table<'_>) {
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
fn same_cluster(source: &ClusterIdentity, target: &ClusterIdentity) -> Option<bool> {
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

fn identity(
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
        (Some(true) | None, true) => {
            table.pass("identity", None, format!("the target is {}, the point's own cluster", words(target)));
        }
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

fn lock(view: &View<'_>, unreachable: &[(String, String)], policy: &RestorePolicy, table: &mut Table<'_>) {
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

fn active(view: &View<'_>, policy: &RestorePolicy, table: &mut Table<'_>) {
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

fn confirmation(policy: &RestorePolicy, table: &mut Table<'_>) {
    const WHY: &str = "a restore overwrites everything that the target has; --yes is not enough for it";
    let cluster = &policy.cluster;
    match policy.confirm.as_deref() {
        Some(typed) if typed == cluster && !cluster.is_empty() => {
            table.pass("confirmation", None, format!("{cluster} was named"));
        }
        Some(typed) => table.refuse(
            "confirmation",
            None,
            format!("{typed:?} was given as the cluster's name; it is {cluster}"),
            WHY,
            format!("type the name exactly, or give --confirm {cluster}"),
        ),
        None => table.refuse(
            "confirmation",
            None,
            format!("that {cluster} is to be overwritten was not confirmed"),
            WHY,
            format!("type its name when asked; without a terminal give --confirm {cluster}"),
        ),
    }
    if !policy.erases_amv {
        return;
    }
    match policy.erase_amv.as_deref() {
        Some(typed) if typed == cluster && !cluster.is_empty() => {
            table.pass("confirmation", None, format!("that AMV's data on {cluster} is erased was confirmed"));
        }
        typed => {
            let given = typed.map(|typed| format!("; {typed:?} was given")).unwrap_or_default();
            table.refuse(
                "confirmation",
                None,
                format!("that AMV's data on {cluster} is erased was not confirmed{given}"),
                "AMV's own restore erases the metrics that the target has",
                format!(
                    "type its name when asked; without a terminal give --erase-amv {cluster}; or restore without AMV"
                ),
            );
        }
    }
}

struct Choice {
    node: Option<String>,
    why: String,
    work_dir: Option<String>,
    /// 0 healthy, 1 degraded, 2 offline or unknown.
    ill: u8,
    ill_word: String,
    room: Vec<(Severity, String)>,
    state_dir: String,
}

fn choose(
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

fn health(
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
pub(super) fn some_pods(pods: &[&UnwellPod]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> =
        pods.iter().take(SHOWN).map(|pod| format!("{}/{} ({})", pod.namespace, pod.name, pod.why)).collect();
    if pods.len() > SHOWN {
        names.push(format!("and {} more", pods.len() - SHOWN));
    }
    names.join(", ")
}

fn space(view: &View<'_>, choice: &Choice, table: &mut Table<'_>) {
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

fn clock(view: &View<'_>, table: &mut Table<'_>) {
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

/// What to set, where the platform's name is not known.
const SET_DNS: &str = "set pce_platform_dns to the name that people open";

fn dns(view: &View<'_>, targets: &BTreeMap<String, TargetFacts>, policy: &RestorePolicy, table: &mut Table<'_>) {
    const WHY: &str =
        "Gravity does not restore DNS: the name must lead to the target already, and restored parts call it";
    let Some(name) = platform_host(policy.platform_dns.as_deref()) else {
        table.warn("dns", None, "the platform's name is not known, so nothing was looked up", WHY, SET_DNS);
        return;
    };
    let mut all: Vec<String> = Vec::new();
    let mut good = 0;
    for node in &view.ours {
        match targets.get(node.host()).map(|target| &target.dns) {
            Some(Look::Seen(addresses)) if addresses.is_empty() => table.refuse(
                "dns",
                Some(node.host()),
                format!("{name} does not resolve here"),
                WHY,
                format!("getent ahosts {name} on the node; set the record, or correct pce_platform_dns"),
            ),
            Some(Look::Seen(addresses)) => {
                good += 1;
                for address in addresses {
                    if !all.contains(address) {
                        all.push(address.clone());
                    }
                }
            }
            Some(Look::Unknown(why)) => table.warn(
                "dns",
                Some(node.host()),
                format!("whether {name} resolves here is not known: {why}"),
                WHY,
                format!("getent ahosts {name} on the node"),
            ),
            Some(Look::NotAsked) | None => table.warn(
                "dns",
                Some(node.host()),
                format!("whether {name} resolves here is not known: it was not asked"),
                WHY,
                format!("getent ahosts {name} on the node"),
            ),
        }
    }
    if view.ours.is_empty() {
        table.warn(
            "dns",
            None,
            format!("whether {name} resolves on the nodes is not known"),
            WHY,
            format!("getent ahosts {name} on a node"),
        );
    } else if good > 0 {
        table.pass("dns", None, format!("{name} is {} on {good} of {} nodes", all.join(" "), view.ours.len()));
    }
}

/// Warned of a certificate this long before its end, in seconds.
const SOON: i64 = 30 * 86_400;

fn certificate(
    view: &View<'_>,
    targets: &BTreeMap<String, TargetFacts>,
    policy: &RestorePolicy,
    table: &mut Table<'_>,
) {
    const WHY: &str = "Gravity does not restore the platform's certificate: it must be there already, and runtimes refuse one that does not fit";
    let Some(name) = platform_host(policy.platform_dns.as_deref()) else {
        table.warn(
            "certificate",
            None,
            "the platform's name is not known, so its certificate was not looked at",
            WHY,
            SET_DNS,
        );
        return;
    };
    let show =
        format!("openssl s_client -connect {name}:443 -servername {name} </dev/null | openssl x509 -noout -text");
    // One certificate is told once, with the nodes that see it.
    let mut seen: Vec<(&CertificateSeen, Vec<&str>)> = Vec::new();
    let mut unknown: Vec<(String, Vec<&str>)> = Vec::new();
    for node in &view.ours {
        match targets.get(node.host()).map(|target| &target.certificate) {
            Some(Look::Seen(certificate)) => match seen.iter_mut().find(|(known, _)| *known == certificate) {
                Some((_, hosts)) => hosts.push(node.host()),
                None => seen.push((certificate, vec![node.host()])),
            },
            other => {
                let why = match other {
                    Some(Look::Unknown(why)) => why.clone(),
                    _ => "it was not asked".to_owned(),
                };
                match unknown.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, hosts)) => hosts.push(node.host()),
                    None => unknown.push((why, vec![node.host()])),
                }
            }
        }
    }
    if view.ours.is_empty() {
        unknown.push(("no node was seen".to_owned(), Vec::new()));
    }
    for (why, hosts) in &unknown {
        let by = if hosts.is_empty() { String::new() } else { format!(" on {}", hosts.join(", ")) };
        table.warn("certificate", None, format!("the certificate of {name} is unknown{by}: {why}"), WHY, show.clone());
    }
    if seen.len() > 1 {
        let parts: Vec<String> = seen
            .iter()
            .map(|(certificate, hosts)| format!("{} on {}", certificate.fingerprint, hosts.join(", ")))
            .collect();
        table.warn(
            "certificate",
            None,
            format!("the nodes see different certificates: {}", parts.join("; ")),
            "the name leads to different places",
            show.clone(),
        );
    }
    let now = policy.now.as_second();
    for (certificate, hosts) in &seen {
        let by = hosts.join(", ");
        let mut good = true;
        if !matches(certificate, name) {
            good = false;
            table.refuse(
                "certificate",
                None,
                format!("the certificate is for {}, not for {name} (seen by {by})", names(certificate)),
                WHY,
                format!("install the right one on the target, or correct pce_platform_dns; {show}"),
            );
        }
        let ends = |at: i64| jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string());
        match certificate.not_after {
            Some(end) if end <= now => {
                good = false;
                table.refuse(
                    "certificate",
                    None,
                    format!("the certificate of {name} expired at {} (seen by {by})", ends(end)),
                    WHY,
                    format!("install a valid one on the target; {show}"),
                );
            }
            Some(end) if end - now < SOON => {
                good = false;
                table.warn(
                    "certificate",
                    None,
                    format!("the certificate of {name} expires in {}, at {}", span(end - now), ends(end)),
                    WHY,
                    "renew it soon",
                );
            }
            Some(_) => {}
            None => {
                good = false;
                table.warn(
                    "certificate",
                    None,
                    format!("until when the certificate of {name} is valid is unknown"),
                    WHY,
                    show.clone(),
                );
            }
        }
        if let Some(begin) = certificate.not_before.filter(|begin| *begin > now) {
            good = false;
            table.refuse(
                "certificate",
                None,
                format!("the certificate of {name} is valid only from {} on (seen by {by})", ends(begin)),
                WHY,
                format!("look at the clocks; {show}"),
            );
        }
        if good {
            let end = certificate.not_after.map(ends).unwrap_or_default();
            table.pass("certificate", None, format!("{}, valid until {end} (seen by {by})", names(certificate)));
        }
    }
}

fn names(certificate: &CertificateSeen) -> String {
    let mut all: Vec<&str> = certificate.dns_names.iter().chain(&certificate.ip_names).map(String::as_str).collect();
    if all.is_empty() {
        all.extend(certificate.common_name.as_deref());
    }
    if all.is_empty() { "nobody".to_owned() } else { all.join(", ") }
}

/// The host in `pce_platform_dns`, which people also write as an address (`https://name:443/`).
pub(super) fn platform_host(dns: Option<&str>) -> Option<&str> {
    let text = dns?.trim();
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = text.split('/').next().unwrap_or_default();
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None if text.matches(':').count() == 1 => text.split(':').next().unwrap_or_default(),
        None => text,
    };
    let host = host.trim_end_matches('.');
    (!host.is_empty()).then_some(host)
}

/// Whether a certificate is for this name: RFC 6125. Where there are alternative names, the common name is not
/// looked at; a `*` stands for the whole leftmost label, and for one label only.
fn matches(certificate: &CertificateSeen, name: &str) -> bool {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return certificate.ip_names.iter().any(|other| other.parse::<IpAddr>().is_ok_and(|other| other == ip));
    }
    let fits = |pattern: &str| {
        let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match pattern.strip_prefix("*.") {
            Some(rest) => {
                !rest.is_empty()
                    && !rest.contains('*')
                    && name.split_once('.').is_some_and(|(label, domain)| !label.is_empty() && domain == rest)
            }
            None => !pattern.contains('*') && pattern == name,
        }
    };
    if certificate.dns_names.is_empty() && certificate.ip_names.is_empty() {
        certificate.common_name.as_deref().is_some_and(fits)
    } else {
        certificate.dns_names.iter().any(|pattern| fits(pattern))
    }
}

fn nfs(view: &View<'_>, targets: &BTreeMap<String, TargetFacts>, table: &mut Table<'_>) {
    const WHY: &str = "Gravity restores neither NFS settings nor files: the target's NFS must be there already";
    const MEND: &str = "findmnt -t nfs,nfs4 and kubectl get pv on a main node";
    let mut mounts: Vec<String> = Vec::new();
    let mut volumes: Vec<(&NfsVolume, Vec<&str>)> = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    let mut unsure: Vec<String> = Vec::new();
    let mut looked = false;
    for node in &view.ours {
        let Some(target) = targets.get(node.host()) else {
            unknown.push(format!("{} was not asked", node.host()));
            continue;
        };
        match &target.nfs_mounts {
            Look::Seen(seen) => {
                looked = true;
                mounts.extend(
                    seen.iter()
                        .map(|mount| mount.source.clone())
                        .filter(|source| !mounts.contains(source))
                        .collect::<Vec<_>>(),
                );
            }
            Look::Unknown(why) => unknown.push(format!("mounts on {}: {why}", node.host())),
            Look::NotAsked => unknown.push(format!("mounts on {} were not asked", node.host())),
        }
        match &target.nfs_volumes {
            Look::Seen(seen) => {
                for volume in seen {
                    match &volume.reach {
                        Reach::Answers => {}
                        Reach::Silent => match volumes.iter_mut().find(|(known, _)| known.server == volume.server) {
                            Some((_, hosts)) => {
                                if !hosts.contains(&node.host()) {
                                    hosts.push(node.host());
                                }
                            }
                            None => volumes.push((volume, vec![node.host()])),
                        },
                        Reach::Unknown(why) => {
                            let text =
                                format!("whether {} answers is not known on {}: {why}", volume.server, node.host());
                            if !unsure.contains(&text) {
                                unsure.push(text);
                            }
                        }
                    }
                }
            }
            Look::Unknown(why) => unknown.push(format!("volumes of Kubernetes on {}: {why}", node.host())),
            Look::NotAsked => unknown.push(format!("volumes of Kubernetes on {} were not asked", node.host())),
        }
    }
    let before = table.rows.len();
    // A mount that stands says more than a port that was knocked at.
    let mounted = |server: &str| {
        mounts
            .iter()
            .any(|source| source.rsplit_once(':').is_some_and(|(host, _)| host.trim_matches(['[', ']']) == server))
    };
    let (standing, volumes): (Vec<_>, Vec<_>) = volumes.into_iter().partition(|(volume, _)| mounted(&volume.server));
    for (volume, hosts) in standing {
        unsure.push(format!(
            "the NFS server {} of the volume {} is mounted, but did not answer on port 2049 from {}",
            volume.server,
            volume.name,
            hosts.join(", ")
        ));
    }
    for (volume, hosts) in &volumes {
        table.refuse(
            "nfs",
            None,
            format!(
                "the NFS server {} of the volume {} ({}) does not answer on port 2049, as seen by {}",
                volume.server,
                volume.name,
                volume.path,
                hosts.join(", ")
            ),
            WHY,
            format!("look at the NFS server and at the firewall between; {MEND}"),
        );
    }
    for text in unsure {
        table.warn("nfs", None, text, WHY, MEND);
    }
    let bound: Vec<String> = targets
        .values()
        .filter_map(|target| target.nfs_volumes.seen())
        .flatten()
        .map(|volume| format!("{}:{}", volume.server, volume.path))
        .fold(Vec::new(), |mut all, text| {
            if !all.contains(&text) {
                all.push(text);
            }
            all
        });
    if mounts.is_empty() && bound.is_empty() {
        if !looked || !unknown.is_empty() || view.ours.is_empty() {
            let why = if unknown.is_empty() { "no node was seen".to_owned() } else { unknown.join("; ") };
            table.warn("nfs", None, format!("whether NFS is there is not known: {why}"), WHY, MEND);
        } else {
            table.warn("nfs", None, "no NFS is seen: neither a mount nor a volume of Kubernetes", WHY, MEND);
        }
        return;
    }
    if !unknown.is_empty() {
        table.warn("nfs", None, format!("not all of NFS could be seen: {}", unknown.join("; ")), WHY, MEND);
    }
    if !table.rows.iter().skip(before).any(|row| row.severity == Severity::Refuse) {
        let mut all = bound;
        all.extend(mounts.into_iter().filter(|mount| !all.contains(mount)).collect::<Vec<_>>());
        table.pass("nfs", None, format!("NFS is seen: {}", all.join(", ")));
    }
}

fn safety_backup(policy: &RestorePolicy, table: &mut Table<'_>) {
    const WHY: &str = "a restore cannot be undone: only a fresh backup of the target brings back what it has now";
    match &policy.safety {
        SafetyBackup::Taken(point) => table.pass("safety_backup", None, format!("the target is saved as {point}")),
        SafetyBackup::NotYet => table.open(
            "safety_backup",
            "the target was not backed up yet",
            WHY,
            "nothing to do: ferry takes the backup before the restore; or leave it out with --waive safety_backup=REASON",
        ),
        SafetyBackup::NotPossible(why) => table.refuse(
            "safety_backup",
            None,
            format!("the target cannot be backed up: {why}"),
            WHY,
            format!("ferry backup {}", policy.cluster),
        ),
    }
}

/// Applies `--waive GATE=REASON`: every refusal of that gate becomes a warning that names the reason, and an open
/// `safety_backup` is closed. Nothing else changes. Told back is what was waived in fact.
///
/// # Errors
/// [`Kind::Usage`]: the gate is never waived, there is no such gate, or the reason is empty. Then nothing was applied.
pub fn apply_waivers(gates: &mut RestoreGates, waive: &BTreeMap<String, String>) -> Result<Vec<Waived>, Failure> {
    let wrong = waive.iter().filter_map(|(gate, reason)| {
        let what = if NEVER_WAIVED.contains(&gate.as_str()) {
            format!("nothing waives the gate {gate}")
        } else if !WAIVED_ONE_BY_ONE.contains(&gate.as_str()) {
            format!("there is no gate {gate:?}")
        } else if reason.trim().is_empty() {
            format!("the reason for waiving {gate} is empty")
        } else {
            return None;
        };
        Some(
            Failure::new(Kind::Usage, format!("--waive: {what}"))
                .why(format!(
                    "these can be waived, each with a reason: {}; these never: {}",
                    WAIVED_ONE_BY_ONE.join(", "),
                    NEVER_WAIVED.join(", ")
                ))
                .mend("--waive GATE=REASON, the reason is kept in journal and point"),
        )
    });
    if let Some(failure) = Failure::all(wrong) {
        return Err(failure);
    }
    let mut waived = Vec::new();
    for (gate, reason) in waive {
        let mut what = Vec::new();
        for finding in gates.findings.iter_mut().filter(|finding| finding.gate == *gate) {
            let open = gates.pending.contains(gate) && finding.severity == Severity::Warn;
            if finding.severity == Severity::Refuse || open {
                what.push(finding.what.clone());
                finding.severity = Severity::Warn;
                finding.what = format!("{} (waived: {reason})", finding.what);
            }
        }
        gates.pending.retain(|open| open != gate);
        if !what.is_empty() {
            waived.push(Waived { gate: gate.clone(), reason: reason.clone(), what });
        }
    }
    Ok(waived)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "gates_tests.rs"]
pub(super) mod tests;
