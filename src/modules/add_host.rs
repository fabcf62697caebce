//! `add_host` and `group_by`: hosts and groups that the run makes for itself.

use serde_json::{Map, Value, json};

use super::call::{Call, Effect};
use super::{Done, arg};
use crate::failure::Failure;
use crate::playbook::{ArgKind, ModuleSpec};

/// What `add_host` takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "add_host",
    "Adds a host for the rest of the run",
    &[
        arg("name", ArgKind::Str, "the host's name").required().aliases(&["host", "hostname"]),
        arg("groups", ArgKind::List, "the groups that it is put in").aliases(&["group", "groupname"]),
        arg("*", ArgKind::Any, "its variables"),
    ],
)
.pairs()
.checks();

/// What `group_by` takes.
pub const GROUP_BY: ModuleSpec = ModuleSpec::new(
    "group_by",
    "Puts the host in a group for the rest of the run",
    &[
        arg("key", ArgKind::Str, "the group").required(),
        arg("parents", ArgKind::List, "the groups above it").default("all"),
    ],
)
.checks();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let name = call.text("name").unwrap_or_default().trim().to_owned();
    if name.is_empty() {
        return Ok(call.failed("name, host or hostname needs to be provided", json!({})));
    }
    let groups: Vec<String> = call
        .list("groups")
        .into_iter()
        .map(|group| group.trim().to_owned())
        .filter(|group| !group.is_empty())
        .collect();
    let own = ["name", "host", "hostname", "groups", "group", "groupname"];
    let mut vars: Map<String, Value> = call
        .args
        .iter()
        .filter(|(key, _)| !own.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    // `name:port` as in an inventory.
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()) => {
            (host.to_owned(), Some(port.to_owned()))
        }
        _ => (name, None),
    };
    if let Some(port) = port {
        vars.entry("ansible_ssh_port").or_insert_with(|| json!(port.parse::<u16>().unwrap_or(22)));
    }
    let result = json!({"changed": true, "add_host": {"host_name": host, "groups": groups, "host_vars": vars}});
    Ok(Done::changed(String::new(), result).with_effect(Effect::AddHost { name: host, groups, vars }))
}

pub(super) async fn group_by(call: &Call<'_>) -> Result<Done, Failure> {
    let key = call.text("key").unwrap_or_default().replace(' ', "-");
    if key.is_empty() {
        return Ok(call.failed("the 'key' param is required when using group_by", json!({})));
    }
    let parents: Vec<String> = call.list("parents").iter().map(|group| group.replace(' ', "-")).collect();
    let result = json!({"changed": true, "add_group": key, "parent_groups": parents});
    Ok(Done::changed(String::new(), result).with_effect(Effect::GroupBy { key, parents }))
}
