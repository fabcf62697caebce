//! Telling others how a run went: `[hooks]` of ferry.toml. A healthchecks-style ping, a webhook, a textfile for
//! Prometheus' node exporter, commands, files with tasks (`hook_tasks`).
//!
//! A hook that fails is told and changes nothing: no backup fails because somebody could not be told of it. What is sent
//! is what the journal holds, which was masked on its way in. Addresses are secrets as well (whoever has one can say that
//! all is well): they go to curl over its standard input, never into its arguments.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::catalog::{ArchiveKind, Catalog, Entry, Verdict};
use crate::event::{Event, Events};
use crate::report::Sink;
use crate::report::journal;
use crate::secret::{Masker, clean};
use crate::settings::{Address, Hook, Hooks};
use crate::template::{Scope, Templater};

/// How long a hook may take.
const LIMIT: Duration = Duration::from_secs(45);
/// How many lines of a summary are sent.
const LINES: usize = 60;

/// Who is told about one run.
pub(super) struct Notifier {
    pub(super) hooks: Hooks,
    pub(super) masker: Masker,
    pub(super) run: String,
    pub(super) dir: PathBuf,
    pub(super) title: String,
    pub(super) cluster: String,
    pub(super) catalog: Option<PathBuf>,
    /// Carries out files with tasks.
    pub(super) tasks: super::hook_tasks::HookTasks,
}

/// Text for a quoted value of curl's own configuration.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Runs a program of this machine with this input; what went wrong, in a sentence.
async fn run(words: &[String], input: &str, env: &[(&str, String)], hide: &[String]) -> Result<(), String> {
    let Some((program, rest)) = words.split_first() else { return Err("the command is empty".to_owned()) };
    let work = async {
        let mut command = tokio::process::Command::new(program);
        for name in hide {
            command.env_remove(name);
        }
        let mut child = command
            .args(rest)
            .envs(env.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command need not read what it is told.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let ended = child.wait_with_output().await.map_err(|error| format!("{program}: {error}"))?;
        if ended.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        Err(format!("{program}: {}; {}", ended.status, clean(last.as_bytes())))
    };
    tokio::time::timeout(LIMIT, work)
        .await
        .unwrap_or_else(|_| Err(format!("{program}: no end within {} s", LIMIT.as_secs())))
}

/// One request, by the curl of this machine: to `address` with `more` behind it.
async fn send(address: &Address, more: &str, body: &str, kind: &str) -> Result<(), String> {
    let url = address.read()?;
    let url = if more.is_empty() { url } else { format!("{}{more}", url.trim_end_matches('/')) };
    post(&url, body, kind).await
}

/// As [`send`], to the address itself.
async fn post(url: &str, body: &str, kind: &str) -> Result<(), String> {
    let config = format!(
        "url = {}\nsilent\nshow-error\nfail\nmax-time = 20\nretry = 2\nretry-delay = 1\noutput = \"/dev/null\"\nheader = {}\ndata-raw = {}\n",
        quoted(url),
        quoted(&format!("Content-Type: {kind}")),
        quoted(body)
    );
    let words: Vec<String> = ["curl", "-q", "-K", "-"].map(str::to_owned).to_vec();
    // curl names the address in some of its errors.
    run(&words, &config, &[], &[]).await.map_err(|what| what.replace(url, "(the address)"))
}

/// A label's value as Prometheus reads it.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The newest verified archive of each kind of every cluster, for Prometheus.
fn metrics(root: &Path) -> Result<String, String> {
    let catalog = Catalog::open_read(root).map_err(|failure| failure.to_string())?;
    let entries = catalog.list(None).map_err(|failure| failure.to_string())?;
    let mut out = String::new();
    let mut rows: [(&str, &str, String); 5] = [
        ("point_started_timestamp_seconds", "When the newest verified archive was begun", String::new()),
        ("point_bytes", "Its size", String::new()),
        ("point_backup_seconds", "How long the tool on the node worked", String::new()),
        ("points_verified", "How many verified archives there are", String::new()),
        ("points_not_verified", "How many suspect or damaged archives there are", String::new()),
    ];
    for cluster in catalog.clusters().map_err(|failure| failure.to_string())? {
        for kind in [ArchiveKind::Gravity, ArchiveKind::Amv, ArchiveKind::Nfs] {
            let all = entries.iter().filter_map(|entry| match entry {
                Entry::Sealed(point) if point.cluster == cluster => {
                    point.manifest.archive(kind).map(|archive| (point, archive))
                }
                _ => None,
            });
            let (good, bad): (Vec<_>, Vec<_>) =
                all.partition(|(point, archive)| point.verdict_of(archive) == Verdict::Verified);
            if good.is_empty() && bad.is_empty() {
                continue;
            }
            let labels = format!("{{cluster=\"{}\",kind=\"{kind}\"}}", label(cluster.as_str()));
            let mut put = |at: usize, value: String| {
                if let Some((name, _, lines)) = rows.get_mut(at) {
                    lines.push_str(&format!("ferry_{name}{labels} {value}\n"));
                }
            };
            if let Some((point, archive)) = good.iter().max_by_key(|(point, _)| point.manifest.started) {
                put(0, point.manifest.started.as_second().to_string());
                put(1, archive.bytes.to_string());
                if let (ArchiveKind::Gravity, Some(seconds)) = (kind, point.manifest.durations.backup_seconds) {
                    put(2, seconds.to_string());
                }
            }
            put(3, good.len().to_string());
            put(4, bad.len().to_string());
        }
    }
    for (name, help, lines) in rows.iter().filter(|(.., lines)| !lines.is_empty()) {
        out.push_str(&format!("# HELP ferry_{name} {help}.\n# TYPE ferry_{name} gauge\n{lines}"));
    }
    Ok(out)
}

/// Puts the text there in one piece: who scrapes it never reads half of it.
fn put_textfile(path: &Path, text: &str) -> Result<(), String> {
    use std::io::Write as _;
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&part).map_err(told)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written.map_err(told)
}

impl Notifier {
    fn env(&self, exit: Option<u8>) -> Vec<(&'static str, String)> {
        let mut env = vec![("FERRY_HOOK_RUN", self.run.clone()), ("FERRY_HOOK_CLUSTER", self.cluster.clone())];
        env.extend(exit.map(|exit| ("FERRY_HOOK_EXIT", exit.to_string())));
        env
    }

    /// Tells that the run begins.
    pub(super) async fn began(&self, events: &Events) {
        let mut failed = Vec::new();
        if let Some(address) = &self.hooks.ping {
            failed.extend(send(address, "/start", "", "text/plain").await.err().map(|what| ("ping", what)));
        }
        if let Some(hook) = &self.hooks.before {
            let told = json!({"run": self.run, "title": self.title, "cluster": self.cluster});
            failed.extend(self.carry_out("before", hook, &told, None).await.err().map(|what| ("before", what)));
        }
        for (hook, what) in failed {
            events.warn(None, format!("hooks.{hook} failed, and the run goes on: {what}"));
        }
    }

    /// One hook, whatever it is.
    async fn carry_out(&self, name: &str, hook: &Hook, told: &Value, exit: Option<u8>) -> Result<(), String> {
        match hook {
            Hook::Command(words) => run(words, &format!("{told}\n"), &self.env(exit), &self.hooks.secret_names()).await,
            Hook::Tasks(path) => self.tasks.carry_out(name, path, told, &self.dir).await,
        }
    }

    /// What there is to tell of a run that has ended: out of its journal, which holds no secret.
    fn told(&self, exit: u8, seconds: f64) -> Value {
        let contents = journal::read(&self.dir.join(journal::FILE)).map(|contents| contents.events).unwrap_or_default();
        let (mut summary, mut failures) = (Vec::new(), Vec::new());
        for stamped in contents {
            match stamped.event {
                Event::Summary { lines, .. } => {
                    summary.extend(lines.into_iter().map(|line| format!("{}: {}", line.word, line.text)))
                }
                Event::Failed { failure } => failures.push(failure.to_string()),
                Event::Sealed { cluster, point, verdict, complete, .. } => {
                    summary.push(format!(
                        "sealed: {cluster}/{point} {verdict}{}",
                        if complete { "" } else { ", not complete" }
                    ));
                }
                _ => {}
            }
        }
        summary.truncate(LINES);
        failures.truncate(LINES);
        json!({"run": self.run, "title": self.title, "cluster": self.cluster, "exit": exit, "ok": exit == 0,
               "seconds": seconds, "summary": summary, "failures": failures})
    }

    /// Tells how the run ended.
    pub(super) async fn ended(&self, exit: u8, seconds: f64) {
        let told = self.told(exit, seconds);
        let masked = |text: String| self.masker.mask(&text).into_owned();
        let mut failed: Vec<(&str, String)> = Vec::new();
        if let Some(address) = &self.hooks.ping {
            let more = if exit == 0 { "" } else { "/fail" };
            let lines = |name: &str| {
                told.get(name)
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            let body = format!("{}, exit code {exit}\n{}\n{}\n", self.title, lines("failures"), lines("summary"));
            failed.extend(send(address, more, &masked(body), "text/plain").await.err().map(|what| ("ping", what)));
        }
        if let Some(address) = &self.hooks.webhook {
            let body = match &self.hooks.webhook_body {
                None => Ok(told.to_string()),
                Some(template) => {
                    let mut scope = Scope::new();
                    for (name, value) in told.as_object().into_iter().flatten() {
                        scope.data(name, value);
                    }
                    Templater::new().render(template, None, &scope).map_err(|failure| failure.to_string()).map(
                        |value| match value {
                            Value::String(text) => text,
                            other => other.to_string(),
                        },
                    )
                }
            };
            let sent = match body {
                Ok(body) => send(address, "", &masked(body), "application/json").await,
                Err(what) => Err(what),
            };
            failed.extend(sent.err().map(|what| ("webhook", what)));
        }
        if let Some(path) = &self.hooks.textfile {
            let made = match &self.catalog {
                Some(root) => metrics(root),
                None => Ok(String::new()),
            };
            let made = made.and_then(|mut text| {
                let labels = format!("{{cluster=\"{}\"}}", label(&self.cluster));
                text.push_str(&format!("# HELP ferry_run_exit_code How the last run ended.\n# TYPE ferry_run_exit_code gauge\nferry_run_exit_code{labels} {exit}\n"));
                text.push_str(&format!("# HELP ferry_run_ended_timestamp_seconds When it ended.\n# TYPE ferry_run_ended_timestamp_seconds gauge\nferry_run_ended_timestamp_seconds{labels} {}\n", jiff::Timestamp::now().as_second()));
                put_textfile(path, &text)
            });
            failed.extend(made.err().map(|what| ("textfile", what)));
        }
        for (name, hook, wanted) in
            [("after", &self.hooks.after, exit == 0), ("on_error", &self.hooks.on_error, exit != 0)]
        {
            if let Some(hook) = hook.as_ref().filter(|_| wanted) {
                failed.extend(self.carry_out(name, hook, &told, Some(exit)).await.err().map(|what| (name, what)));
            }
        }
        for (hook, what) in failed {
            let text = format!("warning: hooks.{hook} failed, which changes nothing of the run: {what}\n");
            Sink::stderr().put(&self.masker.mask(&text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_curl_is_quoted_as_its_configuration_wants() {
        assert_eq!(quoted("a\"b\\c\nd\te"), "\"a\\\"b\\\\c\\nd\\te\"");
        assert_eq!(label("a\"b\\c"), "a\\\"b\\\\c");
    }
}
