//! `validate_argument_spec`: what a role is given, held against what it says of its arguments.
//!
//! What lives here: the rules of an argument spec (types, choices, what goes together) over values. What does not: where a role
//! says them (playbook). Nothing is changed: what a value would become is looked at and not kept.

use serde_json::{Map, Value, json};

use super::call::Call;
use super::{Done, arg};
use crate::failure::Failure;
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "validate_argument_spec",
    "Holds variables against an argument spec, as roles have them in meta/argument_specs.yml",
    &[
        arg("argument_spec", ArgKind::Map, "by name: type, required, choices, elements, options, …").required(),
        arg("provided_arguments", ArgKind::Map, "values; they stand over the variables of the same names"),
        arg("validate_args_context", ArgKind::Map, "whose spec it is, for the result"),
    ],
)
.checks();

/// How deep options stand in options.
const DEEPEST: usize = 32;

pub(super) fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let map = |name: &str| call.args.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let (spec, given) = (map("argument_spec"), map("provided_arguments"));
    let mut values = Map::new();
    for name in spec.keys().filter(|name| call.scope.knows(name) && !given.contains_key(*name)) {
        let value = call.templater.render(&format!("{{{{ {name} }}}}"), call.place.as_ref(), &call.scope)?;
        values.insert(name.clone(), value);
    }
    values.extend(given);
    let mut found = Found::default();
    hold(&spec, &values, &Map::new(), &[], &mut found);
    let errors = [found.errors, found.unknown].concat();
    let context = map("validate_args_context");
    if errors.is_empty() {
        let text = "The arg spec validation passed";
        return Ok(Done::ok(text, json!({"msg": text, "validate_args_context": context})));
    }
    let text = format!("Validation of arguments failed:\n{}", errors.join("\n"));
    let result = json!({
        "msg": text, "argument_errors": errors, "argument_spec_data": spec, "validate_args_context": context,
    });
    Ok(Done::failed(text, result))
}

/// What is wrong.
#[derive(Default)]
struct Found {
    errors: Vec<String>,
    /// Names that no spec has; they are told last.
    unknown: Vec<String>,
}

/// Holds the mapping `given` against `spec`. `rules` are what goes together in it; `path` is where it stands.
fn hold(
    spec: &Map<String, Value>,
    given: &Map<String, Value>,
    rules: &Map<String, Value>,
    path: &[&str],
    found: &mut Found,
) {
    if path.len() > DEEPEST {
        found.errors.push(format!("options stand more than {DEEPEST} deep in options"));
        return;
    }
    let within = if path.is_empty() { String::new() } else { format!(" found in {}", path.join(" -> ")) };
    let mut values = Map::new();
    let mut unknown = Vec::new();
    for (name, value) in given {
        let aliased = spec.iter().find(|(_, one)| list(one, "aliases").iter().any(|alias| alias == name));
        match aliased {
            _ if spec.contains_key(name) => values.insert(name.clone(), value.clone()),
            Some((real, _)) => values.insert(real.clone(), value.clone()),
            None => {
                unknown.push([path, &[name.as_str()]].concat().join("."));
                None
            }
        };
    }
    if !unknown.is_empty() {
        let mut known: Vec<&str> = spec.keys().map(String::as_str).collect();
        known.sort_unstable();
        found.unknown.push(format!("{}. Supported parameters include: {}.", unknown.join(", "), known.join(", ")));
    }
    for (name, one) in spec {
        if let Some(default) = one.get("default").filter(|default| !default.is_null()) {
            values.entry(name.clone()).or_insert_with(|| default.clone());
        }
    }
    let mut missing: Vec<&str> = spec
        .iter()
        .filter(|(name, one)| truth(one.get("required")) && !values.contains_key(*name))
        .map(|(name, _)| name.as_str())
        .collect();
    missing.sort_unstable();
    if !missing.is_empty() {
        found.errors.push(format!("missing required arguments: {}{within}", missing.join(", ")));
    }
    together(rules, &values, &within, found);
    let mut read = Map::new();
    for (name, one) in spec {
        let Some(value) = values.get(name) else { continue };
        let kind = one.get("type").and_then(Value::as_str).unwrap_or("str");
        if value.is_null() && !truth(one.get("required")) {
            read.insert(name.clone(), Value::Null);
            continue;
        }
        match as_kind(kind, value) {
            Ok(value) => {
                if let (Value::Array(items), Some(elements)) = (&value, one.get("elements").and_then(Value::as_str)) {
                    for item in items {
                        if let Err(why) = as_kind(elements, item) {
                            let of = kind_of(item);
                            found.errors.push(format!(
                                "Elements value for option '{name}'{within} is of type {of} and we were unable to convert to {elements}: {why}"
                            ));
                        }
                    }
                }
                read.insert(name.clone(), value);
            }
            Err(why) => {
                let place = if path.is_empty() { String::new() } else { format!(" found in '{}'.", path.join(" -> ")) };
                let of = kind_of(value);
                found.errors.push(format!(
                    "argument '{name}' is of type {of}{place} and we were unable to convert to {kind}: {why}"
                ));
            }
        }
    }
    for (name, one) in spec {
        let (Some(Value::Array(choices)), Some(value)) = (one.get("choices"), read.get(name)) else { continue };
        let all = choices.iter().map(shown).collect::<Vec<_>>().join(", ");
        let is_choice = |value: &Value| choices.iter().any(|choice| choice == value || shown(choice) == shown(value));
        match value {
            Value::Array(items) => {
                let wrong: Vec<String> = items.iter().filter(|item| !is_choice(item)).map(shown).collect();
                if !wrong.is_empty() {
                    let wrong = wrong.join(", ");
                    found.errors.push(format!(
                        "value of {name} must be one or more of: {all}. Got no match for: {wrong}{within}"
                    ));
                }
            }
            value if !is_choice(value) => {
                found.errors.push(format!("value of {name} must be one of: {all}, got: {}{within}", shown(value)));
            }
            _ => {}
        }
    }
    for (name, one) in spec {
        let Some(options) = one.get("options").and_then(Value::as_object) else { continue };
        let rules = one.as_object().cloned().unwrap_or_default();
        let path = [path, &[name.as_str()]].concat();
        match read.get(name) {
            None | Some(Value::Null) if truth(one.get("apply_defaults")) && !values.contains_key(name) => {
                hold(options, &Map::new(), &rules, &path, found);
            }
            None | Some(Value::Null) => {}
            Some(Value::Object(inner)) => hold(options, inner, &rules, &path, found),
            Some(Value::Array(items)) => {
                for item in items {
                    match as_kind("dict", item) {
                        Ok(Value::Object(inner)) => hold(options, &inner, &rules, &path, found),
                        _ => found.errors.push(format!("value of '{name}' must be of type dict or list of dicts")),
                    }
                }
            }
            Some(_) => found.errors.push(format!("value of '{name}' must be of type dict or list of dicts")),
        }
    }
}

/// The rules over several names: `mutually_exclusive`, `required_together`, `required_one_of`, `required_if`, `required_by`.
fn together(rules: &Map<String, Value>, values: &Map<String, Value>, within: &str, found: &mut Found) {
    let there = |name: &str| values.get(name).is_some_and(|value| !value.is_null());
    let groups = |rule: &str| -> Vec<Vec<String>> {
        let all = rules.get(rule).and_then(Value::as_array).cloned().unwrap_or_default();
        if all.iter().all(Value::is_string) && !all.is_empty() {
            return vec![all.iter().map(shown).collect()];
        }
        all.iter().filter_map(Value::as_array).map(|group| group.iter().map(shown).collect()).collect()
    };
    for group in groups("mutually_exclusive").iter().filter(|group| group.iter().filter(|name| there(name)).count() > 1)
    {
        found.errors.push(format!("parameters are mutually exclusive: {}{within}", group.join("|")));
    }
    for group in groups("required_together") {
        let many = group.iter().filter(|name| there(name)).count();
        if many != 0 && many != group.len() {
            found.errors.push(format!("parameters are required together: {}{within}", group.join(", ")));
        }
    }
    for group in groups("required_one_of").iter().filter(|group| !group.iter().any(|name| there(name))) {
        found.errors.push(format!("one of the following is required: {}{within}", group.join(", ")));
    }
    let ifs = rules.get("required_if").and_then(Value::as_array).cloned().unwrap_or_default();
    for one in ifs.iter().filter_map(Value::as_array) {
        let [name, wanted, needs, rest @ ..] = one.as_slice() else { continue };
        let name = shown(name);
        if values.get(&name).is_none_or(|value| value != wanted && shown(value) != shown(wanted)) {
            continue;
        }
        let needs: Vec<String> = needs.as_array().map(|all| all.iter().map(shown).collect()).unwrap_or_default();
        let any = truth(rest.first());
        let missing: Vec<&String> = needs.iter().filter(|need| !there(need)).collect();
        let fails = if any { missing.len() == needs.len() } else { !missing.is_empty() };
        if fails && !needs.is_empty() {
            let missing = missing.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            let how = if any { "any" } else { "all" };
            found
                .errors
                .push(format!("{name} is {} but {how} of the following are missing: {missing}{within}", shown(wanted)));
        }
    }
    for (name, needs) in rules.get("required_by").and_then(Value::as_object).into_iter().flatten() {
        let needs: Vec<String> = match needs {
            Value::Array(all) => all.iter().map(shown).collect(),
            one => vec![shown(one)],
        };
        let missing: Vec<&str> = needs.iter().filter(|need| !there(need)).map(String::as_str).collect();
        if there(name) && !missing.is_empty() {
            found.errors.push(format!("missing parameter(s) required by '{name}': {}{within}", missing.join(", ")));
        }
    }
}

fn list(spec: &Value, name: &str) -> Vec<String> {
    spec.get(name).and_then(Value::as_array).map(|all| all.iter().map(shown).collect()).unwrap_or_default()
}

fn truth(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) => ["yes", "true", "on", "1"].contains(&text.to_lowercase().as_str()),
        Some(Value::Number(number)) => number.as_i64() == Some(1),
        _ => false,
    }
}

/// A value as Python prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(value) => if *value { "True" } else { "False" }.to_owned(),
        Value::Null => "None".to_owned(),
        other => other.to_string(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// `value` as the type `kind` of an argument spec; the reason where it is none.
fn as_kind(kind: &str, value: &Value) -> Result<Value, String> {
    let cannot = |what: &str| Err(format!("<class '{}'> cannot be converted to {what}", kind_of(value)));
    match (kind, value) {
        ("raw" | "any", _) | ("bool", Value::Bool(_)) | ("list", Value::Array(_)) | ("dict", Value::Object(_)) => {
            Ok(value.clone())
        }
        ("str" | "path", Value::String(_)) => Ok(value.clone()),
        ("str" | "path", _) => Ok(Value::String(shown(value))),
        ("bool", _) => {
            let truths = ["1", "on", "t", "true", "y", "yes"];
            let lies = ["0", "f", "false", "n", "no", "off"];
            let text = match value {
                Value::Number(number) if number.as_f64() == Some(1.0) => "1".to_owned(),
                Value::Number(number) if number.as_f64() == Some(0.0) => "0".to_owned(),
                other => shown(other).to_lowercase(),
            };
            if truths.contains(&text.as_str()) || lies.contains(&text.as_str()) {
                return Ok(Value::Bool(truths.contains(&text.as_str())));
            }
            let all: Vec<String> = truths.iter().chain(&lies).map(|word| format!("'{word}'")).collect();
            Err(format!(
                "The value '{}' is not a valid boolean. Valid booleans include: 0, 1, {}",
                shown(value),
                all.join(", ")
            ))
        }
        ("int", Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(value.clone()),
        ("int", Value::Bool(_)) => Ok(value.clone()),
        ("int", Value::Number(number)) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
            Ok(value.clone())
        }
        ("int", Value::String(text)) if text.trim().parse::<i64>().is_ok() => {
            Ok(json!(text.trim().parse::<i64>().ok()))
        }
        ("int", Value::String(text)) => Err(format!("\"'{text}'\" cannot be converted to an int")),
        ("int", _) => Err(format!("\"{}\" cannot be converted to an int", shown(value))),
        ("float", Value::Number(_) | Value::Bool(_)) => Ok(value.clone()),
        ("float", Value::String(text)) => match text.trim().parse::<f64>() {
            Ok(number) => Ok(json!(number)),
            Err(_) => cannot("a float"),
        },
        ("float", _) => cannot("a float"),
        ("list", Value::String(text)) => Ok(text.split(',').map(|part| json!(part)).collect()),
        ("list", Value::Number(_)) => Ok(json!([shown(value)])),
        ("list", _) => cannot("a list"),
        ("dict", Value::String(text)) if text.trim_start().starts_with('{') => {
            match serde_json::from_str::<Value>(text) {
                Ok(map @ Value::Object(_)) => Ok(map),
                _ => Err("unable to evaluate string as dictionary".to_owned()),
            }
        }
        ("dict", Value::String(text)) if text.contains('=') => match crate::playbook::pairs(text) {
            Ok(pairs) => {
                Ok(Value::Object(pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect()))
            }
            Err(_) => Err("dictionary requested, could not parse JSON or key=value".to_owned()),
        },
        ("dict", Value::String(_)) => Err("dictionary requested, could not parse JSON or key=value".to_owned()),
        ("dict", _) => cannot("a dict"),
        ("json" | "jsonarg", Value::String(_) | Value::Array(_) | Value::Object(_)) => Ok(value.clone()),
        ("json" | "jsonarg", _) => cannot("a json string"),
        ("bytes", Value::Number(_)) | ("bits", Value::Number(_)) => Ok(value.clone()),
        ("bytes", _) => match value.as_str().and_then(|text| size(text, 'B')) {
            Some(number) => Ok(json!(number)),
            None => cannot("a Byte value"),
        },
        ("bits", _) => match value.as_str().and_then(|text| size(text, 'b')) {
            Some(number) => Ok(json!(number)),
            None => cannot("a Bit value"),
        },
        (kind, _) => Err(format!(
            "there is no type {kind}: str, bool, int, float, list, dict, path, raw, json, jsonarg, bytes or bits"
        )),
    }
}

/// `10K`, `1.5 MB`, `3Gb`: a number of bytes or bits, as `unit` says.
fn size(text: &str, unit: char) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let number: f64 = number.parse().ok()?;
    let suffix = suffix.trim();
    let mut letters = suffix.chars();
    let Some(first) = letters.next() else { return Some(number) };
    let power = "BKMGTPEZY".find(first.to_ascii_uppercase())?;
    let rest = letters.as_str();
    let word = if unit == 'B' { "byte" } else { "bit" };
    let fits = match (power, rest) {
        (0, "") => first == unit,
        (0, rest) => format!("{first}{rest}").to_lowercase().trim_end_matches('s') == word,
        (_, "") => true,
        (_, rest) => rest.starts_with(unit) || rest.to_lowercase().starts_with(word),
    };
    fits.then(|| number * 1024f64.powi(i32::try_from(power).unwrap_or(0)))
}
