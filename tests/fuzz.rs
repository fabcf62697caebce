//! The targets of `fuzz/` without a fuzzer of its own: seeds, changed by numbers that were drawn once for all, on stable and
//! with nothing besides. What it has not is the feedback of which branches an input took; cargo-fuzz has (`tests/fuzz`).
//!
//! Always 150 executions of each; with FERRY_LONG=1 a million, or as many as 60 seconds hold (`FERRY_FUZZ_SECONDS`). A panic,
//! an execution of over ten seconds of work or more than 256 MiB fails, and the input is kept in the target folder.
// Each target brings its helpers along, since cargo-fuzz makes a program of each.
#![allow(clippy::duplicate_mod)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    missing_docs
)]

// What the targets call their fuzzer by.
extern crate self as libfuzzer_sys;

#[path = "support/dice.rs"]
mod dice;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dice::Dice;

/// As libfuzzer's: a function over bytes, or over those bytes that are text.
#[macro_export]
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $body:expr) => {
        pub(crate) fn run($bytes: &[u8]) {
            $body
        }
    };
    (|$text:ident: &str| $body:expr) => {
        pub(crate) fn run(bytes: &[u8]) {
            if let Ok($text) = std::str::from_utf8(bytes) {
                $body
            }
        }
    };
}

macro_rules! targets {
    ($($name:ident $file:literal),* $(,)?) => {
        $(#[path = $file] #[allow(unused_attributes)] mod $name;)*
        const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name::run)),*];
    };
}
targets! {
    inventory_yaml "../fuzz/fuzz_targets/inventory_yaml.rs",
    inventory_ini "../fuzz/fuzz_targets/inventory_ini.rs",
    patterns "../fuzz/fuzz_targets/patterns.rs",
    templates "../fuzz/fuzz_targets/templates.rs",
    vault "../fuzz/fuzz_targets/vault.rs",
    known_hosts "../fuzz/fuzz_targets/known_hosts.rs",
    ssh_config "../fuzz/fuzz_targets/ssh_config.rs",
    archive "../fuzz/fuzz_targets/archive.rs",
    frames "../fuzz/fuzz_targets/frames.rs",
    journal "../fuzz/fuzz_targets/journal.rs",
    manifest "../fuzz/fuzz_targets/manifest.rs",
    playbook "../fuzz/fuzz_targets/playbook.rs",
}

/// An input has so many bytes at most, as with cargo-fuzz.
const LONGEST: usize = 4096;
/// What no target may take.
const MOST_MIB: u64 = 256;

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most.max(1) as u64).unwrap()
    }

    fn of<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Pieces that mean something to one of the readers, whichever.
const WORDS: &[&str] = &[
    "\0",
    "\n",
    "\r\n",
    "\t",
    " ",
    "  ",
    ":",
    ": ",
    "- ",
    "-",
    "'",
    "\"",
    "\\",
    "#",
    "|",
    "|-",
    ">",
    "&a",
    "*a",
    "<<: *a",
    "!vault",
    "!unsafe",
    "!!binary",
    "---\n",
    "...\n",
    "{",
    "}",
    "[",
    "]",
    "{}",
    "[]",
    ",",
    "null",
    "~",
    "true",
    "yes",
    "0",
    "-1",
    "1e999",
    "0x1F",
    "0o17",
    "1:30",
    "18446744073709551616",
    "9999999999999999999999",
    "-9223372036854775808",
    ".inf",
    ".nan",
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{{ a }}",
    "| default(omit)",
    "loop.index",
    "range(999999999)",
    "'x' * 999999",
    "**",
    "//",
    "%",
    "a.b.c",
    "__class__",
    "\u{feff}",
    "é",
    "\u{202e}",
    "\u{1F600}",
    "\u{80}",
    "[1:3]",
    "[01:09]",
    "[a:z]",
    "[z:a]",
    "!x",
    "&x",
    "~(a+)+$",
    "x[0]",
    "x[-1]",
    "x[1:]",
    "@file",
    "ansible_host=",
    "=",
    "==",
    ";",
    "[web:vars]",
    "[web:children]",
    "[web]",
    "Host *",
    "Match all",
    "Match host",
    "%h",
    "%%",
    "%d",
    "ProxyJump",
    "ProxyCommand",
    "Port 65536",
    "@cert-authority",
    "@revoked",
    "|1|",
    "ssh-ed25519",
    "AAAAC3NzaC1lZDI1NTE5AAAAI",
    "$ANSIBLE_VAULT;1.1;AES256\n",
    "$ANSIBLE_VAULT;1.2;AES256;x\n",
    "616263",
    "ustar",
    "\u{1f}\u{8b}\u{8}",
    "./PaxHeaders",
    "27 path=",
    "@ab ",
    "@ab bye\n",
    "@ab D 0 18446744073709551615\n",
    "hello",
    "\"event\":",
    "\"format\":",
    "\"at\":",
    "hosts",
    "tasks",
    "block",
    "rescue",
    "when",
    "loop",
    "register",
    "include_tasks",
    "import_role",
    "vars",
    "children",
    "plugin: x",
    "debug",
    "args",
    "-0",
    "--",
];

/// One of `seeds`, changed a few times.
fn changed(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut out = dice.of(seeds).clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(out.len() + 1);
        let to = (at + dice.below(32) + 1).min(out.len());
        match dice.below(13) {
            0 if !out.is_empty() => {
                let at = at.min(out.len() - 1);
                out[at] ^= 1 << dice.below(8);
            }
            1 if !out.is_empty() => {
                let at = at.min(out.len() - 1);
                out[at] = u8::try_from(dice.below(256)).unwrap();
            }
            2 => drop(out.drain(at..to)),
            // The same again, once or many times.
            3 => {
                let piece = out[at..to].to_vec();
                for _ in 0..1 << dice.below(5) {
                    out.splice(at..at, piece.iter().copied());
                }
            }
            4 | 5 => drop(out.splice(at..at, dice.of(WORDS).bytes())),
            6 => drop(out.splice(at..to, dice.of(WORDS).bytes())),
            // The beginning of this and the end of another.
            7 => {
                let other = dice.of(seeds).clone();
                let from = dice.below(other.len() + 1);
                out.truncate(at);
                out.extend_from_slice(&other[from..]);
            }
            8 => out.truncate(at),
            // Lines: away, twice, in another place, deeper.
            kind @ 9..=12 => {
                let mut lines: Vec<Vec<u8>> = out.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                if !lines.is_empty() {
                    let one = dice.below(lines.len());
                    let line = lines[one].clone();
                    let another = dice.below(lines.len());
                    match kind {
                        9 => drop(lines.remove(one)),
                        10 => lines.insert(another, line),
                        11 => lines.swap(one, another),
                        _ => drop(lines[one].splice(0..0, b"  ".iter().copied())),
                    }
                }
                out = lines.concat();
            }
            _ => {}
        }
        out.truncate(LONGEST);
    }
    out
}

fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                out.push(std::fs::read(&path).unwrap());
            }
        }
    }
    out
}

/// A tar with some members, packed or not.
fn tar(packed: bool) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, many) in [("a", 0), ("folder/b", 700), (&"long/".repeat(40) as &str, 3)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(many);
        header.set_mode(0o600);
        let text = "x".repeat(usize::try_from(many).unwrap());
        if header.set_path(name).is_err() {
            header = tar::Header::new_gnu();
            header.set_size(many);
        }
        header.set_cksum();
        builder.append_data(&mut header, name.trim_end_matches('/'), text.as_bytes()).unwrap();
    }
    let whole = builder.into_inner().unwrap();
    if !packed {
        return whole;
    }
    let mut pack = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut pack, &whole).unwrap();
    pack.finish().unwrap()
}

/// A manifest with every field.
const MANIFEST: &str = r#"{"format": 1, "id": "20261122T041500Z-7f3a", "label": "x", "run": "20261122T041455Z-9c1e",
 "job": "0123456789abcdef0123456789abcdef", "who": {"user": "ops", "machine": "jump", "ci": null}, "ferry_version": "0.1.0",
 "inventory_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "playbook_sha256": null,
 "cluster": {"group": "prod", "gravity_name": "pce-prod", "kube_system_uid": null, "advertise_addresses": ["10.0.0.1"]},
 "pce_version": "3.2.0", "gravity_version": "7.0.12", "node": "prod-1", "started": "2026-11-22T04:15:00Z", "finished": "2026-11-22T04:55:00Z",
 "status_before": {"cluster": {"state": "active"}}, "status_after": null, "commands": ["gravity backup /x"],
 "archives": [], "complete": true, "contents": [], "durations": {"backup_seconds": 1500.25}, "warnings": [],
 "waivers": [{"gate": "space", "reason": "tonight"}], "files": [], "more": [1, {"a": null}]}
"#;

/// What a target starts from: files that ferry's own tests and examples have, and a few lines by hand.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let text = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    let mut out = match target {
        "inventory_yaml" => {
            let mut out = files("inventory", ".yml");
            out.extend(files("tests/fixtures/paper", ".yml"));
            out.extend(text(&[
                "all:\n  vars: {a: &x [1, 2], b: *x, c: !unsafe '{{ n }}', d: 0o17, e: 1:30, f: yes}\n  hosts:\n    'n[01:12:3]-[a:c]':\n      <<: {k: v}\n",
                "w:\n  hosts: {\"[::1]:22\": {ansible_host: \"{{ x }}\"}, b: }\n  children: {v: {children: {u: {hosts: c}}}}\n",
            ]));
            out
        }
        "inventory_ini" => text(&[
            "[web]\na[01:03] x=1 y=\"b c\"\n[web:vars]\nv=[1, 2]\n[all:children]\nweb\n",
            "a:22 k='it\\'s' # c\n; c\n[x:children] # c\ny\n[y]\n[::1]:2222 d={'k': (1, None, True, 0x1F, 1e3)}\n[y:vars]\ns = text # kept\n",
        ]),
        "patterns" => text(&[
            "prod:&mains:!prod-2,~dr.*,prod[0:1]",
            "all:!~(p|d)r.*-[12]",
            "::1,localhost",
            "prod-?:dr*[0]:[pd]*",
            "[::1],a",
        ]),
        "templates" => {
            let lines = files("tests/fixtures/templates", "expressions.txt").concat();
            let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let mut out: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
            // Slow on purpose: with all of them little else would be done.
            let mut hashes = 0;
            out.retain(|line| {
                let hash = line.windows(13).any(|word| word == b"password_hash");
                hashes += usize::from(hash);
                !hash || hashes == 1
            });
            out.extend(text(&[
                "{{ a.b | map('default', n) | list | length }}{% for x in a.b %}{{ x ~ w }}{% endfor %}",
                "{% macro m(x, y=1) %}{{ x }}{% endmacro %}{{ m(n) }}{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{% raw %}{{ x }}{% endraw %}",
                "n > 3 and a.b is defined or not (w in a) and a.b[2][::-1] == 'eerht'",
            ]));
            out
        }
        "vault" => {
            // Opening is slow on purpose: few of those that change this one get as far.
            use ferry::{secret::SecretString, vault};
            let password = vault::Password::new("default", &SecretString::from("fuzz"));
            let sealed = vault::Vault::encrypt(b"text", &password, "default").unwrap();
            text(&[&sealed, "$ANSIBLE_VAULT;1.2;AES256;dev\n613162\n", "613162\n3161"])
        }
        "known_hosts" => text(&[
            "@cert-authority *.example,!a ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\n[node-1]:22 ssh-rsa AAAA\n|1|AAAA|BBBB ssh-ed25519 x\n",
            "node-1,node-? ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ c\n# c\n@revoked * ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\n",
        ]),
        "ssh_config" => text(&[
            "Host *.example !b\n  ProxyJump a@b:2,c\n  Port 22\nMatch host \"x\" user y\n  IdentityFile ~/.ssh/%h\n",
            "Host node-?\n HostName=%h.example\n User \"o p\"\n ProxyCommand nc %h %p\n SetEnv A=b\nMatch originalhost node-1 !localuser x final\n Ciphers +aes*\n CanonicalizeHostname yes\n",
        ]),
        "archive" => vec![tar(false), tar(true), [tar(true), tar(true)].concat()],
        "frames" => text(&["@ab state done 7 flock 3\na\nb\n@ab D 0 2\nxy\n@ab d 2\n@ab bye\n"]),
        "journal" => text(&[
            "{\"at\":\"2026-11-26T00:00:00Z\",\"event\":\"run_started\",\"format\":1}\n",
            "{\"format\":1,\"ferry\":\"0.1.0\",\"run\":\"20261126T000000Z-aaaa\"}\n{\"at\":\"2026-11-26T00:00:00Z\",\"event\":\"step_started\",\"step\":1,\"host\":\"a\"}\n",
        ]),
        "manifest" => {
            // A seed that is refused would try the refusal only.
            ferry::catalog::Manifest::parse("manifest.json", MANIFEST).unwrap();
            text(&[MANIFEST])
        }
        _ => {
            let mut out = files("playbooks", ".yml");
            out.extend(files("tests/fixtures/paper", ".yml"));
            out
        }
    };
    out.push(Vec::new());
    for seed in &mut out {
        seed.truncate(LONGEST);
    }
    out
}

/// The most memory that this process has taken since it was last asked, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    // Fails where the kernel has no such file: then it is the most so far, and no less.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    kib / 1024
}

/// What this process has had of the processor, in milliseconds.
fn worked_ms() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let each = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
    each.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum::<u64>() / 1_000_000
}

fn kept(target: &str, input: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}"));
    std::fs::write(&path, input).unwrap();
    path
}

#[test]
fn nothing_that_somebody_else_wrote_makes_ferry_panic() {
    let long = std::env::var_os("FERRY_LONG").is_some_and(|value| value == "1");
    let seconds = std::env::var("FERRY_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let only = std::env::var("FERRY_FUZZ_TARGET").ok();
    let (most, most_time) =
        if long { (1_000_000, Duration::from_secs(seconds)) } else { (150, Duration::from_secs(20)) };
    // One that hangs cannot be told by the thread that hangs.
    let now: Arc<(Mutex<(&str, Vec<u8>)>, AtomicU64)> = Arc::default();
    let watched = Arc::clone(&now);
    let began = Instant::now();
    std::thread::spawn(move || {
        // When the input that is tried was begun, and what had been worked by then.
        let mut seen = (0, 0);
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let since = watched.1.load(Ordering::Relaxed);
            let worked = worked_ms();
            if since != seen.0 {
                seen = (since, worked);
            }
            let passed = u64::try_from(began.elapsed().as_millis()).unwrap().saturating_sub(since);
            // Time that others had on the processor counts for nothing; but something that only waits must end too.
            if since != 0 && (worked.saturating_sub(seen.1) > 10_000 || passed > 600_000) {
                let (target, input) = &*watched.0.lock().unwrap();
                eprintln!("{target}: more than ten seconds: {}", kept(target, input).display());
                std::process::exit(101);
            }
        }
    });
    let mut wrong = Vec::new();
    let mut tried = 0;
    let hook = std::panic::take_hook();
    for (target, run) in TARGETS.iter().filter(|(target, _)| only.as_deref().is_none_or(|only| only == *target)) {
        let seeds = seeds(target);
        assert!(seeds.len() > 1, "{target} has nothing to start from");
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let said: Arc<Mutex<String>> = Arc::default();
        let says = Arc::clone(&said);
        std::panic::set_hook(Box::new(move |info| *says.lock().unwrap() = info.to_string()));
        peak();
        let (start, mut done, mut found) = (Instant::now(), 0u64, std::collections::BTreeMap::new());
        while done < most && start.elapsed() < most_time {
            // The seeds as they are come first.
            let at = usize::try_from(done).unwrap();
            let input = seeds.get(at).cloned().unwrap_or_else(|| changed(&mut dice, &seeds));
            *now.0.lock().unwrap() = (target, input.clone());
            now.1.store(u64::try_from(began.elapsed().as_millis()).unwrap().max(1), Ordering::Relaxed);
            if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
                found.entry(said.lock().unwrap().clone()).or_insert(input);
            }
            done += 1;
        }
        now.1.store(0, Ordering::Relaxed);
        let memory = peak();
        println!(
            "{target:<16} {done} executions, {:.1} s, {} panics, {memory} MiB",
            start.elapsed().as_secs_f64(),
            found.len()
        );
        tried += done;
        for (at, (what, input)) in found.iter().enumerate() {
            wrong.push(format!("{target}: {what}: {}", kept(&format!("{target}-{at}"), input).display()));
        }
        if memory > MOST_MIB {
            wrong.push(format!("{target}: {memory} MiB"));
        }
    }
    std::panic::set_hook(hook);
    let _ = std::fs::remove_dir_all(inventory_yaml::common::folder());
    assert!(tried > 0, "no target of that name");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
