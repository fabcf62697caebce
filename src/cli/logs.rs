//! `ferry logs CLUSTER`: the shipped playbook, carried out on a cluster's nodes.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::args::Common;
use super::river::{self, Journey};
use super::{open, playbooks};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::modules::{self, Choices};
use crate::playbook::Playbook;
use crate::settings::duration;

/// `ferry logs`
///
/// Hook pods and jobs, journals, Gravity's logs, AMV's logs, InfluxDB's pods, disks, into one folder and a
/// .tar.gz of it. Tokens, passwords and private keys are taken out; REDACTED.txt lists where. Changes nothing on a node.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The cluster: a group of the inventory
    pub(super) cluster: String,
    /// How far back journals are read, with a unit
    #[arg(long, value_name = "AGE", default_value = "24h")]
    pub(super) since: String,
    /// `gravity report` as well: it holds secrets, may take ten minutes, and is kept beside the folder
    #[arg(long)]
    pub(super) report: bool,
    /// The folder that is made; ferry-logs-CLUSTER-TIME here by default
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// The playbook underneath
    #[command(flatten, next_help_heading = "The playbook underneath")]
    pub(super) playing: super::playing::Playing,
    /// Shared options
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) async fn run(args: LogsArgs) -> Result<u8, Failure> {
    let LogsArgs { cluster, since, report, dir, playing, mut common } = args;
    playing.put(&mut common)?;
    let age = duration::parse(&since).map_err(|what| Failure::new(Kind::Usage, format!("--since {since}: {what}")))?;
    let mut opened = open::open(&common, None)?;
    let cluster = river::cluster(&opened.inventory, &cluster)?;
    let (name, text, changed) = playbooks::find("logs", opened.settings.file.as_deref())?;
    let playbook = Playbook::parse(&name, &text, &modules::table())?;
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let dir = dir.unwrap_or_else(|| PathBuf::from(format!("ferry-logs-{cluster}-{time}")));
    let dir = std::path::absolute(&dir)
        .map_err(|error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", dir.display())))?;
    let mut first = vec![
        format!("cluster    {cluster}"),
        format!("goes to    {} and {}.tar.gz", dir.display(), dir.display()),
        format!("since      {since}"),
    ];
    if report {
        first.push("report     gravity report is made too: it HOLDS SECRETS and is not redacted".to_owned());
    }
    first.extend(changed);
    opened.extra.insert("ferry_logs_since".to_owned(), json!(format!("{}s", age.as_secs())));
    opened.extra.insert("ferry_logs_dir".to_owned(), json!(dir.display().to_string()));
    opened.extra.insert("ferry_logs_report".to_owned(), json!(report));
    let choices = Choices::plain(river::patience()?);
    river::flow(Journey {
        opened,
        playbooks: vec![playbook],
        playbook_digest: Some(Sha256::of(text.as_bytes())),
        title: format!("Logs of {cluster}"),
        cluster: Some(cluster),
        choices,
        common,
        first,
        needs_catalog: false,
    })
    .await
}
