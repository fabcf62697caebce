//! `ferry points`: the catalog.

use serde_json::json;

use super::args::PointsCommand;
use super::open;
use crate::archive::{Limits, Walker};
use crate::catalog::{Archive, Catalog, Entry, Inspect, Point};
use crate::failure::{Failure, Kind};
use crate::name::ClusterName;
use crate::report::Sink;
use crate::report::figures::human_bytes;
use crate::report::render::{Style, print_failure};
use crate::report::tables::Table;

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
