//! Leaked staging folders: `<state>/planet/state/<6 hex>/backup`, in which a hook gathered everything, secrets in
//! clear, and which Gravity removes only when all went well.
//!
//! What lives here: which folders are there and whose they are ([`leaked`], pure, from one look at a node), and
//! removing one ([`remove_staging`]). What does not: asking a person (cli), the look itself (probe).
//!
//! A folder is removed only when nobody can be working in it, and each reason is asked again on the node right
//! before:
//! * No Kubernetes job whose volume is the folder, or whose name ends in its six digits, is active, and no hook job
//!   that does not say where it works. That kubectl does not answer counts as active. A job that ended
//!   stays ended.
//! * No `gravity backup` or `gravity restore` runs on that node: after the hook it packs the folder for an
//!   hour without a word, and the job is complete by then.
//! * Without a job that ended, nothing in it changed for ten minutes: a folder is made before its job.
//! * The path has exactly that form and no symbolic link below the state directory; nothing is mounted in it.
//!   Gravity's service user owns the folders above and could put a link there: the script steps into the
//!   parent first, compares where it stands, and removes by a name without a slash.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::probe::{NodeFacts, ProbeOptions};
use super::redact::{redact, strip_ansi};
use super::status::{KubeJob, is_hook_name};
use crate::failure::{Failure, Kind};
use crate::remote::{Exit, Session, quote};
use crate::secret::clean;

/// For so many seconds nothing may have changed in a folder that has no job.
pub const QUIET_SECONDS: i64 = 600;

/// How long removing may take: it may hold hundreds of gigabytes in millions of files.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

/// What Kubernetes says about the job that a folder belongs to.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum StagingJob {
    /// It runs, or will be tried again.
    Active,
    /// It ended well.
    Complete,
    /// It failed.
    Failed,
    /// There is none.
    None,
    /// kubectl did not answer.
    Unknown,
}

impl std::fmt::Display for StagingJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::None => "none",
            Self::Unknown => "unknown",
        })
    }
}

/// A staging folder on a node.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Leaked {
    /// The inventory's name of the host.
    pub host: String,
    /// Its path there.
    pub path: String,
    /// The six hexadecimal digits.
    pub id: String,
    /// Its size in KiB.
    pub kib: u64,
    /// Seconds since anything in it changed, by the node's clock; `None` when not known.
    pub age_seconds: Option<i64>,
    /// The Kubernetes job that works, or worked, in it.
    pub job: Option<String>,
    /// How that job is.
    pub state: StagingJob,
    /// Why it stays; `None` when it can be removed.
    pub kept: Option<String>,
    /// Gravity's state directory on that node.
    #[serde(skip)]
    state_dir: String,
}

fn six_hex(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The staging folders that a look at a node found, each with its job out of those that [`staging_jobs`] gave.
pub fn leaked(facts: &NodeFacts, jobs: Option<&[Value]>) -> Vec<Leaked> {
    let Some(gravity) = &facts.gravity else { return Vec::new() };
    let folders = gravity.staging.iter().filter_map(|folder| {
        let before = format!("{}/planet/state/", gravity.state_dir.trim_end_matches('/'));
        let id = folder.path.strip_prefix(&before)?.strip_suffix("/backup")?;
        if !six_hex(id) {
            return None;
        }
        let (job, state, kept) = owner(jobs, id);
        let age_seconds = (folder.mtime > 0).then(|| facts.epoch - folder.mtime);
        let kept = match state {
            StagingJob::None if kept.is_none() => match age_seconds {
                None => Some("when it last changed is not known".to_owned()),
                Some(age) if age < QUIET_SECONDS => Some("it changed within the last ten minutes".to_owned()),
                Some(_) => None,
            },
            _ => kept,
        };
        Some(Leaked {
            host: facts.host.clone(),
            path: folder.path.clone(),
            id: id.to_owned(),
            kib: folder.kib,
            age_seconds,
            job,
            state,
            kept,
            state_dir: gravity.state_dir.clone(),
        })
    });
    folders.collect()
}

/// Whose a folder is: the name of its job, how that is, and why the folder stays for the job's sake.
fn owner(jobs: Option<&[Value]>, id: &str) -> (Option<String>, StagingJob, Option<String>) {
    let Some(jobs) = jobs else {
        return (None, StagingJob::Unknown, Some("kubectl did not answer: its job may be active".to_owned()));
    };
    let mut ended = None;
    for item in jobs {
        let (job, text) = (KubeJob::from_value(item), item.to_string());
        // Gravity names the folder in a volume of the job; the digits of the job's own name are others.
        let ours = text.contains(&format!("/{id}/backup")) || job.name.ends_with(&format!("-{id}"));
        if ours && job.active {
            return (Some(job.name), StagingJob::Active, Some("its job is active".to_owned()));
        }
        if job.active && job.is_hook() && !names_a_folder(&text) {
            let why = "this hook job is active and does not say in which folder it works".to_owned();
            return (Some(job.name), StagingJob::Active, Some(why));
        }
        if ours {
            ended = Some((job.complete, job.name));
        }
    }
    match ended {
        Some((true, name)) => (Some(name), StagingJob::Complete, None),
        Some((false, name)) => (Some(name), StagingJob::Failed, None),
        None => (None, StagingJob::None, None),
    }
}

/// Whether a job's specification holds the path of a staging folder.
fn names_a_folder(text: &str) -> bool {
    text.match_indices("/backup").any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        before.rsplit_once('/').is_some_and(|(front, id)| six_hex(id) && front.ends_with("/state"))
    })
}

/// The jobs of `kube-system` as Kubernetes has them now; `None` when kubectl did not answer.
///
/// # Errors
/// As [`Session::run_root`].
pub async fn staging_jobs(session: &Session, options: &ProbeOptions) -> Result<Option<Vec<Value>>, Failure> {
    let script = format!(
        "K={}\n{WITHIN}\nwithin 15 \"$K\" -n kube-system get jobs -o json </dev/null\n",
        word(&options.kubectl)?
    );
    let said = session.run_root(&script, Duration::from_secs(40)).await?;
    if !said.exit.ok() || said.cut {
        return Ok(None);
    }
    let value: Value = serde_json::from_slice(&said.out).unwrap_or_default();
    Ok(value.get("items").and_then(Value::as_array).cloned())
}

/// Every word in these jobs that looks like the name of a hook's job: those were judged. A further
/// one is a job that began since.
fn judged(value: &Value, into: &mut BTreeSet<String>) {
    let mut take = |text: &str| {
        let form = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/');
        if text.len() > 6 && is_hook_name(text) && text.bytes().all(form) {
            into.insert(text.to_owned());
        }
    };
    match value {
        Value::String(text) => take(text),
        Value::Array(items) => items.iter().for_each(|item| judged(item, into)),
        Value::Object(map) => map.iter().for_each(|(key, item)| {
            judged(&Value::from(key.as_str()), into);
            judged(item, into);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What removing a folder came to.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum StagingRemoved {
    /// It is gone now.
    Removed,
    /// It was gone already.
    Gone,
}

/// Removes a staging folder, after all that could speak against it was asked again on the node.
///
/// # Errors
/// [`Kind::Refused`]: something speaks against it; nothing was removed. [`Kind::Failed`]: a part of it could not
/// be removed. [`Kind::Unknown`]: the connection was lost meanwhile; look again. Else as [`Session::run_root`].
pub async fn remove_staging(
    session: &Session,
    options: &ProbeOptions,
    folder: &Leaked,
) -> Result<StagingRemoved, Failure> {
    let refused =
        |why: &str| Failure::new(Kind::Refused, format!("{} is not removed: {why}", folder.path)).on(session.host());
    if let Some(why) = &folder.kept {
        return Err(refused(why));
    }
    let jobs = staging_jobs(session, options).await?;
    let (_, state, kept) = owner(jobs.as_deref(), &folder.id);
    if let Some(why) = kept {
        return Err(refused(&why));
    }
    let nonce = format!("ferry-{:032x}", rand::random::<u128>());
    let said = session.run_root(&script(options, folder, state, &jobs.unwrap_or_default(), &nonce)?, PATIENCE).await?;
    let text = String::from_utf8_lossy(&said.out).into_owned();
    let word = text.lines().rev().find_map(|line| line.strip_prefix(&nonce)?.strip_prefix(' ')).unwrap_or_default();
    Err(match word {
        "removed" => return Ok(StagingRemoved::Removed),
        "gone" => return Ok(StagingRemoved::Gone),
        "form" | "link" => refused("a symbolic link stands in its path, or it is no folder"),
        "mounted" => refused("something is mounted in it"),
        "young" => refused("it changed within the last ten minutes, or when it changed cannot be told"),
        "kubectl" => refused("kubectl did not answer: its job may be active"),
        "active" => refused("a hook job has appeared meanwhile"),
        "busy" => refused("a gravity backup or restore runs on this node and may be working in it"),
        "left" => Failure::new(Kind::Failed, format!("a part of {} could not be removed", folder.path))
            .on(session.host())
            .saw(clean(redact(&strip_ansi(&said.err_text())).as_bytes()))
            .mend("look at it there as root"),
        _ => Failure::new(Kind::Unknown, format!("whether {} was removed is not known", folder.path))
            .on(session.host())
            .saw(match &said.exit {
                Exit::Lost(why) => why.clone(),
                other => format!("{other}: {}", clean(redact(&strip_ansi(&said.err_text())).as_bytes())),
            })
            .mend("look again: ferry jobs clean --staging"),
    })
}

fn word(text: &str) -> Result<String, Failure> {
    quote(text).map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()).saw(format!("{text:?}")))
}

fn script(
    options: &ProbeOptions,
    folder: &Leaked,
    state: StagingJob,
    jobs: &[Value],
    nonce: &str,
) -> Result<String, Failure> {
    let mut known = BTreeSet::new();
    jobs.iter().for_each(|job| judged(job, &mut known));
    let over = if matches!(state, StagingJob::Complete | StagingJob::Failed) { "1" } else { "" };
    Ok(format!(
        "N={}\nK={}\nS={}\nI={}\nE={over}\nF={}\nL={QUIET_SECONDS}\nR=/proc\n{WITHIN}\n{BODY}",
        word(nonce)?,
        word(&options.kubectl)?,
        word(&folder.state_dir)?,
        word(&folder.id)?,
        word(&known.into_iter().collect::<Vec<_>>().join(" "))?,
    ))
}

/// A time limit where the host has one.
const WITHIN: &str = r#"
if timeout -k 1 5 true >/dev/null 2>&1; then within() { limit=$1; shift; timeout -k 5 "$limit" "$@"; }
elif timeout 5 true >/dev/null 2>&1; then within() { limit=$1; shift; timeout "$limit" "$@"; }
else within() { shift; "$@"; }
fi
"#;

/// POSIX sh, run by dash, bash and busybox. One word behind the nonce says how it came out.
const BODY: &str = r#"
say() { printf '\n%s %s\n' "$N" "$1"; exit 0; }
nl='
'
case $I in [0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]) ;; *) say form ;; esac
case $S in /*) ;; *) say form ;; esac
p=$(cd -P "$S" 2>/dev/null && pwd -P) || say gone
p=${p%/}/planet/state/$I
cd -P "$S/planet/state/$I" 2>/dev/null || say gone
[ "$(pwd -P)" = "$p" ] || say link
[ -L backup ] && say link
[ -e backup ] || say gone
[ -d backup ] || say form
if [ -r "$R/self/mountinfo" ]; then
  while read -r _ _ _ _ m _; do
    case $m in "$p/backup" | "$p/backup/"*) say mounted ;; esac
  done <"$R/self/mountinfo"
fi
if [ -z "$E" ]; then
  # The change of an inode counts as well: a time of a file can be set, that one not.
  t=$({ within 300 find backup -exec stat -c '%Y %Z' {} + 2>/dev/null || echo 99999999999; } | tr ' ' '\n' | sort -n | tail -n 1)
  n=$(date +%s)
  case $t in '' | *[!0-9]*) say young ;; esac
  case $n in '' | *[!0-9]*) say young ;; esac
  [ "$((n - t))" -ge "$L" ] || say young
fi
j=$(within 15 "$K" -n kube-system get jobs -o json </dev/null 2>/dev/null) || say kubectl
case $j in *'"items"'*) ;; *) say kubectl ;; esac
# Who shares our root directory and was called gravity … backup: its root tells it from what runs in containers.
r=$(stat -L -c %d:%i / 2>/dev/null)
for c in $(grep -l gravity "$R"/[0-9]*/cmdline 2>/dev/null); do
  w=$nl$(tr '\000' '\n' <"$c" 2>/dev/null)$nl
  case $w in *"/gravity$nl"* | *"${nl}gravity$nl"*) ;; *) continue ;; esac
  case $w in *"${nl}backup$nl"* | *"${nl}restore$nl"*) ;; *) continue ;; esac
  # A process whose root cannot be told may be anybody's; one that is gone is nobody's.
  q=$(stat -L -c %d:%i "${c%/cmdline}/root" 2>/dev/null) || q=
  [ -e "$c" ] || continue
  [ -z "$q" ] || [ "$q" = "$r" ] && say busy
done
set -f
if [ -z "$E" ]; then case $j in *"/$I/backup"*) say active ;; esac; fi
for n in $(printf '%s' "$j" | tr ',{}: ' '\n\n\n\n\n' | sed -n 's/^"\(.*-[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]\)"$/\1/p' | sort -u); do
  case " $F " in *" $n "*) ;; *) say active ;; esac
done
rm -rf backup
[ -e backup ] || [ -L backup ] && say left
say removed
"#;

#[cfg(test)]
#[path = "staging_tests.rs"]
mod tests;
