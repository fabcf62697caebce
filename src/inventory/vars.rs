//! The variables that ferry itself reads, checked.
//!
//! What lives here: the table of all `pce_` and `ferry_` variables and of the connection variables
//! that are used, the check of one value, and the typed reading for one host. What does not: where
//! a variable was set (the inventory knows) and defaults that depend on a node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::Inventory;
use crate::failure::{Failure, Kind};
use crate::name::{HostName, nearest};
use crate::secret::SecretString;
use crate::settings::duration;
use crate::settings::yaml::{VAULT_KEY, quoted};
use crate::template::{has_template, is_template};

/// What kind of value a variable takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarKind {
    /// Text without control characters; a whole number is taken as its digits.
    Text,
    /// Text that must be quoted when it looks like a number (`3.10` is not `3.1`).
    Version,
    /// One word: a user, a name.
    Word,
    /// A host name or address.
    Address,
    /// true or false.
    Bool,
    /// 1 to 65535.
    Port,
    /// A duration with units, such as `20m`.
    Duration,
    /// Whole seconds, as Ansible has its timeouts.
    Seconds,
    /// An absolute path without `..`.
    AbsolutePath,
    /// A path here; `~` and relative ones are allowed.
    LocalPath,
    /// A regular expression.
    Pattern,
    /// A list of words.
    Words,
    /// How a host is reached.
    Connection,
    /// How another user is become.
    BecomeMethod,
    /// Text that is never shown.
    Secret,
}

/// One variable of the table.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The name that product.md and Ansible give it.
    pub name: &'static str,
    /// Other names, in the order in which they are looked at after the first.
    pub aliases: &'static [&'static str],
    /// What it takes.
    pub kind: VarKind,
    /// What it means, in a line.
    pub doc: &'static str,
}

const fn known(name: &'static str, kind: VarKind, doc: &'static str) -> Known {
    Known { name, aliases: &[], kind, doc }
}

const fn also(name: &'static str, aliases: &'static [&'static str], kind: VarKind, doc: &'static str) -> Known {
    Known { name, aliases, kind, doc }
}

/// Every variable that ferry reads.
pub const KNOWN: &[Known] = &[
    known("pce_cluster_name", VarKind::Word, "Gravity's name of the cluster; must equal what is seen"),
    known("pce_platform_dns", VarKind::Address, "the address people open; must equal what is seen"),
    known("pce_version", VarKind::Version, "expected PCE version; must equal what is seen"),
    known("pce_state_dir", VarKind::AbsolutePath, "Gravity's state directory"),
    known("pce_work_dir", VarKind::AbsolutePath, "where archives are made on a node"),
    known("ferry_node_dir", VarKind::AbsolutePath, "job directories on a node; /var/lib/ferry"),
    known("pce_backup_timeout", VarKind::Duration, "the longest that a backup may take"),
    known("pce_restore_timeout", VarKind::Duration, "the longest that a restore may take"),
    known("pce_require_healthy", VarKind::Bool, "refuse to back up a degraded cluster; false"),
    known("pce_required_members", VarKind::Words, "names that the Gravity archive must contain"),
    known("pce_amv", VarKind::Bool, "the cluster has AMV; false"),
    known("pce_amv_backup_dir", VarKind::AbsolutePath, "where the AMV script writes, on a main node"),
    known("pce_amv_every", VarKind::Duration, "how often AMV is backed up; 7d"),
    known("pce_amv_restore_question", VarKind::Pattern, "pattern of the script's question"),
    known("pce_amv_restore_answer", VarKind::Text, "answer to the script's question; y"),
    known("pce_nfs_export", VarKind::AbsolutePath, "exported directory on a host of group nfs"),
    known("pce_nfs_every", VarKind::Duration, "how often NFS is backed up; 1d"),
    known("pce_nfs_exclude", VarKind::Words, "patterns of tar for what is left out of the NFS archive"),
    known("pce_certificate_source", VarKind::Text, "where the platform certificate's private key is kept"),
    known("pce_drill_ok", VarKind::Bool, "this cluster may be overwritten by a drill; false"),
    known("pce_gravity", VarKind::AbsolutePath, "the gravity program; /usr/bin/gravity"),
    known("pce_kubectl", VarKind::AbsolutePath, "the kubectl program; /usr/bin/kubectl"),
    also("ansible_host", &["ansible_ssh_host"], VarKind::Address, "the address to connect to"),
    also("ansible_port", &["ansible_ssh_port"], VarKind::Port, "the port to connect to; 22"),
    also("ansible_user", &["ansible_ssh_user"], VarKind::Word, "the login user"),
    also("ansible_password", &["ansible_ssh_pass", "ansible_ssh_password"], VarKind::Secret, "the login password"),
    also("ansible_private_key_file", &["ansible_ssh_private_key_file"], VarKind::LocalPath, "the key to log in with"),
    also(
        "ansible_private_key_passphrase",
        &["ansible_ssh_private_key_passphrase"],
        VarKind::Secret,
        "the passphrase of that key",
    ),
    known("ansible_connection", VarKind::Connection, "ssh or local; ssh"),
    known("ansible_ssh_common_args", VarKind::Text, "options of ssh, such as -J bastion"),
    known("ferry_jump_password", VarKind::Secret, "the login password for the jump hosts of this host"),
    known("ansible_ssh_extra_args", VarKind::Text, "more options of ssh"),
    known("ansible_ssh_args", VarKind::Text, "options of ssh in place of Ansible's own"),
    also("ansible_ssh_timeout", &["ansible_timeout"], VarKind::Seconds, "seconds to connect in; 10"),
    also("ansible_host_key_checking", &["ansible_ssh_host_key_checking"], VarKind::Bool, "check host keys; true"),
    known("ansible_become", VarKind::Bool, "run as another user"),
    known("ansible_become_method", VarKind::BecomeMethod, "sudo"),
    also("ansible_become_user", &["ansible_sudo_user"], VarKind::Word, "the user to become; root"),
    also("ansible_become_exe", &["ansible_sudo_exe"], VarKind::Text, "the sudo program; sudo"),
    also("ansible_become_flags", &["ansible_sudo_flags"], VarKind::Text, "options of sudo; -H -S -n"),
    also(
        "ansible_become_password",
        &["ansible_become_pass", "ansible_sudo_pass", "ansible_sudo_password"],
        VarKind::Secret,
        "the password for sudo",
    ),
];

/// The variable that is called `name`, by its name or an alias.
pub fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name || known.aliases.contains(&name))
}

/// What is wrong with a variable.
#[derive(Debug, Clone)]
pub struct Problem {
    /// One sentence.
    pub what: String,
    /// What was seen; never a secret.
    pub seen: Option<String>,
    /// What to write.
    pub mend: Option<String>,
    /// True when the name is wrong, not the value.
    pub by_name: bool,
    /// True when the line must not be shown, because a secret stands in it.
    pub secret: bool,
}

impl Problem {
    /// This problem as the text of `failure`, which has the place.
    pub(super) fn at(self, mut failure: Failure) -> Failure {
        failure.what = self.what;
        failure.seen = self.seen;
        failure.mend = self.mend;
        if self.secret {
            failure.snippet = None;
        }
        failure
    }
}

/// Checks one variable: that a `pce_` or `ferry_` name is a known one, and that the value of a known
/// variable fits. Values with templates are checked when they are rendered.
///
/// # Errors
/// What is wrong, without a place.
pub fn check(name: &str, value: &Value) -> Result<(), Problem> {
    let Some(known) = find(name) else {
        if name.starts_with("pce_") || name.starts_with("ferry_") {
            let own = KNOWN.iter().map(|known| known.name).filter(|name| !name.starts_with("ansible_"));
            let near = nearest(name, own, 2);
            return Err(Problem {
                what: format!("ferry knows no variable {name}"),
                seen: None,
                mend: Some(if near.is_empty() {
                    "names that begin with pce_ and ferry_ are ferry's own; give yours another beginning".to_owned()
                } else {
                    format!("did you mean {}?", near.join(" or "))
                }),
                by_name: true,
                secret: false,
            });
        }
        return Ok(());
    };
    if has_template(value) || is_vault(value) || value.is_null() {
        return Ok(());
    }
    fits(known.kind, value).map_err(|(expected, mend)| {
        let secret = known.kind == VarKind::Secret;
        Problem {
            what: format!("{name} {expected}"),
            seen: (!secret).then(|| shown(value)),
            mend,
            by_name: false,
            secret,
        }
    })
}

/// Checks the variables of `-e`: names and literal values.
///
/// # Errors
/// [`Kind::CouldNotStart`] with all that is wrong.
pub fn check_extra(extra: &Map<String, Value>) -> Result<(), Failure> {
    let errors = extra.iter().filter_map(|(name, value)| check(name, value).err());
    match Failure::all(errors.map(|problem| problem.at(Failure::new(Kind::CouldNotStart, "")))) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

fn is_vault(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.contains_key(VAULT_KEY))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// The text of a scalar that Ansible would take as text: text itself and whole numbers.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" => Some(true),
            "no" | "false" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

type Misfit = (String, Option<String>);

fn fits(kind: VarKind, value: &Value) -> Result<(), Misfit> {
    let said = |expected: &str, mend: &str| Err((expected.to_owned(), (!mend.is_empty()).then(|| mend.to_owned())));
    let plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
    match kind {
        VarKind::Text => match text(value) {
            Some(text) if text.is_empty() || plain(&text) => Ok(()),
            Some(_) => said("must not contain control characters or line ends", ""),
            None => said("is text", "put the value in quotes"),
        },
        VarKind::Version => match value {
            Value::String(text) if plain(text) && !text.contains(char::is_whitespace) => Ok(()),
            Value::Number(number) => Err((
                "is text, and an unquoted number loses zeros (3.10 becomes 3.1)".to_owned(),
                Some(format!("put it in quotes: \"{number}\"")),
            )),
            _ => said("is a version in one word", "write it like \"3.2.1\""),
        },
        VarKind::Word => match text(value) {
            Some(text) if plain(&text) && !text.contains(char::is_whitespace) && !text.starts_with('-') => Ok(()),
            Some(_) => said("is one word that does not begin with '-'", ""),
            None => said("is one word", "put it in quotes if it only looks like something else"),
        },
        VarKind::Address => match text(value) {
            Some(text)
                if plain(&text)
                    && !text.starts_with('-')
                    && text.chars().all(|c| c.is_alphanumeric() || "._-:%[]".contains(c)) =>
            {
                Ok(())
            }
            Some(text) if text.contains("//") => {
                said("is a host name or an address, not a URL", "leave out https:// and what follows the name")
            }
            _ => said("is a host name or an address", ""),
        },
        VarKind::Bool => match boolean(value) {
            Some(_) => Ok(()),
            None => said("is true or false", "write true or false"),
        },
        VarKind::Port => match text(value).and_then(|text| text.parse::<u16>().ok()) {
            Some(port) if port > 0 => Ok(()),
            _ => said("is a port: a number from 1 to 65535", ""),
        },
        VarKind::Seconds => match text(value).and_then(|text| text.parse::<u64>().ok()) {
            Some(1..=86_400) => Ok(()),
            _ => said("is a number of seconds from 1 to 86400, without a unit", ""),
        },
        VarKind::Duration => match value {
            Value::String(text) => {
                duration::parse(text).map(drop).map_err(|what| ("is a duration with a unit".to_owned(), Some(what)))
            }
            Value::Number(number) => Err((
                "is a duration with a unit".to_owned(),
                Some(format!("write \"{number}m\" for minutes or \"{number}s\" for seconds")),
            )),
            _ => said("is a duration with a unit", "write it like \"20m\", \"1h20m\" or \"7d\""),
        },
        VarKind::AbsolutePath => match value {
            Value::String(text) if !plain(text) => said("is a path without control characters", ""),
            Value::String(text) if !text.starts_with('/') => said("is an absolute path", "begin it with '/'"),
            Value::String(text) if text.split('/').any(|part| part == "..") => {
                said("is a path without '..'", "write the path out")
            }
            Value::String(_) => Ok(()),
            _ => said("is an absolute path", "write it like /var/lib/data"),
        },
        VarKind::LocalPath => match value {
            Value::String(text) if plain(text) => Ok(()),
            _ => said("is a path", ""),
        },
        VarKind::Pattern => match value {
            Value::String(text) => regex::Regex::new(text)
                .map(drop)
                .map_err(|error| ("is a regular expression".to_owned(), Some(error.to_string()))),
            _ => said("is a regular expression", "put it in quotes"),
        },
        VarKind::Words => match value {
            Value::Array(items) if items.iter().all(|item| item.as_str().is_some_and(plain)) => Ok(()),
            _ => said("is a list of texts", "write it like [\"one\", \"two\"]"),
        },
        VarKind::Connection => match value.as_str() {
            Some(
                "ssh"
                | "smart"
                | "paramiko"
                | "paramiko_ssh"
                | "local"
                | "ansible.builtin.ssh"
                | "ansible.builtin.local"
                | "ansible.legacy.ssh"
                | "ansible.legacy.local",
            ) => Ok(()),
            Some("docker" | "podman" | "winrm" | "psrp" | "kubectl" | "network_cli" | "httpapi" | "chroot") => {
                said("names a connection that Ansible knows and ferry has not", "ferry has ssh and local")
            }
            _ => said("is ssh or local", ""),
        },
        VarKind::BecomeMethod => match value.as_str() {
            Some("sudo" | "ansible.builtin.sudo" | "ansible.legacy.sudo") => Ok(()),
            Some(
                "su" | "doas" | "pbrun" | "pfexec" | "dzdo" | "ksu" | "runas" | "machinectl" | "ansible.builtin.su",
            ) => said("names a method that Ansible knows and ferry has not", "ferry has sudo"),
            _ => said("is sudo", ""),
        },
        VarKind::Secret => match value {
            Value::String(_) => Ok(()),
            _ => said(
                "is text, and an unquoted number is not kept as it was written",
                "put it in quotes, or better: out of the inventory (-K, --become-password-file, a key)",
            ),
        },
    }
}

/// How a host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    /// Over SSH.
    Ssh,
    /// This machine.
    Local,
}

/// How to connect to one host, from its variables. `None` where nothing is set.
#[derive(Debug, Clone)]
pub struct Connection {
    /// SSH or this machine.
    pub kind: ConnectionKind,
    /// The address; the host's name in the inventory when `ansible_host` is not set.
    pub address: String,
    /// The port.
    pub port: Option<u16>,
    /// The login user.
    pub user: Option<String>,
    /// The login password.
    pub password: Option<SecretString>,
    /// The key to log in with, `~` not yet expanded.
    pub private_key_file: Option<PathBuf>,
    /// The passphrase of that key.
    pub private_key_passphrase: Option<SecretString>,
    /// Options of ssh: `ansible_ssh_args`, `ansible_ssh_common_args`, `ansible_ssh_extra_args`, joined in this order.
    pub ssh_args: Option<String>,
    /// How long connecting may take.
    pub timeout: Option<Duration>,
    /// Whether host keys are checked.
    pub host_key_checking: Option<bool>,
}

/// How to become another user on one host. `None` where nothing is set.
#[derive(Debug, Clone)]
pub struct Become {
    /// Whether at all.
    pub wanted: Option<bool>,
    /// The user to become.
    pub user: Option<String>,
    /// The sudo program.
    pub exe: Option<String>,
    /// Options of sudo.
    pub flags: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
}

/// What is set about the cluster that a host belongs to. Fields are named as the variables, without
/// `pce_`; defaults of product.md that depend on nothing are filled in.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Pce {
    pub cluster_name: Option<String>,
    pub platform_dns: Option<String>,
    pub version: Option<String>,
    pub state_dir: Option<PathBuf>,
    pub work_dir: Option<PathBuf>,
    /// `ferry_node_dir`.
    pub node_dir: PathBuf,
    pub backup_timeout: Option<Duration>,
    pub restore_timeout: Option<Duration>,
    pub require_healthy: bool,
    pub required_members: Vec<String>,
    pub amv: bool,
    pub amv_backup_dir: Option<PathBuf>,
    pub amv_every: Duration,
    pub amv_restore_question: Option<String>,
    pub amv_restore_answer: String,
    pub nfs_export: Option<PathBuf>,
    pub nfs_every: Duration,
    pub certificate_source: Option<String>,
    pub drill_ok: bool,
    pub gravity: PathBuf,
    pub kubectl: PathBuf,
}

/// All that ferry reads about one host.
#[derive(Debug, Clone)]
pub struct HostVars {
    /// How to connect.
    pub connection: Connection,
    /// How to become another user.
    pub becoming: Become,
    /// The cluster.
    pub pce: Pce,
}

const DAY: u64 = 86_400;

impl HostVars {
    /// Reads them for `host`, out of the inventory and `extra` (which wins).
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] with the place of each variable that is wrong: a value that does not
    /// fit, a template that cannot be rendered, a `!vault` value (vault is not built yet).
    pub fn read(inventory: &Inventory, host: &HostName, extra: &Map<String, Value>) -> Result<Self, Failure> {
        let mut reader = Typed { inventory, host, values: Map::new(), errors: Vec::new() };
        reader.collect(extra);
        let connection = reader.connection();
        let becoming = Become {
            wanted: reader.boolean("ansible_become"),
            user: reader.text("ansible_become_user"),
            exe: reader.text("ansible_become_exe"),
            flags: reader.text("ansible_become_flags"),
            password: reader.secret("ansible_become_password"),
        };
        let pce = reader.pce();
        match Failure::all(reader.errors) {
            Some(failure) => Err(failure),
            None => Ok(Self { connection, becoming, pce }),
        }
    }

    /// Reads them for all of `hosts`; every wrong variable of every host is told at once.
    ///
    /// # Errors
    /// As [`HostVars::read`].
    pub fn read_all(
        inventory: &Inventory,
        hosts: &[HostName],
        extra: &Map<String, Value>,
    ) -> Result<Vec<(HostName, Self)>, Failure> {
        let mut good = Vec::new();
        let mut errors: Vec<Failure> = Vec::new();
        for host in hosts {
            match Self::read(inventory, host, extra) {
                Ok(vars) => good.push((host.clone(), vars)),
                Err(mut failure) => {
                    let more = std::mem::take(&mut failure.more);
                    for failure in std::iter::once(failure).chain(more) {
                        // One wrong line of a group is one error, not one for each host.
                        let known = errors.iter().any(|other| {
                            other.what == failure.what
                                && other.place == failure.place
                                && (failure.place.is_some() || other.host == failure.host)
                        });
                        if !known {
                            errors.push(failure);
                        }
                    }
                }
            }
        }
        Failure::all(errors).map_or(Ok(good), Err)
    }
}

struct Typed<'a> {
    inventory: &'a Inventory,
    host: &'a HostName,
    values: Map<String, Value>,
    errors: Vec<Failure>,
}

impl Typed<'_> {
    /// Renders and checks each known variable that is set.
    fn collect(&mut self, extra: &Map<String, Value>) {
        let vars = self.inventory.vars(self.host);
        let scope = self.inventory.scope(self.host, extra);
        for known in KNOWN {
            let names = std::iter::once(known.name).chain(known.aliases.iter().copied());
            let Some((name, value)) =
                names.filter_map(|name| extra.get(name).or_else(|| vars.get(name)).map(|value| (name, value))).next()
            else {
                continue;
            };
            let place = if extra.contains_key(name) { None } else { self.inventory.place_of(self.host, name) };
            let templater = self.inventory.templater();
            let rendered = templater.render_value(value, place.as_ref(), &scope);
            let value = match rendered {
                Ok(value) => value,
                Err(mut failure) => {
                    failure.what = format!("{name} cannot be rendered: {}", failure.what);
                    if known.kind == VarKind::Secret {
                        failure.seen = None;
                        failure.snippet = None;
                    }
                    self.errors.push(failure.on(self.host));
                    continue;
                }
            };
            if is_vault(&value) {
                let text = value.get(VAULT_KEY).and_then(Value::as_str).unwrap_or_default();
                let failure = self.failure(name, &format!("cannot be used: {}", crate::vault::why_locked(text)));
                self.errors.push(failure.mend(
                    "give the vault password: --vault-password-file FILE, --vault-id ID@FILE, or -J at a terminal",
                ));
                continue;
            }
            if let Value::String(text) = &value
                && is_template(text)
                && known.kind != VarKind::Secret
            {
                let failure = self.failure(name, "still looks like a template after it was rendered").saw(quoted(text));
                self.errors.push(failure.why("what a rendering gives is not rendered again"));
                continue;
            }
            if let Err((expected, mend)) = if value.is_null() { Ok(()) } else { fits(known.kind, &value) } {
                let mut failure = self.failure(name, &expected);
                failure.mend = mend;
                if known.kind == VarKind::Secret {
                    failure.snippet = None;
                } else {
                    failure = failure.saw(shown(&value));
                }
                self.errors.push(failure);
                continue;
            }
            self.values.insert(known.name.to_owned(), value);
        }
    }

    fn failure(&self, name: &str, what: &str) -> Failure {
        let what = format!("{name} {what}");
        match self.inventory.place_of(self.host, name) {
            Some(place) => self.inventory.failure_at(&place, what),
            None => Failure::new(Kind::CouldNotStart, what).on(self.host),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        self.values.get(name).and_then(text)
    }

    fn boolean(&self, name: &str) -> Option<bool> {
        self.values.get(name).and_then(boolean)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    fn duration(&self, name: &str) -> Option<Duration> {
        self.text(name).and_then(|text| duration::parse(&text).ok())
    }

    fn secret(&self, name: &str) -> Option<SecretString> {
        self.text(name).map(SecretString::from)
    }

    fn connection(&self) -> Connection {
        let args: Vec<String> = ["ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"]
            .into_iter()
            .filter_map(|name| self.text(name))
            .filter(|text| !text.trim().is_empty())
            .collect();
        let local =
            self.values.get("ansible_connection").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("local"));
        Connection {
            kind: if local { ConnectionKind::Local } else { ConnectionKind::Ssh },
            address: self.text("ansible_host").unwrap_or_else(|| self.host.to_string()),
            port: self.text("ansible_port").and_then(|port| port.parse().ok()),
            user: self.text("ansible_user"),
            password: self.secret("ansible_password"),
            private_key_file: self.path("ansible_private_key_file"),
            private_key_passphrase: self.secret("ansible_private_key_passphrase"),
            ssh_args: (!args.is_empty()).then(|| args.join(" ")),
            timeout: self.text("ansible_ssh_timeout").and_then(|text| text.parse().ok()).map(Duration::from_secs),
            host_key_checking: self.boolean("ansible_host_key_checking"),
        }
    }

    fn pce(&self) -> Pce {
        let members = self.values.get("pce_required_members").and_then(Value::as_array);
        let path = |name: &str, default: &str| self.path(name).unwrap_or_else(|| Path::new(default).to_path_buf());
        Pce {
            cluster_name: self.text("pce_cluster_name"),
            platform_dns: self.text("pce_platform_dns"),
            version: self.text("pce_version"),
            state_dir: self.path("pce_state_dir"),
            work_dir: self.path("pce_work_dir"),
            node_dir: path("ferry_node_dir", "/var/lib/ferry"),
            backup_timeout: self.duration("pce_backup_timeout"),
            restore_timeout: self.duration("pce_restore_timeout"),
            require_healthy: self.boolean("pce_require_healthy").unwrap_or(false),
            required_members: members
                .map(|items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                .unwrap_or_default(),
            amv: self.boolean("pce_amv").unwrap_or(false),
            amv_backup_dir: self.path("pce_amv_backup_dir"),
            amv_every: self.duration("pce_amv_every").unwrap_or(Duration::from_secs(7 * DAY)),
            amv_restore_question: self.text("pce_amv_restore_question"),
            amv_restore_answer: self.text("pce_amv_restore_answer").unwrap_or_else(|| "y".to_owned()),
            nfs_export: self.path("pce_nfs_export"),
            nfs_every: self.duration("pce_nfs_every").unwrap_or(Duration::from_secs(DAY)),
            certificate_source: self.text("pce_certificate_source"),
            drill_ok: self.boolean("pce_drill_ok").unwrap_or(false),
            gravity: path("pce_gravity", "/usr/bin/gravity"),
            kubectl: path("pce_kubectl", "/usr/bin/kubectl"),
        }
    }
}
