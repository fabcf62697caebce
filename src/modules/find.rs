//! `find`: paths of the host by name, age, size and content.

use serde_json::{Value, json};

use super::call::Call;
use super::{Done, arg, node};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "find",
    "Finds files and folders",
    &[
        arg("paths", ArgKind::List, "where").required().aliases(&["name", "path"]),
        arg("patterns", ArgKind::List, "globs of the name, or regular expressions with use_regex")
            .aliases(&["pattern"]),
        arg("excludes", ArgKind::List, "globs of names that are left out").aliases(&["exclude"]),
        arg("contains", ArgKind::Str, "a regular expression that a line of the file begins with"),
        arg("file_type", ArgKind::Str, "what").default("file").choices(&["any", "directory", "file", "link"]),
        arg("recurse", ArgKind::Bool, "goes into folders").default("false"),
        arg("depth", ArgKind::Int, "how deep at most"),
        arg("age", ArgKind::Str, "older than so long (2d), or younger (-2d): s m h d w"),
        arg("age_stamp", ArgKind::Str, "which time").default("mtime").choices(&["atime", "ctime", "mtime"]),
        arg("size", ArgKind::Str, "larger than (1k), or smaller (-1k): b k m g t"),
        arg("hidden", ArgKind::Bool, "names with a leading dot too").default("false"),
        arg("follow", ArgKind::Bool, "follows symbolic links").default("false"),
        arg("get_checksum", ArgKind::Bool, "the digest of each file").default("false"),
        arg("checksum_algorithm", ArgKind::Str, "which digest")
            .default("sha1")
            .choices(&["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
            .aliases(&["checksum", "checksum_algo"]),
        arg("use_regex", ArgKind::Bool, "patterns are regular expressions").default("false"),
        arg("mode", ArgKind::Any, "octal: only what has this mode"),
        arg("exact_mode", ArgKind::Bool, "exactly this mode, not at least").default("true"),
        arg("limit", ArgKind::Int, "at most so many"),
        arg("read_whole_file", ArgKind::Bool, "contains looks at the file as one text").default("false"),
        arg("encoding", ArgKind::Str, "only utf-8"),
    ],
)
.checks();

fn glob(pattern: &str) -> String {
    let mut form = String::from("(?s)\\A");
    let mut all = pattern.chars().peekable();
    while let Some(c) = all.next() {
        match c {
            '*' => form.push_str(".*"),
            '?' => form.push('.'),
            '[' => {
                form.push('[');
                if all.next_if_eq(&'!').is_some() {
                    form.push('^');
                }
                for c in all.by_ref() {
                    form.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            other => form.push_str(&regex::escape(&other.to_string())),
        }
    }
    form.push_str("\\z");
    form
}

fn quantity(text: &str, units: &[(char, i64)]) -> Option<i64> {
    let text = text.trim().to_lowercase();
    let (digits, unit) = match text.chars().last().filter(char::is_ascii_alphabetic) {
        Some(letter) => (text.get(..text.len() - 1)?, units.iter().find(|(name, _)| *name == letter)?.1),
        None => (text.as_str(), 1),
    };
    digits.parse::<i64>().ok()?.checked_mul(unit)
}

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let wrong = |what: String| Failure::new(Kind::Failed, what).on(call.host);
    let regex_mode = call.flag("use_regex");
    let compile = |patterns: Vec<String>| -> Result<Vec<regex::Regex>, Failure> {
        patterns
            .iter()
            .map(|pattern| {
                let form = if regex_mode { format!("\\A(?:{pattern})") } else { glob(pattern) };
                regex::Regex::new(&form)
                    .map_err(|error| wrong(format!("the pattern {pattern:?} cannot be used: {error}")))
            })
            .collect()
    };
    let (patterns, excludes) = (compile(call.list("patterns"))?, compile(call.list("excludes"))?);
    let contains = match call.text("contains") {
        Some(pattern) => {
            let form =
                if call.flag("read_whole_file") { format!("(?s){pattern}") } else { format!("(?m)^(?:{pattern})") };
            Some(regex::bytes::Regex::new(&form).map_err(|error| wrong(format!("contains cannot be used: {error}")))?)
        }
        None => None,
    };
    let age = match call.text("age") {
        Some(text) => Some(
            quantity(text, &[('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)])
                .ok_or_else(|| wrong(format!("failed to process age: {text}")))?,
        ),
        None => None,
    };
    let size = match call.text("size") {
        Some(text) => Some(
            quantity(text, &[('b', 1), ('k', 1 << 10), ('m', 1 << 20), ('g', 1 << 30), ('t', 1 << 40)])
                .ok_or_else(|| wrong(format!("failed to process size: {text}")))?,
        ),
        None => None,
    };
    let mode = match call.args.get("mode") {
        Some(Value::Number(number)) => number.as_u64().map(|mode| mode as u32),
        Some(Value::String(text)) => Some(node::mode_of(text, 0, false).map_err(wrong)?),
        _ => None,
    };
    let kind = call.text("file_type").unwrap_or("file");
    let follow = call.flag("follow");
    let depth = call.int("depth").filter(|depth| *depth > 0);
    let depth = match (call.flag("recurse"), depth) {
        (false, _) => " -maxdepth 1".to_owned(),
        (true, Some(depth)) => format!(" -maxdepth {depth}"),
        (true, None) => String::new(),
    };
    let mark = node::mark();
    let digest = if call.flag("get_checksum") { call.text("checksum_algorithm").unwrap_or("sha1") } else { "" };
    let mut script = node::LOOK.to_owned();
    script.push_str("echo_now() { date +%s; }\nprintf '%s now %s\\n' ");
    script.push_str(&format!("{mark} \"$(echo_now)\"\n"));
    for path in call.list("paths") {
        let target = node::path_word(call, &path)?;
        script.push_str(&format!(
            "if [ -d {target} ]; then find{} {target} -mindepth 1{depth} -exec sh -c '{}\nfor f; do look \"$0\" {} \"{digest}\" \"$f\"; done' {mark} {{}} + 2>/dev/null; else printf '%s skip %s\\n' {mark} {target}; fi\n",
            if follow { " -L" } else { "" },
            node::LOOK.replace('\'', "'\\''"),
            u8::from(follow),
        ));
    }
    let said = call.run(&script, std::time::Duration::from_secs(3600)).await?;
    if said.cut {
        return Err(
            wrong("this is more than ferry can take in at once".to_owned()).mend("name narrower paths, or a depth")
        );
    }
    let text = String::from_utf8_lossy(&said.out).into_owned();
    let mut now = 0i64;
    let mut skipped = serde_json::Map::new();
    let mut files = Vec::new();
    let mut examined = 0;
    let mut current = String::new();
    for part in text.split(&mark).skip(1) {
        let body = part.trim_start_matches(' ');
        if let Some(stamp) = body.strip_prefix("now ") {
            now = stamp.trim().parse().unwrap_or(0);
        } else if let Some(path) = body.strip_prefix("skip ") {
            let path = path.trim_end_matches('\n');
            skipped.insert(path.to_owned(), json!(format!("'{path}' is not a directory")));
        } else if body.trim_end() == "end" {
            let look = node::read_look(&current, &mark);
            current.clear();
            examined += 1;
            let name = look.path.rsplit('/').next().unwrap_or_default();
            let right_kind = match kind {
                "any" => true,
                "directory" => look.is_dir(),
                "link" => look.is_link(),
                _ => look.is_file(),
            };
            let stamp = match call.text("age_stamp") {
                Some("atime") => look.atime,
                Some("ctime") => look.ctime,
                _ => look.mtime,
            };
            let old = age.is_none_or(|age| if age >= 0 { now - stamp >= age } else { now - stamp <= -age });
            let large =
                size.is_none_or(|size| if size >= 0 { look.size as i64 >= size } else { look.size as i64 <= -size });
            let moded =
                mode.is_none_or(
                    |mode| if call.flag("exact_mode") { look.mode() == mode } else { look.mode() & mode == mode },
                );
            let root =
                call.list("paths").into_iter().find(|root| look.path.starts_with(root.as_str())).unwrap_or_default();
            let below = look.path.strip_prefix(root.as_str()).unwrap_or(&look.path);
            let hidden = below.split('/').any(|part| part.starts_with('.') && part.len() > 1);
            let named = (patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(name)))
                && !excludes.iter().any(|pattern| pattern.is_match(name));
            if right_kind && old && large && moded && named && (call.flag("hidden") || !hidden) {
                files.push(look);
            }
        } else {
            current.push_str(&mark);
            current.push_str(part);
        }
    }
    if let Some(regex) = &contains {
        let mut kept = Vec::new();
        for look in files {
            if look.is_file()
                && look.size <= crate::remote::SHORT as u64
                && regex.is_match(&super::copy::read(call, &look.path).await?)
            {
                kept.push(look);
            }
        }
        files = kept;
    }
    if let Some(limit) = call.int("limit").and_then(|limit| usize::try_from(limit).ok()) {
        files.truncate(limit);
    }
    let list: Vec<Value> = files
        .iter()
        .map(|look| {
            let mut value = look.stat();
            if let Some(map) = value.as_object_mut() {
                for name in ["exists", "readable", "writeable", "executable"] {
                    map.remove(name);
                }
            }
            value
        })
        .collect();
    let message =
        if skipped.is_empty() { "All paths examined" } else { "Not all paths examined, check warnings for details" };
    let result = json!({"files": list, "matched": list.len(), "examined": examined, "skipped_paths": skipped, "msg": message, "changed": false});
    Ok(Done::ok(String::new(), result))
}
