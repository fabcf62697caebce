//! Reading the operator's text files.
//!
//! What lives here: one function that reads a file with a limit and says plainly what is wrong with
//! it. What does not: what stands in the file.

use std::io::Read as _;
use std::path::Path;

use crate::failure::{Failure, Kind, Place};

/// The longest file that is read as text, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

/// The text of the file at `path`.
///
/// # Errors
/// [`Kind::CouldNotStart`]: it cannot be read, is no regular file, is longer than 16 MiB, or is not
/// UTF-8 (with the place of the first wrong byte).
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| {
        Failure::new(Kind::CouldNotStart, format!("{name} cannot be read"))
            .saw(error.to_string())
            .mend("check that it is there and that you may read it")
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(Failure::new(Kind::CouldNotStart, format!("{name} is not a regular file"))
            .mend("name a file of text, not a folder or a device"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(Failure::new(Kind::CouldNotStart, format!("{name} is longer than 16 MiB"))
            .why("settings, inventories and playbooks are much shorter; this is likely another file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..good).unwrap_or_default()).into_owned();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Failure::new(Kind::CouldNotStart, "this is not text in UTF-8")
            .at(Place { file: name, line, column })
            .mend("save the file as UTF-8")
    })
}
