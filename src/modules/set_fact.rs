//! `set_fact`: variables of a host.

use serde_json::{Value, json};

use super::call::{Call, Effect};
use super::{Done, arg};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "set_fact",
    "Sets variables of the host",
    &[arg("cacheable", ArgKind::Bool, "kept as facts too").default("false"), arg("*", ArgKind::Any, "any name")],
)
.pairs()
.checks();

/// Words of the template language: no template could name a variable of that name.
const WORDS: &[&str] =
    &["true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else"];

/// The first name that cannot be one of a variable.
pub(super) fn wrong_name(call: &Call<'_>, facts: &serde_json::Map<String, Value>) -> Option<Failure> {
    let name = facts.keys().find(|name| {
        !(name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_'))
            || WORDS.contains(&name.as_str())
    })?;
    let kind = if name.parse::<i64>().is_ok() { " of type 'int'" } else { "" };
    Some(Failure::new(Kind::Failed, format!("Invalid variable name '{name}'{kind}")).on(call.host))
}

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let mut facts = call.args.clone();
    let cacheable = facts.remove("cacheable") == Some(Value::Bool(true));
    if facts.is_empty() {
        return Err(Failure::new(
            Kind::Failed,
            "No key/value pairs provided, at least one is required for this action to succeed",
        )
        .on(call.host));
    }
    if let Some(failure) = wrong_name(call, &facts) {
        return Err(failure);
    }
    let done = Done::ok(String::new(), json!({ "ansible_facts": facts, "_ansible_facts_cacheable": cacheable }));
    Ok(if cacheable { done.with_effect(Effect::Facts) } else { done })
}
