//! `slurp`: a short file of the host, as base64.

use base64::Engine as _;
use serde_json::json;

use super::call::Call;
use super::{Done, arg, copy, node};
use crate::failure::Failure;
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "slurp",
    "Reads a short file into a variable",
    &[arg("src", ArgKind::Path, "the file on the host").required().aliases(&["path"])],
)
.checks();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let path = call.text("src").unwrap_or_default();
    let look = node::look(call, path, true, None).await?;
    if !look.exists() {
        return Ok(call.failed(format!("file not found: {path}"), json!({})));
    }
    if look.is_dir() {
        return Ok(call.failed(format!("source is a directory and must be a file: {path}"), json!({})));
    }
    if !look.may.0 {
        return Ok(call.failed(format!("file is not readable: {path}"), json!({})));
    }
    if look.size > crate::remote::SHORT as u64 {
        let what =
            format!("{path} has {} bytes: slurp reads at most {} into a variable", look.size, crate::remote::SHORT);
        return Ok(call.failed(format!("{what}; use fetch"), json!({})));
    }
    let bytes = copy::read(call, path).await?;
    let content = base64::engine::general_purpose::STANDARD.encode(bytes);
    Ok(Done::ok(String::new(), json!({"content": content, "source": path, "encoding": "base64", "changed": false})))
}
