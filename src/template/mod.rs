//! Jinja expressions over our values.
//!
//! What lives here: rendering text that the operator wrote ([`Templater`]), the names that it may
//! use ([`Scope`]), and conditions. What does not: where variables come from (inventory, playbook)
//! and when something is rendered (run).
//!
//! What came from a host is data: it is put into a [`Scope`] with [`Scope::data`] and is never read
//! as a template, and what a rendering gives is not rendered a second time.

mod filters;
mod values;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use minijinja::value::{Enumerator, Object};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value};

use crate::failure::{Failure, Kind, Place, snippet};
use crate::name::nearest;

/// How many steps one rendering may take; a loop in a template ends there.
const FUEL: u64 = 200_000;
/// How many variables may refer to one another in a row.
const DEEPEST: usize = 32;
/// The longest text that a rendering may give, in bytes.
const LONGEST: usize = 4 * 1024 * 1024;

/// Whether `text` has something to render.
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// Whether there is something to render in `value` or inside of it.
pub fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => is_template(text),
        Value::Array(items) => items.iter().any(has_template),
        Value::Object(map) => values::literal(map).is_none() && map.values().any(has_template),
        _ => false,
    }
}

#[derive(Debug, Clone)]
enum Slot {
    /// Written by the operator: rendered when it is used.
    Written(Value, Option<Place>),
    /// Data: never rendered.
    Data(minijinja::Value),
    /// The variables of other hosts, by their names.
    Hosts(Arc<dyn HostScopes>),
}

/// The variables of other hosts (`hostvars`), made when they are asked for.
pub trait HostScopes: Send + Sync + fmt::Debug {
    /// All hosts' names.
    fn names(&self) -> Vec<String>;
    /// The variables of that host; `None` where there is no such host.
    fn scope(&self, host: &str) -> Option<Scope>;
}

/// `hostvars` in a template.
#[derive(Debug)]
struct HostVars {
    env: Arc<Environment<'static>>,
    hosts: Arc<dyn HostScopes>,
}

impl Object for HostVars {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        let scope = self.hosts.scope(key.as_str()?)?;
        Some(minijinja::Value::from_dyn_object(Arc::new(Context::new(self.env.clone(), scope))))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.hosts.names().into_iter().map(minijinja::Value::from).collect())
    }
}

/// The names that a template may use. Later additions override earlier ones. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    names: Arc<BTreeMap<String, Slot>>,
}

impl Scope {
    /// A scope without names.
    pub fn new() -> Self {
        Self::default()
    }

    /// A scope of data only.
    pub fn of_data(map: &Map<String, Value>) -> Self {
        let mut scope = Self::new();
        for (name, value) in map {
            scope.data(name, value);
        }
        scope
    }

    /// Adds a value that the operator wrote, at `place`: templates in it are rendered when it is used.
    pub fn written(&mut self, name: &str, value: &Value, place: Option<Place>) {
        if has_template(value) {
            Arc::make_mut(&mut self.names).insert(name.to_owned(), Slot::Written(value.clone(), place));
        } else {
            self.data(name, value);
        }
    }

    /// Adds a value that is data, such as what a host said: it is never rendered.
    pub fn data(&mut self, name: &str, value: &Value) {
        let value = values::from_json(value);
        Arc::make_mut(&mut self.names).insert(name.to_owned(), Slot::Data(value));
    }

    /// Adds the variables of other hosts under this name: they are made when a template asks for them.
    pub fn hosts(&mut self, name: &str, hosts: Arc<dyn HostScopes>) {
        Arc::make_mut(&mut self.names).insert(name.to_owned(), Slot::Hosts(hosts));
    }

    /// Whether `name` is in this scope.
    pub fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }
}

/// Renders templates. Cheap to clone.
#[derive(Clone)]
pub struct Templater {
    env: Arc<Environment<'static>>,
}

impl fmt::Debug for Templater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Templater")
    }
}

impl Default for Templater {
    fn default() -> Self {
        Self::new()
    }
}

impl Templater {
    /// A templater with Ansible's filters and tests, strict about names that are not there.
    pub fn new() -> Self {
        let mut env = Environment::empty();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        filters::add(&mut env);
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(64);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        env.set_formatter(values::print);
        if let Ok(syntax) = minijinja::syntax::SyntaxConfig::builder().keep_trailing_newline(true).build() {
            env.set_syntax(syntax);
        }
        Self { env: Arc::new(env) }
    }

    /// Renders `text`. A text that is exactly one expression (`"{{ x }}"`) gives the value of that
    /// expression with its type; every other template gives text.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] at `place`: a name that is not defined (with the nearest ones), a
    /// syntax error, an unknown filter, a failing filter, a variable that refers to itself.
    pub fn render(&self, text: &str, place: Option<&Place>, scope: &Scope) -> Result<Value, Failure> {
        if !is_template(text) {
            return Ok(Value::String(text.to_owned()));
        }
        let context = Arc::new(Context::new(self.env.clone(), scope.clone()));
        evaluate(&context, text)
            .and_then(|value| values::to_json(&value))
            .map_err(|error| explain(&error, text, place, scope))
    }

    /// Renders every text inside of `value`; keys stay as they are.
    ///
    /// # Errors
    /// As [`Templater::render`].
    pub fn render_value(&self, value: &Value, place: Option<&Place>, scope: &Scope) -> Result<Value, Failure> {
        Ok(match value {
            Value::String(text) => self.render(text, place, scope)?,
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.render_value(item, place, scope)).collect::<Result<_, _>>()?)
            }
            Value::Object(map) if values::literal(map).is_some() => {
                values::literal(map).map_or(Value::Null, Value::from)
            }
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(key, value)| Ok((key.clone(), self.render_value(value, place, scope)?)))
                    .collect::<Result<_, Failure>>()?,
            ),
            other => other.clone(),
        })
    }

    /// The value of the bare expression `text` (without braces), as `when` has it, as true or false.
    ///
    /// # Errors
    /// As [`Templater::render`]; also when the value is neither true nor false.
    pub fn evaluate_condition(&self, text: &str, place: Option<&Place>, scope: &Scope) -> Result<bool, Failure> {
        let bare = strip_braces(text).unwrap_or(text);
        let context = Arc::new(Context::new(self.env.clone(), scope.clone()));
        let value = self
            .env
            .compile_expression(bare)
            .and_then(|expression| expression.eval(minijinja::Value::from_dyn_object(context)))
            .and_then(|value| values::to_json(&value))
            .map_err(|error| explain(&error, bare, place, scope))?;
        match value {
            Value::Bool(value) => Ok(value),
            other => Err(placed(
                Failure::new(Kind::CouldNotStart, format!("the condition {bare:?} is neither true nor false"))
                    .saw(shown(&other))
                    .why("a condition must say true or false; Ansible 2.19 asks the same")
                    .mend("compare it (x == 'a', x | length > 0, x is defined), or write x | bool"),
                bare,
                (1, 1),
                place,
            )),
        }
    }

    /// Whether `text` is an expression that can be read, before any value is known.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] at `place` when it is not.
    pub fn check_condition(&self, text: &str, place: Option<&Place>) -> Result<(), Failure> {
        let bare = strip_braces(text).unwrap_or(text);
        match self.env.compile_expression(bare).map(drop).and_then(|()| self.known_words(bare)) {
            Ok(()) => Ok(()),
            Err(error) => Err(explain(&error, bare, place, &Scope::new())),
        }
    }

    /// Whether the templates in `text` can be read, before any value is known.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] at `place` when they cannot.
    pub fn check(&self, text: &str, place: Option<&Place>) -> Result<(), Failure> {
        if !is_template(text) {
            return Ok(());
        }
        if let Some(inner) = strip_braces(text)
            && self.env.compile_expression(inner).is_ok()
        {
            return self.known_words(inner).map_err(|error| explain(&error, text, place, &Scope::new()));
        }
        let inside = regex::Regex::new(r"(?s)\{\{.*?\}\}|\{%.*?%\}").ok();
        let parsed = self.env.template_from_str(text).map(drop).and_then(|()| {
            if text.contains("endraw") {
                return Ok(());
            }
            inside.iter().flat_map(|inside| inside.find_iter(text)).try_for_each(|part| self.known_words(part.as_str()))
        });
        parsed.map_err(|error| explain(&error, text, place, &Scope::new()))
    }

    /// Whether all filters and tests in an expression are there. The engine itself looks only when it
    /// gets to them, which would be after hosts have been touched.
    fn known_words(&self, expression: &str) -> Result<(), minijinja::Error> {
        // Texts are blanked out first: what looks like a filter in one is none.
        let (Ok(texts), Ok(filters), Ok(tests)) = (
            regex::Regex::new(r#"(?s)"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"#),
            regex::Regex::new(r"\|\s*([A-Za-z_][A-Za-z0-9_.]*)"),
            regex::Regex::new(r"\bis\s+(?:not\s+)?([A-Za-z_][A-Za-z0-9_.]*)"),
        ) else {
            return Ok(());
        };
        let bare = texts.replace_all(expression, "''");
        let mut state = self.env.empty_state();
        for found in filters.captures_iter(&bare).filter_map(|found| found.get(1)) {
            let answer = state.apply_filter(found.as_str(), &[minijinja::Value::UNDEFINED]);
            if let Err(error) = answer
                && error.kind() == ErrorKind::UnknownFilter
            {
                return Err(error);
            }
        }
        for found in tests.captures_iter(&bare).filter_map(|found| found.get(1)) {
            let answer = state.perform_test(found.as_str(), &[minijinja::Value::UNDEFINED]);
            if let Err(error) = answer
                && error.kind() == ErrorKind::UnknownTest
            {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// What stands between the braces when `text` may be one expression and nothing else.
fn strip_braces(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    Some(inner.strip_suffix('-').unwrap_or(inner))
}

fn evaluate(context: &Arc<Context>, text: &str) -> Result<minijinja::Value, minijinja::Error> {
    let root = minijinja::Value::from_dyn_object(context.clone());
    if text.starts_with("{{")
        && text.ends_with("}}")
        && let Some(inner) = strip_braces(text)
        && let Ok(expression) = context.env.compile_expression(inner)
    {
        return expression.eval(root);
    }
    let out = context.env.template_from_str(text)?.render(root)?;
    if out.len() > LONGEST {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, "the rendered text is longer than 4 MiB"));
    }
    Ok(minijinja::Value::from(out))
}

/// The root of the names of one rendering. Written variables are rendered here at their first use.
struct Context {
    env: Arc<Environment<'static>>,
    scope: Scope,
    /// The variables that are being rendered, outermost first.
    stack: Vec<String>,
    done: Arc<Mutex<HashMap<String, minijinja::Value>>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("variables")
    }
}

impl Context {
    fn new(env: Arc<Environment<'static>>, scope: Scope) -> Self {
        Self { env, scope, stack: Vec::new(), done: Arc::default() }
    }

    fn written(&self, name: &str, value: &Value, place: Option<&Place>) -> Result<minijinja::Value, minijinja::Error> {
        if let Some(known) = self.done.lock().ok().and_then(|done| done.get(name).cloned()) {
            return Ok(known);
        }
        let mut stack = self.stack.clone();
        let again = stack.iter().any(|outer| outer == name);
        stack.push(name.to_owned());
        let said = |detail: String| minijinja::Error::new(ErrorKind::InvalidOperation, detail);
        if again {
            return Err(said(format!("the variable {name} refers to itself: {}", stack.join(" -> "))));
        }
        if stack.len() > DEEPEST {
            return Err(said(format!("more than {DEEPEST} variables refer to one another: {}", stack.join(" -> "))));
        }
        let inner = Arc::new(Self { env: self.env.clone(), scope: self.scope.clone(), stack, done: self.done.clone() });
        let value = render_deep(&inner, value).map_err(|error| {
            let from = place.map(|place| format!(" ({place})")).unwrap_or_default();
            let detail = describe(&error, &self.scope).0;
            if detail.contains("refer to one another") || detail.contains("refers to itself") {
                said(detail)
            } else {
                said(format!("the variable {name}{from} cannot be rendered: {detail}"))
            }
        })?;
        if let Ok(mut done) = self.done.lock() {
            done.insert(name.to_owned(), value.clone());
        }
        Ok(value)
    }
}

fn render_deep(context: &Arc<Context>, value: &Value) -> Result<minijinja::Value, minijinja::Error> {
    Ok(match value {
        Value::String(text) if is_template(text) => {
            let value = evaluate(context, text)?;
            if value.is_undefined() {
                return Err(minijinja::Error::new(
                    ErrorKind::UndefinedError,
                    undefined_in(&context.env, text, &context.scope),
                ));
            }
            value
        }
        Value::Array(items) => {
            items.iter().map(|item| render_deep(context, item)).collect::<Result<Vec<_>, _>>()?.into()
        }
        Value::Object(map) if has_template(value) => minijinja::Value::from_pairs(
            map.iter()
                .map(|(key, value)| Ok((key.clone(), render_deep(context, value)?)))
                .collect::<Result<Vec<_>, minijinja::Error>>()?,
        ),
        other => values::from_json(other),
    })
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        let name = key.as_str()?;
        // `vars`: all names that are here.
        if name == "vars" && !self.scope.names.contains_key(name) {
            return Some(minijinja::Value::from_dyn_object(self.clone()));
        }
        match self.scope.names.get(name)? {
            Slot::Data(value) => Some(value.clone()),
            Slot::Hosts(hosts) => Some(minijinja::Value::from_dyn_object(Arc::new(HostVars {
                env: self.env.clone(),
                hosts: hosts.clone(),
            }))),
            Slot::Written(value, place) => {
                Some(self.written(name, value, place.as_ref()).unwrap_or_else(minijinja::Value::from))
            }
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.scope.names.keys().map(|name| minijinja::Value::from(name.as_str())).collect())
    }
}

/// "x is not defined" for the names of `text` that the scope lacks.
fn undefined_in(env: &Environment<'_>, text: &str, scope: &Scope) -> String {
    let names = strip_braces(text)
        .and_then(|inner| env.compile_expression_owned(inner.to_owned()).ok())
        .map(|expression| expression.undeclared_variables(true))
        .or_else(|| env.template_from_str(text).ok().map(|template| template.undeclared_variables(true)))
        .unwrap_or_default();
    let mut missing: Vec<String> = names
        .into_iter()
        .filter(|name| {
            let root = name.split('.').next().unwrap_or(name);
            !scope.knows(root)
        })
        .collect();
    missing.sort();
    match missing.first() {
        Some(name) => format!("{} is not defined", name.split('.').next().unwrap_or(name)),
        None => "a part of it is not defined".to_owned(),
    }
}

/// What an error of the engine says, and the names that were meant perhaps.
fn describe(error: &minijinja::Error, scope: &Scope) -> (String, Vec<String>) {
    let mut innermost: &minijinja::Error = error;
    let mut source = std::error::Error::source(error);
    while let Some(next) = source {
        if let Some(next) = next.downcast_ref::<minijinja::Error>() {
            innermost = next;
        }
        source = next.source();
    }
    let detail = innermost.detail().map(str::to_owned).unwrap_or_else(|| innermost.kind().to_string());
    let mut near = Vec::new();
    if let Some(name) = detail.strip_suffix(" is not defined").and_then(|said| said.rsplit(' ').next()) {
        near = nearest(name, scope.names(), 3).into_iter().map(str::to_owned).collect();
    }
    let what = match innermost.kind() {
        ErrorKind::OutOfFuel => "this template does not come to an end (it was stopped)".to_owned(),
        ErrorKind::UnknownFilter => format!("this filter is not built in ferry: {detail}"),
        ErrorKind::UnknownTest => format!("this test is not built in ferry: {detail}"),
        _ => detail,
    };
    (what, near)
}

/// An error of the engine as a failure of ours.
fn explain(error: &minijinja::Error, text: &str, place: Option<&Place>, scope: &Scope) -> Failure {
    let (mut what, mut near) = describe(error, scope);
    if error.kind() == ErrorKind::UndefinedError {
        let templater = Templater::new();
        let source = if is_template(text) { text.to_owned() } else { format!("{{{{ {text} }}}}") };
        let said = undefined_in(&templater.env, &source, scope);
        if let Some(name) = said.strip_suffix(" is not defined") {
            near = nearest(name, scope.names(), 3).into_iter().map(str::to_owned).collect();
            what = said;
        } else if what == "undefined value" {
            what = said;
        }
    }
    let failure = Failure::new(Kind::CouldNotStart, what).saw(crate::settings::yaml::quoted(text));
    let failure = match error.kind() {
        ErrorKind::SyntaxError => failure.why("this is not a Jinja expression that ferry can read"),
        _ if !near.is_empty() => failure.mend(format!("did you mean {}?", near.join(", "))),
        ErrorKind::UndefinedError => {
            failure.mend("define it, or give a value for when it is not: {{ name | default('…') }}")
        }
        _ => failure,
    };
    let line = error.line().unwrap_or(1);
    let column = error
        .range()
        .and_then(|range| text.get(..range.start))
        .map_or(1, |before| before.rsplit('\n').next().unwrap_or("").chars().count() + 1);
    placed(failure, text, (line, column), place)
}

fn placed(mut failure: Failure, text: &str, at: (usize, usize), place: Option<&Place>) -> Failure {
    failure.snippet = Some(snippet(text, at.0, at.1));
    match place {
        Some(place) => failure.at(place.clone()),
        None => failure,
    }
}

fn shown(value: &Value) -> String {
    crate::settings::yaml::quoted(&value.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scope() -> Scope {
        let mut scope = Scope::new();
        scope.data("n", &json!(5));
        scope.data("name", &json!("prod"));
        scope.data("list", &json!(["b", "a", "b"]));
        scope.data("map", &json!({"k": 1, "z": [true, null]}));
        scope.data("hostile", &json!("{{ name }}"));
        scope.data("result", &json!({"failed": false, "changed": true, "rc": 0, "stdout": "v7.1.2", "skipped": false}));
        scope.data("hosts", &json!([{"name": "a", "up": true}, {"name": "b", "up": false}]));
        scope.data("secret", &json!({"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256"}));
        scope.written("greeting", &json!("hello {{ name }}"), None);
        scope.written("nested", &json!({"a": ["{{ greeting }}"], "n": "{{ n }}"}), None);
        scope.written("loop_a", &json!("{{ loop_b }}"), None);
        scope.written("loop_b", &json!("{{ loop_a }}"), None);
        scope.written("hollow", &json!("{{ nowhere }}"), None);
        scope
    }

    #[test]
    fn renders_as_ansible_does() {
        let templater = Templater::new();
        let cases = [
            ("plain", json!("plain")),
            ("{{ n }}", json!(5)),
            ("{{ n }}{{ n }}", json!("55")),
            ("n={{ n }}", json!("n=5")),
            ("{{ map }}", json!({"k": 1, "z": [true, null]})),
            ("{{ {'a': {'b': n}} }}", json!({"a": {"b": 5}})),
            ("x {{ map.z }} {{ list }}", json!("x [True, None] ['b', 'a', 'b']")),
            ("{{ greeting }}", json!("hello prod")),
            ("{{ nested }}", json!({"a": ["hello prod"], "n": 5})),
            ("{{ hostile }}", json!("{{ name }}")),
            ("<{{ hostile }}>", json!("<{{ name }}>")),
            ("{{ nowhere | default('d') }}", json!("d")),
            ("{{ '' | default('d', true) }}", json!("d")),
            ("{{ '12' | int + 1 }}", json!(13)),
            ("{{ 'abc' | int }}", json!(0)),
            ("{{ 'yes' | bool }}", json!(true)),
            ("{{ 'off' | bool }}", json!(false)),
            ("{{ list | unique | join(',') }}", json!("b,a")),
            ("{{ list | length }}", json!(3)),
            ("{{ list | first }}{{ list | last }}", json!("bb")),
            ("{{ hosts | map(attribute='name') | list }}", json!(["a", "b"])),
            ("{{ hosts | selectattr('up') | map(attribute='name') | first }}", json!("a")),
            ("{{ hosts | selectattr('name', 'equalto', 'b') | list | length }}", json!(1)),
            ("{{ map | combine({'k': 2, 'n': 3}) }}", json!({"k": 2, "z": [true, null], "n": 3})),
            ("{{ {'a': 1} | dict2items }}", json!([{"key": "a", "value": 1}])),
            ("{{ map | to_json }}", json!("{\"k\": 1, \"z\": [true, null]}")),
            ("{{ '{\"a\": [1]}' | from_json }}", json!({"a": [1]})),
            ("{{ 'v7.1.2' | regex_search('[0-9]+\\\\.[0-9]+') }}", json!("7.1")),
            ("{{ 'v7' | regex_search('x') }}", json!(null)),
            ("{{ 'a-b-c' | regex_replace('(\\\\w)-(\\\\w)', '\\\\2_\\\\1') }}", json!("b_a-c")),
            ("{{ '/a/b.tar' | basename }} {{ '/a/b.tar' | dirname }}", json!("b.tar /a")),
            ("{{ \"it's\" | quote }}", json!("'it'\"'\"'s'")),
            ("{{ (n > 3) | ternary('big', 'small') }}", json!("big")),
            ("{{ name | upper }} {{ ' x ' | trim }}", json!("PROD x")),
            ("{{ name.startswith('pr') }}", json!(true)),
            ("{{ 'a,b'.split(',') }}", json!(["a", "b"])),
            ("{{ map.keys() | list }}", json!(["k", "z"])),
            ("{% if n == 5 %}five{% endif %}\n", json!("five\n")),
            ("{% raw %}{{ n }}{% endraw %}", json!("{{ n }}")),
            ("{{ n }} {{ true }} {{ none }}|", json!("5 True |")),
        ];
        for (text, expected) in cases {
            assert_eq!(templater.render(text, None, &scope()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn conditions() {
        let templater = Templater::new();
        let cases = [
            ("n == 5", true),
            ("n > 5 or name == 'prod'", true),
            ("nowhere is defined", false),
            ("nowhere is undefined", true),
            ("result is succeeded", true),
            ("result is success and result is changed", true),
            ("result is failed", false),
            ("result is skipped", false),
            ("result.stdout is match('v7')", true),
            ("result.stdout is match('7')", false),
            ("result.stdout is search('1.2$')", true),
            ("'a' in list", true),
            ("'a' is in list", true),
            ("'c' not in list", true),
            ("'7.1.10' is version('7.1.9', '>=')", true),
            ("'7.1' is version('7.1.9', '>=')", false),
            ("not (result.rc != 0)", true),
            ("{{ n == 5 }}", true),
            ("True", true),
        ];
        for (text, expected) in cases {
            assert_eq!(templater.evaluate_condition(text, None, &scope()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn bad_templates_are_told_with_what_was_meant() {
        let templater = Templater::new();
        let cases = [
            ("{{ nmae }}", "nmae is not defined", "name"),
            ("x {{ nmae }}", "nmae is not defined", "name"),
            ("{{ nmae.x }}", "nmae is not defined", "name"),
            ("{{ map.nokey }}", "not defined", ""),
            ("{{ n + }}", "", ""),
            ("{{ n", "", ""),
            ("{{ n | nofilter }}", "this filter is not built", ""),
            ("{{ n is notest }}", "this test is not built", ""),
            ("{{ loop_a }}", "refers to itself: loop_a -> loop_b -> loop_a", ""),
            ("{{ hollow }}", "the variable hollow cannot be rendered: nowhere is not defined", ""),
            ("{{ secret }}", "!vault", ""),
            ("x{{ secret }}", "!vault", ""),
            ("{% for a in range(90000) %}{% for b in range(90000) %}x{% endfor %}{% endfor %}", "come to an end", ""),
            ("{{ 'x' | regex_search('(') }}", "regular expression", ""),
            ("{{ 'x' | from_json }}", "JSON", ""),
        ];
        for (text, what, near) in cases {
            let failure = templater.render(text, None, &scope()).unwrap_err();
            assert!(failure.what.contains(what), "{text}: {failure:?}");
            assert!(failure.mend.unwrap_or_default().contains(near), "{text}");
            assert!(failure.snippet.is_some());
        }
        for text in ["n", "name", "list", "nmae == 1", "n ==", "secret == 1"] {
            assert!(templater.evaluate_condition(text, None, &scope()).is_err(), "{text}");
        }
    }
}
