//! Running `gravity backup`, and what its end means.
//!
//! What lives here: the script that the detached job runs, Go's durations, and the telling apart
//! of every way in which the command ends. What does not: keeping the script alive (job) and
//! whether the archive is whole (archive): that an archive file is there and not empty is all that is
//! looked at here.

use std::time::Duration;

use super::redact::{redact, strip_ansi};
use super::status::is_hook_name;
use crate::failure::{Failure, Kind};
use crate::remote::command::{Nul, quote};

/// The script's own failures end with this code, which neither gravity nor a signal can give.
pub const OWN_FAILURE: i32 = 113;

/// A backup to run on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupJob {
    /// The gravity command.
    pub gravity: String,
    /// The kubectl command: after a failure the log gets the list of hook jobs.
    pub kubectl: String,
    /// The directory for archives: made root-only when it is not there.
    pub work_dir: String,
    /// Absolute path of the archive, in `work_dir` or below. Nothing may be there yet.
    pub file: String,
    /// How long Kubernetes lets the hook run (`--timeout`); packing comes on top.
    pub timeout: Duration,
}

/// The script for `sh` that runs the backup: checks its directory, makes it if need be, refuses an
/// existing file, prints the command as it runs it, and ends with gravity's own code. Its own
/// refusals are a line `ferry: …` and code [`OWN_FAILURE`]. Standard output and standard error are both
/// the log.
///
/// # Errors
/// A path holds a NUL, which no command line can carry.
pub fn backup_script(job: &BackupJob) -> Result<String, Nul> {
    Ok(format!(
        "gravity={}\nkubectl={}\nwork={}\nfile={}\nlimit={}\n{BODY}",
        quote(&job.gravity)?,
        quote(&job.kubectl)?,
        quote(job.work_dir.trim_end_matches('/'))?,
        quote(&job.file)?,
        quote(&go_duration(job.timeout))?,
    ))
}

/// The permissions of every directory that we use are looked at after it was made, not before:
/// a directory that somebody else put there in between is seen.
const BODY: &str = r#"
umask 077
LC_ALL=C; export LC_ALL
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${PATH:-}; export PATH
: "${HOME:=/root}"; export HOME
die() { printf 'ferry: %s\n' "$1"; exit 113; }
me=$(id -u)

# A directory that only we can change; with "$2" = only, that only we can look into as well.
ours() {
  [ -L "$1" ] && die "$1 is a symbolic link; an archive is only made in a directory of root's own"
  [ -d "$1" ] || die "$1 is not a directory, or could not be made"
  line=$(ls -ldn "$1" 2>/dev/null) || die "$1 cannot be looked at"
  mode=${line%% *}
  owner=$(printf '%s\n' "$line" | awk '{ print $3 }')
  [ "$owner" = "$me" ] || die "$1 belongs to user $owner, not to user $me"
  case $mode in
    d???------|d???------.) ;;
    d????-??-?|d????-??-?.) [ "$2" = only ] && die "$1 is open to others ($mode); mend it with: chmod 700 $1" ;;
    *) die "$1 is open to others ($mode); mend it with: chmod 700 $1" ;;
  esac
  return 0
}

case $work in /?*) ;; *) die "the work directory is not an absolute path: $work" ;; esac
case $file in "$work"/?*) ;; *) die "the archive $file is not below the work directory $work" ;; esac
case $file in */../*|*/./*|*//*|*/..|*/.|*/) die "the archive's path is not plain: $file" ;; esac
case $gravity in */*) [ -x "$gravity" ] || die "$gravity is not there or cannot be run" ;; esac
command -v "$gravity" >/dev/null 2>&1 || die "$gravity is not there or cannot be run"

[ -e "$work" ] || [ -L "$work" ] || mkdir -p "$work" || die "$work could not be made"
folder=${file%/*}
if [ "$folder" = "$work" ]; then
  ours "$work" only
else
  ours "$work" shared
  path=$work
  rest=${folder#"$work"/}
  while [ -n "$rest" ]; do
    path=$path/${rest%%/*}
    case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
    [ -e "$path" ] || [ -L "$path" ] || mkdir "$path" || die "$path could not be made"
    ours "$path" only
  done
fi
if [ -e "$file" ] || [ -L "$file" ]; then
  die "$file is there already; gravity would overwrite it without a word"
fi
# gravity opens the file only after the hook, and a failure there throws the collected data away.
: >"$file.try" || die "nothing can be written in $folder"
rm -f "$file.try"

printf '+ %s backup --follow --timeout=%s %s\n' "$gravity" "$limit" "$file"
"$gravity" backup --follow "--timeout=$limit" "$file" </dev/null
rc=$?
if [ "$rc" -ne 0 ]; then
  # Gravity 7 and 8 end their error with a blank and no line end.
  printf '\nferry: gravity ended with code %s; jobs of kube-system after it:\n' "$rc"
  if timeout 5 true >/dev/null 2>&1; then
    timeout 20 "$kubectl" -n kube-system get jobs </dev/null 2>&1 | tail -n 20
  fi
fi
exit "$rc"
"#;

/// A duration as Go reads it, with units: `80m`, `1m30s`, `45s`. Whole minutes stay minutes.
pub fn go_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let parts = [
        (seconds / 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
        (u64::from(nanos / 1_000 % 1_000), "us"),
        (u64::from(nanos % 1_000), "ns"),
    ];
    let text: String =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads a duration as Go writes it: numbers with units `h`, `m`, `s`, `ms`, `us`, `ns`, such as `80m`,
/// `1h20m`, `1.5h`. A number without a unit is refused, as Gravity does.
///
/// # Errors
/// One sentence that says what was seen and what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        |why: &str| format!("{text:?} is not a duration: {why}; expected a number with a unit, such as 80m or 1h20m");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong("it is empty"));
    }
    if rest.starts_with('-') {
        return Err(wrong("it is negative"));
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale: u128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1_000,
            "ns" => 1,
            "" => return Err(wrong("the unit is missing")),
            "d" | "w" => return Err(wrong("Go has no unit longer than h")),
            _ => return Err(wrong("the unit is not one of h, m, s, ms, us, ns")),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || part.contains('.') || number.len() > 24 {
            return Err(wrong("there is no number before the unit"));
        }
        let whole: u128 =
            if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong("the number is too large"))? };
        let mut nanos = whole.checked_mul(scale).ok_or_else(|| wrong("the number is too large"))?;
        let mut place = scale;
        for digit in part.bytes() {
            place /= 10;
            nanos += u128::from(digit - b'0') * place;
        }
        total = total.checked_add(nanos).ok_or_else(|| wrong("the number is too large"))?;
        rest = after;
    }
    // Go's durations are 63 bits of nanoseconds: 292 years.
    match u64::try_from(total) {
        Ok(nanos) if nanos <= i64::MAX as u64 => Ok(Duration::from_nanos(nanos)),
        _ => Err(wrong("the number is too large")),
    }
}

/// What the node says of the archive file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveStat {
    /// Size in bytes.
    pub bytes: u64,
    /// Last change, seconds since 1970 by the node's clock.
    pub mtime: i64,
    /// Its inode.
    pub inode: u64,
    /// True for a regular file; false for a symbolic link, a directory and all else.
    pub regular: bool,
    /// Permission bits.
    pub mode: u32,
}

/// How a run of `gravity backup` (or `gravity restore`) ended, told apart by code, log and file together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupOutcome {
    /// Code 0 and a file that can be an archive. Whether it is one, the walk over it says.
    Written,
    /// Our script refused or failed; its words.
    Own(String),
    /// The shell did not find gravity (127) or could not run it (126).
    CannotRun,
    /// Killed by this signal (code 128+n).
    Killed(i32),
    /// It was not run as root.
    NotRoot,
    /// The machine has no credentials of a cluster.
    NoCredentials,
    /// The machine's addresses are none of the cluster's.
    NotANode,
    /// Another gravity process held the local database for half a minute.
    DatabaseLocked,
    /// The cluster image has no backup hook.
    NoHook,
    /// Kubernetes stopped the hook at its deadline.
    Deadline,
    /// The hook failed again and again.
    HookFailed,
    /// A disk is full.
    DiskFull,
    /// The archive's path could not be opened.
    OutputPath,
    /// The archive that should be restored is not there.
    InputMissing,
    /// The archive that should be restored cannot be read.
    InputDamaged,
    /// Gravity's controller did not answer.
    ControllerDown,
    /// Gravity did not understand the command line.
    Usage,
    /// Code 255 with another error.
    OtherError,
    /// Code 255 and no error line.
    NoError,
    /// A code that Gravity does not give.
    OtherCode(i32),
    /// Code 0, but there is no file.
    NoFile,
    /// Code 0, but the path is no regular file.
    NotRegular,
    /// Code 0, but the file is older than the run.
    Stale,
    /// Code 0, but the file has no bytes.
    Zero,
    /// Code 0, but the file is too small to hold a single member.
    Empty,
}

/// A gzip of nothing at all has 20 to 32 bytes; one of a tar with a single small file more than 100.
const SMALLEST_ARCHIVE: u64 = 64;

impl BackupOutcome {
    /// Tells how it ended. `rc` is gravity's code, `log` the end of what it said on both streams,
    /// `archive` what is at the archive's path now, `started_epoch` when it began by the node's clock.
    pub fn of(rc: i32, log: &[u8], archive: Option<&ArchiveStat>, started_epoch: i64) -> Self {
        match rc {
            0 => Self::of_file(archive, started_epoch),
            OWN_FAILURE => Self::Own(own_words(log)),
            126 | 127 => Self::CannotRun,
            255 => Self::of_error(log),
            129..=192 => Self::Killed(rc - 128),
            // Older wrappers gave 1 or 2; the error line tells more than the number.
            rc if error_text(log).is_some() => match Self::of_error(log) {
                Self::OtherError | Self::NoError => Self::OtherCode(rc),
                known => known,
            },
            rc => Self::OtherCode(rc),
        }
    }

    fn of_file(archive: Option<&ArchiveStat>, started_epoch: i64) -> Self {
        match archive {
            None => Self::NoFile,
            Some(file) if !file.regular => Self::NotRegular,
            Some(file) if file.mtime < started_epoch => Self::Stale,
            Some(file) if file.bytes == 0 => Self::Zero,
            Some(file) if file.bytes < SMALLEST_ARCHIVE => Self::Empty,
            Some(_) => Self::Written,
        }
    }

    fn of_error(log: &[u8]) -> Self {
        let Some(error) = error_text(log) else { return Self::NoError };
        let says = |words: &str| error.contains(words);
        // The order matters: the cause stands behind the step that it broke.
        if says("should be run as root") {
            Self::NotRoot
        } else if says("no credentials for") || says("Please login to Ops Center") {
            Self::NoCredentials
        } else if says("no server matching") {
            Self::NotANode
        } else if says("is locked, is another instance running") {
            Self::DatabaseLocked
        } else if says("does not have hooks") || says("does not have") && says("hook") {
            Self::NoHook
        } else if says("active longer than specified deadline") || says("DeadlineExceeded") {
            Self::Deadline
        } else if says("reached the specified backoff limit") || says("BackoffLimitExceeded") {
            Self::HookFailed
        } else if says("no space left on device") || says("disk quota exceeded") {
            Self::DiskFull
        } else if says("failed to open the tarball") {
            Self::InputMissing
        } else if says("unexpected EOF") || says("invalid tar header") {
            Self::InputDamaged
        } else if says("gravity-site.kube-system")
            || says(":3009")
            || says("connection refused")
            || says("i/o timeout")
            || says("no such host")
        {
            Self::ControllerDown
        } else if says("unknown long flag")
            || says("unknown short flag")
            || says("required argument")
            || says("missing unit in duration")
            || says("invalid duration")
            || error.starts_with("unexpected ")
            || says("expected argument for flag")
        {
            Self::Usage
        } else if (error.starts_with("open ") || error.starts_with("create "))
            && (says("no such file or directory")
                || says("permission denied")
                || says("read-only file system")
                || says("is a directory")
                || says("not a directory"))
        {
            Self::OutputPath
        } else {
            Self::OtherError
        }
    }

    /// True when the hook's Kubernetes job may still run, and its data may lie in staging.
    pub fn leaves_hook(&self) -> bool {
        matches!(
            self,
            Self::Killed(_)
                | Self::Deadline
                | Self::HookFailed
                | Self::OtherError
                | Self::NoError
                | Self::OtherCode(_)
                | Self::ControllerDown
        )
    }
}

/// The last error that Gravity printed: the text after `[ERROR]: `, with its indented further lines
/// joined by `: `; colours and secrets out. Works on both streams and all generations. A line of
/// our own script is no cause, although Gravity 7 leaves a blank before it.
pub fn error_text(log: &[u8]) -> Option<String> {
    let text = strip_ansi(&String::from_utf8_lossy(log));
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().rposition(|line| line.trim_start().starts_with("[ERROR]:"))?;
    let mut parts: Vec<String> = Vec::new();
    for (number, line) in lines.iter().enumerate().skip(at) {
        if number == at {
            parts.push(line.trim_start().trim_start_matches("[ERROR]:").trim().to_owned());
        } else if line.starts_with(['\t', ' ']) && !line.trim().is_empty() && !line.trim_start().starts_with("ferry: ")
        {
            parts.push(line.trim().to_owned());
        } else {
            break;
        }
    }
    Some(redact(&parts.join(": ")))
}

/// The last line `ferry: …` of the log, without the prefix.
fn own_words(log: &[u8]) -> String {
    let text = strip_ansi(&String::from_utf8_lossy(log));
    text.lines()
        .rev()
        .find_map(|line| line.strip_prefix("ferry: "))
        .map_or_else(|| "the job's script stopped without a word".to_owned(), redact)
}

/// The name of the hook's Kubernetes job, found in the follow stream: the last one that is named.
/// `None` when the stream names none (it was cut, or the hook never began).
pub fn hook_job_name(log: &[u8]) -> Option<String> {
    let text = strip_ansi(&String::from_utf8_lossy(log));
    text.lines()
        .rev()
        .find_map(|line| {
            quoted_after(line, "Job \"").filter(|name| is_hook_name(name)).or_else(|| {
                let pod = quoted_after(line, "Pod \"").or_else(|| quoted_after(line, "pod \""))?;
                // A pod is the job's name and five characters; old clients named the job itself.
                let job = pod.rsplit_once('-').map(|(job, _)| job);
                job.filter(|job| is_hook_name(job)).or(Some(pod).filter(|pod| is_hook_name(pod)))
            })
        })
        .map(str::to_owned)
}

/// How the hook's container ended the last time, as the follow stream tells it.
fn hook_exit(log: &[u8]) -> Option<i32> {
    let text = strip_ansi(&String::from_utf8_lossy(log));
    text.lines().rev().find_map(|line| {
        let (_, rest) = line.strip_prefix("Container \"")?.split_once("terminated, exit code ")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}

fn quoted_after<'a>(line: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    let (name, _) = rest.split_once('"')?;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    (!name.is_empty() && name.chars().all(fits)).then_some(name)
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        6 => "ABRT",
        9 => "KILL",
        11 => "SEGV",
        13 => "PIPE",
        15 => "TERM",
        other => return format!("signal {other}"),
    };
    format!("signal {signal} (SIG{name})")
}

/// Whether the run left a file that can be an archive; else every way in which it failed, told as
/// what happened, what was seen, why it matters and what to do.
///
/// `rc` is gravity's code as the job kept it, `log` the end of the job's log (64 KiB are
/// enough), `archive` what is at the archive's path after it ended, `started_epoch` when the job began,
/// seconds since 1970 by the node's clock.
///
/// # Errors
/// [`Kind::Failed`]: no archive was made.
pub fn outcome(rc: i32, log: &[u8], archive: Option<&ArchiveStat>, started_epoch: i64) -> Result<(), Failure> {
    let outcome = BackupOutcome::of(rc, log, archive, started_epoch);
    let hook = hook_job_name(log);
    let error = error_text(log);
    let look_at_hook = match &hook {
        Some(job) => {
            format!("kubectl -n kube-system describe job {job}; kubectl -n kube-system logs job/{job} --all-containers")
        }
        None => "kubectl -n kube-system get jobs; kubectl -n kube-system get pods".to_owned(),
    };
    const STAGING: &str =
        "<state directory>/planet/state/<6 hex digits>/backup (normally /var/lib/gravity/planet/state/*/backup)";
    let left = format!(
        "look at the hook: {look_at_hook}. What it collected is left in {STAGING}; remove it, and the job, only when no hook job is active any more"
    );
    let file = |what: &str| match archive {
        Some(file) => {
            format!("{what}: {} bytes, changed at {} (the run began at {started_epoch})", file.bytes, file.mtime)
        }
        None => what.to_owned(),
    };
    let said = |fallback: &str| match &error {
        Some(error) => format!("[ERROR]: {error}"),
        None => fallback.to_owned(),
    };
    let new = |what: &str| Failure::new(Kind::Failed, what);
    // 255 is what an SSH client says of a broken connection too: say whose code it is.
    const CODE: &str = "255 is Gravity's code for every error; the connection was not the cause";
    let failure = match &outcome {
        BackupOutcome::Written => return Ok(()),
        BackupOutcome::Own(words) => new("the backup job stopped before it ran gravity")
            .saw(words.clone())
            .why("an archive with all of the cluster's secrets is only made in a directory that root alone can read, under a name that is free")
            .mend("mend what it names on the node, or set pce_work_dir to another directory, and start again"),
        BackupOutcome::CannotRun => new("gravity could not be run on the node")
            .saw(format!("exit code {rc}"))
            .mend("set pce_gravity to the gravity command's path on the nodes"),
        BackupOutcome::Killed(signal) => new(&format!("gravity was killed by {} before it had written the archive", signal_name(*signal)))
            .saw(format!("exit code {rc}"))
            .why("the hook's Kubernetes job goes on without it, but nobody writes an archive any more")
            .mend(left),
        BackupOutcome::NotRoot => new("gravity was not run as root")
            .saw(said(""))
            .why(CODE)
            .mend("set ansible_become: true for the main nodes (or -b), with root as the become user"),
        BackupOutcome::NoCredentials => new("gravity has no credentials of a cluster on this node")
            .saw(said(""))
            .why("the host is no node of a cluster, or root's home has a stale login in .gravity or .tsh")
            .mend("sudo gravity status on the node; move /root/.gravity and /root/.tsh away if they are there"),
        BackupOutcome::NotANode => new("this machine is not among the cluster's registered nodes")
            .saw(said(""))
            .why("the hook is pinned to the node on which the command runs; the machine's addresses match none of the cluster's")
            .mend("compare ip addr with the addresses in gravity status; run the backup on another main node"),
        BackupOutcome::DatabaseLocked => new("another gravity command held the local database for more than 30 s")
            .saw(said(""))
            .why("nothing was begun: gravity waited and gave up")
            .mend("ps -ef | grep '[g]ravity' on the node; start again when that command has ended")
            .again(),
        BackupOutcome::NoHook => new("the cluster image has no backup hook")
            .saw(said(""))
            .why("Gravity only runs the hook that the application brings; this one brings none")
            .mend("check with gravity status that the cluster runs the anypoint image"),
        BackupOutcome::Deadline => new("Kubernetes stopped the backup hook at its deadline (--timeout)")
            .saw(said(""))
            .why("the limit covers the hook only; nothing was written to the archive")
            .mend(format!("set pce_backup_timeout higher (Go's form, such as 120m) and start again; {left}")),
        BackupOutcome::HookFailed => {
            let (ended, why) = match hook_exit(log) {
                Some(137) => (
                    "; the hook's container was killed (exit code 137)".to_owned(),
                    "it ran out of memory, or its pod was removed; nothing was written to the archive",
                ),
                Some(code) if code != 0 => (
                    format!("; the hook's container ended with exit code {code}"),
                    "the hook's own log says what broke; nothing was written to the archive",
                ),
                _ => (String::new(), "the hook's own log says what broke; nothing was written to the archive"),
            };
            new("the backup hook failed until Kubernetes gave up")
                .saw(format!("{}{ended}", said("")))
                .why(why)
                .mend(left)
        }
        BackupOutcome::DiskFull => new("a disk on the node was full")
            .saw(said(""))
            .why("what was written is a part of an archive, and Gravity has deleted the collected data")
            .mend("df -h on the node; free space or set pce_work_dir to a directory on a larger disk, and start again"),
        BackupOutcome::OutputPath => new("gravity could not open the archive's path after the hook had ended")
            .saw(said(""))
            .why("gravity opens the file only at the end; the collected data has been deleted")
            .mend("check that pce_work_dir is there, is not mounted read-only and can be written by root; start again"),
        BackupOutcome::InputMissing => new("the archive to restore is not on the node")
            .saw(said(""))
            .why("gravity looks for it only after it has reached the cluster; nothing was changed")
            .mend("bring the archive to the node again and start again"),
        BackupOutcome::InputDamaged => new("gravity cannot read the archive to restore")
            .saw(said(""))
            .why(format!("the restore hook was not run; what was unpacked before the damage is left in {STAGING}"))
            .mend("ferry points verify POINT; bring the archive to the node again"),
        BackupOutcome::ControllerDown => new("Gravity's controller (gravity-site) did not answer")
            .saw(said(""))
            .why("without it no hook can be started or waited for; a hook that had begun goes on in Kubernetes")
            .mend(format!("kubectl -n kube-system get pods -l app=gravity-site; sudo gravity status; {left}")),
        BackupOutcome::Usage => new("this Gravity does not understand ferry's command line")
            .saw(said(""))
            .why("--follow and --timeout are there from Gravity 5.2.18 on")
            .mend("sudo gravity version on the node; please report it with the version"),
        BackupOutcome::OtherError => new("gravity backup ended with an error").saw(said("")).why(CODE).mend(left),
        BackupOutcome::NoError => new("gravity backup ended with code 255 and no error line")
            .saw(last_line(log))
            .why(CODE)
            .mend(left),
        BackupOutcome::OtherCode(code) => new(&format!("gravity backup ended with code {code}, which Gravity does not give"))
            .saw(said(&last_line(log)))
            .why("something between ferry's job and gravity may have ended it")
            .mend(left),
        BackupOutcome::NoFile => new("gravity backup ended with 0, but there is no archive")
            .saw("no file at the archive's path")
            .why("exit code 0 is no proof of a backup")
            .mend("journalctl -t gravity-cli on the node; start again"),
        BackupOutcome::NotRegular => new("gravity backup ended with 0, but the archive's path is not a regular file")
            .saw(file("not a regular file"))
            .why("somebody else changed the root-only directory during the run")
            .mend("ls -la the directory on the node; start again"),
        BackupOutcome::Stale => new("gravity backup ended with 0, but the file is older than the run")
            .saw(file("the file"))
            .why("a file of the same name from an earlier run would pass for this backup")
            .mend(format!("look at the hook: {look_at_hook}; look at the node's clock (date); start again")),
        BackupOutcome::Zero => new("gravity backup ended with 0, but the archive has no bytes")
            .saw(file("the file"))
            .why("restoring it would run the restore hook against nothing")
            .mend(format!("look at the hook's log above; {look_at_hook}; start again")),
        BackupOutcome::Empty => new("gravity backup ended with 0, but the archive is empty")
            .saw(file("the file"))
            .why("Gravity writes an empty gzip when the collected data is missing, and reports success")
            .mend(format!("look at the hook's log above; {look_at_hook}; start again")),
    };
    Err(failure)
}

/// The last line of a log that says something, cleaned.
fn last_line(log: &[u8]) -> String {
    let text = redact(&strip_ansi(&String::from_utf8_lossy(log)));
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("ferry: "));
    line.map_or_else(|| "it said nothing".to_owned(), |line| line.chars().take(300).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [(0, "0s"), (45, "45s"), (60, "1m"), (4800, "80m"), (90, "1m30s"), (3600, "60m")] {
            assert_eq!(go_duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(go_duration(Duration::from_millis(1500)), "1s500ms");
        assert_eq!(go_duration(Duration::from_nanos(1)), "1ns");
        for (text, seconds) in
            [("80m", 4800.0), ("1h20m0s", 4800.0), ("1.5h", 5400.0), ("90s", 90.0), ("250ms", 0.25), (".5s", 0.5)]
        {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_secs_f64(seconds), "{text}");
        }
        for (text, why) in [
            ("5", "unit is missing"),
            ("0", "unit is missing"),
            ("1h5", "unit is missing"),
            ("", "empty"),
            ("-5m", "negative"),
            ("m", "no number"),
            (".m", "no number"),
            ("1.2.3m", "no number"),
            ("7d", "longer than h"),
            ("5 m", "unit is not"),
            ("5min", "unit is not"),
            ("99999999999999999999h", "too large"),
            ("9999999h", "too large"),
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_we_write_we_read(nanos in 0u64..i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&go_duration(duration)).unwrap(), duration);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}", log in proptest::collection::vec(proptest::num::u8::ANY, 0..200), rc in -3i32..260) {
            let _ = parse_duration(&text);
            let _ = outcome(rc, &log, None, 0);
            let _ = hook_job_name(&log);
        }
    }

    #[test]
    fn nul_is_refused() {
        let job = BackupJob {
            gravity: "/usr/bin/gravity".into(),
            kubectl: "/usr/bin/kubectl".into(),
            work_dir: "/w".into(),
            file: "/w/\0".into(),
            timeout: Duration::from_secs(60),
        };
        assert!(backup_script(&job).is_err());
    }
}
