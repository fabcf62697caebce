//! `ferry runs`: journals of earlier runs, and the page that is made of each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::args::{OutputKind, RunsCommand};
use super::{open, river};
use crate::catalog::{InBackup, Manifest};
use crate::event::{Event, Stamped, Window};
use crate::failure::{Failure, Kind};
use crate::report;
use crate::report::figures::{human_bytes, human_seconds};
use crate::report::html::run::{self as page, Extra, Included, SealedPoint};
use crate::report::render::{Style, render};
use crate::report::tables::Table;
use crate::report::{Sink, journal, stdout_width};

pub(super) fn run(command: RunsCommand) -> Result<u8, Failure> {
    match command {
        RunsCommand::List { json, run_dir } => list(json, run_dir.as_deref()),
        RunsCommand::Show { run, json, run_dir } => show(&run, json, run_dir.as_deref()),
        RunsCommand::Replay(args) => replay(&args),
        RunsCommand::Report(args) => report(&args),
        // It works on hosts: `resume` does it.
        RunsCommand::Resume(_) => Err(Failure::new(Kind::Bug, "runs resume went the wrong way")),
    }
}

/// `ferry runs report`
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The run's id or its beginning; the newest run where none is given
    run: Option<String>,
    /// Write the page here; - for standard output. Without it: report.html in the run's folder
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where runs keep their journals
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

/// `ferry runs replay`
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The run's id or its beginning
    run: String,
    /// So many times as fast as it was; without it everything comes at once
    #[arg(long, value_name = "FACTOR")]
    speed: Option<f64>,
    /// How it speaks
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    output: OutputKind,
    /// Where runs keep their journals
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

/// A text that did not pass the event door, without the secrets that this command knows.
fn masked(text: &str) -> String {
    super::MASKER.get_or_init(crate::secret::Masker::new).mask(text).into_owned()
}

/// What the manifest of a point says that no journal has. A point that is gone or cannot be read adds nothing.
fn extra(sealed: &SealedPoint) -> Extra {
    let Ok(manifest) = Manifest::read(&Path::new(&sealed.path).join("manifest.json")) else { return Extra::default() };
    let included = manifest.contents.iter().map(|row| Included {
        row: row.row.clone(),
        yes: row.in_backup == InBackup::Yes,
        note: row.note.clone(),
    });
    Extra {
        included: included.collect(),
        commands: manifest.commands.iter().map(|command| masked(command)).collect(),
        waivers: manifest.waivers.iter().map(|waiver| (waiver.gate.clone(), masked(&waiver.reason))).collect(),
    }
}

/// Writes what is made of a run that has just ended: its page, the JUnit file, what the CI is told. What was done
/// does not depend on it: what cannot be written is said, and changes no exit code.
pub(super) fn report_after(dir: &Path, junit: Option<&Path>) {
    let page = page::write_file(dir, &extra, &dir.join(page::FILE)).map(|_| ());
    let junit = junit.map_or(Ok(()), |path| report::junit::write_file(dir, path));
    let summary = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()).map(PathBuf::from);
    let told = report::ci::after(dir, report::ci::Ci::here(), summary.as_deref());
    for failure in [page, junit, told].into_iter().filter_map(Result::err) {
        super::show_failure(&failure.why("the run itself is not touched by this").mend("ferry runs report"));
    }
}

fn report(args: &ReportArgs) -> Result<u8, Failure> {
    let runs = open::settings(&[], None, args.run_dir.as_deref(), None)?.runs;
    let dir = match &args.run {
        Some(id) => find(&runs, id)?,
        None => newest(&runs)?,
    };
    if args.out.as_deref() == Some(Path::new("-")) {
        page::write(&dir, &extra, std::io::stdout())?;
        return Ok(0);
    }
    let path = args.out.clone().unwrap_or_else(|| dir.join(page::FILE));
    let written = page::write_file(&dir, &extra, &path)?;
    let mut text = format!("{} ({})\n", path.display(), human_bytes(written.bytes));
    for what in &written.left_out {
        text.push_str(&format!("  left out: {}\n", crate::secret::clean(what.as_bytes())));
    }
    Sink::stdout().put(&text);
    Ok(0)
}

/// The run that began last.
fn newest(runs: &Path) -> Result<PathBuf, Failure> {
    journal::newest(runs).ok_or_else(|| {
        Failure::new(Kind::CouldNotStart, "there is no run yet")
            .saw(runs.display().to_string())
            .mend("see: ferry runs list")
    })
}

/// The longest wait between two events of a replay: nobody looks at an hour of nothing.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

fn replay(args: &ReplayArgs) -> Result<u8, Failure> {
    let wrong = |speed: f64| Failure::new(Kind::Usage, format!("--speed {speed}: a number above 0 is expected"));
    if let Some(speed) = args.speed.filter(|speed| !(speed.is_finite() && *speed > 0.0)) {
        return Err(wrong(speed));
    }
    let dir = find(&open::settings(&[], None, args.run_dir.as_deref(), None)?.runs, &args.run)?;
    let mut reader = journal::Reader::open(&dir.join(journal::FILE))?;
    let window = Window::default();
    let shown = report::spawn(window.clone(), river::output(args.output), None)
        .map_err(|error| Failure::new(Kind::CouldNotStart, "the screen could not be opened").saw(error.to_string()))?;
    let mut before: Option<jiff::Timestamp> = None;
    let mut trouble = None;
    for event in reader.by_ref() {
        let event = match event {
            Ok(event) => event,
            Err(failure) => {
                trouble = Some(failure);
                break;
            }
        };
        if let (Some(speed), Some(before)) = (args.speed, before) {
            let wait = event.at.duration_since(before).as_secs_f64().max(0.0) / speed;
            std::thread::sleep(Duration::from_secs_f64(wait.min(LONGEST_WAIT.as_secs_f64())));
        }
        before = Some(event.at);
        match &event.event {
            Event::Logged { host, from, to } => {
                let shown = journal::each_log_line(&dir, host, *from, *to, &mut |line| {
                    let said = Event::Line { host: host.clone(), stream: line.stream, text: line.text };
                    window.again(Stamped { at: line.at, seq: event.seq, event: said });
                });
                if let Err(error) = shown {
                    let text = format!("what was said here cannot be shown: {error}");
                    window.again(Stamped { event: Event::Warning { host: Some(host.clone()), text }, ..event });
                }
            }
            _ => window.again(event),
        }
    }
    window.end();
    let _ = shown.join();
    match trouble {
        Some(failure) => Err(failure),
        None => Ok(0),
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
        crate::report::say(&format!("no run in {}\n", runs.display()));
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
