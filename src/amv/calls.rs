//! How the script is called, and what its end means.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::report::{Validation, Verdict, read_report};
use crate::digest::Sha256;
use crate::gravity::{redact, strip_ansi};
use crate::remote::command::Nul;
use crate::remote::quote;
use crate::secret::clean;

/// Our own exit code: the script was never run.
const NEVER: i32 = 113;

/// What the script is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// `-a backup`
    Backup,
    /// `-a restore`
    Restore,
}

/// `-s`: half of a backup. Its values are not documented; these are the ones that earlier drafts name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    /// Users, databases, retention policies.
    Meta,
    /// The measurements.
    Data,
}

/// Which options the script says that it knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// The letters of the options in its usage text; empty when it gave none.
    pub letters: Vec<char>,
    /// True when its usage text says that a restore takes a name and a folder instead of a full path.
    pub restore_by_name: bool,
    /// The usage text, cleaned.
    pub text: String,
}

impl Usage {
    /// Reads the answer to `-h`.
    pub fn read(output: &[u8]) -> Self {
        let text: String = strip_ansi(&String::from_utf8_lossy(output))
            .lines()
            .map(|line| clean(line.as_bytes()))
            .take(80)
            .collect::<Vec<_>>()
            .join("\n");
        let mut letters: Vec<char> = Vec::new();
        for word in text.split(|c: char| c.is_whitespace() || "[]|<>(),=;`'\"".contains(c)) {
            let Some(rest) = word.strip_prefix('-') else { continue };
            let rest = rest.trim_end_matches([':', '.']);
            // `-v`, and options written together as `-va`; `--help` and `-backup` are none.
            if rest.len() <= 3 && !rest.is_empty() && rest.chars().all(|c| "avfdsh".contains(c)) {
                letters.extend(rest.chars());
            }
        }
        letters.sort_unstable();
        letters.dedup();
        let lower = text.to_lowercase();
        let by_name = lower.lines().any(|line| {
            line.contains("restore") && line.contains("name") && line.contains("-d") && !line.contains("full path")
        });
        Self { letters, restore_by_name: by_name && !lower.contains("full path"), text }
    }

    /// Whether an option may be used: known, or nothing is known.
    pub fn takes(&self, letter: char) -> bool {
        self.letters.is_empty() || self.letters.contains(&letter)
    }
}

/// A backup to run.
#[derive(Debug, Clone)]
pub struct AmvBackup {
    /// Absolute path of the copy of the script.
    pub script: String,
    /// Digest of that copy.
    pub script_sha256: Sha256,
    /// The name, without `.tar.gz`: one that was never used.
    pub name: String,
    /// Absolute path of the folder for the archive.
    pub dir: String,
    /// Half of it only.
    pub half: Option<Half>,
    /// What the script knows.
    pub usage: Usage,
    /// Lines of the log that begin with it are ours.
    pub marker: String,
}

/// A restore to run.
#[derive(Debug, Clone)]
pub struct AmvRestore {
    /// Absolute path of the copy of the script.
    pub script: String,
    /// Digest of that copy.
    pub script_sha256: Sha256,
    /// Absolute path of the archive on the node.
    pub file: String,
    /// The digest that it must have.
    pub sha256: Sha256,
    /// What the script knows.
    pub usage: Usage,
    /// Lines of the log that begin with it are ours.
    pub marker: String,
}

/// What every script begins with: sudo's own search path, a marker, a digest that cannot be passed over.
const COMMON: &str = r#"
PATH=/sbin:/bin:/usr/sbin:/usr/bin; export PATH
say() { printf '\n%s %s\n' "$M" "$*"; }
never() { say "never $*"; exit 113; }
sum() {
  if command -v sha256sum >/dev/null 2>&1; then s=$(sha256sum <"$1") && s=${s%% *}
  elif command -v openssl >/dev/null 2>&1; then s=$(openssl dgst -sha256 -r <"$1") && s=${s%% *}
  elif command -v shasum >/dev/null 2>&1; then s=$(shasum -a 256 <"$1") && s=${s%% *}
  else never "no tool for sha256 on this node"; fi
}
[ "$(id -u)" = 0 ] || never "not root"
[ -f "$S" ] && [ ! -L "$S" ] || never "the copy of the script is gone"
sum "$S"; [ "$s" = "$H" ] || never "the copy of the script has changed: $s"
"#;

const BACKUP: &str = r#"
mkdir -p -m 0700 "$D" || never "the folder cannot be made: $D"
f=$D/$N.tar.gz
if [ -e "$f" ] || [ -L "$f" ]; then never "$f exists already"; fi
say begin backup
cd "${S%/*}" || never "the folder of the copy is gone"
set -- -a backup -f "$N" -d "$D"
"#;

const RESTORE: &str = r#"
[ -f "$F" ] && [ ! -L "$F" ] || never "the archive is not there: $F"
sum "$F"; [ "$s" = "$A" ] || never "digest $s instead of $A"
say begin restore
cd "${S%/*}" || never "the folder of the copy is gone"
"#;

/// The script for `sh` that runs a backup, once.
///
/// # Errors
/// A path holds a NUL, which no command line can carry.
pub fn backup_script(job: &AmvBackup) -> Result<String, Nul> {
    let mut options = String::new();
    if job.usage.takes('v') {
        options.push_str(" -v");
    }
    if let Some(half) = job.half {
        options.push_str(match half {
            Half::Meta => " -s meta",
            Half::Data => " -s data",
        });
    }
    Ok(format!(
        "M={}\nS={}\nH={}\nN={}\nD={}\numask 077\n{COMMON}{BACKUP}bash \"$S\"{} \"$@\"\nrc=$?\n[ -f \"$f\" ] && chmod 0600 \"$f\"\nsay \"end $rc\"\nexit \"$rc\"\n",
        quote(&job.marker)?,
        quote(&job.script)?,
        job.script_sha256,
        quote(&job.name)?,
        quote(job.dir.trim_end_matches('/'))?,
        options,
    ))
}

/// The script for `sh` that runs a restore, once. Its question comes to the job's own input.
///
/// # Errors
/// As [`backup_script`].
pub fn restore_script(job: &AmvRestore) -> Result<String, Nul> {
    let (dir, base) = job.file.rsplit_once('/').unwrap_or(("", &job.file));
    let file = if job.usage.restore_by_name { base.trim_end_matches(".tar.gz") } else { &job.file };
    let verbose = if job.usage.takes('v') { " -v" } else { "" };
    Ok(format!(
        "M={}\nS={}\nH={}\nF={}\nA={}\numask 077\n{COMMON}{RESTORE}bash \"$S\"{verbose} -a restore -f {} -d {}\nrc=$?\nsay \"end $rc\"\nexit \"$rc\"\n",
        quote(&job.marker)?,
        quote(&job.script)?,
        job.script_sha256,
        quote(&job.file)?,
        job.sha256,
        quote(file)?,
        quote(dir)?,
    ))
}

/// How a run of the script ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Exit code 0, and nothing in its output speaks against it.
    Done,
    /// It was never run; our own words.
    NeverRan(String),
    /// It ended with 0, and its own report names differences.
    Mismatch(Vec<String>),
    /// It failed; its words.
    Failed(String),
    /// It ended without having been answered, or was told no; its words. Nothing was erased.
    Aborted(String),
    /// It is not known whether it ran to its end.
    Unknown(String),
}

impl Outcome {
    /// Judges the end of a job by its exit code and its whole output, as far as it was kept. `marker` as in the job.
    pub fn of(rc: i32, log: &[u8], marker: &str, action: Action) -> (Self, Validation) {
        let text = strip_ansi(&String::from_utf8_lossy(log)).replace('\r', "\n");
        let ours: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix(marker)).map(str::trim).collect();
        let report = if action == Action::Restore { read_report(log) } else { Validation::default() };
        let never = ours.iter().find_map(|line| line.strip_prefix("never "));
        if let (NEVER, Some(why)) = (rc, never) {
            return (Self::NeverRan(words(why)), report);
        }
        let ended = ours.iter().rev().find_map(|line| line.strip_prefix("end ")).and_then(|rc| rc.parse::<i32>().ok());
        match (rc, ended) {
            (0, Some(0)) => {
                let wrong: Vec<String> = report.mismatches().iter().map(|row| row.line.clone()).collect();
                if report.verdict() == Verdict::Mismatch {
                    (Self::Mismatch(wrong), report)
                } else {
                    (Self::Done, report)
                }
            }
            (rc, Some(own)) if rc == own => {
                let last = last_words(&text, marker);
                let lower = last.to_lowercase();
                let aborted = action == Action::Restore
                    && ["abort", "cancel", "not approved", "declined", "user chose", "exiting without"]
                        .iter()
                        .any(|word| lower.contains(word));
                (if aborted { Self::Aborted(last) } else { Self::Failed(format!("exit code {rc}: {last}")) }, report)
            }
            _ => (Self::Unknown(format!("exit code {rc}, and the script's own end was not seen")), report),
        }
    }
}

fn words(text: &str) -> String {
    clean(redact(text).as_bytes()).chars().take(400).collect()
}

/// The last lines that the script itself said.
fn last_words(text: &str, marker: &str) -> String {
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(marker)).collect();
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default();
    if last.is_empty() { "it said nothing".to_owned() } else { words(&last.join(" | ")) }
}

/// How long a look at the script's usage may take.
pub(super) const USAGE_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read() {
        let vendor = "Usage: amv-backup-restore.sh [-v] -a backup|restore [-f file] [-d dir] [-s meta|data] [-h]\n  -a  action\n -f  name of the backup; for restore the full path of the .tar.gz\n -d directory\n";
        let usage = Usage::read(vendor.as_bytes());
        assert_eq!(usage.letters, ['a', 'd', 'f', 'h', 's', 'v']);
        assert!(!usage.restore_by_name && usage.takes('v'));
        let old = Usage::read(b"usage: script -va ACTION\n restore: give the name with -f and its folder with -d\n");
        assert!(old.restore_by_name && old.takes('v') && old.takes('a') && !old.takes('s'));
        let none = Usage::read(b"");
        assert!(none.letters.is_empty() && none.takes('v') && !none.restore_by_name);
        assert_eq!(Usage::read(b"--help -backup").letters, Vec::<char>::new());
    }

    #[test]
    fn ends_are_judged() {
        let m = "ferry-amv-1";
        let end = |text: &str, rc: i32| format!("\n{m} begin restore\n{text}\n\n{m} end {rc}\n");
        let of = |rc, text: &str| Outcome::of(rc, text.as_bytes(), m, Action::Restore).0;
        assert_eq!(of(0, &end("databases: OK", 0)), Outcome::Done);
        assert!(matches!(of(0, &end("databases: expected 4 actual 3", 0)), Outcome::Mismatch(rows) if rows.len() == 1));
        assert!(matches!(of(1, &end("Aborted by user", 1)), Outcome::Aborted(_)));
        assert!(
            matches!(of(1, &end("kubectl: connection refused", 1)), Outcome::Failed(text) if text.contains("refused"))
        );
        assert!(matches!(of(137, "\nferry-amv-1 begin restore\nhalf"), Outcome::Unknown(_)));
        assert!(matches!(of(0, "no end was seen"), Outcome::Unknown(_)));
        assert!(
            matches!(of(113, &format!("\n{m} never digest a instead of b\n")), Outcome::NeverRan(text) if text.contains("digest"))
        );
        // The script saying our word does not make it ours.
        assert!(matches!(of(113, &end("never mind", 113)), Outcome::Failed(_)));
        assert!(matches!(of(0, &end("databases: OK", 0).replace('\n', "\r\n")), Outcome::Done));
    }
}
