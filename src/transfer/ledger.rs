//! What is known of the chunks of a file that is moved, and what proves it.
//!
//! What lives here: which chunk has arrived, what each end says of it, what is asked of an end next, and whether all of it is
//! proved. What does not: how bytes go (`carry`, `streams`), and how digests are made (`prove`). Nothing here waits.
//!
//! A chunk is proved by equal digests of both ends, whichever way they are come by. Where the ways that are cheaper do not
//! give one answer, each chunk is asked for at both ends.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::gmac::{Key, NoTag, Running};
use super::prove::{Ask, Digest, Landed, Proof, Side};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};

/// The largest chunk, in bytes.
pub(super) const MOST_CHUNK: u64 = 64 << 20;
/// So often a chunk is sent again before something is called broken.
const TRIES: u32 = 3;
/// So many of the largest chunks of a file are read at once in a row; of smaller ones each.
const ROW: u64 = 2;
/// A block of the cipher, in bytes.
const BLOCK: u64 = super::BLOCK as u64;

/// What stands for the source's digests of its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// It makes them.
    Chunks,
    /// The stream's tags do, until its own of the whole says otherwise.
    Stream,
    /// Its tag of the whole does, which those of the target must give together.
    Whole,
}

#[derive(Debug, Clone, Default)]
struct Chunk {
    source: Option<Digest>,
    target: Option<Digest>,
    /// The target was asked for its digest and owes an answer.
    asked: bool,
    /// All of it is known to have arrived.
    certain: bool,
    proven: bool,
    /// The journal has it already.
    noted: bool,
    /// It differed and is to be sent anew: what the stream that brought it still says of it counts no more.
    waits: bool,
    tries: u32,
}

/// What the target has read of its part, from its beginning on.
#[derive(Default)]
struct Row {
    /// Each a length and a tag.
    parts: Vec<(u64, Option<Digest>)>,
    until: u64,
    /// The next reading is asked for when so much has arrived.
    next: u64,
}

/// Whether all is proved.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Something is still owed.
    Open,
    /// Every byte.
    Proved,
    /// The source's file is not what its stream was, or what arrived: each chunk is asked for, and what was made of the stream
    /// is of no use.
    Differs,
}

/// See above.
pub(super) struct Ledger {
    bytes: u64,
    size: u64,
    chunks: Vec<Chunk>,
    by: By,
    row: Option<Row>,
    key: Option<Key>,
    /// The source makes a tag of its whole file. One here need not: it is read once, for the stream.
    reads: bool,
    /// That tag.
    read: Option<Digest>,
    source: UnboundedSender<Ask>,
    target: UnboundedSender<Ask>,
}

impl Ledger {
    /// Of a file of so many bytes in chunks of this size. With `in_a_row` the target reads behind its writer what is there. What
    /// is asked of the source and of the target comes out of the two receivers.
    pub(super) fn new(
        (bytes, size): (u64, u64),
        key: Option<Key>,
        by: By,
        in_a_row: bool,
        source_is_here: bool,
    ) -> (Self, [UnboundedReceiver<Ask>; 2]) {
        let count = usize::try_from(bytes.div_ceil(size)).unwrap_or(usize::MAX);
        let by = if key.is_none() || count == 0 { By::Chunks } else { by };
        let (source, of_source) = unbounded_channel();
        let (target, of_target) = unbounded_channel();
        let reads = by != By::Chunks && !source_is_here;
        if reads {
            let _ = source.send(Ask::Whole { bytes });
        }
        let ledger = Self {
            bytes,
            size,
            chunks: vec![Chunk::default(); count],
            by,
            row: (in_a_row && by != By::Chunks).then(Row::default),
            key,
            reads,
            read: None,
            source,
            target,
        };
        (ledger, [of_source, of_target])
    }

    /// How many chunks there are.
    pub(super) fn count(&self) -> usize {
        self.chunks.len()
    }

    /// What the stream's chunks are to be tagged with, where that is of use.
    pub(super) fn marks(&self) -> Option<&Key> {
        self.key.as_ref().filter(|_| self.by == By::Stream)
    }

    /// Asks an end for something else.
    pub(super) fn ask(&self, side: Side, ask: Ask) {
        // An end that no longer answers has said why.
        let _ = match side {
            Side::Source => self.source.send(ask),
            Side::Target => self.target.send(ask),
        };
    }

    /// Takes the lines of an earlier transfer's journal over: the chunks that it proved are proved anew, not sent. How
    /// many bytes they have.
    pub(super) fn resume<'a>(&mut self, journal: impl Iterator<Item = &'a str>) -> u64 {
        for line in journal {
            let (number, digest) = line.split_once(' ').unwrap_or_default();
            if let Ok(number) = number.parse::<usize>()
                && let Some(chunk) = self.chunks.get_mut(number)
            {
                // Where the source makes it anew under another key, what was noted says that it has arrived.
                let source = digest.parse::<Sha256>().ok().filter(|_| self.key.is_none()).map(Digest::Sha256);
                *chunk = Chunk { source, asked: true, certain: true, noted: true, ..Chunk::default() };
            }
        }
        let mut kept = 0;
        for (number, chunk) in self.chunks.iter().enumerate().filter(|(_, chunk)| chunk.noted) {
            kept += self.length(number);
            if chunk.source.is_none() {
                self.ask(Side::Source, self.digest_of(number, Landed::Certain));
            }
            self.ask(Side::Target, self.digest_of(number, Landed::Certain));
        }
        kept
    }

    /// The chunks that are to be sent, now that no stream runs: whoever takes them sends them.
    pub(super) fn sends(&mut self) -> Vec<usize> {
        let all = self.chunks.iter().enumerate();
        let todo: Vec<usize> =
            all.filter(|(_, chunk)| !chunk.proven && !chunk.asked).map(|(number, _)| number).collect();
        if !todo.is_empty() {
            self.chunks.iter_mut().for_each(|chunk| chunk.waits = false);
        }
        todo
    }

    /// A chunk was sent; `landed` tells when it has arrived.
    pub(super) fn sent(&mut self, number: usize, landed: Landed) {
        let (end, owed) = (self.end(number), self.by == By::Chunks);
        let Some(chunk) = self.chunks.get_mut(number).filter(|chunk| !chunk.waits) else { return };
        chunk.certain |= matches!(landed, Landed::Certain);
        if chunk.asked || chunk.proven && self.row.is_none() {
            return;
        }
        chunk.asked = true;
        if let Some(row) = &mut self.row {
            if end >= row.next || end == self.bytes {
                row.next = end + if self.size < MOST_CHUNK { self.size } else { ROW * self.size };
                self.ask(Side::Target, Ask::Follow { chunk: number, end, landed });
            }
            return;
        }
        if chunk.source.is_none() && owed {
            self.ask(Side::Source, self.digest_of(number, Landed::Certain));
        }
        self.ask(Side::Target, self.digest_of(number, landed));
    }

    /// Gives up reading in a row where that proves nothing: what was written twice, what ended within a block of the cipher,
    /// and what is not what was sent, is read chunk by chunk.
    pub(super) fn check_row(&mut self, torn: bool) {
        if let Some(row) = &self.row
            && (torn || !row.until.is_multiple_of(BLOCK) && row.until != self.bytes)
        {
            self.leave_row();
        }
    }

    fn leave_row(&mut self) {
        self.row = None;
        for chunk in &mut self.chunks {
            (chunk.target, chunk.proven, chunk.asked) = (None, false, chunk.certain);
        }
        for (number, _) in self.chunks.iter().enumerate().filter(|(_, chunk)| chunk.certain) {
            self.ask(Side::Target, self.digest_of(number, Landed::Certain));
        }
    }

    /// Takes what an end says of the file's bytes. The bytes of a chunk that is to be sent again, if one is.
    ///
    /// # Errors
    /// When a chunk differed [`TRIES`] times.
    pub(super) fn hear(&mut self, proof: Proof) -> Result<Option<u64>, Failure> {
        match proof {
            Proof::Whole(digest) => self.read = Some(digest),
            Proof::Followed(from, to, digest) => self.followed(from, to, digest),
            Proof::Gone(number) => self.gone(number),
            Proof::Digest(side, number, digest) => return self.digest(side, number, digest),
            Proof::Said(..) | Proof::Broken(_) => {}
        }
        Ok(None)
    }

    fn followed(&mut self, from: u64, to: u64, digest: Digest) {
        let Some(row) = &mut self.row else { return };
        // Another shell there begins at the beginning.
        if from == 0 {
            *row = Row { next: row.next, ..Row::default() };
        }
        // An older answer, or no place at all: then no more is read in a row.
        if from != row.until || to < from {
            row.until = 1;
            return;
        }
        // An earlier reading went on to the end, within a block, and nothing follows it.
        if to > from {
            row.parts.push((to - from, Some(digest)));
        }
        row.until = to;
        let arrived = usize::try_from(to / self.size).unwrap_or(usize::MAX).min(self.chunks.len());
        for (number, chunk) in self.chunks.iter_mut().enumerate().take(arrived).filter(|(_, chunk)| !chunk.noted) {
            chunk.noted = true;
            let _ = self.target.send(Ask::Note { chunk: number, digest: chunk.source });
        }
    }

    /// The writer of a chunk ended before it stood behind it.
    fn gone(&mut self, number: usize) {
        let Some(chunk) = self.chunks.get_mut(number) else { return };
        chunk.asked = chunk.certain;
        let (certain, landed) = (chunk.certain, Landed::Certain);
        match &mut self.row {
            Some(_) if certain => self.ask(Side::Target, Ask::Follow { chunk: number, end: self.end(number), landed }),
            Some(row) => row.next = 0,
            None if certain => self.ask(Side::Target, self.digest_of(number, landed)),
            None => {}
        }
    }

    fn digest(&mut self, side: Side, number: usize, digest: Digest) -> Result<Option<u64>, Failure> {
        let Some(chunk) = self.chunks.get_mut(number) else { return Ok(None) };
        match side {
            Side::Source => chunk.source = Some(digest),
            Side::Target => chunk.target = Some(digest),
        }
        let there = chunk.source.or(chunk.target.filter(|_| self.by == By::Whole));
        let (Some(there), Some(arrived)) = (there, chunk.target) else { return Ok(None) };
        if there == arrived {
            chunk.proven = true;
            if !std::mem::replace(&mut chunk.noted, true) {
                let _ = self.target.send(Ask::Note { chunk: number, digest: Some(digest) });
            }
            return Ok(None);
        }
        // Whichever of the two was wrong: both are made anew, of bytes that are sent anew.
        let tries = chunk.tries + 1;
        *chunk = Chunk { tries, waits: true, ..Chunk::default() };
        if tries < TRIES {
            return Ok(Some(self.length(number)));
        }
        let at = number as u64 * self.size;
        Err(Failure::new(Kind::Failed, "a chunk of the file is not the same at both ends")
            .saw(format!("chunk {number}, byte {at}: {there} at the source, {arrived} at the target"))
            .why(format!("it was sent {tries} times: a disk or memory is failing, or somebody else writes there")))
    }

    /// Holds all that is known together, when no stream runs and nothing is to be sent. Where it does not agree more is
    /// asked for.
    pub(super) fn settle(&mut self) -> Result<Settled, NoTag> {
        let arrived = match &self.row {
            Some(row) => row.until >= self.bytes,
            None => self.chunks.iter().all(|chunk| chunk.proven),
        };
        // The thread beside the stream may still be at its last bytes.
        let told = self.by != By::Stream || self.chunks.iter().all(|chunk| chunk.source.is_some());
        let reads = self.reads && self.by != By::Chunks;
        if !arrived || !told || reads && self.read.is_none() {
            return Ok(Settled::Open);
        }
        let streamed = self.marks().map(|key| together(key, self.of(|chunk| chunk.source))).transpose()?;
        let landed = match (&self.row, self.by, &self.key) {
            (Some(row), _, Some(key)) => Some(together(key, row.parts.iter().copied())?),
            (None, By::Whole, Some(key)) => Some(together(key, self.of(|chunk| chunk.target))?),
            _ => None,
        };
        let mut known = [streamed, landed, self.read.filter(|_| reads)].into_iter().flatten();
        let first = known.next();
        if known.all(|one| Some(one) == first) {
            return Ok(Settled::Proved);
        }
        if self.row.is_some() {
            tracing::warn!("what the target has is not what was sent: it is asked for each chunk");
            self.leave_row();
            return Ok(Settled::Open);
        }
        // What was read there for the stream is not what the file has: each chunk is asked for.
        tracing::warn!("the source's digest of its file is not the stream's: it is asked for each chunk");
        self.by = By::Chunks;
        for chunk in &mut self.chunks {
            (chunk.source, chunk.proven) = (None, false);
        }
        for number in 0..self.chunks.len() {
            self.ask(Side::Source, self.digest_of(number, Landed::Certain));
        }
        Ok(Settled::Differs)
    }

    /// The SHA-256 of a file that is one chunk, where that is what proved it.
    pub(super) fn sha256(&self) -> Option<Sha256> {
        match self.chunks.as_slice() {
            [] => Some(Sha256::of(&[])),
            [Chunk { target: Some(Digest::Sha256(digest)), .. }] => Some(*digest),
            _ => None,
        }
    }

    /// Each chunk's length, and what this says of it.
    fn of(&self, digest: fn(&Chunk) -> Option<Digest>) -> impl Iterator<Item = (u64, Option<Digest>)> {
        self.chunks.iter().enumerate().map(move |(number, chunk)| (self.length(number), digest(chunk)))
    }

    fn end(&self, number: usize) -> u64 {
        (number as u64).saturating_add(1).saturating_mul(self.size).min(self.bytes)
    }

    fn length(&self, number: usize) -> u64 {
        self.end(number) - number as u64 * self.size
    }

    fn digest_of(&self, number: usize, landed: Landed) -> Ask {
        Ask::Digest { chunk: number, at: number as u64 * self.size, length: self.length(number), landed }
    }
}

/// The tag of the whole, from the lengths and tags of its chunks.
fn together(key: &Key, chunks: impl Iterator<Item = (u64, Option<Digest>)>) -> Result<Digest, NoTag> {
    let mut running = Running::new(key);
    for (bytes, digest) in chunks {
        let Some(Digest::Gmac(tag)) = digest else { return Err(NoTag) };
        running.follow(key.part(bytes, tag))?;
    }
    Ok(Digest::Gmac(key.whole(running.share()?)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SIZE: u64 = 64;

    /// A file of three chunks, the last one short, and what is asked of its ends.
    struct Desk {
        key: Key,
        content: Vec<u8>,
        ledger: Ledger,
        asked: [UnboundedReceiver<Ask>; 2],
    }

    fn desk(by: By, in_a_row: bool, source_is_here: bool) -> Desk {
        let key = Key::new().unwrap();
        let content: Vec<u8> = (0..150).collect();
        let (ledger, asked) =
            Ledger::new((content.len() as u64, SIZE), Some(key.clone()), by, in_a_row, source_is_here);
        assert_eq!(ledger.count(), 3);
        Desk { key, content, ledger, asked }
    }

    impl Desk {
        fn tag(&self, bytes: &[u8]) -> Digest {
            let mut running = Running::new(&self.key);
            running.update(bytes).unwrap();
            Digest::Gmac(self.key.whole(running.share().unwrap()))
        }

        fn of(&self, number: usize) -> Digest {
            let at = number * 64;
            self.tag(&self.content[at..(at + 64).min(self.content.len())])
        }

        /// The numbers of the chunks that an end is asked for since, each with a letter for what: a digest, all behind the last one, a
        /// note, the whole.
        fn asked(&mut self, side: Side) -> String {
            let mut all = Vec::new();
            while let Ok(ask) = self.asked[usize::from(side == Side::Target)].try_recv() {
                all.push(match ask {
                    Ask::Digest { chunk, at, length, .. } => {
                        assert_eq!((at, at + length), (chunk as u64 * 64, ((chunk as u64 + 1) * 64).min(150)));
                        format!("d{chunk}")
                    }
                    Ask::Follow { chunk, .. } => format!("f{chunk}"),
                    Ask::Note { chunk, .. } => format!("j{chunk}"),
                    Ask::Whole { bytes } => format!("a{bytes}"),
                    Ask::Call { line, .. } => line,
                });
            }
            all.join(" ")
        }

        fn says(&mut self, side: Side, number: usize) -> Option<u64> {
            let digest = self.of(number);
            self.ledger.hear(Proof::Digest(side, number, digest)).unwrap()
        }

        fn whole(&mut self) {
            let digest = self.tag(&self.content);
            assert_eq!(self.ledger.hear(Proof::Whole(digest)).unwrap(), None);
        }

        fn all_sent(&mut self) {
            assert_eq!(self.ledger.sends(), [0, 1, 2]);
            (0..3).for_each(|number| self.ledger.sent(number, Landed::Certain));
            assert_eq!(self.ledger.sends(), [0; 0]);
        }
    }

    #[test]
    fn the_streams_tags_are_held_against_the_targets_and_the_sources_own() {
        let mut desk = desk(By::Stream, false, false);
        assert!(desk.ledger.marks().is_some());
        desk.all_sent();
        assert_eq!((desk.asked(Side::Source), desk.asked(Side::Target)), ("a150".into(), "d0 d1 d2".into()));
        for number in 0..3 {
            assert_eq!(desk.says(Side::Source, number), None);
            assert_eq!(desk.ledger.settle().unwrap(), Settled::Open);
            assert_eq!(desk.says(Side::Target, number), None);
        }
        assert_eq!(desk.asked(Side::Target), "j0 j1 j2");
        assert_eq!(desk.ledger.settle().unwrap(), Settled::Open, "the source owes its own");
        desk.whole();
        assert_eq!(desk.ledger.settle().unwrap(), Settled::Proved);
    }

    #[test]
    fn a_source_that_is_here_is_read_once() {
        let mut desk = desk(By::Stream, false, true);
        desk.all_sent();
        for number in [2, 0, 1] {
            assert_eq!((desk.says(Side::Target, number), desk.says(Side::Source, number)), (None, None));
        }
        assert_eq!((desk.ledger.settle().unwrap(), desk.asked(Side::Source)), (Settled::Proved, String::new()));
    }

    #[test]
    fn in_a_row_the_target_tells_how_far_it_read() {
        let mut desk = desk(By::Stream, true, true);
        assert_eq!(desk.ledger.sends(), [0, 1, 2]);
        desk.ledger.sent(0, Landed::Certain);
        assert_eq!(desk.asked(Side::Target), "f0");
        // It read a little more than was asked for.
        let first = desk.tag(&desk.content[..96]);
        desk.ledger.hear(Proof::Followed(0, 96, first)).unwrap();
        desk.ledger.check_row(false);
        (1..3).for_each(|number| desk.ledger.sent(number, Landed::Certain));
        assert_eq!(desk.asked(Side::Target), "j0 f1 f2");
        (0..3).for_each(|number| assert_eq!(desk.says(Side::Source, number), None));
        assert_eq!(desk.ledger.settle().unwrap(), Settled::Open);
        let rest = desk.tag(&desk.content[96..]);
        desk.ledger.hear(Proof::Followed(96, 150, rest)).unwrap();
        // The second question finds nothing more.
        desk.ledger.hear(Proof::Followed(150, 150, rest)).unwrap();
        desk.ledger.check_row(false);
        assert_eq!((desk.ledger.settle().unwrap(), desk.asked(Side::Target)), (Settled::Proved, "j1".into()));
    }

    #[test]
    fn what_differs_in_a_row_is_found_by_chunks() {
        for torn in [true, false] {
            let mut desk = desk(By::Stream, true, true);
            desk.all_sent();
            (0..3).for_each(|number| assert_eq!(desk.says(Side::Source, number), None));
            let _ = desk.asked(Side::Target);
            if !torn {
                let other = desk.tag(&[7; 150]);
                desk.ledger.hear(Proof::Followed(0, 150, other)).unwrap();
                assert_eq!(desk.ledger.settle().unwrap(), Settled::Open);
            }
            desk.ledger.check_row(torn);
            assert!(desk.asked(Side::Target).ends_with("d0 d1 d2"));
            (0..3).for_each(|number| assert_eq!(desk.says(Side::Target, number), None));
            assert_eq!(desk.ledger.settle().unwrap(), Settled::Proved);
        }
        // A reading that ends within a block, or is no answer to the last one.
        for (from, to) in [(0, 100), (16, 32), (32, 16)] {
            let mut desk = desk(By::Stream, true, true);
            desk.all_sent();
            let tag = desk.of(0);
            desk.ledger.hear(Proof::Followed(from, to, tag)).unwrap();
            desk.ledger.check_row(false);
            assert!(desk.asked(Side::Target).ends_with("d0 d1 d2"), "{from} {to}");
        }
    }

    #[test]
    fn the_sources_own_tag_is_all_that_the_targets_are_held_against() {
        let mut desk = desk(By::Whole, false, false);
        assert!(desk.ledger.marks().is_none());
        desk.all_sent();
        (0..3).for_each(|number| assert_eq!(desk.says(Side::Target, number), None));
        assert_eq!(desk.ledger.settle().unwrap(), Settled::Open);
        desk.whole();
        assert_eq!(desk.ledger.settle().unwrap(), Settled::Proved);
        assert_eq!(desk.asked(Side::Target), "d0 d1 d2 j0 j1 j2");
    }

    /// The target has another second chunk: the source is asked for each, the one is sent again, and thrice is enough.
    #[test]
    fn what_is_not_the_sources_is_sent_again_and_no_more_than_twice() {
        let mut desk = desk(By::Whole, false, false);
        desk.all_sent();
        let other = desk.tag(&[7; 64]);
        for number in [0, 2] {
            assert_eq!(desk.says(Side::Target, number), None);
        }
        assert_eq!(desk.ledger.hear(Proof::Digest(Side::Target, 1, other)).unwrap(), None);
        desk.whole();
        assert_eq!(desk.ledger.settle().unwrap(), Settled::Differs);
        assert_eq!(desk.asked(Side::Source), "a150 d0 d1 d2");
        assert_eq!((desk.says(Side::Source, 0), desk.says(Side::Source, 2)), (None, None));
        assert_eq!(desk.says(Side::Source, 1), Some(64));
        for tries in [2, 3] {
            // What the stream still says of it counts no more.
            desk.ledger.sent(1, Landed::Certain);
            assert_eq!((desk.ledger.settle().unwrap(), desk.ledger.sends()), (Settled::Open, vec![1]));
            let _ = (desk.asked(Side::Source), desk.asked(Side::Target));
            desk.ledger.sent(1, Landed::Certain);
            assert_eq!((desk.asked(Side::Source), desk.asked(Side::Target)), ("d1".into(), "d1".into()));
            assert_eq!(desk.says(Side::Source, 1), None);
            let heard = desk.ledger.hear(Proof::Digest(Side::Target, 1, other));
            match tries {
                2 => assert_eq!(heard.unwrap(), Some(64)),
                _ => assert_eq!(heard.unwrap_err().what, "a chunk of the file is not the same at both ends"),
            }
        }
        assert_eq!(desk.ledger.sends(), [1]);
        desk.ledger.sent(1, Landed::Certain);
        assert_eq!((desk.says(Side::Source, 1), desk.says(Side::Target, 1)), (None, None));
        assert_eq!(desk.ledger.settle().unwrap(), Settled::Proved);
    }

    #[test]
    fn a_writer_that_is_gone_is_no_proof() {
        for row in [true, false] {
            let letter = if row { "f0" } else { "d0" };
            let mut desk = desk(By::Stream, row, true);
            assert_eq!(desk.ledger.sends(), [0, 1, 2]);
            desk.ledger.sent(0, Landed::Writer(7));
            assert_eq!(desk.asked(Side::Target), letter);
            desk.ledger.hear(Proof::Gone(0)).unwrap();
            assert_eq!(desk.asked(Side::Target), "", "it may not have arrived");
            desk.ledger.sent(0, Landed::Certain);
            assert_eq!(desk.asked(Side::Target), letter);
            desk.ledger.hear(Proof::Gone(0)).unwrap();
            assert_eq!(desk.asked(Side::Target), letter, "it has arrived: another reading");
            desk.ledger.hear(Proof::Gone(99)).unwrap();
            desk.ledger.sent(usize::MAX, Landed::Certain);
        }
    }

    #[test]
    fn what_a_journal_has_is_proved_anew_and_not_sent() {
        let (mut ledger, [mut of_source, mut of_target]) = Ledger::new((150, SIZE), None, By::Stream, true, false);
        assert!(ledger.marks().is_none() && ledger.row.is_none() && of_source.try_recv().is_err());
        let known = Digest::Sha256(Sha256::of(b"one"));
        let lines = [format!("1 {known}"), "2 arrived".to_owned(), "9 arrived".to_owned(), "x".to_owned()];
        assert_eq!(ledger.resume(lines.iter().map(String::as_str)), 64 + 22);
        assert_eq!(ledger.sends(), [0]);
        let chunks = |asked: &mut UnboundedReceiver<Ask>| {
            let mut all = Vec::new();
            while let Ok(Ask::Digest { chunk, .. }) = asked.try_recv() {
                all.push(chunk);
            }
            all
        };
        assert_eq!((chunks(&mut of_source), chunks(&mut of_target)), (vec![2], vec![1, 2]));
        ledger.hear(Proof::Digest(Side::Target, 1, known)).unwrap();
        assert_eq!(ledger.sends(), [0]);
        ledger.sent(0, Landed::Certain);
        for (number, side) in [(0, Side::Source), (0, Side::Target), (2, Side::Source), (2, Side::Target)] {
            assert_eq!(ledger.settle().unwrap(), Settled::Open);
            ledger.hear(Proof::Digest(side, number, known)).unwrap();
        }
        assert_eq!((ledger.settle().unwrap(), ledger.sha256()), (Settled::Proved, None));
        assert!(matches!(of_target.try_recv(), Ok(Ask::Digest { chunk: 0, .. })), "what was noted is noted once");
    }

    #[test]
    fn a_file_without_a_byte_needs_no_proof() {
        let (mut ledger, _asked) = Ledger::new((0, SIZE), Some(Key::new().unwrap()), By::Stream, true, false);
        assert_eq!((ledger.sends(), ledger.settle().unwrap()), (vec![], Settled::Proved));
        assert_eq!(ledger.sha256(), Some(Sha256::of(b"")));
    }
}
