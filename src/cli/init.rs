//! `ferry init`: files to start from. Nothing that is there is overwritten.

use super::args::InitArgs;
use crate::failure::{Failure, Kind};
use crate::report::Sink;

const INVENTORY: &str = include_str!("../../inventory/start.yml");

const SETTINGS: &str = "# ferry's settings. Flags and FERRY_* variables win over them. Paths are relative to this file.
inventory = \"inventory\"
catalog = \"catalog\"      # recovery points; best on a disk that is not on this machine
runs = \"runs\"            # journals and logs of every run
forks = 10
";

pub(super) fn run(args: &InitArgs) -> Result<u8, Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let cannot = |path: &std::path::Path, error: &std::io::Error| {
        Failure::new(Kind::CouldNotStart, format!("{}: {error}", path.display()))
    };
    let files = [(args.dir.join("ferry.toml"), SETTINGS), (args.dir.join("inventory").join("hosts.yml"), INVENTORY)];
    let there: Vec<Failure> = files
        .iter()
        .filter(|(path, _)| path.exists())
        .map(|(path, _)| {
            Failure::new(Kind::CouldNotStart, format!("{} is there already and is not overwritten", path.display()))
                .mend("name another folder: ferry init DIR")
        })
        .collect();
    if let Some(failure) = Failure::all(there) {
        return Err(failure);
    }
    let folder = args.dir.join("inventory");
    std::fs::create_dir_all(&folder).map_err(|error| cannot(&folder, &error))?;
    for (path, text) in &files {
        std::fs::write(path, text).map_err(|error| cannot(path, &error))?;
        Sink::stdout().put(&format!("{}\n", path.display()));
    }
    for name in ["catalog", "runs"] {
        let dir = args.dir.join(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| cannot(&dir, &error))?;
    }
    let here = args.dir == std::path::Path::new(".");
    let enter = if here { String::new() } else { format!("  0. cd {}\n", args.dir.display()) };
    Sink::stdout().put(&format!(
        "\nnext:\n{enter}  1. write your hosts into inventory/hosts.yml\n  2. record their keys: mkdir -m 700 -p ~/.ssh; ssh-keyscan ADDRESS >> ~/.ssh/known_hosts, and compare the fingerprints\n  3. ferry ping\n  4. ferry backup CLUSTER --check\n  5. ferry backup CLUSTER\n",
    ));
    Ok(0)
}
