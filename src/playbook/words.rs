//! The words of Ansible's playbook language that ferry has not built yet.
//!
//! What lives here: lists of names, so that a key that Ansible knows is told apart from a misspelt
//! one. What does not: what ferry has (the readers of plays, tasks and blocks know that).

/// Keys of a play that are known to Ansible and not built yet.
pub(super) const PLAY: &[&str] = &[
    "gather_subset", "gather_timeout", "fact_path", "vars_files", "vars_prompt", "pre_tasks", "roles", "post_tasks", "handlers",
    "serial", "strategy", "order", "max_fail_percentage", "force_handlers", "ignore_errors", "ignore_unreachable",
    "become_method", "become_flags", "become_exe", "remote_user", "port", "connection", "environment", "module_defaults",
    "no_log", "check_mode", "diff", "throttle", "timeout", "run_once", "collections", "debugger", "import_playbook",
    "validate_argspec",
];

/// Keys of a task that are known to Ansible and not built yet.
pub(super) const TASK: &[&str] = &[
    "action", "local_action", "loop", "loop_control", "until", "retries", "delay", "ignore_unreachable", "notify", "listen",
    "delegate_to", "delegate_facts", "async", "poll", "environment", "check_mode", "diff", "throttle", "timeout",
    "become_method", "become_flags", "become_exe", "remote_user", "port", "connection", "module_defaults", "collections",
    "debugger", "any_errors_fatal",
];

/// Keys of a block that are known to Ansible and not built yet.
pub(super) const BLOCK: &[&str] = &[
    "ignore_unreachable", "notify", "delegate_to", "delegate_facts", "environment", "check_mode", "diff", "throttle",
    "timeout", "become_method", "become_flags", "become_exe", "remote_user", "port", "connection", "module_defaults",
    "collections", "debugger", "any_errors_fatal",
];

/// Modules and actions of ansible.builtin.
pub(super) const MODULES: &[&str] = &[
    "add_host", "apt", "apt_key", "apt_repository", "assemble", "assert", "async_status", "blockinfile", "command", "copy",
    "cron", "deb822_repository", "debconf", "debug", "dnf", "dnf5", "dpkg_selections", "expect", "fail", "fetch", "file",
    "find", "gather_facts", "get_url", "getent", "git", "group", "group_by", "hostname", "import_playbook", "import_role",
    "import_tasks", "include_role", "include_tasks", "include_vars", "iptables", "known_hosts", "lineinfile", "meta",
    "mount_facts", "package", "package_facts", "pause", "ping", "pip", "raw", "reboot", "replace", "rpm_key", "script",
    "service", "service_facts", "set_fact", "set_stats", "setup", "shell", "slurp", "stat", "subversion", "systemd",
    "systemd_service", "sysvinit", "tempfile", "template", "unarchive", "uri", "user", "validate_argument_spec", "wait_for",
    "wait_for_connection", "yum", "yum_repository", "include",
];
