//! A file for each host with what came of it, as `ansible --tree` writes it.
//!
//! What lives here: those files. What does not: what is shown meanwhile (`exec`).

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::Sink;
use super::ansible::dump;
use crate::event::{Event, Seen, Window};

/// A window whose thread writes into `folder`, which is made where it is missing. The files are for their owner alone.
///
/// # Errors
/// The folder cannot be made, or the system gives no further thread.
pub fn open(folder: &Path) -> std::io::Result<(Window, JoinHandle<()>)> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (folder, window) = (folder.to_owned(), Window::patient());
    let seen = window.clone();
    let thread = std::thread::Builder::new().name("tree".to_owned()).spawn(move || {
        loop {
            match seen.next(Duration::from_secs(3600)) {
                Seen::Event(event) => {
                    let Event::TaskEnded { host, result: Value::Object(result), .. } = &event.event else { continue };
                    let path = folder.join(host);
                    let file =
                        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
                    if let Err(error) = file.and_then(|mut file| file.write_all(dump(result, false).as_bytes())) {
                        Sink::stderr().put(&format!("[WARNING]: {} cannot be written: {error}\n", path.display()));
                    }
                }
                Seen::Skipped(_) | Seen::Quiet => {}
                Seen::End => return,
            }
        }
    })?;
    Ok((window, thread))
}
