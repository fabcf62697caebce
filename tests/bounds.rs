//! A hook that says more than anybody wants to read: ferry's memory stays small, its time in
//! proportion, nothing of it acts on a terminal, and what is kept is masked and cleaned.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ferry::sandbox::Mode;
use ferry::sandbox::pretend::Generation;
use support::bed::{Bed, Said, ferry, run_limited};

const SECRET: &str = "correct-horse-battery";
/// Bytes of the flood that is told over and over.
const FLOOD: usize = 8 << 20;

/// Eight mebibytes of all that a careless reader would be hurt by.
fn flood() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FLOOD + (1 << 20));
    let mut number = 0;
    while bytes.len() < FLOOD {
        number += 1;
        bytes.extend_from_slice(b"\x1b]0;owned\x07\x1b[2J\x1b[1;1H\x1b[31mred\x1b[0m \x1b[?1049h\x1bP1$r\x1b\\\n");
        bytes.extend_from_slice(b"\xff\xfe\x00\x01\x08\x9b1m\xc3\n\x80\x80\xed\xa0\x80\r\x0c\x7f\n");
        bytes.extend_from_slice("\u{202e}gnp.exe\u{2028}next\u{200b}\u{feff}\u{9b}2J\u{85}\n".as_bytes());
        bytes.extend_from_slice(format!("sudo: {SECRET} is what was typed\n").as_bytes());
        // A line without an end, with the secret at another place in every round.
        bytes.resize(bytes.len() + 16_360 + number % 48, b'x');
        bytes.extend_from_slice(SECRET.as_bytes());
        bytes.resize(bytes.len() + 200_000, b'y');
        bytes.push(b'\n');
        for line in 0..2_000 {
            writeln!(bytes, "line {line} of round {number} from a hook that talks a lot").unwrap();
        }
    }
    bytes
}

/// A gravity that says the flood so often before it does its work. Returns its path on the nodes.
fn talkative(bed: &Bed, times: usize) -> String {
    let mut at = String::new();
    for node in &bed.up.nodes {
        let folder = node.root.join("opt/talkative");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("flood"), flood()).unwrap();
        let there = if bed.up.mode == Mode::Namespaces { Path::new("/opt/talkative") } else { &folder };
        let real = if bed.up.mode == Mode::Namespaces {
            "/opt/ferry-sandbox/bin/gravity".to_owned()
        } else {
            bed.up.dir.join("bin/gravity").display().to_string()
        };
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = backup ]; then\nn=0\nwhile [ $n -lt {times} ]; do cat {0}/flood; n=$((n + 1)); done\nfi\nexec {real} \"$@\"\n",
            there.display()
        );
        std::fs::write(folder.join("gravity"), script).unwrap();
        std::fs::set_permissions(folder.join("gravity"), std::fs::Permissions::from_mode(0o755)).unwrap();
        at = there.join("gravity").display().to_string();
    }
    at
}

/// No byte that acts, no secret; line by line, since these files are large.
fn is_clean(path: &Path) -> u64 {
    let mut reader = BufReader::with_capacity(1 << 20, std::fs::File::open(path).unwrap());
    let (mut line, mut bytes, mut longest) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).unwrap();
        if count == 0 {
            break;
        }
        bytes += count as u64;
        longest = longest.max(count);
        let bad = line.iter().find(|byte| **byte < 0x20 && **byte != b'\n' && **byte != b'\t' || **byte == 0x7f);
        assert_eq!(bad, None, "{}: {}", path.display(), String::from_utf8_lossy(&line));
        let text = std::str::from_utf8(&line).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if !text.is_ascii() {
            let acts =
                |c: char| c.is_control() && c != '\n' && c != '\t' || "\u{202e}\u{2028}\u{200b}\u{feff}".contains(c);
            assert!(!text.contains(acts), "{}: {text:?}", path.display());
        }
        assert!(!text.contains("correct-h"), "{}: the secret: {}", path.display(), &text[..text.len().min(200)]);
        assert!(!text.contains("rse-battery"), "{}: a part of the secret", path.display());
    }
    assert!(longest < 256 << 10, "{}: a line of {longest} bytes", path.display());
    bytes
}

fn each_file(dir: &Path, look: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { each_file(&path, look) } else { look(&path) }
    }
}

/// `--output` and everything that ferry wrote and showed, judged.
fn judge(bed: &Bed, said: &Said, mib: usize, form: &str) {
    println!("{form}: {mib} MiB of log, peak {} MiB, {:.1} s", said.peak_kib >> 10, said.took.as_secs_f64());
    said.must(0, &[]);
    assert!(said.peak_kib > 0 && said.peak_kib < 64 << 10, "{} KiB", said.peak_kib);
    let acts = said.all().chars().find(|c| c.is_control() && !"\n\t".contains(*c));
    assert_eq!(acts, None, "{form}: acts on a terminal");
    said.never("correct-h").never("rse-battery").never("\u{202e}");
    let mut total = 0;
    each_file(&bed.last_run(), &mut |path| total += is_clean(path));
    assert!(total > (mib as u64) << 20, "the host's log is not whole: {total} bytes");
    let (id, _) = bed.points("prod").into_iter().next_back().unwrap();
    let mut kept = 0;
    each_file(&bed.catalog().join("prod").join(id).join("logs"), &mut |path| kept += is_clean(path));
    assert!(kept > (mib as u64) << 20, "the hook's log is not whole: {kept} bytes");
}

#[test]
fn a_hook_that_says_a_gibibyte_of_hostile_text_costs_little_memory() {
    let long = std::env::var_os("FERRY_LONG").is_some_and(|value| value == "1");
    // The small one leaves room for the three forms; the time is in proportion to the bytes.
    for (form, mib) in [("human", if long { 1024 } else { 64 }), ("json", 8), ("quiet", 8)] {
        let bed = Bed::new(Generation::G7);
        let gravity = talkative(&bed, mib / (FLOOD >> 20));
        let inventory = bed.inventory(
            "talkative.yml",
            &[
                ("pce_gravity: /", &format!("ansible_become_password: {SECRET}\n    pce_gravity: {gravity} # /")),
                ("pce_cluster_name: pce-prod", "pce_backup_timeout: 4h\n        pce_cluster_name: pce-prod"),
            ],
        );
        let mut command: Command = ferry(Some(&bed.up.config), &bed.aside(""));
        command
            .args(["backup", "prod", "-i", &inventory, "--output", form])
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8");
        let said = run_limited(command, Duration::from_secs(30 + 2 * mib as u64));
        judge(&bed, &said, mib, form);
    }
}
