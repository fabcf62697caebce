//! One event as lines of text.
//!
//! What lives here: the pure layer under the windows for people. An event, a width and a style go
//! in, lines come out, so that every picture can be tested without a terminal. What does not: when
//! and where lines are written (terminal, plain), and state over several events (bars).
//!
//! No line is wider than asked (at least [`NARROWEST`]), and none holds a control character except
//! our own colours. Texts were washed at the event door; failures that are told before a run exists
//! were not, so everything is cleaned here again.

use std::io::IsTerminal as _;

use super::figures::{Meter, eta, human_bytes, human_count, human_rate, human_seconds};
use super::{Output, Sink};
use crate::event::{Event, Outcome, Severity, Stamped, Stream};
use crate::failure::Failure;
use crate::secret::clean;

/// Windows narrower than this are treated as this wide.
pub const NARROWEST: usize = 20;
/// A host's line takes at most so many rows of a window; the host's log has all of it.
const ROWS_OF_A_LINE: usize = 6;

/// What the reader's terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Colours (SGR).
    pub colour: bool,
    /// Characters beyond ASCII. Without it foreign ones are written out (`\u{e9}`): on an 8-bit
    /// terminal their bytes could be control characters.
    pub unicode: bool,
}

impl Style {
    /// Neither colours nor Unicode.
    pub const BARE: Self = Self { colour: false, unicode: false };

    /// What the environment says, by `NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE`, `TERM` and the locale.
    pub fn from_env(get: impl Fn(&str) -> Option<String>, terminal: bool) -> Self {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let colour = if set("NO_COLOR").is_some() {
            false
        } else if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
            true
        } else {
            terminal && !dumb && set("CLICOLOR").is_none_or(|value| value != "0")
        };
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        Self { colour, unicode: locale.contains("utf-8") || locale.contains("utf8") }
    }

    /// For this process's standard output.
    pub fn stdout() -> Self {
        Self::from_env(|name| std::env::var(name).ok(), std::io::stdout().is_terminal())
    }

    /// For this process's standard error.
    pub fn stderr() -> Self {
        Self::from_env(|name| std::env::var(name).ok(), std::io::stderr().is_terminal())
    }
}

/// One event as lines for a person, at most `width` columns each. Events that are not shown
/// ([`Event::Logged`]) give none.
pub fn render(event: &Stamped, width: usize, style: Style) -> Vec<String> {
    body(event, width, style, Output::Human)
}

/// A failure as lines, at most `width` columns each.
pub fn failure(failure: &Failure, width: usize, style: Style) -> Vec<String> {
    let mut pen = Pen::new(width, style, Output::Human);
    pen.failure(failure);
    pen.lines
}

/// Tells a failure on standard error: for those that happen before a run exists.
pub fn print_failure(what: &Failure, style: Style) {
    Sink::stderr().lines(&failure(what, super::columns(&console::Term::stderr()), style));
}

/// A text on standard error, its long lines broken at blanks: for a window that is narrower than whoever wrote it thought.
/// `false`, and nothing is said, where it fits as it is or there is no window.
pub fn print_narrow(text: &str) -> bool {
    let terminal = console::Term::stderr();
    let width = super::columns(&terminal);
    let narrow = terminal.is_term() && text.lines().any(|line| text_width(line) > width);
    if narrow {
        let rows: Vec<String> = text.lines().flat_map(|line| wrap(&clean(line.as_bytes()), width)).collect();
        Sink::stderr().lines(&rows);
    }
    narrow
}

/// What an exit code means, in product words.
pub fn exit_meaning(code: u8) -> &'static str {
    match code {
        0 => "everything asked for was done and verified",
        1 => "could not start; no host was touched",
        2 => "a host failed, or what was made did not pass",
        4 => "a host that the work needed was unreachable",
        5 => "wrong usage",
        6 => "no host matched, or the inventory does not exist",
        7 => "refused: a gate said no",
        8 => "outcome unknown, or still running on a node",
        9 => "something is missing, too old or damaged",
        99 => "interrupted, nothing left running",
        250 => "a bug in ferry",
        _ => "not one of ferry's own exit codes",
    }
}

/// The marks by which ferry finds its place in a job's output; the host's log has them, nobody else needs them.
pub(super) fn is_our_mark(text: &str) -> bool {
    let marked = text.strip_prefix("ferry-restore-").or_else(|| text.strip_prefix("ferry-amv-"));
    marked
        .and_then(|rest| rest.split_once(' '))
        .is_some_and(|(mark, _)| mark.len() == 32 && mark.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// What a window says when it was too slow.
pub(super) fn skipped(count: u64) -> String {
    format!("{} lines were not shown, they came too fast; the hosts' logs have them all", human_count(count))
}

/// A count that moves, as one line of text.
pub(super) fn progress(what: &str, done: u64, total: Option<u64>, unit: &str, meter: Option<&Meter>) -> String {
    format!("{what}: {}", amounts(done, total, unit, meter, true))
}

/// A count that moves, without its name: so much of so much, the rate, the time left.
pub(super) fn amounts(done: u64, total: Option<u64>, unit: &str, meter: Option<&Meter>, percent: bool) -> String {
    let amount = |count: u64| match unit {
        "bytes" => human_bytes(count),
        "seconds" => human_seconds(count as f64),
        unit => format!("{} {unit}", human_count(count)),
    };
    let mut text = amount(done);
    if let Some(total) = total {
        text.push_str(&format!(" of {}", amount(total)));
    }
    if let Some(total) = total.filter(|_| percent) {
        let part = if total == 0 { 100.0 } else { (done as f64 / total as f64 * 100.0).min(100.0) };
        // Never "100 %" before it is so.
        let part = if done < total { part.min(99.0).floor() } else { part };
        text.push_str(&format!(" ({part:.0} %)"));
    }
    let finished = total.is_some_and(|total| done >= total);
    let rate = meter.and_then(|meter| if finished { meter.mean() } else { meter.rate() });
    if let Some(rate) = rate.filter(|_| unit == "bytes") {
        text.push_str(&format!(", {}", human_rate(rate)));
        if !finished && let Some(left) = eta(done, total, rate) {
            text.push_str(&format!(", {} left", human_seconds(left.as_secs_f64())));
        }
    }
    text
}

/// Remembers how to attach to what still runs: product.md promises that the line which is printed
/// last says so when the exit code is 8, and it is told long before that.
#[derive(Debug, Default)]
pub(super) struct Attach(Option<String>);

impl Attach {
    /// Looks at an event. At the end of a run that left something running, the line to print last.
    pub(super) fn see(&mut self, event: &Event) -> Option<String> {
        let says = |text: &&String| text.contains("ferry") && text.contains("attach");
        match event {
            Event::Summary { next, .. } => self.0 = next.iter().find(says).cloned().or(self.0.take()),
            Event::Failed { failure } => {
                let all = std::iter::once(failure).chain(&failure.more);
                self.0 = all.filter_map(|failure| failure.mend.as_ref()).find(says).cloned().or(self.0.take());
            }
            Event::RunEnded { exit: 8, .. } => return self.0.take().map(|text| format!("next: {text}")),
            _ => {}
        }
        None
    }
}

/// The host that an event is about.
pub(super) fn host_of(event: &Event) -> Option<&str> {
    match event {
        Event::TaskEnded { host, .. }
        | Event::ItemEnded { host, .. }
        | Event::Retrying { host, .. }
        | Event::Polled { host, .. }
        | Event::Line { host, .. }
        | Event::Logged { host, .. }
        | Event::Progress { host, .. }
        | Event::JobStarting { host, .. }
        | Event::JobState { host, .. }
        | Event::JobCleaned { host, .. } => Some(host.as_str()),
        Event::Found { finding } => finding.host.as_deref(),
        Event::Note { host, .. } | Event::Warning { host, .. } => host.as_deref(),
        Event::Failed { failure } => failure.host.as_deref(),
        _ => None,
    }
    .filter(|host| !host.is_empty())
}

/// A text that is safe to stand within one line: cleaned, tabs widened, and in ASCII where wanted.
pub fn one_line(text: &str, style: Style) -> String {
    let cleaned = clean(text.as_bytes());
    if cleaned.is_ascii() && !cleaned.contains('\t') {
        return cleaned;
    }
    let mut out = String::with_capacity(cleaned.len() + 16);
    let mut column = 0;
    for c in cleaned.chars() {
        match c {
            '\t' => {
                let blanks = 8 - column % 8;
                out.push_str(&" ".repeat(blanks));
                column += blanks;
            }
            c if c.is_ascii() || style.unicode => {
                out.push(c);
                column += char_width(c);
            }
            c => {
                let text = format!("\\u{{{:x}}}", c as u32);
                column += text.len();
                out.push_str(&text);
            }
        }
    }
    out
}

/// Columns of a character, never fewer than it may take: terminals disagree about combining ones.
fn char_width(c: char) -> usize {
    if c.is_ascii() {
        return 1;
    }
    let mut bytes = [0; 4];
    console::measure_text_width(c.encode_utf8(&mut bytes)).max(1)
}

/// Columns of a text without colours, never fewer than it may take.
pub(super) fn text_width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(char_width).sum() }
}

/// `text`, which holds no line feed, in rows of at most `width` columns, broken at blanks where
/// there are any.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    if text_width(text) <= width {
        return vec![text.trim_end().to_owned()];
    }
    let mut rows = Vec::new();
    let mut row = String::new();
    let mut used = 0;
    let mut break_row = |row: &mut String, used: &mut usize| {
        rows.push(row.trim_end().to_owned());
        row.clear();
        *used = 0;
    };
    for word in text.split_inclusive(' ') {
        let bare = text_width(word.trim_end_matches(' '));
        if used + bare > width && !row.trim().is_empty() {
            break_row(&mut row, &mut used);
        }
        for c in word.chars() {
            let columns = char_width(c);
            if used + columns > width {
                if c == ' ' {
                    continue;
                }
                break_row(&mut row, &mut used);
            }
            row.push(c);
            used += columns;
        }
    }
    if !row.trim().is_empty() || rows.is_empty() {
        rows.push(row.trim_end().to_owned());
    }
    rows
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Paint {
    None,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

/// Builds the lines of one event.
struct Pen {
    width: usize,
    style: Style,
    plain: bool,
    lines: Vec<String>,
}

impl Pen {
    fn new(width: usize, style: Style, output: Output) -> Self {
        let plain = output == Output::Plain;
        // A screen reader reads marks and boxes aloud: plain output has words alone.
        Self { width: width.max(NARROWEST), style, plain, lines: Vec::new() }
    }

    fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::None => return text.to_owned(),
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Red => "31",
            Paint::Green => "32",
            Paint::Yellow => "33",
            Paint::Cyan => "36",
        };
        if self.style.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A mark that is a sign where there is Unicode and a word where there is not.
    fn mark(&self, sign: &'static str, word: &'static str) -> &'static str {
        if self.style.unicode && !self.plain { sign } else { word }
    }

    /// Marks and words of one column are padded to one width.
    fn verdict(&self, sign: &'static str, word: &'static str) -> String {
        let mark = self.mark(sign, word);
        if mark == sign { mark.to_owned() } else { format!("{mark:<6}") }
    }

    /// `prod-1: ` where the line itself must say so.
    fn host(&self, host: Option<&str>) -> String {
        match host {
            Some(host) if !self.plain && !host.is_empty() => format!("{host}: "),
            _ => String::new(),
        }
    }

    /// Adds `text` behind `lead`; further rows hang under the text's beginning.
    fn put(&mut self, lead: &str, lead_paint: Paint, text: &str, paint: Paint) {
        self.put_rows(lead, lead_paint, text, paint, usize::MAX);
    }

    fn put_rows(&mut self, lead: &str, lead_paint: Paint, text: &str, paint: Paint, most: usize) {
        let lead = one_line(lead, self.style);
        let lead_width = text_width(&lead);
        let (lead, indent, text) = if lead_width * 2 > self.width {
            // Too wide to hang text under: it flows with the text.
            let text = format!("{} {}", lead.trim_end(), text.trim_start());
            (String::new(), 4, text)
        } else {
            (lead, lead_width, text.to_owned())
        };
        let room = self.width - indent;
        let mut rows: Vec<String> =
            text.split('\n').flat_map(|line| wrap(&one_line(line.trim_end_matches('\r'), self.style), room)).collect();
        if rows.len() > most {
            let more = rows.len() - most;
            rows.truncate(most);
            rows.extend(wrap(&format!("({more} more rows in the host's log)"), room));
        }
        for (number, row) in rows.iter().enumerate() {
            let line = if number == 0 && !lead.is_empty() {
                format!("{}{}", self.paint(lead_paint, &lead), self.paint(paint, row))
            } else if number == 0 {
                self.paint(paint, row)
            } else {
                format!("{}{}", " ".repeat(indent), self.paint(paint, row))
            };
            // A lead without text has no blanks at its end.
            self.lines.push(line.trim_end().to_owned());
        }
    }

    /// The snippet of a failure: rows stay rows, cut so that the caret is seen and stands under its
    /// character.
    fn snippet(&mut self, snippet: &str) {
        const INDENT: &str = "    ";
        let rows: Vec<(String, String)> = snippet
            .split('\n')
            .map(|row| match row.split_once(" | ") {
                Some((gutter, content)) => (one_line(gutter, self.style), content.to_owned()),
                None => (String::new(), row.to_owned()),
            })
            .collect();
        let gutter = rows.iter().map(|(gutter, _)| text_width(gutter)).max().unwrap_or(0).min(10).min(self.width / 4);
        let room = self.width.saturating_sub(INDENT.len() + gutter + 3).max(8);
        let caret = rows.last().and_then(|(_, last)| last.strip_suffix('^').filter(|blanks| blanks.trim().is_empty()));
        let caret = caret.map(|blanks| blanks.chars().count());
        // Characters left out at the beginning, so that the caret is within the room.
        let start = caret.map_or(0, |at| (at + 8).saturating_sub(room));
        let count = rows.len();
        let bar = self.mark("│", "|");
        let mut before_caret = String::new();
        for (number, (lead, content)) in rows.into_iter().enumerate() {
            let is_caret = caret.is_some() && number + 1 == count;
            let shown = if is_caret {
                let at = caret.unwrap_or(0).saturating_sub(start);
                // As many columns as the characters above it take.
                let above: String = before_caret.chars().take(at).collect();
                let missing = at.saturating_sub(above.chars().count());
                let columns = text_width(&one_line(&above, self.style)) + missing;
                format!("{}^", " ".repeat(columns.min(room - 1)))
            } else {
                before_caret = content.chars().skip(start).collect();
                let line = one_line(&before_caret, self.style);
                let mut used = 0;
                line.chars()
                    .take_while(|c| {
                        used += char_width(*c);
                        used <= room
                    })
                    .collect()
            };
            let lead: String = lead.chars().take(gutter).collect();
            let paint = if is_caret { Paint::Red } else { Paint::None };
            let front = self.paint(Paint::Dim, &format!("{lead:>gutter$} {bar} "));
            let line = format!("{INDENT}{front}{}", self.paint(paint, &shown));
            self.lines.push(line.trim_end().to_owned());
        }
    }

    fn failure(&mut self, failure: &Failure) {
        self.one_failure(failure);
        for more in &failure.more {
            self.failure(more);
        }
    }

    fn one_failure(&mut self, failure: &Failure) {
        let lead = match self.mark("✗", "error:") {
            word if word.ends_with(':') => format!("{word} "),
            sign => format!("{sign} "),
        };
        let text = format!("{}{}", self.host(failure.host.as_deref()), failure.what);
        self.put(&lead, Paint::Red, &text, Paint::Bold);
        if let Some(place) = &failure.place {
            self.put("  at    ", Paint::Dim, &place.to_string(), Paint::Cyan);
        }
        if let Some(snippet) = &failure.snippet {
            self.snippet(snippet);
        }
        for (word, text) in [("seen", &failure.seen), ("why", &failure.why)] {
            if let Some(text) = text {
                self.put(&format!("  {word:<6}"), Paint::Dim, text, Paint::None);
            }
        }
        if !failure.chain.is_empty() {
            let arrow = self.mark(" → ", " > ");
            self.put("  way   ", Paint::Dim, &failure.chain.join(arrow), Paint::None);
        }
        if let Some(mend) = &failure.mend {
            self.put("  mend  ", Paint::Dim, mend, Paint::Cyan);
        }
        if let Some(code) = &failure.code {
            self.put("  code  ", Paint::Dim, &format!("{code} (ferry explain {code})"), Paint::Dim);
        }
        if failure.again {
            self.put("  again ", Paint::Dim, "the same attempt may succeed a moment later", Paint::None);
        }
    }

    fn table(&mut self, rows: &[(String, String)]) {
        let widest = rows.iter().map(|(word, _)| text_width(&one_line(word, self.style))).max().unwrap_or(0);
        let column = widest.min(self.width / 3);
        for (word, text) in rows {
            let word = one_line(word, self.style);
            let blanks = " ".repeat(column.saturating_sub(text_width(&word)));
            self.put(&format!("  {word}{blanks}  "), Paint::Bold, text, Paint::None);
        }
    }

    fn plan(&mut self, title: &str, rows: &[String]) {
        if self.plain {
            self.put("plan: ", Paint::None, title, Paint::None);
            for row in rows {
                self.put("  ", Paint::None, row, Paint::None);
            }
            return;
        }
        // Open at the right: nobody knows for sure how wide a character is on the reader's screen.
        self.put(self.mark("┌ ", "+- "), Paint::Dim, title, Paint::Bold);
        let lead = self.mark("│ ", "|  ");
        for row in rows.iter().flat_map(|row| row.split('\n')) {
            let row = one_line(row, self.style);
            // `word   text`: further rows of the text hang under it.
            let hang = row.find("  ").map_or(0, |at| row.len() - row.get(at..).unwrap_or_default().trim_start().len());
            let (word, text) = row.split_at_checked(hang).unwrap_or(("", &row));
            let (word, text) = if text_width(word) * 2 < self.width { (word, text) } else { ("", row.as_str()) };
            let indent = text_width(word);
            for (number, part) in wrap(text, self.width - 3 - indent).into_iter().enumerate() {
                let front = if number == 0 { word.to_owned() } else { " ".repeat(indent) };
                self.lines.push(format!("{}{front}{part}", self.paint(Paint::Dim, lead)).trim_end().to_owned());
            }
        }
        let rule = (self.width - 1).min(38);
        let rule =
            if self.style.unicode { format!("└{}", "─".repeat(rule)) } else { format!("+{}", "-".repeat(rule)) };
        self.put("", Paint::None, &rule, Paint::Dim);
    }
}

/// One event as lines, for a person at a terminal or ([`Output::Plain`]) for a place where each line
/// begins with time and host already.
pub(super) fn body(event: &Stamped, width: usize, style: Style, output: Output) -> Vec<String> {
    let mut pen = Pen::new(width, style, output);
    match &event.event {
        Event::RunStarted { run, ferry, command, ci, dir, .. } => {
            let ci = ci.as_ref().map(|ci| format!(" ({ci})")).unwrap_or_default();
            pen.put("", Paint::None, &format!("ferry {ferry}: {}{ci}", command.join(" ")), Paint::Bold);
            pen.put("  ", Paint::None, &format!("run {run}, kept in {dir}"), Paint::Dim);
        }
        Event::Plan { title, lines } => pen.plan(title, lines),
        Event::PlayStarted { play, hosts } => {
            let hosts = match hosts.len() {
                0 => "no hosts".to_owned(),
                1..=6 => hosts.join(", "),
                count => format!("{}, … {count} hosts", hosts.iter().take(4).cloned().collect::<Vec<_>>().join(", ")),
            };
            let hosts = if style.unicode { hosts } else { hosts.replace('…', "...") };
            pen.put("play ", Paint::Dim, &format!("{play} ({hosts})"), Paint::Bold);
        }
        Event::TaskStarted { task, number, of, .. } => {
            let place = if *number == 0 {
                String::new()
            } else if *of >= *number && *of > 0 {
                format!("[{number}/{of}] ")
            } else {
                format!("[{number}] ")
            };
            pen.put(&place, Paint::Cyan, task, Paint::Bold);
        }
        Event::TaskEnded { task, host, outcome, seconds, message, .. } => {
            let (sign, word, paint) = match outcome {
                Outcome::Ok => ("✓", "ok", Paint::Green),
                Outcome::Changed => ("✓", "changed", Paint::Yellow),
                Outcome::Skipped => ("-", "skipped", Paint::Dim),
                Outcome::Failed => ("✗", "FAILED", Paint::Red),
                Outcome::Unreachable => ("✗", "UNREACHABLE", Paint::Red),
                Outcome::Unknown => ("?", "UNKNOWN", Paint::Yellow),
            };
            let lead = match pen.mark(sign, "") {
                "" => String::new(),
                sign => format!("  {sign} "),
            };
            let lead = if lead.is_empty() && !pen.plain { "  ".to_owned() } else { lead };
            let mut text = format!("{}{word}", pen.host(Some(host)));
            if pen.plain {
                text.push_str(&format!(": {task}"));
            }
            if *outcome != Outcome::Skipped {
                text.push_str(&format!(" ({})", human_seconds(*seconds)));
            }
            if !message.is_empty() {
                text.push_str(&format!(": {message}"));
            }
            pen.put(&lead, paint, &text, if *outcome == Outcome::Skipped { Paint::Dim } else { Paint::None });
        }
        Event::Line { text, .. } if is_our_mark(text) => {}
        Event::Line { host, stream, text } => {
            let paint = match stream {
                Stream::Err => Paint::Yellow,
                Stream::Us => Paint::Dim,
                Stream::Out | Stream::Log => Paint::None,
            };
            if pen.plain {
                pen.lines.push(one_line(text, style));
            } else {
                pen.put_rows(&format!("  {host} | "), Paint::Dim, text, paint, ROWS_OF_A_LINE);
            }
        }
        Event::ItemEnded { host, item, outcome, result, .. } => {
            let word = match outcome {
                Outcome::Ok => "ok",
                Outcome::Changed => "changed",
                Outcome::Skipped => "skipped",
                Outcome::Failed => "FAILED",
                Outcome::Unreachable => "UNREACHABLE",
                Outcome::Unknown => "UNKNOWN",
            };
            let said = match (outcome, result.get("msg").and_then(serde_json::Value::as_str)) {
                (Outcome::Failed | Outcome::Unreachable | Outcome::Unknown, Some(said)) => format!(": {said}"),
                (_, Some(said)) if result.get("_ansible_verbose_always").is_some() => format!(": {said}"),
                _ => String::new(),
            };
            let text = format!("{}item {item}: {word}{said}", pen.host(Some(host)));
            pen.put("    ", Paint::None, &text, if *outcome == Outcome::Skipped { Paint::Dim } else { Paint::None });
        }
        Event::Retrying { host, item, left, .. } => {
            let item = item.as_ref().map(|item| format!("item {item}: ")).unwrap_or_default();
            let text = format!("{}{item}not yet as it is wanted; tried {left} times more", pen.host(Some(host)));
            pen.put("    ", Paint::None, &text, Paint::Yellow);
        }
        Event::Polled { host, job, finished, failed } => {
            let how = match (finished, failed) {
                (false, _) => "goes on",
                (true, false) => "has ended",
                (true, true) => "has failed",
            };
            pen.put("    ", Paint::None, &format!("{}{job} {how}", pen.host(Some(host))), Paint::Dim);
        }
        Event::Included { what, label, hosts } => {
            let label = label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
            pen.put("    ", Paint::None, &format!("{what}{label} for {}", hosts.join(", ")), Paint::Dim);
        }
        Event::NoHosts { pattern } => pen.put("  ", Paint::None, &format!("no host matches {pattern}"), Paint::Yellow),
        Event::Statistics { hosts, run } => {
            for (host, counts) in hosts.iter().map(|(host, counts)| (Some(host.as_str()), counts)).chain([(None, run)])
            {
                for (name, value) in counts {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    pen.put("  ", Paint::None, &format!("{}{name}: {value}", pen.host(host)), Paint::None);
                }
            }
        }
        Event::NoHostsLeft => pen.put("  ", Paint::None, "no host is left", Paint::Red),
        Event::Logged { .. } | Event::Rescued { .. } => {}
        Event::Progress { what, host, done, total, unit } => {
            let text = progress(what, *done, *total, unit, None);
            pen.put("  ", Paint::None, &format!("{}{text}", pen.host(Some(host))), Paint::None);
        }
        Event::Found { finding } => {
            let (sign, word, paint) = match finding.severity {
                Severity::Pass => ("✓", "ok", Paint::Green),
                Severity::Warn => ("!", "warn", Paint::Yellow),
                Severity::Refuse => ("✗", "REFUSE", Paint::Red),
            };
            let lead = format!("  {} ", pen.verdict(sign, word));
            let text = format!("{}{}: {}", pen.host(finding.host.as_deref()), finding.gate, finding.what);
            pen.put(&lead, paint, &text, Paint::None);
            for (word, text, paint) in [("why  ", &finding.why, Paint::None), ("mend ", &finding.mend, Paint::Cyan)] {
                if !text.is_empty() {
                    pen.put(&format!("{}{word}", " ".repeat(lead.chars().count())), Paint::Dim, text, paint);
                }
            }
        }
        Event::Note { host, text } => {
            let lead = if pen.plain { "" } else { pen.mark("  · ", "  - ") };
            pen.put(lead, Paint::Dim, &format!("{}{text}", pen.host(host.as_deref())), Paint::None);
        }
        Event::Warning { host, text } => {
            let lead = format!("  {} ", pen.verdict("!", "warn"));
            pen.put(&lead, Paint::Yellow, &format!("{}{text}", pen.host(host.as_deref())), Paint::None);
        }
        Event::Asking { question } => {
            for line in question.lines() {
                pen.put("  ", Paint::None, line, Paint::Bold);
            }
        }
        Event::Answered { answer, by, .. } => {
            let lead = if pen.plain { "" } else { pen.mark("  · ", "  - ") };
            pen.put(lead, Paint::Dim, &format!("answered {answer:?} ({by})"), Paint::None);
        }
        Event::JobStarting { job, host, kind, .. } => {
            pen.put(
                "  ",
                Paint::None,
                &format!("{}job {job} ({kind}) is being started", pen.host(Some(host))),
                Paint::Dim,
            );
        }
        Event::JobState { job, host, state, rc } => {
            // A state that ended says its code itself.
            let rc =
                rc.filter(|_| !state.contains("exit code")).map(|rc| format!(", exit code {rc}")).unwrap_or_default();
            pen.put("  ", Paint::None, &format!("{}job {job}: {state}{rc}", pen.host(Some(host))), Paint::Dim);
        }
        Event::JobCleaned { job, host } => {
            pen.put("  ", Paint::None, &format!("{}job {job} was cleaned up", pen.host(Some(host))), Paint::Dim);
        }
        Event::Verified { file, bytes, sha256, members, .. } => {
            let digest = if pen.plain { sha256.clone() } else { sha256.chars().take(16).collect() };
            let lead = format!("  {} ", pen.verdict("✓", "ok"));
            let text =
                format!("{file} is whole: {}, {} members, sha256 {digest}", human_bytes(*bytes), human_count(*members));
            pen.put(&lead, Paint::Green, &text, Paint::None);
        }
        Event::Sealed { cluster, point, path, verdict, complete } => {
            let lead = format!("  {} ", pen.verdict("✓", "ok"));
            let lack = if *complete { "" } else { ", not complete" };
            pen.put(&lead, Paint::Green, &format!("{cluster}/{point} is sealed: {verdict}{lack}"), Paint::Bold);
            pen.put(&" ".repeat(lead.chars().count()), Paint::None, path, Paint::Dim);
        }
        Event::Summary { lines, next } => {
            let rows: Vec<(String, String)> = lines.iter().map(|line| (line.word.clone(), line.text.clone())).collect();
            pen.table(&rows);
            for line in next {
                pen.put("next: ", Paint::Dim, line, Paint::Cyan);
            }
        }
        Event::Failed { failure } => pen.failure(failure),
        Event::RunEnded { exit, seconds, recap } => {
            let rows: Vec<(String, String)> = recap
                .iter()
                .map(|(host, counts)| {
                    let counts = counts.iter().filter(|(word, count)| **count > 0 && *word != "ignored_changed");
                    (host.clone(), counts.map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", "))
                })
                // Nodes that were only looked at for their cluster have nothing of their own to count.
                .filter(|(_, counts): &(String, String)| !counts.is_empty())
                .collect();
            pen.table(&rows);
            let (sign, paint) = if *exit == 0 { ("✓", Paint::Green) } else { ("✗", Paint::Red) };
            let lead = match pen.mark(sign, "") {
                "" => String::new(),
                sign => format!("{sign} "),
            };
            let text = format!("exit {exit}: {} ({})", exit_meaning(*exit), human_seconds(*seconds));
            pen.put(&lead, paint, &text, Paint::Bold);
        }
    }
    pen.lines
}
