//! `ferry inventory`: hosts, groups and variables as they were read, in the forms of `ansible-inventory`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::args::VaultOptions;
use super::open;
use crate::failure::{Failure, Kind};
use crate::inventory::{Inventory, Reading};
use crate::name::{HostName, nearest};
use crate::report::Sink;
use crate::secret::MASK;
use crate::settings::yaml::{UNSAFE_KEY, VAULT_KEY, unmarked};

/// Names that are about a run, not about a host: left out of what is printed.
const INTERNAL: [&str; 5] =
    ["inventory_dir", "inventory_file", "inventory_hostname", "inventory_hostname_short", "group_names"];

/// `ferry inventory`
#[derive(Debug, Subcommand)]
pub(super) enum InventoryCommand {
    /// All hosts and groups with their variables, as an inventory program would print them
    List(ShowArgs),
    /// The groups as a tree
    Graph(ShowArgs),
    /// The variables of one host
    Host(ShowArgs),
}

/// What all three know; each uses what is its own.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The host, for `host`; the group to begin at, for `graph`
    name: Option<String>,
    /// Inventory file, program, folder or comma list; may be given several times
    #[arg(short = 'i', long = "inventory", visible_alias = "inventory-file", value_name = "PATH")]
    inventory: Vec<String>,
    /// Only these hosts, an Ansible pattern; for `list`
    #[arg(short = 'l', long, visible_alias = "subset", value_name = "PATTERN")]
    limit: Option<String>,
    /// As YAML
    #[arg(short = 'y', long)]
    yaml: bool,
    /// As TOML
    #[arg(long)]
    toml: bool,
    /// As JSON, which it is anyhow
    #[arg(long)]
    json: bool,
    /// With variables; for `graph`
    #[arg(long)]
    vars: bool,
    /// Variables where they are set, not merged for each host
    #[arg(long)]
    export: bool,
    /// Write here; for `list`
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The folder of a playbook, for its group_vars and host_vars
    #[arg(long, visible_alias = "basedir", value_name = "DIR")]
    playbook_dir: Option<PathBuf>,
    /// Variables: k=v, JSON or @file
    #[arg(short = 'e', long = "extra-vars", value_name = "VARS", action = clap::ArgAction::Append)]
    extra_vars: Vec<String>,
    /// Vault passwords
    #[command(flatten)]
    vault: VaultOptions,
    /// Say more
    #[arg(short = 'v', long = "verbose", action = clap::ArgAction::Count)]
    verbose: u8,
}

pub(super) fn run(command: InventoryCommand) -> Result<u8, Failure> {
    let (InventoryCommand::List(args) | InventoryCommand::Graph(args) | InventoryCommand::Host(args)) = &command;
    let shown = Shown::open(args)?;
    let text = match &command {
        InventoryCommand::Graph(args) => shown.graph(args.name.as_deref().unwrap_or("all"), args.vars)?,
        InventoryCommand::Host(args) => shown.host(args)?,
        InventoryCommand::List(args) => shown.list(args)?,
    };
    match &args.output {
        None => Sink::stdout().put(&text),
        Some(path) => std::fs::write(path, text.trim_end_matches('\n')).map_err(|error| {
            Failure::new(Kind::CouldNotStart, format!("{} cannot be written", path.display())).saw(error.to_string())
        })?,
    }
    Ok(0)
}

struct Shown {
    inventory: Inventory,
    extra: Map<String, Value>,
    compat: bool,
    export: bool,
}

impl Shown {
    fn open(args: &ShowArgs) -> Result<Self, Failure> {
        let settings = open::settings(&args.inventory, None, None, None)?;
        let vault = Arc::new(open::vault(&args.vault, &settings, &[])?);
        let extra = open::extra_vars(&args.extra_vars, &vault)?;
        let inventory = Inventory::read(Reading {
            paths: open::inventory_paths(&settings),
            playbook_folder: args.playbook_dir.clone(),
            vault: vault.clone(),
            // What is encrypted is printed as it is.
            locked: true,
            lenient: settings.compat_ansible,
            unparsed_fails: settings.inventory_unparsed_fails,
            any_unparsed_fails: settings.inventory_any_unparsed_fails,
            hide: Vec::new(),
            extra: extra.clone(),
        })?;
        let unknown = settings.ansible.unknown.iter().filter(|_| args.verbose > 0);
        open::warn(settings.ansible.warnings.iter().chain(unknown).chain(vault.warnings()).chain(inventory.warnings()));
        let export = args.export || settings.ansible.truth("inventory.export").unwrap_or(false);
        Ok(Self { inventory, extra, compat: settings.compat_ansible, export })
    }

    /// A name that is not there: Ansible's number, or ours.
    fn missing(&self, what: String, name: &str, known: Vec<&str>) -> Failure {
        let kind = if self.compat { Kind::Usage } else { Kind::NoHost };
        let near = nearest(name, known, 3);
        let failure = Failure::new(kind, what);
        if near.is_empty() { failure } else { failure.mend(format!("did you mean {}?", near.join(", "))) }
    }

    fn vars_of(&self, host: &HostName) -> Map<String, Value> {
        let mut vars = if self.export { self.inventory.own_vars(host) } else { self.inventory.vars(host).clone() };
        if !self.export {
            vars.extend(self.extra.clone());
        }
        INTERNAL.iter().for_each(|name| drop(vars.shift_remove(*name)));
        vars
    }

    fn host(&self, args: &ShowArgs) -> Result<String, Failure> {
        let Some(name) = args.name.as_deref() else {
            return Err(Failure::new(Kind::Usage, "the host is missing").mend("ferry inventory host NAME"));
        };
        let unknown = || {
            let known = self.inventory.hosts().map(HostName::as_str).collect();
            self.missing(format!("{name:?} is not one host of the inventory"), name, known)
        };
        let hosts = self.inventory.matching(name)?.hosts;
        let [host] = hosts.as_slice() else { return Err(unknown()) };
        let vars = Value::Object(self.vars_of(host).into_iter().map(|(name, value)| (name, unmarked(value))).collect());
        self.dump(&vars, args)
    }

    fn dump(&self, value: &Value, args: &ShowArgs) -> Result<String, Failure> {
        if args.toml {
            return Err(Failure::new(Kind::CouldNotStart, "inventories in TOML are not built yet in ferry")
                .mend("leave --toml out, or take -y"));
        }
        Ok(if args.yaml { print::yaml(value) } else { print::json(value) })
    }

    fn list(&self, args: &ShowArgs) -> Result<String, Failure> {
        let all = self.inventory.hosts_of("all").unwrap_or_default();
        let all: Vec<HostName> = all.into_iter().cloned().collect();
        let hosts = match &args.limit {
            None => all,
            Some(limit) if self.compat => {
                let left = self.inventory.limit_matching(&all, limit)?;
                let warnings: Vec<String> = left
                    .missing
                    .iter()
                    .map(|name| format!("Could not match supplied host pattern, ignoring: {name}"))
                    .collect();
                open::warn(warnings.iter());
                left.hosts
            }
            Some(limit) => self.inventory.limit(&all, limit)?,
        };
        let there: HashSet<&str> = hosts.iter().map(HostName::as_str).collect();
        if args.yaml {
            let mut seen = Seen::default();
            let tree = self.tree("all", &there, &mut seen);
            let value = if tree.is_empty() { json!({}) } else { json!({"all": tree}) };
            return self.dump(&value, args);
        }
        let mut out = Map::new();
        self.flat("all", &there, &mut HashSet::new(), &mut out);
        let mut vars = Map::new();
        for host in &hosts {
            let own = self.vars_of(host);
            if !own.is_empty() {
                vars.insert(host.to_string(), Value::Object(own));
            }
        }
        out.insert("_meta".to_owned(), json!({"hostvars": vars, "profile": "inventory_legacy"}));
        self.dump(&Value::Object(out), args)
    }

    fn group_vars(&self, group: &str) -> Map<String, Value> {
        self.inventory.group_vars(group).unwrap_or_default()
    }

    /// Each group beside the others, as an inventory program prints them.
    fn flat(&self, group: &str, there: &HashSet<&str>, seen: &mut HashSet<String>, out: &mut Map<String, Value>) {
        let mut own = Map::new();
        if group != "all" {
            let hosts = self.own_hosts(group, there);
            if !hosts.is_empty() {
                own.insert("hosts".to_owned(), hosts.into());
            }
        }
        let children: Vec<&str> = self.children(group);
        for child in &children {
            if seen.insert((*child).to_owned()) {
                self.flat(child, there, seen, out);
            }
        }
        if !children.is_empty() {
            own.insert("children".to_owned(), children.into());
        }
        if self.export {
            let vars = self.group_vars(group);
            if !vars.is_empty() {
                own.insert("vars".to_owned(), Value::Object(vars));
            }
        }
        if !own.is_empty() {
            out.insert(group.to_owned(), Value::Object(own));
        }
    }

    /// Each group inside of the one above it, as a YAML inventory has them.
    fn tree(&self, group: &str, there: &HashSet<&str>, seen: &mut Seen) -> Map<String, Value> {
        let mut own = Map::new();
        let mut children = Map::new();
        for child in self.children(group) {
            if !seen.groups.insert(child.to_owned()) {
                children.insert(child.to_owned(), json!({}));
                continue;
            }
            let below = self.tree(child, there, seen);
            if !below.is_empty() {
                children.insert(child.to_owned(), Value::Object(below));
            }
        }
        if !children.is_empty() {
            own.insert("children".to_owned(), Value::Object(children));
        }
        if group != "all" {
            let mut hosts = Map::new();
            for name in self.own_hosts(group, there) {
                let new = seen.hosts.insert(name.to_owned());
                let vars = name.parse().ok().filter(|_| new).map(|host: HostName| self.vars_of(&host));
                hosts.insert(name.to_owned(), Value::Object(vars.unwrap_or_default()));
            }
            if !hosts.is_empty() {
                own.insert("hosts".to_owned(), Value::Object(hosts));
            }
        }
        if self.export {
            let vars = self.group_vars(group);
            if !vars.is_empty() {
                own.insert("vars".to_owned(), Value::Object(vars));
            }
        }
        own
    }

    fn own_hosts(&self, group: &str, there: &HashSet<&str>) -> Vec<&str> {
        let hosts = self.inventory.own_hosts_of(group).unwrap_or_default();
        hosts.into_iter().map(HostName::as_str).filter(|name| there.contains(name)).collect()
    }

    fn children(&self, group: &str) -> Vec<&str> {
        let children = self.inventory.children_of(group).unwrap_or_default();
        children.into_iter().map(crate::name::GroupName::as_str).collect()
    }

    fn graph(&self, top: &str, with_vars: bool) -> Result<String, Failure> {
        if self.inventory.hosts_of(top).is_none() {
            let known = self.inventory.groups().map(crate::name::GroupName::as_str).collect();
            return Err(self.missing(format!("there is no group {top:?}"), top, known));
        }
        let mut lines = Vec::new();
        self.branch(top, 0, with_vars, &mut lines);
        Ok(lines.join("\n") + "\n")
    }

    fn branch(&self, group: &str, depth: usize, with_vars: bool, lines: &mut Vec<String>) {
        lines.push(leaf(&format!("@{group}:"), depth));
        let depth = depth + 1;
        for child in self.children(group) {
            self.branch(child, depth, with_vars, lines);
        }
        if group != "all" {
            for host in self.inventory.own_hosts_of(group).unwrap_or_default() {
                lines.push(leaf(host.as_str(), depth));
                if with_vars {
                    lines.extend(values(&self.vars_of(host), depth + 1));
                }
            }
        }
        if with_vars {
            lines.extend(values(&self.group_vars(group), depth));
        }
    }
}

#[derive(Default)]
struct Seen {
    groups: HashSet<String>,
    hosts: HashSet<String>,
}

fn leaf(text: &str, depth: usize) -> String {
    if depth == 0 { text.to_owned() } else { format!("{}--{text}", "  |".repeat(depth)) }
}

/// One line a variable; what is encrypted is not shown.
fn values(vars: &Map<String, Value>, depth: usize) -> Vec<String> {
    let mut names: Vec<&String> = vars.keys().collect();
    names.sort();
    let line = |name: &String| {
        let text = match vars.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Object(map)) if map.len() == 1 && map.contains_key(VAULT_KEY) => MASK.to_owned(),
            Some(Value::Object(map)) if map.len() == 1 && map.contains_key(UNSAFE_KEY) => {
                map.get(UNSAFE_KEY).and_then(Value::as_str).unwrap_or_default().to_owned()
            }
            Some(value) => print::python(value),
            None => String::new(),
        };
        leaf(&format!("{{{name} = {text}}}"), depth)
    };
    names.into_iter().map(line).collect()
}

/// Values as Python's libraries print them.
mod print;
