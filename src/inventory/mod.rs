//! Hosts, groups, variables, and how to reach each host.
//!
//! What lives here: reading inventories ([`Inventory::load`]), choosing hosts by pattern
//! ([`Inventory::select`]), merging variables as Ansible does, and reading those that ferry knows
//! ([`vars`]). What does not: connecting, and variables that a playbook sets.

mod pattern;
mod ranges;
mod read;
pub mod vars;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::failure::{Failure, Kind, Place};
use crate::name::{GroupName, HostName};
use crate::settings::yaml::showable;
use crate::template::{Scope, Templater};
use crate::vault::Vault;
use read::{Group, Host, Reader, VarSet};

/// The hosts that are there without being written: this machine.
pub(crate) const IMPLICIT: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// An inventory: groups, hosts and their merged variables. Nothing in it was ever on a host.
#[derive(Debug)]
pub struct Inventory {
    groups: Vec<Group>,
    group_at: HashMap<String, usize>,
    hosts: Vec<Host>,
    host_at: HashMap<String, usize>,
    /// One for each host, then one for each of [`IMPLICIT`].
    merged: Vec<VarSet>,
    implicit: Vec<HostName>,
    texts: HashMap<String, Arc<str>>,
    warnings: Vec<String>,
    groups_value: Value,
    nothing: Map<String, Value>,
    templater: Templater,
}

impl Inventory {
    /// Reads the sources `paths` in order; a later one overrides an earlier one. A source is a file, a
    /// folder, or a list of hosts with a comma in it (`node-1,node-2` or `node-1,`).
    ///
    /// # Errors
    /// All that is wrong in all sources at once, each with file, line and column:
    /// [`Kind::CouldNotStart`], or [`Kind::NoHost`] when a source is not there or none is named.
    pub fn load(paths: &[PathBuf]) -> Result<Self, Failure> {
        Self::load_beside(paths, None)
    }

    /// As [`Inventory::load`], with the `group_vars` and `host_vars` in the folder of a playbook as well.
    ///
    /// # Errors
    /// As [`Inventory::load`].
    pub fn load_beside(paths: &[PathBuf], playbook_folder: Option<&Path>) -> Result<Self, Failure> {
        Self::load_with(paths, playbook_folder, &Vault::default())
    }

    /// As [`Inventory::load_beside`], with the vault passwords that open files and values.
    ///
    /// # Errors
    /// As [`Inventory::load`].
    pub fn load_with(paths: &[PathBuf], playbook_folder: Option<&Path>, vault: &Vault) -> Result<Self, Failure> {
        if paths.is_empty() {
            return Err(Failure::new(Kind::NoHost, "no inventory is named")
                .why("without one there is no host to work on")
                .mend("name one with -i, FERRY_INVENTORY or 'inventory' in ferry.toml; 'ferry init' writes one"));
        }
        let mut reader = Reader::new(vault);
        for path in paths {
            reader.source(path);
        }
        let mut folders: Vec<PathBuf> = Vec::new();
        for path in paths {
            let folder = if path.is_dir() {
                path.clone()
            } else if path.exists() {
                path.parent().map(Path::to_path_buf).unwrap_or_default()
            } else {
                continue;
            };
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        for folder in &folders {
            reader.vars_beside(folder, 1);
        }
        if let Some(folder) = playbook_folder
            && !folders.iter().any(|known| known == folder)
        {
            reader.vars_beside(folder, 2);
        }
        if let Some(failure) = Failure::all(std::mem::take(&mut reader.errors)) {
            return Err(failure);
        }
        Ok(Self::join(reader, paths))
    }

    fn join(mut reader: Reader<'_>, paths: &[PathBuf]) -> Self {
        // Groups without a parent are children of all; hosts of no group but all are ungrouped.
        for at in 1..reader.groups.len() {
            if reader.groups.get(at).is_some_and(|group| group.parents.is_empty()) {
                reader.link(0, at);
            }
        }
        for at in 0..reader.hosts.len() {
            let Some(host) = reader.hosts.get_mut(at) else { continue };
            let grouped = host.groups.iter().any(|group| *group > 1);
            if grouped {
                host.groups.retain(|group| *group != 1);
            } else if !host.groups.contains(&1) {
                host.groups.push(1);
            }
            if let Some(ungrouped) = reader.groups.get_mut(1) {
                ungrouped.hosts.retain(|other| *other != at);
                if !grouped {
                    ungrouped.hosts.push(at);
                }
            }
        }
        for host in &reader.hosts {
            if reader.group_at.contains_key(host.name.as_str()) {
                reader.warnings.push(format!("{} is the name of a group and of a host", host.name));
            }
        }
        let mut inventory = Self {
            groups: reader.groups,
            group_at: reader.group_at,
            hosts: reader.hosts,
            host_at: reader.host_at,
            merged: Vec::new(),
            implicit: IMPLICIT.iter().filter_map(|name| name.parse().ok()).collect(),
            texts: reader.texts,
            warnings: reader.warnings,
            groups_value: Value::Null,
            nothing: Map::new(),
            templater: Templater::new(),
        };
        let depths = inventory.depths();
        let source = paths.last();
        inventory.merged = (0..inventory.hosts.len()).map(|at| inventory.merge(at, &depths, source)).collect();
        for name in &inventory.implicit {
            let mut values = Map::new();
            values.insert("inventory_hostname".to_owned(), name.as_str().into());
            values.insert("inventory_hostname_short".to_owned(), name.as_str().into());
            values.insert("group_names".to_owned(), Value::Array(Vec::new()));
            values.insert("ansible_connection".to_owned(), "local".into());
            inventory.merged.push(VarSet { values, places: HashMap::new() });
        }
        let mut groups = Map::new();
        for (at, group) in inventory.groups.iter().enumerate() {
            let names = inventory.hosts_below(at).into_iter().filter_map(|host| inventory.name_at(host));
            groups.insert(group.name.to_string(), names.map(|name| Value::from(name.as_str())).collect());
        }
        inventory.groups_value = Value::Object(groups);
        inventory
    }

    /// How far each group is below `all`, by the longest way.
    fn depths(&self) -> Vec<usize> {
        let mut depths = vec![0; self.groups.len()];
        // The graph has no loop, so as many rounds as there are groups are enough.
        for _ in 0..self.groups.len() {
            let mut changed = false;
            for (at, group) in self.groups.iter().enumerate() {
                let below = depths.get(at).copied().unwrap_or(0) + 1;
                for child in &group.children {
                    if let Some(depth) = depths.get_mut(*child)
                        && *depth < below
                    {
                        *depth = below;
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        depths
    }

    /// The groups that a host is in, directly or through their children, `all` among them.
    fn groups_above(&self, host: usize) -> Vec<usize> {
        let mut open: Vec<usize> = self.hosts.get(host).map(|host| host.groups.clone()).unwrap_or_default();
        let mut out = vec![0];
        while let Some(at) = open.pop() {
            if let Some(group) = self.groups.get(at) {
                open.extend(&group.parents);
            }
            if !out.contains(&at) {
                out.push(at);
            }
        }
        out
    }

    /// The variables of one host, merged in Ansible's order: the inventory's own of all groups, then
    /// `group_vars/all`, then `group_vars` of the other groups, then the host's. Groups go by depth, then
    /// `ansible_group_priority`, then name.
    fn merge(&self, host: usize, depths: &[usize], source: Option<&PathBuf>) -> VarSet {
        let mut order = self.groups_above(host);
        order.sort_by_key(|at| {
            let group = self.groups.get(*at);
            (
                depths.get(*at).copied().unwrap_or(0),
                group.map_or(1, |group| group.priority),
                group.map(|group| group.name.clone()),
            )
        });
        let mut merged = VarSet::default();
        let mut add = |set: &VarSet| {
            for (name, value) in &set.values {
                merged.values.insert(name.clone(), value.clone());
                if let Some(place) = set.places.get(name) {
                    merged.places.insert(name.clone(), place.clone());
                }
            }
        };
        let rest: Vec<usize> = order.iter().copied().filter(|at| *at != 0).collect();
        // (which groups, which source) from low to high.
        let all: &[usize] = &[0];
        for (groups, slot) in [(all, 0), (&rest, 0), (all, 1), (all, 2), (&rest, 1), (&rest, 2)] {
            for at in groups {
                if let Some(set) = self.groups.get(*at).and_then(|group| group.vars.get(slot)) {
                    add(set);
                }
            }
        }
        let Some(host) = self.hosts.get(host) else { return merged };
        host.vars.iter().for_each(&mut add);
        let mut names: Vec<&str> =
            rest.iter().filter_map(|at| self.groups.get(*at)).map(|group| group.name.as_str()).collect();
        names.sort_unstable();
        let name = host.name.as_str();
        let short =
            if name.parse::<std::net::IpAddr>().is_ok() { name } else { name.split('.').next().unwrap_or(name) };
        let mut magic = |name: &str, value: Value| {
            merged.places.remove(name);
            merged.values.insert(name.to_owned(), value);
        };
        magic("inventory_hostname", name.into());
        magic("inventory_hostname_short", short.into());
        magic("group_names", names.into());
        if let Some(source) = source.filter(|source| source.exists()) {
            let folder = if source.is_dir() { Some(source.as_path()) } else { source.parent() };
            magic("inventory_file", source.display().to_string().into());
            magic("inventory_dir", folder.map(|folder| folder.display().to_string()).unwrap_or_default().into());
        }
        merged
    }

    /// The hosts of a group and of all below it: nearer groups first, each in the order it is written.
    fn hosts_below(&self, group: usize) -> Vec<usize> {
        let mut out = Vec::new();
        let mut in_out = vec![false; self.hosts.len()];
        let mut seen = vec![false; self.groups.len()];
        let mut open = std::collections::VecDeque::from([group]);
        while let Some(at) = open.pop_front() {
            let Some(group) = self.groups.get(at) else { continue };
            match seen.get_mut(at) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            for host in &group.hosts {
                if let Some(taken) = in_out.get_mut(*host)
                    && !std::mem::replace(taken, true)
                {
                    out.push(*host);
                }
            }
            open.extend(&group.children);
        }
        out
    }

    fn name_at(&self, at: usize) -> Option<&HostName> {
        match self.hosts.get(at) {
            Some(host) => Some(&host.name),
            None => self.implicit.get(at.checked_sub(self.hosts.len())?),
        }
    }

    fn host_index(&self, name: &str) -> Option<usize> {
        self.host_at.get(name).copied()
    }

    fn merged_of(&self, host: &HostName) -> Option<&VarSet> {
        let at = self.host_index(host.as_str()).or_else(|| {
            let at = self.implicit.iter().position(|known| known == host)?;
            Some(self.hosts.len() + at)
        })?;
        self.merged.get(at)
    }

    /// All groups, `all` and `ungrouped` first, then in the order they are written.
    pub fn groups(&self) -> impl Iterator<Item = &GroupName> {
        self.groups.iter().map(|group| &group.name)
    }

    /// All hosts, in the order they are written.
    pub fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.iter().map(|host| &host.name)
    }

    /// The hosts of the group and of the groups below it; `None` when there is no such group.
    pub fn hosts_of(&self, group: &str) -> Option<Vec<&HostName>> {
        let at = self.group_at.get(group)?;
        Some(self.hosts_below(*at).into_iter().filter_map(|host| self.name_at(host)).collect())
    }

    /// The groups right below `group`; `None` when there is no such group.
    pub fn children_of(&self, group: &str) -> Option<Vec<&GroupName>> {
        let group = self.groups.get(*self.group_at.get(group)?)?;
        Some(group.children.iter().filter_map(|at| self.groups.get(*at)).map(|group| &group.name).collect())
    }

    /// The variables of `host`, merged, not rendered, with `inventory_hostname`,
    /// `inventory_hostname_short`, `group_names`, `inventory_file` and `inventory_dir`. Empty for a host that is not there.
    pub fn vars(&self, host: &HostName) -> &Map<String, Value> {
        self.merged_of(host).map_or(&self.nothing, |set| &set.values)
    }

    /// Where the value of that variable of that host is written.
    pub fn place_of(&self, host: &HostName, variable: &str) -> Option<Place> {
        self.merged_of(host)?.places.get(variable).cloned()
    }

    /// A [`Kind::CouldNotStart`] failure at a place of an inventory file, with its snippet.
    pub fn failure_at(&self, place: &Place, what: impl Into<String>) -> Failure {
        let failure = Failure::new(Kind::CouldNotStart, what);
        match self.texts.get(&place.file) {
            Some(text) => failure.in_text(&place.file, &showable(text), place.line, place.column),
            None => failure.at(place.clone()),
        }
    }

    /// What looks wrong but stops nothing, such as a file in `group_vars` that belongs to no group.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The magic variable `groups`: each group with the names of its hosts.
    pub fn groups_value(&self) -> &Value {
        &self.groups_value
    }

    /// The templater that variables are rendered with.
    pub fn templater(&self) -> &Templater {
        &self.templater
    }

    /// The names that templates may use for `host`: its variables and `groups`, and `extra`, which
    /// wins. Templates in variables of either are rendered when they are used: what came from a host
    /// belongs into [`Scope::data`] afterwards, never into `extra`.
    pub fn scope(&self, host: &HostName, extra: &Map<String, Value>) -> Scope {
        let mut scope = Scope::new();
        scope.data("groups", &self.groups_value);
        for (name, value) in self.vars(host) {
            scope.written(name, value, self.place_of(host, name));
        }
        for (name, value) in extra {
            scope.written(name, value, None);
        }
        scope
    }

    /// The variables of `host` and `extra`, rendered. Those whose templates need a name that is not
    /// there (yet) are left out, as Ansible complains only when one is used; a template that then asks
    /// for them says that they are not defined.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when a variable that ferry itself reads cannot be rendered.
    pub fn rendered_vars(&self, host: &HostName, extra: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
        let scope = self.scope(host, extra);
        let mut out = Map::new();
        let mut errors = Vec::new();
        let own = self.vars(host).iter().filter(|(name, _)| !extra.contains_key(*name));
        for (name, value) in own.chain(extra) {
            let place = if extra.contains_key(name) { None } else { self.place_of(host, name) };
            match self.templater.render_value(value, place.as_ref(), &scope) {
                Ok(value) => {
                    out.insert(name.clone(), value);
                }
                Err(mut failure) => {
                    if vars::find(name).is_some() {
                        failure.what = format!("{name} cannot be rendered: {}", failure.what);
                        errors.push(failure);
                    }
                }
            }
        }
        Failure::all(errors).map_or(Ok(out), Err)
    }
}
