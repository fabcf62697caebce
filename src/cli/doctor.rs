//! `ferry doctor`: this machine and the way to every host: what will go wrong tonight.
//!
//! What lives here: what a finding is, the table of it all and the exit code. What does not: looking at this machine
//! (`here`), at the way to a host (`way`), and reading what an SSH server says of itself (`greeting`).
//!
//! It changes nothing anywhere: no folder is made, no host key is written down, nothing is started on a host but commands
//! that read. Each finding says what was seen, why it matters and the command that mends it.

mod greeting;
mod here;
mod way;

use std::collections::BTreeMap;

use futures::StreamExt as _;
use serde_json::{Value, json};

use super::args::DoctorArgs;
use super::open;
use crate::event::{Event, Finding, Severity, Stamped};
use crate::failure::{Failure, Kind};
use crate::report::Sink;
use crate::report::render::{Style, render};
use crate::report::{Table, stdout_width};

/// What was found, and what it leads to.
#[derive(Debug, Clone)]
pub(super) struct Found {
    finding: Finding,
    /// What a `Refuse` leads to.
    kind: Kind,
}

impl Found {
    fn new(gate: &str, severity: Severity, what: impl Into<String>) -> Self {
        let finding = Finding {
            gate: gate.to_owned(),
            severity,
            host: None,
            what: what.into(),
            why: String::new(),
            mend: String::new(),
        };
        Self { finding, kind: Kind::CouldNotStart }
    }

    fn pass(gate: &str, what: impl Into<String>) -> Self {
        Self::new(gate, Severity::Pass, what)
    }

    fn warn(gate: &str, what: impl Into<String>) -> Self {
        Self::new(gate, Severity::Warn, what)
    }

    /// It keeps a run from succeeding.
    fn wrong(gate: &str, kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, ..Self::new(gate, Severity::Refuse, what) }
    }

    fn why(mut self, why: impl Into<String>) -> Self {
        self.finding.why = why.into();
        self
    }

    fn mend(mut self, mend: impl Into<String>) -> Self {
        self.finding.mend = mend.into();
        self
    }

    /// A failure as findings: itself and those that came with it.
    fn of(gate: &str, failure: &Failure) -> Vec<Self> {
        let one = |failure: &Failure| {
            let seen = failure.seen.as_ref().map(|seen| format!(" ({seen})")).unwrap_or_default();
            let place = failure.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
            let mut found = Self::wrong(gate, failure.kind, format!("{place}{}{seen}", failure.what));
            found.finding.why = failure.why.clone().unwrap_or_default();
            found.finding.mend = failure.mend.clone().unwrap_or_default();
            if let (true, true, Some(place)) =
                (found.finding.why.is_empty(), found.finding.mend.is_empty(), &failure.place)
            {
                found.finding.mend = format!("edit {} at line {}", place.file, place.line);
            }
            found
        };
        std::iter::once(one(failure)).chain(failure.more.iter().map(one)).collect()
    }
}

/// What is known about one place: this machine or a host.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    found: Vec<Found>,
    /// What is worth knowing where all is well, in a few words each, in order.
    facts: Vec<(&'static str, String)>,
    /// By how many seconds a host's clock is ahead of ours.
    clock: Option<i64>,
}

impl Seen {
    fn worst(&self) -> Severity {
        self.found.iter().map(|found| found.finding.severity).max().unwrap_or(Severity::Pass)
    }

    fn word(&self) -> String {
        let count = |severity| self.found.iter().filter(|found| found.finding.severity == severity).count();
        match (count(Severity::Refuse), count(Severity::Warn)) {
            (0, 0) => "ok".to_owned(),
            (0, warn) => format!("{warn} to look at"),
            (wrong, 0) => format!("{wrong} wrong"),
            (wrong, warn) => format!("{wrong} wrong, {warn} to look at"),
        }
    }

    fn facts(&self) -> String {
        self.facts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(", ")
    }
}

pub(super) async fn run(args: DoctorArgs) -> Result<u8, Failure> {
    let mut here = here::look(&args.common);
    let mut hosts: Vec<(String, Seen)> = Vec::new();
    match open::open(&args.common, None) {
        Err(failure) => here.found.extend(Found::of("settings", &failure)),
        Ok(opened) => {
            for warning in opened.inventory.warnings() {
                here.found.push(Found::warn("inventory", warning.clone()));
            }
            let names = opened.select(&args.pattern, args.common.limit.as_deref())?;
            here.found.extend(here::enough_files(names.len()));
            let looker = way::Looker::new(&opened);
            let looker = &looker;
            hosts = futures::stream::iter(names)
                .map(|host| async move {
                    let seen = looker.look(&host).await;
                    (host, seen)
                })
                .buffered(opened.settings.forks.max(10))
                .collect()
                .await;
        }
    }
    here.found.extend(our_clock(&hosts));
    let masker = super::MASKER.get_or_init(crate::secret::Masker::new).clone();
    let events = crate::event::Events::new(masker, None, Vec::new());
    let mut worst: Option<Kind> = None;
    for found in here.found.iter().chain(hosts.iter().flat_map(|(_, seen)| &seen.found)) {
        if found.finding.severity == Severity::Refuse {
            worst = Some(worst.map_or(found.kind, |kind| kind.worse(found.kind)));
        }
    }
    let exit = worst.map_or(0, Kind::exit_code);
    let wash = |text: &str| events.washed_text(text);
    let wash_found = |found: &Found| Finding {
        what: wash(&found.finding.what),
        why: wash(&found.finding.why),
        mend: wash(&found.finding.mend),
        ..found.finding.clone()
    };
    if args.common.json(args.json) {
        let place = |seen: &Seen| {
            let facts: BTreeMap<&str, String> = seen.facts.iter().map(|(name, text)| (*name, wash(text))).collect();
            let found: Vec<Value> =
                seen.found.iter().map(|found| serde_json::to_value(wash_found(found)).unwrap_or(Value::Null)).collect();
            json!({"verdict": seen.worst(), "facts": facts, "findings": found})
        };
        let hosts: serde_json::Map<String, Value> =
            hosts.iter().map(|(host, seen)| (host.clone(), place(seen))).collect();
        let all = json!({"here": place(&here), "hosts": hosts, "exit": exit});
        Sink::stdout().put(&format!("{}\n", serde_json::to_string_pretty(&all).unwrap_or_default()));
        return Ok(exit);
    }
    let mut table = Table::new(["where", "", "what is there"]);
    table.row(["this machine".to_owned(), here.word(), wash(&here.facts())]);
    for (host, seen) in &hosts {
        table.row([host.clone(), seen.word(), wash(&seen.facts())]);
    }
    table.print();
    let mut lines = Vec::new();
    // What is wrong stands first, what is the same on many hosts once.
    let mut told: Vec<(Finding, Vec<String>)> = Vec::new();
    for found in here.found.iter().chain(hosts.iter().flat_map(|(_, seen)| &seen.found)) {
        if found.finding.severity == Severity::Pass && !args.all {
            continue;
        }
        let host = found.finding.host.clone();
        let finding = Finding { host: None, ..wash_found(found) };
        match told.iter_mut().find(|(known, hosts)| *known == finding && hosts.is_empty() == host.is_none()) {
            Some((_, hosts)) => hosts.extend(host),
            None => told.push((finding, host.into_iter().collect())),
        }
    }
    told.sort_by_key(|(finding, _)| std::cmp::Reverse(finding.severity));
    for (finding, hosts) in told {
        let host = Some(if hosts.is_empty() { "here".to_owned() } else { crate::report::exec::fold(&hosts) });
        let event = Event::Found { finding: Finding { host, ..finding } };
        let stamped = Stamped { at: jiff::Timestamp::now(), seq: 0, event };
        lines.push(String::new());
        lines.extend(render(&stamped, stdout_width(), Style::stdout()));
    }
    Sink::stdout().lines(&lines);
    Ok(exit)
}

/// Where all hosts are off by the same, it is this machine's clock that is wrong.
fn our_clock(hosts: &[(String, Seen)]) -> Option<Found> {
    let mut off: Vec<i64> = hosts.iter().filter_map(|(_, seen)| seen.clock).collect();
    off.sort_unstable();
    let (first, last) = (off.first()?, off.last()?);
    (off.len() > 1 && last - first <= 5 && first.abs() > way::CLOCK_OFF).then(|| {
        Found::warn("clock", format!("this machine's clock differs from those of all hosts by {first} s"))
            .why("names of runs and points, ages and the choice of the newest point rest on it")
            .mend("timedatectl status; chronyc tracking")
    })
}
