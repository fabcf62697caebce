//! Inventory × playbook × choices → plan: which plays on which hosts with which tasks, in order. A
//! value that prints itself. It promises what, where and in which order, not what will be found.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::failure::{Failure, Kind};
use crate::inventory::Inventory;
use crate::modules::{self, Scope as ModuleScope};
use crate::playbook::{Action, Flag, Play, Playbook, Step, Task, Text};
use crate::template::{Scope, Templater};

/// Which tasks are wanted by their tags.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tags {
    /// `--tags`; empty means all.
    pub only: Vec<String>,
    /// `--skip-tags`.
    pub skip: Vec<String>,
}

impl Tags {
    /// Whether a task with these tags is wanted.
    pub fn want(&self, tags: &[String]) -> bool {
        let has = |name: &str| tags.iter().any(|tag| tag == name);
        let named = |list: &[String], name: &str| list.iter().any(|one| one == name);
        let any = |list: &[String]| tags.iter().any(|tag| list.contains(tag));
        let tagged = !tags.is_empty();
        if !self.only.is_empty() {
            let wanted = has("always")
                || named(&self.only, "all") && !has("never")
                || any(&self.only)
                || named(&self.only, "tagged") && tagged && !has("never")
                || named(&self.only, "untagged") && !tagged;
            if !wanted {
                return false;
            }
        } else if has("never") && !has("always") {
            return false;
        }
        if self.skip.is_empty() {
            return true;
        }
        let skipped = if named(&self.skip, "all") {
            !has("always") || named(&self.skip, "always")
        } else {
            any(&self.skip) || named(&self.skip, "tagged") && tagged || named(&self.skip, "untagged") && !tagged
        };
        !skipped
    }
}

/// A play with the hosts that its pattern selects now.
#[derive(Debug, Clone)]
pub struct PlannedPlay {
    /// The play as written, its tasks numbered.
    pub play: Play,
    /// Its name, rendered; its pattern where it has none.
    pub title: String,
    /// Its pattern, rendered.
    pub pattern: String,
    /// Its hosts, in inventory order. What hosts there are is asked again when it begins.
    pub hosts: Vec<String>,
    /// The playbook's folder.
    pub base: PathBuf,
    /// The playbook's file.
    pub file: String,
}

/// What will be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The plays in order.
    pub plays: Vec<PlannedPlay>,
    /// `-e`.
    pub extra: Map<String, Value>,
    /// As strong as `-e`, and never templates: what ferry tells of a run, hosts' own words among it.
    pub told: Map<String, Value>,
    /// `--limit`.
    pub limit: Option<String>,
    /// Hosts at once.
    pub forks: usize,
    /// Which tasks.
    pub tags: Tags,
}

fn count(items: &[Step]) -> usize {
    items
        .iter()
        .map(|item| match item {
            Step::Task(_) => 1,
            Step::Block(block) => count(&block.block) + count(&block.always),
        })
        .sum()
}

/// Gives every task of the list its number, in the order in which they are written, `rescue` included.
fn number(items: &mut [Step], next: &mut usize) {
    for item in items {
        match item {
            Step::Task(task) => {
                task.number = *next;
                *next += 1;
            }
            Step::Block(block) => {
                for part in [&mut block.block, &mut block.rescue, &mut block.always] {
                    number(part, next);
                }
            }
        }
    }
}

/// Whether a task calls one of these modules, anywhere in the list.
pub fn calls(items: &[Step], names: &[&str]) -> bool {
    items.iter().any(|item| match item {
        Step::Task(task) => names.contains(&task.module),
        Step::Block(block) => [&block.block, &block.rescue, &block.always].iter().any(|part| calls(part, names)),
    })
}

/// What people see of a task: its name, else its module, behind its role.
pub fn shown(task: &Task) -> String {
    let called = task.called.as_deref().unwrap_or(task.module);
    let name = task.common.name.as_ref().map_or(called, |name| name.text.as_str());
    let name = match &task.action {
        Action::IncludeRole(query, _) if task.common.name.is_none() => {
            return format!("{called} : {}", query.name.text);
        }
        Action::Named(name) if task.common.name.is_none() => name.text.as_str(),
        Action::NotBuilt(module) if task.common.name.is_none() => module.as_str(),
        _ => name,
    };
    match &task.role {
        Some(role) => format!("{} : {name}", role.name),
        None => name.to_owned(),
    }
}

/// The module of a task without a name.
fn bare(task: &Task) -> String {
    let whole = shown(task);
    let role = task.role.as_ref().map(|role| format!("{} : ", role.name)).unwrap_or_default();
    whole.strip_prefix(&role).unwrap_or(&whole).to_owned()
}

fn lines(items: &[Step], depth: usize, into: &mut Vec<String>) {
    for item in items {
        match item {
            Step::Task(task) => {
                let once = modules::scope(task.module) == ModuleScope::Cluster
                    || matches!(task.common.run_once, Some(Flag::Is(true)));
                let whom = if once { "once" } else { "each host" };
                into.push(format!("{}{} ({}, {whom})", "  ".repeat(depth), shown(task), task.module));
            }
            Step::Block(block) => {
                if let Some(name) = &block.common.name {
                    into.push(format!("{}{}:", "  ".repeat(depth), name.text));
                }
                lines(&block.block, depth + 1, into);
                for (word, part) in [("rescue", &block.rescue), ("always", &block.always)] {
                    if !part.is_empty() {
                        into.push(format!("{}{word}:", "  ".repeat(depth)));
                        lines(part, depth + 1, into);
                    }
                }
            }
        }
    }
}

/// A play's pattern as text: a template may give a list.
pub fn pattern_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(pattern_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The names that a play's own words may use.
pub fn play_scope(inventory: &Inventory, play: &Play, extra: &Map<String, Value>) -> Scope {
    let mut scope = Scope::new();
    scope.data("groups", inventory.groups_value());
    for (name, place, value) in &play.common.vars {
        scope.written(name, value, Some(place.clone()));
    }
    for (name, value) in extra {
        scope.written(name, value, None);
    }
    scope
}

/// The hosts of a pattern within a limit; empty where none matches.
///
/// # Errors
/// A pattern that cannot be read.
pub fn select(inventory: &Inventory, pattern: &str, limit: Option<&str>) -> Result<Vec<String>, Failure> {
    // Of `web:new` the hosts of `web` are there, whether or not there is a group `new` by now.
    let hosts = match inventory.matching(pattern) {
        Ok(matched) => matched.hosts,
        Err(failure) if failure.kind == Kind::NoHost => return Ok(Vec::new()),
        Err(failure) => return Err(failure),
    };
    let hosts = match limit {
        // A name of the limit that is nobody's is told before any play, and takes nothing from the others.
        Some(limit) => inventory.limit_matching(&hosts, limit)?.hosts,
        None => hosts,
    };
    Ok(hosts.iter().map(ToString::to_string).collect())
}

impl Plan {
    /// Makes the plan. `limit` narrows every play's hosts. With `lenient`, as Ansible does, a play without hosts is one that does
    /// nothing.
    ///
    /// # Errors
    /// A pattern that matches nothing or cannot be read; a template in a play's name or pattern that has no value.
    pub fn make(
        inventory: &Inventory,
        playbooks: &[Playbook],
        extra: &Map<String, Value>,
        limit: Option<&str>,
        forks: usize,
        lenient: bool,
    ) -> Result<Self, Failure> {
        let templater = Templater::new();
        let mut plays: Vec<PlannedPlay> = Vec::new();
        let mut next = 1;
        // Hosts and groups may come while the run goes on.
        let mut grows = false;
        for (playbook, play) in
            playbooks.iter().flat_map(|playbook| playbook.plays.iter().map(move |play| (playbook, play)))
        {
            let scope = play_scope(inventory, play, extra);
            let pattern = templater.render(&play.hosts.text, Some(&play.hosts.place), &scope);
            let pattern = match pattern {
                Ok(value) => pattern_of(&value),
                Err(_) if grows || lenient => play.hosts.text.clone(),
                Err(failure) => return Err(failure),
            };
            let title = match &play.common.name {
                Some(Text { text, place }) => match templater.render(text, Some(place), &scope) {
                    Ok(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                    Err(_) if grows || lenient => text.clone(),
                    Err(failure) => return Err(failure),
                },
                None => pattern.clone(),
            };
            let hosts = if grows || lenient {
                select(inventory, &pattern, limit)?
            } else {
                let hosts = match limit {
                    Some(limit) => inventory.limit(&inventory.select(&pattern)?, limit)?,
                    None => inventory.select(&pattern)?,
                };
                hosts.iter().map(ToString::to_string).collect()
            };
            if hosts.is_empty() && !(grows || lenient) {
                return Err(Failure::new(
                    Kind::NoHost,
                    format!(
                        "no host matches {pattern:?}{}",
                        limit.map(|limit| format!(" within --limit {limit}")).unwrap_or_default()
                    ),
                )
                .mend("see which hosts and groups there are: ferry ping, or the inventory itself"));
            }
            let mut play = play.clone();
            grows |= play.lists().iter().any(|list| {
                calls(list, &["add_host", "group_by", "include_tasks", "include_role"]) || calls(list, &["meta"])
            });
            for list in play.lists_mut() {
                number(list, &mut next);
            }
            let base = std::path::Path::new(&playbook.file).parent().filter(|folder| !folder.as_os_str().is_empty());
            plays.push(PlannedPlay {
                play,
                title,
                pattern,
                hosts,
                base: base.unwrap_or_else(|| std::path::Path::new(".")).to_path_buf(),
                file: playbook.file.clone(),
            });
        }
        Ok(Self {
            plays,
            extra: extra.clone(),
            told: Map::new(),
            limit: limit.map(str::to_owned),
            forks,
            tags: Tags::default(),
        })
    }

    /// How many tasks there are, each counted once.
    pub fn tasks(&self) -> usize {
        self.plays.iter().flat_map(|play| play.play.lists()).map(count).sum()
    }

    /// All hosts of all plays, in order, once each.
    pub fn hosts(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for host in self.plays.iter().flat_map(|play| &play.hosts) {
            if !all.contains(host) {
                all.push(host.clone());
            }
        }
        all
    }

    /// The plan as text.
    pub fn lines(&self) -> Vec<String> {
        let mut all = Vec::new();
        for play in &self.plays {
            all.push(format!("{} (hosts: {}: {})", play.title, play.pattern, play.hosts.join(", ")));
            let [pre_tasks, roles, tasks, post_tasks, handlers] = play.play.lists();
            for list in [pre_tasks, roles, tasks, post_tasks] {
                lines(list, 1, &mut all);
            }
            if !handlers.is_empty() {
                all.push("  handlers:".to_owned());
                lines(handlers, 2, &mut all);
            }
        }
        all
    }

    /// What `ansible-playbook --list-hosts`, `--list-tasks` and `--list-tags` print. `whole`: the tasks of `rescue` and `always`
    /// as well, which Ansible leaves out.
    pub fn listing(&self, hosts: bool, tasks: bool, tags: bool, whole: bool) -> String {
        let mut out = String::new();
        let mut file = None;
        let mut number = 0;
        for play in &self.plays {
            if file != Some(&play.file) {
                out.push_str(&format!("\nplaybook: {}\n", play.file));
                file = Some(&play.file);
                number = 0;
            }
            number += 1;
            let own = tags_of(&[&play.play.common.tags]);
            let name = play.play.common.name.as_ref().map_or(play.pattern.as_str(), |_| play.title.as_str());
            let mut scope = Scope::new();
            for (name, place, value) in &play.play.common.vars {
                scope.written(name, value, Some(place.clone()));
            }
            for (name, value) in &self.extra {
                scope.data(name, value);
            }
            out.push_str(&format!("\n  play #{number} ({}): {name}\tTAGS: [{}]\n", play.pattern, own.join(",")));
            if hosts {
                let mut sorted = play.hosts.clone();
                sorted.dedup();
                let patterns: Vec<String> = play.play.patterns.iter().map(|pattern| format!("'{pattern}'")).collect();
                out.push_str(&format!("    pattern: [{}]\n    hosts ({}):\n", patterns.join(", "), sorted.len()));
                for host in &sorted {
                    out.push_str(&format!("      {host}\n"));
                }
            }
            if tasks || tags {
                if tasks {
                    out.push_str("    tasks:\n");
                }
                let mut all = Vec::new();
                let mut shown = String::new();
                let [pre_tasks, roles, main, post_tasks, _] = play.play.lists();
                for list in [pre_tasks, roles, main, post_tasks] {
                    self.list(list, &[&play.play.common.tags], &scope, whole, &mut shown, &mut all);
                }
                if tasks {
                    out.push_str(&shown);
                }
                if tags {
                    all.extend(own);
                    all.sort_unstable();
                    all.dedup();
                    out.push_str(&format!("      TASK TAGS: [{}]\n", all.join(", ")));
                }
            }
        }
        out
    }

    fn list<'a>(
        &self,
        items: &'a [Step],
        outer: &[&'a [Text]],
        scope: &Scope,
        whole: bool,
        out: &mut String,
        all: &mut Vec<String>,
    ) {
        for item in items {
            match item {
                Step::Task(task) => {
                    let chain: Vec<&[Text]> = outer.iter().copied().chain([task.common.tags.as_slice()]).collect();
                    let tags = known_tags(&chain, scope);
                    if !self.tags.want(&tags) {
                        continue;
                    }
                    let mut sorted = tags.clone();
                    sorted.sort_unstable();
                    all.extend(tags);
                    // A task without a name is its module, without its role.
                    let name = if task.common.name.is_some() { shown(task) } else { bare(task) };
                    out.push_str(&format!("      {name}\tTAGS: [{}]\n", sorted.join(", ")));
                }
                Step::Block(block) => {
                    let chain: Vec<&[Text]> = outer.iter().copied().chain([block.common.tags.as_slice()]).collect();
                    self.list(&block.block, &chain, scope, whole, out, all);
                    for part in [&block.rescue, &block.always].into_iter().filter(|_| whole) {
                        self.list(part, &chain, scope, whole, out, all);
                    }
                }
            }
        }
    }
}

/// As [`tags_of`], with templates as far as they can be known before a host is asked.
fn known_tags(chain: &[&[Text]], scope: &Scope) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let texts = || chain.iter().flat_map(|tags| tags.iter());
    if !texts().any(|tag| crate::template::is_template(&tag.text)) {
        return tags_of(chain);
    }
    let templater = Templater::new();
    for tag in texts() {
        let named = match templater.render(&tag.text, Some(&tag.place), scope) {
            Ok(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
            }
            Ok(Value::String(text)) => vec![text],
            _ => vec![tag.text.clone()],
        };
        for name in named {
            if !out.contains(&name) {
                out.push(name);
            }
        }
    }
    out
}

fn tags_of(chain: &[&[Text]]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for tag in chain.iter().flat_map(|tags| tags.iter()) {
        if !out.contains(&tag.text) {
            out.push(tag.text.clone());
        }
    }
    out
}
