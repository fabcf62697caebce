//! What earlier points tell about the next one.
//!
//! What lives here: pure functions from earlier sizes and durations to the expected size, the
//! timeout, and whether a new archive looks like its predecessors. What does not: reading the
//! earlier points (`Catalog::history`).

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::manifest::Verdict;
use crate::name::PointId;

/// How many earlier points count.
pub const COUNT: usize = 5;

/// One earlier archive of the same kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Past {
    /// Its point.
    pub id: PointId,
    /// When its run ended, UTC.
    pub finished: Timestamp,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Sum of its members' sizes in bytes.
    pub content_bytes: u64,
    /// How many members it has.
    pub members: u64,
    /// How long the tool worked on the node, in seconds.
    pub backup_seconds: Option<f64>,
    /// How long all archives of its point took to be brought home, in seconds.
    pub transfer_seconds: Option<f64>,
    /// Size of all archives of its point in bytes.
    pub point_bytes: u64,
    /// The verdict of today, notes included.
    pub verdict: Verdict,
}

/// What the next backup will take, by those before it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// How many earlier points it is made of.
    pub of: usize,
    /// Size of the archive in bytes: the median of the last five.
    pub bytes: u64,
    /// How long the tool works on the node, in seconds: the median of the last five that say so.
    pub backup_seconds: Option<f64>,
    /// How fast archives came home, in bytes a second: the median of the last five that say so.
    pub bytes_per_second: Option<f64>,
}

impl Estimate {
    /// How long the whole will take, in seconds; `None` where the tool's own time is not known.
    pub fn seconds(&self) -> Option<f64> {
        let transfer = self.bytes_per_second.map_or(0.0, |rate| self.bytes as f64 / rate);
        self.backup_seconds.map(|seconds| seconds + transfer)
    }
}

/// What the next backup will take; newest first in `history`. `None` at the first backup.
pub fn estimate(history: &[Past]) -> Option<Estimate> {
    let recent = || history.iter().filter(|past| past.verdict != Verdict::Damaged).take(COUNT);
    let sensible = |value: &f64| value.is_finite() && *value > 0.0;
    let middle = |values: Vec<f64>| {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        values.get(values.len().checked_sub(1)? / 2).copied()
    };
    Some(Estimate {
        of: recent().count(),
        bytes: median(recent().map(|past| past.bytes))?,
        backup_seconds: middle(recent().filter_map(|past| past.backup_seconds).filter(sensible).collect()),
        bytes_per_second: middle(
            recent()
                .filter_map(|past| past.transfer_seconds.map(|seconds| past.point_bytes as f64 / seconds))
                .filter(sensible)
                .collect(),
        ),
    })
}

/// How large the next archive may become, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// The archive itself.
    pub archive_bytes: u64,
    /// What the tool gathers in its staging folder before it packs.
    pub content_bytes: u64,
}

/// 1.3 × the largest of the last five, newest first in `history`; `None` at the first backup.
pub fn expected_bytes(history: &[Past]) -> Option<Expected> {
    let recent = || history.iter().filter(|past| past.verdict != Verdict::Damaged).take(COUNT);
    Some(Expected {
        archive_bytes: with_margin(recent().map(|past| past.bytes).max()?),
        content_bytes: with_margin(recent().map(|past| past.content_bytes).max()?),
    })
}

/// 1.3 × `bytes`, rounded up.
fn with_margin(bytes: u64) -> u64 {
    u64::try_from((u128::from(bytes) * 13).div_ceil(10)).unwrap_or(u64::MAX)
}

const SHORTEST: Duration = Duration::from_secs(20 * 60);
const FIRST: Duration = Duration::from_secs(60 * 60);
/// Nothing runs longer; it also keeps a senseless figure in a manifest from overflowing.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// The timeout for the next backup and why it was chosen: max(20m, 3 × the longest of the last
/// five), newest first in `history`; 60m when no earlier one says how long it took.
pub fn backup_timeout(history: &[Past]) -> (Duration, String) {
    let longest = history
        .iter()
        .filter_map(|past| past.backup_seconds)
        .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
        .take(COUNT)
        .reduce(f64::max);
    let Some(longest) = longest else {
        return (FIRST, "60m, since no earlier backup says how long it takes".to_owned());
    };
    let minutes = longest / 60.0;
    let three = (longest * 3.0).ceil();
    if three <= SHORTEST.as_secs_f64() {
        return (SHORTEST, format!("20m, the shortest we use; the longest of the last {COUNT} took {minutes:.1}m"));
    }
    if three >= LONGEST.as_secs_f64() {
        return (LONGEST, format!("7d, the longest we use; the longest of the last {COUNT} took {minutes:.1}m"));
    }
    (Duration::from_secs_f64(three), format!("3 × {minutes:.1}m, the longest of the last {COUNT}"))
}

/// A verdict on a whole archive, and why: *suspect* when names it must contain are `missing`, or
/// when its size or its number of members is less than half of the median of the last five
/// verified ones (newest first in `history`); else *verified*.
pub fn judge(bytes: u64, members: u64, history: &[Past], missing: &[String]) -> (Verdict, String) {
    let verified: Vec<&Past> = history.iter().filter(|past| past.verdict == Verdict::Verified).take(COUNT).collect();
    let mut why = Vec::new();
    if !missing.is_empty() {
        why.push(format!("it lacks members that it must contain: {}", missing.join(", ")));
    }
    if members == 0 {
        why.push("it has no members".to_owned());
    }
    let sizes = [
        ("bytes", bytes, median(verified.iter().map(|past| past.bytes))),
        ("members", members, median(verified.iter().map(|past| past.members))),
    ];
    for (unit, now, before) in sizes {
        if let Some(before) = before
            && u128::from(now) * 2 < u128::from(before)
        {
            let count = verified.len();
            why.push(format!("{now} {unit} is less than half of {before}, the median of the last {count} verified"));
        }
    }
    if !why.is_empty() {
        return (Verdict::Suspect, why.join("; "));
    }
    match verified.len() {
        0 => (Verdict::Verified, "nothing earlier to compare with".to_owned()),
        count => (Verdict::Verified, format!("like the last {count} verified in size and number of members")),
    }
}

/// The median; of an even number of values the lower of the two in the middle.
fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn past(bytes: u64, members: u64, seconds: Option<f64>, verdict: Verdict) -> Past {
        Past {
            id: "20261122T041500Z-7f3a".parse().unwrap(),
            finished: Timestamp::UNIX_EPOCH,
            bytes,
            content_bytes: bytes.saturating_mul(2),
            members,
            backup_seconds: seconds,
            transfer_seconds: seconds.map(|seconds| seconds / 10.0),
            point_bytes: bytes,
            verdict,
        }
    }

    #[test]
    fn the_first_backup() {
        assert_eq!(expected_bytes(&[]), None);
        assert_eq!(backup_timeout(&[]).0, Duration::from_secs(3600));
        assert_eq!(estimate(&[]), None);
        assert_eq!(judge(1, 1, &[], &[]).0, Verdict::Verified);
        assert_eq!(judge(1, 0, &[], &[]).0, Verdict::Suspect);
    }

    #[test]
    fn figures_that_people_can_check() {
        let history = [10, 12, 8, 9, 11, 1000].map(|gib| past(gib << 30, 100, Some(600.0), Verdict::Verified));
        let expected = expected_bytes(&history).unwrap();
        assert_eq!(expected.archive_bytes, ((12u64 << 30) * 13).div_ceil(10), "the sixth does not count");
        assert_eq!(expected.content_bytes, ((24u64 << 30) * 13).div_ceil(10));
        assert_eq!(backup_timeout(&history).0, Duration::from_secs(1800));
        let seen = estimate(&history).unwrap();
        assert_eq!((seen.of, seen.bytes, seen.backup_seconds), (5, 10 << 30, Some(600.0)));
        // 8 to 12 GiB in a minute each: 10 GiB in one.
        assert!((seen.seconds().unwrap() - 660.0).abs() < 0.001);
        assert_eq!(backup_timeout(&[past(1, 1, Some(60.0), Verdict::Verified)]).0, Duration::from_secs(1200));
        assert_eq!(judge(5 << 30, 50, &history, &[]).0, Verdict::Verified, "exactly half is enough");
        let (verdict, why) = judge((5 << 30) - 1, 100, &history, &[]);
        assert_eq!(verdict, Verdict::Suspect);
        assert!(why.contains("less than half of 10737418240"), "{why}");
        assert_eq!(judge(10 << 30, 49, &history, &[]).0, Verdict::Suspect);
        let (verdict, why) = judge(10 << 30, 100, &history, &["dump.sql".to_owned()]);
        assert_eq!(verdict, Verdict::Suspect);
        assert!(why.contains("dump.sql"), "{why}");
    }

    #[test]
    fn only_verified_ones_are_a_measure() {
        let history = [past(1, 1, None, Verdict::Suspect), past(1000, 10, None, Verdict::Verified)];
        assert_eq!(judge(400, 10, &history, &[]).0, Verdict::Suspect);
        assert_eq!(backup_timeout(&history).0, Duration::from_secs(3600), "no durations known");
        let damaged = [past(9000, 1, None, Verdict::Damaged), past(1000, 1, None, Verdict::Verified)];
        assert_eq!(expected_bytes(&damaged).unwrap().archive_bytes, 1300);
    }

    fn any_past() -> impl Strategy<Value = Past> {
        let verdict = prop_oneof![Just(Verdict::Verified), Just(Verdict::Suspect), Just(Verdict::Damaged)];
        let seconds = prop_oneof![Just(None), any::<f64>().prop_map(Some), (0.0..1e6f64).prop_map(Some)];
        (any::<u64>(), any::<u64>(), seconds, verdict).prop_map(|(b, m, s, v)| past(b, m, s, v))
    }

    proptest! {
        #[test]
        fn any_history_gives_sensible_figures(history in prop::collection::vec(any_past(), 0..12), bytes: u64, members in 1u64..) {
            let (timeout, why) = backup_timeout(&history);
            prop_assert!((SHORTEST..=LONGEST).contains(&timeout) && !why.is_empty());
            let recent: Vec<&Past> = history.iter().filter(|p| p.verdict != Verdict::Damaged).take(COUNT).collect();
            match expected_bytes(&history) {
                None => prop_assert!(recent.is_empty()),
                Some(expected) => for p in &recent {
                    prop_assert!(expected.archive_bytes >= p.bytes && expected.content_bytes >= p.content_bytes);
                },
            }
            if let Some(seen) = estimate(&history) {
                prop_assert!(recent.iter().any(|p| p.bytes == seen.bytes));
                prop_assert!(seen.seconds().is_none_or(|seconds| seconds > 0.0));
            }
            // Larger is never more suspect.
            if judge(bytes, members, &history, &[]).0 == Verdict::Verified {
                prop_assert_eq!(judge(bytes.saturating_add(1), members, &history, &[]).0, Verdict::Verified);
            }
            prop_assert_eq!(judge(bytes, members, &history, &["x".to_owned()]).0, Verdict::Suspect);
        }

        #[test]
        fn as_large_as_all_before_is_never_suspect(bytes in 1u64..1 << 50, count in 0usize..8) {
            let history: Vec<Past> = (0..count).map(|_| past(bytes, 3, Some(1.0), Verdict::Verified)).collect();
            prop_assert_eq!(judge(bytes, 3, &history, &[]).0, Verdict::Verified);
        }
    }
}
