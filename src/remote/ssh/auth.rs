//! Authentication: keys from files, then the agent's, each once, and what was tried when all fail.
//!
//! Passwords and keyboard-interactive are not here yet.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::{Algorithm, HashAlg, PublicKey};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg};

use super::connect::{Client, Target};
use super::keys;
use crate::failure::{Failure, Kind};
use crate::secret::SecretString;

/// Asks for the passphrase of a key file; `None` when there is nobody to ask.
pub type AskPassphrase = Arc<dyn Fn(&Path) -> Option<SecretString> + Send + Sync>;

/// Keys that were read, and those that could not be.
type Ring = HashMap<PathBuf, Result<Arc<PrivateKey>, Failure>>;

/// Which keys to offer. Clones share the keys that were read, so that a passphrase is asked once.
#[derive(Clone)]
pub struct Identities {
    /// Files that the operator named: one that cannot be read is an error.
    pub named: Vec<PathBuf>,
    /// Files that are tried when they exist (`~/.ssh/id_ed25519`, …).
    pub usual: Vec<PathBuf>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// Who to ask for passphrases.
    pub ask: AskPassphrase,
    ring: Arc<Mutex<Ring>>,
}

impl Identities {
    /// No key read yet.
    pub fn new(named: Vec<PathBuf>, usual: Vec<PathBuf>, agent: Option<PathBuf>, ask: AskPassphrase) -> Self {
        Self { named, usual, agent, ask, ring: Arc::default() }
    }

    /// The same ring of read keys and the same asking, with other files.
    #[must_use]
    pub fn with(&self, named: Vec<PathBuf>, usual: Vec<PathBuf>, agent: Option<PathBuf>) -> Self {
        Self { named, usual, agent, ask: Arc::clone(&self.ask), ring: Arc::clone(&self.ring) }
    }

    /// Whether these offer what `other` offers.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.named == other.named && self.usual == other.usual && self.agent == other.agent
    }

    /// Reads a key once; whoever comes second gets the same answer without a question.
    pub(super) fn read(&self, path: &Path) -> Result<Arc<PrivateKey>, Failure> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = ring.get(path) {
            return known.clone();
        }
        let read = match keys::load(path, None) {
            Err(failure) if keys::wants_passphrase(&failure) => match (self.ask)(path) {
                Some(passphrase) => keys::load(path, Some(&passphrase)),
                None => Err(failure),
            },
            other => other,
        };
        let read = read.map(Arc::new);
        ring.insert(path.to_owned(), read.clone());
        read
    }

    /// Reads the usual keys, with questions, where nothing else may let us in. For the time before a
    /// connection is made: a question in the middle of a run would be drawn over by the live lines,
    /// hold up every other host, and outlast the server's patience. An agent that holds a key stands for them.
    pub(super) fn read_usual(&self) {
        if self.agent.as_deref().is_none_or(|socket| !holds_keys(socket)) {
            for path in self.usual.iter().filter(|path| path.exists()) {
                // One that cannot be used is told when no other lets us in.
                let _ = self.read(path);
            }
        }
    }

    /// As [`Identities::read`], and nobody is asked.
    fn read_silently(&self, path: &Path) -> Result<Arc<PrivateKey>, Failure> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.get(path).cloned().unwrap_or_else(|| keys::load(path, None).map(Arc::new))
    }
}

/// Whether the agent behind this socket holds a key. One that does not answer at once holds none.
fn holds_keys(socket: &Path) -> bool {
    use std::io::{Read as _, Write as _};
    const REQUEST_IDENTITIES: [u8; 5] = [0, 0, 0, 1, 11];
    const IDENTITIES_ANSWER: u8 = 12;
    let asked = || {
        let mut agent = std::os::unix::net::UnixStream::connect(socket)?;
        agent.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
        agent.write_all(&REQUEST_IDENTITIES)?;
        // Length, kind of the answer, number of keys.
        let mut head = [0; 9];
        agent.read_exact(&mut head)?;
        Ok::<_, std::io::Error>(head[4] == IDENTITIES_ANSWER && head[5..] != [0; 4])
    };
    asked().unwrap_or(false)
}

/// What one attempt was, for the failure that lists them all.
struct Tried(Vec<String>);

impl Tried {
    fn note(&mut self, what: String, result: &AuthResult) -> bool {
        let word = match result {
            AuthResult::Success => return true,
            AuthResult::Failure { partial_success: true, .. } => "accepted, but the server wants more than a key",
            AuthResult::Failure { .. } => "refused",
        };
        self.0.push(format!("{what}: {word}"));
        false
    }
}

fn short(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256))
}

pub(super) async fn authenticate(handle: &mut Handle<Client>, target: &Target) -> Result<(), Failure> {
    let patience = target.timeout.max(std::time::Duration::from_secs(20));
    match tokio::time::timeout(patience, try_all(handle, target)).await {
        Ok(result) => result,
        Err(_) => {
            Err(Failure::new(Kind::Unreachable, format!("authentication took more than {} s", patience.as_secs()))
                .on(&target.host)
                .within("authentication")
                .again())
        }
    }
}

async fn try_all(handle: &mut Handle<Client>, target: &Target) -> Result<(), Failure> {
    let identities = &target.identities;
    let mut tried = Tried(Vec::new());
    let mut offered: Vec<PublicKey> = Vec::new();
    let mut remaining = String::new();
    let broke = |error: String| {
        Failure::new(Kind::Unreachable, "the connection ended during authentication")
            .on(&target.host)
            .saw(error)
            .why("a server ends the connection after MaxAuthTries keys")
            .within("authentication")
    };

    for path in &identities.named {
        // A file the operator named and that cannot be used is told, not passed over.
        let key = identities.read(path).map_err(|failure| failure.on(&target.host).within("authentication"))?;
        if offer(handle, target, &key, &format!("key {}", path.display()), &mut tried, &mut remaining)
            .await
            .map_err(broke)?
        {
            return Ok(());
        }
        offered.push(key.public_key().clone());
    }
    if let Some(socket) = &identities.agent {
        match AgentClient::connect_uds(socket).await {
            Ok(mut agent) => {
                let keys = agent.request_identities().await.unwrap_or_default();
                if keys.is_empty() {
                    tried.0.push("agent: holds no key".to_owned());
                }
                for identity in keys {
                    let AgentIdentity::PublicKey { key, .. } = identity else {
                        tried.0.push("agent: a certificate (not built yet)".to_owned());
                        continue;
                    };
                    if offered.iter().any(|known| known.key_data() == key.key_data()) {
                        continue;
                    }
                    let hash = rsa_hash(handle, &key.algorithm()).await.map_err(broke)?;
                    let what = format!("agent {}", short(&key));
                    match handle.authenticate_publickey_with(&target.user, key.clone(), hash, &mut agent).await {
                        Ok(result) => {
                            remember(&result, &mut remaining);
                            if tried.note(what, &result) {
                                return Ok(());
                            }
                        }
                        Err(_) if handle.is_closed() => {
                            return Err(broke("while the agent's keys were offered".to_owned()));
                        }
                        Err(error) => tried.0.push(format!("{what}: the agent did not sign ({error})")),
                    }
                    offered.push(key);
                }
            }
            Err(error) => tried.0.push(format!("agent {}: {error}", socket.display())),
        }
    }
    for path in identities.usual.iter().filter(|path| path.exists()) {
        match identities.read_silently(path) {
            Ok(key) if offered.iter().any(|known| known.key_data() == key.public_key().key_data()) => {}
            Ok(key) => {
                if offer(handle, target, &key, &format!("key {}", path.display()), &mut tried, &mut remaining)
                    .await
                    .map_err(broke)?
                {
                    return Ok(());
                }
            }
            Err(failure) => tried.0.push(format!("key {}: {}", path.display(), failure.what)),
        }
    }
    if tried.0.is_empty() {
        tried.0.push("nothing: no key file and no agent".to_owned());
    }
    Err(Failure::new(Kind::Unreachable, format!("the server does not let {} in", target.user))
        .on(&target.host)
        .saw(format!(
            "tried {}; the server still offers: {}",
            tried.0.join(", "),
            if remaining.is_empty() { "?" } else { &remaining }
        ))
        .mend("name the key with --private-key or ansible_private_key_file, or load it into the agent (ssh-add)")
        .within("authentication"))
}

fn remember(result: &AuthResult, remaining: &mut String) {
    if let AuthResult::Failure { remaining_methods, .. } = result {
        *remaining = remaining_methods.iter().map(<&str>::from).collect::<Vec<_>>().join(", ");
    }
}

async fn rsa_hash(handle: &Handle<Client>, algorithm: &Algorithm) -> Result<Option<HashAlg>, String> {
    if !matches!(algorithm, Algorithm::Rsa { .. }) {
        return Ok(None);
    }
    let best = handle.best_supported_rsa_hash().await.map_err(|error| error.to_string())?;
    // A server that says nothing about it is asked for SHA-2 all the same: SHA-1 is never offered.
    Ok(Some(best.flatten().unwrap_or(HashAlg::Sha512)))
}

async fn offer(
    handle: &mut Handle<Client>,
    target: &Target,
    key: &Arc<PrivateKey>,
    what: &str,
    tried: &mut Tried,
    remaining: &mut String,
) -> Result<bool, String> {
    let hash = rsa_hash(handle, &key.algorithm()).await?;
    let result = handle
        .authenticate_publickey(&target.user, PrivateKeyWithHashAlg::new(Arc::clone(key), hash))
        .await
        .map_err(|error| error.to_string())?;
    remember(&result, remaining);
    Ok(tried.note(format!("{what} ({})", short(key.public_key())), &result))
}
