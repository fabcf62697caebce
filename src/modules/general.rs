//! The modules that are not about Gravity: `ping`, `command`, `shell`, `debug`, `assert`, `fail`, `set_fact`.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Done, World};
use crate::event::{Lines, Stream};
use crate::failure::{Failure, Kind};
use crate::remote::{Command, Exit, Piece, quote};

/// How much of each stream `register` keeps, in bytes.
const KEPT: usize = 1 << 20;

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

pub(super) async fn command(
    world: &World,
    module: &str,
    host: &str,
    args: &Map<String, Value>,
) -> Result<Done, Failure> {
    if world.choices.check {
        return Ok(Done::skipped("skipped in --check: what it changes is not known"));
    }
    let nul = |_| Failure::new(Kind::CouldNotStart, "a NUL cannot be part of a command line");
    let (line, shown): (String, Value) = if module == "shell" {
        let text = args
            .get("cmd")
            .and_then(Value::as_str)
            .ok_or_else(|| Failure::new(Kind::CouldNotStart, "shell: cmd is missing"))?;
        (text.to_owned(), json!(text))
    } else {
        let words = words(args)?;
        (format!("exec {}", Command::words(&words).map_err(nul)?), json!(words))
    };
    let line = match args.get("chdir").and_then(Value::as_str) {
        Some(folder) => format!("cd {} || exit 2\n{line}", quote(folder).map_err(nul)?),
        None => line,
    };
    let session = world.session(host).await?;
    let mut child = world.shell(host).start(&session, &line).await?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let masker = world.events.masker();
    let (mut out_lines, mut err_lines) = (Lines::sparing(masker), Lines::sparing(masker));
    while let Some(piece) = child.next().await {
        let (bytes, kept, lines, stream) = match &piece {
            Piece::Out(bytes) => (bytes, &mut out, &mut out_lines, Stream::Out),
            Piece::Err(bytes) => (bytes, &mut err, &mut err_lines, Stream::Err),
        };
        lines.feed(bytes, |line| world.events.line(host, stream, line));
        // What `register` keeps is bounded; the host's log has it all.
        let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }
    out_lines.end(|line| world.events.line(host, Stream::Out, line));
    err_lines.end(|line| world.events.line(host, Stream::Err, line));
    let exit = child.exit().await;
    for kept in [&mut out, &mut err] {
        if kept.len() >= KEPT {
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
    let result = json!({
        "changed": true, "cmd": shown, "rc": rc, "stdout": out, "stderr": err,
        "stdout_lines": out.lines().collect::<Vec<_>>(), "stderr_lines": err.lines().collect::<Vec<_>>(),
        "failed": rc != 0, "msg": if rc == 0 { "" } else { "non-zero return code" },
    });
    let outcome = if rc == 0 { crate::event::Outcome::Changed } else { crate::event::Outcome::Failed };
    Ok(Done { outcome, message: if rc == 0 { String::new() } else { format!("{exit}") }, result })
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
