//! What every command that talks to hosts needs: settings, inventory, the ways to the hosts.
//! Everything wrong in the operator's files is told here, at once, before any host is touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::args::{Common, VaultOptions};
use super::prompt;
use crate::catalog::Who;
use crate::failure::{Failure, Kind};
use crate::inventory::vars::HostVars;
use crate::inventory::{Inventory, Reading};
use crate::name::HostName;
use crate::playbook;
use crate::remote::Way;
use crate::remote::reach::{Defaults, Reach};
use crate::remote::ssh::auth::{AskPassphrase, Identities};
use crate::remote::ssh::config::Here;
use crate::remote::ssh::keys;
use crate::secret::{ExposeSecret as _, Masker, SecretString};
use crate::settings::ansible_cfg;
use crate::settings::yaml::Document;
use crate::settings::{Flags, Settings, user_name};
use crate::vault::{self, Vault};

/// Variables by which commands tell their playbooks what was typed.
const OURS: [&str; 5] = ["ferry_cluster", "ferry_source", "ferry_logs_since", "ferry_logs_dir", "ferry_logs_report"];

/// Settings, inventory and how to reach hosts.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) settings: Settings,
    pub(super) inventory: Inventory,
    pub(super) extra: Map<String, Value>,
    pub(super) reach: Arc<Reach>,
    pub(super) masker: Masker,
    pub(super) vault: Arc<Vault>,
    pub(super) inventory_paths: Vec<PathBuf>,
    pub(super) verbose: u8,
    /// How the inventory was read, to read it again.
    pub(super) reading: Reading,
}

/// The settings alone.
pub(super) fn settings(
    inventory: &[String],
    catalog: Option<&str>,
    run_dir: Option<&Path>,
    forks: Option<usize>,
) -> Result<Settings, Failure> {
    let cwd = std::env::current_dir().map_err(|error| {
        Failure::new(Kind::CouldNotStart, "the current folder cannot be told").saw(error.to_string())
    })?;
    let flags = Flags {
        inventory: inventory.iter().map(PathBuf::from).collect(),
        catalog: catalog.map(str::to_owned).into_iter().collect(),
        run_dir: run_dir.map(Path::to_owned),
        forks,
    };
    let settings = Settings::resolve(&flags, &|name| std::env::var(name).ok(), &cwd)?;
    ansible_cfg::put_in_force(&settings.ansible);
    Ok(settings)
}

/// Who runs ferry, where.
pub(super) fn who() -> Who {
    let env = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Who {
        user: env(&["USER", "LOGNAME"]).unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw())),
        machine,
        ci: env(&["CI_JOB_URL", "BUILD_URL", "GITHUB_RUN_ID", "BUILD_ID"]),
    }
}

/// What makes the ways to these hosts less safe than they should be, each said once.
pub(super) fn careless(ways: &BTreeMap<String, Way>) -> Vec<String> {
    let mut all: Vec<String> = ways.values().flat_map(Way::careless).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The name of the user that we are, by this machine's users as ssh takes it; the environment's where they do not
/// know it (a directory server's user).
fn login_name() -> String {
    user_name(rustix::process::getuid().as_raw()).unwrap_or_else(|| who().user)
}

/// The vault passwords that are named by flags, environment and settings; asked for at the terminal where that is said.
///
/// # Errors
/// [`Kind::CouldNotStart`] when none of them can be had.
pub(super) fn vault(options: &VaultOptions, settings: &Settings, hide: &[String]) -> Result<Vault, Failure> {
    vault_for(options, settings, hide, false)
}

/// As [`vault`]; with `new` the questions are those for a password that is made.
///
/// # Errors
/// As [`vault`].
pub(super) fn vault_for(
    options: &VaultOptions,
    settings: &Settings,
    hide: &[String],
    new: bool,
) -> Result<Vault, Failure> {
    let mut ids = settings.vault_identity_list.clone();
    ids.extend(options.vault_id.iter().cloned());
    let file = |path: &String| format!("{}@{path}", vault::DEFAULT_ID);
    ids.extend(options.vault_password_file.iter().map(file));
    ids.extend(settings.vault_password_file.iter().map(|path| file(&path.display().to_string())));
    let ask = |question: &str, twice: bool| {
        let typed = prompt::secret(
            question,
            "--vault-password-file FILE, --vault-id ID@FILE, or FERRY_VAULT_PASSWORD_FILE=FILE",
        )?;
        if twice {
            let again = prompt::secret(&format!("Confirm {}", question.to_lowercase()), "")?;
            if again.expose_secret() != typed.expose_secret() {
                return Err(Failure::new(Kind::CouldNotStart, "the two passwords are not the same"));
            }
        }
        Ok(typed)
    };
    let sources = vault::Sources { ids, ask: asks(options.ask_vault_pass, settings, "defaults.ask_vault_pass") };
    let masker = super::MASKER.get_or_init(Masker::new);
    Vault::open(&sources, &vault::Door { ask: &ask, hide, new }, masker)
}

/// The sources of the inventory; Ansible's own place where its numbers are kept to and none is named.
pub(super) fn inventory_paths(settings: &Settings) -> Vec<PathBuf> {
    let theirs = Path::new("/etc/ansible/hosts");
    if settings.inventory.is_empty() && settings.compat_ansible && theirs.exists() {
        return vec![theirs.to_owned()];
    }
    settings.inventory.clone()
}

/// Tells warnings where there is no run that would.
pub(super) fn warn<'a>(warnings: impl IntoIterator<Item = &'a String>) {
    let masker = super::MASKER.get_or_init(Masker::new);
    for warning in warnings {
        let lines = warning.lines().map(|line| crate::secret::clean(masker.mask(line).as_bytes()));
        crate::report::Sink::stderr().put(&format!("[WARNING]: {}\n", lines.collect::<Vec<_>>().join("\n")));
    }
}

/// `-e`: `k=v` words, JSON, or `@FILE`.
pub(super) fn extra_vars(given: &[String], vault: &Vault) -> Result<Map<String, Value>, Failure> {
    let wrong = |what: String| Failure::new(Kind::Usage, what);
    let mut extra = Map::new();
    for text in given {
        if let Some(path) = text.strip_prefix('@') {
            let document = vault.read_document(Path::new(path)).map_err(|failure| failure.within("-e"))?;
            match document.root.to_json() {
                Value::Object(map) => extra.extend(map),
                _ => {
                    return Err(Failure::new(
                        Kind::CouldNotStart,
                        format!("-e @{path}: a map of variables is expected"),
                    ));
                }
            }
        } else if text.trim_start().starts_with('{') && !text.trim_start().starts_with("{{") {
            // JSON, or YAML in its braces.
            match serde_json::from_str(text) {
                Ok(Value::Object(map)) => extra.extend(map),
                Ok(_) => return Err(wrong(format!("-e {text}: a JSON object is expected"))),
                Err(error) => match Document::read("-e", text).map(|document| document.root.to_json()) {
                    Ok(Value::Object(map)) => extra.extend(map),
                    _ => return Err(wrong(format!("-e {text}: {error}"))),
                },
            }
        } else {
            let pairs = playbook::pairs(text).map_err(|what| {
                wrong(format!("-e {text}: {what}")).why("NAME=VALUE is expected, or a JSON object, or @FILE")
            })?;
            for (name, value) in pairs {
                // Quotes within are the shell's way to join; templates keep theirs.
                let quoted = value.contains(['"', '\'']) && !value.contains("{{");
                let joined = if quoted { shlex::split(&value) } else { None };
                let value = match joined.as_deref() {
                    Some([one]) => one.clone(),
                    _ => value,
                };
                extra.insert(name, Value::String(value));
            }
        }
    }
    Ok(extra)
}

/// Whether a password is asked for: by the flag, or by Ansible's setting.
fn asks(flag: bool, settings: &Settings, setting: &str) -> bool {
    flag || settings.ansible.truth(setting) == Some(true)
}

/// The password to log in with, asked for once.
fn login_password(common: &Common, settings: &Settings) -> Result<Option<SecretString>, Failure> {
    if asks(common.ask_pass, settings, "defaults.ask_pass") {
        return prompt::secret(
            "SSH password",
            "--connection-password-file FILE, or FERRY_CONNECTION_PASSWORD_FILE=FILE; better: a key",
        )
        .map(Some);
    }
    let file = common.connection_password_file.clone().or_else(|| settings.connection_password_file.clone());
    file.map(|path| prompt::secret_file(&path)).transpose()
}

/// sudo's password. As in Ansible, nothing typed where both were asked for means the one to log in with.
fn become_password(
    common: &Common,
    settings: &Settings,
    login: Option<&SecretString>,
) -> Result<Option<SecretString>, Failure> {
    let asks_login = asks(common.ask_pass, settings, "defaults.ask_pass");
    if asks(common.ask_become_pass, settings, "privilege_escalation.become_ask_pass") {
        let question = if asks_login { "BECOME password[defaults to SSH password]" } else { "BECOME password" };
        let typed = prompt::secret(
            question,
            "--become-password-file FILE, FERRY_BECOME_PASSWORD_FILE=FILE, or --become-password-env NAME",
        )?;
        return Ok(Some(login.filter(|_| asks_login && typed.expose_secret().is_empty()).cloned().unwrap_or(typed)));
    }
    if let Some(name) = &common.become_password_env {
        return prompt::secret_env(name).map(Some);
    }
    let file = common.become_password_file.clone().or_else(|| settings.become_password_file.clone());
    file.map(|path| prompt::secret_file(&path)).transpose()
}

/// Asks for a key's passphrase: from the file that was named, else at the terminal.
///
/// # Errors
/// The file that was named cannot be used.
fn ask_passphrase(common: &Common, masker: &Masker) -> Result<AskPassphrase, Failure> {
    let file = common.key_passphrase_file.clone().or_else(|| {
        std::env::var_os("FERRY_KEY_PASSPHRASE_FILE").filter(|path| !path.is_empty()).map(std::path::PathBuf::from)
    });
    let given = file.as_deref().map(prompt::secret_file).transpose()?;
    if let Some(secret) = &given {
        masker.learn(secret);
    }
    let masker = masker.clone();
    Ok(Arc::new(move |key: &Path| {
        let secret = match &given {
            Some(secret) => secret.clone(),
            None => prompt::secret(&format!("passphrase of {}", key.display()), "").ok()?,
        };
        masker.learn(&secret);
        Some(secret)
    }))
}

/// How a passphrase is given where nobody is there to be asked: the flag is this roof's own.
fn with_flag(failure: Failure) -> Failure {
    if keys::wants_passphrase(&failure) {
        failure.mend("--key-passphrase-file FILE, or FERRY_KEY_PASSPHRASE_FILE=FILE; or at a terminal, where ferry asks; or load the key: ssh-add")
    } else {
        failure
    }
}

/// What makes ways to hosts, by the command line, the environment and this machine's files.
///
/// # Errors
/// A file with a secret that cannot be used.
pub(super) fn reach(common: &Common, settings: &Settings) -> Result<Reach, Failure> {
    let mut hide: Vec<String> = common.become_password_env.iter().cloned().collect();
    hide.extend(settings.hooks.secret_names());
    let masker = super::MASKER.get_or_init(Masker::new).clone();
    for address in settings.hooks.ping.iter().chain(&settings.hooks.webhook) {
        if let Ok(address) = address.read() {
            masker.learn(&address.into());
        }
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/"));
    let agent = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from);
    let ask = ask_passphrase(common, &masker)?;
    let login_password = login_password(common, settings)?;
    let become_password = become_password(common, settings, login_password.as_ref())?;
    Ok(Reach::new(Defaults {
        user: common.user.clone().or_else(|| settings.remote_user.clone()),
        become_on: common.become_on,
        private_key: common.private_key.clone().or_else(|| settings.private_key_file.clone()),
        ssh_common_args: common.ssh_common_args.clone(),
        login_password,
        become_password,
        agent: agent.clone(),
        here: Here {
            home,
            user: login_name(),
            uid: rustix::process::getuid().as_raw(),
            machine: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            env: |name| std::env::var(name).ok(),
        },
        hide,
        host_key_checking: settings.host_key_checking,
        identities: Identities::new(Vec::new(), Vec::new(), agent, ask),
        timeout_given: common.timeout.is_some(),
        timeout: common
            .timeout
            .map(|seconds| Duration::from_secs(seconds.max(1)))
            .or(settings.timeout)
            .unwrap_or(Duration::from_secs(10)),
        masker: masker.clone(),
        person: prompt::somebody(),
        theirs: settings.ansible.variables().map(|(name, value)| (name.to_owned(), value.into())).collect(),
    }))
}

/// Opens everything. `playbook_folder` for its group_vars.
///
/// # Errors
/// Everything wrong in settings and inventory, at once.
pub(super) fn open(common: &Common, playbook_folder: Option<&Path>) -> Result<Opened, Failure> {
    let settings = settings(&common.inventory, common.catalog.as_deref(), common.run_dir.as_deref(), common.forks)?;
    let hide: Vec<String> = common.become_password_env.iter().cloned().collect();
    let vault = vault(&common.vault, &settings, &hide)?;
    let extra = extra_vars(&common.extra_vars, &vault)?;
    let reading = Reading {
        paths: inventory_paths(&settings),
        playbook_folder: playbook_folder.map(Path::to_path_buf),
        vault: Arc::new(vault.clone()),
        hide,
        lenient: settings.compat_ansible,
        unparsed_fails: settings.inventory_unparsed_fails,
        any_unparsed_fails: settings.inventory_any_unparsed_fails,
        locked: false,
        extra: extra.clone(),
    };
    let inventory = Inventory::read(reading.clone())?;
    let masker = super::MASKER.get_or_init(Masker::new).clone();
    let reach = Arc::new(reach(common, &settings)?);
    let inventory_paths = settings.inventory.clone();
    warn(&settings.ansible.not_done());
    if common.verbose > 0 {
        warn(&settings.ansible.unknown);
        warn(&settings.ansible.without_use());
    }
    if let Some(path) = ansible_cfg::in_force("defaults.log_path") {
        let from = settings.ansible.in_file("defaults.log_path").filter(|written| *written == path);
        let folder = from.and(settings.ansible.folder()).unwrap_or(Path::new("."));
        let path = folder.join(ansible_cfg::at_home(&path));
        if let Err(error) = crate::report::log_to(&path, who().user) {
            warn([&format!("nothing is written to log_path {}: {error}", path.display())]);
        }
    }
    if let Some(shell) = settings.ansible.get("defaults.executable").filter(|shell| *shell != "/bin/sh") {
        warn([&format!(
            "[defaults] executable = {shell} is not used: say ansible_shell_executable for the hosts that need it"
        )]);
    }
    let verbose = common.verbose;
    Ok(Opened { verbose, settings, inventory, extra, reach, masker, vault: Arc::new(vault), inventory_paths, reading })
}

/// Ways to hosts, and the hosts' variables.
type Reached = (BTreeMap<String, Way>, BTreeMap<String, Map<String, Value>>);

impl Opened {
    /// The ways to these hosts and their variables, every wrong one told at once.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`], each with its place where it has one.
    pub(super) fn ways(&self, hosts: &[String]) -> Result<Reached, Failure> {
        let (mut ways, mut all, mut failures) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut passed_over = BTreeMap::new();
        let mut names = Vec::new();
        for host in hosts {
            names.push(host.parse::<HostName>().map_err(|error| Failure::new(Kind::CouldNotStart, error.to_string()))?);
        }
        // These are ours, not the operator's: templates know them, the table of variables does not.
        let mut written = self.extra.clone();
        written.retain(|name, _| !OURS.contains(&name.as_str()));
        HostVars::read_all(&self.inventory, &names, &written)?;
        for (host, name) in hosts.iter().zip(names) {
            let made = Ok(()).and_then(|()| {
                let mut vars = self.inventory.rendered_vars(&name, &self.extra)?;
                if self.verbose > 0 {
                    passed_over.extend(crate::remote::reach::passed_over(&vars));
                }
                vars.insert("groups".to_owned(), self.inventory.groups_value().clone());
                let way = self.reach.way(host, &vars).map_err(|failure| {
                    // The variable's name opens the sentence: its place is known to the inventory.
                    let variable = failure.what.split(':').next().unwrap_or_default().to_owned();
                    match self.inventory.place_of(&name, &variable) {
                        Some(place) => {
                            let placed = self.inventory.failure_at(&place, failure.what.clone());
                            Failure { place: placed.place, snippet: placed.snippet, ..failure }
                        }
                        None => failure,
                    }
                })?;
                Ok((way, vars))
            });
            match made {
                Ok((way, vars)) => {
                    // Hosts share files: each wrong one is told once.
                    for failure in way.wrong().into_iter().map(with_flag) {
                        if !failures.contains(&failure) {
                            failures.push(failure);
                        }
                    }
                    ways.insert(host.clone(), way);
                    all.insert(host.clone(), vars);
                }
                Err(failure) => failures.push(failure),
            }
        }
        let said: Vec<String> = passed_over.iter().map(|(name, why)| format!("{name} is not used: {why}")).collect();
        warn(&said);
        match Failure::all(failures) {
            Some(failure) => Err(failure),
            None => Ok((ways, all)),
        }
    }

    /// Asks about host keys that nobody recorded, where somebody can be asked.
    ///
    /// # Errors
    /// As [`Way::introduce`].
    pub(super) async fn introduce(&self, ways: &BTreeMap<String, Way>) -> Result<(), Failure> {
        if prompt::somebody() {
            for way in ways.values() {
                way.introduce(&|question| crate::modules::Ask::ask(&prompt::Person, question)).await?;
            }
        }
        Ok(())
    }

    /// Hosts of a pattern, narrowed by `--limit`.
    ///
    /// # Errors
    /// [`Kind::NoHost`] when nothing matches.
    pub(super) fn select(&self, pattern: &str, limit: Option<&str>) -> Result<Vec<String>, Failure> {
        // Commas alone mean no narrowing, as in Ansible.
        let everybody = super::compat::on() && pattern.chars().all(|c| c == ',' || c.is_whitespace());
        let mut hosts = self.inventory.select(if everybody { "all" } else { pattern })?;
        if let Some(limit) = limit {
            hosts = self.inventory.limit(&hosts, limit)?;
        }
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        if hosts.is_empty() {
            return Err(Failure::new(Kind::NoHost, format!("no host matches {pattern:?}")));
        }
        Ok(hosts)
    }

    /// Digest over the inventory files as read, in order.
    pub(super) fn inventory_digest(&self) -> Option<crate::digest::Sha256> {
        let mut hasher = crate::digest::Hasher::new();
        for path in &self.inventory_paths {
            digest_of(path, &mut hasher).ok()?;
        }
        Some(hasher.finish())
    }
}

fn digest_of(path: &Path, hasher: &mut crate::digest::Hasher) -> std::io::Result<()> {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(path)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        entries.sort();
        return entries.iter().try_for_each(|entry| digest_of(entry, hasher));
    }
    hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
    hasher.update(&[0]);
    hasher.update(&std::fs::read(path)?);
    Ok(())
}
