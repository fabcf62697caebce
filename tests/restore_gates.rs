//! The gate matrix of a restore: whatever is wrong, in one place or in two, the pretend gravity's own record
//! shows that restore was never called; and what is right, or waived gate by gate, runs once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

#[path = "support/cluster.rs"]
mod cluster;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cluster::{Cluster, Ended, Going, SOON};
use ferry::sandbox::{self, FaultSetting};

/// Something that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    /// dr runs another PCE version.
    Version,
    /// A host of dr belongs to another cluster.
    Stray,
    /// A hook that nobody here started runs in dr.
    ActiveHook,
    /// Gravity itself is at work in dr.
    Operation,
    /// The archive has one byte that it should not have.
    Digest,
    /// A verification found the point damaged.
    Verdict,
    /// Nothing confirms.
    Silence,
    /// The name of another cluster confirms.
    OtherName,
    /// `--yes`, which confirms nothing here.
    Yes,
    /// dr is degraded.
    Health,
    /// dr's disk is full.
    Space,
    /// A clock of dr is wrong.
    Clock,
    /// dr's nodes do not know the platform's name.
    Dns,
    /// The platform's certificate has expired.
    Certificate,
}

use Wrong::*;

const ALL: [Wrong; 14] = [
    Version,
    Stray,
    ActiveHook,
    Operation,
    Digest,
    Verdict,
    Silence,
    OtherName,
    Yes,
    Health,
    Space,
    Clock,
    Dns,
    Certificate,
];

impl Wrong {
    fn fault(self) -> Option<&'static str> {
        Some(match self {
            Version => "dr:version-mismatch=9.9.9",
            Stray => "dr-2:stray=pce-elsewhere",
            ActiveHook => "dr:foreign-hook-job=anypoint-restore-abcdef",
            Operation => "dr:active-operation=operation_update",
            Health => "dr:degraded=on",
            Space => "dr:disk=256000:4",
            Clock => "dr-3:clock-skew=400",
            Dns => "dr:dns-missing=on",
            Certificate => "dr:cert-expired=on",
            _ => return None,
        })
    }

    /// The gate that says no, and whether it can be waived.
    fn gate(self) -> (&'static str, bool) {
        match self {
            Version => ("version", false),
            Stray => ("identity", false),
            ActiveHook | Operation => ("active", false),
            Digest => ("digest", false),
            Verdict => ("verdict", false),
            Silence | OtherName | Yes => ("confirmation", false),
            Health => ("health", true),
            Space => ("space", true),
            Clock => ("clock", true),
            Dns => ("dns", true),
            Certificate => ("certificate", true),
        }
    }

    /// What stands around the cluster: paired with a few others only, for time.
    fn around(self) -> bool {
        matches!(self, Dns | Certificate)
    }

    fn about_typing(self) -> bool {
        matches!(self, Silence | OtherName | Yes)
    }
}

struct Place {
    cluster: Cluster,
    good: String,
    flipped: String,
    damaged: String,
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn place() -> Place {
    let cluster = Cluster::plain(0.3, 2);
    let first = cluster.run(&["backup", "prod", "--waive", "space=the disk of a test machine"], SOON);
    assert_eq!(first.code, Some(0), "{}", first.said);
    let good = cluster.sealed().into_iter().next().unwrap();
    let shelf = cluster.dir().join("catalog/prod");
    // Two more points of the same content: one whose archive was changed at rest, one that is known as damaged.
    let twin = |digit: &str| {
        let id = format!("{}{digit}", &good[..good.len() - 1]);
        copy_dir(&shelf.join(&good), &shelf.join(&id));
        let manifest = shelf.join(&id).join("manifest.json");
        let text = std::fs::read_to_string(&manifest).unwrap().replace(&good, &id);
        std::fs::write(&manifest, text).unwrap();
        let archive = shelf.join(&id).join("gravity.tar.gz");
        let mut bytes = std::fs::read(&archive).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&archive, bytes).unwrap();
        (id, archive)
    };
    let last = good.chars().last().unwrap();
    let mut digits = "0123456789abcdef".chars().filter(|digit| *digit != last);
    let (flipped, _) = twin(&digits.next().unwrap().to_string());
    let (damaged, archive) = twin(&digits.next().unwrap().to_string());
    let verified = cluster.run(&["points", "verify", &damaged], SOON);
    assert_eq!(verified.code, Some(9), "{}", verified.said);
    // Whole again, and still known as damaged: only a verification lifts that.
    std::fs::copy(shelf.join(&good).join("gravity.tar.gz"), archive).unwrap();
    Place { cluster, good, flipped, damaged }
}

/// How often gravity restore was called, by its own record.
fn called(place: &Place) -> usize {
    let record = sandbox::record(place.cluster.dir()).unwrap();
    record.iter().filter(|line| line.tool == "gravity" && line.act == "restore" && line.step == "called").count()
}

fn set(place: &Place, wrong: &[Wrong], on: bool) {
    let settings: Vec<FaultSetting> = wrong
        .iter()
        .filter_map(|wrong| wrong.fault())
        .map(|text| {
            let mut setting: FaultSetting = text.parse().unwrap();
            if !on {
                setting.value = "off".to_owned();
            }
            setting
        })
        .collect();
    sandbox::set_faults(place.cluster.dir(), &settings).unwrap();
}

fn restore(place: &Place, wrong: &[Wrong], waive: &[&str], more: &[&str]) -> Ended {
    let point = match (wrong.contains(&Digest), wrong.contains(&Verdict)) {
        (true, _) => &place.flipped,
        (_, true) => &place.damaged,
        _ => &place.good,
    };
    let point = format!("prod/{point}");
    let mut words = vec!["restore", &point, "--to", "dr", "--output", "plain", "--waive", "safety_backup=a test"];
    if wrong.contains(&OtherName) {
        words.extend(["--confirm", "prod"]);
    } else if wrong.contains(&Yes) {
        words.push("--yes");
    } else if !wrong.contains(&Silence) {
        words.extend(["--confirm", "dr"]);
    }
    let waivers: Vec<String> = waive.iter().map(|gate| format!("{gate}=known and told")).collect();
    for waiver in &waivers {
        words.extend(["--waive", waiver]);
    }
    words.extend(more);
    set(place, wrong, true);
    let ended = place.cluster.run(&words, SOON);
    set(place, wrong, false);
    ended
}

/// Every case with one or two things wrong is refused, says so by the gate's name, and gravity is never asked.
#[test]
fn what_is_wrong_is_refused_and_gravity_never_called() {
    let place = place();
    let mut cases: Vec<Vec<Wrong>> = ALL.iter().map(|one| vec![*one]).collect();
    for (index, one) in ALL.iter().enumerate() {
        for other in &ALL[index + 1..] {
            // A command line has one point and one confirmation.
            let both_points = matches!((one, other), (Digest, Verdict));
            let far = other.around() && !matches!(one, Version | Silence | Space);
            if far || both_points || (one.about_typing() && other.about_typing()) {
                continue;
            }
            cases.push(vec![*one, *other]);
        }
    }
    assert!(cases.len() >= 64, "{} cases", cases.len());
    let mut by_gate: BTreeMap<&str, usize> = BTreeMap::new();
    for wrong in &cases {
        let ended = restore(&place, wrong, &[], &[]);
        assert_eq!(ended.code, Some(7), "{wrong:?}\n{}", ended.said);
        for one in wrong {
            let (gate, _) = one.gate();
            *by_gate.entry(gate).or_default() += 1;
            // The table names every gate that refuses, not the first alone.
            let said = ended.said.lines().any(|line| line.contains("REFUSE") && line.contains(&format!(" {gate}: ")));
            assert!(said, "{wrong:?}: {gate} is not in the table\n{}", ended.said);
        }
        assert_eq!(called(&place), 0, "{wrong:?}\n{}", ended.said);
    }
    println!("{} refused: {by_gate:?}", cases.len());
}

/// A waiver opens its own gate and no other; what cannot be waived is wrong usage.
#[test]
fn a_waiver_opens_its_own_gate_only() {
    let place = place();
    let waivable: Vec<Wrong> = ALL.iter().copied().filter(|wrong| wrong.gate().1).collect();
    let mut runs = 0;
    for wrong in &waivable {
        let (gate, _) = wrong.gate();
        for other in waivable.iter().filter(|other| other.gate().0 != gate) {
            let ended = restore(&place, &[*wrong], &[other.gate().0], &[]);
            assert_eq!((ended.code, called(&place)), (Some(7), runs), "{wrong:?}, {other:?} waived\n{}", ended.said);
        }
        // Waived, and something else is wrong that nothing waives.
        for never in [Version, Silence, Digest] {
            let ended = restore(&place, &[*wrong, never], &[gate], &[]);
            assert_eq!((ended.code, called(&place)), (Some(7), runs), "{wrong:?} waived, {never:?}\n{}", ended.said);
        }
        if *wrong == Health {
            // It stays degraded, and ferry waits two minutes for it: see restore.rs.
            continue;
        }
        let ended = restore(&place, &[*wrong], &[gate], &[]);
        runs += 1;
        assert_eq!((ended.code, called(&place)), (Some(0), runs), "{wrong:?} waived\n{}", ended.said);
        assert!(ended.said.contains("known and told"), "{}", ended.said);
    }
    for gate in ["digest", "verdict", "version", "identity", "confirmation", "lock", "active", "everything"] {
        let ended = restore(&place, &[], &[gate], &[]);
        assert_eq!((ended.code, called(&place)), (Some(5), runs), "{gate}\n{}", ended.said);
    }
    // The reasons are kept with the point.
    let notes = place.cluster.dir().join("catalog/prod").join(&place.good).join("notes.jsonl");
    let notes = std::fs::read_to_string(notes).unwrap();
    assert_eq!(notes.matches("\"restored\"").count(), runs, "{notes}");
    assert!(notes.contains("known and told"), "{notes}");
}

/// Back into the cluster that the point came from only when that is said; and when it is said, only there.
#[test]
fn the_points_own_cluster_wants_in_place() {
    let place = place();
    let point = format!("prod/{}", place.good);
    let own = ["restore", &point, "--to", "prod", "--confirm", "prod", "--waive", "safety_backup=a test"];
    let ended = place.cluster.run(&own, SOON);
    assert_eq!((ended.code, called(&place)), (Some(7), 0), "{}", ended.said);
    assert!(ended.said.contains("--in-place"), "{}", ended.said);
    let ended = restore(&place, &[], &[], &["--in-place"]);
    assert_eq!((ended.code, called(&place)), (Some(7), 0), "{}", ended.said);
    let words: Vec<&str> = own.iter().copied().chain(["--in-place"]).collect();
    let ended = place.cluster.run(&words, SOON);
    assert_eq!((ended.code, called(&place)), (Some(0), 1), "{}", ended.said);
}

/// While another ferry works on the target, the lock says no; so does its job when that ferry is gone.
#[test]
fn another_ferry_at_work_refuses() {
    let place = place();
    sandbox::set_faults(place.cluster.dir(), &["dr:hook-seconds=25".parse().unwrap()]).unwrap();
    let mut other = place.cluster.command(&["backup", "dr", "--output", "plain", "--waive", "space=a test"]);
    let other = Going::start(&mut other);
    let begun = std::time::Instant::now();
    let busy = || {
        let record = sandbox::record(place.cluster.dir()).unwrap();
        record.iter().any(|line| line.act == "backup" && line.step == "hook-began" && line.node.starts_with("dr"))
    };
    while !busy() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the other ferry did not begin");
        std::thread::sleep(Duration::from_millis(50));
    }
    let ended = restore(&place, &[], &[], &[]);
    assert_eq!((ended.code, called(&place)), (Some(7), 0), "{}", ended.said);
    assert!(ended.said.contains("another ferry works on this cluster"), "{}", ended.said);
    // Killed, its job goes on and is active.
    other.signal(rustix::process::Signal::KILL);
    other.end(SOON);
    let ended = restore(&place, &[], &[], &[]);
    assert_eq!((ended.code, called(&place)), (Some(7), 0), "{}", ended.said);
    assert!(ended.said.contains("active"), "{}", ended.said);
}

/// A playbook cannot leave a step out, put it elsewhere, or switch a gate off.
#[test]
fn a_playbook_meets_the_same_gates() {
    let place = place();
    let point = format!("ferry_point=prod/{}", place.good);
    let play = |tasks: &[&str]| {
        let mut text = "- hosts: dr:&mains\n  gather_facts: false\n  tasks:\n".to_owned();
        for task in tasks {
            text.push_str(&format!("    - {task}:\n"));
        }
        let path: PathBuf = place.cluster.dir().join("own.yml");
        std::fs::write(&path, text).unwrap();
    };
    let run = |more: &[&str]| {
        let words = ["run", "own.yml", "-e", "ferry_cluster=dr", "-e", &point, "--waive", "safety_backup=a test"];
        let words: Vec<&str> = words.iter().copied().chain(more.iter().copied()).collect();
        place.cluster.run(&words, SOON)
    };
    for tasks in [
        &["gravity_restore"][..],
        &["restore_gates", "gravity_restore"],
        &["gravity_facts", "gravity_restore"],
        &["gravity_facts", "cluster_lock", "gravity_restore"],
        &["gravity_facts", "cluster_lock", "restore_gates", "gravity_restore"],
        &["gravity_facts", "restore_gates", "archive_deliver", "gravity_restore"],
        &["gravity_facts", "cluster_lock", "archive_deliver", "gravity_restore"],
        &["gravity_facts", "cluster_lock", "archive_deliver", "restore_gates", "gravity_restore"],
        &["gravity_restore", "gravity_facts", "cluster_lock", "restore_gates", "archive_deliver"],
        &["amv_restore"],
        &["gravity_facts", "cluster_lock", "amv_restore"],
    ] {
        play(tasks);
        let ended = run(&["--confirm", "dr"]);
        assert_eq!((ended.code, called(&place)), (Some(7), 0), "{tasks:?}\n{}", ended.said);
    }
    let whole = [
        "gravity_facts",
        "cluster_lock",
        "restore_gates",
        "archive_deliver",
        "gravity_restore",
        "cluster_settle",
        "restore_tidy",
    ];
    play(&whole);
    for (confirm, code) in [(&["--confirm", "prod"][..], 7), (&[], 7), (&["--confirm", "dr"], 0)] {
        let ended = run(confirm);
        assert_eq!(ended.code, Some(code), "{confirm:?}\n{}", ended.said);
        assert_eq!(called(&place), usize::from(code == 0), "{confirm:?}\n{}", ended.said);
    }
    // Right after, with everything the same but the version: asked anew, whatever was asked before.
    set(&place, &[Version], true);
    let ended = run(&["--confirm", "dr"]);
    assert_eq!((ended.code, called(&place)), (Some(7), 1), "{}", ended.said);
}
