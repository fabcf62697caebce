//! `async` and `async_status`: a command that goes on without us, as a job of its node.
//!
//! What lives here: starting `command` and `shell` as a [`crate::job`] of the task's own user, asking for it and cleaning up after
//! it. The same for hosts over SSH and for this machine. What does not: how jobs hold (job), how often a playbook asks (`run`).
//!
//! Beside the job's own files lie three of the command's: `JID` (begin, end and exit code, written when it has ended), `JID.out` and
//! `JID.err`. A job's script lies on the node's disk, so a command with a secret in it is refused.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::call::{Background, Call};
use super::{Done, arg, command, node};
use crate::digest::Sha256;
use crate::event::{Event, Outcome};
use crate::failure::{Failure, Kind};
use crate::job::{Input, Jobs, Lost, Spec, State};
use crate::name::{ClusterName, JobId};
use crate::playbook::{ArgKind, ModuleSpec};
use crate::remote::{Exit, quote};

/// What `async_status` takes.
pub const STATUS: ModuleSpec = ModuleSpec::new(
    "async_status",
    "Asks for a command that was started with async, or removes what it left",
    &[
        arg("jid", ArgKind::Str, "the ansible_job_id that the task with async gave").required(),
        arg("mode", ArgKind::Str, "status, or cleanup: remove its files")
            .default("status")
            .choices(&["status", "cleanup"]),
    ],
)
.checks();

/// `j<digits>.<digits>`: both halves of a job's id, as Ansible's ids look.
fn jid_of(id: &JobId) -> String {
    let half = |range: std::ops::Range<usize>| {
        id.as_str().get(range).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default()
    };
    format!("j{}.{}", half(0..16), half(16..32))
}

/// The job's id behind a jid; `None` where it is none of ours.
fn id_of(jid: &str) -> Option<JobId> {
    let (high, low) = jid.trim().strip_prefix('j')?.split_once('.')?;
    let (high, low) = (high.parse::<u64>().ok()?, low.parse::<u64>().ok()?);
    format!("{high:016x}{low:016x}").parse().ok()
}

/// Where jobs of a task are on its host, and what its user's environment is there.
struct Place {
    base: String,
    home: String,
    path: String,
}

impl Place {
    async fn find(call: &Call<'_>) -> Result<Self, Failure> {
        let given = match call.templater.render("{{ ansible_async_dir | default('') }}", None, &call.scope) {
            Ok(Value::String(text)) if !text.is_empty() => text,
            _ => crate::settings::ansible_cfg::in_force("defaults.async_dir")
                .unwrap_or_else(|| "~/.ansible_async".to_owned()),
        };
        let mark = node::mark();
        let script = format!(
            "d={}\nmkdir -p -m 700 \"$d\" || exit 3\nd=$(cd \"$d\" && pwd -P) || exit 3\nprintf '{mark}%s\\n{mark}%s\\n{mark}%s\\n' \"$d\" \"$HOME\" \"$PATH\"\n",
            node::path_word(call, &given)?
        );
        let said = node::sh(call, &script).await?;
        let text = String::from_utf8_lossy(&said.out).into_owned();
        let mut fields = text.lines().filter_map(|line| line.strip_prefix(mark.as_str())).map(str::to_owned);
        match (fields.next(), fields.next(), fields.next()) {
            (Some(base), Some(home), Some(path)) => Ok(Self { base, home, path }),
            _ => Err(Failure::new(Kind::Failed, "the folder for commands with async cannot be used")
                .on(call.host)
                .saw(given)
                .mend("set ansible_async_dir to a folder that the task's user may write to")),
        }
    }

    fn file(&self, jid: &str) -> String {
        format!("{}/{jid}", self.base)
    }
}

fn nul(call: &Call<'_>) -> Failure {
    Failure::new(Kind::CouldNotStart, "a NUL cannot be part of a command line").on(call.host)
}

/// What the job runs: the command with its outputs in files, ended when its time is over, then how it ended.
fn script(
    call: &Call<'_>,
    place: &Place,
    jid: &str,
    line: &str,
    stdin: Option<&str>,
    seconds: u64,
) -> Result<String, Failure> {
    let word = |text: &str| quote(text).map_err(|_| nul(call));
    let whole = word(&format!("{}{line}", call.prelude()?))?;
    let input = match stdin {
        Some(text) => format!("printf '%s' {} | ", word(text)?),
        None => String::new(),
    };
    // Without a `timeout` on the host, the shell that runs the command is ended by another one.
    Ok(format!(
        "HOME={} PATH={}\nexport HOME PATH\nunset LC_ALL\ncd \"$HOME\" 2>/dev/null || cd /\nf={}\ns={whole}\n\
         b=$(date +%s)\n\
         if timeout -k 5 9 true 2>/dev/null; then\n  {input}timeout -s KILL {seconds} sh -c \"$s\" >\"$f.out\" 2>\"$f.err\"\n  r=$?\n\
         else\n  {input}sh -c \"$s\" >\"$f.out\" 2>\"$f.err\" &\n  p=$!\n  ( sleep {seconds}; kill -KILL $p ) >/dev/null 2>&1 &\n  w=$!\n  wait $p\n  r=$?\n  kill $w 2>/dev/null\nfi\n\
         printf '%s %s %s\\n' \"$b\" \"$(date +%s)\" \"$r\" >\"$f.tmp\" && mv \"$f.tmp\" \"$f\"\nexit \"$r\"\n",
        word(&place.home)?,
        word(&place.path)?,
        word(&place.file(jid))?,
    ))
}

async fn jobs(call: &Call<'_>, place: &Place) -> Result<Jobs, Failure> {
    let mut jobs = Jobs::new(call.session().await?).at(place.base.clone());
    jobs.manner.start = Duration::from_secs(20);
    Ok(jobs)
}

/// Runs the task's module so that it goes on without us; waits for it where `poll` says so.
pub(super) async fn run(call: &Call<'_>, background: Background) -> Result<Done, Failure> {
    // What works on this side as much as there.
    let here = [
        "add_host",
        "assert",
        "copy",
        "debug",
        "fail",
        "fetch",
        "group_by",
        "include_vars",
        "pause",
        "raw",
        "script",
        "set_fact",
        "template",
        "wait_for_connection",
        "async_status",
    ];
    if here.contains(&call.module) {
        return Ok(call.failed(format!("This action ({}) does not support async.", call.module), json!({})));
    }
    if !["command", "shell"].contains(&call.module) {
        // It works from here, step by step: what waits for it may be bounded, what does not cannot be had.
        if background.poll == 0 {
            return Err(Failure::new(
                Kind::Failed,
                format!("{} does not go on without ferry: async with poll: 0 is for command and shell", call.module),
            )
            .on(call.host)
            .mend("give it a poll above 0, or remove async"));
        }
        let limit = Duration::from_secs(background.seconds);
        return match tokio::time::timeout(limit, Box::pin(super::one(call))).await {
            Ok(done) => done,
            Err(_) => Ok(call.failed("Timeout exceeded", json!({"async_result": null}))),
        };
    }
    if call.check {
        return command::run(call).await;
    }
    if let Some(done) = command::already(call).await? {
        return Ok(done);
    }
    let (line, shown, stdin) = match command::prepare(call, None)? {
        Ok(prepared) => prepared,
        Err(done) => return Ok(done),
    };
    let place = Place::find(call).await?;
    let id = JobId::random();
    let jid = jid_of(&id);
    let script = script(call, &place, &jid, &line, stdin.as_deref(), background.seconds)?;
    if call.world.events.masker().mask(&script) != script.as_str() {
        return Err(Failure::new(
            Kind::Refused,
            "a command with async lies on the host's disk while it runs, and there is a secret in this one",
        )
        .on(call.host)
        .mend("give the secret by a file of the host's, or remove async"));
    }
    let cluster: ClusterName =
        "async".parse().map_err(|error: crate::name::BadName| Failure::new(Kind::Bug, error.to_string()))?;
    let short = id.as_str().get(..16).unwrap_or_default();
    let spec = Spec {
        id: id.clone(),
        kind: format!("async-{short}"),
        cluster,
        script,
        meta: json!({"cmd": shown, "seconds": background.seconds, "jid": jid}),
        umask: 0o022,
        restore_like: false,
        input: Input::Nothing,
    };
    let jobs = jobs(call, &place).await?;
    jobs.start(&spec).await?;
    let results_file = place.file(&jid);
    if background.poll == 0 {
        return Ok(Done::changed(
            String::new(),
            json!({"ansible_job_id": jid, "started": true, "finished": false, "results_file": results_file, "changed": true, "failed": false}),
        ));
    }
    let end = tokio::time::Instant::now() + Duration::from_secs(background.seconds.saturating_add(10));
    let told = |finished: bool, failed: bool| {
        call.world.events.tell(Event::Polled { host: call.host.to_owned(), job: jid.clone(), finished, failed });
    };
    loop {
        tokio::time::sleep(Duration::from_secs(background.poll)).await;
        let done = match look(call, &place, &jid).await {
            Ok(done) => done,
            // The job goes on while its host cannot be reached.
            Err(failure) if failure.kind == Kind::Unreachable && tokio::time::Instant::now() < end => continue,
            Err(failure) => return Err(failure),
        };
        let finished = done.result.get("finished") == Some(&json!(true));
        if finished {
            told(true, done.outcome == Outcome::Failed);
            // What it said is here: nothing of it stays there.
            let _ = clean(call, &place, &jid).await;
            return Ok(done);
        }
        if tokio::time::Instant::now() >= end {
            let _ = jobs.cancel(&id, Duration::from_secs(5)).await;
            told(true, true);
            return Ok(call.failed(
                format!("async task did not complete within the requested time - {}s", background.seconds),
                json!({"ansible_job_id": jid, "started": true, "finished": true, "results_file": results_file}),
            ));
        }
        told(false, false);
    }
}

fn stamp(seconds: &str) -> Value {
    let at = seconds.parse::<i64>().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or(Value::Null, |at| {
        json!(at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S.%6f").to_string())
    })
}

/// How a command with async stands.
async fn look(call: &Call<'_>, place: &Place, jid: &str) -> Result<Done, Failure> {
    let results_file = place.file(jid);
    let common = |finished: bool| -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("ansible_job_id".into(), json!(jid));
        map.insert("started".into(), json!(true));
        map.insert("finished".into(), json!(finished));
        map.insert("results_file".into(), json!(results_file));
        map
    };
    let failed = |message: &str| call.failed(message, Value::Object(common(true)));
    let Some(id) = id_of(jid) else { return Ok(failed("could not find job")) };
    let jobs = jobs(call, place).await?;
    let listed = jobs.look(&id).await?;
    match listed.state {
        State::Absent => return Ok(failed("could not find job")),
        State::NotStarted | State::Starting | State::Running { .. } | State::Orphan => {
            let mut map = common(false);
            for name in ["stdout", "stderr"] {
                map.insert(name.into(), json!(""));
                map.insert(format!("{name}_lines"), json!([]));
            }
            return Ok(Done::ok(String::new(), Value::Object(map)));
        }
        State::Lost(Lost::Reboot) => return Ok(failed("the host restarted while it ran: how it ended is not known")),
        State::Lost(Lost::Died) => return Ok(failed("it was ended from outside and left no result")),
        State::Done { .. } => {}
    }
    let meta = jobs.list().await?.into_iter().find(|listed| listed.id == id).map(|listed| listed.meta);
    let f = quote(&results_file).map_err(|_| nul(call))?;
    let (head, out, err) = (node::mark(), node::mark(), node::mark());
    let most = call.world.limits.kept;
    let script = format!(
        "f={f}\n[ -f \"$f\" ] || exit 4\nprintf '%s\\n' {head}\ncat \"$f\"\nprintf '%s\\n' {out}\nhead -c {most} \"$f.out\"\nprintf '\\n%s\\n' {err}\nhead -c {most} \"$f.err\"\n"
    );
    let said = call.run(&script, node::PATIENCE).await?;
    if said.exit == Exit::Code(4) {
        return Ok(failed("it ended and left no result"));
    }
    let text = String::from_utf8_lossy(&said.out).into_owned();
    let (Some((before, rest)), true) = (text.split_once(&format!("{out}\n")), said.exit.ok()) else {
        return Err(Failure::new(Kind::Failed, "what a command with async said cannot be read")
            .on(call.host)
            .saw(said.err_text()));
    };
    let (stdout, stderr) = rest.split_once(&format!("\n{err}\n")).unwrap_or((rest, ""));
    let mut words = before.lines().nth(1).unwrap_or_default().split(' ');
    let (start, end) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let rc = words.next().and_then(|rc| rc.parse::<i32>().ok()).unwrap_or(-1);
    let strip = call.args.get("strip_empty_ends").and_then(Value::as_bool).unwrap_or(true);
    let ends = |text: &str| if strip { text.trim_end_matches(['\r', '\n']).to_owned() } else { text.to_owned() };
    let (stdout, stderr) = (ends(stdout), ends(stderr));
    let whole = |text: &str| text.parse::<u64>().unwrap_or_default();
    let passed = whole(end).saturating_sub(whole(start));
    let limit = meta.as_ref().and_then(|meta| meta.get("seconds")).and_then(Value::as_u64);
    let late = rc == 137 && limit.is_some_and(|limit| passed >= limit);
    let mut map = common(true);
    map.insert("cmd".into(), meta.as_ref().and_then(|meta| meta.get("cmd")).cloned().unwrap_or(Value::Null));
    map.insert("rc".into(), json!(rc));
    map.insert("start".into(), stamp(start));
    map.insert("end".into(), stamp(end));
    map.insert("delta".into(), json!(format!("{}:{:02}:{:02}", passed / 3600, passed / 60 % 60, passed % 60)));
    map.insert("stdout_lines".into(), json!(stdout.lines().collect::<Vec<_>>()));
    map.insert("stderr_lines".into(), json!(stderr.lines().collect::<Vec<_>>()));
    map.insert("stdout".into(), json!(stdout));
    map.insert("stderr".into(), json!(stderr));
    map.insert("changed".into(), json!(!late));
    let message = match (late, rc) {
        (true, _) => "Timeout exceeded",
        (false, 0) => "",
        (false, _) => "non-zero return code",
    };
    map.insert("msg".into(), json!(message));
    let result = Value::Object(map);
    Ok(if rc == 0 { Done::changed(String::new(), result) } else { call.failed(message, result) })
}

/// Removes what a command with async left; true where there was something.
async fn clean(call: &Call<'_>, place: &Place, jid: &str) -> Result<bool, Failure> {
    let Some(id) = id_of(jid) else { return Ok(false) };
    let jobs = jobs(call, place).await?;
    let there = jobs.state(&id).await?;
    if there == State::Absent {
        return Ok(false);
    }
    if !there.is_final() {
        jobs.cancel(&id, Duration::from_secs(5)).await?;
    }
    let digest = match jobs.log_sha256(&id).await? {
        (Some(digest), _) => digest,
        (None, _) => Sha256::of(b""),
    };
    jobs.clean(&id, digest).await?;
    let f = quote(&place.file(jid)).map_err(|_| nul(call))?;
    node::sh(call, &format!("f={f}\nrm -f -- \"$f\" \"$f.out\" \"$f.err\" \"$f.tmp\"\n")).await?;
    Ok(true)
}

/// `async_status`.
pub(super) async fn status(call: &Call<'_>) -> Result<Done, Failure> {
    let jid = call.text("jid").unwrap_or_default();
    let place = Place::find(call).await?;
    if call.text("mode") == Some("cleanup") {
        let there = clean(call, &place, jid).await?;
        let result = json!({"ansible_job_id": jid, "erased": place.file(jid), "started": false, "finished": false, "stdout": "", "stderr": "", "stdout_lines": [], "stderr_lines": []});
        return Ok(if there {
            Done::ok(String::new(), result)
        } else {
            call.failed("could not find job", json!({"ansible_job_id": jid, "started": true, "finished": true}))
        });
    }
    look(call, &place, jid).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_same_there_and_back() {
        for _ in 0..100 {
            let id = JobId::random();
            let jid = jid_of(&id);
            assert_eq!(id_of(&jid), Some(id), "{jid}");
        }
        for bad in ["", "j", "j1", "x1.2", "j1.2.3", "j-1.2", "../x", "j99999999999999999999999.1"] {
            assert_eq!(id_of(bad), None, "{bad}");
        }
    }
}
