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
        arg("search_regex", ArgKind::Str, "what must stand in the file, or be said at the port"),
        arg("state", ArgKind::Str, "what is waited for")
            .default("started")
            .choices(&["absent", "drained", "present", "started", "stopped"]),
        arg("timeout", ArgKind::Int, "at most so many seconds").default("300"),
        arg("connect_timeout", ArgKind::Int, "seconds for one attempt").default("5"),
        arg("delay", ArgKind::Int, "seconds before the first look").default("0"),
        arg("sleep", ArgKind::Int, "seconds between two looks").default("1"),
        arg("msg", ArgKind::Str, "what to say when it takes too long"),
        arg("active_connection_states", ArgKind::List, "with drained: the states of a connection that count")
            .default("ESTABLISHED,FIN_WAIT1,FIN_WAIT2,SYN_RECV,SYN_SENT,TIME_WAIT"),
        arg("exclude_hosts", ArgKind::List, "with drained: whose connections do not count"),
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

/// What is said at the port within a time, at most 64 KiB of it.
const SAID: &str = r#"
if command -v bash >/dev/null 2>&1; then
  timeout "$T" bash -c 'exec 3<>"/dev/tcp/$0/$1" && head -c 65536 <&3' "$H" "$P" 2>/dev/null
elif command -v nc >/dev/null 2>&1; then
  timeout "$T" nc -w "$T" "$H" "$P" </dev/null 2>/dev/null | head -c 65536
else
  echo 'there is neither bash nor nc to listen at a port with' >&2
  exit 2
fi
exit 0
"#;

/// Names as addresses, where they are none, and the connections to the port.
const CONNECTIONS: &str = r#"
for n in $NAMES; do
  a=$(getent ahosts "$n" 2>/dev/null | cut -d' ' -f1 | sort -u)
  [ -n "$a" ] || { echo "the host cannot resolve $n" >&2; exit 2; }
  for i in $a; do echo "name $n $i"; done
done
[ -r /proc/net/tcp ] || { echo 'there is no /proc/net/tcp to look at connections with' >&2; exit 2; }
x=$(printf '%04X' "$P")
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep "^ *[0-9]*: [0-9A-F]*:$x " || :
"#;

/// The states of a TCP connection, by the kernel's numbers for them.
const STATES: &[(&str, &str)] = &[
    ("ESTABLISHED", "01"),
    ("SYN_SENT", "02"),
    ("SYN_RECV", "03"),
    ("FIN_WAIT1", "04"),
    ("FIN_WAIT2", "05"),
    ("TIME_WAIT", "06"),
];

/// An address of the kernel's table: each group of four bytes stands as one number of this machine.
fn address(hex: &str) -> Option<std::net::IpAddr> {
    let mut bytes = Vec::new();
    for word in hex.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_le_bytes());
    }
    if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(std::net::Ipv4Addr::from(four).into());
    }
    let sixteen = <[u8; 16]>::try_from(bytes.as_slice()).ok()?;
    Some(std::net::IpAddr::from(sixteen).to_canonical())
}

/// What to look for among connections.
struct Drain {
    host: String,
    excluded: Vec<String>,
    states: Vec<&'static str>,
}

impl Drain {
    fn of(call: &Call<'_>) -> Result<Self, Failure> {
        let mut states = Vec::new();
        for name in call.list("active_connection_states") {
            let known =
                STATES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number).ok_or_else(|| {
                    let all: Vec<&str> = STATES.iter().map(|(known, _)| *known).collect();
                    Failure::new(Kind::Failed, format!("unknown active_connection_state ({name}) defined"))
                        .on(call.host)
                        .mend(all.join(", "))
                })?;
            states.push(known);
        }
        let host = call.text("host").unwrap_or("127.0.0.1").to_owned();
        Ok(Self { host, excluded: call.list("exclude_hosts"), states })
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        let all = std::iter::once(&self.host).chain(&self.excluded);
        all.filter(|name| name.parse::<std::net::IpAddr>().is_err())
    }

    /// Whether a connection that counts is in what [`CONNECTIONS`] said.
    fn open(&self, said: &str) -> bool {
        let of = |wanted: &str| -> Vec<std::net::IpAddr> {
            if let Ok(address) = wanted.parse::<std::net::IpAddr>() {
                return vec![address.to_canonical()];
            }
            let lines = said.lines().filter_map(|line| line.strip_prefix("name ")?.split_once(' '));
            lines.filter(|(name, _)| *name == wanted).filter_map(|(_, address)| address.trim().parse().ok()).collect()
        };
        let here = of(&self.host);
        let everywhere = here.iter().any(std::net::IpAddr::is_unspecified);
        let excluded: Vec<_> = self.excluded.iter().flat_map(|name| of(name)).collect();
        said.lines().filter(|line| !line.starts_with("name ")).any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (Some(local), Some(remote), Some(state)) = (words.next(), words.next(), words.next()) else {
                return false;
            };
            let end = |text: &str| address(text.split(':').next().unwrap_or_default());
            let (Some(local), Some(remote)) = (end(local), end(remote)) else { return false };
            self.states.contains(&state) && !excluded.contains(&remote) && (everywhere || here.contains(&local))
        })
    }
}

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
    let drain = if state == "drained" {
        Some(Drain::of(call)?)
    } else if call.args.get("exclude_hosts").is_some_and(|given| !given.is_null()) {
        return Ok(call.failed("exclude_hosts should only be with state=drained", json!({"elapsed": 0})));
    } else {
        None
    };
    let mut listened = 0;
    let regex = match call.text("search_regex") {
        Some(pattern) => Some(regex::bytes::RegexBuilder::new(pattern).multi_line(true).build().map_err(|error| {
            Failure::new(Kind::Failed, format!("search_regex cannot be used: {error}")).on(call.host)
        })?),
        None => None,
    };
    loop {
        let there = match (port, path) {
            (Some(port), _) if drain.is_some() => {
                let Some(drain) = &drain else { return Err(Failure::new(Kind::Bug, "nothing to look for")) };
                let names: Vec<&str> = drain.names().map(String::as_str).collect();
                let plain = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
                if let Some(odd) = names.iter().find(|name| !plain(name) || name.starts_with('-')) {
                    return Err(Failure::new(Kind::Failed, format!("{odd:?} is no name of a host")).on(call.host));
                }
                let script = format!("P={port} NAMES={}\n{CONNECTIONS}", node::word(call, &names.join(" "))?);
                let said = call.run(&script, Duration::from_secs(120)).await?;
                if said.exit != crate::remote::Exit::Code(0) {
                    return Err(Failure::new(
                        Kind::Failed,
                        format!("the host cannot look at connections: {}", said.exit),
                    )
                    .on(call.host)
                    .saw(said.err_text()));
                }
                (!drain.open(&said.text())).then_some(None)
            }
            (Some(port), _) if regex.is_some() && state == "started" => {
                // Who says it at once is not waited for long.
                let seconds = seconds(call, "connect_timeout", 5).as_secs().max(1).min(1 + listened);
                listened += 1;
                let host = node::word(call, call.text("host").unwrap_or("127.0.0.1"))?;
                let script = format!("H={host} P={port} T={seconds}\n{SAID}");
                let said = call.run(&script, Duration::from_secs(120)).await?;
                if said.exit != crate::remote::Exit::Code(0) {
                    return Err(Failure::new(Kind::Failed, format!("the host cannot listen at a port: {}", said.exit))
                        .on(call.host)
                        .saw(said.err_text()));
                }
                regex.as_ref().and_then(|regex| matched(regex, &said.out))
            }
            (Some(port), _) => {
                let script = format!(
                    "H={} P={port} T={}\n{}",
                    node::word(call, call.text("host").unwrap_or("127.0.0.1"))?,
                    seconds(call, "connect_timeout", 5).as_secs().max(1),
                    PORT
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
                        matched(regex, &bytes)
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

/// What an expression finds, as the result has it.
fn matched(regex: &regex::bytes::Regex, bytes: &[u8]) -> Option<Option<serde_json::Value>> {
    let found = regex.captures(bytes)?;
    let text = |part: regex::bytes::Match<'_>| String::from_utf8_lossy(part.as_bytes()).into_owned();
    let groups: Vec<_> = (1..found.len()).map(|at| found.get(at).map(text)).collect();
    let named: serde_json::Map<_, _> = regex
        .capture_names()
        .flatten()
        .filter_map(|name| Some((name.to_owned(), json!(text(found.name(name)?)))))
        .collect();
    Some(Some(json!({"match_groups": groups, "match_groupdict": named})))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_told_apart() {
        let line = |local: &str, remote: &str, state: &str| {
            format!("  1: {local}:1F90 {remote}:C350 {state} 00000000:00000000 00:00000000 00000000 0 0\n")
        };
        let drain = |host: &str, excluded: &[&str]| Drain {
            host: host.to_owned(),
            excluded: excluded.iter().map(|name| (*name).to_owned()).collect(),
            states: vec!["01", "06"],
        };
        let one = line("0100007F", "0200007F", "01");
        assert!(drain("127.0.0.1", &[]).open(&one));
        assert!(drain("0.0.0.0", &[]).open(&one));
        assert!(!drain("127.0.0.9", &[]).open(&one));
        assert!(!drain("127.0.0.1", &["127.0.0.2"]).open(&one));
        assert!(!drain("127.0.0.1", &[]).open(&line("0100007F", "0200007F", "0A")));
        // An address of IPv4 in the table of IPv6.
        let mapped = line("0000000000000000FFFF00000100007F", "0000000000000000FFFF00000200007F", "06");
        assert!(drain("127.0.0.1", &[]).open(&mapped));
        assert!(!drain("127.0.0.1", &["peer"]).open(&format!("name peer 127.0.0.2\n{mapped}")));
        assert!(drain("127.0.0.1", &["peer"]).open(&format!("name peer 127.0.0.3\n{mapped}")));
    }
}
