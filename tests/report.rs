//! The windows behind the event door, from outside: what the journal keeps through crashes and full
//! disks, and what people see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ferry::event::{Event, Events, Finding, Outcome, Recorder as _, Severity, Stamped, Stream, SummaryLine, Window};
use ferry::failure::{Failure, Kind, Place};
use ferry::report::journal::{self, Journal};
use ferry::report::{Sink, Style, json, plain, render, terminal};
use ferry::secret::Masker;
use serde_json::json;

const RICH: Style = Style { colour: true, unicode: true };
const PALE: Style = Style { colour: false, unicode: true };
const BARE: Style = Style::BARE;

fn at(seq: u64) -> jiff::Timestamp {
    let start: jiff::Timestamp = "2026-11-23T04:15:00Z".parse().unwrap();
    start + jiff::SignedDuration::from_millis(i64::try_from(seq).unwrap() * 10)
}

fn stamped(seq: u64, event: Event) -> Stamped {
    Stamped { at: at(seq), seq, event }
}

fn started() -> Event {
    Event::RunStarted {
        format: journal::FORMAT,
        run: "20261123T041500Z-9c1e".into(),
        ferry: "0.1.0".into(),
        command: vec!["ferry".into(), "backup".into(), "prod".into()],
        user: "ops".into(),
        machine: "jump".into(),
        ci: None,
        dir: "runs/20261123T041500Z-9c1e".into(),
        cwd: None,
        playbook_sha256: None,
        inventory_sha256: None,
        resumes: None,
        point: None,
    }
}

fn starting(job: &str) -> Event {
    Event::JobStarting {
        job: job.into(),
        host: "prod-1".into(),
        kind: "gravity_backup".into(),
        cluster: "prod".into(),
        point: "20261123T041500Z-7f3a".into(),
        spec_sha256: "ab".repeat(32),
        meta: json!({"a": [1, 2.5, null, "x"], "big": u64::MAX}),
    }
}

fn note(text: &str) -> Event {
    Event::Note { host: None, text: text.into() }
}

fn ended(exit: u8) -> Event {
    Event::RunEnded {
        exit,
        seconds: 723.4,
        recap: BTreeMap::from([
            ("prod-1".to_owned(), BTreeMap::from([("ok".to_owned(), 12), ("changed".to_owned(), 3)])),
            ("prod-amv-1".to_owned(), BTreeMap::from([("ok".to_owned(), 4), ("failed".to_owned(), 0)])),
        ]),
    }
}

fn line(host: &str, stream: Stream, text: &str) -> Event {
    Event::Line { host: host.into(), stream, text: text.into() }
}

/// A failure with every field filled.
fn whole_failure() -> Failure {
    let text = "all:\n  children:\n    prod:\n      hosts: { prod-1: {ansible_prot: 22} }\n";
    let mut failure = Failure::new(Kind::CouldNotStart, "unknown variable \"ansible_prot\"")
        .on("prod-1")
        .in_text("inventory/hosts.yml", text, 4, 25)
        .saw("ansible_prot")
        .why("a connection variable that is not known would be ignored, and the host reached another way than meant")
        .mend("did you mean ansible_port?")
        .within("through bastion ops@bastion.example")
        .within("ssh prod-1")
        .again();
    failure.more.push(Failure::new(Kind::NoHost, "no host matches \"prdo\"").mend("ferry backup prod"));
    failure
}

/// At least one of every kind of event.
fn one_of_each() -> Vec<Event> {
    vec![
        started(),
        Event::Plan {
            title: "Back up prod".into(),
            lines: vec![
                "cluster  prod (pce-prod), PCE 5.1, 3 main nodes".into(),
                "node     prod-2: healthy, most room of the three main nodes (412 GiB free on /var/lib/data)".into(),
                "to       file:///srv/catalog/prod/20261123T041500Z-7f3a".into(),
            ],
        },
        Event::PlayStarted { play: "backup".into(), hosts: vec!["prod-1".into(), "prod-2".into()] },
        Event::TaskStarted { task: "Take the Gravity backup".into(), number: 3, of: 12, handler: false },
        Event::TaskEnded {
            task: "Take the Gravity backup".into(),
            host: "prod-1".into(),
            outcome: Outcome::Changed,
            seconds: 723.4,
            message: "1.2 GiB in /var/lib/data/ferry".into(),
            result: json!({"rc": 0}),
            number: 0,
            ignored: false,
            done_in: None,
        },
        Event::TaskEnded {
            task: "t".into(),
            host: "prod-2".into(),
            outcome: Outcome::Unreachable,
            seconds: 0.04,
            message: "connection refused\nby 192.0.2.7".into(),
            result: json!(null),
            number: 0,
            ignored: false,
            done_in: None,
        },
        Event::TaskEnded {
            task: "t".into(),
            host: "prod-3".into(),
            outcome: Outcome::Skipped,
            seconds: 0.0,
            message: String::new(),
            result: json!(null),
            number: 0,
            ignored: false,
            done_in: None,
        },
        Event::ItemEnded {
            task: "t".into(),
            host: "prod-1".into(),
            item: "a".into(),
            outcome: Outcome::Ok,
            ignored: false,
            result: json!({"changed": false}),
        },
        Event::Retrying { task: "t".into(), host: "prod-1".into(), item: None, left: 2, result: json!({"rc": 1}) },
        Event::Polled { host: "prod-1".into(), job: "j1.2".into(), finished: false, failed: false },
        Event::Included { what: "/p/more.yml".into(), label: Some("a".into()), hosts: vec!["prod-1".into()] },
        Event::NoHosts { pattern: "nobody".into() },
        Event::NoHostsLeft,
        line("prod-1", Stream::Log, "Mon Nov 23 04:16:02 UTC\tbackup of 12 databases: datenbank äöü 日本語 done"),
        line("prod-1", Stream::Err, &"long ".repeat(120)),
        Event::Logged { host: "prod-1".into(), from: 0, to: 17 },
        Event::Progress {
            what: "gravity.tar.gz".into(),
            host: "prod-1".into(),
            done: 734_003_200,
            total: Some(1_288_490_189),
            unit: "bytes".into(),
        },
        Event::Progress { what: "waiting".into(), host: String::new(), done: 75, total: None, unit: "seconds".into() },
        Event::Found {
            finding: Finding {
                gate: "health".into(),
                severity: Severity::Pass,
                host: None,
                what: "active, 3 of 3 nodes healthy".into(),
                why: String::new(),
                mend: String::new(),
            },
        },
        Event::Found {
            finding: Finding {
                gate: "space".into(),
                severity: Severity::Refuse,
                host: Some("prod-1".into()),
                what: "/var/lib/gravity would be 93 % full".into(),
                why: "Gravity degrades the node at 90 % and evicts pods at 95 %".into(),
                mend: "ferry backup prod --waive space=REASON".into(),
            },
        },
        Event::Note { host: Some("prod-1".into()), text: "taken over from ops@laptop".into() },
        Event::Warning { host: None, text: "the clocks of prod-1 and prod-3 differ by 41 s".into() },
        starting(&"0f".repeat(16)),
        Event::JobState { job: "0f".repeat(16), host: "prod-1".into(), state: "done".into(), rc: Some(0) },
        Event::JobCleaned { job: "0f".repeat(16), host: "prod-1".into() },
        Event::Verified {
            point: "20261123T041500Z-7f3a".into(),
            file: "gravity.tar.gz".into(),
            bytes: 1_288_490_189,
            sha256: "ab".repeat(32),
            members: 1234,
        },
        Event::Sealed {
            cluster: "prod".into(),
            point: "20261123T041500Z-7f3a".into(),
            path: "/srv/catalog/prod/20261123T041500Z-7f3a".into(),
            verdict: "verified".into(),
            complete: false,
        },
        Event::Summary {
            lines: vec![
                SummaryLine { word: "saved".into(), text: "databases, configuration, secrets, object store".into() },
                SummaryLine {
                    word: "not saved".into(),
                    text: "DNS, platform certificates (covered: settings/), drives, runtimes, monitoring metrics"
                        .into(),
                },
                SummaryLine {
                    word: "verified".into(),
                    text: "digest on the node, in the stream and on disk agree".into(),
                },
            ],
            next: vec!["ferry points verify prod/20261123T041500Z-7f3a".into()],
        },
        Event::Rescued { first: 2, hosts: vec!["prod-2".into()] },
        Event::Asking { question: "Existing data will be erased. Continue?".into() },
        Event::Answered { question: "Continue?".into(), answer: "y".into(), by: "pattern".into() },
        Event::Statistics {
            hosts: [("prod-1".to_owned(), json!({"n": 1}).as_object().cloned().unwrap_or_default())]
                .into_iter()
                .collect(),
            run: json!({"sum": 25}).as_object().cloned().unwrap_or_default(),
        },
        Event::Failed { failure: whole_failure() },
        ended(0),
        ended(8),
    ]
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

// ── the journal ──────────────────────────────────────────────────────────────────────────────

#[test]
fn every_event_comes_back_as_it_was() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("runs/r1");
    let mut kept = Vec::new();
    let mut journal = Journal::create(&dir).unwrap();
    for (seq, event) in (1..).zip(one_of_each()) {
        let event = stamped(seq, event);
        journal.record(&event, seq % 2 == 0).unwrap();
        kept.push(event);
    }
    drop(journal);
    let read = journal::read(&dir.join(journal::FILE)).unwrap();
    assert!(!read.torn && read.unknown == 0);
    let (logged, read): (Vec<_>, Vec<_>) =
        read.events.into_iter().partition(|event| matches!(event.event, Event::Logged { .. }));
    let wanted: Vec<_> =
        kept.into_iter().filter(|event| !matches!(event.event, Event::Line { .. } | Event::Logged { .. })).collect();
    assert_eq!(read, wanted);
    assert_eq!(logged.len(), 3, "one told, and the two lines that were made durable or followed by another event");
    assert_eq!(mode_of(&dir), 0o700);
    assert_eq!(mode_of(&dir.join(journal::HOSTS)), 0o700);
    assert_eq!(mode_of(&dir.join(journal::FILE)), 0o600);
    assert_eq!(mode_of(&journal::log_path(&dir, "prod-1")), 0o600);
    assert!(Journal::create(&dir).is_err(), "a journal is never written over");
}

#[test]
fn every_kind_of_event_is_known_by_its_name() {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for event in one_of_each() {
        let value = serde_json::to_value(&event).unwrap();
        seen.insert(value["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, journal::KINDS.iter().map(|kind| (*kind).to_owned()).collect());
    // What is read back names them all itself: one that is added and forgotten here is found.
    let refusal = serde_json::from_str::<Event>(r#"{"event":"no such kind"}"#).unwrap_err().to_string();
    let all = refusal.split_once("expected one of ").unwrap().1;
    let named: BTreeSet<String> = all.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(named, seen, "{refusal}");
}

#[test]
fn a_hundred_thousand_lines_are_where_the_journal_says() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("r");
    let hosts = ["prod-1", "prod-2", "../../etc/passwd"];
    let mut journal = Journal::create(&dir).unwrap();
    journal.record(&stamped(1, started()), true).unwrap();
    let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let texts: Vec<String> = (0..100_000).map(|n| format!("line {n} {}", "é".repeat(n % 50))).collect();
    let begin = Instant::now();
    for (seq, text) in (2..).zip(&texts) {
        // Runs of one host, with switches between hosts, and other events in between.
        let host = hosts[usize::try_from(seq / 7).unwrap() % 3];
        journal.record(&stamped(seq, line(host, Stream::Out, text)), false).unwrap();
        told.entry(host).or_default().push(text.clone());
        if seq % 10_000 == 0 {
            journal.record(&stamped(seq, note("between")), false).unwrap();
        }
    }
    let took = begin.elapsed();
    drop(journal);
    println!("100 000 lines in {took:?}");
    // 200 000 lines a second is wanted; an unoptimised build on a busy machine gets a tenth of it.
    assert!(took < Duration::from_secs(5), "{took:?}");

    let contents = journal::read(&dir.join(journal::FILE)).unwrap();
    let mut back: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    let mut records = 0;
    for event in &contents.events {
        if let Event::Logged { host, from, to } = &event.event {
            records += 1;
            assert_eq!(ends.insert(host.clone(), *to).unwrap_or(0), *from, "the places of {host} meet without gap");
            let lines = journal::log_lines(&dir, host, *from, *to).unwrap();
            assert_eq!(lines.last().unwrap().at, event.at, "a place carries the time of its last line");
            back.entry(host.clone()).or_default().extend(lines.into_iter().map(|line| line.text));
        }
    }
    for host in hosts {
        assert_eq!(back[host], told[host]);
        assert_eq!(std::fs::metadata(journal::log_path(&dir, host)).unwrap().len(), ends[host]);
    }
    assert!(records < 400, "{records} records: lines are told together");
    let outside: Vec<_> = std::fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside, ["r"], "nothing is written beside the run's folder");
}

#[test]
fn hostile_host_names_stay_in_their_folder_and_apart() {
    let long = "x".repeat(300);
    let longer = "x".repeat(301);
    let names = [
        "",
        ".",
        "..",
        "../a",
        "a/b",
        "a%2Fb",
        "%",
        "a b",
        "a\nb",
        "A",
        "a",
        ".hidden",
        "hidden",
        "ü",
        "u",
        "fe80::1%eth0",
        &long,
        &longer,
        "prod-1.example",
        "%2Ehidden",
        "-rf",
    ];
    let dir = Path::new("/run");
    let mut seen = BTreeSet::new();
    for name in names {
        let path = journal::log_path(dir, name);
        assert_eq!(path.parent().unwrap(), dir.join("hosts"), "{name:?}");
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(file.len() <= 255 && file.is_ascii() && !file.starts_with('.'), "{name:?} {file:?}");
        assert!(!file.contains(|c: char| c.is_control() || c.is_whitespace() || c == '/'), "{name:?} {file:?}");
        assert!(seen.insert(file), "{name:?} shares a file");
    }
    assert_eq!(journal::log_path(dir, "prod-1.example"), dir.join("hosts/prod-1.example.log"));
}

#[test]
fn cut_at_every_byte_the_journal_still_reads_and_invents_nothing() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("r");
    let mut journal = Journal::create(&dir).unwrap();
    for (seq, event) in (1..).zip(one_of_each()) {
        journal.record(&stamped(seq, event), false).unwrap();
    }
    drop(journal);
    let path = dir.join(journal::FILE);
    let bytes = std::fs::read(&path).unwrap();
    let whole = journal::read(&path).unwrap().events;
    let mut cuts = 0;
    for cut in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let lines = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
        let read = journal::read(&path).unwrap_or_else(|failure| panic!("cut at {cut}: {failure}"));
        assert_eq!(read.events, whole[..lines], "cut at {cut}");
        assert_eq!(read.torn, cut > 0 && bytes[cut - 1] != b'\n', "cut at {cut}");
        cuts += 1;
        if cut % 97 == 0 {
            let run = journal::summarise(&dir).unwrap();
            assert_eq!(
                run.exit.is_some(),
                whole[..lines].iter().any(|event| matches!(event.event, Event::RunEnded { .. }))
            );
        }
    }
    println!("{cuts} cuts");
    // Zeros at the end, as some file systems leave them after a power cut.
    let mut zeros = bytes.clone();
    zeros.extend([0; 512]);
    std::fs::write(&path, &zeros).unwrap();
    assert_eq!(journal::read(&path).unwrap().events, whole);
}

#[test]
fn damage_in_the_middle_is_told_with_its_place() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("r");
    let mut journal = Journal::create(&dir).unwrap();
    for seq in 2..6 {
        if seq == 2 {
            journal.record(&stamped(1, started()), false).unwrap();
        }
        journal.record(&stamped(seq, note("a note of some length")), false).unwrap();
    }
    drop(journal);
    let path = dir.join(journal::FILE);
    let good = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let with = |number: usize, text: &[u8]| {
        let mut out = Vec::new();
        for (at, line) in (1..).zip(&lines) {
            out.extend_from_slice(if at == number { text } else { line.as_bytes() });
            out.push(b'\n');
        }
        std::fs::write(&path, out).unwrap();
        journal::read(&path)
    };
    for (number, text) in [
        (3, &b"{\"at\":\"2026-11-23T04:15:00Z\",\"seq\":3,\"event\":\"no"[..]),
        (4, b""),
        (5, b"\xff\xfe"),
        (3, b"[]"),
        (3, b"{\"at\":\"2026-11-23T04:15:00Z\",\"seq\":3,\"event\":\"note\"}"),
        (3, b"{\"at\":\"noon\",\"seq\":3,\"event\":\"note\",\"text\":\"x\"}"),
        (1, b"{\"at\":\"2026-11-23T04:15:00Z\",\"seq\":1,\"event\":\"note\",\"text\":\"x\"}"),
    ] {
        let failure = with(number, text).unwrap_err();
        let place = failure.place.clone().unwrap();
        assert_eq!((place.file, place.line), (path.display().to_string(), number), "{text:?}");
        assert!(failure.snippet.is_some() && failure.seen.is_some() && failure.mend.is_some(), "{failure:?}");
    }
    // An event of a kind that was added later is no damage; neither are further fields.
    let later = b"{\"at\":\"2026-11-23T04:15:00Z\",\"seq\":3,\"event\":\"teleported\",\"to\":1}";
    let read = with(3, later).unwrap();
    assert_eq!((read.unknown, read.events.len()), (1, lines.len() - 1));
    let wider = lines[2].replace("\"event\"", "\"mood\":\"good\",\"event\"");
    assert_eq!(with(3, wider.as_bytes()).unwrap().events.len(), lines.len());
    // A newer format is refused by name, wherever the run was carried on by it.
    let newer = lines[0].replace("\"format\":1", "\"format\":2").replace("0.1.0", "9.9.9");
    for number in [1, 4] {
        let failure = with(number, newer.as_bytes()).unwrap_err();
        assert!(failure.what.contains("format 2") && failure.seen.unwrap().contains("9.9.9"), "{}", failure.what);
        assert_eq!(failure.place.unwrap().line, number);
    }
    assert!(journal::read(&base.path().join("none")).is_err());
}

#[test]
fn a_journal_begins_with_run_started() {
    let base = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(&base.path().join("r")).unwrap();
    assert!(journal.record(&stamped(1, note("x")), false).is_err());
    assert!(journal.record(&stamped(1, line("h", Stream::Out, "x")), false).is_err());
    let mut wrong = started();
    if let Event::RunStarted { format, .. } = &mut wrong {
        *format = 7;
    }
    assert!(journal.record(&stamped(1, wrong), false).is_err());
    assert!(journal.record(&stamped(1, started()), false).is_ok());
    assert!(journal.record(&stamped(2, note("x")), false).is_ok());
}

#[test]
fn counts_are_thinned_and_the_last_is_kept() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("r");
    let mut journal = Journal::create(&dir).unwrap();
    journal.record(&stamped(1, started()), false).unwrap();
    // 10 ms apart: ten seconds' worth.
    for seq in 2..=1001 {
        for host in ["a", "b"] {
            let event = Event::Progress {
                what: "x".into(),
                host: host.into(),
                done: seq,
                total: Some(1001),
                unit: "bytes".into(),
            };
            journal.record(&stamped(seq, event), false).unwrap();
        }
    }
    drop(journal);
    let counts: Vec<_> = journal::read(&dir.join(journal::FILE)).unwrap().events.into_iter().skip(1).collect();
    assert_eq!(counts.len(), 2 * 11, "the first, then one a second, and the last");
    assert!(matches!(&counts.last().unwrap().event, Event::Progress { done: 1001, .. }));
}

#[test]
fn a_run_that_is_carried_on_begins_behind_the_last_whole_line() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("r");
    let mut journal = Journal::create(&dir).unwrap();
    journal.record(&stamped(1, started()), true).unwrap();
    journal.record(&stamped(2, starting("j1")), true).unwrap();
    journal.record(&stamped(3, line("prod-1", Stream::Out, "one")), true).unwrap();
    assert!(Journal::append(&dir).is_err(), "two ferries on one journal");
    assert!(journal::summarise(&dir).unwrap().live);
    assert_eq!(journal::summarise(&dir).unwrap().state(), "running");
    drop(journal);
    let run = journal::summarise(&dir).unwrap();
    assert_eq!((run.live, run.state()), (false, "broken off"));
    // Killed within a record and within a host's line.
    let tear = |path: PathBuf, text: &[u8]| {
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text).unwrap();
    };
    tear(dir.join(journal::FILE), b"{\"at\":\"2026-");
    tear(journal::log_path(&dir, "prod-1"), b"2026-11-23T04:15:00.0");
    let mut journal = Journal::append(&dir).unwrap();
    journal.record(&stamped(1, started()), true).unwrap();
    journal.record(&stamped(2, line("prod-1", Stream::Log, "two")), false).unwrap();
    let state = |job: &str, state: &str| Event::JobState {
        job: job.into(),
        host: "prod-1".into(),
        state: state.into(),
        rc: None,
    };
    journal.record(&stamped(3, state("j1", "done")), false).unwrap();
    journal.record(&stamped(4, state("j2", "running")), false).unwrap();
    journal.record(&stamped(5, Event::JobCleaned { job: "j1".into(), host: "prod-1".into() }), false).unwrap();
    journal.record(&stamped(6, Event::Failed { failure: whole_failure() }), false).unwrap();
    journal.record(&stamped(7, ended(8)), true).unwrap();
    drop(journal);
    let read = journal::read(&dir.join(journal::FILE)).unwrap();
    assert!(!read.torn);
    let mut texts = Vec::new();
    for event in &read.events {
        if let Event::Logged { host, from, to } = &event.event {
            texts.extend(
                journal::log_lines(&dir, host, *from, *to).unwrap().into_iter().map(|line| (line.stream, line.text)),
            );
        }
    }
    assert_eq!(texts, [(Stream::Out, "one".to_owned()), (Stream::Log, "two".to_owned())]);
    let run = journal::summarise(&dir).unwrap();
    let jobs: Vec<_> = run.jobs.iter().map(|job| (job.job.as_str(), job.state.as_str(), job.cleaned)).collect();
    assert_eq!(jobs, [("j1", "done", true), ("j2", "running", false)]);
    assert_eq!((run.exit, run.state(), run.failures.len()), (Some(8), "open", 1));
    assert_eq!(run.cluster.as_deref(), Some("prod"));
    assert_eq!(run.point.as_deref(), Some("20261123T041500Z-7f3a"));
    assert_eq!(run.command, ["ferry", "backup", "prod"]);
    assert_eq!((run.started, run.ended), (Some(at(1)), Some(at(7))));

    let all = journal::list(base.path()).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].1.as_ref().unwrap(), &run);
    assert!(journal::list(&base.path().join("none")).unwrap().is_empty());
}

#[test]
fn a_journal_that_was_removed_is_an_error_of_the_next_commit() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("r");
    let journal = Journal::create(&dir).unwrap();
    let events = Events::new(Masker::new(), Some(Box::new(journal)), vec![]);
    events.commit(started()).unwrap();
    std::fs::remove_file(dir.join(journal::FILE)).unwrap();
    assert!(events.commit(starting("j")).unwrap_err().seen.unwrap().contains(journal::FILE));
}

#[test]
fn lines_reach_the_disk_by_the_clock() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("r");
    let mut journal = Journal::create(&dir).unwrap();
    journal.record(&stamped(1, started()), false).unwrap();
    journal.record(&stamped(2, line("h", Stream::Out, "quiet afterwards")), false).unwrap();
    let begin = Instant::now();
    while journal::read(&dir.join(journal::FILE)).unwrap().events.len() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(journal);
}

/// This test binary again, in a shell of our making, running one test with a word in its environment.
fn again(test: &str, dir: &Path, shell: &[&str]) -> Command {
    let me = std::env::current_exe().unwrap();
    let mut words: Vec<String> = shell.iter().map(|word| (*word).to_owned()).collect();
    words.extend([
        me.display().to_string(),
        test.into(),
        "--exact".into(),
        "--nocapture".into(),
        "--test-threads=1".into(),
    ]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("FERRY_TEST_INNER", dir);
    command
}

fn inner() -> Option<PathBuf> {
    std::env::var_os("FERRY_TEST_INNER").map(PathBuf::from)
}

#[test]
fn what_was_committed_survives_kill_nine() {
    if let Some(dir) = inner() {
        let events = Events::new(Masker::new(), Some(Box::new(Journal::create(&dir).unwrap())), vec![]);
        events.commit(started()).unwrap();
        println!();
        for number in 0.. {
            events.line("prod-1", Stream::Out, format!("before {number}").as_bytes());
            events.commit(starting(&format!("{number}"))).unwrap();
            println!("committed {number}");
            events.line("prod-1", Stream::Out, b"after");
            events.note(None, "told");
        }
    }
    let base = tempfile::tempdir().unwrap();
    let mut total = 0;
    for round in 0..10 {
        let dir = base.path().join(format!("{round}"));
        let mut child =
            again("what_was_committed_survives_kill_nine", &dir, &["env"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut last = None;
        let mut text = String::new();
        while last.is_none_or(|last| last < 3 + round * 7) {
            text.clear();
            assert!(said.read_line(&mut text).unwrap() > 0, "the child ended early");
            last = text.trim().strip_prefix("committed ").map_or(last, |number| number.parse::<u64>().ok());
        }
        std::thread::sleep(Duration::from_micros(round * 131));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        // A torn last line of output is none that was said.
        let said_last = rest
            .split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n')?.strip_prefix("committed ")?.parse::<u64>().ok())
            .next_back()
            .or(last)
            .unwrap();
        let read = journal::read(&dir.join(journal::FILE)).unwrap();
        let mut jobs = Vec::new();
        let mut lines = Vec::new();
        for event in &read.events {
            match &event.event {
                Event::JobStarting { job, .. } => jobs.push(job.parse::<u64>().unwrap()),
                Event::Logged { host, from, to } => {
                    lines.extend(journal::log_lines(&dir, host, *from, *to).unwrap().into_iter().map(|line| line.text));
                }
                _ => {}
            }
        }
        assert_eq!(jobs, (0..jobs.len() as u64).collect::<Vec<_>>());
        assert!(jobs.len() as u64 > said_last, "{said_last} was committed, {} are there", jobs.len());
        assert!(lines.contains(&format!("before {said_last}")), "a commit takes the lines before it along");
        total += jobs.len();
    }
    println!("10 kills, {total} commits");
}

/// The story of a disk that fills and gets room again. `fill` leaves no room for a record, `free`
/// gives room.
fn full_disk(dir: &Path, fill: &mut dyn FnMut(), free: &mut dyn FnMut()) {
    let run = dir.join("run");
    let window = Window::default();
    let events = Events::new(Masker::new(), Some(Box::new(Journal::create(&run).unwrap())), vec![window.clone()]);
    events.commit(started()).unwrap();
    for number in 0..50 {
        events.line("prod-1", Stream::Out, format!("good {number}").as_bytes());
    }
    events.commit(starting("before")).unwrap();

    fill();
    let path = run.join(journal::FILE);
    // A file may have room in its last block.
    for _ in 0..3 {
        events.note(None, "x".repeat(3000));
    }
    events.line("prod-1", Stream::Out, b"while full");
    events.note(None, "told while full");
    let refused = events.commit(starting("never")).unwrap_err();
    println!("refused with: {}", refused.seen.clone().unwrap());
    assert!(refused.mend.is_some());
    let read = journal::read(&path).unwrap();
    assert!(!read.torn, "no half record stays");
    assert!(events.commit(starting("never either")).is_err());
    // More than memory is given to it: lost, and counted.
    let long = "x".repeat(8000);
    for _ in 0..300 {
        events.line("prod-1", Stream::Out, long.as_bytes());
        events.note(None, &*long);
    }

    free();
    // What was lost since is an error of the next commit, once.
    let first = events.commit(Event::JobState {
        job: "before".into(),
        host: "prod-1".into(),
        state: "done".into(),
        rc: Some(0),
    });
    assert!(first.is_err());
    events.commit(starting("after")).unwrap();
    drop(events);

    let read = journal::read(&path).unwrap();
    assert!(!read.torn);
    let jobs: Vec<String> = read
        .events
        .iter()
        .filter_map(|event| match &event.event {
            Event::JobStarting { job, .. } => Some(job.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(jobs, ["before", "after"], "an intent that was refused is nowhere");
    assert!(read.events.iter().any(|event| event.event == note("told while full")), "what was told waited for room");
    assert!(read.events.iter().any(|event| matches!(&event.event, Event::JobState { state, .. } if state == "done")));
    let warned = read
        .events
        .iter()
        .any(|event| matches!(&event.event, Event::Warning { text, .. } if text.contains("events are missing here")));
    assert!(warned, "the gap is told");
    let mut lines = Vec::new();
    for event in &read.events {
        if let Event::Logged { host, from, to } = &event.event {
            lines.extend(journal::log_lines(&run, host, *from, *to).unwrap());
        }
    }
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts.iter().filter(|text| text.starts_with("good ")).count(), 50);
    assert!(texts.contains(&"while full"));
    let remark = lines.iter().find(|line| line.stream == Stream::Us).expect("the gap is told in the host's log");
    let lost: usize = remark.text.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(lost + texts.iter().filter(|text| text.starts_with("xxx")).count(), 300, "{}", remark.text);
    println!("story told to the end");
}

#[test]
fn a_full_disk_refuses_intents_and_keeps_the_rest_for_later() {
    if let Some(dir) = inner() {
        let filler = dir.join("filler");
        let fill_path = filler.clone();
        full_disk(
            &dir,
            &mut || {
                let mut file = std::fs::File::create(&fill_path).unwrap();
                let block = [7; 512];
                while file.write_all(&block).is_ok() {}
            },
            &mut || std::fs::remove_file(&filler).unwrap(),
        );
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=8m ferry-test \"$FERRY_TEST_INNER\" && exec \"$0\" \"$@\"";
    let mut plans = vec![vec!["unshare", "--mount", "sh", "-c", mount]];
    plans.push(vec!["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]);
    let mut said = String::new();
    for plan in plans {
        let out =
            again("a_full_disk_refuses_intents_and_keeps_the_rest_for_later", base.path(), &plan).output().unwrap();
        said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        if said.contains("running 1 test") {
            break;
        }
    }
    if !said.contains("running 1 test") {
        // The kernel gives no mount of our own; the limit on file sizes (the next test) tells the same story.
        println!("no tmpfs of our own here: {said}");
        return;
    }
    assert!(said.contains("story told to the end"), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(std::fs::read_dir(base.path()).unwrap().next().is_none(), "the mount ended with its process");
}

#[test]
fn a_write_that_stops_halfway_leaves_no_half_record() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if let Some(dir) = inner() {
        let path = dir.join("run").join(journal::FILE);
        let limit = |current| {
            setrlimit(Resource::Fsize, Rlimit { current, maximum: getrlimit(Resource::Fsize).maximum }).unwrap()
        };
        full_disk(
            &dir,
            // Room for a part of a record: the write is cut off in its middle.
            &mut || limit(Some(std::fs::metadata(&path).unwrap().len() + 37)),
            &mut || limit(getrlimit(Resource::Fsize).maximum),
        );
        return;
    }
    let base = tempfile::tempdir().unwrap();
    // Ignored, the signal of the limit becomes an error of the write.
    let shell = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    let out = again("a_write_that_stops_halfway_leaves_no_half_record", base.path(), &shell).output().unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("story told to the end") && out.status.success(), "{said}");
    assert!(said.contains("File too large"), "{said}");
}

// ── what people see ──────────────────────────────────────────────────────────────────────────

/// Text without our own colours; panics on any other control character.
fn bare(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('\x1b') {
        out.push_str(&rest[..start]);
        let end = rest[start..].find('m').expect("an escape that is no colour") + start;
        assert!(
            ["\x1b[0", "\x1b[1", "\x1b[2", "\x1b[31", "\x1b[32", "\x1b[33", "\x1b[36"].contains(&&rest[start..end]),
            "{text:?}"
        );
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    assert!(!out.contains(char::is_control), "{out:?}");
    out
}

fn picture() -> String {
    let mut out = String::new();
    for (name, style, width) in [
        ("unicode, 80 columns", PALE, 80),
        ("unicode, 40 columns", PALE, 40),
        ("ASCII, 120 columns", BARE, 120),
        ("ASCII, 40 columns", BARE, 40),
        ("colours, 80 columns", RICH, 80),
    ] {
        out.push_str(&format!("════ {name}\n"));
        for (seq, event) in (1..).zip(one_of_each()) {
            for line in render(&stamped(seq, event), width, style) {
                out.push_str(&line.replace('\x1b', "␛"));
                out.push('\n');
            }
        }
    }
    out.push_str("════ plain\n");
    for (seq, event) in (1..).zip(one_of_each()) {
        for line in plain::lines(&stamped(seq, event), PALE) {
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

#[test]
fn every_event_looks_as_it_did() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/picture.txt");
    let now = picture();
    if std::env::var_os("FERRY_TEST_REDRAW").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &now).unwrap();
    }
    let was = std::fs::read_to_string(&path).expect("tests/report/picture.txt");
    for (number, (now, was)) in (1..).zip(now.lines().zip(was.lines())) {
        assert_eq!(now, was, "line {number}; when the change is meant: FERRY_TEST_REDRAW=1 cargo test --test report");
    }
    assert_eq!(now.lines().count(), was.lines().count());
}

#[test]
fn no_line_is_wider_than_asked_in_any_style() {
    for width in [1, 20, 23, 40, 41, 57, 80, 120, 200] {
        for style in [RICH, PALE, BARE] {
            for (seq, event) in (1..).zip(one_of_each()) {
                for line in render(&stamped(seq, event), width, style) {
                    let text = bare(&line);
                    assert!(console::measure_text_width(&text) <= width.max(20), "{width}: {text:?}");
                    assert!(style.colour || !line.contains('\x1b'));
                    assert!(style.unicode || text.is_ascii(), "{text:?}");
                }
            }
        }
    }
}

#[test]
fn a_caret_stands_under_its_character() {
    for (text, column, under) in [
        ("a: [1, 2", 4, '['),
        ("日本語: [", 6, '['),
        (&*format!("{}: [", "x".repeat(140)), 143, '['),
        ("\u{202e}: é[", 5, '['),
    ] {
        let failure = Failure::new(Kind::CouldNotStart, "x").in_text("f.yml", text, 1, column);
        for (width, style) in [(40, PALE), (80, PALE), (40, BARE), (200, BARE)] {
            let lines = render(&stamped(1, Event::Failed { failure: failure.clone() }), width, style);
            let caret = lines.iter().position(|line| line.ends_with('^')).unwrap();
            let before = lines[caret].split_once('^').unwrap().0;
            // The character whose cells begin where the caret's cell is.
            let wanted = console::measure_text_width(before);
            let mut cell = 0;
            let shown = lines[caret - 1].chars().find(|c| {
                let here = cell;
                cell += console::measure_text_width(&c.to_string());
                here == wanted
            });
            if text.starts_with('\u{202e}') {
                // What is written out as \u{202e} is longer than the one character that the column counted.
                assert!(caret > 0);
            } else {
                assert_eq!(shown, Some(under), "{width} {lines:#?}");
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]
    #[test]
    fn hostile_texts_break_no_picture(texts in proptest::collection::vec("(\\PC|\\s|[\\x00-\\x1f\\x7f\u{80}-\u{9f}\u{202e}\u{200d}\u{fe0f}👩日]){0,90}", 6), width in 20_usize..130, pick in 0..3_usize) {
        let style = [RICH, PALE, BARE][pick];
        let mut failure = Failure::new(Kind::Failed, texts[0].clone()).on(&texts[1]).saw(texts[2].clone()).why(texts[3].clone()).within(texts[4].clone()).mend(texts[5].clone());
        failure.snippet = Some(texts[2].clone());
        failure.place = Some(Place { file: texts[3].clone(), line: usize::MAX, column: 1 });
        let text = |at: usize| texts[at].clone();
        let events = vec![
            Event::Failed { failure },
            line(&texts[0], Stream::Out, &texts[1]),
            Event::Plan { title: text(0), lines: texts.clone() },
            Event::Summary { lines: vec![SummaryLine { word: text(0), text: text(1) }, SummaryLine { word: text(2), text: text(3) }], next: vec![text(4)] },
            Event::Found { finding: Finding { gate: text(0), severity: Severity::Warn, host: Some(text(1)), what: text(2), why: text(3), mend: text(4) } },
            Event::TaskEnded { task: text(0), host: text(1), outcome: Outcome::Failed, seconds: f64::INFINITY, message: text(2), result: json!(null), number: 0, ignored: false, done_in: None },
            Event::PlayStarted { play: text(0), hosts: texts.clone() },
            Event::RunEnded { exit: 3, seconds: -1.0, recap: BTreeMap::from([(text(0), BTreeMap::from([(text(1), u64::MAX)]))]) },
            Event::Progress { what: text(0), host: text(1), done: u64::MAX, total: Some(1), unit: text(2) },
        ];
        for event in events {
            let event = stamped(1, event);
            for line in render(&event, width, style) {
                let text = bare(&line);
                proptest::prop_assert!(console::measure_text_width(&text) <= width, "{} {:?}", width, text);
                proptest::prop_assert!(style.unicode || text.is_ascii());
            }
            for line in plain::lines(&event, style) {
                bare(&line);
            }
        }
    }
}

#[test]
fn the_environment_decides_on_colours_and_characters() {
    let style = |vars: &[(&str, &str)], terminal| {
        let vars: BTreeMap<String, String> =
            vars.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let style = Style::from_env(|name| vars.get(name).cloned(), terminal);
        (style.colour, style.unicode)
    };
    assert_eq!(style(&[("LANG", "en_GB.UTF-8"), ("TERM", "xterm")], true), (true, true));
    assert_eq!(style(&[("LANG", "en_GB.UTF-8"), ("TERM", "xterm")], false), (false, true));
    assert_eq!(style(&[("LANG", "C.utf8"), ("LC_ALL", "C"), ("TERM", "xterm")], true), (true, false));
    assert_eq!(style(&[("LANG", "C.utf8"), ("LC_ALL", "")], true), (true, true));
    assert_eq!(style(&[], true), (true, false));
    assert_eq!(style(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], true), (false, false));
    assert_eq!(style(&[("NO_COLOR", "")], true), (true, false));
    assert_eq!(style(&[("TERM", "dumb")], true), (false, false));
    assert_eq!(style(&[("CLICOLOR", "0")], true), (false, false));
    assert_eq!(style(&[("CLICOLOR_FORCE", "1")], false), (true, false));
}

// ── windows at work ──────────────────────────────────────────────────────────────────────────

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);
impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}
impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Short writes happen.
        let count = bytes.len().min(1000);
        self.0.lock().unwrap().extend_from_slice(&bytes[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A pipe whose reader went away after so many writes.
struct Closed(Arc<Mutex<usize>>);
impl Write for Closed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut writes = self.0.lock().unwrap();
        *writes += 1;
        if *writes > 1 { Err(std::io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn told(to: &Events) {
    for event in one_of_each() {
        to.tell(event);
    }
    to.close();
}

#[test]
fn json_has_every_event_in_the_journals_form_and_lines_in_full() {
    let (window, paper) = (Window::default(), Paper::default());
    told(&Events::new(Masker::new(), None, vec![window.clone()]));
    json::show(&window, &mut Sink::new(paper.clone()));
    let events: Vec<Event> =
        paper.text().lines().map(|line| serde_json::from_str::<Stamped>(line).unwrap().event).collect();
    assert_eq!(events.len(), one_of_each().len());
    assert!(events.iter().any(|event| matches!(event, Event::Line { text, .. } if text.contains("日本語"))));
}

#[test]
fn a_closed_pipe_ends_the_writing_and_nothing_else() {
    let writes = Arc::new(Mutex::new(0));
    let window = Window::default();
    let events = Events::new(Masker::new(), None, vec![window.clone()]);
    let mut sink = Sink::new(Closed(writes.clone()));
    let shower = std::thread::spawn(move || {
        plain::show(&window, &mut sink, PALE);
        sink.open()
    });
    events.note(None, "first");
    while *writes.lock().unwrap() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..100 {
        events.note(None, "more");
        std::thread::sleep(Duration::from_micros(100));
    }
    events.close();
    assert!(!shower.join().unwrap());
    assert_eq!(*writes.lock().unwrap(), 2, "after the pipe was found closed, nothing was tried again");
}

#[test]
fn a_slow_window_holds_nobody_up_and_is_told_what_it_missed() {
    struct Stuck(Paper, Arc<Mutex<()>>);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _wait = self.1.lock().unwrap();
            self.0.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let gate = Arc::new(Mutex::new(()));
    let shut = gate.lock().unwrap();
    let (window, paper) = (Window::default(), Paper::default());
    let events = Events::new(Masker::new(), None, vec![window.clone()]);
    let mut sink = Sink::new(Stuck(paper.clone(), gate.clone()));
    let shower = std::thread::spawn(move || plain::show(&window, &mut sink, PALE));
    let begin = Instant::now();
    for number in 0..20_000 {
        events.line("h", Stream::Out, format!("{number}").as_bytes());
    }
    let took = begin.elapsed();
    events.note(None, "the end");
    events.close();
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(shut);
    shower.join().unwrap();
    let text = paper.text();
    let shown = text.lines().filter(|line| line.contains(" h | ")).count();
    assert!(shown < 20_000);
    assert!(text.contains("the end"));
    let skipped: usize = text
        .lines()
        .filter_map(|line| {
            line.split_once(" lines were not shown")?.0.rsplit(' ').next()?.replace(',', "").parse::<usize>().ok()
        })
        .sum();
    assert_eq!(shown + skipped, 20_000, "{took:?}");
}

#[test]
fn plain_lines_have_time_and_host_and_counts_now_and_then() {
    let (window, paper) = (Window::default(), Paper::default());
    let events = Events::new(Masker::new(), None, vec![window.clone()]);
    let clear = Regex::new();
    events.line("prod-1", Stream::Out, b"hello");
    for done in 0..=1000 {
        events.tell(Event::Progress {
            what: "gravity.tar.gz".into(),
            host: "prod-1".into(),
            done,
            total: Some(1000),
            unit: "bytes".into(),
        });
    }
    told(&events);
    plain::show(&window, &mut Sink::new(paper.clone()), PALE);
    let text = paper.text();
    assert!(text.lines().next().unwrap().ends_with("Z prod-1 | hello"), "{text}");
    for line in text.lines() {
        assert!(clear.has_lead(line), "{line:?}");
        bare(line);
    }
    let counts = text.lines().filter(|line| line.contains("of 1000 B")).count();
    assert_eq!(counts, 2, "the first and the last of a quick one\n{text}");
    assert!(!text.contains(['│', '✓', '✗', '┌']), "a screen reader would read these aloud");
}

/// `2026-11-23T04:15:00Z WHO |` at a line's beginning.
struct Regex(regex::Regex);
impl Regex {
    fn new() -> Self {
        Self(regex::Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \S+ \|( |$)").unwrap())
    }
    fn has_lead(&self, line: &str) -> bool {
        self.0.is_match(line)
    }
}

#[test]
fn quiet_says_failures_and_the_last_line() {
    let (window, out, err) = (Window::default(), Paper::default(), Paper::default());
    told(&Events::new(Masker::new(), None, vec![window.clone()]));
    terminal::show_quiet(&window, &mut Sink::new(out.clone()), &mut Sink::new(err.clone()), (BARE, BARE));
    assert_eq!(
        out.text(),
        "exit 0: everything asked for was done and verified (12 min 3 s)\n\
         exit 8: outcome unknown, or still running on a node (12 min 3 s)\n"
    );
    assert!(err.text().starts_with("error: prod-1: unknown variable"), "{}", err.text());
    assert!(err.text().contains("error: no host matches \"prdo\""));
}

#[test]
fn what_still_runs_is_told_in_the_last_line_also_when_lines_were_skipped() {
    let attach = "ferry jobs attach 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";
    for exit in [8, 2] {
        let window = Window::default();
        let events = Events::new(Masker::new(), None, vec![window.clone()]);
        let failure = Failure::new(Kind::Unknown, "the connection was lost").on("prod-1").mend(attach);
        events.tell(Event::Failed { failure });
        for _ in 0..5000 {
            events.line("prod-1", Stream::Log, b"flood");
        }
        events.tell(ended(exit));
        events.close();
        let last_of = |paper: &Paper| paper.text().lines().last().unwrap().to_owned();
        let wanted = if exit == 8 { format!("next: {attach}") } else { format!("exit {exit}: ") };

        let (out, err) = (Paper::default(), Paper::default());
        match exit {
            8 => plain::show(&window, &mut Sink::new(out.clone()), BARE),
            _ => {
                let sinks = (Sink::new(out.clone()), Sink::new(out.clone()));
                let target = indicatif::ProgressDrawTarget::hidden();
                terminal::Screen::new(target, sinks, (BARE, BARE), Box::new(|| (80, 80))).show(&window);
            }
        }
        assert!(last_of(&out).contains(&wanted), "{}", last_of(&out));
        assert!(out.text().contains("3,000 lines were not shown"));

        let window = Window::default();
        let events = Events::new(Masker::new(), None, vec![window.clone()]);
        events.tell(Event::Summary { lines: vec![], next: vec![attach.into()] });
        events.tell(ended(exit));
        events.close();
        let out = Paper::default();
        terminal::show_quiet(&window, &mut Sink::new(out.clone()), &mut Sink::new(err), (BARE, BARE));
        assert!(last_of(&out).contains(&wanted), "{}", last_of(&out));
    }
}

#[test]
fn results_go_to_stdout_and_the_way_there_to_stderr() {
    let (window, out, err) = (Window::default(), Paper::default(), Paper::default());
    told(&Events::new(Masker::new(), None, vec![window.clone()]));
    let target = indicatif::ProgressDrawTarget::hidden();
    let sinks = (Sink::new(out.clone()), Sink::new(err.clone()));
    terminal::Screen::new(target, sinks, (BARE, RICH), Box::new(|| (usize::MAX, 80))).show(&window);
    let (out, err) = (out.text(), err.text());
    for text in ["Back up prod", "REFUSE", "is sealed", "saved", "next: ferry points", "exit 0"] {
        assert!(out.contains(text), "{text}: {out}");
    }
    assert!(!out.contains('\x1b') && out.is_ascii());
    for text in ["[3/12]", "unknown variable", "backup of 12 databases", "clocks"] {
        assert!(err.contains(text) && !out.contains(text), "{text}: {err}");
    }
    err.lines().for_each(|line| assert!(console::measure_text_width(&bare(line)) <= 80, "{line:?}"));
}

#[test]
fn at_a_real_terminal_the_live_lines_come_and_go() {
    if inner().is_some() {
        println!();
        let window = Window::default();
        let events = Events::new(Masker::new(), None, vec![window.clone()]);
        let shower = ferry::report::spawn(window, ferry::report::Output::Human, None).unwrap();
        events.tell(Event::TaskStarted { task: "Take the Gravity backup".into(), number: 1, of: 2, handler: false });
        for done in 0..12 {
            events.line("prod-1", Stream::Log, format!("hook says {done}").as_bytes());
            let total = Some(12 << 20);
            events.tell(Event::Progress {
                what: "fetch".into(),
                host: "prod-1".into(),
                done: done << 20,
                total,
                unit: "bytes".into(),
            });
            std::thread::sleep(Duration::from_millis(100));
        }
        for number in 0..200_000 {
            events.line("prod-1", Stream::Log, format!("flood {number}").as_bytes());
        }
        events.tell(ended(0));
        events.close();
        shower.join().unwrap();
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let me = std::env::current_exe().unwrap();
    let line = format!(
        "stty cols 80 rows 24; exec '{}' at_a_real_terminal_the_live_lines_come_and_go --exact --nocapture --test-threads=1",
        me.display()
    );
    let begin = Instant::now();
    let out = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("FERRY_TEST_INNER", base.path())
        .env("TERM", "xterm-256color")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("NO_COLOR")
        .env_remove("CI")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}");
    for number in 0..12 {
        assert!(text.contains(&format!("hook says {number}")), "line {number} is missing");
    }
    assert!(text.contains('⠙') || text.contains('⠹') || text.contains('⠸'), "a live line turns: {text}");
    assert!(text.contains('█') && text.contains("MiB/s"), "a bar moves and tells its rate: {text}");
    assert!(text.contains("exit 0: everything asked for"), "{text}");
    assert!(text.contains("lines were not shown"), "a flood is cut short: {} bytes", text.len());
    let redraws = text.matches("Take the Gravity backup").count();
    let most = usize::try_from(begin.elapsed().as_millis() / 250).unwrap() * 2 + 10;
    assert!(redraws <= most, "{redraws} redraws in {:?}", begin.elapsed());
    println!("{redraws} redraws in {:?}", begin.elapsed());
}
