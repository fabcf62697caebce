//! Logging in, by real sshd, PAM, ssh-agent and ssh-keygen: certificates of every kind, keys in the agent, the
//! order in which ssh itself offers them, passwords that go out once, servers that want two
//! methods, and what is said when none of it opens the door.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ferry::failure::{Failure, Kind as Why};
use ferry::remote::Session;
use ferry::remote::ssh::auth::{Identities, LoginPassword, Method};
use ferry::remote::ssh::connect::{Lane, Target, connect};
use support::pce::{Desk, FERRY, finish, said, tool, trusting};
use support::real::{Kind, Opts, RealNode, Sudo};

const RIGHT: &str = "Corr3ct-horse battery";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Identities with some fields changed.
macro_rules! ids {
    ({ $($field:ident: $value:expr),* $(,)? } ..$base:expr) => {{
        let mut changed = $base;
        $(changed.$field = $value;)*
        changed
    }};
}

/// No key, no agent, nobody to ask.
fn nothing() -> Identities {
    Identities::new(Vec::new(), Vec::new(), None, Arc::new(|_| None))
}

fn files(named: &[&Path]) -> Identities {
    nothing().with(named.iter().map(|path| (*path).to_owned()).collect(), Vec::new(), None)
}

fn with_password(identities: Identities, password: &Arc<LoginPassword>) -> Identities {
    ids!({ password: Some(Arc::clone(password)), } ..identities)
}

/// The way to a server on this port, by these identities.
fn target(name: &str, port: u16, known_hosts: &Path, identities: Identities) -> Target {
    Target {
        timeout: Duration::from_secs(20),
        ..Target::new(name, ("127.0.0.1", port), "ops", identities, known_hosts.to_owned())
    }
}

/// Logs in, and says as whom.
async fn login(target: &Target) -> Result<String, Failure> {
    let session = Session::Ssh(connect(target, Lane::Control).await?);
    let said = session.run_root("id -un", Duration::from_secs(20)).await?;
    session.close().await;
    Ok(said.text().trim().to_owned())
}

async fn enter(node: &RealNode, identities: Identities) -> Result<String, Failure> {
    login(&target("node-1", node.port, &node.known_hosts_path, identities)).await
}

/// Everything that a failure says.
fn words(failure: &Failure) -> String {
    format!("{failure:?}")
}

/// A node that knows no key, has a password and PAM, and these lines in sshd_config.
fn node(lines: &[&str], setup: &[String]) -> RealNode {
    let mut opts = Opts::sudo(Sudo::Password);
    opts.sshd_lines = lines.iter().map(|line| (*line).to_owned()).collect();
    opts.setup = setup.to_vec();
    RealNode::start(opts)
}

fn keygen(args: &[&str]) {
    tool("ssh-keygen", &[&["-q"], args].concat());
}

fn key(desk: &Desk, name: &str, kind: &[&str]) -> PathBuf {
    let path = desk.at("operator").join(name);
    keygen(&[&["-N", "", "-C", name, "-f", path.to_str().unwrap(), "-t"], kind].concat());
    path
}

fn end(path: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", path.display()))
}

/// Signs `key` into `key-cert.pub`.
fn sign(ca: &Path, key: &Path, args: &[&str]) -> PathBuf {
    let (ca, public) = (ca.to_str().unwrap(), end(key, ".pub"));
    keygen(&[&["-s", ca, "-I", "an operator"], args, &[public.to_str().unwrap()]].concat());
    end(key, "-cert.pub")
}

fn public(key: &Path) -> String {
    std::fs::read_to_string(end(key, ".pub")).unwrap()
}

/// What a node is told to do first, so that these keys are let in.
fn authorize(keys: &[&Path]) -> Vec<String> {
    keys.iter().map(|key| format!("echo '{}' >>/home/ops/.ssh/authorized_keys", public(key).trim())).collect()
}

/// A real ssh-agent. Its process ends with it.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(desk: &Desk, name: &str) -> Self {
        let socket = desk.at("tmp").join(name);
        let process = Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "ssh-agent does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process, socket }
    }

    fn add(&self, args: &[&Path]) -> &Self {
        let out = Command::new("ssh-add").arg("-q").args(args).env("SSH_AUTH_SOCK", &self.socket).output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        self
    }

    fn with(&self, identities: Identities) -> Identities {
        ids!({ agent: Some(self.socket.clone()), } ..identities)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lines of the node's log with these words, once there are `expected`; a little later, so that more are seen too.
fn count(node: &RealNode, words: &str, expected: usize) -> usize {
    let begun = Instant::now();
    while node.log().matches(words).count() < expected && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(200));
    node.log().matches(words).count()
}

const KINDS: [&[&str]; 5] =
    [&["ed25519"], &["ecdsa", "-b", "256"], &["ecdsa", "-b", "384"], &["ecdsa", "-b", "521"], &["rsa", "-b", "2048"]];

#[test]
fn certificates_of_every_kind_open_the_door() {
    let desk = Desk::new();
    let (ca, rsa_ca) = (key(&desk, "ca", &["ed25519"]), key(&desk, "rsa-ca", &["rsa", "-b", "2048"]));
    let trust = [
        format!("printf '%s\\n%s\\n' '{}' '{}' >/etc/ssh/user-ca", public(&ca).trim(), public(&rsa_ca).trim()),
        ": >/home/ops/.ssh/authorized_keys".to_owned(),
    ];
    let server = node(&["TrustedUserCAKeys /etc/ssh/user-ca"], &trust);
    runtime().block_on(async {
        let mut opened = 0;
        for (number, kind) in KINDS.iter().enumerate() {
            let path = key(&desk, &format!("user{number}"), kind);
            let name = kind.join(" ");
            // The key alone is a stranger.
            let failure = enter(&server, files(&[&path])).await.unwrap_err();
            assert!(words(&failure).contains("refused"), "{name}: {failure:?}");
            let beside =
                sign(if number % 2 == 0 { &rsa_ca } else { &ca }, &path, &["-n", "ops,other", "-V", "-1h:+1h"]);
            assert_eq!(enter(&server, files(&[&path])).await.unwrap(), "ops", "{name}: beside its key");

            // Named by itself, with the key elsewhere.
            let apart = desk.at("operator").join(format!("apart{number}.pub"));
            std::fs::rename(&beside, &apart).unwrap();
            let named = ids!({ certificates: vec![apart.clone()], } ..files(&[&path]));
            assert_eq!(enter(&server, named).await.unwrap(), "ops", "{name}: CertificateFile");

            // The private half in the agent alone.
            let agent = Agent::start(&desk, &format!("a{number}"));
            agent.add(&[&path]);
            let hidden = end(&path, ".hidden");
            std::fs::rename(&path, &hidden).unwrap();
            let by_agent = ids!({ certificates: vec![apart.clone()], } ..agent.with(nothing()));
            assert_eq!(enter(&server, by_agent.clone()).await.unwrap(), "ops", "{name}: the agent signs");
            // As well where only the named keys may be used, which the certificate is.
            let only = ids!({ identities_only: true, } ..by_agent);
            assert_eq!(enter(&server, only).await.unwrap(), "ops", "{name}: IdentitiesOnly");

            // Key and certificate in the agent, nothing in files.
            std::fs::rename(&hidden, &path).unwrap();
            std::fs::rename(&apart, &beside).unwrap();
            let both = Agent::start(&desk, &format!("b{number}"));
            both.add(&[&path]);
            assert_eq!(enter(&server, both.with(nothing())).await.unwrap(), "ops", "{name}: the agent holds all");
            opened += 5;
        }
        let by_certificate = |log: &str| {
            log.lines().filter(|line| line.contains("Accepted publickey for ops") && line.contains("-CERT ")).count()
        };
        count(&server, "Accepted publickey for ops", opened);
        assert_eq!(by_certificate(&server.log()), opened);
        assert!(server.log().contains("RSA-CERT"), "{}", server.log());

        // What is wrong with a certificate is said beside the refusal.
        for (number, (args, doubt)) in [
            (&["-n", "ops", "-V", "-2h:-1h"][..], "it expired at"),
            (&["-n", "ops", "-V", "+1h:+2h"], "it is not valid before"),
            (&["-n", "alice,bob"], "it is for alice, bob, not for ops"),
            (&["-n", "ops", "-h"], "it is a host's, not a user's"),
        ]
        .iter()
        .enumerate()
        {
            let path = key(&desk, &format!("bad{number}"), &["ed25519"]);
            sign(&ca, &path, args);
            let failure = enter(&server, files(&[&path])).await.unwrap_err();
            let seen = failure.seen.clone().unwrap_or_default();
            assert_eq!(failure.what, "the server does not let ops in", "{failure:?}");
            assert!(seen.contains(doubt) && seen.contains("refused"), "{doubt}: {seen}");
            assert!(seen.contains("an operator") && seen.contains("bad"), "{seen}");
        }
        // One without its private half, one that is none: told, and the rest is tried.
        let path = key(&desk, "lonely", &["ed25519"]);
        let lonely = sign(&ca, &path, &["-n", "ops"]);
        let other = key(&desk, "other", &["ed25519"]);
        let named = ids!({ certificates: vec![lonely, other.clone(), desk.at("gone")], } ..files(&[&other]));
        let seen = enter(&server, named).await.unwrap_err().seen.unwrap_or_default();
        assert!(seen.contains("its private key is neither in a file that is named nor in the agent"), "{seen}");
        assert_eq!(seen.matches("holds none that can be read").count(), 2, "{seen}");
        assert!(seen.contains(&format!("key {} (ssh-ed25519", other.display())), "{seen}");
        println!(
            "{} kinds of certificates in 5 ways: {opened} logins; 4 that do not fit, 3 that cannot be used",
            KINDS.len()
        );
    });
}

/// The same files, agents and options, to ssh and to ferry: the same keys in the same order.
#[test]
fn keys_are_offered_in_the_order_of_ssh() {
    let desk = Desk::new();
    let ca = key(&desk, "ca", &["ed25519"]);
    let server = node(&["MaxAuthTries 40"], &[": >/home/ops/.ssh/authorized_keys".to_owned()]);
    let ssh_home = desk.at("home/.ssh");
    let (a, b, c) =
        (key(&desk, "a", &["ed25519"]), key(&desk, "b", &["ecdsa"]), key(&desk, "c", &["rsa", "-b", "2048"]));
    for path in [&a, &c] {
        sign(&ca, path, &["-n", "ops"]);
    }
    let apart = desk.at("operator").join("apart-cert.pub");
    std::fs::copy(end(&a, "-cert.pub"), &apart).unwrap();
    // A public key whose private half is in the agent alone, and one that is nowhere.
    let held = key(&desk, "held", &["ed25519"]);
    let locked = desk.at("operator").join("locked");
    keygen(&["-N", "a passphrase", "-C", "locked", "-f", locked.to_str().unwrap(), "-t", "ed25519"]);
    let agents = [Agent::start(&desk, "none"), Agent::start(&desk, "some"), Agent::start(&desk, "all")];
    agents[1].add(&[&b, &held]);
    agents[2].add(&[&c, &held, &a]);
    std::fs::rename(&held, end(&held, ".away")).unwrap();
    let held_public = end(&held, ".pub");
    let unlocked = Command::new("setsid")
        .args(["-w", "ssh-add", "-q"])
        .arg(&locked)
        .env("SSH_AUTH_SOCK", &agents[2].socket)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("SSH_ASKPASS", {
            let askpass = desk.put("askpass", "#!/bin/sh\necho a passphrase\n");
            std::fs::set_permissions(&askpass, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            askpass
        })
        .output()
        .unwrap();
    assert!(unlocked.status.success(), "{}", said(&unlocked));

    let named: [&[&Path]; 6] = [&[], &[&a], &[&b, &a], &[&c, &a, &b], &[&held_public], &[&b, &held_public, &c]];
    let certificates: [&[&Path]; 2] = [&[], &[&apart]];
    let (mut compared, mut offered_in_all) = (0, 0);
    runtime().block_on(async {
        for (agent_number, agent) in agents.iter().enumerate() {
            for files in named.iter().chain((agent_number == 2).then_some(&[locked.as_path()].as_slice())) {
                for certificates in certificates {
                    for only in [false, true] {
                        for usual in [false, true] {
                            // The usual files stand in only where none is named. What has no private half anywhere ssh
                            // shows all the same, and ferry does not.
                            let has_a = usual || files.contains(&a.as_path()) || agent_number == 2;
                            if usual && !files.is_empty()
                                || agent_number == 0 && files.contains(&held_public.as_path())
                                || !certificates.is_empty() && !has_a
                            {
                                continue;
                            }
                            let case = format!("agent {agent_number}, {files:?}, certificates {certificates:?}, only {only}, usual {usual}");
                            let id = ssh_home.join("id_ed25519");
                            if usual {
                                std::fs::copy(&a, &id).unwrap();
                            }
                            let mut ssh = Command::new("ssh");
                            ssh.args(["-F", "none", "-v", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]);
                            ssh.arg("-o").arg(format!("UserKnownHostsFile={}", server.known_hosts_path.display()));
                            ssh.arg("-o").arg(format!("IdentitiesOnly={}", if only { "yes" } else { "no" }));
                            ssh.arg("-o").arg(format!("IdentityAgent={}", agent.socket.display()));
                            ssh.args(files.iter().flat_map(|path| [Path::new("-i"), path]));
                            for path in certificates {
                                ssh.arg("-o").arg(format!("CertificateFile={}", path.display()));
                            }
                            // ssh finds the usual keys in the home of the user, not in $HOME: named here instead.
                            if files.is_empty() {
                                ssh.arg("-i").arg(&id);
                            }
                            ssh.args(["-p", &server.port.to_string(), "ops@127.0.0.1", "true"]).stdin(Stdio::null());
                            let before = failed_keys(&server.log()).len();
                            let out = ssh.output().unwrap();
                            assert_eq!(out.status.code(), Some(255), "{case}: {}", said(&out));
                            let expected = said(&out).matches("Offering public key").count();
                            // ssh shows a certificate of both file and agent twice.
                            let mut ssh_keys: Vec<String> = Vec::new();
                            for key in new_keys(&server, before, expected) {
                                if !ssh_keys.contains(&key) {
                                    ssh_keys.push(key);
                                }
                            }

                            let identities = ids!({
                                certificates: certificates.iter().map(|path| (*path).to_owned()).collect(),
                                identities_only: only,
                                usual: if files.is_empty() { vec![id.clone()] } else { Vec::new() },
                                named: files.iter().map(|path| (*path).to_owned()).collect(), } ..agent.with(nothing()));
                            let before = before + expected;
                            enter(&server, identities).await.unwrap_err();
                            let our_keys = new_keys(&server, before, ssh_keys.len());
                            assert_eq!(our_keys, ssh_keys, "{case}");
                            let _ = std::fs::remove_file(&id);
                            (compared, offered_in_all) = (compared + 1, offered_in_all + expected);
                        }
                    }
                }
            }
        }
    });
    assert!(compared >= 50 && offered_in_all > 100, "{compared} {offered_in_all}");
    println!("{compared} configurations, {offered_in_all} keys: offered as ssh offers them");
}

/// The keys that the server did not let in, in order.
fn failed_keys(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| line.split_once("Failed publickey for ops from ")?.1.split_once(" ssh2: "))
        .map(|(_, key)| key.trim().to_owned())
        .collect()
}

fn new_keys(node: &RealNode, before: usize, expected: usize) -> Vec<String> {
    let begun = Instant::now();
    while failed_keys(&node.log()).len() < before + expected && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(50));
    failed_keys(&node.log()).split_off(before)
}

/// Named keys whose private half only the agent has; and those that nobody has.
#[test]
fn a_named_key_is_used_through_the_agent() {
    let desk = Desk::new();
    let (good, other) = (key(&desk, "good", &["ed25519"]), key(&desk, "other", &["ed25519"]));
    let server = node(&["MaxAuthTries 2"], &authorize(&[&good]));
    let agent = Agent::start(&desk, "agent");
    // Three others come first: without IdentitiesOnly the server has enough before the right one comes.
    for number in 0..3 {
        agent.add(&[&key(&desk, &format!("noise{number}"), &["ed25519"])]);
    }
    agent.add(&[&good]);
    let away = end(&good, ".away");
    std::fs::rename(&good, &away).unwrap();
    runtime().block_on(async {
        let all = agent.with(nothing());
        let failure = enter(&server, all.clone()).await.unwrap_err();
        assert_eq!(failure.kind, Why::Unreachable, "{failure:?}");
        assert_eq!(failure.what, "the server ended the connection before the login was done", "{failure:?}");
        let seen = failure.seen.clone().unwrap_or_default();
        assert!(
            seen.contains("Too many authentication failures") && seen.contains("noise0") && seen.contains("no answer"),
            "{seen}"
        );
        assert!(!seen.contains("noise2"), "offered to a server that had hung up: {seen}");
        assert!(failure.mend.as_deref().unwrap_or_default().contains("IdentitiesOnly"), "{failure:?}");
        assert!(!failure.again, "{failure:?}");
        assert_eq!(count(&server, "Connection from", 2), 2, "it was not tried again by itself");

        for only in [false, true] {
            for named in [end(&good, ".pub"), good.clone()] {
                let identities = ids!({ named: vec![named.clone()], identities_only: only, } ..all.clone());
                let aim = target("node-1", server.port, &server.known_hosts_path, identities);
                assert_eq!(aim.wrong(), [], "{}", named.display());
                assert_eq!(login(&aim).await.unwrap(), "ops", "{} {only}", named.display());
            }
        }
        // A key that is protected by a passphrase is not asked for when the agent holds it.
        std::fs::rename(&away, &good).unwrap();
        keygen(&["-p", "-P", "", "-N", "a passphrase", "-f", good.to_str().unwrap()]);
        let asked = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&asked);
        let mut identities = Identities::new(
            vec![good.clone()],
            Vec::new(),
            Some(agent.socket.clone()),
            Arc::new(move |_| {
                *counter.lock().unwrap() += 1;
                None
            }),
        );
        let aim = target("node-1", server.port, &server.known_hosts_path, identities.clone());
        assert_eq!((aim.wrong(), login(&aim).await.unwrap()), (Vec::new(), "ops".to_owned()));
        assert_eq!(*asked.lock().unwrap(), 0);
        // Without the agent it is; and in BatchMode nobody is.
        identities.agent = None;
        identities.batch = true;
        let aim = target("node-1", server.port, &server.known_hosts_path, identities.clone());
        assert!(aim.wrong()[0].what.contains("protected by a passphrase"));
        assert_eq!(*asked.lock().unwrap(), 0);
        let again = ids!({ batch: false, } ..Identities::new(identities.named, Vec::new(), None, identities.ask));
        assert!(
            target("node-1", server.port, &server.known_hosts_path, again).wrong()[0]
                .what
                .contains("protected by a passphrase")
        );
        assert_eq!(*asked.lock().unwrap(), 1);

        // A public key that the agent does not hold is what it is.
        let aim =
            target("node-1", server.port, &server.known_hosts_path, ids!({ named: vec![end(&other, ".pub")], } ..all));
        assert!(aim.wrong()[0].what.ends_with("is a public key"), "{:?}", aim.wrong());
        // An agent that is gone is told.
        let gone = ids!({ agent: Some(desk.at("no-agent")), } ..nothing());
        let seen = enter(&server, gone).await.unwrap_err().seen.unwrap_or_default();
        assert!(seen.contains("no-agent: No such file"), "{seen}");
        // Algorithms that are not wanted are not used.
        let narrow = ids!({ accepted: Some(vec!["rsa-*".to_owned()]), } ..files(&[&other]));
        let seen = enter(&server, narrow).await.unwrap_err().seen.unwrap_or_default();
        assert!(
            seen.contains("not offered: PubkeyAcceptedAlgorithms leaves it out") && !seen.contains("refused"),
            "{seen}"
        );
    });
}

/// PAM and the password, by both methods, alone and after other methods.
#[test]
fn passwords_and_several_methods() {
    let desk = Desk::new();
    let (first, second) = (key(&desk, "first", &["ed25519"]), key(&desk, "second", &["rsa", "-b", "2048"]));
    let setup = authorize(&[&first, &second]);
    let no_kbd = "Match all\nKbdInteractiveAuthentication no";
    let no_password = "Match all\nPasswordAuthentication no";
    let keys = || files(&[&first, &second]);
    let mut logins = 0;
    for (lines, with_keys, methods) in [
        (&[no_kbd][..], false, &["password"][..]),
        (&[no_password], false, &["keyboard-interactive/pam"]),
        (&[], false, &["keyboard-interactive/pam"]),
        (&["AuthenticationMethods publickey,password"], true, &["publickey", "password"]),
        (&["AuthenticationMethods publickey,keyboard-interactive"], true, &["publickey", "keyboard-interactive/pam"]),
        (&["AuthenticationMethods publickey,publickey"], true, &["publickey", "publickey"]),
        (&["AuthenticationMethods keyboard-interactive,publickey"], true, &["keyboard-interactive/pam", "publickey"]),
        (
            &["AuthenticationMethods password,publickey keyboard-interactive,publickey"],
            true,
            &["keyboard-interactive/pam", "publickey"],
        ),
        (
            &["AuthenticationMethods publickey,password,keyboard-interactive"],
            true,
            &["publickey", "password", "keyboard-interactive/pam"],
        ),
        (&["AuthenticationMethods publickey,publickey,password"], true, &["publickey", "publickey", "password"]),
    ] {
        let server = node(lines, &setup);
        runtime().block_on(async {
            let some = || if with_keys { keys() } else { nothing() };
            let right = LoginPassword::new(RIGHT.into());
            // Twice: what is proven is sent again.
            for _ in 0..2 {
                assert_eq!(
                    enter(&server, with_password(some(), &right)).await.unwrap(),
                    "ops",
                    "{lines:?}: {}",
                    server.log()
                );
                logins += 1;
            }
            let log = server.log();
            for method in methods {
                assert!(
                    log.contains(&format!("Accepted {method} for ops"))
                        || log.contains(&format!("Partial {method} for ops"))
                        || log.contains(&format!("Postponed {method}")),
                    "{lines:?}: {method}: {log}"
                );
            }
            if !methods.iter().any(|method| *method != "publickey") {
                return;
            }
            // Without one it is told that one is wanted, and how it is given.
            let failure = enter(&server, some()).await.unwrap_err();
            assert_eq!(failure.what, "the server does not let ops in", "{lines:?}: {failure:?}");
            let next = methods.iter().find(|method| **method != "publickey").unwrap().trim_end_matches("/pam");
            let first = methods[0].trim_end_matches("/pam");
            let offers = failure.seen.as_deref().unwrap().split_once("still offers: ").unwrap().1;
            assert!(offers.contains(next) || offers.contains(first), "{lines:?}: {failure:?}");
            assert!(failure.mend.as_deref().unwrap().contains("ansible_password"), "{lines:?}: {failure:?}");
            // A wrong one is sent once, by one method.
            let wrong = LoginPassword::new("not this one".into());
            for expected in [
                "the server did not accept the password of ops",
                "the server wants a password; the one given was refused for",
            ] {
                let failure = enter(&server, with_password(some(), &wrong)).await.unwrap_err();
                assert!(failure.what.starts_with(expected), "{lines:?}: {failure:?}");
                assert_eq!(failure.kind, Why::Unreachable);
                assert!(!words(&failure).contains("not this one"), "{failure:?}");
            }
            let failed = |log: &str| {
                log.matches("Failed password for ops").count()
                    + log.matches("Failed keyboard-interactive/pam for ops").count()
            };
            count(&server, "Failed ", 1);
            assert_eq!(failed(&server.log()), 1, "{lines:?}: {}", server.log());
        });
    }
    println!("10 servers by password and by several methods: {logins} logins");

    // Only the methods that are wanted are used, in the order that is wanted.
    let server = node(&[], &setup);
    runtime().block_on(async {
        let right = LoginPassword::new(RIGHT.into());
        for (preferred, accepted) in [
            ("password,publickey", "Accepted password"),
            ("publickey,password", "Accepted publickey"),
            ("keyboard-interactive,publickey", "Accepted keyboard-interactive/pam"),
        ] {
            let identities =
                ids!({ methods: Method::order(Some(preferred), true, true, true), } ..with_password(keys(), &right));
            assert_eq!(enter(&server, identities).await.unwrap(), "ops");
            assert_eq!(count(&server, accepted, 1), 1, "{preferred}: {}", server.log());
        }
        let failure = enter(
            &server,
            ids!({ methods: Method::order(None, true, false, false), } ..with_password(nothing(), &right)),
        )
        .await
        .unwrap_err();
        assert_eq!(failure.what, "the server does not let ops in");
        assert!(
            failure.seen.as_deref().unwrap().ends_with("offers: publickey, password, keyboard-interactive"),
            "{failure:?}"
        );
    });
}

/// Three hosts and a typing error: one of them gets the password. And with the right one at two of three.
#[test]
fn a_wrong_password_goes_to_one_host() {
    let failed = |node: &RealNode| {
        let log = node.log();
        log.matches("Failed password for ops").count() + log.matches("Failed keyboard-interactive/pam for ops").count()
    };
    for line in ["Match all\nKbdInteractiveAuthentication no", "Match all\nPasswordAuthentication no", "MaxAuthTries 1"]
    {
        let nodes: Vec<RealNode> = (0..3).map(|_| node(&[line], &[])).collect();
        runtime().block_on(async {
            let wrong = LoginPassword::new("not this one".into());
            let all = nodes.iter().map(|node| enter(node, with_password(nothing(), &wrong)));
            let failures: Vec<Failure> =
                futures::future::join_all(all).await.into_iter().map(Result::unwrap_err).collect();
            let count: usize = {
                tokio::time::sleep(Duration::from_secs(3)).await;
                nodes.iter().map(failed).sum()
            };
            assert_eq!(count, 1, "{line}: {}", nodes.iter().map(RealNode::log).collect::<String>());
            let elsewhere =
                failures.iter().filter(|failure| failure.what.contains("was refused for ops@127.0.0.1:")).count();
            assert_eq!(elsewhere, 2, "{line}: {failures:#?}");

            // The right one, and a host where it is another: who took it gets it again, others do not.
            let right = LoginPassword::new(RIGHT.into());
            assert_eq!(enter(&nodes[0], with_password(nothing(), &right)).await.unwrap(), "ops");
            let changed = nodes[1].exec_in("echo 'ops:something else' | chpasswd");
            assert!(changed.status.success(), "{}", said(&changed));
            enter(&nodes[1], with_password(nothing(), &right)).await.unwrap_err();
            enter(&nodes[2], with_password(nothing(), &right)).await.unwrap_err();
            assert_eq!(enter(&nodes[0], with_password(nothing(), &right)).await.unwrap(), "ops");
            tokio::time::sleep(Duration::from_millis(500)).await;
            let count: usize = nodes.iter().map(failed).sum();
            assert_eq!(count, 2, "{line}");
        });
    }
}

/// The password is the host's, and the bastion is another machine: it sees keys alone.
#[test]
fn a_bastion_is_never_sent_the_password() {
    let desk = Desk::new();
    let operator = desk.key.clone();
    let bastion = node(&[], &authorize(&[&operator]));
    let behind = node(&[], &[": >/home/ops/.ssh/authorized_keys".to_owned()]);
    let known: String =
        [&bastion, &behind].iter().map(|node| std::fs::read_to_string(&node.known_hosts_path).unwrap()).collect();
    let trust = trusting(&desk.put("both", &known));
    let file = desk.put("password", &format!("{RIGHT}\n"));
    let ping = |key: &Path| {
        desk.put(
            "inventory.yml",
            &format!(
                "all:\n  hosts:\n    node-1:\n      ansible_host: 127.0.0.1\n      ansible_port: {}\n      ansible_user: ops\n      \
                 ansible_private_key_file: {}\n      ansible_ssh_common_args: \"{trust} -J ops@127.0.0.1:{}\"\n",
                behind.port,
                key.display(),
                bastion.port
            ),
        );
        desk.run(&["ping", "all", "--connection-password-file", file.to_str().unwrap()])
    };
    let out = ping(&operator);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!(count(&behind, "Accepted keyboard-interactive/pam for ops", 1), 1);
    let out = ping(&key(&desk, "stranger", &["ed25519"]));
    assert_eq!(out.status.code(), Some(4), "{}", said(&out));
    assert!(said(&out).contains("through jump host"), "{}", said(&out));
    let log = bastion.log();
    assert!(!log.contains("password for ops") && !log.contains("keyboard-interactive"), "{log}");
}

/// PAM's own ways: a password that has expired, one that takes its time, and an account that is closed.
#[test]
fn what_pam_says_is_told() {
    let kbd = ["Match all\nPasswordAuthentication no"];
    let expired = node(&kbd, &["chage -d 0 ops".to_owned()]);
    // Longer than the interval of our keepalives, which no server answers before it knows who we are.
    let slow = node(&kbd, &["sed -i '1i auth optional pam_exec.so /bin/sleep 12' /etc/pam.d/sshd".to_owned()]);
    let closed = node(&kbd, &["chage -d 19000 -E 1 ops".to_owned()]);
    runtime().block_on(async {
        let right = || with_password(nothing(), &LoginPassword::new(RIGHT.into()));
        let failure = enter(&expired, right()).await.unwrap_err();
        assert_eq!(failure.what, "the password of ops has expired: the server wants a new one", "{failure:?}");
        assert!(failure.mend.as_deref().unwrap().contains("set a new password"), "{failure:?}");
        let begun = Instant::now();
        assert_eq!(enter(&slow, right()).await.unwrap(), "ops", "{}", slow.log());
        assert!(begun.elapsed() > Duration::from_secs(11), "PAM did not take its time");
        let failure = enter(&closed, right()).await.unwrap_err();
        assert_eq!(failure.kind, Why::Unreachable, "{failure:?}");
    });
}

#[test]
fn dropbear_takes_passwords_and_keys_of_an_agent() {
    let desk = Desk::new();
    let server = RealNode::start(Opts { kind: Kind::Dropbear, ..Opts::default() });
    runtime().block_on(async {
        let right = LoginPassword::new(RIGHT.into());
        assert_eq!(enter(&server, with_password(nothing(), &right)).await.unwrap(), "ops", "{}", server.log());
        let wrong = LoginPassword::new("not this one".into());
        let failure = enter(&server, with_password(nothing(), &wrong)).await.unwrap_err();
        assert_eq!(failure.what, "the server did not accept the password of ops", "{failure:?}");
        assert_eq!(count(&server, "Bad password attempt", 1), 1);
        // Every key of the agent is tried and told: it counts no offers.
        let agent = Agent::start(&desk, "many");
        for number in 0..12 {
            agent.add(&[&key(&desk, &format!("k{number}"), &["ed25519"])]);
        }
        let failure = enter(&server, agent.with(nothing())).await.unwrap_err();
        let seen = failure.seen.clone().unwrap_or_default();
        assert!(seen.find("agent key k0 ").unwrap() < seen.find("agent key k11 ").unwrap(), "{seen}");
        assert_eq!(seen.matches("refused").count(), 12, "{seen}");
        assert!(seen.ends_with("the server still offers: publickey, password"), "{seen}");
    });
}

/// What the server of a script does with a keyboard-interactive login, step after step.
#[derive(Clone)]
enum Act {
    /// Asks: a text, then each question with whether its answer may be seen.
    Ask(&'static str, Vec<(String, bool)>),
    Accept,
    Reject,
    /// Accepts, and wants the same once more.
    Partly,
    HangUp,
}

fn ask(prompts: &[(&str, bool)]) -> Act {
    Act::Ask("", prompts.iter().map(|(text, shown)| ((*text).to_owned(), *shown)).collect())
}

/// A server that follows a script, and keeps what it was answered.
#[derive(Clone)]
struct Scripted {
    script: Vec<Act>,
    at: usize,
    /// The last step is repeated for ever.
    answers: Arc<Mutex<Vec<Vec<String>>>>,
}

impl russh::server::Handler for Scripted {
    type Error = russh::Error;

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<russh::server::Response<'a>>,
    ) -> Result<russh::server::Auth, russh::Error> {
        use russh::server::Auth;
        if let Some(response) = response {
            let answers = response.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
            self.answers.lock().unwrap().push(answers);
        }
        let act = self.script[self.at.min(self.script.len() - 1)].clone();
        self.at += 1;
        let again = |partial_success| {
            let kinds = [russh::MethodKind::KeyboardInteractive];
            Auth::Reject { proceed_with_methods: Some(kinds.as_slice().into()), partial_success }
        };
        Ok(match act {
            Act::Ask(text, prompts) => Auth::Partial {
                name: "".into(),
                instructions: text.into(),
                prompts: prompts.into_iter().map(|(text, shown)| (text.into(), shown)).collect::<Vec<_>>().into(),
            },
            Act::Accept => Auth::Accept,
            Act::Reject => again(false),
            Act::Partly => again(true),
            Act::HangUp => return Err(russh::Error::Disconnect),
        })
    }
}

/// Logs in at a server with this script, through a pipe; what came of it, and what the server was answered.
async fn scripted(
    desk: &Desk,
    name: &str,
    script: &[Act],
    password: &Arc<LoginPassword>,
) -> (Result<(), Failure>, Vec<Vec<String>>) {
    let host_key = key(desk, &format!("host-{name}-{}", rand::random::<u32>()), &["ed25519"]);
    let known = desk.put("scripted", &format!("{name}.test {}", public(&host_key)));
    let config = russh::server::Config {
        keys: vec![russh::keys::load_secret_key(&host_key, None).unwrap()],
        auth_rejection_time: Duration::ZERO,
        ..Default::default()
    };
    let answers = Arc::default();
    let handler = Scripted { script: script.to_vec(), at: 0, answers: Arc::clone(&answers) };
    let (near, far) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn(async move {
        if let Ok(running) = russh::server::run_stream(Arc::new(config), far, handler).await {
            let _ = running.await;
        }
    });
    let aim =
        Target { address: format!("{name}.test"), ..target(name, 22, &known, with_password(nothing(), password)) };
    let come = ferry::remote::ssh::connect::connect_over(near, &aim, Lane::Control, None).await;
    serving.abort();
    (come.map(drop), answers.lock().unwrap().clone())
}

#[test]
fn only_the_question_for_the_password_is_answered() {
    let desk = Desk::new();
    let hidden = ask(&[("Password: ", false)]);
    let other = "the server asks for something that ferry does not answer";
    runtime().block_on(async {
        let new = || LoginPassword::new(RIGHT.into());
        let right = || vec![RIGHT.to_owned()];
        let none: Vec<Vec<String>> = Vec::new();

        // News before and after, a question in another language, a method that comes twice.
        let (come, answers) =
            scripted(&desk, "news", &[Act::Ask("Welcome", vec![]), hidden.clone(), ask(&[]), Act::Accept], &new())
                .await;
        assert_eq!((come.is_ok(), answers), (true, vec![vec![], right(), vec![]]));
        let (come, answers) =
            scripted(&desk, "other", &[ask(&[("Passwort für ops: ", false)]), Act::Accept], &new()).await;
        assert_eq!((come.is_ok(), answers), (true, vec![right()]));
        let (come, answers) =
            scripted(&desk, "twice", &[hidden.clone(), Act::Partly, hidden.clone(), Act::Accept], &new()).await;
        assert_eq!((come.is_ok(), answers), (true, vec![right(), right()]));

        // What is no password gets none.
        let hostile = format!("\x1b[2J\x1b]0;x\x07{}", "y".repeat(20_000));
        for (name, script, what, seen) in [
            ("code", vec![ask(&[("Verification code: ", false)])], other, "Verification code:"),
            ("both", vec![ask(&[("Password: ", false), ("Token: ", false)])], other, "Password:  | Token:"),
            ("open", vec![ask(&[("Password: ", true)])], other, "Password:"),
            ("who", vec![Act::Ask("Who is it?", vec![("Username: ".to_owned(), true)])], other, "Who is it? Username:"),
            ("new", vec![ask(&[("New password: ", false)])], "the password of ops has expired", "New password:"),
            (
                "old",
                vec![Act::Ask("Your password has expired.", vec![("Password: ".to_owned(), false)])],
                "the password of ops has expired",
                "Your password has expired.",
            ),
            ("many", vec![Act::Ask("", (0..3000).map(|_| ("z".repeat(20), false)).collect())], other, "zzz"),
            ("escapes", vec![ask(&[(hostile.as_str(), true)])], other, "\\x1b[2J"),
        ] {
            let password = new();
            let (come, answers) = scripted(&desk, name, &script, &password).await;
            let failure = come.unwrap_err();
            assert!(failure.what.starts_with(what), "{name}: {failure:?}");
            let said = failure.seen.clone().unwrap_or_default();
            assert!(said.contains(seen) && said.len() < 3000 && !said.contains('\x1b'), "{name}: {said:?}");
            assert_eq!(answers, none, "{name}");
            assert!(failure.mend.is_some() && !failure.again, "{name}: {failure:?}");
            // Nothing was sent, so nothing is known of it.
            let (come, _) = scripted(&desk, "after", &[hidden.clone(), Act::Accept], &password).await;
            assert!(come.is_ok(), "{name}: {come:?}");
        }
        // A code after the password: it was sent once, and is neither right nor wrong.
        let password = new();
        let (come, answers) =
            scripted(&desk, "second", &[hidden.clone(), ask(&[("One-time code: ", false)])], &password).await;
        assert_eq!((come.unwrap_err().what.as_str(), answers), (other, vec![right()]));
        assert!(scripted(&desk, "after", &[hidden.clone(), Act::Accept], &password).await.0.is_ok());

        // It asks again, or says no: nobody else gets it.
        for (name, script) in
            [("again", vec![hidden.clone(), hidden.clone()]), ("no", vec![hidden.clone(), Act::Reject])]
        {
            let password = new();
            let (come, answers) = scripted(&desk, name, &script, &password).await;
            let failure = come.unwrap_err();
            assert_eq!(
                (failure.what.as_str(), answers),
                ("the server did not accept the password of ops", vec![right()]),
                "{name}"
            );
            let (come, answers) = scripted(&desk, "next", &[hidden.clone(), Act::Accept], &password).await;
            assert!(come.unwrap_err().what.ends_with(&format!("refused for ops@{name}.test:22 and is not sent again")));
            assert_eq!(answers, none);
        }
        // It hangs up without a word: the next one gets it, the third does not.
        let password = new();
        for expected in [1, 1, 0] {
            let (come, answers) = scripted(&desk, "gone", &[hidden.clone(), Act::HangUp], &password).await;
            let failure = come.unwrap_err();
            assert_eq!(answers.len(), expected, "{failure:?}");
            assert!(!failure.again && !words(&failure).contains(RIGHT), "{failure:?}");
        }
        // Without end.
        let endless: Vec<Act> = (0..20).flat_map(|_| [hidden.clone(), Act::Partly]).collect();
        let (come, answers) = scripted(&desk, "news", &[ask(&[])], &new()).await;
        assert!(come.unwrap_err().what.contains("without end") && answers.len() <= 16, "{answers:?}");
        let (come, answers) = scripted(&desk, "more", &endless, &new()).await;
        assert!(come.unwrap_err().what.contains("without end") && answers.len() <= 8, "{answers:?}");
    });
}

/// An agent that holds a security key: it signs as such a device does, after a while.
fn security_key_agent(socket: &Path, key: &Path) -> (String, std::thread::JoinHandle<usize>) {
    use base64::Engine as _;
    use russh::keys::signature::Signer as _;
    use sha2::{Digest as _, Sha256};
    const NAME: &[u8] = b"sk-ssh-ed25519@openssh.com";
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let private = russh::keys::load_secret_key(key, None).unwrap();
    let point = private.public_key().key_data().ed25519().unwrap().0;
    let blob = [string(NAME), string(&point), string(b"ssh:")].concat();
    let line = format!("sk-ssh-ed25519@openssh.com {}", base64::engine::general_purpose::STANDARD.encode(&blob));
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let serving = std::thread::spawn(move || {
        let mut signed = 0;
        // The operator's files are looked at over one connection, the login is another.
        for _ in 0..2 {
            let (mut peer, _) = listener.accept().unwrap();
            let mut head = [0; 4];
            while peer.read_exact(&mut head).is_ok() {
                let mut request = vec![0; u32::from_be_bytes(head) as usize];
                peer.read_exact(&mut request).unwrap();
                let answer = match request[0] {
                    11 => [&[12, 0, 0, 0, 1], string(&blob).as_slice(), &string(b"my key")].concat(),
                    13 => {
                        let rest = &request[1 + 4 + blob.len()..];
                        let data = &rest[4..4 + u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize];
                        std::thread::sleep(Duration::from_secs(2));
                        let counter = [0, 0, 0, 9];
                        let message =
                            [Sha256::digest(b"ssh:").as_slice(), &[1], &counter, Sha256::digest(data).as_slice()]
                                .concat();
                        let signature = private.try_sign(&message).unwrap();
                        signed += 1;
                        [
                            &[14],
                            string(&[string(NAME), string(signature.as_bytes()), vec![1], counter.to_vec()].concat())
                                .as_slice(),
                        ]
                        .concat()
                    }
                    _ => vec![5],
                };
                peer.write_all(&string(&answer)).unwrap();
            }
        }
        signed
    });
    (line, serving)
}

#[test]
fn a_security_key_signs_through_the_agent() {
    let desk = Desk::new();
    let inner = key(&desk, "inner", &["ed25519"]);
    let socket = desk.at("tmp").join("device");
    let (line, serving) = security_key_agent(&socket, &inner);
    let server = node(&[], &[format!("echo '{line}' >/home/ops/.ssh/authorized_keys")]);
    let named = desk.put("id_ed25519_sk.pub", &format!("{line} of a device\n"));
    runtime().block_on(async {
        let identities = ids!({ agent: Some(socket.clone()), identities_only: true } ..files(&[&named]));
        let aim = target("node-1", server.port, &server.known_hosts_path, identities);
        assert_eq!(aim.wrong(), []);
        assert_eq!(login(&aim).await.unwrap(), "ops", "{}", server.log());
    });
    assert_eq!(serving.join().unwrap(), 1);
    assert!(server.log().contains("ED25519-SK"), "{}", server.log());
}

/// Types lines at a pseudo-terminal, each when the screen has asked so; what was shown, and the exit code.
const TYPED: &str = r#"
import json, os, select, subprocess, sys, time, fcntl, termios
plan = json.loads(sys.stdin.read())
master, slave = os.openpty()
def child():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
proc = subprocess.Popen(plan["argv"], stdin=slave, stdout=slave, stderr=slave, env=plan["env"], cwd=plan["cwd"], preexec_fn=child, close_fds=True)
seen, acts, began = b"", plan["acts"], time.monotonic()
while time.monotonic() - began < 60:
    if select.select([master], [], [], 0.05)[0]:
        seen += os.read(master, 65536)
    elif proc.poll() is not None:
        break
    if acts and acts[0][0].encode() in seen:
        time.sleep(0.2)
        os.write(master, acts.pop(0)[1].encode() + b"\n")
proc.kill()
json.dump({"code": proc.wait(), "seen": seen.decode(errors="replace"), "left": len(acts)}, sys.stdout)
"#;

fn typed(desk: &Desk, args: &[&str], acts: &[(&str, &str)]) -> (i64, String) {
    let argv = [&[FERRY], args].concat();
    let plan = serde_json::json!({
        "argv": argv,
        "cwd": desk.at("work"),
        "acts": acts,
        "env": {
            "PATH": "/usr/bin:/bin", "HOME": desk.at("home"), "TMPDIR": desk.at("tmp"), "USER": "operator",
            "TERM": "dumb", "FERRY_CONFIG": desk.at("ferry.toml"),
        },
    });
    let mut python = Command::new("python3")
        .args(["-c", TYPED])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(plan.to_string().as_bytes()).unwrap();
    let out = finish(python, 90);
    let shown: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", said(&out)));
    assert_eq!(shown["left"], 0, "not asked: {shown:#}");
    (shown["code"].as_i64().unwrap(), shown["seen"].as_str().unwrap().to_owned())
}

/// Every way to give the password to the command, and that it is found nowhere afterwards or meanwhile.
#[test]
fn the_command_takes_a_password_and_leaves_it_nowhere() {
    let desk = Desk::new();
    let server = node(&[], &[]);
    let inventory = |more: &str| {
        let trust = trusting(&server.known_hosts_path);
        desk.put(
            "inventory.yml",
            &format!(
                "all:\n  hosts:\n    node-1:\n      ansible_host: 127.0.0.1\n      ansible_port: {}\n      ansible_user: ops\n      \
                 ansible_ssh_common_args: \"{trust}\"\n{more}",
                server.port
            ),
        );
    };
    let ping = |args: &[&str], env: Option<(&str, &Path)>| {
        let mut ferry = desk.ferry();
        ferry.args(["ping", "all", "--json"]).args(args);
        if let Some((name, value)) = env {
            ferry.env(name, value);
        }
        let out = finish(ferry.spawn().unwrap(), 60);
        assert!(!said(&out).contains(RIGHT), "{}", said(&out));
        (out.status.code(), said(&out))
    };
    inventory("");
    let file = desk.put("password", &format!("{RIGHT}\n"));
    let name = file.to_str().unwrap();
    let in_by_login = |(code, said): (Option<i32>, String), how: &str| {
        assert!(code == Some(0) && said.contains("\"user\": \"ops\""), "{how}: {code:?} {said}");
    };
    let (code, out) = ping(&[], None);
    assert!(code == Some(4) && out.contains("--connection-password-file FILE"), "{out}");
    in_by_login(ping(&["--connection-password-file", name], None), "file");
    in_by_login(ping(&["--conn-pass-file", name], None), "Ansible's short name");
    in_by_login(ping(&[], Some(("ANSIBLE_CONNECTION_PASSWORD_FILE", &file))), "environment");
    for variable in ["ansible_password", "ansible_ssh_pass", "ansible_ssh_password"] {
        inventory(&format!("      {variable}: '{RIGHT}'\n"));
        in_by_login(ping(&[], None), variable);
        // The variable wins over the command line, as in Ansible.
        let wrong = desk.put("wrong", "not this one\n");
        in_by_login(ping(&["--connection-password-file", wrong.to_str().unwrap()], None), variable);
    }
    inventory("");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (code, out) = ping(&["--connection-password-file", name], None);
    assert!(code == Some(1) && out.contains("chmod 600"), "{out}");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (code, out) = ping(&["-k"], None);
    assert!(code == Some(1) && out.contains("--connection-password-file FILE"), "nobody to ask: {out}");

    // Asked for once; with -K, nothing typed means the same.
    let (code, seen) = typed(
        &desk,
        &["ping", "all", "-b", "-k", "-K"],
        &[("SSH password: ", RIGHT), ("BECOME password[defaults to SSH password]: ", "")],
    );
    assert!(code == 0 && !seen.contains(RIGHT) && seen.matches("SSH password: ").count() == 1, "{code} {seen}");
    let (code, seen) = typed(&desk, &["ping", "all", "-k"], &[("SSH password: ", "not this one")]);
    assert!(
        code == 4 && seen.contains("the server did not accept the password of ops") && !seen.contains("not this one"),
        "{code} {seen}"
    );

    // While a run goes on, and after it: in no process's arguments or environment, in no file, in no output.
    let both = ["--connection-password-file", name, "--become-password-file", name];
    inventory("");
    let play = desk.put(
        "play.yml",
        "- hosts: all\n  gather_facts: false\n  become: true\n  tasks:\n    - name: a while\n      shell: \"echo here; sleep 3; cat /tmp/said\"\n",
    );
    std::fs::write(server.root_dir().join("tmp/said"), format!("it was {RIGHT}, was it not\n")).unwrap();
    let mut ferry = desk.ferry();
    ferry.args(["run", play.to_str().unwrap()]).args(both);
    let running = ferry.spawn().unwrap();
    let pid = running.id();
    let begun = Instant::now();
    let mut looked = 0;
    while begun.elapsed() < Duration::from_millis(2500) {
        for process in server.processes() {
            for bytes in [&process.cmdline, &process.environ] {
                assert!(!bytes.windows(RIGHT.len()).any(|window| window == RIGHT.as_bytes()), "{}", process.pid);
            }
            looked += 1;
        }
        for part in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{part}")).unwrap_or_default();
            assert!(!bytes.windows(RIGHT.len()).any(|window| window == RIGHT.as_bytes()), "ferry's {part}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let out = finish(running, 60);
    assert!(out.status.success() && looked > 20, "{looked} {}", said(&out));
    assert!(said(&out).contains("it was ********, was it not") && !said(&out).contains(RIGHT), "{}", said(&out));
    std::fs::remove_file(server.root_dir().join("tmp/said")).unwrap();
    for place in desk.written().into_iter().chain(server.written()) {
        let found = support::bed::find_in_files(&place, RIGHT.as_bytes());
        assert_eq!(found, None, "the password is in a file");
    }
    println!("9 ways to give a password; {looked} looks at processes, and every file, without it");
}
