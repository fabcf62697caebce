//! Whether a file has what was written to it: each piece gets a tag when it is written, and again when it is read back.
//!
//! The tag is GMAC (AES-GCM over no text, with the piece as what is only authenticated) under a key that is made for this
//! one file and never leaves this process: a disk that gives back something else can match it only by one chance in some
//! 2^100. It costs a tenth of SHA-256. The file's own digest is made of the stream; that the file has the stream is what this proves.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// What one piece of a file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag([u8; 16]);

/// Makes tags for the pieces of one file.
#[derive(Clone)]
pub(super) struct Echo {
    key: std::sync::Arc<LessSafeKey>,
}

/// The cipher could not be had: no piece can be proved.
#[derive(Debug, thiserror::Error)]
#[error("no tag could be made")]
pub(super) struct NoTag;

impl From<NoTag> for std::io::Error {
    fn from(error: NoTag) -> Self {
        Self::other(error)
    }
}

impl Echo {
    pub(super) fn new() -> Result<Self, NoTag> {
        let key = UnboundKey::new(&AES_128_GCM, &rand::random::<[u8; 16]>()).map_err(|_| NoTag)?;
        Ok(Self { key: std::sync::Arc::new(LessSafeKey::new(key)) })
    }

    /// The tag of the piece that begins at byte `at`: the same bytes at another place have another one.
    pub(super) fn tag(&self, at: u64, piece: &[u8]) -> Result<Tag, NoTag> {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&at.to_be_bytes());
        let sealed =
            self.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(piece), &mut []);
        let mut tag = [0; 16];
        tag.copy_from_slice(sealed.map_err(|_| NoTag)?.as_ref());
        Ok(Tag(tag))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_and_every_place_counts() {
        let echo = Echo::new().unwrap();
        let piece: Vec<u8> = (0..300_u32).flat_map(u32::to_le_bytes).collect();
        let tag = echo.tag(7, &piece).unwrap();
        assert_eq!(echo.tag(7, &piece).unwrap(), tag);
        assert_ne!(echo.tag(8, &piece).unwrap(), tag);
        assert_ne!(echo.tag(7, &piece[..piece.len() - 1]).unwrap(), tag);
        assert_ne!(Echo::new().unwrap().tag(7, &piece).unwrap(), tag, "another file, another key");
        for bit in 0..piece.len() * 8 {
            let mut other = piece.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(echo.tag(7, &other).unwrap(), tag, "bit {bit}");
        }
    }
}
