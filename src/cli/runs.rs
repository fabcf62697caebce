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
        // It works on hosts: `resume` does it.
        RunsCommand::Resume(_) => Err(Failure::new(Kind::Bug, "runs resume went the wrong way")),
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
                Ok(run) => json!({"id": run.id, "dir": dir, "command": run.command, "state": run.state(), "exit": run.exit, "started": run.started, "ended": run.ended, "resumes": run.resumes}),
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
    let mut table = Table::new(["run", "state", "exit", "carries on", "command"]);
    for (dir, run) in &listed {
        match run {
            Ok(run) => table.row([
                run.id.clone(),
                run.state().to_owned(),
                run.exit.map(|code| code.to_string()).unwrap_or_default(),
                run.resumes.clone().unwrap_or_default(),
                run.command.join(" "),
            ]),
            Err(failure) => {
                let (name, none) = (dir.display().to_string(), String::new);
                table.row([name, "unreadable".to_owned(), none(), none(), failure.what.clone()])
            }
        };
    }
    table.print();
    Ok(0)
}

/// The folder of the run whose id begins so.
///
/// # Errors
/// [`Kind::CouldNotStart`]: none or several do.
pub(super) fn find(runs: &std::path::Path, id: &str) -> Result<std::path::PathBuf, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(Kind::CouldNotStart, "the runs cannot be listed").saw(format!("{}: {error}", runs.display()))
    };
    let entries = match std::fs::read_dir(runs) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(cannot)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(cannot(error)),
    };
    let mut fits: Vec<_> = entries
        .into_iter()
        .filter(|entry| {
            entry.file_name().to_string_lossy().starts_with(id) && entry.path().join(journal::FILE).is_file()
        })
        .map(|entry| entry.path())
        .collect();
    match (fits.len(), fits.pop()) {
        (1, Some(dir)) => Ok(dir),
        (0, _) => Err(Failure::new(Kind::CouldNotStart, format!("there is no run {id}")).mend("see: ferry runs list")),
        _ => Err(Failure::new(Kind::CouldNotStart, format!("several runs begin with {id}"))
            .mend("give more of the id: ferry runs list")),
    }
}

fn show(id: &str, as_json: bool, run_dir: Option<&std::path::Path>) -> Result<u8, Failure> {
    let dir = find(&open::settings(&[], None, run_dir, None)?.runs, id)?;
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
        let run = journal::summarise(&dir)?;
        if run.exit != Some(0) && !run.live {
            out.put(&format!("to carry it on: ferry runs resume {}\n", run.id));
        }
    }
    Ok(0)
}
