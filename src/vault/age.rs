//! Recipients and identities of `age`: who may open what lies in a catalog, and with what.
//!
//! What lives here: reading recipients as they are written in settings, loading identities, and the two wrappings of a
//! stream. What does not: how an archive is kept in volumes (volume), and what is done when nothing opens it.
//!
//! The format is age's own (age-encryption.org/v1, binary), so that the plain `age` tool reads and writes the same.
//! Memory is constant: 64 KiB of the stream at a time, each piece with its own tag, the last one marked as the last.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use age::{DecryptError, Decryptor, Encryptor};
use age_core::format::{FileKey, Stanza};

use super::MAGIC;
use crate::failure::{Failure, Kind};
use crate::secret::{ExposeSecret as _, Masker, SecretString};
use crate::settings::files::read_text;

/// The word in `recipients` that stands for a passphrase.
pub const PASSPHRASE: &str = "passphrase";
/// What a passphrase is for.
const FOR_ARCHIVES: &str = "the passphrase that archives are encrypted with";
/// scrypt's cost, as a power of two: what the `age` tool takes, about a second.
const WORK: u8 = 18;
/// The greatest cost that is paid to open a file: a changed header must not keep us busy for days.
const MOST_WORK: u8 = 22;

/// Where a passphrase comes from, asked once and only when it is needed. The text says what it is for.
pub type AskPassphrase = Arc<dyn Fn(&str) -> Result<SecretString, Failure> + Send + Sync>;

/// A stream that is being encrypted: `finish` writes its end.
pub type Sealing<W> = age::stream::StreamWriter<W>;
/// A stream that is being decrypted.
pub type Opening<R> = age::stream::StreamReader<R>;

enum Recipient {
    X25519(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
}

impl Recipient {
    fn parse(text: &str) -> Result<Self, String> {
        let word: String = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        if word.starts_with("AGE-SECRET-KEY-") || text.contains("PRIVATE KEY") {
            return Err("this is a private key; its public half is a recipient (age-keygen -y FILE)".to_owned());
        }
        if let Some(rest) = word.strip_prefix("age1") {
            let plugin = rest.split_once('1').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase()));
            let word = word.split(' ').next().unwrap_or_default();
            return word.parse().map(Self::X25519).map_err(|_| {
                if plugin {
                    "recipients of age's plugins are not built; X25519 (age1…), ssh-ed25519 and ssh-rsa are".to_owned()
                } else {
                    "it is mistyped: its checksum does not fit".to_owned()
                }
            });
        }
        if word.starts_with("ssh-") || word.starts_with("ecdsa-") || word.starts_with("sk-") {
            return word.parse().map(Self::Ssh).map_err(|_| {
                "this SSH key is no recipient: ssh-ed25519 and ssh-rsa (2048 bits and more) are".to_owned()
            });
        }
        Err(format!("it is no recipient: age1…, ssh-ed25519 …, ssh-rsa …, {PASSPHRASE}, or a file with such lines"))
    }

    fn as_age(&self) -> &dyn age::Recipient {
        match self {
            Self::X25519(recipient) => recipient,
            Self::Ssh(recipient) => recipient,
        }
    }
}

/// Whether a text looks like a recipient itself, and not like the path of a file with recipients.
pub fn is_recipient(text: &str) -> bool {
    text == PASSPHRASE
        || ["age1", "ssh-", "ecdsa-", "sk-", "AGE-SECRET-KEY-"].iter().any(|begin| text.starts_with(begin))
}

/// What is wrong with a recipient as it is written; `None` when it is one, or the path of a file.
pub fn wrong_recipient(text: &str) -> Option<String> {
    if text == PASSPHRASE || !is_recipient(text) {
        return None;
    }
    Recipient::parse(text).err()
}

/// Those who may open what is written.
pub struct Recipients {
    all: Vec<(String, Recipient)>,
    passphrase: Option<AskPassphrase>,
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Recipients {
    /// Reads recipients: themselves, the word `passphrase`, or files with one a line (paths absolute). `None` where
    /// there are none: nothing is encrypted then.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`]: one is none, with its file and line; a passphrase beside others, which the format does
    /// not know.
    pub fn read(texts: &[String], ask: &AskPassphrase) -> Result<Option<Self>, Failure> {
        let (mut all, mut passphrase, mut errors) = (Vec::new(), None, Vec::new());
        let wrong = |shown: String, what: String| {
            Failure::new(Kind::CouldNotStart, format!("{shown}: {what}"))
                .why("nothing is written to somebody who cannot be told for sure")
        };
        for text in texts {
            if text == PASSPHRASE {
                passphrase = Some(Arc::clone(ask));
            } else if is_recipient(text) {
                match Recipient::parse(text) {
                    Ok(recipient) => all.push((short(text), recipient)),
                    Err(what) => errors.push(wrong(format!("recipient {}", shown(text)), what)),
                }
            } else {
                let file = read_text(Path::new(text)).map_err(|failure| failure.within("recipients"))?;
                let before = all.len();
                for (number, line) in file.lines().enumerate() {
                    let line = line.trim();
                    if line.is_empty() || line.starts_with('#') {
                        continue;
                    }
                    match Recipient::parse(line) {
                        Ok(recipient) => all.push((short(line), recipient)),
                        Err(what) => errors.push(wrong(format!("{text}:{}:1", number + 1), what).saw(shown(line))),
                    }
                }
                if all.len() == before && errors.is_empty() {
                    errors.push(wrong(text.clone(), "there is no recipient in it".to_owned()));
                }
            }
        }
        if passphrase.is_some() && !all.is_empty() {
            errors.push(
                Failure::new(Kind::CouldNotStart, "recipients: a passphrase stands alone, not beside keys")
                    .why("whoever has one key of several could else replace the content and be taken for another")
                    .mend("keep the keys, or the word passphrase"),
            );
        }
        if let Some(failure) = Failure::all(errors) {
            return Err(failure);
        }
        let none = all.is_empty() && passphrase.is_none();
        Ok((!none).then_some(Self { all, passphrase }))
    }

    /// The recipients for people and manifests: public keys without their comments, or `passphrase`.
    pub fn names(&self) -> Vec<String> {
        let keys = self.all.iter().map(|(name, _)| name.clone());
        keys.chain(self.passphrase.iter().map(|_| PASSPHRASE.to_owned())).collect()
    }

    /// Asks for the passphrase, where it is one, while there is time to say that it cannot be had.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn ready(&self) -> Result<(), Failure> {
        self.passphrase.as_ref().map_or(Ok(()), |ask| ask(FOR_ARCHIVES).map(drop))
    }

    /// Begins a file for these recipients: its header is written at once.
    ///
    /// # Errors
    /// The writer's own; a passphrase that is not given.
    pub fn seal<W: Write>(&self, to: W) -> io::Result<Sealing<W>> {
        let encryptor = match &self.passphrase {
            Some(ask) => {
                let secret = ask(FOR_ARCHIVES).map_err(io::Error::other)?;
                let mut recipient = age::scrypt::Recipient::new(secret);
                recipient.set_work_factor(WORK);
                Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            }
            None => Encryptor::with_recipients(self.all.iter().map(|(_, recipient)| recipient.as_age())),
        };
        encryptor.map_err(|error| io::Error::other(error.to_string()))?.wrap_output(to)
    }

    /// Those of the recipients that none of `identities` opens, tried with a few bytes for each. Nothing is asked for: a
    /// locked key of SSH counts by its public half beside it, and a locked file of identities may hold any key of age's.
    pub fn not_opened_by(&self, identities: &Identities) -> Vec<String> {
        let tried = |name: &str, recipient: &Recipient| {
            let opened = || -> Option<()> {
                let one = std::iter::once(recipient.as_age());
                let mut sealed = Vec::new();
                let mut writer = Encryptor::with_recipients(one).ok()?.wrap_output(&mut sealed).ok()?;
                writer.write_all(b"trial").ok()?;
                writer.finish().ok()?;
                let mut back = Vec::new();
                identities.open_quietly(sealed.as_slice()).ok()?.read_to_end(&mut back).ok()?;
                (back == b"trial").then_some(())
            };
            let perhaps = identities.locked && matches!(recipient, Recipient::X25519(_));
            perhaps || identities.public.iter().any(|known| known == name) || opened().is_some()
        };
        self.all.iter().filter(|(name, recipient)| !tried(name, recipient)).map(|(name, _)| name.clone()).collect()
    }
}

/// A recipient without its comment.
fn short(text: &str) -> String {
    let words = if text.starts_with("age1") { 1 } else { 2 };
    text.split_whitespace().take(words).collect::<Vec<_>>().join(" ")
}

/// What may be shown of a line that is no recipient: it may be a secret.
fn shown(text: &str) -> String {
    text.chars().take(12).collect::<String>() + "…"
}

type Key = Box<dyn age::Identity + Send + Sync>;

/// What opens files, loaded.
#[derive(Default)]
pub struct Identities {
    /// Those that open without a question.
    ready: Vec<Key>,
    /// Those that ask for a passphrase first.
    asking: Vec<Key>,
    /// The passphrase for files that were encrypted with one.
    passphrase: Option<AskPassphrase>,
    /// A file of identities is locked: what it holds is not known before it is asked for.
    locked: bool,
    /// Public halves that lie beside locked keys.
    public: Vec<String>,
    /// Where they are from.
    from: Vec<String>,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.from).finish()
    }
}

/// Why a file does not open. Its sentences have no secret in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Locked {
    /// No identity was given at all.
    #[error("it is encrypted, and no identity is named to open it")]
    NoIdentity,
    /// None of those that were given fits.
    #[error("none of the identities opens it ({0})")]
    WrongIdentity(String),
    /// It is no file of age, or was changed.
    #[error("{0}")]
    Damaged(String),
    /// A passphrase could not be had.
    #[error("{0}")]
    NoPassphrase(String),
}

/// The identities in the lines of a file.
fn keys_in(shown: &str, bytes: &[u8]) -> Result<Vec<age::x25519::Identity>, Failure> {
    let wrong = |what: String| Failure::new(Kind::CouldNotStart, what);
    let text = std::str::from_utf8(bytes).map_err(|_| wrong(format!("{shown}: this is no identity")))?;
    let mut keys = Vec::new();
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // What stands there is never shown: it may be a key all the same.
        keys.push(line.parse().map_err(|_| {
            wrong(format!("{shown}:{}:1: this is no identity", number + 1))
                .why("a line of an identity file is AGE-SECRET-KEY-1…, a comment, or empty")
        })?);
    }
    if keys.is_empty() {
        return Err(wrong(format!("{shown}: there is no identity in it")).mend("age-keygen -o FILE makes one"));
    }
    Ok(keys)
}

/// A file of identities that is itself encrypted with a passphrase: opened when one of its keys may be needed.
struct LockedFile {
    bytes: zeroize::Zeroizing<Vec<u8>>,
    once: Once,
    keys: Mutex<Option<Vec<age::x25519::Identity>>>,
}

impl LockedFile {
    fn unlock(&self) -> Option<Vec<age::x25519::Identity>> {
        let mut key = age::scrypt::Identity::new(age::Callbacks::request_passphrase(&self.once, "")?);
        key.set_max_work_factor(MOST_WORK);
        let file = Decryptor::new(self.bytes.as_slice()).ok()?;
        let mut plain = zeroize::Zeroizing::new(Vec::new());
        file.decrypt(std::iter::once(&key as &dyn age::Identity)).ok()?.read_to_end(&mut plain).ok()?;
        keys_in(&self.once.path, &plain).ok()
    }
}

impl age::Identity for LockedFile {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != "X25519" {
            return None;
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.is_none() {
            *keys = self.unlock();
        }
        match keys.as_ref() {
            Some(keys) => keys.iter().find_map(|key| age::Identity::unwrap_stanza(key, stanza)),
            None => Some(Err(DecryptError::KeyDecryptionFailed)),
        }
    }
}

/// A passphrase that is asked for at most once.
#[derive(Clone)]
struct Once {
    ask: AskPassphrase,
    path: String,
    masker: Masker,
    given: Arc<Mutex<Option<SecretString>>>,
}

impl age::Callbacks for Once {
    fn display_message(&self, _: &str) {}
    fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Option<bool> {
        None
    }
    fn request_public_string(&self, _: &str) -> Option<String> {
        None
    }
    fn request_passphrase(&self, _: &str) -> Option<SecretString> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.is_none() {
            let secret = (self.ask)(&format!("the passphrase of {}", self.path)).ok()?;
            self.masker.learn(&secret);
            *given = Some(secret);
        }
        given.clone()
    }
}

impl Identities {
    /// Loads identities from files: age's own (`AGE-SECRET-KEY-…`, one a line; also such a file encrypted with a passphrase)
    /// and private keys of SSH (ed25519, RSA; locked ones ask when they are needed). `passphrase` is what files that were
    /// encrypted with one are opened with, asked for when such a file is met.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`]: a file cannot be read, others may read it, or it holds no identity.
    pub fn load(
        files: &[std::path::PathBuf],
        ask: &AskPassphrase,
        passphrase: Option<AskPassphrase>,
        masker: &Masker,
    ) -> Result<Self, Failure> {
        let mut all = Self { passphrase, ..Self::default() };
        for path in files {
            all.add(path, ask, masker).map_err(|failure| failure.within("identities"))?;
        }
        if all.passphrase.is_some() {
            all.from.push("a passphrase".to_owned());
        }
        Ok(all)
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.asking.is_empty() && self.passphrase.is_none()
    }

    fn add(&mut self, path: &Path, ask: &AskPassphrase, masker: &Masker) -> Result<(), Failure> {
        use std::os::unix::fs::PermissionsExt as _;
        let shown = path.display().to_string();
        let wrong = |what: String| Failure::new(Kind::CouldNotStart, format!("{shown}: {what}"));
        let meta = std::fs::metadata(path)
            .map_err(|error| wrong("the identity cannot be read".to_owned()).saw(error.to_string()))?;
        if meta.is_file() && meta.permissions().mode() & 0o077 != 0 {
            return Err(wrong("others may read this identity".to_owned())
                .saw(format!("mode {:04o}", meta.permissions().mode() & 0o7777))
                .mend(format!("chmod 600 {shown}")));
        }
        if meta.len() > 1 << 20 {
            return Err(wrong("this is larger than any identity".to_owned()));
        }
        let bytes = zeroize::Zeroizing::new(
            std::fs::read(path)
                .map_err(|error| wrong("the identity cannot be read".to_owned()).saw(error.to_string()))?,
        );
        self.from.push(shown.clone());
        if bytes.starts_with(b"age-encryption.org/v1") {
            self.locked = true;
            let once = Once { ask: Arc::clone(ask), path: shown, masker: masker.clone(), given: Arc::default() };
            self.asking.push(Box::new(LockedFile { bytes, once, keys: Mutex::default() }));
            return Ok(());
        }
        if bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE") {
            return Err(wrong("an identity in age's armor is not read".to_owned())
                .mend("write it without -a: age -p -o FILE KEY"));
        }
        if bytes.starts_with(MAGIC.as_bytes()) {
            return Err(wrong("an identity in Ansible Vault is not read".to_owned())
                .mend("protect it with age -p instead, or keep it as a file of mode 600"));
        }
        if bytes.starts_with(b"-----BEGIN") {
            let key = age::ssh::Identity::from_buffer(bytes.as_slice(), Some(shown.clone()))
                .map_err(|_| wrong("this is no private key that age knows (ssh-ed25519, ssh-rsa)".to_owned()))?;
            match key {
                age::ssh::Identity::Unencrypted(_) => self.ready.push(Box::new(key)),
                age::ssh::Identity::Encrypted(_) => {
                    let public = std::fs::read_to_string(
                        path.with_file_name(format!("{}.pub", path.file_name().unwrap_or_default().to_string_lossy())),
                    );
                    self.public.extend(public.iter().flat_map(|text| text.lines()).map(short));
                    let once =
                        Once { ask: Arc::clone(ask), path: shown, masker: masker.clone(), given: Arc::default() };
                    self.asking.push(Box::new(key.with_callbacks(once)));
                }
                age::ssh::Identity::Unsupported(_) => {
                    return Err(wrong("this private key is of a kind that age does not know".to_owned())
                        .why("ssh-ed25519 and ssh-rsa are known; old forms of locked keys are not")
                        .mend(format!("ssh-keygen -p -f {shown} writes it anew; or take another key")));
                }
            }
            return Ok(());
        }
        for key in keys_in(&shown, &bytes)? {
            self.ready.push(Box::new(key));
        }
        Ok(())
    }

    fn open_quietly<R: Read>(&self, from: R) -> Result<Opening<R>, DecryptError> {
        Decryptor::new(from)?.decrypt(self.ready.iter().map(|key| key.as_ref() as &dyn age::Identity))
    }

    /// Opens a file. Its end is proved when it was read to there: a cut or changed stream is an error of the reader.
    ///
    /// # Errors
    /// Why it stays locked.
    pub fn open<R: Read>(&self, from: R) -> Result<Opening<R>, Locked> {
        let file = Decryptor::new(from).map_err(|error| locked(&error, &self.from))?;
        if file.is_scrypt() {
            let Some(ask) = &self.passphrase else {
                return Err(Locked::NoPassphrase("it is encrypted with a passphrase, and none is named".to_owned()));
            };
            let secret = ask(FOR_ARCHIVES).map_err(|failure| Locked::NoPassphrase(failure.to_string()))?;
            let mut key = age::scrypt::Identity::new(secret);
            key.set_max_work_factor(MOST_WORK);
            return file.decrypt(std::iter::once(&key as &dyn age::Identity)).map_err(|error| match error {
                DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed | DecryptError::NoMatchingKeys => {
                    Locked::WrongIdentity("the passphrase is another one".to_owned())
                }
                other => locked(&other, &self.from),
            });
        }
        if self.ready.is_empty() && self.asking.is_empty() {
            return Err(Locked::NoIdentity);
        }
        let keys = self.ready.iter().chain(&self.asking).map(|key| key.as_ref() as &dyn age::Identity);
        file.decrypt(keys).map_err(|error| locked(&error, &self.from))
    }
}

fn locked(error: &DecryptError, from: &[String]) -> Locked {
    match error {
        DecryptError::NoMatchingKeys => Locked::WrongIdentity(from.join(", ")),
        DecryptError::KeyDecryptionFailed => {
            Locked::NoPassphrase("the passphrase of a key does not open it".to_owned())
        }
        DecryptError::InvalidHeader | DecryptError::UnknownFormat => {
            Locked::Damaged("its header is no header of age".to_owned())
        }
        DecryptError::InvalidMac => Locked::Damaged("its header was changed".to_owned()),
        DecryptError::Io(error) => Locked::Damaged(format!("its header cannot be read: {error}")),
        other => Locked::Damaged(format!("it cannot be opened: {other}")),
    }
}

/// A passphrase that was given, for every question.
pub fn given(secret: SecretString) -> AskPassphrase {
    Arc::new(move |_| Ok(SecretString::from(secret.expose_secret().to_owned())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn nobody() -> AskPassphrase {
        Arc::new(|what| Err(Failure::new(Kind::CouldNotStart, format!("{what} is needed"))))
    }

    fn key_file(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn recipients_are_read_and_wrong_ones_refused() {
        let key = age::x25519::Identity::generate();
        let public = key.to_public().to_string();
        let mut typo = public.clone();
        typo.replace_range(20..21, if &public[20..21] == "q" { "p" } else { "q" });
        for (texts, says) in [
            (vec![typo], "checksum"),
            (vec!["age1yubikey1qwerty".to_owned()], "plugins"),
            (vec!["ssh-dss AAAA".to_owned()], "ssh-ed25519"),
            (vec![public.clone(), PASSPHRASE.to_owned()], "stands alone"),
            (vec![key.to_string().expose_secret().to_owned()], "private key"),
        ] {
            let failure = Recipients::read(&texts, &nobody()).unwrap_err();
            let text = format!("{failure:?}");
            assert!(text.contains(says), "{texts:?}: {text}");
            assert!(!text.contains(&key.to_string().expose_secret()[20..]), "a secret is shown");
        }
        assert!(Recipients::read(&[], &nobody()).unwrap().is_none());
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        std::fs::write(&list, format!("# ops\n\n{public}  ops key\nnonsense\n")).unwrap();
        let failure = Recipients::read(&[list.display().to_string()], &nobody()).unwrap_err();
        assert!(failure.to_string().contains("list:4:1"), "{failure}");
        std::fs::write(&list, format!("# ops\n\n{public}\n")).unwrap();
        let read = Recipients::read(&[list.display().to_string()], &nobody()).unwrap().unwrap();
        assert_eq!(read.names(), [public]);
    }

    #[test]
    fn what_is_sealed_opens_for_each_recipient_and_for_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<_> = (0..3).map(|_| age::x25519::Identity::generate()).collect();
        let texts: Vec<String> = keys.iter().take(2).map(|key| key.to_public().to_string()).collect();
        let recipients = Recipients::read(&texts, &nobody()).unwrap().unwrap();
        let content: Vec<u8> = (0..200_000_u32).flat_map(|n| (n % 251).to_le_bytes()).collect();
        let mut writer = recipients.seal(Vec::new()).unwrap();
        writer.write_all(&content).unwrap();
        let sealed = writer.finish().unwrap();
        let load = |key: &age::x25519::Identity| {
            let path = key_file(dir.path(), "k", key.to_string().expose_secret());
            Identities::load(&[path], &nobody(), None, &Masker::new()).unwrap()
        };
        for (number, key) in keys.iter().enumerate() {
            match load(key).open(sealed.as_slice()) {
                Ok(mut opened) => {
                    let mut back = Vec::new();
                    opened.read_to_end(&mut back).unwrap();
                    assert!(back == content && number < 2);
                }
                Err(why) => assert!(number == 2 && matches!(why, Locked::WrongIdentity(_)), "{why:?}"),
            }
        }
        assert_eq!(recipients.not_opened_by(&load(&keys[0])), [texts[1].clone()]);
        assert_eq!(recipients.not_opened_by(&load(&keys[2])).len(), 2);
        assert!(matches!(Identities::default().open(sealed.as_slice()), Err(Locked::NoIdentity)));
        // Cut anywhere, it does not end well.
        for length in [0, 10, 100, 170, 250, 65_700, sealed.len() - 1] {
            let opened = load(&keys[0]).open(&sealed[..length]);
            let ended = opened.map_err(io::Error::other).and_then(|mut opened| opened.read_to_end(&mut Vec::new()));
            assert!(ended.is_err(), "cut at {length}");
        }
    }

    #[test]
    fn identities_that_are_none_are_told_without_showing_them() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let load = |path| Identities::load(&[path], &nobody(), None, &Masker::new()).map(drop);
        for (text, says) in [
            ("", "no identity in it"),
            ("# only a comment\n", "no identity in it"),
            ("AGE-SECRET-KEY-1VERYSECRETVERYSECRET\n", ":1:1: this is no identity"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "no private key"),
            ("-----BEGIN AGE ENCRYPTED FILE-----\n", "armor"),
            ("$ANSIBLE_VAULT;1.1;AES256\n", "Vault"),
        ] {
            let failure = load(key_file(dir.path(), "k", text)).unwrap_err();
            let told = format!("{failure:?}");
            assert!(told.contains(says), "{text:?}: {told}");
            assert!(!told.contains("VERYSECRET"), "{told}");
        }
        let open = key_file(dir.path(), "open", "x");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(open).unwrap_err().to_string().contains("others may read"));
        assert!(load(dir.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
    }
}
