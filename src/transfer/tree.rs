//! Moves a folder as one tar stream.
//!
//! The source packs it, ferry looks at every header that passes and hashes the stream, the target keeps it as a part. Its digest
//! is made three times: of a second packing at the source, of the stream, and of what the target's disk has. Only when all are equal
//! it is unpacked, beside its place, and gets its name. So nothing of a hostile source's is unpacked that was not looked at: no
//! name leads out of the folder, no member goes through a link, there are no devices.
//!
//! After a cut the source packs again and leaves out what the target has: `tar` packs an unchanged folder to the same bytes, and
//! the digests prove that it did. After a crash of ferry's all of the stream is looked at once more, and only what is missing
//! is sent on to the target.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::carry::{Limiter, Moved, Order, Survey, Whole, header};
use super::ends::{Post, is_full, mark, meant, script};
use super::streams::{Part, Sink, changed, ready};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::remote::ssh::connect::Lane;
use crate::remote::{Exit, Piece};
use crate::secret::clean;

/// The slowest disk that is waited for, in bytes a second.
const SLOWEST: u64 = 10 << 20;
/// Links that are remembered. A folder with more is packed by hand.
const MOST_LINKS: usize = 200_000;
/// An extended header's length at most, in bytes.
const MOST_EXTENDED: u64 = 1 << 20;

/// Carries the folder. `progress` hears the bytes of the stream and what the folder was thought to have.
pub(super) async fn carry_tree(
    order: &Order,
    found: &Survey,
    progress: &mut impl FnMut(u64, u64),
) -> Result<Moved, Failure> {
    let began = Instant::now();
    let header = header(&format!("{:016x}", rand::random::<u64>()), order, FOLDER, 0);
    let kept = if order.resume { found.resumes } else { None };
    let mut pass = Pass::new(kept.unwrap_or(0));
    let (mut cuts, mut again) = (0, 0);
    let mut moved = Instant::now();
    let mut pause = Duration::from_millis(200);
    let result = async {
        begin(order, &header, kept.is_some()).await?;
        loop {
            let before = pass.passed;
            let failure = match once(order, found, &header, &mut pass, &mut again, progress).await {
                Ok(sha256) => return Ok(sha256),
                Err(failure) => failure,
            };
            tracing::info!(passed = pass.passed, %failure, "a folder's stream ended early");
            if pass.passed > before {
                moved = Instant::now();
                pause = Duration::from_millis(200);
            }
            if !failure.again || moved.elapsed() > order.patience {
                return Err(failure);
            }
            cuts += 1;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(15));
        }
    }
    .await;
    let failure: Failure = match result {
        Ok(sha256) => {
            return Ok(Moved {
                bytes: pass.passed,
                chunks: 1,
                sha256: Some(sha256),
                cuts,
                sent_again: again,
                kept: kept.unwrap_or(0),
                streams: 1,
                started_over: false,
                took: began.elapsed(),
            });
        }
        Err(failure) => failure,
    };
    let failure = if failure.host.is_none() { failure.on(order.to.host()) } else { failure };
    if failure.again {
        return Err(failure.why("what has arrived is kept: --resume goes on with it"));
    }
    // What is wrong with it will not get right.
    let mut target = Post::new(&order.to, order.patience);
    let _ = target.ask(&[("H", header)], "target_drop", Duration::from_secs(120)).await;
    Err(match failure.seen.as_deref().is_some_and(is_full) {
        true => failure.why("the disk there is full: a folder needs its size twice until it is unpacked"),
        false => failure,
    })
}

/// What stands for the state of the source in the head of a folder's journal.
pub(super) const FOLDER: &str = "folder";
/// So often the state of the look at the headers is kept, in bytes of the stream, and how many of them.
const MARK_EVERY: u64 = 1 << 20;
const MARKS: usize = 64;

/// One look at the stream, over all cuts.
struct Pass {
    /// Bytes that were looked at and handed on.
    passed: u64,
    /// Bytes that the target has from an earlier transfer: looked at and hashed anew, and not sent.
    there: u64,
    guard: Guard,
    /// What the look had seen at these bytes. After a cut it goes on where the target stands, and not behind: what is
    /// written was looked at as it is written.
    marks: VecDeque<(u64, Guard)>,
    whole: Option<Whole>,
}

impl Pass {
    fn new(there: u64) -> Self {
        Self { passed: 0, there, guard: Guard::default(), marks: VecDeque::from([(0, Guard::default())]), whole: None }
    }

    fn mark(&mut self) {
        if self.marks.back().is_none_or(|(at, _)| self.passed >= at + MARK_EVERY) {
            self.marks.push_back((self.passed, self.guard.clone()));
            // The first one, that of the beginning, costs nothing.
            if self.marks.len() > MARKS {
                self.marks.remove(1);
            }
        }
    }

    /// Goes back to the newest mark that is not behind `at`.
    fn back_to(&mut self, at: u64) -> u64 {
        while self.marks.len() > 1 && self.marks.back().is_some_and(|(mark, _)| *mark > at) {
            self.marks.pop_back();
        }
        let (mark, guard) = self.marks.back().cloned().unwrap_or_default();
        (self.passed, self.guard) = (mark, guard);
        mark
    }
}

/// Makes the part, or goes on with the one that is there.
async fn begin(order: &Order, header: &str, resumes: bool) -> Result<(), Failure> {
    let mut target = Post::new(&order.to, order.patience);
    let owner = order.owner.clone().unwrap_or_default();
    let begin = [("H", header.to_owned()), ("R", u8::from(resumes).to_string()), ("W", owner)];
    let begun = target.ask(&begin, "target_begin", Duration::from_secs(120)).await?;
    if begun.get("noowner").is_some() || begun.get("begun").is_none() {
        return Err(Failure::new(Kind::Refused, "the part cannot be made for that owner")
            .on(order.to.host())
            .saw(begun.shown())
            .mend("name a user (and group) that exists there, and become root"));
    }
    Ok(())
}

#[allow(clippy::too_many_lines)]
async fn once(
    order: &Order,
    found: &Survey,
    header: &str,
    pass: &mut Pass,
    again: &mut u64,
    progress: &mut impl FnMut(u64, u64),
) -> Result<Sha256, Failure> {
    let (from, to) = (&order.from, &order.to);
    let mut target = Post::new(to, order.patience);
    let owner = order.owner.clone().unwrap_or_default();
    let long = Duration::from_secs(3600) + Duration::from_secs(found.bytes / SLOWEST);
    let mut second = Post::new(from, order.patience);
    let mut digesting = tokio::task::JoinSet::new();
    digesting.spawn(async move { second.ask(&[], "tree_digest", long).await });
    // Where the target stands: between what is sure to be there and all that was sent.
    let sent = pass.passed.max(pass.there);
    let mut sink = Sink::open(to, header, "tree", pass.there.min(sent), sent, Part::made()).await?;
    // Without what was hashed so far all of it is looked at anew.
    let stands = if pass.whole.is_some() { sink.at() } else { 0 };
    if pass.passed > pass.there {
        let mark = pass.back_to(stands);
        *again += sent - mark;
        if mark != sink.at() {
            // It is written anew from where the look has a beginning.
            sink.finish().await?;
            if mark < pass.there {
                pass.there = 0;
            }
            sink = Sink::open(to, header, "tree", mark.max(pass.there), mark.max(pass.there), Part::made()).await?;
        }
    } else {
        pass.back_to(0);
    }
    let first = pass.passed;
    let session = from.way().connect(Lane::Bulk).await?;
    let mark = mark();
    let mut child = session.open_root(&script(from, &mark, &[("O", first.to_string())], "tree_read")?).await?;
    child.close_input().await;
    let silence = (order.patience / 4).max(Duration::from_secs(30)) + Duration::from_secs(first / SLOWEST);
    ready(from, &mut child, &mark, silence).await?;
    if pass.whole.is_none() {
        pass.whole = Some(Whole::start(None, true)?);
    }
    let limiter = Limiter::new(order.limit_rate);
    let mut said = Vec::new();
    let mut told = Instant::now();
    loop {
        let Ok(piece) = tokio::time::timeout(silence, child.next()).await else {
            return Err(Failure::new(Kind::Unreachable, format!("nothing came for {} s", silence.as_secs()))
                .on(from.host())
                .again());
        };
        match piece {
            Some(Piece::Out(mut bytes)) => {
                pass.guard.take(&bytes).map_err(|what| {
                    Failure::new(Kind::Failed, "the folder's stream has something that is not unpacked")
                        .on(from.host())
                        .saw(what)
                        .why("unpacked as root it could reach other places than its own folder")
                        .mend("look at it there; pack by hand what you trust")
                })?;
                if let Some(whole) = &mut pass.whole {
                    whole.pieces.give((pass.passed, bytes.clone()), bytes.len()).await;
                }
                let known = usize::try_from(pass.there.saturating_sub(pass.passed)).unwrap_or(usize::MAX);
                pass.passed += bytes.len() as u64;
                pass.mark();
                let new = bytes.split_off(known.min(bytes.len()));
                if !new.is_empty() {
                    limiter.take(new.len() as u64).await;
                    if let Err(failure) = sink.write(new).await {
                        return Err(match sink.finish().await {
                            Err(told) if !told.again => told,
                            _ => failure.again(),
                        });
                    }
                }
                if told.elapsed() > Duration::from_millis(200) {
                    told = Instant::now();
                    progress(pass.passed, found.bytes.max(pass.passed));
                }
            }
            Some(Piece::Err(bytes)) => {
                if said.len() < 64 << 10 {
                    said.extend_from_slice(&bytes);
                }
            }
            None => break,
        }
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    match child.exit().await {
        Exit::Lost(why) => {
            return Err(Failure::new(Kind::Unreachable, "the connection was lost while the folder came")
                .on(from.host())
                .saw(why)
                .again());
        }
        Exit::Code(0) if said.lines().any(|line| meant(line, &mark) == Some(("end", "0"))) => {}
        exit => return Err(from.failed("the folder could not be packed there", &format!("{exit}; {said}"))),
    }
    session.close().await;
    pass.guard.end().map_err(|what| from.failed("the folder's stream is no whole tar archive", &what))?;
    let at = sink.finish().await?;
    if at != pass.passed {
        if pass.passed < pass.there {
            return Err(changed(from, &format!("{} bytes of an earlier stream", pass.there), &pass.passed.to_string()));
        }
        return Err(Failure::new(Kind::Unreachable, "not all bytes arrived")
            .on(to.host())
            .saw(format!("{at} of {}", pass.passed))
            .again());
    }
    let passed = pass.passed;
    let digest = match pass.whole.take() {
        Some(whole) => whole.finish(passed).await?,
        None => None,
    };
    let digest = digest.ok_or_else(|| Failure::new(Kind::Bug, "the stream was not hashed to its end"))?;
    let there = match digesting.join_next().await {
        Some(Ok(answer)) => answer?,
        _ => return Err(Failure::new(Kind::Bug, "the source's digest was not taken")),
    };
    if there.get("digest") != Some(digest.to_string().as_str()) {
        return Err(changed(from, &format!("sha256 {digest} of the stream"), &there.shown()));
    }
    let values = [("H", header.to_owned()), ("N", passed.to_string()), ("A", digest.to_string()), ("W", owner)];
    let done = target.ask(&values, "tree_unpack", long).await?;
    progress(passed, passed);
    if done.get("done").is_some() {
        return Ok(digest);
    }
    if done.get("exists").is_some() {
        return Err(Failure::new(Kind::Refused, "meanwhile something else got that name")
            .on(to.host())
            .saw(to.shown()));
    }
    if let Some(seen) = done.get("differs") {
        return Err(Failure::new(Kind::Failed, "what the target's disk has is not what was sent")
            .on(to.host())
            .saw(format!("{seen} there, {digest} sent"))
            .why("a disk or memory there is failing, somebody else writes there, or what an earlier transfer left was another's")
            .mend("start again without --resume"));
    }
    Err(to.failed("the folder could not be unpacked", &done.shown()))
}

const BLOCK: usize = 512;

/// Looks at the headers of a tar stream as they pass.
#[derive(Default, Clone)]
struct Guard {
    block: Vec<u8>,
    /// Bytes of content that are stepped over, with what fills its last block.
    skip: u64,
    /// An extended header that is being gathered: its kind, and how much is still to come.
    gathering: Option<(u8, u64, Vec<u8>)>,
    /// What an extended header said of the next member.
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    /// Shared between the marks of a pass.
    links: Arc<HashSet<Vec<u8>>>,
    zeros: u32,
}

fn shown(name: &[u8]) -> String {
    clean(name).chars().take(200).collect()
}

/// A name's parts, without those that say nothing; `None` where it leads out.
fn parts(name: &[u8]) -> Option<Vec<&[u8]>> {
    if name.starts_with(b"/") {
        return None;
    }
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    parts.iter().all(|part| *part != b"..").then_some(parts)
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number of a header: octal digits, or base 256 where the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        let (first, rest) = field.split_first()?;
        return rest
            .iter()
            .try_fold(u64::from(first & 0x3f), |sum, byte| sum.checked_mul(256).map(|sum| sum | u64::from(*byte)));
    }
    let digits = std::str::from_utf8(text(field)).ok()?.trim();
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

impl Guard {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= count as u64;
                bytes = bytes.get(count..).unwrap_or_default();
                continue;
            }
            let count = (BLOCK - self.block.len()).min(bytes.len());
            let (now, rest) = bytes.split_at(count);
            self.block.extend_from_slice(now);
            bytes = rest;
            if self.block.len() == BLOCK {
                let block = std::mem::take(&mut self.block);
                self.block(&block)?;
            }
        }
        Ok(())
    }

    fn block(&mut self, block: &[u8]) -> Result<(), String> {
        if let Some((kind, left, mut gathered)) = self.gathering.take() {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK);
            gathered.extend_from_slice(block.get(..count).unwrap_or_default());
            match left - count as u64 {
                0 => return self.extended(kind, &gathered),
                left => self.gathering = Some((kind, left, gathered)),
            }
            return Ok(());
        }
        if block.iter().all(|byte| *byte == 0) {
            self.zeros += 1;
            return Ok(());
        }
        if self.zeros > 0 {
            return Err("something behind the end of the archive".to_owned());
        }
        let field = |from: usize, length: usize| block.get(from..from + length).unwrap_or_default();
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        if number(field(148, 8)) != Some(sum) {
            return Err("a header whose checksum is wrong".to_owned());
        }
        let kind = field(156, 1).first().copied().unwrap_or_default();
        let size = number(field(124, 12)).ok_or("a header whose size is no number")?;
        if matches!(kind, b'L' | b'K' | b'x') {
            if size > MOST_EXTENDED {
                return Err(format!("an extended header of {size} bytes"));
            }
            if size > 0 {
                self.gathering = Some((kind, size, Vec::new()));
            }
            return Ok(());
        }
        if kind == b'g' {
            return Err("a global header, which tar does not write when it packs a folder".to_owned());
        }
        let mut name = text(field(0, 100)).to_vec();
        if field(257, 6) == b"ustar\0" && !text(field(345, 155)).is_empty() {
            name = [text(field(345, 155)), b"/", &name].concat();
        }
        let name = self.path.take().unwrap_or(name);
        let link = self.link.take().unwrap_or_else(|| text(field(157, 100)).to_vec());
        let size = self.size.take().unwrap_or(size);
        let Some(place) = parts(&name) else { return Err(format!("a name that leads out: {}", shown(&name))) };
        for ancestor in 1..place.len() {
            if self.links.contains(&place.get(..ancestor).unwrap_or_default().join(&b'/')) {
                return Err(format!("a name that goes through a link: {}", shown(&name)));
            }
        }
        let whole = place.join(&b'/');
        match kind {
            0 | b'0' | b'7' => {
                if self.links.contains(&whole) {
                    return Err(format!("a file over a link: {}", shown(&name)));
                }
                self.skip = size.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64);
            }
            b'1' => match parts(&link) {
                Some(to)
                    if (1..=to.len())
                        .all(|count| !self.links.contains(&to.get(..count).unwrap_or_default().join(&b'/'))) => {}
                // A second name of a link that is there.
                Some(to)
                    if (1..to.len())
                        .all(|count| !self.links.contains(&to.get(..count).unwrap_or_default().join(&b'/'))) =>
                {
                    self.remember(whole)?;
                }
                _ => return Err(format!("a hard link that leads out: {} to {}", shown(&name), shown(&link))),
            },
            b'2' => self.remember(whole)?,
            b'5' => {
                if self.links.contains(&whole) {
                    return Err(format!("a folder over a link: {}", shown(&name)));
                }
            }
            b'6' => {}
            b'3' | b'4' => return Err(format!("a device: {}", shown(&name))),
            other => return Err(format!("a member of the kind {:?}: {}", char::from(other), shown(&name))),
        }
        Ok(())
    }

    fn remember(&mut self, link: Vec<u8>) -> Result<(), String> {
        Arc::make_mut(&mut self.links).insert(link);
        if self.links.len() > MOST_LINKS { Err(format!("more than {MOST_LINKS} links")) } else { Ok(()) }
    }

    fn extended(&mut self, kind: u8, said: &[u8]) -> Result<(), String> {
        match kind {
            b'L' => self.path = Some(text(said).to_vec()),
            b'K' => self.link = Some(text(said).to_vec()),
            _ => {
                let mut rest = said;
                while !rest.is_empty() {
                    let bad = || "a record of an extended header that cannot be read".to_owned();
                    let blank = rest.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
                    let length =
                        rest.get(..blank).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
                    let length =
                        length.filter(|length| *length > blank + 1 && *length <= rest.len()).ok_or_else(bad)?;
                    let (record, behind) = rest.split_at(length);
                    rest = behind;
                    let record = record.get(blank + 1..length - 1).unwrap_or_default();
                    let at = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
                    let value = record.get(at + 1..).unwrap_or_default();
                    match record.get(..at).unwrap_or_default() {
                        b"path" => self.path = Some(value.to_vec()),
                        b"linkpath" => self.link = Some(value.to_vec()),
                        b"size" => {
                            self.size = Some(
                                std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)?,
                            )
                        }
                        name if name.starts_with(b"GNU.sparse") => return Err("a sparse member".to_owned()),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Both end blocks were there and nothing is half.
    fn end(&self) -> Result<(), String> {
        if self.zeros < 2 || self.skip > 0 || !self.block.is_empty() || self.gathering.is_some() {
            return Err("it ends in the middle".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn member(kind: u8, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].copy_from_slice(b"        ");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.extend_from_slice(content);
        block.resize(block.len().div_ceil(BLOCK) * BLOCK, 0);
        block
    }

    fn judge(members: &[Vec<u8>]) -> Result<(), String> {
        let stream = [members.concat(), vec![0; 2 * BLOCK]].concat();
        for step in [1, 511, 512, 513, 10_000] {
            let mut guard = Guard::default();
            for piece in stream.chunks(step) {
                guard.take(piece)?;
            }
            guard.end()?;
        }
        Ok(())
    }

    #[test]
    fn what_leads_out_is_refused_and_what_does_not_is_not() {
        let file = |name: &str| member(b'0', name, "", b"content");
        let pax = |text: &str| member(b'x', "pax", "", text.as_bytes());
        judge(&[
            member(b'5', "./", "", b""),
            file("./a"),
            member(b'2', "./b", "/etc/passwd", b""),
            member(b'1', "./c", "./a", b""),
            member(b'1', "./d", "./b", b""),
            member(b'6', "./fifo", "", b""),
            pax("18 path=long/name\n"),
            file("x"),
            member(b'L', "././@LongLink", "", b"another/long/name\0"),
            file("x"),
        ])
        .unwrap();
        for (bad, word) in [
            (vec![file("../a")], "leads out"),
            (vec![file("./a/../../b")], "leads out"),
            (vec![file("/etc/passwd")], "leads out"),
            (vec![pax("14 path=../x\n\n"), file("x")], "leads out"),
            (vec![pax("13 path=../x\n"), file("x")], "leads out"),
            (vec![member(b'L', "l", "", b"../x\0"), file("x")], "leads out"),
            (vec![member(b'2', "l", "/etc", b""), file("l/passwd")], "through a link"),
            (vec![member(b'2', "./l", "/etc", b""), file("l/./passwd")], "through a link"),
            (vec![member(b'2', "l", "/etc/passwd", b""), file("l")], "over a link"),
            (vec![member(b'2', "l", "/etc", b""), member(b'5', "l", "", b"")], "over a link"),
            (vec![member(b'2', "l", "/etc", b""), member(b'1', "h", "l", b""), file("h/x")], "through a link"),
            (vec![member(b'1', "h", "../x", b"")], "hard link"),
            (vec![member(b'1', "h", "/etc/passwd", b"")], "hard link"),
            (vec![member(b'2', "l", "/etc", b""), member(b'1', "h", "l/passwd", b"")], "hard link"),
            (vec![member(b'3', "null", "", b"")], "device"),
            (vec![member(b'g', "global", "", b"13 path=../x\n")], "global"),
            (vec![member(b'S', "sparse", "", b"")], "kind"),
            (vec![vec![0; BLOCK], file("behind")], "behind the end"),
            (vec![vec![7; BLOCK]], "checksum"),
        ] {
            let said = judge(&bad).unwrap_err();
            assert!(said.contains(word) || said.contains("cannot be read"), "{word}: {said}");
        }
        let mut guard = Guard::default();
        guard.take(&file("a")).unwrap();
        assert!(guard.end().is_err(), "an archive without its end");
    }

    /// A header that was changed, with the sum that it has then.
    fn sealed(mut block: Vec<u8>, at: usize, field: &[u8]) -> Vec<u8> {
        block[at..at + field.len()].copy_from_slice(field);
        block[148..156].copy_from_slice(b"        ");
        let sum: u64 = block[..BLOCK].iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    #[test]
    fn names_links_and_sizes_are_read_as_tar_does() {
        let file = |name: &str| member(b'0', name, "", b"content");
        let pax = |text: &str| member(b'x', "pax", "", text.as_bytes());
        let long = "d/".repeat(400);
        // A size as eleven bytes behind a set bit, one in an extended header, and a name in two fields.
        let mut large = vec![0; 12];
        (large[0], large[11]) = (0x80, 7);
        let empty = |name: &str| sealed(file(name), 124, b"00000000000");
        judge(&[
            sealed(file("a"), 124, &large),
            [pax("10 size=7\n"), empty("b")].concat(),
            sealed(file("name"), 345, b"folder/of/it"),
            member(b'L', "l", "", format!("{long}x\0").as_bytes()),
            file("x"),
            pax("20 mtime=1700000000\n"),
            file("y"),
        ])
        .unwrap();
        for (bad, word) in [
            (vec![sealed(file("name"), 345, b"../it")], "leads out"),
            (vec![member(b'K', "l", "", b"/etc/passwd\0"), member(b'1', "h", "x", b"")], "hard link that leads out"),
            (vec![pax("24 linkpath=/etc/passwd\n"), member(b'1', "h", "x", b"")], "hard link that leads out"),
            (vec![pax("24 linkpath=/etc/passwd\n"), member(b'1', "h", "x", b"")], "/etc/passwd"),
            (vec![pax("22 GNU.sparse.major=1\n"), file("x")], "sparse member"),
            (vec![pax("10 size=x\n"), file("x")], "cannot be read"),
            (vec![pax("9 size 7\n"), file("x")], "cannot be read"),
            (vec![pax("99 size=7\n"), file("x")], "cannot be read"),
            (vec![pax("size"), file("x")], "cannot be read"),
            (vec![sealed(member(b'x', "pax", "", b""), 124, b"00010000000")], "extended header of 2097152 bytes"),
            (vec![sealed(file("a"), 124, b"size")], "whose size is no number"),
            (vec![sealed(file("a"), 124, &[0xff; 12])], "whose size is no number"),
        ] {
            let said = judge(&bad).unwrap_err();
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_eq!(
            (number(&large), number(b"0000010\0"), number(b"        "), number(b"9")),
            (Some(7), Some(8), Some(0), None)
        );
        let mut guard = Guard {
            links: Arc::new((0..MOST_LINKS as u32).map(|at| at.to_le_bytes().to_vec()).collect()),
            ..Guard::default()
        };
        assert!(guard.take(&member(b'2', "one more", "x", b"")).unwrap_err().contains("more than 200000 links"));
    }

    /// After a cut the look goes back to where it has a beginning, and never behind what the target has.
    #[test]
    fn a_look_goes_on_where_the_target_stands() {
        let mut pass = Pass::new(0);
        for _ in 0..300 {
            pass.passed += MARK_EVERY / 2;
            pass.mark();
        }
        assert_eq!((pass.marks.len(), pass.marks.front().map(|(at, _)| *at)), (MARKS, Some(0)));
        let end = pass.passed;
        assert_eq!(pass.back_to(end), end);
        assert_eq!((pass.back_to(end - 1), pass.passed), (end - MARK_EVERY, end - MARK_EVERY));
        // So far back that nothing is remembered: from the beginning.
        assert_eq!((pass.back_to(MARK_EVERY), pass.marks.len()), (0, 1));
    }
}
