//! AMV from backup to restore: the vendor's script is found, trusted or refused, and its question answered by whoever
//! may answer it, once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

#[path = "support/cluster.rs"]
mod cluster;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cluster::{Cluster, Ended, Going, SOON};
use ferry::sandbox::{self, FaultSetting, Options};
use rustix::process::Signal;

const SPACE: &str = "space=the disk of a test machine";
const SAFETY: &str = "safety_backup=a test";
const PATTERN: &str = r#"{"pce_amv_restore_question": "existing data*continue"}"#;

fn up() -> Cluster {
    let options = Options {
        hook_seconds: 0.3,
        archive_mib: 1,
        amv: true,
        settle_seconds: 0.0,
        time_scale: 1.0,
        ..Options::default()
    };
    Cluster::with(options)
}

fn fault(cluster: &Cluster, text: &str) {
    let setting: FaultSetting = text.parse().unwrap();
    sandbox::set_faults(cluster.dir(), &[setting]).unwrap();
}

fn off(cluster: &Cluster, text: &str) {
    fault(cluster, &format!("{}=off", text.split('=').next().unwrap()));
}

fn backup(cluster: &Cluster, more: &[&str]) -> (Ended, Option<String>) {
    let before = cluster.sealed();
    let words: Vec<&str> = ["backup", "prod", "--waive", SPACE].into_iter().chain(more.iter().copied()).collect();
    let ended = cluster.run(&words, SOON);
    let point = cluster.sealed().difference(&before).next().map(|id| format!("prod/{id}"));
    (ended, point)
}

fn amv(cluster: &Cluster, act: &str, step: &str) -> usize {
    let record = sandbox::record(cluster.dir()).unwrap();
    record.iter().filter(|line| line.tool == "amv" && line.act == act && line.step == step).count()
}

fn words<'a>(point: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let all = [
        "restore",
        point,
        "--to",
        "dr",
        "--confirm",
        "dr",
        "--erase-amv",
        "dr",
        "--only",
        "amv",
        "--output",
        "plain",
        "--waive",
        SPACE,
        "--waive",
        SAFETY,
    ];
    all.into_iter().chain(more.iter().copied()).collect()
}

fn restore(cluster: &Cluster, point: &str, more: &[&str]) -> Ended {
    cluster.run(&words(point, more), SOON)
}

fn manifest(cluster: &Cluster, point: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(cluster.dir().join("catalog").join(point).join("manifest.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn left_over(cluster: &Cluster, group: &str) -> Vec<String> {
    let mut left = Vec::new();
    for node in cluster.up.nodes.iter().filter(|node| node.cluster == group) {
        for place in ["var/lib/ferry/jobs", "var/lib/ferry/amv", "srv/amv-backup"] {
            let entries = std::fs::read_dir(node.root.join(place)).into_iter().flatten().flatten();
            for entry in entries.map(|entry| entry.path()) {
                // What the script saved before it erased is the way back and stays; our own archive does not.
                let within: Vec<_> = std::fs::read_dir(&entry).into_iter().flatten().flatten().collect();
                let ours = |name: &str| name.starts_with("amv-2") || name.ends_with(".part");
                let saved = place == "srv/amv-backup" && !within.is_empty();
                if !saved || within.iter().any(|file| ours(&file.file_name().to_string_lossy())) {
                    left.push(format!("{}: {}", node.name, entry.display()));
                }
            }
        }
    }
    left
}

fn dr_job(cluster: &Cluster) -> String {
    let listed = cluster.run(&["jobs", "list", "dr", "--json"], SOON);
    let json = listed.said.get(listed.said.find('[').unwrap_or(0)..).unwrap_or_default();
    let jobs: Vec<serde_json::Value> = serde_json::Deserializer::from_str(json).into_iter().next().unwrap().unwrap();
    let amv = jobs.iter().find(|job| job["kind"] == "amv-restore").unwrap_or_else(|| panic!("{jobs:?}"));
    amv["job"].as_str().unwrap().to_owned()
}

#[test]
fn gravity_and_amv_go_from_prod_to_dr() {
    let cluster = up();
    let (then, amv_then) =
        (sandbox::content(cluster.dir(), "prod").unwrap(), sandbox::amv_content(cluster.dir(), "prod").unwrap());
    let (ended, point) = backup(&cluster, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let point = point.unwrap();
    let made = manifest(&cluster, &point);
    assert_eq!(made["complete"], true);
    assert_eq!(made["archives"].as_array().unwrap().len(), 2);
    let tool = made["archives"][1]["details"]["tool"].as_array().unwrap();
    assert!(tool.len() >= 2, "the script and its neighbour: {tool:?}");
    assert_eq!(left_over(&cluster, "prod"), [""; 0]);
    sandbox::amv_change(cluster.dir(), "prod", "after the backup").unwrap();

    let all = ["restore", &point, "--to", "dr", "--confirm", "dr", "--waive", SPACE, "--waive", SAFETY, "-e", PATTERN];
    // What erases AMV's data is confirmed by itself.
    let ended = cluster.run(&all, SOON);
    assert_eq!((ended.code, amv(&cluster, "restore", "called")), (Some(7), 0), "{}", ended.said);
    assert!(ended.said.contains("--erase-amv dr"), "{}", ended.said);
    let all: Vec<&str> = all.into_iter().chain(["--erase-amv", "dr"]).collect();
    let ended = cluster.run(&all, SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then);
    assert_eq!(sandbox::amv_content(cluster.dir(), "dr").unwrap(), amv_then, "{}", ended.said);
    assert_eq!(amv(&cluster, "restore", "called"), 1);
    assert!(ended.said.contains("agree"), "its report was read\n{}", ended.said);
    assert!(ended.said.contains("saved by its script"), "{}", ended.said);
    assert_eq!(left_over(&cluster, "dr"), [""; 0], "{}", ended.said);
    // Gravity before AMV.
    let record = sandbox::record(cluster.dir()).unwrap();
    let at = |tool: &str| record.iter().position(|line| line.tool == tool && line.act == "restore").unwrap();
    assert!(at("gravity") < at("amv"));
}

/// A migration of both, encrypted at rest where its point is kept; and straight across, where it is not: AMV's archive goes
/// from node to node as Gravity's does, and no folder here has either.
#[test]
fn both_are_migrated_encrypted_and_straight() {
    use std::process::Command;
    let cluster = up();
    let key = cluster.dir().join("age.key");
    assert!(Command::new("age-keygen").arg("-o").arg(&key).output().expect("tests/run installs age").status.success());
    let public = Command::new("age-keygen").arg("-y").arg(&key).output().unwrap().stdout;
    let text = std::fs::read_to_string(&cluster.config).unwrap();
    let lines = format!(
        "recipients = [\"{}\"]\nidentities = [\"{}\"]\nvolume_size = \"400KiB\"\n",
        String::from_utf8(public).unwrap().trim(),
        key.display()
    );
    std::fs::write(&cluster.config, lines + &text).unwrap();
    let all = ["migrate", "prod", "dr", "--confirm", "dr", "--erase-amv", "dr", "--output", "plain"];
    let all: Vec<&str> = all.into_iter().chain(["--waive", SPACE, "--waive", SAFETY, "-e", PATTERN]).collect();
    let long = std::env::var_os("FERRY_LONG").is_some_and(|value| value == "1");
    let rounds = if long { vec![&[][..], &["--no-keep"]] } else { vec![&["--no-keep"][..]] };
    for (round, more) in rounds.into_iter().enumerate() {
        sandbox::change(cluster.dir(), "prod", &format!("round {round}")).unwrap();
        let of = |group: &str| {
            (sandbox::content(cluster.dir(), group).unwrap(), sandbox::amv_content(cluster.dir(), group).unwrap())
        };
        let then = of("prod");
        let before = cluster.sealed();
        let words: Vec<&str> = all.iter().chain(more).copied().collect();
        // What lies on this machine while it goes: no archive, in whatever form.
        let mut going = Going::start(&mut cluster.command(&words));
        let spool = cluster.dir().join("runs/spool");
        let mut seen = Vec::new();
        while !going.over() {
            let mut folders = vec![spool.clone()];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                    let path = entry.path();
                    match path.is_dir() {
                        true => folders.push(path),
                        false if path.to_string_lossy().contains(".tar.gz") => seen.push(path),
                        false => {}
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        let ended = going.end(SOON);
        assert_eq!(ended.code, Some(0), "{}", ended.said);
        assert_eq!(of("dr"), then, "{}", ended.said);
        assert_eq!(amv(&cluster, "restore", "called"), round + 1, "{}", ended.said);
        assert_eq!((left_over(&cluster, "dr"), left_over(&cluster, "prod")), (vec![], vec![]), "{}", ended.said);
        let made = cluster.sealed().difference(&before).next().cloned();
        if more.is_empty() {
            let made = manifest(&cluster, &format!("prod/{}", made.unwrap()));
            for at in [0, 1] {
                assert_eq!(made["archives"][at]["encryption"]["format"], "age", "{made}");
            }
            continue;
        }
        assert_eq!(made, None);
        seen.retain(|path| !path.to_string_lossy().ends_with(".landing"));
        assert!(seen.is_empty(), "{seen:?}");
        for name in ["gravity.tar.gz goes straight to dr-", "amv.tar.gz goes straight to dr-"] {
            assert!(ended.said.contains(name), "{name}\n{}", ended.said);
        }
        assert!(!spool.exists() || std::fs::read_dir(&spool).unwrap().count() == 0);
    }
}

/// Every wording and style: answered by the pattern where it fits, and by nothing else.
#[test]
fn every_form_of_the_question_is_answered_or_left_waiting() {
    let cluster = up();
    let (ended, point) = backup(&cluster, &["--only", "amv"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let point = point.unwrap();
    let mut called = 0;
    for style in ["line", "printf", "stderr", "read-p", "tty", "printf,repeated"] {
        fault(&cluster, &format!("dr:amv-prompt={style}"));
        let ended = restore(&cluster, &point, &["-e", PATTERN]);
        called += 1;
        assert_eq!((ended.code, amv(&cluster, "restore", "called")), (Some(0), called), "{style}\n{}", ended.said);
        off(&cluster, "dr:amv-prompt");
    }
    // Swallowed by kubectl: what was typed for nobody is not typed again by itself.
    fault(&cluster, "dr:amv-eats-stdin=on");
    let ended = restore(&cluster, &point, &["-e", PATTERN]);
    called += 1;
    assert!(matches!(ended.code, Some(0 | 8)), "{}", ended.said);
    off(&cluster, "dr:amv-eats-stdin");
    if ended.code == Some(8) {
        let id = dr_job(&cluster);
        assert_eq!(cluster.run(&["jobs", "cancel", &id, "--yes"], SOON).code, Some(0));
        assert_eq!(cluster.run(&["jobs", "clean", &id, "--yes"], SOON).code, Some(0));
    }
    // Another question than the one that the operator meant, and no terminal: it waits, exit 8, attach is named.
    fault(&cluster, "dr:amv-prompt=Delete everything for good, are you sure?");
    let before = sandbox::amv_content(cluster.dir(), "dr").unwrap();
    let ended = restore(&cluster, &point, &["-e", PATTERN]);
    called += 1;
    assert_eq!((ended.code, amv(&cluster, "restore", "called")), (Some(8), called), "{}", ended.said);
    assert!(ended.said.contains("Delete everything for good") && ended.said.contains("jobs attach"), "{}", ended.said);
    assert_eq!(sandbox::amv_content(cluster.dir(), "dr").unwrap(), before, "nothing was erased");
    // It is still there; with a pattern that means it, attach answers.
    let id = dr_job(&cluster);
    let ended =
        cluster.run(&["jobs", "attach", &id, "-e", r#"{"pce_amv_restore_question": "delete everything"}"#], SOON);
    assert_eq!((ended.code, amv(&cluster, "restore", "called")), (Some(0), called), "{}", ended.said);
    assert_eq!(left_over(&cluster, "dr"), [""; 0], "{}", ended.said);
}

/// A person at a terminal types the answer; the ferry that asked before was killed, and the answer is given once.
#[test]
fn a_person_answers_after_the_link_is_lost() {
    let cluster = up();
    let (ended, point) = backup(&cluster, &["--only", "amv"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let point = point.unwrap();
    let going = Going::start(&mut cluster.command(&words(&point, &[])));
    let begun = Instant::now();
    let mut going = going;
    while amv(&cluster, "restore", "called") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30) && !going.over(), "{}", going.end(SOON).said);
        std::thread::sleep(Duration::from_millis(50));
    }
    going.signal(Signal::KILL);
    going.end(SOON);
    let id = dr_job(&cluster);
    // `script` gives ferry a terminal; the answer is typed into it late enough to be asked for.
    let inner = cluster.command(&["jobs", "attach", &id]);
    let line = format!("{} jobs attach {id}", env!("CARGO_BIN_EXE_ferry"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.current_dir(cluster.dir());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let typist = std::thread::spawn(move || {
        use std::io::Write as _;
        for _ in 0..12 {
            std::thread::sleep(Duration::from_secs(3));
            // Typed ahead: read when ferry asks.
            if input.write_all(b"y\n").is_err() {
                return;
            }
        }
    });
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let _ = typist.join();
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains("Existing data") && said.contains("asks"), "word for word: {said}");
    assert_eq!(amv(&cluster, "restore", "called"), 1, "{said}");
    assert_eq!(amv(&cluster, "restore", "ended"), 1, "{said}");
    let kept = std::fs::read_to_string(cluster.dir().join("runs/amv-answers.json")).unwrap();
    assert!(kept.contains("\"y\""), "{kept}");
}

#[test]
fn a_report_with_a_difference_fails_whatever_the_code() {
    let cluster = up();
    let (ended, point) = backup(&cluster, &["--only", "amv"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let point = point.unwrap();
    for what in ["measurements", "databases", "series"] {
        fault(&cluster, &format!("dr:amv-mismatch={what}"));
        let ended = restore(&cluster, &point, &["-e", PATTERN]);
        assert_eq!(ended.code, Some(2), "{what}\n{}", ended.said);
        assert!(ended.said.contains("differences"), "{what}\n{}", ended.said);
        off(&cluster, "dr:amv-mismatch");
    }
    fault(&cluster, "dr:amv-fails=kubectl: connection refused");
    let ended = restore(&cluster, &point, &["-e", PATTERN]);
    assert_eq!(ended.code, Some(2), "{}", ended.said);
}

/// Whoever began a restore of Gravity alone confirmed nothing of AMV: taken over with AMV in the plan, it goes no further until
/// that is confirmed, and Gravity is not restored twice.
#[test]
fn a_restore_that_is_taken_over_erases_only_what_was_confirmed() {
    let cluster = up();
    let (ended, point) = backup(&cluster, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let point = point.unwrap();
    fault(&cluster, "dr:hook-seconds=2");
    let all =
        ["restore", &point, "--to", "dr", "--output", "plain", "--waive", SPACE, "--waive", SAFETY, "-e", PATTERN];
    let alone: Vec<&str> = all.iter().copied().chain(["--only", "gravity", "--confirm", "dr"]).collect();
    let going = Going::start(&mut cluster.command(&alone));
    let gravity = |step: &str| {
        let record = sandbox::record(cluster.dir()).unwrap();
        record.iter().filter(|line| line.tool == "gravity" && line.act == "restore" && line.step == step).count()
    };
    let begun = Instant::now();
    while gravity("hook-began") == 0 {
        assert!(begun.elapsed() < SOON, "the hook did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    going.signal(Signal::KILL);
    going.end(SOON);
    let ended = cluster.run(&all, SOON);
    assert_eq!((ended.code, amv(&cluster, "restore", "called")), (Some(7), 0), "{}", ended.said);
    for words in ["erasing AMV's data was not confirmed when this restore began", "--erase-amv dr, or --only gravity"] {
        assert!(ended.said.contains(words), "{words}\n{}", ended.said);
    }
    let confirmed: Vec<&str> = all.iter().copied().chain(["--erase-amv", "dr"]).collect();
    let ended = cluster.run(&confirmed, SOON);
    assert_eq!((ended.code, gravity("called"), amv(&cluster, "restore", "called")), (Some(0), 1, 1), "{}", ended.said);
    assert!(ended.said.contains("its gates were asked and confirmed when it was started"), "{}", ended.said);
    assert_eq!(left_over(&cluster, "dr"), [""; 0], "{}", ended.said);
}

/// A script that somebody else could have written is never run; Gravity's archive is sealed without it.
#[test]
fn a_script_that_cannot_be_trusted_is_not_run() {
    let cluster = up();
    for what in
        ["prod:amv-second-folder=on", "prod:amv-symlink=on", "prod:amv-world-writable=on", "prod:amv-owner=4711"]
    {
        fault(&cluster, what);
        let (ended, point) = backup(&cluster, &[]);
        assert_eq!(ended.code, Some(7), "{what}\n{}", ended.said);
        assert_eq!(amv(&cluster, "backup", "called"), 0, "{what}\n{}", ended.said);
        let made = manifest(&cluster, &point.unwrap());
        assert_eq!((made["complete"].clone(), made["archives"].as_array().unwrap().len()), (false.into(), 1), "{what}");
        off(&cluster, what);
        assert_eq!(left_over(&cluster, "prod"), [""; 0], "{what}\n{}", ended.said);
    }
    // On one main node it is missing: another has it.
    fault(&cluster, "prod-1:amv-missing-here=on");
    let (ended, point) = backup(&cluster, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(manifest(&cluster, &point.unwrap())["complete"], true);
}

/// A partly good night: Gravity is sealed, complete is false, exit 2; and each kind is judged by its own age.
#[test]
fn a_good_gravity_archive_is_kept_when_amv_fails() {
    let cluster = up();
    fault(&cluster, "prod:amv-fails=influxd-ctl: no space");
    let (ended, point) = backup(&cluster, &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    let point = point.unwrap();
    let made = manifest(&cluster, &point);
    assert_eq!((made["complete"].clone(), made["archives"].as_array().unwrap().len()), (false.into(), 1));
    assert!(ended.said.contains("NOT SAVED") && ended.said.contains("AMV"), "{}", ended.said);
    let check = |kinds: &[&str]| {
        let mut words = vec!["points", "check", "prod"];
        kinds.iter().for_each(|kind| words.extend(["--max-age", kind]));
        cluster.run(&words, SOON).code
    };
    assert_eq!((check(&["gravity=26h"]), check(&["gravity=26h", "amv=8d"])), (Some(0), Some(9)));
    off(&cluster, "prod:amv-fails");
    let (ended, _) = backup(&cluster, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(check(&["gravity=26h", "amv=8d"]), Some(0));
    // Every seven days: the next night leaves it out, and that is no failure.
    let (ended, point) = backup(&cluster, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let made = manifest(&cluster, &point.unwrap());
    assert_eq!((made["complete"].clone(), made["archives"].as_array().unwrap().len()), (true.into(), 1));
    // Asked for, it is made; and a changed script is told.
    fault(&cluster, "prod:amv-changed=on");
    let (ended, _) = backup(&cluster, &["--only", "amv"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(ended.said.contains("has changed since the last point"), "{}", ended.said);
}
