//! What the targets share: a file of the fuzzer's own, on a file system in memory where there is one.
#![allow(dead_code)]
use std::path::{Path, PathBuf};

/// The folder for this process's files.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = base.join(format!("ferry-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder of the fuzzer's own");
        folder
    })
}

/// Writes `bytes` to the file `name` in it.
pub(crate) fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("a file of the fuzzer's own");
    path
}
