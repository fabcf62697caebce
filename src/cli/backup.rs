//! `ferry backup CLUSTER`: the shipped playbook, carried out on a cluster.

use serde_json::{Map, Value};

use super::args::{BackupArgs, Common};
use super::river::{self, Journey};
use super::{open, playbooks};
use crate::catalog::{ArchiveKind, Catalog, backup_timeout};
use crate::digest::Sha256;
use crate::failure::Failure;
use crate::modules::{self, Choices, RestoreChoices};
use crate::name::ClusterName;
use crate::playbook::Playbook;
use crate::report::figures::{human_bytes, human_seconds};

pub(super) async fn run(args: BackupArgs) -> Result<u8, Failure> {
    let BackupArgs { cluster, only, label, check, waive, yes: _, common } = args;
    let choices = Choices {
        check,
        only,
        label,
        waive: river::waivers(&waive)?,
        patience: river::patience()?,
        restore: RestoreChoices::default(),
    };
    backup(&cluster, choices, common).await
}

/// The journey of a backup; `jobs attach` takes it as well.
pub(super) async fn backup(cluster: &str, choices: Choices, common: Common) -> Result<u8, Failure> {
    let opened = open::open(&common, None)?;
    let cluster = river::cluster(&opened.inventory, cluster)?;
    let (name, text, changed) = playbooks::find("backup", opened.settings.file.as_deref())?;
    let playbook = Playbook::parse(&name, &text, &modules::table())?;
    let mut first = first_screen(&opened, &cluster)?;
    if changed {
        first.push(format!("playbook   a changed copy is used: {name}"));
    }
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
        if vars.get("pce_backup_timeout").is_none() {
            let (_, why) = backup_timeout(&history);
            lines.push(format!("timeout    {why} (the vendor's default is 20m)"));
        }
    }
    Ok(lines)
}
