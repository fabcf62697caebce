//! The pretend tools, driven by name: what they print, where, with which code, and what they leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use ferry::sandbox::pretend::{self, FAULTS, Generation, Member, Node, amv, content, record};

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
        for tool in pretend::TOOLS {
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

    fn influx(&self) -> std::collections::BTreeMap<String, String> {
        content::digests(&self.path("shared/amv")).unwrap()
    }

    /// The folder with AMV's script.
    fn amv_folder(&self) -> PathBuf {
        self.path("state").join(amv::UNPACKED).join("3.0.2").join(amv::FOLDER)
    }

    /// The script from a copy of its folder, as it may be called from anywhere.
    fn amv(&self, args: &[&str]) -> Command {
        let copy = self.path("copy");
        let _ = std::fs::remove_dir_all(&copy);
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(self.amv_folder()).unwrap().flatten() {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        let mut command = Command::new("bash");
        command.arg(copy.join("amv-backup-restore.sh")).args(args).stdin(Stdio::null());
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("bin").display());
        command.env("FERRY_SANDBOX_NODE", self.path("node")).env("PATH", path).current_dir(self.path("out"));
        command
    }

    /// What the script says to this input: standard output, standard error, exit code.
    fn amv_said(&self, args: &[&str], input: &str) -> (String, String, i32) {
        let mut command = self.amv(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may end without reading.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
        let output = child.wait_with_output().unwrap();
        (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
    }

    /// The steps of the script in the record, without those of before.
    fn amv_steps(&self, after: usize) -> Vec<String> {
        let all = self.record().into_iter().filter(|line| line.tool == "amv").skip(after);
        let word = |line: record::Record| match line.rc {
            Some(rc) => format!("{}:{rc}", line.step),
            None => line.step,
        };
        all.map(word).collect()
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
fn what_a_target_must_have_can_be_looked_at() {
    let node = Pretend::new(Generation::G7);
    let dns = "anypoint.prod.example";
    // Its name.
    let ahosts = || node.said("getent", &["ahosts", dns]);
    assert_eq!(ahosts().0.lines().next().unwrap(), "10.0.0.11       STREAM anypoint.prod.example");
    assert_eq!(node.said("getent", &["hosts", dns]), (format!("10.0.0.11       {dns}\n"), String::new(), 0));
    node.fault("dns-elsewhere", "on");
    assert!(ahosts().0.starts_with("192.0.2.77 "));
    node.fault("dns-elsewhere", "203.0.113.9");
    assert!(ahosts().0.starts_with("203.0.113.9 "));
    node.fault("dns-missing", "on");
    assert_eq!(ahosts(), (String::new(), String::new(), 2));
    node.fault("dns-missing", "off");
    node.fault("dns-elsewhere", "off");
    assert_eq!(node.said("getent", &["ahosts", "anypoint.nowhere.example"]).2, 2);
    assert!(node.said("getent", &["hosts", "localhost"]).0.contains("localhost"), "all else is the system's");
    assert!(node.said("getent", &["passwd", "root"]).0.starts_with("root:"));

    // Its certificate, read by the system's own openssl.
    let client = ["s_client", "-connect", "10.0.0.11:443", "-servername", dns];
    let read = |option: &[&str]| {
        let (pem, _, code) = node.said("openssl", &client);
        assert_eq!(code, 0);
        let mut x509 = node.command("openssl", &[&["x509", "-noout"], option].concat());
        let mut x509 = x509.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut x509.stdin.take().unwrap(), pem.as_bytes()).unwrap();
        let output = x509.wait_with_output().unwrap();
        (text(&output.stdout), output.status.code().unwrap())
    };
    let (subject, _) = read(&["-subject", "-ext", "subjectAltName"]);
    assert!(subject.contains("anypoint.prod.example") && subject.contains("DNS:anypoint.prod.example"), "{subject}");
    assert_eq!(read(&["-checkend", "86400"]).1, 0);
    let print = read(&["-fingerprint"]);
    assert_eq!(print, read(&["-fingerprint"]), "one certificate, not one a call");
    node.fault("cert-expires", "5");
    assert_eq!((read(&["-checkend", "345600"]).1, read(&["-checkend", "518400"]).1), (0, 1));
    node.fault("cert-expired", "on");
    assert_eq!(read(&["-checkend", "0"]).1, 1);
    node.fault("cert-expired", "off");
    node.fault("cert-name", "wrong.example");
    let (subject, _) = read(&["-ext", "subjectAltName"]);
    assert!(subject.contains("DNS:wrong.example") && !subject.contains("prod"), "{subject}");
    node.fault("cert-none", "on");
    let (out, err, code) = node.said("openssl", &client);
    assert!(out.is_empty() && err.contains("connect:errno=111") && code == 1, "{err}");
    node.fault("cert-none", "off");
    assert_eq!(node.said("openssl", &["s_client", "-connect", "10.9.9.9:443"]).2, 1);
    assert_eq!(node.said("openssl", &["s_client", "-connect", "no.such.example:443"]).2, 1);
    assert!(node.said("openssl", &["version"]).0.starts_with("OpenSSL"));

    // Its NFS: as it is mounted, and as the cluster has it.
    let mounts = || node.said("findmnt", &["-rn", "-t", "nfs,nfs4", "-o", "SOURCE,TARGET"]);
    let volumes = || {
        let all: serde_json::Value =
            serde_json::from_str(&node.said("kubectl", &["get", "pv", "-o", "json"]).0).unwrap();
        let items = all["items"].as_array().unwrap().clone();
        items
            .iter()
            .filter_map(|item| {
                Some(format!("{}:{}", item["spec"]["nfs"]["server"].as_str()?, item["spec"]["nfs"]["path"].as_str()?))
            })
            .collect::<Vec<_>>()
    };
    let (out, err, code) = mounts();
    assert_eq!(
        (out.as_str(), err.as_str(), code),
        ("nfs.prod.example:/srv/pce /var/lib/gravity/planet/share/nfs\n", "", 0)
    );
    assert_eq!(volumes(), ["nfs.prod.example:/srv/pce"]);
    node.fault("nfs-other", "10.7.7.7:/old");
    assert!(mounts().0.starts_with("10.7.7.7:/old ") && volumes() == ["10.7.7.7:/old"]);
    node.fault("nfs-missing", "on");
    assert_eq!((mounts(), volumes().len()), ((String::new(), String::new(), 1), 0));
    assert!(node.said("findmnt", &["-rn", "-o", "TARGET", "/"]).0.contains('/'), "all else is the system's");
}

#[test]
fn pods_of_all_namespaces_and_those_that_are_ill() {
    let node = Pretend::with(Generation::G7, |node| node.amv = true);
    let all = |option: &str| -> Vec<(String, String, bool)> {
        let (out, _, code) = node.said("kubectl", &["get", "pods", option, "-o", "json"]);
        assert_eq!(code, 0);
        let list: serde_json::Value = serde_json::from_str(&out).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let one = |pod: &serde_json::Value| {
            let ready = pod["status"]["containerStatuses"][0]["ready"].as_bool().unwrap_or(false);
            (text(&pod["metadata"]["name"]), text(&pod["status"]["phase"]), ready)
        };
        list["items"].as_array().unwrap().iter().map(one).collect()
    };
    let usual = all("--all-namespaces");
    assert_eq!(usual, all("-A"));
    // A pod of an earlier backup has ended well, and is the only one that is not ready.
    let not_ready: Vec<_> = usual.iter().filter(|(.., ready)| !ready).collect();
    assert_eq!(not_ready, [&("anypoint-backup-0a1b2c-x7k2p".to_owned(), "Succeeded".to_owned(), false)]);
    node.fault("pod-crashing", "exchange-api-6f7d9c5b8-q4w2x");
    assert_eq!(all("-A").iter().filter(|(.., ready)| !ready).count(), 2);
    let (table, _, _) = node.said("kubectl", &["get", "pods"]);
    assert!(table.contains("CrashLoopBackOff") && table.contains("0/1"), "{table}");
    node.fault("pod-crashing", "on");
    assert_eq!(all("-A").len(), usual.len() + 1);

    assert_eq!(node.said("kubectl", &["get", "namespace", "dias", "-o", "name"]).0, "namespace/dias\n");
    let dias = node.said("kubectl", &["-n", "dias", "get", "pods", "-o", "name"]).0;
    assert_eq!((dias.lines().count(), dias.matches("-data-").count()), (5, 2));
    let other = Pretend::new(Generation::G7);
    let (_, err, code) = other.said("kubectl", &["get", "namespace", "dias", "-o", "json"]);
    assert_eq!((err.as_str(), code), ("Error from server (NotFound): namespaces \"dias\" not found\n", 1));
    assert!(other.said("kubectl", &["-n", "dias", "exec", "x", "--", "true"]).1.contains("not found"));
}

#[test]
fn pce_4_has_no_gravity_and_a_foreign_job_may_hold_staging() {
    let node = Pretend::new(Generation::G7);
    node.fault("pce4", "on");
    assert_eq!(node.said("kubectl", &["get", "nodes", "--no-headers"]).0.lines().count(), 3);
    assert!(!node.path("state/local/gravity.db").exists());
    node.fault("pce4", "off");
    node.run("kubectl", &["get", "nodes"]);
    assert!(node.path("state/local/gravity.db").exists());

    node.fault("leaked-staging-active", "1");
    let jobs = node.jobs();
    assert_eq!((jobs.len(), &jobs[0]["status"]["active"]), (1, &1.into()));
    let inside = jobs[0]["spec"]["template"]["spec"]["volumes"][0]["hostPath"]["path"].as_str().unwrap().to_owned();
    let id = inside.trim_start_matches("/ext/state/").trim_end_matches("/backup").to_owned();
    assert!(id.len() == 6 && id.chars().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    let file = node.path("state/planet/state").join(&id).join("backup/objectstore.bin");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 1 << 20);
    assert!(!jobs[0]["metadata"]["name"].as_str().unwrap().ends_with(&id), "a job's name is not its folder's");
    node.fault("leaked-staging-active", "off");
    assert_eq!(node.jobs().len(), 0);
    assert!(!file.exists());
}

fn with_amv() -> Pretend {
    let node = Pretend::with(Generation::G7, |node| node.amv = true);
    // The first call of any tool makes the folder.
    node.run("gravity", &["version"]);
    node
}

/// A node whose AMV was saved and then changed; what was saved, and the archive's path.
fn with_saved_amv() -> (Pretend, std::collections::BTreeMap<String, String>, String) {
    let node = with_amv();
    let dir = node.path("amv-backup").display().to_string();
    let (out, err, code) = node.amv_said(&["-a", "backup", "-f", "first", "-d", &dir, "-v"], "");
    assert_eq!((err.as_str(), code), ("", 0), "{out}");
    let saved = node.influx();
    content::change(&node.path("shared/amv"), "databases/telegraf/measurements/cpu").unwrap();
    content::change(&node.path("shared/amv"), "databases/new/measurements/more").unwrap();
    (node, saved, format!("{dir}/first.tar.gz"))
}

const QUESTION: &str =
    "Existing data on the target cluster will be backed up and erased. Do you want to continue? (y/n)";

#[test]
fn the_amv_script_saves_and_restores_as_documented() {
    let (node, saved, archive) = with_saved_amv();
    assert_eq!(saved.len(), 14);
    assert!(members(Path::new(&archive)).iter().any(|name| name.ends_with(".s2.tar.gz")));
    let dir = node.path("amv-backup").display().to_string();
    // A bundled `-va backup`, and a name that is taken.
    let (_, err, code) = node.amv_said(&["-va", "backup", "-f", "first", "-d", &dir], "");
    assert_eq!((err, code), (format!("ERROR: {archive} already exists\n"), 1));
    let (out, _, code) = node.amv_said(&["-a", "backup", "-f", "quiet", "-d", &dir], "");
    assert!(code == 0 && !out.contains("transferred") && out.ends_with("quiet.tar.gz\n"), "{out}");
    let (out, _, _) = node.amv_said(&["-va", "backup", "-f", "meta", "-s", "meta", "-d", &dir], "");
    assert!(out.contains("Backing up meta data... Done. ") && !out.contains("shard"), "{out}");
    node.amv_said(&["-a", "backup", "-f", "data", "-s", "data", "-d", &dir], "");
    let listed = |name: &str| members(&node.path("amv-backup").join(name));
    assert!(!listed("meta.tar.gz").iter().any(|name| name.contains(".s2.")));
    assert!(!listed("data.tar.gz").iter().any(|name| name.ends_with(".meta")));
    // Usage.
    for args in [&["-h"][..], &[], &["-a", "dance"], &["-x"], &["-a", "restore", "-s", "meta"]] {
        let (out, err, code) = node.amv_said(args, "");
        let both = format!("{out}{err}");
        assert_eq!(code, i32::from(args != ["-h"]), "{args:?} {both}");
        assert!(both.contains("-a ACTION") && both.contains("-f FILE") && both.contains("-s FILTER"), "{both}");
    }
    let (_, err, code) = node.amv_said(&["-a", "restore", "-f", "/none.tar.gz", "-d", &dir], "y\n");
    assert_eq!((err.as_str(), code), ("ERROR: /none.tar.gz does not exist\n", 1));

    // Nobody there, a refusal, and a yes.
    let before = node.influx();
    assert_ne!(before, saved);
    for (input, why) in [("", "aborted: no answer"), ("n\n", "aborted by user"), ("maybe\n", "aborted by user")] {
        let count = node.amv_steps(0).len();
        let (out, err, code) = node.amv_said(&["-a", "restore", "-f", &archive, "-d", &dir], input);
        assert_eq!((err, code), (format!("ERROR: {why}\n"), 1), "{out}");
        assert!(out.ends_with(&format!("{QUESTION} ")), "without a newline: {out:?}");
        assert_eq!(node.amv_steps(count), ["called", "opened", "ended:1"]);
        assert_eq!(node.influx(), before);
    }
    let count = node.amv_steps(0).len();
    let (out, err, code) = node.amv_said(&["-v", "-a", "restore", "-f", &archive, "-d", &dir], "y\n");
    assert_eq!((err.as_str(), code), ("", 0), "{out}");
    for said in ["Using manifest: ", "Databases            backup: 3      restored: 3      OK\n", "Series cardinality"]
    {
        assert!(out.contains(said), "{said:?}: {out}");
    }
    assert_eq!(node.influx(), saved);
    assert_eq!(
        node.amv_steps(count),
        ["called", "opened", "saved", "erased", "erased", "erased", "erased", "written", "ended:0"]
    );
    let record = node.record();
    let opened = record.iter().rfind(|line| line.is("amv", "restore", "opened")).unwrap();
    let digest = ferry::digest::Sha256::of(&std::fs::read(&archive).unwrap()).to_string();
    assert_eq!(opened.sha256.as_deref(), Some(digest.as_str()));
    assert_eq!(opened.args, ["-v", "-a", "restore", "-f", &archive, "-d", &dir]);
    assert!(record.iter().rfind(|line| line.step == "saved").unwrap().bytes.unwrap() > 100);
}

#[test]
fn the_amv_question_in_every_style() {
    let (node, saved, archive) = with_saved_amv();
    let dir = node.path("amv-backup").display().to_string();
    let args = ["-a", "restore", "-f", &archive, "-d", &dir];
    let restore = |style: &str, input: &str| {
        node.fault("amv-prompt", style);
        content::change(&node.path("shared/amv"), "databases/telegraf/measurements/mem").unwrap();
        let (out, err, code) = node.amv_said(&args, input);
        assert_eq!(code == 0, node.influx() == saved, "{style} {input:?} {out}{err}");
        (out, err, code)
    };
    let (out, _, code) = restore("line", "yes\n");
    assert!(code == 0 && out.starts_with(&format!("{QUESTION}\n")), "{out:?}");
    let (out, err, code) = restore("stderr", "y\n");
    assert!(code == 0 && err == format!("{QUESTION} ") && !out.contains("erased."), "{out:?} {err:?}");
    // bash says nothing where there is no terminal, and reads all the same.
    let (out, err, code) = restore("read-p", "y\n");
    assert!(code == 0 && !out.contains("erased.") && err.is_empty(), "{out:?} {err:?}");
    // `yes` and nothing else; `Y` and nothing else.
    assert_eq!(restore("only-yes", "y\n").2, 1);
    let (out, _, code) = restore("only-yes", "yes\n");
    assert!(code == 0 && out.contains("continue? (yes/no) "), "{out}");
    assert_eq!(restore("only-Y", "y\n").2, 1);
    assert_eq!(restore("only-Y", "Y\n").2, 0);
    // Until it is yes.
    let (out, _, code) = restore("repeated,line", "n\nwhat\ny\n");
    assert_eq!((out.matches(QUESTION).count(), code), (3, 0), "{out}");
    assert_eq!(restore("repeated", "n\n").2, 1, "the end of the input ends it");
    // A second question, after the existing data was saved.
    let (out, err, code) = restore("second", "y\n");
    assert!(code == 1 && out.contains("Are you sure? (y/n) ") && err.contains("aborted: no answer"), "{out}{err}");
    assert_eq!(restore("second", "y\ny\n").2, 0);
    let (out, _, code) = restore("Daten werden gelöscht. Weiter? [j/N]", "y\n");
    assert!(code == 0 && out.starts_with("Daten werden gelöscht. Weiter? [j/N] "), "{out}");
    node.fault("amv-no-question", "on");
    assert_eq!(restore("on", "").2, 0);
    node.fault("amv-no-question", "off");
    // What was typed before the question is gone when kubectl has read it.
    node.fault("amv-eats-stdin", "on");
    let (_, err, code) = restore("off", "y\n");
    assert!(code == 1 && err.contains("aborted: no answer"), "{err}");
    node.fault("amv-eats-stdin", "off");

    // At a terminal, and at no other place. `script` is the terminal.
    for (style, answered) in [("tty", false), ("tty", true), ("read-p", true)] {
        node.fault("amv-prompt", style);
        content::change(&node.path("shared/amv"), "databases/telegraf/measurements/mem").unwrap();
        let command = node.amv(&args);
        let words: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let mut through = if answered {
            let mut through = Command::new("script");
            through.args(["-qec", &words.join(" "), "/dev/null"]);
            through
        } else {
            // A session without a terminal.
            let mut through = Command::new("setsid");
            through.args(["-w", "sh", "-c", &words.join(" ")]);
            through
        };
        through.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(node.path("out"));
        let mut child = through.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            // Not before the question stands there; a terminal keeps what is typed early.
            std::thread::sleep(Duration::from_millis(300));
            let _ = std::io::Write::write_all(&mut input, b"y\n");
            std::thread::sleep(Duration::from_secs(3));
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert_eq!(output.status.success(), answered, "{style} {output:?}");
        assert_eq!(text(&output.stdout).contains("Do you want to continue? (y/n) "), answered, "{style} {output:?}");
        assert_eq!(node.influx() == saved, answered);
    }
}

#[test]
fn what_can_go_wrong_with_amv() {
    let (node, saved, archive) = with_saved_amv();
    let dir = node.path("amv-backup").display().to_string();
    let restore = || node.amv_said(&["-va", "restore", "-f", &archive, "-d", &dir], "y\n");
    for (what, line) in [
        ("on", "Measurements         backup: 10     restored: 9      MISMATCH"),
        ("databases", "Databases            backup: 3      restored: 2      MISMATCH"),
        ("policies", "Retention policies   backup: 4      restored: 3      MISMATCH"),
        ("series", "Series cardinality   backup: 59     restored: 58     MISMATCH"),
    ] {
        node.fault("amv-mismatch", what);
        let (out, _, code) = restore();
        assert!(code == 0 && out.contains(line), "{what} {out}");
        assert_ne!(node.influx(), saved);
    }
    node.fault("amv-report", "words");
    let (out, _, _) = restore();
    assert!(out.contains("Validating series cardinality... failed: expected 59, found 58\n"), "{out}");
    node.fault("amv-report", "numbers");
    assert!(restore().0.contains("series cardinality: 59 / 58\n"));
    node.fault("amv-mismatch", "off");

    let before = node.influx();
    node.fault("amv-space", "on");
    let (_, err, code) = restore();
    assert!(code == 1 && err.starts_with("ERROR: not enough disk space in "), "{err}");
    assert_eq!(node.influx(), before);
    node.fault("amv-space", "off");
    node.fault("amv-fails", "influxd-ctl: meta node is gone");
    let (_, err, code) = node.amv_said(&["-a", "backup", "-f", "broken", "-d", &dir], "");
    assert_eq!((err.as_str(), code), ("ERROR: influxd-ctl: meta node is gone\n", 1));
    assert_eq!(std::fs::metadata(node.path("amv-backup/broken.tar.gz")).unwrap().len(), 100, "a part is left");
    let (_, err, code) = restore();
    assert_eq!((err.as_str(), code), ("ERROR: influxd-ctl: meta node is gone\n", 1));
    assert!(!node.influx().keys().any(|name| name.starts_with("databases")), "after the erasing");
    node.fault("amv-fails", "off");
    node.fault("amv-slow", "60");
    let begun = Instant::now();
    assert_eq!(restore().2, 0);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    node.fault("amv-usage-none", "on");
    assert_eq!(node.amv_said(&["-h"], ""), (String::new(), String::new(), 1));
    // Root is asked for.
    let node = Pretend::with(Generation::G7, |node| (node.amv, node.pretend_root) = (true, false));
    node.run("gravity", &["version"]);
    let copy = node.path("copy");
    let mut command = node.amv(&["-a", "backup", "-f", "x", "-d", "/tmp/never"]);
    let root = text(&Command::new("id").arg("-u").output().unwrap().stdout).trim() == "0";
    if root {
        use std::os::unix::process::CommandExt as _;
        for place in [node.path(""), copy, node.path("bin"), node.path("node"), node.path("out")] {
            std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    assert_eq!(
        (text(&output.stderr).as_str(), output.status.code()),
        ("ERROR: this script must be run as root\n", Some(1))
    );
}

#[test]
fn the_amv_folder_lies_as_the_vendor_or_a_fault_leaves_it() {
    let node = with_amv();
    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    let folder = node.amv_folder();
    let script = folder.join("amv-backup-restore.sh");
    assert_eq!((mode(&folder), mode(&script)), (0o755, 0o644));
    assert!(folder.join("influx-common.sh").is_file());
    let first = std::fs::read(&script).unwrap();
    let touch = |name: &str, value: &str| {
        node.fault(name, value);
        node.run("kubectl", &["get", "nodes"]);
    };
    let unpacked = node.path("state").join(amv::UNPACKED);
    touch("amv-second-folder", "on");
    assert!(unpacked.join("3.0.2-x").join(amv::FOLDER).join("amv-backup-restore.sh").is_file() && script.is_file());
    touch("amv-second-folder", "off");
    assert_eq!(std::fs::read_dir(&unpacked).unwrap().count(), 1);
    for (what, path, expected) in [
        ("on", folder.clone(), 0o777),
        ("script", script.clone(), 0o666),
        ("neighbour", folder.join("influx-common.sh"), 0o666),
        ("version", unpacked.join("3.0.2"), 0o777),
        ("unpacked", unpacked.clone(), 0o777),
    ] {
        touch("amv-world-writable", what);
        assert_eq!(mode(&path), expected, "{what}");
    }
    touch("amv-world-writable", "off");
    assert_eq!(mode(&script), 0o644);
    for (what, path) in [("on", folder.clone()), ("script", script.clone()), ("version", unpacked.join("3.0.2"))] {
        touch("amv-symlink", what);
        assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink(), "{what}");
        assert_eq!(std::fs::read(&script).unwrap(), first, "{what}: it leads to the same");
    }
    touch("amv-symlink", "off");
    touch("amv-changed", "on");
    assert_ne!(std::fs::read(&script).unwrap(), first);
    touch("amv-changed", "off");
    assert_eq!(std::fs::read(&script).unwrap(), first);
    // What a test writes there itself stays, as long as no fault changes.
    std::fs::write(&script, "mine").unwrap();
    node.run("kubectl", &["get", "nodes"]);
    assert_eq!(std::fs::read(&script).unwrap(), b"mine");
    touch("amv-missing-here", "on");
    assert!(!unpacked.join("3.0.2").exists() && unpacked.is_dir());
    if text(&Command::new("id").arg("-u").output().unwrap().stdout).trim() == "0" {
        use std::os::unix::fs::MetadataExt as _;
        touch("amv-missing-here", "off");
        touch("amv-owner", "4711");
        assert_eq!(std::fs::metadata(&script).unwrap().uid(), 4711);
        assert_eq!(std::fs::metadata(&folder).unwrap().uid(), 0);
        // The service user of a real node, by number.
        let node = Pretend::with(Generation::G7, |node| (node.amv, node.service_uid) = (true, Some(980_665)));
        node.run("gravity", &["version"]);
        let site = std::fs::metadata(node.path("state/site")).unwrap();
        let script = std::fs::metadata(node.amv_folder().join("amv-backup-restore.sh")).unwrap();
        assert_eq!((site.uid(), script.uid(), script.gid()), (980_665, 980_665, 980_665));
    }
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
        let used = [format!("\"{}\"", fault.name), format!("fault {}", fault.name), format!("value {})", fault.name)];
        assert!(used.iter().any(|used| code.contains(used)), "{} does nothing", fault.name);
        assert!(!fault.values.is_empty() && !fault.does.is_empty());
    }
}
