//! `debug`: says something.

use serde_json::{Map, Value, json};

use super::call::Call;
use super::{Done, arg};
use crate::failure::Failure;
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "debug",
    "Says a text or the value of an expression",
    &[
        arg("msg", ArgKind::Any, "what to say"),
        arg("var", ArgKind::Expr, "an expression to show"),
        arg("verbosity", ArgKind::Int, "said only with so many -v"),
    ],
)
.checks();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    if call.int("verbosity").is_some_and(|wanted| wanted > i64::from(call.verbosity)) {
        let message = "Verbosity threshold not met.";
        return Ok(Done::skipped_because(message, json!({ "skipped_reason": message })));
    }
    if call.args.contains_key("var") && call.args.contains_key("msg") {
        return Ok(call.failed("parameters are mutually exclusive: msg|var", json!({})));
    }
    let Some(expression) = call.args.get("var") else {
        let said = call.args.get("msg").cloned().unwrap_or_else(|| json!("Hello world!"));
        let text = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
        return Ok(Done::ok(text, json!({ "msg": said })));
    };
    if expression.as_object().is_some_and(|marked| marked.contains_key("__ansible_unsafe")) {
        return Ok(call.failed("untrusted template or expression: an !unsafe text is not evaluated", json!({})));
    }
    if expression.is_object() || expression.is_array() {
        return Ok(call.failed(
            "the value of var is not a string and conversion is not allowed: name a variable or write an expression",
            json!({}),
        ));
    }
    let name = expression.as_str().map_or_else(|| expression.to_string(), str::to_owned);
    let bare = name.trim();
    let inner = bare.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).map_or(bare, str::trim);
    let mut missing = None;
    let value = match call.templater.render(&format!("{{{{ {inner} }}}}"), call.place.as_ref(), &call.scope) {
        Ok(value) => value,
        Err(failure) if failure.what.contains("not defined") => {
            missing = Some(format!("The variable of the task could not be rendered: {}", failure.what));
            json!("VARIABLE IS NOT DEFINED!")
        }
        Err(failure) => return Err(failure),
    };
    let mut value = value;
    if crate::template::is_omit(&value) {
        if inner.len() < bare.len() {
            let said = "Hello world!";
            return Ok(Done::ok(said, json!({ "msg": said })));
        }
        // Only what stands in the task itself can be left out.
        missing = Some(format!("{bare} could not be omitted: it is a variable that holds omit"));
        value = json!("<<Omit>>");
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut result = Map::new();
    result.insert(name, value);
    if let Some(missing) = missing {
        result.insert("warnings".to_owned(), json!([missing]));
    }
    Ok(Done::ok(text, Value::Object(result)))
}
