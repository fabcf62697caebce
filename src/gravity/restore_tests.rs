//! The restore's script under three shells, and every way in which it may end.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::super::target::tests::{SHELLS, run, shellcheck, tool};
use super::*;
use crate::remote::Exit;
use crate::remote::fake::{FakeSession, Reply};

const MARKER: &str = "ferry-restore-0123";

/// A work directory with an archive, and a gravity that notes how often it was called.
struct Bed {
    dir: tempfile::TempDir,
    job: RestoreJob,
}

impl Bed {
    fn new(gravity: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        std::fs::create_dir(&work).unwrap();
        std::fs::set_permissions(&work, std::fs::Permissions::from_mode(0o700)).unwrap();
        let archive = work.join("gravity's archive.tar.gz");
        std::fs::write(&archive, b"archive").unwrap();
        let calls = dir.path().join("calls");
        let body = format!("printf '%s %s\\n' \"$(umask)\" \"$*\" >>'{}'\n{gravity}", calls.display());
        let job = RestoreJob {
            gravity: tool(dir.path(), "gravity", &body),
            kubectl: tool(dir.path(), "kubectl", "echo the jobs"),
            archive: archive.display().to_string(),
            sha256: Sha256::of(b"archive"),
            bytes: 7,
            timeout: Duration::from_secs(4800),
            marker: MARKER.into(),
        };
        Self { dir, job }
    }
    fn run(&self, shell: &[&str]) -> (RestoreOutcome, i32, String) {
        let out = run(shell, &restore_script(&self.job).unwrap(), "/usr/bin:/bin");
        let log = [out.stdout, out.stderr].concat();
        let rc = out.status.code().unwrap();
        (RestoreOutcome::of(rc, &log, MARKER), rc, String::from_utf8_lossy(&log).into_owned())
    }
    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
    fn archive(&self) -> &Path {
        Path::new(&self.job.archive)
    }
}

#[test]
fn a_restore_is_run_once_with_the_usual_umask() {
    shellcheck(&restore_script(&Bed::new("").job).unwrap());
    for shell in SHELLS {
        let bed = Bed::new("echo restoring; exit 0");
        let (outcome, rc, log) = bed.run(shell);
        assert_eq!((outcome, rc), (RestoreOutcome::Restored, 0), "{shell:?}: {log}");
        let expected = format!("restore --follow --timeout=80m {}", bed.job.archive);
        let calls = bed.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        let (umask, words) = calls[0].split_once(' ').unwrap();
        assert_eq!((u32::from_str_radix(umask, 8).unwrap(), words), (0o022, expected.as_str()), "{shell:?}");
        assert!(!log.contains("the jobs"));
    }
}

/// Whatever is wrong with the file, gravity is not called, and that is certain.
#[test]
fn another_archive_is_never_restored() {
    type Change = fn(&mut Bed);
    let digest: [(&str, Change); 3] = [
        ("same size, other bytes", |bed| std::fs::write(bed.archive(), b"archivE").unwrap()),
        ("longer", |bed| std::fs::write(bed.archive(), b"archive+").unwrap()),
        ("empty", |bed| std::fs::write(bed.archive(), b"").unwrap()),
    ];
    let own: [(&str, Change); 8] = [
        ("gone", |bed| std::fs::remove_file(bed.archive()).unwrap()),
        ("a link", |bed| {
            let other = bed.dir.path().join("work/other");
            std::fs::rename(bed.archive(), &other).unwrap();
            std::os::unix::fs::symlink(other, bed.archive()).unwrap();
        }),
        ("a directory", |bed| {
            std::fs::remove_file(bed.archive()).unwrap();
            std::fs::create_dir(bed.archive()).unwrap();
        }),
        ("an open folder", |bed| {
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(bed.archive().parent().unwrap(), mode).unwrap();
        }),
        ("a link as folder", |bed| {
            let link = bed.dir.path().join("link");
            std::os::unix::fs::symlink(bed.dir.path().join("work"), &link).unwrap();
            bed.job.archive = link.join("gravity's archive.tar.gz").display().to_string();
        }),
        ("a relative path", |bed| bed.job.archive = "work/x".into()),
        ("a crooked path", |bed| bed.job.archive = bed.job.archive.replace("/work/", "/work/../work/")),
        ("no gravity", |bed| bed.job.gravity = "/nowhere/gravity".into()),
    ];
    for shell in SHELLS {
        for (name, change) in digest {
            let mut bed = Bed::new("exit 0");
            change(&mut bed);
            let (outcome, rc, log) = bed.run(shell);
            assert!(matches!(outcome, RestoreOutcome::RefusedDigest(_)), "{shell:?} {name}: {outcome:?} {log}");
            assert_eq!((rc, bed.calls().len()), (REFUSED_DIGEST, 0), "{shell:?} {name}");
            assert!(outcome.never_ran());
            let failure = outcome.failure(log.as_bytes()).unwrap();
            assert_eq!(failure.kind, Kind::Refused);
            assert!(failure.seen.unwrap().starts_with("the archive on the node"));
        }
        for (name, change) in own {
            let mut bed = Bed::new("exit 0");
            change(&mut bed);
            let (outcome, rc, log) = bed.run(shell);
            assert!(matches!(outcome, RestoreOutcome::NotRun(_)), "{shell:?} {name}: {outcome:?} {log}");
            assert_eq!((rc, bed.calls().len()), (OWN_FAILURE, 0), "{shell:?} {name}");
            assert_eq!(outcome.failure(log.as_bytes()).unwrap().kind, Kind::Failed);
        }
    }
}

#[test]
fn the_digest_is_read_with_whatever_tool_is_there() {
    let hex = Sha256::of(b"archive").to_string();
    for (tools, good) in [
        (vec![("openssl", format!("cat >/dev/null; printf 'SHA2-256(stdin)= {hex}\\n'"))], true),
        (vec![("openssl", format!("cat >/dev/null; printf '(stdin)= {}\\n'", hex.replace('a', "b")))], false),
        (vec![("shasum", format!("cat >/dev/null; printf '{hex}  -\\n'"))], true),
        (vec![("sha256sum", "exit 1".to_owned())], false),
        (vec![], false),
    ] {
        let bed = Bed::new("exit 0");
        let bin = bed.dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for name in ["awk", "cat", "date", "id", "ls", "stat", "tail", "wc", "sh"] {
            let real = ["/usr/bin", "/bin"].iter().map(|at| format!("{at}/{name}")).find(|it| Path::new(it).exists());
            std::os::unix::fs::symlink(real.unwrap(), bin.join(name)).unwrap();
        }
        for (name, body) in &tools {
            tool(&bin, name, body);
        }
        // The script puts the usual places before everything; here they are taken out again.
        let script = restore_script(&bed.job).unwrap();
        let (head, rest) = script.split_once("PATH=/usr/local/sbin").unwrap();
        let rest = rest.split_once('\n').unwrap().1;
        let script = format!("{head}{rest}");
        let out = run(&["/bin/dash"], &script, &bin.display().to_string());
        let outcome = RestoreOutcome::of(out.status.code().unwrap(), &out.stdout, MARKER);
        assert_eq!(outcome == RestoreOutcome::Restored, good, "{tools:?} {out:?}");
        assert_eq!(bed.calls().len(), usize::from(good), "{tools:?}");
    }
}

#[test]
fn nul_is_refused() {
    let mut job = Bed::new("").job;
    job.archive.push('\0');
    assert!(restore_script(&job).is_err());
}

fn log(said: &str, rc: i32, seconds: u64) -> String {
    format!(
        "\n{MARKER} jobs-before old-1a2b3c \n+ gravity restore\n\n{MARKER} begin 1795000000\n{said}\n{MARKER} rc {rc} {seconds}\n\n{MARKER} jobs-after old-1a2b3c \nferry: gravity ended with code {rc}\n"
    )
}

const STREAM: &str = "Created Pod \"anypoint-restore-1a2b3c-x7k2p\" in namespace \"kube-system\".\n";

/// The same words when the controller was never reached and when it went away in the middle of a silent hook: only
/// Kubernetes' jobs tell them apart, and where they were not told it is unknown.
#[test]
fn a_refused_connection_is_before_the_hook_only_when_no_job_is_new() {
    let error = "[ERROR]: dial tcp 10.100.1.1:3009: connect: connection refused\n";
    for (from, to, before) in [
        ("jobs-after old-1a2b3c ", "jobs-after old-1a2b3c ", true),
        ("jobs-after old-1a2b3c ", "jobs-after ", true),
        ("jobs-after old-1a2b3c ", "jobs-after old-1a2b3c new-4d5e6f ", false),
        ("jobs-after old-1a2b3c ", "jobs-after ?", false),
        ("jobs-before old-1a2b3c ", "jobs-before ?", false),
        ("jobs-before", "jobs-elsewhere", false),
        ("jobs-after", "jobs-elsewhere", false),
    ] {
        for seconds in [0, 5, 101] {
            let log = log(error, 255, seconds).replace(from, to);
            let outcome = RestoreOutcome::of(255, log.as_bytes(), MARKER);
            assert_eq!(matches!(outcome, RestoreOutcome::FailedBeforeHook(_)), before, "{to}: {outcome:?}");
            assert_eq!(outcome.hook_may_run(), !before, "{to}: {outcome:?}");
        }
    }
}

/// Text by text, in the forms of 5.x (plain) and 7.x (coloured, without a line end).
#[test]
fn every_end_is_told_apart() {
    type Tell = fn(&RestoreOutcome) -> bool;
    let before: Tell = |outcome| matches!(outcome, RestoreOutcome::FailedBeforeHook(_));
    let lost: Tell = |outcome| matches!(outcome, RestoreOutcome::ConnectionLostHookMayRun(_));
    let unknown: Tell = |outcome| matches!(outcome, RestoreOutcome::Unknown(_));
    let failed: Tell = |outcome| matches!(outcome, RestoreOutcome::HookFailed(_));
    let deadline: Tell = |outcome| matches!(outcome, RestoreOutcome::DeadlineExceeded(_));
    let site = "https://gravity-site.kube-system.svc.cluster.local:3009";
    let cases: Vec<(bool, String, u64, Tell, Kind)> = vec![
        (false, "this command should be run as root".into(), 0, before, Kind::Failed),
        (false, format!("no credentials for {site}"), 0, before, Kind::Failed),
        (false, format!("Please login to Ops Center: {site}"), 0, before, Kind::Failed),
        (false, "no server matching [10.0.0.1] found among registered cluster nodes".into(), 1, before, Kind::Failed),
        (
            false,
            "database /var/lib/gravity/local/gravity.db is locked, is another instance running?".into(),
            31,
            before,
            Kind::Failed,
        ),
        (
            false,
            "database /var/lib/gravity/local/gravity.db is locked, is another instance running?".into(),
            900,
            unknown,
            Kind::Unknown,
        ),
        (false, "anypoint:3.2.0 does not have restore hook".into(), 2, before, Kind::Failed),
        (
            false,
            "failed to open the tarball \"/x\" with backed up data\n\topen /x: no such file or directory".into(),
            2,
            before,
            Kind::Failed,
        ),
        (false, "unexpected EOF".into(), 200, before, Kind::Failed),
        (false, "archive/tar: invalid tar header".into(), 2, before, Kind::Failed),
        (
            false,
            "write /var/lib/gravity/planet/state/1/backup/x: no space left on device".into(),
            300,
            before,
            Kind::Failed,
        ),
        (false, "unknown long flag '--follow'".into(), 0, before, Kind::Failed),
        (false, "lookup gravity-site.kube-system.svc.cluster.local: no such host".into(), 5, before, Kind::Failed),
        (false, "dial tcp 10.100.1.1:3009: connect: connection refused".into(), 5, before, Kind::Failed),
        // However long it took: no job came into being.
        (false, "dial tcp 10.100.1.1:3009: connect: connection refused".into(), 101, before, Kind::Failed),
        (true, "dial tcp 10.100.1.1:3009: connect: connection refused".into(), 5, lost, Kind::Unknown),
        (false, format!("Post {site}/x: unexpected EOF"), 5, lost, Kind::Unknown),
        (false, "EOF".into(), 5, lost, Kind::Unknown),
        (true, "unexpected EOF".into(), 5, lost, Kind::Unknown),
        (true, "read tcp 10.0.0.1: i/o timeout".into(), 5, lost, Kind::Unknown),
        (true, "write /x: no space left on device".into(), 5, unknown, Kind::Unknown),
        (true, "this command should be run as root".into(), 5, unknown, Kind::Unknown),
        (true, "Job was active longer than specified deadline".into(), 4800, deadline, Kind::Failed),
        (true, "Job has reached the specified backoff limit".into(), 400, failed, Kind::Failed),
        (false, "Job has reached the specified backoff limit".into(), 400, failed, Kind::Failed),
        (true, "something new".into(), 400, unknown, Kind::Unknown),
    ];
    for (stream, error, seconds, tell, kind) in cases {
        let stream = if stream { STREAM } else { "" };
        for form in [format!("{stream}[ERROR]: {error}\n"), format!("{stream}\u{1b}[31m[ERROR]: {error}\n \u{1b}[0m")] {
            let log = log(&form, 255, seconds);
            let outcome = RestoreOutcome::of(255, log.as_bytes(), MARKER);
            assert!(tell(&outcome), "{form:?}: {outcome:?}");
            assert_eq!(outcome.hook_may_run(), kind == Kind::Unknown);
            let failure = outcome.failure(log.as_bytes()).unwrap();
            assert_eq!(failure.kind, kind, "{failure:?}");
            assert!(failure.seen.is_some() && failure.why.is_some() && failure.mend.is_some());
            if kind == Kind::Unknown {
                let mend = failure.mend.unwrap();
                assert!(CHECKS.iter().all(|check| mend.contains(check)), "{mend}");
            }
        }
    }
}

/// Half a log proves nothing.
#[test]
fn what_the_log_does_not_prove_is_unknown() {
    let unknown = |rc: i32, log: &str| {
        let outcome = RestoreOutcome::of(rc, log.as_bytes(), MARKER);
        assert!(matches!(outcome, RestoreOutcome::Unknown(_)), "{rc} {log:?}: {outcome:?}");
        assert_eq!(outcome.failure(log.as_bytes()).unwrap().kind, Kind::Unknown);
    };
    unknown(0, "");
    unknown(0, "all good");
    unknown(0, &format!("{MARKER} begin 1\n"));
    unknown(0, &log("", 255, 1));
    unknown(255, &log("", 0, 1));
    unknown(255, "[ERROR]: this command should be run as root");
    unknown(143, &log("", 143, 1));
    unknown(255, &log("", 255, 1));
    unknown(137, &format!("{MARKER} begin 1\n{STREAM}"));
    unknown(REFUSED_DIGEST, "ferry: the archive on the node is x");
    unknown(REFUSED_DIGEST, &format!("other-marker not-run digest\n{MARKER} begin 1\n"));
    unknown(REFUSED_DIGEST, &log("", REFUSED_DIGEST, 1));
    unknown(OWN_FAILURE, "ferry: x\n");
    unknown(0, &format!("{MARKER} not-run digest\n"));
    // A marker that began before, and words that deny it.
    unknown(REFUSED_DIGEST, &format!("{MARKER} begin 1\n{MARKER} not-run digest\n"));
    // The beginning is cut off: that no hook was seen proves nothing.
    unknown(255, &format!("[ERROR]: this command should be run as root\n{MARKER} rc 255 1\n"));
    // Restored needs the marker's own line, not a line like it.
    unknown(0, &format!("x{MARKER} rc 0 1\n"));
    assert_eq!(
        RestoreOutcome::of(0, format!("cut off\n{MARKER} rc 0 1\n").as_bytes(), MARKER),
        RestoreOutcome::Restored
    );
    assert!(matches!(RestoreOutcome::of(0, b"\n rc 0 1\n", ""), RestoreOutcome::Unknown(_)));
}

proptest::proptest! {
    #[test]
    fn no_log_panics_or_restores_by_itself(log in proptest::collection::vec(proptest::num::u8::ANY, 0..300), rc in -3i32..260) {
        let outcome = RestoreOutcome::of(rc, &log, MARKER);
        assert!(matches!(outcome, RestoreOutcome::Unknown(_)), "{outcome:?}");
    }
}

#[test]
fn the_limit_grows_with_the_archive_and_with_the_last_time() {
    let minutes = |bytes, last, set| restore_timeout(bytes, last, set).0.as_secs() / 60;
    assert_eq!(minutes(1, None, None), 80);
    assert_eq!(minutes(20_000_000_000, Some(40.0), None), 80);
    assert_eq!(minutes(20_000_000_001, None, None), 160);
    assert_eq!(minutes(1, Some(40.1), None), 160);
    assert_eq!(minutes(u64::MAX, Some(900.0), Some(Duration::from_secs(600))), 10);
    assert!(restore_timeout(1, Some(50.0), None).1.contains("50 minutes"));
}

fn evidence(jobs: &str, jobs_rc: i32, journal: &str, journal_rc: i32, processes: &str) -> Evidence {
    let out = format!(
        "\nN begin jobs.err\n\nN end jobs.err 0\n\nN begin jobs\n{jobs}\nN end jobs {jobs_rc}\n\nN begin journal\n{journal}\nN end journal {journal_rc}\n\nN begin processes\n{processes}\nN end processes 0\n\nN done\n"
    );
    read_evidence("N", out.as_bytes(), 1_795_000_000).unwrap()
}

#[test]
fn evidence_is_put_into_words_and_proves_nothing_done() {
    let at = |seconds: i64| jiff::Timestamp::from_second(seconds).unwrap().to_string();
    let job = |name: &str, seconds: i64, status: &str| {
        format!(r#"{{"metadata":{{"name":"{name}"}},"status":{{"startTime":"{}"{status}}}}}"#, at(seconds))
    };
    let complete = r#","conditions":[{"type":"Complete","status":"True"}]"#;
    let jobs = |all: &[String]| format!(r#"{{"items":[{}]}}"#, all.join(","));
    let new = 1_795_000_010;
    let running = evidence(
        &jobs(&[
            job("anypoint-restore-1a2b3c", new, ""),
            job("anypoint-backup-000000", 1_794_000_000, complete),
            job("cleanup", new, ""),
        ]),
        0,
        "Nov 24 02:00:00 dr-1 gravity-cli[1]: [RUNNING]: /usr/bin/gravity restore --follow /x\nNov 24 02:00:00 dr-1 gravity-cli[2]: [RUNNING]: /usr/bin/gravity status",
        0,
        "4242 /usr/bin/gravity restore --follow /x ",
    );
    assert!(running.still_running);
    let hooks: Vec<&str> = running.hooks.seen().unwrap().iter().map(|job| job.name.as_str()).collect();
    assert_eq!(hooks, ["anypoint-restore-1a2b3c"]);
    let journal = running.journal.seen().unwrap();
    assert_eq!((journal.len(), journal[0].ended.as_ref()), (1, None));
    assert!(running.sentences.iter().any(|sentence| sentence.contains("4242")), "{:?}", running.sentences);
    assert!(running.checks.iter().any(|check| check.contains("logs job/anypoint-restore-1a2b3c")));

    let over = evidence(
        &jobs(&[job("anypoint-restore-1a2b3c", new, complete)]),
        0,
        "a gravity-cli[1]: [RUNNING]: /usr/bin/gravity restore /x\nb gravity-cli[1]: [FAILURE]: /usr/bin/gravity restore /x: [ERROR]: EOF\nc gravity-cli: [SUCCESS]: /usr/bin/gravity restore /y",
        0,
        "",
    );
    assert!(!over.still_running);
    let journal = over.journal.seen().unwrap();
    assert_eq!(journal[0].ended.as_deref(), Some("[FAILURE]: [ERROR]: EOF"));
    assert_eq!(
        (journal[1].command.as_str(), journal[1].ended.as_deref()),
        ("/usr/bin/gravity restore /y", Some("[SUCCESS]"))
    );
    assert!(over.sentences.iter().any(|sentence| sentence.contains("does not say that the target is whole")));

    let nothing = evidence("The connection was refused", 1, "", 127, "");
    assert!(!nothing.still_running);
    assert_eq!(nothing.sentences.iter().filter(|sentence| sentence.contains("not known")).count(), 1);
    assert!(matches!((&nothing.hooks, &nothing.journal), (Look::Unknown(_), Look::Unknown(_))));
    assert!(evidence(&jobs(&[]), 0, "", 0, "").sentences.iter().any(|sentence| sentence.contains("no hook job")));
}

#[test]
fn the_evidence_is_gathered_under_three_shells() {
    let dir = tempfile::tempdir().unwrap();
    tool(dir.path(), "journalctl", "printf 'x gravity-cli[1]: [RUNNING]: gravity restore /x\\n'");
    let options = ProbeOptions {
        kubectl: tool(dir.path(), "kubectl", r#"printf '{"items":[{"metadata":{"name":"r-1a2b3c"}}]}'"#),
        ..ProbeOptions::default()
    };
    let script = evidence_script(&options, 5, "N").unwrap();
    shellcheck(&script);
    // A process that looks like the command, as the kernel tells it.
    let gravity = tool(dir.path(), "gravity", "exec sleep 60 # restore");
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", "read x", &gravity, "restore", "--follow"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    for shell in SHELLS {
        let out = run(shell, &script, &path);
        let seen = read_evidence("N", &out.stdout, 0).unwrap_or_else(|why| panic!("{shell:?} {why} {out:?}"));
        assert_eq!(seen.hooks.seen().map(Vec::len), Some(1), "{shell:?}");
        assert_eq!(seen.journal.seen().map(Vec::len), Some(1), "{shell:?}");
        let processes = seen.processes.seen().unwrap();
        assert!(processes.iter().any(|line| line.starts_with(&format!("{} ", child.id()))), "{shell:?} {processes:?}");
        assert!(seen.still_running);
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[tokio::test]
async fn half_an_answer_is_unknown() {
    for (out, exit, kind) in
        [("", Exit::Lost("reset".into()), Kind::Unreachable), ("\nnonce begin jobs\n", Exit::Code(0), Kind::Unknown)]
    {
        let reply = Reply { when: "look jobs".into(), out: out.into(), err: vec![], exit };
        let session = Session::Fake(FakeSession::new("dr-1", vec![reply]));
        let failure = reconcile_with_nonce(&session, &ProbeOptions::default(), 0, "nonce").await.unwrap_err();
        assert_eq!(failure.kind, kind);
    }
}
