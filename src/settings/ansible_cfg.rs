//! `ansible.cfg`: what an operator of Ansible has set already.
//!
//! What lives here: finding the file as Ansible does, its form, the keys that ferry knows and the `ANSIBLE_` variables
//! of the same settings. What does not: what `ferry.toml` and flags say over it (the room's own file).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::files::read_text;
use crate::failure::{Failure, Kind};

/// One setting of Ansible's that means something here: section, key, variables of the environment.
struct Known(&'static str, &'static str, &'static [&'static str]);

const KNOWN: &[Known] = &[
    Known("defaults", "inventory", &["ANSIBLE_INVENTORY"]),
    Known("defaults", "forks", &["ANSIBLE_FORKS"]),
    Known("defaults", "timeout", &["ANSIBLE_TIMEOUT"]),
    Known("defaults", "remote_user", &["ANSIBLE_REMOTE_USER"]),
    Known("defaults", "private_key_file", &["ANSIBLE_PRIVATE_KEY_FILE"]),
    Known("defaults", "host_key_checking", &["ANSIBLE_HOST_KEY_CHECKING"]),
    Known("defaults", "roles_path", &["ANSIBLE_ROLES_PATH"]),
    Known("defaults", "vault_password_file", &["ANSIBLE_VAULT_PASSWORD_FILE"]),
    Known("defaults", "vault_identity_list", &["ANSIBLE_VAULT_IDENTITY_LIST"]),
    Known("defaults", "vault_encrypt_identity", &["ANSIBLE_VAULT_ENCRYPT_IDENTITY"]),
    Known("defaults", "vault_identity", &["ANSIBLE_VAULT_IDENTITY"]),
    Known("defaults", "vault_id_match", &["ANSIBLE_VAULT_ID_MATCH"]),
    Known("defaults", "ask_vault_pass", &["ANSIBLE_ASK_VAULT_PASS"]),
    Known("defaults", "ask_pass", &["ANSIBLE_ASK_PASS"]),
    Known("defaults", "become_password_file", &["ANSIBLE_BECOME_PASSWORD_FILE"]),
    Known("defaults", "connection_password_file", &["ANSIBLE_CONNECTION_PASSWORD_FILE"]),
    Known("defaults", "gathering", &["ANSIBLE_GATHERING"]),
    Known("defaults", "gather_subset", &["ANSIBLE_GATHER_SUBSET"]),
    Known("defaults", "gather_timeout", &["ANSIBLE_GATHER_TIMEOUT"]),
    Known("defaults", "inject_facts_as_vars", &["ANSIBLE_INJECT_FACT_VARS"]),
    Known("defaults", "strategy", &["ANSIBLE_STRATEGY"]),
    Known("defaults", "any_errors_fatal", &["ANSIBLE_ANY_ERRORS_FATAL"]),
    Known("defaults", "force_handlers", &["ANSIBLE_FORCE_HANDLERS"]),
    Known("defaults", "error_on_missing_handler", &["ANSIBLE_ERROR_ON_MISSING_HANDLER"]),
    Known("defaults", "error_on_undefined_vars", &["ANSIBLE_ERROR_ON_UNDEFINED_VARS"]),
    Known("defaults", "allow_broken_conditionals", &["ANSIBLE_ALLOW_BROKEN_CONDITIONALS"]),
    Known("defaults", "no_log", &["ANSIBLE_NO_LOG"]),
    Known("defaults", "task_timeout", &["ANSIBLE_TASK_TIMEOUT"]),
    Known("defaults", "poll_interval", &["ANSIBLE_POLL_INTERVAL"]),
    Known("defaults", "transport", &["ANSIBLE_TRANSPORT"]),
    Known("defaults", "remote_port", &["ANSIBLE_REMOTE_PORT"]),
    Known("defaults", "executable", &["ANSIBLE_EXECUTABLE"]),
    Known("defaults", "force_valid_group_names", &["ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS"]),
    Known("defaults", "hash_behaviour", &["ANSIBLE_HASH_BEHAVIOUR"]),
    Known("defaults", "log_path", &["ANSIBLE_LOG_PATH"]),
    Known("defaults", "retry_files_enabled", &["ANSIBLE_RETRY_FILES_ENABLED"]),
    Known("defaults", "retry_files_save_path", &["ANSIBLE_RETRY_FILES_SAVE_PATH"]),
    Known("defaults", "stdout_callback", &["ANSIBLE_STDOUT_CALLBACK"]),
    Known("defaults", "display_skipped_hosts", &["ANSIBLE_DISPLAY_SKIPPED_HOSTS"]),
    Known("defaults", "display_ok_hosts", &["ANSIBLE_DISPLAY_OK_HOSTS"]),
    Known("defaults", "display_args_to_stdout", &["ANSIBLE_DISPLAY_ARGS_TO_STDOUT"]),
    Known("defaults", "nocolor", &["ANSIBLE_NOCOLOR", "NO_COLOR"]),
    Known("defaults", "force_color", &["ANSIBLE_FORCE_COLOR"]),
    Known("defaults", "nocows", &["ANSIBLE_NOCOWS"]),
    Known("defaults", "verbosity", &["ANSIBLE_VERBOSITY"]),
    Known("defaults", "deprecation_warnings", &["ANSIBLE_DEPRECATION_WARNINGS"]),
    Known("defaults", "localhost_warning", &["ANSIBLE_LOCALHOST_WARNING"]),
    Known("defaults", "interpreter_python", &["ANSIBLE_PYTHON_INTERPRETER"]),
    Known("defaults", "module_name", &[]),
    Known("defaults", "remote_tmp", &["ANSIBLE_REMOTE_TEMP"]),
    Known("defaults", "local_tmp", &["ANSIBLE_LOCAL_TEMP"]),
    Known("defaults", "playbook_dir", &["ANSIBLE_PLAYBOOK_DIR"]),
    Known("defaults", "async_dir", &["ANSIBLE_ASYNC_DIR"]),
    Known("defaults", "fact_caching", &["ANSIBLE_CACHE_PLUGIN"]),
    Known("defaults", "fact_caching_connection", &["ANSIBLE_CACHE_PLUGIN_CONNECTION"]),
    Known("defaults", "fact_caching_timeout", &["ANSIBLE_CACHE_PLUGIN_TIMEOUT"]),
    Known("defaults", "fact_caching_prefix", &["ANSIBLE_CACHE_PLUGIN_PREFIX"]),
    Known("defaults", "show_custom_stats", &["ANSIBLE_SHOW_CUSTOM_STATS"]),
    Known("defaults", "private_role_vars", &["ANSIBLE_PRIVATE_ROLE_VARS"]),
    Known("defaults", "ansible_managed", &[]),
    Known("defaults", "jinja2_extensions", &["ANSIBLE_JINJA2_EXTENSIONS"]),
    Known("defaults", "playbook_vars_root", &["ANSIBLE_PLAYBOOK_VARS_ROOT"]),
    Known("defaults", "precedence", &["ANSIBLE_PRECEDENCE"]),
    Known("defaults", "duplicate_dict_key", &["ANSIBLE_DUPLICATE_YAML_DICT_KEY"]),
    Known("privilege_escalation", "become", &["ANSIBLE_BECOME"]),
    Known("privilege_escalation", "become_method", &["ANSIBLE_BECOME_METHOD"]),
    Known("privilege_escalation", "become_user", &["ANSIBLE_BECOME_USER", "ANSIBLE_SUDO_USER"]),
    Known("privilege_escalation", "become_ask_pass", &["ANSIBLE_BECOME_ASK_PASS"]),
    Known("privilege_escalation", "become_flags", &["ANSIBLE_BECOME_FLAGS", "ANSIBLE_SUDO_FLAGS"]),
    Known("privilege_escalation", "become_exe", &["ANSIBLE_BECOME_EXE", "ANSIBLE_SUDO_EXE"]),
    Known("ssh_connection", "ssh_args", &["ANSIBLE_SSH_ARGS"]),
    Known("ssh_connection", "ssh_common_args", &["ANSIBLE_SSH_COMMON_ARGS"]),
    Known("ssh_connection", "ssh_extra_args", &["ANSIBLE_SSH_EXTRA_ARGS"]),
    Known("ssh_connection", "pipelining", &["ANSIBLE_PIPELINING", "ANSIBLE_SSH_PIPELINING"]),
    Known("ssh_connection", "retries", &["ANSIBLE_SSH_RETRIES"]),
    Known("ssh_connection", "host_key_checking", &["ANSIBLE_SSH_HOST_KEY_CHECKING"]),
    Known("ssh_connection", "control_path", &["ANSIBLE_SSH_CONTROL_PATH"]),
    Known("ssh_connection", "transfer_method", &["ANSIBLE_SSH_TRANSFER_METHOD"]),
    Known("inventory", "enable_plugins", &["ANSIBLE_INVENTORY_ENABLED"]),
    Known("inventory", "unparsed_is_failed", &["ANSIBLE_INVENTORY_UNPARSED_FAILED"]),
    Known("inventory", "any_unparsed_is_failed", &["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"]),
    Known("inventory", "host_pattern_mismatch", &["ANSIBLE_HOST_PATTERN_MISMATCH"]),
    Known("inventory", "export", &["ANSIBLE_INVENTORY_EXPORT"]),
    Known("inventory", "ignore_extensions", &["ANSIBLE_INVENTORY_IGNORE"]),
    Known("inventory", "ignore_patterns", &["ANSIBLE_INVENTORY_IGNORE_REGEX"]),
    Known("defaults", "inventory_ignore_extensions", &[]),
    Known("defaults", "inventory_ignore_patterns", &[]),
    Known("diff", "always", &["ANSIBLE_DIFF_ALWAYS"]),
    Known("diff", "context", &["ANSIBLE_DIFF_CONTEXT"]),
    Known("tags", "run", &["ANSIBLE_RUN_TAGS"]),
    Known("tags", "skip", &["ANSIBLE_SKIP_TAGS"]),
];

/// Sections whose keys are all about looks or plugins that ferry has not: not worth a word.
const SILENT: [&str; 6] = ["colors", "galaxy", "persistent_connection", "selinux", "jinja2", "connection"];

/// Keys that change nothing here, and why: told at `-v` where they stand in the file.
const WITHOUT_USE: &[(&str, &str)] = &[
    ("defaults.gather_timeout", "facts are gathered by one short script"),
    ("defaults.stdout_callback", "--output human, plain, json or quiet"),
    ("defaults.display_args_to_stdout", "-v shows results"),
    ("defaults.nocolor", "NO_COLOR=1 does that"),
    ("defaults.force_color", "CLICOLOR_FORCE=1 does that"),
    ("defaults.interpreter_python", "nothing of ferry's needs Python on a host"),
    ("defaults.module_name", "-m names the module"),
    ("defaults.remote_tmp", "nothing of ferry's needs it"),
    ("defaults.local_tmp", "nothing of ferry's needs it"),
    ("defaults.playbook_dir", "--playbook-dir does that"),
    ("ssh_connection.pipelining", "commands always go to a shell that stays open"),
    ("ssh_connection.control_path", "ferry starts no ssh"),
    ("ssh_connection.transfer_method", "ferry starts no sftp and no scp"),
    ("inventory.enable_plugins", "ferry has no inventory plugins"),
    ("inventory.host_pattern_mismatch", "a pattern that names nobody is an error"),
    ("defaults.jinja2_extensions", "do, break and continue are always there"),
];

/// Keys whose other value would change what happens, and is not built: section.key, the value that is as ferry does it.
const ONE_WAY: &[(&str, &[&str])] = &[
    ("defaults.error_on_undefined_vars", &["true"]),
    ("defaults.retry_files_enabled", &["false"]),
    ("defaults.vault_id_match", &["false"]),
    ("defaults.strategy", &["linear", "free", "host_pinned"]),
    ("defaults.gathering", &["implicit", "explicit", "smart"]),
    ("defaults.hash_behaviour", &["replace", "merge"]),
    ("defaults.playbook_vars_root", &["top"]),
    (
        "defaults.precedence",
        &[
            "all_inventory, groups_inventory, all_plugins_inventory, all_plugins_play, groups_plugins_inventory, groups_plugins_play",
        ],
    ),
];

/// The settings of this process.
static IN_FORCE: OnceLock<AnsibleSettings> = OnceLock::new();

/// Puts settings in force for what is read from here on: rooms that are asked deep inside a run ask [`in_force`]. The first ones count.
pub fn put_in_force(settings: &AnsibleSettings) {
    let _ = IN_FORCE.set(settings.clone());
}

/// The value of `section.key` in force; before any is, that of the environment.
pub fn in_force(name: &str) -> Option<String> {
    if let Some(settings) = IN_FORCE.get() {
        return settings.get(name).map(str::to_owned);
    }
    let Known(_, _, names) = KNOWN.iter().find(|Known(section, key, _)| format!("{section}.{key}") == name)?;
    names.iter().find_map(|name| std::env::var(name).ok()).filter(|value| !value.trim().is_empty())
}

/// As [`in_force`], by the name of its variable.
pub fn in_force_as(variable: &str) -> Option<String> {
    let Known(section, key, _) = KNOWN.iter().find(|Known(_, _, names)| names.contains(&variable))?;
    in_force(&format!("{section}.{key}"))
}

/// As [`in_force`], as a truth; `false` where it is none.
pub fn says(name: &str) -> bool {
    in_force(name).is_some_and(|value| truth(&value) == Some(true))
}

/// Settings of Ansible by `section.key`, the environment over the file.
#[derive(Debug, Clone, Default)]
pub struct AnsibleSettings {
    /// The file in force.
    pub file: Option<PathBuf>,
    /// Keys of the file that ferry does not know, with their line: told at `-v`.
    pub unknown: Vec<String>,
    /// What the operator must know in any case.
    pub warnings: Vec<String>,
    values: BTreeMap<String, String>,
    written: BTreeMap<String, String>,
}

impl AnsibleSettings {
    /// The value of `section.key` from the environment, else from `ansible.cfg`; never empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).or_else(|| self.written.get(name)).map(String::as_str)
    }

    /// The value of `section.key` in `ansible.cfg` alone.
    pub fn in_file(&self, name: &str) -> Option<&str> {
        self.written.get(name).map(String::as_str)
    }

    /// As [`AnsibleSettings::get`], as Ansible reads a truth. `None` also where it is none.
    pub fn truth(&self, name: &str) -> Option<bool> {
        truth(self.get(name)?)
    }

    /// The connection and become variables that these settings stand for where a host has none of its own, by name.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        const NAMES: &[(&str, &str)] = &[
            ("defaults.transport", "ansible_connection"),
            ("defaults.remote_port", "ansible_port"),
            ("ssh_connection.ssh_args", "ansible_ssh_args"),
            ("ssh_connection.ssh_common_args", "ansible_ssh_common_args"),
            ("ssh_connection.ssh_extra_args", "ansible_ssh_extra_args"),
            ("ssh_connection.retries", "ansible_ssh_retries"),
            ("privilege_escalation.become", "ansible_become"),
            ("privilege_escalation.become_method", "ansible_become_method"),
            ("privilege_escalation.become_user", "ansible_become_user"),
            ("privilege_escalation.become_flags", "ansible_become_flags"),
            ("privilege_escalation.become_exe", "ansible_become_exe"),
        ];
        NAMES.iter().filter_map(|(setting, name)| Some((*name, self.get(setting)?)))
    }

    /// Keys of the file that change nothing, each with the reason.
    pub fn without_use(&self) -> Vec<String> {
        let file = self.file.as_deref().unwrap_or(Path::new("ansible.cfg")).display();
        WITHOUT_USE
            .iter()
            .filter(|(name, _)| self.written.contains_key(*name))
            .map(|(name, why)| format!("{file}: {name} is not used: {why}"))
            .collect()
    }

    /// What the file wants and ferry does not do.
    pub fn not_done(&self) -> Vec<String> {
        let file = self.file.as_deref().unwrap_or(Path::new("ansible.cfg")).display();
        let differs = |name: &str, takes: &[&str]| {
            let value = self.in_file(name)?;
            let shown = truth(value).filter(|_| takes.iter().any(|one| truth(one).is_some()));
            let plain = shown.map_or_else(|| value.trim().to_lowercase(), |truth| truth.to_string());
            (!takes.contains(&plain.as_str()))
                .then(|| format!("{file}: {name} = {value} is not built in ferry, which takes {}", takes.join(", ")))
        };
        ONE_WAY.iter().filter_map(|(name, takes)| differs(name, takes)).collect()
    }

    /// The folder that relative paths in the file start from.
    pub fn folder(&self) -> Option<&Path> {
        self.file.as_deref().and_then(Path::parent)
    }

    /// Looks for `ansible.cfg` and the variables of the environment. `cwd` is absolute.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when the file cannot be read or is no such file.
    pub(super) fn find(env: &dyn Fn(&str) -> Option<String>, cwd: &Path) -> Result<Self, Failure> {
        let mut found = Self::default();
        let mut places = Vec::new();
        if let Some(named) = env("ANSIBLE_CONFIG").filter(|value| !value.is_empty()) {
            let path = cwd.join(home(env, &named));
            places.push(if path.is_dir() { path.join("ansible.cfg") } else { path });
        }
        let near = cwd.join("ansible.cfg");
        if places.is_empty() && near.is_file() && writable_by_all(cwd) {
            found.warnings.push(format!(
                "{} is ignored: everybody may write into its folder (name it with ANSIBLE_CONFIG, or chmod o-w {})",
                near.display(),
                cwd.display()
            ));
        } else {
            places.push(near);
        }
        places.push(cwd.join(home(env, "~/.ansible.cfg")));
        places.push(PathBuf::from("/etc/ansible/ansible.cfg"));
        if let Some(path) = places.into_iter().find(|path| path.is_file()) {
            found.read(&path)?;
            found.file = Some(path);
        }
        for Known(section, key, names) in KNOWN {
            if let Some(value) = names.iter().find_map(|name| env(name)).filter(|value| !value.trim().is_empty()) {
                found.values.insert(format!("{section}.{key}"), value);
            }
        }
        Ok(found)
    }

    fn read(&mut self, path: &Path) -> Result<(), Failure> {
        let text = read_text(path)?;
        let file = path.display().to_string();
        let wrong = |line: usize, what: &str, mend: &str| {
            Failure::new(Kind::CouldNotStart, what).in_text(&file, &super::yaml::showable(&text), line, 1).mend(mend)
        };
        let (mut section, mut last): (Option<String>, Option<String>) = (None, None);
        for (at, whole) in text.lines().enumerate() {
            let line = whole.trim_end();
            if line.trim().is_empty() || line.trim_start().starts_with(['#', ';']) {
                continue;
            }
            // As configparser has it: a ';' with a blank before it begins a comment.
            let line = match line.find(" ;") {
                Some(cut) => line.get(..cut).unwrap_or(line).trim_end(),
                None => line,
            };
            if line.starts_with(char::is_whitespace) {
                if let Some(value) = last.as_ref().and_then(|name| self.written.get_mut(name)) {
                    value.push('\n');
                    value.push_str(line.trim());
                }
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                section = Some(name.trim().to_owned());
                last = None;
                continue;
            }
            let Some(section) = &section else {
                return Err(wrong(at + 1, "this line stands before the first section", "begin with [defaults]"));
            };
            let Some(cut) = line.find(['=', ':']) else {
                return Err(wrong(at + 1, "this is neither a section nor KEY = VALUE", "put an '=' into it"));
            };
            let (key, value) = line.split_at(cut);
            let (key, value) = (key.trim().to_lowercase(), value.get(1..).unwrap_or("").trim());
            let name = format!("{section}.{key}");
            let known = KNOWN.iter().any(|Known(in_section, known, _)| in_section == section && *known == key);
            if !known && !SILENT.contains(&section.as_str()) {
                self.unknown.push(format!("{file}:{}: ferry does not use [{section}] {key}", at + 1));
            }
            // Quotes around the whole value are no part of it.
            let inner = ['"', '\''].iter().find_map(|mark| value.strip_prefix(*mark)?.strip_suffix(*mark));
            let value = inner.unwrap_or(value);
            if value.is_empty() {
                self.written.remove(&name);
            } else {
                self.written.insert(name.clone(), value.to_owned());
            }
            last = Some(name);
        }
        Ok(())
    }
}

/// A truth as Ansible reads one.
pub fn truth(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "t" | "y" => Some(true),
        "false" | "no" | "off" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

/// A path with `~/` as the home of who runs ferry.
pub fn at_home(text: &str) -> PathBuf {
    home(&|name| std::env::var(name).ok(), text)
}

fn home(env: &dyn Fn(&str) -> Option<String>, text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), env("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(text),
    }
}

#[cfg(unix)]
fn writable_by_all(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(folder).is_ok_and(|about| about.permissions().mode() & 0o002 != 0)
}

#[cfg(not(unix))]
fn writable_by_all(_: &Path) -> bool {
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str, env: &[(&str, &str)]) -> AnsibleSettings {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ansible.cfg"), text).unwrap();
        let get = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        AnsibleSettings::find(&get, folder.path()).unwrap()
    }

    #[test]
    fn the_environment_stands_over_the_file() {
        let text = "# c\n[defaults]\nForks = 7 ; c\nroles_path: a:b\ninventory = one,\n  two\nremote_user=\"ops\"\n\
                    frobs = 1\n[colors]\nok = green\n[diff]\nalways = yes\n";
        let found = read(text, &[("ANSIBLE_FORKS", "9")]);
        assert_eq!(found.get("defaults.forks"), Some("9"));
        assert_eq!(found.in_file("defaults.forks"), Some("7"));
        assert_eq!(found.get("defaults.roles_path"), Some("a:b"));
        assert_eq!(found.get("defaults.inventory"), Some("one,\ntwo"));
        assert_eq!(found.get("defaults.remote_user"), Some("ops"));
        assert_eq!(found.truth("diff.always"), Some(true));
        assert_eq!(found.unknown.len(), 1);
        assert!(found.unknown[0].ends_with("ansible.cfg:8: ferry does not use [defaults] frobs"), "{found:?}");
    }

    #[test]
    fn a_folder_that_everybody_writes_to_is_not_believed() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ansible.cfg"), "[defaults]\nforks = 7\n").unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let found = AnsibleSettings::find(&|_| None, folder.path()).unwrap();
        assert_eq!(found.get("defaults.forks"), None);
        assert!(found.warnings[0].contains("is ignored"), "{found:?}");
        let path = folder.path().display().to_string();
        let named =
            AnsibleSettings::find(&|name| (name == "ANSIBLE_CONFIG").then(|| path.clone()), folder.path()).unwrap();
        assert_eq!(named.get("defaults.forks"), Some("7"));
    }

    #[test]
    fn what_is_no_such_file_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ansible.cfg"), "[defaults]\nforks\n").unwrap();
        let failure = AnsibleSettings::find(&|_| None, folder.path()).unwrap_err();
        assert_eq!(failure.place.unwrap().line, 2);
    }
}
