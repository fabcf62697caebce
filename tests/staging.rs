//! `ferry jobs clean --staging`: folders with secrets that failed backups left on the nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::path::PathBuf;

use ferry::sandbox::pretend::Generation;
use serde_json::Value;
use support::bed::{Bed, Said};

fn folder(bed: &Bed, host: &str, id: &str) -> PathBuf {
    let node = bed.up.nodes.iter().find(|node| node.name == host).unwrap();
    node.root.join("var/lib/gravity/planet/state").join(id).join("backup")
}

fn leave(bed: &Bed, host: &str, id: &str) -> PathBuf {
    let folder = folder(bed, host, id);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("secrets.json"), "in clear").unwrap();
    folder
}

/// Removes, and waits where another sandbox of this machine is at work: whose root cannot be told is
/// taken for a neighbour.
#[track_caller]
fn remove(bed: &Bed, args: &[&str]) -> Said {
    let _one = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for _ in 0..20 {
        let said = bed.ferry(&[&["jobs", "clean", "--staging", "--yes"], args].concat());
        if said.code != 7 {
            return said;
        }
        said.must(7, &["a gravity backup or restore runs on this node"]);
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    panic!("somebody is always at work");
}

/// The tests of this file do not get into each other's way.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn listed(said: &Said) -> Vec<Value> {
    said.json().as_array().unwrap().clone()
}

#[test]
fn each_folder_is_listed_with_its_job_and_only_what_nobody_uses_is_removed() {
    let bed = Bed::new(Generation::G7);
    bed.ferry(&["jobs", "clean", "--staging"]).must(0, &["no staging folder"]);
    // One that an old run left, one whose job runs, both on nodes whose clock is an hour on.
    let (old, used) = (leave(&bed, "prod-1", "abc123"), leave(&bed, "prod-2", "f0f0f0"));
    let young = leave(&bed, "prod-3", "aaa111");
    bed.faults(&["prod-1:clock-skew=3600", "prod-2:clock-skew=3600", "prod:foreign-hook-job=on"]);
    // Nobody is there to say yes: listed, and nothing else.
    bed.ferry(&["jobs", "clean", "--staging"])
        .must(1, &["--yes", "abc123", "f0f0f0", "aaa111", "active", "ten minutes"]);
    let said = bed.ferry(&["jobs", "clean", "--staging", "--json"]);
    said.must(1, &["--yes"]);
    let all = listed(&said);
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|one| one["done"] == if one["id"] == "abc123" { "listed" } else { "kept" }), "{all:?}");
    assert!(old.exists() && used.exists() && young.exists());
    let said = remove(&bed, &["--json"]);
    said.must(0, &[]);
    for one in listed(&said) {
        let (host, state, done) = (one["host"].as_str(), one["state"].as_str(), one["done"].as_str());
        match one["id"].as_str().unwrap() {
            "abc123" => assert_eq!((host, state, done), (Some("prod-1"), Some("none"), Some("removed"))),
            "f0f0f0" => {
                assert_eq!((host, state, done), (Some("prod-2"), Some("active"), Some("kept")));
                assert_eq!(one["job"], "anypoint-backup-f0f0f0");
            }
            "aaa111" => assert_eq!((host, state, done), (Some("prod-3"), Some("none"), Some("kept"))),
            other => panic!("{other}"),
        }
        assert!(one["path"].as_str().unwrap().ends_with("/backup") && one["kib"].as_u64().is_some());
    }
    assert!(!old.exists() && old.parent().unwrap().exists() && used.join("secrets.json").exists() && young.exists());
    // Only the hosts that were named.
    let old = leave(&bed, "prod-1", "abc124");
    bed.ferry(&["jobs", "clean", "--staging", "prod-2:prod-3", "--yes"]).must(0, &[]).never("abc124");
    assert!(old.exists());
    bed.ferry(&["jobs", "clean", "--staging", "nobody", "--yes"]).must(6, &[]);
    bed.ferry(&["jobs", "clean"]).must(5, &[]);
    // kubectl does not answer: whatever is there may be in use.
    bed.calm();
    let old = leave(&bed, "prod-1", "abc124");
    bed.faults(&["prod-1:clock-skew=3600", "prod:kubectl-down=on"]);
    bed.ferry(&["jobs", "clean", "--staging", "--yes"]).must(0, &["unknown", "may be active"]);
    assert!(old.exists());
}

#[test]
fn the_leak_of_the_sandbox_and_of_a_backup_that_failed() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod-1:leaked-staging=4", "prod-1:clock-skew=3600"]);
    let leaked = folder(&bed, "prod-1", "badbad");
    // With a job of somebody else that has its digits it stays.
    bed.faults(&["prod:foreign-hook-job=anypoint-restore-badbad"]);
    bed.ferry(&["jobs", "clean", "--staging", "--yes"]).must(0, &["badbad", "anypoint-restore-badbad", "active"]);
    assert!(leaked.join("leaked.bin").exists());
    bed.faults(&["prod:foreign-hook-job=anypoint-backup-f0f0f0"]);
    remove(&bed, &[]).must(0, &["badbad", "removed"]);
    assert!(!leaked.exists());
    bed.calm();
    // A hook that failed leaves folder and job: no need to wait ten minutes, its job is over.
    bed.faults(&["prod:hook-fails=on"]);
    bed.ferry(&["backup", "prod", "--only", "gravity"]).must(2, &[]);
    let said = remove(&bed, &["--json"]);
    said.must(0, &[]);
    let all = listed(&said);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((&all[0]["state"], &all[0]["done"]), (&Value::from("failed"), &Value::from("removed")));
    let id = all[0]["id"].as_str().unwrap();
    assert!(!folder(&bed, all[0]["host"].as_str().unwrap(), id).exists());
    bed.ferry(&["jobs", "clean", "--staging", "--yes"]).must(0, &["no staging folder"]);
}

#[test]
fn a_backup_at_work_keeps_its_folder_also_while_it_packs() {
    use std::process::Stdio;
    let _one = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let bed = Bed::new(Generation::G7);
    // The hook is over soon; gravity packs for twenty seconds and says nothing.
    bed.faults(&["prod:hook-seconds=60", "prod:slow-compress=2400"]);
    let mut command = support::bed::ferry(Some(&bed.up.config), &bed.aside(""));
    let mut child = command
        .args(["backup", "prod", "--only", "gravity"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = std::time::Instant::now();
    let (mut seen, mut packing) = (0, None);
    while began.elapsed().as_secs() < 25 && packing.is_none() {
        let said = bed.ferry(&["jobs", "clean", "--staging", "--yes", "--json"]);
        for one in listed(&said) {
            assert_ne!(one["done"], "removed", "{one}");
            seen += 1;
            if one["state"] == "complete" {
                packing = Some((said.clone(), one));
            }
        }
    }
    // Complete by Kubernetes' word, in use all the same.
    let (said, one) = packing.expect("the hook's job was never complete");
    said.must(7, &["a gravity backup or restore runs on this node"]);
    assert_eq!(one["done"], "not removed");
    assert!(seen > 0);
    assert_eq!(child.wait().unwrap().code(), Some(0), "the backup was not disturbed");
    assert_eq!(bed.points("prod").values().map(String::as_str).collect::<Vec<_>>(), ["verified"]);
}
