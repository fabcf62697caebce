//! `ferry points`: the catalog.

use std::time::Duration;

use serde_json::json;

use super::args::PointsCommand;
use super::open;
use crate::archive::{Limits, Walker};
use crate::catalog::check::{self, KindCheck, Shelf, Wrong};
use crate::catalog::{Archive, ArchiveKind, Catalog, Entry, Inspect, Point};
use crate::failure::{Failure, Kind};
use crate::name::ClusterName;
use crate::report::Sink;
use crate::report::figures::{human_bytes, human_duration};
use crate::report::render::{Style, print_failure};
use crate::report::tables::Table;
use crate::secret::clean;
use crate::settings::duration;

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

fn inspect(_: &Archive) -> Box<dyn Inspect> {
    Box::new(Walk { walker: Walker::new(Limits::default(), Vec::new()), fault: None })
}

fn catalogs(given: Option<&str>) -> Result<Catalog, Failure> {
    let settings = open::settings(&[], given, None, None)?;
    let root = settings.catalogs.first().ok_or_else(|| {
        Failure::new(Kind::CouldNotStart, "no catalog is named").mend("--catalog DIR, or catalog in ferry.toml")
    })?;
    Catalog::open_read(root)
}

pub(super) fn run(command: PointsCommand) -> Result<u8, Failure> {
    match command {
        PointsCommand::List { cluster, json, catalog } => {
            list(&catalogs(catalog.as_deref())?, cluster.as_deref(), json)
        }
        PointsCommand::Show { point, json, catalog } => show(&catalogs(catalog.as_deref())?, &point, json),
        PointsCommand::Verify { point, json, catalog } => {
            verify(&catalogs(catalog.as_deref())?, point.as_deref(), json)
        }
        PointsCommand::Report(args) => super::points_report::run(&catalogs(args.catalog.as_deref())?, &args),
        PointsCommand::Check { cluster, max_age, json, catalog } => {
            let limits = limits(&max_age)?;
            check(&catalogs(catalog.as_deref())?, &cluster, &limits, json)
        }
    }
}

fn list(catalog: &Catalog, cluster: Option<&str>, as_json: bool) -> Result<u8, Failure> {
    let cluster = cluster
        .map(|name| name.parse::<ClusterName>().map_err(|error| Failure::new(Kind::CouldNotStart, error.to_string())))
        .transpose()?;
    let now = jiff::Timestamp::now();
    let all: Vec<_> = catalog.list(cluster.as_ref())?.iter().map(|entry| entry.summary(now)).collect();
    if as_json {
        Sink::stdout().put(&format!("{}\n", serde_json::to_string_pretty(&all).unwrap_or_default()));
        return Ok(0);
    }
    if all.is_empty() {
        Sink::stdout().put(&format!("no recovery point in {}\n", catalog.root().display()));
        return Ok(0);
    }
    let mut table = Table::new(["cluster", "point", "state", "size", "PCE", "node", "label", ""]).right(3);
    for point in all {
        let state = match point.complete {
            Some(false) => format!("{}, incomplete", point.state),
            _ => point.state,
        };
        table.row([
            point.cluster.to_string(),
            point.id.to_string(),
            state,
            human_bytes(point.bytes),
            point.pce_version.unwrap_or_default(),
            point.node.unwrap_or_default(),
            point.label.unwrap_or_default(),
            point.remark,
        ]);
    }
    table.print();
    Ok(0)
}

fn show(catalog: &Catalog, text: &str, as_json: bool) -> Result<u8, Failure> {
    let point = catalog.find(text, None)?;
    let value = point.to_json().map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    if as_json {
        Sink::stdout().put(&format!("{}\n", serde_json::to_string_pretty(&value).unwrap_or_default()));
        return Ok(0);
    }
    let manifest = &point.manifest;
    let mut table = Table::new(["", ""]);
    table.row(["point", &format!("{}/{}", point.cluster, point.id())]);
    table.row(["verdict", &format!("{}{}", point.verdict(), if manifest.complete { "" } else { ", incomplete" })]);
    table.row(["where", &point.dir.display().to_string()]);
    table.row([
        "made",
        &format!("{} to {} by {} (run {})", manifest.started, manifest.finished, manifest.who, manifest.run),
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
        for how in &archive.verified_how {
            table.row(["  verified", how]);
        }
    }
    for warning in &manifest.warnings {
        table.row(["warning", warning]);
    }
    for defect in point.defects() {
        table.row(["DAMAGED", &format!("{}: {}", defect.file, defect.what)]);
    }
    table.print();
    Sink::stdout().put("\nIn the backup, and what is not:\n");
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

fn verify(catalog: &Catalog, text: Option<&str>, as_json: bool) -> Result<u8, Failure> {
    let points: Vec<Point> = match text {
        Some(text) => vec![catalog.find(text, None)?],
        None => catalog
            .list(None)?
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::Sealed(point) => Some(*point),
                _ => None,
            })
            .collect(),
    };
    if points.is_empty() {
        return Err(Failure::new(Kind::CouldNotStart, format!("no sealed point in {}", catalog.root().display())));
    }
    let (who, mut failures, mut reports) = (open::who(), Vec::new(), Vec::new());
    for mut point in points {
        let report = catalog.verify(&mut point, &who, &inspect, &mut |_, _| {})?;
        if as_json {
            reports.push(json!({"cluster": report.cluster, "point": report.id, "bytes": report.bytes, "bad": report.bad, "warnings": report.warnings}));
        } else if report.bad.is_empty() {
            Sink::stdout().put(&format!(
                "{}/{} verified: {} read again, digests and walk as in its manifest\n",
                report.cluster,
                report.id,
                human_bytes(report.bytes)
            ));
        }
        for warning in &report.warnings {
            Sink::stderr().put(&format!("warning: {warning}\n"));
        }
        if let Some(failure) = report.failure() {
            failures.push(failure);
        }
    }
    if as_json {
        Sink::stdout().put(&format!("{}\n", serde_json::to_string_pretty(&reports).unwrap_or_default()));
    }
    match Failure::all(failures) {
        Some(failure) => {
            print_failure(&failure, Style::stderr());
            Ok(Kind::Bad.exit_code())
        }
        None => Ok(0),
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

fn check(
    catalog: &Catalog,
    names: &[String],
    limits: &[(ArchiveKind, Duration)],
    as_json: bool,
) -> Result<u8, Failure> {
    // A shelf that is not there is not an empty one: a mount may be missing.
    std::fs::read_dir(catalog.root()).map_err(|error| {
        Failure::new(Kind::CouldNotStart, "the catalog cannot be read")
            .saw(format!("{}: {error}", catalog.root().display()))
            .mend("--catalog DIR, or catalog in ferry.toml")
    })?;
    let mut clusters: Vec<ClusterName> = names
        .iter()
        .map(|name| name.parse().map_err(|error: crate::name::BadName| Failure::new(Kind::Usage, error.to_string())))
        .collect::<Result<_, _>>()?;
    if clusters.is_empty() {
        clusters = catalog.clusters()?;
    }
    let now = jiff::Timestamp::now();
    let (mut lines, mut told, mut all_good) = (Vec::new(), Vec::new(), !clusters.is_empty());
    for cluster in &clusters {
        let shelf = check::look(&catalog.list(Some(cluster))?);
        let seen = check::check(&shelf, limits, now);
        let good = seen.iter().all(KindCheck::good);
        all_good &= good;
        lines.push((good, line(cluster, &shelf, &seen, good)));
        told.push(json!({"cluster": cluster, "ok": good, "kinds": seen, "left_over": shelf.left_over}));
    }
    if as_json {
        Sink::stdout().put(&format!("{}\n", serde_json::to_string_pretty(&told).unwrap_or_default()));
    } else {
        if clusters.is_empty() {
            Sink::stdout().put(&format!("CRITICAL: there is no cluster in {}\n", catalog.root().display()));
        }
        // A monitor shows the first line.
        lines.sort_by_key(|(good, _)| *good);
        lines.iter().for_each(|(_, line)| Sink::stdout().put(&format!("{line}\n")));
    }
    Ok(if all_good { 0 } else { Kind::Bad.exit_code() })
}

/// One line about a cluster, for a person and for a monitor.
fn line(cluster: &ClusterName, shelf: &Shelf, seen: &[KindCheck], good: bool) -> String {
    let mut parts = Vec::new();
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
    if let Some(last) = shelf.left_over.last() {
        parts.push(format!("left over and never sealed: {last}"));
    }
    let text = format!("{} {cluster}: {}", if good { "OK" } else { "CRITICAL" }, parts.join("; "));
    // One line, whatever a manifest says; and a monitor reads what follows a bar as figures.
    clean(text.replace('|', "/").as_bytes())
}
