//! The outer layer: gzip, RFC 1952.
//!
//! What lives here: gzip headers and trailers, byte by byte, with every check that the format
//! offers, over any number of members; deflate itself is flate2's. What does not: the tar inside.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::fault::hex;
use super::tar::{Tape, looks_like_tar};
use super::{Fault, Limits, Spot};

/// The decode buffer: as much tar is handed on at once.
const BUFFER: usize = 256 << 10;
/// As much of a file that is no gzip is looked at to say what it is: a tar header.
const SNIFF: usize = 512;

const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;
const FLAGS_RESERVED: u8 = 0xe0;

/// A part of a gzip header, in the order of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Fixed,
    ExtraLength,
    Extra(u16),
    Name,
    Comment,
    HeaderCrc,
}

impl Part {
    fn text(self) -> &'static str {
        match self {
            Self::Fixed | Self::HeaderCrc => "a gzip header",
            Self::ExtraLength | Self::Extra(_) => "the extra field of a gzip header",
            Self::Name => "the file name in a gzip header",
            Self::Comment => "the comment in a gzip header",
        }
    }
}

#[derive(Debug)]
enum State {
    /// No gzip: gathering enough to say what it is instead.
    Sniff,
    Header(Part),
    Body,
    Trailer,
    /// Behind a member: another one, or this many NUL bytes of padding so far.
    After(u64),
}

/// Takes gzip apart, byte by byte or in large pieces.
pub(super) struct Gunzip {
    state: State,
    /// Bytes of the file taken so far.
    at: u64,
    /// Gzip members begun.
    member: u64,
    /// The first bytes of a file that is no gzip; the gathered bytes of a header part or trailer.
    small: Vec<u8>,
    flags: u8,
    /// Bytes of this gzip header so far.
    header_bytes: u64,
    header_crc: Crc,
    inflate: Decompress,
    buffer: Vec<u8>,
    crc: Crc,
    /// Decoded bytes of this member, modulo 2^32.
    length: u32,
    header_limit: u64,
    padding_limit: u64,
    ratio: u64,
    ratio_after: u64,
}

impl Gunzip {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            state: State::Header(Part::Fixed),
            at: 0,
            member: 1,
            small: Vec::with_capacity(SNIFF),
            flags: 0,
            header_bytes: 0,
            header_crc: Crc::new(),
            inflate: Decompress::new(false),
            buffer: vec![0; BUFFER],
            crc: Crc::new(),
            length: 0,
            header_limit: limits.header,
            padding_limit: limits.padding,
            ratio: limits.ratio,
            ratio_after: limits.ratio_after,
        }
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    fn spot(&self, tape: &Tape) -> Spot {
        Spot { compressed: self.at, member: self.member, tar: tape.at() }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], tape: &mut Tape) -> Result<(), Fault> {
        while let Some((&first, rest)) = bytes.split_first() {
            match self.state {
                State::Body => bytes = self.body(bytes, tape)?,
                State::After(0) if first == 0x1f => {
                    self.member += 1;
                    self.header_bytes = 0;
                    self.state = State::Header(Part::Fixed);
                }
                State::After(count) => {
                    let nuls = bytes.iter().take_while(|byte| **byte == 0).count();
                    let room = self.padding_limit.saturating_sub(count);
                    if nuls as u64 > room {
                        self.at += room;
                        return Err(Fault::Limit {
                            spot: self.spot(tape),
                            what: "NUL bytes behind the last gzip member".to_owned(),
                            limit: self.padding_limit,
                        });
                    }
                    self.at += nuls as u64;
                    self.state = State::After(count + nuls as u64);
                    bytes = bytes.get(nuls..).unwrap_or_default();
                    if let Some(byte) = bytes.first() {
                        return Err(self.junk(self.at, *byte, tape));
                    }
                }
                State::Sniff => {
                    self.at += 1;
                    bytes = rest;
                    self.small.push(first);
                    if self.small.len() == SNIFF {
                        return Err(self.not_gzip());
                    }
                }
                State::Header(part) => {
                    self.at += 1;
                    bytes = rest;
                    self.header(part, first, tape)?;
                }
                State::Trailer => {
                    self.at += 1;
                    bytes = rest;
                    self.small.push(first);
                    if self.small.len() == 8 {
                        self.trailer(tape)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn junk(&self, at: u64, first: u8, tape: &Tape) -> Fault {
        Fault::TrailingJunk {
            spot: Spot { compressed: at, ..self.spot(tape) },
            seen: format!("bytes beginning with {first:02x}"),
        }
    }

    /// One byte of a gzip header.
    fn header(&mut self, part: Part, byte: u8, tape: &Tape) -> Result<(), Fault> {
        let wrong = |this: &Self, field: &str, seen: String, expected: &str| {
            Err(Fault::GzipHeader {
                spot: this.spot(tape),
                field: field.to_owned(),
                seen,
                expected: expected.to_owned(),
            })
        };
        if self.header_bytes == 0 {
            self.small.clear();
            self.header_crc.reset();
        }
        self.header_bytes += 1;
        if self.header_bytes > self.header_limit {
            return Err(Fault::Limit {
                spot: self.spot(tape),
                what: format!("bytes of {}", part.text()),
                limit: self.header_limit,
            });
        }
        if part != Part::HeaderCrc {
            self.header_crc.update(&[byte]);
        }
        let next = match part {
            Part::Fixed => {
                self.small.push(byte);
                match self.header_bytes {
                    1 | 2 if byte != if self.header_bytes == 1 { 0x1f } else { 0x8b } => {
                        if self.member > 1 {
                            self.member -= 1;
                            return Err(self.junk(self.at - self.header_bytes, 0x1f, tape));
                        }
                        self.state = State::Sniff;
                        return Ok(());
                    }
                    3 if byte != 8 => return wrong(self, "the compression method", byte.to_string(), "8 (deflate)"),
                    4 if byte & FLAGS_RESERVED != 0 => {
                        return wrong(
                            self,
                            "the flags field",
                            format!("{byte:#04x}"),
                            "the reserved bits 0xe0 to be 0",
                        );
                    }
                    4 => self.flags = byte,
                    _ => {}
                }
                (self.header_bytes == 10).then_some(Part::ExtraLength)
            }
            Part::ExtraLength => {
                self.small.push(byte);
                match *self.small.as_slice() {
                    [low, high] => Some(Part::Extra(u16::from_le_bytes([low, high]))),
                    _ => None,
                }
            }
            Part::Extra(left) if left > 1 => {
                self.state = State::Header(Part::Extra(left - 1));
                return Ok(());
            }
            Part::Extra(_) => Some(Part::Name),
            Part::Name => (byte == 0).then_some(Part::Comment),
            Part::Comment => (byte == 0).then_some(Part::HeaderCrc),
            Part::HeaderCrc => {
                self.small.push(byte);
                match *self.small.as_slice() {
                    [low, high] => {
                        let stored = u16::from_le_bytes([low, high]);
                        let computed = (self.header_crc.sum() & 0xffff) as u16;
                        if stored != computed {
                            return wrong(
                                self,
                                "the header's CRC",
                                format!("{stored:04x}"),
                                &format!("{computed:04x}"),
                            );
                        }
                        self.begin_body();
                        return Ok(());
                    }
                    _ => None,
                }
            }
        };
        if let Some(next) = next {
            self.small.clear();
            self.enter(next);
        }
        Ok(())
    }

    /// Goes to this part of the header, or over it when the flags say that it is not there.
    fn enter(&mut self, part: Part) {
        let mut part = part;
        loop {
            let (there, after) = match part {
                Part::Fixed | Part::ExtraLength => (self.flags & FLAG_EXTRA != 0, Some(Part::Name)),
                Part::Extra(left) => (left > 0, Some(Part::Name)),
                Part::Name => (self.flags & FLAG_NAME != 0, Some(Part::Comment)),
                Part::Comment => (self.flags & FLAG_COMMENT != 0, Some(Part::HeaderCrc)),
                Part::HeaderCrc => (self.flags & FLAG_HEADER_CRC != 0, None),
            };
            match (there, after) {
                (true, _) => {
                    self.state = State::Header(part);
                    return;
                }
                (false, Some(after)) => part = after,
                (false, None) => {
                    self.begin_body();
                    return;
                }
            }
        }
    }

    fn begin_body(&mut self) {
        self.inflate.reset(false);
        self.crc.reset();
        self.length = 0;
        self.state = State::Body;
    }

    /// Decodes; what is left of `bytes` lies behind the deflate data.
    fn body<'a>(&mut self, mut bytes: &'a [u8], tape: &mut Tape) -> Result<&'a [u8], Fault> {
        loop {
            let (total_in, total_out) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(bytes, &mut self.buffer, FlushDecompress::None);
            let used = self.inflate.total_in() - total_in;
            let made = (self.inflate.total_out() - total_out) as usize;
            self.at += used;
            bytes = bytes.get(used as usize..).unwrap_or_default();

            // Also when the decoder failed: what came out before is told first, however the file was cut into pieces.
            let decoded = self.buffer.get(..made).unwrap_or_default();
            self.crc.update(decoded);
            self.length = self.length.wrapping_add(made as u32);
            tape.outer(self.at, self.member);
            tape.feed(decoded)?;
            if tape.at() > self.ratio_after && tape.at() / self.ratio.max(1) > self.at {
                return Err(Fault::Limit {
                    spot: self.spot(tape),
                    what: "decoded bytes per byte of the file".to_owned(),
                    limit: self.ratio,
                });
            }

            let corrupt = |why: &str| Err(Fault::Deflate { spot: self.spot(tape), why: why.to_owned() });
            match status {
                Err(error) => return corrupt(error.message().unwrap_or("invalid deflate data")),
                Ok(Status::StreamEnd) => {
                    self.small.clear();
                    self.state = State::Trailer;
                    return Ok(bytes);
                }
                // A full buffer: the decoder may hold more.
                Ok(_) if made == self.buffer.len() => {}
                Ok(_) if bytes.is_empty() => return Ok(bytes),
                Ok(_) if used == 0 && made == 0 => return corrupt("the decoder does not advance"),
                Ok(_) => {}
            }
        }
    }

    /// The eight bytes behind a member: CRC and length.
    fn trailer(&mut self, tape: &Tape) -> Result<(), Fault> {
        let number = |at: usize| {
            let mut bytes = [0; 4];
            bytes.iter_mut().zip(self.small.iter().skip(at)).for_each(|(to, from)| *to = *from);
            u32::from_le_bytes(bytes)
        };
        let (crc, length) = (number(0), number(4));
        let spot = self.spot(tape);
        if crc != self.crc.sum() {
            let spot = Spot { compressed: self.at - 8, ..spot };
            return Err(Fault::Crc { spot, stored: crc, computed: self.crc.sum() });
        }
        if length != self.length {
            let spot = Spot { compressed: self.at - 4, ..spot };
            return Err(Fault::Length { spot, stored: length, computed: self.length });
        }
        self.state = State::After(0);
        Ok(())
    }

    fn not_gzip(&self) -> Fault {
        Fault::NotGzip { seen: hex(&self.small), looks_like: looks_like(&self.small).to_owned() }
    }

    /// The file ends: its length and the number of gzip members.
    pub(super) fn finish(self, tape: &mut Tape) -> Result<(u64, u64), Fault> {
        let spot = self.spot(tape);
        tape.outer(self.at, self.member);
        let cut = |inside: &str| Err(Fault::Cut { spot, inside: inside.to_owned() });
        match self.state {
            State::Header(Part::Fixed) if self.at == 0 => Err(Fault::EmptyFile),
            State::Sniff => Err(self.not_gzip()),
            State::Header(part) => cut(part.text()),
            State::Body => cut("compressed data"),
            State::Trailer => cut("the CRC and length behind a gzip member"),
            State::After(_) => Ok((self.at, self.member)),
        }
    }
}

/// What a file that is no gzip seems to be.
fn looks_like(bytes: &[u8]) -> &'static str {
    let known: [(&[u8], &str); 12] = [
        (b"\xfd7zXZ\0", "an xz file"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"BZh", "a bzip2 file"),
        (b"PK\x03\x04", "a zip file"),
        (b"\x1f\x9d", "a compress (.Z) file"),
        (b"\x04\x22\x4d\x18", "an lz4 file"),
        (b"LZIP", "an lzip file"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z file"),
        (b"age-encryption.org/", "an age-encrypted file"),
        (b"-----BEGIN ", "a PEM text"),
        (b"<", "HTML or XML"),
        (b"{", "JSON"),
    ];
    if looks_like_tar(bytes) {
        return "a tar that is not compressed";
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return "NUL bytes only";
    }
    if let Some((_, name)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return name;
    }
    let text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    if bytes.iter().all(text) { "text" } else { "an unknown format" }
}
