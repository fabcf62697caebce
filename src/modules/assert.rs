//! `assert`: conditions that must be true.

use serde_json::{Value, json};

use super::call::Call;
use super::{Done, arg};
use crate::failure::{Failure, Kind};
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

/// The conditions in an argument. A template that is one name gives what the operator wrote under it: a list of conditions, perhaps.
fn conditions(call: &Call<'_>, given: &Value) -> Result<Vec<Value>, Failure> {
    let items = match given {
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    let mut out = Vec::new();
    for item in items {
        let inner = item
            .as_str()
            .and_then(|text| text.trim().strip_prefix("{{")?.strip_suffix("}}"))
            .map(str::trim)
            .filter(|inner| !inner.contains("}}"));
        let Some(inner) = inner else {
            out.push(item);
            continue;
        };
        match call.scope.as_written(inner) {
            // The item of a loop is rendered already: only its texts that stand as they are in a file are the operator's.
            Some(_) if call.is_item(inner) => {
                match call.templater.render(&format!("{{{{ {inner} }}}}"), call.place.as_ref(), &call.scope)? {
                    Value::Array(items) => {
                        for item in items {
                            out.push(trusted(call, inner, item)?);
                        }
                    }
                    one => out.push(trusted(call, inner, one)?),
                }
            }
            Some(Value::Array(items)) => out.extend(items),
            Some(one @ Value::String(_)) => out.push(one),
            Some(_) => out.push(item),
            // What comes out of anything else is a condition only where the operator wrote its text.
            None => match call.templater.render(&format!("{{{{ {inner} }}}}"), call.place.as_ref(), &call.scope) {
                Ok(Value::Array(items)) => {
                    for item in items {
                        out.push(trusted(call, inner, item)?);
                    }
                }
                Ok(one @ Value::String(_)) => out.push(trusted(call, inner, one)?),
                _ => out.push(item),
            },
        }
    }
    Ok(out)
}

fn untrusted(call: &Call<'_>, text: &str) -> Failure {
    let what = "Encountered untrusted template or expression: a text that came out of a template is no condition";
    Failure::new(Kind::Failed, what).on(call.host).saw(text.to_owned())
}

/// Whether what the expression `from` gives can be the operator's own text: a variable that was written, the item of a loop over
/// a written list, or what a result keeps of such an item (`….item`). Everything else may be what a host said.
pub(super) fn own(call: &Call<'_>, from: &str) -> bool {
    let mut parts = from.trim().split('.').map(str::trim);
    let word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    let Some(root) = parts.next().filter(|root| word(root)) else { return false };
    let rest: Vec<&str> = parts.collect();
    rest.iter().all(|part| word(part)) && (call.scope.as_written(root).is_some() || rest.contains(&"item"))
}

/// The condition, where it came out of `from`.
fn trusted(call: &Call<'_>, from: &str, condition: Value) -> Result<Value, Failure> {
    match condition.as_str() {
        Some(text) if !(own(call, from) && call.templater.trusts(text)) => Err(untrusted(call, text)),
        _ => Ok(condition),
    }
}

/// With `quiet` the result is not shown but where all results are.
fn hush(call: &Call<'_>, result: &mut Value) {
    if call.flag("quiet")
        && let Some(map) = result.as_object_mut()
    {
        map.insert("_ansible_quiet".to_owned(), json!(true));
    }
}

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let Some(given) = call.args.get("that") else {
        return Ok(call.failed("missing required arguments: that", json!({})));
    };
    // Arguments that came out of a template, such as `assert: "{{ item }}"`.
    let given = match (given, &call.templated) {
        (Value::Array(items), Some(from)) => {
            Value::Array(items.iter().map(|item| trusted(call, from, item.clone())).collect::<Result<_, _>>()?)
        }
        (one, Some(from)) => trusted(call, from, one.clone())?,
        (other, None) => other.clone(),
    };
    let mut old = false;
    for condition in conditions(call, &given)? {
        let holds = match &condition {
            Value::Bool(value) => *value,
            Value::Null => return Ok(call.failed("Empty conditional expression", json!({"evaluated_to": false}))),
            Value::String(text) => {
                old |= text.trim_start().starts_with("{{");
                call.templater.evaluate_condition(text, call.place.as_ref(), &call.scope)?
            }
            other => match other.get("__ansible_unsafe") {
                Some(text) => return Err(untrusted(call, text.as_str().unwrap_or_default())),
                None => call.templater.evaluate_condition(&other.to_string(), call.place.as_ref(), &call.scope)?,
            },
        };
        if !holds {
            let message = call.args.get("fail_msg").cloned().unwrap_or_else(|| json!("Assertion failed"));
            let text = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
            let mut result = json!({"evaluated_to": false, "assertion": condition, "msg": message});
            hush(call, &mut result);
            return Ok(Done::failed(text, result));
        }
    }
    let message = call.args.get("success_msg").cloned().unwrap_or_else(|| json!("All assertions passed"));
    let text = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    let mut result = json!({ "msg": message });
    hush(call, &mut result);
    let told = || call.templater.render("{{ ansible_deprecation_warnings | default(false) }}", None, &call.scope);
    if old && told().is_ok_and(|told| told == Value::Bool(true)) {
        let msg = "Conditionals should not be surrounded by templating delimiters such as {{ }} or {% %}.";
        if let Some(map) = result.as_object_mut() {
            map.insert("deprecations".to_owned(), json!([{ "msg": msg }]));
        }
    }
    Ok(Done::ok(text, result))
}
