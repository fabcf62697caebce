//! Deliveries to a node: through real shells, real sshd and sudo, cut at every kind of place, onto
//! full disks and into folders that are not ours.
//!
//! A sample runs always; `FERRY_LONG=1` cuts 300 times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ferry::digest::Sha256;
use ferry::failure::{Failure, Kind};
use ferry::remote::fake::{FakeSession, Reply};
use ferry::remote::ssh::connect::Lane;
use ferry::remote::sudo::Become;
use ferry::remote::{Exit, Session, Way, local};
use ferry::transfer::push::{Delivered, Push, look, push, push_volumes};
use ferry::volume::{Reader, Volume};
use support::real::{Opts, RealNode, Sudo, way};
use support::told::told;

const PIECE: u64 = 256 << 10;

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

fn executable(path: &Path, text: &str) {
    // Written by a child: were it open for writing here while another test forks, it could not be executed.
    let mut child = Process::new("/bin/sh")
        .args(["-c", "cat >\"$1\"; chmod 755 \"$1\"", "-", path.to_str().unwrap()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// This machine as the node, behind a stand-in for sudo that can cut what it is fed.
struct Place {
    dir: tempfile::TempDir,
    way: Way,
}

impl Place {
    fn new(shell: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join("become");
        // Each call takes the next line of `plan`: `N` lets N bytes behind the script pass and then ends the
        // input; `mute` loses what is said; anything else, or no line, lets all pass.
        executable(
            &exe,
            &format!(
                "#!/bin/sh\nD={}\nwhile [ \"$1\" != -- ]; do shift; done\nshift 3\n\
                 todo=$(head -n 1 \"$D/plan\" 2>/dev/null); sed -i 1d \"$D/plan\" 2>/dev/null\n\
                 length=${{1#*-eq }}; length=${{length%% *}}\n\
                 case $todo in\n\
                 mute) {shell} -c \"$1\" | head -c 45; exit 0 ;;\n\
                 [0-9]*) python3 \"$D/pass\" $((length + todo)) | {shell} -c \"$1\" ;;\n\
                 *) exec {shell} -c \"$1\" ;;\nesac\n",
                dir.path().display()
            ),
        );
        // Passes so many bytes on as they come; head would keep them back.
        std::fs::write(
            dir.path().join("pass"),
            "import os, sys\nleft = int(sys.argv[1])\nwhile left:\n    piece = os.read(0, min(left, 65536))\n    \
             if not piece: break\n    left -= len(piece)\n    while piece: piece = piece[os.write(1, piece):]\n",
        )
        .unwrap();
        let plan = Become { on: true, exe: exe.to_str().unwrap().to_owned(), ..Become::off() };
        let way = Way::Local(local::LocalSession::new("node-9", plan));
        Self { dir, way }
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.dir.path().join(rest)
    }

    fn plan(&self, lines: &[String]) {
        std::fs::write(self.path("plan"), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    fn order(&self, content: &[u8]) -> Push {
        std::fs::write(self.path("source"), content).unwrap();
        order(&self.path("source"), content, self.path("work/archive.tar.gz").to_str().unwrap())
    }

    async fn push(&self, order: &Push) -> Result<Delivered, Failure> {
        self.push_telling(order, |_, _| {}).await
    }

    async fn push_telling(&self, order: &Push, on: impl FnMut(u64, u64)) -> Result<Delivered, Failure> {
        let control = self.way.connect(Lane::Control).await.unwrap();
        tokio::time::timeout(Duration::from_secs(100), push(&self.way, &control, order, on)).await.expect("it hangs")
    }

    #[track_caller]
    fn holds(&self, content: &[u8], what: &str) {
        let file = self.path("work/archive.tar.gz");
        assert!(std::fs::read(&file).unwrap() == content, "{what}: other bytes");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600, "{what}");
        assert_eq!(std::fs::metadata(self.path("work")).unwrap().permissions().mode() & 0o7777, 0o700, "{what}");
        let names: Vec<_> =
            std::fs::read_dir(self.path("work")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["archive.tar.gz"], "{what}");
    }
}

fn order(source: &Path, content: &[u8], destination: &str) -> Push {
    Push {
        host: "node-9".to_owned(),
        source: source.to_owned(),
        bytes: content.len() as u64,
        sha256: Sha256::of(content),
        destination: destination.to_owned(),
        patience: Duration::from_secs(20),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shell_takes_every_size() {
    for shell in ["dash", "bash --posix", "busybox sh"] {
        for size in [0, 1, 4096, PIECE - 1, PIECE, PIECE + 1, 3 << 20] {
            let place = Place::new(shell);
            let content = bytes(size);
            let order = place.order(&content);
            let mut last = 0;
            let delivered = place.push_telling(&order, |done, total| {
                assert!(done >= last && done <= total && total == size);
                last = done;
            });
            let delivered = delivered.await.unwrap();
            let what = format!("{shell} {size}");
            assert_eq!((delivered.bytes, delivered.sha256, delivered.cuts), (size, order.sha256, 0), "{what}");
            assert_eq!((delivered.node_digest_tool.as_str(), delivered.resumed_at), ("openssl", 0), "{what}");
            assert!(size == 0 || last == size, "{what}");
            place.holds(&content, &what);
            // Once more: it is there already.
            let again = place.push(&order).await.unwrap();
            assert_eq!((again.resumed_at, again.sha256), (size, order.sha256), "{what}");
            place.holds(&content, &what);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_at_the_boundaries_it_goes_on_at_the_byte() {
    let size = 3 * PIECE + 77;
    let content = bytes(size);
    let packet = 32 << 10;
    let mut cuts = vec![0, 1, packet - 1, packet + 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, size - 1];
    if long() {
        cuts.extend((0..300).map(|_| rand::random_range(0..size)));
    }
    for shell in ["dash", "bash --posix", "busybox sh"] {
        for cut in &cuts {
            let place = Place::new(shell);
            // The look, the stream that is cut; the look, the stream, the finish.
            place.plan(&["-".to_owned(), cut.to_string()]);
            let order = place.order(&content);
            let delivered = place.push(&order).await.unwrap();
            let what = format!("{shell} {cut}");
            assert_eq!(
                std::fs::read_to_string(place.path("plan")).unwrap(),
                "",
                "{what}: not all of the plan was used"
            );
            assert_eq!((delivered.sha256, delivered.resumed_at, delivered.cuts), (order.sha256, 0, 1), "{what}");
            place.holds(&content, &what);
        }
    }
    // Many cuts of one delivery, and none of its bytes sent twice: what each stream may carry adds up to the size.
    let place = Place::new("dash");
    let content = bytes(4 * PIECE);
    let carries = [PIECE, 1, packet, PIECE - 1, PIECE + 1];
    let last = 4 * PIECE - carries.iter().sum::<u64>();
    place
        .plan(&carries.iter().chain([&last]).flat_map(|carry| ["-".to_owned(), carry.to_string()]).collect::<Vec<_>>());
    let order = place.order(&content);
    let delivered = place.push(&order).await.unwrap();
    assert_eq!(delivered.cuts, 5);
    place.holds(&content, "many cuts");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_asked_for_again() {
    let place = Place::new("dash");
    let content = bytes(PIECE + 5);
    let order = place.order(&content);
    // The finish is done, and what it says is lost.
    place.plan(&["-".to_owned(), "-".to_owned(), "mute".to_owned()]);
    // A local shell has an exit code where a connection has none: failed here, and found by whoever tries again.
    let failure = place.push(&order).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Failed, "{failure:?}");
    let delivered = place.push(&order).await.unwrap();
    assert_eq!(delivered.resumed_at, content.len() as u64);
    place.holds(&content, "mute");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_trusted_only_as_the_beginning_of_this_file() {
    let content = bytes(2 * PIECE);
    let half = &content[..content.len() / 2];
    let mut wrong = half.to_vec();
    wrong[1000] ^= 1;
    let longer = [content.as_slice(), b"x"].concat();
    let cases: [(&str, &[u8], u64); 6] = [
        ("half", half, half.len() as u64),
        ("one bit", &wrong, 0),
        ("longer", &longer, 0),
        ("all", &content, content.len() as u64),
        ("empty", b"", 0),
        ("one byte", &content[..1], 1),
    ];
    for (name, part, resumed) in cases {
        let place = Place::new("dash");
        let order = place.order(&content);
        std::fs::create_dir(place.path("work")).unwrap();
        std::fs::write(place.path("work/archive.tar.gz.part"), part).unwrap();
        let delivered = place.push(&order).await.unwrap();
        assert_eq!((delivered.resumed_at, delivered.cuts), (resumed, 0), "{name}");
        place.holds(&content, name);
    }
    // A part that is changed between the last byte and the node's own digest, again and again.
    let place = Place::new("dash");
    let order = place.order(&content);
    let part = place.path("work/archive.tar.gz.part");
    let failure = place
        .push_telling(&order, |done, _| {
            if done > PIECE {
                // The first piece may be on its way still; the file is there.
                let end = Instant::now() + Duration::from_secs(5);
                while std::fs::metadata(&part).map_or(0, |meta| meta.len()) < 10 && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let file = std::fs::OpenOptions::new().write(true).open(&part).unwrap();
                std::os::unix::fs::FileExt::write_at(&file, b"tampered", 1).unwrap();
            }
        })
        .await
        .unwrap_err();
    assert!(failure.kind == Kind::Failed && failure.what.contains("digest"), "{failure:?}");
    assert!(!place.path("work/archive.tar.gz").exists() && !part.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_for_a_dead_connection_is_ended_first() {
    let place = Place::new("dash");
    let content = bytes(4 * PIECE);
    let order = place.order(&content);
    std::fs::create_dir(place.path("work")).unwrap();
    let part = place.path("work/archive.tar.gz.part");
    std::fs::write(&part, &content[..1000]).unwrap();
    // As the shell of an earlier connection, which has not noticed yet and still has something to write.
    let mut writer = Process::new("/bin/sh")
        .args(["-c", "while :; do printf junk >>\"$1\"; sleep 0.02; done", "-", part.to_str().unwrap()])
        .env("FERRY_WRITES", format!("{}|", part.display()))
        .spawn()
        .unwrap();
    let mut other =
        Process::new("sleep").arg("60").env("FERRY_WRITES", format!("{}x|", part.display())).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let delivered = place.push(&order).await;
    let (ended, spared) = (writer.try_wait().unwrap(), other.try_wait().unwrap());
    let _ = (writer.kill(), writer.wait(), other.kill(), other.wait());
    assert_eq!(delivered.unwrap().cuts, 0);
    assert!(ended.is_some() && spared.is_none(), "{ended:?} {spared:?}");
    place.holds(&content, "a second writer");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_are_not_ours_are_refused() {
    let content = bytes(1000);
    let refused = async |name: &str, prepare: &dyn Fn(&Place)| {
        let place = Place::new("dash");
        std::fs::create_dir(place.path("elsewhere")).unwrap();
        std::fs::write(place.path("elsewhere/precious"), "precious").unwrap();
        let order = place.order(&content);
        prepare(&place);
        let failure = place.push(&order).await.expect_err(name);
        assert_eq!(failure.kind, Kind::Refused, "{name}: {failure:?}");
        assert_eq!(failure.host.as_deref(), Some("node-9"), "{name}");
        assert!(failure.seen.is_some() && failure.mend.is_some(), "{name}: {failure:?}");
        assert_eq!(std::fs::read_to_string(place.path("elsewhere/precious")).unwrap(), "precious", "{name}");
        assert_eq!(std::fs::read_dir(place.path("elsewhere")).unwrap().count(), 1, "{name}");
    };
    let folder = |place: &Place| std::fs::create_dir(place.path("work")).unwrap();
    let mode =
        |path: PathBuf, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    refused("folder a link", &|place| symlink(place.path("elsewhere"), place.path("work")).unwrap()).await;
    refused("folder a file", &|place| std::fs::write(place.path("work"), "").unwrap()).await;
    for bad in [0o777, 0o770, 0o702, 0o720, 0o1777, 0o2775] {
        refused(&format!("mode {bad:o}"), &|place| {
            folder(place);
            mode(place.path("work"), bad);
        })
        .await;
    }
    refused("another's", &|place| {
        folder(place);
        std::os::unix::fs::chown(place.path("work"), Some(65533), None).expect("this test runs as root");
    })
    .await;
    for name in ["archive.tar.gz", "archive.tar.gz.part"] {
        refused(&format!("{name} a link"), &|place| {
            folder(place);
            symlink(place.path("elsewhere/precious"), place.path("work").join(name)).unwrap();
        })
        .await;
        refused(&format!("{name} a dangling link"), &|place| {
            folder(place);
            symlink(place.path("elsewhere/new"), place.path("work").join(name)).unwrap();
        })
        .await;
        refused(&format!("{name} a folder"), &|place| std::fs::create_dir_all(place.path("work").join(name)).unwrap())
            .await;
        refused(&format!("{name} a fifo"), &|place| {
            folder(place);
            assert!(Process::new("mkfifo").arg(place.path("work").join(name)).status().unwrap().success());
        })
        .await;
    }
    for (name, there) in [("another size", bytes(999)), ("another content", [&[0][..], &content[1..]].concat())] {
        refused(name, &|place| {
            folder(place);
            std::fs::write(place.path("work/archive.tar.gz"), &there).unwrap();
        })
        .await;
    }
    let place = Place::new("dash");
    for bad in ["", "archive", "/archive", "/a/", "/a/../b", "/a/..", "/a/./b", "/a//b", "/a/b\n", "/a/b\0"] {
        let order = Push { destination: bad.to_owned(), ..place.order(&content) };
        assert_eq!(place.push(&order).await.unwrap_err().kind, Kind::CouldNotStart, "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_what_its_manifest_says() {
    let content = bytes(4 * PIECE);
    let nothing_there = |place: &Place, what: &str| {
        for name in ["archive.tar.gz", "archive.tar.gz.part"] {
            assert!(!place.path("work").join(name).exists(), "{what}: {name}");
        }
    };
    // Before.
    let place = Place::new("dash");
    let right = place.order(&content);
    let mut flipped = content.clone();
    flipped[3 * PIECE as usize] ^= 0x40;
    for (what, there) in [("shorter", &content[1..]), ("longer", &[&content[..], b"x"].concat()), ("flipped", &flipped)]
    {
        std::fs::write(&right.source, there).unwrap();
        let failure = place.push(&right).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Bad, "{what}: {failure:?}");
        assert!(failure.what.starts_with("the point's archive here is not what its manifest says"), "{failure:?}");
        nothing_there(&place, what);
    }
    std::fs::remove_file(&right.source).unwrap();
    assert_eq!(place.push(&right).await.unwrap_err().kind, Kind::Bad);
    symlink("/etc/passwd", &right.source).unwrap();
    assert_eq!(place.push(&right).await.unwrap_err().kind, Kind::Bad);
    // While it is read.
    type Change = fn(&Path);
    let changes: [(&str, Change); 4] = [
        ("cut", |path| std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(PIECE * 2).unwrap()),
        ("grown", |path| std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap()),
        ("written to behind us", |path| {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            std::os::unix::fs::FileExt::write_at(&file, b"x", 10).unwrap();
        }),
        ("written to before us", |path| {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            std::os::unix::fs::FileExt::write_at(&file, b"x", 4 * PIECE - 10).unwrap();
        }),
    ];
    for (what, change) in changes {
        let place = Place::new("dash");
        let order = place.order(&content);
        let mut once = true;
        let failure = place
            .push_telling(&order, |_, _| {
                if std::mem::take(&mut once) {
                    change(&order.source);
                }
            })
            .await
            .unwrap_err();
        assert_eq!(failure.kind, Kind::Bad, "{what}: {failure:?}");
        assert!(failure.what.starts_with("the point's archive here is not what its manifest says"), "{failure:?}");
        assert!(!once);
        nothing_there(&place, what);
    }
}

/// An archive that lies here in volumes goes as one file, over cuts as well; volumes that are not what their manifest says give none.
#[tokio::test(flavor = "multi_thread")]
async fn volumes_go_as_one_file() {
    let content = bytes(5 * PIECE + 77);
    let place = Place::new("dash");
    let order = place.order(&content);
    let mut volumes = Vec::new();
    for (number, piece) in content.chunks(2 * PIECE as usize).enumerate() {
        let file = format!("archive.tar.gz.{number:04}");
        std::fs::write(place.path(&file), piece).unwrap();
        let bytes = piece.len() as u64;
        volumes.push(Volume { file, bytes, sha256: Sha256::of(piece), plain_bytes: bytes });
    }
    let deliver = async |order: &Push, on: &mut dyn FnMut(u64, u64)| {
        let control = place.way.connect(Lane::Control).await.unwrap();
        let reader = Reader::new(place.dir.path(), &volumes, false, None);
        let work = push_volumes(&place.way, &control, order, reader, on);
        tokio::time::timeout(Duration::from_secs(100), work).await.expect("it hangs")
    };
    let done = deliver(&order, &mut |_, _| {}).await.unwrap();
    assert_eq!((done.bytes, done.sha256, done.cuts), (order.bytes, Sha256::of(&content), 0));
    place.holds(&content, "in volumes");
    std::fs::remove_dir_all(place.path("work")).unwrap();
    // Cut within the second volume: it goes on there.
    place.plan(&["all".to_owned(), (3 * PIECE).to_string()]);
    let done = deliver(&order, &mut |_, _| {}).await.unwrap();
    assert!(done.cuts >= 1, "{done:?}");
    place.holds(&content, "cut");
    std::fs::remove_dir_all(place.path("work")).unwrap();
    place.plan(&[]);
    // Written to while it is read; then other bytes, other lengths, and none.
    let last = place.path(&volumes[2].file);
    let right = std::fs::read(&last).unwrap();
    let mut other = right.clone();
    other[5] ^= 1;
    let mut once = true;
    let mut write = |_, _| {
        if std::mem::take(&mut once) {
            std::fs::write(&last, &other).unwrap();
        }
    };
    let failure = deliver(&order, &mut write).await.unwrap_err();
    told(&failure, Kind::Bad, "node-9", &["is not what its manifest says", "ferry points verify"]);
    let failure = deliver(&order, &mut |_, _| {}).await.unwrap_err();
    told(&failure, Kind::Bad, "node-9", &["is not what its manifest says", "damaged since it was sealed"]);
    std::fs::write(&last, &right[1..]).unwrap();
    let failure = deliver(&order, &mut |_, _| {}).await.unwrap_err();
    told(&failure, Kind::Bad, "node-9", &["is not what its manifest says", "volumes of [524288, 524288, "]);
    std::fs::remove_file(&last).unwrap();
    let failure = deliver(&order, &mut |_, _| {}).await.unwrap_err();
    told(&failure, Kind::Bad, "node-9", &["the archive here cannot be read"]);
    assert!(!place.path("work/archive.tar.gz").exists() && !place.path("work/archive.tar.gz.part").exists());
}

/// A proxy that breaks what goes up: after so many bytes it resets, or flips one bit.
struct Up {
    port: u16,
    /// Bytes that still go up until it happens; below 0: never.
    left: Arc<AtomicI64>,
    happened: Arc<AtomicU32>,
    shut: Arc<AtomicI64>,
}

impl Up {
    fn before(target: u16, flip: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (left, happened, shut) =
            (Arc::new(AtomicI64::new(-1)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicI64::new(0)));
        let this = Self { port, left: Arc::clone(&left), happened: Arc::clone(&happened), shut: Arc::clone(&shut) };
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if shut.load(Ordering::SeqCst) != 0 {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let (mut near_read, mut far_write) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (left, happened) = (Arc::clone(&left), Arc::clone(&happened));
                std::thread::spawn(move || {
                    let mut buffer = [0; 8 << 10];
                    while let Ok(count @ 1..) = near_read.read(&mut buffer) {
                        let before = left.load(Ordering::SeqCst);
                        let mut pass = count;
                        if before >= 0 {
                            let after = before - i64::try_from(count).unwrap();
                            left.store(after.max(-1), Ordering::SeqCst);
                            if after < 0 {
                                happened.fetch_add(1, Ordering::SeqCst);
                                let at = usize::try_from(before).unwrap();
                                if flip {
                                    buffer[at] ^= 0x10;
                                } else {
                                    pass = at;
                                }
                            }
                        }
                        if far_write.write_all(&buffer[..pass]).is_err() || pass < count {
                            break;
                        }
                    }
                    for stream in [&near_read, &far_write] {
                        let _ = stream.shutdown(std::net::Shutdown::Both);
                    }
                });
                std::thread::spawn(move || {
                    let (mut near, mut far) = (near, far);
                    let _ = std::io::copy(&mut far, &mut near);
                    let _ = near.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        this
    }

    fn after(&self, bytes: u64) {
        self.left.store(i64::try_from(bytes).unwrap(), Ordering::SeqCst);
    }
}

async fn deliver(way: &Way, order: &Push, on: impl FnMut(u64, u64)) -> Result<Delivered, Failure> {
    let control = way.connect(Lane::Control).await.unwrap();
    tokio::time::timeout(Duration::from_secs(120), push(way, &control, order, on)).await.expect("it hangs")
}

fn there(node: &RealNode, path: &str) -> Option<Sha256> {
    std::fs::read(node.root_dir().join(path.trim_start_matches('/'))).ok().map(|bytes| Sha256::of(&bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn through_sshd_and_sudo_with_and_without_a_password() {
    for sudo in [Sudo::Password, Sudo::NoPasswd] {
        let node = RealNode::start(Opts::sudo(sudo));
        let way = way(&node, node.port);
        let dir = tempfile::tempdir().unwrap();
        for size in [0, 1, PIECE + 1, 5 << 20] {
            let content = bytes(size);
            let source = dir.path().join("source");
            std::fs::write(&source, &content).unwrap();
            let path = format!("/var/lib/ferry/restore/run {size}'s/a b.tar.gz");
            let order = order(&source, &content, &path);
            let delivered = deliver(&way, &order, |_, _| {}).await.unwrap();
            assert_eq!((delivered.cuts, delivered.sha256), (0, order.sha256), "{sudo:?} {size}");
            assert_eq!(there(&node, &path), Some(order.sha256), "{sudo:?} {size}");
            let stat = node.exec_in(&format!(
                "stat -c '%a %U' \"{path}\" \"${{0%/*}}\"; stat -c '%a %U' \"{}\"",
                path.rsplit_once('/').unwrap().0
            ));
            let text = String::from_utf8_lossy(&stat.stdout).into_owned();
            assert!(text.contains("600 root\n") && text.ends_with("700 root\n"), "{text}");
        }
    }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The test measures its own process, so it runs in one of its own.
#[test]
fn sixty_four_mib_need_little_memory() {
    const ALONE: &str = "FERRY_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        tokio::runtime::Runtime::new().unwrap().block_on(sixty_four_mib());
        return;
    }
    let said = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "sixty_four_mib_need_little_memory", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success() && text.contains("1 passed"), "{text}");
}

async fn sixty_four_mib() {
    const SIZE: u64 = 64 << 20;
    let node = RealNode::start(Opts::sudo(Sudo::Password));
    let way = way(&node, node.port);
    let source = node.dir().join("source");
    let made = Process::new("/bin/sh")
        .args(["-c", "head -c \"$1\" /dev/urandom >\"$2\" && sha256sum <\"$2\"", "-", &SIZE.to_string()])
        .arg(&source)
        .output()
        .unwrap();
    let sha256: Sha256 = String::from_utf8(made.stdout).unwrap().split(' ').next().unwrap().parse().unwrap();
    let order = Push { bytes: SIZE, sha256, ..order(&source, b"", "/var/lib/ferry/restore/a/archive.tar.gz") };
    let delivered = deliver(&way, &order, |_, _| {}).await.unwrap();
    let peak = peak_kib();
    assert_eq!((delivered.bytes, delivered.cuts), (SIZE, 0));
    let sum = node.exec_in("sha256sum </var/lib/ferry/restore/a/archive.tar.gz").stdout;
    assert!(String::from_utf8_lossy(&sum).starts_with(&sha256.to_string()));
    println!("peak {peak} KiB");
    assert!(peak < 64 << 10, "{peak} KiB at the peak");
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_on_the_wire_it_arrives() {
    let node = RealNode::start(Opts::sudo(Sudo::Password));
    let proxy = Up::before(node.port, false);
    let way = way(&node, proxy.port);
    let size = 6 << 20;
    let content = bytes(size);
    let source = node.dir().join("source");
    std::fs::write(&source, &content).unwrap();
    let rounds = if long() { 100 } else { 4 };
    let (mut cuts, mut happened) = (0, 0);
    for round in 0..rounds {
        let order = order(&source, &content, &format!("/var/lib/ferry/restore/{round}/archive.tar.gz"));
        let delivery = deliver(&way, &order, |_, _| {});
        // Three cuts of each delivery, also within handshakes and scripts.
        let left = Arc::clone(&proxy.left);
        let striker = tokio::spawn(async move {
            for _ in 0..3 {
                left.store(rand::random_range(0..2 << 20), Ordering::SeqCst);
                while left.load(Ordering::SeqCst) >= 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        let delivered = delivery.await.unwrap();
        striker.abort();
        proxy.left.store(-1, Ordering::SeqCst);
        assert_eq!(there(&node, &order.destination), Some(order.sha256), "round {round}");
        cuts += delivered.cuts;
        happened = proxy.happened.load(Ordering::SeqCst);
    }
    println!("{rounds} deliveries, {happened} cuts on the wire, {cuts} of them felt");
    assert!(happened >= 2 * rounds, "{happened}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_flipped_on_the_wire_never_arrives() {
    let node = RealNode::start(Opts::sudo(Sudo::NoPasswd));
    let proxy = Up::before(node.port, true);
    let way = way(&node, proxy.port);
    let content = bytes(2 << 20);
    let source = node.dir().join("source");
    std::fs::write(&source, &content).unwrap();
    let rounds: u64 = if long() { 100 } else { 5 };
    for round in 0..rounds {
        let order = order(&source, &content, &format!("/var/lib/ferry/restore/{round}/archive.tar.gz"));
        // Within the payload: the handshakes are below 64 KiB.
        let at = 200_000 + round * (1_700_000 / rounds) + rand::random_range(0..1000);
        let control = way.connect(Lane::Control).await.unwrap();
        proxy.after(at);
        let before = proxy.happened.load(Ordering::SeqCst);
        let delivered = push(&way, &control, &order, |_, _| {}).await.unwrap();
        assert_eq!(proxy.happened.load(Ordering::SeqCst), before + 1, "round {round}");
        assert!(delivered.cuts >= 1, "round {round}: {delivered:?}");
        assert_eq!(there(&node, &order.destination), Some(order.sha256), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_stays_away_ends_within_the_patience_and_the_next_goes_on() {
    let node = RealNode::start(Opts::sudo(Sudo::NoPasswd));
    let proxy = Up::before(node.port, false);
    let way = way(&node, proxy.port);
    let content = bytes(4 << 20);
    let source = node.dir().join("source");
    std::fs::write(&source, &content).unwrap();
    let mut order = order(&source, &content, "/var/lib/ferry/restore/a/archive.tar.gz");
    order.patience = Duration::from_secs(2);
    let began = Instant::now();
    let seen = Mutex::new(false);
    let failure = deliver(&way, &order, |done, _| {
        if done >= 2 << 20 && !std::mem::replace(&mut *seen.lock().unwrap(), true) {
            proxy.shut.store(1, Ordering::SeqCst);
            proxy.after(300_000);
        }
    })
    .await
    .unwrap_err();
    assert!(failure.kind == Kind::Unreachable && began.elapsed() < Duration::from_secs(60), "{failure:?}");
    assert!(failure.why.unwrap().contains("kept on the node"));
    assert_eq!(there(&node, &order.destination), None);
    proxy.shut.store(0, Ordering::SeqCst);
    proxy.left.store(-1, Ordering::SeqCst);
    let delivered = deliver(&way, &order, |_, _| {}).await.unwrap();
    assert!(delivered.resumed_at > 0 && delivered.resumed_at < 4 << 20, "{delivered:?}");
    assert_eq!(there(&node, &order.destination), Some(order.sha256));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_node_is_named_and_leaves_nothing() {
    let mut opts = Opts::sudo(Sudo::Password);
    opts.tmpfs = vec![("/small".into(), 1024)];
    let node = RealNode::start(opts);
    let way = way(&node, node.port);
    let content = bytes(3 << 20);
    let source = node.dir().join("source");
    std::fs::write(&source, &content).unwrap();
    let order = order(&source, &content, "/small/restore/archive.tar.gz");
    let left = |node: &RealNode| {
        let found = node.exec_in("find /small -type f").stdout;
        String::from_utf8_lossy(&found).into_owned()
    };
    let full = |failure: Failure| {
        assert_eq!(failure.kind, Kind::Failed, "{failure:?}");
        assert!(!failure.again, "{failure:?}");
        let text = format!("{failure:?}");
        for word in ["node-9", "/small/restore/archive.tar.gz", "No space left", "room"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    // Told before anything is sent.
    let mut told = 0;
    full(deliver(&way, &order, |done, _| told = done).await.unwrap_err());
    assert_eq!((told, left(&node)), (0, String::new()));
    // A disk that fills while it goes: its df said that there was room.
    node.exec_in(
        "printf '#!/bin/sh\\necho head\\necho x 1 1 99999999 1 /\\n' >/usr/local/bin/df; chmod 755 /usr/local/bin/df",
    );
    full(deliver(&way, &order, |done, _| told = done).await.unwrap_err());
    assert!(told > 0);
    assert_eq!(left(&node), "");
    // With room it is delivered.
    let fits = Push { bytes: 4, sha256: Sha256::of(b"fits"), ..order };
    std::fs::write(&source, "fits").unwrap();
    deliver(&way, &fits, |_, _| {}).await.unwrap();
    assert_eq!(left(&node), "/small/restore/archive.tar.gz\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_hash_gets_nothing() {
    let all = ["openssl", "sha256sum", "shasum", "busybox"];
    let mut opts = Opts::sudo(Sudo::NoPasswd);
    opts.setup = vec!["rm -f /usr/bin/openssl".into()];
    let node = RealNode::start(opts);
    let way = way(&node, node.port);
    let content = bytes(100_000);
    let source = node.dir().join("source");
    std::fs::write(&source, &content).unwrap();
    for (at, gone) in all.iter().enumerate() {
        node.exec_in(&format!("rm -f /usr/bin/{gone} /bin/{gone} /usr/local/bin/{gone}"));
        let order = order(&source, &content, &format!("/var/lib/ferry/restore/{at}/archive.tar.gz"));
        let delivered = deliver(&way, &order, |_, _| {}).await;
        match all.get(at + 1) {
            Some(next) => assert_eq!(delivered.unwrap().node_digest_tool, *next),
            None => {
                let failure = delivered.unwrap_err();
                assert!(failure.kind == Kind::Refused && failure.what.contains("sha256"), "{failure:?}");
                let found = node.exec_in(&format!("ls -A /var/lib/ferry/restore/{at}")).stdout;
                assert_eq!(String::from_utf8_lossy(&found), "");
            }
        }
    }
}

/// The scripts of a delivery, by words that each has alone.
const LOOK: &str = "say whole";
const TAKES: &str = "exec cat >>";
const PLACE: &str = "say short";
const GONE: &str = "say gone";

type Says = (&'static str, String, &'static str, Exit);

fn says(when: &'static str, words: &str) -> Says {
    (when, format!("Welcome\n{{mark}} {words}\n"), "", Exit::Code(0))
}

/// A node that takes five bytes, and says `other` to what that is about.
fn node(other: &[Says]) -> FakeSession {
    let usual = [
        says(LOOK, "part 0 - 99999 0123456789abcdef"),
        says(TAKES, "ready\n{mark} end 5"),
        says(PLACE, &format!("done {} openssl", Sha256::of(b"hello"))),
        says(GONE, "gone"),
    ];
    let kept = usual.iter().filter(|said| other.iter().all(|one| one.0 != said.0));
    let replies = other.iter().chain(kept).map(|(when, out, err, exit)| Reply {
        when: (*when).to_owned(),
        out: out.clone().into_bytes(),
        err: err.as_bytes().to_vec(),
        exit: exit.clone(),
    });
    FakeSession::new("node-9", replies.collect())
}

fn heard(node: &FakeSession, script: &str) -> usize {
    node.heard().iter().filter(|text| text.contains(script)).count()
}

/// Each answer that a node may give leads to one failure that says what was seen and what to do. The node is scripted.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_of_a_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::write(&source, b"hello").unwrap();
    let wanted = |patience| Push { patience: Duration::from_secs(patience), ..order(&source, b"hello", "/x/y/target") };
    let deliver = async |node: &FakeSession, patience| {
        let (way, control) = (Way::Fake(node.clone()), Session::Fake(node.clone()));
        let wanted = wanted(patience);
        let work = push(&way, &control, &wanted, |_, _| {});
        tokio::time::timeout(Duration::from_secs(60), work).await.expect("it hangs")
    };
    let done = deliver(&node(&[]), 0).await.unwrap();
    assert_eq!((done.bytes, done.node_digest_tool.as_str(), done.cuts, done.resumed_at), (5, "openssl", 0, 0));
    let hello = Sha256::of(b"hello");
    let there = node(&[says(LOOK, &format!("whole {hello} shasum"))]);
    assert_eq!(deliver(&there, 0).await.unwrap().resumed_at, 5);
    assert_eq!(heard(&there, TAKES) + heard(&there, PLACE), 0);
    // All of it is there, and only lacks its name.
    let part = node(&[says(LOOK, &format!("part 5 {hello} 99999 -"))]);
    assert_eq!((deliver(&part, 0).await.unwrap().resumed_at, heard(&part, TAKES)), (5, 0));

    let other = Sha256::of(b"hallo");
    let junk = "x".repeat(70_000);
    let ends = |when, out: &str, err, exit| -> Says { (when, out.to_owned(), err, exit) };
    let lost = || Exit::Lost("reset".to_owned());
    let cases: Vec<(Says, Kind, &[&str], usize)> = vec![
        (
            says(LOOK, &format!("whole {other} openssl")),
            Kind::Refused,
            &["another file has the name", "/x/y: sha256"],
            0,
        ),
        (
            says(LOOK, "other 7"),
            Kind::Refused,
            &["another file has the name already", "/x/y: 7 bytes", "look at it"],
            0,
        ),
        (says(LOOK, "notool"), Kind::Refused, &["no tool for sha256", "not hashed on the node"], 0),
        (says(LOOK, "odd"), Kind::Refused, &["something else than a file", "a link, a folder or a device"], 0),
        (says(LOOK, "folder owner 7"), Kind::Refused, &["is not ours alone", "/x/y: owner 7", "pce_work_dir"], 0),
        (says(LOOK, "busy"), Kind::Unreachable, &["earlier connection still writes", "the next attempt goes on"], 0),
        (says(LOOK, "part x"), Kind::Failed, &["was not understood", "part x"], 0),
        (
            says(LOOK, "part 0 - 0 -"),
            Kind::Failed,
            &["no room", "0 MiB free", "the node's disk is full", "pce_work_dir"],
            0,
        ),
        (
            ends(LOOK, "", "sh: not today", Exit::Code(2)),
            Kind::Failed,
            &["could not be asked", "exit code 2; sh: not today"],
            0,
        ),
        (
            ends(LOOK, "", "", lost()),
            Kind::Unreachable,
            &["in the middle of an answer", "reset", "the next attempt"],
            0,
        ),
        (
            ends(TAKES, "", "sh: no cat", Exit::Code(4)),
            Kind::Failed,
            &["could not take the archive", "exit code 4; sh: no cat"],
            0,
        ),
        (ends(TAKES, "{mark} moved 3\n", "", Exit::Code(3)), Kind::Unreachable, &["changed between two looks"], 0),
        (ends(TAKES, "", "", lost()), Kind::Unreachable, &["lost while the archive went", "reset"], 0),
        (ends(TAKES, &junk, "", Exit::Code(0)), Kind::Failed, &["something else than it should"], 0),
        (
            ends(TAKES, "{mark} ready\n", "cat: write error: No space left on device", Exit::Code(1)),
            Kind::Failed,
            &[
                "could not write the archive",
                "No space left",
                "the node's disk is full: /x/y/target",
                "make room there",
            ],
            1,
        ),
        (
            ends(TAKES, "{mark} ready\n", "cat: broken", Exit::Code(1)),
            Kind::Failed,
            &["could not write the archive", "cat: broken"],
            0,
        ),
        (ends(TAKES, "{mark} ready\n", "", lost()), Kind::Unreachable, &["lost while the archive went", "reset"], 0),
        (
            says(PLACE, &format!("done {other} openssl")),
            Kind::Refused,
            &["another file has the name", "openssl there: "],
            0,
        ),
        (says(PLACE, "short 3"), Kind::Unreachable, &["not all bytes are on the node yet", "3 of 5"], 0),
        (says(PLACE, "notool"), Kind::Refused, &["no tool for sha256"], 0),
        (says(PLACE, "odd"), Kind::Refused, &["changed under our hands"], 0),
        (says(PLACE, "unnamed"), Kind::Failed, &["could not be put in place", "unnamed"], 0),
        (ends(PLACE, "", "", lost()), Kind::Unreachable, &["in the middle of an answer", "reset"], 0),
    ];
    for (said, kind, words, dropped) in cases {
        let node = node(&[said]);
        let failure = deliver(&node, 0).await.unwrap_err();
        told(&failure, kind, "node-9", words);
        assert_eq!(heard(&node, GONE), dropped, "{failure:?}");
    }
    // A disk that gives other bytes back is tried again twice, from nothing.
    let rots = node(&[says(PLACE, &format!("differs {other} openssl"))]);
    let failure = deliver(&rots, 20).await.unwrap_err();
    told(&failure, Kind::Failed, "node-9", &["digest is not that of the bytes that were sent", "openssl there: "]);
    assert_eq!((heard(&rots, TAKES), heard(&rots, PLACE)), (3, 3));
    // So is a part that shrinks.
    let looks = [3, 0, 3, 0, 3, 0].map(|has| says(LOOK, &format!("part {has} same 99999 0123456789abcdef")));
    let first = says(LOOK, "part 0 - 99999 0123456789abcdef");
    let shrinks = node(&[&[first, says(PLACE, "short 3")], looks.as_slice()].concat());
    told(
        &deliver(&shrinks, 20).await.unwrap_err(),
        Kind::Failed,
        "node-9",
        &["not what was sent to it", "somebody else writes"],
    );
    // An answer that was lost once.
    let once = node(&[ends(PLACE, "", "", lost()), says(PLACE, &format!("done {hello} openssl"))]);
    assert_eq!(deliver(&once, 20).await.unwrap().cuts, 1);

    // A look alone.
    let looked = async |node: &FakeSession, patience| {
        look(&Way::Fake(node.clone()), &Session::Fake(node.clone()), &wanted(patience)).await
    };
    assert_eq!(looked(&there, 0).await.unwrap(), Some((hello, "shasum".to_owned())));
    assert_eq!(looked(&node(&[says(LOOK, "other 7")]), 0).await.unwrap(), None);
    assert_eq!(looked(&node(&[]), 0).await.unwrap(), None);
    told(
        &looked(&node(&[says(LOOK, "odd")]), 0).await.unwrap_err(),
        Kind::Failed,
        "node-9",
        &["was not understood", "odd"],
    );
    let gone = node(&[ends(LOOK, "", "", lost())]);
    told(&looked(&gone, 0).await.unwrap_err(), Kind::Unreachable, "node-9", &["in the middle of an answer", "reset"]);
    let back = node(&[ends(LOOK, "", "", lost()), says(LOOK, "other 7")]);
    assert_eq!((looked(&back, 20).await.unwrap(), heard(&back, LOOK)), (None, 2));
    // What cannot be read here, or is no place, is told before the node hears anything.
    let deaf = node(&[]);
    let (way, control) = (Way::Fake(deaf.clone()), Session::Fake(deaf.clone()));
    let missing = Push { source: dir.path().join("missing"), ..wanted(0) };
    let failure = push(&way, &control, &missing, |_, _| {}).await.unwrap_err();
    told(&failure, Kind::Bad, "node-9", &["cannot be read: ", "/missing"]);
    assert!(deaf.heard().is_empty());
}
