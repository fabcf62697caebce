//! `ferry exec PATTERN -- CMD`: one command on many hosts.
//!
//! What lives here: turning what was typed into a play of one task. What does not: carrying it out (`run`, as for
//! every playbook: forks, become, journal, host logs) and how what hosts say is shown (`report::exec`).
//!
//! Words behind `--` are words: no shell reads them, and nothing in them is a template
//! (`--format '{{.Names}}'` arrives as it is). What `-a` holds is what Ansible's `-a` holds: templates
//! are rendered, and `shell` and `raw` give it to a shell.

use std::path::Path;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::args::ExecArgs;
use super::open;
use super::river::{self, Journey};
use crate::digest::Hasher;
use crate::event::Window;
use crate::failure::{Failure, Kind};
use crate::modules::{self, Limits, Scope};
use crate::name::nearest;
use crate::playbook::{Loader, Playbook, Step};
use crate::report::render::{Style, one_line};
use crate::report::{Output, Sink, exec};

/// How `exec` speaks, and the bounds of its command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speech {
    form: exec::Form,
    /// `--timeout`.
    seconds: Option<u64>,
}

impl Speech {
    /// The window and its thread. `dir` is the run's folder.
    pub(super) fn open(self, output: Output, dir: &Path) -> std::io::Result<(Window, JoinHandle<()>)> {
        exec::open(self.form, output, dir)
    }

    /// What is kept of each host's output: that which is shown at the end is kept until then.
    pub(super) fn limits(self) -> Limits {
        let kept = match self.form {
            exec::Form::Stream => 64 << 10,
            exec::Form::OneLine | exec::Form::Gather => 256 << 10,
            // Shown as soon as the host has ended, and whole: there is no log that its readers know of.
            exec::Form::Ansible | exec::Form::AnsibleOneLine => 8 << 20,
        };
        Limits { seconds: self.seconds, kept }
    }
}

fn usage(what: impl Into<String>) -> Failure {
    Failure::new(Kind::Usage, what)
}

/// The module's arguments as they were given.
enum Given {
    /// The words of a command, as they are.
    Words(Vec<String>),
    /// `-a`.
    Text(String),
}

/// The first character outside of quotes that only a shell understands.
fn for_a_shell(text: &str) -> Option<char> {
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('"'), '$' | '`') | (None, '|' | '&' | ';' | '<' | '>' | '$' | '`' | '(' | ')' | '\n') => {
                return Some(c);
            }
            (None, '\'' | '"') => quote = Some(c),
            (None | Some('"'), '\\') => {
                chars.next();
            }
            _ => {}
        }
    }
    None
}

fn given(args: &ExecArgs, module: &str) -> Result<Given, Failure> {
    let wants_a_shell = "a text for a shell: -m shell -a 'TEXT'; words for one command: -- CMD ARG…";
    match (&args.args, args.words.as_slice()) {
        (Some(_), [_, ..]) => Err(usage("the command is given twice: with -a and behind --").mend("leave one of them")),
        (Some(text), []) => Ok(Given::Text(text.clone())),
        (None, []) if ["command", "shell", "raw"].contains(&module) => {
            Err(usage("there is nothing to run").mend("ferry exec PATTERN -- CMD ARG…, or -m MODULE -a ARGS"))
        }
        (None, []) => Ok(Given::Text(String::new())),
        (None, words) if module != "command" => Ok(Given::Text(words.join(" "))),
        // As `ansible -a 'uptime -p'`: one text is cut into words. That it is not given to a shell must not be
        // learned from what goes wrong there.
        (None, [one]) if one.contains(char::is_whitespace) => match for_a_shell(one) {
            Some(c) => Err(usage(format!("{c:?} means something to a shell only, and no shell reads this command"))
                .saw(one.clone())
                .mend(wants_a_shell)),
            None => shlex::split(one).filter(|words| !words.is_empty()).map(Given::Words).ok_or_else(|| {
                usage("a quote is not closed, or there is no word").saw(one.clone()).mend(wants_a_shell)
            }),
        },
        (None, words) if words.first().is_some_and(String::is_empty) => {
            Err(usage("the command's name is empty").mend(wants_a_shell))
        }
        (None, words) => Ok(Given::Words(words.to_vec())),
    }
}

/// Text that a template gives back as it is.
fn literal(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('{', Some('{' | '%' | '#')) => out.push_str("{{ '{' }}"),
            (c, _) => out.push(c),
        }
    }
    out
}

/// The play of one task.
fn playbook(pattern: &str, module: &str, given: Given, background: Option<(u64, u64)>) -> Result<Playbook, Failure> {
    let arguments = match &given {
        // The words take their place below: they need not be YAML.
        // Words are words: nothing on the host fills in what looks like a name.
        Given::Words(_) => json!({"argv": ["true"], "expand_argument_vars": false}),
        Given::Text(text) if text.trim_start().starts_with('{') && !text.trim_start().starts_with("{{") => {
            serde_json::from_str(text)
                .map_err(|error| usage(format!("-a is no JSON object: {error}")).saw(text.clone()))?
        }
        Given::Text(text) if text.is_empty() => Value::Null,
        Given::Text(text) => json!(text),
    };
    let play = json!([{"name": "exec", "hosts": "all", "gather_facts": false, "tasks": [{"name": module, module: arguments}]}]);
    let mut play = play;
    if let (Some((seconds, poll)), Some(task)) =
        (background, play.pointer_mut("/0/tasks/0").and_then(Value::as_object_mut))
    {
        task.insert("async".to_owned(), json!(seconds));
        task.insert("poll".to_owned(), json!(poll));
    }
    let mut playbook = Playbook::parse("-a", &play.to_string(), &modules::table()).map_err(|failure| {
        // The place is in a text of ours.
        let bare = |failure: Failure| Failure { kind: Kind::Usage, place: None, snippet: None, ..failure };
        let more = failure.more.iter().cloned().map(bare).collect();
        bare(Failure { more, ..failure })
    })?;
    for play in &mut playbook.plays {
        play.hosts.text = literal(pattern);
        let Given::Words(words) = &given else { continue };
        for step in &mut play.tasks {
            if let Step::Task(task) = step {
                for (name, _, value) in &mut task.args {
                    if name == "argv" {
                        *value = words.iter().map(|word| Value::String(literal(word))).collect();
                    }
                }
            }
        }
    }
    Ok(playbook)
}

/// Ansible's number for one of ours. What is not known counts as unreachable there, and there are no gates.
fn as_ansible(code: u8) -> u8 {
    if code == Kind::Unknown.exit_code() { Kind::Unreachable.exit_code() } else { code }
}

pub(super) async fn run(args: ExecArgs) -> Result<u8, Failure> {
    // Settings that are wrong are told where they are used.
    let compat = open::settings(&[], None, None, None).is_ok_and(|settings| settings.compat_ansible);
    match look(args, compat).await {
        Ok(code) if compat => Ok(as_ansible(code)),
        // Ansible goes on without a host, and without an inventory, and ends well: scripts that call it rely on it.
        Err(failure) if compat && failure.kind == Kind::NoHost => Ok(nobody(&failure)),
        ended => ended,
    }
}

/// No host matched, which is no error to Ansible.
fn nobody(failure: &Failure) -> u8 {
    let style = Style::stderr();
    for what in [failure.what.as_str(), "No hosts matched, nothing to do"] {
        Sink::stderr().put(&format!("[WARNING]: {}\n", one_line(what, style)));
    }
    0
}

async fn look(mut args: ExecArgs, compat: bool) -> Result<u8, Failure> {
    if args.list_hosts {
        let hosts = open::open(&args.common, args.playbook_dir.as_deref())?
            .select(&args.pattern, args.common.limit.as_deref())?;
        let (head, indent) =
            if compat { (format!("  hosts ({}):\n", hosts.len()), "    ") } else { (String::new(), "") };
        let hosts: String = hosts.iter().map(|host| format!("{indent}{host}\n")).collect();
        Sink::stdout().put(&(head + &hosts));
        return Ok(0);
    }
    let table = modules::table();
    let wanted = args.module.clone().unwrap_or_else(|| "command".to_owned());
    if let Some(action) = ["include_role", "include_tasks", "import_role", "import_tasks", "meta"]
        .into_iter()
        .find(|action| *action == wanted.trim_start_matches("ansible.builtin."))
    {
        return included(args, action, compat).await;
    }
    let Some(spec) = table.get(&wanted) else {
        let ours: Vec<&str> = table.names().filter(|name| modules::scope(name) == Scope::Host).collect();
        let near = nearest(&wanted, ours.iter().copied(), 2);
        let mut failure = usage(format!("there is no module {wanted:?}"));
        if compat {
            // Ansible finds out on the hosts.
            failure.kind = Kind::Failed;
        }
        return Err(match near.is_empty() {
            true => failure.mend(format!("ferry has {}", ours.join(", "))),
            false => failure.mend(format!("did you mean {}?", near.join(" or "))),
        });
    };
    let module = spec.name;
    if modules::scope(module) == Scope::Cluster {
        return Err(usage(format!(
            "the module {module} is about a whole cluster, and works with what steps before it found"
        ))
        .mend("ferry backup, ferry restore, or a playbook: ferry run"));
    }
    let given = given(&args, module)?;
    let words = match &given {
        Given::Words(words) => words.iter().any(|word| word.contains('\0')),
        Given::Text(text) => text.contains('\0'),
    };
    if words {
        return Err(usage("a NUL cannot be part of a command line"));
    }
    let mut hasher = Hasher::new();
    hasher.update(json!([&args.pattern, module, &args.words, &args.args]).to_string().as_bytes());
    let title = match &given {
        Given::Words(words) => crate::remote::Command::words(words).map(|line| line.to_string()).unwrap_or_default(),
        Given::Text(text) => format!("{module} {text}").trim_end().to_owned(),
    };
    let background = args.background.map(|seconds| (seconds, args.poll.unwrap_or(15)));
    let mut playbook = playbook(&args.pattern, module, given, background)?;
    // Ansible's option is the task's own time, and its words are looked for.
    if let (true, Some(seconds)) = (compat, args.command_timeout) {
        args.command_timeout = None;
        for step in playbook.plays.iter_mut().flat_map(|play| &mut play.tasks) {
            if let Step::Task(task) = step {
                let place = task.place.clone();
                task.common.timeout = Some(crate::playbook::Written { value: json!(seconds), place });
            }
        }
    }
    let opened = open::open(&args.common, args.playbook_dir.as_deref())?;
    super::run::put_settings_into(std::slice::from_mut(&mut playbook));
    if let Err(failure) = opened.select(&args.pattern, args.common.limit.as_deref()) {
        if compat {
            open::warn(opened.inventory.warnings());
        }
        return Err(failure);
    }
    // `ansible` goes by its callback where it is told to load them.
    let says = |name: &str, value: &str| std::env::var(name).is_ok_and(|given| given.eq_ignore_ascii_case(value));
    let one_line = args.one_line
        || says("ANSIBLE_STDOUT_CALLBACK", "oneline")
            && ["1", "true", "yes"].iter().any(|yes| says("ANSIBLE_LOAD_CALLBACK_PLUGINS", yes));
    let form = match (one_line, args.gather) {
        (true, _) if compat => exec::Form::AnsibleOneLine,
        (false, false) if compat => exec::Form::Ansible,
        (true, _) => exec::Form::OneLine,
        (_, true) => exec::Form::Gather,
        _ => exec::Form::Stream,
    };
    into_manner(&mut args);
    args.common.manner.facts = crate::run::FactCache::in_force()?;
    args.common.exec = Some(Speech { form, seconds: args.command_timeout });
    river::flow(Journey::typed(opened, playbook, hasher.finish(), title, args.check, args.common)?).await
}

/// What the options say of how each task is done.
fn into_manner(args: &mut ExecArgs) {
    let manner = &mut args.common.manner;
    manner.diff = args.diff;
    manner.tree = args.tree.take();
    manner.remote_user.clone_from(&args.common.user);
    manner.connection = args.connection.take();
    manner.become_user = args.become_user.take();
    manner.become_method = args.become_method.take();
}

/// `-m include_role -a name=ROLE`: what it includes is carried out as in a playbook of this folder.
async fn included(mut args: ExecArgs, action: &'static str, compat: bool) -> Result<u8, Failure> {
    let text = args.args.clone().unwrap_or_else(|| args.words.join(" "));
    if text.trim().is_empty() {
        return Err(usage(format!("{action} needs what to include")).mend(format!("-m {action} -a name=ROLE")));
    }
    let opened = open::open(&args.common, args.playbook_dir.as_deref())?;
    opened.select(&args.pattern, args.common.limit.as_deref())?;
    let mut loader = Loader::new(table_of_all());
    loader.roles_path = super::run::roles_path(&opened.settings);
    loader.lenient = compat;
    loader.extra = opened.extra.clone();
    let vault = std::sync::Arc::clone(&opened.vault);
    loader.read = std::sync::Arc::new(move |path| vault.read_document(path));
    let play = json!([{"name": "exec", "hosts": "all", "gather_facts": false, "tasks": [{action: text}]}]);
    let mut playbook =
        loader.text("-a", &play.to_string()).map_err(|failure| Failure { kind: Kind::Usage, ..failure })?;
    for play in &mut playbook.plays {
        play.hosts.text = literal(&args.pattern);
    }
    let mut hasher = Hasher::new();
    hasher.update(json!([&args.pattern, action, &text]).to_string().as_bytes());
    into_manner(&mut args);
    args.common.manner.loader = Some(loader);
    args.common.manner.no_facts = true;
    let title = format!("{action} {text}");
    river::flow(Journey::typed(opened, playbook, hasher.finish(), title, args.check, args.common)?).await
}

fn table_of_all() -> crate::playbook::ModuleTable {
    modules::table()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::template::{Scope as Names, Templater};

    #[test]
    fn words_are_never_templates() {
        for word in
            ["{{.Names}}", "{{{{", "{%x%}", "{# c #}", "{", "{{", "a{{b}}c", "{{ '{' }}", "${x}", "é\n", "{%", "}}%}"]
        {
            let rendered = Templater::new().render(&literal(word), None, &Names::new()).unwrap();
            assert_eq!(rendered, Value::String(word.to_owned()));
        }
    }

    #[test]
    fn what_only_a_shell_understands_is_seen() {
        for (text, expected) in [
            ("uptime -p", None),
            ("echo 'a | b' \"c;d\" e\\|f", None),
            ("echo '$HOME'", None),
            ("ls *.log", None),
            ("a | b", Some('|')),
            ("echo \"$HOME\"", Some('$')),
            ("echo \"\\$HOME\"", None),
            ("a && b", Some('&')),
            ("a > f", Some('>')),
            ("(a)", Some('(')),
        ] {
            assert_eq!(for_a_shell(text), expected, "{text}");
        }
    }
}
