//! Every outcome that the facts describe, told rightly by `ferry backup`: the exit code, the
//! sentence, and that nothing but a good archive ever becomes a verified point.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use ferry::sandbox::pretend::Generation;
use support::bed::{Bed, find_in_files};

/// A fault, what ferry must say about it, and whether a verified point may come of it.
struct Case {
    faults: &'static [&'static str],
    code: i32,
    says: &'static [&'static str],
    point: bool,
    gravity_runs: usize,
}

const fn case(
    faults: &'static [&'static str],
    code: i32,
    says: &'static [&'static str],
    point: bool,
    gravity_runs: usize,
) -> Case {
    Case { faults, code, says, point, gravity_runs }
}

/// Before a job: gates and looks.
const BEFORE: &[Case] = &[
    case(&[], 0, &["is sealed: verified"], true, 1),
    case(&["prod:degraded=on"], 0, &["degraded", "is sealed: verified"], true, 1),
    case(&["prod:node-offline=prod-3"], 0, &["prod-3", "is sealed: verified"], true, 1),
    case(&["prod:leaked-staging=1"], 0, &["staging", "is sealed: verified"], true, 1),
    case(&["prod:clock-skew=300"], 0, &["clock", "is sealed: verified"], true, 1),
    case(&["prod:state=updating"], 7, &["updating"], false, 0),
    case(&["prod:state=expanding"], 7, &["expanding"], false, 0),
    case(&["prod:state=shrinking"], 7, &["shrinking"], false, 0),
    case(&["prod:state=reconfiguring"], 7, &["reconfiguring"], false, 0),
    case(&["prod:state=uninstalling"], 7, &["uninstalling"], false, 0),
    case(&["prod:active-operation=operation_update"], 7, &["operation_update"], false, 0),
    case(&["prod:foreign-hook-job=anypoint-backup-f0f0f0"], 7, &["anypoint-backup-f0f0f0"], false, 0),
    case(&["prod-2:stray=elsewhere"], 7, &["elsewhere"], false, 0),
    case(&["prod:disk=256000:10000"], 7, &["gate space"], false, 0),
];

/// After the start: how gravity ends.
const AFTER: &[Case] = &[
    case(&["prod:follow-dies-early=3"], 0, &["is sealed: verified"], true, 1),
    case(&["prod:hook-retry=2"], 0, &["is sealed: verified"], true, 1),
    case(&["prod:exit0-empty-archive=on"], 2, &["no"], false, 1),
    case(&["prod:truncated-archive=on"], 2, &["no whole archive"], false, 1),
    case(&["prod:corrupt-archive=on"], 2, &["no whole archive"], false, 1),
    case(&["prod:enospc-late=on"], 2, &["no space left on device"], false, 1),
    case(&["prod:hook-fails=on"], 2, &["backup"], false, 1),
    case(&["prod:hook-killed=on"], 2, &["backup"], false, 1),
    case(&["prod:backoff-limit=on"], 2, &["backoff limit"], false, 1),
    case(&["prod:stale-file-kept=0"], 2, &["backup"], false, 1),
    case(&["prod:cli-dies=KILL"], 2, &["signal"], false, 1),
    case(&["prod:no-hook=on"], 2, &["hook"], false, 1),
    case(&["prod:no-credentials=on"], 2, &["credentials"], false, 1),
    case(&["prod:site-down=on"], 2, &["3009"], false, 1),
];

fn run(bed: &Bed, name: &str, cases: &[Case]) {
    for case in cases {
        let (points, runs) = (bed.points("prod"), bed.runs("prod"));
        bed.faults(case.faults);
        let said = bed.ferry(&["backup", "prod"]);
        said.must(case.code, case.says);
        let new: Vec<_> = bed.points("prod").into_iter().filter(|(id, _)| !points.contains_key(id)).collect();
        let verified = new.iter().filter(|(_, state)| *state == "verified").count();
        let seen = (verified, bed.runs("prod") - runs);
        println!(
            "{name} {:<50} exit {}  verified points {}  gravity runs {}",
            case.faults.join(" "),
            said.code,
            seen.0,
            seen.1
        );
        assert_eq!(verified, usize::from(case.point), "{:?}: {new:?}\n{}", case.faults, said.all());
        // gravity that ends before its hook is counted by the pretend gravity only when it got that far.
        assert!(
            seen.1 <= case.gravity_runs && (case.code != 0 || seen.1 == case.gravity_runs),
            "{:?}: {seen:?}",
            case.faults
        );
        // Nothing is stuck: no job is left, no half point either.
        assert!(bed.jobs().is_empty(), "{:?}: {:?}", case.faults, bed.jobs());
        assert_eq!(new.len(), verified, "{:?}: {new:?}", case.faults);
        bed.calm();
    }
    bed.ferry(&["backup", "prod"]).must(0, &["is sealed: verified"]);
}

#[test]
fn generation_7_before() {
    run(&Bed::new(Generation::G7), "g7", BEFORE);
}

#[test]
fn generation_7_after() {
    run(&Bed::new(Generation::G7), "g7", AFTER);
}

#[test]
fn generation_5() {
    let bed = Bed::new(Generation::G5);
    run(&bed, "g5", BEFORE.get(..2).unwrap());
    run(&bed, "g5", AFTER.get(2..9).unwrap());
}

#[test]
fn generations_6_and_8() {
    for generation in [Generation::G6, Generation::G8] {
        let bed = Bed::new(generation);
        run(&bed, generation.name(), BEFORE.get(..2).unwrap());
        run(&bed, generation.name(), AFTER.get(5..8).unwrap());
    }
}

#[test]
fn a_deadline_that_passes_is_told_as_one() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:deadline=on"]);
    let inventory = bed.inventory(
        "short.yml",
        &[("pce_cluster_name: pce-prod", "pce_backup_timeout: 2m\n        pce_cluster_name: pce-prod")],
    );
    bed.ferry(&["backup", "prod", "-i", &inventory]).must(2, &["deadline"]);
    assert!(bed.points("prod").is_empty());
}

#[test]
fn check_starts_nothing() {
    let bed = Bed::new(Generation::G7);
    bed.ferry(&["backup", "prod", "--check"]).must(0, &["Preflight", "identity"]);
    assert_eq!(bed.runs("prod"), 0);
    assert!(bed.jobs().is_empty() && bed.points("prod").is_empty());
}

#[test]
fn what_is_not_built_is_said_beside_the_success() {
    let bed = Bed::new(Generation::G7);
    let inventory = bed.inventory(
        "nfs.yml",
        &[("pce_cluster_name: pce-prod", "pce_nfs_export: /srv/nfs\n        pce_cluster_name: pce-prod")],
    );
    bed.ferry(&["backup", "prod", "-i", &inventory]).must(2, &["not built yet", "is sealed: verified"]);
    let (id, _) = bed.points("prod").into_iter().next().unwrap();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bed.catalog().join("prod").join(&id).join("manifest.json")).unwrap())
            .unwrap();
    assert_eq!(manifest["complete"], false);
    assert!(manifest["contents"].to_string().contains("not built yet"));
    bed.ferry(&["backup", "prod", "-i", &inventory, "--only", "gravity"]).must(0, &["is sealed: verified"]);
}

#[test]
fn a_point_that_is_unlike_its_predecessors_is_suspect() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:archive-size=8"]);
    bed.ferry(&["backup", "prod"]).must(0, &["verified"]);
    bed.ferry(&["backup", "prod"]).must(0, &["verified"]);
    bed.faults(&["prod:archive-size=1"]);
    bed.ferry(&["backup", "prod"]).must(0, &["suspect"]);
    assert_eq!(bed.points("prod").values().filter(|state| *state == "suspect").count(), 1);
}

#[test]
fn space_is_waived_by_name_and_the_reason_is_kept() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:disk=256000:10000", "prod:other-disk=51200:1000"]);
    bed.ferry(&["backup", "prod"]).must(7, &["--waive space=REASON"]);
    bed.ferry(&["backup", "prod", "--waive", "active=x"]).must(5, &["nothing waives the gate active"]);
    bed.ferry(&["backup", "prod", "--waive", "space=planned growth tomorrow"]).must(0, &["is sealed: verified"]);
    assert!(find_in_files(&bed.catalog(), b"planned growth tomorrow").is_some());
}

#[test]
fn what_hosts_say_is_cleaned_and_the_join_token_is_nowhere() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:hostile-output=2000"]);
    let said = bed.ferry(&["backup", "prod"]);
    said.must(0, &["is sealed: verified"]);
    let bad = said.all().chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(bad, None);
    assert!(said.peak_kib < 96 << 10, "{} KiB", said.peak_kib);
    let run = bed.last_run();
    for entry in std::fs::read_dir(run.join("hosts")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        assert!(!text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')), "{}", entry.path().display());
    }
    let status = std::fs::read_to_string(bed.up.node_dir("prod-1").join("node.json")).unwrap();
    let node: serde_json::Value = serde_json::from_str(&status).unwrap();
    let token = node["token"].as_str().unwrap_or("JOINTOKENSECRET");
    for place in [run, bed.catalog()] {
        assert_eq!(find_in_files(&place, token.as_bytes()), None, "the join token was written down");
    }
}

#[test]
fn unknown_clusters_and_bad_files_touch_no_host() {
    let bed = Bed::new(Generation::G7);
    bed.ferry(&["backup", "prdo"]).must(6, &["did you mean prod?"]);
    let typo = bed.inventory("typo.yml", &[("pce_cluster_name: pce-prod", "pce_cluster_nam: pce-prod")]);
    bed.ferry(&["backup", "prod", "-i", &typo]).must(1, &["typo.yml:", "pce_cluster_name"]);
    let unit = bed.inventory(
        "unit.yml",
        &[("pce_cluster_name: pce-prod", "pce_backup_timeout: 60\n        pce_cluster_name: pce-prod")],
    );
    bed.ferry(&["backup", "prod", "-i", &unit]).must(1, &["unit.yml:", "60m"]);
    bed.ferry(&["backup", "prod", "-i", "/nonexistent.yml"]).must(6, &[]);
    bed.ferry(&["backup"]).must(5, &[]);
    assert_eq!(bed.runs("prod"), 0);
}

#[test]
fn a_catalog_that_cannot_be_used_is_told_before_anything_starts() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = Bed::new(Generation::G7);
    let open = bed.aside("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    bed.ferry(&["backup", "prod", "--catalog", open.to_str().unwrap()]).must(1, &["anybody can write"]);
    let file = bed.aside("file");
    std::fs::write(&file, "x").unwrap();
    bed.ferry(&["backup", "prod", "--catalog", file.to_str().unwrap()]).must(1, &[]);
    assert_eq!(bed.runs("prod"), 0);
}

#[test]
fn jobs_are_listed_cancelled_and_cleaned() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:hook-seconds=2400"]);
    let mut command = support::bed::ferry(Some(&bed.up.config), &bed.aside(""));
    let mut child = command
        .args(["backup", "prod"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let began = std::time::Instant::now();
    let job = loop {
        if let Some(job) = bed.jobs().into_iter().find(|job| job["state"] == "running") {
            break job["job"].as_str().unwrap().to_owned();
        }
        assert!(began.elapsed().as_secs() < 30, "no job began");
    };
    // The hook's own job is in the cluster a moment later.
    std::thread::sleep(std::time::Duration::from_secs(2));
    child.kill().unwrap();
    child.wait().unwrap();
    bed.ferry(&["jobs", "clean", &job, "--yes"]).must(7, &["has not ended"]);
    bed.ferry(&["jobs", "cancel", &job]).must(1, &["--yes"]);
    bed.ferry(&["jobs", "cancel", &job, "--hook", "--yes"]).must(0, &["deleted"]);
    bed.ferry(&["jobs", "clean", &job, "--yes"]).must(0, &["removed"]);
    assert!(bed.jobs().is_empty());
    bed.calm();
    bed.ferry(&["backup", "prod"]).must(0, &["is sealed: verified"]);
}
