//! `copy`: files and folders from here, texts, or files of the host itself.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha1::{Digest as _, Sha1};
use tokio::io::AsyncReadExt as _;

use super::call::Call;
use super::node::{self, GROUP, Look, MODE, OWNER, path_word, word};
use super::{Done, arg};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};
use crate::remote::{Exit, Piece};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "copy",
    "Copies files to the host",
    &[
        arg("src", ArgKind::Path, "a file or folder here; with remote_src one of the host"),
        arg("content", ArgKind::Any, "the text of the file, instead of src"),
        arg("dest", ArgKind::Path, "where it goes on the host").required(),
        arg("remote_src", ArgKind::Bool, "src is on the host").default("false"),
        arg("force", ArgKind::Bool, "replaces what differs").default("true"),
        arg("backup", ArgKind::Bool, "keeps what is replaced beside it").default("false"),
        arg("validate", ArgKind::Str, "a command that must succeed before the file is put in place; %s is the file"),
        arg("directory_mode", ArgKind::Any, "the mode of folders that are made"),
        arg("follow", ArgKind::Bool, "writes through a symbolic link").default("false"),
        arg("local_follow", ArgKind::Bool, "follows symbolic links here").default("true"),
        arg("decrypt", ArgKind::Bool, "decrypts vaulted files").default("true"),
        arg("checksum", ArgKind::Str, "the SHA-1 that the file must have"),
        arg("unsafe_writes", ArgKind::Bool, "taken and not needed: files are always replaced whole").default("false"),
        MODE,
        OWNER,
        GROUP,
    ],
)
.checks();

/// Where the bytes of a file come from.
pub(super) enum From<'a> {
    /// A file here.
    File(&'a Path),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A file of the host.
    There(&'a str),
}

/// How a file is put in place.
pub(super) struct Put<'a> {
    pub(super) force: bool,
    pub(super) backup: bool,
    pub(super) follow: bool,
    pub(super) validate: Option<&'a str>,
    /// The mode, or the one that the source has.
    pub(super) mode: Option<String>,
    /// The name that `--diff` shows for the new text.
    pub(super) name: String,
}

fn wrong(call: &Call<'_>, what: impl Into<String>) -> Failure {
    Failure::new(Kind::Failed, what).on(call.host)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn digest_of(call: &Call<'_>, from: &From<'_>) -> Result<(String, u64), Failure> {
    match from {
        From::Bytes(bytes) => Ok((hex(&Sha1::digest(bytes)), bytes.len() as u64)),
        From::File(path) => {
            let cannot = |error: std::io::Error| wrong(call, format!("{} cannot be read: {error}", path.display()));
            let mut file = tokio::fs::File::open(path).await.map_err(cannot)?;
            let (mut sha, mut size, mut buffer) = (Sha1::new(), 0, vec![0; 1 << 20]);
            loop {
                let count = file.read(&mut buffer).await.map_err(cannot)?;
                if count == 0 {
                    return Ok((hex(&sha.finalize()), size));
                }
                sha.update(buffer.get(..count).unwrap_or_default());
                size += count as u64;
            }
        }
        From::There(path) => {
            let look = node::look(call, path, true, Some("sha1")).await?;
            if !look.exists() {
                return Err(wrong(call, format!("Source {path} not found")));
            }
            let digest = look.digest.ok_or_else(|| wrong(call, format!("Source {path} not readable")))?;
            Ok((digest, look.size))
        }
    }
}

/// The script that takes a file from its input, proves it and puts it in place of another at once. Its words: temporary name's
/// folder, destination, SHA-1, mode or empty, owner, group, backup's name or empty.
const TAKE: &str = r#"umask 077
t=$(mktemp "$D/.ferry.XXXXXX") || exit 3
trap 'rm -f "$t"' EXIT
trap 'exit 9' HUP INT TERM
if [ -n "$S" ]; then cat <"$S" >"$t" || exit 3; else cat >"$t" || exit 3; fi
s=$(sha1sum <"$t" | cut -d' ' -f1)
if [ "$s" != "$C" ]; then echo "the file that arrived has another checksum ($s)" >&2; exit 5; fi
if [ -n "$M" ]; then chmod "$M" "$t" || exit 4; fi
if [ -n "$O" ]; then chown -- "$O" "$t" || exit 4; fi
if [ -n "$G" ]; then chgrp -- "$G" "$t" || exit 4; fi
"#;

/// Puts one file in place: `changed`, what was done, and the difference.
pub(super) async fn put(
    call: &Call<'_>,
    from: From<'_>,
    dest: &str,
    put: &Put<'_>,
) -> Result<(bool, Map<String, Value>, Option<Value>), Failure> {
    let (checksum, size) = digest_of(call, &from).await?;
    if let Some(wanted) = call.text("checksum").filter(|wanted| !wanted.eq_ignore_ascii_case(&checksum)) {
        return Err(wrong(call, "Copied file does not match the expected checksum. Transfer failed.")
            .saw(format!("{checksum}, not {wanted}")));
    }
    let link = node::look(call, dest, false, None).await?;
    let now = node::look(call, dest, true, Some("sha1")).await?;
    if now.is_dir() {
        return Err(wrong(call, format!("{dest} is a folder, and a file is to be put there")));
    }
    let real = if link.is_link() && put.follow && now.exists() { now.real.clone() } else { dest.to_owned() };
    let mut result = Map::new();
    result.insert("dest".into(), json!(dest));
    result.insert("checksum".into(), json!(checksum));
    let dangling = link.is_link() && !put.follow;
    let same = now.exists() && now.digest.as_deref() == Some(checksum.as_str()) && !dangling;
    if now.exists() && !put.force {
        result.extend(now.fields());
        return Ok((false, result, None));
    }
    let mut changed = false;
    let mut diff = None;
    if !same {
        changed = true;
        if call.diff {
            diff = Some(difference(call, &from, &now, dest, &put.name, size).await?);
        }
        if !call.check {
            take(call, &from, &real, &checksum, &now, put, &mut result).await?;
        }
    }
    let after = if call.check && !same { now.clone() } else { node::look(call, &real, true, None).await? };
    let dressed = if after.exists() { node::dress(call, &real, &after, put.mode.as_deref()).await? } else { false };
    if dressed && diff.is_none() && call.diff {
        diff = Some(
            json!({"before": {"path": dest, "mode": format!("{:04o}", after.mode())}, "after": {"path": dest, "mode": put.mode}}),
        );
    }
    let last = if dressed && !call.check { node::look(call, &real, true, None).await? } else { after };
    result.extend(last.fields());
    if call.check {
        result.insert("size".into(), json!(size));
    }
    Ok((changed || dressed, result, diff))
}

async fn difference(
    call: &Call<'_>,
    from: &From<'_>,
    now: &Look,
    dest: &str,
    name: &str,
    size: u64,
) -> Result<Value, Failure> {
    const MOST: u64 = 104_448;
    let before = if now.is_file() && now.size <= MOST {
        Some(read(call, dest).await?)
    } else if now.exists() {
        Some(vec![0])
    } else {
        None
    };
    let after = match from {
        From::Bytes(bytes) => bytes.to_vec(),
        _ if size > MOST => vec![0],
        From::File(path) => tokio::fs::read(path)
            .await
            .map_err(|error| wrong(call, format!("{} cannot be read: {error}", path.display())))?,
        From::There(path) => read(call, path).await?,
    };
    Ok(node::text_diff(before.as_deref(), &after, dest, name))
}

/// A short file of the host.
pub(super) async fn read(call: &Call<'_>, path: &str) -> Result<Vec<u8>, Failure> {
    Ok(node::sh(call, &format!("cat <{}\n", path_word(call, path)?)).await?.out)
}

async fn take(
    call: &Call<'_>,
    from: &From<'_>,
    dest: &str,
    checksum: &str,
    now: &Look,
    put: &Put<'_>,
    result: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let folder = node::parent(dest);
    let mode = match &put.mode {
        Some(text) => {
            let base = if now.exists() { now.mode() } else { 0o644 };
            Some(node::mode_of(text, base, false).map_err(|what| wrong(call, what))?)
        }
        None if now.exists() => Some(now.mode()),
        None => None,
    };
    let owner = call.text("owner").map(str::to_owned).or_else(|| now.exists().then(|| now.uid.to_string()));
    let group = call.text("group").map(str::to_owned).or_else(|| now.exists().then(|| now.gid.to_string()));
    // As ourselves an owner that is ours already need not be set, and a foreign one cannot.
    let keep = call.text("owner").is_none() && call.text("group").is_none();
    let mut script = String::new();
    let source = match from {
        From::There(path) => path_word(call, path)?,
        _ => "''".to_owned(),
    };
    script.push_str(&format!(
        "D={} P={} C={checksum} S={source} M={} O={} G={}\n{}",
        path_word(call, &folder)?,
        path_word(call, dest)?,
        mode.map_or_else(|| "\"$(printf '%o' $((0666 & ~$(umask))))\"".to_owned(), |mode| format!("{mode:04o}")),
        if keep { "''".to_owned() } else { word(call, &owner.clone().unwrap_or_default())? },
        if keep { "''".to_owned() } else { word(call, &group.clone().unwrap_or_default())? },
        TAKE,
    ));
    if keep && now.exists() {
        script.push_str(&format!(
            "chown {}:{} \"$t\" 2>/dev/null || :\nchmod \"$M\" \"$t\" || exit 4\n",
            now.uid, now.gid
        ));
    }
    if let Some(validate) = put.validate {
        if !validate.contains("%s") {
            return Err(wrong(call, format!("validate must contain %s: {validate}")));
        }
        let parts: Vec<&str> = validate.split("%s").collect();
        let mut line = String::new();
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                line.push_str("\"$t\"");
            }
            line.push_str(part);
        }
        script.push_str(&format!("( {line} ) >&2 </dev/null || {{ echo 'failed to validate' >&2; exit 6; }}\n"));
    }
    if put.backup && now.exists() {
        let stamp = jiff::Zoned::now().strftime("%Y-%m-%d@%H:%M:%S~").to_string();
        let name = format!("{dest}.{}.{stamp}", std::process::id());
        script.push_str(&format!("cp -p \"$P\" {} || exit 3\n", path_word(call, &name)?));
        result.insert("backup_file".into(), json!(name));
    }
    script.push_str("mv -f \"$t\" \"$P\" || exit 3\ntrap - EXIT\n");
    let mut child = call.open(&script).await?;
    let sent = send(call, from, &mut child).await;
    child.close_input().await;
    let mut err = Vec::new();
    while let Some(piece) = child.next().await {
        if let Piece::Err(bytes) = piece
            && err.len() < 64 << 10
        {
            err.extend_from_slice(&bytes);
        }
    }
    let said = String::from_utf8_lossy(&err).trim().to_owned();
    match child.exit().await {
        Exit::Code(0) => sent,
        Exit::Lost(why) => {
            Err(Failure::new(Kind::Unknown, "the connection was lost while a file was copied").on(call.host).saw(why))
        }
        other => {
            let what =
                said.lines().last().filter(|line| !line.is_empty()).map_or_else(|| other.to_string(), str::to_owned);
            if said.contains("No such file or directory") && said.contains(".ferry.") {
                return Err(wrong(call, format!("Destination directory {folder} does not exist")));
            }
            // What was said in one line is not said twice.
            Err(if said.trim() == what { wrong(call, what) } else { wrong(call, what).saw(said) })
        }
    }
}

async fn send(call: &Call<'_>, from: &From<'_>, child: &mut crate::remote::Child) -> Result<(), Failure> {
    match from {
        From::Bytes(bytes) => child.write(bytes).await,
        From::There(_) => Ok(()),
        From::File(path) => {
            let cannot = |error: std::io::Error| wrong(call, format!("{} cannot be read: {error}", path.display()));
            let mut file = tokio::fs::File::open(path).await.map_err(cannot)?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                let count = file.read(&mut buffer).await.map_err(cannot)?;
                if count == 0 {
                    return Ok(());
                }
                child.write(buffer.get(..count).unwrap_or_default()).await?;
            }
        }
    }
}

/// The files below a folder, each as a path relative to it; folders end in `/`.
fn walk(root: &Path, follow: bool) -> std::io::Result<Vec<(PathBuf, bool)>> {
    let mut out = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(here) = todo.pop() {
        let mut all: Vec<_> = std::fs::read_dir(root.join(&here))?.collect::<Result<_, _>>()?;
        all.sort_by_key(std::fs::DirEntry::file_name);
        for entry in all {
            let path = here.join(entry.file_name());
            let full = root.join(&path);
            let data = if follow { std::fs::metadata(&full)? } else { std::fs::symlink_metadata(&full)? };
            if data.is_dir() {
                out.push((path.clone(), true));
                todo.push(path);
            } else if data.is_file() {
                out.push((path, false));
            }
        }
    }
    out.sort();
    Ok(out)
}

/// Makes a folder with those above it; true where one was made.
pub(super) async fn make_folder(call: &Call<'_>, path: &str, mode: Option<&str>) -> Result<bool, Failure> {
    let now = node::look(call, path, true, None).await?;
    if now.is_dir() {
        return Ok(false);
    }
    if now.exists() {
        return Err(wrong(call, format!("{path} is there and is no folder")));
    }
    if !call.check {
        node::sh(call, &format!("mkdir -p -- {}\n", path_word(call, path)?)).await?;
        let made = node::look(call, path, true, None).await?;
        node::dress(call, path, &made, mode).await?;
    }
    Ok(true)
}

fn preserved(mode: Option<String>, path: Option<&Path>) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    match mode.as_deref() {
        Some("preserve") => path
            .and_then(|path| std::fs::metadata(path).ok())
            .map(|data| format!("{:o}", data.permissions().mode() & 0o7777)),
        _ => mode,
    }
}

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let dest = call.text("dest").unwrap_or_default().to_owned();
    let content = call.args.get("content").filter(|content| !content.is_null());
    let src = call.text("src");
    let mode = node::mode_text(call)?;
    match (src, content) {
        (Some(_), Some(_)) => return Ok(call.failed("src and content are mutually exclusive", json!({}))),
        (None, None) => return Ok(call.failed("src (or content) is required", json!({}))),
        _ => {}
    }
    if content.is_some() && dest.ends_with('/') {
        return Ok(call.failed("can not use content with a dir as dest", json!({})));
    }
    let options = |mode: Option<String>, name: String| Put {
        force: call.flag("force"),
        backup: call.flag("backup"),
        follow: call.flag("follow"),
        validate: call.text("validate"),
        mode,
        name,
    };
    if let Some(content) = content {
        let text = match content {
            Value::String(text) => text.clone(),
            Value::Object(_) | Value::Array(_) => crate::template::json_text(content),
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            other => other.to_string(),
        };
        let there = node::look(call, &dest, true, None).await?;
        if there.is_dir() {
            return Ok(call.failed("can not use content with a dir as dest", json!({})));
        }
        let (changed, result, diff) =
            put(call, From::Bytes(text.as_bytes()), &dest, &options(mode, dest.clone())).await?;
        return Ok(finish(changed, result, diff));
    }
    let src = src.unwrap_or_default();
    let there = node::look(call, &dest, true, None).await?;
    if call.flag("remote_src") {
        let source = node::look(call, src, true, None).await?;
        if !source.exists() {
            return Ok(call.failed(format!("Source {src} not found"), json!({"src": src, "dest": dest})));
        }
        let mode = if mode.as_deref() == Some("preserve") { Some(format!("{:o}", source.mode())) } else { mode };
        if source.is_dir() {
            return folder_there(call, src, &dest, &there).await;
        }
        let name = src.rsplit('/').next().unwrap_or(src);
        let target = if there.is_dir() || dest.ends_with('/') { node::joined(&dest, name) } else { dest.clone() };
        if dest.ends_with('/') && !there.exists() {
            make_folder(call, &dest, None).await?;
        }
        let (changed, mut result, diff) = put(call, From::There(src), &target, &options(mode, src.to_owned())).await?;
        result.insert("src".into(), json!(src));
        return Ok(finish(changed, result, diff));
    }
    let path = match call.search("files", src) {
        Ok(path) => path,
        Err(failure) => {
            return Ok(call.failed(format!("Could not find or access '{src}'"), json!({ "searched": failure.seen })));
        }
    };
    if !path.is_dir() {
        if call.flag("decrypt") && is_vaulted(&path) {
            let what = format!("{} is encrypted by Ansible Vault, and copy does not decrypt files yet", path.display());
            return Err(wrong(call, what)
                .mend("put the text in a variable and copy it with content, or copy it as it is with decrypt: false"));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let target = if there.is_dir() || dest.ends_with('/') { node::joined(&dest, &name) } else { dest.clone() };
        if dest.ends_with('/') && !there.exists() && make_folder(call, &dest, None).await? && call.check {
            return Ok(finish(true, [("dest".to_owned(), json!(target))].into_iter().collect(), None));
        }
        let mode = preserved(mode, Some(&path));
        let (changed, mut result, diff) =
            put(call, From::File(&path), &target, &options(mode, path.display().to_string())).await?;
        result.insert("src".into(), json!(path));
        return Ok(finish(changed, result, diff));
    }
    // A folder: `src/` means what is in it, `src` the folder itself.
    let root = if src.ends_with('/') {
        dest.clone()
    } else {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        node::joined(&dest, &name)
    };
    let folder_mode = match call.args.get("directory_mode") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => number.as_u64().map(|mode| format!("{mode:o}")),
        _ => None,
    };
    let all = walk(&path, call.flag("local_follow"))
        .map_err(|error| wrong(call, format!("{} cannot be read: {error}", path.display())))?;
    let mut changed = make_folder(call, &root, folder_mode.as_deref()).await?;
    let mut diffs = Vec::new();
    for (name, folder) in all {
        let target = node::joined(&root, &name.to_string_lossy());
        if folder {
            changed |= make_folder(call, &target, folder_mode.as_deref()).await?;
            continue;
        }
        let full = path.join(&name);
        if call.check && !node::look(call, &node::parent(&target), true, None).await?.exists() {
            changed = true;
            continue;
        }
        let mode = preserved(mode.clone(), Some(&full));
        let (one, _, diff) = put(call, From::File(&full), &target, &options(mode, full.display().to_string())).await?;
        changed |= one;
        diffs.extend(diff);
    }
    let mut result = node::look(call, &root, true, None).await?.fields();
    result.insert("dest".into(), json!(dest));
    result.insert("src".into(), json!(path));
    Ok(finish(changed, result, if diffs.is_empty() { None } else { Some(Value::Array(diffs)) }))
}

fn is_vaulted(path: &Path) -> bool {
    use std::io::Read as _;
    let mut head = [0; 15];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok()
        && head.starts_with(b"$ANSIBLE_VAULT;")
}

/// A folder of the host, copied there.
async fn folder_there(call: &Call<'_>, src: &str, dest: &str, there: &Look) -> Result<Done, Failure> {
    if there.exists() && !there.is_dir() {
        return Ok(call.failed(format!("cannot overwrite {dest}: it is no folder"), json!({})));
    }
    let name = src.trim_end_matches('/').rsplit('/').next().unwrap_or(src).to_owned();
    let root = if src.ends_with('/') { dest.to_owned() } else { node::joined(dest, &name) };
    let script = format!(
        "S={} T={}\n\
         if [ -d \"$T\" ] && d=$(cd \"$S\" && find . -type f -exec sh -c 'for f; do cmp -s \"$f\" \"$0/$f\" || {{ echo x; exit 0; }}; done' \"$(cd \"$T\" && pwd)\" {{}} +) && [ -z \"$d\" ]; then echo same; exit 0; fi\n\
         {}\necho changed\n",
        path_word(call, src.trim_end_matches('/'))?,
        path_word(call, &root)?,
        if call.check { ":" } else { "mkdir -p -- \"$T\" && cp -R \"$S\"/. \"$T\"/ || exit 3" },
    );
    let said = node::sh(call, &script).await?;
    let changed = said.text() == "changed";
    let mut result = node::look(call, &root, true, None).await?.fields();
    result.insert("dest".into(), json!(dest));
    result.insert("src".into(), json!(src));
    Ok(finish(changed, result, None))
}

fn finish(changed: bool, result: Map<String, Value>, diff: Option<Value>) -> Done {
    let done = node::done(changed, result);
    match diff {
        Some(diff) => done.with_diff(diff),
        None => done,
    }
}
