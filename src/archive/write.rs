//! Making a tarball: for what ferry itself gathered, a few small files. POSIX ustar in gzip.
//!
//! What it does not do: links, devices, long names by extended headers. What does not fit is an error.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// A gzip-compressed tarball that is being written.
pub struct TarWriter<W: Write> {
    out: GzEncoder<W>,
}

const BLOCK: usize = 512;

/// A number in octal in a field of `width` bytes, the last one NUL.
fn octal(header: &mut [u8; BLOCK], at: usize, width: usize, value: u64) -> io::Result<()> {
    let text = format!("{value:0>digits$o}\0", digits = width - 1);
    if text.len() != width {
        return Err(io::Error::other(format!("{value} does not fit into a tar header")));
    }
    put(header, at, text.as_bytes());
    Ok(())
}

fn put(header: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    if let Some(field) = header.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

impl<W: Write> TarWriter<W> {
    /// Begins a tarball.
    pub fn new(out: W) -> Self {
        Self { out: GzEncoder::new(out, Compression::default()) }
    }

    /// Adds a file with this content; `mtime` in seconds since 1970.
    ///
    /// # Errors
    /// The disk's own; a name that does not fit into a header (100 bytes behind a folder of 155).
    pub fn file(&mut self, name: &str, mode: u32, mtime: i64, content: &[u8]) -> io::Result<()> {
        let (prefix, name) = if name.len() <= 100 {
            ("", name)
        } else {
            let cut = name.match_indices('/').map(|(at, _)| at).find(|at| *at <= 155 && name.len() - at - 1 <= 100);
            let cut = cut.ok_or_else(|| io::Error::other(format!("the name is too long for a tar header: {name}")))?;
            (name.get(..cut).unwrap_or_default(), name.get(cut + 1..).unwrap_or_default())
        };
        let mut header = [0; BLOCK];
        put(&mut header, 0, name.as_bytes());
        octal(&mut header, 100, 8, u64::from(mode))?;
        octal(&mut header, 108, 8, 0)?;
        octal(&mut header, 116, 8, 0)?;
        octal(&mut header, 124, 12, content.len() as u64)?;
        octal(&mut header, 136, 12, mtime.max(0) as u64)?;
        put(&mut header, 148, b"        ");
        put(&mut header, 156, b"0");
        put(&mut header, 257, b"ustar\x0000");
        put(&mut header, 345, prefix.as_bytes());
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&header)?;
        self.out.write_all(content)?;
        self.out.write_all(&vec![0; content.len().next_multiple_of(BLOCK) - content.len()])
    }

    /// Ends the tarball and gives back what it was written to.
    ///
    /// # Errors
    /// The disk's own.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::archive::{Limits, walk_reader};

    #[test]
    fn what_is_written_is_a_whole_archive() {
        let mut tar = TarWriter::new(Vec::new());
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
        for (name, size) in [("a", 0), ("dir/b", 511), ("dir/c", 512), (long.as_str(), 5000)] {
            tar.file(name, 0o600, 1_700_000_000, &vec![b'x'; size]).unwrap();
        }
        assert!(tar.file(&"n".repeat(300), 0o600, 0, b"").is_err());
        // A time that twelve octal digits do not hold is an error, and not another time.
        assert!(tar.file("late", 0o600, 1 << 36, b"").unwrap_err().to_string().contains("does not fit"));
        let bytes = tar.finish().unwrap();
        let (_, _, walk) = walk_reader(&mut bytes.as_slice(), Limits::default(), vec![long, "a".to_owned()]).unwrap();
        let walk = walk.unwrap();
        assert_eq!((walk.members, walk.content_bytes, walk.missing.len()), (4, 6023, 0));
    }
}
