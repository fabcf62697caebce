//! `ferry completions`: what the shell offers when Tab is pressed.
//!
//! What lives here: the script for each shell, and the words that only this machine knows: hosts and clusters of the
//! inventory, points of the catalog, runs, codes. What does not: the commands and options (args).
//!
//! The script calls ferry itself for each Tab. Nothing is asked, no host is reached, and whatever cannot be read
//! offers nothing: a completion is no place for an error.

use std::ffi::OsStr;

use clap::Args;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use super::args::Cli;
use super::open;
use crate::catalog::Catalog;
use crate::codes;
use crate::failure::{Failure, Kind};
use crate::inventory::Inventory;
use crate::report::Sink;

/// The variable by which the script calls ferry.
const VARIABLE: &str = "COMPLETE";

/// `ferry completions`
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    #[arg(value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
    shell: String,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<u8, Failure> {
    let shells = Shells::builtins();
    let shell =
        shells.completer(&args.shell).ok_or_else(|| Failure::new(Kind::Bug, "a shell that clap does not know"))?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "ferry", "ferry", "ferry", &mut script)
        .map_err(|error| Failure::new(Kind::Bug, "the script could not be written").saw(error.to_string()))?;
    Sink::stdout().put(&String::from_utf8_lossy(&script));
    Ok(0)
}

/// Answers the shell, when it was the shell that called. True then: there is nothing more to do.
pub(super) fn answer() -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let args = std::env::args_os();
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(|| with_words(Cli::whole()))
        .var(VARIABLE)
        .bin("ferry")
        .try_complete(args, here.as_deref())
        .unwrap_or(true)
}

/// The command line, with what completes each word that only this machine knows.
fn with_words(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let points = command.get_name() == "points";
    let ids: Vec<String> = command.get_arguments().map(|arg| arg.get_id().to_string()).collect();
    let command = ids.into_iter().fold(command, |command, id| {
        let add = |command: clap::Command, words: fn() -> Vec<CompletionCandidate>| {
            command.mut_arg(&id, |arg| arg.add(ArgValueCompleter::new(move |typed: &OsStr| fitting(typed, words()))))
        };
        match id.as_str() {
            "pattern" | "limit" => add(command, hosts),
            "cluster" | "to" | "from" | "confirm" | "erase_amv" | "source" | "target" => add(command, clusters),
            "point" => add(command, if points { all_points } else { restorable }),
            "run" => add(command, runs),
            "code" => add(command, all_codes),
            // What is changed moves behind the others, and places count: so each is moved once, in order.
            _ => command.mut_arg(&id, |arg| arg),
        }
    });
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_words))
}

/// Those that begin with what was typed.
fn fitting(typed: &OsStr, words: Vec<CompletionCandidate>) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    words.into_iter().filter(|word| word.get_value().to_str().is_some_and(|word| word.starts_with(typed))).collect()
}

fn inventory() -> Option<Inventory> {
    let settings = open::settings(&[], None, None, None).ok()?;
    Inventory::load_beside(&settings.inventory, None).ok()
}

/// Groups that are no cluster.
const ROLES: [&str; 5] = ["all", "ungrouped", "mains", "amv", "nfs"];

fn clusters() -> Vec<CompletionCandidate> {
    let Some(inventory) = inventory() else { return Vec::new() };
    let groups = inventory.groups().map(|group| group.as_str().to_owned());
    groups.filter(|group| !ROLES.contains(&group.as_str())).map(CompletionCandidate::new).collect()
}

fn hosts() -> Vec<CompletionCandidate> {
    let Some(inventory) = inventory() else { return Vec::new() };
    let groups =
        inventory.groups().map(|group| CompletionCandidate::new(group.as_str().to_owned()).help(Some("group".into())));
    let hosts = inventory
        .hosts_of("all")
        .unwrap_or_default()
        .into_iter()
        .map(|host| CompletionCandidate::new(host.to_string()));
    groups.chain(hosts).collect()
}

fn restorable() -> Vec<CompletionCandidate> {
    let mut all =
        vec![CompletionCandidate::new("latest").help(Some("the newest verified, with --from CLUSTER".into()))];
    all.extend(all_points());
    all
}

fn all_points() -> Vec<CompletionCandidate> {
    let Ok(settings) = open::settings(&[], None, None, None) else { return Vec::new() };
    let Some(root) = settings.catalogs.first() else { return Vec::new() };
    let Ok(entries) = Catalog::open_read(root).and_then(|catalog| catalog.list(None)) else { return Vec::new() };
    let now = jiff::Timestamp::now();
    entries
        .iter()
        .map(|entry| {
            let point = entry.summary(now);
            CompletionCandidate::new(point.id.to_string())
                .help(Some(format!("{}, {}", point.cluster, point.state).into()))
        })
        .collect()
}

fn runs() -> Vec<CompletionCandidate> {
    let Ok(settings) = open::settings(&[], None, None, None) else { return Vec::new() };
    let entries = std::fs::read_dir(&settings.runs).into_iter().flatten().filter_map(Result::ok);
    let with_journal = entries.filter(|entry| entry.path().join(crate::report::journal::FILE).is_file());
    with_journal.map(|entry| CompletionCandidate::new(entry.file_name())).collect()
}

fn all_codes() -> Vec<CompletionCandidate> {
    codes::ALL.iter().map(|code| CompletionCandidate::new(code.code).help(Some(code.title.into()))).collect()
}
