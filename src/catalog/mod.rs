//! The catalog: the shelf of recovery points, off the cluster.
//!
//! What lives here: recovery points in a local folder, `CATALOG/CLUSTER/ID/`: making, sealing,
//! listing, finding, verifying and noting them, and what earlier points tell about the next; the other
//! places that points are kept in (`place`, `shelf`), and what may be deleted (`retention`). What
//! does not: the bytes' way here (transfer), the walk through an archive (archive), what a verdict
//! permits (gravity).
//!
//! Every function of [`Catalog`] blocks on the disk; asynchronous callers put them on a blocking thread.

pub mod check;
mod disk;
pub mod export;
mod history;
mod lock;
mod manifest;
pub mod overview;
pub mod place;
mod point;
mod progress;
pub mod retention;
pub mod shelf;
mod verify;

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

pub use crate::volume::{Encryption, Volume};
pub use disk::{Disk, Step};
pub use history::{COUNT, Estimate, Expected, Past, backup_timeout, estimate, expected_bytes, judge};
pub use manifest::{
    Archive, ArchiveKind, ClusterFacts, ContentsRow, Durations, FORMAT, FileRecord, InBackup, Manifest, Verdict,
    Waiver, Who, contents_rows,
};
pub use point::{Note, Notes, Point, Remark};
pub use progress::{ArchivePart, InProgress, PointInProgress};
pub use verify::{Defect, Inspect, Reread, VerifyReport};

use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, PointId, RunId, nearest};
use crate::vault::age::Identities;

/// Recovery points in a local folder.
#[derive(Debug, Clone)]
pub struct Catalog {
    root: PathBuf,
    disk: Disk,
}

/// How much room a disk has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Free for us.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// A folder `ID.part/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The cluster's name in the catalog.
    pub cluster: ClusterName,
    /// The id it will have.
    pub id: PointId,
    /// The folder.
    pub dir: PathBuf,
    /// Who makes or made it, as `in-progress.json` says.
    pub note: Option<InProgress>,
    /// The run to resume, also when only the manifest still names it.
    pub run: Option<RunId>,
    /// Bytes that lie there.
    pub bytes: u64,
}

/// What lies in the catalog under one id.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A recovery point.
    Sealed(Box<Point>),
    /// A ferry is writing it now.
    InProgress(Unfinished),
    /// No ferry is writing it; the run can be resumed.
    LeftOver(Unfinished),
    /// A folder that is no point.
    Broken {
        /// The cluster's name in the catalog.
        cluster: ClusterName,
        /// The id that the folder bears.
        id: PointId,
        /// The folder.
        dir: PathBuf,
        /// Why it is no point.
        why: Box<Failure>,
    },
}

/// One line of `points list --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The cluster's name in the catalog.
    pub cluster: ClusterName,
    /// The id.
    pub id: PointId,
    /// `verified`, `suspect`, `damaged`, `in trash`, `in progress`, `left over` or `no point`.
    pub state: String,
    /// Whether every wanted part is there; null for what is no sealed point.
    pub complete: Option<bool>,
    /// `--label`.
    pub label: Option<String>,
    /// When its run ended, UTC.
    pub finished: Option<Timestamp>,
    /// Size in bytes.
    pub bytes: u64,
    /// Version of PCE.
    pub pce_version: Option<String>,
    /// The main node.
    pub node: Option<String>,
    /// True while it must not be deleted.
    pub held: bool,
    /// Until when it lies in the trash at least; null when it does not.
    pub trash_until: Option<Timestamp>,
    /// Other places that verified a copy.
    pub replicas: Vec<String>,
    /// The run that made it or is to be resumed.
    pub run: Option<RunId>,
    /// The folder.
    pub path: String,
    /// What to know: why it is no point, how to go on, what is damaged. May be empty.
    pub remark: String,
}

impl Entry {
    /// The id that the folder bears.
    pub fn id(&self) -> &PointId {
        match self {
            Self::Sealed(point) => point.id(),
            Self::InProgress(part) | Self::LeftOver(part) => &part.id,
            Self::Broken { id, .. } => id,
        }
    }

    /// The cluster's name in the catalog.
    pub fn cluster(&self) -> &ClusterName {
        match self {
            Self::Sealed(point) => &point.cluster,
            Self::InProgress(part) | Self::LeftOver(part) => &part.cluster,
            Self::Broken { cluster, .. } => cluster,
        }
    }

    /// The entry as a line of a listing; `now` decides whether it is still held.
    pub fn summary(&self, now: Timestamp) -> Summary {
        let empty = |dir: &Path, state: &str| Summary {
            cluster: self.cluster().clone(),
            id: self.id().clone(),
            state: state.to_owned(),
            complete: None,
            label: None,
            finished: None,
            bytes: 0,
            pce_version: None,
            node: None,
            held: false,
            trash_until: None,
            replicas: Vec::new(),
            run: None,
            path: dir.display().to_string(),
            remark: String::new(),
        };
        match self {
            Self::Sealed(point) => {
                let manifest = &point.manifest;
                let doubts = manifest.archives.iter().filter(|archive| point.verdict_of(archive) == Verdict::Suspect);
                let mut remarks: Vec<String> = point.defects().iter().map(ToString::to_string).collect();
                remarks.extend(doubts.map(|archive| format!("{}: {}", archive.file, archive.why)));
                remarks.extend(point.notes.unreadable.iter().cloned());
                let trash = point.in_trash();
                remarks.extend(trash.map(|until| format!("kept there until {}", until.strftime("%Y-%m-%d %H:%M UTC"))));
                let state = trash.map_or_else(|| point.verdict().to_string(), |_| "in trash".to_owned());
                Summary {
                    complete: Some(manifest.complete),
                    label: manifest.label.clone(),
                    finished: Some(manifest.finished),
                    bytes: point.bytes(),
                    pce_version: manifest.pce_version.clone(),
                    node: Some(manifest.node.to_string()),
                    held: point.held(now),
                    trash_until: trash,
                    replicas: point.replicas().into_iter().map(str::to_owned).collect(),
                    run: Some(manifest.run.clone()),
                    remark: remarks.join("; "),
                    ..empty(&point.dir, &state)
                }
            }
            Self::InProgress(part) | Self::LeftOver(part) => {
                let state = if matches!(self, Self::InProgress(_)) { "in progress" } else { "left over" };
                let remark = match (&part.note, &part.run) {
                    (Some(note), _) if matches!(self, Self::InProgress(_)) => {
                        format!("run {} on {}", note.run, note.host)
                    }
                    (Some(note), _) => format!("run {} on {}; go on: {}", note.run, note.host, note.go_on),
                    (None, Some(run)) => format!("go on: ferry runs resume {run}"),
                    (None, None) => "nothing says which run made it".to_owned(),
                };
                Summary { bytes: part.bytes, run: part.run.clone(), remark, ..empty(&part.dir, state) }
            }
            Self::Broken { dir, why, .. } => Summary { remark: why.to_string(), ..empty(dir, "no point") },
        }
    }
}

impl Catalog {
    /// Opens the catalog in `root` for writing, making the folder (0700) where it is missing. That
    /// it can be written is tried with a real file.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`]: not writable, full, world-writable or in a world-writable folder,
    /// or one of its clusters is a symbolic link.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        Self::open_on(root, Disk::default())
    }

    /// As [`Catalog::open`], with a disk that a test watches.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub fn open_on(root: &Path, disk: Disk) -> Result<Self, Failure> {
        let failed = |doing: &str, error: &io::Error| disk::failed(Kind::CouldNotStart, doing, root, error);
        let absolute = std::path::absolute(root).map_err(|error| failed("find", &error))?;
        let mut missing: Vec<&Path> = Vec::new();
        let mut there = absolute.as_path();
        while std::fs::metadata(there).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            missing.push(there);
            match there.parent() {
                Some(parent) => there = parent,
                None => break,
            }
        }
        if !missing.is_empty() {
            refuse_open_parent(there)?;
        }
        for folder in missing.into_iter().rev() {
            match disk.make_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(disk::failed(Kind::CouldNotStart, "make", folder, &error));
                }
                _ => {}
            }
        }
        let catalog = Self { root: safe_root(&absolute)?, disk };
        catalog.probe()?;
        Ok(catalog)
    }

    /// Opens the catalog in `root` for reading: nothing is made or tried. A folder that is not
    /// there is an empty catalog.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`], as far as [`Catalog::open`] finds them without writing.
    pub fn open_read(root: &Path) -> Result<Self, Failure> {
        let failed = |error: &io::Error| disk::failed(Kind::CouldNotStart, "find", root, error);
        let absolute = std::path::absolute(root).map_err(|error| failed(&error))?;
        match std::fs::metadata(&absolute) {
            Ok(_) => Ok(Self { root: safe_root(&absolute)?, disk: Disk::default() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { root: absolute, disk: Disk::default() }),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The disk it writes through, for [`Point::note`] and [`Point::accept`].
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Writes, flushes and removes a file: what a permission bit promises, a full, read-only or
    /// broken disk does not keep.
    fn probe(&self) -> Result<(), Failure> {
        let path = self.root.join(format!(".probe-{:016x}", rand::random::<u64>()));
        let failed = |error: &io::Error| {
            disk::failed(Kind::CouldNotStart, "write to the catalog: a trial file failed,", &path, error)
        };
        let mut file = self.disk.create(&path).map_err(|error| failed(&error))?;
        let written = self.disk.write(&mut file, &path, &[0x5a; 4096]).and_then(|()| self.disk.sync(&file, &path));
        let removed = self.disk.remove(&path);
        written.and(removed).map_err(|error| failed(&error))
    }

    /// How much room the catalog's disk has.
    ///
    /// # Errors
    /// The disk's own.
    pub fn room(&self) -> Result<Room, Failure> {
        let stat = rustix::fs::statvfs(&self.root)
            .map_err(|error| disk::failed(Kind::CouldNotStart, "measure", &self.root, &error.into()))?;
        Ok(Room {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    fn cluster_dir(&self, cluster: &ClusterName) -> PathBuf {
        self.root.join(cluster.as_str())
    }

    /// Begins the point `id`, or goes on with what an earlier run left of it. `go_on` is the
    /// command that a person types to go on with it later; `host` is this machine.
    ///
    /// # Errors
    /// [`Kind::Refused`] when another ferry is writing it or it is sealed; [`Kind::Failed`] with
    /// the disk's own.
    pub fn begin(
        &self,
        cluster: &ClusterName,
        id: &PointId,
        run: &RunId,
        host: &str,
        go_on: &str,
    ) -> Result<PointInProgress, Failure> {
        let dir = self.cluster_dir(cluster);
        match self.disk.make_dir(&dir) {
            Ok(()) => {
                self.disk.sync_dir(&self.root).map_err(|e| disk::failed(Kind::Failed, "flush", &self.root, &e))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => real_dir(&dir)?,
            Err(error) => return Err(disk::failed(Kind::Failed, "make", &dir, &error)),
        }
        let now = InProgress {
            run: run.clone(),
            host: host.to_owned(),
            started: Timestamp::now(),
            go_on: go_on.to_owned(),
            earlier_runs: Vec::new(),
        };
        PointInProgress::begin(&self.disk, &dir, cluster, id, now)
    }

    /// The clusters that have a folder here, sorted.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] with the disk's own.
    pub fn clusters(&self) -> Result<Vec<ClusterName>, Failure> {
        let names = match names(&self.root) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(disk::failed(Kind::CouldNotStart, "read", &self.root, &error)),
        };
        let mut clusters: Vec<ClusterName> = names
            .iter()
            .filter(|name| std::fs::symlink_metadata(self.root.join(name)).is_ok_and(|there| there.is_dir()))
            .filter_map(|name| name.to_str()?.parse().ok())
            .collect();
        clusters.sort();
        Ok(clusters)
    }

    /// All that lies in the catalog, or in one cluster's folder, by id.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] with the disk's own. A folder that is no point is an
    /// [`Entry::Broken`], not an error.
    pub fn list(&self, cluster: Option<&ClusterName>) -> Result<Vec<Entry>, Failure> {
        let clusters = match cluster {
            Some(cluster) => vec![cluster.clone()],
            None => self.clusters()?,
        };
        let mut entries = Vec::new();
        for cluster in clusters {
            let dir = self.cluster_dir(&cluster);
            match std::fs::symlink_metadata(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                _ => real_dir(&dir)?,
            }
            let names = names(&dir).map_err(|error| disk::failed(Kind::CouldNotStart, "read", &dir, &error))?;
            for name in names {
                let Some(name) = name.to_str() else { continue };
                let (text, part) = name.strip_suffix(".part").map_or((name, false), |text| (text, true));
                let Ok(id) = text.parse::<PointId>() else { continue };
                let path = dir.join(name);
                if !part {
                    entries.push(self.sealed(&cluster, id, path));
                } else if let Some(entry) = self.unfinished(&cluster, id.clone(), path) {
                    entries.push(entry);
                } else {
                    // It was sealed between our reading of the names and now, or given up.
                    let path = dir.join(text);
                    if std::fs::symlink_metadata(&path).is_ok() {
                        entries.push(self.sealed(&cluster, id, path));
                    }
                }
            }
        }
        entries.sort_by(|a, b| (a.id(), a.cluster()).cmp(&(b.id(), b.cluster())));
        // Both names may have been seen of a point that was sealed meanwhile.
        entries.dedup_by(|b, a| matches!((&*a, &*b), (Entry::Sealed(a), Entry::Sealed(b)) if a.dir == b.dir));
        Ok(entries)
    }

    /// Removes what ferries that were killed left of points for which nothing had arrived yet: a part
    /// made on `machine` without a byte of an archive, and lock files that nobody holds. Parts in
    /// `keep` stay. Call it only while no other ferry works on the cluster. Returns what was removed.
    pub fn sweep(&self, cluster: &ClusterName, machine: &str, keep: &[PointId]) -> Vec<PointId> {
        let dir = self.cluster_dir(cluster);
        let mut removed = Vec::new();
        if real_dir(&dir).is_err() {
            return removed;
        }
        for name in names(&dir).unwrap_or_default() {
            let Some(name) = name.to_str() else { continue };
            let of_lock = name.strip_prefix('.').and_then(|name| name.strip_suffix(".lock"));
            let Some(id) = of_lock.or_else(|| name.strip_suffix(".part")).and_then(|text| text.parse::<PointId>().ok())
            else {
                continue;
            };
            let part = progress::part_path(&dir, &id);
            let there = std::fs::symlink_metadata(&part).is_ok();
            if keep.contains(&id) || there && !progress::worthless(&part, machine) {
                continue;
            }
            if let Ok(Some(lock)) = lock::Lock::take(&self.disk, &progress::lock_path(&dir, &id)) {
                if there && self.disk.remove_tree(&part).is_ok() {
                    removed.push(id);
                }
                lock.remove(&self.disk);
            }
        }
        removed
    }

    fn sealed(&self, cluster: &ClusterName, id: PointId, dir: PathBuf) -> Entry {
        match Point::load(cluster, &dir) {
            Ok(point) => Entry::Sealed(Box::new(point)),
            Err(why) => Entry::Broken { cluster: cluster.clone(), id, dir, why: Box::new(why) },
        }
    }

    /// `None` when it was sealed or abandoned between the reading of the names and now.
    fn unfinished(&self, cluster: &ClusterName, id: PointId, dir: PathBuf) -> Option<Entry> {
        if let Err(why) = real_dir(&dir) {
            std::fs::symlink_metadata(&dir).ok()?;
            return Some(Entry::Broken { cluster: cluster.clone(), id, dir, why: Box::new(why) });
        }
        let held = lock::held(&progress::lock_path(&self.cluster_dir(cluster), &id));
        let note = progress::read_in_progress(&dir);
        let run = note
            .as_ref()
            .map(|note| note.run.clone())
            .or_else(|| Manifest::read(&dir.join(progress::MANIFEST)).ok().map(|manifest| manifest.run));
        let bytes = names(&dir)
            .unwrap_or_default()
            .iter()
            .filter_map(|name| std::fs::symlink_metadata(dir.join(name)).ok())
            .filter(std::fs::Metadata::is_file)
            .map(|there| there.len())
            .sum();
        let part = Unfinished { cluster: cluster.clone(), id, dir, note, run, bytes };
        Some(if held { Entry::InProgress(part) } else { Entry::LeftOver(part) })
    }

    /// Finds one sealed point by id, unique beginning of an id, `CLUSTER/ID` (beginnings too), or
    /// `latest`: the newest point of a cluster whose verdict is *verified*. `cluster` narrows the
    /// search; `CLUSTER/` in the text does too.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] with the candidates, when none or several fit or what fits is no
    /// sealed point.
    pub fn find(&self, text: &str, cluster: Option<&ClusterName>) -> Result<Point, Failure> {
        let (cluster, text) = match text.split_once('/') {
            None => (cluster.cloned(), text),
            Some((name, rest)) => {
                let name: ClusterName = name.parse().map_err(|error: crate::name::BadName| {
                    Failure::new(Kind::CouldNotStart, format!("no point {text:?}")).saw(error.to_string())
                })?;
                if let Some(other) = cluster.filter(|other| **other != name) {
                    return Err(Failure::new(Kind::CouldNotStart, format!("{text} is not a point of {other}")));
                }
                (Some(name), rest)
            }
        };
        if let Some(cluster) = &cluster {
            self.known(cluster)?;
        }
        choose(self.list(cluster.as_ref())?, text, cluster.as_ref(), &self.root.display().to_string())
    }

    /// An error with the nearest names when there is no folder of this cluster.
    fn known(&self, cluster: &ClusterName) -> Result<(), Failure> {
        let clusters = self.clusters()?;
        if clusters.contains(cluster) || std::fs::symlink_metadata(self.cluster_dir(cluster)).is_ok() {
            return Ok(());
        }
        let near = nearest(cluster.as_str(), clusters.iter().map(ClusterName::as_str), 3);
        let failure = Failure::new(Kind::CouldNotStart, format!("no point of {cluster} in {}", self.root.display()));
        Err(if near.is_empty() { failure } else { failure.mend(format!("did you mean {}?", near.join(" or "))) })
    }

    /// Reads every byte of `point` again and notes the outcome on it. `inspect` gives a fresh walk
    /// for an archive; `progress` hears bytes done and bytes in total.
    ///
    /// # Errors
    /// None for what is wrong with the point: that is in the report. [`Kind::CouldNotStart`] when
    /// the point's folder is gone.
    pub fn verify(
        &self,
        point: &mut Point,
        who: &Who,
        inspect: &dyn Fn(&Archive) -> Box<dyn Inspect + Send>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<VerifyReport, Failure> {
        self.verify_with(point, who, None, inspect, progress)
    }

    /// As [`Catalog::verify`], opening what is encrypted with `identities`. Without them the files are compared with their
    /// digests as they lie, and the report says what was not looked into.
    ///
    /// # Errors
    /// As [`Catalog::verify`].
    pub fn verify_with(
        &self,
        point: &mut Point,
        who: &Who,
        identities: Option<&Arc<Identities>>,
        inspect: &dyn Fn(&Archive) -> Box<dyn Inspect + Send>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<VerifyReport, Failure> {
        real_dir(&point.dir)?;
        Ok(verify::verify(&self.disk, point, who, identities, inspect, progress))
    }

    /// The earlier archives of this kind of a cluster, newest first: for [`expected_bytes`],
    /// [`backup_timeout`] and [`judge`].
    ///
    /// # Errors
    /// As [`Catalog::list`].
    pub fn history(&self, cluster: &ClusterName, kind: ArchiveKind) -> Result<Vec<Past>, Failure> {
        let entries = self.list(Some(cluster))?;
        let pasts = entries.iter().rev().filter_map(|entry| match entry {
            Entry::Sealed(point) => point.manifest.archive(kind).map(|archive| Past {
                id: point.id().clone(),
                finished: point.manifest.finished,
                bytes: archive.bytes,
                content_bytes: archive.content_bytes,
                members: archive.members,
                backup_seconds: point.manifest.durations.backup_seconds,
                transfer_seconds: point.manifest.durations.transfer_seconds,
                point_bytes: point.bytes(),
                verdict: point.verdict_of(archive),
            }),
            _ => None,
        });
        Ok(pasts.collect())
    }
}

/// One sealed point of `entries`, by id, unique beginning of an id, `CLUSTER/ID` or `latest`, as [`Catalog::find`]
/// finds it. `place` is where they are, for people.
fn pick(mut entries: Vec<Entry>, text: &str, cluster: Option<&ClusterName>, place: &str) -> Result<Point, Failure> {
    let (cluster, text) = match text.split_once('/') {
        None => (cluster.cloned(), text),
        Some((name, rest)) => {
            let name: ClusterName = name.parse().map_err(|error: crate::name::BadName| {
                Failure::new(Kind::CouldNotStart, format!("no point {text:?}")).saw(error.to_string())
            })?;
            (Some(name), rest)
        }
    };
    if let Some(cluster) = &cluster {
        entries.retain(|entry| entry.cluster() == cluster);
    }
    choose(entries, text, cluster.as_ref(), place)
}

fn choose(entries: Vec<Entry>, text: &str, cluster: Option<&ClusterName>, place: &str) -> Result<Point, Failure> {
    if text == "latest" {
        return latest(entries, cluster);
    }
    let exact = |entry: &Entry| entry.id().as_str() == text;
    let one_exact = entries.iter().any(exact);
    let mut fitting: Vec<Entry> = Vec::new();
    let mut others: Vec<String> = Vec::new();
    for entry in entries {
        let fits = if one_exact { exact(&entry) } else { !text.is_empty() && entry.id().as_str().starts_with(text) };
        if fits {
            fitting.push(entry);
        } else {
            others.push(shown(&entry));
        }
    }
    let sealed = |entry: &Entry| matches!(entry, Entry::Sealed(_));
    if fitting.iter().filter(|entry| sealed(entry)).count() == 1 && (one_exact || fitting.len() == 1) {
        fitting.retain(sealed);
    }
    match (fitting.pop(), fitting.is_empty()) {
        (Some(Entry::Sealed(point)), true) => Ok(*point),
        (Some(entry), true) => {
            let line = entry.summary(Timestamp::now());
            Err(Failure::new(Kind::CouldNotStart, format!("{} is no recovery point: {}", shown(&entry), line.state))
                .saw(line.remark)
                .why("a point counts from its seal on"))
        }
        (Some(last), false) => {
            let candidates: Vec<String> = fitting.iter().chain([&last]).map(shown).collect();
            Err(Failure::new(Kind::CouldNotStart, format!("{text:?} fits {} points", candidates.len()))
                .saw(candidates.join(", "))
                .mend("write one of them out"))
        }
        (None, _) => {
            let ids = others.iter().filter_map(|name| name.rsplit('/').next());
            let near: Vec<&str> = nearest(text, ids, 3)
                .into_iter()
                .flat_map(|id| others.iter().filter(move |name| name.ends_with(id)))
                .map(String::as_str)
                .collect();
            let failure = Failure::new(Kind::CouldNotStart, format!("no point {text:?} in {}", place));
            Err(if near.is_empty() {
                failure.mend("ferry points list")
            } else {
                failure.mend(format!("did you mean {}?", near.join(" or ")))
            })
        }
    }
}

fn latest(entries: Vec<Entry>, cluster: Option<&ClusterName>) -> Result<Point, Failure> {
    let Some(cluster) = cluster else {
        let mut clusters: Vec<String> = entries.iter().map(|entry| format!("{}/latest", entry.cluster())).collect();
        clusters.sort();
        clusters.dedup();
        return Err(Failure::new(Kind::CouldNotStart, "`latest` of which cluster?").mend(clusters.join(" or ")));
    };
    let now = Timestamp::now();
    let lines: Vec<String> =
        entries.iter().map(|entry| format!("{}: {}", entry.id(), entry.summary(now).state)).collect();
    let mut points = entries.into_iter().rev().filter_map(|entry| match entry {
        Entry::Sealed(point) if point.verdict() == Verdict::Verified && point.in_trash().is_none() => Some(*point),
        _ => None,
    });
    points.next().ok_or_else(|| {
        Failure::new(Kind::CouldNotStart, format!("{cluster} has no verified point"))
            .saw(if lines.is_empty() { "none at all".to_owned() } else { lines.join(", ") })
            .mend(format!("ferry backup {cluster}"))
    })
}

fn shown(entry: &Entry) -> String {
    format!("{}/{}", entry.cluster(), entry.id())
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Refuses a path that is not itself a folder: the catalog is never led elsewhere by a symbolic link.
fn real_dir(path: &Path) -> Result<(), Failure> {
    let there =
        std::fs::symlink_metadata(path).map_err(|error| disk::failed(Kind::CouldNotStart, "read", path, &error))?;
    if there.is_dir() {
        return Ok(());
    }
    let what = if there.file_type().is_symlink() { "a symbolic link" } else { "not a folder" };
    Err(Failure::new(Kind::CouldNotStart, format!("{} is {what}", path.display()))
        .why("folders of the catalog are never followed elsewhere: a point must lie where it says")
        .mend("move the folder itself there, or name its real place with `--catalog`"))
}

const WORLD_WRITABLE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Refuses a folder in which anybody could replace the catalog by another.
fn refuse_open_parent(parent: &Path) -> Result<(), Failure> {
    let there = std::fs::metadata(parent).map_err(|error| disk::failed(Kind::CouldNotStart, "read", parent, &error))?;
    if there.mode() & WORLD_WRITABLE != 0 && there.mode() & STICKY == 0 {
        return Err(Failure::new(
            Kind::CouldNotStart,
            format!("the catalog would lie in {}, which anybody can write to", parent.display()),
        )
        .saw(format!("mode {:04o}", there.mode() & 0o7777))
        .why("anybody on this machine could put other archives in the place of ours")
        .mend(format!("chmod o-w {}, or name another catalog with `--catalog`", parent.display())));
    }
    Ok(())
}

/// The catalog's real folder, after the checks that need no writing.
fn safe_root(root: &Path) -> Result<PathBuf, Failure> {
    let failed = |doing: &str, error: &io::Error| disk::failed(Kind::CouldNotStart, doing, root, error);
    // The root may be a symbolic link of the operator's own; below it none is followed.
    let root = std::fs::canonicalize(root).map_err(|error| failed("find", &error))?;
    let there = std::fs::metadata(&root).map_err(|error| failed("read", &error))?;
    if !there.is_dir() {
        return Err(Failure::new(Kind::CouldNotStart, format!("the catalog {} is not a folder", root.display()))
            .mend("name a folder with `--catalog`"));
    }
    if there.mode() & WORLD_WRITABLE != 0 {
        return Err(Failure::new(Kind::CouldNotStart, format!("anybody can write to the catalog {}", root.display()))
            .saw(format!("mode {:04o}", there.mode() & 0o7777))
            .why("anybody on this machine could put other archives in the place of ours")
            .mend(format!("chmod 700 {}", root.display())));
    }
    if let Some(parent) = root.parent() {
        refuse_open_parent(parent)?;
    }
    for name in names(&root).map_err(|error| failed("read", &error))? {
        let path = root.join(&name);
        let link = std::fs::symlink_metadata(&path).is_ok_and(|there| there.file_type().is_symlink());
        if link && name.to_str().is_some_and(|name| name.parse::<ClusterName>().is_ok()) {
            real_dir(&path)?;
        }
    }
    Ok(root)
}
