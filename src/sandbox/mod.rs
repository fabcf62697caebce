//! Pretend clusters inside this machine, to try ferry and to rehearse.
//!
//! What lives here: two clusters of three main nodes each, the one process that serves SSH to
//! all of them, the files that lead a ferry to them, and the cleaning up, also after the process
//! was killed. What does not: what the tools on the nodes say (pretend), and the SSH server
//! itself (remote).
//!
//! Each node has a root folder below the sandbox's folder. Where the kernel allows it a command
//! runs in user and mount namespaces of its own with that folder as `/`, `/usr` read-only below
//! it; else it runs on this machine with PATH and ferry's variables pointing below the folder.
//! Nothing outside the folder is written.

pub mod pretend;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Kind};
use crate::remote::ssh::serve::{self, ExecRequest, KeyPair, Runner, Server};
pub use pretend::record::Record;
use pretend::{FAULTS, Generation, Member, Node};

/// The name under which the binary is the server of a sandbox.
pub const SERVER: &str = "ferry-sandbox";

/// The variable that marks every process of a sandbox's nodes.
const MARK: &str = "FERRY_SANDBOX_ID";
/// The variable that says on which node a process runs.
const HOST: &str = "FERRY_SANDBOX_HOST";

/// Where the tools are on a node that has a root of its own.
const TOOLS: &str = "/opt/ferry-sandbox/bin";
/// In the sandbox's folder: the tools of a node, and those of a node without Gravity.
const BINS: [&str; 2] = ["bin", "bin-without-gravity"];
/// Where the AMV script writes, on a node.
const AMV_DIR: &str = "/srv/amv-backup";

/// Folders of the system that a node sees: those that are links are links there as well.
const SYSTEM: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// How nodes are kept apart from this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// User and mount namespaces: every node has a `/` of its own.
    Namespaces,
    /// PATH and variables: the node's commands run on this machine with other folders.
    Path,
}

/// A fault that is to be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultSetting {
    /// A cluster or a node; every cluster when `None`.
    pub target: Option<String>,
    /// One of [`FAULTS`].
    pub name: String,
    /// Its value; `on` when none was given, `off` to end it.
    pub value: String,
}

impl std::str::FromStr for FaultSetting {
    type Err = Failure;

    /// Reads `[CLUSTER-OR-NODE:]NAME[=VALUE]`.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let (left, value) = text.split_once('=').unwrap_or((text, "on"));
        let (target, name) = match left.split_once(':') {
            Some((target, name)) => (Some(target.to_owned()), name),
            None => (None, left),
        };
        if !FAULTS.iter().any(|fault| fault.name == name) {
            let near = crate::name::nearest(name, FAULTS.iter().map(|fault| fault.name), 3).join(", ");
            let failure = Failure::new(Kind::Usage, "there is no such fault")
                .saw(name)
                .mend("`ferry sandbox faults` lists them; write [CLUSTER-OR-NODE:]NAME[=VALUE]");
            return Err(if near.is_empty() { failure } else { failure.why(format!("the nearest names are {near}")) });
        }
        if let Some(target) = &target
            && !CLUSTERS.iter().any(|cluster| cluster.group == target || cluster.hosts().any(|host| host == *target))
        {
            return Err(Failure::new(Kind::Usage, "the sandbox has no such cluster or node")
                .saw(target)
                .why("its clusters are prod and dr, their nodes prod-1 to prod-3 and dr-1 to dr-3"));
        }
        Ok(Self { target, name: name.to_owned(), value: value.to_owned() })
    }
}

/// What a sandbox is made like.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The generation of Gravity on all nodes.
    pub generation: Generation,
    /// Faults that are there from the beginning.
    pub faults: Vec<FaultSetting>,
    /// Pretended seconds in one real second.
    pub time_scale: f64,
    /// What a backup gathers, in MiB.
    pub archive_mib: u64,
    /// How long a hook works, in pretended seconds.
    pub hook_seconds: f64,
    /// How long the hook of a restore works, in pretended seconds; as long as a backup's when `None`.
    pub restore_seconds: Option<f64>,
    /// How long a cluster is degraded after a restore, in pretended seconds.
    pub settle_seconds: f64,
    /// PCE versions by cluster (`prod`, `dr`); the generation's own where none is given, so that
    /// what one saved the other takes.
    pub versions: BTreeMap<String, String>,
    /// Whether the clusters have AMV, and the inventory says so. Off, because a backup whose AMV part
    /// cannot be made is no whole backup.
    pub amv: bool,
    /// gzip's level for archives, 0 to 9.
    pub gzip_level: u32,
    /// How nodes are kept apart; found out by trying when `None`.
    pub mode: Option<Mode>,
    /// The ferry binary, whose other names the tools are; this process's own when `None`.
    pub exe: Option<PathBuf>,
    /// Keep what lies on the nodes from the last time.
    pub keep: bool,
}

impl Default for Options {
    fn default() -> Self {
        let node = Node::default();
        Self {
            generation: Generation::default(),
            faults: Vec::new(),
            time_scale: node.time_scale,
            archive_mib: node.archive_mib,
            hook_seconds: node.hook_seconds,
            restore_seconds: node.restore_seconds,
            settle_seconds: node.settle_seconds,
            versions: BTreeMap::new(),
            amv: true,
            gzip_level: node.gzip_level,
            mode: None,
            exe: None,
            keep: false,
        }
    }
}

/// A node that is up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeUp {
    /// Its name in the inventory.
    pub name: String,
    /// Its cluster's group in the inventory.
    pub cluster: String,
    /// The port of 127.0.0.1 on which its SSH server listens.
    pub port: u16,
    /// Its root folder.
    pub root: PathBuf,
}

/// A sandbox that is up; also the content of `sandbox.json` in its folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Up {
    /// The sandbox's folder, absolute.
    pub dir: PathBuf,
    /// Marks the processes of its nodes.
    pub id: String,
    /// The process that serves.
    pub pid: u32,
    /// When that process started, in clock ticks after boot, so that another one that got its
    /// number is not taken for it.
    pub start_time: u64,
    /// How its nodes are kept apart.
    pub mode: Mode,
    /// Its nodes.
    pub nodes: Vec<NodeUp>,
    /// The inventory.
    pub inventory: PathBuf,
    /// The host keys of the nodes.
    pub known_hosts: PathBuf,
    /// The private key that the nodes let in, 0600.
    pub key: PathBuf,
    /// A `ferry.toml` that names all of these, and a catalog and runs below the folder.
    pub config: PathBuf,
}

impl Up {
    /// The folder that describes the node of that name (`node.json`, `faults.json`, its journal).
    pub fn node_dir(&self, name: &str) -> PathBuf {
        self.dir.join("nodes").join(name).join("root/etc/ferry-sandbox")
    }

    /// The folder that the nodes of a cluster share (jobs, pods, logs, the count of runs).
    pub fn shared(&self, cluster: &str) -> PathBuf {
        self.dir.join("clusters").join(cluster)
    }
}

/// A cluster of the sandbox.
struct Plan {
    group: &'static str,
    gravity_name: &'static str,
    network: &'static str,
    uid: &'static str,
    dns: &'static str,
    nfs: &'static str,
}

const CLUSTERS: &[Plan] = &[
    Plan {
        group: "prod",
        gravity_name: "pce-prod",
        network: "10.0.0",
        uid: "5d1f2c9a-0c1e-4a39-9d1d-3a3c5b7f0a11",
        dns: "anypoint.prod.example",
        nfs: "nfs.prod.example:/srv/pce",
    },
    Plan {
        group: "dr",
        gravity_name: "pce-dr",
        network: "10.0.1",
        uid: "9b7e41d0-63a2-4f58-8f0b-1c2d3e4f5a66",
        dns: "anypoint.dr.example",
        nfs: "nfs.dr.example:/srv/pce",
    },
];

impl Plan {
    fn hosts(&self) -> impl Iterator<Item = String> {
        let group = self.group;
        (1..=3).map(move |number| format!("{group}-{number}"))
    }
}

fn trouble(what: impl Into<String>, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::CouldNotStart, format!("{}: {}", what.into(), path.display())).saw(error.to_string())
}

/// Starts the sandbox in a process of its own, which goes on when this one ends, and waits until
/// its nodes can be reached.
///
/// # Errors
/// [`Kind::CouldNotStart`]: the folder is in use, is something else, or cannot be written; the
/// process did not come up.
pub fn up(dir: &Path, options: &Options) -> Result<Up, Failure> {
    use std::os::unix::process::CommandExt as _;
    let dir = claim(dir)?;
    drop(lock(&dir)?);
    let exe = exe(options)?;
    let options = Options { exe: Some(exe.clone()), ..options.clone() };
    write(&dir.join("options.json"), &serde_json::to_vec_pretty(&options).unwrap_or_default(), 0o600)?;
    let ready = dir.join("sandbox.json");
    remove(&ready)?;
    let log = dir.join("server.log");
    let out = fs::File::create(&log).map_err(|error| trouble("cannot write", &log, &error))?;
    let mut child = std::process::Command::new(&exe)
        .arg0(SERVER)
        .arg(&dir)
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(out)
        .spawn()
        .map_err(|error| trouble("cannot start", &exe, &error))?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        if let Some(up) = read_up(&dir) {
            return Ok(up);
        }
        if let Ok(Some(status)) = child.try_wait() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(Failure::new(Kind::CouldNotStart, "the sandbox did not come up").saw(format!(
                "{}{status}",
                if said.is_empty() { String::new() } else { format!("{}; ", said.trim()) }
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    clean(&dir)?;
    Err(Failure::new(Kind::CouldNotStart, "the sandbox did not come up within 30 s")
        .mend(format!("look at {}", log.display())))
}

/// Ends the sandbox in `dir` and every process of its nodes. Its files stay.
///
/// # Errors
/// [`Kind::CouldNotStart`]: `dir` is no sandbox. [`Kind::Failed`]: a process would not go.
pub fn down(dir: &Path) -> Result<(), Failure> {
    let dir = fs::canonicalize(dir).map_err(|error| trouble("there is no sandbox", dir, &error))?;
    if !dir.join(".ferry-sandbox").exists() {
        return Err(Failure::new(Kind::CouldNotStart, format!("this folder is no sandbox: {}", dir.display())));
    }
    let server = fs::read(dir.join("server.json")).ok();
    if let Some(up) = server.and_then(|bytes| serde_json::from_slice::<Serving>(&bytes).ok())
        && start_time(up.pid) == Some(up.start_time)
        && up.pid != std::process::id()
    {
        // The server ends its own nodes when it is asked to.
        signal(up.pid, Signal::TERM);
        let begun = Instant::now();
        while start_time(up.pid) == Some(up.start_time) && !zombie(up.pid) {
            if begun.elapsed() > Duration::from_secs(10) {
                signal(up.pid, Signal::KILL);
            }
            if begun.elapsed() > Duration::from_secs(15) {
                return Err(
                    Failure::new(Kind::Failed, "the sandbox's server does not end").saw(format!("process {}", up.pid))
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    clean(&dir)
}

/// Sets or ends faults of a sandbox while it is up.
///
/// # Errors
/// [`Kind::CouldNotStart`]: a file cannot be written.
pub fn set_faults(dir: &Path, settings: &[FaultSetting]) -> Result<(), Failure> {
    for setting in settings {
        let targets: Vec<PathBuf> = match &setting.target {
            None => CLUSTERS.iter().map(|cluster| dir.join("clusters").join(cluster.group)).collect(),
            Some(name) if CLUSTERS.iter().any(|cluster| cluster.group == name) => {
                vec![dir.join("clusters").join(name)]
            }
            Some(name) => vec![dir.join("nodes").join(name).join("root/etc/ferry-sandbox")],
        };
        for target in targets {
            let path = target.join("faults.json");
            let mut all: BTreeMap<String, String> =
                fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
            all.insert(setting.name.clone(), setting.value.clone());
            pretend::replace(&path, &serde_json::to_vec_pretty(&all).unwrap_or_default())
                .map_err(|error| trouble("cannot write", &path, &error))?;
        }
    }
    // What a standing fault leaves lying about must be there before anybody calls a tool.
    for name in CLUSTERS.iter().flat_map(Plan::hosts) {
        let root = dir.join("nodes").join(name).join("root");
        if let Ok(Some(mut node)) = Node::read(&root.join("etc/ferry-sandbox")) {
            if !node.state_dir.starts_with(&root) {
                node.state_dir = root.join("var/lib/gravity");
                node.shared = dir.join("clusters").join(if node.cluster == "pce-dr" { "dr" } else { "prod" });
            }
            node.stand();
            gravity_is_there(dir, &root, !node.has("pce4"))?;
        }
    }
    Ok(())
}

/// The gravity command of a node comes or goes: in namespaces another folder of tools is mounted,
/// else the link in the node's own folder is.
fn gravity_is_there(dir: &Path, root: &Path, there: bool) -> Result<(), Failure> {
    let mark = root.join("etc/ferry-sandbox/without-gravity");
    let link = root.join(pretend::BIN).join("gravity");
    remove(&mark)?;
    remove(&link)?;
    if !there {
        return write(&mark, b"", 0o644);
    }
    let ours = dir.join(BINS[0]).join("ferry");
    std::os::unix::fs::symlink(&ours, &link).map_err(|error| trouble("cannot link", &link, &error))
}

/// What a cluster (`prod` or `dr`) of the sandbox in `dir` holds on Gravity's side: path → sha256 in
/// hex. A backup saves exactly this (and bulk), a restore replaces it.
///
/// # Errors
/// [`Kind::CouldNotStart`]: there is no such cluster, or a file cannot be read.
pub fn content(dir: &Path, cluster: &str) -> Result<BTreeMap<String, String>, Failure> {
    let held = held(dir, cluster, pretend::content::CONTENT)?;
    pretend::content::digests(&held).map_err(|error| trouble("cannot read", &held, &error))
}

/// As [`content`], of AMV's databases: what `amv-backup-restore.sh` saves and restores.
///
/// # Errors
/// As [`content`].
pub fn amv_content(dir: &Path, cluster: &str) -> Result<BTreeMap<String, String>, Failure> {
    let held = held(dir, cluster, pretend::content::AMV)?;
    pretend::content::digests(&held).map_err(|error| trouble("cannot read", &held, &error))
}

/// Changes the file `what` of a cluster's state on Gravity's side, or adds it. Its digest is then one
/// that it never had.
///
/// # Errors
/// [`Kind::CouldNotStart`]: there is no such cluster, or the file cannot be written.
pub fn change(dir: &Path, cluster: &str, what: &str) -> Result<(), Failure> {
    let held = held(dir, cluster, pretend::content::CONTENT)?;
    pretend::content::change(&held, what).map_err(|error| trouble("cannot write in", &held, &error))
}

/// As [`change`], of AMV's databases.
///
/// # Errors
/// As [`change`].
pub fn amv_change(dir: &Path, cluster: &str, what: &str) -> Result<(), Failure> {
    let held = held(dir, cluster, pretend::content::AMV)?;
    pretend::content::change(&held, what).map_err(|error| trouble("cannot write in", &held, &error))
}

fn held(dir: &Path, cluster: &str, side: &str) -> Result<PathBuf, Failure> {
    let Some(cluster) = CLUSTERS.iter().find(|known| known.group == cluster) else {
        return Err(Failure::new(Kind::CouldNotStart, "the sandbox has no such cluster").saw(cluster));
    };
    Ok(dir.join("clusters").join(cluster.group).join(side))
}

/// What the pretend tools of all clusters did, oldest first. ferry has no part in it.
///
/// # Errors
/// [`Kind::CouldNotStart`]: the record cannot be read.
pub fn record(dir: &Path) -> Result<Vec<Record>, Failure> {
    let mut all = Vec::new();
    for cluster in CLUSTERS {
        let shared = dir.join("clusters").join(cluster.group);
        all.extend(pretend::record::read(&shared).map_err(|error| trouble("cannot read", &shared, &error))?);
    }
    all.sort_by_key(|record| record.at);
    Ok(all)
}

/// Reboots a node: ends all its processes at once and gives it another boot id (in namespaces).
///
/// # Errors
/// [`Kind::Failed`]: a process would not go. [`Kind::CouldNotStart`]: a file cannot be written.
pub fn reboot(dir: &Path, name: &str) -> Result<(), Failure> {
    let Some(up) = read_up(dir) else {
        return Err(Failure::new(Kind::CouldNotStart, format!("this sandbox is not up: {}", dir.display())));
    };
    let mark = format!("{MARK}={}", up.id);
    let host = format!("{HOST}={name}");
    // A job's supervisor threw its environment away; it still has the node's root.
    let root = up.dir.join("nodes").join(name);
    kill_all(|process| process.has(&mark) && process.has(&host) || process.roots_in(&root))?;
    let bits: u128 = rand::random();
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    let id = format!("{}-{}-4{}-8{}-{}\n", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32));
    write(&dir.join("nodes").join(name).join("boot_id"), id.as_bytes(), 0o644)
}

/// A sandbox that this process serves. Dropping it ends the server; [`Running::stop`] ends the
/// nodes' processes as well.
#[derive(Debug)]
pub struct Running {
    /// What is up, and where.
    pub up: Up,
    servers: Vec<Server>,
    _lock: fs::File,
}

/// Starts the sandbox within this process. Must be called within a Tokio runtime.
///
/// # Errors
/// [`Kind::CouldNotStart`]: the folder is in use, is something else, or cannot be written; no
/// port could be had.
pub async fn start(dir: &Path, options: &Options) -> Result<Running, Failure> {
    let dir = claim(dir)?;
    let lock = lock(&dir)?;
    // A server that was killed left its jobs running.
    clean(&dir)?;
    let id = format!("{:032x}", rand::random::<u128>());
    let pid = std::process::id();
    let start_time = start_time(pid).unwrap_or(0);
    let serving = Serving { pid, start_time, id: id.clone() };
    write(&dir.join("server.json"), &serde_json::to_vec(&serving).unwrap_or_default(), 0o600)?;
    lay_out(&dir, options)?;
    let mode = match options.mode {
        Some(mode) => mode,
        None => find_mode(&dir, &id).await,
    };
    let key = KeyPair::generate()?;
    let mut servers = Vec::new();
    let mut nodes = Vec::new();
    let mut known_hosts = String::new();
    let ports: Arc<std::sync::OnceLock<Vec<u16>>> = Arc::default();
    for cluster in CLUSTERS {
        for name in cluster.hosts() {
            let root = dir.join("nodes").join(&name).join("root");
            describe(&dir, cluster, &name, mode, options)?;
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| {
                Failure::new(Kind::CouldNotStart, "no port of 127.0.0.1 is free").saw(error.to_string())
            })?;
            let host_key = KeyPair::generate()?;
            let public = host_key.public()?;
            let ours = ports.clone();
            let server = Server::start(
                listener,
                serve::Options {
                    host_key,
                    authorized: vec![key.public()?],
                    users: vec!["root".to_owned(), "ops".to_owned()],
                    runner: Some(runner(&dir, cluster.group, &name, mode, &id)),
                    forward: Some(Arc::new(move |port| ours.get().is_some_and(|ours| ours.contains(&port)))),
                    banner: None,
                },
            )?;
            known_hosts.push_str(&format!("[127.0.0.1]:{} {public}\n", server.port()));
            nodes.push(NodeUp { name, cluster: cluster.group.to_owned(), port: server.port(), root });
            servers.push(server);
        }
    }
    let _ = ports.set(nodes.iter().map(|node| node.port).collect());
    let up = Up {
        id,
        pid,
        start_time,
        mode,
        nodes,
        inventory: dir.join("inventory.yml"),
        known_hosts: dir.join("known_hosts"),
        key: dir.join("id_ed25519"),
        config: dir.join("ferry.toml"),
        dir,
    };
    write(&up.key, key.private()?.as_bytes(), 0o600)?;
    write(&up.dir.join("id_ed25519.pub"), format!("{} sandbox\n", key.public()?).as_bytes(), 0o644)?;
    write(&up.known_hosts, known_hosts.as_bytes(), 0o644)?;
    write(&up.inventory, inventory(&up, options.amv).as_bytes(), 0o644)?;
    write(&up.config, CONFIG.as_bytes(), 0o644)?;
    set_faults(&up.dir, &options.faults)?;
    write(&up.dir.join("sandbox.json"), &serde_json::to_vec_pretty(&up).unwrap_or_default(), 0o600)?;
    Ok(Running { up, servers, _lock: lock })
}

impl Running {
    /// Ends the server and every process of the nodes.
    ///
    /// # Errors
    /// [`Kind::Failed`]: a process would not go.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.servers.clear();
        clean(&self.up.dir)
    }
}

/// Serves the sandbox in this process until SIGTERM, SIGINT or SIGHUP, then ends its nodes.
/// `ready` is called once the nodes can be reached.
///
/// # Errors
/// As [`start`] and [`Running::stop`].
pub async fn serve_foreground(dir: &Path, options: &Options, ready: impl FnOnce(&Up)) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Failure::new(Kind::CouldNotStart, "cannot wait for signals").saw(error.to_string()))
    };
    let (mut term, mut int, mut hup) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    let running = start(dir, options).await?;
    ready(&running.up);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        _ = hup.recv() => {}
    }
    running.stop()
}

/// The whole of the process that [`up`] starts; its exit code.
pub(crate) fn server_main(dir: Option<&Path>) -> u8 {
    let Some(dir) = dir else { return 64 };
    // Out of the session of whoever called `up`, so that closing a terminal does not end it.
    let _ = rustix::process::setsid();
    let options = fs::read(dir.join("options.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let options: Options = options.unwrap_or_default();
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::CouldNotStart, "no runtime").saw(error.to_string()))
        .and_then(|runtime| runtime.block_on(serve_foreground(dir, &options, |_| ())));
    match done {
        Ok(()) => 0,
        Err(failure) => {
            pretend::say_err(format!("{failure}\n"));
            1
        }
    }
}

/// Which process serves, written before any node can run anything.
#[derive(Serialize, Deserialize)]
struct Serving {
    pid: u32,
    start_time: u64,
    id: String,
}

fn read_up(dir: &Path) -> Option<Up> {
    serde_json::from_slice(&fs::read(dir.join("sandbox.json")).ok()?).ok()
}

fn exe(options: &Options) -> Result<PathBuf, Failure> {
    match &options.exe {
        Some(exe) => Ok(exe.clone()),
        None => std::env::current_exe().map_err(|error| {
            Failure::new(Kind::CouldNotStart, "cannot find this program's file").saw(error.to_string())
        }),
    }
}

/// Makes the folder ours: an empty one, a new one, or one that was a sandbox before.
fn claim(dir: &Path) -> Result<PathBuf, Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| trouble("cannot make", dir, &error))?;
    let dir = fs::canonicalize(dir).map_err(|error| trouble("cannot find", dir, &error))?;
    let text = dir.to_str().unwrap_or("\n");
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\\' | '%' | '$')) {
        return Err(Failure::new(Kind::CouldNotStart, "a sandbox cannot be in this folder")
            .saw(dir.display().to_string())
            .why("its path goes into options of ssh, where blanks and quotes would be read otherwise")
            .mend("name another with --dir"));
    }
    let mark = dir.join(".ferry-sandbox");
    if !mark.exists() {
        let mut entries = fs::read_dir(&dir).map_err(|error| trouble("cannot read", &dir, &error))?;
        if entries.next().is_some() {
            return Err(Failure::new(
                Kind::CouldNotStart,
                format!("this folder is not empty and no sandbox: {}", dir.display()),
            )
            .mend("name another with --dir"));
        }
        write(&mark, b"made by ferry sandbox up\n", 0o600)?;
    }
    Ok(dir)
}

fn lock(dir: &Path) -> Result<fs::File, Failure> {
    let path = dir.join("lock");
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| trouble("cannot open", &path, &error))?;
    // A server that was just killed holds it until its last thread is gone, and a process that is
    // being started holds it until it is executed: both let go within moments.
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if begun.elapsed() < Duration::from_secs(2) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(fs::TryLockError::WouldBlock) => {
                let what = format!("a sandbox is up in this folder: {}", dir.display());
                let mend = format!("ferry sandbox down --dir {}", dir.display());
                return Err(Failure::new(Kind::CouldNotStart, what).mend(mend));
            }
            Err(fs::TryLockError::Error(error)) => return Err(trouble("cannot lock", &path, &error)),
        }
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let made = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&part);
    made.and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&part, path)
    })
    .map_err(|error| trouble("cannot write", path, &error))
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(trouble("cannot remove", path, &error)),
        _ => Ok(()),
    }
}

/// Makes the folders of clusters and nodes, and the tools.
fn lay_out(dir: &Path, options: &Options) -> Result<(), Failure> {
    let make = |path: &Path| fs::create_dir_all(path).map_err(|error| trouble("cannot make", path, &error));
    if !options.keep {
        // Nothing is mounted below the folder as we see it, or removing would go through it.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let inside = |line: &str| {
            line.split(' ').nth(4).is_some_and(|at| Path::new(at).starts_with(dir) && Path::new(at) != dir)
        };
        if let Some(mount) = mounts.lines().find(|line| inside(line)) {
            return Err(Failure::new(Kind::CouldNotStart, "something is mounted below the sandbox's folder").saw(mount));
        }
        for old in ["nodes", "clusters", BINS[0], BINS[1]] {
            match fs::remove_dir_all(dir.join(old)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(trouble("cannot remove", &dir.join(old), &error));
                }
                _ => {}
            }
        }
    }
    let mut exe = exe(options)?;
    for bin in BINS {
        let bin = dir.join(bin);
        make(&bin)?;
        let ours = bin.join("ferry");
        remove(&ours)?;
        // A hard link costs nothing and keeps this very binary when the other is built anew.
        if fs::hard_link(&exe, &ours).is_err() {
            fs::copy(&exe, &ours).map_err(|error| trouble("cannot copy", &exe, &error))?;
        }
        // On another disk than the first it is copied once.
        exe = ours;
        for tool in pretend::TOOLS.iter().filter(|tool| **tool != "gravity" || bin.ends_with(BINS[0])) {
            let link = bin.join(tool);
            remove(&link)?;
            std::os::unix::fs::symlink("ferry", &link).map_err(|error| trouble("cannot link", &link, &error))?;
        }
    }
    write(&dir.join("enter.sh"), ENTER.as_bytes(), 0o600)?;
    for cluster in CLUSTERS {
        make(&dir.join("clusters").join(cluster.group))?;
        for name in cluster.hosts() {
            let at = dir.join("nodes").join(&name).join("root");
            root(&at, &name)?;
            // For nodes without namespaces; in them a folder of tools is mounted over it.
            for tool in pretend::TOOLS {
                let link = at.join(pretend::BIN).join(tool);
                remove(&link)?;
                std::os::unix::fs::symlink(dir.join(BINS[0]).join("ferry"), &link)
                    .map_err(|error| trouble("cannot link", &link, &error))?;
            }
        }
    }
    Ok(())
}

/// The root folder of one node.
fn root(root: &Path, name: &str) -> Result<(), Failure> {
    let make = |path: &Path| fs::create_dir_all(path).map_err(|error| trouble("cannot make", path, &error));
    for folder in [
        "usr",
        "proc",
        "dev",
        "run",
        "tmp",
        "var/lib",
        "var/log",
        "var/tmp",
        "root",
        "home",
        "srv",
        "mnt",
        "etc/alternatives",
        "etc/ferry-sandbox/cluster",
        "opt/ferry-sandbox/bin",
    ] {
        make(&root.join(folder))?;
    }
    for folder in SYSTEM {
        let (host, here) = (Path::new("/").join(folder), root.join(folder));
        match fs::read_link(&host) {
            Ok(target) => {
                let _ = fs::remove_file(&here);
                std::os::unix::fs::symlink(target, &here).map_err(|error| trouble("cannot link", &here, &error))?;
            }
            Err(_) if host.is_dir() => make(&here)?,
            Err(_) => {}
        }
    }
    let sticky = root.join("tmp");
    let _ = fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777));
    let _ = fs::set_permissions(root.join("root"), fs::Permissions::from_mode(0o700));
    let text = |path: &str, text: &str| write(&root.join(path), text.as_bytes(), 0o644);
    text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
    text("etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
    text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")?;
    text("etc/hostname", &format!("{name}\n"))?;
    text("etc/hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {name}\n"))?;
    text(
        "etc/os-release",
        "NAME=\"CentOS Linux\"\nVERSION=\"7 (Core)\"\nID=\"centos\"\nVERSION_ID=\"7\"\nPRETTY_NAME=\"CentOS Linux 7 (Core), pretended\"\n",
    )?;
    let _ = fs::copy("/etc/ld.so.cache", root.join("etc/ld.so.cache"));
    Ok(())
}

/// Writes what a node is.
fn describe(dir: &Path, cluster: &Plan, name: &str, mode: Mode, options: &Options) -> Result<(), Failure> {
    let root = dir.join("nodes").join(name).join("root");
    let shared = dir.join("clusters").join(cluster.group);
    let address = |host: &str| format!("{}.1{}", cluster.network, host.rsplit('-').next().unwrap_or("1"));
    let members = cluster.hosts().map(|host| Member {
        advertise_ip: address(&host),
        hostname: host,
        role: "master".to_owned(),
        profile: "node".to_owned(),
        status: "healthy".to_owned(),
        failed_probes: Vec::new(),
    });
    let node = Node {
        cluster: cluster.gravity_name.to_owned(),
        app_version: options.versions.get(cluster.group).map_or(options.generation.pce_version(), |v| v).to_owned(),
        gravity_version: options.generation.gravity_version().to_owned(),
        generation: options.generation,
        hostname: name.to_owned(),
        advertise_ip: address(name),
        nodes: members.collect(),
        state_dir: root.join("var/lib/gravity"),
        shared: shared.clone(),
        kube_system_uid: cluster.uid.to_owned(),
        time_scale: options.time_scale,
        archive_mib: options.archive_mib,
        hook_seconds: options.hook_seconds,
        restore_seconds: options.restore_seconds,
        settle_seconds: options.settle_seconds,
        amv: options.amv,
        platform_dns: cluster.dns.to_owned(),
        other_names: CLUSTERS
            .iter()
            .filter(|other| other.group != cluster.group)
            .map(|other| (other.dns.to_owned(), format!("{}.11", other.network)))
            .collect(),
        nfs_source: cluster.nfs.to_owned(),
        gzip_level: options.gzip_level,
        pretend_root: mode == Mode::Path,
        ..Node::default()
    };
    let folder = root.join("etc/ferry-sandbox");
    node.lay_out().map_err(|error| trouble("cannot lay out", &root, &error))?;
    // On the node itself the paths are those of the node.
    let seen = match mode {
        Mode::Path => node,
        Mode::Namespaces => Node {
            state_dir: PathBuf::from("/var/lib/gravity"),
            shared: PathBuf::from("/etc/ferry-sandbox/cluster"),
            ..node
        },
    };
    seen.write(&folder).map_err(|error| trouble("cannot write", &folder, &error))
}

/// Enters a node: namespaces are there already, the rest is mounted here. `$1` the sandbox's
/// folder, `$2` the cluster, `$3` the node, `$4` the command for its shell.
const ENTER: &str = r#"set -e
dir=$1 cluster=$2 node=$3
root=$dir/nodes/$node/root
mount --bind "$root" "$root"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /usr "$root/usr"
mount -o remount,bind,ro "$root/usr"
for name in bin sbin lib lib32 lib64 libx32; do
  if [ -d "/$name" ] && ! [ -L "/$name" ]; then
    mount --rbind "/$name" "$root/$name"
    mount -o remount,bind,ro "$root/$name"
  fi
done
if [ -d /etc/alternatives ]; then
  mount --rbind /etc/alternatives "$root/etc/alternatives"
  mount -o remount,bind,ro "$root/etc/alternatives"
fi
bin=$dir/bin
if [ -f "$root/etc/ferry-sandbox/without-gravity" ]; then bin=$dir/bin-without-gravity; fi
mount --bind "$bin" "$root/opt/ferry-sandbox/bin"
mount -o remount,bind,ro "$root/opt/ferry-sandbox/bin"
mount --bind "$dir/clusters/$cluster" "$root/etc/ferry-sandbox/cluster"
if [ -f "$dir/nodes/$node/boot_id" ]; then
  mount --bind "$dir/nodes/$node/boot_id" "$root/proc/sys/kernel/random/boot_id"
fi
echo "$node" >/proc/sys/kernel/hostname 2>/dev/null || :
exec chroot "$root" /bin/sh -c 'cd /root; exec /bin/sh -c "$1"' sh "$4"
"#;

/// How a node's commands are run.
fn runner(dir: &Path, cluster: &str, name: &str, mode: Mode, id: &str) -> Runner {
    let (dir, cluster, name, id) = (dir.to_owned(), cluster.to_owned(), name.to_owned(), id.to_owned());
    Arc::new(move |request: &ExecRequest| {
        use std::os::unix::ffi::OsStrExt as _;
        let line = std::ffi::OsStr::from_bytes(&request.command);
        let mut command = match mode {
            Mode::Namespaces => {
                let mut command = tokio::process::Command::new("unshare");
                command.args(["--user", "--map-root-user", "--mount", "--uts", "/bin/sh"]);
                command.arg(dir.join("enter.sh")).arg(&dir).arg(&cluster).arg(&name).arg(line).env_clear();
                command.env("PATH", format!("{TOOLS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
                command.env("HOME", "/root").current_dir("/");
                command
            }
            Mode::Path => {
                let root = dir.join("nodes").join(&name).join("root");
                let mut command = tokio::process::Command::new("/bin/sh");
                command.arg("-c").arg(line).env_clear();
                let tools = root.join(pretend::BIN);
                command.env(
                    "PATH",
                    format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", tools.display()),
                );
                command.env("FERRY_SANDBOX_NODE", root.join("etc/ferry-sandbox"));
                command.env("HOME", root.join("root")).env("TMPDIR", root.join("tmp")).current_dir(root.join("root"));
                command
            }
        };
        command.env(MARK, &id).env(HOST, &name);
        command.env("USER", &request.user).env("LOGNAME", &request.user).env("SHELL", "/bin/sh").env("LC_ALL", "C");
        command
    })
}

/// Finds out by trying whether namespaces can be had here, and whether `/usr` in them cannot be
/// written.
async fn find_mode(dir: &Path, id: &str) -> Mode {
    let Some(cluster) = CLUSTERS.first() else { return Mode::Path };
    let Some(name) = cluster.hosts().next() else { return Mode::Path };
    let make = runner(dir, cluster.group, &name, Mode::Namespaces, id);
    let script = format!(
        "test -x {TOOLS}/gravity && test \"$(id -u)\" = 0 && test -r /proc/self/stat && ! touch /usr/.ferry-sandbox-probe 2>/dev/null && test -d /etc/ferry-sandbox/cluster && echo fine"
    );
    let mut command = make(&ExecRequest { user: "root".to_owned(), command: script.into_bytes() });
    command.stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(Duration::from_secs(10), command.output()).await {
        Ok(Ok(output)) if output.status.success() && output.stdout == b"fine\n" => Mode::Namespaces,
        _ => Mode::Path,
    }
}

const CONFIG: &str = "# Written by `ferry sandbox up`: leads ferry to the pretend clusters in this folder.
inventory = \"inventory.yml\"
catalog = \"catalog\"
runs = \"runs\"
";

/// The inventory, as an operator would write it.
fn inventory(up: &Up, amv: bool) -> String {
    let mut out = format!(
        "# Written by `ferry sandbox up`.\nall:\n  vars:\n    ansible_host: 127.0.0.1\n    ansible_user: root\n    ansible_become: false\n    ansible_private_key_file: {key}\n    ansible_ssh_common_args: \"-o UserKnownHostsFile={known}\"\n    pce_gravity: {TOOLS}/gravity\n    pce_kubectl: {TOOLS}/kubectl\n  children:\n",
        key = up.key.display(),
        known = up.known_hosts.display(),
    );
    for cluster in CLUSTERS {
        out.push_str(&format!(
            "    {}:\n      vars:\n        pce_cluster_name: {}\n        pce_platform_dns: {}\n",
            cluster.group, cluster.gravity_name, cluster.dns
        ));
        if amv {
            out.push_str(&format!("        pce_amv: true\n        pce_amv_backup_dir: {AMV_DIR}\n"));
        }
        out.push_str("      hosts:\n");
        for node in up.nodes.iter().filter(|node| node.cluster == cluster.group) {
            out.push_str(&format!("        {}:\n          ansible_port: {}\n", node.name, node.port));
            if up.mode == Mode::Path {
                let root = node.root.display();
                out.push_str(&format!(
                    "          pce_gravity: {root}{TOOLS}/gravity\n          pce_kubectl: {root}{TOOLS}/kubectl\n          pce_state_dir: {root}/var/lib/gravity\n          pce_work_dir: {root}/var/lib/data/ferry\n          ferry_node_dir: {root}/var/lib/ferry\n"
                ));
                if amv {
                    out.push_str(&format!("          pce_amv_backup_dir: {root}{AMV_DIR}\n"));
                }
            }
        }
    }
    out.push_str("    mains:\n      hosts:\n");
    for node in &up.nodes {
        out.push_str(&format!("        {}: {{}}\n", node.name));
    }
    out
}

/// Ends what is left of a sandbox: every process that carries its mark or has a node's root as its own.
fn clean(dir: &Path) -> Result<(), Failure> {
    let serving: Option<Serving> =
        fs::read(dir.join("server.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mark = serving.as_ref().map(|serving| format!("{MARK}={}", serving.id));
    let nodes = dir.join("nodes");
    // The mark is in the environment of all that a node starts; a process that threw its
    // environment away still has the node's root.
    kill_all(|process| {
        mark.as_ref().is_some_and(|mark| process.has(mark)) || process.roots_in(&nodes) || process.serves_in(&nodes)
    })?;
    remove(&dir.join("sandbox.json"))?;
    Ok(())
}

/// A process, looked at through `/proc`.
struct Process {
    pid: u32,
    environ: Vec<u8>,
}

impl Process {
    fn all() -> Vec<Self> {
        let ours = std::process::id();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| *pid != ours && *pid > 1 && !zombie(*pid))
            .map(|pid| Self { pid, environ: fs::read(format!("/proc/{pid}/environ")).unwrap_or_default() })
            .collect()
    }

    /// True when its environment held exactly this when it was started.
    fn has(&self, setting: &str) -> bool {
        self.environ.split(|byte| *byte == 0).any(|entry| entry == setting.as_bytes())
    }

    /// True when it is a pretend tool's, of a node below `dir`: without namespaces that is all that is
    /// left of the mark when a job has thrown its environment away.
    fn serves_in(&self, dir: &Path) -> bool {
        let mark = [b"FERRY_SANDBOX_NODE=".as_slice(), dir.as_os_str().as_encoded_bytes(), b"/"].concat();
        self.environ.split(|byte| *byte == 0).any(|entry| entry.starts_with(&mark))
    }

    /// True when its `/` is below `dir`. A working folder there says nothing: that may be the
    /// operator's own shell.
    fn roots_in(&self, dir: &Path) -> bool {
        fs::read_link(format!("/proc/{}/root", self.pid)).is_ok_and(|root| root.starts_with(dir))
    }
}

/// Kills every process that `ours` knows, until none is left: they may be starting others.
fn kill_all(ours: impl Fn(&Process) -> bool) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let left: Vec<u32> = Process::all().iter().filter(|process| ours(process)).map(|process| process.pid).collect();
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(10) {
            return Err(Failure::new(Kind::Failed, "processes of the sandbox do not end").saw(format!("{left:?}")));
        }
        for pid in left {
            signal(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// The fields of `/proc/PID/stat` behind the name, which may hold blanks and brackets.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// When a process started, in clock ticks after boot.
fn start_time(pid: u32) -> Option<u64> {
    stat(pid)?.get(19)?.parse().ok()
}

fn zombie(pid: u32) -> bool {
    stat(pid).is_none_or(|fields| fields.first().is_some_and(|state| state == "Z" || state == "X"))
}
