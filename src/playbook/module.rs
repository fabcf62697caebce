//! What a module takes, as data, and checking arguments against it.
//!
//! What lives here: the table that the work floor hands in, the check of names, presence and types of
//! arguments. What does not: the modules themselves.

use serde_json::{Map, Value};

use crate::failure::{Failure, Kind, Place};
use crate::name::nearest;
use crate::settings::duration;
use crate::settings::yaml::quoted;
use crate::template::has_template;

/// What kind of value an argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgKind {
    /// Text; numbers and booleans are taken as they would be printed.
    Str,
    /// true or false; `yes` and `no` in text too.
    Bool,
    /// A whole number; digits in text too.
    Int,
    /// A list; a text is cut at its commas.
    List,
    /// A mapping.
    Map,
    /// A path: text that is not empty and has no control characters.
    Path,
    /// A duration with a unit, such as `20m`.
    Duration,
    /// Anything.
    Any,
}

impl ArgKind {
    fn words(self) -> &'static str {
        match self {
            Self::Str => "text",
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::List => "a list",
            Self::Map => "a mapping",
            Self::Path => "a path",
            Self::Duration => "a duration with a unit, such as 20m",
            Self::Any => "any value",
        }
    }
}

/// One argument of a module.
#[derive(Debug, Clone, Copy)]
pub struct ArgSpec {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: ArgKind,
    /// Whether it must be given.
    pub required: bool,
    /// What it means, in a line.
    pub doc: &'static str,
}

/// One module.
#[derive(Debug, Clone, Copy)]
pub struct ModuleSpec {
    /// Its name without a collection.
    pub name: &'static str,
    /// Whether `module: any text` is its command. That text becomes the argument `cmd`.
    pub free_form: bool,
    /// What it takes.
    pub args: &'static [ArgSpec],
}

/// An argument as written: name, place of the value, value.
pub type Arg = (String, Place, Value);

/// All modules, handed in from above.
#[derive(Debug, Clone, Default)]
pub struct ModuleTable {
    modules: Vec<ModuleSpec>,
}

impl ModuleTable {
    /// A table of these.
    pub fn new(modules: &[ModuleSpec]) -> Self {
        Self { modules: modules.to_vec() }
    }

    /// The module of that name; `ansible.builtin.X` and `ansible.legacy.X` are `X`.
    pub fn get(&self, name: &str) -> Option<&ModuleSpec> {
        let name = short_name(name);
        self.modules.iter().find(|module| module.name == name)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.modules.iter().map(|module| module.name)
    }
}

/// `name` without `ansible.builtin.` or `ansible.legacy.`.
pub(super) fn short_name(name: &str) -> &str {
    ["ansible.builtin.", "ansible.legacy."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// Which part of a task is wrong.
pub(super) enum At {
    Module,
    /// The name of this argument.
    Name(usize),
    /// The value of this argument.
    Value(usize),
}

pub(super) struct ArgProblem {
    pub(super) at: At,
    pub(super) what: String,
    pub(super) mend: Option<String>,
}

impl ModuleSpec {
    fn arg(&self, name: &str) -> Option<&'static ArgSpec> {
        // A module that takes any name (`set_fact`) has an argument called `*`.
        self.args.iter().find(|arg| arg.name == name).or_else(|| self.args.iter().find(|arg| arg.name == "*"))
    }

    /// What is wrong with these arguments as far as it can be seen before templates are rendered:
    /// unknown and missing names, and literal values of the wrong type.
    pub(super) fn problems(&self, args: &[Arg]) -> Vec<ArgProblem> {
        let mut out = Vec::new();
        for (index, (name, _, value)) in args.iter().enumerate() {
            let Some(spec) = self.arg(name) else {
                let near = nearest(name, self.args.iter().map(|arg| arg.name), 2);
                let mend = if near.is_empty() {
                    let all: Vec<&str> = self.args.iter().map(|arg| arg.name).collect();
                    if all.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", all.join(", ")) }
                } else {
                    format!("did you mean {}?", near.join(" or "))
                };
                let what = format!("{} takes no argument {}", self.name, quoted(name));
                out.push(ArgProblem { at: At::Name(index), what, mend: Some(mend) });
                continue;
            };
            if has_template(value) {
                continue;
            }
            if let Err(seen) = convert(spec.kind, value) {
                let what = format!("the argument {name} of {} takes {}, not {seen}", self.name, spec.kind.words());
                out.push(ArgProblem { at: At::Value(index), what, mend: None });
            }
        }
        for spec in self.args.iter().filter(|spec| spec.required) {
            if !args.iter().any(|(name, _, _)| name == spec.name) {
                let what = format!("{} needs the argument {}", self.name, spec.name);
                let mend = Some(format!("add {}: ({})", spec.name, spec.doc));
                out.push(ArgProblem { at: At::Module, what, mend });
            }
        }
        out
    }

    /// Checks rendered arguments and brings each value into the type of its [`ArgKind`]: text, boolean,
    /// number, array, object. A `null` counts as not given.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] with the place of each value that does not fit.
    pub fn check_rendered(&self, args: &[Arg]) -> Result<Map<String, Value>, Failure> {
        let mut out = Map::new();
        let mut errors = Vec::new();
        for (name, place, value) in args {
            let Some(spec) = self.arg(name) else {
                let what = format!("{} takes no argument {}", self.name, quoted(name));
                errors.push(Failure::new(Kind::CouldNotStart, what).at(place.clone()));
                continue;
            };
            if value.is_null() && spec.kind != ArgKind::Any {
                continue;
            }
            match convert(spec.kind, value) {
                Ok(value) => {
                    out.insert(name.clone(), value);
                }
                Err(seen) => errors.push(
                    Failure::new(
                        Kind::CouldNotStart,
                        format!("the argument {name} of {} takes {}, not {seen}", self.name, spec.kind.words()),
                    )
                    .at(place.clone()),
                ),
            }
        }
        for spec in self.args.iter().filter(|spec| spec.required && !out.contains_key(spec.name)) {
            errors.push(Failure::new(
                Kind::CouldNotStart,
                format!("{} needs the argument {}, and it is empty", self.name, spec.name),
            ));
        }
        Failure::all(errors).map_or(Ok(out), Err)
    }
}

/// `value` in the type of `kind`, or what was seen instead.
fn convert(kind: ArgKind, value: &Value) -> Result<Value, String> {
    let seen = || match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    };
    let text = || match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        _ => None,
    };
    match kind {
        ArgKind::Any => Ok(value.clone()),
        ArgKind::Str => text().map(Value::String).ok_or_else(seen),
        ArgKind::Bool => match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "yes" | "true" | "on" | "y" | "1" => Ok(Value::Bool(true)),
                "no" | "false" | "off" | "n" | "0" => Ok(Value::Bool(false)),
                _ => Err(seen()),
            },
            _ => Err(seen()),
        },
        ArgKind::Int => match value {
            Value::Number(number) if !number.is_f64() => Ok(value.clone()),
            Value::String(text) => text.trim().parse::<i64>().map(Value::from).map_err(|_| seen()),
            _ => Err(seen()),
        },
        ArgKind::List => match value {
            Value::Array(_) => Ok(value.clone()),
            Value::String(text) => Ok(text.split(',').map(|part| Value::from(part.trim())).collect()),
            Value::Number(_) => Ok(Value::Array(vec![value.clone()])),
            _ => Err(seen()),
        },
        ArgKind::Map => {
            if value.is_object() {
                Ok(value.clone())
            } else {
                Err(seen())
            }
        }
        ArgKind::Path => match value {
            Value::String(text) if !text.is_empty() && !text.chars().any(char::is_control) => Ok(value.clone()),
            _ => Err(seen()),
        },
        ArgKind::Duration => match value {
            Value::String(text) => match duration::parse(text) {
                Ok(_) => Ok(value.clone()),
                Err(what) => Err(format!("{} ({what})", seen())),
            },
            Value::Number(number) => Err(format!("the number {number}; write \"{number}m\" or \"{number}s\"")),
            _ => Err(seen()),
        },
    }
}
