//! From a host's variables to the way there: Ansible's connection and become variables, read once,
//! every wrong one told, before any host is touched.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::Way;
use super::local::LocalSession;
use super::ssh::auth::{Identities, LoginPassword};
use super::ssh::connect::{Strict, Target};
use super::ssh::hub::Hub;
use super::ssh::options::{self, SshOptions};
use super::sudo::{Become, Password};
use crate::failure::{Failure, Kind};
use crate::secret::{ExposeSecret as _, Masker, SecretString};

/// What the command line and the environment say where a host's variables say nothing.
pub struct Defaults {
    /// `-u`, else the user who runs ferry.
    pub user: String,
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
    /// The home of whoever runs ferry: `~/.ssh` is there.
    pub home: PathBuf,
    /// Keys that were read, and who to ask for passphrases.
    pub identities: Identities,
    /// Limit of each step of connecting.
    pub timeout: Duration,
    /// Where secrets are made known.
    pub masker: Masker,
    /// Somebody sits at a terminal and can be asked about host keys.
    pub person: bool,
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
        Some(Value::String(word)) => match word.to_lowercase().as_str() {
            "yes" | "true" | "on" | "1" => Ok(Some(true)),
            "no" | "false" | "off" | "0" => Ok(Some(false)),
            _ => Err(format!("{name}: {word:?} is neither true nor false")),
        },
        Some(other) => Err(format!("{name}: {other} is neither true nor false")),
    }
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
        self.defaults.masker.learn(&value);
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(logins.entry(value.expose_secret().to_owned()).or_insert_with(|| LoginPassword::new(value))))
    }

    /// The way to one host.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] with the variable, what was seen and what was expected.
    pub fn way(&self, host: &str, vars: &Map<String, Value>) -> Result<Way, Failure> {
        self.make(host, vars).map_err(|what| Failure::new(Kind::CouldNotStart, what).on(host))
    }

    fn make(&self, host: &str, vars: &Map<String, Value>) -> Result<Way, String> {
        let become_plan = self.become_plan(vars)?;
        match text(vars, &["ansible_connection"]).map(|(_, kind)| kind).as_deref() {
            None | Some("ssh" | "smart") => {}
            Some("local") => return Ok(Way::Local(LocalSession::new(host, become_plan))),
            Some(other) => return Err(format!("ansible_connection: {other:?} is not built: ssh or local expected")),
        }
        let mut given = SshOptions::default();
        for name in ["ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"] {
            if let Some((_, value)) = text(vars, &[name]) {
                options::parse(&value, &mut given).map_err(|what| format!("{name}: {what}"))?;
            }
        }
        if let Some(value) = &self.defaults.ssh_common_args {
            options::parse(value, &mut given).map_err(|what| format!("--ssh-common-args: {what}"))?;
        }
        if truth(vars, "ansible_host_key_checking")? == Some(false)
            || truth(vars, "ansible_ssh_host_key_checking")? == Some(false)
        {
            return Err("ansible_host_key_checking: false is not honoured: an archive with every secret of a platform goes over \
                        this connection. Write -o StrictHostKeyChecking=accept-new to take new keys; a changed one is always refused"
                .to_owned());
        }
        let port = match text(vars, &["ansible_port", "ansible_ssh_port"]) {
            Some((name, port)) => {
                port.parse().ok().filter(|port| *port > 0).ok_or(format!("{name}: {port:?}: 1 to 65535 expected"))?
            }
            None => given.port.unwrap_or(22),
        };
        let timeout = match text(vars, &["ansible_ssh_timeout", "ansible_timeout"]) {
            Some((name, seconds)) => Duration::from_secs(
                seconds.parse().ok().filter(|s| *s > 0).ok_or(format!("{name}: {seconds:?}: seconds expected"))?,
            ),
            None => given.connect_timeout.map_or(self.defaults.timeout, Duration::from_secs),
        };
        let key = text(vars, &["ansible_private_key_file", "ansible_ssh_private_key_file"])
            .map(|(_, path)| self.expand(&path));
        let mut named: Vec<PathBuf> = key.or_else(|| self.defaults.private_key.clone()).into_iter().collect();
        named.extend(given.identities.iter().cloned());
        let strict = match given.strict.as_deref() {
            None | Some("ask") if self.defaults.person => Strict::Ask,
            None | Some("yes" | "true" | "ask") => Strict::Yes,
            Some("accept-new") => Strict::AcceptNew,
            Some(other) => {
                return Err(format!("StrictHostKeyChecking={other} is not honoured: yes or accept-new expected"));
            }
        };
        let agent = match given.identity_agent.as_deref() {
            Some("none") => None,
            Some(path) => Some(self.expand(path)),
            None => self.defaults.agent.clone(),
        };
        let known_hosts = [
            given
                .user_known_hosts
                .clone()
                .unwrap_or_else(|| vec![self.home(".ssh/known_hosts"), self.home(".ssh/known_hosts2")]),
            given
                .global_known_hosts
                .clone()
                .unwrap_or_else(|| vec!["/etc/ssh/ssh_known_hosts".into(), "/etc/ssh/ssh_known_hosts2".into()]),
        ]
        .concat();
        let usual = if named.is_empty() {
            ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"]
                .iter()
                .map(|name| self.home(&format!(".ssh/{name}")))
                .collect()
        } else {
            Vec::new()
        };
        let user = text(vars, &["ansible_user", "ansible_ssh_user"])
            .map(|(_, user)| user)
            .or(given.user.clone())
            .unwrap_or_else(|| self.defaults.user.clone());
        let address =
            text(vars, &["ansible_host", "ansible_ssh_host"]).map(|(_, address)| address).or(given.host_name.clone());
        let mut identities = self.defaults.identities.with(named, usual, agent);
        identities.identities_only = given.identities_only == Some(true);
        identities.password = self.login_password(vars);
        let mut target = Target {
            host: host.to_owned(),
            address: address.unwrap_or_else(|| host.to_owned()),
            port,
            user,
            identities,
            known_hosts,
            host_key_alias: given.host_key_alias.clone(),
            strict,
            hash_known_hosts: given.hash_known_hosts.unwrap_or(false),
            timeout,
            jump: None,
            become_plan,
            hub: self.hub.clone(),
        };
        if let Some(jump) = given.jump.filter(|jump| !jump.is_empty()) {
            let (user, address, port) = options::hop(&jump)?;
            let mut hop = target.clone();
            (hop.address, hop.port, hop.host_key_alias) = (address.clone(), port.unwrap_or(22), None);
            hop.host = address;
            hop.user = user.unwrap_or_else(|| self.defaults.user.clone());
            hop.become_plan = Become::off();
            // The password is the host's: a bastion is another machine, with other eyes on it.
            hop.identities.password = None;
            target.jump = Some(Box::new(hop));
        }
        Ok(Way::Ssh(Box::new(target)))
    }

    fn become_plan(&self, vars: &Map<String, Value>) -> Result<Become, String> {
        let on = truth(vars, "ansible_become")?.unwrap_or(self.defaults.become_on);
        if let Some((_, method)) = text(vars, &["ansible_become_method"])
            && method != "sudo"
        {
            return Err(format!("ansible_become_method: {method:?} is not built: sudo expected"));
        }
        let password = text(vars, &["ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"])
            .map(|(_, password)| SecretString::from(password))
            .or_else(|| self.defaults.become_password.clone())
            .map(|value| self.password(value));
        let flags = match text(vars, &["ansible_become_flags"]) {
            Some((_, flags)) => shlex::split(&flags).ok_or("ansible_become_flags: a quote is not closed")?,
            None => Vec::new(),
        };
        // -H, -S and -n are what the exchange decides by itself.
        let flags =
            flags.into_iter().filter(|flag| !["-H", "-S", "-n", "-k", "-HSn"].contains(&flag.as_str())).collect();
        Ok(Become {
            on,
            user: text(vars, &["ansible_become_user"]).map_or_else(|| "root".to_owned(), |(_, user)| user),
            exe: text(vars, &["ansible_become_exe"]).map_or_else(|| "sudo".to_owned(), |(_, exe)| exe),
            flags,
            password,
        })
    }

    fn home(&self, below: &str) -> PathBuf {
        self.defaults.home.join(below)
    }

    fn expand(&self, path: &str) -> PathBuf {
        path.strip_prefix("~/").map_or_else(|| PathBuf::from(path), |rest| self.home(rest))
    }
}
