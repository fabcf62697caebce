//! A file from here to a node, through sudo: resumed at the byte, proved by the node's own digest.
//!
//! What lives here: the way of the bytes there and what proves that they arrived. What does not:
//! which file it is and what is done with it there (modules).
//!
//! The way of a byte: read and hashed here → bulk connection → `cat` of a root shell → `FILE.part` in a
//! folder that root alone can enter. The payload follows the script on the same input, and only after
//! the script has said that it is ready for it, so that no shell's read-ahead swallows any. At the end the node
//! hashes what its disk has, and only then the file gets its name.
//!
//! A connection that died may have left a `cat` behind that still writes what the node had received. It is found by
//! a word in its environment and ended before anything there is measured: two never write at once.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::straight::Far;
use crate::digest::{Hasher, Sha256};
use crate::failure::{Failure, Kind};
use crate::remote::ssh::connect::Lane;
use crate::remote::{Exit, Piece, Session, Way, quote};
use crate::secret::clean;
use crate::volume::{Reader, Stamp};

/// Size of the pieces that are read here, in bytes.
const PIECE: usize = 256 << 10;
/// So long a piece may take to be taken over by the node before the link counts as dead.
const STALL: Duration = Duration::from_secs(60);
/// The slowest disk that we wait for when the node hashes, in bytes a second.
const SLOWEST: u64 = 10 << 20;

/// What is to be delivered.
#[derive(Debug, Clone)]
pub struct Push {
    /// The host, for messages.
    pub host: String,
    /// The file here.
    pub source: PathBuf,
    /// Its size in bytes, as its manifest says.
    pub bytes: u64,
    /// Its digest, as its manifest says.
    pub sha256: Sha256,
    /// Absolute path of the file there, in a folder that is ours alone on the node: made 0700 when it is missing, refused when it
    /// is a symbolic link, belongs to another user or is writable by others.
    pub destination: String,
    /// How long ferry tries to get a lost connection back without a byte of progress.
    pub patience: Duration,
}

/// A file that was delivered, and what was proved about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Its size in bytes.
    pub bytes: u64,
    /// Equal in what was read here and in what the node read back from its file.
    pub sha256: Sha256,
    /// The tool that made the node's digest.
    pub node_digest_tool: String,
    /// How often the connection was lost on the way.
    pub cuts: u32,
    /// Bytes that were there already from an earlier attempt.
    pub resumed_at: u64,
    /// How long it took.
    pub took: Duration,
}

/// After so many bytes the digest up to there is kept, so that a resume does not read all of the file here again.
const CHECKPOINT: u64 = 64 << 20;
/// How often what the node has may turn out to be something else than what was sent.
const RESTARTS: u32 = 2;

/// What every script of ours begins with: the destination, and a digest by whatever tool there is.
const COMMON: &str = r#"
say() { printf '%s %s\n' "$M" "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }
# Is $2 a digest? Made by $1.
is() {
  case $2 in *[!0-9a-f]*) return 1 ;; esac
  [ "${#2}" -eq 64 ] && t=$1 s=$2
}
sum() {
  s=-
  if has openssl && x=$(openssl dgst -sha256 -r <"$1" 2>/dev/null) && is openssl "${x%% *}"; then return; fi
  if has sha256sum && x=$(sha256sum <"$1") && is sha256sum "${x%% *}"; then return; fi
  if has shasum && x=$(shasum -a 256 <"$1") && is shasum "${x%% *}"; then return; fi
  if has busybox && x=$(busybox sha256sum <"$1") && is busybox "${x%% *}"; then return; fi
  say notool; exit 0
}
count() { n=$(wc -c <"$1") && n=$((n + 0)); }
umask 077
d=${F%/*}
p=$F.part
# Whoever still writes for a connection that has died.
writers() {
  for one in $(grep -lF -- "FERRY_WRITES=$p|" /proc/[0-9]*/environ 2>/dev/null); do
    one=${one#/proc/}; one=${one%/environ}
    case $one in *[!0-9]* | "$$") ;; *) printf '%s ' "$one" ;; esac
  done
}
alone() {
  i=0
  while w=$(writers) && [ -n "$w" ]; do
    kill -9 $w 2>/dev/null
    i=$((i + 1))
    if [ "$i" -gt 30 ]; then say busy; exit 0; fi
    sleep 1
  done
}
"#;

const LOOK: &str = r#"
mkdir -p -m 0700 "$d" 2>/dev/null
if [ -L "$d" ]; then say folder symlink; exit 0; fi
if [ ! -d "$d" ]; then say folder missing; exit 0; fi
set -- $(stat -c '%a %u' "$d")
if [ "$2" != "$(id -u)" ]; then say folder owner "$2"; exit 0; fi
case $1 in *[2367][0-7] | *[2367]) say folder mode "$1"; exit 0 ;; esac
chmod 0700 "$d"
for one in "$F" "$p"; do
  if [ -L "$one" ] || { [ -e "$one" ] && [ ! -f "$one" ]; }; then say odd; exit 0; fi
done
# Before anything is sent: a node that cannot hash gets nothing.
sum /dev/null
alone
if [ -f "$F" ]; then
  count "$F"
  if [ "$n" = "$N" ]; then sum "$F"; say whole "$s" "$t"; exit 0; fi
  say other "$n"; exit 0
fi
b=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
n=0; s=-
if [ -f "$p" ]; then
  sync "$p" 2>/dev/null || sync
  count "$p"
  # What this ferry sent since the node started needs no reading before the end, where all of it is hashed.
  if [ "$n" -gt 0 ] && [ "$n" -le "$N" ]; then
    if [ -n "$b" ] && [ "$b" = "${B-}" ]; then s=same; else sum "$p"; fi
  fi
fi
free=$(df -Pk "$d" 2>/dev/null | awk 'NR == 2 { print $4 }')
say part "$n" "$s" "${free:--}" "${b:--}"
"#;

const STREAM: &str = r#"
if [ -L "$d" ] || [ ! -d "$d" ] || [ -L "$p" ]; then say odd; exit 3; fi
if [ "$O" = 0 ]; then
  # A new file, never one that is there.
  rm -f "$p"
  (set -C && : >"$p") || exit 4
fi
count "$p"
if [ "$n" != "$O" ]; then say moved "$n"; exit 3; fi
# It can be found before it says that it is ready.
FERRY_WRITES="$p|" sh -c 'printf "%s ready\n" "$1"; exec cat >>"$2"' sh "$M" "$p" || exit 4
count "$p"
say end "$n"
"#;

const FINISH: &str = r#"
if [ -L "$d" ] || [ -L "$p" ] || [ -L "$F" ]; then say odd; exit 0; fi
if [ ! -f "$p" ] && [ -f "$F" ]; then
  sum "$F"; say 'done' "$s" "$t"; exit 0
fi
count "$p"
if [ "$n" != "$N" ]; then say short "$n"; exit 0; fi
sync "$p" 2>/dev/null || sync
sum "$p"
if [ "$s" != "$A" ]; then rm -f "$p"; say differs "$s" "$t"; exit 0; fi
if ! chmod 0600 "$p" || ! mv -f "$p" "$F"; then say unnamed; exit 0; fi
sync "$d" 2>/dev/null || sync
say 'done' "$s" "$t"
"#;

/// What cannot be finished is not left in the way.
const DROP: &str = r#"
alone
if [ ! -L "$d" ] && [ ! -L "$p" ] && [ -f "$p" ]; then rm -f "$p"; rmdir "$d" 2>/dev/null || :; fi
say gone
"#;

fn script(mark: &str, push: &Push, sha256: Option<Sha256>, offset: u64, body: &str) -> Result<String, Failure> {
    let file = quote(&push.destination).map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()))?;
    Ok(format!(
        "M={mark}\nF={file}\nN={}\nA={}\nO={offset}\n{COMMON}{body}",
        push.bytes,
        sha256.map_or_else(|| "-".to_owned(), |digest| digest.to_string())
    ))
}

fn mark() -> String {
    format!("@@{:032x}", rand::random::<u128>())
}

/// Delivers one file. `progress` hears the count of bytes that were given to the node and the total.
///
/// # Errors
/// [`Kind::Bad`] when the file here is not what its manifest says; [`Kind::Unreachable`] when the
/// connection did not come back within the patience; [`Kind::Refused`] when the folder there is not ours alone or the node has no tool
/// for a digest; [`Kind::Failed`] when the node's disk is full.
pub async fn push(
    way: &Way,
    control: &Session,
    push: &Push,
    progress: impl FnMut(u64, u64),
) -> Result<Delivered, Failure> {
    let mut local = Local::open(push).map_err(|failure| failure.on(&push.host))?;
    push_local(way, control, push, &mut local, progress).await
}

/// As [`push`], of an archive that lies here in volumes, or encrypted; `push.source` is only its name then.
///
/// # Errors
/// As [`push`].
pub async fn push_volumes(
    way: &Way,
    control: &Session,
    push: &Push,
    volumes: Reader,
    progress: impl FnMut(u64, u64),
) -> Result<Delivered, Failure> {
    let mut local = Local::of_volumes(push, volumes).map_err(|failure| failure.on(&push.host))?;
    push_local(way, control, push, &mut local, progress).await
}

/// What lies there under the name of the file, hashed anew by the node: the digest and the tool; `None`: no whole file.
///
/// # Errors
/// As [`push`].
pub async fn look(way: &Way, control: &Session, push: &Push) -> Result<Option<(Sha256, String)>, Failure> {
    let mut asking = Asking { way, control: Some(control.clone()), push, sha256: None };
    let began = Instant::now();
    let answer = loop {
        match asking.ask(LOOK, asking.hashing()).await {
            Err(failure) if failure.again && began.elapsed() < push.patience => {
                asking.control = None;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            other => {
                break other
                    .map_err(|failure| if failure.host.is_none() { failure.on(&push.host) } else { failure })?;
            }
        }
    };
    match answer.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["whole", digest, tool] => Ok(digest.parse().ok().map(|digest| (digest, (*tool).to_owned()))),
        ["other" | "part", ..] => Ok(None),
        other => Err(asking.failed("the node's answer was not understood", &other.join(" "))),
    }
}

pub(super) async fn push_local(
    way: &Way,
    control: &Session,
    push: &Push,
    local: &mut Local,
    mut progress: impl FnMut(u64, u64),
) -> Result<Delivered, Failure> {
    let began = Instant::now();
    let parts: Vec<&str> = push.destination.split('/').skip(1).collect();
    let name_ok = push.destination.starts_with('/')
        && parts.len() >= 2
        && parts.iter().all(|part| !part.is_empty() && *part != "." && *part != "..")
        && !push.destination.chars().any(char::is_control);
    if !name_ok {
        return Err(Failure::new(Kind::CouldNotStart, "this is no place for a file on a node")
            .on(&push.host)
            .saw(clean(push.destination.as_bytes()))
            .why("expected: an absolute path without '.' and '..', in a folder of ours"));
    }
    let sha256 = local.is_known().then_some(push.sha256);
    let mut delivery = Delivery {
        node: Asking { way, control: Some(control.clone()), push, sha256 },
        push,
        local,
        cuts: 0,
        resumed_at: None,
        restarts: 0,
        most: None,
        boot: None,
        stuck: None,
    };
    let mut pause = Duration::from_millis(200);
    loop {
        let before = delivery.most;
        let failure = match delivery.attempt(&mut progress).await {
            Ok(tool) => {
                return Ok(Delivered {
                    bytes: push.bytes,
                    sha256: delivery.node.sha256.unwrap_or(push.sha256),
                    node_digest_tool: tool,
                    cuts: delivery.cuts,
                    resumed_at: delivery.resumed_at.unwrap_or(0),
                    took: began.elapsed(),
                });
            }
            Err(failure) if failure.again => failure,
            Err(failure) => {
                // What is not the archive is of no use there.
                if failure.kind == Kind::Bad && delivery.resumed_at.is_some() {
                    let _ = delivery.node.ask(DROP, Duration::from_secs(120)).await;
                }
                return Err(if failure.host.is_none() { failure.on(&push.host) } else { failure });
            }
        };
        if failure.kind == Kind::Unreachable {
            delivery.cuts += 1;
            delivery.node.control = None;
        }
        if delivery.most > before {
            pause = Duration::from_millis(200);
        }
        // What was sent is not what arrived: only what the node has counts, and it tells with the next attempt.
        if delivery.stuck.get_or_insert_with(Instant::now).elapsed() > push.patience {
            let mut failure = failure.within("deliver");
            failure.why = Some("what has arrived is kept on the node: the next attempt goes on there".to_owned());
            return Err(if failure.host.is_none() { failure.on(&push.host) } else { failure });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(15));
    }
}

/// What is delivered, a file here as a rule: read once, hashed as far as it was read, the same file at the end as at the beginning.
pub(super) struct Local {
    file: Origin,
    path: PathBuf,
    which: Vec<Stamp>,
    hasher: Hasher,
    at: u64,
    /// The hasher at each multiple of [`CHECKPOINT`].
    kept: Vec<Hasher>,
}

/// Where its bytes come from.
enum Origin {
    File(File),
    Volumes(Box<Reader>),
    /// Another node.
    Far(Box<Far>),
}

impl Origin {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Volumes(volumes) => volumes.read(buffer),
            Self::Far(_) => Err(std::io::Error::other("what comes from a node is not read here")),
        }
    }

    fn seek(&mut self, to: u64) -> std::io::Result<u64> {
        use std::io::{Seek as _, SeekFrom};
        match self {
            Self::File(file) => file.seek(SeekFrom::Start(to)),
            Self::Volumes(volumes) => volumes.seek(SeekFrom::Start(to)),
            Self::Far(far) => {
                far.seek(to);
                Ok(to)
            }
        }
    }
}

fn which(origin: &Origin) -> std::io::Result<Vec<Stamp>> {
    match origin {
        Origin::File(file) => {
            let meta = file.metadata()?;
            Ok(vec![(meta.len(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())])
        }
        Origin::Volumes(volumes) => volumes.stamps(),
        // It looks for itself.
        Origin::Far(_) => Ok(Vec::new()),
    }
}

fn local_error(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Bad, format!("the archive here cannot be read: {}", path.display())).saw(error.to_string())
}

impl Local {
    fn open(push: &Push) -> Result<Self, Failure> {
        let path = push.source.clone();
        let told = |error: std::io::Error| local_error(&path, &error);
        let meta = std::fs::symlink_metadata(&path).map_err(told)?;
        if !meta.is_file() || meta.len() != push.bytes {
            return Err(Failure::new(Kind::Bad, "the point's archive here is not what its manifest says")
                .saw(format!("{}: {} bytes instead of {}", path.display(), meta.len(), push.bytes))
                .mend("ferry points verify; take another point"));
        }
        let file = Origin::File(File::open(&path).map_err(told)?);
        let which = which(&file).map_err(told)?;
        Ok(Self { file, path, which, hasher: Hasher::new(), at: 0, kept: Vec::new() })
    }

    fn of_volumes(push: &Push, volumes: Reader) -> Result<Self, Failure> {
        let path = push.source.clone();
        let told = |error: std::io::Error| local_error(&path, &error);
        let expected: Vec<u64> = volumes.volumes().iter().map(|volume| volume.bytes).collect();
        let file = Origin::Volumes(Box::new(volumes));
        let which = which(&file).map_err(told)?;
        let seen: Vec<u64> = which.iter().map(|stamp| stamp.0).collect();
        if seen != expected {
            return Err(Failure::new(Kind::Bad, "the point's archive here is not what its manifest says")
                .saw(format!("{}: volumes of {seen:?} bytes instead of {expected:?}", path.display()))
                .mend("ferry points verify; take another point"));
        }
        Ok(Self { file, path, which, hasher: Hasher::new(), at: 0, kept: Vec::new() })
    }

    /// A file of another node, whose digest is not known before it has passed.
    pub(super) fn far(far: Far) -> Self {
        let path = PathBuf::new();
        Self {
            file: Origin::Far(Box::new(far)),
            path,
            which: Vec::new(),
            hasher: Hasher::new(),
            at: 0,
            kept: Vec::new(),
        }
    }

    /// What [`Local::far`] was given.
    pub(super) fn into_far(self) -> Option<Far> {
        match self.file {
            Origin::Far(far) => Some(*far),
            Origin::File(_) | Origin::Volumes(_) => None,
        }
    }

    /// Whether its digest is known before it was read.
    fn is_known(&self) -> bool {
        !matches!(self.file, Origin::Far(_))
    }

    /// Goes back, to the last kept digest at or before `offset`.
    fn back(&mut self, offset: u64) -> Result<(), Failure> {
        let last = usize::try_from(offset / CHECKPOINT).unwrap_or(usize::MAX).min(self.kept.len());
        self.hasher = last.checked_sub(1).and_then(|at| self.kept.get(at)).cloned().unwrap_or_default();
        self.at = self.hasher.bytes();
        self.kept.truncate(last);
        self.file.seek(self.at).map_err(|error| local_error(&self.path, &error))?;
        Ok(())
    }

    /// The next bytes, at most `most`; empty at the end.
    async fn read(&mut self, buffer: &mut [u8], most: u64) -> Result<usize, Failure> {
        // A piece ends where a digest is to be kept.
        let most = most.min(CHECKPOINT - self.at % CHECKPOINT);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        loop {
            let read = match &mut self.file {
                Origin::Far(far) => Ok(far.read(buffer).await?),
                here => here.read(buffer),
            };
            match read {
                Ok(count) => {
                    self.hasher.update(buffer.get(..count).unwrap_or_default());
                    self.at += count as u64;
                    if count > 0 && self.at.is_multiple_of(CHECKPOINT) {
                        self.kept.push(self.hasher.clone());
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(local_error(&self.path, &error)),
            }
        }
    }

    /// Reads on to `offset`; the digest up to there.
    async fn up_to(&mut self, offset: u64) -> Result<Sha256, Failure> {
        if self.at > offset {
            self.back(offset)?;
        }
        let mut buffer = vec![0; PIECE];
        while self.at < offset {
            if self.read(&mut buffer, offset - self.at).await? == 0 {
                return Err(self.changed());
            }
            tokio::task::yield_now().await;
        }
        Ok(self.hasher.clone().finish())
    }

    fn changed(&self) -> Failure {
        Failure::new(Kind::Bad, "the point's archive here is not what its manifest says: it changed while it was read")
            .saw(self.path.display().to_string())
            .why("a sealed archive never changes: something else writes there, or the disk is failing")
            .mend("ferry points verify; take another point")
    }

    /// The whole file was read, it is still the same, and its digest is the one that was promised, if one was; the digest.
    async fn proved(&mut self, push: &Push) -> Result<Sha256, Failure> {
        if let Origin::Far(far) = &mut self.file {
            let streamed = self.hasher.clone().finish();
            far.proved(streamed).await?;
            return Ok(streamed);
        }
        let now = which(&self.file).map_err(|error| local_error(&self.path, &error))?;
        if now != self.which || self.at != push.bytes {
            return Err(self.changed());
        }
        let digest = self.hasher.clone().finish();
        if digest != push.sha256 {
            return Err(Failure::new(Kind::Bad, "the point's archive here is not what its manifest says")
                .saw(format!("{}: sha256 {digest} instead of {}", self.path.display(), push.sha256))
                .why("it was damaged since it was sealed: it is not restored")
                .mend("ferry points verify; take another point"));
        }
        Ok(digest)
    }
}

/// The node that is asked.
struct Asking<'a> {
    way: &'a Way,
    control: Option<Session>,
    push: &'a Push,
    /// What the file must have there; `None` while that is not known.
    sha256: Option<Sha256>,
}

struct Delivery<'a> {
    node: Asking<'a>,
    push: &'a Push,
    local: &'a mut Local,
    cuts: u32,
    resumed_at: Option<u64>,
    restarts: u32,
    /// The most that the node was seen to have.
    most: Option<u64>,
    /// The start of the node's system that all of it was sent to; `None`: what it has must be read before it is gone on with.
    boot: Option<String>,
    /// Since when no more than that has arrived.
    stuck: Option<Instant>,
}

impl Asking<'_> {
    async fn control(&mut self) -> Result<Session, Failure> {
        if let Some(session) = &self.control {
            return Ok(session.clone());
        }
        let session = self.way.connect(Lane::Control).await?;
        self.control = Some(session.clone());
        Ok(session)
    }

    /// Asks the node; the words behind our mark.
    async fn ask(&mut self, body: &str, patience: Duration) -> Result<Vec<String>, Failure> {
        let mark = mark();
        let script = script(&mark, self.push, self.sha256, 0, body)?;
        let said = self.control().await?.run_root(&script, patience).await?;
        let text = said.text();
        let line = text.lines().rev().find_map(|line| line.strip_prefix(&mark)).map(clean_words);
        match (line, &said.exit) {
            (Some(words), _) if !words.is_empty() => Ok(words),
            (_, Exit::Lost(why)) => {
                Err(Failure::new(Kind::Unreachable, "the connection ended in the middle of an answer")
                    .saw(why.clone())
                    .again())
            }
            (_, exit) => Err(self.failed("the node could not be asked", &format!("{exit}; {}", said.err_text()))),
        }
    }

    fn failed(&self, what: &str, said: &str) -> Failure {
        let said: String = clean(said.as_bytes()).chars().take(400).collect();
        let failure = Failure::new(Kind::Failed, what.to_owned()).on(&self.push.host).saw(said.clone());
        if said.contains("No space left") || said.contains("ENOSPC") {
            return failure.why(format!("the node's disk is full: {}", self.push.destination)).mend(
                "make room there, or set pce_work_dir (AMV: pce_amv_backup_dir) to another disk, and start again",
            );
        }
        failure
    }

    fn hashing(&self) -> Duration {
        Duration::from_secs(120 + self.push.bytes / SLOWEST)
    }
}

impl Delivery<'_> {
    fn failed(&self, what: &str, said: &str) -> Failure {
        self.node.failed(what, said)
    }

    async fn attempt(&mut self, progress: &mut impl FnMut(u64, u64)) -> Result<String, Failure> {
        let push = self.push;
        let asked = Instant::now();
        let look = match &self.boot {
            Some(boot) => format!("B={boot}\n{LOOK}"),
            None => LOOK.to_owned(),
        };
        let answer = self.node.ask(&look, self.node.hashing()).await?;
        // A node that hashes is not stuck.
        self.stuck = self.stuck.and_then(|stuck| stuck.checked_add(asked.elapsed()));
        let words: Vec<&str> = answer.iter().map(String::as_str).collect();
        let refuse = |what: &str, seen: String| {
            let folder = push.destination.rsplit_once('/').map_or("", |(folder, _)| folder);
            Failure::new(Kind::Refused, what.to_owned())
                .saw(format!("{folder}: {seen}"))
                .why("what is restored from there must be what was put there")
                .mend("look at it, then remove it, or set pce_work_dir to another place")
        };
        let same = matches!(words.as_slice(), ["part", _, "same", ..]) && self.boot.is_some();
        let (offset, prefix, free) = match words.as_slice() {
            ["whole", digest, tool] if self.node.sha256.is_none() => {
                // An earlier ferry put it in place. What it is shows when the source has been read to its end.
                let (digest, tool) = ((*digest).to_owned(), (*tool).to_owned());
                self.resumed_at.get_or_insert(push.bytes);
                let streamed = self.local.up_to(push.bytes).await?;
                if streamed.to_string() != digest {
                    return Err(refuse("another file has the name already", format!("sha256 {digest}")));
                }
                self.node.sha256 = Some(self.local.proved(push).await?);
                progress(push.bytes, push.bytes);
                return Ok(tool);
            }
            ["whole", digest, tool] if self.node.sha256.is_some_and(|known| *digest == known.to_string()) => {
                self.resumed_at.get_or_insert(push.bytes);
                progress(push.bytes, push.bytes);
                return Ok((*tool).to_owned());
            }
            ["whole", digest, _] => {
                return Err(refuse("another file has the name already", format!("sha256 {digest}")));
            }
            ["other", bytes] => return Err(refuse("another file has the name already", format!("{bytes} bytes"))),
            ["notool"] => {
                return Err(Failure::new(
                    Kind::Refused,
                    "this node has no tool for sha256 (openssl, sha256sum, shasum)",
                )
                .why("nothing is restored that was not hashed on the node"));
            }
            ["odd"] => {
                return Err(refuse(
                    "something else than a file has the name",
                    "a link, a folder or a device".to_owned(),
                ));
            }
            ["folder", how @ ..] => return Err(refuse("the folder for the archive is not ours alone", how.join(" "))),
            ["busy"] => {
                return Err(Failure::new(Kind::Unreachable, "an earlier connection still writes the archive there")
                    .why("the node's disk may hang")
                    .again());
            }
            ["part", offset, digest, free, boot] => {
                let word = boot.chars().all(|c| c.is_ascii_hexdigit() || c == '-') && boot.len() > 8;
                self.boot = word.then(|| (*boot).to_owned());
                let offset = offset.parse::<u64>().unwrap_or(0);
                (offset, digest.parse::<Sha256>().ok(), free.parse::<u64>().ok())
            }
            other => return Err(self.failed("the node's answer was not understood", &other.join(" "))),
        };
        // What is there already is trusted only where it is the beginning of this very file.
        let mut free = free.map(|free| free << 10);
        let offset = match prefix {
            _ if same && offset <= push.bytes => offset,
            Some(prefix) if offset > 0 && offset <= push.bytes && self.local.up_to(offset).await? == prefix => offset,
            _ => {
                free = free.map(|free| free.saturating_add(offset));
                if offset > 0 {
                    // It may still be there when the next look comes.
                    self.boot = None;
                }
                0
            }
        };
        if self.most.is_some_and(|most| offset > most) {
            self.stuck = None;
        }
        if self.most.is_some_and(|most| offset < most) {
            // What was there is there no more, or is something else.
            self.again_from_nothing("what the node has is not what was sent to it")?;
        }
        self.most = Some(offset);
        if let Some(free) = free
            && free < push.bytes - offset
        {
            let seen = format!("{} MiB free, {} MiB to come: No space left", free >> 20, (push.bytes - offset) >> 20);
            return Err(self.failed("the node's disk has no room for the archive", &seen));
        }
        self.resumed_at.get_or_insert(offset);
        if offset < push.bytes || push.bytes == 0 {
            self.stream(offset, progress).await?;
        } else {
            self.local.up_to(offset).await?;
        }
        self.node.sha256 = Some(self.local.proved(push).await?);
        self.finish().await
    }

    fn again_from_nothing(&mut self, what: &str) -> Result<(), Failure> {
        self.restarts += 1;
        if self.restarts > RESTARTS {
            // Once or twice may be an accident.
            return Err(Failure::new(Kind::Failed, what.to_owned())
                .on(&self.push.host)
                .why("a disk or memory is failing, or somebody else writes there"));
        }
        Ok(())
    }

    async fn stream(&mut self, offset: u64, progress: &mut impl FnMut(u64, u64)) -> Result<(), Failure> {
        let push = self.push;
        self.local.up_to(offset).await?;
        let session = self.node.way.connect(Lane::Bulk).await?;
        let mark = mark();
        let mut child = session.open_root(&script(&mark, push, self.node.sha256, offset, STREAM)?).await?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let lost = |why: String| {
            Failure::new(Kind::Unreachable, "the connection was lost while the archive went").saw(why).again()
        };
        // Nothing of the payload is sent before the script reads it.
        loop {
            let piece = tokio::time::timeout(STALL, child.next()).await.map_err(|_| lost("no answer".to_owned()))?;
            match piece {
                Some(Piece::Out(bytes)) => out.extend_from_slice(&bytes),
                Some(Piece::Err(bytes)) => err.extend_from_slice(&bytes),
                None => {
                    let exit = child.exit().await;
                    return Err(match exit {
                        Exit::Lost(why) => lost(why),
                        Exit::Code(3) if String::from_utf8_lossy(&out).contains(&format!("{mark} moved ")) => {
                            lost("the part there changed between two looks".to_owned())
                        }
                        exit => {
                            let said =
                                format!("{exit}; {}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
                            self.failed("the node could not take the archive", &said)
                        }
                    });
                }
            }
            if String::from_utf8_lossy(&out).lines().any(|line| line.trim() == format!("{mark} ready")) {
                break;
            }
            if out.len() + err.len() > 64 << 10 {
                return Err(self.failed("the host said something else than it should", ""));
            }
        }
        let mut buffer = vec![0; PIECE];
        let mut broken = None;
        while self.local.at < push.bytes {
            let count = self.local.read(&mut buffer, push.bytes - self.local.at).await?;
            if count == 0 {
                return Err(self.local.changed());
            }
            let piece = buffer.get(..count).unwrap_or_default();
            match tokio::time::timeout(STALL, child.write(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    broken = Some(failure);
                    break;
                }
                Err(_) => return Err(lost(format!("nothing was taken for {} s", STALL.as_secs()))),
            }
            progress(self.local.at, push.bytes);
        }
        child.close_input().await;
        let rest = async {
            while let Some(piece) = child.next().await {
                let (kept, bytes) = match piece {
                    Piece::Out(bytes) => (&mut out, bytes),
                    Piece::Err(bytes) => (&mut err, bytes),
                };
                if kept.len() < 64 << 10 {
                    kept.extend_from_slice(&bytes);
                }
            }
            child.exit().await
        };
        // The last of it may wait for a slow disk.
        let exit = tokio::time::timeout(STALL * 2, rest).await.map_err(|_| lost("no answer".to_owned()))?;
        session.close().await;
        let said = format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
        match exit {
            Exit::Code(0) if broken.is_none() => Ok(()),
            // The input ended there before its end here: FINISH, or the next attempt, counts what arrived.
            Exit::Code(0) => Err(lost("the input ended early".to_owned())),
            Exit::Lost(why) => Err(lost(why)),
            exit => {
                // A full disk keeps nothing of it: what cannot be finished is in the way.
                if said.contains("No space left") {
                    let _ = self.node.ask(DROP, Duration::from_secs(120)).await;
                }
                Err(self.failed("the node could not write the archive", &format!("{exit}; {said}")))
            }
        }
    }

    async fn finish(&mut self) -> Result<String, Failure> {
        let Some(sha256) = self.node.sha256 else {
            return Err(Failure::new(Kind::Bug, "a file was to be put in place before its digest was known"));
        };
        let answer = self.node.ask(FINISH, self.node.hashing()).await?;
        let words: Vec<&str> = answer.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["done", digest, tool] if *digest == sha256.to_string() => Ok((*tool).to_owned()),
            ["differs", digest, tool] => {
                let what = "the node's digest is not that of the bytes that were sent";
                let seen = format!("{tool} there: {digest}; here: {sha256}");
                self.again_from_nothing(what).map_err(|failure| failure.saw(seen.clone()))?;
                // It is removed there.
                (self.most, self.boot) = (None, None);
                Err(Failure::new(Kind::Failed, what).saw(seen).again())
            }
            ["done", digest, tool] => Err(Failure::new(Kind::Refused, "another file has the name already")
                .saw(format!("{tool} there: {digest}; here: {sha256}"))),
            ["short", bytes] => Err(Failure::new(Kind::Unreachable, "not all bytes are on the node yet")
                .saw(format!("{bytes} of {}", self.push.bytes))
                .again()),
            ["notool"] => {
                Err(Failure::new(Kind::Refused, "this node has no tool for sha256 (openssl, sha256sum, shasum)"))
            }
            ["odd"] => Err(Failure::new(Kind::Refused, "the archive's place on the node was changed under our hands")),
            other => Err(self.failed("the archive could not be put in place", &other.join(" "))),
        }
    }
}

fn clean_words(text: &str) -> Vec<String> {
    text.split_whitespace().map(|word| clean(word.as_bytes())).collect()
}
