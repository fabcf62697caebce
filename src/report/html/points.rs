//! The page of a catalog: is last night's backup good, for somebody who was not there.
//!
//! What lives here: laying out what the caller read ([`Shelf`]). What does not: reading a catalog, and deciding what
//! retention removes.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use jiff::Timestamp;
use jiff::civil::Date;

use super::{Counted, bar, begin, end, many, text, when};
use crate::report::figures::{human_bytes, human_seconds};

/// Rows of the table of points; the newest are shown.
const MOST_ROWS: usize = 3_000;
/// Days of the calendar, the newest.
const MOST_DAYS: usize = 92;
/// Points of one curve, the newest.
const MOST_POINTS: usize = 400;

/// One recovery point, or what is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its cluster.
    pub cluster: String,
    /// Its id.
    pub id: String,
    /// `verified`, `suspect`, `damaged`, `in progress`, `left over` or `no point`.
    pub state: String,
    /// Whether every wanted part is there.
    pub complete: Option<bool>,
    /// When its run ended.
    pub finished: Option<Timestamp>,
    /// Size in bytes.
    pub bytes: u64,
    /// Its archives: kind, bytes, verdict.
    pub archives: Vec<(String, u64, String)>,
    /// How long the backup took on the node, in seconds.
    pub seconds: Option<f64>,
    /// Version of PCE.
    pub version: String,
    /// `--label`.
    pub label: String,
    /// It must not be deleted.
    pub held: bool,
    /// What to know.
    pub remark: String,
}

/// A rehearsed or real restore of a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Drill {
    /// The point's cluster and id.
    pub cluster: String,
    /// The point's id.
    pub point: String,
    /// The cluster it was restored into.
    pub into: String,
    /// When.
    pub at: Timestamp,
    /// Measured recovery time, in seconds; none where none was measured.
    pub seconds: Option<f64>,
    /// How old the data was at that moment, in seconds.
    pub age: Option<f64>,
    /// A rehearsal, else a restore in earnest.
    pub rehearsal: bool,
}

/// What retention will remove next.
#[derive(Debug, Clone, PartialEq)]
pub enum Retention {
    /// It cannot be told, and why.
    Unknown(String),
    /// These: cluster, point, why; none is an answer as well.
    Next(Vec<(String, String, String)>),
}

/// A catalog as read.
#[derive(Debug, Clone, PartialEq)]
pub struct Shelf {
    /// Where it is.
    pub root: String,
    /// When it was read.
    pub now: Timestamp,
    /// What lies in it, newest first.
    pub rows: Vec<Row>,
    /// Restores and rehearsals, newest first.
    pub drills: Vec<Drill>,
    /// What goes next.
    pub retention: Retention,
}

/// Writes the page.
///
/// # Errors
/// `to` cannot be written.
pub fn write(shelf: &Shelf, to: impl Write) -> io::Result<u64> {
    let mut to = Counted { to: BufWriter::with_capacity(64 << 10, to), written: 0 };
    page(shelf, &mut to)?;
    to.flush()?;
    Ok(to.written)
}

fn shade(row: &Row) -> &'static str {
    match (row.state.as_str(), row.complete) {
        ("verified", Some(true)) => "good",
        ("verified" | "suspect" | "in progress", _) => "warn",
        _ => "bad",
    }
}

fn age(now: Timestamp, at: Timestamp) -> String {
    human_seconds(now.duration_since(at).as_secs_f64().max(0.0))
}

/// The newest verified archive of each cluster and kind: when, point, bytes.
fn newest(shelf: &Shelf) -> BTreeMap<(String, String), Option<(Timestamp, String, u64)>> {
    let mut newest: BTreeMap<(String, String), Option<(Timestamp, String, u64)>> = BTreeMap::new();
    for row in &shelf.rows {
        for (kind, bytes, verdict) in &row.archives {
            let seen = newest.entry((row.cluster.clone(), kind.clone())).or_default();
            if let Some(at) = row.finished
                && verdict == "verified"
                && seen.as_ref().is_none_or(|(last, _, _)| *last < at)
            {
                *seen = Some((at, row.id.clone(), *bytes));
            }
        }
    }
    newest
}

fn page<W: Write>(shelf: &Shelf, to: &mut Counted<W>) -> io::Result<()> {
    begin(to, &format!("Recovery points in {}", shelf.root))?;
    let sections = [
        ("newest", "Newest"),
        ("days", "By day"),
        ("sizes", "Sizes and durations"),
        ("drills", "Restores and drills"),
        ("retention", "What goes next"),
        ("points", "All points"),
    ];
    bar(to, &format!("catalog {}", shelf.root), &sections, true)?;
    head(shelf, to)?;
    for (id, name) in sections {
        writeln!(to, "<section id=\"{id}\"><h2>{name}</h2>")?;
        match id {
            "newest" => newest_table(shelf, to)?,
            "days" => days(shelf, to)?,
            "sizes" => sizes(shelf, to)?,
            "drills" => drills(shelf, to)?,
            "retention" => retention(shelf, to)?,
            _ => rows(shelf, to)?,
        }
        writeln!(to, "</section>")?;
    }
    let told = format!(
        "Made by ferry {} at {}. All times are UTC. This page loads nothing and sends nothing. A backup older than you allow is found by <code>ferry points check</code>, not by this page.",
        env!("CARGO_PKG_VERSION"),
        when(shelf.now)
    );
    end(to, &told)
}

fn head(shelf: &Shelf, to: &mut impl Write) -> io::Result<()> {
    let of = |state: &str| shelf.rows.iter().filter(|row| row.state == state).count() as u64;
    let (verified, suspect, damaged) = (of("verified"), of("suspect"), of("damaged") + of("no point"));
    let day = jiff::SignedDuration::from_hours(26);
    // Every cluster must have its own: the newest of all would hide a cluster whose backups stopped.
    let newest = newest(shelf);
    let clusters: std::collections::BTreeSet<&str> = shelf.rows.iter().map(|row| row.cluster.as_str()).collect();
    let old: Vec<&str> = clusters
        .iter()
        .filter(|cluster| {
            let gravity = newest.get(&((**cluster).to_owned(), "gravity".to_owned())).cloned().flatten();
            gravity.is_none_or(|(at, _, _)| shelf.now.duration_since(at) > day)
        })
        .copied()
        .collect();
    let (class, word, sentence) = if shelf.rows.is_empty() {
        ("bad", "Nothing is saved", "there is no recovery point in this catalog".to_owned())
    } else if damaged > 0 {
        ("bad", "Look at it", format!("{} cannot be relied on", many(damaged, "point")))
    } else if !old.is_empty() {
        ("warn", "Old", format!("no verified Gravity archive of the last 26 hours: {}", old.join(", ")))
    } else if suspect > 0 {
        ("warn", "Look at it", format!("{} unlike those before", many(suspect, "point")))
    } else {
        ("good", "Good", "every cluster in this catalog has a verified Gravity archive of the last 26 hours".to_owned())
    };
    writeln!(
        to,
        "<div class=\"verdict {class}\"><h1>Recovery points</h1><p class=\"say\"><b>{word}</b>: {}.</p><p class=\"soft\">{} on {}.</p></div>",
        text(&sentence),
        text(&shelf.root),
        when(shelf.now)
    )?;
    let bytes: u64 = shelf.rows.iter().map(|row| row.bytes).sum();
    write!(to, "<div class=\"cards\">")?;
    for (name, value, class) in [
        ("verified", verified.to_string(), "good"),
        ("suspect", suspect.to_string(), if suspect > 0 { "warn" } else { "" }),
        ("damaged or no point", damaged.to_string(), if damaged > 0 { "bad" } else { "" }),
        ("clusters", clusters.len().to_string(), ""),
        ("in all", human_bytes(bytes), ""),
    ] {
        write!(to, "<div class=\"card {class}\"><span>{name}</span><b>{value}</b></div>")?;
    }
    writeln!(to, "</div>")
}

fn newest_table(shelf: &Shelf, to: &mut impl Write) -> io::Result<()> {
    write!(
        to,
        "<div class=\"scroll\"><table class=\"find\"><thead><tr><th>cluster</th><th>kind</th><th>age of the newest verified</th><th class=\"n\">size</th><th>point</th></tr></thead><tbody>"
    )?;
    for ((cluster, kind), newest) in newest(shelf) {
        match newest {
            Some((at, id, bytes)) => write!(
                to,
                "<tr><td>{}</td><td>{}</td><td><b>{}</b> <span class=\"soft\">({})</span></td><td class=\"n\">{}</td><td>{}</td></tr>",
                text(&cluster),
                text(&kind),
                age(shelf.now, at),
                when(at),
                human_bytes(bytes),
                text(&id)
            )?,
            None => write!(
                to,
                "<tr><td>{}</td><td>{}</td><td class=\"bad\">none is verified</td><td></td><td></td></tr>",
                text(&cluster),
                text(&kind)
            )?,
        }
    }
    writeln!(to, "</tbody></table></div>")
}

fn days(shelf: &Shelf, to: &mut impl Write) -> io::Result<()> {
    let today = shelf.now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let mut by: BTreeMap<(&str, Date), (u32, &'static str)> = BTreeMap::new();
    let mut clusters: Vec<&str> = Vec::new();
    let mut first = today;
    for row in &shelf.rows {
        let Some(at) = row.finished else { continue };
        let day = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        if !clusters.contains(&row.cluster.as_str()) {
            clusters.push(&row.cluster);
        }
        first = first.min(day);
        let entry = by.entry((&row.cluster, day)).or_insert((0, "good"));
        entry.0 += 1;
        // The best of a day counts for colour where one is good; damage is never hidden.
        entry.1 = match (entry.1, shade(row)) {
            ("bad", _) | (_, "bad") => "bad",
            ("good", "good") => "good",
            _ if entry.0 == 1 => shade(row),
            (before, _) => before,
        };
    }
    clusters.sort_unstable();
    write!(
        to,
        "<p class=\"soft\">One box a day: how many points were made; red where one is damaged, empty where there is none.</p>"
    )?;
    for cluster in clusters {
        write!(to, "<h3>{}</h3><div class=\"days\">", text(cluster))?;
        let mut day = today;
        for _ in 0..MOST_DAYS {
            if day < first {
                break;
            }
            let (count, class) = by.get(&(cluster, day)).copied().unwrap_or((0, ""));
            let shown = if count == 0 { "–".to_owned() } else { count.to_string() };
            write!(to, "<div class=\"day {class}\">{:02}-{:02}<b>{shown}</b></div>", day.month(), day.day())?;
            match day.yesterday() {
                Ok(before) => day = before,
                Err(_) => break,
            }
        }
        writeln!(to, "</div>")?;
    }
    Ok(())
}

/// One curve of what was measured at several times; nothing where there are fewer than two.
fn curve(to: &mut impl Write, name: &str, points: &[(Timestamp, f64)], shown: fn(f64) -> String) -> io::Result<()> {
    let points = points.get(points.len().saturating_sub(MOST_POINTS)..).unwrap_or_default();
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Ok(()) };
    if points.len() < 2 {
        return writeln!(
            to,
            "<p>{}: {} <span class=\"soft\">({}; one point makes no curve)</span></p>",
            text(name),
            shown(first.1),
            when(first.0)
        );
    }
    let top = points.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let span = last.0.duration_since(first.0).as_secs_f64().max(0.001);
    let spots: Vec<String> = points
        .iter()
        .map(|(at, value)| {
            format!(
                "{:.1},{:.1}",
                at.duration_since(first.0).as_secs_f64() / span * 1000.0,
                196.0 - value / top * 176.0
            )
        })
        .collect();
    let dots: Vec<String> = spots.iter().map(|spot| format!("M{spot}h0")).collect();
    let (name, spots) = (text(name), spots.join(" "));
    write!(
        to,
        "<h3>{name}</h3><div class=\"chart\"><span class=\"top\">{} at most, {} last</span>",
        shown(top),
        shown(last.1)
    )?;
    write!(
        to,
        "<svg viewBox=\"0 0 1000 200\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{name}\"><polygon points=\"0,200 {spots} 1000,200\"/><polyline points=\"{spots}\"/><path class=\"dots\" d=\"{}\"/></svg>",
        dots.concat()
    )?;
    writeln!(to, "<div class=\"axis\"><span>{}</span><span>{}</span></div></div>", when(first.0), when(last.0))
}

fn sizes(shelf: &Shelf, to: &mut impl Write) -> io::Result<()> {
    let mut sizes: BTreeMap<(String, String), Vec<(Timestamp, f64)>> = BTreeMap::new();
    let mut seconds: BTreeMap<String, Vec<(Timestamp, f64)>> = BTreeMap::new();
    for row in shelf.rows.iter().rev() {
        let Some(at) = row.finished else { continue };
        for (kind, bytes, _) in &row.archives {
            sizes.entry((row.cluster.clone(), kind.clone())).or_default().push((at, *bytes as f64));
        }
        if let Some(took) = row.seconds {
            seconds.entry(row.cluster.clone()).or_default().push((at, took));
        }
    }
    for points in sizes.values_mut().chain(seconds.values_mut()) {
        points.sort_by_key(|(at, _)| *at);
    }
    for ((cluster, kind), points) in &sizes {
        curve(to, &format!("{cluster}: size of {kind}"), points, |bytes| human_bytes(bytes as u64))?;
    }
    for (cluster, points) in &seconds {
        curve(to, &format!("{cluster}: time that gravity took"), points, human_seconds)?;
    }
    Ok(())
}

fn drills(shelf: &Shelf, to: &mut impl Write) -> io::Result<()> {
    if shelf.drills.is_empty() {
        return writeln!(
            to,
            "<p class=\"warn\"><b>No restore was ever rehearsed from this catalog.</b> What was never restored is not known to be restorable: <code>ferry drill POINT --to CLUSTER</code></p>"
        );
    }
    write!(
        to,
        "<div class=\"scroll\"><table class=\"find\"><thead><tr><th>when</th><th>point</th><th>into</th><th>kind</th><th class=\"n\">recovery time</th><th class=\"n\">age of the data then</th></tr></thead><tbody>"
    )?;
    for drill in shelf.drills.iter().take(200) {
        let kind = if drill.rehearsal { "drill" } else { "restore" };
        let shown = |seconds: Option<f64>| seconds.map_or("not measured".to_owned(), human_seconds);
        write!(
            to,
            "<tr><td class=\"w\">{}</td><td>{}/{}</td><td>{}</td><td>{kind}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            when(drill.at),
            text(&drill.cluster),
            text(&drill.point),
            text(&drill.into),
            shown(drill.seconds),
            shown(drill.age)
        )?;
    }
    writeln!(to, "</tbody></table></div>")
}

fn retention(shelf: &Shelf, to: &mut impl Write) -> io::Result<()> {
    match &shelf.retention {
        Retention::Unknown(why) => writeln!(to, "<p>{}</p>", text(why)),
        Retention::Next(next) if next.is_empty() => {
            writeln!(to, "<p>Nothing: every point is wanted by the rules that are in force.</p>")
        }
        Retention::Next(next) => {
            write!(
                to,
                "<div class=\"scroll\"><table class=\"find\"><thead><tr><th>cluster</th><th>point</th><th>why</th></tr></thead><tbody>"
            )?;
            for (cluster, point, why) in next.iter().take(1_000) {
                write!(to, "<tr><td>{}</td><td>{}</td><td>{}</td></tr>", text(cluster), text(point), text(why))?;
            }
            writeln!(to, "</tbody></table></div>")
        }
    }
}

fn rows(shelf: &Shelf, to: &mut impl Write) -> io::Result<()> {
    if shelf.rows.len() > MOST_ROWS {
        writeln!(
            to,
            "<p class=\"warn\">The newest {MOST_ROWS} of {}; <code>ferry points list</code> shows all.</p>",
            many(shelf.rows.len() as u64, "point")
        )?;
    }
    write!(
        to,
        "<div class=\"scroll\"><table class=\"find\"><thead><tr><th>cluster</th><th>point</th><th>verdict</th><th>ended</th><th class=\"n\">size</th><th>archives</th><th>PCE</th><th>label</th><th></th></tr></thead><tbody>"
    )?;
    for row in shelf.rows.iter().take(MOST_ROWS) {
        let lack = if row.complete == Some(false) { ", not complete" } else { "" };
        let archives: Vec<String> = row
            .archives
            .iter()
            .map(|(kind, bytes, verdict)| format!("{kind} {} {verdict}", human_bytes(*bytes)))
            .collect();
        let held = if row.held { "held. " } else { "" };
        writeln!(
            to,
            "<tr><td>{}</td><td class=\"w\">{}</td><td class=\"{}\">{}{lack}</td><td class=\"w\">{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{held}{}</td></tr>",
            text(&row.cluster),
            text(&row.id),
            shade(row),
            text(&row.state),
            row.finished.map(when).unwrap_or_default(),
            human_bytes(row.bytes),
            text(&archives.join(", ")),
            text(&row.version),
            text(&row.label),
            text(&row.remark)
        )?;
    }
    writeln!(to, "</tbody></table></div>")
}
