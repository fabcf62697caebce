//! What can be wrong with an archive, each with the place and with what was seen and expected.
//!
//! What lives here: the faults and their short names. What does not: how they are found.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place in the archive, in both of its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spot {
    /// Byte of the file, from 0. Exact for faults of gzip headers, trailers and of what lies between; for a fault in
    /// deflate or in the tar inside it tells how far the file had been read, which is a little further.
    pub compressed: u64,
    /// Which gzip member of the file, from 1.
    pub member: u64,
    /// Byte of the tar stream inside, from 0. Exact.
    pub tar: u64,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the file", self.compressed)?;
        if self.member > 1 {
            write!(f, " (gzip member {})", self.member)?;
        }
        write!(f, ", byte {} of the tar inside", self.tar)
    }
}

/// Why an archive is not whole. Values that come from the archive are cleaned of control characters and shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// A file of zero bytes.
    #[error("the file is empty: 0 bytes seen, a gzip-compressed tar expected")]
    EmptyFile,
    /// The file does not begin as gzip does.
    #[error("not gzip: the file begins with {seen} ({looks_like}), 1f 8b expected")]
    NotGzip {
        /// The first bytes in hexadecimal.
        seen: String,
        /// What the bytes look like.
        looks_like: String,
    },
    /// A gzip header has a field that cannot be.
    #[error("gzip header is wrong at {spot}: {field} is {seen}, {expected} expected")]
    GzipHeader {
        /// Where the field ends.
        spot: Spot,
        /// Which field.
        field: String,
        /// Its value.
        seen: String,
        /// What it may be.
        expected: String,
    },
    /// The deflate data is corrupt.
    #[error("compressed data is corrupt before {spot}: {why}")]
    Deflate {
        /// How far was read, and how much was decoded.
        spot: Spot,
        /// The decoder's word.
        why: String,
    },
    /// The CRC-32 of a gzip member does not fit its contents.
    #[error("CRC of gzip member {} is wrong, at {spot}: {stored:08x} is stored, the contents have {computed:08x}", spot.member)]
    Crc {
        /// Where the stored CRC lies.
        spot: Spot,
        /// The value in the file.
        stored: u32,
        /// The value of what was decoded.
        computed: u32,
    },
    /// The length (modulo 2^32) stored behind a gzip member does not fit its contents.
    #[error("length of gzip member {} is wrong, at {spot}: {stored} is stored, {computed} bytes (modulo 2^32) were decoded", spot.member)]
    Length {
        /// Where the stored length lies.
        spot: Spot,
        /// The value in the file, bytes modulo 2^32.
        stored: u32,
        /// What was decoded, bytes modulo 2^32.
        computed: u32,
    },
    /// The file ends inside a gzip member.
    #[error("cut: the file ends at {spot}, inside {inside}")]
    Cut {
        /// The end of the file.
        spot: Spot,
        /// What it ends in.
        inside: String,
    },
    /// Something follows the last gzip member that is neither a gzip member nor NUL padding.
    #[error("{seen} follow the last gzip member, at {spot}: the end of the file, or NUL bytes, expected")]
    TrailingJunk {
        /// The first strange byte.
        spot: Spot,
        /// What it is.
        seen: String,
    },
    /// A tar header's checksum does not fit.
    #[error("checksum of a tar header is wrong, at {spot}: {seen} is stored, the header has {computed:o} (octal)")]
    HeaderChecksum {
        /// The header.
        spot: Spot,
        /// The field as stored.
        seen: String,
        /// The sum of the header's bytes.
        computed: u32,
    },
    /// A tar header has the magic of no known tar format.
    #[error("magic of a tar header is wrong, at {spot}: {seen:?}, \"ustar\" or NUL bytes expected")]
    HeaderMagic {
        /// The header.
        spot: Spot,
        /// The field.
        seen: String,
    },
    /// The size field of a tar header is no size.
    #[error("size in a tar header is wrong, at {spot}: {seen} {why}")]
    HeaderSize {
        /// The header.
        spot: Spot,
        /// The field.
        seen: String,
        /// What is wrong with it.
        why: String,
    },
    /// Another number of a tar header is no number.
    #[error("{field} in a tar header is wrong, at {spot}: {seen} {why}")]
    HeaderField {
        /// The header.
        spot: Spot,
        /// Which field.
        field: String,
        /// The field.
        seen: String,
        /// What is wrong with it.
        why: String,
    },
    /// A tar header of a kind that this walk, or a tar reader on the cluster, cannot understand.
    #[error("tar header of an unknown kind {seen}, at {spot}: {why}")]
    HeaderKind {
        /// The header.
        spot: Spot,
        /// The type flag.
        seen: String,
        /// Why it cannot be taken.
        why: String,
    },
    /// A record of a PAX extended header is malformed.
    #[error("PAX header is malformed, at {spot}: {seen}: {why}")]
    PaxRecord {
        /// The record.
        spot: Spot,
        /// Its beginning.
        seen: String,
        /// What is wrong with it.
        why: String,
    },
    /// The long name of a GNU extended header is malformed.
    #[error("GNU long name is malformed, at {spot}: {why}")]
    GnuName {
        /// Where the name lies.
        spot: Spot,
        /// What is wrong with it.
        why: String,
    },
    /// The map of a sparse file does not fit its contents.
    #[error("map of a sparse file is wrong, at {spot}: {why}")]
    SparseMap {
        /// The map, or the header that holds it.
        spot: Spot,
        /// What is wrong with it.
        why: String,
    },
    /// An extended header is there, the member that it belongs to is not.
    #[error("{what} at {spot} belongs to a member that is not there: the archive ends instead")]
    Dangling {
        /// The extended header.
        spot: Spot,
        /// Which kind.
        what: String,
    },
    /// The tar ends inside a header or a member, although the gzip around it is whole.
    #[error("tar is cut, at {spot}: it ends inside {inside}, {lacks} bytes before the end of that")]
    TarCut {
        /// The end of the tar stream.
        spot: Spot,
        /// What it ends in.
        inside: String,
        /// How many bytes are missing of it.
        lacks: u64,
    },
    /// The tar ends at the boundary of a member, without any end-of-archive block: what followed is lost.
    #[error(
        "tar is cut at a member boundary, at {spot}: it ends after {members} members without its two zero blocks, so later members are lost"
    )]
    FirstEndBlock {
        /// The end of the tar stream.
        spot: Spot,
        /// Members before the cut.
        members: u64,
    },
    /// Only one of the two end-of-archive blocks is there.
    #[error("second end-of-archive block is missing, at {spot}: {seen} seen, 512 NUL bytes expected")]
    SecondEndBlock {
        /// Where it should be.
        spot: Spot,
        /// What is there.
        seen: String,
    },
    /// Something other than NUL padding follows the end-of-archive blocks inside the tar.
    #[error("{seen} follow the end-of-archive blocks, at {spot}: NUL padding or the end expected")]
    JunkAfterEnd {
        /// The first strange byte.
        spot: Spot,
        /// What it is.
        seen: String,
    },
    /// A whole archive of nothing: what `gravity backup` leaves, with exit 0, when it found nothing to save.
    #[error("the archive is empty: {tar_bytes} bytes of tar without a single member")]
    NoMembers {
        /// Bytes of the tar stream.
        tar_bytes: u64,
    },
    /// More than [`super::Limits`] allow.
    #[error("{what}: more than the limit of {limit}, at {spot}")]
    Limit {
        /// Where it was seen.
        spot: Spot,
        /// What there is too much of.
        what: String,
        /// The limit.
        limit: u64,
    },
}

impl Fault {
    /// A short name for machines; fixed within a format version.
    pub fn name(&self) -> &'static str {
        match self {
            Self::EmptyFile => "empty-file",
            Self::NotGzip { .. } => "not-gzip",
            Self::GzipHeader { .. } => "gzip-header",
            Self::Deflate { .. } => "deflate",
            Self::Crc { .. } => "crc",
            Self::Length { .. } => "length",
            Self::Cut { .. } => "cut",
            Self::TrailingJunk { .. } => "trailing-junk",
            Self::HeaderChecksum { .. } => "header-checksum",
            Self::HeaderMagic { .. } => "header-magic",
            Self::HeaderSize { .. } => "header-size",
            Self::HeaderField { .. } => "header-field",
            Self::HeaderKind { .. } => "header-kind",
            Self::PaxRecord { .. } => "pax-record",
            Self::GnuName { .. } => "gnu-name",
            Self::SparseMap { .. } => "sparse-map",
            Self::Dangling { .. } => "dangling",
            Self::TarCut { .. } => "tar-cut",
            Self::FirstEndBlock { .. } => "first-end-block",
            Self::SecondEndBlock { .. } => "second-end-block",
            Self::JunkAfterEnd { .. } => "junk-after-end",
            Self::NoMembers { .. } => "no-members",
            Self::Limit { .. } => "limit",
        }
    }
}

/// Up to 16 bytes in hexadecimal, then an ellipsis.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    if bytes.len() > 16 {
        text.push_str(" …");
    }
    text
}

/// Up to 80 bytes as clean text in quotes, then an ellipsis.
pub(super) fn quote(bytes: &[u8]) -> String {
    let shown = crate::secret::clean(bytes.get(..80).unwrap_or(bytes));
    if bytes.len() > 80 { format!("\"{shown}…\"") } else { format!("\"{shown}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_where_what_and_what_instead() {
        let spot = Spot { compressed: 7000, member: 2, tar: 4096 };
        let fault = Fault::SecondEndBlock { spot, seen: hex(b"text") };
        assert_eq!(
            fault.to_string(),
            "second end-of-archive block is missing, at byte 7000 of the file (gzip member 2), byte 4096 of the tar inside: \
             74 65 78 74 seen, 512 NUL bytes expected"
        );
    }

    #[test]
    fn what_the_archive_says_cannot_act_on_a_terminal() {
        assert_eq!(quote(b"a\x1b]0;b\x07"), "\"a\\x1b]0;b\\x07\"");
        assert_eq!(quote(&[b'x'; 81]).chars().count(), 83);
        assert_eq!(hex(&[0xab; 17]).chars().count(), 16 * 3 + 1);
    }
}
