//! Settings: flags over environment over `ferry.toml` over `ansible.cfg` over defaults.
//!
//! What lives here: finding and reading `ferry.toml`, the `FERRY_` and `ANSIBLE_` variables, where
//! things are kept, and the readers that every file of ours goes through. What does not: what an
//! inventory or a playbook means.

pub mod ansible_cfg;
pub mod aws;
pub mod duration;
pub mod encryption;
pub mod files;
pub mod places;
mod toml_file;
pub mod yaml;

use std::path::{Path, PathBuf};
use std::time::Duration;

use places::CatalogAt;

use crate::failure::{Failure, Kind};
use ansible_cfg::AnsibleSettings;

/// The name of the settings file.
pub const FILE_NAME: &str = "ferry.toml";
/// Ansible's default.
const FORKS: usize = 5;
/// More would only be a typing mistake.
const MOST_FORKS: usize = 1000;

/// What the command line says about settings. `None` and empty: not said.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `-i`, as given.
    pub inventory: Vec<PathBuf>,
    /// `--catalog`, as given.
    pub catalog: Vec<String>,
    /// `--run-dir`, as given.
    pub run_dir: Option<PathBuf>,
    /// `-f`.
    pub forks: Option<usize>,
}

/// How many recovery points are kept. `None`: this rule keeps none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// The newest ones.
    pub last: Option<u32>,
    /// One for each of so many days.
    pub daily: Option<u32>,
    /// One for each of so many weeks.
    pub weekly: Option<u32>,
    /// One for each of so many months.
    pub monthly: Option<u32>,
    /// One for each of so many years.
    pub yearly: Option<u32>,
    /// All that are younger than this.
    pub within: Option<Duration>,
    /// How long a point lies in the trash before it is deleted for good.
    pub grace: Option<Duration>,
}

/// An address that is a secret as well: whoever has it can say that all is well.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// As it was written.
    Written(String),
    /// It stands in this environment variable.
    Env(String),
    /// It is the first line of this file.
    File(PathBuf),
}

/// It is never shown.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Written(_) => f.write_str("Written(…)"),
            Self::Env(name) => write!(f, "Env({name})"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

impl Address {
    /// Whether a text can be one.
    pub fn fits(text: &str) -> bool {
        (text.starts_with("https://") || text.starts_with("http://"))
            && !text.chars().any(|c| c.is_control() || c == ' ')
    }

    /// The address itself.
    ///
    /// # Errors
    /// A sentence that says what is wrong and does not hold it.
    pub fn read(&self) -> Result<String, String> {
        let (text, place) = match self {
            Self::Written(text) => (text.clone(), "the address".to_owned()),
            Self::Env(name) => (
                std::env::var(name).map_err(|_| format!("the variable {name} is not set"))?,
                format!("what the variable {name} holds"),
            ),
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
                (text.lines().next().unwrap_or_default().to_owned(), format!("the first line of {}", path.display()))
            }
        };
        let text = text.trim().to_owned();
        if Self::fits(&text) { Ok(text) } else { Err(format!("{place} is no http:// or https:// address")) }
    }
}

/// What is carried out beside a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// A command of this machine, its words.
    Command(Vec<String>),
    /// A file with tasks or plays; absolute.
    Tasks(PathBuf),
}

/// Who is told how a run that works on a cluster went. Everything may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// A healthchecks-style address: `…/start` when a run begins, itself when it went well, `…/fail` when it did not.
    pub ping: Option<Address>,
    /// An address that gets one POST when a run has ended.
    pub webhook: Option<Address>,
    /// A template for its body; JSON of all that is known without one.
    pub webhook_body: Option<String>,
    /// A file for Prometheus' node exporter; from the file absolute.
    pub textfile: Option<PathBuf>,
    /// Before the run.
    pub before: Option<Hook>,
    /// After a run that went well.
    pub after: Option<Hook>,
    /// After a run that did not.
    pub on_error: Option<Hook>,
}

impl Hooks {
    /// Variables that may hold addresses: what is started does not inherit them.
    pub fn secret_names(&self) -> Vec<String> {
        let named = [&self.ping, &self.webhook].into_iter().flatten().filter_map(|address| match address {
            Address::Env(name) => Some(name.clone()),
            _ => None,
        });
        named.chain(["FERRY_HOOKS_PING", "FERRY_HOOKS_WEBHOOK"].map(str::to_owned)).collect()
    }
}

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `ferry.toml` in force.
    pub file: Option<PathBuf>,
    /// Inventory sources in order; from flags and environment as given, from the file absolute. Empty: none is named.
    pub inventory: Vec<PathBuf>,
    /// Catalogs that are folders of this machine, absolute; the first is written to. None where only other places are named.
    pub catalogs: Vec<PathBuf>,
    /// All catalogs in the order of the settings; at least one.
    pub places: Vec<CatalogAt>,
    /// Folder of runs, absolute.
    pub runs: PathBuf,
    /// How many hosts are worked on at a time; from 1.
    pub forks: usize,
    /// Retention.
    pub keep: Keep,
    /// Encryption at rest, and the size of volumes.
    pub encryption: encryption::Encryption,
    /// Who is told.
    pub hooks: Hooks,
    /// Whether `run`, `exec`, `inventory` and `vault` keep to Ansible's numbers and forms.
    pub compat_ansible: bool,
    /// Login user where the inventory names none (`FERRY_REMOTE_USER`, `ANSIBLE_REMOTE_USER`).
    pub remote_user: Option<String>,
    /// Key where the inventory names none (`FERRY_PRIVATE_KEY_FILE`, `ANSIBLE_PRIVATE_KEY_FILE`).
    pub private_key_file: Option<PathBuf>,
    /// Whether host keys are checked (`FERRY_HOST_KEY_CHECKING`, `ANSIBLE_HOST_KEY_CHECKING`).
    pub host_key_checking: Option<bool>,
    /// File with the sudo password (`FERRY_BECOME_PASSWORD_FILE`, `ANSIBLE_BECOME_PASSWORD_FILE`).
    pub become_password_file: Option<PathBuf>,
    /// File with the login password (`FERRY_CONNECTION_PASSWORD_FILE`, `ANSIBLE_CONNECTION_PASSWORD_FILE`).
    pub connection_password_file: Option<PathBuf>,
    /// File with the vault password (`FERRY_VAULT_PASSWORD_FILE`, `ANSIBLE_VAULT_PASSWORD_FILE`).
    pub vault_password_file: Option<PathBuf>,
    /// Vault passwords by id, `label@source` (`FERRY_VAULT_IDENTITY_LIST`, `ANSIBLE_VAULT_IDENTITY_LIST`).
    pub vault_identity_list: Vec<String>,
    /// Whether no readable inventory at all is an error where Ansible's numbers are kept to.
    pub inventory_unparsed_fails: bool,
    /// Whether one inventory that cannot be read is an error where Ansible's numbers are kept to.
    pub inventory_any_unparsed_fails: bool,
    /// What Ansible's own settings say, for those that ferry has no key of its own for.
    pub ansible: AnsibleSettings,
    /// How long connecting may take (`FERRY_TIMEOUT`, `ANSIBLE_TIMEOUT`, seconds).
    pub timeout: Option<Duration>,
}

/// The environment and the folder that relative paths in it and in flags start from.
struct Env<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    cwd: &'a Path,
}

impl Env<'_> {
    /// The value of `FERRY_name`, else of `ANSIBLE_name` where Ansible has the same setting, with the name it was
    /// found under. Empty is as good as not set.
    fn setting(&self, name: &str, ansible: bool) -> Option<(String, String)> {
        let own = format!("FERRY_{name}");
        let theirs = ansible.then(|| format!("ANSIBLE_{name}"));
        std::iter::once(own)
            .chain(theirs)
            .find_map(|name| (self.get)(&name).filter(|value| !value.trim().is_empty()).map(|value| (name, value)))
    }

    fn value(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.trim().is_empty())
    }

    /// `text` as an absolute path: `~` is the home folder, relative ones start at `base`.
    fn absolute(&self, base: &Path, text: &str) -> PathBuf {
        match self.expanded(text) {
            path if path.is_absolute() => path,
            path => base.join(path),
        }
    }

    fn expanded(&self, text: &str) -> PathBuf {
        if let Some(rest) = text.strip_prefix('~')
            && (rest.is_empty() || rest.starts_with('/'))
            && let Some(home) = self.value("HOME")
        {
            return PathBuf::from(home).join(rest.trim_start_matches('/'));
        }
        PathBuf::from(text)
    }

    fn base(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let own = self.value(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        own.or_else(|| self.value("HOME").map(|home| PathBuf::from(home).join(below_home)))
    }
}

fn wrong(what: String) -> Failure {
    Failure::new(Kind::CouldNotStart, what)
}

impl Settings {
    /// The settings in force: `flags` over `env` over `ferry.toml` over defaults. `cwd` is the current folder, absolute.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] with all that is wrong in the file (line, column) and the environment.
    pub fn resolve(flags: &Flags, env: &dyn Fn(&str) -> Option<String>, cwd: &Path) -> Result<Self, Failure> {
        let ansible = AnsibleSettings::find(env, cwd)?;
        let env = Env { get: env, cwd };
        let file = find_file(&env)?;
        let mut errors = Vec::new();
        let written = match &file {
            Some(path) => toml_file::read(path).unwrap_or_else(|failure| {
                errors.push(failure);
                toml_file::Written::default()
            }),
            None => toml_file::Written::default(),
        };
        let folder = file.as_deref().and_then(Path::parent).unwrap_or(cwd);

        let inventory = if !flags.inventory.is_empty() {
            flags.inventory.clone()
        } else if let Some((_, value)) = env.setting("INVENTORY", true) {
            sources(&env, &value)
        } else if !written.inventory.is_empty() {
            let source = |text: &String| if text.contains(',') { text.into() } else { env.absolute(folder, text) };
            written.inventory.iter().map(source).collect()
        } else {
            // There a comma stands between paths, as in Ansible.
            let base = ansible.folder().unwrap_or(cwd);
            let parts = ansible.in_file("defaults.inventory").unwrap_or("").split([',', '\n']).map(str::trim);
            parts.filter(|part| !part.is_empty()).map(|part| env.absolute(base, part)).collect()
        };

        let (catalog, base) = if !flags.catalog.is_empty() {
            (flags.catalog.clone(), cwd)
        } else if let Some((_, value)) = env.setting("CATALOG", false) {
            (value.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect(), cwd)
        } else {
            (written.catalog.clone(), folder)
        };
        let mut places = Vec::new();
        for url in &catalog {
            match places::parse(url) {
                Ok(CatalogAt::Folder(path)) => {
                    places.push(CatalogAt::Folder(env.absolute(base, &path.to_string_lossy())));
                }
                Ok(place) => places.push(place),
                // The file's own reader has told those that stand in it, with their place.
                Err(what) => errors.push(wrong(what)),
            }
        }
        let mut default = |name: &str| {
            env.base("XDG_DATA_HOME", ".local/share").map(|data| data.join("ferry").join(name)).unwrap_or_else(|| {
                errors.push(
                    wrong(format!("there is no place for the folder {name}: HOME is not set")).mend(format!(
                        "set HOME, or name the folder in ferry.toml or with FERRY_{}",
                        name.to_uppercase()
                    )),
                );
                PathBuf::new()
            })
        };
        if catalog.is_empty() {
            places.push(CatalogAt::Folder(default("catalog")));
        }
        let catalogs = places
            .iter()
            .filter_map(|place| match place {
                CatalogAt::Folder(path) => Some(path.clone()),
                _ => None,
            })
            .collect();
        let runs = if let Some(path) = &flags.run_dir {
            env.absolute(cwd, &path.to_string_lossy())
        } else if let Some((_, value)) = env.setting("RUNS", false) {
            env.absolute(cwd, &value)
        } else if let Some(text) = &written.runs {
            env.absolute(folder, text)
        } else {
            default("runs")
        };

        let mut hooks = written.hooks.clone();
        if let Some((_, path)) = env.setting("HOOKS_TEXTFILE", false) {
            hooks.textfile = Some(env.absolute(cwd, &path));
        } else {
            hooks.textfile = hooks.textfile.map(|path| env.absolute(folder, &path.to_string_lossy()));
        }
        for (name, slot) in [("HOOKS_PING", &mut hooks.ping), ("HOOKS_WEBHOOK", &mut hooks.webhook)] {
            match env.setting(name, false) {
                Some((_, value)) if Address::fits(value.trim()) => {
                    *slot = Some(Address::Written(value.trim().to_owned()));
                }
                // It is not shown: it may be a secret all the same.
                Some((name, _)) => {
                    errors.push(wrong(format!("{name} is no http:// or https:// address")).mend("correct or unset it"));
                }
                None => {}
            }
            if let Some(Address::File(path)) = slot {
                *path = env.absolute(folder, &path.to_string_lossy());
            }
        }
        if let Some((_, value)) = env.setting("HOOKS_WEBHOOK_BODY", false) {
            hooks.webhook_body = Some(value);
        }
        for (name, slot) in [
            ("HOOKS_BEFORE", &mut hooks.before),
            ("HOOKS_AFTER", &mut hooks.after),
            ("HOOKS_ON_ERROR", &mut hooks.on_error),
        ] {
            if let Some((_, value)) = env.setting(name, false) {
                *slot = Some(Hook::Tasks(env.absolute(cwd, &value)));
            } else if let Some(Hook::Tasks(path)) = slot {
                *path = env.absolute(folder, &path.to_string_lossy());
            }
        }
        let mut number = |name: &str, ansible: bool, most: usize| -> Option<usize> {
            let (name, value) = env.setting(name, ansible)?;
            match value.trim().parse::<usize>() {
                Ok(value) if (1..=most).contains(&value) => Some(value),
                _ => {
                    errors.push(wrong(format!("{name} is a whole number from 1 to {most}")).saw(format!("{value:?}")));
                    None
                }
            }
        };
        let forks_env = number("FORKS", true, MOST_FORKS);
        let timeout = number("TIMEOUT", true, 86_400).map(|seconds| Duration::from_secs(seconds as u64));
        let mut keep = written.keep.clone();
        for (name, slot) in [
            ("KEEP_LAST", &mut keep.last),
            ("KEEP_DAILY", &mut keep.daily),
            ("KEEP_WEEKLY", &mut keep.weekly),
            ("KEEP_MONTHLY", &mut keep.monthly),
            ("KEEP_YEARLY", &mut keep.yearly),
        ] {
            if let Some(value) = number(name, false, 100_000) {
                *slot = u32::try_from(value).ok();
            }
        }
        for (name, slot) in [("KEEP_WITHIN", &mut keep.within), ("KEEP_GRACE", &mut keep.grace)] {
            if let Some((name, value)) = env.setting(name, false) {
                match duration::parse(&value) {
                    Ok(value) => *slot = Some(value),
                    Err(what) => errors.push(wrong(format!("{name} is a duration with a unit")).mend(what)),
                }
            }
        }
        if let Some(forks) = flags.forks
            && !(1..=MOST_FORKS).contains(&forks)
        {
            errors.push(
                Failure::new(Kind::Usage, format!("-f is a whole number from 1 to {MOST_FORKS}"))
                    .saw(forks.to_string()),
            );
        }
        let mut theirs = |name: &str, most: usize| -> Option<usize> {
            let value = ansible.in_file(name)?;
            let number = value.trim().parse::<usize>().ok().filter(|value| (1..=most).contains(value));
            if number.is_none() {
                let file = ansible.file.as_deref().unwrap_or(Path::new("ansible.cfg")).display();
                errors.push(
                    wrong(format!("{file}: {name} is a whole number from 1 to {most}")).saw(format!("{value:?}")),
                );
            }
            number
        };
        let forks_theirs = theirs("defaults.forks", MOST_FORKS);
        let timeout = timeout.or(theirs("defaults.timeout", 86_400).map(|seconds| Duration::from_secs(seconds as u64)));
        let forks = flags.forks.or(forks_env).or(written.forks).or(forks_theirs).unwrap_or(FORKS);

        let compat_ansible = match env.setting("COMPAT", false) {
            None => written.compat_ansible,
            Some((name, value)) => match value.as_str() {
                "ansible" => true,
                "ferry" => false,
                other => {
                    errors.push(wrong(format!("{name} is ansible or ferry")).saw(format!("{other:?}")));
                    false
                }
            },
        };
        if let Some((name, _)) = env.setting("HOOKS", false) {
            let what = "hooks in one variable (there are FERRY_HOOKS_PING, FERRY_HOOKS_WEBHOOK, FERRY_HOOKS_BEFORE, …)";
            errors.push(wrong(format!("{name} is set, and {what} is not built yet in ferry")).mend("unset it"));
        }
        let encryption = encryption_of(&env, &written, folder, &mut errors);
        let host_key_checking = match env.setting("HOST_KEY_CHECKING", true) {
            None => None,
            Some((name, value)) => {
                let truth = ansible_cfg::truth(&value);
                if truth.is_none() {
                    errors.push(wrong(format!("{name} is true or false")).saw(format!("{value:?}")));
                }
                truth
            }
        };
        let host_key_checking = host_key_checking.or_else(|| ansible.truth("ssh_connection.host_key_checking"));
        let host_key_checking = host_key_checking.or_else(|| ansible.truth("defaults.host_key_checking"));
        let theirs = |name: &str| {
            let key = format!("defaults.{}", name.to_lowercase());
            Some(env.absolute(ansible.folder()?, ansible.in_file(&key)?))
        };
        let path =
            |name: &str| env.setting(name, true).map(|(_, value)| env.absolute(cwd, &value)).or_else(|| theirs(name));
        let identities = env.setting("VAULT_IDENTITY_LIST", true).map(|(_, value)| value);
        let identities = identities.or_else(|| ansible.in_file("defaults.vault_identity_list").map(str::to_owned));
        let settings = Self {
            inventory,
            catalogs,
            places,
            runs,
            forks,
            keep,
            encryption,
            hooks,
            compat_ansible,
            remote_user: env
                .setting("REMOTE_USER", true)
                .map(|(_, value)| value)
                .or_else(|| ansible.in_file("defaults.remote_user").map(str::to_owned)),
            private_key_file: path("PRIVATE_KEY_FILE"),
            host_key_checking,
            become_password_file: path("BECOME_PASSWORD_FILE"),
            connection_password_file: path("CONNECTION_PASSWORD_FILE"),
            vault_password_file: path("VAULT_PASSWORD_FILE"),
            vault_identity_list: identities.map_or_else(Vec::new, |value| {
                value.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
            }),
            inventory_unparsed_fails: ansible.truth("inventory.unparsed_is_failed").unwrap_or(false),
            inventory_any_unparsed_fails: ansible.truth("inventory.any_unparsed_is_failed").unwrap_or(false),
            timeout,
            file,
            ansible,
        };
        Failure::all(errors).map_or(Ok(settings), Err)
    }
}

/// Encryption at rest: the environment over the file, paths absolute.
fn encryption_of(
    env: &Env<'_>,
    written: &toml_file::Written,
    folder: &Path,
    errors: &mut Vec<Failure>,
) -> encryption::Encryption {
    use encryption::{Encryption, PassphraseFrom, passphrase_from, volume_size};
    let listed = |name: &str| {
        let (name, value) = env.setting(name, false)?;
        let parts = value.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty());
        Some((name, parts.collect::<Vec<String>>()))
    };
    let (recipients, base) = match listed("RECIPIENTS") {
        Some((name, texts)) => {
            errors.extend(texts.iter().filter_map(|text| Some(wrong(format!("{name}: {}", encryption::wrong(text)?)))));
            (texts, env.cwd)
        }
        None => (written.recipients.clone(), folder),
    };
    let recipients = recipients.into_iter().map(|text| {
        if crate::vault::age::is_recipient(&text) { text } else { env.absolute(base, &text).display().to_string() }
    });
    let (identities, identity_base) = match listed("IDENTITIES") {
        Some((_, texts)) => (texts, env.cwd),
        None => (written.identities.clone(), folder),
    };
    let mut from = written.passphrase_from.clone();
    let mut from_base = folder;
    if let Some((name, value)) = env.setting("PASSPHRASE_FROM", false) {
        from_base = env.cwd;
        match passphrase_from(&value) {
            Ok(value) => from = Some(value),
            Err(what) => errors.push(wrong(format!("{name}: {what}"))),
        }
    }
    let from = from.map(|from| match from {
        PassphraseFrom::File(path) => PassphraseFrom::File(env.absolute(from_base, &path.to_string_lossy())),
        other => other,
    });
    let mut all = Encryption {
        recipients: recipients.collect(),
        identities: identities.iter().map(|text| env.absolute(identity_base, text)).collect(),
        passphrase_from: from,
        ..Encryption::default()
    };
    if let Some(bytes) = written.volume_size {
        all.volume_size = bytes;
    }
    if let Some((name, value)) = env.setting("VOLUME_SIZE", false) {
        match volume_size(&value) {
            Ok(bytes) => all.volume_size = bytes,
            Err(what) => errors.push(wrong(format!("{name}: {what}")).saw(format!("{value:?}"))),
        }
    }
    all
}

/// The `ferry.toml` in force: the one that `FERRY_CONFIG` names, else the nearest in the current folder
/// and its parents, else the user's own.
fn find_file(env: &Env<'_>) -> Result<Option<PathBuf>, Failure> {
    if let Some(named) = env.value("FERRY_CONFIG") {
        let path = env.absolute(env.cwd, &named);
        return if path.is_file() {
            Ok(Some(path))
        } else {
            Err(wrong(format!("FERRY_CONFIG names {named}, and there is no such file")).mend("correct or unset it"))
        };
    }
    let near = env.cwd.ancestors().map(|folder| folder.join(FILE_NAME)).find(|path| path.is_file());
    Ok(near.or_else(|| {
        env.base("XDG_CONFIG_HOME", ".config")
            .map(|base| base.join("ferry").join(FILE_NAME))
            .filter(|path| path.is_file())
    }))
}

/// The inventory sources of an environment variable: one source, or several paths with commas.
fn sources(env: &Env<'_>, value: &str) -> Vec<PathBuf> {
    let parts: Vec<&str> = value.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.len() > 1 && parts.iter().all(|part| env.absolute(env.cwd, part).exists()) {
        return parts.into_iter().map(|part| env.expanded(part)).collect();
    }
    vec![env.expanded(value.trim())]
}

/// The name of a user by this machine's `/etc/passwd`, as ssh takes it; `None` for one that it does not know (a directory
/// server's).
pub fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Makes `path` and its missing parents, readable by the owner alone (0700).
///
/// # Errors
/// [`Kind::CouldNotStart`] when it cannot be made.
pub fn make_private_folder(path: &Path) -> Result<(), Failure> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path).map_err(|error| {
        wrong(format!("the folder {} cannot be made", path.display()))
            .saw(error.to_string())
            .mend("make it yourself, or name another one in ferry.toml")
    })
}

/// Checks that a catalog may be kept in `path`: a folder that not everybody can write to, sticky bit or
/// not. One that is not there yet is fine.
///
/// # Errors
/// [`Kind::CouldNotStart`] when it is no folder, cannot be looked at, or is world-writable.
pub fn check_catalog_folder(path: &Path) -> Result<(), Failure> {
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(wrong(format!("the catalog {} cannot be looked at", path.display())).saw(error.to_string()));
        }
    };
    if !about.is_dir() {
        return Err(wrong(format!("the catalog {} is not a folder", path.display())).mend("name a folder"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = about.permissions().mode() & 0o7777;
        if mode & 0o002 != 0 {
            return Err(wrong(format!("the catalog {} can be written by everybody", path.display()))
                .saw(format!("mode {mode:04o}"))
                .why("anybody could put an archive of theirs into it, and a restore would run with it")
                .mend(format!("chmod o-w {}, or name a folder below it", path.display())));
        }
    }
    Ok(())
}
