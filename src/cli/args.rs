//! The command line as it is typed. A command's doc comment is its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Backs up, restores and moves Anypoint Platform PCE clusters over SSH.
///
/// Reads an Ansible inventory, connects to the main nodes, runs gravity with sudo as a job that
/// outlives the connection, and brings a verified archive home. Nothing but sh and sudo is needed on
/// a node; nothing stays there.
#[derive(Debug, Parser)]
#[command(name = "ferry", version, propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write an inventory and a ferry.toml to start from
    Init(InitArgs),
    /// Reach every host: user, root, system, disk; one line a host
    Ping(PingArgs),
    /// Back up a cluster into a verified recovery point
    Backup(BackupArgs),
    /// Carry out a playbook
    Run(RunArgs),
    /// The catalog of recovery points
    #[command(subcommand)]
    Points(PointsCommand),
    /// Jobs of ferry on the nodes
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Journals of earlier runs
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Playbooks that are inside ferry
    #[command(subcommand)]
    Playbooks(PlaybooksCommand),
    /// Pretend clusters on this machine, to try and to rehearse
    #[command(subcommand)]
    Sandbox(SandboxCommand),
    /// The whole job against pretend clusters
    Demo(DemoArgs),
}

/// How a run speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputKind {
    /// For people: live at a terminal, plain lines elsewhere.
    #[default]
    Human,
    /// The journal's events, one JSON object a line.
    Json,
    /// Lines with times, no bars: for screen readers and log files.
    Plain,
    /// Only what failed and the last word.
    Quiet,
}

/// Options that every command knows that talks to hosts. Ansible's letters.
#[derive(Debug, Clone, Default, Args)]
pub struct Common {
    /// Inventory file, folder or comma list; may be given several times
    #[arg(short = 'i', long = "inventory", value_name = "PATH")]
    pub inventory: Vec<String>,
    /// Only these hosts, an Ansible pattern
    #[arg(short = 'l', long, value_name = "PATTERN")]
    pub limit: Option<String>,
    /// Variables: k=v, JSON or @file
    #[arg(short = 'e', long = "extra-vars", value_name = "VARS")]
    pub extra_vars: Vec<String>,
    /// Hosts at once
    #[arg(short = 'f', long, value_name = "N")]
    pub forks: Option<usize>,
    /// Login user where the inventory names none
    #[arg(short = 'u', long = "user", value_name = "USER")]
    pub user: Option<String>,
    /// Become root with sudo where the inventory says nothing
    #[arg(short = 'b', long = "become")]
    pub become_on: bool,
    /// Ask for sudo's password
    #[arg(short = 'K', long = "ask-become-pass")]
    pub ask_become_pass: bool,
    /// Read sudo's password from this file
    #[arg(long, value_name = "FILE", conflicts_with = "ask_become_pass")]
    pub become_password_file: Option<PathBuf>,
    /// Read sudo's password from this environment variable; commands that ferry starts do not inherit it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["ask_become_pass", "become_password_file"])]
    pub become_password_env: Option<String>,
    /// Read the key's passphrase from this file
    #[arg(long, value_name = "FILE")]
    pub key_passphrase_file: Option<PathBuf>,
    /// Private key to log in with
    #[arg(long, visible_alias = "key-file", value_name = "FILE")]
    pub private_key: Option<PathBuf>,
    /// Options of ssh, such as "-J bastion"
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub ssh_common_args: Option<String>,
    /// Seconds that each step of connecting may take
    #[arg(short = 'T', long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// How a run speaks
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub output: OutputKind,
    /// The catalog of recovery points
    #[arg(long, value_name = "URL")]
    pub catalog: Option<String>,
    /// Where runs keep their journals
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// More of ferry's own trace in debug.log (up to -vvvv)
    #[arg(short = 'v', long = "verbose", action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// `ferry init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write
    #[arg(default_value = ".")]
    pub dir: PathBuf,
}

/// `ferry ping`
#[derive(Debug, Args)]
pub struct PingArgs {
    /// Which hosts, an Ansible pattern
    #[arg(default_value = "all")]
    pub pattern: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Shared options
    #[command(flatten)]
    pub common: Common,
}

/// `ferry backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The cluster: a group of the inventory
    pub cluster: String,
    /// Only these parts: gravity, amv, nfs
    #[arg(long, value_delimiter = ',', value_name = "PARTS", value_parser = ["gravity", "amv", "nfs"])]
    pub only: Vec<String>,
    /// A name for the point
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Print plan and preflight and stop
    #[arg(short = 'C', long)]
    pub check: bool,
    /// Go on although this gate says no: GATE=REASON (health, space, clock, dns, certificate, nfs, safety_backup)
    #[arg(long, value_name = "GATE=REASON")]
    pub waive: Vec<String>,
    /// Answer yes to questions
    #[arg(long)]
    pub yes: bool,
    /// Shared options
    #[command(flatten)]
    pub common: Common,
}

/// `ferry run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Playbooks, in order
    #[arg(required = true, value_name = "PLAYBOOK")]
    pub playbooks: Vec<PathBuf>,
    /// Say what would be done
    #[arg(short = 'C', long)]
    pub check: bool,
    /// Only read, tell errors, and stop
    #[arg(long)]
    pub syntax_check: bool,
    /// List the hosts and stop
    #[arg(long)]
    pub list_hosts: bool,
    /// List the tasks and stop
    #[arg(long)]
    pub list_tasks: bool,
    /// Go on although this gate says no: GATE=REASON
    #[arg(long, value_name = "GATE=REASON")]
    pub waive: Vec<String>,
    /// Shared options
    #[command(flatten)]
    pub common: Common,
}

/// `ferry points`
#[derive(Debug, Subcommand)]
pub enum PointsCommand {
    /// One line a point
    List {
        /// Only this cluster
        cluster: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// The catalog
        #[arg(long, value_name = "URL")]
        catalog: Option<String>,
    },
    /// All that a point says about itself
    Show {
        /// Id, unique prefix or CLUSTER/ID
        point: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// The catalog
        #[arg(long, value_name = "URL")]
        catalog: Option<String>,
    },
    /// Read every archive again, hash it, walk it; exit 9 names what is wrong
    Verify {
        /// Id, unique prefix or CLUSTER/ID; none means every sealed point
        point: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// The catalog
        #[arg(long, value_name = "URL")]
        catalog: Option<String>,
    },
}

/// `ferry jobs`
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// Jobs on the nodes
    List {
        /// Which hosts
        #[arg(default_value = "all")]
        pattern: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Shared options
        #[command(flatten)]
        common: Box<Common>,
    },
    /// Follow a job; where the run's journal is, carry the run on to the seal
    Attach {
        /// The job's id or its beginning
        job: String,
        /// Shared options
        #[command(flatten)]
        common: Box<Common>,
    },
    /// End a job. Gravity's own job in the cluster goes on unless --hook is given
    Cancel {
        /// The job's id or its beginning
        job: String,
        /// Delete Gravity's Kubernetes job as well
        #[arg(long)]
        hook: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Shared options
        #[command(flatten)]
        common: Box<Common>,
    },
    /// Remove a job that has ended from its node, and its archive
    Clean {
        /// The job's id or its beginning
        job: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Shared options
        #[command(flatten)]
        common: Box<Common>,
    },
}

/// `ferry runs`
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// One line a run
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Where runs keep their journals
        #[arg(long, value_name = "DIR")]
        run_dir: Option<PathBuf>,
    },
    /// What a run did
    Show {
        /// The run's id or its beginning
        run: String,
        /// As JSON: its events
        #[arg(long)]
        json: bool,
        /// Where runs keep their journals
        #[arg(long, value_name = "DIR")]
        run_dir: Option<PathBuf>,
    },
}

/// `ferry playbooks`
#[derive(Debug, Subcommand)]
pub enum PlaybooksCommand {
    /// What is inside
    List,
    /// Write one out to change it
    Export {
        /// Which one
        #[arg(default_value = "backup")]
        name: String,
    },
}

/// `ferry sandbox`
#[derive(Debug, Subcommand)]
pub enum SandboxCommand {
    /// Start pretend clusters and print how to reach them
    Up(SandboxArgs),
    /// Stop them
    Down {
        /// Where they are
        #[arg(long, default_value = "ferry-sandbox")]
        dir: PathBuf,
    },
    /// The faults that can be switched on
    Faults,
    /// The server itself; `up` starts it
    #[command(hide = true)]
    Serve(SandboxArgs),
}

/// What the pretend clusters are like.
#[derive(Debug, Clone, Args)]
pub struct SandboxArgs {
    /// Where everything of theirs is kept
    #[arg(long, default_value = "ferry-sandbox")]
    pub dir: PathBuf,
    /// A fault, NAME=VALUE; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub fault: Vec<String>,
    /// Which Gravity: g5, g6, g7, g8
    #[arg(long, default_value = "g7")]
    pub generation: String,
    /// How long the pretend hook works
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    pub hook_seconds: f64,
    /// How large the pretend archive is
    #[arg(long, default_value_t = 16, value_name = "MIB")]
    pub archive_mib: u64,
}

/// `ferry demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where everything is kept; a new folder below the temporary one by default
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// How a run speaks
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub output: OutputKind,
}
