//! Killed ferries, broken links, rebooted nodes, two at once, signals: what each of them leaves
//! must end, after the same command again, in one gravity run and one sealed point.
//!
//! A sample runs always. With `FERRY_LONG=1` all of it runs and prints its tables; `FERRY_SEED`
//! repeats the draws of an earlier run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/proxy.rs"]
mod proxy;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cluster::{Before, Cluster, Ended, Going, SOON};
use proxy::{Fault, Proxy};
use rustix::process::Signal;
use serde_json::Value;

fn long() -> bool {
    std::env::var_os("FERRY_LONG").is_some_and(|value| value == "1")
}

/// Draws that can be repeated (SplitMix64).
struct Draw(u64);

impl Draw {
    fn new(what: &str) -> Self {
        let seed = std::env::var("FERRY_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(rand::random::<u64>);
        println!("{what}: FERRY_SEED={seed}");
        Self(seed)
    }
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
    fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_micros(self.below(limit * 1000))
    }
}

/// A cluster behind three proxies.
struct Proxied {
    cluster: Cluster,
    proxies: Vec<Proxy>,
}

fn proxied(hook_seconds: f64, archive_mib: u64) -> Proxied {
    let mut cluster = Cluster::warm(hook_seconds, archive_mib);
    let ports: Vec<u16> = cluster.up.nodes.iter().filter(|node| node.cluster == "prod").map(|node| node.port).collect();
    let proxies: Vec<Proxy> = ports.iter().map(|port| Proxy::before(*port)).collect();
    let pairs: Vec<(u16, u16)> = ports.iter().zip(&proxies).map(|(port, proxy)| (*port, proxy.port)).collect();
    cluster.through(&pairs);
    Proxied { cluster, proxies }
}

/// How far a run is, or was when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    BeforeStart,
    Launch,
    Running,
    HookEnd,
    Collect,
    Seal,
    Cleanup,
    Over,
}

const PHASES: [Phase; 7] =
    [Phase::BeforeStart, Phase::Launch, Phase::Running, Phase::HookEnd, Phase::Collect, Phase::Seal, Phase::Cleanup];

fn has(journal: &[Value], event: &str) -> bool {
    journal.iter().any(|line| line["event"] == event)
}

fn task(journal: &[Value], name: &str) -> bool {
    journal.iter().any(|line| line["event"] == "task_started" && line["task"] == name)
}

/// From what the run wrote down and from gravity's own count of ended hooks.
fn phase(cluster: &Cluster, before: &Before, hooks: usize) -> Phase {
    let journal = cluster.journal(before);
    let rows = [
        (Phase::Over, has(&journal, "job_cleaned")),
        (Phase::Cleanup, has(&journal, "sealed")),
        (Phase::Seal, has(&journal, "verified")),
        (Phase::Collect, task(&journal, "Collect and prove the archive")),
        (Phase::HookEnd, has(&journal, "job_starting") && cluster.count("hook") > hooks),
        (Phase::Running, has(&journal, "job_state")),
        (Phase::Launch, has(&journal, "job_starting")),
    ];
    rows.into_iter().find(|(_, reached)| *reached).map_or(Phase::BeforeStart, |(phase, _)| phase)
}

/// Counts by row and column, for the tables.
#[derive(Default)]
struct Table(Mutex<BTreeMap<(String, String), usize>>);

impl Table {
    fn add(&self, row: impl ToString, column: impl ToString) {
        *self.0.lock().unwrap().entry((row.to_string(), column.to_string())).or_default() += 1;
    }
    fn print(&self, title: &str) {
        println!("\n{title}");
        for ((row, column), count) in self.0.lock().unwrap().iter() {
            println!("  {row:<28} {column:<40} {count:>4}");
        }
    }
    fn sum(&self, row: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|((at, _), _)| at == row).map(|(_, count)| count).sum()
    }
}

/// Works a list off with several sandboxes at once; the first word of each failure is kept and told together.
fn work<T: Send + std::fmt::Debug, S>(
    width: usize,
    cases: Vec<T>,
    setup: impl Fn() -> S + Sync,
    each: impl Fn(&mut S, &T) -> Result<(), String> + Sync,
) {
    let queue = Mutex::new(VecDeque::from(cases));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..width {
            scope.spawn(|| {
                let mut place = None;
                loop {
                    let Some(case) = queue.lock().unwrap().pop_front() else { return };
                    let there = place.get_or_insert_with(&setup);
                    if let Err(what) = each(there, &case) {
                        eprintln!("FAILED {case:?}: {what}");
                        failures.lock().unwrap().push(format!("{case:?}: {what}"));
                        // The next case gets a sandbox in which nothing is left of this one.
                        place = None;
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

/// The same command again, or `jobs attach`, until it says success; what happened on the way.
fn again(cluster: &Cluster, before: &Before, attach: bool, kill_once: Option<Duration>) -> Result<String, String> {
    let mut trail = Vec::new();
    let mut kill = kill_once;
    for _ in 0..6 {
        let jobs = cluster.jobs();
        let (_, sealed) = cluster.made(before);
        if sealed == 1 && jobs.is_empty() {
            // All is done: only its last words are missing.
            return Ok(trail.join(" "));
        }
        let id = jobs.first().and_then(|job| job["job"].as_str()).map(str::to_owned);
        let words: Vec<&str> = match (&id, attach) {
            (Some(id), true) => vec!["jobs", "attach", id, "--output", "plain"],
            _ => vec!["backup", "prod", "--output", "plain"],
        };
        let mut going = Going::start(&mut cluster.command(&words));
        if let Some(after) = kill.take() {
            std::thread::sleep(after);
            if !going.over() {
                going.signal(Signal::KILL);
            }
        }
        let ended = going.end(SOON);
        let (_, sealed) = cluster.made(before);
        match ended.code {
            Some(0) if sealed == 1 => return Ok(format!("{} {}", trail.join(" "), words[0]).trim().to_owned()),
            Some(0) => return Err(format!("exit 0 with {sealed} sealed points\n{}", ended.said)),
            // A process on the node may not have heard yet that the ferry which it served is gone.
            Some(7) if ended.said.contains("another ferry works on this cluster") => {
                std::thread::sleep(Duration::from_millis(300));
                trail.push("exit-7".to_owned());
            }
            None => trail.push("killed".to_owned()),
            Some(code) => return Err(format!("{words:?} again: exit {code}\n{}", ended.said)),
        }
    }
    Err(format!("it did not come to an end: {trail:?}"))
}

/// How a ferry is to be killed.
#[derive(Debug, Clone)]
enum Kill {
    /// At the nth system call of this name in one of its threads.
    Call(&'static str, usize),
    /// When it has come there, and a little later.
    In(Phase),
}

#[derive(Debug)]
struct KillCase {
    kill: Kill,
    attach: bool,
    seed: u64,
}

/// Waits until the run is in the phase, then as long as drawn; false when it was over before.
fn wait_for(cluster: &Cluster, before: &Before, going: &mut Going, wanted: Phase, draw: &mut Draw) -> bool {
    let hooks = cluster.count("hook");
    let begun = Instant::now();
    if wanted == Phase::BeforeStart {
        std::thread::sleep(draw.millis(600));
        return !going.over();
    }
    while phase(cluster, before, hooks) < wanted {
        if going.over() || begun.elapsed() > SOON {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if wanted == Phase::Collect {
        // Somewhere in the middle of the bytes, which come slowly then.
        let until = draw.below(2 << 20);
        let begun = Instant::now();
        while !going.over() && cluster.part_bytes().unwrap_or(0) < until && begun.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(1));
        }
        return !going.over();
    }
    std::thread::sleep(draw.millis(match wanted {
        Phase::Launch => 200,
        Phase::Running => 300,
        // It is short: ferry hears of the end within a poll.
        Phase::HookEnd => 30,
        Phase::Seal => 160,
        _ => 130,
    }));
    !going.over()
}

#[test]
fn a_killed_ferry_is_carried_on() {
    let mut draw = Draw::new("kills");
    let calls: &[(&str, usize, usize)] = if long() {
        // Every flush, rename, removal and folder; every second write and every fourth packet.
        &[
            ("fsync", 60, 1),
            ("fdatasync", 30, 1),
            ("rename", 30, 1),
            ("unlink", 30, 1),
            ("mkdir", 20, 1),
            ("write", 160, 2),
            ("sendto", 160, 4),
        ]
    } else {
        // strace counts in each thread by itself, so low numbers meet many places.
        &[("fsync", 2, 1), ("fdatasync", 3, 1), ("rename", 2, 1), ("write", 60, 25), ("sendto", 20, 8)]
    };
    let mut kills: Vec<Kill> = Vec::new();
    for (call, most, step) in calls {
        let first = 1 + usize::try_from(draw.below(*step as u64)).unwrap();
        kills.extend((first..=*most).step_by(*step).map(|nth| Kill::Call(call, nth)));
    }
    for _ in 0..if long() { 30 } else { 2 } {
        kills.extend(PHASES.map(Kill::In));
    }
    let cases: Vec<KillCase> =
        kills.into_iter().map(|kill| KillCase { kill, attach: draw.below(3) == 0, seed: draw.next() }).collect();
    let (where_killed, how_ended, asked) = (Table::default(), Table::default(), Table::default());
    let passed: Mutex<BTreeMap<&str, usize>> = Mutex::default();
    let killed = Mutex::new(0_usize);
    let begun = Instant::now();
    work(
        2,
        cases,
        || proxied(0.5, 3),
        |place, case| {
            let cluster = &place.cluster;
            let mut draw = Draw(case.seed);
            let before = cluster.before();
            let hooks = cluster.count("hook");
            let ended = match &case.kill {
                Kill::Call(call, nth) => {
                    if passed.lock().unwrap().get(call).is_some_and(|most| nth > most) {
                        return Ok(());
                    }
                    let ended = Going::start(&mut cluster.killed_at(call, *nth)).end(SOON);
                    if ended.code.is_some() {
                        passed.lock().unwrap().entry(call).and_modify(|most| *most = (*most).min(*nth)).or_insert(*nth);
                    }
                    ended
                }
                Kill::In(wanted) => {
                    let slow = if *wanted == Phase::Collect { 2 << 20 } else { 0 };
                    place.proxies.iter().for_each(|proxy| proxy.throttle(slow));
                    let mut going = Going::start(&mut cluster.backup());
                    if wait_for(cluster, &before, &mut going, *wanted, &mut draw) {
                        going.signal(Signal::KILL);
                    }
                    let ended = going.end(SOON);
                    place.proxies.iter().for_each(|proxy| proxy.throttle(0));
                    ended
                }
            };
            match ended.code {
                Some(0) => {
                    asked.add(format!("{:?}", case.kill), "passed before it was killed");
                    return cluster.settled(&before);
                }
                Some(code) => return Err(format!("exit {code} without a kill\n{}", ended.said)),
                None => *killed.lock().unwrap() += 1,
            }
            let at = phase(cluster, &before, hooks);
            let by = match &case.kill {
                Kill::Call(call, _) => *call,
                Kill::In(_) => "watched",
            };
            where_killed.add(format!("{at:?}"), by);
            let twice = (draw.below(4) == 0).then(|| draw.millis(1500));
            let how = again(cluster, &before, case.attach, twice)?;
            how_ended.add(format!("{at:?}"), if how.is_empty() { "nothing was left to do" } else { &how });
            cluster.settled(&before)
        },
    );
    where_killed
        .print("where ferry was killed, and by what (call of the system that it died in, or watched from outside)");
    how_ended.print("what it took afterwards");
    asked.print("not killed");
    println!(
        "{} kills in {:.0} s, every one ended in one gravity run and one verified point",
        killed.into_inner().unwrap(),
        begun.elapsed().as_secs_f64()
    );
    let counts: Vec<(Phase, usize)> =
        PHASES.into_iter().map(|phase| (phase, where_killed.sum(&format!("{phase:?}")))).collect();
    if long() {
        assert!(counts.iter().all(|(_, count)| *count >= 15), "too few kills in a phase: {counts:?}");
    } else {
        // A sample may miss a short phase, but not several.
        assert!(
            counts.iter().filter(|(_, count)| *count > 0).count() + 2 >= counts.len(),
            "too few phases: {counts:?}"
        );
    }
}

#[derive(Debug)]
struct FaultCase {
    fault: Fault,
    /// Which of the three links; all when `None`.
    node: Option<usize>,
    /// The phase in which it strikes, and how long after its beginning.
    phase: Phase,
    after: Duration,
    /// New connections are turned away for so long.
    closed: Duration,
}

fn fault_cases(draw: &mut Draw, fault: Fault, count: usize) -> Vec<FaultCase> {
    let phases = [
        Phase::BeforeStart,
        Phase::Launch,
        Phase::Running,
        Phase::HookEnd,
        Phase::Collect,
        Phase::Seal,
        Phase::Cleanup,
    ];
    let from = usize::try_from(draw.below(7)).unwrap();
    (0..count)
        .map(|number| FaultCase {
            fault,
            node: match draw.below(4) {
                0 | 1 => None,
                2 => Some(0),
                _ => Some(usize::try_from(draw.below(3)).unwrap()),
            },
            // In turn, so that a small sample has several; two thirds where a run is longest.
            phase: phases[(from + number * 3) % 7],
            after: draw.millis(400),
            closed: if draw.below(3) == 0 { draw.millis(2500) } else { Duration::ZERO },
        })
        .collect()
}

/// One case: strikes, waits for the end, calls again where it ended with 4 or 8.
fn struck(place: &mut Proxied, case: &FaultCase, table: &Table) -> Result<(), String> {
    let (cluster, proxies) = (&place.cluster, &place.proxies);
    let before = cluster.before();
    let hooks = cluster.count("hook");
    proxies.iter().for_each(|proxy| proxy.throttle(2 << 20));
    let mut going = Going::start(&mut cluster.backup());
    if case.phase == Phase::BeforeStart {
        std::thread::sleep(Duration::from_millis(60));
    }
    while phase(cluster, &before, hooks) < case.phase && !going.over() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(case.after);
    let at = if going.over() { Phase::Over } else { phase(cluster, &before, hooks) };
    let hit: usize = proxies
        .iter()
        .enumerate()
        .filter(|(index, _)| case.node.is_none_or(|node| node == *index))
        .map(|(_, proxy)| proxy.strike(case.fault))
        .sum();
    if !case.closed.is_zero() {
        proxies.iter().for_each(|proxy| proxy.close(true));
        std::thread::sleep(case.closed);
        proxies.iter().for_each(|proxy| proxy.close(false));
    }
    let limit = Duration::from_secs(280);
    let first = going.end(limit);
    proxies.iter().for_each(|proxy| proxy.throttle(0));
    let mut trail = vec![code(&first)];
    let mut last = first;
    while last.code != Some(0) {
        let busy = last.code == Some(7) && last.said.contains("another ferry works on this cluster");
        // A frozen link keeps the lock of the ferry behind it for 45 s.
        if !matches!(last.code, Some(4 | 8)) && !busy || trail.len() > 12 {
            return Err(format!("{at:?}, {hit} links struck: {trail:?}\n{}", last.said));
        }
        let (_, sealed) = cluster.made(&before);
        if sealed == 1 && cluster.jobs().is_empty() {
            break;
        }
        if busy {
            std::thread::sleep(Duration::from_secs(8));
        }
        last = Going::start(&mut cluster.backup()).end(limit);
        trail.push(code(&last));
    }
    trail.dedup();
    table.add(format!("{:?} {at:?}", case.fault), format!("exit {}", trail.join(", then ")));
    cluster.settled(&before)
}

fn code(ended: &Ended) -> String {
    ended.code.map_or_else(|| "signal".to_owned(), |code| code.to_string())
}

#[test]
fn connections_that_are_reset() {
    let mut draw = Draw::new("resets");
    let cases = fault_cases(&mut draw, Fault::Reset, if long() { 40 } else { 6 });
    let (table, begun) = (Table::default(), Instant::now());
    work(if long() { 4 } else { 2 }, cases, || proxied(0.7, 3), |place, case| struck(place, case, &table));
    table.print("reset connections: kind and phase, exit codes");
    println!("resets took {:.0} s", begun.elapsed().as_secs_f64());
}

#[test]
fn connections_that_freeze_or_go_deaf_in_one_direction() {
    let mut draw = Draw::new("freezes");
    let each = if long() { 20 } else { 2 };
    let cases: Vec<FaultCase> = [Fault::Freeze, Fault::StallUp, Fault::StallDown]
        .into_iter()
        .flat_map(|fault| fault_cases(&mut draw, fault, each))
        .collect();
    let (table, begun) = (Table::default(), Instant::now());
    // Most of the time nobody works: they wait for a link to be found dead.
    let width = if long() { 12 } else { cases.len() };
    work(width, cases, || proxied(0.7, 3), |place, case| struck(place, case, &table));
    table.print("frozen and half deaf connections: kind and phase, exit codes");
    println!("freezes and stalls took {:.0} s", begun.elapsed().as_secs_f64());
}

#[test]
fn a_write_to_a_frozen_peer_ends_within_a_minute() {
    let place = proxied(0.3, 1);
    let up = &place.cluster.up;
    let port = place.proxies[0].port;
    let identities = ferry::remote::ssh::auth::Identities::new(
        vec![up.key.clone()],
        Vec::new(),
        None,
        std::sync::Arc::new(|_: &std::path::Path| None),
    );
    let target = ferry::remote::ssh::connect::Target::new(
        "prod-1",
        ("127.0.0.1", port),
        "root",
        identities,
        place.cluster.dir().join("known_hosts_proxied"),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let took: Vec<(Fault, Duration)> = runtime.block_on(async {
        let faults = [Fault::Freeze, Fault::StallUp, Fault::StallDown];
        // All connections first: a strike hits what is open, so each gets a proxy of its own.
        let tasks = faults.map(|fault| {
            let proxy = Proxy::before(up.nodes[0].port);
            let mut target = target.clone();
            target.port = proxy.port;
            let known = place.cluster.dir().join(format!("known_hosts_{fault:?}"));
            let text = std::fs::read_to_string(&up.known_hosts).unwrap();
            std::fs::write(
                &known,
                text.replace(&format!("[127.0.0.1]:{} ", up.nodes[0].port), &format!("[127.0.0.1]:{} ", proxy.port)),
            )
            .unwrap();
            target.known_hosts = vec![known];
            tokio::spawn(async move {
                let way = ferry::remote::Way::Ssh(Box::new(target));
                let session = way.connect(ferry::remote::ssh::connect::Lane::Control).await.unwrap();
                let command = ferry::remote::Command::words(["cat"]).unwrap();
                let mut child = session.open(&command).await.unwrap();
                child.write(b"it lives\n").await.unwrap();
                assert!(
                    matches!(child.next().await, Some(ferry::remote::Piece::Out(bytes)) if bytes == "it lives\n"[..])
                );
                assert_eq!(proxy.strike(fault), 1);
                let begun = Instant::now();
                // Small writes now and then, as a heartbeat makes them, then as much as goes.
                let failure = loop {
                    let piece =
                        if begun.elapsed() < Duration::from_secs(3) { vec![b'x'; 10] } else { vec![b'x'; 256 << 10] };
                    if let Err(failure) = child.write(&piece).await {
                        break failure;
                    }
                    assert!(begun.elapsed() < Duration::from_secs(120), "{fault:?}: still writing");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                };
                assert_eq!(failure.kind, ferry::failure::Kind::Unreachable, "{failure}");
                assert!(failure.again, "{failure}");
                (fault, begun.elapsed())
            })
        });
        let mut took = Vec::new();
        for task in tasks {
            took.push(tokio::time::timeout(Duration::from_secs(150), task).await.expect("it ends").unwrap());
        }
        took
    });
    for (fault, took) in took {
        println!("a write to a peer behind {fault:?} ended with an error after {:.1} s", took.as_secs_f64());
        assert!(took < Duration::from_secs(60), "{fault:?}: {took:?}");
    }
}

#[test]
fn a_node_that_reboots_in_the_middle_is_told_as_unknown() {
    let cluster = Cluster::warm(0.3, 1);
    let set = |text: &str| ferry::sandbox::set_faults(cluster.dir(), &[text.parse().unwrap()]).unwrap();
    set("prod:hook-seconds=30");
    let before = cluster.before();
    let mut going = Going::start(&mut cluster.backup());
    let hooks = cluster.count("hook");
    while phase(&cluster, &before, hooks) < Phase::Running || cluster.begun() == 0 {
        assert!(!going.over());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(cluster.made(&before), (1, 0));
    ferry::sandbox::reboot(cluster.dir(), "prod-1").unwrap();
    let ended = going.end(SOON);
    assert_eq!(ended.code, Some(8), "{}", ended.said);
    for words in ["restarted", "kubectl -n kube-system get jobs", "journalctl", "ferry jobs clean"] {
        assert!(ended.said.contains(words), "{words:?} is not in:\n{}", ended.said);
    }
    assert_eq!(cluster.made(&before), (1, 0));
    // The same command again says the same and starts nothing.
    let same = Going::start(&mut cluster.backup()).end(SOON);
    assert_eq!(same.code, Some(8), "{}", same.said);
    assert_eq!(cluster.made(&before), (1, 0));
    let jobs = cluster.jobs();
    assert_eq!(jobs.len(), 1);
    let id = jobs[0]["job"].as_str().unwrap();
    let cleaned = cluster.run(&["jobs", "clean", id, "--yes"], SOON);
    assert_eq!(cleaned.code, Some(0), "{}", cleaned.said);
    assert!(cluster.jobs().is_empty());
    set("prod:hook-seconds=0.3");
    // The cluster still lists the hook of the node that went down, and ferry does not start beside it.
    let beside = Going::start(&mut cluster.backup()).end(SOON);
    assert_eq!(beside.code, Some(7), "{}", beside.said);
    assert!(beside.said.contains("kubectl -n kube-system delete job"), "{}", beside.said);
    // The operator does what the sentence says.
    for entry in std::fs::read_dir(cluster.up.shared("prod").join("jobs")).unwrap().flatten() {
        std::fs::remove_file(entry.path()).unwrap();
    }
    let fresh = cluster.before();
    let after = Going::start(&mut cluster.backup()).end(SOON);
    assert_eq!(after.code, Some(0), "{}", after.said);
    cluster.settled(&fresh).unwrap();
}

#[test]
fn two_ferries_at_once() {
    let pairs = if long() { 40 } else { 5 };
    let (table, begun) = (Table::default(), Instant::now());
    work(
        2,
        (0..pairs).collect(),
        || Cluster::warm(2.0, 1),
        |cluster, _: &usize| {
            let before = cluster.before();
            let pair = [Going::start(&mut cluster.backup()), Going::start(&mut cluster.backup())];
            let pair = pair.map(|going| going.end(SOON));
            let codes: Vec<Option<i32>> = pair.iter().map(|ended| ended.code).collect();
            table.add("pair", format!("{codes:?}"));
            let (won, lost) = match codes.as_slice() {
                [Some(0), Some(7)] => (&pair[0], &pair[1]),
                [Some(7), Some(0)] => (&pair[1], &pair[0]),
                _ => return Err(format!("{codes:?}\n{}\n{}", pair[0].said, pair[1].said)),
            };
            let run = won.said.split("run ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("?");
            for words in
                ["another ferry works on this cluster", &format!("(run {run}, process "), " since ", "ferry jobs "]
            {
                if !lost.said.contains(words) {
                    return Err(format!("{words:?} is not in\n{}", lost.said));
                }
            }
            let user = std::env::var("USER").ok();
            let _ = user;
            cluster.settled(&before)
        },
    );
    table.print("two ferries at once: exit codes");
    println!("two at once took {:.0} s", begun.elapsed().as_secs_f64());

    // One that comes while the job runs is told how to watch it.
    let cluster = Cluster::warm(3.0, 1);
    let before = cluster.before();
    let mut first = Going::start(&mut cluster.backup());
    while phase(&cluster, &before, cluster.count("hook")) < Phase::Running {
        assert!(!first.over());
        std::thread::sleep(Duration::from_millis(5));
    }
    let late = Going::start(&mut cluster.backup()).end(SOON);
    assert_eq!(late.code, Some(7), "{}", late.said);
    assert!(late.said.contains("ferry jobs attach "), "{}", late.said);
    assert_eq!(first.end(SOON).code, Some(0));
    cluster.settled(&before).unwrap();
}

#[test]
fn signals_stop_before_the_job_and_detach_after() {
    let cluster = Cluster::warm(0.5, 1);
    let slow = |seconds: &str| {
        ferry::sandbox::set_faults(cluster.dir(), &[format!("prod:hook-seconds={seconds}").parse().unwrap()]).unwrap()
    };
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        // Before: the look at the nodes is slow, so there is time to say stop.
        slow("0.5");
        let faults = |text: &str| ferry::sandbox::set_faults(cluster.dir(), &[text.parse().unwrap()]).unwrap();
        faults("prod:status-slow=2");
        let before = cluster.before();
        let going = Going::start(&mut cluster.backup());
        std::thread::sleep(Duration::from_millis(500));
        going.signal(signal);
        let ended = going.end(SOON);
        faults("prod:status-slow=off");
        assert_eq!(ended.code, Some(99), "{signal:?} {}", ended.said);
        assert_eq!(cluster.made(&before), (0, 0));
        let begun = Instant::now();
        while !cluster.left_over().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", cluster.left_over());
            std::thread::sleep(Duration::from_millis(20));
        }

        // After: the job goes on.
        slow("1.5");
        let before = cluster.before();
        let mut going = Going::start(&mut cluster.backup());
        while phase(&cluster, &before, cluster.count("hook")) < Phase::Running {
            assert!(!going.over());
            std::thread::sleep(Duration::from_millis(5));
        }
        going.signal(signal);
        let ended = going.end(SOON);
        assert_eq!(ended.code, Some(8), "{signal:?} {}", ended.said);
        let id = cluster.jobs()[0]["job"].as_str().unwrap().to_owned();
        assert!(ended.said.contains(&format!("ferry jobs attach {id}")), "{}", ended.said);
        let attached = cluster.run(&["jobs", "attach", &id], SOON);
        assert_eq!(attached.code, Some(0), "{signal:?} {}", attached.said);
        cluster.settled(&before).unwrap();
    }
}
