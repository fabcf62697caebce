//! What the CI that runs us understands: GitHub's groups, annotations and step summary, GitLab's sections.
//!
//! What lives here: which CI it is, the lines that fold a log, and what is told when a run is over. What does not: JUnit
//! ([`super::junit`]), which every CI reads.
//!
//! A CI reads commands out of the log, and hosts write into that log. GitHub takes a line that begins with `::`, and
//! anything behind `##[` within one, for commands; so on GitHub these are broken in everything that is not our own
//! command ([`harmless`]). GitLab's need control characters, which no host's line has.

use std::borrow::Cow;
use std::io::Write as _;
use std::path::Path;

use super::Sink;
use super::figures::{human_count, human_seconds};
use super::journal::{self, Reader};
use super::render::exit_meaning;
use crate::event::{Event, Stamped};
use crate::failure::{Failure, Kind};
use crate::secret::clean;

/// GitHub shows ten annotations of a kind for a step.
const MOST_ANNOTATIONS: usize = 10;
/// GitHub takes a summary of at most 1 MiB; the rows that it has stay far below.
const MOST_ROWS: usize = 200;

/// The CI that runs us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ci {
    /// GitHub Actions.
    Github,
    /// GitLab CI.
    Gitlab,
}

impl Ci {
    /// What the environment says.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let is = |name: &str| get(name).is_some_and(|value| value == "true");
        if is("GITHUB_ACTIONS") {
            Some(Self::Github)
        } else if is("GITLAB_CI") {
            Some(Self::Gitlab)
        } else {
            None
        }
    }

    /// The CI of this process.
    pub fn here() -> Option<Self> {
        Self::from_env(|name| std::env::var(name).ok())
    }
}

/// Text in which GitHub finds no command. Only with `ci` being GitHub anything is changed.
pub fn harmless(ci: Option<Ci>, text: &str) -> Cow<'_, str> {
    if ci != Some(Ci::Github) || !text.contains("##[") && !text.contains("::") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive('\n') {
        let blanks = line.len() - line.trim_start().len();
        let (lead, rest) = line.split_at(blanks);
        out.push_str(lead);
        if rest.starts_with("::") {
            out.push_str("| ");
        }
        out.push_str(&rest.replace("##[", "## ["));
    }
    Cow::Owned(out)
}

/// Folds the log of a run: one group or section a step.
#[derive(Debug)]
pub struct Folds {
    ci: Option<Ci>,
    open: Option<String>,
}

impl Folds {
    /// For this CI; without one nothing is folded.
    pub fn new(ci: Option<Ci>) -> Self {
        Self { ci, open: None }
    }

    /// What is written before an event's own lines; may be empty.
    pub fn before(&mut self, event: &Stamped) -> String {
        let Some(ci) = self.ci else { return String::new() };
        match &event.event {
            Event::TaskStarted { task, number, of } => {
                let mut text = self.close(event);
                let title = clean(format!("[{number}/{of}] {task}").as_bytes());
                match ci {
                    Ci::Github => {
                        text.push_str(&format!("::group::{}\n", data(&title)));
                        self.open = Some(String::new());
                    }
                    Ci::Gitlab => {
                        let name = format!("ferry_step_{number}");
                        text.push_str(&format!(
                            "\u{1b}[0Ksection_start:{}:{name}\r\u{1b}[0K{title}\n",
                            event.at.as_second()
                        ));
                        self.open = Some(name);
                    }
                }
                text
            }
            // What must be seen is not folded away.
            Event::Failed { .. } | Event::Summary { .. } | Event::RunEnded { .. } | Event::Asking { .. } => {
                self.close(event)
            }
            _ => String::new(),
        }
    }

    fn close(&mut self, event: &Stamped) -> String {
        match (self.open.take(), self.ci) {
            (Some(_), Some(Ci::Github)) => "::endgroup::\n".to_owned(),
            (Some(name), Some(Ci::Gitlab)) => {
                format!("\u{1b}[0Ksection_end:{}:{name}\r\u{1b}[0K\n", event.at.as_second())
            }
            _ => String::new(),
        }
    }
}

/// A command's text for GitHub.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A command's property for GitHub.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Text in which Markdown and HTML find nothing.
fn markdown(text: &str) -> String {
    let mut out = String::new();
    let short: String = text.chars().take(500).collect();
    for c in clean(short.replace('\n', " ").as_bytes()).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '!' | '|' | '~' | '@' | ':' => {
                out.push_str(&format!("&#{};", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// What GitHub is told when a run is over.
#[derive(Debug, Default)]
struct Told {
    title: String,
    run: String,
    failures: Vec<Failure>,
    warnings: Vec<String>,
    more: u64,
    rows: Vec<(String, String)>,
    next: Vec<String>,
    exit: Option<u8>,
    seconds: f64,
}

fn told(dir: &Path) -> Result<Told, Failure> {
    let mut told = Told::default();
    for event in Reader::open(&dir.join(journal::FILE))? {
        match event?.event {
            Event::RunStarted { run, .. } if told.run.is_empty() => told.run = run,
            Event::Plan { title, .. } if told.title.is_empty() => told.title = title,
            Event::Failed { mut failure } => {
                let more = std::mem::take(&mut failure.more);
                for failure in std::iter::once(failure).chain(more) {
                    if told.failures.len() < MOST_ROWS { told.failures.push(failure) } else { told.more += 1 }
                }
            }
            Event::Warning { host, text } if told.warnings.len() < MOST_ROWS => {
                told.warnings.push(host.map(|host| format!("{host}: {text}")).unwrap_or(text));
            }
            Event::Summary { lines, next } => {
                let room = MOST_ROWS.saturating_sub(told.rows.len());
                told.rows.extend(lines.into_iter().take(room).map(|line| (line.word, line.text)));
                told.next.extend(next.into_iter().take(20));
            }
            Event::RunEnded { exit, seconds, .. } => (told.exit, told.seconds) = (Some(exit), seconds),
            _ => {}
        }
    }
    Ok(told)
}

/// Tells GitHub how the run in `dir` came out: annotations on standard error, so that standard output stays what was asked
/// for, and the step's summary. Elsewhere nothing.
///
/// # Errors
/// The journal cannot be read, or the summary cannot be written.
pub fn after(dir: &Path, ci: Option<Ci>, summary: Option<&Path>) -> Result<(), Failure> {
    if ci != Some(Ci::Github) && summary.is_none() {
        return Ok(());
    }
    let told = told(dir)?;
    if ci == Some(Ci::Github) {
        Sink::stderr().command(&annotations(&told));
    }
    let Some(path) = summary else { return Ok(()) };
    let written = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(page(&told).as_bytes()));
    written.map_err(|error| {
        Failure::new(Kind::Failed, "the step's summary could not be written")
            .saw(format!("{}: {error}", path.display()))
    })
}

fn annotations(told: &Told) -> String {
    let mut text = String::new();
    for failure in told.failures.iter().take(MOST_ANNOTATIONS) {
        let title = match &failure.code {
            Some(code) => format!("ferry {code}"),
            None => "ferry".to_owned(),
        };
        // The operator's own file, where there is one, is where GitHub shows it.
        let place = failure.place.as_ref().filter(|place| !place.file.starts_with('/'));
        let place = place.map(|place| format!("file={},line={},", property(&clean(place.file.as_bytes())), place.line));
        let mend = failure.mend.as_ref().map(|mend| format!("\n{mend}")).unwrap_or_default();
        let lines: Vec<String> = format!("{failure}{mend}").split('\n').map(|line| clean(line.as_bytes())).collect();
        text.push_str(&format!(
            "::error {}title={}::{}\n",
            place.unwrap_or_default(),
            property(&title),
            data(&lines.join("\n"))
        ));
    }
    for warning in told.warnings.iter().take(MOST_ANNOTATIONS) {
        text.push_str(&format!("::warning title=ferry::{}\n", data(&clean(warning.as_bytes()))));
    }
    text
}

fn page(told: &Told) -> String {
    let title = if told.title.is_empty() { "ferry" } else { &told.title };
    let (sign, how) = match told.exit {
        Some(0) => ("✅", exit_meaning(0).to_owned()),
        Some(8) => ("❔", format!("exit 8: {}", exit_meaning(8))),
        Some(exit) => ("❌", format!("exit {exit}: {}", exit_meaning(exit))),
        None => ("❔", "it did not come to its end".to_owned()),
    };
    let mut text = format!(
        "## {sign} {}\n\n{} ({}, run {})\n\n",
        markdown(title),
        markdown(&how),
        human_seconds(told.seconds),
        markdown(&told.run)
    );
    for failure in &told.failures {
        let code = failure.code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default();
        text.push_str(&format!("* **{code}{}**", markdown(&failure.to_string())));
        if let Some(mend) = &failure.mend {
            text.push_str(&format!("<br>{}", markdown(mend)));
        }
        text.push('\n');
    }
    if told.more > 0 {
        text.push_str(&format!("* and {} more\n", human_count(told.more)));
    }
    if !told.rows.is_empty() {
        text.push_str("\n| | |\n|---|---|\n");
        for (word, row) in &told.rows {
            text.push_str(&format!("| {} | {} |\n", markdown(word), markdown(row)));
        }
    }
    for (word, lines) in [("warning", &told.warnings), ("next", &told.next)] {
        if !lines.is_empty() {
            text.push('\n');
            for line in lines {
                text.push_str(&format!("* {word}: {}\n", markdown(line)));
            }
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_gives_github_no_command() {
        let github = Some(Ci::Github);
        assert_eq!(
            harmless(github, "a ##[error]x\n  ::add-path::/evil\nfine :: here\n"),
            "a ## [error]x\n  | ::add-path::/evil\nfine :: here\n"
        );
        assert_eq!(harmless(None, "::x ##["), "::x ##[");
        assert_eq!(harmless(Some(Ci::Gitlab), "::x"), "::x");
        assert_eq!(data("100 %\n::error::x"), "100 %25%0A::error::x");
        assert!(!markdown("<img src=x> [a](javascript:b) `c` | d").contains(['<', '[', '`', '|']));
    }

    #[test]
    fn the_environment_says_which_ci_it_is() {
        let with = |name: &'static str| Ci::from_env(move |asked| (asked == name).then(|| "true".to_owned()));
        assert_eq!(with("GITHUB_ACTIONS"), Some(Ci::Github));
        assert_eq!(with("GITLAB_CI"), Some(Ci::Gitlab));
        assert_eq!(with("CI"), None);
    }
}
