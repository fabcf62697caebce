//! From the export into an archive here.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::mpsc;

use super::{Tar, WHICH, no_tar, word};
use crate::archive::{Fault, Limits, Walk, Walker, walk_file};
use crate::digest::{Hasher, Sha256};
use crate::failure::{Failure, Kind};
use crate::remote::ssh::connect::Lane;
use crate::remote::{Exit, Piece, Way};
use crate::secret::clean;
use crate::volume::{self, Keep, Left};

/// What is saved.
#[derive(Debug, Clone)]
pub struct Export {
    /// The host, for messages.
    pub host: String,
    /// The exported directory, absolute.
    pub dir: String,
    /// Patterns of tar for what is left out.
    pub exclude: Vec<String>,
}

/// What was saved.
#[derive(Debug, Clone)]
pub struct Saved {
    /// Size of the compressed archive, in bytes.
    pub bytes: u64,
    /// Its digest, equal in the stream and read back from the disk.
    pub sha256: Sha256,
    /// What the walk found.
    pub walk: Walk,
    /// Which tar made it.
    pub tar: Tar,
    /// Files that changed, shrank or went away while they were read, as tar names them; at most a thousand.
    pub changed: Vec<String>,
    /// How many there were in all.
    pub changed_count: u64,
    /// What tar left out and why: sockets, other file systems.
    pub remarks: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// How many names of changed files are kept.
const MOST_NAMES: usize = 1000;
/// What of the stream is held back, in bytes: the line that ends it is found in there.
const HELD: usize = 96;
/// How long the host may send nothing: a directory of many millions of files is read in silence.
const SILENCE: Duration = Duration::from_secs(900);
/// How many pieces may wait for the disk.
const WAITING: usize = 64;

fn script(export: &Export, mark: &str) -> Result<String, Failure> {
    let mut exclude = String::new();
    for pattern in &export.exclude {
        exclude.push_str(&format!(" {}", word(&format!("--exclude={pattern}"))?));
    }
    Ok(format!(
        "m={mark}; d={dir}\n{WHICH}\n\
         if [ -L \"$d\" ] || [ ! -d \"$d\" ] || ! cd \"$d\"; then printf '%s MISSING\\n' \"$m\"; exit 3; fi\n\
         printf '%s GO %s\\n' \"$m\" \"$t\"\n\
         case $t in\n\
         gnu*) tar --create --file=- --format=posix --one-file-system --numeric-owner --sparse $x{exclude} . </dev/null; r=$? ;;\n\
         busybox) find . -xdev | tar -c -f - --no-recursion{exclude} -T -; r=$? ;;\n\
         *) r=127 ;;\n\
         esac\n\
         printf '\\n%s END %s\\n' \"$m\" \"$r\"\n",
        dir = word(&export.dir)?,
    ))
}

/// Counts and hashes what goes to the disk.
struct Counted {
    file: io::BufWriter<std::fs::File>,
    hasher: Hasher,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What is written into volumes: counted, hashed and walked on its way, since nothing here may open them again.
struct Walked {
    to: volume::Writer,
    hasher: Hasher,
    walker: Walker,
}

impl Write for Walked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write_all(bytes)?;
        self.hasher.update(bytes);
        // Its first fault is told again at the end.
        let _ = self.walker.feed(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was written, as far as it is known without reading it again.
struct Written {
    sha256: Sha256,
    bytes: u64,
    /// Kept in volumes: what the walk said, and whether the disk gave the same back.
    walked: Option<(Result<Walk, Fault>, bool)>,
}

/// Compresses all that comes into volumes. They count only when the stream ended well: `whole` says so afterwards.
fn compress_kept(
    path: &Path,
    keep: &Keep,
    mut pieces: mpsc::Receiver<BytesMut>,
    whole: &AtomicBool,
) -> io::Result<Written> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let archive = name.strip_suffix(".part").unwrap_or(&name);
    let (steps, asked) = std::sync::mpsc::channel();
    let to = volume::Writer::begin(path, archive, serde_json::Value::Null, keep, Left::default(), None, steps)?;
    std::thread::scope(|scope| {
        let proving = scope.spawn(move || volume::prove(&asked));
        let walked = Walked { to, hasher: Hasher::new(), walker: Walker::new(Limits::default(), Vec::new()) };
        let mut gzip = GzEncoder::new(walked, Compression::new(3));
        while let Some(piece) = pieces.blocking_recv() {
            gzip.write_all(&piece)?;
        }
        let Walked { to, hasher, walker } = gzip.finish()?;
        let bytes = hasher.bytes();
        if whole.load(Ordering::SeqCst) {
            to.finish()?;
        } else {
            drop(to);
        }
        let same = proving.join().map_err(|_| io::Error::other("a thread panicked"))??.is_none();
        Ok(Written { sha256: hasher.finish(), bytes, walked: Some((walker.finish(), same)) })
    })
}

/// Compresses and writes all that comes; digest and size of what was written.
fn compress(path: &Path, mut pieces: mpsc::Receiver<BytesMut>) -> io::Result<(Sha256, u64)> {
    let file = std::fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    let counted = Counted { file: io::BufWriter::with_capacity(1 << 20, file), hasher: Hasher::new(), bytes: 0 };
    let mut gzip = GzEncoder::new(counted, Compression::new(3));
    while let Some(piece) = pieces.blocking_recv() {
        gzip.write_all(&piece)?;
    }
    let mut counted = gzip.finish()?;
    counted.flush()?;
    counted.file.get_ref().sync_all()?;
    Ok((counted.hasher.finish(), counted.bytes))
}

fn local(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(Kind::Failed, format!("could not write {}", path.display())).saw(error.to_string());
    if error.kind() == io::ErrorKind::StorageFull {
        failure.why("the catalog's disk is full").mend("free space there and start again")
    } else {
        failure
    }
}

/// What tar said, line by line.
#[derive(Default)]
struct Complaints {
    changed: Vec<String>,
    changed_count: u64,
    remarks: Vec<String>,
    other: Vec<String>,
}

impl Complaints {
    fn line(&mut self, line: &str) {
        let line = clean(line.as_bytes());
        let text = line.strip_prefix("tar: ").unwrap_or(&line);
        if text.is_empty() || text.starts_with("Exiting with failure status") {
            return;
        }
        let changes = [
            "file changed as we read it",
            "File removed before we read it",
            "File shrank by",
            "Cannot stat: No such file",
            "file is the archive",
        ];
        let ignored = ["socket ignored", "file is on a different filesystem", "door ignored", "Removing leading"];
        if changes.iter().any(|words| text.contains(words)) {
            self.changed_count += 1;
            if self.changed.len() < MOST_NAMES {
                self.changed.push(text.to_owned());
            }
        } else if ignored.iter().any(|words| text.contains(words)) {
            if self.remarks.len() < MOST_NAMES {
                self.remarks.push(text.to_owned());
            }
        } else if self.other.len() < 50 {
            self.other.push(text.to_owned());
        }
    }
}

/// Saves the export into `destination`, an empty file that is there. `progress` hears the bytes of the tar stream.
///
/// # Errors
/// [`Kind::Unreachable`] (again) when the connection was lost: what is in the destination is of no use then;
/// [`Kind::Failed`] when tar failed, or what arrived is no whole archive, or the disk here is full.
pub async fn save(way: &Way, export: &Export, destination: &Path, progress: impl FnMut(u64)) -> Result<Saved, Failure> {
    save_kept(way, export, destination, None, progress).await
}

/// As [`save`]; with `keep` the archive goes into volumes beside the destination, which holds their journal then
/// ([`crate::volume::Journal`]).
///
/// # Errors
/// As [`save`].
pub async fn save_kept(
    way: &Way,
    export: &Export,
    destination: &Path,
    keep: Option<&Keep>,
    mut progress: impl FnMut(u64),
) -> Result<Saved, Failure> {
    let began = Instant::now();
    let session = way.connect(Lane::Bulk).await?;
    let mark = format!("@@{:032x}", rand::random::<u128>());
    let mut child = session.open_root(&script(export, &mark)?).await?;
    child.close_input().await;
    let (sender, receiver) = mpsc::channel(WAITING);
    let path: PathBuf = destination.to_owned();
    let whole = Arc::new(AtomicBool::new(false));
    let (keep, ended) = (keep.cloned(), Arc::clone(&whole));
    let writer = tokio::task::spawn_blocking(move || match keep {
        Some(keep) => compress_kept(&path, &keep, receiver, &ended),
        None => compress(&path, receiver).map(|(sha256, bytes)| Written { sha256, bytes, walked: None }),
    });
    let (mut pending, mut head, mut tar, mut received) = (BytesMut::new(), None, None, 0_u64);
    let (mut said, mut rest) = (Complaints::default(), Vec::new());
    let mut closed = false;
    loop {
        let piece = match tokio::time::timeout(SILENCE, child.next()).await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(_) => {
                return Err(Failure::new(Kind::Unreachable, "the NFS host sends nothing any more")
                    .on(&export.host)
                    .saw(format!("nothing for {} s", SILENCE.as_secs()))
                    .again());
            }
        };
        match piece {
            Piece::Err(bytes) => {
                rest.extend_from_slice(&bytes);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    said.line(String::from_utf8_lossy(&line).trim_end());
                }
                // A host that sends no line end is not gathered for ever.
                if rest.len() > 64 << 10 {
                    rest.clear();
                }
            }
            Piece::Out(bytes) => {
                pending.extend_from_slice(&bytes);
                if head.is_none() {
                    let Some(end) = pending.iter().position(|byte| *byte == b'\n') else { continue };
                    let line = pending.split_to(end + 1);
                    let line = String::from_utf8_lossy(&line).trim().to_owned();
                    let words = line.strip_prefix(&mark).unwrap_or_default().trim().to_owned();
                    tar = words.strip_prefix("GO").map(str::trim).and_then(Tar::parse);
                    if tar.is_none() {
                        head = Some(words);
                        break;
                    }
                    head = Some(words);
                }
                if pending.len() > HELD {
                    let ready = pending.split_to(pending.len() - HELD);
                    received += ready.len() as u64;
                    progress(received);
                    if sender.send(ready).await.is_err() {
                        closed = true;
                        break;
                    }
                }
            }
        }
    }
    if let (Some(head), None) = (&head, &tar) {
        return Err(match head.as_str() {
            "MISSING" => Failure::new(Kind::Failed, "the exported directory is not there")
                .on(&export.host)
                .saw(export.dir.clone())
                .mend("set pce_nfs_export to the directory itself, not to a link"),
            other => no_tar(&export.host, other.strip_prefix("GO").unwrap_or(other).trim()),
        });
    }
    let exit = if closed { Exit::Code(0) } else { child.exit().await };
    let ending = format!("\n{mark} END ");
    let at = pending.windows(ending.len()).position(|window| window == ending.as_bytes());
    let code = at.and_then(|at| {
        let text = pending.get(at + ending.len()..).unwrap_or_default();
        String::from_utf8_lossy(text).trim().parse::<i32>().ok()
    });
    if let Some(at) = at {
        pending.truncate(at);
        received += pending.len() as u64;
        progress(received);
        let _ = sender.send(pending).await;
    }
    // What tar says of its end decides whether there is an archive at all.
    whole.store(code.is_some_and(|code| code == 0 || code == 1), Ordering::SeqCst);
    drop(sender);
    let written = writer.await.map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    let Written { sha256, bytes, walked } = written.map_err(|error| local(destination, &error))?;
    said.line(String::from_utf8_lossy(&rest).trim());
    let (Some(code), Some(tar)) = (code, tar) else {
        let failure = Failure::new(Kind::Unreachable, "the tar stream broke off").on(&export.host);
        let seen = if said.other.is_empty() { exit.to_string() } else { format!("{exit}; {}", said.other.join("; ")) };
        return Err(failure
            .saw(seen)
            .why("a tar stream of a live directory cannot be gone on with: it begins anew")
            .again());
    };
    // 1 is tar's code for files that changed; everything else that is not 0 means that something is missing.
    if code > 1 || (code == 1 && said.changed_count == 0) || !said.other.is_empty() {
        return Err(Failure::new(Kind::Failed, "tar could not save the whole export")
            .on(&export.host)
            .saw(format!("exit code {code}; {}", said.other.join("; ")))
            .why("what tar could not read is not in the archive")
            .mend("mend it there, or leave it out: name it in pce_nfs_exclude"));
    }
    let path = destination.to_owned();
    let (walk, same) = match walked {
        Some(walked) => walked,
        None => {
            let read = tokio::task::spawn_blocking(move || walk_file(&path, Limits::default(), Vec::new()));
            let (read_back, _, walk) = read
                .await
                .map_err(|error| Failure::new(Kind::Bug, error.to_string()))?
                .map_err(|error| local(destination, &error))?;
            (walk, read_back == sha256)
        }
    };
    if !same {
        return Err(Failure::new(Kind::Failed, "what was read back from the disk here is not what was written")
            .saw(format!("written: {sha256}"))
            .why("the disk or memory of this machine is failing"));
    }
    let walk = walk.map_err(|fault| {
        Failure::new(Kind::Failed, "what tar sent is no whole archive")
            .on(&export.host)
            .saw(fault.to_string())
            .why("a sudo that mixes tar's messages into its output would do that")
    })?;
    Ok(Saved {
        bytes,
        sha256,
        walk,
        tar,
        changed: said.changed,
        changed_count: said.changed_count,
        remarks: said.remarks,
        took: began.elapsed(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tar_says_is_sorted() {
        let mut said = Complaints::default();
        for line in [
            "tar: ./a: file changed as we read it",
            "tar: ./b: File removed before we read it",
            "tar: ./s: socket ignored",
            "tar: ./m: file is on a different filesystem; not dumped",
            "tar: ./x: Cannot open: Permission denied",
            "tar: Exiting with failure status due to previous errors",
            "",
        ] {
            said.line(line);
        }
        assert_eq!((said.changed_count, said.remarks.len(), said.other.len()), (2, 2, 1));
        assert!(said.other.iter().all(|line| line.contains("Permission denied")));
    }
}
