//! The windows behind the event door.
//!
//! What lives here: readers of one stream of events. [`journal`] keeps them on disk and reads them
//! back, [`terminal`], [`plain`] and [`json`] show them, [`mod@render`] turns one event into lines of
//! text without any terminal, [`tables`] and [`figures`] lay out listings and numbers, [`html`] makes pages.
//! What does not: anything that acts. This room sees the ground floor's words and nothing else of
//! the program, so whatever can be shown live can be shown again from a journal.
//!
//! This room (with `cli`) is where ferry prints. It still writes through [`Sink`] rather than the
//! print macros: those panic when a pipe is closed, and a closed pipe must not stop a run.

use std::io::{IsTerminal as _, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crate::event::Window;

pub mod ansible;
pub mod ci;
pub mod exec;
pub mod figures;
pub mod history;
pub mod html;
pub mod journal;
pub mod json;
pub mod junit;
pub mod plain;
pub mod render;
pub mod tables;
pub mod terminal;
pub mod tree;

pub use history::Memory;
pub use journal::Journal;
pub use render::{Style, print_failure, render};
pub use tables::Table;

/// What `--output` says: who reads along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// A person: colours, bars and live lines at a terminal, else plain lines.
    #[default]
    Human,
    /// A program: the journal's events on stdout, one JSON object a line.
    Json,
    /// A log file or a screen reader: lines with times, no bars, no drawing.
    Plain,
    /// Only failures and the last line.
    Quiet,
}

impl std::str::FromStr for Output {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            "plain" => Ok(Self::Plain),
            "quiet" => Ok(Self::Quiet),
            other => Err(format!("{other:?} is no form of output: human, json, plain or quiet was expected")),
        }
    }
}

/// Opens the window that `output` asks for, on a thread of its own. Join the handle after
/// [`Events::close`](crate::event::Events::close), so that the last lines are shown. With `memory` it tells what
/// earlier runs of the same play took.
///
/// # Errors
/// The system gives no further thread.
pub fn spawn(window: Window, output: Output, memory: Option<Memory>) -> std::io::Result<JoinHandle<()>> {
    match output {
        Output::Json => json::spawn(window),
        Output::Plain => plain::spawn(window, memory),
        Output::Quiet => terminal::spawn_quiet(window),
        Output::Human => {
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            // A live line is drawn with cursor movements: what cannot do those gets plain lines.
            let live = std::io::stderr().is_terminal() && !dumb;
            if live { terminal::spawn(window, memory) } else { plain::spawn(window, memory) }
        }
    }
}

/// A place that text goes to, which may go away. A reader that closed its end (`| head`) ends the
/// writing, never the run: from then on text is dropped.
pub struct Sink {
    to: Box<dyn Write + Send>,
    gone: bool,
    /// Who reads commands out of what is written: nothing but [`command`](Self::command) gives it one.
    ci: Option<ci::Ci>,
    /// Whether it is written to the log as well ([`log_to`]).
    logged: bool,
}

/// Where all that is shown is written to besides (`log_path`), and who runs ferry.
struct Log {
    file: std::fs::File,
    user: String,
}

static LOG: OnceLock<Mutex<Log>> = OnceLock::new();

/// From here on what goes to standard output and standard error is added to the file at `path` as well, line by line as
/// Ansible's `log_path` has it. The first call counts. The file is for its owner alone where it is made here.
///
/// # Errors
/// It cannot be opened.
pub fn log_to(path: &Path, user: String) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let _ = LOG.set(Mutex::new(Log { file, user }));
    Ok(())
}

impl Log {
    /// A log that cannot be written is no reason to end the work.
    fn write(&mut self, text: &str) {
        let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S,%3f").to_string();
        let plain = console::strip_ansi_codes(text);
        let level = if plain.starts_with("[WARNING]") {
            "WARNING"
        } else if plain.starts_with("[ERROR]") || plain.starts_with("fatal:") {
            "ERROR"
        } else {
            "INFO"
        };
        let head = format!("{now} p={} u={} n=ferry {level}| ", std::process::id(), self.user);
        let lines: String =
            plain.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("{head}{line}\n")).collect();
        let _ = self.file.write_all(lines.as_bytes());
    }
}

impl Sink {
    /// Text goes to `to`.
    pub fn new(to: impl Write + Send + 'static) -> Self {
        Self { to: Box::new(to), gone: false, ci: None, logged: false }
    }

    /// Text goes to this process's standard output.
    pub fn stdout() -> Self {
        Self { ci: ci::Ci::here(), logged: true, ..Self::new(std::io::stdout()) }
    }

    /// Text goes to this process's standard error.
    pub fn stderr() -> Self {
        Self { ci: ci::Ci::here(), logged: true, ..Self::new(std::io::stderr()) }
    }

    /// False once nobody reads any more.
    pub fn open(&self) -> bool {
        !self.gone
    }

    /// Writes `text` and flushes it. It is written as it is, but that a CI finds no command in it.
    pub fn put(&mut self, text: &str) {
        let text = ci::harmless(self.ci, text);
        self.command(&text);
    }

    /// Writes `text` as it is and flushes it: ferry's own commands to the CI are in it.
    pub fn command(&mut self, text: &str) {
        if let Some(log) = LOG.get().filter(|_| self.logged) {
            log.lock().unwrap_or_else(PoisonError::into_inner).write(text);
        }
        let mut rest = text.as_bytes();
        while !rest.is_empty() && !self.gone {
            match self.to.write(rest) {
                Ok(0) => self.gone = true,
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) => self.wait_or_end(&error),
            }
        }
        while !self.gone {
            match self.to.flush() {
                Ok(()) => return,
                Err(error) => self.wait_or_end(&error),
            }
        }
    }

    fn wait_or_end(&mut self, error: &std::io::Error) {
        match error.kind() {
            std::io::ErrorKind::Interrupted => {}
            // Somebody made the pipe non-blocking (some CI runners do). This thread may wait.
            std::io::ErrorKind::WouldBlock => std::thread::sleep(std::time::Duration::from_millis(10)),
            _ => self.gone = true,
        }
    }

    /// Writes each of `lines` with its line end, in one piece.
    pub fn lines<S: AsRef<str>>(&mut self, lines: &[S]) {
        let mut text = String::new();
        for line in lines {
            text.push_str(line.as_ref());
            text.push('\n');
        }
        self.put(&text);
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sink(open: {})", self.open())
    }
}

/// Columns of a terminal; where there is none the text may be as wide as it likes.
fn columns(term: &console::Term) -> usize {
    if term.is_term() { usize::from(term.size().1) } else { usize::MAX }
}

/// Columns of the terminal behind standard output; without one the text may be as wide as it likes.
pub fn stdout_width() -> usize {
    columns(&console::Term::stdout())
}

/// Writes lines to standard output; at a terminal what is longer than it is wide goes on under it, two blanks in.
pub fn say(text: &str) {
    Sink::stdout().put(&fitted(text, stdout_width()));
}

/// Writes lines to standard error, as [`say`] does.
pub fn say_aside(text: &str) {
    Sink::stderr().put(&fitted(text, columns(&console::Term::stderr())));
}

fn fitted(text: &str, width: usize) -> String {
    if width == usize::MAX {
        return text.to_owned();
    }
    let width = width.max(render::NARROWEST);
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let mut rows = render::wrap(line, width);
        if rows.len() > 1 {
            let first = rows.remove(0);
            // What follows is laid out anew: it has two columns less.
            let rest = line.get(first.len()..).unwrap_or_default().trim_start();
            rows = render::wrap(rest, width - 2).into_iter().map(|row| format!("  {row}")).collect();
            rows.insert(0, first);
        }
        out.push_str(&rows.join("\n"));
        out.push_str(end);
    }
    out
}
