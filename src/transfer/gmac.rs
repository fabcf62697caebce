//! Whether bytes are the same at two places, at a tenth of the cost of SHA-256: GMAC, which is AES-GCM over no text, with the
//! bytes as what is only authenticated.
//!
//! A key is made at random for one transfer. Each piece of the stream gets a tag when it is written and again when it is read back from
//! the disk; and since GMAC is a polynomial, the tags of pieces that follow each other give the tag of the whole,
//! which `openssl mac` on a node makes of its own file. So one pass over a piece serves both.
//!
//! The key is no secret: a node is told it. It makes that neither a wire nor a disk nor memory can change a byte
//! and be lucky: the chance is one in some 2^90 for any archive. It is no proof against a node that lies, which may as well send other bytes.
//! Who needs a name for the content that nobody can forge takes the SHA-256 of the stream, which is made here.

use std::sync::Arc;

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// What bytes look like under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag([u8; 16]);

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Tag {
    type Err = NoTag;
    /// From 32 hexadecimal digits, of either case: openssl writes large ones.
    fn from_str(text: &str) -> Result<Self, NoTag> {
        if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NoTag);
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| NoTag)
    }
}

/// The cipher could not be had, or a text is no tag: nothing can be proved.
#[derive(Debug, thiserror::Error)]
#[error("no tag could be made")]
pub(super) struct NoTag;

impl From<NoTag> for std::io::Error {
    fn from(error: NoTag) -> Self {
        Self::other(error)
    }
}

/// The nonce of a tag of the whole: no piece begins there.
const WHOLE: [u8; 12] = [0xff; 12];
/// A block of the cipher, in bytes.
const BLOCK: u64 = 16;

/// A key for one transfer. Cheap to clone.
#[derive(Clone)]
pub(super) struct Key(Arc<Parts>);

struct Parts {
    bytes: [u8; 16],
    seal: LessSafeKey,
    block: aes::Aes128,
    /// Where the polynomial is evaluated.
    point: u128,
}

impl Key {
    /// A new one, at random.
    pub(super) fn new() -> Result<Self, NoTag> {
        Self::of(rand::random())
    }

    fn of(bytes: [u8; 16]) -> Result<Self, NoTag> {
        let seal = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &bytes).map_err(|_| NoTag)?);
        let block = aes::Aes128::new(&bytes.into());
        let mut point = [0; 16].into();
        block.encrypt_block(&mut point);
        Ok(Self(Arc::new(Parts { bytes, seal, block, point: u128::from_be_bytes(point.into()) })))
    }

    /// As `openssl mac -cipher AES-128-GCM GMAC` takes it: the key and the nonce of a whole, in hexadecimal digits.
    pub(super) fn words(&self) -> (String, String) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        (hex(&self.0.bytes), hex(&WHOLE))
    }

    fn seal(&self, nonce: [u8; 12], piece: &[u8]) -> Result<Tag, NoTag> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.0.seal.seal_in_place_separate_tag(nonce, Aad::from(piece), &mut []);
        let mut tag = [0; 16];
        tag.copy_from_slice(sealed.map_err(|_| NoTag)?.as_ref());
        Ok(Tag(tag))
    }

    /// What the tag of a nonce is masked with.
    fn mask(&self, nonce: [u8; 12]) -> u128 {
        let mut block = [0; 16];
        block[..12].copy_from_slice(&nonce);
        block[15] = 1;
        let mut block = block.into();
        self.0.block.encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    }

    fn nonce(at: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&at.to_be_bytes());
        nonce
    }

    /// The tag of the piece that begins at byte `at`: the same bytes at another place have another one.
    pub(super) fn tag(&self, at: u64, piece: &[u8]) -> Result<Tag, NoTag> {
        self.seal(Self::nonce(at), piece)
    }

    /// What a piece whose tag is known is to the whole.
    pub(super) fn share(&self, at: u64, bytes: usize, tag: Tag) -> Share {
        let bytes = bytes as u64;
        let sum = u128::from_be_bytes(tag.0) ^ self.mask(Self::nonce(at)) ^ self.length(bytes);
        Share { bytes, sum }
    }

    /// What a row of bytes that was tagged as a whole is to a larger one.
    pub(super) fn part(&self, bytes: u64, tag: Tag) -> Share {
        Share { bytes, sum: u128::from_be_bytes(tag.0) ^ self.mask(WHOLE) ^ self.length(bytes) }
    }

    /// What the block that tells a length adds.
    fn length(&self, bytes: u64) -> u128 {
        times(u128::from(bytes * 8) << 64, self.0.point)
    }

    /// The tag of a whole, as a node makes it.
    pub(super) fn whole(&self, share: Share) -> Tag {
        Tag((share.sum ^ self.length(share.bytes) ^ self.mask(WHOLE)).to_be_bytes())
    }

    /// The point to the power of as many blocks.
    fn power(&self, mut blocks: u64) -> u128 {
        let (mut all, mut square) = (ONE, self.0.point);
        while blocks > 0 {
            if blocks & 1 == 1 {
                all = times(all, square);
            }
            square = times(square, square);
            blocks >>= 1;
        }
        all
    }
}

/// A row of bytes, as the polynomial sees it: its value times the point once more, without length and mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Share {
    bytes: u64,
    sum: u128,
}

/// One, in GCM's field: the first bit is the coefficient of x^0.
const ONE: u128 = 1 << 127;

/// The product in GCM's field.
fn times(left: u128, right: u128) -> u128 {
    let (mut product, mut right) = (0, right);
    for bit in (0..128).rev() {
        product ^= right & 0_u128.wrapping_sub((left >> bit) & 1);
        right = (right >> 1) ^ ((0xe1 << 120) & 0_u128.wrapping_sub(right & 1));
    }
    product
}

/// Puts pieces that follow each other together.
#[derive(Clone)]
pub(super) struct Running {
    key: Key,
    share: Share,
    /// The beginning of a block whose rest has not come yet.
    open: Vec<u8>,
    /// The last length in blocks, and the point to that power.
    power: (u64, u128),
}

impl Running {
    pub(super) fn new(key: &Key) -> Self {
        Self { key: key.clone(), share: Share::default(), open: Vec::new(), power: (0, ONE) }
    }

    /// Takes what follows. Only the last piece may end within a block of 16 bytes.
    pub(super) fn follow(&mut self, piece: Share) -> Result<(), NoTag> {
        if !self.open.is_empty() || !self.share.bytes.is_multiple_of(BLOCK) {
            return Err(NoTag);
        }
        let blocks = piece.bytes.div_ceil(BLOCK);
        if blocks == 1 {
            self.share.sum = times(self.share.sum, self.key.0.point);
        } else {
            if self.power.0 != blocks {
                self.power = (blocks, self.key.power(blocks));
            }
            self.share.sum = times(self.share.sum, self.power.1);
        }
        self.share.sum ^= piece.sum;
        self.share.bytes += piece.bytes;
        Ok(())
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), NoTag> {
        let share = self.key.share(0, piece.len(), self.key.tag(0, piece)?);
        self.follow(share)
    }

    /// Takes what follows, however it is cut.
    pub(super) fn update(&mut self, mut piece: &[u8]) -> Result<(), NoTag> {
        if !self.open.is_empty() {
            let (head, rest) = piece.split_at(piece.len().min(BLOCK as usize - self.open.len()));
            self.open.extend_from_slice(head);
            piece = rest;
            if self.open.len() < BLOCK as usize {
                return Ok(());
            }
            let open = std::mem::take(&mut self.open);
            self.take(&open)?;
        }
        let (whole, rest) = piece.split_at(piece.len() - piece.len() % BLOCK as usize);
        if !whole.is_empty() {
            self.take(whole)?;
        }
        self.open.extend_from_slice(rest);
        Ok(())
    }

    /// All that it has seen.
    pub(super) fn share(mut self) -> Result<Share, NoTag> {
        let open = std::mem::take(&mut self.open);
        if !open.is_empty() {
            self.take(&open)?;
        }
        Ok(self.share)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_and_every_place_counts() {
        let key = Key::new().unwrap();
        let piece: Vec<u8> = (0..300_u32).flat_map(u32::to_le_bytes).collect();
        let tag = key.tag(7, &piece).unwrap();
        assert_eq!(key.tag(7, &piece).unwrap(), tag);
        assert_ne!(key.tag(8, &piece).unwrap(), tag);
        assert_ne!(key.tag(7, &piece[..piece.len() - 1]).unwrap(), tag);
        assert_ne!(Key::new().unwrap().tag(7, &piece).unwrap(), tag, "another file, another key");
        for bit in 0..piece.len() * 8 {
            let mut other = piece.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(key.tag(7, &other).unwrap(), tag, "bit {bit}");
        }
    }

    /// However the bytes are cut, the tag of the whole is the one that is made of all at once, and openssl's.
    #[test]
    fn pieces_give_the_tag_of_the_whole() {
        let key = Key::of(*b"0123456789abcdef").unwrap();
        let all: Vec<u8> = (0..40_000_u32).map(|at| ((at * 31) >> 3) as u8).collect();
        for length in [0, 1, 15, 16, 17, 31, 32, 4096, 39_999, 40_000] {
            let all = &all[..length];
            let expected = key.seal(WHOLE, all).unwrap();
            for cut in [1, 3, 16, 48, 1000, 4096, 32_768, 50_000] {
                let mut running = Running::new(&key);
                for piece in all.chunks(cut) {
                    running.update(piece).unwrap();
                }
                assert_eq!(key.whole(running.share().unwrap()), expected, "{length} bytes, {cut} at a time");
            }
            // Of tags that were made for another reason.
            let mut running = Running::new(&key);
            for (number, piece) in all.chunks(1024).enumerate() {
                let at = number as u64 * 1024;
                running.follow(key.share(at, piece.len(), key.tag(at, piece).unwrap())).unwrap();
            }
            assert_eq!(key.whole(running.share().unwrap()), expected, "{length} bytes");
            let mut running = Running::new(&key);
            for piece in all.chunks(4096) {
                running.follow(key.part(piece.len() as u64, key.seal(WHOLE, piece).unwrap())).unwrap();
            }
            assert_eq!(key.whole(running.share().unwrap()), expected, "{length} bytes, of parts");
            let (hex, nonce) = key.words();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), all).unwrap();
            let said = std::process::Command::new("openssl")
                .args(["mac", "-cipher", "AES-128-GCM", "-macopt", &format!("hexkey:{hex}"), "-macopt"])
                .args([&format!("hexiv:{nonce}"), "-in", file.path().to_str().unwrap(), "GMAC"])
                .output()
                .unwrap();
            let said = String::from_utf8(said.stdout).unwrap();
            assert_eq!(said.trim().parse::<Tag>().unwrap(), expected, "{length} bytes, openssl: {said}");
        }
        let mut cut = Running::new(&key);
        cut.update(b"seven").unwrap();
        assert!(cut.follow(Share { bytes: 16, sum: 1 }).is_err(), "a piece behind half a block");
        for text in ["", "+1", "x0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcdef0"] {
            let error = std::io::Error::from(text.parse::<Tag>().unwrap_err());
            assert_eq!(error.to_string(), "no tag could be made", "{text}");
        }
    }
}
