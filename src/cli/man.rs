//! `ferry man`: the manual pages, and the pages of the book that are made of the code.

use std::path::{Path, PathBuf};

use clap::Args;

use super::args::Cli;
use super::explain::EXITS;
use crate::codes;
use crate::failure::{Failure, Kind};
use crate::report::Sink;
use crate::report::journal::{FORMAT, KINDS};
use crate::report::render::exit_meaning;

/// `ferry man`
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Which command: ferry man points list. Without one the page of ferry itself
    #[arg(value_name = "COMMAND")]
    words: Vec<String>,
    /// Write all pages into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "words")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs) -> Result<u8, Failure> {
    let mut whole = Cli::whole();
    whole.build();
    if let Some(dir) = &args.dir {
        let cannot = |error: std::io::Error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", dir.display()));
        std::fs::create_dir_all(dir).map_err(cannot)?;
        let mut names = Vec::new();
        write_all(&whole, dir, &mut names).map_err(cannot)?;
        Sink::stdout().lines(&names);
        return Ok(0);
    }
    let mut command = &whole;
    for word in &args.words {
        command = command.find_subcommand(word).ok_or_else(|| {
            Failure::new(Kind::Usage, format!("there is no command {:?}", args.words.join(" "))).mend("ferry --help")
        })?;
    }
    let page = page(command).map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    Sink::stdout().put(&page);
    Ok(0)
}

/// `ferry points list` is the page `ferry-points-list`.
fn page_name(command: &clap::Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).replace(' ', "-")
}

fn page(command: &clap::Command) -> std::io::Result<String> {
    let mut roff = Vec::new();
    // No date: the same ferry makes the same pages.
    clap_mangen::Man::new(command.clone())
        .source(format!("ferry {}", env!("CARGO_PKG_VERSION")))
        .date("")
        .manual("ferry")
        .render(&mut roff)?;
    Ok(String::from_utf8_lossy(&roff).into_owned())
}

fn write_all(command: &clap::Command, dir: &Path, names: &mut Vec<String>) -> std::io::Result<()> {
    if command.is_hide_set() || command.get_name() == "help" {
        return Ok(());
    }
    let path = dir.join(format!("{}.1", page_name(command)));
    std::fs::write(&path, page(command)?)?;
    names.push(path.display().to_string());
    command.get_subcommands().try_for_each(|sub| write_all(sub, dir, names))
}

const MADE: &str = "<!-- Made from the code; `FERRY_WRITE=1 cargo test --test tour` writes it anew. -->\n\n";

/// The pages of the book that are made of the code: file name below `docs/`, text.
pub fn reference() -> Vec<(&'static str, String)> {
    let mut exits = format!("# Exit codes\n\n{MADE}| code | means |\n|---|---|\n");
    for code in EXITS {
        exits.push_str(&format!("| {code} | {} |\n", exit_meaning(code)));
    }
    exits.push_str("\nWhen several apply: 250, 8, 7, 4, 2, 9. `ferry explain 7` says the same at a terminal.\n");

    let mut errors = format!(
        "# Error codes\n\n{MADE}Every error carries one of these; `ferry explain F411` prints its entry. The first digit is that of the exit code.\n"
    );
    for code in codes::ALL {
        errors.push_str(&format!(
            "\n## {}: {}\n\n{}\n\nWhat to do: {}\n",
            code.code,
            code.title,
            plain(code.means),
            plain(code.mend)
        ));
    }

    let mut commands = format!("# Commands\n\n{MADE}");
    let mut whole = Cli::whole();
    whole.build();
    describe(&whole, &mut commands);

    let mut formats = format!(
        "# Formats\n\n{MADE}## A run's journal\n\n`journal.jsonl`, format {FORMAT}: one JSON object a line, each with `at` (UTC), `seq` (from 1, without gaps) and `event`. `--output json` prints the same objects. The kinds of event:\n\n"
    );
    for kind in KINDS {
        formats.push_str(&format!("* `{kind}`\n"));
    }
    formats.push_str(&format!("\nWithin a format, fields and kinds are added, never renamed. A reader leaves out kinds that it does not know.\n\n## A recovery point\n\n`manifest.json`, format {}. It is written last, and from then on no file of the point changes but `notes.jsonl`, to which is only added.\n", crate::catalog::FORMAT));
    let table = crate::modules::table();
    let mut modules =
        format!("# Modules\n\n{MADE}What a task of a playbook can be. A name may have `ansible.builtin.` before it.\n");
    let mut names: Vec<&str> = table.names().collect();
    names.sort_unstable();
    names.dedup();
    for spec in names.into_iter().filter_map(|name| table.get(name)) {
        modules.push_str(&format!("\n## {}\n\n{}\n", spec.name, plain(spec.short)));
        let own = spec.args.iter().filter(|arg| arg.name != "*");
        let rows: Vec<String> = own
            .map(|arg| {
                let choices =
                    if arg.choices.is_empty() { String::new() } else { format!(": {}", arg.choices.join(", ")) };
                let default = arg.default.map(|value| format!(", else `{value}`")).unwrap_or_default();
                let must = if arg.required { ", required" } else { "" };
                let kind = format!("{}{choices}{default}{must}", arg.kind.words()).replace('|', "\\|");
                format!("| `{}` | {kind} | {} |\n", arg.name, plain(arg.doc).replace('|', "\\|"))
            })
            .collect();
        if !rows.is_empty() {
            modules.push_str(&format!("\n| argument | takes | means |\n|---|---|---|\n{}", rows.concat()));
        }
    }
    vec![
        ("reference-modules.md", modules),
        ("reference-exit-codes.md", exits),
        ("reference-errors.md", errors),
        ("reference-commands.md", commands),
        ("reference-formats.md", formats),
    ]
}

/// Text in which Markdown finds nothing.
fn plain(text: &str) -> String {
    text.replace('<', "\\<").replace('>', "\\>").replace('*', "\\*").replace('_', "\\_")
}

fn describe(command: &clap::Command, text: &mut String) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    text.push_str(&format!("## {name}\n\n"));
    if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
        text.push_str(&format!("{}\n\n", plain(&about.to_string())));
    }
    let usage = command.clone().render_usage().to_string();
    text.push_str(&format!("```text\n{}\n```\n\n", usage.trim_start_matches("Usage: ").trim()));
    let mut rows = Vec::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let id = arg.get_id().as_str();
        if ["help", "version"].contains(&id) {
            continue;
        }
        let long = arg.get_long().map(|long| format!("--{long}"));
        let short = arg.get_short().map(|short| format!("-{short}"));
        let names =
            arg.get_value_names().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        let takes = arg.get_action().takes_values();
        let word = if arg.is_positional() {
            names.unwrap_or_else(|| id.to_uppercase())
        } else {
            let both: Vec<String> = short.into_iter().chain(long).collect();
            match names.filter(|_| takes) {
                Some(names) => format!("{} {names}", both.join(", ")),
                None => both.join(", "),
            }
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        rows.push(format!("| `{}` | {} |\n", word.replace('|', "\\|"), plain(&help).replace('|', "\\|")));
    }
    if !rows.is_empty() {
        text.push_str("| option | means |\n|---|---|\n");
        text.push_str(&rows.concat());
        text.push('\n');
    }
    for sub in command.get_subcommands() {
        describe(sub, text);
    }
}
