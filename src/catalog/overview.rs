//! A catalog at one look, as one value: what a page about it needs.
//!
//! What lives here: [`overview`], a pure function from entries, rules and the clock. What does not: the page
//! (report), and reading the entries.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::check::{Worth, worth};
use super::manifest::{ArchiveKind, Durations, Verdict};
use super::point::Remark;
use super::retention::{self, Fate, Rules};
use super::{Entry, Point};
use crate::name::{ClusterName, PointId};

/// A whole catalog.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    /// When this was looked at, UTC.
    pub at: Timestamp,
    /// The place.
    pub place: String,
    /// By cluster, sorted.
    pub clusters: Vec<ClusterOverview>,
}

/// One cluster's points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterOverview {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its points, oldest first, those in the trash included.
    pub points: Vec<PointLine>,
    /// How many points of each verdict were made on each day (UTC, `2026-11-26`); without those in the trash.
    pub days: BTreeMap<String, BTreeMap<String, u32>>,
    /// The newest verified archive of each kind.
    pub newest: Vec<NewestOf>,
    /// The last rehearsal of any of its points.
    pub last_drill: Option<Drill>,
    /// What the next prune puts into the trash.
    pub goes_next: Vec<PointId>,
    /// What the next prune deletes for good.
    pub emptied_next: Vec<PointId>,
    /// Bytes of all archives.
    pub bytes: u64,
    /// Points that were never sealed and that nobody works on.
    pub left_over: Vec<PointId>,
    /// Points that are being made.
    pub in_progress: Vec<PointId>,
    /// Folders that are no point, each with why.
    pub broken: Vec<(PointId, String)>,
}

/// One point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointLine {
    /// Its id.
    pub id: PointId,
    /// When its backup was started, UTC.
    pub started: Timestamp,
    /// When the last archive was proved, UTC.
    pub finished: Timestamp,
    /// The verdict of today.
    pub verdict: Verdict,
    /// Whether every wanted part is there.
    pub complete: bool,
    /// `--label`.
    pub label: Option<String>,
    /// The PCE version.
    pub pce_version: Option<String>,
    /// Whether it is held.
    pub held: bool,
    /// Until when it lies in the trash at least.
    pub trash_until: Option<Timestamp>,
    /// Other places that verified a copy.
    pub replicas: Vec<String>,
    /// When every byte was last read and found right.
    pub last_verified: Timestamp,
    /// When it was last restored as a rehearsal.
    pub last_rehearsed: Option<Timestamp>,
    /// How long the parts of the backup took.
    pub durations: Durations,
    /// Its archives.
    pub archives: Vec<ArchiveLine>,
    /// What retention makes of it now.
    pub fate: Fate,
    /// Why, each a few words.
    pub why: Vec<String>,
}

/// One archive of a point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArchiveLine {
    /// Its kind.
    pub kind: ArchiveKind,
    /// Size in bytes.
    pub bytes: u64,
    /// Sum of the members' sizes in bytes, unpacked.
    pub content_bytes: u64,
    /// How many members.
    pub members: u64,
    /// The verdict of today; *damaged* when its file is not there at its size.
    pub verdict: Verdict,
}

/// The newest verified archive of a kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewestOf {
    /// The kind.
    pub kind: ArchiveKind,
    /// Its point.
    pub point: PointId,
    /// When that backup was started, UTC.
    pub started: Timestamp,
    /// Its age in seconds; 0 for one from the future.
    pub age_seconds: u64,
}

/// A rehearsal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drill {
    /// The point that was restored.
    pub point: PointId,
    /// When, UTC.
    pub at: Timestamp,
    /// Into which cluster.
    pub into: ClusterName,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// A catalog at one look. `place` is its name, `rules` are those of the settings.
pub fn overview(place: &str, entries: &[Entry], rules: &Rules, now: Timestamp) -> Overview {
    let mut by_cluster: BTreeMap<ClusterName, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        by_cluster.entry(entry.cluster().clone()).or_default().push(entry.clone());
    }
    let clusters = by_cluster.into_iter().map(|(cluster, entries)| of_cluster(cluster, &entries, rules, now)).collect();
    Overview { at: now, place: place.to_owned(), clusters }
}

fn of_cluster(cluster: ClusterName, entries: &[Entry], rules: &Rules, now: Timestamp) -> ClusterOverview {
    let decisions = retention::decide(&retention::items(entries, now), rules, now);
    let with_fate = |fate: Fate| decisions.iter().filter(|one| one.fate == fate).map(|one| one.id.clone()).collect();
    let mut out = ClusterOverview {
        cluster,
        points: Vec::new(),
        days: BTreeMap::new(),
        newest: Vec::new(),
        last_drill: None,
        goes_next: with_fate(Fate::Goes),
        emptied_next: with_fate(Fate::Emptied),
        bytes: 0,
        left_over: Vec::new(),
        in_progress: Vec::new(),
        broken: Vec::new(),
    };
    let mut newest: BTreeMap<String, NewestOf> = BTreeMap::new();
    for entry in entries {
        let point = match entry {
            Entry::Sealed(point) => point,
            Entry::LeftOver(part) => {
                out.left_over.push(part.id.clone());
                continue;
            }
            Entry::InProgress(part) => {
                out.in_progress.push(part.id.clone());
                continue;
            }
            Entry::Broken { id, why, .. } => {
                out.broken.push((id.clone(), why.what.clone()));
                continue;
            }
        };
        let decision = decisions.iter().find(|one| one.id == *point.id());
        let line = point_line(point, decision, now);
        out.bytes += point.bytes();
        if line.trash_until.is_none() {
            let day = line.started.strftime("%Y-%m-%d").to_string();
            *out.days.entry(day).or_default().entry(line.verdict.to_string()).or_default() += 1;
            for archive in line.archives.iter().filter(|archive| archive.verdict == Verdict::Verified) {
                let age_seconds = u64::try_from(now.as_second() - line.started.as_second()).unwrap_or(0);
                let this = NewestOf { kind: archive.kind, point: line.id.clone(), started: line.started, age_seconds };
                let best = newest.entry(archive.kind.to_string()).or_insert_with(|| this.clone());
                if this.started > best.started {
                    *best = this;
                }
            }
        }
        for note in &point.notes.known {
            if let Remark::Rehearsed { into, seconds, .. } = &note.remark
                && out.last_drill.as_ref().is_none_or(|drill| note.at > drill.at)
            {
                out.last_drill =
                    Some(Drill { point: line.id.clone(), at: note.at, into: into.clone(), seconds: *seconds });
            }
        }
        out.points.push(line);
    }
    out.newest = newest.into_values().collect();
    out
}

fn point_line(point: &Point, decision: Option<&retention::Decision>, now: Timestamp) -> PointLine {
    let manifest = &point.manifest;
    PointLine {
        id: point.id().clone(),
        started: manifest.started,
        finished: manifest.finished,
        verdict: point.verdict(),
        complete: manifest.complete,
        label: manifest.label.clone(),
        pce_version: manifest.pce_version.clone(),
        held: point.held(now),
        trash_until: point.in_trash(),
        replicas: point.replicas().into_iter().map(str::to_owned).collect(),
        last_verified: point.last_verified(),
        last_rehearsed: point.last_rehearsed(),
        durations: manifest.durations.clone(),
        archives: manifest
            .archives
            .iter()
            .map(|archive| ArchiveLine {
                kind: archive.kind,
                bytes: archive.bytes,
                content_bytes: archive.content_bytes,
                members: archive.members,
                verdict: match worth(point, archive) {
                    Worth::Verified => Verdict::Verified,
                    Worth::Suspect => Verdict::Suspect,
                    Worth::Damaged(_) => Verdict::Damaged,
                },
            })
            .collect(),
        fate: decision.map_or(Fate::Stays, |decision| decision.fate),
        why: decision.map(|decision| decision.why.clone()).unwrap_or_default(),
    }
}

/// How long a point stays in the trash.
pub fn grace(keep: &crate::settings::Keep) -> Duration {
    keep.grace.unwrap_or(retention::GRACE)
}
