//! A point while it is made, and its seal.
//!
//! What lives here: `ID.part/` from its first file to its final name, in an order where a stop at
//! any place leaves either the part or the sealed point. What does not: where the bytes come from
//! (transfer) and whether they are a whole archive (archive).
//!
//! The order of the seal: every file flushed, every folder flushed, the manifest under a temporary
//! name, flushed, renamed, `in-progress.json` removed, the folder flushed, the folder renamed, its
//! parent flushed, the lock removed. A reader takes nothing in an `ID.part/` for a point.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::disk::{self, Disk, TEMPORARY};
use super::lock::Lock;
use super::manifest::{Archive, FORMAT, FileRecord, Manifest, Verdict, safe_name};
use super::point::Point;
use crate::digest::Hasher;
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, PointId, RunId};
use crate::vault::age::Recipients;
use crate::volume::{self, Journal, Volume};

pub(super) const IN_PROGRESS: &str = "in-progress.json";
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const NOTES: &str = "notes.jsonl";
pub(super) const LOGS: &str = "logs";
pub(super) const SETTINGS: &str = "settings";
/// What the name of an archive that is not whole yet ends with.
const PART: &str = ".part";
/// What the name of an encrypted file ends with.
const AGE: &str = ".age";

/// What `in-progress.json` says: who makes this point and how to go on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InProgress {
    /// The run to resume.
    pub run: RunId,
    /// The machine that run is or was on.
    pub host: String,
    /// When the point was begun, UTC.
    pub started: Timestamp,
    /// The command that goes on with it.
    pub go_on: String,
    /// Runs that worked on it before.
    #[serde(default)]
    pub earlier_runs: Vec<RunId>,
}

/// Reads `in-progress.json` of a part; `None` when it is not there or not readable.
pub(super) fn read_in_progress(folder: &Path) -> Option<InProgress> {
    serde_json::from_str(&disk::read_text(&folder.join(IN_PROGRESS), 1 << 20).ok()?).ok()
}

pub(super) fn lock_path(cluster_dir: &Path, id: &PointId) -> PathBuf {
    cluster_dir.join(format!(".{id}.lock"))
}

pub(super) fn part_path(cluster_dir: &Path, id: &PointId) -> PathBuf {
    cluster_dir.join(format!("{id}{PART}"))
}

/// Whether a part holds nothing that a job on a node could not give again: no byte of an archive, no
/// setting. A note of another machine, or a thing that we did not make, says that it is not ours to judge.
pub(super) fn worthless(folder: &Path, machine: &str) -> bool {
    if super::real_dir(folder).is_err() || read_in_progress(folder).is_some_and(|note| note.host != machine) {
        return false;
    }
    let names = |folder: &Path| super::names(folder);
    let Ok(top) = names(folder) else { return false };
    top.iter().all(|name| match name.to_str() {
        Some(LOGS) => super::real_dir(&folder.join(LOGS)).is_ok(),
        Some(SETTINGS) => names(&folder.join(SETTINGS)).is_ok_and(|inside| inside.is_empty()),
        Some(name) if name == IN_PROGRESS || name.ends_with(TEMPORARY) => true,
        Some(name) => {
            let there = std::fs::symlink_metadata(folder.join(name));
            // Of an archive in volumes this is the journal: it is worth as much as it names.
            let nothing = || Journal::read(&folder.join(name)).is_some_and(|journal| journal.volumes.is_empty());
            name.ends_with(PART) && there.is_ok_and(|there| there.is_file() && (there.len() == 0 || nothing()))
        }
        None => false,
    })
}

/// A point that is being made. While this value lives no other ferry can write to the same point;
/// when it is dropped, the folder stays and is *left over*.
#[derive(Debug)]
pub struct PointInProgress {
    disk: Disk,
    cluster: ClusterName,
    id: PointId,
    cluster_dir: PathBuf,
    dir: PathBuf,
    go_on: String,
    lock: Lock,
}

/// An archive that is being received.
#[derive(Debug)]
pub struct ArchivePart {
    /// The open file, positioned at [`ArchivePart::offset`].
    pub file: File,
    /// Where it is while it is not whole: `NAME.part` in the point's folder.
    pub path: PathBuf,
    /// How many bytes an earlier attempt left; 0 for a new one. They are not proved: the receiver
    /// hashes them again.
    pub offset: u64,
    disk: Disk,
    whole: PathBuf,
}

impl ArchivePart {
    /// The archive is whole: flushes it, gives it its final name and flushes the folder. Returns
    /// its path.
    ///
    /// # Errors
    /// [`Kind::Failed`] with the disk's own; the part stays and can be opened again.
    pub fn finish(self) -> Result<PathBuf, Failure> {
        let failed = |error: io::Error| disk::failed(Kind::Failed, "put in place", &self.whole, &error);
        self.disk.sync(&self.file, &self.path).map_err(failed)?;
        self.disk.rename(&self.path, &self.whole).map_err(failed)?;
        let folder = self.whole.parent().unwrap_or(Path::new("/"));
        self.disk.sync_dir(folder).map_err(failed)?;
        Ok(self.whole.clone())
    }
}

impl PointInProgress {
    /// Makes the folder of a new point, or opens the one that an earlier run left.
    pub(super) fn begin(
        disk: &Disk,
        cluster_dir: &Path,
        cluster: &ClusterName,
        id: &PointId,
        mut now: InProgress,
    ) -> Result<Self, Failure> {
        let failed = |doing: &str, path: &Path, error: &io::Error| disk::failed(Kind::Failed, doing, path, error);
        let dir = part_path(cluster_dir, id);
        let lock_path = lock_path(cluster_dir, id);
        let lock = Lock::take(disk, &lock_path).map_err(|error| failed("lock", &lock_path, &error))?;
        let Some(lock) = lock else {
            let who = read_in_progress(&dir).map_or_else(String::new, |there| {
                format!("run {} on {} since {}", there.run, there.host, there.started)
            });
            return Err(Failure::new(Kind::Refused, format!("point {cluster}/{id} is being written by another ferry"))
                .saw(who)
                .why("two writers would mix their bytes")
                .mend(format!("wait for it, or follow it: ferry points show {cluster}/{id}")));
        };
        let sealed = cluster_dir.join(id.as_str());
        if std::fs::symlink_metadata(&sealed).is_ok() {
            lock.remove(disk);
            return Err(Failure::new(Kind::Refused, format!("point {cluster}/{id} is there already"))
                .saw(sealed.display().to_string())
                .why("a sealed point is never written to again"));
        }
        match disk.make_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                super::real_dir(&dir)?;
                if let Some(earlier) = read_in_progress(&dir) {
                    now.started = earlier.started;
                    now.earlier_runs = earlier.earlier_runs;
                    if earlier.run != now.run && !now.earlier_runs.contains(&earlier.run) {
                        now.earlier_runs.push(earlier.run);
                    }
                }
            }
            Err(error) => return Err(failed("make", &dir, &error)),
        }
        let text = serde_json::to_string_pretty(&now).map_err(|error| bug(&error.to_string()))? + "\n";
        let path = dir.join(IN_PROGRESS);
        disk.replace(&path, text.as_bytes()).map_err(|error| failed("write", &path, &error))?;
        for name in [LOGS, SETTINGS] {
            let path = dir.join(name);
            match disk.make_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => super::real_dir(&path)?,
                Err(error) => return Err(failed("make", &path, &error)),
            }
        }
        disk.sync_dir(&dir).map_err(|error| failed("flush", &dir, &error))?;
        disk.sync_dir(cluster_dir).map_err(|error| failed("flush", cluster_dir, &error))?;
        Ok(Self {
            disk: disk.clone(),
            cluster: cluster.clone(),
            id: id.clone(),
            cluster_dir: cluster_dir.to_owned(),
            dir,
            go_on: now.go_on,
            lock,
        })
    }

    /// The point's id.
    pub fn id(&self) -> &PointId {
        &self.id
    }

    /// The cluster's name in the catalog.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The folder `ID.part/`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a file of this name lies in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `logs/`: one file per step.
    pub fn logs_dir(&self) -> PathBuf {
        self.dir.join(LOGS)
    }

    /// The size in bytes of an archive that an earlier run finished, `None` when there is none of
    /// this name.
    pub fn finished_archive(&self, name: &str) -> Option<u64> {
        let there = std::fs::symlink_metadata(self.dir.join(name)).ok()?;
        there.is_file().then_some(there.len())
    }

    /// Opens an archive for receiving: created 0600 under `NAME.part`, or what an earlier attempt
    /// left, positioned at its end.
    ///
    /// # Errors
    /// [`Kind::Failed`]: it is finished already, it is a symbolic link or no regular file, the name
    /// is not one for an archive, the disk's own errors.
    pub fn open_archive(&self, name: &str) -> Result<ArchivePart, Failure> {
        use std::io::Seek as _;
        check_archive_name(name)?;
        let whole = self.dir.join(name);
        if std::fs::symlink_metadata(&whole).is_ok() {
            return Err(Failure::new(Kind::Failed, format!("{} is there already", whole.display()))
                .why("an archive gets this name only when it is whole; it is not written to again"));
        }
        let path = self.dir.join(format!("{name}{PART}"));
        let opened = match self.disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.disk.open(&path),
            other => other,
        };
        let opened = opened.and_then(|mut file| {
            self.disk.chmod(&file, &path, 0o600)?;
            if file.metadata()?.nlink() != 1 {
                return Err(io::Error::other("it has a second name (a hard link)"));
            }
            let offset = file.seek(io::SeekFrom::End(0))?;
            Ok((file, offset))
        });
        let (file, offset) = opened.map_err(|error| disk::failed(Kind::Failed, "open", &path, &error))?;
        Ok(ArchivePart { file, path, offset, disk: self.disk.clone(), whole })
    }

    /// Removes what was received of an archive that will not be part of the point, whole or not.
    ///
    /// # Errors
    /// The disk's own.
    pub fn discard_archive(&self, name: &str) -> Result<(), Failure> {
        check_archive_name(name)?;
        for path in [self.dir.join(format!("{name}{PART}")), self.dir.join(name)] {
            self.disk.remove(&path).map_err(|error| disk::failed(Kind::Failed, "remove", &path, &error))?;
        }
        volume::discard(&self.dir, name)
            .map(drop)
            .map_err(|error| disk::failed(Kind::Failed, "empty", &self.dir, &error))
    }

    /// The volumes of an archive that was received whole in volumes, or encrypted; `None`: it was kept as it came, or is
    /// not whole.
    pub fn volumes_of(&self, name: &str) -> Option<Journal> {
        Journal::read(&self.dir.join(format!("{name}{PART}"))).filter(|journal| journal.over)
    }

    /// Encrypts the files of `logs/`, each into `NAME.age`; what is encrypted already stays. `settings/` stays as it is:
    /// the next backup compares itself with it, and has no identity.
    ///
    /// # Errors
    /// The disk's own; a passphrase that is not given.
    pub fn encrypt_logs(&self, recipients: &Recipients) -> Result<(), Failure> {
        use std::io::Write as _;
        let folder = self.logs_dir();
        let failed = |doing: &str, path: &Path, error: &io::Error| disk::failed(Kind::Failed, doing, path, error);
        for entry in super::names(&folder).map_err(|error| failed("read", &folder, &error))? {
            let Some(name) = entry.to_str().filter(|name| safe_name(name)) else { continue };
            let path = folder.join(name);
            if name.ends_with(AGE) || name.ends_with(TEMPORARY) {
                continue;
            }
            let encrypted = (|| {
                let mut plain = zeroize::Zeroizing::new(Vec::new());
                disk::read(&path)?.read_to_end(&mut plain)?;
                let mut sealed = recipients.seal(Vec::new())?;
                sealed.write_all(&plain)?;
                sealed.finish()
            })();
            let encrypted = encrypted.map_err(|error| failed("encrypt", &path, &error))?;
            let to = folder.join(format!("{name}{AGE}"));
            self.disk.replace(&to, &encrypted).map_err(|error| failed("write", &to, &error))?;
            self.disk.remove(&path).map_err(|error| failed("remove", &path, &error))?;
        }
        Ok(())
    }

    /// Writes a small file (`logs/status-before.json`) in one piece, 0600; one that is there is
    /// replaced.
    ///
    /// # Errors
    /// [`Kind::Failed`]: a path outside `logs/` and `settings/`, the disk's own errors.
    pub fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let below = path.split_once('/').is_some_and(|(folder, name)| {
            [LOGS, SETTINGS].contains(&folder) && safe_name(name) && !name.ends_with(TEMPORARY)
        });
        if !below {
            return Err(Failure::new(Kind::Failed, format!("{path:?} is no place for a file of a point"))
                .why("only `logs/NAME` and `settings/NAME` are"));
        }
        let path = self.dir.join(path);
        self.disk.replace(&path, bytes).map_err(|error| disk::failed(Kind::Failed, "write", &path, &error))
    }

    /// Gives the point up: removes its folder with everything in it.
    ///
    /// # Errors
    /// The disk's own; what is left is shown as *left over*.
    pub fn abandon(self) -> Result<(), Failure> {
        self.disk.remove_tree(&self.dir).map_err(|error| disk::failed(Kind::Failed, "remove", &self.dir, &error))?;
        self.lock.remove(&self.disk);
        Ok(())
    }

    /// Seals the point. `manifest.format` and `manifest.files` are filled in here. The archives
    /// named in it must be there under their final names, with the sizes it states.
    ///
    /// # Errors
    /// [`Kind::Failed`]: an archive is missing, of another size, empty, without proof or damaged;
    /// something in the folder belongs to no sealed point (a part, a symbolic link, an archive that
    /// the manifest does not name); the disk's own errors. The folder stays `ID.part/`.
    pub fn seal(self, manifest: Manifest) -> Result<Point, Failure> {
        let go_on = self.go_on.clone();
        self.seal_inner(manifest).map_err(|failure| match failure.mend {
            None if !go_on.is_empty() => failure.mend(go_on),
            _ => failure,
        })
    }

    fn seal_inner(self, mut manifest: Manifest) -> Result<Point, Failure> {
        let failed = |doing: &str, path: &Path, error: &io::Error| disk::failed(Kind::Failed, doing, path, error);
        if let Some(failure) = Failure::all(self.objections(&manifest)) {
            return Err(failure);
        }
        let stored: Vec<Volume> = manifest.archives.iter().flat_map(Archive::stored).collect();
        let archives: BTreeSet<&str> = stored.iter().map(|volume| volume.file.as_str()).collect();
        let mut files = Vec::new();
        let journals = self.journals(&manifest);
        self.flush(&self.dir, "", &archives, &journals, &mut files)?;
        files.sort_by(|a: &FileRecord, b| a.path.cmp(&b.path));
        manifest.format = FORMAT;
        manifest.files = files;

        let path = self.dir.join(MANIFEST);
        let text = manifest.to_text().map_err(|error| bug(&error.to_string()))?;
        // What we write must be what a reader gets: a manifest that cannot be read again would make
        // the whole point none. Durations and status are left out: JSON may round a fraction.
        let again = Manifest::parse(MANIFEST, &text)?;
        if (&again.id, &again.cluster, &again.archives, &again.files, again.complete)
            != (&manifest.id, &manifest.cluster, &manifest.archives, &manifest.files, manifest.complete)
        {
            return Err(bug("the manifest does not read back as it was written"));
        }
        self.disk.replace(&path, text.as_bytes()).map_err(|error| failed("write", &path, &error))?;
        // From here on the manifest says what the volumes are.
        for path in self.journals(&manifest) {
            self.disk.remove(&path).map_err(|error| failed("remove", &path, &error))?;
        }
        let marker = self.dir.join(IN_PROGRESS);
        self.disk.remove(&marker).map_err(|error| failed("remove", &marker, &error))?;
        self.disk.sync_dir(&self.dir).map_err(|error| failed("flush", &self.dir, &error))?;
        let sealed = self.cluster_dir.join(self.id.as_str());
        if std::fs::symlink_metadata(&sealed).is_ok() {
            return Err(Failure::new(Kind::Failed, format!("{} is there already", sealed.display()))
                .why("a sealed point is never replaced"));
        }
        self.disk.rename(&self.dir, &sealed).map_err(|error| failed("rename", &self.dir, &error))?;
        self.disk.sync_dir(&self.cluster_dir).map_err(|error| {
            failed("flush", &self.cluster_dir, &error)
                .why("the point has its final name, but the disk did not confirm that the name is kept")
                .mend(format!("ferry points verify {}/{}", self.cluster, self.id))
        })?;
        self.lock.remove(&self.disk);
        Point::load(&self.cluster, &sealed)
    }

    /// The journals of archives that were received in volumes.
    fn journals(&self, manifest: &Manifest) -> Vec<PathBuf> {
        let parts = manifest.archives.iter().map(|archive| self.dir.join(format!("{}{PART}", archive.file)));
        parts.filter(|path| Journal::read(path).is_some_and(|journal| journal.over)).collect()
    }

    /// Why this must not be sealed.
    fn objections(&self, manifest: &Manifest) -> Vec<Failure> {
        let mut objections = Vec::new();
        let mut object = |what: String, seen: String, why: &str| {
            objections.push(Failure::new(Kind::Failed, what).saw(seen).why(why));
        };
        let Self { id, cluster, .. } = self;
        if manifest.id != *id || manifest.cluster.group != *cluster {
            let seen = format!("the manifest is for {}/{}", manifest.cluster.group, manifest.id);
            object(format!("point {cluster}/{id} cannot be sealed"), seen, "a manifest belongs to one point");
        }
        if manifest.archives.is_empty() {
            object(
                format!("point {cluster}/{id} cannot be sealed"),
                "no archive".to_owned(),
                "a point without an archive restores nothing",
            );
        }
        let mut seen_names = BTreeSet::new();
        for archive in &manifest.archives {
            let not_sealed = format!("{} cannot be sealed", archive.file);
            if let Err(failure) = check_archive_name(&archive.file) {
                objections_push(&mut object, &not_sealed, &failure);
                continue;
            }
            if !seen_names.insert(&archive.file) {
                object(not_sealed.clone(), "the manifest names it twice".to_owned(), "an archive has one record");
            }
            for volume in archive.stored() {
                if let Err(failure) = check_archive_name(&volume.file) {
                    objections_push(&mut object, &not_sealed, &failure);
                    continue;
                }
                if archive.is_wrapped() && !volume::is_volume_of(&archive.file, &volume.file) {
                    object(not_sealed.clone(), volume.file.clone(), "a volume bears its archive's name");
                }
                match std::fs::symlink_metadata(self.dir.join(&volume.file)) {
                    Err(error) => {
                        object(not_sealed.clone(), error.to_string(), "what is not a whole archive is never sealed")
                    }
                    Ok(there) if !there.is_file() => object(
                        not_sealed.clone(),
                        "it is a symbolic link or no regular file".to_owned(),
                        "the bytes must lie in the point's own folder",
                    ),
                    Ok(there) if there.len() != volume.bytes => object(
                        not_sealed.clone(),
                        format!("{} bytes on the disk, {} proved", there.len(), volume.bytes),
                        "what is not a whole archive is never sealed",
                    ),
                    Ok(_) => {}
                }
            }
            if archive.bytes == 0 || archive.members == 0 {
                let seen = format!("{} bytes, {} members", archive.bytes, archive.members);
                object(not_sealed.clone(), seen, "an empty archive restores nothing");
            }
            if archive.verified_how.is_empty() {
                object(not_sealed.clone(), "no proof is named".to_owned(), "what is not proved is never sealed");
            }
            if archive.verdict == Verdict::Damaged {
                object(not_sealed, "its verdict is damaged".to_owned(), "what is not a whole archive is never sealed");
            }
        }
        objections
    }

    /// Flushes everything below `folder`, sets the rights, and records what is no archive.
    fn flush(
        &self,
        folder: &Path,
        prefix: &str,
        archives: &BTreeSet<&str>,
        journals: &[PathBuf],
        files: &mut Vec<FileRecord>,
    ) -> Result<(), Failure> {
        let failed = |doing: &str, path: &Path, error: &io::Error| disk::failed(Kind::Failed, doing, path, error);
        let entries = super::names(folder).map_err(|error| failed("read", folder, &error))?;
        for entry in entries {
            let path = folder.join(&entry);
            let strange = |why: &str| {
                Failure::new(Kind::Failed, format!("{} does not belong in a sealed point", path.display()))
                    .why(why.to_owned())
            };
            let Some(name) = entry.to_str().filter(|name| safe_name(name)) else {
                return Err(strange("its name is hidden or cannot be written in a manifest"));
            };
            let kind = std::fs::symlink_metadata(&path).map_err(|error| failed("read", &path, &error))?;
            let top = prefix.is_empty();
            if kind.is_dir() {
                self.flush(&path, &format!("{prefix}{name}/"), archives, journals, files)?;
                continue;
            }
            if !kind.is_file() {
                return Err(strange("it is a symbolic link or no regular file"));
            }
            if name.ends_with(TEMPORARY) {
                // Left by a write that was interrupted.
                self.disk.remove(&path).map_err(|error| failed("remove", &path, &error))?;
                continue;
            }
            if top && ([IN_PROGRESS, MANIFEST].contains(&name) || journals.contains(&path)) {
                continue;
            }
            let is_archive = top && archives.contains(name);
            if top && !is_archive && (name.ends_with(PART) || name.contains(".tar")) {
                return Err(strange("the manifest does not name it, and what is not a proved archive is never sealed"));
            }
            let mut file = self.disk.open(&path).map_err(|error| failed("open", &path, &error))?;
            self.disk.chmod(&file, &path, 0o600).map_err(|error| failed("protect", &path, &error))?;
            let changes_later = top && name == NOTES;
            if !is_archive && !changes_later {
                let mut hasher = Hasher::new();
                read_all(&mut file, |bytes| hasher.update(bytes)).map_err(|error| failed("read", &path, &error))?;
                let bytes = hasher.bytes();
                files.push(FileRecord { path: format!("{prefix}{name}"), bytes, sha256: hasher.finish() });
            }
            self.disk.sync(&file, &path).map_err(|error| failed("flush", &path, &error))?;
        }
        let handle = File::open(folder).map_err(|error| failed("open", folder, &error))?;
        self.disk.chmod(&handle, folder, 0o700).map_err(|error| failed("protect", folder, &error))?;
        self.disk.sync_dir(folder).map_err(|error| failed("flush", folder, &error))
    }
}

fn objections_push(object: &mut impl FnMut(String, String, &str), what: &str, failure: &Failure) {
    object(what.to_owned(), failure.seen.clone().unwrap_or_default(), failure.why.as_deref().unwrap_or_default());
}

/// Reads a file to its end in pieces of 1 MiB.
pub(super) fn read_all(file: &mut File, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => each(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn check_archive_name(name: &str) -> Result<(), Failure> {
    let reserved = [IN_PROGRESS, MANIFEST, NOTES, LOGS, SETTINGS].contains(&name);
    if safe_name(name) && !reserved && !name.ends_with(PART) && !name.ends_with(TEMPORARY) {
        return Ok(());
    }
    Err(Failure::new(Kind::Failed, "this is no name for an archive")
        .saw(format!("{name:?}"))
        .why("a file name such as gravity.tar.gz is expected"))
}

fn bug(what: &str) -> Failure {
    Failure::new(Kind::Bug, format!("a manifest could not be written: {what}"))
}
