//! `script`: a script from here, run on the host.

use serde_json::json;

use super::call::Call;
use super::{Done, arg, command, node};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "script",
    "Runs a script of this machine on the host",
    &[
        arg("cmd", ArgKind::Str, "the script here, and its arguments"),
        arg("chdir", ArgKind::Path, "the folder to run it in"),
        arg("creates", ArgKind::Str, "is this there (a glob), the script is not run"),
        arg("removes", ArgKind::Str, "is this not there (a glob), the script is not run"),
        arg("executable", ArgKind::Path, "what runs the script, instead of its first line"),
        arg("decrypt", ArgKind::Bool, "a script of the vault is opened").default("true"),
    ],
)
.free_form();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let wrong = |what: String| Failure::new(Kind::Failed, what).on(call.host);
    let line = call.text("cmd").unwrap_or_default();
    let words = shlex::split(line).ok_or_else(|| wrong(format!("script: a quote is not closed in {line:?}")))?;
    let Some((name, arguments)) = words.split_first() else {
        let what = "script: one of the following is required: _raw_params, cmd (no script is named)";
        return Ok(call.failed(what, json!({})));
    };
    if let Some(done) = command::already(call).await? {
        let (name, says) = match call.text("creates").filter(|_| done.message.ends_with(" exists")) {
            Some(name) => (name, "exists, matching creates option"),
            None => (call.text("removes").unwrap_or_default(), "does not exist, matching removes option"),
        };
        let what = format!("{name} {says}");
        return Ok(Done::skipped_because(what.clone(), json!({"msg": what, "changed": false})));
    }
    let path = match call.search("files", name) {
        Ok(path) => path,
        Err(failure) => {
            return Ok(call.failed(format!("Could not find or access '{name}'"), json!({ "searched": failure.seen })));
        }
    };
    if call.check {
        return Ok(Done::skipped("skipped in --check: what the script changes is not known"));
    }
    let bytes = std::fs::read(&path).map_err(|error| wrong(format!("{} cannot be read: {error}", path.display())))?;
    let locked = bytes.starts_with(b"$ANSIBLE_VAULT;") && call.flag("decrypt");
    let bytes = if locked {
        call.templater.unlocked(&path, String::from_utf8_lossy(&bytes).into_owned())?.into_bytes()
    } else {
        bytes
    };
    // The script lies on the host for as long as it runs, for nobody else to read.
    let mut child = call
        .open("umask 077\nt=$(mktemp \"${TMPDIR:-/tmp}/.ferry.XXXXXX\") || exit 3\ncat >\"$t\" && chmod 700 \"$t\" && printf '%s' \"$t\"\n")
        .await?;
    let sent = child.write(&bytes).await;
    child.close_input().await;
    let mut out = Vec::new();
    let mut err = Vec::new();
    while let Some(piece) = child.next().await {
        match piece {
            crate::remote::Piece::Out(bytes) => out.extend_from_slice(&bytes),
            crate::remote::Piece::Err(bytes) => err.extend_from_slice(&bytes),
        }
    }
    if !child.exit().await.ok() {
        return Err(
            wrong("the script could not be put on the host".to_owned()).saw(String::from_utf8_lossy(&err).into_owned())
        );
    }
    sent?;
    let there = node::word(call, &String::from_utf8_lossy(&out))?;
    let mut text = String::new();
    if let Some(folder) = call.text("chdir") {
        text.push_str(&format!("cd {} || {{ rm -f -- {there}; exit 2; }}\n", node::path_word(call, folder)?));
    }
    if let Some(program) = call.text("executable") {
        text.push_str(&format!("{} ", node::path_word(call, program)?));
    }
    text.push_str(&there);
    for argument in arguments {
        text.push_str(&format!(" {}", node::word(call, argument)?));
    }
    text.push_str(&format!("\nr=$?\nrm -f -- {there}\nexit $r\n"));
    let mut done = command::carry_out(call, &text, json!(line), None).await?;
    if let Some(map) = done.result.as_object_mut() {
        map.remove("cmd");
    }
    Ok(done)
}
