//! `ferry points report`: the catalog as one page.

use std::path::PathBuf;

use clap::Args;

use crate::catalog::overview::overview;
use crate::catalog::place::Place;
use crate::catalog::retention::{Fate, Rules, any_rule};
use crate::catalog::shelf::entries;
use crate::catalog::{Entry, Remark};
use crate::failure::{Failure, Kind};
use crate::report::figures::human_bytes;
use crate::report::html::points::{self, Drill, Retention, Row, Shelf};
use crate::settings::Keep;

/// `ferry points report`
#[derive(Debug, Args)]
pub(super) struct PointsReportArgs {
    /// Only this cluster
    cluster: Option<String>,
    /// Write the page here; - for standard output
    #[arg(short, long, value_name = "FILE", default_value = "points.html")]
    out: PathBuf,
    /// The catalog
    #[arg(long, value_name = "URL")]
    pub(super) catalog: Option<String>,
}

/// The catalog as the page wants it.
async fn shelf(place: &Place, keep: &Keep, cluster: Option<&str>) -> Result<Shelf, Failure> {
    let cluster = cluster
        .map(|name| {
            name.parse().map_err(|error: crate::name::BadName| Failure::new(Kind::CouldNotStart, error.to_string()))
        })
        .transpose()?;
    let now = jiff::Timestamp::now();
    let (mut rows, mut drills) = (Vec::new(), Vec::new());
    let entries = entries(place, cluster.as_ref()).await?;
    let rules = Rules { keep: keep.clone(), ..Rules::default() };
    let retention = if any_rule(keep) {
        let all = overview(&place.name(), &entries, &rules, now);
        let next = all.clusters.iter().flat_map(|cluster| {
            let goes = |fate: Fate| matches!(fate, Fate::Goes | Fate::Emptied);
            let points = cluster.points.iter().filter(move |point| goes(point.fate));
            points.map(|point| (cluster.cluster.to_string(), point.id.to_string(), point.why.join(", ")))
        });
        Retention::Next(next.collect())
    } else {
        Retention::Unknown("No keep rule is set: nothing is removed.".to_owned())
    };
    for entry in entries {
        let summary = entry.summary(now);
        let mut row = Row {
            cluster: summary.cluster.to_string(),
            id: summary.id.to_string(),
            state: summary.state,
            complete: summary.complete,
            finished: summary.finished,
            bytes: summary.bytes,
            archives: Vec::new(),
            seconds: None,
            version: summary.pce_version.unwrap_or_default(),
            label: summary.label.unwrap_or_default(),
            held: summary.held,
            remark: summary.remark,
        };
        if let Entry::Sealed(point) = &entry {
            let archives = point.manifest.archives.iter();
            row.archives = archives
                .map(|archive| (archive.kind.to_string(), archive.bytes, point.verdict_of(archive).to_string()))
                .collect();
            row.seconds = point.manifest.durations.backup_seconds;
            for note in &point.notes.known {
                let (into, seconds, rehearsal) = match &note.remark {
                    Remark::Rehearsed { into, seconds, .. } => (into, Some(*seconds), true),
                    // Gravity's own time is not the recovery time.
                    Remark::Restored { into, .. } => (into, None, false),
                    _ => continue,
                };
                drills.push(Drill {
                    cluster: row.cluster.clone(),
                    point: row.id.clone(),
                    into: into.to_string(),
                    at: note.at,
                    seconds,
                    age: Some(note.at.duration_since(point.manifest.started).as_secs_f64()).filter(|age| *age >= 0.0),
                    rehearsal,
                });
            }
        }
        rows.push(row);
    }
    rows.sort_by(|a, b| b.finished.cmp(&a.finished).then_with(|| b.id.cmp(&a.id)));
    drills.sort_by_key(|drill| std::cmp::Reverse(drill.at));
    Ok(Shelf { root: place.name(), now, rows, drills, retention })
}

pub(super) async fn run(place: &Place, keep: &Keep, args: &PointsReportArgs) -> Result<u8, Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let shelf = shelf(place, keep, args.cluster.as_deref()).await?;
    let failed = |error: std::io::Error| {
        Failure::new(Kind::Failed, "the report could not be written").saw(format!("{}: {error}", args.out.display()))
    };
    if args.out.as_os_str() == "-" {
        points::write(&shelf, std::io::stdout()).map_err(failed)?;
        return Ok(0);
    }
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&args.out);
    let bytes = file.and_then(|file| points::write(&shelf, file)).map_err(failed)?;
    crate::report::say(&format!("{} ({})\n", args.out.display(), human_bytes(bytes)));
    Ok(0)
}
