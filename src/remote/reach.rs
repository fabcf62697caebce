//! From a host's variables to the way there: Ansible's connection and become variables, read once,
//! every wrong one told, before any host is touched.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::Way;
use super::local::LocalSession;
use super::ssh::auth::{Identities, LoginPassword, Method};
use super::ssh::config::{self, Files, Here, Hop, Resolved};
use super::ssh::connect::{self, Algorithms, Family, Proxy, Socket, Strict, Target};
use super::ssh::hub::Hub;
use super::ssh::options::{self, Given};
use super::sudo::{Become, Password};
use crate::failure::{Failure, Kind};
use crate::secret::{ExposeSecret as _, Masker, SecretString};

/// The variables that say how a host is reached, by all their names.
pub const WAY: &[&str] = &[
    "ansible_connection",
    "ansible_host",
    "ansible_ssh_host",
    "ansible_port",
    "ansible_ssh_port",
    "ansible_user",
    "ansible_ssh_user",
    "ansible_password",
    "ansible_ssh_pass",
    "ansible_ssh_password",
    "ferry_jump_password",
    "ansible_private_key_file",
    "ansible_ssh_private_key_file",
    "ansible_private_key_passphrase",
    "ansible_ssh_private_key_passphrase",
    "ansible_private_key",
    "ansible_ssh_private_key",
    "ansible_ssh_pkcs11_provider",
    "ansible_ssh_args",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_ssh_timeout",
    "ansible_timeout",
    "ansible_ssh_retries",
    "ansible_host_key_checking",
    "ansible_ssh_host_key_checking",
    "ansible_ssh_executable",
    "ansible_shell_type",
];

/// The variables that say whom to become there, and how.
pub const BECOME: &[&str] = &[
    "ansible_become",
    "ansible_become_method",
    "ansible_become_user",
    "ansible_sudo_user",
    "ansible_become_flags",
    "ansible_sudo_flags",
    "ansible_become_exe",
    "ansible_sudo_exe",
    "ansible_become_password",
    "ansible_become_pass",
    "ansible_sudo_pass",
    "ansible_sudo_password",
    "ansible_sudo_chdir",
];

/// Variables of Ansible's that are passed over on purpose, and why nothing hangs on them here.
const PASSED_OVER: &[(&str, &str)] = &[
    ("ansible_pipelining", ONE_CHANNEL),
    ("ansible_ssh_pipelining", ONE_CHANNEL),
    ("ansible_ssh_use_tty", "a terminal is asked for where sudo wants one, and nowhere else"),
    ("ansible_ssh_transfer_method", NO_SCP),
    ("ansible_scp_if_ssh", NO_SCP),
    ("ansible_sftp_batch_mode", NO_SCP),
    ("ansible_scp_executable", NO_SCP),
    ("ansible_sftp_executable", NO_SCP),
    ("ansible_scp_extra_args", NO_SCP),
    ("ansible_sftp_extra_args", NO_SCP),
    ("ansible_control_path", NO_SOCKET),
    ("ansible_control_path_dir", NO_SOCKET),
    ("ansible_ssh_control_path", NO_SOCKET),
    ("ansible_sshpass_prompt", "no sshpass is needed"),
    ("ansible_ssh_password_mechanism", "no sshpass is needed"),
    ("ansible_python_interpreter", "no Python is needed on a host"),
    ("ansible_remote_tmp", "no module is copied to a host"),
    ("ansible_async_dir", "jobs have ferry's own folders"),
];
const ONE_CHANNEL: &str = "commands always go to a shell that stays open";
const NO_SCP: &str = "files pass through the connection itself";
const NO_SOCKET: &str = "connections are kept inside of ferry";

/// The variables among these that are passed over, each with the reason.
pub fn passed_over(vars: &Map<String, Value>) -> impl Iterator<Item = (&'static str, &'static str)> {
    PASSED_OVER.iter().copied().filter(|(name, _)| vars.get(*name).is_some_and(|value| !value.is_null()))
}

/// What the command line and the environment say where a host's variables say nothing.
pub struct Defaults {
    /// `-u`.
    pub user: Option<String>,
    /// `-b`.
    pub become_on: bool,
    /// `--private-key`.
    pub private_key: Option<PathBuf>,
    /// `--ssh-common-args`.
    pub ssh_common_args: Option<String>,
    /// `-k` or the connection password file.
    pub login_password: Option<SecretString>,
    /// `-K` or the password file.
    pub become_password: Option<SecretString>,
    /// `SSH_AUTH_SOCK`.
    pub agent: Option<PathBuf>,
    /// Who runs ferry, and where: what ssh_config may ask about.
    pub here: Here,
    /// Variables with secrets that the operator named: what ferry starts does not inherit them.
    pub hide: Vec<String>,
    /// `ANSIBLE_HOST_KEY_CHECKING`.
    pub host_key_checking: Option<bool>,
    /// Keys that were read, and who to ask for passphrases.
    pub identities: Identities,
    /// Limit of each step of connecting.
    pub timeout: Duration,
    /// That limit was given (`--timeout`): it goes before ssh_config's `ConnectTimeout`.
    pub timeout_given: bool,
    /// Where secrets are made known.
    pub masker: Masker,
    /// Somebody sits at a terminal and can be asked about host keys.
    pub person: bool,
    /// Variables that Ansible's own settings (`ansible.cfg` and its environment) stand for: below all else.
    pub theirs: Map<String, Value>,
}

/// Makes ways. One for a run: passwords of equal value are one password, tried once.
pub struct Reach {
    defaults: Defaults,
    passwords: Mutex<HashMap<String, Arc<Password>>>,
    logins: Mutex<HashMap<String, Arc<LoginPassword>>>,
    hub: Hub,
}

/// A variable's value as text, whatever scalar it was written as.
fn text(vars: &Map<String, Value>, names: &[&str]) -> Option<(String, String)> {
    names.iter().find_map(|name| match vars.get(*name)? {
        Value::String(text) => Some(((*name).to_owned(), text.clone())),
        Value::Number(number) => Some(((*name).to_owned(), number.to_string())),
        Value::Bool(flag) => Some(((*name).to_owned(), flag.to_string())),
        _ => None,
    })
}

fn truth(vars: &Map<String, Value>, name: &str) -> Result<Option<bool>, String> {
    match vars.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(Value::Number(number)) if [0, 1].map(Some).contains(&number.as_i64()) => {
            Ok(Some(number.as_i64() == Some(1)))
        }
        Some(Value::String(word)) => match word.to_lowercase().as_str() {
            "yes" | "true" | "on" | "1" => Ok(Some(true)),
            "no" | "false" | "off" | "0" => Ok(Some(false)),
            _ => Err(format!("{name}: {word:?} is neither true nor false")),
        },
        Some(other) => Err(format!("{name}: {other} is neither true nor false")),
    }
}

/// A plugin's name without the collection that is Ansible's own.
fn without_collection(name: &str) -> &str {
    name.strip_prefix("ansible.builtin.").or_else(|| name.strip_prefix("ansible.legacy.")).unwrap_or(name)
}

/// What is wrong: a sentence of our own, or what a file's reader said with its place.
struct Wrong(Failure);

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self(Failure::new(Kind::CouldNotStart, what))
    }
}

impl From<Failure> for Wrong {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

/// More hops than this are a circle, or a mistake.
const MOST_HOPS: usize = 8;

/// What is wanted of one server, besides what ssh_config says.
struct Wanted<'a> {
    /// The inventory's name, or the jump host's.
    host: &'a str,
    /// The name that ssh_config is asked about.
    address: &'a str,
    user: Option<String>,
    port: Option<u16>,
    timeout: Option<Duration>,
    key: Option<PathBuf>,
    /// That key's passphrase.
    passphrase: Option<SecretString>,
    /// Host key checking was switched off.
    unchecked: bool,
}

impl Reach {
    /// With these defaults.
    pub fn new(defaults: Defaults) -> Self {
        Self { defaults, passwords: Mutex::default(), logins: Mutex::default(), hub: Hub::default() }
    }

    fn password(&self, value: SecretString) -> Arc<Password> {
        self.defaults.masker.learn(&value);
        let mut passwords = self.passwords.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(passwords.entry(value.expose_secret().to_owned()).or_insert_with(|| Password::new(value)))
    }

    /// The password to log in with: of the variable, else of the command line. Equal ones are one, tried once.
    fn login_password(&self, vars: &Map<String, Value>) -> Option<Arc<LoginPassword>> {
        let value = text(vars, &["ansible_password", "ansible_ssh_pass", "ansible_ssh_password"])
            .map(|(_, password)| SecretString::from(password))
            .or_else(|| self.defaults.login_password.clone())
            .filter(|value| !value.expose_secret().is_empty())?;
        Some(self.login(value))
    }

    /// The one login password of this value.
    fn login(&self, value: SecretString) -> Arc<LoginPassword> {
        self.defaults.masker.learn(&value);
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(logins.entry(value.expose_secret().to_owned()).or_insert_with(|| LoginPassword::new(value)))
    }

    /// The password for the jump hosts: `ferry_jump_password`. The host's own is never shown to a bastion, nor this one to
    /// the host, unless they are given as equal.
    fn jump_password(&self, vars: &Map<String, Value>) -> Option<Arc<LoginPassword>> {
        let (_, value) = text(vars, &["ferry_jump_password"]).filter(|(_, value)| !value.is_empty())?;
        Some(self.login(value.into()))
    }

    /// The way to one host.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] with the variable, what was seen and what was expected.
    pub fn way(&self, host: &str, vars: &Map<String, Value>) -> Result<Way, Failure> {
        let theirs = &self.defaults.theirs;
        let all;
        let vars = if theirs.is_empty() {
            vars
        } else {
            all = self.with_theirs(vars);
            &all
        };
        self.make(host, vars).map_err(|Wrong(failure)| failure.on(host))
    }

    /// These variables over what Ansible's settings say; a flag that means the same is over both.
    fn with_theirs(&self, vars: &Map<String, Value>) -> Map<String, Value> {
        let mut all = vars.clone();
        for (name, value) in &self.defaults.theirs {
            let (also, flag): (&[&str], bool) = match name.as_str() {
                "ansible_become" => (&[], self.defaults.become_on),
                "ansible_become_user" => (&["ansible_sudo_user"], false),
                "ansible_become_flags" => (&["ansible_sudo_flags"], false),
                "ansible_become_exe" => (&["ansible_sudo_exe"], false),
                "ansible_port" => (&["ansible_ssh_port"], false),
                "ansible_ssh_common_args" => (&[], self.defaults.ssh_common_args.is_some()),
                _ => (&[], false),
            };
            let set = |name: &str| vars.get(name).is_some_and(|value| !value.is_null());
            if !flag && !set(name) && !also.iter().any(|name| set(name)) {
                all.insert(name.clone(), value.clone());
            }
        }
        all
    }

    /// What cannot be done as it is asked for, and would be done in another way if it were passed over.
    fn refuse(vars: &Map<String, Value>) -> Result<(), String> {
        let set = |name: &str| vars.get(name).is_some_and(|value| !value.is_null() && value != "");
        // The value is a secret, and is not shown.
        if let Some(name) = ["ansible_private_key", "ansible_ssh_private_key"].into_iter().find(|name| set(name)) {
            return Err(format!(
                "{name}: a key in a variable is not read: put it into a file of mode 0600 (ansible_private_key_file), or into the agent (ssh-add -)"
            ));
        }
        if let Some((name, program)) = text(vars, &["ansible_ssh_executable"])
            && !program.is_empty()
            && Path::new(&program).file_name() != Some("ssh".as_ref())
        {
            return Err(format!(
                "{name}: {program:?}: ferry speaks SSH itself and starts no such program; what it adds can stand in ssh_config, or be a ProxyCommand"
            ));
        }
        if let Some((name, kind)) = text(vars, &["ansible_shell_type"])
            && !["", "sh", "bash", "dash", "ksh", "zsh", "csh", "tcsh", "fish"].contains(&kind.as_str())
        {
            return Err(format!("{name}: {kind:?} is not built: a POSIX sh is needed on a host"));
        }
        if let Some((name, _)) = text(vars, &["ansible_sudo_chdir"]).filter(|(_, folder)| !folder.is_empty()) {
            return Err(format!("{name} is not built: say where with chdir, or in sudoers (runcwd)"));
        }
        Ok(())
    }

    fn make(&self, host: &str, vars: &Map<String, Value>) -> Result<Way, Wrong> {
        Self::refuse(vars)?;
        let become_plan = self.become_plan(vars)?;
        let kind = text(vars, &["ansible_connection"]).map(|(_, kind)| without_collection(&kind).to_owned());
        match kind.as_deref() {
            None | Some("ssh" | "smart") => {}
            Some("local") => return Ok(Way::Local(LocalSession::new(host, become_plan))),
            Some(other) => {
                return Err(format!("ansible_connection: {other:?} is not built: ssh or local expected").into());
            }
        }
        let (mut given, mut from) = (Given::default(), None);
        for name in ["ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"] {
            if let Some((_, value)) = text(vars, &[name]) {
                options::parse(&value, &mut given).map_err(|what| format!("{name}: {what}"))?;
                from = Some(name);
            }
        }
        if let Some(value) = &self.defaults.ssh_common_args {
            options::parse(value, &mut given).map_err(|what| format!("--ssh-common-args: {what}"))?;
            from = Some("--ssh-common-args");
        }
        if let Some((_, provider)) = text(vars, &["ansible_ssh_pkcs11_provider"]).filter(|(_, path)| !path.is_empty()) {
            given.add("PKCS11Provider", provider);
        }
        let address = text(vars, &["ansible_host", "ansible_ssh_host"]).map(|(_, address)| address);
        let port = match text(vars, &["ansible_port", "ansible_ssh_port"]) {
            Some((name, port)) => Some(
                port.parse().ok().filter(|port| *port > 0).ok_or(format!("{name}: {port:?}: 1 to 65535 expected"))?,
            ),
            None => None,
        };
        let timeout = match text(vars, &["ansible_ssh_timeout", "ansible_timeout"]) {
            Some((name, seconds)) => Some(Duration::from_secs(
                seconds.parse().ok().filter(|s| *s > 0).ok_or(format!("{name}: {seconds:?}: seconds expected"))?,
            )),
            None => self.defaults.timeout_given.then_some(self.defaults.timeout),
        };
        let unchecked = [truth(vars, "ansible_host_key_checking")?, truth(vars, "ansible_ssh_host_key_checking")?]
            .into_iter()
            .flatten()
            .next()
            .or(self.defaults.host_key_checking)
            == Some(false);
        let key = text(vars, &["ansible_private_key_file", "ansible_ssh_private_key_file"])
            .map(|(_, path)| self.expand(&path))
            .or_else(|| self.defaults.private_key.clone());
        let user =
            text(vars, &["ansible_user", "ansible_ssh_user"]).map(|(_, user)| user).or(self.defaults.user.clone());
        let passphrase = text(vars, &["ansible_private_key_passphrase", "ansible_ssh_private_key_passphrase"])
            .map(|(_, secret)| SecretString::from(secret))
            .filter(|secret| !secret.expose_secret().is_empty());
        passphrase.iter().for_each(|secret| self.defaults.masker.learn(secret));
        let address = address.as_deref().unwrap_or(host);
        let wanted = Wanted { host, address, user, port, timeout, key, passphrase, unchecked };
        let mut target = self.target(&wanted, &given, &mut Vec::new()).map_err(|Wrong(mut failure)| {
            // What no file is to blame for, the options are: their variable has a place in the inventory.
            if let (None, Some(from)) = (&failure.place, from) {
                failure.what = format!("{from}: {}", failure.what);
            }
            Wrong(failure)
        })?;
        target.identities.password = self.login_password(vars);
        let (mut hop, password) = (target.jump.as_deref_mut(), self.jump_password(vars));
        while let Some(server) = hop {
            server.identities.password = password.clone();
            hop = server.jump.as_deref_mut();
        }
        target.become_plan = become_plan;
        target.socket.retries = match text(vars, &["ansible_ssh_retries"]) {
            Some((name, times)) => times.parse().map_err(|_| format!("{name}: {times:?}: a whole number expected"))?,
            None => 0,
        };
        Ok(Way::Ssh(Box::new(target)))
    }

    /// One server, by what is wanted, then the options, then ssh_config; and the servers on the way to it. `on_the_way` are
    /// those that are being resolved: one that leads to itself is an error.
    fn target(&self, wanted: &Wanted<'_>, given: &Given, on_the_way: &mut Vec<String>) -> Result<Target, Wrong> {
        let here = &self.defaults.here;
        let files = match &given.file {
            Some(file) => Files::only(&self.expand(&file.display().to_string())),
            None => Files::usual(&here.home),
        };
        let asked = wanted.address;
        let mut first = given.options.clone();
        // Match blocks see the user that the variables say.
        if let Some(user) = &wanted.user {
            first.insert(0, ("User".to_owned(), format!("\"{}\"", user.replace('\\', "\\\\").replace('"', "\\\""))));
        }
        let resolved = config::resolve(asked, &first, &files, here)?;
        let port = wanted.port.or(resolved.port()).unwrap_or(22);
        let user = resolved.value("user").map_or_else(|| here.user.clone(), str::to_owned);
        let path = |text: &str| resolved.path(text, asked, port, &user, here);
        let paths = |name: &str| -> Result<Vec<PathBuf>, String> {
            let list = resolved.list(name).iter().filter(|path| !path.eq_ignore_ascii_case("none"));
            list.map(|text| path(text)).collect()
        };
        // What the command line names must be there; what ssh_config names is tried when it is.
        let said: Vec<PathBuf> = given
            .all("identityfile")
            .filter(|path| !path.eq_ignore_ascii_case("none"))
            .map(|text| path(text.trim_matches('"')))
            .collect::<Result<_, _>>()?;
        let mut named: Vec<PathBuf> = wanted.key.clone().into_iter().collect();
        named.extend(said.iter().filter(|path| !named.contains(path)).cloned().collect::<Vec<_>>());
        let mut usual: Vec<PathBuf> = paths("identityfile")?.into_iter().filter(|path| !named.contains(path)).collect();
        if named.is_empty() && resolved.list("identityfile").is_empty() {
            usual = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"]
                .iter()
                .map(|name| self.home(&format!(".ssh/{name}")))
                .collect();
        }
        let agent = match resolved.value("identityagent") {
            Some("none") => None,
            Some("SSH_AUTH_SOCK") | None => self.defaults.agent.clone(),
            Some(name) if name.starts_with('$') && !name.starts_with("${") => {
                (here.env)(name.get(1..).unwrap_or_default()).map(PathBuf::from)
            }
            Some(text) => Some(path(text)?),
        };
        let mut identities = self.defaults.identities.with(named, usual, agent);
        if let (Some(key), Some(secret)) = (&wanted.key, &wanted.passphrase) {
            let (key, secret, ask) = (key.clone(), secret.clone(), Arc::clone(&identities.ask));
            identities.ask = Arc::new(move |path| if *path == key { Some(secret.clone()) } else { ask(path) });
        }
        identities.certificates = paths("certificatefile")?;
        identities.identities_only = resolved.yes("identitiesonly") == Some(true);
        let allowed = |name: &str| !matches!(resolved.value(name), Some("no" | "false"));
        identities.methods = Method::order(
            resolved.value("preferredauthentications"),
            allowed("pubkeyauthentication"),
            allowed("kbdinteractiveauthentication"),
            allowed("passwordauthentication"),
        );
        identities.batch = resolved.yes("batchmode") == Some(true);
        identities.accepted = resolved.value("pubkeyacceptedalgorithms").map(|spec| {
            let all = connect::SIGNATURES;
            config::algorithms(spec, all, all)
        });
        let careless = wanted.unchecked && resolved.value("stricthostkeychecking").is_none()
            || resolved.value("stricthostkeychecking") == Some("no");
        let strict = match resolved.value("stricthostkeychecking") {
            _ if careless => Strict::AcceptNew,
            Some("accept-new") => Strict::AcceptNew,
            None | Some("ask") if self.defaults.person && !identities.batch => Strict::Ask,
            _ => Strict::Yes,
        };
        let mut known_hosts = paths("userknownhostsfile")?;
        if resolved.list("userknownhostsfile").is_empty() {
            known_hosts = vec![self.home(".ssh/known_hosts"), self.home(".ssh/known_hosts2")];
        }
        match resolved.list("globalknownhostsfile") {
            [] => known_hosts.extend(["/etc/ssh/ssh_known_hosts".into(), "/etc/ssh/ssh_known_hosts2".into()]),
            list => {
                known_hosts.extend(list.iter().filter(|path| !path.eq_ignore_ascii_case("none")).map(PathBuf::from));
            }
        }
        let (jump, proxy) = self.road(wanted, given, &resolved, (port, &user), on_the_way)?;
        let text = |name: &str| resolved.value(name).map(str::to_owned);
        Ok(Target {
            host: wanted.host.to_owned(),
            address: resolved.host_name.clone(),
            port,
            identities,
            known_hosts,
            host_key_alias: text("hostkeyalias"),
            strict,
            careless,
            hash_known_hosts: resolved.yes("hashknownhosts") == Some(true),
            timeout: wanted
                .timeout
                .or_else(|| resolved.seconds("connecttimeout").filter(|s| *s > 0).map(Duration::from_secs))
                .unwrap_or(self.defaults.timeout),
            jump: jump.map(Box::new),
            proxy,
            socket: Socket {
                family: match resolved.value("addressfamily") {
                    Some("inet") => Some(Family::V4),
                    Some("inet6") => Some(Family::V6),
                    _ => None,
                },
                bind: match resolved.value("bindaddress") {
                    Some(text) => {
                        Some(text.parse().map_err(|_| format!("BindAddress {text:?}: an IP address expected"))?)
                    }
                    None => None,
                },
                retries: 0,
            },
            algorithms: Algorithms {
                kex: text("kexalgorithms"),
                ciphers: text("ciphers"),
                macs: text("macs"),
                host_keys: text("hostkeyalgorithms"),
            },
            alive: resolved
                .seconds("serveraliveinterval")
                .filter(|seconds| *seconds > 0)
                .map(|seconds| (seconds, resolved.number("serveralivecountmax").unwrap_or(3))),
            notes: resolved.notes.clone(),
            become_plan: Become::off(),
            hub: self.hub.clone(),
            user,
        })
    }

    /// What lies before a server: its jump hosts, the last one with the others before it, or a command.
    fn road(
        &self,
        wanted: &Wanted<'_>,
        given: &Given,
        resolved: &Resolved,
        (port, user): (u16, &str),
        on_the_way: &mut Vec<String>,
    ) -> Result<(Option<Target>, Option<Proxy>), Wrong> {
        let command = resolved.proxy_command(wanted.address, port, user)?;
        if let Some(command) = command {
            return Ok((None, Some(Proxy { command, hide: self.defaults.hide.clone() })));
        }
        let hops = resolved.proxy_jump();
        let Some((last, before)) = hops.split_last() else { return Ok((None, None)) };
        let name = format!("{}:{port}", resolved.host_name);
        if on_the_way.contains(&name) || on_the_way.len() > MOST_HOPS {
            on_the_way.push(name);
            return Err(format!("the jump hosts lead in a circle: {}", on_the_way.join(" < ")).into());
        }
        on_the_way.push(name);
        // A jump host is asked about in ssh_config by its own name, as ssh does. What the options say about trust, keys and
        // algorithms holds for it as well, where its own blocks say nothing: the operator gave them for this connection.
        let mut options = Given { options: Vec::new(), file: given.file.clone() };
        let jump = match before {
            [] => None,
            before => {
                let spell = |hop: &Hop| {
                    let user = hop.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                    let port = hop.port.map(|port| format!(":{port}")).unwrap_or_default();
                    let host = if hop.host.contains(':') { format!("[{}]", hop.host) } else { hop.host.clone() };
                    format!("{user}{host}{port}")
                };
                Some(before.iter().map(spell).collect::<Vec<_>>().join(","))
            }
        };
        if let Some(jump) = jump {
            options.add("ProxyJump", jump);
        }
        for name in [
            "identityfile",
            "certificatefile",
            "identityagent",
            "identitiesonly",
            "userknownhostsfile",
            "globalknownhostsfile",
            "stricthostkeychecking",
            "hashknownhosts",
            "kexalgorithms",
            "ciphers",
            "macs",
            "hostkeyalgorithms",
            "pubkeyacceptedalgorithms",
            "connecttimeout",
        ] {
            given.all(name).for_each(|value| options.add(name, value));
        }
        let hop = Wanted {
            host: &last.host,
            address: &last.host,
            user: last.user.clone(),
            port: last.port,
            timeout: wanted.timeout,
            key: wanted.key.clone(),
            passphrase: wanted.passphrase.clone(),
            unchecked: wanted.unchecked,
        };
        let hop = self
            .target(&hop, &options, on_the_way)
            .map_err(|Wrong(failure)| Wrong(failure.within(format!("jump host {}", last.host))))?;
        on_the_way.pop();
        Ok((Some(hop), None))
    }

    fn become_plan(&self, vars: &Map<String, Value>) -> Result<Become, String> {
        let on = truth(vars, "ansible_become")?.unwrap_or(self.defaults.become_on);
        if let Some((_, method)) = text(vars, &["ansible_become_method"])
            && without_collection(&method) != "sudo"
        {
            return Err(format!("ansible_become_method: {method:?} is not built: sudo expected"));
        }
        let names = ["ansible_become_password", "ansible_become_pass", "ansible_sudo_pass", "ansible_sudo_password"];
        let password = text(vars, &names)
            .map(|(_, password)| SecretString::from(password))
            .or_else(|| self.defaults.become_password.clone())
            .map(|value| self.password(value));
        let flags = match text(vars, &["ansible_become_flags", "ansible_sudo_flags"]) {
            Some((name, flags)) => shlex::split(&flags).ok_or_else(|| format!("{name}: a quote is not closed"))?,
            None => Vec::new(),
        };
        // -H, -S and -n are what the exchange decides by itself.
        let flags =
            flags.into_iter().filter(|flag| !["-H", "-S", "-n", "-k", "-HSn"].contains(&flag.as_str())).collect();
        Ok(Become {
            on,
            user: text(vars, &["ansible_become_user", "ansible_sudo_user"])
                .map_or_else(|| "root".to_owned(), |(_, user)| user),
            exe: text(vars, &["ansible_become_exe", "ansible_sudo_exe"])
                .map_or_else(|| "sudo".to_owned(), |(_, exe)| exe),
            flags,
            password,
        })
    }

    fn home(&self, below: &str) -> PathBuf {
        self.defaults.here.home.join(below)
    }

    fn expand(&self, path: &str) -> PathBuf {
        path.strip_prefix("~/").map_or_else(|| PathBuf::from(path), |rest| self.home(rest))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reach(home: &Path, change: impl FnOnce(&mut Defaults)) -> Reach {
        let mut defaults = Defaults {
            user: None,
            become_on: false,
            private_key: None,
            ssh_common_args: None,
            login_password: None,
            become_password: None,
            agent: None,
            here: Here {
                home: home.to_owned(),
                user: "me".to_owned(),
                uid: 1000,
                machine: "here".to_owned(),
                env: |_| None,
            },
            hide: Vec::new(),
            host_key_checking: None,
            identities: Identities::new(Vec::new(), Vec::new(), None, Arc::new(|_| None)),
            timeout: Duration::from_secs(10),
            timeout_given: false,
            masker: Masker::new(),
            person: false,
            theirs: Map::new(),
        };
        change(&mut defaults);
        Reach::new(defaults)
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    /// What a way says of itself, in one line.
    fn shown(way: &Way) -> String {
        let (target, plan) = match way {
            Way::Ssh(target) => (target, &target.become_plan),
            Way::Local(session) => return format!("local {}", session.become_plan().user),
            Way::Fake(_) => return "fake".to_owned(),
        };
        let hops: Vec<String> = std::iter::successors(target.jump.as_deref(), |hop| hop.jump.as_deref())
            .map(|hop| format!(" < {}@{}:{}", hop.user, hop.address, hop.port))
            .collect();
        let flags: String = plan.flags.iter().map(|flag| format!(" {flag}")).collect();
        let become_ = if plan.on { format!(" {} {}{flags}", plan.exe, plan.user) } else { String::new() };
        let key = target.identities.named.first().map(|key| format!(" {}", key.display())).unwrap_or_default();
        let retries =
            if target.socket.retries > 0 { format!(" retries {}", target.socket.retries) } else { String::new() };
        let notes = target.notes.iter().filter(|note| note.contains("PKCS11")).count();
        let notes = if notes > 0 { " PKCS#11" } else { "" };
        let careless = if target.careless { " careless" } else { "" };
        let timeout = target.timeout.as_secs();
        let timeout = if timeout == 10 { String::new() } else { format!(" {timeout} s") };
        format!(
            "{}@{}:{}{key}{}{become_}{timeout}{retries}{careless}{notes}",
            target.user,
            target.address,
            target.port,
            hops.concat()
        )
        .trim_end()
        .to_owned()
    }

    /// Every connection variable of Ansible's does what it says, is passed over by name, or is refused by name.
    #[test]
    fn every_connection_variable_is_honoured_passed_over_or_refused() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config");
        std::fs::write(&file, "Host *\n  Port 2200\n  User file\n").unwrap();
        let none = "-F none ";
        let way = |reach: &Reach, vars: Value| {
            let mut vars = map(vars);
            let args = vars.get("ansible_ssh_args").and_then(Value::as_str).unwrap_or_default().to_owned();
            if !Value::Object(vars.clone()).to_string().contains("-F") {
                vars.insert("ansible_ssh_args".to_owned(), json!(format!("{none}{args}")));
            }
            reach.way("h", &vars).map(|way| shown(&way))
        };
        let plain = reach(home.path(), |_| ());
        let named = format!("-F {} ", file.display());
        let cases = [
            (json!({}), "me@h:22"),
            (json!({"ansible_host": "a", "ansible_port": 23, "ansible_user": "u"}), "u@a:23"),
            (json!({"ansible_ssh_host": "a", "ansible_ssh_port": "23", "ansible_ssh_user": "u"}), "u@a:23"),
            (json!({"ansible_private_key_file": "/k"}), "me@h:22 /k"),
            (json!({"ansible_ssh_private_key_file": "/k"}), "me@h:22 /k"),
            (json!({"ansible_ssh_common_args": "-J x@b:24,y@c"}), "me@h:22 < y@c:22 < x@b:24"),
            (json!({"ansible_ssh_extra_args": "-o ProxyJump=b -p 25 -l u -i /k"}), "u@h:25 /k < me@b:22"),
            (json!({"ansible_ssh_args": named}), "file@h:2200"),
            // -F stands wherever options of ssh do.
            (
                json!({"ansible_ssh_args": "-C", "ansible_ssh_common_args": format!("-F {}", file.display())}),
                "file@h:2200",
            ),
            (json!({"ansible_ssh_args": named, "ansible_port": 26}), "file@h:26"),
            (json!({"ansible_ssh_timeout": 3}), "me@h:22 3 s"),
            (json!({"ansible_timeout": "3"}), "me@h:22 3 s"),
            (json!({"ansible_ssh_retries": 2}), "me@h:22 retries 2"),
            (json!({"ansible_host_key_checking": "no"}), "me@h:22 careless"),
            (json!({"ansible_ssh_host_key_checking": false}), "me@h:22 careless"),
            (json!({"ansible_ssh_extra_args": "-o StrictHostKeyChecking=no"}), "me@h:22 careless"),
            (json!({"ansible_ssh_pkcs11_provider": "/p.so"}), "me@h:22 PKCS#11"),
            (json!({"ansible_ssh_extra_args": "-o IdentityFile=none"}), "me@h:22"),
            (json!({"ansible_connection": "ansible.builtin.ssh"}), "me@h:22"),
            (json!({"ansible_connection": "ansible.legacy.local"}), "local root"),
            (json!({"ansible_become": "yes"}), "me@h:22 sudo root"),
            (
                json!({"ansible_become": true, "ansible_become_user": "u", "ansible_become_exe": "/s", "ansible_become_flags": "-H -S -n -E"}),
                "me@h:22 /s u -E",
            ),
            (
                json!({"ansible_become": true, "ansible_sudo_user": "u", "ansible_sudo_exe": "/s", "ansible_sudo_flags": "-E"}),
                "me@h:22 /s u -E",
            ),
            (json!({"ansible_become": true, "ansible_become_method": "ansible.builtin.sudo"}), "me@h:22 sudo root"),
            (json!({"ansible_ssh_executable": "/opt/openssh/bin/ssh", "ansible_shell_type": "fish"}), "me@h:22"),
        ];
        for (vars, expected) in cases {
            assert_eq!(way(&plain, vars.clone()).unwrap(), expected, "{vars}");
        }
        let refused = [
            (json!({"ansible_private_key": "-----BEGIN"}), "ansible_private_key: a key in a variable is not read"),
            (json!({"ansible_ssh_private_key": "-----BEGIN"}), "ansible_ssh_private_key: a key in a variable"),
            (json!({"ansible_ssh_executable": "/usr/bin/tsh"}), "ansible_ssh_executable: \"/usr/bin/tsh\""),
            (json!({"ansible_shell_type": "powershell"}), "ansible_shell_type: \"powershell\" is not built"),
            (json!({"ansible_sudo_chdir": "/x"}), "ansible_sudo_chdir is not built"),
            (json!({"ansible_connection": "paramiko"}), "ansible_connection: \"paramiko\" is not built"),
            (json!({"ansible_become_method": "su"}), "ansible_become_method: \"su\" is not built"),
            (json!({"ansible_ssh_retries": "often"}), "ansible_ssh_retries: \"often\""),
            (json!({"ansible_port": 0}), "ansible_port: \"0\""),
            (json!({"ansible_ssh_common_args": "-W x:1"}), "ansible_ssh_common_args: -W is an option"),
        ];
        for (vars, expected) in refused {
            let failure = way(&plain, vars.clone()).unwrap_err();
            assert!(failure.what.contains(expected), "{vars}: {failure:?}");
            assert!(!format!("{failure:?}").contains("BEGIN"), "{failure:?}");
        }
        let vars = json!({"ansible_pipelining": true, "ansible_python_interpreter": "x", "ansible_user": "u", "ansible_remote_tmp": null});
        let named: Vec<&str> = passed_over(&map(vars)).map(|(name, _)| name).collect();
        assert_eq!(named, ["ansible_pipelining", "ansible_python_interpreter"]);
        // What is read for a task of a playbook is all that is read here.
        let source = include_str!("reach.rs");
        for name in source.split('"').filter(|word| {
            word.len() > 8 && word.starts_with("ansible_") && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        }) {
            let known = WAY.iter().chain(BECOME).any(|known| *known == name);
            assert!(known || PASSED_OVER.iter().any(|(known, _)| *known == name), "{name} is in no list");
        }
    }

    /// Settings of Ansible's stand below variables and flags.
    #[test]
    fn what_ansible_cfg_says_stands_below_all_else() {
        let home = tempfile::tempdir().unwrap();
        let theirs = json!({
            "ansible_ssh_args": "-F none -C", "ansible_ssh_common_args": "-J b", "ansible_become": "True",
            "ansible_become_user": "svc", "ansible_ssh_retries": "3",
        });
        let with = |change: &dyn Fn(&mut Defaults)| {
            reach(home.path(), |defaults| {
                defaults.theirs = map(theirs.clone());
                change(defaults);
            })
        };
        let cases: [(Reach, Value, &str); 5] = [
            (with(&|_| ()), json!({}), "me@h:22 < me@b:22 sudo svc retries 3"),
            (with(&|_| ()), json!({"ansible_become": false}), "me@h:22 < me@b:22 retries 3"),
            (
                with(&|_| ()),
                json!({"ansible_sudo_user": "x", "ansible_ssh_common_args": "-J c", "ansible_ssh_retries": 0}),
                "me@h:22 < me@c:22 sudo x",
            ),
            (
                with(&|defaults| defaults.ssh_common_args = Some("-J d".to_owned())),
                json!({}),
                "me@h:22 < me@d:22 sudo svc retries 3",
            ),
            (
                with(&|defaults| {
                    defaults.theirs.insert("ansible_become".to_owned(), json!("False"));
                    defaults.become_on = true;
                }),
                json!({}),
                "me@h:22 < me@b:22 sudo svc retries 3",
            ),
        ];
        for (reach, vars, expected) in cases {
            assert_eq!(shown(&reach.way("h", &map(vars.clone())).unwrap()), expected, "{vars}");
        }
    }
}
