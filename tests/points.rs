//! `ferry points` as an operator calls it, on a catalog in a folder: what stays, what goes, what travels.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ferry::catalog::retention::{self, Rules};
use ferry::catalog::{Catalog, Disk, Entry, Note, Remark, Verdict, Who, overview, shelf};
use ferry::digest::Sha256;
use ferry::settings::Keep;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::bed::{Bed, Said};

/// A tar.gz with three members, so that a walk finds it whole.
fn archive(content: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for name in ["databases.sql", "secrets.json", "objects.bin"] {
        std::fs::write(dir.path().join(name), format!("{name} of {content}\n").repeat(40)).unwrap();
    }
    let out = Command::new("tar")
        .args(["-czf", "-", "databases.sql", "secrets.json", "objects.bin"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(out.status.success());
    out.stdout
}

struct Shelf {
    dir: tempfile::TempDir,
}

fn rehearsed(seconds: f64) -> Remark {
    serde_json::from_value(json!({"note": "rehearsed", "into": "dr", "seconds": seconds})).unwrap()
}

fn who() -> Who {
    Who { user: "ops".into(), machine: "jump".into(), ci: None }
}

impl Shelf {
    fn new() -> Self {
        let shelf = Self { dir: tempfile::tempdir().unwrap() };
        shelf.open();
        shelf
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("catalog")
    }

    fn open(&self) -> Catalog {
        Catalog::open(&self.root()).unwrap()
    }

    fn point(&self, cluster: &str, hours: i64, version: &str) -> String {
        self.point_with(cluster, hours, version, &["gravity"], "verified")
    }

    /// Seals a point that is so many hours old. Returns its id.
    fn point_with(&self, cluster: &str, hours: i64, version: &str, kinds: &[&str], verdict: &str) -> String {
        let started = Timestamp::now() - SignedDuration::from_hours(hours);
        let id = format!("{}-{:04x}", started.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u16>());
        let catalog = self.open();
        let (name, point) = (cluster.parse().unwrap(), id.parse().unwrap());
        let part = catalog.begin(&name, &point, &id.parse().unwrap(), "jump", "ferry backup").unwrap();
        part.write_file("logs/gravity-backup.log", b"said the hook\n").unwrap();
        let mut archives = Vec::new();
        for kind in kinds {
            let file = format!("{kind}.tar.gz");
            let bytes = archive(&format!("{kind} {id}"));
            let mut receiving = part.open_archive(&file).unwrap();
            receiving.file.write_all(&bytes).unwrap();
            receiving.finish().unwrap();
            archives.push(
                json!({"name": kind, "kind": kind, "file": file, "bytes": bytes.len(), "members": 3, "verdict": verdict,
                "why": if verdict == "suspect" { "half the usual" } else { "" },
                "sha256": Sha256::of(&bytes).to_string(), "content_bytes": 4096, "verified_how": ["in a test"]}),
            );
        }
        let manifest = json!({
            "format": 1, "id": id, "run": id, "who": who(), "ferry_version": "0.1.0", "cluster": {"group": cluster},
            "node": "prod-1", "started": started, "finished": started, "archives": archives, "complete": true,
            "pce_version": version, "gravity_version": "7.0.12",
        });
        part.seal(serde_json::from_value(manifest).unwrap()).unwrap();
        id
    }

    fn call(&self, args: &[&str]) -> Said {
        let mut command = support::bed::ferry(None, self.dir.path());
        command.arg("points").args(args).arg("--catalog").arg(self.root());
        support::bed::run_limited(command, Duration::from_secs(30))
    }

    fn note(&self, id: &str, remark: Remark, at: Timestamp) {
        let catalog = self.open();
        let mut point = catalog.find(id, None).unwrap();
        point.note(catalog.disk(), Note { at, who: who(), remark }).unwrap();
    }

    fn states(&self) -> Vec<(String, String)> {
        let said = self.call(&["list", "--json"]);
        said.must(0, &[]);
        let all = said.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        all.as_array().unwrap().iter().map(|one| (text(&one["id"]), text(&one["state"]))).collect()
    }

    fn state(&self, id: &str) -> String {
        self.states().into_iter().find(|(one, _)| one == id).map_or("absent".into(), |(_, state)| state)
    }
}

#[test]
fn prune_says_why_and_goes_through_the_trash() {
    let shelf = Shelf::new();
    let ids: Vec<String> = [2, 26, 50, 74].iter().map(|hours| shelf.point("prod", *hours, "3.2.0")).collect();
    let old = shelf.point("prod", 2000, "3.1.0");
    let held = shelf.point("prod", 2100, "3.1.0");
    shelf.call(&["hold", &held, "forever"]).must(0, &["is held until it is released"]);
    shelf.call(&["prune"]).must(1, &["no keep rule is set", "--keep-daily"]);
    let check = shelf.call(&["prune", "--check", "--keep-last", "2"]);
    check.must(
        0,
        &[
            "would go to the trash",
            "the newest verified point of the cluster",
            "the newest verified of PCE 3.1.0",
            "held",
            "2 would go to the trash, 0 would be deleted",
        ],
    );
    assert!(shelf.states().iter().all(|(_, state)| state == "verified"), "--check changes nothing");
    let said = shelf.call(&["prune", "--keep-last", "2", "--json"]);
    said.must(0, &[]);
    let told = said.json();
    assert_eq!(told[0]["trashed"], json!([ids[2], ids[3]]));
    assert_eq!(shelf.state(&ids[2]), "in trash");
    // What lies in the trash counts for nothing, and is not restored by the way.
    assert_eq!(shelf.call(&["show", "prod/latest", "--json"]).json()["id"], ids[0].as_str());
    // Its time is not over: nothing more happens, however often prune runs.
    shelf.call(&["prune", "--keep-last", "2"]).must(0, &["0 went to the trash, 0 deleted", "in the trash until"]);
    // Back from there, and held: it stays.
    shelf.call(&["delete", &ids[2], "--undo"]).must(0, &["is back from the trash"]);
    assert_eq!(shelf.state(&ids[2]), "verified");
    shelf.call(&["delete", &ids[2], "--undo"]).must(7, &["is not in the trash"]);
    shelf.call(&["hold", &ids[2], "30d"]).must(0, &["is held until"]);
    shelf.call(&["prune", "--keep-last", "2", "--grace", "0"]).must(0, &["0 went to the trash, 0 deleted"]);
    // A version that is dropped by name, with no time in the trash: gone with the prune after.
    shelf
        .call(&["prune", "--keep-last", "2", "--drop-version", "3.1.1"])
        .must(1, &["no point is of that version", "3.1.0"]);
    shelf
        .call(&["prune", "--keep-last", "2", "--drop-version", "3.1.0", "--grace", "0"])
        .must(0, &["1 went to the trash"]);
    assert_eq!(shelf.state(&old), "in trash");
    shelf.call(&["prune", "--keep-last", "2", "--json"]).must(0, &[&format!("\"{old}\"")]);
    assert_eq!(shelf.state(&old), "absent");
    assert!(!shelf.root().join("prod").join(&old).exists());
    assert_eq!(shelf.state(&held), "verified");
    // Rules of the settings.
    let config = shelf.dir.path().join("ferry.toml");
    std::fs::write(&config, "catalog = \"catalog\"\n[keep]\nlast = 1\ngrace = \"0\"\n").unwrap();
    let mut command = support::bed::ferry(Some(&config), shelf.dir.path());
    command.args(["points", "prune", "prod"]);
    support::bed::run_limited(command, Duration::from_secs(20)).must(0, &["1 went to the trash"]);
    assert_eq!(shelf.state(&ids[0]), "verified");
}

#[test]
fn delete_wants_the_name_and_keeps_what_must_stay() {
    let shelf = Shelf::new();
    let newest = shelf.point("prod", 2, "3.2.0");
    let amv = shelf.point_with("prod", 30, "3.2.0", &["gravity", "amv"], "verified");
    let plain = shelf.point("prod", 60, "3.2.0");
    let suspect = shelf.point_with("prod", 1, "3.2.0", &["gravity"], "suspect");
    shelf
        .call(&["delete", &newest, "--confirm", &newest])
        .must(7, &["is not deleted", "the newest verified point of the cluster"]);
    shelf.call(&["delete", &amv, "--confirm", &amv]).must(7, &["verified amv archive"]);
    shelf.call(&["delete", &plain]).must(7, &["was not confirmed", &format!("--confirm {plain}")]);
    shelf.call(&["delete", &plain, "--confirm", &newest]).must(7, &["another name was typed"]);
    shelf.call(&["hold", &plain, "1h"]).must(0, &[]);
    shelf.call(&["delete", &plain, "--confirm", &plain]).must(7, &["held", "hold", "release"]);
    shelf.call(&["hold", &plain, "release"]).must(0, &["no longer held"]);
    shelf.call(&["hold", &plain, "release"]).must(7, &["is not held"]);
    shelf.call(&["hold", &plain, "soon"]).must(5, &["30d, forever, or release"]);
    shelf.call(&["delete", &plain, "--confirm", &plain]).must(0, &["is in the trash until", "--undo"]);
    assert!(shelf.root().join("prod").join(&plain).join("gravity.tar.gz").exists());
    shelf.call(&["delete", &plain, "--confirm", &plain, "--now"]).must(0, &["is deleted for good"]);
    assert!(!shelf.root().join("prod").join(&plain).exists());
    // Somebody vouches for the suspect one: then it is the newest, and the other may go.
    shelf.call(&["accept", &suspect, "--reason", " "]).must(7, &["without a reason"]);
    shelf.call(&["accept", &suspect, "--reason", "the drives were emptied"]).must(0, &["is accepted"]);
    shelf.call(&["accept", &suspect, "--reason", "twice"]).must(7, &["nothing to accept"]);
    shelf.call(&["show", &suspect]).must(0, &["accepted because the drives were emptied"]);
    shelf.call(&["delete", &newest, "--confirm", &format!("prod/{newest}"), "--now"]).must(0, &["deleted for good"]);
    assert_eq!(shelf.states().len(), 2);
}

#[test]
fn list_tells_which_clusters_a_point_fits() {
    let shelf = Shelf::new();
    let old = shelf.point("prod", 60, "3.2.0");
    let new = shelf.point("prod", 2, "3.2.1");
    let odd = shelf.point_with("prod", 1, "3.2.1", &["gravity"], "suspect");
    let inventory = shelf.dir.path().join("inventory.yml");
    std::fs::write(
        &inventory,
        "all:\n  children:\n    prod:\n      vars: { pce_version: 3.2.1 }\n      hosts: { prod-1: {} }\n    \
         dr:\n      vars: { pce_version: 3.2.0 }\n      hosts: { dr-1: {} }\n    lab:\n      hosts: { lab-1: {} }\n    \
         mains: { hosts: { prod-1: {}, dr-1: {}, lab-1: {} } }\n",
    )
    .unwrap();
    let inventory = inventory.display().to_string();
    let said = shelf.call(&["list", "-i", &inventory, "--json"]);
    said.must(0, &[]);
    let all = said.json();
    let of = |id: &str| all.as_array().unwrap().iter().find(|one| one["id"] == id).unwrap().clone();
    assert_eq!(of(&old)["fits"]["prod"], json!({"fits": false, "why": "3.2.0 ≠ 3.2.1"}));
    assert_eq!(of(&old)["fits"]["dr"], json!({"fits": true, "why": ""}));
    assert_eq!(of(&old)["fits"]["lab"]["fits"], Value::Null);
    assert_eq!(of(&new)["fits"]["prod"], json!({"fits": true, "why": "in place"}));
    assert_eq!(of(&odd)["fits"]["prod"], json!({"fits": false, "why": "suspect"}));
    assert!(of(&old)["fits"].get("mains").is_none());
    shelf.call(&["list", "-i", &inventory]).must(0, &["prod no (3.2.0 ≠"]);
    // Without an inventory nothing is said of it; one that is wrong does not hide the catalog.
    assert_eq!(shelf.call(&["list", "--json"]).json()[0]["fits"], json!({}));
    shelf
        .call(&["list", "-i", "/nonexistent", "prod"])
        .must(0, &["warning: which clusters the points fit is not told", &old]);
}

#[test]
fn verify_by_names_and_by_parts() {
    let shelf = Shelf::new();
    let ids: Vec<String> = (0..12).map(|day| shelf.point("prod", day * 24 + 1, "3.2.0")).collect();
    let mut read = Vec::new();
    for part in ["1/3", "2/3", "3/3"] {
        let said = shelf.call(&["verify", "--part", part, "--json"]);
        said.must(0, &[]);
        read.extend(said.json().as_array().unwrap().iter().map(|one| one["point"].as_str().unwrap().to_owned()));
    }
    read.sort();
    let mut all = ids.clone();
    all.sort();
    assert_eq!(read, all, "each point is in one part, and in one only");
    shelf.call(&["verify", "--part", "4/3"]).must(5, &["K/N"]);
    shelf.call(&["verify", "--part", "1/3", &ids[0]]).must(5, &[]);
    shelf.call(&["verify", "--metadata"]).must(0, &["every file at its size; no archive was read"]);
    // A flipped bit is seen by reading only, a cut file by its size already.
    let file = shelf.root().join("prod").join(&ids[3]).join("gravity.tar.gz");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    shelf.call(&["verify", "--metadata"]).must(0, &[]);
    shelf.call(&["verify"]).must(9, &[&ids[3], "sha256"]);
    assert_eq!(shelf.state(&ids[3]), "damaged");
    std::fs::write(&file, &bytes[..50]).unwrap();
    shelf.call(&["verify", "--metadata", "--json"]).must(9, &["\"what\": \"size\"", &ids[3]]);
    std::fs::remove_file(shelf.root().join("prod").join(&ids[5]).join("manifest.json")).unwrap();
    shelf.call(&["verify", "--metadata"]).must(9, &["manifest.json"]);
}

#[test]
fn check_counts_places_and_rehearsals() {
    let shelf = Shelf::new();
    let id = shelf.point("prod", 3, "3.2.0");
    shelf.call(&["check"]).must(5, &["--max-age"]);
    shelf.call(&["check", "--min-replicas", "1"]).must(0, &["OK prod: in 1 of 1 places"]);
    shelf.call(&["check", "--min-replicas", "2"]).must(9, &["CRITICAL prod: TOO FEW PLACES, in 1 of 2 places", &id]);
    shelf.call(&["check", "--drilled-within", "90d"]).must(9, &["CRITICAL prod: NEVER REHEARSED"]);
    let other = shelf.dir.path().join("other");
    shelf.call(&["copy", &id, "--to", other.to_str().unwrap()]).must(0, &["copied to", "read back"]);
    let rehearsed = rehearsed(1800.0);
    shelf.note(&id, rehearsed, Timestamp::now() - SignedDuration::from_hours(24 * 80));
    let all = ["check", "--max-age", "gravity=26h", "--min-replicas", "2", "--drilled-within", "90d"];
    let said = shelf.call(&all);
    said.must(0, &["OK prod: gravity 3 h", "in 2 of 2 places", "rehearsed 80 d ago"]);
    assert_eq!(said.out.lines().count(), 1);
    shelf.call(&["check", "--drilled-within", "79d"]).must(9, &["REHEARSED TOO LONG AGO, 80 d"]);
    let told = shelf.call(&["check", "--min-replicas", "3", "--drilled-within", "90d", "--json"]);
    told.must(9, &[]);
    assert_eq!(told.json()[0]["replicas"]["ok"], false);
    assert_eq!(told.json()[0]["drill"]["ok"], true);
    // The newest counts: an older one that was copied is no copy of it.
    let newer = shelf.point("prod", 1, "3.2.0");
    shelf.call(&["check", "--min-replicas", "2"]).must(9, &[&newer]);
    shelf.call(&["check", "--min-replicas", "0"]).must(5, &[]);
}

#[test]
fn a_copy_is_proved_noted_and_found_again() {
    let shelf = Shelf::new();
    let id = shelf.point_with("prod", 3, "3.2.0", &["gravity", "amv"], "verified");
    let other = shelf.dir.path().join("other");
    let to = other.to_str().unwrap();
    shelf.call(&["copy", &id, "--to", to, "--json"]).must(0, &["\"was_there\": false"]);
    shelf.call(&["list"]).must(0, &["replicated (1)"]);
    let (here, there) = (shelf.root().join("prod").join(&id), other.join("prod").join(&id));
    for file in ["manifest.json", "gravity.tar.gz", "amv.tar.gz", "logs/gravity-backup.log"] {
        assert_eq!(std::fs::read(here.join(file)).unwrap(), std::fs::read(there.join(file)).unwrap(), "{file}");
    }
    shelf.call(&["copy", &id, "--to", to]).must(0, &["is in", "every byte was read back"]);
    let notes = std::fs::read_to_string(here.join("notes.jsonl")).unwrap();
    assert_eq!(notes.matches("replicated").count(), 1);
    let mut command = support::bed::ferry(None, shelf.dir.path());
    command.args(["points", "verify", "--catalog", to]);
    support::bed::run_limited(command, Duration::from_secs(20)).must(0, &["verified"]);
    // The copy rots: asked again, it is said.
    let file = there.join("gravity.tar.gz");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    shelf.call(&["copy", &id, "--to", to]).must(9, &["is damaged"]);
    // Another point of this id is never replaced, a damaged one never copied, a place never copied into itself.
    std::fs::write(there.join("manifest.json"), "{}").unwrap();
    shelf.call(&["copy", &id, "--to", to]).must(7, &["another point"]);
    shelf.call(&["copy", &id, "--to", shelf.root().to_str().unwrap()]).must(5, &["already"]);
    let third = shelf.dir.path().join("third");
    std::fs::write(here.join("gravity.tar.gz"), "cut").unwrap();
    shelf.call(&["copy", &id, "--to", third.to_str().unwrap()]).must(9, &["is not what its manifest says"]);
    assert!(!third.join("prod").join(&id).exists());
    shelf.call(&["verify", &id]).must(9, &[]);
    shelf.call(&["copy", &id, "--to", third.to_str().unwrap()]).must(7, &["is damaged and is not copied"]);
}

#[test]
fn an_exported_point_is_read_with_tar_and_sha256sum_and_comes_back() {
    let shelf = Shelf::new();
    let id = shelf.point_with("prod", 3, "3.2.0", &["gravity", "amv"], "verified");
    shelf.call(&["hold", &id, "forever"]).must(0, &[]);
    let file = shelf.dir.path().join(format!("prod-{id}.tar"));
    let said = shelf.call(&["export", &id, "--json"]);
    said.must(0, &[]);
    assert_eq!(said.json()["sha256"].as_str().unwrap(), Sha256::of(&std::fs::read(&file).unwrap()).to_string());
    shelf.call(&["export", &id]).must(7, &["is there already"]);
    let unpacked = shelf.dir.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let line = format!(
        "tar -xf {} -C {} && cd {}/{id} && sha256sum -c --quiet SHA256SUMS && gzip -t gravity.tar.gz && tar -tzf gravity.tar.gz && cat README.txt",
        file.display(),
        unpacked.display(),
        unpacked.display()
    );
    let out = Command::new("sh").arg("-c").arg(&line).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("databases.sql") && text.contains("gravity restore"), "{text}");
    // Back into another catalog: from the tar, and from the folder.
    for (name, from) in [("b", file.clone()), ("c", unpacked.join(&id))] {
        let to = shelf.dir.path().join(name);
        let import = |path: &Path| {
            let mut command = support::bed::ferry(None, shelf.dir.path());
            command.args(["points", "import"]).arg(path).arg("--catalog").arg(&to);
            support::bed::run_limited(command, Duration::from_secs(20))
        };
        import(&from).must(0, &["imported: every digest and every archive"]);
        import(&from).must(0, &["is there already"]);
        let point = Catalog::open(&to).unwrap().find(&id, None).unwrap();
        assert!(point.held(Timestamp::now()) && point.verdict() == Verdict::Verified);
        assert_eq!(
            std::fs::read(to.join("prod").join(&id).join("manifest.json")).unwrap(),
            std::fs::read(shelf.root().join("prod").join(&id).join("manifest.json")).unwrap()
        );
    }
    // A tar that was damaged, cut, or made by a stranger.
    let whole = std::fs::read(&file).unwrap();
    let to = shelf.dir.path().join("d");
    let import = |bytes: &[u8]| {
        let path = shelf.dir.path().join("bad.tar");
        std::fs::write(&path, bytes).unwrap();
        let mut command = support::bed::ferry(None, shelf.dir.path());
        command.args(["points", "import"]).arg(path).arg("--catalog").arg(&to);
        support::bed::run_limited(command, Duration::from_secs(20))
    };
    let mut wrong = 0;
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for step in 0..40 {
        let mut bytes = whole.clone();
        let at = bytes.len() * step / 40 + 11;
        bytes[at] ^= 4;
        let said = import(&bytes);
        // Padding between members, and what is only for people, may change without harm.
        if said.code != 0 {
            wrong += 1;
            assert!([1, 9].contains(&said.code), "{at}: {}", said.all());
            assert!(!to.join("prod").join(&id).exists(), "{at}");
        } else {
            std::fs::remove_dir_all(&to).unwrap();
        }
        let _ = std::fs::remove_dir_all(&to);
        let cut = import(&whole[..end * step / 40]);
        assert!([1, 9].contains(&cut.code), "{step}: {}", cut.all());
        assert!(!to.join("prod").join(&id).exists());
        let _ = std::fs::remove_dir_all(&to);
    }
    assert!(wrong > 5, "{wrong}");
    for (name, kind, says) in [
        ("../../etc/x", "f", "no name of a point's file"),
        ("x/gravity.tar.gz", "l", "no plain file"),
        ("x/gravity.tar.gz", "f", "before the manifest"),
    ] {
        let mut tar = tar_of(name, kind);
        tar.extend_from_slice(&whole);
        import(&tar).must(9, &[says]);
        assert!(!to.join("prod").join(&id).exists());
    }
    import(b"").must(1, &["no exported point"]);
}

/// An export is whole or not there, is readable by nobody else, and never goes through a name that somebody put there.
#[test]
fn an_export_is_whole_or_none_and_ours_alone() {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    let shelf = Shelf::new();
    let id = shelf.point("prod", 3, "3.2.0");
    let there = shelf.root().join("prod").join(&id);
    let (to, part) = (shelf.dir.path().join("out.tar"), shelf.dir.path().join("out.tar.part"));
    let export = || shelf.call(&["export", &id, "--to", to.to_str().unwrap()]);
    // A damaged point: told by its file, and nothing is left.
    let file = there.join("gravity.tar.gz");
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    for bytes in [&flipped, &whole[..50].to_vec()] {
        std::fs::write(&file, bytes).unwrap();
        export().must(9, &["is damaged: gravity.tar.gz is not what its manifest says"]);
        assert!(!to.exists() && !part.exists());
    }
    std::fs::remove_file(&file).unwrap();
    symlink("/etc/passwd", &file).unwrap();
    export().must(9, &["could not read", "symbolic link"]);
    assert!(!to.exists() && !part.exists());
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &whole).unwrap();
    // What somebody else put under the name that is written first is neither written through nor left open to all.
    let victim = shelf.dir.path().join("victim");
    std::fs::write(&victim, "mine").unwrap();
    for plant in [true, false] {
        if plant {
            symlink(&victim, &part).unwrap();
        } else {
            std::fs::hard_link(&victim, &part).unwrap();
        }
        export().must(0, &["exported to"]);
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");
        let made = std::fs::symlink_metadata(&to).unwrap();
        assert!(made.is_file() && made.mode() & 0o777 == 0o600 && made.nlink() == 1, "{made:?}");
        assert!(!part.exists());
        std::fs::remove_file(&to).unwrap();
    }
    // Another ferry writes it: neither is spoilt.
    let other = std::fs::File::create(&part).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    export().must(7, &["is being written by another ferry"]);
    assert!(part.exists() && !to.exists());
    drop(other);
    // A disk that knows no second names for a file, as exFAT: it is named all the same, and a name that came meanwhile stays.
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", "trace=link,linkat", "-e", "inject=link,linkat:error=EPERM"]);
    strace.arg(env!("CARGO_BIN_EXE_ferry")).args(["points", "export", &id, "--to", to.to_str().unwrap(), "--catalog"]);
    let said = strace.arg(shelf.root()).output().expect("strace is installed");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(to.exists() && !part.exists());
    export().must(7, &["is there already", "--to"]);
    std::fs::remove_file(&to).unwrap();
    std::fs::create_dir(&part).unwrap();
    export().must(2, &["could not write"]);
}

/// What is no whole point is not taken in, whatever it is; and who holds a point is not lost on its way.
#[test]
fn only_whole_points_are_taken_in() {
    let shelf = Shelf::new();
    let id = shelf.point("prod", 3, "3.2.0");
    shelf.call(&["hold", &id, "forever"]).must(0, &[]);
    let (folder, to) = (shelf.dir.path().join(&id), shelf.dir.path().join("to"));
    let fresh = || {
        let _ = std::fs::remove_dir_all(&folder);
        let copied =
            Command::new("cp").arg("-a").arg(shelf.root().join("prod").join(&id)).arg(&folder).status().unwrap();
        assert!(copied.success());
    };
    let import = |path: &Path| {
        let mut command = support::bed::ferry(None, shelf.dir.path());
        command.args(["points", "import"]).arg(path).arg("--catalog").arg(&to);
        support::bed::run_limited(command, Duration::from_secs(20))
    };
    let edit = |change: &dyn Fn(&mut Value)| {
        let mut value = serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(folder.join("manifest.json"), value.to_string()).unwrap();
    };
    // As a tar of somebody's own making, too; what is told is the same.
    let tar = |members: &[&str]| {
        let path = shelf.dir.path().join("own.tar");
        let mut command = Command::new("tar");
        command.arg("-cf").arg(&path).arg("-C").arg(shelf.dir.path());
        command.args(members.iter().map(|name| format!("{id}/{name}")));
        assert!(command.status().unwrap().success());
        path
    };
    import(Path::new("nowhere.tar")).must(1, &["nowhere.tar cannot be read"]);
    let all = ["manifest.json", "gravity.tar.gz", "logs/gravity-backup.log"];
    for (bad, says) in [
        (&["gravity.tar.gz"][..], "it comes before the manifest"),
        (&["manifest.json"], "is not whole"),
        (&["manifest.json", "manifest.json"], "a second manifest"),
        (&["manifest.json", "gravity.tar.gz", "gravity.tar.gz"], "does not list, or twice"),
    ] {
        fresh();
        let mut command = Command::new("tar");
        let path = shelf.dir.path().join("own.tar");
        command.args(["--hard-dereference", "-cf"]).arg(&path).arg("-C").arg(shelf.dir.path());
        command.args(bad.iter().map(|name| format!("{id}/{name}")));
        assert!(command.status().unwrap().success());
        import(&path).must(9, &[says]);
    }
    fresh();
    std::fs::write(folder.join("SHA256SUMS"), "").unwrap();
    import(&tar(&["SHA256SUMS"])).must(1, &["there is no manifest.json in it"]);
    edit(&|value| value["archives"][0]["members"] = json!(4));
    import(&folder).must(9, &["gravity.tar.gz is no whole archive", "3 members instead of 4"]);
    import(&tar(&all)).must(9, &["3 members instead of 4"]);
    fresh();
    // No archive, but with the digest that its manifest says.
    std::fs::write(folder.join("gravity.tar.gz"), "no archive").unwrap();
    edit(&|value| {
        value["archives"][0]["bytes"] = json!(10);
        value["archives"][0]["sha256"] = json!(Sha256::of(b"no archive").to_string());
    });
    import(&folder).must(9, &["gravity.tar.gz is no whole archive", "not gzip"]);
    fresh();
    std::fs::remove_file(folder.join("logs/gravity-backup.log")).unwrap();
    import(&folder).must(9, &["could not read", "gravity-backup.log"]);
    std::fs::remove_file(folder.join("manifest.json")).unwrap();
    import(&folder).must(1, &["is no point: there is no manifest.json in it"]);
    fresh();
    std::fs::write(folder.join("manifest.json"), b"\xff").unwrap();
    import(&tar(&all)).must(9, &["is no text"]);
    fresh();
    std::fs::File::create(folder.join("manifest.json")).unwrap().set_len((64 << 20) + 1).unwrap();
    import(&tar(&["manifest.json"])).must(9, &["too large"]);
    // More members than any point has, each of nothing.
    let mut many: Vec<u8> = tar_of("x/", "f").repeat(10_001);
    for header in many.chunks_mut(512) {
        header[156] = b'5';
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    let path = shelf.dir.path().join("many.tar");
    std::fs::write(&path, many).unwrap();
    import(&path).must(9, &["too many members"]);
    // Notes that cannot be read: who holds the point would be lost.
    fresh();
    std::fs::write(folder.join("notes.jsonl"), b"\xff\n").unwrap();
    import(&folder).must(9, &["could not read", "notes.jsonl"]);
    assert!(!to.join("prod").join(&id).exists(), "nothing of all this is a point there");
    fresh();
    import(&folder).must(0, &["imported"]);
    assert!(Catalog::open(&to).unwrap().find(&id, None).unwrap().held(Timestamp::now()));
    // Another point of this id.
    edit(&|value| value["label"] = json!("another"));
    import(&folder).must(7, &["another point", "never replaced"]);
    import(&tar(&all)).must(7, &["another point", "never replaced"]);
}

/// A folder that leads elsewhere is told, and stops neither a prune of the others nor is it touched.
#[test]
fn prune_passes_over_what_leads_elsewhere() {
    let shelf = Shelf::new();
    let (new, old) = (shelf.point("prod", 2, "3.2.0"), shelf.point("prod", 60, "3.2.0"));
    let elsewhere = shelf.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("notes.jsonl"), "").unwrap();
    let link = shelf.root().join("prod/20261101T041500Z-0001");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    shelf.call(&["prune", "--keep-last", "1", "--grace", "0"]).must(0, &["1 went to the trash"]);
    shelf.call(&["prune", "--keep-last", "1"]).must(0, &["1 deleted"]);
    assert!(link.symlink_metadata().is_ok() && elsewhere.join("notes.jsonl").exists());
    assert_eq!(shelf.state("20261101T041500Z-0001"), "no point");
    assert_eq!((shelf.state(&new).as_str(), shelf.state(&old).as_str()), ("verified", "absent"));
}

/// A header alone, of a file or a symbolic link.
fn tar_of(name: &str, kind: &str) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000600");
    header[124..135].copy_from_slice(b"00000000000");
    header[136..147].copy_from_slice(b"00000000000");
    header[156] = if kind == "l" { b'2' } else { b'0' };
    header[257..265].copy_from_slice(b"ustar  \0");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[test]
fn locks_are_broken_by_name_only() {
    let shelf = Shelf::new();
    let id = shelf.point("prod", 3, "3.2.0");
    let name = format!("prod/{id}");
    shelf.call(&["break-lock", &id]).must(5, &["CLUSTER/ID"]);
    shelf.call(&["break-lock", &name]).must(1, &["is not locked"]);
    let lock = shelf.root().join("prod").join(format!(".{id}.lock"));
    std::fs::write(&lock, "").unwrap();
    // A ferry of this machine holds it: that is no stale lock.
    let file = std::fs::File::open(&lock).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    shelf.call(&["break-lock", &name]).must(7, &["is held by a ferry"]);
    assert!(lock.exists());
    drop(file);
    shelf.call(&["break-lock", &name]).must(0, &["is removed"]);
    assert!(!lock.exists());
    std::fs::write(&lock, "").unwrap();
    let mut command = support::bed::ferry(None, shelf.dir.path());
    command.args(["catalog", "break-lock", &name, "--catalog"]).arg(shelf.root());
    support::bed::run_limited(command, Duration::from_secs(20)).must(0, &["is removed"]);
}

#[test]
fn one_look_tells_all_that_a_page_needs() {
    let shelf = Shelf::new();
    let old = shelf.point("prod", 60, "3.2.0");
    let new = shelf.point_with("prod", 2, "3.2.0", &["gravity", "amv"], "verified");
    shelf.point_with("dr", 5, "3.2.1", &["gravity"], "suspect");
    shelf.note(&old, rehearsed(90.0), Timestamp::now());
    let entries = shelf.open().list(None).unwrap();
    let rules = Rules { keep: Keep { last: Some(1), ..Keep::default() }, ..Rules::default() };
    let seen = overview::overview("here", &entries, &rules, Timestamp::now());
    assert_eq!(seen.clusters.len(), 2);
    let prod = &seen.clusters[1];
    assert_eq!(prod.goes_next.iter().map(ToString::to_string).collect::<Vec<_>>(), [old.as_str()]);
    assert_eq!(prod.last_drill.as_ref().unwrap().point.as_str(), old);
    assert!(prod.newest.iter().all(|one| one.point.as_str() == new && one.age_seconds / 3600 == 2));
    assert_eq!(prod.newest.len(), 2);
    assert_eq!(prod.days.values().flat_map(|day| day.values()).sum::<u32>(), 2);
    assert_eq!(seen.clusters[0].points[0].verdict, Verdict::Suspect);
    let value = serde_json::to_value(&seen).unwrap();
    assert_eq!(value["clusters"][1]["points"][0]["fate"], "goes");
}

/// Runs `work` with the n-th operation on the disk failing, for every n until none fails any more. `after` looks at
/// what is left each time.
fn fail_each(work: impl Fn(&Path, Disk) -> bool, after: impl Fn(&Path, usize, bool)) -> usize {
    let mut n = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let left = Arc::new(AtomicUsize::new(n));
        let failed = Arc::new(AtomicUsize::new(0));
        let (count, seen) = (Arc::clone(&left), Arc::clone(&failed));
        let disk = Disk::watched(move |_, _| {
            if count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
                && seen.fetch_add(1, Ordering::SeqCst) == 0
            {
                return Err(io::Error::from_raw_os_error(28));
            }
            Ok(())
        });
        let done = work(dir.path(), disk);
        let struck = failed.load(Ordering::SeqCst) > 0;
        after(dir.path(), n, done);
        if !struck {
            assert!(done, "without a fault it is done");
            return n;
        }
        n += 1;
    }
}

#[test]
fn a_failure_at_every_operation_of_copy_trash_and_deletion_loses_no_good_archive() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let shelf = Shelf::new();
    let keep = shelf.point("prod", 2, "3.2.0");
    let goes = shelf.point("prod", 60, "3.2.0");
    let source = shelf.root();
    let clone = |to: &Path| {
        let out = Command::new("cp").arg("-a").arg(&source).arg(to).output().unwrap();
        assert!(out.status.success());
    };
    // A copy: the other place has the whole point or none, and the next attempt finishes it.
    let copied = fail_each(
        |dir, disk| {
            clone(&dir.join("from"));
            Catalog::open(&dir.join("to")).unwrap();
            let from = shelf::folder_place(Catalog::open(&dir.join("from")).unwrap());
            let Ok(to) = Catalog::open_on(&dir.join("to"), disk) else { return false };
            let to = shelf::folder_place(to);
            runtime.block_on(async {
                let mut point = shelf::find(&from, &keep).await.unwrap();
                shelf::copy(&from, &mut point, &to, &who(), false, &|_, _| {}).await.is_ok()
            })
        },
        |dir, n, done| {
            let to = Catalog::open(&dir.join("to")).unwrap();
            let entries = to.list(None).unwrap();
            let sealed = entries.iter().filter(|entry| matches!(entry, Entry::Sealed(_))).count();
            assert!(!entries.iter().any(|entry| matches!(entry, Entry::Broken { .. })), "{n}");
            assert!(sealed == 1 || !done, "{n}");
            let from = Catalog::open(&dir.join("from")).unwrap();
            let mut point = from.find(&keep, None).unwrap();
            assert!(!done || point.replicas().len() == 1, "{n}");
            let (from, to) = (shelf::folder_place(from), shelf::folder_place(to));
            runtime.block_on(async {
                shelf::copy(&from, &mut point, &to, &who(), true, &|_, _| {})
                    .await
                    .unwrap_or_else(|failure| panic!("{n}: {failure:?}"));
                shelf::find(&to, &keep).await.unwrap();
            });
        },
    );
    // Into the trash and out of the world: the other point is whole at every step, and the next prune finishes.
    let prune = |catalog: Catalog| {
        let place = shelf::folder_place(catalog);
        runtime.block_on(async {
            let entries = shelf::entries(&place, None).await?;
            shelf::finish_emptying(&place, &entries, &who()).await?;
            let rules = Rules { keep: Keep { last: Some(1), ..Keep::default() }, ..Rules::default() };
            let now = Timestamp::now();
            for decision in retention::decide(&retention::items(&entries, now), &rules, now) {
                let name = format!("prod/{}", decision.id);
                match decision.fate {
                    retention::Fate::Goes => {
                        let mut point = shelf::find(&place, &name).await?;
                        shelf::trash(&place, &mut point, &who(), now, "test", None).await?;
                    }
                    retention::Fate::Emptied => {
                        shelf::empty(&place, &shelf::find(&place, &name).await?, &who()).await?
                    }
                    _ => {}
                }
            }
            Ok::<(), ferry::failure::Failure>(())
        })
    };
    let pruned = fail_each(
        |dir, disk| {
            clone(&dir.join("c"));
            let root = dir.join("c");
            let Ok(catalog) = Catalog::open_on(&root, disk) else { return false };
            prune(catalog.clone()).and_then(|()| prune(catalog)).is_ok()
        },
        |dir, n, done| {
            let root = dir.join("c");
            let catalog = Catalog::open(&root).unwrap();
            catalog.list(None).unwrap();
            let good = catalog.find(&keep, None).unwrap_or_else(|failure| panic!("{n}: {failure:?}"));
            assert_eq!(good.verdict(), Verdict::Verified, "{n}");
            assert!(shelf::look(&good).is_empty(), "{n}");
            assert!(!done || !root.join("prod").join(&goes).exists(), "{n}");
            for _ in 0..3 {
                prune(catalog.clone()).unwrap_or_else(|failure| panic!("{n}: {failure:?}"));
            }
            assert_eq!(catalog.list(None).unwrap().len(), 1, "{n}");
            assert_eq!(catalog.find("prod/latest", None).unwrap().id().as_str(), keep, "{n}");
        },
    );
    println!("copy: {copied} operations, trash and deletion: {pruned}");
    assert!(copied > 15 && pruned > 10, "{copied} {pruned}");
}

#[test]
fn a_restore_takes_an_exported_file() {
    let bed = Bed::with(ferry::sandbox::Options { archive_mib: 1, ..Bed::options() });
    bed.ferry(&["backup", "prod"]).must(0, &[]);
    let id = bed.points("prod").into_keys().next().unwrap();
    let file = bed.aside("point.tar");
    bed.ferry(&["points", "export", &id, "--to", file.to_str().unwrap()]).must(0, &["exported"]);
    let empty = bed.aside("empty");
    let args = ["restore", file.to_str().unwrap(), "--to", "dr", "--check", "--catalog", empty.to_str().unwrap()];
    bed.ferry(&args).must(0, &["was taken into the catalog", &id]);
    bed.ferry(&args).must(0, &["is in the catalog already"]);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let fresh = bed.aside("fresh");
    let args = ["restore", file.to_str().unwrap(), "--to", "dr", "--check", "--catalog", fresh.to_str().unwrap()];
    bed.ferry(&args).must(9, &[]).never("gravity restore");
}

#[test]
fn a_backup_goes_to_every_place_and_then_what_no_rule_keeps_goes() {
    let bed = Bed::with(ferry::sandbox::Options { archive_mib: 1, ..Bed::options() });
    let second = bed.aside("second");
    let places = format!("{},{}", bed.catalog().display(), second.display());
    let env = [("FERRY_CATALOG", places.as_str()), ("FERRY_KEEP_LAST", "1")];
    let said = bed.ferry_with(&["backup", "prod", "--only", "gravity"], &env);
    said.must(0, &["copied", second.to_str().unwrap(), "read back from the disk"]);
    let one = bed.points("prod").into_keys().next().unwrap();
    assert!(second.join("prod").join(&one).join("manifest.json").exists());
    bed.ferry_with(&["points", "check", "--min-replicas", "2"], &env).must(0, &["in 2 of 2 places"]);
    std::thread::sleep(Duration::from_secs(1));
    let said = bed.ferry_with(&["backup", "prod", "--only", "gravity"], &env);
    said.must(0, &["by the last 1", "1 to the trash"]);
    assert_eq!(bed.points("prod")[&one], "in trash");
    // A place that is away: the backup is made and sealed, what is missing is said, and nothing goes.
    let away = format!("{},ssh://127.0.0.1:1/srv/points", bed.catalog().display());
    let env = [("FERRY_CATALOG", away.as_str()), ("FERRY_KEEP_LAST", "1")];
    std::thread::sleep(Duration::from_secs(1));
    let said = bed.ferry_with(&["backup", "prod", "--only", "gravity"], &env);
    said.must(2, &["NOT COPIED", "ssh://127.0.0.1:1/srv/points", "ferry points copy"]);
    let points = bed.points("prod");
    assert_eq!(points.values().filter(|state| *state == "verified").count(), 2, "{points:?}");
    // No folder of this machine at all: told before anything is touched.
    let env = [("FERRY_CATALOG", "ssh://127.0.0.1:1/srv/points")];
    bed.ferry_with(&["backup", "prod"], &env).must(1, &["no catalog in a folder of this machine"]);
}
