//! A hostile server: more than sixty of them, each with a client of its own in a process of its own. For
//! each: no panic, no hang past its deadline, little memory, nothing written but what was asked for, nothing
//! that acts on a terminal, at most one password sent, and an outcome that is true.
//!
//! The servers are in `support/hostile_cases.rs`, the protocol that they spoil in `support/hostile_wire.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

#[path = "support/hostile_cases.rs"]
mod cases;
#[path = "support/hostile_wire.rs"]
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cases::{Case, Drive, Known};
use ferry::failure::Failure;
use ferry::job::{Follow, Jobs, Manner};
use ferry::remote::ssh::auth::Identities;
use ferry::remote::ssh::connect::{Lane, Strict, Target, connect};
use ferry::remote::ssh::serve::KeyPair;
use ferry::remote::sudo::{Become, Password};
use ferry::remote::{Child, Command, Said, Session, Way};
use ferry::transfer::{Pull, Trouble, pull};
use wire::{KEY, OTHER_KEY, Server, known_line};

/// What no server may get twice, and nothing may show.
const PASSWORD: &str = "correct-horse-battery";
/// The most memory of a client, in KiB.
const MOST: u64 = 128 << 10;
/// How many cases run at once.
const WIDTH: usize = 8;
const WHICH: &str = "FERRY_HOSTILE_CASE";

fn find(name: &str) -> Case {
    cases::all().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case {name:?}"))
}

/// Everything below a folder: path, and what is in it.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
            found.insert(path, Vec::new());
        } else {
            let content = if meta.len() > 64 << 20 { Vec::new() } else { std::fs::read(&path).unwrap_or_default() };
            found.insert(path, content);
        }
    }
    found
}

/// The scratch home of one client.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new(case: &Case, port: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("ferry-hostile").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("home/.ssh")).unwrap();
        std::fs::create_dir_all(at("tmp")).unwrap();
        let key = KeyPair::generate().unwrap();
        std::fs::write(at("home/.ssh/id_ed25519"), key.private().unwrap()).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(at("home/.ssh/id_ed25519"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let known = match case.known {
            Known::Key => known_line("", port, KEY),
            Known::Changed => known_line("", port, OTHER_KEY),
            Known::Revoked => known_line("@revoked ", port, KEY) + &known_line("", port, KEY),
            Known::Nothing | Known::AcceptNew => String::new(),
        };
        std::fs::write(at("home/.ssh/known_hosts"), known).unwrap();
        std::fs::write(at("target"), "").unwrap();
        let inventory = format!(
            "all:\n  hosts:\n    node-1:\n      ansible_host: 127.0.0.1\n      ansible_port: {port}\n      ansible_user: ops\n      \
             ansible_become: true\n      ansible_become_password: {PASSWORD}\n      ansible_ssh_timeout: 2\n"
        );
        std::fs::write(at("hosts.yml"), inventory).unwrap();
        std::fs::write(
            at("play.yml"),
            "- name: Say something\n  hosts: all\n  gather_facts: false\n  tasks:\n    - name: Ask\n      shell: echo asked\n",
        )
        .unwrap();
        // Two tasks share a shell that stays open; one alone has a channel of its own.
        std::fs::write(
            at("two.yml"),
            "- name: Say something\n  hosts: all\n  gather_facts: false\n  tasks:\n    - name: Ask\n      shell: echo asked\n    \
             - name: Ask again\n      shell: echo again\n",
        )
        .unwrap();
        std::fs::write(at("ferry.toml"), "").unwrap();
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn environment(&self, process: &mut Process) {
        process.env_clear().env("HOME", self.at("home")).env("TMPDIR", self.at("tmp")).current_dir(self.dir.path());
        process.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TERM", "xterm");
        process.env("LC_ALL", "C.UTF-8").env("FERRY_LINK_PATIENCE", "3");
    }
}

fn target(home: &Path, port: u16, case: &Case) -> Target {
    let password = Password::new(PASSWORD.to_owned().into());
    Target {
        strict: if case.known == Known::AcceptNew { Strict::AcceptNew } else { Strict::Yes },
        timeout: Duration::from_secs(2),
        become_plan: Become::root(Some(password)),
        ..Target::new(
            "node-1",
            ("127.0.0.1", port),
            "ops",
            Identities::new(vec![home.join("home/.ssh/id_ed25519")], Vec::new(), None, Arc::new(|_: &Path| None)),
            home.join("home/.ssh/known_hosts"),
        )
    }
}

/// A failure as one line, all of it.
fn told(stage: &str, failure: &Failure) -> String {
    let all = serde_json::to_string(failure).unwrap();
    assert!(all.len() < 16 << 10, "{stage}: a failure of {} bytes", all.len());
    format!("{stage}: {:?}, {} | {all}", failure.kind, failure.what)
}

fn heard(said: &Said) -> String {
    format!("{}, {} bytes out, {} err, cut {} | {}", said.exit, said.out.len(), said.err.len(), said.cut, {
        let out = String::from_utf8_lossy(&said.out).into_owned();
        out.chars().take(200).collect::<String>()
    })
}

const PATIENCE: Duration = Duration::from_secs(3);

/// More than the kernel and ferry hold of what is not taken, a little at a time.
async fn write_much(child: &mut Child) -> Result<(), Failure> {
    for _ in 0..32 {
        child.write(&[7; 1 << 20]).await?;
    }
    Ok(())
}

/// What the client of a case does, in a process of its own; the line tells how it ended.
async fn drive(case: &Case, home: &Path, port: u16) -> String {
    let mut target = target(home, port, case);
    if case.drive == Drive::Through {
        let bastion = target.clone();
        target = Target { address: "192.0.2.1".to_owned(), port: 22, jump: Some(Box::new(bastion)), ..target };
    }
    let way = Way::Ssh(Box::new(target.clone()));
    let session = match connect(&target, Lane::Control).await {
        Ok(session) => Session::Ssh(session),
        Err(failure) => return told("connect", &failure),
    };
    let waits = Duration::from_secs(if case.drive == Drive::Flood { 40 } else { 5 });
    let said = match case.drive {
        Drive::Run => match session.run(&Command::shell("true".to_owned()), PATIENCE).await {
            Ok(said) => heard(&said),
            Err(failure) => told("run", &failure),
        },
        Drive::Long => match session.run(&Command::shell("true".to_owned()), Duration::from_secs(60)).await {
            Ok(said) => heard(&said),
            Err(failure) => told("run", &failure),
        },
        Drive::Root => match session.run_root("echo done", PATIENCE).await {
            Ok(said) => heard(&said),
            Err(failure) => told("root", &failure),
        },
        Drive::Write | Drive::Flood => match session.open(&Command::shell("cat".to_owned())).await {
            Ok(mut child) => match tokio::time::timeout(waits, write_much(&mut child)).await {
                Ok(Ok(())) => {
                    child.close_input().await;
                    format!("written, {:?}", tokio::time::timeout(PATIENCE, child.exit()).await)
                }
                Ok(Err(failure)) => told("write", &failure),
                Err(_) => "still waiting to write".to_owned(),
            },
            Err(failure) => told("open", &failure),
        },
        Drive::List => match Jobs::new(session.clone()).list().await {
            Ok(jobs) => format!("{} jobs | {jobs:?}", jobs.len()),
            Err(failure) => told("list", &failure),
        },
        Drive::Follow => {
            let mut jobs = Jobs::new(session.clone());
            jobs.manner = Manner { silence: Duration::from_secs(3), ..Manner::default() };
            let mut bytes = Vec::new();
            let mut hearts = 0;
            let id = cases::JOB.parse().unwrap();
            let state = jobs
                .follow(&id, 0, |told| match told {
                    Follow::Bytes(piece) => bytes.extend_from_slice(piece),
                    Follow::Heart { .. } => hearts += 1,
                })
                .await;
            let end = match state {
                Ok(state) => format!("followed: {state}"),
                Err(failure) => told("follow", &failure),
            };
            format!("{end} | {} bytes, {hearts} hearts", bytes.len())
        }
        Drive::Pull => {
            let order = Pull {
                host: "node-1".to_owned(),
                source: "/backup/a.tar.gz".to_owned(),
                destination: home.join("target"),
                required: Vec::new(),
                walk: false,
                patience: PATIENCE,
            };
            match pull(&way, &session, &order, |_, _| {}).await {
                Ok(arrived) => format!("arrived: {} bytes", arrived.source.bytes),
                Err(Trouble::NotWhole(fault)) => format!("not whole: {fault}"),
                Err(Trouble::Differs(failure)) => told("differs", &failure),
                Err(Trouble::Failure(failure)) => told("pull", &failure),
            }
        }
        Drive::Through => "behind the bastion somebody was believed".to_owned(),
        Drive::Ferry(_) => unreachable!(),
    };
    session.close().await;
    said
}

/// What one case came to.
struct Came {
    outcome: String,
    seconds: f64,
    peak_kib: u64,
    wrong: Vec<String>,
}

fn client(case: &Case, home: &Home, port: u16) -> Process {
    let mut process = match case.drive {
        Drive::Ferry(words) => {
            let mut process = Process::new(env!("CARGO_BIN_EXE_ferry"));
            process.args(words);
            process
        }
        _ => {
            let mut process = Process::new(std::env::current_exe().unwrap());
            process.args(["--exact", "an_honest_server_is_believed", "--nocapture", "--test-threads=1"]);
            process
        }
    };
    home.environment(&mut process);
    process
        .env(WHICH, case.name)
        .env("FERRY_HOSTILE_PORT", port.to_string())
        .env("FERRY_CONFIG", home.at("ferry.toml"));
    process
}

fn play(case: &Case) -> Came {
    let server = Server::start(case.script);
    let home = Home::new(case, server.port);
    let before = tree(home.dir.path());
    let mut process = client(case, &home, server.port);
    let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    process.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let began = Instant::now();
    let mut child = process.spawn().unwrap();
    let (mut peak_kib, mut wrong) = (0, Vec::new());
    // Until its exec is through, the child has the memory of this process, and other cases may have filled that.
    let own = |pid: u32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.windows(WHICH.len()).any(|window| window == WHICH.as_bytes())
    };
    let mut is_own = false;
    let status = loop {
        is_own = is_own || own(child.id());
        if is_own && let Ok(text) = std::fs::read_to_string(format!("/proc/{}/status", child.id())) {
            let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak: Option<u64> = peak.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok());
            peak_kib = peak.unwrap_or(0).max(peak_kib);
        }
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        // A client that eats all memory is ended before it hurts its neighbours.
        if peak_kib > 16 * MOST || began.elapsed() > Duration::from_secs(case.limit) {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let seconds = began.elapsed().as_secs_f64();
    let read = |mut file: std::fs::File| {
        use std::io::{Read as _, Seek as _};
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let (out, err) = (read(out), read(err));
    let said = format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    let outcome = match case.drive {
        Drive::Ferry(_) => format!("exit {:?}: {said}", status.and_then(|status| status.code())),
        _ => said.lines().find_map(|line| line.strip_prefix("OUTCOME ")).unwrap_or_default().to_owned(),
    };
    if status.is_none() {
        wrong.push(format!("not ended after {seconds:.0} s"));
    } else if outcome.is_empty() {
        wrong.push(format!("no outcome: {status:?}\n{said}"));
    }
    if said.contains("panicked at") {
        wrong.push(format!("a panic:\n{said}"));
    }
    if peak_kib > MOST {
        wrong.push(format!("{} MiB of memory", peak_kib >> 10));
    }
    if let Drive::Ferry(_) = case.drive {
        let acts = said.chars().find(|c| c.is_control() && !"\n\t".contains(*c) || "\u{202e}\u{2028}".contains(*c));
        if let Some(acts) = acts {
            wrong.push(format!("{acts:?} on the terminal:\n{said:?}"));
        }
        if std::str::from_utf8(&out).is_err() || std::str::from_utf8(&err).is_err() {
            wrong.push("what is shown is no text".to_owned());
        }
    }
    if said.contains(PASSWORD) {
        wrong.push("the password is shown".to_owned());
    }
    // What was written: only what the work is for.
    for (path, content) in tree(home.dir.path()) {
        let name = path.strip_prefix(home.dir.path()).unwrap().display().to_string();
        let ours = match case.drive {
            Drive::Pull => name == "target" || name == "target.transfer",
            Drive::Ferry(_) => name.starts_with("home/.local/share/ferry") || "home/.local/share".starts_with(&name),
            _ => case.known == Known::AcceptNew && name.starts_with("home/.ssh/known_hosts"),
        };
        if before.get(&path) != Some(&content) && !ours {
            wrong.push(format!("{name} was written"));
        }
        let acts = |text: &str| {
            text.chars().find(|c| c.is_control() && !"\n\t".contains(*c) || "\u{202e}\u{2028}".contains(*c))
        };
        if name.starts_with("home/.local") {
            match std::str::from_utf8(&content).map(acts) {
                Ok(None) => {}
                other => wrong.push(format!("{name} would act on a terminal: {other:?}")),
            }
        }
        if content.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()) && name != "hosts.yml" {
            wrong.push(format!("the password is in {name}"));
        }
    }
    if let Some(path) = before.keys().find(|path| std::fs::symlink_metadata(path).is_err()) {
        wrong.push(format!("{} is gone", path.display()));
    }
    let data = server.seen.data.lock().unwrap().clone();
    let passwords = data.windows(PASSWORD.len()).filter(|window| *window == PASSWORD.as_bytes()).count();
    if passwords > case.passwords {
        wrong.push(format!("the password was sent {passwords} times"));
    }
    let mut outcome = outcome;
    for note in server.seen.notes.lock().unwrap().iter() {
        write!(outcome, " [{note}]").unwrap();
    }
    let words: Vec<&str> = case.expect.iter().copied().filter(|word| !outcome.contains(*word)).collect();
    if !words.is_empty() {
        wrong.push(format!("{words:?} is not in the outcome"));
    }
    if server.seen.connections.load(Ordering::SeqCst) == 0 {
        wrong.push("nobody came".to_owned());
    }
    Came { outcome, seconds, peak_kib, wrong }
}

/// In the child process: the client of the case that the environment names. Else: the server is a right one where
/// its script spoils nothing, or the table below would prove nothing.
#[test]
fn an_honest_server_is_believed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Ok(name) = std::env::var(WHICH) {
        // A panic in a task of its own would pass for a lost connection.
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            usual(info);
            std::process::abort();
        }));
        let port = std::env::var("FERRY_HOSTILE_PORT").unwrap().parse().unwrap();
        let home = std::env::current_dir().unwrap();
        let outcome = runtime.block_on(drive(&find(&name), &home, port));
        println!("\nOUTCOME {}", ferry::secret::clean(outcome.as_bytes()));
        runtime.shutdown_timeout(Duration::from_secs(1));
        return;
    }
    for (drive_as, expect) in cases::honest() {
        let case = Case { drive: drive_as, ..cases::honest_case() };
        let server = Server::start(case.script);
        let home = Home::new(&case, server.port);
        let outcome = runtime.block_on(drive(&case, home.dir.path(), server.port));
        assert!(outcome.starts_with(expect), "{outcome}");
    }
}

#[test]
fn no_hostile_server_gets_its_way() {
    let only = std::env::var("FERRY_HOSTILE_ONLY").ok();
    let mut all = cases::all();
    assert!(all.len() >= 60, "{} cases", all.len());
    let mut names: Vec<&str> = all.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len(), "two cases have one name");
    if let Some(only) = &only {
        all.retain(|case| case.name.contains(only.as_str()));
    }
    // The slow ones first, so that none of them is left over at the end.
    all.sort_by_key(|case| std::cmp::Reverse(case.limit));
    let count = all.len();
    let queue = Mutex::new(VecDeque::from(all));
    let (failed, table) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::new()));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..WIDTH {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap().pop_front() else { return };
                    let came = play(&case);
                    let short: String = came.outcome.chars().take(150).collect();
                    let row = format!("{:>5.1} s {:>4} MiB  {short}", came.seconds, came.peak_kib >> 10);
                    if !came.wrong.is_empty() {
                        let what = format!("{}\n  outcome: {}\n  {row}", came.wrong.join("\n  "), came.outcome);
                        failed.lock().unwrap().push(format!("{}:\n  {what}", case.name));
                    }
                    table.lock().unwrap().insert(case.name, row);
                }
            });
        }
    });
    for (name, row) in table.into_inner().unwrap() {
        println!("{name:<56} {row}");
    }
    println!("{count} hostile servers in {:.0} s", began.elapsed().as_secs_f64());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
}
