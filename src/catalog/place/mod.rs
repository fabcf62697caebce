//! The places of a catalog behind one small contract.
//!
//! What lives here: [`Place`], the kinds of it that we own, each by names and bytes: what lies there,
//! reading, putting a file there with proof, adding a line, sealing, removing. What does not: what a
//! recovery point is and in which order one is copied or deleted (`shelf`).
//!
//! A name is relative to the place's root, with `/`: `prod/20261122T041500Z-7f3a/manifest.json`. What is
//! being put there lies below [`Place::stage`] until [`Place::seal`] writes the manifest, last of all:
//! without one a reader takes nothing for a point.

mod folder;
mod object;
mod ssh;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use folder::Folder;
pub use object::{ObjectPlace, PART};
pub use ssh::SshPlace;

use super::manifest::Who;
use super::shelf::{LockNote, lock_name};
use crate::digest::{Hasher, Sha256};
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, PointId};
use crate::volume::{Fetch, Reader};

/// The largest file that is read as a whole: manifests and notes.
pub const LARGEST_SMALL: u64 = 64 << 20;

/// Bytes of a file, as they come.
pub type Stream = mpsc::Receiver<Result<Bytes, Failure>>;

/// A place where recovery points are kept. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder of this machine.
    Folder(Folder),
    /// A folder on another host.
    Ssh(Arc<SshPlace>),
    /// S3-compatible object storage.
    Object(Arc<ObjectPlace>),
}

/// A file of this machine that is put into a place, and what must arrive.
#[derive(Debug, Clone)]
pub struct Cargo<'a> {
    /// The file here.
    pub file: &'a std::path::Path,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256,
}

/// A lock that is held until it is released.
#[derive(Debug)]
#[must_use]
pub struct Held {
    lock: Option<super::lock::Lock>,
    name: Option<String>,
}

impl Held {
    /// Lets go of it.
    ///
    /// # Errors
    /// The place's own: then the lock is still there.
    pub async fn release(self, place: &Place) -> Result<(), Failure> {
        if let (Some(lock), Place::Folder(folder)) = (self.lock, place) {
            lock.remove(folder.catalog().disk());
        }
        match self.name {
            Some(name) => place.remove(&name).await,
            None => Ok(()),
        }
    }
}

/// Who listens how far a file is: bytes so far.
pub type Heard<'a> = &'a (dyn Fn(u64) + Send + Sync);

impl Place {
    /// The place as it is written in the settings.
    pub fn name(&self) -> String {
        match self {
            Self::Folder(folder) => folder.name(),
            Self::Ssh(host) => host.name(),
            Self::Object(store) => store.name(),
        }
    }

    /// Proves that it can be written: writes, reads and removes a small file.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] or [`Kind::Unreachable`].
    pub async fn probe(&self) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.probe(),
            Self::Ssh(host) => host.probe().await,
            Self::Object(store) => store.probe().await,
        }
    }

    /// The regular files below a folder (`""` for all, `prod`, `prod/ID`) with their sizes in bytes, by name,
    /// sorted. A folder that is not there has none.
    ///
    /// # Errors
    /// The place cannot be read.
    pub async fn files(&self, below: &str) -> Result<Vec<(String, u64)>, Failure> {
        match self {
            Self::Folder(folder) => folder.files(below),
            Self::Ssh(host) => host.files(below).await,
            Self::Object(store) => store.files(below).await,
        }
    }

    /// A small file as a whole; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read, or is larger than [`LARGEST_SMALL`].
    pub async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Folder(folder) => folder.read(name),
            Self::Ssh(host) => host.read(name).await,
            Self::Object(store) => store.read(name).await,
        }
    }

    /// The bytes of a file from `from` on.
    ///
    /// # Errors
    /// [`Kind::Bad`] when there is no such file; what goes wrong later comes in the stream, marked `again`
    /// where the same may succeed a moment later.
    pub async fn get(&self, name: &str, from: u64) -> Result<Stream, Failure> {
        match self {
            Self::Folder(folder) => folder.get(name, from),
            Self::Ssh(host) => host.get(name, from).await,
            Self::Object(store) => store.get(name, from).await,
        }
    }

    /// Puts a file there under its name, flushed, and proves it; what an earlier attempt left is used where it can be
    /// proved. Returns how it was proved.
    ///
    /// # Errors
    /// [`Kind::Bad`] when the file here is not what is said of it; else the place's own. Nothing bears the
    /// name then.
    pub async fn put(&self, name: &str, cargo: &Cargo<'_>, heard: Heard<'_>) -> Result<String, Failure> {
        match self {
            Self::Folder(folder) => folder.put(name, cargo, heard),
            Self::Ssh(host) => host.put(name, cargo, heard).await,
            Self::Object(store) => store.put(name, cargo, heard).await,
        }
    }

    /// Creates a small file, whole or not at all. False when there is one of this name: it is left as it is.
    ///
    /// # Errors
    /// The place's own.
    pub async fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, Failure> {
        match self {
            Self::Folder(folder) => folder.create(name, bytes),
            Self::Ssh(host) => host.create(name, bytes).await,
            Self::Object(store) => store.create(name, bytes).await,
        }
    }

    /// Adds a line to a small file, flushed; lines of several writers do not mix.
    ///
    /// # Errors
    /// The place's own; then nothing was added.
    pub async fn append(&self, name: &str, line: &str) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.append(name, line),
            Self::Ssh(host) => host.append(name, line).await,
            Self::Object(store) => store.append(name, line).await,
        }
    }

    /// Removes a file; that it is not there is fine.
    ///
    /// # Errors
    /// The place's own.
    pub async fn remove(&self, name: &str) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.remove(name),
            Self::Ssh(host) => host.remove(name).await,
            Self::Object(store) => store.remove(name).await,
        }
    }

    /// Removes a folder that has no file any more. Places without folders have nothing to do.
    ///
    /// # Errors
    /// The place's own.
    pub async fn remove_folder(&self, name: &str) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.remove_folder(name),
            Self::Ssh(host) => host.remove_folder(name).await,
            Self::Object(_) => Ok(()),
        }
    }

    /// Takes a point's lock for writing or deleting it. It is kept as a file where a place can do no better: there it
    /// outlives a ferry that dies, and is broken by name.
    ///
    /// # Errors
    /// [`Kind::Refused`] when another ferry holds it; else the place's own.
    pub async fn lock(&self, cluster: &ClusterName, id: &PointId, who: &Who, doing: &str) -> Result<Held, Failure> {
        match self {
            Self::Folder(folder) => folder.lock(cluster, id).map(|lock| Held { lock: Some(lock), name: None }),
            Self::Ssh(_) | Self::Object(_) => self.lock_by_file(cluster, id, who, doing).await,
        }
    }

    async fn lock_by_file(&self, cluster: &ClusterName, id: &PointId, who: &Who, doing: &str) -> Result<Held, Failure> {
        let name = lock_name(cluster, id);
        let note = LockNote { who: who.clone(), since: jiff::Timestamp::now(), doing: doing.to_owned() };
        let text = serde_json::to_string(&note).map_err(|error| Failure::new(Kind::Bug, error.to_string()))? + "\n";
        if self.create(&name, text.as_bytes()).await? {
            return Ok(Held { lock: None, name: Some(name) });
        }
        let there = self.read(&name).await?;
        if there.as_deref() == Some(text.as_bytes()) {
            // Ours: it was made by a first attempt whose answer was lost.
            return Ok(Held { lock: None, name: Some(name) });
        }
        let there = there.and_then(|bytes| serde_json::from_slice::<LockNote>(&bytes).ok());
        let seen =
            there.map_or_else(|| name.clone(), |note| format!("{} since {}, to {}", note.who, note.since, note.doing));
        Err(Failure::new(Kind::Refused, format!("{cluster}/{id} in {} is locked", self.name()))
            .saw(seen)
            .why("two writers would mix their bytes")
            .mend(format!("where that ferry died: ferry points break-lock {cluster}/{id} --catalog {}", self.name())))
    }

    /// What the names of a point's files begin with until it is sealed.
    pub fn stage(&self, cluster: &ClusterName, id: &PointId) -> String {
        match self {
            Self::Folder(_) | Self::Ssh(_) => format!("{cluster}/{id}.part"),
            Self::Object(_) => format!("{cluster}/{id}"),
        }
    }

    /// Writes the manifest of what lies in the stage; from then on it is a point. Flushed.
    ///
    /// # Errors
    /// [`Kind::Refused`] when there is a point of this id; else the place's own.
    pub async fn seal(&self, cluster: &ClusterName, id: &PointId, manifest: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.seal(cluster, id, manifest),
            Self::Ssh(host) => host.seal(cluster, id, manifest).await,
            Self::Object(store) => store.seal(cluster, id, manifest).await,
        }
    }

    /// Size and digest of a file, by reading what the place keeps: there where it can, else here.
    ///
    /// # Errors
    /// [`Kind::Bad`] when there is no such file; else the place's own.
    pub async fn digest(&self, name: &str) -> Result<(u64, Sha256), Failure> {
        if let Self::Ssh(host) = self
            && let Some(seen) = host.digest(name).await?
        {
            return Ok(seen);
        }
        let mut hasher = Hasher::new();
        self.each(name, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })
        .await?;
        Ok((hasher.bytes(), hasher.finish()))
    }

    /// What opens files of a folder of the place at a byte, for readers that wait: a connection that was lost is taken up at
    /// the byte by itself. It must be made, and its readers be used, inside a runtime of several threads.
    pub fn fetch(&self, folder: &str) -> Fetch {
        let (place, folder) = (self.clone(), folder.to_owned());
        let runtime = tokio::runtime::Handle::current();
        Arc::new(move |file, from| {
            let (sender, pieces) = mpsc::channel::<Result<Bytes, Failure>>(8);
            let (place, name) = (place.clone(), format!("{folder}/{file}"));
            runtime.spawn(async move {
                let (mut at, mut tries) = (from, 0);
                loop {
                    let (before, mut lost) = (at, None);
                    match place.get(&name, at).await {
                        Ok(mut stream) => {
                            while let Some(piece) = stream.recv().await {
                                match piece {
                                    Ok(bytes) => {
                                        at += bytes.len() as u64;
                                        if sender.send(Ok(bytes)).await.is_err() {
                                            return;
                                        }
                                    }
                                    Err(failure) => lost = Some(failure),
                                }
                            }
                        }
                        Err(failure) => lost = Some(failure),
                    }
                    let Some(failure) = lost else { return };
                    tries = if at > before { 0 } else { tries + 1 };
                    if !failure.again || tries > 5 {
                        let _ = sender.send(Err(failure)).await;
                        return;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(200 << tries)).await;
                }
            });
            Ok(Box::new(Fetched { pieces, piece: Bytes::new() }))
        })
    }

    /// Puts a file there that is read from somewhere else: as [`Place::put`].
    ///
    /// # Errors
    /// As [`Place::put`].
    pub async fn put_from(
        &self,
        name: &str,
        from: Reader,
        bytes: u64,
        sha256: Sha256,
        heard: Heard<'_>,
    ) -> Result<String, Failure> {
        let named = std::path::Path::new(name);
        let cargo = Cargo { file: named, bytes, sha256 };
        match self {
            Self::Folder(folder) => {
                let mut from = from;
                folder.put_reader(name, &mut from, &cargo, heard)?;
                Ok(folder::HOW.to_owned())
            }
            Self::Ssh(host) => host.put_from(name, &cargo, Some(from), heard).await,
            Self::Object(store) => {
                let mut from = from;
                store.put_reader(name, &cargo, &mut from, heard).await
            }
        }
    }

    /// Hands each piece of a file to `each`, going on at the byte where a connection was lost. Returns how many bytes
    /// there were.
    ///
    /// # Errors
    /// As [`Place::get`]; those of `each`.
    pub async fn each(
        &self,
        name: &str,
        each: &mut (dyn FnMut(&[u8]) -> Result<(), Failure> + Send),
    ) -> Result<u64, Failure> {
        let (mut done, mut tries) = (0, 0);
        loop {
            let (before, mut lost) = (done, None);
            match self.get(name, done).await {
                Ok(mut stream) => {
                    while let Some(piece) = stream.recv().await {
                        match piece {
                            Ok(bytes) => {
                                each(&bytes)?;
                                done += bytes.len() as u64;
                            }
                            Err(failure) => lost = Some(failure),
                        }
                    }
                }
                Err(failure) => lost = Some(failure),
            }
            let Some(failure) = lost else { return Ok(done) };
            tries = if done > before { 0 } else { tries + 1 };
            if !failure.again || tries > 5 {
                return Err(failure);
            }
            tokio::time::sleep(std::time::Duration::from_millis(200 << tries)).await;
        }
    }
}

/// Bytes that a task gets, for a reader that waits.
struct Fetched {
    pieces: mpsc::Receiver<Result<Bytes, Failure>>,
    piece: Bytes,
}

impl std::io::Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.piece.is_empty() {
            // Whoever reads may be a thread of the runtime: it lets the others have its tasks while it waits.
            match tokio::task::block_in_place(|| self.pieces.blocking_recv()) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(failure)) => return Err(std::io::Error::other(failure)),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        let piece = self.piece.split_to(count);
        if let Some(buffer) = buffer.get_mut(..count) {
            buffer.copy_from_slice(&piece);
        }
        Ok(count)
    }
}

/// Refuses names that would lead out of the place.
fn check_name(name: &str) -> Result<(), Failure> {
    let safe = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(['\\', '\0'])
            && !part.chars().any(char::is_control)
    };
    if name.split('/').all(safe) {
        return Ok(());
    }
    Err(Failure::new(Kind::Bad, "a name that does not stay in its place").saw(format!("{name:?}")))
}

fn missing(place: &str, name: &str) -> Failure {
    Failure::new(Kind::Bad, format!("{name} is missing in {place}")).saw("no such file")
}

fn differs(name: &str, expected: &Cargo<'_>, bytes: u64, sha256: Sha256) -> Failure {
    Failure::new(Kind::Bad, format!("{name} is not what its manifest says"))
        .saw(format!("{bytes} bytes, sha256 {sha256}"))
        .why(format!("expected {} bytes, sha256 {}", expected.bytes, expected.sha256))
        .mend("ferry points verify; take another point, or bring this one back from a copy")
}
