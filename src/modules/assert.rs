//! `assert`: conditions that must be true.

use serde_json::{Value, json};

use super::call::Call;
use super::{Done, arg};
use crate::failure::Failure;
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "assert",
    "Fails where a condition is not true",
    &[
        arg("that", ArgKind::Expr, "conditions that must be true").required(),
        arg("fail_msg", ArgKind::Any, "what to say when one is not").aliases(&["msg"]),
        arg("success_msg", ArgKind::Any, "what to say when all are"),
        arg("quiet", ArgKind::Bool, "say no more than needed").default("false"),
    ],
)
.checks();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let that = match call.args.get("that") {
        Some(Value::Array(items)) => items.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    for condition in that {
        let holds = match &condition {
            Value::Bool(value) => *value,
            Value::String(text) => call.templater.evaluate_condition(text, call.place.as_ref(), &call.scope)?,
            other => call.templater.evaluate_condition(&other.to_string(), call.place.as_ref(), &call.scope)?,
        };
        if !holds {
            let message = call.args.get("fail_msg").cloned().unwrap_or_else(|| json!("Assertion failed"));
            let text = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
            let result = json!({"evaluated_to": false, "assertion": condition, "msg": message});
            return Ok(Done::failed(text, result));
        }
    }
    let message = call.args.get("success_msg").cloned().unwrap_or_else(|| json!("All assertions passed"));
    let text = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    Ok(Done::ok(text, json!({ "msg": message })))
}
