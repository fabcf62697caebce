//! `fail`: fails with a text.

use serde_json::json;

use super::call::Call;
use super::{Done, arg};
use crate::failure::Failure;
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "fail",
    "Fails",
    &[arg("msg", ArgKind::Str, "what to say").default("Failed as requested from task")],
)
.checks();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let message = call.text("msg").unwrap_or("Failed as requested from task");
    Ok(Done::failed(message, json!({ "msg": message })))
}
