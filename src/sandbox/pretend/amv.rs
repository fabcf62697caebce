//! The folder with `amv-backup-restore.sh` as the vendor leaves it on a node, and what its script
//! asks of the sandbox.
//!
//! What lives here: the script's text, where it lies, to whom it belongs, what the faults do to
//! it, and the hidden command of the pretend `kubectl` by which the script learns its faults and
//! writes the record. What does not: InfluxDB itself (influx).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::record::Record;
use super::{Node, content, replace, say};

/// The script.
const SCRIPT: &str = include_str!("amv-backup-restore.sh");
/// What the script sources from beside it.
const NEIGHBOUR: &str = include_str!("influx-common.sh");

/// The hidden command of the pretend `kubectl`.
pub(crate) const ASK: &str = "__pretend-amv";

/// Where the folders of the versions are, below Gravity's state directory.
pub const UNPACKED: &str = "site/packages/unpacked/gravitational.io/anypoint";
/// Where the script's folder is, below the folder of a version.
pub const FOLDER: &str = "resources/kubernetes/amv-backup-restore";

/// The files of the script's folder: name, text. The vendor leaves them 0644 in folders 0755.
pub const FILES: &[(&str, &str)] = &[("amv-backup-restore.sh", SCRIPT), ("influx-common.sh", NEIGHBOUR)];

/// Everything below `UNPACKED` and `UNPACKED` itself as the node's faults want it, in one word.
fn wanted(node: &Node) -> String {
    let fault = |name: &str| node.fault(name).map_or("-".to_owned(), |value| format!("={value}"));
    [
        node.app_version_seen(),
        fault("amv-missing-here"),
        fault("amv-second-folder"),
        fault("amv-world-writable"),
        fault("amv-symlink"),
        fault("amv-changed"),
        fault("amv-owner"),
    ]
    .join(" ")
}

/// Makes the script's folder like the node's faults want it. Where they have not changed since the
/// last time nothing is touched, so that what a test does to the folder stays.
///
/// # Errors
/// It cannot be written: somebody who is not root looks at a real node.
pub(crate) fn stand(node: &Node) -> io::Result<()> {
    if !node.amv {
        return Ok(());
    }
    let (wanted, mark) = (wanted(node), node.dir.join("amv-planted"));
    let is = || fs::read_to_string(&mark).is_ok_and(|text| text == wanted);
    if is() {
        return Ok(());
    }
    let lock = fs::OpenOptions::new().create(true).append(true).open(node.dir.join("amv-lock"))?;
    lock.lock()?;
    if is() {
        return Ok(());
    }
    plant(node)?;
    replace(&mark, wanted.as_bytes())
}

/// Writes the folder anew.
fn plant(node: &Node) -> io::Result<()> {
    let unpacked = node.state_dir.join(UNPACKED);
    for old in [unpacked.clone(), node.state_dir.join("site/packages/elsewhere")] {
        match fs::remove_dir_all(&old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::create_dir_all(&unpacked)?;
    let running = node.app_version_seen();
    let version = unpacked.join(&running);
    let changed = node.has("amv-changed");
    if !node.has("amv-missing-here") {
        write(&version, changed)?;
    }
    if let Some(name) = node.fault("amv-second-folder") {
        let name = if name.is_empty() { format!("{running}-x") } else { name };
        write(&unpacked.join(name), changed)?;
    }
    // The folders belong to the service user from `site` on, as the unpacking service leaves them.
    let site = node.state_dir.join("site");
    own(&site, node.service_uid)?;
    if let Some(what) = node.fault("amv-owner") {
        let uid = what.parse().unwrap_or(4242);
        std::os::unix::fs::lchown(version.join(FOLDER).join("amv-backup-restore.sh"), Some(uid), Some(uid))?;
    }
    let place = |what: &str| match what {
        "script" => version.join(FOLDER).join("amv-backup-restore.sh"),
        "neighbour" => version.join(FOLDER).join("influx-common.sh"),
        "version" => version.clone(),
        "unpacked" => unpacked.clone(),
        _ => version.join(FOLDER),
    };
    if let Some(what) = node.fault("amv-world-writable") {
        let path = place(&what);
        let mode = if path.is_dir() { 0o777 } else { 0o666 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    if let Some(what) = node.fault("amv-symlink") {
        let (path, there) = (place(&what), node.state_dir.join("site/packages/elsewhere"));
        fs::create_dir_all(&there)?;
        let there = there.join(path.file_name().unwrap_or_default());
        fs::rename(&path, &there)?;
        std::os::unix::fs::symlink(&there, &path)?;
        own(&node.state_dir.join("site"), node.service_uid)?;
    }
    Ok(())
}

fn write(version: &Path, changed: bool) -> io::Result<()> {
    let folder = version.join(FOLDER);
    fs::create_dir_all(&folder)?;
    for (name, text) in FILES {
        let mut text = (*text).to_owned();
        if changed && *name == "amv-backup-restore.sh" {
            text = text.replacen("set -o pipefail\n", "set -o pipefail\n# A patch of the vendor's.\n", 1);
        }
        fs::write(folder.join(name), text)?;
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o644))?;
    }
    let mut at = folder.as_path();
    while at.starts_with(version) {
        fs::set_permissions(at, fs::Permissions::from_mode(0o755))?;
        let Some(parent) = at.parent() else { break };
        at = parent;
    }
    Ok(())
}

/// Gives a whole tree to a user, where one is named.
fn own(dir: &Path, uid: Option<u32>) -> io::Result<()> {
    let Some(uid) = uid else { return Ok(()) };
    let mut left: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        std::os::unix::fs::lchown(&path, Some(uid), Some(uid))?;
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// The hidden command: `ours`, `fault NAME`, `root`, `pause`, `record ACT STEP ARCHIVE|- ARGS…`.
pub(crate) fn ask(node: &Node, argv: &[String]) -> u8 {
    let word = |at: usize| argv.get(at).map(String::as_str).unwrap_or_default();
    match word(1) {
        "fault" => match node.fault(word(2)) {
            Some(value) => {
                say(value);
                0
            }
            None => 1,
        },
        "ours" => {
            say("ours\n");
            0
        }
        "root" => u8::from(!(rustix::process::geteuid().is_root() || node.pretend_root)),
        "pause" => {
            if let Some(seconds) = node.number("amv-slow", 60.0) {
                std::thread::sleep(node.real(seconds));
            }
            0
        }
        "record" => {
            if content::ensure(node).is_err() {
                return 1;
            }
            let (step, rc) = match word(3).split_once(':') {
                Some((step, rc)) => (step, rc.parse().ok()),
                None => (word(3), None),
            };
            let args = argv.get(5..).unwrap_or_default().to_vec();
            let record = Record { args, rc, ..Record::new(node, "amv", word(2), step, &run_id()) };
            if word(4) == "-" { record } else { record.archive(Path::new(word(4))) }.put(node);
            0
        }
        _ => 64,
    }
}

/// Which run of the script this belongs to.
pub(crate) fn run_id() -> String {
    std::env::var("AMV_RUN").unwrap_or_default()
}
