//! The window in Ansible's form: PLAY, TASK, RECAP, a line a host, results as JSON.
//!
//! What lives here: the lines that scripts around `ansible-playbook` and `ansible` look for, and their order. Warnings and errors go to
//! standard error. What does not: the form of ferry's own windows (`render`).

use std::collections::{BTreeSet, HashMap};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Sink;
use crate::event::{Event, Outcome, Seen, Window};
use crate::failure::Failure;
use crate::settings::ansible_cfg;

/// What was typed: a playbook, or one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As `ansible-playbook` speaks.
    Playbook,
    /// As `ansible` speaks.
    AdHoc,
    /// As `ansible -o` speaks.
    OneLine,
}

/// Columns of a banner where there is no terminal.
const COLUMNS: usize = 79;

/// Shows events on standard output and standard error, on a thread of its own. `playbooks` are files with how many plays each has:
/// told with `-vv`.
///
/// # Errors
/// The system gives no further thread.
pub fn spawn(
    window: Window,
    form: Form,
    verbosity: u8,
    playbooks: Vec<(String, usize)>,
) -> std::io::Result<JoinHandle<()>> {
    let no = |name: &str| ansible_cfg::in_force(name).is_some_and(|value| ansible_cfg::truth(&value) == Some(false));
    let hides = (no("defaults.display_ok_hosts"), no("defaults.display_skipped_hosts"));
    std::thread::Builder::new().name("ansible".to_owned()).spawn(move || {
        let mut shown = Shown {
            form,
            verbosity,
            out: Sink::stdout(),
            err: Sink::stderr(),
            check: false,
            told: BTreeSet::new(),
            hides,
            statistics: String::new(),
            title: None,
            under: None,
            words: HashMap::new(),
        };
        if verbosity > 1 {
            for (file, plays) in &playbooks {
                let name = file.rsplit('/').next().unwrap_or(file);
                shown.out.put(&banner(&format!("PLAYBOOK: {name}")));
                shown.out.put(&format!("{plays} plays in {file}\n"));
            }
        }
        loop {
            match window.next(Duration::from_secs(3600)) {
                Seen::Event(event) => shown.event(&event.event),
                Seen::Skipped(_) | Seen::Quiet => {}
                Seen::End => return,
            }
        }
    })
}

struct Shown {
    form: Form,
    verbosity: u8,
    out: Sink,
    err: Sink,
    check: bool,
    /// Hosts of which a failure was shown with its task: it comes once more by itself.
    told: BTreeSet<String>,
    /// Whether lines of hosts on which nothing changed, and of those that were skipped, are left out.
    hides: (bool, bool),
    /// What is shown behind the recap (`show_custom_stats`).
    statistics: String,
    /// The title of a task of which nothing was shown yet.
    title: Option<String>,
    /// The task whose title was shown last.
    under: Option<(usize, String)>,
    /// The titles of this play's tasks that hosts may come back to: where each goes on by itself, they are in different ones.
    words: HashMap<(usize, String), String>,
}

/// A title and the stars behind it.
fn banner(title: &str) -> String {
    let width = title.chars().count();
    format!("\n{title} {}\n", "*".repeat(COLUMNS.saturating_sub(width).max(3)))
}

/// JSON as Python writes it with an indent of one, without the line feeds.
fn on_one_line(counts: &Map<String, Value>) -> String {
    let text = dump(counts, true);
    text.lines()
        .map(|line| {
            let bare = line.trim_start();
            format!("{}{bare}", " ".repeat((line.len() - bare.len()) / 4))
        })
        .collect()
}

/// JSON as Python writes it, keys sorted; with `indent` one value a line.
pub fn dump(result: &Map<String, Value>, indent: bool) -> String {
    let mut map = Map::new();
    let mut names: Vec<&String> = result
        .keys()
        // How it came out stands before the result.
        .filter(|name| {
            !name.starts_with("_ansible_")
                && !["failed", "skipped", "exception", "warnings", "deprecations"].contains(&name.as_str())
        })
        .collect();
    names.sort();
    for name in names {
        if let Some(value) = result.get(name) {
            map.insert(name.clone(), value.clone());
        }
    }
    let mut out = String::new();
    write_map(&map, indent.then_some(0), &mut out, true);
    out
}

fn write_value(value: &Value, depth: Option<usize>, out: &mut String) {
    match value {
        Value::Object(map) => write_map(map, depth, out, false),
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                separate(at, depth, out);
                write_value(item, depth.map(|depth| depth + 1), out);
            }
            close(depth, out);
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn write_map(map: &Map<String, Value>, depth: Option<usize>, out: &mut String, as_is: bool) {
    if map.is_empty() {
        out.push_str("{}");
        return;
    }
    out.push('{');
    let mut entries: Vec<(&String, &Value)> = map.iter().collect();
    if !as_is {
        entries.sort_by(|one, other| one.0.cmp(other.0));
    }
    for (at, (name, value)) in entries.into_iter().enumerate() {
        separate(at, depth, out);
        out.push_str(&Value::from(name.as_str()).to_string());
        out.push_str(": ");
        write_value(value, depth.map(|depth| depth + 1), out);
    }
    close(depth, out);
    out.push('}');
}

fn separate(at: usize, depth: Option<usize>, out: &mut String) {
    match depth {
        Some(depth) => {
            if at > 0 {
                out.push(',');
            }
            out.push('\n');
            out.push_str(&"    ".repeat(depth + 1));
        }
        None if at > 0 => out.push_str(", "),
        None => {}
    }
}

fn close(depth: Option<usize>, out: &mut String) {
    if let Some(depth) = depth {
        out.push('\n');
        out.push_str(&"    ".repeat(depth));
    }
}

impl Shown {
    fn put(&mut self, text: &str) {
        if let Some(title) = self.title.take() {
            self.out.put(&title);
        }
        self.out.put(text);
    }

    /// Whether lines about hosts of that outcome are left out (`display_ok_hosts`, `display_skipped_hosts`).
    fn hidden(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Ok => self.hides.0,
            Outcome::Skipped => self.hides.1,
            _ => false,
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::PlayStarted { play, .. } if self.form == Form::Playbook => {
                self.title = None;
                self.under = None;
                self.words.clear();
                let title = if play.is_empty() { "PLAY".to_owned() } else { format!("PLAY [{play}]") };
                self.put(&banner(&title));
            }
            Event::NoHosts { .. } if self.form == Form::Playbook => self.put("skipping: no hosts matched\n"),
            Event::NoHostsLeft if self.form == Form::Playbook => self.put(&banner("NO MORE HOSTS LEFT")),
            Event::TaskStarted { task, handler, number, .. } if self.form == Form::Playbook => {
                let word = if *handler { "RUNNING HANDLER" } else { "TASK" };
                let title = banner(&format!("{word} [{task}]"));
                let key = (*number, task.clone());
                if *number > 0 && !handler && self.under.as_ref() == Some(&key) && self.words.contains_key(&key) {
                    return;
                }
                self.words.insert(key.clone(), title.clone());
                self.under = Some(key);
                if self.hides == (false, false) {
                    self.put(&title);
                } else {
                    // Shown with the first line of it that is.
                    self.title = Some(title);
                }
            }
            Event::ItemEnded { task, host, item, outcome, result, .. } if self.form == Form::Playbook => {
                self.back_to(None, task, *outcome);
                let Value::Object(result) = result else { return };
                self.line(host, Some(item), *outcome, result);
            }
            Event::TaskEnded { task, number, host, outcome, ignored, result, message, .. } => {
                self.back_to(Some(*number), task, *outcome);
                let nothing = Map::new();
                let result = result.as_object().unwrap_or(&nothing);
                match self.form {
                    Form::Playbook => {
                        if !ignored && matches!(outcome, Outcome::Failed | Outcome::Unknown | Outcome::Unreachable) {
                            self.told.insert(host.clone());
                        }
                        self.task(host, *outcome, *ignored, result);
                    }
                    form => {
                        let text = ad_hoc(host, *outcome, result, message, form == Form::OneLine);
                        self.put(&text);
                    }
                }
            }
            Event::Retrying { host, task, left, result, .. } if self.form == Form::Playbook => {
                let mut text = format!("FAILED - RETRYING: [{host}]: {task} ({left} retries left).");
                if self.verbosity > 2
                    && let Value::Object(result) = result
                {
                    text.push_str(&format!("Result was: {}", dump(result, true)));
                }
                self.put(&format!("{text}\n"));
            }
            Event::Polled { host, job, finished, failed } if self.form == Form::Playbook => {
                let text = match (finished, failed) {
                    (false, _) => format!("ASYNC POLL on {host}: jid={job} started=1 finished=0\n"),
                    (true, false) => format!("ASYNC OK on {host}: jid={job}\n"),
                    (true, true) => format!("ASYNC FAILED on {host}: jid={job}\n"),
                };
                self.put(&text);
            }
            Event::Included { what, label, hosts } if self.form == Form::Playbook => {
                let label = label.as_ref().map(|label| format!(" => (item={label})")).unwrap_or_default();
                self.put(&format!("included: {what} for {}{label}\n", hosts.join(", ")));
            }
            Event::Note { host: None, text } if self.verbosity > 1 && text.starts_with("META: ") => {
                self.put(&format!("{text}\n"));
            }
            // A failure that a rescue takes up is on standard output already.
            Event::Warning { text, .. } if text.starts_with("rescued: ") => {}
            // What is no warning but a word of Ansible's own has its head already.
            Event::Warning { host: None, text } if text.starts_with("[DEPRECATION WARNING]: ") => {
                self.err.put(&format!("{text}\n"));
            }
            Event::Warning { host, text } => {
                let host = host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
                self.err.put(&format!("[WARNING]: {host}{text}\n"));
            }
            Event::Failed { failure }
                if failure.more.is_empty() && failure.host.as_ref().is_some_and(|host| self.told.remove(host)) => {}
            Event::Failed { failure } => {
                let all = std::iter::once(failure).chain(&failure.more);
                let text: String = all.map(error_text).collect();
                if self.form == Form::Playbook {
                    self.err.put(&text);
                }
            }
            Event::Statistics { hosts, run } if ansible_cfg::says("defaults.show_custom_stats") => {
                let mut text = banner("CUSTOM STATS:");
                for (host, counts) in hosts {
                    text.push_str(&format!("\t{host}: {}\n", on_one_line(counts)));
                }
                if !run.is_empty() {
                    text.push_str(&format!("\n\tRUN: {}\n", on_one_line(run)));
                }
                self.statistics = text;
            }
            Event::RunEnded { recap, .. } if self.form == Form::Playbook && !self.check => {
                self.title = None;
                self.put(&banner("PLAY RECAP"));
                let mut lines = String::new();
                // Who had nothing to do is not in it.
                for (host, counts) in recap.iter().filter(|(_, counts)| counts.values().any(|count| *count > 0)) {
                    let of = |word: &str| counts.get(word).copied().unwrap_or(0);
                    lines.push_str(&format!(
                        "{host:<26} : ok={:<4} changed={:<4} unreachable={:<4} failed={:<4} skipped={:<4} rescued={:<4} ignored={:<4}\n",
                        of("ok") + of("changed") + of("ignored"),
                        of("changed") + of("ignored_changed"),
                        of("unreachable"),
                        of("failed"),
                        of("skipped"),
                        of("rescued"),
                        of("ignored"),
                    ));
                }
                self.put(&format!("{lines}\n"));
                if !self.statistics.is_empty() {
                    let text = format!("{}\n", std::mem::take(&mut self.statistics));
                    self.put(&text);
                }
            }
            _ => {}
        }
    }

    /// The title once more, where the last one was of another task that another host is in.
    fn back_to(&mut self, number: Option<usize>, task: &str, outcome: Outcome) {
        let Some(under) = &self.under else { return };
        if self.form != Form::Playbook || self.hidden(outcome) || under.1 == task {
            return;
        }
        let key = self.words.keys().find(|key| key.1 == task && number.is_none_or(|number| key.0 == number)).cloned();
        if let Some(key) = key
            && let Some(title) = self.words.get(&key).cloned()
        {
            self.title = None;
            self.put(&title);
            self.under = Some(key);
        }
    }

    /// A task without a loop, or the end of one with a loop.
    fn task(&mut self, host: &str, outcome: Outcome, ignored: bool, result: &Map<String, Value>) {
        if result.contains_key("_ansible_loop") {
            if self.hidden(outcome) {
                return;
            }
            if outcome == Outcome::Skipped {
                let text = format!("skipping: [{host}]{}\n", self.more(result));
                self.put(&text);
            } else if ignored {
                self.put("...ignoring\n");
            }
            return;
        }
        self.line(host, None, outcome, result);
        if ignored {
            self.put("...ignoring\n");
        }
    }

    /// ` => {…}` where results are shown.
    fn more(&self, result: &Map<String, Value>) -> String {
        let always = result.contains_key("_ansible_verbose_always");
        if !always && self.verbosity == 0 {
            return String::new();
        }
        let mut shown = result.clone();
        if always && result.contains_key("_ansible_debug") {
            if shown.contains_key("msg") {
                shown.retain(|name, _| name == "msg");
            } else {
                for name in ["changed", "failed", "skipped", "ansible_loop_var"] {
                    shown.remove(name);
                }
            }
        }
        if self.verbosity < 3 {
            shown.remove("diff");
        } else if let Some(given) = shown.remove("_ansible_invocation") {
            shown.insert("invocation".to_owned(), given);
        }
        format!(" => {}", dump(&shown, always || self.verbosity > 2))
    }

    fn line(&mut self, host: &str, item: Option<&str>, outcome: Outcome, result: &Map<String, Value>) {
        if self.hidden(outcome) {
            return;
        }
        let who = match result.get("_ansible_delegated").and_then(Value::as_str) {
            Some(on) if on != host => format!("{host} -> {on}"),
            _ => host.to_owned(),
        };
        let label = item.map(|item| format!(" => (item={item})")).unwrap_or_default();
        self.diff(result);
        let text = match outcome {
            Outcome::Ok => format!("ok: [{who}]{label}{}\n", self.more(result)),
            Outcome::Changed => format!("changed: [{who}]{label}{}\n", self.more(result)),
            Outcome::Skipped => {
                let gap = if item.is_some() { " " } else { "" };
                format!("skipping: [{who}]{label}{gap}{}\n", self.more(result))
            }
            Outcome::Unreachable => {
                self.error(result);
                format!("fatal: [{who}]: UNREACHABLE! => {}\n", dump(result, false))
            }
            Outcome::Failed | Outcome::Unknown => {
                self.error(result);
                let always = result.contains_key("_ansible_verbose_always") && !result.contains_key("_ansible_debug");
                let json = dump(result, always || self.verbosity > 2);
                match item {
                    Some(item) => format!("failed: [{who}] (item={item}) => {json}\n"),
                    None => format!("fatal: [{who}]: FAILED! => {json}\n"),
                }
            }
        };
        self.put(&text);
    }

    /// What went wrong and where the task is written: before the result, on standard output, as Ansible 2.19 has it.
    fn error(&mut self, result: &Map<String, Value>) {
        let Some(message) = result.get("msg") else { return };
        let text = |name: &str| result.get(name).and_then(Value::as_str);
        let said = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
        let by = text("_ansible_said_by").map(|by| format!("{by} failed: ")).unwrap_or_default();
        self.put(&format!("[ERROR]: Task failed: {by}{said}\n"));
        if let Some(origin) = text("_ansible_origin") {
            self.put(&format!("{origin}\n"));
        }
    }

    fn diff(&mut self, result: &Map<String, Value>) {
        let Some(diff) = result.get("diff") else { return };
        let all = match diff {
            Value::Array(items) => items.clone(),
            one => vec![one.clone()],
        };
        for one in &all {
            let text = difference(one);
            if !text.is_empty() {
                self.put(&format!("{text}\n"));
            }
        }
    }
}

fn error_text(failure: &Failure) -> String {
    let mut text = format!("[ERROR]: {}", failure.what);
    if let Some(seen) = &failure.seen {
        text.push_str(&format!(": {seen}"));
    }
    text.push('\n');
    if let Some(place) = &failure.place {
        text.push_str(&format!("Origin: {place}\n"));
        if let Some(snippet) = &failure.snippet {
            text.push_str(&format!("\n{snippet}\n"));
        }
    }
    for more in failure.why.iter().chain(&failure.mend) {
        text.push_str(&format!("  {more}\n"));
    }
    text.push('\n');
    text
}

/// Tells a failure before there is a run, in Ansible's form.
pub fn print_failure(failure: &Failure) {
    let all = std::iter::once(failure).chain(&failure.more);
    Sink::stderr().put(&all.map(error_text).collect::<String>());
}

/// One host's result as `ansible` shows it.
fn ad_hoc(host: &str, outcome: Outcome, result: &Map<String, Value>, message: &str, one_line: bool) -> String {
    let word = match outcome {
        Outcome::Changed => "CHANGED",
        Outcome::Ok => "SUCCESS",
        Outcome::Skipped => return format!("{host} | SKIPPED\n"),
        Outcome::Unreachable => {
            return format!("{host} | UNREACHABLE! => {}\n", dump(result, !one_line));
        }
        Outcome::Failed | Outcome::Unknown => "FAILED",
    };
    let text = |name: &str| result.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_command = result.contains_key("rc") && result.contains_key("stdout");
    if is_command {
        let rc = result.get("rc").map(ToString::to_string).unwrap_or_default();
        if one_line {
            let out = text("stdout").replace('\n', "\\n");
            return match text("stderr") {
                "" => format!("{host} | {word} | rc={rc} | (stdout) {out}\n"),
                err => format!("{host} | {word} | rc={rc} | (stdout) {out} (stderr) {}\n", err.replace('\n', "\\n")),
            };
        }
        let mut lines = format!("{host} | {word} | rc={rc} >>\n");
        for part in [text("stdout"), text("stderr")] {
            if !part.is_empty() {
                lines.push_str(part);
                lines.push('\n');
            }
        }
        if word == "FAILED" {
            lines.push_str(text("msg"));
            lines.push('\n');
        }
        return lines;
    }
    let mut shown = result.clone();
    shown.remove("failed");
    if result.contains_key("_ansible_debug") {
        shown.remove("changed");
    }
    if word == "FAILED" {
        let _ = message;
        return format!("{host} | FAILED! => {}\n", dump(&shown, !one_line));
    }
    format!("{host} | {word} => {}\n", dump(&shown, !one_line))
}

/// A difference in unified form.
pub fn difference(diff: &Value) -> String {
    let text = |name: &str| match diff.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Null) | None => None,
        Some(Value::Object(map)) => Some(format!("{}\n", dump(map, true))),
        Some(other) => serde_json::to_string_pretty(other).ok().map(|text| format!("{text}\n")),
    };
    if let Some(prepared) = text("prepared") {
        return prepared;
    }
    let (before, after) = (text("before").unwrap_or_default(), text("after").unwrap_or_default());
    if before == after {
        return String::new();
    }
    let header =
        |name: &str, other: &str| text(name).map_or_else(|| other.to_owned(), |header| format!("{other}: {header}"));
    // A last line without its line feed is another line than one with it.
    let (before, after) = (with_its_end(&before), with_its_end(&after));
    let one: Vec<&str> = before.split_terminator('\0').collect();
    let two: Vec<&str> = after.split_terminator('\0').collect();
    let mut out = format!("--- {}\n+++ {}\n", header("before_header", "before"), header("after_header", "after"));
    let around = ansible_cfg::in_force("diff.context").and_then(|text| text.trim().parse().ok()).unwrap_or(3);
    for hunk in hunks(&one, &two, around) {
        out.push_str(&hunk);
    }
    out
}

/// The lines of `text`, each ended by a NUL; behind the last one stands that its line feed is missing where it is.
fn with_its_end(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    for line in text.split_inclusive('\n') {
        let bare = line.strip_suffix('\n').unwrap_or(line);
        out.extend(bare.chars().filter(|c| *c != '\0'));
        if bare.len() == line.len() {
            out.push_str("\n\\ No newline at end of file");
        }
        out.push('\0');
    }
    out
}

/// Hunks with `around` lines before and behind each change.
fn hunks(one: &[&str], two: &[&str], around: usize) -> Vec<String> {
    let around = around.min(1 << 20);
    // What is the same at both ends needs no table.
    let head = one.iter().zip(two).take_while(|(a, b)| a == b).count();
    let tail = one.iter().skip(head).rev().zip(two.iter().skip(head).rev()).take_while(|(a, b)| a == b).count();
    let (mid_one, mid_two) =
        (one.get(head..one.len() - tail).unwrap_or_default(), two.get(head..two.len() - tail).unwrap_or_default());
    // Each line with what became of it.
    let mut all: Vec<(char, &str)> = one.iter().take(head).map(|line| (' ', *line)).collect();
    if mid_one.len().saturating_mul(mid_two.len()) > 4_000_000 {
        all.extend(mid_one.iter().map(|line| ('-', *line)));
        all.extend(mid_two.iter().map(|line| ('+', *line)));
    } else {
        let width = mid_two.len() + 1;
        let mut table = vec![0_u32; (mid_one.len() + 1) * width];
        let at = |table: &[u32], i: usize, j: usize| table.get(i * width + j).copied().unwrap_or(0);
        for (i, a) in mid_one.iter().enumerate().rev() {
            for (j, b) in mid_two.iter().enumerate().rev() {
                let best =
                    if a == b { at(&table, i + 1, j + 1) + 1 } else { at(&table, i + 1, j).max(at(&table, i, j + 1)) };
                if let Some(slot) = table.get_mut(i * width + j) {
                    *slot = best;
                }
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < mid_one.len() || j < mid_two.len() {
            match (mid_one.get(i), mid_two.get(j)) {
                (Some(a), Some(b)) if a == b => {
                    all.push((' ', a));
                    i += 1;
                    j += 1;
                }
                (Some(a), b) if b.is_none() || at(&table, i + 1, j) >= at(&table, i, j + 1) => {
                    all.push(('-', a));
                    i += 1;
                }
                (_, Some(b)) => {
                    all.push(('+', b));
                    j += 1;
                }
                _ => break,
            }
        }
    }
    all.extend(one.iter().skip(one.len() - tail).map(|line| (' ', *line)));
    let mut out = Vec::new();
    let (mut at, mut line_one, mut line_two) = (0, 1, 1);
    while at < all.len() {
        if all.get(at).is_some_and(|(sign, _)| *sign == ' ') {
            at += 1;
            line_one += 1;
            line_two += 1;
            continue;
        }
        let begin = at.saturating_sub(around);
        let back = at - begin;
        let (first_one, first_two) = (line_one - back, line_two - back);
        // A hunk ends where more lines are the same than stand around two changes.
        let (mut end, mut same) = (at, 0_usize);
        while end < all.len() && same <= 2 * around {
            same = if all.get(end).is_some_and(|(sign, _)| *sign == ' ') { same + 1 } else { 0 };
            end += 1;
        }
        let end = end - same.saturating_sub(around);
        let part = all.get(begin..end).unwrap_or_default();
        let count = |sign: char| part.iter().filter(|(seen, _)| *seen == ' ' || *seen == sign).count();
        let range = |first: usize, count: usize| match count {
            0 => format!("{},0", first.saturating_sub(1)),
            1 => first.to_string(),
            count => format!("{first},{count}"),
        };
        let mut hunk = format!("@@ -{} +{} @@\n", range(first_one, count('-')), range(first_two, count('+')));
        for (sign, line) in part {
            hunk.push(*sign);
            hunk.push_str(line);
            hunk.push('\n');
        }
        out.push(hunk);
        for (sign, _) in all.get(at..end).unwrap_or_default() {
            line_one += usize::from(*sign != '+');
            line_two += usize::from(*sign != '-');
        }
        at = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_are_written_as_python_writes_them() {
        let value = json!({"msg": "a\"b", "changed": true, "b": {"z": 1, "a": [1, 2, {}]}, "_ansible_x": 1});
        let map = value.as_object().cloned().unwrap_or_default();
        assert_eq!(dump(&map, false), r#"{"b": {"a": [1, 2, {}], "z": 1}, "changed": true, "msg": "a\"b"}"#);
        assert_eq!(
            dump(&map, true),
            "{\n    \"b\": {\n        \"a\": [\n            1,\n            2,\n            {}\n        ],\n        \"z\": 1\n    },\n    \"changed\": true,\n    \"msg\": \"a\\\"b\"\n}"
        );
    }

    #[test]
    fn differences_are_hunks() {
        let before: String = (1..=20).map(|line| format!("{line}\n")).collect();
        let after = before.replace("3\n4\n", "3\nnew\n").replace("18\n", "");
        let text = difference(&json!({"before": before, "after": after, "before_header": "/x"}));
        assert!(text.starts_with("--- before: /x\n+++ after\n@@ -1,7 +1,7 @@\n 1\n 2\n 3\n-4\n+new\n 5\n"), "{text}");
        assert!(text.ends_with("@@ -15,6 +15,5 @@\n 15\n 16\n 17\n-18\n 19\n 20\n"), "{text}");
        assert_eq!(difference(&json!({"before": "a", "after": "a"})), "");
        let text = difference(&json!({"before": "a\nb\n", "after": "a\nb"}));
        assert_eq!(text, "--- before\n+++ after\n@@ -1,2 +1,2 @@\n a\n-b\n+b\n\\ No newline at end of file\n");
        let text =
            difference(&json!({"before": {"path": "/x", "mode": "0644"}, "after": {"path": "/x", "mode": "0600"}}));
        assert_eq!(
            text,
            "--- before\n+++ after\n@@ -1,4 +1,4 @@\n {\n-    \"mode\": \"0644\",\n+    \"mode\": \"0600\",\n     \"path\": \"/x\"\n }\n"
        );
    }
}
