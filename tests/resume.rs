//! `ferry runs resume`: a run that failed or was killed is carried on at the step that did not finish.
//! The nodes themselves count what ran: a file on each holds one line a task.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ferry::event::Event;
use ferry::report::journal;
use ferry::sandbox::pretend::Generation;
use serde_json::Value;
use support::bed::{Bed, Said};

const HOSTS: [&str; 3] = ["prod-1", "prod-2", "prod-3"];

/// A path on a node.
fn on_node(bed: &Bed, host: &str, path: &str) -> PathBuf {
    bed.up.nodes.iter().find(|node| node.name == host).unwrap().root.join(path.trim_start_matches('/'))
}

/// What ran on a node, in order.
fn ran(bed: &Bed, host: &str) -> Vec<String> {
    let text = std::fs::read_to_string(on_node(bed, host, "/tmp/ran")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn forget(bed: &Bed) {
    for host in HOSTS {
        for name in ["/tmp/ran", "/tmp/broken", "/tmp/go"] {
            let _ = std::fs::remove_file(on_node(bed, host, name));
        }
    }
}

fn set(bed: &Bed, host: &str, path: &str, there: bool) {
    let path = on_node(bed, host, path);
    if there {
        std::fs::write(path, "").unwrap();
    } else {
        std::fs::remove_file(path).unwrap();
    }
}

fn playbook(bed: &Bed, name: &str, tasks: &str) -> String {
    let path = bed.aside(name);
    std::fs::write(&path, format!("- hosts: prod\n  gather_facts: false\n  tasks:\n{tasks}")).unwrap();
    // Relative: resume must find it from wherever it is called.
    name.to_owned()
}

/// The newest run's id.
fn newest(bed: &Bed) -> String {
    bed.last_run().file_name().unwrap().to_str().unwrap().to_owned()
}

/// Calls ferry in another folder than the run was started in.
fn elsewhere(bed: &Bed, args: &[&str]) -> Said {
    let folder = bed.aside("elsewhere");
    let _ = std::fs::create_dir(&folder);
    let mut command = support::bed::ferry(Some(&bed.up.config), &folder);
    command.args(args);
    support::bed::run_limited(command, Duration::from_secs(90))
}

fn lines(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

const FIVE: &str = r#"
    - name: one
      shell: 'echo 1 >>/tmp/ran; echo "value of {{ inventory_hostname }}"'
      register: first
    - name: two
      set_fact:
        mark: "mark of {{ inventory_hostname }}"
    - name: three
      shell: 'echo 3 >>/tmp/ran; test ! -e /tmp/broken'
    - name: four
      shell: 'echo 4 >>/tmp/ran; false'
      ignore_errors: true
    - name: five
      shell: 'echo "5 {{ first.stdout }}, {{ mark }}" >>/tmp/ran'
"#;

#[test]
fn what_was_done_is_not_done_again_and_its_values_are_there() {
    let bed = Bed::new(Generation::G7);
    let book = playbook(&bed, "five.yml", FIVE);
    set(&bed, "prod-2", "/tmp/broken", true);
    bed.ferry(&["run", &book]).must(2, &["three"]);
    let first = newest(&bed);
    let five = |host: &str| format!("5 value of {host}, mark of {host}");
    let whole = |host: &str| [lines(&["1", "3", "4"]), vec![five(host)]].concat();
    assert_eq!(ran(&bed, "prod-1"), whole("prod-1"));
    assert_eq!(ran(&bed, "prod-2"), lines(&["1", "3"]));
    // Still broken: it fails at the same step, and nothing else runs.
    elsewhere(&bed, &["runs", "resume", &first]).must(2, &["carries on run", "done in run"]);
    let second = newest(&bed);
    assert_ne!(first, second);
    assert_eq!(ran(&bed, "prod-2"), lines(&["1", "3", "3"]));
    // Mended. The first run's id leads to the second, which is the one that failed last.
    set(&bed, "prod-2", "/tmp/broken", false);
    elsewhere(&bed, &["runs", "resume", &first])
        .must(0, &[&format!("carries on run {second}"), &format!("done in run {first}")]);
    assert_eq!(ran(&bed, "prod-2"), [lines(&["1", "3", "3", "3", "4"]), vec![five("prod-2")]].concat());
    for host in ["prod-1", "prod-3"] {
        assert_eq!(ran(&bed, host), whole(host));
    }
    let third = newest(&bed);
    let listed = bed.ferry(&["runs", "list", "--json"]).json();
    let resumes: BTreeMap<&str, &Value> =
        listed.as_array().unwrap().iter().map(|run| (run["id"].as_str().unwrap(), &run["resumes"])).collect();
    assert_eq!(resumes[first.as_str()], &Value::Null);
    assert_eq!(resumes[second.as_str()], first.as_str());
    assert_eq!(resumes[third.as_str()], second.as_str());
    bed.ferry(&["runs", "list"]).must(0, &["carries on", &first]);
    bed.ferry(&["runs", "show", &first]).must(0, &[&format!("ferry runs resume {first}")]);
    // Nothing is left to do.
    for run in [&first, &second, &third] {
        elsewhere(&bed, &["runs", "resume", run]).must(0, &["nothing to resume"]);
    }
    assert_eq!(ran(&bed, "prod-2").len(), 6);
}

#[test]
fn what_cannot_be_carried_on_is_refused_by_name() {
    let bed = Bed::new(Generation::G7);
    let book = playbook(&bed, "five.yml", FIVE);
    set(&bed, "prod-2", "/tmp/broken", true);
    bed.ferry(&["run", &book]).must(2, &[]);
    let run = newest(&bed);
    bed.ferry(&["runs", "resume", "20990101"]).must(1, &["there is no run"]);
    bed.ferry(&["runs", "resume"]).must(5, &[]);
    // Another playbook.
    std::fs::write(bed.aside(&book), format!("- hosts: prod\n  tasks:\n{FIVE}\n# changed\n")).unwrap();
    let said = bed.ferry(&["runs", "resume", &run]);
    said.must(1, &["the playbook is another", "then sha256", "now sha256"]);
    playbook(&bed, "five.yml", FIVE);
    // Another inventory is told and taken.
    let inventory = bed
        .inventory("other.yml", &[("pce_cluster_name: pce-prod", "extra_word: x\n        pce_cluster_name: pce-prod")]);
    bed.ferry(&["runs", "resume", &run, "-i", &inventory]).must(2, &["the inventory is another"]);
    assert_eq!(ran(&bed, "prod-2"), lines(&["1", "3", "3"]));
    // A secret on the command line is in no journal.
    set(&bed, "prod-2", "/tmp/broken", false);
    set(&bed, "prod-3", "/tmp/broken", true);
    let typed = "ansible_become_password=tr0ub4dor-and-3";
    bed.ferry(&["run", &book, "-e", typed]).must(2, &[]);
    let masked = newest(&bed);
    bed.ferry(&["runs", "resume", &masked])
        .must(1, &["cannot be repeated", "no journal keeps a secret"])
        .never("tr0ub4dor");
    // A value that a later step may need, which was masked.
    let book = playbook(
        &bed,
        "secret.yml",
        "    - shell: 'echo {{ ansible_become_password }}'\n      register: kept\n    - shell: 'test ! -e /tmp/broken'\n",
    );
    let file = bed.aside("vars.yml");
    std::fs::write(&file, "ansible_become_password: tr0ub4dor-and-3\n").unwrap();
    bed.ferry(&["run", &book, "-e", "@vars.yml"]).must(2, &[]);
    elsewhere(&bed, &["runs", "resume", &newest(&bed)]).must(1, &["held a secret"]).never("tr0ub4dor");
}

/// Starts ferry and hands it over.
fn start(bed: &Bed, args: &[&str]) -> Child {
    let mut command = support::bed::ferry(Some(&bed.up.config), &bed.aside(""));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < Duration::from_secs(40), "never came: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// The runs that are there.
fn runs(bed: &Bed) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(bed.up.dir.join("runs")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join(journal::FILE).is_file()).collect()
}

/// Tasks that the journal holds as ended well: number and host.
fn recorded(run: &Path) -> Vec<(usize, String)> {
    let Ok(contents) = journal::read(&run.join(journal::FILE)) else { return Vec::new() };
    let ended = contents.events.into_iter().filter_map(|stamped| match stamped.event {
        Event::TaskEnded { number, host, .. } => Some((number, host)),
        _ => None,
    });
    ended.collect()
}

#[test]
fn killed_anywhere_nothing_that_the_journal_holds_runs_twice() {
    let bed = Bed::new(Generation::G7);
    let mut tasks = String::new();
    for number in 1..=6 {
        tasks += &format!("    - name: task {number}\n      shell: 'echo {number} >>/tmp/ran'\n");
    }
    let book = playbook(&bed, "six.yml", &tasks);
    let points: Vec<usize> =
        if std::env::var_os("FERRY_LONG").is_some() { (0..=18).collect() } else { vec![0, 1, 4, 9, 17] };
    let mut cut = 0;
    for after in points {
        forget(&bed);
        let before = runs(&bed);
        let mut child = start(&bed, &["run", &book, "-f", "1"]);
        let mut run = PathBuf::new();
        wait_for("the run", || {
            run = runs(&bed).into_iter().find(|run| !before.contains(run)).unwrap_or_default();
            !run.as_os_str().is_empty()
        });
        wait_for("that many tasks", || {
            recorded(&run).len() >= after && run.join(journal::FILE).metadata().unwrap().len() > 0
        });
        child.kill().unwrap();
        child.wait().unwrap();
        // What was on its way to a node when ferry died may still arrive.
        std::thread::sleep(Duration::from_millis(300));
        let done = recorded(&run);
        let id = run.file_name().unwrap().to_str().unwrap();
        elsewhere(&bed, &["runs", "resume", id]).must(0, &[]);
        for host in HOSTS {
            let ran = ran(&bed, host);
            for number in 1..=6_usize {
                let times = ran.iter().filter(|line| **line == number.to_string()).count();
                let known = done.contains(&(number, host.to_owned()));
                assert!(
                    times == 1 || times == 2 && !known,
                    "killed after {after}: task {number} on {host} ran {times} times: {ran:?}, known {known}"
                );
            }
            assert!(ran.len() <= 7, "{ran:?}: only the one that was cut off may run twice");
        }
        cut += usize::from(done.len() < 18);
    }
    assert!(cut >= 4, "most of the runs were cut off");
}

#[test]
fn a_run_that_goes_on_is_not_carried_on() {
    let bed = Bed::new(Generation::G7);
    let book = playbook(
        &bed,
        "wait.yml",
        "    - shell: 'echo 1 >>/tmp/ran'\n    - shell: 'while [ ! -e /tmp/go ]; do sleep 0.05; done'\n    - shell: 'echo 3 >>/tmp/ran'\n",
    );
    let mut child = start(&bed, &["run", &book]);
    wait_for("the first task", || runs(&bed).first().is_some_and(|run| recorded(run).len() == 3));
    let run = newest(&bed);
    bed.ferry(&["runs", "resume", &run]).must(7, &["still going on"]);
    child.kill().unwrap();
    child.wait().unwrap();
    // Two at once: one of them does it.
    let mut one = start(&bed, &["runs", "resume", &run]);
    wait_for("the second run", || runs(&bed).len() == 2);
    bed.ferry(&["runs", "resume", &run]).must(7, &["still going on"]);
    for host in HOSTS {
        set(&bed, host, "/tmp/go", true);
    }
    assert!(one.wait().unwrap().success());
    for host in HOSTS {
        assert_eq!(ran(&bed, host), lines(&["1", "3"]));
    }
}

const BLOCKS: &str = r#"
    - name: once
      shell: 'echo once >>/tmp/ran; echo only'
      run_once: true
      register: single
    - name: mended
      block:
        - shell: 'echo b1 >>/tmp/ran'
        - shell: 'echo b2 >>/tmp/ran; test "{{ inventory_hostname }}" = nobody'
        - shell: 'echo never >>/tmp/ran'
      rescue:
        - shell: 'echo r1 >>/tmp/ran'
    - name: tidied
      block:
        - shell: 'echo c1 >>/tmp/ran'
        - shell: 'echo c2 >>/tmp/ran; test ! -e /tmp/broken'
      always:
        - shell: 'echo a1 >>/tmp/ran'
    - name: last
      shell: 'echo "last {{ single.stdout }}" >>/tmp/ran'
"#;

#[test]
fn blocks_that_were_mended_stay_mended_and_always_follows_what_runs_again() {
    let bed = Bed::new(Generation::G7);
    let book = playbook(&bed, "blocks.yml", BLOCKS);
    set(&bed, "prod-2", "/tmp/broken", true);
    bed.ferry(&["run", &book]).must(2, &[]);
    let run = newest(&bed);
    let begin = ["b1", "b2", "r1", "c1", "c2", "a1"];
    assert_eq!(ran(&bed, "prod-1"), [&["once"][..], &begin, &["last only"]].concat());
    assert_eq!(ran(&bed, "prod-2"), begin);
    assert_eq!(ran(&bed, "prod-3"), [&begin[..], &["last only"]].concat());
    set(&bed, "prod-2", "/tmp/broken", false);
    bed.ferry(&["runs", "resume", &run]).must(0, &["which mended it"]);
    assert_eq!(ran(&bed, "prod-1"), [&["once"][..], &begin, &["last only"]].concat());
    assert_eq!(ran(&bed, "prod-2"), [&begin[..], &["c2", "a1", "last only"]].concat());
    assert_eq!(ran(&bed, "prod-3"), [&begin[..], &["last only"]].concat());
}

#[test]
fn a_rescue_that_failed_begins_again_at_what_failed() {
    let bed = Bed::new(Generation::G7);
    let tasks = "    - block:\n        - shell: 'echo b1 >>/tmp/ran'\n        - shell: 'echo b2 >>/tmp/ran; test ! -e /tmp/broken'\n      rescue:\n        - shell: 'echo r1 >>/tmp/ran'\n        - shell: 'echo r2 >>/tmp/ran; test ! -e /tmp/broken'\n    - shell: 'echo end >>/tmp/ran'\n";
    let book = playbook(&bed, "rescue.yml", tasks);
    for host in HOSTS {
        set(&bed, host, "/tmp/broken", true);
    }
    bed.ferry(&["run", &book]).must(2, &[]);
    let run = newest(&bed);
    for host in HOSTS {
        assert_eq!(ran(&bed, host), lines(&["b1", "b2", "r1", "r2"]));
        set(&bed, host, "/tmp/broken", false);
    }
    bed.ferry(&["runs", "resume", &run]).must(0, &[]);
    for host in HOSTS {
        assert_eq!(ran(&bed, host), lines(&["b1", "b2", "r1", "r2", "b2", "end"]));
    }
}

#[test]
fn a_backup_that_was_killed_is_carried_on_to_its_seal() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:hook-seconds=480"]);
    let mut child = start(&bed, &["backup", "prod", "--only", "gravity", "--label", "before the upgrade"]);
    wait_for("a job", || bed.jobs().iter().any(|job| job["state"] == "running"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(bed.points("prod").values().all(|state| state == "left over"));
    let run = newest(&bed);
    elsewhere(&bed, &["runs", "resume", &run]).must(0, &["taking over job", "is sealed: verified"]);
    assert_eq!(bed.runs("prod"), 1, "gravity ran once");
    let points = bed.points("prod");
    assert_eq!(points.values().map(String::as_str).collect::<Vec<_>>(), ["verified"]);
    assert!(support::bed::find_in_files(&bed.catalog(), b"before the upgrade").is_some());
    assert!(bed.jobs().is_empty());
    elsewhere(&bed, &["runs", "resume", &run]).must(0, &["nothing to resume"]);
}

#[test]
fn a_backup_that_was_refused_is_carried_on_with_a_waiver() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:disk=256000:10000", "prod:other-disk=51200:1000"]);
    bed.ferry(&["backup", "prod", "--only", "gravity"]).must(7, &["gate space"]);
    let run = newest(&bed);
    bed.ferry(&["runs", "resume", &run]).must(7, &["gate space"]);
    bed.ferry(&["runs", "resume", &run, "--waive", "space=planned growth"]).must(0, &["is sealed: verified"]);
    assert_eq!(bed.runs("prod"), 1);
}

#[test]
fn a_restore_that_was_killed_is_carried_on_with_the_point_it_had() {
    let bed = Bed::new(Generation::G7);
    let waive =
        ["--waive", "space=the disk of a test machine", "--waive", "safety_backup=a test", "--waive", "nfs=a test"];
    bed.ferry(&["backup", "prod", "--only", "gravity", "--waive", waive[1]]).must(0, &["is sealed"]);
    let first = bed.points("prod").into_keys().next().unwrap();
    bed.faults(&["dr:hook-seconds=900"]);
    let args =
        [&["restore", "latest", "--from", "prod", "--to", "dr", "--confirm", "dr", "--only", "gravity"][..], &waive]
            .concat();
    let mut child = start(&bed, &args);
    wait_for("a job", || bed.jobs().iter().any(|job| job["kind"] == "gravity-restore" && job["state"] == "running"));
    let run = newest(&bed);
    child.kill().unwrap();
    child.wait().unwrap();
    // The latest point is another one now.
    bed.ferry(&["backup", "prod", "--only", "gravity", "--waive", waive[1]]).must(0, &["is sealed"]);
    let said = elsewhere(&bed, &["runs", "resume", &run]);
    said.must(0, &["taking over job", &format!("Restore of prod/{first} into dr")]);
    let record = ferry::sandbox::record(&bed.up.dir).unwrap();
    let called = record.iter().filter(|line| line.act == "restore" && line.step == "called").count();
    assert_eq!(called, 1, "gravity restore ran once");
    assert!(bed.jobs().is_empty());
    elsewhere(&bed, &["runs", "resume", &run]).must(0, &["nothing to resume"]);
}

/// Commands for one host go out one ahead: what did not follow from a success did not run, and nothing ran twice.
#[test]
fn a_command_that_was_sent_ahead_runs_only_behind_a_success() {
    let bed = Bed::new(Generation::G7);
    let tasks = |lines: &[(&str, &str)]| {
        let mut text = "- hosts: prod-1\n  gather_facts: false\n  tasks:\n".to_owned();
        for (command, rest) in lines {
            text.push_str(&format!("    - shell: {command}\n{rest}"));
        }
        text
    };
    let cases: [(&str, &[(&str, &str)], i32, &str); 6] = [
        ("all go well", &[("echo 1 >>/tmp/ran", ""), ("echo 2 >>/tmp/ran", ""), ("echo 3 >>/tmp/ran", "")], 0, "1 2 3"),
        (
            "one fails",
            &[("echo 1 >>/tmp/ran", ""), ("echo 2 >>/tmp/ran; exit 3", ""), ("echo 3 >>/tmp/ran", "")],
            2,
            "1 2",
        ),
        (
            "its failure is ignored",
            &[
                ("echo 1 >>/tmp/ran; exit 3", "      ignore_errors: true\n"),
                ("echo 2 >>/tmp/ran", ""),
                ("echo 3 >>/tmp/ran", ""),
            ],
            0,
            "1 2 3",
        ),
        (
            "it fails by its own condition",
            &[("echo 1 >>/tmp/ran", "      failed_when: true\n"), ("echo 2 >>/tmp/ran", "")],
            2,
            "1",
        ),
        (
            "one is not wanted",
            &[
                ("echo 1 >>/tmp/ran", "      register: first\n"),
                ("echo 2 >>/tmp/ran", "      when: first.rc == 1\n"),
                ("echo 3 {{ first.rc }} >>/tmp/ran", ""),
                ("echo 4 >>/tmp/ran", "      args: { creates: /tmp/ran }\n"),
                ("echo 5 >>/tmp/ran", ""),
            ],
            0,
            "1 3 0 5",
        ),
        (
            "one is repeated",
            &[
                ("echo 1 >>/tmp/ran", ""),
                ("echo 2 {{ item }} >>/tmp/ran", "      loop: [a, b]\n"),
                ("echo 3 >>/tmp/ran", ""),
            ],
            0,
            "1 2 a 2 b 3",
        ),
    ];
    for (name, lines, code, expected) in cases {
        bed.ferry(&["exec", "prod-1", "--", "rm", "-f", "/tmp/ran"]).must(0, &[]);
        let book = playbook(&bed, "ahead.yml", &tasks(lines));
        bed.ferry(&["run", &book]).must(code, &[]);
        assert_eq!(ran(&bed, "prod-1").join(" "), expected, "{name}");
    }
}

/// An exit code of 0 is not all that decides whether, how and as whom the next task runs.
#[test]
fn nothing_is_sent_ahead_that_another_word_may_stop_or_change() {
    let bed = Bed::new(Generation::G7);
    let note = |at: u8| format!("echo {at} >>/tmp/ran");
    let (one, two, three) = (note(1), note(2), note(3));
    let cases: [(&str, String, i32, &str); 7] = [
        (
            "a condition that cannot be evaluated",
            format!("    - {{ shell: {one}, changed_when: nobody.knows }}\n    - shell: {two}\n"),
            2,
            "1",
        ),
        (
            "a handler that is not there",
            format!("    - {{ shell: {one}, notify: nobody }}\n    - shell: {two}\n"),
            2,
            "1",
        ),
        (
            "a word about the next task that cannot be rendered",
            format!("    - shell: {one}\n    - {{ shell: {two}, no_log: '{{{{ nobody.knows }}}}' }}\n"),
            2,
            "1",
        ),
        (
            "how many at once, which is no number",
            format!("    - shell: {one}\n    - {{ shell: {two}, throttle: '{{{{ nobody.knows }}}}' }}\n"),
            2,
            "1",
        ),
        (
            "a way that hangs on what was registered",
            format!(
                "    - {{ shell: {one}, register: first }}\n    - shell: {two}\n    - shell: {three}\n  vars:\n    \
                 ansible_ssh_timeout: '{{{{ patience }}}}'\n    patience: '{{{{ 7 if first is defined else 9 }}}}'\n"
            ),
            0,
            "1 2 3",
        ),
        (
            "a block that becomes by what was registered",
            format!(
                "    - become: '{{{{ first is defined and nobody.knows }}}}'\n      block:\n        - {{ shell: {one}, register: first }}\n        \
                 - shell: {two}\n"
            ),
            2,
            "1",
        ),
        (
            "the loop's own names",
            format!("    - shell: {one}\n    - shell: {two}; up; test -z \"$n$s$r\"\n    - shell: {three}\n"),
            0,
            "1 2 3",
        ),
    ];
    for (name, tasks, code, expected) in cases {
        bed.ferry(&["exec", "prod-1", "--", "rm", "-f", "/tmp/ran"]).must(0, &[]);
        let text = format!("- hosts: prod-1\n  gather_facts: false\n  tasks:\n{tasks}");
        std::fs::write(bed.aside("ahead.yml"), text).unwrap();
        bed.ferry(&["run", "ahead.yml"]).must(code, &[]);
        // What was sent all the same would run a little later.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(ran(&bed, "prod-1").join(" "), expected, "{name}");
    }
}
