//! P-256 keys in OpenSSH's own form whose number begins with a zero byte: one in 256.
//!
//! OpenSSH writes a number without such bytes, and the library that reads keys takes no P-256 number of less than 32
//! bytes. What lives here: reading exactly these. What does not: every other key, and what is said of a wrong one (keys).

use base64::Engine as _;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::PublicKey;
use russh::keys::ssh_key::private::{EcdsaKeypair, EcdsaPrivateKey, KeypairData};
use russh::keys::ssh_key::public::{EcdsaPublicKey, KeyData};
use zeroize::Zeroizing;

const MAGIC: &[u8] = b"openssh-key-v1\0";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
/// A number of P-256, in bytes.
const WIDTH: usize = 32;

/// The next length and so many bytes.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let (value, behind) = behind.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = behind;
    Some(value)
}

/// What stands between the marker lines of the first key in `text`, which has no carriage returns.
fn blob(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, behind) = text.split_once("-----BEGIN OPENSSH PRIVATE KEY-----\n")?;
    let (inner, _) = behind.split_once(END)?;
    let inner = Zeroizing::new(inner.replace('\n', ""));
    base64::engine::general_purpose::STANDARD.decode(inner.as_bytes()).ok().map(Zeroizing::new)
}

/// The names of cipher and derivation, and what stands behind them: the public half, and the private one, encrypted or not.
struct Parts<'a> {
    cipher: &'a [u8],
    public: &'a [u8],
    private: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(blob: &'a [u8]) -> Option<Self> {
        let mut rest = blob.strip_prefix(MAGIC)?;
        let cipher = string(&mut rest)?;
        let (_derivation, _options) = (string(&mut rest)?, string(&mut rest)?);
        // One key: no tool writes more.
        rest = rest.strip_prefix(&[0, 0, 0, 1])?;
        Some(Self { cipher, public: string(&mut rest)?, private: string(&mut rest)? })
    }
}

/// The public half of any key in OpenSSH's own form; it is never encrypted.
pub(super) fn public_half(text: &str) -> Option<PublicKey> {
    PublicKey::from_bytes(Parts::of(&blob(text)?)?.public).ok()
}

/// The key in `text`, when it is one of these and the passphrase is right.
pub(super) fn load(text: &str, passphrase: Option<&str>) -> Option<PrivateKey> {
    let blob = blob(text)?;
    let parts = Parts::of(&blob)?;
    let public = PublicKey::from_bytes(parts.public).ok()?;
    let KeyData::Ecdsa(EcdsaPublicKey::NistP256(point)) = public.key_data() else { return None };
    let mut plain = Zeroizing::new(parts.private.to_vec());
    if parts.cipher != b"none" {
        // Encrypted, the library does not look at the number yet.
        let begin = text.find("-----BEGIN OPENSSH")?;
        let locked = PrivateKey::from_openssh(text.get(begin..)?).ok()?;
        let (secret, start) = locked.kdf().derive_key_and_iv(locked.cipher(), passphrase?).ok()?;
        locked.cipher().decrypt(&secret, &start, &mut plain, None).ok()?;
    }
    let mut rest = plain.as_slice();
    let (first, behind) = rest.split_first_chunk::<4>()?;
    let (second, behind) = behind.split_first_chunk::<4>()?;
    rest = behind;
    // Twice the same: the passphrase was right.
    let right = first == second
        && string(&mut rest)? == b"ecdsa-sha2-nistp256"
        && string(&mut rest)? == b"nistp256"
        && string(&mut rest)? == point.as_bytes();
    let number = string(&mut rest)?;
    let comment = std::str::from_utf8(string(&mut rest)?).ok()?;
    let padded = (1_u8..).zip(rest).all(|(expected, seen)| expected == *seen);
    if !right || !padded || number.len() >= WIDTH || number.is_empty() {
        return None;
    }
    let mut whole = Zeroizing::new([0; WIDTH]);
    whole.get_mut(WIDTH - number.len()..)?.copy_from_slice(number);
    let pair = EcdsaKeypair::NistP256 { public: *point, private: EcdsaPrivateKey::from(*whole) };
    PrivateKey::new(KeypairData::Ecdsa(pair), comment).ok()
}
