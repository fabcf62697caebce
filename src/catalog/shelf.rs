//! Recovery points in any place: listing, finding, noting, copying, verifying, deleting.
//!
//! What lives here: what is done with whole points, in an order where a stop at any step leaves a whole
//! point or none, over the contract of [`Place`]. What does not: how a place keeps its files, what may
//! be deleted (`retention`), and the walk through an archive, which the caller hands in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::manifest::{Archive, Manifest, Verdict, Who};
use super::place::{Cargo, Place};
use super::point::{Note, Notes, Point, Remark};
use super::progress::{IN_PROGRESS, LOGS, MANIFEST, NOTES, SETTINGS};
use super::retention;
use super::verify::{self, Content, Defect, Inspect, Reread, VerifyReport};
use super::{Catalog, Entry, Unfinished};
use crate::digest::{Hasher, Sha256};
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, PointId};
use crate::vault::age::{Identities, Locked};
use crate::volume::{Feed, Reader, Volume};

/// What a lock's file says, in places that keep locks as files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockNote {
    /// Who holds it.
    pub who: Who,
    /// Since when, UTC.
    pub since: Timestamp,
    /// What for.
    pub doing: String,
}

fn folder(point: &Point) -> String {
    format!("{}/{}", point.cluster, point.id())
}

/// The name of a point's lock in its place.
pub fn lock_name(cluster: &ClusterName, id: &PointId) -> String {
    format!("{cluster}/.{id}.lock")
}

/// All that lies in a place, or in one cluster's folder there, by id.
///
/// # Errors
/// The place's own. A folder that is no point is an [`Entry::Broken`], not an error.
pub async fn entries(place: &Place, cluster: Option<&ClusterName>) -> Result<Vec<Entry>, Failure> {
    if let Place::Folder(folder) = place {
        return folder.catalog().list(cluster);
    }
    let files = place.files(cluster.map_or("", ClusterName::as_str)).await?;
    let mut folders: BTreeMap<(PointId, ClusterName, bool), BTreeMap<String, u64>> = BTreeMap::new();
    let mut locks = BTreeSet::new();
    for (name, bytes) in files {
        let mut parts = name.splitn(3, '/');
        let Some(cluster) = parts.next().and_then(|text| text.parse::<ClusterName>().ok()) else { continue };
        let Some(second) = parts.next() else { continue };
        let Some(file) = parts.next() else {
            let id = second.strip_prefix('.').and_then(|text| text.strip_suffix(".lock"));
            locks.extend(id.and_then(|id| id.parse::<PointId>().ok()).map(|id| (cluster, id)));
            continue;
        };
        let (text, part) = second.strip_suffix(".part").map_or((second, false), |text| (text, true));
        let Ok(id) = text.parse::<PointId>() else { continue };
        folders.entry((id, cluster, part)).or_default().insert(file.to_owned(), bytes);
    }
    let mut all = Vec::new();
    for ((id, cluster, part), sizes) in folders {
        let dir = PathBuf::from(format!("{}/{cluster}/{id}{}", place.name(), if part { ".part" } else { "" }));
        let staged = part || !sizes.contains_key(MANIFEST) && place.stage(&cluster, &id) == format!("{cluster}/{id}");
        if staged {
            let bytes = sizes.values().sum();
            let locked = locks.contains(&(cluster.clone(), id.clone()));
            let left = Unfinished { cluster, id, dir, note: None, run: None, bytes };
            all.push(if locked { Entry::InProgress(left) } else { Entry::LeftOver(left) });
            continue;
        }
        all.push(match load(place, &cluster, &id, dir.clone(), sizes).await {
            Ok(point) => Entry::Sealed(Box::new(point)),
            Err(why) if why.kind == Kind::Bad => Entry::Broken { cluster, id, dir, why: Box::new(why) },
            Err(why) => return Err(why),
        });
    }
    Ok(all)
}

async fn load(
    place: &Place,
    cluster: &ClusterName,
    id: &PointId,
    dir: PathBuf,
    sizes: BTreeMap<String, u64>,
) -> Result<Point, Failure> {
    let shown = format!("{}/{MANIFEST}", dir.display());
    let text = read_text(place, &format!("{cluster}/{id}/{MANIFEST}")).await?;
    let text = text.ok_or_else(|| Failure::new(Kind::Bad, format!("{shown} is missing")))?;
    let manifest = Manifest::parse(&shown, &text)?;
    if manifest.id != *id {
        return Err(Failure::new(Kind::Bad, format!("{} holds the manifest of another point", dir.display()))
            .saw(manifest.id.to_string())
            .why("a point's folder bears its id"));
    }
    let notes = match read_text(place, &format!("{cluster}/{id}/{NOTES}")).await? {
        Some(text) => Notes::parse(&text),
        None => Notes::default(),
    };
    Ok(Point { cluster: cluster.clone(), dir, manifest, notes, sizes: Some(sizes) })
}

async fn read_text(place: &Place, name: &str) -> Result<Option<String>, Failure> {
    let Some(bytes) = place.read(name).await? else { return Ok(None) };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|error| Failure::new(Kind::Bad, format!("{name} is no text")).saw(error.to_string()))
}

/// Finds one sealed point, as [`Catalog::find`] does, in any place.
///
/// # Errors
/// As [`Catalog::find`].
pub async fn find(place: &Place, text: &str) -> Result<Point, Failure> {
    if let Place::Folder(folder) = place {
        return folder.catalog().find(text, None);
    }
    super::pick(entries(place, None).await?, text, None, &place.name())
}

/// Adds a note to a point.
///
/// # Errors
/// The place's own; then nothing was added.
pub async fn note(place: &Place, point: &mut Point, who: &Who, remark: Remark) -> Result<(), Failure> {
    let note = Note { at: Timestamp::now(), who: who.clone(), remark };
    let text = serde_json::to_string(&note).map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    place.append(&format!("{}/{NOTES}", folder(point)), &text).await?;
    point.notes.known.push(note);
    Ok(())
}

/// Vouches for a suspect point: from now on it counts as verified.
///
/// # Errors
/// [`Kind::Refused`] when it is not suspect or no reason is given; else as [`note`].
pub async fn accept(place: &Place, point: &mut Point, who: &Who, reason: &str) -> Result<(), Failure> {
    let remark = point.acceptance(reason)?;
    note(place, point, who, remark).await
}

/// How a copy was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// The place that it is in now.
    pub to: String,
    /// Bytes of all its files.
    pub bytes: u64,
    /// How the other place proved it.
    pub how: String,
    /// True when it was there already, and was proved again.
    pub was_there: bool,
}

/// Copies a point: every file, proved there one by one, the manifest last. What an earlier attempt left there
/// is used as far as it is proved. `heard` hears bytes done and in total. With `reread` every byte is read back
/// from the other place. The copy is noted on the point.
///
/// # Errors
/// [`Kind::Bad`] when the point here is not what its manifest says; [`Kind::Refused`] when another ferry
/// writes it there, or another point has its id; else those of either place.
pub async fn copy(
    from: &Place,
    point: &mut Point,
    to: &Place,
    who: &Who,
    reread: bool,
    heard: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Copied, Failure> {
    if from.name() == to.name() {
        return Err(Failure::new(Kind::Usage, format!("{} is in {} already", folder(point), to.name()))
            .mend("name another place"));
    }
    if point.verdict() == Verdict::Damaged {
        return Err(Failure::new(Kind::Refused, format!("{} is damaged and is not copied", folder(point)))
            .saw(point.defects().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")));
    }
    let manifest = from.read(&format!("{}/{MANIFEST}", folder(point))).await?;
    let manifest = manifest.ok_or_else(|| Failure::new(Kind::Bad, format!("{} has no manifest", folder(point))))?;
    let (cluster, id) = (point.cluster.clone(), point.id().clone());
    let there = format!("{cluster}/{id}");
    let sealed = to.read(&format!("{there}/{MANIFEST}")).await?;
    if sealed.as_ref().is_some_and(|other| *other != manifest) {
        return Err(Failure::new(Kind::Refused, format!("another point {there} is in {}", to.name()))
            .why("a sealed point is never replaced"));
    }
    let total = files_of(&point.manifest).iter().map(|(_, bytes, _)| bytes).sum();
    let was_there = sealed.is_some();
    let how = if was_there {
        prove(to, &there, point, &|done| heard(done, total)).await?;
        "every byte was read back and is as the manifest says".to_owned()
    } else {
        let held = to.lock(&cluster, &id, who, "copy").await?;
        let done = send(from, point, to, &manifest, reread, &|done| heard(done, total)).await;
        match done {
            Ok(how) => {
                held.release(to).await?;
                how
            }
            Err(failure) => {
                // The failure is what matters; a lock that stays is told by the next attempt.
                let _ = held.release(to).await;
                return Err(failure.within(format!("copy {there} to {}", to.name())));
            }
        }
    };
    let name = to.name();
    if !point.replicas().contains(&name.as_str()) {
        note(from, point, who, Remark::Replicated { to: name.clone(), how: how.clone() }).await?;
    }
    Ok(Copied { to: name, bytes: total, how, was_there })
}

/// Every file of a point but manifest and notes: name, size, digest.
pub(super) fn files_of(manifest: &Manifest) -> Vec<(String, u64, Sha256)> {
    let archives = manifest.archives.iter().flat_map(Archive::stored);
    let archives = archives.map(|volume| (volume.file, volume.bytes, volume.sha256));
    let files = manifest.files.iter().map(|file| (file.path.clone(), file.bytes, file.sha256));
    archives.chain(files).collect()
}

async fn send(
    from: &Place,
    point: &Point,
    to: &Place,
    manifest: &[u8],
    reread: bool,
    heard: &(dyn Fn(u64) + Send + Sync),
) -> Result<String, Failure> {
    let stage = to.stage(&point.cluster, point.id());
    let (mut done, mut hows) = (0, BTreeSet::new());
    for (file, bytes, sha256) in files_of(&point.manifest) {
        let name = format!("{stage}/{file}");
        let so_far = done;
        let listen = |count: u64| heard(so_far + count);
        let how = match (from, to) {
            (Place::Folder(_), _) => {
                let cargo = Cargo { file: &point.dir.join(&file), bytes, sha256 };
                to.put(&name, &cargo, &listen).await?
            }
            (_, Place::Folder(local)) => {
                local.receive(from, &format!("{}/{file}", folder(point)), &name, bytes, sha256, &listen).await?
            }
            // Straight from the one to the other: nothing of it lies on a disk here.
            _ => {
                let volume = Volume { file: file.clone(), bytes, sha256, plain_bytes: bytes };
                let from = Reader::away(from.fetch(&folder(point)), &[volume], false, None);
                to.put_from(&name, from, bytes, sha256, &listen).await?
            }
        };
        if reread {
            let seen = to.digest(&name).await?;
            if seen != (bytes, sha256) {
                return Err(Failure::new(
                    Kind::Bad,
                    format!("{name} was read back from {} and is not what was sent", to.name()),
                )
                .saw(format!("{} bytes, sha256 {}", seen.0, seen.1))
                .why(format!("expected {bytes} bytes, sha256 {sha256}")));
            }
        }
        hows.insert(how);
        done += bytes;
        heard(done);
    }
    if let Some(notes) = from.read(&format!("{}/{NOTES}", folder(point))).await? {
        // An earlier attempt may have left older ones.
        let name = format!("{stage}/{NOTES}");
        to.remove(&name).await?;
        to.create(&name, &notes).await?;
    }
    to.seal(&point.cluster, point.id(), manifest).await?;
    let mut how = hows.into_iter().collect::<Vec<_>>().join("; ");
    if reread {
        how.push_str("; every byte was read back");
    }
    Ok(how)
}

/// Reads all of a point that is in a place and compares.
async fn prove(place: &Place, there: &str, point: &Point, heard: &(dyn Fn(u64) + Send + Sync)) -> Result<(), Failure> {
    let mut done = 0;
    for (file, bytes, sha256) in files_of(&point.manifest) {
        let seen = place.digest(&format!("{there}/{file}")).await?;
        if seen != (bytes, sha256) {
            return Err(Failure::new(Kind::Bad, format!("{there}/{file} in {} is damaged", place.name()))
                .saw(format!("{} bytes, sha256 {}", seen.0, seen.1))
                .why(format!("expected {bytes} bytes, sha256 {sha256}")));
        }
        done += bytes;
        heard(done);
    }
    Ok(())
}

/// Reads every byte of a point again, wherever it is, and notes the outcome on it.
///
/// # Errors
/// None for what is wrong with the point: that is in the report. A place that cannot be reached.
pub async fn verify(
    place: &Place,
    point: &mut Point,
    who: &Who,
    inspect: &(dyn Fn(&Archive) -> Box<dyn Inspect + Send> + Sync),
    heard: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<VerifyReport, Failure> {
    verify_with(place, point, who, None, inspect, heard).await
}

/// As [`verify`], opening what is encrypted with `identities`.
///
/// # Errors
/// As [`verify`].
pub async fn verify_with(
    place: &Place,
    point: &mut Point,
    who: &Who,
    identities: Option<&Arc<Identities>>,
    inspect: &(dyn Fn(&Archive) -> Box<dyn Inspect + Send> + Sync),
    heard: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<VerifyReport, Failure> {
    if let Place::Folder(folder) = place {
        let mut heard = |done, total| heard(done, total);
        return folder.catalog().verify_with(point, who, identities, &|archive| inspect(archive), &mut heard);
    }
    let total = files_of(&point.manifest).iter().map(|(_, bytes, _)| bytes).sum();
    let mut report = VerifyReport::of_names(point, Vec::new());
    report.warnings.clear();
    let mut contents: Vec<Content<'_>> = Vec::new();
    for (file, bytes, sha256) in files_of(&point.manifest) {
        let archive =
            point.manifest.archives.iter().find(|archive| archive.stored().iter().any(|one| one.file == file));
        if let Some(archive) = archive
            && contents.last().is_none_or(|content| content.archive.file != archive.file)
        {
            contents.push(Content::new(archive, identities, inspect(archive)));
        }
        let mut content = archive.and(contents.last_mut());
        if let Some(content) = &mut content {
            content.begin();
        }
        let mut hasher = Hasher::new();
        let before = report.bytes;
        let read = place
            .each(&format!("{}/{file}", folder(point)), &mut |piece| {
                hasher.update(piece);
                if let Some(content) = &mut content {
                    content.feed(piece);
                }
                heard(before + hasher.bytes(), total);
                Ok(())
            })
            .await;
        let mut bad = |what: &str, expected: String, seen: String| {
            report.bad.push(Defect { file: file.clone(), what: what.to_owned(), expected, seen });
        };
        match read {
            Err(failure) if failure.kind == Kind::Bad => {
                bad("missing", format!("a file of {bytes} bytes"), failure.seen.unwrap_or(failure.what));
                if let Some(content) = content {
                    content.missing();
                }
                continue;
            }
            Err(failure) => return Err(failure),
            Ok(_) => {}
        }
        let seen_bytes = hasher.bytes();
        let seen = hasher.finish();
        if seen_bytes != bytes {
            bad("size", format!("{bytes} bytes"), format!("{seen_bytes} bytes"));
        } else if seen != sha256 {
            bad("sha256", sha256.to_string(), seen.to_string());
        }
        if let Some(content) = content {
            content.end(&Reread { file, bytes: seen_bytes, sha256: seen, members: None }, &mut report);
        }
        report.bytes += seen_bytes;
    }
    contents.into_iter().for_each(|content| content.finish(&mut report));
    report.warnings.extend(point.notes.unreadable.iter().cloned());
    let remark = verify::outcome(&report);
    report.not_noted = note(place, point, who, remark).await.err();
    Ok(report)
}

/// Reads some files of a point again, those that `wanted` names, and notes the outcome: a part of a large point a day.
/// With `identities` what is encrypted is opened as well; no archive is walked, since none is read whole. What an earlier
/// verification found in the other files still holds.
///
/// # Errors
/// As [`verify`].
pub async fn verify_part(
    place: &Place,
    point: &mut Point,
    who: &Who,
    part: &str,
    identities: Option<&Arc<Identities>>,
    wanted: &(dyn Fn(usize) -> bool + Sync),
) -> Result<VerifyReport, Failure> {
    let mut report = VerifyReport::of_names(point, Vec::new());
    let files = files_of(&point.manifest);
    let mut read_again: BTreeSet<String> = BTreeSet::new();
    for (_, (file, bytes, sha256)) in files.into_iter().enumerate().filter(|(number, _)| wanted(*number)) {
        let encrypted = point.manifest.archives.iter().filter(|archive| archive.encryption.is_some());
        let volume = encrypted.flat_map(Archive::stored).find(|volume| volume.file == file);
        let mut feed = match (&volume, identities.filter(|identities| !identities.is_empty())) {
            (Some(_), Some(identities)) => Feed::begin(Arc::clone(identities), (), |(), _| {}).ok(),
            _ => None,
        };
        let mut hasher = Hasher::new();
        let read = place
            .each(&format!("{}/{file}", folder(point)), &mut |piece| {
                hasher.update(piece);
                if let Some(feed) = &mut feed {
                    feed.give(piece);
                }
                Ok(())
            })
            .await;
        read_again.insert(file.clone());
        let mut bad = |what: &str, expected: String, seen: String| {
            report.bad.push(Defect { file: file.clone(), what: what.to_owned(), expected, seen });
        };
        match read {
            Err(failure) if failure.kind == Kind::Bad => {
                bad("missing", format!("a file of {bytes} bytes"), failure.seen.unwrap_or(failure.what));
                continue;
            }
            Err(failure) => return Err(failure),
            Ok(_) => {}
        }
        let (seen_bytes, seen) = (hasher.bytes(), hasher.finish());
        if seen_bytes != bytes {
            bad("size", format!("{bytes} bytes"), format!("{seen_bytes} bytes"));
        } else if seen != sha256 {
            bad("sha256", sha256.to_string(), seen.to_string());
        } else if let (Some(volume), Some(((), opened))) = (&volume, feed.and_then(Feed::finish)) {
            match opened {
                Ok(plain) if plain == volume.plain_bytes => {}
                Ok(plain) => bad("archive", format!("{} bytes in it", volume.plain_bytes), plain.to_string()),
                Err(Locked::Damaged(why)) => bad("archive", "a whole encrypted file".to_owned(), why),
                Err(locked) => {
                    report.not_opened = true;
                    report.unchecked.push(format!("what is in {file}: {locked}"));
                }
            }
        }
        report.archives.push(Reread { file, bytes: seen_bytes, sha256: seen, members: None });
        report.bytes += seen_bytes;
    }
    let found_now = report.bad.len();
    report.bad.extend(point.defects().iter().filter(|defect| !read_again.contains(&defect.file)).cloned());
    let remark = if found_now > 0 {
        Remark::Damaged { defects: report.bad.clone() }
    } else {
        Remark::PartVerified { part: part.to_owned(), files: report.archives.len() as u64, bytes: report.bytes }
    };
    report.not_noted = note(place, point, who, remark).await.err();
    Ok(report)
}

/// How many files a point has that are read when it is verified.
pub fn count_files(point: &Point) -> usize {
    files_of(&point.manifest).len()
}

/// What can be said of a point without reading an archive: every file there at its size, nothing else there.
pub fn look(point: &Point) -> Vec<Defect> {
    let mut bad = Vec::new();
    for (file, bytes, _) in files_of(&point.manifest) {
        let expected = format!("{bytes} bytes");
        match point.size_of(&file) {
            Ok(seen) if seen == bytes => {}
            Ok(seen) => bad.push(Defect { file, what: "size".to_owned(), expected, seen: format!("{seen} bytes") }),
            Err(seen) => bad.push(Defect { file, what: "missing".to_owned(), expected, seen }),
        }
    }
    bad
}

/// Why a point must not be deleted, as a failure; `entries` are those of its cluster.
///
/// # Errors
/// [`Kind::Refused`] with the reasons.
pub fn may_go(point: &Point, entries: &[Entry], dropped: &BTreeSet<String>, now: Timestamp) -> Result<(), Failure> {
    let items = retention::items(entries, now);
    let Some(why) = retention::protected(&items, dropped, now).remove(point.id()) else { return Ok(()) };
    let mend = if point.held(now) {
        format!("ferry points hold {} release", folder(point))
    } else {
        let version = point.manifest.pce_version.as_deref().unwrap_or(retention::NO_VERSION);
        format!(
            "make a newer point first; a version that is no longer wanted is dropped by name: --drop-version {version}"
        )
    };
    Err(Failure::new(Kind::Refused, format!("{} is not deleted", folder(point)))
        .saw(why.join("; "))
        .why("nothing deletes what a cluster may have to be restored from")
        .mend(mend))
}

/// Puts a point into the trash.
///
/// # Errors
/// As [`note`].
pub async fn trash(
    place: &Place,
    point: &mut Point,
    who: &Who,
    until: Timestamp,
    reason: &str,
    dropped: Option<String>,
) -> Result<(), Failure> {
    note(place, point, who, Remark::Trashed { until, reason: reason.to_owned(), dropped }).await
}

/// Deletes a point for good: its archives first, its notes last, so that what a stop leaves is still known to be in
/// the trash.
///
/// # Errors
/// [`Kind::Refused`] when it is not in the trash, or another ferry holds its lock; the place's own.
pub async fn empty(place: &Place, point: &Point, who: &Who) -> Result<(), Failure> {
    if point.in_trash().is_none() {
        return Err(Failure::new(Kind::Refused, format!("{} is not in the trash", folder(point))));
    }
    let held = place.lock(&point.cluster, point.id(), who, "delete").await?;
    let done = remove_all(place, &point.cluster, point.id().as_str()).await;
    let _ = held.release(place).await;
    done
}

async fn remove_all(place: &Place, cluster: &ClusterName, folder: &str) -> Result<(), Failure> {
    let top = format!("{cluster}/{folder}");
    let mut files: Vec<String> = place.files(&top).await?.into_iter().map(|(name, _)| name).collect();
    let rank = |name: &str| match name.strip_prefix(&format!("{top}/")) {
        Some(NOTES) => 3,
        Some(MANIFEST) => 2,
        Some(name) if name.contains('/') => 1,
        _ => 0,
    };
    files.sort_by_key(|name| (rank(name), name.clone()));
    for name in &files {
        place.remove(name).await?;
    }
    place.remove_folder(&top).await
}

/// Removes what earlier deletions left halfway: folders that hold nothing but the notes of a point in the trash.
/// Returns the ids.
///
/// # Errors
/// The place's own.
pub async fn finish_emptying(place: &Place, entries: &[Entry], who: &Who) -> Result<Vec<PointId>, Failure> {
    let mut finished = Vec::new();
    for entry in entries {
        let (cluster, id, name) = match entry {
            // What is no folder of ours is never looked into; the listing tells of it.
            Entry::Broken { dir, .. } if matches!(place, Place::Folder(_)) && super::real_dir(dir).is_err() => continue,
            Entry::Broken { cluster, id, .. } => (cluster, id, id.to_string()),
            Entry::LeftOver(part) if !part.dir.to_string_lossy().ends_with(".part") => {
                (&part.cluster, &part.id, part.id.to_string())
            }
            _ => continue,
        };
        let top = format!("{cluster}/{name}");
        let files = place.files(&top).await?;
        let only_notes = files.iter().all(|(name, _)| *name == format!("{top}/{NOTES}"));
        let notes =
            read_text(place, &format!("{top}/{NOTES}")).await?.map(|text| Notes::parse(&text)).unwrap_or_default();
        let trashed = notes.known.iter().rev().find_map(|note| match note.remark {
            Remark::Trashed { .. } => Some(true),
            Remark::Recovered => Some(false),
            _ => None,
        });
        if only_notes && (trashed == Some(true) || files.is_empty()) {
            let held = place.lock(cluster, id, who, "delete").await?;
            let done = remove_all(place, cluster, &name).await;
            let _ = held.release(place).await;
            done?;
            finished.push(id.clone());
        }
    }
    Ok(finished)
}

/// The time so long after `now`.
pub fn after(now: Timestamp, time: std::time::Duration) -> Timestamp {
    jiff::SignedDuration::try_from(time).ok().and_then(|time| now.checked_add(time).ok()).unwrap_or(Timestamp::MAX)
}

/// What a prune did, or would do, in one cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pruned {
    /// The cluster.
    pub cluster: ClusterName,
    /// The fate of each of its points, newest first.
    pub decisions: Vec<retention::Decision>,
    /// What was put into the trash.
    pub trashed: Vec<PointId>,
    /// What was deleted for good.
    pub emptied: Vec<PointId>,
}

/// Carries out what retention decides on the points of one cluster: into the trash, and out of it. What an earlier prune
/// left halfway is finished first.
///
/// # Errors
/// The place's own; what was done until then is done, and the next prune goes on.
pub async fn prune(
    place: &Place,
    cluster: ClusterName,
    entries: &[Entry],
    rules: &retention::Rules,
    now: Timestamp,
    who: &Who,
) -> Result<Pruned, Failure> {
    let decisions = retention::decide(&retention::items(entries, now), rules, now);
    let (mut trashed, mut emptied) = (Vec::new(), finish_emptying(place, entries, who).await?);
    for decision in &decisions {
        let point = entries.iter().find_map(|entry| match entry {
            Entry::Sealed(point) if *point.id() == decision.id => Some(point),
            _ => None,
        });
        let Some(point) = point else { continue };
        match decision.fate {
            retention::Fate::Goes => {
                let mut point = (**point).clone();
                let until = after(now, super::overview::grace(&rules.keep));
                let version = point.manifest.pce_version.clone().unwrap_or_else(|| retention::NO_VERSION.to_owned());
                let dropped = rules.dropped.contains(&version).then_some(version);
                trash(place, &mut point, who, until, &decision.why.join("; "), dropped).await?;
                trashed.push(decision.id.clone());
            }
            retention::Fate::Emptied => {
                // Asked again of the point itself: somebody may have taken it back while we worked.
                let fresh = find(place, &folder(point)).await?;
                if fresh.in_trash().is_some() && !fresh.held(now) {
                    empty(place, &fresh, who).await?;
                    emptied.push(decision.id.clone());
                }
            }
            retention::Fate::Stays | retention::Fate::InTrash => {}
        }
    }
    Ok(Pruned { cluster, decisions, trashed, emptied })
}

/// Removes a lock that a ferry left which died. Returns what it said, where it said anything.
///
/// # Errors
/// [`Kind::CouldNotStart`] when there is no such lock; [`Kind::Refused`] when it is held by a living ferry, as far as
/// the place can know.
pub async fn break_lock(place: &Place, cluster: &ClusterName, id: &PointId) -> Result<Option<LockNote>, Failure> {
    let name = lock_name(cluster, id);
    let Some(bytes) = place.read(&name).await? else {
        return Err(Failure::new(Kind::CouldNotStart, format!("{cluster}/{id} is not locked in {}", place.name())));
    };
    place.remove(&name).await?;
    Ok(serde_json::from_slice(&bytes).ok())
}

/// The files of a sealed point in the order in which they are exported: what is read first stands first.
pub fn export_order(point: &Point) -> Vec<(String, u64)> {
    let mut files: Vec<(String, u64)> = Vec::new();
    let small = point.manifest.files.iter().map(|file| (file.path.clone(), file.bytes));
    files.extend(small);
    let stored = point.manifest.archives.iter().flat_map(Archive::stored);
    files.extend(stored.map(|volume| (volume.file, volume.bytes)));
    files
}

/// Whether a name may stand in an exported point.
pub(super) fn known_name(name: &str) -> bool {
    let mut parts = name.split('/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let safe = super::manifest::safe_name;
    match (second, third) {
        (None, _) => safe(first) && first != IN_PROGRESS,
        (Some(second), None) => [LOGS, SETTINGS].contains(&first) && safe(second),
        _ => false,
    }
}

/// A catalog's folder as a place.
pub fn folder_place(catalog: Catalog) -> Place {
    Place::Folder(super::place::Folder::new(catalog))
}
