//! A point as one tar, and back.
//!
//! What lives here: writing a point into a tar that `tar`, `sha256sum` and `gzip` alone can read, and taking
//! such a tar, or a point's folder, into a catalog. What does not: other places (`shelf`). The form is
//! written down in `docs/format.md`.
//!
//! Nothing is unpacked by the names in a tar: each must be one that a point can have, and its bytes go
//! where the catalog wants them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::manifest::{Archive, Manifest};
use super::place::{Cargo, Folder};
use super::point::Point;
use super::progress::{MANIFEST, NOTES};
use super::verify::{self, Inspect};
use super::{disk, shelf};
use crate::digest::{Hasher, Sha256};
use crate::failure::{Failure, Kind};
use crate::vault::age::{Identities, Locked};
use crate::volume::{Fetch, Wrong};

/// The list of digests, as `sha256sum -c` reads it.
pub const SUMS: &str = "SHA256SUMS";
/// What to do with it, for people.
pub const README: &str = "README.txt";

/// More members than this no exported point has.
const MOST_MEMBERS: usize = 10_000;

fn readme(point: &Point) -> String {
    let manifest = &point.manifest;
    let mut text = format!(
        "Recovery point {}/{} of an Anypoint Platform PCE cluster, made by ferry {}.\n\n\
         Is it whole?\n    sha256sum -c {SUMS}\n",
        point.cluster,
        point.id(),
        manifest.ferry_version
    );
    for archive in &manifest.archives {
        let (file, stored) = (&archive.file, archive.stored());
        if archive.encryption.is_some() {
            text.push_str(&format!(
                "    for one in {}; do age -d -i IDENTITY \"$one\"; done >{file}     # age, of age-encryption.org\n",
                stored.iter().map(|volume| volume.file.as_str()).collect::<Vec<_>>().join(" ")
            ));
        } else if archive.is_wrapped() {
            text.push_str(&format!(
                "    cat {} >{file}\n",
                stored.iter().map(|volume| volume.file.as_str()).collect::<Vec<_>>().join(" ")
            ));
        }
        if archive.is_wrapped() {
            text.push_str(&format!("    echo '{}  {file}' | sha256sum -c\n", archive.sha256));
        }
        text.push_str(&format!("    gzip -t {file} && tar -tzf {file} >/dev/null\n"));
    }
    let names = manifest.archives.iter().filter_map(|archive| archive.encryption.as_ref());
    if let Some(encryption) = names.clone().next() {
        text.push_str(&format!(
            "\nIt is encrypted for:\n    {}\nThe files of logs/ that end in .age open in the same way.\n",
            encryption.recipients.join("\n    ")
        ));
    }
    text.push_str(&format!(
        "\nWhat it is: {MANIFEST} (JSON). PCE {}, Gravity {}.\n\n\
         Restore with ferry:\n    ferry restore PATH-OF-THIS-FOLDER --to CLUSTER\n\n\
         Restore without ferry, on a main node of a cluster with the same PCE version:\n    \
         sudo gravity restore /path/of/gravity.tar.gz --timeout=80m --follow\n",
        manifest.pce_version.as_deref().unwrap_or("of a version that was not seen"),
        manifest.gravity_version.as_deref().unwrap_or("of a version that was not seen"),
    ));
    if manifest.archives.iter().any(|archive| archive.kind == super::ArchiveKind::Amv) {
        text.push_str("then the AMV archive, by the amv-backup-restore.sh of that version.\n");
    }
    text.push_str("A restore destroys what the cluster holds.\n");
    text
}

/// A reader that hashes what passes, and hands it on.
struct Tee<'a, R> {
    inner: R,
    hasher: Hasher,
    each: &'a mut dyn FnMut(&[u8]),
    /// The reader failed.
    unread: bool,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer).inspect_err(|_| self.unread = true)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        self.hasher.update(bytes);
        (self.each)(bytes);
        Ok(count)
    }
}

/// Writes `point` into a new file `to`: hashed again on its way, flushed, and named only when it is whole. A point that lies
/// in another place is read by what that place gives (`Place::fetch`). Returns the file's size and digest. `progress` hears
/// bytes done.
///
/// # Errors
/// [`Kind::Refused`] when `to` is there, or another ferry writes it; [`Kind::Bad`] when the point is not what its manifest
/// says; [`Kind::Failed`] with the disk's own; the other place's own. Nothing is left then.
pub fn export(
    point: &Point,
    away: Option<&Fetch>,
    to: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<(u64, Sha256), Failure> {
    if point.sizes.is_some() && away.is_none() {
        return Err(Failure::new(Kind::Bug, "a point in another place is exported without a way to it"));
    }
    let there_already = || {
        Failure::new(Kind::Refused, format!("{} is there already", to.display())).mend("name another file with --to")
    };
    if std::fs::symlink_metadata(to).is_ok() {
        return Err(there_already());
    }
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = to.with_file_name(name);
    let failed = |error: &io::Error| disk::failed(Kind::Failed, "write", &part, error);
    let file = begin(&part).map_err(|error| failed(&error))?.ok_or_else(|| {
        Failure::new(Kind::Refused, format!("{} is being written by another ferry", part.display()))
            .mend("wait for it, or name another file with --to")
    })?;
    let written = write(point, away, &file, progress, &failed).and_then(|seen| {
        let named = disk::link(&part, to).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => there_already(),
            _ => failed(&error),
        });
        named?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(&error))?;
        Ok(seen)
    });
    // Of a whole one this is the second name; half a tar is of no use.
    let _ = std::fs::remove_file(&part);
    written
}

/// The file that is written until it is whole, made by us and readable by us alone: what an earlier attempt left under this
/// name, or anybody else put there, is removed and never written through. `None` while another ferry writes it.
fn begin(part: &Path) -> io::Result<Option<File>> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
    for _ in 0..20 {
        match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(part) {
            Ok(file) => {
                let ours = file.metadata()?;
                let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
                let there = std::fs::symlink_metadata(part);
                if locked && there.is_ok_and(|there| (there.ino(), there.dev()) == (ours.ino(), ours.dev())) {
                    return Ok(Some(file));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if let Ok(other) = disk::read(part)
                    && flock(&other, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK)
                {
                    return Ok(None);
                }
                std::fs::remove_file(part)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn header(name: &str, bytes: u64, mtime: u64, kind: tar::EntryType, mode: u32) -> Result<tar::Header, Failure> {
    let mut header = tar::Header::new_gnu();
    header
        .set_path(name)
        .map_err(|error| Failure::new(Kind::Failed, format!("{name} is no name for a tar")).saw(error.to_string()))?;
    header.set_size(bytes);
    header.set_mtime(mtime);
    header.set_mode(mode);
    header.set_entry_type(kind);
    header.set_cksum();
    Ok(header)
}

fn write(
    point: &Point,
    away: Option<&Fetch>,
    file: &File,
    progress: &mut dyn FnMut(u64),
    failed: &dyn Fn(&io::Error) -> Failure,
) -> Result<(u64, Sha256), Failure> {
    let mtime = u64::try_from(point.manifest.finished.as_second()).unwrap_or(0);
    let mut counted = Counted { inner: io::BufWriter::with_capacity(1 << 20, file), hasher: Hasher::new() };
    let top = point.id().as_str();
    let read = |name: &str| -> Result<Box<dyn Read>, Failure> {
        let path = point.dir.join(name);
        let opened = match away {
            Some(fetch) => fetch(name, 0).map(|stream| -> Box<dyn Read> { stream }),
            None => disk::read(&path).map(|file| -> Box<dyn Read> {
                verify::from_the_disk(&file);
                Box::new(file)
            }),
        };
        opened.map_err(|error| unread(&path, &error))
    };
    let mut small = Vec::new();
    let mut text = Vec::new();
    read(MANIFEST)?.read_to_end(&mut text).map_err(|error| unread(&point.dir.join(MANIFEST), &error))?;
    let manifest_sum = Sha256::of(&text);
    small.push((MANIFEST.to_owned(), text));
    if point.size_of(NOTES).is_ok()
        && let Ok(mut notes) = read(NOTES)
    {
        let mut text = Vec::new();
        notes.read_to_end(&mut text).map_err(|error| unread(&point.dir.join(NOTES), &error))?;
        small.push((NOTES.to_owned(), text));
    }
    let mut sums = format!("{manifest_sum}  {MANIFEST}\n");
    for (name, _, sha256) in shelf::files_of(&point.manifest) {
        sums.push_str(&format!("{sha256}  {name}\n"));
    }
    small.push((SUMS.to_owned(), sums.into_bytes()));
    small.push((README.to_owned(), readme(point).into_bytes()));
    let mut builder = tar::Builder::new(&mut counted);
    let put = |builder: &mut tar::Builder<&mut Counted<'_>>, header: &tar::Header, from: &mut dyn Read| {
        builder.append(header, from).map_err(|error| failed(&error))
    };
    put(&mut builder, &header(&format!("{top}/"), 0, mtime, tar::EntryType::Directory, 0o700)?, &mut io::empty())?;
    for (name, bytes) in &small {
        let head = header(&format!("{top}/{name}"), bytes.len() as u64, mtime, tar::EntryType::Regular, 0o600)?;
        put(&mut builder, &head, &mut bytes.as_slice())?;
    }
    let expected: BTreeMap<String, (u64, Sha256)> =
        shelf::files_of(&point.manifest).into_iter().map(|(name, bytes, sha256)| (name, (bytes, sha256))).collect();
    let mut done = 0;
    for (name, bytes) in shelf::export_order(point) {
        let file = read(&name)?;
        let there = point.size_of(&name).unwrap_or(0);
        let mut each = |piece: &[u8]| {
            done += piece.len() as u64;
            progress(done);
        };
        let mut tee = Tee { inner: file.take(bytes), hasher: Hasher::new(), each: &mut each, unread: false };
        if there == bytes {
            let head = header(&format!("{top}/{name}"), bytes, mtime, tar::EntryType::Regular, 0o600)?;
            builder.append(&head, &mut tee).map_err(|error| match tee.unread {
                true => unread(&point.dir.join(&name), &error),
                false => failed(&error),
            })?;
        }
        let seen = (if there == bytes { tee.hasher.bytes() } else { there }, tee.hasher.finish());
        if Some(&seen) != expected.get(&name) {
            return Err(Failure::new(
                Kind::Bad,
                format!("{}/{} is damaged: {name} is not what its manifest says", point.cluster, point.id()),
            )
            .saw(format!("{} bytes, sha256 {}", seen.0, seen.1))
            .mend("ferry points verify; take another point"));
        }
    }
    builder.into_inner().map_err(|error| failed(&error))?;
    let Counted { inner, hasher } = counted;
    let file = inner.into_inner().map_err(|error| failed(error.error()))?;
    file.sync_all().map_err(|error| failed(&error))?;
    Ok((hasher.bytes(), hasher.finish()))
}

/// A file of the point could not be read; what its place said of it is told as it is.
fn unread(path: &Path, error: &io::Error) -> Failure {
    let told = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>());
    told.cloned().unwrap_or_else(|| disk::failed(Kind::Bad, "read", path, error))
}

struct Counted<'a> {
    inner: io::BufWriter<&'a File>,
    hasher: Hasher,
}

impl io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Takes an exported point (a tar, or a point's folder) into a catalog: every byte hashed, every archive walked, sealed
/// only when all of it is as its manifest says. What is encrypted is opened with `identities`. True in the answer when it was
/// there already; the last of it is what was not looked into.
///
/// # Errors
/// [`Kind::CouldNotStart`] when it is no exported point, or an identity was given and none fits; [`Kind::Bad`] when it is
/// damaged; [`Kind::Refused`] when another point of its id is there; [`Kind::Failed`] with the disk's own. Nothing is
/// sealed then.
pub fn import(
    path: &Path,
    to: &Folder,
    identities: Option<&Arc<Identities>>,
    inspect: &dyn Fn(&Archive) -> Box<dyn Inspect + Send>,
) -> Result<(Point, bool, Vec<String>), Failure> {
    let there = std::fs::metadata(path).map_err(|error| {
        Failure::new(Kind::CouldNotStart, format!("{} cannot be read", path.display())).saw(error.to_string())
    })?;
    let means = Means { identities, inspect };
    if there.is_dir() { from_folder(path, to, means) } else { from_tar(path, to, means) }
}

/// How archives are looked into.
#[derive(Clone, Copy)]
struct Means<'a> {
    identities: Option<&'a Arc<Identities>>,
    inspect: &'a dyn Fn(&Archive) -> Box<dyn Inspect + Send>,
}

/// A point that is being taken in.
struct Intake<'a> {
    to: &'a Folder,
    manifest: Manifest,
    text: Vec<u8>,
    /// What must come still: size and digest by name.
    wanted: BTreeMap<String, (u64, Sha256)>,
    means: Means<'a>,
}

impl<'a> Intake<'a> {
    /// `None` when this very point is there already.
    fn begin(text: Vec<u8>, shown: &str, to: &'a Folder, means: Means<'a>) -> Result<Result<Self, Point>, Failure> {
        let words = std::str::from_utf8(&text)
            .map_err(|error| Failure::new(Kind::Bad, format!("{shown} is no text")).saw(error.to_string()))?;
        let manifest = Manifest::parse(shown, words)?;
        let sealed = to.catalog().root().join(manifest.cluster.group.as_str()).join(manifest.id.as_str());
        if std::fs::symlink_metadata(&sealed).is_ok() {
            let point = Point::load(&manifest.cluster.group, &sealed)?;
            let same = std::fs::read(sealed.join(MANIFEST)).is_ok_and(|other| other == text);
            if same {
                return Ok(Err(point));
            }
            return Err(Failure::new(
                Kind::Refused,
                format!("another point {}/{} is there already", point.cluster, point.id()),
            )
            .why("a sealed point is never replaced"));
        }
        let wanted =
            shelf::files_of(&manifest).into_iter().map(|(name, bytes, sha256)| (name, (bytes, sha256))).collect();
        Ok(Ok(Self { to, manifest, text, wanted, means }))
    }

    fn stage(&self) -> String {
        format!("{}/{}.part", self.manifest.cluster.group, self.manifest.id)
    }

    fn take(&mut self, name: &str, from: &mut dyn Read, source: &Path) -> Result<(), Failure> {
        let Some((bytes, sha256)) = self.wanted.remove(name) else {
            return Err(Failure::new(
                Kind::Bad,
                format!("{} holds a file that its manifest does not list, or twice", source.display()),
            )
            .saw(format!("{name:?}")));
        };
        // One in several files is walked when all of them are here.
        let archive = self.manifest.archives.iter().find(|archive| archive.file == name && !archive.is_wrapped());
        let mut walk = archive.map(|archive| (self.means.inspect)(archive));
        let mut each = |piece: &[u8]| {
            if let Some(walk) = &mut walk {
                walk.feed(piece);
            }
        };
        let mut tee = Tee { inner: from, hasher: Hasher::new(), each: &mut each, unread: false };
        let name_there = format!("{}/{name}", self.stage());
        let cargo = Cargo { file: source, bytes, sha256 };
        // What an earlier attempt left was proved by its digest, but it is walked again.
        self.to.remove(&name_there)?;
        self.to.put_reader(&name_there, &mut tee, &cargo, &|_| {})?;
        if let (Some(walk), Some(archive)) = (walk, archive) {
            let wrong = match walk.finish() {
                Ok(members) if members == archive.members => None,
                Ok(members) => Some(format!("{members} members instead of {}", archive.members)),
                Err(why) => Some(why),
            };
            if let Some(why) = wrong {
                return Err(Failure::new(Kind::Bad, format!("{name} is no whole archive")).saw(why));
            }
        }
        Ok(())
    }

    /// Walks the archives that came in volumes, or encrypted, as they lie in the stage now. What is not opened is told.
    fn look_into(&self) -> Result<Vec<String>, Failure> {
        let mut unchecked = Vec::new();
        let folder = self.to.catalog().root().join(self.stage());
        for archive in self.manifest.archives.iter().filter(|archive| archive.is_wrapped()) {
            let bad = |why: String| Failure::new(Kind::Bad, format!("{} is no whole archive", archive.file)).saw(why);
            let identities = self.means.identities.filter(|identities| !identities.is_empty());
            if archive.encryption.is_some() && identities.is_none() {
                unchecked.push(format!("what is in {}: {}", archive.file, Locked::NoIdentity));
                continue;
            }
            let mut walk = (self.means.inspect)(archive);
            let mut each = |piece: &[u8]| walk.feed(piece);
            let reader = archive.reader(&folder, identities.cloned());
            let mut tee = Tee { inner: reader, hasher: Hasher::new(), each: &mut each, unread: false };
            if let Err(error) = io::copy(&mut tee, &mut io::sink()) {
                return Err(match Wrong::of(&error).map(|wrong| &wrong.why) {
                    Some(Locked::WrongIdentity(_) | Locked::NoPassphrase(_)) => Failure::new(
                        Kind::CouldNotStart,
                        format!("{} is not opened by what was given to open it", archive.file),
                    )
                    .saw(error.to_string())
                    .mend("--identity FILE with the right one; or none, and only digests are compared"),
                    _ => bad(error.to_string()),
                });
            }
            let seen = (tee.hasher.bytes(), tee.hasher.finish());
            if seen != (archive.bytes, archive.sha256) {
                return Err(bad(format!("{} bytes, sha256 {}", seen.0, seen.1)));
            }
            match walk.finish() {
                Ok(members) if members == archive.members => {}
                Ok(members) => return Err(bad(format!("{members} members instead of {}", archive.members))),
                Err(why) => return Err(bad(why)),
            }
        }
        Ok(unchecked)
    }

    fn finish(self, notes: Option<Vec<u8>>, source: &Path) -> Result<(Point, Vec<String>), Failure> {
        if let Some(name) = self.wanted.keys().next() {
            return Err(Failure::new(Kind::Bad, format!("{} is not whole: {name} is missing", source.display())));
        }
        let unchecked = self.look_into()?;
        if let Some(notes) = notes {
            let name = format!("{}/{NOTES}", self.stage());
            self.to.remove(&name)?;
            self.to.create(&name, &notes)?;
        }
        let (cluster, id) = (&self.manifest.cluster.group, &self.manifest.id);
        self.to.seal(cluster, id, &self.text)?;
        let point = Point::load(cluster, &self.to.catalog().root().join(cluster.as_str()).join(id.as_str()))?;
        Ok((point, unchecked))
    }
}

fn from_folder(path: &Path, to: &Folder, means: Means<'_>) -> Result<(Point, bool, Vec<String>), Failure> {
    let text = disk::read_text(&path.join(MANIFEST), super::place::LARGEST_SMALL).map_err(|error| {
        Failure::new(Kind::CouldNotStart, format!("{} is no point: there is no {MANIFEST} in it", path.display()))
            .saw(error.to_string())
    })?;
    let mut intake = match Intake::begin(text.into_bytes(), &path.join(MANIFEST).display().to_string(), to, means)? {
        Ok(intake) => intake,
        Err(point) => return Ok((point, true, Vec::new())),
    };
    let lock = to.lock(&intake.manifest.cluster.group, &intake.manifest.id)?;
    let names: Vec<String> = intake.wanted.keys().cloned().collect();
    for name in names {
        let file = path.join(&name);
        let mut from = disk::read(&file).map_err(|error| disk::failed(Kind::Bad, "read", &file, &error))?;
        intake.take(&name, &mut from, &file)?;
    }
    // Who holds the point, or accepted it, is said there and nowhere else.
    let notes = match disk::read_text(&path.join(NOTES), super::place::LARGEST_SMALL) {
        Ok(text) => Some(text.into_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(disk::failed(Kind::Bad, "read", &path.join(NOTES), &error)),
    };
    let (point, unchecked) = intake.finish(notes, path)?;
    lock.remove(to.catalog().disk());
    Ok((point, false, unchecked))
}

fn from_tar(path: &Path, to: &Folder, means: Means<'_>) -> Result<(Point, bool, Vec<String>), Failure> {
    let no_tar = |error: &io::Error| {
        Failure::new(Kind::CouldNotStart, format!("{} is no exported point", path.display()))
            .saw(error.to_string())
            .why("expected: one tar, as ferry points export writes it")
    };
    let file = disk::read(path).map_err(|error| no_tar(&error))?;
    let mut tar = tar::Archive::new(io::BufReader::with_capacity(1 << 20, file));
    let mut intake: Option<(Intake<'_>, super::lock::Lock)> = None;
    let mut notes = None;
    for (number, entry) in tar.entries().map_err(|error| no_tar(&error))?.enumerate() {
        let mut entry = entry.map_err(|error| no_tar(&error))?;
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap_or_default();
        let strange = |what: &str| {
            Failure::new(Kind::Bad, format!("{} holds what no exported point holds", path.display()))
                .saw(format!("{name:?}: {what}"))
        };
        if number >= MOST_MEMBERS {
            return Err(strange("too many members"));
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        if kind != tar::EntryType::Regular {
            return Err(strange("it is no plain file"));
        }
        let inner = name.split_once('/').map(|(_, inner)| inner.to_owned()).unwrap_or_default();
        if !shelf::known_name(&inner) {
            return Err(strange("no name of a point's file"));
        }
        match (inner.as_str(), &mut intake) {
            (MANIFEST, None) => {
                let text = small(&mut entry, path)?;
                match Intake::begin(text, &format!("{}:{name}", path.display()), to, means)? {
                    Ok(begun) => {
                        let lock = to.lock(&begun.manifest.cluster.group, &begun.manifest.id)?;
                        intake = Some((begun, lock));
                    }
                    Err(point) => return Ok((point, true, Vec::new())),
                }
            }
            (MANIFEST, Some(_)) => return Err(strange("a second manifest")),
            (SUMS | README, _) => {}
            (NOTES, _) => notes = Some(small(&mut entry, path)?),
            (_, None) => {
                return Err(strange("it comes before the manifest").mend("unpack it, and import its folder"));
            }
            (inner, Some((intake, _))) => intake.take(inner, &mut entry, path)?,
        }
    }
    let Some((intake, lock)) = intake else {
        return Err(Failure::new(
            Kind::CouldNotStart,
            format!("{} is no exported point: there is no {MANIFEST} in it", path.display()),
        ));
    };
    let (point, unchecked) = intake.finish(notes, path)?;
    lock.remove(to.catalog().disk());
    Ok((point, false, unchecked))
}

fn small(from: &mut dyn Read, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    from.take(super::place::LARGEST_SMALL + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(Kind::Bad, format!("{} is cut", path.display())).saw(error.to_string()))?;
    if bytes.len() as u64 > super::place::LARGEST_SMALL {
        return Err(Failure::new(
            Kind::Bad,
            format!("{} holds a manifest or notes that are too large", path.display()),
        ));
    }
    Ok(bytes)
}
