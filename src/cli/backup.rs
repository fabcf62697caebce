//! `ferry backup CLUSTER`: the shipped playbook, carried out on a cluster.

use std::time::Duration;

use serde_json::{Map, Value};

use super::args::{BackupArgs, Common};
use super::river::{self, Journey};
use super::{open, playbooks};
use crate::catalog::check::{check, look};
use crate::catalog::{ArchiveKind, Catalog, backup_timeout, estimate, expected_bytes};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::modules::{self, Choices, RestoreChoices};
use crate::name::ClusterName;
use crate::playbook::Playbook;
use crate::report::figures::{human_bytes, human_duration, human_seconds};
use crate::settings::duration;
use crate::settings::places::CatalogAt;

pub(super) async fn run(args: BackupArgs) -> Result<u8, Failure> {
    let BackupArgs { cluster, only, label, hold, if_older_than, check: dry, waive, yes: _, playing, mut common } = args;
    playing.put(&mut common)?;
    let age = |flag: &str, text: &str| {
        duration::parse(text).map_err(|what| Failure::new(Kind::Usage, format!("{flag} {text}: {what}")))
    };
    let hold = hold.map(|text| age("--hold", &text)).transpose()?;
    if let Some(text) = if_older_than
        && let Some(young) = young_enough(&cluster, &only, age("--if-older-than", &text)?, &common)?
    {
        crate::report::say(&format!("{young}: nothing to do (--if-older-than {text})\n"));
        return Ok(0);
    }
    let choices = Choices {
        check: dry,
        only,
        label,
        hold,
        waive: river::waivers(&waive)?,
        patience: river::patience()?,
        restore: RestoreChoices::default(),
    };
    backup(&cluster, choices, common).await
}

/// Whether every wanted kind has a verified archive that was begun less than `limit` ago: a sentence that says which.
/// With no kind named it is Gravity's, whose archive is what a point stands on.
fn young_enough(cluster: &str, only: &[String], limit: Duration, common: &Common) -> Result<Option<String>, Failure> {
    let opened = open::open(common, None)?;
    let cluster = river::cluster(&opened.inventory, cluster)?;
    let Some(root) = opened.settings.catalogs.first() else { return Ok(None) };
    let shelf = look(&Catalog::open_read(root)?.list(Some(&cluster))?);
    let all = [ArchiveKind::Gravity, ArchiveKind::Amv, ArchiveKind::Nfs];
    let wanted = all.into_iter().filter(|kind| match only {
        [] => *kind == ArchiveKind::Gravity,
        only => only.contains(&kind.to_string()),
    });
    let limits: Vec<_> = wanted.map(|kind| (kind, limit)).collect();
    let checked = check(&shelf, &limits, jiff::Timestamp::now());
    if checked.is_empty() || !checked.iter().all(crate::catalog::check::KindCheck::good) {
        return Ok(None);
    }
    let newest: Vec<String> = checked
        .iter()
        .filter_map(|checked| {
            let newest = checked.newest.as_ref()?;
            Some(format!(
                "{} {} is {} old",
                checked.kind,
                newest.point,
                human_duration(Duration::from_secs(newest.age_seconds))
            ))
        })
        .collect();
    Ok(Some(format!("{cluster}: {}", newest.join(", "))))
}

/// The journey of a backup; `jobs attach` takes it as well.
pub(super) async fn backup(cluster: &str, choices: Choices, common: Common) -> Result<u8, Failure> {
    let opened = open::open(&common, None)?;
    let cluster = river::cluster(&opened.inventory, cluster)?;
    let (name, text, changed) = playbooks::find("backup", opened.settings.file.as_deref())?;
    let playbook = Playbook::parse(&name, &text, &modules::table())?;
    let mut first = first_screen(&opened, &cluster)?;
    first.extend(changed);
    let title = format!("Backup of {cluster}{}", if choices.check { " (--check: nothing is started)" } else { "" });
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

/// Which cluster, how big last time, how long it took last time, where it will go.
pub(super) fn first_screen(opened: &open::Opened, cluster: &ClusterName) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    let empty = Map::new();
    let vars: &Map<String, Value> = opened
        .inventory
        .hosts_of(cluster.as_str())
        .and_then(|hosts| hosts.first().map(|host| opened.inventory.vars(host)))
        .unwrap_or(&empty);
    let name =
        river::shown(vars.get("pce_cluster_name")).map(|name| format!(", Gravity's name {name}")).unwrap_or_default();
    let version = river::shown(vars.get("pce_version")).map(|version| format!(", PCE {version}")).unwrap_or_default();
    lines.push(format!("cluster    {cluster}{name}{version}"));
    if let Some(root) = opened.settings.catalogs.first() {
        lines.push(format!("goes to    {}", root.join(cluster.as_str()).display()));
        let history = Catalog::open_read(root)
            .and_then(|catalog| catalog.history(cluster, ArchiveKind::Gravity))
            .unwrap_or_default();
        lines.push(match history.first() {
            Some(last) => format!(
                "last time  {} on {}{}",
                human_bytes(last.bytes),
                last.finished.strftime("%Y-%m-%d %H:%M UTC"),
                last.backup_seconds
                    .map(|seconds| format!(", gravity took {}", human_seconds(seconds)))
                    .unwrap_or_default()
            ),
            None => "last time  never: nothing is known of its size".to_owned(),
        });
        if let Some(seen) = estimate(&history) {
            let time = seen.seconds().map(|seconds| format!(", {} in all", human_seconds(seconds))).unwrap_or_default();
            let room = expected_bytes(&history).map_or(0, |expected| expected.archive_bytes);
            lines.push(format!(
                "this time  about {}{time}, by the last {}; {} are wanted free",
                human_bytes(seen.bytes),
                seen.of,
                human_bytes(room)
            ));
        }
        let first = CatalogAt::Folder(root.clone());
        let others: Vec<String> =
            opened.settings.places.iter().filter(|at| **at != first).map(ToString::to_string).collect();
        if !others.is_empty() {
            lines.push(format!("copied to  {}", others.join(", ")));
        }
        if vars.get("pce_backup_timeout").is_none() {
            let (_, why) = backup_timeout(&history);
            lines.push(format!("timeout    {why} (the vendor's default is 20m)"));
        }
    }
    Ok(lines)
}
