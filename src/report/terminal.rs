//! The window for a person at a terminal, and the quiet one.
//!
//! What lives here: live lines and bars on standard error, everything lasting above them; results
//! (plan, findings, what hosts said, verdicts, summary) on standard output, the rest on standard error, so that
//! `> file` keeps what was asked for. What does not: the texts (render).
//!
//! Bars are redrawn at most four times a second, and lines are written in batches between redraws:
//! a hook that says 100 000 lines a second costs four redraws, not 100 000.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::figures::{Meter, human_seconds};
use super::history::{Memory, Past};
use super::render::{self, Attach, Style, render};
use super::{Output, Sink};
use crate::event::{Event, Seen, Stamped, Stream, Window};

/// Between two redraws.
const REDRAW: Duration = Duration::from_millis(250);
/// A batch is written when it has so many bytes, even before the next redraw.
const BATCH: usize = 1 << 20;
/// So many counts are shown at once.
const MOST_COUNTS: usize = 8;

/// Shows events live, on a thread of its own. Standard error must be a terminal.
///
/// # Errors
/// The system gives no further thread.
pub fn spawn(window: Window, memory: Option<Memory>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        let hz = u8::try_from(1000 / REDRAW.as_millis()).unwrap_or(4);
        let target = ProgressDrawTarget::term_like_with_hz(
            Box::new(Calm { term: console::Term::buffered_stderr(), row_ended: AtomicBool::new(false) }),
            hz,
        );
        // A terminal of its own for either: a pipe behind stdout wraps nothing.
        let width = || (super::stdout_width(), super::columns(&console::Term::stderr()));
        let styles = (Style::stdout(), Style::stderr());
        let mut screen = Screen::new(target, (Sink::stdout(), Sink::stderr()), styles, Box::new(width));
        screen.memory = memory;
        screen.show(&window);
    })
}

/// A terminal to draw on, whose lines end where their text ends. indicatif fills each line up to the edge with blanks and lets
/// the terminal wrap; in a window that becomes narrower such a line would become two. Here a line feed stands for the blanks.
#[derive(Debug)]
struct Calm {
    term: console::Term,
    /// The blanks of a row came: what follows goes to the next one.
    row_ended: AtomicBool,
}

impl Calm {
    fn with<T>(&self, then: impl FnOnce(&console::Term) -> T) -> T {
        self.row_ended.store(false, Ordering::Relaxed);
        then(&self.term)
    }
}

impl TermLike for Calm {
    fn width(&self) -> u16 {
        self.term.size().1
    }
    fn height(&self) -> u16 {
        self.term.size().0
    }
    fn move_cursor_up(&self, n: usize) -> std::io::Result<()> {
        self.with(|term| term.move_cursor_up(n))
    }
    fn move_cursor_down(&self, n: usize) -> std::io::Result<()> {
        self.with(|term| term.move_cursor_down(n))
    }
    fn move_cursor_right(&self, n: usize) -> std::io::Result<()> {
        self.with(|term| term.move_cursor_right(n))
    }
    fn move_cursor_left(&self, n: usize) -> std::io::Result<()> {
        self.with(|term| term.move_cursor_left(n))
    }
    fn write_line(&self, text: &str) -> std::io::Result<()> {
        self.write_str(text)?;
        self.with(|term| term.write_str("\n"))
    }
    fn write_str(&self, text: &str) -> std::io::Result<()> {
        if text.bytes().all(|byte| byte == b' ') {
            self.row_ended.store(true, Ordering::Relaxed);
            return Ok(());
        }
        if self.row_ended.swap(false, Ordering::Relaxed) && text != "\r" {
            self.term.write_str("\n")?;
        }
        self.term.write_str(text)
    }
    fn clear_line(&self) -> std::io::Result<()> {
        self.with(console::Term::clear_line)
    }
    fn flush(&self) -> std::io::Result<()> {
        self.with(console::Term::flush)
    }
}

/// Shows failures on standard error and the last line on standard output, nothing else.
///
/// # Errors
/// The system gives no further thread.
pub fn spawn_quiet(window: Window) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("quiet".to_owned()).spawn(move || {
        show_quiet(&window, &mut Sink::stdout(), &mut Sink::stderr(), (Style::stdout(), Style::stderr()));
    })
}

/// Shows failures on `err` and the last line on `out`.
pub fn show_quiet(window: &Window, out: &mut Sink, err: &mut Sink, styles: (Style, Style)) {
    let mut attach = Attach::default();
    loop {
        match window.next(Duration::from_secs(3600)) {
            Seen::Event(event) => match (&event.event, attach.see(&event.event)) {
                (Event::Failed { failure }, _) => err.lines(&render::failure(failure, usize::MAX, styles.1)),
                (Event::RunEnded { .. }, attach) => {
                    let lines = render::body(&event, usize::MAX, styles.0, Output::Human);
                    if let Some(last) = lines.last() {
                        out.lines(&[last]);
                    }
                    if let Some(attach) = attach {
                        out.lines(&[render::one_line(&attach, styles.0)]);
                    }
                }
                _ => {}
            },
            Seen::Skipped(_) | Seen::Quiet => {}
            Seen::End => return,
        }
    }
}

/// Whether an event is what was asked for, or about the way there.
fn is_result(event: &Event) -> bool {
    match event {
        Event::Line { stream, .. } => *stream == Stream::Out,
        Event::Plan { .. }
        | Event::Found { .. }
        | Event::TaskEnded { .. }
        | Event::Verified { .. }
        | Event::Sealed { .. }
        | Event::Summary { .. }
        | Event::RunEnded { .. } => true,
        _ => false,
    }
}

/// What a host's log has and a person at a terminal needs not see go by: Gravity's journal of its own commands, which is brought
/// home by the hundred, and the marks by which ferry finds its place in a job's output.
fn is_for_the_log(text: &str) -> bool {
    text.contains(" gravity-cli[") && text.contains("]: [") || render::is_our_mark(text)
}

/// The step that is under way.
struct Step {
    text: String,
    since: Instant,
    /// `[4/10] `.
    place: String,
    /// How long it took last time, in seconds.
    last: Option<f64>,
}

/// A count that moves.
struct Count {
    meter: Meter,
    unit: String,
    done: u64,
    total: Option<u64>,
}

/// Width of standard output and of standard error, asked anew for every batch: windows are resized.
type Widths = Box<dyn Fn() -> (usize, usize)>;

/// All that is shown at a terminal.
pub struct Screen {
    /// One bar that holds all live lines as its message, so that each redraw is one drawing.
    live: ProgressBar,
    out: Sink,
    err: Sink,
    styles: (Style, Style),
    widths: Widths,
    /// What will be written at the next batch: true for standard output.
    batch: Vec<(bool, String)>,
    size: usize,
    step: Option<Step>,
    counts: BTreeMap<(String, String), Count>,
    turn: usize,
    attach: Attach,
    /// A person is being asked: nothing is drawn.
    asking: bool,
    /// Summaries: they stand at the end, whatever steps come after them, so that they are still there when somebody looks.
    summary: Vec<String>,
    /// The run's last lines: held until nothing else waits, so that they are the last.
    last: Option<Vec<String>>,
    /// Where earlier runs are, and what the newest like this one took.
    memory: Option<Memory>,
    past: Option<Past>,
    /// The play, the node that was heard of last, and since when it goes on.
    play: String,
    node: String,
    since: Instant,
}

impl Screen {
    /// A screen that draws bars on `target` and writes lines to `(stdout, stderr)` in their styles
    /// and widths.
    pub fn new(target: ProgressDrawTarget, sinks: (Sink, Sink), styles: (Style, Style), widths: Widths) -> Self {
        let live = ProgressBar::with_draw_target(None, target);
        // The text is laid out here: widths and marks are ours to decide.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            live.set_style(style);
        }
        Self {
            live,
            out: sinks.0,
            err: sinks.1,
            styles,
            widths,
            batch: Vec::new(),
            size: 0,
            step: None,
            counts: BTreeMap::new(),
            turn: 0,
            attach: Attach::default(),
            asking: false,
            summary: Vec::new(),
            last: None,
            memory: None,
            past: None,
            play: String::new(),
            node: String::new(),
            since: Instant::now(),
        }
    }

    /// Shows events until nothing more comes.
    pub fn show(mut self, window: &Window) {
        let mut drawn = Instant::now();
        loop {
            let patience = if self.asking { REDRAW } else { REDRAW.saturating_sub(drawn.elapsed()) };
            let ended = match window.next(patience) {
                Seen::Event(event) => {
                    self.take(&event);
                    false
                }
                Seen::Skipped(count) => {
                    let width = (self.widths)().1.max(render::NARROWEST);
                    let text = format!("({})", render::skipped(count));
                    let lines = render::wrap(&text, width.saturating_sub(2));
                    self.add(false, lines.into_iter().map(|row| format!("  {row}")).collect());
                    false
                }
                Seen::Quiet => {
                    self.end();
                    false
                }
                Seen::End => true,
            };
            if ended {
                self.end();
                self.clear();
                self.write();
                return;
            }
            if self.asking || drawn.elapsed() >= REDRAW || self.size > BATCH {
                self.write();
                if drawn.elapsed() >= REDRAW && !self.asking {
                    self.redraw();
                    drawn = Instant::now();
                }
            }
        }
    }

    fn add(&mut self, to_out: bool, lines: Vec<String>) {
        for line in lines {
            self.size += line.len() + 1;
            match self.batch.last_mut() {
                Some((same, text)) if *same == to_out => {
                    text.push('\n');
                    text.push_str(&line);
                }
                _ => self.batch.push((to_out, line)),
            }
        }
    }

    /// Writes the batch above the bars.
    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        self.size = 0;
        let (out, err) = (&mut self.out, &mut self.err);
        self.live.suspend(|| {
            for (to_out, text) in &batch {
                let sink = if *to_out { &mut *out } else { &mut *err };
                sink.put(&format!("{text}\n"));
            }
        });
    }

    fn end(&mut self) {
        if let Some(lines) = self.last.take() {
            self.add(true, lines);
        }
    }

    fn take(&mut self, event: &Stamped) {
        self.end();
        let attach = self.attach.see(&event.event);
        let to_out = is_result(&event.event);
        let widths = (self.widths)();
        let (width, style) = if to_out { (widths.0, self.styles.0) } else { (widths.1, self.styles.1) };
        if let Event::Line { host, .. } | Event::Progress { host, .. } | Event::JobStarting { host, .. } = &event.event
            && self.node != *host
        {
            self.node = render::one_line(host, self.styles.1);
        }
        match &event.event {
            Event::PlayStarted { play, .. } => {
                if self.past.is_none() {
                    self.past = self.memory.as_ref().and_then(|memory| memory.of(play));
                }
                self.play = render::one_line(play, self.styles.1);
            }
            Event::Progress { what, host, done, total, unit } => {
                self.count(event.at, (what, host), *done, *total, unit);
                return;
            }
            Event::Line { text, .. } if is_for_the_log(text) => return,
            Event::Summary { .. } => {
                self.summary.push(String::new());
                self.summary.extend(render(event, width, style));
                return;
            }
            Event::TaskStarted { task, number, of, .. } => self.begin(task, *number, *of),
            Event::TaskEnded { host, .. } => self.forget(host),
            Event::RunEnded { .. } => self.clear(),
            Event::Asking { .. } => {
                self.asking = true;
                self.live.set_message("");
            }
            Event::Answered { .. } => self.asking = false,
            _ => {}
        }
        let lines = render(event, width, style);
        // A blank line before what begins a part, so that the eye finds it.
        if matches!(event.event, Event::PlayStarted { .. } | Event::Failed { .. }) {
            self.add(to_out, vec![String::new()]);
        }
        if matches!(event.event, Event::RunEnded { .. }) {
            let attach = attach.map(|text| render::wrap(&render::one_line(&text, style), width.max(render::NARROWEST)));
            let mut lines = lines;
            if let Some(past) = &self.past {
                let text = format!("  last time it took {} in all", human_seconds(past.seconds));
                lines.splice(0..0, render::wrap(&text, width.max(render::NARROWEST)));
            }
            let mut all = std::mem::take(&mut self.summary);
            all.extend(lines);
            all.extend(attach.unwrap_or_default());
            self.last = Some(all);
        } else {
            self.add(to_out, lines);
        }
    }

    fn begin(&mut self, task: &str, number: usize, of: usize) {
        self.counts.clear();
        let place = if of >= number && of > 0 { format!("[{number}/{of}] ") } else { String::new() };
        // What took no time last time is not worth a word.
        let last = self.past.as_ref().and_then(|past| past.steps.get(task)).copied().filter(|seconds| *seconds >= 1.0);
        self.step = Some(Step { text: render::one_line(task, self.styles.1), since: Instant::now(), place, last });
    }

    fn count(&mut self, at: jiff::Timestamp, key: (&str, &str), done: u64, total: Option<u64>, unit: &str) {
        let key = (key.0.to_owned(), key.1.to_owned());
        let count = self.counts.entry(key.clone()).or_insert_with(|| Count {
            meter: Meter::new(at, done),
            unit: unit.to_owned(),
            done,
            total,
        });
        count.meter.feed(at, done);
        (count.done, count.total) = (done, total);
        if total.is_some_and(|total| done >= total) {
            let text = render::progress(&key.0, done, total, unit, Some(&count.meter));
            let took = human_seconds(count.meter.elapsed(at).as_secs_f64());
            self.counts.remove(&key);
            let lead = if key.1.is_empty() { String::new() } else { format!("{}: ", key.1) };
            let width = (self.widths)().1.max(render::NARROWEST);
            let text = render::one_line(&format!("{lead}{text}, took {took}"), self.styles.1);
            let lines =
                render::wrap(&text, width.saturating_sub(2)).into_iter().map(|row| format!("  {row}")).collect();
            self.add(false, lines);
        }
    }

    /// A task ended on a host: its counts stand still.
    fn forget(&mut self, host: &str) {
        self.counts.retain(|(_, of), _| of != host);
    }

    fn clear(&mut self) {
        self.counts.clear();
        self.step = None;
        self.live.finish_and_clear();
    }

    /// Lays the live lines out anew.
    fn redraw(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        let width = (self.widths)().1.max(render::NARROWEST) - 1;
        let style = self.styles.1;
        let mut lines = Vec::new();
        if let Some(step) = &self.step {
            let frames: &[char] = if style.unicode {
                &['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
            } else {
                &['|', '/', '-', '\\']
            };
            let frame = frames.get(self.turn % frames.len()).copied().unwrap_or(' ');
            lines.push(live_step(frame, step, step.since.elapsed(), width, style));
            let all = self.past.as_ref().map(|past| past.seconds);
            lines.extend(live_run(&self.play, &self.node, self.since.elapsed(), all, width, style));
        }
        for ((what, host), count) in self.counts.iter().take(MOST_COUNTS) {
            lines.push(live_count(what, host, count, width, style));
        }
        if self.counts.len() > MOST_COUNTS {
            lines.push(format!("  and {} more", self.counts.len() - MOST_COUNTS));
        }
        if !lines.is_empty() || !self.live.message().is_empty() {
            self.live.set_message(lines.join("\n"));
        }
    }
}

fn cut(text: &str, width: usize, style: Style) -> String {
    let tail = if style.unicode { "…" } else { "..." };
    if render::text_width(text) <= width {
        text.to_owned()
    } else {
        console::truncate_str(text, width, tail).into_owned()
    }
}

/// `2 min 5 s of about 12 min`: what it takes now, and what it took last time.
fn elapsed_of(elapsed: Duration, last: Option<f64>) -> String {
    let now = match elapsed.as_secs() {
        // No tenths: they would only flicker.
        seconds @ 0..10 => format!("{seconds} s"),
        seconds => human_seconds(seconds as f64),
    };
    match last {
        Some(last) => format!("{now} of about {}", human_seconds(last)),
        None => now,
    }
}

/// `⠋ [4/10] Take the Gravity backup  2 min 5 s of about 12 min`: the time stays; first what is to be expected gives way,
/// then the place, then the text.
fn live_step(frame: char, step: &Step, elapsed: Duration, width: usize, style: Style) -> String {
    let short = match elapsed.as_secs() {
        0 => String::new(),
        _ => format!("  {}", elapsed_of(elapsed, None)),
    };
    let long = if short.is_empty() { String::new() } else { format!("  {}", elapsed_of(elapsed, step.last)) };
    let wanted = 2 + render::text_width(&step.place) + render::text_width(&step.text);
    let time = if wanted + render::text_width(&long) <= width { long } else { short };
    let room = width.saturating_sub(2 + render::text_width(&time));
    let place =
        if render::text_width(&step.place) + render::text_width(&step.text) <= room { step.place.as_str() } else { "" };
    format!("{frame} {place}{}{time}", cut(&step.text, room.saturating_sub(render::text_width(place)), style))
}

/// `  Back up prod, prod-1, 3 min 2 s of about 15 min in all`: where it goes on and how long it has; from the left it gives
/// way to a narrow window.
fn live_run(
    play: &str,
    node: &str,
    elapsed: Duration,
    last: Option<f64>,
    width: usize,
    style: Style,
) -> Option<String> {
    if play.is_empty() {
        return None;
    }
    let time = format!("{} in all", elapsed_of(elapsed, last));
    let with_node = [play, node, &time].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(", ");
    let short = format!("{play}, {} in all", elapsed_of(elapsed, None));
    let tries = [with_node, format!("{play}, {time}"), short, play.to_owned()];
    let fits = tries.iter().find(|text| render::text_width(text) + 2 <= width).unwrap_or(&tries[3]);
    Some(format!("  {}", cut(fits, width.saturating_sub(2), style)))
}

/// A bar where the total is known, then the figures; where it is narrow, first the bar gives way, then
/// the name, the figures last.
fn live_count(what: &str, host: &str, count: &Count, width: usize, style: Style) -> String {
    let lead = if host.is_empty() { String::new() } else { format!("{host}: ") };
    let name = render::one_line(&format!("{lead}{what}"), style);
    let figures =
        render::one_line(&render::amounts(count.done, count.total, &count.unit, Some(&count.meter), false), style);
    let room = width.saturating_sub(2 + 2 + render::text_width(&figures));
    let wanted = render::text_width(&name);
    let total = count.total.filter(|total| *total > 0);
    let bar = [20, 10].into_iter().find(|bar| total.is_some() && bar + 3 + wanted <= room);
    let (bar, room) = match (bar, total) {
        (Some(size), Some(total)) => {
            let part = (count.done as f64 / total as f64).clamp(0.0, 1.0);
            let full = ((part * size as f64) as usize).min(size);
            let (on, off) = if style.unicode { ("█", "░") } else { ("#", "-") };
            (format!("[{}{}] ", on.repeat(full), off.repeat(size - full)), room - size - 3)
        }
        _ => (String::new(), room),
    };
    let line = if room < 8 { format!("  {figures}") } else { format!("  {bar}{}  {figures}", cut(&name, room, style)) };
    cut(&line, width, style)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn count(done: u64, total: Option<u64>) -> Count {
        let start: jiff::Timestamp = "2026-11-23T04:15:00Z".parse().unwrap();
        let mut meter = Meter::new(start, 0);
        for second in 1..=10_u64 {
            let at = start + jiff::SignedDuration::from_secs(i64::try_from(second).unwrap());
            meter.feed(at, done * second / 10);
        }
        Count { meter, unit: "bytes".to_owned(), done, total }
    }

    #[test]
    fn live_lines_give_way_from_the_bar_to_the_name() {
        let style = Style { colour: false, unicode: true };
        let half = count(600 << 20, Some(1200 << 20));
        assert_eq!(
            live_count("gravity.tar.gz", "prod-1", &half, 100, style),
            "  [██████████░░░░░░░░░░] prod-1: gravity.tar.gz  600 MiB of 1.2 GiB, 60.0 MiB/s, 10 s left"
        );
        assert_eq!(
            live_count("gravity.tar.gz", "prod-1", &half, 60, style),
            "  prod-1: gravit…  600 MiB of 1.2 GiB, 60.0 MiB/s, 10 s left"
        );
        assert_eq!(
            live_count("gravity.tar.gz", "prod-1", &count(600 << 20, None), 100, style),
            "  prod-1: gravity.tar.gz  600 MiB, 60.0 MiB/s"
        );
        let step =
            Step { text: "Gravity backup".into(), since: Instant::now(), place: "[4/10] ".into(), last: Some(720.0) };
        let after = Duration::from_secs(125);
        assert_eq!(live_step('x', &step, after, 80, style), "x [4/10] Gravity backup  2 min 5 s of about 12 min");
        assert_eq!(live_step('x', &step, after, 40, style), "x [4/10] Gravity backup  2 min 5 s");
        assert_eq!(live_step('x', &step, after, 30, style), "x Gravity backup  2 min 5 s");
        assert_eq!(
            live_run("Back up prod", "prod-1", after, Some(900.0), 80, style).unwrap(),
            "  Back up prod, prod-1, 2 min 5 s of about 15 min in all"
        );
        assert_eq!(
            live_run("Back up prod", "prod-1", after, None, 40, style).unwrap(),
            "  Back up prod, prod-1, 2 min 5 s in all"
        );
        assert_eq!(
            live_run("Restore into dr", "dr-1", after, Some(900.0), 39, style).unwrap(),
            "  Restore into dr, 2 min 5 s in all"
        );
        for width in 39..120 {
            for style in [style, Style::BARE] {
                for total in [None, Some(0), Some(1200 << 20), Some(1)] {
                    let line = live_count("日本語 archive", "prod-1", &count(600 << 20, total), width, style);
                    assert!(render::text_width(&line) <= width, "{width}: {line}");
                    let step = Step {
                        text: "日本語 ".repeat(30),
                        since: Instant::now(),
                        place: "[4/10] ".into(),
                        last: Some(700.0),
                    };
                    let line = live_step('x', &step, Duration::from_secs(125), width, style);
                    assert!(render::text_width(&line) <= width && line.ends_with("  2 min 5 s"), "{width}: {line}");
                    let line =
                        live_run("Back up 日本語", "prod-1", Duration::from_secs(125), Some(700.0), width, style);
                    assert!(render::text_width(&line.unwrap()) <= width, "{width}");
                }
            }
        }
    }
}
