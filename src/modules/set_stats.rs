//! `set_stats`: numbers and texts of the run, for who reads its end.
//!
//! What lives here: its arguments. What does not: adding them up ([`crate::run`]) and showing them (report).

use serde_json::{Map, Value, json};

use super::call::Call;
use super::set_fact::wrong_name;
use super::{Done, arg};
use crate::failure::Failure;
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "set_stats",
    "Counts something for the end of the run",
    &[
        arg("data", ArgKind::Any, "names with their values"),
        arg("per_host", ArgKind::Any, "each host counts for itself").default("false"),
        arg("aggregate", ArgKind::Any, "what is there already is added to, not overwritten").default("true"),
    ],
)
.checks();

/// A truth as Ansible takes it here: what is none is false.
fn is_true(value: Option<&Value>, other: bool) -> bool {
    match value {
        None | Some(Value::Null) => other,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_i64() == Some(1),
        Some(Value::String(text)) => crate::settings::ansible_cfg::truth(text).unwrap_or(false),
        Some(_) => false,
    }
}

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let data = match call.args.get("data") {
        None => Map::new(),
        Some(Value::Object(map)) => map.clone(),
        Some(_) => return Ok(call.failed("The 'data' option needs to be a dictionary/hash", json!({}))),
    };
    if let Some(failure) = wrong_name(call, &data) {
        return Err(failure);
    }
    let stats = json!({
        "data": data,
        "per_host": is_true(call.args.get("per_host"), false),
        "aggregate": is_true(call.args.get("aggregate"), true),
    });
    Ok(Done::ok(String::new(), json!({ "ansible_stats": stats, "changed": false })))
}
