//! Is this tarball whole? The archive walk.
//!
//! What lives here: a parser that is fed with the bytes of a gzip-compressed tarball as they pass
//! by, and proves that the archive is whole: every gzip header, every byte of deflate, the CRC and
//! the length of every gzip member, nothing behind the last one, every tar header's checksum, the
//! records of extended headers, the length of every member, both end-of-archive blocks, nothing
//! behind them, and at least one member. Nothing is unpacked, no member is kept, memory is
//! constant (a decode buffer, and one extended header of bounded size).
//!
//! And, for what ferry itself gathered, the making of a small one ([`TarWriter`]).
//!
//! What does not live here: fetching the bytes (transfer), what an archive should contain compared
//! with earlier ones (catalog), and what to do about a fault.
//!
//! Why not `gzip -t` and `tar -t`: both call an archive good that was cut at a member boundary, an
//! empty one, and one with a foreign tail. And Gravity's own reader accepts a file of zero bytes.
//!
//! What the walk cannot see, because no checksum in the formats covers it: the time, the
//! operating-system, the extra-flags and the text-flag field of the gzip header, and its file name,
//! comment and extra field where there is no header CRC; the unused bits at the end of a stored or of the last deflate
//! block; and a flip that turns deflate data into another way of telling the very same bytes. The contents are the
//! same in all these cases, the file is not: for that, the SHA-256 kept beside it is the proof.
//! Nor does it see what was wrong before the checksums were made, other than in tar's own structure.

mod fault;
mod gzip;
mod tar;
mod write;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use fault::{Fault, Spot};
pub use write::TarWriter;

use crate::digest::{Hasher, Sha256};

/// How far the walk follows an archive before it calls it hostile or nonsensical.
///
/// The walk's memory is constant, and deflate cannot blow a byte up to more than about 1032, so the
/// worst that a bomb can do here is to take time; what it can do to the cluster that restores it is
/// to fill its disk. A ratio alone is a bad judge: a preallocated database file of gigabytes of
/// zeros is legal, and gzip packs it at about 1029:1. So the absolute bounds come first, and the
/// ratio is judged only for what has already become larger than any real backup of that kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most members; 50 million.
    pub members: u64,
    /// Most decoded bytes; 64 TiB (the largest AMV backups are about 8 TB, compressed).
    pub uncompressed: u64,
    /// Most decoded bytes per compressed byte over the whole file so far; 250. Judged as decode buffers (256 KiB)
    /// go by, and only past `ratio_after`.
    pub ratio: u64,
    /// Decoded bytes up to which any ratio is legal; 1 TiB.
    pub ratio_after: u64,
    /// Most bytes of one PAX or GNU extended header, and of one gzip header; 1 MiB. Go's
    /// `archive/tar`, with which Gravity restores, stops at 1 MiB for extended headers as well.
    pub header: u64,
    /// Most NUL bytes behind the end-of-archive blocks, and again behind the last gzip member; 16 MiB. Writers pad to
    /// a full record, and the block length of a tape drive is a 24-bit number.
    pub padding: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            members: 50_000_000,
            uncompressed: 64 << 40,
            ratio: 250,
            ratio_after: 1 << 40,
            header: 1 << 20,
            padding: 16 << 20,
        }
    }
}

/// What a whole archive holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Members: files, directories, links, devices. PAX and GNU extended headers and volume labels
    /// are not members.
    pub members: u64,
    /// Regular files among them.
    pub files: u64,
    /// Bytes of content of the regular files as stored, without padding and without the holes of sparse files.
    pub content_bytes: u64,
    /// Bytes of the tar stream, with headers and padding.
    pub tar_bytes: u64,
    /// Bytes of the file.
    pub compressed_bytes: u64,
    /// How many gzip members the file is made of (1, unless pieces were joined).
    pub gzip_members: u64,
    /// The newest modification time of a member, in seconds since 1970, UTC; none when no member has one.
    pub newest: Option<i64>,
    /// The required names that no member has, as they were given.
    pub missing: Vec<String>,
}

/// Walks over a `.tar.gz` as its bytes pass by.
///
/// Feed it with the bytes in order, in pieces of any size, then call [`Walker::finish`]. The first
/// fault is final: later calls return the same. Which fault is found does not depend on the pieces.
pub struct Walker {
    gzip: gzip::Gunzip,
    tape: tar::Tape,
    fault: Option<Fault>,
}

impl std::fmt::Debug for Walker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walker")
            .field("compressed", &self.gzip.at())
            .field("tar", &self.tape.at())
            .field("fault", &self.fault)
            .finish()
    }
}

impl Walker {
    /// A walker that has seen nothing.
    ///
    /// `required` are names that the archive must contain: the path of a member, or of a directory
    /// that some member lies under; a leading `./` and a trailing `/` make no difference. What is
    /// not there is no [`Fault`], it is told in [`Walk::missing`].
    pub fn new(limits: Limits, required: Vec<String>) -> Self {
        Self { gzip: gzip::Gunzip::new(&limits), tape: tar::Tape::new(limits, required), fault: None }
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// The first thing that is wrong with the archive.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let fed = self.gzip.feed(bytes, &mut self.tape);
        if let Err(fault) = &fed {
            self.fault = Some(fault.clone());
        }
        fed
    }

    /// Members seen so far.
    pub fn members(&self) -> u64 {
        self.tape.members()
    }

    /// Bytes of the tar stream decoded so far.
    pub fn tar_bytes(&self) -> u64 {
        self.tape.at()
    }

    /// The file ends here: is it whole?
    ///
    /// # Errors
    /// The fault that [`Walker::feed`] told, or what is missing at the end.
    pub fn finish(self) -> Result<Walk, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut tape = self.tape;
        let (compressed_bytes, gzip_members) = self.gzip.finish(&mut tape)?;
        let mut walk = tape.finish()?;
        walk.compressed_bytes = compressed_bytes;
        walk.gzip_members = gzip_members;
        Ok(walk)
    }
}

/// Reads `source` to its end, hashing and walking in the same pass: the digest and the count of all
/// its bytes, and what the walk says. The digest is of the whole source also when the walk found a fault early.
///
/// Blocking; reads pieces of 1 MiB.
///
/// # Errors
/// Reading failed. A fault of the archive is no error here.
pub fn walk_reader(
    mut source: impl Read,
    limits: Limits,
    required: Vec<String>,
) -> io::Result<(Sha256, u64, Result<Walk, Fault>)> {
    let mut walker = Walker::new(limits, required);
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = buffer.get(..read).unwrap_or_default();
        hasher.update(piece);
        // The walker keeps its first fault and tells it at the end again; the hash wants the rest.
        let _ = walker.feed(piece);
    }
    let bytes = hasher.bytes();
    Ok((hasher.finish(), bytes, walker.finish()))
}

/// [`walk_reader`] over the file at `path`.
///
/// # Errors
/// The file cannot be opened or read.
pub fn walk_file(path: &Path, limits: Limits, required: Vec<String>) -> io::Result<(Sha256, u64, Result<Walk, Fault>)> {
    walk_reader(File::open(path)?, limits, required)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A source that gives its bytes and then fails, or is interrupted now and then.
    struct Source<'a>(&'a [u8], Option<io::ErrorKind>);

    impl Read for Source<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.1.take() {
                Some(io::ErrorKind::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
                kind if self.0.is_empty() => kind.map_or(Ok(0), |kind| Err(kind.into())),
                kind => {
                    self.1 = kind;
                    self.0.read(buffer)
                }
            }
        }
    }

    #[test]
    fn the_digest_is_of_all_bytes_whatever_the_walk_says() {
        let bytes = vec![b'x'; 3 << 20];
        let (digest, length, walk) =
            walk_reader(Source(&bytes, Some(io::ErrorKind::Interrupted)), Limits::default(), vec![]).unwrap();
        assert_eq!((digest, length), (Sha256::of(&bytes), 3 << 20));
        assert_eq!(walk.unwrap_err().name(), "not-gzip");
    }

    #[test]
    fn a_failing_source_is_an_error_and_no_verdict() {
        let failed = walk_reader(Source(b"\x1f\x8b", Some(io::ErrorKind::TimedOut)), Limits::default(), vec![]);
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(walk_file(Path::new("/nonexistent/archive"), Limits::default(), vec![]).is_err());
    }

    #[test]
    fn nothing_fed_is_an_empty_file() {
        let mut walker = Walker::new(Limits::default(), vec![]);
        assert_eq!(walker.feed(b""), Ok(()));
        // Where it is is shown, not the buffers that it has.
        assert_eq!(format!("{walker:?}"), "Walker { compressed: 0, tar: 0, fault: None }");
        assert_eq!(walker.finish(), Err(Fault::EmptyFile));
    }
}
