//! A folder on another host as a place, over SSH.
//!
//! What lives here: the contract of [`super::Place`] by short scripts for any `sh`, and by the delivery of
//! `transfer::push` for whole files. What does not: how the host is reached (remote).
//!
//! Nothing but `sh` and what POSIX puts beside it is needed there. Scripts go over standard input, never in
//! argv; every name is quoted. Small files are written under another name and get theirs by a hard link,
//! which takes no name that is there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};

use super::{Cargo, Heard, LARGEST_SMALL, Stream, check_name, missing};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, PointId};
use crate::remote::ssh::connect::Lane;
use crate::remote::{Child, Exit, Piece, Said, Session, Way, quote};
use crate::secret::clean;
use crate::transfer::push::{Push, push, push_volumes};
use crate::volume::Reader;

use super::super::progress::MANIFEST;

/// How long a short script may take.
const SHORT: Duration = Duration::from_secs(120);
/// The slowest disk that is waited for when the host hashes, in bytes a second.
const SLOWEST: u64 = 10 << 20;
/// No piece within this time: the link counts as dead.
const STALL: Duration = Duration::from_secs(90);

/// Before a connection that was lost is made anew; longer each time.
const PAUSE: Duration = Duration::from_millis(300);
/// The line before a file is no longer than this, in bytes.
const LONGEST_LINE: usize = 4096;

/// What every script begins with.
const COMMON: &str = r#"LC_ALL=C; export LC_ALL
umask 077
say() { printf '%s %s\n' "$M" "$*"; }
flush() { sync "$@" 2>/dev/null || sync; }
"#;

/// A folder on another host.
#[derive(Debug)]
pub struct SshPlace {
    name: String,
    root: String,
    way: Way,
    patience: Duration,
    control: Mutex<Option<Session>>,
}

impl SshPlace {
    /// The folder `root`, absolute, on the host that `way` leads to; `name` is how the place is written.
    pub fn new(name: String, way: Way, root: String, patience: Duration) -> Arc<Self> {
        Arc::new(Self { name, root, way, patience, control: Mutex::new(None) })
    }

    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    async fn session(&self) -> Result<Session, Failure> {
        let mut control = self.control.lock().await;
        if let Some(session) = &*control {
            return Ok(session.clone());
        }
        let session = self.way.connect(Lane::Control).await?;
        *control = Some(session.clone());
        Ok(session)
    }

    /// Runs a script; a connection that was lost is made anew, `tries` times. Returns the words behind each of our marks.
    async fn ask(&self, script: &str, patience: Duration, tries: u32) -> Result<Vec<String>, Failure> {
        let mark = format!("@@{:032x}", rand::random::<u128>());
        let root = word(&self.root)?;
        let script = format!("M={mark}\nR={root}\n{COMMON}{script}\nsay end");
        let mut attempt = 0;
        loop {
            attempt += 1;
            let said = match self.session().await {
                Ok(session) => session.run_root(&script, patience).await,
                Err(failure) => Err(failure),
            };
            let failure = match said {
                Ok(said) if matches!(said.exit, Exit::Lost(_)) => self.lost(&said),
                Ok(said) => return self.words(&said, &mark),
                Err(failure) => failure,
            };
            *self.control.lock().await = None;
            if !(failure.again || failure.kind == Kind::Unreachable) || attempt > tries {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE * attempt).await;
        }
    }

    fn lost(&self, said: &Said) -> Failure {
        Failure::new(Kind::Unreachable, format!("the connection to {} was lost", self.name))
            .saw(said.exit.to_string())
            .again()
    }

    fn words(&self, said: &Said, mark: &str) -> Result<Vec<String>, Failure> {
        let text = String::from_utf8_lossy(&said.out);
        let words: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix(mark)).map(|rest| rest.trim_start().to_owned()).collect();
        if said.cut {
            return Err(Failure::new(Kind::Failed, format!("{} says too much", self.name))
                .why("a place holds points and little else"));
        }
        if words.last().is_none_or(|last| last != "end") {
            let heard = clean(said.err_text().as_bytes());
            let heard: String = heard.chars().take(400).collect();
            let full = heard.contains("No space left") || heard.contains("quota");
            let failure = Failure::new(Kind::Failed, format!("a step in {} failed", self.name))
                .saw(if heard.is_empty() { said.exit.to_string() } else { heard });
            return Err(if full {
                failure
                    .why("the disk there is full; what was sealed before is untouched")
                    .mend("make room there, and do it again: it goes on")
            } else {
                failure
            });
        }
        Ok(words)
    }

    fn path(&self, name: &str) -> Result<String, Failure> {
        check_name(name)?;
        word(&format!("{}/{name}", self.root))
    }

    pub(super) async fn probe(&self) -> Result<(), Failure> {
        let script = r#"
mkdir -p "$R" || exit 1
set -- $(ls -ldn "$R/.")
case $1 in d???????w*) say open "$1"; say end; exit 0 ;; esac
f=$R/.probe-$$
printf 'ferry' >"$f" && flush "$f" && [ "$(cat "$f")" = ferry ] && rm -f "$f" || { rm -f "$f"; exit 1; }
say fine"#;
        let words = self.ask(script, SHORT, 2).await?;
        match words.first().map(String::as_str) {
            Some("fine") => Ok(()),
            _ => Err(Failure::new(Kind::CouldNotStart, format!("anybody there can write to {}", self.name))
                .saw(clean(words.join(", ").as_bytes()))
                .why("anybody on that machine could put other archives in the place of ours")
                .mend(format!("chmod 700 {} there", self.root))),
        }
    }

    pub(super) async fn files(&self, below: &str) -> Result<Vec<(String, u64)>, Failure> {
        let top = if below.is_empty() { String::new() } else { check_name(below).map(|()| format!("/{below}"))? };
        let top = word(&top)?;
        // `ls -lnd` gives sizes without reading: links mode owner group size month day time name.
        let script = format!(
            r#"D={top}
if [ -d "$R$D" ]; then
  cd "$R$D" || exit 1
  find . -type f -exec ls -lnd {{}} + >/dev/null 2>&1 && p=+ || p=';'
  find . -type f -exec ls -lnd {{}} "$p" | while read -r a b c d size e f g name; do say file "$size" "$name"; done
else
  say none
fi"#
        );
        let mut found = Vec::new();
        for line in self.ask(&script, SHORT, 3).await? {
            let Some((size, name)) = line.strip_prefix("file ").and_then(|rest| rest.split_once(' ')) else { continue };
            let name = name.strip_prefix("./").unwrap_or(name);
            if let (Ok(size), Ok(())) = (size.parse(), check_name(name)) {
                found.push((if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") }, size));
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) async fn read(self: &Arc<Self>, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        // A name that leads out is refused with the same kind as a file that is missing: it is told apart here.
        check_name(name)?;
        let mut tries = 0;
        loop {
            let mut bytes = Vec::new();
            let mut stream = match self.get(name, 0).await {
                Ok(stream) => stream,
                Err(failure) if failure.kind == Kind::Bad => return Ok(None),
                Err(failure) if failure.again && tries < 3 => {
                    tries += 1;
                    tokio::time::sleep(PAUSE * tries).await;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let mut lost = None;
            while let Some(piece) = stream.recv().await {
                match piece {
                    Ok(piece) => bytes.extend_from_slice(&piece),
                    Err(failure) => lost = Some(failure),
                }
                if bytes.len() as u64 > LARGEST_SMALL {
                    return Err(Failure::new(
                        Kind::Bad,
                        format!("{name} in {} is larger than {LARGEST_SMALL} bytes", self.name),
                    ));
                }
            }
            match lost {
                None => return Ok(Some(bytes)),
                Some(failure) if failure.again && tries < 3 => {
                    tries += 1;
                    tokio::time::sleep(PAUSE * tries).await;
                }
                Some(failure) => return Err(failure),
            }
        }
    }

    pub(super) async fn get(self: &Arc<Self>, name: &str, from: u64) -> Result<Stream, Failure> {
        let path = self.path(name)?;
        let mark = format!("@@{:032x}", rand::random::<u128>());
        let at = from.saturating_add(1);
        let script = format!(
            "F={path}\nif [ ! -f \"$F\" ] || [ -L \"$F\" ]; then printf '%s\\n' '{mark} none'; exit 0; fi\n\
             printf '%s\\n' '{mark} here'\nexec tail -c +{at} <\"$F\""
        );
        let session = self.way.connect(Lane::Bulk).await?;
        let mut child = session.open_root(&script).await?;
        child.close_input().await;
        // The first line says whether there is such a file; what follows it is the file.
        let mut head: Vec<u8> = Vec::new();
        let line_end = loop {
            if let Some(at) = head.iter().position(|byte| *byte == b'\n') {
                break at;
            }
            if head.len() > LONGEST_LINE {
                return Err(self.something_else(&head));
            }
            match tokio::time::timeout(STALL, child.next()).await {
                Ok(Some(Piece::Out(bytes))) => head.extend_from_slice(&bytes),
                Ok(Some(Piece::Err(_))) => {}
                Ok(None) | Err(_) => {
                    let exit = child.exit().await;
                    return Err(Failure::new(Kind::Unreachable, format!("{} does not answer", self.name))
                        .saw(exit.to_string())
                        .again());
                }
            }
        };
        let rest = head.split_off(line_end + 1);
        let line = String::from_utf8_lossy(&head);
        match line.trim().strip_prefix(mark.as_str()).map(str::trim) {
            Some("here") => {}
            Some("none") => return Err(missing(&self.name, name)),
            _ => return Err(self.something_else(&head)),
        }
        let (sender, stream) = mpsc::channel(16);
        let place = Arc::clone(self);
        tokio::spawn(async move {
            if !rest.is_empty() && sender.send(Ok(Bytes::from(rest))).await.is_err() {
                return;
            }
            if let Err(failure) = place.pour(&mut child, &sender).await {
                let _ = sender.send(Err(failure)).await;
            }
            session.close().await;
        });
        Ok(stream)
    }

    fn something_else(&self, said: &[u8]) -> Failure {
        let said: String = clean(said).chars().take(400).collect();
        Failure::new(Kind::Failed, format!("{} says something else than was asked", self.name)).saw(said)
    }

    async fn pour(&self, child: &mut Child, to: &mpsc::Sender<Result<Bytes, Failure>>) -> Result<(), Failure> {
        let mut heard = Vec::new();
        loop {
            match tokio::time::timeout(STALL, child.next()).await {
                Ok(Some(Piece::Out(bytes))) => {
                    if to.send(Ok(bytes)).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(Some(Piece::Err(bytes))) => heard.extend(bytes.iter().copied().take(400 - heard.len().min(400))),
                Ok(None) => break,
                Err(_) => {
                    return Err(Failure::new(
                        Kind::Unreachable,
                        format!("nothing came from {} for {} s", self.name, STALL.as_secs()),
                    )
                    .again());
                }
            }
        }
        match child.exit().await {
            Exit::Code(0) => Ok(()),
            exit @ (Exit::Lost(_) | Exit::Signal(_)) => {
                Err(Failure::new(Kind::Unreachable, format!("the connection to {} was lost", self.name))
                    .saw(exit.to_string())
                    .again())
            }
            exit => Err(Failure::new(Kind::Failed, format!("a file in {} could not be read", self.name))
                .saw(format!("{exit}: {}", clean(&heard)))),
        }
    }

    pub(super) async fn put(&self, name: &str, cargo: &Cargo<'_>, heard: Heard<'_>) -> Result<String, Failure> {
        self.put_from(name, cargo, None, heard).await
    }

    /// The same; with a reader its bytes are sent, and the file of the cargo is only its name.
    pub(super) async fn put_from(
        &self,
        name: &str,
        cargo: &Cargo<'_>,
        from: Option<Reader>,
        heard: Heard<'_>,
    ) -> Result<String, Failure> {
        check_name(name)?;
        if cargo.bytes == 0 {
            // A delivery is of bytes; there are none.
            self.remove(name).await?;
            self.create(name, b"").await?;
            return Ok("an empty file".to_owned());
        }
        let order = Push {
            host: self.name.clone(),
            source: cargo.file.to_owned(),
            bytes: cargo.bytes,
            sha256: cargo.sha256,
            destination: format!("{}/{name}", self.root),
            patience: self.patience,
        };
        let control = self.session().await?;
        let sent = match from {
            Some(from) => push_volumes(&self.way, &control, &order, from, |done, _| heard(done)).await,
            None => push(&self.way, &control, &order, |done, _| heard(done)).await,
        };
        if sent.as_ref().is_err_and(|failure| failure.kind == Kind::Unreachable) {
            *self.control.lock().await = None;
        }
        sent.map(|sent| {
            format!("digest equal to the one made there by {} from what its disk has", sent.node_digest_tool)
        })
    }

    pub(super) async fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, Failure> {
        let path = self.path(name)?;
        let content = text_of(name, bytes)?;
        let script = format!(
            r#"F={path}; d=${{F%/*}}
mkdir -p "$d" || exit 1
t=$d/.$$-{:016x}.new
printf '%s' {content} >"$t" && [ "$(wc -c <"$t")" -eq {} ] && flush "$t" || {{ rm -f "$t"; exit 1; }}
if ln "$t" "$F" 2>/dev/null; then say made
elif [ -e "$F" ] || [ -L "$F" ]; then say there
elif (set -C; cat "$t" >"$F") 2>/dev/null; then say made
else rm -f "$t"; exit 1; fi
rm -f "$t"; flush "$d""#,
            rand::random::<u64>(),
            bytes.len()
        );
        // Once only: an answer that was lost must not turn "made" into "there".
        let words = self.ask(&script, SHORT, 0).await?;
        Ok(words.first().is_some_and(|word| word == "made"))
    }

    pub(super) async fn append(&self, name: &str, line: &str) -> Result<(), Failure> {
        let path = self.path(name)?;
        let line = text_of(name, line.as_bytes())?;
        // One write of one line at the file's end (a shell's own printf may write a long one in pieces); a line that a
        // crash cut is not glued to.
        let script = format!(
            r#"F={path}; L={line}
mkdir -p "${{F%/*}}" || exit 1
if [ -s "$F" ] && [ "$(tail -c 1 "$F" | wc -l)" -eq 0 ]; then printf '\n' >>"$F" || exit 1; fi
t=${{F%/*}}/.$$-{:016x}.new
printf '%s\n' "$L" >"$t" && cat "$t" >>"$F" || {{ rm -f "$t"; exit 1; }}
rm -f "$t"; flush "$F""#,
            rand::random::<u64>()
        );
        self.ask(&script, SHORT, 0).await.map(drop)
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name)?;
        self.ask(&format!("F={path}\nrm -f \"$F\" && [ ! -e \"$F\" ] || exit 1"), SHORT, 3).await.map(drop)
    }

    pub(super) async fn remove_folder(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name)?;
        let script = format!(
            r#"F={path}
if [ -d "$F" ] && [ ! -L "$F" ]; then
  for one in "$F"/*/; do [ -d "$one" ] && rmdir "$one" 2>/dev/null; done
  rmdir "$F" || exit 1
  flush "${{F%/*}}"
fi"#
        );
        self.ask(&script, SHORT, 3).await.map(drop)
    }

    pub(super) async fn seal(&self, cluster: &ClusterName, id: &PointId, manifest: &[u8]) -> Result<(), Failure> {
        let (part, sealed) = (self.path(&format!("{cluster}/{id}.part"))?, self.path(&format!("{cluster}/{id}"))?);
        let content = text_of(MANIFEST, manifest)?;
        let script = format!(
            r#"P={part}; S={sealed}; f=$P/{MANIFEST}
if [ -e "$S" ] || [ -L "$S" ]; then say there; say end; exit 0; fi
printf '%s' {content} >"$f.new" && [ "$(wc -c <"$f.new")" -eq {} ] && flush "$f.new" || exit 1
chmod 0600 "$f.new" && mv -f "$f.new" "$f" && flush "$P" || exit 1
mv "$P" "$S" && flush "${{S%/*}}" || exit 1
say sealed"#,
            manifest.len()
        );
        let words = self.ask(&script, SHORT, 0).await?;
        if words.first().is_some_and(|word| word == "sealed") {
            return Ok(());
        }
        Err(Failure::new(Kind::Refused, format!("{cluster}/{id} is there already in {}", self.name))
            .why("a sealed point is never replaced"))
    }

    /// Size and digest by a tool of the host; `None` where it has none.
    pub(super) async fn digest(&self, name: &str) -> Result<Option<(u64, Sha256)>, Failure> {
        let path = self.path(name)?;
        let size = self.ask(&format!("F={path}\n[ -f \"$F\" ] && say size $(ls -lnd \"$F\" | {{ read -r a b c d s e; echo \"$s\"; }}) || say none"), SHORT, 3).await?;
        let Some(bytes) =
            size.first().and_then(|word| word.strip_prefix("size ")).and_then(|size| size.trim().parse::<u64>().ok())
        else {
            return Err(missing(&self.name, name));
        };
        let script = format!(
            r#"F={path}
has() {{ command -v "$1" >/dev/null 2>&1; }}
if has openssl && x=$(openssl dgst -sha256 -r <"$F" 2>/dev/null); then say sum "$x"
elif has sha256sum && x=$(sha256sum <"$F"); then say sum "$x"
elif has busybox && x=$(busybox sha256sum <"$F"); then say sum "$x"
else say notool; fi"#
        );
        let patience = SHORT + Duration::from_secs(bytes / SLOWEST);
        let words = self.ask(&script, patience, 3).await?;
        let sum =
            words.first().and_then(|word| word.strip_prefix("sum ")).and_then(|rest| rest.split_whitespace().next());
        Ok(sum.and_then(|sum| sum.parse().ok()).map(|sum| (bytes, sum)))
    }
}

/// A word for the shell there.
fn word(text: &str) -> Result<String, Failure> {
    quote(text).map_err(|nul| Failure::new(Kind::Bad, nul.to_string()))
}

/// A small file's content as a word.
fn text_of(name: &str, bytes: &[u8]) -> Result<String, Failure> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Failure::new(Kind::Bad, format!("{name} is no text")).saw(error.to_string()))?;
    word(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::remote::fake::{FakeSession, Reply};

    /// A host that answers each script with the first of these whose text is in it.
    fn host(replies: &[(&str, &str, &str, Exit)]) -> (Arc<SshPlace>, FakeSession) {
        let replies = replies.iter().map(|(when, out, err, exit)| Reply {
            when: (*when).to_owned(),
            out: out.as_bytes().to_vec(),
            err: err.as_bytes().to_vec(),
            exit: exit.clone(),
        });
        let session = FakeSession::new("shelf", replies.collect());
        let way = Way::Fake(session.clone());
        let place = SshPlace::new("ssh://shelf/srv".to_owned(), way, "/srv".to_owned(), Duration::from_secs(5));
        (place, session)
    }

    fn lost() -> Exit {
        Exit::Lost("reset".to_owned())
    }

    #[tokio::test]
    async fn a_full_disk_there_is_told_as_one() {
        for (words, full) in [
            ("sh: write error: No space left on device", true),
            ("cat: Disk quota exceeded", true),
            ("sh: can't create x: Permission denied", false),
            ("", false),
        ] {
            let (place, session) = host(&[("", "", words, Exit::Code(1))]);
            let failure = place.append("prod/x/notes.jsonl", "{}").await.unwrap_err();
            assert_eq!((failure.kind, failure.again), (Kind::Failed, false), "{failure:?}");
            assert_eq!(failure.seen.as_deref(), Some(if words.is_empty() { "exit code 1" } else { words }));
            assert_eq!(failure.mend.is_some_and(|mend| mend.contains("make room")), full, "{words}");
            assert_eq!(failure.why.is_some_and(|why| why.contains("untouched")), full, "{words}");
            assert_eq!(session.heard().len(), 1, "what was refused is not done again");
        }
    }

    /// Whoever lost the answer does not know whether the line was added or the point sealed: it is not done twice.
    #[tokio::test]
    async fn what_may_have_happened_is_not_done_again() {
        let (place, session) = host(&[("", "", "", lost())]);
        let (cluster, id) = ("prod".parse().unwrap(), "20261126T010203Z-00ff".parse().unwrap());
        let all = [
            place.append("prod/x/notes.jsonl", "{}").await.unwrap_err(),
            place.create("prod/x", b"").await.unwrap_err(),
            place.seal(&cluster, &id, b"{}").await.unwrap_err(),
        ];
        for failure in &all {
            assert!(failure.kind == Kind::Unreachable && failure.again, "{failure:?}");
            assert!(failure.what.contains("the connection to ssh://shelf/srv was lost"), "{failure:?}");
        }
        assert_eq!(session.heard().len(), all.len());
        // A question may be asked as often as it takes.
        place.remove("prod/x").await.unwrap_err();
        assert_eq!(session.heard().len(), all.len() + 4);
    }

    #[tokio::test]
    async fn a_file_that_is_cut_off_is_an_error_and_never_a_shorter_file() {
        // The beginning of a file, and the end of the connection.
        let (place, session) = host(&[("tail -c", "{mark} here\nhalf of", "", lost())]);
        let mut stream = place.get("prod/x", 0).await.unwrap();
        assert_eq!(stream.recv().await.unwrap().unwrap(), Bytes::from("half of"));
        let failure = stream.recv().await.unwrap().unwrap_err();
        assert!(failure.kind == Kind::Unreachable && failure.again && stream.recv().await.is_none(), "{failure:?}");
        let failure = place.read("prod/x").await.unwrap_err();
        assert!(failure.kind == Kind::Unreachable, "{failure:?}");
        assert_eq!(session.heard().len(), 1 + 4, "it was tried four times");
        // A disk there that fails is another thing: nothing is gained by asking again.
        let (place, session) =
            host(&[("tail -c", "{mark} here\nhalf of", "tail: error reading: Input/output error", Exit::Code(1))]);
        let failure = place.read("prod/x").await.unwrap_err();
        assert!(failure.kind == Kind::Failed && !failure.again, "{failure:?}");
        assert!(failure.seen.as_deref().unwrap().contains("Input/output error"), "{failure:?}");
        assert_eq!(session.heard().len(), 1);
        // Nobody answers at all.
        let (place, session) = host(&[("tail -c", "", "nobody", lost())]);
        let failure = place.read("prod/x").await.unwrap_err();
        assert!(failure.kind == Kind::Unreachable && failure.what.contains("does not answer"), "{failure:?}");
        assert_eq!(session.heard().len(), 4);
    }

    #[tokio::test]
    async fn other_words_than_were_asked_for_are_no_file() {
        let chatter = "Welcome ".repeat(2000);
        for said in ["Welcome to the shelf\n", "{mark} perhaps\n", "\n", chatter.as_str()] {
            let (place, _) = host(&[("tail -c", said, "", Exit::Code(0))]);
            let failure = place.get("prod/x", 0).await.unwrap_err();
            assert!(failure.kind == Kind::Failed && failure.what.contains("something else"), "{said:.20}: {failure:?}");
            assert!(failure.seen.unwrap().len() <= 400, "{said:.20}");
        }
        let (place, _) = host(&[("tail -c", "{mark} none\n", "", Exit::Code(0))]);
        assert_eq!(place.get("prod/x", 0).await.unwrap_err().kind, Kind::Bad);
        assert_eq!(place.read("prod/x").await.unwrap(), None);
        // Whoever stops listening stops the reading, and nothing is left waiting.
        let (place, _) = host(&[("tail -c", "{mark} here\nbytes", "", Exit::Code(0))]);
        drop(place.get("prod/x", 0).await.unwrap());
        let endless = format!("{{mark}} file 1 {}\n", "x".repeat(100)).repeat(50_000);
        let (place, _) = host(&[("find .", &endless, "", Exit::Code(0))]);
        let failure = place.files("").await.unwrap_err();
        assert!(failure.kind == Kind::Failed && failure.what.contains("says too much"), "{failure:?}");
    }

    /// A manifest of 64 MiB was not written by ferry; what sends it has not our memory.
    #[tokio::test]
    async fn a_small_file_is_small() {
        let large = format!("{{mark}} here\n{}", "x".repeat(usize::try_from(LARGEST_SMALL).unwrap() + 1));
        let (place, _) = host(&[("tail -c", &large, "", Exit::Code(0))]);
        let failure = place.read("prod/x/manifest.json").await.unwrap_err();
        assert!(failure.kind == Kind::Bad && failure.what.contains("is larger than"), "{failure:?}");
    }

    #[tokio::test]
    async fn a_listing_takes_what_it_understands() {
        let said = "{mark} file 12 ./prod/x/manifest.json\nls: noise\n{mark} file many ./y\n{mark} file 3 ../out\n\
                    {mark} file 4 a b\n{mark} what\n{mark} end\n";
        let (place, _) = host(&[("find .", said, "", Exit::Code(0))]);
        let files = [("a b".to_owned(), 4), ("prod/x/manifest.json".to_owned(), 12)];
        assert_eq!(place.files("").await.unwrap(), files);
        // A place that cannot be probed because its host says nothing useful is not called fine.
        let (place, _) = host(&[("", "{mark} open drwxrwxrwx\n{mark} end\n", "", Exit::Code(0))]);
        let failure = place.probe().await.unwrap_err();
        assert!(failure.kind == Kind::CouldNotStart && failure.mend.unwrap().contains("chmod 700 /srv"));
    }

    #[tokio::test]
    async fn a_sealed_point_is_never_replaced_there() {
        let (place, session) = host(&[("P=", "{mark} there\n{mark} end\n", "", Exit::Code(0))]);
        let (cluster, id) = ("prod".parse().unwrap(), "20261126T010203Z-00ff".parse().unwrap());
        let failure = place.seal(&cluster, &id, b"{}").await.unwrap_err();
        assert!(failure.kind == Kind::Refused && failure.what.contains("is there already"), "{failure:?}");
        let failure = place.seal(&cluster, &id, b"\xff").await.unwrap_err();
        assert!(failure.kind == Kind::Bad && failure.what.contains("is no text"), "{failure:?}");
        assert_eq!(session.heard().len(), 1);
    }

    #[tokio::test]
    async fn without_a_tool_that_hashes_there_is_no_digest_from_there() {
        let replies = [
            ("size $(ls", "{mark} size 12\n{mark} end\n", "", Exit::Code(0)),
            ("has openssl", "{mark} notool\n{mark} end\n", "", Exit::Code(0)),
        ];
        let (place, _) = host(&replies);
        assert_eq!(place.digest("prod/x").await.unwrap(), None);
        let (place, _) = host(&[("size $(ls", "{mark} none\n{mark} end\n", "", Exit::Code(0))]);
        assert_eq!(place.digest("prod/x").await.unwrap_err().kind, Kind::Bad);
    }
}
