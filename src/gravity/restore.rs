//! Running `gravity restore`, and what its end means.
//!
//! What lives here: the script that the detached job runs, the limit it gives to Gravity, the telling
//! apart of every way in which the command ends, and the evidence that is gathered when its end is not
//! known. What does not: keeping the script alive (job), whether it may run at all (gates).
//!
//! A restore destroys what the target has and cannot be repeated by itself. So every word here leans to
//! *unknown*: that nothing was changed is only said where it is certain.

use std::time::Duration;

use serde::Serialize;

use super::backup::{BackupOutcome, OWN_FAILURE, error_text, go_duration, hook_job_name};
use super::probe::{ProbeOptions, look, sections};
use super::redact::{redact, strip_ansi};
use super::status::{KubeJob, parse_jobs};
use super::target::Look;
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::remote::Session;
use crate::remote::command::{Nul, quote};
use crate::secret::clean;

/// The script found another digest or size than the point's: it ends with this code, and gravity never ran.
pub const REFUSED_DIGEST: i32 = 114;

/// A restore to run on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreJob {
    /// The gravity command.
    pub gravity: String,
    /// The kubectl command: after a failure the log gets the list of hook jobs.
    pub kubectl: String,
    /// Absolute path of the archive on the node, in a directory that root alone can read.
    pub archive: String,
    /// The digest that it must have.
    pub sha256: Sha256,
    /// The size that it must have, in bytes.
    pub bytes: u64,
    /// How long Kubernetes lets the hook run (`--timeout`); unpacking comes on top.
    pub timeout: Duration,
    /// A word that nobody can guess, new for each job ([`RestoreJob::marker`]): lines of the log that begin with it
    /// are the script's own. Whoever takes the job over needs it to read its log.
    pub marker: String,
}

impl RestoreJob {
    /// A new marker.
    pub fn marker() -> String {
        format!("ferry-restore-{:032x}", rand::random::<u128>())
    }
}

/// The script for `sh`, run as root, that restores: looks at the archive's directory, reads the archive once more and compares size
/// and digest, and then runs `gravity restore` exactly once and ends with its code. Nothing stands between the
/// comparison and the restore. Standard output and standard error are both the log.
///
/// Lines of its own begin with the marker: `MARKER not-run own` or `MARKER not-run digest` when gravity was never started
/// (codes [`OWN_FAILURE`], [`REFUSED_DIGEST`]), `MARKER begin EPOCH` right before it, `MARKER rc CODE SECONDS` after it; around
/// them `MARKER jobs-before NAME…` and, after a failure, `MARKER jobs-after NAME…`, or `?` where kubectl did not answer.
///
/// # Errors
/// A path holds a NUL, which no command line can carry.
pub fn restore_script(job: &RestoreJob) -> Result<String, Nul> {
    Ok(format!(
        "marker={}\ngravity={}\nkubectl={}\nfile={}\nsize={}\ndigest={}\nlimit={}\n{BODY}",
        quote(&job.marker)?,
        quote(&job.gravity)?,
        quote(&job.kubectl)?,
        quote(&job.archive)?,
        job.bytes,
        job.sha256,
        quote(&go_duration(job.timeout))?,
    ))
}

/// The umask is the usual one while gravity runs: the hook's pods read what it unpacks.
const BODY: &str = r#"
umask 022
LC_ALL=C; export LC_ALL
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${PATH:-}; export PATH
: "${HOME:=/root}"; export HOME
die() { printf 'ferry: %s\n\n%s not-run own\n' "$1" "$marker"; exit 113; }
other() { printf 'ferry: %s\n\n%s not-run digest\n' "$1" "$marker"; exit 114; }
me=$(id -u)

case $file in /?*) ;; *) die "the archive's path is not absolute: $file" ;; esac
case $file in */../*|*/./*|*//*|*/..|*/.|*/) die "the archive's path is not plain: $file" ;; esac
command -v "$gravity" >/dev/null 2>&1 || die "$gravity is not there or cannot be run"

# Nobody but root may change the archive between the comparison and the restore.
folder=${file%/*}
[ -n "$folder" ] || die "the archive lies in /, not in a directory of its own"
[ -L "$folder" ] && die "$folder is a symbolic link"
[ -d "$folder" ] || die "$folder is not there"
line=$(ls -ldn "$folder" 2>/dev/null) || die "$folder cannot be looked at"
mode=${line%% *}
owner=$(printf '%s\n' "$line" | awk '{ print $3 }')
[ "$owner" = "$me" ] || die "$folder belongs to user $owner, not to user $me"
case $mode in
  d???------|d???------.) ;;
  *) die "$folder is open to others ($mode); mend it with: chmod 700 $folder" ;;
esac
[ -L "$file" ] && die "$file is a symbolic link"
[ -e "$file" ] || die "$file is not there"
[ -f "$file" ] || die "$file is not a regular file"
line=$(ls -ldn "$file" 2>/dev/null) || die "$file cannot be looked at"
owner=$(printf '%s\n' "$line" | awk '{ print $3 }')
[ "$owner" = "$me" ] || die "$file belongs to user $owner, not to user $me"

seen=$(stat -c %s "$file" 2>/dev/null) || seen=$(wc -c <"$file") || die "$file cannot be read"
seen=$((seen + 0))
[ "$seen" -eq "$size" ] || other "the archive on the node has $seen bytes, the point's has $size"
printf 'ferry: reading the archive once more (%s bytes)\n' "$size"
if command -v sha256sum >/dev/null 2>&1; then
  seen=$(sha256sum <"$file") || die "$file cannot be read"
  seen=${seen%% *}
elif command -v openssl >/dev/null 2>&1; then
  seen=$(openssl dgst -sha256 <"$file") || die "$file cannot be read"
  seen=${seen##* }
elif command -v shasum >/dev/null 2>&1; then
  seen=$(shasum -a 256 <"$file") || die "$file cannot be read"
  seen=${seen%% *}
else
  die "there is neither sha256sum nor openssl nor shasum on this node, so the archive cannot be compared"
fi
[ "$seen" = "$digest" ] || other "the archive on the node is $seen, the point's is $digest"

# Which jobs there are before and after: what proves that none was begun.
jobs() {
  j='?'
  if timeout 5 true >/dev/null 2>&1; then
    j=$(timeout 20 "$kubectl" -n kube-system get jobs </dev/null 2>/dev/null) || j='?'
    [ "$j" = '?' ] || j=$(printf '%s\n' "$j" | awk 'NR > 1 && NF { print $1 }' | tr '\n' ' ')
  fi
  printf '\n%s jobs-%s %s\n' "$marker" "$1" "$j"
}
jobs before
printf '+ %s restore --follow --timeout=%s %s\n' "$gravity" "$limit" "$file"
start=$(date +%s)
printf '\n%s begin %s\n' "$marker" "$start"
"$gravity" restore --follow "--timeout=$limit" "$file" </dev/null
rc=$?
# Gravity 7 and 8 end their error with a blank and no line end.
printf '\n%s rc %s %s\n' "$marker" "$rc" "$(($(date +%s) - start))"
if [ "$rc" -ne 0 ]; then
  jobs after
  printf 'ferry: gravity ended with code %s; jobs of kube-system after it:\n' "$rc"
  if timeout 5 true >/dev/null 2>&1; then
    timeout 20 "$kubectl" -n kube-system get jobs </dev/null 2>&1 | tail -n 20
  fi
fi
exit "$rc"
"#;

/// How a run of the restore script ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreOutcome {
    /// Gravity ended with 0. Whether the cluster is well again, the settling says.
    Restored,
    /// The archive on the node was not the point's. Gravity never ran.
    RefusedDigest(String),
    /// The script refused before it started gravity; its words. Gravity never ran.
    NotRun(String),
    /// Gravity ended before it started the hook; its words. Nothing was changed but the unpacked copy.
    FailedBeforeHook(String),
    /// The hook failed until Kubernetes gave up: the target is partly restored.
    HookFailed(String),
    /// Kubernetes stopped the hook at its deadline: the target is partly restored.
    DeadlineExceeded(String),
    /// Gravity lost the cluster's controller; the hook may run on.
    ConnectionLostHookMayRun(String),
    /// Anything else; what was seen.
    Unknown(String),
}

impl RestoreOutcome {
    /// Tells how it ended. `rc` is the job's code, `log` the end of the job's log (64 KiB are enough), `marker` the job's.
    pub fn of(rc: i32, log: &[u8], marker: &str) -> Self {
        let text = strip_ansi(&String::from_utf8_lossy(log));
        let said = Said::read(&text, marker);
        match (&said.not_run, said.began, said.ended) {
            (Some(how), false, None) if how == "digest" && rc == REFUSED_DIGEST => {
                Self::RefusedDigest(own_words(&text))
            }
            (Some(how), false, None) if how == "own" && rc == OWN_FAILURE => Self::NotRun(own_words(&text)),
            (None, _, Some((code, _))) if code != rc => {
                Self::Unknown(format!("gravity ended with code {code}, but the job with {rc}"))
            }
            (None, _, Some((0, _))) => Self::Restored,
            (None, began, Some((code, seconds))) => {
                Self::of_code(code, seconds, began, said.no_job_began(), &said.gravity)
            }
            (None, true, None) => Self::Unknown(format!("the job ended with code {rc} while gravity ran")),
            _ => {
                Self::Unknown(format!("the job ended with code {rc}, and its log does not say what became of gravity"))
            }
        }
    }

    /// Gravity ended with this code after `seconds`. `whole` is true when all that it said is in `said`, `no_job` when
    /// Kubernetes had no other jobs after it than before.
    fn of_code(code: i32, seconds: u64, whole: bool, no_job: bool, said: &str) -> Self {
        let error = error_text(said.as_bytes());
        let words = error.clone().unwrap_or_else(|| format!("exit code {code}, and no error line"));
        // What proves that the hook had not begun: all of the output is here, and the follow stream had not.
        let before_hook = whole && !hook_seen(said);
        if (129..=192).contains(&code) {
            return Self::Unknown(format!("gravity was killed by signal {}", code - 128));
        }
        if matches!(code, 126 | 127) && error.is_none() {
            return if before_hook {
                Self::NotRun(format!("the shell could not run gravity (exit code {code})"))
            } else {
                Self::Unknown(words)
            };
        }
        let low = words.to_lowercase();
        let network = low.contains("://") || low.contains(":3009") || low.contains("gravity-site.");
        match BackupOutcome::of(code, said.as_bytes(), None, 0) {
            BackupOutcome::Deadline => Self::DeadlineExceeded(words),
            BackupOutcome::HookFailed => Self::HookFailed(words),
            BackupOutcome::NotRoot
            | BackupOutcome::NoCredentials
            | BackupOutcome::NotANode
            | BackupOutcome::NoHook
            | BackupOutcome::InputMissing
            | BackupOutcome::OutputPath
            | BackupOutcome::DiskFull
            | BackupOutcome::Usage
                if before_hook =>
            {
                Self::FailedBeforeHook(words)
            }
            // The database is opened first of all; later a second wait of half a minute could be a step in the middle.
            BackupOutcome::DatabaseLocked if before_hook && seconds < AT_ONCE => Self::FailedBeforeHook(words),
            // The same words are those of a connection that broke.
            BackupOutcome::InputDamaged if before_hook && !network => Self::FailedBeforeHook(words),
            BackupOutcome::InputDamaged | BackupOutcome::ControllerDown => {
                // The words are the same whether the controller was never reached or went away in the middle of
                // a hook. How long it took proves nothing; that no job came into being does.
                let never_reached =
                    ["no such host", "connection refused", "no route to host", "network is unreachable"]
                        .iter()
                        .any(|no| low.contains(no));
                if before_hook && never_reached && no_job {
                    Self::FailedBeforeHook(words)
                } else {
                    Self::ConnectionLostHookMayRun(words)
                }
            }
            _ if network
                || ["eof", "connection", "broken pipe", "timeout", "timed out", "unavailable", "bad gateway"]
                    .iter()
                    .any(|sign| low.contains(sign)) =>
            {
                Self::ConnectionLostHookMayRun(words)
            }
            _ => Self::Unknown(words),
        }
    }

    /// True when it is certain that gravity was never started.
    pub fn never_ran(&self) -> bool {
        matches!(self, Self::RefusedDigest(_) | Self::NotRun(_))
    }

    /// True when a hook may still run in the cluster.
    pub fn hook_may_run(&self) -> bool {
        matches!(self, Self::ConnectionLostHookMayRun(_) | Self::Unknown(_))
    }

    /// What went wrong, for people; `None` when it was restored. [`Kind::Refused`] for a wrong digest, [`Kind::Failed`]
    /// where the end is certain, else [`Kind::Unknown`] with the checks to make. `log` names the hook's job.
    pub fn failure(&self, log: &[u8]) -> Option<Failure> {
        let hook = hook_job_name(log);
        let look = match &hook {
            Some(job) => format!(
                "kubectl -n kube-system describe job {job}; kubectl -n kube-system logs job/{job} --all-containers"
            ),
            None => "kubectl -n kube-system get jobs; kubectl -n kube-system get pods".to_owned(),
        };
        const PARTLY: &str = "the hook had begun to overwrite the target: it is partly restored, and neither the old state nor the new one";
        let again =
            "mend the cause, then restore the whole point once more; or restore the safety backup of the target";
        Some(match self {
            Self::Restored => return None,
            Self::RefusedDigest(words) => Failure::new(Kind::Refused, "the archive on the node is not the point's")
                .saw(words.clone())
                .why("it was compared right before the restore; gravity was not started, and the target is as it was")
                .mend("ferry jobs clean; start the restore again, so that the archive is brought to the node anew")
                .within("gate digest"),
            Self::NotRun(words) => Failure::new(Kind::Failed, "the restore job stopped before it ran gravity")
                .saw(words.clone())
                .why("gravity was not started, and the target is as it was")
                .mend("mend what it names on the node, and start the restore again"),
            Self::FailedBeforeHook(words) => {
                Failure::new(Kind::Failed, "gravity restore failed before its hook began")
                    .saw(format!("[ERROR]: {words}"))
                    .why("the target's data is as it was; what was unpacked may be left in planet/state below Gravity's state directory")
                    .mend(format!("mend the cause; make sure that no hook runs: {LOOK_JOBS}; start the restore again"))
            }
            Self::HookFailed(words) => {
                Failure::new(Kind::Failed, "the restore hook failed until Kubernetes gave up")
                    .saw(format!("[ERROR]: {words}"))
                    .why(PARTLY)
                    .mend(format!("look at the hook: {look}; {again}"))
            }
            Self::DeadlineExceeded(words) => {
                Failure::new(Kind::Failed, "Kubernetes stopped the restore hook at its deadline (--timeout)")
                    .saw(format!("[ERROR]: {words}"))
                    .why(PARTLY)
                    .mend(format!("set pce_restore_timeout higher (Go's form, such as 240m); look at the hook: {look}; {again}"))
            }
            Self::ConnectionLostHookMayRun(words) => Failure::new(
                Kind::Unknown,
                "gravity lost the cluster's controller; whether the restore goes on in the cluster is not known",
            )
            .saw(format!("[ERROR]: {words}"))
            .why("the hook is a Kubernetes job of its own: it goes on without gravity, and a second restore would run into it")
            .mend(format!("look before anything else: {look}; {}", CHECKS.join("; "))),
            Self::Unknown(words) => Failure::new(Kind::Unknown, "how the restore ended is not known")
                .saw(words.clone())
                .why("its hook may still run in the cluster; a restore is never repeated by itself")
                .mend(format!("look before anything else: {look}; {}", CHECKS.join("; "))),
        })
    }
}

/// An end sooner than this many seconds came before Gravity's own repeated attempts could have been over.
const AT_ONCE: u64 = 60;

const LOOK_JOBS: &str = "kubectl -n kube-system get jobs";

/// Where the end of a restore can be looked up.
pub const CHECKS: [&str; 3] = [LOOK_JOBS, "journalctl -t gravity-cli --no-pager", "sudo gravity status"];

/// What the script's own lines in a log say.
struct Said {
    not_run: Option<String>,
    began: bool,
    /// Gravity's code, and after how many seconds.
    ended: Option<(i32, u64)>,
    /// Kubernetes' jobs before and after; `None` when they were not told.
    before: Option<Vec<String>>,
    after: Option<Vec<String>>,
    /// What gravity said, as far as the log has it.
    gravity: String,
}

impl Said {
    fn read(text: &str, marker: &str) -> Self {
        let mut said =
            Self { not_run: None, began: false, ended: None, before: None, after: None, gravity: String::new() };
        for line in text.lines() {
            let own = if marker.is_empty() {
                None
            } else {
                line.strip_prefix(marker).and_then(|rest| rest.strip_prefix(' '))
            };
            match own.map(|own| own.split(' ').collect::<Vec<_>>()).as_deref() {
                Some(["not-run", how]) => said.not_run = Some((*how).to_owned()),
                Some(["begin", _]) => {
                    said.began = true;
                    said.gravity.clear();
                }
                Some(["rc", code, seconds]) => {
                    // Unreadable figures are no end that could be told.
                    said.ended = code.parse().ok().zip(seconds.parse::<i64>().ok()).map(|(code, seconds)| {
                        // A clock that was set back in between says nothing of how long it took.
                        (code, u64::try_from(seconds).unwrap_or(u64::MAX))
                    });
                }
                Some(["jobs-before", names @ ..]) => said.before = names_of(names),
                Some(["jobs-after", names @ ..]) => said.after = names_of(names),
                _ if said.ended.is_none() => {
                    said.gravity.push_str(line);
                    said.gravity.push('\n');
                }
                _ => {}
            }
        }
        said
    }

    /// Kubernetes answered before and after, and no job is new.
    fn no_job_began(&self) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => after.iter().all(|name| before.contains(name)),
            _ => false,
        }
    }
}

/// Names of jobs; `None` when kubectl did not answer.
fn names_of(words: &[&str]) -> Option<Vec<String>> {
    let names: Vec<String> = words.iter().filter(|word| !word.is_empty()).map(|word| (*word).to_owned()).collect();
    (!names.iter().any(|name| name == "?")).then_some(names)
}

/// Whether the follow stream of a hook is in it.
fn hook_seen(said: &str) -> bool {
    said.lines().any(|line| {
        ["Created Pod \"", "Pod \"", "Container \"", "Job \"", "Created pod \"", "pod \""]
            .iter()
            .any(|begin| line.trim_start().starts_with(begin))
    })
}

/// The last line of the script's own that is not about its progress.
fn own_words(text: &str) -> String {
    text.lines()
        .rev()
        .find_map(|line| line.strip_prefix("ferry: "))
        .map_or_else(|| "the job's script stopped without a word".to_owned(), redact)
}

/// `--timeout` for gravity restore, and why: `set` when the operator set one, 160m for an archive over 20 GB or when the last restore
/// took over 40 minutes, else 80m.
pub fn restore_timeout(bytes: u64, last_minutes: Option<f64>, set: Option<Duration>) -> (Duration, String) {
    const MINUTE: u64 = 60;
    const LARGE: u64 = 20_000_000_000;
    const LONG: f64 = 40.0;
    if let Some(set) = set {
        return (set, "pce_restore_timeout".to_owned());
    }
    if bytes > LARGE {
        let size = bytes / 1_000_000_000;
        return (Duration::from_secs(160 * MINUTE), format!("the archive has {size} GB, which is over 20 GB"));
    }
    match last_minutes {
        Some(last) if last > LONG => {
            (Duration::from_secs(160 * MINUTE), format!("the last restore took {last:.0} minutes, which is over 40"))
        }
        _ => (Duration::from_secs(80 * MINUTE), "the vendor's default".to_owned()),
    }
}

/// A command of Gravity as the node's journal tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalCommand {
    /// The command line.
    pub command: String,
    /// How it ended: `None` while it runs, or when it was killed.
    pub ended: Option<String>,
}

/// What can be seen of a restore whose end is not known.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    /// Hook jobs that began since.
    pub hooks: Look<Vec<KubeJob>>,
    /// Restore commands in the journal since.
    pub journal: Look<Vec<JournalCommand>>,
    /// Processes `gravity restore` on the node now.
    pub processes: Look<Vec<String>>,
    /// True when something is seen to work on it still.
    pub still_running: bool,
    /// What all that says, one sentence each. It never says that the restore is done.
    pub sentences: Vec<String>,
    /// Commands to look further.
    pub checks: Vec<String>,
}

/// Looks up how a restore ended whose end is not known. `since_epoch` is when its job began, by the node's clock.
/// The evidence is for people: nothing here turns *unknown* into *done*.
///
/// # Errors
/// As [`Session::run_root`]; [`Kind::Unknown`] when the answer is cut or garbled.
pub async fn reconcile(session: &Session, options: &ProbeOptions, since_epoch: i64) -> Result<Evidence, Failure> {
    let nonce: u128 = rand::random();
    reconcile_with_nonce(session, options, since_epoch, &format!("ferry-{nonce:032x}")).await
}

/// [`reconcile`] with a nonce that the caller knows, so that a scripted host can answer.
///
/// # Errors
/// As [`reconcile`].
pub async fn reconcile_with_nonce(
    session: &Session,
    options: &ProbeOptions,
    since_epoch: i64,
    nonce: &str,
) -> Result<Evidence, Failure> {
    let host = session.host();
    let script = evidence_script(options, since_epoch, nonce)
        .map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()).on(host))?;
    let said = look(session, &script, Duration::from_secs(120)).await?;
    read_evidence(nonce, &said.out, since_epoch).map_err(|why| {
        Failure::new(Kind::Unknown, "what became of the restore could not be looked up")
            .on(host)
            .saw(format!("{why}; {}", said.exit))
            .why("nothing is concluded from half an answer")
            .mend(CHECKS.join("; "))
    })
}

fn evidence_script(options: &ProbeOptions, since_epoch: i64, nonce: &str) -> Result<String, Nul> {
    Ok(format!(
        "N={}\nK={}\nT={}\n{}{EVIDENCE}",
        quote(nonce)?,
        quote(&options.kubectl)?,
        since_epoch.max(0),
        super::probe::FUNCTIONS
    ))
}

const EVIDENCE: &str = r#"
look jobs 30 "$K" -n kube-system get jobs -o json
begin journal
if command -v journalctl >/dev/null 2>&1; then
  within 45 journalctl -t gravity-cli --no-pager --since="@$T" </dev/null 2>/dev/null | tail -c 1000000
  end journal 0
else
  end journal 127
fi
begin processes
for f in $(grep -ls restore /proc/[0-9]*/cmdline 2>/dev/null); do
  c=$(tr '\0\n' '  ' <"$f" 2>/dev/null | head -c 2000)
  p=${f#/proc/}
  case $c in *gravity*' restore '*) printf '%s %s\n' "${p%%/*}" "$c" ;; esac
done
[ -r /proc/self/cmdline ]
end processes $?
printf '\n%s done\n' "$N"
exit 0
"#;

/// How far the clocks of the node and of Kubernetes may be apart when a job is judged to be of this run, in seconds.
const TOLERANCE: i64 = 120;

fn read_evidence(nonce: &str, out: &[u8], since_epoch: i64) -> Result<Evidence, String> {
    let sections = sections(nonce, out)?;
    let need = |name: &str| {
        sections.iter().find(|section| section.name == name).ok_or_else(|| format!("the section {name} is missing"))
    };
    let jobs = need("jobs")?;
    let since = since_epoch.saturating_sub(TOLERANCE);
    let recent = |job: &KubeJob| {
        let started = job.started.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        started.is_none_or(|at| at.as_second() >= since)
    };
    let hooks = match (jobs.rc, parse_jobs(jobs.text)) {
        (0, Ok(all)) => {
            Look::Seen(all.into_iter().filter(|job| job.is_hook() && (job.active || recent(job))).collect::<Vec<_>>())
        }
        (rc, _) => Look::Unknown(format!("kubectl did not answer (code {rc})")),
    };
    let journal = need("journal")?;
    let journal = match journal.rc {
        0 => Look::Seen(journal_commands(&redact(&strip_ansi(&String::from_utf8_lossy(journal.text))))),
        _ => Look::Unknown("there is no journalctl on the node".to_owned()),
    };
    let processes = need("processes")?;
    let processes = match processes.rc {
        0 => Look::Seen(
            redact(&String::from_utf8_lossy(processes.text))
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(|line| clean(line.trim().as_bytes()))
                .collect::<Vec<_>>(),
        ),
        _ => Look::Unknown("/proc cannot be read".to_owned()),
    };
    let mut sentences = Vec::new();
    let mut still_running = false;
    match &processes {
        Look::Seen(all) if all.is_empty() => sentences.push("no process gravity restore runs on the node".to_owned()),
        Look::Seen(all) => {
            still_running = true;
            sentences
                .extend(all.iter().map(|process| format!("gravity restore still runs on the node: process {process}")));
        }
        Look::Unknown(why) => sentences.push(format!("whether gravity restore still runs is not known: {why}")),
        Look::NotAsked => {}
    }
    match &hooks {
        Look::Seen(all) if all.is_empty() => sentences.push(
            "Kubernetes has no hook job that began since; Gravity never removes a restore's job, so none was started, or somebody removed it"
                .to_owned(),
        ),
        Look::Seen(all) => {
            for job in all {
                let at = job.started.as_deref().map(|at| format!(", begun at {at}")).unwrap_or_default();
                let name = clean(job.name.as_bytes());
                sentences.push(match (&job.failed, job.complete) {
                    (Some(why), _) => format!("the hook {name} failed ({}){at}", clean(why.as_bytes())),
                    (None, true) => format!("the hook {name} is complete{at}; that alone does not say that the target is whole"),
                    (None, false) => {
                        still_running = true;
                        format!("the hook {name} still runs{at}")
                    }
                });
            }
        }
        Look::Unknown(why) => sentences.push(format!("whether a hook runs is not known: {why}")),
        Look::NotAsked => {}
    }
    match &journal {
        Look::Seen(all) if all.is_empty() => sentences.push(
            "the journal has no gravity restore since; Gravity before 5.5.50 and 6.0 writes none there".to_owned(),
        ),
        Look::Seen(all) => sentences.extend(all.iter().map(|command| {
            let name = clean(command.command.as_bytes());
            match &command.ended {
                Some(how) => format!("the journal says of {name}: {}", clean(how.as_bytes())),
                None => format!("the journal has the beginning of {name} and no end: it runs, or it was killed"),
            }
        })),
        Look::Unknown(why) => sentences.push(format!("the journal cannot be read: {why}")),
        Look::NotAsked => {}
    }
    let mut checks: Vec<String> = CHECKS.iter().map(|check| (*check).to_owned()).collect();
    if let Look::Seen(all) = &hooks {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        for job in all.iter().filter(|job| job.name.chars().all(fits)) {
            checks.push(format!("kubectl -n kube-system logs job/{} --all-containers", job.name));
        }
    }
    Ok(Evidence { hooks, journal, processes, still_running, sentences, checks })
}

/// The restore commands in the lines of `journalctl -t gravity-cli`: `[RUNNING]: COMMAND`, then `[SUCCESS]: COMMAND` or
/// `[FAILURE]: COMMAND: [ERROR]: …`.
fn journal_commands(text: &str) -> Vec<JournalCommand> {
    let mut commands: Vec<JournalCommand> = Vec::new();
    let restores = |command: &str| command.split_whitespace().any(|word| word == "restore");
    for line in text.lines() {
        if let Some((_, command)) = line.split_once("[RUNNING]: ") {
            if restores(command) {
                commands.push(JournalCommand { command: command.trim().to_owned(), ended: None });
            }
            continue;
        }
        let ended = ["[SUCCESS]: ", "[FAILURE]: "].iter().find_map(|word| Some((*word, line.split_once(word)?.1)));
        let Some((word, rest)) = ended else { continue };
        if !restores(rest) {
            continue;
        }
        // The newest one that is still open; one whose beginning was cut off stands for itself.
        match commands.iter_mut().rev().find(|open| open.ended.is_none() && rest.starts_with(&open.command)) {
            Some(open) => {
                let more = rest.get(open.command.len()..).unwrap_or_default().trim_start_matches(':').trim();
                let word = word.trim_end_matches(": ");
                open.ended = Some(if more.is_empty() { word.to_owned() } else { format!("{word}: {more}") });
            }
            None => commands.push(JournalCommand {
                command: rest.trim().to_owned(),
                ended: Some(word.trim_end_matches(": ").to_owned()),
            }),
        }
    }
    commands
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "restore_tests.rs"]
mod tests;
