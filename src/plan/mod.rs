//! Inventory × playbook × choices → plan: which plays on which hosts with which tasks, in order. A
//! value that prints itself. It promises what, where and in which order, not what will be found.

use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::inventory::Inventory;
use crate::modules::{self, Scope as ModuleScope};
use crate::playbook::{Flag, Play, Playbook, Step};
use crate::template::{Scope, Templater};

/// A play with the hosts that its pattern selects now.
#[derive(Debug, Clone)]
pub struct PlannedPlay {
    /// The play as written.
    pub play: Play,
    /// Its name, rendered; its pattern where it has none.
    pub title: String,
    /// Its pattern, rendered.
    pub pattern: String,
    /// Its hosts, in inventory order.
    pub hosts: Vec<String>,
}

/// What will be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The plays in order.
    pub plays: Vec<PlannedPlay>,
    /// `-e`.
    pub extra: Map<String, Value>,
    /// Hosts at once.
    pub forks: usize,
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

fn lines(items: &[Step], depth: usize, into: &mut Vec<String>) {
    for item in items {
        match item {
            Step::Task(task) => {
                let once = modules::scope(task.module) == ModuleScope::Cluster
                    || matches!(task.common.run_once, Some(Flag::Is(true)));
                let whom = if once { "once" } else { "each host" };
                let name = task.common.name.as_ref().map_or(task.module, |name| name.text.as_str());
                into.push(format!("{}{name} ({}, {whom})", "  ".repeat(depth), task.module));
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

impl Plan {
    /// Makes the plan. `limit` narrows every play's hosts.
    ///
    /// # Errors
    /// A pattern that matches nothing or cannot be read; a template in a play's name or pattern that has no value.
    pub fn make(
        inventory: &Inventory,
        playbooks: &[Playbook],
        extra: &Map<String, Value>,
        limit: Option<&str>,
        forks: usize,
    ) -> Result<Self, Failure> {
        let templater = Templater::new();
        let scope = Scope::of_data(extra);
        let mut plays = Vec::new();
        for play in playbooks.iter().flat_map(|playbook| &playbook.plays) {
            let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let pattern = text(templater.render(&play.hosts.text, Some(&play.hosts.place), &scope)?);
            let title = match &play.name {
                Some(name) => text(templater.render(&name.text, Some(&name.place), &scope)?),
                None => pattern.clone(),
            };
            let mut hosts: Vec<String> = inventory.select(&pattern)?.iter().map(ToString::to_string).collect();
            if let Some(limit) = limit {
                let allowed: Vec<String> = inventory.select(limit)?.iter().map(ToString::to_string).collect();
                hosts.retain(|host| allowed.contains(host));
            }
            if hosts.is_empty() {
                return Err(Failure::new(
                    crate::failure::Kind::NoHost,
                    format!(
                        "no host matches {pattern:?}{}",
                        limit.map(|limit| format!(" within --limit {limit}")).unwrap_or_default()
                    ),
                )
                .mend("see which hosts and groups there are: ferry ping, or the inventory itself"));
            }
            plays.push(PlannedPlay { play: play.clone(), title, pattern, hosts });
        }
        Ok(Self { plays, extra: extra.clone(), forks })
    }

    /// How many tasks there are, each counted once.
    pub fn tasks(&self) -> usize {
        self.plays.iter().map(|play| count(&play.play.tasks)).sum()
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
            lines(&play.play.tasks, 1, &mut all);
        }
        all
    }
}
