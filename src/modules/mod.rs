//! One file per playbook module: its arguments, what it would do, doing it.
//!
//! What lives here: the table of modules and their work on hosts. What does not: the order of
//! steps (playbooks and `run`), what Gravity's words mean (`gravity`), how bytes travel (`transfer`).
//!
//! Two scopes. A module of scope *host* runs once per host of the play. A module of scope *cluster*
//! runs once for the play's hosts together: it is about the cluster, not about a node.

pub mod amv_backup;
pub mod amv_restore;
pub mod archive_collect;
pub mod archive_deliver;
pub mod cluster_lock;
pub mod cluster_settle;
pub mod follow;
pub mod general;
pub mod gravity_backup;
pub mod gravity_facts;
pub mod gravity_preflight;
pub mod gravity_restore;
pub mod migrate;
pub mod node_logs;
pub mod point_seal;
pub mod restore_gates;
pub mod restore_summary;
pub mod restoring;
pub mod safety_backup;
pub mod world;

use serde_json::{Map, Value};

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
    /// What `register` keeps.
    pub result: Value,
}

impl Done {
    /// Nothing was changed.
    pub fn ok(message: impl Into<String>, result: Value) -> Self {
        Self { outcome: Outcome::Ok, message: message.into(), result }
    }

    /// Something was changed.
    pub fn changed(message: impl Into<String>, result: Value) -> Self {
        Self { outcome: Outcome::Changed, message: message.into(), result }
    }

    /// Not done, and why.
    pub fn skipped(message: impl Into<String>) -> Self {
        let message = message.into();
        let result = serde_json::json!({ "skipped": true, "skip_reason": message });
        Self { outcome: Outcome::Skipped, message, result }
    }
}

const fn arg(name: &'static str, kind: ArgKind, required: bool, doc: &'static str) -> ArgSpec {
    ArgSpec { name, kind, required, doc }
}

/// Every module, with its arguments.
pub const TABLE: &[ModuleSpec] = &[
    ModuleSpec { name: "ping", free_form: false, args: &[] },
    ModuleSpec {
        name: "command",
        free_form: true,
        args: &[
            arg("cmd", ArgKind::Str, false, "the command line, split into words, no shell"),
            arg("argv", ArgKind::List, false, "the words of the command"),
            arg("chdir", ArgKind::Path, false, "the folder to run it in"),
        ],
    },
    ModuleSpec {
        name: "shell",
        free_form: true,
        args: &[
            arg("cmd", ArgKind::Str, false, "the text for sh"),
            arg("chdir", ArgKind::Path, false, "the folder to run it in"),
        ],
    },
    ModuleSpec {
        name: "raw",
        free_form: true,
        args: &[arg("cmd", ArgKind::Str, false, "the text for sh, and nothing else")],
    },
    ModuleSpec {
        name: "debug",
        free_form: false,
        args: &[
            arg("msg", ArgKind::Any, false, "what to say"),
            arg("var", ArgKind::Str, false, "an expression to show"),
        ],
    },
    ModuleSpec {
        name: "assert",
        free_form: false,
        args: &[
            arg("that", ArgKind::Any, true, "conditions that must be true"),
            arg("fail_msg", ArgKind::Str, false, "what to say when one is not"),
            arg("success_msg", ArgKind::Str, false, "what to say when all are"),
        ],
    },
    ModuleSpec { name: "fail", free_form: false, args: &[arg("msg", ArgKind::Str, false, "what to say")] },
    ModuleSpec { name: "set_fact", free_form: false, args: &[arg("*", ArgKind::Any, false, "any name")] },
    ModuleSpec { name: "gravity_facts", free_form: false, args: &[] },
    ModuleSpec { name: "cluster_lock", free_form: false, args: &[] },
    ModuleSpec { name: "gravity_preflight", free_form: false, args: &[] },
    ModuleSpec {
        name: "gravity_backup",
        free_form: false,
        args: &[arg(
            "timeout",
            ArgKind::Duration,
            false,
            "gravity's --timeout, with a unit; else pce_backup_timeout, else from history",
        )],
    },
    ModuleSpec {
        name: "amv_backup",
        free_form: false,
        args: &[arg("strategy", ArgKind::Str, false, "meta or data: only this half, the script's own -s")],
    },
    ModuleSpec {
        name: "archive_collect",
        free_form: false,
        args: &[arg("part", ArgKind::Str, false, "gravity (the default) or amv")],
    },
    ModuleSpec { name: "point_lacks", free_form: false, args: &[arg("part", ArgKind::Str, true, "amv")] },
    ModuleSpec { name: "migrate_begin", free_form: false, args: &[] },
    ModuleSpec { name: "migrate_gates", free_form: false, args: &[] },
    ModuleSpec { name: "migrate_hand_over", free_form: false, args: &[] },
    ModuleSpec { name: "migrate_end", free_form: false, args: &[] },
    ModuleSpec { name: "restore_gates", free_form: false, args: &[] },
    ModuleSpec { name: "safety_backup", free_form: false, args: &[] },
    ModuleSpec { name: "archive_deliver", free_form: false, args: &[] },
    ModuleSpec {
        name: "gravity_restore",
        free_form: false,
        args: &[arg(
            "timeout",
            ArgKind::Duration,
            false,
            "gravity's --timeout, with a unit; else pce_restore_timeout, else 80m or 160m",
        )],
    },
    ModuleSpec { name: "cluster_settle", free_form: false, args: &[] },
    ModuleSpec { name: "amv_restore", free_form: false, args: &[] },
    ModuleSpec { name: "restore_tidy", free_form: false, args: &[] },
    ModuleSpec { name: "restore_summary", free_form: false, args: &[] },
    ModuleSpec { name: "node_logs", free_form: false, args: &[] },
    ModuleSpec { name: "point_seal", free_form: false, args: &[] },
    ModuleSpec { name: "node_cleanup", free_form: false, args: &[] },
    ModuleSpec { name: "point_summary", free_form: false, args: &[] },
];

/// The table as the playbook reader wants it.
pub fn table() -> ModuleTable {
    ModuleTable::new(TABLE)
}

/// Whom a module is about.
pub fn scope(module: &str) -> Scope {
    match module {
        "gravity_facts" | "cluster_lock" | "gravity_preflight" | "gravity_backup" | "archive_collect" | "node_logs"
        | "point_seal" | "node_cleanup" | "point_summary" | "amv_backup" | "point_lacks" | "restore_gates"
        | "safety_backup" | "archive_deliver" | "gravity_restore" | "cluster_settle" | "amv_restore"
        | "restore_tidy" | "restore_summary" | "migrate_begin" | "migrate_gates" | "migrate_hand_over"
        | "migrate_end" => Scope::Cluster,
        _ => Scope::Host,
    }
}

/// Runs a module of scope *host*.
///
/// # Errors
/// What went wrong on that host.
pub async fn on_host(world: &World, module: &str, host: &str, args: &Map<String, Value>) -> Result<Done, Failure> {
    match module {
        "ping" => general::ping(world, host).await,
        "command" | "shell" | "raw" => general::command(world, module, host, args).await,
        "debug" => Ok(general::debug(args)),
        "assert" => general::assert(args),
        "fail" => Err(general::fail(args)),
        "set_fact" => Ok(general::set_fact(args)),
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
    match module {
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
        "point_lacks" => amv_backup::lacks(world).await,
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
        "point_summary" => point_seal::summary(world).await,
        other => Err(Failure::new(Kind::Bug, format!("no module of scope cluster is called {other}"))),
    }
}
