//! `fetch`: a file of the host, brought here as it streams, whatever its size.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;
use sha1::{Digest as _, Sha1};

use super::call::Call;
use super::{Done, arg, node};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};
use crate::remote::{Exit, Piece};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "fetch",
    "Brings a file of the host here",
    &[
        arg("src", ArgKind::Path, "the file on the host").required(),
        arg("dest", ArgKind::Path, "the folder here: DEST/HOST/SRC; with flat the file itself").required(),
        arg("flat", ArgKind::Bool, "no folders by host and path").default("false"),
        arg("fail_on_missing", ArgKind::Bool, "fails where the file is not there").default("true"),
        arg("validate_checksum", ArgKind::Bool, "compares the digests of both ends").default("true"),
    ],
)
.checks();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let src = call.text("src").unwrap_or_default();
    let dest = call.text("dest").unwrap_or_default();
    let wrong = |what: String| Failure::new(Kind::Failed, what).on(call.host);
    let look = node::look(call, src, true, Some("sha1")).await?;
    let missing = if !look.exists() {
        Some("the remote file does not exist")
    } else if look.is_dir() {
        Some("remote file is a directory, fetch cannot work on directories")
    } else if !look.may.0 {
        Some("the remote file is not readable")
    } else {
        None
    };
    if let Some(what) = missing {
        let result = json!({"file": src, "msg": format!("{what}, not transferring"), "changed": false});
        return Ok(if call.flag("fail_on_missing") {
            call.failed(format!("{what}, not transferring"), result)
        } else {
            Done::ok(format!("{what}, not transferring, ignored"), result)
        });
    }
    let expand = |text: &str| match (text.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => text.to_owned(),
    };
    let base = call.base().join(expand(dest));
    let target: PathBuf = if call.flag("flat") {
        if dest.ends_with('/') {
            base.join(src.rsplit('/').next().unwrap_or(src))
        } else if base.is_dir() {
            return Ok(call.failed(
                "dest is an existing directory, use a trailing slash if you want to fetch src into that directory",
                json!({"file": src}),
            ));
        } else {
            base
        }
    } else {
        // Neither the host's name nor a path of it may lead out of the folder.
        let inside = src
            .split('/')
            .filter(|part| !part.is_empty() && *part != "." && *part != "..")
            .collect::<Vec<_>>()
            .join("/");
        let host = call.host.replace('/', "_");
        if host == ".." || host == "." {
            return Err(wrong(format!("the host's name {host} cannot be the name of a folder")));
        }
        base.join(host).join(inside.replace('~', "_"))
    };
    let digest = look.digest.clone().unwrap_or_default();
    let (known, before) = match std::fs::File::open(&target) {
        Ok(mut file) => {
            let mut sha = Sha1::new();
            std::io::copy(&mut file, &mut Hashing(&mut sha))
                .map_err(|error| wrong(format!("{} cannot be read: {error}", target.display())))?;
            (Some(hex(&sha.finalize())), true)
        }
        Err(_) => (None, false),
    };
    let same = before && known.as_deref() == Some(digest.as_str());
    let result = |changed: bool, sum: &str| json!({"changed": changed, "file": src, "dest": target, "checksum": sum, "remote_checksum": digest, "md5sum": Value::Null, "remote_md5sum": Value::Null});
    use serde_json::Value;
    if same {
        return Ok(Done::ok(String::new(), result(false, &digest)));
    }
    if call.check {
        return Ok(Done::changed(String::new(), result(true, &digest)));
    }
    let folder = target.parent().map(PathBuf::from).unwrap_or_default();
    let cannot = |error: std::io::Error| wrong(format!("{} cannot be written: {error}", target.display()));
    std::fs::create_dir_all(&folder).map_err(cannot)?;
    let part = folder.join(format!(
        ".{}.{:08x}.part",
        target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        rand::random::<u32>()
    ));
    let sum = match receive(call, src, &part).await {
        Ok(sum) => sum,
        Err(failure) => {
            let _ = std::fs::remove_file(&part);
            return Err(failure);
        }
    };
    if call.flag("validate_checksum") && !digest.is_empty() && sum != digest {
        let _ = std::fs::remove_file(&part);
        return Ok(call.failed(
            "checksum mismatch",
            json!({"file": src, "dest": target, "checksum": sum, "remote_checksum": digest}),
        ));
    }
    std::fs::rename(&part, &target).map_err(cannot)?;
    Ok(Done::changed(String::new(), result(true, &sum)))
}

struct Hashing<'a>(&'a mut Sha1);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Streams the file into `part` and gives its SHA-1.
async fn receive(call: &Call<'_>, src: &str, part: &std::path::Path) -> Result<String, Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let wrong = |what: String| Failure::new(Kind::Failed, what).on(call.host);
    let cannot = |error: std::io::Error| wrong(format!("{} cannot be written: {error}", part.display()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(part).map_err(cannot)?;
    let mut child = call.open(&format!("exec cat <{}\n", node::path_word(call, src)?)).await?;
    child.close_input().await;
    let mut sha = Sha1::new();
    let mut err = Vec::new();
    while let Some(piece) = child.next().await {
        match piece {
            Piece::Out(bytes) => {
                sha.update(&bytes);
                file.write_all(&bytes).map_err(cannot)?;
            }
            Piece::Err(bytes) if err.len() < 16 << 10 => err.extend_from_slice(&bytes),
            Piece::Err(_) => {}
        }
    }
    match child.exit().await {
        Exit::Code(0) => {
            file.sync_all().map_err(cannot)?;
            Ok(hex(&sha.finalize()))
        }
        Exit::Lost(why) => {
            Err(Failure::new(Kind::Unknown, "the connection was lost while a file was fetched").on(call.host).saw(why))
        }
        other => Err(wrong(format!("the host could not read {src}: {other}"))
            .saw(String::from_utf8_lossy(&err).trim().to_owned())),
    }
}
