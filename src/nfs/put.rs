//! From an archive here into a directory there: an empty one, or one that was asked for by its name.

use std::io::Read as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use tokio::sync::mpsc;

use super::{Tar, WHICH, no_tar, word};
use crate::failure::{Failure, Kind};
use crate::remote::ssh::connect::Lane;
use crate::remote::{Exit, Session, Way};
use crate::secret::clean;
use crate::volume::Reader;

/// Where files are put.
#[derive(Debug, Clone)]
pub struct Into {
    /// The host, for messages.
    pub host: String,
    /// The directory, absolute; made when it is not there.
    pub dir: String,
    /// It may hold files: those of the archive take their place, others stay.
    pub over_live: bool,
    /// Which tar made the archive.
    pub made_by: Tar,
    /// How many members the archive has.
    pub members: u64,
}

/// What is in a directory now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// There is none.
    Absent,
    /// Nothing is in it.
    Empty,
    /// Something is in it: a few names.
    Live(Vec<String>),
    /// It is a link or no directory.
    NoDirectory,
}

/// What was put there.
#[derive(Debug, Clone)]
pub struct Put {
    /// How many files, folders and links are there now, where the directory was empty before.
    pub entries: Option<u64>,
    /// Bytes of the tar stream.
    pub bytes: u64,
    /// What tar said besides.
    pub remarks: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Looks at a directory. `lost+found` counts for nothing.
///
/// # Errors
/// As [`Session::run_root`]; [`Kind::Failed`] when it cannot be read.
pub async fn look(session: &Session, dir: &str) -> Result<Place, Failure> {
    let script = format!(
        "d={}\nif [ -L \"$d\" ] || {{ [ -e \"$d\" ] && [ ! -d \"$d\" ]; }}; then echo @@other; exit 0; fi\n\
         if [ ! -e \"$d\" ]; then echo @@absent; exit 0; fi\n\
         l=$(ls -A \"$d\") || exit 1\n\
         printf '%s\\n' \"$l\" | grep -v '^lost+found$' | head -n 5\necho @@end\n",
        word(dir)?
    );
    let said = session.run_root(&script, Duration::from_secs(60)).await?;
    let text = said.text();
    let lines: Vec<&str> = text.lines().collect();
    Ok(match lines.as_slice() {
        ["@@other"] => Place::NoDirectory,
        ["@@absent"] => Place::Absent,
        [names @ .., "@@end"] => {
            let names: Vec<String> =
                names.iter().filter(|name| !name.is_empty()).map(|name| clean(name.as_bytes())).collect();
            if names.is_empty() { Place::Empty } else { Place::Live(names) }
        }
        _ => {
            return Err(Failure::new(Kind::Failed, "the directory for NFS files cannot be read")
                .on(session.host())
                .saw(format!("{dir}: {}; {}", said.exit, said.err_text())));
        }
    })
}

fn script(into: &Into, mark: &str) -> Result<String, Failure> {
    Ok(format!(
        "m={mark}; d={dir}; live={live}\n{WHICH}\n\
         if [ -L \"$d\" ] || {{ [ -e \"$d\" ] && [ ! -d \"$d\" ]; }}; then printf '%s OTHER\\n' \"$m\"; exit 3; fi\n\
         mkdir -p -- \"$d\" && cd \"$d\" || {{ printf '%s NODIR\\n' \"$m\"; exit 3; }}\n\
         if [ \"$live\" = no ] && [ -n \"$(ls -A . | grep -v '^lost+found$' | head -n 1)\" ]; then printf '%s LIVE\\n' \"$m\"; exit 5; fi\n\
         case $t in\n\
         gnu*) tar --extract --file=- --numeric-owner --same-owner --preserve-permissions --delay-directory-restore $x; r=$? ;;\n\
         busybox) tar -x -f - -p; r=$? ;;\n\
         *) printf '%s NOTAR %s\\n' \"$m\" \"$t\"; exit 4 ;;\n\
         esac\n\
         cat >/dev/null\n\
         printf '%s END %s %s %s\\n' \"$m\" \"$t\" \"$r\" \"$(find . -xdev -print | LC_ALL=C tr -dc '\\n' | wc -c)\"\n",
        dir = word(&into.dir)?,
        live = if into.over_live { "yes" } else { "no" },
    ))
}

/// Reads the archive and gives its tar stream on.
fn unpack(archive: Reader, sender: &mpsc::Sender<Bytes>) -> std::io::Result<u64> {
    let mut gzip = MultiGzDecoder::new(std::io::BufReader::with_capacity(1 << 20, archive));
    let mut all = 0;
    loop {
        let mut piece = vec![0; 256 << 10];
        let count = gzip.read(&mut piece)?;
        if count == 0 {
            return Ok(all);
        }
        piece.truncate(count);
        all += count as u64;
        if sender.blocking_send(Bytes::from(piece)).is_err() {
            return Ok(all);
        }
    }
}

/// Puts the archive's files there. `progress` hears the bytes of the tar stream.
///
/// # Errors
/// [`Kind::Refused`] when the directory is not empty and was not asked for by its name; [`Kind::Failed`] when tar
/// failed; [`Kind::Unknown`] when the connection was lost: a part of the files may be there.
pub async fn put(way: &Way, into: &Into, source: Reader, mut progress: impl FnMut(u64)) -> Result<Put, Failure> {
    let began = Instant::now();
    let session = way.connect(Lane::Bulk).await?;
    let mark = format!("@@{:032x}", rand::random::<u128>());
    let mut child = session.open_root(&script(into, &mark)?).await?;
    let (sender, mut receiver) = mpsc::channel(16);
    let name = source.volumes().first().map(|volume| volume.file.clone()).unwrap_or_default();
    let reader = tokio::task::spawn_blocking(move || unpack(source, &sender));
    let mut sent = 0;
    while let Some(piece) = receiver.recv().await {
        // What it said when it would take no more is read below.
        if child.write(&piece).await.is_err() {
            break;
        }
        sent += piece.len() as u64;
        progress(sent);
    }
    drop(receiver);
    let read = reader.await.map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    let bytes =
        read.map_err(|error| Failure::new(Kind::Failed, format!("could not read {name}")).saw(error.to_string()))?;
    child.close_input().await;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(piece) = child.next().await {
        let (kept, bytes) = match &piece {
            crate::remote::Piece::Out(bytes) => (&mut out, bytes),
            crate::remote::Piece::Err(bytes) => (&mut err, bytes),
        };
        if kept.len() < 64 << 10 {
            kept.extend_from_slice(bytes);
        }
    }
    let exit = child.exit().await;
    let (out, err) = (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned());
    let said: Vec<String> = err.lines().map(|line| clean(line.as_bytes())).filter(|line| !line.is_empty()).collect();
    let end = out.lines().rev().find_map(|line| line.strip_prefix(&mark)).map(str::trim).unwrap_or_default();
    let mut words = end.split_whitespace();
    match words.next() {
        Some("LIVE") => {
            return Err(Failure::new(Kind::Refused, "the directory for NFS files is not empty")
                .on(&into.host)
                .saw(into.dir.clone())
                .why("files are never put over live ones unless the directory is named for that")
                .mend(format!("--nfs-into DIR for an empty one, or --nfs-over {}", into.dir)));
        }
        Some("OTHER" | "NODIR") => {
            return Err(Failure::new(Kind::Failed, "the directory for NFS files cannot be used")
                .on(&into.host)
                .saw(format!("{}: {}", into.dir, said.join("; "))));
        }
        Some("NOTAR") => return Err(no_tar(&into.host, words.next().unwrap_or_default())),
        Some("END") => {}
        _ => {
            let seen = match &exit {
                Exit::Lost(why) => why.clone(),
                other => format!("{other}; {}", said.join("; ")),
            };
            return Err(Failure::new(Kind::Unknown, "how putting the NFS files there ended is not known")
                .on(&into.host)
                .saw(seen)
                .why(format!("a part of them may be in {}", into.dir))
                .mend("look there; remove what is there and restore again: --only nfs"));
        }
    }
    let (_, code, count) = (words.next(), words.next(), words.next().and_then(|count| count.parse::<u64>().ok()));
    if code != Some("0") {
        return Err(Failure::new(Kind::Failed, "tar could not put all NFS files there")
            .on(&into.host)
            .saw(format!(
                "exit code {}; {}",
                code.unwrap_or("?"),
                said.iter().take(20).cloned().collect::<Vec<_>>().join("; ")
            ))
            .why(format!("a part of them is in {}", into.dir))
            .mend("mend it, empty the directory, and restore again: --only nfs"));
    }
    // A name with a line feed counts twice; then there are more lines than members, never fewer.
    if !into.over_live
        && let Some(count) = count
        && count < into.members
    {
        return Err(Failure::new(Kind::Failed, "there are fewer files than the archive has")
            .on(&into.host)
            .saw(format!("{count} in {}, {} members in the archive", into.dir, into.members))
            .why("tar said success; an exit code of 0 is no proof"));
    }
    let entries = count.filter(|_| !into.over_live);
    Ok(Put { entries, bytes, remarks: said, took: began.elapsed() })
}
