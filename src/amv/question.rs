//! The script's question, word for word, and the operator's pattern for it.
//!
//! The wording is not public. So a question is whatever stands last in the output while the job waits for
//! input; it is shown as it is, and only a pattern that the operator set answers it without a person.

use crate::failure::{Failure, Kind};
use crate::gravity::{redact, strip_ansi};
use crate::secret::clean;

/// The most that is shown of a question, in characters.
const MOST: usize = 2000;

/// A question as it stands in the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The last paragraph, cleaned and redacted; lines are separated by `\n`.
    pub text: String,
}

/// The question that the output ends with; `None` when it ends with nothing readable.
pub fn question(output: &[u8]) -> Option<Question> {
    let tail = output.get(output.len().saturating_sub(16 << 10)..).unwrap_or_default();
    let text = strip_ansi(&String::from_utf8_lossy(tail)).replace("\r\n", "\n");
    // A line that was drawn over ends with what stands in it last.
    let lines: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| clean(line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().as_bytes()))
        .collect();
    // Lines of ferry's own script part what the vendor's says.
    let begin = lines
        .iter()
        .rposition(|line| line.trim().is_empty() || line.starts_with("ferry-amv-"))
        .map_or(0, |empty| empty + 1);
    let paragraph = lines.get(begin..).unwrap_or_default();
    // A paragraph that is a whole log is not a question: its last lines are.
    let last = paragraph.get(paragraph.len().saturating_sub(6)..).unwrap_or_default().join("\n");
    let text: String = redact(last.trim()).chars().take(MOST).collect();
    (!text.is_empty()).then_some(Question { text })
}

/// The operator's pattern (`pce_amv_restore_question`).
#[derive(Debug, Clone)]
pub struct Pattern(Vec<String>, bool, bool);

/// Reads a pattern: its text must stand in the question, in any letter case; `*` stands for any text, also
/// over lines; `^` at the beginning and `$` at the end tie it to the question's.
///
/// # Errors
/// [`Kind::CouldNotStart`] when it would fit every question.
pub fn compile(pattern: &str) -> Result<Pattern, Failure> {
    let (start, rest) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (end, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    let parts: Vec<String> = rest.split('*').map(str::to_lowercase).collect();
    if parts.iter().map(|part| part.chars().filter(|c| c.is_alphanumeric()).count()).sum::<usize>() < 3 {
        return Err(Failure::new(Kind::CouldNotStart, "pce_amv_restore_question fits every question")
            .saw(format!("{pattern:?}"))
            .why("the answer erases data: a pattern has to name the question")
            .mend("write words of the question, such as: backed up and erased*continue"));
    }
    Ok(Pattern(parts, start, end))
}

impl Pattern {
    /// Whether this is the question that the pattern means.
    pub fn fits(&self, question: &Question) -> bool {
        let text = question.text.to_lowercase();
        let text = text.trim();
        let mut at = 0;
        for (number, part) in self.0.iter().enumerate() {
            let rest = text.get(at..).unwrap_or_default();
            let last = number + 1 == self.0.len();
            if number == 0 && self.1 {
                if !rest.starts_with(part.as_str()) {
                    return false;
                }
                at += part.len();
                if last && self.2 {
                    return at == text.len();
                }
                continue;
            }
            if last && self.2 {
                return rest.ends_with(part.as_str());
            }
            match rest.find(part.as_str()) {
                Some(found) => at += found + part.len(),
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_paragraph_is_the_question() {
        for (output, wanted) in [
            (
                "checking disk\n\nExisting data will be backed up and erased. Continue? (y/n): ",
                "Existing data will be backed up and erased. Continue? (y/n):",
            ),
            ("\x1b[1mContinue?\x1b[0m ", "Continue?"),
            ("log\r\n\r\nErase?\r\nType yes\r\n", "Erase?\nType yes"),
            ("x\n\nferry-amv-00ff begin restore\nErase? (y/n) ", "Erase? (y/n)"),
            ("10%\r50%\r100% done\nProceed [y/N] ", "100% done\nProceed [y/N]"),
            ("a\nb\nc\nd\ne\nf\ng\nh? ", "c\nd\ne\nf\ng\nh?"),
        ] {
            assert_eq!(question(output.as_bytes()).unwrap().text, wanted, "{output:?}");
        }
        assert_eq!(question(b""), None);
        assert_eq!(question(b"\n \n\r\n"), None);
        assert!(!question(b"x\x07\x1b]0;title\x07y? ").unwrap().text.chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn a_pattern_names_the_question() {
        let asked = Question { text: "Existing data in dr will be backed up\nand ERASED. Continue? (y/n)".to_owned() };
        for (pattern, fits) in [
            ("erased. continue", true),
            ("backed up*erased", true),
            ("erased*backed up", false),
            ("^existing data", true),
            ("^data", false),
            ("(y/n)$", true),
            ("continue?$", false),
            ("^existing*(y/n)$", true),
            ("delete everything", false),
        ] {
            let pattern_read = compile(pattern);
            if pattern == "(y/n)$" {
                assert!(pattern_read.is_err(), "two letters name nothing");
                continue;
            }
            assert_eq!(pattern_read.unwrap().fits(&asked), fits, "{pattern}");
        }
        for pattern in ["", "*", "^$", "?", "**", "y"] {
            assert_eq!(compile(pattern).unwrap_err().kind, Kind::CouldNotStart, "{pattern:?}");
        }
    }
}
