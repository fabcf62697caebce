//! `ferry points`: the catalog.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::points_args::{PointsCommand, Where};
use super::points_place::{Use, open_first};
use super::{open, points_keep, points_move};
use crate::archive::{Limits, Walker};
use crate::catalog::check::{self, KindCheck, Shelf, Wrong};
use crate::catalog::place::Place;
use crate::catalog::{Archive, ArchiveKind, Entry, Inspect, Point, Remark, Summary, Verdict, VerifyReport, shelf};
use crate::failure::{Failure, Kind};
use crate::inventory::Inventory;
use crate::name::ClusterName;
use crate::report::Sink;
use crate::report::figures::{human_bytes, human_duration};
use crate::report::render::{Style, print_failure};
use crate::report::tables::Table;
use crate::secret::clean;
use crate::settings::duration;
use crate::vault::age::Identities;

/// The walk through an archive, as the catalog wants it.
struct Walk {
    walker: Walker,
    fault: Option<String>,
}

impl Inspect for Walk {
    fn feed(&mut self, bytes: &[u8]) {
        if self.fault.is_none()
            && let Err(fault) = self.walker.feed(bytes)
        {
            self.fault = Some(fault.to_string());
        }
    }

    fn finish(self: Box<Self>) -> Result<u64, String> {
        match self.fault {
            Some(fault) => Err(fault),
            None => self.walker.finish().map(|walk| walk.members).map_err(|fault| fault.to_string()),
        }
    }
}

pub(super) fn inspect(_: &Archive) -> Box<dyn Inspect + Send> {
    Box::new(Walk { walker: Walker::new(Limits::default(), Vec::new()), fault: None })
}

pub(super) async fn run(command: PointsCommand) -> Result<u8, Failure> {
    match command {
        PointsCommand::List { cluster, inventory, place } => {
            let (at, settings) = open_first(&place, Use::Read)?;
            let inventory =
                if inventory.is_empty() { settings.inventory } else { inventory.iter().map(Into::into).collect() };
            list(&at, cluster.as_deref(), &inventory, place.json).await
        }
        PointsCommand::Show { point, place } => {
            let (at, _) = open_first(&place, Use::Read)?;
            show(&shelf::find(&at, &point).await?, place.json)
        }
        PointsCommand::Verify { point, metadata, part, open, place } => {
            let part = part.as_deref().map(part_of).transpose()?;
            let (at, mut settings) = open_first(&place, Use::Read)?;
            open.over(&mut settings)?;
            let identities = if metadata { None } else { super::encryption::identities(&settings)? };
            verify(&at, point.as_deref(), metadata, part, identities.as_ref(), place.json).await
        }
        PointsCommand::Report(args) => {
            let given = Where { catalog: args.catalog.clone(), json: false };
            let (at, settings) = open_first(&given, Use::Read)?;
            super::points_report::run(&at, &settings.keep, &args).await
        }
        PointsCommand::Check { cluster, max_age, min_replicas, drilled_within, place } => {
            let drilled_within = drilled_within.as_deref().map(|text| time("--drilled-within", text)).transpose()?;
            let wanted = Wanted { limits: limits(&max_age)?, min_replicas, drilled_within };
            let (at, _) = open_first(&place, Use::Read)?;
            check(&at, &cluster, &wanted, place.json).await
        }
        PointsCommand::Accept { point, reason, place } => points_keep::accept(&point, &reason, &place).await,
        PointsCommand::Hold { point, time, place } => points_keep::hold(&point, &time, &place).await,
        PointsCommand::Prune { cluster, check, drop_version, keep, place } => {
            points_keep::prune(cluster.as_deref(), check, drop_version, &keep, &place).await
        }
        PointsCommand::Delete { point, confirm, undo: true, now: _, drop_version: _, place } => {
            debug_assert!(confirm.is_none());
            points_keep::recover(&point, &place).await
        }
        PointsCommand::Delete { point, confirm, undo: false, now, drop_version, place } => {
            points_keep::delete(&point, confirm.as_deref(), now, drop_version, &place).await
        }
        PointsCommand::BreakLock { point, place } => points_keep::break_lock(&point, &place).await,
        PointsCommand::Copy { point, to, reread, place } => points_move::copy(&point, &to, reread, &place).await,
        PointsCommand::Export { point, to, place } => points_move::export(&point, to.as_deref(), &place).await,
        PointsCommand::Import { path, open, place } => points_move::import(&path, &open, &place).await,
    }
}

/// Prints a value as people's scripts read it.
pub(super) fn put_json(value: &impl Serialize) {
    Sink::stdout().put(&format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default()));
}

/// A duration that was typed behind an option.
pub(super) fn time(option: &str, text: &str) -> Result<Duration, Failure> {
    duration::parse(text).map_err(|what| Failure::new(Kind::Usage, format!("{option} {text}: {what}")))
}

/// A cluster's name that was typed.
pub(super) fn cluster_name(text: &str) -> Result<ClusterName, Failure> {
    text.parse().map_err(|error: crate::name::BadName| Failure::new(Kind::CouldNotStart, error.to_string()))
}

/// Whether a point fits a cluster, and why; `None` where that cannot be told.
#[derive(Debug, Clone, Serialize)]
struct Fit {
    fits: Option<bool>,
    why: String,
}

/// The clusters of the inventory with the PCE version that is on them, as far as that is known: the inventory's, else
/// the one of the last backup.
fn clusters_of(inventory: &Inventory, entries: &[Entry]) -> BTreeMap<String, Option<String>> {
    let mains: Vec<_> = inventory.hosts_of("mains").unwrap_or_default();
    let mut clusters = BTreeMap::new();
    for group in inventory.groups() {
        if ["all", "ungrouped", "mains", "amv", "nfs"].contains(&group.as_str()) {
            continue;
        }
        let hosts = inventory.hosts_of(group.as_str()).unwrap_or_default();
        let said = |name: &str| hosts.iter().find_map(|host| super::river::shown(inventory.vars(host).get(name)));
        let is_cluster = hosts.iter().any(|host| mains.contains(host))
            || ["pce_cluster_name", "pce_version", "pce_platform_dns"].iter().any(|name| said(name).is_some());
        if is_cluster {
            let seen = entries.iter().rev().find_map(|entry| match entry {
                Entry::Sealed(point) if point.cluster.as_str() == group.as_str() => point.manifest.pce_version.clone(),
                _ => None,
            });
            clusters.insert(group.to_string(), said("pce_version").or(seen));
        }
    }
    clusters
}

fn fits(point: &Point, cluster: &str, version: Option<&str>) -> Fit {
    let fit = |fits, why: &str| Fit { fits, why: why.to_owned() };
    match point.verdict() {
        Verdict::Damaged => return fit(Some(false), "damaged"),
        Verdict::Suspect => return fit(Some(false), "suspect"),
        Verdict::Verified => {}
    }
    if point.in_trash().is_some() {
        return fit(Some(false), "in trash");
    }
    match (point.manifest.pce_version.as_deref(), version) {
        (Some(made), Some(there)) if made != there => fit(Some(false), &format!("{made} ≠ {there}")),
        (Some(_), Some(_)) if point.cluster.as_str() == cluster => fit(Some(true), "in place"),
        (Some(_), Some(_)) => fit(Some(true), ""),
        (None, _) => fit(None, "the point names no PCE version"),
        (_, None) => fit(None, "its PCE version is not known"),
    }
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    summary: Summary,
    fits: BTreeMap<String, Fit>,
}

async fn list(
    place: &Place,
    cluster: Option<&str>,
    inventory: &[std::path::PathBuf],
    as_json: bool,
) -> Result<u8, Failure> {
    let cluster = cluster.map(cluster_name).transpose()?;
    let now = Timestamp::now();
    let entries = shelf::entries(place, cluster.as_ref()).await?;
    // The listing is about the catalog: an inventory that cannot be read is told and leaves out what needs it.
    let clusters =
        match inventory.is_empty().then_some(()).map_or_else(|| Inventory::load(inventory).map(Some), |()| Ok(None)) {
            Ok(Some(inventory)) => clusters_of(&inventory, &entries),
            Ok(None) => BTreeMap::new(),
            Err(failure) => {
                crate::report::say_aside(&format!(
                    "warning: which clusters the points fit is not told: {}\n",
                    clean(failure.to_string().as_bytes())
                ));
                BTreeMap::new()
            }
        };
    let all: Vec<Listed> = entries
        .iter()
        .map(|entry| Listed {
            summary: entry.summary(now),
            fits: match entry {
                Entry::Sealed(point) => clusters
                    .iter()
                    .map(|(name, version)| (name.clone(), fits(point, name, version.as_deref())))
                    .collect(),
                _ => BTreeMap::new(),
            },
        })
        .collect();
    if as_json {
        put_json(&all);
        return Ok(0);
    }
    if all.is_empty() {
        crate::report::say(&format!("no recovery point in {}\n", place.name()));
        return Ok(0);
    }
    let mut table = Table::new(["cluster", "point", "state", "size", "PCE", "node", "label", "fits", ""]).right(3);
    for Listed { summary: point, fits } in all {
        let mut state = point.state;
        if point.complete == Some(false) {
            state.push_str(", incomplete");
        }
        if point.held {
            state.push_str(", held");
        }
        if !point.replicas.is_empty() {
            state.push_str(&format!(", replicated ({})", point.replicas.len()));
        }
        let fits: Vec<String> = fits
            .iter()
            .map(|(cluster, fit)| {
                let word = fit.fits.map_or("?", |fits| if fits { "yes" } else { "no" });
                if fit.why.is_empty() { format!("{cluster} {word}") } else { format!("{cluster} {word} ({})", fit.why) }
            })
            .collect();
        table.row([
            point.cluster.to_string(),
            point.id.to_string(),
            state,
            human_bytes(point.bytes),
            point.pce_version.unwrap_or_default(),
            point.node.unwrap_or_default(),
            point.label.unwrap_or_default(),
            fits.join(", "),
            point.remark,
        ]);
    }
    table.print();
    Ok(0)
}

/// A time as people read it: no finer than a second.
fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn show(point: &Point, as_json: bool) -> Result<u8, Failure> {
    let value = point.to_json().map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    if as_json {
        put_json(&value);
        return Ok(0);
    }
    let manifest = &point.manifest;
    let mut table = Table::new(["", ""]);
    table.row(["point", &format!("{}/{}", point.cluster, point.id())]);
    table.row(["verdict", &format!("{}{}", point.verdict(), if manifest.complete { "" } else { ", incomplete" })]);
    table.row(["where", &point.dir.display().to_string()]);
    table.row([
        "made",
        &format!(
            "{} to {} by {} (run {})",
            second(manifest.started),
            second(manifest.finished),
            manifest.who,
            manifest.run
        ),
    ]);
    table.row([
        "cluster",
        &format!(
            "{}, uid {}, {}",
            manifest.cluster.gravity_name.as_deref().unwrap_or("?"),
            manifest.cluster.kube_system_uid.as_deref().unwrap_or("?"),
            manifest.cluster.advertise_addresses.join(" ")
        ),
    ]);
    table.row([
        "versions",
        &format!(
            "PCE {}, Gravity {}",
            manifest.pce_version.as_deref().unwrap_or("?"),
            manifest.gravity_version.as_deref().unwrap_or("?")
        ),
    ]);
    for archive in &manifest.archives {
        table.row([
            "archive",
            &format!(
                "{} {}, {} members, sha256 {}",
                archive.file,
                human_bytes(archive.bytes),
                archive.members,
                archive.sha256
            ),
        ]);
        for volume in &archive.volumes {
            table.row(["  file", &format!("{} {}, sha256 {}", volume.file, human_bytes(volume.bytes), volume.sha256)]);
        }
        if let Some(encryption) = &archive.encryption {
            table.row(["  encrypted", &format!("{} for {}", encryption.format, encryption.recipients.join(", "))]);
        }
        for how in &archive.verified_how {
            table.row(["  verified", how]);
        }
    }
    for warning in &manifest.warnings {
        table.row(["warning", warning]);
    }
    if point.held(Timestamp::now()) {
        table.row(["held", "nothing deletes it"]);
    }
    if let Some(until) = point.in_trash() {
        table.row([
            "in trash",
            &format!("until {}; ferry points delete {}/{} --undo", second(until), point.cluster, point.id()),
        ]);
    }
    for note in &point.notes.known {
        table.row([
            "noted",
            &format!("{} by {}: {}", note.at.strftime("%Y-%m-%d %H:%M UTC"), note.who, said(&note.remark)),
        ]);
    }
    for defect in point.defects() {
        table.row(["DAMAGED", &format!("{}: {}", defect.file, defect.what)]);
    }
    table.print();
    crate::report::say("\nIn the backup, and what is not:\n");
    let mut contents = Table::new(["what", "in it", "note"]);
    for row in &manifest.contents {
        let word = match row.in_backup {
            crate::catalog::InBackup::Yes => "yes",
            crate::catalog::InBackup::No => "no",
        };
        contents.row([row.row.as_str(), word, row.note.as_str()]);
    }
    contents.print();
    Ok(0)
}

/// A note in words.
fn said(remark: &Remark) -> String {
    match remark {
        Remark::Verified { bytes } => format!("verified again, {} read", human_bytes(*bytes)),
        Remark::PartVerified { part, files, bytes } => {
            format!("part {part} verified again, {files} files, {} read", human_bytes(*bytes))
        }
        Remark::Damaged { defects } => format!("found damaged: {} defects", defects.len()),
        Remark::Accepted { reason } => format!("accepted because {reason}"),
        Remark::Held { until: Some(until) } => format!("held until {until}"),
        Remark::Held { until: None } => "held until it is released".to_owned(),
        Remark::Released => "no longer held".to_owned(),
        Remark::Replicated { to, how } => format!("copied to {to}: {how}"),
        Remark::Trashed { until, reason, .. } => format!("put into the trash until {until}: {reason}"),
        Remark::Recovered => "taken out of the trash".to_owned(),
        Remark::Restored { into, run, parts, .. } => format!("restored into {into}: {} (run {run})", parts.join(", ")),
        Remark::Rehearsed { into, seconds, .. } => {
            format!("rehearsed in {into}: {}", human_duration(Duration::from_secs_f64(seconds.max(0.0))))
        }
    }
}

/// `3/7`: the third of seven parts.
fn part_of(text: &str) -> Result<(u64, u64), Failure> {
    text.split_once('/')
        .and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)))
        .filter(|(k, n)| (1..=*n).contains(k) && *n <= 1000)
        .ok_or_else(|| {
            Failure::new(Kind::Usage, format!("--part {text}: K/N is expected, K from 1 to N")).mend("--part 3/7")
        })
}

/// Whether the file of this number belongs to a part; one that lies in no volumes belongs as a whole to that of its first
/// file. By the point's id, so that it is the same part whatever else lies on the shelf.
fn in_part(point: &Point, number: usize, (k, n): (u64, u64)) -> bool {
    let digest = crate::digest::Sha256::of(format!("{}/{}", point.cluster, point.id()).as_bytes()).to_string();
    let first = u64::from_str_radix(digest.get(..15).unwrap_or_default(), 16).unwrap_or(0) % n;
    (first + number as u64) % n == k - 1
}

/// Whether a point is verified in parts: it lies in volumes.
fn divides(point: &Point) -> bool {
    point.manifest.archives.iter().any(|archive| archive.volumes.len() > 1)
}

async fn verify(
    place: &Place,
    text: Option<&str>,
    metadata: bool,
    part: Option<(u64, u64)>,
    identities: Option<&Arc<Identities>>,
    as_json: bool,
) -> Result<u8, Failure> {
    let mut failures = Vec::new();
    let mut points: Vec<Point> = Vec::new();
    match text {
        Some(text) => points.push(shelf::find(place, text).await?),
        None => {
            for entry in shelf::entries(place, None).await? {
                match entry {
                    Entry::Sealed(point) if point.in_trash().is_none() => points.push(*point),
                    // Whoever asks after all of them wants to hear of this one.
                    Entry::Broken { why, .. } => failures.push(Failure { kind: Kind::Bad, ..*why }),
                    _ => {}
                }
            }
        }
    }
    if points.is_empty() && failures.is_empty() {
        return Err(Failure::new(Kind::CouldNotStart, format!("no sealed point in {}", place.name())));
    }
    let all = points.len();
    points.retain(|point| {
        let touched = |part| match divides(point) {
            true => (0..shelf::count_files(point)).any(|number| in_part(point, number, part)),
            false => in_part(point, 0, part),
        };
        part.is_none_or(touched)
    });
    if let (Some((k, n)), false) = (part, as_json) {
        crate::report::say(&format!("part {k} of {n}: {} of {all} points\n", points.len()));
    }
    let (who, mut reports, mut locked) = (open::who(), Vec::new(), Vec::new());
    for mut point in points {
        let report = if metadata {
            VerifyReport::of_names(&point, shelf::look(&point))
        } else if let Some((k, n)) = part.filter(|_| divides(&point)) {
            let seen = point.clone();
            let wanted = move |number| in_part(&seen, number, (k, n));
            shelf::verify_part(place, &mut point, &who, &format!("{k}/{n}"), identities, &wanted).await?
        } else {
            shelf::verify_with(place, &mut point, &who, identities, &inspect, &|_, _| {}).await?
        };
        if as_json {
            reports.push(json!({"cluster": report.cluster, "point": report.id, "bytes": report.bytes, "bad": report.bad, "warnings": report.warnings, "unchecked": report.unchecked}));
        } else if report.bad.is_empty() && metadata {
            Sink::stdout()
                .put(&format!("{}/{} has every file at its size; no archive was read\n", report.cluster, report.id));
        } else if let (Some((k, n)), true, true) = (part, divides(&point), report.bad.is_empty()) {
            crate::report::say(&format!(
                "{}/{} part {k} of {n}: {} files of {} as in its manifest, {} read again\n",
                report.cluster,
                report.id,
                report.archives.len(),
                shelf::count_files(&point),
                human_bytes(report.bytes)
            ));
        } else if report.bad.is_empty() && !report.unchecked.is_empty() {
            crate::report::say(&format!(
                "{}/{} as it was sealed: {} read again, digests of all files as in its manifest; not looked into: {}\n",
                report.cluster,
                report.id,
                human_bytes(report.bytes),
                report.unchecked.join("; ")
            ));
        } else if report.bad.is_empty() {
            crate::report::say(&format!(
                "{}/{} verified: {} read again, digests and walk as in its manifest\n",
                report.cluster,
                report.id,
                human_bytes(report.bytes)
            ));
        }
        for warning in &report.warnings {
            crate::report::say_aside(&format!("warning: {warning}\n"));
        }
        if let Some(failure) = report.failure() {
            failures.push(failure);
        }
        if report.not_opened {
            locked.push(
                Failure::new(
                    Kind::CouldNotStart,
                    format!("{}/{} is not opened by what was given to open it", report.cluster, report.id),
                )
                .saw(report.unchecked.join("; "))
                .why("its files are as they were sealed, as far as nothing else is said; what is in them was not looked into")
                .mend("--identity FILE with the right one; ferry points show names the recipients"),
            );
        }
    }
    if as_json {
        put_json(&reports);
    }
    match Failure::all(failures) {
        Some(failure) => {
            print_failure(&failure, Style::stderr());
            Ok(Kind::Bad.exit_code())
        }
        None => Failure::all(locked).map_or(Ok(0), Err),
    }
}

/// `KIND=AGE`, several; an age alone is Gravity's.
fn limits(given: &[String]) -> Result<Vec<(ArchiveKind, Duration)>, Failure> {
    let mut limits: Vec<(ArchiveKind, Duration)> = Vec::new();
    for text in given {
        let wrong = |what: String| {
            Failure::new(Kind::Usage, format!("--max-age {text}: {what}"))
                .mend("--max-age gravity=26h --max-age amv=8d")
        };
        let (kind, age) = text.split_once('=').unwrap_or(("gravity", text));
        let kind = [ArchiveKind::Gravity, ArchiveKind::Amv, ArchiveKind::Nfs]
            .into_iter()
            .find(|known| known.to_string() == kind)
            .ok_or_else(|| wrong(format!("there is no kind {kind:?}; there are gravity, amv and nfs")))?;
        let age = duration::parse(age).map_err(wrong)?;
        if limits.iter().any(|(known, _)| *known == kind) {
            return Err(wrong(format!("{kind} has a limit already")));
        }
        limits.push((kind, age));
    }
    Ok(limits)
}

/// What a monitor asks for.
struct Wanted {
    limits: Vec<(ArchiveKind, Duration)>,
    min_replicas: Option<u32>,
    drilled_within: Option<Duration>,
}

async fn check(place: &Place, names: &[String], wanted: &Wanted, as_json: bool) -> Result<u8, Failure> {
    // A shelf that is not there is not an empty one: a mount may be missing.
    if let Place::Folder(folder) = place {
        let root = folder.catalog().root();
        std::fs::read_dir(root).map_err(|error| {
            Failure::new(Kind::CouldNotStart, "the catalog cannot be read")
                .saw(format!("{}: {error}", root.display()))
                .mend("--catalog URL, or catalog in ferry.toml")
        })?;
    }
    let mut clusters: Vec<ClusterName> = names
        .iter()
        .map(|name| name.parse().map_err(|error: crate::name::BadName| Failure::new(Kind::Usage, error.to_string())))
        .collect::<Result<_, _>>()?;
    let all = shelf::entries(place, None).await?;
    if clusters.is_empty() {
        clusters = match place {
            Place::Folder(folder) => folder.catalog().clusters()?,
            _ => all.iter().map(|entry| entry.cluster().clone()).collect(),
        };
        clusters.sort();
        clusters.dedup();
    }
    let now = Timestamp::now();
    let (mut lines, mut told, mut all_good) = (Vec::new(), Vec::new(), !clusters.is_empty());
    for cluster in &clusters {
        let entries: Vec<Entry> = all.iter().filter(|entry| entry.cluster() == cluster).cloned().collect();
        let shelf = check::look(&entries);
        let seen = check::check(&shelf, &wanted.limits, now);
        let replicas = wanted.min_replicas.map(|least| check::replicas(&entries, least, now));
        let drill = wanted.drilled_within.map(|within| check::drill(&entries, within, now));
        let good = seen.iter().all(KindCheck::good)
            && replicas.as_ref().is_none_or(|replicas| replicas.ok)
            && drill.as_ref().is_none_or(|drill| drill.ok);
        all_good &= good;
        let more = replicas
            .iter()
            .map(|seen| (seen.ok, seen.said()))
            .chain(drill.iter().map(|seen| (seen.ok, drill_said(seen))));
        lines.push((good, line(cluster, &shelf, &seen, more.collect(), good)));
        told.push(json!({"cluster": cluster, "ok": good, "kinds": seen, "replicas": replicas, "drill": drill, "left_over": shelf.left_over}));
    }
    if as_json {
        put_json(&told);
    } else {
        if clusters.is_empty() {
            crate::report::say(&format!("CRITICAL: there is no cluster in {}\n", place.name()));
        }
        // A monitor shows the first line.
        lines.sort_by_key(|(good, _)| *good);
        lines.iter().for_each(|(_, line)| crate::report::say(&format!("{line}\n")));
    }
    Ok(if all_good { 0 } else { Kind::Bad.exit_code() })
}

fn drill_said(seen: &check::DrillCheck) -> String {
    let limit = human_duration(Duration::from_secs(seen.limit_seconds));
    match (&seen.last, seen.ok) {
        (Some(last), true) => format!(
            "rehearsed {} ago (limit {limit}) from {}",
            human_duration(Duration::from_secs(last.age_seconds)),
            last.point
        ),
        (Some(last), false) => format!(
            "REHEARSED TOO LONG AGO, {} (limit {limit}) from {}",
            human_duration(Duration::from_secs(last.age_seconds)),
            last.point
        ),
        (None, _) => format!("NEVER REHEARSED (limit {limit})"),
    }
}

/// One line about a cluster, for a person and for a monitor.
fn line(cluster: &ClusterName, shelf: &Shelf, seen: &[KindCheck], more: Vec<(bool, String)>, good: bool) -> String {
    let mut parts: Vec<String> = more.iter().filter(|(good, _)| !good).map(|(_, text)| text.clone()).collect();
    // What is wrong comes first: some monitors cut lines.
    let (right, wrong): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.good());
    for seen in wrong.into_iter().chain(right) {
        let limit = human_duration(Duration::from_secs(seen.limit_seconds));
        let mut text = match &seen.newest {
            Some(newest) => {
                let age = human_duration(Duration::from_secs(newest.age_seconds));
                let over = if seen.wrong.contains(&Wrong::TooOld) { "TOO OLD, " } else { "" };
                format!("{} {over}{age} (limit {limit}) in {}", seen.kind, newest.point)
            }
            None => format!("{} MISSING: no verified archive (limit {limit})", seen.kind),
        };
        for wrong in &seen.wrong {
            if let Wrong::Damaged { point, what } = wrong {
                text.push_str(&format!(", DAMAGED {point}: {what}"));
            }
        }
        for (word, points) in [("from the future", &seen.from_the_future), ("suspect", &seen.suspect)] {
            if let Some(last) = points.last() {
                let more = if points.len() > 1 { format!(" and {} more", points.len() - 1) } else { String::new() };
                text.push_str(&format!(", {word} and not counted: {last}{more}"));
            }
        }
        parts.push(text);
    }
    parts.extend(more.into_iter().filter(|(good, _)| *good).map(|(_, text)| text));
    if let Some(last) = shelf.left_over.last() {
        parts.push(format!("left over and never sealed: {last}"));
    }
    let text = format!("{} {cluster}: {}", if good { "OK" } else { "CRITICAL" }, parts.join("; "));
    // One line, whatever a manifest says; and a monitor reads what follows a bar as figures.
    clean(text.replace('|', "/").as_bytes())
}
