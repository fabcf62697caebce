//! `pause`: waits for a time or for a person.

use std::time::{Duration, Instant};

use serde_json::json;

use super::call::Call;
use super::{Done, arg};
use crate::failure::Failure;
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "pause",
    "Waits for a time or for a person",
    &[
        arg("seconds", ArgKind::Int, "how long"),
        arg("minutes", ArgKind::Int, "how long"),
        arg("prompt", ArgKind::Str, "what is asked"),
        arg("echo", ArgKind::Bool, "taken; what is typed is shown").default("true"),
    ],
)
.checks();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    if call.int("seconds").is_some() && call.int("minutes").is_some() {
        return Ok(call.failed("parameters are mutually exclusive: minutes|seconds", json!({})));
    }
    let start = jiff::Zoned::now();
    let began = Instant::now();
    let length = match (call.int("seconds"), call.int("minutes")) {
        (Some(seconds), _) => Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))),
        (_, Some(minutes)) => Some(Duration::from_secs(u64::try_from(minutes).unwrap_or(0).saturating_mul(60).max(1))),
        _ => None,
    };
    let mut input = String::new();
    match length {
        Some(length) => tokio::time::sleep(length).await,
        None => {
            let prompt =
                call.text("prompt").unwrap_or("Press enter to continue, Ctrl+C to interrupt").trim_end_matches(':');
            match call.world.ask(prompt, &format!("{prompt}: ")).await {
                Some(answer) => input = answer,
                None if call.world.person.is_none() => {
                    call.world
                        .events
                        .warn(Some(call.host), "pause: there is no terminal, so nobody is asked".to_owned());
                }
                None => {}
            }
        }
    }
    let passed = began.elapsed();
    let stamp = |at: &jiff::Zoned| at.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
    let (unit, amount) = match call.int("minutes") {
        Some(_) => ("minutes", passed.as_secs_f64() / 60.0),
        None => ("seconds", passed.as_secs_f64()),
    };
    let amount = (amount * 100.0).round() / 100.0;
    let result = json!({
        "changed": false, "rc": 0, "stderr": "", "stdout": format!("Paused for {amount:?} {unit}"), "start": stamp(&start),
        "stop": stamp(&jiff::Zoned::now()), "delta": passed.as_secs(), "echo": call.flag("echo"), "user_input": input,
    });
    Ok(Done::ok(String::new(), result))
}
