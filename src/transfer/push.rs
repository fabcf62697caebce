//! A file from here to a node, through sudo: resumed at the byte, proved by the node's own digest.
//!
//! What lives here: the way of the bytes there and what proves that they arrived. What does not:
//! which file it is and what is done with it there (modules).

use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::remote::{Session, Way};

/// What is to be delivered.
#[derive(Debug, Clone)]
pub struct Push {
    /// The host, for messages.
    pub host: String,
    /// The file here.
    pub source: PathBuf,
    /// Its size in bytes, as its manifest says.
    pub bytes: u64,
    /// Its digest, as its manifest says.
    pub sha256: Sha256,
    /// Absolute path of the file there, in a folder that is ours alone on the node: made 0700 when it is missing, refused when it
    /// is a symbolic link, belongs to another user or is writable by others.
    pub destination: String,
    /// How long ferry tries to get a lost connection back without a byte of progress.
    pub patience: Duration,
}

/// A file that was delivered, and what was proved about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Its size in bytes.
    pub bytes: u64,
    /// Equal in what was read here and in what the node read back from its file.
    pub sha256: Sha256,
    /// The tool that made the node's digest.
    pub node_digest_tool: String,
    /// How often the connection was lost on the way.
    pub cuts: u32,
    /// Bytes that were there already from an earlier attempt.
    pub resumed_at: u64,
    /// How long it took.
    pub took: Duration,
}

/// Delivers one file. `progress` hears the count of bytes that the node has and the total.
///
/// # Errors
/// [`Kind::Bad`] when the file here is not what its manifest says; [`Kind::Unreachable`] when the
/// connection did not come back within the patience; [`Kind::Refused`] when the folder there is not ours alone or the node has no tool
/// for a digest; [`Kind::Failed`] when the node's disk is full.
pub async fn push(
    _way: &Way,
    _control: &Session,
    push: &Push,
    _progress: impl FnMut(u64, u64),
) -> Result<Delivered, Failure> {
    Err(Failure::new(Kind::Bug, "delivering a file is not built yet").on(&push.host))
}
