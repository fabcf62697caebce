//! The house stands: imports go down the floors that `lib.rs` writes, russh is seen in
//! `remote/ssh` only, work and reports never meet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Rooms with the number of their floor.
fn rooms(map: &str) -> BTreeMap<String, usize> {
    let (mut floor, mut rooms) = (0, BTreeMap::new());
    for line in map.lines() {
        if line.starts_with("// floor:") {
            floor += 1;
        } else if let Some(room) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            rooms.insert(room.to_owned(), floor);
        }
    }
    rooms
}

/// The rooms that a file names with `crate::ROOM`. `use crate::{a, b}` on one line is read as well.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + 7..];
            let Some(group) = rest.strip_prefix('{') else {
                found.push((number + 1, rest.to_owned()));
                continue;
            };
            let (mut depth, mut word) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push((number + 1, std::mem::take(&mut word))),
                    c if depth == 0 => word.push(c),
                    _ => {}
                }
            }
            found.push((number + 1, word));
        }
    }
    for (_, name) in &mut found {
        let trimmed = name.trim_start();
        let end = trimmed.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(trimmed.len());
        *name = trimmed[..end].to_owned();
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

/// `file:line: what` for every import that climbs.
fn climbing(map: &str, files: &[(String, String)]) -> Vec<String> {
    let rooms = rooms(map);
    let mut wrong = Vec::new();
    for (name, text) in files {
        let room = name.split(['/', '.']).next().unwrap_or_default();
        let Some(floor) = rooms.get(room) else { continue };
        for (line, other) in imports(text) {
            if rooms.get(&other).is_some_and(|other_floor| other_floor > floor) {
                wrong.push(format!("{name}:{line}: {room} imports {other}, which is above it"));
            }
        }
    }
    wrong
}

fn all() -> Vec<(String, String)> {
    let mut files = Vec::new();
    rust_files(&source(), &mut files);
    files
        .iter()
        .map(|path| {
            (path.strip_prefix(source()).unwrap().display().to_string(), std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[test]
fn imports_go_down_only() {
    let map = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    assert!(rooms(&map).len() > 10, "the map was not read");
    let wrong = climbing(&map, &all());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn work_and_report_never_meet() {
    for (name, text) in all() {
        let other = match name.split('/').next() {
            Some("run" | "modules" | "plan") => "report",
            Some("report") => "run",
            _ => continue,
        };
        assert!(!imports(&text).iter().any(|(_, room)| room == other), "{name} imports {other}");
    }
}

#[test]
fn every_room_is_on_the_map_and_opens_with_what_lives_there() {
    let map = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let rooms = rooms(&map);
    for (name, text) in all() {
        let room = name.split(['/', '.']).next().unwrap();
        assert!(rooms.contains_key(room) || ["lib", "main"].contains(&room), "{name} is on no floor of lib.rs");
        assert!(text.starts_with("//!"), "{name} does not open with //!");
    }
}

#[test]
fn russh_is_seen_in_one_folder() {
    for (name, text) in all() {
        if name.starts_with("remote/ssh/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            assert!(!code.contains("russh::") && !code.contains("use russh"), "{name}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn an_import_that_climbs_is_found() {
    let map = "// floor: a\npub mod low;\n// floor: b\npub mod high;\n";
    let file = |text: &str| vec![("low/x.rs".to_owned(), text.to_owned())];
    assert_eq!(climbing(map, &file("use crate::high::Thing;")).len(), 1);
    assert_eq!(climbing(map, &file("use crate::{low::a, high};")).len(), 1);
    assert_eq!(climbing(map, &file("fn f() { crate::high::g() }")).len(), 1);
    assert_eq!(climbing(map, &file("// crate::high is above\nuse crate::low::x;")).len(), 0);
}
