//! `ferry transfer FROM TO`: a file between two hosts, or a host and here.
//!
//! What lives here: turning what was typed into a play of one task. What does not: what the task does
//! (`modules::transfer`), and how a run is carried out and told.

use clap::Args;
use serde_json::{Map, Value, json};

use super::args::Common;
use super::open;
use super::river::{self, Journey};
use crate::digest::Hasher;
use crate::failure::{Failure, Kind};
use crate::modules;
use crate::playbook::Playbook;
use crate::transfer::carry::{parse_end, parse_rate};

/// `ferry transfer`
#[derive(Debug, Args)]
pub(super) struct TransferArgs {
    /// The file: HOST:PATH, or a path here
    pub(super) from: String,
    /// Its place: HOST:PATH, or a path here; with / at its end the file keeps its name
    pub(super) to: String,
    /// The way: relay goes through ferry and leaves nothing on our disk, disk goes through a spool here, direct goes from node
    /// to node by a key of this one transfer (never taken by itself: for what would not fit our link)
    #[arg(long, default_value = "auto", value_name = "WAY", value_parser = ["auto", "relay", "disk", "direct"])]
    pub(super) via: String,
    /// Replace a file that is there, and throw away what an earlier transfer left
    #[arg(long)]
    pub(super) force: bool,
    /// Go on with what an earlier transfer left
    #[arg(long)]
    pub(super) resume: bool,
    /// Permissions of the file there, octal
    #[arg(long, default_value = "0600", value_name = "MODE")]
    pub(super) mode: String,
    /// USER or USER:GROUP that it belongs to there
    #[arg(long, value_name = "OWNER")]
    pub(super) owner: Option<String>,
    /// Make the SHA-256 of the whole as well, and tell it
    #[arg(long)]
    pub(super) sha256: bool,
    /// Bytes a second at most: 10M
    #[arg(long, value_name = "RATE")]
    pub(super) limit_rate: Option<String>,
    /// Connections at once: auto, or 1 to 8
    #[arg(long, default_value = "auto", value_name = "N")]
    pub(super) streams: String,
    /// Print the plan and stop
    #[arg(short = 'C', long)]
    pub(super) check: bool,
    /// Shared options
    #[command(flatten)]
    pub(super) common: Common,
}

/// Text that a template gives back as it is.
fn literal(text: &str) -> Result<Value, Failure> {
    // What could be a template's beginning is no file's name that anybody has.
    if text.contains("{{") || text.contains("{%") || text.contains("{#") || text.contains('\0') {
        return Err(Failure::new(Kind::Usage, "a name may not have {{, {%, {# or a NUL in it").saw(text.to_owned()));
    }
    Ok(json!(text))
}

pub(super) async fn run(args: TransferArgs) -> Result<u8, Failure> {
    let hosts: Vec<&str> = [&args.from, &args.to].iter().filter_map(|end| parse_end(end).0).collect();
    if hosts.is_empty() {
        return Err(Failure::new(Kind::Usage, "both ends are here: that is work for cp")
            .saw(format!("{} {}", args.from, args.to))
            .mend("name a host of the inventory: HOST:PATH"));
    }
    if let Some(rate) = args.limit_rate.as_ref().filter(|rate| parse_rate(rate).is_none()) {
        return Err(Failure::new(Kind::Usage, "--limit-rate is a number of bytes a second")
            .saw(rate.clone())
            .mend("10M, 500k, 1G"));
    }
    let mut task = Map::new();
    task.insert("src".to_owned(), literal(&args.from)?);
    task.insert("dest".to_owned(), literal(&args.to)?);
    for (name, value) in [("via", &args.via), ("mode", &args.mode), ("streams", &args.streams)] {
        task.insert(name.to_owned(), literal(value)?);
    }
    for (name, value) in [("owner", &args.owner), ("limit_rate", &args.limit_rate)] {
        if let Some(value) = value {
            task.insert(name.to_owned(), literal(value)?);
        }
    }
    task.insert("force".to_owned(), json!(args.force));
    task.insert("resume".to_owned(), json!(args.resume));
    task.insert("sha256".to_owned(), json!(args.sha256));
    let opened = open::open(&args.common, None)?;
    for host in &hosts {
        let found = opened.select(host, None)?;
        if found.len() != 1 || found.first().map(String::as_str) != Some(*host) {
            return Err(Failure::new(Kind::NoHost, format!("{host:?} is not one host"))
                .saw(found.join(", "))
                .mend("name one host of the inventory: HOST:PATH"));
        }
    }
    let play = json!([{"name": "transfer", "hosts": hosts.join(","), "gather_facts": false, "tasks": [{"name": "transfer", "transfer": task}]}]);
    let text = play.to_string();
    let playbook = Playbook::parse("transfer", &text, &modules::table())?;
    let mut hasher = Hasher::new();
    hasher.update(text.as_bytes());
    let title = format!("transfer {} to {}", args.from, args.to);
    river::flow(Journey::typed(opened, playbook, hasher.finish(), title, args.check, args.common)?).await
}
