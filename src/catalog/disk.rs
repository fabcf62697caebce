//! The file operations of the catalog, one by one.
//!
//! What lives here: every operation that changes the catalog, each passing one place where a test
//! can make it fail, and what a disk's error means to the operator. What does not: their order,
//! which is what makes a point safe (`progress`).

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::failure::{Failure, Kind};

/// One kind of operation on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A folder is made.
    MakeDir,
    /// A file is created; it must not be there.
    Create,
    /// A file that is there is opened for writing.
    Open,
    /// Bytes are written.
    Write,
    /// A file or folder is flushed to the disk.
    Sync,
    /// A file or folder gets another name.
    Rename,
    /// A file or folder is removed.
    Remove,
    /// Access rights are changed.
    Chmod,
    /// A lock is taken.
    Lock,
}

type Before = dyn Fn(Step, &Path) -> io::Result<()> + Send + Sync;

/// The disk as the catalog sees it. [`Disk::default`] is the real one.
#[derive(Clone, Default)]
pub struct Disk {
    before: Option<Arc<Before>>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.before.is_some() { "Disk(watched)" } else { "Disk" })
    }
}

impl Disk {
    /// A disk where `before` is asked before each operation and may make it fail. A write that
    /// fails this way leaves the first half of its bytes behind, as a full disk does.
    pub fn watched(before: impl Fn(Step, &Path) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { before: Some(Arc::new(before)) }
    }

    pub(super) fn step(&self, step: Step, path: &Path) -> io::Result<()> {
        self.before.as_ref().map_or(Ok(()), |before| before(step, path))
    }

    /// Makes one folder, 0700.
    pub(super) fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.step(Step::MakeDir, path)?;
        std::fs::DirBuilder::new().mode(0o700).create(path)
    }

    /// Creates a file, 0600, that must not be there, for reading and writing.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        self.step(Step::Create, path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Opens a regular file that is there for reading and writing; never through a symbolic link.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        self.step(Step::Open, path)?;
        plain_file(path, OFlags::RDWR)
    }

    /// Opens a file for appending, creating it 0600.
    pub(super) fn append(&self, path: &Path) -> io::Result<File> {
        self.step(Step::Open, path)?;
        plain_file(path, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE)
    }

    /// Writes all of `bytes` to a file opened above.
    pub(super) fn write(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.step(Step::Write, path) {
            let half = bytes.len() / 2;
            file.write_all(bytes.get(..half).unwrap_or_default())?;
            return Err(error);
        }
        file.write_all(bytes)
    }

    /// Flushes an open file to the disk.
    pub(super) fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        self.step(Step::Sync, path)?;
        file.sync_all()
    }

    /// Flushes a folder's list of names to the disk.
    pub(super) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Sync, path)?;
        File::open(path)?.sync_all()
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Rename, from)?;
        std::fs::rename(from, to)
    }

    /// Gives a file a name that must not be there. Its old one may be gone then, or not.
    pub(super) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Rename, to)?;
        link(from, to)
    }

    /// Removes an empty folder; that it is not there is fine.
    pub(super) fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Remove, path)?;
        match std::fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes a file; that it is not there is fine.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Remove, path)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes a folder with all that is in it; symbolic links are removed, not followed.
    pub(super) fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Remove, path)?;
        std::fs::remove_dir_all(path)
    }

    /// Gives an open file these rights if it has others.
    pub(super) fn chmod(&self, file: &File, path: &Path, mode: u32) -> io::Result<()> {
        if file.metadata()?.mode() & 0o7777 == mode {
            return Ok(());
        }
        self.step(Step::Chmod, path)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    }

    /// Writes a small file in one piece: a temporary name beside it, flushed, then the final name,
    /// then the folder flushed. A reader sees the old file or the new one, never a part.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(TEMPORARY);
        let temporary = path.with_file_name(name);
        self.remove(&temporary)?;
        let mut file = self.create(&temporary)?;
        self.write(&mut file, &temporary, bytes)?;
        self.sync(&file, &temporary)?;
        self.rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| self.sync_dir(folder))
    }
}

/// Gives a file a name that must not be there. Its old one may be gone then, or not.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        // exFAT and some network shares know no second names, but do know a renaming that replaces nothing.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(|_| error)
        }
        linked => linked,
    }
}

/// What the name of a file that is not whole yet ends with.
pub(super) const TEMPORARY: &str = ".new";

/// Opens a regular file for reading; symbolic links, pipes and the like are errors.
pub(super) fn read(path: &Path) -> io::Result<File> {
    plain_file(path, OFlags::RDONLY)
}

fn plain_file(path: &Path, flags: OFlags) -> io::Result<File> {
    // NONBLOCK: a pipe that somebody put there must not hold us up; on a file it means nothing.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => {
            return Err(io::Error::other("it is a symbolic link, which the catalog never follows"));
        }
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// The text of a file of at most `most` bytes.
pub(super) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    use std::io::Read as _;
    let file = read(path)?;
    let mut text = String::new();
    let got = file.take(most + 1).read_to_string(&mut text)?;
    if got as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(text)
}

/// An error of the disk, told so that it says what to do.
pub(super) fn failed(kind: Kind, doing: &str, path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if full {
        return Failure::new(kind, format!("the catalog is full: could not {doing} {path}"))
            .saw(error.to_string())
            .why("a recovery point is sealed only when every byte of it is on the disk; the points sealed before are untouched")
            .mend("make room on that disk (`ferry points list` shows what lies there), then run the same command again: it goes on");
    }
    let failure = Failure::new(kind, format!("could not {doing} {path}")).saw(error.to_string());
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            failure.mend("mount it writable, or name another catalog with `--catalog`")
        }
        io::ErrorKind::PermissionDenied => {
            failure.mend("run as the user who owns the catalog, or name another one with `--catalog`")
        }
        _ => failure,
    }
}
