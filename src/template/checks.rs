//! The tests (`x is …`) that Ansible's users write.
//!
//! What lives here: tests of values, results, versions and of paths of this machine. What does not: conditions as a whole.

use std::cmp::Ordering;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

use super::filters::{Args, compare, is_list, items};
use super::python::{text, type_name, wrong};
use super::strings;

fn def(
    env: &mut Environment<'static>,
    name: &'static str,
    names: &'static [&'static str],
    run: impl Fn(&Value, Args) -> Result<bool, Error> + Send + Sync + 'static,
) {
    env.add_test(name, move |value: &Value, rest: Rest<Value>, kwargs: Kwargs| {
        if value.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        run(value, Args::new(name, names, &rest, &kwargs)?)
    });
}

/// A flag of a registered result.
fn flag(result: &Value, name: &str, test: &str) -> Result<bool, Error> {
    if result.kind() != ValueKind::Map {
        return Err(wrong(format!("the test '{test}' wants what a task registered, not {}", type_name(result))));
    }
    let value = result.get_attr(name)?;
    Ok(!value.is_undefined()
        && (value.is_true() && value.as_str().is_none_or(|text| !matches!(text, "0" | "false" | "False"))))
}

fn changed(result: &Value) -> Result<bool, Error> {
    if flag(result, "changed", "changed")? {
        return Ok(true);
    }
    let results = result.get_attr("results")?;
    if result.get_attr("changed")?.is_undefined() && is_list(&results) {
        for one in items(&results)? {
            if one.kind() == ValueKind::Map && flag(&one, "changed", "changed")? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Number(u128),
    Text(String),
}

/// The parts of a loose version: numbers, runs of letters, and whatever stands between them but dots.
fn loose(version: &str) -> Vec<Word> {
    let mut out = Vec::new();
    let mut rest = version.trim();
    while let Some(first) = rest.chars().next() {
        let class = |c: char| {
            if c.is_ascii_digit() {
                0
            } else if c.is_ascii_lowercase() {
                1
            } else if c == '.' {
                2
            } else {
                3
            }
        };
        let kind = class(first);
        let end = if kind == 2 { 1 } else { rest.find(|c| class(c) != kind).unwrap_or(rest.len()) };
        let (part, after) = rest.split_at(end);
        match kind {
            0 => out.push(part.parse().map_or_else(|_| Word::Text(part.to_owned()), Word::Number)),
            2 => {}
            _ => out.push(Word::Text(part.to_owned())),
        }
        rest = after;
    }
    out
}

fn compare_loose(one: &str, other: &str) -> Result<Ordering, Error> {
    let (one, other) = (loose(one), loose(other));
    for (a, b) in one.iter().zip(&other) {
        let order = match (a, b) {
            (Word::Number(a), Word::Number(b)) => a.cmp(b),
            (Word::Text(a), Word::Text(b)) => a.cmp(b),
            _ => {
                return Err(wrong("Version comparison failed: '<' not supported between instances of 'str' and 'int'"));
            }
        };
        if order.is_ne() {
            return Ok(order);
        }
    }
    Ok(one.len().cmp(&other.len()))
}

/// A version as a list of numbers that are compared in order.
type Key = Vec<i128>;

/// `1.2`, `1.2.3`, `1.2a1`, `1.2.3b4`.
fn strict(version: &str) -> Result<Key, Error> {
    let bad = || wrong(format!("Version comparison failed: invalid version number '{version}'"));
    let bare = version.trim();
    let (bare, tag) = match bare.find(['a', 'b']) {
        Some(at) => {
            let (head, tail) = bare.split_at(at);
            let number: i128 = tail.get(1..).unwrap_or_default().parse().map_err(|_| bad())?;
            (head, [if tail.starts_with('a') { 0 } else { 1 }, number])
        }
        None => (bare, [2, 0]),
    };
    let mut parts =
        bare.split('.').map(|part| part.parse::<i128>().map_err(|_| bad())).collect::<Result<Vec<_>, _>>()?;
    if !(2..=3).contains(&parts.len()) {
        return Err(bad());
    }
    parts.resize(3, 0);
    parts.extend(tag);
    Ok(parts)
}

fn compare_semver(one: &str, other: &str) -> Result<Ordering, Error> {
    fn parse(version: &str) -> Result<(Key, Vec<String>), Error> {
        let bad = || wrong(format!("Version comparison failed: invalid semantic version '{version}'"));
        let bare = version.trim().split('+').next().unwrap_or_default();
        let (core, tail) = bare.split_once('-').map_or((bare, None), |(core, tail)| (core, Some(tail)));
        let parts =
            core.split('.').map(|part| part.parse::<i128>().map_err(|_| bad())).collect::<Result<Vec<_>, _>>()?;
        if parts.len() != 3 {
            return Err(bad());
        }
        Ok((parts, tail.map(|tail| tail.split('.').map(str::to_owned).collect()).unwrap_or_default()))
    }
    let ((one, before), (other, after)) = (parse(one)?, parse(other)?);
    let order = one.cmp(&other);
    if order.is_ne() {
        return Ok(order);
    }
    if before.is_empty() || after.is_empty() {
        return Ok(after.is_empty().cmp(&before.is_empty()).reverse());
    }
    for (a, b) in before.iter().zip(&after) {
        let order = match (a.parse::<u128>(), b.parse::<u128>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            _ => a.cmp(b),
        };
        if order.is_ne() {
            return Ok(order);
        }
    }
    Ok(before.len().cmp(&after.len()))
}

/// The key of a version as PEP 440 orders them: epoch, release, pre, post, dev.
fn pep440(version: &str) -> Result<(i128, Key, [i128; 5]), Error> {
    let bad = || wrong(format!("Version comparison failed: Invalid version: '{version}'"));
    let pattern = r"(?i)^\s*v?(?:(\d+)!)?(\d+(?:\.\d+)*)(?:[-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?(\d*))?(?:-(\d+)|[-_.]?(?:post|rev|r)[-_.]?(\d*))?(?:[-_.]?(dev)[-_.]?(\d*))?(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?\s*$";
    let found = regex::Regex::new(pattern).ok().and_then(|regex| regex.captures(version)).ok_or_else(bad)?;
    let number = |at: usize| found.get(at).map(|part| part.as_str().parse::<i128>().unwrap_or(0));
    let mut release: Key =
        found.get(2).map_or("", |part| part.as_str()).split('.').map(|part| part.parse().unwrap_or(0)).collect();
    while release.len() > 1 && release.last() == Some(&0) {
        release.pop();
    }
    let pre = found.get(3).map(|kind| match kind.as_str().to_lowercase().as_str() {
        "a" | "alpha" => 0,
        "b" | "beta" => 1,
        _ => 2,
    });
    let post = number(5).or_else(|| found.get(6).map(|part| part.as_str().parse().unwrap_or(0)));
    let dev = found.get(7).map(|_| number(8).unwrap_or(0));
    let pre_key = match (pre, post, dev) {
        (Some(kind), _, _) => kind,
        (None, None, Some(_)) => -1,
        _ => 3,
    };
    Ok((
        number(1).unwrap_or(0),
        release,
        [pre_key, number(4).unwrap_or(0), post.unwrap_or(-1), i128::from(dev.is_none()), dev.unwrap_or(0)],
    ))
}

fn version(value: &Value, args: &Args) -> Result<bool, Error> {
    let (one, other) = (text(value)?, args.text("version")?);
    if one.is_empty() || other.is_empty() {
        return Err(wrong(if one.is_empty() {
            "Input version value cannot be empty"
        } else {
            "Version parameter to compare against cannot be empty"
        }));
    }
    let is_strict = args.get("strict").filter(|value| !value.is_none());
    let kind = args.maybe_text("version_type")?;
    if is_strict.is_some() && kind.is_some() {
        return Err(wrong("Cannot specify both 'strict' and 'version_type'"));
    }
    let kind =
        kind.unwrap_or_else(|| if is_strict.is_some_and(Value::is_true) { "strict" } else { "loose" }.to_owned());
    let order = match kind.as_str() {
        "loose" => compare_loose(&one, &other)?,
        "strict" => strict(&one)?.cmp(&strict(&other)?),
        "semver" | "semantic" => compare_semver(&one, &other)?,
        "pep440" => pep440(&one)?.cmp(&pep440(&other)?),
        other => {
            return Err(wrong(format!(
                "Invalid version type ({other}). Must be one of: loose, strict, semver, semantic, pep440"
            )));
        }
    };
    Ok(match args.text_or("operator", "eq")?.as_str() {
        "==" | "=" | "eq" => order == Ordering::Equal,
        "!=" | "<>" | "ne" => order != Ordering::Equal,
        "<" | "lt" => order == Ordering::Less,
        "<=" | "le" => order != Ordering::Greater,
        ">" | "gt" => order == Ordering::Greater,
        ">=" | "ge" => order != Ordering::Less,
        other => {
            return Err(wrong(format!(
                "Invalid operator type ({other}). Must be one of '==', '=', 'eq', '<', 'lt', '<=', 'le', '>', 'gt', '>=', 'ge', '!=', '<>', 'ne'"
            )));
        }
    })
}

fn same(value: &Value, other: &Value) -> bool {
    if value.kind() != other.kind() {
        return false;
    }
    match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Undefined => value == other,
        ValueKind::Number => value.is_integer() == other.is_integer() && value == other,
        _ => value == other,
    }
}

fn whole(value: &Value) -> Result<i128, Error> {
    i128::try_from(value.clone()).map_err(|_| wrong(format!("a whole number is needed, not {}", type_name(value))))
}

fn scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    let fits = scheme.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (fits && !rest.is_empty()).then_some(scheme)
}

/// Adds them all.
pub(super) fn add(env: &mut Environment<'static>) {
    env.add_test("defined", |value: &Value| !value.is_undefined());
    env.add_test("undefined", |value: &Value| value.is_undefined());
    for name in ["failed", "failure"] {
        def(env, name, &[], |v, _| flag(v, "failed", "failed"));
    }
    for name in ["success", "succeeded", "successful"] {
        def(env, name, &[], |v, _| Ok(!flag(v, "failed", "success")?));
    }
    def(env, "reachable", &[], |v, _| Ok(!flag(v, "unreachable", "reachable")?));
    def(env, "unreachable", &[], |v, _| flag(v, "unreachable", "unreachable"));
    def(env, "timedout", &[], |v, _| {
        flag(v, "timedout", "timedout")?;
        let at = v.get_attr("timedout")?;
        Ok(at.kind() == ValueKind::Map && at.get_attr("period")?.is_true())
    });
    for name in ["changed", "change"] {
        def(env, name, &[], |v, _| {
            flag(v, "changed", "changed")?;
            changed(v)
        });
    }
    for name in ["skipped", "skip"] {
        def(env, name, &[], |v, _| flag(v, "skipped", "skipped"));
    }
    def(env, "finished", &[], |v, _| {
        if v.kind() != minijinja::value::ValueKind::Map {
            return Err(super::python::wrong("the test 'finished' wants what a task registered, a mapping"));
        }
        if v.get_attr("finished")?.is_undefined() { Ok(true) } else { flag(v, "finished", "finished") }
    });
    def(env, "started", &[], |v, _| {
        if v.kind() != minijinja::value::ValueKind::Map {
            return Err(super::python::wrong("the test 'started' wants what a task registered, a mapping"));
        }
        if v.get_attr("started")?.is_undefined() { Ok(true) } else { flag(v, "started", "started") }
    });
    for (name, kind) in [("match", "match"), ("search", "search")] {
        def(env, name, &["pattern", "ignorecase", "multiline"], move |v, args| {
            let subject = v.as_str().map_or_else(|| text(v), |text| Ok(text.to_owned()))?;
            strings::found(&subject, &args.text("pattern")?, kind, args.flag("ignorecase")?, args.flag("multiline")?)
        });
    }
    def(env, "regex", &["pattern", "ignorecase", "multiline", "match_type"], |v, args| {
        let kind = args.text_or("match_type", "search")?;
        strings::found(&text(v)?, &args.text("pattern")?, &kind, args.flag("ignorecase")?, args.flag("multiline")?)
    });
    for name in ["version", "version_compare"] {
        def(env, name, &["version", "operator", "strict", "version_type"], |v, args| version(v, &args));
    }
    def(env, "contains", &["value"], |v, args| {
        let one = args.get("value").ok_or_else(|| wrong("contains takes a value"))?;
        if let (Some(text), Some(part)) = (v.as_str(), one.as_str()) {
            return Ok(text.contains(part));
        }
        Ok(items(v)?.contains(one))
    });
    env.add_test("in", |one: &Value, all: &Value| -> Result<bool, Error> {
        if one.is_undefined() || all.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        if let (Some(part), Some(text)) = (one.as_str(), all.as_str()) {
            return Ok(text.contains(part));
        }
        Ok(items(all)?.contains(one))
    });
    for name in ["subset", "issubset"] {
        def(env, name, &["other"], |v, args| {
            let other = items(args.get("other").unwrap_or(&Value::UNDEFINED))?;
            Ok(items(v)?.iter().all(|item| other.contains(item)))
        });
    }
    for name in ["superset", "issuperset"] {
        def(env, name, &["other"], |v, args| {
            let all = items(v)?;
            Ok(items(args.get("other").unwrap_or(&Value::UNDEFINED))?.iter().all(|item| all.contains(item)))
        });
    }
    def(env, "all", &[], |v, _| Ok(items(v)?.iter().all(Value::is_true)));
    def(env, "any", &[], |v, _| Ok(items(v)?.iter().any(Value::is_true)));
    for (name, want) in [("truthy", true), ("falsy", false)] {
        def(env, name, &["convert_bool"], move |v, args| {
            let value = if args.flag("convert_bool")? && v.as_str().is_some() {
                match v.as_str().unwrap_or_default().trim().to_lowercase().as_str() {
                    "y" | "yes" | "on" | "1" | "true" | "t" => Value::from(true),
                    "n" | "no" | "off" | "0" | "false" | "f" => Value::from(false),
                    _ => v.clone(),
                }
            } else {
                v.clone()
            };
            Ok(value.is_true() == want)
        });
    }
    def(env, "none", &[], |v, _| Ok(v.is_none()));
    def(env, "boolean", &[], |v, _| Ok(v.kind() == ValueKind::Bool));
    def(env, "true", &[], |v, _| Ok(v.kind() == ValueKind::Bool && v.is_true()));
    def(env, "false", &[], |v, _| Ok(v.kind() == ValueKind::Bool && !v.is_true()));
    def(env, "number", &[], |v, _| Ok(matches!(v.kind(), ValueKind::Number | ValueKind::Bool)));
    def(env, "integer", &[], |v, _| Ok(v.kind() == ValueKind::Number && v.is_integer()));
    def(env, "float", &[], |v, _| Ok(v.kind() == ValueKind::Number && !v.is_integer()));
    for name in ["nan", "isnan"] {
        def(env, name, &[], |v, _| Ok(f64::try_from(v.clone()).is_ok_and(f64::is_nan)));
    }
    def(env, "string", &[], |v, _| Ok(v.as_str().is_some()));
    def(env, "sequence", &[], |v, _| Ok(is_list(v) || v.as_str().is_some() || v.kind() == ValueKind::Map));
    def(env, "iterable", &[], |v, _| Ok(is_list(v) || v.as_str().is_some() || v.kind() == ValueKind::Map));
    def(env, "mapping", &[], |v, _| Ok(v.kind() == ValueKind::Map));
    env.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    env.add_test("escaped", |_: &Value| false);
    def(env, "sameas", &["other"], |v, args| Ok(same(v, args.get("other").unwrap_or(&Value::UNDEFINED))));
    def(env, "odd", &[], |v, _| Ok(whole(v)?.rem_euclid(2) == 1));
    def(env, "even", &[], |v, _| Ok(whole(v)?.rem_euclid(2) == 0));
    def(env, "divisibleby", &["num"], |v, args| {
        let by = whole(args.get("num").unwrap_or(&Value::UNDEFINED))?;
        whole(v)?.checked_rem_euclid(by).map(|rest| rest == 0).ok_or_else(|| wrong("integer modulo by zero"))
    });
    def(env, "lower", &[], |v, _| {
        let text = text(v)?;
        Ok(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase))
    });
    def(env, "upper", &[], |v, _| {
        let text = text(v)?;
        Ok(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))
    });
    type Holds = fn(Ordering) -> bool;
    let orders: [(&[&'static str], Holds); 4] = [
        (&["lt", "lessthan", "<"], Ordering::is_lt),
        (&["le", "<="], Ordering::is_le),
        (&["gt", "greaterthan", ">"], Ordering::is_gt),
        (&["ge", ">="], Ordering::is_ge),
    ];
    for (names, holds) in orders {
        for name in names {
            def(env, name, &["other"], move |v, args| {
                Ok(holds(compare(v, args.get("other").unwrap_or(&Value::UNDEFINED))?))
            });
        }
    }
    for name in ["eq", "equalto", "=="] {
        def(env, name, &["other"], |v, args| Ok(Some(v) == args.get("other")));
    }
    for name in ["ne", "!="] {
        def(env, name, &["other"], |v, args| Ok(Some(v) != args.get("other")));
    }
    env.add_test("filter", |state: &mut minijinja::State<'_, '_>, name: &str| {
        let answer = state.apply_filter(name, &[Value::UNDEFINED]);
        !matches!(answer, Err(error) if error.kind() == ErrorKind::UnknownFilter)
    });
    env.add_test("test", |state: &mut minijinja::State<'_, '_>, name: &str| {
        let answer = state.perform_test(name, &[Value::UNDEFINED]);
        !matches!(answer, Err(error) if error.kind() == ErrorKind::UnknownTest)
    });
    for name in ["abs", "is_abs"] {
        def(env, name, &[], |v, _| Ok(text(v)?.starts_with('/')));
    }
    for name in ["exists", "is_exists"] {
        def(env, name, &[], |v, _| Ok(std::path::Path::new(&text(v)?).exists()));
    }
    for name in ["file", "is_file"] {
        def(env, name, &[], |v, _| Ok(std::path::Path::new(&text(v)?).is_file()));
    }
    for name in ["directory", "is_dir"] {
        def(env, name, &[], |v, _| Ok(std::path::Path::new(&text(v)?).is_dir()));
    }
    for name in ["link", "is_link"] {
        def(env, name, &[], |v, _| Ok(std::path::Path::new(&text(v)?).is_symlink()));
    }
    def(env, "link_exists", &[], |v, _| Ok(std::fs::symlink_metadata(text(v)?).is_ok()));
    for name in ["same_file", "is_same_file"] {
        def(env, name, &["other"], |v, args| {
            use std::os::unix::fs::MetadataExt as _;
            let look = |path: String| std::fs::metadata(&path).map_err(|error| wrong(format!("{path}: {error}")));
            let (one, other) = (look(text(v)?)?, look(args.text("other")?)?);
            Ok(one.ino() == other.ino() && one.dev() == other.dev())
        });
    }
    for name in ["mount", "is_mount"] {
        def(env, name, &[], |v, _| {
            use std::os::unix::fs::MetadataExt as _;
            let path = text(v)?;
            let (Ok(here), Ok(up)) = (std::fs::symlink_metadata(&path), std::fs::metadata(format!("{path}/.."))) else {
                return Ok(false);
            };
            Ok(here.is_dir() && (here.dev() != up.dev() || here.ino() == up.ino()))
        });
    }
    // Also what was opened: Ansible opens such a value when it is used.
    def(env, "vault_encrypted", &[], |v, _| {
        // What merely looks like it is a text like any other.
        Ok(v.as_str().is_some_and(crate::vault::was_sealed))
    });
    def(env, "vaulted_file", &[], |v, _| {
        use std::io::Read as _;
        let path = text(v)?;
        let mut head = String::new();
        let file = std::fs::File::open(&path).map_err(|error| wrong(format!("{path} cannot be read: {error}")))?;
        let mut bytes = Vec::new();
        file.take(64).read_to_end(&mut bytes).map_err(|error| wrong(format!("{path} cannot be read: {error}")))?;
        head.push_str(&String::from_utf8_lossy(&bytes));
        Ok(crate::vault::is_encrypted(&head))
    });
    def(env, "uri", &["schemes"], |v, args| {
        let text = text(v)?;
        // Any text may be one: a scheme can be implied.
        match (args.get("schemes").filter(|all| !all.is_none()), scheme(&text)) {
            (Some(all), Some(scheme)) => Ok(items(all)?.contains(&Value::from(scheme))),
            (Some(_), None) => Ok(false),
            (None, _) => Ok(true),
        }
    });
    def(env, "url", &["schemes"], |v, args| {
        let text = text(v)?;
        let Some(scheme) = scheme(&text) else { return Ok(false) };
        let known = match args.get("schemes").filter(|all| !all.is_none()) {
            Some(all) => items(all)?.contains(&Value::from(scheme)),
            None => true,
        };
        let netloc =
            text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
        Ok(known && !netloc.is_empty())
    });
    def(env, "urn", &[], |v, _| Ok(text(v)?.to_lowercase().starts_with("urn:")));
}
