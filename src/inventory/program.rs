//! Inventories that a program prints.
//!
//! What lives here: starting it with `--list` and `--host`, and reading what it prints as JSON. What does not: what
//! groups and hosts become (read).

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value};

use crate::failure::{Failure, Kind};
use crate::secret::clean;

/// What a program printed is longer than this only by mistake.
const LONGEST: usize = 64 * 1024 * 1024;
/// So much of what it complained of is shown.
const SHOWN: usize = 2000;

/// What one call gave.
pub(super) struct Said {
    pub(super) map: Map<String, Value>,
    /// What it wrote to standard error.
    pub(super) complaint: String,
}

/// Why a call gave nothing.
pub(super) enum Silent {
    /// The system cannot run it: it is no program, whatever its mode says.
    NoProgram,
    Failed(Failure),
}

/// Runs the program with these words; `hide` names variables that it does not inherit.
pub(super) fn call(path: &Path, words: &[&str], hide: &[String]) -> Result<Said, Silent> {
    let wrong = |what: String| {
        Failure::new(Kind::CouldNotStart, what).mend(format!("run it by hand: {} {}", path.display(), words.join(" ")))
    };
    // A bare name would be looked for in PATH.
    let program = if path.is_absolute() { path.to_owned() } else { Path::new(".").join(path) };
    let mut command = Command::new(&program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in hide {
        command.env_remove(name);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            return Err(Silent::NoProgram);
        }
        Err(error) => {
            let failure = wrong(format!("the inventory program {} cannot be run", path.display()));
            return Err(Silent::Failed(failure.saw(error.to_string())));
        }
    };
    let complaint: String = clean_lines(&output.stderr).chars().take(SHOWN).collect();
    let told = |what: String| {
        let failure = wrong(what);
        Silent::Failed(if complaint.is_empty() { failure } else { failure.saw(complaint.clone()) })
    };
    if !output.status.success() {
        return Err(told(format!("the inventory program {} failed ({})", path.display(), output.status)));
    }
    if output.stdout.len() > LONGEST {
        return Err(told(format!("the inventory program {} printed more than 64 MiB", path.display())));
    }
    let text = match std::str::from_utf8(&output.stdout) {
        Ok(text) => text,
        Err(_) => return Err(told(format!("what {} printed is not text in UTF-8", path.display()))),
    };
    // `--host` may say nothing of a host.
    if text.trim().is_empty() && words.first() == Some(&"--host") {
        return Ok(Said { map: Map::new(), complaint });
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(map)) => Ok(Said { map, complaint }),
        Ok(_) => Err(told(format!("what {} printed is JSON, but no object", path.display()))),
        Err(error) => Err(told(format!("what {} printed is not JSON: {error}", path.display()))),
    }
}

fn clean_lines(bytes: &[u8]) -> String {
    let lines = bytes.split(|byte| *byte == b'\n').map(clean);
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}
