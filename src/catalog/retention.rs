//! What stays and what goes: retention.
//!
//! What lives here: one pure function ([`decide`]) from the points of one cluster, the rules and the
//! clock to a fate for each point, with the reasons. What does not: carrying it out (`shelf`), and
//! where the rules are written (settings).
//!
//! Nothing goes that is the newest verified point of its cluster, the newest verified one of a PCE
//! version (until that version is dropped by name), the newest with a verified archive of a kind, or
//! held. This is asked again before the trash is emptied: what was newest then may be damaged now.
//! Only verified points are counted by the rules; a suspect or damaged one stays while nothing newer
//! is verified, and goes by no rule before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::ISOWeekDate;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::check::{SKEW, Worth, worth};
use super::manifest::{ArchiveKind, Verdict};
use super::{Entry, Point};
use crate::name::PointId;
use crate::settings::Keep;

/// How long a point lies in the trash before it can be emptied, where nothing else is said.
pub const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a point without a PCE version is called in [`Rules::dropped`].
pub const NO_VERSION: &str = "unknown";

/// A point, as far as retention looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub id: PointId,
    /// When its backup was started.
    pub at: Timestamp,
    /// The verdict of today; *damaged* when a file is not there at its size.
    pub verdict: Verdict,
    /// The kinds of which it holds a verified archive.
    pub kinds: Vec<ArchiveKind>,
    /// The PCE version.
    pub version: Option<String>,
    /// Whether it is held.
    pub held: bool,
    /// Until when it lies in the trash, for one that does.
    pub trash: Option<Timestamp>,
    /// The PCE version that was dropped by name when it was put there.
    pub dropped: Option<String>,
}

/// The rules in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// How many of each are kept; without any, all are.
    pub keep: Keep,
    /// PCE versions whose newest point is no longer protected for being that.
    pub dropped: BTreeSet<String>,
}

/// What becomes of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It stays.
    Stays,
    /// It goes to the trash.
    Goes,
    /// It lies in the trash, and its time there is not over, or it must not be deleted.
    InTrash,
    /// It lies in the trash and is deleted now.
    Emptied,
}

/// The fate of one point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The point.
    pub id: PointId,
    /// What becomes of it.
    pub fate: Fate,
    /// Why, each a few words.
    pub why: Vec<String>,
    /// True when it must not be deleted by anything.
    pub protected: bool,
}

/// Whether any rule is set.
pub fn any_rule(keep: &Keep) -> bool {
    *keep != Keep { grace: keep.grace, ..Keep::default() }
}

/// The points of one cluster's entries, as retention looks at them. What is no sealed point is no item.
pub fn items(entries: &[Entry], now: Timestamp) -> Vec<Item> {
    entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Sealed(point) => Some(item(point, now)),
            _ => None,
        })
        .collect()
}

/// One point, as retention looks at it.
pub fn item(point: &Point, now: Timestamp) -> Item {
    let archives: Vec<(ArchiveKind, Worth)> =
        point.manifest.archives.iter().map(|archive| (archive.kind, worth(point, archive))).collect();
    let mut verdict = point.verdict();
    if archives.iter().any(|(_, worth)| matches!(worth, Worth::Damaged(_))) {
        verdict = Verdict::Damaged;
    }
    Item {
        id: point.id().clone(),
        at: point.manifest.started,
        verdict,
        kinds: archives.iter().filter(|(_, worth)| *worth == Worth::Verified).map(|(kind, _)| *kind).collect(),
        version: point.manifest.pce_version.clone(),
        held: point.held(now),
        trash: point.in_trash(),
        dropped: point.dropped().map(str::to_owned),
    }
}

/// Why each point must not be deleted by anything, by its id; one that is not in the map may be.
pub fn protected(items: &[Item], dropped: &BTreeSet<String>, now: Timestamp) -> BTreeMap<PointId, Vec<String>> {
    let mut why: BTreeMap<PointId, Vec<String>> = BTreeMap::new();
    let mut protect = |item: &Item, reason: String| why.entry(item.id.clone()).or_default().push(reason);
    for item in items {
        if item.held {
            protect(item, "held".to_owned());
        }
        if future(item, now) {
            protect(item, "from the future: one of the clocks is wrong".to_owned());
        }
    }
    let past = || items.iter().filter(|item| !future(item, now));
    let versions: BTreeSet<&Option<String>> = items.iter().map(|item| &item.version).collect();
    // Of those that live, and of all: where what lived is damaged, the trash holds the newest.
    for trash_too in [false, true] {
        let newest = |of: &dyn Fn(&Item) -> bool| {
            let these = past().filter(|item| (trash_too || item.trash.is_none()) && of(item));
            let newest = these.max_by_key(|item| (item.at, item.id.clone()));
            newest.filter(|item| !trash_too || item.trash.is_some())
        };
        if let Some(item) = newest(&|item| item.verdict == Verdict::Verified) {
            protect(item, "the newest verified point of the cluster".to_owned());
        }
        for kind in [ArchiveKind::Gravity, ArchiveKind::Amv, ArchiveKind::Nfs] {
            if let Some(item) = newest(&|item| item.kinds.contains(&kind)) {
                protect(item, format!("the newest with a verified {kind} archive"));
            }
        }
        for version in &versions {
            let name = version.as_deref().unwrap_or(NO_VERSION);
            // What was dropped stays dropped while nothing new of that version was made.
            let newer_lives = |than: &Item| {
                items.iter().any(|item| item.version == **version && item.trash.is_none() && item.at > than.at)
            };
            let was_dropped = items.iter().any(|item| item.dropped.as_deref() == Some(name) && !newer_lives(item));
            if !dropped.contains(name)
                && !was_dropped
                && let Some(item) = newest(&|item| item.verdict == Verdict::Verified && item.version == **version)
            {
                protect(item, format!("the newest verified of PCE {name}"));
            }
        }
    }
    why
}

fn future(item: &Item, now: Timestamp) -> bool {
    item.at.as_nanosecond() - now.as_nanosecond() > i128::try_from(SKEW.as_nanos()).unwrap_or(0)
}

/// The fate of each point of one cluster, newest first.
pub fn decide(items: &[Item], rules: &Rules, now: Timestamp) -> Vec<Decision> {
    let mut sorted: Vec<&Item> = items.iter().collect();
    sorted.sort_by_key(|item| (item.at, item.id.clone()));
    sorted.reverse();
    let mut why = protected(items, &rules.dropped, now);
    let protected: BTreeSet<PointId> = why.keys().cloned().collect();
    let counted: Vec<&Item> = sorted
        .iter()
        .copied()
        .filter(|item| item.trash.is_none() && item.verdict == Verdict::Verified && !future(item, now))
        .collect();
    for (id, reason) in by_rules(&counted, &rules.keep, now) {
        why.entry(id).or_default().push(reason);
    }
    let newest_verified = counted.first().map(|item| (item.at, item.id.clone()));
    let mut all = Vec::new();
    for item in sorted {
        let mut reasons = why.remove(&item.id).unwrap_or_default();
        if item.trash.is_none() && reasons.is_empty() {
            if !any_rule(&rules.keep) {
                reasons.push("no keep rule is set".to_owned());
            } else if item.verdict != Verdict::Verified {
                if newest_verified.as_ref().is_none_or(|newest| (item.at, item.id.clone()) > *newest) {
                    reasons.push(format!("{}, and nothing newer is verified", item.verdict));
                } else if within(item, &rules.keep, now) {
                    reasons.push("within".to_owned());
                }
            }
        }
        let shielded = protected.contains(&item.id);
        let (fate, reasons) = match item.trash {
            None if reasons.is_empty() => {
                let text = match item.verdict {
                    Verdict::Verified => "no rule keeps it".to_owned(),
                    verdict => format!("{verdict}, and a newer one is verified"),
                };
                (Fate::Goes, vec![text])
            }
            None => (Fate::Stays, reasons),
            Some(_) if shielded => (Fate::InTrash, reasons),
            Some(until) if until > now => {
                (Fate::InTrash, vec![format!("in the trash until {}", until.strftime("%Y-%m-%d %H:%M UTC"))])
            }
            Some(_) => (Fate::Emptied, vec!["its time in the trash is over".to_owned()]),
        };
        all.push(Decision { id: item.id.clone(), fate, why: reasons, protected: shielded });
    }
    all
}

fn within(item: &Item, keep: &Keep, now: Timestamp) -> bool {
    let age = now.as_nanosecond() - item.at.as_nanosecond();
    keep.within.is_some_and(|within| age <= i128::try_from(within.as_nanos()).unwrap_or(i128::MAX))
}

/// What the rules keep of `counted`, newest first.
fn by_rules(counted: &[&Item], keep: &Keep, now: Timestamp) -> Vec<(PointId, String)> {
    let mut kept = Vec::new();
    for (number, item) in counted.iter().enumerate() {
        if keep.last.is_some_and(|last| number < last as usize) {
            kept.push((item.id.clone(), "last".to_owned()));
        }
        if within(item, keep, now) {
            kept.push((item.id.clone(), "within".to_owned()));
        }
    }
    type Bucket = fn(Timestamp) -> (i16, i16);
    let buckets: [(&str, Option<u32>, Bucket); 4] = [
        ("daily", keep.daily, |at| {
            let date = at.to_zoned(TimeZone::UTC).date();
            (date.year(), date.day_of_year())
        }),
        ("weekly", keep.weekly, |at| {
            let week: ISOWeekDate = at.to_zoned(TimeZone::UTC).date().iso_week_date();
            (week.year(), i16::from(week.week()))
        }),
        ("monthly", keep.monthly, |at| {
            let date = at.to_zoned(TimeZone::UTC).date();
            (date.year(), i16::from(date.month()))
        }),
        ("yearly", keep.yearly, |at| (at.to_zoned(TimeZone::UTC).date().year(), 0)),
    ];
    for (word, most, bucket) in buckets {
        let mut seen: Vec<(i16, i16)> = Vec::new();
        for item in counted {
            let this = bucket(item.at);
            if seen.last() == Some(&this) {
                continue;
            }
            if most.is_none_or(|most| seen.len() >= most as usize) {
                break;
            }
            seen.push(this);
            kept.push((item.id.clone(), word.to_owned()));
        }
    }
    kept
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-11-26T04:00:00Z".parse().unwrap()
    }

    fn item_at(hours: i64, verdict: Verdict, version: &str) -> Item {
        let at = now() - SignedDuration::from_hours(hours);
        Item {
            id: format!("{}-{:04x}", at.strftime("%Y%m%dT%H%M%SZ"), hours.rem_euclid(0xffff)).parse().unwrap(),
            at,
            verdict,
            kinds: if verdict == Verdict::Verified { vec![ArchiveKind::Gravity] } else { Vec::new() },
            version: (!version.is_empty()).then(|| version.to_owned()),
            held: false,
            trash: None,
            dropped: None,
        }
    }

    fn fates(items: &[Item], rules: &Rules) -> Vec<(i64, Fate, String)> {
        decide(items, rules, now())
            .into_iter()
            .map(|decision| {
                let item = items.iter().find(|item| item.id == decision.id).unwrap();
                ((now().as_second() - item.at.as_second()) / 3600, decision.fate, decision.why.join(", "))
            })
            .collect()
    }

    fn staying(items: &[Item], keep: Keep) -> Vec<i64> {
        let rules = Rules { keep, ..Rules::default() };
        fates(items, &rules)
            .into_iter()
            .filter(|(_, fate, _)| *fate == Fate::Stays)
            .map(|(hours, _, _)| hours)
            .collect()
    }

    #[test]
    fn the_usual_rules() {
        let nightly: Vec<Item> = (0..800).map(|day| item_at(day * 24 + 1, Verdict::Verified, "3.2.0")).collect();
        let days = |keep| staying(&nightly, keep).into_iter().map(|hours| hours / 24).collect::<Vec<_>>();
        assert_eq!(days(Keep { last: Some(3), ..Keep::default() }), [0, 1, 2]);
        assert_eq!(days(Keep { daily: Some(2), ..Keep::default() }), [0, 1]);
        // 2026-11-26 is a Thursday: the Sundays before are 4, 11 and 18 days back.
        assert_eq!(days(Keep { weekly: Some(4), ..Keep::default() }), [0, 4, 11, 18]);
        // The last days of October and September.
        assert_eq!(days(Keep { monthly: Some(3), ..Keep::default() }), [0, 26, 57]);
        assert_eq!(days(Keep { yearly: Some(9), ..Keep::default() }), [0, 330, 695]);
        assert_eq!(days(Keep { within: Some(Duration::from_secs(49 * 3600)), ..Keep::default() }), [0, 1, 2]);
        assert_eq!(days(Keep::default()).len(), 800, "without a rule nothing goes");
        assert_eq!(days(Keep { last: Some(0), ..Keep::default() }), [0], "the newest verified never goes");
        // Several in a day: the newest stands for it.
        let twice =
            [item_at(1, Verdict::Verified, ""), item_at(2, Verdict::Verified, ""), item_at(30, Verdict::Verified, "")];
        assert_eq!(staying(&twice, Keep { daily: Some(5), ..Keep::default() }), [1, 30]);
    }

    #[test]
    fn what_never_goes() {
        let keep = Keep { last: Some(1), ..Keep::default() };
        let mut items = vec![
            item_at(1, Verdict::Suspect, "3.2.1"),
            item_at(20, Verdict::Verified, "3.2.1"),
            item_at(40, Verdict::Verified, "3.2.0"),
            item_at(60, Verdict::Verified, "3.2.0"),
            item_at(80, Verdict::Verified, "3.1.0"),
            item_at(90, Verdict::Damaged, "3.2.1"),
            item_at(100, Verdict::Verified, "3.2.0"),
        ];
        items[6].held = true;
        items[3].kinds.push(ArchiveKind::Amv);
        assert_eq!(staying(&items, keep.clone()), [1, 20, 40, 60, 80, 100]);
        let rules = Rules { keep: keep.clone(), dropped: ["3.1.0".to_owned()].into() };
        let fates = fates(&items, &rules);
        assert_eq!(fates.iter().find(|fate| fate.0 == 80).unwrap().1, Fate::Goes);
        assert_eq!(fates.iter().find(|fate| fate.0 == 90).unwrap().2, "damaged, and a newer one is verified");
        // The newest of all stays although its version is dropped.
        let rules = Rules { keep, dropped: ["3.2.1".to_owned()].into() };
        assert_eq!(decide(&items, &rules, now())[1].fate, Fate::Stays);
    }

    #[test]
    fn the_trash_is_emptied_when_its_time_is_over_and_nothing_forbids_it() {
        let rules = Rules { keep: Keep { last: Some(1), ..Keep::default() }, ..Rules::default() };
        let mut items = vec![
            item_at(1, Verdict::Verified, ""),
            item_at(30, Verdict::Verified, ""),
            item_at(60, Verdict::Verified, ""),
        ];
        items[1].trash = Some(now() + SignedDuration::from_hours(1));
        items[2].trash = Some(now() - SignedDuration::from_hours(1));
        let seen: Vec<Fate> = decide(&items, &rules, now()).iter().map(|decision| decision.fate).collect();
        assert_eq!(seen, [Fate::Stays, Fate::InTrash, Fate::Emptied]);
        // The one that stayed turned out to be damaged: now the trash holds the newest verified point.
        items[0].verdict = Verdict::Damaged;
        items[0].kinds.clear();
        items[1].trash = Some(now() - SignedDuration::from_hours(1));
        let seen: Vec<Fate> = decide(&items, &rules, now()).iter().map(|decision| decision.fate).collect();
        assert_eq!(seen, [Fate::Stays, Fate::InTrash, Fate::Emptied]);
        // A clock that is wrong shields nothing of the others and loses nothing.
        items.push(item_at(-100, Verdict::Verified, ""));
        assert_eq!(decide(&items, &rules, now())[0].fate, Fate::Stays);
        assert_eq!(decide(&items, &rules, now())[2].fate, Fate::InTrash);
    }

    fn any_item() -> impl Strategy<Value = Item> {
        let verdict =
            prop_oneof![3 => Just(Verdict::Verified), 1 => Just(Verdict::Suspect), 1 => Just(Verdict::Damaged)];
        let hours = prop_oneof![-30i64..200, 0i64..20_000];
        let trash = prop_oneof![3 => Just(None), 1 => (-300i64..300).prop_map(Some)];
        (hours, verdict, 0usize..4, any::<u8>(), prop::bool::weighted(0.1), trash, any::<bool>()).prop_map(
            |(hours, verdict, version, tail, held, trash, amv)| {
                let mut item = item_at(hours, verdict, ["", "3.1.0", "3.2.0", "3.2.1"][version]);
                item.id = format!("{}-{tail:04x}", item.at.strftime("%Y%m%dT%H%M%SZ")).parse().unwrap();
                item.held = held;
                item.trash = trash.map(|hours| now() + SignedDuration::from_hours(hours));
                if amv {
                    item.kinds.push(ArchiveKind::Amv);
                }
                item
            },
        )
    }

    fn any_keep() -> impl Strategy<Value = Keep> {
        let number = || prop_oneof![Just(None), (0u32..6).prop_map(Some)];
        let within =
            prop_oneof![2 => Just(None), 1 => (0u64..400).prop_map(|hours| Some(Duration::from_secs(hours * 3600)))];
        (number(), number(), number(), number(), number(), within).prop_map(
            |(last, daily, weekly, monthly, yearly, within)| Keep {
                last,
                daily,
                weekly,
                monthly,
                yearly,
                within,
                grace: None,
            },
        )
    }

    /// How many histories: the hundred thousand in the long run.
    fn cases() -> ProptestConfig {
        ProptestConfig::with_cases(if std::env::var_os("FERRY_LONG").is_some() { 100_000 } else { 3_000 })
    }

    proptest! {
        #![proptest_config(cases())]
        #[test]
        fn the_invariants_hold_in_any_history(
            items in prop::collection::vec(any_item(), 0..40),
            keep in any_keep(),
            dropped in prop::sample::subsequence(vec!["3.1.0", "3.2.0", "3.2.1", NO_VERSION], 0..4),
            more in 1u32..4,
        ) {
            let mut items = items;
            items.sort_by(|a, b| a.id.cmp(&b.id));
            items.dedup_by(|a, b| a.id == b.id);
            let dropped: BTreeSet<String> = dropped.into_iter().map(str::to_owned).collect();
            let rules = Rules { keep: keep.clone(), dropped: dropped.clone() };
            let decisions = decide(&items, &rules, now());
            prop_assert_eq!(decisions.len(), items.len());
            let fate = |item: &Item| decisions.iter().find(|decision| decision.id == item.id).unwrap().fate;
            let lives = |item: &Item| matches!(fate(item), Fate::Stays | Fate::InTrash);
            let real = |item: &&Item| item.at <= now() + SignedDuration::from_secs(300);
            // Said in other words than the function's own: no verified point goes while none that is as new lives.
            let newer_lives = |lost: &Item, same: &dyn Fn(&Item) -> bool| {
                items.iter().filter(real).any(|other| same(other) && lives(other) && (other.at, &other.id) > (lost.at, &lost.id))
            };
            for item in &items {
                let gone = !lives(item);
                // Trash first: nothing is deleted that did not lie there until its time was over.
                prop_assert!(fate(item) != Fate::Emptied || item.trash.is_some_and(|until| until <= now()));
                prop_assert_eq!(item.trash.is_some(), matches!(fate(item), Fate::InTrash | Fate::Emptied));
                prop_assert!(!(gone && item.held), "a held one goes");
                if gone && item.verdict == Verdict::Verified {
                    prop_assert!(newer_lives(item, &|other| other.verdict == Verdict::Verified));
                    if !dropped.contains(item.version.as_deref().unwrap_or(NO_VERSION)) {
                        prop_assert!(newer_lives(item, &|other| other.verdict == Verdict::Verified && other.version == item.version));
                    }
                }
                for kind in &item.kinds {
                    prop_assert!(!gone || newer_lives(item, &|other| other.kinds.contains(kind)), "the last archive of a kind goes");
                }
                if gone && item.trash.is_none() && item.verdict != Verdict::Verified {
                    prop_assert!(items.iter().any(|other| other.verdict == Verdict::Verified && other.trash.is_none() && other.at >= item.at));
                }
            }
            let live = items.iter().filter(|item| item.trash.is_none() && real(item) && item.verdict == Verdict::Verified);
            let stay = live.clone().filter(|item| fate(item) == Fate::Stays).count();
            prop_assert!(stay >= live.clone().count().min(keep.last.unwrap_or(0) as usize));
            if !any_rule(&keep) {
                prop_assert!(decisions.iter().all(|decision| decision.fate != Fate::Goes));
            }
            // The order on the shelf does not matter, and a rule that keeps more loses nothing that was kept.
            let mut shuffled = items.clone();
            shuffled.reverse();
            prop_assert_eq!(&decide(&shuffled, &rules, now()), &decisions);
            if any_rule(&keep) {
                let wider = Keep {
                    last: keep.last.map(|n| n + more), daily: keep.daily.map(|n| n + more), weekly: keep.weekly.map(|n| n + more),
                    monthly: keep.monthly.map(|n| n + more), yearly: keep.yearly.map(|n| n + more), ..keep
                };
                let wider = decide(&items, &Rules { keep: wider, dropped }, now());
                for (before, after) in decisions.iter().zip(&wider) {
                    prop_assert!(before.fate != Fate::Stays || after.fate == Fate::Stays);
                }
            }
            // What was decided is stable: carried out, it is decided again the same way.
            let after: Vec<Item> = items.iter().filter(|item| fate(item) != Fate::Emptied).map(|item| {
                let mut item = item.clone();
                if fate(&item) == Fate::Goes { item.trash = Some(now() + SignedDuration::from_hours(1)); }
                item
            }).collect();
            for decision in decide(&after, &rules, now()) {
                prop_assert!(!matches!(decision.fate, Fate::Goes | Fate::Emptied), "{:?}", decision);
            }
        }
    }
}
