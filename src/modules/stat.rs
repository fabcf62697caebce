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
        arg("get_mime", ArgKind::Bool, "taken; ferry does not guess types").default("true").aliases(&[
            "mime",
            "mime_type",
            "mime-type",
        ]),
        arg("get_attributes", ArgKind::Bool, "taken; ferry does not ask lsattr")
            .default("true")
            .aliases(&["attr", "attributes"]),
    ],
)
.checks();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let path = call.text("path").unwrap_or_default();
    let kind = call.text("checksum_algorithm").filter(|_| call.flag("get_checksum"));
    let look = node::look(call, path, call.flag("follow"), kind).await?;
    Ok(Done::ok(String::new(), json!({ "stat": look.stat(), "changed": false })))
}
