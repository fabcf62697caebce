//! What is shown to a server: public keys, and OpenSSH user certificates over them.
//!
//! What lives here: reading both from files and blobs, their names and algorithms, and what can be said of a
//! certificate without asking a server. What does not: who signs (auth, agent), and host certificates
//! (known_hosts).

use std::io::Read as _;
use std::path::Path;

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Algorithm, Certificate, HashAlg, PublicKey};

/// A file above this size (bytes) is no public key.
const LARGEST: u64 = 256 << 10;

/// A certificate holds its authority's key, which the decoder would read as a certificate again, and so on
/// until the stack ends: more than one inside the other is none.
const MARKER: &[u8] = b"-cert-v01@";

/// What a server is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Public {
    Key(PublicKey),
    Certificate(Box<Certificate>),
}

impl Public {
    /// Without its comment, which says nothing about whether two are the same.
    pub(super) fn of(key: &PublicKey) -> Self {
        Self::Key(PublicKey::new(key.key_data().clone(), ""))
    }

    /// As an agent or a file holds it; `None` for a kind that is not known here.
    pub(super) fn from_blob(blob: &[u8]) -> Option<Self> {
        let name = blob.get(4..).unwrap_or_default();
        let length = usize::try_from(u32::from_be_bytes(blob.get(..4)?.try_into().ok()?)).ok()?;
        let name = name.get(..length)?;
        let nested = blob.windows(MARKER.len()).filter(|window| *window == MARKER).count();
        if name.ends_with(b"-cert-v01@openssh.com") {
            return (nested == 1)
                .then(|| Certificate::from_bytes(blob).ok())
                .flatten()
                .map(|it| Self::Certificate(it.into()));
        }
        (nested == 0).then(|| PublicKey::from_bytes(blob).ok()).flatten().map(Self::Key)
    }

    /// The first line of a `.pub` file.
    fn from_text(text: &str) -> Option<Self> {
        use base64::Engine as _;
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
        let mut words = line.split_whitespace();
        let (kind, blob) = (words.next()?, words.next()?);
        let blob = base64::engine::general_purpose::STANDARD.decode(blob).ok()?;
        // Both say which kind it is, and must agree.
        (blob.get(4..4 + kind.len())? == kind.as_bytes()).then(|| Self::from_blob(&blob)).flatten()
    }

    /// What a public key or certificate file holds; `None` when there is none, or it is something else.
    pub(super) fn from_file(path: &Path) -> Option<Self> {
        let mut text = String::new();
        std::fs::File::open(path).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
        Self::from_text(&text)
    }

    /// The key that signs.
    pub(super) fn key(&self) -> &KeyData {
        match self {
            Self::Key(key) => key.key_data(),
            Self::Certificate(certificate) => certificate.public_key(),
        }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.key().algorithm()
    }

    pub(super) fn is_rsa(&self) -> bool {
        matches!(self.key(), KeyData::Rsa(_))
    }

    /// The name under which it is offered, which is what `PubkeyAcceptedAlgorithms` is about.
    pub(super) fn offered_as(&self, hash: Option<HashAlg>) -> String {
        let base = match (self.is_rsa(), hash) {
            (true, Some(HashAlg::Sha256)) => "rsa-sha2-256".to_owned(),
            (true, Some(_)) => "rsa-sha2-512".to_owned(),
            _ => self.algorithm().as_str().to_owned(),
        };
        match self {
            Self::Key(_) => base,
            // sk-ssh-ed25519@openssh.com becomes sk-ssh-ed25519-cert-v01@openssh.com.
            Self::Certificate(_) => {
                format!("{}-cert-v01@openssh.com", base.strip_suffix("@openssh.com").unwrap_or(&base))
            }
        }
    }

    /// Kind and fingerprint.
    pub(super) fn short(&self) -> String {
        let print = self.key().fingerprint(HashAlg::Sha256);
        match self {
            Self::Key(_) => format!("{} {print}", self.algorithm().as_str()),
            Self::Certificate(it) => format!(
                "certificate {:?} number {} by {} over {} {print}",
                it.key_id().chars().take(80).collect::<String>(),
                it.serial(),
                it.signature_key().fingerprint(HashAlg::Sha256),
                self.algorithm().as_str(),
            ),
        }
    }

    /// Why a server would not let `user` in with it, as far as it can be seen from here; nothing for plain keys.
    /// The server's clock and its lists of principals may be others: so it is offered all the same.
    pub(super) fn doubt(&self, user: &str, now: u64) -> Option<String> {
        let Self::Certificate(it) = self else { return None };
        let date = |seconds: u64| {
            i64::try_from(seconds)
                .ok()
                .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
                .map_or_else(|| "?".to_owned(), |time| time.to_string())
        };
        if it.cert_type() != CertType::User {
            return Some("it is a host's, not a user's".to_owned());
        }
        if now >= it.valid_before() {
            return Some(format!("it expired at {}", date(it.valid_before())));
        }
        if now < it.valid_after() {
            return Some(format!("it is not valid before {}", date(it.valid_after())));
        }
        let principals = it.valid_principals();
        if principals.is_empty() {
            return Some("it names no principal, so it is for nobody".to_owned());
        }
        if !principals.iter().any(|principal| principal == user) {
            let names: Vec<_> = principals.iter().take(5).map(String::as_str).collect();
            return Some(format!("it is for {}, not for {user}, unless the server maps principals", names.join(", ")));
        }
        None
    }
}

/// Whether `name` is one of a list of patterns as OpenSSH writes them (`*`, `?`; `!` in front excludes).
pub(super) fn accepted(patterns: &[String], name: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => found |= matches(pattern.as_bytes(), name.as_bytes()),
        }
    }
    found
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|at| matches(rest, name.get(at..).unwrap_or_default())),
        (Some((b'?', rest)), Some((_, tail))) => matches(rest, tail),
        (Some((one, rest)), Some((other, tail))) => one == other && matches(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_algorithms() {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        assert!(accepted(&list("ssh-ed25519,rsa-*"), "rsa-sha2-512"));
        assert!(!accepted(&list("!rsa-sha2-512,*"), "rsa-sha2-512"));
        assert!(!accepted(&list("ssh-ed2551"), "ssh-ed25519"));
        assert!(accepted(&list("*-cert-v0?@openssh.com"), "ssh-ed25519-cert-v01@openssh.com"));
        assert!(!accepted(&[], "x"));
    }

    proptest::proptest! {
        #[test]
        fn any_blob_is_answered(bytes: Vec<u8>, text: String) {
            let _ = Public::from_blob(&bytes);
            let _ = Public::from_text(&text);
            let _ = Public::from_text(&format!("ssh-ed25519 {text}"));
        }
    }
}
