//! The pretend hook: a Kubernetes job as a process of its own, which outlives the command line
//! that asked for it and ends by itself, by its deadline, or when its job is deleted.
//!
//! What lives here: the job's record as Kubernetes would show it, the process, its log and the
//! stream that `--follow` prints, and the data that a backup gathers. What does not: who waits
//! for it (gravity) and how it is listed (kubectl).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::gravity::humanized;
use super::record::Record;
use super::{Node, append, content, replace};

/// The hidden command that starts [`WORK`] and ends, so that the hook is nobody's child.
pub(crate) const LAUNCH: &str = "__pretend-hook-launch";
/// The hidden command that is the hook.
pub(crate) const WORK: &str = "__pretend-hook";

/// The namespace of hooks.
pub(crate) const NAMESPACE: &str = "kube-system";

/// A hook's job, found by its name in the folder that the nodes of a cluster share.
pub(crate) struct Job {
    shared: PathBuf,
    pub(crate) name: String,
}

pub(crate) fn jobs(node: &Node) -> PathBuf {
    node.shared.join("jobs")
}
pub(crate) fn pods(node: &Node) -> PathBuf {
    node.shared.join("pods")
}
pub(crate) fn logs(node: &Node) -> PathBuf {
    node.shared.join("logs")
}

/// How long the hook works, in pretended seconds.
pub(crate) fn seconds(node: &Node, backup: bool) -> f64 {
    let usual = node.number("hook-seconds", node.hook_seconds).unwrap_or(node.hook_seconds);
    if backup {
        return usual;
    }
    let restore = node.restore_seconds.unwrap_or(usual);
    node.number("restore-seconds", restore).unwrap_or(restore)
}

fn letters(count: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let one = || ALPHABET.get(rand::random::<u8>() as usize % ALPHABET.len()).copied().unwrap_or(b'x');
    (0..count).map(|_| char::from(one())).collect()
}

impl Job {
    /// Makes the record of a new job for the staging folder `id`.
    fn create(node: &Node, name: &str, id: &str, deadline: f64) -> io::Result<Self> {
        for dir in [jobs(node), pods(node), logs(node)] {
            fs::create_dir_all(dir)?;
        }
        let job = Self::named(node, name);
        let now = now();
        job.write(&json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": job.name,
                "namespace": NAMESPACE,
                "uid": format!("{:08x}-0000-4000-8000-{:012x}", rand::random::<u32>(), rand::random::<u32>()),
                "creationTimestamp": now,
                "labels": {"app": "anypoint", "job-name": job.name},
            },
            "spec": {
                "activeDeadlineSeconds": deadline.ceil() as u64,
                "backoffLimit": 6,
                "completions": 1,
                "parallelism": 1,
                "template": {"spec": {
                    "nodeSelector": {"kubernetes.io/hostname": node.advertise_ip},
                    "containers": [{"name": "hook", "image": "leader.telekube.local:5000/anypoint-backup:latest"}],
                    "restartPolicy": "OnFailure",
                    "volumes": [{"name": "backup", "hostPath": {"path": format!("/ext/state/{id}/backup")}}],
                }},
            },
            "status": {"active": 1, "startTime": now},
        }))?;
        fs::write(job.log(), "")?;
        fs::write(job.stream(), "")?;
        Ok(job)
    }

    fn named(node: &Node, name: &str) -> Self {
        Self { shared: node.shared.clone(), name: name.to_owned() }
    }

    fn record(&self) -> PathBuf {
        self.shared.join("jobs").join(format!("{}.json", self.name))
    }

    /// The container's raw log.
    pub(crate) fn log(&self) -> PathBuf {
        self.shared.join("logs").join(format!("{}.log", self.name))
    }

    /// What `--follow` prints.
    pub(crate) fn stream(&self) -> PathBuf {
        self.shared.join("logs").join(format!("{}.stream", self.name))
    }

    fn read(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.record()).ok()?).ok()
    }

    fn write(&self, record: &Value) -> io::Result<()> {
        replace(&self.record(), &serde_json::to_vec_pretty(record)?)
    }

    fn exists(&self) -> bool {
        self.record().exists()
    }

    /// How it ended; `None` while it is active.
    pub(crate) fn ended(&self) -> Option<Result<(), String>> {
        let Some(record) = self.read() else {
            return Some(Err(format!("jobs.batch \"{}\" not found", self.name)));
        };
        let conditions = record.pointer("/status/conditions").and_then(Value::as_array)?;
        conditions.iter().find_map(|condition| {
            let message = || condition.get("message").and_then(Value::as_str).unwrap_or("job failed").to_owned();
            match condition.get("type").and_then(Value::as_str) {
                Some("Complete") => Some(Ok(())),
                Some("Failed") => Some(Err(message())),
                _ => None,
            }
        })
    }

    /// Deletes the record but not the pod, as gravity does.
    pub(crate) fn delete(&self) {
        let _ = fs::remove_file(self.record());
    }

    /// Ends the job's record. A job that was deleted meanwhile stays deleted.
    fn finish(&self, condition: Value, succeeded: bool) {
        let Some(mut record) = self.read() else { return };
        let status = if succeeded {
            json!({"succeeded": 1, "startTime": record.pointer("/status/startTime"), "completionTime": now(), "conditions": [condition]})
        } else {
            json!({"failed": 1, "startTime": record.pointer("/status/startTime"), "conditions": [condition]})
        };
        if let Some(place) = record.get_mut("status") {
            *place = status;
        }
        if self.exists() {
            let _ = self.write(&record);
        }
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The fault `leaked-staging-active`: a staging folder on this node that a job which nobody here
/// started is writing to; the end of the fault is the end of both.
pub(crate) fn stand_foreign(node: &Node) {
    let id = format!("ac{}", &crate::digest::Sha256::of(node.hostname.as_bytes()).to_string()[..4]);
    let job = Job::named(node, &format!("anypoint-backup-{}", id.replacen("ac", "fa", 1)));
    let dir = node.staging().join(&id);
    match node.number("leaked-staging-active", 16.0) {
        Some(mib) if !job.exists() || !dir.exists() => {
            let made = Job::create(node, &job.name, &id, 3600.0)
                .and_then(|_| fs::create_dir_all(dir.join("backup")))
                .and_then(|()| fill(&dir.join("backup/objectstore.bin"), (mib * 1_048_576.0) as u64, 11));
            if made.is_err() {
                job.delete();
            }
        }
        None if job.exists() => {
            job.delete();
            let _ = fs::remove_dir_all(dir);
        }
        _ => {}
    }
}

/// Asks for a hook of `kind` (`backup` or `restore`) for the staging folder `id`. As the real
/// command line sends one request, so here one process does it all, the job's record, the count
/// and the start, and does it to the end whatever becomes of the command line meanwhile. The
/// environment goes with it, so that whoever cleans up a sandbox finds it.
pub(crate) fn start(node: &Node, kind: &str, id: &str, deadline: f64, argv: &[String]) -> io::Result<Job> {
    use std::os::unix::process::CommandExt as _;
    let name = format!("anypoint-{kind}-{:06x}", rand::random::<u32>() & 0x00ff_ffff);
    let output = Command::new("/proc/self/exe")
        .arg0("gravity")
        .args([LAUNCH, &name, id, &deadline.to_string(), &std::process::id().to_string(), &argv.join(" ")])
        .env("FERRY_SANDBOX_NODE", &node.dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    if output.status.success() {
        return Ok(Job::named(node, &name));
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(if why.is_empty() { "the pretend hook did not start".to_owned() } else { why }))
}

/// The hidden command [`LAUNCH`].
pub(crate) fn launch(node: &Node, argv: &[String]) -> u8 {
    let _ = rustix::process::setsid();
    match launched(node, argv) {
        Ok(()) => 0,
        Err(error) => {
            super::say_err(format!("{error}\n"));
            1
        }
    }
}

fn launched(node: &Node, argv: &[String]) -> io::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let word = |at: usize| argv.get(at).map(String::as_str).unwrap_or_default();
    let (name, id, pid, line) = (word(1), word(2), word(4), word(5));
    Job::create(node, name, id, word(3).parse().unwrap_or(1200.0))?;
    content::ensure(node)?;
    let kind = kind(name);
    if kind == "backup" {
        node.count_run(&format!("start {id} node={} pid={pid} args={line}", node.hostname))?;
    } else {
        node.disturb(false);
    }
    let args = line.split(' ').map(str::to_owned).collect();
    Record { args, note: name.to_owned(), ..Record::new(node, "gravity", kind, "hook-began", id) }.put(node);
    let mut hook = Command::new("/proc/self/exe");
    hook.arg0("gravity").args([WORK, name]).current_dir("/");
    hook.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(drop)
}

fn kind(name: &str) -> &'static str {
    if name.starts_with("anypoint-backup") { "backup" } else { "restore" }
}

/// How a container's work ended.
enum End {
    Done,
    /// The job's record is gone: Kubernetes kills its pods without a word.
    Deleted,
    Deadline,
    Failed,
}

/// The hidden command [`WORK`]: the hook itself.
pub(crate) fn work(node: &Node, argv: &[String]) -> u8 {
    let _ = rustix::process::setsid();
    let Some(name) = argv.get(1) else { return 64 };
    let job = Job::named(node, name);
    let Some(record) = job.read() else { return 1 };
    let staged = record.pointer("/spec/template/spec/volumes/0/hostPath/path").and_then(Value::as_str).unwrap_or("");
    let id = staged.trim_start_matches("/ext/state/").trim_end_matches("/backup").to_owned();
    let deadline = record.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_f64).unwrap_or(1200.0);
    let backup = kind(name) == "backup";
    let mut hook = Hook {
        node,
        backup,
        pod: format!("{name}-{}", letters(5)),
        job,
        staging: node.staging().join(&id).join("backup"),
        begun: Instant::now(),
        deadline,
        restarts: 0,
    };
    hook.pod_state("Pending", json!({"waiting": {"reason": "PodInitializing"}}));
    hook.tell(&format!("Created Pod \"{}\" in namespace \"{NAMESPACE}\".\n\n", hook.pod));
    std::thread::sleep(node.real(2.0).min(Duration::from_millis(200)));
    hook.pod_state("Running", json!({"running": {"startedAt": now()}}));
    hook.tell(&format!(
        "Pod \"{}\" in namespace \"{NAMESPACE}\", has changed state from \"Pending\" to \"Running\".\nContainer \"hook\" changed status from \"waiting, reason PodInitializing\" to \"running\".\n\n",
        hook.pod
    ));
    let end = if backup { hook.gather() } else { hook.put_back() };
    let verdict = hook.end(end);
    if backup {
        let _ = node.count_run(&format!("hook {id} {verdict}"));
    } else {
        node.disturb(true);
    }
    Record { note: verdict.to_owned(), ..Record::new(node, "gravity", kind(name), "hook-ended", &id) }.put(node);
    0
}

struct Hook<'a> {
    node: &'a Node,
    backup: bool,
    job: Job,
    pod: String,
    staging: PathBuf,
    begun: Instant,
    deadline: f64,
    restarts: u32,
}

impl Hook<'_> {
    /// Adds to what `--follow` prints.
    fn tell(&self, text: &str) {
        let _ = append(&self.job.stream(), text, false);
    }

    /// A line of the container's log, as bytes.
    fn log(&self, line: impl AsRef<[u8]>) {
        for path in [self.job.log(), self.job.stream()] {
            if let Ok(mut file) = fs::OpenOptions::new().append(true).create(true).open(path) {
                let _ = file.write_all(&[line.as_ref(), b"\n"].concat());
            }
        }
    }

    fn pod_state(&self, phase: &str, state: Value) {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.pod,
                "namespace": NAMESPACE,
                "creationTimestamp": now(),
                "labels": {"job-name": self.job.name},
            },
            "spec": {"nodeName": self.node.advertise_ip},
            "status": {
                "phase": phase,
                "containerStatuses": [{"name": "hook", "restartCount": self.restarts, "state": state}],
            },
        });
        if let Ok(bytes) = serde_json::to_vec_pretty(&pod) {
            let _ = replace(&pods(self.node).join(format!("{}.json", self.pod)), &bytes);
        }
    }

    fn late(&self) -> bool {
        self.begun.elapsed() >= self.node.real(self.deadline)
    }

    /// Waits until `seconds` after the beginning; the reason to stop, when there is one.
    fn wait_until(&self, seconds: f64) -> Option<End> {
        loop {
            if !self.job.exists() {
                return Some(End::Deleted);
            }
            if self.late() {
                return Some(End::Deadline);
            }
            let left = self.node.real(seconds).saturating_sub(self.begun.elapsed());
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Gathers the data of a backup, in as many steps as there are files.
    fn gather(&mut self) -> End {
        let node = self.node;
        let mib = node.number("archive-size", node.archive_mib as f64).unwrap_or(node.archive_mib as f64);
        let total = (mib * 1_048_576.0) as u64;
        self.log(format!("{} backup of anypoint {} begins", now(), node.app_version));
        let held = match content::files(&node.shared.join(content::CONTENT)) {
            Ok(held) => held,
            Err(error) => {
                self.log(format!("{} {error}", now()));
                return self.container_ends(1);
            }
        };
        let count = held.len().max(2);
        let mut names = held.iter();
        for at in 0..count {
            if at == count / 2
                && let Some(end) = self.mishap()
            {
                return end;
            }
            if at == 2 && node.has("hostile-output") {
                self.hostile();
            }
            if let Some((name, from)) = names.next() {
                match self.gather_one(name, from, total, at as u64) {
                    Ok(size) => self.log(format!("{} {name}: {size} bytes", now())),
                    Err(error) => {
                        self.log(format!("{} {name}: {error}", now()));
                        return self.container_ends(1);
                    }
                }
            }
            if let Some(end) = self.wait_until(seconds(node, true) * (at + 1) as f64 / count as f64) {
                return end;
            }
        }
        if node.has("deadline") {
            return self.never_ends();
        }
        self.log(format!("{} backup of anypoint ends", now()));
        End::Done
    }

    /// Copies one file of the cluster's state into staging, and adds bulk to it so that all of them
    /// together are `total` bytes; the size of both.
    fn gather_one(&self, name: &str, from: &Path, total: u64, seed: u64) -> io::Result<u64> {
        let path = self.staging.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let size = fs::copy(from, &path)?;
        let Some((_, _, share, compresses)) = content::FILES.iter().find(|(file, ..)| *file == name) else {
            return Ok(size);
        };
        let bulk = (total * share / 100).saturating_sub(size);
        if bulk > 0 {
            let path = self.staging.join(format!("{name}{}", content::BULK));
            if *compresses { text(&path, bulk, seed) } else { fill(&path, bulk, seed) }?;
        }
        Ok(size + bulk)
    }

    fn never_ends(&self) -> End {
        loop {
            if let Some(end) = self.wait_until(self.node.pretended(self.begun.elapsed()) + 1.0) {
                return end;
            }
        }
    }

    /// What lies in staging, without bulk: path → bytes.
    fn staged(&self) -> io::Result<BTreeMap<String, Vec<u8>>> {
        let all = content::files(&self.staging)?.into_iter().filter(|(name, _)| !name.ends_with(content::BULK));
        all.map(|(name, path)| Ok((name, fs::read(path)?))).collect()
    }

    /// Puts the data of a backup back: one part of the cluster's state after the other is erased
    /// and written anew, so that what ends in the middle leaves a cluster that is half one and half
    /// the other. What the archive does not hold is erased and stays so.
    fn put_back(&mut self) -> End {
        let node = self.node;
        self.log(format!("{} restore of anypoint begins", now()));
        let target = node.shared.join(content::CONTENT);
        let top = |name: &String| name.split('/').next().unwrap_or_default().to_owned();
        let (staged, held) = match (self.staged(), content::files(&target)) {
            (Ok(staged), Ok(held)) => (staged, held),
            (Err(error), _) | (_, Err(error)) => {
                self.log(format!("{} {error}", now()));
                return self.container_ends(1);
            }
        };
        let parts: BTreeSet<String> = staged.keys().map(top).chain(held.keys().map(top)).collect();
        let count = parts.len().max(2);
        let mut left = parts.iter();
        for at in 0..count {
            if at == count / 2
                && let Some(end) = self.mishap()
            {
                return end;
            }
            if let Some(part) = left.next() {
                if node.has("site-restarts-loses-staging") && !self.staging.exists() {
                    self.log(format!("{} open /var/lib/gravity/backup/{part}: no such file or directory", now()));
                    return self.container_ends(1);
                }
                let ours = staged.iter().filter(|(name, _)| top(name) == *part);
                match replace_part(&target, part, ours) {
                    Ok(count) => self.log(format!("{} {part}: {count} files restored", now())),
                    Err(error) => {
                        self.log(format!("{} {part}: {error}", now()));
                        return self.container_ends(1);
                    }
                }
            }
            if let Some(end) = self.wait_until(seconds(node, false) * (at + 1) as f64 / count as f64) {
                return end;
            }
        }
        self.log(format!("{} restore of anypoint ends", now()));
        End::Done
    }

    /// The faults that strike in the middle of the work.
    fn mishap(&mut self) -> Option<End> {
        let node = self.node;
        let fails = if self.backup { None } else { node.fault("restore-fails") };
        let fails = fails.or_else(|| node.fault("hook-fails"));
        if fails.is_some() || (self.backup && node.has("stale-file-kept")) {
            let line = fails.filter(|line| !line.is_empty());
            self.log(line.unwrap_or_else(|| {
                format!("{}: error: connection to server was lost", if self.backup { "pg_dump" } else { "pg_restore" })
            }));
            return Some(self.container_ends(1));
        }
        if !self.backup && node.has("restore-deadline") {
            return Some(self.never_ends());
        }
        if node.has("hook-killed") {
            return Some(self.container_ends(137));
        }
        let again = if node.has("backoff-limit") { Some(7.0) } else { node.number("hook-retry", 2.0) };
        for attempt in 1..=again.map_or(0, |again| again as u32) {
            self.log(format!("{} attempt {attempt} failed, exit code 1", now()));
            self.restarts += 1;
            self.pod_state("Running", json!({"running": {"startedAt": now()}}));
            self.tell(&format!(
                "Pod \"{}\" in namespace \"{NAMESPACE}\":\nContainer \"hook\" restarted, current state is \"running\".\n\n",
                self.pod
            ));
            let pause = seconds(node, self.backup) / 20.0;
            if let Some(end) = self.wait_until(self.node.pretended(self.begun.elapsed()) + pause) {
                return Some(end);
            }
        }
        node.has("backoff-limit").then(|| self.container_ends(1))
    }

    fn container_ends(&self, code: u8) -> End {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        self.pod_state(phase, json!({"terminated": {"exitCode": code, "finishedAt": now()}}));
        self.tell(&format!(
            "Pod \"{}\" in namespace \"{NAMESPACE}\", has changed state from \"Running\" to \"{phase}\".\nContainer \"hook\" changed status from \"running\" to \"terminated, exit code {code}\".\n\n",
            self.pod
        ));
        if code == 0 { End::Done } else { End::Failed }
    }

    /// Writes the job's end; the verdict's word for the count of runs.
    fn end(&self, end: End) -> &'static str {
        let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now()});
        match end {
            End::Done => {
                self.container_ends(0);
                self.tell(&format!(
                    "Job \"{}\" in namespace \"{NAMESPACE}\" has completed, {} elapsed.\n",
                    self.job.name,
                    humanized(self.node.pretended(self.begun.elapsed()))
                ));
                self.job.finish(json!({"type": "Complete", "status": "True", "lastTransitionTime": now()}), true);
                "Complete"
            }
            End::Deleted => {
                let _ = fs::remove_file(pods(self.node).join(format!("{}.json", self.pod)));
                "Deleted"
            }
            End::Deadline => {
                let _ = fs::remove_file(pods(self.node).join(format!("{}.json", self.pod)));
                let message = "Job was active longer than specified deadline";
                self.job.finish(condition("Failed", "DeadlineExceeded", message), false);
                "Failed"
            }
            End::Failed => {
                let message = "Job has reached the specified backoff limit";
                self.job.finish(condition("Failed", "BackoffLimitExceeded", message), false);
                "Failed"
            }
        }
    }

    /// Log lines that a careless reader would be hurt by.
    fn hostile(&self) {
        self.log(b"\x1b]0;owned\x07\x1b[2J\x1b[1;1H\x1b[31mred\x1b[0m \x1b[?1049h");
        self.log(
            "password=hunter2hunter2 token: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl AKIAIOSFODNN7EXAMPLE",
        );
        self.log("-----BEGIN PRIVATE KEY-----");
        self.log("{{ lookup('pipe', 'id') }} {% raw %} $(touch /tmp/owned) `id`");
        self.log("\u{202e}gnp.exe\u{2028}next");
        self.log([0xff, 0xfe, 0x00, 0x01, b'\r', 0x08, 0x9b, b'1', b'm'].as_slice());
        self.log("x".repeat(300_000));
        let lines = self.node.number("hostile-output", 200.0).unwrap_or(200.0) as u64;
        let mut many = String::new();
        for line in 0..lines {
            many.push_str(&format!("line {line} of {lines} from a hook that talks a lot\n"));
        }
        self.log(many.trim_end());
    }
}

/// Erases one part of the cluster's state and writes what the archive has of it; how many files.
fn replace_part<'a>(
    target: &Path,
    part: &str,
    files: impl Iterator<Item = (&'a String, &'a Vec<u8>)>,
) -> io::Result<usize> {
    let old = target.join(part);
    let removed = if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) };
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut count = 0;
    for (name, bytes) in files {
        let path = target.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)?;
        count += 1;
    }
    Ok(count)
}

/// A mebibyte that does not compress, made once.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut state: u64 = rand::random::<u64>() | 1;
        let mut bytes = Vec::with_capacity(1 << 20);
        while bytes.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes
    })
}

/// Writes `size` bytes that do not compress. gzip looks back 32 KiB, so a mebibyte that comes
/// again and again, each time with another beginning, is noise to it.
pub(crate) fn fill(path: &Path, size: u64, seed: u64) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    let (mut left, mut block) = (size, 0_u64);
    while left > 0 {
        let part = usize::try_from(left.min(1 << 20)).unwrap_or(1 << 20);
        let mut head = [seed.to_le_bytes(), block.to_le_bytes()].concat();
        head.truncate(part);
        file.write_all(&head)?;
        file.write_all(noise().get(head.len()..part).unwrap_or_default())?;
        left -= part as u64;
        block += 1;
    }
    Ok(())
}

/// Writes `size` bytes of text that compresses well.
fn text(path: &Path, size: u64, seed: u64) -> io::Result<()> {
    let mut block = String::new();
    let mut row = 0_u64;
    while block.len() < 1 << 16 {
        let value = (row + seed).wrapping_mul(2_654_435_761) % 1_000_003;
        block.push_str(&format!(
            "INSERT INTO organizations (id, owner, quota) VALUES ({row}, 'user-{value}', {seed});\n"
        ));
        row += 1;
    }
    let mut file = fs::File::create(path)?;
    let mut left = size;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        file.write_all(block.as_bytes().get(..part).unwrap_or_default())?;
        left -= part as u64;
    }
    Ok(())
}
