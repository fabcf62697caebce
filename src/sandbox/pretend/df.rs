//! The pretend `df`: disks as a node of a PCE cluster has them, whatever this machine's are.
//!
//! A sandbox lies on the disk of a laptop, which may be nearly full; the gates of a backup would
//! then speak of the laptop. So a node has two disks of its own: one for Gravity's state directory
//! and one for everything else, each with a fault that says its size and room. Nothing is
//! reserved: what is really written still goes to the real disk.

use std::path::{Path, PathBuf};

use super::{Node, say, say_err};

/// Size and room in MiB when no fault says otherwise: the disks that the vendor asks for.
const GRAVITY: (u64, u64) = (256_000, 160_000);
const ROOT: (u64, u64) = (51_200, 30_000);

/// `SIZE:FREE` in MiB.
fn figures(node: &Node, fault: &str, usual: (u64, u64)) -> (u64, u64) {
    let given = node.fault(fault).and_then(|text| {
        let (size, free) = text.split_once(':')?;
        Some((size.parse().ok()?, free.parse().ok()?))
    });
    given.unwrap_or(usual)
}

/// Runs `df [-Pk] [PATH…]`.
pub(crate) fn run(node: Option<&Node>, argv: &[String]) -> u8 {
    let Some(node) = node else {
        say_err("df: cannot read table of mounted file systems\n");
        return 1;
    };
    let paths: Vec<PathBuf> = argv.iter().filter(|word| !word.starts_with('-')).map(PathBuf::from).collect();
    let disks = [
        ("/dev/sdb1", node.state_dir.clone(), figures(node, "disk", GRAVITY)),
        ("/dev/sda1", PathBuf::from("/"), figures(node, "other-disk", ROOT)),
    ];
    let mut rows = Vec::new();
    let mut code = 0;
    for path in if paths.is_empty() { vec![node.state_dir.clone(), PathBuf::from("/")] } else { paths } {
        if !Path::new(&path).exists() {
            say_err(format!("df: {}: No such file or directory\n", path.display()));
            code = 1;
            continue;
        }
        let Some((device, mount, (size, free))) = disks.iter().find(|(_, mount, _)| path.starts_with(mount)) else {
            continue;
        };
        let used = size.saturating_sub(*free);
        let percent = (used * 100).div_ceil((*size).max(1));
        rows.push(format!(
            "{device:<15} {:>13} {:>9} {:>9} {percent:>7}% {}\n",
            size << 10,
            used << 10,
            free << 10,
            mount.display()
        ));
    }
    if !rows.is_empty() {
        say(format!("Filesystem     1024-blocks      Used Available Capacity Mounted on\n{}", rows.concat()));
    }
    code
}
