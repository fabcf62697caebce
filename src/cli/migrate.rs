//! `ferry migrate SOURCE TARGET`: the shipped playbook, carried out on two clusters.

use clap::Args;

use super::args::{Common, Confirmation};
use super::river::{self, Journey};
use super::{backup, encryption, open, playbooks, restore};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::modules::world::Migrate;
use crate::modules::{self, Choices};
use crate::playbook::Playbook;

/// `ferry migrate`
///
/// Backs up SOURCE, proves what was saved, and restores it into TARGET, whose content is destroyed. Every gate
/// of a restore is asked; those that can be answered before the backup are asked before it. Carry an interrupted one on
/// with: ferry runs resume RUN.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// The cluster that is backed up: a group of the inventory
    pub(super) source: String,
    /// The cluster that is overwritten: a group of the inventory
    pub(super) target: String,
    /// Only these parts: gravity, amv, nfs
    #[arg(long, value_delimiter = ',', value_name = "PARTS", value_parser = ["gravity", "amv", "nfs"])]
    pub(super) only: Vec<String>,
    /// A name for the point, kept in its manifest
    #[arg(long)]
    pub(super) label: Option<String>,
    /// Do not keep the point in the catalog: it is removed once it has been restored
    #[arg(long)]
    pub(super) no_keep: bool,
    /// Look at both clusters, and stop
    #[arg(short = 'C', long)]
    pub(super) check: bool,
    /// Go on although this gate says no, on either cluster: GATE=REASON
    #[arg(long, value_name = "GATE=REASON")]
    pub(super) waive: Vec<String>,
    /// Never enough for a restore: --confirm TARGET is
    #[arg(long)]
    pub(super) yes: bool,
    /// What a restore must be told
    #[command(flatten)]
    pub(super) confirmation: Confirmation,
    /// The playbook underneath
    #[command(flatten, next_help_heading = "The playbook underneath")]
    pub(super) playing: super::playing::Playing,
    /// Shared options
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) async fn run(args: MigrateArgs) -> Result<u8, Failure> {
    let MigrateArgs { source, target, only, label, no_keep, check, waive, yes: _, confirmation, playing, mut common } =
        args;
    playing.put(&mut common)?;
    if confirmation.in_place {
        return Err(Failure::new(Kind::Usage, "--in-place is not for a migration: it has two clusters"));
    }
    let mut opened = open::open(&common, None)?;
    confirmation.open.over(&mut opened.settings)?;
    encryption::must_open_own(&encryption::keep(&opened.settings)?)?;
    let source = river::cluster(&opened.inventory, &source)?;
    let target = river::cluster(&opened.inventory, &target)?;
    if source == target {
        return Err(Failure::new(Kind::Usage, format!("{source} into {source}: source and target are the same group"))
            .mend("to go back in place: ferry restore POINT --to CLUSTER --in-place"));
    }
    let of =
        |cluster: &crate::name::ClusterName| opened.inventory.hosts_of(cluster.as_str()).unwrap_or_default().to_vec();
    if let Some(host) = of(&source).iter().find(|host| of(&target).contains(host)) {
        return Err(Failure::new(Kind::CouldNotStart, format!("{host} is in {source} and in {target}"))
            .why("what belongs to both clusters would be saved and overwritten at once")
            .mend("give each cluster a group of its own: ferry inventory graph"));
    }
    let (name, text, changed) = playbooks::find("migrate", opened.settings.file.as_deref())?;
    let playbook = Playbook::parse(&name, &text, &modules::table())?;
    let spool = no_keep.then(|| opened.settings.runs.join("spool").join(format!("{source}-into-{target}")));
    let mut first = backup::first_screen(&opened, &source)?;
    if let Some(spool) = &spool {
        first.retain(|line| !line.starts_with("goes to"));
        first.push(format!("not kept   the point lies in {} until it is restored", spool.display()));
    }
    first.push(format!("into       {target}: what it holds now is destroyed"));
    first.extend(changed);
    let mut asked = restore::choices(None, None, confirmation);
    asked.migrate = Some(Migrate { source: source.clone(), spool });
    let choices = Choices {
        check,
        only,
        label,
        hold: None,
        waive: river::waivers(&waive)?,
        patience: river::patience()?,
        restore: asked,
    };
    let title = format!(
        "Migration of {source} into {target}{}",
        if choices.check { " (--check: nothing is started)" } else { "" }
    );
    river::flow(Journey {
        opened,
        playbooks: vec![playbook],
        playbook_digest: Some(Sha256::of(text.as_bytes())),
        cluster: Some(target),
        choices,
        common,
        title,
        first,
        needs_catalog: true,
    })
    .await
}
