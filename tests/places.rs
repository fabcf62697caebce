//! The places of a catalog: one suite for a folder, a host over SSH and S3-compatible storage, each the real thing.
//!
//! The storage is moto's server, which `tests/run` installs below `target/moto`: a real HTTP server with S3's own
//! answers (multipart, conditional puts), light enough for every run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

#[path = "support/cluster.rs"]
mod cluster;
mod support;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ferry::catalog::place::{Cargo, Folder, ObjectPlace, Place, SshPlace};
use ferry::catalog::{Catalog, Disk, Entry, Inspect, Point, Remark, Step, Verdict, Who, shelf};
use ferry::digest::Sha256;
use ferry::failure::Kind;
use ferry::name::PointId;
use ferry::remote::sudo::Become;
use ferry::remote::{Way, local};
use ferry::secret::Masker;
use ferry::settings::aws::Aws;
use ferry::vault::age::{AskPassphrase, Identities, Recipients};
use ferry::volume::{Keep, Left, Reader, Volume, Writer};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use support::bed::Said;
use support::real::{Opts, RealNode};

fn who() -> Who {
    Who { user: "ops".into(), machine: "jump".into(), ci: None }
}

/// A server of S3 on loopback; it ends with the test.
struct Storage {
    child: Child,
    port: u16,
}

impl Storage {
    fn start() -> Self {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/moto/bin/python");
        assert!(python.exists(), "{} is missing: tests/run installs it", python.display());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .env("MOTO_S3_CUSTOM_ENDPOINTS", "")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { child, port };
        let began = Instant::now();
        loop {
            if let Some(status) = this.request("PUT", "/shelf") {
                assert!(status.contains("200"), "{status}");
                return this;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the storage does not come up");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The status line that the server answers with.
    fn request(&self, method: &str, path: &str) -> Option<String> {
        use std::io::Read as _;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let auth = "Authorization: AWS4-HMAC-SHA256 Credential=AKID/20261126/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{auth}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", self.port).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.lines().next().map(str::to_owned)
    }

    /// Changes a bit of an object, as a disk of the storage's might.
    fn flip(&self, key: &str, at: usize) {
        use std::io::Read as _;
        let auth = "Authorization: AWS4-HMAC-SHA256 Credential=AKID/20261126/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let call = |method: &str, body: &[u8]| {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
            let head = format!(
                "{method} /shelf/{key} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{auth}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                self.port,
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert!(all.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&all[..all.len().min(400)]));
            let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            all.split_off(end)
        };
        let mut bytes = call("GET", b"");
        bytes[at] ^= 1;
        call("PUT", &bytes);
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn place(&self, prefix: &str) -> Place {
        let aws = Aws {
            key_id: Some("AKID".to_owned()),
            secret: Some("not-a-secret".to_owned().into()),
            endpoint: Some(self.endpoint()),
            ..Aws::default()
        };
        Place::Object(ObjectPlace::new(format!("s3://shelf/{prefix}"), "shelf", prefix, &aws).unwrap())
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn local_host(root: &Path) -> Place {
    let way = Way::Local(local::LocalSession::new("here", Become::off()));
    Place::Ssh(SshPlace::new(
        format!("ssh://here{}", root.display()),
        way,
        root.display().to_string(),
        Duration::from_secs(10),
    ))
}

struct Walk(u64);

impl Inspect for Walk {
    fn feed(&mut self, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }
    fn finish(self: Box<Self>) -> Result<u64, String> {
        if self.0 > 0 { Ok(3) } else { Err("empty".into()) }
    }
}

/// A folder with a sealed point whose archive has this content.
fn source(dir: &Path, archive: &[u8]) -> (Place, Point) {
    source_kept(dir, archive, None)
}

/// Encrypted for a key of its own, in volumes of a MiB.
fn encrypted(dir: &Path) -> Keep {
    let key = dir.join("age.key");
    if !key.exists() {
        let made = Command::new("age-keygen").arg("-o").arg(&key).output().expect("tests/run installs age");
        assert!(made.status.success());
    }
    let public = Command::new("age-keygen").arg("-y").arg(&key).output().unwrap();
    let public = String::from_utf8(public.stdout).unwrap().trim().to_owned();
    let ask: AskPassphrase = Arc::new(|_| panic!("nobody is asked"));
    Keep {
        recipients: Recipients::read(&[public], &ask).unwrap().map(Arc::new),
        identities: Some(Arc::new(Identities::load(&[key], &ask, None, &Masker::new()).unwrap())),
        volume_size: 1 << 20,
    }
}

fn source_kept(dir: &Path, archive: &[u8], keep: Option<&Keep>) -> (Place, Point) {
    let catalog = Catalog::open(&dir.join("from")).unwrap();
    let started = Timestamp::now() - SignedDuration::from_hours(3);
    let id = format!("{}-{:04x}", started.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u16>());
    let part =
        catalog.begin(&"prod".parse().unwrap(), &id.parse().unwrap(), &id.parse().unwrap(), "jump", "again").unwrap();
    part.write_file("logs/gravity-backup.log", b"said the hook\n").unwrap();
    part.write_file("settings/empty.json", b"").unwrap();
    let mut receiving = part.open_archive("gravity.tar.gz").unwrap();
    let mut volumes = Vec::new();
    if let Some(keep) = keep {
        let (steps, asked) = std::sync::mpsc::channel();
        let mut writer =
            Writer::begin(&receiving.path, "gravity.tar.gz", json!(1), keep, Left::default(), None, steps).unwrap();
        writer.write_all(archive).unwrap();
        volumes = writer.finish().unwrap();
        assert_eq!(ferry::volume::prove(&asked).unwrap(), None);
        part.encrypt_logs(keep.recipients.as_ref().unwrap()).unwrap();
    } else {
        receiving.file.write_all(archive).unwrap();
        receiving.finish().unwrap();
    }
    let mut manifest = json!({
        "format": 1, "id": id, "run": id, "who": who(), "ferry_version": "0.1.0", "cluster": {"group": "prod"},
        "node": "prod-1", "started": started, "finished": started, "complete": true, "pce_version": "3.2.0",
        "label": "it's \"quoted\" $HOME `id` \\ é",
        "archives": [{"name": "gravity", "kind": "gravity", "file": "gravity.tar.gz", "bytes": archive.len(), "members": 3,
            "verdict": "verified", "sha256": Sha256::of(archive).to_string(), "verified_how": ["in a test"]}],
    });
    if let Some(keep) = keep {
        manifest["archives"][0]["volumes"] = json!(volumes);
        manifest["archives"][0]["encryption"] = json!(keep.encryption());
    }
    let point = part.seal(serde_json::from_value(manifest).unwrap()).unwrap();
    (shelf::folder_place(catalog), point)
}

async fn all_of(place: &Place, name: &str, from: u64) -> Vec<u8> {
    let mut stream = place.get(name, from).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.recv().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

/// What every place promises.
async fn contract(place: &Place, dir: &Path, large: usize) {
    let name = place.name();
    place.probe().await.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
    assert_eq!(place.files("").await.unwrap(), [], "{name}: a probe leaves nothing");
    // Small files: created once, never replaced by create; read whole; absent is none.
    assert!(place.create("prod/a b'c.json", b"one\n").await.unwrap(), "{name}");
    assert!(!place.create("prod/a b'c.json", b"two").await.unwrap(), "{name}");
    assert_eq!(place.read("prod/a b'c.json").await.unwrap().as_deref(), Some(&b"one\n"[..]));
    assert_eq!(place.read("prod/none").await.unwrap(), None);
    let text = "line \"1\" $HOME `id` \\n 'x' é\n\n  end without newline";
    assert!(place.create("prod/deep/er/t", text.as_bytes()).await.unwrap());
    assert_eq!(place.read("prod/deep/er/t").await.unwrap().unwrap(), text.as_bytes(), "{name}");
    // Several creators: one wins. moto looks and puts in two steps, so there they come one after another.
    let at_once = if matches!(place, Place::Object(_)) { 1 } else { 6 };
    let made: Vec<_> = futures::stream::iter(0..4)
        .map(|n| {
            let place = place.clone();
            async move { place.create("prod/race", format!("{n}").as_bytes()).await }
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    assert_eq!(made.iter().filter(|made| matches!(made, Ok(true))).count(), 1, "{name}: {made:?}");
    // Lines of several hands: none is lost, none is mixed, a cut one is not glued to.
    place.append("prod/notes", "first").await.unwrap();
    let added: Vec<()> = futures::stream::iter(0..6)
        .map(|n| {
            let place = place.clone();
            async move { place.append("prod/notes", &format!("{n}-{}", "x".repeat(5000))).await.unwrap() }
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    assert_eq!(added.len(), 6);
    let notes = String::from_utf8(place.read("prod/notes").await.unwrap().unwrap()).unwrap();
    let mut lines: Vec<&str> = notes.lines().collect();
    assert_eq!(lines.remove(0), "first", "{name}");
    lines.sort_unstable();
    assert_eq!(lines, (0..6).map(|n| format!("{n}-{}", "x".repeat(5000))).collect::<Vec<_>>(), "{name}");
    // Large files, at every place where a part ends.
    for (number, length) in [0, 1, large - 1, large, large + 1, 3 * large + 7].into_iter().enumerate() {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + at / 251) as u8).collect();
        let file = dir.join(format!("cargo-{number}"));
        std::fs::write(&file, &bytes).unwrap();
        let cargo = Cargo { file: &file, bytes: length as u64, sha256: Sha256::of(&bytes) };
        let (target, most) = (format!("prod/f{number}/archive"), AtomicU64::new(0));
        let how = place
            .put(&target, &cargo, &|done| {
                let _ = most.fetch_max(done, Ordering::SeqCst);
            })
            .await;
        let how = how.unwrap_or_else(|failure| panic!("{name} {length}: {failure:?}"));
        assert!(!how.is_empty() && (length == 0 || most.load(Ordering::SeqCst) == length as u64), "{name} {length}");
        assert_eq!(place.digest(&target).await.unwrap(), (length as u64, Sha256::of(&bytes)), "{name} {length}");
        for from in [0, length / 2, length.saturating_sub(1)] {
            assert!(all_of(place, &target, from as u64).await == bytes[from..], "{name} {length} from {from}");
        }
        // Once more is fine; what is not what is said of it gets no name.
        place.put(&target, &cargo, &|_| {}).await.unwrap();
        if length > 0 {
            let lie = Cargo { sha256: Sha256::of(b"else"), ..cargo.clone() };
            let failure = place.put(&format!("prod/lie{number}/x"), &lie, &|_| {}).await.unwrap_err();
            assert_eq!(failure.kind, Kind::Bad, "{name}: {failure:?}");
            assert_eq!(place.read(&format!("prod/lie{number}/x")).await.unwrap(), None, "{name}");
        }
    }
    // From a reader, which is one of the place's own here; what is not there is an error of the reading.
    let bytes: Vec<u8> = (0..3 * large + 7).map(|at| (at * 7 + at / 251) as u8).collect();
    let (length, sha256) = (bytes.len() as u64, Sha256::of(&bytes));
    let reader = |file: &str| {
        let volume = Volume { file: file.to_owned(), bytes: length, sha256, plain_bytes: length };
        Reader::away(place.fetch("prod"), &[volume], false, None)
    };
    place.put_from("prod/again/archive", reader("f5/archive"), length, sha256, &|_| {}).await.unwrap();
    assert!(all_of(place, "prod/again/archive", 0).await == bytes, "{name}");
    let failure = place.put_from("prod/never/archive", reader("none"), length, sha256, &|_| {}).await.unwrap_err();
    assert!(format!("{failure:?}").contains("none is missing"), "{name}: {failure:?}");
    assert_eq!(place.read("prod/never/archive").await.unwrap(), None, "{name}");
    // Whoever stops reading in the middle leaves nothing that waits.
    let mut some = place.fetch("prod")("f5/archive", 5).unwrap();
    let mut few = [0; 3];
    std::io::Read::read_exact(&mut some, &mut few).unwrap();
    assert_eq!(few, bytes[5..8], "{name}");
    drop((some, place.get("prod/f5/archive", 0).await.unwrap()));
    assert_eq!(place.get("prod/none", 0).await.unwrap_err().kind, Kind::Bad, "{name}");
    assert_eq!(place.digest("prod/none").await.unwrap_err().kind, Kind::Bad, "{name}");
    // Names stay inside.
    for bad in ["../x", "prod/../../x", "/etc/passwd", "", "a//b", "a\nb"] {
        assert!(
            place.read(bad).await.is_err() && place.create(bad, b"").await.is_err() && place.remove(bad).await.is_err(),
            "{name} {bad:?}"
        );
    }
    let listed: Vec<String> = place.files("prod").await.unwrap().into_iter().map(|(name, _)| name).collect();
    assert!(
        listed.contains(&"prod/deep/er/t".to_owned()) && listed.contains(&"prod/a b'c.json".to_owned()),
        "{name}: {listed:?}"
    );
    assert_eq!(place.files("nothing").await.unwrap(), []);
    for file in listed {
        place.remove(&file).await.unwrap();
        place.remove(&file).await.unwrap();
    }
    assert_eq!(place.files("").await.unwrap(), [], "{name}");
    // Locks.
    let (cluster, id) = ("prod".parse().unwrap(), "20261126T010203Z-00ff".parse().unwrap());
    let held = place.lock(&cluster, &id, &who(), "test").await.unwrap();
    let failure = place.lock(&cluster, &id, &who(), "test").await.unwrap_err();
    assert_eq!(failure.kind, Kind::Refused, "{name}: {failure:?}");
    held.release(place).await.unwrap();
    place.lock(&cluster, &id, &who(), "test").await.unwrap().release(place).await.unwrap();
}

/// A whole point goes there, is seen, verified, noted, comes back, and is deleted.
async fn life(place: &Place, dir: &Path, archive: &[u8]) {
    for keep in [None, Some(encrypted(dir))] {
        let id = life_of(place, dir, archive, keep.as_ref()).await;
        let mut there = shelf::find(place, id.as_str()).await.unwrap();
        shelf::trash(place, &mut there, &who(), Timestamp::now(), "test", None).await.unwrap();
        shelf::empty(place, &there, &who()).await.unwrap();
        for below in ["from", "back"] {
            std::fs::remove_dir_all(dir.join(below)).unwrap();
        }
    }
}

async fn life_of(place: &Place, dir: &Path, archive: &[u8], keep: Option<&Keep>) -> PointId {
    let name = format!("{}{}", place.name(), if keep.is_some() { " (encrypted)" } else { "" });
    let (from, mut point) = source_kept(dir, archive, keep);
    let id = point.id().clone();
    let copied = shelf::copy(&from, &mut point, place, &who(), true, &|_, _| {})
        .await
        .unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
    assert!(!copied.was_there && copied.how.contains("read back"), "{name}: {copied:?}");
    assert_eq!(point.replicas(), [place.name()]);
    assert!(shelf::copy(&from, &mut point, place, &who(), false, &|_, _| {}).await.unwrap().was_there);
    let mut there = shelf::find(place, "prod/latest").await.unwrap();
    assert_eq!((there.id(), there.verdict(), &there.manifest), (&id, Verdict::Verified, &point.manifest), "{name}");
    assert!(shelf::look(&there).is_empty(), "{name}");
    let report = shelf::verify(place, &mut there, &who(), &|_| Box::new(Walk(0)), &|_, _| {}).await.unwrap();
    assert!(report.bad.is_empty() && report.not_noted.is_none(), "{name}: {report:?}");
    assert_eq!(report.unchecked.len(), usize::from(keep.is_some()), "{name}: {report:?}");
    if let Some(keep) = keep {
        // With what opens it, what is in it is looked into where it lies; with another key that is told.
        let walk = |_: &ferry::catalog::Archive| -> Box<dyn Inspect + Send> { Box::new(Walk(0)) };
        let report =
            shelf::verify_with(place, &mut there, &who(), keep.identities.as_ref(), &walk, &|_, _| {}).await.unwrap();
        assert!(report.bad.is_empty() && report.unchecked.is_empty() && !report.not_opened, "{name}: {report:?}");
        assert!(report.archives.iter().any(|one| one.sha256 == Sha256::of(archive)), "{name}: {report:?}");
        let stranger = tempfile::tempdir().unwrap();
        let stranger = encrypted(stranger.path()).identities;
        let report = shelf::verify_with(place, &mut there, &who(), stranger.as_ref(), &walk, &|_, _| {}).await.unwrap();
        assert!(report.bad.is_empty() && report.unchecked.len() == 1 && report.not_opened, "{name}: {report:?}");
    }
    shelf::note(place, &mut there, &who(), Remark::Held { until: None }).await.unwrap();
    assert!(shelf::find(place, id.as_str()).await.unwrap().held(Timestamp::now()), "{name}");
    // Back into another folder, byte by byte.
    let back = shelf::folder_place(Catalog::open(&dir.join("back")).unwrap());
    shelf::copy(place, &mut there, &back, &who(), true, &|_, _| {})
        .await
        .unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
    let (one, two) = (dir.join("from/prod").join(id.as_str()), dir.join("back/prod").join(id.as_str()));
    let log = if keep.is_some() { "logs/gravity-backup.log.age" } else { "logs/gravity-backup.log" };
    let stored: Vec<String> = point.manifest.archives[0].stored().into_iter().map(|volume| volume.file).collect();
    assert_eq!(stored.len() > 1, keep.is_some());
    for file in ["manifest.json", log, "settings/empty.json"].into_iter().chain(stored.iter().map(String::as_str)) {
        assert!(std::fs::read(one.join(file)).unwrap() == std::fs::read(two.join(file)).unwrap(), "{name} {file}");
    }
    // It rots there: found.
    let size = usize::try_from(point.size_of(log).unwrap()).unwrap();
    place.remove(&format!("prod/{id}/{log}")).await.unwrap();
    place.create(&format!("prod/{id}/{log}"), "K".repeat(size).as_bytes()).await.unwrap();
    let mut rotten = shelf::find(place, id.as_str()).await.unwrap();
    let report = shelf::verify(place, &mut rotten, &who(), &|_| Box::new(Walk(0)), &|_, _| {}).await.unwrap();
    assert_eq!((report.bad.len(), report.bad[0].what.as_str()), (1, "sha256"), "{name}");
    assert_eq!(shelf::find(place, id.as_str()).await.unwrap().verdict(), Verdict::Damaged, "{name}");
    // What is not in the trash is not deleted; what is, is gone for good.
    assert_eq!(shelf::empty(place, &rotten, &who()).await.unwrap_err().kind, Kind::Refused);
    shelf::trash(place, &mut rotten, &who(), Timestamp::now(), "test", None).await.unwrap();
    shelf::empty(place, &rotten, &who()).await.unwrap();
    assert_eq!(place.files("").await.unwrap(), [], "{name}");
    assert!(shelf::entries(place, None).await.unwrap().is_empty(), "{name}");
    // A copy that was stopped half way is no point, is told, and the next attempt finishes it.
    let stage = place.stage(&point.cluster, &id);
    place.create(&format!("{stage}/logs/gravity-backup.log"), b"said the hook\n").await.unwrap();
    let entries = shelf::entries(place, None).await.unwrap();
    assert!(matches!(&entries[..], [Entry::LeftOver(part)] if part.id == id), "{name}: {entries:?}");
    assert!(shelf::find(place, id.as_str()).await.is_err());
    if !matches!(place, Place::Folder(_)) {
        // The lock of a ferry that died is told, and broken by name.
        let _died = place.lock(&point.cluster, &id, &who(), "copy").await.unwrap();
        assert!(matches!(&shelf::entries(place, None).await.unwrap()[..], [Entry::InProgress(_)]), "{name}");
        let failure = shelf::copy(&from, &mut point, place, &who(), false, &|_, _| {}).await.unwrap_err();
        assert!(
            failure.kind == Kind::Refused && failure.mend.as_deref().unwrap().contains("break-lock"),
            "{name}: {failure:?}"
        );
        assert_eq!(shelf::break_lock(place, &point.cluster, &id).await.unwrap().unwrap().who, who());
    }
    shelf::copy(&from, &mut point, place, &who(), false, &|_, _| {})
        .await
        .unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
    assert_eq!(shelf::find(place, id.as_str()).await.unwrap().verdict(), Verdict::Verified, "{name}");
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::Folder(Folder::new(Catalog::open(&dir.path().join("catalog")).unwrap()));
    contract(&place, dir.path(), 1 << 20).await;
    life(&place, dir.path(), &vec![7; 3 << 20]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_sh_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("it's a place");
    std::fs::create_dir(&root).unwrap();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).unwrap();
    let place = local_host(&root);
    contract(&place, dir.path(), 1 << 20).await;
    life(&place, dir.path(), &vec![7; 3 << 20]).await;
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o707)).unwrap();
    let failure = place.probe().await.unwrap_err();
    assert!(failure.what.contains("anybody there can write"), "{failure:?}");
}

/// A point in another place, as an administrator of that host may leave it: every fault is named, noted, and nothing that
/// is not a point is taken for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_in_another_place_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("place");
    std::fs::create_dir(&root).unwrap();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).unwrap();
    let place = local_host(&root);
    let keep = encrypted(dir.path());
    let (from, mut point) = source_kept(dir.path(), &vec![7; 3 << 20], Some(&keep));
    shelf::copy(&from, &mut point, &place, &who(), false, &|_, _| {}).await.unwrap();
    let id = point.id().to_string();
    let there = root.join("prod").join(&id);
    let saved = dir.path().join("saved");
    let cp = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    cp(&there, &saved);
    let volumes: Vec<String> = point.manifest.archives[0].volumes.iter().map(|volume| volume.file.clone()).collect();
    let second = there.join(&volumes[1]);
    let edit = |change: &dyn Fn(&mut serde_json::Value)| {
        let path = there.join("manifest.json");
        let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
    };
    let walk = |_: &ferry::catalog::Archive| -> Box<dyn Inspect + Send> { Box::new(Walk(0)) };
    let flipped = || {
        let mut bytes = std::fs::read(&second).unwrap();
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
        std::fs::write(&second, &bytes).unwrap();
        bytes
    };
    type Damage<'a> = &'a (dyn Fn() + Sync);
    let cases: [(&str, Damage<'_>); 5] = [
        ("missing", &|| std::fs::remove_file(&second).unwrap()),
        ("size", &|| std::fs::write(&second, b"cut").unwrap()),
        ("sha256", &|| drop(flipped())),
        ("archive", &|| {
            let sha256 = Sha256::of(&flipped()).to_string();
            edit(&|value| value["archives"][0]["volumes"][1]["sha256"] = json!(sha256));
        }),
        ("archive", &|| {
            edit(&|value| {
                for (at, by) in [(1, -1), (2, 1)] {
                    let volume = &mut value["archives"][0]["volumes"][at];
                    volume["plain_bytes"] = json!(volume["plain_bytes"].as_i64().unwrap() + by);
                }
            });
        }),
    ];
    for (what, damage) in cases {
        damage();
        let mut seen = shelf::find(&place, &id).await.unwrap();
        let looked = shelf::look(&seen);
        assert_eq!(
            looked.first().map(|defect| defect.what.as_str()),
            Some(what).filter(|what| ["missing", "size"].contains(what))
        );
        let identities = keep.identities.as_ref();
        let part =
            shelf::verify_part(&place, &mut seen, &who(), "1/7", identities, &|number| number == 1).await.unwrap();
        assert!(part.bad.len() == 1 && part.bad[0].what == what && part.bad[0].file == volumes[1], "{part:?}");
        let mut again = shelf::find(&place, &id).await.unwrap();
        assert_eq!(again.verdict(), Verdict::Damaged, "{what}: the part was noted");
        // Another part that is whole does not take that back.
        let other =
            shelf::verify_part(&place, &mut again, &who(), "2/7", identities, &|number| number == 0).await.unwrap();
        assert!(other.bad.len() == 1 && other.archives.len() == 1, "{other:?}");
        assert_eq!(shelf::find(&place, &id).await.unwrap().verdict(), Verdict::Damaged, "{what}");
        let report = shelf::verify_with(&place, &mut again, &who(), identities, &walk, &|_, _| {}).await.unwrap();
        assert_eq!(report.bad.iter().map(|defect| defect.what.as_str()).collect::<Vec<_>>(), [what], "{report:?}");
        std::fs::remove_dir_all(&there).unwrap();
        cp(&saved, &there);
    }
    // Whoever has the wrong key is told so, and the bytes are compared all the same.
    let stranger = tempfile::tempdir().unwrap();
    let stranger = encrypted(stranger.path()).identities;
    let mut seen = shelf::find(&place, &id).await.unwrap();
    let part =
        shelf::verify_part(&place, &mut seen, &who(), "1/7", stranger.as_ref(), &|number| number == 1).await.unwrap();
    assert!(part.bad.is_empty() && part.not_opened && part.unchecked.len() == 1, "{part:?}");
    // A manifest of another point, or none that can be read: no point, and the others are listed.
    for (text, says) in [
        (
            std::fs::read_to_string(there.join("manifest.json")).unwrap().replace(&id, "20261126T010203Z-00ff"),
            "another point",
        ),
        ("{".to_owned(), "cannot be read"),
    ] {
        std::fs::write(there.join("manifest.json"), text).unwrap();
        let entries = shelf::entries(&place, None).await.unwrap();
        let [Entry::Broken { why, .. }] = &entries[..] else { panic!("{entries:?}") };
        assert!(why.kind == Kind::Bad && why.what.contains(says), "{why:?}");
        assert!(shelf::finish_emptying(&place, &entries, &who()).await.unwrap().is_empty(), "it may be brought back");
        assert!(shelf::find(&place, &id).await.is_err());
    }
    assert!(shelf::find(&place, "../x").await.unwrap_err().seen.unwrap().contains("not a cluster name"));
    // The notes of a point in the trash alone are what a deletion left: it is finished. Of one that was taken back they stay.
    let notes = |remarks: &[Remark]| {
        let note = |remark: &Remark| {
            serde_json::to_string(&ferry::catalog::Note { at: Timestamp::now(), who: who(), remark: remark.clone() })
                .unwrap()
        };
        remarks.iter().map(note).collect::<Vec<_>>().join("\n") + "\n"
    };
    let trashed = Remark::Trashed { until: Timestamp::now(), reason: "test".into(), dropped: None };
    for (remarks, gone) in [
        (vec![trashed.clone(), Remark::Recovered, Remark::Verified { bytes: 1 }], false),
        (vec![trashed, Remark::Released], true),
    ] {
        std::fs::remove_dir_all(&there).unwrap();
        std::fs::create_dir(&there).unwrap();
        std::fs::write(there.join("notes.jsonl"), notes(&remarks)).unwrap();
        let entries = shelf::entries(&place, None).await.unwrap();
        let finished = shelf::finish_emptying(&place, &entries, &who()).await.unwrap();
        assert_eq!((finished.len(), there.exists()), (usize::from(gone), !gone), "{entries:?}");
    }
}

/// What is read back from the other place is not what was sent: no point is made there, and the source is not noted as
/// having a copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_reads_back_otherwise_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (from, mut point) = source(dir.path(), &vec![7; 1 << 20]);
    // The disk changes its mind after the file got its name.
    let disk = Disk::watched(|step, path| {
        let archive = path.join("gravity.tar.gz");
        if step == Step::Sync && archive.is_file() {
            std::fs::OpenOptions::new().write(true).open(archive)?.write_all(b"B")?;
        }
        Ok(())
    });
    let to = shelf::folder_place(Catalog::open_on(&dir.path().join("to"), disk).unwrap());
    let failure = shelf::copy(&from, &mut point, &to, &who(), true, &|_, _| {}).await.unwrap_err();
    assert!(failure.kind == Kind::Bad && failure.what.contains("is not what was sent"), "{failure:?}");
    assert!(failure.chain.iter().any(|step| step.starts_with("copy prod/")), "{failure:?}");
    assert!(point.replicas().is_empty());
    let entries = shelf::entries(&to, None).await.unwrap();
    assert!(matches!(&entries[..], [Entry::LeftOver(_)]), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn object_storage_keeps_the_contract() {
    let storage = Storage::start();
    let dir = tempfile::tempdir().unwrap();
    contract(&storage.place("deep/er"), dir.path(), 8 << 20).await;
    let bytes: Vec<u8> = (0..20_u32 << 20).map(|at| (at / 3) as u8).collect();
    life(&storage.place("deep/er"), dir.path(), &bytes).await;
    // Straight from one remote place to another, and back: nothing of it lies on a disk in between.
    let root = dir.path().join("other");
    std::fs::create_dir(&root).unwrap();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (one, two, three) = (storage.place("one"), local_host(&root), storage.place("three"));
    let (from, mut point) = source_kept(&dir.path().join("straight"), &bytes, Some(&encrypted(dir.path())));
    for (from, to) in [(&from, &one), (&one, &two), (&two, &three)] {
        let copied = shelf::copy(from, &mut point, to, &who(), false, &|_, _| {}).await;
        copied.unwrap_or_else(|failure| panic!("{} to {}: {failure:?}", from.name(), to.name()));
        let mut there = shelf::find(to, point.id().as_str()).await.unwrap();
        let report = shelf::verify(to, &mut there, &who(), &|_| Box::new(Walk(0)), &|_, _| {}).await.unwrap();
        assert!(report.bad.is_empty() && there.manifest == point.manifest, "{}: {report:?}", to.name());
        point = there;
    }
    // Another prefix is another catalog; a bucket that is not there is told.
    assert_eq!(storage.place("other").files("").await.unwrap(), []);
    let aws = Aws {
        key_id: Some("A".into()),
        secret: Some("s".to_owned().into()),
        endpoint: Some(storage.endpoint()),
        ..Aws::default()
    };
    let nowhere = Place::Object(ObjectPlace::new("s3://nowhere".into(), "nowhere", "", &aws).unwrap());
    let failure = nowhere.probe().await.unwrap_err();
    assert!(failure.what.contains("s3://nowhere"), "{failure:?}");
    assert!(!format!("{nowhere:?}{failure:?}").contains("not-a-secret"));
}

/// A desk with an ssh_config that knows the host `shelf`, and the storage's address in its environment.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new(node: Option<&RealNode>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(".ssh")).unwrap();
        if let Some(node) = node {
            let text = format!(
                "Host shelf\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  IdentityFile {}\n  UserKnownHostsFile {}\n",
                node.port,
                node.user,
                node.key_path.display(),
                node.known_hosts_path.display()
            );
            std::fs::write(dir.path().join(".ssh/config"), text).unwrap();
        }
        Self { dir }
    }

    fn ferry(&self, args: &[&str], env: &[(&str, &str)]) -> Said {
        let mut command = support::bed::ferry(None, self.dir.path());
        command.env("HOME", self.dir.path()).envs(env.iter().copied()).args(args);
        support::bed::run_limited(command, Duration::from_secs(60))
    }
}

/// The commands of an operator against another place.
fn commands(desk: &Desk, url: &str, env: &[(&str, &str)]) {
    let (_, point) = source(desk.dir.path(), &vec![9; 2 << 20]);
    let (id, from) = (point.id().to_string(), desk.dir.path().join("from"));
    let from = from.to_str().unwrap();
    desk.ferry(&["points", "copy", &id, "--to", url, "--catalog", from, "--reread"], env).must(0, &["copied to", url]);
    desk.ferry(&["points", "list", "--catalog", url], env).must(0, &[&id, "verified"]);
    desk.ferry(&["points", "check", "--max-age", "26h", "--catalog", url], env).must(0, &["OK prod: gravity 3 h"]);
    desk.ferry(&["points", "check", "--min-replicas", "2", "--catalog", from], env).must(0, &["in 2 of 2 places"]);
    desk.ferry(&["points", "show", &id, "--catalog", url], env).must(0, &["3.2.0"]);
    desk.ferry(&["points", "verify", "--metadata", "--catalog", url], env).must(0, &["every file at its size"]);
    // Two mebibytes of nines are no gzip: the walk says so, wherever the point lies.
    desk.ferry(&["points", "verify", "--catalog", url], env).must(9, &["gravity.tar.gz: archive"]);
    desk.ferry(&["points", "hold", &id, "30d", "--catalog", url], env).must(0, &["is held until"]);
    desk.ferry(&["points", "delete", &id, "--confirm", &id, "--catalog", url], env).must(7, &["held"]);
    desk.ferry(&["points", "hold", &id, "release", "--catalog", url], env).must(0, &[]);
    desk.ferry(&["points", "prune", "--keep-last", "1", "--check", "--catalog", url], env).must(0, &[&id]);
    desk.ferry(&["points", "export", &id, "--catalog", url, "--to", "there.tar"], env).must(0, &["exported to"]);
    desk.ferry(&["points", "export", &id, "--catalog", from, "--to", "here.tar"], env).must(0, &["exported to"]);
    // Byte for byte the same but for the notes, which each place has of its own.
    let content = |tar: &str, file: &str| {
        let out =
            Command::new("tar").args(["-xOf", tar, &format!("{id}/{file}")]).current_dir(desk.dir.path()).output();
        out.unwrap().stdout
    };
    for file in ["gravity.tar.gz", "manifest.json", "SHA256SUMS", "logs/gravity-backup.log"] {
        assert!(
            !content("there.tar", file).is_empty() && content("there.tar", file) == content("here.tar", file),
            "{file}"
        );
    }
    desk.ferry(&["points", "import", "/dev/null", "--catalog", url], env).must(7, &["a folder of this machine only"]);
    desk.ferry(&["catalog", "break-lock", &format!("prod/{id}"), "--catalog", url], env).must(1, &["is not locked"]);
    desk.ferry(&["points", "delete", &id, "--confirm", &id, "--now", "--catalog", url], env)
        .must(0, &["deleted for good"]);
    desk.ferry(&["points", "list", "--catalog", url], env).must(0, &["no recovery point"]);
}

#[test]
fn an_operator_works_on_another_host() {
    let node = RealNode::start(Opts { in_memory: true, ..Opts::default() });
    let desk = Desk::new(Some(&node));
    commands(&desk, "ssh://shelf/home/ops/points", &[]);
    let modes = node.exec_in("find /home/ops/points -type d -perm /077; find /home/ops/points -type f -perm /077");
    assert_eq!(String::from_utf8_lossy(&modes.stdout), "", "nobody else reads it there");
    // A host that nobody recorded is not trusted, and one that is not there is told.
    std::fs::write(desk.dir.path().join("empty"), "").unwrap();
    let config = desk.dir.path().join(".ssh/config");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace(node.known_hosts_path.to_str().unwrap(), desk.dir.path().join("empty").to_str().unwrap()),
    )
    .unwrap();
    let said = desk.ferry(&["points", "list", "--catalog", "ssh://shelf/home/ops/points"], &[]);
    assert!([1, 4, 7].contains(&said.code), "{}", said.all());
    std::fs::write(
        &config,
        text.replace("  HostName 127.0.0.1\n", "  HostName 127.0.0.1\n  StrictHostKeyChecking no\n"),
    )
    .unwrap();
    desk.ferry(&["points", "list", "--catalog", "ssh://shelf/home/ops/points"], &[])
        .must(1, &["archives do not go where host keys are not checked"]);
}

#[test]
fn an_operator_works_on_object_storage() {
    let storage = Storage::start();
    let desk = Desk::new(None);
    let endpoint = storage.endpoint();
    let secret = "canary-3f9a-secret";
    let env = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_REGION", "eu-1"),
    ];
    commands(&desk, "s3://shelf/points", &env);
    // Nothing of the secret is written anywhere, nor said.
    assert_eq!(support::bed::find_in_files(desk.dir.path(), secret.as_bytes()), None);
    let said = desk.ferry(&["points", "list", "--catalog", "s3://nowhere/x"], &env);
    assert_ne!(said.code, 0);
    said.never(secret);
    // From the files that the AWS tools have.
    std::fs::create_dir(desk.dir.path().join(".aws")).unwrap();
    let credentials = desk.dir.path().join(".aws/credentials");
    std::fs::write(&credentials, format!("[default]\naws_access_key_id = AKID\naws_secret_access_key = {secret}\n"))
        .unwrap();
    std::fs::write(
        desk.dir.path().join(".aws/config"),
        format!("[default]\nregion = eu-1\nendpoint_url = {endpoint}\n"),
    )
    .unwrap();
    desk.ferry(&["points", "list", "--catalog", "s3://shelf/points"], &[]).must(0, &["no recovery point"]);
    desk.ferry(&["points", "list", "--catalog", "s3://shelf/points"], &[("AWS_PROFILE", "none")])
        .must(1, &["AWS_PROFILE names"]);
    let plain = [("AWS_ENDPOINT_URL", "http://192.0.2.1:9000")];
    desk.ferry(&["points", "list", "--catalog", "s3://shelf/points"], &plain).must(1, &["without TLS"]);
}

/// A restore whose point lies in object storage only: its archive streams from there to the node, through all gates.
#[test]
fn a_restore_streams_from_object_storage() {
    const SPACE: &str = "space=the disk of a test machine";
    let storage = Storage::start();
    let cluster = cluster::Cluster::plain(0.2, 2);
    let endpoint = storage.endpoint();
    let run = |words: &[&str]| {
        let mut command = cluster.command(words);
        command.env("AWS_ENDPOINT_URL", &endpoint).env("AWS_ACCESS_KEY_ID", "AKID");
        command.env("AWS_SECRET_ACCESS_KEY", "canary-3f9a-secret").env("AWS_REGION", "eu-1");
        let ended = cluster::Going::start(&mut command).end(cluster::SOON);
        assert!(!ended.said.contains("canary-3f9a-secret"));
        ended
    };
    let config = std::fs::read_to_string(&cluster.config).unwrap();
    let kept: Vec<&str> = config.lines().filter(|line| !line.starts_with("catalog")).collect();
    let catalogs =
        |text: &str| std::fs::write(&cluster.config, format!("catalog = {text}\n{}\n", kept.join("\n"))).unwrap();
    catalogs("[\"catalog\", \"s3://shelf/points\"]");
    let then = ferry::sandbox::content(cluster.dir(), "prod").unwrap();
    let ended = run(&["backup", "prod", "--output", "plain", "--waive", SPACE]);
    assert!(ended.code == Some(0) && ended.said.contains("s3://shelf/points"), "{}", ended.said);
    let id = cluster.sealed().into_iter().next().unwrap();
    std::fs::remove_dir_all(cluster.dir().join("catalog/prod").join(&id)).unwrap();
    catalogs("\"s3://shelf/points\"");
    let point = format!("prod/{id}");
    let words =
        ["restore", &point, "--to", "dr", "--output", "plain", "--waive", SPACE, "--waive", "safety_backup=a test"];
    let words: Vec<&str> = words.into_iter().chain(["--confirm", "dr"]).collect();
    let ended = run(&words);
    assert!(ended.code == Some(0) && ended.said.contains("restored   Gravity"), "{}", ended.said);
    assert_eq!(ferry::sandbox::content(cluster.dir(), "dr").unwrap(), then, "{}", ended.said);
    // A byte that changed there is found by the first gate, and nothing is destroyed.
    storage.flip(&format!("points/prod/{id}/gravity.tar.gz"), 70_000);
    ferry::sandbox::change(cluster.dir(), "dr", "something of its own").unwrap();
    let before = ferry::sandbox::content(cluster.dir(), "dr").unwrap();
    let ended = run(&words);
    assert!(ended.code == Some(7) && ended.said.contains("gate digest"), "{:?}\n{}", ended.code, ended.said);
    assert_eq!(ferry::sandbox::content(cluster.dir(), "dr").unwrap(), before, "{}", ended.said);
}

#[test]
fn a_large_copy_takes_little_memory() {
    let storage = Storage::start();
    let desk = Desk::new(None);
    let (_, point) = source(desk.dir.path(), &vec![3; 96 << 20]);
    let endpoint = storage.endpoint();
    let env = [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "x")];
    let from = desk.dir.path().join("from");
    let said = desk.ferry(
        &["points", "copy", point.id().as_str(), "--to", "s3://shelf", "--reread", "--catalog", from.to_str().unwrap()],
        &env,
    );
    said.must(0, &["copied to"]);
    println!(
        "96 MiB to object storage and read back: {} KiB at the most, {:.1} s",
        said.peak_kib,
        said.took.as_secs_f64()
    );
    assert!(said.peak_kib < 96 << 10, "{} KiB", said.peak_kib);
}
