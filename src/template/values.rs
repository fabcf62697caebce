//! Our values as the template engine's, and back.
//!
//! What lives here: the two conversions and how a value is printed inside of a text (as Python
//! does it, because that is what Ansible's users see). What does not: filters.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value as Jinja};
use serde_json::{Map, Number, Value};

use super::python;
use crate::settings::yaml::{UNSAFE_KEY as KEPT, VAULT_KEY};

/// The key of an `!unsafe` text: text that is never a template.
pub(super) const UNSAFE_KEY: &str = KEPT;
/// What `omit` becomes.
pub(super) const OMITTED: &str = "__omit_place_holder__";

/// What `omit` is inside of a template.
#[derive(Debug)]
pub(super) struct Omit;

impl Object for Omit {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OMITTED)
    }
}

fn omitted(value: &Jinja) -> bool {
    value.downcast_object_ref::<Omit>().is_some() || value.as_str() == Some(OMITTED)
}

/// A JSON value for the engine. A `!vault` value becomes one that fails when it is used.
pub(super) fn from_json(value: &Value) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(value) => Jinja::from(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => Jinja::from(value),
            (_, Some(value), _) => Jinja::from(value),
            (_, _, value) => Jinja::from(value.unwrap_or(0.0)),
        },
        Value::String(text) => Jinja::from(text.as_str()),
        Value::Array(items) => Jinja::from(items.iter().map(from_json).collect::<Vec<_>>()),
        Value::Object(map) if map.len() == 1 && map.contains_key(VAULT_KEY) => {
            let text = map.get(VAULT_KEY).and_then(Value::as_str).unwrap_or_default();
            Jinja::from(Error::new(ErrorKind::InvalidOperation, crate::vault::why_locked(text)))
        }
        Value::Object(map) if map.len() == 1 && map.contains_key(UNSAFE_KEY) => {
            map.get(UNSAFE_KEY).map_or(Jinja::from(()), from_json)
        }
        Value::Object(map) => Jinja::from_pairs(map.iter().map(|(key, value)| (key.clone(), from_json(value)))),
    }
}

/// What the engine gave, as JSON.
///
/// # Errors
/// An undefined value, a broken one, a number that JSON has not.
pub(super) fn to_json(value: &Jinja) -> Result<Value, Error> {
    Ok(match value.kind() {
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number => number(value)?,
        ValueKind::String => Value::String(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Bytes => Value::String(String::from_utf8_lossy(value.as_bytes().unwrap_or_default()).into_owned()),
        ValueKind::Seq | ValueKind::Iterable => {
            let kept = value.try_iter()?.filter(|item| !omitted(item));
            Value::Array(kept.map(|item| to_json(&item)).collect::<Result<_, _>>()?)
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter()? {
                let inner = value.get_item(&key)?;
                if omitted(&inner) {
                    continue;
                }
                let name = match key.kind() {
                    ValueKind::None => "null".to_owned(),
                    ValueKind::Bool => key.is_true().to_string(),
                    _ => python::text(&key)?,
                };
                map.insert(name, to_json(&inner)?);
            }
            Value::Object(map)
        }
        ValueKind::Invalid => return Err(broken(value)),
        _ if value.downcast_object_ref::<Omit>().is_some() => Value::String(OMITTED.to_owned()),
        _ if value.downcast_object_ref::<super::dates::Span>().is_some() => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "the time between two dates cannot be kept: take its .days, .seconds or .total_seconds()",
            ));
        }
        _ => Value::String(value.to_string()),
    })
}

/// The error that an invalid value carries.
fn broken(value: &Jinja) -> Error {
    match value.try_iter() {
        Err(error) => error,
        Ok(_) => Error::new(ErrorKind::InvalidOperation, value.to_string()),
    }
}

fn number(value: &Jinja) -> Result<Value, Error> {
    if value.is_integer() {
        if let Some(whole) = value.as_i64() {
            return Ok(Value::Number(whole.into()));
        }
        if let Ok(whole) = u64::try_from(value.clone()) {
            return Ok(Value::Number(whole.into()));
        }
        return Err(Error::new(ErrorKind::InvalidOperation, format!("the number {value} is too large")));
    }
    f64::try_from(value.clone())
        .ok()
        .and_then(Number::from_f64)
        .map(Value::Number)
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("{value} is not a number that can be kept")))
}

/// The function that keeps a value: what an expression gives that is run as a template.
pub(super) const KEEP: &str = "__keeps_the_value";

thread_local! {
    /// What [`KEEP`] was given, outermost rendering first.
    static HELD: RefCell<Vec<Option<Jinja>>> = const { RefCell::new(Vec::new()) };
}

/// [`KEEP`] itself.
pub(super) fn keep(value: Jinja) -> Jinja {
    HELD.with_borrow_mut(|all| {
        if let Some(last) = all.last_mut() {
            *last = Some(value);
        }
    });
    Jinja::from("")
}

/// Runs a rendering and gives what it kept; `None` where it failed.
pub(super) fn kept(render: impl FnOnce() -> Result<String, Error>) -> Option<Jinja> {
    HELD.with_borrow_mut(|all| all.push(None));
    PRINTED.with_borrow_mut(|all| all.push((0, None)));
    let out = render();
    PRINTED.with_borrow_mut(Vec::pop);
    let kept = HELD.with_borrow_mut(Vec::pop).flatten();
    out.is_ok().then_some(kept).flatten()
}

thread_local! {
    /// What the renderings of this thread printed, outermost first: how many values, and the last one with its text.
    static PRINTED: RefCell<Vec<(usize, Option<(Jinja, String)>)>> = const { RefCell::new(Vec::new()) };
}

/// Runs a rendering and gives its text, or the one value where it printed one value and nothing else.
pub(super) fn native(render: impl FnOnce() -> Result<String, Error>) -> Result<Jinja, Error> {
    PRINTED.with_borrow_mut(|all| all.push((0, None)));
    let out = render();
    let (count, last) = PRINTED.with_borrow_mut(Vec::pop).unwrap_or((0, None));
    let out = out?;
    Ok(match (count, last) {
        (0, _) if out.is_empty() => Jinja::from(()),
        (1, Some((value, text))) if text == out => value,
        _ => Jinja::from(out),
    })
}

/// Prints a value into a text: nothing for none, else as Python's `str` does.
pub(super) fn print(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Jinja) -> Result<(), Error> {
    let text = match value.kind() {
        // What an `if` without `else` gives where it does not hold.
        ValueKind::Undefined | ValueKind::None => String::new(),
        ValueKind::Invalid => return Err(broken(value)),
        ValueKind::Seq if value.is_tuple() => {
            // A tuple ends as a list where Ansible keeps it.
            python::text(&Jinja::from(value.try_iter()?.collect::<Vec<_>>()))?
        }
        _ => python::text(&untupled(value)?)?,
    };
    PRINTED.with_borrow_mut(|all| {
        if let Some((count, last)) = all.last_mut() {
            *count += 1;
            *last = Some((value.clone(), text.clone()));
        }
    });
    out.write_str(&text).map_err(|_| Error::from(ErrorKind::WriteFailure))
}

/// A list whose tuples are lists.
fn untupled(value: &Jinja) -> Result<Jinja, Error> {
    if value.kind() != ValueKind::Seq {
        return Ok(value.clone());
    }
    let items: Vec<Jinja> = value.try_iter()?.collect();
    if !items.iter().any(Jinja::is_tuple) {
        return Ok(value.clone());
    }
    let plain = |item: Jinja| match item.is_tuple() {
        true => Ok(Jinja::from(item.try_iter()?.collect::<Vec<_>>())),
        false => Ok(item),
    };
    Ok(Jinja::from(items.into_iter().map(plain).collect::<Result<Vec<_>, Error>>()?))
}
