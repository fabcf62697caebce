//! The filters, tests and methods that Ansible's users write.
//!
//! What lives here: those that the engine lacks or has with another meaning. What does not: lookups
//! and everything that would touch a file, a host or the clock.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};
use regex::Regex;

use super::values::{from_json, to_json};

fn wrong(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

/// Adds them all to an environment without builtins.
pub(super) fn add(env: &mut Environment<'static>) {
    builtins(env);
    env.add_filter("bool", to_bool);
    env.add_filter("int", to_int);
    env.add_filter("combine", combine);
    env.add_filter("dict2items", dict2items);
    env.add_filter("items2dict", items2dict);
    env.add_filter("to_json", to_json_text);
    env.add_filter("to_nice_json", |value: &Value| -> Result<String, Error> {
        serde_json::to_string_pretty(&to_json(value)?).map_err(|error| wrong(error.to_string()))
    });
    env.add_filter("from_json", |text: &str| -> Result<Value, Error> {
        serde_json::from_str::<serde_json::Value>(text)
            .map(|value| from_json(&value))
            .map_err(|error| wrong(format!("from_json: this text is not JSON: {error}")))
    });
    env.add_filter("regex_search", regex_search);
    env.add_filter("regex_replace", regex_replace);
    env.add_filter("regex_findall", |text: &str, pattern: &str| -> Result<Vec<String>, Error> {
        Ok(regex(pattern, false)?.find_iter(text).map(|found| found.as_str().to_owned()).collect())
    });
    env.add_filter("regex_escape", |text: &str| regex::escape(text));
    env.add_filter("basename", |path: &str| path.rsplit('/').next().unwrap_or("").to_owned());
    env.add_filter("dirname", dirname);
    env.add_filter("quote", |value: &Value| -> Result<String, Error> { Ok(quote(&text_of(value)?)) });
    env.add_filter("ternary", ternary);
    env.add_filter("split", |text: &str, by: Option<&str>| split(text, by));
    env.add_filter("b64encode", |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    });
    env.add_filter("b64decode", |text: &str| -> Result<String, Error> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text.trim())
            .map_err(|error| wrong(format!("b64decode: {error}")))?;
        String::from_utf8(bytes).map_err(|_| wrong("b64decode: the bytes are not text"))
    });
    env.add_filter("mandatory", |value: &Value| -> Result<Value, Error> {
        if value.is_undefined() { Err(Error::from(ErrorKind::UndefinedError)) } else { Ok(value.clone()) }
    });
    env.add_filter("difference", |one: Vec<Value>, other: Vec<Value>| -> Vec<Value> {
        distinct(one.into_iter().filter(|item| !other.contains(item)))
    });
    env.add_filter("intersect", |one: Vec<Value>, other: Vec<Value>| -> Vec<Value> {
        distinct(one.into_iter().filter(|item| other.contains(item)))
    });
    env.add_filter("union", |one: Vec<Value>, other: Vec<Value>| -> Vec<Value> {
        distinct(one.into_iter().chain(other))
    });
    env.add_filter("flatten", flatten);
    env.add_filter("type_debug", |value: &Value| match value.kind() {
        ValueKind::String => "str",
        ValueKind::Bool => "bool",
        ValueKind::None => "NoneType",
        ValueKind::Map => "dict",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        _ => "list",
    });

    for name in ["succeeded", "success", "successful"] {
        env.add_test(name, |result: &Value| Ok::<_, Error>(!flag(result, "failed")?));
    }
    env.add_test("failed", |result: &Value| flag(result, "failed"));
    env.add_test("failure", |result: &Value| flag(result, "failed"));
    env.add_test("changed", |result: &Value| flag(result, "changed"));
    env.add_test("change", |result: &Value| flag(result, "changed"));
    env.add_test("skipped", |result: &Value| flag(result, "skipped"));
    env.add_test("skip", |result: &Value| flag(result, "skipped"));
    env.add_test("unreachable", |result: &Value| flag(result, "unreachable"));
    env.add_test("match", |text: &Value, pattern: &str, kwargs: Kwargs| found(text, pattern, &kwargs, true));
    env.add_test("search", |text: &Value, pattern: &str, kwargs: Kwargs| found(text, pattern, &kwargs, false));
    env.add_test("regex", |text: &Value, pattern: &str, kwargs: Kwargs| found(text, pattern, &kwargs, false));
    env.add_test("contains", |all: &Value, one: Value| -> Result<bool, Error> {
        if let Some(text) = all.as_str() {
            return Ok(text.contains(one.as_str().unwrap_or_default()));
        }
        Ok(all.try_iter()?.any(|item| item == one))
    });
    for name in ["version", "version_compare"] {
        env.add_test(name, version);
    }
    env.add_test("truthy", |value: &Value| value.is_true());
    env.add_test("falsy", |value: &Value| !value.is_true());
    env.add_test("undefined", |value: &Value| value.is_undefined());
    env.set_unknown_method_callback(|_, value, method, args| python_method(value, method, args));
}

/// The engine's own, named one by one: what reads templates from elsewhere is not among them.
fn builtins(env: &mut Environment<'static>) {
    use minijinja::{filters as f, functions, tests as t};
    env.add_filter("lower", f::lower);
    env.add_filter("upper", f::upper);
    env.add_filter("title", f::title);
    env.add_filter("capitalize", f::capitalize);
    env.add_filter("replace", f::replace);
    env.add_filter("length", f::length);
    env.add_filter("count", f::length);
    env.add_filter("items", f::items);
    env.add_filter("dictsort", f::dictsort);
    env.add_filter("reverse", f::reverse);
    env.add_filter("trim", f::trim);
    env.add_filter("join", f::join);
    env.add_filter("default", f::default);
    env.add_filter("d", f::default);
    env.add_filter("round", f::round);
    env.add_filter("abs", f::abs);
    env.add_filter("float", f::float);
    env.add_filter("first", f::first);
    env.add_filter("last", f::last);
    env.add_filter("min", f::min);
    env.add_filter("max", f::max);
    env.add_filter("sum", f::sum);
    env.add_filter("sort", f::sort);
    env.add_filter("list", f::list);
    env.add_filter("string", |value: &Value| -> Result<String, Error> { text_of(value) });
    env.add_filter("indent", f::indent);
    env.add_filter("select", f::select);
    env.add_filter("reject", f::reject);
    env.add_filter("selectattr", f::selectattr);
    env.add_filter("rejectattr", f::rejectattr);
    env.add_filter("map", f::map);
    env.add_filter("groupby", f::groupby);
    env.add_filter("unique", f::unique);
    env.add_filter("zip", f::zip);
    env.add_test("defined", t::is_defined);
    env.add_test("none", t::is_none);
    env.add_test("boolean", t::is_boolean);
    env.add_test("odd", t::is_odd);
    env.add_test("even", t::is_even);
    env.add_test("number", t::is_number);
    env.add_test("integer", t::is_integer);
    env.add_test("float", t::is_float);
    env.add_test("string", t::is_string);
    env.add_test("sequence", t::is_sequence);
    env.add_test("iterable", t::is_iterable);
    env.add_test("mapping", t::is_mapping);
    env.add_test("sameas", t::is_sameas);
    for name in ["eq", "equalto", "=="] {
        env.add_test(name, t::is_eq);
    }
    for name in ["ne", "!="] {
        env.add_test(name, t::is_ne);
    }
    for name in ["lt", "lessthan", "<"] {
        env.add_test(name, t::is_lt);
    }
    for name in ["le", "<="] {
        env.add_test(name, t::is_le);
    }
    for name in ["gt", "greaterthan", ">"] {
        env.add_test(name, t::is_gt);
    }
    for name in ["ge", ">="] {
        env.add_test(name, t::is_ge);
    }
    env.add_test("in", t::is_in);
    env.add_test("true", t::is_true);
    env.add_test("false", t::is_false);
    env.add_function("range", functions::range);
    env.add_function("dict", functions::dict);
}

/// A value as it would stand in a text.
fn text_of(value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::Invalid => {
            to_json(value)?;
            String::new()
        }
        ValueKind::None => String::new(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        _ => value.to_string(),
    })
}

fn distinct(items: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for item in items {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

fn to_bool(value: &Value) -> Result<bool, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    Ok(match value.as_str() {
        Some(text) => matches!(text.trim().to_ascii_lowercase().as_str(), "yes" | "on" | "1" | "true" | "y" | "t"),
        None => value.is_true(),
    })
}

fn to_int(value: &Value, default: Option<i64>, base: Option<u32>) -> Result<i64, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let default = default.unwrap_or(0);
    if value.kind() == ValueKind::Bool {
        return Ok(i64::from(value.is_true()));
    }
    if let Some(whole) = value.as_i64() {
        return Ok(whole);
    }
    let base = base.unwrap_or(10);
    if !(2..=36).contains(&base) {
        return Err(wrong("int: the base is from 2 to 36"));
    }
    let text = value.to_string();
    let text = text.trim();
    let bare = if base == 16 { text.trim_start_matches("0x") } else { text };
    if let Ok(whole) = i64::from_str_radix(bare, base) {
        return Ok(whole);
    }
    // Python: int(float("3.7")) is 3.
    Ok(text.parse::<f64>().ok().filter(|float| float.is_finite()).map_or(default, |float| float.trunc() as i64))
}

fn combine(one: Value, others: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let recursive = kwargs.get::<Option<bool>>("recursive")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let mut sum = to_json(&one)?;
    for other in others.iter() {
        merge(&mut sum, to_json(other)?, recursive)?;
    }
    Ok(from_json(&sum))
}

fn merge(sum: &mut serde_json::Value, other: serde_json::Value, recursive: bool) -> Result<(), Error> {
    let (Some(map), serde_json::Value::Object(more)) = (sum.as_object_mut(), other) else {
        return Err(wrong("combine: every part must be a mapping"));
    };
    for (key, value) in more {
        match map.get_mut(&key) {
            Some(old) if recursive && old.is_object() && value.is_object() => merge(old, value, true)?,
            _ => {
                map.insert(key, value);
            }
        }
    }
    Ok(())
}

fn dict2items(map: &Value) -> Result<Vec<Value>, Error> {
    if map.kind() != ValueKind::Map {
        return Err(wrong(format!("dict2items wants a mapping, not {}", map.kind())));
    }
    map.try_iter()?
        .map(|key| {
            let value = map.get_item(&key)?;
            Ok(Value::from_pairs([("key", key), ("value", value)]))
        })
        .collect()
}

fn items2dict(items: Vec<Value>) -> Result<Value, Error> {
    let mut pairs = Vec::new();
    for item in items {
        pairs.push((item.get_attr("key")?, item.get_attr("value")?));
    }
    Ok(Value::from_pairs(pairs))
}

/// JSON as Python writes it: a blank after `:` and `,`.
fn to_json_text(value: &Value) -> Result<String, Error> {
    fn put(out: &mut String, value: &serde_json::Value) {
        match value {
            serde_json::Value::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    put(out, item);
                }
                out.push(']');
            }
            serde_json::Value::Object(map) => {
                out.push('{');
                for (at, (key, item)) in map.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    out.push_str(&serde_json::Value::String(key.clone()).to_string());
                    out.push_str(": ");
                    put(out, item);
                }
                out.push('}');
            }
            other => out.push_str(&other.to_string()),
        }
    }
    let mut out = String::new();
    put(&mut out, &to_json(value)?);
    Ok(out)
}

fn regex(pattern: &str, ignore_case: bool) -> Result<Regex, Error> {
    regex::RegexBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| wrong(format!("this regular expression cannot be used: {error}")))
}

fn regex_search(text: &str, pattern: &str, groups: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let regex = regex(pattern, kwargs.get::<Option<bool>>("ignorecase")?.unwrap_or(false))?;
    kwargs.assert_all_used()?;
    let Some(found) = regex.captures(text) else { return Ok(Value::from(())) };
    if groups.is_empty() {
        return Ok(Value::from(found.get(0).map(|all| all.as_str()).unwrap_or_default()));
    }
    let mut out = Vec::new();
    for group in groups.iter() {
        let name = group.as_str().unwrap_or_default();
        let part = if let Some(name) = name.strip_prefix("\\g<").and_then(|rest| rest.strip_suffix('>')) {
            found.name(name)
        } else if let Some(number) = name.strip_prefix('\\').and_then(|rest| rest.parse().ok()) {
            found.get(number)
        } else {
            return Err(wrong("regex_search: a group is written '\\\\1' or '\\\\g<name>'"));
        };
        out.push(part.map_or(Value::from(()), |part| Value::from(part.as_str())));
    }
    Ok(Value::from(out))
}

fn regex_replace(text: &Value, pattern: &str, by: Option<&str>, kwargs: Kwargs) -> Result<String, Error> {
    let regex = regex(pattern, kwargs.get::<Option<bool>>("ignorecase")?.unwrap_or(false))?;
    kwargs.assert_all_used()?;
    // Python's \1 and \g<name> in the form of the regex crate; its own $ is no mark here.
    let by = by.unwrap_or("");
    let mut form = String::new();
    let mut rest = by.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '$' => form.push_str("$$"),
            '\\' => match rest.next() {
                Some(digit) if digit.is_ascii_digit() => form.push_str(&format!("${{{digit}}}")),
                Some('g') if rest.peek() == Some(&'<') => {
                    rest.next();
                    let name: String = rest.by_ref().take_while(|c| *c != '>').collect();
                    form.push_str(&format!("${{{name}}}"));
                }
                Some('n') => form.push('\n'),
                Some('t') => form.push('\t'),
                Some(other) => form.push(other),
                None => form.push('\\'),
            },
            other => form.push(other),
        }
    }
    Ok(regex.replace_all(&text_of(text)?, form.as_str()).into_owned())
}

fn dirname(path: &str) -> String {
    match path.rfind('/') {
        Some(at) => {
            let head = path.get(..=at).unwrap_or("/");
            let bare = head.trim_end_matches('/');
            if bare.is_empty() { head.to_owned() } else { bare.to_owned() }
        }
        None => String::new(),
    }
}

/// One word of a shell, as Python's `shlex.quote` writes it.
fn quote(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !text.is_empty() && text.chars().all(safe) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

fn ternary(value: &Value, yes: Value, no: Value, none: Option<Value>) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if value.is_none()
        && let Some(none) = none
    {
        return Ok(none);
    }
    Ok(if value.is_true() { yes } else { no })
}

fn split(text: &str, by: Option<&str>) -> Vec<String> {
    match by {
        Some(by) if !by.is_empty() => text.split(by).map(str::to_owned).collect(),
        _ => text.split_whitespace().map(str::to_owned).collect(),
    }
}

fn flatten(items: Vec<Value>, levels: Option<u32>) -> Result<Vec<Value>, Error> {
    let mut out = Vec::new();
    for item in items {
        if item.kind() == ValueKind::Seq && levels != Some(0) {
            let inner: Vec<Value> = item.try_iter()?.collect();
            out.extend(flatten(inner, levels.map(|levels| levels - 1))?);
        } else if !item.is_none() {
            out.push(item);
        }
    }
    Ok(out)
}

/// A flag of a registered result.
fn flag(result: &Value, name: &str) -> Result<bool, Error> {
    if result.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if result.kind() != ValueKind::Map {
        return Err(wrong(format!("the test '{name}' wants what a task registered, not {}", result.kind())));
    }
    let value = result.get_attr(name)?;
    Ok(!value.is_undefined() && value.is_true())
}

fn found(text: &Value, pattern: &str, kwargs: &Kwargs, at_start: bool) -> Result<bool, Error> {
    let text = text_of(text)?;
    let regex = regex(pattern, kwargs.get::<Option<bool>>("ignorecase")?.unwrap_or(false))?;
    kwargs.assert_all_used()?;
    Ok(if at_start { regex.find(&text).is_some_and(|found| found.start() == 0) } else { regex.is_match(&text) })
}

/// Compares versions part by part: numbers as numbers, other parts as text.
fn version(one: &Value, other: &Value, operator: Option<&str>) -> Result<bool, Error> {
    use std::cmp::Ordering;
    let (one, other) = (text_of(one)?, text_of(other)?);
    let order = compare_versions(&one, &other);
    Ok(match operator.unwrap_or("==") {
        "==" | "=" | "eq" => order == Ordering::Equal,
        "!=" | "<>" | "ne" => order != Ordering::Equal,
        "<" | "lt" => order == Ordering::Less,
        "<=" | "le" => order != Ordering::Greater,
        ">" | "gt" => order == Ordering::Greater,
        ">=" | "ge" => order != Ordering::Less,
        other => return Err(wrong(format!("version: {other:?} is not one of == != < <= > >="))),
    })
}

fn compare_versions(one: &str, other: &str) -> std::cmp::Ordering {
    fn parts(text: &str) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        let mut digits = None;
        for c in text.trim().chars() {
            if !c.is_ascii_alphanumeric() {
                digits = None;
                continue;
            }
            let digit = c.is_ascii_digit();
            if digits != Some(digit) {
                out.push(String::new());
                digits = Some(digit);
            }
            if let Some(last) = out.last_mut() {
                last.push(c);
            }
        }
        out
    }
    let (one, other) = (parts(one), parts(other));
    for (a, b) in one.iter().zip(&other) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    one.len().cmp(&other.len())
}

/// The methods of Python's str and dict that playbooks call most.
fn python_method(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let unknown = || Error::new(ErrorKind::UnknownMethod, format!("the method {method} is not built in ferry"));
    let word = |at: usize| args.get(at).and_then(Value::as_str);
    if let Some(text) = value.as_str() {
        return Ok(match (method, word(0)) {
            ("startswith", Some(part)) => Value::from(text.starts_with(part)),
            ("endswith", Some(part)) => Value::from(text.ends_with(part)),
            ("strip", None) => Value::from(text.trim()),
            ("lstrip", None) => Value::from(text.trim_start()),
            ("rstrip", None) => Value::from(text.trim_end()),
            ("strip", Some(set)) => Value::from(text.trim_matches(|c| set.contains(c))),
            ("lstrip", Some(set)) => Value::from(text.trim_start_matches(|c| set.contains(c))),
            ("rstrip", Some(set)) => Value::from(text.trim_end_matches(|c| set.contains(c))),
            ("split", by) => Value::from(split(text, by)),
            ("splitlines", None) => Value::from(text.lines().map(Value::from).collect::<Vec<_>>()),
            ("lower", None) => Value::from(text.to_lowercase()),
            ("upper", None) => Value::from(text.to_uppercase()),
            ("replace", Some(from)) => Value::from(text.replace(from, word(1).ok_or_else(unknown)?)),
            ("isdigit", None) => Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())),
            _ => return Err(unknown()),
        });
    }
    if value.kind() == ValueKind::Map {
        let keys: Vec<Value> = value.try_iter()?.collect();
        return Ok(match method {
            "keys" => Value::from(keys),
            "values" => Value::from(keys.iter().map(|key| value.get_item(key)).collect::<Result<Vec<_>, _>>()?),
            "items" => Value::from(
                keys.iter()
                    .map(|key| Ok(Value::from(vec![key.clone(), value.get_item(key)?])))
                    .collect::<Result<Vec<_>, Error>>()?,
            ),
            "get" => {
                let key = args.first().ok_or_else(unknown)?;
                let found = value.get_item(key)?;
                if found.is_undefined() { args.get(1).cloned().unwrap_or(Value::from(())) } else { found }
            }
            _ => return Err(unknown()),
        });
    }
    Err(unknown())
}
