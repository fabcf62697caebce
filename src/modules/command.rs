//! `command`, `shell` and `raw`: a command of the operator's.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::call::Call;
use super::{Done, arg};
use crate::event::{Lines, Stream};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};
use crate::remote::{Command, Exit, Piece, quote};

/// What `command` takes.
pub const COMMAND: ModuleSpec = ModuleSpec::new(
    "command",
    "Runs a command, without a shell",
    &[
        arg("cmd", ArgKind::Str, "the command line, split into words, no shell"),
        arg("argv", ArgKind::List, "the words of the command"),
        arg("chdir", ArgKind::Path, "the folder to run it in"),
    ],
)
.free_form();

/// What `shell` takes.
pub const SHELL: ModuleSpec = ModuleSpec::new(
    "shell",
    "Gives a text to sh",
    &[arg("cmd", ArgKind::Str, "the text for sh"), arg("chdir", ArgKind::Path, "the folder to run it in")],
)
.free_form();

/// What `raw` takes.
pub const RAW: ModuleSpec = ModuleSpec::new(
    "raw",
    "Gives a text to sh, and nothing else",
    &[arg("cmd", ArgKind::Str, "the text for sh, and nothing else")],
)
.free_form();

/// How long a command that was told to end may take for it, in seconds, before it is killed.
const TO_END: u64 = 5;

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
pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let Some(seconds) = call.world.limits.seconds.filter(|_| !call.check) else {
        return run_command(call).await;
    };
    // To connect and to become root have limits of their own.
    call.session().await?;
    // The host ends the command by itself; we only go when it does not.
    let most = Duration::from_secs(seconds.saturating_add(2 * TO_END));
    match tokio::time::timeout(most, run_command(call)).await {
        Ok(ended) => ended,
        Err(_) => Err(Failure::new(
            Kind::Unknown,
            format!("the command took more than {seconds} s and could not be ended there"),
        )
        .on(call.host)
        .why("either the host has no `timeout`, or it does not answer any more: the command may run on")),
    }
}

async fn run_command(call: &Call<'_>) -> Result<Done, Failure> {
    let (world, module, host, args) = (call.world, call.module, call.host, call.args);
    if call.check {
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
    let began = std::time::Instant::now();
    let kept_most = world.limits.kept;
    let mut cut = false;
    let mut child = call.start(&line).await?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let masker = world.events.masker();
    let (mut out_lines, mut err_lines) = (Lines::sparing(masker), Lines::sparing(masker));
    while let Some(piece) = child.next().await {
        let (bytes, kept, lines, stream) = match &piece {
            Piece::Out(bytes) => (bytes, &mut out, &mut out_lines, Stream::Out),
            Piece::Err(bytes) => (bytes, &mut err, &mut err_lines, Stream::Err),
        };
        if !call.no_log {
            lines.chunks(bytes, |chunk| world.events.lines(host, stream, chunk));
        }
        // What `register` keeps is bounded; the host's log has it all.
        let room = kept_most.saturating_sub(kept.len()).min(bytes.len());
        cut |= room < bytes.len();
        kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
        world.events.room().await;
    }
    out_lines.end(|line| world.events.line(host, Stream::Out, line));
    err_lines.end(|line| world.events.line(host, Stream::Err, line));
    let exit = child.exit().await.as_a_shell_says();
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
    Ok(Done { outcome, message, ..Done::ok("", result) })
}
