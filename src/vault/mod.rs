//! Ansible Vault: texts and values that are encrypted with a password.
//!
//! What lives here: the format ([`Vault::decrypt`], [`Vault::encrypt`]), passwords and where they come from
//! ([`Vault::open`]), reading files that may be encrypted ([`Vault::read_text`], [`Vault::read_document`]) and opening
//! `!vault` values, and the recipients and identities of encryption at rest, which is another format ([`age`]). What
//! does not: how archives are kept (volume), and the commands of `ferry vault`.
//!
//! A value that was opened is masked in all output from then on. One that no password opens stays encrypted and is
//! an error where it is used.

pub mod age;
mod envelope;
mod secrets;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::failure::{Failure, Kind};
use crate::secret::{Masker, SecretString};
use crate::settings::files::read_text;
use crate::settings::yaml::{Document, Entry, Node, VAULT_KEY, Yaml};
use envelope::Envelope;
pub use envelope::{DEFAULT_ID, MAGIC};
pub use secrets::{Door, Password, Sources, split};

/// The passwords that were given. Clones share what was opened.
#[derive(Debug, Clone, Default)]
pub struct Vault {
    passwords: Vec<Password>,
    masker: Masker,
    warnings: Vec<String>,
    /// What was opened already: deriving a key takes milliseconds, and hosts share values.
    opened: Arc<Mutex<HashMap<String, Option<SecretString>>>>,
}

/// Why a text is not opened. Its sentence has no secret in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locked {
    /// It is no whole vault text: a sentence that follows "it is damaged: ".
    Damaged(String),
    /// No password was given; the vault id of the text.
    NoPassword(String),
    /// Those that were given do not open it; the vault id of the text.
    WrongPassword(String),
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(why) => write!(f, "this is no whole vault text: {why}"),
            Self::NoPassword(id) => write!(f, "no vault password is given (vault id {id})"),
            Self::WrongPassword(id) => {
                write!(f, "none of the vault passwords opens it (vault id {id}), or it was changed")
            }
        }
    }
}

/// What to do about a text that stays locked.
const MEND: &str = "give its password: --vault-password-file FILE, --vault-id ID@FILE, or -J at a terminal";

/// Whether `text` is encrypted.
pub fn is_encrypted(text: &str) -> bool {
    text.starts_with(MAGIC)
}

/// Why the `!vault` value with this ciphertext cannot be used: a sentence for an error where it is used.
pub fn why_locked(ciphertext: &str) -> String {
    match Envelope::read(ciphertext) {
        Ok(envelope) => {
            format!("it is a !vault value of the vault id {}, and no password that was given opens it", envelope.id)
        }
        Err(why) => format!("it is a !vault value, and damaged: {why}"),
    }
}

/// Digests of what was opened: the values themselves need not be kept for this.
static SEALED: Mutex<std::collections::BTreeSet<[u8; 32]>> = Mutex::new(std::collections::BTreeSet::new());

fn digest(text: &str) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(text).into()
}

fn sealed(secret: &SecretString) {
    use crate::secret::ExposeSecret as _;
    if let Ok(mut all) = SEALED.lock() {
        all.insert(digest(secret.expose_secret()));
    }
}

/// Whether this text was the value of a `!vault` value that was opened in this process.
pub fn was_sealed(text: &str) -> bool {
    SEALED.lock().is_ok_and(|all| !all.is_empty() && all.contains(&digest(text)))
}

impl Vault {
    /// No passwords yet. What is opened is taught to `masker`.
    pub fn new(masker: Masker) -> Self {
        Self { masker, ..Self::default() }
    }

    /// One more password, tried after those before it.
    pub fn add(&mut self, password: Password) {
        password.learned_by(&self.masker);
        self.passwords.push(password);
        if let Ok(mut opened) = self.opened.lock() {
            opened.clear();
        }
    }

    /// Whether no password is known.
    pub fn is_empty(&self) -> bool {
        self.passwords.is_empty()
    }

    /// The passwords in the order in which they were given.
    pub fn passwords(&self) -> &[Password] {
        &self.passwords
    }

    /// Passwords that could not be had, where others could.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Opens a vault text: with the passwords of its vault id first, then with all others.
    ///
    /// # Errors
    /// Why it stays locked.
    pub fn decrypt(&self, text: &str) -> Result<Zeroizing<Vec<u8>>, Locked> {
        self.decrypt_with(text).map(|(plain, _)| plain)
    }

    /// As [`Vault::decrypt`], with the password that opened it.
    ///
    /// # Errors
    /// As [`Vault::decrypt`].
    pub fn decrypt_with(&self, text: &str) -> Result<(Zeroizing<Vec<u8>>, &Password), Locked> {
        let envelope = Envelope::read(text).map_err(Locked::Damaged)?;
        if self.passwords.is_empty() {
            return Err(Locked::NoPassword(envelope.id));
        }
        let (first, rest): (Vec<&Password>, Vec<&Password>) =
            self.passwords.iter().partition(|password| password.id == envelope.id);
        let mut all = first.into_iter().chain(rest);
        all.find_map(|password| Some((envelope.open(&password.bytes)?, password)))
            .ok_or(Locked::WrongPassword(envelope.id))
    }

    /// A vault text of `plain` with this password, of the vault id `id`.
    ///
    /// # Errors
    /// [`Kind::Bug`] when the cipher refuses.
    pub fn encrypt(plain: &[u8], password: &Password, id: &str) -> Result<String, Failure> {
        envelope::seal(plain, &password.bytes, id)
            .ok_or_else(|| Failure::new(Kind::Bug, "the text could not be encrypted"))
    }

    /// A vault text of `plain` with the password `secret`, with this salt where one is named: what the filter `vault` gives.
    ///
    /// # Errors
    /// [`Kind::Failed`] when the id cannot be one, [`Kind::Bug`] when the cipher refuses.
    pub fn seal(plain: &str, secret: &str, id: &str, salt: Option<&str>) -> Result<String, Failure> {
        if id.is_empty() || id.contains([';', '\n', '\r']) {
            return Err(Failure::new(Kind::Failed, format!("{id:?} cannot be a vault id")));
        }
        let sealed = match salt {
            Some(salt) => envelope::seal_with(plain.as_bytes(), secret.as_bytes(), id, salt.as_bytes()),
            None => envelope::seal(plain.as_bytes(), secret.as_bytes(), id),
        };
        sealed.ok_or_else(|| Failure::new(Kind::Bug, "the text could not be encrypted"))
    }

    /// What the vault text `text` holds, opened with the password `secret`: what the filter `unvault` gives.
    ///
    /// # Errors
    /// Why it stays locked.
    pub fn unseal(text: &str, secret: &str) -> Result<Zeroizing<Vec<u8>>, Locked> {
        let envelope = Envelope::read(text).map_err(Locked::Damaged)?;
        envelope.open(secret.as_bytes()).ok_or(Locked::WrongPassword(envelope.id))
    }

    /// The text of a `!vault` value, opened once and masked from then on; `None` when it stays locked.
    fn value(&self, ciphertext: &str) -> Option<String> {
        use crate::secret::ExposeSecret as _;
        if self.passwords.is_empty() {
            return None;
        }
        if let Ok(opened) = self.opened.lock()
            && let Some(known) = opened.get(ciphertext)
        {
            return known.as_ref().map(|secret| secret.expose_secret().to_owned());
        }
        let plain = self.decrypt(ciphertext).ok().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        let secret = plain.as_ref().map(|plain| SecretString::from(plain.clone()));
        if let Some(secret) = &secret {
            self.masker.learn(secret);
            sealed(secret);
        }
        if let Ok(mut opened) = self.opened.lock() {
            opened.insert(ciphertext.to_owned(), secret);
        }
        plain
    }

    /// The text of a file that may be encrypted as a whole.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`]: it cannot be read, is locked, or is not UTF-8.
    pub fn read_text(&self, path: &Path) -> Result<String, Failure> {
        let text = read_text(path)?;
        self.plain(&path.display().to_string(), text).map(|(text, _)| text)
    }

    /// `text` of `file` opened where it is encrypted, and whether it was.
    fn plain(&self, file: &str, text: String) -> Result<(String, bool), Failure> {
        if !is_encrypted(&text) {
            return Ok((text, false));
        }
        let wrong = |what: String| Failure::new(Kind::CouldNotStart, what).in_text(file, header(&text), 1, 1);
        match self.decrypt(&text) {
            Ok(plain) => match String::from_utf8(plain.to_vec()) {
                Ok(plain) => Ok((plain, true)),
                Err(_) => Err(wrong("what is encrypted here is not text in UTF-8".to_owned())),
            },
            Err(Locked::Damaged(why)) => Err(wrong(format!("this file is no whole vault file: {why}"))),
            Err(locked) => Err(wrong(format!("this file is encrypted with Ansible Vault: {locked}")).mend(MEND)),
        }
    }

    /// The document of a file that may be encrypted, its `!vault` values opened where a password fits.
    ///
    /// # Errors
    /// As [`Vault::read_text`] and [`Document::read`].
    pub fn read_document(&self, path: &Path) -> Result<Document, Failure> {
        self.document(&path.display().to_string(), read_text(path)?)
    }

    /// As [`Vault::read_document`], its `!vault` values left as they are.
    ///
    /// # Errors
    /// As [`Vault::read_document`].
    pub fn read_locked(&self, path: &Path) -> Result<Document, Failure> {
        let file = path.display().to_string();
        let (text, hidden) = self.plain(&file, read_text(path)?)?;
        if hidden { Document::read_hidden(&file, &text) } else { Document::read(&file, &text) }
    }

    /// `value` with the objects that stand for `!vault` values opened where a password opens them.
    pub fn unlock_value(&self, value: Value) -> Value {
        match value {
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.unlock_value(item)).collect()),
            Value::Object(map) => {
                let locked = if map.len() == 1 { map.get(VAULT_KEY).and_then(Value::as_str) } else { None };
                match locked.map(|ciphertext| self.value(ciphertext)) {
                    Some(Some(plain)) => Value::String(plain),
                    Some(None) => Value::Object(map),
                    None => {
                        Value::Object(map.into_iter().map(|(key, value)| (key, self.unlock_value(value))).collect())
                    }
                }
            }
            other => other,
        }
    }

    /// As [`Vault::read_document`], of a text that is read already.
    ///
    /// # Errors
    /// As [`Vault::read_document`].
    pub fn document(&self, file: &str, text: String) -> Result<Document, Failure> {
        let (text, hidden) = self.plain(file, text)?;
        let mut document = if hidden { Document::read_hidden(file, &text) } else { Document::read(file, &text) }?;
        if hidden {
            self.learn_named(&document.root);
        }
        self.unlock(&mut document);
        Ok(document)
    }

    /// Opens the `!vault` values of `document` that a password opens. What was in them is never a template of
    /// another kind than any value is.
    pub fn unlock(&self, document: &mut Document) {
        if !self.passwords.is_empty() {
            self.unlock_node(&mut document.root);
        }
    }

    fn unlock_node(&self, node: &mut Node) {
        match &mut node.value {
            Yaml::Vault(ciphertext) => {
                if let Some(plain) = self.value(ciphertext) {
                    node.value = Yaml::Text(plain);
                }
            }
            Yaml::List(items) => items.iter_mut().for_each(|item| self.unlock_node(item)),
            Yaml::Map(entries) => entries.iter_mut().for_each(|entry| self.unlock_node(&mut entry.value)),
            _ => {}
        }
    }

    /// In a file that is encrypted as a whole the values of names that say so are secrets. Not all are: `true` or a
    /// path masked everywhere would hide what the operator needs to see.
    fn learn_named(&self, node: &Node) {
        match &node.value {
            Yaml::List(items) => items.iter().for_each(|item| self.learn_named(item)),
            Yaml::Map(entries) => entries.iter().for_each(|Entry { key, value }| match (&key.value, &value.value) {
                (Yaml::Text(name), Yaml::Text(text) | Yaml::Unsafe(text)) if names_secret(name) => {
                    self.masker.learn(&SecretString::from(text.clone()));
                }
                _ => self.learn_named(value),
            }),
            _ => {}
        }
    }
}

/// Whether a variable of this name is a secret by its name.
fn names_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["pass", "secret", "token", "credential", "private_key", "api_key", "apikey"].iter().any(|word| name.contains(word))
        && !name.ends_with("_file")
        && !name.ends_with("_path")
}

fn header(text: &str) -> &str {
    text.lines().next().unwrap_or("")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn vault(passwords: &[(&str, &str)]) -> Vault {
        let mut vault = Vault::new(Masker::new());
        for (id, password) in passwords {
            vault.add(Password::new(id, &SecretString::from((*password).to_owned())));
        }
        vault
    }

    fn sealed(plain: &str, id: &str, password: &str) -> String {
        Vault::encrypt(plain.as_bytes(), &Password::new(id, &SecretString::from(password.to_owned())), id).unwrap()
    }

    #[test]
    fn every_password_is_tried() {
        let text = sealed("s3cret", "dev", "right");
        let opened = vault(&[("default", "wrong"), ("prod", "right")]).decrypt(&text).unwrap();
        assert_eq!(opened.as_slice(), b"s3cret");
        assert_eq!(vault(&[]).decrypt(&text).unwrap_err(), Locked::NoPassword("dev".to_owned()));
        assert_eq!(vault(&[("dev", "x")]).decrypt(&text).unwrap_err(), Locked::WrongPassword("dev".to_owned()));
    }

    #[test]
    fn values_are_opened_and_masked_and_others_stay_locked() {
        let indented = |text: &str| text.lines().map(|line| format!("  {line}\n")).collect::<String>();
        let text = format!(
            "a: !vault |\n{}b: !vault |\n{}c: 1\n",
            indented(&sealed("s3cret", "dev", "right")),
            indented(&sealed("other", "prod", "unknown"))
        );
        let vault = vault(&[("dev", "right")]);
        let document = vault.document("v.yml", text).unwrap();
        let value = document.root.to_json();
        assert_eq!(value.get("a").unwrap(), "s3cret");
        let locked = value.get("b").unwrap().get(crate::settings::yaml::VAULT_KEY).unwrap().as_str().unwrap();
        assert!(why_locked(locked).contains("vault id prod"), "{}", why_locked(locked));
        assert_eq!(vault.masker.mask("x s3cret right"), "x ******** ********");
    }

    #[test]
    fn a_whole_file_is_opened_and_its_text_is_never_shown() {
        let vault = vault(&[("default", "right")]);
        let document =
            vault.document("v.yml", sealed("db_password: hunter22\nx: plainly\n", "default", "right")).unwrap();
        assert_eq!(document.root.to_json().get("x").unwrap(), "plainly");
        assert_eq!(vault.masker.mask("hunter22 plainly"), "******** plainly");
        let failure = vault.document("v.yml", sealed("a: hunter22\n\tb", "default", "right")).unwrap_err();
        assert!(!format!("{failure:?}").contains("hunter22"), "{failure:?}");
        let failure = document.failure(document.root.spot, "x");
        assert!(failure.snippet.is_none() && failure.place.is_some());
        let failure = vault.document("v.yml", sealed("a: 1\n", "prod", "other")).unwrap_err();
        assert!(failure.what.contains("vault id prod") && failure.mend.is_some(), "{failure:?}");
    }
}
