//! What is left to read on a node: the journal of Gravity's commands and the fate of a hook's job.
//!
//! What lives here: asking `journalctl` and `kubectl` for them, bounded and redacted. What does
//! not: the follow stream of a running backup (job) and where the texts are kept (run, catalog).

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::probe::ProbeOptions;
use super::redact::{redact, strip_ansi};
use super::status::KubeJob;
use crate::failure::{Failure, Kind};
use crate::remote::{Exit, Session, quote};

/// How much of the journal is brought home at most, in bytes: its end.
const MOST: usize = 1 << 20;

/// The lines of Gravity's commands (`journalctl -t gravity-cli`) since `since_epoch` (seconds since
/// 1970, the host's clock), colours and secrets out; at most the last MiB. Gravity 5.2 and 5.5.38
/// write none, and a host may have no journal: then the text says so.
///
/// # Errors
/// As [`Session::run_root`].
pub async fn gather_logs(session: &Session, _options: &ProbeOptions, since_epoch: i64) -> Result<String, Failure> {
    let script = format!(
        "if ! command -v journalctl >/dev/null 2>&1; then printf 'there is no journalctl on this host\\n'; exit 0; fi\n\
         w() {{ if timeout 5 true >/dev/null 2>&1; then timeout 45 \"$@\"; else \"$@\"; fi; }}\n\
         w journalctl -t gravity-cli --no-pager --since=@{since} 2>&1 </dev/null | tail -c {MOST}\n",
        since = since_epoch.max(0),
    );
    let said = session.run_root(&script, Duration::from_secs(60)).await?;
    Ok(redact(&strip_ansi(&String::from_utf8_lossy(&said.out))))
}

/// What became of a hook's job in Kubernetes.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum HookState {
    /// It is neither complete nor failed.
    Running,
    /// It ended well. The backup's archive may still be missing: the command writes it afterwards.
    Complete,
    /// It failed, with Kubernetes' reason.
    Failed(String),
    /// There is no such job: never made, or deleted after a success.
    Absent,
    /// kubectl did not answer; its own words.
    Unknown(String),
}

/// Asks Kubernetes for the job `name` of the namespace `kube-system`.
///
/// # Errors
/// As [`Session::run_root`]; [`Kind::Bug`] when `name` cannot be a job's name.
pub async fn hook_job_state(session: &Session, options: &ProbeOptions, name: &str) -> Result<HookState, Failure> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if name.is_empty() || name.len() > 253 || name.starts_with('-') || !name.chars().all(fits) {
        return Err(Failure::new(Kind::Bug, "not a Kubernetes job's name").saw(format!("{name:?}")));
    }
    let kubectl = quote(&options.kubectl)
        .map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()).saw(format!("{:?}", options.kubectl)))?;
    let script = format!(
        "w() {{ if timeout 5 true >/dev/null 2>&1; then timeout 20 \"$@\"; else \"$@\"; fi; }}\n\
         w {kubectl} -n kube-system get job {name} -o json </dev/null\n"
    );
    let said = session.run_root(&script, Duration::from_secs(40)).await?;
    Ok(match (&said.exit, serde_json::from_slice::<Value>(&said.out)) {
        (Exit::Code(0), Ok(item)) => match KubeJob::from_value(&item) {
            KubeJob { failed: Some(reason), .. } => HookState::Failed(reason),
            KubeJob { complete: true, .. } => HookState::Complete,
            _ => HookState::Running,
        },
        (exit, _) => {
            let err = redact(&strip_ansi(&said.err_text()));
            // The only wording that kubectl has had for it since 1.9.
            if err.contains("(NotFound)") || err.contains(&format!("\"{name}\" not found")) {
                HookState::Absent
            } else if err.is_empty() {
                HookState::Unknown(exit.to_string())
            } else {
                HookState::Unknown(err)
            }
        }
    })
}
