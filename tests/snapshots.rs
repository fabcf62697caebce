//! What every command says, pinned: `tests/snapshots/NAME.txt` holds what was typed, the exit code and both streams, with
//! times, ids, ports, sizes and paths made equal. `FERRY_WRITE=1 cargo test --test snapshots` writes them anew; what a
//! change does to the screens is then read in the diff.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ferry::sandbox::Options;
use ferry::sandbox::pretend::Generation;
use regex::Regex;
use support::bed::{Bed, Said, ferry, run_limited};

/// Makes equal what differs from run to run.
struct Washer {
    texts: Vec<(String, &'static str)>,
    patterns: Vec<(Regex, &'static str)>,
}

impl Washer {
    fn new(bed: &Bed) -> Self {
        let pattern = |text: &str| Regex::new(text).unwrap();
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
        Self {
            texts: vec![
                (bed.up.dir.display().to_string(), "<SANDBOX>"),
                (bed.aside("").display().to_string().trim_end_matches('/').to_owned(), "<DIR>"),
                (env!("CARGO_MANIFEST_DIR").to_owned(), "<PROJECT>"),
                (format!("@{machine}"), "@<MACHINE>"),
                (format!("\"{machine}\""), "\"<MACHINE>\""),
            ],
            patterns: vec![
                (pattern(r"\b\d{8}T\d{6}Z-[0-9a-f]{4}\b"), "<ID>"),
                (pattern(r"\b\d{8}T\d{6}Z\b"), "<STAMP>"),
                (pattern(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<TIME>"),
                (pattern(r"\b\d{4}-\d\d-\d\d \d\d:\d\d UTC"), "<TIME>"),
                (pattern(r"\b\d{4}-\d\d-\d\d\b"), "<DAY>"),
                (pattern(r"\b[0-9A-F]{2}(:[0-9A-F]{2}){31}\b"), "<FINGERPRINT>"),
                (pattern(r"SHA256:[A-Za-z0-9+/]{43}"), "SHA256:<FINGERPRINT>"),
                (pattern(r"\b[0-9a-f]{64}\b"), "<SHA256>"),
                (pattern(r"\b[0-9a-f]{32}\b"), "<JOB>"),
                (pattern(r"\bsha256 [0-9a-f]{16}\b"), "sha256 <SHA256>"),
                (pattern(r"127\.0\.0\.1:\d+"), "127.0.0.1:<PORT>"),
                (pattern(r#"(ansible_port"?[:=] ?)\d+"#), "${1}<PORT>"),
                (pattern(r"anypoint-(backup|restore)-[0-9a-f]{6}(-[a-z0-9]{5})?"), "anypoint-${1}-<HOOK>"),
                (pattern(r"\b\d+ B\b|\b\d+(\.\d+)? (KiB|MiB|GiB)\b"), "<SIZE>"),
                (pattern(r" at <SIZE>/s|, <SIZE>/s"), ""),
                (pattern(r"\b\d+(\.\d+)? (ms|s|min|h|d)( \d+ (s|min|h))?\b"), "<TOOK>"),
                (pattern(r"\b\d+ %"), "<PART> %"),
                (pattern(r"russh_[0-9.]+"), "russh_<VERSION>"),
                (pattern(&format!(r"\b{}\b", env!("CARGO_PKG_VERSION").replace('.', r"\."))), "<VERSION>"),
                (
                    pattern(
                        r#"("(?:seq|seconds|[a-z_]*seconds|milliseconds|[a-z_]*bytes|members|total_kib|used_kib|available_kib|free_bytes|out_bytes|line_offset|offset|at|pid|not_before|not_after|port|used_percent|of)": ?)[0-9.e-]+"#,
                    ),
                    "${1}0",
                ),
                (pattern(r"\b\d+ members\b"), "<COUNT> members"),
                (pattern(r"\b\d+ journal lines"), "<COUNT> journal lines"),
                (pattern(r"(\S) {2,}"), "${1}  "),
            ],
        }
    }

    fn wash(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.texts {
            text = text.replace(from.as_str(), to);
        }
        for (pattern, to) in &self.patterns {
            text = pattern.replace_all(&text, *to).into_owned();
        }
        text
    }
}

/// What of a stream is pinned.
#[derive(Clone, Copy, PartialEq)]
enum Keep {
    /// All of it.
    All,
    /// The first lines, and that there are more: what is made of tables that other tests hold.
    Head(usize),
    /// Of a run's plain lines not what nodes say and counts that move: how many there are is chance.
    Run,
    /// Of a run's JSON lines the kinds of the events that are no chance, each once.
    Events,
}

impl Keep {
    fn of(self, text: &str) -> String {
        match self {
            Self::All => text.to_owned(),
            Self::Head(most) => {
                let mut out: String = text.split_inclusive('\n').take(most).collect();
                if text.lines().count() > most {
                    out.push_str("… and more\n");
                }
                out
            }
            Self::Run => {
                let node = Regex::new(r"^<TIME> (prod|dr)-\d \|( |$)").unwrap();
                let told = Regex::new(r"^<TIME> (prod|dr)-\d \|  (ok|warn|REFUSE|why|mend) ").unwrap();
                let moves = Regex::new(
                    r"<SIZE> of (about )?<SIZE>|\| collect |\| deliver |looked at again|not well yet|this time  about",
                )
                .unwrap();
                text.split_inclusive('\n')
                    .filter(|line| (!node.is_match(line.trim_end()) || told.is_match(line)) && !moves.is_match(line))
                    .collect()
            }
            Self::Events => {
                let mut seen = BTreeSet::new();
                let mut out = String::new();
                for line in text.lines() {
                    let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
                    let kind = event["event"].as_str().unwrap().to_owned();
                    let keys: Vec<&String> = event.as_object().unwrap().keys().collect();
                    if !["line", "logged", "progress", "note"].contains(&kind.as_str()) && seen.insert(kind.clone()) {
                        out.push_str(&format!("{kind}: {keys:?}\n"));
                    }
                }
                out
            }
        }
    }
}

struct Pins<'a> {
    bed: &'a Bed,
    washer: Washer,
    folder: PathBuf,
    write: bool,
    seen: BTreeSet<String>,
    wrong: Vec<String>,
    typed: Vec<Vec<String>>,
    /// Catalog and runs lie on an empty disk of 64 GiB, however full this machine's is.
    roomy: bool,
}

impl Pins<'_> {
    /// Types a line and pins what it says.
    #[track_caller]
    fn pin(&mut self, name: &str, line: &str, code: i32, keep: Keep) -> Said {
        let words = shlex::split(line).unwrap();
        let mut command = ferry(Some(&self.bed.up.config), &self.bed.up.dir);
        let places = ["catalog", "runs"].map(|place| self.bed.up.dir.join(place));
        if self.roomy {
            let (program, mut inside) = (command.get_program().to_owned(), std::process::Command::new("unshare"));
            const MOUNT: &str = r#"mount -t tmpfs -o size=64g,mode=700 roomy "$1" && mount -t tmpfs -o size=64g,mode=700 roomy "$2" && shift 2 && exec "$@""#;
            inside.args(["--mount", "sh", "-c", MOUNT, "sh"]).args(&places).arg(program);
            inside.current_dir(&self.bed.up.dir);
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => inside.env(name, value),
                    None => inside.env_remove(name),
                };
            }
            places.iter().for_each(|place| std::fs::create_dir(place).unwrap());
            command = inside;
        }
        for name in ["CI_JOB_URL", "BUILD_URL", "GITHUB_RUN_ID", "BUILD_ID", "GITHUB_ACTIONS", "GITLAB_CI"] {
            command.env_remove(name);
        }
        command.env("HOME", self.bed.aside("home")).env("USER", "operator").env("LANG", "C.UTF-8");
        command.env_remove("GITHUB_STEP_SUMMARY").env_remove("EDITOR").env("TERM", "dumb");
        command.args(&words);
        let said = run_limited(command, Duration::from_secs(90));
        if self.roomy {
            places.iter().for_each(|place| std::fs::remove_dir(place).unwrap());
        }
        assert_eq!(said.code, code, "ferry {line}\n{}", said.all());
        let (out, err) = (keep.of(&self.washer.wash(&said.out)), keep.of(&self.washer.wash(&said.err)));
        let text = format!("$ ferry {}\nexit {code}\n--- stdout\n{out}--- stderr\n{err}", self.washer.wash(line));
        assert!(self.seen.insert(name.to_owned()), "{name} is there twice");
        self.typed.push(words);
        let path = self.folder.join(format!("{name}.txt"));
        if self.write {
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        if there != text {
            let differs = there.lines().zip(text.lines()).find(|(a, b)| a != b);
            self.wrong.push(format!("{name}: {differs:?}\n{text}"));
        }
        said
    }
}

fn known_hosts_of(bed: &Bed, path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(bed.up.dir.join("known_hosts"), path).unwrap();
}

#[test]
fn every_command_says_what_it_said() {
    let began = Instant::now();
    let bed = Bed::with(Options { generation: Generation::G7, hook_seconds: 20.0, ..Bed::options() });
    std::fs::create_dir_all(bed.aside("home/.ssh")).unwrap();
    known_hosts_of(&bed, &bed.aside("home/.ssh/known_hosts"));
    let dir = bed.up.dir.clone();
    let secret = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    secret("pw", "sesame\n");
    secret("pw2", "other\n");
    std::fs::write(dir.join("small.txt"), "a small file\n").unwrap();
    std::fs::write(
        dir.join("site.yml"),
        "- name: Site\n  hosts: prod-1\n  gather_facts: false\n  tasks:\n    - name: Who\n      command: id -u\n      tags: [who]\n    - name: Say\n      debug: {msg: hello}\n",
    )
    .unwrap();
    std::fs::write(dir.join("broken.yml"), "- hosts: prod-1\n  tasks:\n    - comand: id\n").unwrap();
    let mut pins = Pins {
        washer: Washer::new(&bed),
        bed: &bed,
        folder: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots"),
        write: std::env::var_os("FERRY_WRITE").is_some(),
        seen: BTreeSet::new(),
        wrong: Vec::new(),
        typed: Vec::new(),
        roomy: false,
    };
    use Keep::{All, Events, Head, Run};

    // The hosts.
    pins.pin("ping", "ping prod", 0, All);
    pins.pin("ping-json", "ping prod-1 --json", 0, All);
    pins.pin("ping-none", "ping nowhere", 6, All);
    pins.roomy = true;
    pins.pin("doctor", "doctor prod-1", 0, All);
    pins.pin("doctor-json", "doctor prod-1 --json", 0, Head(40));
    pins.roomy = false;
    pins.pin("status", "status prod", 0, All);
    pins.pin("status-json", "status prod --json", 0, All);
    pins.pin("exec", "exec prod-1 -- id -u", 0, All);
    pins.pin("exec-gather", "exec prod --gather -m shell -a 'echo one; echo two'", 0, All);
    pins.pin("exec-one-line", "exec prod-1 -o -m shell -a 'exit 3'", 2, All);
    pins.pin("exec-list-hosts", "exec prod --list-hosts -- id", 0, All);
    pins.pin("exec-json", "exec prod-1 --output json -- id -u", 0, Events);
    pins.pin("transfer", "transfer small.txt prod-1:/tmp/small.txt --output plain", 0, Run);
    pins.pin("transfer-both-here", "transfer small.txt other.txt", 5, All);
    pins.pin("inventory-list", "inventory list", 0, All);
    pins.pin("inventory-list-yaml", "inventory list --yaml", 0, All);
    pins.pin("inventory-graph", "inventory graph", 0, All);
    pins.pin("inventory-host", "inventory host prod-1", 0, All);

    // Playbooks.
    pins.pin("run", "run site.yml --output plain", 0, All);
    pins.pin("run-check", "run site.yml -C -D -t who --output plain", 0, All);
    pins.pin("run-quiet", "run site.yml --output quiet", 0, All);
    pins.pin("run-json", "run site.yml --output json", 0, Events);
    pins.pin("run-list-tasks", "run site.yml --list-tasks --list-hosts --list-tags", 0, All);
    pins.pin("run-syntax-check", "run site.yml --syntax-check", 0, All);
    pins.pin("run-step", "run site.yml --step", 1, All);
    pins.pin("run-broken", "run broken.yml", 1, All);
    pins.pin("playbooks-list", "playbooks list", 0, All);
    pins.pin("playbooks-list-json", "playbooks list --json", 0, All);
    pins.pin("doc", "doc", 0, Head(8));
    pins.pin("doc-ping", "doc ping", 0, All);
    pins.pin("doc-json", "doc ping --json", 0, All);
    pins.pin("doc-schema", "doc --schema", 0, Head(8));
    pins.pin("explain", "explain", 0, Head(8));
    pins.pin("explain-code", "explain F411", 0, All);
    pins.pin("explain-json", "explain F411 --json", 0, All);

    // Vault.
    std::fs::write(dir.join("vars.yml"), "password: s3cret\n").unwrap();
    pins.pin("vault-encrypt", "vault encrypt vars.yml --vault-password-file pw", 0, All);
    pins.pin("vault-view", "vault view vars.yml --vault-password-file pw", 0, All);
    pins.pin("vault-view-no-password", "vault view vars.yml", 1, All);
    pins.pin("vault-view-wrong-password", "vault view vars.yml --vault-password-file pw2", 1, All);
    pins.pin("vault-rekey", "vault rekey vars.yml --vault-password-file pw --new-vault-password-file pw2", 0, All);
    pins.pin("vault-edit", "vault edit vars.yml --vault-password-file pw2", 5, All);
    pins.pin("vault-create", "vault create new.yml --vault-password-file pw", 5, All);
    pins.pin("vault-decrypt", "vault decrypt vars.yml --vault-password-file pw2", 0, All);
    let said =
        pins.pin("vault-encrypt-string", "vault encrypt_string s3cret --name db --vault-password-file pw", 0, Head(2));
    assert!(!said.all().contains("s3cret"));

    // A backup, and the catalog.
    pins.pin("points-list-none", "points list", 0, All);
    pins.pin("backup-check", "backup prod --only gravity --check --output plain", 0, Run);
    pins.pin("backup-list-tasks", "backup prod --list-tasks", 0, All);
    pins.pin("backup-nothing-chosen", "backup prod --tags nothing --output plain", 2, Run);
    pins.pin("backup-no-cluster", "backup nowhere", 6, All);
    pins.pin("backup", "backup prod --label first --hold 30d --output plain", 0, Run);
    pins.pin("backup-young", "backup prod --if-older-than 20h", 0, All);
    pins.pin("backup-json", "backup prod --only gravity --output json", 0, Events);
    let mut ids: Vec<String> = std::fs::read_dir(dir.join("catalog/prod"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('2'))
        .collect();
    ids.sort();
    let (first, last) = (ids[0].clone(), ids[1].clone());
    pins.pin("points-list", "points list prod", 0, All);
    pins.pin("points-list-json", "points list --json", 0, All);
    pins.pin("points-show", &format!("points show {first}"), 0, All);
    pins.pin("points-show-json", &format!("points show prod/{first} --json"), 0, Head(60));
    pins.pin("points-show-none", "points show nothing", 1, All);
    pins.pin("points-verify", "points verify", 0, All);
    pins.pin("points-verify-json", &format!("points verify {last} --json"), 0, All);
    pins.pin("points-accept", &format!("points accept {last} --reason 'it is right'"), 7, All);
    pins.pin("points-hold", &format!("points hold {last} 90d"), 0, All);
    pins.pin("points-hold-release", &format!("points hold {last} release"), 0, All);
    pins.pin("points-prune-no-rule", "points prune", 1, All);
    pins.pin("points-prune-check", "points prune --check --keep-last 1", 0, All);
    pins.pin("points-prune-json", "points prune --check --keep-last 1 --json", 0, All);
    pins.pin("points-check", "points check prod --max-age gravity=26h", 0, All);
    pins.pin("points-check-old", "points check prod --max-age nfs=1h", 9, All);
    pins.pin("points-check-json", "points check prod --max-age gravity=26h --json", 0, All);
    std::fs::create_dir(bed.aside("other")).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(bed.aside("other"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let other = bed.aside("other").display().to_string();
    pins.pin("points-copy", &format!("points copy {last} --to {other}"), 0, All);
    pins.pin("points-export", &format!("points export {last} --to point.tar"), 0, All);
    pins.pin("points-import", "points import point.tar", 0, All);
    pins.pin("points-delete-refused", &format!("points delete {last} --confirm {last}"), 7, All);
    pins.pin("points-report", "points report", 0, All);
    pins.pin("catalog-break-lock", &format!("catalog break-lock prod/{first}"), 1, All);

    // What destroys: refused, looked at, done.
    pins.pin("restore-refused", &format!("restore {last} --to dr --only gravity --yes --output plain"), 7, Run);
    pins.pin("restore-check", "restore latest --from prod --to dr --only gravity --check --output plain", 0, Run);
    pins.pin("restore-list-tasks", "restore point.tar --to dr --list-tasks", 0, All);
    let waive = "--waive 'safety_backup=a pretend cluster'";
    pins.pin(
        "restore",
        &format!("restore point.tar --to dr --only gravity --confirm dr {waive} --output plain"),
        0,
        Run,
    );
    pins.pin("restore-waive-wrong", &format!("restore {last} --to dr --confirm dr --waive digest=no"), 5, All);
    pins.pin("drill-refused", &format!("drill {last} --to dr --only gravity --confirm dr --output plain"), 7, Run);
    // A drill that is done is in tests/crafts.rs: it takes as long as a restore.
    pins.pin(
        "drill-check",
        &format!("drill {last} --to dr --only gravity -e pce_drill_ok=true --check --output plain"),
        0,
        Run,
    );
    pins.pin("migrate-check", "migrate prod dr --only gravity --check --output plain", 0, Run);
    pins.pin("migrate-same", "migrate prod prod --confirm prod", 5, All);
    pins.pin("logs", "logs prod --dir gathered --output plain", 0, Run);

    // Jobs and runs.
    pins.pin("jobs-list", "jobs list prod", 0, All);
    pins.pin("jobs-list-json", "jobs list prod --json", 0, All);
    pins.pin("jobs-attach-none", "jobs attach 0123", 1, All);
    pins.pin("jobs-cancel-none", "jobs cancel 0123", 1, All);
    pins.pin("jobs-clean-none", "jobs clean 0123", 1, All);
    pins.pin("jobs-clean-staging", "jobs clean --staging prod --json", 0, All);
    pins.pin("runs-list", "runs list", 0, All);
    pins.pin("runs-list-json", "runs list --json", 0, Head(30));
    let runs = pins.pin("runs-report", "runs report", 0, All);
    let run = Regex::new(r"\d{8}T\d{6}Z-[0-9a-f]{4}").unwrap().find(&runs.out).unwrap().as_str().to_owned();
    pins.pin("runs-show", &format!("runs show {run}"), 0, All);
    pins.pin("runs-show-json", &format!("runs show {run} --json"), 0, Head(1));
    pins.pin("runs-replay", &format!("runs replay {run} --speed 1000 --output plain"), 0, Run);
    pins.pin("runs-resume-nothing", &format!("runs resume {run}"), 0, All);
    pins.pin("runs-show-none", "runs show nothing", 1, All);

    // The first hour.
    pins.pin(
        "init",
        "init mine --cluster prod --host prod-1=192.0.2.11 --user ops --bastion ops@bastion.example",
        0,
        All,
    );
    pins.pin(
        "init-schedule",
        "init mine --schedule cron,systemd,github,gitlab,jenkins,kubernetes --cluster prod",
        0,
        All,
    );
    pins.pin("init-again", "init mine", 1, All);
    pins.pin("playbooks-export", "playbooks export backup", 0, All);
    pins.pin("sandbox-faults", "sandbox faults", 0, Head(4));
    pins.pin("sandbox-faults-json", "sandbox faults --json", 0, Head(8));
    pins.pin("sandbox-down-none", "sandbox down --dir nowhere", 1, All);
    pins.pin("completions", "completions bash", 0, Head(4));
    pins.pin("man", "man points list", 0, Head(6));
    pins.pin("help", "--help", 0, All);
    pins.pin("usage", "backup", 5, All);
    pins.pin("version", "--version", 0, All);

    // Nothing that is no longer typed stays, and every command that there is was typed.
    for entry in std::fs::read_dir(&pins.folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !pins.seen.contains(&name) {
            if pins.write {
                std::fs::remove_file(&path).unwrap();
            } else {
                pins.wrong.push(format!("{name}.txt belongs to no line"));
            }
        }
    }
    let book =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference-commands.md")).unwrap();
    let missing: Vec<&str> = book
        .lines()
        .filter_map(|line| line.strip_prefix("## ferry "))
        .filter(|command| !["sandbox up", "sandbox serve", "demo", "points break-lock"].contains(command))
        .filter(|command| {
            let words: Vec<&str> = command.split(' ').collect();
            !pins.typed.iter().any(|typed| typed.iter().map(String::as_str).take(words.len()).eq(words.iter().copied()))
        })
        .collect();
    println!("{} lines typed in {:.1} s", pins.typed.len(), began.elapsed().as_secs_f64());
    assert!(missing.is_empty(), "never typed: {missing:?}");
    assert!(
        pins.wrong.is_empty(),
        "{} differ; read them, then FERRY_WRITE=1 cargo test --test snapshots\n\n{}",
        pins.wrong.len(),
        pins.wrong.join("\n\n")
    );
}
