//! `debug`: says something.

use serde_json::{Map, Value, json};

use super::call::Call;
use super::{Done, arg};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};
use crate::template::{is_omit, is_template};

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
    let written = expression.as_str().map_or_else(|| expression.to_string(), str::to_owned);
    let mut name = written.trim().to_owned();
    // A template gives the expression: the value of `{{ x }}` names what is shown.
    if is_template(&name) {
        match call.templater.render(&name, call.place.as_ref(), &call.scope)? {
            omitted if is_omit(&omitted) => {
                let said = "Hello world!";
                return Ok(Done::ok(said, json!({ "msg": said })));
            }
            Value::String(text) => {
                let from = name.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).unwrap_or("{");
                let root = from.trim().split('.').next().unwrap_or_default();
                if !((super::assert::own(call, from) || call.is_item(root)) && call.templater.trusts(&text)) {
                    return Err(Failure::new(
                        Kind::Failed,
                        "Encountered untrusted template or expression: a text that came out of a template names no variable",
                    )
                    .on(call.host)
                    .saw(text)
                    .mend("var: takes a name or an expression without {{ }}; msg: shows what a template gives"));
                }
                name = text;
            }
            other => {
                let kind = match &other {
                    Value::Array(_) => "list",
                    Value::Object(_) => "dict",
                    Value::Bool(_) => "bool",
                    Value::Number(number) if number.is_f64() => "float",
                    Value::Number(_) => "int",
                    _ => "NoneType",
                };
                let what = format!(
                    "argument 'var' is of type {kind}: it is not a string and conversion is not allowed (var: takes a name or an \
                     expression without {{{{ }}}}, msg: shows what a template gives)"
                );
                return Ok(call.failed(what, json!({})));
            }
        }
    }
    let mut missing = None;
    let mut value = match call.templater.render(&format!("{{{{ {name} }}}}"), call.place.as_ref(), &call.scope) {
        Ok(value) => value,
        Err(failure) if failure.what.contains("not defined") => {
            let what = crate::template::python_words(&failure.what);
            missing = Some(format!("Encountered 1 template error.\nerror 1 - {what}"));
            json!(format!("<< error 1 - {what} >>"))
        }
        Err(failure) => return Err(failure),
    };
    if is_omit(&value) {
        // Only what stands in the task itself can be left out.
        missing = Some(format!("{name} could not be omitted: it is a variable that holds omit"));
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
