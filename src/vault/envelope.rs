//! The form of a vault text, 1.1 and 1.2.
//!
//! What lives here: header, hexadecimal body, PBKDF2, HMAC, AES in counter mode. What does not: where
//! passwords come from and which one is tried.
//!
//! ```text
//! $ANSIBLE_VAULT;1.1;AES256              or $ANSIBLE_VAULT;1.2;AES256;<vault id>
//! hex( hex(salt) LF hex(hmac) LF hex(ciphertext) ) in lines of 80 characters
//! ```
//! PBKDF2-HMAC-SHA256 in 10,000 rounds gives 80 bytes: 32 of the cipher's key, 32 of the HMAC's, 16 of the first
//! counter. The HMAC is over the ciphertext and is proved first. The plain text is padded to whole blocks of 16.

use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// How every vault text begins.
pub const MAGIC: &str = "$ANSIBLE_VAULT";
/// The vault id that a text of version 1.1 has, and a password that was given without one.
pub const DEFAULT_ID: &str = "default";

const ROUNDS: u32 = 10_000;
const BLOCK: usize = 16;
const SALT: usize = 32;
const LINE: usize = 80;

type Cipher = ctr::Ctr128BE<aes::Aes256>;

/// A vault text taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope {
    /// The vault id in its header.
    pub(super) id: String,
    salt: Vec<u8>,
    hmac: Vec<u8>,
    ciphertext: Vec<u8>,
}

/// Key, HMAC key and first counter of one password and salt.
struct Keys(Zeroizing<[u8; 80]>);

impl Keys {
    fn of(password: &[u8], salt: &[u8]) -> Self {
        let mut out = Zeroizing::new([0_u8; 80]);
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, ROUNDS, out.as_mut_slice());
        Self(out)
    }

    fn part(&self, from: usize, to: usize) -> &[u8] {
        self.0.get(from..to).unwrap_or_default()
    }

    fn mac(&self) -> Option<Hmac<Sha256>> {
        Hmac::new_from_slice(self.part(32, 64)).ok()
    }

    fn cipher(&self) -> Option<Cipher> {
        Cipher::new_from_slices(self.part(0, 32), self.part(64, 80)).ok()
    }
}

impl Envelope {
    /// Reads a vault text. The error is a sentence.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut lines = text.trim_start().lines();
        let header: Vec<&str> = lines.next().unwrap_or("").trim().split(';').map(str::trim).collect();
        if header.first() != Some(&MAGIC) {
            return Err(format!("it does not begin with {MAGIC}"));
        }
        let (version, cipher) = (header.get(1).copied().unwrap_or(""), header.get(2).copied().unwrap_or(""));
        if !matches!(version, "1.1" | "1.2") {
            return Err(format!("its version is {version:?}; 1.1 and 1.2 are known"));
        }
        if cipher != "AES256" {
            return Err(format!("its cipher is {cipher:?}; AES256 is known"));
        }
        let id = header.get(3).filter(|id| !id.is_empty()).map_or_else(|| DEFAULT_ID.to_owned(), |id| (*id).to_owned());
        let body: String = lines.map(str::trim).collect();
        let whole = unhex(body.as_bytes()).ok_or("its body is not hexadecimal")?;
        let mut parts = whole.splitn(3, |byte| *byte == b'\n').map(unhex);
        match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten()) {
            (Some(salt), Some(hmac), Some(ciphertext)) => Ok(Self { id, salt, hmac, ciphertext }),
            _ => Err("its body is cut: salt, HMAC and text are expected in it".to_owned()),
        }
    }

    /// The plain text, or `None` when the password is another or the text was changed.
    pub(super) fn open(&self, password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let keys = Keys::of(password, &self.salt);
        let mut mac = keys.mac()?;
        mac.update(&self.ciphertext);
        mac.verify_slice(&self.hmac).ok()?;
        let mut text = Zeroizing::new(self.ciphertext.clone());
        keys.cipher()?.try_apply_keystream(&mut text).ok()?;
        let pad = usize::from(*text.last()?);
        let cut = text.len().checked_sub(pad).filter(|_| (1..=BLOCK).contains(&pad))?;
        let padded = text.get(cut..)?.iter().all(|byte| usize::from(*byte) == pad);
        text.truncate(cut);
        padded.then_some(text)
    }
}

/// A vault text of `plain`. With the id [`DEFAULT_ID`] it is of version 1.1, else of 1.2. `None` only where the cipher
/// refuses, which it does for texts of many gigabytes.
pub(super) fn seal(plain: &[u8], password: &[u8], id: &str) -> Option<String> {
    let salt: [u8; SALT] = rand::random();
    seal_with(plain, password, id, &salt)
}

pub(super) fn seal_with(plain: &[u8], password: &[u8], id: &str, salt: &[u8]) -> Option<String> {
    let keys = Keys::of(password, salt);
    let pad = BLOCK - plain.len() % BLOCK;
    let mut text = Zeroizing::new(Vec::with_capacity(plain.len() + pad));
    text.extend_from_slice(plain);
    text.extend(std::iter::repeat_n(u8::try_from(pad).unwrap_or(0), pad));
    keys.cipher()?.try_apply_keystream(&mut text).ok()?;
    let mut mac = keys.mac()?;
    mac.update(&text);
    let inner = [hex(salt), hex(&mac.finalize().into_bytes()), hex(&text)].join("\n");
    let mut out = match id {
        DEFAULT_ID => format!("{MAGIC};1.1;AES256\n"),
        id => format!("{MAGIC};1.2;AES256;{id}\n"),
    };
    let body = hex(inner.as_bytes());
    for line in body.as_bytes().chunks(LINE) {
        out.push_str(std::str::from_utf8(line).unwrap_or_default());
        out.push('\n');
    }
    Some(out)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_password_only() {
        for plain in ["", "x", "sixteen bytes!!!", "a\nlonger text that needs several blocks\r\n\0"] {
            let text = seal(plain.as_bytes(), b"pass", DEFAULT_ID).unwrap();
            assert!(text.starts_with("$ANSIBLE_VAULT;1.1;AES256\n") && text.lines().all(|line| line.len() <= 80));
            let envelope = Envelope::read(&text).unwrap();
            assert_eq!(envelope.open(b"pass").unwrap().as_slice(), plain.as_bytes());
            assert!(envelope.open(b"Pass").is_none());
        }
        let text = seal(b"x", b"pass", "dev").unwrap();
        assert!(text.starts_with("$ANSIBLE_VAULT;1.2;AES256;dev\n"));
        assert_eq!(Envelope::read(&text).unwrap().id, "dev");
    }

    #[test]
    fn a_changed_text_does_not_open() {
        let text = seal(b"some text", b"pass", DEFAULT_ID).unwrap();
        let envelope = Envelope::read(&text).unwrap();
        for at in 0..envelope.ciphertext.len() {
            let mut changed = envelope.clone();
            changed.ciphertext[at] ^= 1;
            assert!(changed.open(b"pass").is_none());
        }
    }

    #[test]
    fn what_is_no_vault_text_is_told() {
        for (text, said) in [
            ("", "begin"),
            ("$ANSIBLE_VAULT;1.0;AES\n00", "version"),
            ("$ANSIBLE_VAULT;1.1;ROT13\n00", "cipher"),
            ("$ANSIBLE_VAULT;1.1;AES256\nxyz", "hexadecimal"),
            ("$ANSIBLE_VAULT;1.1;AES256\n313", "hexadecimal"),
            ("$ANSIBLE_VAULT;1.1;AES256\n3132\n", "cut"),
        ] {
            let told = Envelope::read(text).unwrap_err();
            assert!(told.contains(said), "{text:?}: {told}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\$ANSIBLE_VAULT;1\\.[12];AES256(;[a-z]{0,3})?\n)?[0-9a-f\n ]{0,200}") {
            if let Ok(envelope) = Envelope::read(&text) {
                proptest::prop_assert!(envelope.open(b"x").is_none());
            }
        }
    }
}
