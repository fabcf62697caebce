//! The pretend tools, driven by name: what they print, where, with which code, and what they leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use ferry::sandbox::pretend::{FAULTS, Generation, Member, Node, content, record};

/// A node that is only files and names.
struct Pretend {
    dir: tempfile::TempDir,
}

fn member(name: &str, ip: &str) -> Member {
    Member {
        hostname: name.to_owned(),
        advertise_ip: ip.to_owned(),
        role: "master".to_owned(),
        profile: "node".to_owned(),
        status: "healthy".to_owned(),
        failed_probes: Vec::new(),
    }
}

impl Pretend {
    fn new(generation: Generation) -> Self {
        Self::with(generation, |_| {})
    }

    fn with(generation: Generation, change: impl FnOnce(&mut Node)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["bin", "node", "out"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for tool in ["gravity", "kubectl", "journalctl", "date"] {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ferry"), dir.path().join("bin").join(tool)).unwrap();
        }
        let mut node = Node {
            generation,
            state_dir: dir.path().join("state"),
            shared: dir.path().join("shared"),
            time_scale: 60.0,
            hook_seconds: 30.0,
            archive_mib: 1,
            pretend_root: true,
            nodes: vec![member("prod-1", "10.0.0.11"), member("prod-2", "10.0.0.12"), member("prod-3", "10.0.0.13")],
            ..Node::default()
        };
        change(&mut node);
        node.lay_out().unwrap();
        node.write(&dir.path().join("node")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn fault(&self, name: &str, value: &str) {
        assert!(FAULTS.iter().any(|fault| fault.name == name), "{name} is not in the table");
        let path = self.path("node/faults.json");
        let mut all: serde_json::Map<String, serde_json::Value> =
            std::fs::read(&path).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap()).unwrap_or_default();
        all.insert(name.to_owned(), value.into());
        std::fs::write(path, serde_json::to_vec(&all).unwrap()).unwrap();
    }

    fn command(&self, tool: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin").join(tool));
        command.args(args).env("FERRY_SANDBOX_NODE", self.path("node")).env_remove("TERM").stdin(Stdio::null());
        command.current_dir(self.path("out"));
        command
    }

    fn run(&self, tool: &str, args: &[&str]) -> Output {
        self.command(tool, args).output().unwrap()
    }

    /// Standard output, standard error, exit code.
    fn said(&self, tool: &str, args: &[&str]) -> (String, String, i32) {
        let output = self.run(tool, args);
        (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
    }

    fn staging(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir(self.path("state/planet/state")).unwrap();
        all.flatten().map(|entry| entry.path()).collect()
    }

    /// How many staging folders still hold data.
    fn leaked(&self) -> usize {
        self.staging().iter().filter(|dir| dir.join("backup").exists()).count()
    }

    /// The count of runs: each line without its time.
    fn runs(&self) -> Vec<String> {
        let all = std::fs::read_to_string(self.path("shared/gravity-runs.log")).unwrap_or_default();
        all.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    fn counted(&self, word: &str) -> usize {
        self.runs().iter().filter(|line| line.starts_with(word)).count()
    }

    /// What the cluster holds.
    fn content(&self) -> std::collections::BTreeMap<String, String> {
        content::digests(&self.path("shared/content")).unwrap()
    }

    fn change(&self, what: &str) {
        content::change(&self.path("shared/content"), what).unwrap();
    }

    fn record(&self) -> Vec<record::Record> {
        record::read(&self.path("shared")).unwrap()
    }

    fn jobs(&self) -> Vec<serde_json::Value> {
        let (out, _, code) = self.said("kubectl", &["-n", "kube-system", "get", "jobs", "-o", "json"]);
        assert_eq!(code, 0);
        let list: serde_json::Value = serde_json::from_str(&out).unwrap();
        list["items"].as_array().unwrap().clone()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn until(patience: u64, what: &str, mut test: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !test() {
        assert!(begun.elapsed() < Duration::from_secs(patience), "not within {patience} s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn members(archive: &Path) -> Vec<String> {
    let listed = Command::new("tar").arg("-tzf").arg(archive).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    text(&listed.stdout).lines().map(str::to_owned).collect()
}

/// Where and how each generation tells an error.
fn error(generation: Generation, what: &str) -> (String, String) {
    match generation {
        Generation::G5 => (format!("[ERROR]: {what}\n"), String::new()),
        Generation::G6 => (format!("\x1b[31m[ERROR]: {what}\n\x1b[0m"), String::new()),
        _ => (String::new(), format!("\x1b[31m[ERROR]: {what}\n \x1b[0m")),
    }
}

#[test]
fn errors_go_where_each_generation_puts_them() {
    for generation in Generation::ALL {
        let node = Pretend::new(generation);
        for (args, what) in [
            (vec!["backup", "--nope", "x"], "unknown long flag '--nope'"),
            (vec!["backup"], "required argument 'to' not provided"),
            (vec!["backup", "a", "b"], "unexpected b"),
            (vec!["backup", "-z", "a"], "unknown short flag '-z'"),
            (vec!["backup", "a", "--timeout"], "expected argument for flag '--timeout'"),
            (vec!["backup", "--timeout=5", "a"], "time: missing unit in duration \"5\""),
            (vec!["restore"], "required argument 'from' not provided"),
            (vec!["dance"], "expected command but got \"dance\""),
        ] {
            let (out, err) = error(generation, what);
            assert_eq!(node.said("gravity", &args), (out, err, 255), "{generation:?} {args:?}");
        }
        let (out, err, code) = node.said("gravity", &["--help"]);
        assert_eq!((out.as_str(), code), ("", 0));
        assert!(err.starts_with("usage: gravity"));
        assert_eq!(node.runs(), Vec::<String>::new(), "nothing of this was a run");
    }
}

#[test]
fn a_healthy_backup_prints_its_lines_and_leaves_one_archive() {
    for generation in Generation::ALL {
        let node = Pretend::new(generation);
        let (out, err, code) = node.said("gravity", &["backup", "--timeout=5m", "b.tar.gz"]);
        assert_eq!((err.as_str(), code), ("", 0), "{out}");
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.first(), Some(&"* [1/2] backing up to b.tar.gz"));
        assert!(lines.contains(&"\tStill backing up to b.tar.gz (10 seconds elapsed)"), "{out}");
        assert_eq!(lines[lines.len() - 2], "* [2/2] backup is written to b.tar.gz");
        let last = lines[lines.len() - 1];
        assert!(last.starts_with("* [2/2] backup completed in ") && last.ends_with(' '), "{last:?}");

        let archive = node.path("out/b.tar.gz");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&archive).unwrap().permissions());
        let umask = text(&Command::new("sh").args(["-c", "umask"]).output().unwrap().stdout);
        let umask = u32::from_str_radix(umask.trim(), 8).unwrap();
        assert_eq!(mode & 0o777, 0o666 & !umask);
        assert!(members(&archive).contains(&"databases/postgres/exchange.dump".to_owned()));
        // The folder of the run stays, what was in it does not.
        assert_eq!((node.staging().len(), node.leaked()), (1, 0));
        assert_eq!(std::fs::read_dir(&node.staging()[0]).unwrap().count(), 0);
        assert_eq!(node.jobs().len(), 0);
        assert_eq!((node.counted("start"), node.counted("hook"), node.counted("end")), (1, 1, 1));

        let (journal, _, _) = node.said("journalctl", &["-t", "gravity-cli", "--no-pager", "-o", "short-iso"]);
        if generation == Generation::G5 {
            assert_eq!(journal, "-- No entries --\n");
        } else {
            let kinds: Vec<bool> = journal
                .lines()
                .map(|line| line.contains("]: [SUCCESS]: /usr/bin/gravity backup --timeout=5m b.tar.gz"))
                .collect();
            assert_eq!(kinds, [false, true], "{journal}");
            assert!(journal.contains("]: [RUNNING]: /usr/bin/gravity backup --timeout=5m b.tar.gz\n"));
        }
    }
}

#[test]
fn follow_prints_the_hooks_stream_and_nothing_else() {
    let node = Pretend::new(Generation::G7);
    let (out, err, code) = node.said("gravity", &["backup", "--follow", "b.tar.gz"]);
    assert_eq!((err.as_str(), code), ("", 0));
    let pod = out.split('"').nth(1).unwrap().to_owned();
    let job = pod.rsplit_once('-').unwrap().0.to_owned();
    assert!(job.starts_with("anypoint-backup-"));
    assert!(out.starts_with(&format!(
        "Created Pod \"{pod}\" in namespace \"kube-system\".\n\nPod \"{pod}\" in namespace \"kube-system\", has changed state from \"Pending\" to \"Running\".\nContainer \"hook\" changed status from \"waiting, reason PodInitializing\" to \"running\".\n\n"
    )));
    assert!(out.contains(&format!(
        "Pod \"{pod}\" in namespace \"kube-system\", has changed state from \"Running\" to \"Succeeded\".\nContainer \"hook\" changed status from \"running\" to \"terminated, exit code 0\".\n\nJob \"{job}\" in namespace \"kube-system\" has completed, "
    )));
    assert!(out.ends_with(" elapsed.\n") && !out.contains("* ["));
    // The pod outlives its job, and its log can be had by the pod's name.
    assert_eq!(node.jobs().len(), 0);
    let (log, _, code) = node.said("kubectl", &["-n", "kube-system", "logs", &pod]);
    assert!(code == 0 && log.contains("backup of anypoint ends") && !log.contains("Created Pod"));
    let quiet = node.said("gravity", &["-q", "backup", "--follow", "c.tar.gz"]);
    assert_eq!(quiet, (String::new(), String::new(), 0));
}

#[test]
fn a_failed_hook_leaves_staging_and_job_and_the_old_file() {
    for (fault, what, reason) in [
        ("hook-fails", "Job has reached the specified backoff limit", "BackoffLimitExceeded"),
        ("hook-killed", "Job has reached the specified backoff limit", "BackoffLimitExceeded"),
        ("backoff-limit", "Job has reached the specified backoff limit", "BackoffLimitExceeded"),
        ("deadline", "Job was active longer than specified deadline", "DeadlineExceeded"),
    ] {
        for generation in Generation::ALL {
            let node = Pretend::with(generation, |node| node.time_scale = 240.0);
            node.fault(fault, "on");
            std::fs::write(node.path("out/b.tar.gz"), "old").unwrap();
            let (out, err, code) = node.said("gravity", &["backup", "b.tar.gz", "--timeout=1m"]);
            assert_eq!(code, 255, "{fault} {generation:?} {out} {err}");
            let (told_out, told_err) = error(generation, what);
            assert!(out.ends_with(&told_out) && err == told_err, "{fault} {generation:?} {out:?} {err:?}");
            assert!(out.contains("* [1/2] backup aborted after "), "{out}");
            assert_eq!(std::fs::read_to_string(node.path("out/b.tar.gz")).unwrap(), "old");
            assert_eq!(node.leaked(), 1);
            let jobs = node.jobs();
            assert_eq!(jobs.len(), 1);
            assert_eq!(jobs[0]["status"]["conditions"][0]["type"], "Failed");
            assert_eq!(jobs[0]["status"]["conditions"][0]["reason"], reason);
            assert_eq!(jobs[0]["spec"]["activeDeadlineSeconds"], 60);
            assert_eq!((node.counted("start"), node.counted("end")), (1, 1));
        }
    }
}

#[test]
fn late_failures_take_the_data_with_them() {
    let node = Pretend::new(Generation::G7);
    let (_, err, code) = node.said("gravity", &["backup", "/nonexistent/dir/b.tar.gz"]);
    assert_eq!(err, "\x1b[31m[ERROR]: open /nonexistent/dir/b.tar.gz: no such file or directory\n \x1b[0m");
    assert_eq!((code, node.leaked(), node.jobs().len(), node.counted("start")), (255, 0, 0, 1));

    node.fault("enospc-late", "20000");
    let (_, err, code) = node.said("gravity", &["backup", "b.tar.gz"]);
    assert_eq!(err, "\x1b[31m[ERROR]: write b.tar.gz: no space left on device\n \x1b[0m");
    assert_eq!((code, node.leaked()), (255, 0));
    assert_eq!(std::fs::metadata(node.path("out/b.tar.gz")).unwrap().len(), 20000);
    // A real full disk tells the same.
    node.fault("enospc-late", "off");
    let (_, err, code) = node.said("gravity", &["backup", "/dev/full"]);
    assert_eq!((err.as_str(), code), ("\x1b[31m[ERROR]: write /dev/full: no space left on device\n \x1b[0m", 255));
}

#[test]
fn exit_0_is_no_proof_of_an_archive() {
    let node = Pretend::new(Generation::G7);
    let backup = |name: &str| node.said("gravity", &["backup", name]).2;

    node.fault("exit0-empty-archive", "on");
    assert_eq!(backup("empty.tar.gz"), 0);
    assert_eq!(members(&node.path("out/empty.tar.gz")), Vec::<String>::new());
    assert!(std::fs::metadata(node.path("out/empty.tar.gz")).unwrap().len() < 64);
    node.fault("exit0-empty-archive", "off");

    node.fault("truncated-archive", "on");
    assert_eq!(backup("cut.tar.gz"), 0);
    let gzip = |name: &str| Command::new("gzip").arg("-t").arg(node.path("out").join(name)).output().unwrap();
    assert!(gzip("cut.tar.gz").status.success(), "gzip is whole, only tar's end is missing");
    let tar = Command::new("gzip").arg("-dc").arg(node.path("out/cut.tar.gz")).output().unwrap().stdout;
    assert!(!tar.ends_with(&[0; 1024]) && tar.len().is_multiple_of(512));
    node.fault("truncated-archive", "5000");
    assert_eq!(backup("cut2.tar.gz"), 0);
    assert_eq!(std::fs::metadata(node.path("out/cut2.tar.gz")).unwrap().len(), 5000);
    node.fault("truncated-archive", "off");

    node.fault("corrupt-archive", "on");
    assert_eq!(backup("bad.tar.gz"), 0);
    assert!(!gzip("bad.tar.gz").status.success());
    node.fault("corrupt-archive", "off");

    node.fault("missing-member", "secrets");
    assert_eq!(backup("less.tar.gz"), 0);
    assert!(!members(&node.path("out/less.tar.gz")).iter().any(|name| name.starts_with("secrets")));
    node.fault("missing-member", "off");

    node.fault("stale-file-kept", "on");
    assert_eq!(backup("stale.tar.gz"), 0);
    assert_eq!(members(&node.path("out/stale.tar.gz")), ["stale/from-yesterday.txt"]);
    let age = std::fs::metadata(node.path("out/stale.tar.gz")).unwrap().modified().unwrap().elapsed().unwrap();
    assert!(age > Duration::from_secs(80000));
    assert_eq!(node.leaked(), 1);
}

#[test]
fn the_hook_outlives_its_command_line() {
    for signal in ["KILL", "TERM", "HUP", "INT"] {
        let node = Pretend::new(Generation::G7);
        let mut command = node.command("gravity", &["backup", "b.tar.gz"]).stdout(Stdio::null()).spawn().unwrap();
        until(10, "the hook runs", || node.counted("start") == 1);
        let pid = command.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
        assert!(command.wait().unwrap().signal().is_some(), "{signal}");
        assert_eq!(node.counted("hook"), 0, "the hook must still run");
        until(10, "the hook ends", || node.counted("hook") == 1);
        // The job is done, its data lie about, nobody ever packs them.
        assert_eq!(node.jobs()[0]["status"]["conditions"][0]["type"], "Complete");
        assert_eq!((node.leaked(), node.counted("end"), node.path("out/b.tar.gz").exists()), (1, 0, false));
        let (journal, _, _) = node.said("journalctl", &["-t", "gravity-cli", "--no-pager"]);
        assert_eq!(journal.lines().count(), 1, "RUNNING without a partner: {journal}");
    }
    let node = Pretend::new(Generation::G7);
    node.fault("cli-dies", "on");
    assert_eq!(node.run("gravity", &["backup", "b.tar.gz"]).status.signal(), Some(9));
    until(10, "the hook ends", || node.counted("hook") == 1);
}

#[test]
fn a_closed_pipe_kills_by_sigpipe_and_nohup_keeps_hangups_out() {
    let node = Pretend::new(Generation::G7);
    let mut command = node.command("gravity", &["backup", "b.tar.gz"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(command.stdout.take());
    assert_eq!(command.wait().unwrap().signal(), Some(13));
    // Whether it died at its first line, before there was a job, or at a later one.
    let before = node.counted("start");
    let line = format!("trap '' HUP; exec {} backup c.tar.gz -q", node.path("bin/gravity").display());
    let mut command = Command::new("sh");
    command.args(["-c", &line]).env("FERRY_SANDBOX_NODE", node.path("node")).current_dir(node.path("out"));
    let mut command = command.spawn().unwrap();
    until(10, "the second hook runs", || node.counted("start") == before + 1);
    Command::new("kill").args(["-HUP", &command.id().to_string()]).status().unwrap();
    assert_eq!(command.wait().unwrap().code(), Some(0));
    assert!(node.path("out/c.tar.gz").is_file());
}

#[test]
fn a_deleted_job_ends_its_hook() {
    let node = Pretend::with(Generation::G7, |node| node.hook_seconds = 6000.0);
    let mut command = node.command("gravity", &["backup", "b.tar.gz", "-q"]).stderr(Stdio::piped()).spawn().unwrap();
    until(10, "the job is there", || !node.jobs().is_empty());
    let job = node.jobs()[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let pods = ["-n", "kube-system", "get", "pods", "-l", &format!("job-name={job}"), "-o", "name"];
    until(10, "the pod is there", || node.said("kubectl", &pods).0.starts_with("pod/"));
    let (out, _, code) = node.said("kubectl", &["-n", "kube-system", "delete", "job", &job]);
    assert_eq!((out, code), (format!("job.batch \"{job}\" deleted\n"), 0));
    assert_eq!(command.wait().unwrap().code(), Some(255));
    until(10, "the hook ends", || node.runs().iter().any(|line| line.ends_with(" Deleted")));
    assert_eq!(node.said("kubectl", &pods).0, "");
    let (_, err, code) = node.said("kubectl", &["-n", "kube-system", "delete", "job", &job]);
    assert_eq!((err, code), (format!("Error from server (NotFound): jobs.batch \"{job}\" not found\n"), 1));
}

#[test]
fn status_of_each_generation() {
    for generation in Generation::ALL {
        let node = Pretend::new(generation);
        let new = generation >= Generation::G7;
        let json = ["status", "--output=json"];
        let (out, err, code) = node.said("gravity", &json);
        assert_eq!((err.as_str(), code), ("", 0));
        assert!(
            !out.ends_with('\n')
                && out.starts_with("{\"cluster\":{\"application\":{\"repository\":\"gravitational.io\"")
        );
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["cluster"]["state"], "active");
        assert_eq!(value["cluster"]["system_status"], 1);
        assert_eq!(value["cluster"]["token"]["token"], "JOINTOKENSECRET0123456789");
        assert_eq!(value["cluster"].get("inline").is_some(), new);
        assert_eq!(value["cluster"]["nodes"][0].get("selinux").is_some(), new);

        node.fault("degraded", "on");
        let (out, err, code) = node.said("gravity", &json);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["cluster"]["state"], "degraded");
        assert_eq!(value["cluster"]["nodes"][2]["status"], "degraded");
        let told = if new { "\x1b[31m[ERROR]: degraded\n \x1b[0m" } else { "" };
        assert_eq!((err.as_str(), code), (told, if new { 255 } else { 0 }), "{generation:?}");
        let (text, _, _) = node.said("gravity", &["status"]);
        assert!(text.contains(if new { "Cluster image:\t\tanypoint" } else { "Application:\t\tanypoint" }));
        assert!(text.contains("[×]") && text.contains("Join token:\t\tJOINTOKENSECRET0123456789\n"));
        node.fault("degraded", "off");

        node.fault("node-offline", "prod-2");
        let value: serde_json::Value = serde_json::from_str(&node.said("gravity", &json).0).unwrap();
        let offline = &value["cluster"]["nodes"][1];
        assert_eq!(
            (&offline["status"], &offline["role"], &offline["profile"]),
            (&"offline".into(), &"".into(), &"".into())
        );
        node.fault("node-offline", "off");

        for state in ["updating", "expanding", "shrinking", "reconfiguring", "uninstalling"] {
            node.fault("state", state);
            let (out, _, code) = node.said("gravity", &json);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["cluster"]["state"], state);
            assert_eq!(code, 0);
        }
        node.fault("state", "off");
        node.fault("active-operation", "on");
        let value: serde_json::Value = serde_json::from_str(&node.said("gravity", &json).0).unwrap();
        assert_eq!(value["cluster"]["active_operations"][0]["type"], "operation_update");
        node.fault("active-operation", "off");

        node.fault("status-garbage", "on");
        let (out, _, code) = node.said("gravity", &json);
        assert!(code == 0 && serde_json::from_str::<serde_json::Value>(&out).is_err());
        node.fault("status-garbage", "off");
        node.fault("etcd-down", "on");
        let (out, err, code) = node.said("gravity", &json);
        let what = "failed to connect to etcd\n\tdial tcp 127.0.0.1:2379: connect: connection refused";
        assert_eq!((out, err), error(generation, what));
        assert_eq!(code, 255);
        node.fault("etcd-down", "off");
        // `-o json` is an operation's id, not a form of output.
        assert!(node.said("gravity", &["status", "-o", "json"]).0.starts_with("Cluster name:\t\tpce-prod\n"));
        node.fault("status-slow", "60");
        let begun = Instant::now();
        node.run("gravity", &json);
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }
}

#[test]
fn checks_come_in_gravitys_order() {
    for generation in Generation::ALL {
        let node = Pretend::new(generation);
        let told = |what: &str| error(generation, what);
        let backup = || {
            let (out, err, code) = node.said("gravity", &["backup", "-q", "b.tar.gz"]);
            assert_eq!(code, 255);
            (out, err)
        };
        node.fault("no-hook", "on");
        assert_eq!(backup(), told("anypoint:3.0.2 does not have backup hook"));
        node.fault("no-credentials", "on");
        let site = "https://gravity-site.kube-system.svc.cluster.local:3009";
        assert_eq!(
            backup(),
            told(&if generation == Generation::G5 {
                format!("Please login to Ops Center: {site}")
            } else {
                format!("no credentials for {site}")
            })
        );
        node.fault("db-locked", "on");
        let begun = Instant::now();
        let db = node.path("state/local/gravity.db");
        assert_eq!(backup(), told(&format!("database {} is locked, is another instance running?", db.display())));
        assert!(begun.elapsed() >= Duration::from_millis(500), "30 s of waiting, scaled by 60");
        assert_eq!(node.counted("start"), 0);
        // A lock that goes away in time is no error.
        for fault in ["no-hook", "no-credentials"] {
            node.fault(fault, "off");
        }
        node.fault("db-locked", "10");
        assert_eq!(node.said("gravity", &["backup", "-q", "b.tar.gz"]).2, 0);
    }
}

#[test]
fn root_is_asked_for_first() {
    // Somebody who is not root, without the pretence: only possible to become when we are root.
    let node = Pretend::with(Generation::G7, |node| node.pretend_root = false);
    node.fault("no-credentials", "on");
    let mut command = node.command("gravity", &["backup", "b.tar.gz"]);
    if nobody(&mut command, &node) {
        let output = command.output().unwrap();
        assert_eq!(text(&output.stderr), "\x1b[31m[ERROR]: this command should be run as root\n \x1b[0m");
        assert_eq!(output.status.code(), Some(255));
        let mut status = node.command("gravity", &["status", "--output=json"]);
        nobody(&mut status, &node);
        let output = status.output().unwrap();
        assert!(text(&output.stderr).contains("secrets/etcd.cert: permission denied"), "{output:?}");
        let mut version = node.command("gravity", &["version"]);
        nobody(&mut version, &node);
        assert!(version.output().unwrap().status.success());
    } else {
        assert_eq!(node.run("gravity", &["backup", "b.tar.gz"]).status.code(), Some(255));
    }
}

/// Makes the command run as nobody; false when we are not root ourselves (then it need not).
fn nobody(command: &mut Command, node: &Pretend) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    if !text(&Command::new("id").arg("-u").output().unwrap().stdout).starts_with("0\n") {
        return false;
    }
    // The binary may lie where only root can reach it.
    let copy = node.path("bin/copied");
    if !copy.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_ferry"), &copy).unwrap();
    }
    for place in ["", "bin", "node", "out"] {
        std::fs::set_permissions(node.path(place), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::remove_file(node.path("bin/gravity")).unwrap();
    std::os::unix::fs::symlink("copied", node.path("bin/gravity")).unwrap();
    command.uid(65534).gid(65534);
    true
}

#[test]
fn a_machine_that_is_no_node_gets_a_local_state_from_gravity() {
    let node = Pretend::new(Generation::G7);
    std::fs::remove_file(node.path("node/node.json")).unwrap();
    let state = node.path("elsewhere");
    let (_, err, code) = node.said("gravity", &["local-site", &format!("--state-dir={}", state.display())]);
    let is_root = text(&Command::new("id").arg("-u").output().unwrap().stdout).trim() == "0";
    assert_eq!(code, 255);
    if is_root {
        assert!(err.contains("no credentials for https://gravity-site"), "{err}");
        assert!(state.join("local/gravity.db").is_file() && state.join("local/packages").is_dir());
    } else {
        assert!(err.contains("this command should be run as root"), "{err}");
    }
    let (out, err, code) = node.said("gravity", &["status", "--output=json"]);
    assert_eq!((out.as_str(), code), ("", 255));
    assert!(
        err.contains("failed to connect to etcd\n\topen /var/lib/gravity/secrets/etcd.cert: no such file or directory")
    );
    assert_eq!(node.said("gravity", &["package", "list"]), (String::new(), String::new(), 0));
}

#[test]
fn smaller_commands() {
    let node = Pretend::new(Generation::G8);
    let state = node.path("state");
    assert_eq!(node.said("gravity", &["system", "state-dir"]), (format!("{}\n", state.display()), String::new(), 0));
    assert_eq!(node.said("gravity", &["local-site"]).0, "pce-prod");
    let info: serde_json::Value =
        serde_json::from_str(&node.said("gravity", &["site", "info", "--output", "json"]).0).unwrap();
    assert_eq!(info["app"]["version"], "3.0.2");
    assert!(node.said("gravity", &["package", "list"]).0.contains("\n* gravitational.io/anypoint:3.0.2 7.8GB\n"));
    assert!(node.said("gravity", &["version"]).0.starts_with("Edition:\tenterprise\nVersion:\t8.0.6\n"));
    let version = node.said("gravity", &["version", "-o", "json"]).0;
    assert!(version.starts_with("{\"edition\":\"enterprise\"") && !version.ends_with('\n'));
    assert_eq!(node.said("gravity", &["report", "--file=r.tar.gz"]).2, 0);
    assert!(members(&node.path("out/r.tar.gz")).contains(&"prod-3-debug-logs.tar.gz".to_owned()));
    node.fault("report-fails", "on");
    assert_eq!(node.said("gravity", &["report", "--file=bad.tar.gz"]).2, 255);
    assert_eq!(std::fs::metadata(node.path("out/bad.tar.gz")).unwrap().len(), 0);

    let uid = ["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"];
    assert_eq!(node.said("kubectl", &uid).0, "5d1f2c9a-0c1e-4a39-9d1d-3a3c5b7f0a11");
    let masters = ["get", "nodes", "-l", "gravitational.io/k8s-role=master", "--no-headers"];
    assert_eq!(node.said("kubectl", &masters).0.lines().count(), 3);
    let (_, err, code) = node.said("kubectl", &["get", "gadgets"]);
    assert_eq!((err.as_str(), code), ("error: the server doesn't have a resource type \"gadgets\"\n", 1));
    assert_eq!(node.said("kubectl", &["frobnicate"]).2, 1);
    assert_eq!(
        node.said("kubectl", &["-n", "kube-system", "get", "jobs"]).1,
        "No resources found in kube-system namespace.\n"
    );
    node.fault("foreign-hook-job", "on");
    assert_eq!(node.jobs()[0]["status"]["active"], 1);
    node.fault("stray", "on");
    assert_ne!(node.said("kubectl", &uid).0, "5d1f2c9a-0c1e-4a39-9d1d-3a3c5b7f0a11");
    node.fault("kubectl-down", "on");
    assert!(node.said("kubectl", &uid).1.contains("was refused"));
    node.fault("leaked-staging", "1");
    node.run("gravity", &["version"]);
    assert_eq!(std::fs::metadata(state.join("planet/state/badbad/backup/leaked.bin")).unwrap().len(), 1 << 20);
}

#[test]
fn the_stream_may_break_retry_or_be_hostile() {
    let node = Pretend::new(Generation::G7);
    node.fault("follow-dies-early", "2");
    let (out, _, code) = node.said("gravity", &["backup", "--follow", "a.tar.gz"]);
    assert_eq!((out.lines().count(), code), (2, 0), "{out}");
    node.fault("follow-dies-early", "off");
    node.fault("hook-retry", "3");
    let (out, _, code) = node.said("gravity", &["backup", "--follow", "b.tar.gz"]);
    assert_eq!((out.matches("Container \"hook\" restarted").count(), code), (3, 0), "{out}");
    node.fault("hook-retry", "off");
    node.fault("hostile-output", "200000");
    let output = node.run("gravity", &["backup", "--follow", "c.tar.gz"]);
    assert!(output.status.success());
    assert!(output.stdout.iter().filter(|byte| **byte == b'\n').count() > 200_000);
    let longest = output.stdout.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap();
    assert!(longest >= 300_000 && output.stdout.windows(4).any(|part| part == b"\x1b[2J"));
    node.fault("hostile-output", "off");
    node.fault("slow-compress", "60");
    let begun = Instant::now();
    let (out, _, _) = node.said("gravity", &["backup", "--follow", "d.tar.gz"]);
    assert!(begun.elapsed() >= Duration::from_millis(1500) && out.ends_with(" elapsed.\n"));
}

#[test]
fn restore_opens_first_asks_nothing_and_keeps_its_job() {
    let node = Pretend::new(Generation::G7);
    let restore = |name: &str| node.said("gravity", &["restore", name, "--timeout=80m"]);
    let (_, err, code) = restore("none.tar.gz");
    assert_eq!(
        (err.as_str(), code),
        (
            "\x1b[31m[ERROR]: failed to open the tarball \"none.tar.gz\" with backed up data\n\topen none.tar.gz: no such file or directory\n \x1b[0m",
            255
        )
    );
    assert_eq!(node.said("gravity", &["backup", "-q", "b.tar.gz"]).2, 0);
    let whole = std::fs::read(node.path("out/b.tar.gz")).unwrap();
    for (name, bytes, what) in [
        ("cut.tar.gz", &whole[..whole.len() / 2], "unexpected EOF"),
        ("noise", &[0xa5_u8; 2048][..], "archive/tar: invalid tar header"),
        ("short", b"hello, I am no archive".as_slice(), "unexpected EOF"),
    ] {
        std::fs::write(node.path("out").join(name), bytes).unwrap();
        let (_, err, code) = restore(name);
        assert_eq!((err, code), (format!("\x1b[31m[ERROR]: {what}\n \x1b[0m"), 255), "{name}");
    }
    assert_eq!(node.leaked(), 1, "only the cut one had begun to unpack");
    assert_eq!(node.jobs().len(), 0);
    // Nothing at all is restored without a word.
    std::fs::write(node.path("out/zero"), "").unwrap();
    assert_eq!(restore("zero").2, 0);
    let (out, err, code) = restore("b.tar.gz");
    assert_eq!((err.as_str(), code), ("", 0));
    assert!(
        out.starts_with("* [1/2] restoring from b.tar.gz\n") && out.contains("* [2/2] restored from b.tar.gz\n"),
        "{out}"
    );
    assert_eq!((node.jobs().len(), node.leaked()), (2, 1));
}

#[test]
fn a_restore_makes_any_cluster_hold_what_the_archive_holds() {
    let source = Pretend::new(Generation::G7);
    let target = Pretend::with(Generation::G7, |node| {
        node.cluster = "pce-dr".to_owned();
        node.kube_system_uid = "9b7e41d0-63a2-4f58-8f0b-1c2d3e4f5a66".to_owned();
    });
    // Each cluster begins with a state of its own, the same every time.
    assert_eq!(source.content(), Pretend::new(Generation::G7).content());
    assert_ne!(source.content(), target.content());
    assert!(source.content().keys().eq(target.content().keys()));
    source.change("databases/postgres/exchange.dump");
    source.change("objectstore/new.blob");
    assert_eq!(source.said("gravity", &["backup", "-q", "b.tar.gz"]).2, 0);
    let saved = source.content();
    // What comes later is not in it.
    source.change("secrets/platform-secrets.json");
    source.change("later/file");
    let archive = source.path("out/b.tar.gz").display().to_string();
    for (at, (node, from)) in [(&target, &archive), (&source, &archive)].into_iter().enumerate() {
        assert_ne!(node.content(), saved);
        let (out, err, code) = node.said("gravity", &["restore", from, "--timeout=80m"]);
        assert_eq!((err.as_str(), code), ("", 0), "{out}");
        assert_eq!(node.content(), saved, "{at}");
        assert_eq!(node.leaked(), 0);
    }
    // Its own record, which nobody but the tools writes.
    let record = target.record();
    let steps: Vec<(&str, &str)> = record.iter().map(|line| (line.act.as_str(), line.step.as_str())).collect();
    let all = ["called", "opened", "hook-began", "hook-ended", "ended"];
    assert_eq!(steps, all.map(|step| ("restore", step)));
    assert!(record.iter().all(|line| line.id == record[0].id && line.cluster == "pce-dr" && line.tool == "gravity"));
    let digest = ferry::digest::Sha256::of(&std::fs::read(&archive).unwrap()).to_string();
    assert_eq!(record[1].sha256.as_deref(), Some(digest.as_str()));
    assert_eq!(record[0].args, ["restore", &archive, "--timeout=80m"]);
    assert_eq!((record[3].note.as_str(), record[4].rc), ("Complete", Some(0)));
    let made = source.record().into_iter().find(|line| line.is("gravity", "backup", "ended")).unwrap();
    assert_eq!(made.sha256.as_deref(), Some(digest.as_str()));
    // A restore is no run of a backup.
    assert_eq!(target.runs(), Vec::<String>::new());
}

#[test]
fn an_empty_archive_empties_the_cluster() {
    for (name, bytes) in [("zero", vec![]), ("empty.tar.gz", empty_gz())] {
        let node = Pretend::new(Generation::G7);
        assert_eq!(node.content().len(), 9);
        std::fs::write(node.path("out").join(name), bytes).unwrap();
        assert_eq!(node.said("gravity", &["restore", name]).2, 0);
        assert_eq!(node.content().len(), 0, "{name}: the hook runs against an empty folder");
        // And stays so: no call makes it anew.
        assert_eq!(node.said("gravity", &["backup", "-q", "b.tar.gz"]).2, 0);
        assert_eq!((node.content().len(), members(&node.path("out/b.tar.gz")).len()), (0, 0));
    }
    let node = Pretend::new(Generation::G7);
    node.fault("missing-member", "secrets");
    assert_eq!(node.said("gravity", &["backup", "-q", "b.tar.gz"]).2, 0);
    assert_eq!(node.said("gravity", &["restore", "-q", "b.tar.gz"]).2, 0);
    assert!(!node.content().keys().any(|name| name.starts_with("secrets")) && node.content().len() == 8);
}

/// The 32 bytes that gravity writes when its staging folder is gone.
fn empty_gz() -> Vec<u8> {
    let node = Pretend::new(Generation::G7);
    node.fault("exit0-empty-archive", "on");
    assert_eq!(node.said("gravity", &["backup", "-q", "e.tar.gz"]).2, 0);
    std::fs::read(node.path("out/e.tar.gz")).unwrap()
}

/// A node whose cluster has changed since it was saved into `b.tar.gz`, and what was saved.
fn saved_and_changed(change: impl FnOnce(&mut Node)) -> (Pretend, std::collections::BTreeMap<String, String>) {
    let node = Pretend::with(Generation::G7, change);
    assert_eq!(node.said("gravity", &["backup", "-q", "b.tar.gz"]).2, 0);
    let saved = node.content();
    for name in saved.keys() {
        node.change(name);
    }
    (node, saved)
}

#[test]
fn a_restore_that_fails_in_the_middle_leaves_half_of_each() {
    for (fault, what, reason) in [
        ("restore-fails", "Job has reached the specified backoff limit", "BackoffLimitExceeded"),
        ("restore-deadline", "Job was active longer than specified deadline", "DeadlineExceeded"),
        ("hook-killed", "Job has reached the specified backoff limit", "BackoffLimitExceeded"),
    ] {
        let (node, saved) = saved_and_changed(|node| node.time_scale = 240.0);
        node.fault(fault, "on");
        let (out, err, code) = node.said("gravity", &["restore", "b.tar.gz", "--timeout=1m"]);
        assert_eq!((err, code), (format!("\x1b[31m[ERROR]: {what}\n \x1b[0m"), 255), "{fault}");
        assert!(out.contains("* [1/2] restore aborted after "), "{out}");
        // Staging is cleaned away, the job stays.
        assert_eq!((node.leaked(), node.jobs().len()), (0, 1));
        assert_eq!(node.jobs()[0]["status"]["conditions"][0]["reason"], reason);
        let content = node.content();
        let back = content.iter().filter(|(name, digest)| saved.get(*name) == Some(digest)).count();
        assert!(back > 0 && back < saved.len(), "{fault}: {back} of {}", saved.len());
        assert_eq!(node.record().last().unwrap().rc, Some(255));
    }
    // A backup of the same cluster is not touched by a restore's fault.
    let node = Pretend::new(Generation::G7);
    node.fault("restore-fails", "on");
    node.fault("restore-deadline", "on");
    node.fault("restore-cli-dies", "on");
    assert_eq!(node.said("gravity", &["backup", "-q", "b.tar.gz"]).2, 0);
    node.fault("no-hook", "on");
    let (_, err, code) = node.said("gravity", &["restore", "-q", "b.tar.gz"]);
    assert_eq!((err.as_str(), code), ("\x1b[31m[ERROR]: anypoint:3.0.2 does not have restore hook\n \x1b[0m", 255));
    assert_eq!(node.leaked(), 0);
}

#[test]
fn a_restore_goes_on_without_its_command_line() {
    let (node, saved) = saved_and_changed(|_| ());
    node.fault("restore-cli-dies", "TERM");
    assert_eq!(node.run("gravity", &["restore", "b.tar.gz"]).status.signal(), Some(15));
    assert_ne!(node.content(), saved);
    until(10, "the hook ends", || node.record().iter().any(|line| line.is("gravity", "restore", "hook-ended")));
    assert_eq!(node.content(), saved);
    assert_eq!((node.leaked(), node.jobs().len()), (1, 1));
    assert!(!node.record().iter().any(|line| line.is("gravity", "restore", "ended")));
    // `--follow`, and how long a restore takes by itself.
    node.fault("restore-cli-dies", "off");
    node.fault("restore-seconds", "90");
    let begun = Instant::now();
    let (out, err, code) = node.said("gravity", &["restore", "b.tar.gz", "--follow"]);
    assert!(begun.elapsed() >= Duration::from_millis(1400));
    assert_eq!((err.as_str(), code), ("", 0));
    assert!(out.starts_with("Created Pod \"anypoint-restore-") && out.contains("restore of anypoint ends\n"), "{out}");
    assert!(out.ends_with("has completed, 1 minute elapsed.\n") && !out.contains("* ["), "{out}");
}

#[test]
fn gravity_site_may_go_away_in_the_middle_of_a_restore() {
    const REFUSED: &str = "dial tcp 10.100.0.9:3009: connect: connection refused";
    let slow = |node: &mut Node| {
        node.time_scale = 120.0;
        node.restore_seconds = Some(300.0);
    };
    // Away for good: the command line gives up, the job does not.
    let (node, saved) = saved_and_changed(slow);
    node.fault("site-restarts", "on");
    let (out, err, code) = node.said("gravity", &["restore", "b.tar.gz"]);
    assert!(code == 255 && err.contains(REFUSED) && out.contains("* [1/2] restore aborted after "), "{out}{err}");
    assert!(node.said("gravity", &["local-site"]).1.contains(REFUSED), "nobody else is answered either");
    assert!(!node.record().iter().any(|line| line.is("gravity", "restore", "hook-ended")), "the job goes on");
    assert_eq!(node.leaked(), 0);
    until(10, "the hook ends", || node.record().iter().any(|line| line.step == "hook-ended" && line.act == "restore"));
    assert_eq!(node.content(), saved);
    assert_eq!(node.said("gravity", &["local-site"]).0, "pce-prod");
    // Back in time: nothing was the matter.
    let (node, saved) = saved_and_changed(slow);
    node.fault("site-restarts", "60");
    let (out, err, code) = node.said("gravity", &["restore", "b.tar.gz"]);
    assert_eq!((err.as_str(), code), ("", 0), "{out}");
    assert!(out.contains("* [2/2] restored from b.tar.gz\n"));
    assert_eq!(node.content(), saved);
    // What the command line cleans away may be missed.
    let (node, saved) = saved_and_changed(slow);
    node.fault("site-restarts", "on");
    node.fault("site-restarts-loses-staging", "on");
    assert_eq!(node.said("gravity", &["restore", "-q", "b.tar.gz"]).2, 255);
    until(10, "the hook ends", || node.record().iter().any(|line| line.step == "hook-ended" && line.note == "Failed"));
    assert_ne!(node.content(), saved);
}

#[test]
fn a_cluster_settles_after_a_restore() {
    let (node, _) = saved_and_changed(|node| node.settle_seconds = 60.0);
    let state = || {
        let value: serde_json::Value =
            serde_json::from_str(&node.said("gravity", &["status", "--output=json"]).0).unwrap();
        value["cluster"]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(), "active");
    let mut restore = node.command("gravity", &["restore", "-q", "b.tar.gz"]).spawn().unwrap();
    until(10, "the restore has begun", || state() == "degraded");
    assert_eq!(restore.wait().unwrap().code(), Some(0));
    assert_eq!(state(), "degraded", "also right after it");
    until(10, "the cluster settles", || state() == "active");
    node.fault("never-settles", "on");
    assert_eq!(state(), "degraded");
    node.fault("never-settles", "off");
    node.fault("settle-seconds", "100000");
    assert_eq!(state(), "degraded");
}

#[test]
fn every_fault_of_the_table_is_used_by_the_tools() {
    let mut code = String::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sandbox");
    let files = std::fs::read_dir(format!("{folder}/pretend")).unwrap().flatten().map(|entry| entry.path());
    for path in files.filter(|path| !path.ends_with("faults.rs")).chain([Path::new(folder).join("mod.rs")]) {
        code.push_str(&std::fs::read_to_string(path).unwrap());
    }
    for fault in FAULTS {
        // In Rust as a literal, in the script as a word of its own.
        let used = [format!("\"{}\"", fault.name), format!("fault {}", fault.name)];
        assert!(used.iter().any(|used| code.contains(used)), "{} does nothing", fault.name);
        assert!(!fault.values.is_empty() && !fault.does.is_empty());
    }
}
