//! The modules that are not about Gravity: `ping`, `command`, `shell`, `debug`, `assert`, `fail`, `set_fact`.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Done, World};
use crate::event::{Lines, Stream};
use crate::failure::{Failure, Kind};
use crate::remote::{Command, Exit, Piece, quote};

/// How long a command that was told to end may take for it, in seconds, before it is killed.
const TO_END: u64 = 5;

/// What a host says about itself: user, root, system, disk.
const PING: &str = r#"
printf '%s user %s\n' "$M" "${SUDO_USER:-$(id -un)}"
printf '%s root %s\n' "$M" "$(id -u)"
printf '%s name %s\n' "$M" "$(uname -n)"
if [ -r /etc/os-release ]; then printf '%s os %s\n' "$M" "$(. /etc/os-release; printf '%s' "${PRETTY_NAME:-?}")"; fi
for d in /var/lib/gravity /var/lib /; do
  if [ -d "$d" ]; then df -Pk "$d" | while read -r _ total used avail _ at; do case $total in *[!0-9]*) ;; *) printf '%s disk %s %s %s %s\n' "$M" "$at" "$total" "$used" "$avail";; esac; done; break; fi
done
"#;

pub(super) async fn ping(world: &World, host: &str) -> Result<Done, Failure> {
    let began = std::time::Instant::now();
    let session = world.session(host).await?;
    let mark = format!("@@{:032x}", rand::random::<u128>());
    let said = world.shell(host).run(&session, &format!("M={mark}\n{PING}"), Duration::from_secs(60)).await?;
    let text = said.text();
    let find = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(&mark)?.trim_start().strip_prefix(key)?.strip_prefix(' '))
            .map(str::to_owned)
    };
    let (Some(user), Some(uid)) = (find("user"), find("root")) else {
        return Err(Failure::new(Kind::Failed, "the host's answer could not be read").on(host).saw(format!(
            "{}: {}",
            said.exit,
            said.err_text()
        )));
    };
    let disk = find("disk").unwrap_or_default();
    let words: Vec<&str> = disk.split_whitespace().collect();
    let room = match words.as_slice() {
        [at, _, _, free] => format!("{:.1} GiB free on {at}", free.parse::<f64>().unwrap_or(0.0) / f64::from(1 << 20)),
        _ => "disk ?".to_owned(),
    };
    let root = if uid == "0" { "root: yes".to_owned() } else { format!("root: no (uid {uid})") };
    let os = find("os").unwrap_or_else(|| "system ?".to_owned());
    let result = json!({"ping": "pong", "user": user, "root": uid == "0", "os": os, "name": find("name"), "disk": room, "milliseconds": began.elapsed().as_millis() as u64});
    Ok(Done::ok(format!("user {user}, {root}, {os}, {room}"), result))
}

fn words(args: &Map<String, Value>) -> Result<Vec<String>, Failure> {
    let wrong = |what: &str| Failure::new(Kind::CouldNotStart, what.to_owned());
    if let Some(Value::Array(argv)) = args.get("argv") {
        return Ok(argv.iter().map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)).collect());
    }
    let text =
        args.get("cmd").and_then(Value::as_str).ok_or_else(|| wrong("command: neither cmd nor argv is given"))?;
    shlex::split(text).ok_or_else(|| wrong("command: a quote is not closed").saw(text.to_owned()))
}

/// A script that runs `words`, and has them ended after so many seconds by the host's own `timeout`, where it has one:
/// coreutils' ends all that the command started, those of other makes know no second signal.
fn ended_after(words: &str, seconds: u64) -> String {
    format!(
        "if timeout -k {TO_END} 9 true 2>/dev/null; then exec timeout -k {TO_END} {seconds} {words}; fi\n\
         if timeout 9 true 2>/dev/null; then exec timeout {seconds} {words}; fi\n\
         exec {words}"
    )
}

/// Runs a command, and waits no longer for it than it may take.
pub(super) async fn command(
    world: &World,
    module: &str,
    host: &str,
    args: &Map<String, Value>,
) -> Result<Done, Failure> {
    let Some(seconds) = world.limits.seconds.filter(|_| !world.choices.check) else {
        return run_command(world, module, host, args).await;
    };
    // To connect and to become root have limits of their own.
    world.session(host).await?;
    // The host ends the command by itself; we only go when it does not.
    let most = Duration::from_secs(seconds.saturating_add(2 * TO_END));
    match tokio::time::timeout(most, run_command(world, module, host, args)).await {
        Ok(ended) => ended,
        Err(_) => Err(Failure::new(
            Kind::Unknown,
            format!("the command took more than {seconds} s and could not be ended there"),
        )
        .on(host)
        .why("either the host has no `timeout`, or it does not answer any more: the command may run on")),
    }
}

async fn run_command(world: &World, module: &str, host: &str, args: &Map<String, Value>) -> Result<Done, Failure> {
    if world.choices.check {
        return Ok(Done::skipped("skipped in --check: what it changes is not known"));
    }
    let nul = |_| Failure::new(Kind::CouldNotStart, "a NUL cannot be part of a command line");
    let limit = world.limits.seconds;
    let (line, shown): (String, Value) = if module == "command" {
        let words = words(args)?;
        let line = Command::words(&words).map_err(nul)?;
        let line = limit.map_or_else(|| format!("exec {line}"), |seconds| ended_after(line.as_str(), seconds));
        (line, json!(words))
    } else {
        let text = args
            .get("cmd")
            .and_then(Value::as_str)
            .ok_or_else(|| Failure::new(Kind::CouldNotStart, format!("{module}: cmd is missing")))?;
        let line = match limit {
            Some(seconds) => ended_after(&format!("/bin/sh -c {}", quote(text).map_err(nul)?), seconds),
            None => text.to_owned(),
        };
        (line, json!(text))
    };
    let line = match args.get("chdir").and_then(Value::as_str) {
        Some(folder) => format!("cd {} || exit 2\n{line}", quote(folder).map_err(nul)?),
        None => line,
    };
    let session = world.session(host).await?;
    let began = std::time::Instant::now();
    let kept_most = world.limits.kept;
    let mut cut = false;
    let mut child = world.shell(host).start(&session, &line).await?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let masker = world.events.masker();
    let (mut out_lines, mut err_lines) = (Lines::sparing(masker), Lines::sparing(masker));
    while let Some(piece) = child.next().await {
        let (bytes, kept, lines, stream) = match &piece {
            Piece::Out(bytes) => (bytes, &mut out, &mut out_lines, Stream::Out),
            Piece::Err(bytes) => (bytes, &mut err, &mut err_lines, Stream::Err),
        };
        lines.chunks(bytes, |chunk| world.events.lines(host, stream, chunk));
        // What `register` keeps is bounded; the host's log has it all.
        let room = kept_most.saturating_sub(kept.len()).min(bytes.len());
        cut |= room < bytes.len();
        kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
        world.events.room().await;
    }
    out_lines.end(|line| world.events.line(host, Stream::Out, line));
    err_lines.end(|line| world.events.line(host, Stream::Err, line));
    let exit = child.exit().await;
    for kept in [&mut out, &mut err] {
        if kept.len() >= kept_most {
            kept.truncate(masker.cut(kept));
        }
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches(['\r', '\n']).to_owned();
    let (out, err) = (text(&out), text(&err));
    let rc = match &exit {
        Exit::Code(code) => *code,
        Exit::Signal(_) => -1,
        Exit::Lost(why) => {
            return Err(Failure::new(
                Kind::Unknown,
                "the connection was lost before the command's exit status was seen",
            )
            .on(host)
            .saw(why.clone()));
        }
    };
    let late = limit.filter(|seconds| [124, 137, 143].contains(&rc) && began.elapsed().as_secs() >= *seconds);
    let message = match late {
        Some(seconds) => format!("took more than {seconds} s and was ended there"),
        None if rc == 0 => String::new(),
        None => exit.to_string(),
    };
    let mut result = json!({
        "changed": true, "cmd": shown, "rc": rc, "stdout": out, "stderr": err,
        "stdout_lines": out.lines().collect::<Vec<_>>(), "stderr_lines": err.lines().collect::<Vec<_>>(),
        "failed": rc != 0, "msg": if late.is_some() { message.as_str() } else if rc == 0 { "" } else { "non-zero return code" },
    });
    if let (true, Some(result)) = (cut, result.as_object_mut()) {
        result.insert("cut".to_owned(), json!(true));
    }
    let outcome = if rc == 0 { crate::event::Outcome::Changed } else { crate::event::Outcome::Failed };
    Ok(Done { outcome, message, result })
}

pub(super) fn debug(args: &Map<String, Value>) -> Done {
    let said = args.get("msg").or_else(|| args.get("var")).cloned().unwrap_or_else(|| json!("Hello world!"));
    let text = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
    Done::ok(text, json!({ "msg": said }))
}

/// Conditions were evaluated by `run`, which knows the variables: here they are true or false.
pub(super) fn assert(args: &Map<String, Value>) -> Result<Done, Failure> {
    let that = args.get("that").cloned().unwrap_or(Value::Null);
    let all = match that {
        Value::Array(items) => items,
        one => vec![one],
    };
    if all.iter().all(|value| value == &Value::Bool(true)) {
        let message = args.get("success_msg").and_then(Value::as_str).unwrap_or("All assertions passed");
        return Ok(Done::ok(message, json!({ "msg": message })));
    }
    let message = args.get("fail_msg").and_then(Value::as_str).unwrap_or("Assertion failed");
    Err(Failure::new(Kind::Failed, message.to_owned()))
}

pub(super) fn fail(args: &Map<String, Value>) -> Failure {
    Failure::new(
        Kind::Failed,
        args.get("msg").and_then(Value::as_str).unwrap_or("Failed as requested from task").to_owned(),
    )
}

pub(super) fn set_fact(args: &Map<String, Value>) -> Done {
    Done::ok(String::new(), json!({ "ansible_facts": args }))
}
