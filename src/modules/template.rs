//! `template`: a file rendered here and put in place on the host.

use serde_json::json;

use super::call::Call;
use super::copy::{self, From, Put};
use super::node::{self, GROUP, MODE, OWNER};
use super::{Done, arg};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};
use crate::settings::user_name;
use crate::template::FileStyle;

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "template",
    "Renders a template and puts it on the host",
    &[
        arg("src", ArgKind::Path, "the template, here").required(),
        arg("dest", ArgKind::Path, "where it goes on the host").required(),
        arg("force", ArgKind::Bool, "replaces what differs").default("true"),
        arg("backup", ArgKind::Bool, "keeps what is replaced beside it").default("false"),
        arg("validate", ArgKind::Str, "a command that must succeed before the file is put in place; %s is the file"),
        arg("follow", ArgKind::Bool, "writes through a symbolic link").default("false"),
        arg("newline_sequence", ArgKind::Str, "what ends a line")
            .choices(&["\\n", "\\r", "\\r\\n", "\n", "\r", "\r\n"]),
        arg("trim_blocks", ArgKind::Bool, "the line feed behind a block goes").default("true"),
        arg("lstrip_blocks", ArgKind::Bool, "the blanks before a block go").default("false"),
        arg("block_start_string", ArgKind::Str, "begins a block").default("{%"),
        arg("block_end_string", ArgKind::Str, "ends a block").default("%}"),
        arg("variable_start_string", ArgKind::Str, "begins an expression").default("{{"),
        arg("variable_end_string", ArgKind::Str, "ends an expression").default("}}"),
        arg("comment_start_string", ArgKind::Str, "begins a comment").default("{#"),
        arg("comment_end_string", ArgKind::Str, "ends a comment").default("#}"),
        arg("output_encoding", ArgKind::Str, "utf-8, utf-16, ascii or latin-1").default("utf-8"),
        arg("unsafe_writes", ArgKind::Bool, "taken and not needed: files are always replaced whole").default("false"),
        MODE,
        OWNER,
        GROUP,
    ],
)
.checks();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let src = call.text("src").unwrap_or_default();
    let dest = call.text("dest").unwrap_or_default();
    let path = match call.search("templates", src) {
        Ok(path) => path,
        Err(failure) => {
            return Ok(call.failed(format!("Could not find or access '{src}'"), json!({ "searched": failure.seen })));
        }
    };
    let wrong = |what: String| Failure::new(Kind::Failed, what).on(call.host);
    let bytes = std::fs::read(&path).map_err(|error| wrong(format!("{} cannot be read: {error}", path.display())))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(format!("{} is not UTF-8", path.display())))?;
    let mut style = FileStyle::default();
    for name in [
        "newline_sequence",
        "block_start_string",
        "block_end_string",
        "variable_start_string",
        "variable_end_string",
        "comment_start_string",
        "comment_end_string",
    ] {
        if let Some(value) = call.text(name)
            && !style.set(name, value)
        {
            return Err(wrong(format!("template: {name} cannot be {value:?}")));
        }
    }
    style.trim_blocks = call.flag("trim_blocks");
    style.lstrip_blocks = call.flag("lstrip_blocks");
    let mut scope = call.scope.clone();
    let full = path.display().to_string();
    scope.data("template_path", &json!(src));
    scope.data("template_fullpath", &json!(std::path::absolute(&path).unwrap_or_else(|_| path.clone())));
    scope.data("template_destpath", &json!(dest));
    if let Ok(about) = std::fs::metadata(&path) {
        use std::os::unix::fs::MetadataExt as _;
        let changed = jiff::Timestamp::from_second(about.mtime()).unwrap_or_default();
        let changed = changed.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        scope.data("template_mtime", &json!(changed));
        scope.data("template_uid", &json!(user_name(about.uid()).unwrap_or_else(|| about.uid().to_string())));
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    scope.data("template_host", &json!(host));
    scope.data("template_run_date", &json!(jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string()));
    if !scope.knows("ansible_managed") {
        let managed = crate::template::managed(&[("file", &path.display().to_string()), ("host", &host)]);
        scope.data("ansible_managed", &json!(managed));
    }
    let folder = path.parent().unwrap_or(std::path::Path::new("/"));
    let out = call.templater.render_file(&text, folder, &style, call.place.as_ref(), &scope)?;
    let there = node::look(call, dest, true, None).await?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let target = if there.is_dir() || dest.ends_with('/') { node::joined(dest, &name) } else { dest.to_owned() };
    let put = Put {
        force: call.flag("force"),
        backup: call.flag("backup"),
        follow: call.flag("follow"),
        validate: call.text("validate"),
        mode: match node::mode_text(call)? {
            Some(mode) if mode == "preserve" => {
                use std::os::unix::fs::PermissionsExt as _;
                std::fs::metadata(&path).ok().map(|data| format!("{:o}", data.permissions().mode() & 0o7777))
            }
            other => other,
        },
        name: full.clone(),
    };
    let bytes = crate::template::encoded(&out, call.text("output_encoding").unwrap_or("utf-8"))?;
    let (changed, mut result, diff) = copy::put(call, From::Bytes(&bytes), &target, &put).await?;
    result.insert("src".into(), json!(full));
    let done = node::done(changed, result);
    Ok(match diff {
        Some(diff) => done.with_diff(diff),
        None => done,
    })
}
