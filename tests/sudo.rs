//! sudo's ways to say yes and no, by real sudo and PAM: each has its own sentence, its own mend, and a
//! wrong password goes out once.
//!
//! sudo's no is a host that failed: exit 2. Exit 7 is for gates, which are ferry's own; exit 4 for
//! hosts that were not reached.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ferry::remote::sudo::Denied;
use serde_json::Value;
use support::pce::{self, Cluster, Desk, said, text};
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

/// Which sudo a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Build {
    /// Debian's.
    Debian,
    /// sudo-rs, which `tests/run` builds.
    Rs,
    /// A stand-in that behaves as 1.8.23 does.
    Old,
}

/// A catalogue of messages as gettext reads it, with words of our own for what sudo says.
fn german() -> Vec<u8> {
    let mut words = vec![
        ("", "Content-Type: text/plain; charset=UTF-8\n"),
        ("Sorry, try again.", "Das war es nicht."),
        ("a password is required", "ohne Kennwort geht es nicht"),
        ("%s is not in the sudoers file.\n", "%s darf das nicht.\n"),
        ("%s is not in the sudoers file.", "%s darf das nicht."),
        ("sorry, you must have a tty to run sudo", "das geht nur von einem Terminal aus"),
        ("Account or password is expired, reset your password and try again", "Kennwort abgelaufen"),
    ];
    words.sort_unstable();
    let count = u32::try_from(words.len()).unwrap();
    let (mut tables, mut text) = ([Vec::new(), Vec::new()], Vec::new());
    for (side, table) in tables.iter_mut().enumerate() {
        for word in &words {
            let word = if side == 0 { word.0 } else { word.1 };
            let at = 28 + 16 * count + u32::try_from(text.len()).unwrap();
            table.extend([u32::try_from(word.len()).unwrap(), at]);
            text.extend_from_slice(word.as_bytes());
            text.push(0);
        }
    }
    let head = [0x9504_12de, 0, count, 28, 28 + 8 * count, 0, 0];
    let numbers = head.iter().chain(tables.iter().flatten()).flat_map(|number| number.to_le_bytes());
    numbers.chain(text).collect()
}

/// A node with this sudo, whose every answer to a prompt is counted.
fn node_with(build: Build, desk: &Desk) -> RealNode {
    let mut opts = pce::with_key(Opts::sudo(Sudo::Password), desk);
    opts.sshd_lines.push("SetEnv LANG=C.UTF-8 LANGUAGE=de".to_owned());
    let catalogue = desk.at("tmp/sudo.mo");
    std::fs::write(&catalogue, german()).unwrap();
    for name in ["sudo", "sudoers"] {
        opts.files.push((catalogue.clone(), format!("/usr/share/locale/de/LC_MESSAGES/{name}.mo"), 0o644));
    }
    // PAM gives each answer to a script after it was judged; the script says only that there was one.
    let pam = "auth required pam_unix.so\nauth optional pam_exec.so quiet expose_authtok /usr/local/bin/note\n\
               account required pam_unix.so\nsession required pam_permit.so\n";
    let open = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n";
    let note = "#!/bin/sh\n[ \"$(head -c 1 | tr -d '\\000' | wc -c)\" = 1 ] && echo sent >>/var/log/attempts\nexit 0\n";
    for (path, text, mode) in [
        ("/etc/pam.d/sudo", pam, 0o644),
        ("/etc/pam.d/sudo-i", pam, 0o644),
        ("/etc/pam.d/sshd", open, 0o644),
        ("/usr/local/bin/note", note, 0o755),
        ("/usr/local/bin/wrapper", "#!/bin/sh\nexec sudo \"$@\"\n", 0o755),
        ("/usr/local/bin/locked", "#!/bin/sh\n", 0o600),
        ("/var/log/attempts", "", 0o666),
        ("/etc/old-password", RIGHT, 0o644),
        ("/etc/old-sudo", "", 0o644),
    ] {
        opts.texts.push((path.to_owned(), text.to_owned(), mode));
    }
    opts.setup.push("useradd -M -d /srv -s /bin/sh svc".to_owned());
    match build {
        Build::Debian => {}
        Build::Rs => {
            let target = std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
            let sudo = target.join("tools/bin/sudo");
            assert!(sudo.exists(), "there is no sudo-rs in {}: tests/run builds it", sudo.display());
            opts.files.push((sudo, "/usr/bin/sudo".to_owned(), 0o4755));
        }
        Build::Old => {
            opts.setup.push("mv /usr/bin/sudo /usr/lib/sudo.real".to_owned());
            opts.texts.push(("/usr/bin/sudo.old".to_owned(), include_str!("support/old_sudo.sh").to_owned(), 0o755));
            opts.setup.push("mv /usr/bin/sudo.old /usr/bin/sudo".to_owned());
            opts.setup.push("echo 'ops ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops".to_owned());
        }
    }
    RealNode::start(opts)
}

/// How often something was answered to a prompt on this node; forgets it.
fn answered(node: &RealNode) -> usize {
    text(&node.exec_in("cat /var/log/attempts; : >/var/log/attempts").stdout).matches("sent").count()
}

/// What is the matter with sudo there.
struct Situation {
    name: &'static str,
    /// For real sudos: the user's rule, further lines of sudoers, and what chage is told.
    rule: &'static str,
    more: &'static str,
    chage: &'static str,
    /// For the stand-in.
    old: &'static str,
    given: Option<&'static str>,
    /// What comes of it.
    denied: Option<Denied>,
    /// How often something is answered to a prompt, by each build in their order.
    answers: [usize; 3],
}

const ALL: &str = "ops ALL=(ALL:ALL) ALL";

fn situations() -> Vec<Situation> {
    let plain = Situation {
        name: "",
        rule: ALL,
        more: "",
        chage: "-d 19000 -E -1",
        old: "",
        given: Some(RIGHT),
        denied: None,
        answers: [1; 3],
    };
    let free = "ops ALL=(ALL:ALL) NOPASSWD: ALL";
    let wrong = Some("not this one");
    vec![
        Situation { name: "nothing asked", rule: free, old: "nopasswd", given: None, answers: [0; 3], ..plain },
        Situation {
            name: "a password that is not needed",
            rule: free,
            old: "nopasswd",
            given: wrong,
            answers: [0; 3],
            ..plain
        },
        Situation { name: "the right password", ..plain },
        Situation {
            name: "no password given",
            given: None,
            denied: Some(Denied::PasswordNeeded),
            answers: [0; 3],
            ..plain
        },
        Situation { name: "a wrong password", given: wrong, denied: Some(Denied::WrongPassword), ..plain },
        Situation {
            name: "a wrong password, asked for once",
            more: "Defaults passwd_tries=1",
            old: "once",
            given: wrong,
            denied: Some(Denied::WrongPassword),
            ..plain
        },
        Situation {
            name: "a password to be changed",
            chage: "-d 0 -E -1",
            old: "expired",
            denied: Some(Denied::Expired),
            ..plain
        },
        Situation {
            name: "an account that has ended",
            chage: "-d 19000 -E 1",
            old: "account",
            denied: Some(Denied::Expired),
            ..plain
        },
        // sudo-rs looks at its rules before it asks.
        Situation {
            name: "not in sudoers",
            rule: "",
            old: "denied",
            denied: Some(Denied::NotAllowed),
            answers: [1, 0, 1],
            ..plain
        },
        Situation {
            name: "another command only",
            rule: "ops ALL=(ALL:ALL) /usr/bin/id",
            old: "denied",
            denied: Some(Denied::NotAllowed),
            answers: [1, 0, 1],
            ..plain
        },
        // sudo-rs knows no requiretty and says so in three lines; a terminal is not asked for then.
        Situation { name: "from a terminal only", more: "Defaults requiretty", old: "requiretty", ..plain },
        Situation {
            name: "from a terminal only, a wrong password",
            more: "Defaults requiretty",
            old: "requiretty",
            given: wrong,
            denied: Some(Denied::WrongPassword),
            ..plain
        },
        Situation { name: "a lecture", more: "Defaults lecture=always", old: "lecture", ..plain },
    ]
}

fn each_build(check: impl Fn(Build, usize, &Desk, &RealNode) + Sync) {
    std::thread::scope(|scope| {
        for (at, build) in [Build::Debian, Build::Rs, Build::Old].into_iter().enumerate() {
            let check = &check;
            scope.spawn(move || {
                let desk = Desk::new();
                let node = node_with(build, &desk);
                let inventory = pce::inventory(&desk, std::slice::from_ref(&node), &[]);
                desk.put("inventory.yml", &inventory);
                check(build, at, &desk, &node);
            });
        }
    });
}

/// Every login speaks German: what a sudo says is told apart all the same.
#[test]
fn every_sudo_is_told_apart() {
    each_build(|build, at, desk, node| {
        // That the login is German is no empty word.
        if build != Build::Rs {
            let said = node.exec_in("su -s /bin/sh ops -c 'LANG=C.UTF-8 LANGUAGE=de sudo -k -n true'");
            assert!(text(&said.stderr).contains("ohne Kennwort"), "{build:?}: {}", text(&said.stderr));
        }
        for case in situations() {
            let name = format!("{build:?}, {}", case.name);
            let set = match build {
                Build::Old => format!("echo '{}' >/etc/old-sudo", case.old),
                _ => format!(
                    "chage {} ops; echo '{}' >/etc/sudoers.d/ops; echo '{}' >/etc/sudoers.d/zz; chmod 440 /etc/sudoers.d/zz",
                    case.chage, case.rule, case.more
                ),
            };
            let done = node.exec_in(&set);
            assert!(done.status.success(), "{name}: {}", text(&done.stderr));
            answered(node);
            let mut args = vec!["ping", "prod", "--json"];
            let file = case.given.map(|password| desk.put("password", &format!("{password}\n")));
            if let Some(file) = &file {
                args.extend(["--become-password-file", file.to_str().unwrap()]);
            }
            let out = desk.run(&args);
            let answers: Value =
                serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{name}: {}", said(&out)));
            match case.denied {
                None => {
                    assert_eq!(out.status.code(), Some(0), "{name}: {}", said(&out));
                    assert_eq!(answers[0]["root"], true, "{name}: {answers}");
                }
                Some(denied) => {
                    assert_eq!(out.status.code(), Some(2), "{name}: {}", said(&out));
                    let failure = failure_of(&answers, "prod-1");
                    assert_eq!(failure["what"], denied.to_string(), "{name}: {failure:#}");
                }
            }
            // sudo may still be ending.
            let deadline = Instant::now() + Duration::from_secs(8);
            let mut seen = answered(node);
            while seen < case.answers[at] && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
                seen += answered(node);
            }
            std::thread::sleep(Duration::from_millis(100));
            seen += answered(node);
            assert_eq!(seen, case.answers[at], "{name}: {}", said(&out));
            println!("{name}: {}", case.denied.map_or_else(|| "yes".to_owned(), |denied| denied.to_string()));
        }
    });
}

/// Whom to become, by what, and with which flags.
#[test]
fn every_way_to_become_is_taken_or_named() {
    each_build(|build, _, desk, node| {
        let file = desk.put("password", &format!("{RIGHT}\n"));
        let set = node.exec_in("echo >/etc/old-sudo; rm -f /etc/sudoers.d/zz");
        assert!(set.status.success(), "{}", text(&set.stderr));
        let call = |vars: &[&str]| {
            let mut args = vec!["exec", "prod", "-b", "--become-password-file", file.to_str().unwrap()];
            for var in vars {
                args.extend(["-e", var]);
            }
            args.extend([
                "-m",
                "shell",
                "-a",
                "printf '%s %s %s\\n' \"$(id -un)\" \"$HOME\" \"${SUDO_USER:-}\"; exit 3",
            ]);
            desk.run(&args)
        };
        let yes: [(&[&str], &str); 8] = [
            (&[], "root /root ops"),
            (&["ansible_become_user=svc"], "svc /srv ops"),
            (&["ansible_become_exe=/usr/bin/sudo"], "root /root ops"),
            (&["ansible_become_exe=/usr/local/bin/wrapper"], "root /root ops"),
            (&["{\"ansible_become_flags\": \"-H -S -n\"}"], "root /root ops"),
            (&["ansible_become_flags=-E"], "root /root ops"),
            (&["ansible_become_flags=-i", "ansible_become_user=svc"], "svc /srv ops"),
            (&["ansible_become_flags=-s"], "root /root ops"),
        ];
        for (vars, expected) in yes {
            let out = call(vars);
            let name = format!("{build:?}, {vars:?}");
            assert_eq!(out.status.code(), Some(2), "{name}: {}", said(&out));
            assert!(text(&out.stdout).contains(&format!("prod-1 | {expected}\n")), "{name}: {}", said(&out));
            assert!(said(&out).contains("exit code 3"), "{name}: {}", said(&out));
            println!("{name}: {expected}");
        }
        let no: [(&[&str], Denied, &str); 5] = [
            (&["ansible_become_user=nobody-here"], Denied::NoUser, "ansible_become_user is nobody-here"),
            (&["ansible_become_flags=--no-such-flag"], Denied::Flags, "ansible_become_flags are --no-such-flag"),
            (
                &["ansible_become_exe=/usr/bin/no-such-sudo"],
                Denied::NoSudo,
                "ansible_become_exe is /usr/bin/no-such-sudo",
            ),
            (
                &["ansible_become_exe=/usr/local/bin/locked"],
                Denied::NoSudo,
                "ansible_become_exe is /usr/local/bin/locked",
            ),
            (&["{\"ansible_become_exe\": \"sudo; id\"}"], Denied::NoSudo, "ansible_become_exe is sudo; id"),
        ];
        for (vars, denied, words) in no {
            let out = call(vars);
            let name = format!("{build:?}, {vars:?}");
            assert_eq!(out.status.code(), Some(2), "{name}: {}", said(&out));
            assert!(said(&out).contains(&denied.to_string()), "{name}: {}", said(&out));
            assert!(said(&out).contains(words), "{name}: {}", said(&out));
            println!("{name}: {denied}");
        }
    });
}
