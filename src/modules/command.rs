//! `command`, `shell` and `raw`: a command of the operator's.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::call::Call;
use super::{Done, arg};
use crate::event::{Lines, Stream};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ArgSpec, ModuleSpec};
use crate::remote::command::Nul;
use crate::remote::{Exit, Piece, quote};

const CHDIR: ArgSpec = arg("chdir", ArgKind::Path, "the folder to run it in");
const CREATES: ArgSpec = arg("creates", ArgKind::Str, "is this there (a glob), nothing is run");
const REMOVES: ArgSpec = arg("removes", ArgKind::Str, "is this not there (a glob), nothing is run");
const STDIN: ArgSpec = arg("stdin", ArgKind::Any, "its standard input");
const NEWLINE: ArgSpec = arg("stdin_add_newline", ArgKind::Bool, "a line feed behind stdin").default("true");
const STRIP: ArgSpec =
    arg("strip_empty_ends", ArgKind::Bool, "empty lines at the end of its output go").default("true");

/// What `command` takes.
pub const COMMAND: ModuleSpec = ModuleSpec::new(
    "command",
    "Runs a command, without a shell",
    &[
        arg("cmd", ArgKind::Str, "the command line, split into words, no shell"),
        arg("argv", ArgKind::List, "the words of the command"),
        arg("expand_argument_vars", ArgKind::Bool, "$NAME and ~ in the words are what the host has").default("true"),
        arg("executable", ArgKind::Str, "taken with a warning: no shell reads the words"),
        CHDIR,
        CREATES,
        REMOVES,
        STDIN,
        NEWLINE,
        STRIP,
    ],
)
.free_form()
.checks();

/// What `shell` takes.
pub const SHELL: ModuleSpec = ModuleSpec::new(
    "shell",
    "Gives a text to sh",
    &[
        arg("cmd", ArgKind::Str, "the text for sh"),
        arg("executable", ArgKind::Path, "another shell, by its whole path"),
        CHDIR,
        CREATES,
        REMOVES,
        STDIN,
        NEWLINE,
        STRIP,
    ],
)
.free_form()
.checks();

/// What `raw` takes.
pub const RAW: ModuleSpec = ModuleSpec::new(
    "raw",
    "Gives a text to sh, and nothing else",
    &[
        arg("cmd", ArgKind::Str, "the text for sh, and nothing else"),
        arg("executable", ArgKind::Path, "another shell, by its whole path"),
    ],
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

/// A word in which `$NAME`, `${NAME}` and a leading `~` are filled in by the host; a name that is not set there stays.
fn expanded(word: &str) -> Result<String, Nul> {
    let mut out = String::new();
    let mut rest = word;
    if word == "~" || word.starts_with("~/") {
        out.push_str("\"$HOME\"");
        rest = word.get(1..).unwrap_or_default();
    }
    let mut literal = String::new();
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        literal.push_str(before);
        let inside = from.get(1..).unwrap_or_default();
        let braced = inside.strip_prefix('{').and_then(|inner| inner.split_once('}')).map(|(name, _)| name);
        let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
        let name = braced.unwrap_or_else(|| inside.get(..end).unwrap_or_default());
        let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let length = if braced.is_some() { name.len() + 3 } else { name.len() + 1 };
        if good {
            if !literal.is_empty() {
                out.push_str(&quote(&literal)?);
                literal.clear();
            }
            let as_written = from.get(..length).unwrap_or_default();
            out.push_str(&format!("\"${{{name}-\\{as_written}}}\""));
            rest = from.get(length..).unwrap_or_default();
        } else {
            literal.push('$');
            rest = inside;
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() || out.is_empty() {
        out.push_str(&quote(&literal)?);
    }
    Ok(out)
}

/// A glob as a word of a shell: its marks stay marks, everything else is quoted.
fn glob_word(pattern: &str) -> Result<String, Nul> {
    let mut out = String::new();
    let (pattern, home) = match pattern.strip_prefix("~/") {
        Some(rest) => (rest, "\"$HOME\"/"),
        None => (pattern, ""),
    };
    out.push_str(home);
    if home.is_empty() && pattern.starts_with('-') {
        out.push_str("./");
    }
    let mut literal = String::new();
    for c in pattern.chars() {
        if "*?[]".contains(c) {
            if !literal.is_empty() {
                out.push_str(&quote(&literal)?);
                literal.clear();
            }
            out.push(c);
        } else {
            literal.push(c);
        }
    }
    if !literal.is_empty() {
        out.push_str(&quote(&literal)?);
    }
    Ok(out)
}

/// The shell that the host's `ansible_shell_executable` names for such texts, where it is another than `/bin/sh`.
fn shell_of(call: &Call<'_>) -> Result<Option<String>, Failure> {
    const NAME: &str = "ansible_shell_executable";
    if !call.scope.knows(NAME) {
        return Ok(None);
    }
    let value = call.templater.render(&format!("{{{{ {NAME} }}}}"), None, &call.scope)?;
    Ok(value.as_str().filter(|shell| !shell.is_empty() && *shell != "/bin/sh").map(str::to_owned))
}

/// What is said instead of running, where `creates` is there already or `removes` is not.
pub(super) async fn already(call: &Call<'_>) -> Result<Option<Done>, Failure> {
    for (name, there) in [("creates", true), ("removes", false)] {
        let Some(pattern) = call.text(name).filter(|pattern| !pattern.is_empty()) else { continue };
        let folder = match call.text("chdir") {
            Some(folder) => format!("cd {} || exit 2\n", super::node::path_word(call, folder)?),
            None => String::new(),
        };
        let word = glob_word(pattern).map_err(|_| nul(call))?;
        let script =
            format!("{folder}for f in {word}; do if [ -e \"$f\" ] || [ -L \"$f\" ]; then exit 0; fi; done\nexit 1\n");
        let said = call.run(&script, super::node::PATIENCE).await?;
        let seen = match said.exit {
            Exit::Code(0) => true,
            Exit::Code(1) => false,
            _ => {
                let what = said.err_text();
                return Ok(Some(
                    call.failed(format!("Unable to change directory before execution: {what}"), json!({"rc": 2})),
                ));
            }
        };
        if seen == there {
            let exists = if there { "exists" } else { "does not exist" };
            let said = format!("skipped, since {pattern} {exists}");
            let message = format!("Did not run command since '{pattern}' {exists}");
            let shown = call.args.get("argv").or_else(|| call.args.get("cmd")).cloned().unwrap_or(Value::Null);
            let result = json!({
                "changed": false, "cmd": shown, "rc": 0, "stdout": said, "stdout_lines": [said], "stderr": "", "stderr_lines": [],
                "start": null, "end": null, "delta": null, "msg": message,
            });
            return Ok(Some(Done::ok(message, result)));
        }
    }
    Ok(None)
}

fn nul(call: &Call<'_>) -> Failure {
    Failure::new(Kind::CouldNotStart, "a NUL cannot be part of a command line").on(call.host)
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

/// What a shell of the host runs for this call, how it is shown, and its input; `missing` is said where there is no such command.
/// `Err` is the module's own no.
type Prepared = Result<(String, Value, Option<String>), Done>;

pub(super) fn prepare(call: &Call<'_>, missing: Option<&str>) -> Result<Prepared, Failure> {
    let (module, args) = (call.module, call.args);
    let limit = call.world.limits.seconds;
    let (line, shown): (String, Value) = if module == "command" {
        if call.text("cmd").is_some_and(|cmd| !cmd.trim().is_empty()) && args.contains_key("argv") {
            return Ok(Err(call.failed("parameters are mutually exclusive: cmd|argv", json!({"rc": 256}))));
        }
        if call.text("cmd").is_none() && !args.contains_key("argv") {
            let what = "one of the following is required: free-form, cmd, argv";
            return Ok(Err(call.failed(what, json!({"rc": 256, "cmd": ""}))));
        }
        let words = words(args)?;
        if words.is_empty() {
            return Ok(Err(call.failed("no command given", json!({"rc": 256, "cmd": ""}))));
        }
        let expand = call.flag("expand_argument_vars");
        let quoted = words
            .iter()
            .map(|word| if expand { expanded(word) } else { quote(word) })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| nul(call))?;
        let line = quoted.join(" ");
        let first = quoted.first().cloned().unwrap_or_default();
        let look = match missing {
            Some(missing) => {
                format!("command -v {first} >/dev/null 2>&1 || {{ printf '%s' {missing} >&2; exit 2; }}\n")
            }
            None => String::new(),
        };
        let run = limit.map_or_else(|| format!("exec {line}"), |seconds| ended_after(&line, seconds));
        (format!("{look}{run}"), json!(words))
    } else {
        let text = args
            .get("cmd")
            .and_then(Value::as_str)
            .ok_or_else(|| Failure::new(Kind::CouldNotStart, format!("{module}: cmd is missing")))?;
        let own = if call.text("executable").is_none() { shell_of(call)? } else { None };
        let shell = call.text("executable").or(own.as_deref());
        let quoted = || quote(text).map_err(|_| nul(call));
        let line = match (limit, shell) {
            (Some(seconds), shell) => {
                let shell = super::node::path_word(call, shell.unwrap_or("/bin/sh"))?;
                ended_after(&format!("{shell} -c {}", quoted()?), seconds)
            }
            (None, Some(shell)) => format!("exec {} -c {}", super::node::path_word(call, shell)?, quoted()?),
            (None, None) => {
                quoted()?;
                text.to_owned()
            }
        };
        (line, json!(text))
    };
    let line = match call.text("chdir") {
        Some(folder) => {
            let folder = super::node::path_word(call, folder)?;
            match missing {
                Some(mark) => {
                    // As it is, not by the links that lead there: as a process that changes its folder sees it.
                    format!("cd -P {folder} 2>/dev/null || {{ printf '%s' {mark}cd >&2; exit 2; }}\n{line}")
                }
                None => format!("cd -P {folder} || exit 2\n{line}"),
            }
        }
        None => line,
    };
    let stdin = match args.get("stdin").filter(|stdin| !stdin.is_null()) {
        Some(stdin) => {
            let mut text = stdin.as_str().map_or_else(|| stdin.to_string(), str::to_owned);
            if call.flag("stdin_add_newline") {
                text.push('\n');
            }
            Some(text)
        }
        None => None,
    };
    Ok(Ok((line, shown, stdin)))
}

/// What [`run`] would send for this call as one script, whatever it finds there; `None` where it asks before or speaks to it.
pub(crate) fn script(call: &Call<'_>) -> Option<String> {
    let asks =
        ["creates", "removes", "stdin"].iter().any(|name| call.args.get(*name).is_some_and(|arg| !arg.is_null()));
    if asks || call.check || call.background.is_some() || call.world.limits.seconds.is_some() {
        return None;
    }
    let (line, _, _) = prepare(call, Some(&call.world.mark)).ok()?.ok()?;
    Some(format!("{}{line}", call.prelude().ok()?))
}

async fn run_command(call: &Call<'_>) -> Result<Done, Failure> {
    let module = call.module;
    if call.check && module == "raw" {
        return Ok(Done::skipped("skipped in --check: what it changes is not known"));
    }
    if module != "raw"
        && let Some(done) = already(call).await?
    {
        return Ok(done);
    }
    let missing = &call.world.mark;
    let (line, shown, stdin) = match prepare(call, Some(missing))? {
        Ok(prepared) => prepared,
        Err(done) => return Ok(done),
    };
    if call.check {
        let message = "Command would have run if not in check mode";
        let guarded = call.text("creates").is_some() || call.text("removes").is_some();
        let result = json!({"changed": guarded, "cmd": shown, "rc": 0, "stdout": "", "stderr": "", "stdout_lines": [], "stderr_lines": [], "msg": message, "start": null, "end": null, "delta": null});
        return Ok(if guarded { Done::changed(message, result) } else { Done::skipped_because(message, result) });
    }
    let mut done = carry_out(call, &line, shown, stdin).await?;
    if let (true, Some(shell), Some(map)) = (module == "command", call.text("executable"), done.result.as_object_mut())
    {
        let warning = format!(
            "As of Ansible 2.4, the parameter 'executable' is no longer supported with the 'command' module. Not using '{shell}'."
        );
        map.insert("warnings".to_owned(), json!([warning]));
    }
    if let Some(map) = done.result.as_object_mut()
        && let Some(what) =
            map.get("stderr").and_then(Value::as_str).and_then(|said| said.strip_prefix(missing.as_str()))
        && ["", "cd"].contains(&what)
    {
        let message = if what == "cd" {
            let folder = call.text("chdir").unwrap_or_default();
            format!("Unable to change directory before execution: [Errno 2] No such file or directory: b'{folder}'")
        } else {
            let name = map.get("cmd").and_then(|cmd| cmd.get(0)).and_then(Value::as_str).unwrap_or_default();
            format!("[Errno 2] No such file or directory: b'{name}'")
        };
        map.insert("rc".into(), json!(2));
        map.insert("msg".into(), json!(message));
        map.insert("stderr".into(), json!(""));
        map.insert("stderr_lines".into(), json!([]));
        map.insert("changed".into(), json!(false));
        done.message = message;
    }
    Ok(done)
}

/// Seconds as Python prints the time between two times.
fn delta(passed: Duration) -> String {
    let seconds = passed.as_secs();
    format!("{}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, passed.subsec_micros())
}

/// Runs a script whose lines are shown as they come, and says how it ended.
pub(super) async fn carry_out(
    call: &Call<'_>,
    line: &str,
    shown: Value,
    stdin: Option<String>,
) -> Result<Done, Failure> {
    let (world, host) = (call.world, call.host);
    let limit = world.limits.seconds;
    let start = jiff::Zoned::now();
    let began = std::time::Instant::now();
    let kept_most = world.limits.kept;
    let mut cut = false;
    world.begins(call.on);
    let mut child = match &stdin {
        Some(text) => {
            let mut child = call.open(line).await.inspect_err(|_| world.seen_to_end(call.on))?;
            // A command that does not read its input to the end is no failure.
            let _ = child.write(text.as_bytes()).await;
            child.close_input().await;
            child
        }
        None => call.start_task(line).await.inspect_err(|_| world.seen_to_end(call.on))?,
    };
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
    if !matches!(exit, Exit::Lost(_)) {
        world.seen_to_end(call.on);
    }
    for kept in [&mut out, &mut err] {
        if kept.len() >= kept_most {
            kept.truncate(masker.cut(kept));
        }
    }
    // Two modules give what was said as it was said.
    let strip = !matches!(call.module, "script" | "raw");
    let strip = call.args.get("strip_empty_ends").and_then(Value::as_bool).unwrap_or(strip);
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        if strip { text.trim_end_matches(['\r', '\n']).to_owned() } else { text.into_owned() }
    };
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
    let stamp = |at: &jiff::Zoned| at.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
    let mut result = json!({
        "changed": true, "cmd": shown, "rc": rc, "stdout": out, "stderr": err,
        "stdout_lines": out.lines().collect::<Vec<_>>(), "stderr_lines": err.lines().collect::<Vec<_>>(),
        "start": stamp(&start), "end": stamp(&jiff::Zoned::now()), "delta": delta(began.elapsed()),
        "failed": rc != 0, "msg": if late.is_some() { message.as_str() } else if rc == 0 { "" } else { "non-zero return code" },
    });
    if let (true, Some(result)) = (cut, result.as_object_mut()) {
        result.insert("cut".to_owned(), json!(true));
    }
    let outcome = if rc == 0 { crate::event::Outcome::Changed } else { crate::event::Outcome::Failed };
    Ok(Done { outcome, message, ..Done::ok("", result) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_by_the_host_and_nothing_else() {
        for (word, expected) in [
            ("$HOME/x", "\"${HOME-\\$HOME}\"/x"),
            ("${A}b", "\"${A-\\${A}}\"b"),
            ("$(id)", "'$(id)'"),
            ("a$", "'a$'"),
            ("$1", "'$1'"),
            ("~/x", "\"$HOME\"/x"),
            ("", "''"),
            ("`id`", "'`id`'"),
        ] {
            assert_eq!(expanded(word).unwrap(), expected, "{word}");
        }
        assert_eq!(glob_word("/tmp/$(id)*.x").unwrap(), "'/tmp/$(id)'*.x");
        assert_eq!(glob_word("-x").unwrap(), "./-x");
    }
}
