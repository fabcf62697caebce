//! A sandbox with the ferry binary at hand, and what must hold after every case: one gravity run,
//! one sealed point that verifies, nothing left over anywhere.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ferry::sandbox::{self, Options, Up};
use serde_json::Value;

/// A sandbox that ends with the test.
pub struct Cluster {
    pub up: Up,
    pub config: PathBuf,
    _dir: tempfile::TempDir,
}

/// What lies there before a case.
pub struct Before {
    runs: usize,
    points: BTreeSet<String>,
    journals: BTreeSet<PathBuf>,
}

/// How one call of ferry ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    pub said: String,
    pub took: Duration,
}

/// A call of ferry that goes on.
pub struct Going {
    pub child: Child,
    begun: Instant,
    out: std::thread::JoinHandle<String>,
    err: std::thread::JoinHandle<String>,
}

impl Going {
    pub fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ferry starts");
        let read = |mut from: Box<dyn std::io::Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = from.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let out = read(Box::new(child.stdout.take().unwrap()));
        let err = read(Box::new(child.stderr.take().unwrap()));
        Self { child, begun: Instant::now(), out, err }
    }

    pub fn over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Waits for its end; a ferry that hangs is a failed test.
    pub fn end(mut self, limit: Duration) -> Ended {
        while !self.over() {
            if self.begun.elapsed() > limit {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("ferry did not end within {limit:?}\n{}{}", self.out.join().unwrap(), self.err.join().unwrap());
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        let status = self.child.wait().unwrap();
        Ended {
            code: status.code(),
            said: self.out.join().unwrap() + &self.err.join().unwrap(),
            took: self.begun.elapsed(),
        }
    }
}

/// How long one call of ferry may take where no link is frozen.
pub const SOON: Duration = Duration::from_secs(100);

impl Cluster {
    pub fn up(hook_seconds: f64, archive_mib: u64) -> Self {
        Self::with(Options { hook_seconds, archive_mib, time_scale: 1.0, ..Options::default() })
    }

    /// Without AMV: for what is about Gravity alone.
    pub fn plain(hook_seconds: f64, archive_mib: u64) -> Self {
        Self::with(Options { hook_seconds, archive_mib, amv: false, time_scale: 1.0, ..Options::default() })
    }

    pub fn with(options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("ferry-faults").tempdir().unwrap();
        let exe = Some(PathBuf::from(env!("CARGO_BIN_EXE_ferry")));
        let options = Options { exe, ..options };
        let up = sandbox::up(dir.path(), &options).expect("the sandbox comes up");
        let config = up.config.clone();
        Self { up, config, _dir: dir }
    }

    /// As [`Cluster::up`], with one point already there: then the size of the next is known, and
    /// how full the disk of this machine is decides less.
    pub fn warm(hook_seconds: f64, archive_mib: u64) -> Self {
        let this = Self::up(hook_seconds, archive_mib);
        let first = this.run(&["backup", "prod", "--waive", "space=the disk of a test machine"], SOON);
        assert_eq!(first.code, Some(0), "{}", first.said);
        this
    }

    pub fn dir(&self) -> &Path {
        &self.up.dir
    }

    /// Puts these ports in the place of the nodes' own: ferry then speaks through them.
    pub fn through(&mut self, ports: &[(u16, u16)]) {
        let (mut inventory, mut known) = (
            std::fs::read_to_string(&self.up.inventory).unwrap(),
            std::fs::read_to_string(&self.up.known_hosts).unwrap(),
        );
        for (node, proxy) in ports {
            inventory = inventory.replace(&format!("ansible_port: {node}\n"), &format!("ansible_port: {proxy}\n"));
            known = known.replace(&format!("[127.0.0.1]:{node} "), &format!("[127.0.0.1]:{proxy} "));
        }
        let there = self.dir().join("known_hosts_proxied");
        let inventory = inventory.replace(self.up.known_hosts.to_str().unwrap(), there.to_str().unwrap());
        std::fs::write(&there, known).unwrap();
        std::fs::write(self.dir().join("proxied.yml"), inventory).unwrap();
        self.config = self.dir().join("proxied.toml");
        std::fs::write(&self.config, "inventory = \"proxied.yml\"\ncatalog = \"catalog\"\nruns = \"runs\"\n").unwrap();
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
        self.surround(command.args(words));
        command
    }

    /// ferry under strace, which kills it at the `nth` call of `call` in one of its threads.
    pub fn killed_at(&self, call: &str, nth: usize) -> Command {
        let mut command = Command::new("strace");
        command.args(["-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        command.args(["-e", &format!("inject={call}:signal=SIGKILL:when={nth}")]);
        self.surround(command.arg(env!("CARGO_BIN_EXE_ferry")).args(["backup", "prod", "--output", "plain"]));
        command
    }

    fn surround(&self, command: &mut Command) {
        command.current_dir(self.dir()).env("FERRY_CONFIG", &self.config).env("FERRY_LINK_PATIENCE", "240");
        command.env("NO_COLOR", "1").env("HOME", self.dir()).env_remove("SSH_AUTH_SOCK");
    }

    pub fn run(&self, words: &[&str], limit: Duration) -> Ended {
        Going::start(&mut self.command(words)).end(limit)
    }

    pub fn backup(&self) -> Command {
        self.command(&["backup", "prod", "--output", "plain"])
    }

    /// The backups that the pretended gravity began, from its append-only file.
    pub fn begun(&self) -> usize {
        self.count("start")
    }

    /// Lines of gravity's append-only file that are about `what`.
    pub fn count(&self, what: &str) -> usize {
        let log = self.up.shared("prod").join(sandbox::pretend::RUNS);
        let text = std::fs::read_to_string(log).unwrap_or_default();
        text.lines().filter(|line| line.split_whitespace().nth(1) == Some(what)).count()
    }

    fn catalog(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir().join("catalog/prod")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The ids that have a folder with a manifest under its final name.
    pub fn sealed(&self) -> BTreeSet<String> {
        let shelf = self.dir().join("catalog/prod");
        let is_point = |name: &String| !name.contains('.') && shelf.join(name).join("manifest.json").is_file();
        self.catalog().into_iter().filter(is_point).collect()
    }

    pub fn before(&self) -> Before {
        Before { runs: self.begun(), points: self.sealed(), journals: self.journals() }
    }

    fn journals(&self) -> BTreeSet<PathBuf> {
        let entries = std::fs::read_dir(self.dir().join("runs")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// The journal of the first run that was begun after `before`, as far as it is whole.
    pub fn journal(&self, before: &Before) -> Vec<Value> {
        let Some(run) = self.journals().difference(&before.journals).next().cloned() else { return Vec::new() };
        let text = std::fs::read_to_string(run.join("journal.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The part of the archive of the point that is being made, if there is one: its size.
    pub fn part_bytes(&self) -> Option<u64> {
        let shelf = self.dir().join("catalog/prod");
        let parts = self.catalog().into_iter().filter(|name| name.ends_with(".part"));
        parts
            .filter_map(|name| std::fs::metadata(shelf.join(name).join("gravity.tar.gz.part")).ok())
            .map(|m| m.size())
            .max()
    }

    /// How many runs and points there are more than before.
    pub fn made(&self, before: &Before) -> (usize, usize) {
        (self.begun() - before.runs, self.sealed().difference(&before.points).count())
    }

    /// The jobs that the nodes know.
    pub fn jobs(&self) -> Vec<Value> {
        let listed = self.run(&["jobs", "list", "prod", "--json"], SOON);
        let json = listed.said.get(listed.said.find('[').unwrap_or(0)..).unwrap_or_default();
        serde_json::Deserializer::from_str(json)
            .into_iter::<Vec<Value>>()
            .next()
            .and_then(Result::ok)
            .unwrap_or_else(|| panic!("jobs list: {}", listed.said))
    }

    /// What is left on the nodes and in the catalog and should not be.
    pub fn left_over(&self) -> Vec<String> {
        let mut left: Vec<String> = self.catalog().into_iter().filter(|name| name.contains('.')).collect();
        for node in self.up.nodes.iter().filter(|node| node.cluster == "prod") {
            for place in ["var/lib/ferry/jobs", "var/lib/ferry/locks", "var/lib/gravity/ferry"] {
                let entries = std::fs::read_dir(node.root.join(place)).into_iter().flatten().flatten();
                left.extend(entries.map(|entry| format!("{}: {}", node.name, entry.path().display())));
            }
        }
        left
    }

    /// The end of every case: exactly one run, exactly one point, which verifies, and nothing left.
    pub fn settled(&self, before: &Before) -> Result<(), String> {
        let (runs, points) = self.made(before);
        if (runs, points) != (1, 1) {
            return Err(format!("{runs} gravity runs and {points} sealed points, one of each expected"));
        }
        // Locks are let go of by processes on the nodes, which hear of ferry's end a moment later.
        let begun = Instant::now();
        let mut left = self.left_over();
        while !left.is_empty() && begun.elapsed() < Duration::from_secs(60) {
            // A holder behind a frozen link waits for its 45 s; everything else has to be gone at once.
            if left.iter().any(|name| !name.contains("/locks/")) && begun.elapsed() > Duration::from_secs(3) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            left = self.left_over();
        }
        if !left.is_empty() {
            return Err(format!("left over: {left:?}"));
        }
        let id = self.sealed().difference(&before.points).next().cloned().unwrap_or_default();
        let verified = self.run(&["points", "verify", &id], SOON);
        if verified.code != Some(0) {
            return Err(format!("points verify {id}: {:?} {}", verified.code, verified.said));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.dir().join("server.log")).unwrap_or_default();
            eprintln!("the sandbox's log: {said}");
        }
        let _ = sandbox::down(&self.up.dir);
    }
}
