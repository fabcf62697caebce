//! The gates before a restore: what a good case is, what breaks each gate, and a model that is simpler than they are.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use super::around::{SOON, matches};
use super::cluster::same_cluster;
use super::*;
use crate::gravity::probe::{Disk, GravityFacts, NO_GRAVITY};
use crate::gravity::status::{KubeJob, StatusNode};
use crate::gravity::target::{CertificateSeen, Look, NfsMount, NfsVolume, PodsSeen, Reach, UnwellPod};

const NOW: i64 = 1_795_000_000;
const DAY: i64 = 86_400;
const GIB: u64 = 1 << 30;

/// All that the function takes.
#[derive(Clone)]
pub(in crate::gravity) struct Case {
    pub(in crate::gravity) point: PointFacts,
    pub(in crate::gravity) facts: Vec<NodeFacts>,
    pub(in crate::gravity) targets: BTreeMap<String, TargetFacts>,
    pub(in crate::gravity) unreachable: Vec<(String, String)>,
    pub(in crate::gravity) policy: RestorePolicy,
}

impl Case {
    fn gates(&self) -> RestoreGates {
        restore_gates(&self.point, &self.facts, &self.targets, &self.unreachable, &self.policy)
    }
    pub(in crate::gravity) fn gravity(&mut self, at: usize) -> &mut GravityFacts {
        self.facts[at].gravity.as_mut().unwrap()
    }
    pub(in crate::gravity) fn each_status(&mut self, change: impl Fn(&mut ClusterStatus)) {
        for facts in &mut self.facts {
            if let Some(status) = facts.gravity.as_mut().and_then(|gravity| gravity.status.as_mut()) {
                change(status);
            }
        }
    }
    pub(in crate::gravity) fn each_target(&mut self, change: impl Fn(&mut TargetFacts)) {
        self.targets.values_mut().for_each(change);
    }
}

fn digest_of(text: &str) -> Sha256 {
    Sha256::of(text.as_bytes())
}

pub(in crate::gravity) fn status(name: &str, net: u8) -> ClusterStatus {
    let node = |number: u8| StatusNode {
        hostname: format!("pce-{name}-{number}"),
        advertise_ip: format!("10.{net}.0.{number}"),
        role: "master".into(),
        profile: "node".into(),
        status: "healthy".into(),
        failed_probes: vec![],
    };
    ClusterStatus {
        name: format!("pce-{name}"),
        app_name: "anypoint".into(),
        app_version: "3.2.0".into(),
        state: "active".into(),
        reason: None,
        system_status: Some(1),
        server_version: Some("8.0.5".into()),
        client_version: Some("8.0.5".into()),
        nodes: (1..=3).map(node).collect(),
        active_operations: vec![],
        raw: Value::Null,
    }
}

fn disk(mount: &str, total_gib: u64, free_gib: u64) -> Disk {
    Disk {
        mount: mount.into(),
        device: format!("/dev{mount}"),
        total_kib: total_gib << 20,
        used_kib: (total_gib - free_gib) << 20,
        available_kib: free_gib << 20,
        exists: true,
    }
}

pub(in crate::gravity) fn node(number: u8) -> NodeFacts {
    NodeFacts {
        host: format!("dr-{number}"),
        hostname: format!("pce-dr-{number}"),
        uid: 0,
        epoch: NOW,
        read_at: jiff::Timestamp::from_second(NOW).unwrap(),
        boot_id: String::new(),
        addresses: vec![format!("10.2.0.{number}")],
        gravity: Some(GravityFacts {
            state_dir: "/var/lib/gravity".into(),
            version: Some("8.0.5".into()),
            status: Some(status("dr", 2)),
            status_rc: 0,
            status_error: String::new(),
            kube_jobs: Some(vec![]),
            kube_uid: Some("uid-dr".into()),
            staging: vec![],
        }),
        not_gravity: None,
        kubernetes: None,
        disks: [
            ("/var/lib/gravity", disk("/var/lib/gravity", 250, 150)),
            ("/var/lib/data/ferry", disk("/var/lib/data", 250, 200)),
        ]
        .map(|(path, disk)| (path.to_owned(), disk))
        .into(),
        tools: ["flock".to_owned()].into(),
    }
}

pub(in crate::gravity) fn certificate() -> CertificateSeen {
    CertificateSeen {
        subject: "CN = anypoint.example".into(),
        issuer: "CN = ca".into(),
        common_name: Some("anypoint.example".into()),
        dns_names: vec!["anypoint.example".into()],
        ip_names: vec![],
        not_before: Some(NOW - 30 * DAY),
        not_after: Some(NOW + 300 * DAY),
        fingerprint: "AA:BB".into(),
    }
}

pub(in crate::gravity) fn volume(reach: Reach) -> NfsVolume {
    NfsVolume { name: "objects".into(), server: "nas".into(), path: "/srv/nfs".into(), phase: "Bound".into(), reach }
}

pub(in crate::gravity) fn target(number: u8) -> TargetFacts {
    TargetFacts {
        host: format!("dr-{number}"),
        dns: Look::Seen(vec!["10.2.0.100".into()]),
        certificate: Look::Seen(certificate()),
        nfs_mounts: Look::Seen(vec![NfsMount { source: "nas:/srv/nfs".into(), target: "/mnt".into() }]),
        nfs_volumes: Look::Seen(vec![volume(Reach::Answers)]),
        pods: Look::Seen(PodsSeen { total: 10, well: 8, completed: 2, evicted: 0, unwell: vec![] }),
        state_dir: "/var/lib/gravity".into(),
        disks: [("/var/lib/gravity/planet/state".to_owned(), disk("/var/lib/gravity", 250, 150))].into(),
    }
}

pub(in crate::gravity) fn good() -> Case {
    Case {
        point: PointFacts {
            part: String::new(),
            id: "20261122T041500Z-7f3a".into(),
            sha256: Some(digest_of("archive")),
            bytes: 10 * GIB,
            content_bytes: 30 * GIB,
            verdict: PointVerdict::Verified,
            accepted_by: None,
            complete: true,
            pce_version: Some("3.2.0".into()),
            gravity_version: Some("8.0.5".into()),
            cluster: "prod".into(),
            identity: Some(ClusterIdentity {
                gravity_name: "pce-prod".into(),
                kube_system_uid: Some("uid-prod".into()),
                advertise_addresses: vec!["10.1.0.1".into(), "10.1.0.2".into()],
                pce_version: Some("3.2.0".into()),
                gravity_version: Some("8.0.5".into()),
            }),
            lacks: vec![],
            amv: None,
        },
        facts: (1..=3).map(node).collect(),
        targets: (1..=3).map(|number| (format!("dr-{number}"), target(number))).collect(),
        unreachable: vec![],
        policy: RestorePolicy {
            cluster: "dr".into(),
            pce_cluster_name: Some("pce-dr".into()),
            pce_version: Some("3.2.0".into()),
            platform_dns: Some("anypoint.example".into()),
            confirm: Some("dr".into()),
            local_digest: Some(Ok(digest_of("archive"))),
            lock_held: Some(true),
            safety: SafetyBackup::Taken("20261122T050000Z-1111".into()),
            now: jiff::Timestamp::from_second(NOW).unwrap(),
            ..RestorePolicy::default()
        },
    }
}

/// A way to make a case wrong, and the gates that it breaks.
struct Breaker {
    name: &'static str,
    gates: &'static [&'static str],
    by: fn(&mut Case),
}

pub(in crate::gravity) fn job(name: &str) -> KubeJob {
    KubeJob { name: name.into(), active: true, ..KubeJob::default() }
}

/// The host dr-3 is gone in every way.
fn lose_third(case: &mut Case) {
    case.facts.retain(|facts| facts.host != "dr-3");
    case.targets.remove("dr-3");
}

/// Breakers of one gate stand together; of each gate at most one is taken. Those of different gates do not hide each other: what they
/// change is seen on dr-1 or on all hosts, and it is dr-3 that dies.
fn breakers() -> Vec<Vec<Breaker>> {
    macro_rules! breaker {
        ($name:literal, $gates:expr, $by:expr) => {
            Breaker { name: $name, gates: &$gates, by: $by }
        };
    }
    vec![
        vec![
            breaker!("no gravity archive", ["digest"], |case| case.point.sha256 = None),
            breaker!("another digest", ["digest"], |case| case.policy.local_digest = Some(Ok(digest_of("other")))),
            breaker!("unreadable", ["digest"], |case| case.policy.local_digest = Some(Err("I/O error".into()))),
            breaker!("not read yet", ["digest"], |case| case.policy.local_digest = None),
            breaker!("no bytes", ["digest"], |case| case.point.bytes = 0),
        ],
        vec![
            breaker!("suspect", ["verdict"], |case| case.point.verdict = PointVerdict::Suspect),
            breaker!("suspect, another digest typed", ["verdict"], |case| {
                case.point.verdict = PointVerdict::Suspect;
                case.policy.suspect_sha = Some(digest_of("other").to_string());
            }),
            breaker!("suspect, a prefix typed", ["verdict"], |case| {
                case.point.verdict = PointVerdict::Suspect;
                case.policy.suspect_sha = Some(digest_of("archive").to_string()[..12].to_owned());
            }),
            breaker!("suspect, yes typed", ["verdict"], |case| {
                case.point.verdict = PointVerdict::Suspect;
                case.policy.suspect_sha = Some("yes".into());
            }),
            breaker!("damaged", ["verdict"], |case| case.point.verdict = PointVerdict::Damaged),
            breaker!("damaged, digest typed, accepted", ["verdict"], |case| {
                case.point.verdict = PointVerdict::Damaged;
                case.point.accepted_by = Some("somebody".into());
                case.policy.suspect_sha = Some(digest_of("archive").to_string());
            }),
            breaker!("unverified, digest typed", ["verdict"], |case| {
                case.point.verdict = PointVerdict::Unverified;
                case.policy.suspect_sha = Some(digest_of("archive").to_string());
            }),
        ],
        vec![
            breaker!("point of another version", ["version"], |case| case.point.pce_version = Some("3.1.0".into())),
            breaker!("patch version", ["version"], |case| case.point.pce_version = Some("3.2.0-1".into())),
            breaker!("point without version", ["version"], |case| case.point.pce_version = None),
            breaker!("point with empty version", ["version"], |case| case.point.pce_version = Some(String::new())),
            breaker!("target without version", ["version"], |case| {
                case.each_status(|status| status.app_version.clear());
            }),
            breaker!("pce_version says another", ["version"], |case| case.policy.pce_version = Some("3.1.0".into())),
            breaker!("nodes do not agree", ["version"], |case| {
                case.gravity(0).status.as_mut().unwrap().app_version = "3.1.0".into();
            }),
        ],
        vec![
            breaker!("another name expected", ["identity"], |case| {
                case.policy.pce_cluster_name = Some("pce-x".into());
            }),
            breaker!("the point's own cluster", ["identity"], |case| {
                case.point.identity.as_mut().unwrap().kube_system_uid = Some("uid-dr".into());
            }),
            breaker!("the point's own cluster by name", ["identity"], |case| {
                let source = case.point.identity.as_mut().unwrap();
                source.kube_system_uid = None;
                source.gravity_name = "pce-dr".into();
                source.advertise_addresses = vec!["10.2.0.1".into()];
            }),
            breaker!("in place, but another", ["identity"], |case| case.policy.in_place = true),
            breaker!("the point tells no cluster", ["identity"], |case| case.point.identity = None),
            breaker!("nameless", ["identity"], |case| {
                case.policy.pce_cluster_name = None;
                case.each_status(|status| status.name.clear());
                // Gravity without a cluster's name is degraded by its own rule.
            }),
            breaker!("a stray host", ["identity"], |case| {
                let gravity = case.gravity(1);
                gravity.status = Some(status("prod", 1));
                gravity.kube_uid = Some("uid-prod".into());
            }),
            breaker!("a stray host with the same name", ["identity"], |case| {
                let gravity = case.gravity(1);
                let mut other = status("prod", 1);
                other.name = "pce-dr".into();
                gravity.status = Some(other);
                gravity.kube_uid = None;
            }),
            breaker!("a host without a cluster", ["identity"], |case| {
                let mut stray = node(9);
                stray.gravity = None;
                stray.not_gravity = Some("gravity is installed, but there is no database".into());
                case.facts.push(stray);
            }),
            breaker!("a Kubernetes without Gravity", ["identity"], |case| {
                let mut stray = node(9);
                stray.gravity = None;
                stray.not_gravity = Some(NO_GRAVITY.into());
                stray.kubernetes = Some("uid-4".into());
                case.facts.push(stray);
            }),
            breaker!("a host that cannot tell", ["identity"], |case| {
                let mut stray = node(9);
                let gravity = stray.gravity.as_mut().unwrap();
                gravity.status = None;
                gravity.kube_uid = None;
                case.facts.push(stray);
                case.targets.insert("dr-9".into(), target(9));
            }),
        ],
        vec![
            breaker!("not held", ["lock"], |case| case.policy.lock_held = Some(false)),
            breaker!("not tried", ["lock"], |case| case.policy.lock_held = None),
        ],
        vec![
            breaker!("a hook", ["active"], |case| {
                case.gravity(0).kube_jobs = Some(vec![job("anypoint-backup-1a2b3c")]);
            }),
            breaker!("two hooks, one ours", ["active"], |case| {
                case.policy.ferry_hook_jobs = vec!["anypoint-backup-000000".into()];
                case.gravity(0).kube_jobs = Some(vec![job("anypoint-backup-000000"), job("anypoint-backup-1a2b3c")]);
            }),
            breaker!("an operation", ["active"], |case| {
                case.gravity(0).status.as_mut().unwrap().active_operations = vec!["update".into()];
            }),
            breaker!("updating", ["active"], |case| case.each_status(|status| status.state = "updating".into())),
            breaker!("a job of ferry", ["active"], |case| {
                case.policy.ferry_jobs = vec!["gravity-backup on dr-2".into()];
            }),
            breaker!("kubectl silent", ["active"], |case| {
                for facts in &mut case.facts {
                    if let Some(gravity) = facts.gravity.as_mut() {
                        gravity.kube_jobs = None;
                    }
                }
            }),
        ],
        vec![
            breaker!("nothing typed", ["confirmation"], |case| case.policy.confirm = None),
            breaker!("yes typed", ["confirmation"], |case| case.policy.confirm = Some("yes".into())),
            breaker!("case differs", ["confirmation"], |case| case.policy.confirm = Some("DR".into())),
            breaker!("a blank too many", ["confirmation"], |case| case.policy.confirm = Some("dr ".into())),
            breaker!("the source typed", ["confirmation"], |case| case.policy.confirm = Some("prod".into())),
            breaker!("empty", ["confirmation"], |case| case.policy.confirm = Some(String::new())),
            breaker!("Gravity's name typed", ["confirmation"], |case| case.policy.confirm = Some("pce-dr".into())),
            breaker!("AMV not confirmed", ["confirmation"], |case| erase(case, None)),
            breaker!("AMV confirmed wrongly", ["confirmation"], |case| erase(case, Some("prod"))),
        ],
        vec![
            breaker!("degraded", ["health"], |case| {
                case.each_status(|status| {
                    // An operation in progress would be another state.
                    if status.state == "active" {
                        status.state = "degraded".into();
                    }
                    status.system_status = Some(2);
                });
            }),
            breaker!("one view degraded", ["health"], |case| {
                case.gravity(0).status.as_mut().unwrap().system_status = Some(2);
            }),
            breaker!("a main node unreachable by its name", ["health"], |case| {
                lose_third(case);
                case.unreachable.push(("pce-dr-3".into(), "no route".into()));
            }),
            breaker!("a main node unreachable by another name", ["health"], |case| {
                lose_third(case);
                case.unreachable.push(("dr-3".into(), "no route".into()));
            }),
            breaker!("a main node offline", ["health"], |case| {
                lose_third(case);
                case.each_status(|status| {
                    status.system_status = Some(2);
                    status.nodes[2].status = "offline".into();
                    status.nodes[2].role.clear();
                });
                case.unreachable.push(("dr-3".into(), "no route".into()));
            }),
            breaker!("a main node without status", ["health"], |case| case.gravity(2).status = None),
            breaker!("license invalid", ["health"], |case| {
                case.each_status(|status| {
                    if status.state == "active" {
                        status.state = "failed".into();
                    } else {
                        status.system_status = None;
                    }
                });
            }),
        ],
        vec![
            breaker!("a full state disk", ["space"], |case| {
                for facts in &mut case.facts {
                    facts.disks.insert("/var/lib/gravity".into(), disk("/var/lib/gravity", 250, 50));
                }
                case.each_target(|target| {
                    target.disks =
                        [("/var/lib/gravity/planet/state".to_owned(), disk("/var/lib/gravity", 250, 50))].into();
                });
            }),
            breaker!("a full work disk", ["space"], |case| {
                for facts in &mut case.facts {
                    facts.disks.insert("/var/lib/data/ferry".into(), disk("/var/lib/data", 250, 20));
                }
            }),
            breaker!("no disks", ["space"], |case| {
                for facts in &mut case.facts {
                    facts.disks.retain(|path, _| path != "/var/lib/gravity");
                }
                case.each_target(|target| target.disks.clear());
            }),
        ],
        vec![
            breaker!("ahead", ["clock"], |case| case.facts[0].epoch += 61),
            breaker!("behind", ["clock"], |case| case.facts[0].epoch -= 61),
            breaker!("apart", ["clock"], |case| {
                case.facts[0].epoch += 31;
                case.facts[1].epoch -= 30;
            }),
        ],
        vec![breaker!("does not resolve", ["dns"], |case| {
            case.targets.get_mut("dr-1").unwrap().dns = Look::Seen(vec![]);
        })],
        vec![
            breaker!("expired", ["certificate"], |case| change_certificate(case, |seen| seen.not_after = Some(NOW))),
            breaker!("not yet valid", ["certificate"], |case| {
                change_certificate(case, |seen| seen.not_before = Some(NOW + 1));
            }),
            breaker!("another name", ["certificate"], |case| {
                change_certificate(case, |seen| seen.dns_names = vec!["other.example".into()]);
            }),
        ],
        vec![breaker!("a silent server", ["nfs"], |case| {
            // A mount that stands on any node would say that the server is there.
            case.targets.values_mut().for_each(|target| target.nfs_mounts = Look::Seen(vec![]));
            case.targets.get_mut("dr-1").unwrap().nfs_volumes = Look::Seen(vec![volume(Reach::Silent)]);
        })],
        vec![
            breaker!("not yet", ["safety_backup"], |case| case.policy.safety = SafetyBackup::NotYet),
            breaker!("not possible", ["safety_backup"], |case| {
                case.policy.safety = SafetyBackup::NotPossible("degraded".into());
            }),
        ],
    ]
}

fn erase(case: &mut Case, typed: Option<&str>) {
    case.policy.erases_amv = true;
    case.policy.erase_amv = typed.map(str::to_owned);
    case.point.amv = Some(AmvPoint { sha256: digest_of("amv"), bytes: 5, verdict: PointVerdict::Verified });
}

fn change_certificate(case: &mut Case, change: impl Fn(&mut CertificateSeen)) {
    let mut seen = certificate();
    change(&mut seen);
    case.targets.get_mut("dr-1").unwrap().certificate = Look::Seen(seen);
}

/// What holds of every answer whatever the input is.
fn always(case: &Case, gates: &RestoreGates) {
    let order: Vec<&str> = NEVER_WAIVED.iter().chain(&WAIVED_ONE_BY_ONE).copied().collect();
    let at: Vec<usize> =
        gates.findings.iter().map(|finding| order.iter().position(|gate| *gate == finding.gate).unwrap()).collect();
    assert!(at.is_sorted(), "{at:?}");
    assert_eq!(at.iter().collect::<BTreeSet<_>>().len(), order.len(), "a gate has no row: {at:?}");
    for finding in &gates.findings {
        assert!(!finding.what.is_empty(), "{finding:?}");
        if finding.severity != Severity::Pass {
            assert!(!finding.why.is_empty() && !finding.mend.is_empty(), "{finding:?}");
        }
        if finding.severity == Severity::Refuse && NEVER_WAIVED.contains(&finding.gate.as_str()) {
            assert!(!finding.mend.contains("--waive"), "{finding:?}");
        }
        if finding.severity == Severity::Refuse
            && WAIVED_ONE_BY_ONE.contains(&finding.gate.as_str())
            && gates.node.is_some()
        {
            assert!(finding.mend.contains(&format!("--waive {}=REASON", finding.gate)), "{finding:?}");
        }
        // One row that says no and one that says all is well do not stand together.
        let rows = gates.findings.iter().filter(|row| row.gate == finding.gate);
        if ["digest", "clock", "safety_backup"].contains(&finding.gate.as_str()) {
            assert!(finding.severity != Severity::Refuse || rows.clone().all(|row| row.severity != Severity::Pass));
        }
    }
    assert_eq!(format!("{gates:?}"), format!("{:?}", case.gates()), "the same input gave another answer");
    if gates.permit().is_ok() {
        assert!(!gates.refused() && gates.pending.is_empty() && gates.node.is_some());
    }
}

fn refused(gates: &RestoreGates) -> BTreeSet<String> {
    let refused = gates.findings.iter().filter(|finding| finding.severity == Severity::Refuse);
    refused.map(|finding| finding.gate.clone()).chain(gates.pending.iter().cloned()).collect()
}

#[test]
fn a_good_case_is_permitted() {
    let case = good();
    let gates = case.gates();
    always(&case, &gates);
    for finding in &gates.findings {
        assert_eq!(finding.severity, Severity::Pass, "{finding:?}");
    }
    gates.permit().unwrap();
    assert_eq!(gates.node.as_deref(), Some("dr-1"));
    assert_eq!(gates.work_dir.as_deref(), Some("/var/lib/data/ferry"));
    assert!(gates.why_node.contains("healthy Gravity master 10.2.0.1 with room; not dr-2: higher address"));
}

/// Each breaker alone breaks its gates, all of them, and no other.
#[test]
fn every_breaker_breaks_its_own_gate_only() {
    for (gate, breaker) in breakers().iter().enumerate().flat_map(|(gate, all)| all.iter().map(move |one| (gate, one)))
    {
        let mut case = good();
        (breaker.by)(&mut case);
        let gates = case.gates();
        always(&case, &gates);
        let mut expected: BTreeSet<String> = breaker.gates.iter().map(|gate| (*gate).to_owned()).collect();
        if breaker.name == "nameless" {
            // By Gravity's own rule a cluster without a name is degraded.
            expected.insert("health".into());
        }
        assert_eq!(refused(&gates), expected, "{gate} {}: {:#?}", breaker.name, gates.findings);
        assert!(gates.permit().is_err(), "{}", breaker.name);
    }
}

fn cases() -> u32 {
    if std::env::var_os("FERRY_LONG").is_some() { 100_000 } else { 2_000 }
}

/// Which breaker of each gate (if any), and what is waived.
fn choices() -> impl Strategy<Value = (Vec<Option<usize>>, Vec<bool>, bool)> {
    let broken: Vec<_> = breakers().iter().map(|all| prop::option::weighted(0.12, 0..all.len())).collect();
    (broken, prop::collection::vec(any::<bool>(), WAIVED_ONE_BY_ONE.len()), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// The model: a restore is permitted when nothing is broken but waivable gates, and each of those is waived.
    #[test]
    fn permitted_as_the_model_says((broken, waive, mirrored) in choices()) {
        let breakers = breakers();
        let mut case = good();
        let mut model: BTreeSet<&str> = BTreeSet::new();
        let mut names = Vec::new();
        for (at, choice) in broken.iter().enumerate() {
            let Some(breaker) = choice.and_then(|choice| breakers[at].get(choice)) else { continue };
            (breaker.by)(&mut case);
            model.extend(breaker.gates);
            names.push(breaker.name);
        }
        if mirrored {
            case.facts.reverse();
        }
        let waive: BTreeMap<String, String> = WAIVED_ONE_BY_ONE
            .iter()
            .zip(&waive)
            .filter(|(_, on)| **on)
            .map(|(gate, _)| ((*gate).to_owned(), "because".to_owned()))
            .collect();
        let before = case.gates();
        always(&case, &before);
        let mut gates = before.clone();
        let waived = apply_waivers(&mut gates, &waive).unwrap();

        let expected = model.iter().all(|gate| waive.contains_key(*gate));
        // Without a cluster's name Gravity is degraded; identity is broken then, which decides.
        prop_assert_eq!(gates.permit().is_ok(), expected, "{:?} waived {:?}: {:#?}", names, waive, gates.findings);
        // Among hosts of two clusters it is the order that decides which one the other rows speak of.
        for gate in model.iter().filter(|gate| **gate == "identity" || !(mirrored && model.contains("identity"))) {
            prop_assert!(refused(&before).contains(*gate), "{:?} let {} pass: {:#?}", names, gate, before.findings);
        }
        // A waiver touches its own gate only, and only what was refused or open there.
        prop_assert_eq!(before.findings.len(), gates.findings.len());
        for (old, new) in before.findings.iter().zip(&gates.findings) {
            if !waive.contains_key(&old.gate) {
                prop_assert_eq!(old, new);
            } else if old != new {
                prop_assert_eq!(new.severity, Severity::Warn);
                prop_assert!(new.what.contains("because"));
                prop_assert_eq!((&old.gate, &old.host, &old.why, &old.mend), (&new.gate, &new.host, &new.why, &new.mend));
            }
        }
        for waived in waived {
            prop_assert!(refused(&before).contains(&waived.gate) && !waived.what.is_empty());
        }
        prop_assert_eq!(&before.node, &gates.node);
        prop_assert_eq!(&before.work_dir, &gates.work_dir);
    }
}

#[test]
fn waivers_that_are_wrong_apply_nothing() {
    let mut case = good();
    case.policy.safety = SafetyBackup::NotPossible("x".into());
    for wrong in NEVER_WAIVED.iter().copied().chain(["everything", "", "Health", "space "]) {
        let mut gates = case.gates();
        let before = format!("{gates:?}");
        let waive = [("safety_backup".to_owned(), "r".to_owned()), (wrong.to_owned(), "r".to_owned())].into();
        let failure = apply_waivers(&mut gates, &waive).unwrap_err();
        assert_eq!(failure.kind, Kind::Usage, "{wrong}");
        let why = failure.why.unwrap();
        assert!(why.contains("health, space, clock") && why.contains("digest, verdict, version"), "{why}");
        assert_eq!(format!("{gates:?}"), before);
    }
    let mut gates = case.gates();
    let waive = [("safety_backup".to_owned(), "  ".to_owned())].into();
    assert_eq!(apply_waivers(&mut gates, &waive).unwrap_err().kind, Kind::Usage);
    // A waiver for a gate that is not broken is no error, and is not kept as one that was used.
    let waive = [("clock".to_owned(), "r".to_owned()), ("safety_backup".to_owned(), "lab".to_owned())].into();
    let waived = apply_waivers(&mut gates, &waive).unwrap();
    assert_eq!(waived.len(), 1);
    assert_eq!((waived[0].gate.as_str(), waived[0].reason.as_str()), ("safety_backup", "lab"));
    gates.permit().unwrap();
}

/// What is refused because nothing can be chosen stays refused, whatever is waived.
#[test]
fn no_waiver_makes_a_node() {
    let mut case = good();
    case.each_status(|status| status.nodes.iter_mut().for_each(|node| node.role = "node".into()));
    let mut gates = case.gates();
    assert_eq!(gates.node, None);
    assert!(refused(&gates).contains("health"));
    let all = WAIVED_ONE_BY_ONE.iter().map(|gate| ((*gate).to_owned(), "r".to_owned())).collect();
    apply_waivers(&mut gates, &all).unwrap();
    assert!(!gates.refused());
    let failure = gates.permit().unwrap_err();
    assert_eq!(failure.kind, Kind::Refused);
    assert!(failure.what.contains("no main node"), "{failure}");

    for facts in [Vec::new(), vec![NodeFacts { gravity: None, not_gravity: Some(NO_GRAVITY.into()), ..node(1) }]] {
        let mut case = good();
        case.facts = facts;
        let mut gates = case.gates();
        always(&case, &gates);
        let all = WAIVED_ONE_BY_ONE.iter().map(|gate| ((*gate).to_owned(), "r".to_owned())).collect();
        apply_waivers(&mut gates, &all).unwrap();
        assert!(gates.permit().is_err());
        assert!(refused(&gates).contains("identity"));
    }
}

#[test]
fn suspect_wants_its_typed_digest_or_an_acceptance() {
    let mut case = good();
    case.point.verdict = PointVerdict::Suspect;
    case.policy.suspect_sha = Some(format!(" {} ", digest_of("archive").to_string().to_uppercase()));
    case.gates().permit().unwrap();
    case.policy.suspect_sha = None;
    case.point.accepted_by = Some("ops@jump, looked at".into());
    let gates = case.gates();
    gates.permit().unwrap();
    assert!(gates.findings.iter().any(|row| row.gate == "verdict" && row.what.contains("accepted by ops@jump")));
    // AMV's archive has a verdict of its own, and counts only when it is restored.
    let mut case = good();
    case.point.amv = Some(AmvPoint { sha256: digest_of("amv"), bytes: 5, verdict: PointVerdict::Damaged });
    case.gates().permit().unwrap();
    case.policy.erases_amv = true;
    case.policy.erase_amv = Some("dr".into());
    assert_eq!(refused(&case.gates()), ["verdict".to_owned()].into());
    case.point.amv = Some(AmvPoint { sha256: digest_of("amv"), bytes: 5, verdict: PointVerdict::Suspect });
    case.policy.suspect_sha = Some(digest_of("archive").to_string());
    assert_eq!(refused(&case.gates()), ["verdict".to_owned()].into());
    case.policy.suspect_sha = Some(digest_of("amv").to_string());
    case.gates().permit().unwrap();
    case.point.amv = None;
    assert_eq!(refused(&case.gates()), ["verdict".to_owned()].into());
}

#[test]
fn a_partly_good_point_says_what_it_lacks() {
    let mut case = good();
    case.point.complete = false;
    case.point.lacks = vec!["AMV failed: the script ended with 1".into()];
    let gates = case.gates();
    gates.permit().unwrap();
    assert_eq!(gates.lacks, case.point.lacks);
    assert!(gates.findings.iter().any(|row| row.severity == Severity::Warn && row.what.contains("AMV failed")));
}

#[test]
fn which_cluster_is_the_same() {
    let identity = |name: &str, uid: Option<&str>, addresses: &[&str]| ClusterIdentity {
        gravity_name: name.into(),
        kube_system_uid: uid.map(str::to_owned),
        advertise_addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        pce_version: None,
        gravity_version: None,
    };
    for (a, b, same) in [
        (identity("a", Some("1"), &["x"]), identity("b", Some("1"), &["y"]), Some(true)),
        (identity("a", Some("1"), &["x"]), identity("a", Some("2"), &["x"]), Some(false)),
        (identity("a", None, &["x", "y"]), identity("a", Some("2"), &["y"]), Some(true)),
        (identity("a", None, &["x"]), identity("a", None, &["y"]), Some(false)),
        (identity("a", None, &["x"]), identity("b", None, &["x"]), Some(false)),
        (identity("a", None, &[]), identity("a", None, &["x"]), None),
        (identity("", None, &["x"]), identity("a", None, &["x"]), None),
        (identity("", Some("1"), &[]), identity("a", Some("1"), &["x"]), Some(true)),
    ] {
        assert_eq!(same_cluster(&a, &b), same, "{a:?} {b:?}");
        assert_eq!(same_cluster(&b, &a), same, "{b:?} {a:?}");
    }
}

#[test]
fn in_place_is_for_the_points_own_cluster() {
    let mut case = good();
    case.point.identity.as_mut().unwrap().kube_system_uid = Some("uid-dr".into());
    case.policy.in_place = true;
    case.gates().permit().unwrap();
    // Where it cannot be told, only --in-place goes on.
    let source = case.point.identity.as_mut().unwrap();
    source.kube_system_uid = None;
    source.gravity_name = "pce-dr".into();
    source.advertise_addresses.clear();
    case.gates().permit().unwrap();
    case.policy.in_place = false;
    assert_eq!(refused(&case.gates()), ["identity".to_owned()].into());
}

/// An NFS server in the group is meant; a node whose own status failed belongs by its address.
#[test]
fn hosts_that_are_no_strays() {
    let mut case = good();
    let nfs = NodeFacts { gravity: None, not_gravity: Some(format!("{NO_GRAVITY}. More")), ..node(9) };
    case.facts.push(nfs);
    case.gates().permit().unwrap();
    let gravity = case.gravity(2);
    gravity.status = None;
    gravity.kube_uid = None;
    assert_eq!(refused(&case.gates()), ["health".to_owned()].into());
    // An address of another cluster, and no uid: it cannot be told.
    case.facts[2].addresses = vec!["10.9.0.3".into()];
    case.facts[2].hostname = "x".into();
    assert!(refused(&case.gates()).contains("identity"));
    case.gravity(2).kube_uid = Some("uid-dr".into());
    assert!(!refused(&case.gates()).contains("identity"));
}

#[test]
fn space_has_exact_limits() {
    for (free_kib, archive, content, severity) in [
        (1000, 0, 799, Severity::Pass),
        (1000, 0, 800, Severity::Warn),
        (1000, 0, 899, Severity::Warn),
        (1000, 0, 900, Severity::Refuse),
        (1000, 400, 400, Severity::Warn),
        (1000, 450, 450, Severity::Refuse),
        (1000, 449, 450, Severity::Warn),
        (100, 0, 0, Severity::Refuse),
        // Not known: three times the archive is unpacked, and the archive lies there too.
        (1000, 200, 0, Severity::Warn),
        (1000, 199, 0, Severity::Pass),
        (1000, 225, 0, Severity::Refuse),
    ] {
        let mut case = good();
        let small = Disk {
            total_kib: 1000,
            used_kib: 1000 - free_kib,
            available_kib: free_kib,
            ..disk("/var/lib/gravity", 1, 1)
        };
        for facts in &mut case.facts {
            facts.disks =
                [("/var/lib/gravity".to_owned(), small.clone()), ("/var/lib/gravity/ferry".to_owned(), small.clone())]
                    .into();
        }
        case.each_target(|target| target.disks.clear());
        // An archive of no bytes is refused elsewhere; only the space row is looked at.
        case.point.bytes = archive * 1024;
        case.point.content_bytes = content * 1024;
        let gates = case.gates();
        let row = gates.findings.iter().filter(|row| row.gate == "space").map(|row| row.severity).max().unwrap();
        assert_eq!(row, severity, "{free_kib} {archive} {content}: {:?}", gates.findings);
    }
}

#[test]
fn what_lies_on_the_node_already_is_not_counted_twice() {
    let mut case = good();
    for facts in &mut case.facts {
        facts.disks.insert("/var/lib/data/ferry".into(), disk("/var/lib/data", 250, 26));
        facts.disks.retain(|path, _| path != "/var/lib/gravity/ferry");
    }
    assert_eq!(refused(&case.gates()), ["space".to_owned()].into());
    case.policy.on_node = Some(("dr-1".into(), 10 * GIB));
    case.gates().permit().unwrap();
    case.policy.on_node = Some(("somewhere".into(), 10 * GIB));
    assert_eq!(refused(&case.gates()), ["space".to_owned()].into());
}

#[test]
fn the_clock_may_be_a_minute_off() {
    for (skews, good_clock) in [
        ([60, 0, 0], true),
        ([-60, 0, 0], true),
        ([30, -30, 0], true),
        ([30, -31, 0], false),
        ([61, 61, 61], false),
        ([60, 60, 60], true),
        ([i64::MAX - NOW, 0, 0], false),
    ] {
        let mut case = good();
        for (facts, skew) in case.facts.iter_mut().zip(skews) {
            facts.epoch += skew;
        }
        assert_eq!(!refused(&case.gates()).contains("clock"), good_clock, "{skews:?}");
    }
}

#[test]
fn what_is_unknown_is_called_unknown() {
    let mut case = good();
    case.each_target(|target| {
        *target = TargetFacts {
            host: target.host.clone(),
            disks: target.disks.clone(),
            dns: Look::Unknown("there is no getent".into()),
            certificate: Look::Unknown("there is no openssl".into()),
            nfs_mounts: Look::Unknown("no findmnt".into()),
            nfs_volumes: Look::Seen(vec![volume(Reach::Unknown("no bash".into()))]),
            pods: Look::Unknown("kubectl did not answer".into()),
            ..TargetFacts::default()
        };
    });
    let gates = case.gates();
    gates.permit().unwrap();
    for gate in ["dns", "certificate", "nfs"] {
        let rows: Vec<&Finding> = gates.findings.iter().filter(|row| row.gate == gate).collect();
        assert!(rows.iter().any(|row| row.severity == Severity::Warn && row.what.contains("known")), "{rows:?}");
        assert!(gate == "nfs" || rows.iter().all(|row| row.severity == Severity::Warn), "{rows:?}");
    }
    // Nobody looked, or the name is not set: told as well.
    case.targets.clear();
    case.gates().permit().unwrap();
    case.policy.platform_dns = None;
    let gates = case.gates();
    for gate in ["dns", "certificate"] {
        assert!(gates.findings.iter().any(|row| row.gate == gate && row.mend.contains("pce_platform_dns")));
    }
    // No NFS at all is a warning.
    let mut case = good();
    case.each_target(|target| {
        target.nfs_mounts = Look::Seen(vec![]);
        target.nfs_volumes = Look::Seen(vec![]);
    });
    let gates = case.gates();
    gates.permit().unwrap();
    assert!(gates.findings.iter().any(|row| row.gate == "nfs" && row.what.contains("no NFS is seen")));
}

#[test]
fn certificates_fit_names_as_rfc_6125_says() {
    let seen = |cn: Option<&str>, dns: &[&str], ip: &[&str]| CertificateSeen {
        common_name: cn.map(str::to_owned),
        dns_names: dns.iter().map(|name| (*name).to_owned()).collect(),
        ip_names: ip.iter().map(|name| (*name).to_owned()).collect(),
        ..CertificateSeen::default()
    };
    for (certificate, name, fits) in [
        (seen(None, &["a.example"], &[]), "a.example", true),
        (seen(None, &["A.Example."], &[]), "a.example", true),
        (seen(None, &["b.example", "a.example"], &[]), "a.example", true),
        (seen(None, &["*.example"], &[]), "a.example", true),
        (seen(None, &["*.example"], &[]), "example", false),
        (seen(None, &["*.example"], &[]), "x.a.example", false),
        (seen(None, &["*.example"], &[]), ".example", false),
        (seen(None, &["a*.example"], &[]), "ab.example", false),
        (seen(None, &["*"], &[]), "example", false),
        (seen(None, &["x.*.example"], &[]), "x.a.example", false),
        (seen(None, &["*.*"], &[]), "a.b", false),
        (seen(Some("a.example"), &[], &[]), "a.example", true),
        (seen(Some("*.example"), &[], &[]), "a.example", true),
        (seen(Some("a.example"), &["b.example"], &[]), "a.example", false),
        (seen(Some("a.example"), &[], &["10.0.0.1"]), "a.example", false),
        (seen(None, &[], &["10.0.0.1"]), "10.0.0.1", true),
        (seen(None, &["10.0.0.1"], &[]), "10.0.0.1", false),
        (seen(Some("10.0.0.1"), &[], &[]), "10.0.0.1", false),
        (seen(None, &[], &["FE80:0:0:0:0:0:0:1"]), "fe80::1", true),
        (seen(None, &[], &[]), "a.example", false),
    ] {
        assert_eq!(matches(&certificate, name), fits, "{certificate:?} {name}");
    }
    for (text, host) in [
        (Some("a.example"), Some("a.example")),
        (Some(" https://a.example:8443/x "), Some("a.example")),
        (Some("a.example:443"), Some("a.example")),
        (Some("a.example."), Some("a.example")),
        (Some("fe80::1"), Some("fe80::1")),
        (Some("[fe80::1]:443"), Some("fe80::1")),
        (Some(" "), None),
        (Some("https://"), None),
        (None, None),
    ] {
        assert_eq!(platform_host(text), host, "{text:?}");
    }
}

#[test]
fn the_certificates_end_is_seen_to_the_second() {
    for (left, severity) in
        [(0, Severity::Refuse), (1, Severity::Warn), (SOON - 1, Severity::Warn), (SOON, Severity::Pass)]
    {
        let mut case = good();
        case.each_target(|target| {
            target.certificate = Look::Seen(CertificateSeen { not_after: Some(NOW + left), ..certificate() });
        });
        let gates = case.gates();
        let worst = gates.findings.iter().filter(|row| row.gate == "certificate").map(|row| row.severity).max();
        assert_eq!(worst, Some(severity), "{left}");
    }
    let mut case = good();
    case.targets.get_mut("dr-2").unwrap().certificate =
        Look::Seen(CertificateSeen { fingerprint: "CC".into(), ..certificate() });
    let gates = case.gates();
    gates.permit().unwrap();
    assert!(gates.findings.iter().any(|row| row.what.contains("different certificates")));
}

#[test]
fn the_lock_is_judged_before_it_is_taken() {
    let mut case = good();
    case.policy.lock_held = None;
    assert_eq!(case.gates().pending, ["lock"]);
    assert!(!case.gates().refused());
    // One of three main nodes is no majority: nothing to wait for.
    case.facts.truncate(1);
    case.unreachable = vec![("dr-2".into(), "x".into()), ("dr-3".into(), "x".into())];
    let gates = case.gates();
    assert!(gates.pending.is_empty());
    assert!(gates.refusal_besides(&["health"]).unwrap().what.contains("the lock needs 2"));
}

#[test]
fn a_plan_is_shown_before_the_name_is_typed() {
    let mut case = good();
    case.policy.confirm = None;
    let gates = case.gates();
    assert!(gates.refused() && !gates.refused_besides(&["confirmation"]));
    assert!(gates.refusal_besides(&["confirmation"]).is_none());
    assert!(gates.permit().unwrap_err().mend.unwrap().contains("--confirm dr"));
}

/// The healthiest main node with room is taken, and an unreachable worker refuses nothing.
#[test]
fn the_node_is_the_healthiest() {
    let mut case = good();
    case.each_status(|status| {
        status.nodes[0].status = "degraded".into();
        status.nodes.push(StatusNode {
            hostname: "amv-1".into(),
            advertise_ip: "10.2.0.21".into(),
            role: "node".into(),
            status: "healthy".into(),
            ..StatusNode::default()
        });
    });
    case.unreachable = vec![("amv-1".into(), "no route".into())];
    let gates = case.gates();
    gates.permit().unwrap();
    assert_eq!(gates.node.as_deref(), Some("dr-2"));
    assert!(gates.why_node.contains("not dr-1: degraded"), "{}", gates.why_node);
    assert!(gates.findings.iter().any(|row| row.host.as_deref() == Some("amv-1") && row.severity == Severity::Warn));
}

#[test]
fn pce_4_is_said_plainly() {
    let mut case = good();
    case.policy.pce_version = Some("4.1.0".into());
    case.facts = vec![NodeFacts { gravity: None, not_gravity: Some("no gravity".into()), ..node(1) }];
    let gates = case.gates();
    let row = gates.findings.iter().find(|row| row.gate == "identity" && row.host.is_some()).unwrap();
    assert!(row.what.contains("/platform/restore") && row.what.contains("4.1.0"), "{row:?}");
}

/// An inventory group always has a name; should it ever be empty, nothing typed equals it.
#[test]
fn an_empty_name_confirms_nothing() {
    let mut case = good();
    case.policy.cluster.clear();
    case.policy.confirm = Some(String::new());
    assert_eq!(refused(&case.gates()), ["confirmation".to_owned()].into());
    let mut case = good();
    erase(&mut case, Some("dr"));
    case.gates().permit().unwrap();
    case.policy.cluster.clear();
    case.policy.erase_amv = Some(String::new());
    let rows = case.gates().findings;
    assert_eq!(rows.iter().filter(|row| row.gate == "confirmation" && row.severity == Severity::Refuse).count(), 2);
}

#[test]
fn each_silent_server_is_named_with_the_nodes_that_miss_it() {
    let mut case = good();
    case.each_target(|target| {
        let other = NfsVolume { server: "nas-2".into(), name: "drives".into(), ..volume(Reach::Silent) };
        let again = NfsVolume { name: "more".into(), ..volume(Reach::Silent) };
        target.nfs_volumes = Look::Seen(vec![volume(Reach::Silent), again, other]);
        target.nfs_mounts = Look::Seen(vec![]);
    });
    let rows: Vec<String> =
        case.gates().findings.into_iter().filter(|row| row.gate == "nfs").map(|row| row.what).collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows[0].contains("server nas of") && rows[1].contains("server nas-2 of"), "{rows:?}");
    assert!(rows.iter().all(|row| row.ends_with("as seen by dr-1, dr-2, dr-3")), "{rows:?}");
}

/// A node that does not tell its disks is not preferred to one that has room.
#[test]
fn a_node_with_room_comes_before_one_that_tells_nothing() {
    let mut case = good();
    case.facts[0].disks.clear();
    case.targets.get_mut("dr-1").unwrap().disks.clear();
    let gates = case.gates();
    gates.permit().unwrap();
    assert_eq!(gates.node.as_deref(), Some("dr-2"));
    assert!(gates.why_node.contains("not dr-1: no room"), "{}", gates.why_node);
}

#[test]
fn nothing_is_permitted_without_a_node_or_without_its_folder() {
    let gates = good().gates();
    assert!(gates.permit().is_ok());
    for change in [
        |gates: &mut RestoreGates| gates.node = None,
        |gates: &mut RestoreGates| gates.work_dir = None,
        |gates: &mut RestoreGates| (gates.node, gates.work_dir) = (None, None),
    ] {
        let mut gates = gates.clone();
        change(&mut gates);
        assert!(gates.permit().is_err());
    }
}

#[test]
fn only_hooks_that_still_run_refuse() {
    let with = |jobs: Vec<KubeJob>| {
        let mut case = good();
        case.gravity(0).kube_jobs = Some(jobs);
        refused(&case.gates())
    };
    let done = KubeJob { active: false, ..job("anypoint-backup-1a2b3c") };
    assert!(with(vec![done.clone()]).is_empty(), "one that has ended does not");
    assert!(with(vec![job("nightly-report")]).is_empty(), "nor one that is no hook");
    assert_eq!(with(vec![done, job("anypoint-restore-4d5e6f")]), ["active".to_owned()].into());
    // Two nodes tell of the same one: it is told once.
    let mut case = good();
    for at in 0..2 {
        case.gravity(at).kube_jobs = Some(vec![job("anypoint-restore-4d5e6f")]);
    }
    assert_eq!(case.gates().findings.iter().filter(|row| row.gate == "active").count(), 1);
}

#[test]
fn what_a_point_lacks_is_told_whether_or_not_it_is_called_complete() {
    let warned = |complete: bool, lacks: &[&str]| {
        let mut case = good();
        case.point.complete = complete;
        case.point.lacks = lacks.iter().map(|lack| (*lack).to_owned()).collect();
        let gates = case.gates();
        assert!(gates.permit().is_ok());
        gates.findings.iter().filter(|row| row.gate == "verdict" && row.severity == Severity::Warn).count()
    };
    assert_eq!((warned(true, &[]), warned(true, &["no AMV"]), warned(false, &[]), warned(false, &["x"])), (0, 1, 1, 1));
}

#[test]
fn a_main_node_that_no_host_is_counts_by_what_gravity_says_of_it() {
    // Nobody failed to be reached: the inventory has no host for the third main node.
    let mut case = good();
    lose_third(&mut case);
    let gates = case.gates();
    assert!(refused(&gates).is_empty(), "{:?}", gates.findings);
    let told = |gates: &RestoreGates, severity: Severity| {
        gates
            .findings
            .iter()
            .any(|row| row.gate == "health" && row.severity == severity && row.what.contains("not looked at"))
    };
    assert!(told(&gates, Severity::Warn), "{:?}", gates.findings);
    case.each_status(|status| status.nodes[2].status = "degraded".into());
    let gates = case.gates();
    assert!(told(&gates, Severity::Refuse), "{:?}", gates.findings);
}

#[test]
fn a_certificate_is_warned_of_a_month_before_its_end_and_begins_at_its_second() {
    let of = |begin: i64, end: i64| {
        let mut case = good();
        let seen = CertificateSeen { not_before: Some(NOW + begin), not_after: Some(NOW + end), ..certificate() };
        case.each_target(|target| target.certificate = Look::Seen(seen.clone()));
        let gates = case.gates();
        gates.findings.iter().filter(|row| row.gate == "certificate").map(|row| row.severity).max().unwrap()
    };
    assert_eq!(of(-DAY, 31 * DAY), Severity::Pass);
    assert_eq!(of(-DAY, 29 * DAY), Severity::Warn);
    assert_eq!(of(0, 300 * DAY), Severity::Pass);
    assert_eq!(of(1, 300 * DAY), Severity::Refuse);
}

#[test]
fn every_gate_that_is_fine_says_so_with_what_was_seen() {
    let gates = good().gates();
    let passed = |gate: &str, what: &str| {
        gates.findings.iter().any(|row| row.gate == gate && row.severity == Severity::Pass && row.what.contains(what))
    };
    for (gate, what) in [
        ("active", "no operation"),
        ("health", "3 of 3 nodes healthy"),
        ("health", "10 pods"),
        ("dns", "anypoint.example is 10.2.0.100 on 3 of 3 nodes"),
        ("certificate", "dr-1, dr-2, dr-3"),
        ("space", "%"),
        ("identity", "pce-dr"),
    ] {
        assert!(passed(gate, what), "{gate}: {what}: {:#?}", gates.findings);
    }
    // Passing rows need no reason and nothing to mend.
    assert!(gates.findings.iter().filter(|row| row.severity == Severity::Pass).all(|row| row.mend.is_empty()));
    // A sick node takes the sentence of health away.
    let mut sick = good();
    sick.each_status(|status| {
        status.state = "degraded".into();
        status.nodes[1].status = "degraded".into();
    });
    let sick = sick.gates();
    assert!(refused(&sick).contains("health"), "{:?}", sick.findings);
    assert!(
        !sick
            .findings
            .iter()
            .any(|row| row.gate == "health" && row.what.contains("nodes healthy") && row.severity == Severity::Pass)
    );
}

/// The rows of a gate with this severity, in words.
fn rows(gates: &RestoreGates, gate: &str, severity: Severity) -> Vec<String> {
    let rows = gates.findings.iter().filter(|row| row.gate == gate && row.severity == severity);
    rows.map(|row| format!("{}: {}", row.host.as_deref().unwrap_or("-"), row.what)).collect()
}

/// Nobody knows which cluster it is: every node says why, nothing is chosen, and no waiver opens it.
#[test]
fn without_any_status_nothing_is_permitted() {
    let mut case = good();
    for at in 0..3 {
        let gravity = case.gravity(at);
        (gravity.status, gravity.status_rc) = (None, 255);
        gravity.status_error = if at == 1 { String::new() } else { "connection refused".into() };
    }
    let mut gates = case.gates();
    always(&case, &gates);
    assert_eq!((gates.node.clone(), gates.identity.clone()), (None, None));
    assert_eq!(gates.why_node, "no node could tell which cluster this is");
    assert!(rows(&gates, "identity", Severity::Refuse)[0].contains("no node could tell which cluster this is"));
    let health = rows(&gates, "health", Severity::Refuse);
    assert!(health[0] == "dr-1: gravity status gave nothing to go by (code 255): connection refused", "{health:?}");
    assert!(health[1].ends_with("(code 255): no answer"), "{health:?}");
    let all = WAIVED_ONE_BY_ONE.iter().map(|gate| ((*gate).to_owned(), "r".to_owned())).collect();
    apply_waivers(&mut gates, &all).unwrap();
    assert!(gates.permit().is_err() && refused(&gates).contains("identity"));
}

#[test]
fn only_sick_main_nodes_refuse_and_a_waiver_takes_the_best_of_them() {
    let mut case = good();
    case.each_status(|status| {
        status.nodes.iter_mut().for_each(|node| node.status = "degraded".into());
        status.nodes[0].status = "offline".into();
    });
    let mut gates = case.gates();
    always(&case, &gates);
    let told = rows(&gates, "health", Severity::Refuse);
    let best = "dr-2: no healthy Gravity master was reached; the best is dr-2 (degraded)";
    assert!(told.iter().any(|row| row == best), "{told:?}");
    assert_eq!(refused(&gates), ["health".to_owned()].into());
    apply_waivers(&mut gates, &[("health".to_owned(), "it is what we mend".to_owned())].into()).unwrap();
    gates.permit().unwrap();
    assert_eq!(gates.node.as_deref(), Some("dr-2"));
}

/// What is odd but wrong in no way is said and opens nothing and closes nothing.
#[test]
fn what_is_odd_is_warned_of() {
    let mut case = good();
    case.point.gravity_version = Some("7.0.12".into());
    let gates = case.gates();
    gates.permit().unwrap();
    assert_eq!(
        rows(&gates, "version", Severity::Warn),
        ["-: the point is of Gravity 7.0.12, the target runs Gravity 8.0.5"]
    );
    let mut case = good();
    case.each_status(|status| status.app_name = "telekube".into());
    let gates = case.gates();
    gates.permit().unwrap();
    assert_eq!(rows(&gates, "identity", Severity::Warn), ["-: the cluster image is telekube, not anypoint"]);
    // The same name, but another cluster by its uid: installed anew since.
    let mut case = good();
    case.point.identity.as_mut().unwrap().gravity_name = "pce-dr".into();
    let gates = case.gates();
    gates.permit().unwrap();
    assert!(
        rows(&gates, "identity", Severity::Warn)[0].contains("has the name of the point's own cluster, but is another")
    );
    // --in-place is taken at its word where nothing tells, and not called a proof.
    let mut case = good();
    case.policy.in_place = true;
    let source = case.point.identity.as_mut().unwrap();
    (source.kube_system_uid, source.gravity_name) = (None, "pce-dr".into());
    source.advertise_addresses.clear();
    let gates = case.gates();
    gates.permit().unwrap();
    assert!(rows(&gates, "identity", Severity::Warn)[0].contains("as --in-place says"), "{:?}", gates.findings);
    assert!(rows(&gates, "identity", Severity::Pass).is_empty(), "{:?}", gates.findings);
    // Until when a certificate is valid is not told; nor for whom.
    let mut case = good();
    case.each_target(|target| {
        target.certificate = Look::Seen(CertificateSeen { not_after: None, ..certificate() });
    });
    let gates = case.gates();
    gates.permit().unwrap();
    assert!(rows(&gates, "certificate", Severity::Warn)[0].contains("until when"), "{:?}", gates.findings);
    for (common_name, told) in [(Some("old.example"), "is for old.example, not for"), (None, "is for nobody, not for")]
    {
        case.each_target(|target| {
            let seen =
                CertificateSeen { common_name: common_name.map(str::to_owned), dns_names: vec![], ..certificate() };
            target.certificate = Look::Seen(seen);
        });
        let gates = case.gates();
        assert!(rows(&gates, "certificate", Severity::Refuse)[0].contains(told), "{:?}", gates.findings);
    }
}

/// A node that kubectl told nothing of belongs by what Gravity says of it and by its addresses.
#[test]
fn a_node_belongs_by_its_address_where_no_uid_tells() {
    let mut case = good();
    case.gravity(1).kube_uid = None;
    case.gates().permit().unwrap();
    // Not by an address, but by the name that Gravity gives it.
    case.facts[1].addresses = vec!["192.0.2.2".into()];
    case.gates().permit().unwrap();
    // Whose own view of the cluster has none of its nodes is another's, whatever its name is.
    let status = case.gravity(1).status.as_mut().unwrap();
    status.nodes.iter_mut().enumerate().for_each(|(at, node)| node.advertise_ip = format!("192.0.2.{at}"));
    assert!(refused(&case.gates()).contains("identity"), "{:?}", case.gates().findings);
}

#[test]
fn pods_that_are_not_well_are_named_the_first_of_them() {
    let pod = |number: u8| UnwellPod {
        namespace: "default".into(),
        name: format!("api-{number}"),
        why: "CrashLoopBackOff".into(),
        job: None,
    };
    let mut case = good();
    for (count, told) in [(1, "1 of 12 pods are not well: default/api-1 (CrashLoopBackOff)"), (10, "and 2 more")] {
        case.each_target(|target| {
            let unwell = (1..=count).map(pod).collect();
            target.pods = Look::Seen(PodsSeen { total: 12, well: 2, completed: 0, evicted: 0, unwell });
        });
        let gates = case.gates();
        gates.permit().unwrap();
        let rows = rows(&gates, "health", Severity::Warn);
        assert!(rows.len() == 1 && rows[0].contains(told), "{rows:?}");
    }
    case.each_target(|target| target.pods = Look::NotAsked);
    assert_eq!(rows(&case.gates(), "health", Severity::Warn), ["-: how the pods are is not known: nobody asked"]);
}

/// What could be seen of NFS is told, and what could not beside it; a mount stands for its server whatever its path is.
#[test]
fn what_is_known_of_nfs_is_told_with_what_is_not() {
    let mut case = good();
    case.targets.get_mut("dr-1").unwrap().nfs_mounts = Look::NotAsked;
    case.targets.get_mut("dr-2").unwrap().nfs_volumes = Look::Unknown("kubectl did not answer".into());
    case.targets.get_mut("dr-3").unwrap().nfs_volumes = Look::NotAsked;
    let gates = case.gates();
    gates.permit().unwrap();
    let told = rows(&gates, "nfs", Severity::Warn);
    for word in [
        "mounts on dr-1 were not asked",
        "volumes of Kubernetes on dr-2: kubectl",
        "volumes of Kubernetes on dr-3 were not",
    ] {
        assert!(told.len() == 1 && told[0].contains(word), "{word}: {told:?}");
    }
    assert_eq!(rows(&gates, "nfs", Severity::Pass).len(), 1);
    for source in ["nas:/srv/nfs", "nas:/srv/a:b", "[nas]:/"] {
        case.each_target(|target| {
            target.nfs_mounts = Look::Seen(vec![NfsMount { source: source.into(), target: "/mnt".into() }]);
            target.nfs_volumes = Look::Seen(vec![volume(Reach::Silent)]);
        });
        let gates = case.gates();
        assert!(!refused(&gates).contains("nfs"), "{source}: {:?}", gates.findings);
        assert!(rows(&gates, "nfs", Severity::Warn).iter().any(|row| row.contains("is mounted, but did not answer")));
    }
    case.each_target(|target| {
        target.nfs_mounts = Look::Seen(vec![NfsMount { source: "nas-2:/srv:nas:/x".into(), target: "/mnt".into() }]);
    });
    assert!(refused(&case.gates()).contains("nfs"), "another server's mount says nothing of this one");
}
