//! A command as a value: words that know whether they are plain or already shell. Quoted by one
//! function, safe to log by construction: a secret is never a word, it goes to standard input.

use std::fmt;

/// Quotes one word for a POSIX shell (`sh`, dash, bash, busybox) so that it arrives as it is.
/// A word of harmless characters stays bare, so that logs are easy to read.
///
/// NUL cannot be in an argument: it ends the word in every shell, so it is refused.
///
/// # Errors
/// The word holds a NUL.
pub fn quote(word: &str) -> Result<String, Nul> {
    if word.contains('\0') {
        return Err(Nul);
    }
    let harmless =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '=' | ',' | '+' | '@' | '%');
    if !word.is_empty() && word.chars().all(harmless) {
        return Ok(word.to_owned());
    }
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}

/// A word with a NUL, which no command line can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a NUL cannot be part of a command line")]
pub struct Nul;

/// A command line for a POSIX shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    text: String,
}

impl Command {
    /// From words that are quoted here, each one argument.
    ///
    /// # Errors
    /// A word holds a NUL.
    pub fn words<I, W>(words: I) -> Result<Self, Nul>
    where
        I: IntoIterator<Item = W>,
        W: AsRef<str>,
    {
        let quoted: Result<Vec<String>, Nul> = words.into_iter().map(|word| quote(word.as_ref())).collect();
        Ok(Self { text: quoted?.join(" ") })
    }

    /// Text that is shell already: pipes, redirections and all. Never made from a variable
    /// without [`quote`].
    pub fn shell(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// As the shell reads it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn said(shell: &[&str], line: &str) -> Option<Vec<u8>> {
        let mut command = std::process::Command::new(shell.first()?);
        command.args(shell.get(1..)?).arg("-c").arg(line);
        Some(command.output().ok()?.stdout)
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]
        /// Every argument goes through real shells and comes out as it was.
        #[test]
        fn words_arrive_as_they_are(words in proptest::collection::vec("[^\\x00]{0,12}", 1..12)) {
            let mut all = vec!["printf".to_owned(), "%s\\001".to_owned()];
            all.extend(words.iter().cloned());
            let line = Command::words(&all).unwrap();
            let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\x01"].concat()).collect();
            let mut shells = 0;
            for shell in [&["dash"][..], &["bash", "--posix"], &["busybox", "sh"]] {
                if let Some(seen) = said(shell, line.as_str()) {
                    shells += 1;
                    assert_eq!(seen, expected, "{shell:?} {line}");
                }
            }
            assert!(shells >= 1, "no shell to test with");
        }
    }

    #[test]
    fn nul_is_refused_and_plain_words_stay_bare() {
        assert_eq!(quote("a\0b"), Err(Nul));
        assert_eq!(
            Command::words(["gravity", "backup", "--timeout=60m", "a b", ""]).unwrap().as_str(),
            "gravity backup --timeout=60m 'a b' ''"
        );
    }
}
