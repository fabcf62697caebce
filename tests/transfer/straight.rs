//! An archive from node to node through ferry, with nothing of it here: cut, killed, changed, damaged, and onto a full disk.

use ferry::remote::ssh::connect::Lane;
use ferry::transfer::Trouble;
use ferry::transfer::straight::{Landed, Straight, straight};

use super::*;

/// A good archive of about so many bytes.
fn archive(dir: &Path, count: u64) -> Vec<u8> {
    std::fs::create_dir_all(dir.join("content")).unwrap();
    std::fs::write(dir.join("content/noise"), bytes(count)).unwrap();
    let packed = Process::new("tar").args(["-czf", "-", "-C", dir.to_str().unwrap(), "content"]).output().unwrap();
    assert!(packed.status.success());
    packed.stdout
}

fn order(patience: u64) -> Straight {
    Straight {
        from: "a".to_owned(),
        source: "/var/lib/x/source".to_owned(),
        to: "b".to_owned(),
        destination: "/var/lib/x/restore-1/gravity-1.tar.gz".to_owned(),
        required: Vec::new(),
        patience: Duration::from_secs(patience),
    }
}

async fn bring(ways: [&Way; 2], order: &Straight, on: impl FnMut(u64, u64)) -> Result<Landed, Trouble> {
    let work = async {
        let (from, to) = (ways[0].connect(Lane::Control).await?, ways[1].connect(Lane::Control).await?);
        straight((ways[0], &from), (ways[1], &to), order, on).await
    };
    tokio::time::timeout(Duration::from_secs(120), work).await.expect("it hangs")
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_anywhere_it_goes_on_and_is_walked_once() {
    let pair = pair(Harm::Cut, &[]);
    let dir = tempfile::tempdir().unwrap();
    let content = archive(dir.path(), 9 * MIB);
    put(&pair.a, "/var/lib/x/source", &content);
    let order = order(20);
    let whole = bring([&pair.ways[0], &pair.ways[1]], &order, |_, _| {}).await.unwrap();
    assert!(there(&pair.b, &order.destination).as_ref() == Some(&content));
    let walk = whole.arrived.walk.clone().unwrap();
    assert!(walk.members == 2 && whole.arrived.node_digest.is_some() && !whole.tool.is_empty(), "{whole:?}");
    let (rounds, mut cuts) = (if long() { 100 } else { 3 }, 0);
    for round in 0..rounds {
        pair.b.exec_in("rm -rf /var/lib/x/restore-1");
        let hit = round % 2;
        let place = chance(content.len() as u64);
        // Behind the logins.
        let mut armed = false;
        let (wires, size) = (&pair.wires, content.len() as u64);
        let landed = bring([&pair.ways[0], &pair.ways[1]], &order, |done, _| {
            if !armed && done >= place.min(size - 2 * MIB) {
                armed = true;
                wires[hit].after(chance(64 << 10));
            }
        })
        .await;
        pair.wires[hit].after(u64::MAX >> 2);
        let landed = landed.unwrap_or_else(|trouble| panic!("round {round}, cut at {place}: {trouble:?}"));
        assert!(there(&pair.b, &order.destination).as_ref() == Some(&content), "round {round}, {place}: other bytes");
        assert_eq!(landed.arrived.sha256, Sha256::of(&content));
        assert_eq!(landed.arrived.walk.as_ref(), Some(&walk), "round {round}, {place}");
        cuts += landed.arrived.cuts;
    }
    println!("{rounds} archives went straight through {cuts} cuts");
    assert!(cuts >= u32::try_from(rounds / 2).unwrap(), "{cuts} cuts");
}

/// Whoever is gone on with reads the source once more and sends what is missing; a part that is something else is sent anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_ferry_that_is_gone_is_followed_by_another() {
    let pair = pair(Harm::Cut, &[]);
    let dir = tempfile::tempdir().unwrap();
    let content = archive(dir.path(), 24 * MIB);
    put(&pair.a, "/var/lib/x/source", &content);
    let order = order(20);
    let part = format!("{}.part", order.destination);
    for changed in [false, true] {
        pair.b.exec_in("rm -rf /var/lib/x/restore-1");
        let far = AtomicU64::new(0);
        {
            let bringing = bring([&pair.ways[0], &pair.ways[1]], &order, |done, _| far.store(done, Ordering::SeqCst));
            let stop = async {
                while far.load(Ordering::SeqCst) < 10 * MIB {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::select! {
                done = bringing => panic!("it was to be stopped: {done:?}"),
                () = stop => {}
            }
        }
        assert!(there(&pair.b, &order.destination).is_none());
        if changed {
            let at = pair.b.root_dir().join(part.trim_start_matches('/'));
            for _ in 0..100 {
                if std::fs::metadata(&at).is_ok_and(|meta| meta.len() > MIB) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            use std::os::unix::fs::FileExt as _;
            let file = std::fs::OpenOptions::new().read(true).write(true).open(&at).unwrap();
            file.write_all_at(&[content[77] ^ 1], 77).unwrap();
        }
        let landed = bring([&pair.ways[0], &pair.ways[1]], &order, |_, _| {}).await.unwrap();
        assert!(there(&pair.b, &order.destination).as_ref() == Some(&content), "{changed}");
        if !changed {
            assert!(landed.arrived.resumed_at >= MIB, "{:?}", landed.arrived);
        } else {
            assert_eq!(landed.arrived.resumed_at, 0);
        }
        // What is in place already is proved, and not sent again.
        let again = bring([&pair.ways[0], &pair.ways[1]], &order, |_, _| {}).await.unwrap();
        assert_eq!((again.arrived.resumed_at, again.arrived.sha256), (content.len() as u64, landed.arrived.sha256));
    }
    // Another file of that name is not written over.
    let other = archive(&dir.path().join("other"), 24 * MIB);
    put(&pair.a, "/var/lib/x/source", &other);
    let refused = bring([&pair.ways[0], &pair.ways[1]], &order, |_, _| {}).await;
    assert!(matches!(&refused, Err(Trouble::Failure(failure)) if failure.kind == Kind::Refused), "{refused:?}");
    assert!(there(&pair.b, &order.destination) == Some(content));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_archive_gets_no_name_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let good = archive(dir.path(), 3 * MIB);
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let order = Straight { source: at("source"), destination: at("restore-1/gravity-1.tar.gz"), ..order(5) };
    let way = shell_way(dir.path(), "/bin/dash", None);
    let lost = |cut: usize| good[..cut].to_vec();
    let flipped = |place: usize| {
        let mut bytes = good.clone();
        bytes[place] ^= 0x20;
        bytes
    };
    let mut bad = vec![
        ("empty", Vec::new()),
        ("cut", lost(good.len() / 2)),
        ("one byte short", lost(good.len() - 1)),
        ("its checksum lies", flipped(good.len() - 6)),
        ("its length lies", flipped(good.len() - 2)),
        ("something behind", [good.as_slice(), b"more"].concat()),
        ("no gzip", bytes(2 * MIB)),
    ];
    let flips = if long() { 60 } else { 6 };
    let most = good.len() as u64 - 40;
    bad.extend((0..flips).map(|_| ("a flip", flipped(20 + usize::try_from(chance(most)).unwrap()))));
    for (what, content) in bad {
        std::fs::write(at("source"), &content).unwrap();
        let result = bring([&way, &way], &order, |_, _| {}).await;
        assert!(matches!(result, Err(Trouble::NotWhole(_))), "{what}: {result:?}");
        assert!(!dir.path().join("restore-1").exists(), "{what}: something is left");
    }
    // A member that must be there.
    std::fs::write(at("source"), &good).unwrap();
    let lacking = Straight { required: vec!["nothing-like-it".to_owned()], ..order.clone() };
    let landed = bring([&way, &way], &lacking, |_, _| {}).await.unwrap();
    assert_eq!(landed.arrived.walk.unwrap().missing, ["nothing-like-it"]);
    std::fs::remove_dir_all(at("restore-1")).unwrap();

    // The source grows, shrinks, and is written to while it goes.
    for change in ["grows", "shrinks", "is touched"] {
        let big = archive(dir.path(), 30 * MIB);
        std::fs::write(at("source"), &big).unwrap();
        let mut changed = false;
        let result = bring([&way, &way], &order, |done, _| {
            if !changed && done > MIB {
                changed = true;
                let mut file = std::fs::OpenOptions::new().append(true).open(at("source")).unwrap();
                match change {
                    "grows" => file.write_all(b"x").unwrap(),
                    "shrinks" => file.set_len(big.len() as u64 - 5).unwrap(),
                    _ => file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap(),
                }
            }
        })
        .await;
        assert!(matches!(result, Err(Trouble::Failure(_))), "{change}: {result:?}");
        assert!(!dir.path().join("restore-1").exists(), "{change}: something is left");
    }
    for odd in ["a link", "a FIFO", "missing"] {
        std::fs::remove_file(at("source")).unwrap_or_default();
        match odd {
            "a link" => std::os::unix::fs::symlink(at("content"), at("source")).unwrap(),
            "a FIFO" => assert!(Process::new("mkfifo").arg(at("source")).status().unwrap().success()),
            _ => {}
        }
        let result = bring([&way, &way], &order, |_, _| {}).await;
        let no_file = |failure: &Failure| failure.what.contains("no regular file");
        assert!(matches!(&result, Err(Trouble::Failure(failure)) if no_file(failure)), "{odd}: {result:?}");
    }
}

/// A source whose own digest is another than that of what it sends.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_says_another_digest_gives_no_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("source"), archive(dir.path(), MIB)).unwrap();
    let tools = dir.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    let lie = format!("#!/bin/sh\ncat >/dev/null\necho '{} *stdin'\n", Sha256::of(b"something else"));
    executable(&tools.join("openssl"), &lie);
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let order = Straight { source: at("source"), destination: at("restore-1/gravity-1.tar.gz"), ..order(5) };
    let (liar, way) = (shell_way(dir.path(), "/bin/dash", Some(&tools)), shell_way(dir.path(), "/bin/bash", None));
    let result = bring([&liar, &way], &order, |_, _| {}).await;
    assert!(matches!(result, Err(Trouble::Differs(_))), "{result:?}");
    assert!(!dir.path().join("restore-1").exists());
}

/// A full disk at the target: a clear word, no name, nothing left, and what was there stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_target_keeps_nothing_of_it() {
    let node = RealNode::start(Opts { tmpfs: vec![("/var/small".to_owned(), 6 << 10)], ..Opts::sudo(Sudo::Password) });
    let node_way = way(&node, node.port);
    let dir = tempfile::tempdir().unwrap();
    let content = archive(dir.path(), 8 * MIB);
    std::fs::write(dir.path().join("source"), &content).unwrap();
    let small = node.root_dir().join("var/small");
    std::fs::set_permissions(&small, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(small.join("older"), b"older archive").unwrap();
    let local = shell_way(dir.path(), "/bin/dash", None);
    let order = Straight {
        source: dir.path().join("source").to_str().unwrap().to_owned(),
        destination: "/var/small/restore-1/gravity-1.tar.gz".to_owned(),
        ..order(5)
    };
    let result = bring([&local, &node_way], &order, |_, _| {}).await;
    let told = |failure: &Failure| failure.why.as_deref().is_some_and(|why| why.contains("disk is full"));
    assert!(matches!(&result, Err(Trouble::Failure(failure)) if told(failure)), "{result:?}");
    let mut left = names(&small);
    left.retain(|name| name != "restore-1" || !names(&small.join("restore-1")).is_empty());
    assert_eq!(left, ["older"], "{result:?}");
}
