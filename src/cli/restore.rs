//! `ferry restore POINT --to CLUSTER`: the shipped playbook, carried out on the cluster that is overwritten.

use super::args::{Common, Confirmation, RestoreArgs};
use super::river::{self, Journey};
use super::{encryption, open, playbooks, points_place};
use crate::catalog::place::Place;
use crate::catalog::{Catalog, Point, shelf};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::modules::world::Away;
use crate::modules::{self, Choices, RestoreChoices};
use crate::name::ClusterName;
use crate::playbook::Playbook;
use crate::report::figures::human_bytes;
use crate::settings::places::CatalogAt;

/// What the operator typed about a restore.
pub(super) fn choices(point: Option<String>, from: Option<String>, confirmation: Confirmation) -> RestoreChoices {
    let Confirmation { confirm, erase_amv, in_place, accept_suspect, nfs_into, nfs_over, open } = confirmation;
    RestoreChoices {
        point,
        from,
        in_place,
        confirm,
        erase_amv,
        suspect_sha: accept_suspect,
        nfs_into,
        nfs_over,
        identities: open.identity,
        passphrase_from: open.passphrase_from,
        ..RestoreChoices::default()
    }
}

pub(super) async fn run(args: RestoreArgs) -> Result<u8, Failure> {
    let RestoreArgs { point, to, from, only, check, waive, yes: _, confirmation, playing, mut common } = args;
    playing.put(&mut common)?;
    if point == "latest" && from.is_none() {
        return Err(Failure::new(Kind::Usage, "latest of which cluster?").mend("ferry restore latest --from A --to B"));
    }
    let choices = Choices {
        check,
        only,
        label: None,
        hold: None,
        waive: river::waivers(&waive)?,
        patience: river::patience()?,
        restore: choices(Some(point), from, confirmation),
    };
    restore(&to, choices, common).await
}

/// The journey of a restore; `jobs attach` takes it as well.
pub(super) async fn restore(cluster: &str, mut choices: Choices, common: Common) -> Result<u8, Failure> {
    let mut opened = open::open(&common, None)?;
    river::openers(&choices.restore).over(&mut opened.settings)?;
    let cluster = river::cluster(&opened.inventory, cluster)?;
    let (name, text, changed) =
        playbooks::find(if choices.restore.drill { "drill" } else { "restore" }, opened.settings.file.as_deref())?;
    let playbook = Playbook::parse(&name, &text, &modules::table())?;
    let mut first_lines = Vec::new();
    if let Some(line) = take_in(&opened, &mut choices.restore)? {
        first_lines.push(line);
    }
    let (point, place) = find(&opened, &choices.restore).await?;
    // A folder that is not the first is one of this machine all the same.
    let elsewhere = matches!(place, Some(Place::Folder(_)));
    choices.restore.away = place
        .filter(|place| !matches!(place, Place::Folder(_)))
        .map(|place| Away { point: Box::new(point.clone()), place });
    if let Some(until) = point.in_trash() {
        let name = format!("{}/{}", point.cluster, point.id());
        return Err(Failure::new(Kind::Refused, format!("{name} lies in the trash"))
            .saw(format!("until {until}"))
            .mend(format!("ferry points delete {name} --undo")));
    }
    let kept = encryption::keep(&opened.settings)?;
    encryption::must_open(&point, choices.restore.away.as_ref(), &kept, &|archive| {
        choices.wants(&archive.kind.to_string())
    })?;
    // From here on it is this very point, whatever is sealed meanwhile.
    if elsewhere {
        choices.restore.point = Some(point.dir.display().to_string());
        choices.restore.from = None;
    } else if choices.restore.point.as_deref().is_none_or(|text| !std::path::Path::new(text).is_dir()) {
        choices.restore.point = Some(format!("{}/{}", point.cluster, point.id()));
        choices.restore.from = None;
    }
    let mut first = first_screen(&point, &cluster);
    first.append(&mut first_lines);
    if let Some(line) = question_line(&opened, &cluster, &point)? {
        first.push(line);
    }
    if choices.restore.drill {
        first.extend(modules::drill::ISOLATE.iter().map(|(what, todo)| format!("isolate    {what}: {todo}")));
    }
    first.extend(changed);
    let title = format!(
        "{} of {}/{} into {cluster}{}",
        if choices.restore.drill { "Drill" } else { "Restore" },
        point.cluster,
        point.id(),
        if choices.check { " (--check: nothing is changed)" } else { "" }
    );
    river::flow(Journey {
        opened,
        playbooks: vec![playbook],
        playbook_digest: Some(Sha256::of(text.as_bytes())),
        cluster: Some(cluster),
        choices,
        common,
        title,
        first,
        needs_catalog: true,
    })
    .await
}

/// An exported point in one file is taken into the catalog first, where its every byte is proved; from then on it is
/// that point. Returns what to say of it.
fn take_in(opened: &open::Opened, asked: &mut RestoreChoices) -> Result<Option<String>, Failure> {
    let text = asked.point.clone().unwrap_or_default();
    let path = std::path::Path::new(&text);
    if !path.is_file() {
        return Ok(None);
    }
    let root = opened.settings.catalogs.first().ok_or_else(|| {
        Failure::new(Kind::CouldNotStart, "no catalog is named").mend("--catalog DIR, or catalog in ferry.toml")
    })?;
    let folder = crate::catalog::place::Folder::new(Catalog::open(root)?);
    let identities = encryption::identities(&opened.settings)?;
    let (point, was_there, _) =
        crate::catalog::export::import(path, &folder, identities.as_ref(), &super::points::inspect)?;
    asked.point = Some(format!("{}/{}", point.cluster, point.id()));
    let word = if was_there { "is in the catalog already" } else { "was taken into the catalog" };
    Ok(Some(format!("from       {text}: it {word}")))
}

/// The point, before any host is touched: in the first folder of the catalog, else in the places beside it, from which its
/// archives stream to the nodes.
async fn find(opened: &open::Opened, asked: &RestoreChoices) -> Result<(Point, Option<Place>), Failure> {
    let missing = match find_here(opened, asked) {
        Ok(point) => return Ok((point, None)),
        Err(failure) => failure,
    };
    let (text, first) = (asked.point.as_deref().unwrap_or_default(), opened.settings.catalogs.first());
    let text = match &asked.from {
        Some(from) if !text.contains('/') => format!("{from}/{text}"),
        _ => text.to_owned(),
    };
    for at in &opened.settings.places {
        if matches!(at, CatalogAt::Folder(root) if Some(root) == first) {
            continue;
        }
        let place = points_place::open_at(at, &opened.settings, points_place::Use::Read)?;
        match shelf::find(&place, &text).await {
            Ok(point) => return Ok((point, Some(place))),
            Err(failure) if failure.kind == Kind::CouldNotStart => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(missing)
}

fn find_here(opened: &open::Opened, asked: &RestoreChoices) -> Result<Point, Failure> {
    let text = asked.point.as_deref().unwrap_or_default();
    let path = std::path::Path::new(text);
    if text.contains('/') && path.is_dir() {
        return Point::open(path);
    }
    let root = opened.settings.catalogs.first().ok_or_else(|| {
        Failure::new(Kind::CouldNotStart, "no catalog is named").mend("--catalog DIR, or catalog in ferry.toml")
    })?;
    let from = asked
        .from
        .as_deref()
        .map(str::parse::<ClusterName>)
        .transpose()
        .map_err(|error| Failure::new(Kind::CouldNotStart, error.to_string()))?;
    Catalog::open_read(root)?.find(text, from.as_ref())
}

/// Which point, of which cluster, how old, how large, into which cluster.
fn first_screen(point: &Point, cluster: &ClusterName) -> Vec<String> {
    let manifest = &point.manifest;
    let age = jiff::Timestamp::now().as_second() - manifest.started.as_second();
    let parts: Vec<String> = manifest
        .archives
        .iter()
        .map(|archive| format!("{} {} {}", archive.name, human_bytes(archive.bytes), point.verdict_of(archive)))
        .collect();
    vec![
        format!("point      {}/{} ({})", point.cluster, point.id(), point.dir.display()),
        format!(
            "made       {}, {} h ago, by {}",
            manifest.started.strftime("%Y-%m-%d %H:%M UTC"),
            age / 3600,
            manifest.who
        ),
        format!(
            "made of    {}{}",
            manifest.cluster.gravity_name.as_deref().unwrap_or("a cluster that gave no name"),
            manifest.pce_version.as_deref().map(|version| format!(", PCE {version}")).unwrap_or_default()
        ),
        format!("holds      {}", parts.join(", ")),
        format!("into       {cluster}: what it holds now is destroyed"),
    ]
}

/// Whether AMV's question is answered by a pattern, and where that is written.
fn question_line(opened: &open::Opened, cluster: &ClusterName, point: &Point) -> Result<Option<String>, Failure> {
    if point.manifest.archive(crate::catalog::ArchiveKind::Amv).is_none() {
        return Ok(None);
    }
    let name = "pce_amv_restore_question";
    for host in opened.inventory.hosts_of(cluster.as_str()).unwrap_or_default() {
        let Some(text) = river::shown(opened.inventory.vars(host).get(name)) else { continue };
        crate::amv::compile(&text)?;
        let place = opened.inventory.place_of(host, name).map(|place| format!(" ({place})")).unwrap_or_default();
        return Ok(Some(format!("amv asks   its question is answered where it fits {text:?}{place}")));
    }
    Ok(Some("amv asks   a person must answer its question: no pce_amv_restore_question is set".to_owned()))
}
