//! `ferry playbooks`: what is inside the binary, and how to change it.

use std::path::PathBuf;

use super::args::PlaybooksCommand;
use crate::failure::{Failure, Kind};
use crate::report::Sink;

/// The playbooks that are inside, with their texts.
pub(super) const INSIDE: &[(&str, &str)] = &[
    ("backup", include_str!("../../playbooks/backup.yml")),
    ("restore", include_str!("../../playbooks/restore.yml")),
    ("drill", include_str!("../../playbooks/drill.yml")),
    ("logs", include_str!("../../playbooks/logs.yml")),
    ("migrate", include_str!("../../playbooks/migrate.yml")),
];

/// A playbook by name: the changed copy beside the `ferry.toml` in force, else the one inside.
/// Returns where it is from, its text, and whether it is a changed copy.
pub(super) fn find(name: &str, config: Option<&std::path::Path>) -> Result<(String, String, bool), Failure> {
    let (_, inside) = INSIDE
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| Failure::new(Kind::Bug, format!("no playbook {name} is inside")))?;
    let copy = config.and_then(|toml| toml.parent()).map(|folder| folder.join("playbooks").join(format!("{name}.yml")));
    match copy {
        Some(path) if path.exists() => {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", path.display())))?;
            let changed = text != *inside;
            Ok((path.display().to_string(), text, changed))
        }
        _ => Ok((format!("playbooks/{name}.yml (inside ferry)"), (*inside).to_owned(), false)),
    }
}

pub(super) fn run(command: &PlaybooksCommand) -> Result<u8, Failure> {
    match command {
        PlaybooksCommand::List => {
            for (name, text) in INSIDE {
                let about = text.lines().next().unwrap_or_default().trim_start_matches('#').trim();
                Sink::stdout().put(&format!("{name:<10} {about}\n"));
            }
        }
        PlaybooksCommand::Export { name } => {
            let (_, text) = INSIDE.iter().find(|(known, _)| known == name).ok_or_else(|| {
                Failure::new(Kind::Usage, format!("no playbook {name:?} is inside")).mend("see: ferry playbooks list")
            })?;
            let settings = super::open::settings(&[], None, None, None)?;
            let folder = settings
                .file
                .as_ref()
                .and_then(|toml| toml.parent())
                .map_or_else(|| PathBuf::from("playbooks"), |folder| folder.join("playbooks"));
            std::fs::create_dir_all(&folder)
                .map_err(|error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", folder.display())))?;
            let path = folder.join(format!("{name}.yml"));
            let marked = format!("# exported by ferry {}\n{text}", env!("CARGO_PKG_VERSION"));
            let mut options = std::fs::OpenOptions::new();
            let written = options
                .write(true)
                .create_new(true)
                .open(&path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, marked.as_bytes()));
            written.map_err(|error| {
                Failure::new(Kind::CouldNotStart, format!("{}: {error}", path.display()))
                    .why("a copy that is there is never overwritten")
            })?;
            Sink::stdout().put(&format!("{}\n", path.display()));
        }
    }
    Ok(0)
}
