//! Settings of encryption at rest and of volumes: who may open archives, with what, and how large a volume is.
//!
//! What lives here: what is written, read and checked as far as no file must be opened for it. What does not: loading
//! keys (vault).

use std::path::PathBuf;

use crate::vault::age::wrong_recipient;

/// So large is a volume where nothing else is set, in bytes.
pub const VOLUME_SIZE: u64 = 64 << 30;
/// The smallest that is taken, in bytes: names have few digits.
pub const SMALLEST_VOLUME: u64 = 64 << 10;

/// Encryption at rest, as it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// Recipients: `age1…`, `ssh-ed25519 …`, `ssh-rsa …`, `passphrase`, or absolute paths of files with one a line. None:
    /// archives are not encrypted.
    pub recipients: Vec<String>,
    /// Files that open archives here, absolute: age's identities, private keys of SSH.
    pub identities: Vec<PathBuf>,
    /// Where a passphrase comes from.
    pub passphrase_from: Option<PassphraseFrom>,
    /// So many bytes of an archive are in one volume.
    pub volume_size: u64,
}

impl Default for Encryption {
    fn default() -> Self {
        Self { recipients: Vec::new(), identities: Vec::new(), passphrase_from: None, volume_size: VOLUME_SIZE }
    }
}

/// Where a passphrase comes from. It never stands in settings, nor on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassphraseFrom {
    /// It is asked for at the terminal.
    Prompt,
    /// The first line of a file, absolute.
    File(PathBuf),
    /// A variable of the environment, by its name.
    Variable(String),
}

/// Reads where a passphrase comes from: `prompt`, `file:PATH` or `env:NAME`.
///
/// # Errors
/// A sentence that does not show what was written: it may be the passphrase itself.
pub fn passphrase_from(text: &str) -> Result<PassphraseFrom, String> {
    let name = |text: &str| {
        !text.is_empty()
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match text.split_once(':') {
        None if text == "prompt" => Ok(PassphraseFrom::Prompt),
        Some(("file", path)) if !path.trim().is_empty() => Ok(PassphraseFrom::File(path.into())),
        Some(("env", variable)) if name(variable) => Ok(PassphraseFrom::Variable(variable.to_owned())),
        _ => Err("prompt, file:PATH or env:NAME is expected: where the passphrase comes from, never itself".to_owned()),
    }
}

/// Reads a size in bytes: `64GiB`, `500MiB`, `10GB`, `65536`.
///
/// # Errors
/// A sentence that says what is expected.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err("a whole number with a unit is expected, such as 64GiB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a whole number with a unit is expected, such as 64GiB".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "that is more than any disk holds".to_owned())
}

/// Reads the size of a volume.
///
/// # Errors
/// As [`size`]; it is too small.
pub fn volume_size(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes < SMALLEST_VOLUME {
        return Err(format!("a volume has {} KiB at least", SMALLEST_VOLUME >> 10));
    }
    Ok(bytes)
}

/// What is wrong with a recipient; `None`: it is one, or the path of a file.
pub fn wrong(text: &str) -> Option<String> {
    wrong_recipient(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_sources_are_read() {
        assert_eq!(volume_size("64GiB"), Ok(VOLUME_SIZE));
        assert_eq!(size("10 MB"), Ok(10_000_000));
        assert_eq!(size("65536"), Ok(65_536));
        for text in ["", "GiB", "1.5GiB", "-1", "5 apples", "99999999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(volume_size("1KiB").is_err_and(|said| said.contains("64 KiB")));
        assert_eq!(passphrase_from("env:FERRY_KEY"), Ok(PassphraseFrom::Variable("FERRY_KEY".into())));
        assert_eq!(passphrase_from("file:/a b"), Ok(PassphraseFrom::File("/a b".into())));
        assert_eq!(passphrase_from("prompt"), Ok(PassphraseFrom::Prompt));
        for text in ["", "hunter2", "env:", "env:a b", "file:", "stdin:x"] {
            assert!(passphrase_from(text).is_err_and(|said| !said.contains("hunter2")), "{text}");
        }
    }
}
