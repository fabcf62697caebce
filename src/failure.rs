//! What went wrong, as data.
//!
//! What lives here: one value that says what happened, where, through which chain, what was seen,
//! why it matters and what mends it, and the exit code that it leads to. What does not: the texts
//! of single errors (each room has its own) and how they are shown (report).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The class of a failure. It decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Settings, inventory, playbook, vault or catalog are wrong; no host was touched. Exit 1.
    CouldNotStart,
    /// A host failed, or what was made did not pass. Exit 2.
    Failed,
    /// A host that the work needed was not reached. Exit 4.
    Unreachable,
    /// The command line is wrong. Exit 5.
    Usage,
    /// No host matched, or there is no inventory. Exit 6.
    NoHost,
    /// A gate said no. Exit 7.
    Refused,
    /// What became of it is not known, or it still runs on a node. Exit 8.
    Unknown,
    /// Something in the catalog is missing, too old or damaged. Exit 9.
    Bad,
    /// Stopped by a signal, nothing left running. Exit 99.
    Interrupted,
    /// A bug in ferry. Exit 250.
    Bug,
}

impl Kind {
    /// The exit code of product.md.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::CouldNotStart => 1,
            Self::Failed => 2,
            Self::Unreachable => 4,
            Self::Usage => 5,
            Self::NoHost => 6,
            Self::Refused => 7,
            Self::Unknown => 8,
            Self::Bad => 9,
            Self::Interrupted => 99,
            Self::Bug => 250,
        }
    }

    /// Which of several failures decides: 250, 8, 7, 4, 2, 9, then those that stop before any work.
    fn weight(self) -> u8 {
        match self {
            Self::Bug => 9,
            Self::Unknown => 8,
            Self::Refused => 7,
            Self::Unreachable => 6,
            Self::Failed => 5,
            Self::Bad => 4,
            Self::Interrupted => 3,
            Self::NoHost => 2,
            Self::Usage => 1,
            Self::CouldNotStart => 0,
        }
    }

    /// The one of two kinds that decides the exit code.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }
}

/// A place in a file that the operator wrote.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The file as the operator would name it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Something that went wrong. Texts may hold a host's words: they pass the event door before
/// anybody sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Class, and with it the exit code.
    pub kind: Kind,
    /// Its stable code (`ferry explain CODE`). The event door puts it on; before, there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// One sentence: what happened.
    pub what: String,
    /// The host it happened on or on the way to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// Where in the operator's files.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<Place>,
    /// The lines of that file around the place, with a caret.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub snippet: Option<String>,
    /// What was seen (a host's words, a value).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seen: Option<String>,
    /// What was expected, or why it matters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// What to do; a command where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mend: Option<String>,
    /// The steps that led there, outermost first ("ssh prod-1", "through bastion", "host key").
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub chain: Vec<String>,
    /// True when the same attempt may succeed a moment later (a reset, a full queue).
    #[serde(default)]
    pub again: bool,
    /// Further failures that were found at the same time: several errors are told at once.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub more: Vec<Failure>,
}

impl Failure {
    /// A failure of this kind that says `what`.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            code: None,
            what: what.into(),
            host: None,
            place: None,
            snippet: None,
            seen: None,
            why: None,
            mend: None,
            chain: Vec::new(),
            again: false,
            more: Vec::new(),
        }
    }

    /// On or on the way to this host.
    #[must_use]
    pub fn on(mut self, host: impl fmt::Display) -> Self {
        self.host = Some(host.to_string());
        self
    }

    /// At this place of a file.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Finds the place of byte or character position (line, column from 1) in `text` and keeps a snippet of it.
    #[must_use]
    pub fn in_text(mut self, file: &str, text: &str, line: usize, column: usize) -> Self {
        self.place = Some(Place { file: file.to_owned(), line, column });
        self.snippet = Some(snippet(text, line, column));
        self
    }

    /// What was seen.
    #[must_use]
    pub fn saw(mut self, seen: impl Into<String>) -> Self {
        self.seen = Some(seen.into());
        self
    }

    /// What was expected, or why it matters.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// What to do.
    #[must_use]
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// Adds an outer step to the chain.
    #[must_use]
    pub fn within(mut self, step: impl Into<String>) -> Self {
        self.chain.insert(0, step.into());
        self
    }

    /// The same attempt may succeed a moment later.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// With its stable code, and those of the failures found with it.
    #[must_use]
    pub fn coded(mut self) -> Self {
        self.code = Some(crate::codes::of(&self).to_owned());
        self.more = self.more.into_iter().map(Failure::coded).collect();
        self
    }

    /// One failure out of many: the first leads, the others follow. `None` when there is none.
    pub fn all(failures: impl IntoIterator<Item = Failure>) -> Option<Self> {
        let mut failures = failures.into_iter();
        let mut first = failures.next()?;
        for mut next in failures {
            first.kind = first.kind.worse(next.kind);
            let more = std::mem::take(&mut next.more);
            first.more.push(next);
            first.more.extend(more);
        }
        Some(first)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(host) = &self.host {
            write!(f, "{host}: ")?;
        }
        f.write_str(&self.what)?;
        if let Some(seen) = &self.seen {
            write!(f, " (seen: {seen})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Up to three lines of `text` that end at `line`, with a caret under `column`. Tabs become one
/// blank, so that the caret stands right; control characters are written out.
pub fn snippet(text: &str, line: usize, column: usize) -> String {
    let mut out = String::new();
    let width = line.to_string().len();
    for (number, content) in text.lines().enumerate().map(|(at, content)| (at + 1, content)) {
        if number + 1 < line || number > line {
            continue;
        }
        let content = crate::secret::clean(content.replace('\t', " ").as_bytes());
        let content: String = content.chars().take(160).collect();
        out.push_str(&format!("{number:>width$} | {content}\n"));
    }
    out.push_str(&format!("{:>width$} | {}^", "", " ".repeat(column.saturating_sub(1).min(160))));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_kind_decides() {
        let order = [Kind::Bug, Kind::Unknown, Kind::Refused, Kind::Unreachable, Kind::Failed, Kind::Bad];
        for (at, worse) in order.iter().enumerate() {
            for better in order.iter().skip(at) {
                assert_eq!(better.worse(*worse), *worse);
                assert_eq!(worse.worse(*better), *worse);
            }
        }
    }

    #[test]
    fn snippet_points_at_the_column() {
        assert_eq!(snippet("a: 1\n\tb: [\nc", 2, 5), "1 | a: 1\n2 |  b: [\n  |     ^");
    }
}
