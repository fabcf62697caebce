//! Authentication, in the order and by the rules of OpenSSH's client, and what was tried when all fails.
//!
//! What lives here: which keys, certificates and passwords are shown to a server, in which order, and what its
//! answers mean. What does not: the agent's protocol (agent), reading keys (keys) and certificates
//! (certificate), who may be sent a password (password), host keys (known_hosts).
//!
//! The order: explicit certificates; keys and certificates of files that the agent holds; what else the
//! agent holds (unless only the named keys are wanted); keys from files, each followed by the certificate
//! beside it. Then keyboard-interactive, then password. A method that is accepted while the server wants
//! another as well begins it all anew with what the server still asks for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use russh::MethodKind;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse as Reply, Prompt};
use russh::keys::PrivateKey;
use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::HashAlg;
use russh::keys::ssh_key::private::KeypairData;

use super::agent::{self, Agent, Held};
use super::certificate::{Public, accepted};
use super::connect::{Client, Target};
use super::keys;
pub use super::password::LoginPassword;
use super::password::Permit;
use crate::failure::{Failure, Kind};
use crate::secret::{SecretString, clean};

/// Asks for the passphrase of a key file; `None` when there is nobody to ask.
pub type AskPassphrase = Arc<dyn Fn(&Path) -> Option<SecretString> + Send + Sync>;

/// Keys that were read, and those that could not be.
type Ring = HashMap<PathBuf, Result<Arc<PrivateKey>, Failure>>;

/// How long a server may take with our attempts, in all; waiting for other hosts and for the agent does not
/// count. PAM's delay after a wrong password is 2 s, a directory server that does not answer takes up to 15 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many methods a server may ask for one after the other.
const MOST_STAGES: usize = 8;
/// How many rounds of questions one keyboard-interactive login may take.
const MOST_ROUNDS: usize = 16;

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A key or certificate, from a file or the agent.
    PublicKey,
    /// Questions of the server (PAM); only one for the password is answered.
    KeyboardInteractive,
    /// The password itself.
    Password,
}

impl Method {
    /// OpenSSH's order, without what ferry does not have (GSSAPI, host based).
    pub const DEFAULT: [Self; 3] = [Self::PublicKey, Self::KeyboardInteractive, Self::Password];

    /// The methods that are left of `PreferredAuthentications` (a comma list, first is tried first; the default
    /// order where there is none) by `PubkeyAuthentication`, `KbdInteractiveAuthentication` and
    /// `PasswordAuthentication`. Names of methods that ferry does not have are passed over, as ssh does.
    pub fn order(preferred: Option<&str>, public_key: bool, keyboard_interactive: bool, password: bool) -> Vec<Self> {
        let named: Vec<Self> = match preferred {
            None => Self::DEFAULT.to_vec(),
            Some(list) => list
                .split(',')
                .filter_map(|name| Self::DEFAULT.into_iter().find(|it| it.name() == name.trim()))
                .collect(),
        };
        let wanted = |method: &Self| match method {
            Self::PublicKey => public_key,
            Self::KeyboardInteractive => keyboard_interactive,
            Self::Password => password,
        };
        named.into_iter().filter(wanted).collect()
    }

    /// As SSH calls it.
    pub fn name(self) -> &'static str {
        (&self.kind()).into()
    }

    fn kind(self) -> MethodKind {
        match self {
            Self::PublicKey => MethodKind::PublicKey,
            Self::KeyboardInteractive => MethodKind::KeyboardInteractive,
            Self::Password => MethodKind::Password,
        }
    }
}

/// What to log in with. Clones share the keys that were read, so that a passphrase is asked once, and the
/// password, so that a wrong one is sent once.
#[derive(Clone)]
pub struct Identities {
    /// Files that the operator named: one that cannot be used is an error. A private key, or a public one
    /// whose private half the agent holds.
    pub named: Vec<PathBuf>,
    /// Files that are tried when they exist (`~/.ssh/id_ed25519`, …).
    pub usual: Vec<PathBuf>,
    /// `CertificateFile`. With none, the certificate beside each key (`KEY-cert.pub`) is used, as ssh does.
    pub certificates: Vec<PathBuf>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// `IdentitiesOnly`: of the agent's keys, only those that the files name.
    pub identities_only: bool,
    /// What is tried, in order.
    pub methods: Vec<Method>,
    /// `PubkeyAcceptedAlgorithms` as a list of patterns; `None` takes all.
    pub accepted: Option<Vec<String>>,
    /// The password for keyboard-interactive and password logins.
    pub password: Option<Arc<LoginPassword>>,
    /// `BatchMode`: nobody is asked for a passphrase.
    pub batch: bool,
    /// Who to ask for passphrases.
    pub ask: AskPassphrase,
    ring: Arc<Mutex<Ring>>,
}

impl Identities {
    /// These files and this agent; every method in OpenSSH's order, no password, no key read yet.
    pub fn new(named: Vec<PathBuf>, usual: Vec<PathBuf>, agent: Option<PathBuf>, ask: AskPassphrase) -> Self {
        Self {
            named,
            usual,
            certificates: Vec::new(),
            agent,
            identities_only: false,
            methods: Method::DEFAULT.to_vec(),
            accepted: None,
            password: None,
            batch: false,
            ask,
            ring: Arc::default(),
        }
    }

    /// The same ring of read keys, the same asking and all else, with other files.
    #[must_use]
    pub fn with(&self, named: Vec<PathBuf>, usual: Vec<PathBuf>, agent: Option<PathBuf>) -> Self {
        Self { named, usual, agent, ..self.clone() }
    }

    /// Whether these offer what `other` offers.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let same_password = match (&self.password, &other.password) {
            (None, None) => true,
            (Some(this), Some(other)) => Arc::ptr_eq(this, other),
            _ => false,
        };
        same_password
            && self.named == other.named
            && self.usual == other.usual
            && self.certificates == other.certificates
            && self.agent == other.agent
            && self.identities_only == other.identities_only
            && self.methods == other.methods
            && self.accepted == other.accepted
    }

    /// Reads a key once; whoever comes second gets the same answer without a question.
    fn read(&self, path: &Path) -> Result<Arc<PrivateKey>, Failure> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = ring.get(path) {
            return known.clone();
        }
        let read = match keys::load(path, None) {
            Err(failure) if keys::wants_passphrase(&failure) && !self.batch => match (self.ask)(path) {
                Some(passphrase) => keys::load(path, Some(&passphrase)),
                None => Err(failure),
            },
            other => other,
        };
        let read = read.map(Arc::new);
        ring.insert(path.to_owned(), read.clone());
        read
    }

    /// As [`Identities::read`], and nobody is asked.
    fn read_silently(&self, path: &Path) -> Result<Arc<PrivateKey>, Failure> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = ring.get(path) {
            return known.clone();
        }
        let read = keys::load(path, None).map(Arc::new)?;
        ring.insert(path.to_owned(), Ok(Arc::clone(&read)));
        Ok(read)
    }

    /// The public half of a key file, found without a passphrase where that is possible.
    fn public_of(&self, path: &Path) -> Option<Public> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(key)) = ring.get(path) {
            return Some(Public::of(key.public_key()));
        }
        drop(ring);
        Public::from_file(path)
            .or_else(|| Public::from_file(&beside(path, ".pub")))
            .or_else(|| keys::public_half(path).as_ref().map(Public::of))
    }

    /// The named keys that cannot be used, each with its reason. Asks for passphrases, of the usual keys as
    /// well where nothing else may let us in: before a connection is made, for a question in the middle of a run
    /// would be drawn over by the live lines, hold up every other host, and outlast the server's patience.
    pub(super) fn wrong(&self) -> Vec<Failure> {
        if !self.methods.contains(&Method::PublicKey) {
            return Vec::new();
        }
        // An agent that does not answer is told when nothing else lets us in.
        let held = self.agent.as_deref().and_then(|socket| agent::list_now(socket).ok()).unwrap_or_default();
        let holds = |path: &Path| {
            self.public_of(path).is_some_and(|public| held.iter().any(|held| held.public.key() == public.key()))
        };
        let wrong = self.named.iter().filter(|path| !holds(path)).filter_map(|path| self.read(path).err()).collect();
        let by_agent = if self.identities_only { self.usual.iter().any(|path| holds(path)) } else { !held.is_empty() };
        if !by_agent && self.password.is_none() {
            for path in self.usual.iter().filter(|path| path.exists()) {
                // One that cannot be used is told when no other lets us in.
                let _ = self.read(path);
            }
        }
        wrong
    }

    /// Everything that can be offered, in OpenSSH's order.
    fn candidates(&self, held: &[Held]) -> Candidates {
        let mut files: Vec<Candidate> = Vec::new();
        let paths =
            self.named.iter().chain(self.usual.iter().filter(|path| path.exists() || beside(path, ".pub").exists()));
        for path in paths {
            files.push(Candidate {
                name: format!("key {}", path.display()),
                public: self.public_of(path),
                by: By::File(path.clone()),
            });
            let certificate = ["-cert", "-cert.pub"].iter().find_map(|end| Public::from_file(&beside(path, end)));
            if let (true, Some(public @ Public::Certificate(_))) = (self.certificates.is_empty(), certificate) {
                let name = format!("certificate of key {}", path.display());
                files.push(Candidate { name, public: Some(public), by: By::File(path.clone()) });
            }
        }
        let (mut all, mut unread) = (Vec::new(), Vec::new());
        for path in &self.certificates {
            match Public::from_file(path) {
                Some(public @ Public::Certificate(_)) => {
                    // Whoever holds the key under it signs: the agent, else one of the files.
                    let by_agent = held.iter().find(|held| {
                        held.public == public
                            || matches!(&held.public, Public::Key(key) if key.key_data() == public.key())
                    });
                    let by_file = files.iter().find(|it| it.public.as_ref().is_some_and(|it| it.key() == public.key()));
                    let by =
                        by_agent.map(|held| By::Agent(held.blob.clone())).or_else(|| by_file.map(|it| it.by.clone()));
                    all.push(Candidate {
                        name: format!("certificate {}", path.display()),
                        public: Some(public),
                        by: by.unwrap_or(By::Nobody),
                    });
                }
                _ => unread.push(format!("certificate {}: the file holds none that can be read", path.display())),
            }
        }
        let mut others = Vec::new();
        for held in held {
            let by = By::Agent(held.blob.clone());
            match files.iter().position(|it| it.public.as_ref() == Some(&held.public)) {
                Some(at) => {
                    let file = files.remove(at);
                    all.push(Candidate { name: format!("{} by the agent", file.name), by, ..file });
                }
                None if self.identities_only => {}
                None => others.push(Candidate {
                    name: format!("agent key {}", held.comment.chars().take(60).collect::<String>()).trim().to_owned(),
                    public: Some(held.public.clone()),
                    by,
                }),
            }
        }
        // The certificate of a key that the agent holds: the agent signs for it.
        for file in &mut files {
            let Some(public @ Public::Certificate(_)) = &file.public else { continue };
            if let Some(held) =
                held.iter().find(|held| matches!(&held.public, Public::Key(key) if key.key_data() == public.key()))
            {
                file.by = By::Agent(held.blob.clone());
            }
        }
        all.append(&mut others);
        all.append(&mut files);
        Candidates { all, unread }
    }
}

/// `path` with this behind its last name.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Who signs.
#[derive(Debug, Clone)]
enum By {
    /// The agent, with the key that it calls so.
    Agent(Vec<u8>),
    File(PathBuf),
    Nobody,
}

struct Candidate {
    name: String,
    /// `None` while the file has to be opened for it.
    public: Option<Public>,
    by: By,
}

struct Candidates {
    all: Vec<Candidate>,
    /// What was passed over, for the list of what was tried.
    unread: Vec<String>,
}

/// Why there is no signature.
#[derive(Debug)]
enum Unsigned {
    /// The connection is over.
    Gone,
    Said(String),
}

impl From<russh::SendError> for Unsigned {
    fn from(_: russh::SendError) -> Self {
        Self::Gone
    }
}

enum With<'a> {
    File(&'a PrivateKey),
    Agent(&'a mut Agent, &'a [u8]),
}

/// Signs for russh, and notes how long that took: the server is not to blame for it.
struct Hand<'a> {
    with: With<'a>,
    took: Duration,
}

impl russh::Signer for Hand<'_> {
    type Error = Unsigned;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, Unsigned> {
        let begun = Instant::now();
        let said = |error: String| Unsigned::Said(error);
        match &mut self.with {
            With::File(key) => {
                let signature = match key.key_data() {
                    // With SHA-2 by name: the type alone would say SHA-1.
                    KeypairData::Rsa(pair) => (pair, hash).try_sign(&data),
                    _ => key.try_sign(&data),
                };
                let signature = signature.map_err(|error| said(error.to_string()))?;
                signature.encode_prefixed(&mut data).map_err(|error| said(error.to_string()))?;
            }
            With::Agent(agent, blob) => {
                let flags = match hash {
                    Some(HashAlg::Sha256) => 2,
                    Some(_) => 4,
                    None => 0,
                };
                let signed = agent.sign(blob, &data, flags).await;
                let signature = signed.map_err(|error| said(format!("the agent did not sign: {error}")))?;
                signature.encode(&mut data).map_err(|error| said(error.to_string()))?;
            }
        }
        self.took = begun.elapsed();
        Ok(data)
    }
}

/// What became of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    In,
    /// Accepted, and the server wants another method as well.
    Partly,
    No,
}

/// Why passwords were of no use.
enum Denied {
    Wrong,
    RefusedElsewhere(String),
}

/// One login.
struct Login<'a> {
    handle: &'a mut Handle<Client>,
    target: &'a Target,
    /// Why the connection ended, once it has.
    ended: &'a Mutex<Option<String>>,
    tried: Vec<String>,
    /// Blobs that were offered since the last step.
    offered: Vec<Vec<u8>>,
    /// What the server said it takes; `None` before it has said anything.
    offers: Option<Vec<MethodKind>>,
    denied: Option<Denied>,
    /// What is left of the server's time.
    left: Duration,
    /// The hash for RSA that the server takes: the inner `None` is SHA-1 alone.
    rsa: Option<Option<HashAlg>>,
    /// How many attempts the server has judged.
    judged: usize,
    /// What the server took.
    by: Vec<String>,
}

/// Logs in, and says by what: `publickey id_ed25519 (…)`, `password`; several where the server wanted several.
///
/// # Errors
/// [`Kind::Unreachable`] with what was tried and what the server still offers; [`Kind::CouldNotStart`] for a
/// named key that cannot be used.
pub(super) async fn authenticate(
    handle: &mut Handle<Client>,
    target: &Target,
    ended: &Mutex<Option<String>>,
) -> Result<String, Failure> {
    let mut login = Login {
        handle,
        target,
        ended,
        tried: Vec::new(),
        offered: Vec::new(),
        offers: None,
        denied: None,
        left: target.timeout.max(PATIENCE),
        rsa: None,
        judged: 0,
        by: Vec::new(),
    };
    login.run().await.map_err(|failure| failure.on(&target.host).within("authentication"))
}

impl Login<'_> {
    async fn run(&mut self) -> Result<String, Failure> {
        let methods = &self.target.identities.methods;
        'stage: for _ in 0..MOST_STAGES {
            for method in methods {
                if self.offers.as_ref().is_some_and(|offers| !offers.contains(&method.kind())) {
                    continue;
                }
                let step = match method {
                    Method::PublicKey => self.public_keys().await?,
                    Method::KeyboardInteractive => self.keyboard_interactive().await?,
                    Method::Password => self.password().await?,
                };
                match step {
                    Step::In => return Ok(std::mem::take(&mut self.by).join(", then ")),
                    Step::Partly => {
                        self.offered.clear();
                        continue 'stage;
                    }
                    Step::No => {}
                }
            }
            // A server that lets anybody in says so only when asked; others say what they would take.
            if self.offers.is_none() {
                let user = self.target.user.clone();
                let asked = tokio::time::timeout(self.left, self.handle.authenticate_none(user)).await;
                match asked.map_err(|_| self.slow("whether anybody may log in", true))? {
                    Ok(AuthResult::Success) => return Ok("nothing: the server lets anybody in".to_owned()),
                    Ok(AuthResult::Failure { remaining_methods, .. }) => self.offers = Some(remaining_methods.to_vec()),
                    Err(error) => return Err(self.over(&error.to_string()).await),
                }
            }
            return Err(self.failed());
        }
        Err(self.unreachable("the server asks for one method of logging in after the other, without end"))
    }

    async fn public_keys(&mut self) -> Result<Step, Failure> {
        let identities = &self.target.identities;
        let (mut agent, mut held) = (None, Vec::new());
        if let Some(socket) = &identities.agent {
            let listed = match Agent::connect(socket, self.handle.agent_session_binding()).await {
                Ok(mut connected) => connected.list().await.map(|list| (connected, list)),
                Err(error) => Err(error),
            };
            match listed {
                Ok((connected, list)) => (agent, held) = (Some(connected), list),
                Err(error) => self.note(format!("agent {}: {error}", socket.display())),
            }
        }
        let candidates = identities.candidates(&held);
        if agent.is_some() && held.is_empty() {
            self.note("agent: holds no key".to_owned());
        }
        candidates.unread.into_iter().for_each(|line| self.note(line));
        // Before anything is offered: a file that the operator named and that cannot be used is told, not passed over.
        for candidate in &candidates.all {
            if let By::File(path) = &candidate.by
                && identities.named.contains(path)
            {
                identities.read(path)?;
            }
        }
        for candidate in candidates.all {
            match self.offer(candidate, agent.as_mut()).await? {
                Step::No if self.offers.as_ref().is_some_and(|offers| !offers.contains(&MethodKind::PublicKey)) => {
                    break;
                }
                Step::No => {}
                step => return Ok(step),
            }
        }
        Ok(Step::No)
    }

    /// The hash for an RSA key or certificate: the best that both sides take.
    async fn rsa_hash(&mut self, public: &Public) -> Result<HashAlg, String> {
        let best = match self.rsa {
            Some(known) => known,
            None => {
                let told = self.handle.best_supported_rsa_hash().await.map_err(|error| error.to_string())?;
                // A server that says nothing about it is asked for SHA-2 all the same.
                *self.rsa.insert(told.unwrap_or(Some(HashAlg::Sha512)))
            }
        };
        let best = best.ok_or("the server takes RSA keys only with SHA-1, which is not used")?;
        let takes = |hash: &HashAlg| self.takes(&public.offered_as(Some(*hash)));
        let choice = if best == HashAlg::Sha512 { vec![best, HashAlg::Sha256] } else { vec![best] };
        choice.into_iter().find(takes).ok_or_else(|| "PubkeyAcceptedAlgorithms leaves it out".to_owned())
    }

    fn takes(&self, algorithm: &str) -> bool {
        self.target.identities.accepted.as_ref().is_none_or(|patterns| accepted(patterns, algorithm))
    }

    async fn offer(&mut self, candidate: Candidate, agent: Option<&mut Agent>) -> Result<Step, Failure> {
        let (identities, user) = (&self.target.identities, &self.target.user);
        let Candidate { name, public, by } = candidate;
        let file = match &by {
            By::File(path) => match identities.read_silently(path) {
                Ok(key) => Some(key),
                Err(failure) => {
                    // Of a certificate it was said already, at its key.
                    if !matches!(public, Some(Public::Certificate(_))) {
                        self.note(format!("{name}: {}", failure.what));
                    }
                    return Ok(Step::No);
                }
            },
            By::Agent(_) => None,
            By::Nobody => {
                self.note(format!("{name}: its private key is neither in a file that is named nor in the agent"));
                return Ok(Step::No);
            }
        };
        // A .pub file that belongs to another key is not believed.
        let public = match (public, &file) {
            (Some(public @ Public::Certificate(_)), Some(key)) if public.key() != key.public_key().key_data() => {
                self.note(format!("{name}: it is for another key"));
                return Ok(Step::No);
            }
            (None | Some(Public::Key(_)), Some(key)) => Public::of(key.public_key()),
            (Some(public), _) => public,
            (None, None) => return Ok(Step::No),
        };
        let what = format!("{name} ({})", public.short());
        let blob = match &public {
            Public::Key(key) => key.to_bytes(),
            Public::Certificate(certificate) => certificate.to_bytes(),
        };
        let Ok(blob) = blob else { return Ok(Step::No) };
        if self.offered.contains(&blob) {
            return Ok(Step::No);
        }
        let hash = if public.is_rsa() {
            match self.rsa_hash(&public).await {
                Ok(hash) => Some(hash),
                Err(_) if self.handle.is_closed() => return Err(self.over("while a key was offered").await),
                Err(why) => {
                    self.note(format!("{what}: not offered: {why}"));
                    return Ok(Step::No);
                }
            }
        } else {
            None
        };
        if hash.is_none() && !self.takes(&public.offered_as(None)) {
            self.note(format!("{what}: not offered: PubkeyAcceptedAlgorithms leaves it out"));
            return Ok(Step::No);
        }
        self.offered.push(blob);
        let with = match (&by, &file, agent) {
            (By::Agent(blob), _, Some(agent)) => With::Agent(agent, blob),
            (_, Some(key), _) => With::File(key),
            _ => return Ok(Step::No),
        };
        let extra = if matches!(with, With::Agent(..)) { agent::SIGNING } else { Duration::ZERO };
        let mut hand = Hand { with, took: Duration::ZERO };
        let begun = Instant::now();
        let doubt = public.doubt(user, now());
        let result = match public {
            Public::Key(key) => {
                let offering = self.handle.authenticate_publickey_with(user, key, hash, &mut hand);
                tokio::time::timeout(self.left + extra, offering).await
            }
            Public::Certificate(certificate) => {
                let offering = self.handle.authenticate_certificate_with(user, *certificate, hash, &mut hand);
                tokio::time::timeout(self.left + extra, offering).await
            }
        };
        self.left = self.left.saturating_sub(begun.elapsed().saturating_sub(hand.took));
        match result {
            Err(_) => Err(self.slow(&what, true)),
            Ok(Ok(result)) => {
                let what = doubt.map_or_else(|| what.clone(), |doubt| format!("{what}: {doubt}"));
                self.judge(what, result).await
            }
            Ok(Err(Unsigned::Said(error))) if !self.handle.is_closed() => {
                self.note(format!("{what}: the server would take it, but {error}"));
                Ok(Step::No)
            }
            Ok(Err(_)) => Err(self.over(&what).await),
        }
    }

    /// Leave to send the password now, or why there is none.
    async fn permit(&mut self) -> Option<Permit> {
        let password = self.target.identities.password.as_ref()?;
        if self.denied.is_some() {
            return None;
        }
        match password.permit(&self.name()).await {
            Ok(permit) => Some(permit),
            Err(by) => {
                self.not_sent(by);
                None
            }
        }
    }

    fn not_sent(&mut self, by: String) {
        self.note(format!("password: not sent, {by} refused it"));
        self.denied = Some(Denied::RefusedElsewhere(by));
    }

    /// This login, as a password's memory knows it.
    fn name(&self) -> String {
        let Target { user, address, port, .. } = self.target;
        format!("{user}@{address}:{port}")
    }

    async fn password(&mut self) -> Result<Step, Failure> {
        let Some(mut permit) = self.permit().await else { return Ok(Step::No) };
        let begun = Instant::now();
        let asking = self.handle.authenticate_password(&self.target.user, permit.send());
        let result = tokio::time::timeout(self.left, asking).await;
        self.left = self.left.saturating_sub(begun.elapsed());
        let result = match result {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => return Err(self.over(&error.to_string()).await),
            Err(_) => {
                return Err(self
                    .slow("the password", false)
                    .why("some servers ask for a new password in a way that is not understood here")
                    .mend("log in there once by hand: ssh may ask for a new password"));
            }
        };
        match self.judge("password".to_owned(), result).await {
            Ok(Step::No) => {
                permit.refused();
                self.denied = Some(Denied::Wrong);
                Ok(Step::No)
            }
            Ok(step) => {
                permit.taken();
                Ok(step)
            }
            Err(failure) => {
                self.hung_up_on(permit);
                Err(failure)
            }
        }
    }

    /// The connection ended behind the password. A server that says goodbye in words has judged it.
    fn hung_up_on(&self, permit: Permit) {
        let said = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_ref().is_some_and(|why| why.starts_with(GOODBYE) || no_way_left(why)) {
            permit.refused();
        }
    }

    async fn keyboard_interactive(&mut self) -> Result<Step, Failure> {
        // Nothing but the password is answered: with none that may be sent no conversation is begun.
        let Some(password) = &self.target.identities.password else { return Ok(Step::No) };
        let refused = password.refused_for(&self.name());
        if self.denied.is_some() || refused.is_some() {
            refused.into_iter().for_each(|by| self.not_sent(by));
            return Ok(Step::No);
        }
        let starting = self.handle.authenticate_keyboard_interactive_start(&self.target.user, None::<String>);
        let begun = Instant::now();
        let mut reply = tokio::time::timeout(self.left, starting).await;
        self.left = self.left.saturating_sub(begun.elapsed());
        let mut permit: Option<Permit> = None;
        let mut said = String::new();
        for _ in 0..MOST_ROUNDS {
            let (instructions, prompts) = match reply {
                Err(_) => return Err(self.slow("keyboard-interactive", permit.is_none())),
                Ok(Err(_)) => {
                    let failure = self.over("keyboard-interactive").await;
                    permit.into_iter().for_each(|permit| self.hung_up_on(permit));
                    return Err(failure);
                }
                Ok(Ok(Reply::Success)) => {
                    self.by.push("keyboard-interactive".to_owned());
                    permit.into_iter().for_each(Permit::taken);
                    return Ok(Step::In);
                }
                Ok(Ok(Reply::Failure { remaining_methods, partial_success })) => {
                    let asked = if permit.is_some() { "" } else { " (no question was asked)" };
                    let result = AuthResult::Failure { remaining_methods, partial_success };
                    let step = self.judge(format!("keyboard-interactive{asked}"), result).await?;
                    match (step, permit) {
                        (Step::No, Some(permit)) => {
                            permit.refused();
                            self.denied = Some(Denied::Wrong);
                        }
                        (_, permit) => permit.into_iter().for_each(Permit::taken),
                    }
                    return Ok(step);
                }
                Ok(Ok(Reply::InfoRequest { instructions, prompts, .. })) => (instructions, prompts),
            };
            said.push_str(instructions.get(..instructions.len().min(400)).unwrap_or_default());
            let answers = match question(&prompts, &said) {
                Question::Nothing => Vec::new(),
                Question::Password if permit.is_none() => {
                    let Some(mut leave) = self.permit().await else {
                        // The question stays unanswered, and russh can do nothing else on this connection.
                        return Err(self.failed());
                    };
                    let answer = leave.send();
                    permit = Some(leave);
                    vec![answer]
                }
                Question::Password => {
                    permit.into_iter().for_each(Permit::refused);
                    self.note("keyboard-interactive: refused (it asks again)".to_owned());
                    self.denied = Some(Denied::Wrong);
                    return Err(self.failed());
                }
                Question::NewPassword => {
                    // It took the old one before it asked for a new one.
                    permit.into_iter().for_each(Permit::taken);
                    return Err(self
                        .unreachable(format!(
                            "the password of {} has expired: the server wants a new one",
                            self.target.user
                        ))
                        .saw(shown(&prompts, &said))
                        .mend("log in there once by hand and set a new password"));
                }
                Question::Other => {
                    permit.into_iter().for_each(Permit::unknown);
                    return Err(self.unreachable("the server asks for something that ferry does not answer")
                        .saw(format!("{}; tried {}", shown(&prompts, &said), self.tried.join(", ")))
                        .why("only one hidden question for the password is answered; it is not given as a code or to a question that is shown")
                        .mend("log in with a key that needs no such answer; or, where the server takes the plain password: -o PreferredAuthentications=publickey,password"));
                }
            };
            let begun = Instant::now();
            let answering = self.handle.authenticate_keyboard_interactive_respond(answers);
            reply = tokio::time::timeout(self.left, answering).await;
            self.left = self.left.saturating_sub(begun.elapsed());
        }
        permit.into_iter().for_each(Permit::unknown);
        Err(self
            .unreachable("the server asks one question after the other, without end")
            .saw(format!("{MOST_ROUNDS} rounds of keyboard-interactive")))
    }

    fn note(&mut self, line: String) {
        if !self.tried.contains(&line) {
            self.tried.push(line);
        }
    }

    /// What the server's answer means; notes it.
    async fn judge(&mut self, what: String, result: AuthResult) -> Result<Step, Failure> {
        match result {
            AuthResult::Success => {
                self.by.push(what);
                Ok(Step::In)
            }
            // russh says so when the connection is over; a server that takes nothing more is as good as that.
            AuthResult::Failure { remaining_methods, partial_success: false } if remaining_methods.is_empty() => {
                Err(self.over(&what).await)
            }
            AuthResult::Failure { remaining_methods, partial_success } => {
                self.judged += 1;
                self.offers = Some(remaining_methods.to_vec());
                let (word, step) = if partial_success {
                    self.by.push(what.clone());
                    ("accepted, and more is wanted", Step::Partly)
                } else {
                    ("refused", Step::No)
                };
                self.note(format!("{what}: {word}"));
                Ok(step)
            }
        }
    }

    fn unreachable(&self, what: impl Into<String>) -> Failure {
        Failure::new(Kind::Unreachable, what)
    }

    fn slow(&self, what: &str, again: bool) -> Failure {
        let patience = self.target.timeout.max(PATIENCE).as_secs();
        let failure =
            self.unreachable(format!("authentication took more than {patience} s")).saw(format!("no answer to {what}"));
        // A password is not sent anew by itself.
        if again { failure.again() } else { failure }
    }

    /// The connection ended in the middle.
    async fn over(&mut self, during: &str) -> Failure {
        // The word why comes from a task that may still be at it.
        for _ in 0..50 {
            if self.ended.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let why = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if why.as_deref().is_some_and(no_way_left) {
            self.note(format!("{during}: refused"));
            self.offers = Some(Vec::new());
            return self.failed();
        }
        let why = clean(why.as_deref().unwrap_or("it was closed").as_bytes()).chars().take(300).collect::<String>();
        let many = self.judged > 0 || why.to_lowercase().contains("too many");
        self.note(format!("{during}: no answer any more"));
        let failure = self
            .unreachable(if many {
                "the server ended the connection before the login was done"
            } else {
                "the connection ended during authentication"
            })
            .saw(format!("{why}; tried {}", self.tried.join(", ")));
        if many {
            failure.why("a server ends the connection after MaxAuthTries attempts").mend(
                "name the one key that is right, and offer no other: --private-key FILE with -o IdentitiesOnly=yes; or take keys out of the agent (ssh-add -d)",
            )
        } else if self.target.identities.password.is_some() {
            // A password is not sent anew by itself.
            failure
        } else {
            failure.again()
        }
    }

    /// Nothing let us in.
    fn failed(&mut self) -> Failure {
        let identities = &self.target.identities;
        let nothing = self.tried.is_empty();
        if nothing {
            let only_keys = identities.methods.contains(&Method::PublicKey);
            let line = if only_keys {
                "nothing: no key file and no agent"
            } else {
                "nothing: no password, and keys are switched off"
            };
            self.tried.push(line.to_owned());
        }
        let offers = self.offers.clone().unwrap_or_default();
        let listed: Vec<&str> = offers.iter().map(<&str>::from).collect();
        let mut seen = format!(
            "tried {}; the server still offers: {}",
            self.tried.join(", "),
            if listed.is_empty() { "?".to_owned() } else { listed.join(", ") }
        );
        for note in &self.target.notes {
            seen.push_str("; ");
            seen.push_str(note);
        }
        let user = &self.target.user;
        let one = "one password is sent at most, so that no account is locked";
        let by_key = "name the key with --private-key or ansible_private_key_file, or load it into the agent (ssh-add)";
        match &self.denied {
            Some(Denied::Wrong) => self
                .unreachable(format!("the server did not accept the password of {user}"))
                .why(one)
                .mend("check the password and start again"),
            Some(Denied::RefusedElsewhere(by)) => self
                .unreachable(format!(
                    "the server wants a password; the one given was refused for {by} and is not sent again"
                ))
                .why(one)
                .mend("check the password and start again"),
            None => {
                let failure = self.unreachable(format!("the server does not let {user} in"));
                let by_password =
                    offers.iter().any(|kind| matches!(kind, MethodKind::Password | MethodKind::KeyboardInteractive));
                let kerberos = offers.contains(&MethodKind::GssapiWithMic) && offers.len() == 1;
                let token = self.target.notes.iter().any(|note| note.contains("PKCS11Provider"));
                if kerberos {
                    failure.mend("ferry does not speak Kerberos (GSSAPI): use a key or a certificate for this server; where a jump host asks for it, let ssh go through that: ProxyCommand ssh -W %h:%p JUMP_HOST")
                } else if token {
                    failure.mend("ferry does not speak PKCS#11: load the token's keys into the agent (ssh-add -s PROVIDER)")
                } else if by_password && identities.password.is_none() {
                    failure.mend(format!(
                        "{by_key}; or give a password: -k, --connection-password-file FILE or ansible_password"
                    ))
                } else {
                    failure.mend(by_key)
                }
            }
        }
        .saw(seen)
    }
}

/// Whether the connection ended because the server refused us and named no other method: russh hangs up itself then.
fn no_way_left(why: &str) -> bool {
    why == russh::Error::NoAuthMethod.to_string()
}

/// How the reason begins when the server itself ended the connection.
const GOODBYE: &str = "the server ended it";

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a round of keyboard-interactive asks.
#[derive(Debug, PartialEq, Eq)]
enum Question {
    /// It only tells something.
    Nothing,
    /// The password.
    Password,
    /// A new password.
    NewPassword,
    /// Something else: a code, a name, several things at once.
    Other,
}

/// Words of prompts that want no password, although the answer is hidden.
const NO_PASSWORD: &[&str] = &[
    "code",
    "passcode",
    "token",
    "tokencode",
    "otp",
    "totp",
    "time",
    "onetime",
    "pin",
    "verification",
    "challenge",
    "response",
    "factor",
    "yubikey",
    "duo",
    "authenticator",
    "2fa",
    "mfa",
    "answer",
];

fn question(prompts: &[Prompt], said: &str) -> Question {
    let words = |text: &str| -> Vec<String> {
        text.to_lowercase().split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect()
    };
    let asked: Vec<String> = prompts.iter().flat_map(|prompt| words(&prompt.prompt)).collect();
    let any = |list: &[&str]| asked.iter().any(|word| list.contains(&word.as_str()));
    // PAM asks for the old one again before it takes a new one.
    let change = any(&["new", "retype", "reenter", "expired", "current", "old"]);
    let told = words(said);
    let told_change = ["expired", "change"].iter().any(|word| told.iter().any(|told| told == word));
    match prompts {
        [] => Question::Nothing,
        _ if change || told_change && any(&["password"]) => Question::NewPassword,
        [prompt] if !prompt.echo && !any(NO_PASSWORD) => Question::Password,
        _ => Question::Other,
    }
}

/// The host's questions, for the operator.
fn shown(prompts: &[Prompt], said: &str) -> String {
    let asked: Vec<String> = prompts.iter().take(4).map(|prompt| prompt.prompt.chars().take(120).collect()).collect();
    clean(format!("{} {}", said.trim(), asked.join(" | ")).trim().replace('\n', " ").as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn methods_as_ssh_orders_them() {
        use Method::{KeyboardInteractive, Password, PublicKey};
        assert_eq!(Method::order(None, true, true, true), [PublicKey, KeyboardInteractive, Password]);
        assert_eq!(Method::order(None, true, false, true), [PublicKey, Password]);
        assert_eq!(Method::order(Some("gssapi-with-mic,password, publickey"), true, true, true), [Password, PublicKey]);
        assert_eq!(Method::order(Some("hostbased"), true, true, true), []);
        assert_eq!(Method::order(Some("publickey,password"), false, true, false), []);
    }

    #[test]
    fn only_one_hidden_question_for_the_password_is_answered() {
        let ask = |prompts: &[(&str, bool)], said: &str| {
            let prompts: Vec<Prompt> =
                prompts.iter().map(|(text, echo)| Prompt { prompt: (*text).to_owned(), echo: *echo }).collect();
            question(&prompts, said)
        };
        for prompt in [
            "Password: ",
            "(ops@node-1) Password:",
            "ops's password: ",
            "Passwort: ",
            "Mot de passe : ",
            "パスワード: ",
            "Enter ops@spin-code7's Password",
        ] {
            assert_eq!(ask(&[(prompt, false)], ""), Question::Password, "{prompt}");
        }
        for prompt in [
            "Verification code: ",
            "Enter PASSCODE: ",
            "OTP: ",
            "One-time password (OATH) for `ops': ",
            "Duo two-factor login",
            "PIN:",
            "Second Factor: ",
            "Response: ",
        ] {
            assert_eq!(ask(&[(prompt, false)], ""), Question::Other, "{prompt}");
        }
        assert_eq!(ask(&[("Password: ", true)], ""), Question::Other);
        assert_eq!(ask(&[("Password: ", false), ("Code: ", false)], ""), Question::Other);
        assert_eq!(ask(&[], "Welcome"), Question::Nothing);
        for prompt in ["New password: ", "Current password: ", "(current) UNIX password: ", "Retype new password: "] {
            assert_eq!(ask(&[(prompt, false)], ""), Question::NewPassword, "{prompt}");
        }
        assert_eq!(ask(&[("Password: ", false)], "Your password has expired."), Question::NewPassword);
    }
}
