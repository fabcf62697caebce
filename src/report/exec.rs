//! The window of `ferry exec`: what hosts say on standard output, what became of them on standard error.
//!
//! What lives here: lines with their host before them while they come ([`Form::Stream`]), one line a host
//! ([`Form::OneLine`], as Ansible's `-o`), and hosts that said the same under one heading ([`Form::Gather`], as
//! `clush -b`), with [`fold`] for their names. What does not: running the command.
//!
//! Lines are taken and written in batches: a host that floods us costs a copy of what it says, no more. At a terminal a
//! screen that is too slow misses lines and is told how many; a file or a program that reads along gets every one.

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::figures::human_seconds;
use super::journal::HOSTS;
use super::render::{self, Style};
use super::{Output, Sink, json, plain, terminal};
use crate::event::{Event, Outcome, Seen, Stamped, Stream, Taken, Window};
use crate::failure::Kind;

/// How what hosts say is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Every line as it comes, its host before it.
    Stream,
    /// One line a host, when it has ended.
    OneLine,
    /// When all have ended, hosts that said the same under one heading.
    Gather,
    /// As the `ansible` command writes it, for `FERRY_COMPAT=ansible`: all that a host said, under one line, when it has
    /// ended; results of modules that run no command as JSON.
    Ansible,
    /// As `ansible -o`.
    AnsibleOneLine,
}

impl Form {
    fn is_ansible(self) -> bool {
        matches!(self, Self::Ansible | Self::AnsibleOneLine)
    }
}

/// What is written at once, in bytes.
const BATCH: usize = 64 << 10;
/// Lines wait so long for others to be written with them.
const NAP: Duration = Duration::from_millis(2);
/// So much of what hosts said is kept for the end, in bytes, all hosts together.
const MOST_GATHERED: usize = 24 << 20;

/// A window for `output` and the thread that shows it. `dir` is the run's folder: the hosts' logs are there.
///
/// # Errors
/// The system gives no further thread.
pub fn open(form: Form, output: Output, dir: &Path) -> std::io::Result<(Window, JoinHandle<()>)> {
    let streams = form == Form::Stream || output == Output::Json;
    let window = if streams && !std::io::stdout().is_terminal() { Window::patient() } else { Window::default() };
    let shown = match (output, form) {
        (Output::Json, _) => json::spawn(window.clone())?,
        (Output::Quiet, _) => terminal::spawn_quiet(window.clone())?,
        (Output::Plain, Form::Stream) => plain::spawn(window.clone(), None)?,
        (Output::Plain | Output::Human, _) => {
            let (window, dir) = (window.clone(), dir.to_owned());
            std::thread::Builder::new().name("exec".to_owned()).spawn(move || {
                let tidy = |style: Style| Style { colour: style.colour && output != Output::Plain, ..style };
                let styles = (tidy(Style::stdout()), tidy(Style::stderr()));
                // What goes to a file is as the host said it; a terminal may not know Unicode.
                let out = Style { unicode: styles.0.unicode || !std::io::stdout().is_terminal(), ..styles.0 };
                Show::new(form, (Sink::stdout(), Sink::stderr()), (out, styles.1), dir).fitting().run(&window);
            })?
        }
    };
    Ok((window, shown))
}

/// Hosts that said the same.
struct Group {
    hosts: Vec<String>,
    verdict: String,
    well: bool,
    out: String,
    err: String,
    /// Not all of it is here.
    cut: bool,
}

/// All that is shown.
pub struct Show {
    form: Form,
    out: Sink,
    err: Sink,
    styles: (Style, Style),
    dir: PathBuf,
    /// What will be written next: true for standard output.
    batch: Vec<(bool, String)>,
    size: usize,
    /// In the inventory's order.
    hosts: Vec<String>,
    groups: Vec<Group>,
    gathered: usize,
    counts: HashMap<&'static str, usize>,
    /// Hosts whose command ended with a code: it says all.
    told: Vec<String>,
    /// Rows end where the window does; else where the line does, as for a file.
    fits: bool,
}

/// `text` in rows of at most `width` columns, `indent` blanks before each; at least half of the width is text.
fn rows(text: &str, indent: usize, width: usize) -> Vec<String> {
    if width == usize::MAX {
        return vec![format!("{}{text}", " ".repeat(indent))];
    }
    let indent = indent.min(width / 2);
    render::wrap(text, width - indent).into_iter().map(|row| format!("{}{row}", " ".repeat(indent))).collect()
}

fn painted(style: Style, code: &str, text: &str) -> String {
    if style.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BOLD: &str = "1";
const DIM: &str = "2";

fn text_of<'a>(result: &'a Value, name: &str) -> &'a str {
    result.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// How a host's command ended, in words.
fn verdict(outcome: Outcome, message: &str, result: &Value) -> String {
    let word = match outcome {
        Outcome::Ok | Outcome::Changed => "ok",
        Outcome::Skipped => "not run",
        Outcome::Failed => "FAILED",
        Outcome::Unreachable => "UNREACHABLE",
        Outcome::Unknown => "UNKNOWN",
    };
    match result.get("rc").and_then(Value::as_i64).filter(|_| outcome != Outcome::Skipped) {
        Some(rc) if message.is_empty() || message == format!("exit code {rc}") => format!("exit code {rc}"),
        Some(rc) => format!("exit code {rc}: {message}"),
        None if message.is_empty() => word.to_owned(),
        None => format!("{word}: {message}"),
    }
}

impl Show {
    /// What hosts say goes to the first sink, the rest to the second, each in its style. `dir` is the run's folder.
    pub fn new(form: Form, sinks: (Sink, Sink), styles: (Style, Style), dir: PathBuf) -> Self {
        Self {
            form,
            out: sinks.0,
            err: sinks.1,
            styles,
            dir,
            batch: Vec::new(),
            size: 0,
            hosts: Vec::new(),
            groups: Vec::new(),
            gathered: 0,
            counts: HashMap::new(),
            told: Vec::new(),
            fits: false,
        }
    }

    /// What is longer than a terminal is wide is broken there at blanks, and hangs under its own text. What goes elsewhere,
    /// and forms of one line a host, are left as they are.
    #[must_use]
    pub fn fitting(mut self) -> Self {
        self.fits = matches!(self.form, Form::Stream | Form::Gather);
        self
    }

    /// Columns of standard output or standard error: asked anew each time, windows are resized.
    fn width(&self, of_out: bool) -> usize {
        let term = if of_out { console::Term::stdout() } else { console::Term::stderr() };
        if self.fits { super::columns(&term).max(render::NARROWEST) } else { usize::MAX }
    }

    /// Shows events until nothing more comes.
    pub fn run(mut self, window: &Window) {
        let mut last: Option<String> = None;
        let mut napped = false;
        loop {
            let waits = !self.batch.is_empty();
            let mut ended = false;
            match window.take(if waits { Duration::ZERO } else { Duration::from_secs(3600) }) {
                Taken::Lines(batch) if self.form == Form::Stream => {
                    self.lines(&batch.host, batch.stream, &batch.text);
                }
                Taken::Lines(_) => {}
                Taken::Seen(Seen::Event(event)) => match &event.event {
                    Event::RunEnded { .. } if self.form.is_ansible() => {}
                    Event::RunEnded { seconds, .. } => {
                        self.gather();
                        last = Some(self.summary(*seconds));
                    }
                    _ => self.event(&event),
                },
                Taken::Seen(Seen::Skipped(count)) => {
                    if self.form == Form::Stream {
                        let text = format!("({}: {})", render::skipped(count), self.dir.join(HOSTS).display());
                        self.tell(&text, YELLOW);
                    }
                }
                Taken::Seen(Seen::Quiet) => {
                    self.write();
                    napped = false;
                }
                Taken::Seen(Seen::End) => ended = true,
            }
            // Where lines come by the thousand, being woken for each batch costs more than showing it.
            if !self.batch.is_empty() && !napped && !ended {
                napped = true;
                std::thread::sleep(NAP);
            }
            if ended {
                if let Some(text) = last.take() {
                    self.tell(&text, DIM);
                }
                self.write();
                return;
            }
            if self.size > BATCH {
                self.write();
            }
        }
    }

    /// Text, its line ends in it, to be written behind what waits.
    fn put(&mut self, to_out: bool, text: String) {
        self.size += text.len();
        match self.batch.last_mut() {
            Some((same, waiting)) if *same == to_out => waiting.push_str(&text),
            _ => self.batch.push((to_out, text)),
        }
    }

    fn write(&mut self) {
        for (to_out, text) in self.batch.drain(..) {
            let sink = if to_out { &mut self.out } else { &mut self.err };
            sink.put(&text);
        }
        self.size = 0;
    }

    /// A line on standard error.
    fn tell(&mut self, text: &str, paint: &str) {
        let text = render::one_line(text, self.styles.1);
        for row in rows(&text, 0, self.width(false)) {
            let line = painted(self.styles.1, paint, &row);
            self.put(false, line + "\n");
        }
    }

    fn lines(&mut self, host: &str, stream: Stream, text: &str) {
        let to_out = stream != Stream::Err;
        let style = if to_out { self.styles.0 } else { self.styles.1 };
        let mark = if to_out { " | " } else { " ! " };
        let host = render::one_line(host, style);
        let lead = painted(style, DIM, &format!("{host}{mark}"));
        let (on, off) = if to_out || !style.colour { ("", "") } else { ("\x1b[33m", "\x1b[0m") };
        let as_it_is = text.is_ascii() || style.unicode;
        let (width, indent) = (self.width(to_out), render::text_width(&host) + mark.len());
        let mut buffer = String::with_capacity(text.len() * 2);
        for line in text.split_inclusive('\n') {
            let line = line.strip_suffix('\n').unwrap_or(line);
            if width != usize::MAX && indent + render::text_width(line) > width {
                let line = render::one_line(line, style);
                // Where the host's name leaves no room, it stands in rows of its own.
                let beside = indent * 2 <= width;
                if !beside {
                    for row in rows(&format!("{host}{mark}"), 0, width) {
                        buffer.push_str(&(painted(style, DIM, &row) + "\n"));
                    }
                }
                for (number, row) in rows(&line, if beside { indent } else { 2 }, width).iter().enumerate() {
                    let (lead, row) = match (beside && number == 0).then(|| row.get(indent..)).flatten() {
                        Some(row) => (lead.as_str(), row),
                        None => ("", row.as_str()),
                    };
                    buffer.push_str(&format!("{lead}{on}{row}{off}\n"));
                }
                continue;
            }
            buffer.push_str(&lead);
            buffer.push_str(on);
            if as_it_is {
                buffer.push_str(line);
            } else {
                buffer.push_str(&render::one_line(line, style));
            }
            buffer.push_str(off);
            buffer.push('\n');
        }
        self.put(to_out, buffer);
    }

    fn event(&mut self, event: &Stamped) {
        match &event.event {
            Event::PlayStarted { hosts, .. } => self.hosts.clone_from(hosts),
            Event::Line { host, stream, text } if self.form == Form::Stream => self.lines(host, *stream, text),
            Event::TaskEnded { task, host, outcome, seconds, message, result, done_in, .. } => {
                let word = match outcome {
                    Outcome::Ok | Outcome::Changed => "done",
                    Outcome::Skipped => "not run",
                    Outcome::Failed => "failed",
                    Outcome::Unreachable => "unreachable",
                    Outcome::Unknown => "unknown",
                };
                *self.counts.entry(word).or_default() += 1;
                // What was done by an earlier run was told there.
                let done = done_in.is_some();
                if result.get("rc").is_some() {
                    self.told.push(host.clone());
                }
                let verdict = if done { message.clone() } else { verdict(*outcome, message, result) };
                let well = matches!(outcome, Outcome::Ok | Outcome::Changed | Outcome::Skipped);
                match self.form {
                    // What a module that runs no command has to say is what was asked for.
                    Form::Stream
                        if matches!(outcome, Outcome::Ok | Outcome::Changed)
                            && result.get("rc").is_none()
                            && !message.is_empty() =>
                    {
                        let host = render::one_line(host, self.styles.0);
                        let lead = painted(self.styles.0, DIM, &format!("{host} | "));
                        self.put(true, format!("{lead}{}\n", render::one_line(message, self.styles.0)));
                    }
                    Form::Stream => {
                        let paint = if well { GREEN } else { RED };
                        self.tell(&format!("{host}: {verdict} ({})", human_seconds(*seconds)), paint);
                    }
                    Form::OneLine => self.one_line(host, *outcome, message, result),
                    Form::Gather => self.group(host, verdict, well, result),
                    Form::Ansible | Form::AnsibleOneLine => {
                        let text = ansible(self.form, task, host, *outcome, message, result);
                        let paint = match outcome {
                            Outcome::Ok => GREEN,
                            Outcome::Changed => YELLOW,
                            Outcome::Skipped => "36",
                            _ => RED,
                        };
                        for line in text.split_inclusive('\n') {
                            let shown = render::one_line(line.trim_end_matches('\n'), self.styles.0);
                            self.put(true, painted(self.styles.0, paint, &shown) + "\n");
                        }
                    }
                }
            }
            // A host's result says what failed there.
            Event::Failed { failure } if self.form.is_ansible() && failure.host.is_none() => {
                self.tell(&format!("[ERROR]: {}", failure.what), RED);
            }
            Event::Failed { .. } | Event::Note { .. } if self.form.is_ansible() => {}
            Event::Warning { host, text } if self.form.is_ansible() => {
                let host = host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
                self.tell(&format!("[WARNING]: {host}{text}"), "35");
            }
            Event::Failed { failure } => {
                let by_code = failure.host.as_ref().is_some_and(|host| self.told.contains(host));
                if !(failure.kind == Kind::Failed && by_code) {
                    let lines = render::failure(failure, self.width(false), self.styles.1);
                    for line in lines {
                        self.put(false, line + "\n");
                    }
                }
            }
            Event::Warning { host, text } => {
                let host = host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
                self.tell(&format!("warning: {host}{text}"), YELLOW);
            }
            Event::Note { host, text } => {
                let host = host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
                self.tell(&format!("{host}{text}"), DIM);
            }
            Event::Asking { question } => {
                for line in question.lines() {
                    self.tell(line, BOLD);
                }
            }
            _ => {}
        }
    }

    /// `HOST | CHANGED | rc=0 | (stdout) TEXT`, as Ansible's `-o` has it.
    fn one_line(&mut self, host: &str, outcome: Outcome, message: &str, result: &Value) {
        let word = match outcome {
            Outcome::Ok => "SUCCESS",
            Outcome::Changed => "CHANGED",
            Outcome::Skipped => "SKIPPED",
            Outcome::Failed => "FAILED",
            Outcome::Unreachable => "UNREACHABLE!",
            Outcome::Unknown => "UNKNOWN!",
        };
        let mut line = format!("{host} | {word}");
        match result.get("rc") {
            Some(rc) => {
                line.push_str(&format!(" | rc={rc} | (stdout) {}", text_of(result, "stdout").replace('\n', "\\n")));
                let err = text_of(result, "stderr");
                if !err.is_empty() {
                    line.push_str(&format!(" (stderr) {}", err.replace('\n', "\\n")));
                }
                if result.get("cut").is_some() {
                    line.push_str(" (cut: the host's log has it all)");
                }
            }
            None if message.is_empty() => {}
            None => line.push_str(&format!(" | {}", message.replace('\n', "\\n"))),
        }
        let line = render::one_line(&line, self.styles.0);
        self.put(true, line + "\n");
    }

    fn group(&mut self, host: &str, verdict: String, well: bool, result: &Value) {
        let (out, err) = (text_of(result, "stdout"), text_of(result, "stderr"));
        let cut = result.get("cut").is_some();
        // Of what was cut nobody knows whether it is the same to its end.
        let same = self
            .groups
            .iter_mut()
            .find(|group| !cut && !group.cut && group.verdict == verdict && group.out == out && group.err == err);
        if let Some(group) = same {
            group.hosts.push(host.to_owned());
            return;
        }
        let size = out.len() + err.len();
        let room = self.gathered + size <= MOST_GATHERED;
        self.gathered += if room { size } else { 0 };
        let keep = |text: &str| if room { text.to_owned() } else { String::new() };
        let (out, err) = (keep(out), keep(err));
        self.groups.push(Group { hosts: vec![host.to_owned()], verdict, well, out, err, cut: cut || !room });
    }

    /// The groups, in the order of their first hosts.
    fn gather(&mut self) {
        let place: HashMap<String, usize> =
            self.hosts.iter().enumerate().map(|(at, host)| (host.clone(), at)).collect();
        let at = |host: &String| place.get(host).copied().unwrap_or(usize::MAX);
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            group.hosts.sort_by_key(&at);
        }
        groups.sort_by_key(|group| group.hosts.first().map_or(usize::MAX, &at));
        let style = self.styles.0;
        let logs = self.dir.join(HOSTS);
        for group in groups {
            let count = match group.hosts.len() {
                1 => String::new(),
                count => format!(" ({count} hosts)"),
            };
            let heading = render::one_line(&format!("{}{count}: {}", fold(&group.hosts), group.verdict), style);
            let width = self.width(true);
            let mut text = String::new();
            for row in rows(&heading, 0, width) {
                text.push_str(&(painted(style, if group.well { BOLD } else { "1;31" }, &row) + "\n"));
            }
            for (lead, said) in [("", &group.out), ("! ", &group.err)] {
                for line in said.lines() {
                    for row in rows(&format!("{lead}{}", render::one_line(line, style)), 2, width) {
                        text.push_str(&(row + "\n"));
                    }
                }
            }
            if group.cut {
                for row in rows(&format!("(not all of it is shown: {})", logs.display()), 2, width) {
                    text.push_str(&(row + "\n"));
                }
            }
            self.put(true, text);
            if self.size > BATCH {
                self.write();
            }
        }
    }

    fn summary(&self, seconds: f64) -> String {
        let total: usize = self.counts.values().sum();
        let hosts = if total == 1 { "1 host".to_owned() } else { format!("{total} hosts") };
        let words = ["done", "not run", "failed", "unreachable", "unknown"];
        let counts: Vec<String> =
            words.iter().filter_map(|word| self.counts.get(word).map(|count| format!("{count} {word}"))).collect();
        let logs = self.dir.join(HOSTS);
        format!("{hosts}: {} ({}); logs in {}", counts.join(", "), human_seconds(seconds), logs.display())
    }
}

impl std::fmt::Debug for Show {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Show({:?})", self.form)
    }
}

/// What Ansible prints about one host: `HOST | CHANGED | rc=0 >>` and all that was said for modules that run a command,
/// `HOST | SUCCESS => {…}` for others. Ends with a line feed.
fn ansible(form: Form, task: &str, host: &str, outcome: Outcome, message: &str, result: &Value) -> String {
    let one_line = form == Form::AnsibleOneLine;
    let rc = result.get("rc").filter(|_| ["command", "shell", "raw"].contains(&task));
    let word = match outcome {
        Outcome::Ok => "SUCCESS",
        Outcome::Changed => "CHANGED",
        Outcome::Skipped => return format!("{host} | SKIPPED\n"),
        Outcome::Failed => "FAILED",
        // What became of a command whose connection was lost nobody knows: for Ansible, its host is unreachable.
        Outcome::Unreachable | Outcome::Unknown => "UNREACHABLE!",
    };
    let (out, err, msg) = (text_of(result, "stdout"), text_of(result, "stderr"), text_of(result, "msg"));
    match (rc, one_line) {
        (Some(rc), false) => {
            // raw gives back the line's end as well.
            let end = if task == "raw" && !out.is_empty() { "\n" } else { "" };
            format!("{host} | {word} | rc={rc} >>\n{out}{end}{err}{msg}\n")
        }
        (Some(rc), true) => {
            let flat = |text: &str| text.replace('\n', "\\n").replace('\r', "\\r");
            let err = if err.is_empty() { String::new() } else { format!(" (stderr) {}", flat(err)) };
            format!("{host} | {word} | rc={rc} | (stdout) {}{err}\n", flat(out))
        }
        (None, true) if word == "UNREACHABLE!" => format!("{host} | UNREACHABLE!: {message}\n"),
        (None, _) => {
            let mut shown: BTreeMap<&str, Value> = BTreeMap::new();
            for (name, value) in result.as_object().into_iter().flatten() {
                if !name.starts_with("_ansible_")
                    && !["failed", "skipped", "unreachable", "exception"].contains(&name.as_str())
                {
                    shown.insert(name, sorted(value));
                }
            }
            // Nobody asks debug whether it changed something.
            if task == "debug" {
                shown.remove("changed");
            } else {
                shown.entry("changed").or_insert_with(|| Value::Bool(outcome == Outcome::Changed));
            }
            if !matches!(outcome, Outcome::Ok | Outcome::Changed) {
                shown.entry("msg").or_insert_with(|| Value::String(message.to_owned()));
            }
            if word == "UNREACHABLE!" {
                shown.insert("unreachable", Value::Bool(true));
            }
            let mut text = Vec::new();
            let indent: &[u8] = if one_line { b"" } else { b"    " };
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
            let _ =
                serde::Serialize::serialize(&shown, &mut serde_json::Serializer::with_formatter(&mut text, formatter));
            let text = String::from_utf8_lossy(&text);
            let text = if one_line { text.replace('\n', "") } else { text.into_owned() };
            let mark = if outcome == Outcome::Failed { "!" } else { "" };
            format!("{host} | {word}{mark} => {text}\n")
        }
    }
}

/// The same value, the names of its objects in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// Names with their numbers folded, as ClusterShell writes them: `node[1-3,7]`, `rack[01-04]-a`. The last number of a name
/// counts. The order is that in which each kind of name was first seen; numbers are in their own order.
pub fn fold(names: &[String]) -> String {
    // What is around the number, how wide it is where it is padded, and the numbers.
    let mut kinds: Vec<(String, String, usize, Vec<u64>)> = Vec::new();
    for name in names {
        let end = name.rfind(|c: char| c.is_ascii_digit()).map(|at| at + 1);
        let split = end.and_then(|end| {
            let head = name.get(..end)?;
            let begin = head
                .rfind(|c: char| !c.is_ascii_digit())
                .map_or(0, |at| at + head.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8));
            Some((name.get(..begin)?, name.get(begin..end)?, name.get(end..)?))
        });
        let number = split.and_then(|(_, digits, _)| digits.parse::<u64>().ok());
        let (Some((head, digits, tail)), Some(number)) = (split, number) else {
            kinds.push((name.clone(), String::new(), 0, Vec::new()));
            continue;
        };
        let padded = digits.len() > 1 && digits.starts_with('0');
        let fits = |width: usize| if padded { width == digits.len() } else { width == 0 || width == digits.len() };
        match kinds
            .iter_mut()
            .find(|(a, b, width, numbers)| !numbers.is_empty() && a == head && b == tail && fits(*width))
        {
            Some((_, _, _, numbers)) => numbers.push(number),
            None => {
                let width = if padded { digits.len() } else { 0 };
                kinds.push((head.to_owned(), tail.to_owned(), width, vec![number]));
            }
        }
    }
    let mut parts = Vec::new();
    for (head, tail, width, mut numbers) in kinds {
        numbers.sort_unstable();
        numbers.dedup();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some((_, to)) if to.checked_add(1) == Some(number) => *to = number,
                _ => ranges.push((number, number)),
            }
        }
        let text: Vec<String> = ranges
            .iter()
            .map(
                |(from, to)| {
                    if from == to { format!("{from:0width$}") } else { format!("{from:0width$}-{to:0width$}") }
                },
            )
            .collect();
        parts.push(match text.as_slice() {
            [] => head,
            [one] if !one.contains('-') => format!("{head}{one}{tail}"),
            _ => format!("{head}[{}]{tail}", text.join(",")),
        });
    }
    parts.join(",")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_as_clustershell_folds_them() {
        for (names, folded) in [
            ("node1 node2 node3", "node[1-3]"),
            ("node7 node1 node3 node2", "node[1-3,7]"),
            ("node9 node10 node11", "node[9-11]"),
            ("n08 n09 n10", "n[08-10]"),
            ("n1 n01", "n1,n01"),
            ("web1.example web2.example db", "web[1-2].example,db"),
            ("rack1-a rack2-a rack2-b", "rack[1-2]-a,rack2-b"),
            ("prod-1", "prod-1"),
            ("a b", "a,b"),
            ("10.0.0.1 10.0.0.2", "10.0.0.[1-2]"),
            ("é1 é2", "é[1-2]"),
            ("n99999999999999999999999", "n99999999999999999999999"),
        ] {
            let names: Vec<String> = names.split(' ').map(str::to_owned).collect();
            assert_eq!(fold(&names), folded);
        }
    }

    /// What ansible-core 2.19.14 printed of the same results.
    #[test]
    fn results_are_written_as_ansible_writes_them() {
        use serde_json::json;
        let said = |rc: i64, out: &str, err: &str, msg: &str| json!({"changed": true, "cmd": "x", "rc": rc, "stdout": out, "stderr": err, "stdout_lines": [], "failed": rc != 0, "msg": msg});
        let (long, short) = (Form::Ansible, Form::AnsibleOneLine);
        for (form, task, outcome, message, result, expected) in [
            (long, "command", Outcome::Changed, "", said(0, "hi", "", ""), "h1 | CHANGED | rc=0 >>\nhi\n"),
            (
                long,
                "shell",
                Outcome::Failed,
                "exit code 3",
                said(3, "out", "err", "non-zero return code"),
                "h1 | FAILED | rc=3 >>\nouterrnon-zero return code\n",
            ),
            (long, "shell", Outcome::Changed, "", said(0, "nonl", "e", ""), "h1 | CHANGED | rc=0 >>\nnonle\n"),
            (long, "raw", Outcome::Changed, "", said(0, "x", "", ""), "h1 | CHANGED | rc=0 >>\nx\n\n"),
            (
                short,
                "shell",
                Outcome::Changed,
                "",
                said(0, "a\nb", "err", ""),
                "h1 | CHANGED | rc=0 | (stdout) a\\nb (stderr) err\n",
            ),
            (
                short,
                "shell",
                Outcome::Failed,
                "exit code 4",
                said(4, "a\nb", "err", "non-zero return code"),
                "h1 | FAILED | rc=4 | (stdout) a\\nb (stderr) err\n",
            ),
            (
                long,
                "ping",
                Outcome::Ok,
                "",
                json!({"ping": "pong", "changed": false}),
                "h1 | SUCCESS => {\n    \"changed\": false,\n    \"ping\": \"pong\"\n}\n",
            ),
            (
                short,
                "ping",
                Outcome::Ok,
                "",
                json!({"ping": "pong"}),
                "h1 | SUCCESS => {\"changed\": false,\"ping\": \"pong\"}\n",
            ),
            (long, "command", Outcome::Skipped, "skipped in --check", json!({"skipped": true}), "h1 | SKIPPED\n"),
            (
                long,
                "debug",
                Outcome::Ok,
                "hello",
                json!({"msg": "hello", "changed": false}),
                "h1 | SUCCESS => {\n    \"msg\": \"hello\"\n}\n",
            ),
            (
                long,
                "fail",
                Outcome::Failed,
                "no",
                json!({"msg": "no", "failed": true}),
                "h1 | FAILED! => {\n    \"changed\": false,\n    \"msg\": \"no\"\n}\n",
            ),
            (
                long,
                "set_fact",
                Outcome::Ok,
                "",
                json!({"ansible_facts": {"y": {}, "x": "1"}, "changed": false}),
                "h1 | SUCCESS => {\n    \"ansible_facts\": {\n        \"x\": \"1\",\n        \"y\": {}\n    },\n    \"changed\": false\n}\n",
            ),
            (
                long,
                "command",
                Outcome::Unreachable,
                "no TCP connection",
                Value::Null,
                "h1 | UNREACHABLE! => {\n    \"changed\": false,\n    \"msg\": \"no TCP connection\",\n    \"unreachable\": true\n}\n",
            ),
            (
                short,
                "command",
                Outcome::Unreachable,
                "no TCP connection",
                Value::Null,
                "h1 | UNREACHABLE!: no TCP connection\n",
            ),
        ] {
            assert_eq!(ansible(form, task, "h1", outcome, message, &result), expected);
        }
    }

    proptest::proptest! {
        /// Unfolding gives the same names: nothing is lost and nothing is invented.
        #[test]
        fn folding_loses_nothing(numbers in proptest::collection::btree_set((0_u64..40, 0_usize..4), 1..40)) {
            let names: Vec<String> = numbers.iter().map(|(number, width)| format!("n{number:0width$}x")).collect();
            let mut expected: Vec<String> = names.clone();
            let mut found = Vec::new();
            let folded = fold(&names);
            let mut depth = 0;
            let parts = folded.split(|c| {
                depth += match c { '[' => 1, ']' => -1, _ => 0 };
                c == ',' && depth == 0
            });
            for part in parts {
                let inner = part.trim_start_matches('n').trim_end_matches('x');
                for range in inner.trim_matches(['[', ']']).split(',') {
                    let (from, to) = range.split_once('-').unwrap_or((range, range));
                    let width = from.len();
                    let padded = from.starts_with('0') && width > 1;
                    for number in from.parse::<u64>().unwrap()..=to.parse().unwrap() {
                        found.push(if padded { format!("n{number:0width$}x") } else { format!("n{number}x") });
                    }
                }
            }
            found.sort();
            expected.sort();
            expected.dedup();
            proptest::prop_assert_eq!(found, expected, "{}", folded);
        }
    }
}
