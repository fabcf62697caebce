//! The tools of a Gravity node, pretended: `gravity`, `kubectl`, `journalctl`, `date`, `df`,
//! `getent`, `openssl` and `findmnt`, and the script of AMV.
//!
//! What lives here: which tool was called, the description of the pretend node, its faults, and
//! how each writes and ends. What does not: clusters and servers (sandbox), and anything that the
//! real ferry does; these are other programs that happen to be in the same binary.
//!
//! They keep all state in files: the node's folder (`FERRY_SANDBOX_NODE`, else
//! `/etc/ferry-sandbox`, since a real sudo drops the environment) and the folder that the nodes
//! of one cluster share. Faults are read again at every call and while a command runs, so that a
//! test can switch them in the middle.

pub mod amv;
pub mod content;
mod df;
pub mod faults;
pub mod gravity;
mod hook;
mod influx;
mod journalctl;
mod kubectl;
mod look;
pub mod record;
mod status;
mod tarball;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use faults::{FAULTS, FaultDoc};

/// The names under which the binary is a pretend tool.
pub const TOOLS: &[&str] = &["gravity", "kubectl", "journalctl", "date", "df", "getent", "openssl", "findmnt"];

/// The node's folder when the environment names none.
pub const NODE_DIR: &str = "/etc/ferry-sandbox";

/// Where the tools are below the root of a node that was not given others.
pub(crate) const BIN: &str = "opt/ferry-sandbox/bin";

/// Which generation of Gravity is pretended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// 5.5: errors on standard output, plain when piped; a degraded status ends with 0; no journal.
    G5,
    /// 6.1: errors on standard output, always in colour; a degraded status ends with 0.
    G6,
    /// 7.0: errors on standard error, always in colour; a degraded status ends with 255.
    #[default]
    G7,
    /// 8.0: as 7.0.
    G8,
}

impl Generation {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::G5, Self::G6, Self::G7, Self::G8];

    /// `g5`, `g6`, `g7`, `g8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::G5 => "g5",
            Self::G6 => "g6",
            Self::G7 => "g7",
            Self::G8 => "g8",
        }
    }

    /// A version of Gravity that belongs to it.
    pub fn gravity_version(self) -> &'static str {
        match self {
            Self::G5 => "5.5.38",
            Self::G6 => "6.1.55",
            Self::G7 => "7.0.40",
            Self::G8 => "8.0.6",
        }
    }

    /// The PCE version that ran on it.
    pub fn pce_version(self) -> &'static str {
        match self {
            Self::G5 => "2.1.0",
            Self::G6 => "3.0.0",
            Self::G7 => "3.0.2",
            Self::G8 => "3.2.0",
        }
    }
}

impl std::str::FromStr for Generation {
    type Err = crate::name::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|generation| generation.name() == text).ok_or_else(|| crate::name::BadName {
            kind: "generation of Gravity",
            seen: text.to_owned(),
            expected: "g5, g6, g7 or g8",
        })
    }
}

/// One server of the pretend cluster, as `gravity status` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub hostname: String,
    /// The address that it announces.
    pub advertise_ip: String,
    /// `master` or `node`.
    #[serde(default = "Member::master")]
    pub role: String,
    /// `node`, `node_amv`, …
    #[serde(default = "Member::profile")]
    pub profile: String,
    /// `healthy`, `degraded` or `offline`.
    #[serde(default = "Member::healthy")]
    pub status: String,
    /// What is wrong with it, one sentence each.
    #[serde(default)]
    pub failed_probes: Vec<String>,
}

impl Member {
    fn master() -> String {
        "master".to_owned()
    }
    fn profile() -> String {
        "node".to_owned()
    }
    fn healthy() -> String {
        "healthy".to_owned()
    }
}

/// The description of a pretend node: `node.json` in its folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Gravity's name of the cluster.
    pub cluster: String,
    /// The PCE version.
    pub app_version: String,
    /// The version of Gravity; empty for the generation's own.
    pub gravity_version: String,
    /// How it behaves.
    pub generation: Generation,
    /// This node's name.
    pub hostname: String,
    /// The address that this node announces.
    pub advertise_ip: String,
    /// All servers of the cluster.
    pub nodes: Vec<Member>,
    /// Gravity's state directory.
    pub state_dir: PathBuf,
    /// The folder that all nodes of the cluster share: jobs, pods, logs, the count of runs.
    pub shared: PathBuf,
    /// `metadata.uid` of the namespace `kube-system`: the identity of the cluster.
    pub kube_system_uid: String,
    /// Pretended seconds in one real second.
    pub time_scale: f64,
    /// Size of what a backup gathers, in MiB.
    pub archive_mib: u64,
    /// How long the hook works, in pretended seconds.
    pub hook_seconds: f64,
    /// How long the hook of a restore works, in pretended seconds; as long as a backup's when `None`.
    pub restore_seconds: Option<f64>,
    /// How long the cluster is degraded after a restore, in pretended seconds.
    pub settle_seconds: f64,
    /// Whether the cluster has AMV.
    pub amv: bool,
    /// To whom the folders from `<state>/site` on are given (uid and gid), where this process may do
    /// that; to nobody else when `None`. Gravity's service user is 980665 from 7.0 on.
    pub service_uid: Option<u32>,
    /// The name that people open; empty for none.
    pub platform_dns: String,
    /// Names of other clusters, and their addresses.
    pub other_names: BTreeMap<String, String>,
    /// Where the cluster's NFS comes from, `SERVER:PATH`; empty for none.
    pub nfs_source: String,
    /// gzip's level for the archive, 0 to 9.
    pub gzip_level: u32,
    /// Passes the check for root although we are not: for nodes without namespaces.
    pub pretend_root: bool,
    /// The join token that `gravity status` leaks.
    pub token: String,
    /// Faults, each with its value. See [`FAULTS`].
    pub faults: BTreeMap<String, serde_json::Value>,
    /// The folder this description was read from.
    #[serde(skip)]
    pub dir: PathBuf,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            cluster: "pce-prod".to_owned(),
            app_version: "3.0.2".to_owned(),
            gravity_version: String::new(),
            generation: Generation::G7,
            hostname: "prod-1".to_owned(),
            advertise_ip: "10.0.0.11".to_owned(),
            nodes: Vec::new(),
            state_dir: PathBuf::from("/var/lib/gravity"),
            shared: PathBuf::from("/etc/ferry-sandbox/cluster"),
            kube_system_uid: "5d1f2c9a-0c1e-4a39-9d1d-3a3c5b7f0a11".to_owned(),
            time_scale: 60.0,
            archive_mib: 8,
            hook_seconds: 120.0,
            restore_seconds: None,
            settle_seconds: 3.0,
            amv: false,
            service_uid: None,
            platform_dns: "anypoint.prod.example".to_owned(),
            other_names: BTreeMap::new(),
            nfs_source: "nfs.prod.example:/srv/pce".to_owned(),
            gzip_level: 1,
            pretend_root: false,
            token: "JOINTOKENSECRET0123456789".to_owned(),
            faults: BTreeMap::new(),
            dir: PathBuf::new(),
        }
    }
}

impl Node {
    /// The folder that describes the node this process runs on: named by the environment; else
    /// beside the place where this tool was called (a job has no environment); else [`NODE_DIR`].
    pub fn folder() -> PathBuf {
        if let Some(dir) = std::env::var_os("FERRY_SANDBOX_NODE") {
            return PathBuf::from(dir);
        }
        let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
        let root = called.parent().filter(|bin| bin.ends_with(BIN)).and_then(|bin| bin.ancestors().nth(3));
        let beside = root.map(|root| root.join("etc/ferry-sandbox")).filter(|dir| dir.join("node.json").exists());
        beside.unwrap_or_else(|| PathBuf::from(NODE_DIR))
    }

    /// Reads the description in `dir`. `None` when there is none: this machine is no node then.
    ///
    /// # Errors
    /// The file cannot be read or is no such description.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(dir.join("node.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut node: Self = serde_json::from_slice(&text)?;
        node.dir = dir.to_owned();
        if node.gravity_version.is_empty() {
            node.gravity_version = node.generation.gravity_version().to_owned();
        }
        if node.nodes.is_empty() {
            node.nodes.push(Member {
                hostname: node.hostname.clone(),
                advertise_ip: node.advertise_ip.clone(),
                role: Member::master(),
                profile: Member::profile(),
                status: Member::healthy(),
                failed_probes: Vec::new(),
            });
        }
        Ok(Some(node))
    }

    /// Writes the description into `dir`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        replace(&dir.join("node.json"), &serde_json::to_vec_pretty(self)?)
    }

    /// The value of a fault that is on, read from the files as they are now: the node's
    /// `faults.json` wins over the cluster's, which wins over `node.json`.
    pub fn fault(&self, name: &str) -> Option<String> {
        let file = |dir: &Path| -> Option<serde_json::Value> {
            let all: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("faults.json")).ok()?).ok()?;
            all.get(name).cloned()
        };
        let value = file(&self.dir).or_else(|| file(&self.shared)).or_else(|| self.faults.get(name).cloned())?;
        match value {
            serde_json::Value::Null | serde_json::Value::Bool(false) => None,
            serde_json::Value::Bool(true) => Some(String::new()),
            serde_json::Value::String(text) if matches!(text.as_str(), "off" | "false" | "no") => None,
            serde_json::Value::String(text) if matches!(text.as_str(), "on" | "true" | "yes") => Some(String::new()),
            serde_json::Value::String(text) => Some(text),
            other => Some(other.to_string()),
        }
    }

    /// True when the fault is on.
    pub fn has(&self, name: &str) -> bool {
        self.fault(name).is_some()
    }

    /// The fault's value as a number; `usual` when it is on without one.
    pub fn number(&self, name: &str, usual: f64) -> Option<f64> {
        self.fault(name).map(|value| value.parse().unwrap_or(usual))
    }

    /// Pretended seconds as real time.
    pub fn real(&self, seconds: f64) -> Duration {
        let scale = if self.time_scale > 0.0 { self.time_scale } else { 1.0 };
        Duration::try_from_secs_f64(seconds.max(0.0) / scale).unwrap_or(Duration::MAX)
    }

    /// Real time as pretended seconds.
    pub fn pretended(&self, real: Duration) -> f64 {
        real.as_secs_f64() * if self.time_scale > 0.0 { self.time_scale } else { 1.0 }
    }

    /// Where staging folders are: `<state>/planet/state`.
    pub fn staging(&self) -> PathBuf {
        self.state_dir.join("planet/state")
    }

    /// The cluster's name as this node tells it.
    pub fn cluster_seen(&self) -> String {
        self.fault("stray").filter(|name| !name.is_empty()).unwrap_or_else(|| self.cluster.clone())
    }

    /// The identity of the cluster as this node tells it.
    pub fn uid_seen(&self) -> String {
        if self.has("stray") { "00000000-dead-4bee-8f00-000000000000".to_owned() } else { self.kube_system_uid.clone() }
    }

    /// The PCE version as this node tells it.
    pub fn app_version_seen(&self) -> String {
        self.fault("version-mismatch").map_or_else(
            || self.app_version.clone(),
            |version| if version.is_empty() { "9.9.9".to_owned() } else { version },
        )
    }

    /// True while gravity-site is away because it restarts.
    pub fn site_away(&self) -> bool {
        let until = fs::read_to_string(self.shared.join(SITE_AWAY)).ok().and_then(|text| text.trim().parse().ok());
        until.is_some_and(|until: jiff::Timestamp| jiff::Timestamp::now() < until)
    }

    /// gravity-site goes away for so many pretended seconds.
    pub(crate) fn site_goes(&self, seconds: f64) {
        let until = jiff::Timestamp::now().checked_add(self.real(seconds)).unwrap_or(jiff::Timestamp::MAX);
        let _ = replace(&self.shared.join(SITE_AWAY), until.to_string().as_bytes());
    }

    /// A restore disturbs the cluster: from its beginning, and a while after its end.
    pub(crate) fn disturb(&self, over: bool) {
        let since = if over { jiff::Timestamp::now().to_string() } else { "now".to_owned() };
        let _ = replace(&self.shared.join(DISTURBED), since.as_bytes());
    }

    /// Why the cluster is ill since a restore; `None` when it has settled or had none.
    pub fn unsettled(&self) -> Option<&'static str> {
        let since = fs::read_to_string(self.shared.join(DISTURBED)).ok()?;
        let Ok(ended) = since.trim().parse::<jiff::Timestamp>() else {
            return Some("services are stopped while anypoint is restored");
        };
        let settle = self.number("settle-seconds", self.settle_seconds).unwrap_or(self.settle_seconds);
        let settled = ended.checked_add(self.real(settle)).is_ok_and(|at| at <= jiff::Timestamp::now());
        (!settled || self.has("never-settles")).then_some("pods of anypoint are not ready after a restore")
    }

    /// A line for the journal, which the pretend `journalctl` reads. Generation 5 writes none.
    pub(crate) fn journal(&self, line: &str) {
        if self.generation == Generation::G5 || self.has("journal-silent") {
            return;
        }
        let entry = serde_json::json!({
            "at": jiff::Timestamp::now().to_string(),
            "host": self.hostname,
            "tag": "gravity-cli",
            "pid": std::process::id(),
            "line": line,
        });
        let _ = append(&self.dir.join("journal.jsonl"), &format!("{entry}\n"), false);
    }

    /// Adds a line to the count of real runs, on disk before it returns.
    pub(crate) fn count_run(&self, line: &str) -> io::Result<()> {
        append(&self.shared.join(RUNS), &format!("{} {line}\n", jiff::Timestamp::now()), true)
    }

    /// Makes the folders that a node of Gravity has: its local database, `planet/share` and
    /// `planet/state`, and the folder that the cluster shares.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn lay_out(&self) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        for dir in ["local", "planet/share", "planet/state"] {
            fs::create_dir_all(self.state_dir.join(dir))?;
        }
        let db = self.state_dir.join("local/gravity.db");
        fs::OpenOptions::new().create(true).append(true).mode(0o600).open(db)?;
        for dir in ["jobs", "pods", "logs"] {
            fs::create_dir_all(self.shared.join(dir))?;
        }
        content::ensure(self)?;
        if self.amv { fs::create_dir_all(self.state_dir.join("site")) } else { Ok(()) }
    }

    /// Makes what a standing fault says is lying about.
    pub fn stand(&self) {
        if let Some(mib) = self.number("leaked-staging", 16.0) {
            let dir = self.staging().join("badbad/backup");
            if !dir.exists() {
                let _ = fs::create_dir_all(&dir);
                let _ = hook::fill(&dir.join("leaked.bin"), (mib * 1048576.0) as u64, 7);
            }
        }
        hook::stand_foreign(self);
        // A version of PCE without Gravity has no Gravity's database either.
        let (db, aside) = (self.state_dir.join("local/gravity.db"), self.dir.join("gravity.db.aside"));
        let (from, to) = if self.has("pce4") { (db, aside) } else { (aside, db) };
        if from.exists() {
            let _ = fs::rename(from, to);
        }
        let _ = amv::stand(self);
    }
}

/// The append-only file in the shared folder that counts each real run of `gravity backup`:
/// `TIME start ID node=NAME pid=PID args=…` when its hook job is made, `TIME hook ID Complete|Failed`
/// when the hook ends, `TIME end ID rc=N` when the command line ends by itself.
pub const RUNS: &str = "gravity-runs.log";

/// In the shared folder: until when gravity-site is away.
const SITE_AWAY: &str = "site-away";
/// In the shared folder: when the last restore ended, or `now`.
const DISTURBED: &str = "disturbed";

/// Writes a file so that readers see the old or the new one, never a part.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    fs::write(&part, bytes)?;
    fs::rename(&part, path)
}

/// Appends in one write, so that lines of several processes do not mix.
pub(crate) fn append(path: &Path, text: &str, sync: bool) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(text.as_bytes())?;
    if sync { file.sync_all() } else { Ok(()) }
}

/// Writes to standard output. Nobody there to read ends the process by SIGPIPE, as it ends a
/// program written in Go.
pub(crate) fn say(bytes: impl AsRef<[u8]>) {
    let mut out = io::stdout().lock();
    let done = out.write_all(bytes.as_ref()).and_then(|()| out.flush());
    if done.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        die("PIPE");
    }
}

/// Writes to standard error; see [`say`].
pub(crate) fn say_err(bytes: impl AsRef<[u8]>) {
    let done = io::stderr().lock().write_all(bytes.as_ref());
    if done.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        die("PIPE");
    }
}

/// Ends this very process by a signal. Rust ignores SIGPIPE from the start and only a process
/// that is executed anew has it back, so we become a shell that does it.
pub(crate) fn die(signal: &str) {
    use std::os::unix::process::CommandExt as _;
    let _ = std::process::Command::new("/bin/sh").arg("-c").arg(format!("kill -{signal} $$")).exec();
}

/// When this process was called by the name of a pretend tool, or as the server of a sandbox:
/// does that work and says with which code to end. `None` when we are ferry.
pub fn dispatch() -> Option<u8> {
    let mut argv = std::env::args_os();
    let name = argv.next()?;
    let name = Path::new(&name).file_name()?.to_str()?.to_owned();
    let rest: Vec<OsString> = argv.collect();
    if name == super::SERVER {
        return Some(super::server_main(rest.first().map(Path::new)));
    }
    if !TOOLS.contains(&name.as_str()) {
        return None;
    }
    Some(run(&name, &rest))
}

/// Runs the pretend tool `name` with these arguments (without the name itself); the exit code.
pub fn run(name: &str, argv: &[OsString]) -> u8 {
    let argv: Vec<String> = argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let node = match Node::read(&Node::folder()) {
        Ok(node) => node,
        Err(error) => {
            say_err(format!("sandbox: cannot read {}/node.json: {error}\n", Node::folder().display()));
            return 70;
        }
    };
    if let Some(node) = &node {
        node.stand();
    }
    match name {
        "gravity" => gravity::run(node, &argv),
        "kubectl" => kubectl::run(node.as_ref(), &argv),
        "journalctl" => journalctl::run(node.as_ref(), &argv),
        "df" => df::run(node.as_ref(), &argv),
        "getent" => look::getent(node.as_ref(), &argv),
        "openssl" => look::openssl(node.as_ref(), &argv),
        "findmnt" => look::findmnt(node.as_ref(), &argv),
        _ => date(node.as_ref(), &argv),
    }
}

/// `date`, which tells the wrong time under the fault `clock-skew`.
fn date(node: Option<&Node>, argv: &[String]) -> u8 {
    let skew = node.and_then(|node| node.number("clock-skew", 300.0));
    let mut command = std::process::Command::new("/usr/bin/date");
    let asks_for_another_time = |word: &String| {
        ["-d", "-r", "-f", "-s", "--date", "--ref", "--file", "--set"].iter().any(|option| word.starts_with(option))
    };
    if let Some(skew) = skew
        && !argv.iter().any(asks_for_another_time)
    {
        let now = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0 + skew;
        command.arg(format!("--date=@{now:.3}"));
    }
    match command.args(argv).status() {
        Ok(status) => u8::try_from(status.code().unwrap_or(1)).unwrap_or(1),
        Err(error) => {
            say_err(format!("date: {error}\n"));
            127
        }
    }
}
