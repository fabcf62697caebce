//! The script's validation report: databases, measurements, retention policies, series cardinality.
//!
//! Its exact form is not public, so this reader is tolerant and says what it could not tell. A line that names
//! a difference is a mismatch whatever the exit code is; a report of which nothing was understood is
//! unknown, never a success.

use serde::Serialize;

use crate::gravity::{redact, strip_ansi};
use crate::secret::clean;

/// What a row of the report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// What was expected is there.
    Match,
    /// The line could not be judged.
    Unknown,
    /// Something is missing or different.
    Mismatch,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `databases`, `measurements`, `retention policies`, `series cardinality`, or `validation` for a line about the whole.
    pub what: String,
    /// What it says.
    pub verdict: Verdict,
    /// The line, cleaned and redacted.
    pub line: String,
}

/// The report as far as it was understood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Validation {
    /// Its rows, in order.
    pub rows: Vec<Row>,
}

impl Validation {
    /// The report as a whole: a mismatch in any row; a match only when rows were understood and none is in doubt.
    pub fn verdict(&self) -> Verdict {
        if self.rows.iter().any(|row| row.verdict == Verdict::Mismatch) {
            Verdict::Mismatch
        } else if self.rows.iter().any(|row| row.verdict == Verdict::Match) {
            Verdict::Match
        } else {
            Verdict::Unknown
        }
    }

    /// The rows that say something is wrong.
    pub fn mismatches(&self) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.verdict == Verdict::Mismatch).collect()
    }
}

/// So many rows are kept; a mismatch is kept even beyond.
const MOST: usize = 500;

/// What a line is about, and how the report calls it.
const SUBJECTS: [(&str, &str); 6] = [
    ("cardinalit", "series cardinality"),
    ("retention polic", "retention policies"),
    ("measurement", "measurements"),
    ("database", "databases"),
    ("series", "series cardinality"),
    ("validation", "validation"),
];

const BAD: [&str; 12] = [
    "mismatch",
    "missing",
    "differ",
    "not equal",
    "not match",
    "does not",
    "doesn't",
    "failed",
    "failure",
    "invalid",
    "not found",
    "unequal",
];
const GOOD: [&str; 9] = ["match", "ok", "equal", "identical", "same", "success", "passed", "validated", "verified"];

/// Reads what is a report in the output of a restore (or backup).
pub fn read_report(output: &[u8]) -> Validation {
    let text = strip_ansi(&String::from_utf8_lossy(output));
    let mut rows: Vec<Row> = Vec::new();
    for line in text.lines() {
        let line = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().trim();
        let lower = line.to_lowercase();
        let Some((_, what)) = SUBJECTS.iter().find(|(word, _)| lower.contains(word)) else { continue };
        let verdict = judge(&lower);
        // A line that only announces ("Validating databases...") says nothing.
        if verdict == Verdict::Unknown && !lower.chars().any(|c| c.is_ascii_digit()) {
            continue;
        }
        if rows.len() < MOST || verdict == Verdict::Mismatch && rows.len() < 2 * MOST {
            let line: String = clean(redact(line).as_bytes()).chars().take(300).collect();
            rows.push(Row { what: (*what).to_owned(), verdict, line });
        }
    }
    Validation { rows }
}

/// `no mismatch`, `0 missing`: a bad word that is denied.
fn denied(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let words: Vec<&str> = before.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let near = words.iter().rev().take(3);
    let after = text.get(at..).unwrap_or_default();
    let counted = after.split_once([':', '=']).is_some_and(|(_, rest)| {
        matches!(rest.split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty()), Some("0" | "none" | "no"))
    });
    counted || near.clone().any(|word| matches!(*word, "no" | "0" | "without" | "zero" | "none"))
}

fn judge(line: &str) -> Verdict {
    let bad = BAD.iter().any(|word| line.match_indices(word).any(|(at, _)| !denied(line, at)));
    if bad {
        return Verdict::Mismatch;
    }
    if let Some((left, right)) = two_sides(line) {
        return if left == right { Verdict::Match } else { Verdict::Mismatch };
    }
    let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric()).collect();
    let good = GOOD.iter().any(|good| {
        words.iter().any(|word| word == good || *word == format!("{good}es") || *word == format!("{good}ed"))
    });
    let denied_bad = BAD.iter().any(|word| line.contains(word));
    if good || denied_bad { Verdict::Match } else { Verdict::Unknown }
}

/// The two sides of a comparison in one line: `expected 5, actual 5`, `source: 5 target: 4`, `5 != 4`, `5 == 5`,
/// `| x | 5 | 5 |`, `5 vs 4`, `5/5`.
fn two_sides(line: &str) -> Option<(u128, u128)> {
    for (first, second) in [
        ("expected", "actual"),
        ("expected", "found"),
        ("expected", "got"),
        ("source", "target"),
        ("source", "restored"),
        ("backup", "restored"),
        ("before", "after"),
        ("original", "restored"),
        ("backup", "target"),
        ("old", "new"),
    ] {
        let (a, b) = (line.find(first), line.find(second));
        if let (Some(a), Some(b)) = (a, b)
            && let (Some(left), Some(right)) =
                (number_after(line, a + first.len()), number_after(line, b + second.len()))
        {
            return Some((left, right));
        }
    }
    for sign in ["!=", "<>", "==", " vs ", " vs. ", "->", "=>"] {
        if let Some((left, right)) = line.split_once(sign)
            && let (Some(left), Some(right)) = (last_number(left), number_after(right, 0))
        {
            return Some((left, right));
        }
    }
    if line.matches('|').count() >= 2 {
        let numbers: Vec<u128> = line.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
        if let [left, right] = numbers.as_slice() {
            return Some((*left, *right));
        }
    }
    // `restored 5/5`, `5 of 5`: only as whole words, so that a date or a path is none.
    let words: Vec<&str> = line.split_whitespace().collect();
    for word in &words {
        if let Some((left, right)) = word.trim_matches(['(', ')', ',', ';', '[', ']']).split_once('/')
            && let (Ok(left), Ok(right)) = (left.parse(), right.parse())
        {
            return Some((left, right));
        }
    }
    words.windows(3).find_map(|three| match three {
        [left, "of", right] => Some((
            left.trim_matches(['(', '[']).parse().ok()?,
            right.trim_matches([',', ')', ';', ']', '.']).parse().ok()?,
        )),
        _ => None,
    })
}

fn number_after(text: &str, at: usize) -> Option<u128> {
    let rest = text.get(at..)?;
    let start = rest.find(|c: char| c.is_ascii_digit())?;
    // Something else between the word and the number makes it another thing's number.
    if rest.get(..start)?.chars().any(|c| c == '|' || c == ';') {
        return None;
    }
    let digits: String = rest
        .get(start..)?
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == ',' || *c == '_')
        .filter(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

fn last_number(text: &str) -> Option<u128> {
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let number = |c: &char| c.is_ascii_digit() || *c == ',' || *c == '_';
    let backwards: String = text.get(..end)?.chars().rev().take_while(number).filter(char::is_ascii_digit).collect();
    backwards.chars().rev().collect::<String>().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_many_forms() {
        use Verdict::{Match, Mismatch, Unknown};
        for (line, wanted) in [
            ("Databases: expected 4, actual 4", Match),
            ("Databases: expected 4, actual 3", Mismatch),
            ("measurements source=120 target=120", Match),
            ("measurements source=120 target=119", Mismatch),
            ("retention policies: OK", Match),
            ("Retention policies ......... [ OK ]", Match),
            ("retention policies: FAILED", Mismatch),
            ("Series cardinality of cpu: 1,024 vs 1,024", Match),
            ("series cardinality of cpu: 1024 != 1000", Mismatch),
            ("series cardinality 1024 == 1024", Match),
            ("| measurements | 12 | 12 |", Match),
            ("| measurements | 12 | 11 |", Mismatch),
            ("databases match", Match),
            ("databases do not match", Mismatch),
            ("database telegraf is missing", Mismatch),
            ("no database is missing", Match),
            ("measurements: 0 missing", Match),
            ("missing measurements: 0", Match),
            ("missing measurements: 3", Mismatch),
            ("restored 5/5 databases", Match),
            ("restored 4/5 databases", Mismatch),
            ("5 of 5 databases restored", Match),
            ("4 of 5 databases restored", Mismatch),
            ("Validation passed", Match),
            ("Validation failed for measurements", Mismatch),
            ("\x1b[32mDatabases identical\x1b[0m\r", Match),
            ("databases: 4", Unknown),
            ("databases before 4 after 4", Match),
            ("measurement cpu differs", Mismatch),
            ("validation: mismatch in series cardinality", Mismatch),
        ] {
            let read = read_report(line.as_bytes());
            assert_eq!(read.rows.first().map(|row| row.verdict), Some(wanted), "{line}: {read:?}");
        }
        for line in ["Validating databases...", "Backing up node x:8088, db telegraf, rp autogen, shard 2...", ""] {
            assert_eq!(read_report(line.as_bytes()).verdict(), Unknown, "{line}");
        }
        assert_eq!(read_report(b"databases: OK\nmeasurements 5 != 4\nretention policies OK").verdict(), Mismatch);
        assert_eq!(read_report(b"databases: OK\nmeasurements: 7\n").verdict(), Match);
        let flood = "databases: OK\n".repeat(5000) + "database x is missing\n";
        let read = read_report(flood.as_bytes());
        assert!(read.rows.len() <= 2 * MOST && read.verdict() == Mismatch);
    }
}
