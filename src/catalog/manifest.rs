//! The manifest: what a recovery point says about itself.
//!
//! What lives here: its fields, reading and writing it, and the vendor's table of what a backup
//! holds. What does not: whether it is true (`verify`) and what was noted later (`point`).
//!
//! Fields are added within a format version, never renamed: a reader takes what it knows and keeps
//! the rest.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::disk;
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, HostName, JobId, PointId, RunId};
use crate::vault::age::Identities;
use crate::volume::{Encryption, Reader, Volume};

/// The format version that this ferry writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// No manifest is larger than this; one that is was not written by ferry.
const LARGEST: u64 = 64 << 20;

/// How far an archive or a point is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All proofs passed.
    Verified,
    /// Whole, but unlike its predecessors.
    Suspect,
    /// A later verification failed.
    Damaged,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Verified => "verified",
            Self::Suspect => "suspect",
            Self::Damaged => "damaged",
        })
    }
}

/// Who did something, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// User name on the machine that ran ferry.
    pub user: String,
    /// Host name of that machine.
    pub machine: String,
    /// The CI job's address or name, where there is one.
    #[serde(default)]
    pub ci: Option<String>,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.user, self.machine)?;
        self.ci.as_ref().map_or(Ok(()), |ci| write!(f, " ({ci})"))
    }
}

/// Which cluster it is, in as many ways as could be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// The inventory's group; also the folder's name in the catalog.
    pub group: ClusterName,
    /// Gravity's name of the cluster.
    #[serde(default)]
    pub gravity_name: Option<String>,
    /// The uid of the `kube-system` namespace, where kubectl gave one.
    #[serde(default)]
    pub kube_system_uid: Option<String>,
    /// The advertise addresses of all nodes.
    #[serde(default)]
    pub advertise_addresses: Vec<String>,
}

/// Which tool wrote an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveKind {
    /// `gravity backup`.
    Gravity,
    /// `amv-backup-restore.sh`.
    Amv,
    /// The customer's NFS server.
    Nfs,
}

impl std::fmt::Display for ArchiveKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Gravity => "gravity",
            Self::Amv => "amv",
            Self::Nfs => "nfs",
        })
    }
}

/// One archive of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// What people call it; today the kind's name.
    pub name: String,
    /// Which tool wrote it.
    pub kind: ArchiveKind,
    /// Its file in the point's folder; where it is kept in volumes or encrypted, what it is called when it is neither.
    pub file: String,
    /// Size in bytes, as the tool wrote it.
    pub bytes: u64,
    /// Digest of it as the tool wrote it: of the content where it is encrypted.
    pub sha256: Sha256,
    /// The files that it lies in, in order, where it is kept in volumes or encrypted. Empty: it lies in `file`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// How those files are encrypted; `None`: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// How many members the tar walk counted.
    pub members: u64,
    /// Sum of the members' sizes in bytes, unpacked.
    #[serde(default)]
    pub content_bytes: u64,
    /// The verdict when it was sealed. Notes may say more since: ask `Point::verdict_of`.
    pub verdict: Verdict,
    /// Why the verdict is not *verified*, or what it was compared with.
    #[serde(default)]
    pub why: String,
    /// Where it lay on the node.
    #[serde(default)]
    pub source_path: String,
    /// The proofs it passed, one sentence each.
    #[serde(default)]
    pub verified_how: Vec<String>,
    /// What else is known of it. AMV: `tool`, the files of the script as run, each with its digest; `report`, the lines
    /// of its own report; `usage`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Archive {
    /// The files that it lies in, in order: what is copied, exported and compared without opening it.
    pub fn stored(&self) -> Vec<Volume> {
        if self.landed().is_some() {
            return Vec::new();
        }
        if !self.volumes.is_empty() {
            return self.volumes.clone();
        }
        vec![Volume { file: self.file.clone(), bytes: self.bytes, sha256: self.sha256, plain_bytes: self.bytes }]
    }

    /// Where it lies instead of here, `{"host": …, "path": …}`: it went straight to the target of a migration whose point is not
    /// kept. No catalog has a point with such an archive, only the folder that a migration has until its end.
    pub fn landed(&self) -> Option<&Value> {
        self.details.get("landed")
    }

    /// Whether it lies in other files than the tool wrote: in volumes, or encrypted.
    pub fn is_wrapped(&self) -> bool {
        !self.volumes.is_empty()
    }

    /// Whether a file of the point, by its name, is it or a volume of it.
    pub fn lies_in(&self, file: &str) -> bool {
        self.file == file || self.volumes.iter().any(|volume| volume.file == file)
    }

    /// The archive as a stream, from a point's folder on this machine.
    pub fn reader(&self, folder: &Path, identities: Option<Arc<Identities>>) -> Reader {
        Reader::new(folder, &self.stored(), self.encryption.is_some(), identities)
    }
}

/// A file of the point that is no archive (`logs/…`, `settings/…`). Filled in by the seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Path below the point's folder, with `/`.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Digest.
    pub sha256: Sha256,
}

/// A gate that somebody waived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// The gate's name (`health`, `space`, …).
    pub gate: String,
    /// The reason that was given.
    pub reason: String,
}

/// How long the parts took, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// The tool's own work on the node: what the next timeout is chosen by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_seconds: Option<f64>,
    /// Bringing the archives home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_seconds: Option<f64>,
    /// Reading them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_seconds: Option<f64>,
}

/// Whether a row of the vendor's table is in the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InBackup {
    /// It is.
    Yes,
    /// It is not; the note says who covers it.
    No,
}

/// One row of the vendor's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentsRow {
    /// The row's heading.
    pub row: String,
    /// In the backup or not.
    pub in_backup: InBackup,
    /// Where it is, or who covers it.
    pub note: String,
}

/// All that a recovery point says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version: [`FORMAT`]. The seal sets it.
    pub format: u32,
    /// The point.
    pub id: PointId,
    /// `--label`.
    #[serde(default)]
    pub label: Option<String>,
    /// The run that made it.
    pub run: RunId,
    /// The job on the node.
    #[serde(default)]
    pub job: Option<JobId>,
    /// Who made it.
    pub who: Who,
    /// Version of the ferry that made it.
    pub ferry_version: String,
    /// Digest of the inventory as read.
    #[serde(default)]
    pub inventory_sha256: Option<Sha256>,
    /// Digest of the playbook as read.
    #[serde(default)]
    pub playbook_sha256: Option<Sha256>,
    /// Which cluster.
    pub cluster: ClusterFacts,
    /// Version of PCE on it.
    #[serde(default)]
    pub pce_version: Option<String>,
    /// Version of Gravity on it.
    #[serde(default)]
    pub gravity_version: Option<String>,
    /// The main node that the backup ran on.
    pub node: HostName,
    /// When the run began, UTC.
    pub started: Timestamp,
    /// When the last archive was proved, UTC.
    pub finished: Timestamp,
    /// Gravity's status before, redacted; null when it could not be had.
    #[serde(default)]
    pub status_before: Value,
    /// Gravity's status after, redacted; null when it could not be had.
    #[serde(default)]
    pub status_after: Value,
    /// The commands as run, in order.
    #[serde(default)]
    pub commands: Vec<String>,
    /// The archives.
    pub archives: Vec<Archive>,
    /// False when a part that was wanted is missing.
    pub complete: bool,
    /// What is in the backup and what is not.
    #[serde(default)]
    pub contents: Vec<ContentsRow>,
    /// How long it took.
    #[serde(default)]
    pub durations: Durations,
    /// What was told as a warning.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The gates that were waived.
    #[serde(default)]
    pub waivers: Vec<Waiver>,
    /// The files that are no archives. The seal fills this in.
    #[serde(default)]
    pub files: Vec<FileRecord>,
    /// Fields of a newer ferry.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Manifest {
    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// [`Kind::Bad`] with file, line and column when it is missing, unreadable, of a newer format,
    /// or lists a file by a name that leaves the point's folder.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let text = match disk::read_text(path, LARGEST) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::new(
                    Kind::Bad,
                    format!("{shown} is missing: without it the folder is no recovery point"),
                )
                .why("the manifest is written last, after every archive was proved"));
            }
            Err(error) => return Err(disk::failed(Kind::Bad, "read", path, &error)),
        };
        Self::parse(&shown, &text)
    }

    /// Reads a manifest from text; `shown` is the file's name in errors.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn parse(shown: &str, text: &str) -> Result<Self, Failure> {
        let broken = |error: &serde_json::Error| {
            Failure::new(Kind::Bad, "the manifest cannot be read")
                .in_text(shown, text, error.line().max(1), error.column().max(1))
                .saw(error.to_string())
                .why("without its manifest nothing says what the archives should be")
                .mend("bring the point's folder back from a copy; its archives may still be whole")
        };
        // The version first: a newer format may have changed any other field.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version = serde_json::from_str(text).map_err(|error| broken(&error))?;
        if version.format == 0 || version.format > FORMAT {
            return Err(Failure::new(Kind::Bad, format!("{shown} has manifest format {}", version.format))
                .why(format!("this ferry reads formats up to {FORMAT}"))
                .mend("use the ferry that wrote it, or a newer one"));
        }
        let manifest: Self = serde_json::from_str(text).map_err(|error| broken(&error))?;
        for archive in manifest.archives.iter().filter(|archive| archive.is_wrapped()) {
            let sum = archive.volumes.iter().try_fold(0_u64, |sum, volume| sum.checked_add(volume.plain_bytes));
            if sum != Some(archive.bytes) {
                return Err(Failure::new(
                    Kind::Bad,
                    format!("{shown}: the volumes of {} are not all of it", archive.file),
                )
                .saw(sum.map_or_else(
                    || format!("more bytes in volumes than can be counted, {} in all", archive.bytes),
                    |sum| format!("{sum} bytes in volumes, {} in all", archive.bytes),
                )));
            }
        }
        let stored: Vec<String> = manifest
            .archives
            .iter()
            .flat_map(|archive| archive.volumes.iter().map(|volume| volume.file.clone()))
            .collect();
        let files = manifest.archives.iter().map(|archive| archive.file.as_str());
        let names = files.chain(stored.iter().map(String::as_str)).map(|name| (name, safe_name(name)));
        let paths = manifest.files.iter().map(|file| (file.path.as_str(), file.path.split('/').all(safe_name)));
        for (name, safe) in names.chain(paths) {
            if !safe {
                return Err(Failure::new(Kind::Bad, format!("{shown} lists a file by a name that is not taken"))
                    .saw(format!("{name:?}"))
                    .why("a name in a manifest must stay inside the point's folder"));
            }
        }
        Ok(manifest)
    }

    /// The text that is written to disk.
    pub(super) fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// The archive of this kind.
    pub fn archive(&self, kind: ArchiveKind) -> Option<&Archive> {
        self.archives.iter().find(|archive| archive.kind == kind)
    }
}

/// One component of a path that stays where it is put: no separator, no control character, and not
/// hidden.
pub(super) fn safe_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.chars().any(|c| c == '/' || c == '\\' || c.is_control())
}

/// The vendor's table of what a Gravity backup holds, row by row, for a cluster that has (`true`)
/// or has not an AMV part and an NFS export of its own.
///
/// Source: the vendor's pages on backup, PCE 3.x.
pub fn contents_rows(has_amv: bool, saved_amv: bool, has_nfs: bool, saved_nfs: bool) -> Vec<ContentsRow> {
    const GRAVITY: &str = "in the Gravity archive";
    use InBackup::{No, Yes};
    let mut rows = vec![
        ("databases", Yes, GRAVITY),
        ("configuration", Yes, GRAVITY),
        ("secrets", Yes, GRAVITY),
        ("object store", Yes, GRAVITY),
        ("disclaimer", Yes, GRAVITY),
        ("SMTP", Yes, GRAVITY),
        ("DNS settings", No, "yours to configure on the target before a restore"),
        ("platform certificate", No, "keep the certificate and its private key yourself; a restore needs them"),
        ("Ops Center certificate", No, "keep the certificate and its private key yourself; a restore needs them"),
        ("NFS configuration", No, "yours to configure on the target before a restore"),
        (
            "NFS files",
            if saved_nfs { Yes } else { No },
            if saved_nfs {
                "in the NFS archive"
            } else if has_nfs {
                "not saved in this run: the backup of the NFS server, or another point, covers them"
            } else {
                "the backup of the NFS server covers them, not ferry"
            },
        ),
        ("drives", No, "not saved by Gravity; back them up where they lie"),
        ("runtimes", No, "only their names and states are saved; deploy the applications again from their sources"),
        (
            "monitoring metrics",
            if saved_amv { Yes } else { No },
            if saved_amv {
                "in the AMV archive"
            } else if has_amv {
                "not saved in this run: the AMV archive is missing"
            } else {
                "not saved by Gravity; the AMV script covers them where AMV is installed"
            },
        ),
    ];

    let amv =
        if saved_amv { ("AMV archive", Yes, "in this point") } else { ("AMV archive", No, "not saved in this run") };
    rows.extend(has_amv.then_some(amv));
    let nfs =
        if saved_nfs { ("NFS archive", Yes, "in this point") } else { ("NFS archive", No, "not saved in this run") };
    rows.extend(has_nfs.then_some(nfs));
    rows.into_iter()
        .map(|(row, in_backup, note)| ContentsRow { row: row.to_owned(), in_backup, note: note.to_owned() })
        .collect()
}
