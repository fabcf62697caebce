//! The same archive, where it is kept in volumes or encrypted.
//!
//! The stream is the same as for any other; what differs is the thread that writes (`volume`). A cut of the connection
//! changes nothing: this thread waits. After a crash of ferry the volumes that are whole are gone on with, read again
//! through the same hash and walk; in the clear also the one that was being written. Where nothing here opens them, the
//! archive is fetched anew.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::slab::Pool;
use super::{Far, Order, PIECE, Pipe, Source, Trouble, gmac, hash, local, note_path, taking, thread, walk_pieces};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::volume::{self, Journal, Keep, Left, Reader, Volume, Writer};

/// The archive's name, by the name of the file it is received into.
pub(super) fn archive_name(destination: &Path) -> String {
    let name = destination.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.strip_suffix(".part").map(str::to_owned).unwrap_or(name)
}

/// Opens the volumes: going on where the journal names the same file, from nothing else.
pub(super) async fn begin(
    pull: &Order,
    keep: &Keep,
    seen: Source,
    here: &mut Option<Pipe>,
    far: &Far,
) -> Result<u64, Trouble> {
    let archive = archive_name(&pull.destination);
    let source = serde_json::to_value(seen).map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    let failed = |error: &std::io::Error| local("could not write the volumes of", &pull.destination, error);
    let looked = {
        let (part, archive, source, keep) = (pull.destination.clone(), archive.clone(), source.clone(), keep.clone());
        tokio::task::spawn_blocking(move || Journal::go_on(&part, &archive, &source, &keep)).await
    };
    let left = looked.map_err(|error| Failure::new(Kind::Bug, error.to_string()))?.map_err(|error| failed(&error))?;
    let _ = std::fs::remove_file(note_path(&pull.destination));
    let present = left.plain_bytes();
    let folder = pull.destination.parent().unwrap_or(Path::new("/"));
    let mut all = left.volumes.clone();
    // Nothing says what the last of them should be: the walk and the digests of the whole do.
    all.extend(left.begun.iter().map(|(file, bytes)| Volume {
        file: file.clone(),
        bytes: *bytes,
        sha256: Sha256::of(b""),
        plain_bytes: *bytes,
    }));
    let mut again = Reader::new(folder, &all, keep.recipients.is_some(), keep.identities.clone());
    let pipe = here.insert(start(pull, keep, &archive, source, seen.bytes, left, &far.key)?);
    far.resumed_at.store(present, Ordering::Release);
    while pipe.received < present {
        let mut slab = pipe.slab();
        let length = slab.room().len().min(usize::try_from(present - pipe.received).unwrap_or(usize::MAX));
        let room = slab.room().get_mut(..length).unwrap_or_default();
        again.read_exact(room).map_err(|error| local("could not read", &pull.destination, &error))?;
        slab.holds(length);
        pipe.give(slab.freeze()).await?;
        far.here.store(pipe.received, Ordering::Relaxed);
    }
    Ok(pipe.received)
}

fn start(
    pull: &Order,
    keep: &Keep,
    archive: &str,
    source: serde_json::Value,
    total: u64,
    left: Left,
    key: &gmac::Key,
) -> Result<Pipe, Failure> {
    let (steps, asked) = std::sync::mpsc::channel();
    let present = left.plain_bytes();
    let path = pull.destination.clone();
    let again = path.clone();
    let writer = Writer::begin(&path, archive, source, keep, left, Some(total), steps)
        .map_err(|error| local("could not write", &path, &error))?;
    let (to_hasher, hasher) = taking("ferry-hash", hash)?;
    let key = key.clone();
    let (to_writer, writer) = taking("ferry-write", move |pieces| {
        write(writer, present, total, &key, pieces)
            .map_err(|error| local("could not write the volumes of", &path, &error))
    })?;
    let rereader = thread("ferry-reread", move || {
        volume::prove(&asked).map_err(|error| local("could not read back", &again, &error))
    })?;
    let required = pull.required.clone();
    let (to_walker, walker) = taking("ferry-walk", move |pieces| walk_pieces(pieces, required))?;
    Ok(Pipe {
        received: 0,
        pool: Pool::new(PIECE),
        to_hasher,
        to_writer,
        to_walker,
        hasher,
        writer,
        rereader,
        walker: Some(walker),
    })
}

/// Writes what no volume has yet. The last volume is closed only behind the last byte: a stream that ended
/// before leaves it to the next attempt.
fn write(
    mut to: Writer,
    present: u64,
    total: u64,
    key: &gmac::Key,
    mut pieces: mpsc::Receiver<Bytes>,
) -> std::io::Result<gmac::Share> {
    let mut at = 0;
    let mut whole = gmac::Running::new(key);
    while let Some(piece) = pieces.blocking_recv() {
        let skip = usize::try_from(present.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len());
        to.write_all(piece.get(skip..).unwrap_or_default())?;
        whole.update(&piece)?;
        at += piece.len() as u64;
    }
    if at == total {
        to.finish()?;
    }
    Ok(whole.share()?)
}
