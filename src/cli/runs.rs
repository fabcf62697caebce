//! `ferry runs`: journals of earlier runs.

use serde_json::json;

use super::args::RunsCommand;
use super::open;
use crate::failure::{Failure, Kind};
use crate::report::figures::human_seconds;
use crate::report::render::{Style, render};
use crate::report::tables::Table;
use crate::report::{Sink, journal, stdout_width};

pub(super) fn run(command: RunsCommand) -> Result<u8, Failure> {
    match command {
        RunsCommand::List { json, run_dir } => list(json, run_dir.as_deref()),
        RunsCommand::Show { run, json, run_dir } => show(&run, json, run_dir.as_deref()),
    }
}

type Listed = Vec<(std::path::PathBuf, Result<journal::RunSummary, Failure>)>;

fn all(run_dir: Option<&std::path::Path>) -> Result<(std::path::PathBuf, Listed), Failure> {
    let runs = open::settings(&[], None, run_dir, None)?.runs;
    let listed = journal::list(&runs)
        .map_err(|error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", runs.display())))?;
    Ok((runs, listed))
}

fn list(as_json: bool, run_dir: Option<&std::path::Path>) -> Result<u8, Failure> {
    let (runs, listed) = all(run_dir)?;
    if as_json {
        let all: Vec<_> = listed
            .iter()
            .map(|(dir, run)| match run {
                Ok(run) => json!({"id": run.id, "dir": dir, "command": run.command, "state": run.state(), "exit": run.exit, "started": run.started, "ended": run.ended}),
                Err(failure) => json!({"dir": dir, "failure": failure}),
            })
            .collect();
        Sink::stdout().put(&format!("{}\n", serde_json::to_string_pretty(&all).unwrap_or_default()));
        return Ok(0);
    }
    if listed.is_empty() {
        Sink::stdout().put(&format!("no run in {}\n", runs.display()));
        return Ok(0);
    }
    let mut table = Table::new(["run", "state", "exit", "command"]);
    for (dir, run) in &listed {
        match run {
            Ok(run) => table.row([
                run.id.clone(),
                run.state().to_owned(),
                run.exit.map(|code| code.to_string()).unwrap_or_default(),
                run.command.join(" "),
            ]),
            Err(failure) => {
                table.row([dir.display().to_string(), "unreadable".to_owned(), String::new(), failure.what.clone()])
            }
        };
    }
    table.print();
    Ok(0)
}

fn show(id: &str, as_json: bool, run_dir: Option<&std::path::Path>) -> Result<u8, Failure> {
    let (_, listed) = all(run_dir)?;
    let fits: Vec<_> = listed
        .iter()
        .filter(|(dir, _)| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(id)))
        .collect();
    let dir = match fits.as_slice() {
        [(dir, _)] => dir,
        [] => {
            return Err(Failure::new(Kind::CouldNotStart, format!("there is no run {id}")).mend("see: ferry runs list"));
        }
        _ => {
            return Err(Failure::new(Kind::CouldNotStart, format!("several runs begin with {id}"))
                .mend("give more of the id: ferry runs list"));
        }
    };
    let contents = journal::read(&dir.join(journal::FILE))?;
    let mut out = Sink::stdout();
    for event in &contents.events {
        if as_json {
            out.put(&format!("{}\n", serde_json::to_string(event).unwrap_or_default()));
        } else {
            for line in render(event, stdout_width(), Style::stdout()) {
                out.put(&format!("{line}\n"));
            }
        }
    }
    if contents.torn {
        out.put("(the journal ends in the middle of a line: ferry or the machine died there)\n");
    }
    if !as_json {
        let seconds = match (contents.events.first(), contents.events.last()) {
            (Some(first), Some(last)) => last.at.duration_since(first.at).as_secs_f64(),
            _ => 0.0,
        };
        out.put(&format!("{} in {}\n", human_seconds(seconds), dir.display()));
    }
    Ok(0)
}
