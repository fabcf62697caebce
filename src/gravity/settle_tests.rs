//! When a cluster counts as well again, and that the checklist leaves nothing out.

use super::super::gates::tests::{Case, good, job};
use super::super::target::{PodsSeen, UnwellPod};
use super::*;

fn judged(case: &Case) -> Settled {
    let expect = SettleExpect { pce_version: Some("3.2.0".into()), gravity_name: Some("pce-dr".into()) };
    settled(&case.facts, &case.targets, &case.unreachable, &expect)
}

#[test]
fn green_only_when_everything_is_seen_and_well() {
    let case = good();
    assert_eq!(judged(&case), Settled { green: true, waiting_for: vec![], wrong: vec![] });
    type Change = fn(&mut Case);
    let pod = |job: Option<&str>| UnwellPod {
        namespace: "kube-system".into(),
        name: "anypoint-restore-1a2b3c-x".into(),
        why: "Failed".into(),
        job: job.map(str::to_owned),
    };
    let waits: [(&str, Change); 11] = [
        ("degraded", |case| case.each_status(|status| status.state = "degraded".into())),
        ("no node agent", |case| case.each_status(|status| status.system_status = None)),
        ("updating", |case| case.each_status(|status| status.state = "updating".into())),
        ("pce-dr-2", |case| case.gravity(0).status.as_mut().unwrap().nodes[1].status = "offline".into()),
        ("gravity status on dr-3", |case| case.gravity(2).status = None),
        ("any node", |case| {
            for at in 0..3 {
                case.gravity(at).status = None;
            }
        }),
        ("any node", |case| {
            case.facts.clear();
            case.unreachable = vec![("dr-1".into(), "refused".into())];
        }),
        ("the hook anypoint-restore-1a2b3c", |case| {
            case.gravity(1).kube_jobs = Some(vec![job("anypoint-restore-1a2b3c")]);
        }),
        ("about running hooks", |case| {
            for at in 0..3 {
                case.gravity(at).kube_jobs = None;
            }
        }),
        ("how the pods are", |case| case.each_target(|target| target.pods = Look::Unknown("x".into()))),
        ("the PCE version", |case| case.each_status(|status| status.app_version.clear())),
    ];
    for (word, change) in waits {
        let mut case = good();
        change(&mut case);
        let settled = judged(&case);
        assert!(!settled.green && settled.wrong.is_empty(), "{word}: {settled:?}");
        assert!(settled.waiting_for.iter().any(|sentence| sentence.contains(word)), "{word}: {settled:?}");
    }
    for (why, jobs, unwell, green) in [
        ("a pod that is not ready", vec![], vec![UnwellPod { job: None, ..pod(None) }], false),
        ("a failed pod of an ended hook", vec![], vec![pod(Some("anypoint-restore-1a2b3c"))], true),
        ("a failed pod of a foreign job", vec![], vec![pod(Some("cleanup"))], false),
        (
            "a failed try of a running hook",
            vec![job("anypoint-restore-1a2b3c")],
            vec![pod(Some("anypoint-restore-1a2b3c"))],
            false,
        ),
    ] {
        let mut case = good();
        case.gravity(0).kube_jobs = Some(jobs);
        case.each_target(|target| {
            target.pods = Look::Seen(PodsSeen { total: 5, well: 4, unwell: unwell.clone(), ..PodsSeen::default() });
        });
        assert_eq!(judged(&case).green, green, "{why}");
    }
    let mut case = good();
    case.each_target(|target| target.pods = Look::Seen(PodsSeen::default()));
    assert!(!judged(&case).green, "no pod at all is no cluster");
}

#[test]
fn another_version_or_name_is_wrong_not_waited_for() {
    let mut case = good();
    case.gravity(2).status.as_mut().unwrap().app_version = "3.1.0".into();
    let settled = judged(&case);
    assert!(!settled.green && settled.wrong.iter().any(|sentence| sentence.contains("3.1.0")), "{settled:?}");
    let mut case = good();
    case.each_status(|status| status.name = "pce-prod".into());
    let settled = judged(&case);
    assert!(!settled.green && settled.wrong.iter().any(|sentence| sentence.contains("pce-prod")), "{settled:?}");
}

/// A main node that is down is waited for only as far as Gravity says so: it was waived before.
#[test]
fn an_unreachable_host_alone_is_not_waited_for() {
    let mut case = good();
    case.unreachable = vec![("amv-1".into(), "no route".into())];
    assert!(judged(&case).green);
}

#[test]
fn the_checklist_has_every_row_of_the_vendors_table() {
    let case = good();
    let rows = checklist(&case.point, &case.targets, &case.policy, &ChecklistFacts::default());
    let items: Vec<&str> = rows.iter().map(|row| row.item.as_str()).collect();
    assert_eq!(
        items,
        [
            "NFS files",
            "DNS",
            "platform certificate",
            "Ops Center certificate",
            "runtimes",
            "drives",
            "Anypoint Monitoring metrics"
        ]
    );
    assert!(rows.iter().all(|row| !row.known.is_empty() && !row.todo.is_empty()));
    assert!(rows[0].known.contains("nas:/srv/nfs") && rows[1].known.contains("10.2.0.100"), "{rows:?}");
    assert!(rows[2].known.contains("AA:BB") && rows[2].todo.contains("pce_certificate_source"), "{rows:?}");
    let facts = ChecklistFacts {
        amv_restored: true,
        has_amv: true,
        nfs_restored: true,
        certificate_source: Some("safe 3, shelf 2".into()),
    };
    let rows = checklist(&case.point, &BTreeMap::new(), &RestorePolicy::default(), &facts);
    assert!(rows[0].known.contains("restored by this run") && rows[1].known.contains("not set"), "{rows:?}");
    assert!(rows[2].todo.contains("safe 3, shelf 2") && rows[2].known.contains("could not be seen"), "{rows:?}");
    assert_eq!(rows[6].known, "restored by this run");
}
