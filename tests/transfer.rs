//! `ferry transfer` and its engine: through real sshd and sudo, through every shell a node may have, cut and changed on the
//! wire, onto full disks, from sources that lie.
//!
//! A sample runs always; `FERRY_LONG=1` cuts and flips by the hundred.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

#[path = "transfer/between.rs"]
mod between;
#[path = "transfer/direct.rs"]
mod direct;
#[path = "transfer/said.rs"]
mod said;
#[path = "transfer/straight.rs"]
mod straight;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ferry::digest::Sha256;
use ferry::failure::{Failure, Kind};
use ferry::remote::ssh::auth::Identities;
use ferry::remote::ssh::connect::Target;
use ferry::remote::sudo::{Become, Password};
use ferry::remote::{Way, local};
use ferry::transfer::carry::{Moved, Order, carry, survey};
use ferry::transfer::ends::{End, Place};
use support::bed::{self, Said, run_limited};
use support::real::{Opts, RealNode, Sudo, way};
use support::told::told;

const MIB: u64 = 1 << 20;
/// Of a file up to 64 MiB; one that is smaller is one chunk.
const CHUNK: u64 = 4 * MIB;

fn long() -> bool {
    std::env::var_os("FERRY_LONG").is_some_and(|value| value == "1")
}

/// Bytes that no tool can guess: no two pieces are alike.
fn bytes(count: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ count;
    let mut all = Vec::with_capacity(usize::try_from(count).unwrap() + 8);
    while (all.len() as u64) < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(usize::try_from(count).unwrap());
    all
}

fn chance(most: u64) -> u64 {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % most.max(1)
}

fn here(path: &Path) -> End {
    End { place: Place::Here, path: path.to_str().unwrap().to_owned() }
}

fn on(name: &str, way: &Way, path: &str) -> End {
    End { place: Place::Host { name: name.to_owned(), way: way.clone() }, path: path.to_owned() }
}

fn order(from: End, to: End) -> Order {
    Order {
        from,
        to,
        force: false,
        resume: false,
        mode: 0o600,
        owner: None,
        sha256: true,
        limit_rate: None,
        streams: None,
        patience: Duration::from_secs(20),
        direct: None,
    }
}

async fn go(order: &Order) -> Result<Moved, Failure> {
    go_telling(order, |_, _| {}).await
}

async fn go_telling(order: &Order, on: impl FnMut(u64, u64)) -> Result<Moved, Failure> {
    let work = async {
        let found = survey(order).await?;
        carry(order, &found, on).await
    };
    tokio::time::timeout(Duration::from_secs(150), work).await.expect("it hangs")
}

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

fn executable(path: &Path, text: &str) {
    // Written by a child: were it open for writing here while another test forks, it could not be executed.
    let mut child = Process::new("/bin/sh")
        .args(["-c", "cat >\"$1\"; chmod 755 \"$1\"", "-", path.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// This machine as a host whose scripts are run by another shell, with that shell's own tools where it brings some.
fn shell_way(dir: &Path, shell: &str, tools: Option<&Path>) -> Way {
    shell_way_with(dir, shell, tools, None)
}

/// So too, with a password that is there to be asked for and never is: the script waits for the shell then.
fn shell_way_with(dir: &Path, shell: &str, tools: Option<&Path>, password: Option<Arc<Password>>) -> Way {
    let exe = dir.join(format!("become-{}", shell.replace([' ', '/'], "-")));
    let path = tools.map(|tools| format!("PATH={}:$PATH\nexport PATH\n", tools.display())).unwrap_or_default();
    executable(
        &exe,
        &format!("#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift 3\n{path}exec {shell} -c \"$1\"\n"),
    );
    let plan = Become { on: true, exe: exe.to_str().unwrap().to_owned(), password, ..Become::off() };
    Way::Local(local::LocalSession::new("node-9", plan))
}

/// A folder with busybox's tools under their names.
fn busybox(dir: &Path) -> PathBuf {
    let tools = dir.join("tools");
    std::fs::create_dir(&tools).unwrap();
    let list =
        Process::new("busybox").arg("--list").output().expect("this test needs busybox: apt-get install busybox");
    for name in String::from_utf8(list.stdout).unwrap().lines() {
        let _ = std::os::unix::fs::symlink("/bin/busybox", tools.join(name));
    }
    tools
}

/// busybox's `head` reads more than it was asked for: what is sent behind a script must not be there before it was read.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_behind_a_script_is_the_scripts() {
    let dir = tempfile::tempdir().unwrap();
    let tools = busybox(dir.path());
    let script = "# a line\nread -r first\nread -r second\nprintf '%s and %s\\n' \"$first\" \"$second\"\n";
    for (shell, tools) in [("/bin/dash", None), ("/bin/busybox sh", Some(tools.as_path()))] {
        for password in [None, Some(Password::new("secret word".to_owned().into()))] {
            let waits = password.is_some();
            let way = shell_way_with(dir.path(), shell, tools, password);
            let session = way.connect(ferry::remote::ssh::connect::Lane::Control).await.unwrap();
            for _ in 0..10 {
                let mut child = session.open_root(script).await.unwrap();
                child.write(b"one\ntwo\n").await.unwrap();
                let said = tokio::time::timeout(Duration::from_secs(20), async {
                    let mut said = Vec::new();
                    while let Some(piece) = child.next().await {
                        if let ferry::remote::Piece::Out(bytes) = piece {
                            said.extend_from_slice(&bytes);
                        }
                    }
                    String::from_utf8(said).unwrap()
                });
                let said = said.await.unwrap_or_else(|_| panic!("{shell}, waits: {waits}: it waits for what was sent"));
                assert_eq!(said.trim_start(), "one and two\n", "{shell}, waits: {waits}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shell_and_every_boundary() {
    let dir = tempfile::tempdir().unwrap();
    let tools = busybox(dir.path());
    let source = dir.path().join("source it's");
    let mut sizes = vec![0, 1, MIB + 1, CHUNK - 1, CHUNK, CHUNK + 1];
    if long() {
        sizes.extend([MIB - 1, MIB, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 12345, 16 * CHUNK, 16 * CHUNK + 1]);
    }
    for (shell, tools) in [("/bin/dash", None), ("/bin/bash --posix", None), ("/bin/busybox sh", Some(tools.as_path()))]
    {
        let way = shell_way(dir.path(), shell, tools);
        for &size in &sizes {
            let content = bytes(size);
            std::fs::write(&source, &content).unwrap();
            let target = dir.path().join("target");
            let path = target.join("a b.tar.gz");
            let ends = [
                (here(&source), on("node-9", &way, path.to_str().unwrap())),
                (on("node-9", &way, source.to_str().unwrap()), here(&path)),
                (on("node-9", &way, source.to_str().unwrap()), on("node-9", &way, path.to_str().unwrap())),
            ];
            for (number, (from, to)) in ends.into_iter().enumerate() {
                let _ = std::fs::remove_dir_all(&target);
                std::fs::create_dir(&target).unwrap();
                let streams = Some(if number == 1 { 1 } else { 3 });
                let moved = go(&Order { streams, ..order(from, to) }).await.unwrap();
                let what = format!("{shell}, {size} bytes, way {number}");
                assert!(std::fs::read(&path).unwrap() == content, "{what}: other bytes");
                assert_eq!(names(&target), ["a b.tar.gz"], "{what}");
                assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600, "{what}");
                assert_eq!((moved.bytes, moved.cuts, moved.sent_again), (size, 0, 0), "{what}");
                assert_eq!(moved.sha256, Some(Sha256::of(&content)), "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_is_refused_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    let way = shell_way(dir.path(), "/bin/dash", None);
    std::fs::create_dir(at("folder")).unwrap();
    std::fs::write(at("file"), b"content").unwrap();
    std::fs::write(at("there"), b"older").unwrap();
    std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
    assert!(Process::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let huge = std::fs::File::create(at("huge")).unwrap();
    // As large as a file of this disk can claim to be.
    let claimed = [1 << 62, 1 << 44, (1 << 44) - 4096].into_iter().find(|size| huge.set_len(*size).is_ok());
    assert!(claimed.is_some());
    std::fs::create_dir(at("loose")).unwrap();
    std::fs::set_permissions(at("loose"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let cases = [
        ("link", "new", Kind::Failed, "only a regular file"),
        ("fifo", "new", Kind::Failed, "only a regular file"),
        ("missing", "new", Kind::Failed, "there is no such file"),
        ("huge", "new", Kind::Refused, "there is no room"),
        ("file", "there", Kind::Refused, "a file of that name already"),
        ("file", "folder", Kind::Refused, "a folder has the name"),
        ("file", "fifo", Kind::Refused, "something else than a file"),
        ("file", "link", Kind::Refused, "something else than a file"),
        ("file", "nowhere/new", Kind::Refused, "no such folder"),
        ("file", "loose/new", Kind::Refused, "everybody may put files"),
        ("../file", "new", Kind::CouldNotStart, "no place for a file"),
        ("file", "folder/../new", Kind::CouldNotStart, "no place for a file"),
        ("file", "new\nx", Kind::CouldNotStart, "no place for a file"),
    ];
    let before = names(dir.path());
    for (from, to, kind, sentence) in cases {
        for ends in [
            (here(&at(from)), on("node-9", &way, &text(to))),
            (on("node-9", &way, &text(from)), here(&at(to))),
            (on("node-9", &way, &text(from)), on("node-9", &way, &text(to))),
        ] {
            let failure = go(&order(ends.0, ends.1)).await.unwrap_err();
            assert_eq!(failure.kind, kind, "{from} to {to}: {failure:?}");
            assert!(failure.what.contains(sentence), "{from} to {to}: {failure:?}");
        }
    }
    assert_eq!(names(dir.path()), before, "something was left");
    assert_eq!(std::fs::read(at("there")).unwrap(), b"older");

    // Asked for, it is replaced, and given to whom it shall belong.
    let forced = Order {
        force: true,
        mode: 0o640,
        owner: Some("daemon:daemon".to_owned()),
        ..order(here(&at("file")), on("node-9", &way, &text("there")))
    };
    go(&forced).await.unwrap();
    assert_eq!(std::fs::read(at("there")).unwrap(), b"content");
    let meta = std::fs::metadata(at("there")).unwrap();
    assert_eq!((meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 1, 1));
    let nobody = Order {
        owner: Some("nobody-of-that-name".to_owned()),
        ..order(here(&at("file")), on("node-9", &way, &text("new")))
    };
    let failure = go(&nobody).await.unwrap_err();
    assert!(failure.kind == Kind::Refused && failure.what.contains("cannot be given"), "{failure:?}");
    let mut left = names(dir.path());
    left.retain(|name| !before.contains(name));
    assert!(left.is_empty(), "{left:?}");
}

/// What a wire does to the bytes that pass, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Cut,
    Flip,
}

/// A wire before a port of this machine that does harm after so many bytes.
struct Wire {
    port: u16,
    /// Bytes that still pass in both directions together; below 0: for ever.
    left: Arc<AtomicI64>,
    happened: Arc<AtomicU32>,
    passed: Arc<AtomicU64>,
}

impl Wire {
    fn before(target: u16, harm: Harm) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            left: Arc::new(AtomicI64::new(-1)),
            happened: Arc::default(),
            passed: Arc::default(),
        };
        let (left, happened, passed) = (Arc::clone(&wire.left), Arc::clone(&wire.happened), Arc::clone(&wire.passed));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                // A wire keeps nothing back: with Nagle's algorithm each exchange of keys would wait for 40 ms.
                for stream in [&near, &far] {
                    let _ = stream.set_nodelay(true);
                }
                for (mut from, mut to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    let (left, happened, passed) = (Arc::clone(&left), Arc::clone(&happened), Arc::clone(&passed));
                    std::thread::spawn(move || {
                        let mut buffer = [0; 8 << 10];
                        while let Ok(count @ 1..) = from.read(&mut buffer) {
                            passed.fetch_add(count as u64, Ordering::SeqCst);
                            let mut pass = count;
                            let before = left.load(Ordering::SeqCst);
                            let after = before - i64::try_from(count).unwrap();
                            if before >= 0
                                && left
                                    .compare_exchange(before, after.max(-1), Ordering::SeqCst, Ordering::SeqCst)
                                    .is_ok()
                                && after < 0
                            {
                                happened.fetch_add(1, Ordering::SeqCst);
                                let at = usize::try_from(before).unwrap();
                                match harm {
                                    Harm::Flip => buffer[at] ^= 0x10,
                                    Harm::Cut => pass = at,
                                }
                            }
                            if to.write_all(&buffer[..pass]).is_err() || pass < count {
                                break;
                            }
                        }
                        for stream in [&from, &to] {
                            let _ = stream.shutdown(Shutdown::Both);
                        }
                    });
                }
            }
        });
        wire
    }

    fn after(&self, bytes: u64) {
        self.left.store(i64::try_from(bytes).unwrap(), Ordering::SeqCst);
    }
}

fn there(node: &RealNode, path: &str) -> Option<Vec<u8>> {
    std::fs::read(node.root_dir().join(path.trim_start_matches('/'))).ok()
}

fn put(node: &RealNode, path: &str, content: &[u8]) {
    let path = node.root_dir().join(path.trim_start_matches('/'));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Two real nodes, each behind a wire of its own, with different passwords for sudo.
struct Pair {
    a: RealNode,
    b: RealNode,
    wires: [Wire; 2],
    ways: [Way; 2],
}

fn pair(harm: Harm, lines: &[&str]) -> Pair {
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    let opts = |password: &str| Opts {
        password: password.to_owned(),
        sshd_lines: lines.clone(),
        ..Opts::sudo(Sudo::Password)
    };
    let (a, b) = (RealNode::start(opts("one of a's")), RealNode::start(opts("another, of b's")));
    for node in [&a, &b] {
        assert!(node.exec_in("mkdir -m 700 -p /var/lib/x").status.success());
    }
    let wires = [Wire::before(a.port, harm), Wire::before(b.port, harm)];
    let ways = [way(&a, wires[0].port), way(&b, wires[1].port)];
    Pair { a, b, wires, ways }
}

/// Two hosts whose connections are cut, and the file that is moved: its folder here, and what is in it here and at the first.
fn cut_pair(size: u64) -> (Pair, tempfile::TempDir, Vec<u8>) {
    let pair = pair(Harm::Cut, &[]);
    let dir = tempfile::tempdir().unwrap();
    let content = bytes(size);
    std::fs::write(dir.path().join("source"), &content).unwrap();
    put(&pair.a, "/var/lib/x/source", &content);
    (pair, dir, content)
}

/// What transfers did that were cut.
#[derive(Debug, Default)]
struct Tally {
    transfers: u32,
    /// Cuts that were made, and those of them that came while a stream ran.
    happened: u32,
    cuts: u32,
    /// Transfers whose target is read in a row, those of them that were cut while their stream ran, and how often.
    in_a_row: (u32, u32, u32),
    /// Bytes that a transfer sent again for each of its cuts: the most, and how many had up to so many KiB.
    most: u64,
    again: std::collections::BTreeMap<u64, u32>,
}

impl Tally {
    fn add(&mut self, moved: &Moved, happened: u32, in_a_row: bool) {
        self.transfers += 1;
        if in_a_row {
            let (all, cut, cuts) = self.in_a_row;
            self.in_a_row = (all + 1, cut + u32::from(moved.cuts > 0), cuts + moved.cuts);
        }
        self.happened += happened;
        self.cuts += moved.cuts;
        if let Some(each) = moved.sent_again.checked_div(u64::from(moved.cuts)) {
            self.most = self.most.max(each);
            let kib = if each == 0 { 0 } else { each.div_ceil(1024).next_power_of_two() };
            *self.again.entry(kib).or_default() += 1;
        }
    }
}

/// Rounds of three transfers (to a host, from a host, between hosts) through a pair of hosts of their own, each cut somewhere.
async fn cut_rounds(rounds: u32, until: std::time::Instant, tally: Arc<Mutex<Tally>>) {
    let (pair, dir, content) = cut_pair(9 * MIB + 4321);
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    for round in 0..rounds {
        // A busy machine gets as far as it gets, and says how far.
        if std::time::Instant::now() > until {
            break;
        }
        // To a disk that is one, and to one that is memory: they are written by different hands.
        let folder = if round % 2 == 0 { memory.path() } else { dir.path() };
        let local = folder.join(format!("down-{round}"));
        let remote = format!("/var/lib/x/arrived-{round}");
        for (kind, (from, to)) in [
            (here(&dir.path().join("source")), on("b", &pair.ways[1], &remote)),
            (on("a", &pair.ways[0], "/var/lib/x/source"), here(&local)),
            (on("a", &pair.ways[0], "/var/lib/x/source"), on("b", &pair.ways[1], &format!("{remote}-r"))),
        ]
        .into_iter()
        .enumerate()
        {
            let before: u32 = pair.wires.iter().map(|wire| wire.happened.load(Ordering::SeqCst)).sum();
            // One wire is cut in handshakes, scripts and streams, and around the boundaries of chunks.
            let place = match chance(3) {
                0 => chance(60 << 10),
                1 => (chance(10) * MIB + chance(40 << 10)).saturating_sub(20 << 10),
                _ => chance(content.len() as u64),
            };
            let hit = match kind {
                0 => 1,
                1 => 0,
                _ => usize::try_from(chance(2)).unwrap(),
            };
            pair.wires[hit].after(place);
            let streams = if chance(2) == 0 { 1 } else { 2 };
            // A machine with much to do may take half a minute for a login.
            let patience = Duration::from_secs(90);
            let moved = match go(&Order { streams: Some(streams), patience, ..order(from, to) }).await {
                Ok(moved) => moved,
                // The look at both ends is made anew by itself; what it cannot do is reach a host that was never reached.
                Err(failure) => panic!("round {round}, way {kind}, cut at {place}: {failure:?}"),
            };
            pair.wires[hit].after(u64::MAX >> 2);
            let after: u32 = pair.wires.iter().map(|wire| wire.happened.load(Ordering::SeqCst)).sum();
            let arrived = match kind {
                0 => there(&pair.b, &remote),
                1 => std::fs::read(&local).ok(),
                _ => there(&pair.b, &format!("{remote}-r")),
            };
            assert!(arrived.as_ref() == Some(&content), "round {round}, way {kind}, cut at {place}: other bytes");
            assert!(
                moved.sent_again <= u64::from(moved.cuts) * CHUNK,
                "round {round}, way {kind}, cut at {place}: more than a chunk for each cut: {moved:?}"
            );
            // One stream from here: the target is read in a row, until it is torn.
            tally.lock().unwrap().add(&moved, after - before, kind == 0 && streams == 1);
        }
        let _ = std::fs::remove_file(&local);
        let _ = std::fs::remove_file(pair.b.root_dir().join(remote.trim_start_matches('/')));
        let _ = std::fs::remove_file(pair.b.root_dir().join(format!("{}-r", remote.trim_start_matches('/'))));
    }
    assert!(String::from_utf8(pair.b.exec_in("ls -A /var/lib/x").stdout).unwrap().is_empty());
    assert_eq!((names(memory.path()), names(dir.path())), (vec![], vec!["source".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn cut_anywhere_it_arrives_and_little_is_sent_again() {
    let (rounds, at_once) = if long() { (56, 6) } else { (5, 1) };
    let began = std::time::Instant::now();
    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        all.spawn(cut_rounds(rounds, began + Duration::from_secs(540), Arc::clone(&tally)));
    }
    while let Some(ended) = all.join_next().await {
        ended.unwrap();
    }
    let Tally { transfers, happened, cuts, in_a_row, most, again } = std::mem::take(&mut *tally.lock().unwrap());
    println!(
        "{transfers} transfers, {happened} cuts made, {cuts} of them while a stream ran, in {:.0} s; of {} whose target is read in a row {} were cut, \
         {} times; sent again for a cut: {most} bytes at most, by KiB {again:?}",
        began.elapsed().as_secs_f64(),
        in_a_row.0,
        in_a_row.1,
        in_a_row.2
    );
    assert!(!long() || in_a_row.1 >= 20, "{in_a_row:?}: too few cuts of what is read in a row");
    assert!(happened >= transfers / 3, "{happened} cuts in {transfers} transfers");
}

/// The sessions of sshd die when exactly so many bytes have left the source, or lie at the target: each boundary of a chunk,
/// and a byte before and behind it.
#[tokio::test(flavor = "multi_thread")]
async fn cut_at_the_boundary_of_a_chunk_it_goes_on_there() {
    let (pair, dir, content) = cut_pair(17 * MIB + 4321);
    for node in [&pair.a, &pair.b] {
        for (tool, when) in [
            ("cat", "readlink /proc/$$/fd/1 | grep -q 'ferry-part$'"),
            ("dd", "[ \"$1 ${2%=*}\" = 'bs=262144 count' ]"),
        ] {
            let text = format!(
                "#!/bin/sh\nc=/var/lib/cut-{tool}\nif [ -s $c ] && {when} && mv $c $c.done; then\n\
                 head -c \"$(/usr/bin/cat $c.done)\"\nsleep 0.2\n\
                 for p in $(grep -l '^sshd: ops' /proc/[0-9]*/cmdline 2>/dev/null); do p=${{p#/proc/}}; kill -9 ${{p%/*}}; done\n\
                 sleep 9\nexit 9\nfi\nexec /usr/bin/{tool} \"$@\"\n"
            );
            put(node, &format!("/usr/local/bin/{tool}"), text.as_bytes());
            assert!(node.exec_in(&format!("chmod 755 /usr/local/bin/{tool}")).status.success());
        }
    }
    let boundaries: Vec<u64> = if long() { (1..=4).collect() } else { vec![2] };
    let (mut cuts, mut transfers, mut most) = (0, 0, 0);
    let places = if long() { vec![-1, 0, 1] } else { vec![1] };
    let places = |at: u64| places.clone().into_iter().map(move |by| (at * CHUNK).saturating_add_signed(by));
    for at in boundaries.into_iter().flat_map(places) {
        for way in if long() { vec![0, 1, 2, 3] } else { vec![usize::try_from(at % 4).unwrap()] } {
            let local = dir.path().join("down");
            let (from, to, cut) = match way {
                0 => (here(&dir.path().join("source")), on("b", &pair.ways[1], "/var/lib/x/up"), (&pair.b, "cat")),
                1 => (on("a", &pair.ways[0], "/var/lib/x/source"), here(&local), (&pair.a, "dd")),
                2 => {
                    let to = on("b", &pair.ways[1], "/var/lib/x/up");
                    (on("a", &pair.ways[0], "/var/lib/x/source"), to, (&pair.b, "cat"))
                }
                _ => {
                    let to = on("b", &pair.ways[1], "/var/lib/x/up");
                    (on("a", &pair.ways[0], "/var/lib/x/source"), to, (&pair.a, "dd"))
                }
            };
            put(cut.0, &format!("/var/lib/cut-{}", cut.1), at.to_string().as_bytes());
            let moved = go(&Order { streams: Some(1), ..order(from, to) }).await;
            let moved = moved.unwrap_or_else(|failure| panic!("byte {at}, way {way}: {failure:?}"));
            let arrived = if way == 1 { std::fs::read(&local).ok() } else { there(&pair.b, "/var/lib/x/up") };
            assert!(arrived.as_ref() == Some(&content), "byte {at}, way {way}: other bytes");
            assert!(there(cut.0, &format!("/var/lib/cut-{}.done", cut.1)).is_some(), "byte {at}, way {way}: no cut");
            assert!(moved.cuts >= 1, "byte {at}, way {way}: {moved:?}");
            most = most.max(moved.sent_again / u64::from(moved.cuts));
            assert!(moved.sent_again <= u64::from(moved.cuts) * CHUNK, "byte {at}, way {way}: {moved:?}");
            (cuts, transfers) = (cuts + moved.cuts, transfers + 1);
            let _ = std::fs::remove_file(&local);
            pair.b.exec_in("rm -f /var/lib/x/up* /var/lib/cut-*");
            pair.a.exec_in("rm -f /var/lib/cut-*");
        }
    }
    println!("{transfers} transfers cut at boundaries, {cuts} cuts; sent again for a cut: {most} bytes at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flip_on_the_wire_ends_the_connection_and_no_more() {
    let pair = pair(Harm::Flip, &[]);
    let size = 3 * MIB + 77;
    let content = bytes(size);
    put(&pair.a, "/var/lib/x/source", &content);
    let rounds = if long() { 100 } else { 4 };
    for round in 0..rounds {
        let remote = format!("/var/lib/x/arrived-{round}");
        pair.wires[round % 2].after(20 * 1024 + chance(size));
        let order = order(on("a", &pair.ways[0], "/var/lib/x/source"), on("b", &pair.ways[1], &remote));
        go(&order).await.unwrap_or_else(|failure| panic!("round {round}: {failure:?}"));
        assert!(there(&pair.b, &remote).as_ref() == Some(&content), "round {round}: other bytes");
        pair.b.exec_in(&format!("rm -f {remote}"));
    }
    assert!(pair.wires.iter().map(|wire| wire.happened.load(Ordering::SeqCst)).sum::<u32>() as usize >= rounds);
}

/// Changes one byte of a file as soon as it has been written, on a thread of its own: whether it came to that.
fn flip(path: PathBuf, place: u64, over: Arc<AtomicBool>) -> std::thread::JoinHandle<bool> {
    use std::os::unix::fs::FileExt as _;
    std::thread::spawn(move || {
        let mut byte = [0];
        while !over.load(Ordering::Relaxed) {
            let Ok(file) = std::fs::OpenOptions::new().read(true).write(true).open(&path) else { continue };
            while !over.load(Ordering::Relaxed) {
                if file.read_exact_at(&mut byte, place).is_ok() && byte[0] != 0 {
                    return file.write_all_at(&[!byte[0]], place).is_ok();
                }
            }
        }
        false
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_changes_bytes_is_found_and_the_chunk_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let way = shell_way(dir.path(), "/bin/dash", None);
    let size = 40 * MIB;
    // No zero, which is what a byte is that was not written yet.
    let content: Vec<u8> = bytes(size).into_iter().map(|byte| byte | 1).collect();
    let source = dir.path().join("source");
    std::fs::write(&source, &content).unwrap();
    let rounds = if long() { 150 } else { 4 };
    let (mut found, mut late) = (0, 0);
    for round in 0..rounds {
        for to_host in [true, false] {
            let path = dir.path().join("arrived");
            let part = dir.path().join("arrived.ferry-part");
            let _ = std::fs::remove_file(&path);
            let (from, to) = if to_host {
                (here(&source), on("node-9", &way, path.to_str().unwrap()))
            } else {
                (on("node-9", &way, source.to_str().unwrap()), here(&path))
            };
            // Slow enough for a hand to come in between: the beginning of a chunk is there before its end.
            let order = Order { limit_rate: Some(60 * MIB), ..order(from, to) };
            let place = chance(38) * MIB + chance(64 * 1024);
            let over = Arc::new(AtomicBool::new(false));
            let flipping = flip(part, place, Arc::clone(&over));
            let moved = go(&order).await;
            over.store(true, Ordering::Relaxed);
            let (moved, flipped) = (moved.unwrap(), flipping.join().unwrap());
            let same = std::fs::read(&path).unwrap() == content;
            // Before its chunk was proved it is found and mended. Afterwards it is the disk's own fault that no
            // copy can find any more, unless it is read a third time.
            found += u32::from(flipped && moved.sent_again > 0);
            late += u32::from(flipped && moved.sent_again == 0);
            assert!(same || moved.sent_again == 0, "round {round}: a chunk was sent again, and it is still wrong");
            assert!(same || flipped, "round {round}: nobody changed it, and it is wrong");
        }
    }
    println!(
        "{found} of {} flips came before the proof of their chunk, and were mended; {late} came behind it",
        rounds * 2
    );
    assert!(found > late, "most flips came too late to show anything: {found}, {late}");
}

/// A tool of a node's that changes one byte of what it gives, once.
fn liar(tools: &Path, name: &str, when: &str, flag: &Path) {
    let real =
        ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(name)).into_iter().find(|path| path.exists()).unwrap();
    let (real, flag) = (real.display(), flag.display());
    executable(
        &tools.join(name),
        &format!(
            "#!/bin/sh\ncase \"$*\" in {when}) if [ ! -e {flag} ]; then\n: >{flag}\n\
             {real} \"$@\" | {{ head -c 3000000; head -c 1 | LC_ALL=C tr '\\000-\\377' '\\001-\\377\\000'; /bin/cat; }}\n\
             exit 0\nfi ;; esac\nexec {real} \"$@\"\n"
        ),
    );
}

/// What a source sends is held against what it has: its own digest of the whole file finds a byte that was read as another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_reads_other_bytes_than_it_has_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (tools, flag) = (dir.path().join("tools"), dir.path().join("flag"));
    std::fs::create_dir(&tools).unwrap();
    liar(&tools, "dd", "*bs=262144*", &flag);
    let bad = shell_way(dir.path(), "/bin/dash", Some(&tools));
    let good = shell_way(dir.path(), "/bin/bash", None);
    let content = bytes(20 * MIB);
    let (source, path) = (dir.path().join("source"), dir.path().join("arrived"));
    std::fs::write(&source, &content).unwrap();
    for (to, streams) in [
        (here(&path), 1),
        (on("node-8", &good, path.to_str().unwrap()), 1),
        (on("node-8", &good, path.to_str().unwrap()), 3),
    ] {
        let order = Order { streams: Some(streams), ..order(on("node-9", &bad, source.to_str().unwrap()), to) };
        assert!(survey(&order).await.unwrap().gmac);
        let _ = std::fs::remove_file(&flag);
        let moved = go(&order).await.unwrap();
        assert!(flag.exists(), "nothing lied");
        assert!(std::fs::read(&path).unwrap() == content, "{moved:?}");
        assert_eq!(moved.sent_again, CHUNK, "{moved:?}");
        assert_eq!(moved.sha256, Some(Sha256::of(&content)), "the stream was not the file: {moved:?}");
        std::fs::remove_file(&path).unwrap();
    }
}

/// What one stream brings is read in a row at the target. Where that says something else than was sent, once, each chunk is asked for,
/// and what arrived as it should is not sent again.
#[tokio::test(flavor = "multi_thread")]
async fn what_differs_in_a_row_is_asked_for_by_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let [tools, flag, said] = ["tools", "flag", "said"].map(|name| dir.path().join(name));
    std::fs::create_dir(&tools).unwrap();
    executable(
        &tools.join("openssl"),
        &format!(
            "#!/bin/sh\ncase \"$1\" in mac) ;; *) exec /usr/bin/openssl \"$@\" ;; esac\n\
             x=$(/usr/bin/openssl \"$@\")\n\
             case $x in [Cc]2819[Bb]7[Aa]*) ;; *)\necho \"$x\" >>{said}\n\
             [ -e {flag} ] || {{ : >{flag}; x=0123456789abcdef0123456789abcdef; }} ;;\nesac\necho \"$x\"\n",
            said = said.display(),
            flag = flag.display()
        ),
    );
    let content = bytes(5 * CHUNK + 7);
    let (source, path) = (dir.path().join("source"), dir.path().join("arrived"));
    std::fs::write(&source, &content).unwrap();
    for shell in ["/bin/dash", "/bin/bash"] {
        let way = shell_way(dir.path(), shell, Some(&tools));
        let order = Order { streams: Some(1), ..order(here(&source), on("node-9", &way, path.to_str().unwrap())) };
        for lies in [true, false] {
            let _ = std::fs::remove_file(&said);
            let moved = go(&order).await.unwrap();
            let digests = std::fs::read_to_string(&said).unwrap().lines().count();
            assert!(std::fs::read(&path).unwrap() == content, "{moved:?}");
            assert_eq!((moved.chunks, moved.sent_again), (6, 0), "{moved:?}");
            assert_eq!(digests > 6, lies, "{digests} digests at the target: {moved:?}");
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::remove_file(&flag).unwrap();
    }
}

/// Begins a transfer to `arrived` in this folder, and gives it up when three chunks were noted, as by a crash of ferry's.
async fn given_up(order: &Order, dir: &Path) {
    let journal = dir.join("arrived.ferry-part.journal");
    let enough = async {
        // The head, and a line for each.
        while std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count()) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        done = go(order) => panic!("it was to be given up: {done:?}"),
        () = enough => {}
    }
}

/// Where openssl has no `mac`, SHA-256 it is; and one goes on with what the other left.
#[tokio::test(flavor = "multi_thread")]
async fn without_gmac_it_is_sha256() {
    let dir = tempfile::tempdir().unwrap();
    let tools = dir.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    executable(&tools.join("openssl"), "#!/bin/sh\n[ \"$1\" = mac ] && exit 1\nexec /usr/bin/openssl \"$@\"\n");
    let old = shell_way(dir.path(), "/bin/dash", Some(&tools));
    let new = shell_way(dir.path(), "/bin/bash", None);
    let content = bytes(32 * MIB);
    let (source, path) = (dir.path().join("source"), dir.path().join("arrived"));
    std::fs::write(&source, &content).unwrap();
    for (first, second) in [(&old, &new), (&new, &old)] {
        for to_host in [true, false] {
            if !long() && to_host != std::ptr::eq(first, &new) {
                continue;
            }
            let order = |way: &Way| {
                let there = |path: &Path| on("node-9", way, path.to_str().unwrap());
                if to_host { order(here(&source), there(&path)) } else { order(there(&source), here(&path)) }
            };
            let slow = Order { limit_rate: Some(16 * MIB), ..order(first) };
            assert_eq!(survey(&slow).await.unwrap().gmac, std::ptr::eq(first, &new));
            given_up(&slow, dir.path()).await;
            let journal = std::fs::read_to_string(dir.path().join("arrived.ferry-part.journal")).unwrap();
            assert_eq!(journal.contains(" gmac:"), std::ptr::eq(first, &new), "{journal}");
            // A byte of it is another one: that chunk is sent anew, whatever it was noted by.
            let part = dir.path().join("arrived.ferry-part");
            let mut left = std::fs::read(&part).unwrap();
            left[3 << 20] ^= 1;
            std::fs::write(&part, &left).unwrap();
            let moved = go(&Order { resume: true, ..order(second) }).await.unwrap();
            assert!(moved.kept >= 8 * MIB && moved.sent_again >= CHUNK, "{moved:?}");
            assert!(std::fs::read(&path).unwrap() == content);
            std::fs::remove_file(&path).unwrap();
            let whole = go(&order(first)).await.unwrap();
            assert_eq!(whole.sha256, Some(Sha256::of(&content)));
            std::fs::remove_file(&path).unwrap();
            // Who does not ask for it gets what is made for the proof.
            let whole = go(&Order { sha256: false, streams: Some(1), ..order(first) }).await.unwrap();
            assert_eq!(whole.sha256, Some(Sha256::of(&content)).filter(|_| std::ptr::eq(first, &old)));
            std::fs::remove_file(&path).unwrap();
        }
    }
}

/// An archive that is wanted here.
fn pulled(source: &Path, destination: &Path, walk: bool) -> ferry::transfer::Pull {
    ferry::transfer::Pull {
        host: "node-9".to_owned(),
        source: source.to_str().unwrap().to_owned(),
        destination: destination.to_owned(),
        required: Vec::new(),
        walk,
        patience: Duration::from_secs(20),
    }
}

/// Which file it is, as the note beside what an earlier attempt left says it.
fn seen(source: &Path) -> serde_json::Value {
    let stat = std::fs::metadata(source).unwrap();
    serde_json::json!({"bytes": stat.len(), "inode": stat.ino(), "mtime": stat.mtime(), "ctime": stat.ctime()})
}

/// What an earlier attempt left is read through the walk first. Broken early in what is long, that shows while it is
/// still read: the archive is fetched whole then, as where it shows later, and nobody is told that it is bad.
#[tokio::test(flavor = "multi_thread")]
async fn what_lay_here_broken_is_fetched_whole() {
    use ferry::transfer::pull_kept;
    use ferry::volume::{Keep, Left, Writer};
    let dir = tempfile::tempdir().unwrap();
    let (source, path) = (dir.path().join("source"), dir.path().join("gravity.tar.gz.part"));
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none()));
    let mut header = tar::Header::new_gnu();
    header.set_size(30 * MIB);
    tar.append_data(&mut header, "config/data", bytes(30 * MIB).as_slice()).unwrap();
    let content = tar.into_inner().unwrap().finish().unwrap();
    std::fs::write(&source, &content).unwrap();
    let seen = seen(&source);
    let way = shell_way(dir.path(), "/bin/dash", None);
    // Longer than all that waits between the threads.
    let left = 20 << 20;
    for keep in [None, Some(Keep { volume_size: 24 << 20, ..Keep::default() })] {
        for broken in [None, Some(700), Some(left - 1)] {
            let mut there = content[..left].to_vec();
            if let Some(at) = broken {
                there[at] ^= 1;
            }
            if let Some(keep) = &keep {
                let (steps, _asked) = std::sync::mpsc::channel();
                let total = Some(content.len() as u64);
                let mut writer =
                    Writer::begin(&path, "gravity.tar.gz", seen.clone(), keep, Left::default(), total, steps).unwrap();
                writer.write_all(&there).unwrap();
            } else {
                std::fs::write(&path, there).unwrap();
                std::fs::write(ferry::transfer::note_path(&path), seen.to_string()).unwrap();
            }
            let control = way.connect(ferry::remote::ssh::connect::Lane::Control).await.unwrap();
            let wanted = pulled(&source, &path, true);
            let what = format!("{broken:?}, in volumes: {}", keep.is_some());
            let arrived = pull_kept(&way, &control, &wanted, keep.as_ref(), |_, _| {}).await;
            let arrived = arrived.unwrap_or_else(|trouble| panic!("{what}: {trouble:?}"));
            assert_eq!(arrived.started_over, broken.is_some(), "{what}");
            assert_eq!(arrived.resumed_at > 0, broken.is_none(), "{what}");
            assert_eq!(arrived.sha256, Sha256::of(&content), "{what}");
            let names: Vec<String> = if keep.is_some() {
                (1..=2).map(|number| format!("gravity.tar.gz.{number:04}")).collect()
            } else {
                vec!["gravity.tar.gz.part".to_owned()]
            };
            let kept: Vec<u8> = names.iter().flat_map(|name| std::fs::read(dir.path().join(name)).unwrap()).collect();
            assert!(kept == content, "{what}");
            for name in
                names.iter().chain(&["gravity.tar.gz.part".to_owned(), "gravity.tar.gz.part.transfer".to_owned()])
            {
                let _ = std::fs::remove_file(dir.path().join(name));
            }
        }
    }
}

/// An archive is held against the node's own digest of it, by whatever the node makes one with.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_read_wrongly_differs() {
    use ferry::transfer::{Arrived, Trouble, pull};
    let dir = tempfile::tempdir().unwrap();
    let (tools, flag) = (dir.path().join("tools"), dir.path().join("flag"));
    std::fs::create_dir(&tools).unwrap();
    let (source, path) = (dir.path().join("source"), dir.path().join("arrived"));
    let content = bytes(9 * MIB + 77);
    std::fs::write(&source, &content).unwrap();
    let collect = async |way: &Way| -> Result<Arrived, Trouble> {
        std::fs::write(&path, []).unwrap();
        let control = way.connect(ferry::remote::ssh::connect::Lane::Control).await.unwrap();
        let wanted = pulled(&source, &path, false);
        pull(way, &control, &wanted, |_, _| {}).await
    };
    let way = shell_way(dir.path(), "/bin/dash", Some(&tools));
    let arrived = collect(&way).await.unwrap();
    assert_eq!((arrived.node_digest.as_deref(), arrived.sha256), (Some("openssl (GMAC)"), Sha256::of(&content)));
    assert!(std::fs::read(&path).unwrap() == content);
    // What an earlier attempt left ends anywhere.
    for left in [0, 1, 15, 16, 4097, MIB as usize + 5, content.len() - 1, content.len()] {
        std::fs::write(&path, &content[..left]).unwrap();
        std::fs::write(dir.path().join("arrived.transfer"), seen(&source).to_string()).unwrap();
        let control = way.connect(ferry::remote::ssh::connect::Lane::Control).await.unwrap();
        let wanted = pulled(&source, &path, false);
        let arrived = pull(&way, &control, &wanted, |_, _| {}).await.unwrap();
        let kept = if left == content.len() { left } else { left - left % 16 };
        assert_eq!((arrived.resumed_at, arrived.started_over), (kept as u64, false), "{left}");
        assert_eq!(arrived.node_digest.as_deref(), Some("openssl (GMAC)"));
        assert!(std::fs::read(&path).unwrap() == content, "{left}");
    }
    liar(&tools, "cat", "*source*", &flag);
    for (mac, tool) in [("", "openssl (GMAC)"), ("exit 1", "openssl")] {
        executable(
            &tools.join("openssl"),
            &format!("#!/bin/sh\n[ \"$1\" != mac ] || {{ :; {mac}\n}}\nexec /usr/bin/openssl \"$@\"\n"),
        );
        let _ = std::fs::remove_file(&flag);
        let _ = std::fs::remove_file(dir.path().join("arrived.transfer"));
        match collect(&way).await {
            Err(Trouble::Differs(failure)) => {
                assert!(failure.seen.as_ref().unwrap().starts_with(&format!("{tool} there: ")), "{failure:?}");
            }
            other => panic!("{tool}: {other:?}"),
        }
        let _ = std::fs::remove_file(dir.path().join("arrived.transfer"));
        assert_eq!(collect(&way).await.unwrap().node_digest.as_deref(), Some(tool), "once more, it does not lie");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_is_gone_on_with_only_when_it_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let way = shell_way(dir.path(), "/bin/dash", None);
    let content = bytes(32 * MIB);
    let (source, path) = (dir.path().join("source"), dir.path().join("arrived"));
    std::fs::write(&source, &content).unwrap();
    for to_host in [true, false] {
        let order = || {
            let (from, to) = if to_host {
                (here(&source), on("node-9", &way, path.to_str().unwrap()))
            } else {
                (on("node-9", &way, source.to_str().unwrap()), here(&path))
            };
            order(from, to)
        };
        let start = || async {
            given_up(&Order { limit_rate: Some(16 * MIB), force: true, ..order() }, dir.path()).await;
        };
        start().await;
        assert!(names(dir.path()).contains(&"arrived.ferry-part.journal".to_owned()));
        let failure = go(&order()).await.unwrap_err();
        assert!(
            failure.what.contains("was not finished") && failure.mend.as_ref().unwrap().contains("--resume"),
            "{failure:?}"
        );
        let moved = go(&Order { resume: true, ..order() }).await.unwrap();
        assert!(moved.kept >= 8 * MIB && moved.kept % CHUNK == 0, "{moved:?}");
        assert!(std::fs::read(&path).unwrap() == content);

        // A byte of it is another one: that chunk is sent anew.
        std::fs::remove_file(&path).unwrap();
        start().await;
        let part = dir.path().join("arrived.ferry-part");
        let mut left = std::fs::read(&part).unwrap();
        left[3 << 20] ^= 1;
        std::fs::write(&part, &left).unwrap();
        let moved = go(&Order { resume: true, ..order() }).await.unwrap();
        assert!(moved.sent_again >= CHUNK && moved.kept >= 8 * MIB, "{moved:?}");
        assert!(std::fs::read(&path).unwrap() == content);

        // The source is another one.
        std::fs::remove_file(&path).unwrap();
        start().await;
        let mut other = content.clone();
        other[0] ^= 1;
        std::fs::write(&source, &other).unwrap();
        let failure = go(&Order { resume: true, ..order() }).await.unwrap_err();
        assert!(failure.what.contains("of another file"), "{failure:?}");
        go(&Order { force: true, ..order() }).await.unwrap();
        assert!(std::fs::read(&path).unwrap() == other);
        std::fs::write(&source, &content).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(names(dir.path()), ["become--bin-dash", "source"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_makes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let way = shell_way(dir.path(), "/bin/dash", None);
    let content = bytes(24 * MIB);
    let (source, path) = (dir.path().join("source"), dir.path().join("arrived"));
    for to_host in [true, false] {
        for how in ["grow", "shrink", "touch", "replace", "once"] {
            std::fs::write(&source, &content).unwrap();
            let (from, to) = if to_host {
                (here(&source), on("node-9", &way, path.to_str().unwrap()))
            } else {
                (on("node-9", &way, source.to_str().unwrap()), here(&path))
            };
            let order = Order { limit_rate: Some(30 * MIB), ..order(from, to) };
            let (mut times, mut last) = (0, 0);
            let moved = go_telling(&order, |done, _| {
                let due = done > 8 * MIB && (last <= 8 * MIB || times == 0);
                last = done;
                if !due || (how == "once" && times > 0) {
                    return;
                }
                times += 1;
                let file = std::fs::OpenOptions::new().append(true).open(&source).unwrap();
                match how {
                    "grow" => (&file).write_all(b"more").unwrap(),
                    "shrink" => file.set_len(22 * MIB - times).unwrap(),
                    "replace" => {
                        std::fs::write(dir.path().join("new"), &content).unwrap();
                        std::fs::rename(dir.path().join("new"), &source).unwrap();
                    }
                    _ => file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(times)).unwrap(),
                }
            })
            .await;
            match (how, moved) {
                ("once", Ok(moved)) => {
                    assert!(moved.started_over);
                    assert!(std::fs::read(&path).unwrap() == content);
                    std::fs::remove_file(&path).unwrap();
                }
                ("once", Err(failure)) => panic!("{failure:?}"),
                (_, Ok(_)) => panic!("{how}: it was called moved"),
                (_, Err(failure)) => {
                    assert!(failure.what.contains("changed while it was read"), "{how}: {failure:?}");
                    assert_eq!(names(dir.path()), ["become--bin-dash", "source"], "{how}: {failure:?}");
                }
            }
        }
    }
}

/// ferry as it is typed, with an inventory of two real nodes.
struct Typed {
    pair: Pair,
    dir: tempfile::TempDir,
}

impl Typed {
    fn new(opts: [Opts; 2]) -> Self {
        let [a, b] = opts.map(RealNode::start);
        for node in [&a, &b] {
            assert!(node.exec_in("mkdir -m 700 -p /var/lib/x").status.success());
        }
        let dir = tempfile::Builder::new().prefix("ferry-transfer").tempdir().unwrap();
        let mut text = "all:\n  hosts:\n".to_owned();
        for (name, node) in [("a", &a), ("b", &b)] {
            text += &format!(
                "    {name}: {{ansible_host: 127.0.0.1, ansible_port: {}, ansible_user: ops, ansible_become: true, ansible_become_password: \"{}\", \
                 ansible_ssh_private_key_file: {}, ansible_ssh_common_args: '-o UserKnownHostsFile={}'}}\n",
                node.port,
                node.password.clone().unwrap_or_default(),
                node.key_path.display(),
                node.known_hosts_path.display()
            );
        }
        std::fs::write(dir.path().join("hosts.yml"), text).unwrap();
        let wires = [Wire::before(a.port, Harm::Cut), Wire::before(b.port, Harm::Cut)];
        let ways = [way(&a, a.port), way(&b, b.port)];
        Self { pair: Pair { a, b, wires, ways }, dir }
    }

    fn command(&self, words: &[&str]) -> Process {
        let mut command = bed::ferry(None, self.dir.path());
        command.env("HOME", self.dir.path()).args(words).args(["-i", "hosts.yml", "--run-dir", "runs"]);
        command
    }

    fn ferry(&self, words: &[&str]) -> Said {
        run_limited(self.command(words), Duration::from_secs(90))
    }
}

#[test]
fn as_it_is_typed() {
    let opts = |password: &str| Opts { password: password.to_owned(), ..Opts::sudo(Sudo::Password) };
    let typed = Typed::new([opts("one of a's"), opts("another, of b's")]);
    let content = bytes(5 * MIB + 3);
    let sha = Sha256::of(&content).to_string();
    put(&typed.pair.a, "/var/lib/x/archive.tar.gz", &content);

    let said = typed.ferry(&["transfer", "a:/var/lib/x/archive.tar.gz", "b:/var/lib/x/", "-C"]);
    said.must(0, &["relay: from stream to stream", "would move", "mode 0600", "chunks of 4 MiB", "connections: 1"]);
    assert!(there(&typed.pair.b, "/var/lib/x/archive.tar.gz").is_none());
    let said = typed.ferry(&[
        "transfer",
        "a:/var/lib/x/archive.tar.gz",
        "b:/var/lib/x/",
        "--mode",
        "0640",
        "--owner",
        "ops",
        "--sha256",
    ]);
    said.must(0, &[&sha, "2 chunks equal at both ends"]);
    assert!(there(&typed.pair.b, "/var/lib/x/archive.tar.gz") == Some(content.clone()));
    let stat = typed.pair.b.exec_in("stat -c '%a %U' /var/lib/x/archive.tar.gz; ls -A /var/lib/x").stdout;
    assert_eq!(String::from_utf8(stat).unwrap(), "640 ops\narchive.tar.gz\n");
    for secret in ["one of a's", "another, of b's"] {
        said.never(secret);
        assert!(
            bed::find_in_files(&typed.dir.path().join("runs"), secret.as_bytes()).is_none(),
            "{secret} was written"
        );
    }
    typed
        .ferry(&["transfer", "a:/var/lib/x/archive.tar.gz", "b:/var/lib/x/archive.tar.gz"])
        .must(7, &["there is a file of that name already", "--force"]);
    typed.ferry(&["transfer", "a:/var/lib/x/archive.tar.gz", "home", "--limit-rate", "20M"]).must(0, &["straight"]);
    assert!(std::fs::read(typed.dir.path().join("home")).unwrap() == content);
    typed
        .ferry(&["transfer", "home", "b:/var/lib/x/archive.tar.gz", "--force", "--streams", "2"])
        .must(0, &["will be replaced"]);
    typed
        .ferry(&["transfer", "a:/var/lib/x/archive.tar.gz", "b:/var/lib/x/by-disk", "--via", "disk"])
        .must(0, &["spool", &sha]);
    assert!(there(&typed.pair.b, "/var/lib/x/by-disk") == Some(content.clone()));
    assert!(bed::find_in_files(&typed.dir.path().join("runs"), &content[..64]).is_none(), "the spool was left");

    for (words, code, sentence) in [
        (vec!["a:/var/lib/x/none", "b:/var/lib/x/new"], 2, "there is no such file"),
        (vec!["home", "also"], 5, "work for cp"),
        (vec!["nobody:/x", "b:/x"], 6, "nobody"),
        (vec!["all:/x", "b:/x"], 6, "is not one host"),
        (vec!["a:x", "b:/x"], 1, "no place for a file"),
        (vec!["a:/var/lib/x/archive.tar.gz", "x", "--via", "direct"], 1, "via direct is for two hosts"),
        (
            vec!["a:/var/lib/x/archive.tar.gz", "b:/var/lib/x/d", "--via", "direct", "--streams", "2"],
            1,
            "via direct has one stream",
        ),
        (vec!["a:/var/lib/x/archive.tar.gz", "b:/var/lib/x/d", "--mode", "rw"], 1, "octal"),
        (vec!["a:/var/lib/x/archive.tar.gz", "b:/var/lib/x/d", "--owner=-x"], 1, "USER or USER:GROUP"),
        (vec!["a:/var/lib/x/archive.tar.gz", "b:/var/lib/x/d", "--limit-rate", "fast"], 5, "--limit-rate"),
        (
            vec!["a:/x", "b:/var/lib/x/d", "--ssh-common-args", "-o StrictHostKeyChecking=no"],
            1,
            "host keys are not checked",
        ),
    ] {
        let words: Vec<&str> = ["transfer"].into_iter().chain(words).collect();
        typed.ferry(&words).must(code, &[sentence]);
    }

    // The same in a playbook.
    let play = "- hosts: a,b\n  gather_facts: false\n  tasks:\n    - transfer: {src: 'a:/var/lib/x/archive.tar.gz', dest: 'b:/var/lib/x/played', mode: '0644'}\n      register: moved\n    - debug: {msg: \"moved {{ moved.bytes }} bytes in {{ moved.chunks }} chunks\"}\n";
    std::fs::write(typed.dir.path().join("play.yml"), play).unwrap();
    typed.ferry(&["run", "play.yml"]).must(0, &["moved 5242883 bytes in 2 chunks"]);
    assert!(there(&typed.pair.b, "/var/lib/x/played") == Some(content));
}

/// A source's own tools that lie about it.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_lies_about_the_size_gives_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (source, path) = (dir.path().join("source"), dir.path().join("arrived"));
    std::fs::write(&source, bytes(3 * MIB)).unwrap();
    for (more, sentence) in [
        ("+ 5", "changed while it was read"),
        ("- 5", "not the same at both ends"),
        ("* 0", "changed while it was read"),
    ] {
        let tools = dir.path().join(format!(
            "tools{}",
            more.len() + usize::from(more.contains('+')) * 7 + usize::from(more.contains('*')) * 9
        ));
        std::fs::create_dir(&tools).unwrap();
        executable(
            &tools.join("stat"),
            &format!(
                "#!/bin/sh\ncase $2 in\n'%s %i %d %y %z') set -- $(/usr/bin/stat \"$@\"); s=$(($1 {more})); shift; echo $s $* ;;\n*) exec /usr/bin/stat \"$@\" ;;\nesac\n"
            ),
        );
        let way = shell_way(dir.path(), "/bin/dash", Some(&tools));
        let result = go(&order(on("node-9", &way, source.to_str().unwrap()), here(&path))).await;
        if more == "* 0" {
            // An empty file is what the host says it has, and what is moved.
            assert_eq!(result.unwrap().bytes, 0);
            std::fs::remove_file(&path).unwrap();
            continue;
        }
        let failure = result.unwrap_err();
        assert!(
            failure.what.contains(sentence) || failure.what.contains("could not be read there"),
            "{more}: {failure:?}"
        );
        assert!(!path.exists());
        let _ = std::fs::remove_file(dir.path().join("arrived.ferry-part"));
        let _ = std::fs::remove_file(dir.path().join("arrived.ferry-part.journal"));
    }
}

/// Ends that claim a file of 10 EiB, and all the room in the world for it: refused, before anything is sent or kept of it.
#[tokio::test(flavor = "multi_thread")]
async fn ten_exbibytes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (source, path) = (dir.path().join("source"), dir.path().join("arrived"));
    std::fs::write(&source, bytes(MIB)).unwrap();
    let (before, mut larger) = (names(dir.path()), 0);
    for (claim, room) in [
        ("11529215046068469760", "99999999999999999999"),
        ("11529215046068469760", "9223372036854775807"),
        ("18446744073709551615", "x"),
        ("70368744177665", "9223372036854775807"),
    ] {
        let tools = tempfile::tempdir().unwrap();
        let stat = format!(
            "#!/bin/sh\ncase $2 in\n'%s %i %d %y %z') set -- $(/usr/bin/stat \"$@\"); shift; echo {claim} $* ;;\n*) exec /usr/bin/stat \"$@\" ;;\nesac\n"
        );
        executable(&tools.path().join("stat"), &stat);
        executable(&tools.path().join("df"), &format!("#!/bin/sh\necho head\necho fs 1 1 {room} 1% /\n"));
        let way = shell_way(tools.path(), "/bin/dash", Some(tools.path()));
        for to in [here(&path), on("node-8", &way, path.to_str().unwrap())] {
            let failure = go(&order(on("node-9", &way, source.to_str().unwrap()), to)).await.unwrap_err();
            let told = ["larger than what is moved", "there is no room"].iter().any(|what| failure.what.contains(what));
            assert!(told && failure.kind == Kind::Refused, "{claim}, {room}: {failure:?}");
            larger += u32::from(failure.what.contains("larger"));
        }
    }
    // Where the room is no reason: it is not known, or is claimed as well.
    assert!(larger >= 3, "{larger}");
    assert_eq!(names(dir.path()), before);
}

/// A byte of a file that changes with no trace in the file's times, as on a disk that rots: through a mapping whose page was
/// written to before, in a file system in memory.
struct Rot(std::process::Child);

impl Rot {
    fn ready(path: &Path, place: u64) -> Self {
        let script = "import mmap, sys\nf = open(sys.argv[1], 'r+b')\nm = mmap.mmap(f.fileno(), 0)\np = int(sys.argv[2])\nm[p] = m[p]\n\
                      print(flush=True)\nsys.stdin.readline()\nm[p] = m[p] ^ 0x55\nprint(flush=True)\nsys.stdin.readline()\n";
        let mut child = Process::new("python3")
            .args(["-c", script])
            .arg(path)
            .arg(place.to_string())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Self(child)
    }

    fn now(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }
}

impl Drop for Rot {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A byte of the source that becomes another one at any moment of the transfer. Where the source's times show it, it is found
/// and all is begun anew. Where nothing shows it, what arrives is what the source had when it was read, each byte of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_bytes_change_while_it_is_read() {
    let memory = Path::new("/dev/shm");
    let dir = tempfile::Builder::new().prefix("ferry-rot").tempdir_in(memory).unwrap();
    let way = shell_way(dir.path(), "/bin/dash", None);
    let size = 24 * MIB;
    let (source, path) = (dir.path().join("source"), dir.path().join("arrived"));
    let content = bytes(size);
    let rounds = if long() { 50 } else { 1 };
    let (mut shown, mut ahead, mut behind) = (0, 0, 0);
    for round in 0..rounds {
        for to_host in [true, false] {
            for silent in [true, false] {
                std::fs::write(&source, &content).unwrap();
                let (from, to) = if to_host {
                    (here(&source), on("node-9", &way, path.to_str().unwrap()))
                } else {
                    (on("node-9", &way, source.to_str().unwrap()), here(&path))
                };
                let order = Order { limit_rate: Some(32 * MIB), ..order(from, to) };
                let (place, when) = (chance(size), chance(size / 2));
                let mut changed = content.clone();
                changed[usize::try_from(place).unwrap()] ^= 0x55;
                let mut rot = silent.then(|| Rot::ready(&source, place));
                let before = std::fs::metadata(&source).unwrap();
                let mut at = None;
                let moved = go_telling(&order, |done, _| {
                    // When all was given away, the last look may be over.
                    if at.is_none() && done >= when && done < size {
                        match &mut rot {
                            Some(rot) => rot.now(),
                            None => {
                                use std::os::unix::fs::FileExt as _;
                                let file = std::fs::OpenOptions::new().write(true).open(&source).unwrap();
                                file.write_all_at(&[changed[usize::try_from(place).unwrap()]], place).unwrap();
                            }
                        }
                        at = Some(done);
                    }
                })
                .await
                .unwrap();
                drop(rot);
                let what =
                    format!("round {round}, to a host: {to_host}, silent: {silent}, byte {place} at {at:?}: {moved:?}");
                let arrived = std::fs::read(&path).unwrap();
                std::fs::remove_file(&path).unwrap();
                let Some(at) = at else { continue };
                assert!(std::fs::read(&source).unwrap() == changed, "{what}: it was not changed");
                if silent {
                    let after = std::fs::metadata(&source).unwrap();
                    let times =
                        |meta: &std::fs::Metadata| (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
                    assert_eq!(times(&before), times(&after), "{what}: the times show it");
                    let new = arrived == changed;
                    assert!(new || arrived == content, "{what}: neither the one nor the other");
                    // What is read ahead here and on the way is less.
                    assert!(new || place < at + 12 * MIB, "{what}: a byte that was not read yet is the old one");
                    assert!(!moved.started_over, "{what}");
                    ahead += u32::from(new);
                    behind += u32::from(!new);
                } else {
                    assert!(moved.started_over && arrived == changed, "{what}: it was not found");
                    shown += 1;
                }
            }
        }
    }
    assert!(shown > 0 && ahead + behind > 0, "nothing was changed in time");
    println!(
        "{shown} of {shown} changes that the times show were found; of those that nothing shows {ahead} came before the byte was read and arrived, \
         {behind} behind it, and what had been read arrived"
    );
    assert_eq!(names(dir.path()), ["become--bin-dash", "source"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_gets_no_name_and_no_leftover() {
    let node = RealNode::start(Opts { tmpfs: vec![("/var/small".to_owned(), 24 << 10)], ..Opts::sudo(Sudo::Password) });
    let way = way(&node, node.port);
    let small = node.root_dir().join("var/small");
    std::fs::set_permissions(&small, std::fs::Permissions::from_mode(0o755)).unwrap();
    put(&node, "/var/lib/x/source", &bytes(12 * MIB));
    std::fs::write(small.join("older"), b"older archive").unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("source"), bytes(12 * MIB)).unwrap();
    // How much is left when it comes: steps of 4 KiB around the end, and places on the way.
    let steps = if long() { 60 } else { 2 };
    for step in 0..steps {
        for to_host in [true, false] {
            let (from, to) = if to_host {
                (here(&dir.path().join("source")), on("node-1", &way, "/var/small/new"))
            } else {
                (on("node-1", &way, "/var/lib/x/source"), here(&small.join("new")))
            };
            let order = Order { limit_rate: Some(12 * MIB), ..order(from, to) };
            let room = if step % 2 == 0 { chance(10 * MIB) } else { 12 * MIB - 4096 * (1 + step / 2) };
            let mut filled = false;
            // At its first word, when there was room and little has come: a busy machine may say the second when all is there.
            let failure = go_telling(&order, |_, _| {
                if !filled {
                    filled = true;
                    // 24 MiB in all: what it may have and the rest.
                    let mut file = std::fs::File::create(small.join("filler")).unwrap();
                    let _ = file.write_all(&vec![1; usize::try_from(24 * MIB - room - 8192).unwrap()]);
                }
            })
            .await
            .unwrap_err();
            assert!(
                failure.kind == Kind::Failed
                    && failure.why.as_deref().unwrap_or_default().contains("disk there is full"),
                "{room}: {failure:?}"
            );
            std::fs::remove_file(small.join("filler")).unwrap();
            assert_eq!(names(&small), ["older"], "{room}: {failure:?}");
            assert_eq!(std::fs::read(small.join("older")).unwrap(), b"older archive");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_sshd_that_are_killed_are_made_anew() {
    let pair = pair(Harm::Cut, &[]);
    let content = bytes(20 * MIB);
    put(&pair.a, "/var/lib/x/source", &content);
    let mut order = order(on("a", &pair.ways[0], "/var/lib/x/source"), on("b", &pair.ways[1], "/var/lib/x/arrived"));
    order.limit_rate = Some(16 * MIB);
    let (mut killed, mut next) = (0, 3 * MIB);
    let moved = go_telling(&order, |done, _| {
        if done > next {
            next += 6 * MIB;
            let node = if killed % 2 == 0 { &pair.b } else { &pair.a };
            for process in node.processes() {
                // The listener's own line is "sshd: /usr/sbin/sshd -D …".
                let line = String::from_utf8_lossy(&process.cmdline).into_owned();
                if line.starts_with("sshd: ops") {
                    let _ = rustix::process::kill_process(
                        rustix::process::Pid::from_raw(i32::try_from(process.pid).unwrap()).unwrap(),
                        rustix::process::Signal::KILL,
                    );
                }
            }
            killed += 1;
        }
    })
    .await
    .unwrap();
    assert!(killed >= 2 && moved.cuts >= 2, "{killed} kills, {moved:?}");
    assert!(moved.sent_again <= u64::from(moved.cuts) * CHUNK, "{moved:?}");
    assert!(there(&pair.b, "/var/lib/x/arrived") == Some(content));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_changed_all_the_time_stall_nothing() {
    let pair = pair(Harm::Cut, &["RekeyLimit 64K"]);
    let size = if long() { 64 * MIB } else { 6 * MIB };
    let content = bytes(size);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("source"), &content).unwrap();
    put(&pair.a, "/var/lib/x/source", &content);
    for (number, (from, to)) in [
        (here(&dir.path().join("source")), on("b", &pair.ways[1], "/var/lib/x/up")),
        (on("a", &pair.ways[0], "/var/lib/x/source"), here(&dir.path().join("down"))),
        (on("a", &pair.ways[0], "/var/lib/x/source"), on("b", &pair.ways[1], "/var/lib/x/across")),
    ]
    .into_iter()
    .enumerate()
    {
        let work = async {
            let order = order(from, to);
            let found = survey(&order).await?;
            carry(&order, &found, |_, _| {}).await
        };
        let moved =
            tokio::time::timeout(Duration::from_secs(60 + size / MIB * 2), work).await.expect("it hangs").unwrap();
        assert_eq!((moved.cuts, moved.sha256), (0, Some(Sha256::of(&content))), "way {number}");
    }
}

/// OpenSSH's own client at a node, with the same cipher and key exchange as ferry has.
fn plain_ssh(node: &RealNode, command: &str) -> String {
    format!(
        "timeout 1500 ssh -F /dev/null -c aes128-gcm@openssh.com -o KexAlgorithms=curve25519-sha256 -o BatchMode=yes -o IdentitiesOnly=yes \
         -o UserKnownHostsFile={} -i {} -p {} ops@127.0.0.1 '{command}'",
        node.known_hosts_path.display(),
        node.key_path.display(),
        node.port
    )
}

/// Gibibytes each way and across, where one side wants new keys after each 64 KiB (`FERRY_REKEY_LIMIT`) and the other after a
/// gibibyte, beside OpenSSH's client at the same servers. By hand: `FERRY_REKEY_MIB=4096`, with TMPDIR in memory.
#[tokio::test(flavor = "multi_thread")]
async fn gibibytes_through_keys_that_change_do_not_stall() {
    let Some(mib) = std::env::var("FERRY_REKEY_MIB").ok().and_then(|text| text.parse::<u64>().ok()) else { return };
    let limit = std::env::var("FERRY_REKEY_LIMIT").unwrap_or_else(|_| "64K".to_owned());
    let pair = pair(Harm::Cut, &[&format!("RekeyLimit {limit}")]);
    // No wire between: what is measured is ferry and sshd.
    let ways = [way(&pair.a, pair.a.port), way(&pair.b, pair.b.port)];
    let dir = tempfile::tempdir().unwrap();
    // With holes: the memory of this machine holds one of it at a time.
    let source = pair.a.root_dir().join("var/lib/x/source");
    {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::File::create(&source).unwrap();
        file.set_len(mib * MIB + 77).unwrap();
        for at in (0..mib).step_by(16) {
            file.write_all_at(&bytes(100_000 + at), at * MIB + 4321).unwrap();
        }
    }
    // ssh's user is not root.
    for node in [&pair.a, &pair.b] {
        assert!(node.exec_in("chown -R ops /var/lib/x").status.success());
    }
    let digest = |path: &Path| {
        let (mut file, mut hasher) = (std::fs::File::open(path).unwrap(), ferry::digest::Hasher::new());
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => return hasher.finish(),
                count => hasher.update(&buffer[..count]),
            }
        }
    };
    let right = digest(&source);
    let (down, up) = (dir.path().join("down"), pair.b.root_dir().join("var/lib/x/up"));
    let b = || on("b", &ways[1], "/var/lib/x/up");
    let a = || on("a", &ways[0], "/var/lib/x/source");
    let (get, put) = (plain_ssh(&pair.a, "cat /var/lib/x/source"), plain_ssh(&pair.b, "cat >/var/lib/x/up"));
    let peers =
        [format!("{put} <{}", source.display()), format!("{get} >{}", down.display()), format!("{get} | {put}")];
    for ((what, from, to, at), peer) in
        [("up", here(&source), b(), &up), ("down", a(), here(&down), &down), ("across", a(), b(), &up)]
            .into_iter()
            .zip(peers)
    {
        let order = order(from, to);
        let (began, mut last, mut longest) = (std::time::Instant::now(), (0, std::time::Instant::now()), 0.0_f64);
        let found = survey(&order).await.unwrap();
        let moved = carry(&order, &found, |done, _| {
            if done > last.0 {
                longest = longest.max(last.1.elapsed().as_secs_f64());
                last = (done, std::time::Instant::now());
            }
        });
        let moved = tokio::time::timeout(Duration::from_secs(1500), moved).await.expect("it hangs").unwrap();
        let ours = began.elapsed().as_secs_f64();
        assert_eq!(moved.cuts, 0, "{what}");
        assert_eq!(digest(at), right, "{what}");
        std::fs::remove_file(at).unwrap();
        let began = std::time::Instant::now();
        let said = Process::new("sh").args(["-c", &peer]).env_remove("SSH_AUTH_SOCK").output().unwrap();
        let theirs = began.elapsed().as_secs_f64();
        assert!(said.status.success(), "{peer}: {}", String::from_utf8_lossy(&said.stderr));
        assert_eq!(digest(at), right, "{what}, by ssh");
        std::fs::remove_file(at).unwrap();
        println!(
            "{what}: {mib} MiB at RekeyLimit {limit}: ferry {ours:.1} s by {} connections, the longest silence {longest:.1} s; ssh {theirs:.1} s; ratio {:.2}",
            moved.streams,
            ours / theirs
        );
        assert!(longest < 30.0, "{what}: nothing came for {longest:.0} s");
        // Beside what a debug build takes on a machine with much to do, where no key changes: 20 MiB a second.
        let own = 2.0 + mib as f64 / 20.0;
        assert!(ours < 3.0 * theirs + own, "{what}: ferry {ours:.1} s, ssh {theirs:.1} s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_to_one_place_make_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let way = shell_way(dir.path(), "/bin/dash", None);
    let content = bytes(24 * MIB);
    let (source, path) = (dir.path().join("source"), dir.path().join("arrived"));
    std::fs::write(&source, &content).unwrap();
    let order = |resume| Order { resume, ..order(here(&source), on("node-9", &way, path.to_str().unwrap())) };
    // Slow enough for a machine with much to do: it is in the middle when the others come.
    let first = Order { limit_rate: Some(2 * MIB), ..order(false) };
    let first = tokio::spawn(async move { go(&first).await });
    let part = dir.path().join("arrived.ferry-part");
    for _ in 0..1000 {
        if part.metadata().is_ok_and(|part| part.len() > MIB / 2) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let failure = go(&order(false)).await.unwrap_err();
    assert!(failure.kind == Kind::Refused && failure.what.contains("was not finished"), "{failure:?}");
    // Told to go on, the second takes over, and the first writes no more.
    go(&order(true)).await.unwrap();
    let failure = first.await.unwrap().unwrap_err();
    assert!(matches!(failure.kind, Kind::Refused | Kind::Failed | Kind::Unknown), "{failure:?}");
    assert!(std::fs::read(&path).unwrap() == content);
    assert_eq!(names(dir.path()), ["arrived", "become--bin-dash", "source"]);
}

#[test]
fn killed_it_is_gone_on_with_and_memory_is_bounded() {
    let opts = |password: &str| Opts { password: password.to_owned(), ..Opts::sudo(Sudo::Password) };
    let typed = Typed::new([opts("one of a's"), opts("another, of b's")]);
    let content = bytes(80 * MIB);
    put(&typed.pair.a, "/var/lib/x/source", &content);
    for to in ["b:/var/lib/x/arrived", "arrived"] {
        let words = ["transfer", "a:/var/lib/x/source", to];
        let said = typed.ferry(&words);
        said.must(0, &["16 chunks equal at both ends"]);
        assert!(said.peak_kib < 64 << 10, "{} KiB", said.peak_kib);
        println!("{to}: peak {} KiB", said.peak_kib);

        let mut slow = typed.command(&[&words[..], &["--force", "--limit-rate", "30M"]].concat());
        let mut child = slow.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let journal = match to {
            "arrived" => typed.dir.path().join("arrived.ferry-part.journal"),
            _ => typed.pair.b.root_dir().join("var/lib/x/arrived.ferry-part.journal"),
        };
        let noted = || std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
        for _ in 0..600 {
            if noted() >= 4 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(noted() >= 4);
        child.kill().unwrap();
        child.wait().unwrap();
        typed
            .ferry(&[&words[..], &["--force", "--resume", "-C"]].concat())
            .must(0, &["goes on with the", "will be replaced"]);
        let said = typed.ferry(&[&words[..], &["--force", "--resume", "--output", "json"]].concat());
        said.must(0, &[]);
        let kept = said
            .out
            .split("\"bytes_kept\":")
            .nth(1)
            .and_then(|rest| rest.split([',', '}']).next())
            .unwrap()
            .parse::<u64>()
            .unwrap();
        assert!(kept >= 15 * MIB, "{kept} bytes were kept");
    }
    assert!(std::fs::read(typed.dir.path().join("arrived")).unwrap() == content);
    assert!(there(&typed.pair.b, "/var/lib/x/arrived") == Some(content));
    let left = String::from_utf8(typed.pair.b.exec_in("ls -A /var/lib/x").stdout).unwrap();
    assert_eq!(left, "arrived\n");
}

/// What lies in a folder: names, kinds, modes, links and contents.
fn tree(dir: &Path) -> Vec<String> {
    let said = Process::new("sh")
        .args(["-c", "cd \"$1\" && find . -printf '%p %y %m %l\\n' | LC_ALL=C sort && find . -type f -exec sha256sum {} + | LC_ALL=C sort", "-"])
        .arg(dir)
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_goes_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let tools = busybox(dir.path());
    let at = |name: &str| dir.path().join(name);
    let source = at("source");
    std::fs::create_dir_all(source.join("a b/empty")).unwrap();
    std::fs::create_dir_all(source.join("d".repeat(120)).join("e".repeat(120))).unwrap();
    std::fs::write(source.join("a b/file's"), bytes(3 * MIB + 7)).unwrap();
    std::fs::write(source.join("d".repeat(120)).join("e".repeat(120)).join("f".repeat(120)), b"far down").unwrap();
    std::fs::write(source.join("-rf"), b"").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", source.join("link")).unwrap();
    std::fs::hard_link(source.join("-rf"), source.join("second name")).unwrap();
    std::fs::set_permissions(source.join("-rf"), std::fs::Permissions::from_mode(0o751)).unwrap();
    let expected = tree(&source);
    let before = names(dir.path());
    for (shell, tools) in [("/bin/dash", None), ("/bin/busybox sh", Some(tools.as_path()))] {
        let way = shell_way(dir.path(), shell, tools);
        let host = |name: &str| on("node-9", &way, at(name).to_str().unwrap());
        for (from, to) in
            [(here(&source), host("new")), (host("source"), here(&at("new"))), (host("source"), host("new"))]
        {
            let moved = go(&order(from, to)).await.unwrap();
            assert_eq!(tree(&at("new")), expected, "{shell}");
            assert!(moved.bytes > 3 * MIB && moved.cuts == 0);
            std::fs::remove_dir_all(at("new")).unwrap();
        }
    }
    let way = shell_way(dir.path(), "/bin/dash", None);
    let host = |name: &str| on("node-9", &way, at(name).to_str().unwrap());
    // A folder is never replaced, nor mixed with another.
    std::fs::create_dir(at("there")).unwrap();
    for force in [false, true] {
        let failure = go(&Order { force, ..order(here(&source), host("there")) }).await.unwrap_err();
        assert!(failure.kind == Kind::Refused && failure.what.contains("a folder has the name"), "{failure:?}");
    }
    std::fs::remove_dir(at("there")).unwrap();
    // While it is packed, it changes. What waits between tar and a slow target is some MiB: it must be more.
    std::fs::write(source.join("a b/file's"), bytes(40 * MIB)).unwrap();
    let slow = Order { limit_rate: Some(16 * MIB), ..order(here(&source), host("new")) };
    let mut changed = false;
    let failure = go_telling(&slow, |done, _| {
        if done > MIB / 4 && !changed {
            changed = true;
            std::fs::write(source.join("a b/file's"), bytes(40 * MIB - 512)).unwrap();
        }
    })
    .await
    .unwrap_err();
    assert!(failure.what.contains("changed") || failure.what.contains("could not be packed"), "{failure:?}");
    // A hostile host packs what no folder has.
    let evil = at("evil");
    std::fs::create_dir(&evil).unwrap();
    executable(
        &evil.join("tar"),
        "#!/bin/sh\ncase $1 in\n-cf) python3 -c \"import io, sys, tarfile\nt = tarfile.open(fileobj=sys.stdout.buffer, mode='w|')\ni = tarfile.TarInfo('../escaped')\ni.size = 4\nt.addfile(i, io.BytesIO(b'evil'))\nt.close()\" ;;\n*) exec /bin/tar \"$@\" ;;\nesac\n",
    );
    let hostile = shell_way(dir.path(), "/bin/dash", Some(&evil));
    let failure = go(&order(on("node-9", &hostile, source.to_str().unwrap()), here(&at("new")))).await.unwrap_err();
    assert!(failure.seen.as_deref().unwrap_or_default().contains("leads out"), "{failure:?}");
    let mut left = names(dir.path());
    left.retain(|name| !before.contains(name) && !name.starts_with("become") && name != "evil");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_cut_is_gone_on_with() {
    let pair = pair(Harm::Cut, &[]);
    let made = pair.a.exec_in(
        "mkdir -p /var/lib/x/folder/deep && cd /var/lib/x/folder && ln -s deep link && chmod 710 deep && \
         for i in 1 2 3 4 5 6; do head -c 3000000 /dev/urandom >deep/file$i; done && chmod 4751 deep/file1 && chown daemon:ops deep/file2",
    );
    assert!(made.status.success());
    let root = |node: &RealNode, path: &str| tree(&node.root_dir().join(path.trim_start_matches('/')));
    let owners =
        |node: &RealNode, path: &str| node.exec_in(&format!("cd {path} && find . -printf '%p %U %G\n' | sort")).stdout;
    let expected = (root(&pair.a, "/var/lib/x/folder"), owners(&pair.a, "/var/lib/x/folder"));
    let from = || on("a", &pair.ways[0], "/var/lib/x/folder");
    let rounds = if long() { 60 } else { 3 };
    for round in 0..rounds {
        let place = [9 * MIB, 15 * MIB, 3 * MIB].get(round).copied().unwrap_or_else(|| chance(17 * MIB));
        pair.wires[round % 2].after(place);
        let to = format!("/var/lib/x/arrived-{round}");
        let moved = go(&order(from(), on("b", &pair.ways[1], &to)))
            .await
            .unwrap_or_else(|failure| panic!("{round}: {failure:?}"));
        pair.wires[round % 2].after(u64::MAX >> 2);
        assert!(moved.cuts >= 1 || place < MIB, "{moved:?}");
        // The window, what the sockets hold, and the way back to the last mark.
        assert!(moved.sent_again <= u64::from(moved.cuts) * 5 * MIB, "cut at {place}: {moved:?}");
        assert_eq!((root(&pair.b, &to), owners(&pair.b, &to)), expected, "cut at {place}");
        assert!(pair.b.exec_in(&format!("rm -rf {to}")).status.success());
    }
    // ferry is gone in the middle.
    let part = pair.b.root_dir().join("var/lib/x/new.ferry-part");
    let start = || async {
        let slow = Order { limit_rate: Some(8 * MIB), ..order(from(), on("b", &pair.ways[1], "/var/lib/x/new")) };
        // By what has arrived, not by the clock: a machine with much to do may send nothing for a second.
        let enough = async {
            while part.metadata().map_or(0, |part| part.len()) < 4 * MIB {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            done = go(&slow) => panic!("it was to be cut: {done:?}"),
            () = enough => {}
        }
    };
    let to = || order(from(), on("b", &pair.ways[1], "/var/lib/x/new"));
    start().await;
    let failure = go(&to()).await.unwrap_err();
    assert!(failure.what.contains("was not finished"), "{failure:?}");
    let moved = go(&Order { resume: true, ..to() }).await.unwrap();
    assert!(moved.kept >= 2 * MIB, "{moved:?}");
    assert_eq!((root(&pair.b, "/var/lib/x/new"), owners(&pair.b, "/var/lib/x/new")), expected);
    pair.b.exec_in("rm -rf /var/lib/x/new");
    // What was left is another's, or is not what was sent.
    start().await;
    pair.b.exec_in("printf x | dd of=/var/lib/x/new.ferry-part bs=1 seek=1000000 conv=notrunc");
    let failure = go(&Order { resume: true, ..to() }).await.unwrap_err();
    assert!(failure.what.contains("not what was sent"), "{failure:?}");
    start().await;
    go(&Order { force: true, ..to() }).await.unwrap();
    assert_eq!(root(&pair.b, "/var/lib/x/new"), expected.0);
    let left = pair.b.exec_in("ls -A /var/lib/x").stdout;
    assert_eq!(String::from_utf8(left).unwrap(), "new\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_reboots_is_waited_for() {
    let mut pair = pair(Harm::Cut, &[]);
    let content = bytes(20 * MIB);
    put(&pair.a, "/var/lib/x/source", &content);
    for source in [false, true] {
        let mut order =
            order(on("a", &pair.ways[0], "/var/lib/x/source"), on("b", &pair.ways[1], "/var/lib/x/arrived"));
        order.limit_rate = Some(8 * MIB);
        let mut rebooted = false;
        let moved = go_telling(&order, |done, _| {
            if done > 3 * MIB && !rebooted {
                rebooted = true;
                tokio::task::block_in_place(|| if source { pair.a.reboot() } else { pair.b.reboot() });
            }
        })
        .await
        .unwrap();
        // Where all of the source had been read when it went down, its file has another device behind the boot (it is a mount of
        // this test's), and is moved once more.
        assert!(rebooted && (moved.cuts >= 1 || source && moved.started_over), "{moved:?}");
        assert!(there(&pair.b, "/var/lib/x/arrived") == Some(content.clone()));
        let left = pair.b.exec_in("ls -A /var/lib/x; rm /var/lib/x/arrived").stdout;
        assert_eq!(String::from_utf8(left).unwrap(), "arrived\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_room_there_is_it_is_whole_or_nothing() {
    let node = RealNode::start(Opts { tmpfs: vec![("/var/small".to_owned(), 6 << 10)], ..Opts::sudo(Sudo::NoPasswd) });
    let way = way(&node, node.port);
    let small = node.root_dir().join("var/small");
    let dir = tempfile::tempdir().unwrap();
    let content = bytes(MIB + 4096 + 77);
    std::fs::write(dir.path().join("source"), &content).unwrap();
    put(&node, "/var/lib/x/source", &content);
    std::fs::write(small.join("older"), b"older archive").unwrap();
    let last = content.len() as u64 / 4096 + 8;
    let steps: Vec<u64> = if long() { (0..=last).collect() } else { vec![0, 1, 2, 257, last] };
    let (mut whole, mut full) = (0, 0);
    for step in steps {
        for to_host in [true, false] {
            let (from, to) = if to_host {
                (here(&dir.path().join("source")), on("node-1", &way, "/var/small/new"))
            } else {
                (on("node-1", &way, "/var/lib/x/source"), here(&small.join("new")))
            };
            let order = order(from, to);
            // There was room when it was looked for.
            let found = survey(&order).await.unwrap();
            let disk = rustix::fs::statvfs(&small).unwrap();
            let filler = disk.f_bavail * disk.f_frsize - step * 4096;
            std::fs::write(small.join("filler"), vec![1; usize::try_from(filler).unwrap()]).unwrap();
            let moved = tokio::time::timeout(Duration::from_secs(60), carry(&order, &found, |_, _| {}))
                .await
                .expect("it hangs");
            std::fs::remove_file(small.join("filler")).unwrap();
            match moved {
                Ok(_) => {
                    whole += 1;
                    assert!(std::fs::read(small.join("new")).unwrap() == content, "{step}");
                    std::fs::remove_file(small.join("new")).unwrap();
                }
                Err(failure) => {
                    full += 1;
                    let told = failure.why.as_deref().unwrap_or_default().contains("disk there is full");
                    assert!(failure.kind == Kind::Failed && told, "{step}: {failure:?}");
                }
            }
            assert_eq!(names(&small), ["older"], "{step}, to a host: {to_host}");
            assert_eq!(std::fs::read(small.join("older")).unwrap(), b"older archive");
        }
    }
    println!("{full} times full, {whole} times whole");
    assert!(full >= 6 && whole >= 2);
}
