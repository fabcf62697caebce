//! Archives as gravity writes them: docker's archive package over Go's `archive/tar` and gzip.
//!
//! What lives here: the ustar headers with Go's choices (magic `ustar\0` `00`, PAX only where a
//! field does not fit, two zero blocks at the end and no padding to a record, no entry for the
//! folder itself), the gzip header with system 255 and no time; and unpacking with the errors
//! that Go would give. What does not: judging archives (the room `archive` does that for ferry).

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A file that is full after so many bytes, as a disk would be.
pub(crate) struct Limited {
    file: fs::File,
    room: Option<u64>,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(room) = &mut self.room else { return self.file.write(bytes) };
        if *room == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let part = usize::try_from(*room).unwrap_or(usize::MAX).min(bytes.len());
        let count = self.file.write(bytes.get(..part).unwrap_or_default())?;
        *room -= count as u64;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A tarball that is being written.
pub(crate) struct Tarball {
    out: GzEncoder<Limited>,
}

struct Header<'a> {
    name: &'a str,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    kind: u8,
}

impl Tarball {
    pub(crate) fn new(file: fs::File, level: u32) -> Self {
        Self::limited(file, level, None)
    }

    /// `room`: after so many bytes of the file the disk is full.
    pub(crate) fn limited(file: fs::File, level: u32, room: Option<u64>) -> Self {
        let out = flate2::GzBuilder::new()
            .operating_system(255)
            .write(Limited { file, room }, Compression::new(level.min(9)));
        Self { out }
    }

    /// A file with this text.
    pub(crate) fn text(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        let size = bytes.len() as u64;
        self.header(&Header { name, mode: 0o644, uid: 0, gid: 0, size, mtime: now, kind: b'0' })?;
        self.out.write_all(bytes)?;
        self.pad(size)
    }

    /// All that is in `dir`, names relative to it, sorted, folders first as one walks. What
    /// cannot be read is passed over; a missing `dir` is an archive without members. `without`
    /// leaves a folder of that name out.
    pub(crate) fn folder(&mut self, dir: &Path, without: Option<&str>) -> io::Result<()> {
        self.walk(dir, "", without)
    }

    fn walk(&mut self, dir: &Path, prefix: &str, without: Option<&str>) -> io::Result<()> {
        let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
        let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        for name in names {
            let path = dir.join(&name);
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if without == Some(name.as_str()) {
                continue;
            }
            let full = format!("{prefix}{name}");
            let header = Header {
                name: &full,
                mode: meta.mode() & 0o7777,
                uid: u64::from(meta.uid()),
                gid: u64::from(meta.gid()),
                size: 0,
                mtime: u64::try_from(meta.mtime()).unwrap_or(0),
                kind: b'5',
            };
            if meta.is_dir() {
                let named = format!("{full}/");
                self.header(&Header { name: &named, ..header })?;
                self.walk(&path, &named, without)?;
            } else if meta.is_file() {
                let Ok(file) = fs::File::open(&path) else { continue };
                let size = meta.len();
                self.header(&Header { size, kind: b'0', ..header })?;
                let copied = io::copy(&mut file.take(size), &mut self.out)?;
                if copied < size {
                    return Err(io::Error::other("file shrank while it was read"));
                }
                self.pad(size)?;
            }
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = usize::try_from(size % 512).unwrap_or(0);
        if rest > 0 {
            self.out.write_all([0; 512].get(rest..).unwrap_or_default())?;
        }
        Ok(())
    }

    fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        // A name that ustar can split goes into prefix and name; else PAX has it.
        let name = header.name.as_bytes();
        let split = if name.len() <= 100 && name.is_ascii() {
            Some((&name[..0], name))
        } else if name.is_ascii() {
            let cuts =
                name.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at <= 155 && *at + 1 < name.len());
            let cut = cuts.map(|(at, _)| at).find(|at| name.len() - at - 1 <= 100);
            cut.and_then(|at| Some((name.get(..at)?, name.get(at + 1..)?)))
        } else {
            None
        };
        let mut records = String::new();
        if split.is_none() {
            records.push_str(&pax("path", header.name));
        }
        if header.size > 0o777_7777_7777 {
            records.push_str(&pax("size", &header.size.to_string()));
        }
        if !records.is_empty() {
            let base = header.name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let short: String = base.chars().filter(char::is_ascii).take(80).collect();
            let size = records.len() as u64;
            let extra = format!("PaxHeaders.0/{short}");
            let block =
                block(&[], extra.as_bytes(), &Header { name: "", mode: 0, uid: 0, gid: 0, size, mtime: 0, kind: b'x' });
            self.out.write_all(&block)?;
            self.out.write_all(records.as_bytes())?;
            self.pad(size)?;
        }
        let (prefix, name) = split.unwrap_or((&[], name.get(..name.len().min(100)).unwrap_or_default()));
        self.out.write_all(&block(prefix, name, header))
    }

    /// Ends the archive and the file.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 1024])?;
        self.out.finish()?.flush()
    }

    /// Ends the gzip stream where the tar stream stands, between two members.
    pub(crate) fn break_off(self) -> io::Result<()> {
        self.out.finish()?.flush()
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn pax(key: &str, value: &str) -> String {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + bare.to_string().len();
    if bare + length.to_string().len() != length {
        length = bare + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

fn block(prefix: &[u8], name: &[u8], header: &Header<'_>) -> [u8; 512] {
    let mut block = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = block.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    let size = if header.size > 0o777_7777_7777 { 0 } else { header.size };
    put(0, name);
    put(100, format!("{:07o}", header.mode).as_bytes());
    put(108, format!("{:07o}", header.uid & 0o777_7777).as_bytes());
    put(116, format!("{:07o}", header.gid & 0o777_7777).as_bytes());
    put(124, format!("{size:011o}").as_bytes());
    put(136, format!("{:011o}", header.mtime & 0o777_7777_7777).as_bytes());
    put(148, b"        ");
    put(156, &[header.kind]);
    put(257, b"ustar\x0000");
    put(329, b"0000000");
    put(337, b"0000000");
    put(345, prefix);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    if let Some(place) = block.get_mut(148..156) {
        place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    block
}

/// Unpacks as docker's archive package does, into `dir`; what goes wrong is told in Go's words
/// and leaves what was unpacked so far. A file of no bytes is accepted and makes nothing.
pub(crate) fn unpack(mut file: fs::File, dir: &Path) -> Result<(), String> {
    const CUT: &str = "unexpected EOF";
    const BAD: &str = "archive/tar: invalid tar header";
    let mut head = [0_u8; 10];
    let read = fill_from(&mut file, &mut head).map_err(|error| error.to_string())?;
    if read == 0 {
        return Ok(());
    }
    if read < head.len() {
        return Err(CUT.to_owned());
    }
    let whole = io::Cursor::new(head.to_vec()).chain(file);
    let mut input: Box<dyn Read> = if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::MultiGzDecoder::new(whole))
    } else {
        Box::new(whole)
    };
    let mut header = [0_u8; 512];
    loop {
        let read = fill_from(&mut input, &mut header).map_err(|_| CUT.to_owned())?;
        if read == 0 || header.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        if read < 512 {
            return Err(CUT.to_owned());
        }
        let octal = |from: usize, to: usize| -> Option<u64> {
            let text = std::str::from_utf8(header.get(from..to)?).ok()?;
            u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
        };
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        let (Some(told), Some(size)) = (octal(148, 156), octal(124, 136)) else { return Err(BAD.to_owned()) };
        if told != sum {
            return Err(BAD.to_owned());
        }
        let field = |from: usize, to: usize| {
            let bytes = header.get(from..to).unwrap_or_default();
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
        };
        let (prefix, name) = (field(345, 500), field(0, 100));
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let kind = header.get(156).copied().unwrap_or(0);
        let safe = !name.starts_with('/') && !name.split('/').any(|part| part == "..");
        let path = dir.join(&name);
        let mut data = (&mut input).take(size);
        if !safe || !matches!(kind, b'0' | 0 | b'5') {
            io::copy(&mut data, &mut io::sink()).map_err(|_| CUT.to_owned())?;
        } else if kind == b'5' {
            fs::create_dir_all(&path).map_err(|error| super::gravity::go_error("mkdir", &path, &error))?;
        } else {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|error| super::gravity::go_error("mkdir", parent, &error))?;
            }
            let mut out = fs::File::create(&path).map_err(|error| super::gravity::go_error("open", &path, &error))?;
            if io::copy(&mut data, &mut out).map_err(|_| CUT.to_owned())? < size {
                return Err(CUT.to_owned());
            }
        }
        let rest = (512 - size % 512) % 512;
        io::copy(&mut (&mut input).take(rest), &mut io::sink()).map_err(|_| CUT.to_owned())?;
    }
}

/// Reads until `room` is full or the input ends; how much was read.
fn fill_from(input: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = room.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match input.read(rest)? {
            0 => break,
            count => read += count,
        }
    }
    Ok(read)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pax_lengths_count_themselves() {
        for width in 1..200 {
            let record = pax("path", &"x".repeat(width));
            let told: usize = record.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(told, record.len());
        }
    }

    #[test]
    fn other_readers_read_what_we_write() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(60));
        let longer = "ä".repeat(70);
        fs::create_dir_all(dir.path().join("in").join("d".repeat(90))).unwrap();
        fs::write(dir.path().join("in").join(&long), "long").unwrap();
        fs::write(dir.path().join("in").join(&longer), "longer").unwrap();
        let target = dir.path().join("out.tar.gz");
        let mut tarball = Tarball::new(fs::File::create(&target).unwrap(), 6);
        tarball.folder(&dir.path().join("in"), None).unwrap();
        tarball.finish().unwrap();
        let listed =
            std::process::Command::new("tar").args(["--quoting-style=literal", "-tzf"]).arg(&target).output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert_eq!(listed, format!("{}/\n{long}\n{longer}\n", "d".repeat(90)));
        unpack(fs::File::open(&target).unwrap(), &dir.path().join("back")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("back").join(&long)).unwrap(), "long");
    }
}
