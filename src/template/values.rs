//! Our values as the template engine's, and back.
//!
//! What lives here: the two conversions and how a value is printed inside of a text (as Python
//! does it, because that is what Ansible's users see). What does not: filters.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Output, State, Value as Jinja};
use serde_json::{Map, Number, Value};

use crate::settings::yaml::{UNSAFE_KEY, VAULT_KEY};

/// The text of an object that stands for an `!unsafe` text.
pub(super) fn literal(map: &Map<String, Value>) -> Option<&str> {
    if map.len() == 1 { map.get(UNSAFE_KEY).and_then(Value::as_str) } else { None }
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
        Value::Object(map) => match literal(map) {
            Some(text) => Jinja::from(text),
            None => Jinja::from_pairs(map.iter().map(|(key, value)| (key.clone(), from_json(value)))),
        },
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
            Value::Array(value.try_iter()?.map(|item| to_json(&item)).collect::<Result<_, _>>()?)
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter()? {
                let inner = value.get_item(&key)?;
                let name = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                map.insert(name, to_json(&inner)?);
            }
            Value::Object(map)
        }
        ValueKind::Invalid => return Err(broken(value)),
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

/// Prints a value into a text: nothing for none, else as Python's `str` does.
pub(super) fn print(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Jinja) -> Result<(), Error> {
    let text = match value.kind() {
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::Invalid => return Err(broken(value)),
        ValueKind::None => return Ok(()),
        ValueKind::String => return write(out, value.as_str().unwrap_or_default()),
        _ => {
            let mut text = String::new();
            python(&mut text, value)?;
            text
        }
    };
    write(out, &text)
}

fn write(out: &mut Output<'_>, text: &str) -> Result<(), Error> {
    out.write_str(text).map_err(|_| Error::from(ErrorKind::WriteFailure))
}

/// Python's `repr`.
fn python(out: &mut String, value: &Jinja) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::Invalid => return Err(broken(value)),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            out.push(mark);
            for c in text.chars() {
                match c {
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    '\\' => out.push_str("\\\\"),
                    c if c == mark => {
                        out.push('\\');
                        out.push(c);
                    }
                    c => out.push(c),
                }
            }
            out.push(mark);
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (at, item) in value.try_iter()?.enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                python(out, &item)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (at, key) in value.try_iter()?.enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                python(out, &key)?;
                out.push_str(": ");
                python(out, &value.get_item(&key)?)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}
