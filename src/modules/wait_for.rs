//! `wait_for` and `wait_for_connection`: until a port, a file or the host itself answers.

use std::time::{Duration, Instant};

use serde_json::json;

use super::call::Call;
use super::{Done, arg, node};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};

/// What `wait_for` takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "wait_for",
    "Waits until a port or a file is there, or is gone",
    &[
        arg("host", ArgKind::Str, "whose port, as the host sees it").default("127.0.0.1"),
        arg("port", ArgKind::Int, "the port"),
        arg("path", ArgKind::Path, "the file"),
        arg("search_regex", ArgKind::Str, "what must stand in the file"),
        arg("state", ArgKind::Str, "what is waited for")
            .default("started")
            .choices(&["absent", "drained", "present", "started", "stopped"]),
        arg("timeout", ArgKind::Int, "at most so many seconds").default("300"),
        arg("connect_timeout", ArgKind::Int, "seconds for one attempt").default("5"),
        arg("delay", ArgKind::Int, "seconds before the first look").default("0"),
        arg("sleep", ArgKind::Int, "seconds between two looks").default("1"),
        arg("msg", ArgKind::Str, "what to say when it takes too long"),
    ],
)
.checks();

/// What `wait_for_connection` takes.
pub const CONNECTION: ModuleSpec = ModuleSpec::new(
    "wait_for_connection",
    "Waits until the host can be reached",
    &[
        arg("timeout", ArgKind::Int, "at most so many seconds").default("600"),
        arg("connect_timeout", ArgKind::Int, "seconds for one attempt").default("5"),
        arg("delay", ArgKind::Int, "seconds before the first attempt").default("0"),
        arg("sleep", ArgKind::Int, "seconds between two attempts").default("1"),
    ],
);

fn seconds(call: &Call<'_>, name: &str, other: u64) -> Duration {
    Duration::from_secs(call.int(name).and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(other))
}

/// Is the port open? bash knows `/dev/tcp`; else `nc`; else the kernel's table of listening sockets of this host.
const PORT: &str = r#"
if command -v bash >/dev/null 2>&1; then
  timeout "$T" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$H" "$P" 2>/dev/null && exit 0 || exit 1
elif command -v nc >/dev/null 2>&1; then
  nc -z -w "$T" "$H" "$P" >/dev/null 2>&1 && exit 0 || exit 1
elif [ -r /proc/net/tcp ]; then
  x=$(printf '%04X' "$P"); cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q "^ *[0-9]*: [0-9A-F]*:$x [0-9A-F]*:0000 0A" && exit 0 || exit 1
fi
echo 'there is neither bash, nc nor /proc/net/tcp to look at a port with' >&2
exit 2
"#;

/// Has anybody a connection to the port?
const DRAINED: &str = r#"x=$(printf '%04X' "$P")
if cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q "^ *[0-9]*: [0-9A-F]*:$x [0-9A-F]*:[0-9A-F]* 0[1-9B]"; then exit 1; fi
exit 0
"#;

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    if call.check {
        return Ok(Done::skipped("skipped in --check: nothing is waited for"));
    }
    let (port, path) = (call.int("port"), call.text("path"));
    let state = call.text("state").unwrap_or("started").to_owned();
    if port.is_some() && path.is_some() {
        return Ok(call.failed("port and path parameter can not both be passed to wait_for", json!({"elapsed": 0})));
    }
    if path.is_some() && matches!(state.as_str(), "stopped" | "drained") {
        return Ok(call.failed(
            format!("state={state} should only be used for checking a port in the wait_for module"),
            json!({"elapsed": 0}),
        ));
    }
    if port.is_none() && matches!(state.as_str(), "drained" | "stopped") {
        return Ok(call.failed(format!("state={state} needs a port"), json!({"elapsed": 0})));
    }
    let began = Instant::now();
    let limit = seconds(call, "timeout", 300);
    tokio::time::sleep(seconds(call, "delay", 0)).await;
    let result = |more: serde_json::Value| {
        let mut map = json!({"elapsed": began.elapsed().as_secs(), "state": state, "port": port, "path": path, "search_regex": call.text("search_regex"), "match_groups": [], "match_groupdict": {}, "changed": false});
        if let (Some(map), Some(more)) = (map.as_object_mut(), more.as_object()) {
            map.extend(more.clone());
        }
        map
    };
    if port.is_none() && path.is_none() {
        // Only time is waited for.
        if state == "started" {
            tokio::time::sleep(limit).await;
        }
        return Ok(Done::ok(String::new(), result(json!({}))));
    }
    let regex = match call.text("search_regex") {
        Some(pattern) => Some(regex::bytes::RegexBuilder::new(pattern).multi_line(true).build().map_err(|error| {
            Failure::new(Kind::Failed, format!("search_regex cannot be used: {error}")).on(call.host)
        })?),
        None => None,
    };
    loop {
        let there = match (port, path) {
            (Some(port), _) => {
                let script = format!(
                    "H={} P={port} T={}\n{}",
                    node::word(call, call.text("host").unwrap_or("127.0.0.1"))?,
                    seconds(call, "connect_timeout", 5).as_secs().max(1),
                    if state == "drained" { DRAINED } else { PORT }
                );
                let said = call.run(&script, Duration::from_secs(120)).await?;
                match said.exit {
                    crate::remote::Exit::Code(0) => Some(None),
                    crate::remote::Exit::Code(1) => None,
                    ref other => {
                        return Err(Failure::new(Kind::Failed, format!("the host cannot look at a port: {other}"))
                            .on(call.host)
                            .saw(said.err_text()));
                    }
                }
            }
            (None, Some(path)) => {
                let look = node::look(call, path, true, None).await?;
                match (&regex, look.exists()) {
                    (_, false) => None,
                    (None, true) => Some(None),
                    (Some(regex), true) => {
                        let bytes = super::copy::read(call, path).await?;
                        regex.captures(&bytes).map(|found| {
                            let groups: Vec<_> = (1..found.len())
                                .map(|at| {
                                    found.get(at).map(|part| String::from_utf8_lossy(part.as_bytes()).into_owned())
                                })
                                .collect();
                            let named: serde_json::Map<_, _> = regex
                                .capture_names()
                                .flatten()
                                .filter_map(|name| {
                                    Some((
                                        name.to_owned(),
                                        json!(String::from_utf8_lossy(found.name(name)?.as_bytes())),
                                    ))
                                })
                                .collect();
                            Some(json!({"match_groups": groups, "match_groupdict": named}))
                        })
                    }
                }
            }
            _ => None,
        };
        let wanted = !matches!(state.as_str(), "absent" | "stopped");
        if there.is_some() == wanted {
            return Ok(Done::ok(String::new(), result(there.flatten().unwrap_or_else(|| json!({})))));
        }
        if began.elapsed() >= limit {
            let what = match (port, path) {
                (Some(port), _) => format!("{}:{port}", call.text("host").unwrap_or("127.0.0.1")),
                (_, path) => path.unwrap_or_default().to_owned(),
            };
            let message = call.text("msg").map_or_else(
                || match state.as_str() {
                    "absent" => format!("Timeout when waiting for {what} to be absent."),
                    "stopped" => format!("Timeout when waiting for {what} to stop."),
                    "drained" => format!("Timeout when waiting for {what} to drain"),
                    _ if regex.is_some() => format!(
                        "Timeout when waiting for search string {} in {what}",
                        call.text("search_regex").unwrap_or_default()
                    ),
                    _ => format!("Timeout when waiting for {what}"),
                },
                str::to_owned,
            );
            return Ok(call.failed(message, json!({"elapsed": began.elapsed().as_secs()})));
        }
        tokio::time::sleep(
            seconds(call, "sleep", 1)
                .max(Duration::from_millis(200))
                .min(limit.saturating_sub(began.elapsed()).max(Duration::from_millis(50))),
        )
        .await;
    }
}

/// Waits until the host can be reached.
pub(super) async fn connection(call: &Call<'_>) -> Result<Done, Failure> {
    if call.check {
        return Ok(Done::skipped("skipped in --check: nothing is waited for"));
    }
    let began = Instant::now();
    let limit = seconds(call, "timeout", 600);
    tokio::time::sleep(seconds(call, "delay", 0)).await;
    loop {
        let attempt = call.run("echo pong", seconds(call, "connect_timeout", 5).max(Duration::from_secs(1)));
        let failure = match attempt.await {
            Ok(said) if said.text() == "pong" => {
                return Ok(Done::ok(String::new(), json!({"elapsed": began.elapsed().as_secs(), "changed": false})));
            }
            Ok(said) => said.exit.to_string(),
            Err(failure) => failure.what,
        };
        if began.elapsed() >= limit {
            return Ok(call.failed(
                format!("timed out waiting for ping module test: {failure}"),
                json!({"elapsed": began.elapsed().as_secs()}),
            ));
        }
        call.world.forget(call.on).await;
        tokio::time::sleep(seconds(call, "sleep", 1).max(Duration::from_millis(200))).await;
    }
}
