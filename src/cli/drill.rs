//! `ferry drill POINT --to CLUSTER`: a restore into a cluster that is there for it, measured and noted on the point.

use clap::Args;

use super::args::{Common, Confirmation};
use super::{restore, river};
use crate::failure::{Failure, Kind};
use crate::modules::Choices;

/// `ferry drill`
///
/// A restore with all its gates, into a cluster whose inventory says `pce_drill_ok: true`. Times each phase, looks at the
/// cluster afterwards, and notes on the point how long recovery took and how old its data was. Cut the target off first:
/// SMTP, DNS, runtimes.
#[derive(Debug, Args)]
pub(super) struct DrillArgs {
    /// The point: id, unique prefix, CLUSTER/ID, a point's folder, or `latest` with --from
    pub(super) point: String,
    /// The cluster that is overwritten: a group of the inventory with pce_drill_ok
    #[arg(long, value_name = "CLUSTER")]
    pub(super) to: String,
    /// The cluster whose point it is
    #[arg(long, value_name = "CLUSTER")]
    pub(super) from: Option<String>,
    /// Only these parts: gravity, amv, nfs
    #[arg(long, value_delimiter = ',', value_name = "PARTS", value_parser = ["gravity", "amv", "nfs"])]
    pub(super) only: Vec<String>,
    /// Show the plan and every gate, and stop
    #[arg(short = 'C', long)]
    pub(super) check: bool,
    /// Go on although this gate says no: GATE=REASON
    #[arg(long, value_name = "GATE=REASON")]
    pub(super) waive: Vec<String>,
    /// Never enough: --confirm CLUSTER is
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

pub(super) async fn run(args: DrillArgs) -> Result<u8, Failure> {
    let DrillArgs { point, to, from, only, check, waive, yes: _, confirmation, playing, mut common } = args;
    playing.put(&mut common)?;
    if point == "latest" && from.is_none() {
        return Err(Failure::new(Kind::Usage, "latest of which cluster?").mend("ferry drill latest --from A --to B"));
    }
    if confirmation.in_place {
        return Err(Failure::new(
            Kind::Usage,
            "--in-place is not for a drill: it never overwrites the cluster that the point is of",
        ));
    }
    let mut asked = restore::choices(Some(point), from, confirmation);
    asked.drill = true;
    let choices = Choices {
        check,
        only,
        label: None,
        hold: None,
        waive: river::waivers(&waive)?,
        patience: river::patience()?,
        restore: asked,
    };
    restore::restore(&to, choices, common).await
}
