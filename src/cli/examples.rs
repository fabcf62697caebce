//! Examples at the end of every command's help.
//!
//! What lives here: one table, so that help, manual pages and the test that reads each line as ferry would (`tests/tour.rs`)
//! know the same. What does not: the commands (args).

/// Command, and lines to type with what each does.
pub(super) const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "init",
        &[
            ("ferry init", "asks a few questions at a terminal; without one writes files to fill in"),
            ("ferry init --cluster prod --host prod-1=10.0.0.11 --user ops --schedule cron", "without questions"),
        ],
    ),
    (
        "ping",
        &[
            ("ferry ping", "every host"),
            ("ferry ping 'prod:&mains' -K", "the main nodes of prod, with sudo's password"),
        ],
    ),
    (
        "doc",
        &[("ferry doc gravity_backup", "what a module takes"), ("ferry doc --schema", "a JSON schema of playbooks")],
    ),
    ("doctor", &[("ferry doctor", "what will go wrong tonight"), ("ferry doctor prod --all", "what is well, too")]),
    (
        "exec",
        &[
            ("ferry exec prod -b -- systemctl is-active gravity", "words, no shell"),
            ("ferry exec prod --gather -b -m shell -a 'df -h / | tail -1'", "a line of shell; equal answers folded"),
        ],
    ),
    (
        "backup",
        &[
            ("ferry backup prod --check", "plan and preflight; nothing is started"),
            ("ferry backup prod --label 'before the upgrade'", "a backup with a name"),
            ("ferry backup prod --output json --junit junit.xml", "in CI"),
        ],
    ),
    (
        "restore",
        &[
            ("ferry restore latest --from prod --to dr --check", "every gate, nothing changed"),
            ("ferry restore latest --from prod --to dr --confirm dr", "without a terminal"),
        ],
    ),
    (
        "migrate",
        &[
            ("ferry migrate prod dr --check", "look at both clusters; nothing is started"),
            ("ferry migrate prod dr --confirm dr", "without a terminal"),
        ],
    ),
    (
        "transfer",
        &[
            ("ferry transfer prod-1:/var/tmp/x.tar.gz .", "a file home"),
            ("ferry transfer prod-1:/var/tmp/x.tar.gz dr-1:/var/tmp/ --limit-rate 10M", "from host to host"),
        ],
    ),
    (
        "drill",
        &[
            ("ferry drill latest --from prod --to dr --check", "what a rehearsal would do"),
            ("ferry drill latest --from prod --to dr --confirm dr", "a rehearsal; the target needs pce_drill_ok: true"),
        ],
    ),
    ("status", &[("ferry status prod", "state, versions, disks, jobs, age of the newest point")]),
    ("logs", &[("ferry logs prod --since 2h", "one tidy folder, redacted")]),
    (
        "run",
        &[
            ("ferry run playbooks/backup.yml --syntax-check", "only read"),
            ("ferry run site.yml -l prod", "a playbook of your own"),
        ],
    ),
    ("points list", &[("ferry points list", "every point"), ("ferry points list prod --json", "for a program")]),
    ("points show", &[("ferry points show 20261122T041500Z-7f3a", "all that a point says about itself")]),
    ("points verify", &[("ferry points verify", "read every byte of every point again")]),
    (
        "points check",
        &[("ferry points check prod --max-age gravity=26h --max-age amv=8d", "for monitoring: exit 9 when too old")],
    ),
    ("points report", &[("ferry points report --out catalog.html", "the catalog as one page")]),
    (
        "points accept",
        &[(
            "ferry points accept 20261122T041500Z-7f3a --reason 'half the data was archived'",
            "a suspect point counts from now on",
        )],
    ),
    ("points hold", &[("ferry points hold 20261122T041500Z-7f3a 90d", "must not be deleted before")]),
    ("points prune", &[("ferry points prune prod --check", "what the rules would remove")]),
    ("points copy", &[("ferry points copy 20261122T041500Z-7f3a --to /mnt/other", "a verified copy in another place")]),
    ("points export", &[("ferry points export 20261122T041500Z-7f3a --to point.tar", "one file to carry away")]),
    ("points import", &[("ferry points import point.tar", "back into the catalog")]),
    ("points delete", &[("ferry points delete 20261122T041500Z-7f3a", "into the trash")]),
    ("points break-lock", &[("ferry points break-lock prod/20261122T041500Z-7f3a", "the lock of a ferry that died")]),
    ("catalog break-lock", &[("ferry catalog break-lock prod/20261122T041500Z-7f3a", "the lock of a ferry that died")]),
    ("inventory list", &[("ferry inventory list", "as ansible-inventory prints it")]),
    ("inventory graph", &[("ferry inventory graph", "groups as a tree")]),
    ("inventory host", &[("ferry inventory host prod-1", "one host's variables")]),
    ("vault create", &[("ferry vault create group_vars/prod/vault.yml", "a new file")]),
    ("vault edit", &[("ferry vault edit group_vars/prod/vault.yml", "in your editor")]),
    ("vault view", &[("ferry vault view group_vars/prod/vault.yml", "on the screen")]),
    ("vault encrypt", &[("ferry vault encrypt secrets.yml", "in its place")]),
    ("vault decrypt", &[("ferry vault decrypt secrets.yml", "in its place")]),
    ("vault rekey", &[("ferry vault rekey secrets.yml", "another password")]),
    ("vault encrypt_string", &[("ferry vault encrypt_string --name sudo_password", "one value for an inventory")]),
    ("jobs list", &[("ferry jobs list", "jobs on every node")]),
    ("jobs attach", &[("ferry jobs attach 1122d256", "follow a job and finish its run")]),
    ("jobs cancel", &[("ferry jobs cancel 1122d256 --hook", "end it, Gravity's own job too")]),
    (
        "jobs clean",
        &[
            ("ferry jobs clean 1122d256", "remove an ended job from its node"),
            ("ferry jobs clean --staging prod", "what failed hooks left"),
        ],
    ),
    ("runs list", &[("ferry runs list", "newest first")]),
    ("runs show", &[("ferry runs show 20261122T041455Z-9c1e", "what it did")]),
    ("runs replay", &[("ferry runs replay 20261122T041455Z-9c1e --speed 20", "watch it again, twenty times as fast")]),
    (
        "runs report",
        &[
            ("ferry runs report", "the page of the newest run"),
            ("ferry runs report 20261122T041455Z-9c1e --out last-night.html", "into a file to send"),
        ],
    ),
    ("runs resume", &[("ferry runs resume 20261122T041455Z-9c1e", "go on at the step that did not finish")]),
    ("playbooks list", &[("ferry playbooks list", "what is inside")]),
    ("playbooks export", &[("ferry playbooks export backup", "a copy to change")]),
    (
        "sandbox up",
        &[
            ("ferry sandbox up", "pretend clusters in ./ferry-sandbox"),
            ("ferry sandbox up --fault exit0-empty-archive=on", "a Gravity that lies"),
        ],
    ),
    ("sandbox down", &[("ferry sandbox down", "end them")]),
    ("sandbox faults", &[("ferry sandbox faults", "what can go wrong with them")]),
    ("demo", &[("ferry demo", "a backup and a restore against pretend clusters")]),
    ("explain", &[("ferry explain F411", "one code"), ("ferry explain", "all of them")]),
    ("completions", &[("ferry completions bash > ~/.local/share/bash-completion/completions/ferry", "for bash")]),
    ("man", &[("ferry man | man -l -", "read it"), ("ferry man --dir man1", "all pages into a folder")]),
];

fn text(examples: &[(&str, &str)]) -> String {
    let mut text = String::from("Examples:\n");
    for (line, what) in examples {
        text.push_str(&format!("  {line}\n      {what}\n"));
    }
    text.trim_end().to_owned()
}

/// The command line with the examples behind the help of each command.
pub(super) fn with_examples(command: clap::Command) -> clap::Command {
    EXAMPLES.iter().fold(command, |command, (path, examples)| {
        let words: Vec<&str> = path.split(' ').collect();
        add(command, &words, &text(examples))
    })
}

fn add(command: clap::Command, path: &[&str], help: &str) -> clap::Command {
    let Some((first, rest)) = path.split_first() else { return command.after_help(help.to_owned()) };
    if command.find_subcommand(first).is_none() {
        return command;
    }
    let (first, rest, help) = ((*first).to_owned(), rest.to_vec(), help.to_owned());
    command.mut_subcommand(first, |sub| add(sub, &rest, &help))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;

    /// Commands of other files that came later and bring their examples there.
    fn leaves(command: &clap::Command, path: &str, all: &mut Vec<(String, bool)>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let path = if path.is_empty() { sub.get_name().to_owned() } else { format!("{path} {}", sub.get_name()) };
            if sub.has_subcommands() {
                leaves(sub, &path, all);
            } else {
                all.push((path, sub.get_after_help().or(sub.get_after_long_help()).is_some()));
            }
        }
    }

    #[test]
    fn every_command_has_examples() {
        let mut all = Vec::new();
        leaves(&Cli::whole(), "", &mut all);
        assert!(all.len() > 20, "{all:?}");
        let without: Vec<_> = all.iter().filter(|(_, has)| !has).map(|(path, _)| path).collect();
        assert!(without.is_empty(), "without examples, add them in src/cli/examples.rs: {without:?}");
    }

    fn is_there(path: &str) -> bool {
        let whole = Cli::whole();
        path.split(' ').try_fold(&whole, |command, word| command.find_subcommand(word)).is_some()
    }

    #[test]
    fn every_example_can_be_typed() {
        // Named by the contract; their examples stand ready.
        const LATER: [&str; 5] = ["drill", "status", "logs", "inventory", "vault"];
        for (path, examples) in EXAMPLES {
            if !is_there(path) {
                let first = path.split(' ').next().unwrap_or_default();
                assert!(LATER.contains(&first) || path.starts_with("points "), "there is no command {path}");
                continue;
            }
            for (line, what) in *examples {
                let ours = line.split(['|', '>']).next().unwrap_or_default();
                let ours = if line.contains('\'') { line } else { ours };
                let words = shlex::split(ours).expect(line);
                assert_eq!(words.first().map(String::as_str), Some("ferry"), "{line}");
                assert!(line[6..].starts_with(path), "{line} is no example of {path}");
                assert!(!what.is_empty());
                if let Err(error) = Cli::read(words.into_iter().map(Into::into)) {
                    panic!("{line}: {error}");
                }
            }
        }
    }
}
