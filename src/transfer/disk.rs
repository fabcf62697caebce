//! A file here that is written, or read back, without the kernel's page cache where that is possible: that spares a copy
//! and what the kernel does for each page, which together cost as much as decrypting the bytes; and what is read back comes
//! from the disk. Where the file system or a piece does not allow it, the bytes go the usual way.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use bytes::Bytes;

use super::slab::ALIGN;

/// So many pieces are given to the kernel at once. It takes 1,024.
const AT_ONCE: usize = 64;
/// The file systems in memory, as `statfs` calls them.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;

/// One file, opened for one of the two.
pub(super) struct Disk {
    direct: Option<File>,
    plain: File,
    in_memory: bool,
}

fn direct(options: &mut OpenOptions, path: &Path) -> Option<File> {
    #[cfg(target_os = "linux")]
    {
        let flags = rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::NOFOLLOW;
        options.custom_flags(i32::try_from(flags.bits()).ok()?).open(path).ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (options, path);
        None
    }
}

/// Whether what is written to this file system stays in memory.
pub fn is_memory(about: &rustix::fs::StatFs) -> bool {
    // Signed with one C library, unsigned with another.
    #[allow(clippy::useless_conversion)]
    let kind = i64::try_from(about.f_type).unwrap_or(0) & 0xffff_ffff;
    kind == TMPFS || kind == RAMFS
}

impl Disk {
    /// Opens a file that is there, and is no symbolic link.
    pub(super) fn open(path: &Path, write: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(!write).write(write);
        options.custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0));
        let plain = options.open(path)?;
        // Such a file system opens files for direct input and output as well, and goes through its pages all the same.
        let in_memory = rustix::fs::fstatfs(&plain).is_ok_and(|about| is_memory(&about));
        let direct = if in_memory { None } else { direct(&mut options, path) };
        Ok(Self { direct, plain, in_memory })
    }

    /// Whether its disk is memory: then a write is a copy and waits for nothing.
    pub(super) fn in_memory(&self) -> bool {
        self.in_memory
    }

    /// Its length in bytes.
    pub(super) fn length(&self) -> io::Result<u64> {
        Ok(self.plain.metadata()?.len())
    }

    /// Writes pieces that follow each other to their place, all of them, by way of the page cache.
    pub(super) fn write_all_at(&mut self, mut at: u64, pieces: &[Bytes]) -> io::Result<()> {
        for pieces in pieces.chunks(AT_ONCE) {
            let slices: Vec<IoSlice> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut done = rustix::io::pwritev(&self.plain, &slices, at).or_else(|error| match error {
                rustix::io::Errno::INTR => Ok(0),
                error => Err(io::Error::from(error)),
            })?;
            for piece in pieces {
                let written = done.min(piece.len());
                done -= written;
                // What was not taken: a full disk says so now.
                self.plain.write_all_at(piece.get(written..).unwrap_or_default(), at + written as u64)?;
                at += piece.len() as u64;
            }
        }
        Ok(())
    }

    /// Writes a piece to its place, all of it.
    pub(super) fn write_at(&mut self, at: u64, piece: &[u8]) -> io::Result<()> {
        let mut done = 0;
        if let Some(direct) = &self.direct
            && at.is_multiple_of(ALIGN as u64)
            && piece.len().is_multiple_of(ALIGN)
            && piece.as_ptr().align_offset(ALIGN) == 0
        {
            done = match direct.write_at(piece, at) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                // Not for this file system, or not with pages of this size.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.direct = None;
                    0
                }
                Err(error) => return Err(error),
            };
        }
        // All of it, or what a full disk did not take: that one says so.
        self.plain.write_all_at(piece.get(done..).unwrap_or_default(), at + done as u64)
    }

    /// What was written is on the disk, with the length that the file has.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.plain.sync_data()
    }

    /// As [`Disk::sync`], times and owner as well.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        self.plain.sync_all()
    }

    /// Asks the kernel to forget what it keeps of these bytes in memory.
    pub(super) fn forget(&self, at: u64, length: u64) {
        if let Some(length) = std::num::NonZeroU64::new(length) {
            let _ = rustix::fs::fadvise(&self.plain, at, Some(length), rustix::fs::Advice::DontNeed);
        }
    }

    /// Reads `length` bytes from their place into the beginning of `room`, which holds as many in whole pages.
    pub(super) fn read_at(&mut self, at: u64, length: usize, room: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        let pages = length.next_multiple_of(ALIGN);
        if let Some(direct) = &self.direct
            && at.is_multiple_of(ALIGN as u64)
            && let Some(room) = room.get_mut(..pages)
            && room.as_ptr().align_offset(ALIGN) == 0
        {
            done = match direct.read_at(room, at) {
                Ok(count) => count.min(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.direct = None;
                    0
                }
                Err(error) => return Err(error),
            };
        }
        let rest = room.get_mut(done..length).unwrap_or_default();
        self.plain.read_exact_at(rest, at + done as u64)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::slab::Pool;
    use super::*;

    /// Pieces of every alignment and length come back as they were written, with and without the page cache.
    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let lengths = [4096, 1, 8191, 4096, 4095, 12288, 4097, 65536, 3];
        let pool = Pool::new(65536);
        std::fs::write(&path, []).unwrap();
        let (mut to, mut from) = (Disk::open(&path, true).unwrap(), Disk::open(&path, false).unwrap());
        let mut at = 0;
        let mut all = Vec::new();
        for length in lengths {
            let bytes: Vec<u8> = (0..length).map(|byte| (byte * 7 + length) as u8).collect();
            let mut slab = pool.slab(65536);
            slab.take(&bytes);
            to.write_at(at, slab.as_ref()).unwrap();
            all.extend_from_slice(&bytes);
            at += length as u64;
        }
        to.sync().unwrap();
        assert_eq!((to.length().unwrap(), std::fs::read(&path).unwrap()), (at, all.clone()));
        for (at, length) in [(0, 4096), (0, all.len()), (4096, 5000), (4097, 1), (8192, all.len() - 8192)] {
            let mut room = pool.slab(65536 - 65536 % ALIGN);
            let mut big = vec![0; all.len().next_multiple_of(ALIGN)];
            let room = if length <= 65536 { room.room() } else { big.as_mut_slice() };
            from.forget(at as u64, length as u64);
            from.read_at(at as u64, length, room).unwrap();
            assert_eq!(room[..length], all[at..at + length], "{length} bytes from {at}");
        }
        let mut room = vec![0; 8192];
        assert!(from.read_at(at - 1, 2, &mut room).is_err(), "behind the end there is nothing");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_lies_in_memory_is_known() {
        let memory = |path: &str| is_memory(&rustix::fs::statfs(path).unwrap());
        assert!(memory("/dev/shm"));
        assert!(!memory("/proc/self/stat"));
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, []).unwrap();
        let disk = Disk::open(&path, true).unwrap();
        assert!(disk.in_memory() && disk.direct.is_none());
    }

    /// Many pieces at once, more than go to the kernel in one call, empty ones among them.
    #[test]
    fn pieces_that_follow_each_other_are_written_in_a_row() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, []).unwrap();
        let mut to = Disk::open(&path, true).unwrap();
        let pieces: Vec<Bytes> =
            (0..3 * AT_ONCE + 1).map(|number| vec![number as u8; number * 37 % 5000].into()).collect();
        let all = pieces.concat();
        to.write_all_at(11, &pieces).unwrap();
        to.write_all_at(11 + all.len() as u64, &[]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [vec![0; 11], all].concat());
        let error = Disk::open(&path, false).unwrap().write_all_at(0, &pieces).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()), "{error}");
    }

    /// What is refused without the kernel's page cache goes the usual way from then on.
    #[test]
    fn what_is_refused_goes_the_usual_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, []).unwrap();
        let (mut to, mut from) = (Disk::open(&path, true).unwrap(), Disk::open(&path, false).unwrap());
        let mut slab = Pool::new(ALIGN).slab(ALIGN);
        slab.take(&[7; ALIGN]);
        // No file has such a place.
        let nowhere = 1 << 63;
        assert_eq!(to.write_at(nowhere, slab.as_ref()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(to.direct.is_none());
        to.write_at(0, slab.as_ref()).unwrap();
        let mut room = Pool::new(ALIGN).slab(ALIGN);
        assert_eq!(from.read_at(nowhere, ALIGN, room.room()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(from.direct.is_none());
        from.read_at(0, ALIGN, room.room()).unwrap();
        assert_eq!(room.room()[..ALIGN], [7; ALIGN]);
        // Whoever may not write is told so, by either way.
        let error = from.write_at(0, slab.as_ref()).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
}
