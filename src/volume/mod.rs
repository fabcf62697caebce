//! How an archive is kept: as one file, in volumes, encrypted or not.
//!
//! What lives here: writing an archive's bytes into volumes, each flushed, read back and with a digest of its own
//! ([`Writer`]), the note of those that are whole, which a later attempt goes on with ([`Journal`]), and reading them as
//! the one stream that they were ([`Reader`]). What does not: where the bytes come from (transfer, nfs), which point
//! they belong to (catalog), who may open them (vault).
//!
//! Where an archive is encrypted, each volume is a whole file of `age`, so that one can be restarted, proved and opened
//! without the others; where it is not, volumes are joined by `cat`. An archive that is neither encrypted nor larger than
//! a volume is kept as the node wrote it, and never comes here.

mod read;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::settings::encryption::VOLUME_SIZE;
use crate::vault::age::{Identities, Recipients};

pub use read::{Feed, Fetch, Reader, Stamp, Wrong};
pub use write::{Step, Writer, prove};

/// How archives are kept in a catalog.
#[derive(Debug, Clone)]
pub struct Keep {
    /// Who may open them; `None`: they are not encrypted.
    pub recipients: Option<Arc<Recipients>>,
    /// What opens them here: to go on after a crash, what is whole already is read again.
    pub identities: Option<Arc<Identities>>,
    /// So many bytes of the archive are in one volume.
    pub volume_size: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { recipients: None, identities: None, volume_size: VOLUME_SIZE }
    }
}

impl Keep {
    /// Whether an archive of so many bytes is kept in another form than the node wrote it.
    pub fn wraps(&self, bytes: u64) -> bool {
        self.recipients.is_some() || bytes > self.volume_size
    }

    /// What a manifest says of the encryption.
    pub fn encryption(&self) -> Option<Encryption> {
        let recipients = self.recipients.as_ref()?;
        Some(Encryption { format: "age".to_owned(), recipients: recipients.names() })
    }
}

/// What a manifest says of an archive's encryption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// `age`: the format age-encryption.org/v1.
    pub format: String,
    /// Whose identities open it: public keys, or `passphrase`.
    pub recipients: Vec<String>,
}

/// One file of an archive that is kept in volumes, or encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its file in the point's folder.
    pub file: String,
    /// Size of that file in bytes.
    pub bytes: u64,
    /// Digest of that file, as it lies there: it is compared without opening it.
    pub sha256: Sha256,
    /// How many bytes of the archive are in it.
    pub plain_bytes: u64,
}

/// The name of a volume's file. `number` is from 1; `None`: it is the only one.
pub fn file_name(archive: &str, number: Option<usize>, encrypted: bool) -> String {
    let number = number.map(|number| format!(".{number:04}")).unwrap_or_default();
    format!("{archive}{number}{}", if encrypted { ".age" } else { "" })
}

/// Whether a file, by its name, may be a volume of this archive, whole or not.
pub fn is_volume_of(archive: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(archive) else { return false };
    let rest = rest.strip_suffix(".part").unwrap_or(rest);
    let rest = rest.strip_suffix(".age").map_or((rest, false), |rest| (rest, true));
    let number = rest.0.strip_prefix('.').is_some_and(|digits| {
        digits.len() >= 4 && digits.len() <= 6 && digits.bytes().all(|digit| digit.is_ascii_digit())
    });
    number || (rest.0.is_empty() && rest.1)
}

/// The volumes in a folder that belong to an archive, by their names.
fn files_of(folder: &Path, archive: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| is_volume_of(archive, name)) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Removes every volume of an archive that was being received, whole or not. Returns how many there were.
///
/// # Errors
/// The disk's own.
pub fn discard(folder: &Path, archive: &str) -> io::Result<usize> {
    let files = files_of(folder, archive)?;
    files.iter().try_for_each(std::fs::remove_file)?;
    Ok(files.len())
}

/// What is known of an archive that is being received in volumes: the lines of its `.part` file.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal {
    /// Which file on the node the bytes are from, as the receiver writes it.
    pub source: serde_json::Value,
    /// As a manifest says it.
    pub encryption: Option<Encryption>,
    /// The volumes that are whole, flushed and named.
    pub volumes: Vec<Volume>,
    /// All of them are: no byte is missing.
    pub over: bool,
}

/// What an earlier attempt left of an archive.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Left {
    /// Its whole volumes.
    pub volumes: Vec<Volume>,
    /// The volume that was being written, in the clear: its file and its size in bytes.
    pub begun: Option<(String, u64)>,
}

impl Left {
    /// How many bytes of the archive these are.
    pub fn plain_bytes(&self) -> u64 {
        let whole: u64 = self.volumes.iter().map(|volume| volume.plain_bytes).sum();
        whole + self.begun.as_ref().map_or(0, |(_, bytes)| *bytes)
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    source: serde_json::Value,
    encryption: Option<Encryption>,
    volume_size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Volumes(Head),
    Volume(Volume),
    /// All are there. Where there is but one, this is its name now.
    Over(Option<String>),
}

impl Journal {
    /// Reads what an attempt noted. `None` when the file is no such note: it is empty, or an archive itself. A line that
    /// a crash cut, and all behind it, counts for nothing.
    pub fn read(part: &Path) -> Option<Self> {
        Self::read_sized(part).map(|(journal, _)| journal)
    }

    /// The same, with the size of a volume.
    fn read_sized(part: &Path) -> Option<(Self, u64)> {
        use std::io::{BufRead as _, Read as _};
        let file = std::fs::File::open(part).ok()?;
        let mut lines = io::BufReader::new(file.take(64 << 20));
        let mut next = move || {
            let mut line = Vec::new();
            let count = lines.read_until(b'\n', &mut line).ok()?;
            (count > 0 && line.ends_with(b"\n")).then(|| serde_json::from_slice::<Line>(&line).ok())?
        };
        let Some(Line::Volumes(head)) = next() else { return None };
        let mut journal = Self { source: head.source, encryption: head.encryption, volumes: Vec::new(), over: false };
        loop {
            match next() {
                Some(Line::Volume(volume)) => journal.volumes.push(volume),
                Some(Line::Over(only)) => {
                    if let (Some(name), [volume]) = (only, journal.volumes.as_mut_slice()) {
                        volume.file = name;
                    }
                    journal.over = true;
                    break;
                }
                _ => break,
            }
        }
        Some((journal, head.volume_size))
    }

    /// How many bytes of the archive are in the volumes.
    pub fn plain_bytes(&self) -> u64 {
        self.volumes.iter().map(|volume| volume.plain_bytes).sum()
    }

    /// What an earlier attempt left that this one may go on with: of the same source, kept in the same form, each volume
    /// as it was noted, and opened where it is encrypted. The rest is removed. In the clear the volume that was being
    /// written is gone on with as well: its file and its size, not proved.
    ///
    /// # Errors
    /// The disk's own.
    pub fn go_on(part: &Path, archive: &str, source: &serde_json::Value, keep: &Keep) -> io::Result<Left> {
        let folder = part.parent().unwrap_or(Path::new("."));
        let mut begun = None;
        let good = Self::read_sized(part).map_or_else(Vec::new, |(journal, volume_size)| {
            let same =
                journal.source == *source && journal.encryption == keep.encryption() && volume_size == keep.volume_size;
            let opens = keep.recipients.is_none() || keep.identities.is_some();
            if !same || !opens {
                return Vec::new();
            }
            let whole = |volume: &Volume| {
                let path = folder.join(&volume.file);
                read::digest(&path).is_ok_and(|seen| seen == (volume.bytes, volume.sha256))
                    && (keep.recipients.is_none() || read::open_file(&path, keep.identities.as_deref(), true).is_ok())
            };
            let (noted, over) = (journal.volumes.len(), journal.over);
            let good: Vec<Volume> = journal.volumes.into_iter().take_while(whole).collect();
            if keep.recipients.is_none() && good.len() == noted && !over {
                let name = format!("{}.part", file_name(archive, Some(noted + 1), false));
                let there = std::fs::symlink_metadata(folder.join(&name)).ok().filter(std::fs::Metadata::is_file);
                begun =
                    there.filter(|there| there.len() > 0 && there.len() < volume_size).map(|there| (name, there.len()));
            }
            good
        });
        for path in files_of(folder, archive)? {
            let wanted = good.iter().map(|volume| &volume.file).chain(begun.iter().map(|(name, _)| name));
            if !wanted.into_iter().any(|name| folder.join(name) == path) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(Left { volumes: good, begun })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

    use crate::failure::{Failure, Kind};
    use crate::secret::{ExposeSecret as _, Masker};
    use crate::vault::age::AskPassphrase;

    fn keep(dir: &Path, encrypted: bool, volume_size: u64) -> Keep {
        use std::os::unix::fs::PermissionsExt as _;
        if !encrypted {
            return Keep { volume_size, ..Keep::default() };
        }
        let ask: AskPassphrase = Arc::new(|_| Err(Failure::new(Kind::Bug, "asked")));
        let key = age::x25519::Identity::generate();
        let path = dir.join(format!("key-{:08x}", rand::random::<u32>()));
        std::fs::write(&path, key.to_string().expose_secret()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Keep {
            recipients: Recipients::read(&[key.to_public().to_string()], &ask).unwrap().map(Arc::new),
            identities: Some(Arc::new(Identities::load(&[path], &ask, None, &Masker::new()).unwrap())),
            volume_size,
        }
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 + at / 257) as u8).collect()
    }

    fn write_all(part: &Path, keep: &Keep, bytes: &[u8], pieces: usize, total: Option<u64>) -> Vec<Volume> {
        let (steps, asked) = std::sync::mpsc::channel();
        let proving = std::thread::spawn(move || prove(&asked).unwrap());
        let mut writer =
            Writer::begin(part, "a.tar.gz", serde_json::json!("x"), keep, Left::default(), total, steps).unwrap();
        for piece in bytes.chunks(pieces) {
            writer.write_all(piece).unwrap();
        }
        let volumes = writer.finish().unwrap();
        assert_eq!(proving.join().unwrap(), None);
        volumes
    }

    #[test]
    fn what_is_written_is_read_whatever_its_form() {
        for encrypted in [false, true] {
            for (length, size) in [(1, 70_000), (69_999, 70_000), (70_000, 70_000), (70_001, 70_000), (400_003, 65_536)]
            {
                let dir = tempfile::tempdir().unwrap();
                let keep = keep(dir.path(), encrypted, size);
                let bytes = content(length);
                let part = dir.path().join("a.tar.gz.part");
                let volumes = write_all(&part, &keep, &bytes, 9_001, Some(length as u64));
                assert_eq!(volumes.len(), length.div_ceil(usize::try_from(size).unwrap()));
                let journal = Journal::read(&part).unwrap();
                assert!(journal.over && journal.volumes == volumes && journal.plain_bytes() == length as u64);
                if encrypted {
                    for volume in &volumes {
                        let raw = std::fs::read(dir.path().join(&volume.file)).unwrap();
                        assert!(raw.starts_with(b"age-encryption.org/v1"));
                        let needle = &bytes[..bytes.len().min(32)];
                        assert!(length < 32 || !raw.windows(needle.len()).any(|window| window == needle));
                    }
                }
                let mut reader = Reader::new(dir.path(), &volumes, encrypted, keep.identities.clone());
                let mut back = Vec::new();
                reader.read_to_end(&mut back).unwrap();
                assert!(back == bytes, "{encrypted} {length} {size}");
                for at in [0, 1, length / 2, length - 1, length] {
                    reader.seek(SeekFrom::Start(at as u64)).unwrap();
                    let mut back = Vec::new();
                    reader.read_to_end(&mut back).unwrap();
                    assert!(back == bytes[at..], "{encrypted} {length} {size} from {at}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_length_that_fits_into_one_volume_has_no_number() {
        for (encrypted, name) in [(false, "a.tar.gz"), (true, "a.tar.gz.age")] {
            let dir = tempfile::tempdir().unwrap();
            let keep = keep(dir.path(), encrypted, 100_000);
            let volumes = write_all(&dir.path().join("a.tar.gz.part"), &keep, &content(5_000), 700, None);
            assert_eq!(volumes.iter().map(|volume| volume.file.as_str()).collect::<Vec<_>>(), [name]);
            assert!(dir.path().join(name).is_file() && !dir.path().join("a.tar.gz.0001").exists());
        }
    }

    /// A stop at any byte: what is whole is kept, the rest is written again, and the stream is the same.
    #[test]
    fn a_volume_is_the_unit_of_going_on() {
        for encrypted in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let keep = keep(dir.path(), encrypted, 65_536);
            let bytes = content(300_000);
            let part = dir.path().join("a.tar.gz.part");
            let source = serde_json::json!({"bytes": bytes.len()});
            for stop in [0, 1, 65_535, 65_536, 65_537, 200_000, 299_999] {
                discard(dir.path(), "a.tar.gz").unwrap();
                let _ = std::fs::remove_file(&part);
                let (steps, asked) = std::sync::mpsc::channel();
                let mut writer =
                    Writer::begin(&part, "a.tar.gz", source.clone(), &keep, Left::default(), Some(300_000), steps)
                        .unwrap();
                writer.write_all(&bytes[..stop]).unwrap();
                drop((writer, asked));
                let left = Journal::go_on(&part, "a.tar.gz", &source, &keep).unwrap();
                let at = left.plain_bytes();
                // Encrypted, whole volumes are all that counts; in the clear every byte that reached the disk.
                let whole = stop as u64 / 65_536 * 65_536;
                assert!(at == whole || !encrypted && (whole..=stop as u64).contains(&at), "{encrypted} {stop} {at}");
                if !encrypted && stop > 65_537 {
                    assert_eq!(at, stop as u64);
                }
                let (steps, asked) = std::sync::mpsc::channel();
                let proving = std::thread::spawn(move || prove(&asked).unwrap());
                let mut writer =
                    Writer::begin(&part, "a.tar.gz", source.clone(), &keep, left, Some(300_000), steps).unwrap();
                writer.write_all(&bytes[usize::try_from(at).unwrap()..]).unwrap();
                let volumes = writer.finish().unwrap();
                assert_eq!((volumes.len(), proving.join().unwrap()), (5, None));
                let mut back = Vec::new();
                Reader::new(dir.path(), &volumes, encrypted, keep.identities.clone()).read_to_end(&mut back).unwrap();
                assert!(back == bytes, "stopped at {stop}");
                // Of another file, or kept in another form, nothing is gone on with, and nothing is left.
                let other = Journal::go_on(&part, "a.tar.gz", &serde_json::json!("another"), &keep).unwrap();
                assert_eq!((other, files_of(dir.path(), "a.tar.gz").unwrap().len()), (Left::default(), 0));
            }
        }
    }

    #[test]
    fn flips_and_cuts_of_a_volume_are_errors_and_name_it() {
        let dir = tempfile::tempdir().unwrap();
        let keep = keep(dir.path(), true, 65_536);
        let bytes = content(150_000);
        let volumes = write_all(&dir.path().join("a.tar.gz.part"), &keep, &bytes, 10_000, Some(150_000));
        let path = dir.path().join(&volumes[1].file);
        let good = std::fs::read(&path).unwrap();
        let read = || {
            let mut back = Vec::new();
            Reader::new(dir.path(), &volumes, true, keep.identities.clone()).read_to_end(&mut back).map(|_| back)
        };
        for at in (0..good.len()).step_by(997).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let error = read().unwrap_err();
            assert!(error.to_string().contains(&volumes[1].file), "flip at {at}: {error}");
        }
        for length in (0..good.len()).step_by(4_999) {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(read().is_err(), "cut at {length}");
        }
        std::fs::write(&path, &good).unwrap();
        assert!(read().unwrap() == bytes);
        std::fs::remove_file(&path).unwrap();
        assert!(read().unwrap_err().to_string().contains(&volumes[1].file));
    }

    #[test]
    fn volumes_are_known_by_their_names() {
        for name in ["a.tar.gz.age", "a.tar.gz.0001", "a.tar.gz.0001.age", "a.tar.gz.0001.age.part", "a.tar.gz.12345"] {
            assert!(is_volume_of("a.tar.gz", name), "{name}");
        }
        for name in
            ["a.tar.gz", "a.tar.gz.part", "a.tar.gz.1", "b.tar.gz.age", "a.tar.gz.x001", "a.tar.gz.part.transfer"]
        {
            assert!(!is_volume_of("a.tar.gz", name), "{name}");
        }
    }
}
