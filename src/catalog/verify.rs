//! Reading a sealed point again, every byte.
//!
//! What lives here: comparing what lies on the disk with the manifest, and naming what differs.
//! What does not: the walk through gzip and tar, which the caller hands in as an [`Inspect`].

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

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
    /// `missing`, `size`, `sha256`, `archive`, `members` or `unreadable`.
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

/// Reads everything of `point` again. `inspect` gives a fresh walk for an archive; `progress` hears
/// bytes done and bytes in total. The outcome is noted on the point.
pub(super) fn verify(
    disk: &Disk,
    point: &mut Point,
    who: &Who,
    inspect: &dyn Fn(&Archive) -> Box<dyn Inspect>,
    progress: &mut dyn FnMut(u64, u64),
) -> VerifyReport {
    let total = point.bytes() + point.manifest.files.iter().map(|file| file.bytes).sum::<u64>();
    let mut report = VerifyReport {
        cluster: point.cluster.clone(),
        id: point.id().clone(),
        bytes: 0,
        archives: Vec::new(),
        bad: Vec::new(),
        warnings: Vec::new(),
        not_noted: None,
    };
    progress(0, total);
    for archive in &point.manifest.archives {
        let mut walk = inspect(archive);
        let expected = Expected { file: &archive.file, bytes: archive.bytes, sha256: archive.sha256 };
        let seen = reread(&mut report, &point.dir, &expected, &mut |bytes| walk.feed(bytes), &mut |done| {
            progress(done, total)
        });
        let Some((bytes, sha256)) = seen else { continue };
        let members = walk.finish();
        match &members {
            Ok(count) if *count != archive.members => {
                defect(&mut report, &archive.file, "members", archive.members.to_string(), count.to_string());
            }
            Ok(_) => {}
            Err(why) => defect(&mut report, &archive.file, "archive", "a whole archive".to_owned(), why.clone()),
        }
        report.archives.push(Reread { file: archive.file.clone(), bytes, sha256, members: members.ok() });
    }
    for file in &point.manifest.files {
        let expected = Expected { file: &file.path, bytes: file.bytes, sha256: file.sha256 };
        reread(&mut report, &point.dir, &expected, &mut |_| {}, &mut |done| progress(done, total));
    }
    let mut listed: BTreeSet<&str> = [MANIFEST, NOTES, IN_PROGRESS, SUMS, README].into();
    listed.extend(point.manifest.archives.iter().map(|archive| archive.file.as_str()));
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
