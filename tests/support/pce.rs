//! A pretend cluster on real nodes, and the desk of somebody who works on it.
//!
//! The pretend `gravity`, `kubectl`, `journalctl`, `getent`, `openssl` and `findmnt` are the ferry
//! binary, mounted into nodes that have real sshd, sudo and PAM; AMV's script lies where the vendor
//! leaves it, and belongs to the service user. The desk is a folder with everything that an operator has: a home,
//! a key, an inventory, a catalog; ferry is run there with an environment of its own.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ferry::sandbox::pretend::record::{self, Record};
use ferry::sandbox::pretend::{FAULTS, Member, Node, content};

use super::real::{Opts, RealNode};

/// The ferry under test.
pub const FERRY: &str = env!("CARGO_BIN_EXE_ferry");

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What was said on both streams.
pub fn said(out: &Output) -> String {
    format!("{}{}", text(&out.stdout), text(&out.stderr))
}

/// Runs a tool of this machine that must succeed.
pub fn tool(name: &str, args: &[&str]) -> Output {
    let out = Command::new(name).args(args).env_remove("SSH_AUTH_SOCK").stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{name} {args:?}: {}", said(&out));
    out
}

/// Waits for a child, and ends it when it takes too long: a test that hangs says why.
pub fn finish(child: std::process::Child, seconds: u64) -> Output {
    let pid = rustix::process::Pid::from_child(&child);
    let (done, over) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if over.recv_timeout(std::time::Duration::from_secs(seconds)).is_err() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let out = child.wait_with_output().unwrap();
    let _ = done.send(());
    guard.join().unwrap();
    out
}

/// An operator's desk.
pub struct Desk {
    dir: tempfile::TempDir,
    /// The operator's private key.
    pub key: PathBuf,
}

impl Desk {
    /// A home, a key, and nothing else.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("desk-").tempdir().unwrap();
        for folder in ["home", "home/.ssh", "tmp", "work", "operator"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        std::fs::set_permissions(dir.path().join("home/.ssh"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let key = dir.path().join("operator/key");
        tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", key.to_str().unwrap()]);
        let desk = Self { dir, key };
        std::fs::write(
            desk.at("ferry.toml"),
            "inventory = \"operator/inventory.yml\"\ncatalog = \"work/catalog\"\nruns = \"work/runs\"\n",
        )
        .unwrap();
        desk
    }

    /// A path on the desk.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where everything that ferry writes goes: the work folder, its home, its temporary folder.
    /// What the operator typed in (`operator/`) is not there.
    pub fn written(&self) -> Vec<PathBuf> {
        vec![self.at("work"), self.at("home"), self.at("tmp"), self.at("ferry.toml")]
    }

    /// Writes a file of the operator's, 0600.
    pub fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.at("operator").join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The operator's public key as a line.
    pub fn public(&self) -> String {
        std::fs::read_to_string(self.key.with_extension("pub")).unwrap().trim().to_owned()
    }

    /// A ferry that is ready for its arguments.
    pub fn ferry(&self) -> Command {
        let mut command = Command::new(FERRY);
        self.dress(&mut command);
        command
    }

    /// Gives a command the desk's environment, and nothing of the test's own.
    pub fn dress(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.at("home"))
            .env("TMPDIR", self.at("tmp"))
            .env("USER", "operator")
            .env("TERM", "dumb")
            .env("FERRY_CONFIG", self.at("ferry.toml"))
            .env("FERRY_LINK_PATIENCE", "20")
            .current_dir(self.at("work"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }

    /// Runs ferry to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        finish(self.ferry().args(args).spawn().unwrap(), 120)
    }
}

/// Options that let the desk's key in.
pub fn with_key(mut opts: Opts, desk: &Desk) -> Opts {
    let (user, key) = (opts.user.clone(), desk.public());
    opts.setup.push(format!("echo '{key}' >>/home/{user}/.ssh/authorized_keys"));
    opts
}

/// Real nodes that look like one cluster.
pub struct Cluster {
    /// Its group in an inventory: `prod`, unless it was started as another.
    pub group: String,
    /// `prod-1`, `prod-2`, ….
    pub nodes: Vec<RealNode>,
    /// What the pretend cluster shares among its nodes.
    pub shared: tempfile::TempDir,
}

/// Gravity's service user from 7.0 on.
pub const SERVICE_UID: u32 = 980_665;

/// Where the system's own tools are that pretended ones stand in front of.
const REAL_TOOLS: &str = "/opt/ferry-sandbox/real";

impl Cluster {
    /// Starts `count` main nodes like `opts`, which the desk's key may enter, side by side.
    pub fn start(desk: &Desk, count: usize, opts: &Opts) -> Self {
        Self::start_as(desk, "prod", count, opts, |_| ())
    }

    /// As [`Cluster::start`], as the cluster `group` (`prod`, `dr`, …) with an identity, addresses, a
    /// platform name and an NFS of its own. `change` has the last word on what the nodes are like:
    /// versions, AMV (`node.amv`), times. With the fault `pce4` a node is made without Gravity.
    pub fn start_as(desk: &Desk, group: &str, count: usize, opts: &Opts, change: impl Fn(&mut Node)) -> Self {
        let shared = tempfile::Builder::new().prefix("cluster-").tempdir().unwrap();
        let names: Vec<String> = (1..=count).map(|number| format!("{group}-{number}")).collect();
        let mut node = Node { archive_mib: 2, hook_seconds: 60.0, time_scale: 60.0, ..Node::default() };
        if group != "prod" {
            let print = ferry::digest::Sha256::of(group.as_bytes()).to_string();
            node.cluster = format!("pce-{group}");
            node.kube_system_uid =
                format!("{}-{}-4{}-8{}-{}", &print[..8], &print[8..12], &print[12..15], &print[15..18], &print[18..30]);
            node.platform_dns = format!("anypoint.{group}.example");
            node.nfs_source = format!("nfs.{group}.example:/srv/pce");
            node.other_names.insert("anypoint.prod.example".to_owned(), "10.0.0.11".to_owned());
        }
        node.service_uid = Some(SERVICE_UID);
        let network = if group == "prod" { "10.0.0" } else { "10.0.1" };
        let member = |(at, name): (usize, &String)| Member {
            hostname: name.clone(),
            advertise_ip: format!("{network}.1{}", at + 1),
            role: "master".to_owned(),
            profile: "node".to_owned(),
            status: "healthy".to_owned(),
            failed_probes: Vec::new(),
        };
        let members: Vec<Member> = names.iter().enumerate().map(member).collect();
        node.nodes.clone_from(&members);
        change(&mut node);
        for folder in ["jobs", "pods", "logs"] {
            std::fs::create_dir(shared.path().join(folder)).unwrap();
        }
        content::ensure(&Node { shared: shared.path().to_owned(), ..node.clone() }).unwrap();
        let pce4 = node.faults.contains_key("pce4");
        let make = |at: usize| {
            let node =
                Node { hostname: names[at].clone(), advertise_ip: members[at].advertise_ip.clone(), ..node.clone() };
            let mut opts = with_key(opts.clone(), desk);
            opts.hostname = names[at].clone();
            let json = serde_json::to_string_pretty(&node).unwrap();
            opts.texts.push(("/etc/ferry-sandbox/node.json".to_owned(), json, 0o644));
            opts.binds.push((shared.path().to_owned(), "/etc/ferry-sandbox/cluster".to_owned()));
            for name in ["gravity", "kubectl", "journalctl"].into_iter().filter(|name| !(pce4 && *name == "gravity")) {
                opts.binds.push((PathBuf::from(FERRY), format!("/usr/bin/{name}")));
            }
            // A node may not have these; where it has, ours passes on to them what it does not pretend.
            for name in ["getent", "openssl", "findmnt"] {
                let own = PathBuf::from("/usr/bin").join(name);
                if own.exists() {
                    opts.binds.push((own.clone(), format!("{REAL_TOOLS}/{name}")));
                    opts.binds.push((PathBuf::from(FERRY), own.display().to_string()));
                }
            }
            opts.setup.push(
                "cd /var/lib && mkdir -p gravity/local gravity/planet/share gravity/planet/state && \
                 (umask 077; : >gravity/local/gravity.db)"
                    .to_owned(),
            );
            // As Gravity's installer leaves it.
            let (uid, planet) = (node.service_uid.unwrap_or(0), "/var/lib/gravity/planet");
            opts.setup.push(format!("chown -R {uid}:{uid} {planet} && chmod 755 {planet} {planet}/share"));
            if pce4 {
                opts.setup.push("rm -rf /var/lib/gravity".to_owned());
            }
            opts
        };
        let nodes: Vec<RealNode> = std::thread::scope(|scope| {
            let starting: Vec<_> = (0..count).map(|at| scope.spawn(move || RealNode::start(make(at)))).collect();
            starting.into_iter().map(|node| node.join().unwrap()).collect()
        });
        for node in &nodes {
            // The first call of a pretended tool makes what the vendor unpacked.
            let out = node.exec_in("/usr/bin/kubectl get nodes");
            assert!(out.status.success(), "{}", said(&out));
        }
        Self { group: group.to_owned(), nodes, shared }
    }

    /// What the cluster holds on Gravity's side: path → sha256. See `ferry::sandbox::content`.
    pub fn content(&self) -> BTreeMap<String, String> {
        content::digests(&self.shared.path().join(content::CONTENT)).unwrap()
    }

    /// What its AMV holds.
    pub fn amv_content(&self) -> BTreeMap<String, String> {
        content::digests(&self.shared.path().join(content::AMV)).unwrap()
    }

    /// Changes a file of Gravity's side.
    pub fn change(&self, what: &str) {
        content::change(&self.shared.path().join(content::CONTENT), what).unwrap();
    }

    /// Changes a file of AMV.
    pub fn amv_change(&self, what: &str) {
        content::change(&self.shared.path().join(content::AMV), what).unwrap();
    }

    /// What the pretended tools did, oldest first.
    pub fn record(&self) -> Vec<Record> {
        record::read(self.shared.path()).unwrap()
    }

    /// Switches a fault of the whole cluster; `off` ends it.
    pub fn fault(&self, name: &str, value: &str) {
        set_fault(&self.shared.path().join("faults.json"), name, value);
    }

    /// Switches a fault of one node, counted from 0.
    pub fn node_fault(&self, at: usize, name: &str, value: &str) {
        set_fault(&self.nodes[at].root_dir().join("etc/ferry-sandbox/faults.json"), name, value);
    }

    /// Real runs of gravity, by its own count.
    pub fn runs(&self) -> usize {
        let log = std::fs::read_to_string(self.shared.path().join("gravity-runs.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(" start ")).count()
    }

    /// An inventory of the cluster. `vars` are lines of the group `all`.
    pub fn inventory(&self, desk: &Desk, vars: &[&str]) -> String {
        inventory(desk, &self.nodes, vars)
    }
}

fn set_fault(path: &Path, name: &str, value: &str) {
    assert!(FAULTS.iter().any(|fault| fault.name == name), "there is no fault {name}");
    let mut all: BTreeMap<String, String> =
        std::fs::read(path).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap()).unwrap_or_default();
    all.insert(name.to_owned(), value.to_owned());
    std::fs::write(path, serde_json::to_vec(&all).unwrap()).unwrap();
}

/// An inventory of several clusters, each a group with `pce_cluster_name` and the platform's name;
/// otherwise as [`inventory`]. `of` are more lines of a cluster's own group.
pub fn inventory_of(desk: &Desk, clusters: &[&Cluster], vars: &[&str], of: impl Fn(&Cluster) -> Vec<String>) -> String {
    let path = desk.at("operator").join("known_hosts");
    let keys: Vec<u8> = clusters
        .iter()
        .flat_map(|cluster| &cluster.nodes)
        .flat_map(|node| std::fs::read(&node.known_hosts_path).unwrap())
        .collect();
    std::fs::write(&path, keys).unwrap();
    let mut out = format!(
        "all:\n  vars:\n    ansible_host: 127.0.0.1\n    ansible_user: ops\n    ansible_become: true\n    ansible_private_key_file: {}\n    ansible_ssh_common_args: \"{}\"\n",
        desk.key.display(),
        trusting(&path)
    );
    for line in vars {
        out += &format!("    {line}\n");
    }
    out += "  children:\n";
    for cluster in clusters {
        let group = &cluster.group;
        out += &format!(
            "    {group}:\n      vars:\n        pce_cluster_name: pce-{group}\n        pce_platform_dns: anypoint.{group}.example\n"
        );
        for line in of(cluster) {
            out += &format!("        {line}\n");
        }
        out += "      hosts:\n";
        for (at, node) in cluster.nodes.iter().enumerate() {
            out += &format!("        {group}-{}:\n          ansible_port: {}\n", at + 1, node.port);
        }
    }
    out += "    mains:\n      hosts:\n";
    for cluster in clusters {
        for at in 0..cluster.nodes.len() {
            out += &format!("        {}-{}: {{}}\n", cluster.group, at + 1);
        }
    }
    out
}

/// An inventory of nodes as `prod-1`, `prod-2`, … with known host keys and the desk's key. `vars` are lines
/// of the group `all`; `ansible_ssh_common_args` is set where they do not set it.
pub fn inventory(desk: &Desk, nodes: &[RealNode], vars: &[&str]) -> String {
    let known = known_hosts(desk, nodes);
    let mut out = format!(
        "all:\n  vars:\n    ansible_host: 127.0.0.1\n    ansible_user: ops\n    ansible_private_key_file: {}\n",
        desk.key.display()
    );
    if !vars.iter().any(|line| line.starts_with("ansible_become:")) {
        out += "    ansible_become: true\n";
    }
    if !vars.iter().any(|line| line.starts_with("ansible_ssh_common_args:")) {
        out += &format!("    ansible_ssh_common_args: \"{}\"\n", trusting(&known));
    }
    for line in vars {
        out += &format!("    {line}\n");
    }
    out += "  children:\n    prod:\n      hosts:\n";
    for (at, node) in nodes.iter().enumerate() {
        out += &format!("        prod-{}:\n          ansible_port: {}\n", at + 1, node.port);
    }
    out += "    mains:\n      hosts:\n";
    for at in 0..nodes.len() {
        out += &format!("        prod-{}: {{}}\n", at + 1);
    }
    out
}

/// Options of ssh that look into this file of known hosts only.
pub fn trusting(known: &Path) -> String {
    format!("-o UserKnownHostsFile={} -o GlobalKnownHostsFile=/dev/null", known.display())
}

/// Writes a file with the host keys of these nodes.
pub fn known_hosts(desk: &Desk, nodes: &[RealNode]) -> PathBuf {
    let path = desk.at("operator").join("known_hosts");
    let mut file = std::fs::File::create(&path).unwrap();
    for node in nodes {
        file.write_all(&std::fs::read(&node.known_hosts_path).unwrap()).unwrap();
    }
    path
}
