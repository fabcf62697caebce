//! Encryption at rest and volumes, from the command line to the disk: what is written opens with the plain `age` tool,
//! nothing lies there in the clear, every flip is found, and a ferry that is killed goes on at the volume.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

#[path = "support/cluster.rs"]
mod cluster;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use cluster::{Cluster, Ended, Going, SOON};
use ferry::catalog::Catalog;
use ferry::digest::Sha256;
use ferry::sandbox;
use ferry::secret::Masker;
use ferry::vault::age::{AskPassphrase, Identities, Recipients};
use ferry::volume::{Keep, Left, Writer};
use rustix::process::Signal;
use serde_json::{Value, json};

const SPACE: &str = "space=the disk of a test machine";

fn long() -> bool {
    std::env::var_os("FERRY_LONG").is_some_and(|value| value == "1")
}

fn tool(command: &mut Command) -> Vec<u8> {
    let out = command.output().expect("the tool is there: tests/run installs it");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// A new identity of age, and its recipient.
fn age_key(dir: &Path, name: &str) -> (PathBuf, String) {
    let path = dir.join(name);
    tool(Command::new("age-keygen").arg("-o").arg(&path));
    let public = tool(Command::new("age-keygen").arg("-y").arg(&path));
    (path, String::from_utf8(public).unwrap().trim().to_owned())
}

/// A new SSH key, and its recipient.
fn ssh_key(dir: &Path, name: &str, kind: &[&str], passphrase: &str) -> (PathBuf, String) {
    let path = dir.join(name);
    tool(
        Command::new("ssh-keygen")
            .args(["-q", "-N", passphrase, "-C", "ops@desk", "-f"])
            .arg(&path)
            .arg("-t")
            .args(kind),
    );
    let public = std::fs::read_to_string(dir.join(format!("{name}.pub"))).unwrap();
    (path, public.trim().to_owned())
}

/// What `ferry.toml` of the sandbox says besides.
fn set(cluster: &Cluster, lines: &str) {
    let text = std::fs::read_to_string(&cluster.config).unwrap();
    std::fs::write(&cluster.config, format!("{lines}\n{text}")).unwrap();
}

fn backed_up(cluster: &Cluster) -> (String, String) {
    let before = cluster.sealed();
    let ended = cluster.run(&["backup", "prod", "--output", "plain", "--waive", SPACE], SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    (cluster.sealed().difference(&before).next().unwrap().clone(), ended.said)
}

struct At {
    dir: PathBuf,
    manifest: Value,
}

impl At {
    fn new(dir: PathBuf) -> Self {
        let manifest = serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
        Self { dir, manifest }
    }

    fn of(cluster: &Cluster, id: &str) -> Self {
        Self::new(cluster.dir().join("catalog/prod").join(id))
    }

    fn volumes(&self) -> Vec<PathBuf> {
        let volumes = self.manifest["archives"][0]["volumes"].as_array().unwrap();
        volumes.iter().map(|volume| self.dir.join(volume["file"].as_str().unwrap())).collect()
    }

    /// The archive by the plain tool, volume by volume.
    fn opened(&self, identity: &Path) -> Vec<u8> {
        let one = |volume: PathBuf| tool(Command::new("age").arg("-d").arg("-i").arg(identity).arg(volume));
        self.volumes().into_iter().flat_map(one).collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        found.sort();
        found
    }
}

fn verify(cluster: &Cluster, id: &str, more: &[&str]) -> Ended {
    let words: Vec<&str> = ["points", "verify", id].iter().copied().chain(more.iter().copied()).collect();
    cluster.run(&words, SOON)
}

fn said(ended: &Ended, code: i32, all: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.said);
    for words in all {
        assert!(ended.said.contains(words), "{words:?}\n{}", ended.said);
    }
}

/// One point, encrypted for two keys and in volumes: its whole life.
#[test]
fn an_encrypted_point_lives_as_any_other() {
    let cluster = Cluster::plain(0.2, 2);
    let (key, public) = age_key(cluster.dir(), "age.key");
    let (ssh, ssh_public) = ssh_key(cluster.dir(), "id_ops", &["ed25519"], "");
    let (stranger, _) = age_key(cluster.dir(), "stranger.key");
    let (key_text, ssh_text) = (key.to_str().unwrap().to_owned(), ssh.to_str().unwrap().to_owned());
    let stranger_text = stranger.to_str().unwrap();
    set(&cluster, &format!("recipients = [\"{public}\", \"{ssh_public}\"]\nvolume_size = \"500KiB\""));
    let then = sandbox::content(cluster.dir(), "prod").unwrap();
    let (id, told) = backed_up(&cluster);
    // Nobody here opens it, and that is said before anything is restored.
    assert!(told.contains("no identity here opens what is encrypted") && told.contains(&public), "{told}");

    // The manifest says what lies there, and what is in it.
    let at = At::of(&cluster, &id);
    let archive = &at.manifest["archives"][0];
    let volumes = at.volumes();
    assert!(volumes.len() >= 3, "{archive}");
    let names: Vec<String> =
        volumes.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names[0], "gravity.tar.gz.0001.age");
    assert_eq!(archive["encryption"]["recipients"][0], public.as_str());
    assert!(ssh_public.starts_with(archive["encryption"]["recipients"][1].as_str().unwrap()));
    for (volume, said) in volumes.iter().zip(archive["volumes"].as_array().unwrap()) {
        let raw = std::fs::read(volume).unwrap();
        assert_eq!(said["sha256"], Sha256::of(&raw).to_string());
        assert_eq!(std::fs::metadata(volume).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // The plain tool opens every volume, with either key, and finds what gravity wrote.
    let plain = at.opened(&key);
    assert_eq!(
        (archive["sha256"].clone(), archive["bytes"].as_u64()),
        (Sha256::of(&plain).to_string().into(), Some(plain.len() as u64))
    );
    assert!(at.opened(&ssh) == plain);
    // No byte of it lies in the catalog, and no log.
    for file in at.files() {
        let bytes = std::fs::read(&file).unwrap();
        for needle in plain.chunks(7_919).filter(|chunk| chunk.len() > 24).map(|chunk| &chunk[..24]) {
            let found = memchr_all(&bytes, needle);
            assert!(!found, "{} holds bytes of the archive", file.display());
        }
        let in_logs = file.parent().unwrap().ends_with("logs");
        assert!(!in_logs || file.extension().is_some_and(|end| end == "age"), "{}", file.display());
    }
    let log = at.files().into_iter().find(|file| file.ends_with("logs/gravity-backup.log.age")).unwrap();
    let log = tool(Command::new("age").arg("-d").arg("-i").arg(&key).arg(log));
    assert!(!log.is_empty());

    // Without an identity as far as it can; with one fully; with another one that is said.
    said(&verify(&cluster, &id, &[]), 0, &["as it was sealed", "not looked into", "gravity.tar.gz", "no identity"]);
    said(&verify(&cluster, &id, &["--identity", &key_text]), 0, &["verified", "digests and walk"]);
    said(&verify(&cluster, &id, &["--identity", &ssh_text]), 0, &["verified", "digests and walk"]);
    said(&verify(&cluster, &id, &["--identity", stranger_text]), 1, &["not opened by what was given", "stranger.key"]);
    said(&verify(&cluster, &id, &["--identity", "none.key"]), 1, &["none.key", "cannot be read"]);
    said(&cluster.run(&["points", "show", &id], SOON), 0, &["encrypted", &public, "gravity.tar.gz.0002.age"]);

    // A flip in any volume is found without an identity, named, and forgotten when it is whole again.
    for (number, volume) in volumes.iter().enumerate() {
        let good = std::fs::read(volume).unwrap();
        let mut bad = good.clone();
        let byte = [0, good.len() / 2, good.len() - 1][number % 3];
        bad[byte] ^= 0x10;
        std::fs::write(volume, &bad).unwrap();
        said(&verify(&cluster, &id, &[]), 9, &[&names[number], "sha256"]);
        std::fs::write(volume, &good[..good.len() - 1]).unwrap();
        said(&verify(&cluster, &id, &["--identity", &key_text]), 9, &[&names[number], "size"]);
        std::fs::write(volume, &good).unwrap();
    }
    said(&verify(&cluster, &id, &["--identity", &key_text]), 0, &["verified"]);

    // Exported, it is read by tar, sha256sum and age alone: what its README says is done to the letter.
    let tar = cluster.dir().join("out.tar");
    said(&cluster.run(&["points", "export", &id, "--to", tar.to_str().unwrap()], SOON), 0, &["exported"]);
    let away = tempfile::tempdir().unwrap();
    tool(Command::new("tar").arg("-xf").arg(&tar).current_dir(away.path()));
    let readme = std::fs::read_to_string(away.path().join(&id).join("README.txt")).unwrap();
    let steps: Vec<String> = readme
        .lines()
        .filter(|line| {
            ["    sha256sum", "    for ", "    echo ", "    gzip "].iter().any(|begin| line.starts_with(begin))
        })
        .map(|line| line.trim().replace("IDENTITY", &key_text))
        .collect();
    assert_eq!(steps.len(), 4, "{readme}");
    tool(Command::new("sh").arg("-ec").arg(steps.join("\n")).current_dir(away.path().join(&id)));
    assert!(std::fs::read(away.path().join(&id).join("gravity.tar.gz")).unwrap() == plain);
    // Taken in elsewhere: without an identity it says what it did not look into, with another one it is refused.
    for (number, (more, code, words)) in [
        (&[][..], 0, "not looked into"),
        (&["--identity", &key_text][..], 0, "every archive"),
        (&["--identity", stranger_text][..], 1, "not opened"),
    ]
    .into_iter()
    .enumerate()
    {
        let other = cluster.dir().join(format!("other-{number}"));
        let words_typed = ["points", "import", tar.to_str().unwrap(), "--catalog", other.to_str().unwrap()];
        let typed: Vec<&str> = words_typed.iter().copied().chain(more.iter().copied()).collect();
        said(&cluster.run(&typed, SOON), code, &[words]);
        assert_eq!(other.join("prod").join(&id).join("manifest.json").exists(), code == 0);
    }

    // A restore without what opens it touches no host; with it, the target holds what the source held.
    let point = format!("prod/{id}");
    let restore = ["restore", point.as_str(), "--to", "dr", "--confirm", "dr", "--output", "plain", "--waive", SPACE];
    let runs = || std::fs::read_dir(cluster.dir().join("runs")).unwrap().count();
    let before = runs();
    let ended = cluster.run(&restore, SOON);
    said(&ended, 1, &["cannot be opened", "no identity is named", &public, "--identity"]);
    let wrong: Vec<&str> = restore.iter().copied().chain(["--identity", stranger_text]).collect();
    said(&cluster.run(&wrong, SOON), 1, &["cannot be opened", "stranger.key"]);
    assert_eq!(runs(), before, "no run was begun");
    // One that was changed since is refused by the digest's gate, whatever opens it.
    let good = std::fs::read(&volumes[1]).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 3] ^= 4;
    std::fs::write(&volumes[1], bad).unwrap();
    let opened: Vec<&str> = restore.iter().copied().chain(["--identity", &key_text]).collect();
    said(&cluster.run(&opened, SOON), 7, &["gravity.tar.gz.0002.age", "was changed"]);
    std::fs::write(&volumes[1], good).unwrap();
    let right: Vec<&str> =
        restore.iter().copied().chain(["--identity", &ssh_text, "--waive", "safety_backup=a test"]).collect();
    let ended = cluster.run(&right, SOON);
    said(&ended, 0, &["restored   Gravity"]);
    assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then, "{}", ended.said);
    // No private key and nothing of the archive is anywhere among what ferry wrote on this machine.
    let secret = std::fs::read_to_string(&key).unwrap();
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET")).unwrap();
    for place in ["runs", "catalog"] {
        let found = Command::new("grep").args(["-rlaF", secret]).arg(cluster.dir().join(place)).output().unwrap();
        assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
    }
}

fn memchr_all(haystack: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Killed in the middle of the collection: the next attempt goes on at the volume where it can open what is there, and
/// begins anew where it cannot; in either case the point is whole.
#[test]
fn a_killed_ferry_goes_on_at_the_volume() {
    let cluster = Cluster::plain(0.2, 24);
    let (key, public) = age_key(cluster.dir(), "age.key");
    set(&cluster, &format!("recipients = [\"{public}\"]\nvolume_size = \"512KiB\""));
    let config = std::fs::read_to_string(&cluster.config).unwrap();
    for with_identity in if long() { vec![true, false, true, true] } else { vec![true] } {
        let identities = if with_identity { format!("identities = [\"{}\"]\n", key.display()) } else { String::new() };
        std::fs::write(&cluster.config, format!("{identities}{config}")).unwrap();
        let before = cluster.before();
        let going = Going::start(&mut cluster.command(&["backup", "prod", "--output", "plain", "--waive", SPACE]));
        let begun = Instant::now();
        let volumes = || {
            let shelf = cluster.dir().join("catalog/prod");
            let parts = std::fs::read_dir(&shelf).into_iter().flatten().flatten();
            let part =
                parts.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "part"))?;
            let count = std::fs::read_dir(part).ok()?.flatten().filter(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                name.starts_with("gravity.tar.gz.0") && name.ends_with(".age")
            });
            Some(count.count())
        };
        while volumes().unwrap_or(0) < 5 {
            assert!(begun.elapsed() < SOON, "no volume comes");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        going.signal(Signal::KILL);
        assert_eq!(going.end(SOON).code, None);
        let left = volumes().expect("it was killed before the seal");
        let again = cluster.run(&["backup", "prod", "--output", "json", "--waive", SPACE], SOON);
        assert_eq!(again.code, Some(0), "{}", again.said);
        assert_eq!(cluster.made(&before), (1, 1), "{}", again.said);
        let resumed: Vec<u64> = again
            .said
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|event| find(&event, "resumed_at")?.as_u64())
            .collect();
        let resumed = resumed.first().copied().unwrap_or_else(|| panic!("{}", again.said));
        if with_identity {
            // The last of them may not have been noted yet.
            let noted = (left as u64 - 1) * (512 << 10);
            assert!(left >= 5 && resumed >= noted && resumed % (512 << 10) == 0, "{left} {resumed}");
        } else {
            assert_eq!(resumed, 0);
        }
        let id = cluster.sealed().into_iter().max().unwrap();
        said(&verify(&cluster, &id, &["--identity", key.to_str().unwrap()]), 0, &["verified"]);
        let at = At::of(&cluster, &id);
        let plain = at.opened(&key);
        assert_eq!(at.manifest["archives"][0]["sha256"], Sha256::of(&plain).to_string());
        assert!(!at.dir.join("gravity.tar.gz.part").exists());
    }
}

fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(name).or_else(|| map.values().find_map(|inner| find(inner, name))),
        Value::Array(items) => items.iter().find_map(|inner| find(inner, name)),
        _ => None,
    }
}

/// Types a passphrase where the `age` tool asks for it: it reads nothing but a terminal.
const TYPED: &str = r#"
import os, pty, sys
passphrase, command = sys.argv[1].encode(), sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
heard, sent = b'', 0
while True:
    try:
        piece = os.read(fd, 4096)
    except OSError:
        break
    if not piece:
        break
    heard += piece
    while heard.lower().count(b'passphrase') > sent and heard.rstrip().endswith(b':'):
        os.write(fd, passphrase + b'\n')
        sent += 1
        heard = heard.rstrip() + b' '
        break
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// A passphrase from each of its sources; what ferry writes with it `age` opens at a terminal.
#[test]
fn a_passphrase_comes_from_a_file_or_a_variable_and_never_from_a_line() {
    let cluster = Cluster::plain(0.2, 1);
    let secret = "correct horse battery staple 7f3a";
    let file = cluster.dir().join("passphrase");
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    set(&cluster, "recipients = \"passphrase\"");
    // None is given and nobody can be asked: nothing is begun.
    let words = ["backup", "prod", "--output", "plain", "--waive", SPACE];
    let before = cluster.before();
    let mut command = cluster.command(&words);
    let ended = Going::start(command.env("FERRY_PASSPHRASE_FROM", secret)).end(SOON);
    said(&ended, 1, &["prompt, file:PATH or env:NAME"]);
    assert!(!ended.said.contains(secret), "{}", ended.said);
    let ended = cluster.run(&words, SOON);
    said(&ended, 1, &["passphrase", "no terminal"]);
    assert_eq!(cluster.made(&before), (0, 0), "{}", ended.said);
    let mut command = cluster.command(&words);
    let ended = Going::start(command.env("FERRY_PASSPHRASE_FROM", "env:SHELF").env("SHELF", secret)).end(SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let id = cluster.sealed().into_iter().max().unwrap();
    let from_file = format!("file:{}", file.display());
    said(&verify(&cluster, &id, &["--passphrase-from", &from_file]), 0, &["verified", "digests and walk"]);
    said(&verify(&cluster, &id, &[]), 0, &["not looked into"]);
    std::fs::write(&file, "another\n").unwrap();
    said(&verify(&cluster, &id, &["--passphrase-from", &from_file]), 1, &["the passphrase is another one"]);
    let at = At::of(&cluster, &id);
    let out = cluster.dir().join("opened.tar.gz");
    let volume = at.volumes().pop().unwrap();
    assert!(volume.ends_with("gravity.tar.gz.age"));
    tool(Command::new("python3").args(["-c", TYPED, secret, "age", "-d", "-o"]).arg(&out).arg(&volume));
    assert_eq!(at.manifest["archives"][0]["sha256"], Sha256::of(&std::fs::read(&out).unwrap()).to_string());
    let found = Command::new("grep").args(["-rlaF", secret]).arg(cluster.dir()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "the passphrase lies nowhere");
}

/// Both ways with the plain tool, for every kind of key: what it writes ferry opens, what ferry writes it opens.
#[test]
fn the_plain_tool_and_ferry_read_each_other() {
    use std::io::{Read as _, Write as _};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let content: Vec<u8> = (0..150_000_u32).flat_map(|at| (at / 7).to_le_bytes()).collect();
    std::fs::write(path.join("plain"), &content).unwrap();
    let mut kinds = vec![
        ("age", age_key(path, "age.key"), ""),
        ("ed25519", ssh_key(path, "id_ed", &["ed25519"], ""), ""),
        ("rsa", ssh_key(path, "id_rsa", &["rsa", "-b", "2048"], ""), ""),
        ("locked ed25519", ssh_key(path, "id_locked", &["ed25519"], "open sesame"), "open sesame"),
    ];
    if long() {
        kinds.push(("rsa 4096", ssh_key(path, "id_rsa4", &["rsa", "-b", "4096"], ""), ""));
    }
    // An identity of age that is itself locked with a passphrase.
    let (key, public) = age_key(path, "inner.key");
    let locked = path.join("locked.key");
    tool(Command::new("python3").args(["-c", TYPED, "inner words", "age", "-p", "-o"]).arg(&locked).arg(&key));
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o600)).unwrap();
    kinds.push(("locked age", (locked, public), "inner words"));
    for (kind, (identity, recipient), passphrase) in &kinds {
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (count, answer) = (Arc::clone(&asked), (*passphrase).to_owned());
        let ask: AskPassphrase = Arc::new(move |_| {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(answer.clone().into())
        });
        let identities = Identities::load(std::slice::from_ref(identity), &ask, None, &Masker::new()).unwrap();
        let recipients = Recipients::read(std::slice::from_ref(recipient), &ask).unwrap().unwrap();
        // What is asked at backup time asks nobody.
        assert_eq!(recipients.not_opened_by(&identities), [""; 0], "{kind}");
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 0, "{kind}");

        let theirs = path.join("theirs.age");
        tool(Command::new("age").arg("-r").arg(recipient).arg("-o").arg(&theirs).arg(path.join("plain")));
        let mut back = Vec::new();
        let file = std::fs::File::open(&theirs).unwrap();
        identities.open(file).unwrap_or_else(|why| panic!("{kind}: {why}")).read_to_end(&mut back).unwrap();
        assert!(back == content, "{kind}");

        let ours = path.join("ours.age");
        let mut writer = recipients.seal(std::fs::File::create(&ours).unwrap()).unwrap();
        writer.write_all(&content).unwrap();
        writer.finish().unwrap();
        let mut open = if passphrase.is_empty() {
            Command::new("age")
        } else {
            let mut typed = Command::new("python3");
            typed.args(["-c", TYPED, passphrase, "age"]);
            typed
        };
        let out = path.join("out");
        tool(open.arg("-d").arg("-i").arg(identity).arg("-o").arg(&out).arg(&ours));
        assert!(std::fs::read(&out).unwrap() == content, "{kind}");
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), usize::from(!passphrase.is_empty()), "{kind}");
    }
}

/// A restore whose point lies on another host only: its archives stream from there to the node.
#[test]
fn a_restore_takes_its_point_straight_from_another_place() {
    let cluster = Cluster::plain(0.2, 2);
    let (key, public) = age_key(cluster.dir(), "age.key");
    let node = cluster.up.nodes.iter().find(|node| node.cluster == "prod").unwrap();
    std::fs::create_dir_all(cluster.dir().join(".ssh")).unwrap();
    let host = format!(
        "Host shelf\n  HostName 127.0.0.1\n  Port {}\n  User root\n  IdentityFile {}\n  UserKnownHostsFile {}\n",
        node.port,
        cluster.dir().join("id_ed25519").display(),
        cluster.up.known_hosts.display()
    );
    std::fs::write(cluster.dir().join(".ssh/config"), host).unwrap();
    let config = std::fs::read_to_string(&cluster.config).unwrap();
    let (with, alone) = ("catalog = [\"catalog\", \"ssh://shelf/srv/points\"]", "catalog = \"ssh://shelf/srv/points\"");
    for encrypted in if long() { vec![false, true] } else { vec![true] } {
        let lines = if encrypted {
            format!("recipients = [\"{public}\"]\nidentities = [\"{}\"]\nvolume_size = \"400KiB\"\n", key.display())
        } else {
            String::new()
        };
        let kept: Vec<&str> = config.lines().filter(|line| !line.starts_with("catalog")).collect();
        std::fs::write(&cluster.config, format!("{with}\n{lines}{}\n", kept.join("\n"))).unwrap();
        sandbox::change(cluster.dir(), "prod", &format!("encrypted: {encrypted}")).unwrap();
        let then = sandbox::content(cluster.dir(), "prod").unwrap();
        let (id, told) = backed_up(&cluster);
        assert!(told.contains("ssh://shelf/srv/points"), "{told}");
        std::fs::remove_dir_all(cluster.dir().join("catalog/prod").join(&id)).unwrap();
        // In the clear a folder stands beside it, for the fresh backup of the target; else there is none.
        if encrypted {
            std::fs::write(&cluster.config, format!("{alone}\n{lines}{}\n", kept.join("\n"))).unwrap();
        }
        let point = format!("prod/{id}");
        let mut words =
            vec!["restore", point.as_str(), "--to", "dr", "--confirm", "dr", "--output", "plain", "--waive", SPACE];
        words.extend(["--waive", "safety_backup=a test"].iter().filter(|_| encrypted));
        let ended = cluster.run(&words, SOON);
        said(&ended, 0, &["restored   Gravity", "ssh://shelf/srv/points"]);
        assert_eq!(sandbox::content(cluster.dir(), "dr").unwrap(), then, "{}", ended.said);
        let shown = cluster.run(&["points", "show", &id, "--catalog", "ssh://shelf/srv/points"], SOON);
        said(&shown, 0, &["restored into dr"]);
    }
}

/// A part a day: over as many days as there are parts every volume is read once, and what one day found holds the next.
#[test]
fn a_part_of_a_point_is_verified_a_day() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let (key, public) = age_key(dir.path(), "age.key");
    let ask: AskPassphrase = Arc::new(|_| panic!("nobody is asked"));
    let keep = Keep {
        recipients: Recipients::read(&[public], &ask).unwrap().map(Arc::new),
        identities: None,
        volume_size: 100 << 10,
    };
    // What is in it is no archive: a part of one is never walked.
    let content: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let root = dir.path().join("catalog");
    let id = "20261126T010203Z-00ff";
    let catalog = Catalog::open(&root).unwrap();
    let part =
        catalog.begin(&"prod".parse().unwrap(), &id.parse().unwrap(), &id.parse().unwrap(), "jump", "again").unwrap();
    part.write_file("logs/gravity-backup.log", b"said the hook\n").unwrap();
    let receiving = part.open_archive("gravity.tar.gz").unwrap();
    let (steps, asked) = std::sync::mpsc::channel();
    let mut writer =
        Writer::begin(&receiving.path, "gravity.tar.gz", json!(1), &keep, Left::default(), None, steps).unwrap();
    writer.write_all(&content).unwrap();
    let volumes = writer.finish().unwrap();
    assert_eq!((volumes.len(), ferry::volume::prove(&asked).unwrap()), (10, None));
    let manifest = json!({
        "format": 1, "id": id, "run": id, "who": {"user": "ops", "machine": "jump"}, "ferry_version": "0.1.0",
        "cluster": {"group": "prod"}, "node": "prod-1", "started": "2026-11-26T01:02:03Z",
        "finished": "2026-11-26T01:02:03Z", "complete": true,
        "archives": [{"name": "gravity", "kind": "gravity", "file": "gravity.tar.gz", "bytes": content.len(), "members": 3,
            "verdict": "verified", "sha256": Sha256::of(&content).to_string(), "verified_how": ["in a test"],
            "volumes": volumes, "encryption": keep.encryption()}],
    });
    part.seal(serde_json::from_value(manifest).unwrap()).unwrap();
    let at = At::new(root.join("prod").join(id));
    let ferry = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
        command.current_dir(dir.path()).env("HOME", dir.path()).env("FERRY_IDENTITIES", &key).env("NO_COLOR", "1");
        Going::start(command.args(words).arg("--catalog").arg(&root)).end(SOON)
    };
    let day = |k: usize| {
        let ended = ferry(&["points", "verify", "--part", &format!("{k}/4"), "--json"]);
        let json = ended.said.get(ended.said.find('[').unwrap()..).unwrap();
        let mut read = serde_json::Deserializer::from_str(json).into_iter::<Value>();
        (ended.code, read.next().unwrap().unwrap(), ended.said)
    };
    let all: u64 = at
        .files()
        .iter()
        .filter(|file| !file.ends_with("manifest.json"))
        .map(|file| file.metadata().unwrap().len())
        .sum();
    let mut sum = 0;
    for k in 1..=4 {
        let (code, seen, said) = day(k);
        assert_eq!(code, Some(0), "{said}");
        let bytes = seen[0]["bytes"].as_u64().unwrap();
        assert!(bytes > 0 && bytes < all, "{said}");
        sum += bytes;
    }
    assert_eq!(sum, all, "each file once");
    let volume = at.volumes().remove(1);
    let good = std::fs::read(&volume).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&volume, bad).unwrap();
    let found: Vec<usize> = (1..=4).filter(|k| day(*k).0 == Some(9)).collect();
    let first = found[0];
    assert_eq!(found, (first..=4).collect::<Vec<_>>(), "what a day found holds");
    said(&ferry(&["points", "list"]), 0, &["damaged"]);
    std::fs::write(&volume, good).unwrap();
    assert_eq!(day(first % 4 + 1).0, Some(9));
}
