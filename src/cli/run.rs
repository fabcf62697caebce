//! `ferry run PLAYBOOK…`: any playbook.

use super::args::RunArgs;
use super::open;
use super::river::{self, Journey};
use crate::digest::Hasher;
use crate::failure::{Failure, Kind};
use crate::modules::{self, Choices};
use crate::plan::Plan;
use crate::playbook::{Playbook, Step};
use crate::report::Sink;

/// Whether any task of the items calls one of these modules.
pub(super) fn calls(items: &[Step], names: &[&str]) -> bool {
    items.iter().any(|item| match item {
        Step::Task(task) => names.contains(&task.module),
        Step::Block(block) => [&block.block, &block.rescue, &block.always].iter().any(|part| calls(part, names)),
    })
}

pub(super) async fn run(args: RunArgs) -> Result<u8, Failure> {
    let folder = args.playbooks.first().and_then(|path| path.parent()).map(std::path::Path::to_owned);
    let (mut playbooks, mut failures, mut hasher) = (Vec::new(), Vec::new(), Hasher::new());
    for path in &args.playbooks {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => {
                hasher.update(text.as_bytes());
                match Playbook::parse(&name, &text, &modules::table()) {
                    Ok(playbook) => playbooks.push(playbook),
                    Err(failure) => failures.push(failure),
                }
            }
            Err(error) => failures.push(Failure::new(Kind::CouldNotStart, format!("{name}: {error}"))),
        }
    }
    if let Some(failure) = Failure::all(failures) {
        return Err(failure);
    }
    let opened = open::open(&args.common, folder.as_deref())?;
    let cluster = match opened.extra.get("ferry_cluster").and_then(|value| value.as_str()) {
        Some(name) => Some(river::cluster(&opened.inventory, name)?),
        None => None,
    };
    if args.syntax_check || args.list_hosts || args.list_tasks {
        let plan = Plan::make(
            &opened.inventory,
            &playbooks,
            &opened.extra,
            args.common.limit.as_deref(),
            opened.settings.forks,
        )?;
        let lines = if args.list_hosts {
            plan.hosts()
        } else if args.list_tasks {
            plan.lines()
        } else {
            vec!["the playbooks can be read".to_owned()]
        };
        Sink::stdout().put(&format!("{}\n", lines.join("\n")));
        return Ok(0);
    }
    let needs_catalog = playbooks.iter().flat_map(|playbook| &playbook.plays).any(|play| {
        calls(
            &play.tasks,
            &[
                "gravity_preflight",
                "gravity_backup",
                "amv_backup",
                "nfs_backup",
                "nfs_restore",
                "archive_collect",
                "point_seal",
                "restore_gates",
                "safety_backup",
                "archive_deliver",
                "gravity_restore",
                "amv_restore",
            ],
        )
    });
    let title = args.playbooks.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let choices = Choices {
        check: args.check,
        only: Vec::new(),
        label: None,
        hold: None,
        waive: river::waivers(&args.waive)?,
        patience: river::patience()?,
        restore: super::restore::choices(
            opened.extra.get("ferry_point").and_then(|value| value.as_str()).map(str::to_owned),
            opened.extra.get("ferry_from").and_then(|value| value.as_str()).map(str::to_owned),
            args.confirmation,
        ),
    };
    river::flow(Journey {
        opened,
        playbooks,
        playbook_digest: Some(hasher.finish()),
        cluster,
        choices,
        common: args.common,
        title,
        first: Vec::new(),
        needs_catalog,
    })
    .await
}
