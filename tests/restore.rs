//! A restore from the command line to the cluster's content: what it puts there, what it does when it is killed,
//! cut or lied to, and how it is carried on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

#[path = "support/cluster.rs"]
mod cluster;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster::{Cluster, Ended, Going, SOON};
use ferry::sandbox::{self, FaultSetting, Options};
use rustix::process::Signal;

fn long() -> bool {
    std::env::var_os("FERRY_LONG").is_some_and(|value| value == "1")
}

const SPACE: &str = "space=the disk of a test machine";
const SAFETY: &str = "safety_backup=a test";

fn backed_up(cluster: &Cluster) -> String {
    let before = cluster.sealed();
    let ended = cluster.run(&["backup", "prod", "--waive", SPACE], SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    format!("prod/{}", cluster.sealed().difference(&before).next().unwrap())
}

fn fault(cluster: &Cluster, text: &str) {
    let setting: FaultSetting = text.parse().unwrap();
    sandbox::set_faults(cluster.dir(), &[setting]).unwrap();
}

fn count(cluster: &Cluster, act: &str, step: &str) -> usize {
    let record = sandbox::record(cluster.dir()).unwrap();
    record.iter().filter(|line| line.tool == "gravity" && line.act == act && line.step == step).count()
}

/// How often gravity restore was called, and how often its hook began.
fn restored(cluster: &Cluster) -> (usize, usize) {
    (count(cluster, "restore", "called"), count(cluster, "restore", "hook-began"))
}

fn restore(cluster: &Cluster, point: &str, more: &[&str]) -> Ended {
    let words = ["restore", point, "--to", "dr", "--confirm", "dr", "--output", "plain", "--waive", SPACE];
    let words: Vec<&str> = words.iter().copied().chain(more.iter().copied()).collect();
    cluster.run(&words, SOON)
}

/// What lies on the nodes of dr and should not.
fn left_over(cluster: &Cluster) -> Vec<String> {
    let mut left = Vec::new();
    for node in cluster.up.nodes.iter().filter(|node| node.cluster == "dr") {
        for place in ["var/lib/ferry/jobs", "var/lib/ferry/amv", "var/lib/gravity/ferry", "var/lib/data/ferry"] {
            let entries = std::fs::read_dir(node.root.join(place)).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| format!("{}: {}", node.name, entry.path().display())));
        }
    }
    left
}

fn runs(cluster: &Cluster) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(cluster.dir().join("runs")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn dr_jobs(cluster: &Cluster) -> Vec<serde_json::Value> {
    let listed = cluster.run(&["jobs", "list", "dr", "--json"], SOON);
    let json = listed.said.get(listed.said.find('[').unwrap_or(0)..).unwrap_or_default();
    serde_json::Deserializer::from_str(json).into_iter::<Vec<serde_json::Value>>().next().unwrap().unwrap()
}

#[test]
fn the_target_holds_what_the_source_held_then_and_can_go_back() {
    let cluster = Cluster::plain(0.5, 4);
    let then = sandbox::content(cluster.dir(), "prod").unwrap();
    let dr_before = sandbox::content(cluster.dir(), "dr").unwrap();
    assert_ne!(then, dr_before);
    let point = backed_up(&cluster);
    sandbox::change(cluster.dir(), "prod", "after the backup").unwrap();
    assert_ne!(sandbox::content(cluster.dir(), "prod").unwrap(), then);

    let ended = restore(&cluster, &point, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then, "{}", ended.said);
    assert_eq!(restored(&cluster), (1, 1));
    assert_eq!(left_over(&cluster), [""; 0], "{}", ended.said);
    // The first screen, the way back and the list of what stays by hand.
    for words in ["into       dr: what it holds now is destroyed", "way back", "by hand", "restored   Gravity"] {
        assert!(ended.said.contains(words), "{words}\n{}", ended.said);
    }
    // What gravity was given is the point's archive, byte for byte.
    let manifest = std::fs::read_to_string(cluster.dir().join("catalog").join(&point).join("manifest.json")).unwrap();
    let record = sandbox::record(cluster.dir()).unwrap();
    let opened = record.iter().find(|line| line.act == "restore" && line.step == "opened").unwrap();
    assert!(manifest.contains(opened.sha256.as_deref().unwrap()), "{opened:?}");
    let timeout = opened.args.iter().find(|word| word.starts_with("--timeout=")).unwrap();
    assert!(["--timeout=80m", "--timeout=1h20m"].contains(&timeout.as_str()), "{timeout}");

    // The fresh backup of the target brings it back.
    let safety = std::fs::read_dir(cluster.dir().join("catalog/dr")).unwrap().flatten().next().unwrap();
    let safety = format!("dr/{}", safety.file_name().to_string_lossy());
    let ended = restore(&cluster, &safety, &["--in-place"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), dr_before, "{}", ended.said);
}

#[test]
fn check_changes_nothing() {
    let cluster = Cluster::plain(0.3, 2);
    let point = backed_up(&cluster);
    let ended = cluster.run(&["restore", &point, "--to", "dr", "--check"], SOON);
    assert_eq!((ended.code, restored(&cluster)), (Some(0), (0, 0)), "{}", ended.said);
    assert!(!cluster.dir().join("catalog/dr").exists() && left_over(&cluster).is_empty());
    fault(&cluster, "dr:version-mismatch=9.9.9");
    let ended = cluster.run(&["restore", &point, "--to", "dr", "--check"], SOON);
    assert_eq!(ended.code, Some(7), "{}", ended.said);
}

#[test]
fn every_generation_is_restored() {
    for generation in ["g5", "g6", "g8"] {
        let generation = generation.parse().unwrap();
        let options = Options {
            generation,
            hook_seconds: 0.3,
            archive_mib: 2,
            amv: false,
            time_scale: 1.0,
            ..Options::default()
        };
        let cluster = Cluster::with(options);
        let point = backed_up(&cluster);
        let then = sandbox::content(cluster.dir(), "prod").unwrap();
        let ended = restore(&cluster, &point, &["--waive", SAFETY]);
        assert_eq!(ended.code, Some(0), "{generation:?}\n{}", ended.said);
        assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then);
    }
}

/// How it ends when it does not end well: which code, and what is left to look at.
#[test]
fn a_restore_that_fails_or_is_lost_is_told_as_what_it_is() {
    // gravity gives up on its controller after 100 pretended seconds.
    let options = Options { hook_seconds: 20.0, archive_mib: 2, amv: false, time_scale: 40.0, ..Options::default() };
    let cluster = Cluster::with(options);
    let point = backed_up(&cluster);
    let mut called = 0;
    for (what, code, words) in [
        ("dr:restore-fails=on", 2, "partly restored"),
        ("dr:restore-cli-dies=KILL", 8, "kubectl -n kube-system get jobs"),
        ("dr:site-restarts=on", 8, "kubectl -n kube-system get jobs"),
        ("dr:no-credentials=on", 2, ""),
    ] {
        fault(&cluster, what);
        let ended =
            restore(&cluster, &point, &["--waive", SAFETY, "--waive", "health=a test", "-e", "pce_settle_timeout=2s"]);
        fault(&cluster, &format!("{}=off", what.split('=').next().unwrap()));
        called += 1;
        assert_eq!(ended.code, Some(code), "{what}\n{}", ended.said);
        assert!(ended.said.contains(words), "{what}: {words}\n{}", ended.said);
        assert_eq!(restored(&cluster).0, called, "{what}: once, whatever happened\n{}", ended.said);
        let jobs = dr_jobs(&cluster);
        if code == 8 {
            // Never repeated by itself: the next restore is refused until somebody has looked.
            assert_eq!(jobs.len(), 1, "{what}: {jobs:?}");
            let again = restore(&cluster, &point, &["--waive", SAFETY]);
            assert!(matches!(again.code, Some(7 | 8)), "{what}\n{}", again.said);
            assert_eq!(restored(&cluster).0, called, "{what}\n{}", again.said);
            let id = jobs[0]["job"].as_str().unwrap();
            // What runs on in the cluster comes to its end.
            std::thread::sleep(Duration::from_secs(2));
            let cleaned = cluster.run(&["jobs", "clean", id, "--yes"], SOON);
            assert_eq!(cleaned.code, Some(0), "{what}\n{}", cleaned.said);
        } else {
            assert!(jobs.is_empty(), "{what}: {jobs:?}");
        }
    }
    let ended = restore(&cluster, &point, &["--waive", SAFETY]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(left_over(&cluster), [""; 0], "{}", ended.said);
}

#[test]
fn a_degraded_target_is_restored_with_waivers() {
    let cluster = Cluster::plain(0.4, 2);
    let point = backed_up(&cluster);
    let then = sandbox::content(cluster.dir(), "prod").unwrap();
    for what in ["dr:degraded=on", "dr:node-offline=dr-3"] {
        fault(&cluster, what);
        let ended = restore(&cluster, &point, &["--waive", "health=it is what we mend", "-e", "pce_settle_timeout=4s"]);
        // No fresh backup of an ill cluster: that has to be waived as well.
        assert_eq!(ended.code, Some(7), "{what}\n{}", ended.said);
        assert!(ended.said.contains("safety_backup"), "{what}\n{}", ended.said);
        let waive = ["--waive", "health=it is what we mend", "--waive", SAFETY, "-e", "pce_settle_timeout=4s"];
        let ended = restore(&cluster, &point, &waive);
        assert_eq!(ended.code, Some(0), "{what}\n{}", ended.said);
        assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then);
        fault(&cluster, &format!("{}=off", what.split('=').next().unwrap()));
        sandbox::change(cluster.dir(), "dr", what).unwrap();
    }
}

/// The cluster takes its time: waited for; it never becomes well: told, and the restore is not repeated.
#[test]
fn the_cluster_is_waited_for() {
    let cluster = Cluster::plain(0.4, 2);
    let point = backed_up(&cluster);
    fault(&cluster, "dr:never-settles=on");
    let ended = restore(&cluster, &point, &["--waive", SAFETY, "-e", "pce_settle_timeout=3s"]);
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    assert_eq!(restored(&cluster).0, 1);
    // Well again: resume goes on behind the restore, which is not done anew.
    fault(&cluster, "dr:never-settles=off");
    let run = runs(&cluster).into_iter().next_back().unwrap();
    let run = run.file_name().unwrap().to_string_lossy().into_owned();
    let ended = cluster.run(&["runs", "resume", &run, "--output", "plain"], SOON);
    assert_eq!((ended.code, restored(&cluster).0), (Some(0), 1), "{}", ended.said);
    assert_eq!(left_over(&cluster), [""; 0], "{}", ended.said);

    let cluster = Cluster::plain(0.4, 2);
    let point = backed_up(&cluster);
    fault(&cluster, "dr:settle-seconds=6");
    let begun = Instant::now();
    let ended = restore(&cluster, &point, &["--waive", SAFETY]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(begun.elapsed() > Duration::from_secs(6) && ended.said.contains("waiting for"), "{}", ended.said);
}

/// kill -9 at the journal's nth line, for lines all over the run: `runs resume` finishes or says unknown, and gravity
/// is called once.
#[test]
fn a_killed_restore_is_resumed_and_nothing_runs_twice() {
    let cluster = Cluster::plain(0.5, 2);
    let point = backed_up(&cluster);
    let then = sandbox::content(cluster.dir(), "prod").unwrap();
    // One that is not killed says how many lines there are.
    let before = runs(&cluster);
    let whole = restore(&cluster, &point, &["--waive", SAFETY]);
    assert_eq!(whole.code, Some(0), "{}", whole.said);
    let journal = runs(&cluster).difference(&before).next().unwrap().join("journal.jsonl");
    let lines = std::fs::read_to_string(journal).unwrap().lines().count();
    let step = if long() { 1 } else { (lines / 7).max(1) };
    let (mut killed, mut resumed) = (0, 0);
    // The last lines always: the job is off the node by then, and only the journal says that it was.
    let sample: std::collections::BTreeSet<usize> = (1..lines).step_by(step).chain(lines - 3..lines).collect();
    for at in sample {
        sandbox::change(cluster.dir(), "dr", &format!("before case {at}")).unwrap();
        let (called, _) = restored(&cluster);
        let before = runs(&cluster);
        let words = [
            "restore",
            &point,
            "--to",
            "dr",
            "--confirm",
            "dr",
            "--output",
            "plain",
            "--waive",
            SPACE,
            "--waive",
            SAFETY,
        ];
        let mut going = Going::start(&mut cluster.command(&words));
        let mut run = None;
        while !going.over() {
            run = run.or_else(|| runs(&cluster).difference(&before).next().cloned());
            let seen = run
                .as_ref()
                .and_then(|run| std::fs::read_to_string(run.join("journal.jsonl")).ok())
                .map_or(0, |text| text.lines().count());
            if seen >= at {
                going.signal(Signal::KILL);
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let ended = going.end(SOON);
        if ended.code.is_none() {
            killed += 1;
        }
        let name = run.unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let mut last = ended;
        let mut tries = 0;
        while last.code != Some(0) && tries < 4 {
            tries += 1;
            last = cluster.run(&["runs", "resume", &name, "--confirm", "dr", "--output", "plain"], SOON);
            assert!(matches!(last.code, Some(0 | 7 | 8)), "line {at}\n{}", last.said);
            if last.code == Some(7) {
                // The node has not heard yet that the ferry which it served is gone.
                assert!(last.said.contains("another ferry"), "line {at}\n{}", last.said);
                std::thread::sleep(Duration::from_millis(500));
            }
        }
        assert_eq!(last.code, Some(0), "line {at}\n{}", last.said);
        resumed += usize::from(tries > 0);
        assert_eq!(
            restored(&cluster).0,
            called + 1,
            "line {at}: gravity was called another number of times\n{}",
            last.said
        );
        assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then, "line {at}");
        assert_eq!(left_over(&cluster), [""; 0], "line {at}\n{}", last.said);
    }
    assert!(killed >= 5, "{killed} kills");
    println!(
        "{killed} restores killed at lines of a journal of {lines}, {resumed} resumed, gravity called once in each"
    );
}
