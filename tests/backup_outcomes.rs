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
fn nfs_files_that_cannot_be_saved_are_said_beside_the_success() {
    let bed = Bed::new(Generation::G7);
    let inventory = bed.inventory(
        "nfs.yml",
        &[("pce_cluster_name: pce-prod", "pce_nfs_export: /srv/nfs\n        pce_cluster_name: pce-prod")],
    );
    bed.ferry(&["backup", "prod", "-i", &inventory])
        .must(2, &["several hosts of the cluster have pce_nfs_export", "is sealed: verified"]);
    let (id, _) = bed.points("prod").into_iter().next().unwrap();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bed.catalog().join("prod").join(&id).join("manifest.json")).unwrap())
            .unwrap();
    assert_eq!(manifest["complete"], false);
    assert!(manifest["contents"].to_string().contains("not saved in this run"));
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

// ── the disk here fills up ───────────────────────────────────────────────────────────────────

/// Runs the rest of a test in a mount namespace of its own, with a small disk of 160 MiB at the path that it is
/// given. True when this is the outer process and the test is over.
fn on_a_small_disk(test: &str, inside: impl FnOnce(&std::path::Path)) {
    const DISK: &str = "FERRY_TEST_SMALL_DISK";
    if let Some(disk) = std::env::var_os(DISK) {
        inside(std::path::Path::new(&disk));
        println!("told to the end");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=160m,mode=700 small \"${DISK}\" && exec \"$0\" \"$@\"");
    let exe = std::env::current_exe().unwrap();
    let out = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", &mount])
        .arg(exe)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DISK, place.path())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("told to the end"), "{said}");
    println!("{said}");
}

/// Takes all room of the disk but so many bytes.
fn fill(disk: &std::path::Path, leave: u64) {
    let path = (0..).map(|number| disk.join(format!("filler-{number}"))).find(|path| !path.exists()).unwrap();
    let room = rustix::fs::statvfs(disk).unwrap();
    let take = (room.f_bavail * room.f_frsize).saturating_sub(leave);
    let mut file = std::fs::File::create(&path).unwrap();
    let block = vec![7; 1 << 16];
    let mut left = take;
    while left > 0 {
        let part = usize::try_from(left.min(block.len() as u64)).unwrap();
        if std::io::Write::write_all(&mut file, &block[..part]).is_err() {
            break;
        }
        left -= part as u64;
    }
}

/// Gives the room back.
fn empty(disk: &std::path::Path) {
    for entry in std::fs::read_dir(disk).unwrap().flatten() {
        if entry.file_name().to_str().unwrap().starts_with("filler-") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// Every file below a folder with its digest.
fn tree(dir: &std::path::Path) -> std::collections::BTreeMap<String, String> {
    let mut files = std::collections::BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() || !path.exists() {
            left.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else {
            let digest = ferry::digest::Sha256::of(&std::fs::read(&path).unwrap());
            files.insert(path.display().to_string(), digest.to_string());
        }
    }
    files
}

/// The command that ferry printed to go on with, as words behind `ferry`.
#[track_caller]
fn printed_command(said: &str) -> Vec<String> {
    let (_, line) =
        said.rsplit_once("ferry jobs attach ").unwrap_or_else(|| panic!("no command to go on with: {said}"));
    let line = line.lines().next().unwrap().split("   (").next().unwrap();
    shlex::split(&format!("jobs attach {line}")).unwrap()
}

/// One backup whose catalog's disk fills up while gravity works, so that `leave` bytes are left; then there is
/// room again, and what ferry printed is typed.
fn fills_up(bed: &Bed, disk: &std::path::Path, flags: &[&str], leave: u64, code: i32, says: &[&str]) {
    let catalog = disk.join("catalog/prod");
    let state = |name: &str| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(&catalog).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| path.is_dir() && path.to_str().unwrap().ends_with(name)).collect()
    };
    let (older, runs) = (tree(&catalog), bed.runs("prod"));
    bed.faults(&["prod:archive-size=24", "prod:hook-seconds=240"]);
    let mut command = support::bed::ferry(Some(&bed.up.config), &bed.aside(""));
    command.args(["backup", "prod"]).args(flags);
    let going = std::thread::spawn(move || support::bed::run_limited(command, std::time::Duration::from_secs(60)));
    let began = std::time::Instant::now();
    while !bed.jobs().iter().any(|job| job["state"] == "running") {
        assert!(began.elapsed().as_secs() < 30, "no job began");
    }
    fill(disk, leave);
    let said = going.join().unwrap();
    said.must(code, says).must(code, &["No space left on device"]);
    // The archive stays on the node, the folder stays a part, and it is no point.
    let parts = state(".part");
    let [part] = parts.as_slice() else { panic!("{parts:?}\n{}", said.all()) };
    let archived: Vec<String> = bed
        .up
        .nodes
        .iter()
        .flat_map(|node| tree(&node.root.join("var/lib/gravity/ferry")).into_keys().collect::<Vec<_>>())
        .filter(|path| path.ends_with(".tar.gz"))
        .collect();
    assert_eq!(archived.len(), 1, "{archived:?}");
    let arrived = std::fs::metadata(part.join("gravity.tar.gz.part")).map_or(0, |there| there.len());
    println!(
        "{flags:?}: exit {}, {arrived} bytes of {} had arrived",
        said.code,
        std::fs::metadata(&archived[0]).unwrap().len()
    );
    assert!(leave < 1 << 20 || arrived > leave / 2, "{arrived}");
    assert!(older.iter().all(|(path, digest)| tree(&catalog).get(path) == Some(digest)), "an older point was touched");
    // As long as there is no room, it says so, touches no host and loses nothing.
    let words = printed_command(&said.all());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    fill(disk, 0);
    bed.ferry(&words).must(1, &["the catalog is full"]);
    assert!(std::path::Path::new(&archived[0]).exists());

    empty(disk);
    let carried = bed.ferry(&words);
    carried.must(0, &["is sealed: verified"]);
    let journal = std::fs::read_to_string(newest_journal(bed, disk)).unwrap();
    let events = journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let resumed: Vec<u64> = events.filter_map(|event| event["result"]["resumed_at"].as_u64()).collect();
    assert_eq!(resumed, [arrived], "not from the byte where it stopped");
    assert_eq!((bed.runs("prod") - runs, state(".part").len()), (1, 0));
    assert!(!std::path::Path::new(&archived[0]).exists() && bed.jobs().is_empty());
    assert!(older.iter().all(|(path, digest)| tree(&catalog).get(path) == Some(digest)), "an older point was touched");
    bed.ferry(&["points", "verify", "--catalog", disk.join("catalog").to_str().unwrap()]).must(0, &[]);
    bed.calm();
}

fn newest_journal(bed: &Bed, disk: &std::path::Path) -> std::path::PathBuf {
    let folders = [bed.up.dir.join("runs"), disk.join("runs")];
    let runs = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let journals = runs.map(|entry| entry.path().join("journal.jsonl")).filter(|path| path.exists());
    journals.max_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap()).unwrap()
}

#[test]
fn a_catalog_that_fills_up_keeps_what_came_and_the_printed_command_finishes() {
    on_a_small_disk("a_catalog_that_fills_up_keeps_what_came_and_the_printed_command_finishes", |disk| {
        let bed = Bed::new(Generation::G7);
        let catalog = disk.join("catalog");
        let flags = ["--catalog", catalog.to_str().unwrap()];
        bed.ferry(&["backup", "prod", flags[0], flags[1]]).must(0, &["is sealed: verified"]);
        fills_up(&bed, disk, &flags, 6 << 20, 2, &["the catalog's disk is full; the archive stays on the node"]);
        // Not even the hook's log can be kept.
        fills_up(&bed, disk, &flags, 0, 8, &["could not be kept here"]);
        // Full before anything starts: nothing is started.
        let runs = bed.runs("prod");
        fill(disk, 10 << 20);
        bed.ferry(&["backup", "prod", flags[0], flags[1]]).must(1, &["has no room for the archive", "--catalog"]);
        fill(disk, 0);
        bed.ferry(&["backup", "prod", flags[0], flags[1]]).must(1, &["the catalog is full"]);
        assert_eq!(bed.runs("prod"), runs);
    });
}

#[test]
fn journal_and_catalog_on_one_disk_that_fills_up_lose_nothing() {
    on_a_small_disk("journal_and_catalog_on_one_disk_that_fills_up_lose_nothing", |disk| {
        let mut bed = Bed::new(Generation::G7);
        let config = disk.join("ferry.toml");
        std::fs::write(
            &config,
            format!(
                "inventory = {:?}\ncatalog = \"catalog\"\nruns = \"runs\"\n",
                bed.up.inventory.display().to_string()
            ),
        )
        .unwrap();
        bed.up.config = config;
        bed.ferry(&["backup", "prod"]).must(0, &["is sealed: verified"]);
        fills_up(&bed, disk, &[], 6 << 20, 2, &["the catalog's disk is full; the archive stays on the node"]);
    });
}

#[test]
fn a_journal_that_cannot_be_written_does_not_cost_the_backup() {
    on_a_small_disk("a_journal_that_cannot_be_written_does_not_cost_the_backup", |disk| {
        let bed = Bed::new(Generation::G7);
        let runs = disk.join("runs");
        // So many lines that they do not wait in memory until there is room again.
        bed.faults(&["prod:hostile-output=60000", "prod:hook-seconds=240"]);
        let mut command = support::bed::ferry(Some(&bed.up.config), &bed.aside(""));
        command.args(["backup", "prod", "--only", "gravity", "--run-dir", runs.to_str().unwrap()]);
        let going = std::thread::spawn(move || support::bed::run_limited(command, std::time::Duration::from_secs(60)));
        let began = std::time::Instant::now();
        while !bed.jobs().iter().any(|job| job["state"] == "running") {
            assert!(began.elapsed().as_secs() < 30, "no job began");
        }
        fill(disk, 0);
        let said = going.join().unwrap();
        // The point is safe; that the journal lacks its end is told by the code.
        said.must(2, &["the run's journal could not be written", "is sealed: verified", "all that was asked for"]);
        assert!(bed.points("prod").values().all(|state| state == "verified") && bed.points("prod").len() == 1);
        assert!(bed.jobs().is_empty());
        // A journal that cannot even begin: nothing is started.
        bed.ferry(&["backup", "prod", "--run-dir", runs.to_str().unwrap()]).must(1, &["run"]);
        assert_eq!(bed.runs("prod"), 1);
    });
}

/// A backup of 64 MiB that is stopped in the middle of collecting, with its `.part`.
fn stopped_while_collecting(bed: &Bed) -> std::path::PathBuf {
    bed.faults(&["prod:archive-size=64"]);
    let mut command = support::bed::ferry(Some(&bed.up.config), &bed.aside(""));
    let quiet = std::process::Stdio::null;
    let mut child = command.args(["backup", "prod"]).stdout(quiet()).stderr(quiet()).spawn().unwrap();
    let began = std::time::Instant::now();
    let part = loop {
        let folders = std::fs::read_dir(bed.catalog().join("prod")).into_iter().flatten().flatten();
        let part = folders.map(|entry| entry.path().join("gravity.tar.gz.part")).find(|path| path.exists());
        if let Some(part) = part
            && std::fs::metadata(&part).is_ok_and(|there| there.len() > 4 << 20)
        {
            break part;
        }
        assert!(began.elapsed().as_secs() < 40, "nothing was collected");
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    part
}

#[test]
fn what_an_earlier_attempt_left_is_doubted_before_the_archive_is() {
    use std::os::unix::fs::FileExt as _;
    let bed = Bed::new(Generation::G7);
    let part = stopped_while_collecting(&bed);
    let length = std::fs::metadata(&part).unwrap().len();
    // As a power cut leaves it: the length is there, some bytes are not.
    let file = std::fs::OpenOptions::new().write(true).open(&part).unwrap();
    file.write_all_at(&[0; 4096], length / 2).unwrap();
    let said = bed.ferry(&["backup", "prod"]);
    said.must(0, &["taking over job", "all was fetched anew", "is sealed: verified"]);
    assert_eq!(bed.runs("prod"), 1);
    bed.ferry(&["points", "verify"]).must(0, &[]);
    // And where nothing is wrong with it, nothing is fetched twice.
    let part = stopped_while_collecting(&bed);
    let length = std::fs::metadata(&part).unwrap().len();
    bed.ferry(&["backup", "prod"]).must(0, &["is sealed: verified"]).never("all was fetched anew");
    let journal = std::fs::read_to_string(bed.last_run().join("journal.jsonl")).unwrap();
    assert!(journal.contains(&format!("\"resumed_at\":{length}")), "{length}");
    assert!(bed.jobs().is_empty());
}

#[test]
fn a_node_whose_disk_hangs_while_it_is_read_is_not_waited_for_without_end() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:archive-size=64"]);
    let mut command = support::bed::ferry(Some(&bed.up.config), &bed.aside(""));
    command.args(["backup", "prod"]);
    let going = std::thread::spawn(move || support::bed::run_limited(command, std::time::Duration::from_secs(60)));
    let mark = format!("FERRY_SANDBOX_ID={}", bed.up.id);
    let reader = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let ours = line.starts_with(b"cat\0") && line.ends_with(b".tar.gz\0");
        let environ = if ours { std::fs::read(entry.path().join("environ")).ok()? } else { return None };
        let marked = environ.split(|byte| *byte == 0).any(|setting| setting == mark.as_bytes());
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        marked.then(|| rustix::process::Pid::from_raw(pid).unwrap())
    };
    // The first that reads the archive hangs; its connection lives.
    let stopped = loop {
        assert!(!going.is_finished(), "it was over before it could be stopped");
        if let Some(pid) = std::fs::read_dir("/proc").unwrap().flatten().find_map(reader) {
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
            break pid;
        }
    };
    let said = going.join().unwrap();
    let _ = rustix::process::kill_process(stopped, rustix::process::Signal::KILL);
    said.must(0, &["through 1 cuts", "is sealed: verified"]);
    assert_eq!(bed.runs("prod"), 1);
}

#[test]
fn a_secret_that_was_typed_is_on_no_disk_here_or_there() {
    const SECRET: &str = "typed-hunter22-secret";
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:hook-seconds=360"]);
    let extra = format!("ansible_become_password={SECRET}");
    let mut command = support::bed::ferry(Some(&bed.up.config), &bed.aside(""));
    command.args(["backup", "prod", "-e", &extra, "-vvvv"]);
    let going = std::thread::spawn(move || support::bed::run_limited(command, std::time::Duration::from_secs(60)));
    let began = std::time::Instant::now();
    while !bed.jobs().iter().any(|job| job["state"] == "running") {
        assert!(began.elapsed().as_secs() < 30, "no job began");
    }
    // While the lock is held, which says on the nodes who holds it and by which command.
    let says =
        |node: &ferry::sandbox::NodeUp| find_in_files(&node.root.join("var/lib/ferry"), b"ansible_become_password=");
    assert_eq!(bed.up.nodes.iter().filter(|node| says(node).is_some()).count(), 3, "no lock to look into");
    for node in &bed.up.nodes {
        for folder in ["var", "etc", "tmp", "root", "run"] {
            assert_eq!(find_in_files(&node.root.join(folder), SECRET.as_bytes()), None, "on {}", node.name);
        }
    }
    // Whoever comes second is told who it is, and not with which password.
    bed.ferry(&["backup", "prod"]).must(7, &["another ferry works on this cluster", "backup prod -e"]).never(SECRET);
    let said = going.join().unwrap();
    said.must(0, &["is sealed: verified"]).never(SECRET);
    for folder in ["catalog", "runs", "clusters"] {
        assert_eq!(find_in_files(&bed.up.dir.join(folder), SECRET.as_bytes()), None, "{folder}");
    }
}

#[test]
fn attaching_to_a_job_that_never_begins_or_to_a_node_that_is_gone_comes_to_an_end() {
    use std::os::unix::fs::DirBuilderExt as _;
    let bed = Bed::new(Generation::G7);
    let id = "0123456789abcdef0123456789abcdef";
    let node = &bed.up.nodes[0];
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true).mode(0o700).create(node.root.join("var/lib/ferry/jobs").join(id)).unwrap();
    let attach = || bed.ferry_with(&["jobs", "attach", id], &[("FERRY_LINK_PATIENCE", "2")]);
    assert_eq!(bed.jobs().first().map(|job| job["state"].clone()), Some("not started".into()));
    attach().must(8, &["was not followed to its end", "not started"]);
}

#[test]
fn a_password_that_a_host_says_back_is_masked_in_commands_without_a_run_as_well() {
    use std::os::unix::fs::PermissionsExt as _;
    const SECRET: &str = "said-back-hunter22";
    let bed = Bed::new(Generation::G7);
    // A sudo that takes the password and tells it to everybody, as a debugging PAM module does.
    let wrapper = "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" = -p ] && printf '%s' \"$2\" >&2; shift; done\n\
                   read -r p\necho \"pam_debug: got '$p'\" >&2\nexit 1\n";
    let mut there = String::new();
    for node in &bed.up.nodes {
        let path = node.root.join("opt/sudo");
        std::fs::write(&path, wrapper).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let own_root = bed.up.mode == ferry::sandbox::Mode::Namespaces;
        there = if own_root { "/opt/sudo".to_owned() } else { path.display().to_string() };
    }
    let become_it = ["-e", "ansible_become=true", "-e", &format!("ansible_become_exe={there}")];
    for (words, code) in [
        (&["ping", "prod-1"][..], 2),
        (&["ping", "prod-1", "--json"], 2),
        (&["jobs", "list", "prod-1"], 2),
        (&["jobs", "attach", "0123", "-l", "prod-1"], 2),
        (&["backup", "prod"], 2),
    ] {
        let words = [words, &become_it, &["--become-password-env", "THE_PASSWORD"]].concat();
        let said = bed.ferry_with(&words, &[("THE_PASSWORD", SECRET), ("FERRY_LINK_PATIENCE", "2")]);
        said.must(code, &["pam_debug: got '********'"]).never(SECRET);
    }
    assert_eq!(find_in_files(&bed.up.dir.join("runs"), SECRET.as_bytes()), None);
}

#[test]
fn a_job_whose_notes_cannot_be_read_is_told_and_left_alone() {
    use std::os::unix::fs::DirBuilderExt as _;
    let bed = Bed::new(Generation::G7);
    let id = "00000000aaaaaaaabbbbbbbbcccccccc";
    let folder = bed.up.nodes[0].root.join("var/lib/ferry/jobs").join(id);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    for (name, text) in
        [("pid", "some-boot 4000000 1 1 1 end\n"), ("rc", "rc=0 up=1 end\n"), ("meta", "{\"from\": 2099}")]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
    bed.ferry(&["backup", "prod"]).must(0, &["notes cannot be read", "jobs clean", "is sealed: verified"]);
    assert!(folder.join("meta").exists());
    bed.ferry(&["jobs", "clean", id, "--yes"]).must(0, &["removed"]);
    bed.ferry(&["backup", "prod"]).must(0, &["is sealed: verified"]).never("notes cannot be read");
}
