//! What a stranger meets first: the demo, the point it leaves, `init`, `ping`, `run`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::path::Path;
use std::time::Duration;

use support::bed::{Bed, Said, ferry, run_limited};

fn in_demo(dir: &Path, words: &[&str]) -> Said {
    let mut command = ferry(Some(&dir.join("ferry.toml")), dir);
    command.args(words);
    run_limited(command, Duration::from_secs(60))
}

#[test]
fn the_demo_leaves_a_point_that_can_be_trusted() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("demo");
    let mut command = ferry(None, home.path());
    command.args(["demo", "--dir", dir.to_str().unwrap()]);
    let said = run_limited(command, Duration::from_secs(120));
    said.must(0, &["is sealed: verified", "digests and walk as in its manifest", "Try next"]);
    let shelf = dir.join("catalog/prod");
    let point = std::fs::read_dir(&shelf)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_dir() && path.join("manifest.json").exists())
        .unwrap();
    let id = point.file_name().unwrap().to_str().unwrap().to_owned();
    in_demo(&dir, &["points", "verify", &id]).must(0, &[]);

    // One flipped byte.
    let archive = point.join("gravity.tar.gz");
    let mut bytes = std::fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&archive, &bytes).unwrap();
    in_demo(&dir, &["points", "verify", &id]).must(9, &["gravity.tar.gz"]);
    in_demo(&dir, &["points", "list"]).must(0, &["damaged"]);

    // Without its manifest the point is no point.
    std::fs::remove_file(point.join("manifest.json")).unwrap();
    in_demo(&dir, &["points", "list"]).must(0, &["no point"]);
    let gone = in_demo(&dir, &["points", "verify", &id]);
    assert_ne!(gone.code, 0, "{}", gone.all());
}

#[test]
fn every_host_answers_and_a_run_speaks_json() {
    let bed = Bed::new(ferry::sandbox::pretend::Generation::G7);
    let said = bed.ferry(&["ping"]);
    said.must(0, &["prod-1", "dr-3", "root: yes"]);
    let said = bed.ferry(&["backup", "prod", "--output", "json"]);
    said.must(0, &[]);
    let events: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.first().unwrap()["event"], "run_started");
    assert_eq!(events.last().unwrap()["event"], "run_ended");
    for wanted in ["job_starting", "verified", "sealed", "line", "summary"] {
        assert!(events.iter().any(|event| event["event"] == wanted), "{wanted}");
    }
    let quiet = bed.ferry(&["backup", "prod", "--output", "quiet"]);
    quiet.must(0, &[]);
    assert!(quiet.all().lines().count() < 30, "{}", quiet.all());
    bed.ferry(&["runs", "list"]).must(0, &["backup prod"]);
    let run = bed.last_run();
    bed.ferry(&["runs", "show", run.file_name().unwrap().to_str().unwrap()]).must(0, &["is sealed"]);
}

#[test]
fn init_writes_what_can_be_read_and_overwrites_nothing() {
    let home = tempfile::tempdir().unwrap();
    let here = |words: &[&str]| {
        let mut command = ferry(None, home.path());
        command.args(words);
        run_limited(command, Duration::from_secs(30))
    };
    here(&["init"]).must(0, &["next:", "ferry ping"]);
    here(&["init"]).must(1, &["is not overwritten"]);
    let playbook = home.path().join("say.yml");
    std::fs::write(&playbook, "- hosts: prod:&mains\n  gather_facts: false\n  tasks:\n    - debug: { msg: hello }\n")
        .unwrap();
    here(&["run", "say.yml", "--list-hosts"]).must(0, &["prod-1", "prod-3"]);
    here(&["run", "say.yml", "--syntax-check"]).must(0, &[]);
}

#[test]
fn playbooks_do_what_they_say() {
    let bed = Bed::new(ferry::sandbox::pretend::Generation::G7);
    let path = bed.aside("work.yml");
    std::fs::write(
        &path,
        r#"
- name: Work
  hosts: prod
  gather_facts: false
  vars: { word: blue }
  tasks:
    - name: Ask
      command: hostname
      register: name
    - name: Once
      shell: echo "{{ word }} $(id -u)"
      run_once: true
      register: once
    - assert:
        that: [once.stdout == 'blue 0', name.rc == 0]
    - name: Never
      fail: { msg: no }
      when: word == 'red'
    - name: Guarded
      block:
        - command: "false"
      rescue:
        - set_fact: { saved: yes }
      always:
        - debug: { msg: "always {{ saved }}" }
    - command: "false"
      ignore_errors: true
"#,
    )
    .unwrap();
    let said = bed.ferry(&["run", path.to_str().unwrap()]);
    said.must(0, &["always"]);
    let bad = bed.aside("bad.yml");
    std::fs::write(&bad, "- hosts: prod\n  gather_facts: false\n  tasks:\n    - comand: x\n    - debug: { mesg: x }\n    - debug: { msg: x }\n      wehn: true\n").unwrap();
    bed.ferry(&["run", bad.to_str().unwrap()]).must(1, &["bad.yml:4:7", "bad.yml:5:", "bad.yml:7:"]);
    let fails = bed.aside("fails.yml");
    std::fs::write(&fails, "- hosts: prod\n  gather_facts: false\n  tasks:\n    - command: \"false\"\n").unwrap();
    bed.ferry(&["run", fails.to_str().unwrap()]).must(2, &[]);
}
