//! Reading inventory sources into groups, hosts and variables.
//!
//! What lives here: which files of a source are read, the form of a YAML inventory, `group_vars` and
//! `host_vars`. What does not: how variables of several groups are merged and how hosts are chosen.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::ranges;
use super::vars;
use crate::failure::{Failure, Kind, Place};
use crate::name::{GroupName, HostName, nearest};
use crate::settings::yaml::{Document, Entry, Node, Spot, Yaml, quoted, showable};
use crate::vault::Vault;

/// Variables from one kind of source, each with the place of its value.
#[derive(Debug, Clone, Default)]
pub(super) struct VarSet {
    pub(super) values: Map<String, Value>,
    pub(super) places: HashMap<String, Place>,
}

impl VarSet {
    fn set(&mut self, name: String, value: Value, place: Place) {
        self.places.insert(name.clone(), place);
        self.values.insert(name, value);
    }
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) name: GroupName,
    pub(super) hosts: Vec<usize>,
    pub(super) children: Vec<usize>,
    pub(super) parents: Vec<usize>,
    /// From the inventory itself, from `group_vars` beside it, from `group_vars` beside the playbook.
    pub(super) vars: [VarSet; 3],
    pub(super) priority: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) name: HostName,
    pub(super) groups: Vec<usize>,
    /// From the inventory itself, from `host_vars` beside it, from `host_vars` beside the playbook.
    pub(super) vars: [VarSet; 3],
}

/// What the sources say, unmerged, and every error that was met.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) vault: &'a Vault,
    pub(super) groups: Vec<Group>,
    pub(super) group_at: HashMap<String, usize>,
    pub(super) hosts: Vec<Host>,
    pub(super) host_at: HashMap<String, usize>,
    pub(super) texts: HashMap<String, Arc<str>>,
    pub(super) errors: Vec<Failure>,
    pub(super) warnings: Vec<String>,
}

/// The names that a directory of inventories skips.
const SKIPPED_NAMES: [&str; 3] = ["host_vars", "group_vars", "vars_plugins"];
const SKIPPED_ENDS: [&str; 12] =
    [".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry"];
const YAML_ENDS: [&str; 3] = ["yml", "yaml", "json"];
const GROUP_KEYS: [&str; 3] = ["hosts", "vars", "children"];
/// How deep directories are followed.
const DEEPEST: usize = 16;

impl<'a> Reader<'a> {
    pub(super) fn new(vault: &'a Vault) -> Self {
        let mut reader = Self {
            vault,
            groups: Vec::new(),
            group_at: HashMap::new(),
            hosts: Vec::new(),
            host_at: HashMap::new(),
            texts: HashMap::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        for name in ["all", "ungrouped"] {
            if let Ok(name) = name.parse::<GroupName>() {
                reader.group(&name);
            }
        }
        reader.link(0, 1);
        reader
    }

    fn group(&mut self, name: &GroupName) -> usize {
        if let Some(at) = self.group_at.get(name.as_str()) {
            return *at;
        }
        let at = self.groups.len();
        self.group_at.insert(name.to_string(), at);
        self.groups.push(Group {
            name: name.clone(),
            hosts: Vec::new(),
            children: Vec::new(),
            parents: Vec::new(),
            vars: Default::default(),
            priority: 1,
        });
        at
    }

    fn host(&mut self, name: &HostName, group: usize) -> usize {
        let at = match self.host_at.get(name.as_str()) {
            Some(at) => *at,
            None => {
                let at = self.hosts.len();
                self.host_at.insert(name.to_string(), at);
                self.hosts.push(Host { name: name.clone(), groups: Vec::new(), vars: Default::default() });
                at
            }
        };
        if let Some(host) = self.hosts.get_mut(at)
            && !host.groups.contains(&group)
        {
            host.groups.push(group);
        }
        if let Some(group) = self.groups.get_mut(group)
            && !group.hosts.contains(&at)
        {
            group.hosts.push(at);
        }
        at
    }

    pub(super) fn link(&mut self, parent: usize, child: usize) {
        if let Some(group) = self.groups.get_mut(parent)
            && !group.children.contains(&child)
        {
            group.children.push(child);
        }
        if let Some(group) = self.groups.get_mut(child)
            && !group.parents.contains(&parent)
        {
            group.parents.push(parent);
        }
    }

    /// Whether `wanted` is `from` or below it.
    fn below(&self, from: usize, wanted: usize) -> bool {
        let mut open = vec![from];
        let mut seen = vec![false; self.groups.len()];
        while let Some(at) = open.pop() {
            if at == wanted {
                return true;
            }
            if let Some(seen) = seen.get_mut(at)
                && !std::mem::replace(seen, true)
                && let Some(group) = self.groups.get(at)
            {
                open.extend(&group.children);
            }
        }
        false
    }

    /// Reads one source: a `host,host` list, a file or a directory.
    pub(super) fn source(&mut self, path: &Path) {
        let text = path.to_string_lossy();
        if text.contains(',') && !path.exists() {
            self.host_list(&text);
            return;
        }
        match std::fs::metadata(path) {
            Err(error) => {
                let kind =
                    if error.kind() == std::io::ErrorKind::NotFound { Kind::NoHost } else { Kind::CouldNotStart };
                let mut failure = Failure::new(kind, format!("the inventory {text} cannot be read"))
                    .saw(error.to_string())
                    .mend("check the path after -i, in FERRY_INVENTORY or in ferry.toml; 'ferry init' writes one to start from");
                if kind == Kind::NoHost && !text.contains(['/', '.']) {
                    failure = failure.why(format!("a list of hosts has a comma: -i {text},"));
                }
                self.errors.push(failure);
            }
            Ok(about) if about.is_dir() => self.directory(path, 0),
            Ok(_) => self.file(path),
        }
    }

    fn host_list(&mut self, text: &str) {
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let said = |what: String| {
                Failure::new(Kind::CouldNotStart, format!("the host list {text:?} is wrong: {what}")).saw(word)
            };
            match ranges::expand(word) {
                Err(what) => self.errors.push(said(what)),
                Ok((names, port)) => {
                    for name in names {
                        match name.parse::<HostName>() {
                            Err(bad) => self.errors.push(said(bad.to_string())),
                            Ok(name) => {
                                let at = self.host(&name, 1);
                                if let (Some(port), Some(host)) = (port, self.hosts.get_mut(at)) {
                                    let place = Place { file: text.to_owned(), line: 1, column: 1 };
                                    host.vars[0].set("ansible_port".to_owned(), port.into(), place);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn directory(&mut self, path: &Path, depth: usize) {
        let entries = match sorted_entries(path) {
            Ok(entries) => entries,
            Err(error) => {
                self.errors.push(
                    Failure::new(Kind::CouldNotStart, format!("the folder {} cannot be read", path.display()))
                        .saw(error.to_string()),
                );
                return;
            }
        };
        if depth > DEEPEST {
            self.errors.push(Failure::new(
                Kind::CouldNotStart,
                format!("the folder {} lies too deep for an inventory", path.display()),
            ));
            return;
        }
        for (name, entry) in entries {
            let skipped = name.starts_with('.')
                || SKIPPED_NAMES.contains(&name.as_str())
                || SKIPPED_ENDS.iter().any(|end| name.ends_with(end));
            if skipped {
                continue;
            }
            if entry.is_dir() {
                self.directory(&entry, depth + 1);
            } else {
                self.file(&entry);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let text = match self.vault.read_text(path) {
            Ok(text) => text,
            Err(failure) => {
                self.errors.push(failure);
                return;
            }
        };
        let name = path.display().to_string();
        let extension = path.extension().and_then(|end| end.to_str()).unwrap_or("");
        let yaml = YAML_ENDS.contains(&extension);
        let refuse = |what: &str, line: usize, mend: &str| {
            Failure::new(Kind::CouldNotStart, what.to_owned()).in_text(&name, &showable(&text), line, 1).mend(mend)
        };
        if text.starts_with("#!") || (!yaml && executable(path)) {
            self.errors.push(refuse(
                "this inventory is a program, and inventory programs are not built yet in ferry",
                1,
                "write what it prints into a .json file: PROGRAM --list > inventory.json",
            ));
            return;
        }
        if !yaml && let Some(line) = ini_line(&text) {
            self.errors.push(refuse(
                "this inventory is in the INI format, which is not built yet in ferry",
                line,
                "write it as YAML; 'ansible-inventory -i FILE --list -y' does it",
            ));
            return;
        }
        if !yaml && !extension.is_empty() {
            self.errors.push(refuse(
                "this is not a YAML inventory by its name",
                1,
                "give it the ending .yml, .yaml or .json; other formats are not built yet in ferry",
            ));
            return;
        }
        match Document::read_with_ranges(&name, &text) {
            Ok((mut document, repaired)) => {
                self.vault.unlock(&mut document);
                self.warnings.append(&mut document.warnings);
                if repaired {
                    self.warnings.push(format!(
                        "{name}: a range such as [1:3] stands without quotes inside of {{ }}; ferry reads it, Ansible \
                         does not: put the name in quotes"
                    ));
                }
                self.texts.insert(name, document.text.clone());
                self.document(&document);
            }
            Err(failure) => self.errors.push(failure),
        }
    }

    fn document(&mut self, document: &Document) {
        let groups = match &document.root.value {
            Yaml::Map(entries) if !entries.is_empty() => entries,
            Yaml::Null | Yaml::Map(_) => {
                self.errors.push(
                    document
                        .failure(document.root.spot, "this inventory is empty")
                        .mend("write groups at the top, such as 'all:' with 'hosts:' below it"),
                );
                return;
            }
            _ => {
                self.errors.push(
                    document
                        .failure(document.root.spot, "an inventory is a mapping of groups")
                        .saw(document.root.says())
                        .mend("write 'all:' at the top and 'hosts:' or 'children:' below it"),
                );
                return;
            }
        };
        if let Some(plugin) = groups.iter().find(|entry| entry.name() == "plugin") {
            self.errors.push(
                document
                    .failure(plugin.key.spot, "inventory plugins are not built yet in ferry")
                    .saw(plugin.value.says())
                    .mend("write the hosts out, for example with 'ansible-inventory --list -y'"),
            );
            return;
        }
        for entry in groups {
            self.group_entry(document, entry, None, 0);
        }
    }

    fn group_entry(&mut self, document: &Document, entry: &Entry, parent: Option<usize>, depth: usize) {
        let Yaml::Text(name) = &entry.key.value else {
            self.errors.push(
                document
                    .failure(entry.key.spot, "a group's name is text")
                    .saw(entry.key.says())
                    .mend("put it in quotes"),
            );
            return;
        };
        let name = match name.parse::<GroupName>() {
            Ok(name) => name,
            Err(bad) => {
                self.errors.push(document.failure(entry.key.spot, bad.to_string()));
                return;
            }
        };
        if depth == 0 && GROUP_KEYS.contains(&name.as_str()) && !self.group_at.contains_key(name.as_str()) {
            self.errors.push(
                document
                    .failure(
                        entry.key.spot,
                        format!("{name:?} at the top of an inventory would be a group of that name"),
                    )
                    .why("the top of an inventory has groups; 'hosts', 'vars' and 'children' stand below a group")
                    .mend("write 'all:' above it and indent it"),
            );
            return;
        }
        if parent.is_some() && name.as_str() == "all" {
            let failure = document.failure(entry.key.spot, "all cannot be a child: every group is below it already");
            self.errors.push(failure.mend("name the groups that you mean"));
            return;
        }
        let at = self.group(&name);
        if let Some(parent) = parent {
            if self.below(at, parent) {
                let above = self.groups.get(parent).map(|group| group.name.to_string()).unwrap_or_default();
                self.errors.push(
                    document
                        .failure(entry.key.spot, format!("{name} cannot be a child of {above}: the groups form a loop"))
                        .why(if name.as_str() == above {
                            "a group cannot hold itself".to_owned()
                        } else {
                            format!("{above} is {name} or already somewhere below it")
                        })
                        .mend("take one of the two 'children' entries away"),
                );
                return;
            }
            self.link(parent, at);
        }
        let body = match &entry.value.value {
            Yaml::Null => return,
            Yaml::Map(body) => body,
            _ => {
                self.errors.push(
                    document
                        .failure(
                            entry.value.spot,
                            format!("the group {name} is a mapping with hosts, vars and children"),
                        )
                        .saw(entry.value.says()),
                );
                return;
            }
        };
        for part in body {
            match part.name().as_str() {
                "hosts" => self.named(document, part, "hosts", |reader, entry| reader.host_entry(document, entry, at)),
                "children" => self.named(document, part, "children", |reader, entry| {
                    reader.group_entry(document, entry, Some(at), depth + 1);
                }),
                "vars" => self.group_vars(document, part, at),
                other => {
                    let near = nearest(other, GROUP_KEYS, 1);
                    let mut failure = document
                        .failure(part.key.spot, format!("the group {name} has the unknown key {}", quoted(other)))
                        .why("a group has hosts, vars and children");
                    if let Some(near) = near.first() {
                        failure = failure.mend(format!("did you mean {near}?"));
                    } else {
                        failure = failure
                            .mend("a variable goes below 'vars:', a host below 'hosts:', a group below 'children:'");
                    }
                    self.errors.push(failure);
                }
            }
        }
    }

    /// `hosts:` and `children:` are a mapping, nothing, or one bare name.
    fn named(&mut self, document: &Document, part: &Entry, what: &str, mut each: impl FnMut(&mut Self, &Entry)) {
        match &part.value.value {
            Yaml::Null => {}
            Yaml::Map(entries) => entries.iter().for_each(|entry| each(self, entry)),
            Yaml::Text(_) => {
                let empty = Node { value: Yaml::Null, spot: part.value.spot };
                each(self, &Entry { key: part.value.clone(), value: empty });
            }
            Yaml::List(_) => self.errors.push(
                document
                    .failure(part.value.spot, format!("{what} is a mapping, not a list"))
                    .mend("write each name as a key with a colon: 'prod-1:' instead of '- prod-1'"),
            ),
            _ => self.errors.push(
                document.failure(part.value.spot, format!("{what} is a mapping of names")).saw(part.value.says()),
            ),
        }
    }

    fn host_entry(&mut self, document: &Document, entry: &Entry, group: usize) {
        let Yaml::Text(written) = &entry.key.value else {
            self.errors.push(
                document
                    .failure(entry.key.spot, "a host's name is text")
                    .saw(entry.key.says())
                    .mend(format!("put it in quotes: \"{}\"", entry.name())),
            );
            return;
        };
        let (names, port) = match ranges::expand(written) {
            Ok(expanded) => expanded,
            Err(what) => {
                self.errors.push(
                    document
                        .failure(entry.key.spot, format!("{} is not a host name: {what}", quoted(written)))
                        .mend("write a name, a range such as prod-[1:3], or name:port"),
                );
                return;
            }
        };
        let vars = match &entry.value.value {
            Yaml::Null => &[][..],
            Yaml::Map(vars) => vars,
            _ => {
                self.errors.push(
                    document
                        .failure(
                            entry.value.spot,
                            format!("what stands under the host {written} is a mapping of variables"),
                        )
                        .saw(entry.value.says())
                        .mend("write 'name: value' lines below it, or nothing"),
                );
                return;
            }
        };
        let vars = self.variables(document, vars);
        for name in names {
            let name = match name.parse::<HostName>() {
                Ok(name) => name,
                Err(bad) => {
                    self.errors.push(document.failure(entry.key.spot, bad.to_string()));
                    continue;
                }
            };
            let at = self.host(&name, group);
            let Some(host) = self.hosts.get_mut(at) else { continue };
            if let Some(port) = port {
                host.vars[0].set("ansible_port".to_owned(), port.into(), document.place(entry.key.spot));
            }
            for (name, value, spot) in &vars {
                host.vars[0].set(name.clone(), value.clone(), document.place(*spot));
            }
        }
    }

    fn group_vars(&mut self, document: &Document, part: &Entry, group: usize) {
        let entries = match &part.value.value {
            Yaml::Null => return,
            Yaml::Map(entries) => entries,
            _ => {
                self.errors.push(
                    document
                        .failure(part.value.spot, "vars is a mapping of variables")
                        .saw(part.value.says())
                        .mend("write 'name: value' lines below it"),
                );
                return;
            }
        };
        let vars = self.variables(document, entries);
        let Some(group) = self.groups.get_mut(group) else { return };
        for (name, value, spot) in vars {
            if name == "ansible_group_priority" {
                match value.as_i64() {
                    Some(priority) => group.priority = priority,
                    None => self.errors.push(
                        document.failure(spot, "ansible_group_priority is a whole number").saw(value.to_string()),
                    ),
                }
                continue;
            }
            group.vars[0].set(name, value, document.place(spot));
        }
    }

    /// The variables of a mapping, each known one checked by name and, where it is no template, by value.
    fn variables(&mut self, document: &Document, entries: &[Entry]) -> Vec<(String, Value, Spot)> {
        let mut out = Vec::new();
        for entry in entries {
            let name = match &entry.key.value {
                Yaml::Text(name) => name.clone(),
                _ => {
                    self.errors.push(
                        document
                            .failure(entry.key.spot, "a variable's name is text")
                            .saw(entry.key.says())
                            .mend(format!("put it in quotes: \"{}\"", entry.name())),
                    );
                    continue;
                }
            };
            let spot = if entry.value.value == Yaml::Null { entry.key.spot } else { entry.value.spot };
            let value = entry.value.to_json();
            match vars::check(&name, &value) {
                Ok(()) => out.push((name, value, spot)),
                Err(problem) => {
                    let spot = if problem.by_name { entry.key.spot } else { spot };
                    self.errors.push(problem.at(document.failure(spot, "")));
                }
            }
        }
        out
    }

    /// Reads `group_vars` and `host_vars` in `base`; `beside` is 1 for an inventory, 2 for a playbook.
    pub(super) fn vars_beside(&mut self, base: &Path, beside: usize) {
        let groups: Vec<String> = self.groups.iter().map(|group| group.name.to_string()).collect();
        let hosts: Vec<String> = self.hosts.iter().map(|host| host.name.to_string()).collect();
        self.vars_folder(&base.join("group_vars"), &groups, |reader, at| {
            reader.groups.get_mut(at).and_then(|group| group.vars.get_mut(beside))
        });
        self.vars_folder(&base.join("host_vars"), &hosts, |reader, at| {
            reader.hosts.get_mut(at).and_then(|host| host.vars.get_mut(beside))
        });
    }

    fn vars_folder(&mut self, folder: &Path, names: &[String], slot: impl Fn(&mut Self, usize) -> Option<&mut VarSet>) {
        if !folder.is_dir() {
            return;
        }
        let mut taken: Vec<PathBuf> = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let candidates = std::iter::once(name.clone()).chain(YAML_ENDS.iter().map(|end| format!("{name}.{end}")));
            let Some(path) = candidates.map(|file| folder.join(file)).find(|path| path.exists()) else { continue };
            taken.push(path.clone());
            let mut files = Vec::new();
            if path.is_dir() {
                self.vars_files(&path, 0, &mut files);
            } else {
                files.push(path);
            }
            for file in files {
                for (name, value, place) in self.vars_file(&file) {
                    if let Some(set) = slot(self, at) {
                        set.set(name, value, place);
                    }
                }
            }
        }
        // A file that belongs to nobody is most often a misspelt name.
        for (entry, path) in sorted_entries(folder).unwrap_or_default() {
            if taken.contains(&path) {
                continue;
            }
            let name = match entry.rsplit_once('.') {
                Some((stem, end)) if YAML_ENDS.contains(&end) => stem,
                _ => &entry,
            };
            let known = names.iter().any(|known| known == name || *known == entry);
            let path = path.display();
            if known {
                self.warnings.push(format!("{path} is not read: of several files for {name} only the first counts"));
            } else if !entry.starts_with('.') && !entry.ends_with('~') {
                let near = nearest(name, names.iter().map(String::as_str), 1);
                let hint = near.first().map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                self.warnings
                    .push(format!("{path} belongs to no group or host of the inventory and is not read{hint}"));
            }
        }
    }

    fn vars_files(&mut self, folder: &Path, depth: usize, out: &mut Vec<PathBuf>) {
        if depth > DEEPEST {
            self.errors.push(Failure::new(
                Kind::CouldNotStart,
                format!("the folder {} lies too deep for variables", folder.display()),
            ));
            return;
        }
        match sorted_entries(folder) {
            Err(error) => self.errors.push(
                Failure::new(Kind::CouldNotStart, format!("the folder {} cannot be read", folder.display()))
                    .saw(error.to_string()),
            ),
            Ok(entries) => {
                for (name, path) in entries {
                    if name.starts_with('.') || name.ends_with('~') {
                        continue;
                    }
                    if path.is_dir() {
                        self.vars_files(&path, depth + 1, out);
                    } else if path.extension().is_none_or(|end| YAML_ENDS.iter().any(|known| end == *known)) {
                        out.push(path);
                    }
                }
            }
        }
    }

    fn vars_file(&mut self, path: &Path) -> Vec<(String, Value, Place)> {
        let name = path.display().to_string();
        let mut document = match self.vault.read_document(path) {
            Ok(document) => document,
            Err(failure) => {
                self.errors.push(failure);
                return Vec::new();
            }
        };
        self.warnings.append(&mut document.warnings);
        self.texts.insert(name, document.text.clone());
        match &document.root.value {
            Yaml::Null => Vec::new(),
            Yaml::Map(entries) => {
                let vars = self.variables(&document, entries);
                vars.into_iter().map(|(name, value, spot)| (name, value, document.place(spot))).collect()
            }
            _ => {
                self.errors.push(
                    document
                        .failure(document.root.spot, "a file of variables is a mapping")
                        .saw(document.root.says())
                        .mend("write 'name: value' lines"),
                );
                Vec::new()
            }
        }
    }
}

/// The first line that only an INI inventory has.
fn ini_line(text: &str) -> Option<usize> {
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            if line.starts_with(';') {
                return Some(at + 1);
            }
            continue;
        }
        let section = line.starts_with('[') && line.split('#').next().unwrap_or("").trim_end().ends_with(']');
        let host_line =
            !line.contains(": ") && !line.ends_with(':') && !line.starts_with(['{', '-', '%', '[', '}', '"']);
        return (section || host_line).then_some(at + 1);
    }
    None
}

#[cfg(unix)]
fn executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn executable(_: &Path) -> bool {
    false
}

/// The entries of a folder by name.
fn sorted_entries(folder: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        out.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    out.sort();
    Ok(out)
}
