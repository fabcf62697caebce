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
    /// An expression without braces, or a list of them: not rendered, the module evaluates it with the task's variables.
    Expr,
}

impl ArgKind {
    /// What it is called to people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Str => "text",
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::List => "a list",
            Self::Map => "a mapping",
            Self::Path => "a path",
            Self::Duration => "a duration with a unit, such as 20m",
            Self::Any => "any value",
            Self::Expr => "an expression",
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
    /// What it is when it is not given, as it would be written.
    pub default: Option<&'static str>,
    /// The only values that it may have; empty means any of its kind.
    pub choices: &'static [&'static str],
    /// Its other names.
    pub aliases: &'static [&'static str],
    /// What it means, in a line.
    pub doc: &'static str,
}

impl ArgSpec {
    /// An argument that need not be given.
    pub const fn new(name: &'static str, kind: ArgKind, doc: &'static str) -> Self {
        Self { name, kind, required: false, default: None, choices: &[], aliases: &[], doc }
    }

    /// It must be given.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// What it is when it is not given.
    #[must_use]
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    /// The only values that it may have.
    #[must_use]
    pub const fn choices(mut self, choices: &'static [&'static str]) -> Self {
        self.choices = choices;
        self
    }

    /// Its other names.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// One module.
#[derive(Debug, Clone, Copy)]
pub struct ModuleSpec {
    /// Its name without a collection.
    pub name: &'static str,
    /// What it does, in a line.
    pub short: &'static str,
    /// Its other names.
    pub aliases: &'static [&'static str],
    /// Whether `module: any text` is its command. That text becomes the argument `cmd`.
    pub free_form: bool,
    /// Whether it also takes names that are no arguments of its own (`*` among its arguments).
    pub pairs: bool,
    /// Whether it does its work, or says what it would do, under `--check`; the others are skipped there or skip themselves.
    pub checks: bool,
    /// What it takes.
    pub args: &'static [ArgSpec],
}

impl ModuleSpec {
    /// A module that takes these arguments.
    pub const fn new(name: &'static str, short: &'static str, args: &'static [ArgSpec]) -> Self {
        Self { name, short, aliases: &[], free_form: false, pairs: false, checks: false, args }
    }

    /// `module: any text` is its command.
    #[must_use]
    pub const fn free_form(mut self) -> Self {
        self.free_form = true;
        self
    }

    /// It takes any name.
    #[must_use]
    pub const fn pairs(mut self) -> Self {
        self.pairs = true;
        self
    }

    /// It knows what to do under `--check`.
    #[must_use]
    pub const fn checks(mut self) -> Self {
        self.checks = true;
        self
    }

    /// Its other names.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
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
        self.modules.iter().find(|module| module.name == name || module.aliases.contains(&name))
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
        self.args.iter().find(|arg| arg.is_called(name)).or_else(|| self.args.iter().find(|arg| arg.name == "*"))
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
            match convert(spec.kind, value) {
                Err(seen) => {
                    let what = format!("the argument {name} of {} takes {}, not {seen}", self.name, spec.kind.words());
                    out.push(ArgProblem { at: At::Value(index), what, mend: None });
                }
                Ok(value) => {
                    if let Some(what) = self.not_among(spec, &value) {
                        out.push(ArgProblem { at: At::Value(index), what, mend: None });
                    }
                }
            }
        }
        for spec in self.args.iter().filter(|spec| spec.required) {
            if !args.iter().any(|(name, _, _)| spec.is_called(name)) {
                let what = format!("{} needs the argument {}", self.name, spec.name);
                let mend = Some(format!("add {}: ({})", spec.name, spec.doc));
                out.push(ArgProblem { at: At::Module, what, mend });
            }
        }
        out
    }

    /// What is wrong where `value` is none of the choices.
    fn not_among(&self, spec: &ArgSpec, value: &Value) -> Option<String> {
        let wrong = |value: &Value| match value {
            Value::String(text) => !spec.choices.contains(&text.as_str()),
            other => !spec.choices.contains(&other.to_string().as_str()),
        };
        let bad = match value {
            _ if spec.choices.is_empty() => return None,
            Value::Array(items) => items.iter().find(|item| wrong(item))?,
            one if wrong(one) => one,
            _ => return None,
        };
        let all = spec.choices.join(", ");
        Some(format!("value of {} must be one of: {all}, got: {}", spec.name, bad.as_str().unwrap_or(&bad.to_string())))
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
            if value.is_null() && !matches!(spec.kind, ArgKind::Any | ArgKind::Expr) {
                continue;
            }
            match convert(spec.kind, value) {
                Ok(value) => {
                    if let Some(what) = self.not_among(spec, &value) {
                        errors.push(Failure::new(Kind::CouldNotStart, what).at(place.clone()));
                    }
                    let name = if spec.name == "*" { name.as_str() } else { spec.name };
                    out.insert(name.to_owned(), value);
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
        for spec in self.args {
            if let (Some(default), false) = (spec.default, out.contains_key(spec.name))
                && let Ok(value) = convert(spec.kind, &Value::from(default))
            {
                out.insert(spec.name.to_owned(), value);
            }
        }
        for spec in self.args.iter().filter(|spec| spec.required && !out.contains_key(spec.name)) {
            errors.push(Failure::new(
                Kind::CouldNotStart,
                format!(
                    "{} needs the argument {}, and it is empty (missing required arguments: {})",
                    self.name, spec.name, spec.name
                ),
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
        ArgKind::Any | ArgKind::Expr => Ok(value.clone()),
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
