//! The first hour and the book: what README and docs tell to type is typed here, against the sandbox; what is made of the
//! code is compared with it; every link leads somewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ferry::codes;
use ferry::sandbox::pretend::Generation;
use ferry::sandbox::{self, Options};
use support::bed::{Bed, ferry, run_limited};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page: README, README.ja, ARCHITECTURE and the book.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> =
        ["README.md", "README.ja.md", "ARCHITECTURE.md"].iter().map(|name| root().join(name)).collect();
    let mut docs: Vec<PathBuf> = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    docs.sort();
    pages.extend(docs);
    pages
}

/// The fenced blocks of a page: language, first line's number, text.
fn blocks(text: &str) -> Vec<(String, usize, String)> {
    let (mut blocks, mut open): (Vec<(String, usize, String)>, bool) = (Vec::new(), false);
    for (number, line) in text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            open = !open;
            if open {
                blocks.push((language.trim().to_owned(), number + 2, String::new()));
            }
        } else if open {
            let last = blocks.last_mut().unwrap();
            last.2.push_str(line);
            last.2.push('\n');
        }
    }
    assert!(!open, "a block is not closed");
    blocks
}

/// Pages of the book that a person follows by typing; each begins in a fresh folder of pretend clusters, whose hook takes so
/// many pretended seconds.
const TYPED: &[(&str, f64)] = &[
    ("README.md", 30.0),
    ("README.ja.md", 30.0),
    ("docs/getting-started.md", 30.0),
    ("docs/backup.md", 30.0),
    ("docs/restore.md", 30.0),
    ("docs/migrate.md", 30.0),
    ("docs/transfer.md", 30.0),
    ("docs/playbooks.md", 30.0),
    // A backup is killed there while it runs.
    ("docs/look.md", 240.0),
    ("docs/catalog.md", 30.0),
    ("docs/schedule.md", 30.0),
    ("docs/reports.md", 30.0),
];

/// The lines of a page that tell somebody to type something, and that no test types.
fn unexecuted(name: &str, text: &str) -> Vec<String> {
    let typed = TYPED.iter().any(|(page, _)| *page == name);
    let command = |line: &str| {
        let line = line.trim_start().trim_start_matches("$ ").trim_start_matches("# ");
        line.starts_with("ferry ") || line.starts_with("sudo ")
    };
    let mut wrong = Vec::new();
    let mut open: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let mut add = |what: &str| wrong.push(format!("{name}:{}: {what}: {line}", number + 1));
        if let Some(language) = line.strip_prefix("```") {
            open = match open {
                Some(_) => None,
                None => {
                    match language.trim() {
                        "sh" if typed => {}
                        "sh" => add("a block to type on a page that is not in TYPED"),
                        // These two are compared with what CI does.
                        "sh ci" if name.starts_with("README") => {}
                        "text" | "" => {}
                        _ => add("a block of a kind that nobody types: sh is typed, text is output"),
                    }
                    Some(language.trim().to_owned())
                }
            };
        } else if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            add("a block that the test does not see: ``` at the beginning of a line is expected");
        } else if let Some(language) = &open {
            // The reference shows how commands are used; tests/snapshots.rs types each.
            if ["text", ""].contains(&language.as_str()) && command(line) && name != "docs/reference-commands.md" {
                add("a command in a block that is not typed");
            }
        } else if line.starts_with("    ") && command(line) {
            add("a command in a block that is not typed");
        }
    }
    wrong
}

#[test]
fn a_block_that_nobody_types_is_found() {
    assert_eq!(unexecuted("README.md", "```sh\nferry ping\n```\n```text\nplay prod\n```\n"), [""; 0]);
    for (name, text, line) in [
        ("docs/format.md", "x\n```sh\nferry ping\n```\n", 2),
        ("README.md", "```bash\nferry ping\n```\n", 1),
        ("README.md", "```console\n$ ferry ping\n```\n", 1),
        ("README.md", "```\nferry ping\n```\n", 2),
        ("README.md", "```text\n$ ferry ping\n```\n", 2),
        ("docs/backup.md", "```sh ci\ntests/run\n```\n", 1),
        ("README.md", "1. So:\n   ```sh\n   ferry ping\n   ```\n", 2),
        ("README.md", "~~~\nferry ping\n~~~\n", 1),
        ("README.md", "So:\n\n    ferry ping\n", 3),
        ("README.md", "So:\n\n    $ sudo ferry ping\n", 3),
    ] {
        let found = unexecuted(name, text);
        assert!(found.iter().any(|found| found.starts_with(&format!("{name}:{line}: "))), "{text}\n{found:?}");
    }
}

#[test]
fn every_command_block_does_what_it_says() {
    let (mut wrong, mut there) = (Vec::new(), BTreeSet::new());
    for page in pages() {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let text = std::fs::read_to_string(&page).unwrap();
        wrong.extend(unexecuted(&name, &text));
        let begins = text.lines().enumerate().filter(|(_, line)| *line == "```sh");
        there.extend(begins.map(|(number, _)| (name.clone(), number + 2)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The two commands of the beginning are what CI does itself: a test that typed them would call itself.
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    for line in ["cargo run --locked --release", "tests/run"] {
        assert!(ci.contains(line), ".ci/run does not do {line}");
    }
    for name in ["README.md", "README.ja.md"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        let block = blocks(&text).into_iter().find(|(language, _, _)| language == "sh ci").unwrap();
        let lines: Vec<&str> = block.2.lines().map(|line| line.split('#').next().unwrap().trim()).collect();
        assert_eq!(lines, ["cargo run --locked --release -- demo", "tests/run"], "{name}");
    }
    let began = Instant::now();
    let only = std::env::var("FERRY_TOUR_PAGE").ok();
    let log = tempfile::NamedTempFile::new().unwrap();
    let (mut executed, mut wrong) = (BTreeSet::new(), Vec::new());
    // Pages wait for their clusters most of the time: two go at once.
    let todo = std::sync::Mutex::new(TYPED.iter().filter(|(name, _)| only.as_deref().is_none_or(|page| page == *name)));
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut executed, mut wrong) = (Vec::new(), Vec::new());
                    loop {
                        let next = todo.lock().unwrap().next();
                        let Some((name, hook_seconds)) = next else { return (executed, wrong) };
                        match type_page(name, *hook_seconds, log.path()) {
                            Ok(lines) => executed.extend(lines.into_iter().map(|line| ((*name).to_owned(), line))),
                            Err(said) => wrong.push(said),
                        }
                    }
                })
            })
            .collect();
        for lane in lanes {
            let (lines, said) = lane.join().unwrap();
            executed.extend(lines);
            wrong.extend(said);
        }
    });
    println!("all of them in {:.0} s", began.elapsed().as_secs_f64());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    if only.is_some() {
        return;
    }
    assert_eq!(executed, there, "blocks that were typed, and blocks that there are");

    // Every command was among them, as ferry itself was called; and the newest things that they can do.
    let called = std::fs::read_to_string(log.path()).unwrap();
    let calls: Vec<&str> = called.lines().collect();
    let was = |words: &str| calls.iter().any(|call| *call == words || call.starts_with(&format!("{words} ")));
    let book = std::fs::read_to_string(root().join("docs/reference-commands.md")).unwrap();
    let all: Vec<&str> = book.lines().filter_map(|line| line.strip_prefix("## ferry ")).collect();
    let leaves = all.iter().filter(|name| !all.iter().any(|other| other.starts_with(&format!("{name} "))));
    // CI itself does the demo, as README's first block tells.
    let missing: Vec<&&str> = leaves.filter(|name| **name != "demo" && !was(name)).collect();
    assert!(missing.is_empty(), "commands that README and docs never tell to type: {missing:?}");
    for words in [
        "transfer .* --via direct",
        "transfer .* --limit-rate ",
        "backup .* --hold ",
        "backup .* --if-older-than ",
        "backup .* --output json",
        "backup .* --junit ",
        "restore .* --check",
        "restore .* --confirm dr",
        "restore .* --identity ",
        "migrate .* --confirm dr",
        "drill .* --confirm dr",
        "points verify .*--identity ",
        "points delete .* --undo",
        "points check .* --max-age ",
        "points check .* --drilled-within ",
        "points prune .* --check",
        "jobs cancel .* --hook",
        "jobs clean --staging ",
        "runs replay .* --speed ",
        "init .*--schedule ",
        "doc --schema",
        "exec .* --gather",
        "inventory list .*--yaml",
    ] {
        let pattern = regex::Regex::new(&format!("^{words}")).unwrap();
        assert!(calls.iter().any(|call| pattern.is_match(call)), "README and docs never tell to type: ferry {words}");
    }
}

/// Types the blocks of a page, one after the other, in a folder of pretend clusters. The lines where they begin; or what was
/// said where one failed. Each call of ferry is written into `log`.
fn type_page(name: &str, hook_seconds: f64, log: &Path) -> Result<Vec<usize>, String> {
    let text = std::fs::read_to_string(root().join(name)).unwrap();
    let typed: Vec<_> = blocks(&text).into_iter().filter(|(language, _, _)| language == "sh").collect();
    assert!(!typed.is_empty(), "{name} has nothing to type");
    let dir = tempfile::Builder::new().prefix("ferry-tour").tempdir().unwrap();
    let (bin, home) = (dir.path().join("bin"), dir.path().join("home"));
    std::fs::create_dir_all(home.join(".local/share/bash-completion/completions")).unwrap();
    std::fs::create_dir(&bin).unwrap();
    let wrapper = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >>'{}'\nexec '{}' \"$@\"\n",
        log.display(),
        env!("CARGO_BIN_EXE_ferry")
    );
    std::fs::write(bin.join("ferry"), wrapper).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("ferry"), mode).unwrap();
    let options = Options {
        exe: Some(PathBuf::from(env!("CARGO_BIN_EXE_ferry"))),
        time_scale: 60.0,
        hook_seconds,
        archive_mib: 2,
        ..Options::default()
    };
    let up = sandbox::up(&dir.path().join("work"), &options).unwrap();
    let mut lines = Vec::new();
    for (_, line, block) in &typed {
        let at = Instant::now();
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", block]).current_dir(&up.dir).env_clear();
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", bin.display()));
        command
            .env("HOME", &home)
            .env("LANG", "C.UTF-8")
            .env("USER", "operator")
            .env("FERRY_LINK_PATIENCE", "20")
            .env("XDG_CONFIG_HOME", home.join(".config"));
        let said = run_limited(command, Duration::from_secs(120));
        println!("{name}:{line} exit {} in {:.1} s", said.code, at.elapsed().as_secs_f64());
        if said.code != 0 {
            let _ = sandbox::down(&up.dir);
            return Err(format!("{name}:{line}: exit {}\n{block}\n{}", said.code, said.all()));
        }
        lines.push(*line);
    }
    let _ = sandbox::down(&up.dir);
    Ok(lines)
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept: String = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect();
    kept.trim().replace(' ', "-")
}

/// A page by its headings of the second level: of each part what no language changes, names in `…` and links; and all that is
/// typed, without remarks.
fn bones(text: &str) -> (Vec<(BTreeSet<String>, BTreeSet<String>)>, Vec<String>, Vec<String>) {
    let code = regex::Regex::new("`([^`]+)`").unwrap();
    let link = regex::Regex::new(r"\]\(([^)]+)\)").unwrap();
    let typed = blocks(text)
        .iter()
        .filter(|(language, _, _)| language.starts_with("sh"))
        .flat_map(|(_, _, block)| block.lines().map(|line| line.split(" # ").next().unwrap().trim().to_owned()))
        .collect();
    let (mut prose, mut open) = (String::new(), false);
    for line in text.lines() {
        open ^= line.starts_with("```");
        if !open && !line.starts_with("```") {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    let rows = prose.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split('|').nth(1));
    let rows = rows.map(|cell| cell.trim().to_owned()).skip(1).collect();
    let parts = prose
        .split("\n## ")
        .map(|part| {
            let all = |pattern: &regex::Regex| {
                let found =
                    pattern.captures_iter(part).map(|found| found[1].split_whitespace().collect::<Vec<_>>().join(" "));
                found.filter(|text| !text.starts_with("README")).collect::<BTreeSet<_>>()
            };
            (all(&code), all(&link))
        })
        .collect();
    (parts, typed, rows)
}

#[test]
fn both_languages_tell_the_same() {
    let read = |name: &str| bones(&std::fs::read_to_string(root().join(name)).unwrap());
    let ((english, typed, rows), (japanese, typed_too, rows_too)) = (read("README.md"), read("README.ja.md"));
    assert_eq!(typed, typed_too);
    assert_eq!(rows, rows_too);
    assert_eq!(english.len(), japanese.len(), "parts");
    for (number, (one, other)) in english.iter().zip(&japanese).enumerate() {
        assert_eq!(one, other, "part {number}");
    }
    // What it compares by can differ.
    let (mut one, mut other) = (bones("# a\n\n## b\n`x` [l](m.md)\n"), bones("# a\n\n## c\n`y` [k](m.md)\n"));
    assert_ne!(one.0, other.0);
    (one, other) = (bones("## b\n```sh\nferry ping # all\n```\n"), bones("## c\n```sh\nferry ping # alle\n```\n"));
    assert_eq!(one, other);
}

/// What stands in `…` and begins with `ferry` is a command that there is, with options that it has.
#[test]
fn commands_in_prose_are_commands_that_there_are() {
    let code = regex::Regex::new("`(ferry [^`]+)`").unwrap();
    let option = regex::Regex::new(r"(--[a-z][a-z-]+)").unwrap();
    let book = std::fs::read_to_string(root().join("docs/reference-commands.md")).unwrap();
    let mut known: std::collections::BTreeMap<&str, &str> = std::collections::BTreeMap::new();
    for part in book.split("\n## ferry ").skip(1) {
        let (name, text) = part.split_once('\n').unwrap();
        known.insert(name, text);
    }
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages() {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let text = std::fs::read_to_string(&page).unwrap().replace('\n', " ");
        for found in code.captures_iter(&text) {
            let words: Vec<&str> = found[1].split_whitespace().skip(1).collect();
            if words.is_empty() || !words[0].starts_with(|c: char| c.is_ascii_lowercase()) {
                continue;
            }
            count += 1;
            let two = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
            let Some((command, told)) = known.get_key_value(two.as_str()).or_else(|| known.get_key_value(words[0]))
            else {
                wrong.push(format!("{name}: {}: there is no such command", &found[1]));
                continue;
            };
            // Options of a group are those of its commands.
            let group: String = known
                .iter()
                .filter(|(name, _)| name.starts_with(&format!("{command} ")))
                .map(|(_, text)| *text)
                .chain([*told])
                .collect();
            let missing = option.captures_iter(&found[1]).find(|found| {
                let word = &found[1];
                !["--help", "--version"].contains(&word)
                    && !group.contains(&format!("{word} "))
                    && !group.contains(&format!("{word}`"))
            });
            if let Some(missing) = missing {
                wrong.push(format!("{name}: {}: {command} has no {}", &found[1], &missing[1]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 60, "{count} commands were found");
}

#[test]
fn every_link_leads_somewhere() {
    let link = regex::Regex::new(r"\[[^\]]*\]\(([^)\s]+)\)").unwrap();
    let file = regex::Regex::new(r"`((?:docs|src|tests)/[A-Za-z0-9_./-]+)`").unwrap();
    let mut count = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let (mut prose, mut open) = (String::new(), false);
        for line in text.lines() {
            open ^= line.starts_with("```");
            if !open {
                prose.push_str(line);
                prose.push('\n');
            }
        }
        for found in link.captures_iter(&prose) {
            let target = &found[1];
            count += 1;
            assert!(!target.contains("://"), "{name}: {target} leads out; the book needs no network");
            let (path, part) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(path.exists(), "{name}: {target} leads nowhere");
            if !part.is_empty() {
                let there = std::fs::read_to_string(&path).unwrap();
                let anchors: Vec<String> = there
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(|line| anchor(line.trim_start_matches('#')))
                    .collect();
                assert!(anchors.contains(&part.to_owned()), "{name}: {target}: there is no such heading: {anchors:?}");
            }
        }
        for found in file.captures_iter(&prose) {
            count += 1;
            assert!(root().join(&found[1]).exists(), "{name} names {}, which is not there", &found[1]);
        }
    }
    assert!(count > 20, "{count} links were found");
}

#[test]
fn what_is_made_of_the_code_is_what_the_code_says() {
    let write = std::env::var_os("FERRY_WRITE").is_some();
    for (name, text) in ferry::cli::reference() {
        let path = root().join("docs").join(name);
        if write {
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == text,
            "docs/{name} is not what the code says now: FERRY_WRITE=1 cargo test --test tour what_is_made"
        );
    }
    // What is told in prose as well.
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for code in [0, 1, 2, 4, 5, 6, 7, 8, 9, 99, 250] {
        assert!(readme.contains(&format!("| {code} | ")), "README does not tell exit code {code}");
    }
    // Variables of the inventory that the code reads stand in the book.
    let book = std::fs::read_to_string(root().join("docs/reference-variables.md")).unwrap();
    let variable = regex::Regex::new(r#""((?:pce|ferry)_[a-z_]+)""#).unwrap();
    let mut read = BTreeSet::new();
    for (path, text) in sources() {
        if path.contains("sandbox") || path.ends_with("tests.rs") || path.contains("cli/examples") {
            continue;
        }
        let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        for found in variable.captures_iter(&text) {
            read.insert(found[1].to_owned());
        }
    }
    let missing: Vec<&String> = read.iter().filter(|name| !book.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in docs/reference-variables.md: {missing:?}");
    assert!(read.len() > 15, "{read:?}");
}

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, into: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut all = Vec::new();
    walk(&root().join("src"), &mut all);
    all
}

#[test]
fn the_words_of_every_code_are_still_said() {
    let sources: String =
        sources().into_iter().filter(|(path, _)| !path.ends_with("src/codes.rs")).map(|(_, text)| text).collect();
    for code in codes::ALL {
        for words in code.words {
            assert!(sources.contains(words), "{}: nothing says {words:?} any more", code.code);
        }
    }
}

#[test]
fn explain_tells_every_code_and_failures_carry_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let call = |words: &[&str]| {
        let mut command = ferry(None, dir.path());
        command.args(words);
        run_limited(command, Duration::from_secs(20))
    };
    let all = call(&["explain"]);
    for code in codes::ALL {
        assert!(all.out.contains(code.code) && all.out.contains(code.title), "{}", code.code);
    }
    call(&["explain", "f411"]).must(0, &["F411: the host key has changed", "mend  "]);
    call(&["explain", "7"]).must(0, &["exit 7: refused: a gate said no"]);
    call(&["explain", "F000"]).must(5, &["there is no code"]);
    assert_eq!(call(&["explain", "--json"]).json().as_array().unwrap().len(), codes::ALL.len());
    call(&["ping"]).must(6, &["no inventory is named", "F601 (ferry explain F601)"]);
    call(&["runs", "show", "x"]).must(1, &["F122"]);
}

#[test]
fn completions_know_clusters_hosts_and_points() {
    let bed = Bed::new(Generation::G7);
    bed.ferry(&["backup", "prod"]).must(0, &[]);
    for shell in ["bash", "zsh", "fish"] {
        let said = bed.ferry(&["completions", shell]);
        said.must(0, &["ferry"]);
        let script = bed.aside(&format!("ferry.{shell}"));
        std::fs::write(&script, &said.out).unwrap();
        if ["bash"].contains(&shell) {
            let checked = Command::new(shell).arg("-n").arg(&script).output().unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }
    bed.ferry(&["completions", "tcsh"]).must(5, &["bash"]);
    // As bash asks: the words so far, and which of them Tab was pressed in.
    let complete = |words: &[&str]| {
        let index = (words.len() - 1).to_string();
        let mut all = vec!["--"];
        all.extend(words);
        let said = bed.ferry_with(
            &all,
            &[
                ("COMPLETE", "bash"),
                ("_CLAP_COMPLETE_INDEX", &index),
                ("_CLAP_COMPLETE_COMP_TYPE", "9"),
                ("_CLAP_COMPLETE_SPACE", "true"),
                ("_CLAP_IFS", "\n"),
            ],
        );
        assert_eq!(said.code, 0, "{}", said.all());
        said.out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["ferry", "backup", "pr"]), ["prod"]);
    assert!(complete(&["ferry", "backup", ""]).contains(&"dr".to_owned()));
    assert!(!complete(&["ferry", "backup", ""]).contains(&"mains".to_owned()));
    let hosts = complete(&["ferry", "ping", "prod-"]);
    assert!(hosts.contains(&"prod-1".to_owned()) && hosts.contains(&"prod-3".to_owned()), "{hosts:?}");
    let points = complete(&["ferry", "restore", ""]);
    assert!(points.contains(&"latest".to_owned()) && points.iter().any(|point| point.starts_with("20")), "{points:?}");
    assert!(complete(&["ferry", "runs", "report", "20"]).len() == 1);
    assert_eq!(complete(&["ferry", "explain", "F41"]), ["F410", "F411"]);
    assert!(complete(&["ferry", "rest"]).contains(&"restore".to_owned()));
    // Nothing to read is no error.
    let empty = tempfile::tempdir().unwrap();
    let mut command = ferry(None, empty.path());
    command.args(["--", "ferry", "backup", ""]).env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2");
    run_limited(command, Duration::from_secs(20)).must(0, &[]);
}

#[test]
fn every_command_has_a_manual_page_that_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = ferry(None, dir.path());
    command.args(["man", "--dir", "man1"]);
    let said = run_limited(command, Duration::from_secs(20));
    said.must(0, &["man1/ferry.1", "man1/ferry-backup.1", "man1/ferry-points-list.1"]);
    for line in said.out.lines() {
        let text = std::fs::read_to_string(dir.path().join(line)).unwrap();
        assert!(text.contains(".TH ") && text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{line}");
    }
    let mut command = ferry(None, dir.path());
    command.args(["man", "points", "list"]);
    run_limited(command, Duration::from_secs(20)).must(0, &["Examples:", ".TH"]);
    let mut command = ferry(None, dir.path());
    command.args(["man", "nothing"]);
    run_limited(command, Duration::from_secs(20)).must(5, &["there is no command"]);
}

#[test]
fn what_init_writes_is_an_inventory_that_ping_accepts() {
    let bed = Bed::new(Generation::G7);
    // The sandbox's own inventory says where its nodes are.
    let text = std::fs::read_to_string(&bed.up.inventory).unwrap();
    let port = |name: &str| {
        let near = &text[text.find(&format!("{name}:")).unwrap()..];
        let from = near.find("ansible_port").unwrap();
        near[from..].chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect::<String>()
    };
    let dir = bed.aside("mine");
    let key = bed.up.key.display().to_string();
    let port = port("prod-1");
    let said = bed.ferry(&[
        "init",
        dir.to_str().unwrap(),
        "--cluster",
        "prod",
        "--host",
        "prod-1=127.0.0.1",
        "--user",
        "root",
        "--private-key",
        &key,
        "--port",
        &port,
    ]);
    said.must(0, &["ferry.toml", "hosts.yml", "ferry ping"]);
    let known = bed.up.dir.join("known_hosts");
    let mut command = ferry(Some(&dir.join("ferry.toml")), &dir);
    command.args(["ping", "--ssh-common-args", &format!("-o UserKnownHostsFile={}", known.display()), "--json"]);
    let said = run_limited(command, Duration::from_secs(30));
    assert_eq!(said.code, 0, "{}", said.all());
    // Nothing is overwritten; bad answers are told.
    bed.ferry(&["init", dir.to_str().unwrap()]).must(1, &["is there already and is not overwritten", "F140"]);
    bed.ferry(&["init", "x", "--cluster", "mains", "--host", "a"]).must(5, &["the name of a role"]);
    bed.ferry(&["init", "x", "--cluster", "prod", "--host", "a b"]).must(5, &["is no host"]);
    bed.ferry(&["init", "x", "--at", "24:00"]).must(5, &["HH:MM is expected"]);
    assert!(!bed.aside("x").exists());
}

/// What a checker says of a file.
fn checked(dir: &Path, program: &str, words: &[&str]) {
    let packages = root().join("target/checkers");
    let out = Command::new(program).args(words).current_dir(dir).env("PYTHONPATH", packages).output();
    let out = out.unwrap_or_else(|error| panic!("{program} is needed, tests/run installs it: {error}"));
    assert!(
        out.status.success(),
        "{program} {words:?}\n{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    println!("{program} {words:?}: {}", String::from_utf8_lossy(&out.stdout).trim());
}

#[test]
fn every_schedule_passes_its_own_checker() {
    let dir = tempfile::Builder::new().prefix("ferry-schedule").tempdir().unwrap();
    let call = |words: &[&str]| {
        let mut command = ferry(None, dir.path());
        command.args(words);
        run_limited(command, Duration::from_secs(20))
    };
    let all = "cron,systemd,github,gitlab,jenkins,kubernetes";
    let said = call(&["init", ".", "--schedule", all, "--cluster", "prod", "--at", "03:05"]);
    said.must(0, &["ferry.toml", "schedule/ferry-backup-prod.timer", "Jenkinsfile.prod"]);
    checked(
        dir.path(),
        "systemd-analyze",
        &["verify", "--man=no", "./schedule/ferry-backup-prod.service", "./schedule/ferry-backup-prod.timer"],
    );
    checked(dir.path(), "systemd-analyze", &["calendar", "*-*-* 03:05:00"]);
    checked(
        dir.path(),
        "python3",
        &[
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.github-workflows",
            ".github/workflows/ferry-backup-prod.yml",
        ],
    );
    checked(
        dir.path(),
        "python3",
        &[
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.gitlab-ci",
            "--data-transform",
            "gitlab-ci",
            "schedule/ferry-backup-prod.gitlab-ci.yml",
        ],
    );
    const KUBERNETES: &str = "import sys, yaml, kubernetes_validate as k\ndoc = yaml.safe_load(open(sys.argv[1]))\nv = k.latest_version()\nk.validate(doc, v, strict=True)\nprint('Kubernetes', v, doc['kind'])";
    checked(dir.path(), "python3", &["-c", KUBERNETES, "schedule/ferry-backup-prod.kubernetes.yaml"]);
    const CRON: &str = "import sys\nfrom crontab import CronTab\nt = CronTab(tabfile=sys.argv[1], user=False)\njobs = list(t)\nassert len(jobs) == 2, jobs\nfor j in jobs: assert j.is_valid() and j.user == 'root', j\nassert str(jobs[0].slices) == '5 3 * * *', jobs[0].slices\nprint(jobs[0].command)";
    checked(dir.path(), "python3", &["-c", CRON, "schedule/ferry-backup-prod.cron"]);
    // Jenkins' own checker lives in a Jenkins. What it reads first is Groovy: a grammar of that, which must refuse the
    // same file with one thing wrong in it.
    const GROOVY: &str = "import sys, tree_sitter_groovy as groovy\nfrom tree_sitter import Language, Parser\nread = Parser(Language(groovy.language())).parse\ntext = open(sys.argv[1], 'rb').read()\nassert not read(text).root_node.has_error\nfor what, wrong in [(b\"'HOURS'\", b\"'HOURS\"), (b\"stages {\", b\"stages {{\"), (b\"junit allow\", b\"junit : allow\")]:\n    assert what in text and read(text.replace(what, wrong)).root_node.has_error, wrong\nprint('Groovy')";
    checked(dir.path(), "python3", &["-c", GROOVY, "schedule/Jenkinsfile.prod"]);
    // Every call of ferry in them is one that ferry reads: --help ends each before anything is done.
    let call_of = regex::Regex::new(r"(?m)(?:ferry|\S*/ferry) ((?:backup|points check) [^\n&|#']*)").unwrap();
    let mut count = 0;
    for entry in ["schedule", ".github/workflows"] {
        for file in std::fs::read_dir(dir.path().join(entry)).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            for found in call_of.captures_iter(&text) {
                let line = found[1].split("${").next().unwrap().split('>').next().unwrap();
                let mut words: Vec<&str> = line.split_whitespace().collect();
                words.push("--help");
                assert_eq!(call(&words).code, 0, "{}: {line}", path.display());
                count += 1;
            }
        }
    }
    assert!(count >= 9, "{count}");
    // Beside settings that are there, only the schedule is written; twice is refused.
    call(&["init", ".", "--schedule", "cron", "--cluster", "dr"])
        .must(0, &["ferry-backup-dr.cron"])
        .never("ferry.toml");
    call(&["init", ".", "--schedule", "cron", "--cluster", "dr"]).must(1, &["is there already"]);
}

#[test]
fn nobody_is_asked_without_a_terminal() {
    let bed = Bed::new(Generation::G7);
    // Each names the flag, and where there is one the variable, that gives the answer.
    bed.ferry(&["ping", "prod", "-K"]).must(
        1,
        &["there is no terminal to ask at", "--become-password-file FILE", "--become-password-env NAME", "F101"],
    );
    bed.ferry(&["ping", "prod", "-k"])
        .must(1, &["there is no terminal to ask at", "--connection-password-file FILE", "F101"]);
    std::fs::write(
        bed.aside("asks.yml"),
        "- hosts: prod-1\n  gather_facts: false\n  vars_prompt:\n    - name: ticket\n      prompt: Which ticket\n  tasks:\n    - debug: { msg: x }\n",
    )
    .unwrap();
    std::fs::write(bed.aside("vault.yml"), "$ANSIBLE_VAULT;1.1;AES256\n6161\n").unwrap();
    let locked = bed.aside("locked");
    std::fs::copy(&bed.up.key, &locked).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&locked, mode).unwrap();
    let changed =
        Command::new("ssh-keygen").args(["-q", "-p", "-P", "", "-N", "open sesame", "-f"]).arg(&locked).output();
    assert!(changed.unwrap().status.success());
    let inventory = bed.inventory("locked.yml", &[(bed.up.key.to_str().unwrap(), locked.to_str().unwrap())]);
    let questions: &[(&[&str], &[&str])] = &[
        (&["ping", "prod", "-K"], &["--become-password-file FILE", "FERRY_BECOME_PASSWORD_FILE=FILE"]),
        (&["backup", "prod", "-K"], &["--become-password-file FILE", "FERRY_BECOME_PASSWORD_FILE=FILE"]),
        (&["ping", "prod", "-k"], &["--connection-password-file FILE", "FERRY_CONNECTION_PASSWORD_FILE=FILE"]),
        (&["ping", "prod", "-J"], &["--vault-password-file FILE", "FERRY_VAULT_PASSWORD_FILE=FILE"]),
        (&["vault", "view", "vault.yml"], &["--vault-password-file FILE", "FERRY_VAULT_PASSWORD_FILE=FILE"]),
        (&["run", "asks.yml"], &["-e ticket=VALUE", "-e @FILE"]),
        (&["run", "asks.yml", "--step"], &["leave --step out"]),
        (&["ping", "-i", &inventory], &["--key-passphrase-file FILE", "FERRY_KEY_PASSPHRASE_FILE=FILE"]),
        (&["backup", "prod", "-i", &inventory], &["--key-passphrase-file FILE", "FERRY_KEY_PASSPHRASE_FILE=FILE"]),
    ];
    for (words, says) in questions {
        // Somebody holds the other end of standard input, and says nothing: nobody waits for them.
        let mut command = ferry(Some(&bed.up.config), &bed.aside(""));
        command.args(*words).stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let held = child.stdin.take();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(20), "ferry {words:?} waits for an answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        let out = child.wait_with_output().unwrap();
        drop(held);
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.status.code(), Some(1), "ferry {words:?}\n{said}");
        for sentence in *says {
            assert!(said.contains(sentence), "ferry {words:?} does not say {sentence:?}\n{said}");
        }
    }
    // And these answers are taken.
    let passphrase = bed.aside("passphrase");
    std::fs::write(&passphrase, "open sesame\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&passphrase, mode).unwrap();
    let file = [("FERRY_KEY_PASSPHRASE_FILE", passphrase.to_str().unwrap())];
    bed.ferry_with(&["ping", "prod", "-i", &inventory], &file).must(0, &["prod-3"]);
    let said = bed.ferry(&["jobs", "clean", "--staging", "prod"]);
    assert!(said.code == 0 || said.code == 1, "{}", said.all());
    let secret = bed.aside("secret");
    std::fs::write(&secret, "x\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&secret, mode).unwrap();
    bed.ferry(&["ping", "prod", "--become-password-file", secret.to_str().unwrap()])
        .must(1, &["others may read", "chmod 600", "F102"]);
    bed.ferry(&["ping", "prod", "--become-password-env", "NOT_SET_ANYWHERE"]).must(1, &["NOT_SET_ANYWHERE", "F103"]);
    // init asks nothing here, and says what to fill in.
    let dir = bed.aside("fresh");
    bed.ferry(&["init", dir.to_str().unwrap()]).must(0, &["write your hosts into"]);
}
