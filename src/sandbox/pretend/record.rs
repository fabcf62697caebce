//! What the pretend tools really did, in their own words: an append-only file that the nodes of a
//! cluster share.
//!
//! What lives here: the line, writing it and reading it. What does not: judging it (tests do).
//! ferry never writes here, so nobody has to believe what ferry says of itself.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Node, append};
use crate::digest::Hasher;

/// The file's name in the folder that the nodes of a cluster share. One JSON object a line.
pub const RECORD: &str = "record.jsonl";

/// One thing that a pretend tool did or was asked to do to a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When, by this machine's clock.
    pub at: jiff::Timestamp,
    /// Gravity's name of the cluster.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// `gravity`, `amv` or `kubectl`.
    pub tool: String,
    /// `backup`, `restore`, `delete-job`.
    pub act: String,
    /// For gravity `called`, `opened` (the archive, before it is unpacked), `hook-began`, `hook-ended`,
    /// `ended` (the command line, by itself). For amv `called`, `opened`, `saved` (the data of before),
    /// `erased`, `written`, `ended`. For kubectl `done`.
    pub step: String,
    /// What belongs together: 6 hex digits, with gravity those of the staging folder.
    #[serde(default)]
    pub id: String,
    /// The arguments; those of the command line that this step belongs to.
    #[serde(default)]
    pub args: Vec<String>,
    /// sha256 of the archive as it was used or made, in hex, where the step is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The exit code, with `ended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rc: Option<u8>,
    /// How the hook ended (`Complete`, `Failed`, `Deleted`), or what else there is to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Record {
    /// A line of this node, now.
    pub(crate) fn new(node: &Node, tool: &str, act: &str, step: &str, id: &str) -> Self {
        Self {
            at: jiff::Timestamp::now(),
            cluster: node.cluster.clone(),
            node: node.hostname.clone(),
            tool: tool.to_owned(),
            act: act.to_owned(),
            step: step.to_owned(),
            id: id.to_owned(),
            args: Vec::new(),
            sha256: None,
            bytes: None,
            rc: None,
            note: String::new(),
        }
    }

    /// Says which archive this is about; one that cannot be read is left out.
    pub(crate) fn archive(mut self, path: &Path) -> Self {
        let Ok(mut file) = std::fs::File::open(path) else { return self };
        let mut hasher = Hashing::default();
        if let Ok(bytes) = io::copy(&mut file, &mut hasher) {
            self.sha256 = Some(hasher.hex());
            self.bytes = Some(bytes);
        }
        self
    }

    /// Writes it, on disk before this returns. Somebody who may not write here changes nothing
    /// either, so that is no error.
    pub(crate) fn put(self, node: &Node) {
        if let Ok(text) = serde_json::to_string(&self) {
            let _ = append(&node.shared.join(RECORD), &format!("{text}\n"), true);
        }
    }

    /// True when this is that step.
    pub fn is(&self, tool: &str, act: &str, step: &str) -> bool {
        self.tool == tool && self.act == act && self.step == step
    }
}

/// Reads the record of one cluster from the folder that its nodes share, oldest first.
///
/// # Errors
/// The file cannot be read, or a line is none of ours.
pub fn read(shared: &Path) -> io::Result<Vec<Record>> {
    let text = match std::fs::read_to_string(shared.join(RECORD)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
}

/// Hashes what is written to it.
#[derive(Default)]
pub(crate) struct Hashing(Hasher);

impl Hashing {
    pub(crate) fn hex(self) -> String {
        self.0.finish().to_string()
    }
}

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
