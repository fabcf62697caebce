//! An agent of ferry's own, lent to a host for one purpose: it knows one key, made for this and kept in memory, and signs
//! one login with it, as one user at one server. It is never the operator's agent, and holds none of the operator's keys.
//!
//! What lives here: the key, and the answers of the agent's protocol to the host that it is lent to. That host may be
//! hostile: every request is bounded and read to its last byte, and what is not exactly the login that the agent was lent for
//! is refused. What does not: our own agent as a client (agent), and what the login is for (transfer).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::keys::signature::{Signer as _, Verifier as _};
use russh::keys::ssh_encoding::{Decode as _, Encode as _};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Algorithm, EcdsaCurve, PublicKey, Signature};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::SshChild;
use super::agent::{EXTENSION, IDENTITIES_ANSWER, REQUEST_IDENTITIES, SIGN_REQUEST, SIGN_RESPONSE};
use crate::failure::{Failure, Kind};

const FAILURE: u8 = 5;
const SUCCESS: u8 = 6;
/// `SSH_MSG_USERAUTH_REQUEST`.
const LOGIN: u8 = 50;
/// The largest request that is read, in bytes: a login with a host's certificate in it is far smaller.
const LARGEST: usize = 64 << 10;
/// A host that asks for more than this on one connection wants something else than to log in.
const MOST_REQUESTS: usize = 32;
/// How long it may think between two requests.
const IDLE: Duration = Duration::from_secs(120);

/// A server's public key, as this connection has proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey(PublicKey);

impl HostKey {
    pub(super) fn new(key: &KeyData) -> Self {
        Self(PublicKey::new(key.clone(), ""))
    }

    /// Type and key, as a known_hosts file has them behind the name.
    pub fn line(&self) -> String {
        self.0.to_openssh().unwrap_or_default().trim().to_owned()
    }

    /// The names of the signatures that it makes, as `HostKeyAlgorithms` takes them.
    pub fn algorithms(&self) -> String {
        match self.0.algorithm() {
            // Never SHA-1.
            Algorithm::Rsa { .. } => "rsa-sha2-512,rsa-sha2-256".to_owned(),
            other => other.as_str().to_owned(),
        }
    }

    /// Whether a server with this key knows Ed25519: one that is bound to FIPS does not.
    pub fn is_ed25519(&self) -> bool {
        self.0.algorithm() == Algorithm::Ed25519
    }

    fn blob(&self) -> Vec<u8> {
        self.0.to_bytes().unwrap_or_default()
    }
}

/// A key pair that was made for one purpose and lies in this process's memory only.
pub struct OneKey(PrivateKey);

impl std::fmt::Debug for OneKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OneKey({})", self.0.fingerprint(Default::default()))
    }
}

impl OneKey {
    /// A new pair: Ed25519, or of the curve P-256 for a server that may not know it.
    ///
    /// # Errors
    /// [`Kind::Bug`] when none can be made.
    pub fn make(ed25519: bool) -> Result<Self, Failure> {
        let algorithm = if ed25519 { Algorithm::Ed25519 } else { Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 } };
        PrivateKey::random(&mut rand::rng(), algorithm)
            .map(Self)
            .map_err(|error| Failure::new(Kind::Bug, "no key could be made").saw(error.to_string()))
    }

    /// The Ed25519 pair of these secret bytes: for tests, which look for them where they must not be.
    ///
    /// # Errors
    /// [`Kind::Bug`] when it cannot be made.
    #[doc(hidden)]
    pub fn of(secret: &[u8; 32]) -> Result<Self, Failure> {
        PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(secret)), "")
            .map(Self)
            .map_err(|error| Failure::new(Kind::Bug, "no key could be made").saw(error.to_string()))
    }

    /// Type and public half, as authorized_keys has them.
    pub fn line(&self) -> String {
        PublicKey::new(self.0.public_key().key_data().clone(), "").to_openssh().unwrap_or_default().trim().to_owned()
    }

    fn blob(&self) -> Vec<u8> {
        self.0.public_key().to_bytes().unwrap_or_default()
    }
}

/// What a lent agent signs: one login.
#[derive(Debug, Clone)]
pub struct Purpose {
    /// As whom.
    pub user: String,
    /// At which server.
    pub host: HostKey,
    /// The asking `ssh` is one that tells which server it talks to (OpenSSH 8.9 and later): without that nothing is signed.
    /// An older one cannot; then only user and key are held to.
    pub must_bind: bool,
}

/// The agent's side of all that the host asks.
pub(super) struct Agent {
    key: Arc<OneKey>,
    purpose: Purpose,
    /// Logins that it still signs.
    left: AtomicU32,
    /// What it refused, for people.
    refused: Mutex<Option<String>>,
    over: AtomicBool,
}

impl Agent {
    pub(super) fn new(key: Arc<OneKey>, purpose: Purpose) -> Self {
        Self { key, purpose, left: AtomicU32::new(1), refused: Mutex::default(), over: AtomicBool::new(false) }
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    fn refusal(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers on one connection of the host's until it ends.
    pub(super) async fn serve(self: Arc<Self>, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut bound = Vec::new();
        for _ in 0..MOST_REQUESTS {
            let asked = async {
                let mut head = [0; 4];
                stream.read_exact(&mut head).await?;
                let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
                if !(1..=LARGEST).contains(&length) {
                    return Err(std::io::Error::other("a request of an impossible length"));
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await?;
                Ok(body)
            };
            let Ok(Ok(body)) = tokio::time::timeout(IDLE, asked).await else { return };
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let answer = self.answer(&body, &mut bound).unwrap_or_else(|why| {
                tracing::info!(why, "the lent agent refused");
                self.refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why.to_owned());
                vec![FAILURE]
            });
            let length = u32::try_from(answer.len()).unwrap_or(u32::MAX).to_be_bytes();
            let sent = async {
                stream.write_all(&[length.as_slice(), &answer].concat()).await?;
                stream.flush().await
            };
            if !matches!(tokio::time::timeout(IDLE, sent).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// One answer. `bound` holds the sessions that were proved to be with the server that this is for.
    fn answer(&self, body: &[u8], bound: &mut Vec<Vec<u8>>) -> Result<Vec<u8>, &'static str> {
        let (kind, rest) = body.split_first().ok_or("an empty request")?;
        match *kind {
            REQUEST_IDENTITIES if rest.is_empty() => {
                let mut answer = vec![IDENTITIES_ANSWER, 0, 0, 0, 1];
                let encoded = self.key.blob().encode(&mut answer).and_then(|()| "ferry".encode(&mut answer));
                encoded.map(|()| answer).map_err(|_| "the key could not be written")
            }
            SIGN_REQUEST => self.sign(rest, bound),
            EXTENSION => self.bind(rest, bound).map(|()| vec![SUCCESS]),
            _ => Err("a request that is neither a list nor a signature"),
        }
    }

    /// OpenSSH's session-bind: this session is with the server of this key, which signed the session's id.
    fn bind(&self, mut rest: &[u8], bound: &mut Vec<Vec<u8>>) -> Result<(), &'static str> {
        let broken = |_| "an extension that cannot be read";
        if String::decode(&mut rest).map_err(broken)? != "session-bind@openssh.com" {
            return Err("an extension that is not known");
        }
        let host = Vec::<u8>::decode(&mut rest).map_err(broken)?;
        let session = Vec::<u8>::decode(&mut rest).map_err(broken)?;
        let signature = Vec::<u8>::decode(&mut rest).map_err(broken)?;
        let forwarding = u8::decode(&mut rest).map_err(broken)?;
        if !rest.is_empty() || forwarding != 0 || session.is_empty() {
            return Err("a session that would be forwarded further");
        }
        if host != self.purpose.host.blob() {
            return Err("a session with another server than the one that the key is for");
        }
        let signature = Signature::try_from(signature.as_slice()).map_err(|_| "a signature that cannot be read")?;
        let proved = self.purpose.host.0.key_data().verify(&session, &signature);
        proved.map_err(|_| "a session that its server did not sign")?;
        bound.push(session);
        Ok(())
    }

    fn sign(&self, mut rest: &[u8], bound: &[Vec<u8>]) -> Result<Vec<u8>, &'static str> {
        let broken = |_| "a request to sign that cannot be read";
        let blob = Vec::<u8>::decode(&mut rest).map_err(broken)?;
        let data = Vec::<u8>::decode(&mut rest).map_err(broken)?;
        let flags = u32::decode(&mut rest).map_err(broken)?;
        if !rest.is_empty() || flags != 0 || blob != self.key.blob() {
            return Err("a signature by another key");
        }
        self.is_the_login(&data, bound)?;
        let one = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        one.map_err(|_| "a second signature")?;
        let signature = self.key.0.try_sign(&data).map_err(|_| "the signature could not be made")?;
        let mut answer = vec![SIGN_RESPONSE];
        signature.encode_prefixed(&mut answer).map_err(|_| "the signature could not be written")?;
        Ok(answer)
    }

    /// Whether these bytes are the one login that is signed: nothing else that a key can sign begins like it.
    fn is_the_login(&self, mut data: &[u8], bound: &[Vec<u8>]) -> Result<(), &'static str> {
        let broken = |_| "something else than a login";
        let session = Vec::<u8>::decode(&mut data).map_err(broken)?;
        if u8::decode(&mut data).map_err(broken)? != LOGIN {
            return Err("something else than a login");
        }
        let user = Vec::<u8>::decode(&mut data).map_err(broken)?;
        let service = Vec::<u8>::decode(&mut data).map_err(broken)?;
        let method = Vec::<u8>::decode(&mut data).map_err(broken)?;
        let signed = u8::decode(&mut data).map_err(broken)?;
        let algorithm = Vec::<u8>::decode(&mut data).map_err(broken)?;
        let blob = Vec::<u8>::decode(&mut data).map_err(broken)?;
        let by = self.key.0.algorithm();
        if user != self.purpose.user.as_bytes() {
            return Err("a login as another user");
        }
        if service != b"ssh-connection" || signed != 1 || algorithm != by.as_str().as_bytes() || blob != self.key.blob()
        {
            return Err("something else than a login with this key");
        }
        let named = match method.as_slice() {
            b"publickey" => false,
            b"publickey-hostbound-v00@openssh.com" => {
                if Vec::<u8>::decode(&mut data).map_err(broken)? != self.purpose.host.blob() {
                    return Err("a login at another server than the one that the key is for");
                }
                true
            }
            _ => return Err("a login of another kind"),
        };
        if !data.is_empty() {
            return Err("a login with something behind it");
        }
        match bound.contains(&session) {
            true => Ok(()),
            false if self.purpose.must_bind => Err("a login of a session whose server is not proved"),
            false if !bound.is_empty() => Err("a login of another session than the one that was told"),
            false => {
                tracing::debug!(named, "the host's ssh is too old to prove which server it talks to");
                Ok(())
            }
        }
    }
}

/// An agent while it is lent. Dropping it ends it: whoever still has its socket is answered no more.
pub struct Lent {
    pub(super) agent: Arc<Agent>,
    pub(super) slot: Arc<Mutex<Option<Arc<Agent>>>>,
    pub(super) socket: String,
    pub(super) _child: SshChild,
}

impl Lent {
    /// Where the host has the agent's socket: an absolute path there.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// What it was asked and refused, the first of it.
    pub fn refused(&self) -> Option<String> {
        self.agent.refusal()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.agent.end();
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn server() -> PrivateKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
    }

    fn agent(host: &PrivateKey, must_bind: bool) -> Agent {
        let host = HostKey::new(host.public_key().key_data());
        Agent::new(Arc::new(OneKey::make(true).unwrap()), Purpose { user: "ops".to_owned(), host, must_bind })
    }

    fn fields(fields: &[&[u8]]) -> Vec<u8> {
        let mut all = Vec::new();
        for field in fields {
            field.encode(&mut all).unwrap();
        }
        all
    }

    struct Login<'a> {
        session: &'a [u8],
        user: &'a str,
        service: &'a str,
        method: &'a str,
        algorithm: &'a str,
        host: Option<Vec<u8>>,
        tail: &'a [u8],
    }

    const LOGIN_AS_MEANT: Login<'static> = Login {
        session: b"session",
        user: "ops",
        service: "ssh-connection",
        method: "publickey",
        algorithm: "ssh-ed25519",
        host: None,
        tail: b"",
    };

    fn request(agent: &Agent, login: &Login<'_>) -> Vec<u8> {
        let mut data = fields(&[login.session]);
        data.push(LOGIN);
        data.extend(fields(&[login.user.as_bytes(), login.service.as_bytes(), login.method.as_bytes()]));
        data.push(1);
        data.extend(fields(&[login.algorithm.as_bytes(), &agent.key.blob()]));
        if let Some(host) = &login.host {
            data.extend(fields(&[host]));
        }
        data.extend_from_slice(login.tail);
        sign_request(&agent.key.blob(), &data, 0)
    }

    fn sign_request(blob: &[u8], data: &[u8], flags: u32) -> Vec<u8> {
        let mut body = vec![SIGN_REQUEST];
        body.extend(fields(&[blob, data]));
        body.extend_from_slice(&flags.to_be_bytes());
        body
    }

    fn bind(host: &PrivateKey, signer: &PrivateKey, session: &[u8], forwarding: u8) -> Vec<u8> {
        let signature: Signature = signer.try_sign(session).unwrap();
        let signature = Vec::<u8>::try_from(signature).unwrap();
        let mut body = vec![EXTENSION];
        body.extend(fields(&[
            b"session-bind@openssh.com",
            &host.public_key().to_bytes().unwrap(),
            session,
            &signature,
        ]));
        body.push(forwarding);
        body
    }

    #[test]
    fn one_login_is_signed_and_nothing_else() {
        let host = server();
        let other = server();
        let fresh = || {
            let agent = agent(&host, true);
            let mut bound = Vec::new();
            assert_eq!(agent.answer(&bind(&host, &host, b"session", 0), &mut bound).unwrap(), [SUCCESS]);
            (agent, bound)
        };
        let (right, mut bound) = fresh();
        assert_eq!(right.answer(&[REQUEST_IDENTITIES], &mut bound).unwrap()[..5], [IDENTITIES_ANSWER, 0, 0, 0, 1]);
        let signed = right.answer(&request(&right, &LOGIN_AS_MEANT), &mut bound).unwrap();
        assert_eq!(signed[0], SIGN_RESPONSE);
        assert_eq!(right.answer(&request(&right, &LOGIN_AS_MEANT), &mut bound), Err("a second signature"));
        let (right, mut bound) = fresh();
        let host_blob = host.public_key().to_bytes().unwrap();
        let hostbound =
            Login { method: "publickey-hostbound-v00@openssh.com", host: Some(host_blob.clone()), ..LOGIN_AS_MEANT };
        assert_eq!(right.answer(&request(&right, &hostbound), &mut bound).unwrap()[0], SIGN_RESPONSE);

        for (login, why) in [
            (Login { user: "root", ..LOGIN_AS_MEANT }, "another user"),
            (Login { user: "ops\0", ..LOGIN_AS_MEANT }, "another user"),
            (Login { service: "ssh-userauth", ..LOGIN_AS_MEANT }, "something else"),
            (Login { method: "hostbased", ..LOGIN_AS_MEANT }, "another kind"),
            (Login { algorithm: "rsa-sha2-512", ..LOGIN_AS_MEANT }, "something else"),
            (Login { tail: b"x", ..LOGIN_AS_MEANT }, "something behind it"),
            (Login { session: b"another", ..LOGIN_AS_MEANT }, "not proved"),
            (
                Login {
                    method: "publickey-hostbound-v00@openssh.com",
                    host: Some(other.public_key().to_bytes().unwrap()),
                    ..LOGIN_AS_MEANT
                },
                "another server",
            ),
        ] {
            let (agent, mut bound) = fresh();
            let said = agent.answer(&request(&agent, &login), &mut bound).unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
        let (agent, mut bound) = fresh();
        for body in [
            sign_request(&agent.key.blob(), b"SSHSIG and so on", 0),
            sign_request(&agent.key.blob(), b"", 0),
            sign_request(&other.public_key().to_bytes().unwrap(), b"x", 0),
            [request(&agent, &LOGIN_AS_MEANT), vec![0]].concat(),
            // Keys given to it, taken from it, a lock.
            vec![17, 0, 0, 0, 0],
            vec![18],
            vec![19],
            vec![22, 0, 0, 0, 0],
            vec![25],
            vec![EXTENSION, 0, 0, 0, 5, b'q', b'u', b'e', b'r', b'y'],
            bind(&other, &other, b"session", 0),
            bind(&host, &other, b"session", 0),
            bind(&host, &host, b"session", 1),
            bind(&host, &host, b"", 0),
        ] {
            assert!(agent.answer(&body, &mut bound).is_err(), "{body:?}");
        }
        // Still good for what it is for.
        assert!(agent.answer(&request(&agent, &LOGIN_AS_MEANT), &mut bound).is_ok());
    }

    #[test]
    fn an_old_ssh_names_no_server_and_a_new_one_must() {
        let host = server();
        let strict = agent(&host, true);
        assert!(strict.answer(&request(&strict, &LOGIN_AS_MEANT), &mut Vec::new()).is_err());
        let old = agent(&host, false);
        assert!(old.answer(&request(&old, &LOGIN_AS_MEANT), &mut Vec::new()).is_ok());
        // What it tells once, it is held to.
        let told = agent(&host, false);
        let mut bound = vec![b"another".to_vec()];
        assert!(told.answer(&request(&told, &LOGIN_AS_MEANT), &mut bound).is_err());
    }

    #[test]
    fn a_server_without_ed25519_gets_another_curve() {
        let key = OneKey::make(false).unwrap();
        assert!(key.line().starts_with("ecdsa-sha2-nistp256 "));
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    proptest::proptest! {
        #[test]
        fn any_request_is_answered(bytes: Vec<u8>, kind in 0_u8..30) {
            let agent = agent(&server(), false);
            let mut bound = Vec::new();
            let said = agent.answer(&[vec![kind], bytes.clone()].concat(), &mut bound);
            proptest::prop_assert!(said.is_err() || (kind == REQUEST_IDENTITIES && bytes.is_empty()));
        }
    }
}
