//! sudo's ways to say yes and no, by real sudo and PAM: each has its own sentence, its own mend, and a
//! wrong password goes out once.
//!
//! sudo's no is a host that failed: exit 2. Exit 7 is for gates, which are ferry's own; exit 4 for
//! hosts that were not reached.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use ferry::remote::sudo::Denied;
use serde_json::Value;
use support::pce::{Cluster, Desk, said, text};
use support::real::{Opts, RealNode, Sudo};

const LOG: &str = "/var/log/sudo.log";

/// A node whose sudo keeps a log of its own.
fn opts(sudo: Sudo, setup: &[&str]) -> Opts {
    let mut opts = Opts::sudo(sudo);
    let log = format!("printf 'Defaults logfile={LOG}\\n' >/etc/sudoers.d/log; chmod 440 /etc/sudoers.d/log");
    opts.setup.push(log);
    opts.setup.extend(setup.iter().map(|line| (*line).to_owned()));
    opts
}

/// How many wrong passwords sudo counted on this node.
fn wrong_passwords(node: &RealNode) -> usize {
    // sudo folds long lines of its log.
    let log = text(&node.exec_in(&format!("cat {LOG} 2>/dev/null")).stdout).replace("\n    ", " ");
    log.lines()
        .filter_map(|line| {
            let at = line.find(" incorrect password attempt")?;
            line[..at].rsplit(' ').next()?.parse::<usize>().ok()
        })
        .sum()
}

/// What sudo counted, once it has: it writes its log when it ends, which may be after ferry has turned
/// away. More than expected is seen too: the count is looked at again a little later.
fn settled(node: &RealNode, expected: usize) -> usize {
    let deadline = Instant::now() + Duration::from_secs(15);
    while wrong_passwords(node) < expected && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(200));
    wrong_passwords(node)
}

fn failure_of<'a>(answers: &'a Value, host: &str) -> &'a Value {
    let all = answers.as_array().unwrap();
    let one = all.iter().find(|one| one["host"] == host).unwrap_or_else(|| panic!("{host} is not in {answers}"));
    &one["failure"]
}

/// One node and what comes of it, by `ping` and by `backup`.
struct Case {
    name: &'static str,
    opts: Opts,
    /// What is given; `None` for nothing.
    password: Option<&'static str>,
    denied: Option<Denied>,
    /// Words of the line that mends it.
    mend: &'static str,
    /// Wrong passwords that sudo may count, for each command that ferry runs.
    wrong: usize,
}

const RIGHT: &str = "Corr3ct-horse battery";

fn check(case: &Case) {
    let name = case.name;
    let desk = Desk::new();
    let cluster = Cluster::start(&desk, 1, &case.opts);
    let node = &cluster.nodes[0];
    desk.put("inventory.yml", &cluster.inventory(&desk, &[]));
    let mut args = Vec::new();
    let file = case.password.map(|password| desk.put("password", &format!("{password}\n")));
    if let Some(file) = &file {
        args.extend(["--become-password-file", file.to_str().unwrap()]);
    }
    let with = |words: &[&'static str]| {
        let all: Vec<&str> = words.iter().copied().chain(args.iter().copied()).collect();
        desk.run(&all)
    };
    let json = with(&["ping", "prod", "--json"]);
    let answers: Value = serde_json::from_slice(&json.stdout).unwrap_or_else(|_| panic!("{name}: {}", said(&json)));
    let Some(denied) = case.denied else {
        assert_eq!(json.status.code(), Some(0), "{name}: {}", said(&json));
        assert_eq!(answers[0]["root"], true, "{name}: {answers}");
        let backup = with(&["backup", "prod", "--waive", "space=the disk of a test machine"]);
        assert_eq!(backup.status.code(), Some(0), "{name}: {}", said(&backup));
        assert_eq!((cluster.runs(), wrong_passwords(node)), (1, 0), "{name}");
        println!("{name}: yes");
        return;
    };
    let failure = failure_of(&answers, "prod-1");
    assert_eq!(failure["what"], denied.to_string(), "{name}: {failure:#}");
    assert_eq!(failure["host"], "prod-1", "{name}: {failure:#}");
    assert_eq!(failure["chain"][0], "sudo", "{name}: {failure:#}");
    let mend = failure["mend"].as_str().unwrap_or_default();
    assert!(mend.contains(case.mend) && mend.is_empty() == case.mend.is_empty(), "{name}: {failure:#}");
    assert_eq!(json.status.code(), Some(2), "{name}: {}", said(&json));
    assert_eq!(settled(node, case.wrong), case.wrong, "{name}: {}", text(&node.exec_in(&format!("cat {LOG}")).stdout));

    // For people: the sentence in the table, and what to do below it.
    let human = with(&["ping", "prod"]);
    assert_eq!(human.status.code(), Some(2), "{name}: {}", said(&human));
    assert!(text(&human.stdout).contains(&denied.to_string()), "{name}: {}", said(&human));
    assert!(text(&human.stderr).contains(case.mend), "{name}: {}", said(&human));

    let backup = with(&["backup", "prod", "--waive", "space=the disk of a test machine"]);
    assert_eq!(backup.status.code(), Some(2), "{name}: {}", said(&backup));
    assert!(said(&backup).contains(&denied.to_string()), "{name}: {}", said(&backup));
    assert!(said(&backup).contains(case.mend), "{name}: {}", said(&backup));
    assert_eq!(cluster.runs(), 0, "{name}: gravity ran");
    assert_eq!(settled(node, case.wrong * 3), case.wrong * 3, "{name}: each command sends it once");
    for out in [&json, &human, &backup] {
        assert!(!case.password.is_some_and(|password| said(out).contains(password)), "{name}: {}", said(out));
    }
    println!("{name}: {denied}");
}

fn check_all(cases: &[Case]) {
    // Two at once: the machine that tests has little more.
    for pair in cases.chunks(2) {
        std::thread::scope(|scope| {
            for case in pair {
                scope.spawn(move || check(case));
            }
        });
    }
}

#[test]
fn sudo_says_yes() {
    let lecture =
        "printf 'Defaults lecture=always\\nDefaults pwfeedback\\n' >/etc/sudoers.d/zz; chmod 440 /etc/sudoers.d/zz";
    let case = |name, opts, password| Case { name, opts, password, denied: None, mend: "", wrong: 0 };
    check_all(&[
        case("without a password", opts(Sudo::NoPasswd, &[]), None),
        // A password that nobody asks for is not sent.
        case("with a wrong password that is not needed", opts(Sudo::NoPasswd, &[]), Some("not this one")),
        case("with the right password", opts(Sudo::Password, &[]), Some(RIGHT)),
        case("with a lecture and echoed stars", opts(Sudo::Password, &[lecture]), Some(RIGHT)),
        // A terminal is asked for only here; the archive passes it byte by byte.
        case("from a terminal only", opts(Sudo::RequireTty, &[]), Some(RIGHT)),
    ]);
}

#[test]
fn sudo_says_no() {
    let file = |text: &str| format!("printf '{text}' >/etc/sudoers.d/zz; chmod 440 /etc/sudoers.d/zz");
    let once = file("Defaults passwd_tries=1\\n");
    // What a sudo in another language says: nothing of it is known to us.
    let foreign =
        file("Defaults badpass_message=\"Das war nichts.\"\\nDefaults authfail_message=\"%%d falsche Eingaben\"\\n");
    let account = "chage -d 19000 -E 1 ops; printf 'auth required pam_permit.so\\naccount required pam_permit.so\\nsession required pam_permit.so\\n' >/etc/pam.d/sshd";
    let some = file("ops ALL=(ALL:ALL) NOPASSWD: /usr/bin/id\\n").replace("/zz", "/ops");
    let case =
        |name, opts, password, denied, mend, wrong| Case { name, opts, password, denied: Some(denied), mend, wrong };
    check_all(&[
        case(
            "no password given",
            opts(Sudo::Password, &[]),
            None,
            Denied::PasswordNeeded,
            "--become-password-file FILE",
            0,
        ),
        case(
            "wrong password",
            opts(Sudo::Password, &[]),
            Some("not this one"),
            Denied::WrongPassword,
            "check the password",
            1,
        ),
        case(
            "wrong password, asked once",
            opts(Sudo::Password, &[&once]),
            Some("not this one"),
            Denied::WrongPassword,
            "check the password",
            1,
        ),
        case(
            "wrong password, in other words",
            opts(Sudo::Password, &[&foreign]),
            Some("not this one"),
            Denied::WrongPassword,
            "check the password",
            0,
        ),
        case(
            "not in sudoers",
            opts(Sudo::NotInSudoers, &[]),
            Some(RIGHT),
            Denied::NotAllowed,
            "add the user to sudoers on prod-1",
            0,
        ),
        case(
            "another command only",
            opts(Sudo::Password, &[&some]),
            Some(RIGHT),
            Denied::NotAllowed,
            "add the user to sudoers on prod-1",
            0,
        ),
        case("password expired", opts(Sudo::Expired, &[]), Some(RIGHT), Denied::Expired, "set a new password", 0),
        case(
            "account expired",
            opts(Sudo::Password, &[account]),
            Some(RIGHT),
            Denied::Expired,
            "set a new password",
            0,
        ),
        case("no sudo", opts(Sudo::NoPasswd, &["rm /usr/bin/sudo"]), None, Denied::NoSudo, "install sudo", 0),
    ]);
}

/// Three hosts and a typing error: one of them gets the password, the others are told about.
#[test]
fn a_wrong_password_goes_to_one_host_of_three() {
    for words in ["", "Defaults passwd_tries=1\\nDefaults authfail_message=\"%%d falsche Eingaben\"\\n"] {
        let desk = Desk::new();
        let setup = format!("printf '{words}' >/etc/sudoers.d/zz; chmod 440 /etc/sudoers.d/zz");
        let cluster = Cluster::start(&desk, 3, &opts(Sudo::Password, &[&setup]));
        let mut wrong = 0;
        for command in ["ping", "backup"] {
            desk.put("inventory.yml", &cluster.inventory(&desk, &["ansible_become_password: not this one"]));
            let out = desk.run(&[command, "prod"]);
            assert_eq!(out.status.code(), Some(2), "{command}: {}", said(&out));
            wrong += 1;
            // sudo writes its log when it ends, which may be after ferry has turned away.
            let look = || {
                let logs: String = cluster
                    .nodes
                    .iter()
                    .map(|node| text(&node.exec_in(&format!("cat {LOG} 2>/dev/null")).stdout))
                    .collect();
                let counted: usize = cluster.nodes.iter().map(wrong_passwords).sum();
                (counted + logs.matches("falsche Eingaben").count(), logs)
            };
            let deadline = Instant::now() + Duration::from_secs(15);
            while look().0 < wrong && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
            std::thread::sleep(Duration::from_millis(200));
            let (counted, logs) = look();
            assert_eq!(counted, wrong, "{command}: {logs}");
            let all = said(&out);
            assert!(all.contains(&Denied::RefusedElsewhere.to_string()), "{command}: {all}");
            let first = if words.is_empty() { Denied::WrongPassword } else { Denied::Other };
            assert!(all.contains(&first.to_string()), "{command}: {all}");
        }
        assert_eq!(cluster.runs(), 0);
    }
}
