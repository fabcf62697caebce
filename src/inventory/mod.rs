//! Hosts, groups, variables, and how to reach each host.
//!
//! What lives here: reading inventories ([`Inventory::load`]), choosing hosts by pattern
//! ([`Inventory::select`]), merging variables as Ansible does, and reading those that ferry knows
//! ([`vars`]). What does not: connecting, and variables that a playbook sets.

mod constructed;
mod ini;
mod literal;
mod pattern;
mod program;
mod ranges;
mod read;
pub mod vars;

pub use pattern::Matched;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use crate::failure::{Failure, Kind, Place};
use crate::name::{GroupName, HostName};
use crate::settings::ansible_cfg;
use crate::settings::yaml::showable;
use crate::template::{Scope, Templater};
use crate::vault::Vault;
use read::{Group, Host, Reader, VarSet};

/// Reads the variables in these folders again: names came that they may have files for.
fn read_folders(
    reader: &mut Reader<'_>,
    implicit: &mut [[VarSet; 3]; 3],
    folders: &[(PathBuf, usize)],
) -> Result<(), Failure> {
    // What is wrong besides was told when they were read first.
    let warnings = std::mem::take(&mut reader.warnings);
    for (folder, beside) in folders {
        reader.vars_beside(folder, *beside, implicit);
    }
    reader.warnings = warnings;
    Failure::all(std::mem::take(&mut reader.errors)).map_or(Ok(()), Err)
}

/// The folders that have `group_vars` and `host_vars` for these sources.
fn folders_of(paths: &[PathBuf]) -> Vec<(PathBuf, usize)> {
    let mut folders: Vec<(PathBuf, usize)> = Vec::new();
    for path in paths {
        let folder = if path.is_dir() {
            path.clone()
        } else if path.exists() {
            path.parent().map(Path::to_path_buf).unwrap_or_default()
        } else {
            continue;
        };
        if !folders.iter().any(|(known, _)| *known == folder) {
            folders.push((folder, 1));
        }
    }
    folders
}

/// The variables of all three kinds of source, a later kind over an earlier one.
fn joined(sets: &[VarSet; 3]) -> Map<String, Value> {
    let mut out = Map::new();
    for set in sets {
        for (name, value) in &set.values {
            let value = crate::template::over(out.get(name), value);
            out.insert(name.clone(), value);
        }
    }
    out
}

/// Whether two paths are one folder.
fn same_folder(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(if path.as_os_str().is_empty() { Path::new(".") } else { path });
    matches!((whole(one), whole(other)), (Ok(one), Ok(other)) if one == other)
}

/// The hosts that are there without being written: this machine.
pub(crate) const IMPLICIT: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How sources are read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The sources in order; a later one overrides an earlier one. Each is a file, a program, a folder, or a list of hosts
    /// with a comma in it (`node-1,node-2` or `node-1,`).
    pub paths: Vec<PathBuf>,
    /// Folder of the playbook: `group_vars` and `host_vars` there are read as well.
    pub playbook_folder: Option<PathBuf>,
    /// Vault passwords.
    pub vault: Arc<Vault>,
    /// Environment variables that no inventory program inherits.
    pub hide: Vec<String>,
    /// Whether `!vault` values stay as they are: to print an inventory, not to work with it.
    pub locked: bool,
    /// As Ansible has it: a source that is wrong or missing is a warning, and without any there is still this machine.
    pub lenient: bool,
    /// With `lenient`: that no source could be read is an error (`ANSIBLE_INVENTORY_UNPARSED_FAILED`).
    pub unparsed_fails: bool,
    /// With `lenient`: that one source could not be read is an error (`ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED`).
    pub any_unparsed_fails: bool,
    /// The extra variables (`-e`), for inventories that are made of others and ask for them.
    pub extra: Map<String, Value>,
}

/// An inventory: groups, hosts and their merged variables. Nothing in it was ever on a host.
#[derive(Debug, Clone)]
pub struct Inventory {
    groups: Vec<Group>,
    group_at: HashMap<String, usize>,
    hosts: Vec<Host>,
    host_at: HashMap<String, usize>,
    /// One for each host, then one for each of [`IMPLICIT`]; made when it is asked for.
    merged: Vec<OnceLock<VarSet>>,
    depths: Vec<usize>,
    implicit: Vec<HostName>,
    implicit_vars: [[VarSet; 3]; 3],
    sources: Vec<PathBuf>,
    /// Folders with `group_vars` and `host_vars`; 1 for one beside an inventory, 2 for one beside a playbook.
    folders: Vec<(PathBuf, usize)>,
    reading: Reading,
    texts: HashMap<String, Arc<str>>,
    warnings: Vec<String>,
    groups_value: Value,
    nothing: Map<String, Value>,
    templater: Templater,
}

impl Inventory {
    /// The sources as they were named.
    pub fn given(&self) -> &[PathBuf] {
        &self.reading.paths
    }

    /// Reads the sources `paths` in order; see [`Reading::paths`].
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
        Self::read(Reading {
            paths: paths.to_vec(),
            playbook_folder: playbook_folder.map(Path::to_path_buf),
            ..Reading::default()
        })
    }

    /// Reads an inventory.
    ///
    /// # Errors
    /// As [`Inventory::load`]; with [`Reading::lenient`] only where that says so.
    pub fn read(reading: Reading) -> Result<Self, Failure> {
        if reading.paths.is_empty() && !reading.lenient {
            return Err(Failure::new(Kind::NoHost, "no inventory is named")
                .why("without one there is no host to work on")
                .mend("name one with -i, FERRY_INVENTORY or 'inventory' in ferry.toml; 'ferry init' writes one"));
        }
        let vault = reading.vault.clone();
        let mut reader = Reader::new(&vault, &reading.hide, &reading.extra);
        reader.locked = reading.locked;
        reader.lenient = reading.lenient;
        let mut parsed = false;
        for path in &reading.paths {
            reader.source(path);
            reader.named.push(path.clone());
            if !reading.lenient {
                continue;
            }
            match Failure::all(std::mem::take(&mut reader.errors)) {
                None => parsed = true,
                Some(failure) if reading.any_unparsed_fails => {
                    return Err(failure.within(format!("the inventory {}", path.display())));
                }
                Some(mut failure) => {
                    let more = std::mem::take(&mut failure.more);
                    let told = std::iter::once(failure).chain(more).map(|failure| failure.to_string());
                    reader.warnings.extend(told);
                    reader.warnings.push(format!("Unable to parse {} as an inventory source", path.display()));
                }
            }
        }
        if reading.lenient && !parsed {
            let what = "No inventory was parsed, only implicit localhost is available";
            if reading.unparsed_fails {
                return Err(Failure::new(Kind::CouldNotStart, "no inventory could be read")
                    .why("ANSIBLE_INVENTORY_UNPARSED_FAILED says that this is an error"));
            }
            reader.warnings.push(what.to_owned());
        }
        let mut folders = folders_of(&reading.paths);
        if let Some(folder) = &reading.playbook_folder {
            let same = |known: &PathBuf| known == folder || same_folder(known, folder);
            if !folders.iter().any(|(known, _)| same(known)) {
                folders.push((folder.clone(), 2));
            }
        }
        let mut implicit_vars: [[VarSet; 3]; 3] = Default::default();
        for (folder, beside) in &folders {
            reader.vars_beside(folder, *beside, &mut implicit_vars);
        }
        if let Some(failure) = Failure::all(std::mem::take(&mut reader.errors)) {
            return Err(failure);
        }
        // Names that no expression could name: told as Ansible tells them, where its forms are kept to.
        let odd = |group: &Group| {
            let name = group.name.as_str();
            name.starts_with(|c: char| c.is_ascii_digit())
                || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let names = ansible_cfg::in_force("defaults.force_valid_group_names").map(|text| text.trim().to_lowercase());
        if reading.lenient && names.as_deref() == Some("always") && reader.replaced {
            reader.warnings.push(
                "Invalid characters were found in group names and automatically replaced, use -vvvv to see details"
                    .to_owned(),
            );
        } else if reading.lenient
            && !matches!(names.as_deref(), Some("ignore" | "silently"))
            && reader.groups.iter().any(odd)
        {
            reader.warnings.push(
                "Invalid characters were found in group names but not replaced, use -vvvv to see details".to_owned(),
            );
        }
        for host in &reader.hosts {
            if reader.group_at.contains_key(host.name.as_str()) {
                reader.warnings.push(format!("{} is the name of a group and of a host", host.name));
            }
        }
        let read = Self::bare(reader, implicit_vars);
        let implicit = IMPLICIT.iter().filter_map(|name| name.parse().ok()).collect();
        let mut inventory = Self { implicit, folders, reading, ..read };
        inventory.reconcile();
        Ok(inventory)
    }

    /// What was read, before anything was made of it.
    fn bare(reader: Reader<'_>, implicit_vars: [[VarSet; 3]; 3]) -> Self {
        let Reader { groups, group_at, hosts, host_at, texts, warnings, sources, .. } = reader;
        Self {
            groups,
            group_at,
            hosts,
            host_at,
            merged: Vec::new(),
            depths: Vec::new(),
            implicit: Vec::new(),
            implicit_vars,
            sources,
            folders: Vec::new(),
            reading: Reading::default(),
            texts,
            warnings,
            groups_value: Value::Null,
            nothing: Map::new(),
            templater: Templater::new(),
        }
    }

    /// What `reader` has read so far, as an inventory of its own.
    ///
    /// # Errors
    /// Everything wrong in `group_vars` and `host_vars` beside it, which are read `with_folders` only.
    fn so_far(reader: &Reader<'_>, with_folders: bool) -> Result<Self, Failure> {
        let none = Map::new();
        let mut copy = Reader::new(reader.vault, reader.hide, &none);
        (copy.locked, copy.lenient) = (reader.locked, reader.lenient);
        (copy.groups, copy.group_at) = (reader.groups.clone(), reader.group_at.clone());
        (copy.hosts, copy.host_at) = (reader.hosts.clone(), reader.host_at.clone());
        let mut implicit_vars: [[VarSet; 3]; 3] = Default::default();
        if with_folders {
            read_folders(&mut copy, &mut implicit_vars, &folders_of(&reader.named))?;
        }
        copy.sources.clone_from(&reader.sources);
        let mut inventory = Self::bare(copy, implicit_vars);
        inventory.reconcile();
        Ok(inventory)
    }

    /// Runs `work` on the graph of groups and hosts and brings everything that follows from it up to date.
    fn change<T>(&mut self, work: impl FnOnce(&mut Reader<'_>, &mut [[VarSet; 3]; 3], &[(PathBuf, usize)]) -> T) -> T {
        let vault = self.reading.vault.clone();
        let hide = std::mem::take(&mut self.reading.hide);
        let none = Map::new();
        let mut reader = Reader::new(&vault, &hide, &none);
        reader.locked = self.reading.locked;
        reader.groups = std::mem::take(&mut self.groups);
        reader.group_at = std::mem::take(&mut self.group_at);
        reader.hosts = std::mem::take(&mut self.hosts);
        reader.host_at = std::mem::take(&mut self.host_at);
        reader.texts = std::mem::take(&mut self.texts);
        let out = work(&mut reader, &mut self.implicit_vars, &self.folders);
        let Reader { groups, group_at, hosts, host_at, texts, mut warnings, .. } = reader;
        (self.groups, self.group_at, self.hosts, self.host_at, self.texts) = (groups, group_at, hosts, host_at, texts);
        self.warnings.append(&mut warnings);
        self.reading.hide = hide;
        self.reconcile();
        out
    }

    /// Adds a host while a run goes on (`add_host`): into these groups, which are made where they are missing, with these
    /// variables over those that it has. True when anything changed. `group_vars` and `host_vars` of new names are read.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when those files are wrong.
    pub fn add_host(
        &mut self,
        name: &HostName,
        groups: &[GroupName],
        vars: &Map<String, Value>,
    ) -> Result<bool, Failure> {
        self.change(|reader, implicit, folders| {
            let mut changed = !reader.host_at.contains_key(name.as_str());
            let new_group = groups.iter().any(|group| !reader.group_at.contains_key(group.as_str()));
            let host = if changed {
                let at = reader.host(name, 0);
                if let Some(host) = reader.hosts.get_mut(at) {
                    host.source = None;
                }
                at
            } else {
                reader.host_at.get(name.as_str()).copied().unwrap_or_default()
            };
            let new = changed || new_group;
            for group in groups {
                changed |= !reader.group_at.contains_key(group.as_str());
                let group = reader.group(group);
                changed |= reader.put(host, group);
            }
            if let Some(host) = reader.hosts.get_mut(host) {
                for (name, value) in vars {
                    changed |= host.vars[0].values.get(name) != Some(value);
                    host.vars[0].places.remove(name);
                    host.vars[0].values.insert(name.clone(), value.clone());
                }
            }
            if new {
                read_folders(reader, implicit, folders)?;
            }
            Ok(changed)
        })
    }

    /// Puts a host into a group while a run goes on (`group_by`), the group below `parents`; all are made where they are
    /// missing. True when anything changed.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when the groups would form a loop, there is no such host, or files of variables are wrong.
    pub fn group_host(&mut self, host: &HostName, group: &GroupName, parents: &[GroupName]) -> Result<bool, Failure> {
        let wrong = |what: String| Failure::new(Kind::CouldNotStart, what);
        self.change(|reader, implicit, folders| {
            let Some(at) = reader.host_at.get(host.as_str()).copied() else {
                return Err(wrong(format!("{host} is not in the inventory and cannot be put into the group {group}")));
            };
            let known = reader.groups.len();
            let child = reader.group(group);
            let mut changed = false;
            for parent in parents {
                let parent_at = reader.group(parent);
                if reader.below(child, parent_at) {
                    return Err(wrong(format!("{group} cannot be a child of {parent}: the groups form a loop")));
                }
                let linked = reader.groups.get(parent_at).is_some_and(|parent| parent.children.contains(&child));
                changed |= !linked;
                reader.link(parent_at, child);
            }
            changed |= reader.put(at, child);
            if reader.groups.len() > known {
                changed = true;
                read_folders(reader, implicit, folders)?;
            }
            Ok(changed)
        })
    }

    /// Reads `group_vars` and `host_vars` beside another playbook in place of those of the one before.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when those files are wrong.
    pub fn set_playbook_folder(&mut self, folder: &Path) -> Result<(), Failure> {
        let known = |(path, beside): &(PathBuf, usize)| *beside == 1 && (path == folder || same_folder(path, folder));
        let beside_inventory = self.folders.iter().any(known);
        if self.folders.iter().any(|(path, beside)| *beside == 2 && path == folder) {
            return Ok(());
        }
        self.folders.retain(|(_, beside)| *beside != 2);
        if !beside_inventory {
            self.folders.push((folder.to_owned(), 2));
        }
        self.change(|reader, implicit, folders| {
            let sets = reader.groups.iter_mut().filter_map(|group| group.vars.get_mut(2));
            let sets = sets.chain(reader.hosts.iter_mut().filter_map(|host| host.vars.get_mut(2)));
            sets.chain(implicit.iter_mut().filter_map(|sets| sets.get_mut(2))).for_each(|set| *set = VarSet::default());
            read_folders(reader, implicit, folders)
        })
    }

    /// Brings into order what Ansible promises of every inventory, and forgets what was derived from it.
    fn reconcile(&mut self) {
        // Groups without a parent are children of all; hosts of no group but all are ungrouped.
        for at in 1..self.groups.len() {
            if self.groups.get(at).is_some_and(|group| group.parents.is_empty()) {
                if let Some(group) = self.groups.get_mut(at) {
                    group.parents.push(0);
                }
                if let Some(all) = self.groups.get_mut(0) {
                    all.children.push(at);
                }
            }
        }
        let mut gone = Vec::new();
        let mut came = Vec::new();
        for (at, host) in self.hosts.iter_mut().enumerate() {
            if host.groups.iter().any(|group| *group > 1) {
                let before = host.groups.len();
                host.groups.retain(|group| *group != 1);
                if host.groups.len() < before {
                    gone.push(at);
                }
            } else if !host.groups.contains(&1) {
                host.groups.push(1);
                came.push(at);
            }
        }
        if let Some(ungrouped) = self.groups.get_mut(1) {
            gone.iter().for_each(|at| {
                ungrouped.has.remove(at);
            });
            let has = std::mem::take(&mut ungrouped.has);
            ungrouped.hosts.retain(|at| has.contains(at));
            ungrouped.has = has;
            for at in came {
                if ungrouped.has.insert(at) {
                    ungrouped.hosts.push(at);
                }
            }
        }
        self.depths = self.depths();
        self.merged = (0..self.hosts.len() + self.implicit.len()).map(|_| OnceLock::new()).collect();
        let mut groups = Map::new();
        for (at, group) in self.groups.iter().enumerate() {
            let names = self.hosts_below(at).into_iter().filter_map(|host| self.name_at(host));
            groups.insert(group.name.to_string(), names.map(|name| Value::from(name.as_str())).collect());
        }
        self.groups_value = Value::Object(groups);
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
    fn merge(&self, host: usize) -> VarSet {
        let mut order = self.groups_above(host);
        order.sort_by_key(|at| {
            let group = self.groups.get(*at);
            (
                self.depths.get(*at).copied().unwrap_or(0),
                group.map_or(1, |group| group.priority),
                group.map(|group| group.name.as_str()),
            )
        });
        let mut merged = VarSet::default();
        let mut add = |set: &VarSet| {
            for (name, value) in &set.values {
                let value = crate::template::over(merged.values.get(name), value);
                merged.values.insert(name.clone(), value);
                match set.places.get(name) {
                    Some(place) => merged.places.insert(name.clone(), place.clone()),
                    None => merged.places.remove(name),
                };
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
        let mut source = None;
        match self.hosts.get(host) {
            Some(host) => {
                host.vars.iter().for_each(&mut add);
                source = host.source.and_then(|at| self.sources.get(at));
            }
            None => {
                let mut own = VarSet::default();
                own.values.insert("ansible_connection".to_owned(), "local".into());
                add(&own);
                let sets = host.checked_sub(self.hosts.len()).and_then(|at| self.implicit_vars.get(at));
                sets.into_iter().flatten().for_each(&mut add);
            }
        }
        let Some(name) = self.name_at(host).map(HostName::as_str) else { return merged };
        let mut names: Vec<&str> =
            rest.iter().filter_map(|at| self.groups.get(*at)).map(|group| group.name.as_str()).collect();
        names.sort_unstable();
        let short =
            if name.parse::<std::net::IpAddr>().is_ok() { name } else { name.split('.').next().unwrap_or(name) };
        let mut magic = |name: &str, value: Value| {
            merged.places.remove(name);
            merged.values.insert(name.to_owned(), value);
        };
        magic("inventory_hostname", name.into());
        magic("inventory_hostname_short", short.into());
        magic("group_names", names.into());
        if let Some(source) = source {
            let absolute = std::path::absolute(source).unwrap_or_else(|_| source.clone());
            let list = !source.exists();
            let folder = if list { std::env::current_dir().ok() } else { absolute.parent().map(Path::to_path_buf) };
            let file = if list { source } else { &absolute };
            magic("inventory_file", file.display().to_string().into());
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
        Some(self.merged.get(at)?.get_or_init(|| self.merge(at)))
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

    /// The hosts that `group` itself names, and not those below it; `None` when there is no such group.
    pub fn own_hosts_of(&self, group: &str) -> Option<Vec<&HostName>> {
        let group = self.groups.get(*self.group_at.get(group)?)?;
        Some(group.hosts.iter().filter_map(|at| self.name_at(*at)).collect())
    }

    /// The variables of `group` itself, from the inventory and from `group_vars`, not rendered; with
    /// `ansible_group_priority` where it is not 1. `None` when there is no such group.
    pub fn group_vars(&self, group: &str) -> Option<Map<String, Value>> {
        let group = self.groups.get(*self.group_at.get(group)?)?;
        let mut vars = joined(&group.vars);
        if group.priority != 1 {
            vars.insert("ansible_group_priority".to_owned(), group.priority.into());
        }
        Some(vars)
    }

    /// The variables of `host` itself, from the inventory and from `host_vars`, without those of its groups.
    pub fn own_vars(&self, host: &HostName) -> Map<String, Value> {
        match self.host_index(host.as_str()).and_then(|at| self.hosts.get(at)) {
            Some(host) => joined(&host.vars),
            None => Map::new(),
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
