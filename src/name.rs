//! Names, parsed once at the door, so that no bare `String` stands for one further inside.
//!
//! What lives here: the forms of names and how they are read and made. What does not: what a name
//! refers to (inventory, catalog and job know that).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not the name it was read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{seen:?} is not a {kind}: {expected}")]
pub struct BadName {
    /// What kind of name was wanted, in the operator's words.
    pub kind: &'static str,
    /// The text as it was given.
    pub seen: String,
    /// The form that was expected.
    pub expected: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $expected:literal, $test:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                let test: fn(&str) -> bool = $test;
                if test(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName { kind: $kind, seen: text.to_owned(), expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// A name that can also be a file name: no separator, no control character, not `.` or `..`.
fn plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text != "."
        && text != ".."
        && !text.chars().any(|c| c == '/' || c == '\\' || c.is_control() || c.is_whitespace())
}

/// `20261122T041500Z-7f3a`: a UTC second and four hexadecimal digits.
fn stamped(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 21
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            16 => *byte == b'-',
            17.. => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            _ => byte.is_ascii_digit(),
        })
}

name!(
    /// A host as the inventory calls it (`inventory_hostname`), not its address.
    HostName, "host name", "one word without slashes, blanks or control characters", plain
);
name!(
    /// A group of the inventory.
    GroupName, "group name", "one word without slashes, blanks or control characters", plain
);
name!(
    /// A cluster: the inventory group whose hosts are its nodes. Names a folder of the catalog.
    ClusterName, "cluster name", "an inventory group: letters, digits, '_', '-' and '.', not beginning with a dot or a dash",
    |text| plain(text)
        && !text.starts_with(['.', '-'])
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
);
name!(
    /// A recovery point: `YYYYMMDDTHHMMSSZ-xxxx`, UTC and four hexadecimal digits.
    PointId, "point id", "YYYYMMDDTHHMMSSZ-xxxx, such as 20261122T041500Z-7f3a", stamped
);
name!(
    /// One invocation of ferry: the same form as [`PointId`].
    RunId, "run id", "YYYYMMDDTHHMMSSZ-xxxx, such as 20261122T041455Z-9c1e", stamped
);
name!(
    /// A job on a node: 128 random bits as 32 lower-case hexadecimal digits. The job protocol
    /// builds paths from it on the node, so nothing else is ever let in.
    JobId, "job id", "32 lower-case hexadecimal digits",
    |text| text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
);

fn stamp(at: jiff::Timestamp) -> String {
    let tail: u16 = rand::random();
    format!("{}-{tail:04x}", at.strftime("%Y%m%dT%H%M%SZ"))
}

impl PointId {
    /// A new id for a point that begins at `at`.
    pub fn at(at: jiff::Timestamp) -> Self {
        Self(stamp(at))
    }
}

impl RunId {
    /// A new id for a run that begins at `at`.
    pub fn at(at: jiff::Timestamp) -> Self {
        Self(stamp(at))
    }
}

impl JobId {
    /// A new random id.
    pub fn random() -> Self {
        let bits: u128 = rand::random();
        Self(format!("{bits:032x}"))
    }
}

/// The names of `all` that are nearest to `seen`, nearest first, at most `most`: for "did you mean".
pub fn nearest<'a>(seen: &str, all: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let mut ranked: Vec<(usize, &str)> = all
        .into_iter()
        .map(|name| (distance(seen, name), name))
        .filter(|(far, name)| *far <= name.chars().count().max(seen.chars().count()).div_ceil(2))
        .collect();
    ranked.sort();
    ranked.dedup();
    ranked.into_iter().take(most).map(|(_, name)| name).collect()
}

/// Levenshtein's distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let best = (diagonal + usize::from(x != *y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_we_make_are_ids_that_we_read() {
        let now = jiff::Timestamp::now();
        assert_eq!(PointId::at(now).as_str().parse::<PointId>().unwrap().as_str().len(), 21);
        assert!(JobId::random().as_str().parse::<JobId>().is_ok());
    }

    #[test]
    fn names_that_would_leave_their_folder_are_refused() {
        for bad in ["", ".", "..", "a/b", "a\nb", "a b", "\u{1b}[0m"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?}");
        }
        assert!("-x".parse::<ClusterName>().is_err());
        assert!("20261122T041500Z-7f3g".parse::<PointId>().is_err());
        assert!("20261122T041500Z-7f3a/".parse::<PointId>().is_err());
        assert!("../../../../../../../../etc/pass".parse::<JobId>().is_err());
    }

    #[test]
    fn nearest_names_first() {
        assert_eq!(nearest("prdo", ["dr", "prod", "mains"], 2), ["prod"]);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
