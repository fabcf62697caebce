//! Playbooks as they are written: plays, blocks, tasks, each knowing file, line and column.
//!
//! What lives here: reading a playbook ([`Playbook::parse`]) and telling everything that is wrong in
//! it at once, before any host is touched. What does not: which hosts, in which order, with which values
//! (plan and run), and what the modules do (modules).

mod freeform;
mod module;
mod words;

pub use module::{Arg, ArgKind, ArgSpec, ModuleSpec, ModuleTable};

use serde_json::Value;

use crate::failure::{Failure, Place};
use crate::name::nearest;
use crate::settings::yaml::{Document, Entry, Node, Spot, Yaml, quoted, showable};
use crate::template::{Templater, is_template};

/// A variable as written: name, place of its value, value. Templates in it are not rendered yet.
pub type Var = (String, Place, Value);

/// A text and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// The text, templates not rendered.
    pub text: String,
    /// Where it begins.
    pub place: Place,
}

/// Something that is true or false: written out, or a template or condition to evaluate.
#[derive(Debug, Clone, PartialEq)]
pub enum Flag {
    /// Written out.
    Is(bool),
    /// A template (`"{{ x }}"`) that must give true or false.
    Template(Text),
}

/// What every play, block and task can say about becoming another user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Becoming {
    /// `become`.
    pub wanted: Option<Flag>,
    /// `become_user`.
    pub user: Option<Text>,
}

/// A playbook.
#[derive(Debug, Clone)]
pub struct Playbook {
    /// The file as the operator would name it.
    pub file: String,
    /// Its text, for snippets.
    pub text: std::sync::Arc<str>,
    /// Its plays in order.
    pub plays: Vec<Play>,
}

/// A play.
#[derive(Debug, Clone)]
pub struct Play {
    /// Where it begins.
    pub place: Place,
    /// `name`.
    pub name: Option<Text>,
    /// `hosts`: patterns, joined by commas when it is a list.
    pub hosts: Text,
    /// `vars`.
    pub vars: Vec<Var>,
    /// `become`, `become_user`.
    pub becoming: Becoming,
    /// `any_errors_fatal`.
    pub any_errors_fatal: Option<Flag>,
    /// `tags`.
    pub tags: Vec<Text>,
    /// `tasks`.
    pub tasks: Vec<Step>,
}

/// One entry of a list of tasks.
#[derive(Debug, Clone)]
pub enum Step {
    /// A task.
    Task(Box<Task>),
    /// A block.
    Block(Box<Block>),
}

impl Step {
    /// Where it begins.
    pub fn place(&self) -> &Place {
        match self {
            Self::Task(task) => &task.place,
            Self::Block(block) => &block.place,
        }
    }
}

/// What tasks and blocks have in common.
#[derive(Debug, Clone, Default)]
pub struct Common {
    /// `name`.
    pub name: Option<Text>,
    /// `when`: all must be true. Bare expressions.
    pub when: Vec<Text>,
    /// `vars`.
    pub vars: Vec<Var>,
    /// `run_once`.
    pub run_once: Option<Flag>,
    /// `ignore_errors`.
    pub ignore_errors: Option<Flag>,
    /// `no_log`.
    pub no_log: Option<Flag>,
    /// `become`, `become_user`.
    pub becoming: Becoming,
    /// `tags`.
    pub tags: Vec<Text>,
}

/// A task: one module with its arguments.
#[derive(Debug, Clone)]
pub struct Task {
    /// Where it begins.
    pub place: Place,
    /// What it shares with blocks.
    pub common: Common,
    /// The module, by its short name.
    pub module: &'static str,
    /// Where the module is named.
    pub module_place: Place,
    /// Its arguments in the order they are written; values with templates are not checked yet. The text
    /// of a free-form module is the argument `cmd`.
    pub args: Vec<Arg>,
    /// `register`.
    pub register: Option<Text>,
    /// `changed_when`: all must be true. Bare expressions.
    pub changed_when: Option<Vec<Text>>,
    /// `failed_when`: all must be true. Bare expressions.
    pub failed_when: Option<Vec<Text>>,
}

/// A block.
#[derive(Debug, Clone)]
pub struct Block {
    /// Where it begins.
    pub place: Place,
    /// What it shares with tasks.
    pub common: Common,
    /// `block`.
    pub block: Vec<Step>,
    /// `rescue`.
    pub rescue: Vec<Step>,
    /// `always`.
    pub always: Vec<Step>,
}

const PLAY_KEYS: &[&str] =
    &["name", "hosts", "vars", "tasks", "gather_facts", "become", "become_user", "any_errors_fatal", "tags"];
const COMMON_KEYS: &[&str] =
    &["name", "when", "vars", "run_once", "ignore_errors", "no_log", "become", "become_user", "tags"];
const TASK_KEYS: &[&str] = &["args", "register", "changed_when", "failed_when"];
const BLOCK_KEYS: &[&str] = &["block", "rescue", "always"];
/// How deep blocks stand in blocks.
const DEEPEST: usize = 16;

impl Playbook {
    /// Reads the playbook `text` of `file`. Modules and their arguments are checked against `modules`.
    ///
    /// # Errors
    /// [`crate::failure::Kind::CouldNotStart`] with all that is wrong, each with file, line, column and snippet.
    pub fn parse(file: &str, text: &str, modules: &ModuleTable) -> Result<Self, Failure> {
        let document = Document::read(file, text)?;
        let mut parser = Parser { document: &document, modules, templater: Templater::new(), errors: Vec::new() };
        let plays = parser.plays();
        match Failure::all(parser.errors) {
            Some(failure) => Err(failure),
            None => Ok(Self { file: file.to_owned(), text: document.text.clone(), plays }),
        }
    }

    /// A failure at a place of this playbook with its snippet.
    pub fn failure_at(&self, place: &Place, what: impl Into<String>) -> Failure {
        Failure::new(crate::failure::Kind::CouldNotStart, what).in_text(
            &place.file,
            &showable(&self.text),
            place.line,
            place.column,
        )
    }
}

struct Parser<'a> {
    document: &'a Document,
    modules: &'a ModuleTable,
    templater: Templater,
    errors: Vec<Failure>,
}

impl<'a> Parser<'a> {
    fn failure(&self, spot: Spot, what: impl Into<String>) -> Failure {
        self.document.failure(spot, what)
    }

    fn place(&self, spot: Spot) -> Place {
        self.document.place(spot)
    }

    fn wrong(&mut self, node: &Node, what: String, mend: &str) {
        let mut failure = self.failure(node.spot, what).saw(node.says());
        if !mend.is_empty() {
            failure = failure.mend(mend);
        }
        self.errors.push(failure);
    }

    fn plays(&mut self) -> Vec<Play> {
        let root = &self.document.root;
        let plays = match &root.value {
            Yaml::List(plays) if !plays.is_empty() => plays,
            Yaml::Null | Yaml::List(_) => {
                let failure = self.failure(root.spot, "this playbook is empty").mend("begin with '- hosts: …'");
                self.errors.push(failure);
                return Vec::new();
            }
            Yaml::Map(_) => {
                self.wrong(
                    root,
                    "a playbook is a list of plays".to_owned(),
                    "begin each play with a dash: '- hosts: …'",
                );
                return Vec::new();
            }
            _ => {
                self.wrong(root, "a playbook is a list of plays".to_owned(), "");
                return Vec::new();
            }
        };
        plays.iter().filter_map(|play| self.play(play)).collect()
    }

    fn entries(&mut self, node: &'a Node, what: &str) -> Option<&'a [Entry]> {
        match &node.value {
            Yaml::Map(entries) => Some(entries),
            _ => {
                self.wrong(node, format!("{what} is a mapping"), "");
                None
            }
        }
    }

    fn play(&mut self, node: &'a Node) -> Option<Play> {
        let entries = self.entries(node, "a play")?;
        let mut play = Play {
            place: self.place(node.spot),
            name: None,
            hosts: Text { text: String::new(), place: self.place(node.spot) },
            vars: Vec::new(),
            becoming: Becoming::default(),
            any_errors_fatal: None,
            tags: Vec::new(),
            tasks: Vec::new(),
        };
        let mut hosts = false;
        let mut foreign = false;
        for entry in entries {
            let value = &entry.value;
            match self.key(entry).as_str() {
                "name" => play.name = self.text(value, "name"),
                "hosts" => {
                    hosts = true;
                    if let Some(text) = self.hosts(value) {
                        play.hosts = text;
                    }
                }
                "vars" => play.vars = self.vars(value),
                "become" => play.becoming.wanted = self.flag(value, "become"),
                "become_user" => play.becoming.user = self.text(value, "become_user"),
                "any_errors_fatal" => play.any_errors_fatal = self.flag(value, "any_errors_fatal"),
                "tags" => play.tags = self.tags(value),
                "tasks" => play.tasks = self.steps(value, "tasks", 0),
                "gather_facts" => match self.flag(value, "gather_facts") {
                    Some(Flag::Is(false)) | None => {}
                    Some(_) => {
                        let failure = self
                            .failure(value.spot, "gathering facts is not built yet in ferry")
                            .mend("write gather_facts: false");
                        self.errors.push(failure);
                    }
                },
                other => {
                    foreign |= other == "import_playbook" || other == "ansible.builtin.import_playbook";
                    self.unknown_key(entry, "a play", PLAY_KEYS, words::PLAY);
                }
            }
        }
        if !hosts && !foreign {
            let failure = self
                .failure(node.spot, "this play has no hosts")
                .mend("add 'hosts:' with a pattern, such as hosts: \"prod:&mains\"");
            self.errors.push(failure);
        }
        Some(play)
    }

    fn key(&mut self, entry: &Entry) -> String {
        match &entry.key.value {
            Yaml::Text(text) => text.clone(),
            _ => entry.name(),
        }
    }

    /// A key that is none of `mine`: not built yet, or unknown with what was meant perhaps.
    fn unknown_key(&mut self, entry: &Entry, of: &str, mine: &[&str], theirs: &[&str]) {
        let name = self.key(entry);
        let failure = self.failure(entry.key.spot, "");
        self.errors.push(if theirs.contains(&short(&name)) || name.starts_with("with_") {
            let mut failure = failure.mend("remove it, or keep this part for ansible-playbook");
            failure.what = format!("{} is known to Ansible and not built yet in ferry", quoted(&name));
            failure
        } else {
            let near = nearest(&name, mine.iter().copied(), 2);
            let mut failure = match near.is_empty() {
                true => failure.mend(format!("{of} has {}", mine.join(", "))),
                false => failure.mend(format!("did you mean {}?", near.join(" or "))),
            };
            failure.what = format!("{of} has no key {}", quoted(&name));
            failure
        });
    }

    fn text(&mut self, node: &Node, what: &str) -> Option<Text> {
        let text = match &node.value {
            Yaml::Text(text) => text.clone(),
            Yaml::Number(number) => number.to_string(),
            _ => {
                self.wrong(node, format!("{what} is text"), "put it in quotes");
                return None;
            }
        };
        let place = self.place(node.spot);
        self.template(&text, node.spot, &place);
        Some(Text { text, place })
    }

    fn template(&mut self, text: &str, spot: Spot, place: &Place) {
        if let Err(failure) = self.templater.check(text, Some(place)) {
            let at = self.failure(spot, "");
            self.errors.push(Failure { snippet: at.snippet, ..failure });
        }
    }

    fn templates(&mut self, node: &Node) {
        match &node.value {
            Yaml::Text(text) => {
                let place = self.place(node.spot);
                self.template(text, node.spot, &place);
            }
            Yaml::Vault(_) => {
                let failure = self
                    .failure(node.spot, "this is a !vault value, and vault is not built yet in ferry")
                    .mend("give the secret with -K, a password file or an environment variable");
                self.errors.push(failure);
            }
            Yaml::List(items) => items.iter().for_each(|item| self.templates(item)),
            Yaml::Map(entries) => entries.iter().for_each(|entry| self.templates(&entry.value)),
            _ => {}
        }
    }

    fn hosts(&mut self, node: &Node) -> Option<Text> {
        let Yaml::List(items) = &node.value else {
            let text = self.text(node, "hosts")?;
            if text.text.trim().is_empty() {
                self.wrong(node, "hosts is empty".to_owned(), "write a pattern, such as all or \"prod:&mains\"");
                return None;
            }
            return Some(text);
        };
        let mut names = Vec::new();
        for item in items {
            names.push(self.text(item, "an entry of hosts")?.text);
        }
        if names.is_empty() {
            self.wrong(node, "hosts is an empty list".to_owned(), "write a pattern, such as all or \"prod:&mains\"");
            return None;
        }
        Some(Text { text: names.join(","), place: self.place(node.spot) })
    }

    fn flag(&mut self, node: &Node, what: &str) -> Option<Flag> {
        match &node.value {
            Yaml::Bool(value) => Some(Flag::Is(*value)),
            Yaml::Text(text) if is_template(text) => self.text(node, what).map(Flag::Template),
            Yaml::Text(text) => match text.to_ascii_lowercase().as_str() {
                "yes" | "true" | "on" => Some(Flag::Is(true)),
                "no" | "false" | "off" => Some(Flag::Is(false)),
                _ => {
                    self.wrong(node, format!("{what} is true or false"), "write true, false or a \"{{ template }}\"");
                    None
                }
            },
            _ => {
                self.wrong(node, format!("{what} is true or false"), "write true, false or a \"{{ template }}\"");
                None
            }
        }
    }

    fn tags(&mut self, node: &Node) -> Vec<Text> {
        match &node.value {
            Yaml::Null => Vec::new(),
            Yaml::List(items) => items.iter().filter_map(|item| self.text(item, "a tag")).collect(),
            _ => {
                let Some(text) = self.text(node, "tags") else { return Vec::new() };
                let parts = text.text.split(',').map(str::trim).filter(|part| !part.is_empty());
                parts.map(|part| Text { text: part.to_owned(), place: text.place.clone() }).collect()
            }
        }
    }

    fn conditions(&mut self, node: &Node, what: &str) -> Vec<Text> {
        let items = match &node.value {
            Yaml::List(items) => items.as_slice(),
            Yaml::Null => {
                self.wrong(node, format!("{what} is empty"), "write an expression, or remove the key");
                &[]
            }
            _ => std::slice::from_ref(node),
        };
        let mut out = Vec::new();
        for item in items {
            let text = match &item.value {
                Yaml::Text(text) => text.trim().to_owned(),
                Yaml::Bool(value) => value.to_string(),
                _ => {
                    self.wrong(item, format!("{what} is an expression, true or false, or a list of them"), "");
                    continue;
                }
            };
            let place = self.place(item.spot);
            if let Err(failure) = self.templater.check_condition(&text, Some(&place)) {
                let at = self.failure(item.spot, "");
                self.errors.push(Failure { snippet: at.snippet, ..failure });
                continue;
            }
            out.push(Text { text, place });
        }
        out
    }

    fn vars(&mut self, node: &'a Node) -> Vec<Var> {
        if node.value == Yaml::Null {
            return Vec::new();
        }
        let Some(entries) = self.entries(node, "vars") else { return Vec::new() };
        let mut out = Vec::new();
        for entry in entries {
            let name = self.key(entry);
            if !is_identifier(&name) || !matches!(entry.key.value, Yaml::Text(_)) {
                let failure = self
                    .failure(entry.key.spot, format!("{} is not the name of a variable", quoted(&name)))
                    .why("letters, digits and '_', not beginning with a digit");
                self.errors.push(failure);
                continue;
            }
            self.templates(&entry.value);
            let value = entry.value.to_json();
            // Where a play sets one of our own variables, the rules are those of the inventory.
            if let Err(problem) = crate::inventory::vars::check(&name, &value) {
                let spot = if problem.by_name { entry.key.spot } else { entry.value.spot };
                let mut failure = self.failure(spot, problem.what);
                failure.seen = problem.seen;
                failure.mend = problem.mend;
                if problem.secret {
                    failure.snippet = None;
                }
                self.errors.push(failure);
                continue;
            }
            out.push((name, self.place(entry.value.spot), value));
        }
        out
    }

    fn steps(&mut self, node: &'a Node, what: &str, depth: usize) -> Vec<Step> {
        match &node.value {
            Yaml::Null => Vec::new(),
            Yaml::List(items) => items.iter().filter_map(|item| self.step(item, depth)).collect(),
            _ => {
                self.wrong(node, format!("{what} is a list of tasks"), "begin each task with a dash");
                Vec::new()
            }
        }
    }

    fn step(&mut self, node: &'a Node, depth: usize) -> Option<Step> {
        let entries = self.entries(node, "a task")?;
        if depth > DEEPEST {
            self.wrong(node, format!("blocks stand more than {DEEPEST} deep in blocks"), "");
            return None;
        }
        let names: Vec<String> = entries.iter().map(Entry::name).collect();
        if names.iter().any(|name| BLOCK_KEYS.contains(&name.as_str())) {
            self.block(node, entries, depth).map(|block| Step::Block(Box::new(block)))
        } else {
            self.task(node, entries).map(|task| Step::Task(Box::new(task)))
        }
    }

    /// Takes `entry` when tasks and blocks both have it.
    fn common(&mut self, entry: &'a Entry, common: &mut Common) -> bool {
        let value = &entry.value;
        match self.key(entry).as_str() {
            "name" => {
                common.name = if value.value == Yaml::Null { None } else { self.text(value, "name") };
            }
            "when" => common.when = self.conditions(value, "when"),
            "vars" => common.vars = self.vars(value),
            "run_once" => common.run_once = self.flag(value, "run_once"),
            "ignore_errors" => common.ignore_errors = self.flag(value, "ignore_errors"),
            "no_log" => common.no_log = self.flag(value, "no_log"),
            "become" => common.becoming.wanted = self.flag(value, "become"),
            "become_user" => common.becoming.user = self.text(value, "become_user"),
            "tags" => common.tags = self.tags(value),
            _ => return false,
        }
        true
    }

    fn block(&mut self, node: &'a Node, entries: &'a [Entry], depth: usize) -> Option<Block> {
        let mut block = Block {
            place: self.place(node.spot),
            common: Common::default(),
            block: Vec::new(),
            rescue: Vec::new(),
            always: Vec::new(),
        };
        for entry in entries {
            if self.common(entry, &mut block.common) {
                continue;
            }
            match self.key(entry).as_str() {
                "block" => block.block = self.steps(&entry.value, "block", depth + 1),
                "rescue" => block.rescue = self.steps(&entry.value, "rescue", depth + 1),
                "always" => block.always = self.steps(&entry.value, "always", depth + 1),
                name if self.modules.get(name).is_some() || TASK_KEYS.contains(&name) => {
                    let failure = self
                        .failure(entry.key.spot, format!("a block cannot have {}", quoted(name)))
                        .mend("put it into a task inside of the block");
                    self.errors.push(failure);
                }
                _ => {
                    let mine: Vec<&str> = BLOCK_KEYS.iter().chain(COMMON_KEYS).copied().collect();
                    self.unknown_key(entry, "a block", &mine, words::BLOCK);
                }
            }
        }
        if !entries.iter().any(|entry| entry.name() == "block") {
            let failure = self
                .failure(node.spot, "rescue and always belong to a block, and there is none")
                .mend("add 'block:' with the tasks that they stand by");
            self.errors.push(failure);
            return None;
        }
        Some(block)
    }

    fn task(&mut self, node: &'a Node, entries: &'a [Entry]) -> Option<Task> {
        let mut common = Common::default();
        let mut register = None;
        let mut changed_when = None;
        let mut failed_when = None;
        let mut extra_args: Option<&'a Node> = None;
        let mut named: Option<(&'a Entry, ModuleSpec)> = None;
        let before = self.errors.len();
        let mut not_built = false;
        for entry in entries {
            if self.common(entry, &mut common) {
                continue;
            }
            let name = self.key(entry);
            match name.as_str() {
                "register" => register = self.register(&entry.value),
                "changed_when" => changed_when = Some(self.conditions(&entry.value, "changed_when")),
                "failed_when" => failed_when = Some(self.conditions(&entry.value, "failed_when")),
                "args" => extra_args = Some(&entry.value),
                _ => match self.modules.get(&name).copied() {
                    Some(module) => match named {
                        Some((first, _)) => {
                            let failure = self
                                .failure(entry.key.spot, format!("this task names a second module, {}", quoted(&name)))
                                .why(format!("the first is {} in line {}", first.name(), first.key.spot.line))
                                .mend("make two tasks of it");
                            self.errors.push(failure);
                        }
                        None => named = Some((entry, module)),
                    },
                    None => {
                        not_built = true;
                        self.unknown_in_task(entry, &name);
                    }
                },
            }
        }
        let Some((entry, module)) = named else {
            if !not_built {
                let failure = self
                    .failure(node.spot, "this task names no module")
                    .mend("add one, such as 'command: uptime'; 'ferry doc' lists them");
                self.errors.push(failure);
            }
            return None;
        };
        let args = self.args(entry, &module, extra_args);
        if self.errors.len() > before {
            return None;
        }
        Some(Task {
            place: self.place(node.spot),
            common,
            module: module.name,
            module_place: self.place(entry.key.spot),
            args,
            register,
            changed_when,
            failed_when,
        })
    }

    /// A key of a task that is neither ours nor one of our modules.
    fn unknown_in_task(&mut self, entry: &Entry, name: &str) {
        let mine: Vec<&str> = TASK_KEYS.iter().chain(COMMON_KEYS).chain(&["block"]).copied().collect();
        if words::TASK.contains(&name) || name.starts_with("with_") {
            self.unknown_key(entry, "a task", &mine, words::TASK);
            return;
        }
        let modules: Vec<&str> = self.modules.names().collect();
        if words::MODULES.contains(&module::short_name(name)) {
            let failure = self
                .failure(
                    entry.key.spot,
                    format!("the module {} is known to Ansible and not built yet in ferry", quoted(name)),
                )
                .mend(format!("ferry has {}", modules.join(", ")));
            self.errors.push(failure);
            return;
        }
        let failure = self.failure(entry.key.spot, format!("{} is neither a key of a task nor a module", quoted(name)));
        let near = nearest(short(name), mine.iter().copied().chain(modules.iter().copied()), 3);
        let failure = if name.contains('.') && near.is_empty() {
            failure.mend("modules of collections are not built in ferry; it has its own and some of ansible.builtin")
        } else if near.is_empty() {
            failure.mend(format!("modules: {}", modules.join(", ")))
        } else {
            failure.mend(format!("did you mean {}?", near.join(" or ")))
        };
        self.errors.push(failure);
    }

    fn register(&mut self, node: &Node) -> Option<Text> {
        let text = self.text(node, "register")?;
        if !is_identifier(&text.text) {
            self.wrong(
                node,
                "register is the name of a variable".to_owned(),
                "letters, digits and '_', not beginning with a digit",
            );
            return None;
        }
        Some(text)
    }

    fn args(&mut self, entry: &'a Entry, module: &ModuleSpec, extra: Option<&'a Node>) -> Vec<Arg> {
        let place = self.place(entry.value.spot);
        let mut args: Vec<Arg> = Vec::new();
        // Where the name of each argument stands.
        let mut names: Vec<Spot> = Vec::new();
        self.templates(&entry.value);
        match &entry.value.value {
            Yaml::Null => {}
            Yaml::Map(entries) => {
                for arg in entries {
                    let name = self.key(arg);
                    args.push((name, self.place(arg.value.spot), arg.value.to_json()));
                    names.push(arg.key.spot);
                }
            }
            Yaml::Text(line) => {
                let known: Vec<&str> = module.args.iter().map(|arg| arg.name).filter(|name| *name != "cmd").collect();
                let parsed = if module.free_form {
                    freeform::free_form(line, &known).map(|(command, args)| {
                        let command = (!command.is_empty()).then_some(("cmd".to_owned(), command));
                        command.into_iter().chain(args).collect::<Vec<_>>()
                    })
                } else {
                    freeform::pairs(line)
                };
                match parsed {
                    Ok(pairs) => {
                        args.extend(pairs.into_iter().map(|(name, value)| (name, place.clone(), Value::String(value))));
                    }
                    Err(what) => {
                        let mend = if module.free_form {
                            "close it, or write the arguments as a mapping"
                        } else {
                            "write the arguments as a mapping below the module"
                        };
                        let failure = self.failure(
                            entry.value.spot,
                            format!("the arguments of {} cannot be read: {what}", module.name),
                        );
                        self.errors.push(failure.mend(mend));
                        return args;
                    }
                }
            }
            _ => {
                self.wrong(
                    &entry.value,
                    format!("the arguments of {} are a mapping or a line of text", module.name),
                    "",
                );
                return args;
            }
        }
        if let Some(extra) = extra {
            self.templates(extra);
            let Some(entries) = self.entries(extra, "args") else { return args };
            for arg in entries {
                let name = self.key(arg);
                if args.iter().any(|(known, _, _)| *known == name) {
                    let failure = self.failure(arg.key.spot, format!("the argument {} is given twice", quoted(&name)));
                    self.errors.push(failure.mend("remove it here or below the module"));
                    continue;
                }
                names.resize(args.len(), entry.value.spot);
                args.push((name, self.place(arg.value.spot), arg.value.to_json()));
                names.push(arg.key.spot);
            }
        }
        for (at, (name, _, _)) in args.iter().enumerate() {
            if args.iter().take(at).any(|(other, _, _)| other == name) {
                let failure = self.failure(entry.value.spot, format!("the argument {} is given twice", quoted(name)));
                self.errors.push(failure);
            }
        }
        for problem in module.problems(&args) {
            let spot = match problem.at {
                module::At::Module => entry.key.spot,
                module::At::Name(index) => names.get(index).copied().unwrap_or(entry.value.spot),
                module::At::Value(index) => args
                    .get(index)
                    .map_or(entry.value.spot, |(_, place, _)| Spot { line: place.line, column: place.column }),
            };
            let failure = self.failure(spot, problem.what);
            self.errors.push(match problem.mend {
                Some(mend) => failure.mend(mend),
                None => failure,
            });
        }
        args
    }
}

fn short(name: &str) -> &str {
    module::short_name(name)
}

/// Whether `name` can name a variable.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
