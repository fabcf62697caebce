//! A sandbox, its catalog and the real binary, for tests that work like an operator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ferry::sandbox::pretend::Generation;
use ferry::sandbox::{self, FaultSetting, Options, Up};
use serde_json::Value;

/// What a call of ferry said.
#[derive(Debug, Clone)]
pub struct Said {
    /// The exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// What was typed.
    pub line: String,
    /// Peak resident memory in KiB.
    pub peak_kib: u64,
    /// How long it took.
    pub took: Duration,
}

impl Said {
    /// Both streams.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Demands an exit code and sentences, and prints everything where one is missing.
    #[track_caller]
    pub fn must(&self, code: i32, sentences: &[&str]) -> &Self {
        assert!(self.code == code, "exit {} instead of {code}: {}\n{}", self.code, self.line, self.all());
        for sentence in sentences {
            assert!(self.all().contains(sentence), "{sentence:?} was not said: {}\n{}", self.line, self.all());
        }
        self
    }

    /// Demands that something was not said.
    #[track_caller]
    pub fn never(&self, sentence: &str) -> &Self {
        assert!(!self.all().contains(sentence), "{sentence:?} was said: {}\n{}", self.line, self.all());
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.line, self.all()))
    }
}

/// A program that is ended when it takes longer than `limit`, with its peak memory.
#[track_caller]
pub fn run_limited(mut command: Command, limit: Duration) -> Said {
    let line = format!("{command:?}");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let read = |stream: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let out = read(child.stdout.take().map(|stream| Box::new(stream) as Box<dyn std::io::Read + Send>));
    let err = read(child.stderr.take().map(|stream| Box::new(stream) as Box<dyn std::io::Read + Send>));
    let began = Instant::now();
    let mut peak_kib = 0;
    let status = loop {
        if let Ok(text) = std::fs::read_to_string(format!("/proc/{}/status", child.id())) {
            let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok());
            peak_kib = peak.unwrap_or(0).max(peak_kib);
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("not within {limit:?}: {line}\n{}", String::from_utf8_lossy(&out.join().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Said {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&out.join().unwrap()).into_owned(),
        err: String::from_utf8_lossy(&err.join().unwrap()).into_owned(),
        line,
        peak_kib,
        took: began.elapsed(),
    }
}

/// ferry without anything of this machine's own settings.
pub fn ferry(config: Option<&Path>, cwd: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("FERRY_") || name.starts_with("ANSIBLE_") || name.starts_with("SSH_") {
            command.env_remove(name);
        }
    }
    if let Some(config) = config {
        command.env("FERRY_CONFIG", config);
    }
    command.env("FERRY_LINK_PATIENCE", "20").env("XDG_CONFIG_HOME", "/nonexistent").current_dir(cwd);
    command
}

/// A sandbox that is up; it ends with the test.
pub struct Bed {
    dir: tempfile::TempDir,
    /// Where everything is.
    pub up: Up,
}

impl Bed {
    /// A sandbox of this generation whose hook takes half a second.
    pub fn new(generation: Generation) -> Self {
        Self::with(Options { generation, ..Self::options() })
    }

    /// What is usual for tests.
    pub fn options() -> Options {
        Options {
            exe: Some(PathBuf::from(env!("CARGO_BIN_EXE_ferry"))),
            time_scale: 120.0,
            hook_seconds: 60.0,
            archive_mib: 2,
            ..Options::default()
        }
    }

    /// A sandbox like this.
    pub fn with(options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("ferry-bed").tempdir().unwrap();
        let up = sandbox::up(&dir.path().join("sandbox"), &options).unwrap();
        Self { dir, up }
    }

    /// A folder beside the sandbox, for what a test writes itself.
    pub fn aside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Calls ferry.
    #[track_caller]
    pub fn ferry(&self, args: &[&str]) -> Said {
        self.ferry_with(args, &[])
    }

    /// Calls ferry with more in its environment.
    #[track_caller]
    pub fn ferry_with(&self, args: &[&str], env: &[(&str, &str)]) -> Said {
        let mut command = ferry(Some(&self.up.config), self.dir.path());
        command.args(args).envs(env.iter().copied());
        run_limited(command, Duration::from_secs(90))
    }

    /// Switches faults: `[CLUSTER-OR-NODE:]NAME=VALUE`.
    #[track_caller]
    pub fn faults(&self, faults: &[&str]) {
        let settings: Vec<FaultSetting> = faults.iter().map(|text| text.parse().unwrap()).collect();
        sandbox::set_faults(&self.up.dir, &settings).unwrap();
    }

    /// Ends all faults, and removes what they and earlier failures left lying on the nodes.
    pub fn calm(&self) {
        for node in &self.up.nodes {
            let _ = std::fs::remove_file(self.up.node_dir(&node.name).join("faults.json"));
            let state = node.root.join("var/lib/gravity/planet/state");
            for entry in std::fs::read_dir(state).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        for cluster in ["prod", "dr"] {
            let shared = self.up.shared(cluster);
            let _ = std::fs::remove_file(shared.join("faults.json"));
            for entry in std::fs::read_dir(shared.join("jobs")).into_iter().flatten().flatten() {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// How often gravity's backup really ran in a cluster.
    pub fn runs(&self, cluster: &str) -> usize {
        let log = std::fs::read_to_string(self.up.shared(cluster).join("gravity-runs.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(" start ")).count()
    }

    /// The points of a cluster: id and state.
    #[track_caller]
    pub fn points(&self, cluster: &str) -> BTreeMap<String, String> {
        let listed = self.ferry(&["points", "list", cluster, "--json"]);
        listed.must(0, &[]);
        let all = listed.json();
        let field = |point: &Value, name: &str| point[name].as_str().unwrap_or_default().to_owned();
        all.as_array().unwrap().iter().map(|point| (field(point, "id"), field(point, "state"))).collect()
    }

    /// The folder of the catalog.
    pub fn catalog(&self) -> PathBuf {
        self.up.dir.join("catalog")
    }

    /// The folder of the newest run.
    #[track_caller]
    pub fn last_run(&self) -> PathBuf {
        let mut all: Vec<PathBuf> =
            std::fs::read_dir(self.up.dir.join("runs")).unwrap().flatten().map(|entry| entry.path()).collect();
        // Two runs within a second have ids in any order.
        all.sort_by_key(|path| std::fs::metadata(path.join("journal.jsonl")).and_then(|meta| meta.modified()).ok());
        all.pop().unwrap()
    }

    /// The jobs of ferry that are on the nodes, as `jobs list --json` tells them.
    #[track_caller]
    pub fn jobs(&self) -> Vec<Value> {
        let listed = self.ferry(&["jobs", "list", "--json"]);
        listed.must(0, &[]);
        listed.json().as_array().unwrap().clone()
    }

    /// A change in the sandbox's inventory, written to a file of its own beside it.
    #[track_caller]
    pub fn inventory(&self, name: &str, changes: &[(&str, &str)]) -> String {
        let mut text = std::fs::read_to_string(&self.up.inventory).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{from:?} is not in the inventory");
            text = text.replacen(from, to, 1);
        }
        let path = self.aside(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = sandbox::down(&self.up.dir);
    }
}

/// The processes that carry a sandbox's mark.
pub fn marked(id: &str) -> Vec<String> {
    let mark = format!("FERRY_SANDBOX_ID={id}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ.split(|byte| *byte == 0).any(|setting| setting == mark.as_bytes()) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found
}

/// The file below `dir` whose bytes hold `needle`, if any.
pub fn find_in_files(dir: &Path, needle: &[u8]) -> Option<PathBuf> {
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            left.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if meta.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(needle.len()).any(|window| window == needle) {
                return Some(path);
            }
        }
    }
    None
}
