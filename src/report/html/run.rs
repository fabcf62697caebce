//! The page of one run: `report.html`.
//!
//! What lives here: reading a journal once, keeping what a page can show (`Account`), and writing it. The logs are
//! read where the page shows them: each host's beginning, what came before each failure, and its end. Whatever
//! the size of journal and logs, memory and page stay below a bound, and the page says what was left out and where
//! it is. What does not live here: what a point's manifest says; the caller brings that ([`Extra`]).

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;

use jiff::Timestamp;

use super::{Counted, bar, begin, end, escape_into, many, text, when};
use crate::event::{Event, Finding, Outcome, Severity, Stamped, SummaryLine};
use crate::failure::{Failure, Kind};
use crate::report::figures::{human_bytes, human_count, human_rate, human_seconds};
use crate::report::journal::{self, Reader};
use crate::report::render::exit_meaning;
use crate::secret::clean;

/// The page's name in the run's folder.
pub const FILE: &str = "report.html";

/// No page is larger, in bytes: it must open in any browser and go by mail.
const LARGEST: u64 = 4_800_000;
/// So much of the page may be logs, in bytes as written.
const MOST_LOGS: u64 = 3_000_000;
/// Bars of the timeline; beyond it bars that went well are drawn together.
const MOST_BARS: usize = 12_000;
/// Bars beyond that which are never drawn together: what failed.
const MOST_BAD_BARS: usize = 3_000;
/// Steps that are kept, and rows that are written.
const MOST_STEPS: usize = 20_000;
const MOST_STEP_ROWS: usize = 600;
/// Hosts with a row of their own.
const MOST_HOSTS: usize = 2_000;
/// Other lists.
const MOST_FINDINGS: usize = 400;
const MOST_FAILURES: usize = 100;
const MOST_REMARKS: usize = 300;
const MOST_JOBS: usize = 200;
const MOST_COMMANDS: usize = 200;
const MOST_PLAN: usize = 400;
const MOST_SERIES: usize = 24;
/// Points of one curve; with more, every second one goes.
const MOST_POINTS: usize = 240;
/// A text that a page shows in a table, in characters.
const LONGEST: usize = 2_000;
/// A line of a log, in bytes.
const LONGEST_LINE: usize = 2_000;
/// Before and after the place in a host's log where a step failed there, in bytes.
const BEFORE: u64 = 12 << 10;
const AFTER: u64 = 2 << 10;

/// A row of the vendor's table of what a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// What.
    pub row: String,
    /// In the backup.
    pub yes: bool,
    /// Where it is, or who covers it.
    pub note: String,
}

/// What the point's manifest adds to the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// The vendor's table, row by row.
    pub included: Vec<Included>,
    /// The commands as run.
    pub commands: Vec<String>,
    /// Gates that were waived: which, why.
    pub waivers: Vec<(String, String)>,
}

/// A point that the run sealed, as the journal names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPoint {
    /// Its cluster.
    pub cluster: String,
    /// Its id.
    pub point: String,
    /// Its folder.
    pub path: String,
    /// Its verdict.
    pub verdict: String,
    /// Everything that was wanted is in it.
    pub complete: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the page.
    pub bytes: u64,
    /// What was left out, one sentence each.
    pub left_out: Vec<String>,
}

/// Writes the page of the run in `dir` to `to`. `extra` is asked for what the manifest of the last sealed point says.
///
/// # Errors
/// The journal cannot be read, or `to` cannot be written.
pub fn write(dir: &Path, extra: &dyn Fn(&SealedPoint) -> Extra, to: impl Write) -> Result<Written, Failure> {
    let account = Account::read(dir)?;
    let extra = account.sealed.last().map(extra).unwrap_or_default();
    let mut to = Counted { to: BufWriter::with_capacity(64 << 10, to), written: 0 };
    let written = Page { account: &account, extra: &extra, dir }.write(&mut to).and_then(|left_out| {
        to.flush()?;
        Ok(Written { bytes: to.written, left_out })
    });
    written.map_err(|error| Failure::new(Kind::Failed, "the report could not be written").saw(error.to_string()))
}

/// Writes `report.html` into the run's folder: whole or not at all, readable by its owner alone.
///
/// # Errors
/// As [`write()`].
pub fn write_file(dir: &Path, extra: &dyn Fn(&SealedPoint) -> Extra, path: &Path) -> Result<Written, Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |error: io::Error| {
        Failure::new(Kind::Failed, "the report could not be written").saw(format!("{}: {error}", path.display()))
    };
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = std::path::PathBuf::from(part);
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
    let done = file.map_err(failed).and_then(|file| write(dir, extra, file)).and_then(|written| {
        std::fs::rename(&part, path).map_err(failed)?;
        Ok(written)
    });
    if done.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    done
}

/// A bar of the timeline.
struct Bar {
    from: f32,
    to: f32,
    outcome: Outcome,
    step: usize,
    /// How many ends it stands for.
    count: u32,
}

/// A step, over all hosts.
struct Step {
    number: usize,
    of: usize,
    name: String,
    from: f64,
    to: f64,
    ended: u64,
    outcomes: [u64; 6],
    slowest: (f64, String),
}

/// One host (or cluster) of the run.
#[derive(Default)]
struct Host {
    bars: Vec<Bar>,
    outcomes: [u64; 6],
    seconds: f64,
    /// How far its log went so far.
    logged: u64,
    /// Places in its log where a step failed there.
    failed_at: Vec<u64>,
    /// Places where a job was started there.
    jobs_at: Vec<u64>,
    /// It has a log.
    has_log: bool,
}

/// A count that moved.
struct Series {
    what: String,
    host: String,
    unit: String,
    total: Option<u64>,
    points: Vec<(f64, u64)>,
    every: usize,
    skipped: usize,
    last: (f64, u64),
}

impl Series {
    fn feed(&mut self, at: f64, done: u64) {
        self.last = (at, done);
        self.skipped += 1;
        if self.skipped < self.every {
            return;
        }
        self.skipped = 0;
        self.points.push((at, done));
        if self.points.len() >= MOST_POINTS {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.every *= 2;
        }
    }

    /// `(seconds since the run began, units a second)` between the points.
    fn rates(&self) -> Vec<(f64, f64)> {
        let mut points = self.points.clone();
        if points.last() != Some(&self.last) {
            points.push(self.last);
        }
        let pairs = points.iter().zip(points.iter().skip(1));
        pairs
            .filter(|((from, _), (to, _))| to > from)
            // A count that went back is a second attempt.
            .map(|((from, a), (to, b))| (*to, b.saturating_sub(*a) as f64 / (to - from)))
            .collect()
    }

    fn seconds(&self) -> f64 {
        self.points.first().map_or(0.0, |first| self.last.0 - first.0)
    }
}

/// A job on a node.
struct Job {
    job: String,
    host: String,
    kind: String,
    state: String,
    cleaned: bool,
}

/// A line worth keeping: when, on which host, what; whether it is a warning.
struct Remark {
    at: f64,
    host: String,
    text: String,
    warning: bool,
}

/// What a page can show of a journal.
struct Account {
    id: String,
    ferry: String,
    command: Vec<String>,
    user: String,
    machine: String,
    ci: Option<String>,
    resumes: Option<String>,
    /// How often it was carried on within this journal.
    carried_on: usize,
    started: Option<Timestamp>,
    last: Option<Timestamp>,
    exit: Option<u8>,
    seconds: f64,
    live: bool,
    torn: bool,
    unknown: u64,
    plans: Vec<(String, Vec<String>)>,
    plan_rows: usize,
    steps: Vec<Step>,
    step_at: HashMap<usize, usize>,
    hosts: BTreeMap<String, Host>,
    more_hosts: u64,
    bars: usize,
    bad_bars: usize,
    merged: u64,
    ends: u64,
    unhappy: Vec<(String, String, Outcome, bool, String)>,
    more_unhappy: u64,
    findings: Vec<Finding>,
    more_findings: u64,
    remarks: Vec<Remark>,
    more_remarks: u64,
    warnings: u64,
    jobs: Vec<Job>,
    more_jobs: u64,
    series: Vec<Series>,
    series_at: HashMap<(String, String), usize>,
    more_series: u64,
    verified: Vec<(String, String, u64, String, u64)>,
    sealed: Vec<SealedPoint>,
    summary: Vec<SummaryLine>,
    next: Vec<String>,
    failures: Vec<Failure>,
    more_failures: u64,
    answers: Vec<(String, String, String)>,
}

fn place(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Ok => 0,
        Outcome::Changed => 1,
        Outcome::Skipped => 2,
        Outcome::Failed => 3,
        Outcome::Unreachable => 4,
        Outcome::Unknown => 5,
    }
}

const OUTCOMES: [&str; 6] = ["ok", "changed", "skipped", "failed", "unreachable", "unknown"];

fn shade(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "o",
        Outcome::Changed => "c",
        Outcome::Skipped => "s",
        Outcome::Failed | Outcome::Unreachable => "f",
        Outcome::Unknown => "k",
    }
}

fn is_bad(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::Unreachable | Outcome::Unknown)
}

/// At most [`LONGEST`] characters.
fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{} …", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Adds to a list unless it is full; counts what found no room.
fn keep<T>(list: &mut Vec<T>, most: usize, more: &mut u64, item: T) {
    if list.len() < most { list.push(item) } else { *more += 1 }
}

impl Account {
    fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(journal::FILE);
        let mut reader = Reader::open(&path)?;
        let mut account = Self {
            id: dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            ferry: String::new(),
            command: Vec::new(),
            user: String::new(),
            machine: String::new(),
            ci: None,
            resumes: None,
            carried_on: 0,
            started: None,
            last: None,
            exit: None,
            seconds: 0.0,
            live: journal::is_live(&path),
            torn: false,
            unknown: 0,
            plans: Vec::new(),
            plan_rows: 0,
            steps: Vec::new(),
            step_at: HashMap::new(),
            hosts: BTreeMap::new(),
            more_hosts: 0,
            bars: 0,
            bad_bars: 0,
            merged: 0,
            ends: 0,
            unhappy: Vec::new(),
            more_unhappy: 0,
            findings: Vec::new(),
            more_findings: 0,
            remarks: Vec::new(),
            more_remarks: 0,
            warnings: 0,
            jobs: Vec::new(),
            more_jobs: 0,
            series: Vec::new(),
            series_at: HashMap::new(),
            more_series: 0,
            verified: Vec::new(),
            sealed: Vec::new(),
            summary: Vec::new(),
            next: Vec::new(),
            failures: Vec::new(),
            more_failures: 0,
            answers: Vec::new(),
        };
        for event in reader.by_ref() {
            account.take(event?);
        }
        account.torn = reader.torn();
        account.unknown = reader.unknown();
        Ok(account)
    }

    /// Seconds since the run began.
    fn since(&self, at: Timestamp) -> f64 {
        self.started.map_or(0.0, |started| at.duration_since(started).as_secs_f64().max(0.0))
    }

    fn host(&mut self, name: &str) -> Option<&mut Host> {
        if !self.hosts.contains_key(name) {
            if self.hosts.len() >= MOST_HOSTS {
                self.more_hosts += 1;
                return None;
            }
            self.hosts.insert(name.to_owned(), Host::default());
        }
        self.hosts.get_mut(name)
    }

    fn step(&mut self, number: usize, of: usize, name: &str, from: f64) -> usize {
        if let Some(at) = self.step_at.get(&number) {
            return *at;
        }
        if self.steps.len() >= MOST_STEPS {
            return self.steps.len() - 1;
        }
        self.step_at.insert(number, self.steps.len());
        self.steps.push(Step {
            number,
            of,
            name: short(name),
            from,
            to: from,
            ended: 0,
            outcomes: [0; 6],
            slowest: (0.0, String::new()),
        });
        self.steps.len() - 1
    }

    fn take(&mut self, stamped: Stamped) {
        if self.started.is_none() {
            self.started = Some(stamped.at);
        }
        self.last = Some(self.last.map_or(stamped.at, |last| last.max(stamped.at)));
        let at = self.since(stamped.at);
        match stamped.event {
            Event::RunStarted { run, ferry, command, user, machine, ci, resumes, .. } => {
                if self.command.is_empty() {
                    (self.id, self.ferry, self.command) = (run, ferry, command);
                    (self.user, self.machine, self.ci, self.resumes) = (user, machine, ci, resumes);
                } else {
                    self.carried_on += 1;
                    self.exit = None;
                }
            }
            Event::Plan { title, mut lines } => {
                lines.truncate(MOST_PLAN.saturating_sub(self.plan_rows));
                self.plan_rows += lines.len();
                if self.plans.len() < 20 {
                    self.plans.push((title, lines));
                }
            }
            Event::TaskStarted { task, number, of, .. } => {
                self.step(number, of, &task, at);
            }
            Event::TaskEnded { task, host, outcome, seconds, message, number, ignored, .. } => {
                self.task_ended(at, &task, &host, outcome, seconds, &message, number, ignored);
            }
            Event::Logged { host, from: _, to } => {
                if let Some(host) = self.host(&host) {
                    (host.logged, host.has_log) = (to, true);
                }
            }
            Event::Line { host, .. } => {
                if let Some(host) = self.host(&host) {
                    host.has_log = true;
                }
            }
            Event::Progress { what, host, done, total, unit } => self.progress(at, what, host, done, total, unit),
            Event::Found { finding } => {
                // What went well gives way to what did not.
                if self.findings.len() >= MOST_FINDINGS
                    && finding.severity != Severity::Pass
                    && let Some(place) = self.findings.iter().position(|kept| kept.severity == Severity::Pass)
                {
                    self.findings.remove(place);
                    self.more_findings += 1;
                }
                keep(&mut self.findings, MOST_FINDINGS, &mut self.more_findings, finding);
            }
            Event::Note { host, text } => self.remark(at, host, &text, false),
            Event::Warning { host, text } => self.remark(at, host, &text, true),
            Event::JobStarting { job, host, kind, .. } => {
                if let Some(host) = self.host(&host) {
                    let place = host.logged;
                    if host.jobs_at.len() < 32 {
                        host.jobs_at.push(place);
                    }
                }
                let state = "starting".to_owned();
                keep(&mut self.jobs, MOST_JOBS, &mut self.more_jobs, Job { job, host, kind, state, cleaned: false });
            }
            Event::JobState { job, host, state, rc } => {
                let state = match rc {
                    Some(rc) if !state.contains("exit code") => format!("{state}, exit code {rc}"),
                    _ => state,
                };
                match self.jobs.iter_mut().find(|known| known.job == job) {
                    Some(known) => known.state = state,
                    None => {
                        let kind = "taken over".to_owned();
                        keep(
                            &mut self.jobs,
                            MOST_JOBS,
                            &mut self.more_jobs,
                            Job { job, host, kind, state, cleaned: false },
                        );
                    }
                }
            }
            Event::JobCleaned { job, .. } => {
                if let Some(known) = self.jobs.iter_mut().find(|known| known.job == job) {
                    known.cleaned = true;
                }
            }
            Event::Answered { question, answer, by } if self.answers.len() < 50 => {
                self.answers.push((question, answer, by));
            }
            Event::Verified { point, file, bytes, sha256, members } if self.verified.len() < 100 => {
                self.verified.push((point, file, bytes, sha256, members));
            }
            Event::Sealed { cluster, point, path, verdict, complete } if self.sealed.len() < 100 => {
                self.sealed.push(SealedPoint { cluster, point, path, verdict, complete });
            }
            Event::Summary { lines, next } => {
                let room = 200_usize.saturating_sub(self.summary.len());
                self.summary.extend(lines.into_iter().take(room));
                self.next.extend(next.into_iter().take(20));
                self.next.truncate(50);
            }
            Event::Failed { mut failure } => {
                let more = std::mem::take(&mut failure.more);
                let place = failure.host.as_ref().and_then(|host| self.hosts.get_mut(host));
                if let Some(host) = place.filter(|host| host.failed_at.len() < 16) {
                    host.failed_at.push(host.logged);
                }
                for failure in std::iter::once(failure).chain(more) {
                    keep(&mut self.failures, MOST_FAILURES, &mut self.more_failures, failure);
                }
            }
            Event::RunEnded { exit, seconds, .. } => (self.exit, self.seconds) = (Some(exit), seconds),
            _ => {}
        }
    }

    fn remark(&mut self, at: f64, host: Option<String>, text: &str, warning: bool) {
        self.warnings += u64::from(warning);
        let remark = Remark { at, host: host.unwrap_or_default(), text: short(text), warning };
        if warning
            && self.remarks.len() >= MOST_REMARKS
            && let Some(place) = self.remarks.iter().position(|kept| !kept.warning)
        {
            self.remarks.remove(place);
            self.more_remarks += 1;
        }
        keep(&mut self.remarks, MOST_REMARKS, &mut self.more_remarks, remark);
    }

    #[allow(clippy::too_many_arguments)]
    fn task_ended(
        &mut self,
        at: f64,
        task: &str,
        host: &str,
        outcome: Outcome,
        seconds: f64,
        message: &str,
        number: usize,
        ignored: bool,
    ) {
        self.ends += 1;
        let from = (at - seconds.max(0.0)).max(0.0);
        let index = self.step(number, 0, task, from);
        if let Some(step) = self.steps.get_mut(index) {
            step.to = step.to.max(at);
            step.from = step.from.min(from);
            step.ended += 1;
            if let Some(count) = step.outcomes.get_mut(place(outcome)) {
                *count += 1;
            }
            if seconds > step.slowest.0 {
                step.slowest = (seconds, host.to_owned());
            }
        }
        let bad = is_bad(outcome);
        if bad {
            let row = (host.to_owned(), short(task), outcome, ignored, short(message));
            keep(&mut self.unhappy, MOST_FINDINGS, &mut self.more_unhappy, row);
        }
        let room = if bad { self.bad_bars < MOST_BAD_BARS } else { self.bars < MOST_BARS };
        let Some(host) = self.host(host) else { return };
        if let Some(count) = host.outcomes.get_mut(place(outcome)) {
            *count += 1;
        }
        host.seconds += seconds.max(0.0);
        if bad && host.failed_at.len() < 16 {
            host.failed_at.push(host.logged);
        }
        let bar = Bar { from: from as f32, to: at as f32, outcome, step: index, count: 1 };
        match host.bars.last_mut() {
            _ if room => host.bars.push(bar),
            Some(last) if !is_bad(last.outcome) && !bad => {
                (last.to, last.count) = (bar.to.max(last.to), last.count + 1);
                self.merged += 1;
                return;
            }
            _ => {
                self.merged += 1;
                return;
            }
        }
        if bad { self.bad_bars += 1 } else { self.bars += 1 }
    }

    fn progress(&mut self, at: f64, what: String, host: String, done: u64, total: Option<u64>, unit: String) {
        if unit != "bytes" {
            return;
        }
        let key = (what, host);
        if let Some(series) = self.series_at.get(&key).and_then(|place| self.series.get_mut(*place)) {
            series.feed(at, done);
            series.total = total.or(series.total);
            return;
        }
        if self.series.len() >= MOST_SERIES {
            self.more_series += 1;
            return;
        }
        self.series_at.insert(key.clone(), self.series.len());
        self.series.push(Series {
            what: key.0,
            host: key.1,
            unit,
            total,
            points: vec![(at, done)],
            every: 1,
            skipped: 0,
            last: (at, done),
        });
    }

    /// How long it took, in seconds.
    fn took(&self) -> f64 {
        let seen = self.last.map_or(0.0, |last| self.since(last));
        if self.exit.is_some() && self.carried_on == 0 && self.seconds.is_finite() { self.seconds } else { seen }
    }

    /// What the run was, in a person's words.
    fn title(&self) -> String {
        match self.plans.first() {
            Some((title, _)) if !title.is_empty() => title.clone(),
            _ => {
                let name = self.command.first().map(|path| path.rsplit('/').next().unwrap_or_default().to_owned());
                name.into_iter().chain(self.command.iter().skip(1).cloned()).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// The class, the word and the sentence of how it came out.
    fn verdict(&self) -> (&'static str, &'static str, String) {
        match self.exit {
            Some(0) if self.failures.is_empty() => ("good", "Done", exit_meaning(0).to_owned()),
            Some(0) => ("warn", "Done, with failures that were mended or ignored", exit_meaning(0).to_owned()),
            Some(8) => ("warn", "Not known yet", exit_meaning(8).to_owned()),
            Some(7) => ("bad", "Refused", exit_meaning(7).to_owned()),
            Some(99) => ("warn", "Interrupted", exit_meaning(99).to_owned()),
            Some(code) => ("bad", "Failed", exit_meaning(code).to_owned()),
            None if self.live => ("warn", "Still going on", "this page was made while the run went on".to_owned()),
            None => (
                "bad",
                "Broken off",
                "ferry or its machine stopped in the middle; a job on a node may have gone on".to_owned(),
            ),
        }
    }
}

struct Page<'a> {
    account: &'a Account,
    extra: &'a Extra,
    dir: &'a Path,
}

impl Page<'_> {
    fn write<W: Write>(&self, to: &mut Counted<W>) -> io::Result<Vec<String>> {
        let account = self.account;
        let mut left_out = Vec::new();
        let (_, word, _) = account.verdict();
        begin(to, &format!("{word}: {} · ferry {}", account.title(), account.id))?;
        let commands = self.commands();
        let logs: Vec<(&String, &Host)> = account.hosts.iter().filter(|(_, host)| host.has_log).collect();
        let sections: Vec<(&str, &str)> = [
            ("failed", "What failed", !account.failures.is_empty() || !account.unhappy.is_empty()),
            ("summary", "Summary", !account.summary.is_empty()),
            ("gates", "Gates", !account.findings.is_empty() || !self.extra.waivers.is_empty()),
            ("included", "In the backup", !self.extra.included.is_empty()),
            ("timeline", "Timeline", account.ends > 0),
            ("steps", "Steps", !account.steps.is_empty()),
            ("transfers", "Transfers", !account.series.is_empty() || !account.verified.is_empty()),
            ("hosts", "Hosts", !account.hosts.is_empty()),
            ("jobs", "Jobs", !account.jobs.is_empty()),
            ("remarks", "Warnings and notes", !account.remarks.is_empty()),
            ("commands", "Commands as run", !commands.is_empty()),
            ("plan", "Plan", !account.plans.is_empty()),
            ("logs", "Logs", !logs.is_empty()),
        ]
        .into_iter()
        .filter(|(_, _, there)| *there)
        .map(|(id, name, _)| (id, name))
        .collect();
        bar(to, &format!("run {}", account.id), &sections, true)?;
        self.head(to)?;
        for (id, name) in sections {
            if id == "logs" {
                continue;
            }
            writeln!(to, "<section id=\"{id}\"><h2>{}</h2>", text(name))?;
            match id {
                "failed" => self.failed(to, &mut left_out)?,
                "summary" => self.summary(to)?,
                "gates" => self.gates(to, &mut left_out)?,
                "included" => self.included(to)?,
                "timeline" => self.timeline(to, &mut left_out)?,
                "steps" => self.steps(to, &mut left_out)?,
                "transfers" => self.transfers(to, &mut left_out)?,
                "hosts" => self.hosts(to, &mut left_out)?,
                "jobs" => self.jobs(to, &mut left_out)?,
                "remarks" => self.remarks(to, &mut left_out)?,
                "commands" => {
                    for command in &commands {
                        write!(to, "<pre>{}</pre>", text(&short(command)))?;
                    }
                    writeln!(to)?;
                }
                _ => {
                    for (title, lines) in &account.plans {
                        writeln!(to, "<h3>{}</h3><pre>{}</pre>", text(title), text(&lines.join("\n")))?;
                    }
                }
            }
            writeln!(to, "</section>")?;
        }
        if !logs.is_empty() {
            self.logs(to, &logs, &mut left_out)?;
        }
        if account.torn {
            left_out.push("the journal's last line was cut off: ferry or the machine died there".to_owned());
        }
        if account.unknown > 0 {
            let events = many(account.unknown, "event");
            left_out.push(format!("{events} of kinds that this ferry does not know: a newer one wrote them"));
        }
        let mut told = format!(
            "Made by ferry {} at {} from <code>{}</code>. All times are UTC. This page loads nothing and sends nothing.",
            env!("CARGO_PKG_VERSION"),
            when(Timestamp::now()),
            text(&self.dir.join(journal::FILE).display().to_string())
        );
        if !left_out.is_empty() {
            told.push_str(" Left out of it, and where it is: ");
            told.push_str(&left_out.iter().map(|what| text(what)).collect::<Vec<_>>().join("; "));
            told.push('.');
        }
        end(to, &told)?;
        Ok(left_out)
    }

    fn head(&self, to: &mut impl Write) -> io::Result<()> {
        let account = self.account;
        let (class, word, sentence) = account.verdict();
        write!(to, "<div class=\"verdict {class}\"><h1>{}</h1>", text(&account.title()))?;
        write!(to, "<p class=\"say\"><b>{}</b>: {}.</p>", text(word), text(&sentence))?;
        let by = match &account.ci {
            Some(ci) => format!("{} on {} ({ci})", account.user, account.machine),
            None => format!("{} on {}", account.user, account.machine),
        };
        let began = account.started.map(when).unwrap_or_default();
        write!(
            to,
            "<p class=\"soft\">Began {} and took {}, started by {}.",
            text(&began),
            text(&human_seconds(account.took())),
            text(&by)
        )?;
        if let Some(run) = &account.resumes {
            write!(to, " It carried on run {}.", text(run))?;
        }
        if account.carried_on > 0 {
            write!(to, " It was carried on {}.", many(account.carried_on as u64, "time"))?;
        }
        writeln!(to, "</p></div>")?;
        let mut cards: Vec<(String, String, &str)> = Vec::new();
        let code = account.exit.map_or("none yet".to_owned(), |exit| exit.to_string());
        cards.push(("exit code".to_owned(), code, class));
        for point in account.sealed.iter().rev().take(2).rev() {
            let class = if point.verdict == "verified" && point.complete { "good" } else { "warn" };
            let lack = if point.complete { "" } else { ", not complete" };
            cards.push((
                format!("recovery point {}/{}", point.cluster, point.point),
                format!("{}{lack}", point.verdict),
                class,
            ));
        }
        let bytes: u64 = account.verified.iter().map(|(_, _, bytes, _, _)| *bytes).sum();
        if bytes > 0 {
            cards.push(("archives proved".to_owned(), human_bytes(bytes), ""));
        }
        cards.push(("took".to_owned(), human_seconds(account.took()), ""));
        let of = account.steps.iter().map(|step| step.of).max().unwrap_or(0).max(account.steps.len());
        let ended = account.steps.iter().filter(|step| step.ended > 0).count();
        cards.push((
            "steps that ended".to_owned(),
            format!("{} of {}", human_count(ended as u64), human_count(of as u64)),
            "",
        ));
        let hosts = account.hosts.len() as u64 + account.more_hosts;
        cards.push(("hosts and clusters".to_owned(), human_count(hosts), ""));
        let class = if account.warnings > 0 { "warn" } else { "" };
        cards.push(("warnings".to_owned(), human_count(account.warnings), class));
        write!(to, "<div class=\"cards\">")?;
        for (name, value, class) in cards {
            write!(to, "<div class=\"card {class}\"><span>{}</span><b>{}</b></div>", text(&name), text(&value))?;
        }
        writeln!(to, "</div>")?;
        if !account.next.is_empty() {
            write!(to, "<h3>What to do next</h3><ul>")?;
            for line in &account.next {
                write!(to, "<li><code>{}</code></li>", text(&short(line)))?;
            }
            writeln!(to, "</ul>")?;
        }
        Ok(())
    }

    fn failed(&self, to: &mut impl Write, left_out: &mut Vec<String>) -> io::Result<()> {
        let account = self.account;
        for failure in &account.failures {
            let host = failure.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
            write!(to, "<div class=\"fail\"><h3>{}</h3><dl>", text(&short(&format!("{host}{}", failure.what))))?;
            let place = failure.place.as_ref().map(ToString::to_string);
            let chain = (!failure.chain.is_empty()).then(|| failure.chain.join(" → "));
            let rows = [
                ("at", place.as_ref()),
                ("seen", failure.seen.as_ref()),
                ("why it matters", failure.why.as_ref()),
                ("way", chain.as_ref()),
                ("what to do", failure.mend.as_ref()),
                ("code", failure.code.as_ref()),
            ];
            for (name, value) in rows {
                if let Some(value) = value {
                    write!(to, "<dt>{name}</dt><dd>{}</dd>", text(&short(value)))?;
                }
            }
            write!(to, "</dl>")?;
            if let Some(snippet) = &failure.snippet {
                write!(to, "<pre>{}</pre>", text(snippet))?;
            }
            writeln!(to, "</div>")?;
        }
        if account.more_failures > 0 {
            left_out.push(format!("{} (ferry runs show {})", many(account.more_failures, "more failure"), account.id));
        }
        if !account.unhappy.is_empty() {
            write!(
                to,
                "<div class=\"scroll\"><table class=\"find\"><thead><tr><th>host</th><th>step</th><th>how</th><th>said</th></tr></thead><tbody>"
            )?;
            for (host, task, outcome, ignored, message) in &account.unhappy {
                let word = OUTCOMES.get(place(*outcome)).copied().unwrap_or_default();
                let word = if *ignored { format!("{word}, ignored") } else { word.to_owned() };
                write!(
                    to,
                    "<tr><td>{}</td><td>{}</td><td class=\"bad\">{}</td><td>{}</td></tr>",
                    text(host),
                    text(task),
                    text(&word),
                    text(message)
                )?;
            }
            writeln!(to, "</tbody></table></div>")?;
        }
        if account.more_unhappy > 0 {
            left_out.push(format!("{} that failed on a host (journal.jsonl)", many(account.more_unhappy, "more step")));
        }
        Ok(())
    }

    fn summary(&self, to: &mut impl Write) -> io::Result<()> {
        write!(to, "<div class=\"scroll\"><table><tbody>")?;
        for line in &self.account.summary {
            let class = if line.word.to_uppercase() == line.word { "warn w" } else { "w" };
            write!(
                to,
                "<tr><td class=\"{class}\"><b>{}</b></td><td>{}</td></tr>",
                text(&line.word),
                text(&short(&line.text))
            )?;
        }
        writeln!(to, "</tbody></table></div>")
    }

    fn gates(&self, to: &mut impl Write, left_out: &mut Vec<String>) -> io::Result<()> {
        let account = self.account;
        for (gate, reason) in &self.extra.waivers {
            write!(to, "<p class=\"warn\"><b>{} was waived</b>: {}</p>", text(gate), text(&short(reason)))?;
        }
        let mut findings: Vec<&Finding> = account.findings.iter().collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        if !findings.is_empty() {
            write!(
                to,
                "<div class=\"scroll\"><table class=\"find\"><thead><tr><th>verdict</th><th>gate</th><th>host</th><th>what was seen</th></tr></thead><tbody>"
            )?;
        }
        for finding in &findings {
            let (class, word) = match finding.severity {
                Severity::Pass => ("good", "ok"),
                Severity::Warn => ("warn", "warning"),
                Severity::Refuse => ("bad", "refused"),
            };
            write!(
                to,
                "<tr><td class=\"{class} w\">{word}</td><td class=\"w\">{}</td><td>{}</td><td>{}",
                text(&finding.gate),
                text(finding.host.as_deref().unwrap_or("")),
                text(&short(&finding.what))
            )?;
            if !finding.why.is_empty() {
                write!(to, "<br><span class=\"soft\">{}</span>", text(&short(&finding.why)))?;
            }
            if !finding.mend.is_empty() {
                write!(to, "<br><code>{}</code>", text(&short(&finding.mend)))?;
            }
            write!(to, "</td></tr>")?;
        }
        if !findings.is_empty() {
            writeln!(to, "</tbody></table></div>")?;
        }
        if account.more_findings > 0 {
            left_out.push(format!("{} (ferry runs show {})", many(account.more_findings, "more finding"), account.id));
        }
        Ok(())
    }

    fn included(&self, to: &mut impl Write) -> io::Result<()> {
        write!(
            to,
            "<p class=\"soft\">What the vendor's backup holds and what it does not, row by row.</p><div class=\"scroll\"><table><thead><tr><th>part</th><th>in the backup</th><th>where it is, or who covers it</th></tr></thead><tbody>"
        )?;
        for row in &self.extra.included {
            let (class, word) = if row.yes { ("good", "yes") } else { ("warn", "NO") };
            write!(
                to,
                "<tr><td>{}</td><td class=\"{class}\">{word}</td><td>{}</td></tr>",
                text(&row.row),
                text(&row.note)
            )?;
        }
        writeln!(to, "</tbody></table></div>")
    }

    fn timeline(&self, to: &mut impl Write, left_out: &mut Vec<String>) -> io::Result<()> {
        let account = self.account;
        let end = account.hosts.values().flat_map(|host| &host.bars).map(|bar| f64::from(bar.to));
        let end = end.chain([account.took(), 0.001]).fold(0.0, f64::max);
        let x = |seconds: f64| (seconds / end * 10_000.0).clamp(0.0, 10_000.0);
        write!(
            to,
            "<p class=\"key\"><svg viewBox=\"0 0 9 9\"><rect class=\"o\" width=\"9\" height=\"9\"/></svg>ok <svg viewBox=\"0 0 9 9\"><rect class=\"c\" width=\"9\" height=\"9\"/></svg>changed <svg viewBox=\"0 0 9 9\"><rect class=\"s\" width=\"9\" height=\"9\"/></svg>skipped <svg viewBox=\"0 0 9 9\"><rect class=\"f\" width=\"9\" height=\"9\"/></svg>failed <svg viewBox=\"0 0 9 9\"><rect class=\"k\" width=\"9\" height=\"9\"/></svg>unknown. Point at a bar to see its step.</p>"
        )?;
        write!(to, "<div class=\"tl\"><span></span><div class=\"axis\">")?;
        for part in 0..5 {
            write!(to, "<span>{}</span>", text(&human_seconds(end * f64::from(part) / 4.0)))?;
        }
        write!(to, "</div>")?;
        if account.steps.len() <= 400 {
            write!(to, "<span class=\"soft\">steps</span><svg viewBox=\"0 0 10000 10\" preserveAspectRatio=\"none\">")?;
            for (number, step) in account.steps.iter().enumerate() {
                let (from, until) = (x(step.from), x(step.to.max(step.from)));
                write!(
                    to,
                    "<rect class=\"t{}\" x=\"{from:.0}\" width=\"{:.0}\" height=\"10\"><title>{} {} ({})</title></rect>",
                    number % 2,
                    (until - from).max(12.0),
                    step.number,
                    text(&step.name),
                    text(&human_seconds(step.to - step.from))
                )?;
            }
            write!(to, "</svg>")?;
        }
        // With many bars a title is the step's number and how long it took; the table has the names.
        let many_bars = account.bars + account.bad_bars > 2_000;
        for (name, host) in account.hosts.iter().filter(|(_, host)| !host.bars.is_empty()) {
            write!(
                to,
                "<span title=\"{}\">{}</span><svg viewBox=\"0 0 10000 10\" preserveAspectRatio=\"none\">",
                text(name),
                text(name)
            )?;
            for bar in &host.bars {
                let (from, until) = (x(f64::from(bar.from)), x(f64::from(bar.to)));
                let step = account.steps.get(bar.step);
                let word = OUTCOMES.get(place(bar.outcome)).copied().unwrap_or_default();
                let title = match step {
                    _ if bar.count > 1 => format!("{} steps", human_count(u64::from(bar.count))),
                    Some(step) if many_bars => format!("{}: {word}", step.number),
                    Some(step) => format!("{} {}: {word}", step.number, step.name),
                    None => word.to_owned(),
                };
                let took = human_seconds(f64::from(bar.to) - f64::from(bar.from));
                write!(
                    to,
                    "<rect class=\"{}\" x=\"{from:.0}\" width=\"{:.0}\" height=\"10\"><title>{}, {took}</title></rect>",
                    shade(bar.outcome),
                    (until - from).max(12.0),
                    text(&title)
                )?;
            }
            writeln!(to, "</svg>")?;
        }
        writeln!(to, "</div>")?;
        if account.merged > 0 {
            left_out.push(format!(
                "{} have no bar of their own in the timeline (journal.jsonl has each)",
                many(account.merged, "step of a host")
            ));
        }
        if account.more_hosts > 0 {
            left_out.push(format!("{} of hosts beyond the first {MOST_HOSTS}", many(account.more_hosts, "event")));
        }
        Ok(())
    }

    fn steps(&self, to: &mut impl Write, left_out: &mut Vec<String>) -> io::Result<()> {
        let steps = &self.account.steps;
        let mut chosen: Vec<&Step> = steps.iter().collect();
        if chosen.len() > MOST_STEP_ROWS {
            // Those with a failure first, then the slowest; shown in their order.
            chosen.sort_by(|a, b| {
                let bad = |step: &Step| step.outcomes.iter().skip(3).sum::<u64>() > 0;
                bad(b).cmp(&bad(a)).then((b.to - b.from).total_cmp(&(a.to - a.from)))
            });
            chosen.truncate(MOST_STEP_ROWS);
            chosen.sort_by_key(|step| step.number);
            let left = (steps.len() - chosen.len()) as u64;
            left_out.push(format!("{} that went well and quickly (journal.jsonl)", many(left, "step")));
            writeln!(
                to,
                "<p class=\"soft\">The {} of {} steps that failed somewhere or took longest.</p>",
                human_count(chosen.len() as u64),
                human_count(steps.len() as u64)
            )?;
        }
        write!(
            to,
            "<div class=\"scroll\"><table class=\"find\"><thead><tr><th class=\"n\">no.</th><th>step</th><th>how</th><th class=\"n\">took</th><th>slowest</th></tr></thead><tbody>"
        )?;
        for step in chosen {
            let bad = step.outcomes.iter().skip(3).sum::<u64>() > 0;
            let class = if bad {
                "bad"
            } else if step.ended > 0 {
                "good"
            } else {
                "warn"
            };
            let counts: Vec<String> = OUTCOMES
                .iter()
                .zip(step.outcomes)
                .filter(|(_, count)| *count > 0)
                .map(
                    |(word, count)| {
                        if step.ended == 1 { (*word).to_owned() } else { format!("{word} {}", human_count(count)) }
                    },
                )
                .collect();
            let how = if counts.is_empty() { "did not end".to_owned() } else { counts.join(", ") };
            let slowest = if step.ended > 1 {
                format!("{} ({})", step.slowest.1, human_seconds(step.slowest.0))
            } else {
                step.slowest.1.clone()
            };
            write!(
                to,
                "<tr><td class=\"n\">{}</td><td>{}</td><td class=\"{class}\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
                step.number,
                text(&step.name),
                text(&how),
                text(&human_seconds(step.to - step.from)),
                text(&slowest)
            )?;
        }
        writeln!(to, "</tbody></table></div>")
    }

    fn transfers(&self, to: &mut impl Write, left_out: &mut Vec<String>) -> io::Result<()> {
        let account = self.account;
        for (point, file, bytes, sha256, members) in &account.verified {
            writeln!(
                to,
                "<p class=\"good\"><b>{} is whole</b>: {}, {}, point {}, sha256 <code>{}</code></p>",
                text(file),
                text(&human_bytes(*bytes)),
                many(*members, "member"),
                text(point),
                text(sha256)
            )?;
        }
        for series in &account.series {
            let rates = series.rates();
            let total = series.total.unwrap_or(series.last.1);
            let seconds = series.seconds();
            let mean = if seconds > 0.0 {
                let first = series.points.first().map_or(0, |first| first.1);
                format!(", {} on average", human_rate(series.last.1.saturating_sub(first) as f64 / seconds))
            } else {
                String::new()
            };
            let host = if series.host.is_empty() { String::new() } else { format!("{}: ", series.host) };
            let amount = match series.unit.as_str() {
                "bytes" => format!("{} of {}", human_bytes(series.last.1), human_bytes(total)),
                unit => format!("{} of {} {unit}", human_count(series.last.1), human_count(total)),
            };
            writeln!(
                to,
                "<h3>{}</h3><p class=\"soft\">{} in {}{}</p>",
                text(&format!("{host}{}", series.what)),
                text(&amount),
                text(&human_seconds(seconds)),
                text(&mean)
            )?;
            if rates.len() < 2 {
                continue;
            }
            let (first, last) = (series.points.first().map_or(0.0, |first| first.0), series.last.0);
            let top = rates.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
            let spot = |(at, rate): &(f64, f64)| {
                format!("{:.1},{:.1}", (at - first) / (last - first).max(0.001) * 1000.0, 196.0 - rate / top * 180.0)
            };
            let line: Vec<String> = rates.iter().map(spot).collect();
            write!(
                to,
                "<div class=\"chart\"><span class=\"top\">{} at most</span><svg viewBox=\"0 0 1000 200\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"rate over time\"><line x1=\"0\" y1=\"106\" x2=\"1000\" y2=\"106\"/>",
                text(&human_rate(top))
            )?;
            let (left, right) = (
                line.first().and_then(|spot| spot.split(',').next()).unwrap_or("0"),
                line.last().and_then(|spot| spot.split(',').next()).unwrap_or("1000"),
            );
            write!(
                to,
                "<polygon points=\"{left},200 {0} {right},200\"/><polyline points=\"{0}\"/></svg><div class=\"axis\"><span>{1}</span><span>{2}</span></div></div>",
                line.join(" "),
                text(&human_seconds(first)),
                text(&human_seconds(last))
            )?;
            writeln!(to)?;
        }
        if account.more_series > 0 {
            left_out.push(format!("{} of further transfers (journal.jsonl)", many(account.more_series, "count")));
        }
        Ok(())
    }

    fn hosts(&self, to: &mut impl Write, left_out: &mut Vec<String>) -> io::Result<()> {
        let most = 500;
        write!(
            to,
            "<div class=\"scroll\"><table class=\"find\"><thead><tr><th>host or cluster</th><th class=\"n\">ok</th><th class=\"n\">changed</th><th class=\"n\">skipped</th><th class=\"n\">failed</th><th class=\"n\">unreachable</th><th class=\"n\">unknown</th><th class=\"n\">worked</th></tr></thead><tbody>"
        )?;
        let mut hosts: Vec<(&String, &Host)> = self.account.hosts.iter().collect();
        let bad = |host: &Host| host.outcomes.iter().skip(3).sum::<u64>();
        if hosts.len() > most {
            hosts.sort_by_key(|(_, host)| std::cmp::Reverse(bad(host)));
            left_out.push(format!(
                "{} without failures (journal.jsonl)",
                many((hosts.len() - most) as u64, "row of a host")
            ));
            hosts.truncate(most);
        }
        for (name, host) in hosts {
            write!(to, "<tr><td>{}</td>", text(name))?;
            for (number, count) in host.outcomes.iter().enumerate() {
                let class = if number > 2 && *count > 0 { "n bad" } else { "n" };
                let shown = if *count == 0 { String::new() } else { human_count(*count) };
                write!(to, "<td class=\"{class}\">{shown}</td>")?;
            }
            write!(to, "<td class=\"n\">{}</td></tr>", text(&human_seconds(host.seconds)))?;
        }
        writeln!(to, "</tbody></table></div>")
    }

    fn jobs(&self, to: &mut impl Write, left_out: &mut Vec<String>) -> io::Result<()> {
        write!(
            to,
            "<div class=\"scroll\"><table class=\"find\"><thead><tr><th>job</th><th>host</th><th>kind</th><th>state</th><th>removed from the node</th></tr></thead><tbody>"
        )?;
        for job in &self.account.jobs {
            let cleaned = if job.cleaned { "yes" } else { "no" };
            write!(
                to,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td>{cleaned}</td></tr>",
                text(&job.job),
                text(&job.host),
                text(&job.kind),
                text(&job.state)
            )?;
        }
        writeln!(to, "</tbody></table></div>")?;
        for (question, answer, by) in &self.account.answers {
            writeln!(
                to,
                "<p>Asked: {}<br>Answered: <b>{}</b> <span class=\"soft\">({})</span></p>",
                text(&short(question)),
                text(&short(answer)),
                text(by)
            )?;
        }
        if self.account.more_jobs > 0 {
            left_out.push(many(self.account.more_jobs, "more job"));
        }
        Ok(())
    }

    fn remarks(&self, to: &mut impl Write, left_out: &mut Vec<String>) -> io::Result<()> {
        write!(
            to,
            "<div class=\"scroll\"><table class=\"find\"><thead><tr><th class=\"n\">after</th><th></th><th>host</th><th>what</th></tr></thead><tbody>"
        )?;
        for remark in &self.account.remarks {
            let (class, word) = if remark.warning { ("warn w", "warning") } else { ("w soft", "note") };
            write!(
                to,
                "<tr><td class=\"n\">{}</td><td class=\"{class}\">{word}</td><td>{}</td><td>{}</td></tr>",
                text(&human_seconds(remark.at)),
                text(&remark.host),
                text(&remark.text)
            )?;
        }
        writeln!(to, "</tbody></table></div>")?;
        if self.account.more_remarks > 0 {
            left_out.push(format!(
                "{} (ferry runs show {})",
                many(self.account.more_remarks, "more note"),
                self.account.id
            ));
        }
        Ok(())
    }

    /// The commands as run: what ferry itself was called with, what the manifest keeps, and what each job began with.
    fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        if !self.account.command.is_empty() {
            let words = self
                .account
                .command
                .iter()
                .map(|word| shlex::try_quote(word).map_or_else(|_| word.clone(), std::borrow::Cow::into_owned));
            commands.push(words.collect::<Vec<_>>().join(" "));
        }
        commands.extend(self.extra.commands.iter().cloned());
        for (name, host) in &self.account.hosts {
            for at in &host.jobs_at {
                let Ok(lines) = journal::log_lines(self.dir, name, *at, at + (4 << 10)) else { continue };
                let typed = lines.iter().filter_map(|line| line.text.strip_prefix("+ "));
                commands.extend(typed.take(20).map(|command| format!("{name}: {command}")));
            }
        }
        let mut seen = std::collections::HashSet::new();
        commands.retain(|command| seen.insert(command.clone()));
        commands.truncate(MOST_COMMANDS);
        commands
    }

    fn logs<W: Write>(
        &self,
        to: &mut Counted<W>,
        logs: &[(&String, &Host)],
        left_out: &mut Vec<String>,
    ) -> io::Result<()> {
        writeln!(
            to,
            "<section id=\"logs\"><h2>Logs</h2><p class=\"soft\">What each host said: secrets masked, control characters written out. Search looks at what is shown here; the whole logs are in the run's folder.</p>"
        )?;
        let budget = MOST_LOGS.min(LARGEST.saturating_sub(to.written + 200_000));
        // What each may take: those that need little leave theirs to the others; those with failures get four parts.
        let mut wants: Vec<(usize, u64, u64)> = Vec::new();
        for (number, (name, host)) in logs.iter().enumerate() {
            let size = std::fs::metadata(journal::log_path(self.dir, name)).map_or(0, |meta| meta.len());
            let weight = if host.failed_at.is_empty() { 1 } else { 4 };
            wants.push((number, size, weight));
        }
        wants.sort_by_key(|(_, size, weight)| size / weight);
        let mut shares = vec![0; logs.len()];
        let (mut left, mut weights) = (budget, wants.iter().map(|(_, _, weight)| *weight).sum::<u64>());
        for (number, size, weight) in &wants {
            // Escapes make text longer: a tenth more is reckoned with, and each log is held to its share as it is written.
            let share = (left * weight / weights.max(1)).min(size + size / 10 + 1024);
            if let Some(place) = shares.get_mut(*number) {
                *place = share;
            }
            left -= share.min(left);
            weights -= weight;
        }
        let (mut missing, mut cut) = (0_u64, 0_u64);
        for ((name, host), share) in logs.iter().zip(&shares) {
            let path = journal::log_path(self.dir, name);
            let size = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            let shown = self.excerpt(&path, size, *share, host)?;
            let remark = if shown.left > 0 {
                (missing, cut) = (missing + shown.left, cut + 1);
                format!("{} of {} shown", human_bytes(size.saturating_sub(shown.left)), human_bytes(size))
            } else {
                human_bytes(size)
            };
            let class = if host.failed_at.is_empty() { "" } else { "bad" };
            writeln!(
                to,
                "<details class=\"log\"><summary><b class=\"{class}\">{}</b> <small>{}</small></summary><pre>{}</pre></details>",
                text(name),
                text(&remark),
                shown.html
            )?;
        }
        if missing > 0 {
            left_out.push(format!(
                "{} of the logs of {} ({})",
                human_bytes(missing),
                many(cut, "host"),
                self.dir.join(journal::HOSTS).display()
            ));
        }
        writeln!(to, "</section>")
    }

    /// Parts of a log that fit into `share` bytes as written: its beginning, what surrounds each failure, its end.
    fn excerpt(&self, path: &Path, size: u64, share: u64, host: &Host) -> io::Result<Shown> {
        let mut parts: Vec<(u64, u64)> = Vec::new();
        if size <= share {
            parts.push((0, size));
        } else {
            let around = if host.failed_at.is_empty() { 0 } else { share / 2 };
            let each = around / (host.failed_at.len().max(1) as u64);
            for at in &host.failed_at {
                let (before, after) = (BEFORE.min(each * 3 / 4), AFTER.min(each / 4));
                parts.push((at.saturating_sub(before), (at + after).min(size)));
            }
            let rest = share - around;
            parts.push((0, rest / 4));
            parts.push((size.saturating_sub(rest * 3 / 4), size));
        }
        parts.retain(|(from, to)| from < to);
        parts.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (from, to) in parts {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        let Ok(mut file) = File::open(path) else {
            return Ok(Shown { html: "<span class=\"gap\">the log cannot be read</span>".to_owned(), left: size });
        };
        let mut shown = Shown { html: String::new(), left: 0 };
        let (mut at, mut taken) = (0, 0_u64);
        for (from, to) in joined {
            let mut bytes = Vec::new();
            // From the beginning of a line on, and to the end of one.
            let early = from.saturating_sub(1);
            file.seek(SeekFrom::Start(early))?;
            (&mut file).take(to - early).read_to_end(&mut bytes)?;
            let mut start = 0;
            if from > 0 {
                start = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |place| place + 1);
            }
            let mut stop = bytes.len();
            if to < size {
                stop = bytes.iter().rposition(|byte| *byte == b'\n').map_or(stop, |place| place + 1);
            }
            let begin = early + start as u64;
            let body = bytes.get(start..stop.max(start)).unwrap_or_default();
            // Markup that is written out takes more room than it had: then the beginning keeps its beginning, and every
            // other part its end, which is nearer to what matters.
            let whole = (from, to) == (0, size);
            let mut room = usize::try_from(if whole { share } else { to - from }).unwrap_or(usize::MAX) + 256;
            let mut lines: Vec<&[u8]> = body.split_inclusive(|byte| *byte == b'\n').collect();
            if from > 0 {
                lines.reverse();
            }
            let mut written = Vec::new();
            let mut used = 0;
            for line in lines {
                let mut html = String::new();
                log_line(&mut html, line);
                if html.len() > room {
                    break;
                }
                room -= html.len();
                used += line.len() as u64;
                written.push(html);
            }
            let mut place = begin;
            if from > 0 {
                written.reverse();
                place = begin + body.len() as u64 - used;
            }
            if place > at && used > 0 {
                gap(&mut shown.html, place - at);
            }
            shown.html.push_str(&written.concat());
            if used > 0 {
                at = place + used;
            }
            taken += used;
        }
        if at < size {
            gap(&mut shown.html, size - at);
        }
        shown.left = size.saturating_sub(taken);
        Ok(shown)
    }
}

struct Shown {
    html: String,
    left: u64,
}

fn gap(html: &mut String, bytes: u64) {
    html.push_str(&format!("<span class=\"gap\">… {} left out here …</span>", human_bytes(bytes)));
}

/// Adds one line of a log, cut where it is too long.
fn log_line(html: &mut String, line: &[u8]) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let head = line.get(..LONGEST_LINE.min(line.len())).unwrap_or_default();
    escape_into(html, &clean(head));
    if line.len() > LONGEST_LINE {
        html.push_str(&format!(" … {} more", human_bytes((line.len() - LONGEST_LINE) as u64)));
    }
    html.push('\n');
}
