//! A folder of this machine as a place.
//!
//! What lives here: the contract of [`super::Place`] by file operations, each through the catalog's
//! [`Disk`], so that a test can make any of them fail. What does not: how a backup makes its point there
//! (`progress`).

use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::mpsc;

use super::super::disk::{self, Disk, TEMPORARY};
use super::super::lock::Lock;
use super::super::progress::MANIFEST;
use super::super::{Catalog, point, real_dir};
use super::{Cargo, Heard, LARGEST_SMALL, Stream, check_name, differs, missing};
use crate::digest::{Hasher, Sha256};
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, PointId};

/// What is said of a file that was put there.
pub(super) const HOW: &str = "digest equal in what was read back from the disk";
/// Size of the pieces that are read, in bytes.
const PIECE: usize = 1 << 20;

/// A catalog's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    catalog: Catalog,
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failure {
    disk::failed(Kind::Failed, doing, path, error)
}

impl Folder {
    /// The place of an opened catalog.
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog }
    }

    /// The catalog itself.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn disk(&self) -> &Disk {
        self.catalog.disk()
    }

    pub(super) fn name(&self) -> String {
        self.catalog.root().display().to_string()
    }

    pub(super) fn probe(&self) -> Result<(), Failure> {
        self.catalog.probe()
    }

    /// The path of a name, after every folder on the way was seen to be one.
    fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        check_name(name)?;
        let mut path = self.catalog.root().to_owned();
        let mut parts = name.split('/').peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            if parts.peek().is_some() && std::fs::symlink_metadata(&path).is_ok() {
                real_dir(&path)?;
            }
        }
        Ok(path)
    }

    pub(super) fn files(&self, below: &str) -> Result<Vec<(String, u64)>, Failure> {
        let top = if below.is_empty() { self.catalog.root().to_owned() } else { self.path(below)? };
        let mut found = Vec::new();
        let mut folders = vec![(top, below.to_owned())];
        while let Some((folder, prefix)) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("read", &folder, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| failed("read", &folder, &error))?;
                let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
                let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                match std::fs::symlink_metadata(entry.path()) {
                    Ok(there) if there.is_dir() => folders.push((entry.path(), name)),
                    Ok(there) if there.is_file() => found.push((name, there.len())),
                    _ => {}
                }
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.path(name)?;
        let file = match disk::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST_SMALL + 1).read_to_end(&mut bytes).map_err(|error| failed("read", &path, &error))?;
        if bytes.len() as u64 > LARGEST_SMALL {
            return Err(Failure::new(Kind::Bad, format!("{} is larger than {LARGEST_SMALL} bytes", path.display())));
        }
        Ok(Some(bytes))
    }

    pub(super) fn get(&self, name: &str, from: u64) -> Result<Stream, Failure> {
        let path = self.path(name)?;
        let mut file = match disk::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(&self.name(), name)),
            Err(error) => return Err(failed("read", &path, &error)),
        };
        super::super::verify::from_the_disk(&file);
        file.seek(io::SeekFrom::Start(from)).map_err(|error| failed("read", &path, &error))?;
        let (sender, stream) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            loop {
                let mut piece = vec![0; PIECE];
                let sent = match file.read(&mut piece) {
                    Ok(0) => return,
                    Ok(count) => {
                        piece.truncate(count);
                        sender.blocking_send(Ok(Bytes::from(piece)))
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        let _ = sender.blocking_send(Err(failed("read", &path, &error)));
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        Ok(stream)
    }

    /// Makes the folders on the way to a file, flushed.
    fn make_way(&self, path: &Path) -> Result<(), Failure> {
        let root = self.catalog.root();
        let mut missing: Vec<&Path> = Vec::new();
        let mut here = path.parent();
        while let Some(folder) = here.filter(|folder| *folder != root && folder.starts_with(root)) {
            if std::fs::symlink_metadata(folder).is_ok() {
                break;
            }
            missing.push(folder);
            here = folder.parent();
        }
        for folder in missing.into_iter().rev() {
            match self.disk().make_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("make", folder, &error));
                }
                _ => {}
            }
            let parent = folder.parent().unwrap_or(root);
            self.disk().sync_dir(parent).map_err(|error| failed("flush", parent, &error))?;
        }
        Ok(())
    }

    pub(super) fn put(&self, name: &str, cargo: &Cargo<'_>, heard: Heard<'_>) -> Result<String, Failure> {
        let path = self.path(name)?;
        self.make_way(&path)?;
        if std::fs::symlink_metadata(&path).is_ok() {
            // An earlier attempt came as far as this; it counts when it is the same.
            if self.reread(&path)? == (cargo.bytes, cargo.sha256) {
                heard(cargo.bytes);
                return Ok(HOW.to_owned());
            }
            self.disk().remove(&path).map_err(|error| failed("remove", &path, &error))?;
        }
        let mut from = disk::read(cargo.file).map_err(|error| failed("read", cargo.file, &error))?;
        self.put_reader(name, &mut from, cargo, heard)?;
        Ok(HOW.to_owned())
    }

    /// Puts what a reader gives there under its name, flushed, and proves it.
    ///
    /// # Errors
    /// As [`super::Place::put`].
    pub(in super::super) fn put_reader(
        &self,
        name: &str,
        from: &mut dyn io::Read,
        cargo: &Cargo<'_>,
        heard: Heard<'_>,
    ) -> Result<(), Failure> {
        let path = self.path(name)?;
        self.make_way(&path)?;
        let temporary = with_ending(&path);
        self.disk().remove(&temporary).map_err(|error| failed("remove", &temporary, &error))?;
        let copied = self.copy(from, cargo, &temporary, heard);
        let done = copied.and_then(|(bytes, sha256)| {
            if (bytes, sha256) != (cargo.bytes, cargo.sha256) {
                return Err(differs(name, cargo, bytes, sha256));
            }
            let seen = self.reread(&temporary)?;
            if seen != (cargo.bytes, cargo.sha256) {
                return Err(
                    differs(name, cargo, seen.0, seen.1).why("the disk gave back other bytes than were written")
                );
            }
            self.disk().rename(&temporary, &path).map_err(|error| failed("rename", &temporary, &error))?;
            let folder = path.parent().unwrap_or(Path::new("/"));
            self.disk().sync_dir(folder).map_err(|error| failed("flush", folder, &error))
        });
        if done.is_err() {
            // Half a file is of no use, and a full disk needs the room.
            let _ = std::fs::remove_file(&temporary);
        }
        done
    }

    /// Takes a file from another place, hashed on its way, and proves it by reading it back.
    ///
    /// # Errors
    /// [`Kind::Bad`] when the other place gives something else than the manifest says; either place's own.
    pub async fn receive(
        &self,
        from: &super::Place,
        source: &str,
        name: &str,
        bytes: u64,
        sha256: Sha256,
        heard: Heard<'_>,
    ) -> Result<String, Failure> {
        let path = self.path(name)?;
        self.make_way(&path)?;
        if std::fs::symlink_metadata(&path).is_ok() && self.reread(&path)? == (bytes, sha256) {
            heard(bytes);
            return Ok(HOW.to_owned());
        }
        let incoming =
            path.with_file_name(format!("{}.in{TEMPORARY}", path.file_name().unwrap_or_default().to_string_lossy()));
        self.disk().remove(&incoming).map_err(|error| failed("remove", &incoming, &error))?;
        let mut file = self.disk().create(&incoming).map_err(|error| failed("create", &incoming, &error))?;
        let (mut hasher, disk, to) = (Hasher::new(), self.disk().clone(), incoming.clone());
        let received = from
            .each(source, &mut |piece| {
                hasher.update(piece);
                if hasher.bytes() > bytes {
                    return Err(Failure::new(Kind::Bad, format!("{source} is longer than its manifest says")));
                }
                heard(hasher.bytes());
                disk.write(&mut file, &to, piece).map_err(|error| failed("write", &to, &error))
            })
            .await;
        let done = received.and_then(|_| {
            self.disk().sync(&file, &incoming).map_err(|error| failed("flush", &incoming, &error))?;
            let cargo = Cargo { file: &incoming, bytes, sha256 };
            let seen = (hasher.bytes(), hasher.finish());
            if seen != (bytes, sha256) {
                return Err(differs(source, &cargo, seen.0, seen.1));
            }
            let seen = self.reread(&incoming)?;
            if seen != (bytes, sha256) {
                return Err(
                    differs(name, &cargo, seen.0, seen.1).why("the disk gave back other bytes than were written")
                );
            }
            self.disk().rename(&incoming, &path).map_err(|error| failed("rename", &incoming, &error))?;
            let folder = path.parent().unwrap_or(Path::new("/"));
            self.disk().sync_dir(folder).map_err(|error| failed("flush", folder, &error))
        });
        if let Err(failure) = done {
            let _ = std::fs::remove_file(&incoming);
            return Err(failure);
        }
        Ok(HOW.to_owned())
    }

    pub(in super::super) fn lock(&self, cluster: &ClusterName, id: &PointId) -> Result<Lock, Failure> {
        let path = self.path(&super::super::shelf::lock_name(cluster, id))?;
        self.make_way(&path)?;
        Lock::take(self.disk(), &path).map_err(|error| failed("lock", &path, &error))?.ok_or_else(|| {
            Failure::new(Kind::Refused, format!("point {cluster}/{id} is being written by another ferry"))
                .saw(path.display().to_string())
                .why("two writers would mix their bytes")
                .mend("wait for it")
        })
    }

    fn copy(
        &self,
        from: &mut dyn io::Read,
        cargo: &Cargo<'_>,
        to: &Path,
        heard: Heard<'_>,
    ) -> Result<(u64, Sha256), Failure> {
        let mut file = self.disk().create(to).map_err(|error| failed("create", to, &error))?;
        let (mut hasher, mut piece) = (Hasher::new(), vec![0; PIECE]);
        loop {
            match from.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => {
                    let bytes = piece.get(..count).unwrap_or_default();
                    hasher.update(bytes);
                    self.disk().write(&mut file, to, bytes).map_err(|error| failed("write", to, &error))?;
                    heard(hasher.bytes());
                    if hasher.bytes() > cargo.bytes {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", cargo.file, &error)),
            }
        }
        self.disk().sync(&file, to).map_err(|error| failed("flush", to, &error))?;
        Ok((hasher.bytes(), hasher.finish()))
    }

    fn reread(&self, path: &Path) -> Result<(u64, Sha256), Failure> {
        let mut file = disk::read(path).map_err(|error| failed("read", path, &error))?;
        super::super::verify::from_the_disk(&file);
        let mut hasher = Hasher::new();
        super::super::progress::read_all(&mut file, |bytes| hasher.update(bytes))
            .map_err(|error| failed("read", path, &error))?;
        Ok((hasher.bytes(), hasher.finish()))
    }

    pub(in super::super) fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, Failure> {
        let path = self.path(name)?;
        self.make_way(&path)?;
        let temporary = path.with_file_name(format!(".{:016x}{TEMPORARY}", rand::random::<u64>()));
        let made = (|| {
            let mut file = self.disk().create(&temporary)?;
            self.disk().write(&mut file, &temporary, bytes)?;
            self.disk().sync(&file, &temporary)?;
            // A second name for it: unlike a rename this takes no name that is there.
            match self.disk().link(&temporary, &path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            }
        })();
        let removed = self.disk().remove(&temporary);
        let made = made.map_err(|error| failed("create", &path, &error))?;
        removed.map_err(|error| failed("remove", &temporary, &error))?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        self.disk().sync_dir(folder).map_err(|error| failed("flush", folder, &error))?;
        Ok(made)
    }

    pub(super) fn append(&self, name: &str, line: &str) -> Result<(), Failure> {
        let path = self.path(name)?;
        self.make_way(&path)?;
        let is_new = std::fs::symlink_metadata(&path).is_err();
        let mut file = self.disk().append(&path).map_err(|error| failed("write", &path, &error))?;
        point::append_line(self.disk(), &mut file, &path, line).map_err(|error| failed("write", &path, &error))?;
        if is_new {
            let folder = path.parent().unwrap_or(Path::new("/"));
            self.disk().sync_dir(folder).map_err(|error| failed("flush", folder, &error))?;
        }
        Ok(())
    }

    pub(in super::super) fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name)?;
        if let Ok(file) = std::fs::File::open(&path)
            && path.extension().is_some_and(|end| end == "lock")
            && matches!(flock(&file, FlockOperation::NonBlockingLockExclusive), Err(rustix::io::Errno::WOULDBLOCK))
        {
            return Err(Failure::new(
                Kind::Refused,
                format!("{} is held by a ferry that runs on this machine", path.display()),
            )
            .why("a lock that is held is not stale")
            .mend("end that ferry, or wait for it"));
        }
        self.disk().remove(&path).map_err(|error| failed("remove", &path, &error))
    }

    pub(super) fn remove_folder(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name)?;
        if std::fs::symlink_metadata(&path).is_err() {
            return Ok(());
        }
        real_dir(&path)?;
        // Only folders are left in it: what is a file stays, and the folder with it.
        for entry in std::fs::read_dir(&path).map_err(|error| failed("read", &path, &error))?.flatten() {
            if entry.path().is_dir() {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
        self.disk().remove_dir(&path).map_err(|error| failed("remove", &path, &error))?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        self.disk().sync_dir(folder).map_err(|error| failed("flush", folder, &error))
    }

    pub(in super::super) fn seal(&self, cluster: &ClusterName, id: &PointId, manifest: &[u8]) -> Result<(), Failure> {
        let part = self.path(&format!("{cluster}/{id}.part"))?;
        let sealed = self.path(&format!("{cluster}/{id}"))?;
        if std::fs::symlink_metadata(&sealed).is_ok() {
            return Err(Failure::new(Kind::Refused, format!("{} is there already", sealed.display()))
                .why("a sealed point is never replaced"));
        }
        let path = part.join(MANIFEST);
        self.disk().replace(&path, manifest).map_err(|error| failed("write", &path, &error))?;
        self.disk().rename(&part, &sealed).map_err(|error| failed("rename", &part, &error))?;
        let folder = sealed.parent().unwrap_or(Path::new("/"));
        self.disk().sync_dir(folder).map_err(|error| failed("flush", folder, &error))
    }
}

fn with_ending(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(TEMPORARY);
    path.with_file_name(name)
}
