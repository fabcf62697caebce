//! `ferry doc`: what modules take, from their own definitions, and the JSON schema of playbooks for editors.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Kind};
use crate::modules::{self, Scope};
use crate::name::nearest;
use crate::playbook::{ArgKind, ArgSpec, ModuleSpec};
use crate::report::Sink;

/// What a module takes: ferry doc [MODULE]
#[derive(Debug, Args)]
pub(super) struct DocArgs {
    /// The module; all of them without one
    #[arg(value_name = "MODULE")]
    module: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// The JSON schema of playbooks, for editors
    #[arg(long, conflicts_with = "module")]
    schema: bool,
}

fn kind_name(kind: ArgKind) -> &'static str {
    match kind {
        ArgKind::Str => "str",
        ArgKind::Bool => "bool",
        ArgKind::Int => "int",
        ArgKind::List => "list",
        ArgKind::Map => "dict",
        ArgKind::Path => "path",
        ArgKind::Duration => "duration",
        ArgKind::Any => "any",
        ArgKind::Expr => "expression",
    }
}

fn described(spec: &ModuleSpec) -> Value {
    let args: Map<String, Value> = spec
        .args
        .iter()
        .map(|arg| {
            let one = json!({
                "type": kind_name(arg.kind), "required": arg.required, "default": arg.default, "choices": arg.choices,
                "aliases": arg.aliases, "description": arg.doc,
            });
            (arg.name.to_owned(), one)
        })
        .collect();
    json!({
        "name": spec.name, "description": spec.short, "aliases": spec.aliases, "free_form": spec.free_form,
        "check_mode": spec.checks, "scope": if modules::scope(spec.name) == Scope::Host { "host" } else { "cluster" },
        "arguments": args,
    })
}

fn page(spec: &ModuleSpec) -> String {
    let mut out = format!("{}: {}\n", spec.name, spec.short);
    if modules::scope(spec.name) == Scope::Cluster {
        out.push_str("It is about the cluster, not about a node: it runs once for the play's hosts.\n");
    }
    if !spec.checks {
        out.push_str("Under --check it is skipped.\n");
    }
    if spec.free_form {
        out.push_str(&format!("A text behind its name is its command: {}: …\n", spec.name));
    }
    if spec.args.is_empty() {
        out.push_str("It takes no arguments.\n");
    }
    for arg in spec.args {
        let name = if arg.name == "*" { "any other name" } else { arg.name };
        out.push_str(&format!(
            "\n  {name} ({}{})\n",
            kind_name(arg.kind),
            if arg.required { ", required" } else { "" }
        ));
        out.push_str(&format!("      {}\n", arg.doc));
        if let Some(default) = arg.default {
            out.push_str(&format!("      without it: {default:?}\n"));
        }
        if !arg.choices.is_empty() {
            let choices: Vec<String> = arg.choices.iter().map(|choice| format!("{choice:?}")).collect();
            out.push_str(&format!("      one of {}\n", choices.join(", ")));
        }
        if !arg.aliases.is_empty() {
            out.push_str(&format!("      also called {}\n", arg.aliases.join(", ")));
        }
    }
    out
}

fn value_schema(arg: &ArgSpec) -> Value {
    let mut schema = match arg.kind {
        ArgKind::Bool => json!({"type": ["boolean", "string"]}),
        ArgKind::Int => json!({"type": ["integer", "string"]}),
        ArgKind::List => json!({"type": ["array", "string", "number"]}),
        ArgKind::Map => json!({"type": ["object", "string"]}),
        ArgKind::Str => json!({"type": ["string", "number", "boolean", "null"]}),
        ArgKind::Path | ArgKind::Duration => json!({"type": "string"}),
        ArgKind::Any | ArgKind::Expr => json!({}),
    };
    if let Some(map) = schema.as_object_mut() {
        map.insert("description".into(), json!(arg.doc));
        if let Some(default) = arg.default {
            map.insert("default".into(), json!(default));
        }
        if !arg.choices.is_empty() && arg.kind == ArgKind::Str {
            // A template may stand there too.
            map.insert("anyOf".into(), json!([{ "enum": arg.choices }, { "pattern": "\\{[{%]" }]));
        }
    }
    schema
}

fn module_schema(spec: &ModuleSpec) -> Value {
    let mut properties = Map::new();
    for arg in spec.args.iter().filter(|arg| arg.name != "*") {
        properties.insert(arg.name.to_owned(), value_schema(arg));
        for alias in arg.aliases {
            properties.insert((*alias).to_owned(), value_schema(arg));
        }
    }
    let open = spec.pairs || spec.args.iter().any(|arg| arg.name == "*");
    let object = json!({"type": "object", "properties": properties, "additionalProperties": open});
    json!({"description": spec.short, "anyOf": [object, {"type": ["string", "null"]}]})
}

/// The JSON schema (draft 2020-12) of a playbook.
fn schema() -> Value {
    let text = json!({"type": "string"});
    let any = json!({});
    let flag = json!({"type": ["boolean", "string"]});
    let list = json!({"type": ["array", "string"]});
    let condition = json!({"type": ["array", "string", "boolean"]});
    let common = || {
        json!({
            "name": text, "vars": {"type": "object"}, "tags": list, "become": flag, "become_user": text, "become_method": text,
            "become_flags": text, "become_exe": text, "connection": text, "remote_user": text, "port": any, "environment": any,
            "module_defaults": any, "no_log": flag, "check_mode": flag, "diff": flag, "run_once": flag, "ignore_errors": flag,
            "ignore_unreachable": flag, "any_errors_fatal": flag, "throttle": any, "timeout": any,
        })
        .as_object()
        .cloned()
        .unwrap_or_default()
    };
    let inner = || {
        let mut map = common();
        map.insert("when".into(), condition.clone());
        map.insert("delegate_to".into(), text.clone());
        map.insert("delegate_facts".into(), flag.clone());
        map.insert("notify".into(), list.clone());
        map
    };
    let mut task = inner();
    for (name, schema) in [
        ("args", json!({"type": ["object", "string"]})),
        ("register", text.clone()),
        ("changed_when", condition.clone()),
        ("failed_when", condition.clone()),
        ("loop", list.clone()),
        ("loop_control", json!({"type": "object"})),
        ("until", condition.clone()),
        ("retries", any.clone()),
        ("delay", any.clone()),
        ("async", any.clone()),
        ("poll", any.clone()),
        ("listen", list.clone()),
        ("action", any.clone()),
        ("local_action", any.clone()),
    ] {
        task.insert(name.into(), schema);
    }
    for spec in modules::TABLE {
        task.insert(spec.name.to_owned(), module_schema(spec));
        task.insert(format!("ansible.builtin.{}", spec.name), module_schema(spec));
    }
    for name in ["include_tasks", "import_tasks", "include_role", "import_role", "meta"] {
        task.insert(name.to_owned(), any.clone());
        task.insert(format!("ansible.builtin.{name}"), any.clone());
    }
    let mut block = inner();
    for name in ["block", "rescue", "always"] {
        block.insert(name.into(), json!({"$ref": "#/$defs/tasks"}));
    }
    let mut play = common();
    for (name, schema) in [
        ("hosts", list.clone()),
        ("gather_facts", flag.clone()),
        ("gather_subset", list.clone()),
        ("gather_timeout", any.clone()),
        ("vars_files", list.clone()),
        ("vars_prompt", json!({"type": "array"})),
        ("roles", json!({"type": "array"})),
        ("serial", any.clone()),
        ("strategy", text.clone()),
        ("order", text.clone()),
        ("max_fail_percentage", any.clone()),
        ("force_handlers", flag.clone()),
        ("user", text.clone()),
        ("fact_path", text.clone()),
    ] {
        play.insert(name.into(), schema);
    }
    for name in ["pre_tasks", "tasks", "post_tasks", "handlers"] {
        play.insert(name.into(), json!({"$ref": "#/$defs/tasks"}));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A playbook for ferry",
        "type": "array",
        "items": {"anyOf": [
            {"type": "object", "properties": play, "required": ["hosts"], "additionalProperties": false},
            {"type": "object", "required": ["import_playbook"]},
            {"type": "object", "required": ["ansible.builtin.import_playbook"]},
        ]},
        "$defs": {
            "tasks": {"type": ["array", "null"], "items": {"anyOf": [{"$ref": "#/$defs/block"}, {"$ref": "#/$defs/task"}]}},
            "block": {"type": "object", "properties": block, "required": ["block"], "additionalProperties": false},
            "task": {"type": "object", "properties": task, "patternProperties": {"^with_": {}}, "additionalProperties": false},
        },
    })
}

pub(super) fn run(args: &DocArgs) -> Result<u8, Failure> {
    let mut out = Sink::stdout();
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    if args.schema {
        out.put(&format!("{}\n", pretty(&schema())));
        return Ok(0);
    }
    let Some(name) = &args.module else {
        if args.json {
            let all: Vec<Value> = modules::TABLE.iter().map(described).collect();
            out.put(&format!("{}\n", pretty(&json!(all))));
        } else {
            for spec in modules::TABLE {
                out.put(&format!("{:<20} {}\n", spec.name, spec.short));
            }
        }
        return Ok(0);
    };
    let table = modules::table();
    let Some(spec) = table.get(name) else {
        let near = nearest(name, table.names(), 3);
        let failure = Failure::new(Kind::Usage, format!("no module {name:?} is built in ferry"));
        return Err(if near.is_empty() {
            failure.mend("see: ferry doc")
        } else {
            failure.mend(format!("did you mean {}?", near.join(" or ")))
        });
    };
    let text = if args.json { format!("{}\n", pretty(&described(spec))) } else { page(spec) };
    out.put(&text);
    Ok(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_module_has_a_page_and_a_schema() {
        let schema = schema();
        for spec in modules::TABLE {
            let page = page(spec);
            assert!(!spec.short.is_empty() && spec.args.iter().all(|arg| !arg.doc.is_empty()), "{}", spec.name);
            assert!(spec.args.iter().filter(|arg| arg.name != "*").all(|arg| page.contains(arg.name)), "{page}");
            assert!(schema["$defs"]["task"]["properties"].get(spec.name).is_some(), "{}", spec.name);
            assert_eq!(described(spec)["arguments"].as_object().unwrap().len(), spec.args.len(), "{}", spec.name);
        }
    }
}
