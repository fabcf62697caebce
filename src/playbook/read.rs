//! Reads one document of plays, tasks or variables.
//!
//! What lives here: keys and their types, telling what is wrong. What does not: other files (load), what modules
//! take (module).

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::load::Loader;
use super::module::{self, ModuleSpec};
use super::{
    Action, Arg, Block, Common, Flag, Loop, LoopControl, Play, Prompt, Role, Stands, Step, Strategy, Task, Text, Var,
    Written, freeform, words,
};
use crate::failure::{Failure, Place};
use crate::name::nearest;
use crate::settings::yaml::{Document, Entry, Node, Spot, Yaml, quoted};
use crate::template::{Templater, is_template};

/// How deep blocks stand in blocks.
const DEEPEST: usize = 64;

/// What all of these have.
pub(super) const COMMON_KEYS: &[&str] = &[
    "name",
    "vars",
    "tags",
    "become",
    "become_user",
    "become_method",
    "become_flags",
    "become_exe",
    "connection",
    "remote_user",
    "port",
    "environment",
    "module_defaults",
    "no_log",
    "check_mode",
    "diff",
    "run_once",
    "ignore_errors",
    "ignore_unreachable",
    "any_errors_fatal",
    "throttle",
    "timeout",
    "collections",
    "debugger",
];
/// What tasks, blocks and roles have besides.
const INNER_KEYS: &[&str] = &["when", "delegate_to", "delegate_facts", "notify"];
const PLAY_KEYS: &[&str] = &[
    "hosts",
    "gather_facts",
    "gather_subset",
    "gather_timeout",
    "fact_path",
    "vars_files",
    "vars_prompt",
    "pre_tasks",
    "roles",
    "tasks",
    "post_tasks",
    "handlers",
    "serial",
    "strategy",
    "order",
    "max_fail_percentage",
    "force_handlers",
    "validate_argspec",
    "user",
];
const TASK_KEYS: &[&str] = &[
    "args",
    "register",
    "changed_when",
    "failed_when",
    "loop",
    "loop_control",
    "until",
    "retries",
    "delay",
    "async",
    "poll",
    "listen",
    "action",
    "local_action",
];
const BLOCK_KEYS: &[&str] = &["block", "rescue", "always"];
/// What an include on the way may have beside its own arguments: all else would say nothing of the tasks that it includes.
const INCLUDE_KEYS: &[&str] = &[
    "action",
    "args",
    "collections",
    "debugger",
    "ignore_errors",
    "listen",
    "local_action",
    "loop",
    "loop_control",
    "name",
    "no_log",
    "register",
    "run_once",
    "tags",
    "timeout",
    "vars",
    "when",
];
/// The `with_` forms that are there.
pub(super) const WITH: &[&str] = &[
    "items",
    "list",
    "dict",
    "indexed_items",
    "flattened",
    "together",
    "nested",
    "cartesian",
    "sequence",
    "subelements",
    "random_choice",
    "fileglob",
    "first_found",
    "file",
    "lines",
    "env",
    "vars",
    "template",
    "pipe",
    "varnames",
    "inventory_hostnames",
    "csvfile",
    "ini",
    "unvault",
    "password",
    "config",
];

/// Where the document belongs.
#[derive(Clone)]
pub(super) struct Within {
    /// The folder of the file.
    pub(super) folder: Arc<PathBuf>,
    /// The role that it is in.
    pub(super) role: Option<Arc<Role>>,
    /// Handlers are read.
    pub(super) handlers: bool,
    /// How many files are open around it.
    pub(super) depth: usize,
}

pub(super) struct Parser<'a> {
    pub(super) document: &'a Document,
    pub(super) loader: &'a Loader,
    pub(super) templater: Templater,
    pub(super) errors: Vec<Failure>,
    pub(super) within: Within,
}

/// Whether what a role has is for the role alone and not for the play's other tasks, where somebody said so
/// (`ANSIBLE_PRIVATE_ROLE_VARS`).
fn private_roles() -> Option<bool> {
    let given = crate::settings::ansible_cfg::in_force("defaults.private_role_vars")?;
    Some(["1", "true", "yes", "on"].contains(&given.trim().to_lowercase().as_str()))
}

impl<'a> Parser<'a> {
    pub(super) fn new(document: &'a Document, loader: &'a Loader, within: Within) -> Self {
        Self { document, loader, templater: loader.templater.clone(), errors: Vec::new(), within }
    }

    pub(super) fn failure(&self, spot: Spot, what: impl Into<String>) -> Failure {
        self.document.failure(spot, what)
    }

    pub(super) fn place(&self, spot: Spot) -> Place {
        self.document.place(spot)
    }

    pub(super) fn wrong(&mut self, node: &Node, what: String, mend: &str) {
        let mut failure = self.failure(node.spot, what).saw(self.document.says(node));
        if !mend.is_empty() {
            failure = failure.mend(mend);
        }
        self.errors.push(failure);
    }

    pub(super) fn plays(&mut self) -> Vec<Play> {
        let document = self.document;
        let root = &document.root;
        let plays = match &root.value {
            Yaml::List(plays) if !plays.is_empty() => plays,
            Yaml::Null | Yaml::List(_) => {
                let failure = self
                    .failure(root.spot, "this playbook is empty: A playbook must contain at least one play")
                    .mend("begin with '- hosts: …'");
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
        let mut out = Vec::new();
        for play in plays {
            let imports = match &play.value {
                Yaml::Map(entries) => {
                    entries.iter().find(|entry| module::short_name(&entry.name()) == "import_playbook")
                }
                _ => None,
            };
            match imports {
                Some(entry) => out.extend(self.import_playbook(play, entry)),
                None => out.extend(self.play(play)),
            }
        }
        out
    }

    fn import_playbook(&mut self, node: &'a Node, entry: &'a Entry) -> Vec<Play> {
        let mut common = Common::default();
        let Yaml::Map(entries) = &node.value else { return Vec::new() };
        for other in entries {
            if std::ptr::eq(other, entry) || self.common(other, &mut common) || self.inner(other, &mut common) {
                continue;
            }
            let mine = ["import_playbook", "name", "vars", "tags", "when"];
            self.unknown_key(other, "an import of a playbook", &mine, &[]);
        }
        let Some(text) = self.text(&entry.value, "import_playbook") else { return Vec::new() };
        let file = freeform::free_form(&text.text, &["tags", "vars"])
            .map_or_else(|_| text.text.clone(), |(file, _)| file.trim().to_owned());
        let Some(file) = self.early(&Text { text: file, place: text.place.clone() }, &common.vars) else {
            return Vec::new();
        };
        let path = self.within.folder.join(&file);
        let read = self.loader.playbook_at(&path, self.within.depth + 1);
        let playbook = match read {
            Ok(playbook) => playbook,
            Err(failure) => {
                self.foreign(entry.value.spot, failure);
                return Vec::new();
            }
        };
        let mut plays = playbook.plays;
        for play in &mut plays {
            let own = std::mem::take(&mut play.common);
            play.common.when = [common.when.clone(), own.when].concat();
            play.common.tags = [common.tags.clone(), own.tags].concat();
            // What the import gives wins over what the play says.
            play.common.vars = [own.vars, common.vars.clone()].concat();
            play.common = Common {
                when: std::mem::take(&mut play.common.when),
                tags: std::mem::take(&mut play.common.tags),
                vars: std::mem::take(&mut play.common.vars),
                ..own
            };
        }
        plays
    }

    /// What went wrong in another file; one that cannot be read is told where it is named.
    pub(super) fn foreign(&mut self, spot: Spot, failure: Failure) {
        if let Some(place) = &failure.place {
            let mine = failure.snippet.is_none() && place.file == self.document.file;
            let snippet = mine.then(|| self.failure(Spot { line: place.line, column: place.column }, "").snippet);
            self.errors.push(Failure { snippet: snippet.flatten().or(failure.snippet.clone()), ..failure });
        } else {
            let here = self.failure(spot, failure.what.clone());
            self.errors.push(Failure { place: here.place, snippet: here.snippet, ..failure });
        }
    }

    /// A text that is needed while playbooks are read: templates in it see what is known by then.
    pub(super) fn early(&mut self, text: &Text, vars: &[Var]) -> Option<String> {
        match self.loader.early(text, vars, self.within.role.as_deref()) {
            Ok(text) => Some(text),
            Err(failure) => {
                let spot = Spot { line: text.place.line, column: text.place.column };
                let at = self.failure(spot, "");
                self.errors.push(Failure {
                    snippet: at.snippet,
                    ..failure.why("what is imported is read before any host is asked: include_tasks waits until then")
                });
                None
            }
        }
    }

    pub(super) fn entries(&mut self, node: &'a Node, what: &str) -> Option<&'a [Entry]> {
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
            folder: self.within.folder.as_ref().clone(),
            common: Common::default(),
            hosts: Text { text: String::new(), place: self.place(node.spot) },
            patterns: Vec::new(),
            gather_facts: None,
            gather_subset: None,
            facts: Vec::new(),
            vars_files: Vec::new(),
            vars_prompt: Vec::new(),
            serial: None,
            strategy: None,
            order: None,
            max_fail_percentage: None,
            force_handlers: None,
            pre_tasks: Vec::new(),
            roles: Vec::new(),
            tasks: Vec::new(),
            post_tasks: Vec::new(),
            handlers: Vec::new(),
            open_roles: Vec::new(),
        };
        let mut hosts = false;
        let mut lists: Vec<(&str, &'a Node)> = Vec::new();
        for entry in entries {
            let value = &entry.value;
            if self.common(entry, &mut play.common) {
                continue;
            }
            match self.key(entry).as_str() {
                "hosts" => {
                    hosts = true;
                    if let Some((text, patterns)) = self.hosts(value) {
                        play.hosts = text;
                        play.patterns = patterns;
                    }
                }
                "user" => {
                    if entries.iter().any(|other| self.key(other) == "remote_user") {
                        let words = "both 'user' and 'remote_user' are set for this play.";
                        let failure = self.failure(entry.key.spot, words).why("they mean the same");
                        self.errors.push(failure.mend("take one of them away"));
                    }
                    play.common.remote_user = self.text(value, "user");
                }
                "gather_facts" => play.gather_facts = self.flag(value, "gather_facts"),
                "gather_subset" => play.gather_subset = self.written(value),
                what @ ("gather_timeout" | "fact_path") => {
                    play.facts.push((what.to_owned(), self.place(value.spot), value.to_json()));
                }
                "validate_argspec" => match &value.value {
                    Yaml::Bool(false) | Yaml::Null => {}
                    _ => {
                        let failure = self
                            .failure(entry.key.spot, "validate_argspec is known to Ansible and not built in ferry")
                            .mend("remove it, or keep this play for ansible-playbook");
                        self.errors.push(failure);
                    }
                },
                "vars_files" => play.vars_files = self.vars_files(value),
                "vars_prompt" => play.vars_prompt = self.vars_prompt(value),
                "serial" => play.serial = self.written(value),
                "strategy" => play.strategy = self.strategy(value),
                "order" => play.order = self.text(value, "order"),
                "max_fail_percentage" => play.max_fail_percentage = self.written(value),
                "force_handlers" => play.force_handlers = self.flag(value, "force_handlers"),
                "pre_tasks" => lists.push(("pre_tasks", value)),
                "roles" => lists.push(("roles", value)),
                "tasks" => lists.push(("tasks", value)),
                "post_tasks" => lists.push(("post_tasks", value)),
                "handlers" => lists.push(("handlers", value)),
                _ => {
                    let mine: Vec<&str> = PLAY_KEYS.iter().chain(COMMON_KEYS).copied().collect();
                    self.unknown_key(entry, "a play", &mine, &[]);
                }
            }
        }
        // Imports may be named by the play's own variables, wherever those stand.
        let before = self.loader.lend(&play.common.vars);
        for (what, value) in lists {
            match what {
                "pre_tasks" => play.pre_tasks = self.steps(value, what, 0),
                "tasks" => play.tasks = self.steps(value, what, 0),
                "post_tasks" => play.post_tasks = self.steps(value, what, 0),
                "handlers" => {
                    self.within.handlers = true;
                    let mut handlers = self.steps(value, what, 0);
                    self.within.handlers = false;
                    play.handlers.append(&mut handlers);
                }
                _ => self.roles(value, &mut play),
            }
        }
        // Tasks that import roles bring handlers and open variables with them.
        let (mut handlers, mut open) = self.loader.take_back(before);
        handlers.append(&mut play.handlers);
        play.handlers = handlers;
        play.open_roles.append(&mut open);
        if !hosts {
            let failure = self
                .failure(node.spot, "this play has no hosts")
                .mend("add 'hosts:' with a pattern, such as hosts: \"prod:&mains\"");
            self.errors.push(failure);
        }
        Some(play)
    }

    fn roles(&mut self, node: &'a Node, play: &mut Play) {
        let items = match &node.value {
            Yaml::List(items) => items.as_slice(),
            Yaml::Null => return,
            _ => {
                let words = if self.loader.lenient {
                    "A malformed role declaration was encountered."
                } else {
                    "roles is a list"
                };
                self.wrong(node, words.to_owned(), "begin each role with a dash");
                return;
            }
        };
        for item in items {
            let Some((query, common)) = self.role_entry(item) else { continue };
            match self.loader.role(&query, &common, &self.within, &[]) {
                Ok(loaded) => {
                    play.roles.push(Step::Block(Box::new(loaded.block)));
                    play.handlers.extend(loaded.handlers);
                    if private_roles() != Some(true) {
                        play.open_roles.extend(loaded.roles);
                    }
                }
                Err(failure) => self.foreign(item.spot, failure),
            }
        }
    }

    /// An entry of `roles` or of `dependencies`.
    pub(super) fn role_entry(&mut self, node: &'a Node) -> Option<(super::RoleQuery, Common)> {
        let mut common = Common::default();
        let mut query = super::RoleQuery::default();
        match &node.value {
            Yaml::Text(text) => {
                query.name = Text { text: text.clone(), place: self.place(node.spot) };
            }
            Yaml::Map(entries) => {
                for entry in entries {
                    let key = self.key(entry);
                    match key.as_str() {
                        "role" | "src" => {
                            if let Some(text) = self.text(&entry.value, "role") {
                                query.name = text;
                            }
                        }
                        "name" if query.name.text.is_empty() => {
                            if let Some(text) = self.text(&entry.value, "name") {
                                query.name = text;
                            }
                        }
                        "name" => {}
                        _ if self.common(entry, &mut common) || self.inner(entry, &mut common) => {}
                        _ => query.params.push((key, self.place(entry.value.spot), entry.value.to_json())),
                    }
                }
                common.name = None;
            }
            _ => {
                self.wrong(node, "a role is a name or a mapping".to_owned(), "write its name, or role: NAME");
                return None;
            }
        }
        if query.name.text.trim().is_empty() {
            self.wrong(node, "this role has no name".to_owned(), "add role: NAME");
            return None;
        }
        let vars = std::mem::take(&mut common.vars);
        query.params = [vars, query.params].concat();
        Some((query, common))
    }

    fn strategy(&mut self, node: &Node) -> Option<Strategy> {
        let text = self.text(node, "strategy")?;
        // What a strategy may depend on is known before any host is: what -e gave.
        let scope = crate::template::Scope::of_data(&self.loader.extra);
        let named = match self.loader.templater.render(&text.text, Some(&text.place), &scope) {
            Ok(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            Err(failure) => {
                self.errors.push(failure);
                return None;
            }
        };
        match module::short_name(&named) {
            "linear" => Some(Strategy::Linear),
            "free" => Some(Strategy::Free),
            "host_pinned" => Some(Strategy::HostPinned),
            "debug" => {
                self.wrong(node, "the strategy debug is not built in ferry".to_owned(), "linear, free or host_pinned");
                None
            }
            _ => {
                self.wrong(node, format!("there is no strategy {}", quoted(&text.text)), "linear, free or host_pinned");
                None
            }
        }
    }

    fn vars_files(&mut self, node: &Node) -> Vec<Vec<Text>> {
        let items = match &node.value {
            Yaml::List(items) => items.as_slice(),
            Yaml::Null => &[],
            _ => std::slice::from_ref(node),
        };
        let mut out = Vec::new();
        for item in items {
            let names = match &item.value {
                Yaml::List(names) => names.as_slice(),
                _ => std::slice::from_ref(item),
            };
            out.push(names.iter().filter_map(|name| self.text(name, "a file of vars_files")).collect());
        }
        out
    }

    fn vars_prompt(&mut self, node: &'a Node) -> Vec<Prompt> {
        let items = match &node.value {
            Yaml::List(items) => items.as_slice(),
            Yaml::Null => &[],
            _ => {
                self.wrong(node, "vars_prompt is a list of questions".to_owned(), "begin each with a dash");
                return Vec::new();
            }
        };
        let mut out = Vec::new();
        for item in items {
            let Some(entries) = self.entries(item, "an entry of vars_prompt") else { continue };
            let mut prompt = Prompt {
                name: String::new(),
                question: None,
                private: true,
                default: None,
                confirm: false,
                place: self.place(item.spot),
            };
            for entry in entries {
                let value = &entry.value;
                match self.key(entry).as_str() {
                    "name" => prompt.name = self.text(value, "name").map(|text| text.text).unwrap_or_default(),
                    "prompt" => prompt.question = self.text(value, "prompt"),
                    "private" => prompt.private = self.flag(value, "private") != Some(Flag::Is(false)),
                    "confirm" => prompt.confirm = self.flag(value, "confirm") == Some(Flag::Is(true)),
                    "default" => prompt.default = self.written(value),
                    "unsafe" => {}
                    "encrypt" | "salt" | "salt_size" => {
                        let failure = self
                            .failure(entry.key.spot, "encrypting what is typed at vars_prompt is not built in ferry")
                            .mend("use the filter password_hash where the value is used");
                        self.errors.push(failure);
                    }
                    _ => {
                        let mine = ["name", "prompt", "private", "confirm", "default", "unsafe"];
                        self.unknown_key(entry, "a question of vars_prompt", &mine, &[]);
                    }
                }
            }
            if prompt.name.is_empty() {
                let words = "Invalid vars_prompt data structure, missing 'name' key";
                let what = if self.loader.lenient { words } else { "this question has no name" };
                self.wrong(item, what.to_owned(), "add name: VARIABLE");
                continue;
            }
            out.push(prompt);
        }
        out
    }

    pub(super) fn key(&mut self, entry: &Entry) -> String {
        match &entry.key.value {
            Yaml::Text(text) => text.clone(),
            _ => entry.name(),
        }
    }

    /// A key that is none of `mine`: not built, or unknown with what was meant perhaps.
    fn unknown_key(&mut self, entry: &Entry, of: &str, mine: &[&str], theirs: &[&str]) {
        let name = self.key(entry);
        let failure = self.failure(entry.key.spot, "");
        self.errors.push(if theirs.contains(&module::short_name(&name)) {
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
            if self.loader.lenient {
                let noun = of.rsplit(' ').next().unwrap_or_default();
                let noun = match noun {
                    "play" => "Play",
                    "block" => "Block",
                    _ => "Task",
                };
                failure.what = format!("'{name}' is not a valid attribute for a {noun}");
            }
            failure
        });
    }

    pub(super) fn text(&mut self, node: &Node, what: &str) -> Option<Text> {
        let text = match &node.value {
            Yaml::Text(text) => text.clone(),
            Yaml::Number(number) => number.to_string(),
            Yaml::Bool(value) if self.loader.lenient => if *value { "True" } else { "False" }.to_owned(),
            Yaml::Null if self.loader.lenient => String::new(),
            _ => {
                self.wrong(node, format!("{what} is text"), "put it in quotes");
                return None;
            }
        };
        let place = self.place(node.spot);
        self.template(&text, node.spot, &place);
        Some(Text { text, place })
    }

    fn written(&mut self, node: &Node) -> Option<Written> {
        self.templates(node);
        match &node.value {
            Yaml::Null => None,
            _ => Some(Written { value: node.to_json(), place: self.place(node.spot) }),
        }
    }

    fn template(&mut self, text: &str, spot: Spot, place: &Place) {
        if self.loader.lenient {
            return;
        }
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
            Yaml::List(items) => items.iter().for_each(|item| self.templates(item)),
            Yaml::Map(entries) => entries.iter().for_each(|entry| self.templates(&entry.value)),
            _ => {}
        }
    }

    fn hosts(&mut self, node: &Node) -> Option<(Text, Vec<String>)> {
        let empty = "write a pattern, such as all or \"prod:&mains\"";
        let Yaml::List(items) = &node.value else {
            let text = self.text(node, "hosts")?;
            if text.text.trim().is_empty() {
                self.wrong(node, "hosts is empty".to_owned(), empty);
                return None;
            }
            let one = text.text.clone();
            return Some((text, vec![one]));
        };
        let mut names = Vec::new();
        for item in items {
            if self.loader.lenient && !matches!(item.value, Yaml::Text(_)) {
                self.wrong(item, "Hosts list contains an invalid host value".to_owned(), empty);
                return None;
            }
            names.push(self.text(item, "an entry of hosts")?.text);
        }
        if names.is_empty() {
            let words = "Hosts list cannot be empty. Please check your playbook";
            let what = if self.loader.lenient { words } else { "hosts is an empty list" };
            self.wrong(node, what.to_owned(), empty);
            return None;
        }
        Some((Text { text: names.join(","), place: self.place(node.spot) }, names))
    }

    fn flag(&mut self, node: &Node, what: &str) -> Option<Flag> {
        let mend = "write true, false or a \"{{ template }}\"";
        match &node.value {
            Yaml::Bool(value) => Some(Flag::Is(*value)),
            Yaml::Number(number) if number.as_i64() == Some(1) => Some(Flag::Is(true)),
            Yaml::Number(number) if number.as_i64() == Some(0) => Some(Flag::Is(false)),
            Yaml::Null => None,
            Yaml::Text(text) if is_template(text) => self.text(node, what).map(Flag::Template),
            Yaml::Text(text) => match text.to_ascii_lowercase().as_str() {
                "yes" | "true" | "on" | "y" | "t" | "1" => Some(Flag::Is(true)),
                "no" | "false" | "off" | "n" | "f" | "0" => Some(Flag::Is(false)),
                // Told when its task runs, as Ansible does it.
                _ if self.loader.lenient => self.text(node, what).map(Flag::Template),
                _ => {
                    self.wrong(node, format!("{what} is true or false"), mend);
                    None
                }
            },
            _ => {
                self.wrong(node, format!("{what} is true or false"), mend);
                None
            }
        }
    }

    /// Texts in a list, or in one text with commas where `commas` says so.
    fn texts(&mut self, node: &Node, what: &str, commas: bool) -> Vec<Text> {
        match &node.value {
            Yaml::Null => Vec::new(),
            Yaml::List(items) => {
                let all: Vec<Text> = items.iter().filter_map(|item| self.text(item, what)).collect();
                if commas { all.iter().flat_map(cut).collect() } else { all }
            }
            _ => {
                let Some(text) = self.text(node, what) else { return Vec::new() };
                if commas { cut(&text) } else { vec![text] }
            }
        }
    }

    fn conditions(&mut self, node: &Node, what: &str) -> Vec<Text> {
        let items = match &node.value {
            Yaml::List(items) => items.as_slice(),
            Yaml::Null if self.loader.lenient => &[],
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
                Yaml::Number(number) if self.loader.lenient => number.to_string(),
                Yaml::Null if self.loader.lenient => continue,
                Yaml::List(_) | Yaml::Map(_) if self.loader.lenient => item.to_json().to_string(),
                // A text that is data: no condition, as its task will tell.
                Yaml::Unsafe(text) if self.loader.lenient => format!("{text:?}"),
                _ => {
                    self.wrong(item, format!("{what} is an expression, true or false, or a list of them"), "");
                    continue;
                }
            };
            let place = self.place(item.spot);
            if !self.loader.lenient
                && let Err(failure) = self.templater.check_condition(&text, Some(&place))
            {
                let at = self.failure(item.spot, "");
                self.errors.push(Failure { snippet: at.snippet, ..failure });
                continue;
            }
            out.push(Text { text, place });
        }
        out
    }

    pub(super) fn vars(&mut self, node: &'a Node) -> Vec<Var> {
        match &node.value {
            Yaml::Null => return Vec::new(),
            Yaml::List(items) => return items.iter().flat_map(|item| self.vars(item)).collect(),
            _ => {}
        }
        let Some(entries) = self.entries(node, "vars") else { return Vec::new() };
        let mut out: Vec<Var> = Vec::new();
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
            if !self.loader.lenient
                && let Err(problem) = crate::inventory::vars::check(&name, &value)
            {
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
            out.retain(|(known, _, _)| *known != name);
            out.push((name, self.place(entry.value.spot), value));
        }
        out
    }

    pub(super) fn steps(&mut self, node: &'a Node, what: &str, depth: usize) -> Vec<Step> {
        match &node.value {
            Yaml::Null => Vec::new(),
            Yaml::List(items) => items.iter().filter_map(|item| self.step(item, depth)).collect(),
            _ => {
                let words = if self.loader.lenient {
                    let seen = node.to_json();
                    format!("A malformed block was encountered while loading {what}: {seen} should be a list or None")
                } else {
                    format!("{what} is a list of tasks")
                };
                self.wrong(node, words, "begin each task with a dash");
                Vec::new()
            }
        }
    }

    fn step(&mut self, node: &'a Node, depth: usize) -> Option<Step> {
        if node.value == Yaml::Null && self.loader.lenient {
            return None;
        }
        let entries = self.entries(node, "a task")?;
        if depth > DEEPEST {
            self.wrong(node, format!("blocks stand more than {DEEPEST} deep in blocks"), "");
            return None;
        }
        let names: Vec<String> = entries.iter().map(Entry::name).collect();
        if names.iter().any(|name| BLOCK_KEYS.contains(&name.as_str())) {
            self.block(node, entries, depth).map(|block| Step::Block(Box::new(block)))
        } else {
            self.task(node, entries, depth)
        }
    }

    /// Takes `entry` when plays, roles, blocks and tasks all have it.
    pub(super) fn common(&mut self, entry: &'a Entry, common: &mut Common) -> bool {
        let value = &entry.value;
        match self.key(entry).as_str() {
            "name" => {
                common.name = if value.value == Yaml::Null { None } else { self.text(value, "name") };
            }
            "vars" => {
                common.vars = self.vars(value);
                for (name, place, _) in &common.vars {
                    if let Some(warning) = super::reserved(name, place, self.loader.lenient) {
                        self.loader.warn(warning);
                    }
                }
            }
            "tags" => common.tags = self.texts(value, "a tag", true),
            "become" => common.becoming.wanted = self.flag(value, "become"),
            "become_user" => common.becoming.user = self.text(value, "become_user"),
            "become_method" => common.becoming.method = self.text(value, "become_method"),
            "become_flags" => common.becoming.flags = self.text(value, "become_flags"),
            "become_exe" => common.becoming.exe = self.text(value, "become_exe"),
            "connection" => common.connection = self.text(value, "connection"),
            "remote_user" => common.remote_user = self.text(value, "remote_user"),
            "port" => common.port = self.written(value),
            "environment" => common.environment = self.maps(value),
            "module_defaults" => {
                self.loader.saw_defaults();
                common.module_defaults = self.maps(value);
            }
            "no_log" => common.no_log = self.flag(value, "no_log"),
            "check_mode" => common.check_mode = self.flag(value, "check_mode"),
            "diff" => common.diff = self.flag(value, "diff"),
            "run_once" => common.run_once = self.flag(value, "run_once"),
            "ignore_errors" => common.ignore_errors = self.flag(value, "ignore_errors"),
            "ignore_unreachable" => common.ignore_unreachable = self.flag(value, "ignore_unreachable"),
            "any_errors_fatal" => common.any_errors_fatal = self.flag(value, "any_errors_fatal"),
            "throttle" => common.throttle = self.written(value),
            "timeout" => common.timeout = self.written(value),
            "collections" => self.collections(value),
            "debugger" => match &value.value {
                Yaml::Text(text) if text == "never" => {}
                _ => {
                    let failure = self
                        .failure(entry.key.spot, "the debugger of Ansible is not built in ferry")
                        .mend("remove it, or write debugger: never");
                    self.errors.push(failure);
                }
            },
            _ => return false,
        }
        true
    }

    fn collections(&mut self, node: &Node) {
        for name in self.texts(node, "a collection", true) {
            if !self.loader.lenient && !["ansible.builtin", "ansible.legacy"].contains(&name.text.as_str()) {
                self.wrong(
                    node,
                    format!("the collection {} is not built in ferry", quoted(&name.text)),
                    "ferry has its own modules and those of ansible.builtin that 'ferry doc' lists",
                );
            }
        }
    }

    /// Maps, lowest first: one, a list of them, or templates.
    fn maps(&mut self, node: &Node) -> Vec<Written> {
        let items = match &node.value {
            Yaml::List(items) => items.as_slice(),
            Yaml::Null => &[],
            _ => std::slice::from_ref(node),
        };
        items.iter().filter_map(|item| self.written(item)).collect()
    }

    /// Takes `entry` when roles, blocks and tasks have it.
    pub(super) fn inner(&mut self, entry: &'a Entry, common: &mut Common) -> bool {
        let value = &entry.value;
        match self.key(entry).as_str() {
            "when" => common.when = self.conditions(value, "when"),
            "delegate_to" => common.delegate_to = self.text(value, "delegate_to"),
            "delegate_facts" => common.delegate_facts = self.flag(value, "delegate_facts"),
            "notify" => common.notify = self.texts(value, "the name of a handler", false),
            _ => return false,
        }
        true
    }

    fn block(&mut self, node: &'a Node, entries: &'a [Entry], depth: usize) -> Option<Block> {
        if self.within.handlers {
            let failure = self.failure(node.spot, "Using a block as a handler is not supported.");
            self.errors.push(failure.mend("take its tasks out of the block"));
            return None;
        }
        let handlers = self.loader.handlers_kept();
        let mut block = Block {
            place: self.place(node.spot),
            common: Common::default(),
            stands: Stands::Block,
            block: Vec::new(),
            rescue: Vec::new(),
            always: Vec::new(),
        };
        for entry in entries {
            if self.common(entry, &mut block.common) || self.inner(entry, &mut block.common) {
                continue;
            }
            match self.key(entry).as_str() {
                "block" => block.block = self.steps(&entry.value, "block", depth + 1),
                "rescue" => block.rescue = self.steps(&entry.value, "rescue", depth + 1),
                "always" => block.always = self.steps(&entry.value, "always", depth + 1),
                name if !self.loader.lenient
                    && (self.loader.modules.get(name).is_some() || TASK_KEYS.contains(&name)) =>
                {
                    let failure = self
                        .failure(entry.key.spot, format!("a block cannot have {}", quoted(name)))
                        .mend("put it into a task inside of the block");
                    self.errors.push(failure);
                }
                _ => {
                    let mine: Vec<&str> = BLOCK_KEYS.iter().chain(INNER_KEYS).chain(COMMON_KEYS).copied().collect();
                    self.unknown_key(entry, "a block", &mine, &[]);
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
        self.loader.wrap_handlers(handlers, &block.place, &block.common);
        Some(block)
    }

    fn task(&mut self, node: &'a Node, entries: &'a [Entry], depth: usize) -> Option<Step> {
        let mut task = Task::of("", self.place(node.spot), Arc::clone(&self.within.folder));
        task.role = self.within.role.clone();
        let mut extra_args: Option<&'a Node> = None;
        // The module's name as written, where, and its arguments.
        let mut named: Option<(String, Spot, Option<&'a Node>, Option<String>)> = None;
        let before = self.errors.len();
        let mut refused = false;
        let mut second = Vec::new();
        for entry in entries {
            if self.common(entry, &mut task.common) || self.inner(entry, &mut task.common) {
                continue;
            }
            let name = self.key(entry);
            let value = &entry.value;
            match name.as_str() {
                "register" => task.register = self.register(value),
                "changed_when" => task.changed_when = Some(self.conditions(value, "changed_when")),
                "failed_when" => task.failed_when = Some(self.conditions(value, "failed_when")),
                "args" => extra_args = Some(value),
                "loop" => task.repeat = self.repeat(value, None),
                "loop_control" => self.loop_control(value, &mut task.loop_control),
                "until" => task.until = self.conditions(value, "until"),
                "retries" => task.retries = self.written(value),
                "delay" => task.delay = self.written(value),
                // Without `async`, `poll` says nothing, in Ansible as well.
                "poll" => task.poll = self.written(value),
                "async" => task.background = self.written(value),
                "listen" => task.listen = self.texts(value, "a topic of listen", false),
                "action" | "local_action" => {
                    if name == "local_action" {
                        task.common.delegate_to =
                            Some(Text { text: "localhost".to_owned(), place: self.place(entry.key.spot) });
                    }
                    if let Some((module, line)) = self.old_action(value) {
                        named = Some((module, value.spot, Some(value), Some(line)));
                    }
                }
                _ => {
                    if let Some(with) = name.strip_prefix("with_") {
                        let with = module::short_name(with);
                        if WITH.contains(&with) {
                            task.repeat = self.repeat(value, Some(with.to_owned()));
                        } else {
                            let failure = self
                                .failure(entry.key.spot, format!("{} is not built in ferry", quoted(&name)))
                                .mend(format!("ferry has loop, and with_ {}", WITH.join(", ")));
                            self.errors.push(failure);
                        }
                        continue;
                    }
                    let short = module::short_name(&name);
                    let known = self.loader.modules.get(&name).is_some() || words::ACTIONS.contains(&short);
                    let foreign = words::MODULES.contains(&short);
                    if known || (foreign && self.loader.lenient) {
                        match &named {
                            Some((first, spot, _, _)) => {
                                let mut failure = self
                                    .failure(
                                        entry.key.spot,
                                        format!("this task names a second module, {}", quoted(&name)),
                                    )
                                    .why(format!("the first is {first} in line {}", spot.line))
                                    .mend("make two tasks of it");
                                if self.loader.lenient {
                                    failure.what = format!("conflicting action statements: {first}, {name}");
                                }
                                second.push(failure);
                            }
                            None => named = Some((name.clone(), entry.key.spot, Some(value), None)),
                        }
                    } else {
                        refused = true;
                        self.unknown_in_task(entry, &name);
                    }
                }
            }
        }
        self.errors.append(&mut second);
        let Some((name, spot, value, line)) = named else {
            if !refused {
                let failure = self
                    .failure(node.spot, "this task names no module")
                    .mend("add one, such as 'command: uptime'; 'ferry doc' lists them");
                self.errors.push(failure);
            }
            return None;
        };
        task.module_place = self.place(spot);
        let short = module::short_name(&name).to_owned();
        task.called = (short != name && !is_template(&name)).then(|| name.clone());
        if short == "include" {
            self.errors.push(
                self.failure(spot, "include is gone from Ansible and was never in ferry")
                    .mend("include_tasks or import_tasks"),
            );
            return None;
        }
        if matches!(short.as_str(), "include_tasks" | "include_role") {
            self.include_keys(&short, entries);
        }
        if words::ACTIONS.contains(&short.as_str()) {
            return self.action(task, &short, spot, value, line.as_deref(), extra_args, depth, before);
        }
        if is_template(&name) && line.is_some() {
            task.module = "command";
            task.action = Action::Named(Text { text: name, place: self.place(spot) });
            let args = self.named_values(value, line.as_deref(), extra_args, "action", false);
            task.args = args.into_iter().map(|(arg, _)| arg).filter(|(name, _, _)| name != "args").collect();
            return Some(Step::Task(Box::new(task)));
        }
        let Some(module) = self.loader.modules.get(&name).copied() else {
            if self.loader.lenient && words::MODULES.contains(&short.as_str()) {
                task.module = "ansible";
                task.action = Action::NotBuilt(short);
                return Some(Step::Task(Box::new(task)));
            }
            self.unknown_module(spot, &name);
            return None;
        };
        task.module = module.name;
        self.args(&mut task, spot, &module, value, line.as_deref(), extra_args);
        if self.errors.len() > before {
            return None;
        }
        Some(Step::Task(Box::new(task)))
    }

    /// Keys at an include that say nothing of what it includes: in Ansible too they are wrong.
    fn include_keys(&mut self, include: &str, entries: &[Entry]) {
        for entry in entries {
            let name = self.key(entry);
            let fits = INCLUDE_KEYS.contains(&name.as_str()) || name.starts_with("with_");
            if fits || module::short_name(&name) == include {
                continue;
            }
            let mut failure = self
                .failure(entry.key.spot, format!("{} says nothing at {include}", quoted(&name)))
                .why("it would be of the including itself, and of none of the tasks that it brings")
                .mend(format!("write it below 'apply:' of {include}, or in a block around it"));
            if self.loader.lenient {
                let noun = if include == "include_role" { "IncludeRole" } else { "TaskInclude" };
                failure.what = format!("'{name}' is not a valid attribute for a {noun}");
            }
            self.errors.push(failure);
        }
    }

    /// `action: "shell echo hi"`, or `action: {module: shell, …}`: the module and the line of its arguments.
    fn old_action(&mut self, node: &'a Node) -> Option<(String, String)> {
        match &node.value {
            Yaml::Text(text) => {
                let text = text.trim();
                let (module, line) = match text.strip_prefix("{{").and_then(|rest| rest.find("}}")) {
                    Some(end) => text.split_at(end + 4),
                    None => text.split_once(char::is_whitespace).unwrap_or((text, "")),
                };
                Some((module.to_owned(), line.trim().to_owned()))
            }
            Yaml::Map(entries) => {
                let module = entries.iter().find(|entry| entry.name() == "module")?;
                let text = self.text(&module.value, "module")?;
                let whole = text.text.trim();
                let (name, line) = match whole.strip_prefix("{{").and_then(|rest| rest.find("}}")) {
                    Some(end) => whole.split_at(end + 4),
                    None => whole.split_once(char::is_whitespace).unwrap_or((whole, "")),
                };
                Some((name.to_owned(), line.trim().to_owned()))
            }
            _ => {
                self.wrong(node, "action is a text or a mapping with module".to_owned(), "");
                None
            }
        }
    }

    fn repeat(&mut self, node: &Node, with: Option<String>) -> Option<Loop> {
        self.templates(node);
        Some(Loop { with, items: Written { value: node.to_json(), place: self.place(node.spot) } })
    }

    fn loop_control(&mut self, node: &'a Node, control: &mut LoopControl) {
        let Some(entries) = self.entries(node, "loop_control") else { return };
        for entry in entries {
            let value = &entry.value;
            match self.key(entry).as_str() {
                "loop_var" => control.loop_var = self.text(value, "loop_var"),
                "index_var" => control.index_var = self.text(value, "index_var"),
                "label" => control.label = self.written(value),
                "pause" => control.pause = self.written(value),
                "extended" => control.extended = self.flag(value, "extended"),
                "extended_allitems" => control.extended_allitems = self.flag(value, "extended_allitems"),
                "break_when" => control.break_when = self.conditions(value, "break_when"),
                _ => {
                    let mine =
                        ["loop_var", "index_var", "label", "pause", "extended", "extended_allitems", "break_when"];
                    self.unknown_key(entry, "loop_control", &mine, &[]);
                }
            }
        }
    }

    /// A key of a task that is neither ours nor one of our modules.
    fn unknown_in_task(&mut self, entry: &Entry, name: &str) {
        self.unknown_module(entry.key.spot, name);
    }

    fn unknown_module(&mut self, spot: Spot, name: &str) {
        let mine: Vec<&str> =
            TASK_KEYS.iter().chain(INNER_KEYS).chain(COMMON_KEYS).chain(&["block"]).copied().collect();
        let modules: Vec<&str> = self.loader.modules.names().chain(words::ACTIONS.iter().copied()).collect();
        if self.loader.lenient {
            let what = format!(
                "couldn't resolve module/action '{name}'. This often indicates a misspelling, missing collection, or incorrect module path."
            );
            let failure = self.failure(spot, what);
            self.errors.push(failure);
            return;
        }
        if words::MODULES.contains(&module::short_name(name)) {
            let near = nearest(module::short_name(name), modules.iter().copied(), 2);
            let failure = self
                .failure(spot, format!("the module {} is known to Ansible and not built yet in ferry", quoted(name)));
            self.errors.push(match near.is_empty() {
                true => failure.mend(format!("ferry has {}", modules.join(", "))),
                false => failure.mend(format!(
                    "the nearest of ferry's: {}; ferry has {}",
                    near.join(" or "),
                    modules.join(", ")
                )),
            });
            return;
        }
        let failure = self.failure(spot, format!("{} is neither a key of a task nor a module", quoted(name)));
        let near = nearest(module::short_name(name), mine.iter().copied().chain(modules.iter().copied()), 3);
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
        // `register: no` is false in YAML, and no name.
        let plain = matches!(node.value, Yaml::Text(_));
        if !plain || !is_identifier(&text.text) {
            let mend = "letters, digits and '_', not beginning with a digit";
            let what = if self.loader.lenient {
                "Invalid variable name in 'register'"
            } else {
                "register is the name of a variable"
            };
            self.wrong(node, what.to_owned(), mend);
            return None;
        }
        Some(text)
    }

    /// A value for each name in a mapping or a line of `name=value`.
    fn named_values(
        &mut self,
        value: Option<&'a Node>,
        line: Option<&str>,
        extra: Option<&'a Node>,
        what: &str,
        free: bool,
    ) -> Vec<(Arg, Spot)> {
        let mut args: Vec<(Arg, Spot)> = Vec::new();
        let spot = value.map_or(self.document.root.spot, |node| node.spot);
        let place = self.place(spot);
        let mut from_line = |parser: &mut Self, line: &str| {
            let parsed = if free {
                freeform::free_form(
                    line,
                    &[
                        "file",
                        "name",
                        "apply",
                        "tasks_from",
                        "public",
                        "allow_duplicates",
                        "vars_from",
                        "defaults_from",
                        "handlers_from",
                        "rolespec_validate",
                    ],
                )
                .map(|(rest, pairs)| {
                    let rest = rest.trim().to_owned();
                    let rest = (!rest.is_empty()).then_some(("_raw".to_owned(), rest));
                    rest.into_iter().chain(pairs).collect::<Vec<_>>()
                })
            } else {
                freeform::pairs(line)
            };
            match parsed {
                Ok(pairs) => args
                    .extend(pairs.into_iter().map(|(name, value)| ((name, place.clone(), Value::String(value)), spot))),
                // As Ansible does: the module refuses it when its task runs.
                Err(_) if parser.loader.lenient => {
                    args.push(((line.to_owned(), place.clone(), Value::Null), spot));
                }
                Err(wrong) => {
                    let failure = parser.failure(spot, format!("the arguments of {what} cannot be read: {wrong}"));
                    parser.errors.push(failure);
                }
            }
        };
        match (line, value.map(|node| &node.value)) {
            (Some(line), Some(Yaml::Text(_))) => from_line(self, line),
            (_, Some(Yaml::Text(text))) => from_line(self, text),
            (line, Some(Yaml::Map(entries))) => {
                if let Some(line) = line {
                    from_line(self, line);
                }
                for entry in entries.iter().filter(|entry| line.is_none() || entry.name() != "module") {
                    self.templates(&entry.value);
                    args.push(((self.key(entry), self.place(entry.value.spot), entry.value.to_json()), entry.key.spot));
                }
            }
            (_, Some(Yaml::Number(number))) => {
                args.push((("_raw".to_owned(), place.clone(), Value::Number(number.clone())), spot))
            }
            _ => {}
        }
        if let Some(Yaml::Map(entries)) = extra.map(|node| &node.value) {
            for entry in entries {
                args.push(((self.key(entry), self.place(entry.value.spot), entry.value.to_json()), entry.key.spot));
            }
        }
        args
    }

    /// What is not a module: imports, includes, meta.
    #[allow(clippy::too_many_arguments)]
    fn action(
        &mut self,
        mut task: Task,
        name: &str,
        spot: Spot,
        value: Option<&'a Node>,
        line: Option<&str>,
        extra: Option<&'a Node>,
        depth: usize,
        before: usize,
    ) -> Option<Step> {
        if self.within.handlers && matches!(name, "include_role" | "import_role") {
            let failure = self.failure(spot, format!("Using '{name}' as a handler is not supported."));
            self.errors.push(failure.mend("notify a handler of the role, or include_tasks"));
            return None;
        }
        let args = self.named_values(value, line, extra, name, true);
        let mut file: Option<Text> = None;
        let mut apply = Common::default();
        let mut query = super::RoleQuery {
            public: match private_roles() {
                None => name == "import_role",
                Some(private) => name.ends_with("_role") && !private,
            },
            // What is imported by name runs, whether or not the role has run already.
            allow_duplicates: (name == "import_role").then_some(true),
            ..super::RoleQuery::default()
        };
        let is_role = name.ends_with("_role");
        for ((key, place, value), key_spot) in args {
            let text =
                || Text { text: value.as_str().map_or_else(|| value.to_string(), str::to_owned), place: place.clone() };
            let truth = |value: &Value| match value {
                Value::Bool(value) => *value,
                Value::String(text) => ["yes", "true", "on", "1"].contains(&text.to_ascii_lowercase().as_str()),
                _ => false,
            };
            match key.as_str() {
                "_raw" | "file" if !is_role => file = Some(text()),
                "_raw" if name == "meta" => file = Some(text()),
                "name" | "role" if is_role => query.name = text(),
                "_raw" if is_role => query.name = text(),
                "tasks_from" if is_role => query.tasks_from = Some(text()),
                "vars_from" if is_role => query.vars_from = Some(text()),
                "defaults_from" if is_role => query.defaults_from = Some(text()),
                "handlers_from" if is_role => query.handlers_from = Some(text()),
                "public" if is_role => query.public = truth(&value),
                "allow_duplicates" if is_role => query.allow_duplicates = Some(truth(&value)),
                "rolespec_validate" if is_role => query.unvalidated = !truth(&value),
                "apply" if name.starts_with("include_") => {}
                _ => {
                    let failure = self.failure(key_spot, format!("{name} takes no argument {}", quoted(&key)));
                    let failure = if self.loader.lenient {
                        Failure { what: format!("Invalid options for {name}: {key}"), ..failure }
                    } else {
                        failure
                    };
                    self.errors.push(failure);
                }
            }
        }
        // `apply` is read as what it is: keys of a block.
        for node in [value, extra].into_iter().flatten() {
            if let Yaml::Map(entries) = &node.value
                && let Some(entry) = entries.iter().find(|entry| entry.name() == "apply")
                && let Some(entries) = self.entries(&entry.value, "apply")
            {
                for entry in entries {
                    if !self.common(entry, &mut apply) && !self.inner(entry, &mut apply) {
                        let mine: Vec<&str> = INNER_KEYS.iter().chain(COMMON_KEYS).copied().collect();
                        self.unknown_key(entry, "apply", &mine, &[]);
                    }
                }
            }
        }
        if self.errors.len() > before {
            return None;
        }
        let missing = |parser: &Self, what: &str| parser.failure(spot, format!("{name} needs {what}"));
        task.module = words::ACTIONS.iter().copied().find(|known| *known == name).unwrap_or("meta");
        match name {
            "meta" => {
                let Some(what) = file else {
                    self.errors.push(missing(self, "the name of what to do"));
                    return None;
                };
                if !is_template(&what.text) && !words::META.contains(&what.text.as_str()) {
                    let mut failure = self.failure(spot, format!("there is no meta {}", quoted(&what.text)));
                    failure.mend = Some(format!("there are {}", words::META.join(", ")));
                    if self.loader.lenient {
                        failure.what = format!("invalid meta action requested: {}", what.text);
                    }
                    self.errors.push(failure);
                    return None;
                }
                if what.text == "flush_handlers" && self.within.handlers {
                    self.errors.push(self.failure(spot, "flush_handlers cannot be used as a handler"));
                    return None;
                }
                if what.text == "end_role" {
                    let from = match (self.within.handlers, &self.within.role) {
                        (true, _) => Some("a handler"),
                        (false, None) => Some("outside of a role"),
                        (false, Some(_)) => None,
                    };
                    if let Some(from) = from {
                        let failure = self.failure(spot, format!("Cannot execute 'end_role' from {from}"));
                        self.errors.push(failure.why("it ends a role's tasks"));
                        return None;
                    }
                }
                task.action = Action::Meta(what);
            }
            "include_tasks" => {
                let Some(file) = file else {
                    self.errors.push(missing(self, "the name of a file"));
                    return None;
                };
                task.action = Action::IncludeTasks(file, Box::new(apply));
            }
            "include_role" => {
                if query.name.text.is_empty() {
                    self.errors.push(missing(self, "name: the role's name"));
                    return None;
                }
                task.action = Action::IncludeRole(Box::new(query), Box::new(apply));
            }
            _ => {
                if task.repeat.is_some() {
                    let mut failure = self
                        .failure(spot, format!("{name} cannot be repeated: it is read before any host is asked"))
                        .mend(format!("{} can", name.replace("import", "include")));
                    if self.loader.lenient {
                        failure.what = format!(
                            "You cannot use loops on '{name}' statements. You should use '{}' instead.",
                            name.replace("import", "include")
                        );
                    }
                    self.errors.push(failure);
                    return None;
                }
                if is_role {
                    if query.name.text.is_empty() {
                        self.errors.push(missing(self, "name: the role's name"));
                        return None;
                    }
                    return self.import_role(task, &query, spot);
                }
                let Some(file) = file else {
                    self.errors.push(missing(self, "the name of a file"));
                    return None;
                };
                return self.import_tasks(task, &file, spot, depth);
            }
        }
        Some(Step::Task(Box::new(task)))
    }

    fn import_tasks(&mut self, task: Task, file: &Text, spot: Spot, depth: usize) -> Option<Step> {
        let name = self.early(file, &task.common.vars)?;
        let path = self.loader.tasks_path(&name, &self.within);
        let within = Within { depth: self.within.depth + 1, ..self.within.clone() };
        let handlers = self.loader.handlers_kept();
        match self.loader.tasks_in(&path, &within, depth + 1) {
            Ok(steps) => {
                let common = Common { name: None, ..task.common };
                self.loader.wrap_handlers(handlers, &task.place, &common);
                Some(Step::Block(Box::new(Block {
                    place: task.place,
                    common,
                    stands: Stands::File,
                    block: steps,
                    rescue: Vec::new(),
                    always: Vec::new(),
                })))
            }
            Err(failure) => {
                self.foreign(spot, failure);
                None
            }
        }
    }

    fn import_role(&mut self, task: Task, query: &super::RoleQuery, spot: Spot) -> Option<Step> {
        let name = self.early(&query.name, &task.common.vars)?;
        let query = super::RoleQuery {
            name: Text { text: name, place: query.name.place.clone() },
            included: true,
            ..query.clone()
        };
        let parents: Vec<Arc<Role>> =
            self.within.role.iter().flat_map(|role| std::iter::once(role).chain(&role.parents)).cloned().collect();
        let common = Common { name: None, ..task.common };
        match self.loader.role(&query, &common, &self.within, &parents) {
            Ok(loaded) => {
                self.loader.keep(loaded.handlers, if query.public { loaded.roles } else { Vec::new() });
                Some(Step::Block(Box::new(loaded.block)))
            }
            Err(failure) => {
                self.foreign(spot, failure);
                None
            }
        }
    }

    fn args(
        &mut self,
        task: &mut Task,
        spot: Spot,
        module: &ModuleSpec,
        value: Option<&'a Node>,
        line: Option<&str>,
        extra: Option<&'a Node>,
    ) {
        let value_spot = value.map_or(spot, |node| node.spot);
        let place = self.place(value_spot);
        let mut args: Vec<Arg> = Vec::new();
        // Where the name of each argument stands.
        let mut names: Vec<Spot> = Vec::new();
        if let Some(node) = value {
            self.templates(node);
        }
        let nothing = Node { value: Yaml::Null, spot: value_spot };
        let node = value.unwrap_or(&nothing);
        let text = match (&node.value, line) {
            (_, Some(line)) => Some(line.to_owned()),
            (Yaml::Text(text), None) => Some(text.clone()),
            (Yaml::Number(number), None) if module.free_form => Some(number.to_string()),
            (Yaml::Bool(value), None) if module.free_form => Some(value.to_string()),
            _ => None,
        };
        match &node.value {
            Yaml::Map(entries) => {
                for arg in entries.iter().filter(|arg| line.is_none() || arg.name() != "module") {
                    let name = self.key(arg);
                    // `action: {module: NAME, args: {…}}`
                    if let (true, "args", Yaml::Map(inner)) = (line.is_some(), name.as_str(), &arg.value.value) {
                        for arg in inner {
                            args.push((self.key(arg), self.place(arg.value.spot), arg.value.to_json()));
                            names.push(arg.key.spot);
                        }
                        continue;
                    }
                    args.push((name, self.place(arg.value.spot), arg.value.to_json()));
                    names.push(arg.key.spot);
                }
            }
            Yaml::Null | Yaml::Text(_) | Yaml::Number(_) | Yaml::Bool(_) => {}
            _ => {
                let node_says = self.document.says(node);
                let failure = self
                    .failure(node.spot, format!("the arguments of {} are a mapping or a line of text", module.name))
                    .saw(node_says);
                self.errors.push(failure);
                return;
            }
        }
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            let whole = text.trim();
            let pairs = !module.free_form && freeform::pairs(whole).is_ok_and(|pairs| !pairs.is_empty());
            if !module.free_form && !pairs && whole.starts_with("{{") && whole.ends_with("}}") {
                task.args_template = Some(Written { value: Value::String(whole.to_owned()), place: place.clone() });
            } else {
                let known: Vec<&str> = module
                    .args
                    .iter()
                    .flat_map(|arg| std::iter::once(arg.name).chain(arg.aliases.iter().copied()))
                    .filter(|name| *name != "cmd")
                    .collect();
                let parsed = if module.free_form {
                    freeform::free_form(&text, &known).map(|(command, args)| {
                        let as_it_is = matches!(module.name, "command" | "shell" | "raw");
                        let command = if as_it_is { command } else { command.trim().to_owned() };
                        let command = (!command.trim().is_empty()).then_some(("cmd".to_owned(), command));
                        command.into_iter().chain(args).collect::<Vec<_>>()
                    })
                } else {
                    freeform::pairs(&text)
                };
                match parsed {
                    Ok(pairs) => {
                        names.extend(pairs.iter().map(|_| value_spot));
                        args.extend(pairs.into_iter().map(|(name, value)| (name, place.clone(), Value::String(value))));
                    }
                    // As Ansible does: the module refuses it when its task runs.
                    Err(_) if self.loader.lenient => {
                        names.push(value_spot);
                        args.push((text.clone(), place.clone(), Value::String(String::new())));
                    }
                    Err(what) => {
                        let mend = if module.free_form {
                            "close it, or write the arguments as a mapping"
                        } else {
                            "write the arguments as a mapping below the module"
                        };
                        let failure = self
                            .failure(value_spot, format!("the arguments of {} cannot be read: {what}", module.name));
                        self.errors.push(failure.mend(mend));
                        return;
                    }
                }
            }
        }
        if let Some(extra) = extra {
            self.templates(extra);
            match &extra.value {
                Yaml::Text(text) if is_template(text) => {
                    task.args_template =
                        Some(Written { value: Value::String(text.clone()), place: self.place(extra.spot) });
                }
                Yaml::Null => {}
                _ => {
                    let Some(entries) = self.entries(extra, "args") else { return };
                    for arg in entries {
                        let name = self.key(arg);
                        if args.iter().any(|(known, _, _)| *known == name) {
                            if !self.loader.lenient {
                                let failure = self
                                    .failure(arg.key.spot, format!("the argument {} is given twice", quoted(&name)));
                                self.errors.push(failure.mend("remove it here or below the module"));
                            }
                            continue;
                        }
                        args.push((name, self.place(arg.value.spot), arg.value.to_json()));
                        names.push(arg.key.spot);
                    }
                }
            }
        }
        for (at, (name, _, _)) in args.iter().enumerate() {
            if !self.loader.lenient && args.iter().take(at).any(|(other, _, _)| other == name) {
                let failure = self.failure(value_spot, format!("the argument {} is given twice", quoted(name)));
                self.errors.push(failure);
            }
        }
        if let Some((name, _, _)) = args.iter().find(|(name, _, _)| name.starts_with("_ansible_")) {
            let what = format!("{}: The prefix '_ansible_' is reserved for internal use only.", quoted(name));
            let failure = self.failure(value_spot, what);
            self.errors.push(failure.mend("call it otherwise"));
        }
        // A template may give what is missing; so may module_defaults. As Ansible, the task is told when it runs.
        let problems = if self.loader.lenient { Vec::new() } else { module.problems(&args) };
        for problem in problems {
            let spot = match problem.at {
                module::At::Module if task.args_template.is_some() || self.loader.has_defaults() => continue,
                module::At::Module => spot,
                module::At::Name(index) => names.get(index).copied().unwrap_or(value_spot),
                module::At::Value(index) => {
                    args.get(index).map_or(value_spot, |(_, place, _)| Spot { line: place.line, column: place.column })
                }
            };
            let failure = self.failure(spot, problem.what);
            self.errors.push(match problem.mend {
                Some(mend) => failure.mend(mend),
                None => failure,
            });
        }
        task.args = args;
    }
}

/// A text at its commas.
fn cut(text: &Text) -> Vec<Text> {
    if is_template(&text.text) {
        return vec![text.clone()];
    }
    let parts = text.text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| Text { text: part.to_owned(), place: text.place.clone() }).collect()
}

/// Whether `name` can name a variable.
pub fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
