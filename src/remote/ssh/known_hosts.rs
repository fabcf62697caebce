//! Is this the host that we meant? known_hosts files, read and judged as OpenSSH does it.
//!
//! What lives here: the lines of known_hosts files, the matching of hosts and keys with the
//! verdicts of OpenSSH's client, the order in which key types are asked for, and the adding of a
//! new host. What does not: asking the operator, and what a verdict leads to (the client decides).
//!
//! Why not `russh::keys::known_hosts`: it accepts revoked keys, knows no wildcards, no
//! certificate authorities and no second line for a host, and takes a file that it cannot read for
//! an empty one. `tests/known_hosts.rs` compares this matcher with the installed `ssh`.
//!
//! Two differences from OpenSSH, both on the careful side: a file that is there but cannot be read
//! is an error, and a key that is revoked for `host` is also revoked for `[host]:port`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};
use rustix::fs::{FlockOperation, flock};
use sha1::Sha1;

use crate::failure::{Failure, Kind};

/// The standard port: a host at this port is recorded without its port.
const STANDARD_PORT: u16 = 22;
/// More than this many bad lines are counted, not shown.
const MOST_WARNINGS: usize = 50;
/// So many other names of a key are told.
const MOST_NAMES: usize = 4;
/// A known_hosts file above this size (bytes) is refused: it is something else.
const LARGEST_FILE: u64 = 64 << 20;
/// The smallest RSA key (bits) that OpenSSH takes.
const SMALLEST_RSA: u32 = 1024;
/// OpenSSH cuts off patterns at this length (bytes), and then the whole list matches nothing.
const LONGEST_PATTERN: usize = 1023;
/// OpenSSH's room for a marker, its terminator included.
const LONGEST_MARKER: usize = 32;
/// Length (bytes) of a salt of a hashed name.
const SALT: usize = 20;
/// How long to wait for another process that writes the same file.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// What a host showed to prove who it is.
// There is one of these a connection: its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum Offered {
    /// A bare public key.
    PublicKey(PublicKey),
    /// A host certificate.
    Certificate(Certificate),
}

impl From<&PublicKeyOrCertificate> for Offered {
    fn from(shown: &PublicKeyOrCertificate) -> Self {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => Self::PublicKey(key.clone()),
            PublicKeyOrCertificate::Certificate(certificate) => Self::Certificate(certificate.clone()),
        }
    }
}

impl Offered {
    /// The key that signed the key exchange.
    fn key(&self) -> &KeyData {
        match self {
            Self::PublicKey(key) => key.key_data(),
            Self::Certificate(certificate) => certificate.public_key(),
        }
    }

    /// Its fingerprint as `ssh-keygen -l` prints it (`SHA256:…`).
    pub fn fingerprint(&self) -> String {
        self.key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// How `/etc/ssh/ssh_host_…_key.pub` there is called by this kind of key.
    pub(super) fn file_word(&self) -> &'static str {
        match self.key().algorithm() {
            Algorithm::Rsa { .. } => "rsa",
            Algorithm::Ecdsa { .. } => "ecdsa",
            Algorithm::Dsa => "dsa",
            _ => "ed25519",
        }
    }
}

/// What the files say about an offered key. Only [`Verdict::Match`] and [`Verdict::CaSigned`] are
/// a yes. [`Verdict::Unknown`] may become one under `accept-new`; the others never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This key is recorded for this host.
    Match {
        /// The file that says so.
        file: PathBuf,
        /// Line in it, from 1.
        line: usize,
    },
    /// Nothing is recorded for this host.
    Unknown,
    /// Keys are recorded, all of other types. OpenSSH calls this "changed" and refuses, also under
    /// `accept-new`: else a false host only had to offer a type that is not recorded.
    OtherType {
        /// What is recorded: algorithm name, file, line from 1.
        known: Vec<(String, PathBuf, usize)>,
    },
    /// Another key of the same type is recorded.
    Changed {
        /// The file with the other key.
        file: PathBuf,
        /// Line in it, from 1: the last one of this type that is recorded for this host.
        line: usize,
        /// Fingerprint of the recorded key, `SHA256:…`.
        known_fingerprint: String,
    },
    /// The key, or the authority that signed the certificate, is marked `@revoked` for this host.
    Revoked {
        /// The file that says so.
        file: PathBuf,
        /// Line in it, from 1.
        line: usize,
    },
    /// A valid certificate of an authority that is recorded for this host.
    CaSigned {
        /// The file with the authority.
        file: PathBuf,
        /// Line in it, from 1.
        line: usize,
        /// The certificate's own name, as the authority wrote it.
        key_id: String,
        /// Fingerprint of the authority, `SHA256:…`.
        authority: String,
    },
    /// What was offered is no valid key or certificate at all; OpenSSH ends the key exchange.
    Unfit {
        /// What is wrong with it.
        why: String,
    },
}

impl Verdict {
    /// True when the host may be talked to.
    pub fn yes(&self) -> bool {
        matches!(self, Self::Match { .. } | Self::CaSigned { .. })
    }
}

/// What a line is marked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Authority,
    Revoked,
}

/// The key of a line. Certificates are no use in known_hosts, but OpenSSH reads them.
#[derive(Debug, Clone)]
enum Recorded {
    Key(KeyData),
    Certificate(Box<Certificate>),
}

impl Recorded {
    fn key(&self) -> &KeyData {
        match self {
            Self::Key(key) => key,
            Self::Certificate(certificate) => certificate.public_key(),
        }
    }
    fn is_plain(&self, key: &KeyData) -> bool {
        matches!(self, Self::Key(own) if own == key)
    }
    fn name(&self) -> String {
        match self {
            Self::Key(key) => key.algorithm().as_str().to_owned(),
            Self::Certificate(certificate) => certificate.algorithm().to_certificate_type(),
        }
    }
}

/// One line that says something.
#[derive(Debug, Clone)]
struct Entry {
    file: usize,
    line: usize,
    marker: Marker,
    hosts: Vec<u8>,
    recorded: Recorded,
}

/// The known_hosts files of a run, read once.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    files: Vec<PathBuf>,
    entries: Vec<Entry>,
    warnings: Vec<Failure>,
}

impl KnownHosts {
    /// Reads `files` in this order. A file that is missing is fine, as it is for OpenSSH. Lines
    /// that mean nothing are skipped, as OpenSSH does, and kept in [`KnownHosts::warnings`].
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when a file is there but cannot be read, is a folder, or is larger
    /// than 64 MiB: an unread file could hold the line that would have said no. All such files are
    /// told at once.
    pub fn load(files: &[PathBuf]) -> Result<Self, Failure> {
        let mut known = Self::default();
        let mut failures = Vec::new();
        for path in files {
            match read(path) {
                Ok(Some(bytes)) => known.add(path, &bytes),
                Ok(None) => {}
                Err(failure) => failures.push(failure),
            }
        }
        match Failure::all(failures) {
            Some(failure) => Err(failure),
            None => Ok(known),
        }
    }

    /// The lines that OpenSSH would skip without a word: file:line:column, snippet, what was
    /// expected. At most 50, then one that counts the rest.
    pub fn warnings(&self) -> &[Failure] {
        &self.warnings
    }

    /// Whether this is the host that was meant. `host` and `port` as the operator named them;
    /// `addr` only where the address is to be checked too (OpenSSH's `CheckHostIP`, off by
    /// default); `now` for the validity of certificates.
    pub fn check(&self, host: &str, port: u16, addr: Option<IpAddr>, offered: &Offered, now: SystemTime) -> Verdict {
        if let Some(why) = unfit(offered) {
            return Verdict::Unfit { why };
        }
        let host = host.to_ascii_lowercase();
        let verdict = self.judge(&host, port, offered, now);
        let (Verdict::Match { .. } | Verdict::Unknown, Some(addr)) = (&verdict, addr) else { return verdict };
        let by_address = self.judge_key(&lookup_name(&addr.to_string(), port), offered.key());
        match by_address {
            Verdict::Changed { .. } | Verdict::OtherType { .. } | Verdict::Revoked { .. } => by_address,
            _ => verdict,
        }
    }

    /// Why a certificate does not count for this host, for a message beside the verdict on its
    /// bare key. `None` when it counts, or when no authority is recorded for this host.
    pub fn certificate_problem(
        &self,
        host: &str,
        port: u16,
        certificate: &Certificate,
        now: SystemTime,
    ) -> Option<String> {
        let host = host.to_ascii_lowercase();
        let mut any = false;
        let lines = self.about(&lookup_name(&host, port)).chain(self.about(&host));
        for entry in lines.filter(|entry| entry.marker == Marker::Authority) {
            any = true;
            if entry.recorded.key() == certificate.signature_key() {
                return certificate_fault(certificate, &host, now);
            }
        }
        any.then(|| {
            let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
            format!("the certificate is signed by {authority}, which is not recorded as an authority for this host")
        })
    }

    /// A sentence about the other names that this key is recorded under, as ssh tells of them with its question: a host that got
    /// a new name or address shows the key that it had. Names are as the files write them, at most four. Empty where
    /// there are none.
    pub fn other_names(&self, host: &str, port: u16, offered: &Offered) -> String {
        let own = lookup_name(&host.to_ascii_lowercase(), port);
        let same: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|entry| entry.marker == Marker::None && entry.recorded.is_plain(offered.key()))
            .filter(|entry| !names_match(&own, &entry.hosts))
            .collect();
        let shown = |entry: &&Entry| {
            let name = match entry.hosts.first() {
                Some(b'|') => "a hashed name".to_owned(),
                _ => crate::secret::clean(entry.hosts.get(..entry.hosts.len().min(80)).unwrap_or_default()),
            };
            format!("{name} ({}:{})", self.file(entry).display(), entry.line)
        };
        let mut names: Vec<String> = same.iter().take(MOST_NAMES).map(shown).collect();
        if names.is_empty() {
            return String::new();
        }
        if same.len() > names.len() {
            names.push(format!("{} more", same.len() - names.len()));
        }
        format!("the same key is recorded for {}", names.join(", "))
    }

    /// Whether any line is about this host: a key, an authority or a revoked key.
    pub fn records(&self, host: &str, port: u16) -> bool {
        [Marker::None, Marker::Authority, Marker::Revoked]
            .into_iter()
            .any(|marker| !self.recorded_algorithms(host, port, marker).is_empty())
    }

    /// Key types to ask the host for, most wanted first: the recorded ones, then the rest. A host
    /// with several keys then shows the one that is recorded. `ssh-rsa` with SHA-1 is never in it.
    pub fn algorithms(&self, host: &str, port: u16) -> Vec<Algorithm> {
        let recorded = self.recorded_algorithms(host, port, Marker::None);
        let (mut first, rest): (Vec<_>, Vec<_>) = all_algorithms()
            .into_iter()
            .partition(|algorithm| recorded.iter().any(|known| family(known) == family(algorithm)));
        first.extend(rest);
        first
    }

    /// Key types for which to ask for a certificate (`Preferred::host_key_certificates`): none
    /// unless an authority is recorded for this host, for a certificate that nobody can judge
    /// would hide the bare key that is recorded.
    pub fn certificate_algorithms(&self, host: &str, port: u16) -> Vec<Algorithm> {
        if self.recorded_algorithms(host, port, Marker::Authority).is_empty() { Vec::new() } else { all_algorithms() }
    }

    /// Records `key` for this host at the end of `file`, under a lock on the file. Under the lock
    /// the file is read again: when the same key was recorded meanwhile, nothing is written; when
    /// another one was, this is refused, so of two that come at once only one can win. The file is
    /// created with mode 0600 (a missing folder with 0700), a missing last line end is mended, and
    /// the line is on the disk when this returns. `hash` hides the name as `HashKnownHosts` does.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the host is known otherwise by now; [`Kind::CouldNotStart`] when the
    /// host's name cannot be recorded, or the file cannot be written or locked within 10 s.
    pub fn accept_new(file: &Path, host: &str, port: u16, key: &PublicKey, hash: bool) -> Result<(), Failure> {
        let host = recordable(host)?;
        let trouble = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(Kind::CouldNotStart, format!("{}: {what}", file.display()))
                .saw(error.to_string())
                .why(format!("the key of {host} cannot be recorded"))
                .mend("make the known_hosts file writable, or record the key with ssh-keyscan by hand")
        };
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| trouble("its folder cannot be made", &error))?;
        }
        let mut handle = open_locked(file, &trouble)?;
        let mut bytes = Vec::new();
        handle.seek(SeekFrom::Start(0)).map_err(|error| trouble("cannot be read", &error))?;
        handle.read_to_end(&mut bytes).map_err(|error| trouble("cannot be read", &error))?;
        let mut known = Self::default();
        known.add(file, &bytes);
        match known.check(&host, port, None, &Offered::PublicKey(key.clone()), SystemTime::now()) {
            Verdict::Match { .. } | Verdict::CaSigned { .. } => return Ok(()),
            Verdict::Unknown => {}
            verdict => {
                return Err(Failure::new(
                    Kind::Refused,
                    format!("the key of {host} is not recorded: {}", told(&verdict)),
                )
                .on(&host)
                .why("a host that is known already is never recorded again with another key")
                .mend(format!("ssh-keygen -R '{}' -f {}", lookup_name(&host, port), file.display())));
            }
        }
        let name = lookup_name(&host, port);
        let name = if hash { hashed(&name, &rand::random::<[u8; SALT]>()) } else { name };
        let plain = PublicKey::new(key.key_data().clone(), "");
        let text = plain.to_openssh().map_err(|error| trouble("the key cannot be written out", &error))?;
        let mend = if bytes.last().is_some_and(|last| *last != b'\n') { "\n" } else { "" };
        let line = format!("{mend}{name} {}\n", text.trim_end());
        // One write to a file opened for appending: no reader ever sees half of it in the middle.
        handle.write_all(line.as_bytes()).map_err(|error| trouble("cannot be written", &error))?;
        handle.sync_all().map_err(|error| trouble("cannot be brought to the disk", &error))
    }

    /// The steps of OpenSSH: certificate first, then the bare key; a port that nobody recorded is
    /// looked up without its port, and then only a yes counts.
    fn judge(&self, host: &str, port: u16, offered: &Offered, now: SystemTime) -> Verdict {
        let name = lookup_name(host, port);
        let without_port = |offered: &Offered| {
            if port == STANDARD_PORT {
                return None;
            }
            let verdict = self.judge(host, STANDARD_PORT, offered, now);
            (verdict.yes() || matches!(verdict, Verdict::Revoked { .. })).then_some(verdict)
        };
        if let Offered::Certificate(certificate) = offered {
            if let Some(entry) = self.revoked(&name, certificate.public_key(), Some(certificate.signature_key())) {
                return Verdict::Revoked { file: self.file(entry), line: entry.line };
            }
            let signer = self
                .about(&name)
                .filter(|entry| entry.marker == Marker::Authority)
                .find(|entry| entry.recorded.key() == certificate.signature_key());
            match signer {
                Some(entry) if certificate_fault(certificate, host, now).is_none() => {
                    return Verdict::CaSigned {
                        file: self.file(entry),
                        line: entry.line,
                        key_id: certificate.key_id().to_owned(),
                        authority: certificate.signature_key().fingerprint(HashAlg::Sha256).to_string(),
                    };
                }
                // A certificate that does not count leaves its bare key to be judged.
                Some(_) => {}
                None => {
                    if let Some(verdict) = without_port(offered) {
                        return verdict;
                    }
                }
            }
        }
        let verdict = self.judge_key(&name, offered.key());
        if verdict != Verdict::Unknown {
            return verdict;
        }
        let bare = Offered::PublicKey(PublicKey::new(offered.key().clone(), ""));
        without_port(&bare).unwrap_or(Verdict::Unknown)
    }

    /// The verdict on a bare key under one name: revoked over all, then any line that has the key.
    fn judge_key(&self, name: &str, key: &KeyData) -> Verdict {
        if let Some(entry) = self.revoked(name, key, None) {
            return Verdict::Revoked { file: self.file(entry), line: entry.line };
        }
        let recorded: Vec<&Entry> = self.about(name).filter(|entry| entry.marker == Marker::None).collect();
        if let Some(entry) = recorded.iter().find(|entry| entry.recorded.is_plain(key)) {
            return Verdict::Match { file: self.file(entry), line: entry.line };
        }
        // OpenSSH names the last line; one of the same type tells the operator more.
        let same_type = |entry: &&&Entry| match &entry.recorded {
            Recorded::Key(own) => own.algorithm() == key.algorithm(),
            Recorded::Certificate(_) => false,
        };
        if let Some(entry) = recorded.iter().rev().find(same_type) {
            return Verdict::Changed {
                file: self.file(entry),
                line: entry.line,
                known_fingerprint: entry.recorded.key().fingerprint(HashAlg::Sha256).to_string(),
            };
        }
        if recorded.is_empty() {
            return Verdict::Unknown;
        }
        Verdict::OtherType {
            known: recorded.iter().map(|entry| (entry.recorded.name(), self.file(entry), entry.line)).collect(),
        }
    }

    fn revoked(&self, name: &str, key: &KeyData, signer: Option<&KeyData>) -> Option<&Entry> {
        self.about(name).filter(|entry| entry.marker == Marker::Revoked).find(|entry| {
            let own = entry.recorded.key();
            own == key || Some(own) == signer
        })
    }

    /// Key types of the lines with this marker for the host at this port and, where there is none
    /// (for authorities: as well), at the standard port.
    fn recorded_algorithms(&self, host: &str, port: u16, marker: Marker) -> Vec<Algorithm> {
        let host = host.to_ascii_lowercase();
        let under = |name: &str| -> Vec<Algorithm> {
            let lines = self.about(name).filter(|entry| entry.marker == marker);
            lines.map(|entry| entry.recorded.key().algorithm()).collect()
        };
        let mut here = under(&lookup_name(&host, port));
        if here.is_empty() || marker == Marker::Authority {
            here.extend(under(&host));
        }
        here
    }

    fn about<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let name = name.to_owned();
        self.entries.iter().filter(move |entry| names_match(&name, &entry.hosts))
    }

    fn file(&self, entry: &Entry) -> PathBuf {
        self.files.get(entry.file).cloned().unwrap_or_default()
    }

    fn add(&mut self, path: &Path, bytes: &[u8]) {
        let file = self.files.len();
        self.files.push(path.to_owned());
        let mut skipped = 0_usize;
        for (line, content) in bytes.split(|byte| *byte == b'\n').enumerate().map(|(at, content)| (at + 1, content)) {
            // OpenSSH handles lines as C strings: what follows a NUL is not there.
            let content = content.split(|byte| *byte == 0).next().unwrap_or_default();
            match parse(content) {
                Ok(None) => {}
                Ok(Some((marker, hosts, recorded))) => {
                    self.entries.push(Entry { file, line, marker, hosts, recorded });
                }
                Err(_) if self.warnings.len() >= MOST_WARNINGS => skipped += 1,
                Err(Bad { at, what, expected }) => {
                    let column = String::from_utf8_lossy(content.get(..at).unwrap_or(content)).chars().count() + 1;
                    let text = String::from_utf8_lossy(content);
                    let snippet = crate::failure::snippet(&text, 1, column);
                    // The snippet is made of this line alone; it gets the line's true number.
                    let snippet = snippet.replacen("1 |", &format!("{line} |"), 1);
                    let snippet = snippet.replacen("\n  |", &format!("\n{} |", " ".repeat(line.to_string().len())), 1);
                    let mut warning = Failure::new(Kind::CouldNotStart, what)
                        .why(format!("OpenSSH skips this line without a word; expected: {expected}"))
                        .mend("correct the line or remove it");
                    warning.place = Some(crate::failure::Place { file: path.display().to_string(), line, column });
                    warning.snippet = Some(snippet);
                    self.warnings.push(warning);
                }
            }
        }
        if skipped > 0 {
            self.warnings.push(
                Failure::new(
                    Kind::CouldNotStart,
                    format!("{}: {skipped} more lines that mean nothing", path.display()),
                )
                .why("is this a known_hosts file?"),
            );
        }
    }
}

/// A verdict in words, for the place where it refuses.
fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Match { file, line } => format!("recorded in {}:{line}", file.display()),
        Verdict::Unknown => "nothing is recorded".to_owned(),
        Verdict::OtherType { known } => {
            let known: Vec<String> =
                known.iter().map(|(name, file, line)| format!("{name} in {}:{line}", file.display())).collect();
            format!("it is known by other key types ({})", known.join(", "))
        }
        Verdict::Changed { file, line, known_fingerprint } => {
            format!("another key, {known_fingerprint}, is recorded in {}:{line}", file.display())
        }
        Verdict::Revoked { file, line } => format!("the key is revoked in {}:{line}", file.display()),
        Verdict::CaSigned { file, line, .. } => format!("its authority is recorded in {}:{line}", file.display()),
        Verdict::Unfit { why } => why.clone(),
    }
}

/// The name under which a host at a port is recorded.
fn lookup_name(host: &str, port: u16) -> String {
    if port == STANDARD_PORT { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// Types in the order in which they are asked for when nothing is recorded.
pub(super) fn all_algorithms() -> Vec<Algorithm> {
    vec![
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
}

/// The key type behind an algorithm: the signature's hash is no part of an RSA key.
fn family(algorithm: &Algorithm) -> Algorithm {
    match algorithm {
        Algorithm::Rsa { .. } => Algorithm::Rsa { hash: None },
        other => other.clone(),
    }
}

/// What OpenSSH refuses in the key exchange, before it looks into any file.
fn unfit(offered: &Offered) -> Option<String> {
    if let Some(bits) = short_rsa(offered.key()) {
        return Some(format!("the host's RSA key has {bits} bits, fewer than {SMALLEST_RSA}"));
    }
    let Offered::Certificate(certificate) = offered else { return None };
    if certificate.verify_signature().is_err() {
        return Some("the signature of the host's certificate is wrong".to_owned());
    }
    None
}

fn short_rsa(key: &KeyData) -> Option<u32> {
    match key {
        KeyData::Rsa(key) => Some(key.key_size()).filter(|bits| *bits < SMALLEST_RSA),
        _ => None,
    }
}

/// Why a certificate of a trusted authority is not valid for this host.
fn certificate_fault(certificate: &Certificate, host: &str, now: SystemTime) -> Option<String> {
    if certificate.verify_signature().is_err() {
        return Some("its signature is wrong".to_owned());
    }
    if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None } | Algorithm::Dsa) {
        return Some(format!("it is signed with {}, which is too weak", certificate.signature().algorithm()));
    }
    if let Some(bits) = short_rsa(certificate.signature_key()) {
        return Some(format!("its authority's RSA key has only {bits} bits"));
    }
    if certificate.cert_type() != CertType::Host {
        return Some("it is a user's certificate, not a host's".to_owned());
    }
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if now < certificate.valid_after() {
        return Some(format!("it is not valid yet: from {}", moment(certificate.valid_after())));
    }
    if now >= certificate.valid_before() {
        return Some(format!("it has expired: valid before {}", moment(certificate.valid_before())));
    }
    let principals = certificate.valid_principals();
    if !principals.is_empty() && !principals.iter().any(|principal| principal == host) {
        return Some(format!("it is for {}, not for {host}", principals.join(", ")));
    }
    if let Some(option) = certificate.critical_options().keys().next() {
        return Some(format!("it has the critical option {option:?}, which host certificates do not have"));
    }
    None
}

/// Seconds since 1970 as a date.
fn moment(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| format!("{seconds} s after 1970"), |at| at.to_string())
}

/// The host as it may stand in a file, in lower case. Whatever could mean more than a name there
/// (a list, a pattern, a marker, a second line) is refused.
fn recordable(host: &str) -> Result<String, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || host.len() > 255 || !host.chars().all(plain) {
        return Err(Failure::new(Kind::CouldNotStart, "this name of a host cannot be recorded in known_hosts")
            .saw(crate::secret::clean(host.as_bytes()))
            .why("expected: up to 255 letters, digits, and . - _ : %")
            .mend("correct ansible_host in the inventory"));
    }
    Ok(host.to_ascii_lowercase())
}

/// `|1|salt|HMAC-SHA1(salt, name)|`, as `HashKnownHosts` writes it.
fn hashed(name: &str, salt: &[u8]) -> String {
    // HMAC takes a key of any length, so the error cannot happen; an empty text matches nothing.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(salt) else { return String::new() };
    mac.update(name.as_bytes());
    format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(mac.finalize().into_bytes()))
}

/// The salt of a hashed name, or `None` when it is none that OpenSSH would take.
fn salt_of(hosts: &[u8]) -> Option<Vec<u8>> {
    let rest = hosts.strip_prefix(b"|1|")?;
    let end = rest.iter().position(|byte| *byte == b'|')?;
    let salt = STANDARD.decode(rest.get(..end)?).ok()?;
    (salt.len() == SALT).then_some(salt)
}

/// Whether the first field of a line speaks of `name` (lower case).
fn names_match(name: &str, hosts: &[u8]) -> bool {
    if hosts.first() == Some(&b'|') {
        return salt_of(hosts).is_some_and(|salt| hashed(name, &salt).as_bytes() == hosts);
    }
    let mut yes = false;
    for pattern in hosts.split(|byte| *byte == b',') {
        let (no, pattern) = match pattern.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        if pattern.len() >= LONGEST_PATTERN {
            return false;
        }
        if glob(name.as_bytes(), &pattern.to_ascii_lowercase()) {
            if no {
                return false;
            }
            yes = true;
        }
    }
    yes
}

/// `*` and `?` as OpenSSH knows them, in time that is at most the product of both lengths.
fn glob(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut by) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(at) {
        match pattern.get(by) {
            Some(b'*') => {
                star = Some((by, at));
                by += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                at += 1;
                by += 1;
            }
            _ => {
                let Some((star_by, star_at)) = star else { return false };
                star = Some((star_by, star_at + 1));
                at = star_at + 1;
                by = star_by + 1;
            }
        }
    }
    pattern.get(by..).is_none_or(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Why a line means nothing. `at`: byte in the line.
struct Bad {
    at: usize,
    what: String,
    expected: &'static str,
}

const LINE_FORM: &str = "[@cert-authority|@revoked] HOSTS KEYTYPE BASE64";

/// One line as OpenSSH reads it: `None` for comments and empty lines.
fn parse(line: &[u8]) -> Result<Option<(Marker, Vec<u8>, Recorded)>, Bad> {
    let mut at = skip_blanks(line, 0);
    let rest = line.get(at..).unwrap_or_default();
    // A lone carriage return is an empty line of a file from Windows.
    if rest.first() == Some(&b'#') || rest.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut marker = Marker::None;
    while line.get(at) == Some(&b'@') {
        let bad = |what: &str| Bad {
            at,
            what: what.to_owned(),
            expected: "one marker, @cert-authority or @revoked, and one blank after it",
        };
        if marker != Marker::None {
            return Err(bad("a second marker"));
        }
        let rest = line.get(at..).unwrap_or_default();
        // A blank anywhere later hides a tab that follows the marker: so does OpenSSH, and a
        // marker that it does not see must not be seen here either.
        let end = rest.iter().position(|byte| *byte == b' ').or_else(|| rest.iter().position(|byte| *byte == b'\t'));
        let Some(end) = end.filter(|end| (2..LONGEST_MARKER).contains(end)) else {
            return Err(bad("a marker that does not end"));
        };
        marker = match rest.get(..end) {
            Some(b"@cert-authority") => Marker::Authority,
            Some(b"@revoked") => Marker::Revoked,
            _ => return Err(bad("an unknown marker, or a tab after the marker")),
        };
        at = skip_blanks(line, at + end);
    }
    let hosts_at = at;
    at = skip_word(line, at);
    let hosts = line.get(hosts_at..at).unwrap_or_default();
    if hosts.first() == Some(&b'|') && salt_of(hosts).is_none() {
        return Err(Bad { at: hosts_at, what: "a hashed name that cannot be read".into(), expected: "|1|SALT|HASH" });
    }
    at = skip_blanks(line, at);
    if matches!(line.get(at), None | Some(b'#')) {
        return Err(Bad { at, what: "the line ends before the key's type".into(), expected: LINE_FORM });
    }
    let recorded = parse_key(line, at)?;
    Ok(Some((marker, hosts.to_vec(), recorded)))
}

/// The two fields `KEYTYPE BASE64` from byte `at` on.
fn parse_key(line: &[u8], at: usize) -> Result<Recorded, Bad> {
    let type_end = skip_word(line, at);
    let type_name = String::from_utf8_lossy(line.get(at..type_end).unwrap_or_default()).into_owned();
    let bad_type = || Bad {
        at,
        what: format!("no key type that OpenSSH knows: {}", crate::secret::clean(type_name.as_bytes())),
        expected: "ssh-ed25519, ecdsa-sha2-nistp256, …, ssh-rsa",
    };
    let is_certificate = type_name.contains("-cert-v01@openssh.com");
    let algorithm = if is_certificate { Algorithm::new_certificate(&type_name) } else { Algorithm::new(&type_name) };
    let algorithm = algorithm.map_err(|_| bad_type())?;
    if matches!(algorithm, Algorithm::Other(_)) {
        return Err(bad_type());
    }
    let at = skip_blanks(line, type_end);
    let end = skip_word(line, at);
    let bad = |what: String| Bad { at, what, expected: "the key in base64, of the type that stands before it" };
    // OpenSSH's decoder passes over white space, so a file with CR LF ends works.
    let text: Vec<u8> = line.get(at..end).unwrap_or_default().iter().copied().filter(|b| !is_space(*b)).collect();
    if text.is_empty() {
        return Err(bad("the line ends before the key".into()));
    }
    let blob = STANDARD.decode(&text).map_err(|error| bad(format!("the key is no base64: {error}")))?;
    let recorded = if is_certificate {
        let certificate =
            Certificate::from_bytes(&blob).map_err(|error| bad(format!("the certificate cannot be read: {error}")))?;
        Recorded::Certificate(Box::new(certificate))
    } else {
        let key = PublicKey::from_bytes(&blob).map_err(|error| bad(format!("the key cannot be read: {error}")))?;
        Recorded::Key(key.key_data().clone())
    };
    if family(&recorded.key().algorithm()) != family(&algorithm) {
        return Err(bad(format!("the key is of type {}, the line says {algorithm}", recorded.key().algorithm())));
    }
    if let Some(bits) = short_rsa(recorded.key()) {
        return Err(bad(format!("an RSA key of {bits} bits, fewer than {SMALLEST_RSA}")));
    }
    Ok(recorded)
}

/// White space of C's `isspace`.
fn is_space(byte: u8) -> bool {
    byte == b' ' || (0x09..=0x0d).contains(&byte)
}

fn skip_blanks(line: &[u8], from: usize) -> usize {
    let rest = line.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(rest.len())
}

fn skip_word(line: &[u8], from: usize) -> usize {
    let rest = line.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(rest.len())
}

/// The bytes of a file; `None` when there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let refuse = |what: String, mend: &str| {
        Failure::new(Kind::CouldNotStart, format!("the known_hosts file {} {what}", path.display()))
            .why("an unread file may hold the line that would have refused a false host")
            .mend(mend)
    };
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(format!("cannot be read: {error}"), "make it readable for this user")),
    };
    if meta.is_dir() {
        return Err(refuse("is a folder".into(), "name the file in it"));
    }
    // /dev/null is the usual way to say "no file".
    if !meta.is_file() && !meta.file_type().is_char_device() {
        return Err(refuse("is neither a file nor /dev/null".into(), "name a plain file"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| refuse(format!("cannot be read: {error}"), "make it readable for this user"))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(refuse(format!("is larger than {} MiB", LARGEST_FILE >> 20), "name another file"));
    }
    Ok(Some(bytes))
}

/// Opens `file` for reading and appending, and holds an exclusive lock on the file that has this
/// name at that moment (`ssh-keygen -R` puts a new file in its place).
fn open_locked(file: &Path, trouble: &dyn Fn(&str, &dyn std::fmt::Display) -> Failure) -> Result<File, Failure> {
    let begun = Instant::now();
    loop {
        let handle = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(file)
            .map_err(|error| trouble("cannot be opened for writing", &error))?;
        match flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let ours = handle.metadata().map_err(|error| trouble("cannot be looked at", &error))?;
                let named = std::fs::metadata(file).ok();
                if !ours.is_file() {
                    return Err(trouble("is no plain file", &"a key can be recorded in a file only"));
                }
                if named.is_some_and(|named| named.ino() == ours.ino() && named.dev() == ours.dev()) {
                    return Ok(handle);
                }
            }
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(trouble("cannot be locked", &error)),
        }
        if begun.elapsed() > LOCK_PATIENCE {
            return Err(trouble("is locked by another process", &"no lock within 10 s").again());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+Wjn4+4Fcvl2JlKpggT+wCRxpSvtqqpVrQrKN1/A22";

    fn known(text: &str) -> KnownHosts {
        let mut known = KnownHosts::default();
        known.add(Path::new("known_hosts"), text.as_bytes());
        known
    }

    fn judge(text: &str, host: &str, port: u16, addr: Option<IpAddr>) -> Verdict {
        let key = PublicKey::from_openssh(KEY).unwrap();
        known(text).check(host, port, addr, &Offered::PublicKey(key), SystemTime::now())
    }

    #[test]
    fn bad_lines_are_skipped_and_told_with_their_place() {
        let text = format!("# c\n\nnode1 ssh-foo AAAA\n  node1 {KEY}\n@odd node1 {KEY}\nnode2 ssh-ed25519 A=B\n");
        let known = known(&text);
        let places: Vec<String> =
            known.warnings().iter().map(|warning| warning.place.as_ref().unwrap().to_string()).collect();
        assert_eq!(places, ["known_hosts:3:7", "known_hosts:5:1", "known_hosts:6:19"]);
        assert_eq!(known.warnings()[0].snippet.as_deref(), Some("3 | node1 ssh-foo AAAA\n  |       ^"));
        assert!(judge(&text, "node1", 22, None).yes());
    }

    #[test]
    fn a_flood_of_bad_lines_is_counted() {
        let known = known(&"x\n".repeat(1000));
        assert_eq!(known.warnings().len(), MOST_WARNINGS + 1);
        assert!(known.warnings().last().unwrap().what.contains("950 more"));
    }

    #[test]
    fn patterns_are_linear_in_the_worst_case() {
        let pattern = format!("{}b", "*a".repeat(200));
        let begun = Instant::now();
        assert!(!glob("a".repeat(1000).as_bytes(), pattern.as_bytes()));
        assert!(begun.elapsed() < Duration::from_secs(2));
        for (text, pattern, yes) in [
            ("", "", true),
            ("", "*", true),
            ("a", "", false),
            ("abc", "a*c", true),
            ("abc", "?b?", true),
            ("ab", "a?c", false),
        ] {
            assert_eq!(glob(text.as_bytes(), pattern.as_bytes()), yes, "{text} {pattern}");
        }
    }

    #[test]
    fn the_address_is_looked_at_only_when_it_is_given() {
        let addr: IpAddr = "10.1.2.3".parse().unwrap();
        let text = format!("node1 {KEY}\n10.1.2.3 {OTHER}\n");
        assert!(judge(&text, "node1", 22, None).yes());
        assert!(matches!(judge(&text, "node1", 22, Some(addr)), Verdict::Changed { line: 2, .. }));
    }

    #[test]
    fn a_key_that_is_known_under_another_name_is_said_so() {
        let key = Offered::PublicKey(PublicKey::from_openssh(KEY).unwrap());
        let hashed = hashed("node7", &[7; SALT]);
        let text = format!(
            "old-name,10.0.0.9 {KEY}\nnode1 {OTHER}\n@revoked gone {KEY}\n{hashed} {KEY}\n[node1]:2222 {KEY}\nb {KEY}\nc {KEY}\n"
        );
        assert_eq!(
            known(&text).other_names("node1", 22, &key),
            "the same key is recorded for old-name,10.0.0.9 (known_hosts:1), a hashed name (known_hosts:4), \
             [node1]:2222 (known_hosts:5), b (known_hosts:6), 1 more"
        );
        // Its own name is none of the others, and another key is not this one.
        assert_eq!(known(&format!("node1 {KEY}\n")).other_names("NODE1", 22, &key), "");
        assert_eq!(known(&format!("node2 {OTHER}\n")).other_names("node1", 22, &key), "");
        let hostile = known(&format!("a\u{1b}[2Jb {KEY}\n")).other_names("node1", 22, &key);
        assert!(!hostile.contains('\u{1b}') && hostile.contains("known_hosts:1"), "{hostile}");
    }

    #[test]
    fn revoked_without_port_counts_at_every_port() {
        let text = format!("@revoked node1 {KEY}\n");
        assert!(matches!(judge(&text, "node1", 2222, None), Verdict::Revoked { line: 1, .. }));
    }

    #[test]
    fn recorded_types_come_first_and_sha1_never() {
        let rsa = Algorithm::Rsa { hash: Some(HashAlg::Sha512) };
        let nistp = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBMxBTpMIGvo7CnordO7wP0QQRqpBwUjOLl4eMhfucfE1sjTYyK5wmTl1UqoSDS1PtRVTBdl+0+9pquFb46U7fwg=";
        let known = known(&format!("node1 {nistp}\n[node2]:2222 {KEY}\n@cert-authority node3 {KEY}\n"));
        assert_eq!(known.algorithms("node1", 22)[0], Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 });
        assert_eq!(known.algorithms("NODE1", 2022)[0], Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 });
        assert_eq!(known.algorithms("node2", 2222)[0], Algorithm::Ed25519);
        for host in ["node1", "node2", "node9"] {
            let all = known.algorithms(host, 22);
            assert_eq!(all.len(), 6);
            assert!(all.contains(&rsa) && !all.contains(&Algorithm::Rsa { hash: None }));
        }
        assert!(known.certificate_algorithms("node1", 22).is_empty());
        assert!(!known.certificate_algorithms("node3", 22).is_empty());
    }

    #[test]
    fn missing_is_fine_and_unreadable_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(KnownHosts::load(&[dir.path().join("none"), "/dev/null".into()]).is_ok());
        let failure = KnownHosts::load(&[dir.path().to_owned(), dir.path().join("x/y")]).unwrap_err();
        assert_eq!(failure.kind, Kind::CouldNotStart);
        assert!(failure.what.contains("is a folder"), "{failure}");
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(KnownHosts::load(&[dir.path().join("file/below")]).is_err());
    }

    #[test]
    fn accept_new_mends_the_end_hashes_and_never_records_twice() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/known_hosts");
        let key = PublicKey::from_openssh(KEY).unwrap();
        let other = PublicKey::from_openssh(&format!("{OTHER} a comment")).unwrap();
        KnownHosts::accept_new(&file, "Node1", 22, &key, false).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("node1 {KEY}\n"));
        std::fs::write(&file, format!("node1 {KEY}")).unwrap();
        KnownHosts::accept_new(&file, "node1", 22, &key, true).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("node1 {KEY}"));
        let refused = KnownHosts::accept_new(&file, "node1", 22, &other, false).unwrap_err();
        assert_eq!(refused.kind, Kind::Refused);
        KnownHosts::accept_new(&file, "node2", 2222, &other, true).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with(&format!("node1 {KEY}\n|1|")) && text.ends_with(&format!(" {OTHER}\n")), "{text}");
        let known = KnownHosts::load(std::slice::from_ref(&file)).unwrap();
        assert!(known.check("node2", 2222, None, &Offered::PublicKey(other), SystemTime::now()).yes());
        for host in ["", "a b", "a,b", "a\nb", "*", "!a", "|1|a|b", "#a", "@revoked", "[a]:22"] {
            assert!(KnownHosts::accept_new(&file, host, 22, &key, false).is_err(), "{host:?}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }

    #[test]
    fn of_many_that_come_at_once_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        let keys = [PublicKey::from_openssh(KEY).unwrap(), PublicKey::from_openssh(OTHER).unwrap()];
        let wins: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|at| {
                    let (file, key) = (&file, &keys[at % 2]);
                    scope.spawn(move || KnownHosts::accept_new(file, "node1", 22, key, at % 3 == 0).is_ok())
                })
                .collect();
            threads.into_iter().filter(|_| true).map(|thread| usize::from(thread.join().unwrap())).sum()
        });
        assert_eq!(wins, 8, "all that hold the key that won, none of the others");
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let mut known = KnownHosts::default();
            known.add(Path::new("k"), &bytes);
        }
    }
}
