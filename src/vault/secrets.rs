//! Where vault passwords come from.
//!
//! What lives here: `label@source`, password files, password programs, questions. What does not: what the
//! passwords open.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::Vault;
use super::envelope::{DEFAULT_ID, MAGIC};
use crate::failure::{Failure, Kind};
use crate::secret::{ExposeSecret as _, Masker, SecretString, clean};

/// A password file is longer than this only by mistake.
const LONGEST: u64 = 1024 * 1024;
/// The exit code by which a `-client` program says that it does not know the vault id.
const UNKNOWN_ID: i32 = 2;

/// One password and the vault id that it was given for.
#[derive(Clone)]
pub struct Password {
    /// The vault id.
    pub id: String,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Password({})", self.id)
    }
}

impl Password {
    /// A password for `id`.
    pub fn new(id: &str, secret: &SecretString) -> Self {
        Self { id: id.to_owned(), bytes: Zeroizing::new(secret.expose_secret().as_bytes().to_vec()) }
    }

    /// Makes `masker` hide it.
    pub(super) fn learned_by(&self, masker: &Masker) {
        if let Ok(text) = std::str::from_utf8(&self.bytes) {
            masker.learn(&SecretString::from(text.to_owned()));
        }
    }
}

/// What was said about passwords, in the order in which they are tried.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `label@source` or a source alone: a path, or `prompt`.
    pub ids: Vec<String>,
    /// Whether the default password is asked for.
    pub ask: bool,
}

/// What loading passwords needs of the roof.
pub struct Door<'a> {
    /// Asks for something that is not shown: the question without its colon, and true where it is asked twice because
    /// a new password is made.
    pub ask: &'a dyn Fn(&str, bool) -> Result<SecretString, Failure>,
    /// Environment variables that no program of ours inherits.
    pub hide: &'a [String],
    /// Whether the passwords are for encrypting something new.
    pub new: bool,
}

/// `label@source` taken apart; without a label the whole is the source.
pub fn split(slug: &str) -> (Option<&str>, &str) {
    match slug.split_once('@') {
        Some((label, source)) => (Some(label).filter(|label| !label.is_empty()), source),
        None => (None, slug),
    }
}

impl Vault {
    /// Loads the passwords of `sources`. One that cannot be had is a warning as long as another one can.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when none of those that were named can be had.
    pub fn open(sources: &Sources, door: &Door<'_>, masker: &Masker) -> Result<Self, Failure> {
        let mut vault = Self::new(masker.clone());
        let mut failures = Vec::new();
        let asked = sources.ask.then_some((None, ""));
        for (label, source) in sources.ids.iter().map(|slug| split(slug)).chain(asked) {
            let id = label.unwrap_or(DEFAULT_ID);
            let loaded = match source {
                "" => (door.ask)(if door.new { "New Vault password" } else { "Vault password" }, door.new)
                    .map(|secret| Password::new(id, &secret)),
                "prompt" => {
                    let question = if door.new { "New vault password" } else { "Vault password" };
                    (door.ask)(&format!("{question} ({id})"), door.new).map(|secret| Password::new(id, &secret))
                }
                "prompt_ask_vault_pass" => {
                    (door.ask)("Vault password", door.new).map(|secret| Password::new(id, &secret))
                }
                path => from_path(&expanded(path), label, door.hide, &vault),
            };
            match loaded {
                Ok(password) if password.bytes.is_empty() => failures.push(
                    Failure::new(Kind::CouldNotStart, format!("the vault password for {id} is empty"))
                        .mend("give one that is not"),
                ),
                Ok(password) => vault.add(password),
                Err(failure) => failures.push(failure),
            }
        }
        if vault.is_empty()
            && let Some(failure) = Failure::all(failures.drain(..))
        {
            return Err(failure);
        }
        vault.warnings.extend(failures.into_iter().map(|failure| failure.to_string()));
        Ok(vault)
    }
}

/// `~/x` in the home folder.
fn expanded(text: &str) -> std::path::PathBuf {
    match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => Path::new(text).to_owned(),
    }
}

/// The password in a file, or the one that the program there prints.
fn from_path(path: &Path, label: Option<&str>, hide: &[String], known: &Vault) -> Result<Password, Failure> {
    let name = path.display().to_string();
    let wrong = |what: String| Failure::new(Kind::CouldNotStart, what);
    let about = std::fs::metadata(path).map_err(|error| {
        wrong(format!("the vault password file {name} cannot be read"))
            .saw(error.to_string())
            .mend("check --vault-password-file, --vault-id, and the variables of the same names")
    })?;
    if about.is_dir() {
        return Err(wrong(format!("the vault password file {name} is a folder")).mend("name the file in it"));
    }
    let id = label.unwrap_or(DEFAULT_ID).to_owned();
    if about.is_file() && executable(&about) {
        let bytes = from_program(path, label, hide)?;
        return Ok(Password { id, bytes });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| wrong(format!("the vault password file {name} cannot be read")).saw(error.to_string()))?;
    if bytes.len() as u64 > LONGEST {
        return Err(wrong(format!("the vault password file {name} is longer than 1 MiB"))
            .why("the whole file is the password; this is likely another file"));
    }
    // A password file may itself be encrypted with a password that was given before it.
    let text = bytes.trim_ascii();
    let opened = match std::str::from_utf8(text) {
        Ok(text) if text.starts_with(MAGIC) => known.decrypt(text).map_err(|locked| {
            wrong(format!("the vault password file {name} is itself encrypted, and cannot be opened"))
                .saw(locked.to_string())
                .mend("give the password that opens it before it")
        })?,
        _ => Zeroizing::new(text.to_vec()),
    };
    let end = opened.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |at| at + 1);
    let start = opened.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(end);
    let bytes = Zeroizing::new(opened.get(start..end).unwrap_or_default().to_vec());
    Ok(Password { id, bytes })
}

fn from_program(path: &Path, label: Option<&str>, hide: &[String]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let name = path.display().to_string();
    let wrong = |what: String| Failure::new(Kind::CouldNotStart, what);
    // A bare name would be looked for in PATH.
    let program = if path.components().count() == 1 { Path::new(".").join(path) } else { path.to_owned() };
    let mut command = Command::new(&program);
    hide.iter().for_each(|name| {
        command.env_remove(name);
    });
    let client = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("-client"));
    if client && let Some(label) = label {
        command.args(["--vault-id", label]);
    }
    // Its questions and complaints are the operator's to see.
    command.stdout(Stdio::piped()).stderr(if client { Stdio::piped() } else { Stdio::inherit() });
    let output = command.output().map_err(|error| {
        wrong(format!("the vault password program {name} cannot be run"))
            .saw(error.to_string())
            .mend("if it is no program, take its executable bit away: chmod -x")
    })?;
    let bytes = Zeroizing::new(output.stdout);
    if !output.status.success() {
        let said = clean(output.stderr.trim_ascii());
        let failure = match output.status.code() {
            Some(UNKNOWN_ID) if client => wrong(format!(
                "the vault password program {name} knows no password for the vault id {}",
                label.unwrap_or(DEFAULT_ID)
            )),
            _ => wrong(format!("the vault password program {name} failed ({})", output.status)),
        };
        return Err(if said.is_empty() { failure } else { failure.saw(said) });
    }
    let end = bytes.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |at| at + 1);
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(end);
    Ok(Zeroizing::new(bytes.get(start..end).unwrap_or_default().to_vec()))
}

#[cfg(unix)]
fn executable(about: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    about.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn executable(_: &std::fs::Metadata) -> bool {
    false
}
