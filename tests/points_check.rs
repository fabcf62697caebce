//! `ferry points check` as a monitor calls it: no host, no SSH, one line a cluster, an exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use ferry::catalog::{Catalog, Note, Remark, Who};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::bed::Said;

struct Shelf {
    dir: tempfile::TempDir,
}

impl Shelf {
    fn new() -> Self {
        let shelf = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::DirBuilder::new().mode(0o700).create(shelf.root()).unwrap();
        shelf
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("catalog")
    }

    /// Puts a sealed point there that is so many hours old; archives by kind and verdict. Returns its id.
    fn point(&self, cluster: &str, hours: i64, archives: &[(&str, &str)]) -> String {
        let started = Timestamp::now() - SignedDuration::from_hours(hours);
        let id = format!("{}-{:04x}", started.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u16>());
        let dir = self.root().join(cluster).join(&id);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).unwrap();
        let listed: Vec<Value> = archives
            .iter()
            .map(|(kind, verdict)| {
                let file = format!("{kind}.tar.gz");
                std::fs::write(dir.join(&file), b"pretend").unwrap();
                json!({"name": kind, "kind": kind, "file": file, "bytes": 7, "members": 3, "verdict": verdict,
                       "sha256": ferry::digest::Sha256::of(b"pretend").to_string()})
            })
            .collect();
        let manifest = json!({
            "format": 1, "id": id, "run": id, "who": {"user": "ops", "machine": "jump"}, "ferry_version": "0.1.0",
            "cluster": {"group": cluster}, "node": "prod-1", "started": started, "finished": started, "archives": listed,
            "complete": true,
        });
        std::fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
        id
    }

    fn call(&self, args: &[&str]) -> Said {
        let mut command = support::bed::ferry(None, self.dir.path());
        command.args(["points", "check"]).args(args).arg("--catalog").arg(self.root());
        support::bed::run_limited(command, Duration::from_secs(20))
    }
}

const NIGHTLY: [&str; 4] = ["--max-age", "gravity=26h", "--max-age", "amv=8d"];

#[test]
fn one_line_a_cluster_and_the_worst_first() {
    let shelf = Shelf::new();
    let fresh = shelf.point("alpha", 3, &[("gravity", "verified"), ("amv", "verified")]);
    shelf.call(&NIGHTLY).must(0, &["OK alpha: gravity 3 h (limit 1 d 2 h) in", &fresh, "amv 3 h (limit 8 d)"]);
    // The partly good night: this one was sealed without AMV, whose last archive is nine days old.
    let partly = shelf.point("beta", 2, &[("gravity", "verified")]);
    let old = shelf.point("beta", 216, &[("gravity", "verified"), ("amv", "verified")]);
    let said = shelf.call(&NIGHTLY);
    said.must(9, &[&format!("CRITICAL beta: amv TOO OLD, 9 d (limit 8 d) in {old}"), &partly]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("CRITICAL beta") && lines[1].starts_with("OK alpha"), "{}", said.out);
    assert_eq!(said.err, "");
    // Each cluster by its name, and an age without a kind.
    shelf.call(&["alpha", "--max-age", "26h"]).must(0, &["OK alpha"]).never("beta");
    shelf.call(&["beta", "--max-age", "26h"]).must(0, &["OK beta"]).never("amv");
    shelf.call(&["alpha", "--max-age", "gravity=2h"]).must(9, &["TOO OLD"]);
    shelf.call(&["alpha", "gamma", "--max-age", "26h"]).must(9, &["CRITICAL gamma: gravity MISSING", "OK alpha"]);
    let told = shelf.call(&["beta", "--max-age", "26h", "--max-age", "amv=8d", "--json"]);
    told.must(9, &[]);
    let told = told.json();
    assert_eq!((&told[0]["cluster"], &told[0]["ok"]), (&json!("beta"), &json!(false)));
    assert_eq!(told[0]["kinds"][0]["newest"]["point"], partly.as_str());
    assert_eq!(told[0]["kinds"][0]["wrong"], json!([]));
    assert_eq!(told[0]["kinds"][1]["wrong"], json!([{"wrong": "too_old"}]));
    assert!(told[0]["kinds"][1]["newest"]["age_seconds"].as_u64().unwrap() >= 216 * 3600);
}

#[test]
fn only_what_is_verified_counts() {
    let shelf = Shelf::new();
    let good = shelf.point("prod", 20, &[("gravity", "verified")]);
    let suspect = shelf.point("prod", 3, &[("gravity", "suspect")]);
    let limit = ["prod", "--max-age", "12h"];
    shelf.call(&limit).must(9, &["TOO OLD, 20 h", &good, &format!("suspect and not counted: {suspect}")]);
    // Somebody vouches for it.
    let catalog = Catalog::open(&shelf.root()).unwrap();
    let who = Who { user: "ops".into(), machine: "jump".into(), ci: None };
    let mut point = catalog.find(&suspect, None).unwrap();
    point.accept(catalog.disk(), who.clone(), "the drives were emptied").unwrap();
    shelf.call(&limit).must(0, &["OK prod: gravity 3 h", &suspect]);
    // A later verification finds it damaged: then it is wrong even where the older one is young enough.
    let defects = serde_json::from_value(
        json!([{"file": "gravity.tar.gz", "what": "cut", "expected": "7 bytes", "seen": "3 bytes"}]),
    );
    let remark = Remark::Damaged { defects: defects.unwrap() };
    point.note(catalog.disk(), Note { at: Timestamp::now(), who, remark }).unwrap();
    shelf.call(&["prod", "--max-age", "26h"]).must(9, &["CRITICAL prod: gravity 20 h", &format!("DAMAGED {suspect}")]);
    // A fresh one, and all is well again.
    let fresh = shelf.point("prod", 1, &[("gravity", "verified")]);
    shelf.call(&["prod", "--max-age", "26h"]).must(0, &["OK prod", &fresh]);
    // Its file is gone, or is another, though the manifest says that it is verified.
    let file = shelf.root().join("prod").join(&fresh).join("gravity.tar.gz");
    std::fs::write(&file, "pre").unwrap();
    shelf.call(&["prod", "--max-age", "26h"]).must(9, &["DAMAGED", "3 bytes instead of 7"]);
    std::fs::remove_file(&file).unwrap();
    shelf.call(&["prod", "--max-age", "26h"]).must(9, &["DAMAGED", &fresh]);
    std::fs::write(&file, b"pretend").unwrap();
    // A point without a manifest that can be read.
    let newest = shelf.point("prod", 0, &[("gravity", "verified")]);
    std::fs::write(shelf.root().join("prod").join(&newest).join("manifest.json"), "{").unwrap();
    shelf.call(&["prod", "--max-age", "26h"]).must(9, &["DAMAGED", &newest]);
}

#[test]
fn what_was_never_sealed_and_what_is_from_the_future_do_not_count() {
    let shelf = Shelf::new();
    let id = shelf.point("prod", 1, &[("gravity", "verified")]);
    let dir = shelf.root().join("prod");
    std::fs::rename(dir.join(&id), dir.join(format!("{id}.part"))).unwrap();
    shelf.call(&["--max-age", "26h"]).must(9, &["gravity MISSING", &format!("left over and never sealed: {id}")]);
    let future = shelf.point("prod", -48, &[("gravity", "verified")]);
    shelf
        .call(&["--max-age", "26h"])
        .must(9, &["gravity MISSING", &format!("from the future and not counted: {future}")]);
    let real = shelf.point("prod", 2, &[("gravity", "verified")]);
    shelf.call(&["--max-age", "26h"]).must(0, &["OK prod: gravity 2 h", &real, &future]);
}

#[test]
fn wrong_words_and_shelves_that_cannot_be_read() {
    let shelf = Shelf::new();
    shelf.call(&["--max-age", "26h"]).must(9, &["CRITICAL: there is no cluster"]);
    shelf.point("prod", 1, &[("gravity", "verified")]);
    for (args, says) in [
        (&["--max-age", "26"][..], "\"26m\""),
        (&["--max-age", "drives=1h"], "no kind \"drives\""),
        (&["--max-age", "26h", "--max-age", "gravity=1h"], "already"),
        (&["../prod", "--max-age", "26h"], "../prod"),
        (&[], "--max-age"),
    ] {
        shelf.call(args).must(5, &[says]);
    }
    std::fs::remove_dir_all(shelf.root()).unwrap();
    shelf.call(&["--max-age", "26h"]).must(1, &["the catalog cannot be read"]);
    std::fs::write(shelf.root(), "").unwrap();
    shelf.call(&["--max-age", "26h"]).must(1, &[]);
}
