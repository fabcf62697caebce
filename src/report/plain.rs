//! The window for log files, CI and screen readers (`--output plain`, and whatever is no terminal).
//!
//! What lives here: `TIME WHO | TEXT` lines on standard output: nothing moves, nothing is drawn,
//! nothing is wrapped. `WHO` is the host, or `ferry`. What does not: the texts (render).

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::Duration;

use super::ci::{Ci, Folds};
use super::figures::{Meter, human_seconds};
use super::history::{Memory, Past};
use super::render::{self, Attach, Style};
use super::{Output, Sink};
use crate::event::{Event, Seen, Stamped, Window};

/// A count is told this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// Shows events on standard output, on a thread of its own.
///
/// # Errors
/// The system gives no further thread.
pub fn spawn(window: Window, memory: Option<Memory>) -> std::io::Result<JoinHandle<()>> {
    let style = Style { colour: false, ..Style::stdout() };
    std::thread::Builder::new().name("plain".to_owned()).spawn(move || {
        show_in(&window, &mut Sink::stdout(), style, Ci::here(), memory.as_ref());
    })
}

/// Shows events on `sink` until nothing more comes.
pub fn show(window: &Window, sink: &mut Sink, style: Style) {
    show_in(window, sink, style, None, None);
}

/// As [`show`], folded for a CI, and compared with what earlier runs took.
pub fn show_in(window: &Window, sink: &mut Sink, style: Style, ci: Option<Ci>, memory: Option<&Memory>) {
    let mut folds = Folds::new(ci);
    let mut past: Option<Past> = None;
    let mut meters = Meters::default();
    let mut text = String::new();
    let mut last = jiff::Timestamp::now();
    let mut attach = Attach::default();
    // The run's last lines: held until nothing else waits, so that they are the last.
    let mut held = Vec::new();
    loop {
        let patience = if text.is_empty() && held.is_empty() { Duration::from_secs(3600) } else { Duration::ZERO };
        let seen = window.next(patience);
        if let Seen::Event(event) = &seen {
            if let (Event::PlayStarted { play, .. }, Some(memory), None) = (&event.event, memory, &past) {
                past = memory.of(play);
            }
            let fold = folds.before(event);
            if !fold.is_empty() {
                // The run's last lines are ours to hold back, and nothing folds behind them.
                sink.put(&text);
                text.clear();
                sink.command(&fold);
            }
        }
        let mut now = match &seen {
            Seen::Event(event) => {
                let mut now = std::mem::take(&mut held);
                last = event.at;
                now.extend(meters.lines(event, style));
                if let Some(line) = attach.see(&event.event) {
                    now.extend(prefixed(event, &[render::one_line(&line, style)], style));
                }
                now
            }
            Seen::Skipped(count) => vec![format!("{} ferry | {}", second(last), render::skipped(*count))],
            Seen::Quiet | Seen::End => std::mem::take(&mut held),
        };
        if matches!(&seen, Seen::Event(event) if matches!(event.event, Event::RunEnded { .. })) {
            held = std::mem::take(&mut now);
            if let (Seen::Event(event), Some(past)) = (&seen, &past) {
                let last = format!("  last time it took {} in all", human_seconds(past.seconds));
                held.splice(0..0, prefixed(event, &[last], style));
            }
        }
        for line in now {
            text.push_str(&line);
            text.push('\n');
        }
        if matches!(seen, Seen::Quiet | Seen::End) || text.len() > 64 << 10 {
            sink.put(&text);
            text.clear();
        }
        if matches!(seen, Seen::End) {
            return;
        }
    }
}

fn second(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The counts that move, each told now and then.
#[derive(Default)]
struct Meters(BTreeMap<(String, String), (Meter, jiff::Timestamp, bool)>);

impl Meters {
    fn lines(&mut self, event: &Stamped, style: Style) -> Vec<String> {
        let Event::Progress { what, host, done, total, unit } = &event.event else {
            if let Event::TaskEnded { host, .. } = &event.event {
                self.0.retain(|(_, of), _| of != host);
            }
            return lines(event, style);
        };
        let full = *total == Some(*done);
        let key = (what.clone(), host.clone());
        let text = match self.0.get_mut(&key) {
            None => {
                self.0.insert(key, (Meter::new(event.at, *done), event.at, full));
                render::progress(what, *done, *total, unit, None)
            }
            Some((meter, told, was_full)) => {
                meter.feed(event.at, *done);
                let due = event.at.duration_since(*told).unsigned_abs() >= PROGRESS_EVERY;
                if *was_full && full || !due && !full {
                    return Vec::new();
                }
                (*told, *was_full) = (event.at, full);
                render::progress(what, *done, *total, unit, Some(meter))
            }
        };
        prefixed(event, &[text], style)
    }
}

/// One event as plain lines.
pub fn lines(event: &Stamped, style: Style) -> Vec<String> {
    // Failures that were found together may be on different hosts.
    if let Event::Failed { failure } = &event.event
        && !failure.more.is_empty()
    {
        let mut first = failure.clone();
        let more = std::mem::take(&mut first.more);
        let each = std::iter::once(first).chain(more);
        return each
            .flat_map(|failure| lines(&Stamped { event: Event::Failed { failure }, ..*event }, style))
            .collect();
    }
    prefixed(event, &render::body(event, usize::MAX, style, Output::Plain), style)
}

fn prefixed(event: &Stamped, lines: &[String], style: Style) -> Vec<String> {
    let who = render::host_of(&event.event).unwrap_or("ferry");
    let lead = format!("{} {} |", second(event.at), render::one_line(who, style));
    lines.iter().map(|line| format!("{lead} {line}").trim_end().to_owned()).collect()
}
