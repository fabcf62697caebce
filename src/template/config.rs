//! What `lookup('config', NAME)` gives: Ansible's settings, by the names that they have there.
//!
//! What lives here: the settings that playbooks ask for, from the environment, else what Ansible would have. What does not: what
//! ferry itself goes by (settings).

use minijinja::Value;

/// What a setting is, as it would be written: text, a truth, a number, or a list that the environment cuts at colons.
enum Other {
    Text(&'static str),
    Is(bool),
    Number(i64),
    None,
    Paths(&'static [&'static str]),
}

const KNOWN: &[(&str, &str, Other)] = &[
    ("ALLOW_BROKEN_CONDITIONALS", "ANSIBLE_ALLOW_BROKEN_CONDITIONALS", Other::Is(false)),
    ("ANY_ERRORS_FATAL", "ANSIBLE_ANY_ERRORS_FATAL", Other::Is(false)),
    ("BECOME_ALLOW_SAME_USER", "ANSIBLE_BECOME_ALLOW_SAME_USER", Other::Is(false)),
    ("DEFAULT_BECOME", "ANSIBLE_BECOME", Other::Is(false)),
    ("DEFAULT_BECOME_METHOD", "ANSIBLE_BECOME_METHOD", Other::Text("sudo")),
    ("DEFAULT_BECOME_USER", "ANSIBLE_BECOME_USER", Other::Text("root")),
    ("DEFAULT_EXECUTABLE", "ANSIBLE_EXECUTABLE", Other::Text("/bin/sh")),
    ("DEFAULT_FORCE_HANDLERS", "ANSIBLE_FORCE_HANDLERS", Other::Is(false)),
    ("DEFAULT_FORKS", "ANSIBLE_FORKS", Other::Number(5)),
    ("DEFAULT_GATHERING", "ANSIBLE_GATHERING", Other::Text("implicit")),
    ("DEFAULT_HASH_BEHAVIOUR", "ANSIBLE_HASH_BEHAVIOUR", Other::Text("replace")),
    ("DEFAULT_HOST_LIST", "ANSIBLE_INVENTORY", Other::Paths(&["/etc/ansible/hosts"])),
    ("DEFAULT_JINJA2_NATIVE", "ANSIBLE_JINJA2_NATIVE", Other::Is(true)),
    ("DEFAULT_NO_LOG", "ANSIBLE_NO_LOG", Other::Is(false)),
    ("DEFAULT_POLL_INTERVAL", "ANSIBLE_POLL_INTERVAL", Other::Number(15)),
    ("DEFAULT_PRIVATE_ROLE_VARS", "ANSIBLE_PRIVATE_ROLE_VARS", Other::Is(false)),
    ("DEFAULT_REMOTE_PORT", "ANSIBLE_REMOTE_PORT", Other::None),
    ("DEFAULT_REMOTE_USER", "ANSIBLE_REMOTE_USER", Other::None),
    (
        "DEFAULT_ROLES_PATH",
        "ANSIBLE_ROLES_PATH",
        Other::Paths(&["~/.ansible/roles", "/usr/share/ansible/roles", "/etc/ansible/roles"]),
    ),
    ("DEFAULT_STRATEGY", "ANSIBLE_STRATEGY", Other::Text("linear")),
    ("DEFAULT_TIMEOUT", "ANSIBLE_TIMEOUT", Other::Number(10)),
    ("DEFAULT_TRANSPORT", "ANSIBLE_TRANSPORT", Other::Text("ssh")),
    ("HOST_KEY_CHECKING", "ANSIBLE_HOST_KEY_CHECKING", Other::Is(true)),
    ("INJECT_FACTS_AS_VARS", "ANSIBLE_INJECT_FACT_VARS", Other::Is(true)),
    ("MAX_FILE_SIZE_FOR_DIFF", "ANSIBLE_MAX_DIFF_SIZE", Other::Number(104_448)),
    ("RETRY_FILES_ENABLED", "ANSIBLE_RETRY_FILES_ENABLED", Other::Is(false)),
    ("TASK_TIMEOUT", "ANSIBLE_TASK_TIMEOUT", Other::Number(0)),
];

/// Whether a text of the environment is true.
pub(super) fn is_true(text: &str) -> bool {
    ["1", "true", "yes", "on", "y", "t"].contains(&text.trim().to_lowercase().as_str())
}

/// The setting of that name; `None` where there is none.
pub(super) fn value(name: &str) -> Option<Value> {
    let (_, variable, other) = KNOWN.iter().find(|(known, _, _)| *known == name)?;
    let given = std::env::var(variable).ok().filter(|given| !given.is_empty());
    let given = given.or_else(|| crate::settings::ansible_cfg::in_force_as(variable));
    let list = |parts: &mut dyn Iterator<Item = &str>| {
        Value::from(parts.map(super::strings::expanduser).collect::<Vec<String>>())
    };
    Some(match (given, other) {
        (Some(given), Other::Is(_)) => Value::from(is_true(&given)),
        (Some(given), Other::Number(_)) => given.trim().parse::<i64>().map_or_else(|_| Value::from(given), Value::from),
        (Some(given), Other::Paths(_)) => list(&mut given.split(':').filter(|part| !part.is_empty())),
        (Some(given), Other::Text(_) | Other::None) => Value::from(given),
        (None, Other::Is(truth)) => Value::from(*truth),
        (None, Other::Number(number)) => Value::from(*number),
        (None, Other::Text(text)) => Value::from(*text),
        (None, Other::Paths(paths)) => list(&mut paths.iter().copied()),
        (None, Other::None) => Value::from(()),
    })
}
