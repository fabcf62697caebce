//! The pretend `gravity`: its command line, its errors, backup and restore.
//!
//! What lives here: parsing in kingpin's way, errors on the stream and in the colours of each
//! generation, the order of checks, and what the command line does around the hook. What does
//! not: the hook itself, which is another process (hook), the archive's bytes (tarball), and
//! `gravity status` (status).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal as _, Read as _, Seek as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::hook::{self, Job};
use super::record::Record;
use super::{Generation, Node, say, say_err, status, tarball};

/// An error as gravity tells it: the first line, then causes, each indented with a TAB.
#[derive(Debug)]
pub(crate) struct Trouble(String);

impl Trouble {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    pub(crate) fn because(text: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self(format!("{}\n\t{cause}", text.into()))
    }
    /// What was said about a file operation, in Go's words.
    pub(crate) fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        Self(go_error(verb, path, error))
    }
}

/// `open /x: no such file or directory`.
pub(crate) fn go_error(verb: &str, path: &Path, error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    let why = match error.kind() {
        Kind::NotFound => "no such file or directory".to_owned(),
        Kind::PermissionDenied => "permission denied".to_owned(),
        Kind::StorageFull => "no space left on device".to_owned(),
        Kind::IsADirectory => "is a directory".to_owned(),
        Kind::NotADirectory => "not a directory".to_owned(),
        Kind::ReadOnlyFilesystem => "read-only file system".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
    };
    format!("{verb} {}: {why}", path.display())
}

/// Tells an error the way the generation does.
pub(crate) fn tell(generation: Generation, text: &str) {
    match generation {
        Generation::G5 => {
            let plain = !io::stdout().is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            say(if plain { format!("[ERROR]: {text}\n") } else { format!("\x1b[31m[ERROR]: {text}\n\x1b[0m") });
        }
        Generation::G6 => say(format!("\x1b[31m[ERROR]: {text}\n\x1b[0m")),
        Generation::G7 | Generation::G8 => say_err(format!("\x1b[31m[ERROR]: {text}\n \x1b[0m")),
    }
}

/// A flag that a command takes.
struct Flag {
    long: &'static str,
    short: Option<char>,
    value: bool,
}

const fn with(long: &'static str, short: Option<char>) -> Flag {
    Flag { long, short, value: true }
}
const fn bare(long: &'static str, short: Option<char>) -> Flag {
    Flag { long, short, value: false }
}

const GLOBAL: &[Flag] = &[
    bare("debug", None),
    bare("quiet", Some('q')),
    bare("insecure", None),
    with("state-dir", None),
    with("uid", None),
    with("gid", None),
    with("etcd-retry-timeout", None),
    with("httpprofile", None),
    with("profile-dir", None),
    with("log-file", None),
    with("system-log-file", None),
    bare("help", Some('h')),
];

/// A command: its words, flags and positional arguments (all required).
struct Shape {
    words: &'static [&'static str],
    flags: &'static [Flag],
    takes: &'static [&'static str],
    root: bool,
}

const SHAPES: &[Shape] = &[
    Shape { words: &["backup"], flags: &[with("timeout", None), bare("follow", None)], takes: &["to"], root: true },
    Shape { words: &["restore"], flags: &[with("timeout", None), bare("follow", None)], takes: &["from"], root: true },
    Shape {
        words: &["status"],
        flags: &[
            bare("token", None),
            bare("tail", None),
            with("operation-id", Some('o')),
            with("seconds", Some('s')),
            with("output", None),
        ],
        takes: &[],
        root: false,
    },
    Shape { words: &["version"], flags: &[with("output", Some('o'))], takes: &[], root: false },
    Shape { words: &["system", "state-dir"], flags: &[], takes: &[], root: false },
    Shape { words: &["site", "info"], flags: &[with("output", None)], takes: &[], root: true },
    Shape { words: &["local-site"], flags: &[], takes: &[], root: true },
    Shape { words: &["package", "list"], flags: &[with("ops-url", None)], takes: &[], root: false },
    Shape { words: &["report"], flags: &[with("file", None), with("since", None)], takes: &[], root: true },
];

/// A parsed command line.
struct Call {
    shape: &'static Shape,
    flags: BTreeMap<&'static str, String>,
    takes: Vec<String>,
    /// 6 hex digits: the name of its staging folder, should it need one.
    id: String,
}

impl Call {
    fn has(&self, flag: &str) -> bool {
        self.flags.contains_key(flag)
    }
    fn value(&self, flag: &str) -> Option<&str> {
        self.flags.get(flag).map(String::as_str)
    }
}

/// `None`: help was asked for.
fn parse(argv: &[String]) -> Result<Option<Call>, String> {
    // The words of the command come first in kingpin as well, flags between them or not.
    let mut shapes: Vec<&'static Shape> = SHAPES.iter().collect();
    let mut flags = BTreeMap::new();
    let mut takes = Vec::new();
    let mut depth = 0;
    let mut words = argv.iter();
    let mut only_words = false;
    let complete = |shapes: &[&'static Shape], depth: usize| -> Option<&'static Shape> {
        shapes.iter().copied().find(|shape| shape.words.len() == depth && depth > 0)
    };
    while let Some(word) = words.next() {
        if !only_words && word == "--" {
            only_words = true;
            continue;
        }
        let shape = complete(&shapes, depth);
        let known = |test: &dyn Fn(&Flag) -> bool| -> Option<&'static Flag> {
            GLOBAL.iter().chain(shape.into_iter().flat_map(|shape| shape.flags)).find(|flag| test(flag))
        };
        if !only_words && word.starts_with("--") {
            let body = word.get(2..).unwrap_or_default();
            let (name, given) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
            let flag = known(&|flag| flag.long == name)
                .or_else(|| name.strip_prefix("no-").and_then(|name| known(&|flag| flag.long == name && !flag.value)));
            let Some(flag) = flag else { return Err(format!("unknown long flag '--{name}'")) };
            if flag.value {
                let value = match given {
                    Some(value) => value.to_owned(),
                    None => words.next().cloned().ok_or_else(|| format!("expected argument for flag '--{name}'"))?,
                };
                flags.insert(flag.long, value);
            } else if given.is_some() {
                return Err(format!("unexpected argument for flag '--{name}'"));
            } else if name == flag.long {
                flags.insert(flag.long, String::new());
            }
        } else if !only_words && word.len() > 1 && word.starts_with('-') {
            let mut letters = word.chars().skip(1);
            while let Some(letter) = letters.next() {
                let Some(flag) = known(&|flag| flag.short == Some(letter)) else {
                    return Err(format!("unknown short flag '-{letter}'"));
                };
                if flag.value {
                    let rest: String = letters.by_ref().collect();
                    let value = if rest.is_empty() { words.next().cloned() } else { Some(rest) };
                    flags.insert(flag.long, value.ok_or_else(|| format!("expected argument for flag '-{letter}'"))?);
                } else {
                    flags.insert(flag.long, String::new());
                }
            }
        } else if let Some(shape) = shape {
            if shape.words == ["status"] && takes.is_empty() && word == "cluster" {
                continue;
            }
            if takes.len() == shape.takes.len() {
                return Err(format!("unexpected {word}"));
            }
            takes.push(word.clone());
        } else {
            shapes.retain(|shape| shape.words.get(depth).is_some_and(|name| name == word));
            depth += 1;
            if shapes.is_empty() {
                return Err(format!("expected command but got \"{word}\""));
            }
        }
    }
    if flags.contains_key("help") {
        return Ok(None);
    }
    let Some(shape) = complete(&shapes, depth) else { return Err("command not specified".to_owned()) };
    if let Some(missing) = shape.takes.get(takes.len()) {
        return Err(format!("required argument '{missing}' not provided"));
    }
    let id = format!("{:06x}", rand::random::<u32>() & 0x00ff_ffff);
    Ok(Some(Call { shape, flags, takes, id }))
}

/// Go's `time.ParseDuration`, in seconds.
pub(crate) fn duration(text: &str) -> Result<f64, String> {
    let bad = || format!("time: invalid duration {text:?}");
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if body == "0" {
        return Ok(0.0);
    }
    if body.is_empty() {
        return Err(bad());
    }
    let mut rest = body;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| bad())?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        total += number
            * match unit {
                "" => return Err(format!("time: missing unit in duration {text:?}")),
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
            };
        rest = after;
    }
    Ok(sign * total)
}

/// Runs the pretend gravity; the exit code.
pub(crate) fn run(node: Option<Node>, argv: &[String]) -> u8 {
    let generation = node.as_ref().map_or_else(Generation::default, |node| node.generation);
    match argv.first().map(String::as_str) {
        Some(hook::LAUNCH) => return node.as_ref().map_or(70, |node| hook::launch(node, argv)),
        Some(hook::WORK) => return node.as_ref().map_or(70, |node| hook::work(node, argv)),
        _ => {}
    }
    let call = match parse(argv) {
        Ok(Some(call)) => call,
        Ok(None) => {
            say_err(HELP);
            return 0;
        }
        Err(text) => {
            tell(generation, &text);
            return 255;
        }
    };
    let line = format!("/usr/bin/gravity {}", argv.join(" "));
    if let Some(node) = &node {
        node.journal(&format!("[RUNNING]: {line}"));
    }
    let record = |step: &str, rc: Option<u8>| {
        if let (Some(node), [act @ ("backup" | "restore")]) = (&node, call.shape.words) {
            let record = Record { rc, args: argv.to_vec(), ..Record::new(node, "gravity", act, step, &call.id) };
            // Of a backup that says it is good: what it made.
            let made = call.takes.first().filter(|_| *act == "backup" && rc == Some(0));
            made.map_or(record.clone(), |path| record.archive(Path::new(path))).put(node);
        }
    };
    record("called", None);
    match carry_out(node.as_ref(), &call, argv) {
        Ok(()) => {
            if let Some(node) = &node {
                node.journal(&format!("[SUCCESS]: {line}"));
            }
            record("ended", Some(0));
            0
        }
        Err(Trouble(text)) => {
            tell(generation, &text);
            if let Some(node) = &node {
                node.journal(&format!("[FAILURE]: {line}: [ERROR]: {}", text.replace('\n', " ")));
            }
            record("ended", Some(255));
            255
        }
    }
}

const HELP: &str = "usage: gravity [<flags>] <command> [<args> ...]

Gravity tool manages application clusters.

Flags:
  -h, --help       Show context-sensitive help.
      --debug      Enable debug mode
  -q, --quiet      Suppress any extra output to stdout
      --insecure   Skip TLS verification
      --state-dir  Directory for local state
      --log-file   Path to the log file

Commands:
  version  status  backup  restore  report
";

const SITE: &str = "https://gravity-site.kube-system.svc.cluster.local:3009";

fn carry_out(node: Option<&Node>, call: &Call, argv: &[String]) -> Result<(), Trouble> {
    let words = call.shape.words;
    let root = rustix::process::geteuid().is_root() || node.is_some_and(|node| node.pretend_root);
    // Which commands are on the list of those that must be root differs for `report` only.
    let enforced =
        call.shape.root && !(words == ["report"] && node.is_some_and(|node| node.generation < Generation::G7));
    if enforced && !root {
        return Err(Trouble::new("this command should be run as root"));
    }
    match words {
        ["version"] => {
            version(node, call);
            return Ok(());
        }
        ["system", "state-dir"] => {
            say(format!("{}\n", state_dir(node, call).display()));
            return Ok(());
        }
        ["package", "list"] => {
            package_list(node);
            return Ok(());
        }
        ["status"] => return status::run(node, root, call.value("output"), call.has("token")),
        _ => {}
    }
    let (node, generation) = match node {
        Some(node) => (Some(node), node.generation),
        None => (None, Generation::default()),
    };
    let no_credentials = || {
        Trouble::new(if generation == Generation::G5 {
            format!("Please login to Ops Center: {SITE}")
        } else {
            format!("no credentials for {SITE}")
        })
    };
    let Some(node) = node else {
        // Run on a machine that is no node, gravity makes itself a local state all the same.
        let local = state_dir(None, call).join("local");
        let _ = fs::create_dir_all(local.join("packages"));
        let _ = fs::OpenOptions::new().create(true).append(true).open(local.join("gravity.db"));
        return Err(no_credentials());
    };
    lock_wait(node)?;
    if node.has("no-credentials") {
        return Err(no_credentials());
    }
    if node.has("site-down") || node.site_away() {
        return Err(site_refuses());
    }
    match words {
        ["local-site"] => {
            say(node.cluster_seen());
            Ok(())
        }
        ["site", "info"] => {
            site_info(node, call);
            Ok(())
        }
        ["report"] => report(node, call),
        ["restore"] => restore(node, call, argv),
        _ => backup(node, call, argv),
    }
}

fn site_refuses() -> Trouble {
    Trouble::because(format!("failed to connect to {SITE}"), "dial tcp 10.100.0.9:3009: connect: connection refused")
}

fn state_dir(node: Option<&Node>, call: &Call) -> PathBuf {
    call.value("state-dir").map_or_else(
        || node.map_or_else(|| PathBuf::from("/var/lib/gravity"), |node| node.state_dir.clone()),
        PathBuf::from,
    )
}

/// Another process holds the local database: 30 s of waiting, then an error.
fn lock_wait(node: &Node) -> Result<(), Trouble> {
    let begun = Instant::now();
    while let Some(held) = node.number("db-locked", f64::INFINITY) {
        let waited = node.pretended(begun.elapsed());
        if waited >= held {
            break;
        }
        if waited >= 30.0 {
            return Err(Trouble::new(format!(
                "database {} is locked, is another instance running?",
                node.state_dir.join("local/gravity.db").display()
            )));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn version(node: Option<&Node>, call: &Call) {
    let version =
        node.map_or_else(|| Generation::default().gravity_version().to_owned(), |n| n.gravity_version.clone());
    if call.value("output") == Some("json") {
        say(format!(
            r#"{{"edition":"enterprise","version":"{version}","git_commit":"b45e6597c502f16efd47706080a6c3b858a0a265","helm":"v2.15"}}"#
        ));
    } else {
        say(format!(
            "Edition:\tenterprise\nVersion:\t{version}\nGit Commit:\tb45e6597c502f16efd47706080a6c3b858a0a265\nHelm Version:\tv2.15\n"
        ));
    }
}

fn package_list(node: Option<&Node>) {
    if let Some(node) = node {
        say(format!(
            "\n[gravitational.io]\n------------------\n\n* gravitational.io/anypoint:{} 7.8GB\n* gravitational.io/gravity:{} 123MB installed:installed\n",
            node.app_version_seen(),
            node.gravity_version
        ));
    }
}

fn site_info(node: &Node, call: &Call) {
    let (version, address) = (node.app_version_seen(), &node.advertise_ip);
    if call.value("output") == Some("json") {
        let info = serde_json::json!({
            "app": {"name": "anypoint", "version": version},
            "endpoints": [{"name": "platform", "addresses": [format!("https://{address}:32009")]}],
        });
        say(info.to_string());
    } else {
        say(format!(
            "Application:\tanypoint, version {version}\nEndpoints:\n    * platform:\n        - https://{address}:32009\n"
        ));
    }
}

fn report(node: &Node, call: &Call) -> Result<(), Trouble> {
    let path = PathBuf::from(call.value("file").unwrap_or("report.tar.gz"));
    let file = fs::File::create(&path).map_err(|error| Trouble::file("open", &path, &error))?;
    if node.has("report-fails") {
        return Err(Trouble::because("failed to collect reports", "context deadline exceeded"));
    }
    if node.has("report-empty") {
        say(format!("report for {} exported to {}\n", node.cluster, path.display()));
        return Ok(());
    }
    let lacks = node.fault("report-lacks").unwrap_or_default();
    let mut archive = tarball::Tarball::new(file, 1);
    let failed = |error: io::Error| Trouble::file("write", &path, &error);
    for member in node.nodes.iter().filter(|member| member.status != "offline" && member.hostname != lacks) {
        let text = format!("pretended debug log of {}\n", member.hostname);
        archive.text(&format!("{}-debug-logs.tar.gz", member.hostname), text.as_bytes()).map_err(failed)?;
    }
    archive.text("status.json", status::json(node).to_string().as_bytes()).map_err(failed)?;
    archive.finish().map_err(failed)?;
    say(format!("report for {} exported to {}\n", node.cluster, path.display()));
    Ok(())
}

/// The lines that a terminal sees without `--follow`.
struct Progress {
    quiet: bool,
    doing: String,
    begun: Instant,
    told: f64,
}

impl Progress {
    fn tick(&mut self, node: &Node) {
        let elapsed = node.pretended(self.begun.elapsed());
        while elapsed >= self.told + 10.0 {
            self.told += 10.0;
            // A scaled clock would print hundreds of lines a second; those that nobody could
            // have seen one by one are left out.
            if elapsed - self.told >= 10.0 {
                continue;
            }
            if !self.quiet {
                say(format!("\tStill {} ({} elapsed)\n", self.doing, humanized(self.told)));
            }
        }
    }
}

/// `10 seconds`, `1 minute`, `2 minutes`, `1 hour`; `now` below a second.
pub(crate) fn humanized(seconds: f64) -> String {
    let whole = seconds as u64;
    let plural = |count: u64, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    match whole {
        0 => "now".to_owned(),
        1..60 => plural(whole, "second"),
        60..3600 => plural(whole / 60, "minute"),
        _ => plural(whole / 3600, "hour"),
    }
}

/// What `--timeout` says, in pretended seconds; else `usual`, which the application's manifest says.
fn deadline(call: &Call, usual: f64) -> Result<f64, Trouble> {
    let seconds = duration(call.value("timeout").unwrap_or("0")).map_err(Trouble::new)?;
    Ok(if seconds > 0.0 { seconds } else { usual })
}

fn backup(node: &Node, call: &Call, argv: &[String]) -> Result<(), Trouble> {
    let deadline = deadline(call, 1200.0)?;
    let quiet = call.has("quiet");
    let follow = call.has("follow") && !quiet;
    let target = PathBuf::from(call.takes.first().cloned().unwrap_or_default());
    let begun = Instant::now();
    let doing = format!("backing up to {}", target.display());
    let mut progress = Progress { quiet: quiet || follow, doing, begun, told: 0.0 };
    if !progress.quiet {
        say(format!("* [1/2] {}\n", progress.doing));
    }
    let aborted = |trouble: Trouble| {
        if !quiet && !follow {
            say(format!("* [1/2] backup aborted after {} \n", humanized(node.pretended(begun.elapsed()))));
        }
        trouble
    };
    if node.has("no-hook") {
        return Err(aborted(Trouble::new(format!("anypoint:{} does not have backup hook", node.app_version))));
    }
    let id = &call.id;
    let staging = node.staging().join(id).join("backup");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&staging)
        .map_err(|error| aborted(Trouble::file("mkdir", &staging, &error)))?;
    let job =
        hook::start(node, "backup", id, deadline, argv).map_err(|error| aborted(Trouble::new(error.to_string())))?;

    let end = |rc: u8| {
        let _ = node.count_run(&format!("end {id} rc={rc}"));
    };
    let dies = (node.real(hook::seconds(node, true) / 2.0), "cli-dies");
    if let Err(trouble) = wait(node, &job, follow, dies, &mut progress) {
        if let Some(rc) = node.fault("stale-file-kept") {
            stale(&target);
            let rc: u8 = rc.parse().unwrap_or(0);
            end(rc);
            return if rc == 0 { Ok(()) } else { Err(aborted(trouble)) };
        }
        end(255);
        return Err(aborted(trouble));
    }
    // From here on the hook has succeeded; what fails now takes the data with it.
    let packed = pack(node, &staging, &target, &mut progress);
    job.delete();
    let _ = fs::remove_dir_all(&staging);
    while node.has("cli-hangs") {
        std::thread::sleep(Duration::from_millis(50));
    }
    match packed {
        Ok(()) => {
            if !progress.quiet {
                say(format!("* [2/2] backup is written to {}\n", target.display()));
                say(format!("* [2/2] backup completed in {} \n", humanized(node.pretended(begun.elapsed()))));
            }
            end(0);
            Ok(())
        }
        Err(trouble) => {
            end(255);
            Err(aborted(trouble))
        }
    }
}

/// Waits for the hook's job, telling its log or that it still runs. `dies`: after how long since the
/// beginning the fault of that name, or `cli-dies`, ends this process.
fn wait(node: &Node, job: &Job, follow: bool, dies: (Duration, &str), progress: &mut Progress) -> Result<(), Trouble> {
    let mut seen = 0_u64;
    let mut lines = 0_u64;
    let mut rest = Vec::new();
    loop {
        let ended = job.ended();
        if follow {
            // The stream breaks for good after so many lines.
            let most = node.number("follow-dies-early", 3.0).map(|most| most as u64);
            if most.is_none_or(|most| lines < most)
                && let Ok(mut file) = fs::File::open(job.stream())
                && file.seek(io::SeekFrom::Start(seen)).is_ok()
            {
                rest.clear();
                let read = file.read_to_end(&mut rest).unwrap_or(0);
                seen += read as u64;
                for line in rest.split_inclusive(|byte| *byte == b'\n') {
                    if most.is_some_and(|most| lines >= most) {
                        break;
                    }
                    lines += u64::from(line.ends_with(b"\n"));
                    say(line);
                }
            }
        } else {
            progress.tick(node);
        }
        match ended {
            Some(Ok(())) => return Ok(()),
            Some(Err(why)) => return Err(Trouble::new(why)),
            None => {}
        }
        if progress.begun.elapsed() > dies.0
            && let Some(signal) = node.fault(dies.1).or_else(|| node.fault("cli-dies"))
        {
            super::die(if signal.is_empty() { "KILL" } else { &signal });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Packs the staging folder as docker's archive package does: errors of single files are passed
/// over, a missing folder gives an empty archive.
fn pack(node: &Node, staging: &Path, target: &Path, progress: &mut Progress) -> Result<(), Trouble> {
    if node.has("exit0-empty-archive") {
        let _ = fs::remove_dir_all(staging);
    }
    if let Some(seconds) = node.number("slow-compress", 120.0) {
        pass(node, Instant::now() + node.real(seconds), progress);
    }
    let file = fs::File::create(target).map_err(|error| Trouble::file("open", target, &error))?;
    let failed = |error: io::Error| Trouble::file("write", target, &error);
    let room = node.number("enospc-late", 65536.0).map(|room| room as u64);
    let mut archive = tarball::Tarball::limited(file, node.gzip_level, room);
    let without = node.fault("missing-member").map(|name| if name.is_empty() { "secrets".to_owned() } else { name });
    archive.folder(staging, without.as_deref()).map_err(failed)?;
    match node.fault("truncated-archive") {
        None => archive.finish().map_err(failed)?,
        Some(at) => {
            archive.break_off().map_err(failed)?;
            if let Ok(at) = at.parse::<u64>() {
                fs::OpenOptions::new().write(true).open(target).and_then(|file| file.set_len(at)).map_err(failed)?;
            }
        }
    }
    if node.has("corrupt-archive") {
        let mut bytes = fs::read(target).map_err(failed)?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0x20;
        }
        fs::write(target, bytes).map_err(failed)?;
    }
    Ok(())
}

/// An archive of an earlier day at the target, whole in itself.
fn stale(target: &Path) {
    let Ok(file) = fs::File::create(target) else { return };
    let mut archive = tarball::Tarball::new(file, 1);
    let _ = archive.text("stale/from-yesterday.txt", b"an older backup under the same name\n");
    let _ = archive.finish();
    let yesterday = std::time::SystemTime::now().checked_sub(Duration::from_secs(86400));
    if let (Some(yesterday), Ok(file)) = (yesterday, fs::OpenOptions::new().write(true).open(target)) {
        let _ = file.set_modified(yesterday);
    }
}

/// Lets time pass, telling that it does.
fn pass(node: &Node, until: Instant, progress: &mut Progress) {
    while Instant::now() < until {
        if !progress.quiet {
            progress.tick(node);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Restore: the archive is opened and unpacked first; nothing is asked; the job is kept.
fn restore(node: &Node, call: &Call, argv: &[String]) -> Result<(), Trouble> {
    // PCE's own manifest gives a restore 80 minutes.
    let deadline = deadline(call, 4800.0)?;
    let quiet = call.has("quiet");
    let follow = call.has("follow") && !quiet;
    let source = PathBuf::from(call.takes.first().cloned().unwrap_or_default());
    let begun = Instant::now();
    let doing = format!("restoring from {}", source.display());
    let mut progress = Progress { quiet: quiet || follow, doing, begun, told: 0.0 };
    if !progress.quiet {
        say(format!("* [1/2] {}\n", progress.doing));
    }
    let aborted = |trouble: Trouble| {
        if !quiet && !follow {
            say(format!("* [1/2] restore aborted after {} \n", humanized(node.pretended(begun.elapsed()))));
        }
        trouble
    };
    let file = fs::File::open(&source).map_err(|error| {
        aborted(Trouble::because(
            format!("failed to open the tarball \"{}\" with backed up data", source.display()),
            go_error("open", &source, &error),
        ))
    })?;
    let id = &call.id;
    Record { args: argv.to_vec(), ..Record::new(node, "gravity", "restore", "opened", id) }.archive(&source).put(node);
    let staging = node.staging().join(id).join("backup");
    // What goes wrong while unpacking leaves the part that was unpacked.
    tarball::unpack(file, &staging).map_err(|error| aborted(Trouble::new(error)))?;
    let _ = fs::create_dir_all(&staging);
    let clean = || {
        let _ = fs::remove_dir_all(&staging);
    };
    if node.has("no-hook") {
        clean();
        return Err(aborted(Trouble::new(format!("anypoint:{} does not have restore hook", node.app_version))));
    }
    let job = hook::start(node, "restore", id, deadline, argv).map_err(|error| {
        clean();
        aborted(Trouble::new(error.to_string()))
    })?;
    let seconds = hook::seconds(node, false);
    let mut follow = follow;
    if let Some(back) = node.number("site-restarts", f64::INFINITY) {
        pass(node, begun + node.real(seconds / 4.0), &mut progress);
        // The wait is tried again 20 times, 5 s apart. Somewhat later gravity-site is there again.
        let retries = 100.0;
        node.site_goes(back.min(retries * 1.5));
        pass(node, Instant::now() + node.real(back.min(retries)), &mut progress);
        if back >= retries {
            clean();
            return Err(aborted(site_refuses()));
        }
        // The stream of the log is not taken up again.
        follow = false;
    }
    let waited = wait(node, &job, follow, (node.real(seconds / 2.0), "restore-cli-dies"), &mut progress);
    clean();
    waited.map_err(&aborted)?;
    if !progress.quiet {
        say(format!("* [2/2] restored from {}\n", source.display()));
        say(format!("* [2/2] restore completed in {} \n", humanized(node.pretended(begun.elapsed()))));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        assert!((duration("1h20m").unwrap() - 4800.0).abs() < 1e-9);
        assert!((duration("1.5m").unwrap() - 90.0).abs() < 1e-9);
        assert_eq!(duration("5").unwrap_err(), "time: missing unit in duration \"5\"");
        assert_eq!(duration("x").unwrap_err(), "time: invalid duration \"x\"");
        assert_eq!(duration("5y").unwrap_err(), "time: unknown unit \"y\" in duration \"5y\"");
    }

    #[test]
    fn elapsed_times_as_people_say_them() {
        let said: Vec<String> = [0.4, 1.0, 21.0, 60.0, 200.0, 3700.0, 9000.0].into_iter().map(humanized).collect();
        assert_eq!(said, ["now", "1 second", "21 seconds", "1 minute", "3 minutes", "1 hour", "2 hours"]);
    }
}
