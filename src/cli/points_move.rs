//! `ferry points copy`, `export`, `import`: points on their way to other places.

use std::path::Path;

use serde_json::json;

use super::encryption::{self, OpenArgs};
use super::open;
use super::points::{inspect, put_json};
use super::points_args::Where;
use super::points_place::{Use, open_first, open_named};
use crate::catalog::place::Place;
use crate::catalog::{export as tar, shelf};
use crate::failure::{Failure, Kind};
use crate::report::figures::human_bytes;

pub(super) async fn copy(points: &[String], to: &[String], reread: bool, place: &Where) -> Result<u8, Failure> {
    let (from, _) = open_first(place, Use::Write)?;
    let mut others = Vec::new();
    for url in to {
        let other = open_named(url, Use::Write)?;
        other.probe().await?;
        others.push(other);
    }
    let who = open::who();
    let (mut told, mut failures) = (Vec::new(), Vec::new());
    for text in points {
        let mut point = shelf::find(&from, text).await?;
        for other in &others {
            match shelf::copy(&from, &mut point, other, &who, reread, &|_, _| {}).await {
                Ok(copied) => {
                    if !place.json {
                        let word = if copied.was_there { "is in" } else { "copied to" };
                        crate::report::say(&format!(
                            "{}/{} {word} {}, {}: {}\n",
                            point.cluster,
                            point.id(),
                            copied.to,
                            human_bytes(copied.bytes),
                            copied.how
                        ));
                    }
                    told.push(json!({"cluster": point.cluster, "point": point.id(), "copied": copied}));
                }
                Err(failure) => failures.push(failure),
            }
        }
    }
    if place.json {
        put_json(&told);
    }
    Failure::all(failures).map_or(Ok(0), Err)
}

pub(super) async fn export(text: &str, to: Option<&Path>, place: &Where) -> Result<u8, Failure> {
    let (from, _) = open_first(place, Use::Read)?;
    let point = shelf::find(&from, text).await?;
    let name = format!("{}-{}.tar", point.cluster, point.id());
    let to = match to {
        Some(folder) if folder.is_dir() => folder.join(&name),
        Some(file) => file.to_owned(),
        None => name.into(),
    };
    let fetch = match &from {
        Place::Folder(_) => None,
        other => Some(other.fetch(&format!("{}/{}", point.cluster, point.id()))),
    };
    let (bytes, sha256) = tar::export(&point, fetch.as_ref(), &to, &mut |_| {})?;
    if place.json {
        put_json(&json!({"cluster": point.cluster, "point": point.id(), "file": to, "bytes": bytes, "sha256": sha256}));
    } else {
        crate::report::say(&format!(
            "{}/{} exported to {}: {}, sha256 {sha256}\nread it anywhere: tar -xf {} && cd {} && sha256sum -c {}\n",
            point.cluster,
            point.id(),
            to.display(),
            human_bytes(bytes),
            to.display(),
            point.id(),
            tar::SUMS
        ));
    }
    Ok(0)
}

pub(super) async fn import(path: &Path, open: &OpenArgs, place: &Where) -> Result<u8, Failure> {
    let (to, mut settings) = open_first(place, Use::Write)?;
    open.over(&mut settings)?;
    let identities = encryption::identities(&settings)?;
    let Place::Folder(folder) = &to else {
        return Err(Failure::new(
            Kind::Refused,
            format!("a point is imported into a folder of this machine only, not into {}", to.name()),
        )
        .mend("import it there, then: ferry points copy POINT --to URL"));
    };
    let (point, was_there, unchecked) = tar::import(path, folder, identities.as_ref(), &inspect)?;
    if place.json {
        put_json(
            &json!({"cluster": point.cluster, "point": point.id(), "path": point.dir, "was_there": was_there, "verdict": point.verdict(), "unchecked": unchecked}),
        );
    } else if was_there {
        crate::report::say(&format!("{}/{} is there already: {}\n", point.cluster, point.id(), point.dir.display()));
    } else if !unchecked.is_empty() {
        crate::report::say(&format!(
            "{}/{} imported: every digest as its manifest says, {}; not looked into: {}\n",
            point.cluster,
            point.id(),
            point.dir.display(),
            unchecked.join("; ")
        ));
    } else {
        crate::report::say(&format!(
            "{}/{} imported: every digest and every archive as its manifest says, {}\n",
            point.cluster,
            point.id(),
            point.dir.display()
        ));
    }
    Ok(0)
}
