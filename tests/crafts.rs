//! What is built of backups and restores: a migration; and what is around them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

#[path = "support/cluster.rs"]
mod cluster;
mod support;

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
    assert_eq!(hooks(&cluster), (2, 2), "{}", ended.said);
    assert_eq!(left_over(&cluster), [""; 0], "{}", ended.said);
    assert!(ended.said.contains("goes straight to dr-"), "{}", ended.said);
    let spooled: Vec<_> = std::fs::read_dir(cluster.dir().join("runs/spool")).unwrap().flatten().collect();
    assert!(spooled.is_empty(), "{spooled:?}");
}

#[test]
fn a_migration_whose_backup_fails_touches_nothing() {
    let cluster = Cluster::plain(0.3, 2);
    let dr = sandbox::content(cluster.dir(), "dr").unwrap();
    for (what, more) in [
        ("prod:exit0-empty-archive=on", &[][..]),
        ("prod:hook-fails=on", &[]),
        ("prod:exit0-empty-archive=on", &["--no-keep"]),
        ("prod:truncated-archive=on", &["--no-keep"]),
    ] {
        fault(&cluster, what);
        let ended = migrate(&cluster, more);
        fault(&cluster, &format!("{}=off", what.split('=').next().unwrap()));
        assert_eq!(ended.code, Some(2), "{what}\n{}", ended.said);
        assert_eq!(hooks(&cluster).1, 0, "{what}\n{}", ended.said);
        // What was refused on its way does not lie at the target.
        let left = left_over(&cluster).into_iter().filter(|left| left.starts_with("dr-")).collect::<Vec<_>>();
        assert_eq!(left, [""; 0], "{what} {more:?}\n{}", ended.said);
    }
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), dr);
}

/// kill -9 at lines all over the journal: resumed, the source is backed up once and the target restored once.
#[test]
fn a_killed_migration_is_carried_on() {
    killed_and_carried_on(&[]);
}

/// The same where its archive goes from node to node, and nothing of it lies here.
#[test]
fn a_killed_migration_that_is_not_kept_is_carried_on() {
    killed_and_carried_on(&["--no-keep"]);
}

/// The same line once more, not `runs resume`: before the restore has begun it is another migration; afterwards it is the same one.
#[test]
fn a_killed_migration_that_is_typed_again() {
    let cluster = Cluster::plain(0.8, 2);
    let then = sandbox::content(cluster.dir(), "prod").unwrap();
    let kill_when = |is: &dyn Fn() -> bool| {
        let mut going = Going::start(&mut cluster.command(&MIGRATE));
        while !going.over() && !is() {
            std::thread::sleep(Duration::from_millis(1));
        }
        going.signal(Signal::KILL);
        let ended = going.end(SOON);
        assert_eq!(ended.code, None, "it was to be killed\n{}", ended.said);
    };
    let again = || {
        for _ in 0..20 {
            let ended = migrate(&cluster, &[]);
            // The killed one's locks live as long as the nodes take to notice.
            if !(ended.code == Some(7) && ended.said.contains("another ferry")) {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        panic!("the locks stay");
    };
    kill_when(&|| hooks(&cluster).1 == 1);
    assert_eq!(cluster.sealed().len(), 1);
    sandbox::change(cluster.dir(), "prod", "what came after the backup").unwrap();
    let ended = again();
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(ended.said.contains("that is gone on with, and nothing is backed up anew"), "{}", ended.said);
    assert_eq!((hooks(&cluster), cluster.sealed().len()), ((1, 1), 1), "{}", ended.said);
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then, "{}", ended.said);
    assert_eq!(left_over(&cluster), [""; 0], "{}", ended.said);

    if !long() {
        return;
    }
    let then = sandbox::content(cluster.dir(), "prod").unwrap();
    kill_when(&|| cluster.sealed().len() == 2);
    let ended = again();
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    // A ferry that dies on its way from the seal to the tidying leaves the job, and is gone on with; later there is none.
    let (backups, restores) = hooks(&cluster);
    assert_eq!((backups, restores), (cluster.sealed().len(), 2), "{}", ended.said);
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then, "{}", ended.said);
    assert_eq!(left_over(&cluster), [""; 0], "{}", ended.said);

    // A restore on the target that is of nothing that was sealed here: refused before the backup.
    kill_when(&|| hooks(&cluster).1 == 3);
    let newest = cluster.sealed().into_iter().max().unwrap();
    std::fs::rename(cluster.dir().join("catalog/prod").join(&newest), cluster.dir().join("elsewhere")).unwrap();
    let before = hooks(&cluster);
    let ended = again();
    assert_eq!(ended.code, Some(7), "{}", ended.said);
    assert!(
        ended.said.contains("a restore of another point") && ended.said.contains("ferry jobs clean"),
        "{}",
        ended.said
    );
    assert_eq!(hooks(&cluster), before, "{}", ended.said);
}

/// A kept point goes to the other places of the catalog as a backup's does, behind the restore; one that is away is told.
#[test]
fn a_migrated_point_is_copied_to_the_other_places() {
    let cluster = Cluster::plain(0.3, 2);
    let second = cluster.dir().join("second");
    let with = |last: &str, more: &[&str]| {
        let config = cluster.dir().join("two.toml");
        let text = std::fs::read_to_string(&cluster.config).unwrap();
        let places = format!("catalog = [\"{}\", \"{last}\"]", cluster.dir().join("catalog").display());
        let lines = text.lines().map(|line| if line.starts_with("catalog") { places.as_str() } else { line });
        std::fs::write(&config, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let words: Vec<&str> = MIGRATE.iter().chain(more).copied().collect();
        Going::start(cluster.command(&words).env("FERRY_CONFIG", &config)).end(SOON)
    };
    let ended = with(second.to_str().unwrap(), &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let id = cluster.sealed().into_iter().next().unwrap();
    assert!(second.join("prod").join(&id).join("manifest.json").is_file(), "{}", ended.said);
    let notes = std::fs::read_to_string(cluster.dir().join("catalog/prod").join(&id).join("notes.jsonl")).unwrap();
    assert!(notes.contains("\"replicated\"") && notes.contains("\"restored\""), "{notes}");
    // Not kept: nowhere.
    let more = usize::from(long());
    if long() {
        let ended = with(second.to_str().unwrap(), &["--no-keep"]);
        assert_eq!(ended.code, Some(0), "{}", ended.said);
        assert_eq!(std::fs::read_dir(second.join("prod")).unwrap().count(), 1, "{}", ended.said);
    }
    // A place that cannot be: restored and kept all the same, and not called done.
    std::fs::write(cluster.dir().join("file"), b"no folder").unwrap();
    let then = sandbox::content(cluster.dir(), "prod").unwrap();
    let ended = with(cluster.dir().join("file/third").to_str().unwrap(), &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    assert!(ended.said.contains("ferry points copy prod/"), "{}", ended.said);
    assert_eq!((cluster.sealed().len(), hooks(&cluster).1), (2, 2 + more), "{}", ended.said);
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then, "{}", ended.said);
}

fn killed_and_carried_on(more: &[&str]) {
    let cluster = Cluster::plain(0.4, 2);
    let before = runs(&cluster);
    let whole = migrate(&cluster, more);
    assert_eq!(whole.code, Some(0), "{}", whole.said);
    let journal = runs(&cluster).difference(&before).next().unwrap().join("journal.jsonl");
    let lines = std::fs::read_to_string(journal).unwrap().lines().count();
    let (first, step) = match (long(), more.is_empty()) {
        (true, _) => (3, 1),
        (false, true) => (3, (lines / 3).max(1)),
        // While the archive goes.
        (false, false) => (lines / 2, lines),
    };
    let words: Vec<&str> = MIGRATE.iter().chain(more).copied().collect();
    let mut killed = 0;
    let last = std::iter::once(lines - 2).filter(|_| long() || more.is_empty());
    for at in (first..lines).step_by(step).chain(last) {
        sandbox::change(cluster.dir(), "prod", &format!("case {at}")).unwrap();
        let then = sandbox::content(cluster.dir(), "prod").unwrap();
        let (hooked, before) = (hooks(&cluster), runs(&cluster));
        let mut going = Going::start(&mut cluster.command(&words));
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
        if !more.is_empty() {
            let spool = std::fs::read_dir(cluster.dir().join("runs/spool")).into_iter().flatten().flatten();
            assert_eq!(spool.count(), 0, "line {at}\n{}", last.said);
            assert_eq!(cluster.sealed().len(), 0, "line {at}\n{}", last.said);
        }
    }
    assert!(killed >= if long() || more.is_empty() { 3 } else { 1 }, "{killed} kills");
    println!(
        "{more:?}: {killed} migrations killed at lines of a journal of {lines}, each carried on: one backup, one restore"
    );
}

// ── status, logs ──

/// Lines with secrets of every kind. What is secret in them has the word, and no other word does.
fn canaries() -> Vec<String> {
    let word = "kanarienvogel";
    vec![
        format!(r#"{{"cluster":{{"token":{{"token":"{word}0001","type":"expand"}}}}}}"#),
        format!("Join token:\t\t{word}0002"),
        format!("gravity join 10.0.0.1 --token={word}0003 --role=node"),
        format!("gravity join 10.0.0.1 --token {word}0004"),
        format!("POSTGRES_PASSWORD={word}0005 started"),
        format!("password: '{word} 0006'"),
        format!(r#"{{"password": "{word}\"{word}0007", "x": 1}}"#),
        format!("postgres://amv:{word}0008@stolon.default/x?sslmode=require"),
        format!("Authorization: Bearer {word}.0009.abc"),
        format!("Proxy-Authorization: Basic {word}0010=="),
        format!("Set-Cookie: JSESSIONID={word}0011; Path=/"),
        format!("influx -username admin -password '{word} 0012' -execute 'SHOW DATABASES'"),
        format!("GET /query?u=admin&p={word}0013&q=SHOW+DATABASES HTTP/1.1 204"),
        format!("curl -u admin:{word}0014 https://dias:8086/ping"),
        format!("AWS_SECRET_ACCESS_KEY={word}0015"),
        format!("client_secret: {word}0016"),
        format!("using token eyJ{word}AAAA.{word}BBBB.{word}CCCC for the site"),
        format!("X-Vault-Token: {word}0018"),
        format!("the password is {word}0019 now"),
        format!(r#"cert: "-----BEGIN PRIVATE KEY-----\n{word}0020\n-----END PRIVATE KEY-----\n""#),
        "-----BEGIN RSA PRIVATE KEY-----".to_owned(),
        format!("MIIEpAIBAAKCAQEA{word}0021AAAAAAAAAAAAAAAAAAAAAAAA"),
        format!("{word}0022AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        "-----END RSA PRIVATE KEY-----".to_owned(),
    ]
}

/// Each canary between two lines that must come home.
fn sown(place: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (at, canary) in canaries().into_iter().enumerate() {
        // The lines of a key stay together.
        if at <= 20 {
            lines.push(format!("line before {at} in {place}"));
        }
        lines.push(canary);
    }
    lines.push(format!("the last line of {place}"));
    lines
}

fn append(path: &std::path::Path, lines: &[String]) {
    use std::io::Write as _;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{}\n", lines.join("\n")).as_bytes()).unwrap();
}

fn journal(path: &std::path::Path, tag: &str, lines: &[String]) {
    let now = jiff::Timestamp::now().to_string();
    let entry = |line: &String| {
        serde_json::json!({"at": now, "tag": tag, "host": "prod-1", "pid": 7, "line": line}).to_string()
    };
    append(path, &lines.iter().map(entry).collect::<Vec<_>>());
}

#[test]
fn logs_bring_home_every_source_and_no_secret() {
    let cluster = Cluster::up(0.3, 2);
    // A hook that fails leaves its job, its pod and its log.
    fault(&cluster, "prod:hook-fails=on");
    let failed = cluster.run(&["backup", "prod", "--only", "gravity", "--waive", SPACE], SOON);
    assert_eq!(failed.code, Some(2), "{}", failed.said);
    fault(&cluster, "prod:hook-fails=off");
    let shared = cluster.up.shared("prod");
    let mut places = Vec::new();
    for node in cluster.up.nodes.iter().filter(|node| node.cluster == "prod") {
        let (name, root) = (&node.name, &node.root);
        for (file, path) in [
            ("gravity-system.log", "var/log/gravity-system.log"),
            ("gravity-install.log", "var/log/gravity-install.log"),
            ("amv.txt", "srv/amv-backup/backup.log"),
            ("ferry-jobs.txt", "var/lib/ferry/jobs/zz-canary/out"),
        ] {
            let place = format!("{name}/{file}");
            append(&root.join(path), &sown(&place));
            places.push(place);
        }
        for (file, path, tag) in [
            ("gravity-cli.journal", cluster.up.node_dir(name).join("journal.jsonl"), "gravity-cli"),
            ("planet-journal.txt", root.join("var/lib/gravity/planet/log/journal/journal.jsonl"), "kubelet"),
        ] {
            let place = format!("{name}/{file}");
            journal(&path, tag, &sown(&place));
            places.push(place);
        }
        let place = format!("{name}/journal.txt");
        journal(&cluster.up.node_dir(name).join("journal.jsonl"), "kubelet", &sown(&place));
        places.push(place);
    }
    let mut hooks = 0;
    for entry in std::fs::read_dir(shared.join("logs")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        append(&entry.path(), &sown("a hook's log"));
        hooks += usize::from(name.starts_with("anypoint-backup-"));
    }
    assert!(hooks > 0, "the hook that failed left no log");
    for (file, pod) in [
        ("kube-system/gravity-site-3.log", "gravity-site-3.log"),
        ("influxdb/dias-prov-k8s-am-influxdb-comp-data-0.log", "dias-prov-k8s-am-influxdb-comp-data-0.log"),
        ("influxdb/dias-prov-k8s-am-influxdb-comp-meta-2.log", "dias-prov-k8s-am-influxdb-comp-meta-2.log"),
        ("events.txt", "events.txt"),
    ] {
        let place = format!("cluster/{file}");
        append(&shared.join("logs").join(pod), &sown(&place));
        places.push(place);
    }
    let dir = cluster.dir().join("gathered");
    let ended = cluster.run(&["logs", "prod", "--dir", dir.to_str().unwrap(), "--report", "--output", "plain"], SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(!ended.said.contains("kanarienvogel") && ended.said.contains("HOLDS SECRETS"), "{}", ended.said);

    // Every file, and the tarball of them: no canary, and the lines around each are there.
    let listed = std::process::Command::new("grep").args(["-rl", "kanarienvogel"]).arg(&dir).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "", "canaries came home");
    let packed = dir.with_extension("tar.gz");
    let unpacked = std::process::Command::new("tar").args(["-xzOf"]).arg(&packed).output().unwrap();
    assert!(unpacked.status.success());
    let all = String::from_utf8_lossy(&unpacked.stdout).into_owned();
    assert!(!all.contains("kanarienvogel") && !all.contains("JOINTOKEN"));
    let redacted = std::fs::read_to_string(dir.join("REDACTED.txt")).unwrap();
    let index = std::fs::read_to_string(dir.join("GATHERED.txt")).unwrap();
    for place in &places {
        let text = std::fs::read_to_string(dir.join(place)).unwrap_or_else(|error| panic!("{place}: {error}\n{index}"));
        for at in 0..=20 {
            assert!(text.contains(&format!("line before {at} in {place}")), "{at} in {place}:\n{text}");
        }
        assert!(text.contains(&format!("the last line of {place}")), "{place}:\n{text}");
        let count = redacted.lines().filter(|line| line.starts_with(&format!("{place}:"))).count();
        assert!(count >= 20, "{count} of {place} in the list");
    }
    let hook_logs = all.matches("the last line of a hook's log").count();
    assert!(hook_logs >= 1, "{index}");
    // Status with its join token, disks, pods and jobs are there as well.
    for (file, words) in [
        ("prod-1/gravity-status.txt", "Cluster"),
        ("prod-1/disk.txt", "Filesystem"),
        ("cluster/pods.txt", "coredns"),
        ("cluster/jobs.txt", "anypoint-backup"),
        ("cluster/nodes.txt", "10.0.0.11"),
    ] {
        let text = std::fs::read_to_string(dir.join(file)).unwrap();
        assert!(text.contains(words), "{file}: {text}");
    }
    // The report is beside the folder, for its owner alone; on the node nothing is left of it.
    let report = PathBuf::from(format!("{}.gravity-report.tar.gz", dir.display()));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&report).unwrap().permissions().mode() & 0o777, 0o600);
    for node in &cluster.up.nodes {
        let left = std::fs::read_dir(node.root.join("var/lib/ferry")).into_iter().flatten().flatten();
        let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().contains("report")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // A folder that holds something is not written into; a report that is empty is found; the rest came home.
    let again = cluster.run(&["logs", "prod", "--dir", dir.to_str().unwrap()], SOON);
    assert!(again.code != Some(0) && again.said.contains("is not empty"), "{}", again.said);
    fault(&cluster, "prod:report-fails=on");
    let other = cluster.dir().join("gathered-2");
    let ended = cluster.run(&["logs", "prod", "--dir", other.to_str().unwrap(), "--report"], SOON);
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    assert!(ended.said.contains("empty file") && other.join("GATHERED.txt").exists(), "{}", ended.said);
}

/// What gravity does not say of its own report: it exits 0 and says that the report was made.
#[test]
fn a_report_of_gravity_that_lacks_something_is_found() {
    let cluster = Cluster::plain(0.3, 2);
    let gather = |name: &str| {
        let dir = cluster.dir().join(name);
        let ended = cluster.run(&["logs", "prod", "--dir", dir.to_str().unwrap(), "--report"], SOON);
        let report = PathBuf::from(format!("{}.gravity-report.tar.gz", dir.display()));
        let left: Vec<_> = cluster
            .up
            .nodes
            .iter()
            .flat_map(|node| std::fs::read_dir(node.root.join("var/lib/ferry")).into_iter().flatten().flatten())
            .filter(|entry| entry.file_name().to_string_lossy().contains("report"))
            .collect();
        assert!(left.is_empty(), "on the nodes: {left:?}");
        assert!(dir.join("GATHERED.txt").exists(), "{}", ended.said);
        (ended, report)
    };
    let (ended, report) = gather("whole");
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(!ended.said.contains("lacks"), "{}", ended.said);
    let members = |report: &PathBuf| {
        let out = std::process::Command::new("tar").arg("-tzf").arg(report).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert!(members(&report).contains("prod-2-debug-logs.tar.gz"));

    // A node is missing: what there is came home, and which node it lacks is said above and in the summary.
    fault(&cluster, "prod:report-lacks=prod-2");
    let (ended, report) = gather("lacking");
    fault(&cluster, "prod:report-lacks=off");
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(
        ended.said.matches("gravity report lacks prod-2: gravity says nothing of that").count(),
        2,
        "{}",
        ended.said
    );
    let members = members(&report);
    assert!(members.contains("prod-1-debug-logs") && members.contains("prod-3-debug-logs"), "{members}");
    assert!(!members.contains("prod-2-debug-logs"), "{members}");

    // Nothing at all, and gravity says that all is well.
    fault(&cluster, "prod:report-empty=on");
    let (ended, report) = gather("empty");
    fault(&cluster, "prod:report-empty=off");
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    for says in ["gravity report left an empty file", "exit code 0", "NO REPORT", "ferry logs prod --report"] {
        assert!(ended.said.contains(says), "{says}\n{}", ended.said);
    }
    assert!(!report.exists());
}

#[test]
fn status_tells_how_a_cluster_is() {
    let cluster = Cluster::plain(0.3, 2);
    let status = |words: &[&str]| {
        let words: Vec<&str> = ["status", "prod"].iter().chain(words).copied().collect();
        cluster.run(&words, SOON)
    };
    let ended = status(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    for words in ["pce-prod", "state      active", "PCE 3.0.2", "none that could be restored", "prod-1", "10.0.0.12"] {
        assert!(ended.said.contains(words), "{words}\n{}", ended.said);
    }
    let backup = cluster.run(&["backup", "prod", "--waive", SPACE], SOON);
    assert_eq!(backup.code, Some(0), "{}", backup.said);
    fault(&cluster, "prod:hook-fails=on");
    assert_eq!(cluster.run(&["backup", "prod", "--waive", SPACE], SOON).code, Some(2));
    fault(&cluster, "prod:hook-fails=off");
    let ended = status(&["--json"]);
    let json = ended.said.get(ended.said.find('{').unwrap()..).unwrap();
    let value = serde_json::Deserializer::from_str(json).into_iter::<serde_json::Value>().next().unwrap().unwrap();
    assert_eq!((ended.code, &value["well"], &value["state"]), (Some(0), &true.into(), &"active".into()), "{value}");
    assert_eq!(value["points"]["gravity"]["point"], cluster.sealed().into_iter().next().unwrap(), "{value}");
    assert!(value["points"]["gravity"]["age_seconds"].as_u64().unwrap() < 100, "{value}");
    assert_eq!(
        (value["leaked"].as_array().unwrap().len(), value["nodes"].as_array().unwrap().len()),
        (1, 3),
        "{value}"
    );
    assert!(value["hooks"].as_array().unwrap().iter().any(|hook| !hook["failed"].is_null()), "{value}");
    assert!(!value.to_string().contains("JOINTOKEN"), "{value}");
    let ended = status(&[]);
    assert!(
        ended.said.contains("left over") && ended.said.contains("ferry jobs clean --staging prod"),
        "{}",
        ended.said
    );
    for what in ["prod:degraded=on", "prod:node-offline=prod-3"] {
        fault(&cluster, what);
        let ended = status(&[]);
        fault(&cluster, &format!("{}=off", what.split('=').next().unwrap()));
        assert_eq!(ended.code, Some(2), "{what}\n{}", ended.said);
        assert!(ended.said.contains("NOT WELL"), "{what}\n{}", ended.said);
    }
    assert_eq!(cluster.run(&["status", "nowhere"], SOON).code, Some(6));
}

// ── drill, settings ──

#[test]
fn a_drill_is_measured_and_needs_a_cluster_that_is_there_for_it() {
    let cluster = Cluster::plain(0.4, 2);
    let backup = cluster.run(&["backup", "prod", "--waive", SPACE], SOON);
    assert_eq!(backup.code, Some(0), "{}", backup.said);
    let then = sandbox::content(cluster.dir(), "prod").unwrap();
    let words = [
        "drill",
        "latest",
        "--from",
        "prod",
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
    let ended = cluster.run(&words, SOON);
    assert_eq!((ended.code, hooks(&cluster).1), (Some(7), 0), "{}", ended.said);
    assert!(ended.said.contains("pce_drill_ok"), "{}", ended.said);
    let words: Vec<&str> = words.iter().copied().chain(["-e", "pce_drill_ok=true"]).collect();
    let ended = cluster.run(&words, SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then);
    for said in ["isolate    SMTP", "isolate    DNS", "isolate    runtimes", "recovery", "data age", "differs: DNS"] {
        assert!(ended.said.contains(said), "{said}\n{}", ended.said);
    }
    let id = cluster.sealed().into_iter().next().unwrap();
    let point = cluster.dir().join("catalog/prod").join(&id);
    let notes = std::fs::read_to_string(point.join("notes.jsonl")).unwrap();
    let noted: Vec<serde_json::Value> = notes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let drill = noted.iter().find(|note| note["note"] == "rehearsed").unwrap();
    assert!(drill["seconds"].as_f64().unwrap() > 0.3 && drill["data_age_seconds"].as_i64().unwrap() >= 0, "{drill}");
    assert!(drill["phases"]["gravity_restore"].as_f64().unwrap() > 0.3, "{drill}");
    // What Gravity leaves out lies with the point, and what changed since is told at the next backup.
    for (file, words) in [
        ("dns", "anypoint"),
        ("certificates", "fingerprint"),
        ("nfs", "nfs.prod.example"),
        ("nodes", "master"),
        ("disks", "total_kib"),
    ] {
        let text = std::fs::read_to_string(point.join(format!("settings/{file}.json"))).unwrap();
        assert!(text.contains(words) || file == "dns" && text.contains("10.0.0"), "{file}: {text}");
    }
    fault(&cluster, "prod:dns-elsewhere=192.0.2.77");
    let backup = cluster.run(&["backup", "prod", "--output", "plain", "--waive", SPACE], SOON);
    assert_eq!(backup.code, Some(0), "{}", backup.said);
    assert!(
        backup.said.contains("settings changed since") && backup.said.contains("DNS: now 192.0.2.77"),
        "{}",
        backup.said
    );
    assert!(!backup.said.contains("disks:") && !backup.said.contains("nodes:"), "{}", backup.said);
    let verified = cluster.run(&["points", "verify"], SOON);
    assert_eq!(verified.code, Some(0), "{}", verified.said);
}

// ── NFS ──

/// What a tree is: for each path its kind, owner, mode, content, attributes, the inode's names, and its blocks.
fn tree(root: &std::path::Path) -> std::collections::BTreeMap<String, String> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    fn walk(dir: &std::path::Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            into.push(entry.path());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), into);
            }
        }
    }
    let mut paths = vec![root.to_owned()];
    walk(root, &mut paths);
    let names = |inode: u64| {
        let same = paths.iter().filter(|path| std::fs::symlink_metadata(path).unwrap().ino() == inode);
        let mut names: Vec<String> = same.map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect();
        names.sort();
        names.join(",")
    };
    paths
        .iter()
        .map(|path| {
            let seen = std::fs::symlink_metadata(path).unwrap();
            let kind = seen.file_type();
            let content = if kind.is_file() {
                ferry::digest::Sha256::of(&std::fs::read(path).unwrap()).to_string()
            } else if kind.is_symlink() {
                std::fs::read_link(path).unwrap().display().to_string()
            } else {
                format!("dir {} fifo {}", kind.is_dir(), kind.is_fifo())
            };
            let mut attributes = Vec::new();
            if !kind.is_symlink() {
                let mut list = vec![0_u8; 4096];
                let count = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
                for name in list[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
                    let mut value = vec![0_u8; 4096];
                    let name = std::ffi::OsStr::from_bytes(name);
                    let count = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
                    attributes.push(format!("{}={:?}", name.display(), &value[..count]));
                }
                attributes.sort();
            }
            let size = if kind.is_file() { seen.len() } else { 0 };
            let text = format!(
                "{:o} {}:{} {size} {} {content} [{}] {attributes:?}",
                seen.mode(),
                seen.uid(),
                seen.gid(),
                if kind.is_dir() || kind.is_symlink() { 0 } else { seen.mtime() },
                if kind.is_file() { names(seen.ino()) } else { String::new() },
            );
            (path.strip_prefix(root).unwrap().display().to_string(), text)
        })
        .collect()
}

/// A POSIX ACL as the kernel keeps it: owner rwx, user 4711 r-x, group r--, mask r-x, others none.
fn acl() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 5, 4711), (4, 4, u32::MAX), (0x10, 5, u32::MAX), (0x20, 0, u32::MAX)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn blocks(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).unwrap().blocks()
}

/// A tree with everything that a file system has.
fn plant(root: &std::path::Path) {
    use std::io::{Seek as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;
    let at = |name: &str| root.join(name);
    std::fs::create_dir_all(at("apps/a b/ü")).unwrap();
    std::fs::create_dir_all(at("empty")).unwrap();
    for (number, name) in
        ["apps/one", "apps/a b/two words", "apps/a b/ü/drei", "apps/line\nfeed", "-dash", "apps/'quote\""]
            .iter()
            .enumerate()
    {
        std::fs::write(at(name), vec![b'a' + number as u8; 1000 * (number + 1)]).unwrap();
        let id = 10_000 + number as u32;
        std::os::unix::fs::chown(at(name), Some(id), Some(id + 500)).unwrap();
    }
    std::fs::set_permissions(at("apps/one"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::fs::set_permissions(at("empty"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::chown(at("empty"), Some(4711), Some(4712)).unwrap();
    std::fs::hard_link(at("apps/one"), at("apps/a b/linked")).unwrap();
    std::os::unix::fs::symlink("../apps/one", at("apps/soft")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at all", at("dangling")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    let mut sparse = std::fs::File::create(at("sparse")).unwrap();
    sparse.write_all(&[7; 70_000]).unwrap();
    sparse.seek(std::io::SeekFrom::Start(40 << 20)).unwrap();
    sparse.write_all(&[8; 130_000]).unwrap();
    sparse.set_len(64 << 20).unwrap();
    drop(sparse);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(at("apps/a b/two words"), "user.owner", b"platform\0team", flags).unwrap();
    rustix::fs::setxattr(at("apps"), "trusted.mark", b"x", flags).unwrap();
    rustix::fs::setxattr(at("apps/a b/ü/drei"), "system.posix_acl_access", &acl(), flags).unwrap();
    rustix::fs::setxattr(at("apps/a b"), "system.posix_acl_default", &acl(), flags).unwrap();
}

#[test]
fn an_nfs_export_is_equal_after_backup_and_restore() {
    use support::pce::{self, Desk, inventory_of, said};
    use support::real::{Opts, Sudo};
    let memory = |name: &str| tempfile::Builder::new().prefix(name).tempdir_in("/dev/shm").unwrap();
    let (exported, target) = (memory("nfs-prod"), memory("nfs-dr"));
    plant(exported.path());
    let desk = Desk::new();
    let with = |dir: &tempfile::TempDir| Opts {
        binds: vec![(dir.path().to_owned(), "/srv/nfs".to_owned())],
        ..Opts::sudo(Sudo::NoPasswd)
    };
    let prod = pce::Cluster::start_as(&desk, "prod", 1, &with(&exported), |_| ());
    let dr = pce::Cluster::start_as(&desk, "dr", 1, &with(&target), |_| ());
    let mut inventory = inventory_of(&desk, &[&prod, &dr], &[], |_| Vec::new());
    inventory += "    nfs:\n      vars: { pce_nfs_export: /srv/nfs }\n      hosts: { prod-1: {}, dr-1: {} }\n";
    desk.put("inventory.yml", &inventory);
    let then = tree(exported.path());

    let out = desk.run(&["backup", "prod", "--only", "nfs", "--output", "plain", "--waive", SPACE]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(said(&out).contains("saved") && said(&out).contains("nfs ("), "{}", said(&out));
    // Asked for by name it is always time; with everything else it is not yet.
    // This one is encrypted for the operator's own SSH key, in small volumes.
    let mut sealed = desk.ferry();
    sealed.env("FERRY_RECIPIENTS", desk.public()).env("FERRY_VOLUME_SIZE", "64KiB");
    let out = sealed.args(["backup", "prod", "--only", "nfs", "--waive", SPACE]).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let out = desk.run(&["backup", "prod", "--output", "plain", "--waive", SPACE]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(said(&out).contains("left out") && said(&out).contains("every 1d"), "{}", said(&out));
    let shelf = desk.at("work/catalog/prod");
    let mut points: Vec<String> = std::fs::read_dir(&shelf)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| ["nfs.tar.gz", "nfs.tar.gz.age"].iter().any(|file| shelf.join(name).join(file).exists()))
        .collect();
    points.sort();
    assert_eq!(points.len(), 2, "{points:?}");
    assert!(
        shelf.join(&points[0]).join("nfs.tar.gz").exists() && shelf.join(&points[1]).join("nfs.tar.gz.age").exists()
    );
    let out = desk.run(&["points", "verify"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let point = format!("prod/{}", points[0]);
    // The manifest says what it is, and anybody can read it.
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(shelf.join(&points[0]).join("manifest.json")).unwrap()).unwrap();
    let archive = &manifest["archives"][0];
    assert_eq!(
        (&archive["kind"], &archive["verdict"], &manifest["complete"]),
        (&"nfs".into(), &"verified".into(), &true.into())
    );
    let row = manifest["contents"].as_array().unwrap().iter().find(|row| row["row"] == "NFS files").unwrap();
    assert_eq!(row["in_backup"], "yes", "{row}");

    let restore = |more: &[&str]| {
        let words = [
            "restore",
            &point,
            "--to",
            "dr",
            "--only",
            "nfs",
            "--confirm",
            "dr",
            "--output",
            "plain",
            "--waive",
            SPACE,
        ];
        let words: Vec<&str> = words.iter().chain(more).copied().collect();
        desk.run(&words)
    };
    // Never over live files unless they are named.
    std::fs::write(target.path().join("live"), "of today").unwrap();
    let out = restore(&[]);
    assert_eq!(out.status.code(), Some(7), "{}", said(&out));
    assert!(said(&out).contains("--nfs-over /srv/nfs"), "{}", said(&out));
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 1);
    std::fs::remove_file(target.path().join("live")).unwrap();

    let out = restore(&[]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let now = tree(target.path());
    for (path, was) in &then {
        assert_eq!(now.get(path), Some(was), "{path}\n{}", said(&out));
    }
    assert_eq!(now.len(), then.len());
    let (was, is) = (blocks(&exported.path().join("sparse")), blocks(&target.path().join("sparse")));
    assert!(is * 10 <= was * 11 && is * 11 >= was * 10 && was < 2000, "{was} blocks before, {is} after");
    println!("sparse file: {was} blocks before, {is} after; {} paths equal", then.len());

    // Over live files when they are named, and into another directory.
    std::fs::write(target.path().join("-dash"), "spoilt").unwrap();
    std::fs::write(target.path().join("of today"), "stays").unwrap();
    let out = restore(&["--nfs-over", "/srv/nfs"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(target.path().join("of today").exists());
    assert_eq!(tree(target.path()).get("-dash"), then.get("-dash"));
    let out = restore(&["--nfs-into", "/srv/nfs/new/place"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!(tree(&target.path().join("new/place")), then, "{}", said(&out));

    // What is encrypted opens with that key alone, and is the same.
    let key = desk.key.display().to_string();
    let sealed = |more: &[&str]| {
        let (point, into) = (format!("prod/{}", points[1]), "/srv/nfs/sealed");
        let words =
            ["restore", &point, "--to", "dr", "--only", "nfs", "--confirm", "dr", "--waive", SPACE, "--nfs-into", into];
        desk.run(&words.iter().chain(more).copied().collect::<Vec<_>>())
    };
    let out = sealed(&[]);
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    let out = sealed(&["--identity", &key]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!(tree(&target.path().join("sealed")), then, "{}", said(&out));

    // A flipped byte is found before anything is put there.
    let file = shelf.join(&points[0]).join("nfs.tar.gz");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let out = restore(&["--nfs-into", "/srv/nfs/never"]);
    assert_eq!(out.status.code(), Some(7), "{}", said(&out));
    assert!(!target.path().join("never").exists());
}

/// What is left out on purpose, what lies on another file system, and what changed under the reader's eyes.
#[test]
fn an_nfs_backup_tells_what_changed_and_what_it_left_out() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use support::pce::{self, Desk, inventory_of, said};
    use support::real::{Opts, Sudo};
    let memory = |name: &str| tempfile::Builder::new().prefix(name).tempdir_in("/dev/shm").unwrap();
    let exported = memory("nfs-prod");
    // On another file system than the export.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("elsewhere"), "not of this file system").unwrap();
    let at = |name: &str| exported.path().join(name);
    for folder in ["mounted", "cache", "keep"] {
        std::fs::create_dir(at(folder)).unwrap();
    }
    for name in ["keep/wanted", "keep/draft.tmp", "cache/unwanted"] {
        std::fs::write(at(name), name).unwrap();
    }
    std::fs::write(at("busy.log"), vec![b'x'; 48 << 20]).unwrap();
    std::fs::write(at("calm.log"), "said once").unwrap();
    let desk = Desk::new();
    let opts = Opts {
        binds: vec![
            (exported.path().to_owned(), "/srv/nfs".to_owned()),
            (other.path().to_owned(), "/srv/nfs/mounted".to_owned()),
        ],
        ..Opts::sudo(Sudo::NoPasswd)
    };
    let prod = pce::Cluster::start_as(&desk, "prod", 1, &opts, |_| ());
    let mut inventory = inventory_of(&desk, &[&prod], &[], |_| Vec::new());
    inventory += "    nfs:\n      vars: { pce_nfs_export: /srv/nfs, pce_nfs_exclude: ['*.tmp', ./cache] }\n      hosts: { prod-1: {} }\n";
    desk.put("inventory.yml", &inventory);

    let stop = AtomicBool::new(false);
    let out = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = std::fs::OpenOptions::new().append(true).open(at("busy.log")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                std::io::Write::write_all(&mut file, b"one more line\n").unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let out = desk.run(&["backup", "prod", "--only", "nfs", "--output", "plain", "--waive", SPACE]);
        stop.store(true, Ordering::Relaxed);
        out
    });
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(said(&out).contains("1 changed while they were read"), "{}", said(&out));
    assert!(said(&out).contains("logs/nfs-changed.txt"), "{}", said(&out));
    let shelf = desk.at("work/catalog/prod");
    let point = std::fs::read_dir(&shelf).unwrap().flatten().find(|entry| entry.path().join("nfs.tar.gz").exists());
    let point = point.unwrap().path();
    let listed = std::fs::read_to_string(point.join("logs/nfs-changed.txt")).unwrap();
    assert!(listed.contains("busy.log") && !listed.contains("calm.log"), "{listed}");
    let members = std::process::Command::new("tar").arg("-tzf").arg(point.join("nfs.tar.gz")).output().unwrap();
    assert!(members.status.success());
    let members = String::from_utf8_lossy(&members.stdout).into_owned();
    for (name, there) in [
        ("./keep/wanted", true),
        ("./busy.log", true),
        ("./calm.log", true),
        ("./mounted/", true),
        ("./mounted/elsewhere", false),
        ("./keep/draft.tmp", false),
        ("./cache/unwanted", false),
    ] {
        assert_eq!(members.lines().any(|member| member == name), there, "{name}\n{members}");
    }
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(point.join("manifest.json")).unwrap()).unwrap();
    let text = manifest.to_string();
    assert!(text.contains("changed while they were read") && text.contains("*.tmp"), "{manifest:#}");

    // What the operator's own copy of the playbook names goes before what the inventory names.
    let playbook = std::fs::read_to_string("playbooks/backup.yml").unwrap();
    let wanted = "              nfs_backup:\n";
    assert!(playbook.contains(wanted));
    let changed = format!("{wanted}                exclude: [calm.log]\n");
    std::fs::create_dir(desk.at("playbooks")).unwrap();
    std::fs::write(desk.at("playbooks/backup.yml"), playbook.replace(wanted, &changed)).unwrap();
    let out = desk.run(&["backup", "prod", "--only", "nfs", "--output", "plain", "--waive", SPACE]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let newer = std::fs::read_dir(&shelf).unwrap().flatten().map(|entry| entry.path());
    let newer = newer.filter(|path| *path != point).find(|path| path.join("nfs.tar.gz").exists()).unwrap();
    let members = std::process::Command::new("tar").arg("-tzf").arg(newer.join("nfs.tar.gz")).output().unwrap();
    let members = String::from_utf8_lossy(&members.stdout).into_owned();
    assert!(members.contains("./cache/unwanted") && !members.contains("./calm.log"), "{members}");
}

// ── hooks, schedules ──

/// A server that takes every request and remembers it.
fn listen() -> (u16, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    use std::io::{BufRead as _, Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let all = std::sync::Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while let Ok(count) = reader.read_line(&mut head) {
                let line = head.lines().last().unwrap_or_default().to_lowercase();
                if let Some(rest) = line.strip_prefix("content-length:") {
                    length = rest.trim().parse().unwrap();
                }
                if count <= 2 {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            all.lock().unwrap().push(format!("{head}{}", String::from_utf8_lossy(&body)));
        }
    });
    (port, heard)
}

#[test]
fn hooks_are_told_and_never_fail_a_backup() {
    let cluster = Cluster::plain(0.3, 2);
    let (port, heard) = listen();
    let settings = std::fs::read_to_string(&cluster.config).unwrap();
    let with = |hooks: &str| std::fs::write(&cluster.config, format!("{settings}\n[hooks]\n{hooks}\n")).unwrap();
    let told = cluster.dir().join("told");
    with(&format!(
        "ping = \"http://127.0.0.1:{port}/hc-s3cret\"\nwebhook = \"http://127.0.0.1:{port}/wh-s3cret\"\n\
         webhook_body = '{{\"text\": {{{{ title | tojson }}}}, \"ok\": {{{{ ok | tojson }}}}}}'\ntextfile = \"{0}/ferry.prom\"\n\
         after = [\"sh\", \"-c\", \"cat >{1}; echo $FERRY_HOOK_CLUSTER $FERRY_HOOK_EXIT >>{1}\"]\non_error = [\"sh\", \"-c\", \"echo wrong >{1}\"]",
        cluster.dir().display(),
        told.display()
    ));
    let ended = cluster.run(&["backup", "prod", "--output", "plain", "--hold", "30d", "--waive", SPACE], SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let requests = std::mem::take(&mut *heard.lock().unwrap());
    let lines: Vec<&str> = requests.iter().filter_map(|request| request.lines().next()).collect();
    assert_eq!(
        lines,
        ["POST /hc-s3cret/start HTTP/1.1", "POST /hc-s3cret HTTP/1.1", "POST /wh-s3cret HTTP/1.1"],
        "{}",
        ended.said
    );
    assert!(requests[1].contains("saved: gravity") && requests[2].contains("\"ok\""), "{requests:?}");
    let body: serde_json::Value = serde_json::from_str(requests[2].lines().last().unwrap()).unwrap();
    assert_eq!(body, serde_json::json!({"text": "Backup of prod", "ok": true}));
    let id = cluster.sealed().into_iter().next().unwrap();
    let text = std::fs::read_to_string(&told).unwrap();
    assert!(text.contains(&id) && text.ends_with("prod 0\n"), "{text}");
    let prom = std::fs::read_to_string(cluster.dir().join("ferry.prom")).unwrap();
    for words in [
        "ferry_point_started_timestamp_seconds{cluster=\"prod\",kind=\"gravity\"} 1",
        "ferry_point_bytes{",
        "ferry_points_verified{cluster=\"prod\",kind=\"gravity\"} 1",
        "ferry_run_exit_code{cluster=\"prod\"} 0",
    ] {
        assert!(prom.contains(words), "{words}\n{prom}");
    }
    let notes = std::fs::read_to_string(cluster.dir().join("catalog/prod").join(&id).join("notes.jsonl")).unwrap();
    assert!(notes.contains("\"held\""), "{notes}");

    // Young enough: nothing is begun, and nobody is told.
    let begun = cluster.begun();
    let ended = cluster.run(&["backup", "prod", "--if-older-than", "20h", "--waive", SPACE], SOON);
    assert_eq!((ended.code, cluster.begun()), (Some(0), begun), "{}", ended.said);
    assert!(ended.said.contains("nothing to do") && heard.lock().unwrap().is_empty(), "{}", ended.said);

    // A run that fails says so, with why.
    fault(&cluster, "prod:hook-fails=on");
    let ended = cluster.run(&["backup", "prod", "--waive", SPACE], SOON);
    fault(&cluster, "prod:hook-fails=off");
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    let requests = std::mem::take(&mut *heard.lock().unwrap());
    assert!(requests[1].starts_with("POST /hc-s3cret/fail ") && requests[1].contains("exit code 2"), "{requests:?}");
    assert_eq!(std::fs::read_to_string(&told).unwrap(), "wrong\n");

    // Nobody there, a command that fails, a folder that is not there: told, and the backup is as good.
    with(
        "ping = \"http://127.0.0.1:9/hc-s3cret\"\nwebhook = \"http://127.0.0.1:9/wh-s3cret\"\ntextfile = \"/nowhere/at/all.prom\"\nbefore = [\"false\"]\nafter = [\"/no/such/program\"]",
    );
    let ended = cluster.run(&["backup", "prod", "--output", "plain", "--waive", SPACE], SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    for hook in [
        "hooks.ping failed",
        "hooks.webhook failed",
        "hooks.textfile failed",
        "hooks.before failed",
        "hooks.after failed",
    ] {
        assert!(ended.said.contains(hook), "{hook}\n{}", ended.said);
    }
    assert!(!ended.said.contains("s3cret"), "{}", ended.said);
    let grep = std::process::Command::new("grep")
        .args(["-rl", "s3cret", "runs", "catalog"])
        .current_dir(cluster.dir())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
}

#[test]
fn hooks_may_be_tasks_and_addresses_stand_elsewhere() {
    let cluster = Cluster::plain(0.3, 2);
    let (port, heard) = listen();
    let settings = std::fs::read_to_string(&cluster.config).unwrap();
    let with = |hooks: &str| std::fs::write(&cluster.config, format!("{settings}\n[hooks]\n{hooks}\n")).unwrap();
    let hooks = cluster.dir().join("hooks");
    std::fs::create_dir(&hooks).unwrap();
    let put = |name: &str, text: &str| std::fs::write(hooks.join(name), text).unwrap();
    // Tasks are about this machine; plays about the hosts that they name.
    put(
        "before.yml",
        "- copy:\n    content: \"{{ ferry_hook.title }} of {{ ferry_hook.cluster }}\"\n    dest: \"{{ playbook_dir }}/began\"\n",
    );
    put(
        "after.yml",
        "- hosts: prod-2\n  gather_facts: false\n  tasks:\n    - shell: 'echo {{ ferry_hook.exit }} {{ ferry_hook.ok }} >/tmp/told-after'\n",
    );
    put("bad.yml", "- name: Nobody to tell\n  fail: { msg: nobody }\n");
    put("said.yml", "- copy:\n    content: \"{{ ferry_hook.failures }}\"\n    dest: \"{{ playbook_dir }}/said\"\n");
    let harm = hooks.join("harm");
    let playbooks = std::path::Path::new(&cluster.config).parent().unwrap().join("playbooks");
    std::fs::create_dir(&playbooks).unwrap();
    let mine = playbooks.join("backup.yml");
    std::fs::write(
        &mine,
        format!(
            "- hosts: \"{{{{ ferry_cluster }}}}\"\n  gather_facts: false\n  tasks:\n    \
             - fail:\n        msg: \"{{% raw %}}{{{{ lookup('pipe', 'touch {}') }}}}{{% endraw %}}\"\n",
            harm.display()
        ),
    )
    .unwrap();
    // What a host says reaches a hook as it is: it is no template.
    with("on_error = \"hooks/said.yml\"");
    let ended = Going::start(&mut cluster.command(&["backup", "prod", "--output", "plain"])).end(SOON);
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    std::fs::remove_file(&mine).unwrap();
    let said = std::fs::read_to_string(hooks.join("said")).unwrap();
    assert!(said.contains("{{ lookup("), "{said}");
    assert!(!harm.exists(), "a host's words were rendered");
    std::fs::write(cluster.dir().join("address"), format!("http://127.0.0.1:{port}/wh-s3cret\n")).unwrap();
    with(
        "before = \"hooks/before.yml\"\nafter = \"hooks/after.yml\"\non_error = \"hooks/bad.yml\"\nping = { env = \"HC_ADDRESS\" }\nwebhook = { file = \"address\" }",
    );
    let run = |words: &[&str]| {
        let mut command = cluster.command(words);
        command.env("HC_ADDRESS", format!("http://127.0.0.1:{port}/hc-s3cret"));
        Going::start(&mut command).end(SOON)
    };
    let ended = run(&["backup", "prod", "--output", "plain", "--waive", SPACE]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(!ended.said.contains("failed, ") && !ended.said.contains("s3cret"), "{}", ended.said);
    assert_eq!(std::fs::read_to_string(hooks.join("began")).unwrap(), "Backup of prod of prod");
    let node = cluster.up.nodes.iter().find(|node| node.name == "prod-2").unwrap();
    assert_eq!(std::fs::read_to_string(node.root.join("tmp/told-after")).unwrap(), "0 True\n");
    let requests: Vec<String> =
        heard.lock().unwrap().drain(..).filter_map(|all| all.lines().next().map(str::to_owned)).collect();
    assert_eq!(requests, ["POST /hc-s3cret/start HTTP/1.1", "POST /hc-s3cret HTTP/1.1", "POST /wh-s3cret HTTP/1.1"]);
    // Their journals lie with the run, and are no runs of their own.
    let listed = cluster.run(&["runs", "list", "--json"], SOON);
    let listed: serde_json::Value = serde_json::from_str(&listed.said[listed.said.find('[').unwrap()..]).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let dir = PathBuf::from(listed[0]["dir"].as_str().unwrap());
    for name in ["before", "after"] {
        let journal = std::fs::read_to_string(dir.join("hooks").join(name).join("journal.jsonl")).unwrap();
        assert!(journal.contains("\"run_ended\"") && journal.contains("\"exit\":0"), "{journal}");
    }
    // Tasks that fail, that are not there, an address that is not set: told, and the backup is as good.
    with(
        "before = \"hooks/bad.yml\"\nafter = \"hooks/none.yml\"\nping = { env = \"HC_NOT_SET\" }\nwebhook = { file = \"none\" }",
    );
    let ended = run(&["backup", "prod", "--output", "plain", "--waive", SPACE]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    for says in [
        "hooks.before failed, and the run goes on",
        "hooks.after failed, which changes nothing",
        "the variable HC_NOT_SET is not set",
        "hooks.webhook failed",
    ] {
        assert!(ended.said.contains(says), "{says}\n{}", ended.said);
    }
    // What is no address is refused with its place, and not shown.
    with("ping = { env = \"A\", file = \"B\" }\nwebhook = \"s3cret\"");
    let ended = run(&["backup", "prod"]);
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains("hooks.ping is an address") && !ended.said.contains("s3cret"), "{}", ended.said);
}

#[test]
fn certificates_in_files_and_exports_are_kept_and_what_changed_is_told() {
    let cluster = Cluster::plain(0.3, 2);
    let node = cluster.up.nodes.iter().find(|node| node.name == "prod-1").unwrap();
    let make = |folder: &str, name: &str, days: &str| {
        let dir = node.root.join(folder);
        std::fs::create_dir_all(&dir).unwrap();
        let out = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-subj", &format!("/CN={name}.example"), "-days", days, "-keyout", "key.tmp", "-out", "crt.tmp"])
            .current_dir(&dir)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
        let (key, crt) = (read("key.tmp"), read("crt.tmp"));
        for file in ["key.tmp", "crt.tmp"] {
            std::fs::remove_file(dir.join(file)).unwrap();
        }
        (key, crt)
    };
    let (_, crt) = make("var/lib/gravity/secrets", "apiserver", "9");
    std::fs::write(node.root.join("var/lib/gravity/secrets/apiserver.cert"), &crt).unwrap();
    let (key, both) = make("srv/certificates", "platform", "900");
    std::fs::write(node.root.join("srv/certificates/own.pem"), format!("{key}{both}text behind\n")).unwrap();
    std::fs::write(node.root.join("etc/exports"), "# comment\n/srv/nfs 10.0.0.0/8(rw,sync) # more\n\n").unwrap();
    let backup = |more: &[&str]| {
        let words =
            ["backup", "prod", "--output", "plain", "--waive", SPACE, "-e", "pce_certificate_paths=/srv/certificates"];
        cluster.run(&[&words, more].concat(), SOON)
    };
    let ended = backup(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(ended.said.contains("the certificate /var/lib/gravity/secrets/apiserver.cert ends on"), "{}", ended.said);
    let first = cluster.sealed().into_iter().next().unwrap();
    let settings = cluster.dir().join("catalog/prod").join(&first).join("settings");
    let pem = std::fs::read_to_string(settings.join("certificates.pem")).unwrap();
    for part in [&crt, &both] {
        assert!(pem.contains(part.trim()), "{pem}");
    }
    assert!(
        pem.contains("# prod-1: /srv/certificates/own.pem") && pem.contains(": served at anypoint.prod.example"),
        "{pem}"
    );
    assert!(!pem.contains("PRIVATE") && !pem.contains("text behind"), "{pem}");
    let files = std::fs::read_to_string(settings.join("certificate-files.json")).unwrap();
    let files: serde_json::Value = serde_json::from_str(&files).unwrap();
    let own =
        files["prod-1"].as_array().unwrap().iter().find(|one| one["place"] == "/srv/certificates/own.pem").unwrap();
    assert!(own["subject"].as_str().unwrap().contains("platform.example"), "{own}");
    let out = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(node.root.join("srv/certificates/own.pem"))
        .output()
        .unwrap();
    let expected = String::from_utf8_lossy(&out.stdout).split('=').nth(1).unwrap().trim().to_owned();
    assert_eq!(own["fingerprint"], expected.as_str());
    let exports: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(settings.join("exports.json")).unwrap()).unwrap();
    assert_eq!(exports["prod-1"], serde_json::json!(["/srv/nfs 10.0.0.0/8(rw,sync)"]));
    let grep = std::process::Command::new("grep").args(["-rl", "PRIVATE KEY"]).arg(&settings).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");

    // A new certificate and another export: told at the next backup.
    let (_, renewed) = make("var/lib/gravity/secrets", "apiserver", "900");
    std::fs::write(node.root.join("var/lib/gravity/secrets/apiserver.cert"), &renewed).unwrap();
    std::fs::write(node.root.join("etc/exports"), "/srv/nfs 10.1.0.0/16(rw,sync)\n").unwrap();
    let ended = backup(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    for says in [
        "certificate files: no longer prod-1:/var/lib/gravity/secrets/apiserver.cert",
        "certificate files: now prod-1:/var/lib/gravity/secrets/apiserver.cert",
        "NFS exports: now /srv/nfs 10.1.0.0/16(rw,sync)",
    ] {
        assert!(ended.said.contains(says), "{says}\n{}", ended.said);
    }
    assert!(!ended.said.contains("apiserver.cert ends on"), "{}", ended.said);
    // Nothing changed since: nothing is told, also where ferry's own folder on the node has come and gone.
    for node in &cluster.up.nodes {
        let _ = std::fs::remove_dir(node.root.join("var/lib/ferry/jobs"));
        let _ = std::fs::remove_dir(node.root.join("var/lib/ferry"));
    }
    let ended = backup(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(!ended.said.contains("settings changed"), "{}", ended.said);
    // The point is whole with them.
    let verified = cluster.run(&["points", "verify"], SOON);
    assert_eq!(verified.code, Some(0), "{}", verified.said);
}
