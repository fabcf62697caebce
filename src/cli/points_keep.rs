//! `ferry points accept`, `hold`, `prune`, `delete`, `break-lock`: what is said of a point, and what goes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;

use super::points::{cluster_name, put_json, time};
use super::points_args::{KeepArgs, Where};
use super::points_place::{Use, open_first};
use super::{open, prompt};
use crate::catalog::place::Place;
use crate::catalog::retention::{self, Fate, Rules};
use crate::catalog::shelf::Pruned;
use crate::catalog::{Entry, Point, Remark, overview, shelf};
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, PointId};
use crate::report::tables::Table;
use crate::settings::Keep;

/// Says what was done: a line, or the point's notes as JSON.
fn told(point: &Point, line: &str, as_json: bool) -> Result<u8, Failure> {
    if as_json {
        let notes = point.notes.known.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
        let notes = notes.map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
        put_json(
            &json!({"cluster": point.cluster, "point": point.id(), "verdict": point.verdict(), "held": point.held(Timestamp::now()), "trash_until": point.in_trash(), "notes": notes}),
        );
    } else {
        crate::report::say(&format!("{}/{} {line}\n", point.cluster, point.id()));
    }
    Ok(0)
}

pub(super) async fn accept(text: &str, reason: &str, place: &Where) -> Result<u8, Failure> {
    let (at, _) = open_first(place, Use::Write)?;
    let mut point = shelf::find(&at, text).await?;
    shelf::accept(&at, &mut point, &open::who(), reason).await?;
    told(&point, "is accepted: it counts as verified from now on", place.json)
}

pub(super) async fn hold(text: &str, how_long: &str, place: &Where) -> Result<u8, Failure> {
    let now = Timestamp::now();
    let (remark, line) = match how_long {
        "forever" => (Remark::Held { until: None }, "is held until it is released".to_owned()),
        "release" => (Remark::Released, "is no longer held".to_owned()),
        text => {
            let until =
                shelf::after(now, time("hold", text).map_err(|failure| failure.mend("30d, forever, or release"))?);
            (Remark::Held { until: Some(until) }, format!("is held until {}", until.strftime("%Y-%m-%d %H:%M UTC")))
        }
    };
    let (at, _) = open_first(place, Use::Write)?;
    let mut point = shelf::find(&at, text).await?;
    let who = open::who();
    if remark == Remark::Released && !point.held(now) {
        return Err(Failure::new(Kind::Refused, format!("{}/{} is not held", point.cluster, point.id())));
    }
    // What is held is wanted: it does not lie in the trash.
    if remark != Remark::Released && point.in_trash().is_some() {
        shelf::note(&at, &mut point, &who, Remark::Recovered).await?;
    }
    shelf::note(&at, &mut point, &who, remark).await?;
    told(&point, &line, place.json)
}

/// The rules of the settings, with those that were typed instead.
fn rules(settings: Keep, typed: &KeepArgs, dropped: Vec<String>) -> Result<Rules, Failure> {
    let within = typed.keep_within.as_deref().map(|text| time("--keep-within", text)).transpose()?;
    let grace = typed.grace.as_deref().map(|text| time("--grace", text)).transpose()?;
    let keep = Keep {
        last: typed.keep_last.or(settings.last),
        daily: typed.keep_daily.or(settings.daily),
        weekly: typed.keep_weekly.or(settings.weekly),
        monthly: typed.keep_monthly.or(settings.monthly),
        yearly: typed.keep_yearly.or(settings.yearly),
        within: within.or(settings.within),
        grace: grace.or(settings.grace),
    };
    Ok(Rules { keep, dropped: dropped.into_iter().collect() })
}

pub(super) async fn prune(
    cluster: Option<&str>,
    check: bool,
    dropped: Vec<String>,
    keep: &KeepArgs,
    place: &Where,
) -> Result<u8, Failure> {
    let cluster = cluster.map(cluster_name).transpose()?;
    let (at, settings) = open_first(place, if check { Use::Read } else { Use::Write })?;
    let rules = rules(settings.keep, keep, dropped)?;
    if !retention::any_rule(&rules.keep) {
        return Err(Failure::new(Kind::CouldNotStart, "no keep rule is set: nothing goes")
            .why("without a rule every point is kept")
            .mend("[keep] in ferry.toml, such as daily = 7, or --keep-daily 7"));
    }
    let entries = shelf::entries(&at, cluster.as_ref()).await?;
    let mut by_cluster: BTreeMap<ClusterName, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        by_cluster.entry(entry.cluster().clone()).or_default().push(entry);
    }
    let now = Timestamp::now();
    let known: BTreeSet<String> = by_cluster
        .values()
        .flat_map(|entries| retention::items(entries, now))
        .map(|item| item.version.unwrap_or_else(|| retention::NO_VERSION.to_owned()))
        .collect();
    if let Some(unknown) = rules.dropped.iter().find(|version| !known.contains(*version)) {
        let near = crate::name::nearest(unknown, known.iter().map(String::as_str), 3).join(" or ");
        return Err(Failure::new(
            Kind::CouldNotStart,
            format!("--drop-version {unknown}: no point is of that version"),
        )
        .mend(if near.is_empty() {
            format!("there are: {}", known.into_iter().collect::<Vec<_>>().join(", "))
        } else {
            format!("did you mean {near}?")
        }));
    }
    let who = open::who();
    let mut all = Vec::new();
    for (cluster, entries) in by_cluster {
        all.push(if check {
            let decisions = retention::decide(&retention::items(&entries, now), &rules, now);
            Pruned { cluster, decisions, trashed: Vec::new(), emptied: Vec::new() }
        } else {
            shelf::prune(&at, cluster, &entries, &rules, now, &who).await?
        });
    }
    if place.json {
        put_json(&all);
        return Ok(0);
    }
    print(&all, check);
    Ok(0)
}

fn print(all: &[Pruned], check: bool) {
    let mut table = Table::new(["cluster", "point", "", "why"]);
    let (mut went, mut emptied) = (0, 0);
    for one in all {
        for decision in &one.decisions {
            let word = match (decision.fate, check) {
                (Fate::Stays, _) => "stays",
                (Fate::Goes, true) => "would go to the trash",
                (Fate::Goes, false) => "went to the trash",
                (Fate::InTrash, _) => "in the trash",
                (Fate::Emptied, true) => "would be deleted",
                (Fate::Emptied, false) => "deleted",
            };
            table.row([one.cluster.to_string(), decision.id.to_string(), word.to_owned(), decision.why.join(", ")]);
        }
        went += one.decisions.iter().filter(|decision| decision.fate == Fate::Goes).count();
        emptied += if check {
            one.decisions.iter().filter(|decision| decision.fate == Fate::Emptied).count()
        } else {
            one.emptied.len()
        };
    }
    if table.is_empty() {
        crate::report::say("there is no point\n");
        return;
    }
    table.print();
    let (goes, deleted) =
        if check { ("would go to the trash", "would be deleted") } else { ("went to the trash", "deleted") };
    crate::report::say(&format!("\n{went} {goes}, {emptied} {deleted}\n"));
}

/// The entries of a point's cluster.
async fn siblings(at: &Place, point: &Point) -> Result<Vec<Entry>, Failure> {
    shelf::entries(at, Some(&point.cluster)).await
}

pub(super) async fn delete(
    text: &str,
    confirm: Option<&str>,
    at_once: bool,
    dropped: Vec<String>,
    place: &Where,
) -> Result<u8, Failure> {
    let (at, settings) = open_first(place, Use::Write)?;
    let mut point = shelf::find(&at, text).await?;
    let (now, who) = (Timestamp::now(), open::who());
    let dropped: BTreeSet<String> = dropped.into_iter().collect();
    shelf::may_go(&point, &siblings(&at, &point).await?, &dropped, now)?;
    confirmed(&point, confirm, at_once)?;
    let until = if at_once { now } else { shelf::after(now, overview::grace(&settings.keep)) };
    if point.in_trash().is_none() || at_once {
        let version = point.manifest.pce_version.clone().unwrap_or_else(|| retention::NO_VERSION.to_owned());
        let dropped = dropped.contains(&version).then_some(version);
        shelf::trash(&at, &mut point, &who, until, "deleted by name", dropped).await?;
    }
    if at_once {
        shelf::empty(&at, &point, &who).await?;
        return told(&point, "is deleted for good", place.json);
    }
    told(
        &point,
        &format!(
            "is in the trash until {}; back again: ferry points delete {} --undo",
            until.strftime("%Y-%m-%d %H:%M UTC"),
            point.id()
        ),
        place.json,
    )
}

/// The point's id, typed or given: nothing else confirms.
fn confirmed(point: &Point, given: Option<&str>, at_once: bool) -> Result<(), Failure> {
    let (id, what) = (point.id().as_str(), if at_once { "deleted for good" } else { "put into the trash" });
    let typed = match given {
        Some(given) => given.to_owned(),
        None if prompt::somebody() => {
            let question = format!("{}/{id} is {what}. Type its id to confirm: ", point.cluster);
            crate::modules::Ask::ask(&prompt::Person, &question).unwrap_or_default()
        }
        None => {
            return Err(Failure::new(
                Kind::Refused,
                format!("{}/{id} is not {what}: that was not confirmed", point.cluster),
            )
            .mend(format!("--confirm {id}")));
        }
    };
    if typed.trim() == id || typed.trim() == format!("{}/{id}", point.cluster) {
        return Ok(());
    }
    Err(Failure::new(Kind::Refused, format!("{}/{id} is not {what}: another name was typed", point.cluster))
        .saw(format!("{:?}", typed.trim()))
        .mend(format!("--confirm {id}")))
}

pub(super) async fn recover(text: &str, place: &Where) -> Result<u8, Failure> {
    let (at, _) = open_first(place, Use::Write)?;
    let mut point = shelf::find(&at, text).await?;
    if point.in_trash().is_none() {
        return Err(Failure::new(Kind::Refused, format!("{}/{} is not in the trash", point.cluster, point.id())));
    }
    shelf::note(&at, &mut point, &open::who(), Remark::Recovered).await?;
    told(&point, "is back from the trash", place.json)
}

pub(super) async fn break_lock(text: &str, place: &Where) -> Result<u8, Failure> {
    let wrong = || {
        Failure::new(Kind::Usage, format!("{text:?} names no point"))
            .why("a lock is broken by name, never by the way")
            .mend("CLUSTER/ID")
    };
    let (cluster, id) = text.split_once('/').ok_or_else(wrong)?;
    let (cluster, id) =
        (cluster_name(cluster)?, id.parse::<PointId>().map_err(|error| wrong().saw(error.to_string()))?);
    let (at, _) = open_first(place, Use::Write)?;
    let note = shelf::break_lock(&at, &cluster, &id).await?;
    if place.json {
        put_json(&json!({"cluster": cluster, "point": id, "broken": true, "lock": note}));
        return Ok(0);
    }
    let held = note
        .map(|note| format!(" (held by {} since {}, for {})", note.who, note.since, note.doing))
        .unwrap_or_default();
    crate::report::say(&format!("the lock of {cluster}/{id} in {} is removed{held}\n", at.name()));
    Ok(0)
}
