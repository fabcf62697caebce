//! One writer for one point.
//!
//! What lives here: the lock file beside a point in progress. It lies beside the folder, not in it,
//! so that it is still held while the folder gets its final name. What does not: the lock on a
//! cluster (the nodes hold that).

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::disk::{self, Disk, Step};

/// How often, and how long apart, a lock that is held is tried again. A listing holds it for an
/// instant to see whether anybody else does; a writer holds it for minutes.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// A lock that is held until this value is dropped or its process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock; `None` when somebody else holds it.
    pub(super) fn take(disk: &Disk, path: &Path) -> io::Result<Option<Self>> {
        disk.step(Step::Lock, path)?;
        for _ in 0..TRIES {
            let file = disk.append(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            // Its former holder may have removed the file between our opening and our lock: then we
            // hold a lock on something that nobody else will ever look at.
            let ours = file.metadata()?;
            let there = std::fs::symlink_metadata(path);
            if there.is_ok_and(|there| there.ino() == ours.ino() && there.dev() == ours.dev()) {
                return Ok(Some(Self { file, path: path.to_owned() }));
            }
        }
        Ok(None)
    }

    /// Removes the lock file, then lets go.
    pub(super) fn remove(self, disk: &Disk) {
        // A lock file that stays is harmless: nobody holds it.
        let _ = disk.remove(&self.path);
    }
}

impl Drop for Lock {
    /// Closing would not do: a child that is being started at this moment has this descriptor too, until it becomes another
    /// program, and a lock ends with its last descriptor.
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// True while somebody, here or in another process, holds the lock.
pub(super) fn held(path: &Path) -> bool {
    let Ok(file) = disk::read(path) else { return false };
    matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
}
