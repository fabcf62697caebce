//! `ferry init`: files to start from. Nothing that is there is overwritten.
//!
//! What lives here: the few questions (or the flags instead of them), the inventory and the settings that are written, and
//! which files a schedule has. What does not: the schedules' texts (schedule).

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::prompt;
use super::schedule::{Night, Scheduler};
use crate::failure::{Failure, Kind};
use crate::inventory::Inventory;
use crate::name::{ClusterName, HostName};
use crate::report::Sink;

const INVENTORY: &str = include_str!("../../inventory/start.yml");

const SETTINGS: &str = "# ferry's settings. Flags and FERRY_* variables win over them. Paths are relative to this file.
inventory = \"inventory\"
catalog = \"catalog\"      # recovery points; best on a disk that is not on this machine
runs = \"runs\"            # journals and logs of every run
forks = 10
";

/// `ferry init`
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Where to write
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The cluster: the name of its group
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// A main node, NAME or NAME=ADDRESS; may be given several times
    #[arg(long, value_name = "NAME[=ADDRESS]", requires = "cluster")]
    host: Vec<String>,
    /// Who logs in
    #[arg(long, value_name = "USER", requires = "host")]
    user: Option<String>,
    /// The private key to log in with; without it those that ssh would take
    #[arg(long, value_name = "FILE", requires = "host")]
    private_key: Option<PathBuf>,
    /// The bastion on the way, USER@HOST
    #[arg(long, value_name = "USER@HOST", requires = "host")]
    bastion: Option<String>,
    /// The port of sshd on the nodes
    #[arg(long, value_name = "PORT", requires = "host")]
    port: Option<u16>,
    /// Write files that run the backup every night
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCHEDULERS")]
    schedule: Vec<Scheduler>,
    /// When the schedules run, HH:MM
    #[arg(long, default_value = "02:30", value_name = "HH:MM")]
    at: String,
    /// Ask nothing: write files to fill in
    #[arg(long)]
    no_questions: bool,
}

/// What was answered.
struct Answers {
    cluster: String,
    /// Name, and address where it is another.
    hosts: Vec<(String, Option<String>)>,
    user: Option<String>,
    key: Option<String>,
    bastion: Option<String>,
    port: Option<u16>,
}

fn usage(what: impl Into<String>) -> Failure {
    Failure::new(Kind::Usage, what)
}

/// `NAME` or `NAME=ADDRESS`.
fn host(text: &str) -> Result<(String, Option<String>), Failure> {
    let (name, address) = match text.split_once('=') {
        Some((name, address)) => (name, Some(address)),
        None => (text, None),
    };
    let wrong = |what: String| usage(format!("{text:?} is no host: {what}")).mend("NAME, or NAME=ADDRESS");
    let name: HostName = name.trim().parse().map_err(|error: crate::name::BadName| wrong(error.to_string()))?;
    match address.map(str::trim) {
        Some("") => Err(wrong("the address is empty".to_owned())),
        address => Ok((name.to_string(), address.map(str::to_owned))),
    }
}

fn cluster(text: &str) -> Result<String, Failure> {
    let name: ClusterName = text.trim().parse().map_err(|error: crate::name::BadName| usage(error.to_string()))?;
    let roles = ["all", "ungrouped", "mains", "amv", "nfs"];
    if roles.contains(&name.as_str()) {
        return Err(usage(format!("{name} is the name of a role, not of a cluster")));
    }
    Ok(name.to_string())
}

fn time(text: &str) -> Result<(u8, u8), Failure> {
    let parts = text.split_once(':').and_then(|(hour, minute)| Some((hour.parse().ok()?, minute.parse().ok()?)));
    match parts {
        Some((hour, minute)) if hour < 24 && minute < 60 => Ok((hour, minute)),
        _ => Err(usage(format!("--at {text}: HH:MM is expected, from 00:00 to 23:59"))),
    }
}

impl InitArgs {
    /// Flags, else questions, else nothing: files to fill in.
    fn answers(&self) -> Result<Option<Answers>, Failure> {
        if !self.host.is_empty() {
            return Ok(Some(Answers {
                cluster: cluster(self.cluster.as_deref().unwrap_or_default())?,
                hosts: self.host.iter().map(|text| host(text)).collect::<Result<_, _>>()?,
                user: self.user.clone(),
                key: self.private_key.as_ref().map(|path| path.display().to_string()),
                bastion: self.bastion.clone(),
                port: self.port,
            }));
        }
        if self.no_questions || !prompt::somebody() || !std::io::stdout().is_terminal() {
            return Ok(None);
        }
        questions().map(Some)
    }
}

/// Asks until the answer can be read.
fn ask<T>(question: &str, usual: &str, read: impl Fn(&str) -> Result<T, Failure>) -> Result<T, Failure> {
    loop {
        let shown = if usual.is_empty() { String::new() } else { format!(" [{usual}]") };
        let typed = prompt::line(&format!("{question}{shown}: "))?;
        let typed = if typed.trim().is_empty() { usual } else { typed.trim() };
        match read(typed) {
            Ok(value) => return Ok(value),
            Err(failure) => Sink::stderr().put(&format!("  {}\n", crate::secret::clean(failure.what.as_bytes()))),
        }
    }
}

fn questions() -> Result<Answers, Failure> {
    Sink::stderr().put("A few questions; Enter takes what stands in [ ]. Nothing is sent to any host.\n\n");
    let none = |text: &str| Ok((!text.is_empty() && text != "none").then(|| text.to_owned()));
    let cluster = ask("Name of the cluster", "prod", cluster)?;
    let hosts = ask("Its main nodes (Gravity masters), NAME=ADDRESS with blanks between", "", |text| {
        let hosts = text.split_whitespace().map(host).collect::<Result<Vec<_>, _>>()?;
        if hosts.is_empty() { Err(usage("at least one host is needed")) } else { Ok(hosts) }
    })?;
    let user = ask("Who logs in there", "ops", none)?;
    let key = ask("Private key to log in with (none: those that ssh would take)", "none", none)?;
    let bastion = ask("Bastion on the way, USER@HOST", "none", none)?;
    Ok(Answers { cluster, hosts, user, key, bastion, port: None })
}

/// A text for YAML: JSON's strings are YAML's.
fn yaml(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// The inventory that the answers make.
fn inventory(answers: &Answers) -> String {
    let mut text = String::from(
        "# Your clusters. A cluster is a group of hosts; what its nodes are for is a group as well. Ansible\n# reads this file too.\nall:\n  vars:\n",
    );
    if let Some(user) = &answers.user {
        text.push_str(&format!("    ansible_user: {}\n", yaml(user)));
    }
    // Who logs in as root needs no sudo.
    let root = answers.user.as_deref() == Some("root");
    text.push_str(if root {
        "    ansible_become: false                # who logs in is root\n"
    } else {
        "    ansible_become: true                 # gravity is run with sudo\n"
    });
    if let Some(key) = &answers.key {
        text.push_str(&format!("    ansible_private_key_file: {}\n", yaml(key)));
    }
    text.push_str(&format!("  children:\n    {}:\n      vars:\n", yaml(&answers.cluster)));
    if let Some(bastion) = &answers.bastion {
        text.push_str(&format!("        ansible_ssh_common_args: {}\n", yaml(&format!("-J {bastion}"))));
    }
    if let Some(port) = answers.port {
        text.push_str(&format!("        ansible_port: {port}\n"));
    }
    text.push_str("        pce_amv: false                   # true where Anypoint Monitoring and Visualizer is installed\n        # pce_cluster_name: pce-prod     # when set, it must equal what Gravity says\n        # pce_version: 3.2.0             # when set, it must equal what is seen\n      hosts:\n");
    for (name, address) in &answers.hosts {
        match address {
            Some(address) => text.push_str(&format!("        {}: {{ ansible_host: {} }}\n", yaml(name), yaml(address))),
            None => text.push_str(&format!("        {}: {{}}\n", yaml(name))),
        }
    }
    text.push_str("    mains:                               # Gravity's masters: backup and restore run on one of them\n      hosts:\n");
    for (name, _) in &answers.hosts {
        text.push_str(&format!("        {}: {{}}\n", yaml(name)));
    }
    text
}

pub(super) fn run(args: &InitArgs) -> Result<u8, Failure> {
    let at = time(&args.at)?;
    let only_schedules = !args.schedule.is_empty() && args.host.is_empty() && args.dir.join("ferry.toml").exists();
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    let mut answers = None;
    if !only_schedules {
        let settings = args.dir.join("ferry.toml");
        let hosts = args.dir.join("inventory").join("hosts.yml");
        untouched(&[&settings, &hosts])?;
        answers = args.answers()?;
        files.push((settings, SETTINGS.to_owned()));
        files.push((hosts, answers.as_ref().map_or_else(|| INVENTORY.to_owned(), inventory)));
    }
    let name = match (&args.cluster, &answers) {
        (Some(name), _) => cluster(name)?,
        (None, Some(answers)) => answers.cluster.clone(),
        (None, None) => "prod".to_owned(),
    };
    if !args.schedule.is_empty() {
        // Paths in a schedule are absolute, and the folder may not be there yet.
        let here = std::env::current_dir().map_err(|error| {
            Failure::new(Kind::CouldNotStart, "the current folder cannot be told").saw(error.to_string())
        })?;
        let dir = std::path::absolute(here.join(&args.dir)).unwrap_or_else(|_| here.join(&args.dir));
        let dir: PathBuf = dir.components().collect();
        let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/local/bin/ferry"));
        let night = Night { cluster: &name, at, dir: &dir, exe: &exe };
        let mut wanted: Vec<Scheduler> = Vec::new();
        for scheduler in &args.schedule {
            if !wanted.contains(scheduler) {
                wanted.push(*scheduler);
            }
        }
        for scheduler in wanted {
            files.extend(scheduler.files(&night).into_iter().map(|(path, text)| (args.dir.join(path), text)));
        }
    }
    untouched(&files.iter().map(|(path, _)| path).collect::<Vec<_>>())?;
    for (path, text) in &files {
        let cannot = |error: std::io::Error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", path.display()));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(cannot)?;
        }
        std::fs::write(path, text).map_err(cannot)?;
        Sink::stdout().put(&format!("{}\n", path.display()));
    }
    if only_schedules {
        return Ok(0);
    }
    // What was written is what every other command will read.
    Inventory::load(&[args.dir.join("inventory")])?;
    for name in ["catalog", "runs"] {
        private(&args.dir.join(name))?;
    }
    next(args, &name, answers.as_ref());
    Ok(0)
}

/// Refuses when one of them is there.
fn untouched<P: AsRef<Path>>(paths: &[P]) -> Result<(), Failure> {
    let there = paths.iter().map(AsRef::as_ref).filter(|path| path.exists()).map(|path| {
        Failure::new(Kind::CouldNotStart, format!("{} is there already and is not overwritten", path.display()))
            .mend("name another folder: ferry init DIR")
    });
    Failure::all(there).map_or(Ok(()), Err)
}

fn private(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", dir.display())))
}

fn next(args: &InitArgs, cluster: &str, answers: Option<&Answers>) {
    let mut steps = Vec::new();
    if args.dir != Path::new(".") {
        steps.push(format!("cd {}", args.dir.display()));
    }
    if answers.is_none() {
        steps.push("write your hosts into inventory/hosts.yml".to_owned());
    }
    steps.push("record their keys: mkdir -m 700 -p ~/.ssh; ssh-keyscan ADDRESS >> ~/.ssh/known_hosts, and compare the fingerprints".to_owned());
    steps.push("ferry ping".to_owned());
    steps.push(format!("ferry backup {cluster} --check"));
    steps.push(format!("ferry backup {cluster}"));
    let lines: Vec<String> =
        steps.iter().enumerate().map(|(number, step)| format!("  {}. {step}", number + 1)).collect();
    Sink::stdout().put(&format!("\nnext:\n{}\n", lines.join("\n")));
}
