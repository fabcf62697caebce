//! The inner layer: tar, in all the dialects that are met: v7, ustar, old GNU, GNU, PAX (POSIX.1-2001),
//! with GNU long names, base-256 numbers, and sparse files in GNU's four forms.
//!
//! What lives here: the walk over decoded bytes, header by header; content is stepped over. What
//! does not: gzip (next door), and any judgement of names or contents beyond the required ones.
//!
//! Where readers disagree, Go's `archive/tar` decides, because with it Gravity restores: links,
//! devices, directories and FIFOs have no content whatever their size field says.

use super::fault::{hex, quote};
use super::{Fault, Limits, Spot, Walk};

const BLOCK: usize = 512;
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// What an extended header said about the member that follows.
#[derive(Debug, Default)]
struct Pending {
    /// The first extended header: its offset and kind. `None`: there is none.
    since: Option<(u64, &'static str)>,
    path: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<i64>,
    sparse: PaxSparse,
}

/// The `GNU.sparse.*` records of one PAX header.
#[derive(Debug, Default)]
struct PaxSparse {
    seen: bool,
    major: Option<u64>,
    minor: Option<u64>,
    real: Option<u64>,
    blocks: Option<u64>,
    map: SparseMap,
    /// An offset of form 0.0 that waits for its length.
    offset: Option<u64>,
    /// Form 0.0 or 0.1 gave a map here.
    inline: bool,
}

/// The running sums over the map of a sparse file.
#[derive(Debug, Default, Clone, Copy)]
struct SparseMap {
    entries: u64,
    stored: u64,
    end: u64,
}

impl SparseMap {
    /// Takes the next stored piece: offsets rise, and nothing overflows.
    fn push(&mut self, offset: u64, length: u64) -> Result<(), String> {
        if offset < self.end {
            return Err(format!(
                "piece {} begins at {offset}, before the end {} of the one before",
                self.entries, self.end
            ));
        }
        let (Some(end), Some(stored)) = (offset.checked_add(length), self.stored.checked_add(length)) else {
            return Err(format!("piece {} of {length} bytes at {offset} is beyond any file", self.entries));
        };
        (self.end, self.stored, self.entries) = (end, stored, self.entries + 1);
        Ok(())
    }

    /// Checks it against the stored bytes and the real size of the file.
    fn check(&self, stored: u64, real: Option<u64>) -> Result<(), String> {
        if self.stored != stored {
            return Err(format!("its pieces have {} bytes, the member has {stored}", self.stored));
        }
        match real {
            Some(real) if self.end > real => Err(format!("it ends at {}, the file's size is {real}", self.end)),
            // Go's archive/tar, with which Gravity restores, and GNU tar count in 63 bits.
            real if real.unwrap_or(self.end) > i64::MAX as u64 => {
                Err(format!("the file's size is {}, more than any file has", real.unwrap_or(self.end)))
            }
            _ => Ok(()),
        }
    }
}

/// The map at the head of a member's content (PAX sparse 1.0): decimal numbers, one a line.
#[derive(Debug)]
struct TextMap {
    at: u64,
    used: u64,
    number: Option<u64>,
    /// How many pieces it announces; `None` until the first line is read.
    count: Option<u64>,
    offset: Option<u64>,
    map: SparseMap,
    real: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Special {
    Pax,
    GlobalPax,
    LongName,
    LongLink,
}

impl Special {
    fn text(self) -> &'static str {
        match self {
            Self::Pax => "a PAX header",
            Self::GlobalPax => "a global PAX header",
            Self::LongName => "a GNU long name",
            Self::LongLink => "a GNU long link name",
        }
    }
}

#[derive(Debug)]
enum State {
    /// At a block that is a header or an end block.
    Header,
    /// In the content of a member.
    Content { left: u64, padding: u64 },
    /// In the records of an extended header.
    Special { kind: Special, at: u64, left: u64, padding: u64 },
    /// In the extension blocks of an old GNU sparse header.
    SparseBlocks { at: u64, map: SparseMap, size: u64, real: Option<u64> },
    /// In the map at the head of a member's content.
    SparseText { text: TextMap, left: u64, padding: u64 },
    /// Behind the first end block, which lies at this offset.
    SecondEnd,
    /// Behind both end blocks: this many NUL bytes so far.
    Padding(u64),
}

/// Walks over the tar stream.
pub(super) struct Tape {
    limits: Limits,
    required: Vec<(String, bool)>,
    state: State,
    at: u64,
    /// How far the file was read, and in which gzip member: for the faults' sake.
    compressed: u64,
    member: u64,
    /// A block that came in pieces.
    block: [u8; BLOCK],
    filled: usize,
    special: Vec<u8>,
    pending: Pending,
    /// The name of the member that is being walked over.
    name: Vec<u8>,
    walk: Walk,
}

impl Tape {
    pub(super) fn new(limits: Limits, required: Vec<String>) -> Self {
        Self {
            limits,
            required: required.into_iter().map(|name| (name, false)).collect(),
            state: State::Header,
            at: 0,
            compressed: 0,
            member: 1,
            block: ZEROS,
            filled: 0,
            special: Vec::new(),
            pending: Pending::default(),
            name: Vec::new(),
            walk: Walk::default(),
        }
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn members(&self) -> u64 {
        self.walk.members
    }

    /// Says how far the file was read for the bytes that come next.
    pub(super) fn outer(&mut self, compressed: u64, member: u64) {
        (self.compressed, self.member) = (compressed, member);
    }

    fn spot(&self, tar: u64) -> Spot {
        Spot { compressed: self.compressed, member: self.member, tar }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let room = self.limits.uncompressed.saturating_sub(self.at);
        if bytes.len() as u64 > room {
            self.blocks(bytes.get(..room as usize).unwrap_or_default())?;
            return Err(self.limit(self.at, "decoded bytes", self.limits.uncompressed));
        }
        self.blocks(bytes)
    }

    fn limit(&self, tar: u64, what: &str, limit: u64) -> Fault {
        Fault::Limit { spot: self.spot(tar), what: what.to_owned(), limit }
    }

    fn blocks(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Content { left, padding } => {
                    let step = take(left, padding, bytes.len());
                    if *left == 0 && *padding == 0 {
                        self.state = State::Header;
                    }
                    self.at += step as u64;
                    bytes = bytes.get(step..).unwrap_or_default();
                }
                State::Special { left, padding, .. } => {
                    let wanted = (*left).min(bytes.len() as u64) as usize;
                    self.special.extend_from_slice(bytes.get(..wanted).unwrap_or_default());
                    let step = take(left, padding, bytes.len());
                    let done = *left == 0 && *padding == 0;
                    self.at += step as u64;
                    bytes = bytes.get(step..).unwrap_or_default();
                    if done {
                        self.special_done()?;
                    }
                }
                State::SparseText { .. } => {
                    let step = self.sparse_text(bytes)?;
                    bytes = bytes.get(step..).unwrap_or_default();
                }
                State::Padding(count) => {
                    let room = self.limits.padding.saturating_sub(*count);
                    let nuls = bytes.iter().take_while(|byte| **byte == 0).count() as u64;
                    if nuls < bytes.len() as u64 && nuls <= room {
                        let first = bytes.get(nuls as usize..).unwrap_or_default();
                        let seen = format!("bytes beginning with {:02x}", first.first().copied().unwrap_or_default());
                        let tar = self.at + nuls;
                        return Err(Fault::JunkAfterEnd { spot: self.spot(tar), seen });
                    }
                    if nuls > room {
                        let limit = self.limits.padding;
                        return Err(self.limit(self.at + room, "NUL bytes behind the end-of-archive blocks", limit));
                    }
                    *count += nuls;
                    self.at += nuls;
                    return Ok(());
                }
                State::Header | State::SparseBlocks { .. } | State::SecondEnd => {
                    let here = self.at;
                    if self.filled == 0
                        && let Some((block, rest)) = bytes.split_first_chunk::<BLOCK>()
                    {
                        self.at += BLOCK as u64;
                        bytes = rest;
                        self.one_block(block, here)?;
                        continue;
                    }
                    let step = (BLOCK - self.filled).min(bytes.len());
                    let (piece, rest) = bytes.split_at(step);
                    self.block.iter_mut().skip(self.filled).zip(piece).for_each(|(to, from)| *to = *from);
                    self.filled += step;
                    self.at += step as u64;
                    bytes = rest;
                    if self.filled == BLOCK {
                        self.filled = 0;
                        let block = self.block;
                        self.one_block(&block, self.at - BLOCK as u64)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A whole block at `here`, in one of the states that take blocks.
    fn one_block(&mut self, block: &[u8; BLOCK], here: u64) -> Result<(), Fault> {
        match &self.state {
            State::SecondEnd if *block == ZEROS => self.state = State::Padding(0),
            State::SecondEnd => {
                let spot = self.spot(here);
                return Err(Fault::SecondEndBlock { spot, seen: hex(block) });
            }
            State::SparseBlocks { at, map, size, real } => {
                let (at, map, size, real) = (*at, *map, *size, *real);
                let more = block.get(504).is_some_and(|byte| *byte != 0);
                self.sparse_entries(at, block.get(..504).unwrap_or_default(), map, size, real, more)?;
            }
            _ if *block == ZEROS => {
                if let Some((at, what)) = self.pending.since {
                    return Err(Fault::Dangling { spot: self.spot(at), what: what.to_owned() });
                }
                self.state = State::SecondEnd;
            }
            _ => self.header(block, here)?,
        }
        Ok(())
    }

    fn header(&mut self, block: &[u8; BLOCK], here: u64) -> Result<(), Fault> {
        let spot = self.spot(here);
        let field = |from: usize, length: usize| block.get(from..from + length).unwrap_or_default();

        let (unsigned, signed) = checksums(block);
        let stored = number(field(148, 8));
        if stored != Ok(Some(i128::from(unsigned))) && stored != Ok(Some(i128::from(signed))) {
            return Err(Fault::HeaderChecksum { spot, seen: quote(field(148, 8)), computed: unsigned });
        }
        let magic = field(257, 8);
        let ustar = magic.starts_with(b"ustar\0");
        let gnu = magic.starts_with(b"ustar ");
        if !ustar && !gnu && magic.iter().any(|byte| *byte != 0) {
            return Err(Fault::HeaderMagic { spot, seen: crate::secret::clean(magic) });
        }
        let numbers = [("mode", 100), ("owner", 108), ("group", 116), ("time", 136), ("major", 329), ("minor", 337)];
        // In v7 there are no device numbers.
        for (what, from) in numbers.into_iter().take(if ustar || gnu { 6 } else { 4 }) {
            let length = if what == "time" { 12 } else { 8 };
            if let Err(why) = number(field(from, length)) {
                return Err(Fault::HeaderField {
                    spot,
                    field: what.to_owned(),
                    seen: quote(field(from, length)),
                    why: why.to_owned(),
                });
            }
        }
        let kind = field(156, 1).first().copied().unwrap_or_default();
        let bad_size = |why: &str| Err(Fault::HeaderSize { spot, seen: quote(field(124, 12)), why: why.to_owned() });
        let size = match number(field(124, 12)) {
            // Some old writers leave it out where there is no content.
            Ok(None) if matches!(kind, b'1'..=b'6' | b'V') => 0,
            Ok(None) => return bad_size("is no number"),
            Ok(Some(size)) if size < 0 => return bad_size("is below zero"),
            // Go, GNU tar and every file system count in signed 64 bits.
            Ok(Some(size)) => match i64::try_from(size) {
                Ok(size) => size as u64,
                Err(_) => return bad_size("is more than 2^63 - 1"),
            },
            Err(why) => return bad_size(why),
        };

        let special = match kind {
            b'x' | b'X' => Some(Special::Pax),
            b'g' => Some(Special::GlobalPax),
            b'L' => Some(Special::LongName),
            b'K' => Some(Special::LongLink),
            _ => None,
        };
        if let Some(special) = special {
            if size > self.limits.header {
                return Err(self.limit(here, &format!("{size} bytes of {}", special.text()), self.limits.header));
            }
            if special != Special::GlobalPax && self.pending.since.is_none() {
                self.pending.since = Some((here, special.text()));
            }
            self.special.clear();
            self.state = State::Special { kind: special, at: here + BLOCK as u64, left: size, padding: padding(size) };
            return if size == 0 { self.special_done() } else { Ok(()) };
        }

        let kind_fault = |why: &str| Err(Fault::HeaderKind { spot, seen: quote(&[kind]), why: why.to_owned() });
        let header_only = match kind {
            0 | b'0' | b'7' | b'D' | b'S' => false,
            b'1'..=b'6' | b'V' => true,
            b'M' => return kind_fault("it continues a file of another volume"),
            // Kinds of vendors hold content like files (POSIX).
            b'A'..=b'Z' => false,
            _ => return kind_fault("no tar format has it"),
        };

        let pending = std::mem::take(&mut self.pending);
        if kind == b'V' {
            self.state = State::Header;
            return Ok(());
        }
        self.name.clear();
        match &pending.path {
            Some(path) => self.name.extend_from_slice(path),
            None => {
                if ustar {
                    let prefix = until_nul(field(345, 155));
                    if !prefix.is_empty() {
                        self.name.extend_from_slice(prefix);
                        self.name.push(b'/');
                    }
                }
                self.name.extend_from_slice(until_nul(field(0, 100)));
            }
        }
        self.meet();

        self.walk.members += 1;
        if self.walk.members > self.limits.members {
            return Err(self.limit(here, "members", self.limits.members));
        }
        // v7 has no kind for directories: they end in a slash.
        let directory = kind == 0 && self.name.last() == Some(&b'/');
        let file = matches!(kind, 0 | b'0' | b'7' | b'S') && !directory;
        self.walk.files += u64::from(file);
        let time = pending.mtime.or_else(|| {
            let stored = number(field(136, 12)).ok().flatten();
            stored.and_then(|time| i64::try_from(time).ok())
        });
        self.walk.newest = self.walk.newest.max(time);

        let size = if header_only { 0 } else { pending.size.unwrap_or(size) };
        if kind == b'S' {
            let real = number(field(483, 12)).ok().flatten().and_then(|real| u64::try_from(real).ok());
            let Some(real) = real else {
                let why = format!("the file's size {} is no number", quote(field(483, 12)));
                return Err(Fault::SparseMap { spot, why });
            };
            let more = field(482, 1).first().is_some_and(|byte| *byte != 0);
            return self.sparse_entries(here, field(386, 96), SparseMap::default(), size, Some(real), more);
        }
        if pending.sparse.seen && !header_only {
            return self.pax_sparse(&pending.sparse, size, here);
        }
        self.stored(if file { size } else { 0 });
        self.content(size, padding(size));
        Ok(())
    }

    /// Counts content that is announced; hostile sizes may add up beyond 64 bits before they turn out not to be there.
    fn stored(&mut self, bytes: u64) {
        self.walk.content_bytes = self.walk.content_bytes.saturating_add(bytes);
    }

    fn content(&mut self, left: u64, padding: u64) {
        self.state = if left == 0 && padding == 0 { State::Header } else { State::Content { left, padding } };
    }

    /// Ticks the name of this member off the required ones.
    fn meet(&mut self) {
        let name = plain(&self.name);
        for (required, seen) in self.required.iter_mut().filter(|(_, seen)| !seen) {
            let wanted = plain(required.as_bytes());
            *seen = name == wanted || name.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&b'/'));
        }
    }

    /// An extended header is there in full.
    fn special_done(&mut self) -> Result<(), Fault> {
        let State::Special { kind, at, .. } = std::mem::replace(&mut self.state, State::Header) else {
            return Ok(());
        };
        match kind {
            Special::Pax => self.pax(at, true),
            Special::GlobalPax => self.pax(at, false),
            Special::LongName | Special::LongLink => {
                let text = until_nul(&self.special);
                let rest = self.special.get(text.len()..).unwrap_or_default();
                let why = if text.is_empty() {
                    Some("it is empty".to_owned())
                } else if rest.iter().any(|byte| *byte != 0) {
                    Some(format!("bytes follow the NUL behind {}", quote(text)))
                } else {
                    None
                };
                if let Some(why) = why {
                    return Err(Fault::GnuName { spot: self.spot(at), why });
                }
                if kind == Special::LongName {
                    self.pending.path = Some(text.to_vec());
                }
                Ok(())
            }
        }
    }

    /// The records of a PAX header: "LENGTH KEY=VALUE\n", the length counting the whole record.
    fn pax(&mut self, at: u64, local: bool) -> Result<(), Fault> {
        let data = std::mem::take(&mut self.special);
        let mut rest = data.as_slice();
        let mut here = at;
        while !rest.is_empty() {
            let (spot, shown) = (self.spot(here), rest);
            let bad = |why: &str| Fault::PaxRecord { spot, seen: quote(shown), why: why.to_owned() };
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let length = decimal(rest.get(..digits).unwrap_or_default())
                .ok_or_else(|| bad("a record's length expected, in decimal digits"))?;
            if rest.get(digits) != Some(&b' ') {
                return Err(bad("a blank expected behind the record's length"));
            }
            let record = usize::try_from(length)
                .ok()
                .and_then(|length| rest.get(..length))
                .ok_or_else(|| bad(&format!("the record has {length} bytes, the header only {} more", shown.len())))?;
            let Some((b'\n', body)) = record.get(digits + 1..).and_then(<[u8]>::split_last) else {
                return Err(bad("no line feed at the end of the record: its length is wrong"));
            };
            let Some(equals) = body.iter().position(|byte| *byte == b'=').filter(|at| *at > 0) else {
                return Err(bad("no KEY=VALUE in the record"));
            };
            let (key, value) = (body.get(..equals).unwrap_or_default(), body.get(equals + 1..).unwrap_or_default());
            self.pax_record(key, value, local).map_err(|why| bad(&why))?;
            here += record.len() as u64;
            rest = rest.get(record.len()..).unwrap_or_default();
        }
        self.special = data;
        Ok(())
    }

    fn pax_record(&mut self, key: &[u8], value: &[u8], local: bool) -> Result<(), String> {
        let count = || decimal(value).ok_or_else(|| "a decimal number expected".to_owned());
        match key {
            // One size for all members cannot be meant, and readers disagree about it.
            b"size" if !local => return Err("a size for all members".to_owned()),
            _ if !local => {}
            // An empty value takes a global one back; there are no global ones here.
            _ if value.is_empty() => {}
            b"path" => {
                if value.contains(&0) {
                    return Err("a NUL byte in a path".to_owned());
                }
                // GNU's sparse forms store a made-up path beside the true name, which wins.
                if !self.pending.sparse.seen || self.pending.path.is_none() {
                    self.pending.path = Some(value.to_vec());
                }
            }
            b"size" => {
                let size = count()?;
                if i64::try_from(size).is_err() {
                    return Err("a size of more than 2^63 - 1".to_owned());
                }
                self.pending.size = Some(size);
            }
            b"mtime" => self.pending.mtime = Some(seconds(value).ok_or("a time in seconds expected")?),
            b"GNU.sparse.name" => {
                self.pending.sparse.seen = true;
                self.pending.path = Some(value.to_vec());
            }
            _ if key.starts_with(b"GNU.sparse.") => self.pax_sparse_record(key, value, count)?,
            _ => {}
        }
        Ok(())
    }

    fn pax_sparse_record(
        &mut self,
        key: &[u8],
        value: &[u8],
        count: impl Fn() -> Result<u64, String>,
    ) -> Result<(), String> {
        let sparse = &mut self.pending.sparse;
        sparse.seen = true;
        match key {
            b"GNU.sparse.major" => sparse.major = Some(count()?),
            b"GNU.sparse.minor" => sparse.minor = Some(count()?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => sparse.real = Some(count()?),
            b"GNU.sparse.numblocks" => sparse.blocks = Some(count()?),
            b"GNU.sparse.offset" => {
                sparse.inline = true;
                if sparse.offset.replace(count()?).is_some() {
                    return Err("an offset without a length before it".to_owned());
                }
            }
            b"GNU.sparse.numbytes" => {
                sparse.inline = true;
                let offset = sparse.offset.take().ok_or("a length without an offset before it")?;
                sparse.map.push(offset, count()?)?;
            }
            b"GNU.sparse.map" => {
                sparse.inline = true;
                let mut numbers = value.split(|byte| *byte == b',');
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or("a map with an odd number of numbers")?;
                    let (Some(offset), Some(length)) = (decimal(offset), decimal(length)) else {
                        return Err("a map of decimal numbers expected".to_owned());
                    };
                    sparse.map.push(offset, length)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A member that a PAX header called sparse, at `here`.
    fn pax_sparse(&mut self, sparse: &PaxSparse, size: u64, here: u64) -> Result<(), Fault> {
        let spot = self.spot(here);
        let bad = |why: String| Fault::SparseMap { spot, why };
        match (sparse.major.unwrap_or(0), sparse.minor.unwrap_or(0)) {
            (1, 0) => {
                let text = TextMap {
                    at: here + BLOCK as u64,
                    used: 0,
                    number: None,
                    count: None,
                    offset: None,
                    map: SparseMap::default(),
                    real: sparse.real,
                };
                if size == 0 {
                    return Err(bad("the member has no content, so no map".to_owned()));
                }
                self.state = State::SparseText { text, left: size, padding: padding(size) };
            }
            (0, _) => {
                if sparse.offset.is_some() {
                    return Err(bad("its last offset has no length".to_owned()));
                }
                if sparse.blocks.is_some_and(|blocks| blocks != sparse.map.entries) {
                    let blocks = sparse.blocks.unwrap_or_default();
                    return Err(bad(format!("{blocks} pieces announced, {} told", sparse.map.entries)));
                }
                if sparse.inline {
                    sparse.map.check(size, sparse.real).map_err(bad)?;
                }
                self.stored(size);
                self.content(size, padding(size));
            }
            (major, minor) => return Err(bad(format!("sparse form {major}.{minor}; 0.0, 0.1 and 1.0 are known"))),
        }
        Ok(())
    }

    /// Goes through the map of form 1.0; how many bytes were taken.
    fn sparse_text(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let (outer, member) = (self.compressed, self.member);
        let State::SparseText { text, left, padding } = &mut self.state else {
            return Ok(0);
        };
        let start = text.at;
        let bad = |why: String| Fault::SparseMap { spot: Spot { compressed: outer, member, tar: start }, why };
        for (index, byte) in bytes.iter().enumerate() {
            if *left == 0 {
                return Err(bad("it is longer than the member's content".to_owned()));
            }
            *left -= 1;
            text.used += 1;
            self.at += 1;
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let grown = text.number.unwrap_or(0).checked_mul(10).and_then(|number| number.checked_add(digit));
                    text.number = Some(grown.ok_or_else(|| bad("a number above 2^64".to_owned()))?);
                }
                b'\n' => {
                    let number = text.number.take().ok_or_else(|| bad("an empty line".to_owned()))?;
                    match (text.count, text.offset.take()) {
                        (None, _) => text.count = Some(number),
                        (Some(_), None) => text.offset = Some(number),
                        (Some(_), Some(offset)) => text.map.push(offset, number).map_err(bad)?,
                    }
                    if text.count == Some(text.map.entries) && text.offset.is_none() {
                        // The map is padded to a block, the pieces follow without gaps.
                        let skip = self::padding(text.used);
                        let stored = left
                            .checked_sub(skip)
                            .ok_or_else(|| bad("it is longer than the member's content".to_owned()))?;
                        text.map.check(stored, text.real).map_err(bad)?;
                        let (left, padding) = (*left, *padding);
                        self.stored(stored);
                        self.content(left, padding);
                        return Ok(index + 1);
                    }
                }
                other => return Err(bad(format!("decimal digits and line feeds expected, {other:02x} seen"))),
            }
        }
        Ok(bytes.len())
    }

    /// Entries of an old GNU sparse map: pairs of twelve-byte numbers; an empty length ends it.
    fn sparse_entries(
        &mut self,
        at: u64,
        entries: &[u8],
        mut map: SparseMap,
        size: u64,
        real: Option<u64>,
        more: bool,
    ) -> Result<(), Fault> {
        let spot = self.spot(at);
        let bad = |why: String| Fault::SparseMap { spot, why };
        for entry in entries.chunks_exact(24) {
            let (offset, length) = entry.split_at(12);
            if length.first() == Some(&0) {
                break;
            }
            let value = |field: &[u8]| match number(field) {
                Ok(Some(value)) => u64::try_from(value).map_err(|_| format!("{} is no length", quote(field))),
                _ => Err(format!("{} is no number", quote(field))),
            };
            map.push(value(offset).map_err(bad)?, value(length).map_err(bad)?).map_err(bad)?;
        }
        if more {
            self.state = State::SparseBlocks { at, map, size, real };
            return Ok(());
        }
        map.check(size, real).map_err(bad)?;
        self.stored(size);
        self.content(size, padding(size));
        Ok(())
    }

    /// The tar stream ends; the gzip around it is whole.
    pub(super) fn finish(mut self) -> Result<Walk, Fault> {
        let spot = self.spot(self.at);
        let name = quote(&self.name);
        let cut = |inside: String, lacks: u64| Err(Fault::TarCut { spot, inside, lacks });
        let lacks = (BLOCK - self.filled) as u64;
        match &self.state {
            _ if self.at == 0 => return Err(Fault::NoMembers { tar_bytes: 0 }),
            State::Header if self.filled > 0 => return cut("a tar header".to_owned(), lacks),
            State::Header => {
                if let Some((at, what)) = self.pending.since {
                    return Err(Fault::Dangling { spot: self.spot(at), what: what.to_owned() });
                }
                return Err(Fault::FirstEndBlock { spot, members: self.walk.members });
            }
            State::Content { left: 0, padding } => return cut(format!("the padding of member {name}"), *padding),
            State::Content { left, .. } => return cut(format!("the content of member {name}"), *left),
            State::Special { kind, left, padding, .. } => return cut(kind.text().to_owned(), left + padding),
            State::SparseBlocks { .. } => return cut(format!("the sparse map of member {name}"), lacks),
            State::SparseText { left, .. } => return cut(format!("the sparse map of member {name}"), *left),
            State::SecondEnd => {
                let seen = if self.filled == 0 { "the end".to_owned() } else { format!("{} bytes", self.filled) };
                return Err(Fault::SecondEndBlock { spot, seen });
            }
            State::Padding(_) => {}
        }
        if self.walk.members == 0 {
            return Err(Fault::NoMembers { tar_bytes: self.at });
        }
        self.walk.tar_bytes = self.at;
        self.walk.missing = self.required.into_iter().filter(|(_, seen)| !seen).map(|(name, _)| name).collect();
        Ok(self.walk)
    }
}

/// Steps over content, then padding: how many of `there` bytes that takes.
fn take(left: &mut u64, padding: &mut u64, there: usize) -> usize {
    let content = (*left).min(there as u64);
    *left -= content;
    let rest = (*padding).min(there as u64 - content);
    *padding -= rest;
    (content + rest) as usize
}

/// NUL bytes that fill up a last block after `size` bytes.
fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// A header's checksum: the sum of its bytes, the checksum field itself taken as blanks. Some old writers summed signed
/// bytes; every reader takes both.
fn checksums(block: &[u8; BLOCK]) -> (u32, i32) {
    let (mut unsigned, mut signed) = (8 * u32::from(b' '), 8 * i32::from(b' '));
    for (at, byte) in block.iter().enumerate() {
        if !(148..156).contains(&at) {
            unsigned += u32::from(*byte);
            signed += i32::from(byte.cast_signed());
        }
    }
    (unsigned, signed)
}

/// Does this begin with a tar header? For files that are no gzip.
pub(super) fn looks_like_tar(bytes: &[u8]) -> bool {
    let Some((block, _)) = bytes.split_first_chunk::<BLOCK>() else {
        return false;
    };
    let stored = block.get(148..156).map(number);
    *block != ZEROS && stored == Some(Ok(Some(i128::from(checksums(block).0))))
}

/// A number of a header: octal digits between blanks and NUL bytes, or base 256, big-endian two's complement, when the
/// first bit is set. `None` when the field is empty.
fn number(field: &[u8]) -> Result<Option<i128>, &'static str> {
    match field.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => {
            // The first bit is the mark, the second one the sign; at most 95 bits are left.
            let start = i128::from(first & 0x7f) - if first & 0x40 != 0 { 0x80 } else { 0 };
            Ok(Some(rest.iter().fold(start, |number, byte| (number << 8) | i128::from(*byte))))
        }
        _ => {
            let start = field.iter().take_while(|byte| matches!(byte, b' ' | 0)).count();
            let digits = field.get(start..).unwrap_or_default();
            let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
            let (digits, rest) = digits.split_at(end);
            if !digits.iter().all(|byte| (b'0'..=b'7').contains(byte)) {
                return Err("is no octal number");
            }
            // What follows a NUL is nobody's; behind a blank only blanks and NUL bytes may follow.
            if rest.iter().take_while(|byte| **byte != 0).any(|byte| *byte != b' ') {
                return Err("is two numbers");
            }
            if digits.is_empty() {
                return Ok(None);
            }
            Ok(Some(digits.iter().fold(0, |number, digit| number * 8 + i128::from(digit - b'0'))))
        }
    }
}

/// Decimal digits, at least one, below 2^64.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A PAX time: seconds, a sign and a fraction possible; rounded down.
fn seconds(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let below = negative && fraction.iter().any(|digit| *digit != b'0');
    Some(if negative { -whole - i64::from(below) } else { whole })
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A member's name without a leading `./` or `/` and without trailing slashes.
fn plain(name: &[u8]) -> &[u8] {
    let mut name = name;
    while let Some(rest) = name.strip_prefix(b"./").or_else(|| name.strip_prefix(b"/")) {
        name = rest;
    }
    while let Some(rest) = name.strip_suffix(b"/") {
        name = rest;
    }
    name
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_headers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Ok(Some(0o644))),
            (b"   644 \0", Ok(Some(0o644))),
            (b"\0\0\0\0\0\0\x007", Ok(Some(7))),
            (b"77777777", Ok(Some(0o7777_7777))),
            (b"0000644\0", Ok(Some(0o644))),
            (b"12\0junk!", Ok(Some(0o12))),
            (b"\0\0\0\0", Ok(None)),
            (b"    ", Ok(None)),
            (b"0000648\0", Err("is no octal number")),
            (b"-0000644", Err("is no octal number")),
            (b"12 34", Err("is two numbers")),
            (b"\x80\0\0\0\0\0\x01\0", Ok(Some(256))),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfb", Ok(Some(-5))),
        ] {
            assert_eq!(number(field), expected, "{}", quote(field));
        }
        // The widest field: nothing overflows.
        assert_eq!(number(&[0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(Some(-(1 << 94))));
        let mut most = [0xff; 12];
        most[0] = 0xbf;
        assert_eq!(number(&most), Ok(Some((1 << 94) - 1)));
    }

    #[test]
    fn times_of_pax_headers_are_rounded_down() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1700000000.999999999", Some(1_700_000_000)),
            ("-1", Some(-1)),
            ("-1.0", Some(-1)),
            ("-1.5", Some(-2)),
            ("1.", Some(1)),
            ("", None),
            (".5", None),
            ("1e9", None),
            ("--1", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(seconds(b"-9223372036854775807.5"), Some(i64::MIN));
    }

    #[test]
    fn names_are_compared_without_their_dress() {
        for name in ["a/b", "./a/b", "/a/b/", "././a/b//", "//a/b"] {
            assert_eq!(plain(name.as_bytes()), b"a/b", "{name}");
        }
        assert_eq!(plain(b"../a"), b"../a");
        assert_eq!(plain(b"./"), b"");
    }

    #[test]
    fn a_sparse_map_rises_and_adds_up() {
        let mut map = SparseMap::default();
        map.push(0, 10).unwrap();
        map.push(20, 5).unwrap();
        assert!(map.push(24, 1).is_err());
        assert!(map.push(u64::MAX, 1).is_err());
        assert!(map.check(15, Some(25)).is_ok());
        assert!(map.check(15, Some(24)).is_err());
        assert!(map.check(14, None).is_err());
    }

    #[test]
    fn hostile_sizes_do_not_overflow_the_count() {
        // Members that claim 2^63 - 1 bytes: their content is not there, and no sum wraps before that is told.
        let mut tape = Tape::new(Limits::default(), vec![]);
        (0..4).for_each(|_| tape.stored(u64::MAX >> 1));
        assert_eq!(tape.walk.content_bytes, u64::MAX);
    }
}
