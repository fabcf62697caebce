//! `tempfile`: an empty file or folder of a new name.

use serde_json::json;

use super::call::Call;
use super::{Done, arg, node};
use crate::failure::Failure;
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "tempfile",
    "Makes an empty file or folder of a new name",
    &[
        arg("state", ArgKind::Str, "what to make").default("file").choices(&["file", "directory"]),
        arg("path", ArgKind::Path, "where; else the host's own place"),
        arg("prefix", ArgKind::Str, "how the name begins").default("ansible."),
        arg("suffix", ArgKind::Str, "how the name ends").default(""),
    ],
);

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    if call.check {
        return Ok(Done::skipped("skipped in --check: the name is not known before it is made"));
    }
    for name in ["prefix", "suffix"] {
        if call.text(name).is_some_and(|part| part.contains('/')) {
            return Ok(call.failed(format!("{name} must be a valid file name component"), json!({})));
        }
    }
    let state = call.text("state").unwrap_or("file");
    let prefix = node::word(call, call.text("prefix").unwrap_or("ansible."))?;
    let suffix = node::word(call, call.text("suffix").unwrap_or(""))?;
    let folder = match call.text("path") {
        Some(path) => node::path_word(call, path)?,
        None => "\"${TMPDIR:-/tmp}\"".to_owned(),
    };
    // `mktemp` of busybox knows no suffix, so the name is put together and made with noclobber or mkdir.
    let make = if state == "directory" { "mkdir -m 700 -- \"$t\"" } else { "( umask 077; set -C; : >\"$t\" )" };
    let script = format!(
        "d={folder} p={prefix} s={suffix}\n[ -d \"$d\" ] || {{ echo \"$d: no such folder\" >&2; exit 3; }}\nn=0\n\
         while [ $n -lt 50 ]; do\n  r=$(LC_ALL=C tr -dc a-z0-9_ </dev/urandom | head -c 8)\n  t=$d/$p$r$s\n  \
         if {make} 2>/dev/null; then printf '%s' \"$t\"; exit 0; fi\n  n=$((n+1))\ndone\necho \"nothing could be made in $d\" >&2\nexit 3\n"
    );
    let said = node::sh(call, &script).await?;
    let path = String::from_utf8_lossy(&said.out).into_owned();
    let look = node::look(call, &path, false, None).await?;
    let mut result = look.fields();
    result.insert("path".into(), json!(path));
    result.insert("state".into(), json!(state));
    Ok(node::done(true, result))
}
