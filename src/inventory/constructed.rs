//! Inventories that are made of what other sources say: `plugin: constructed`.
//!
//! What lives here: the form of such a file (`compose`, `groups`, `keyed_groups`) and what it makes of hosts that were read
//! before it. What does not: templates themselves, and where variables of hosts come from.

use serde_json::Value;

use super::Inventory;
use super::read::{Reader, VarSet};
use crate::failure::{Failure, Place};
use crate::name::{GroupName, HostName, nearest};
use crate::settings::yaml::{Document, Entry, Node, Yaml};
use crate::template::{Scope, Templater, is_omit};

/// The words that stand at the top.
const WORDS: &[&str] = &[
    "plugin",
    "strict",
    "compose",
    "groups",
    "keyed_groups",
    "leading_separator",
    "use_vars_plugins",
    "use_extra_vars",
];
/// The words of one entry of `keyed_groups`.
const KEYED: &[&str] = &["key", "prefix", "separator", "parent_group", "default_value", "trailing_separator"];

/// One entry of `keyed_groups`.
struct Keyed {
    key: Node,
    prefix: String,
    separator: String,
    parent: Option<Node>,
    default: Option<String>,
    trailing: Option<bool>,
}

/// The whole file.
#[derive(Default)]
struct Plan {
    strict: bool,
    no_leading: bool,
    vars_plugins: bool,
    extra_vars: bool,
    compose: Vec<(String, Node)>,
    groups: Vec<(String, Node)>,
    keyed: Vec<Keyed>,
}

fn flag(document: &Document, node: &Node) -> Result<bool, Failure> {
    match &node.value {
        Yaml::Bool(value) => Ok(*value),
        _ => Err(document
            .failure(node.spot, "true or false is expected here")
            .saw(document.says(node))
            .mend("write true or false")),
    }
}

fn text(document: &Document, node: &Node) -> Result<String, Failure> {
    match &node.value {
        Yaml::Text(text) => Ok(text.clone()),
        Yaml::Null => Ok(String::new()),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Bool(value) => Ok(if *value { "True" } else { "False" }.to_owned()),
        _ => Err(document.failure(node.spot, "a text is expected here").saw(document.says(node))),
    }
}

fn mapping<'d>(document: &Document, node: &'d Node, what: &str) -> Result<&'d [Entry], Failure> {
    match &node.value {
        Yaml::Map(entries) => Ok(entries),
        Yaml::Null => Ok(&[]),
        _ => Err(document.failure(node.spot, format!("{what} is a mapping")).saw(document.says(node))),
    }
}

fn unknown(document: &Document, entry: &Entry, of: &str, known: &[&str]) -> Failure {
    let name = entry.name();
    let failure = document.failure(entry.key.spot, format!("{of} has no word {name:?}"));
    match nearest(&name, known.iter().copied(), 1).first() {
        Some(near) => failure.mend(format!("did you mean {near}?")),
        None => failure.mend(format!("there are {}", known.join(", "))),
    }
}

impl Plan {
    fn read(document: &Document, entries: &[Entry]) -> Result<Self, Failure> {
        let mut plan = Self::default();
        let expressions = |node: &Node, what: &str| -> Result<Vec<(String, Node)>, Failure> {
            Ok(mapping(document, node, what)?.iter().map(|entry| (entry.name(), entry.value.clone())).collect())
        };
        for entry in entries {
            let value = &entry.value;
            match entry.name().as_str() {
                "plugin" => {}
                "strict" => plan.strict = flag(document, value)?,
                "leading_separator" => plan.no_leading = !flag(document, value)?,
                "use_vars_plugins" => plan.vars_plugins = flag(document, value)?,
                "use_extra_vars" => plan.extra_vars = flag(document, value)?,
                "compose" => plan.compose = expressions(value, "compose")?,
                "groups" => plan.groups = expressions(value, "groups")?,
                "keyed_groups" => {
                    let items = match &value.value {
                        Yaml::List(items) => items.as_slice(),
                        Yaml::Null => &[],
                        _ => {
                            return Err(document
                                .failure(value.spot, "keyed_groups is a list")
                                .saw(document.says(value))
                                .mend("write '- key: …' below it"));
                        }
                    };
                    for item in items {
                        plan.keyed.push(Keyed::read(document, item)?);
                    }
                }
                _ => return Err(unknown(document, entry, "a constructed inventory", WORDS)),
            }
        }
        Ok(plan)
    }
}

impl Keyed {
    fn read(document: &Document, item: &Node) -> Result<Self, Failure> {
        let Yaml::Map(entries) = &item.value else {
            return Err(document
                .failure(item.spot, "an entry of keyed_groups is a mapping")
                .saw(document.says(item))
                .mend("write 'key: EXPRESSION'"));
        };
        let mut keyed = Self {
            key: Node { value: Yaml::Null, spot: item.spot },
            prefix: String::new(),
            separator: "_".to_owned(),
            parent: None,
            default: None,
            trailing: None,
        };
        for entry in entries {
            let value = &entry.value;
            match entry.name().as_str() {
                "key" => keyed.key = value.clone(),
                "prefix" => keyed.prefix = text(document, value)?,
                "separator" => keyed.separator = text(document, value)?,
                "parent_group" => keyed.parent = (value.value != Yaml::Null).then(|| value.clone()),
                "default_value" => {
                    keyed.default = (value.value != Yaml::Null).then(|| text(document, value)).transpose()?;
                }
                "trailing_separator" => keyed.trailing = Some(flag(document, value)?),
                _ => return Err(unknown(document, entry, "keyed_groups", KEYED)),
            }
        }
        if keyed.key.value == Yaml::Null {
            return Err(document.failure(item.spot, "this entry of keyed_groups has no key").mend("write 'key: …'"));
        }
        if keyed.default.is_some() && keyed.trailing.is_some() {
            return Err(document
                .failure(item.spot, "default_value and trailing_separator exclude each other")
                .mend("take one of them away"));
        }
        Ok(keyed)
    }

    /// The last parts of the names of the groups that a key's value stands for.
    fn parts(&self, value: &Value) -> Result<Vec<String>, String> {
        let empty = |value: &Value| value.is_null() || value.as_str() == Some("");
        let shown = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => "None".to_owned(),
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            other => other.to_string(),
        };
        Ok(match (value, &self.default) {
            (value, Some(default)) if empty(value) => vec![default.clone()],
            (Value::String(text), _) => vec![text.clone()],
            (Value::Array(items), default) => {
                let or_default = |item: &Value| match default {
                    Some(default) if empty(item) => default.clone(),
                    _ => shown(item),
                };
                items.iter().map(or_default).collect()
            }
            (Value::Object(map), default) => {
                let pair = |(name, value): (&String, &Value)| match default {
                    Some(default) if empty(value) => format!("{name}{}{default}", self.separator),
                    None if empty(value) && self.trailing == Some(false) => name.clone(),
                    // What is not there is written as Python writes it, an empty text is nothing.
                    _ => format!("{name}{}{}", self.separator, shown(value)),
                };
                map.iter().map(pair).collect()
            }
            (other, _) => return Err(format!("a group is named by a text, a list or a mapping, not by {other}")),
        })
    }
}

/// What counts as nothing in Python.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// A name in which every character that no identifier may have is an underscore.
pub(super) fn safe_name(name: &str) -> String {
    let fits = |(at, c): (usize, char)| (c.is_alphanumeric() || c == '_') && !(at == 0 && c.is_ascii_digit());
    name.chars().enumerate().map(|(at, c)| if fits((at, c)) { c } else { '_' }).collect()
}

struct Work<'d> {
    document: &'d Document,
    plan: Plan,
    templater: Templater,
    extra: Scope,
}

impl Work<'_> {
    /// The value of an expression; `None` where it has none and that is allowed.
    fn value(&self, node: &Node, scope: &Scope, what: &str) -> Result<Option<Value>, Failure> {
        let Yaml::Text(expression) = &node.value else {
            return Err(self
                .document
                .failure(node.spot, "an expression is a text")
                .saw(self.document.says(node))
                .mend("put it in quotes"));
        };
        let with_extra;
        let scope = if self.plan.extra_vars {
            let mut all = scope.clone();
            all.merge(&self.extra);
            with_extra = all;
            &with_extra
        } else {
            scope
        };
        let place = self.document.place(node.spot);
        match self.templater.render(&format!("{{{{ {expression} }}}}"), Some(&place), scope) {
            Ok(value) if is_omit(&value) => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(failure) if self.plan.strict => Err(Failure { what: format!("{what}: {}", failure.what), ..failure }),
            Err(_) => Ok(None),
        }
    }

    fn group(&self, reader: &mut Reader<'_>, name: &str, node: &Node) -> Result<usize, Failure> {
        let name = safe_name(name);
        match name.parse::<GroupName>() {
            Ok(name) => Ok(reader.group(&name)),
            Err(bad) => Err(self.document.failure(node.spot, bad.to_string())),
        }
    }

    fn host(&self, reader: &mut Reader<'_>, at: usize, name: &HostName, vars: VarSet) -> Result<(), Failure> {
        let mut scope = Scope::new();
        for (variable, value) in &vars.values {
            scope.written(variable, value, vars.places.get(variable).cloned());
        }
        for (variable, node) in &self.plan.compose {
            let what = format!("the variable {variable} of {name} cannot be composed");
            let Some(value) = self.value(node, &scope, &what)? else { continue };
            if let Err(problem) = super::vars::check(variable, &value) {
                return Err(problem.at(self.document.failure(node.spot, "")));
            }
            // What one expression gives, the next ones do not see: so it is in Ansible.
            if let Some(host) = reader.hosts.get_mut(at) {
                host.vars[0].set(variable.clone(), value, self.document.place(node.spot));
            }
        }
        let own = reader.hosts.get(at).map(|host| host.vars[0].clone()).unwrap_or_default();
        for (variable, _) in &self.plan.compose {
            if let Some(value) = own.values.get(variable) {
                scope.data(variable, value);
            }
        }
        for (group, node) in &self.plan.groups {
            let wanted = match &node.value {
                Yaml::Bool(value) => *value,
                Yaml::Text(condition) => {
                    let place: Place = self.document.place(node.spot);
                    match self.templater.evaluate_condition(condition, Some(&place), &scope) {
                        Ok(wanted) => wanted,
                        Err(failure) if self.plan.strict => {
                            let what = format!("{name} cannot be put into the group {group}: {}", failure.what);
                            return Err(Failure { what, ..failure });
                        }
                        Err(_) => false,
                    }
                }
                _ => {
                    let failure = self.document.failure(node.spot, "a condition is a text");
                    return Err(failure.saw(self.document.says(node)).mend("put it in quotes"));
                }
            };
            if wanted {
                let group = self.group(reader, group, node)?;
                reader.put(at, group);
            }
        }
        for keyed in &self.plan.keyed {
            let what = format!("no group for {name} can be named");
            let Some(value) = self.value(&keyed.key, &scope, &what)? else { continue };
            let by_default = keyed.default.is_some() && (value.is_null() || value.as_str() == Some(""));
            if is_nothing(&value) && !by_default {
                if self.plan.strict && !value.is_array() && !value.is_object() {
                    let what = format!("the key of this group is empty for {name}");
                    return Err(self.document.failure(keyed.key.spot, what).mend("give a default_value"));
                }
                continue;
            }
            let parent = match &keyed.parent {
                None => None,
                Some(node) => {
                    let text = text(self.document, node)?;
                    let place = self.document.place(node.spot);
                    match self.templater.render(&text, Some(&place), &scope) {
                        Ok(value) if is_omit(&value) => None,
                        Ok(value) => Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
                        Err(failure) if self.plan.strict => return Err(failure),
                        Err(_) => continue,
                    }
                }
            };
            let parts =
                keyed.parts(&value).map_err(|what| self.document.failure(keyed.key.spot, format!("{name}: {what}")))?;
            let lead = keyed.prefix.is_empty() && self.plan.no_leading;
            let separator = if lead { "" } else { keyed.separator.as_str() };
            for part in parts {
                let group = self.group(reader, &format!("{}{separator}{part}", keyed.prefix), &keyed.key)?;
                reader.put(at, group);
                if let Some(parent) = parent.as_deref().filter(|parent| !parent.is_empty()) {
                    let above = self.group(reader, parent, &keyed.key)?;
                    if reader.below(group, above) {
                        let what = format!("{parent} cannot be the parent of a group that is above it");
                        return Err(self.document.failure(keyed.key.spot, what));
                    }
                    reader.link(above, group);
                }
            }
        }
        Ok(())
    }
}

/// Makes what the file says of the hosts that are there.
pub(super) fn apply(reader: &mut Reader<'_>, document: &Document, entries: &[Entry]) -> Result<(), Failure> {
    let plan = Plan::read(document, entries)?;
    let mut extra = Scope::new();
    for (name, value) in reader.extra {
        extra.written(name, value, None);
    }
    let known = Inventory::so_far(reader, plan.vars_plugins)?;
    let work = Work { document, plan, templater: Templater::new(), extra };
    let names: Vec<HostName> = reader.hosts.iter().map(|host| host.name.clone()).collect();
    for (at, name) in names.iter().enumerate() {
        let vars = known.merged_of(name).cloned().unwrap_or_default();
        work.host(reader, at, name, vars)?;
    }
    Ok(())
}

/// A parent of what `plugin: generator` makes, with those above it.
fn parents_of<'d>(document: &Document, entry: Option<&'d Entry>) -> Result<&'d [Node], Failure> {
    match entry.map(|entry| &entry.value) {
        None => Ok(&[]),
        Some(Node { value: Yaml::List(items), .. }) => Ok(items),
        Some(Node { value: Yaml::Null, .. }) => Ok(&[]),
        Some(node) => Err(document.failure(node.spot, "parents is a list").saw(document.says(node))),
    }
}

fn found<'d>(entries: &'d [Entry], name: &str) -> Option<&'d Entry> {
    entries.iter().find(|entry| entry.name() == name)
}

fn no_others(document: &Document, entries: &[Entry], of: &str, known: &[&str]) -> Result<(), Failure> {
    match entries.iter().find(|entry| !known.contains(&entry.name().as_str())) {
        Some(entry) => Err(unknown(document, entry, of, known)),
        None => Ok(()),
    }
}

/// What a generated child is.
#[derive(Clone, Copy)]
enum Child {
    Host(usize),
    Group(usize),
}

/// Makes hosts and groups of every way to choose one word from each layer: `plugin: generator`.
pub(super) fn generate(reader: &mut Reader<'_>, document: &Document, entries: &[Entry]) -> Result<(), Failure> {
    /// More hosts than this are a mistake.
    const MOST: usize = 200_000;
    let start = document.root.spot;
    no_others(document, entries, "a generated inventory", &["plugin", "hosts", "layers"])?;
    let missing = |what: &str| document.failure(start, format!("a generated inventory needs {what}"));
    let hosts = found(entries, "hosts").ok_or_else(|| missing("hosts with a name"))?;
    let hosts = mapping(document, &hosts.value, "hosts")?;
    no_others(document, hosts, "hosts of a generated inventory", &["name", "parents"])?;
    let name = &found(hosts, "name").ok_or_else(|| missing("hosts with a name"))?.value;
    let parents = parents_of(document, found(hosts, "parents"))?;
    let layers = found(entries, "layers").ok_or_else(|| missing("layers"))?;
    let mut rows: Vec<Vec<(String, Value)>> = vec![Vec::new()];
    for layer in mapping(document, &layers.value, "layers")? {
        let items = match &layer.value.value {
            Yaml::List(items) => items.as_slice(),
            Yaml::Null => &[],
            _ => {
                let failure = document.failure(layer.value.spot, "a layer is a list");
                return Err(failure.saw(document.says(&layer.value)));
            }
        };
        rows = rows
            .iter()
            .flat_map(|row| items.iter().map(move |item| [row.clone(), vec![(layer.name(), item.to_json())]].concat()))
            .collect();
        if rows.len() > MOST {
            return Err(document.failure(layer.key.spot, format!("these layers give more than {MOST} hosts")));
        }
    }
    let templater = Templater::new();
    for row in rows {
        let mut scope = Scope::new();
        for (name, value) in &row {
            scope.data(name, value);
        }
        let rendered = rendered(document, &templater, name, &scope)?;
        let host: HostName =
            rendered.parse().map_err(|bad: crate::name::BadName| document.failure(name.spot, bad.to_string()))?;
        let at = reader.host(&host, 1);
        above(reader, document, &templater, (Child::Host(at), &rendered), parents, &scope)?;
    }
    Ok(())
}

fn rendered(document: &Document, templater: &Templater, node: &Node, scope: &Scope) -> Result<String, Failure> {
    let value = templater.render(&text(document, node)?, Some(&document.place(node.spot)), scope)?;
    Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn above(
    reader: &mut Reader<'_>,
    document: &Document,
    templater: &Templater,
    child: (Child, &str),
    parents: &[Node],
    scope: &Scope,
) -> Result<(), Failure> {
    for parent in parents {
        let entries = mapping(document, parent, "a parent")?;
        no_others(document, entries, "a parent", &["name", "vars", "parents"])?;
        let nameless = || document.failure(parent.spot, format!("Element {} has a parent with no name.", child.1));
        let node = &found(entries, "name").ok_or_else(nameless)?.value;
        let name = rendered(document, templater, node, scope)?;
        if name.is_empty() {
            return Err(nameless());
        }
        let group: GroupName =
            name.parse().map_err(|bad: crate::name::BadName| document.failure(node.spot, bad.to_string()))?;
        let at = reader.group(&group);
        match child.0 {
            Child::Host(host) => {
                reader.put(host, at);
            }
            Child::Group(below) if reader.below(below, at) => {
                return Err(document.failure(node.spot, format!("{name} cannot be a parent: the groups form a loop")));
            }
            Child::Group(below) => reader.link(at, below),
        }
        if let Some(vars) = found(entries, "vars") {
            for entry in mapping(document, &vars.value, "vars")? {
                let value = match &entry.value.value {
                    Yaml::Text(text) => templater.render(text, Some(&document.place(entry.value.spot)), scope)?,
                    _ => entry.value.to_json(),
                };
                if let Err(what) = reader.set_group(at, entry.name(), value, document.place(entry.value.spot)) {
                    return Err(document.failure(entry.value.spot, what));
                }
            }
        }
        above(
            reader,
            document,
            templater,
            (Child::Group(at), &name),
            parents_of(document, found(entries, "parents"))?,
            scope,
        )?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Map, json};

    use super::*;
    use crate::inventory::Reading;

    const HOSTS: &str = "all:\n  hosts:\n    web-1: {tags: {role: web, empty: ''}, zones: [a, ''], os: ''}\n    \
                         db-1: {tags: {role: db}, zones: [], os: debian, n: 3}\n";

    fn read(made: &str, extra: Map<String, Value>) -> Result<Inventory, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let files = [("1.yml", HOSTS), ("2.yml", made)];
        let paths: Vec<PathBuf> = files
            .iter()
            .map(|(name, text)| {
                let path = folder.path().join(name);
                std::fs::write(&path, text).unwrap();
                path
            })
            .collect();
        Inventory::read(Reading { paths, extra, ..Reading::default() })
    }

    fn of(inventory: &Inventory, group: &str) -> Vec<String> {
        inventory.hosts_of(group).into_iter().flatten().map(ToString::to_string).collect()
    }

    #[test]
    fn groups_and_variables_come_of_what_hosts_have() {
        let made = "plugin: ansible.builtin.constructed\ncompose:\n  twice: n * 2\n  said: from_extras\n\
                    use_extra_vars: true\ngroups:\n  webs: inventory_hostname.startswith('web')\n  odd: n is odd\n\
                    keyed_groups:\n- {key: tags, prefix: tag}\n- {key: zones, prefix: zone, default_value: none}\n\
                    - {key: os, separator: '', default_value: 'any-os', parent_group: systems}\n\
                    - {key: nowhere.at.all, prefix: x}\n";
        let extra = json!({"from_extras": "hey"}).as_object().cloned().unwrap();
        let inventory = read(made, extra).unwrap();
        assert_eq!(of(&inventory, "webs"), ["web-1"]);
        // Who has no n is in no group, and has no twice: not strict.
        assert_eq!(of(&inventory, "odd"), ["db-1"]);
        for (group, hosts) in [
            ("tag_role_web", vec!["web-1"]),
            ("tag_role_db", vec!["db-1"]),
            ("tag_empty_", vec!["web-1"]),
            ("zone_a", vec!["web-1"]),
            ("zone_none", vec!["web-1"]),
            ("any_os", vec!["web-1"]),
            ("debian", vec!["db-1"]),
            ("systems", vec!["web-1", "db-1"]),
        ] {
            let mut found = of(&inventory, group);
            found.sort_by(|one, other| other.cmp(one));
            assert_eq!(found, hosts, "{group}");
        }
        let vars = inventory.vars(&"db-1".parse().unwrap());
        assert_eq!((vars.get("twice"), vars.get("said")), (Some(&json!(6)), Some(&json!("hey"))));
        assert!(!inventory.vars(&"web-1".parse().unwrap()).contains_key("twice"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (made, said, line) in [
            ("plugin: constructed\nstrict: true\ncompose:\n  x: nowhere + 1\n", "cannot be composed", 4),
            ("plugin: constructed\nstrict: true\ngroups:\n  g: nowhere\n", "cannot be put into the group g", 4),
            ("plugin: constructed\nkeyed_groups:\n- {prefix: a}\n", "has no key", 3),
            (
                "plugin: constructed\nkeyed_groups:\n- {key: os, default_value: a, trailing_separator: no}\n",
                "exclude",
                3,
            ),
            ("plugin: constructed\ncomposes: {}\n", "has no word", 2),
            ("plugin: amazon.aws.aws_ec2\n", "is not built", 1),
            ("plugin: generator\nhosts: {name: a, parents: [{}]}\nlayers: {o: [1]}\n", "has a parent with no name", 2),
        ] {
            let failure = read(made, Map::new()).unwrap_err();
            assert!(failure.to_string().contains(said), "{made}: {failure}");
            assert_eq!(failure.place.as_ref().map(|place| place.line), Some(line), "{made}: {failure}");
        }
    }

    #[test]
    fn hosts_come_of_every_choice() {
        let made = "plugin: generator\nhosts:\n  name: '{{ what }}-{{ where }}'\n  parents:\n  - name: '{{ what }}'\n    \
                    vars: {kind: '{{ what }}'}\n    parents: [{name: everything}]\nlayers:\n  what: [web, db]\n  where: [dev, prod]\n";
        let inventory = read(made, Map::new()).unwrap();
        assert_eq!(of(&inventory, "web"), ["web-dev", "web-prod"]);
        assert_eq!(of(&inventory, "everything").len(), 4);
        assert_eq!(inventory.vars(&"db-dev".parse().unwrap()).get("kind"), Some(&json!("db")));
    }

    #[test]
    fn names_are_made_safe() {
        assert_eq!(safe_name("1a b-ü"), "_a_b_ü");
    }
}
