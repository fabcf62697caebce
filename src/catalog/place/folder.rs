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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::super::Step;
    use super::*;
    use crate::catalog::place::Place;

    const BYTES: &[u8] = b"bytes of an archive";

    fn folder(dir: &Path) -> Folder {
        Folder::new(Catalog::open(&dir.join("catalog")).unwrap())
    }

    /// With a disk on which `before` may change things, or make them fail.
    fn watched(dir: &Path, before: impl Fn(Step, &Path) -> io::Result<()> + Send + Sync + 'static) -> Folder {
        Folder::new(Catalog::open_on(&dir.join("catalog"), Disk::watched(before)).unwrap())
    }

    fn cargo(file: &Path) -> Cargo<'_> {
        Cargo { file, bytes: BYTES.len() as u64, sha256: Sha256::of(BYTES) }
    }

    /// A reader that is interrupted once, gives this, and then fails where it is told to.
    struct Source<'a>(bool, &'a [u8], bool);

    impl io::Read for Source<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::take(&mut self.0) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match self.1.read(buffer)? {
                0 if self.2 => Err(io::Error::other("the medium is broken")),
                count => Ok(count),
            }
        }
    }

    fn left(folder: &Folder) -> Vec<String> {
        folder.files("").unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn only_what_is_whole_gets_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let named = Path::new("its name");
        let put = |source: &mut Source<'_>| folder.put_reader("prod/x", source, &cargo(named), &|_| {});
        let failure = put(&mut Source(false, &BYTES[..5], true)).unwrap_err();
        assert!(failure.what.contains("read its name") && failure.seen.unwrap().contains("broken"));
        // Shorter, or longer without an end: told by what it is and what it should be.
        let longer = [BYTES, &[0; 100]].concat();
        for bytes in [&BYTES[..5], b"", longer.as_slice()] {
            let failure = put(&mut Source(false, bytes, false)).unwrap_err();
            assert!(failure.kind == Kind::Bad && failure.what.contains("is not what its manifest says"), "{failure:?}");
            assert!(failure.why.unwrap().contains(&format!("expected {} bytes", BYTES.len())));
        }
        assert_eq!(left(&folder), [""; 0], "nothing of it is left");
        folder.put_reader("prod/x", &mut Source(true, BYTES, false), &cargo(named), &|_| {}).unwrap();
        assert_eq!(folder.read("prod/x").unwrap().unwrap(), BYTES);
    }

    /// A disk that says that all is written, and keeps something else: found by what is read back.
    #[tokio::test]
    async fn a_disk_that_lies_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let good = folder(dir.path());
        good.create("from/x", BYTES).unwrap();
        let lying = watched(dir.path(), |step, path| {
            if step == Step::Sync && path.is_file() && path.to_string_lossy().ends_with("archive.new") {
                std::fs::OpenOptions::new().write(true).open(path)?.write_all(b"B")?;
            }
            if step == Step::Sync && path.to_string_lossy().ends_with(".in.new") {
                std::fs::OpenOptions::new().write(true).open(path)?.write_all(b"B")?;
            }
            Ok(())
        });
        let failure = lying.put_reader("prod/archive", &mut &BYTES[..], &cargo(Path::new("x")), &|_| {}).unwrap_err();
        assert!(
            failure.kind == Kind::Bad && failure.why.as_deref().unwrap().contains("gave back other bytes"),
            "{failure:?}"
        );
        let from = Place::Folder(good.clone());
        let received = lying.receive(&from, "from/x", "prod/y", BYTES.len() as u64, Sha256::of(BYTES), &|_| {}).await;
        let failure = received.unwrap_err();
        assert!(
            failure.kind == Kind::Bad && failure.why.as_deref().unwrap().contains("gave back other bytes"),
            "{failure:?}"
        );
        assert_eq!(left(&good), ["from/x"]);
    }

    #[tokio::test]
    async fn what_another_place_gives_is_proved() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        folder.create("from/x", BYTES).unwrap();
        let from = Place::Folder(folder.clone());
        let sha256 = Sha256::of(BYTES);
        let length = BYTES.len() as u64;
        for (bytes, sha256, says) in [
            (length - 1, sha256, "is longer than its manifest says"),
            (length + 1, sha256, "is not what its manifest says"),
            (length, Sha256::of(b"else"), "is not what its manifest says"),
        ] {
            let failure = folder.receive(&from, "from/x", "to/y", bytes, sha256, &|_| {}).await.unwrap_err();
            assert!(failure.kind == Kind::Bad && failure.what.contains(says), "{failure:?}");
            assert_eq!(left(&folder), ["from/x"]);
        }
        let failure = folder.receive(&from, "from/none", "to/y", 1, sha256, &|_| {}).await.unwrap_err();
        assert!(failure.kind == Kind::Bad && failure.what.contains("is missing"), "{failure:?}");
        folder.receive(&from, "from/x", "to/y", length, sha256, &|_| {}).await.unwrap();
        // What an earlier attempt left counts: nothing is asked for again.
        folder.remove("from/x").unwrap();
        let heard = std::sync::atomic::AtomicU64::new(0);
        let listen = |done| heard.store(done, Ordering::SeqCst);
        folder.receive(&from, "from/x", "to/y", length, sha256, &listen).await.unwrap();
        assert_eq!(heard.load(Ordering::SeqCst), length);
    }

    #[test]
    fn what_an_earlier_attempt_left_counts_when_it_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cargo");
        std::fs::write(&file, BYTES).unwrap();
        let folder = folder(dir.path());
        folder.create("prod/x", b"half of").unwrap();
        folder.put("prod/x", &cargo(&file), &|_| {}).unwrap();
        assert_eq!(folder.read("prod/x").unwrap().unwrap(), BYTES);
        std::fs::remove_file(&file).unwrap();
        folder.put("prod/x", &cargo(&file), &|_| {}).unwrap();
        let failure = folder.put("prod/y", &cargo(&file), &|_| {}).unwrap_err();
        assert!(failure.what.contains("read") && failure.what.contains("cargo"), "{failure:?}");
    }

    #[test]
    fn links_pipes_and_giants_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        folder.create("prod/x", BYTES).unwrap();
        let root = folder.catalog().root().join("prod");
        symlink("/etc/passwd", root.join("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        std::fs::File::create(root.join("giant")).unwrap().set_len(LARGEST_SMALL + 1).unwrap();
        let listed: Vec<String> = folder.files("prod").unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(listed, ["prod/giant", "prod/x"]);
        for name in ["prod/link", "prod/pipe"] {
            assert!(folder.read(name).unwrap_err().kind == Kind::Failed && folder.get(name, 0).is_err(), "{name}");
        }
        let failure = folder.read("prod/giant").unwrap_err();
        assert!(failure.kind == Kind::Bad && failure.what.contains("is larger than"), "{failure:?}");
        assert!(folder.files("prod/x").is_err(), "a file has no files in it");
        assert!(folder.remove_folder("prod/x").is_err() && folder.remove_folder("prod/none").is_ok());
    }

    #[test]
    fn a_disk_without_second_names_takes_small_files_and_replaces_none() {
        let dir = tempfile::tempdir().unwrap();
        let refuse = Arc::new(AtomicBool::new(false));
        let refuses = Arc::clone(&refuse);
        let folder = watched(dir.path(), move |step, path| {
            match step == Step::Rename && path.ends_with("x") && refuses.load(Ordering::SeqCst) {
                true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
                false => Ok(()),
            }
        });
        assert!(folder.create("prod/x", BYTES).unwrap() && !folder.create("prod/x", b"other").unwrap());
        folder.remove("prod/x").unwrap();
        refuse.store(true, Ordering::SeqCst);
        let failure = folder.create("prod/x", BYTES).unwrap_err();
        assert!(failure.kind == Kind::Failed && failure.mend.unwrap().contains("mount it writable"));
        assert_eq!(left(&folder), [""; 0]);
    }

    #[test]
    fn a_sealed_point_is_never_replaced_here() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let (cluster, id) = ("prod".parse().unwrap(), "20261126T010203Z-00ff".parse().unwrap());
        folder.create(&format!("prod/{id}.part/x"), BYTES).unwrap();
        folder.create(&format!("prod/{id}/manifest.json"), b"{}").unwrap();
        let failure = folder.seal(&cluster, &id, b"[]").unwrap_err();
        assert!(failure.kind == Kind::Refused && failure.why.unwrap().contains("never replaced"));
        assert_eq!(folder.read(&format!("prod/{id}/manifest.json")).unwrap().unwrap(), b"{}");
    }
}
