//! Jinja expressions over our values.
//!
//! What lives here: rendering text that the operator wrote ([`Templater`]), the names that it may
//! use ([`Scope`]), and conditions. What does not: where variables come from (inventory, playbook)
//! and when something is rendered (run).
//!
//! What came from a host is data: it is put into a [`Scope`] with [`Scope::data`] and is never read
//! as a template, and what a rendering gives is not rendered a second time.

mod chance;
mod checks;
mod config;
mod dates;
mod dump;
mod filters;
mod lookups;
mod python;
mod rewrite;
mod strings;
mod tables;
mod values;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use minijinja::value::{Enumerator, Object};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use regex::Regex;
use serde_json::{Map, Value};

use crate::failure::{Failure, Kind, Place, snippet};
use crate::name::nearest;
use crate::settings::ansible_cfg;

/// How many steps one rendering may take; a loop in a template ends there.
const FUEL: u64 = 2_000_000;
/// How many variables may refer to one another in a row.
const DEEPEST: usize = 32;
/// The longest text that a rendering may give, in bytes.
const LONGEST: usize = 4 * 1024 * 1024;

/// Whether `text` has something to render.
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// Whether there is something to render in `value` or inside of it.
pub fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => is_template(text),
        Value::Array(items) => items.iter().any(has_template),
        Value::Object(map) if is_unsafe(map) => false,
        Value::Object(map) => map.values().any(has_template),
        _ => false,
    }
}

/// Whether mappings of variables are joined where one overrides another (`ANSIBLE_HASH_BEHAVIOUR=merge`).
pub fn joins_mappings() -> bool {
    static SAYS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *SAYS.get_or_init(|| ansible_cfg::in_force("defaults.hash_behaviour").is_some_and(|given| given == "merge"))
}

/// `new` over `old`; key by key where both are mappings and [`joins_mappings`].
pub fn over(old: Option<&Value>, new: &Value) -> Value {
    match (old, new) {
        (Some(Value::Object(old)), Value::Object(new)) if joins_mappings() && !is_unsafe(old) && !is_unsafe(new) => {
            let mut out = old.clone();
            for (name, value) in new {
                let joined = over(out.get(name), value);
                out.insert(name.clone(), joined);
            }
            Value::Object(out)
        }
        _ => new.clone(),
    }
}

/// Whether an `!unsafe` text is in it.
fn has_unsafe(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_unsafe),
        Value::Object(map) => is_unsafe(map) || map.values().any(has_unsafe),
        _ => false,
    }
}

/// Whether this is an `!unsafe` text: text, whatever stands in it.
fn is_unsafe(map: &Map<String, Value>) -> bool {
    map.len() == 1 && map.contains_key(values::UNSAFE_KEY)
}

/// Whether a rendered value is `omit`: the argument counts as not given.
pub fn is_omit(value: &Value) -> bool {
    value.as_str() == Some(values::OMITTED)
}

/// What is not defined, in the words of Ansible: scripts and playbooks look for them.
pub fn python_words(what: &str) -> String {
    // The innermost of variables that refer to one another.
    let what = what.rsplit(" cannot be rendered: ").next().unwrap_or(what);
    static UNDEFINED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b([A-Za-z_]\w*) is not defined\b").ok());
    let Some(undefined) = &*UNDEFINED else { return what.to_owned() };
    undefined
        .replace_all(what, "'$1' is undefined")
        .replace("a part of it is not defined: object has no attribute", "object of type 'dict' has no attribute")
        .replace("a part of 'it' is undefined: object has no attribute", "object of type 'dict' has no attribute")
}

/// JSON as Python writes it on one line.
pub fn json_text(value: &Value) -> String {
    dump::json(value, None, false, true)
}

/// The names of the lookups that ferry has: what may stand behind `with_`.
pub fn lookup_names() -> &'static [&'static str] {
    lookups::NAMES
}

pub use lookups::end_commands;

/// How the text of a template file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStyle {
    /// The line feed behind a block goes.
    pub trim_blocks: bool,
    /// The blanks before a block go.
    pub lstrip_blocks: bool,
    /// What ends a line of the result.
    pub newline: String,
    marks: rewrite::Marks,
}

impl Default for FileStyle {
    fn default() -> Self {
        Self { trim_blocks: true, lstrip_blocks: false, newline: "\n".to_owned(), marks: rewrite::Marks::default() }
    }
}

impl FileStyle {
    /// Sets one of Ansible's settings (`trim_blocks`, `variable_start_string`, …); false where there is none of that name
    /// or the value does not fit.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let flag = match value.to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        };
        let slot = match name {
            "variable_start_string" => &mut self.marks.variable.0,
            "variable_end_string" => &mut self.marks.variable.1,
            "block_start_string" => &mut self.marks.block.0,
            "block_end_string" => &mut self.marks.block.1,
            "comment_start_string" => &mut self.marks.comment.0,
            "comment_end_string" => &mut self.marks.comment.1,
            "newline_sequence" => {
                self.newline = value.replace("\\r", "\r").replace("\\n", "\n");
                return matches!(self.newline.as_str(), "\n" | "\r" | "\r\n");
            }
            "trim_blocks" => {
                self.trim_blocks = flag.unwrap_or(false);
                return flag.is_some();
            }
            "lstrip_blocks" => {
                self.lstrip_blocks = flag.unwrap_or(false);
                return flag.is_some();
            }
            "keep_trailing_newline" | "output_encoding" => return true,
            _ => return false,
        };
        value.clone_into(slot);
        !value.is_empty()
    }

    /// Takes a first line `#jinja2: name: value, …` off a template and reads it.
    ///
    /// # Errors
    /// The setting that is not known.
    fn header<'t>(&mut self, text: &'t str) -> Result<&'t str, String> {
        let Some(rest) = text.strip_prefix("#jinja2:") else { return Ok(text) };
        let (line, body) = rest.split_once('\n').unwrap_or((rest, ""));
        for pair in line.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (name, value) =
                pair.split_once(':').ok_or_else(|| format!("{pair:?} in the line #jinja2 has no colon"))?;
            let value = value.trim();
            let bare = value.strip_prefix(['\'', '"']).and_then(|rest| rest.strip_suffix(['\'', '"'])).unwrap_or(value);
            if !self.set(name.trim(), bare) {
                return Err(format!("the line #jinja2 sets {:?} to {bare:?}, which cannot be", name.trim()));
            }
        }
        Ok(body)
    }
}

#[derive(Debug, Clone)]
enum Slot {
    /// Written by the operator: rendered when it is used.
    Written(Value, Option<Place>),
    /// Nothing to render: data, or (`true`) what the operator wrote without a template in it.
    Data(minijinja::Value, bool),
    /// The variables of other hosts, by their names.
    Hosts(Arc<dyn HostScopes>),
}

/// The variables of other hosts (`hostvars`), made when they are asked for.
pub trait HostScopes: Send + Sync + fmt::Debug {
    /// All hosts' names.
    fn names(&self) -> Vec<String>;
    /// The variables of that host; `None` where there is no such host.
    fn scope(&self, host: &str) -> Option<Scope>;
    /// The hosts that a pattern matches; `None` where patterns cannot be asked.
    fn matching(&self, pattern: &str) -> Option<Vec<String>> {
        let _ = pattern;
        None
    }
}

/// `hostvars` in a template.
#[derive(Debug)]
struct HostVars {
    env: Arc<Environment<'static>>,
    rewritten: Arc<Rewritten>,
    hosts: Arc<dyn HostScopes>,
}

impl Object for HostVars {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        let scope = self.hosts.scope(key.as_str()?)?;
        Some(minijinja::Value::from_dyn_object(Arc::new(Context::new(self.env.clone(), self.rewritten.clone(), scope))))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.hosts.names().into_iter().map(minijinja::Value::from).collect())
    }
}

/// Names with their values, in layers: what is added to names that others share lies above them, and nothing is copied.
#[derive(Debug, Clone, Default)]
struct Names {
    top: Arc<BTreeMap<Arc<str>, Slot>>,
    under: Option<Arc<Self>>,
    depth: u8,
}

impl Names {
    /// So few names are copied rather than laid over.
    const FEW: usize = 6;
    /// More layers than this are made one.
    const DEEPEST: u8 = 5;

    fn get(&self, name: &str) -> Option<&Slot> {
        let mut at = self;
        loop {
            if let Some(slot) = at.top.get(name) {
                return Some(slot);
            }
            at = at.under.as_deref()?;
        }
    }

    fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn is_empty(&self) -> bool {
        self.top.is_empty() && self.under.is_none()
    }

    /// All names at once, what is above over what is below.
    fn flat(&self) -> BTreeMap<Arc<str>, Slot> {
        let mut out = self.under.as_deref().map(Self::flat).unwrap_or_default();
        out.extend(self.top.iter().map(|(name, slot)| (name.clone(), slot.clone())));
        out
    }

    fn flatten(&mut self) {
        if self.under.is_some() {
            *self = Self { top: Arc::new(self.flat()), under: None, depth: 0 };
        }
    }

    fn top_mut(&mut self) -> &mut BTreeMap<Arc<str>, Slot> {
        if Arc::get_mut(&mut self.top).is_none() && self.top.len() > Self::FEW {
            if self.depth < Self::DEEPEST {
                let below = std::mem::take(self);
                self.depth = below.depth + 1;
                self.under = Some(Arc::new(below));
            } else {
                self.flatten();
            }
        }
        Arc::make_mut(&mut self.top)
    }

    fn insert(&mut self, name: &str, slot: Slot) {
        let top = self.top_mut();
        match top.get_mut(name) {
            Some(known) => *known = slot,
            None => {
                top.insert(Arc::from(name), slot);
            }
        }
    }

    fn remove(&mut self, name: &str) {
        self.flatten();
        Arc::make_mut(&mut self.top).remove(name);
    }

    /// The names, sorted, each once.
    fn keys(&self) -> Vec<&str> {
        let mut out: Vec<&str> = Vec::new();
        let mut at = Some(self);
        while let Some(layer) = at {
            out.extend(layer.top.keys().map(|name| &**name));
            at = layer.under.as_deref();
        }
        if self.under.is_some() {
            out.sort_unstable();
            out.dedup();
        }
        out
    }
}

/// The names that a template may use. Later additions override earlier ones. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    names: Names,
}

/// A value that many scopes have: made ready once.
#[derive(Debug, Clone)]
pub struct Ready(minijinja::Value);

impl Ready {
    /// `value`, as data.
    pub fn of(value: &Value) -> Self {
        Self(values::from_json(value))
    }
}

impl Scope {
    /// Adds a value that was made ready before.
    pub fn ready(&mut self, name: &str, value: &Ready) {
        self.names.insert(name, Slot::Data(value.0.clone(), false));
    }

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
        let joined;
        let value = if joins_mappings() && value.is_object() {
            joined = over(self.as_written(name).as_ref(), value);
            &joined
        } else {
            value
        };
        let slot = if has_template(value) || has_unsafe(value) {
            Slot::Written(value.clone(), place)
        } else {
            Slot::Data(values::from_json(value), true)
        };
        self.names.insert(name, slot);
    }

    /// Adds a value that is data, such as what a host said: it is never rendered.
    pub fn data(&mut self, name: &str, value: &Value) {
        let value = values::from_json(value);
        self.names.insert(name, Slot::Data(value, false));
    }

    /// Adds a value that came out of what the operator wrote: it is never rendered, and [`Scope::as_written`] knows it.
    pub fn own(&mut self, name: &str, value: &Value) {
        let value = values::from_json(value);
        self.names.insert(name, Slot::Data(value, true));
    }

    /// The value of `name` as the operator wrote it, templates not rendered; `None` where it is data, which no expression is read from.
    pub fn as_written(&self, name: &str) -> Option<Value> {
        match self.names.get(name)? {
            Slot::Written(value, _) => Some(value.clone()),
            Slot::Data(value, true) => values::to_json(value).ok(),
            Slot::Data(..) | Slot::Hosts(_) => None,
        }
    }

    /// The value of `name` where there is nothing to render in it.
    pub fn plain(&self, name: &str) -> Option<Value> {
        match self.names.get(name)? {
            Slot::Data(value, _) => values::to_json(value).ok(),
            Slot::Written(..) | Slot::Hosts(_) => None,
        }
    }

    /// Takes over all names of `other`; they win.
    pub fn merge(&mut self, other: &Self) {
        if other.names.is_empty() {
            return;
        }
        let joins = |name: &str| joins_mappings() && other.as_written(name).is_some_and(|value| value.is_object());
        let flat;
        let others = match other.names.under {
            None => &*other.names.top,
            Some(_) => {
                flat = other.names.flat();
                &flat
            }
        };
        let names = self.names.top_mut();
        for (name, slot) in others.iter().filter(|(name, _)| !joins(name)) {
            names.insert(name.clone(), slot.clone());
        }
        if joins_mappings() {
            for name in others.keys().filter(|name| joins(name)) {
                if let Some(value) = other.as_written(name) {
                    self.written(name, &value, None);
                }
            }
        }
    }

    /// Adds what the operator wrote under names that are not there yet.
    pub fn fill(&mut self, vars: &[(String, Place, Value)]) {
        for (name, place, value) in vars {
            if !self.names.contains_key(name) {
                self.written(name, value, Some(place.clone()));
            } else if joins_mappings()
                && let Some(upper) = self.as_written(name).filter(Value::is_object)
            {
                let joined = over(Some(value), &upper);
                self.remove(name);
                self.written(name, &joined, Some(place.clone()));
            }
        }
    }

    /// Takes a name away.
    pub fn remove(&mut self, name: &str) {
        if self.names.contains_key(name) {
            self.names.remove(name);
        }
    }

    /// Adds the variables of other hosts under this name: they are made when a template asks for them.
    pub fn hosts(&mut self, name: &str, hosts: Arc<dyn HostScopes>) {
        self.names.insert(name, Slot::Hosts(hosts));
    }

    /// Whether `name` is in this scope.
    pub fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().into_iter()
    }
}

/// Renders templates. Cheap to clone.
#[derive(Clone)]
pub struct Templater {
    env: Arc<Environment<'static>>,
    rewritten: Arc<Rewritten>,
    /// `ANSIBLE_ALLOW_BROKEN_CONDITIONALS`.
    loose: bool,
}

/// A longer text is no condition.
const LONGEST_CONDITION: usize = 4096;

/// Opens what is encrypted: the path and its text.
pub type Opener = Arc<dyn Fn(&Path, String) -> Result<String, Failure> + Send + Sync>;

/// A text in the engine's words, and what is known of it.
struct Ours {
    text: Arc<str>,
    /// The name under which the engine keeps it compiled; `None` where it does not, since there are too many, or it must not run a
    /// second time when it fails.
    name: Option<String>,
    /// Whether it is an expression that can be read, once that was tried.
    reads: std::sync::OnceLock<bool>,
    /// It was used before: what comes once is not worth keeping.
    again: AtomicBool,
}

impl Ours {
    /// The name of the compiled form, from the second use on.
    fn kept(&self) -> Option<&str> {
        self.again.swap(true, Ordering::Relaxed).then_some(self.name.as_deref()?)
    }
}

/// What stands before a text that is a template's name.
const KEPT: char = '\0';
/// So many texts are kept compiled, and none that is longer.
const MOST_KEPT: usize = 8192;
const LONGEST_KEPT: usize = 1024;
/// How many are.
static KEPT_SO_FAR: AtomicUsize = AtomicUsize::new(0);
/// The engine with all that it knows: made once, and shared.
static ENGINE: std::sync::OnceLock<Arc<Environment<'static>>> = std::sync::OnceLock::new();

/// Texts that were rewritten already: the same one comes once per host and item.
#[derive(Default)]
struct Rewritten {
    known: Mutex<HashMap<(bool, bool, String), Arc<Ours>>>,
    /// Texts that the operator wrote.
    trusted: Mutex<HashSet<String>>,
    /// Opens files that are encrypted.
    opener: std::sync::OnceLock<Opener>,
}

impl fmt::Debug for Rewritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rewritten")
    }
}

impl Rewritten {
    fn trusts(&self, text: &str) -> bool {
        self.trusted.lock().unwrap_or_else(PoisonError::into_inner).contains(text)
    }

    fn unlocked(&self, path: &Path, text: String) -> Result<String, Failure> {
        match self.opener.get() {
            Some(open) => open(path, text),
            None => Err(Failure::new(
                Kind::Failed,
                format!("{} is encrypted by Ansible Vault, and no password is known", path.display()),
            )
            .mend("--vault-password-file FILE, or --ask-vault-pass")),
        }
    }

    /// An expression, or a whole template, in the engine's words.
    fn get(&self, text: &str, whole: bool, keep_backslashes: bool) -> Arc<Ours> {
        let key = (whole, keep_backslashes, text.to_owned());
        if let Some(known) = self.known.lock().ok().and_then(|known| known.get(&key).cloned()) {
            return known;
        }
        let dates = about_dates(text);
        let ways = rewrite::Ways { keep_backslashes, dates };
        let out: Arc<str> = if whole {
            rewrite::template(text, &rewrite::Marks::default(), ways).into()
        } else {
            rewrite::expression(text, ways).into()
        };
        // A lookup may do something: it runs once.
        let acts = ["lookup", "query", "q("].iter().any(|word| text.contains(word));
        let room = text.len() <= LONGEST_KEPT && KEPT_SO_FAR.fetch_add(1, Ordering::Relaxed) < MOST_KEPT;
        let name = (room && !acts).then(|| match whole {
            true => format!("{KEPT}{out}"),
            false => format!("{KEPT}{{{{ {}({out}) }}}}", values::KEEP),
        });
        let out = Arc::new(Ours { text: out, name, reads: std::sync::OnceLock::new(), again: AtomicBool::new(false) });
        if let Ok(mut known) = self.known.lock() {
            if known.len() > 20_000 {
                known.clear();
            }
            known.insert(key, out.clone());
        }
        out
    }
}

thread_local! {
    /// The names that the renderings of this thread see, outermost first: lookups ask them.
    static SEEN: RefCell<Vec<Arc<Context>>> = const { RefCell::new(Vec::new()) };
}

/// Runs something with the names of `context` for its lookups.
fn seeing<T>(context: &Arc<Context>, run: impl FnOnce() -> T) -> T {
    SEEN.with_borrow_mut(|all| all.push(context.clone()));
    let out = run();
    SEEN.with_borrow_mut(Vec::pop);
    out
}

/// What a lookup sees: the names of the template it stands in, those that the template made itself before the others.
struct Here<'s, 't, 'e> {
    state: Option<&'s minijinja::State<'t, 'e>>,
    context: Option<Arc<Context>>,
}

impl lookups::Around for Here<'_, '_, '_> {
    fn variable(&self, name: &str) -> Option<minijinja::Value> {
        match self.state {
            Some(state) => state.lookup(name),
            None => self.context.as_ref()?.get_value(&minijinja::Value::from(name)),
        }
    }

    fn unlocked(&self, path: &Path, text: String) -> Result<String, minijinja::Error> {
        let wrong = |what: String| minijinja::Error::new(ErrorKind::InvalidOperation, what);
        match &self.context {
            Some(context) => context.rewritten.unlocked(path, text).map_err(|failure| wrong(failure.what)),
            None => Err(wrong(format!("{} is encrypted", path.display()))),
        }
    }

    fn matching(&self, pattern: &str) -> Option<Vec<String>> {
        match self.context.as_ref()?.scope.names.get("hostvars")? {
            Slot::Hosts(hosts) => hosts.matching(pattern),
            _ => None,
        }
    }

    fn names(&self) -> Vec<String> {
        self.context.as_ref().map(|context| context.scope.names().map(str::to_owned).collect()).unwrap_or_default()
    }

    fn render(
        &self,
        text: &str,
        folder: &Path,
        more: &[(String, minijinja::Value)],
        style: &FileStyle,
    ) -> Result<String, minijinja::Error> {
        let wrong = |what: String| minijinja::Error::new(ErrorKind::InvalidOperation, what);
        let context = self.context.clone().ok_or_else(|| wrong("a template without variables around it".to_owned()))?;
        let mut scope = context.scope.clone();
        if !scope.knows("ansible_managed") {
            scope.data("ansible_managed", &Value::from(managed(&[])));
        }
        for (name, value) in more {
            scope.data(name, &values::to_json(value)?);
        }
        let inner =
            Arc::new(Context { scope, ..Context::new(context.env.clone(), context.rewritten.clone(), Scope::new()) });
        render_file(&inner, text, folder, style)
    }
}

/// Whether what is subtracted in a template may be dates. They may come from variables: then by what is asked of the difference.
fn about_dates(text: &str) -> bool {
    const WORDS: &[&str] = &["to_datetime", "now(", ".days", ".seconds", ".microseconds", ".total_seconds"];
    WORDS.iter().any(|word| text.contains(word))
}

/// A text's bytes in the encoding `name`, as a template's file may be written.
///
/// # Errors
/// [`Kind::Failed`]: a character that it does not have, or it is not built.
pub(crate) fn encoded(text: &str, name: &str) -> Result<Vec<u8>, Failure> {
    strings::encoded(text, name).map_err(|error| {
        Failure::new(Kind::Failed, error.detail().unwrap_or("the encoding is not built in ferry").to_owned())
    })
}

/// What `ansible_managed` is where no variable says it: the setting's text, with `{file}`, `{host}` and `{uid}` filled in.
pub(crate) fn managed(about: &[(&str, &str)]) -> String {
    let text = ansible_cfg::in_force("defaults.ansible_managed").unwrap_or_else(|| "Ansible managed".to_owned());
    about.iter().fold(text, |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// A template file's text, rendered.
fn render_file(
    context: &Arc<Context>,
    text: &str,
    folder: &Path,
    style: &FileStyle,
) -> Result<String, minijinja::Error> {
    let wrong = |what: String| minijinja::Error::new(ErrorKind::InvalidOperation, what);
    let mut style = style.clone();
    let body = style.header(text).map_err(wrong)?;
    let marks = style.marks.clone();
    let mut env = (*context.env).clone();
    let syntax = minijinja::syntax::SyntaxConfig::builder()
        .block_delimiters(marks.block.0.clone(), marks.block.1.clone())
        .variable_delimiters(marks.variable.0.clone(), marks.variable.1.clone())
        .comment_delimiters(marks.comment.0.clone(), marks.comment.1.clone())
        .trim_blocks(style.trim_blocks)
        .lstrip_blocks(style.lstrip_blocks)
        .build()?;
    env.set_syntax(syntax);
    env.set_fuel(Some(FUEL * 10));
    let ways = rewrite::Ways { keep_backslashes: false, dates: about_dates(text) };
    let mut folders: Vec<PathBuf> = vec![folder.to_path_buf()];
    for name in ["role_path", "playbook_dir"] {
        if let Some(path) = context.get_value(&minijinja::Value::from(name))
            && let Some(path) = path.as_str()
        {
            folders.extend([Path::new(path).join("templates"), PathBuf::from(path)]);
        }
    }
    let inner = marks.clone();
    env.set_loader(move |name| {
        if name.starts_with('/') || name.split('/').any(|part| part == "..") {
            return Ok(None);
        }
        match folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()) {
            Some(path) => std::fs::read_to_string(&path)
                // The line feed at the end of a text that is included is none of the text, as in Jinja.
                .map(|text| Some(rewrite::template(text.strip_suffix('\n').unwrap_or(&text), &inner, ways)))
                .map_err(|error| wrong(format!("{} cannot be read: {error}", path.display()))),
            None => Ok(None),
        }
    });
    let body = body.replace("\r\n", "\n");
    let ends = |text: &str| text.len() - text.trim_end_matches('\n').len();
    let wanted = ends(&body);
    let body = rewrite::template(&body, &marks, ways);
    let root = minijinja::Value::from_dyn_object(context.clone());
    let mut out = seeing(context, || env.template_from_str(&body).and_then(|template| template.render(root)))?;
    // Jinja takes the last line feed away. What is made ends with as many as the file does, or with those of a value that stands last.
    // Nothing stays nothing.
    let lacks = if out.is_empty() { 0 } else { wanted.saturating_sub(ends(&out)) };
    out.extend(std::iter::repeat_n('\n', lacks));
    Ok(if style.newline == "\n" { out } else { out.replace('\n', &style.newline) })
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

/// The engine with Ansible's filters, tests and functions.
fn engine() -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    filters::add(&mut env);
    strings::add(&mut env);
    checks::add(&mut env);
    lookups::add(&mut env);
    env.set_unknown_method_callback(|_, value, method, args| python::method(value, method, args));
    env.add_global("omit", minijinja::Value::from_object(values::Omit));
    for (name, value) in [("True", true), ("False", false)] {
        env.add_global(name, minijinja::Value::from(value));
    }
    env.add_function(values::KEEP, values::keep);
    // Templates that are kept compiled have their text for a name.
    env.set_loader(|name| Ok(name.strip_prefix(KEPT).map(str::to_owned)));
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(64);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_formatter(values::print);
    if let Ok(syntax) = minijinja::syntax::SyntaxConfig::builder().keep_trailing_newline(true).build() {
        env.set_syntax(syntax);
    }
    // What ansible-core's own tests ask: whether the operator wrote that text.
    env.add_test(
        "ansible._protomatter.tagged_with",
        |value: &minijinja::Value, tag: &str| -> Result<bool, minijinja::Error> {
            if tag != "TrustedAsTemplate" {
                let what = format!("ferry marks no values as {tag}");
                return Err(minijinja::Error::new(ErrorKind::InvalidOperation, what));
            }
            let context = SEEN.with_borrow(|all| all.last().cloned());
            Ok(value.as_str().zip(context).is_some_and(|(text, context)| context.rewritten.trusts(text)))
        },
    );
    env
}

impl Templater {
    /// A templater with Ansible's filters and tests, strict about names that are not there.
    pub fn new() -> Self {
        let env = Arc::clone(ENGINE.get_or_init(|| Arc::new(engine())));
        Self { env, rewritten: Arc::default(), loose: ansible_cfg::says("defaults.allow_broken_conditionals") }
    }

    /// What opens files of the vault from now on, for this templater and all that were cloned from it. The first one stays.
    pub fn opens_with(&self, opener: Opener) {
        let _ = self.rewritten.opener.set(opener);
    }

    /// The plain text of a file of the vault.
    ///
    /// # Errors
    /// [`Kind::Failed`]: no password opens it.
    pub fn unlocked(&self, path: &Path, text: String) -> Result<String, Failure> {
        self.rewritten.unlocked(path, text)
    }

    /// Notes a text that the operator wrote: it may be an expression also where it comes out of a template.
    pub fn trust(&self, text: &str) {
        if text.len() <= LONGEST_CONDITION && !is_template(text) {
            self.rewritten.trusted.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned());
        }
    }

    /// Whether the operator wrote exactly this text somewhere ([`Templater::trust`]).
    pub fn trusts(&self, text: &str) -> bool {
        self.rewritten.trusts(text)
    }

    fn context(&self, scope: &Scope) -> Arc<Context> {
        Arc::new(Context::new(self.env.clone(), self.rewritten.clone(), scope.clone()))
    }

    /// Renders the text of a template file that lies in `folder`: includes are looked for there. The text may begin with
    /// a line `#jinja2:`, which overrides `style`.
    ///
    /// # Errors
    /// As [`Templater::render`].
    pub fn render_file(
        &self,
        text: &str,
        folder: &Path,
        style: &FileStyle,
        place: Option<&Place>,
        scope: &Scope,
    ) -> Result<String, Failure> {
        render_file(&self.context(scope), text, folder, style).map_err(|error| {
            let mut failure = explain(&error, text, None, scope);
            failure.place = place.cloned();
            failure
        })
    }

    /// What the lookup `name` gives for these terms, as a list: a `with_` form is this. The terms are rendered already.
    ///
    /// # Errors
    /// As [`Templater::render`]: no such lookup, or it failed.
    pub fn query(
        &self,
        name: &str,
        terms: &[Value],
        place: Option<&Place>,
        scope: &Scope,
    ) -> Result<Vec<Value>, Failure> {
        let context = self.context(scope);
        let terms: Vec<minijinja::Value> = terms.iter().map(values::from_json).collect();
        let kwargs = minijinja::value::Kwargs::from_iter(Vec::<(&str, minijinja::Value)>::new());
        let here = Here { state: None, context: Some(context.clone()) };
        seeing(&context, || lookups::query(name, &terms, &kwargs, &here))
            .and_then(|all| all.iter().map(values::to_json).collect())
            .map_err(|error| explain(&error, name, place, scope))
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
        let context = self.context(scope);
        evaluate(&context, text)
            .and_then(|value| values::to_json(&value))
            .map_err(|error| explain(&error, text, place, scope))
    }

    /// Renders every text inside of `value`, the keys of mappings too. What is `omit` inside of a list or a mapping goes.
    ///
    /// # Errors
    /// As [`Templater::render`].
    pub fn render_value(&self, value: &Value, place: Option<&Place>, scope: &Scope) -> Result<Value, Failure> {
        Ok(match value {
            Value::String(text) => self.render(text, place, scope)?,
            Value::Array(items) => {
                let all = items.iter().map(|item| self.render_value(item, place, scope));
                Value::Array(all.filter(|item| !item.as_ref().is_ok_and(is_omit)).collect::<Result<_, _>>()?)
            }
            Value::Object(map) if is_unsafe(map) => map.get(values::UNSAFE_KEY).cloned().unwrap_or(Value::Null),
            Value::Object(map) => {
                let mut out = Map::new();
                for (key, value) in map {
                    let value = self.render_value(value, place, scope)?;
                    // What is omitted inside of a mapping was never there.
                    if !is_omit(&value) {
                        // A key is no template, as in Ansible.
                        out.insert(key.clone(), value);
                    }
                }
                Value::Object(out)
            }
            other => other.clone(),
        })
    }

    /// The value of the bare expression `text` (without braces), as `when` has it, as true or false.
    ///
    /// # Errors
    /// As [`Templater::render`]; also when the value is neither true nor false.
    pub fn evaluate_condition(&self, text: &str, place: Option<&Place>, scope: &Scope) -> Result<bool, Failure> {
        let whole = strip_braces(text);
        let bare = whole.unwrap_or(text);
        let context = self.context(scope);
        // A text within an expression may be a template of its own; within a template it is text.
        let opened = if whole.is_none() { rewrite::open_texts(bare) } else { None };
        // Backslashes are Jinja's here, not the text's: so it is in Ansible.
        let rewritten = self.rewritten.get(opened.as_deref().unwrap_or(bare), false, false);
        // Several templates in a row are no expression: what they give is text, and text is no condition.
        if whole.is_some() && bare.contains("}}") && self.env.compile_expression(&rewritten.text).is_err() {
            let value = self.render(text, place, scope)?;
            return match value {
                Value::Bool(value) => Ok(value),
                _ => Err(Failure::new(
                    Kind::CouldNotStart,
                    format!("the condition {text:?} gives a text, an untrusted template or expression"),
                )
                .mend("write one expression, without braces")),
            };
        }
        let value = value_of(&context, &rewritten)
            .and_then(|value| values::to_json(&value))
            .map_err(|error| explain(&error, bare, place, scope))?;
        match value {
            Value::Bool(value) => Ok(value),
            // As Ansible does where it is told to: what counts as true in Python is true.
            other if self.loose => Ok(match other {
                Value::Null => false,
                Value::Number(number) => number.as_f64() != Some(0.0),
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::Object(map) => !map.is_empty(),
                Value::Bool(value) => value,
            }),
            other => Err(placed(
                Failure::new(
                    Kind::CouldNotStart,
                    match &other {
                        // What a value gave is never read as an expression.
                        Value::String(_) => format!(
                            "the condition {bare:?} is neither true nor false but a text, an untrusted template or expression"
                        ),
                        _ => format!("the condition {bare:?} is neither true nor false"),
                    },
                )
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
        let whole = strip_braces(text);
        let bare = whole.unwrap_or(text);
        let opened = if whole.is_none() { rewrite::open_texts(bare) } else { None };
        let bare = &*self.rewritten.get(opened.as_deref().unwrap_or(bare), false, false).text;
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
            && let inner = &*self.rewritten.get(inner, false, true).text
            && self.env.compile_expression(inner).is_ok()
        {
            return self.known_words(inner).map_err(|error| explain(&error, text, place, &Scope::new()));
        }
        static INSIDE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?s)\{\{.*?\}\}|\{%.*?%\}").ok());
        let text = &*self.rewritten.get(text, true, true).text;
        let parsed = self.env.template_from_str(text).map(drop).and_then(|()| {
            if text.contains("endraw") {
                return Ok(());
            }
            INSIDE.iter().flat_map(|inside| inside.find_iter(text)).try_for_each(|part| self.known_words(part.as_str()))
        });
        parsed.map_err(|error| explain(&error, text, place, &Scope::new()))
    }

    /// Whether all filters and tests in an expression are there. The engine itself looks only when it
    /// gets to them, which would be after hosts have been touched.
    fn known_words(&self, expression: &str) -> Result<(), minijinja::Error> {
        static WORDS: LazyLock<Option<[Regex; 3]>> = LazyLock::new(|| {
            Some([
                Regex::new(r#"(?s)"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"#).ok()?,
                Regex::new(r"\|\s*([A-Za-z_][A-Za-z0-9_.]*)").ok()?,
                Regex::new(r"\bis\s+(?:not\s+)?([A-Za-z_][A-Za-z0-9_.]*)").ok()?,
            ])
        });
        // Texts are blanked out first: what looks like a filter in one is none.
        let Some([texts, filters, tests]) = &*WORDS else { return Ok(()) };
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

/// The value of an expression. What cannot be told from the compiled form, such as where it fails, is found out by the text.
fn value_of(context: &Arc<Context>, ours: &Ours) -> Result<minijinja::Value, minijinja::Error> {
    let root = minijinja::Value::from_dyn_object(context.clone());
    let kept = ours.kept();
    if let Some(name) = kept
        && ours.reads.get() == Some(&true)
        && let Ok(template) = context.env.get_template(name)
        && let Some(value) = seeing(context, || values::kept(|| template.render(root.clone())))
    {
        return Ok(value);
    }
    let expression = context.env.compile_expression(&ours.text);
    let _ = ours.reads.set(expression.is_ok());
    let expression = expression?;
    seeing(context, || expression.eval(root))
}

fn evaluate(context: &Arc<Context>, text: &str) -> Result<minijinja::Value, minijinja::Error> {
    let root = minijinja::Value::from_dyn_object(context.clone());
    // Line feeds behind it belong to a text only.
    let body = text.trim_end_matches('\n');
    if body.starts_with("{{")
        && body.ends_with("}}")
        && let Some(inner) = strip_braces(body)
    {
        let rewritten = context.rewritten.get(inner, false, true);
        // What cannot be read as one expression is a template of several.
        let said = if rewritten.reads.get() == Some(&false) { None } else { Some(value_of(context, &rewritten)) };
        if let (Some(said), Some(true)) = (said, rewritten.reads.get()) {
            let value = said?;
            let feeds = text.get(body.len()..).unwrap_or_default();
            return Ok(match value.as_str() {
                Some(said) if !feeds.is_empty() => minijinja::Value::from(format!("{said}{feeds}")),
                _ => value,
            });
        }
    }
    let rewritten = context.rewritten.get(text, true, true);
    let kept = rewritten.kept().and_then(|name| context.env.get_template(name).ok());
    let run =
        |template: &minijinja::Template<'_, '_>| seeing(context, || values::native(|| template.render(root.clone())));
    let out = match kept.map(|template| run(&template)) {
        Some(Ok(out)) => out,
        // Where it fails is told by the text.
        Some(Err(_)) | None => run(&context.env.template_from_str(&rewritten.text)?)?,
    };
    if out.as_str().is_some_and(|out| out.len() > LONGEST) {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, "the rendered text is longer than 4 MiB"));
    }
    Ok(out)
}

/// The root of the names of one rendering. Written variables are rendered here at their first use.
struct Context {
    env: Arc<Environment<'static>>,
    rewritten: Arc<Rewritten>,
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
    fn new(env: Arc<Environment<'static>>, rewritten: Arc<Rewritten>, scope: Scope) -> Self {
        Self { env, rewritten, scope, stack: Vec::new(), done: Arc::default() }
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
        let inner = Arc::new(Self {
            env: self.env.clone(),
            rewritten: self.rewritten.clone(),
            scope: self.scope.clone(),
            stack,
            done: self.done.clone(),
        });
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
            Slot::Data(value, _) => Some(value.clone()),
            Slot::Hosts(hosts) => Some(minijinja::Value::from_dyn_object(Arc::new(HostVars {
                env: self.env.clone(),
                rewritten: self.rewritten.clone(),
                hosts: hosts.clone(),
            }))),
            Slot::Written(value, place) => {
                Some(self.written(name, value, place.as_ref()).unwrap_or_else(minijinja::Value::from))
            }
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.scope.names.keys().into_iter().map(minijinja::Value::from).collect())
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
            !scope.knows(root) && env.globals().all(|(known, _)| known != root)
        })
        .collect();
    let first = |name: &str| {
        let name = name.split('.').next().unwrap_or(name);
        let part = |c: char| c.is_alphanumeric() || c == '_';
        text.match_indices(name).map(|(at, _)| at).find(|at| {
            let (before, behind) = text.split_at(*at);
            !before.ends_with(part) && !behind.get(name.len()..).is_some_and(|rest| rest.starts_with(part))
        })
    };
    missing.sort_by_key(|name| (first(name), name.clone()));
    match missing.first() {
        Some(name) => format!("{} is not defined", name.split('.').next().unwrap_or(name)),
        None => {
            static NAMED: LazyLock<Option<Regex>> =
                LazyLock::new(|| Regex::new(r#"attribute\s*=\s*["'](\w+)["']|\.(\w+)|\[\s*["'](\w+)["']\s*\]"#).ok());
            let last = NAMED.as_ref().and_then(|named| {
                let found = named.captures_iter(text).last()?;
                found.iter().skip(1).flatten().next().map(|name| name.as_str().to_owned())
            });
            match last {
                Some(name) => format!("a part of it is not defined: object has no attribute '{name}'"),
                None => "a part of it is not defined".to_owned(),
            }
        }
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
    let by_zero = detail.starts_with("unable to calculate ")
        && detail.rsplit(' ').next().is_some_and(|last| last.parse::<f64>() == Ok(0.0));
    let what = match innermost.kind() {
        _ if by_zero => format!("division by zero ({detail})"),
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
        if what.starts_with("No variable named ") {
            near.clear();
        } else if let Some(name) = said.strip_suffix(" is not defined") {
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
            ("{{ 'v7.1.2' | regex_search('[0-9]+\\.[0-9]+') }}", json!("7.1")),
            ("{{ 'v7' | regex_search('x') }}", json!(null)),
            ("{{ 'a-b-c' | regex_replace('(\\w)-(\\w)', '\\2_\\1') }}", json!("b_a-c")),
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
