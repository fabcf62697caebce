//! `ferry ping`: reaches every host, all at once; one line a host, what is wrong and what to do.

use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use super::args::PingArgs;
use super::open;
use crate::event::Events;
use crate::failure::{Failure, Kind};
use crate::modules::world::World;
use crate::modules::{self, Choices, RunInfo};
use crate::name::RunId;
use crate::report::Sink;
use crate::report::tables::Table;
use crate::secret::clean_json;

/// A world for commands that look and keep no run.
pub(super) async fn world(opened: &open::Opened, hosts: &[String]) -> Result<World, Failure> {
    let (ways, vars) = opened.ways(hosts)?;
    for warning in open::careless(&ways) {
        crate::report::say_aside(&format!("warning: {warning}\n"));
    }
    opened.introduce(&ways).await?;
    let now = jiff::Timestamp::now();
    let run = RunInfo {
        id: RunId::at(now),
        dir: std::path::PathBuf::new(),
        who: open::who(),
        command: opened.masker.mask(&std::env::args().collect::<Vec<_>>().join(" ")).into_owned(),
        flags: String::new(),
        catalog_flag: String::new(),
        started: now,
        inventory_sha256: None,
        playbook_sha256: None,
    };
    let choices = Choices::plain(super::river::patience()?);
    let events = Events::new(opened.masker.clone(), None, Vec::new());
    Ok(World::new(events, run, choices, None, ways, vars, None))
}

pub(super) async fn run(args: PingArgs) -> Result<u8, Failure> {
    let opened = open::open(&args.common, None)?;
    let hosts = opened.select(&args.pattern, args.common.limit.as_deref())?;
    let world = world(&opened, &hosts).await?;
    let world = &world;
    let answers: Vec<(String, Result<modules::Done, Failure>)> = futures::stream::iter(hosts)
        .map(|host| async move {
            let answer = modules::on_host(&modules::Call::plain(world, &host, "ping", &Map::new())).await;
            (host, answer)
        })
        .buffered(opened.settings.forks.max(10))
        .collect()
        .await;
    let mut worst: Option<Kind> = None;
    let mut failures = Vec::new();
    let mut table = Table::new(["host", "", "what is there"]);
    let mut all = Vec::new();
    for (host, answer) in answers {
        match answer {
            Ok(done) => {
                table.row([
                    host.clone(),
                    "ok".to_owned(),
                    wash(
                        &opened,
                        &format!(
                            "{}, {} ms",
                            done.message,
                            done.result.get("milliseconds").cloned().unwrap_or(Value::Null)
                        ),
                    ),
                ]);
                let mut result = done.result;
                if let Value::Object(map) = &mut result {
                    map.insert("host".to_owned(), json!(host));
                }
                all.push(result);
            }
            Err(failure) => {
                worst = Some(worst.map_or(failure.kind, |kind| kind.worse(failure.kind)));
                table.row([host.clone(), "NO".to_owned(), wash(&opened, &failure.what)]);
                all.push(json!({"host": host, "failure": failure}));
                failures.push(failure);
            }
        }
    }
    if args.common.json(args.json) {
        let text = serde_json::to_string_pretty(&all).unwrap_or_default();
        Sink::stdout().put(&format!("{}\n", clean_json(&opened.masker.mask(&text))));
    } else {
        table.print();
        for failure in &failures {
            super::show_failure(failure);
        }
    }
    Ok(worst.map_or(0, Kind::exit_code))
}

/// What a host said, safe to show.
pub(super) fn wash(opened: &open::Opened, text: &str) -> String {
    crate::secret::clean(opened.masker.mask(text).as_bytes())
}
