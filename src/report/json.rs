//! The window for programs (`--output json`).
//!
//! What lives here: each event as one JSON object a line, in the journal's own form, except that
//! lines stand in full where the journal keeps their place in the host's log. What does not: the
//! form itself (event).

use std::thread::JoinHandle;
use std::time::Duration;

use super::Sink;
use crate::event::{Event, Seen, Stamped, Window};

/// Shows events on standard output, on a thread of its own.
///
/// # Errors
/// The system gives no further thread.
pub fn spawn(window: Window) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("json".to_owned()).spawn(move || show(&window, &mut Sink::stdout()))
}

/// Shows events on `sink` until nothing more comes. Flushes whenever nothing waits.
pub fn show(window: &Window, sink: &mut Sink) {
    let mut text = String::new();
    let mut last = (jiff::Timestamp::now(), 0);
    loop {
        let patience = if text.is_empty() { Duration::from_secs(3600) } else { Duration::ZERO };
        let ended = match window.next(patience) {
            Seen::Event(event) => {
                last = (event.at, event.seq);
                push(&mut text, &event);
                false
            }
            Seen::Skipped(count) => {
                let event = Event::Warning { host: None, text: super::render::skipped(count) };
                push(&mut text, &Stamped { at: last.0, seq: last.1, event });
                false
            }
            Seen::Quiet => {
                sink.put(&text);
                text.clear();
                false
            }
            Seen::End => true,
        };
        if ended || text.len() > 64 << 10 {
            sink.put(&text);
            text.clear();
        }
        if ended {
            return;
        }
    }
}

fn push(text: &mut String, event: &Stamped) {
    // Events are made of strings, numbers and JSON values: none of them can fail to be written.
    if let Ok(line) = serde_json::to_string(event) {
        // The same value in other letters: a CI that reads along would take this for a command of its own.
        text.push_str(&line.replace("##[", "##\\u005b"));
        text.push('\n');
    }
}
