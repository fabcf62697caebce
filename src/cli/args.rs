//! The command line as it is typed. A command's doc comment is its help.

use std::path::PathBuf;

use super::run::RunArgs;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

/// Backs up, restores and moves Anypoint Platform PCE clusters over SSH.
///
/// Reads an Ansible inventory, connects to the main nodes, runs gravity with sudo as a job that
/// outlives the connection, and brings a verified archive home. Nothing but sh and sudo is needed on
/// a node; nothing stays there.
#[derive(Debug, Parser)]
#[command(name = "ferry", version, propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

impl Cli {
    /// Reads a command line, its first word the program's name.
    ///
    /// # Errors
    /// It is wrong, or asks for help or the version.
    pub(super) fn read(words: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Self, clap::Error> {
        // Of all commands only `exec` has a command of its own to bound: there --timeout is about that, and what each
        // step of connecting may take is -T alone, or --connect-timeout.
        Self::from_arg_matches(&Self::whole().try_get_matches_from(words)?)
    }

    /// The command line as it is read and described: help, manual pages and completions are made of it.
    pub(super) fn whole() -> clap::Command {
        let command = Self::command().mut_subcommand("exec", |exec| {
            exec.mut_arg("timeout", |arg| arg.long("connect-timeout"))
                .mut_arg("command_timeout", |arg| arg.long("timeout").visible_alias("task-timeout"))
        });
        super::examples::with_examples(command)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write an inventory and a ferry.toml to start from
    Init(super::init::InitArgs),
    /// Reach every host: user, root, system, disk; one line a host
    Ping(PingArgs),
    /// This machine and the way to every host: what will go wrong tonight. Changes nothing
    Doctor(DoctorArgs),
    /// Run one command on hosts: ferry exec PATTERN -- CMD ARGS…
    Exec(ExecArgs),
    /// Back up a cluster into a verified recovery point
    Backup(BackupArgs),
    /// Restore a recovery point into a cluster: destroys what the cluster holds
    Restore(RestoreArgs),
    /// Move a file or a folder between two hosts, or a host and here: ferry transfer HOST:PATH HOST:PATH
    Transfer(super::transfer::TransferArgs),
    /// Move a cluster's content into another cluster: backup of the source, restore into the target, which is overwritten
    Migrate(Box<super::migrate::MigrateArgs>),
    /// A restore rehearsed and measured, into a cluster that is there for it
    Drill(Box<super::drill::DrillArgs>),
    /// How a cluster is: state, versions, nodes, disks, jobs, age of the newest point. Changes nothing
    Status(super::status::StatusArgs),
    /// Gather what there is to read about a cluster, secrets taken out. Changes nothing
    Logs(super::logs::LogsArgs),
    /// Carry out a playbook
    Run(RunArgs),
    /// Hosts, groups and variables as they were read
    #[command(subcommand)]
    Inventory(super::inventory::InventoryCommand),
    /// Files and values that are encrypted with Ansible Vault
    #[command(subcommand)]
    Vault(super::vault::VaultCommand),
    /// The catalog of recovery points
    #[command(subcommand)]
    Points(super::points_args::PointsCommand),
    /// The catalog itself
    #[command(subcommand)]
    Catalog(super::points_args::CatalogCommand),
    /// Jobs of ferry on the nodes
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Journals of earlier runs
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Playbooks that are inside ferry
    #[command(subcommand)]
    Playbooks(PlaybooksCommand),
    /// What a module takes, and the schema of playbooks
    Doc(super::doc::DocArgs),
    /// Pretend clusters on this machine, to try and to rehearse
    #[command(subcommand)]
    Sandbox(SandboxCommand),
    /// What a code of an error means, and what to do; without a code the list of all
    Explain(super::explain::ExplainArgs),
    /// A script that completes commands, clusters, hosts and points in your shell
    Completions(super::completions::CompletionsArgs),
    /// The manual pages
    Man(super::man::ManArgs),
    /// The whole job against pretend clusters
    Demo(DemoArgs),
}

/// How a run speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputKind {
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
pub(super) struct Common {
    /// Inventory file, folder or comma list; may be given several times
    #[arg(short = 'i', long = "inventory", visible_alias = "inventory-file", value_name = "PATH")]
    pub(super) inventory: Vec<String>,
    /// Only these hosts, an Ansible pattern
    #[arg(short = 'l', long, value_name = "PATTERN")]
    pub(super) limit: Option<String>,
    /// Variables: k=v, JSON or @file
    #[arg(short = 'e', long = "extra-vars", value_name = "VARS")]
    pub(super) extra_vars: Vec<String>,
    /// Hosts at once
    #[arg(short = 'f', long, value_name = "N")]
    pub(super) forks: Option<usize>,
    /// Login user where the inventory names none
    #[arg(short = 'u', long = "user", value_name = "USER")]
    pub(super) user: Option<String>,
    /// Become root with sudo where the inventory says nothing
    #[arg(short = 'b', long = "become")]
    pub(super) become_on: bool,
    /// Ask for the password to log in with
    #[arg(short = 'k', long = "ask-pass")]
    pub(super) ask_pass: bool,
    /// Read the password to log in with from this file, or from what it prints where it is a program
    #[arg(long, visible_alias = "conn-pass-file", value_name = "FILE", conflicts_with = "ask_pass")]
    pub(super) connection_password_file: Option<PathBuf>,
    /// Ask for sudo's password
    #[arg(short = 'K', long = "ask-become-pass")]
    pub(super) ask_become_pass: bool,
    /// Read sudo's password from this file, or from what it prints where it is a program
    #[arg(long, visible_alias = "become-pass-file", value_name = "FILE", conflicts_with = "ask_become_pass")]
    pub(super) become_password_file: Option<PathBuf>,
    /// Read sudo's password from this environment variable; commands that ferry starts do not inherit it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["ask_become_pass", "become_password_file"])]
    pub(super) become_password_env: Option<String>,
    /// Vault passwords
    #[command(flatten)]
    pub(super) vault: VaultOptions,
    /// Read the key's passphrase from this file, or from what it prints where it is a program
    #[arg(long, value_name = "FILE")]
    pub(super) key_passphrase_file: Option<PathBuf>,
    /// Private key to log in with
    #[arg(long, visible_alias = "key-file", value_name = "FILE")]
    pub(super) private_key: Option<PathBuf>,
    /// Options of ssh, such as "-J bastion"
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub(super) ssh_common_args: Option<String>,
    /// Seconds that each step of connecting may take
    #[arg(short = 'T', long, value_name = "SECONDS")]
    pub(super) timeout: Option<u64>,
    /// How a run speaks
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub(super) output: OutputKind,
    /// The catalog of recovery points
    #[arg(long, value_name = "URL")]
    pub(super) catalog: Option<String>,
    /// Where runs keep their journals
    #[arg(long, value_name = "DIR")]
    pub(super) run_dir: Option<PathBuf>,
    /// Write the run's steps as JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// More of ferry's own trace in debug.log (up to -vvvv)
    #[arg(short = 'v', long = "verbose", action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// The run that is carried on. Never typed here: `runs resume` sets it
    #[arg(skip)]
    pub(super) resume: Option<super::resume::Given>,
    /// How `exec` shows what hosts say. Never typed here: `exec` sets it
    #[arg(skip)]
    pub(super) exec: Option<super::exec::Speech>,
    /// What `run` was told besides. Never typed here: `run` sets it
    #[arg(skip)]
    pub(super) manner: super::run::Manner,
}

/// Where the passwords of Ansible Vault come from. Ansible's letters.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct VaultOptions {
    /// Ask for the vault password
    #[arg(short = 'J', long, visible_alias = "ask-vault-password")]
    pub(super) ask_vault_pass: bool,
    /// Vault password file, or a program that prints it; may be given several times
    #[arg(long, visible_alias = "vault-pass-file", value_name = "FILE")]
    pub(super) vault_password_file: Vec<String>,
    /// Vault password of one id: ID@FILE, ID@PROGRAM or ID@prompt; may be given several times
    #[arg(long, value_name = "ID@SOURCE")]
    pub(super) vault_id: Vec<String>,
}

impl Common {
    /// These options as they must be typed again for another command to mean the same hosts and
    /// places: each word with a blank before it, quoted for the shell.
    pub(super) fn again(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut option = |name: &str, value: Option<&str>| words.extend(value.map(|value| format!("{name}={value}")));
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        self.inventory.iter().for_each(|value| option("--inventory", Some(value)));
        self.extra_vars.iter().for_each(|value| option("--extra-vars", Some(value)));
        option("--user", self.user.as_deref());
        option("--connection-password-file", path(&self.connection_password_file).as_deref());
        option("--become-password-file", path(&self.become_password_file).as_deref());
        option("--become-password-env", self.become_password_env.as_deref());
        self.vault.vault_password_file.iter().for_each(|value| option("--vault-password-file", Some(value)));
        self.vault.vault_id.iter().for_each(|value| option("--vault-id", Some(value)));
        option("--key-passphrase-file", path(&self.key_passphrase_file).as_deref());
        option("--private-key", path(&self.private_key).as_deref());
        option("--ssh-common-args", self.ssh_common_args.as_deref());
        option("--timeout", self.timeout.map(|seconds| seconds.to_string()).as_deref());
        option("--catalog", self.catalog.as_deref());
        option("--run-dir", path(&self.run_dir).as_deref());
        words.extend(self.become_on.then(|| "--become".to_owned()));
        words.extend(self.ask_pass.then(|| "--ask-pass".to_owned()));
        words.extend(self.vault.ask_vault_pass.then(|| "--ask-vault-pass".to_owned()));
        words.extend(self.ask_become_pass.then(|| "--ask-become-pass".to_owned()));
        words.iter().map(|word| format!(" {}", quoted(word))).collect()
    }

    /// Whether a command that looks and keeps no run answers in JSON: its own --json, or --output json.
    pub(super) fn json(&self, own: bool) -> bool {
        own || self.output == OutputKind::Json
    }

    /// `--catalog`, in the same form.
    pub(super) fn catalog_again(&self) -> String {
        self.catalog.as_ref().map(|catalog| format!(" {}", quoted(&format!("--catalog={catalog}")))).unwrap_or_default()
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    // Only a NUL cannot be quoted, and no argument holds one.
    shlex::try_quote(word).map_or_else(|_| String::new(), std::borrow::Cow::into_owned)
}

/// `ferry ping`
#[derive(Debug, Args)]
pub(super) struct PingArgs {
    /// Which hosts, an Ansible pattern
    #[arg(default_value = "all")]
    pub(super) pattern: String,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Shared options
    #[command(flatten)]
    pub(super) common: Common,
}

/// `ferry doctor`
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Which hosts, an Ansible pattern
    #[arg(default_value = "all")]
    pub(super) pattern: String,
    /// What is well, too
    #[arg(long)]
    pub(super) all: bool,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Shared options
    #[command(flatten)]
    pub(super) common: Common,
}

/// `ferry exec`
///
/// What stands behind `--` is one command: each word arrives there as it is, no shell reads it and nothing in it is a
/// template. A single word with blanks is cut into words first, by quotes as in `-a`, and is refused when it
/// holds what only a shell understands. For a shell: -m shell -a 'TEXT'.
#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    /// Which hosts, an Ansible pattern
    pub(super) pattern: String,
    /// The command and its words, as they are
    #[arg(last = true, value_name = "CMD")]
    pub(super) words: Vec<String>,
    /// The module: command, shell, raw, ping, …
    #[arg(short = 'm', long = "module-name", visible_alias = "module", value_name = "MODULE")]
    pub(super) module: Option<String>,
    /// The module's arguments: its free text, k=v words or a JSON object; templates are rendered
    #[arg(short = 'a', long = "args", value_name = "ARGS", allow_hyphen_values = true)]
    pub(super) args: Option<String>,
    /// Seconds that the command may take on a host; then it is ended there (also --task-timeout)
    #[arg(long = "task-timeout", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) command_timeout: Option<u64>,
    /// The command goes on without ferry, for so many seconds at most: command and shell
    #[arg(short = 'B', long, value_name = "SECONDS")]
    pub(super) background: Option<u64>,
    /// With -B: ask for it so often, in seconds; 0: do not wait for it
    #[arg(short = 'P', long, value_name = "SECONDS", requires = "background")]
    pub(super) poll: Option<u64>,
    /// The folder whose group_vars and host_vars are read as a playbook's
    #[arg(long, value_name = "DIR")]
    pub(super) playbook_dir: Option<PathBuf>,
    /// One line a host
    #[arg(short = 'o', long = "one-line")]
    pub(super) one_line: bool,
    /// A file for each host in this folder, with what came of it as JSON
    #[arg(short = 't', long, value_name = "DIR")]
    pub(super) tree: Option<PathBuf>,
    /// At the end, hosts that said the same under one heading
    #[arg(long, conflicts_with = "one_line")]
    pub(super) gather: bool,
    /// Run nothing: say where it would run
    #[arg(short = 'C', long)]
    pub(super) check: bool,
    /// Show what files would become
    #[arg(short = 'D', long)]
    pub(super) diff: bool,
    /// How hosts are reached where the inventory says nothing: ssh or local
    #[arg(short = 'c', long, value_name = "KIND")]
    pub(super) connection: Option<String>,
    /// Whom to become where the inventory says nothing
    #[arg(long, value_name = "USER")]
    pub(super) become_user: Option<String>,
    /// How to become somebody: sudo
    #[arg(long, value_name = "METHOD")]
    pub(super) become_method: Option<String>,
    /// List the hosts and stop
    #[arg(long)]
    pub(super) list_hosts: bool,
    /// Shared options
    #[command(flatten)]
    pub(super) common: Common,
}

/// `ferry backup`
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The cluster: a group of the inventory
    pub(super) cluster: String,
    /// Only these parts: gravity, amv, nfs
    #[arg(long, value_delimiter = ',', value_name = "PARTS", value_parser = ["gravity", "amv", "nfs"])]
    pub(super) only: Vec<String>,
    /// A name for the point
    #[arg(long, value_name = "TEXT")]
    pub(super) label: Option<String>,
    /// Nothing deletes the point for so long, such as 30d
    #[arg(long, value_name = "AGE")]
    pub(super) hold: Option<String>,
    /// Do nothing when the newest verified archive of each wanted kind is younger, such as 20h
    #[arg(long, value_name = "AGE")]
    pub(super) if_older_than: Option<String>,
    /// Print plan and preflight and stop
    #[arg(short = 'C', long)]
    pub(super) check: bool,
    /// Go on although this gate says no: GATE=REASON (health, space, clock, dns, certificate, nfs, safety_backup)
    #[arg(long, value_name = "GATE=REASON")]
    pub(super) waive: Vec<String>,
    /// Answer yes to questions
    #[arg(long)]
    pub(super) yes: bool,
    /// The playbook underneath
    #[command(flatten, next_help_heading = "The playbook underneath")]
    pub(super) playing: super::playing::Playing,
    /// Shared options
    #[command(flatten)]
    pub(super) common: Common,
}

/// What a restore must be told, whoever starts it.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Confirmation {
    /// The name of the cluster that is overwritten: without a terminal nothing else confirms
    #[arg(long, value_name = "CLUSTER")]
    pub(super) confirm: Option<String>,
    /// The cluster's name once more: AMV's data there is erased
    #[arg(long, value_name = "CLUSTER")]
    pub(super) erase_amv: Option<String>,
    /// The point came from this very cluster: go back in place
    #[arg(long)]
    pub(super) in_place: bool,
    /// The sha256 of a suspect archive: it is restored all the same
    #[arg(long, value_name = "SHA256")]
    pub(super) accept_suspect: Option<String>,
    /// Put the NFS files into this directory of the target's NFS host: one that is empty, or not there
    #[arg(long, value_name = "DIR", conflicts_with = "nfs_over")]
    pub(super) nfs_into: Option<String>,
    /// Put the NFS files over those in this directory: what is in it is overwritten
    #[arg(long, value_name = "DIR")]
    pub(super) nfs_over: Option<String>,
    /// What opens encrypted archives
    #[command(flatten)]
    pub(super) open: super::encryption::OpenArgs,
}

/// `ferry restore`
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The point: id, unique prefix, CLUSTER/ID, a point's folder, or `latest` with --from
    pub(super) point: String,
    /// The cluster that is overwritten: a group of the inventory
    #[arg(long, value_name = "CLUSTER")]
    pub(super) to: String,
    /// The cluster whose point it is
    #[arg(long, value_name = "CLUSTER")]
    pub(super) from: Option<String>,
    /// Only these parts: gravity, amv, nfs
    #[arg(long, value_delimiter = ',', value_name = "PARTS", value_parser = ["gravity", "amv", "nfs"])]
    pub(super) only: Vec<String>,
    /// Show the plan and every gate, and stop
    #[arg(short = 'C', long)]
    pub(super) check: bool,
    /// Go on although this gate says no: GATE=REASON (health, space, clock, dns, certificate, nfs, safety_backup)
    #[arg(long, value_name = "GATE=REASON")]
    pub(super) waive: Vec<String>,
    /// Never enough for a restore: --confirm CLUSTER is
    #[arg(long)]
    pub(super) yes: bool,
    /// What a restore must be told
    #[command(flatten)]
    pub(super) confirmation: Confirmation,
    /// The playbook underneath
    #[command(flatten, next_help_heading = "The playbook underneath")]
    pub(super) playing: super::playing::Playing,
    /// Shared options
    #[command(flatten)]
    pub(super) common: Common,
}

/// `ferry jobs`
#[derive(Debug, Subcommand)]
pub(super) enum JobsCommand {
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
    /// Remove a job that has ended from its node, and its archive; or leaked staging folders of Gravity
    Clean {
        /// The job's id or its beginning; with --staging an Ansible pattern of hosts, all by default
        #[arg(required_unless_present = "staging", value_name = "JOB|PATTERN")]
        job: Option<String>,
        /// List the folders with secrets that failed backups and restores of Gravity left, and remove those without an active job
        #[arg(long)]
        staging: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// As JSON
        #[arg(long, requires = "staging")]
        json: bool,
        /// Shared options
        #[command(flatten)]
        common: Box<Common>,
    },
}

/// `ferry runs`
#[derive(Debug, Subcommand)]
pub(super) enum RunsCommand {
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
    /// Show a run again as it was, what hosts said included
    Replay(super::runs::ReplayArgs),
    /// Write a run's report.html anew: one page that needs no network
    Report(super::runs::ReportArgs),
    /// Carry a failed or interrupted run on at the step that did not finish
    Resume(Box<ResumeArgs>),
}

/// `ferry runs resume`
#[derive(Debug, Clone, Args)]
pub(super) struct ResumeArgs {
    /// The run's id or its beginning
    pub(super) run: String,
    /// Go on although this gate says no: GATE=REASON; those of the run itself hold as well
    #[arg(long, value_name = "GATE=REASON")]
    pub(super) waive: Vec<String>,
    /// What a restore must be told
    #[command(flatten)]
    pub(super) confirmation: Confirmation,
    /// Shared options; each that is given is used instead of the run's own
    #[command(flatten)]
    pub(super) common: Common,
}

/// `ferry playbooks`
#[derive(Debug, Subcommand)]
pub(super) enum PlaybooksCommand {
    /// What is inside
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write one out to change it
    Export {
        /// Which one
        #[arg(default_value = "backup")]
        name: String,
    },
}

/// `ferry sandbox`
#[derive(Debug, Subcommand)]
pub(super) enum SandboxCommand {
    /// Start pretend clusters and print how to reach them
    Up(SandboxArgs),
    /// Stop them
    Down {
        /// Where they are
        #[arg(long, default_value = "ferry-sandbox")]
        dir: PathBuf,
    },
    /// The faults that can be switched on
    Faults {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The server itself; `up` starts it
    #[command(hide = true)]
    Serve(SandboxArgs),
}

/// What the pretend clusters are like.
#[derive(Debug, Clone, Args)]
pub(super) struct SandboxArgs {
    /// Where everything of theirs is kept
    #[arg(long, default_value = "ferry-sandbox")]
    pub(super) dir: PathBuf,
    /// A fault, NAME=VALUE; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) fault: Vec<String>,
    /// Which Gravity: g5, g6, g7, g8
    #[arg(long, default_value = "g7")]
    pub(super) generation: String,
    /// How long the pretend hook works
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    pub(super) hook_seconds: f64,
    /// How large the pretend archive is
    #[arg(long, default_value_t = 16, value_name = "MIB")]
    pub(super) archive_mib: u64,
}

/// `ferry demo`
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Where everything is kept; a new folder below the temporary one by default
    #[arg(long)]
    pub(super) dir: Option<PathBuf>,
    /// How a run speaks
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub(super) output: OutputKind,
}
