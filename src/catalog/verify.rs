//! Reading a sealed point again, every byte.
//!
//! What lives here: comparing what lies on the disk with the manifest, and naming what differs.
//! What does not: the walk through gzip and tar, which the caller hands in as an [`Inspect`].

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::disk::{self, Disk};
use super::export::{README, SUMS};
use super::manifest::{Archive, Who};
use super::point::{Note, Point, Remark};
use super::progress::{IN_PROGRESS, MANIFEST, NOTES, read_all};
use crate::digest::{Hasher, Sha256};
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, PointId};
use crate::vault::age::{Identities, Locked};
use crate::volume::Feed;

/// A walk through the bytes of one archive.
pub trait Inspect {
    /// Takes the next bytes.
    fn feed(&mut self, bytes: &[u8]);
    /// The number of members, or what is wrong and at which byte.
    ///
    /// # Errors
    /// A sentence for people.
    fn finish(self: Box<Self>) -> Result<u64, String>;
}

/// One thing that is not as the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defect {
    /// The file, relative to the point's folder.
    pub file: String,
    /// `missing`, `size`, `sha256`, `archive`, `members`, `content sha256` or `unreadable`.
    pub what: String,
    /// What the manifest says.
    pub expected: String,
    /// What is there.
    pub seen: String,
}

impl std::fmt::Display for Defect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, what, expected, seen } = self;
        write!(f, "{file}: {what}: expected {expected}, seen {seen}")
    }
}

/// What one archive turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reread {
    /// The file.
    pub file: String,
    /// Bytes read.
    pub bytes: u64,
    /// Digest of them.
    pub sha256: Sha256,
    /// Members counted; none when the walk failed.
    pub members: Option<u64>,
}

/// The outcome of a verification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// The cluster.
    pub cluster: ClusterName,
    /// The point.
    pub id: PointId,
    /// Bytes read.
    pub bytes: u64,
    /// The archives as read.
    pub archives: Vec<Reread>,
    /// What is wrong; empty when the point is whole. Not empty: exit 9.
    pub bad: Vec<Defect>,
    /// What should be mended but harms no byte: access rights, files that nobody listed.
    pub warnings: Vec<String>,
    /// What was not looked into, and why: content that is encrypted and that nobody here opened. Its files are as they
    /// were when it was proved, where nothing is in `bad`.
    pub unchecked: Vec<String>,
    /// Identities were given, and none of them opens it.
    pub not_opened: bool,
    /// Why the outcome could not be noted on the point (a catalog mounted read-only); the outcome
    /// holds all the same.
    pub not_noted: Option<Failure>,
}

impl VerifyReport {
    /// A report on a look that read no archive.
    pub fn of_names(point: &Point, bad: Vec<Defect>) -> Self {
        Self {
            cluster: point.cluster.clone(),
            id: point.id().clone(),
            bytes: 0,
            archives: Vec::new(),
            bad,
            warnings: point.notes.unreadable.clone(),
            unchecked: Vec::new(),
            not_opened: false,
            not_noted: None,
        }
    }

    /// The failure that this report amounts to: [`Kind::Bad`], naming each file.
    pub fn failure(&self) -> Option<Failure> {
        let Self { cluster, id, .. } = self;
        let mut defects = self.bad.iter();
        let first = defects.next()?;
        let mut failure = Failure::new(Kind::Bad, format!("{cluster}/{id} is damaged: {}: {}", first.file, first.what))
            .saw(first.seen.clone())
            .why(format!("expected {}", first.expected))
            .mend("take another point; or bring this one's files back from a copy and verify again");
        failure.more = defects.map(|defect| Failure::new(Kind::Bad, defect.to_string())).collect();
        Some(failure)
    }
}

/// The content of an archive, whose files pass by in order.
struct Plain {
    walk: Box<dyn Inspect + Send>,
    hasher: Hasher,
}

impl Plain {
    fn hear(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.walk.feed(bytes);
    }
}

/// One archive whose files are read again, wherever they lie: opened where it is encrypted, walked, hashed.
pub(super) struct Content<'a> {
    pub(super) archive: &'a Archive,
    identities: Option<&'a Arc<Identities>>,
    plain: Option<Plain>,
    feed: Option<Feed<Plain>>,
    /// A file was missing, or other than its manifest says: what is in it need not be told as well.
    broken: bool,
    /// Why it is not opened.
    locked: Option<Locked>,
    /// What is wrong inside although the files are as they were.
    fault: Option<(String, String)>,
    last: Option<(u64, Sha256)>,
}

impl<'a> Content<'a> {
    pub(super) fn new(
        archive: &'a Archive,
        identities: Option<&'a Arc<Identities>>,
        walk: Box<dyn Inspect + Send>,
    ) -> Self {
        let encrypted = archive.encryption.is_some();
        let identities = identities.filter(|identities| !identities.is_empty());
        Self {
            archive,
            identities,
            plain: (!encrypted || identities.is_some()).then(|| Plain { walk, hasher: Hasher::new() }),
            feed: None,
            broken: false,
            locked: (encrypted && identities.is_none()).then_some(Locked::NoIdentity),
            fault: None,
            last: None,
        }
    }

    /// The next of its files begins.
    pub(super) fn begin(&mut self) {
        if self.archive.encryption.is_none() || self.locked.is_some() || self.fault.is_some() {
            return;
        }
        let (Some(identities), Some(plain)) = (self.identities, self.plain.take()) else { return };
        match Feed::begin(Arc::clone(identities), plain, Plain::hear) {
            Ok(feed) => self.feed = Some(feed),
            Err(error) => self.fault = Some((self.archive.file.clone(), error.to_string())),
        }
    }

    /// The next bytes of the file.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if let Some(feed) = &mut self.feed {
            feed.give(bytes);
        } else if self.archive.encryption.is_none()
            && let Some(plain) = &mut self.plain
        {
            // Where the file is the archive, its digest is made already.
            if self.archive.is_wrapped() {
                plain.hear(bytes);
            } else {
                plain.walk.feed(bytes);
            }
        }
    }

    /// The file could not be read to its end.
    pub(super) fn missing(&mut self) {
        self.broken = true;
        self.plain = self.feed.take().and_then(Feed::finish).map(|(plain, _)| plain).or(self.plain.take());
    }

    /// The file is over; `seen` is what it turned out to be, its defects are in the report.
    pub(super) fn end(&mut self, seen: &Reread, report: &mut VerifyReport) {
        self.last = Some((seen.bytes, seen.sha256));
        let volume = self.archive.volumes.iter().find(|volume| volume.file == seen.file);
        if self.archive.is_wrapped() {
            self.broken |= volume.is_none_or(|volume| (volume.bytes, volume.sha256) != (seen.bytes, seen.sha256));
            report.archives.push(seen.clone());
        }
        let Some(feed) = self.feed.take() else { return };
        let Some((plain, opened)) = feed.finish() else {
            self.fault = Some((seen.file.clone(), "the thread that opens it panicked".to_owned()));
            return;
        };
        self.plain = Some(plain);
        match opened {
            Ok(bytes) if volume.is_some_and(|volume| volume.plain_bytes == bytes) => {}
            Ok(bytes) => self.fault = Some((seen.file.clone(), format!("{bytes} bytes are in it"))),
            Err(Locked::Damaged(why)) => self.fault = Some((seen.file.clone(), why)),
            Err(locked) => self.locked = Some(locked),
        }
    }

    /// All of its files were read: the walk and the digest of the content, as far as they could be had.
    pub(super) fn finish(self, report: &mut VerifyReport) {
        let archive = self.archive;
        if let Some(locked) = self.locked {
            report.not_opened |= self.identities.is_some();
            report.unchecked.push(format!("what is in {}: {locked}", archive.file));
            return;
        }
        if archive.is_wrapped() && self.broken {
            return;
        }
        if let Some((file, why)) = self.fault {
            defect(report, &file, "archive", "a whole encrypted file".to_owned(), why);
            return;
        }
        let (Some(plain), Some((bytes, sha256))) = (self.plain, self.last) else { return };
        let members = plain.walk.finish();
        match &members {
            Ok(count) if *count != archive.members => {
                defect(report, &archive.file, "members", archive.members.to_string(), count.to_string());
            }
            Ok(_) => {}
            Err(why) => defect(report, &archive.file, "archive", "a whole archive".to_owned(), why.clone()),
        }
        let (bytes, sha256) = if archive.is_wrapped() {
            let seen = (plain.hasher.bytes(), plain.hasher.finish());
            if seen != (archive.bytes, archive.sha256) {
                defect(report, &archive.file, "content sha256", archive.sha256.to_string(), seen.1.to_string());
            }
            seen
        } else {
            (bytes, sha256)
        };
        report.archives.push(Reread { file: archive.file.clone(), bytes, sha256, members: members.ok() });
    }
}

/// Reads everything of `point` again. `inspect` gives a fresh walk for an archive; `progress` hears
/// bytes done and bytes in total. The outcome is noted on the point.
pub(super) fn verify(
    disk: &Disk,
    point: &mut Point,
    who: &Who,
    identities: Option<&Arc<Identities>>,
    inspect: &dyn Fn(&Archive) -> Box<dyn Inspect + Send>,
    progress: &mut dyn FnMut(u64, u64),
) -> VerifyReport {
    let total = point.bytes() + point.manifest.files.iter().map(|file| file.bytes).sum::<u64>();
    let mut report = VerifyReport::of_names(point, Vec::new());
    report.warnings.clear();
    progress(0, total);
    for archive in &point.manifest.archives {
        let mut content = Content::new(archive, identities, inspect(archive));
        for volume in archive.stored() {
            content.begin();
            let expected = Expected { file: &volume.file, bytes: volume.bytes, sha256: volume.sha256 };
            let seen = reread(&mut report, &point.dir, &expected, &mut |bytes| content.feed(bytes), &mut |done| {
                progress(done, total)
            });
            match seen {
                Some((bytes, sha256)) => {
                    content.end(&Reread { file: volume.file, bytes, sha256, members: None }, &mut report);
                }
                None => content.missing(),
            }
        }
        content.finish(&mut report);
    }
    for file in &point.manifest.files {
        let expected = Expected { file: &file.path, bytes: file.bytes, sha256: file.sha256 };
        reread(&mut report, &point.dir, &expected, &mut |_| {}, &mut |done| progress(done, total));
    }
    let mut listed: BTreeSet<&str> = [MANIFEST, NOTES, IN_PROGRESS, SUMS, README].into();
    let stored: Vec<String> = point.manifest.archives.iter().flat_map(Archive::stored).map(|one| one.file).collect();
    listed.extend(stored.iter().map(String::as_str));
    listed.extend(point.manifest.files.iter().map(|file| file.path.as_str()));
    look_around(&point.dir, "", &listed, &mut report.warnings);
    report.warnings.extend(point.notes.unreadable.iter().cloned());

    let remark = outcome(&report);
    report.not_noted = point.note(disk, Note { at: Timestamp::now(), who: who.clone(), remark }).err();
    report
}

/// What is noted of a verification.
pub(super) fn outcome(report: &VerifyReport) -> Remark {
    if report.bad.is_empty() {
        Remark::Verified { bytes: report.bytes }
    } else {
        Remark::Damaged { defects: report.bad.clone() }
    }
}

struct Expected<'a> {
    file: &'a str,
    bytes: u64,
    sha256: Sha256,
}

/// Reads one file and compares size and digest; `None` when it could not be read to its end.
fn reread(
    report: &mut VerifyReport,
    dir: &Path,
    expected: &Expected<'_>,
    each: &mut dyn FnMut(&[u8]),
    progress: &mut dyn FnMut(u64),
) -> Option<(u64, Sha256)> {
    let path = dir.join(expected.file);
    let opened = no_links(dir, expected.file).and_then(|()| disk::read(&path));
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let (what, seen) =
                if missing { ("missing", "no such file".to_owned()) } else { ("unreadable", error.to_string()) };
            defect(report, expected.file, what, format!("a file of {} bytes", expected.bytes), seen);
            return None;
        }
    };
    from_the_disk(&file);
    let mut hasher = Hasher::new();
    let before = report.bytes;
    let read = read_all(&mut file, |bytes| {
        hasher.update(bytes);
        each(bytes);
        progress(before + hasher.bytes());
    });
    let bytes = hasher.bytes();
    report.bytes += bytes;
    if let Err(error) = read {
        let seen = format!("{error} after {bytes} bytes");
        defect(report, expected.file, "unreadable", format!("{} bytes", expected.bytes), seen);
        return None;
    }
    let sha256 = hasher.finish();
    if bytes != expected.bytes {
        defect(report, expected.file, "size", format!("{} bytes", expected.bytes), format!("{bytes} bytes"));
    } else if sha256 != expected.sha256 {
        defect(report, expected.file, "sha256", expected.sha256.to_string(), sha256.to_string());
    }
    Some((bytes, sha256))
}

/// Refuses a path that goes through a symbolic link below the point's folder.
fn no_links(dir: &Path, path: &str) -> std::io::Result<()> {
    let mut here = dir.to_owned();
    for part in path.split('/') {
        here.push(part);
        if std::fs::symlink_metadata(&here)?.file_type().is_symlink() {
            return Err(std::io::Error::other("it is a symbolic link, which the catalog never follows"));
        }
    }
    Ok(())
}

/// Asks the kernel to forget its copy of the file, so that the disk is read and not our memory of it.
pub(super) fn from_the_disk(file: &File) {
    #[cfg(target_os = "linux")]
    {
        // Advice: without it the reading is as right, only less telling.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
    }
}

fn defect(report: &mut VerifyReport, file: &str, what: &str, expected: String, seen: String) {
    report.bad.push(Defect { file: file.to_owned(), what: what.to_owned(), expected, seen });
}

/// Names files that the manifest does not list and rights that are too wide.
fn look_around(folder: &Path, prefix: &str, listed: &BTreeSet<&str>, warnings: &mut Vec<String>) {
    let rights = |path: &Path, shown: &str, wanted: u32, warnings: &mut Vec<String>| {
        if let Ok(there) = std::fs::symlink_metadata(path) {
            let mode = there.mode() & 0o7777;
            if mode != wanted && !there.file_type().is_symlink() {
                warnings.push(format!(
                    "{shown} has mode {mode:04o}, expected {wanted:04o}: chmod {wanted:o} {}",
                    path.display()
                ));
            }
        }
    };
    rights(folder, if prefix.is_empty() { "the point's folder" } else { prefix }, 0o700, warnings);
    let entries = match super::names(folder) {
        Ok(entries) => entries,
        Err(error) => {
            warnings.push(format!("{}: {error}", folder.display()));
            return;
        }
    };
    for entry in entries {
        let path = folder.join(&entry);
        let shown = format!("{prefix}{}", crate::secret::clean(entry.as_encoded_bytes()));
        let is_dir = std::fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir());
        if is_dir {
            look_around(&path, &format!("{shown}/"), listed, warnings);
        } else if listed.contains(shown.as_str()) {
            rights(&path, &shown, 0o600, warnings);
        } else {
            warnings.push(format!("{shown} is not listed in the manifest"));
        }
    }
}
