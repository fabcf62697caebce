//! The filters that Ansible's users write, with Python's arguments: by position or by name.
//!
//! What lives here: how a filter takes its arguments ([`def`]), and those about lists, mappings, numbers and formats. What does
//! not: text (`strings`), tests (`checks`), lookups.

use std::cmp::Ordering;
use std::sync::Arc;

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::chance::Chance;
use super::dump;
use super::python::{self, text, type_name, wrong};
use super::values::{from_json, to_json};

/// The arguments of one call.
pub(super) struct Args {
    filter: &'static str,
    given: Vec<(String, Value)>,
    /// What came by position beyond the named ones.
    pub(super) rest: Vec<Value>,
    /// What came by name beyond the known ones.
    pub(super) named: Vec<(String, Value)>,
}

impl Args {
    /// Brings arguments to their names. `*` takes any more, by position; `**` any more by name.
    pub(super) fn new(
        filter: &'static str,
        names: &[&'static str],
        positional: &[Value],
        kwargs: &Kwargs,
    ) -> Result<Self, Error> {
        let mut args = Self { filter, given: Vec::new(), rest: Vec::new(), named: Vec::new() };
        let star = names.iter().position(|name| *name == "*");
        let plain: Vec<&str> =
            names.iter().take(star.unwrap_or(names.len())).copied().filter(|name| *name != "**").collect();
        for (at, value) in positional.iter().enumerate() {
            match plain.get(at) {
                Some(name) => args.given.push(((*name).to_owned(), value.clone())),
                None if star.is_some() => args.rest.push(value.clone()),
                None => {
                    return Err(wrong(format!(
                        "{filter} takes at most {} arguments, not {}",
                        plain.len(),
                        positional.len()
                    )));
                }
            }
        }
        for name in kwargs.args() {
            let value: Value = kwargs.get(name)?;
            if names.contains(&name) && !name.starts_with('*') {
                args.given.push((name.to_owned(), value));
            } else if names.contains(&"**") {
                args.named.push((name.to_owned(), value));
            } else if name != "__name" {
                return Err(wrong(format!("{filter} got an unexpected keyword argument '{name}'")));
            }
        }
        if let Some((_, value)) = args.given.iter().chain(&args.named).find(|(_, value)| value.is_undefined())
            && filter != "default"
        {
            return Err(Error::new(ErrorKind::UndefinedError, value.to_string()).with_source(wrong("undefined")));
        }
        Ok(args)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.given.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn need(&self, name: &str) -> Result<&Value, Error> {
        self.get(name).ok_or_else(|| wrong(format!("{} missing 1 required positional argument: '{name}'", self.filter)))
    }

    pub(super) fn text(&self, name: &str) -> Result<String, Error> {
        text(self.need(name)?)
    }

    pub(super) fn text_or(&self, name: &str, other: &str) -> Result<String, Error> {
        Ok(self.maybe_text(name)?.unwrap_or_else(|| other.to_owned()))
    }

    pub(super) fn maybe_text(&self, name: &str) -> Result<Option<String>, Error> {
        self.get(name).filter(|value| !value.is_none()).map(text).transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Error> {
        Ok(match self.get(name) {
            Some(value) if value.as_str().is_some() => to_bool(value)?.is_true(),
            Some(value) => value.is_true(),
            None => false,
        })
    }

    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, Error> {
        match self.get(name).filter(|value| !value.is_none()) {
            Some(value) => match value.as_str().map_or_else(|| value.as_i64(), |text| text.trim().parse().ok()) {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(format!("{}: {name} takes a whole number, not {value}", self.filter))),
            },
            None => Ok(None),
        }
    }
}

/// Adds a filter with its arguments' names. A value that is not defined is an error before the filter sees it.
pub(super) fn def(
    env: &mut Environment<'static>,
    name: &'static str,
    names: &'static [&'static str],
    run: impl Fn(&mut State<'_, '_>, &Value, Args) -> Result<Value, Error> + Send + Sync + 'static,
) {
    let lenient = matches!(name, "default" | "d" | "mandatory" | "type_debug");
    env.add_filter(name, move |state: &mut State<'_, '_>, value: &Value, rest: Rest<Value>, kwargs: Kwargs| {
        if value.is_undefined() && !lenient {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        if value.kind() == ValueKind::Invalid {
            to_json(value)?;
        }
        run(state, value, Args::new(name, names, &rest, &kwargs)?)
    });
}

/// The items of a list, the keys of a mapping, the letters of a text.
///
/// # Errors
/// Nothing that can be walked through.
pub(super) fn items(value: &Value) -> Result<Vec<Value>, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if let Some(text) = value.as_str() {
        return Ok(text.chars().map(|c| Value::from(c.to_string())).collect());
    }
    if value.is_none() || value.as_object().is_none() {
        return Err(wrong(format!("'{}' object is not iterable", type_name(value))));
    }
    let all: Vec<Value> = value.try_iter()?.take(1_000_001).collect();
    if all.len() > 1_000_000 { Err(wrong("a list of more than 1,000,000 items")) } else { Ok(all) }
}

pub(super) fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

fn distinct(all: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    let mut out: Vec<Value> = Vec::new();
    for item in all {
        // Numbers that are equal have one text or are few; the text finds most of the equal ones at once.
        if item.as_str().is_some() {
            if seen.insert(item.as_str().unwrap_or_default().to_owned()) {
                out.push(item);
            }
        } else if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

/// A part of a value by a path such as `a.b.0`; what is not there is undefined.
pub(super) fn dig(value: &Value, path: &Value) -> Result<Value, Error> {
    let Some(text) = path.as_str() else {
        return Ok(value.get_item(path).unwrap_or(Value::UNDEFINED));
    };
    let mut at = value.clone();
    for key in text.split('.') {
        if at.is_undefined() {
            return Ok(at);
        }
        let by_name = at.get_item(&Value::from(key)).unwrap_or(Value::UNDEFINED);
        at = match key.parse::<i64>() {
            Ok(number) if by_name.is_undefined() => at.get_item(&Value::from(number)).unwrap_or(Value::UNDEFINED),
            _ => by_name,
        };
    }
    Ok(at)
}

/// Order as Python has it: numbers with numbers, texts with texts.
pub(super) fn compare(one: &Value, other: &Value) -> Result<Ordering, Error> {
    let number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    if is_list(one) && is_list(other) {
        let (one, other) = (items(one)?, items(other)?);
        for (a, b) in one.iter().zip(&other) {
            let order = compare(a, b)?;
            if order.is_ne() {
                return Ok(order);
            }
        }
        return Ok(one.len().cmp(&other.len()));
    }
    let fits = (number(one) && number(other))
        || (one.as_str().is_some() && other.as_str().is_some())
        || one.downcast_object_ref::<super::dates::Date>().is_some();
    if fits {
        return Ok(one.cmp(other));
    }
    Err(wrong(format!("'<' not supported between instances of '{}' and '{}'", type_name(one), type_name(other))))
}

fn sorted_by(
    all: Vec<Value>,
    key: impl Fn(&Value) -> Result<Value, Error>,
    reverse: bool,
) -> Result<Vec<Value>, Error> {
    let mut keyed = all.into_iter().map(|item| Ok((key(&item)?, item))).collect::<Result<Vec<_>, Error>>()?;
    let mut problem = None;
    keyed.sort_by(|(one, _), (other, _)| {
        let order = compare(one, other).unwrap_or_else(|error| {
            problem.get_or_insert(error);
            Ordering::Equal
        });
        if reverse { order.reverse() } else { order }
    });
    match problem {
        Some(error) => Err(error),
        None => Ok(keyed.into_iter().map(|(_, item)| item).collect()),
    }
}

/// The key by which an item is ordered.
fn sort_key(item: &Value, attribute: Option<&Value>, case: bool) -> Result<Value, Error> {
    let fold = |value: Value| match value.as_str() {
        Some(text) if !case => Value::from(text.to_lowercase()),
        _ => value,
    };
    let part = |path: &Value| -> Result<Value, Error> {
        let value = dig(item, path)?;
        if value.is_undefined() {
            return Err(Error::new(
                ErrorKind::UndefinedError,
                format!("object of type '{}' has no attribute '{path}'", type_name(item)),
            ));
        }
        Ok(fold(value))
    };
    match attribute {
        None => Ok(fold(item.clone())),
        Some(path) => match path.as_str().filter(|text| text.contains(',')) {
            Some(text) => Ok(Value::from(
                text.split(',').map(|path| part(&Value::from(path.trim()))).collect::<Result<Vec<_>, _>>()?,
            )),
            None => part(path),
        },
    }
}

pub(super) fn to_bool(value: &Value) -> Result<Value, Error> {
    Ok(match value.as_str() {
        Some(text) => {
            Value::from(matches!(text.trim().to_ascii_lowercase().as_str(), "yes" | "on" | "1" | "true" | "y" | "t"))
        }
        None => Value::from(value.kind() != ValueKind::Number || *value == Value::from(1)).pipe_bool(value),
    })
}

trait PipeBool {
    fn pipe_bool(self, of: &Value) -> Value;
}

impl PipeBool for Value {
    /// A boolean stays what it is; every other value that is no text is true only as 1.
    fn pipe_bool(self, of: &Value) -> Value {
        match of.kind() {
            ValueKind::Bool => of.clone(),
            ValueKind::Number => self,
            _ => Value::from(false),
        }
    }
}

fn to_int(value: &Value, default: Value, base: u32) -> Result<Value, Error> {
    if !(2..=36).contains(&base) && base != 0 {
        return Err(wrong("int: the base is from 2 to 36"));
    }
    match value.kind() {
        ValueKind::Bool => return Ok(Value::from(i64::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => return Ok(value.clone()),
        ValueKind::Number => {
            let float = f64::try_from(value.clone())?;
            return Ok(if float.is_finite() { Value::from(float.trunc() as i128) } else { default });
        }
        ValueKind::String => {}
        _ => return Ok(default),
    }
    let raw = value.as_str().unwrap_or_default().trim().replace('_', "").to_lowercase();
    let (sign, bare) = raw.strip_prefix('-').map_or((1, raw.strip_prefix('+').unwrap_or(&raw)), |rest| (-1, rest));
    let prefixed = match base {
        16 => bare.strip_prefix("0x"),
        8 => bare.strip_prefix("0o"),
        2 => bare.strip_prefix("0b"),
        _ => None,
    };
    if let Ok(whole) = i128::from_str_radix(prefixed.unwrap_or(bare), base.max(2)) {
        return Ok(Value::from(whole * sign));
    }
    // Python: int(float("3.7")) is 3.
    Ok(match raw.parse::<f64>() {
        Ok(float) if float.is_finite() => Value::from(float.trunc() as i128),
        _ => default,
    })
}

fn merge(one: &Value, other: &Value, recursive: bool, lists: &str) -> Result<Value, Error> {
    for value in [one, other] {
        if value.kind() != ValueKind::Map {
            return Err(wrong(format!(
                "failed to combine variables, expected dicts but got a '{}' and a '{}'",
                type_name(one),
                type_name(other)
            )));
        }
    }
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    for key in one.try_iter()? {
        pairs.push((key.clone(), one.get_item(&key)?));
    }
    for key in other.try_iter()? {
        let new = other.get_item(&key)?;
        let Some((_, old)) = pairs.iter_mut().find(|(known, _)| *known == key) else {
            pairs.push((key, new));
            continue;
        };
        if recursive && old.kind() == ValueKind::Map && new.kind() == ValueKind::Map {
            *old = merge(old, &new, recursive, lists)?;
        } else if is_list(old) && is_list(&new) && lists != "replace" {
            let (before, after) = (items(old)?, items(&new)?);
            let without = |all: &[Value], those: &[Value]| {
                all.iter().filter(|item| !those.contains(item)).cloned().collect::<Vec<_>>()
            };
            *old = Value::from(match lists {
                "keep" => before,
                "append" => [before, after].concat(),
                "prepend" => [after, before].concat(),
                "append_rp" => [without(&before, &after), after].concat(),
                _ => [after.clone(), without(&before, &after)].concat(),
            });
        } else {
            *old = new;
        }
    }
    Ok(Value::from_pairs(pairs))
}

fn combine(value: &Value, args: &Args) -> Result<Value, Error> {
    let lists =
        args.named.iter().find(|(name, _)| name == "list_merge").map_or(Ok("replace".to_owned()), |(_, v)| text(v))?;
    if !["replace", "keep", "append", "prepend", "append_rp", "prepend_rp"].contains(&lists.as_str()) {
        return Err(wrong(format!(
            "'list_merge' argument can only be equal to one of replace, keep, append, prepend, append_rp, prepend_rp, not {lists}"
        )));
    }
    let recursive = args.named.iter().any(|(name, value)| name == "recursive" && value.is_true());
    if let Some((name, _)) = args.named.iter().find(|(name, _)| name != "list_merge" && name != "recursive") {
        return Err(wrong(format!(
            "'recursive' and 'list_merge' are the only valid keyword arguments of combine, not {name}"
        )));
    }
    let mut all: Vec<Value> = Vec::new();
    for one in std::iter::once(value).chain(&args.rest) {
        if is_list(one) { all.extend(flat(&items(one)?, None, true)?) } else { all.push(one.clone()) }
    }
    let mut parts = all.into_iter().filter(|part| !(part.kind() == ValueKind::Map && part.len() == Some(0)));
    let Some(first) = parts.next() else { return Ok(Value::from_pairs(Vec::<(String, Value)>::new())) };
    if first.kind() != ValueKind::Map {
        return Err(wrong(format!("failed to combine variables, expected dicts but got a '{}'", type_name(&first))));
    }
    parts.try_fold(first, |sum, part| merge(&sum, &part, recursive, &lists))
}

pub(super) fn flat(all: &[Value], levels: Option<i64>, skip_nulls: bool) -> Result<Vec<Value>, Error> {
    let mut out = Vec::new();
    for item in all {
        let null = item.is_none() || matches!(item.as_str(), Some("None" | "null"));
        if skip_nulls && null {
            continue;
        }
        if is_list(item) && levels.is_none_or(|levels| levels > 0) {
            out.extend(flat(&items(item)?, levels.map(|levels| levels - 1), skip_nulls)?);
        } else {
            out.push(item.clone());
        }
    }
    Ok(out)
}

pub(super) fn subelements(all: &Value, path: &Value, skip: bool) -> Result<Vec<Value>, Error> {
    let elements = if all.kind() == ValueKind::Map {
        items(all)?.iter().map(|key| all.get_item(key)).collect::<Result<Vec<_>, _>>()?
    } else if is_list(all) {
        items(all)?
    } else {
        return Err(wrong("obj must be a list of dicts or a nested dict"));
    };
    let keys: Vec<String> = match path.as_str() {
        Some(text) => text.split('.').map(str::to_owned).collect(),
        None => items(path)?.iter().map(text).collect::<Result<_, _>>()?,
    };
    let mut out = Vec::new();
    for element in elements {
        let mut values = element.clone();
        let mut missing = false;
        for key in &keys {
            if !skip && values.kind() != ValueKind::Map && !values.is_undefined() {
                return Err(wrong(format!(
                    "the key before {key} should point to a dictionary, got '{}'",
                    text(&values)?
                )));
            }
            values = values.get_attr(key).unwrap_or(Value::UNDEFINED);
            if values.is_undefined() {
                if !skip {
                    return Err(wrong(format!("could not find '{key}' key in iterated item '{}'", text(&element)?)));
                }
                missing = true;
                break;
            }
        }
        if missing {
            continue;
        }
        if !is_list(&values) {
            return Err(wrong(format!("the key {} should point to a list, got '{}'", keys.join("."), text(&values)?)));
        }
        out.extend(items(&values)?.into_iter().map(|value| Value::from(vec![element.clone(), value])));
    }
    Ok(out)
}

/// Python's `a % b`: a format where `a` is a text.
fn modulo(one: &Value, other: &Value) -> Result<Value, Error> {
    if one.is_undefined() || other.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if let Some(form) = one.as_str() {
        let named = (other.kind() == ValueKind::Map).then_some(other);
        let all = if other.is_tuple() { items(other)? } else { vec![other.clone()] };
        return python::percent(form, &all, named).map(Value::from);
    }
    if let (true, true) = (whole(one), whole(other)) {
        let (one, other) = (i128::try_from(one.clone())?, i128::try_from(other.clone())?);
        return one
            .checked_rem_euclid(other)
            .map(|rest| {
                // Python's remainder has the sign of the divisor.
                Value::from(if rest != 0 && other < 0 { rest + other } else { rest })
            })
            .ok_or_else(|| wrong("integer modulo by zero"));
    }
    let (one, other) = (f64::try_from(one.clone())?, f64::try_from(other.clone())?);
    if other == 0.0 {
        return Err(wrong("float modulo"));
    }
    Ok(Value::from(one - other * (one / other).floor()))
}

fn whole(value: &Value) -> bool {
    value.kind() == ValueKind::Bool || value.is_integer()
}

fn minus(one: &Value, other: &Value) -> Result<Value, Error> {
    if let Some(answer) = super::dates::minus(one, other) {
        return answer;
    }
    if whole(one) && whole(other) {
        return Ok(Value::from(i128::try_from(one.clone())? - i128::try_from(other.clone())?));
    }
    Ok(Value::from(f64::try_from(one.clone())? - f64::try_from(other.clone())?))
}

fn numeric(value: &Value) -> Result<f64, Error> {
    f64::try_from(value.clone()).map_err(|_| {
        wrong(format!("this filter can only be used on numbers: must be real number, not {}", type_name(value)))
    })
}

fn sum(all: Vec<Value>, start: Value) -> Result<Value, Error> {
    let mut total = start;
    for item in all {
        total = if is_list(&total) && is_list(&item) {
            Value::from([items(&total)?, items(&item)?].concat())
        } else if whole(&total) && whole(&item) {
            Value::from(i128::try_from(total)?.saturating_add(i128::try_from(item)?))
        } else if total.as_str().is_some() || item.as_str().is_some() || is_list(&total) || is_list(&item) {
            return Err(wrong(format!(
                "unsupported operand type(s) for +: '{}' and '{}'",
                type_name(&total),
                type_name(&item)
            )));
        } else {
            Value::from(numeric(&total)? + numeric(&item)?)
        };
    }
    Ok(total)
}

fn rounded(number: f64, precision: i64, method: &str) -> Result<f64, Error> {
    let scale = 10f64.powi(i32::try_from(precision).unwrap_or(0));
    Ok(match method {
        "common" if precision > 0 => {
            format!("{number:.*}", usize::try_from(precision).unwrap_or(0)).parse().unwrap_or(number)
        }
        "common" => (number * scale).round_ties_even() / scale,
        "ceil" => (number * scale).ceil() / scale,
        "floor" => (number * scale).floor() / scale,
        other => return Err(wrong(format!("method must be common, ceil or floor, not {other}"))),
    })
}

fn keep(state: &mut State<'_, '_>, value: &Value, args: &Args, attribute: bool, want: bool) -> Result<Value, Error> {
    let mut rest = args.rest.iter();
    let path = if attribute { Some(rest.next().ok_or_else(|| wrong("the attribute is missing"))?) } else { None };
    let test = rest.next().map(text).transpose()?.map(|name| short(&name).to_owned());
    let more: Vec<Value> = rest.cloned().collect();
    let mut out = Vec::new();
    for item in items(value)? {
        let seen = match path {
            Some(path) => dig(&item, path)?,
            None => item.clone(),
        };
        let holds = match &test {
            Some(test) => {
                let mut words = vec![seen];
                words.extend(more.iter().cloned());
                if !args.named.is_empty() {
                    words
                        .push(Value::from(args.named.iter().map(|(k, v)| (k.as_str(), v.clone())).collect::<Kwargs>()));
                }
                state.perform_test(test, &words)?
            }
            None if seen.is_undefined() => {
                let path = path.map(ToString::to_string).unwrap_or_default();
                return Err(Error::new(
                    ErrorKind::UndefinedError,
                    format!("object of type '{}' has no attribute '{path}'", type_name(&item)),
                ));
            }
            None => seen.is_true(),
        };
        if holds == want {
            out.push(item);
        }
    }
    Ok(Value::from(out))
}

fn short(name: &str) -> &str {
    ["ansible.builtin.", "ansible.legacy."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

fn map(state: &mut State<'_, '_>, value: &Value, args: &Args) -> Result<Value, Error> {
    let attribute = args.named.iter().find(|(name, _)| name == "attribute").map(|(_, path)| path.clone());
    let mut out = Vec::new();
    if let Some(path) = attribute {
        let default = args.named.iter().find(|(name, _)| name == "default").map(|(_, value)| value.clone());
        for item in items(value)? {
            let part = dig(&item, &path)?;
            out.push(if part.is_undefined() { default.clone().unwrap_or(part) } else { part });
        }
        return Ok(Value::from(out));
    }
    let Some(name) = args.rest.first() else { return Err(wrong("map requires a filter argument")) };
    let name = text(name)?;
    for item in items(value)? {
        let mut words = vec![item];
        words.extend(args.rest.iter().skip(1).cloned());
        if !args.named.is_empty() {
            words.push(Value::from(args.named.iter().map(|(k, v)| (k.as_str(), v.clone())).collect::<Kwargs>()));
        }
        out.push(state.apply_filter(short(&name), &words)?);
    }
    Ok(Value::from(out))
}

fn join(value: &Value, by: &str, attribute: Option<&Value>) -> Result<String, Error> {
    let mut parts = Vec::new();
    for item in items(value)? {
        parts.push(text(&match attribute {
            Some(path) => dig(&item, path)?,
            None => item,
        })?);
    }
    let out = parts.join(by);
    if out.len() > python::LONGEST { Err(wrong("the text that join makes is longer than 4 MiB")) } else { Ok(out) }
}

/// What `groupby` gives for one value: two items, with names for them.
#[derive(Debug)]
struct Grouped(Value, Value);

impl Object for Grouped {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match (key.as_str(), key.as_usize()) {
            (Some("grouper"), _) | (_, Some(0)) => Some(self.0.clone()),
            (Some("list"), _) | (_, Some(1)) => Some(self.1.clone()),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}

fn tuples(all: Vec<Vec<Value>>) -> Value {
    Value::from(all.into_iter().map(Value::from).collect::<Vec<_>>())
}

/// How many items a filter that multiplies may make.
const MOST: usize = 200_000;

fn product(lists: &[Vec<Value>]) -> Result<Vec<Vec<Value>>, Error> {
    let size = lists.iter().try_fold(1usize, |size, list| size.checked_mul(list.len())).unwrap_or(usize::MAX);
    if size > MOST {
        return Err(wrong("product: more than 200,000 items"));
    }
    let mut out: Vec<Vec<Value>> = vec![Vec::new()];
    for list in lists {
        out = out
            .iter()
            .flat_map(|head| list.iter().map(move |item| [head.clone(), vec![item.clone()]].concat()))
            .collect();
    }
    Ok(out)
}

/// All ways to take `count` of `all`, in the order of their places.
fn taken(all: &[Value], count: usize, ordered: bool) -> Result<Vec<Vec<Value>>, Error> {
    let mut out: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..count {
        let mut next = Vec::new();
        for head in &out {
            for at in 0..all.len() {
                let fits = if ordered { !head.contains(&at) } else { head.last().is_none_or(|last| at > *last) };
                if fits {
                    next.push([head.clone(), vec![at]].concat());
                }
            }
            if next.len() > MOST {
                return Err(wrong("more than 200,000 items"));
            }
        }
        out = next;
    }
    Ok(out.into_iter().map(|places| places.into_iter().filter_map(|at| all.get(at).cloned()).collect()).collect())
}

/// `joiner(',')`: nothing at the first call, then always the same.
#[derive(Debug)]
struct Joiner {
    between: String,
    begun: std::sync::atomic::AtomicBool,
}

impl minijinja::value::Object for Joiner {
    fn call(self: &std::sync::Arc<Self>, _: &mut minijinja::State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        let begun = self.begun.swap(true, std::sync::atomic::Ordering::Relaxed);
        Ok(Value::from(if begun { self.between.as_str() } else { "" }))
    }
}

/// `cycler('a', 'b')`: one after the other, again and again.
#[derive(Debug)]
struct Cycler {
    all: Vec<Value>,
    at: std::sync::atomic::AtomicUsize,
}

impl Cycler {
    fn here(&self) -> Value {
        let at = self.at.load(std::sync::atomic::Ordering::Relaxed);
        self.all.get(at % self.all.len().max(1)).cloned().unwrap_or(Value::UNDEFINED)
    }
}

impl minijinja::value::Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("current")).then(|| self.here())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut minijinja::State<'_, '_>,
        method: &str,
        _: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "next" => {
                let now = self.here();
                self.at.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(now)
            }
            "reset" => {
                self.at.store(0, std::sync::atomic::Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::new(ErrorKind::UnknownMethod, format!("a cycler has next and reset, not {method}"))),
        }
    }
}

/// Adds them all to an environment without builtins.
pub(super) fn add(env: &mut Environment<'static>) {
    use minijinja::functions;
    env.add_function("range", functions::range);
    env.add_function("namespace", functions::namespace);
    env.add_function("dict", |value: Option<Value>, more: Kwargs| -> Result<Value, Error> {
        let mut pairs: Vec<(Value, Value)> = Vec::new();
        if let Some(value) = value {
            if value.kind() == ValueKind::Map {
                for key in value.try_iter()? {
                    pairs.push((key.clone(), value.get_item(&key)?));
                }
            } else {
                for pair in items(&value)? {
                    pairs.push((pair.get_item_by_index(0)?, pair.get_item_by_index(1)?));
                }
            }
        }
        for name in more.args() {
            pairs.push((Value::from(name), more.get::<Value>(name)?));
        }
        Ok(Value::from_pairs(pairs))
    });
    env.add_function("joiner", |between: Option<String>| {
        Value::from_object(Joiner { between: between.unwrap_or_else(|| ", ".to_owned()), begun: Default::default() })
    });
    env.add_function("cycler", |all: Rest<Value>| -> Result<Value, Error> {
        if all.is_empty() {
            return Err(wrong("at least one item has to be provided"));
        }
        Ok(Value::from_object(Cycler { all: all.to_vec(), at: Default::default() }))
    });
    env.add_function("undef", |hint: Option<Value>, more: Kwargs| -> Result<Value, Error> {
        let _ = (hint, more.get::<Option<Value>>("hint")?);
        Ok(Value::UNDEFINED)
    });
    env.add_function("now", |more: Kwargs| -> Result<Value, Error> {
        let form: Option<String> = more.get("fmt")?;
        super::dates::now(more.get::<Option<bool>>("utc")?.unwrap_or(false), form.as_deref())
    });
    env.add_function("__mod", |one: &Value, other: &Value| modulo(one, other));
    env.add_function("__each", |all: &Value| match all.as_str() {
        Some(text) => text.chars().map(|c| Value::from(c.to_string())).collect(),
        None => all.clone(),
    });
    env.add_function("__minus", |one: &Value, other: &Value| minus(one, other));
    env.add_function("__cat", |all: Rest<Value>| -> Result<String, Error> {
        let mut out = String::new();
        for part in all.iter() {
            out.push_str(&text(part)?);
        }
        if out.len() > python::LONGEST { Err(wrong("this text is longer than 4 MiB")) } else { Ok(out) }
    });
    env.add_function("__dig", |root: &Value, keys: Rest<Value>| -> Value {
        let mut at = root.clone();
        for key in keys.iter() {
            if at.is_undefined() || key.is_undefined() {
                return Value::UNDEFINED;
            }
            at = at.get_item(key).unwrap_or(Value::UNDEFINED);
        }
        at
    });
    env.add_filter("__need", |value: &Value, name: &str| -> Result<Value, Error> {
        if value.is_undefined() {
            return Err(Error::new(ErrorKind::UndefinedError, format!("{name} is not defined")));
        }
        Ok(value.clone())
    });

    for name in ["default", "d"] {
        def(env, name, &["default_value", "boolean"], |_, v, args| {
            let missing = v.is_undefined() || (args.flag("boolean")? && !v.is_true());
            Ok(if missing { args.get("default_value").cloned().unwrap_or_else(|| Value::from("")) } else { v.clone() })
        });
    }
    env.add_filter("mandatory", |value: &Value, rest: Rest<Value>, kwargs: Kwargs| -> Result<Value, Error> {
        let name: Option<String> = kwargs.get("__name")?;
        let said = match rest.first() {
            Some(message) => Some(text(message)?),
            None => kwargs.get::<Option<String>>("msg")?,
        };
        if value.is_undefined() {
            let name = name.map_or_else(String::new, |name| format!(" '{name}'"));
            return Err(wrong(said.unwrap_or_else(|| format!("Mandatory variable{name} not defined."))));
        }
        Ok(value.clone())
    });
    def(env, "type_debug", &[], |_, v, _| Ok(Value::from(type_name(v))));
    def(env, "bool", &[], |_, v, _| to_bool(v));
    def(env, "int", &["default", "base"], |_, v, args| {
        let base = args.int("base")?.unwrap_or(10);
        to_int(v, args.get("default").cloned().unwrap_or(Value::from(0)), u32::try_from(base).unwrap_or(1))
    });
    def(env, "float", &["default"], |_, v, args| {
        let number = match v.as_str() {
            Some(text) => text.trim().replace('_', "").parse().ok(),
            None if v.kind() == ValueKind::Bool => Some(f64::from(u8::from(v.is_true()))),
            None => f64::try_from(v.clone()).ok(),
        };
        Ok(number.map_or_else(|| args.get("default").cloned().unwrap_or(Value::from(0.0)), Value::from))
    });
    def(env, "abs", &[], |_, v, _| {
        if whole(v) {
            Ok(Value::from(i128::try_from(v.clone())?.saturating_abs()))
        } else {
            Ok(Value::from(numeric(v)?.abs()))
        }
    });
    def(env, "round", &["precision", "method"], |_, v, args| {
        Ok(Value::from(rounded(numeric(v)?, args.int("precision")?.unwrap_or(0), &args.text_or("method", "common")?)?))
    });
    def(env, "log", &["base"], |_, v, args| {
        let number = numeric(v)?;
        let base = args.get("base").map(numeric).transpose()?;
        if number <= 0.0 {
            return Err(wrong("math domain error"));
        }
        Ok(Value::from(match base {
            None => number.ln(),
            Some(10.0) => number.log10(),
            Some(2.0) => number.log2(),
            Some(base) => number.ln() / base.ln(),
        }))
    });
    def(env, "pow", &["exp"], |_, v, args| Ok(Value::from(numeric(v)?.powf(numeric(args.need("exp")?)?))));
    def(env, "root", &["base"], |_, v, args| {
        let base = args.get("base").map(numeric).transpose()?.unwrap_or(2.0);
        let number = numeric(v)?;
        Ok(Value::from(if base == 2.0 {
            number.sqrt()
        } else if base == 3.0 {
            number.cbrt()
        } else {
            number.powf(1.0 / base)
        }))
    });
    for name in ["length", "count"] {
        def(env, name, &[], |_, v, _| match v.as_str() {
            Some(text) => Ok(Value::from(text.chars().count())),
            None => match v.len().filter(|_| v.as_object().is_some()) {
                Some(length) => Ok(Value::from(length)),
                None if is_list(v) => Ok(Value::from(items(v)?.len())),
                None => Err(wrong(format!("object of type '{}' has no len()", type_name(v)))),
            },
        });
    }
    def(env, "first", &[], |_, v, _| {
        items(v)?.into_iter().next().ok_or_else(|| wrong("No first item, sequence was empty."))
    });
    def(env, "last", &[], |_, v, _| items(v)?.pop().ok_or_else(|| wrong("No last item, sequence was empty.")));
    def(env, "list", &[], |_, v, _| Ok(Value::from(items(v)?)));
    def(env, "reverse", &[], |_, v, _| match v.as_str() {
        Some(text) => Ok(Value::from(text.chars().rev().collect::<String>())),
        None => Ok(Value::from(items(v)?.into_iter().rev().collect::<Vec<_>>())),
    });
    def(env, "join", &["d", "attribute"], |_, v, args| {
        Ok(Value::from(join(v, &args.text_or("d", "")?, args.get("attribute").filter(|v| !v.is_none()))?))
    });
    def(env, "sort", &["reverse", "case_sensitive", "attribute"], |_, v, args| {
        let case = args.flag("case_sensitive")?;
        Ok(Value::from(sorted_by(
            items(v)?,
            |item| sort_key(item, args.get("attribute"), case),
            args.flag("reverse")?,
        )?))
    });
    for (name, reverse) in [("min", false), ("max", true)] {
        def(env, name, &["case_sensitive", "attribute"], move |_, v, args| {
            let case = args.flag("case_sensitive")?;
            let all = sorted_by(items(v)?, |item| sort_key(item, args.get("attribute"), case), reverse)?;
            all.into_iter().next().ok_or_else(|| wrong("No aggregated item, sequence was empty."))
        });
    }
    def(env, "sum", &["attribute", "start"], |_, v, args| {
        let all = match args.get("attribute").filter(|path| !path.is_none()) {
            Some(path) => items(v)?.iter().map(|item| dig(item, path)).collect::<Result<Vec<_>, _>>()?,
            None => items(v)?,
        };
        sum(all, args.get("start").cloned().unwrap_or(Value::from(0)))
    });
    def(env, "unique", &["case_sensitive", "attribute"], |_, v, args| {
        let case = args.flag("case_sensitive")?;
        let path = args.get("attribute").filter(|path| !path.is_none());
        let mut seen: Vec<Value> = Vec::new();
        let mut out = Vec::new();
        let told = args.get("case_sensitive").is_some_and(|told| !told.is_none());
        for item in items(v)? {
            if told && path.is_none() && !case && item.kind() == ValueKind::Map {
                return Err(wrong("Jinja2's unique filter failed and we cannot fall back: unhashable type: 'dict'"));
            }
            let key = match path {
                Some(path) => dig(&item, path)?,
                None => item.clone(),
            };
            let key = match key.as_str() {
                Some(text) if !case => Value::from(text.to_lowercase()),
                _ => key,
            };
            if !seen.contains(&key) {
                seen.push(key);
                out.push(item);
            }
        }
        Ok(Value::from(out))
    });
    def(env, "select", &["*", "**"], |state, v, args| keep(state, v, &args, false, true));
    def(env, "reject", &["*", "**"], |state, v, args| keep(state, v, &args, false, false));
    def(env, "selectattr", &["*", "**"], |state, v, args| keep(state, v, &args, true, true));
    def(env, "rejectattr", &["*", "**"], |state, v, args| keep(state, v, &args, true, false));
    def(env, "map", &["*", "**"], |state, v, args| map(state, v, &args));
    def(env, "groupby", &["attribute", "default", "case_sensitive"], |_, v, args| {
        let path = args.need("attribute")?;
        let default = args.get("default").filter(|value| !value.is_none());
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for item in items(v)? {
            let mut key = dig(&item, path)?;
            if key.is_undefined() {
                key = default.cloned().ok_or_else(|| {
                    Error::new(
                        ErrorKind::UndefinedError,
                        format!("object of type '{}' has no attribute '{path}'", type_name(&item)),
                    )
                })?;
            }
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, group)) => group.push(item),
                None => groups.push((key, vec![item])),
            }
        }
        let all: Vec<Value> =
            groups.into_iter().map(|(key, group)| Value::from_object(Grouped(key, Value::from(group)))).collect();
        Ok(Value::from(sorted_by(all, |pair| sort_key(&pair.get_item_by_index(0)?, None, false), false)?))
    });
    def(env, "batch", &["linecount", "fill_with"], |_, v, args| {
        let size = usize::try_from(args.int("linecount")?.unwrap_or(0)).unwrap_or(0);
        if size == 0 {
            return Err(wrong("batch: linecount is 1 or more"));
        }
        let mut out: Vec<Vec<Value>> = items(v)?.chunks(size).map(<[Value]>::to_vec).collect();
        if let (Some(fill), Some(last)) = (args.get("fill_with").filter(|fill| !fill.is_none()), out.last_mut()) {
            last.resize(size, fill.clone());
        }
        Ok(tuples(out))
    });
    def(env, "slice", &["slices", "fill_with"], |_, v, args| {
        let count = usize::try_from(args.int("slices")?.unwrap_or(0)).unwrap_or(0);
        if count == 0 || count > MOST {
            return Err(wrong("slice: slices is 1 or more"));
        }
        let all = items(v)?;
        let (each, more) = (all.len() / count, all.len() % count);
        let mut at = 0;
        let mut out = Vec::new();
        for slice in 0..count {
            let size = each + usize::from(slice < more);
            let mut part: Vec<Value> = all.iter().skip(at).take(size).cloned().collect();
            at += size;
            if let (Some(fill), true) =
                (args.get("fill_with").filter(|fill| !fill.is_none()), slice >= more && more > 0)
            {
                part.push(fill.clone());
            }
            out.push(part);
        }
        Ok(tuples(out))
    });
    def(env, "items", &[], |_, v, _| {
        Ok(Value::from(
            items(v)?
                .into_iter()
                .map(|key| Ok(Value::from(vec![key.clone(), v.get_item(&key)?])))
                .collect::<Result<Vec<_>, Error>>()?,
        ))
    });
    def(env, "dictsort", &["case_sensitive", "by", "reverse"], |_, v, args| {
        if v.kind() != ValueKind::Map {
            return Err(wrong(format!("dictsort wants a mapping, not {}", type_name(v))));
        }
        let at = match args.text_or("by", "key")?.as_str() {
            "key" => 0,
            "value" => 1,
            _ => return Err(wrong("You can only sort by either \"key\" or \"value\"")),
        };
        let pairs = items(v)?
            .into_iter()
            .map(|key| Ok(Value::from(vec![key.clone(), v.get_item(&key)?])))
            .collect::<Result<Vec<_>, Error>>()?;
        let case = args.flag("case_sensitive")?;
        Ok(Value::from(sorted_by(
            pairs,
            |pair| sort_key(&pair.get_item_by_index(at)?, None, case),
            args.flag("reverse")?,
        )?))
    });
    def(env, "attr", &["name"], |_, v, args| Ok(v.get_attr(&args.text("name")?).unwrap_or(Value::UNDEFINED)));
    def(env, "ternary", &["true_val", "false_val", "none_val"], |_, v, args| {
        if v.is_none()
            && let Some(none) = args.get("none_val").filter(|none| !none.is_none())
        {
            return Ok(none.clone());
        }
        Ok(args.need(if v.is_true() { "true_val" } else { "false_val" })?.clone())
    });
    def(env, "combine", &["*", "**"], |_, v, args| combine(v, &args));
    def(env, "dict2items", &["key_name", "value_name"], |_, v, args| {
        if v.kind() != ValueKind::Map {
            return Err(wrong(format!("dict2items requires a dictionary, got {} instead.", type_name(v))));
        }
        let (key_name, value_name) = (args.text_or("key_name", "key")?, args.text_or("value_name", "value")?);
        let mut out = Vec::new();
        for key in v.try_iter()? {
            let value = v.get_item(&key)?;
            out.push(Value::from_pairs([(key_name.clone(), key), (value_name.clone(), value)]));
        }
        Ok(Value::from(out))
    });
    def(env, "items2dict", &["key_name", "value_name"], |_, v, args| {
        let (key_name, value_name) = (args.text_or("key_name", "key")?, args.text_or("value_name", "value")?);
        let mut pairs = Vec::new();
        for item in items(v)? {
            if item.kind() != ValueKind::Map {
                return Err(wrong(format!("items2dict requires a list of dictionaries, got {} instead.", text(v)?)));
            }
            let (key, value) = (item.get_attr(&key_name)?, item.get_attr(&value_name)?);
            if key.is_undefined() || value.is_undefined() {
                return Err(wrong(format!(
                    "items2dict requires each dictionary in the list to contain the keys '{key_name}' and '{value_name}', got {} instead.",
                    text(&item)?
                )));
            }
            pairs.push((key, value));
        }
        Ok(Value::from_pairs(pairs))
    });
    def(env, "rekey_on_member", &["key", "duplicates"], |_, v, args| {
        let key = args.text("key")?;
        let overwrite = match args.text_or("duplicates", "error")?.as_str() {
            "error" => false,
            "overwrite" => true,
            other => return Err(wrong(format!("duplicates parameter to rekey_on_member has unknown value {other}"))),
        };
        let all = if v.kind() == ValueKind::Map {
            items(v)?.iter().map(|name| v.get_item(name)).collect::<Result<Vec<_>, _>>()?
        } else if is_list(v) {
            items(v)?
        } else {
            return Err(wrong("Type is not a valid list, set, or dict"));
        };
        let mut pairs: Vec<(Value, Value)> = Vec::new();
        for item in all {
            if item.kind() != ValueKind::Map {
                return Err(wrong(format!("List item is not a valid dict: {}", text(&item)?)));
            }
            let member = item.get_attr(&key)?;
            if member.is_undefined() {
                return Err(wrong(format!("Key {key} was not found")));
            }
            match pairs.iter_mut().find(|(known, _)| *known == member) {
                Some((_, old)) if overwrite => *old = item,
                Some(_) => {
                    return Err(wrong(format!("Key {} is not unique, cannot convert to dict", text(&member)?)));
                }
                None => pairs.push((member, item)),
            }
        }
        Ok(Value::from_pairs(pairs))
    });
    def(env, "flatten", &["levels", "skip_nulls"], |_, v, args| {
        let skip = args.get("skip_nulls").is_none_or(Value::is_true);
        Ok(Value::from(flat(&items(v)?, args.int("levels")?, skip)?))
    });
    def(env, "subelements", &["subelements", "skip_missing"], |_, v, args| {
        Ok(Value::from(subelements(v, args.need("subelements")?, args.flag("skip_missing")?)?))
    });
    def(env, "extract", &["container", "morekeys"], |_, v, args| {
        let mut at = args.need("container")?.get_item(v)?;
        if let Some(more) = args.get("morekeys").filter(|more| !more.is_none()) {
            let keys = if is_list(more) { items(more)? } else { vec![more.clone()] };
            for key in keys {
                at = at.get_item(&key)?;
            }
        }
        Ok(at)
    });
    def(env, "union", &["other"], |_, v, args| {
        Ok(Value::from(distinct([items(v)?, items(args.need("other")?)?].concat())))
    });
    def(env, "intersect", &["other"], |_, v, args| {
        let other = items(args.need("other")?)?;
        Ok(Value::from(distinct(items(v)?.into_iter().filter(|item| other.contains(item)))))
    });
    def(env, "difference", &["other"], |_, v, args| {
        let other = items(args.need("other")?)?;
        Ok(Value::from(distinct(items(v)?.into_iter().filter(|item| !other.contains(item)))))
    });
    def(env, "symmetric_difference", &["other"], |_, v, args| {
        let (one, other) = (items(v)?, items(args.need("other")?)?);
        let left = one.iter().filter(|item| !other.contains(item)).cloned();
        let right = other.iter().filter(|item| !one.contains(item)).cloned();
        Ok(Value::from(distinct(left.chain(right))))
    });
    def(env, "zip", &["*", "strict"], |_, v, args| {
        let lists = std::iter::once(v).chain(&args.rest).map(items).collect::<Result<Vec<_>, _>>()?;
        let count = lists.iter().map(Vec::len).min().unwrap_or(0);
        Ok(tuples((0..count).map(|at| lists.iter().filter_map(|list| list.get(at).cloned()).collect()).collect()))
    });
    def(env, "zip_longest", &["*", "fillvalue"], |_, v, args| {
        let fill = args.get("fillvalue").cloned().unwrap_or(Value::from(()));
        let lists = std::iter::once(v).chain(&args.rest).map(items).collect::<Result<Vec<_>, _>>()?;
        let count = lists.iter().map(Vec::len).max().unwrap_or(0);
        Ok(tuples(
            (0..count)
                .map(|at| lists.iter().map(|list| list.get(at).cloned().unwrap_or_else(|| fill.clone())).collect())
                .collect(),
        ))
    });
    def(env, "product", &["*", "repeat"], |_, v, args| {
        let lists = std::iter::once(v).chain(&args.rest).map(items).collect::<Result<Vec<_>, _>>()?;
        let times = usize::try_from(args.int("repeat")?.unwrap_or(1)).unwrap_or(1).min(20);
        let all: Vec<Vec<Value>> = std::iter::repeat_n(lists, times).flatten().collect();
        Ok(tuples(product(&all)?))
    });
    for (name, ordered) in [("permutations", true), ("combinations", false)] {
        def(env, name, &["r"], move |_, v, args| {
            let all = items(v)?;
            let count = match args.int("r")? {
                Some(count) => usize::try_from(count).unwrap_or(0),
                None => all.len(),
            };
            Ok(tuples(taken(&all, count, ordered)?))
        });
    }
    def(env, "random", &["end", "start", "step", "seed"], |_, v, args| {
        let mut chance = Chance::of(args.get("seed"))?;
        if v.kind() == ValueKind::Number {
            let end = v.as_i64().ok_or_else(|| wrong("random can only be used on sequences and integers"))?;
            let start = args.int("start")?.unwrap_or(0);
            let step = args.int("step")?.filter(|step| *step != 0).unwrap_or(1);
            let width = i128::from(end) - i128::from(start);
            let count = (width + i128::from(step) - i128::from(step.signum())) / i128::from(step);
            let count = u64::try_from(count).unwrap_or(0);
            if count == 0 {
                return Err(wrong("empty range for randrange()"));
            }
            let drawn = i128::from(start) + i128::from(chance.below(count)) * i128::from(step);
            return Ok(Value::from(i64::try_from(drawn).unwrap_or(start)));
        }
        if ["start", "step"].iter().any(|name| args.get(name).is_some_and(Value::is_true)) {
            return Err(wrong("start and step can only be used with integer values"));
        }
        let all = items(v)?;
        let at = chance.below(all.len() as u64) as usize;
        all.get(at).cloned().ok_or_else(|| wrong("Cannot choose from an empty sequence"))
    });
    def(env, "shuffle", &["seed"], |_, v, args| {
        let mut all = items(v)?;
        // A seed that is nothing is none, as in Ansible.
        let mut chance = Chance::of(args.get("seed").filter(|seed| seed.is_true()))?;
        for at in (1..all.len()).rev() {
            all.swap(at, chance.below(at as u64 + 1) as usize);
        }
        Ok(Value::from(all))
    });
    def(
        env,
        "to_json",
        &["*", "indent", "sort_keys", "ensure_ascii", "separators", "vault_to_text", "preprocess_unsafe"],
        |_, v, args| {
            let ascii = args.get("ensure_ascii").is_none_or(Value::is_true);
            let indent = args.int("indent")?.and_then(|indent| usize::try_from(indent).ok());
            let between = match args.get("separators").filter(|pair| !pair.is_none()) {
                Some(pair) => match items(pair)?.as_slice() {
                    [comma, colon] => Some((text(comma)?, text(colon)?)),
                    _ => return Err(wrong("to_json: separators are two texts")),
                },
                None => None,
            };
            let between = between.as_ref().map(|(comma, colon)| (comma.as_str(), colon.as_str()));
            Ok(Value::from(dump::json_between(&to_json(v)?, indent, args.flag("sort_keys")?, ascii, between)))
        },
    );
    def(env, "tojson", &["indent"], |_, v, args| {
        let indent = args.int("indent")?.and_then(|indent| usize::try_from(indent).ok());
        Ok(Value::from(dump::json(&to_json(v)?, indent, true, true)))
    });
    def(env, "to_nice_json", &["indent", "sort_keys", "ensure_ascii", "separators"], |_, v, args| {
        let ascii = args.get("ensure_ascii").is_none_or(Value::is_true);
        let sort = args.get("sort_keys").is_none_or(Value::is_true);
        let indent = usize::try_from(args.int("indent")?.unwrap_or(4)).unwrap_or(4);
        Ok(Value::from(dump::json(&to_json(v)?, Some(indent), sort, ascii)))
    });
    def(env, "from_json", &["profile"], |_, v, _| {
        let text = v.as_str().ok_or_else(|| wrong(format!("from_json: a text is needed, not {}", type_name(v))))?;
        serde_json::from_str::<serde_json::Value>(text)
            .map(|value| from_json(&value))
            .map_err(|error| wrong(format!("from_json: this text is not JSON: {error}")))
    });
    for (name, indent, flow) in [("to_yaml", 2, dump::Flow::Leaves), ("to_nice_yaml", 4, dump::Flow::Never)] {
        def(
            env,
            name,
            &["indent", "sort_keys", "width", "default_flow_style", "allow_unicode", "explicit_start", "explicit_end"],
            move |_, v, args| {
                let style = dump::Style {
                    indent: usize::try_from(args.int("indent")?.unwrap_or(indent)).unwrap_or(2).clamp(1, 32),
                    width: usize::try_from(args.int("width")?.unwrap_or(80)).unwrap_or(80),
                    sort: args.get("sort_keys").is_none_or(Value::is_true),
                    flow: match args.get("default_flow_style") {
                        // None given is what the library does where nothing is said.
                        Some(flow) if flow.is_none() => dump::Flow::Leaves,
                        Some(flow) if flow.is_true() => dump::Flow::All,
                        Some(_) => dump::Flow::Never,
                        None => flow,
                    },
                };
                let (start, end) = (args.flag("explicit_start")?, args.flag("explicit_end")?);
                Ok(Value::from(dump::yaml(&to_json(v)?, &style, start, end)))
            },
        );
    }
    def(env, "fileglob", &[], |_, v, _| Ok(Value::from(super::lookups::fileglob(&text(v)?))));
    def(env, "from_yaml", &[], |_, v, _| match v.as_str() {
        Some(text) => crate::settings::yaml::Document::read("the text of from_yaml", text)
            .map(|document| from_json(&document.root.to_json()))
            .map_err(|failure| wrong(format!("from_yaml: {}", failure.what))),
        None => Ok(v.clone()),
    });
    def(env, "from_yaml_all", &[], |_, v, _| {
        let text = text(v)?;
        let mut out = Vec::new();
        let mut part = String::new();
        let mut seen = false;
        for line in text.lines().chain(["---"]) {
            if line == "---" || line.starts_with("--- ") {
                if seen && !part.trim().is_empty() {
                    let document = crate::settings::yaml::Document::read("the text of from_yaml_all", &part)
                        .map_err(|failure| wrong(format!("from_yaml_all: {}", failure.what)))?;
                    out.push(from_json(&document.root.to_json()));
                }
                part.clear();
                seen = true;
            } else {
                seen = true;
                part.push_str(line);
                part.push('\n');
            }
        }
        Ok(Value::from(out))
    });
}
