//! A run as JUnit XML (`--junit FILE`), for what shows test results: each step on each host is a case, and the run as a whole
//! is the last one.
//!
//! What lives here: writing it from a journal, read twice, once for the counts and once for the cases, so that no size of a
//! journal matters. What does not: a library for it; those that there are keep all cases in memory and bring a calendar and
//! an XML reader along, for five elements.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::event::{Event, Outcome, Stamped};
use crate::failure::{Failure, Kind};
use crate::report::journal::{self, Reader};
use crate::report::render::exit_meaning;
use crate::secret::clean;

/// A text that is told, in characters.
const LONGEST: usize = 4_000;
/// Failures that the last case tells.
const MOST_FAILURES: usize = 50;

/// Text for an element or an attribute. What XML 1.0 cannot hold is written out.
fn xml(text: &str) -> String {
    let cut = text.char_indices().nth(LONGEST).map_or(text, |(at, _)| text.get(..at).unwrap_or_default());
    let mut out = String::with_capacity(cut.len() + 16);
    for (number, line) in cut.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        for c in clean(line.as_bytes()).chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
                c => out.push(c),
            }
        }
    }
    out
}

#[derive(Default)]
struct Counts {
    title: String,
    run: String,
    machine: String,
    began: Option<jiff::Timestamp>,
    cases: u64,
    failures: u64,
    errors: u64,
    skipped: u64,
    exit: Option<u8>,
    seconds: f64,
    told: Vec<Failure>,
}

fn count(dir: &Path) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    for event in Reader::open(&dir.join(journal::FILE))? {
        let Stamped { at, event, .. } = event?;
        match event {
            Event::RunStarted { run, machine, .. } if counts.began.is_none() => {
                (counts.run, counts.machine, counts.began) = (run, machine, Some(at));
            }
            Event::Plan { title, .. } if counts.title.is_empty() => counts.title = title,
            Event::TaskEnded { outcome, ignored, .. } => {
                counts.cases += 1;
                match outcome {
                    Outcome::Failed if !ignored => counts.failures += 1,
                    Outcome::Unreachable | Outcome::Unknown if !ignored => counts.errors += 1,
                    Outcome::Skipped => counts.skipped += 1,
                    _ => {}
                }
            }
            Event::Failed { failure } if counts.told.len() < MOST_FAILURES => counts.told.push(failure),
            Event::RunEnded { exit, seconds, .. } => (counts.exit, counts.seconds) = (Some(exit), seconds),
            _ => {}
        }
    }
    counts.cases += 1;
    counts.failures += u64::from(counts.exit != Some(0));
    Ok(counts)
}

/// Writes the run in `dir` to `path`.
///
/// # Errors
/// The journal cannot be read, or the file cannot be written.
pub fn write_file(dir: &Path, path: &Path) -> Result<(), Failure> {
    let counts = count(dir)?;
    let failed = |error: io::Error| {
        Failure::new(Kind::Failed, "the JUnit file could not be written").saw(format!("{}: {error}", path.display()))
    };
    let file = std::fs::File::create(path).map_err(failed)?;
    let mut to = BufWriter::new(file);
    begin(&mut to, &counts).map_err(failed)?;
    for event in Reader::open(&dir.join(journal::FILE))? {
        if let Event::TaskEnded { task, host, outcome, seconds, message, number, ignored, .. } = event?.event {
            case(&mut to, &task, &host, outcome, seconds, &message, number, ignored).map_err(failed)?;
        }
    }
    end(&mut to, &counts).and_then(|()| to.flush()).map_err(failed)
}

fn begin(to: &mut impl Write, counts: &Counts) -> io::Result<()> {
    let Counts { cases, failures, errors, skipped, seconds, .. } = counts;
    let title = if counts.title.is_empty() { "ferry" } else { &counts.title };
    let began = counts.began.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
    let tests = format!(
        "tests=\"{cases}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"{seconds:.3}\""
    );
    writeln!(to, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ferry\" {tests}>")?;
    writeln!(
        to,
        "  <testsuite name=\"{}\" hostname=\"{}\" timestamp=\"{began}\" {tests}>",
        xml(title),
        xml(&counts.machine)
    )?;
    writeln!(
        to,
        "    <properties><property name=\"run\" value=\"{}\"/><property name=\"ferry\" value=\"{}\"/></properties>",
        xml(&counts.run),
        env!("CARGO_PKG_VERSION")
    )
}

#[allow(clippy::too_many_arguments)]
fn case(
    to: &mut impl Write,
    task: &str,
    host: &str,
    outcome: Outcome,
    seconds: f64,
    message: &str,
    number: usize,
    ignored: bool,
) -> io::Result<()> {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    write!(to, "    <testcase classname=\"{}\" name=\"[{number}] {}\" time=\"{seconds:.3}\"", xml(host), xml(task))?;
    let said = xml(message);
    match outcome {
        Outcome::Failed if !ignored => writeln!(to, "><failure type=\"failed\" message=\"{said}\"/></testcase>"),
        Outcome::Unreachable if !ignored => {
            writeln!(to, "><error type=\"unreachable\" message=\"{said}\"/></testcase>")
        }
        Outcome::Unknown if !ignored => writeln!(to, "><error type=\"unknown\" message=\"{said}\"/></testcase>"),
        Outcome::Skipped => writeln!(to, "><skipped message=\"{said}\"/></testcase>"),
        _ if message.is_empty() => writeln!(to, "/>"),
        _ => writeln!(to, "><system-out>{said}</system-out></testcase>"),
    }
}

fn end(to: &mut impl Write, counts: &Counts) -> io::Result<()> {
    write!(to, "    <testcase classname=\"ferry\" name=\"the run\" time=\"{:.3}\"", counts.seconds)?;
    match counts.exit {
        Some(0) => writeln!(to, "/>")?,
        exit => {
            let message = exit
                .map_or("it did not come to its end".to_owned(), |exit| format!("exit {exit}: {}", exit_meaning(exit)));
            write!(to, "><failure type=\"exit\" message=\"{}\">", xml(&message))?;
            for failure in &counts.told {
                let code = failure.code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default();
                writeln!(to, "{}{}", code, xml(&failure.to_string()))?;
                for (word, text) in [("why", &failure.why), ("mend", &failure.mend)] {
                    if let Some(text) = text {
                        writeln!(to, "  {word}: {}", xml(text))?;
                    }
                }
            }
            writeln!(to, "</failure></testcase>")?;
        }
    }
    writeln!(to, "  </testsuite>\n</testsuites>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_the_file() {
        assert_eq!(xml("a<b>&\"\u{1b}[2J\u{0}\u{ffff}"), "a&lt;b&gt;&amp;&quot;\\x1b[2J\\x00\u{fffd}");
    }
}
