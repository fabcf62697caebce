//! The customer's NFS export: the files that Gravity's backup does not hold.
//!
//! What lives here: the tar stream that comes from the export and goes into one, what the tools there say, what can
//! and cannot be kept with the tar that is there, and the look at a directory before anything is put into it. What does
//! not: when a backup is due and where the archive is kept (modules, catalog), the proof that an archive is whole
//! (archive).
//!
//! A live export changes while it is read. tar says which files did; they are listed and kept with the point, and
//! the archive is whole all the same. A stream that breaks begins anew: there is nothing on the node to go on from.
//!
//! The tar stream is compressed here, not there: the server has other work to do.

mod put;
mod save;

pub use put::{Into, Place, Put, look, put};
pub use save::{Export, Saved, save, save_kept};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Kind};
use crate::remote::quote;

/// Which tar a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tar {
    /// GNU tar with ACLs and extended attributes.
    GnuFull,
    /// GNU tar that knows neither ACLs nor extended attributes.
    Gnu,
    /// busybox: owners, modes, times and links, nothing else.
    Busybox,
}

impl Tar {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "gnu+" => Self::GnuFull,
            "gnu" => Self::Gnu,
            "busybox" => Self::Busybox,
            _ => return None,
        })
    }

    /// What this tar does not keep, each a word for people.
    pub fn loses(self) -> &'static [&'static str] {
        match self {
            Self::GnuFull => &[],
            Self::Gnu => &["ACLs", "extended attributes"],
            Self::Busybox => &["ACLs", "extended attributes", "holes of sparse files"],
        }
    }
}

/// POSIX sh that leaves the kind of tar in `t` and the options for attributes in `x`; `t` is empty without a tar.
const WHICH: &str = r#"
LC_ALL=C; export LC_ALL
set -f
t=; x=
if command -v tar >/dev/null 2>&1; then
  case $(tar --version 2>&1 </dev/null | head -n 2) in
    *'GNU tar'*)
      t=gnu
      if tar --acls --xattrs '--xattrs-include=*' -c -f /dev/null -T /dev/null >/dev/null 2>&1 </dev/null; then
        t=gnu+; x='--acls --xattrs --xattrs-include=*'
      fi ;;
    *[Bb]usy[Bb]ox*) t=busybox ;;
  esac
fi
"#;

fn word(text: &str) -> Result<String, Failure> {
    quote(text).map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()).saw(format!("{text:?}")))
}

/// A directory as it may stand in the inventory and in options: absolute, below the root, without `..`.
///
/// # Errors
/// [`Kind::CouldNotStart`].
pub fn directory(name: &str, path: &str) -> Result<String, Failure> {
    let path = path.trim_end_matches('/');
    let fits = path.starts_with('/')
        && path.len() > 1
        && !path.chars().any(char::is_control)
        && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
    if fits {
        return Ok(path.to_owned());
    }
    Err(Failure::new(Kind::CouldNotStart, format!("{name} is no absolute path below /"))
        .saw(format!("{path:?}"))
        .mend(format!("set {name} to the directory itself, such as /srv/nfs")))
}

fn no_tar(host: &str, word: &str) -> Failure {
    Failure::new(Kind::Failed, "there is no tar on the NFS host that ferry knows")
        .on(host)
        .saw(if word.is_empty() { "no tar".to_owned() } else { word.to_owned() })
        .why("files with owners, links and attributes travel as a tar stream")
        .mend("install GNU tar there; busybox will do for plain files")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_absolute_and_plain() {
        assert_eq!(directory("x", "/srv/nfs/").unwrap(), "/srv/nfs");
        for bad in ["", "/", "srv", "/srv/../etc", "/srv//x", "/srv/./x", "/srv\n/x"] {
            assert_eq!(directory("x", bad).unwrap_err().kind, Kind::CouldNotStart, "{bad:?}");
        }
    }
}
