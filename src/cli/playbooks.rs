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

/// The first line of a copy that was written out.
const EXPORTED: &str = "# exported by ferry ";
/// So many lines of a difference stand on the first screen.
const MOST: usize = 24;

/// The lines that are in one text and not in the other: `- ` of the first, `+ ` of the second, in their order.
fn difference(before: &str, after: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // How many lines the rests have in common, at most. Playbooks have a few hundred lines.
    let wide = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * wide];
    let at = |i: usize, j: usize| i * wide + j;
    let get = |common: &[u32], i: usize, j: usize| common.get(at(i, j)).copied().unwrap_or(0);
    for (i, line) in old.iter().enumerate().rev() {
        for (j, other) in new.iter().enumerate().rev() {
            let best = if line == other {
                get(&common, i + 1, j + 1) + 1
            } else {
                get(&common, i + 1, j).max(get(&common, i, j + 1))
            };
            if let Some(slot) = common.get_mut(at(i, j)) {
                *slot = best;
            }
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    loop {
        match (old.get(i), new.get(j)) {
            (Some(line), Some(other)) if line == other => (i, j) = (i + 1, j + 1),
            (Some(line), other) if other.is_none() || get(&common, i + 1, j) >= get(&common, i, j + 1) => {
                out.push(format!("- {line}"));
                i += 1;
            }
            (_, Some(other)) => {
                out.push(format!("+ {other}"));
                j += 1;
            }
            _ => return out,
        }
    }
}

/// What the first screen says of a copy: nothing where it is what is inside as well.
fn told(path: &str, text: &str, inside: &str) -> Vec<String> {
    let (made_by, body) = match text.strip_prefix(EXPORTED).and_then(|rest| rest.split_once('\n')) {
        Some((version, body)) => (Some(version.trim()), body),
        None => (None, text),
    };
    if body == inside {
        return Vec::new();
    }
    let mut lines = vec![format!("playbook   a changed copy is used: {path}")];
    let here = env!("CARGO_PKG_VERSION");
    if let Some(version) = made_by.filter(|version| *version != here) {
        lines.push(format!(
            "playbook   ferry {version} wrote it out, this is {here}; from the copy to what is inside now:"
        ));
        let all = difference(body, inside);
        lines.extend(all.iter().take(MOST).map(|line| format!("  {line}")));
        if all.len() > MOST {
            lines.push(format!("  … and {} lines more", all.len() - MOST));
        }
        lines.push("playbook   take over what you want, then set its first line to this version".to_owned());
    }
    lines
}

/// A playbook by name: the changed copy beside the `ferry.toml` in force, else the one inside.
/// Returns where it is from, its text, and what the first screen says of a changed copy.
pub(super) fn find(name: &str, config: Option<&std::path::Path>) -> Result<(String, String, Vec<String>), Failure> {
    let (_, inside) = INSIDE
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| Failure::new(Kind::Bug, format!("no playbook {name} is inside")))?;
    let copy = config.and_then(|toml| toml.parent()).map(|folder| folder.join("playbooks").join(format!("{name}.yml")));
    match copy {
        Some(path) if path.exists() => {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", path.display())))?;
            let path = path.display().to_string();
            let lines = told(&path, &text, inside);
            Ok((path, text, lines))
        }
        _ => Ok((format!("playbooks/{name}.yml (inside ferry)"), (*inside).to_owned(), Vec::new())),
    }
}

pub(super) fn run(command: &PlaybooksCommand) -> Result<u8, Failure> {
    match command {
        PlaybooksCommand::List { json } => {
            let about = |text: &str| text.lines().next().unwrap_or_default().trim_start_matches('#').trim().to_owned();
            if *json {
                let all: Vec<serde_json::Value> =
                    INSIDE.iter().map(|(name, text)| serde_json::json!({"name": name, "about": about(text)})).collect();
                Sink::stdout().put(&format!("{}\n", serde_json::to_string_pretty(&all).unwrap_or_default()));
            } else {
                for (name, text) in INSIDE {
                    crate::report::say(&format!("{name:<10} {}\n", about(text)));
                }
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
            let marked = format!("{EXPORTED}{}\n{text}", env!("CARGO_PKG_VERSION"));
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
            crate::report::say(&format!("{}\n", path.display()));
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_told_only_where_it_differs_and_an_older_one_with_how() {
        let inside = "a\nb\nc\nd\n";
        let here = env!("CARGO_PKG_VERSION");
        assert_eq!(told("p", inside, inside), Vec::<String>::new());
        assert_eq!(told("p", &format!("{EXPORTED}{here}\n{inside}"), inside), Vec::<String>::new());
        assert_eq!(told("p", &format!("{EXPORTED}0.0.1\n{inside}"), inside), Vec::<String>::new());
        let own = told("p", &format!("{EXPORTED}{here}\na\nc\n"), inside);
        assert_eq!(own, ["playbook   a changed copy is used: p"]);
        let older = told("p", &format!("{EXPORTED}0.0.1\na\nx\nc\n"), inside);
        assert_eq!(older.get(2..5), Some(["  - x", "  + b", "  + d"].map(str::to_owned).as_slice()), "{older:?}");
        assert!(older[1].contains("ferry 0.0.1 wrote it out"), "{older:?}");
        let long: String = (0..100).map(|line| format!("{line}\n")).collect();
        assert_eq!(told("p", &format!("{EXPORTED}0.0.1\nq\n"), &long).len(), 4 + MOST);
    }

    #[test]
    fn differences_are_the_fewest_lines() {
        assert_eq!(difference("a\nb\nc", "a\nc\nd"), ["- b", "+ d"]);
        assert_eq!(difference("", "x"), ["+ x"]);
        assert_eq!(difference("x", ""), ["- x"]);
        assert!(difference("x\ny", "x\ny").is_empty());
    }
}
