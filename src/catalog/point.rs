//! A sealed recovery point and its notes.
//!
//! What lives here: a point as read from the catalog, `notes.jsonl`, and the verdict that follows
//! from both. What does not: verifying it again (`verify`) and deciding what may be deleted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::disk::{self, Disk};
use super::manifest::{Archive, Manifest, Verdict, Who};
use super::progress::{MANIFEST, NOTES};
use super::verify::Defect;
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, PointId};

/// Notes are small; a file larger than this was not written by ferry.
const LARGEST_NOTES: u64 = 64 << 20;

/// What can be noted on a sealed point. In JSON the field `note` names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Remark {
    /// Every byte was read again and is as the manifest says.
    Verified {
        /// How many bytes were read.
        bytes: u64,
    },
    /// Some of its files, a part of them, were read again and are as the manifest says.
    PartVerified {
        /// Which part: `3/7`.
        part: String,
        /// How many files were read.
        files: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// A verification found these.
    Damaged {
        /// What is wrong.
        defects: Vec<Defect>,
    },
    /// Somebody vouches for a suspect point.
    Accepted {
        /// The reason given.
        reason: String,
    },
    /// It must not be deleted.
    Held {
        /// Until when; without a time until it is released.
        #[serde(default)]
        until: Option<Timestamp>,
    },
    /// It is no longer held.
    Released,
    /// A copy is in another catalog, which verified it.
    Replicated {
        /// That catalog.
        to: String,
        /// How it was verified there.
        #[serde(default)]
        how: String,
    },
    /// It lies in the trash: it is listed as such, counts for nothing, and may be deleted later.
    Trashed {
        /// Until when it is kept there at least.
        until: Timestamp,
        /// Why it was put there.
        #[serde(default)]
        reason: String,
        /// Its PCE version, where it was put there because that was dropped by name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dropped: Option<String>,
    },
    /// It was taken out of the trash.
    Recovered,
    /// It was restored.
    Restored {
        /// The cluster it was restored into.
        into: ClusterName,
        /// The run that did it.
        run: crate::name::RunId,
        /// How long gravity's restore took by the node's clock, in seconds; 0 when only AMV was restored.
        seconds: f64,
        /// What was restored: `gravity`, `amv`.
        parts: Vec<String>,
        /// The gates that were waived, with the reasons.
        #[serde(default)]
        waived: std::collections::BTreeMap<String, String>,
    },
    /// It was restored as a rehearsal.
    Rehearsed {
        /// The cluster it was restored into.
        into: ClusterName,
        /// How long that took.
        seconds: f64,
        /// How old the data was when the rehearsal began, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data_age_seconds: Option<i64>,
        /// How long each step took, in seconds.
        #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
        phases: std::collections::BTreeMap<String, f64>,
    },
}

/// One line of `notes.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// When, UTC.
    pub at: Timestamp,
    /// Who.
    pub who: Who,
    /// What.
    #[serde(flatten)]
    pub remark: Remark,
}

/// The notes of a point as read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Notes {
    /// Those that this ferry understands, in the order of the file.
    pub known: Vec<Note>,
    /// Those of a newer ferry.
    pub foreign: Vec<Value>,
    /// Lines that are no notes at all, with why: `line 3: …`. A line that was cut by a crash is here.
    pub unreadable: Vec<String>,
}

impl Notes {
    pub(super) fn parse(text: &str) -> Self {
        let mut notes = Self::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match serde_json::from_str::<Note>(line) {
                Ok(note) => notes.known.push(note),
                Err(error) => {
                    const KNOWN: [&str; 11] = [
                        "verified",
                        "part_verified",
                        "damaged",
                        "accepted",
                        "held",
                        "released",
                        "replicated",
                        "trashed",
                        "recovered",
                        "restored",
                        "rehearsed",
                    ];
                    let value: Option<Value> = serde_json::from_str(line).ok();
                    let newer = value.filter(|value| {
                        value.get("note").and_then(Value::as_str).is_some_and(|word| !KNOWN.contains(&word))
                    });
                    match newer {
                        Some(value) => notes.foreign.push(value),
                        None => notes.unreadable.push(format!("{NOTES} line {}: {error}", number + 1)),
                    }
                }
            }
        }
        notes
    }
}

/// A sealed recovery point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The cluster's name in the catalog.
    pub cluster: ClusterName,
    /// Its folder.
    pub dir: PathBuf,
    /// What it says about itself.
    pub manifest: Manifest,
    /// What was noted since.
    pub notes: Notes,
    /// The sizes of its files by name, for a point that lies in another place than this machine; `dir` is that place's
    /// name for it then.
    pub sizes: Option<BTreeMap<String, u64>>,
}

impl Point {
    /// Reads the point in `dir`, which must bear its id.
    pub(super) fn load(cluster: &ClusterName, dir: &Path) -> Result<Self, Failure> {
        super::real_dir(dir).map_err(|mut failure| {
            failure.kind = Kind::Bad;
            failure
        })?;
        let manifest = Manifest::read(&dir.join(MANIFEST))?;
        let named = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if manifest.id.as_str() != named {
            return Err(Failure::new(Kind::Bad, format!("{} holds the manifest of another point", dir.display()))
                .saw(manifest.id.to_string())
                .why("a point's folder bears its id"));
        }
        let path = dir.join(NOTES);
        let notes = match disk::read_text(&path, LARGEST_NOTES) {
            Ok(text) => Notes::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Notes::default(),
            Err(error) => Notes { unreadable: vec![format!("{NOTES}: {error}")], ..Notes::default() },
        };
        Ok(Self { cluster: cluster.clone(), dir: dir.to_owned(), manifest, notes, sizes: None })
    }

    /// The point in a folder that need not be in a catalog: `CLUSTER/ID` or a copy of it.
    ///
    /// # Errors
    /// [`Kind::Bad`] when it is no point; [`Kind::CouldNotStart`] when its path says nothing.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let dir = std::fs::canonicalize(dir)
            .map_err(|error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", dir.display())))?;
        let manifest = Manifest::read(&dir.join(MANIFEST))?;
        Self::load(&manifest.cluster.group, &dir)
    }

    /// Its id.
    pub fn id(&self) -> &PointId {
        &self.manifest.id
    }

    /// The verdict of today on the whole point: the worst of its archives, and *damaged* while the
    /// last verification found anything wrong.
    pub fn verdict(&self) -> Verdict {
        let archives = self.manifest.archives.iter().map(|archive| self.verdict_of(archive));
        let last = if self.defects().is_empty() { Verdict::Verified } else { Verdict::Damaged };
        archives.fold(last, Verdict::max)
    }

    /// The verdict of today on one archive: the manifest's, lifted from suspect by a note
    /// *accepted*, and *damaged* while the last verification names its file.
    pub fn verdict_of(&self, archive: &Archive) -> Verdict {
        if self.defects().iter().any(|defect| archive.lies_in(&defect.file)) {
            return Verdict::Damaged;
        }
        let accepted = self.notes.known.iter().any(|note| matches!(note.remark, Remark::Accepted { .. }));
        match archive.verdict {
            Verdict::Suspect if accepted => Verdict::Verified,
            verdict => verdict,
        }
    }

    /// What the last verification found wrong; empty when it passed or there was none. A later
    /// verification that reads every byte as the manifest says takes an earlier *damaged* back.
    pub fn defects(&self) -> &[Defect] {
        let last = self.notes.known.iter().rev().find_map(|note| match &note.remark {
            Remark::Damaged { defects } => Some(defects.as_slice()),
            Remark::Verified { .. } => Some(&[][..]),
            _ => None,
        });
        last.unwrap_or_default()
    }

    /// When every byte was last read and found right: at the seal or later.
    pub fn last_verified(&self) -> Timestamp {
        let noted = self.notes.known.iter().filter(|note| matches!(note.remark, Remark::Verified { .. }));
        noted.map(|note| note.at).max().unwrap_or(self.manifest.finished)
    }

    /// True while it must not be deleted.
    pub fn held(&self, now: Timestamp) -> bool {
        let last = self.notes.known.iter().rev().find_map(|note| match note.remark {
            Remark::Held { until } => Some(until.is_none_or(|until| until > now)),
            Remark::Released => Some(false),
            _ => None,
        });
        last.unwrap_or(false)
    }

    /// Until when it lies in the trash at least; `None` when it does not.
    pub fn in_trash(&self) -> Option<Timestamp> {
        let last = self.notes.known.iter().rev().find_map(|note| match note.remark {
            Remark::Trashed { until, .. } => Some(Some(until)),
            Remark::Recovered => Some(None),
            _ => None,
        });
        last.flatten()
    }

    /// The PCE version that was dropped by name when it was put into the trash, where it lies there for that.
    pub fn dropped(&self) -> Option<&str> {
        self.in_trash()?;
        self.notes.known.iter().rev().find_map(|note| match &note.remark {
            Remark::Trashed { dropped, .. } => Some(dropped.as_deref()),
            _ => None,
        })?
    }

    /// The other places that verified a copy of it, sorted.
    pub fn replicas(&self) -> Vec<&str> {
        let mut places: Vec<&str> = self
            .notes
            .known
            .iter()
            .filter_map(|note| match &note.remark {
                Remark::Replicated { to, .. } => Some(to.as_str()),
                _ => None,
            })
            .collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// When it was last restored as a rehearsal.
    pub fn last_rehearsed(&self) -> Option<Timestamp> {
        let noted = self.notes.known.iter().filter(|note| matches!(note.remark, Remark::Rehearsed { .. }));
        noted.map(|note| note.at).max()
    }

    /// The size of one of its files: what the disk or the place says.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    pub fn size_of(&self, file: &str) -> Result<u64, String> {
        match &self.sizes {
            Some(sizes) => sizes.get(file).copied().ok_or_else(|| "no such file".to_owned()),
            None => match std::fs::symlink_metadata(self.dir.join(file)) {
                Ok(there) if there.is_file() => Ok(there.len()),
                Ok(_) => Err("is no file".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// Size of all archives in bytes, as they lie.
    pub fn bytes(&self) -> u64 {
        self.manifest.archives.iter().flat_map(Archive::stored).map(|volume| volume.bytes).sum()
    }

    /// The whole point as `points show --json` prints it: the manifest, with `verdict`, `path` and
    /// `notes` of today beside it.
    ///
    /// # Errors
    /// A value that JSON cannot hold; there is none in a manifest that was read.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        let mut value = serde_json::to_value(&self.manifest)?;
        if let Some(object) = value.as_object_mut() {
            let mut notes = self.notes.known.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
            notes.extend(self.notes.foreign.iter().cloned());
            object.insert("verdict".to_owned(), serde_json::to_value(self.verdict())?);
            object.insert("path".to_owned(), Value::from(self.dir.display().to_string()));
            object.insert("notes".to_owned(), Value::from(notes));
        }
        Ok(value)
    }

    /// Adds a line to `notes.jsonl`, flushed to the disk, and to this value. Several ferries may
    /// do so at once.
    ///
    /// # Errors
    /// [`Kind::Failed`] with the disk's own; then nothing was added.
    pub fn note(&mut self, disk: &Disk, note: Note) -> Result<(), Failure> {
        let path = self.dir.join(NOTES);
        let failed = |error: io::Error| disk::failed(Kind::Failed, "write", &path, &error);
        let text = serde_json::to_string(&note).map_err(|error| failed(error.into()))?;
        let is_new = std::fs::symlink_metadata(&path).is_err();
        let mut file = disk.append(&path).map_err(failed)?;
        append_line(disk, &mut file, &path, &text).map_err(failed)?;
        if is_new {
            disk.sync_dir(&self.dir).map_err(failed)?;
        }
        self.notes.known.push(note);
        Ok(())
    }

    /// Vouches for a suspect point: from now on it counts as verified.
    ///
    /// # Errors
    /// [`Kind::Refused`] when it is not suspect or no reason is given; else as [`Point::note`].
    pub fn accept(&mut self, disk: &Disk, who: Who, reason: &str) -> Result<(), Failure> {
        let remark = self.acceptance(reason)?;
        self.note(disk, Note { at: Timestamp::now(), who, remark })
    }

    /// The note that accepts it, where it may be.
    pub(super) fn acceptance(&self, reason: &str) -> Result<Remark, Failure> {
        let name = format!("{}/{}", self.cluster, self.id());
        match self.verdict() {
            Verdict::Suspect => {}
            Verdict::Verified => {
                return Err(Failure::new(Kind::Refused, format!("{name} is verified: there is nothing to accept")));
            }
            Verdict::Damaged => {
                return Err(Failure::new(Kind::Refused, format!("{name} is damaged and cannot be accepted"))
                    .saw(self.defects().iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
                    .why("accepting says that an unusual archive is right; a damaged one is not what was saved")
                    .mend("take another point, or bring this one back from a copy and verify it again"));
            }
        }
        if reason.trim().is_empty() {
            return Err(Failure::new(Kind::Refused, format!("{name} is not accepted without a reason"))
                .mend(format!("ferry points accept {name} --reason TEXT")));
        }
        Ok(Remark::Accepted { reason: reason.trim().to_owned() })
    }
}

/// Appends one line under a lock, so that lines never mix; takes back what a full disk let through.
pub(super) fn append_line(disk: &Disk, file: &mut File, path: &Path, text: &str) -> io::Result<()> {
    use std::io::Read as _;
    flock(&*file, FlockOperation::LockExclusive)?;
    let before = file.seek(io::SeekFrom::End(0))?;
    let mut line = String::with_capacity(text.len() + 2);
    if before > 0 {
        // A crash may have cut the last line: the new one must not be glued to it.
        let mut last = [0];
        file.seek(io::SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            line.push('\n');
        }
    }
    line.push_str(text);
    line.push('\n');
    let written = disk.write(file, path, line.as_bytes()).and_then(|()| disk.sync(file, path));
    if let Err(error) = written {
        file.set_len(before)?;
        return Err(error);
    }
    disk.chmod(file, path, 0o600)
}
