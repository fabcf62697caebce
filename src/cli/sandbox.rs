//! `ferry sandbox`: pretend clusters that keep running.

use super::args::{SandboxArgs, SandboxCommand};
use crate::failure::{Failure, Kind};
use crate::report::Sink;
use crate::report::tables::Table;
use crate::sandbox::{self, FaultSetting, Options};

/// What was typed, as what it means.
pub(super) fn options(args: &SandboxArgs) -> Result<Options, Failure> {
    let usage = |what: String| Failure::new(Kind::Usage, what);
    Ok(Options {
        generation: args
            .generation
            .parse()
            .map_err(|_| usage(format!("--generation {}: g5, g6, g7 or g8 expected", args.generation)))?,
        faults: args.fault.iter().map(|text| text.parse::<FaultSetting>()).collect::<Result<_, _>>()?,
        time_scale: 1.0,
        hook_seconds: args.hook_seconds,
        archive_mib: args.archive_mib,
        ..Options::default()
    })
}

/// How to reach what is up.
fn tell(up: &sandbox::Up) {
    let dir = up.dir.display();
    Sink::stdout().put(&format!(
        "two pretend clusters are up in {dir} ({:?}):\n  prod  {}\n  dr    {}\n\ninventory    {}\nknown_hosts  {dir}/known_hosts\nkey          {dir}/id_ed25519\n\ntry:\n  cd {dir}\n  ferry ping\n  ferry backup prod\n  ferry points list\nstop with:\n  ferry sandbox down --dir {dir}\n",
        up.mode,
        ports(up, "prod"),
        ports(up, "dr"),
        up.inventory.display(),
    ));
}

fn ports(up: &sandbox::Up, cluster: &str) -> String {
    let nodes: Vec<String> = up
        .nodes
        .iter()
        .filter(|node| node.cluster == cluster)
        .map(|node| format!("{} 127.0.0.1:{}", node.name, node.port))
        .collect();
    nodes.join(", ")
}

pub(super) fn run(command: SandboxCommand) -> Result<u8, Failure> {
    match command {
        SandboxCommand::Up(args) => tell(&sandbox::up(&args.dir, &options(&args)?)?),
        SandboxCommand::Down { dir } => {
            sandbox::down(&dir)?;
            crate::report::say(&format!("stopped; its files stay in {}\n", dir.display()));
        }
        SandboxCommand::Faults { json: true } => {
            let all: Vec<serde_json::Value> = sandbox::pretend::FAULTS
                .iter()
                .map(|fault| serde_json::json!({"fault": fault.name, "values": fault.values, "does": fault.does}))
                .collect();
            Sink::stdout().put(&format!("{}\n", serde_json::to_string_pretty(&all).unwrap_or_default()));
        }
        SandboxCommand::Faults { json: false } => {
            let mut table = Table::new(["fault", "values", "what it does"]);
            for fault in sandbox::pretend::FAULTS {
                table.row([fault.name, fault.values, fault.does]);
            }
            table.print();
        }
        SandboxCommand::Serve(args) => {
            let options = options(&args)?;
            super::block_on(async { sandbox::serve_foreground(&args.dir, &options, tell).await })?;
        }
    }
    Ok(0)
}
