//! One file per playbook module: its arguments, what it would do, doing it.
//!
//! What lives here: the table of modules and their work on hosts. What does not: the order of
//! steps (playbooks and `run`), what Gravity's words mean (`gravity`), how bytes travel (`transfer`).
//!
//! Two scopes. A module of scope *host* runs once per host of the play. A module of scope *cluster*
//! runs once for the play's hosts together: it is about the cluster, not about a node.

pub mod add_host;
pub mod amv_backup;
pub mod amv_restore;
pub mod archive_collect;
pub mod archive_deliver;
pub mod argument_spec;
pub mod assert;
pub mod background;
pub mod call;
pub mod cluster_lock;
pub mod cluster_logs;
pub mod cluster_settle;
pub mod command;
pub mod copy;
pub mod debug;
pub mod drill;
pub mod fail;
pub mod fetch;
pub mod file;
pub mod find;
pub mod follow;
pub mod gravity_backup;
pub mod gravity_facts;
pub mod gravity_preflight;
pub mod gravity_restore;
pub mod include_vars;
pub mod migrate;
pub mod nfs;
mod node;
pub mod node_logs;
pub mod pause;
pub mod ping;
pub mod point_keep;
mod point_seal;
pub mod restore_gates;
pub mod restore_summary;
pub mod restoring;
pub mod safety_backup;
pub mod script;
pub mod set_fact;
pub mod set_stats;
pub mod settings_capture;
pub mod setup;
pub mod slurp;
pub mod stat;
pub mod straight;
pub mod tempfile;
pub mod template;
pub mod transfer;
pub mod wait_for;
pub mod world;

use serde_json::{Map, Value};

pub use call::{Background, Call, Effect, Folders, Line};
pub use world::{Ask, Before, Choices, JobMeta, Limits, OurJob, RestoreChoices, RunInfo, World};

use crate::event::Outcome;
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ArgSpec, ModuleSpec, ModuleTable};

/// Whom a module is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each host of the play.
    Host,
    /// The play's hosts together.
    Cluster,
}

/// What a module did.
#[derive(Debug, Clone)]
pub struct Done {
    /// How it came out.
    pub outcome: Outcome,
    /// One line for people; may be empty.
    pub message: String,
    /// What `register` keeps: an object with Ansible's names (`msg`, `rc`, `stdout`, …). `changed`, `failed` and `skipped` are
    /// filled in from `outcome` where they are not there; further fields as the module likes.
    pub result: Value,
    /// What differs, for `--diff`.
    pub diff: Option<Value>,
    /// What it does to the run itself.
    pub effect: Effect,
}

impl Done {
    /// Nothing was changed.
    pub fn ok(message: impl Into<String>, result: Value) -> Self {
        Self { outcome: Outcome::Ok, message: message.into(), result, diff: None, effect: Effect::None }
    }

    /// Something was changed.
    pub fn changed(message: impl Into<String>, result: Value) -> Self {
        Self { outcome: Outcome::Changed, ..Self::ok(message, result) }
    }

    /// Not done, and why.
    pub fn skipped(message: impl Into<String>) -> Self {
        let message = message.into();
        let result = serde_json::json!({ "skipped": true, "skip_reason": message });
        Self { outcome: Outcome::Skipped, ..Self::ok(message, result) }
    }

    /// Not done, with a result of the module's own.
    pub fn skipped_because(message: impl Into<String>, mut result: Value) -> Self {
        if let Some(map) = result.as_object_mut() {
            map.insert("skipped".to_owned(), Value::Bool(true));
        }
        Self { outcome: Outcome::Skipped, ..Self::ok(message, result) }
    }
}

/// An argument that need not be given; `.required()`, `.default(…)`, `.choices(…)`, `.aliases(…)` say more.
pub(crate) const fn arg(name: &'static str, kind: ArgKind, doc: &'static str) -> ArgSpec {
    ArgSpec::new(name, kind, doc)
}

const fn of_cluster(name: &'static str, short: &'static str, args: &'static [ArgSpec]) -> ModuleSpec {
    ModuleSpec::new(name, short, args)
}

/// Every module, with its arguments.
pub const TABLE: &[ModuleSpec] = &[
    // Of scope host: one line each, and one in `on_host`.
    add_host::SPEC,
    add_host::GROUP_BY,
    assert::SPEC,
    background::STATUS,
    command::COMMAND,
    command::RAW,
    command::SHELL,
    copy::SPEC,
    debug::SPEC,
    fail::SPEC,
    fetch::SPEC,
    file::SPEC,
    find::SPEC,
    include_vars::SPEC,
    pause::SPEC,
    ping::SPEC,
    script::SPEC,
    set_fact::SPEC,
    set_stats::SPEC,
    setup::SPEC,
    slurp::SPEC,
    stat::SPEC,
    tempfile::SPEC,
    template::SPEC,
    argument_spec::SPEC,
    wait_for::SPEC,
    wait_for::CONNECTION,
    // Of scope cluster.
    of_cluster("gravity_facts", "Looks at the main nodes", &[]),
    of_cluster("cluster_lock", "Holds the cluster's lock until the run ends", &[]),
    of_cluster("gravity_preflight", "The gates before a backup", &[]),
    of_cluster(
        "gravity_backup",
        "Gravity's backup, as a job",
        &[arg(
            "timeout",
            ArgKind::Duration,
            "gravity's --timeout, with a unit; else pce_backup_timeout, else from history",
        )],
    ),
    of_cluster(
        "amv_backup",
        "The backup of Anypoint Monitoring and Visualizer, as a job",
        &[arg("strategy", ArgKind::Str, "meta or data: only this half, the script's own -s")],
    ),
    of_cluster(
        "archive_collect",
        "Brings an archive home and proves it",
        &[arg("part", ArgKind::Str, "gravity (the default) or amv")],
    ),
    of_cluster(
        "point_lacks",
        "Notes that the point lacks a part",
        &[arg("part", ArgKind::Str, "amv or nfs").required()],
    ),
    of_cluster("migrate_begin", "Finds what a migration that is carried on has made already", &[]),
    of_cluster("migrate_gates", "What can be known of a migration before its backup, and the confirmation", &[]),
    of_cluster("migrate_hand_over", "Lets the restore of a migration have the point", &[]),
    of_cluster("migrate_end", "Removes what a migration kept for the way only", &[]),
    of_cluster("restore_gates", "The gates before a restore", &[]),
    of_cluster("safety_backup", "A backup of what a restore overwrites", &[]),
    of_cluster("archive_deliver", "Brings an archive to the target", &[]),
    of_cluster(
        "gravity_restore",
        "Gravity's restore, as a job",
        &[arg(
            "timeout",
            ArgKind::Duration,
            "gravity's --timeout, with a unit; else pce_restore_timeout, else 80m or 160m",
        )],
    ),
    of_cluster("cluster_settle", "Waits until the cluster is well again", &[]),
    of_cluster("amv_restore", "The restore of Anypoint Monitoring and Visualizer, as a job", &[]),
    of_cluster("restore_tidy", "Removes what a restore left on nodes", &[]),
    of_cluster("restore_summary", "What was restored and what stays to be done", &[]),
    of_cluster(
        "nfs_backup",
        "Saves the customer's NFS export into the point",
        &[arg("exclude", ArgKind::List, "patterns of tar for what is left out")],
    ),
    of_cluster("nfs_restore", "Puts the NFS files of a point into an empty directory, or one named for that", &[]),
    of_cluster(
        "cluster_logs",
        "Gathers what there is to read about a cluster, secrets taken out",
        &[
            arg("since", ArgKind::Duration, "how far back journals are read; 24h"),
            arg("dest", ArgKind::Str, "the folder that is made; below the run's folder by default"),
            arg("report", ArgKind::Bool, "gravity report as well, which holds secrets"),
        ],
    ),
    of_cluster("settings_capture", "Keeps with the point what Gravity leaves out: DNS, certificates, NFS, nodes", &[]),
    of_cluster("drill_end", "Measures a drill and notes it on the point", &[]),
    of_cluster("node_logs", "Brings the nodes' logs home", &[]),
    of_cluster("point_seal", "Seals the recovery point", &[]),
    of_cluster("node_cleanup", "Removes what a backup left on nodes", &[]),
    of_cluster("point_replicate", "Copies a sealed point to the other places of the catalog", &[]),
    of_cluster("point_retention", "Puts into the trash what no keep rule keeps", &[]),
    of_cluster("point_summary", "What was saved", &[]),
    transfer::SPEC,
];

/// The table as the playbook reader wants it.
pub fn table() -> ModuleTable {
    ModuleTable::new(TABLE)
}

/// Whom a module is about.
pub fn scope(module: &str) -> Scope {
    match module {
        "gravity_facts" | "cluster_lock" | "gravity_preflight" | "gravity_backup" | "archive_collect" | "node_logs"
        | "point_seal" | "point_replicate" | "point_retention" | "node_cleanup" | "point_summary" | "amv_backup"
        | "point_lacks" | "restore_gates" | "safety_backup" | "archive_deliver" | "gravity_restore"
        | "cluster_settle" | "amv_restore" | "restore_tidy" | "restore_summary" | "settings_capture" | "drill_end"
        | "nfs_backup" | "nfs_restore" | "cluster_logs" | "migrate_begin" | "migrate_gates" | "migrate_hand_over"
        | "migrate_end" | "transfer" => Scope::Cluster,
        _ => Scope::Host,
    }
}

/// Runs a module of scope *host*.
///
/// # Errors
/// What went wrong on that host.
pub async fn on_host(call: &Call<'_>) -> Result<Done, Failure> {
    match call.background {
        Some(background) => background::run(call, background).await,
        None => one(call).await,
    }
}

async fn one(call: &Call<'_>) -> Result<Done, Failure> {
    match call.module {
        "add_host" => add_host::run(call).await,
        "assert" => assert::run(call).await,
        "async_status" => background::status(call).await,
        "command" | "shell" | "raw" => command::run(call).await,
        "copy" => copy::run(call).await,
        "debug" => debug::run(call).await,
        "fail" => fail::run(call).await,
        "fetch" => fetch::run(call).await,
        "file" => file::run(call).await,
        "find" => find::run(call).await,
        "group_by" => add_host::group_by(call).await,
        "include_vars" => include_vars::run(call).await,
        "pause" => pause::run(call).await,
        "ping" => ping::run(call).await,
        "script" => script::run(call).await,
        "set_fact" => set_fact::run(call).await,
        "set_stats" => set_stats::run(call).await,
        "setup" => setup::run(call).await,
        "slurp" => slurp::run(call).await,
        "stat" => stat::run(call).await,
        "tempfile" => tempfile::run(call).await,
        "template" => template::run(call).await,
        "validate_argument_spec" => argument_spec::run(call),
        "wait_for" => wait_for::run(call).await,
        "wait_for_connection" => wait_for::connection(call).await,
        other => Err(Failure::new(Kind::Bug, format!("no module of scope host is called {other}"))),
    }
}

/// Runs a module of scope *cluster*.
///
/// # Errors
/// What went wrong.
pub async fn on_cluster(
    world: &World,
    module: &str,
    hosts: &[String],
    args: &Map<String, Value>,
) -> Result<Done, Failure> {
    world.turn_to(hosts)?;
    let began = std::time::Instant::now();
    let done = match module {
        "settings_capture" => settings_capture::run(world).await,
        "drill_end" => drill::end(world, hosts).await,
        "nfs_backup" => nfs::backup(world, args).await,
        "nfs_restore" => nfs::restore(world).await,
        "cluster_logs" => cluster_logs::run(world, hosts, args).await,
        "migrate_begin" => migrate::begin(world).await,
        "migrate_gates" => migrate::gates(world).await,
        "migrate_hand_over" => migrate::hand_over(world).await,
        "migrate_end" => migrate::end(world).await,
        "gravity_facts" => gravity_facts::run(world, hosts).await,
        "cluster_lock" => cluster_lock::run(world, hosts).await,
        "gravity_preflight" => gravity_preflight::run(world, hosts).await,
        "gravity_backup" => gravity_backup::run(world, args).await,
        "amv_backup" => amv_backup::run(world, args).await,
        "archive_collect" => {
            let part = args.get("part").and_then(Value::as_str).unwrap_or("gravity");
            archive_collect::run(world, part).await
        }
        "point_lacks" => amv_backup::lacks(world, args.get("part").and_then(Value::as_str).unwrap_or("amv")).await,
        "restore_gates" => restore_gates::run(world, hosts).await,
        "safety_backup" => safety_backup::run(world, hosts).await,
        "archive_deliver" => archive_deliver::run(world).await,
        "gravity_restore" => gravity_restore::run(world, hosts, args).await,
        "cluster_settle" => cluster_settle::run(world, hosts).await,
        "amv_restore" => amv_restore::run(world, hosts).await,
        "restore_tidy" => restore_summary::tidy(world).await,
        "restore_summary" => restore_summary::summary(world).await,
        "node_logs" => node_logs::run(world).await,
        "point_seal" => point_seal::seal(world).await,
        "node_cleanup" => point_seal::cleanup(world).await,
        "point_replicate" => point_keep::replicate(world).await,
        "point_retention" => point_keep::retention(world).await,
        "point_summary" => point_seal::summary(world).await,
        "transfer" => transfer::run(world, args).await,
        other => Err(Failure::new(Kind::Bug, format!("no module of scope cluster is called {other}"))),
    };
    world.phase_took(module, began.elapsed().as_secs_f64());
    done
}
