//! Volumes as the one stream that they were.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::fs::{Mode, OFlags};

use super::Volume;
use crate::digest::{Hasher, Sha256};
use crate::vault::age::{Identities, Locked, Opening};

/// Why a volume's bytes cannot be had, inside an [`io::Error`]: see [`Wrong::of`].
#[derive(Debug, thiserror::Error)]
#[error("{file}: {why}")]
pub struct Wrong {
    /// Its file.
    pub file: String,
    /// Why it stays locked, or what is wrong with it.
    pub why: Locked,
}

impl Wrong {
    /// What an error says, when it is about a volume that does not open.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

fn wrong(file: &str, why: Locked) -> io::Error {
    io::Error::other(Wrong { file: file.to_owned(), why })
}

/// Size, inode, modification and change time of a file.
pub type Stamp = (u64, u64, i64, i64, i64, i64);

/// Opens a file of an archive that lies in another place, at a byte: its name, the byte.
pub type Fetch = Arc<dyn Fn(&str, u64) -> io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// A file that lies in another place: what is sought is opened anew there.
pub(super) struct Away {
    fetch: Fetch,
    file: String,
    bytes: u64,
    at: u64,
    stream: Option<Box<dyn Read + Send>>,
}

impl Read for Away {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert((self.fetch)(&self.file, self.at)?),
        };
        let count = stream.read(buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Away {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let to = to.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the beginning"))?;
        if to != self.at {
            self.stream = None;
            self.at = to;
        }
        Ok(to)
    }
}

/// A file, wherever it lies.
pub(super) enum Source {
    Here(File),
    Away(Away),
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Here(file) => file.read(buffer),
            Self::Away(file) => file.read(buffer),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Here(file) => file.seek(to),
            Self::Away(file) => file.seek(to),
        }
    }
}

/// A volume's file that is read.
pub(super) enum Open {
    Plain(Source),
    Sealed(Box<Opening<Source>>),
}

fn plain_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

pub(super) fn open_file(path: &Path, identities: Option<&Identities>, encrypted: bool) -> io::Result<Open> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let file = plain_file(path).map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    open_source(&name, Source::Here(file), identities, encrypted)
}

fn open_source(name: &str, source: Source, identities: Option<&Identities>, encrypted: bool) -> io::Result<Open> {
    if !encrypted {
        return Ok(Open::Plain(source));
    }
    let Some(identities) = identities else { return Err(wrong(name, Locked::NoIdentity)) };
    identities.open(source).map(|opened| Open::Sealed(Box::new(opened))).map_err(|why| wrong(name, why))
}

/// Size and digest of a file.
pub(super) fn digest(path: &Path) -> io::Result<(u64, Sha256)> {
    let mut file = plain_file(path)?;
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.bytes(), hasher.finish())),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

enum Lies {
    Here(PathBuf),
    Away(Fetch),
}

/// The archive that lies in volumes of a folder, here or in another place. Seeking goes from the start only.
pub struct Reader {
    lies: Lies,
    volumes: Vec<Volume>,
    encrypted: bool,
    identities: Option<Arc<Identities>>,
    /// Where in the archive the next byte is read.
    at: u64,
    current: Option<(usize, Open)>,
}

impl Reader {
    /// A reader that stands at the first byte. Nothing is opened yet.
    pub fn new(folder: &Path, volumes: &[Volume], encrypted: bool, identities: Option<Arc<Identities>>) -> Self {
        Self::of(Lies::Here(folder.to_owned()), volumes, encrypted, identities)
    }

    /// The same of files that `fetch` gets from another place.
    pub fn away(fetch: Fetch, volumes: &[Volume], encrypted: bool, identities: Option<Arc<Identities>>) -> Self {
        Self::of(Lies::Away(fetch), volumes, encrypted, identities)
    }

    fn of(lies: Lies, volumes: &[Volume], encrypted: bool, identities: Option<Arc<Identities>>) -> Self {
        Self { lies, volumes: volumes.to_vec(), encrypted, identities, at: 0, current: None }
    }

    fn open(&self, volume: &Volume) -> io::Result<Open> {
        let identities = self.identities.as_deref();
        match &self.lies {
            Lies::Here(folder) => open_file(&folder.join(&volume.file), identities, self.encrypted),
            Lies::Away(fetch) => {
                let file = volume.file.clone();
                let away = Away { fetch: Arc::clone(fetch), file, bytes: volume.bytes, at: 0, stream: None };
                open_source(&volume.file, Source::Away(away), identities, self.encrypted)
            }
        }
    }

    /// The volume that holds byte `at`, and how many bytes of the archive stand before it.
    fn which(&self, at: u64) -> Option<(usize, u64, Volume)> {
        let mut before = 0;
        for (number, volume) in self.volumes.iter().enumerate() {
            if at < before + volume.plain_bytes {
                return Some((number, before, volume.clone()));
            }
            before += volume.plain_bytes;
        }
        None
    }

    /// Which files these are now: size, inode and times of each, to see whether they were changed meanwhile. Of files in
    /// another place only the size that they should have is known: their digest tells the rest.
    ///
    /// # Errors
    /// One of them cannot be looked at.
    pub fn stamps(&self) -> io::Result<Vec<Stamp>> {
        use std::os::unix::fs::MetadataExt as _;
        let stamp = |volume: &Volume| {
            let Lies::Here(folder) = &self.lies else { return Ok((volume.bytes, 0, 0, 0, 0, 0)) };
            let meta = std::fs::symlink_metadata(folder.join(&volume.file))
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", volume.file)))?;
            Ok((meta.len(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()))
        };
        self.volumes.iter().map(stamp).collect()
    }

    /// The volumes that it reads.
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    fn told(&self, number: usize, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::Interrupted || Wrong::of(&error).is_some() {
            return error;
        }
        let file = self.volumes.get(number).map(|volume| volume.file.as_str()).unwrap_or_default();
        if self.encrypted && matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) {
            let what = if error.kind() == io::ErrorKind::UnexpectedEof { "is cut" } else { "was changed" };
            return wrong(file, Locked::Damaged(format!("the encrypted stream {what}: {error}")));
        }
        io::Error::new(error.kind(), format!("{file}: {error}"))
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some((number, before, volume)) = self.which(self.at) else {
            // The last volume's own end is part of what is proved.
            let Some((number, mut open)) = self.current.take() else { return Ok(0) };
            return match read_of(&mut open, &mut [0; 1]).map_err(|error| self.told(number, error))? {
                0 => Ok(0),
                _ => Err(self
                    .told(number, io::Error::new(io::ErrorKind::InvalidData, "it holds more than its manifest says"))),
            };
        };
        let left = before + volume.plain_bytes - self.at;
        let within = self.at - before;
        if self.current.as_ref().is_none_or(|(open, _)| *open != number) {
            if let Some((last, mut open)) = self.current.take()
                && last + 1 == number
                && within == 0
                && read_of(&mut open, &mut [0; 1]).map_err(|error| self.told(last, error))? > 0
            {
                let more = io::Error::new(io::ErrorKind::InvalidData, "it holds more than its manifest says");
                return Err(self.told(last, more));
            }
            let mut open = self.open(&volume)?;
            if within > 0 {
                let moved = match &mut open {
                    Open::Plain(file) => file.seek(SeekFrom::Start(within)),
                    Open::Sealed(file) => file.seek(SeekFrom::Start(within)),
                };
                moved.map_err(|error| self.told(number, error))?;
            }
            self.current = Some((number, open));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some((_, open)) = &mut self.current else { return Ok(0) };
        let count = read_of(open, buffer.get_mut(..most).unwrap_or_default());
        match count.map_err(|error| self.told(number, error))? {
            0 => Err(self.told(
                number,
                io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("it holds {within} bytes, fewer than its manifest says"),
                ),
            )),
            count => {
                self.at += count as u64;
                Ok(count)
            }
        }
    }
}

fn read_of(open: &mut Open, buffer: &mut [u8]) -> io::Result<usize> {
    match open {
        Open::Plain(file) => file.read(buffer),
        Open::Sealed(file) => file.read(buffer),
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(to) = to else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "volumes are sought from their start"));
        };
        self.current = None;
        self.at = to;
        Ok(to)
    }
}

/// Opens an encrypted volume whose bytes are handed in piece by piece, on a thread of its own. `T` hears the archive's
/// bytes, and is given back.
pub struct Feed<T> {
    sender: Option<SyncSender<Vec<u8>>>,
    thread: std::thread::JoinHandle<(T, Result<u64, Locked>)>,
}

struct Pieces {
    from: Receiver<Vec<u8>>,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.from.recv() {
                Ok(piece) => self.piece = io::Cursor::new(piece),
                Err(_) => return Ok(0),
            }
        }
    }
}

impl<T: Send + 'static> Feed<T> {
    /// Begins a volume.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn begin(identities: Arc<Identities>, mut hearer: T, hear: fn(&mut T, &[u8])) -> io::Result<Self> {
        let (sender, from) = sync_channel(8);
        let thread = std::thread::Builder::new().name("ferry-open".to_owned()).spawn(move || {
            let input = Pieces { from, piece: io::Cursor::default() };
            let opened = identities.open(input).and_then(|mut opened| {
                let (mut buffer, mut all) = (vec![0; 256 << 10], 0);
                loop {
                    match opened.read(&mut buffer) {
                        Ok(0) => return Ok(all),
                        Ok(count) => {
                            all += count as u64;
                            hear(&mut hearer, buffer.get(..count).unwrap_or_default());
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => {
                            return Err(Locked::Damaged(format!(
                                "the encrypted stream is cut or was changed: {error}"
                            )));
                        }
                    }
                }
            });
            (hearer, opened)
        })?;
        Ok(Self { sender: Some(sender), thread })
    }

    /// Hands in the next bytes of the file.
    pub fn give(&mut self, bytes: &[u8]) {
        // A thread that stopped has its reason, told at the end.
        if let Some(sender) = &self.sender
            && sender.send(bytes.to_vec()).is_err()
        {
            self.sender = None;
        }
    }

    /// The file is over: how many bytes of the archive it held.
    pub fn finish(mut self) -> Option<(T, Result<u64, Locked>)> {
        self.sender = None;
        self.thread.join().ok()
    }
}
