//! The removing script under three shells against a real folder, and which folders are anybody's.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::super::target::tests::{SHELLS, run, shellcheck, tool};
use super::*;
use crate::gravity::{GravityFacts, Staging};

const NONCE: &str = "ferry-nonce";

struct Yard {
    dir: tempfile::TempDir,
    kubectl: String,
}

impl Yard {
    fn new(jobs: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let yard = Self { kubectl: String::new(), dir };
        let kubectl = tool(yard.dir.path(), "kubectl", &format!("cat <<'E'\n{jobs}\nE"));
        std::fs::create_dir_all(yard.staging().join("etc/deep")).unwrap();
        std::fs::write(yard.staging().join("etc/deep/secret"), "s").unwrap();
        std::fs::write(yard.dir.path().join("outside"), "stays").unwrap();
        Self { kubectl, ..yard }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("gravity")
    }

    fn staging(&self) -> PathBuf {
        self.state().join("planet/state/abc123/backup")
    }

    /// Lets the node's clock be ahead, so that what is there is old.
    fn later(&self, seconds: i64) -> String {
        let bin = self.dir.path().join("bin");
        let _ = std::fs::create_dir(&bin);
        let now = jiff::Timestamp::now().as_second() + seconds;
        tool(&bin, "date", &format!("echo {now}"));
        format!("{}:/usr/bin:/bin", bin.display())
    }

    fn script(&self, id: &str, over: bool, known: &[&str]) -> String {
        let folder = Leaked {
            host: "h".into(),
            path: self.staging().display().to_string(),
            id: id.into(),
            kib: 1,
            age_seconds: None,
            job: None,
            state: StagingJob::None,
            kept: None,
            state_dir: self.state().display().to_string(),
        };
        let options = ProbeOptions { kubectl: self.kubectl.clone(), ..ProbeOptions::default() };
        let jobs: Vec<Value> = known.iter().map(|name| json!({"metadata": {"name": name}})).collect();
        let state = if over { StagingJob::Failed } else { StagingJob::None };
        let script = script(&options, &folder, state, &jobs, NONCE).unwrap();
        // What else runs on this machine is nobody's business here.
        let proc = format!("R={}\n", quote(&self.proc().display().to_string()).unwrap());
        assert!(script.contains("\nR=/proc\n"));
        script.replace("R=/proc\n", &proc)
    }

    fn proc(&self) -> PathBuf {
        let proc = self.dir.path().join("proc");
        let _ = std::fs::create_dir_all(proc.join("self"));
        proc
    }

    #[track_caller]
    fn says(&self, shell: &[&str], id: &str, over: bool, path: &str, word: &str) {
        self.says_with(shell, id, over, &KNOWN, path, word);
    }

    #[track_caller]
    fn says_with(&self, shell: &[&str], id: &str, over: bool, known: &[&str], path: &str, word: &str) {
        let out = run(shell, &self.script(id, over, known), path);
        let text = String::from_utf8(out.stdout).unwrap();
        let said = text.lines().last().unwrap_or_default();
        assert_eq!(said, format!("{NONCE} {word}"), "{shell:?} {}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(std::fs::read_to_string(self.dir.path().join("outside")).unwrap(), "stays");
    }
}

const KNOWN: [&str; 2] = ["other-def456", "anypoint-backup-abc123"];
const NONE: &str = r#"{"apiVersion":"v1","items":[{"metadata":{"name":"other-def456"},"status":{}}]}"#;
const ONE: &str =
    r#"{"items":[{"metadata":{"labels":{"job-name":"anypoint-backup-abc123"},"name": "anypoint-backup-abc123"}}]}"#;

#[test]
fn the_script_is_clean() {
    shellcheck(&Yard::new(NONE).script("abc123", false, &KNOWN));
}

#[test]
fn a_quiet_folder_without_a_job_is_removed_and_nothing_else() {
    for shell in SHELLS {
        let yard = Yard::new(NONE);
        // A link within it is removed, not what it points to.
        symlink(yard.dir.path().join("outside"), yard.staging().join("link")).unwrap();
        symlink(yard.dir.path(), yard.staging().join("etc/folder")).unwrap();
        let beside = yard.state().join("planet/state/def456/backup");
        std::fs::create_dir_all(&beside).unwrap();
        let (now, later) = (yard.later(0), yard.later(601));
        yard.says(shell, "abc123", false, &later, "removed");
        assert!(!yard.staging().exists() && yard.staging().parent().unwrap().exists() && beside.exists());
        yard.says(shell, "abc123", false, &now, "gone");
    }
}

#[test]
fn what_changed_lately_stays_unless_its_job_ended() {
    for shell in SHELLS {
        let yard = Yard::new(NONE);
        // A time that was set back does not make it old.
        let file = yard.staging().join("etc/deep/secret");
        assert!(Command::new("touch").args(["-d", "2020-01-01"]).arg(&file).status().unwrap().success());
        for seconds in [-5000, 0, 590] {
            yard.says(shell, "abc123", false, &yard.later(seconds), "young");
        }
        assert!(file.exists());
        let yard = Yard::new(ONE);
        yard.says(shell, "abc123", true, &yard.later(0), "removed");
        assert!(!yard.staging().exists());
    }
}

#[test]
fn a_job_that_is_not_known_to_have_ended_keeps_it() {
    for shell in SHELLS {
        let yard = Yard::new(ONE);
        yard.says_with(shell, "abc123", false, &["other-def456"], &yard.later(601), "active");
        // Its job is told by the volume, whatever the job's name is; and a hook job that is new is anybody's.
        let named = r#"{"items":[{"metadata":{"name":"anypoint-backup-777777"},"spec":{"hostPath":{"path":"/ext/state/abc123/backup"}}}]}"#;
        let yard = Yard::new(named);
        yard.says_with(shell, "abc123", false, &["anypoint-backup-777777"], &yard.later(601), "active");
        yard.says_with(shell, "abc123", true, &["anypoint-backup-888888"], &yard.later(601), "active");
        let yard = Yard::new(r#"{"items":[{"metadata":{"name":"anypoint-backup-777777"}}]}"#);
        yard.says(shell, "abc123", false, &yard.later(601), "active");
        for jobs in ["", "The connection to the server was refused", "{}"] {
            let yard = Yard::new(jobs);
            yard.says(shell, "abc123", false, &yard.later(601), "kubectl");
        }
        let mut yard = Yard::new(NONE);
        yard.kubectl = tool(yard.dir.path(), "broken", &format!("echo '{NONE}'; exit 1"));
        yard.says(shell, "abc123", false, &yard.later(601), "kubectl");
        yard.kubectl = "/nonexistent/kubectl".to_owned();
        yard.says(shell, "abc123", false, &yard.later(601), "kubectl");
        assert!(yard.staging().exists());
    }
}

#[test]
fn no_link_is_followed_on_the_way() {
    for shell in SHELLS {
        for place in ["planet", "planet/state", "planet/state/abc123", "planet/state/abc123/backup"] {
            let yard = Yard::new(NONE);
            let (path, real) = (yard.state().join(place), yard.dir.path().join("real"));
            std::fs::rename(&path, &real).unwrap();
            symlink(&real, &path).unwrap();
            yard.says(shell, "abc123", false, &yard.later(601), "link");
            assert!(find(&real, "secret"), "{place}");
        }
        // The state directory itself may be a link: operators put it on another disk so.
        let yard = Yard::new(NONE);
        let real = yard.dir.path().join("disk");
        std::fs::rename(yard.state(), &real).unwrap();
        symlink(&real, yard.state()).unwrap();
        yard.says(shell, "abc123", false, &yard.later(601), "removed");
        let yard = Yard::new(NONE);
        for id in ["../abc", "ABC123", "abc12", "abc1234", "*", ""] {
            yard.says(shell, id, false, &yard.later(601), "form");
        }
        std::fs::remove_dir_all(yard.staging()).unwrap();
        std::fs::write(yard.staging(), "a file").unwrap();
        yard.says(shell, "abc123", false, &yard.later(601), "form");
        assert!(yard.staging().exists());
    }
}

fn find(dir: &Path, name: &str) -> bool {
    std::fs::read_dir(dir)
        .unwrap()
        .flatten()
        .any(|entry| entry.file_name() == name || entry.file_type().unwrap().is_dir() && find(&entry.path(), name))
}

#[test]
fn gravity_at_work_and_what_is_mounted_keep_it_whatever_the_job_says() {
    for shell in SHELLS {
        let yard = Yard::new(ONE);
        let proc = yard.proc();
        let process = |pid: &str, line: &[u8], root: &str| {
            let _ = std::fs::remove_dir_all(proc.join(pid));
            std::fs::create_dir(proc.join(pid)).unwrap();
            std::fs::write(proc.join(pid).join("cmdline"), line).unwrap();
            symlink(root, proc.join(pid).join("root")).unwrap();
        };
        for line in [
            &b"/usr/bin/gravity\0backup\0--follow\0/x\0"[..],
            b"gravity\0--debug\0restore\0/x",
            b"sh\0/usr/bin/gravity\0backup\0",
        ] {
            process("77", line, "/");
            yard.says(shell, "abc123", true, &yard.later(601), "busy");
        }
        assert!(yard.staging().join("etc/deep/secret").exists());
        process("77", b"gravity\0backup\0", "/nonexistent");
        yard.says(shell, "abc123", true, &yard.later(601), "busy");
        // In a container, another command, another program.
        process("77", b"/usr/bin/gravity\0backup\0", &yard.dir.path().display().to_string());
        process("78", b"/usr/bin/gravity\0status\0", "/");
        process("79", b"vi\0notes-on-gravity\0backup\0", "/");
        let mounts = proc.join("self/mountinfo");
        let line =
            |place: PathBuf| format!("1 0 0:1 / / rw - ext4 x rw\n36 35 98:0 / {} rw - ext4 x rw\n", place.display());
        for place in [yard.staging(), yard.staging().join("etc")] {
            std::fs::write(&mounts, line(place)).unwrap();
            yard.says(shell, "abc123", true, &yard.later(601), "mounted");
        }
        std::fs::write(&mounts, line(yard.state())).unwrap();
        yard.says(shell, "abc123", true, &yard.later(601), "removed");
    }
}

fn facts(staging: &[(&str, i64)]) -> NodeFacts {
    NodeFacts {
        host: "prod-1".into(),
        hostname: "prod-1".into(),
        uid: 0,
        epoch: 100_000,
        read_at: jiff::Timestamp::UNIX_EPOCH,
        boot_id: String::new(),
        addresses: Vec::new(),
        gravity: Some(GravityFacts {
            state_dir: "/var/lib/gravity".into(),
            version: None,
            status: None,
            status_rc: 0,
            status_error: String::new(),
            kube_jobs: None,
            kube_uid: None,
            staging: staging
                .iter()
                .map(|(path, mtime)| Staging { path: (*path).into(), kib: 7, mtime: *mtime })
                .collect(),
        }),
        not_gravity: None,
        kubernetes: None,
        disks: Default::default(),
        tools: Default::default(),
    }
}

#[test]
fn each_folder_has_its_job() {
    let job = |name: &str, folder: &str, condition: &str| {
        let conditions = if condition.is_empty() { json!([]) } else { json!([{"type": condition, "status": "True"}]) };
        let mut volumes = json!([]);
        if !folder.is_empty() {
            volumes = json!([{"hostPath": {"path": format!("/ext/state/{folder}/backup")}}]);
        }
        json!({"metadata": {"name": name}, "spec": {"volumes": volumes}, "status": {"conditions": conditions}})
    };
    let path = |id: &str| format!("/var/lib/gravity/planet/state/{id}/backup");
    let mut jobs = vec![
        job("anypoint-backup-111111", "aaaaaa", ""),
        job("anypoint-backup-222222", "bbbbbb", "Complete"),
        job("anypoint-restore-333333", "cccccc", "Failed"),
        job("anypoint-backup-dddddd", "", "Failed"),
        job("other-dddddd", "f0f0f0", ""),
        job("anypoint-backup-xeeeeee", "f1f1f1", ""),
        job("cleanup", "", ""),
    ];
    for (id, mtime, state, name) in [
        ("aaaaaa", 1, StagingJob::Active, "anypoint-backup-111111"),
        ("bbbbbb", 99_999, StagingJob::Complete, "anypoint-backup-222222"),
        ("cccccc", 0, StagingJob::Failed, "anypoint-restore-333333"),
        ("dddddd", 1, StagingJob::Active, "other-dddddd"),
        ("eeeeee", 100_000 - 600, StagingJob::None, ""),
    ] {
        let seen = leaked(&facts(&[(&path(id), mtime)]), Some(&jobs));
        assert_eq!((seen[0].state, seen[0].job.clone().unwrap_or_default().as_str()), (state, name), "{id}");
        assert_eq!(seen[0].kept.is_some(), state == StagingJob::Active, "{id}");
    }
    // Without a job it must have been quiet for ten minutes, by the node's clock.
    for mtime in [100_000 - 599, 0, 200_000] {
        let seen = leaked(&facts(&[(&path("eeeeee"), mtime)]), Some(&jobs));
        assert!(seen[0].kept.is_some(), "{mtime}");
    }
    let seen = leaked(&facts(&[(&path("bbbbbb"), 1)]), None);
    assert_eq!((seen[0].state, seen[0].kept.is_some()), (StagingJob::Unknown, true));
    // What is no staging folder is none, whatever a node says.
    for bad in
        ["/etc/aaaaaa/backup", "/var/lib/gravity/planet/state/../x/backup", "/var/lib/gravity/planet/state/aaaaaa"]
    {
        assert!(leaked(&facts(&[(bad, 1)]), Some(&jobs)).is_empty(), "{bad}");
    }
    // A hook job that does not say where it works may work anywhere.
    jobs.push(job("anypoint-backup-999999", "", ""));
    for id in ["bbbbbb", "cccccc", "eeeeee"] {
        assert_eq!(leaked(&facts(&[(&path(id), 1)]), Some(&jobs))[0].state, StagingJob::Active, "{id}");
    }
}
