//! An archive's bytes into volumes.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use super::{Head, Keep, Left, Line, Volume, file_name};
use crate::digest::{Hasher, Sha256};
use crate::vault::age::Sealing;

/// After so many bytes a volume is flushed, and read back behind the writer.
const PART: u64 = 64 << 20;
/// Size of the pieces that are read back, in bytes.
const PIECE: usize = 256 << 10;

/// A volume's file so far: what is flushed is read back while more is written.
#[derive(Debug)]
pub struct Step {
    file: Arc<File>,
    upto: u64,
    /// At the volume's end: its digest as written.
    end: Option<Sha256>,
}

/// Reads back what was flushed, in the order of the steps; where the disk gives other bytes than were written, how many
/// bytes of all volumes had been read by then.
///
/// # Errors
/// The disk's own.
pub fn prove(steps: &Receiver<Step>) -> io::Result<Option<u64>> {
    use std::os::unix::fs::FileExt as _;
    let (mut hasher, mut before, mut differs) = (Hasher::new(), 0, None);
    let mut buffer = vec![0; PIECE];
    while let Ok(step) = steps.recv() {
        if let Some(length) = std::num::NonZeroU64::new(step.upto.saturating_sub(hasher.bytes())) {
            let _ = rustix::fs::fadvise(&*step.file, hasher.bytes(), Some(length), rustix::fs::Advice::DontNeed);
        }
        while hasher.bytes() < step.upto {
            let most = usize::try_from(step.upto - hasher.bytes()).unwrap_or(PIECE).min(PIECE);
            let count = step.file.read_at(buffer.get_mut(..most).unwrap_or_default(), hasher.bytes())?;
            if count == 0 {
                break;
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
        if let Some(end) = step.end {
            before += step.upto;
            if std::mem::take(&mut hasher).finish() != end && differs.is_none() {
                differs = Some(before);
            }
        }
    }
    Ok(differs)
}

/// A file that hashes what goes into it, and is flushed part by part.
struct Flushed {
    file: Arc<File>,
    hasher: Hasher,
    flushed: u64,
    steps: Sender<Step>,
}

impl Write for Flushed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = (&*self.file).write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        if self.hasher.bytes() - self.flushed >= PART {
            self.flushed = self.hasher.bytes();
            self.file.sync_data()?;
            let _ = self.steps.send(Step { file: Arc::clone(&self.file), upto: self.flushed, end: None });
        }
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Out {
    Plain(io::BufWriter<Flushed>),
    Sealed(Box<Sealing<io::BufWriter<Flushed>>>),
}

struct Current {
    out: Out,
    name: String,
    part: PathBuf,
    plain: u64,
}

/// Opens the volume that an earlier attempt was writing in the clear, behind its last byte: what it holds is hashed again,
/// and read back with the rest.
fn go_on(folder: &Path, name: &str, bytes: u64, steps: &Sender<Step>) -> io::Result<Current> {
    let part = folder.join(name);
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(&part, flags, rustix::fs::Mode::empty())?);
    file.set_len(bytes)?;
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let file = Flushed { file: Arc::new(file), hasher, flushed: 0, steps: steps.clone() };
    let name = name.strip_suffix(".part").unwrap_or(name).to_owned();
    Ok(Current { out: Out::Plain(io::BufWriter::with_capacity(PIECE, file)), name, part, plain: bytes })
}

/// Writes an archive into volumes. What was written counts from [`Writer::finish`] on; a volume counts for a later attempt
/// from its line in the journal on.
pub struct Writer {
    keep: Keep,
    folder: PathBuf,
    archive: String,
    journal: File,
    done: Vec<Volume>,
    current: Option<Current>,
    /// The archive is known to fit into one volume, which has no number then.
    single: bool,
    /// It may turn out to fit into one: the number is taken off at the end.
    open_end: bool,
    steps: Sender<Step>,
}

impl Writer {
    /// Begins, behind what an earlier attempt left. `part` is the file of the journal; `archive` the
    /// archive's name; `source` which file the bytes are from, for the next attempt; `total` how many bytes there will be.
    ///
    /// # Errors
    /// The disk's own.
    pub fn begin(
        part: &Path,
        archive: &str,
        source: serde_json::Value,
        keep: &Keep,
        left: Left,
        total: Option<u64>,
        steps: Sender<Step>,
    ) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut journal = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(part)?;
        // In the clear, the name that it would have until it is whole is the journal's own.
        let single = keep.recipients.is_some() && total.is_some_and(|total| total <= keep.volume_size);
        let head = Head { source, encryption: keep.encryption(), volume_size: keep.volume_size };
        let mut text = line(&Line::Volumes(head))?;
        for volume in &left.volumes {
            text.push_str(&line(&Line::Volume(volume.clone()))?);
        }
        journal.write_all(text.as_bytes())?;
        journal.sync_all()?;
        let folder = part.parent().unwrap_or(Path::new(".")).to_owned();
        let current = left.begun.map(|(name, bytes)| go_on(&folder, &name, bytes, &steps)).transpose()?;
        Ok(Self {
            keep: keep.clone(),
            folder,
            archive: archive.to_owned(),
            journal,
            done: left.volumes,
            current,
            single,
            open_end: !single && total.is_none_or(|total| total <= keep.volume_size),
            steps,
        })
    }

    fn open(&mut self) -> io::Result<Current> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let number = (!self.single).then_some(self.done.len() + 1);
        if number.is_some_and(|number| number > 999_999) {
            return Err(io::Error::other("there are more volumes than names: volume_size is too small"));
        }
        let name = file_name(&self.archive, number, self.keep.recipients.is_some());
        let part = self.folder.join(format!("{name}.part"));
        // Never through a name that somebody else put there.
        let _ = std::fs::remove_file(&part);
        let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&part)?;
        let file = Flushed { file: Arc::new(file), hasher: Hasher::new(), flushed: 0, steps: self.steps.clone() };
        let file = io::BufWriter::with_capacity(PIECE, file);
        let out = match &self.keep.recipients {
            Some(recipients) => Out::Sealed(Box::new(recipients.seal(file)?)),
            None => Out::Plain(file),
        };
        Ok(Current { out, name, part, plain: 0 })
    }

    /// The volume is full, or the last: flushed, named, noted.
    fn close(&mut self, current: Current) -> io::Result<()> {
        let buffered = match current.out {
            Out::Plain(file) => file,
            Out::Sealed(sealed) => sealed.finish()?,
        };
        let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.file.sync_all()?;
        let (bytes, sha256) = (file.hasher.bytes(), file.hasher.finish());
        let _ = self.steps.send(Step { file: file.file, upto: bytes, end: Some(sha256) });
        std::fs::rename(&current.part, self.folder.join(&current.name))?;
        File::open(&self.folder)?.sync_all()?;
        let volume = Volume { file: current.name, bytes, sha256, plain_bytes: current.plain };
        self.note(&Line::Volume(volume.clone()))?;
        self.done.push(volume);
        Ok(())
    }

    fn note(&mut self, what: &Line) -> io::Result<()> {
        self.journal.write_all(line(what)?.as_bytes())?;
        self.journal.sync_all()
    }

    /// All bytes were written: the last volume is closed. Returns all volumes in order.
    ///
    /// # Errors
    /// The disk's own; no byte was written at all.
    pub fn finish(mut self) -> io::Result<Vec<Volume>> {
        if let Some(current) = self.current.take() {
            self.close(current)?;
        }
        if self.done.is_empty() {
            return Err(io::Error::other("an empty archive is not kept"));
        }
        let mut renamed = None;
        if self.open_end
            && let [only] = self.done.as_mut_slice()
        {
            let name = file_name(&self.archive, None, self.keep.recipients.is_some());
            std::fs::rename(self.folder.join(&only.file), self.folder.join(&name))?;
            File::open(&self.folder)?.sync_all()?;
            only.file.clone_from(&name);
            renamed = Some(name);
        }
        self.note(&Line::Over(renamed))?;
        Ok(self.done)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.open()?,
        };
        let room = usize::try_from(self.keep.volume_size - current.plain).unwrap_or(usize::MAX).min(bytes.len());
        let piece = bytes.get(..room).unwrap_or_default();
        match &mut current.out {
            Out::Plain(file) => file.write_all(piece)?,
            Out::Sealed(sealed) => sealed.write_all(piece)?,
        }
        current.plain += room as u64;
        if current.plain == self.keep.volume_size {
            self.close(current)?;
        } else {
            self.current = Some(current);
        }
        Ok(room)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn line(what: &Line) -> io::Result<String> {
    Ok(serde_json::to_string(what)? + "\n")
}
