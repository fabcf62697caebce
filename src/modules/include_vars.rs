//! `include_vars`: variables from files here.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::call::{Call, Effect};
use super::{Done, arg};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec, Var};
use crate::settings::yaml::{Document, Yaml};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "include_vars",
    "Reads variables from files of this machine",
    &[
        arg("file", ArgKind::Path, "the file").aliases(&["cmd"]),
        arg("dir", ArgKind::Path, "a folder: all files in it, sorted"),
        arg("name", ArgKind::Str, "one variable that holds them all"),
        arg("depth", ArgKind::Int, "how deep into the folder; 0 is all the way").default("0"),
        arg("files_matching", ArgKind::Str, "a regular expression of the files' names"),
        arg("ignore_files", ArgKind::List, "regular expressions of names that are left out"),
        arg("extensions", ArgKind::List, "endings that are read").default("json,yaml,yml"),
        arg("ignore_unknown_extensions", ArgKind::Bool, "files of other endings are passed over").default("false"),
        arg("hash_behaviour", ArgKind::Str, "merge: mappings are joined with those that are there")
            .choices(&["replace", "merge"]),
    ],
)
.free_form()
.checks();

fn read(call: &Call<'_>, path: &Path, hidden: &mut bool) -> Result<Vec<Var>, Failure> {
    let wrong = |what: String| Failure::new(Kind::Failed, what).on(call.host);
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("{shown} cannot be read: {error}")))?;
    let locked = crate::vault::is_encrypted(&text);
    *hidden |= locked;
    let text = if locked { call.templater.unlocked(path, text)? } else { text };
    let document = if locked { Document::read_hidden(&shown, &text)? } else { Document::read(&shown, &text)? };
    trust(call, &document.root);
    match &document.root.value {
        Yaml::Map(entries) => Ok(entries
            .iter()
            .map(|entry| (entry.name(), document.place(entry.value.spot), entry.value.to_json()))
            .collect()),
        _ if document.root.to_json().is_null() => Ok(Vec::new()),
        _ => Err(wrong(format!("{shown} must be stored as a dictionary/hash"))),
    }
}

/// What the operator wrote there may be a condition elsewhere.
fn trust(call: &Call<'_>, node: &crate::settings::yaml::Node) {
    match &node.value {
        Yaml::Text(text) => call.templater.trust(text),
        Yaml::List(items) => items.iter().for_each(|item| trust(call, item)),
        Yaml::Map(entries) => entries.iter().for_each(|entry| trust(call, &entry.value)),
        _ => {}
    }
}

fn walk(folder: &Path, depth: i64, level: i64, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    all.sort();
    out.extend(all.iter().filter(|path| path.is_file()).cloned());
    for inner in all.iter().filter(|path| path.is_dir()) {
        if depth == 0 || level < depth {
            walk(inner, depth, level + 1, out)?;
        }
    }
    Ok(())
}

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let mut done = include(call)?;
    if let (crate::event::Outcome::Failed, Some(map)) = (done.outcome, done.result.as_object_mut()) {
        let said = map.get("msg").cloned().unwrap_or_default();
        map.entry("message").or_insert(said);
    }
    Ok(done)
}

/// `new` over `old`, key by key where both are mappings.
fn joined(old: &Value, new: &Value) -> Value {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut out = old.clone();
            for (name, value) in new {
                let value = out.get(name).map_or_else(|| value.clone(), |known| joined(known, value));
                out.insert(name.clone(), value);
            }
            Value::Object(out)
        }
        _ => new.clone(),
    }
}

fn include(call: &Call<'_>) -> Result<Done, Failure> {
    let wrong = |what: String| Failure::new(Kind::Failed, what).on(call.host);
    let file = call.text("file").or_else(|| call.text("cmd"));
    let mut vars: Vec<Var> = Vec::new();
    let mut files: Vec<String> = Vec::new();
    let mut hidden = false;
    match (file, call.text("dir")) {
        (Some(_), Some(_)) => {
            return Ok(
                call.failed("You are mixing file only and dir only arguments, these are incompatible", json!({}))
            );
        }
        (Some(file), None) => {
            let path = match call.search("vars", file) {
                Ok(path) => path,
                Err(failure) => {
                    return Ok(call.failed(
                        format!("Could not find or access '{file}' on the Ansible Controller."),
                        json!({"searched": failure.seen, "ansible_facts": {}, "ansible_included_var_files": []}),
                    ));
                }
            };
            vars.extend(read(call, &path, &mut hidden)?);
            files.push(path.display().to_string());
        }
        (None, Some(dir)) => {
            let folder = match call.search("vars", dir) {
                Ok(path) if path.is_dir() => path,
                Ok(path) => return Ok(call.failed(format!("{} is not a directory", path.display()), json!({}))),
                Err(_) => return Ok(call.failed(format!("{dir} directory does not exist"), json!({}))),
            };
            let compile = |pattern: &str| {
                regex::Regex::new(pattern)
                    .map_err(|error| wrong(format!("the pattern {pattern:?} cannot be used: {error}")))
            };
            let matching = call.text("files_matching").map(compile).transpose()?;
            let ignored = call
                .list("ignore_files")
                .iter()
                .map(|pattern| compile(&format!("{pattern}$")))
                .collect::<Result<Vec<_>, _>>()?;
            let endings = call.list("extensions");
            let mut found = Vec::new();
            walk(&folder, call.int("depth").unwrap_or(0), 1, &mut found)
                .map_err(|error| wrong(format!("{} cannot be read: {error}", folder.display())))?;
            for path in found {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                // An empty one stands for names without an ending.
                let known = endings.iter().any(|ending| match ending.as_str() {
                    "" => !name.contains('.'),
                    ending => name.ends_with(&format!(".{ending}")),
                });
                if ignored.iter().any(|pattern| pattern.is_match(&name))
                    || matching.as_ref().is_some_and(|pattern| !pattern.is_match(&name))
                {
                    continue;
                }
                if !known {
                    if call.flag("ignore_unknown_extensions") || name.starts_with('.') {
                        continue;
                    }
                    let what = format!("{} does not have a valid extension: {}", path.display(), endings.join(", "));
                    return Ok(call.failed(what.clone(), json!({"message": what})));
                }
                for var in read(call, &path, &mut hidden)? {
                    vars.retain(|(name, _, _)| *name != var.0);
                    vars.push(var);
                }
                files.push(path.display().to_string());
            }
        }
        (None, None) => return Ok(call.failed("Could not find file: either a file or a dir must be given", json!({}))),
    }
    if call.text("hash_behaviour") == Some("merge") {
        for (name, _, value) in &mut vars {
            if let Some(known) = call.scope.as_written(name) {
                *value = joined(&known, value);
            }
        }
    }
    let facts: Map<String, Value> = vars.iter().map(|(name, _, value)| (name.clone(), value.clone())).collect();
    let place = vars.first().map(|(_, place, _)| place.clone()).or_else(|| call.place.clone());
    let (vars, facts) = match (call.text("name"), place) {
        (Some(name), Some(place)) => {
            (vec![(name.to_owned(), place, Value::Object(facts.clone()))], json!({ name: facts }))
        }
        _ => (vars, Value::Object(facts)),
    };
    let mut result = json!({"ansible_facts": facts, "ansible_included_var_files": files, "changed": false});
    if let (true, Some(map)) = (hidden, result.as_object_mut()) {
        // What was encrypted is not shown.
        map.insert("_ansible_no_log".to_owned(), json!(true));
    }
    Ok(Done::ok(String::new(), result).with_effect(Effect::Vars(vars)))
}
