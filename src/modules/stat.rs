//! `stat`: what is at a path of the host.

use serde_json::json;

use super::call::Call;
use super::{Done, arg, node};
use crate::failure::Failure;
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "stat",
    "Tells what is at a path",
    &[
        arg("path", ArgKind::Path, "the path on the host").required().aliases(&["dest", "name"]),
        arg("follow", ArgKind::Bool, "follows a symbolic link").default("false"),
        arg("get_checksum", ArgKind::Bool, "the digest of a file too").default("true"),
        arg("checksum_algorithm", ArgKind::Str, "which digest")
            .default("sha1")
            .choices(&["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
            .aliases(&["checksum", "checksum_algo"]),
        arg("get_mime", ArgKind::Bool, "what kind of content it has, where the host has file(1)")
            .default("true")
            .aliases(&["mime", "mime_type", "mime-type"]),
        arg("get_attributes", ArgKind::Bool, "taken; ferry does not ask lsattr")
            .default("true")
            .aliases(&["attr", "attributes"]),
    ],
)
.checks();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let path = call.text("path").unwrap_or_default();
    let kind = call.text("checksum_algorithm").filter(|_| call.flag("get_checksum"));
    let (mark, guess) = (node::mark(), node::mark());
    let word = node::path_word(call, path)?;
    let follow = u8::from(call.flag("follow"));
    let mut script = format!("{}look {mark} {follow} '{}' {word}\n", node::LOOK, kind.unwrap_or(""));
    if call.flag("get_mime") {
        let links = if follow == 1 { "-L " } else { "" };
        script.push_str(&format!(
            "if command -v file >/dev/null 2>&1; then printf '%s %s\\n' {guess} \"$(file {links}-b --mime -- {word} 2>/dev/null)\"; fi\n"
        ));
    }
    let said = node::sh(call, &script).await?;
    let text = String::from_utf8_lossy(&said.out);
    let mut stat = node::read_look(&text, &mark).stat();
    let guessed = text.lines().find_map(|line| line.strip_prefix(&guess)).map(str::trim).unwrap_or_default();
    if let (true, true, Some(map)) = (call.flag("get_mime"), stat["exists"] == json!(true), stat.as_object_mut()) {
        let (kind, set) = guessed.split_once("; charset=").unwrap_or(("unknown", "unknown"));
        map.insert("mimetype".to_owned(), json!(kind));
        map.insert("charset".to_owned(), json!(set));
    }
    Ok(Done::ok(String::new(), json!({ "stat": stat, "changed": false })))
}
