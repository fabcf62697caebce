//! The job protocol and the cluster's watch against real shells, processes, locks and disks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

#[path = "support/told.rs"]
mod told;

use ferry::digest::{Hasher, Sha256};
use ferry::failure::{Failure, Kind};
use ferry::job::watch::Pace;
use ferry::job::{Answered, Follow, Input, Jobs, Lost, Manner, NotTaken, Owner, Spec, State, Watch, Written};
use ferry::name::{ClusterName, JobId, RunId};
use ferry::remote::sudo::Become;
use ferry::remote::{Exit, Session, fake, local};
use told::told;

const SHELLS: [&str; 3] = ["dash", "bash --posix", "busybox sh"];

/// A node of this machine: a folder of its own, and a shell.
struct Node {
    dir: tempfile::TempDir,
    jobs: Jobs,
}

fn manner() -> Manner {
    Manner {
        heart: Duration::from_secs(1),
        silence: Duration::from_secs(20),
        poll: Duration::from_millis(50),
        ..Manner::default()
    }
}

/// What a test that failed left running ends with it: jobs outlive whoever started them.
impl Drop for Node {
    fn drop(&mut self) {
        let dir = self.dir.path().to_owned();
        let ours = |process: &Path| {
            let links = ["cwd", "fd/0", "fd/1", "fd/2"].into_iter().map(|link| process.join(link));
            links.filter_map(|link| std::fs::read_link(link).ok()).any(|to| to.starts_with(&dir))
                || std::fs::read(process.join("cmdline"))
                    .is_ok_and(|line| String::from_utf8_lossy(&line).contains(dir.to_str().unwrap()))
        };
        for process in std::fs::read_dir("/proc").into_iter().flatten().map_while(Result::ok) {
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.filter(|_| ours(&process.path()))
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let session = Session::Local(local::LocalSession::new("node", Become::off()));
        let mut jobs = Jobs::new(session).at(format!("{}/ferry", dir.path().display()));
        jobs.manner = manner();
        Self { dir, jobs }
    }

    /// A node whose control scripts, supervisors and jobs all run in this shell.
    fn with_shell(shell: &str) -> Self {
        let mut node = Self::new();
        let program = format!("{}/shell", node.dir.path().display());
        executable(Path::new(&program), &format!("#!/bin/sh\nexec {shell} \"$@\"\n"));
        node.jobs.manner.shell = program;
        node.jobs.session = node.through(&format!("exec {shell} -c \"$1\""));
        node
    }

    /// A session whose bootstrap, as `$1`, is run by these lines in the place of sudo.
    fn through(&self, lines: &str) -> Session {
        through(self.dir.path(), lines)
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.dir.path().join(rest)
    }

    fn job_file(&self, id: &JobId, file: &str) -> PathBuf {
        self.path(&format!("ferry/jobs/{id}/{file}"))
    }

    /// A job that notes each execution in a file, and then does this.
    fn spec(&self, script: &str) -> Spec {
        Spec {
            id: JobId::random(),
            kind: "gravity-backup".to_owned(),
            cluster: "prod".parse().unwrap(),
            script: format!("echo run >>{}\n{script}\n", self.path("count").display()),
            meta: serde_json::json!({"who": "ops", "note": "Grüße, 'quoted' \"twice\"\n$HOME `id`"}),
            umask: 0o077,
            restore_like: false,
            input: Input::Nothing,
        }
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.path("count")).unwrap_or_default().lines().count()
    }

    async fn until(&self, id: &JobId, wanted: impl Fn(State) -> bool) -> State {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let state = self.jobs.state(id).await.unwrap();
            if wanted(state) {
                return state;
            }
            assert!(Instant::now() < end, "still {state:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn whole(&self, id: &JobId) -> (State, Vec<u8>) {
        let mut all = Vec::new();
        let state = self
            .jobs
            .follow(id, 0, |what| {
                if let Follow::Bytes(bytes) = what {
                    all.extend_from_slice(bytes);
                }
            })
            .await
            .unwrap();
        (state, all)
    }

    fn supervisor(&self, id: &JobId) -> String {
        let text = std::fs::read_to_string(self.job_file(id, "pid")).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    }
}

fn executable(path: &Path, text: &str) {
    // Written by a child: were the file open for writing here while another test forks, its execution would fail (ETXTBSY).
    let mut child = Process::new("/bin/sh")
        .args(["-c", "cat >\"$1\"; chmod 755 \"$1\"", "-", path.to_str().unwrap()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn through(dir: &Path, lines: &str) -> Session {
    let exe = dir.join(format!("become-{}", JobId::random()));
    executable(&exe, &format!("#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift 3\n{lines}\n"));
    let plan = Become { on: true, exe: exe.to_str().unwrap().to_owned(), ..Become::off() };
    Session::Local(local::LocalSession::new("node", plan))
}

fn kill(signal: &str, who: &str) {
    assert!(
        Process::new("/bin/kill").args(["-s", signal, "--", who]).status().unwrap().success(),
        "kill {signal} {who}"
    );
}

fn root() {
    let uid = Process::new("id").arg("-u").output().unwrap().stdout;
    assert_eq!(
        uid, b"0\n",
        "this test mounts a tmpfs in a mount namespace of its own: run it as root, with unshare(1) and nsenter(1)"
    );
}

/// A mount namespace that lives as long as this value.
struct Mounts(std::process::Child);

impl Mounts {
    fn new(commands: &str) -> Self {
        root();
        let script = format!("set -e; {commands}; echo ready; exec sleep 600");
        let mut child = Process::new("unshare")
            .args(["--mount", "--propagation", "private", "/bin/sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare(1) of util-linux");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert_eq!(line, "ready\n", "mounts could not be made: {commands}");
        Self(child)
    }

    fn enter(&self) -> String {
        format!("exec nsenter --mount --target {} /bin/sh -c \"$1\"", self.0.id())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shell_runs_a_job_once_and_tells_its_code() {
    for shell in SHELLS {
        for flock in [true, false] {
            let mut node = Node::with_shell(shell);
            node.jobs.manner.flock = flock;
            for (script, rc) in
                [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("nonsense-x", 127)]
            {
                let spec = node.spec(script);
                let before = node.runs();
                node.jobs.start(&spec).await.unwrap();
                let (state, _) = node.whole(&spec.id).await;
                assert_eq!(state, State::Done { rc }, "{shell} flock {flock}: {script}");
                // Once more: found, not run.
                assert_eq!(node.jobs.start(&spec).await.unwrap(), State::Done { rc });
                assert_eq!(node.runs(), before + 1, "{shell}: {script}");
                let look = node.jobs.look(&spec.id).await.unwrap();
                assert_eq!(look.descendants_seen, flock, "{shell}");
            }
            let list = node.jobs.list().await.unwrap();
            assert_eq!(list.len(), 5);
            let spec = node.spec("");
            for job in list {
                assert_eq!(job.meta, spec.meta, "{shell}");
                assert_eq!((job.kind.as_str(), job.cluster.as_ref()), ("gravity-backup", Some(&spec.cluster)));
                assert!(job.state.is_final() && job.started.unwrap() > 1_700_000_000 && job.spec_sha256.is_some());
                let (sum, bytes) = node.jobs.log_sha256(&job.id).await.unwrap();
                assert_eq!(bytes, job.out_bytes);
                node.jobs.clean(&job.id, sum.unwrap()).await.unwrap();
                assert_eq!(node.jobs.state(&job.id).await.unwrap(), State::Absent);
                // A job that is gone is no error.
                node.jobs.clean(&job.id, sum.unwrap()).await.unwrap();
            }
            assert!(!node.path("ferry").exists(), "{shell}: something is left");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_starts_of_one_id_run_it_once() {
    for flock in [true, false] {
        let mut node = Node::new();
        node.jobs.manner.flock = flock;
        let spec = node.spec("sleep 1; exit 3");
        let starts = (0..40).map(|_| node.jobs.start(&spec));
        for state in futures::future::join_all(starts).await {
            let state = state.unwrap();
            assert!(!matches!(state, State::Absent | State::Lost(_) | State::Orphan), "{state:?}");
        }
        assert_eq!(node.until(&spec.id, |state| state.is_final()).await, State::Done { rc: 3 });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(node.runs(), 1, "flock {flock}");
    }
}

#[test]
fn a_launcher_that_is_cut_runs_nothing() {
    for shell in SHELLS {
        let node = Node::new();
        let spec = node.spec("exit 0");
        let whole = node.jobs.start_script(&spec, "0123456789abcdef").unwrap();
        let feed = |text: &[u8]| {
            let mut words = shell.split(' ');
            let mut child = Process::new(words.next().unwrap())
                .args(words)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut input = child.stdin.take().unwrap();
            let _ = input.write_all(text);
            drop(input);
            child.wait_with_output().unwrap()
        };
        let length = whole.len();
        let mut cuts: Vec<usize> = (0..length).step_by(41).collect();
        cuts.extend(length - 120..length);
        // After each line, too: there a shell that reads line by line is tempted most.
        cuts.extend(whole.match_indices('\n').map(|(at, _)| at + 1).filter(|at| at % 3 == 0));
        for cut in cuts {
            let said = feed(&whole.as_bytes()[..cut]);
            assert!(said.stdout.is_empty(), "{shell} cut at {cut}: {}", String::from_utf8_lossy(&said.stdout));
            assert!(!node.path("ferry").exists(), "{shell} cut at {cut} made something");
        }
        assert_eq!(node.runs(), 0);
        // The check can fail: the whole one runs.
        let said = feed(whole.as_bytes());
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.contains(" bye"), "{shell}: {text}");
        assert!(node.path("ferry/jobs").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_cut_on_its_way_says_so_and_runs_nothing() {
    let mut node = Node::new();
    let spec = node.spec("exit 0");
    let length = node.jobs.start_script(&spec, "0123456789abcdef0123456789abcdef").unwrap().len();
    for cut in [0, 1, 100, length / 2, length - 30, length - 2, length - 1] {
        node.jobs.session = node.through(&format!("head -c {cut} | /bin/sh -c \"$1\""));
        let failure = node.jobs.start(&spec).await.unwrap_err();
        assert!(failure.again && failure.kind == Kind::Unreachable, "{cut}: {failure:?}");
        assert!(!node.path("ferry").exists());
    }
    node.jobs.session = node.through(&format!("head -c {length} | /bin/sh -c \"$1\""));
    node.jobs.start(&spec).await.unwrap();
    assert_eq!(node.until(&spec.id, |state| state.is_final()).await, State::Done { rc: 0 });
    assert_eq!(node.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_leaves_an_orphan_then_a_lost_job_with_its_output() {
    let node = Node::new();
    let spec = node.spec("echo first; sleep 3; echo last");
    assert!(matches!(node.jobs.start(&spec).await.unwrap(), State::Running { .. }));
    kill("KILL", &node.supervisor(&spec.id));
    let state = node.until(&spec.id, |state| !matches!(state, State::Running { .. })).await;
    assert_eq!(state, State::Orphan);
    // Nothing proves whose the processes are now.
    assert_eq!(node.jobs.cancel(&spec.id, Duration::from_secs(1)).await.unwrap_err().kind, Kind::Refused);
    assert_eq!(node.jobs.clean(&spec.id, Sha256::of(b"")).await.unwrap_err().kind, Kind::Refused);
    let (state, output) = node.whole(&spec.id).await;
    assert_eq!(state, State::Lost(Lost::Died));
    assert_eq!(output, b"first\nlast\n");
    // Never by itself again.
    assert_eq!(node.jobs.start(&spec).await.unwrap(), State::Lost(Lost::Died));
    assert_eq!(node.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_to_the_whole_group() {
    for shell in SHELLS {
        let node = Node::with_shell(shell);
        group_signals(&node).await;
    }
}

async fn group_signals(node: &Node) {
    // A job that catches the signal, too: its own code, not the supervisor's idea of one.
    for (signal, trap, wanted) in [
        ("KILL", "", State::Lost(Lost::Died)),
        ("TERM", "", State::Done { rc: 143 }),
        ("TERM", "trap 'exit 21' TERM;", State::Done { rc: 21 }),
        ("HUP", "trap 'exit 127' HUP;", State::Done { rc: 127 }),
    ] {
        for _ in 0..4 {
            let spec = node.spec(&format!("{trap} echo up; sleep 60"));
            assert!(matches!(node.jobs.start(&spec).await.unwrap(), State::Running { .. }));
            let group = node.supervisor(&spec.id);
            // Wait until the job itself is there.
            while !std::fs::read_to_string(node.job_file(&spec.id, "out")).unwrap().contains("up") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            kill(signal, &format!("-{group}"));
            let state = node.until(&spec.id, |state| state.is_final()).await;
            assert_eq!(state, wanted, "{} {signal} {trap}", node.jobs.manner.shell);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_foreign_process_numbers() {
    let mut node = Node::new();
    let spec = node.spec("sleep 2");
    node.jobs.start(&spec).await.unwrap();
    let pid = node.job_file(&spec.id, "pid");
    let real = std::fs::read_to_string(&pid).unwrap();
    let fields: Vec<&str> = real.split_whitespace().collect();
    assert_eq!(node.jobs.state(&spec.id).await.unwrap(), State::Running { since_up: fields[3].parse().unwrap() });
    // Another boot.
    std::fs::write(&pid, real.replace(fields[0], "00000000-0000-0000-0000-000000000000")).unwrap();
    assert_eq!(node.jobs.state(&spec.id).await.unwrap(), State::Lost(Lost::Reboot));
    std::fs::write(&pid, &real).unwrap();
    // Another boot, the other way round.
    let boot = node.path("boot_id");
    std::fs::write(&boot, "11111111-1111-1111-1111-111111111111\n").unwrap();
    node.jobs.manner.boot_id = boot.to_str().unwrap().to_owned();
    assert_eq!(node.jobs.state(&spec.id).await.unwrap(), State::Lost(Lost::Reboot));
    node.jobs.manner.boot_id = manner().boot_id;
    assert_eq!(node.until(&spec.id, |state| state.is_final()).await, State::Done { rc: 0 });
    // A result that came is a result, whatever the boot.
    node.jobs.manner.boot_id = boot.to_str().unwrap().to_owned();
    assert_eq!(node.jobs.state(&spec.id).await.unwrap(), State::Done { rc: 0 });
    node.jobs.manner.boot_id = manner().boot_id;
    // Its result is there before its supervisor is gone, which holds the lock until then.
    while Path::new(&format!("/proc/{}", fields[1])).exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    // A forged file: a process that lives, with its true start time, that holds no lock.
    std::fs::remove_file(node.job_file(&spec.id, "rc")).unwrap();
    let (mine, start) = myself();
    std::fs::write(&pid, format!("{} {mine} {start} 5 5 end\n", fields[0])).unwrap();
    assert_eq!(node.jobs.state(&spec.id).await.unwrap(), State::Lost(Lost::Died));
    // The number given out again: the start time is another.
    node.jobs.manner.flock = false;
    std::fs::write(&pid, format!("{} {mine} {} 5 5 end\n", fields[0], start + 1)).unwrap();
    assert_eq!(node.jobs.state(&spec.id).await.unwrap(), State::Lost(Lost::Died));
    for bad in ["", "x", "a b c d e end", "- 0 0 0 0 end", &format!("{} 1 ; 2 3", fields[0])] {
        std::fs::write(&pid, bad).unwrap();
        let state = node.jobs.state(&spec.id).await.unwrap();
        assert!(matches!(state, State::Lost(_) | State::NotStarted), "{bad:?}: {state:?}");
        // Never a signal to anybody on such a ground, never a second run.
        let again = node.jobs.start(&spec).await.unwrap();
        assert!(!matches!(again, State::Running { .. } | State::Done { .. }), "{bad:?}: {again:?}");
    }
    assert_eq!(node.runs(), 1);
}

fn stat(pid: u32) -> (String, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[0].to_owned(), fields[19].parse().unwrap())
}

fn myself() -> (u32, u64) {
    (std::process::id(), stat(std::process::id()).1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_is_not_running() {
    let mut node = Node::new();
    let spec = node.spec("exit 0");
    node.jobs.start(&spec).await.unwrap();
    node.until(&spec.id, |state| state.is_final()).await;
    std::fs::remove_file(node.job_file(&spec.id, "rc")).unwrap();
    let mut dead = Process::new("true").spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while stat(dead.id()).0 != "Z" {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(10));
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let line = format!("{} {} {} 5 5 end\n", boot.trim(), dead.id(), stat(dead.id()).1);
    std::fs::write(node.job_file(&spec.id, "pid"), line).unwrap();
    let mut holder = Process::new("flock").arg(node.job_file(&spec.id, "lock")).args(["sleep", "30"]).spawn().unwrap();
    let state = node.until(&spec.id, |state| state != State::Lost(Lost::Died)).await;
    assert_eq!(state, State::Orphan);
    node.jobs.manner.flock = false;
    assert_eq!(node.jobs.state(&spec.id).await.unwrap(), State::Lost(Lost::Died));
    kill("KILL", &holder.id().to_string());
    holder.wait().unwrap();
    dead.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_not_ours_alone_is_refused() {
    let node = Node::new();
    let base = node.path("ferry");
    let spec = node.spec("exit 0");
    let refused = async |what: &str| {
        let failures: Vec<Failure> = vec![
            node.jobs.start(&spec).await.unwrap_err(),
            node.jobs.state(&spec.id).await.unwrap_err(),
            node.jobs.list().await.unwrap_err(),
            node.jobs.follow(&spec.id, 0, |_| {}).await.unwrap_err(),
            node.jobs.cancel(&spec.id, Duration::from_secs(1)).await.unwrap_err(),
            node.jobs.clean(&spec.id, Sha256::of(b"")).await.unwrap_err(),
        ];
        for failure in failures {
            assert_eq!(failure.kind, Kind::Refused, "{what}: {failure:?}");
            assert!(failure.why.is_some() || failure.mend.is_some());
        }
        assert_eq!(node.runs(), 0);
    };
    let mode = |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::create_dir(node.path("elsewhere")).unwrap();
    symlink(node.path("elsewhere"), &base).unwrap();
    refused("a link").await;
    assert_eq!(std::fs::read_dir(node.path("elsewhere")).unwrap().count(), 0);
    std::fs::remove_file(&base).unwrap();
    std::fs::write(&base, "").unwrap();
    refused("a file").await;
    std::fs::remove_file(&base).unwrap();
    std::fs::create_dir(&base).unwrap();
    for bad in [0o777, 0o770, 0o702, 0o720, 0o1777] {
        mode(&base, bad);
        refused(&format!("mode {bad:o}")).await;
    }
    mode(&base, 0o755);
    std::fs::create_dir(base.join("jobs")).unwrap();
    mode(&base.join("jobs"), 0o777);
    refused("jobs writable").await;
    std::fs::remove_dir(base.join("jobs")).unwrap();
    symlink(node.path("elsewhere"), base.join("jobs")).unwrap();
    refused("jobs a link").await;
    std::fs::remove_file(base.join("jobs")).unwrap();
    if std::os::unix::fs::chown(&base, Some(65533), None).is_ok() {
        refused("another's").await;
        std::os::unix::fs::chown(&base, Some(0), None).unwrap();
    }
    node.jobs.start(&spec).await.unwrap();
    assert_eq!(node.until(&spec.id, |state| state.is_final()).await, State::Done { rc: 0 });
    // Whatever the mode was: only ours now, and every file as well.
    for path in [base.clone(), base.join("jobs"), base.join(format!("jobs/{}", spec.id))] {
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
    }
    for file in std::fs::read_dir(base.join(format!("jobs/{}", spec.id))).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_bound_to_its_script() {
    let node = Node::new();
    let spec = node.spec("exit 0");
    node.jobs.start(&spec).await.unwrap();
    let other = Spec { script: "exit 1".to_owned(), ..spec.clone() };
    let failure = node.jobs.start(&other).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Refused);
    for bad in [Spec { kind: "../x".into(), ..spec.clone() }, Spec { script: "a\0b".into(), ..spec.clone() }] {
        assert_eq!(node.jobs.start(&bad).await.unwrap_err().kind, Kind::CouldNotStart);
    }
    assert_eq!(node.jobs.state(&JobId::random()).await.unwrap(), State::Absent);
    assert_eq!(node.jobs.follow(&JobId::random(), 0, |_| {}).await.unwrap(), State::Absent);
    assert_eq!(node.jobs.follow(&spec.id, 10_000, |_| {}).await.unwrap_err().kind, Kind::Bad);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_of_a_kind_per_cluster() {
    let node = Node::new();
    let first = node.spec("sleep 3");
    let second = node.spec("exit 0");
    let other = Spec { cluster: "dr".parse().unwrap(), ..node.spec("exit 0") };
    assert!(matches!(node.jobs.start(&first).await.unwrap(), State::Running { .. }));
    let failure = node.jobs.start(&second).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Refused);
    assert!(failure.seen.unwrap().contains(first.id.as_str()));
    node.jobs.start(&other).await.unwrap();
    node.until(&first.id, |state| state.is_final()).await;
    node.jobs.start(&second).await.unwrap();
    assert_eq!(node.until(&second.id, |state| state.is_final()).await, State::Done { rc: 0 });
    assert_eq!(node.runs(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gets_a_clean_world() {
    let node = Node::new();
    let mut spec = node.spec("env | sort; pwd; umask; cat; readlink /proc/self/fd/0; ls -l /proc/$PPID/environ >/dev/null; cat /proc/$PPID/environ | tr '\\0' '\\n' | sed 's/^/sup /'");
    spec.umask = 0o027;
    node.jobs.start(&spec).await.unwrap();
    let (state, output) = node.whole(&spec.id).await;
    assert_eq!(state, State::Done { rc: 0 });
    let text = String::from_utf8(output).unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("sup "))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    for name in &names {
        assert!(
            ["HOME", "LC_ALL", "LOGNAME", "PATH", "PWD", "SHELL", "USER", "_", "OLDPWD", "SHLVL"].contains(name),
            "{name} in {text}"
        );
    }
    assert!(names.contains(&"HOME") && text.contains("LC_ALL=C\n"));
    assert!(text.contains("\n/\n0027\n/dev/null\n"), "{text}");
    for line in text.lines().filter_map(|line| line.strip_prefix("sup ")) {
        assert!(
            ["PATH=", "LC_ALL=", "PWD=", "OLDPWD="].iter().any(|name| line.starts_with(name)),
            "the supervisor has {line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_byte_exact() {
    for shell in SHELLS {
        let node = Node::with_shell(shell);
        let all: Vec<u8> = (0..=255).cycle().take(70_000).map(|byte: u32| byte as u8).collect();
        std::fs::write(node.path("bytes"), &all).unwrap();
        let spec = node.spec(&format!("cat {}; printf '\\000\\001\\377'; printf end", node.path("bytes").display()));
        node.jobs.start(&spec).await.unwrap();
        let (state, output) = node.whole(&spec.id).await;
        assert_eq!(state, State::Done { rc: 0 });
        let expected = [&all[..], b"\x00\x01\xffend"].concat();
        assert!(output == expected, "{shell}: {} bytes of {}", output.len(), expected.len());
        // From every kind of offset.
        for offset in [1, 4095, 65_536, expected.len() - 1, expected.len()] {
            let mut tail = Vec::new();
            node.jobs
                .follow(&spec.id, offset as u64, |what| {
                    if let Follow::Bytes(bytes) = what {
                        tail.extend_from_slice(bytes)
                    }
                })
                .await
                .unwrap();
            assert!(tail == expected[offset..], "{shell} from {offset}");
        }
    }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The test measures its own process, so it runs in one of its own.
#[test]
fn a_log_of_64_mib_needs_little_memory() {
    const ALONE: &str = "FERRY_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        tokio::runtime::Runtime::new().unwrap().block_on(follow_64_mib());
        return;
    }
    let said = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_log_of_64_mib_needs_little_memory", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success() && text.contains("1 passed"), "{text}");
}

async fn follow_64_mib() {
    const SIZE: u64 = 64 << 20;
    let node = Node::new();
    let spec = node.spec(&format!("yes 'a line of the log' | head -c {SIZE}"));
    node.jobs.start(&spec).await.unwrap();
    node.until(&spec.id, |state| state.is_final()).await;
    let mut hasher = Hasher::new();
    node.jobs
        .follow(&spec.id, 0, |what| {
            if let Follow::Bytes(bytes) = what {
                hasher.update(bytes);
            }
        })
        .await
        .unwrap();
    let peak = peak_kib();
    assert_eq!(hasher.bytes(), SIZE);
    let mut expected = Hasher::new();
    let line = b"a line of the log\n".repeat(1000);
    let mut left = SIZE as usize;
    while left > 0 {
        let take = left.min(line.len());
        expected.update(&line[..take]);
        left -= take;
    }
    let sum = expected.finish();
    assert_eq!(hasher.finish(), sum);
    assert!(peak < 40 << 10, "{peak} KiB at the peak");
    assert_eq!(node.jobs.log_sha256(&spec.id).await.unwrap(), (Some(sum), SIZE));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_dropped_followers_lose_and_double_nothing() {
    let node = Node::new();
    let data: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(node.path("bytes"), &data).unwrap();
    // Pieces of odd sizes, for as long as the followers come and go.
    let script = format!(
        "n=0; while [ $n -lt 300 ]; do dd if={} bs=10000 skip=$n count=1 2>/dev/null; n=$((n+1)); sleep 0.07; done; exit 9",
        node.path("bytes").display()
    );
    let spec = node.spec(&script);
    node.jobs.start(&spec).await.unwrap();
    let mut got = Vec::new();
    let mut drops = 0;
    let state = loop {
        let offset = got.len() as u64;
        let seed: u16 = rand::random();
        let patience =
            if drops < 200 { Duration::from_millis(20 + u64::from(seed) % 180) } else { Duration::from_secs(60) };
        let follow = node.jobs.follow(&spec.id, offset, |what| match what {
            Follow::Bytes(bytes) => got.extend_from_slice(bytes),
            Follow::Heart { offset: at, .. } => assert!(at >= offset),
        });
        match tokio::time::timeout(patience, follow).await {
            Err(_) => drops += 1,
            Ok(state) => {
                if drops >= 200 {
                    break state.unwrap();
                }
                // It ended before all cuts were made: go on cutting from a random place of the past.
                state.unwrap();
                got.truncate(usize::from(seed) * 40);
                drops += 1;
            }
        }
        assert!(got.len() <= data.len() && got == data[..got.len()], "wrong after {drops} drops");
    };
    assert_eq!(state, State::Done { rc: 9 });
    assert!(got == data, "{} bytes of {}", got.len(), data.len());
    assert_eq!(node.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_or_broken_link_is_told_and_not_waited_for() {
    let mut node = Node::new();
    let spec = node.spec("sleep 20");
    node.jobs.start(&spec).await.unwrap();
    let mut hearts = 0;
    // The link is cut behind the first frames.
    let good = node.jobs.session.clone();
    node.jobs.session = node.through("/bin/sh -c \"$1\" | { dd bs=1 count=210 2>/dev/null; exec sleep 15; }");
    node.jobs.manner.silence = Duration::from_secs(3);
    let began = Instant::now();
    let failure = node.jobs.follow(&spec.id, 0, |_| hearts += 1).await.unwrap_err();
    assert!(failure.again && failure.kind == Kind::Unreachable, "{failure:?}");
    assert!(began.elapsed() < Duration::from_secs(15));
    // A shell that breaks off, and one that says something else.
    node.jobs.session = node.through("/bin/sh -c \"$1\" | dd bs=1 count=150 2>/dev/null");
    assert_eq!(node.jobs.follow(&spec.id, 0, |_| {}).await.unwrap_err().kind, Kind::Unknown);
    node.jobs.session = node.through("/bin/sh -c \"$1\" | sed -u 's/ state / stale /; s/ flock / lock /'");
    assert_eq!(node.jobs.state(&spec.id).await.unwrap_err().kind, Kind::Unknown);
    // A talkative login shell is none of our concern.
    node.jobs.session = node.through("echo Welcome; echo '@0 state done 0'; printf 'no end'; exec /bin/sh -c \"$1\"");
    assert!(matches!(node.jobs.state(&spec.id).await.unwrap(), State::Running { .. }));
    let lost =
        fake::Reply { when: "j_main".into(), out: Vec::new(), err: Vec::new(), exit: Exit::Lost("reset".into()) };
    node.jobs.session = Session::Fake(fake::FakeSession::new("node", vec![lost]));
    let failure = node.jobs.state(&spec.id).await.unwrap_err();
    assert!(failure.again && failure.kind == Kind::Unreachable);
    node.jobs.session = good;
    node.until(&spec.id, |state| state.is_final()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_does_not_lose_the_code() {
    let mut node = Node::new();
    let base = node.path("ferry");
    std::fs::create_dir(&base).unwrap();
    let mounts = Mounts::new(&format!("mount -t tmpfs -o size=256k,mode=700 tmpfs {}", base.display()));
    node.jobs.session = node.through(&mounts.enter());
    let fill = format!(
        "cat /dev/zero >{0}/fill 2>/dev/null; echo more; echo x >{0}/full 2>/dev/null && [ -s {0}/full ] && exit 99",
        base.display()
    );
    let spec = node.spec(&format!("{fill}; exit 5"));
    node.jobs.start(&spec).await.unwrap();
    assert_eq!(node.until(&spec.id, |state| state.is_final()).await, State::Done { rc: 5 });
    // A start on the full disk is refused and runs nothing.
    let next = Spec { kind: "other".into(), ..node.spec("exit 0") };
    let failure = node.jobs.start(&next).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Failed, "{failure:?}");
    assert!(failure.what.contains("room"), "{failure:?}");
    assert_eq!(node.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_run_gets_the_properties_of_its_version() {
    for (version, collect, oom) in [(219, false, false), (239, true, false), (252, true, true)] {
        let mut node = Node::new();
        let fake = node.path("systemd-run");
        let seen = node.path("seen");
        executable(
            &fake,
            &format!(
                "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'systemd {version} (x)'; exit; fi\nprintf '%s\\n' \"$@\" >{}\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nsetsid \"$@\" </dev/null >/dev/null 2>&1 &\n",
                seen.display()
            ),
        );
        let mounts = Mounts::new(&format!("mount --bind {} /usr/bin/systemd-run", fake.display()));
        node.jobs.session = node.through(&mounts.enter());
        node.jobs.manner.systemd = node.dir.path().to_str().unwrap().to_owned();
        let spec = Spec { restore_like: version == 252, ..node.spec("exit 4") };
        node.jobs.start(&spec).await.unwrap();
        assert_eq!(node.until(&spec.id, |state| state.is_final()).await, State::Done { rc: 4 });
        let words = std::fs::read_to_string(&seen).unwrap();
        assert!(words.contains(&format!("--unit=ferry-job-{}\n", spec.id)), "{words}");
        assert_eq!(words.contains("--collect\n"), collect);
        assert_eq!(words.contains("--property=OOMPolicy=continue\n"), oom);
        let kill = if version == 252 { "process" } else { "control-group" };
        assert!(words.contains(&format!("--property=KillMode={kill}\n")));
        assert_eq!(node.runs(), 1);
    }
    // systemd-run that fails (no bus): the session's own way.
    let mut node = Node::new();
    let fake = node.path("systemd-run");
    executable(&fake, "#!/bin/sh\nexit 1\n");
    let mounts = Mounts::new(&format!("mount --bind {} /usr/bin/systemd-run", fake.display()));
    node.jobs.session = node.through(&mounts.enter());
    node.jobs.manner.systemd = node.dir.path().to_str().unwrap().to_owned();
    let spec = node.spec("exit 6");
    node.jobs.start(&spec).await.unwrap();
    assert_eq!(node.until(&spec.id, |state| state.is_final()).await, State::Done { rc: 6 });
    assert_eq!(node.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_removes_only_what_is_ours_and_ended() {
    let node = Node::new();
    let spec = node.spec("echo output; sleep 2");
    node.jobs.start(&spec).await.unwrap();
    let right = Sha256::of(b"output\n");
    assert_eq!(node.jobs.clean(&spec.id, right).await.unwrap_err().kind, Kind::Refused);
    node.until(&spec.id, |state| state.is_final()).await;
    let files = || {
        let mut all: Vec<_> =
            std::fs::read_dir(node.job_file(&spec.id, "")).unwrap().map(|file| file.unwrap().file_name()).collect();
        all.sort();
        all
    };
    let before = files();
    assert_eq!(node.jobs.clean(&spec.id, Sha256::of(b"else")).await.unwrap_err().kind, Kind::Refused);
    assert_eq!(files(), before);
    for (name, kind) in [
        ("important.tar", "file"),
        (".hidden", "file"),
        ("rc.x", "file"),
        ("out2", "file"),
        ("dir", "dir"),
        ("ack", "link"),
    ] {
        let path = node.job_file(&spec.id, name);
        match kind {
            "file" => std::fs::write(&path, "keep").unwrap(),
            "dir" => std::fs::create_dir(&path).unwrap(),
            _ => symlink("/etc/passwd", &path).unwrap(),
        }
        let with = files();
        let failure = node.jobs.clean(&spec.id, right).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Refused, "{name}");
        assert_eq!(files(), with, "{name}");
        assert_eq!(node.jobs.state(&spec.id).await.unwrap(), State::Done { rc: 0 });
        if kind == "dir" { std::fs::remove_dir(&path).unwrap() } else { std::fs::remove_file(&path).unwrap() }
    }
    let stranger = node.path("ferry/jobs/not-a-job");
    std::fs::write(&stranger, "keep").unwrap();
    node.jobs.clean(&spec.id, right).await.unwrap();
    assert!(stranger.exists() && !node.job_file(&spec.id, "").exists());
    assert!(node.jobs.list().await.unwrap().is_empty());
    // A clean that was cut half way is finished by the next, and the job never looks as if it had not run.
    let spec = node.spec("exit 0");
    node.jobs.start(&spec).await.unwrap();
    node.until(&spec.id, |state| state.is_final()).await;
    std::fs::rename(node.job_file(&spec.id, ""), node.path(&format!("ferry/jobs/.gone-{}", spec.id))).unwrap();
    node.jobs.clean(&spec.id, Sha256::of(b"")).await.unwrap();
    assert_eq!(std::fs::read_dir(node.path("ferry/jobs")).unwrap().count(), 1);
    assert!(stranger.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_the_job_and_only_the_job() {
    for shell in SHELLS {
        cancel(&Node::with_shell(shell)).await;
    }
}

async fn cancel(node: &Node) {
    let mut bystander = Process::new("sleep").arg("60").spawn().unwrap();
    // Ends on TERM.
    let spec = node.spec("trap 'echo asked; exit 21' TERM; echo up; while :; do sleep 0.1; done");
    node.jobs.start(&spec).await.unwrap();
    while !std::fs::read_to_string(node.job_file(&spec.id, "out")).unwrap().contains("up") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.jobs.cancel(&spec.id, Duration::from_secs(20)).await.unwrap(), State::Done { rc: 21 });
    // Does not: KILL, and the code is still written down.
    let spec = node.spec("trap '' TERM; echo up; (sleep 70; echo late) & while :; do sleep 0.1; done");
    node.jobs.start(&spec).await.unwrap();
    while !std::fs::read_to_string(node.job_file(&spec.id, "out")).unwrap().contains("up") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.jobs.cancel(&spec.id, Duration::from_secs(1)).await.unwrap(), State::Done { rc: 137 });
    // Ended already: its own code stays.
    assert_eq!(node.jobs.cancel(&spec.id, Duration::from_secs(1)).await.unwrap(), State::Done { rc: 137 });
    // A pid file that names a bystander brings him nothing.
    std::fs::remove_file(node.job_file(&spec.id, "rc")).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let line = format!("{} {} {} 5 5 end\n", boot.trim(), bystander.id(), stat(bystander.id()).1);
    std::fs::write(node.job_file(&spec.id, "pid"), line).unwrap();
    assert_eq!(node.jobs.cancel(&spec.id, Duration::from_secs(1)).await.unwrap(), State::Lost(Lost::Died));
    assert!(bystander.try_wait().unwrap().is_none(), "a bystander was killed");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    // Absent: nothing to do.
    assert_eq!(node.jobs.cancel(&JobId::random(), Duration::from_secs(1)).await.unwrap(), State::Absent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_cancelled_before_it_began_never_begins() {
    let mut node = Node::new();
    node.jobs.manner.start = Duration::from_secs(1);
    let spec = node.spec("exit 0");
    let good = std::mem::replace(&mut node.jobs.manner.shell, "/nonexistent/sh".to_owned());
    assert_eq!(node.jobs.start(&spec).await.unwrap(), State::NotStarted);
    node.jobs.manner.shell = good;
    assert_eq!(node.jobs.cancel(&spec.id, Duration::from_secs(1)).await.unwrap(), State::Done { rc: 143 });
    assert_eq!(node.jobs.start(&spec).await.unwrap(), State::Done { rc: 143 });
    assert_eq!(node.runs(), 0);
    // And one that was only written down is started by starting again.
    let spec = node.spec("exit 0");
    let good = std::mem::replace(&mut node.jobs.manner.shell, "/nonexistent/sh".to_owned());
    assert_eq!(node.jobs.start(&spec).await.unwrap(), State::NotStarted);
    node.jobs.manner.shell = good;
    node.jobs.start(&spec).await.unwrap();
    assert_eq!(node.until(&spec.id, |state| state.is_final()).await, State::Done { rc: 0 });
    assert_eq!(node.runs(), 1);
}

/// A node that has busybox and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_busybox_only() {
    let mut node = Node::new();
    let home = node.dir.path().to_str().unwrap().to_owned();
    let mounts = Mounts::new(&format!(
        "R={home}/root; B=$(command -v busybox); mkdir -p $R/bin $R/proc $R/dev $R/etc $R{home}; cp $B $R/bin/busybox; \
         for l in $(ldd $B 2>/dev/null | tr ' \t' '\n\n' | grep ^/); do mkdir -p $R${{l%/*}}; cp -L $l $R$l; done; \
         for a in $($B --list); do [ $a = busybox ] || ln -s busybox $R/bin/$a; done; \
         mount --rbind /proc $R/proc; mount --bind /dev $R/dev; mount --bind {home} $R{home}"
    ));
    node.jobs.session =
        node.through(&format!("exec nsenter --mount --target {} chroot {home}/root /bin/sh -c \"$1\"", mounts.0.id()));
    let all: Vec<u8> = (0..=255).cycle().take(700_000).map(|byte: u32| byte as u8).collect();
    std::fs::write(node.path("bytes"), &all).unwrap();
    let spec = node.spec(&format!("cat {home}/bytes; ls /usr/bin /sbin >/dev/null 2>&1 && exit 99; exit 11"));
    node.jobs.start(&spec).await.unwrap();
    let (state, output) = node.whole(&spec.id).await;
    assert_eq!(state, State::Done { rc: 11 });
    assert!(output == all);
    let mut tail = Vec::new();
    node.jobs
        .follow(&spec.id, 300_001, |what| {
            if let Follow::Bytes(bytes) = what {
                tail.extend_from_slice(bytes)
            }
        })
        .await
        .unwrap();
    assert!(tail == all[300_001..]);
    let slow = node.spec("sleep 60");
    assert!(matches!(node.jobs.start(&slow).await.unwrap(), State::Running { .. }));
    assert_eq!(node.jobs.list().await.unwrap().len(), 2);
    assert_eq!(node.jobs.cancel(&slow.id, Duration::from_secs(5)).await.unwrap(), State::Done { rc: 143 });
    let (sum, _) = node.jobs.log_sha256(&spec.id).await.unwrap();
    assert_eq!(sum, Some(Sha256::of(&all)));
    let watch = take(&node, "anna", pace()).await.unwrap();
    assert_eq!(busy(take(&node, "bert", pace()).await), owner("anna"));
    watch.release().await;
    node.jobs.clean(&slow.id, Sha256::of(b"")).await.unwrap();
    node.jobs.clean(&spec.id, sum.unwrap()).await.unwrap();
    assert!(!node.path("ferry").exists());
}

// ── the watch ──

fn owner(who: &str) -> Owner {
    Owner {
        who: who.to_owned(),
        machine: "laptop".to_owned(),
        since: jiff::Timestamp::from_second(1_763_800_000).unwrap(),
        run: "20251122T082640Z-7f3a".parse::<RunId>().unwrap(),
        pid: 4711,
        command: "ferry backup prod --label 'before it''s upgraded'".to_owned(),
    }
}

fn pace() -> Pace {
    Pace { beat: Duration::from_millis(300), limit: Duration::from_secs(3), take: Duration::from_secs(60) }
}

async fn take(node: &Node, who: &str, pace: Pace) -> Result<Watch, NotTaken> {
    let cluster: ClusterName = "prod".parse().unwrap();
    Watch::take_with(
        std::slice::from_ref(&node.jobs.session),
        1,
        &node.jobs.base,
        &cluster,
        &owner(who),
        pace,
        &node.jobs.manner,
    )
    .await
}

async fn take_soon(node: &Node, who: &str, most: Duration) -> Watch {
    let end = Instant::now() + most;
    loop {
        match take(node, who, pace()).await {
            Ok(watch) => return watch,
            Err(NotTaken::Failed(failure)) => panic!("{failure:?}"),
            Err(NotTaken::Busy(_)) => assert!(Instant::now() < end, "still held"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn busy(taken: Result<Watch, NotTaken>) -> Owner {
    match taken {
        Err(NotTaken::Busy(busy)) => busy.owner.clone().unwrap_or_else(|| panic!("{busy:?}")),
        other => panic!("{other:?}"),
    }
}

/// Processes whose environment has this mark.
fn marked(mark: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environ.windows(mark.len()).any(|window| window == mark.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// The processes that have this file open.
fn holders(file: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        if open.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == file)) {
            found.push(pid);
        }
    }
    found
}

async fn lost(watch: &Watch) {
    tokio::time::timeout(Duration::from_secs(30), watch.lost()).await.expect("the loss is told");
    assert!(watch.is_lost());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_one_is_told_who_has_the_watch() {
    for shell in SHELLS {
        for flock in [true, false] {
            let mut node = Node::with_shell(shell);
            node.jobs.manner.flock = flock;
            let mark = format!("FERRY_TEST_MARK={}", JobId::random());
            node.jobs.session = node.through(&format!("export {mark}; exec {shell} -c \"$1\""));
            let first = take(&node, "anna", pace()).await.unwrap();
            assert_eq!(first.hosts(), ["node"]);
            assert_eq!(busy(take(&node, "bert", pace()).await), owner("anna"), "{shell} {flock}");
            // It is held for longer than the limit, because we speak.
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert!(!first.is_lost(), "{shell} {flock}");
            assert_eq!(busy(take(&node, "bert", pace()).await), owner("anna"), "{shell} {flock}");
            assert!(!marked(&mark).is_empty());
            first.release().await;
            let second = take(&node, "bert", pace()).await.unwrap();
            let failure = take(&node, "carl", pace()).await.unwrap_err().into_failure();
            assert!(failure.kind == Kind::Refused && failure.seen.unwrap().contains("bert on laptop since 2025-"));
            drop(second);
            take_soon(&node, "carl", Duration::from_secs(10)).await.release().await;
            let end = Instant::now() + Duration::from_secs(10);
            while !marked(&mark).is_empty() {
                assert!(Instant::now() < end, "{shell} {flock}: left over {:?}", marked(&mark));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(!node.path("ferry").exists(), "{shell} {flock}: files are left");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_holder_frees_the_watch_at_once() {
    for flock in [true, false] {
        let mut node = Node::new();
        node.jobs.manner.flock = flock;
        let slow = Pace { limit: Duration::from_secs(600), ..pace() };
        let first = take(&node, "anna", slow).await.unwrap();
        let pids = if flock {
            holders(&node.path("ferry/locks/prod.watch.lock"))
        } else {
            let text = std::fs::read_to_string(node.path("ferry/locks/prod.watch.lock.pid")).unwrap();
            vec![text.split_whitespace().nth(1).unwrap().parse().unwrap()]
        };
        assert_eq!(pids.len(), 1, "only the holder has the lock open: {pids:?}");
        kill("KILL", &pids[0].to_string());
        take_soon(&node, "bert", Duration::from_secs(5)).await.release().await;
        lost(&first).await;
    }
}

/// Another ferry that has ended removes the empty folders that both use, between any two steps of ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_another_removes_is_made_again() {
    for shell in SHELLS {
        let node = Node::with_shell(shell);
        let folder = node.path("ferry");
        // How often it may do so yet: on a busy machine it would else be quicker than we, every time.
        let left = Arc::new(AtomicI32::new(0));
        let removing = std::thread::spawn({
            let left = left.clone();
            move || {
                let mut removed = 0;
                for step in 0.. {
                    let names: &[&str] = if step % 3 == 0 { &["jobs", "locks", ""] } else { &["locks"] };
                    for name in names {
                        if left.load(Ordering::SeqCst) > 0 && std::fs::remove_dir(folder.join(name)).is_ok() {
                            left.fetch_sub(1, Ordering::SeqCst);
                            removed += 1;
                        }
                    }
                    if left.load(Ordering::SeqCst) < 0 {
                        break;
                    }
                    std::thread::sleep(Duration::from_micros(step * 1_700 % 5_000));
                }
                removed
            }
        });
        for _ in 0..12 {
            left.store(8, Ordering::SeqCst);
            take_soon(&node, "anna", Duration::from_secs(15)).await.release().await;
        }
        for _ in 0..3 {
            left.store(8, Ordering::SeqCst);
            let spec = node.spec("echo done");
            node.jobs.start(&spec).await.unwrap();
            let (state, said) = node.whole(&spec.id).await;
            assert_eq!(state, State::Done { rc: 0 }, "{shell}");
            assert_eq!(said, b"done\n");
            let mut sum = Hasher::default();
            sum.update(&said);
            node.jobs.clean(&spec.id, sum.finish()).await.unwrap();
        }
        left.store(-1, Ordering::SeqCst);
        assert!(removing.join().unwrap() > 0, "{shell}: nothing was removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_holder_is_free_after_the_limit_and_knows_it() {
    for shell in SHELLS {
        let mut node = Node::with_shell(shell);
        // The writer in between is stopped: the connection is there and says nothing.
        let note = node.path("writer");
        node.jobs.session = node.through(&format!(
            "/bin/sh -c 'echo $$ >{0}.new; mv {0}.new {0}; exec cat' | {shell} -c \"$1\"",
            note.display()
        ));
        let first = take(&node, "anna", pace()).await.unwrap();
        let writer = std::fs::read_to_string(&note).unwrap().trim().to_owned();
        tokio::time::sleep(Duration::from_secs(1)).await;
        kill("STOP", &writer);
        node.jobs.session = node.through(&format!("exec {shell} -c \"$1\""));
        let stopped = Instant::now();
        assert_eq!(busy(take(&node, "bert", pace()).await).who, "anna");
        let second = take_soon(&node, "bert", Duration::from_secs(15)).await;
        assert!(stopped.elapsed() > Duration::from_secs(1), "{shell}: freed too early");
        lost(&first).await;
        kill("CONT", &writer);
        second.release().await;
        drop(first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_forty_that_race_one_gets_the_watch() {
    for flock in [true, false] {
        let mut node = Node::new();
        node.jobs.manner.flock = flock;
        // A stale lock lies in the way of all.
        if !flock {
            let stale = take(&node, "old", pace()).await.unwrap();
            let text = std::fs::read_to_string(node.path("ferry/locks/prod.watch.lock.pid")).unwrap();
            kill("KILL", text.split_whitespace().nth(1).unwrap());
            lost(&stale).await;
        }
        let names: Vec<String> = (0..40).map(|at| format!("op{at}")).collect();
        let slow = Pace { limit: Duration::from_secs(60), ..pace() };
        let all = futures::future::join_all(names.iter().map(|name| take(&node, name, slow))).await;
        let (taken, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        assert_eq!((taken.len(), refused.len()), (1, 39), "flock {flock}: {refused:?}");
        for refusal in refused {
            assert!(matches!(refusal, Err(NotTaken::Busy(_))), "{refusal:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_half_is_enough_and_less_is_not() {
    // Three nodes with one path each of their own behind it.
    let home = Node::new();
    let base = home.path("ferry");
    std::fs::create_dir(&base).unwrap();
    let mut mounts = Vec::new();
    for at in 0..3 {
        let own = home.path(&format!("node{at}"));
        std::fs::create_dir(&own).unwrap();
        mounts.push(Mounts::new(&format!("mount --bind {} {}", own.display(), base.display())));
    }
    let sessions: Vec<Session> = mounts.iter().map(|mounts| home.through(&mounts.enter())).collect();
    let dead =
        fake::Reply { when: "w_main".into(), out: Vec::new(), err: Vec::new(), exit: Exit::Lost("no route".into()) };
    let down = || Session::Fake(fake::FakeSession::new("down", vec![dead.clone()]));
    let cluster: ClusterName = "prod".parse().unwrap();
    let base = base.to_str().unwrap();
    let take = async |who: &str, nodes: [Session; 3]| {
        Watch::take_with(&nodes, 2, base, &cluster, &owner(who), pace(), &manner()).await
    };
    let [a, b, c] = [sessions[0].clone(), sessions[1].clone(), sessions[2].clone()];
    let first = take("anna", [a.clone(), down(), c.clone()]).await.unwrap();
    assert_eq!((first.hosts().len(), first.passed().len()), (2, 1));
    // One who sees all three meets her at the first; one who does not see that one, at the third, and lets the second go.
    assert_eq!(busy(take("bert", [a.clone(), b.clone(), c.clone()]).await).who, "anna");
    assert_eq!(busy(take("bert", [down(), b.clone(), c.clone()]).await).who, "anna");
    first.release().await;
    let third = take("carl", [a.clone(), b.clone(), c.clone()]).await.unwrap();
    assert_eq!(third.hosts().len(), 3);
    let kill_on = |at: usize| {
        let pids = holders(&home.path(&format!("node{at}/locks/prod.watch.lock")));
        let pids = if pids.is_empty() { holders(&home.path("ferry/locks/prod.watch.lock")) } else { pids };
        let of: Vec<u32> = pids
            .into_iter()
            .filter(|pid| {
                std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap()
                    == std::fs::read_link(format!("/proc/{}/ns/mnt", mounts[at].0.id())).unwrap()
            })
            .collect();
        assert_eq!(of.len(), 1);
        kill("KILL", &of[0].to_string());
    };
    kill_on(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!third.is_lost());
    kill_on(2);
    lost(&third).await;
    // Dropping lets go in the background; who comes next must not meet what is left of it.
    third.release().await;
    match take("dora", [down(), b.clone(), down()]).await {
        Err(NotTaken::Failed(failure)) => {
            assert_eq!(failure.kind, Kind::Unreachable);
            assert_eq!(failure.more.len(), 2);
        }
        other => panic!("{other:?}"),
    }
    take("emil", [a, b, c]).await.unwrap().release().await;
}

/// Follows a job and answers it: each time that something waits and the output since the last answer ends
/// in `question`, with the next of `answers`. Returns how it ended, its output, and what was said of waiting.
async fn ask_and_answer(
    node: &Node,
    id: &JobId,
    question: &str,
    answers: &[&str],
) -> (State, String, Vec<Option<bool>>) {
    let mut all = Vec::new();
    let mut waits = Vec::new();
    let (mut seq, mut from) = (0, 0);
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        assert!(Instant::now() < end, "{}", String::from_utf8_lossy(&all));
        // A follower cannot answer while it follows: it is left and followed anew, as after a cut.
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let offset = all.len() as u64;
        let follow = node.jobs.follow(id, offset, |what| match what {
            Follow::Bytes(bytes) => all.extend_from_slice(bytes),
            Follow::Heart { waits: now, offset, .. } => {
                assert_eq!(offset, all.len() as u64);
                waits.push(now);
                let fresh = String::from_utf8_lossy(&all[from..]).into_owned();
                if now == Some(true) && fresh.trim_end().ends_with(question) {
                    tell.send(()).unwrap();
                }
            }
        });
        let followed = tokio::select! {
            state = follow => Some(state.unwrap()),
            Some(()) = told.recv() => None,
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("{question} {answers:?}"),
        };
        if let Some(state) = followed {
            assert_eq!(seq as usize, answers.len(), "{}", String::from_utf8_lossy(&all));
            return (state, String::from_utf8(all).unwrap(), waits);
        }
        assert_eq!(node.jobs.answer(id, seq, answers[seq as usize]).await.unwrap(), Answered::Now);
        seq += 1;
        from = all.len();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_question_is_seen_and_answered() {
    let bash = "bash -c 'read -r -p \"Erase? (y/n) \" x; echo \"got <$x>\"; test \"$x\" = y'";
    let forms: [(&str, &str, &str, &[&str]); 6] = [
        ("printf", "printf 'Erase? (y/n) '; read -r x; printf 'got <%s>\\n' \"$x\"; test \"$x\" = y", "(y/n)", &["y"]),
        (
            "a line",
            "echo 'Erase? (y/n)'; read -r x; printf 'got <%s>\\n' \"$x\"",
            "(y/n)\n",
            &["  a 'b' \"c\" $HOME `id` \\n Ä  "],
        ),
        ("stderr", "printf 'Erase? (y/n) ' >&2; read -r x; printf 'got <%s>\\n' \"$x\"", "(y/n)", &["y"]),
        (
            "repeated",
            "x=; until [ \"$x\" = yes ]; do printf 'yes or no? '; read -r x; done; printf 'got <%s>\\n' \"$x\"",
            "no?",
            &["", "y", "yes"],
        ),
        (
            "stdin eaten",
            "timeout 1 cat >/dev/null; printf 'Erase? (y/n) '; read -r x; printf 'got <%s>\\n' \"$x\"",
            "(y/n)",
            &["y"],
        ),
        ("bash read -p", bash, "(y/n)", &["y"]),
    ];
    for shell in SHELLS {
        let node = Node::with_shell(shell);
        assert!(node.jobs.has_terminal().await.unwrap());
        for input in [Input::Fifo, Input::Terminal] {
            let jobs = forms.iter().map(async |(name, script, question, answers)| {
                if *name == "bash read -p" && input == Input::Fifo {
                    return;
                }
                let spec = Spec { input, kind: format!("ask-{}", name.replace(' ', "-")), ..node.spec(script) };
                node.jobs.start(&spec).await.unwrap();
                let (state, output, waits) = ask_and_answer(&node, &spec.id, question.trim_end(), answers).await;
                let what = format!("{shell} {input:?} {name}: {output:?} {waits:?}");
                assert_eq!(state, State::Done { rc: 0 }, "{what}");
                let last = answers.last().unwrap();
                let got = if *name == "a line" { last.trim() } else { last };
                assert!(output.contains(&format!("got <{got}>")), "{what}");
                assert_eq!(output.contains("\r\n"), input == Input::Terminal, "{what}");
                let given = node.jobs.answers(&spec.id).await.unwrap();
                assert_eq!(given.len(), answers.len());
                for (at, given) in given.iter().enumerate() {
                    assert_eq!(
                        (given.seq as usize, given.text.as_str(), given.written),
                        (at, answers[at], Written::Yes)
                    );
                }
                // Also when the job is over, what was answered is told, and nothing is written.
                let again = node.jobs.answer(&spec.id, 0, "other").await.unwrap();
                assert_eq!(again, Answered::Before(answers[0].to_owned()));
                let failure = node.jobs.answer(&spec.id, 99, "other").await.unwrap_err();
                assert_eq!(failure.kind, Kind::Refused, "{failure:?}");
                let (sum, _) = node.jobs.log_sha256(&spec.id).await.unwrap();
                node.jobs.clean(&spec.id, sum.unwrap()).await.unwrap();
            });
            futures::future::join_all(jobs).await;
        }
        assert!(!node.path("ferry").exists(), "{shell}: something is left");
    }
}

/// Follows until the heart says this of waiting; how long that took.
async fn until_waits(node: &Node, id: &JobId, wanted: Option<bool>) -> Duration {
    let began = Instant::now();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let follow = node.jobs.follow(id, 0, |what| {
        if let Follow::Heart { waits, .. } = what
            && waits == wanted
        {
            tell.send(()).unwrap();
        }
    });
    tokio::select! {
        state = follow => panic!("it ended: {state:?}"),
        Some(()) = told.recv() => began.elapsed(),
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("never {wanted:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_told_only_of_one_that_waits() {
    // (script, whether it is said of it that it waits)
    let python = "python3 -c 'import threading, sys
t = threading.Thread(target=sys.stdin.readline); t.start(); t.join()'";
    let cases: [(&str, bool); 12] = [
        ("sleep 60", false),
        ("while :; do printf x; n=0; while [ $n -lt 2000 ]; do n=$((n+1)); done; done", false),
        ("x=$(sleep 60); echo $x", false),
        ("sleep 60 | cat", false),
        ("exec </dev/null; sleep 60 | while read -r x; do :; done", false),
        ("mkfifo /tmp/ferry-$$; cat /tmp/ferry-$$ & sleep 60; rm /tmp/ferry-$$; kill $!", false),
        ("read -r x", true),
        ("sleep 1; printf 'sure? '; read -r x", true),
        ("(sleep 1; head -c 1)", true),
        ("bash -c 'read -r -t 20 x'", true),
        ("busybox sh -c 'read -r -t 20 x'", true),
        (python, true),
    ];
    for input in [Input::Fifo, Input::Terminal] {
        for flock in [true, false] {
            let mut node = Node::with_shell(if flock { "dash" } else { "busybox sh" });
            node.jobs.manner.flock = flock;
            // Waiting is told when it begins, not with the next heart.
            node.jobs.manner.heart = Duration::from_secs(30);
            node.jobs.manner.silence = Duration::from_secs(60);
            let all = cases.iter().enumerate().map(async |(at, (script, wanted))| {
                let spec = Spec { input, kind: format!("waits-{at}"), ..node.spec(script) };
                // A dozen at once on a busy machine: whose answer came too late is started once more, by the same id.
                let mut started = node.jobs.start(&spec).await;
                for _ in 0..5 {
                    if !started.as_ref().is_err_and(|failure| failure.again) {
                        break;
                    }
                    started = node.jobs.start(&spec).await;
                }
                started.unwrap();
                let mut said = Vec::new();
                let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
                let follow = node.jobs.follow(&spec.id, 0, |what| {
                    if let Follow::Heart { waits, .. } = what {
                        said.push(waits);
                        tell.send(waits).unwrap();
                    }
                });
                // What waits is told sooner or later, whatever else the machine does; of the others nothing more comes for a while.
                let enough = async {
                    while told.recv().await.is_some_and(|waits| *wanted && waits != Some(true)) {}
                    tokio::time::sleep(Duration::from_secs(if *wanted { 1 } else { 3 })).await;
                };
                tokio::select! {
                    _ = follow => {}
                    () = enough => {}
                    () = tokio::time::sleep(Duration::from_secs(90)) => {}
                }
                let what = format!("{input:?} flock {flock} {script}: {said:?}");
                assert!(!said.is_empty() && !said.contains(&None), "{what}");
                assert_eq!(said.contains(&Some(true)), *wanted, "{what}");
                if *wanted {
                    assert_eq!(said.last(), Some(&Some(true)), "{what}");
                }
                node.jobs.cancel(&spec.id, Duration::from_secs(2)).await.unwrap();
            });
            futures::future::join_all(all).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_input_says_nothing_of_waiting_and_takes_no_answer() {
    let node = Node::new();
    let spec = node.spec("read -r x; sleep 3");
    node.jobs.start(&spec).await.unwrap();
    until_waits(&node, &spec.id, None).await;
    let failure = node.jobs.answer(&spec.id, 0, "y").await.unwrap_err();
    assert_eq!(failure.kind, Kind::Refused, "{failure:?}");
    assert_eq!(node.jobs.answer(&JobId::random(), 0, "y").await.unwrap_err().kind, Kind::Refused);
    assert_eq!(node.jobs.answers(&JobId::random()).await.unwrap_err().kind, Kind::Refused);
    assert!(node.jobs.answers(&spec.id).await.unwrap().is_empty());
    for bad in ["a\nb", "\u{3}", "\u{1b}[A", "\u{85}", &"x".repeat(1025)] {
        assert_eq!(node.jobs.answer(&spec.id, 0, bad).await.unwrap_err().kind, Kind::CouldNotStart, "{bad:?}");
    }
    assert!(node.jobs.answers(&spec.id).await.unwrap().is_empty());
    node.jobs.cancel(&spec.id, Duration::from_secs(1)).await.unwrap();
}

/// Notes each line that it reads in `heard`, until one says `end`.
fn listener(node: &Node) -> String {
    let heard = node.path("heard");
    format!("while read -r x; do printf '%s\\n' \"$x\" >>{}; [ \"$x\" = end ] && exit 0; done; exit 9", heard.display())
}

fn heard(node: &Node) -> Vec<String> {
    std::fs::read_to_string(node.path("heard")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_answers_of_one_number_arrive_once() {
    for (shell, input) in [("dash", Input::Fifo), ("bash --posix", Input::Terminal), ("busybox sh", Input::Fifo)] {
        let node = Node::with_shell(shell);
        let spec = Spec { input, ..node.spec(&listener(&node)) };
        let starts = futures::future::join_all((0..40).map(|_| node.jobs.start(&spec))).await;
        assert!(starts.iter().all(|state| matches!(state, Ok(State::Running { .. }))), "{shell}: {starts:?}");
        let texts: Vec<String> = (0..40).map(|at| format!("answer {at}")).collect();
        let all = futures::future::join_all(texts.iter().map(|text| node.jobs.answer(&spec.id, 7, text))).await;
        let now: Vec<usize> = (0..40).filter(|at| *all[*at].as_ref().unwrap() == Answered::Now).collect();
        assert!(now.len() <= 1, "{shell}: {all:?}");
        let given = node.jobs.answers(&spec.id).await.unwrap();
        assert_eq!((given.len(), given[0].seq, given[0].written), (1, 7, Written::Yes));
        for (at, answered) in all.into_iter().enumerate() {
            if !now.contains(&at) {
                assert_eq!(answered.unwrap(), Answered::Before(given[0].text.clone()), "{shell}");
            }
        }
        // In any order of numbers: each is a line.
        assert_eq!(node.jobs.answer(&spec.id, 3, "end").await.unwrap(), Answered::Now);
        assert_eq!(node.until(&spec.id, |state| state.is_final()).await, State::Done { rc: 0 });
        assert_eq!(heard(&node), [given[0].text.as_str(), "end"], "{shell}");
        assert_eq!(node.runs(), 1, "{shell}");
        let numbers: Vec<u32> = node.jobs.answers(&spec.id).await.unwrap().iter().map(|given| given.seq).collect();
        assert_eq!(numbers, [3, 7]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_anywhere_is_given_once() {
    let mut node = Node::new();
    let spec = Spec { input: Input::Fifo, ..node.spec(&listener(&node)) };
    node.jobs.start(&spec).await.unwrap();
    let good = node.jobs.session.clone();
    let rounds: u32 = if std::env::var_os("FERRY_LONG").is_some() { 600 } else { 18 };
    let (mut unknown, mut cut) = (Vec::new(), 0);
    for seq in 0..rounds {
        let late: u16 = rand::random();
        let text = format!("answer {seq}");
        // The script does not arrive whole; its shell is killed in the middle; what it says is lost.
        node.jobs.session = match seq % 3 {
            0 => node.through(&format!("head -c {late} | /bin/sh -c \"$1\"")),
            1 => node.through(&format!(
                "setsid /bin/sh -c \"$1\" <&0 & p=$!; sleep 0.{:03}; kill -9 -$p 2>/dev/null; wait",
                late % 120
            )),
            _ => node.through(&format!("/bin/sh -c \"$1\" | dd bs=1 count={} 2>/dev/null", 40 + late % 80)),
        };
        match node.jobs.answer(&spec.id, seq, &text).await {
            Ok(Answered::Now) => {}
            Ok(other) => panic!("{other:?}"),
            Err(failure) => {
                let lost = matches!(failure.kind, Kind::Unreachable | Kind::Unknown);
                // Killed before its shell began, it is told as such, and asked again all the same.
                assert!(lost || failure.again, "{failure:?}");
                cut += 1;
            }
        }
        node.jobs.session = good.clone();
        match node.jobs.answer(&spec.id, seq, &text).await.unwrap() {
            Answered::Now => {}
            Answered::Before(before) => assert_eq!(before, text),
            Answered::Unknown(before) => {
                assert_eq!(before, text);
                unknown.push(text);
            }
        }
    }
    assert_eq!(node.jobs.answer(&spec.id, rounds, "end").await.unwrap(), Answered::Now);
    assert_eq!(node.until(&spec.id, |state| state.is_final()).await, State::Done { rc: 0 });
    let heard = heard(&node);
    for seq in 0..rounds {
        let text = format!("answer {seq}");
        let times = heard.iter().filter(|line| **line == text).count();
        assert!(times == 1 || times == 0 && unknown.contains(&text), "{text} {times} times; unknown: {unknown:?}");
    }
    assert!(cut > rounds / 3, "{cut} cuts of {rounds}");
    println!("{cut} of {rounds} cut, {} unknown", unknown.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_steps_of_an_answer() {
    let node = Node::new();
    let spec = Spec { input: Input::Fifo, ..node.spec(&listener(&node)) };
    node.jobs.start(&spec).await.unwrap();
    let put = |name: &str, text: &str| std::fs::write(node.job_file(&spec.id, name), text).unwrap();
    // Claimed and not written: whoever comes next writes the first text.
    put("answer-0", "first");
    put("answer-5.tmp-00ff", "half");
    assert_eq!(node.jobs.answers(&spec.id).await.unwrap()[0].written, Written::No);
    assert_eq!(node.jobs.answer(&spec.id, 0, "second").await.unwrap(), Answered::Before("first".to_owned()));
    // Perhaps written: never again.
    put("answer-1", "third");
    put("answer-1.write", "");
    assert_eq!(node.jobs.answer(&spec.id, 1, "third").await.unwrap(), Answered::Unknown("third".to_owned()));
    assert_eq!(node.jobs.answer(&spec.id, 2, "").await.unwrap(), Answered::Now);
    // What is not read stays bounded: nobody blocks on a full pipe.
    let seq = std::cell::Cell::new(3);
    let long = "y".repeat(1024);
    kill("STOP", &format!("-{}", node.supervisor(&spec.id)));
    let failure = loop {
        match node.jobs.answer(&spec.id, seq.get(), &long).await {
            Ok(answered) => assert_eq!(answered, Answered::Now),
            Err(failure) => break failure,
        }
        seq.set(seq.get() + 1);
    };
    assert!(failure.kind == Kind::Refused && (30..40).contains(&seq.get()), "{failure:?} {}", seq.get());
    kill("CONT", &format!("-{}", node.supervisor(&spec.id)));
    let end = Instant::now() + Duration::from_secs(20);
    while heard(&node).len() < seq.get() as usize - 1 {
        assert!(Instant::now() < end, "{:?}", heard(&node));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(heard(&node)[..2], ["first".to_owned(), String::new()]);
    node.jobs.cancel(&spec.id, Duration::from_secs(1)).await.unwrap();
    // Cleaning knows these files by name, and the FIFO by what it is.
    let (sum, _) = node.jobs.log_sha256(&spec.id).await.unwrap();
    put("answer-x", "");
    assert_eq!(node.jobs.clean(&spec.id, sum.unwrap()).await.unwrap_err().kind, Kind::Refused);
    std::fs::remove_file(node.job_file(&spec.id, "answer-x")).unwrap();
    std::fs::remove_file(node.job_file(&spec.id, "in")).unwrap();
    put("in", "");
    assert_eq!(node.jobs.clean(&spec.id, sum.unwrap()).await.unwrap_err().kind, Kind::Refused);
    std::fs::remove_file(node.job_file(&spec.id, "in")).unwrap();
    node.jobs.clean(&spec.id, sum.unwrap()).await.unwrap();
    assert!(!node.path("ferry").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_input_never_ends_and_needs_no_writer() {
    let all =
        SHELLS.iter().flat_map(|shell| [(shell, Input::Fifo), (shell, Input::Terminal)]).map(async |(shell, input)| {
            let node = Node::with_shell(shell);
            let spec = Spec { input, ..node.spec("timeout 3 sh -c 'read -r x; echo \"read ended $?\"'; exit 5") };
            let began = Instant::now();
            node.jobs.start(&spec).await.unwrap();
            let (state, output) = node.whole(&spec.id).await;
            assert_eq!(state, State::Done { rc: 5 }, "{shell} {input:?}");
            assert!(began.elapsed() >= Duration::from_secs(3), "{shell} {input:?}");
            assert!(output.is_empty(), "{shell} {input:?}: {}", String::from_utf8_lossy(&output));
            // Ours alone, like every file of the folder.
            let mode = std::fs::symlink_metadata(node.job_file(&spec.id, "in")).unwrap().permissions().mode();
            assert_eq!(mode & 0o177_777, 0o010_600, "{mode:o}");
        });
    futures::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_killed_while_it_is_asked() {
    for input in [Input::Fifo, Input::Terminal] {
        let node = Node::new();
        let spec = Spec { input, ..node.spec("echo $$; printf 'sure? '; read -r x; echo \"got <$x>\"") };
        node.jobs.start(&spec).await.unwrap();
        until_waits(&node, &spec.id, Some(true)).await;
        kill("KILL", &node.supervisor(&spec.id));
        assert_eq!(node.until(&spec.id, |state| !matches!(state, State::Running { .. })).await, State::Orphan);
        // It still waits: its input did not end with the supervisor. Nothing is answered to a job that nobody watches.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(node.jobs.state(&spec.id).await.unwrap(), State::Orphan, "{input:?}");
        assert_eq!(node.jobs.answer(&spec.id, 0, "y").await.unwrap_err().kind, Kind::Refused);
        until_waits(&node, &spec.id, None).await;
        let out = std::fs::read_to_string(node.job_file(&spec.id, "out")).unwrap();
        assert!(!out.contains("got"), "{out}");
        kill("KILL", out.lines().next().unwrap().trim());
        let state = node.until(&spec.id, |state| state.is_final()).await;
        assert_eq!(state, State::Lost(Lost::Died), "{input:?}");
        assert_eq!(node.jobs.start(&spec).await.unwrap(), state);
        assert_eq!(node.runs(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_while_it_is_asked() {
    let all =
        SHELLS.iter().flat_map(|shell| [(shell, Input::Fifo), (shell, Input::Terminal)]).map(async |(shell, input)| {
            for (trap, rc) in [("", 143), ("trap 'exit 21' TERM;", 21), ("trap '' TERM HUP;", 137)] {
                let node = Node::with_shell(shell);
                // A child that works on in a session of its own ends as well.
                let sleep = format!("sleep {}.{rc}", 100_000 + rand::random::<u32>() % 1_000_000);
                let script = format!("{trap} setsid {sleep} & printf 'sure? '; while :; do read -r x; done");
                let spec = Spec { input, ..node.spec(&script) };
                node.jobs.start(&spec).await.unwrap();
                until_waits(&node, &spec.id, Some(true)).await;
                let running = Process::new("pgrep").args(["-f", "--", &sleep]).output().unwrap().status;
                assert!(running.success(), "{sleep} does not run");
                let state = node.jobs.cancel(&spec.id, Duration::from_secs(2)).await.unwrap();
                assert_eq!(state, State::Done { rc }, "{shell} {input:?} {trap}");
                for left in [format!("{}/ferry/jobs", node.dir.path().display()), sleep] {
                    let left = Process::new("pgrep").args(["-f", "--", &left]).output().unwrap().stdout;
                    assert_eq!(String::from_utf8_lossy(&left), "", "{shell} {input:?} {trap}");
                }
            }
        });
    futures::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_passes_the_code_on_and_the_world_is_clean() {
    for shell in SHELLS {
        for flock in [true, false] {
            let mut node = Node::with_shell(shell);
            node.jobs.manner.flock = flock;
            for (script, rc) in
                [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("nonsense-x", 127)]
            {
                let spec = Spec { input: Input::Terminal, ..node.spec(script) };
                let before = node.runs();
                node.jobs.start(&spec).await.unwrap();
                let (state, output) = node.whole(&spec.id).await;
                assert_eq!(state, State::Done { rc }, "{shell} {script}: {}", String::from_utf8_lossy(&output));
                assert_eq!(node.jobs.start(&spec).await.unwrap(), State::Done { rc });
                assert_eq!(node.runs(), before + 1, "{shell} {script}");
            }
        }
    }
    let node = Node::new();
    let mut spec = Spec { input: Input::Terminal, ..node.spec("test -t 0 && test -t 1 && env; pwd; umask; exit 4") };
    spec.umask = 0o027;
    node.jobs.start(&spec).await.unwrap();
    let (state, output) = node.whole(&spec.id).await;
    assert_eq!(state, State::Done { rc: 4 });
    let text = String::from_utf8(output).unwrap();
    assert!(
        text.ends_with("/\r\n0027\r\n") && text.contains("TERM=dumb\r\n") && text.contains("LC_ALL=C\r\n"),
        "{text}"
    );
    for name in text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name) {
        assert!(
            ["HOME", "LC_ALL", "LOGNAME", "PATH", "PWD", "SHELL", "USER", "TERM", "_", "OLDPWD", "SHLVL"]
                .contains(&name),
            "{name} in {text}"
        );
    }
    // Much output, not one byte lost, with the terminal's line ends.
    let spec = Spec { input: Input::Terminal, ..node.spec("seq 1 60000; exit 3") };
    node.jobs.start(&spec).await.unwrap();
    let (state, output) = node.whole(&spec.id).await;
    assert_eq!(state, State::Done { rc: 3 });
    let expected: String = (1..=60_000).map(|at| format!("{at}\r\n")).collect();
    assert!(output == expected.as_bytes(), "{} bytes of {}", output.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_script_refuses_a_terminal_and_gives_a_fifo() {
    for fake in ["#!/bin/sh\necho 'script: unrecognized option: version' >&2\nexit 1\n", "not even a program"] {
        let mut node = Node::new();
        let path = node.path("script");
        executable(&path, fake);
        let mounts = Mounts::new(&format!("mount --bind {} \"$(command -v script)\"", path.display()));
        node.jobs.session = node.through(&mounts.enter());
        assert!(!node.jobs.has_terminal().await.unwrap());
        let spec = Spec { input: Input::Terminal, ..node.spec("read -r x; test \"$x\" = y") };
        let failure = node.jobs.start(&spec).await.unwrap_err();
        assert!(failure.kind == Kind::Refused && failure.what.contains("terminal"), "{failure:?}");
        assert!(!node.path("ferry").exists() && node.runs() == 0);
        let spec = Spec { input: Input::Fifo, ..spec };
        node.jobs.start(&spec).await.unwrap();
        node.jobs.answer(&spec.id, 0, "y").await.unwrap();
        assert_eq!(node.until(&spec.id, |state| state.is_final()).await, State::Done { rc: 0 });
    }
}

/// A node that answers every control script with these frames, each after `@NONCE `, between greeting and end.
fn scripted(frames: &[&str]) -> fake::FakeSession {
    let lines: String = frames.iter().map(|frame| format!("{{mark}} {frame}\n")).collect();
    said(&format!("Welcome\n{{mark}} hello 1\n{lines}{{mark}} bye\n"), "", Exit::Code(0))
}

fn said(out: &str, err: &str, exit: Exit) -> fake::FakeSession {
    let (out, err) = (out.as_bytes().to_vec(), err.as_bytes().to_vec());
    fake::FakeSession::new("node", vec![fake::Reply { when: "f_nonce=".into(), out, err, exit }])
}

fn jobs_of(session: &fake::FakeSession) -> Jobs {
    Jobs::new(Session::Fake(session.clone()))
}

/// Whatever a node refuses with is said in a sentence, with its own words and what to do.
#[tokio::test]
async fn what_a_node_refuses_is_said_in_sentences() {
    let id = JobId::random();
    for (word, kind, words) in [
        ("dir-symlink", Kind::Refused, &["is a symbolic link", "could run anything", "ferry_node_dir"][..]),
        ("dir-file", Kind::Refused, &["something in the place of the folder", "/var/lib/ferry"]),
        ("dir-owner", Kind::Refused, &["belongs to another user", "could run anything"]),
        ("dir-mode", Kind::Refused, &["others may write", "chmod 0700 /var/lib/ferry"]),
        ("dir-make", Kind::Failed, &["cannot be made", "set ferry_node_dir"]),
        ("room", Kind::Failed, &["no room for a job", "make room"]),
        ("proc", Kind::Failed, &["no readable /proc"]),
        ("flock", Kind::Failed, &["cannot be locked", "a local disk"]),
        ("taken", Kind::Refused, &["belongs to another script"]),
        ("spec", Kind::Unknown, &["did not arrive as it was sent"]),
        ("session", Kind::Refused, &["KillUserProcesses=yes", "logind.conf"]),
        ("gap", Kind::Bad, &["shorter than what was read of it before"]),
        ("orphan", Kind::Refused, &["supervisor is dead", "by hand"]),
        ("running", Kind::Refused, &["has not ended"]),
        ("script", Kind::Refused, &["no script(1) of util-linux", "without a terminal"]),
        ("fifo", Kind::Failed, &["FIFO for the job's input cannot be made"]),
        ("ended", Kind::Refused, &["nothing there would read an answer"]),
        ("input", Kind::Refused, &["takes no input"]),
        ("answers", Kind::Refused, &["too many answers", "a full one would block"]),
        ("digest", Kind::Refused, &["differs from what was collected", "ferry jobs attach"]),
        ("foreign", Kind::Refused, &["not ours; nothing was removed", "move it away"]),
        ("remove", Kind::Failed, &["could not be removed"]),
        ("absent", Kind::Refused, &["there is no such job"]),
    ] {
        let session = scripted(&[&format!("no {word} 5\n\u{1b}[31x")]);
        let failure = jobs_of(&session).state(&id).await.unwrap_err();
        told(&failure, kind, "node", words);
        // What the host says is shown without its control characters.
        assert!(
            failure.seen.as_deref().is_some_and(|seen| !seen.contains('\u{1b}') && seen.contains("31x")),
            "{failure:?}"
        );
        // A job that is followed hears the same.
        assert_eq!(jobs_of(&session).follow(&id, 0, |_| {}).await.unwrap_err(), failure);
    }
    let failure = jobs_of(&scripted(&["no sense 0\n"])).state(&id).await.unwrap_err();
    told(&failure, Kind::Unknown, "node", &["garbled", "sense", "nothing is started twice"]);
}

/// An answer that is not one is never taken for one, by whatever was asked.
#[tokio::test]
async fn what_is_no_answer_is_told_as_garbled() {
    let id = JobId::random();
    let garbled = |failure: Failure, words: &[&str]| {
        assert_eq!(failure.kind, Kind::Unknown, "{failure:?}");
        let seen = failure.seen.clone().unwrap_or_default();
        assert!(words.iter().all(|word| seen.contains(word)), "{words:?}: {failure:?}");
    };
    let done = "state done 0 flock 0\n";
    for (frames, words) in [
        (&[][..], "0 frames instead of a state"),
        (&[done, done], "2 frames instead of a state"),
        (&["digest - 0"], "1 frames instead of a state"),
        (&["state stale - flock 0\n"], "state \"stale\" \"-\""),
        (&["state running x flock 0\n"], "state \"running\" \"x\""),
        (&["state done 0 lock 0\n"], "lock"),
    ] {
        let jobs = jobs_of(&scripted(frames));
        garbled(jobs.state(&id).await.unwrap_err(), &[words]);
        garbled(jobs.cancel(&id, Duration::ZERO).await.unwrap_err(), &[words]);
    }
    let jobs = jobs_of(&scripted(&[done]));
    garbled(jobs.clean(&id, Sha256::of(b"")).await.unwrap_err(), &["done, exit code 0 after cleaning"]);
    garbled(jobs.log_sha256(&id).await.unwrap_err(), &["1 frames instead of a digest"]);
    garbled(jobs.has_terminal().await.unwrap_err(), &["1 frames instead of yes or no"]);
    garbled(jobs.answer(&id, 1, "yes").await.unwrap_err(), &["state done"]);
    garbled(jobs.answers(&id).await.unwrap_err(), &["state done 0"]);
    garbled(jobs.list().await.unwrap_err(), &["state"]);
    garbled(jobs_of(&scripted(&[])).answer(&id, 1, "yes").await.unwrap_err(), &["0 frames instead of an answer"]);
    garbled(jobs_of(&scripted(&["answer perhaps 0\n"])).answer(&id, 1, "yes").await.unwrap_err(), &["answer perhaps"]);
    garbled(jobs_of(&scripted(&["digest xyz 5"])).log_sha256(&id).await.unwrap_err(), &["xyz"]);
    garbled(jobs_of(&scripted(&["digest - five"])).log_sha256(&id).await.unwrap_err(), &["for a number"]);
    for given in ["given x yes 0\n", "given 1 perhaps 0\n", "given 99999999999 yes 0\n"] {
        garbled(jobs_of(&scripted(&[given])).answers(&id).await.unwrap_err(), &["given"]);
    }
    for (job, word) in [
        (format!("job ../{id} done 0 flock 1 5 - 0\n"), ".."),
        (format!("job {id} done 0 flock x 5 - 0\n"), "for a number"),
        (format!("job {id} done 0 flock 1 x - 0\n"), "for a number"),
    ] {
        garbled(jobs_of(&scripted(&[&job])).list().await.unwrap_err(), &[word]);
    }
    // What was written beside a job and cannot be read leaves the job in the list.
    let odd = format!("job {id} lost died pid - 7 xyz 4\nmeta");
    let listed = jobs_of(&scripted(&[&odd])).list().await.unwrap();
    assert_eq!(listed.len(), 1);
    let job = &listed[0];
    assert_eq!((&job.id, job.state, job.descendants_seen, job.out_bytes), (&id, State::Lost(Lost::Died), false, 7));
    assert_eq!((job.kind.as_str(), &job.cluster, &job.meta), ("", &None, &serde_json::Value::Null));
    assert_eq!((job.spec_sha256, job.started), (None, None));
    let jobs = jobs_of(&scripted(&["given 2 no 3\nyes", "given 1 unknown 0\n"]));
    let answers = jobs.answers(&id).await.unwrap();
    assert_eq!(
        answers.iter().map(|one| (one.seq, one.written)).collect::<Vec<_>>(),
        [(1, Written::Unknown), (2, Written::No)]
    );
    let digest = format!("digest {} 5", Sha256::of(b"hello"));
    let jobs = jobs_of(&scripted(&[&digest]));
    assert_eq!(jobs.log_sha256(&id).await.unwrap(), (Some(Sha256::of(b"hello")), 5));
    // An answer that broke off, by how it did.
    let begun = "{mark} hello 1\n{mark} state done 0 flock 0\n\n";
    let failure = jobs_of(&said(begun, "sh: out of memory\n\u{7}", Exit::Code(2))).state(&id).await.unwrap_err();
    told(&failure, Kind::Unknown, "node", &["broke off", "exit code 2; sh: out of memory", "nothing is started twice"]);
    assert!(!failure.seen.unwrap().contains('\u{7}'));
    for exit in [Exit::Lost("reset".into()), Exit::Code(97)] {
        let failure = jobs_of(&said(begun, "", exit)).state(&id).await.unwrap_err();
        assert!(failure.again, "{failure:?}");
        told(&failure, Kind::Unreachable, "node", &["in the middle of an answer", "a job goes on without us"]);
    }
}

/// What is told of a job that is followed is told in order and whole, or not at all.
#[tokio::test]
async fn a_follower_believes_only_what_fits() {
    let id = JobId::random();
    let follow = async |session: &fake::FakeSession| {
        let mut all = Vec::new();
        let ended = jobs_of(session).follow(&id, 3, |what| all.push(format!("{what:?}"))).await;
        (ended, all)
    };
    let (d, end) = ("D 3 2\nab", "state done 7 flock 0\n");
    let heart = "H running 5 flock 5 -";
    let (ended, all) =
        follow(&scripted(&[d, "d 5", heart, "H running 5 flock 5 yes", "H running 5 flock 5 no", end])).await;
    assert_eq!(ended.unwrap(), State::Done { rc: 7 });
    let told_of: Vec<_> = ["waits: None", "waits: Some(true)", "waits: Some(false)"].into();
    assert!(all[0].contains("Bytes([97, 98])") && all.len() == 4, "{all:?}");
    assert!(
        told_of.iter().zip(&all[1..]).all(|(word, heart)| heart.contains(word) && heart.contains("offset: 5")),
        "{all:?}"
    );
    for (frames, word, told_before) in [
        (&["D 4 2\nab"][..], "\"D\" at offset 3", 0),
        (&[d, "d 6"], "\"d\" at offset 3", 0),
        (&[d, d], "\"D\" at offset 3", 0),
        (&[d, "d 5", "d 5"], "\"d\" at offset 5", 1),
        (&[d, end], "\"state\" at offset 3", 0),
        (&["H running 5 flock 4 -"], "\"H\" at offset 3", 0),
        (&["H running 5 flock 3 perhaps"], "\"perhaps\" for waiting", 0),
        (&["H strolling 5 flock 3 -"], "state \"strolling\"", 0),
        (&["D x 2\nab"], "for a number", 0),
        (&["noted"], "\"noted\" at offset 3", 0),
        (&["D 3\nab"], "with a body of another length", 0),
        (&["state done 0 lock 0\n"], "lock", 0),
    ] {
        let (ended, all) = follow(&scripted(frames)).await;
        let failure = ended.unwrap_err();
        assert_eq!(failure.kind, Kind::Unknown, "{frames:?}: {failure:?}");
        assert!(failure.seen.as_deref().is_some_and(|seen| seen.contains(word)), "{frames:?}: {failure:?}");
        assert_eq!(all.len(), told_before, "{frames:?}");
    }
    // Ends without a state; complains for ever and says nothing.
    let (ended, _) = follow(&said("{mark} hello 1\n", "sh: killed\n", Exit::Code(137))).await;
    told(&ended.unwrap_err(), Kind::Unknown, "node", &["broke off", "exit code 137; sh: killed"]);
    let mut jobs = jobs_of(&said("{mark} hello 1\n", "hm\n", Exit::Code(0)).hanging("j_main"));
    jobs.manner.silence = Duration::from_millis(50);
    let failure = jobs.follow(&id, 0, |_| {}).await.unwrap_err();
    assert!(failure.again);
    told(
        &failure,
        Kind::Unreachable,
        "node",
        &["nothing was heard from the job for 0 s", "the job goes on without us"],
    );
}

/// A job that did not begin says why; one that could never begin is refused before the node hears of it.
#[tokio::test]
async fn a_job_that_does_not_begin_says_why() {
    let node = Node::new();
    let spec = node.spec("exit 0");
    for (why, kind, words) in [
        ("busy 1234", Kind::Refused, &["another gravity-backup job", "busy 1234", "ferry jobs list"][..]),
        ("room", Kind::Failed, &["no room for a job in /var/lib/ferry", "ferry_node_dir"]),
        ("exec: no such file", Kind::Failed, &["supervisor did not begin", "exec: no such file"]),
    ] {
        let frame = format!("state notstarted - flock {}\n{why}", why.len());
        told(&jobs_of(&scripted(&[&frame])).start(&spec).await.unwrap_err(), kind, "node", words);
    }
    let starts = jobs_of(&scripted(&["state notstarted - flock 0\n"])).start(&spec).await.unwrap();
    assert_eq!(starts, State::NotStarted);
    let session = scripted(&[]);
    let jobs = jobs_of(&session);
    let long = "x".repeat(61 << 10);
    for (wrong, words) in [
        (Spec { kind: "Gravity".into(), ..spec.clone() }, "lower-case letters, digits and dashes"),
        (Spec { kind: String::new(), ..spec.clone() }, "lower-case letters, digits and dashes"),
        (Spec { kind: "a".repeat(41), ..spec.clone() }, "lower-case letters, digits and dashes"),
        (Spec { umask: 0o1000, ..spec.clone() }, "three octal digits"),
        (Spec { meta: long.into(), ..spec.clone() }, "60 KiB at most"),
        (Spec { script: "a\0b".into(), ..spec.clone() }, "j_spec of a job"),
    ] {
        let failure = jobs.start(&wrong).await.unwrap_err();
        assert_eq!(failure.kind, Kind::CouldNotStart, "{failure:?}");
        assert!(failure.what.contains(words), "{failure:?}");
    }
    for wrong in ["two\nlines".to_owned(), "bell\u{7}".to_owned(), "x".repeat(1025)] {
        let failure = jobs.answer(&spec.id, 1, &wrong).await.unwrap_err();
        assert_eq!((failure.kind, failure.seen), (Kind::CouldNotStart, Some(format!("{} bytes", wrong.len()))));
    }
    assert!(session.heard().is_empty());
    let states = [
        (State::Absent, "not there"),
        (State::NotStarted, "not started"),
        (State::Starting, "starting"),
        (State::Running { since_up: 7 }, "running"),
        (State::Orphan, "running without its supervisor"),
        (State::Done { rc: 3 }, "done, exit code 3"),
        (State::Lost(Lost::Reboot), "lost: the node has restarted"),
        (State::Lost(Lost::Died), "lost: it died and left no result"),
    ];
    for (state, text) in states {
        assert_eq!(state.to_string(), text);
    }
}

/// What a node may say of the watch, and how one that has it loses it.
#[tokio::test]
async fn what_a_node_says_of_the_watch() {
    let cluster: ClusterName = "prod".parse().unwrap();
    let take = async |session: &fake::FakeSession, pace: Pace| {
        let sessions = [Session::Fake(session.clone())];
        Watch::take_with(&sessions, 1, "/var/lib/ferry", &cluster, &owner("anna"), pace, &manner()).await
    };
    let begun = |frame: &str| format!("{{mark}} hello 1\n{{mark}} {frame}\n");
    for (session, kind, words) in [
        (scripted(&["no dir-mode 3\n777"]), Kind::Refused, &["others may write", "777", "chmod 0700"][..]),
        (scripted(&["perhaps"]), Kind::Unknown, &["garbled", "perhaps"]),
        (said("", "sh: no\n", Exit::Code(2)), Kind::Unknown, &["broke off", "exit code 2; sh: no"]),
    ] {
        let failure = take(&session, pace()).await.unwrap_err().into_failure();
        told(&failure, kind, "node", words);
    }
    for (text, words) in [("{}", "{}"), ("somebody", "somebody"), ("", "it does not say who")] {
        let session = scripted(&[&format!("busy {}\n{text}", text.len())]);
        let failure = take(&session, pace()).await.unwrap_err().into_failure();
        told(&failure, Kind::Refused, "node", &["another ferry works on this cluster", words]);
    }
    let named = serde_json::to_string(&owner("bert")).unwrap();
    let session = scripted(&[&format!("busy {}\n{named}", named.len())]);
    told(
        &take(&session, pace()).await.unwrap_err().into_failure(),
        Kind::Refused,
        "node",
        &[&owner("bert").to_string()],
    );
    // A node that never answers is passed over, and one that is needed is named.
    let quick = Pace { take: Duration::from_millis(50), ..pace() };
    let failure = take(&said("", "", Exit::Code(0)).hanging("w_main"), quick).await.unwrap_err().into_failure();
    assert!(
        failure.again && failure.kind == Kind::Unreachable && failure.what.contains("on 0 nodes; 1 are needed"),
        "{failure:?}"
    );
    told(&failure.more[0], Kind::Unreachable, "node", &["no answer when the cluster's watch was asked for"]);
    // It is held as long as each beat is answered.
    let fast = Pace { beat: Duration::from_millis(20), limit: Duration::from_millis(300), ..pace() };
    let holds = || said(&begun("held yes read"), "", Exit::Code(0)).listening("w_main");
    let mut watch = take(&holds(), fast).await.unwrap();
    assert_eq!((watch.hosts(), watch.passed().len()), (&["node".to_owned()][..], 0));
    lost(&watch).await;
    assert!(watch.is_lost());
    watch.release().await;
    // Beats that are answered hold it; one that is answered with something else ends it at once.
    for then in ["{mark} no sense\n", "{mark} hm\n", "hm\n", "{mark} bye\n"] {
        let reply = |when: &str, out: &str| fake::Reply {
            when: when.into(),
            out: out.as_bytes().to_vec(),
            err: b"hm\n".to_vec(),
            exit: Exit::Code(0),
        };
        let ok = "{mark} ok\n";
        let replies =
            vec![reply("f_nonce=", &begun("held yes read")), reply("k\n", ok), reply("k\n", ok), reply("k\n", then)];
        let began = Instant::now();
        let patient = Pace { limit: Duration::from_secs(60), ..fast };
        watch = take(&fake::FakeSession::new("node", replies).listening("w_main"), patient).await.unwrap();
        lost(&watch).await;
        assert!(began.elapsed() >= Duration::from_millis(60) && began.elapsed() < Duration::from_secs(50), "{then}");
        watch.release().await;
    }
    // It says that it has it, and ends.
    watch = take(&said(&begun("held yes read"), "", Exit::Code(0)), pace()).await.unwrap();
    lost(&watch).await;
    // Let go, it is closed there.
    watch = take(&holds(), pace()).await.unwrap();
    assert!(!watch.is_lost());
    watch.release().await;
}
