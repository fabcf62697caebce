//! Lookups: `lookup('file', …)`, `query(…)` and the `with_` forms.
//!
//! What lives here: what reads this machine (files, environment, commands) for the operator's own templates, and the ones that
//! only rearrange lists. What does not: anything of a host. What a lookup gives is never rendered again.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use regex::Regex;

use super::chance::Chance;
use super::filters::{flat, is_list, items, subelements};
use super::python::{percent, text, type_name, wrong};

/// The names of the lookups that ferry has.
pub(crate) const NAMES: &[&str] = &[
    "cartesian",
    "config",
    "csvfile",
    "dict",
    "env",
    "file",
    "fileglob",
    "first_found",
    "flattened",
    "indexed_items",
    "ini",
    "items",
    "lines",
    "list",
    "nested",
    "password",
    "pipe",
    "random_choice",
    "sequence",
    "subelements",
    "template",
    "together",
    "unvault",
    "vars",
    "varnames",
    "inventory_hostnames",
];

/// What a lookup needs of the place where it is called.
pub(super) trait Around {
    /// A variable, rendered.
    fn variable(&self, name: &str) -> Option<Value>;
    /// The names of all variables.
    fn names(&self) -> Vec<String>;
    /// A template's text, rendered with these variables besides.
    fn render(
        &self,
        text: &str,
        folder: &Path,
        more: &[(String, Value)],
        style: &super::FileStyle,
    ) -> Result<String, Error>;
    /// The plain text of a file of the vault.
    fn unlocked(&self, path: &Path, text: String) -> Result<String, Error>;
    /// The hosts that a pattern matches; `None` where there is no inventory.
    fn matching(&self, pattern: &str) -> Option<Vec<String>>;
}

fn short(name: &str) -> &str {
    ["ansible.builtin.", "ansible.legacy."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// Where files are looked for: the role's, the playbook's, the current folder; in `kind` of each first.
fn folders(around: &dyn Around, kind: &str) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = Vec::new();
    if let Some(all) = around.variable("ansible_search_path").filter(is_list) {
        roots.extend(items(&all).unwrap_or_default().iter().filter_map(Value::as_str).map(PathBuf::from));
    }
    for name in ["role_path", "playbook_dir"] {
        if let Some(path) = around.variable(name)
            && let Some(path) = path.as_str()
        {
            roots.push(PathBuf::from(path));
        }
    }
    roots.push(std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")));
    let mut out = Vec::new();
    for root in roots {
        for path in [root.join(kind), root.clone()] {
            if !out.contains(&path) {
                out.push(path);
            }
        }
    }
    out
}

/// The file that a name means, or `None`.
pub(super) fn find(around: &dyn Around, kind: &str, name: &str) -> Option<PathBuf> {
    let name = super::strings::expanduser(name);
    if name.starts_with('/') {
        return Some(PathBuf::from(&name)).filter(|path| path.exists());
    }
    folders(around, kind).into_iter().map(|folder| folder.join(&name)).find(|path| path.exists())
}

/// A file's text, opened where it is encrypted.
fn read(path: &Path, around: &dyn Around) -> Result<String, Error> {
    let text = read_as_it_is(path)?;
    if crate::vault::is_encrypted(&text) { around.unlocked(path, text) } else { Ok(text) }
}

pub(super) fn read_as_it_is(path: &Path) -> Result<String, Error> {
    String::from_utf8(read_bytes(path)?).map_err(|_| wrong(format!("{} is not text", path.display())))
}

pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    const MOST: u64 = 4 << 20;
    let size = std::fs::metadata(path).map(|data| data.len()).unwrap_or(0);
    if size > MOST {
        return Err(wrong(format!("{} has more than 4 MiB; a lookup is for short texts", path.display())));
    }
    std::fs::read(path).map_err(|error| wrong(format!("{} cannot be read: {error}", path.display())))
}

pub(super) struct Options<'a> {
    kwargs: &'a Kwargs,
}

impl Options<'_> {
    pub(super) fn names(&self) -> Vec<String> {
        self.kwargs.args().map(str::to_owned).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<Value> {
        self.kwargs.get::<Option<Value>>(name).ok().flatten()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_none()).and_then(|value| text(&value).ok())
    }

    pub(super) fn flag(&self, name: &str, other: bool) -> bool {
        self.get(name).map_or(other, |value| super::filters::to_bool(&value).is_ok_and(|value| value.is_true()))
    }
}

/// Words `a b=c` of a lookup's text.
fn words(term: &str) -> Result<(String, Vec<(String, String)>), Error> {
    let all = shlex::split(term).ok_or_else(|| wrong(format!("a quote is not closed in {term:?}")))?;
    let (mut plain, mut named) = (Vec::new(), Vec::new());
    for word in all {
        match word.split_once('=') {
            Some((key, value)) if key.chars().all(|c| c.is_alphanumeric() || c == '_') => {
                named.push((key.to_owned(), value.to_owned()));
            }
            _ => plain.push(word),
        }
    }
    Ok((plain.join(" "), named))
}

fn sequence(term: &str, options: &Options<'_>) -> Result<Vec<Value>, Error> {
    let bad = |what: &str| wrong(format!("sequence: {what} in {term:?}"));
    let number = |text: &str| -> Option<i64> {
        let (sign, bare) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let value = if let Some(hex) = bare.strip_prefix("0x") {
            i64::from_str_radix(hex, 16).ok()?
        } else if bare.len() > 1 && bare.starts_with('0') {
            i64::from_str_radix(bare, 8).ok()?
        } else {
            bare.parse().ok()?
        };
        Some(sign * value)
    };
    let (mut start, mut end, mut count, mut stride, mut form) = (None, None, None, None, None);
    static SHORT: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"^(?:(-?(?:0x)?[0-9a-fA-F]+)-)?(-?(?:0x)?[0-9a-fA-F]+)(?:/(-?(?:0x)?[0-9a-fA-F]+))?(?::(.+))?$")
            .ok()
    });
    if let Some(found) = SHORT.as_ref().and_then(|short| short.captures(term.trim())) {
        let part = |at: usize, name: &str| {
            let Some(part) = found.get(at) else { return Ok(None) };
            let wrong = || bad(&format!("{name}={} has an invalid value: it is not a number", part.as_str()));
            number(part.as_str()).map(Some).ok_or_else(wrong)
        };
        (start, end, stride) = (part(1, "start")?, part(2, "end")?, part(3, "stride")?);
        form = found.get(4).map(|form| form.as_str().to_owned());
    } else {
        for (key, value) in words(term)?.1 {
            let slot = match key.as_str() {
                "start" => &mut start,
                "end" => &mut end,
                "count" => &mut count,
                "stride" => &mut stride,
                "format" => {
                    form = Some(value);
                    continue;
                }
                other => {
                    return Err(bad(&format!("unrecognized arguments to with_sequence: ['{other}']")));
                }
            };
            *slot = Some(
                number(&value)
                    .ok_or_else(|| bad(&format!("{key}={value} has an invalid value: it is not a number")))?,
            );
        }
    }
    let given = |name: &str| options.get(name).and_then(|value| value.as_i64().or_else(|| number(value.as_str()?)));
    let start = start.or(given("start")).unwrap_or(1);
    let (end, count) = (end.or(given("end")), count.or(given("count")));
    let form = form.or_else(|| options.text("format")).unwrap_or_else(|| "%d".to_owned());
    if !form.contains('%') {
        return Err(bad(&format!("bad formatting string: {form}")));
    }
    let stride = stride.or(given("stride"));
    let (end, stride) = match (end, count) {
        (Some(_), Some(_)) => return Err(bad("can't specify both count and end in with_sequence")),
        (None, None) => return Err(bad("must specify count or end in with_sequence")),
        (Some(end), None) => (end, stride.unwrap_or(1)),
        (None, Some(0)) => return Ok(Vec::new()),
        (None, Some(count)) => {
            let stride = stride.unwrap_or(1);
            // As Ansible counts, also backwards, where it is two more.
            (start + count * stride - 1, stride)
        }
    };
    if stride == 0 {
        return Ok(Vec::new());
    }
    if stride > 0 && end < start {
        return Err(bad("to count backwards make stride negative"));
    }
    if stride < 0 && end > start {
        return Err(bad("to count forward don't make stride negative"));
    }
    if (end - start).abs() / stride.abs() > 100_000 {
        return Err(bad("more than 100,000 numbers"));
    }
    let mut out = Vec::new();
    let mut at = start;
    while if stride > 0 { at <= end } else { at >= end } {
        out.push(Value::from(percent(&form, &[Value::from(at)], None)?));
        at += stride;
    }
    Ok(out)
}

/// The commands of `pipe` that run, each the head of a group of its own; `None` once none may begin any more.
static RUNNING: std::sync::Mutex<Option<Vec<rustix::process::Pid>>> = std::sync::Mutex::new(Some(Vec::new()));

/// Ends the commands that lookups have started, with all that they started, and lets no more begin: ferry was told to stop.
pub fn end_commands() {
    let all = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    for pid in all.into_iter().flatten() {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
    }
}

fn pipe(command: &str, folder: Option<&Path>) -> Result<String, Error> {
    use std::os::unix::process::CommandExt as _;
    let mut child = std::process::Command::new("/bin/sh");
    child.arg("-c").arg(command).stdin(std::process::Stdio::null()).stderr(std::process::Stdio::inherit());
    child.stdout(std::process::Stdio::piped()).process_group(0);
    if let Some(folder) = folder {
        child.current_dir(folder);
    }
    let cannot = |error: std::io::Error| wrong(format!("/bin/sh cannot be started: {error}"));
    let running = || RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (child, pid) = {
        let mut all = running();
        let Some(all) = all.as_mut() else { return Err(wrong("ferry was told to stop")) };
        let child = child.spawn().map_err(cannot)?;
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        all.extend(pid);
        (child, pid)
    };
    let out = child.wait_with_output().map_err(cannot);
    if let Some(all) = running().as_mut() {
        all.retain(|known| Some(*known) != pid);
    }
    let out = out?;
    if !out.status.success() {
        return Err(wrong(format!("lookup_plugin.pipe({command}) returned {}", out.status.code().unwrap_or(-1))));
    }
    String::from_utf8(out.stdout).map_err(|_| wrong("what the command said is not text"))
}

/// A password that stays the same: kept in a file of this machine, 0600, made when it is not there.
fn password(term: &str, around: &dyn Around, options: &Options<'_>) -> Result<String, Error> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let (path, named) = words(term)?;
    let option = |name: &str| {
        named.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).or_else(|| {
            let value = options.get(name)?;
            if is_list(&value) {
                Some(items(&value).ok()?.iter().filter_map(|one| text(one).ok()).collect::<Vec<_>>().join(","))
            } else {
                text(&value).ok()
            }
        })
    };
    let length = option("length")
        .map_or(Ok(20), |length| length.parse::<usize>().map_err(|_| wrong("password: length is a number")))?;
    let mut letters = String::new();
    let chars = option("chars");
    let sets: Vec<&str> = match &chars {
        None => vec!["ascii_letters", "digits", ".,:-_"],
        // Two commas in a term are one letter, and come first.
        Some(text) => {
            let in_term = named.iter().any(|(name, _)| name == "chars");
            let comma = (in_term && text.contains(",,")).then_some("");
            comma.into_iter().chain(text.split(',').filter(|set| !set.is_empty())).collect()
        }
    };
    for set in sets {
        letters.push_str(match set {
            "ascii_letters" => "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "ascii_lowercase" => "abcdefghijklmnopqrstuvwxyz",
            "ascii_uppercase" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "digits" => "0123456789",
            "hexdigits" => "0123456789abcdefABCDEF",
            "punctuation" => "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
            "" => ",",
            other => other,
        });
    }
    let letters: Vec<char> = letters.chars().collect();
    let encrypt = option("encrypt");
    let file = if path.starts_with('/') || path.starts_with('~') {
        PathBuf::from(super::strings::expanduser(&path))
    } else {
        folders(around, "files").into_iter().nth(1).unwrap_or_default().join(&path)
    };
    let nowhere = file == Path::new("/dev/null");
    let fresh = || -> String {
        let mut chance = option("seed").map_or(Chance::System, |seed| Chance::of_text(&seed));
        let count = letters.len() as u64;
        (0..length.min(4096)).filter_map(|_| letters.get(chance.below(count) as usize).copied()).collect()
    };
    let known = if nowhere { None } else { std::fs::read_to_string(&file).ok() };
    let (plain, mut salt) = match &known {
        Some(kept) => match kept.trim_end_matches('\n').rsplit_once(" salt=") {
            Some((plain, salt)) => (plain.to_owned(), Some(salt.split(' ').next().unwrap_or_default().to_owned())),
            None => (kept.trim_end_matches('\n').to_owned(), None),
        },
        None => (fresh(), None),
    };
    let kind = encrypt.as_deref().map(|kind| kind.trim_end_matches("_crypt"));
    let needs_salt = kind.is_some() && salt.is_none();
    if needs_salt {
        salt = Some(super::strings::random_salt());
    }
    if !nowhere && (known.is_none() || needs_salt) {
        let cannot = |error: std::io::Error| wrong(format!("{} cannot be written: {error}", file.display()));
        if let Some(folder) = file.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
        }
        let kept = match &salt {
            Some(salt) => format!("{plain} salt={salt}\n"),
            None => format!("{plain}\n"),
        };
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&file)
            .map_err(cannot)?;
        out.write_all(kept.as_bytes()).map_err(cannot)?;
    }
    match kind {
        Some(kind) => {
            super::strings::password_hash(&plain, kind, salt, Some(if kind == "sha256" { 535_000 } else { 656_000 }))
        }
        None => Ok(plain),
    }
}

/// The pair of an element and an item of its list, the element without that list.
fn without(pair: &Value, keys: &[&str]) -> Result<Value, Error> {
    let (mut element, item) = (super::values::to_json(&pair.get_item_by_index(0)?)?, pair.get_item_by_index(1)?);
    if let Some((last, before)) = keys.split_last() {
        let inner = before.iter().try_fold(&mut element, |at, key| at.get_mut(key));
        if let Some(serde_json::Value::Object(map)) = inner {
            map.shift_remove(*last);
        }
    }
    Ok(Value::from(vec![super::values::from_json(&element), item]))
}

fn glob(pattern: &str) -> Vec<PathBuf> {
    let (folder, name) = pattern.rsplit_once('/').unwrap_or((".", pattern));
    let mut form = String::from("^");
    for c in name.chars() {
        match c {
            '*' => form.push_str(".*"),
            '?' => form.push('.'),
            '[' | ']' | '-' => form.push(c),
            '!' => form.push('^'),
            other => form.push_str(&regex::escape(&other.to_string())),
        }
    }
    form.push('$');
    let Ok(regex) = regex::Regex::new(&form) else { return Vec::new() };
    let folder = if folder.is_empty() { "/" } else { folder };
    let mut out: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|all| all.filter_map(Result::ok).map(|entry| entry.path()).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
        .filter(|path| path.is_file())
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|file| regex.is_match(file) && (!file.starts_with('.') || name.starts_with('.')))
        })
        .collect();
    out.sort();
    out
}

pub(super) fn fileglob(pattern: &str) -> Vec<Value> {
    glob(pattern).into_iter().map(|path| Value::from(path.to_string_lossy().into_owned())).collect()
}

fn first_found(terms: &[Value], around: &dyn Around, options: &Options<'_>) -> Result<Vec<Value>, Error> {
    let list = |value: Option<Value>| -> Result<Vec<String>, Error> {
        match value.filter(|value| !value.is_none() && !value.is_undefined()) {
            Some(value) if is_list(&value) => items(&value)?.iter().map(text).collect(),
            Some(value) => Ok(text(&value)?.split([',', ':', ';']).map(str::to_owned).collect()),
            None => Ok(Vec::new()),
        }
    };
    let mut skip = options.flag("skip", false);
    let mut wanted: Vec<String> = Vec::new();
    let mut groups = Vec::new();
    if options.get("files").is_some() {
        groups.push((list(options.get("files"))?, list(options.get("paths"))?));
    }
    for term in terms
        .iter()
        .map(|term| if is_list(term) { items(term) } else { Ok(vec![term.clone()]) })
        .collect::<Result<Vec<_>, _>>()?
        .concat()
    {
        if term.kind() == ValueKind::Map {
            let get = |name: &str| term.get_attr(name).ok();
            groups.push((list(get("files"))?, list(get("paths"))?));
            skip |= get("skip").is_some_and(|skip| {
                !skip.is_undefined() && super::filters::to_bool(&skip).is_ok_and(|skip| skip.is_true())
            });
        } else {
            groups.push((vec![text(&term)?], list(options.get("paths"))?));
        }
    }
    for (files, paths) in groups {
        if paths.is_empty() {
            wanted.extend(files);
        } else if files.is_empty() {
            wanted.extend(paths);
        } else {
            for path in &paths {
                wanted.extend(files.iter().map(|file| super::strings::path_join(&[path.clone(), file.clone()])));
            }
        }
    }
    for name in &wanted {
        for kind in ["files", "templates", "vars", "tasks"] {
            if let Some(path) = find(around, kind, name) {
                return Ok(vec![Value::from(path.to_string_lossy().into_owned())]);
            }
        }
    }
    if skip { Ok(Vec::new()) } else { Err(wrong("No file was found when using first_found.")) }
}

/// A lookup plugin of the operator's, in Python: beside the role or the playbook.
fn plugin(name: &str, around: &dyn Around) -> Option<PathBuf> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let folder = |variable: &str| around.variable(variable).and_then(|path| path.as_str().map(PathBuf::from));
    let roots = [folder("role_path"), folder("playbook_dir")];
    roots
        .into_iter()
        .flatten()
        .map(|root| root.join("lookup_plugins").join(format!("{name}.py")))
        .find(|path| path.is_file())
}

/// Has this machine's python3 run the operator's own lookup: what it is given goes over its standard input.
fn run_plugin(path: &Path, terms: &[Value], kwargs: &Kwargs, around: &dyn Around) -> Result<Vec<Value>, Error> {
    use std::io::Write as _;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut options = serde_json::Map::new();
    for key in kwargs.args() {
        options.insert(key.to_owned(), super::values::to_json(&kwargs.get::<Value>(key)?)?);
    }
    let mut variables = serde_json::Map::new();
    for key in ["role_path", "playbook_dir", "inventory_hostname", "ansible_search_path"] {
        if let Some(value) = around.variable(key) {
            variables.insert(key.to_owned(), super::values::to_json(&value)?);
        }
    }
    let json = |term: &Value| {
        if term.is_undefined() { Ok(serde_json::Value::Null) } else { super::values::to_json(term) }
    };
    let terms = terms.iter().map(json).collect::<Result<Vec<_>, _>>()?;
    let given = serde_json::json!({"path": path, "terms": terms, "variables": variables, "options": options});
    let cannot = |error: std::io::Error| {
        wrong(format!("{} is in Python, and python3 cannot be run on this machine: {error}", path.display()))
    };
    let mut child = std::process::Command::new("python3")
        .arg("-c")
        .arg(include_str!("lookup.py"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::inherit())
        .spawn()
        .map_err(cannot)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(given.to_string().as_bytes()).map_err(cannot)?;
    }
    let said = child.wait_with_output().map_err(cannot)?;
    let garbled = || wrong(format!("the lookup plugin {name} gave no list"));
    let out: serde_json::Value = serde_json::from_slice(&said.stdout).map_err(|_| garbled())?;
    if let Some(error) = out.get("error").and_then(serde_json::Value::as_str) {
        return Err(wrong(error.to_owned()));
    }
    let all = out.get("out").and_then(serde_json::Value::as_array).ok_or_else(garbled)?;
    Ok(all.iter().map(super::values::from_json).collect())
}

fn run(name: &str, terms: &[Value], kwargs: &Kwargs, around: &dyn Around) -> Result<Vec<Value>, Error> {
    let options = Options { kwargs };
    let texts = || terms.iter().map(text).collect::<Result<Vec<_>, _>>();
    let missing = |file: &str| wrong(format!("Unable to access the file '{file}': File not found."));
    // The forms that rearrange take a list as one term or several.
    let lists = || -> Result<Vec<Vec<Value>>, Error> {
        let all: Vec<Value> = match terms {
            [one] if is_list(one) && items(one)?.iter().any(is_list) => items(one)?,
            _ => terms.to_vec(),
        };
        all.iter().map(|one| if is_list(one) { items(one) } else { Ok(vec![one.clone()]) }).collect()
    };
    Ok(match name {
        "env" => texts()?
            .iter()
            .map(|name| match std::env::var(name) {
                Ok(value) => Ok(Value::from(value)),
                Err(_) => match options.get("default") {
                    Some(default) if default.is_undefined() => Err(Error::new(
                        ErrorKind::UndefinedError,
                        format!("the environment variable {name} is not defined"),
                    )),
                    Some(default) => Ok(default),
                    None => Ok(Value::from("")),
                },
            })
            .collect::<Result<_, _>>()?,
        name_of @ ("file" | "unvault") => {
            let mut out = Vec::new();
            for name in texts()? {
                let path = find(around, "files", &name).ok_or_else(|| missing(&name))?;
                let mut content = read(&path, around)?;
                if options.flag("lstrip", false) {
                    content = content.trim_start().to_owned();
                }
                if options.flag("rstrip", name_of == "file") {
                    content.truncate(content.trim_end().len());
                }
                out.push(Value::from(content));
            }
            out
        }
        "template" => {
            let more: Vec<(String, Value)> = match options.get("template_vars") {
                Some(map) if map.kind() == ValueKind::Map => {
                    items(&map)?.iter().map(|key| Ok((text(key)?, map.get_item(key)?))).collect::<Result<_, Error>>()?
                }
                _ => Vec::new(),
            };
            let mut out = Vec::new();
            for name in texts()? {
                let path = find(around, "templates", &name)
                    .ok_or_else(|| wrong(format!("the template file {name} could not be found for the lookup")))?;
                let mut style = super::FileStyle::default();
                for setting in [
                    "variable_start_string",
                    "variable_end_string",
                    "comment_start_string",
                    "comment_end_string",
                    "block_start_string",
                    "block_end_string",
                    "trim_blocks",
                    "lstrip_blocks",
                ] {
                    if let Some(given) = options.text(setting)
                        && !style.set(setting, &given)
                    {
                        return Err(wrong(format!("template: {setting} cannot be {given:?}")));
                    }
                }
                let folder = path.parent().unwrap_or(Path::new("/"));
                let text = around.render(&read(&path, around)?, folder, &more, &style)?;
                out.push(if text.is_empty() { Value::from(()) } else { Value::from(text) });
            }
            out
        }
        "vars" => {
            let mut out = Vec::new();
            if let Some(other) = terms.iter().find(|term| term.as_str().is_none()) {
                return Err(wrong(format!("Variable name must be 'str' not '{}'", type_name(other))));
            }
            for name in texts()? {
                match around.variable(&name).filter(|value| !value.is_undefined()) {
                    Some(value) if value.kind() == ValueKind::Invalid => {
                        super::values::to_json(&value)?;
                    }
                    Some(value) => out.push(value),
                    None => match options.get("default") {
                        Some(default) => out.push(default),
                        None => {
                            return Err(Error::new(
                                ErrorKind::UndefinedError,
                                format!("No variable named '{name}' was found."),
                            ));
                        }
                    },
                }
            }
            out
        }
        "varnames" => {
            let mut out = Vec::new();
            if let Some(other) = terms.iter().find(|term| term.as_str().is_none()) {
                return Err(wrong(format!("Invalid setting identifier, \"{other}\" is not a string")));
            }
            for pattern in texts()? {
                let regex = super::strings::regex(&pattern, false, false).map_err(|error| {
                    let why = if pattern.starts_with(['*', '+', '?']) {
                        "nothing to repeat at position 0".to_owned()
                    } else {
                        error.to_string()
                    };
                    wrong(format!("Unable to use \"{pattern}\" as a search parameter: {why}"))
                })?;
                out.extend(
                    around.names().into_iter().filter(|name| regex.is_match(name).unwrap_or(false)).map(Value::from),
                );
            }
            out
        }
        "pipe" | "lines" => {
            let folder = around
                .variable("playbook_dir")
                .and_then(|dir| dir.as_str().map(PathBuf::from))
                .filter(|dir| dir.is_dir());
            let mut out = Vec::new();
            for command in texts()? {
                let said = pipe(&command, folder.as_deref())?;
                if name == "pipe" {
                    out.push(Value::from(said.trim_end().to_owned()));
                } else {
                    out.extend(said.lines().map(Value::from));
                }
            }
            out
        }
        "password" => {
            texts()?.iter().map(|term| password(term, around, &options).map(Value::from)).collect::<Result<_, _>>()?
        }
        "fileglob" => {
            let mut out = Vec::new();
            for pattern in texts()? {
                if pattern.starts_with('/') {
                    out.extend(fileglob(&pattern));
                } else {
                    let found = folders(around, "files")
                        .into_iter()
                        .map(|folder| fileglob(&folder.join(&pattern).to_string_lossy()))
                        .find(|all| !all.is_empty());
                    out.extend(found.unwrap_or_default());
                }
            }
            out
        }
        "first_found" => first_found(terms, around, &options)?,
        "sequence" => {
            if terms.is_empty() {
                let given =
                    ["start", "end", "count", "stride", "format"].iter().any(|name| options.get(name).is_some());
                return if given { sequence("", &options) } else { Ok(Vec::new()) };
            }
            let mut out = Vec::new();
            for term in texts()? {
                out.extend(sequence(&term, &options)?);
            }
            out
        }
        "items" => flat(terms, Some(1), false)?,
        "list" => terms.to_vec(),
        "flattened" => flat(terms, None, true)?,
        "indexed_items" => flat(terms, Some(1), false)?
            .into_iter()
            .enumerate()
            .map(|(at, item)| Value::from(vec![Value::from(at), item]))
            .collect(),
        "dict" => {
            let mut out = Vec::new();
            for map in flat(terms, None, true)? {
                if map.kind() != ValueKind::Map {
                    return Err(wrong("the dict lookup plugin expects a dictionary"));
                }
                for key in items(&map)? {
                    let value = map.get_item(&key)?;
                    out.push(Value::from_pairs([("key", key), ("value", value)]));
                }
            }
            out
        }
        "nested" | "cartesian" => {
            let lists = lists()?;
            if lists.is_empty() {
                return Err(wrong("with_nested requires at least one element in the nested list"));
            }
            let mut out: Vec<Vec<Value>> = vec![Vec::new()];
            for list in &lists {
                out = out
                    .iter()
                    .flat_map(|head| list.iter().map(move |item| [head.clone(), vec![item.clone()]].concat()))
                    .collect();
                if out.len() > 200_000 {
                    return Err(wrong("with_nested: more than 200,000 items"));
                }
            }
            out.into_iter().map(|row| flat(&row, Some(1), false).map(Value::from)).collect::<Result<_, _>>()?
        }
        "together" => {
            let lists = lists()?;
            if lists.is_empty() {
                return Err(wrong("with_together requires at least one element in each list"));
            }
            let most = lists.iter().map(Vec::len).max().unwrap_or(0);
            (0..most)
                .map(|at| {
                    Value::from(
                        lists.iter().map(|list| list.get(at).cloned().unwrap_or(Value::from(()))).collect::<Vec<_>>(),
                    )
                })
                .collect()
        }
        "subelements" => {
            let all: Vec<Value> = match terms {
                [one] if is_list(one) => items(one)?,
                _ => terms.to_vec(),
            };
            let (Some(list), Some(path)) = (all.first(), all.get(1)) else {
                return Err(wrong(
                    "subelements lookup expects a list of two or three items, first a dict or a list, second a string pointing to the subkey",
                ));
            };
            let wanted = "subelements lookup expects a list of two or three items, first a dict or a list, second a string pointing to the subkey";
            if all.len() > 3 {
                return Err(wrong(wanted));
            }
            if !(is_list(list) || list.kind() == ValueKind::Map) || path.as_str().is_none() {
                return Err(wrong(wanted));
            }
            if all.get(2).is_some_and(|flags| flags.kind() != ValueKind::Map) {
                return Err(wrong("the optional third item must be a dict with flags skip_missing"));
            }
            let skip = all.get(2).is_some_and(|flags| {
                flags
                    .get_attr("skip_missing")
                    .is_ok_and(|skip| super::filters::to_bool(&skip).is_ok_and(|skip| skip.is_true()))
            });
            // What was skipped (the results of a loop) has none.
            let passed_over = |one: &Value| {
                one.get_attr("skipped").is_ok_and(|skipped| !skipped.is_undefined() && skipped != Value::from(false))
            };
            if list.kind() == ValueKind::Map && passed_over(list) {
                return Ok(Vec::new());
            }
            let kept = match list.kind() {
                ValueKind::Map => items(list)?.iter().map(|key| list.get_item(key)).collect::<Result<Vec<_>, _>>()?,
                _ => items(list)?,
            };
            let kept: Vec<Value> = kept.into_iter().filter(|one| !passed_over(one)).collect();
            let pairs = subelements(&Value::from(kept), path, skip)?;
            // An element comes without the list that was taken out of it; the filter leaves it whole.
            let keys: Vec<&str> = path.as_str().unwrap_or_default().split('.').collect();
            pairs.iter().map(|pair| without(pair, &keys)).collect::<Result<_, _>>()?
        }
        "random_choice" => {
            if terms.is_empty() {
                return Ok(Vec::new());
            }
            let at = rand::random::<u32>() as usize % terms.len();
            terms.get(at).cloned().into_iter().collect()
        }
        "inventory_hostnames" => {
            let groups = around.variable("groups").unwrap_or(Value::UNDEFINED);
            let mut out: Vec<Value> = Vec::new();
            for name in texts()? {
                if let Some(hosts) = around.matching(&name) {
                    out.extend(
                        hosts.into_iter().map(Value::from).filter(|host| !out.contains(host)).collect::<Vec<_>>(),
                    );
                    continue;
                }
                let hosts = groups.get_attr(&name).unwrap_or(Value::UNDEFINED);
                if !hosts.is_undefined() {
                    out.extend(items(&hosts)?.into_iter().filter(|host| !out.contains(host)).collect::<Vec<_>>());
                }
            }
            out
        }
        "csvfile" => super::tables::csvfile(&texts()?, around, &options)?,
        "ini" => super::tables::ini(&texts()?, around, &options)?,
        "config" => {
            let missing = options.text("on_missing").unwrap_or_else(|| "error".to_owned());
            if !["error", "warn", "skip"].contains(&missing.as_str()) {
                return Err(wrong(format!("config: Invalid value '{missing}' for on_missing: error, warn or skip")));
            }
            if let Some(other) = terms.iter().find(|term| term.as_str().is_none()) {
                return Err(wrong(format!("Invalid setting identifier, '{other}' is not a string")));
            }
            let of_plugin = (options.text("plugin_type"), options.text("plugin_name"));
            let mut out = Vec::new();
            for name in texts()? {
                let found = match &of_plugin {
                    (None, None) => super::config::value(&name),
                    (Some(kind), Some(plugin)) => of_a_plugin(kind, plugin, &name, around)?,
                    _ => {
                        return Err(wrong(
                            "Both plugin_type and plugin_name are required, cannot use one without the other",
                        ));
                    }
                };
                match found.or_else(|| options.get("default")) {
                    Some(value) => out.push(value),
                    None if missing == "error" => {
                        return Err(wrong(format!("No config definition exists for '{name}': ferry does not know it")));
                    }
                    None => {}
                }
            }
            out
        }
        other if plugin(other, around).is_some() => {
            let path = plugin(other, around).unwrap_or_default();
            run_plugin(&path, terms, kwargs, around)?
        }
        other => {
            let near = crate::name::nearest(other, NAMES.iter().copied(), 2);
            let meant = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) };
            return Err(wrong(format!("the lookup plugin '{other}' was not found: it is not built in ferry{meant}")));
        }
    })
}

/// An option of the connection `ssh`, as the variables at hand set it.
fn of_a_plugin(kind: &str, plugin: &str, name: &str, around: &dyn Around) -> Result<Option<Value>, Error> {
    const OF_SSH: &[(&str, &[&str], Option<&str>)] = &[
        ("remote_user", &["ansible_user", "ansible_ssh_user"], None),
        ("port", &["ansible_port", "ansible_ssh_port"], None),
        ("host", &["inventory_hostname", "ansible_host", "ansible_ssh_host"], None),
        ("ssh_transfer_method", &["ansible_ssh_transfer_method"], Some("smart")),
        ("ssh_args", &["ansible_ssh_args"], Some("-C -o ControlMaster=auto -o ControlPersist=60s")),
        ("ssh_common_args", &["ansible_ssh_common_args"], Some("")),
        ("private_key_file", &["ansible_private_key_file", "ansible_ssh_private_key_file"], None),
        ("host_key_checking", &["ansible_host_key_checking", "ansible_ssh_host_key_checking"], Some("True")),
    ];
    let known: &[(&str, &[&str], Option<&str>)] = match (kind, short(plugin)) {
        ("connection", "ssh") => OF_SSH,
        ("shell", "sh") => &[("remote_tmp", &["ansible_remote_tmp"], Some("~/.ansible/tmp"))],
        _ => {
            return Err(wrong(format!(
                "Unable to load {kind} plugin '{plugin}': ferry answers for the connection ssh and the shell sh"
            )));
        }
    };
    let Some((_, variables, other)) = known.iter().find(|(known, _, _)| *known == name) else { return Ok(None) };
    let set =
        variables.iter().rev().find_map(|variable| around.variable(variable).filter(|value| !value.is_undefined()));
    Ok(set.or_else(|| Some(other.map_or(Value::from(()), Value::from))))
}

/// Runs one lookup. Each term may be any value.
pub(super) fn query(name: &str, terms: &[Value], kwargs: &Kwargs, around: &dyn Around) -> Result<Vec<Value>, Error> {
    let said = run(short(name), terms, kwargs, around);
    match (said, Options { kwargs }.text("errors").as_deref()) {
        (Err(_), Some("ignore" | "warn")) => Ok(Vec::new()),
        (Err(error), _) if error.kind() == ErrorKind::UndefinedError => Err(error),
        (Err(error), _) => {
            let detail = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            Err(wrong(format!("the lookup {} failed: {detail}", short(name))))
        }
        (Ok(all), _) => Ok(all),
    }
}

/// Adds `lookup`, `query` and `q`.
pub(super) fn add(env: &mut Environment<'static>) {
    for (function, wantlist) in [("lookup", false), ("query", true), ("q", true)] {
        env.add_function(
            function,
            move |state: &State<'_, '_>, name: &str, terms: Rest<Value>, kwargs: Kwargs| -> Result<Value, Error> {
                let context = super::SEEN.with_borrow(|all| all.last().cloned());
                let here = super::Here { state: Some(state), context };
                // A plugin may say that it takes what is not defined.
                let takes_all = || {
                    plugin(short(name), &here)
                        .and_then(|path| std::fs::read_to_string(path).ok())
                        .is_some_and(|text| text.contains("accept_args_markers = True"))
                };
                if let Some(value) = terms.iter().find(|value| value.is_undefined())
                    && !takes_all()
                {
                    return Err(Error::new(
                        ErrorKind::UndefinedError,
                        format!("{value}a term of the lookup {name} is not defined"),
                    ));
                }
                let all = query(name, &terms, &kwargs, &here)?;
                let wantlist = wantlist || Options { kwargs: &kwargs }.flag("wantlist", false);
                let failed_softly = all.is_empty() && Options { kwargs: &kwargs }.text("errors").is_some();
                Ok(if wantlist {
                    Value::from(all)
                } else if failed_softly {
                    Value::from(())
                } else if all.len() == 1 {
                    all.into_iter().next().unwrap_or(Value::from(()))
                } else if !all.is_empty() && all.iter().all(|item| item.as_str().is_some()) {
                    Value::from(all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
                } else {
                    Value::from(all)
                })
            },
        );
    }
}
