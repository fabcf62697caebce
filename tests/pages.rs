//! The pages that people look at: what is in them, in a real browser, with a network that must stay silent, and at sizes
//! that no page is written for by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ferry::event::{Event, Finding, Outcome, Severity, Stamped, SummaryLine};
use ferry::failure::{Failure, Kind};
use ferry::report::html::points::{self, Drill, Retention, Row, Shelf};
use ferry::report::html::run::{self as page, Extra, Included};
use ferry::report::{ci, journal, junit};
use ferry::sandbox::pretend::Generation;
use serde_json::{Value, json};
use support::bed::{Bed, ferry, run_limited};

/// What a host says to whoever reads its lines in a browser, a terminal, XML or a CI.
const HOSTILE: &[&str] = &[
    "<script>document.title='owned'</script>",
    "</pre></details><img src=x onerror=\"document.title='owned'\">",
    "<img src=http://127.0.0.1:PORT/pixel>",
    "--><svg/onload=document.title='owned'>",
    "]]></failure><testcase name='forged'/>",
    "&lt;already&gt; \"quoted\" 'single'",
    "javascript:document.title='owned'",
    "<style>body{display:none}</style><link rel=stylesheet href=http://127.0.0.1:PORT/x.css>",
    "<meta http-equiv=refresh content=\"0;url=http://127.0.0.1:PORT/away\">",
];

struct Run {
    dir: tempfile::TempDir,
    seq: u64,
    at: jiff::Timestamp,
    journal: std::io::BufWriter<std::fs::File>,
    logged: BTreeMap<String, u64>,
}

impl Run {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ferry-pages").tempdir().unwrap();
        std::fs::create_dir(dir.path().join(journal::HOSTS)).unwrap();
        let journal = std::io::BufWriter::new(std::fs::File::create(dir.path().join(journal::FILE)).unwrap());
        let at = "2026-11-23T04:15:00Z".parse().unwrap();
        let mut run = Self { dir, seq: 0, at, journal, logged: BTreeMap::new() };
        run.tell(Event::RunStarted {
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
        });
        run.tell(Event::Plan { title: "Backup of prod".into(), lines: vec!["cluster    prod".into()] });
        run
    }

    fn tell(&mut self, event: Event) {
        self.seq += 1;
        self.at += jiff::SignedDuration::from_millis(20);
        serde_json::to_writer(&mut self.journal, &Stamped { at: self.at, seq: self.seq, event }).unwrap();
        self.journal.write_all(b"\n").unwrap();
    }

    fn said(&mut self, host: &str, text: &str) {
        let path = journal::log_path(self.dir.path(), host);
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        let from = *self.logged.get(host).unwrap_or(&0);
        let line = format!("2026-11-23T04:15:01.000Z out | {text}\n");
        file.write_all(line.as_bytes()).unwrap();
        let to = from + line.len() as u64;
        self.logged.insert(host.into(), to);
        self.tell(Event::Logged { host: host.into(), from, to });
    }

    fn ended(&mut self, number: usize, task: &str, host: &str, outcome: Outcome, message: &str) {
        self.tell(Event::TaskEnded {
            task: task.into(),
            host: host.into(),
            outcome,
            seconds: 0.01,
            message: message.into(),
            result: Value::Null,
            number,
            ignored: false,
            done_in: None,
        });
    }

    fn over(&mut self, exit: u8) {
        self.tell(Event::RunEnded { exit, seconds: 12.5, recap: BTreeMap::new() });
        self.journal.flush().unwrap();
    }

    fn page(&self, extra: &Extra) -> (String, page::Written) {
        let path = self.dir.path().join(page::FILE);
        let written = page::write_file(self.dir.path(), &|_| extra.clone(), &path).unwrap();
        (std::fs::read_to_string(path).unwrap(), written)
    }
}

/// A run in which everything that a page shows is there, and hosts that say what they should not.
fn hostile_run(port: u16) -> Run {
    let mut run = Run::new();
    let hostile: Vec<String> = HOSTILE.iter().map(|text| text.replace("PORT", &port.to_string())).collect();
    run.tell(Event::PlayStarted { play: hostile[0].clone(), hosts: vec!["prod-1".into()] });
    for (number, text) in hostile.iter().enumerate() {
        run.tell(Event::TaskStarted {
            task: format!("step {text}"),
            number: number + 1,
            of: hostile.len(),
            handler: false,
        });
        run.said("prod-1", text);
        run.ended(number + 1, &format!("step {text}"), "prod-1", Outcome::Ok, text);
        run.tell(Event::Found {
            finding: Finding {
                gate: "health".into(),
                severity: Severity::Warn,
                host: Some(text.clone()),
                what: text.clone(),
                why: text.clone(),
                mend: text.clone(),
            },
        });
        run.tell(Event::Warning { host: Some("prod-1".into()), text: text.clone() });
        run.tell(Event::Failed {
            failure: Failure::new(Kind::Failed, text.clone())
                .on("prod-1")
                .saw(text.clone())
                .why(text.clone())
                .mend(text.clone()),
        });
    }
    for second in 0..30_u64 {
        run.tell(Event::Progress {
            what: hostile[1].clone(),
            host: "prod-1".into(),
            done: second << 20,
            total: Some(30 << 20),
            unit: "bytes".into(),
        });
    }
    for number in 0..300 {
        run.said(
            "prod-2",
            &format!("line {number} of what prod-2 said{}", if number == 150 { ", the needle" } else { "" }),
        );
    }
    run.tell(Event::Sealed {
        cluster: "prod".into(),
        point: "20261123T041500Z-7f3a".into(),
        path: "/nonexistent".into(),
        verdict: "verified".into(),
        complete: true,
    });
    run.tell(Event::Summary {
        lines: vec![SummaryLine { word: "saved".into(), text: hostile[1].clone() }],
        next: vec![hostile[2].clone()],
    });
    run.over(2);
    run
}

fn extra(port: u16) -> Extra {
    Extra {
        included: vec![
            Included { row: "databases".into(), yes: true, note: "in the Gravity archive".into() },
            Included { row: HOSTILE[0].into(), yes: false, note: HOSTILE[2].replace("PORT", &port.to_string()) },
        ],
        commands: vec!["prod-1: gravity backup <x>".into()],
        waivers: vec![("health".into(), "two nodes are being replaced".into())],
    }
}

/// Drives Debian's Chromium over its pipe: opens a page, runs what it is told in it, and says every request that was made.
const BROWSER: &str = r#"
import json, os, subprocess, sys, tempfile, base64, shutil
plan = json.loads(sys.stdin.read())
profile = tempfile.mkdtemp(prefix="ferry-browser")
to_r, to_w = os.pipe(); from_r, from_w = os.pipe()
def fds():
    os.dup2(to_r, 20); os.dup2(from_w, 21); os.dup2(20, 3); os.dup2(21, 4)
flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--disable-dev-shm-usage", "--user-data-dir=" + profile, "--remote-debugging-pipe", "about:blank"]
proc = subprocess.Popen(["chromium"] + flags, preexec_fn=fds, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
os.close(to_r); os.close(from_w)
buffer, number, events = b"", 0, []
def read():
    global buffer
    while b"\0" not in buffer:
        piece = os.read(from_r, 1 << 20)
        if not piece: raise SystemExit("chromium ended")
        buffer += piece
    message, buffer = buffer.split(b"\0", 1)
    return json.loads(message)
def call(method, session=None, **params):
    global number
    number += 1
    message = {"id": number, "method": method, "params": params}
    if session: message["sessionId"] = session
    os.write(to_w, json.dumps(message).encode() + b"\0")
    while True:
        got = read()
        if got.get("id") == number:
            if "error" in got: raise SystemExit(method + ": " + json.dumps(got["error"]))
            return got["result"]
        events.append(got)
def wait(name):
    while True:
        for event in events:
            if event.get("method") == name:
                events.remove(event)
                return
        events.append(read())
try:
    target = call("Target.createTarget", url="about:blank")["targetId"]
    s = call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Network", "Runtime", "Log"): call(domain + ".enable", s)
    out = []
    for step in plan:
        if "scheme" in step: call("Emulation.setEmulatedMedia", s, media=step.get("media", ""), features=[{"name": "prefers-color-scheme", "value": step["scheme"]}])
        if "size" in step: call("Emulation.setDeviceMetricsOverride", s, width=step["size"][0], height=step["size"][1], deviceScaleFactor=1, mobile=False)
        if "open" in step:
            call("Page.navigate", s, url=step["open"]); wait("Page.loadEventFired")
        if "eval" in step:
            got = call("Runtime.evaluate", s, expression=step["eval"], awaitPromise=True, returnByValue=True)
            if "exceptionDetails" in got: raise SystemExit(json.dumps(got["exceptionDetails"]))
            out.append(got["result"].get("value"))
        if "shot" in step:
            open(step["shot"], "wb").write(base64.b64decode(call("Page.captureScreenshot", s, format="png")["data"]))
    requests = [e["params"]["request"]["url"] for e in events if e.get("method") == "Network.requestWillBeSent"]
    told = [e["params"]["entry"]["text"] for e in events if e.get("method") == "Log.entryAdded"]
    json.dump({"out": out, "requests": requests, "told": told}, sys.stdout)
finally:
    proc.kill(); proc.wait(); shutil.rmtree(profile, ignore_errors=True)
"#;

#[track_caller]
fn browse(steps: &Value) -> Value {
    let mut python = Command::new("python3")
        .args(["-c", BROWSER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(steps.to_string().as_bytes()).unwrap();
    let out = python.wait_with_output().unwrap();
    assert!(
        out.status.success(),
        "Debian's chromium is needed, tests/run installs it: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

/// A port that notes whoever knocks.
fn trap() -> (u16, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let knocks = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = knocks.clone();
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    (port, knocks)
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Where pictures go that a person wants to look at: `FERRY_SHOTS=DIR`.
fn shot(name: &str) -> PathBuf {
    let dir = std::env::var_os("FERRY_SHOTS").map_or_else(std::env::temp_dir, PathBuf::from);
    dir.join(format!("ferry-{}-{name}.png", std::process::id()))
}

#[test]
fn a_browser_shows_the_page_and_nothing_leaves_it() {
    let (port, knocks) = trap();
    let run = hostile_run(port);
    let (text, _) = run.page(&extra(port));
    let path = run.dir.path().join(page::FILE);
    let catalog = run.dir.path().join("points.html");
    points::write(&shelf(port), std::fs::File::create(&catalog).unwrap()).unwrap();
    let seek = |word: &str| {
        format!(
            "new Promise(done => {{ const s = document.getElementById('seek'); s.value = {word:?}; s.dispatchEvent(new Event('input')); setTimeout(() => done([document.getElementById('hits').textContent, document.querySelectorAll('.log:not(.hide)').length, document.querySelectorAll('.log mark').length, Array.from(document.querySelectorAll('.log')).map(l => l.open).join()]), 400); }})"
        )
    };
    let colour = "getComputedStyle(document.body).backgroundColor";
    let wide = "document.documentElement.scrollWidth <= window.innerWidth";
    let steps = json!([
        {"size": [1200, 1600], "scheme": "light", "open": url(&path), "eval": "document.title"},
        {"eval": colour, "shot": shot("light")},
        {"eval": "document.body.innerText"},
        {"eval": "[document.querySelectorAll('script').length, document.querySelectorAll('img,iframe,link,object,embed,svg[onload]').length, document.querySelectorAll('style').length]"},
        {"eval": seek("the NEEDLE")},
        {"eval": seek("<script>")},
        {"eval": seek("")},
        {"eval": "document.querySelectorAll('.log pre')[1].textContent.split('\\n').length"},
        {"scheme": "dark", "eval": colour, "shot": shot("dark")},
        {"eval": "document.getElementById('theme').click(), getComputedStyle(document.body).backgroundColor"},
        {"scheme": "light", "size": [400, 900], "eval": wide, "shot": shot("narrow")},
        {"scheme": "dark", "media": "print", "eval": colour},
        {"eval": "getComputedStyle(document.querySelector('.bar')).display"},
        // The page's own policy stops what an escape would have let through.
        {"scheme": "light", "eval": format!("new Promise(done => {{ const i = document.createElement('img'); i.onerror = () => done('stopped'); i.onload = () => done('loaded'); i.src = 'http://127.0.0.1:{port}/x'; document.body.appendChild(i); setTimeout(() => done('nothing'), 1500); }})")},
        {"eval": "new Promise(done => { const s = document.createElement('script'); s.textContent = \"document.title='owned'\"; document.body.appendChild(s); setTimeout(() => done(document.title), 50); })"},
        {"size": [1200, 1600], "open": url(&catalog), "eval": "document.body.innerText", "shot": shot("points")},
        {"scheme": "dark", "shot": shot("points-dark"), "eval": "document.querySelectorAll('.day').length"},
        {"size": [400, 900], "eval": wide},
        // What the page of a catalog is for, as a browser has it.
        {"size": [1200, 1600], "scheme": "light", "eval": "[...document.querySelectorAll('#newest tbody tr')].map(r => [...r.cells].map(c => c.innerText.trim()))"},
        {"eval": "[...document.querySelectorAll('#days h3')].map(h => [h.innerText, [...h.nextElementSibling.children].map(d => [d.className, d.innerText.replace(/\\s+/g, ' ')])])"},
        {"eval": "[...document.querySelectorAll('#sizes svg')].map(s => [s.getAttribute('aria-label'), s.querySelector('polyline').getAttribute('points').split(' ').length, s.getBoundingClientRect().height > 50])"},
        {"eval": "[...document.querySelectorAll('#drills tbody tr')].map(r => [...r.cells].map(c => c.innerText.trim()))"},
        {"eval": "[...document.querySelectorAll('#retention tbody tr')].map(r => [...r.cells].map(c => c.innerText.trim()))"},
    ]);
    let seen = browse(&steps);
    let out = seen["out"].as_array().unwrap();
    println!("{:?}", seen["told"]);
    assert_eq!(out[0], "Failed: Backup of prod · ferry 20261123T041500Z-9c1e");
    assert_eq!(out[1], "rgb(255, 255, 255)");
    let body = out[2].as_str().unwrap();
    for says in [
        "Backup of prod",
        "Failed: a host failed",
        "exit code",
        "health was waived",
        "two nodes are being replaced",
        "What failed",
        "databases",
        "Timeline",
        "gravity backup <x>",
    ] {
        assert!(body.contains(says), "{says:?} is not seen\n{body}");
    }
    for text in HOSTILE {
        assert!(body.contains(&text.replace("PORT", &port.to_string())), "{text:?} is not seen as text");
    }
    assert_eq!(out[3], json!([1, 0, 1]), "the page has elements that a host wrote");
    assert_eq!(out[4], json!(["1 log lines, 0 rows", 1, 1, "false,true"]));
    let found = out[5][0].as_str().unwrap();
    assert!(found.starts_with("1 log lines, ") && !found.ends_with(" 0 rows"), "{found}");
    assert_eq!(out[6], json!(["", 2, 0, "false,false"]), "the search is not taken back");
    assert_eq!(out[7], 301, "the log is not whole after a search");
    assert_eq!(out[8], "rgb(20, 24, 30)");
    assert_eq!(out[9], "rgb(255, 255, 255)", "the button does not change it");
    assert_eq!(out[10], true, "wider than a narrow window");
    assert_eq!((out[11].as_str(), out[12].as_str()), (Some("rgb(255, 255, 255)"), Some("none")), "printed");
    assert_eq!(out[13], "stopped", "the policy let an image through");
    assert!(!out[14].as_str().unwrap().contains("owned"), "the policy let a script run");
    let catalog = out[15].as_str().unwrap();
    for says in [
        "Recovery points",
        "Look at it: 1 point cannot be relied on",
        "none is verified",
        "1 h 12 min",
        "kept by no rule",
        "dr",
    ] {
        assert!(catalog.contains(says), "{says:?} is not seen\n{catalog}");
    }
    assert!(catalog.contains(HOSTILE[0]), "{catalog}");
    assert!(out[16].as_u64().unwrap() >= 5);
    assert_eq!(out[17], true, "wider than a narrow window");
    // The age of the newest of each cluster and kind; one without a verified one says so.
    assert_eq!(
        out[18],
        json!([
            ["dr", "amv", "none is verified", "", ""],
            ["dr", "gravity", "none is verified", "", ""],
            ["prod", "amv", "none is verified", "", ""],
            ["prod", "gravity", "4 h (2026-11-26 04:00:00 UTC)", "40.0 GiB", "20261126T041500Z-7f3a"],
        ])
    );
    // Points by day and verdict, newest first, days without one too.
    assert_eq!(out[19][1][0], "prod");
    let days: Vec<&str> = out[19][1][1].as_array().unwrap().iter().map(|day| day[1].as_str().unwrap()).collect();
    assert_eq!(days, ["11-26 1", "11-25 1", "11-24 1", "11-23 1", "11-22 1"]);
    assert!(
        out[19][1][1].as_array().unwrap().iter().all(|day| day[0].as_str().unwrap().trim() == "day good"),
        "{}",
        out[19]
    );
    let dr: Vec<(&str, &str)> = out[19][0][1]
        .as_array()
        .unwrap()
        .iter()
        .map(|day| (day[0].as_str().unwrap().trim(), day[1].as_str().unwrap()))
        .collect();
    assert_eq!(dr[..3], [("day", "11-26 –"), ("day", "11-25 –"), ("day bad", "11-24 1")]);
    // Sizes of each kind and durations over time, a spot for each point.
    assert_eq!(
        out[20],
        json!([
            ["prod: size of amv", 5, true],
            ["prod: size of gravity", 5, true],
            ["prod: time that gravity took", 5, true],
        ])
    );
    // The last drill with what it measured, and what goes next.
    assert_eq!(
        out[21],
        json!([["2026-11-26 08:00:00 UTC", "prod/20261125T041500Z-7f3a", "dr", "drill", "1 h 12 min", "1 d 1 h"]])
    );
    assert_eq!(out[22], json!([["prod", "20261122T041500Z-7f3a", "kept by no rule"]]));
    let away: Vec<&str> = seen["requests"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .filter(|url| !url.starts_with("file:"))
        .collect();
    // The one that the test itself tried is noted before the policy stops it.
    assert!(away.iter().all(|url| url.ends_with("/x")) && away.len() <= 1, "{away:?}");
    assert_eq!(knocks.load(std::sync::atomic::Ordering::SeqCst), 0, "a request left the page");
    assert!(text.contains("default-src 'none'"));
}

fn shelf(port: u16) -> Shelf {
    let now: jiff::Timestamp = "2026-11-26T08:00:00Z".parse().unwrap();
    let row = |days: i64, state: &str, cluster: &str| Row {
        cluster: cluster.into(),
        id: format!("202611{:02}T041500Z-7f3a", 26 - days),
        state: state.into(),
        complete: Some(true),
        finished: Some(now - jiff::SignedDuration::from_hours(24 * days + 4)),
        bytes: (40 << 30) + u64::try_from(days).unwrap() * (1 << 28),
        archives: vec![("gravity".into(), 40 << 30, state.into()), ("amv".into(), 1 << 30, "suspect".into())],
        seconds: Some(700.0 + days as f64 * 13.0),
        version: "3.0.2".into(),
        label: HOSTILE[0].into(),
        held: days == 3,
        remark: HOSTILE[2].replace("PORT", &port.to_string()),
    };
    let mut rows: Vec<Row> = (0..5).map(|days| row(days, "verified", "prod")).collect();
    rows.push(row(2, "damaged", "dr"));
    Shelf {
        root: "/srv/catalog".into(),
        now,
        rows,
        drills: vec![Drill {
            cluster: "prod".into(),
            point: "20261125T041500Z-7f3a".into(),
            into: "dr".into(),
            at: now,
            seconds: Some(4320.0),
            age: Some(90_000.0),
            rehearsal: true,
        }],
        retention: Retention::Next(vec![("prod".into(), "20261122T041500Z-7f3a".into(), "kept by no rule".into())]),
    }
}

#[test]
fn no_hostile_line_is_markup_and_the_page_says_what_it_left_out() {
    let run = hostile_run(1);
    let (text, written) = run.page(&extra(1));
    for bad in
        ["<script>document", "<img", "onerror=\"", "<svg/", "<link", "<meta http-equiv=refresh", "</pre></details><"]
    {
        assert!(!text.contains(bad), "{bad:?} is markup in the page");
    }
    assert!(!text.bytes().any(|byte| byte < 0x20 && byte != b'\n'), "a control character");
    assert!(written.left_out.is_empty(), "{:?}", written.left_out);
    // What is kept of a run that was killed is shown as such.
    let mut open = Run::new();
    open.said("prod-1", "so far");
    open.journal.write_all(b"{\"at\":\"2026-").unwrap();
    open.journal.flush().unwrap();
    let (text, written) = open.page(&Extra::default());
    assert!(text.contains("Broken off") && text.contains("so far"));
    assert!(written.left_out.iter().any(|what| what.contains("cut off")), "{:?}", written.left_out);
}

/// A run of this many hosts and steps whose logs are `bytes` each; one log lies there under every host's name.
fn large_run(hosts: usize, steps: usize, bytes: usize) -> Run {
    let mut run = Run::new();
    let mut log = String::with_capacity(bytes + 200);
    let mut number = 0;
    while log.len() < bytes {
        writeln!(log, "2026-11-23T04:15:01.000Z out | line {number}: <b>what</b> & \"how\" the hook said, with some words to make it long enough").unwrap();
        number += 1;
    }
    let first = run.dir.path().join(journal::HOSTS).join("one");
    std::fs::write(&first, &log).unwrap();
    let names: Vec<String> = (0..hosts).map(|number| format!("node-{number:03}")).collect();
    for name in &names {
        std::fs::hard_link(&first, journal::log_path(run.dir.path(), name)).unwrap();
    }
    run.tell(Event::PlayStarted { play: "large".into(), hosts: names.clone() });
    let chunk = 64 << 10;
    let mut at = 0;
    for step in 1..=steps {
        run.tell(Event::TaskStarted {
            task: format!("step {step} <of> many"),
            number: step,
            of: steps,
            handler: false,
        });
        for (place, name) in names.iter().enumerate() {
            let outcome = if step % 17 == 0 && place % 13 == 0 { Outcome::Failed } else { Outcome::Changed };
            run.ended(step, &format!("step {step} <of> many"), name, outcome, "it said something about what it did");
            if at < log.len() {
                let (from, to) = (at as u64, (at + chunk).min(log.len()) as u64);
                run.tell(Event::Logged { host: name.clone(), from, to });
            }
        }
        at += chunk;
    }
    for name in &names {
        run.tell(Event::Logged { host: name.clone(), from: 0, to: log.len() as u64 });
    }
    run.over(2);
    run
}

#[test]
fn a_hundred_hosts_and_a_gibibyte_of_logs_make_a_small_page_quickly() {
    let measure = |run: &Run| {
        let runs = run.dir.path().join("runs");
        std::fs::create_dir(&runs).unwrap();
        let id = "20261123T041500Z-9c1e";
        std::os::unix::fs::symlink(run.dir.path(), runs.join(id)).unwrap();
        let out = run.dir.path().join("out.html");
        let mut command = ferry(None, run.dir.path());
        command.args(["runs", "report", id, "--run-dir"]).arg(&runs).arg("--out").arg(&out);
        let said = run_limited(command, Duration::from_secs(60));
        said.must(0, &[]);
        let size = std::fs::metadata(&out).unwrap().len();
        println!(
            "{} of journal: page {size} bytes in {:?}, {} KiB at most\n{}",
            std::fs::metadata(run.dir.path().join(journal::FILE)).unwrap().len(),
            said.took,
            said.peak_kib,
            said.out
        );
        (size, said, std::fs::read_to_string(out).unwrap())
    };
    let (_, little, _) = measure(&large_run(2, 20, 1 << 20));
    // 100 hosts, 10,000 ends of steps, 1 GiB.
    let large = large_run(100, 100, (1 << 30) / 100);
    let (size, said, text) = measure(&large);
    assert!(size < 5 << 20, "{size}");
    assert!(said.took < Duration::from_secs(if cfg!(debug_assertions) { 6 } else { 2 }), "{:?}", said.took);
    assert!(said.peak_kib < little.peak_kib + (40 << 10), "{} KiB after {} KiB", said.peak_kib, little.peak_kib);
    said.must(0, &["left out:", "of the logs of 100 hosts"]);
    for says in ["node-000", "node-099", "step 100 &lt;of&gt; many", "line 0:", "left out here"] {
        assert!(text.contains(says), "{says}");
    }
    // The end of a log is worth more than its middle.
    let last = std::fs::read_to_string(journal::log_path(large.dir.path(), "node-050")).unwrap();
    let last = last.lines().last().unwrap().split(" | ").nth(1).unwrap().split(':').next().unwrap().to_owned();
    assert!(text.matches(&format!("| {last}:")).count() >= 100, "{last}");
    if std::env::var_os("FERRY_LONG").is_some() {
        // 10,000 steps on each of 100 hosts: a million ends.
        let (size, said, _) = measure(&large_run(100, 10_000, 1 << 20));
        assert!(size < 5 << 20 && said.peak_kib < little.peak_kib + (60 << 10), "{size} {}", said.peak_kib);
    }
}

/// The cases of a JUnit file, as Python's XML parser reads them: class, name, what is inside.
fn cases(path: &Path) -> Value {
    const READ: &str = "import json, sys, xml.etree.ElementTree as e\nr = e.parse(sys.argv[1]).getroot()\nc = [[t.get('classname'), t.get('name'), [x.tag for x in t]] for t in r.iter('testcase')]\njson.dump({'attrib': r.attrib, 'cases': c, 'text': ''.join(r.itertext())}, sys.stdout)";
    let out = Command::new("python3").args(["-c", READ]).arg(path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn junit_is_xml_whatever_hosts_say() {
    let run = hostile_run(1);
    let path = run.dir.path().join("junit.xml");
    junit::write_file(run.dir.path(), &path).unwrap();
    let read = cases(&path);
    let all = read["cases"].as_array().unwrap();
    assert_eq!(all.len(), HOSTILE.len() + 1, "{read:#}");
    assert_eq!(read["attrib"]["tests"], json!((HOSTILE.len() + 1).to_string()));
    assert_eq!(read["attrib"]["failures"], "1");
    assert_eq!(all.last().unwrap(), &json!(["ferry", "the run", ["failure"]]));
    assert_eq!(all[0][1], json!(format!("[1] step {}", HOSTILE[0])));
}

#[test]
fn github_hears_what_failed_and_no_host() {
    let run = hostile_run(1);
    let summary = run.dir.path().join("summary.md");
    ci::after(run.dir.path(), None, Some(&summary)).unwrap();
    let text = std::fs::read_to_string(&summary).unwrap();
    assert!(text.starts_with("## ❌ Backup of prod\n"), "{text}");
    assert!(
        text.contains("**") && !text.contains("<script") && !text.contains("<img") && !text.contains("http://"),
        "{text}"
    );
    assert!(text.len() < 1 << 20);
}

#[test]
fn a_run_in_ci_speaks_its_language_and_its_json_stays_pure() {
    let bed = Bed::new(Generation::G7);
    let summary = bed.aside("summary.md");
    let junit = bed.aside("junit.xml");
    let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap())];
    bed.faults(&["prod:hostile-output=50"]);
    let said = bed.ferry_with(&["backup", "prod", "--junit", junit.to_str().unwrap()], &github);
    said.must(0, &["::group::[1/", "is sealed: verified"]);
    let (open, shut) = (said.out.matches("::group::").count(), said.out.matches("::endgroup::").count());
    assert_eq!(open, shut, "{}", said.out);
    for line in said.out.lines().filter(|line| line.trim_start().starts_with("::")) {
        assert!(line.starts_with("::group::[") || line == "::endgroup::", "{line:?}");
    }
    assert!(!said.all().contains("##["), "{}", said.all());
    assert!(std::fs::read_to_string(&summary).unwrap().starts_with("## ✅ Backup of prod"));
    let read = cases(&junit);
    assert!(read["cases"].as_array().unwrap().len() > 8, "{read:#}");
    assert_eq!(read["attrib"]["failures"], "0");

    // A run that fails: annotations on standard error, standard output is JSON alone.
    bed.faults(&["prod:exit0-empty-archive=on"]);
    let said = bed.ferry_with(&["backup", "prod", "--output", "json", "--junit", junit.to_str().unwrap()], &github);
    assert_eq!(said.code, 2, "{}", said.all());
    for line in said.out.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(said.err.contains("::error title=ferry F201::"), "{}", said.err);
    let read = cases(&junit);
    assert_ne!(read["attrib"]["failures"], "0");
    assert!(read["text"].as_str().unwrap().contains("F201"), "{read:#}");
    assert!(said.out.contains("\"code\":\"F201\""), "{}", said.out);

    bed.calm();
    let said = bed.ferry_with(&["backup", "prod"], &[("GITLAB_CI", "true")]);
    said.must(0, &["is sealed: verified"]);
    let sections = regex::Regex::new("\u{1b}\\[0Ksection_(start|end):(\\d+):(ferry_step_\\d+)\r\u{1b}\\[0K").unwrap();
    let mut open: Vec<String> = Vec::new();
    for found in sections.captures_iter(&said.out) {
        match &found[1] {
            "start" => open.push(found[3].to_owned()),
            _ => assert_eq!(open.pop().as_deref(), Some(&found[3])),
        }
    }
    assert!(open.is_empty() && sections.find_iter(&said.out).count() > 10, "{}", said.out);
    assert!(!sections.replace_all(&said.out, "").contains(['\u{1b}', '\r']));

    // The pages of these runs, and a run shown again.
    let runs = bed.ferry(&["runs", "list", "--json"]).json();
    let runs = runs.as_array().unwrap();
    assert_eq!(runs.len(), 3);
    for run in runs {
        let page = std::fs::read_to_string(Path::new(run["dir"].as_str().unwrap()).join("report.html")).unwrap();
        assert!(page.contains("<h1>Backup of prod</h1>") && page.contains("</html>"));
    }
    let good = runs.iter().find(|run| run["exit"] == 0).unwrap();
    let page = std::fs::read_to_string(Path::new(good["dir"].as_str().unwrap()).join("report.html")).unwrap();
    for says in ["Ops Center certificate", "recovery point prod/", "gravity backup", "Commands as run"] {
        assert!(page.contains(says), "{says}");
    }
    let id = good["id"].as_str().unwrap();
    let again = bed.ferry(&["runs", "replay", id]);
    again.must(0, &["is sealed: verified", "exit 0: everything asked for was done and verified", "databases"]);
    let host_lines = said.out.lines().filter(|line| line.contains(" prod-1 | ")).count();
    let shown = again.out.lines().filter(|line| line.contains(" prod-1 | ")).count();
    assert!(shown > 5 && host_lines > 5, "{shown} {host_lines}");
    bed.ferry(&["runs", "replay", id, "--speed", "0"]).must(5, &["a number above 0"]);
    for line in bed.ferry(&["runs", "replay", id, "--output", "json"]).must(0, &[]).out.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    bed.ferry(&["runs", "report"]).must(0, &["report.html"]);
    bed.ferry(&["runs", "report", "none"]).must(1, &["there is no run none", "F122"]);
    let out = bed.aside("catalog.html");
    bed.ferry(&["points", "report", "--out", out.to_str().unwrap()]).must(0, &[]);
    let page = std::fs::read_to_string(out).unwrap();
    assert!(page.contains("<b>Good</b>") && page.contains("No restore was ever rehearsed"), "{page}");
    bed.ferry(&["ping", "--junit", "x.xml"]).must(5, &["has no steps"]);
}
