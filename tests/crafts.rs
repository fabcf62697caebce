//! What is built of backups and restores: a migration; and what is around them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

#[path = "support/cluster.rs"]
mod cluster;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use cluster::{Cluster, Ended, Going, SOON};
use ferry::sandbox::{self, FaultSetting};
use rustix::process::Signal;

fn long() -> bool {
    std::env::var_os("FERRY_LONG").is_some_and(|value| value == "1")
}

const SPACE: &str = "space=the disk of a test machine";
const SAFETY: &str = "safety_backup=a test";

fn fault(cluster: &Cluster, text: &str) {
    let setting: FaultSetting = text.parse().unwrap();
    sandbox::set_faults(cluster.dir(), &[setting]).unwrap();
}

/// How often the hook of a backup and of a restore began.
fn hooks(cluster: &Cluster) -> (usize, usize) {
    let record = sandbox::record(cluster.dir()).unwrap();
    let of = |act: &str| {
        record.iter().filter(|line| line.tool == "gravity" && line.act == act && line.step == "hook-began").count()
    };
    (of("backup"), of("restore"))
}

fn runs(cluster: &Cluster) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(cluster.dir().join("runs")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join("journal.jsonl").exists()).collect()
}

fn left_over(cluster: &Cluster) -> Vec<String> {
    let mut left = Vec::new();
    for node in &cluster.up.nodes {
        for place in ["var/lib/ferry/jobs", "var/lib/ferry/amv", "var/lib/gravity/ferry", "var/lib/data/ferry"] {
            let entries = std::fs::read_dir(node.root.join(place)).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| format!("{}: {}", node.name, entry.path().display())));
        }
    }
    left
}

const MIGRATE: [&str; 12] = [
    "migrate",
    "prod",
    "dr",
    "--confirm",
    "dr",
    "--output",
    "plain",
    "--waive",
    SPACE,
    "--waive",
    SAFETY,
    "--only=gravity",
];

fn migrate(cluster: &Cluster, more: &[&str]) -> Ended {
    let words: Vec<&str> = MIGRATE.iter().chain(more).copied().collect();
    cluster.run(&words, SOON)
}

#[test]
fn a_migration_puts_the_source_into_the_target() {
    let cluster = Cluster::plain(0.4, 3);
    let then = sandbox::content(cluster.dir(), "prod").unwrap();
    // What cannot be is told before anything is backed up.
    for (words, code, says) in [
        (&["migrate", "prod", "prod", "--confirm", "prod"][..], 5, "the same group"),
        (&["migrate", "prod", "nowhere", "--confirm", "nowhere"], 6, "there is no cluster"),
        (&["migrate", "prod", "dr", "--waive", SPACE], 7, "--confirm dr"),
        (&["migrate", "prod", "dr", "--confirm", "prod", "--waive", SPACE], 7, "--confirm dr"),
        (&["migrate", "prod", "dr", "--yes", "--waive", SPACE], 7, "was not confirmed"),
    ] {
        let ended = cluster.run(words, SOON);
        assert_eq!(ended.code, Some(code), "{words:?}\n{}", ended.said);
        assert!(ended.said.contains(says), "{words:?}: {says}\n{}", ended.said);
    }
    fault(&cluster, "dr:version-mismatch=9.9.9");
    let ended = migrate(&cluster, &[]);
    assert_eq!(ended.code, Some(7), "{}", ended.said);
    assert!(ended.said.contains("gate version"), "{}", ended.said);
    fault(&cluster, "dr:version-mismatch=off");
    let ended = migrate(&cluster, &["--check"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!((hooks(&cluster), cluster.sealed().len()), ((0, 0), 0), "{}", ended.said);

    let ended = migrate(&cluster, &["--label", "moved"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then, "{}", ended.said);
    assert_eq!(hooks(&cluster), (1, 1), "{}", ended.said);
    assert_eq!(left_over(&cluster), [""; 0], "{}", ended.said);
    let id = cluster.sealed().into_iter().next().unwrap();
    for words in [format!("prod/{id}"), "into       dr: what it holds now is destroyed".to_owned()] {
        assert!(ended.said.contains(&words), "{words}\n{}", ended.said);
    }
    let file = |name: &str| std::fs::read_to_string(cluster.dir().join("catalog/prod").join(&id).join(name)).unwrap();
    assert!(file("notes.jsonl").contains("\"restored\"") && file("manifest.json").contains("moved"));

    // Not kept: nothing stays in the catalog, and nothing on the way.
    sandbox::change(cluster.dir(), "prod", "later").unwrap();
    let then = sandbox::content(cluster.dir(), "prod").unwrap();
    let ended = migrate(&cluster, &["--no-keep"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then, "{}", ended.said);
    assert_eq!(cluster.sealed().len(), 1, "{}", ended.said);
    let spooled: Vec<_> = std::fs::read_dir(cluster.dir().join("runs/spool")).unwrap().flatten().collect();
    assert!(spooled.is_empty(), "{spooled:?}");
}

#[test]
fn a_migration_whose_backup_fails_touches_nothing() {
    let cluster = Cluster::plain(0.3, 2);
    let dr = sandbox::content(cluster.dir(), "dr").unwrap();
    for what in ["prod:exit0-empty-archive=on", "prod:hook-fails=on"] {
        fault(&cluster, what);
        let ended = migrate(&cluster, &[]);
        fault(&cluster, &format!("{}=off", what.split('=').next().unwrap()));
        assert_eq!(ended.code, Some(2), "{what}\n{}", ended.said);
        assert_eq!(hooks(&cluster).1, 0, "{what}\n{}", ended.said);
    }
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), dr);
}

/// kill -9 at lines all over the journal: resumed, the source is backed up once and the target restored once.
#[test]
fn a_killed_migration_is_carried_on() {
    let cluster = Cluster::plain(0.4, 2);
    let before = runs(&cluster);
    let whole = migrate(&cluster, &[]);
    assert_eq!(whole.code, Some(0), "{}", whole.said);
    let journal = runs(&cluster).difference(&before).next().unwrap().join("journal.jsonl");
    let lines = std::fs::read_to_string(journal).unwrap().lines().count();
    let step = if long() { 1 } else { (lines / 3).max(1) };
    let mut killed = 0;
    for at in (3..lines).step_by(step).chain(std::iter::once(lines - 2)) {
        sandbox::change(cluster.dir(), "prod", &format!("case {at}")).unwrap();
        let then = sandbox::content(cluster.dir(), "prod").unwrap();
        let (hooked, before) = (hooks(&cluster), runs(&cluster));
        let mut going = Going::start(&mut cluster.command(&MIGRATE));
        let mut run = None;
        while !going.over() {
            run = run.or_else(|| runs(&cluster).difference(&before).next().cloned());
            let text = run.as_ref().and_then(|run| std::fs::read_to_string(run.join("journal.jsonl")).ok());
            if text.map_or(0, |text| text.lines().count()) >= at {
                going.signal(Signal::KILL);
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut last = going.end(SOON);
        killed += usize::from(last.code.is_none());
        let name = run.unwrap().file_name().unwrap().to_string_lossy().into_owned();
        for _ in 0..8 {
            if last.code == Some(0) {
                break;
            }
            last = cluster.run(&["runs", "resume", &name, "--output", "plain"], SOON);
            assert!(matches!(last.code, Some(0 | 7 | 8)), "line {at}\n{}", last.said);
            if last.code == Some(7) {
                assert!(last.said.contains("another ferry"), "line {at}\n{}", last.said);
                std::thread::sleep(Duration::from_millis(500));
            }
        }
        assert_eq!(last.code, Some(0), "line {at}\n{}", last.said);
        let now = hooks(&cluster);
        assert_eq!((now.0 - hooked.0, now.1 - hooked.1), (1, 1), "line {at}: backups and restores\n{}", last.said);
        assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then, "line {at}\n{}", last.said);
        assert_eq!(left_over(&cluster), [""; 0], "line {at}\n{}", last.said);
    }
    assert!(killed >= 3, "{killed} kills");
    println!("{killed} migrations killed at lines of a journal of {lines}, each carried on: one backup, one restore");
}
