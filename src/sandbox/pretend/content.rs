//! What a pretend cluster holds: the state that a backup saves and a restore replaces.
//!
//! What lives here: the files of Gravity's side (`content/`: configuration, secrets, databases,
//! object store) and of AMV's (`amv/`: InfluxDB's databases), made from the cluster's identity, so
//! that no two clusters hold the same and one cluster always begins with the same; their digests.
//! What does not: who copies them to and fro (hook, influx).
//!
//! A cluster has one state, whichever of its nodes is asked: it lies in the folder that they share.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::record::Hashing;
use super::{Node, replace};

/// Gravity's side, in the folder that the nodes of a cluster share.
pub const CONTENT: &str = "content";
/// AMV's side.
pub const AMV: &str = "amv";

/// The ending of what a backup adds so that its archive has the size that was asked for. It is
/// nobody's state, and a restore leaves it out.
pub(crate) const BULK: &str = ".bulk";

/// What Gravity's side holds in the beginning: path, bytes of state, parts of a hundred of the
/// archive that are added as bulk, and whether that bulk compresses.
pub(crate) const FILES: &[(&str, usize, u64, bool)] = &[
    ("config/cluster-config.yaml", 2000, 0, true),
    ("config/disclaimer.html", 1137, 0, true),
    ("config/smtp.json", 700, 0, true),
    ("databases/cassandra/snapshot.sstable", 6000, 10, false),
    ("databases/postgres/authentication.sql", 9000, 25, true),
    ("databases/postgres/exchange.dump", 9000, 15, false),
    ("objectstore/assets-0001.blob", 5000, 25, false),
    ("objectstore/assets-0002.blob", 5000, 25, false),
    ("secrets/platform-secrets.json", 1500, 0, true),
];

/// What AMV holds in the beginning: database, retention policies with their duration, measurements,
/// and how many series each has.
const INFLUX: &[(&str, &[(&str, &str)], &[(&str, usize)])] = &[
    ("_internal", &[("monitor", "168h0m0s")], &[("cluster", 1), ("database", 3), ("shard", 4)]),
    (
        "dias",
        &[("autogen", "0s"), ("one_hour", "1h0m0s")],
        &[("app_inbound_metric", 12), ("app_outbound_metric", 9), ("jvm_metric", 6)],
    ),
    ("telegraf", &[("autogen", "720h0m0s")], &[("cpu", 8), ("disk", 5), ("mem", 4), ("net", 7)]),
];

/// A number that only this cluster, this file and this row have.
fn mix(seed: &str, path: &str, row: usize) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64 ^ row as u64;
    for byte in seed.bytes().chain([0]).chain(path.bytes()) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state ^= state >> 29;
    state.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (state >> 32)
}

fn state(node: &Node, path: &str, bytes: usize) -> String {
    let mut text = format!("# {path} of {}\n", node.cluster);
    let mut row = 0;
    while text.len() < bytes {
        text.push_str(&format!("{row} {:016x}\n", mix(&node.kube_system_uid, path, row)));
        row += 1;
    }
    text
}

fn gravity(node: &Node, dir: &Path) -> io::Result<()> {
    for (path, bytes, ..) in FILES {
        put(&dir.join(path), state(node, path, *bytes).as_bytes())?;
    }
    Ok(())
}

fn influx(node: &Node, dir: &Path) -> io::Result<()> {
    let seed = &node.kube_system_uid;
    let hash = mix(seed, "meta", 0);
    let meta =
        format!("{{\"cluster\":\"{}\",\"users\":[{{\"name\":\"dias\",\"hash\":\"{hash:016x}\"}}]}}\n", node.cluster);
    put(&dir.join("meta/users.json"), meta.as_bytes())?;
    for (database, policies, measurements) in INFLUX {
        let lines: String = policies.iter().map(|(name, keep)| format!("{name} {keep}\n")).collect();
        put(&dir.join("databases").join(database).join("retention-policies"), lines.as_bytes())?;
        for (name, series) in *measurements {
            let path = format!("{database}/{name}");
            let lines: String = (0..*series)
                .map(|row| format!("{name},host={}-{row} value={}i\n", node.cluster, mix(seed, &path, row) % 1_000_000))
                .collect();
            put(&dir.join("databases").join(database).join("measurements").join(name), lines.as_bytes())?;
        }
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes)
}

/// Makes what a cluster holds where there is nothing yet; what a restore emptied stays empty.
///
/// # Errors
/// A file cannot be written.
pub fn ensure(node: &Node) -> io::Result<()> {
    let make = |name: &str, fill: &dyn Fn(&Path) -> io::Result<()>| {
        let dir = node.shared.join(name);
        if dir.is_dir() {
            return Ok(());
        }
        // Several commands may meet here for the first time: one of them wins, whole.
        let part = node.shared.join(format!(".{name}.{:08x}", rand::random::<u32>()));
        fill(&part)?;
        if fs::rename(&part, &dir).is_err() {
            fs::remove_dir_all(&part)?;
        }
        Ok(())
    };
    make(CONTENT, &|dir| gravity(node, dir))?;
    if node.amv { make(AMV, &|dir| influx(node, dir)) } else { Ok(()) }
}

/// All files below `dir`: relative path → path, sorted.
pub(crate) fn files(dir: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut left = vec![(dir.to_owned(), String::new())];
    while let Some((at, prefix)) = left.pop() {
        let entries = match fs::read_dir(&at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                left.push((entry.path(), format!("{name}/")));
            } else {
                found.insert(name, entry.path());
            }
        }
    }
    Ok(found)
}

/// What a folder holds: relative path → sha256 of the file in hex. A missing folder holds nothing.
///
/// # Errors
/// A file cannot be read.
pub fn digests(dir: &Path) -> io::Result<BTreeMap<String, String>> {
    let digest = |path: &Path| -> io::Result<String> {
        let mut hasher = Hashing::default();
        io::copy(&mut fs::File::open(path)?, &mut hasher)?;
        Ok(hasher.hex())
    };
    files(dir)?.into_iter().map(|(name, path)| Ok((name, digest(&path)?))).collect()
}

/// Changes the file `what` of a folder (or adds it), so that its digest is one that it never had.
///
/// # Errors
/// It cannot be written.
pub fn change(dir: &Path, what: &str) -> io::Result<()> {
    let path = dir.join(what);
    let mut bytes = fs::read(&path).unwrap_or_default();
    bytes.extend_from_slice(format!("changed {:032x}\n", rand::random::<u128>()).as_bytes());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    replace(&path, &bytes)
}
