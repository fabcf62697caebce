//! Where the script is on a node, whether it may be trusted, and the copy that is run.
//!
//! Trust: from `<state>/site` down to every file of the script's folder, each step is a plain folder or file, no
//! symbolic link, owned by root or by Gravity's service user (the owner of `<state>/site`, by number), and
//! writable by nobody else. Above it, up to `/`, the same, except that a folder with the sticky bit may be
//! writable by others: who can write there cannot replace what is in it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::calls::{USAGE_LIMIT, Usage};
use super::{FOLDER, SCRIPT};
use crate::digest::{Hasher, Sha256};
use crate::failure::{Failure, Kind};
use crate::gravity::{redact, strip_ansi};
use crate::remote::{Exit, Said, Session, quote};
use crate::secret::clean;

/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long copying and hashing the folder may take; it holds scripts.
const COPY_LIMIT: Duration = Duration::from_secs(120);
/// More files than this are no folder of scripts.
const MOST: usize = 2000;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmvOptions {
    /// Gravity's state directory on this node.
    pub state_dir: String,
    /// The PCE version that runs, exactly.
    pub version: String,
    /// `pce_amv_backup_dir`.
    pub backup_dir: String,
    /// `ferry_node_dir`.
    pub node_dir: String,
    /// `pce_kubectl`.
    pub kubectl: String,
}

/// What was found on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AmvFacts {
    /// The inventory's name of the host.
    pub host: String,
    /// The script's folder, absolute.
    pub folder: String,
    /// Gravity's service user, by number.
    pub service_uid: u32,
    /// Everything in the folder, as `stat` told it.
    pub listing: Vec<Entry>,
    /// Whether the node has `script` of util-linux, by which a job sees a terminal.
    pub terminal: bool,
    /// Free and whole size of the disk behind the backup folder, in KiB; `None` when it could not be told.
    pub room_kib: Option<(u64, u64)>,
}

/// One step of the way, or one thing in the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Path.
    pub path: String,
    /// Mode bits with the sticky bit, octal 0 to 7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Size in bytes.
    pub bytes: u64,
    /// Last change, seconds since 1970.
    pub mtime: i64,
    /// `regular file`, `directory`, `symbolic link`, …
    pub kind: String,
}

/// A file of the tool as it was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolFile {
    /// Path below the folder.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Digest.
    pub sha256: Sha256,
}

/// The copy that is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Its folder on the node.
    pub dir: String,
    /// The script in it.
    pub script: String,
    /// Digest of the script.
    pub script_sha256: Sha256,
    /// Every file, by path.
    pub files: Vec<ToolFile>,
    /// One digest over all of them.
    pub digest: Sha256,
}

const LOOK: &str = r#"
say() { printf '\n%s %s\n' "$M" "$*"; }
one() { stat -c '%a %u %s %Y %F/%n' "$1" 2>/dev/null || printf 'gone/%s\n' "$1"; }
if command -v script >/dev/null 2>&1 && script --version 2>/dev/null | grep -q util-linux; then say script; fi
near=$D
while [ -n "$near" ] && [ ! -e "$near" ]; do near=${near%/*}; done
say disk; df -Pk "${near:-/}" 2>/dev/null | tail -n 1
say owner; stat -c %u "$S/site" 2>/dev/null
say up
p=$S
while :; do one "${p:-/}"; [ -n "$p" ] || break; p=${p%/*}; done
say down
p=$S
for step in site packages unpacked gravitational.io anypoint; do p=$p/$step; one "$p"; done
say versions
n=0; found=
for d in "$p"/* "$p"/.[!.]*; do
  [ -e "$d" ] || [ -L "$d" ] || continue
  name=${d##*/}
  case $name in
  "$V" | "$V"-* | "$V"+*) n=$((n + 1)); found=$d; printf 'fits %s\n' "$name" ;;
  *) printf 'other %s\n' "$name" ;;
  esac
done
if [ "$n" = 1 ]; then
  say inside
  p=$found; one "$p"
  for step in resources kubernetes amv-backup-restore; do p=$p/$step; one "$p"; done
  say tree
  [ -d "$p" ] && [ ! -L "$p" ] && find "$p" -exec stat -c '%a %u %s %Y %F/%n' {} +
fi
say done
"#;

fn script(head: &[(&str, &str)], body: &str) -> Result<String, Failure> {
    let mut text = String::new();
    for (name, value) in head {
        let value = quote(value).map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()))?;
        text.push_str(&format!("{name}={value}\n"));
    }
    Ok(format!("PATH=/sbin:/bin:/usr/sbin:/usr/bin:$PATH; export PATH LC_ALL=C\n{text}{body}"))
}

/// The sections of an answer, by name; a missing end is no answer.
fn sections(said: &Said, mark: &str, host: &str) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    if let Exit::Lost(why) = &said.exit {
        return Err(Failure::new(Kind::Unreachable, "the connection ended while the node was looked at")
            .on(host)
            .saw(why.clone())
            .again());
    }
    let text = String::from_utf8_lossy(&said.out).into_owned();
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix(mark).and_then(|rest| rest.strip_prefix(' ')) {
            all.entry(name.to_owned()).or_default();
            open = Some(name.to_owned());
        } else if let Some(name) = &open
            && !line.is_empty()
        {
            all.entry(name.clone()).or_default().push(line.to_owned());
        }
    }
    if all.contains_key("done") {
        return Ok(all);
    }
    let err: String = clean(redact(&strip_ansi(&said.err_text())).as_bytes()).chars().take(300).collect();
    Err(Failure::new(Kind::Failed, "the look at AMV's script was cut short")
        .on(host)
        .saw(format!("{}; {err}", said.exit)))
}

fn entry(line: &str) -> Option<Entry> {
    let (head, path) = line.split_once('/')?;
    let mut words = head.splitn(5, ' ');
    let entry = Entry {
        mode: u32::from_str_radix(words.next()?, 8).ok()?,
        uid: words.next()?.parse().ok()?,
        bytes: words.next()?.parse().ok()?,
        mtime: words.next()?.parse().ok()?,
        kind: words.next()?.to_owned(),
        path: format!("/{}", path.trim_start_matches('/')),
    };
    Some(entry)
}

fn marker() -> String {
    format!("@amv-{:032x}", rand::random::<u128>())
}

/// Looks for the script on a main node, and judges whether root may run it.
///
/// # Errors
/// [`Kind::Refused`] when a step cannot be trusted or several folders fit the version; [`Kind::Failed`] when it is not on
/// this node; [`Kind::Unreachable`].
pub async fn look(session: &Session, options: &AmvOptions) -> Result<AmvFacts, Failure> {
    let host = session.host().to_owned();
    let mark = marker();
    let state = options.state_dir.trim_end_matches('/');
    let head =
        [("M", mark.as_str()), ("S", state), ("V", options.version.as_str()), ("D", options.backup_dir.as_str())];
    let said = session.run_root(&script(&head, LOOK)?, LIMIT).await?;
    let sections = sections(&said, &mark, &host)?;
    judge(&host, state, options, &sections).map_err(|failure| failure.on(host.clone()).within("amv"))
}

fn judge(
    host: &str,
    state: &str,
    options: &AmvOptions,
    sections: &BTreeMap<String, Vec<String>>,
) -> Result<AmvFacts, Failure> {
    let lines = |name: &str| sections.get(name).map(Vec::as_slice).unwrap_or_default();
    let base = format!("{state}/site/packages/unpacked/gravitational.io/anypoint");
    let missing = |what: String| {
        Failure::new(Kind::Failed, what)
            .why("the folder is a cache of Gravity's and is not on every main node")
            .mend("another main node may have it; else: sudo gravity package unpack gravitational.io/anypoint:VERSION")
    };
    let service_uid: u32 = lines("owner")
        .first()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| missing(format!("{state}/site is not on this node")))?;
    let steps = |name: &str| {
        lines(name)
            .iter()
            .map(|line| {
                entry(line).ok_or_else(|| match line.strip_prefix("gone/") {
                    Some(path) => {
                        missing(format!("/{} is not on this node", clean(path.trim_start_matches('/').as_bytes())))
                    }
                    None => Failure::new(Kind::Refused, "a name on the way to the script cannot be read")
                        .saw(clean(line.as_bytes()).chars().take(200).collect::<String>()),
                })
            })
            .collect::<Result<Vec<Entry>, Failure>>()
    };
    for step in steps("up")? {
        trust(&step, service_uid, true)?;
    }
    for step in steps("down")? {
        trust(&step, service_uid, false)?;
    }
    let names = |word: &str| {
        lines("versions")
            .iter()
            .filter_map(|line| line.strip_prefix(word))
            .map(|name| clean(name.trim().as_bytes()))
            .collect::<Vec<_>>()
    };
    let (fits, others) = (names("fits "), names("other "));
    match fits.as_slice() {
        [_] => {}
        [] => {
            return Err(missing(format!("no unpacked package of PCE {} is on this node", options.version))
                .saw(if others.is_empty() { format!("{base} is empty") } else { others.join(", ") }));
        }
        several => {
            return Err(Failure::new(
                Kind::Refused,
                format!("{} unpacked packages fit PCE {}", several.len(), options.version),
            )
            .saw(several.join(", "))
            .why("which of them is Gravity's own cannot be told, and root would run what is in it")
            .mend(format!("look into {base}; what is not Gravity's own has to go")));
        }
    }
    for step in steps("inside")? {
        trust(&step, service_uid, false)?;
    }
    let listing = steps("tree")?;
    if listing.len() > MOST {
        return Err(Failure::new(Kind::Refused, "the script's folder holds too much to be one of scripts")
            .saw(format!("{} entries", listing.len())));
    }
    for thing in &listing {
        trust(thing, service_uid, false)?;
    }
    let folder = listing
        .first()
        .map(|first| first.path.clone())
        .ok_or_else(|| missing("the script's folder is empty".to_owned()))?;
    if !listing.iter().any(|thing| thing.path == format!("{folder}/{SCRIPT}") && thing.kind.starts_with("regular")) {
        return Err(missing(format!("{folder}/{SCRIPT} is not on this node")));
    }
    debug_assert!(folder.ends_with(FOLDER));
    let room_kib = lines("disk").first().and_then(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some((words.get(3)?.parse().ok()?, words.get(1)?.parse().ok()?))
    });
    Ok(AmvFacts {
        host: host.to_owned(),
        folder,
        service_uid,
        listing,
        terminal: sections.contains_key("script"),
        room_kib,
    })
}

fn trust(step: &Entry, service_uid: u32, above: bool) -> Result<(), Failure> {
    let path = clean(step.path.as_bytes());
    let refuse = |what: String, mend: String| {
        Err(Failure::new(Kind::Refused, what)
            .saw(format!("{path}: {}, mode {:04o}, owner {}", step.kind, step.mode, step.uid))
            .why("root would run what somebody else can write")
            .mend(mend))
    };
    let plain = step.kind == "directory" || (!above && step.kind.starts_with("regular"));
    if !plain {
        let what = format!("on the way to AMV's script stands a {}: {path}", step.kind);
        return refuse(what, format!("look at it: ls -ld {path}"));
    }
    if step.uid != 0 && step.uid != service_uid {
        let what = format!("{path} belongs neither to root nor to Gravity's service user ({service_uid})");
        return refuse(what, format!("look who user {} is; then: sudo chown {service_uid} {path}", step.uid));
    }
    let sticky = above && step.mode & 0o1000 != 0;
    if step.mode & 0o022 != 0 && !sticky {
        return refuse(
            format!("others may write to {path}"),
            format!("look at what is in it; then: sudo chmod go-w {path}"),
        );
    }
    Ok(())
}

const COPY: &str = r#"
say() { printf '\n%s %s\n' "$M" "$*"; }
no() { say "no $*"; say done; exit 0; }
sum() {
  if command -v sha256sum >/dev/null 2>&1; then s=$(sha256sum <"$1") && s=${s%% *}
  elif command -v openssl >/dev/null 2>&1; then s=$(openssl dgst -sha256 -r <"$1") && s=${s%% *}
  elif command -v shasum >/dev/null 2>&1; then s=$(shasum -a 256 <"$1") && s=${s%% *}
  else no "this node has no tool for sha256"; fi
}
# A folder that is ours alone.
own() {
  mkdir -m 0700 "$1" 2>/dev/null
  { [ -d "$1" ] && [ ! -L "$1" ]; } || no "$1 is no folder"
  set -- "$1" $(stat -c '%a %u' "$1")
  case $2 in *[2367][0-7] | *[2367]) no "others may write to $1" ;; esac
  [ "$3" = "$(id -u)" ] || no "$1 belongs to user $3"
}
umask 077
own "$B"; own "$B/amv"
mkdir -m 0700 "$T" || no "$T cannot be made"
cp -R -P "$F/." "$T/" || no "the copy could not be made"
chmod -R u+rwX,go-rwx "$T" || no "the copy's mode could not be set"
say after
find "$F" -exec stat -c '%a %u %s %Y %F/%n' {} +
say odd
find "$T" ! -type f ! -type d
say files
find "$T" -type f | while IFS= read -r f; do sum "$f"; printf '%s %s %s\n' "$s" "$(wc -c <"$f" | tr -d ' ')" "${f#"$T"/}"; done
say done
"#;

/// Copies the script's whole folder to a place that root alone can write, and hashes the copy. `id` names the
/// copy: letters, digits, dashes.
///
/// # Errors
/// [`Kind::Refused`] when the folder changed while it was copied or its place is not ours alone; [`Kind::Failed`]; [`Kind::Unreachable`].
pub async fn copy(session: &Session, facts: &AmvFacts, node_dir: &str, id: &str) -> Result<Copied, Failure> {
    let host = session.host().to_owned();
    let base = node_dir.trim_end_matches('/');
    let dir = place(base, id)?;
    let mark = marker();
    let head = [("M", mark.as_str()), ("B", base), ("T", dir.as_str()), ("F", facts.folder.as_str())];
    let said = session.run_root(&script(&head, COPY)?, COPY_LIMIT).await?;
    let sections = sections(&said, &mark, &host)?;
    if let Some(no) = sections.keys().find_map(|name| name.strip_prefix("no ")) {
        return Err(Failure::new(Kind::Refused, "AMV's script could not be copied to a place of our own")
            .on(&host)
            .saw(clean(no.as_bytes()))
            .within("amv"));
    }
    let after: Vec<Entry> = sections.get("after").into_iter().flatten().filter_map(|line| entry(line)).collect();
    if after != facts.listing {
        return Err(Failure::new(Kind::Refused, "the script's folder changed while it was copied")
            .on(&host)
            .why("what was looked at is not what would run")
            .mend("find out who writes there; then start again")
            .within("amv"));
    }
    if let Some(odd) = sections.get("odd").and_then(|odd| odd.first()) {
        return Err(Failure::new(Kind::Refused, "the copy holds what is no plain file")
            .on(&host)
            .saw(clean(odd.as_bytes()))
            .within("amv"));
    }
    let mut files: Vec<ToolFile> = Vec::new();
    for line in sections.get("files").into_iter().flatten() {
        let mut words = line.splitn(3, ' ');
        let file = (|| {
            let sha256 = words.next()?.parse().ok()?;
            let bytes = words.next()?.parse().ok()?;
            Some(ToolFile { sha256, bytes, path: clean(words.next()?.as_bytes()) })
        })();
        files.push(file.ok_or_else(|| {
            Failure::new(Kind::Failed, "a file of the copy could not be hashed")
                .on(&host)
                .saw(clean(line.as_bytes()).chars().take(200).collect::<String>())
        })?);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let wanted = facts.listing.iter().filter(|thing| thing.kind.starts_with("regular")).count();
    let script = files.iter().find(|file| file.path == SCRIPT);
    let (Some(script), true) = (script, files.len() == wanted) else {
        return Err(Failure::new(Kind::Failed, "the copy is not whole")
            .on(&host)
            .saw(format!("{} of {wanted} files", files.len()))
            .within("amv"));
    };
    let mut hasher = Hasher::new();
    for file in &files {
        hasher.update(format!("{} {} {}\n", file.sha256, file.bytes, file.path).as_bytes());
    }
    let script_sha256 = script.sha256;
    Ok(Copied { script: format!("{dir}/{SCRIPT}"), dir, script_sha256, files, digest: hasher.finish() })
}

/// Where a copy is kept.
fn place(base: &str, id: &str) -> Result<String, Failure> {
    let plain = !id.is_empty() && id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !plain || !base.starts_with('/') || base.contains("/../") {
        return Err(Failure::new(Kind::Bug, "a copy with no proper name").saw(format!("{base} {id}")));
    }
    Ok(format!("{base}/amv/{id}"))
}

/// Removes a copy by its exact form.
///
/// # Errors
/// [`Kind::Failed`], [`Kind::Unreachable`].
pub async fn forget(session: &Session, node_dir: &str, dir: &str) -> Result<(), Failure> {
    let base = node_dir.trim_end_matches('/');
    let id = dir.strip_prefix(&format!("{base}/amv/")).unwrap_or_default();
    let dir = place(base, id)?;
    let head = [("T", dir.as_str()), ("P", &format!("{base}/amv"))];
    let body = "[ -L \"$P\" ] || [ -L \"$T\" ] || rm -rf -- \"$T\"; rmdir \"$P\" 2>/dev/null; [ ! -e \"$T\" ]\n";
    let said = session.run_root(&script(&head, body)?, LIMIT).await?;
    match &said.exit {
        Exit::Lost(why) => {
            Err(Failure::new(Kind::Unreachable, "the connection ended").on(session.host()).saw(why.clone()).again())
        }
        exit if exit.ok() => Ok(()),
        _ => Err(Failure::new(Kind::Failed, "the copy of AMV's script could not be removed")
            .on(session.host())
            .saw(said.err_text())),
    }
}

/// Asks the copy which options it knows (`-h`). No answer is told as an empty [`Usage`].
///
/// # Errors
/// [`Kind::Unreachable`].
pub async fn usage(session: &Session, copied: &Copied) -> Result<Usage, Failure> {
    let mark = marker();
    let dir = copied.dir.as_str();
    let head = [("M", mark.as_str()), ("S", copied.script.as_str()), ("D", dir)];
    let body = "cd \"$D\" || exit 1\nlimit=; timeout 5 true >/dev/null 2>&1 && limit='timeout 10'\nprintf '\\n%s usage\\n' \"$M\"\n$limit env -i PATH=\"$PATH\" HOME=/root LC_ALL=C bash \"$S\" -h </dev/null 2>&1 | head -c 20000\nprintf '\\n%s done\\n' \"$M\"\n";
    let said = session.run_root(&script(&head, body)?, USAGE_LIMIT).await?;
    let sections = sections(&said, &mark, session.host())?;
    Ok(Usage::read(sections.get("usage").map(|lines| lines.join("\n")).unwrap_or_default().as_bytes()))
}

/// What changed between two versions of the tool, one sentence each.
pub fn changes(old: &[ToolFile], new: &[ToolFile]) -> Vec<String> {
    let find = |all: &[ToolFile], path: &str| all.iter().find(|file| file.path == path).map(|file| file.sha256);
    let mut changes: Vec<String> = new
        .iter()
        .filter_map(|file| match find(old, &file.path) {
            None => Some(format!("{} is new", file.path)),
            Some(before) if before != file.sha256 => {
                Some(format!("{} is another than before ({before} then, {} now)", file.path, file.sha256))
            }
            Some(_) => None,
        })
        .collect();
    changes
        .extend(old.iter().filter(|file| find(new, &file.path).is_none()).map(|file| format!("{} is gone", file.path)));
    changes
}
