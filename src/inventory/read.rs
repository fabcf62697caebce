//! Reading inventory sources into groups, hosts and variables.
//!
//! What lives here: which files of a source are read and in which form, the form of a YAML inventory and of what a
//! program prints, `group_vars` and `host_vars`. What does not: the lines of an INI inventory (ini), how variables of
//! several groups are merged and how hosts are chosen.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::ini::{self, Line};
use super::program::{self, Silent};
use super::ranges;
use super::vars;
use crate::failure::{Failure, Kind, Place};
use crate::name::{GroupName, HostName, nearest};
use crate::settings::ansible_cfg;
use crate::settings::yaml::{Document, Entry, Node, Spot, Yaml, quoted, showable};
use crate::vault::Vault;

/// Variables from one kind of source, each with the place of its value.
#[derive(Debug, Clone, Default)]
pub(super) struct VarSet {
    pub(super) values: Map<String, Value>,
    pub(super) places: HashMap<String, Place>,
}

impl VarSet {
    pub(super) fn set(&mut self, name: String, value: Value, place: Place) {
        self.places.insert(name.clone(), place);
        let value = crate::template::over(self.values.get(&name), &value);
        self.values.insert(name, value);
    }
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) name: GroupName,
    pub(super) hosts: Vec<usize>,
    /// The same hosts, to look one up.
    pub(super) has: HashSet<usize>,
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
    /// The source that names it first.
    pub(super) source: Option<usize>,
    /// From the inventory itself, from `host_vars` beside it, from `host_vars` beside the playbook.
    pub(super) vars: [VarSet; 3],
}

/// What the sources say, unmerged, and every error that was met.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) vault: &'a Vault,
    /// Variables of the environment that no program inherits.
    pub(super) hide: &'a [String],
    /// Whether `!vault` values stay as they are.
    pub(super) locked: bool,
    /// As Ansible does it where ferry would refuse.
    pub(super) lenient: bool,
    /// The extra variables, for inventories that are made of others.
    pub(super) extra: &'a Map<String, Value>,
    /// The sources that the operator named, as far as they were read: `group_vars` and `host_vars` lie beside them.
    pub(super) named: Vec<PathBuf>,
    /// What becomes of characters that no identifier may have.
    names: OddNames,
    /// A name was not kept as it was written.
    pub(super) replaced: bool,
    /// The files that were read, as the operator names them.
    pub(super) sources: Vec<PathBuf>,
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

/// What becomes of names of groups that are no identifiers (`force_valid_group_names`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OddNames {
    Kept,
    /// Each odd character is an underscore.
    Replaced,
}

impl OddNames {
    fn in_force() -> Self {
        match ansible_cfg::in_force("defaults.force_valid_group_names")
            .map(|text| text.trim().to_lowercase())
            .as_deref()
        {
            Some("always" | "silently") => Self::Replaced,
            _ => Self::Kept,
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(vault: &'a Vault, hide: &'a [String], extra: &'a Map<String, Value>) -> Self {
        let mut reader = Self {
            vault,
            hide,
            locked: false,
            lenient: false,
            extra,
            named: Vec::new(),
            names: OddNames::in_force(),
            replaced: false,
            sources: Vec::new(),
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

    /// Where the group of that name is.
    fn at_of(&self, name: &str) -> Option<usize> {
        match self.names {
            OddNames::Kept => self.group_at.get(name).copied(),
            OddNames::Replaced => self.group_at.get(&super::constructed::safe_name(name)).copied(),
        }
    }

    pub(super) fn group(&mut self, name: &GroupName) -> usize {
        let safe = match self.names {
            OddNames::Kept => None,
            OddNames::Replaced => super::constructed::safe_name(name.as_str()).parse::<GroupName>().ok(),
        };
        self.replaced |= safe.as_ref().is_some_and(|safe| safe != name);
        let name = safe.as_ref().unwrap_or(name);
        if let Some(at) = self.group_at.get(name.as_str()) {
            return *at;
        }
        let at = self.groups.len();
        self.group_at.insert(name.to_string(), at);
        self.groups.push(Group {
            name: name.clone(),
            hosts: Vec::new(),
            has: HashSet::new(),
            children: Vec::new(),
            parents: Vec::new(),
            vars: Default::default(),
            priority: 1,
        });
        at
    }

    pub(super) fn host(&mut self, name: &HostName, group: usize) -> usize {
        let at = match self.host_at.get(name.as_str()) {
            Some(at) => *at,
            None => {
                let at = self.hosts.len();
                self.host_at.insert(name.to_string(), at);
                let source = self.sources.len().checked_sub(1);
                self.hosts.push(Host { name: name.clone(), groups: Vec::new(), source, vars: Default::default() });
                at
            }
        };
        self.put(at, group);
        at
    }

    /// Puts a host into a group; false where it is there already.
    pub(super) fn put(&mut self, host: usize, group: usize) -> bool {
        let Some(place) = self.groups.get_mut(group) else { return false };
        if !place.has.insert(host) {
            return false;
        }
        place.hosts.push(host);
        if let Some(host) = self.hosts.get_mut(host) {
            host.groups.push(group);
        }
        true
    }

    /// The hosts `names` with what is written beside them. The port counts where a host is new.
    fn put_hosts(
        &mut self,
        names: &[HostName],
        group: usize,
        port: Option<u16>,
        vars: &[(String, Value, Place)],
        at: &Place,
    ) {
        for name in names {
            let new = !self.host_at.contains_key(name.as_str());
            let host = self.host(name, group);
            let Some(host) = self.hosts.get_mut(host) else { continue };
            if let Some(port) = port.filter(|_| new) {
                host.vars[0].set("ansible_port".to_owned(), port.into(), at.clone());
            }
            for (name, value, place) in vars {
                host.vars[0].set(name.clone(), value.clone(), place.clone());
            }
        }
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
    pub(super) fn below(&self, from: usize, wanted: usize) -> bool {
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
        self.sources.push(PathBuf::from(text));
        let place = Place { file: text.to_owned(), line: 1, column: 1 };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let said = |what: String| {
                Failure::new(Kind::CouldNotStart, format!("the host list {text:?} is wrong: {what}")).saw(word)
            };
            match ranges::expand(word) {
                // As Ansible does it: a range without an end is the name of a host.
                Err(_) if self.lenient && word.ends_with(":]") && word.parse::<HostName>().is_ok() => {
                    self.warnings.push(format!(
                        "Unable to parse address from hostname, leaving unchanged: {word}: host range must specify end value"
                    ));
                    let names = self.names(vec![word.to_owned()], said);
                    self.put_hosts(&names, 1, None, &[], &place);
                }
                Err(what) if self.lenient => {
                    self.errors.push(said(format!("Failed to parse inventory with 'advanced_host_list': {what}")));
                }
                Err(what) => self.errors.push(said(what)),
                Ok((names, port)) => {
                    let names = self.names(names, said);
                    self.put_hosts(&names, 1, port, &[], &place);
                }
            }
        }
    }

    /// The names that are host names; each other one is told.
    fn names(&mut self, names: Vec<String>, said: impl Fn(String) -> Failure) -> Vec<HostName> {
        let mut out = Vec::new();
        for name in names {
            match name.parse() {
                Ok(name) => out.push(name),
                Err(bad) => self.errors.push(said(crate::name::BadName::to_string(&bad))),
            }
        }
        out
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
        // What the settings of Ansible say instead of its own endings, and besides.
        let listed = |keys: [&str; 2]| -> Option<Vec<String>> {
            let text = keys.iter().find_map(|key| ansible_cfg::in_force(key))?;
            Some(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect())
        };
        let ends = listed(["inventory.ignore_extensions", "defaults.inventory_ignore_extensions"]);
        let mut patterns = Vec::new();
        for text in listed(["inventory.ignore_patterns", "defaults.inventory_ignore_patterns"]).unwrap_or_default() {
            match regex::Regex::new(&text) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => {
                    self.errors.push(
                        Failure::new(
                            Kind::CouldNotStart,
                            "a pattern of [inventory] ignore_patterns is no regular expression",
                        )
                        .saw(format!("{}: {error}", showable(&text))),
                    );
                    return;
                }
            }
        }
        for (name, entry) in entries {
            let ends_so = match &ends {
                Some(ends) => ends.iter().any(|end| name.ends_with(end)),
                None => SKIPPED_ENDS.iter().any(|end| name.ends_with(end)),
            };
            let skipped = name.starts_with('.')
                || SKIPPED_NAMES.contains(&name.as_str())
                || ends_so
                || patterns.iter().any(|pattern| pattern.is_match(&name));
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
        self.sources.push(path.to_owned());
        if executable(path) && self.program(path) {
            return;
        }
        let text = match self.vault.read_text(path) {
            Ok(text) => text,
            Err(failure) => {
                self.errors.push(failure);
                return;
            }
        };
        let name = path.display().to_string();
        let extension = path.extension().and_then(|end| end.to_str()).unwrap_or("");
        let refuse = |what: &str, line: usize, mend: &str| {
            Failure::new(Kind::CouldNotStart, what.to_owned()).in_text(&name, &showable(&text), line, 1).mend(mend)
        };
        if text.starts_with("#!") {
            self.errors.push(refuse(
                "this inventory is a program, and nobody may run it",
                1,
                &format!("chmod +x {name}"),
            ));
            return;
        }
        if extension == "toml" {
            self.errors.push(refuse(
                "inventories in TOML are not built yet in ferry",
                1,
                "write it as YAML; 'ansible-inventory -i FILE --list -y' does it",
            ));
            return;
        }
        // Ansible tries YAML where the name allows it, then INI. A mapping is YAML for certain.
        let named = YAML_ENDS.contains(&extension) || extension == "config" && text.contains("plugin:");
        let yaml = if named || extension.is_empty() { Some(Document::read_with_ranges(&name, &text)) } else { None };
        let failure = match yaml {
            Some(Ok((document, repaired))) if named || matches!(document.root.value, Yaml::Map(_)) => {
                if named && !matches!(document.root.value, Yaml::Map(_)) && has_section(&text) {
                    None
                } else {
                    return self.yaml(name, document, repaired);
                }
            }
            Some(Err(failure)) => Some(failure),
            _ => None,
        };
        match (ini::parse(&name, &text), failure) {
            // An ending that says YAML is believed, unless there is a section of INI.
            (_, Some(failure)) if named && !has_section(&text) => self.errors.push(failure),
            (_, Some(failure)) if looks_like_yaml(&text) => self.errors.push(failure),
            (Ok(lines), _) => self.ini(name, &text, lines),
            (Err(failure), _) => self.errors.push(failure),
        }
    }

    fn yaml(&mut self, name: String, mut document: Document, repaired: bool) {
        if !self.locked {
            self.vault.unlock(&mut document);
        }
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

    fn ini(&mut self, file: String, text: &str, lines: Vec<(Line, Spot)>) {
        let shown = showable(text).into_owned();
        self.texts.insert(file.clone(), Arc::from(text));
        let place = |spot: Spot| Place { file: file.clone(), line: spot.line, column: spot.column };
        let wrong = |spot: Spot, what: String| {
            Failure::new(Kind::CouldNotStart, what).in_text(&file, &shown, spot.line, spot.column)
        };
        // A child that is declared later becomes one when it is.
        let mut pending: HashMap<String, Vec<usize>> = HashMap::new();
        for (line, spot) in lines {
            match line {
                Line::Group(name) | Line::Vars(name) if name.parse::<GroupName>().is_err() => {
                    if let Err(bad) = name.parse::<GroupName>() {
                        self.errors.push(wrong(spot, bad.to_string()));
                    }
                }
                Line::Group(name) => {
                    let Ok(group) = name.parse::<GroupName>() else { continue };
                    let at = self.group(&group);
                    for parent in pending.remove(&name).unwrap_or_default() {
                        self.ini_link(parent, at, &wrong, spot);
                    }
                }
                Line::Vars(name) => {
                    let Ok(group) = name.parse::<GroupName>() else { continue };
                    self.group(&group);
                }
                Line::Hosts { group, names, port, vars } => {
                    let Some(group) = self.at_of(&group) else { continue };
                    let names = self.names(names, |bad| wrong(spot, bad));
                    let mut good = Vec::new();
                    for (name, value, spot) in vars {
                        match vars::check(&name, &value) {
                            Ok(()) => good.push((name, value, place(spot))),
                            Err(_) if self.lenient => good.push((name, value, place(spot))),
                            Err(problem) => self.errors.push(problem.at(wrong(spot, String::new()))),
                        }
                    }
                    self.put_hosts(&names, group, port, &good, &place(spot));
                }
                Line::Var { group, name, value } => {
                    let Some(at) = self.at_of(&group) else { continue };
                    if let Err(problem) = vars::check(&name, &value)
                        && !self.lenient
                    {
                        self.errors.push(problem.at(wrong(spot, String::new())));
                        continue;
                    }
                    if let Err(what) = self.set_group(at, name, value, place(spot)) {
                        self.errors.push(wrong(spot, what));
                    }
                }
                Line::Child { group, child } => {
                    let Some(parent) = self.group_at.get(&group).copied() else { continue };
                    match self.group_at.get(&child).copied() {
                        Some(at) => self.ini_link(parent, at, &wrong, spot),
                        None => pending.entry(child).or_default().push(parent),
                    }
                }
            }
        }
    }

    fn ini_link(&mut self, parent: usize, child: usize, wrong: &dyn Fn(Spot, String) -> Failure, spot: Spot) {
        if self.below(child, parent) {
            let name = |at: usize| self.groups.get(at).map(|group| group.name.to_string()).unwrap_or_default();
            let failure =
                wrong(spot, format!("{} cannot be a child of {}: the groups form a loop", name(child), name(parent)));
            self.errors.push(failure.mend("take one of the lines away"));
        } else {
            self.link(parent, child);
        }
    }

    /// Sets a variable of a group; the priority is one of the group itself. The error is a sentence.
    pub(super) fn set_group(&mut self, group: usize, name: String, value: Value, place: Place) -> Result<(), String> {
        let Some(group) = self.groups.get_mut(group) else { return Ok(()) };
        if name != "ansible_group_priority" {
            group.vars[0].set(name, value, place);
            return Ok(());
        }
        let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
        group.priority = number.ok_or_else(|| format!("ansible_group_priority is a whole number, not {value}"))?;
        Ok(())
    }

    /// Reads what the program at `path` prints; false where the system says that it is none.
    fn program(&mut self, path: &Path) -> bool {
        let said = match program::call(path, &["--list"], self.hide) {
            Ok(said) => said,
            Err(Silent::NoProgram) => return false,
            Err(Silent::Failed(failure)) => {
                self.errors.push(failure);
                return true;
            }
        };
        let file = path.display().to_string();
        if !said.complaint.is_empty() {
            self.warnings.push(format!("{file}: {}", said.complaint));
        }
        let place = Place { file: file.clone(), line: 1, column: 1 };
        let wrong = |what: String| {
            Failure::new(Kind::CouldNotStart, format!("what {file} printed cannot be read: {what}"))
                .mend(format!("run it by hand: {file} --list"))
        };
        let mut known: Vec<HostName> = Vec::new();
        let mut meta: Option<Map<String, Value>> = None;
        for (name, data) in said.map {
            if name == "_meta" {
                match data.get("hostvars") {
                    Some(Value::Object(map)) => meta = Some(map.clone()),
                    None => {}
                    Some(_) => self.errors.push(wrong("_meta.hostvars is no object".to_owned())),
                }
                continue;
            }
            let group = match name.parse::<GroupName>() {
                Ok(name) => self.group(&name),
                Err(bad) => {
                    self.errors.push(wrong(bad.to_string()));
                    continue;
                }
            };
            let data = match data {
                Value::Object(map) if GROUP_KEYS.iter().any(|key| map.contains_key(*key)) => map,
                // Without any of the three keys it is the one host of that name with its variables.
                Value::Object(map) => {
                    let pairs = [("hosts", Value::from(vec![name.clone()])), ("vars", Value::Object(map))];
                    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
                }
                other => std::iter::once(("hosts".to_owned(), other)).collect(),
            };
            self.printed_group(&name, group, data, &place, &mut known, &wrong);
        }
        for host in known {
            let vars = match &meta {
                Some(meta) => match meta.get(host.as_str()) {
                    Some(Value::Object(vars)) => vars.clone(),
                    _ => continue,
                },
                None => match program::call(path, &["--host", host.as_str()], self.hide) {
                    Ok(said) => said.map,
                    Err(Silent::Failed(failure)) => {
                        self.errors.push(failure.on(&host));
                        continue;
                    }
                    Err(Silent::NoProgram) => continue,
                },
            };
            for (name, value) in vars {
                let value = self.opened(value);
                match vars::check(&name, &value) {
                    Ok(()) => {
                        if let Some(host) = self.host_at.get(host.as_str()).and_then(|at| self.hosts.get_mut(*at)) {
                            host.vars[0].set(name, value, place.clone());
                        }
                    }
                    Err(problem) => self.errors.push(problem.at(wrong(String::new()).on(&host))),
                }
            }
        }
        true
    }

    fn printed_group(
        &mut self,
        name: &str,
        group: usize,
        data: Map<String, Value>,
        place: &Place,
        known: &mut Vec<HostName>,
        wrong: &dyn Fn(String) -> Failure,
    ) {
        for (key, value) in data {
            match (key.as_str(), value) {
                ("hosts", Value::Array(items)) => {
                    for item in items {
                        let Some(Ok(host)) = item.as_str().map(str::parse::<HostName>) else {
                            self.errors.push(wrong(format!("{item} in {name}.hosts is no host name")));
                            continue;
                        };
                        self.put_hosts(std::slice::from_ref(&host), group, None, &[], place);
                        known.push(host);
                    }
                }
                ("vars", Value::Object(vars)) => {
                    for (variable, value) in vars {
                        let value = self.opened(value);
                        let checked = vars::check(&variable, &value);
                        if let Err(problem) = checked {
                            self.errors.push(problem.at(wrong(String::new())));
                        } else if let Err(what) = self.set_group(group, variable, value, place.clone()) {
                            self.errors.push(wrong(what));
                        }
                    }
                }
                ("children", Value::Array(children)) => {
                    for child in children {
                        let Some(Ok(child)) = child.as_str().map(str::parse::<GroupName>) else {
                            self.errors.push(wrong(format!("{child} in {name}.children is no group name")));
                            continue;
                        };
                        let at = self.group(&child);
                        if self.below(at, group) {
                            self.errors.push(wrong(format!("{child} is above {name} and below it")));
                        } else {
                            self.link(group, at);
                        }
                    }
                }
                ("hosts" | "children", _) => self.errors.push(wrong(format!("{name}.{key} is no list"))),
                ("vars", _) => self.errors.push(wrong(format!("{name}.vars is no object"))),
                _ => {}
            }
        }
    }

    /// A value that a program printed, its vault texts opened where a password fits.
    fn opened(&self, value: Value) -> Value {
        if self.locked { value } else { self.vault.unlock_value(value) }
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
                        .saw(document.says(&document.root))
                        .mend("write 'all:' at the top and 'hosts:' or 'children:' below it"),
                );
                return;
            }
        };
        if let Some(plugin) = groups.iter().find(|entry| entry.name() == "plugin") {
            let named = match &plugin.value.value {
                Yaml::Text(name) => name.as_str(),
                _ => "",
            };
            let made = match named.trim_start_matches("ansible.builtin.").trim_start_matches("ansible.legacy.") {
                "constructed" => super::constructed::apply(self, document, groups),
                "generator" => super::constructed::generate(self, document, groups),
                _ => Err(document
                    .failure(plugin.key.spot, "this inventory plugin is not built in ferry")
                    .saw(document.says(&plugin.value))
                    .why("ferry has constructed and generator")
                    .mend("write the hosts out, for example with 'ansible-inventory --list -y'")),
            };
            self.errors.extend(made.err());
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
                    .saw(document.says(&entry.key))
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
                        .saw(document.says(&entry.value)),
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
                document
                    .failure(part.value.spot, format!("{what} is a mapping of names"))
                    .saw(document.says(&part.value)),
            ),
        }
    }

    fn host_entry(&mut self, document: &Document, entry: &Entry, group: usize) {
        let Yaml::Text(written) = &entry.key.value else {
            self.errors.push(
                document
                    .failure(
                        entry.key.spot,
                        format!("Host pattern {} must be a string: a host's name is text", entry.name()),
                    )
                    .saw(document.says(&entry.key))
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
                        .saw(document.says(&entry.value))
                        .mend("write 'name: value' lines below it, or nothing"),
                );
                return;
            }
        };
        let vars = self.variables(document, vars);
        let vars: Vec<_> = vars.into_iter().map(|(name, value, spot)| (name, value, document.place(spot))).collect();
        let names = self.names(names, |bad| document.failure(entry.key.spot, bad));
        self.put_hosts(&names, group, port, &vars, &document.place(entry.key.spot));
    }

    fn group_vars(&mut self, document: &Document, part: &Entry, group: usize) {
        let entries = match &part.value.value {
            Yaml::Null => return,
            Yaml::Map(entries) => entries,
            _ => {
                self.errors.push(
                    document
                        .failure(part.value.spot, "vars is a mapping of variables")
                        .saw(document.says(&part.value))
                        .mend("write 'name: value' lines below it"),
                );
                return;
            }
        };
        let vars = self.variables(document, entries);
        for (name, value, spot) in vars {
            if let Err(what) = self.set_group(group, name, value, document.place(spot)) {
                self.errors.push(document.failure(spot, what));
            }
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
                            .saw(document.says(&entry.key))
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

    /// Reads `group_vars` and `host_vars` in `base`; `beside` is 1 for an inventory, 2 for a playbook. `implicit` are the
    /// variables of this machine under its names.
    pub(super) fn vars_beside(&mut self, base: &Path, beside: usize, implicit: &mut [[VarSet; 3]; 3]) {
        let groups: Vec<String> = self.groups.iter().map(|group| group.name.to_string()).collect();
        let mut hosts: Vec<String> = self.hosts.iter().map(|host| host.name.to_string()).collect();
        let written = hosts.len();
        hosts.extend(
            super::IMPLICIT.iter().filter(|name| !self.host_at.contains_key(**name)).map(|name| (*name).into()),
        );
        self.vars_folder(&base.join("group_vars"), &groups, |reader, at, name, value, place| {
            if let Some(set) = reader.groups.get_mut(at).and_then(|group| group.vars.get_mut(beside)) {
                set.set(name, value, place);
            }
        });
        let names = hosts.clone();
        self.vars_folder(&base.join("host_vars"), &hosts, |reader, at, name, value, place| {
            let set = match reader.hosts.get_mut(at).filter(|_| at < written) {
                Some(host) => host.vars.get_mut(beside),
                None => super::IMPLICIT
                    .iter()
                    .position(|known| names.get(at).is_some_and(|name| name == known))
                    .and_then(|at| implicit.get_mut(at))
                    .and_then(|sets| sets.get_mut(beside)),
            };
            if let Some(set) = set {
                set.set(name, value, place);
            }
        });
    }

    fn vars_folder(
        &mut self,
        folder: &Path,
        names: &[String],
        mut set: impl FnMut(&mut Self, usize, String, Value, Place),
    ) {
        // One look at the folder, not four for each of 10,000 hosts.
        let Ok(entries) = sorted_entries(folder) else { return };
        let there: HashSet<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
        let mut taken: Vec<PathBuf> = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let mut candidates =
                std::iter::once(name.clone()).chain(YAML_ENDS.iter().map(|end| format!("{name}.{end}")));
            let found = candidates.find(|file| there.contains(file.as_str()) && folder.join(file).exists());
            let Some(path) = found.map(|file| folder.join(file)) else { continue };
            taken.push(path.clone());
            let mut files = Vec::new();
            if path.is_dir() {
                self.vars_files(&path, 0, &mut files);
            } else {
                files.push(path);
            }
            for file in files {
                for (name, value, place) in self.vars_file(&file) {
                    set(self, at, name, value, place);
                }
            }
        }
        // A file that belongs to nobody is most often a misspelt name.
        for (entry, path) in entries {
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
        let read = if self.locked { self.vault.read_locked(path) } else { self.vault.read_document(path) };
        let mut document = match read {
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
                        .saw(document.says(&document.root))
                        .mend("write 'name: value' lines"),
                );
                Vec::new()
            }
        }
    }
}

/// Whether a line is a section of INI.
fn has_section(text: &str) -> bool {
    text.lines().map(str::trim).any(|line| {
        let head = line.split('#').next().unwrap_or("").trim_end();
        head.starts_with('[') && head.ends_with(']') && !head.contains([',', '"', '\''])
    })
}

/// Whether the first line that says something is one of YAML or JSON.
fn looks_like_yaml(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.next().is_some_and(|line| {
        line == "---"
            || line.ends_with(':')
            || line.contains(": ") && !line.contains('=')
            || line.starts_with(['{', '%'])
    })
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
