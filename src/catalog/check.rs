//! Is there a verified archive of each kind that is young enough? For monitoring.
//!
//! What lives here: what lies on a cluster's shelf, as far as that question needs it ([`look`]: names
//! and sizes, no byte of an archive is read), and the judgement, a pure function ([`check`]). What does
//! not: reading archives again (`verify`), words for people (cli).
//!
//! * An archive counts from the moment its backup was started: what changed later is not in it.
//! * Only a *verified* one counts, accepted ones included. A suspect one, a damaged one, one whose file is not
//!   there or has another size, and what was never sealed do not.
//! * What is damaged is wrong while nothing newer is verified: last night's backup is lost, though the one
//!   before may still be young enough.
//! * A point from the future says nothing about age: it is told and passed over. Five minutes are let pass,
//!   clocks differ.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::manifest::{Archive, ArchiveKind, Verdict};
use super::{Entry, Point};
use crate::name::PointId;

/// How far in the future a point may be and still count as made now.
pub const SKEW: Duration = Duration::from_secs(300);

/// What is to be thought of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Worth {
    /// Verified, or accepted.
    Verified,
    /// Unlike its predecessors, and nobody accepted it.
    Suspect,
    /// A sentence that says why it is none.
    Damaged(String),
}

/// An archive on the shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnShelf {
    /// Its point.
    pub point: PointId,
    /// Its kind; `None` where a point cannot be read, which may have held any.
    pub kind: Option<ArchiveKind>,
    /// When its backup was started.
    pub started: Option<Timestamp>,
    /// What it is worth.
    pub worth: Worth,
}

/// What lies on one cluster's shelf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shelf {
    /// Archives of sealed points, and points that cannot be read.
    pub archives: Vec<OnShelf>,
    /// Points that were never sealed and that nobody works on.
    pub left_over: Vec<PointId>,
}

/// Looks at entries of one cluster: their notes, and whether each archive's file is there at its size.
pub fn look(entries: &[Entry]) -> Shelf {
    let mut shelf = Shelf::default();
    for entry in entries {
        match entry {
            // What lies in the trash is on its way out: it is no backup any more.
            Entry::Sealed(point) if point.in_trash().is_some() => {}
            Entry::Sealed(point) => shelf.archives.extend(point.manifest.archives.iter().map(|archive| OnShelf {
                point: point.id().clone(),
                kind: Some(archive.kind),
                started: Some(point.manifest.started),
                worth: worth(point, archive),
            })),
            Entry::Broken { id, why, .. } => shelf.archives.push(OnShelf {
                point: id.clone(),
                kind: None,
                started: None,
                worth: Worth::Damaged(why.what.clone()),
            }),
            Entry::LeftOver(part) => shelf.left_over.push(part.id.clone()),
            Entry::InProgress(_) => {}
        }
    }
    shelf
}

/// What one archive of a point is worth today: its verdict, and whether its file is there at its size.
pub fn worth(point: &Point, archive: &Archive) -> Worth {
    match point.verdict_of(archive) {
        Verdict::Damaged => {
            let defect = point.defects().iter().find(|defect| archive.lies_in(&defect.file));
            Worth::Damaged(defect.map_or_else(|| format!("{} is damaged", archive.file), ToString::to_string))
        }
        verdict => {
            for volume in archive.stored() {
                match point.size_of(&volume.file) {
                    Ok(bytes) if bytes == volume.bytes => {}
                    Ok(bytes) => {
                        return Worth::Damaged(format!(
                            "{} has {bytes} bytes instead of {}",
                            volume.file, volume.bytes
                        ));
                    }
                    Err(what) => return Worth::Damaged(format!("{}: {what}", volume.file)),
                }
            }
            if verdict == Verdict::Verified { Worth::Verified } else { Worth::Suspect }
        }
    }
}

/// What is wrong with a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "wrong", rename_all = "snake_case")]
pub enum Wrong {
    /// No verified archive of that kind at all.
    Missing,
    /// The newest one is older than the limit.
    TooOld,
    /// Something newer than it was damaged.
    Damaged {
        /// The point.
        point: PointId,
        /// What was seen.
        what: String,
    },
}

/// The newest verified archive of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Newest {
    /// Its point.
    pub point: PointId,
    /// When its backup was started.
    pub started: Timestamp,
    /// Its age in whole seconds.
    pub age_seconds: u64,
}

/// The judgement on one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindCheck {
    /// The kind.
    pub kind: ArchiveKind,
    /// The greatest age that is allowed, in seconds.
    pub limit_seconds: u64,
    /// The newest verified archive that is not from the future.
    pub newest: Option<Newest>,
    /// What is wrong; nothing when all is well.
    pub wrong: Vec<Wrong>,
    /// Points with a verified archive of the kind that were made in the future, by this machine's clock.
    pub from_the_future: Vec<PointId>,
    /// Points newer than it whose archive of the kind is suspect: look at them, accept them or not.
    pub suspect: Vec<PointId>,
}

impl KindCheck {
    /// Whether all is well.
    pub fn good(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// Whether the newest verified point is in enough places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplicaCheck {
    /// Whether it is.
    pub ok: bool,
    /// How many places are asked for, this one included.
    pub least: u32,
    /// The newest verified point that is not from the future.
    pub point: Option<PointId>,
    /// The other places that verified a copy of it.
    pub replicas: Vec<String>,
}

impl ReplicaCheck {
    /// In words.
    pub fn said(&self) -> String {
        let Some(point) = &self.point else {
            return format!("NOT REPLICATED: no verified point (wanted in {} places)", self.least);
        };
        let count = self.replicas.len() + 1;
        let word = if self.ok { "in" } else { "TOO FEW PLACES, in" };
        format!("{word} {count} of {} places: {point}", self.least)
    }
}

/// Looks whether the newest verified point of a cluster is in `least` places, this one included.
pub fn replicas(entries: &[Entry], least: u32, now: Timestamp) -> ReplicaCheck {
    let skew = i128::try_from(SKEW.as_nanos()).unwrap_or(0);
    let newest = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Sealed(point) if point.in_trash().is_none() && point.verdict() == Verdict::Verified => Some(point),
            _ => None,
        })
        .filter(|point| point.manifest.archives.iter().all(|archive| worth(point, archive) == Worth::Verified))
        .filter(|point| point.manifest.started.as_nanosecond() - now.as_nanosecond() <= skew)
        .max_by_key(|point| (point.manifest.started, point.id().clone()));
    let replicas: Vec<String> =
        newest.map(|point| point.replicas().into_iter().map(str::to_owned).collect()).unwrap_or_default();
    let ok = newest.is_some() && replicas.len() + 1 >= least as usize;
    ReplicaCheck { ok, least, point: newest.map(|point| point.id().clone()), replicas }
}

/// Whether any point of a cluster was rehearsed lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrillCheck {
    /// Whether one was.
    pub ok: bool,
    /// The longest time ago that is allowed, in seconds.
    pub limit_seconds: u64,
    /// The last rehearsal: its point, when it was, how long ago.
    pub last: Option<Newest>,
}

/// Looks when a point of a cluster was last rehearsed.
pub fn drill(entries: &[Entry], within: Duration, now: Timestamp) -> DrillCheck {
    let last = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Sealed(point) => Some((point.last_rehearsed()?, point.id().clone())),
            _ => None,
        })
        .max()
        .map(|(started, point)| {
            let age_seconds = u64::try_from(now.as_second() - started.as_second()).unwrap_or(0);
            Newest { point, started, age_seconds }
        });
    let ok = last.as_ref().is_some_and(|last| last.age_seconds <= within.as_secs());
    DrillCheck { ok, limit_seconds: within.as_secs(), last }
}

/// Judges each kind by its own limit.
pub fn check(shelf: &Shelf, limits: &[(ArchiveKind, Duration)], now: Timestamp) -> Vec<KindCheck> {
    limits.iter().map(|(kind, limit)| one(shelf, *kind, *limit, now)).collect()
}

fn one(shelf: &Shelf, kind: ArchiveKind, limit: Duration, now: Timestamp) -> KindCheck {
    let skew = i128::try_from(SKEW.as_nanos()).unwrap_or(0);
    let age = |started: Timestamp| now.as_nanosecond() - started.as_nanosecond();
    let verified = shelf.archives.iter().filter(|there| there.kind == Some(kind) && there.worth == Worth::Verified);
    let (mut from_the_future, mut newest) = (Vec::new(), None::<(Timestamp, &PointId)>);
    for there in verified {
        let Some(started) = there.started else { continue };
        if age(started) < -skew {
            from_the_future.push(there.point.clone());
        } else {
            newest = newest.max(Some((started, &there.point)));
        }
    }
    from_the_future.sort();
    // Ids begin with their time, and a point that cannot be read has no other.
    let newer = |there: &&OnShelf| newest.is_none_or(|(_, point)| there.point > *point);
    let mut wrong = Vec::new();
    match newest {
        None => wrong.push(Wrong::Missing),
        Some((started, _)) if age(started) > i128::try_from(limit.as_nanos()).unwrap_or(i128::MAX) => {
            wrong.push(Wrong::TooOld);
        }
        Some(_) => {}
    }
    let mut suspect = Vec::new();
    for there in shelf.archives.iter().filter(|there| there.kind.is_none_or(|seen| seen == kind)).filter(newer) {
        match &there.worth {
            Worth::Damaged(what) => wrong.push(Wrong::Damaged { point: there.point.clone(), what: what.clone() }),
            Worth::Suspect => suspect.push(there.point.clone()),
            Worth::Verified => {}
        }
    }
    let newest = newest.map(|(started, point)| Newest {
        point: point.clone(),
        started,
        age_seconds: u64::try_from(age(started) / 1_000_000_000).unwrap_or(0),
    });
    KindCheck { kind, limit_seconds: limit.as_secs(), newest, wrong, from_the_future, suspect }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Hours before now, kind, worth (v, s, d): `-3gv`; `?` is a point that cannot be read.
    fn shelf(words: &[&str], now: Timestamp) -> Shelf {
        let archives = words.iter().enumerate().map(|(at, word)| {
            let (hours, rest) =
                word.split_at(word.find(|c: char| !(c.is_ascii_digit() || c == '-' || c == '+')).unwrap());
            let started = now + jiff::SignedDuration::from_hours(hours.parse().unwrap());
            let point = format!("{}-{at:04x}", started.strftime("%Y%m%dT%H%M%SZ")).parse().unwrap();
            let kind = match rest.as_bytes()[0] {
                b'g' => Some(ArchiveKind::Gravity),
                b'a' => Some(ArchiveKind::Amv),
                b'n' => Some(ArchiveKind::Nfs),
                _ => None,
            };
            let worth = match rest.as_bytes()[1] {
                b'v' => Worth::Verified,
                b's' => Worth::Suspect,
                _ => Worth::Damaged("cut".to_owned()),
            };
            OnShelf { point, kind, started: kind.map(|_| started), worth }
        });
        Shelf { archives: archives.collect(), left_over: Vec::new() }
    }

    #[test]
    fn each_kind_is_judged_by_its_own_age() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let hour = |n: u64| Duration::from_secs(n * 3600);
        let limits = [(ArchiveKind::Gravity, hour(26)), (ArchiveKind::Amv, hour(192))];
        // The shelf; the age in hours of the newest verified Gravity and AMV archive, -1 for none; what is wrong with each.
        let table: &[(&[&str], i64, &str, i64, &str)] = &[
            (&[], -1, "missing", -1, "missing"),
            (&["-3gv", "-3av"], 3, "", 3, ""),
            (&["-26gv", "-192av"], 26, "", 192, ""),
            (&["-27gv", "-193av"], 27, "old", 193, "old"),
            // A partly good night: Gravity is fresh, AMV is last week's.
            (&["-3gv", "-170av", "-170gv"], 3, "", 170, ""),
            (&["-3gv", "-200av"], 3, "", 200, "old"),
            // Suspect and damaged ones do not count.
            (&["-3gs", "-27gv", "-3av"], 27, "old", 3, ""),
            (&["-3gd", "-20gv", "-3av"], 20, "damaged", 3, ""),
            (&["-3gd", "-3av"], -1, "missing damaged", 3, ""),
            (&["-3gs", "-3as"], -1, "missing", -1, "missing"),
            // What is damaged and older than the newest good one is no alarm.
            (&["-3gv", "-20gd", "-3av"], 3, "", 3, ""),
            // A folder that cannot be read may have held either.
            (&["-3gv", "-3av", "-1?d"], 3, "damaged", 3, "damaged"),
            (&["-3gv", "-3av", "-9?d"], 3, "", 3, ""),
            // From the future: passed over, whatever it says.
            (&["+3gv", "-3av"], -1, "missing", 3, ""),
            (&["+3gv", "-20gv", "-3av"], 20, "", 3, ""),
            (&["+3gv", "-30gv", "+9000av"], 30, "old", -1, "missing"),
            // The order on the shelf does not matter, and another kind is none of these.
            (&["-3av", "-30gv", "-3gv", "-1nv", "-1nd"], 3, "", 3, ""),
        ];
        for (words, gravity_age, gravity, amv_age, amv) in table {
            let seen = check(&shelf(words, now), &limits, now);
            for (seen, age, wrong) in [(&seen[0], gravity_age, gravity), (&seen[1], amv_age, amv)] {
                let said: Vec<&str> = seen
                    .wrong
                    .iter()
                    .map(|wrong| match wrong {
                        Wrong::Missing => "missing",
                        Wrong::TooOld => "old",
                        Wrong::Damaged { .. } => "damaged",
                    })
                    .collect();
                assert_eq!(said.join(" "), **wrong, "{words:?} {}", seen.kind);
                assert_eq!(seen.good(), wrong.is_empty());
                let hours = seen.newest.as_ref().map_or(-1, |newest| i64::try_from(newest.age_seconds / 3600).unwrap());
                assert_eq!(hours, *age, "{words:?} {}", seen.kind);
            }
            let future = words.iter().filter(|word| word.starts_with('+')).count();
            assert_eq!(seen.iter().map(|seen| seen.from_the_future.len()).sum::<usize>(), future, "{words:?}");
        }
    }

    #[test]
    fn a_second_over_is_over_and_clocks_may_differ_a_little() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let limits = [(ArchiveKind::Gravity, Duration::from_secs(3600))];
        for (seconds, good) in [(-3600, true), (-3601, false), (0, true), (300, true), (301, false)] {
            let started = now + jiff::SignedDuration::from_secs(seconds);
            let there = OnShelf {
                point: "20261124T070000Z-0000".parse().unwrap(),
                kind: Some(ArchiveKind::Gravity),
                started: Some(started),
                worth: Worth::Verified,
            };
            let shelf = Shelf { archives: vec![there], left_over: Vec::new() };
            let seen = check(&shelf, &limits, now);
            assert_eq!(seen[0].good(), good, "{seconds}");
        }
    }
}
