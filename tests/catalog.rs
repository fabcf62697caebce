//! The catalog from outside: points are sealed whole or not at all, and what is wrong is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferry::catalog::*;
use ferry::digest::Sha256;
use ferry::failure::{Failure, Kind};
use ferry::name::{ClusterName, PointId, RunId};
use serde_json::{Value, json};

const OLD: &str = "20261121T041500Z-0001";
const NEW: &str = "20261122T041500Z-7f3a";
const BYTES: &[u8] = b"pretend archive bytes, long enough to be cut somewhere in the middle";

fn prod() -> ClusterName {
    "prod".parse().unwrap()
}

fn id(text: &str) -> PointId {
    text.parse().unwrap()
}

fn run(text: &str) -> RunId {
    text.parse().unwrap()
}

fn who() -> Who {
    Who { user: "ops".into(), machine: "jump".into(), ci: None }
}

/// A catalog in a folder of its own.
struct Shelf {
    _temp: tempfile::TempDir,
    root: PathBuf,
}

impl Shelf {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("a/catalog");
        Self { _temp: temp, root }
    }

    fn open(&self) -> Catalog {
        Catalog::open(&self.root).unwrap()
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.join("prod").join(name)
    }
}

fn archive(bytes: &[u8]) -> Archive {
    Archive {
        name: "gravity".into(),
        kind: ArchiveKind::Gravity,
        file: "gravity.tar.gz".into(),
        bytes: bytes.len() as u64,
        sha256: Sha256::of(bytes),
        volumes: Vec::new(),
        encryption: None,
        members: 3,
        content_bytes: 4096,
        verdict: Verdict::Verified,
        why: String::new(),
        source_path: "/var/lib/data/ferry/x/backup.tar.gz".into(),
        verified_how: vec!["sha256 equal on the node, in the stream and on the disk here".into()],
        details: serde_json::Map::new(),
    }
}

fn manifest(point: &str, bytes: &[u8]) -> Manifest {
    Manifest {
        format: 0,
        id: id(point),
        label: Some("before the upgrade".into()),
        run: run("20261122T041455Z-9c1e"),
        job: Some("0123456789abcdef0123456789abcdef".parse().unwrap()),
        who: who(),
        ferry_version: "0.1.0".into(),
        inventory_sha256: Some(Sha256::of(b"inventory")),
        playbook_sha256: None,
        cluster: ClusterFacts {
            group: prod(),
            gravity_name: Some("pce-prod".into()),
            kube_system_uid: None,
            advertise_addresses: vec!["10.0.0.1".into()],
        },
        pce_version: Some("3.2.0".into()),
        gravity_version: Some("7.0.12".into()),
        node: "prod-1".parse().unwrap(),
        started: "2026-11-22T04:15:00Z".parse().unwrap(),
        finished: "2026-11-22T04:55:00Z".parse().unwrap(),
        status_before: json!({"cluster": {"state": "active"}}),
        status_after: Value::Null,
        commands: vec!["gravity backup /x --timeout=60m --follow".into()],
        archives: vec![archive(bytes)],
        complete: true,
        contents: contents_rows(true, false, true, false),
        durations: Durations { backup_seconds: Some(1500.25), ..Durations::default() },
        warnings: vec![],
        waivers: vec![Waiver { gate: "space".into(), reason: "tonight only".into() }],
        files: vec![],
        extra: serde_json::Map::new(),
    }
}

fn begin(catalog: &Catalog, point: &str) -> Result<PointInProgress, Failure> {
    catalog.begin(&prod(), &id(point), &run("20261122T041455Z-9c1e"), "jump", "ferry backup prod")
}

/// An archive that arrived whole.
fn whole_archive(part: &PointInProgress) {
    let mut receiving = part.open_archive("gravity.tar.gz").unwrap();
    receiving.file.write_all(BYTES).unwrap();
    receiving.finish().unwrap();
}

/// The whole way of a point, going on with whatever an earlier attempt left.
fn make(catalog: &Catalog, point: &str, bytes: &[u8]) -> Result<Point, Failure> {
    let part = begin(catalog, point)?;
    part.write_file("logs/gravity-backup.log", b"said the hook\n")?;
    part.write_file("settings/dns.json", b"{}\n")?;
    if part.finished_archive("gravity.tar.gz").is_none() {
        let mut receiving = part.open_archive("gravity.tar.gz")?;
        let from = usize::try_from(receiving.offset).unwrap();
        receiving.file.write_all(&bytes[from..]).unwrap();
        receiving.finish()?;
    }
    part.seal(manifest(point, bytes))
}

struct Walk(Vec<u8>);

impl Inspect for Walk {
    fn feed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn finish(self: Box<Self>) -> Result<u64, String> {
        if self.0.starts_with(b"pretend") { Ok(3) } else { Err("byte 0: not a gzip member".into()) }
    }
}

fn verify(catalog: &Catalog, point: &mut Point) -> VerifyReport {
    let (mut last, mut heard) = (0, Vec::new());
    let report = catalog
        .verify(point, &who(), &|_| Box::new(Walk(Vec::new())), &mut |done, total| {
            assert!(done >= last, "progress goes forward");
            last = done;
            heard.push((done, total));
        })
        .unwrap();
    assert!(heard.len() > 1);
    report
}

fn states(catalog: &Catalog) -> Vec<(String, String)> {
    let now = jiff::Timestamp::now();
    let entries = catalog.list(None).unwrap();
    entries.iter().map(|entry| (entry.id().to_string(), entry.summary(now).state)).collect()
}

fn state(catalog: &Catalog, point: &str) -> String {
    states(catalog).into_iter().find(|(id, _)| id == point).map_or("absent".into(), |(_, state)| state)
}

#[test]
fn a_sealed_point_is_listed_found_and_verified() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    assert!(catalog.list(None).unwrap().is_empty());
    let mut point = make(&catalog, NEW, BYTES).unwrap();
    assert_eq!(point.dir, catalog.root().join("prod").join(NEW));
    assert_eq!(states(&catalog), [(NEW.to_owned(), "verified".to_owned())]);
    for found in ["latest", NEW, "20261122", "prod/2026", "prod/latest"] {
        assert_eq!(catalog.find(found, Some(&prod())).unwrap().id(), point.id(), "{found}");
    }
    let report = verify(&catalog, &mut point);
    assert_eq!((report.bad.as_slice(), report.warnings.as_slice()), (&[][..], &[][..]));
    assert!(report.failure().is_none() && report.not_noted.is_none());
    assert_eq!(report.archives[0].members, Some(3));
    assert_eq!(point.notes.known.len(), 1);
    assert!(point.last_verified() > point.manifest.finished || point.last_verified() == point.notes.known[0].at);
    // Rights: folders 0700, files 0600; nothing of the making is left.
    let mut names = Vec::new();
    walk(&shelf.root, &mut |path, mode, is_dir| {
        assert_eq!(mode & 0o777, if is_dir { 0o700 } else { 0o600 }, "{}", path.display());
        names.push(path.strip_prefix(&shelf.root).unwrap().display().to_string());
    });
    names.sort();
    let base = format!("prod/{NEW}");
    let mut expected = vec!["prod".to_owned(), base.clone()];
    for name in [
        "gravity.tar.gz",
        "logs",
        "logs/gravity-backup.log",
        "manifest.json",
        "notes.jsonl",
        "settings",
        "settings/dns.json",
    ] {
        expected.push(format!("{base}/{name}"));
    }
    assert_eq!(names, expected);
    let room = catalog.room().unwrap();
    assert!(room.free > 0 && room.free <= room.total);
}

fn walk(folder: &Path, each: &mut dyn FnMut(&Path, u32, bool)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let there = std::fs::symlink_metadata(&path).unwrap();
        each(&path, there.mode(), there.is_dir());
        if there.is_dir() {
            walk(&path, each);
        }
    }
}

#[test]
fn the_manifest_has_its_shape() {
    let shelf = Shelf::new();
    make(&shelf.open(), NEW, BYTES).unwrap();
    let text = std::fs::read_to_string(shelf.dir(NEW).join("manifest.json")).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    let contents = value["contents"].take();
    let no = |row: &str| contents.as_array().unwrap().iter().find(|r| r["row"] == row).unwrap()["in_backup"] == "no";
    assert_eq!(contents.as_array().unwrap().len(), 16);
    assert!(no("DNS settings") && no("runtimes") && !no("databases"));
    assert_eq!(contents[15], json!({"row": "NFS archive", "in_backup": "no", "note": "not saved in this run"}));
    assert_eq!(contents_rows(false, false, false, false).len(), 14);
    let files = contents_rows(true, true, true, true).into_iter().find(|row| row.row == "NFS files").unwrap();
    assert_eq!((files.in_backup, files.note.as_str()), (InBackup::Yes, "in the NFS archive"));
    let golden = json!({
        "format": 1,
        "id": NEW,
        "label": "before the upgrade",
        "run": "20261122T041455Z-9c1e",
        "job": "0123456789abcdef0123456789abcdef",
        "who": {"user": "ops", "machine": "jump", "ci": null},
        "ferry_version": "0.1.0",
        "inventory_sha256": Sha256::of(b"inventory").to_string(),
        "playbook_sha256": null,
        "cluster": {"group": "prod", "gravity_name": "pce-prod", "kube_system_uid": null, "advertise_addresses": ["10.0.0.1"]},
        "pce_version": "3.2.0",
        "gravity_version": "7.0.12",
        "node": "prod-1",
        "started": "2026-11-22T04:15:00Z",
        "finished": "2026-11-22T04:55:00Z",
        "status_before": {"cluster": {"state": "active"}},
        "status_after": null,
        "commands": ["gravity backup /x --timeout=60m --follow"],
        "archives": [{
            "name": "gravity", "kind": "gravity", "file": "gravity.tar.gz", "bytes": BYTES.len(),
            "sha256": Sha256::of(BYTES).to_string(), "members": 3, "content_bytes": 4096, "verdict": "verified", "why": "",
            "source_path": "/var/lib/data/ferry/x/backup.tar.gz",
            "verified_how": ["sha256 equal on the node, in the stream and on the disk here"]
        }],
        "complete": true,
        "contents": null,
        "durations": {"backup_seconds": 1500.25},
        "warnings": [],
        "waivers": [{"gate": "space", "reason": "tonight only"}],
        "files": [
            {"path": "logs/gravity-backup.log", "bytes": 14, "sha256": Sha256::of(b"said the hook\n").to_string()},
            {"path": "settings/dns.json", "bytes": 3, "sha256": Sha256::of(b"{}\n").to_string()}
        ]
    });
    assert_eq!(serde_json::to_string_pretty(&value).unwrap(), serde_json::to_string_pretty(&golden).unwrap());
}

#[test]
fn fields_of_a_newer_ferry_are_kept_and_a_newer_format_is_refused() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    make(&catalog, NEW, BYTES).unwrap();
    let path = shelf.dir(NEW).join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("{", "{\n  \"volumes\": [7],", 1)).unwrap();
    let point = catalog.find(NEW, None).unwrap();
    assert_eq!(point.to_json().unwrap()["volumes"], json!([7]));
    assert_eq!(point.to_json().unwrap()["verdict"], "verified");
    std::fs::write(&path, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    let failure = catalog.find(NEW, None).unwrap_err();
    assert!(failure.seen.unwrap().contains("manifest format 2"));
    assert_eq!(state(&catalog, NEW), "no point");
    // A manifest that would lead out of the folder.
    for evil in ["../../../etc/passwd", "/etc/passwd", "..", "logs/../../x", ".hidden", ""] {
        std::fs::write(&path, text.replace("\"logs/gravity-backup.log\"", &json!(evil).to_string())).unwrap();
        assert_eq!(state(&catalog, NEW), "no point", "{evil}");
        std::fs::write(&path, text.replace("\"file\": \"gravity.tar.gz\"", &format!("\"file\": {}", json!(evil))))
            .unwrap();
        assert_eq!(state(&catalog, NEW), "no point", "{evil}");
    }
    // A cut manifest names line and column.
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    let Entry::Broken { why, .. } = &catalog.list(None).unwrap()[0] else { panic!("not broken") };
    assert!(why.place.as_ref().unwrap().line > 10 && why.snippet.is_some(), "{why:?}");
}

/// Every bit-flip, cut and loss is named, noted, and makes the point damaged.
#[test]
fn what_is_wrong_is_named() {
    type Damage = fn(&Path);
    let cases: [(&str, &str, Damage); 7] = [
        ("gravity.tar.gz", "sha256", |dir| {
            let mut bytes = BYTES.to_vec();
            bytes[40] ^= 1;
            std::fs::write(dir.join("gravity.tar.gz"), bytes).unwrap();
        }),
        ("gravity.tar.gz", "size", |dir| std::fs::write(dir.join("gravity.tar.gz"), &BYTES[..20]).unwrap()),
        ("gravity.tar.gz", "size", |dir| std::fs::write(dir.join("gravity.tar.gz"), b"").unwrap()),
        ("gravity.tar.gz", "missing", |dir| std::fs::remove_file(dir.join("gravity.tar.gz")).unwrap()),
        ("gravity.tar.gz", "unreadable", |dir| {
            std::fs::rename(dir.join("gravity.tar.gz"), dir.join("../elsewhere")).unwrap();
            symlink("../elsewhere", dir.join("gravity.tar.gz")).unwrap();
        }),
        ("logs/gravity-backup.log", "sha256", |dir| {
            std::fs::write(dir.join("logs/gravity-backup.log"), b"said the lion\n").unwrap();
        }),
        ("settings/dns.json", "unreadable", |dir| {
            std::fs::rename(dir.join("settings"), dir.join("../settings")).unwrap();
            symlink("../settings", dir.join("settings")).unwrap();
        }),
    ];
    for (file, what, damage) in cases {
        let shelf = Shelf::new();
        let catalog = shelf.open();
        let mut point = make(&catalog, NEW, BYTES).unwrap();
        damage(&point.dir);
        let report = verify(&catalog, &mut point);
        let named = report.bad.iter().any(|defect| defect.file == file && defect.what == what);
        assert!(named, "{file} {what}: {:?}", report.bad);
        let failure = report.failure().unwrap();
        assert_eq!(failure.kind, Kind::Bad);
        assert!(failure.what.contains(file), "{failure}");
        assert_eq!(point.verdict(), Verdict::Damaged);
        // It stays so for everybody who looks later, and is no measure and no `latest`.
        assert_eq!(state(&catalog, NEW), "damaged");
        assert_eq!(catalog.find("prod/latest", None).unwrap_err().kind, Kind::CouldNotStart);
        assert_eq!(point.accept(catalog.disk(), who(), "it is fine").unwrap_err().kind, Kind::Refused);
        let archive_hit = file == "gravity.tar.gz";
        assert_eq!(point.verdict_of(&point.manifest.archives[0]) == Verdict::Damaged, archive_hit);
    }
}

#[test]
fn a_damaged_point_that_was_brought_back_is_verified_by_its_bytes() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    let mut point = make(&catalog, NEW, BYTES).unwrap();
    let file = point.dir.join("gravity.tar.gz");
    std::fs::write(&file, b"pretend").unwrap();
    verify(&catalog, &mut point);
    std::fs::write(&file, BYTES).unwrap();
    assert_eq!(state(&catalog, NEW), "damaged", "the bytes alone prove nothing until they are read");
    verify(&catalog, &mut point);
    assert_eq!(state(&catalog, NEW), "verified");
}

#[test]
fn rights_and_files_that_nobody_listed_are_warnings() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    let mut point = make(&catalog, NEW, BYTES).unwrap();
    std::fs::set_permissions(point.dir.join("gravity.tar.gz"), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(point.dir.join("logs/extra"), b"").unwrap();
    let report = verify(&catalog, &mut point);
    assert!(report.bad.is_empty());
    assert!(report.warnings.iter().any(|w| w.contains("gravity.tar.gz has mode 0644, expected 0600")), "{report:?}");
    assert!(report.warnings.iter().any(|w| w.contains("logs/extra is not listed")), "{report:?}");
    assert_eq!(point.verdict(), Verdict::Verified);
}

#[test]
fn without_its_manifest_a_folder_is_no_point() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    make(&catalog, NEW, BYTES).unwrap();
    std::fs::remove_file(shelf.dir(NEW).join("manifest.json")).unwrap();
    assert_eq!(state(&catalog, NEW), "no point");
    let failure = catalog.find(NEW, None).unwrap_err();
    assert_eq!(failure.kind, Kind::CouldNotStart);
    assert!(failure.what.contains("is no recovery point"), "{failure}");
    assert!(catalog.history(&prod(), ArchiveKind::Gravity).unwrap().is_empty());
    // A folder that bears another point's manifest is none either.
    make(&catalog, OLD, BYTES).unwrap();
    std::fs::copy(shelf.dir(OLD).join("manifest.json"), shelf.dir(NEW).join("manifest.json")).unwrap();
    assert_eq!(state(&catalog, NEW), "no point");
    // Nor is a symbolic link to one.
    std::fs::remove_dir_all(shelf.dir(NEW)).unwrap();
    symlink(shelf.dir(OLD), shelf.dir(NEW)).unwrap();
    assert_eq!(state(&catalog, NEW), "no point");
}

#[test]
fn what_is_not_a_whole_archive_is_never_sealed() {
    type Spoil = fn(&PointInProgress, &mut Manifest);
    fn volume(file: &str) -> Volume {
        let (bytes, sha256) = (BYTES.len() as u64, Sha256::of(BYTES));
        Volume { file: file.to_owned(), bytes, sha256, plain_bytes: bytes }
    }
    let cases: [(&str, Spoil); 17] = [
        ("of another size", |part, _| std::fs::write(part.file("gravity.tar.gz"), &BYTES[1..]).unwrap()),
        ("not there", |part, _| std::fs::remove_file(part.file("gravity.tar.gz")).unwrap()),
        ("a symbolic link", |part, _| {
            std::fs::rename(part.file("gravity.tar.gz"), part.dir().join("../elsewhere")).unwrap();
            symlink("../elsewhere", part.file("gravity.tar.gz")).unwrap();
        }),
        ("a part beside it", |part, _| std::fs::write(part.file("amv.tar.gz.part"), b"x").unwrap()),
        ("an archive that is not named", |part, _| std::fs::write(part.file("amv.tar.gz"), b"x").unwrap()),
        ("a link among the logs", |part, _| symlink("/etc/passwd", part.logs_dir().join("passwd")).unwrap()),
        ("no members", |_, manifest| manifest.archives[0].members = 0),
        ("no proof", |_, manifest| manifest.archives[0].verified_how.clear()),
        ("damaged", |_, manifest| manifest.archives[0].verdict = Verdict::Damaged),
        ("no archive", |_, manifest| manifest.archives.clear()),
        ("named twice", |_, manifest| {
            let again = manifest.archives[0].clone();
            manifest.archives.push(again);
        }),
        ("another id", |_, manifest| manifest.id = id(OLD)),
        ("another cluster", |_, manifest| manifest.cluster.group = "dr".parse().unwrap()),
        ("a name that leads away", |_, manifest| manifest.archives[0].file = "../gravity.tar.gz".into()),
        ("a file that nobody sees", |part, _| std::fs::write(part.logs_dir().join(".hidden"), b"x").unwrap()),
        ("a volume that leads away", |_, manifest| {
            manifest.archives[0].volumes = vec![volume("../gravity.tar.gz.0001")]
        }),
        ("a volume of another archive", |part, manifest| {
            std::fs::write(part.file("amv.tar.gz.0001"), BYTES).unwrap();
            manifest.archives[0].volumes = vec![volume("amv.tar.gz.0001")];
        }),
    ];
    for (case, spoil) in cases {
        let shelf = Shelf::new();
        let catalog = shelf.open();
        let part = begin(&catalog, NEW).unwrap();
        whole_archive(&part);
        let mut manifest = manifest(NEW, BYTES);
        spoil(&part, &mut manifest);
        let failure = part.seal(manifest).unwrap_err();
        assert_eq!(failure.kind, Kind::Failed, "{case}: {failure}");
        assert_eq!(failure.mend.as_deref(), Some("ferry backup prod"), "{case}");
        assert_eq!(state(&catalog, NEW), "left over", "{case}");
        assert!(!shelf.dir(NEW).exists(), "{case}");
    }
}

#[test]
fn one_writer_for_one_point() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    let first = begin(&catalog, NEW).unwrap();
    let refused = begin(&Catalog::open(&shelf.root).unwrap(), NEW).unwrap_err();
    assert_eq!(refused.kind, Kind::Refused);
    assert!(refused.seen.unwrap().contains("run 20261122T041455Z-9c1e on jump since"));
    assert_eq!(state(&catalog, NEW), "in progress");
    // Another id is nobody's business.
    make(&catalog, OLD, BYTES).unwrap();
    drop(first);
    assert_eq!(state(&catalog, NEW), "left over");
    let line = catalog.list(Some(&prod())).unwrap().pop().unwrap().summary(jiff::Timestamp::now());
    assert!(line.remark.contains("go on: ferry backup prod"), "{line:?}");
    let point = make(&catalog, NEW, BYTES).unwrap();
    // Sealed is sealed.
    assert_eq!(begin(&catalog, NEW).unwrap_err().kind, Kind::Refused);
    assert_eq!(point.verdict(), Verdict::Verified);
    // Many at once: exactly one gets it.
    let id = "20261123T000000Z-0000";
    let barrier = Arc::new(std::sync::Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (catalog, barrier) = (catalog.clone(), barrier.clone());
            std::thread::spawn(move || {
                let part = begin(&catalog, id);
                barrier.wait();
                part.is_ok()
            })
        })
        .collect();
    assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count(), 1);
}

#[test]
fn an_archive_is_received_in_pieces() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    {
        let part = begin(&catalog, NEW).unwrap();
        let mut receiving = part.open_archive("gravity.tar.gz").unwrap();
        assert_eq!((receiving.offset, receiving.file.metadata().unwrap().mode() & 0o777), (0, 0o600));
        receiving.file.write_all(&BYTES[..10]).unwrap();
    }
    let again =
        catalog.begin(&prod(), &id(NEW), &run("20261122T060000Z-0002"), "laptop", "ferry runs resume X").unwrap();
    let mut receiving = again.open_archive("gravity.tar.gz").unwrap();
    assert_eq!(receiving.offset, 10);
    receiving.file.write_all(&BYTES[10..]).unwrap();
    let path = receiving.finish().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), BYTES);
    assert_eq!(again.finished_archive("gravity.tar.gz"), Some(BYTES.len() as u64));
    assert!(again.open_archive("gravity.tar.gz").is_err(), "a whole one is not written to again");
    let Entry::InProgress(part) = catalog.list(None).unwrap().remove(0) else { panic!("not in progress") };
    let note = part.note.unwrap();
    assert_eq!(note.earlier_runs, [run("20261122T041455Z-9c1e")]);
    assert_eq!((note.run, note.host.as_str()), (run("20261122T060000Z-0002"), "laptop"));
    // What is a link, a pipe or a folder is not opened; a name is a name.
    symlink("/etc/passwd", again.file("amv.tar.gz.part")).unwrap();
    assert!(again.open_archive("amv.tar.gz").unwrap_err().seen.unwrap().contains("symbolic link"));
    let target = shelf.root.join("target");
    std::fs::write(&target, b"mine").unwrap();
    std::fs::hard_link(&target, again.file("nfs.tar.gz.part")).unwrap();
    assert!(again.open_archive("nfs.tar.gz").unwrap_err().seen.unwrap().contains("hard link"));
    for bad in ["../x", "", ".x", "a/b", "manifest.json", "notes.jsonl", "x.part", "logs", "x\n"] {
        assert!(again.open_archive(bad).is_err(), "{bad:?}");
    }
    for bad in ["x", "logs/../x", "logs/", "../logs/x", "archive/x", "logs/.x"] {
        assert!(again.write_file(bad, b"").is_err(), "{bad:?}");
    }
    again.discard_archive("amv.tar.gz").unwrap();
    again.discard_archive("nfs.tar.gz").unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"mine");
    again.abandon().unwrap();
    assert!(catalog.list(None).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(shelf.root.join("prod")).unwrap().count(), 0);
}

#[test]
fn unsafe_places_are_refused() {
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let refused = |root: &Path, word: &str| {
        for opened in [Catalog::open(root), Catalog::open_read(root)] {
            let failure = opened.unwrap_err();
            assert_eq!(failure.kind, Kind::CouldNotStart);
            assert!(failure.what.contains(word), "{word}: {failure}");
        }
    };
    let shelf = Shelf::new();
    let catalog = shelf.open();
    mode(&shelf.root, 0o777);
    refused(&shelf.root, "anybody can write");
    mode(&shelf.root, 0o1777);
    refused(&shelf.root, "anybody can write");
    mode(&shelf.root, 0o700);
    mode(shelf.root.parent().unwrap(), 0o777);
    refused(&shelf.root, "anybody can write");
    assert!(Catalog::open(&shelf.root.parent().unwrap().join("other")).is_err());
    assert!(!shelf.root.parent().unwrap().join("other").exists(), "nothing is made there");
    mode(shelf.root.parent().unwrap(), 0o700);
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), shelf.root.join("prod")).unwrap();
    refused(&shelf.root, "symbolic link");
    // Also when the link came after the catalog was opened.
    assert_eq!(begin(&catalog, NEW).unwrap_err().kind, Kind::CouldNotStart);
    assert!(catalog.list(Some(&prod())).is_err());
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    std::fs::remove_file(shelf.root.join("prod")).unwrap();
    std::fs::create_dir(shelf.dir("")).unwrap();
    symlink(elsewhere.path(), shelf.dir(&format!("{NEW}.part"))).unwrap();
    assert_eq!(begin(&catalog, NEW).unwrap_err().kind, Kind::CouldNotStart);
    assert_eq!(state(&catalog, NEW), "no point");
    let file = shelf.root.join("file");
    std::fs::write(&file, b"").unwrap();
    refused(&file, "not a folder");
    // Reading needs nothing to be there, and makes nothing.
    let absent = shelf.root.join("absent");
    assert!(Catalog::open_read(&absent).unwrap().list(None).unwrap().is_empty());
    assert!(!absent.exists());
    // A link to the catalog itself is the operator's own business.
    let link = shelf.root.join("../link");
    symlink(&shelf.root, &link).unwrap();
    assert!(Catalog::open(&link).is_ok());
    // A disk that takes no bytes is found by trying, and the trial leaves nothing.
    for broken in [Step::Create, Step::Write, Step::Sync] {
        let disk =
            Disk::watched(move |step, _| if step == broken { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) });
        let failure = Catalog::open_on(&shelf.root, disk).unwrap_err();
        assert!(failure.kind == Kind::CouldNotStart && failure.what.contains("full"), "{failure}");
        assert!(
            !std::fs::read_dir(&shelf.root).unwrap().any(|e| e
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with(".probe"))
        );
    }
}

/// What the operator can mend is told with how, and nothing is made in between.
#[test]
fn a_disk_that_says_no_is_told_with_what_to_do() {
    let shelf = Shelf::new();
    for (kind, mend) in [
        (io::ErrorKind::StorageFull, "make room"),
        (io::ErrorKind::ReadOnlyFilesystem, "mount it writable"),
        (io::ErrorKind::PermissionDenied, "run as the user who owns the catalog"),
    ] {
        let disk = Disk::watched(move |step, _| if step == Step::MakeDir { Err(kind.into()) } else { Ok(()) });
        let failure = Catalog::open_on(&shelf.root, disk.clone()).unwrap_err();
        assert!(failure.kind == Kind::CouldNotStart && failure.mend.unwrap().contains(mend), "{kind:?}");
        assert!(!shelf.root.exists());
        shelf.open();
        let failure = begin(&Catalog::open_on(&shelf.root, disk.clone()).unwrap(), NEW).unwrap_err();
        assert!(failure.kind == Kind::Failed && failure.mend.unwrap().contains(mend), "{kind:?}");
        assert!(states(&shelf.open()).is_empty());
        assert!(format!("{disk:?} {:?}", Disk::default()).contains("Disk(watched) Disk"));
        std::fs::remove_dir_all(shelf.root.parent().unwrap()).unwrap();
    }
    // A file where a folder should be, on the way and in its place.
    std::fs::create_dir_all(shelf.root.parent().unwrap()).unwrap();
    let catalog = shelf.open();
    std::fs::remove_dir(&shelf.root).unwrap();
    assert!(catalog.clusters().unwrap().is_empty(), "what is not there holds nothing");
    std::fs::write(&shelf.root, b"").unwrap();
    for failure in [
        catalog.clusters().unwrap_err(),
        Catalog::open_read(&shelf.root.join("below")).unwrap_err(),
        Catalog::open(&shelf.root.join("below")).unwrap_err(),
    ] {
        assert!(failure.kind == Kind::CouldNotStart && failure.seen.unwrap().contains("Not a directory"));
    }
}

/// What a killed ferry left is swept away only when nothing of it is worth anything, and only by its own machine.
#[test]
fn only_worthless_parts_are_swept_away() {
    type Leave = fn(&PointInProgress);
    let cases: [(&str, bool, Leave); 9] = [
        ("nothing yet", true, |_| {}),
        ("a log", true, |part| part.write_file("logs/gravity-backup.log", b"said").unwrap()),
        ("an archive of no bytes", true, |part| drop(part.open_archive("gravity.tar.gz").unwrap())),
        ("a write that was cut", true, |part| std::fs::write(part.file("manifest.json.new"), b"{").unwrap()),
        ("a setting", false, |part| part.write_file("settings/dns.json", b"{}").unwrap()),
        ("a byte of an archive", false, |part| {
            part.open_archive("gravity.tar.gz").unwrap().file.write_all(b"x").unwrap();
        }),
        ("a whole archive", false, |part| std::fs::write(part.file("gravity.tar.gz"), BYTES).unwrap()),
        ("something of somebody else", false, |part| std::fs::write(part.file("diary"), b"").unwrap()),
        ("logs that are a link", false, |part| {
            std::fs::remove_dir(part.logs_dir()).unwrap();
            symlink("/tmp", part.logs_dir()).unwrap();
        }),
    ];
    for (case, worthless, leave) in cases {
        let shelf = Shelf::new();
        let catalog = shelf.open();
        make(&catalog, OLD, BYTES).unwrap();
        let part = begin(&catalog, NEW).unwrap();
        leave(&part);
        assert!(catalog.sweep(&prod(), "jump", &[]).is_empty(), "{case}: a ferry works on it");
        drop(part);
        assert!(catalog.sweep(&prod(), "laptop", &[]).is_empty(), "{case}: another machine's");
        assert!(catalog.sweep(&prod(), "jump", &[id(NEW)]).is_empty(), "{case}: it is kept");
        assert_eq!(state(&catalog, NEW), "left over", "{case}");
        // A lock that nobody holds and that belongs to nothing goes with it.
        let lock = shelf.dir(".20261120T000000Z-0000.lock");
        std::fs::write(&lock, b"").unwrap();
        let swept = catalog.sweep(&prod(), "jump", &[]);
        assert_eq!(swept, if worthless { vec![id(NEW)] } else { Vec::new() }, "{case}");
        assert_eq!(state(&catalog, NEW), if worthless { "absent" } else { "left over" }, "{case}");
        assert!(!lock.exists(), "{case}");
        assert_eq!(state(&catalog, OLD), "verified", "{case}");
    }
    let shelf = Shelf::new();
    assert!(shelf.open().sweep(&prod(), "jump", &[]).is_empty(), "a cluster that has no folder");
}

/// A point that got the name meanwhile is not replaced, and what was made stays.
#[test]
fn a_point_that_is_there_by_then_is_not_replaced() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    let part = begin(&catalog, NEW).unwrap();
    whole_archive(&part);
    std::fs::create_dir(shelf.dir(NEW)).unwrap();
    std::fs::write(shelf.dir(NEW).join("theirs"), b"").unwrap();
    let failure = part.seal(manifest(NEW, BYTES)).unwrap_err();
    assert!(failure.kind == Kind::Failed && failure.what.contains("is there already"), "{failure}");
    assert!(failure.why.unwrap().contains("never replaced"));
    assert_eq!(std::fs::read_dir(shelf.dir(NEW)).unwrap().count(), 1);
    assert_eq!(std::fs::read(shelf.dir(&format!("{NEW}.part")).join("gravity.tar.gz")).unwrap(), BYTES);
}

/// One look and the checks of a monitor take what is no point for what it is.
#[test]
fn what_is_no_point_is_shown_and_counts_for_nothing() {
    use ferry::catalog::check::{self, Worth};
    use ferry::catalog::{overview, retention};
    let shelf = Shelf::new();
    let catalog = shelf.open();
    let mut damaged = make(&catalog, OLD, BYTES).unwrap();
    std::fs::write(damaged.dir.join("gravity.tar.gz"), b"").unwrap();
    let _held = begin(&catalog, NEW).unwrap();
    drop(begin(&catalog, "20261123T041500Z-0003").unwrap());
    std::fs::create_dir(shelf.dir("20261124T041500Z-0004")).unwrap();
    let entries = catalog.list(None).unwrap();
    let now = jiff::Timestamp::now();
    let seen = overview::overview("here", &entries, &retention::Rules::default(), now);
    let prod = &seen.clusters[0];
    assert_eq!(
        (prod.in_progress.as_slice(), prod.left_over.as_slice()),
        (&[id(NEW)][..], &[id("20261123T041500Z-0003")][..])
    );
    assert_eq!(prod.broken[0].0, id("20261124T041500Z-0004"));
    assert!(prod.broken[0].1.contains("manifest.json is missing"), "{:?}", prod.broken);
    assert_eq!((prod.points.len(), prod.points[0].archives[0].verdict), (1, Verdict::Damaged));
    assert!(prod.newest.is_empty(), "what is damaged is no newest");
    let shelf_seen = check::look(&entries);
    assert_eq!(shelf_seen.archives.len(), 2, "the point, and the folder that may have been one");
    assert!(matches!(&shelf_seen.archives[0].worth, Worth::Damaged(why) if why.contains("has 0 bytes instead of")));
    let replicas = check::replicas(&entries, 2, now);
    assert_eq!(replicas.said(), "NOT REPLICATED: no verified point (wanted in 2 places)");
    assert!(!replicas.ok && !check::drill(&entries, std::time::Duration::MAX, now).ok);
    // Noted, it is the note that says what is wrong.
    verify(&catalog, &mut damaged);
    let Worth::Damaged(why) = check::worth(&damaged, &damaged.manifest.archives[0]) else { panic!("not damaged") };
    assert!(why.contains("gravity.tar.gz: size: expected"), "{why}");
}

/// Half a stream and then an error, as a connection that is lost.
struct Cut<'a>(&'a [u8], fn() -> io::Error);

impl io::Read for Cut<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err((self.1)()) } else { self.0.read(buffer) }
    }
}

/// What the other place says of itself is told as it is, not as a disk here that could not be written; and a file that got
/// the name meanwhile is left as it is.
#[test]
fn an_export_that_loses_its_source_or_its_name_leaves_nothing() {
    use ferry::catalog::export::export;
    use ferry::volume::Fetch;
    let shelf = Shelf::new();
    let mut point = make(&shelf.open(), NEW, BYTES).unwrap();
    let to = shelf.root.with_file_name("out.tar");
    let left =
        || std::fs::read_dir(to.parent().unwrap()).unwrap().flatten().filter(|one| one.path() != shelf.root).count();
    let lost = || io::Error::other(Failure::new(Kind::Unreachable, "the connection to the shelf was lost").again());
    let broken = || io::Error::other("Input/output error");
    let cases: [(&str, fn() -> io::Error, Kind, &str); 4] = [
        ("gravity.tar.gz", lost, Kind::Unreachable, "the connection to the shelf was lost"),
        ("gravity.tar.gz", broken, Kind::Bad, "could not read"),
        ("manifest.json", lost, Kind::Unreachable, "the connection to the shelf was lost"),
        ("logs/gravity-backup.log", broken, Kind::Bad, "could not read"),
    ];
    for (file, error, kind, says) in cases {
        let dir = point.dir.clone();
        let fetch: Fetch = Arc::new(move |name, _| {
            let bytes: &'static [u8] = std::fs::read(dir.join(name))?.leak();
            if name == file {
                return Ok(Box::new(Cut(&bytes[..bytes.len() / 2], error)));
            }
            Ok(Box::new(bytes))
        });
        let failure = export(&point, Some(&fetch), &to, &mut |_| {}).unwrap_err();
        assert!(failure.kind == kind && failure.what.contains(says), "{file}: {failure:?}");
        assert_eq!((failure.again, left()), (kind == Kind::Unreachable, 0), "{file}: {failure:?}");
    }
    let failure = export(&point, None, &to, &mut |_| std::fs::write(&to, "theirs").unwrap()).unwrap_err();
    assert!(failure.kind == Kind::Refused && failure.mend.unwrap().contains("--to"));
    assert_eq!((std::fs::read_to_string(&to).unwrap().as_str(), left()), ("theirs", 1));
    std::fs::remove_file(&to).unwrap();
    point.sizes = Some(std::collections::BTreeMap::new());
    assert_eq!(export(&point, None, &to, &mut |_| {}).unwrap_err().kind, Kind::Bug);
}

/// Notes and manifests that are not what they should be: the point is there, or is none, and says why.
#[test]
fn odd_notes_and_manifests_are_told() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    let point = make(&catalog, NEW, BYTES).unwrap();
    assert_eq!(point.size_of("logs").unwrap_err(), "is no file");
    assert_eq!(Point::open(&point.dir).unwrap(), point);
    assert_eq!(Point::open(&point.dir.join("none")).unwrap_err().kind, Kind::CouldNotStart);
    symlink("/etc/passwd", point.dir.join("notes.jsonl")).unwrap();
    let seen = catalog.find(NEW, None).unwrap();
    assert!(seen.notes.known.is_empty() && seen.notes.unreadable[0].contains("symbolic link"), "{:?}", seen.notes);
    assert!(catalog.find("dr/2026", Some(&prod())).unwrap_err().what.contains("is not a point of prod"));
    std::fs::remove_file(point.dir.join("notes.jsonl")).unwrap();
    let path = point.dir.join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let volume =
        json!([{"file": "gravity.tar.gz.0001", "bytes": 5, "sha256": Sha256::of(b"x").to_string(), "plain_bytes": 5}]);
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["archives"][0]["volumes"] = volume;
    std::fs::write(&path, value.to_string()).unwrap();
    let Entry::Broken { why, .. } = &catalog.list(None).unwrap()[0] else { panic!("not broken") };
    assert!(why.what.contains("the volumes of gravity.tar.gz are not all of it"), "{why:?}");
    assert!(why.seen.as_deref().unwrap().contains(&format!("{} in all", BYTES.len())), "{why:?}");
    std::fs::rename(&path, shelf.root.join("elsewhere")).unwrap();
    symlink(shelf.root.join("elsewhere"), &path).unwrap();
    let Entry::Broken { why, .. } = &catalog.list(None).unwrap()[0] else { panic!("not broken") };
    assert!(why.kind == Kind::Bad && why.seen.as_deref().unwrap().contains("symbolic link"), "{why:?}");
    std::fs::remove_file(&path).unwrap();
    std::fs::File::create(&path).unwrap().set_len((64 << 20) + 1).unwrap();
    let Entry::Broken { why, .. } = &catalog.list(None).unwrap()[0] else { panic!("not broken") };
    assert!(why.seen.as_deref().unwrap().contains("larger than"), "{why:?}");
}

#[test]
fn names_that_do_not_fit_get_the_nearest() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    make(&catalog, OLD, BYTES).unwrap();
    make(&catalog, NEW, BYTES).unwrap();
    let said = |text: &str| {
        let failure = catalog.find(text, None).unwrap_err();
        assert_eq!(failure.kind, Kind::CouldNotStart);
        format!("{failure} {}", failure.mend.clone().unwrap_or_default())
    };
    let ambiguous = said("2026112");
    assert!(ambiguous.contains(OLD) && ambiguous.contains(NEW), "{ambiguous}");
    assert!(
        said("20261122T041500Z-7f3b").contains(&format!("did you mean prod/{NEW}")),
        "{}",
        said("20261122T041500Z-7f3b")
    );
    assert!(said("prdo/latest").contains("did you mean prod"), "{}", said("prdo/latest"));
    assert!(said("latest").contains("prod/latest"));
    assert!(said("../x").contains("not a cluster name"));
    assert!(said("").contains("no point"));
    drop(begin(&catalog, "20261123T041500Z-0003").unwrap());
    assert!(said("20261123").contains("left over"));
    assert_eq!(catalog.find("prod/latest", None).unwrap().id(), &id(NEW), "what is left over is no latest");
    assert_eq!(catalog.find("20261121", Some(&prod())).unwrap().id(), &id(OLD));
}

#[test]
fn suspect_becomes_verified_by_an_acceptance_with_a_reason() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    let part = begin(&catalog, NEW).unwrap();
    whole_archive(&part);
    let mut small = manifest(NEW, BYTES);
    small.archives[0].verdict = Verdict::Suspect;
    small.archives[0].why = "less than half".into();
    let mut point = part.seal(small).unwrap();
    assert_eq!(state(&catalog, NEW), "suspect");
    assert!(catalog.find("prod/latest", None).is_err());
    verify(&catalog, &mut point);
    assert_eq!(state(&catalog, NEW), "suspect", "whole it was before");
    assert_eq!(point.accept(catalog.disk(), who(), " ").unwrap_err().kind, Kind::Refused);
    point.accept(catalog.disk(), who(), "half the tenants moved out").unwrap();
    assert_eq!(state(&catalog, NEW), "verified");
    assert!(point.accept(catalog.disk(), who(), "again").is_err());
    let note = |remark| Note { at: jiff::Timestamp::now(), who: who(), remark };
    let now = jiff::Timestamp::now();
    assert!(!point.held(now));
    point.note(catalog.disk(), note(Remark::Held { until: None })).unwrap();
    assert!(catalog.find(NEW, None).unwrap().held(now));
    point.note(catalog.disk(), note(Remark::Released)).unwrap();
    assert!(!catalog.find(NEW, None).unwrap().held(now));
}

#[test]
fn notes_of_many_hands_do_not_mix_and_a_cut_line_hides_nothing() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    let point = make(&catalog, NEW, BYTES).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|hand| {
            let (mut point, disk) = (point.clone(), catalog.disk().clone());
            std::thread::spawn(move || {
                for turn in 0..10 {
                    let to = format!("shelf-{hand}-{turn}-{}", "x".repeat(3000));
                    let remark = Remark::Replicated { to, how: String::new() };
                    point.note(&disk, Note { at: jiff::Timestamp::now(), who: who(), remark }).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut point = catalog.find(NEW, None).unwrap();
    assert_eq!((point.notes.known.len(), point.notes.unreadable.len()), (80, 0));
    // A crash cut the last line; a newer ferry wrote another.
    let path = point.dir.join("notes.jsonl");
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"note\":\"sung_about\",\"by\":\"bards\"}\n{\"at\":\"2026-").unwrap();
    let report = verify(&catalog, &mut point);
    assert!(report.not_noted.is_none());
    let mut point = catalog.find(NEW, None).unwrap();
    assert_eq!((point.notes.known.len(), point.notes.foreign.len(), point.notes.unreadable.len()), (81, 1, 1));
    assert!(point.notes.unreadable[0].contains("line 82"), "{:?}", point.notes.unreadable);
    // A full disk leaves no half line behind.
    let before = std::fs::read(&path).unwrap();
    for broken in [Step::Write, Step::Sync] {
        let disk =
            Disk::watched(move |step, _| if step == broken { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) });
        let failure = point.accept(&disk, who(), "x").unwrap_err();
        assert_eq!(failure.kind, Kind::Refused, "verified: nothing to accept");
        let remark = Remark::Released;
        let failure = point.note(&disk, Note { at: jiff::Timestamp::now(), who: who(), remark }).unwrap_err();
        assert!(failure.kind == Kind::Failed && failure.what.contains("full"), "{failure}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
    // A verification that cannot be noted still says what it found.
    std::fs::write(point.dir.join("gravity.tar.gz"), b"").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let report = verify(&catalog, &mut point);
    assert!(report.not_noted.is_some() && report.failure().is_some());
}

/// A note takes back its own half line on a full disk; without the lock it could take another's.
#[test]
fn a_note_waits_for_the_note_of_another() {
    use rustix::fs::{FlockOperation, flock};
    let shelf = Shelf::new();
    let catalog = shelf.open();
    let mut point = make(&catalog, NEW, BYTES).unwrap();
    let note = || Note { at: jiff::Timestamp::now(), who: who(), remark: Remark::Released };
    point.note(catalog.disk(), note()).unwrap();
    let other = std::fs::File::open(point.dir.join("notes.jsonl")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let length = other.metadata().unwrap().len();
    let (sender, done) = std::sync::mpsc::channel();
    let (second, disk) = (note(), catalog.disk().clone());
    std::thread::spawn(move || sender.send(point.note(&disk, second)).unwrap());
    assert!(done.recv_timeout(std::time::Duration::from_millis(300)).is_err(), "it did not wait");
    assert_eq!(other.metadata().unwrap().len(), length);
    flock(&other, FlockOperation::Unlock).unwrap();
    done.recv_timeout(std::time::Duration::from_secs(10)).unwrap().unwrap();
    assert!(other.metadata().unwrap().len() > length);
}

#[test]
fn history_is_newest_first_with_the_verdicts_of_today() {
    let shelf = Shelf::new();
    let catalog = shelf.open();
    let mut old = make(&catalog, OLD, BYTES).unwrap();
    make(&catalog, NEW, BYTES).unwrap();
    std::fs::write(old.dir.join("gravity.tar.gz"), b"").unwrap();
    verify(&catalog, &mut old);
    let history = catalog.history(&prod(), ArchiveKind::Gravity).unwrap();
    let seen: Vec<_> = history.iter().map(|past| (past.id.to_string(), past.verdict)).collect();
    assert_eq!(seen, [(NEW.to_owned(), Verdict::Verified), (OLD.to_owned(), Verdict::Damaged)]);
    assert_eq!(expected_bytes(&history).unwrap().archive_bytes, (BYTES.len() as u64 * 13).div_ceil(10));
    assert_eq!(backup_timeout(&history).0.as_secs(), 4501, "3 × 1500.25 s, rounded up");
    assert!(catalog.history(&prod(), ArchiveKind::Amv).unwrap().is_empty());
    assert!(catalog.history(&"dr".parse().unwrap(), ArchiveKind::Gravity).unwrap().is_empty());
}

/// What must hold after any failure: the older point is whole, the new one is a sealed whole point
/// or none, and the same command again makes it one.
fn holds_and_goes_on(root: &Path, case: &str) -> String {
    let catalog = Catalog::open(root).unwrap();
    let mut old = catalog.find(&format!("prod/{OLD}"), None).unwrap();
    assert!(verify(&catalog, &mut old).bad.is_empty(), "{case}: the older point");
    let mut seen = state(&catalog, NEW);
    // A child that another test starts has our lock until its exec: a moment.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while seen == "in progress" && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(20));
        seen = state(&catalog, NEW);
    }
    match seen.as_str() {
        "verified" => {}
        "left over" | "absent" => {
            assert!(!root.join("prod").join(NEW).exists(), "{case}");
            assert_eq!(catalog.find("prod/latest", None).unwrap().id(), &id(OLD), "{case}");
            make(&catalog, NEW, BYTES).unwrap_or_else(|failure| panic!("{case}: going on: {failure:?}"));
        }
        other => panic!("{case}: {other}"),
    }
    let mut new = catalog.find(&format!("prod/{NEW}"), None).unwrap();
    let report = verify(&catalog, &mut new);
    assert!(report.bad.is_empty() && report.warnings.is_empty(), "{case}: {report:?}");
    seen
}

/// The n-th operation on the disk fails, for all n: once (a full disk), and from there on (a stop).
#[test]
fn a_failure_at_every_operation_leaves_a_part_or_a_point() {
    let count = {
        let shelf = Shelf::new();
        make(&shelf.open(), OLD, BYTES).unwrap();
        let counter = Arc::new(AtomicUsize::new(0));
        let seen = counter.clone();
        let disk = Disk::watched(move |_, _| {
            seen.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        make(&Catalog::open_on(&shelf.root, disk).unwrap(), NEW, BYTES).unwrap();
        counter.load(Ordering::SeqCst)
    };
    assert!(count > 40, "only {count} operations were seen");
    let mut histogram = std::collections::BTreeMap::new();
    for from_there_on in [false, true] {
        for n in 0..count {
            let shelf = Shelf::new();
            make(&shelf.open(), OLD, BYTES).unwrap();
            let counter = Arc::new(AtomicUsize::new(0));
            let disk = Disk::watched(move |_, _| {
                let now = counter.fetch_add(1, Ordering::SeqCst);
                let fails = now == n || (from_there_on && now > n);
                if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            });
            let outcome = Catalog::open_on(&shelf.root, disk).and_then(|catalog| make(&catalog, NEW, BYTES));
            let case = format!("operation {n} of {count}, from there on: {from_there_on}");
            let told = match &outcome {
                Ok(_) => "ok",
                Err(failure) => {
                    assert!(failure.what.contains("the catalog is full"), "{case}: {failure:?}");
                    assert!(failure.mend.is_some(), "{case}");
                    "failed"
                }
            };
            let sealed = outcome.is_ok();
            drop(outcome);
            let seen = holds_and_goes_on(&shelf.root, &case);
            assert!(!sealed || seen == "verified", "{case}: said to be sealed, but {seen}");
            *histogram.entry((told, seen)).or_insert(0) += 1;
        }
    }
    println!("{count} operations: {histogram:?}");
    // Only the last flush and the removal of the lock come after the final name.
    assert!(histogram[&("failed", "left over".to_owned())] > count, "{histogram:?}");
    assert!(histogram.get(&("failed", "verified".to_owned())).copied().unwrap_or(0) <= 2, "{histogram:?}");
}

/// What a power cut would show, which no test can cause: everything is flushed before the final
/// name, and that name after it.
#[test]
fn everything_is_flushed_before_the_final_name() {
    let shelf = Shelf::new();
    let steps = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = steps.clone();
    let disk = Disk::watched(move |step, path| {
        heard.lock().unwrap().push((step, path.to_owned()));
        Ok(())
    });
    let catalog = Catalog::open_on(&shelf.root, disk).unwrap();
    make(&catalog, NEW, BYTES).unwrap();
    let steps = steps.lock().unwrap();
    let part = catalog.root().join("prod").join(format!("{NEW}.part"));
    let last = |step: Step, path: &Path| {
        steps.iter().rposition(|(s, p)| *s == step && p == path).unwrap_or_else(|| panic!("no {step:?} of {path:?}"))
    };
    let named = last(Step::Rename, &part);
    let manifest_named = last(Step::Rename, &part.join("manifest.json.new"));
    for name in ["gravity.tar.gz", "logs/gravity-backup.log", "settings/dns.json", "logs", "settings"] {
        assert!(last(Step::Sync, &part.join(name)) < manifest_named, "{name} is flushed before the manifest says so");
    }
    assert!(last(Step::Write, &part.join("manifest.json.new")) < last(Step::Sync, &part.join("manifest.json.new")));
    assert!(last(Step::Sync, &part.join("manifest.json.new")) < manifest_named);
    assert!(manifest_named < last(Step::Remove, &part.join("in-progress.json")));
    let folder = last(Step::Sync, &part);
    assert!(last(Step::Remove, &part.join("in-progress.json")) < folder && folder < named);
    let parent = last(Step::Sync, part.parent().unwrap());
    let lock = last(Step::Remove, &part.with_file_name(format!(".{NEW}.lock")));
    assert!(named < parent && parent < lock);
}

/// As [`make`], in volumes of 64 KiB, flushed and read back; encrypted where there is a key in the folder above the catalog.
fn make_in_volumes(catalog: &Catalog, point: &str) -> Result<Point, Failure> {
    use ferry::volume::{Journal, Keep, Writer, prove};
    let failed = |error: io::Error| Failure::new(Kind::Failed, error.to_string());
    let bytes: Vec<u8> = b"pretend".iter().copied().chain((0..150_000_u32).map(|at| (at / 3) as u8)).collect();
    let key = catalog.root().with_file_name("age.key");
    let ask: ferry::vault::age::AskPassphrase = Arc::new(|_| panic!("nobody is asked"));
    let mut keep = Keep { volume_size: 64 << 10, ..Keep::default() };
    if key.exists() {
        let public = Command::new("age-keygen").arg("-y").arg(&key).output().unwrap();
        let public = String::from_utf8(public.stdout).unwrap().trim().to_owned();
        keep.recipients = ferry::vault::age::Recipients::read(&[public], &ask).unwrap().map(Arc::new);
        let masker = ferry::secret::Masker::new();
        let identities = ferry::vault::age::Identities::load(&[key], &ask, None, &masker).unwrap();
        keep.identities = Some(Arc::new(identities));
    }
    let part = begin(catalog, point)?;
    part.write_file("logs/gravity-backup.log", b"said the hook\n")?;
    let receiving = part.open_archive("gravity.tar.gz")?;
    let left = Journal::go_on(&receiving.path, "gravity.tar.gz", &json!(1), &keep).map_err(failed)?;
    let from = usize::try_from(left.plain_bytes()).unwrap();
    let (steps, asked) = std::sync::mpsc::channel();
    let total = Some(bytes.len() as u64);
    let mut writer =
        Writer::begin(&receiving.path, "gravity.tar.gz", json!(1), &keep, left, total, steps).map_err(failed)?;
    for piece in bytes[from..].chunks(10_000) {
        writer.write_all(piece).map_err(failed)?;
    }
    let volumes = writer.finish().map_err(failed)?;
    assert_eq!(prove(&asked).map_err(failed)?, None);
    let mut manifest = manifest(point, &bytes);
    assert_eq!(volumes.len(), 3);
    manifest.archives[0].volumes = volumes;
    manifest.archives[0].encryption = keep.encryption();
    part.seal(manifest)
}

/// Changes a manifest on the disk.
fn edit(dir: &Path, change: &dyn Fn(&mut Value)) {
    let path = dir.join("manifest.json");
    let mut value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
}

/// Of an archive in volumes, in the clear and encrypted: what is wrong with a file, and what is wrong in it although the
/// file is as its manifest says.
#[test]
fn what_is_wrong_in_volumes_is_named() {
    type Damage = fn(&Path, &str);
    let flip: Damage = |dir, volume| {
        let mut bytes = std::fs::read(dir.join(volume)).unwrap();
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
        std::fs::write(dir.join(volume), bytes).unwrap();
    };
    let flip_and_say_so: Damage = |dir, volume| {
        let mut bytes = std::fs::read(dir.join(volume)).unwrap();
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
        std::fs::write(dir.join(volume), &bytes).unwrap();
        edit(dir, &|value| value["archives"][0]["volumes"][1]["sha256"] = json!(Sha256::of(&bytes).to_string()));
    };
    let shift: Damage = |dir, _| {
        edit(dir, &|value| {
            let volumes = &mut value["archives"][0]["volumes"];
            for (at, by) in [(0, 1), (1, -1)] {
                volumes[at]["plain_bytes"] = json!(volumes[at]["plain_bytes"].as_i64().unwrap() + by);
            }
        });
    };
    let members: Damage = |dir, _| edit(dir, &|value| value["archives"][0]["members"] = json!(4));
    let content: Damage =
        |dir, _| edit(dir, &|value| value["archives"][0]["sha256"] = json!(Sha256::of(b"else").to_string()));
    let lose: Damage = |dir, volume| std::fs::remove_file(dir.join(volume)).unwrap();
    for encrypted in [false, true] {
        let shelf = Shelf::new();
        let key = shelf.root.with_file_name("age.key");
        let catalog = shelf.open();
        if encrypted {
            let made = Command::new("age-keygen").arg("-o").arg(&key).output().expect("tests/run installs age");
            assert!(made.status.success());
        }
        let whole = make_in_volumes(&catalog, NEW).unwrap();
        let ask: ferry::vault::age::AskPassphrase = Arc::new(|_| panic!("nobody is asked"));
        let masker = ferry::secret::Masker::new();
        let identities = encrypted.then(|| {
            Arc::new(ferry::vault::age::Identities::load(std::slice::from_ref(&key), &ask, None, &masker).unwrap())
        });
        let second = whole.manifest.archives[0].volumes[1].file.clone();
        let saved = shelf.root.join("saved");
        let copy = |from: &Path, to: &Path| {
            assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
        };
        copy(&whole.dir, &saved);
        // The damage; the file that is named, what is said of it; the same where nobody opens it.
        for (case, damage, file, what, seen, closed) in [
            ("a flip", flip, second.as_str(), "sha256", "", true),
            ("a lost volume", lose, &second, "missing", "no such file", true),
            ("other members", members, "gravity.tar.gz", "members", "3", !encrypted),
            ("other content", content, "gravity.tar.gz", "content sha256", "", !encrypted),
            ("a flip before its digest was made", flip_and_say_so, &second, "archive", "", false),
            ("other pieces", shift, "gravity.tar.gz", "archive", "are in it", false),
        ] {
            // In the clear neither is a fault of a volume: the content tells of the one, and nothing of the other.
            let (file, what) = match (encrypted, case) {
                (false, "a flip before its digest was made") => ("gravity.tar.gz", "content sha256"),
                (false, "other pieces") => ("", ""),
                (true, "other pieces") => (whole.manifest.archives[0].volumes[0].file.as_str(), what),
                _ => (file, what),
            };
            damage(&whole.dir, &second);
            let mut point = catalog.find(NEW, None).unwrap();
            let walk = |_: &Archive| -> Box<dyn Inspect + Send> { Box::new(Walk(Vec::new())) };
            let report = catalog.verify_with(&mut point, &who(), identities.as_ref(), &walk, &mut |_, _| {}).unwrap();
            let said: Vec<String> = report.bad.iter().map(ToString::to_string).collect();
            if file.is_empty() {
                assert!(said.is_empty(), "{case}: {said:?}");
            } else {
                assert_eq!(report.bad.len(), 1, "{case}, encrypted: {encrypted}: {said:?}");
                let defect = &report.bad[0];
                assert_eq!((defect.file.as_str(), defect.what.as_str()), (file, what), "{case}: {said:?}");
                assert!(!encrypted || defect.seen.contains(seen), "{case}: {said:?}");
                assert_eq!(point.verdict(), Verdict::Damaged, "{case}");
            }
            if encrypted {
                let report = catalog.verify(&mut point, &who(), &walk, &mut |_, _| {}).unwrap();
                assert_eq!(!report.bad.is_empty(), closed, "{case}, unopened: {:?}", report.bad);
                assert_eq!(report.unchecked.len(), 1, "{case}");
            }
            std::fs::remove_dir_all(&whole.dir).unwrap();
            copy(&saved, &whole.dir);
        }
        let mut point = catalog.find(NEW, None).unwrap();
        let walk = |_: &Archive| -> Box<dyn Inspect + Send> { Box::new(Walk(Vec::new())) };
        let report = catalog.verify_with(&mut point, &who(), identities.as_ref(), &walk, &mut |_, _| {}).unwrap();
        assert!(report.bad.is_empty() && report.archives.len() == 4, "{report:?}");
    }
}

/// In a folder of its own this seals a point in volumes; the test below runs it as a process whose system calls fail.
#[test]
fn child_makes_a_point_in_volumes() {
    match std::env::var_os("CATALOG_OF_THE_TEST") {
        None => {
            let shelf = Shelf::new();
            make_in_volumes(&shelf.open(), NEW).unwrap();
        }
        Some(root) => {
            make_in_volumes(&Catalog::open(Path::new(&root)).unwrap(), NEW).unwrap();
        }
    }
}

/// The n-th of each kind of call fails, or kills: the catalog loads, the older point is whole, and the same again ends in a
/// point whose volumes are what its manifest says. All of them by `FERRY_LONG=1`.
#[test]
fn failing_system_calls_and_kills_leave_volumes_that_are_gone_on_with() {
    let long = std::env::var_os("FERRY_LONG").is_some_and(|value| value == "1");
    let me = std::env::current_exe().unwrap();
    let (mut seen, mut cases) = (std::collections::BTreeMap::new(), 0);
    let faults = [
        ("write", "error=ENOSPC"),
        ("fsync,fdatasync", "error=EIO"),
        ("fsync,fdatasync", "signal=KILL"),
        ("rename,renameat,renameat2", "error=ENOSPC"),
        ("rename,renameat,renameat2", "signal=KILL"),
        ("unlink,unlinkat", "signal=KILL"),
        ("pread64", "error=EIO"),
        ("write", "signal=KILL"),
    ];
    for encrypted in [false, true] {
        for (at, (call, fault)) in faults.into_iter().enumerate() {
            // A sample: each kind once, in turn in the clear and encrypted.
            if !long && (at % 2 == 0) == encrypted {
                continue;
            }
            let mut n = if long { 1 } else { 2 + at % 3 };
            loop {
                assert!(n < 120, "{call} {fault} never ends");
                let shelf = Shelf::new();
                make(&shelf.open(), OLD, BYTES).unwrap();
                if encrypted {
                    let made = Command::new("age-keygen").arg("-o").arg(shelf.root.with_file_name("age.key")).output();
                    assert!(made.expect("age is installed").status.success());
                }
                let status = Command::new("strace")
                    .args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")])
                    .args(["-e", &format!("inject={call}:{fault}:when={n}")])
                    .arg(&me)
                    .args(["--exact", "child_makes_a_point_in_volumes", "--test-threads=1", "-q"])
                    .env("CATALOG_OF_THE_TEST", &shelf.root)
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null())
                    .status()
                    .expect("strace is installed");
                let case = format!("{call} {fault} at {n}, encrypted: {encrypted}");
                let catalog = Catalog::open(&shelf.root).unwrap();
                let mut old = catalog.find(&format!("prod/{OLD}"), None).unwrap();
                assert!(verify(&catalog, &mut old).bad.is_empty(), "{case}: the older point");
                let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
                let mut state = state(&catalog, NEW);
                while state == "in progress" && std::time::Instant::now() < until {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    state = self::state(&catalog, NEW);
                }
                assert!(!status.success() || state == "verified", "{case}: said to be sealed, but {state}");
                if state != "verified" {
                    assert!(matches!(state.as_str(), "left over" | "absent"), "{case}: {state}");
                    assert!(!shelf.dir(NEW).exists(), "{case}");
                    make_in_volumes(&catalog, NEW).unwrap_or_else(|failure| panic!("{case}: going on: {failure:?}"));
                }
                let new = catalog.find(&format!("prod/{NEW}"), None).unwrap();
                for volume in &new.manifest.archives[0].volumes {
                    let bytes = std::fs::read(new.dir.join(&volume.file)).unwrap();
                    assert_eq!((bytes.len() as u64, Sha256::of(&bytes)), (volume.bytes, volume.sha256), "{case}");
                }
                let mut names: Vec<_> = std::fs::read_dir(&new.dir).unwrap().flatten().map(|e| e.file_name()).collect();
                names.retain(|name| name.to_string_lossy().contains("gravity"));
                assert_eq!(names.len(), 3, "{case}: {names:?}");
                cases += 1;
                let over = status.success();
                *seen.entry((call, fault, state)).or_insert(0) += 1;
                n += 1;
                if over || !long {
                    break;
                }
            }
        }
    }
    println!("{cases} cases: {seen:?}");
}

/// In a folder of its own this seals a point like any other; the test below runs it as a process
/// of its own whose system calls fail, in a folder that it names.
#[test]
fn child_makes_a_point() {
    match std::env::var_os("CATALOG_OF_THE_TEST") {
        None => {
            let shelf = Shelf::new();
            make(&shelf.open(), NEW, BYTES).unwrap();
        }
        Some(root) => {
            make(&Catalog::open(Path::new(&root)).unwrap(), NEW, BYTES).unwrap();
        }
    }
}

/// The same with real system calls, which no seam of ours stands between: errors, and the process killed.
#[test]
fn failing_system_calls_and_kills_leave_a_part_or_a_point() {
    let me = std::env::current_exe().unwrap();
    let mut seen = std::collections::BTreeMap::new();
    for (call, fault) in [
        ("fsync", "error=ENOSPC"),
        ("fsync", "error=EIO"),
        ("fsync", "signal=KILL"),
        ("rename,renameat,renameat2", "error=ENOSPC"),
        ("rename,renameat,renameat2", "signal=KILL"),
        ("unlink,unlinkat", "signal=KILL"),
        ("mkdir,mkdirat", "error=ENOSPC"),
        ("flock", "error=ENOLCK"),
    ] {
        let mut n = 0;
        loop {
            n += 1;
            assert!(n < 60, "{call} {fault} never ends");
            let shelf = Shelf::new();
            make(&shelf.open(), OLD, BYTES).unwrap();
            let status = Command::new("strace")
                .args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")])
                .args(["-e", &format!("inject={call}:{fault}:when={n}")])
                .arg(&me)
                .args(["--exact", "child_makes_a_point", "--test-threads=1", "-q"])
                .env("CATALOG_OF_THE_TEST", &shelf.root)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .status()
                .expect("strace is installed");
            let case = format!("{call} {fault} at {n}");
            let state = holds_and_goes_on(&shelf.root, &case);
            if status.success() {
                assert_eq!(state, "verified", "{case}: said to be sealed");
                // Beyond the last call nothing fails any more.
                break;
            }
            *seen.entry((call, fault, state)).or_insert(0) += 1;
        }
        assert!(n > 1, "{call} {fault} hit nothing");
    }
    println!("{seen:?}");
}
