//! The way to a host, by real OpenSSH, dropbear, ssh-keygen and ssh-agent: every form of key, one jump
//! host, and each way to fail with its own sentence, its step and its exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use ferry::remote::ssh::auth::Identities;
use ferry::remote::ssh::connect::{Lane, Target, connect_over};
use ferry::remote::ssh::serve::{KeyPair, Options, plain_runner, serve_stream};
use ferry::remote::{Exit, Session};
use serde_json::Value;
use support::pce::{self, Desk, said, text, tool};
use support::real::{Kind, Opts, RealNode, Sudo, free_port};

const PASSPHRASE: &str = "a pass \"phrase\" ü";

/// An inventory of one host; the lines are its variables.
fn one_host(desk: &Desk, lines: &[String]) {
    let vars: String = lines.iter().map(|line| format!("          {line}\n")).collect();
    desk.put("inventory.yml", &format!("all:\n  children:\n    prod:\n      hosts:\n        prod-1:\n{vars}    mains:\n      hosts:\n        prod-1: {{}}\n"));
}

/// The variables that lead to this port by this key and these known hosts.
fn way(port: u16, key: &Path, args: &str) -> Vec<String> {
    vec![
        "ansible_host: 127.0.0.1".to_owned(),
        format!("ansible_port: {port}"),
        "ansible_user: ops".to_owned(),
        format!("ansible_private_key_file: {}", key.display()),
        format!("ansible_ssh_common_args: \"{args}\""),
    ]
}

/// What `ferry ping --json` says of the one host, and its exit code.
fn ping(desk: &Desk, more: &[&str]) -> (Option<i32>, Value, Output) {
    let out = desk.run(&[&["ping", "prod-1", "--json"], more].concat());
    let all: Value = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
    (out.status.code(), all[0].clone(), out)
}

/// Ends a process of the test's own whatever becomes of it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A key and how it was made.
struct Made {
    name: String,
    path: PathBuf,
    locked: bool,
}

/// Keys of every form that is read, with their public halves in the file beside them.
fn keys(desk: &Desk) -> Vec<Made> {
    let mut all = Vec::new();
    let kinds: [&[&str]; 5] = [
        &["ed25519"],
        &["ecdsa", "-b", "256"],
        &["ecdsa", "-b", "384"],
        &["ecdsa", "-b", "521"],
        &["rsa", "-b", "2048"],
    ];
    for kind in kinds {
        for form in ["", "PEM", "PKCS8"] {
            // ssh-keygen writes Ed25519 in its own format whatever it is told.
            if kind[0] == "ed25519" && !form.is_empty() {
                continue;
            }
            for locked in [false, true] {
                // The old PEM form of EC keys is not read when it is encrypted: that has a message of its own.
                if locked && kind[0] == "ecdsa" && form == "PEM" {
                    continue;
                }
                let form_name = if form.is_empty() { "OpenSSH" } else { form };
                let name = format!(
                    "{} {form_name}{}",
                    kind.concat().replace("-b", " "),
                    if locked { " with passphrase" } else { "" }
                );
                let path = desk.at("operator").join(name.replace([' ', '-'], "_"));
                let file = path.to_str().unwrap();
                let mut args = vec!["-q", "-C", "", "-N", if locked { PASSPHRASE } else { "" }, "-f", file, "-t"];
                args.extend(kind);
                if !form.is_empty() {
                    args.extend(["-m", form]);
                }
                tool("ssh-keygen", &args);
                all.push(Made { name, path, locked });
            }
        }
    }
    // PKCS#8 by openssl, as other tools write it.
    for locked in [false, true] {
        let name = format!("ed25519 PKCS8 by openssl{}", if locked { " with passphrase" } else { "" });
        let path = desk.put(&name.replace(' ', "_"), "");
        let plain = desk.put("plain.pem", "");
        tool("openssl", &["genpkey", "-algorithm", "ed25519", "-out", plain.to_str().unwrap()]);
        let public = tool("openssl", &["pkey", "-in", plain.to_str().unwrap(), "-pubout", "-outform", "DER"]).stdout;
        let raw = &public[public.len() - 32..];
        let blob = [&[0, 0, 0, 11], b"ssh-ed25519".as_slice(), &[0, 0, 0, 32], raw].concat();
        let line = format!("ssh-ed25519 {}\n", base64::engine::general_purpose::STANDARD.encode(blob));
        std::fs::write(path.with_extension("pub"), line).unwrap();
        if locked {
            let word = desk.put("word", &format!("{PASSPHRASE}\n"));
            let pass = format!("file:{}", word.display());
            let (from, to) = (plain.to_str().unwrap(), path.to_str().unwrap());
            tool("openssl", &["pkcs8", "-topk8", "-in", from, "-out", to, "-passout", &pass]);
        } else {
            std::fs::copy(&plain, &path).unwrap();
        }
        all.push(Made { name, path, locked });
    }
    all
}

/// Lets further public keys in.
fn authorize(node: &RealNode, lines: &str) {
    let file = node.root_dir().join("home/ops/.ssh/authorized_keys");
    let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
}

#[test]
fn keys_of_every_form_and_the_agent_open_openssh_and_dropbear() {
    let desk = Desk::new();
    let keys = keys(&desk);
    let public = |made: &Made| std::fs::read_to_string(made.path.with_extension("pub")).unwrap();
    let all: String = keys.iter().map(&public).collect();
    let nodes = [
        ("OpenSSH", RealNode::start(Opts::default())),
        ("dropbear", RealNode::start(Opts { kind: Kind::Dropbear, ..Opts::default() })),
    ];
    let word = desk.put("passphrase", &format!("{PASSPHRASE}\n"));
    let mut opened = 0;
    for (server, node) in &nodes {
        authorize(node, &all);
        for made in &keys {
            one_host(&desk, &way(node.port, &made.path, &pce::trusting(&node.known_hosts_path)));
            let file = ["--key-passphrase-file", word.to_str().unwrap()];
            let (code, answer, out) = ping(&desk, if made.locked { &file } else { &[] });
            assert_eq!(code, Some(0), "{} at {server}: {}", made.name, said(&out));
            assert_eq!(answer["user"], "ops", "{} at {server}", made.name);
            opened += 1;
        }
        // The same keys are not let in where they are not written down.
        let stranger = desk.at("operator").join(format!("stranger-{server}"));
        tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", stranger.to_str().unwrap()]);
        one_host(&desk, &way(node.port, &stranger, &pce::trusting(&node.known_hosts_path)));
        assert_eq!(ping(&desk, &[]).0, Some(4), "a stranger at {server}");
    }

    // Without a passphrase, or with a wrong one, nothing is reached and the file is named.
    let locked: Vec<&Made> = keys.iter().filter(|made| made.locked).collect();
    let before = nodes[0].1.log().matches("Connection from").count();
    for made in &locked {
        one_host(&desk, &way(nodes[0].1.port, &made.path, &pce::trusting(&nodes[0].1.known_hosts_path)));
        let (code, _, out) = ping(&desk, &[]);
        assert_eq!(code, Some(1), "{}: {}", made.name, said(&out));
        assert!(said(&out).contains("protected by a passphrase"), "{}: {}", made.name, said(&out));
        assert!(said(&out).contains(&format!("{}:1:1", made.path.display())), "{}: {}", made.name, said(&out));
        let wrong = desk.put("wrong", "not this one\n");
        let (code, _, out) = ping(&desk, &["--key-passphrase-file", wrong.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{}: {}", made.name, said(&out));
        assert!(said(&out).contains("wrong passphrase"), "{}: {}", made.name, said(&out));
    }
    assert_eq!(nodes[0].1.log().matches("Connection from").count(), before, "a host was touched");

    // The agent signs, RSA with SHA-2 as well.
    for kind in ["ed25519", "ecdsa 256", "rsa 2048"] {
        let socket = desk.at("tmp").join(format!("agent-{}", kind.replace(' ', "-")));
        let agent = Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let _agent = Ended(agent);
        let begun = Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed() < Duration::from_secs(10), "ssh-agent does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
        let made = keys.iter().find(|made| made.name == format!("{kind} OpenSSH")).unwrap();
        let add = Command::new("ssh-add").arg(&made.path).env("SSH_AUTH_SOCK", &socket).output().unwrap();
        assert!(add.status.success(), "{}", said(&add));
        for (server, node) in &nodes {
            let mut lines = way(node.port, &made.path, &pce::trusting(&node.known_hosts_path));
            lines.retain(|line| !line.contains("private_key"));
            one_host(&desk, &lines);
            let mut ferry = desk.ferry();
            ferry.args(["ping", "prod-1", "--json"]).env("SSH_AUTH_SOCK", &socket);
            let out = pce::finish(ferry.spawn().unwrap(), 60);
            assert_eq!(out.status.code(), Some(0), "agent, {kind}, {server}: {}", said(&out));
            opened += 1;
            // Without the agent the same command is not let in: nothing else opened the door.
            assert_eq!(ping(&desk, &[]).0, Some(4), "{kind}, {server}");
        }
    }
    assert_eq!(opened, 2 * (keys.len() + 3));
    println!("{} forms of keys and 3 agents open OpenSSH and dropbear: {opened} logins", keys.len());
}

#[test]
fn one_jump_host_in_both_spellings() {
    let desk = Desk::new();
    let start = |hostname: &str, kind| {
        RealNode::start(pce::with_key(Opts { hostname: hostname.into(), kind, ..Opts::default() }, &desk))
    };
    let bastion = start("bastion", Kind::OpenSsh);
    for node in [start("prod-1", Kind::OpenSsh), start("prod-1", Kind::Dropbear)] {
        let both = [&node, &bastion].map(|node| std::fs::read_to_string(&node.known_hosts_path).unwrap());
        let known = desk.put("both", &both.concat());
        for jump in
            [format!("-J ops@127.0.0.1:{}", bastion.port), format!("-o ProxyJump=ops@127.0.0.1:{}", bastion.port)]
        {
            let before = bastion.log().matches("Accepted publickey").count();
            one_host(&desk, &way(node.port, &desk.key, &format!("{} {jump}", pce::trusting(&known))));
            let (code, answer, out) = ping(&desk, &[]);
            assert_eq!(code, Some(0), "{jump}: {}", said(&out));
            assert_eq!(answer["name"], "prod-1", "{jump}: {answer}");
            assert_eq!(bastion.log().matches("Accepted publickey").count(), before + 1, "{jump}");
        }
        // The bastion's own key is checked as well.
        let only_node = desk.put("one", &both[0]);
        let args = format!("{} -J ops@127.0.0.1:{}", pce::trusting(&only_node), bastion.port);
        one_host(&desk, &way(node.port, &desk.key, &args));
        let (code, answer, out) = ping(&desk, &[]);
        assert_eq!(code, Some(4), "{}", said(&out));
        assert_eq!(answer["failure"]["what"], "the host key is not known here", "{answer:#}");
        assert_eq!(answer["failure"]["chain"][0], "through jump host 127.0.0.1", "{answer:#}");
    }
}

#[test]
fn ssh_config_leads_through_two_bastions_and_through_a_command() {
    let desk = Desk::new();
    let start =
        |hostname: &str| RealNode::start(pce::with_key(Opts { hostname: hostname.into(), ..Opts::default() }, &desk));
    let (one, two, node) = (start("bastion-1"), start("bastion-2"), start("prod-1"));
    let known = [&one, &two, &node].map(|node| std::fs::read_to_string(&node.known_hosts_path).unwrap()).concat();
    let known = desk.put("all-three", &known);
    let only = |name: &str, of: &[&RealNode]| {
        desk.put(
            name,
            &of.iter().map(|node| std::fs::read_to_string(&node.known_hosts_path).unwrap()).collect::<String>(),
        )
    };
    let block = |name: &str, node: &RealNode, more: &str| {
        format!("Host {name}\n  HostName 127.0.0.1\n  Port {}\n  {more}\n", node.port)
    };
    let common = |known: &Path| {
        format!(
            "Host *\n  User ops\n  IdentityFile {}\n  IdentityAgent none\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n",
            desk.key.display(),
            known.display()
        )
    };
    let write = |road: &str, known: &Path| {
        let text =
            block("b1", &one, "") + &block("b2", &two, "ProxyJump b1") + &block("target", &node, road) + &common(known);
        desk.put("ssh_config", &text)
    };
    // Nothing but the name is in the inventory: the rest is the operator's ssh_config.
    let config = write("ProxyJump b2", &known);
    one_host(&desk, &["ansible_host: target".to_owned(), format!("ansible_ssh_common_args: -F {}", config.display())]);
    let logins = |node: &RealNode| node.log().matches("Accepted publickey").count();
    let before = [&one, &two, &node].map(logins);
    let (code, answer, out) = ping(&desk, &[]);
    assert_eq!(code, Some(0), "{}", said(&out));
    assert_eq!(answer["name"], "prod-1");
    assert_eq!([&one, &two, &node].map(logins), before.map(|count| count + 1), "each hop once");
    // Each hop's key is checked: without the middle one's, it is named, and the last is not reached.
    write("ProxyJump b2", &only("without-two", &[&one, &node]));
    let (code, answer, out) = ping(&desk, &[]);
    assert_eq!(code, Some(4), "{}", said(&out));
    assert_eq!(answer["failure"]["what"], "the host key is not known here", "{answer:#}");
    assert_eq!(answer["failure"]["chain"][0], "through jump host 127.0.0.1", "{answer:#}");
    assert_eq!(logins(&node), before[2] + 1);
    // Written as a list it is the same way.
    write("ProxyJump b1,b2", &known);
    assert_eq!(ping(&desk, &[]).0, Some(0));
    // A command instead of a socket; a secret that the operator named is not in its environment.
    let seen = desk.at("seen-by-the-command");
    let road = format!("ProxyCommand sh -c 'env > {}; exec ssh -F {} -W %h:%p b2'", seen.display(), config.display());
    write(&road, &known);
    let mut ferry = desk.ferry();
    ferry.args(["ping", "prod-1", "--json", "--become-password-env", "MY_SECRET"]).env("MY_SECRET", "no such sesame");
    let out = pce::finish(ferry.spawn().unwrap(), 60);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let env = std::fs::read_to_string(&seen).unwrap();
    assert!(env.contains("PATH=") && !env.contains("MY_SECRET") && !env.contains("sesame"), "{env}");
    write("ProxyCommand false", &known);
    let (code, answer, _) = ping(&desk, &[]);
    assert_eq!((code, answer["failure"]["kind"].as_str()), (Some(4), Some("unreachable")), "{answer:#}");
    // A way that leads to itself is told before any host is touched.
    let before = logins(&one);
    write("ProxyJump target", &known);
    let (code, _, out) = ping(&desk, &[]);
    assert_eq!(code, Some(1), "{}", said(&out));
    assert!(said(&out).contains("lead in a circle"), "{}", said(&out));
    assert_eq!(logins(&one), before);
}

/// The bastion takes passwords only, the host keys only; and what is wrong of the first is told of the first.
#[test]
fn a_bastion_that_lets_in_by_password_only() {
    let desk = Desk::new();
    let bastion = RealNode::start(Opts {
        hostname: "bastion".into(),
        password: "bastion's own".into(),
        sshd_lines: vec!["PubkeyAuthentication no".into()],
        ..Opts::sudo(Sudo::Password)
    });
    let node = RealNode::start(pce::with_key(Opts { hostname: "prod-1".into(), ..Opts::default() }, &desk));
    let known = [&node, &bastion].map(|node| std::fs::read_to_string(&node.known_hosts_path).unwrap()).concat();
    let known = desk.put("both", &known);
    let args = format!("{} -J ops@127.0.0.1:{}", pce::trusting(&known), bastion.port);
    let wrong = || bastion.log().matches("PAM: Authentication failure").count();
    for (given, code) in [
        ("ferry_jump_password: bastion's own", Some(0)),
        // The host's password is not shown to a bastion.
        ("ansible_password: bastion's own", Some(4)),
        ("ferry_jump_password: not this one", Some(4)),
        ("ferry_jump_password: [1]", Some(1)),
    ] {
        let mut lines = way(node.port, &desk.key, &args);
        lines.push(given.to_owned());
        one_host(&desk, &lines);
        let before = wrong();
        let (seen, answer, out) = ping(&desk, &[]);
        assert_eq!(seen, code, "{given}: {}", said(&out));
        match code {
            Some(0) => assert_eq!(answer["name"], "prod-1", "{given}: {answer}"),
            Some(4) => assert_eq!(answer["failure"]["chain"][0], "through jump host 127.0.0.1", "{given}: {answer:#}"),
            _ => assert!(said(&out).contains("ferry_jump_password"), "{given}: {}", said(&out)),
        }
        let sent = usize::from(given.contains("not this one"));
        assert_eq!(wrong() - before, sent, "{given}: {}", bastion.log());
        assert!(!said(&out).contains("bastion's own") && !said(&out).contains("not this one"), "{}", said(&out));
    }
}

#[test]
fn hosts_behind_a_bastion_share_its_connection() {
    let desk = Desk::new();
    let start =
        |hostname: &str| RealNode::start(pce::with_key(Opts { hostname: hostname.into(), ..Opts::default() }, &desk));
    let (bastion, node) = (start("bastion"), start("node"));
    let both = [&node, &bastion].map(|node| std::fs::read_to_string(&node.known_hosts_path).unwrap()).concat();
    let known = desk.put("both", &both);
    let hosts: String = (1..=12).map(|number| format!("        h{number}: {{}}\n")).collect();
    desk.put(
        "inventory.yml",
        &format!(
            "all:\n  children:\n    prod:\n      vars:\n        ansible_host: 127.0.0.1\n        ansible_port: {}\n        ansible_user: ops\n        ansible_private_key_file: {}\n        ansible_ssh_common_args: \"{} -J ops@127.0.0.1:{}\"\n      hosts:\n{hosts}",
            node.port,
            desk.key.display(),
            pce::trusting(&known),
            bastion.port
        ),
    );
    let (at_bastion, at_node) =
        (bastion.log().matches("Accepted publickey").count(), node.log().matches("Accepted publickey").count());
    let out = desk.run(&["ping", "prod", "-f", "12"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    // sshd's MaxStartups is 10 by default, and 12 hosts come at once: no handshake was dropped.
    assert!(!node.log().contains("drop connection") && !bastion.log().contains("drop connection"), "{}", node.log());
    assert_eq!(bastion.log().matches("Accepted publickey").count(), at_bastion + 1);
    assert_eq!(node.log().matches("Accepted publickey").count(), at_node + 12);
}

#[test]
fn host_key_checking_that_is_switched_off_takes_new_keys_and_moves_no_archive() {
    let desk = Desk::new();
    let node = RealNode::start(pce::with_key(Opts::default(), &desk));
    let known = desk.put("nobody", "");
    let lines = |more: &str| {
        let args = format!(
            "-o IdentityAgent=none -o UserKnownHostsFile={} -o GlobalKnownHostsFile=/dev/null -o HashKnownHosts=no {more}",
            known.display()
        );
        way(node.port, &desk.key, &args)
    };
    let spellings: [(&str, Vec<String>, Option<(&str, &str)>, &str); 6] = [
        ("ssh's option", lines("-o StrictHostKeyChecking=no"), None, ""),
        ("a variable", [lines(""), vec!["ansible_host_key_checking: false".to_owned()]].concat(), None, ""),
        ("Ansible's variable of the environment", lines(""), Some(("ANSIBLE_HOST_KEY_CHECKING", "False")), ""),
        ("that of its ssh plugin", lines(""), Some(("ANSIBLE_SSH_HOST_KEY_CHECKING", "no")), ""),
        ("ansible.cfg", lines(""), None, "[defaults]\nhost_key_checking = False\n"),
        ("ssh's option in ansible.cfg", lines(""), None, "[ssh_connection]\nssh_args = -o StrictHostKeyChecking=no\n"),
    ];
    for (name, vars, env, cfg) in spellings {
        std::fs::write(&known, "").unwrap();
        one_host(&desk, &vars);
        let cfg = desk.put("ansible.cfg", cfg);
        let run = |args: &[&str]| {
            let mut ferry = desk.ferry();
            ferry.args(args).env("ANSIBLE_CONFIG", &cfg);
            env.map(|(name, value)| ferry.env(name, value));
            pce::finish(ferry.spawn().unwrap(), 60)
        };
        if name == "ssh's option" {
            let inventory = desk.at("operator").join("inventory.yml");
            let more = "        dr-1: {}\n    dr: { hosts: { dr-1: { ansible_host: 127.0.0.1 } } }\n";
            std::fs::write(&inventory, std::fs::read_to_string(&inventory).unwrap() + more).unwrap();
            for args in [&["migrate", "prod", "dr", "--confirm", "dr"][..], &["transfer", "prod-1:/etc/hostname", "x"]]
            {
                let out = run(args);
                assert_eq!(out.status.code(), Some(1), "{args:?}: {}", said(&out));
                assert!(said(&out).contains("where host keys are not checked"), "{args:?}: {}", said(&out));
            }
            assert!(!desk.at("work").join("x").exists());
        }
        // No archive goes such a way, and no host is touched.
        let out = run(&["backup", "prod"]);
        assert_eq!(out.status.code(), Some(1), "{name}: {}", said(&out));
        assert!(said(&out).contains("archives do not go where host keys are not checked"), "{name}: {}", said(&out));
        assert_eq!(std::fs::read_to_string(&known).unwrap(), "", "{name}");
        let out = run(&["ping", "prod-1"]);
        assert_eq!(out.status.code(), Some(0), "{name}: {}", said(&out));
        assert!(said(&out).contains("host key checking is switched off"), "{name}: {}", said(&out));
        let recorded = std::fs::read_to_string(&known).unwrap();
        assert!(recorded.contains(&format!("[127.0.0.1]:{}", node.port)), "{name}: {recorded}");
        // A changed key is refused all the same.
        let other = std::fs::read_to_string(desk.key.with_extension("pub")).unwrap();
        let fields: Vec<&str> = other.split_whitespace().collect();
        std::fs::write(&known, format!("[127.0.0.1]:{} {} {}\n", node.port, fields[0], fields[1])).unwrap();
        let out = run(&["ping", "prod-1"]);
        assert_eq!(out.status.code(), Some(4), "{name}: {}", said(&out));
    }
}

/// A server of the test's own that does this with each connection.
struct Odd {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    came: Arc<AtomicUsize>,
}

impl Odd {
    fn start(act: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let (stop, came) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ended, count) = (Arc::clone(&stop), Arc::clone(&came));
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            while !ended.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        count.fetch_add(1, Ordering::SeqCst);
                        stream.set_nonblocking(false).unwrap();
                        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                        act(&mut stream);
                        held.push(stream);
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self { port, stop, thread: Some(thread), came }
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What must be said of a host that is not reached.
struct Expect<'a> {
    name: &'a str,
    what: &'a str,
    /// The last step of the chain: the one that failed.
    step: &'a str,
    /// Words of what was seen.
    seen: &'a [&'a str],
    mend: &'a str,
}

fn expect(desk: &Desk, lines: &[String], more: &[&str], expected: &Expect<'_>) -> Value {
    one_host(desk, lines);
    let begun = Instant::now();
    let (code, answer, out) = ping(desk, more);
    let (name, failure) = (expected.name, &answer["failure"]);
    assert_eq!(code, Some(4), "{name}: {}", said(&out));
    assert_eq!(failure["kind"], "unreachable", "{name}: {failure:#}");
    assert!(failure["what"].as_str().unwrap().contains(expected.what), "{name}: {failure:#}");
    assert_eq!(failure["host"], "prod-1", "{name}: {failure:#}");
    let chain = failure["chain"].as_array().unwrap();
    assert_eq!(chain.last().unwrap(), expected.step, "{name}: {failure:#}");
    let seen = failure["seen"].as_str().unwrap_or_default();
    for words in expected.seen {
        assert!(seen.contains(words), "{name}, {words:?} in: {failure:#}");
    }
    let mend = failure["mend"].as_str().unwrap_or_default();
    assert!(mend.contains(expected.mend), "{name}: {failure:#}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{name} took {:?}", begun.elapsed());
    // For people the same: the sentence, the steps, what to do.
    println!(
        "{name}: {} [{}]",
        failure["what"],
        chain.iter().map(|step| step.as_str().unwrap()).collect::<Vec<_>>().join(" > ")
    );
    failure.clone()
}

#[test]
fn each_step_fails_with_its_own_sentence() {
    let desk = Desk::new();
    let nothing = desk.put("none", "");
    let trust = pce::trusting(&nothing);
    let direct = |port: u16| way(port, &desk.key, &trust);

    let mut lines = direct(22);
    lines[0] = "ansible_host: no-such-host.invalid".to_owned();
    let dns = Expect {
        name: "DNS",
        what: "the name no-such-host.invalid could not be resolved",
        step: "DNS",
        seen: &[],
        mend: "mend DNS",
    };
    expect(&desk, &lines, &[], &dns);

    let (closed, _claim) = free_port();
    let refused = Expect {
        name: "TCP refused",
        what: "no TCP connection to 127.0.0.1",
        step: "TCP",
        seen: &["refused"],
        mend: "ansible_port",
    };
    let failure = expect(&desk, &direct(closed), &[], &refused);
    assert_eq!(failure["chain"][0], format!("ssh ops@127.0.0.1 port {closed}"));

    // A queue that is full: the kernel drops whoever knocks.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let queue: Vec<_> = (0..4)
        .filter_map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok())
        .collect();
    assert!(!queue.is_empty() && queue.len() < 4, "the queue took {} of 4", queue.len());
    let dropped = Expect { name: "TCP dropped", what: "within 2 s", step: "TCP", seen: &[], mend: "firewall" };
    expect(&desk, &direct(address.port()), &["-T", "2"], &dropped);

    let silent = Odd::start(|_| ());
    let banner = Expect {
        name: "silent",
        what: "took the connection and sent no SSH banner",
        step: "banner",
        seen: &["1 s"],
        mend: "MaxStartups",
    };
    expect(&desk, &direct(silent.port), &["-T", "1"], &banner);
    assert_eq!(silent.came(), 1, "one that kept us waiting for a whole step would do so each time");

    let hangs_up = Odd::start(|stream| stream.shutdown(std::net::Shutdown::Both).unwrap());
    let banner = Expect {
        name: "hangs up",
        what: "took the connection and sent no SSH banner",
        step: "banner",
        seen: &[],
        mend: "MaxStartups",
    };
    expect(&desk, &direct(hangs_up.port), &["-T", "5"], &banner);
    assert!(hangs_up.came() > 1, "one that drops us at once is tried again: {}", hangs_up.came());

    let web = Odd::start(|stream| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let http = Expect {
        name: "a web server",
        what: "what answers there does not speak SSH",
        step: "banner",
        seen: &["HTTP/1.1 400"],
        mend: "ansible_port",
    };
    expect(&desk, &direct(web.port), &["-T", "5"], &http);

    for (name, line) in [
        ("old key exchange", "KexAlgorithms diffie-hellman-group14-sha1,diffie-hellman-group1-sha1"),
        ("old cipher", "Ciphers aes128-cbc,3des-cbc"),
    ] {
        let old = RealNode::start(Opts { sshd_lines: vec![line.to_owned()], ..Opts::default() });
        let kex = Expect {
            name,
            what: "the key exchange failed",
            step: "key exchange",
            seen: &["SSH-2.0-OpenSSH"],
            mend: "bring it up to date",
        };
        expect(&desk, &way(old.port, &old.key_path, &pce::trusting(&old.known_hosts_path)), &[], &kex);
    }

    // The jump host itself, and what lies behind it.
    let bastion = RealNode::start(pce::with_key(Opts::default(), &desk));
    let known = pce::trusting(&bastion.known_hosts_path);
    let lines = way(22, &desk.key, &format!("{known} -J ops@127.0.0.1:{closed}"));
    let jump = Expect {
        name: "no jump host",
        what: "no TCP connection to 127.0.0.1",
        step: "TCP",
        seen: &["refused"],
        mend: "sshd",
    };
    let failure = expect(&desk, &lines, &[], &jump);
    assert_eq!(failure["chain"][0], "through jump host 127.0.0.1", "{failure:#}");
    let lines = way(closed, &desk.key, &format!("{known} -J ops@127.0.0.1:{}", bastion.port));
    let what = format!("the jump host could not reach 127.0.0.1 port {closed}");
    let behind = Expect {
        name: "nothing behind the jump host",
        what: &what,
        step: "through jump host 127.0.0.1",
        seen: &[],
        mend: "nc -vz 127.0.0.1",
    };
    expect(&desk, &lines, &[], &behind);
    let walled = RealNode::start(pce::with_key(
        Opts { sshd_lines: vec!["DisableForwarding yes".into()], ..Opts::default() },
        &desk,
    ));
    let both = [&bastion, &walled].map(|node| std::fs::read_to_string(&node.known_hosts_path).unwrap());
    let known = pce::trusting(&desk.put("walled", &both.concat()));
    let lines = way(bastion.port, &desk.key, &format!("{known} -J ops@127.0.0.1:{}", walled.port));
    let what = format!("the jump host could not reach 127.0.0.1 port {}", bastion.port);
    let forbidden = Expect {
        name: "a jump host that forwards nothing",
        what: &what,
        step: "through jump host 127.0.0.1",
        seen: &["rohibited"],
        mend: "",
    };
    expect(&desk, &lines, &[], &forbidden);

    // Not let in: what was tried and what the server would take is listed.
    let stranger = desk.at("operator").join("stranger");
    tool("ssh-keygen", &["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", stranger.to_str().unwrap()]);
    let print = text(&tool("ssh-keygen", &["-lf", stranger.to_str().unwrap()]).stdout);
    let print = print.split_whitespace().nth(1).unwrap();
    let auth = Expect {
        name: "authentication",
        what: "the server does not let ops in",
        step: "authentication",
        seen: &["stranger", print, "refused", "publickey", "password"],
        mend: "--private-key",
    };
    expect(&desk, &way(bastion.port, &stranger, &pce::trusting(&bastion.known_hosts_path)), &[], &auth);
    let mut lines = way(bastion.port, &stranger, &pce::trusting(&bastion.known_hosts_path));
    lines.retain(|line| !line.contains("private_key"));
    let none = Expect {
        name: "no key at all",
        what: "the server does not let ops in",
        step: "authentication",
        seen: &["no key file and no agent"],
        mend: "ssh-add",
    };
    expect(&desk, &lines, &[], &none);
}

#[test]
fn host_keys_are_judged_before_anything_is_sent() {
    let desk = Desk::new();
    let node = RealNode::start(pce::with_key(Opts::default(), &desk));
    let right = std::fs::read_to_string(&node.known_hosts_path).unwrap();
    let name = format!("[127.0.0.1]:{}", node.port);
    let fingerprint = |file: &Path| {
        let out = text(&tool("ssh-keygen", &["-lf", file.to_str().unwrap()]).stdout);
        out.split_whitespace().nth(1).unwrap().to_owned()
    };
    let ours = fingerprint(&node.known_hosts_path);
    let other = |kind: &str| {
        let path = desk.at("operator").join(format!("other-{kind}"));
        tool("ssh-keygen", &["-q", "-t", kind, "-N", "", "-C", "", "-f", path.to_str().unwrap()]);
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        (format!("{name} {}\n", public.trim()), fingerprint(&path))
    };
    let (changed, its_print) = other("ed25519");
    let (other_type, _) = other("ecdsa");
    let try_with = |text: &str, expected: &Expect<'_>| {
        let known = desk.put("known", text);
        let failure = expect(&desk, &way(node.port, &desk.key, &pce::trusting(&known)), &[], expected);
        assert_eq!(std::fs::read_to_string(&known).unwrap(), text, "{}: the file was changed", expected.name);
        (known, failure)
    };
    let base = |name, what| Expect { name, what, step: "host key", seen: &[], mend: "" };

    let (_, failure) = try_with(
        "",
        &Expect { seen: &[&ours, &name], mend: "ssh-keyscan -p", ..base("unknown", "the host key is not known here") },
    );
    assert!(failure["why"].as_str().unwrap().contains("somebody else's"));
    let place = format!("{}:2", desk.at("operator").join("known").display());
    let mend = format!("ssh-keygen -f {} -R '{name}'", desk.at("operator").join("known").display());
    let changed_text = format!("# a comment\n{changed}");
    let seen = [ours.as_str(), &its_print, &place];
    try_with(&changed_text, &Expect { seen: &seen, mend: &mend, ..base("changed", "the host key has changed") });
    let revoked = format!("{right}@revoked * {}", right.split_once(' ').unwrap().1);
    try_with(&revoked, &Expect { seen: &[&ours, &place], ..base("revoked", "the host key is revoked") });
    let place = format!("{}:1", desk.at("operator").join("known").display());
    let type_words = [ours.as_str(), "ecdsa", &place];
    try_with(
        &other_type,
        &Expect { seen: &type_words, mend: &mend, ..base("other type", "of another type than the one on record") },
    );

    // No key was offered to a host that was not known.
    assert!(!node.log().contains("Accepted publickey"), "{}", node.log());
    // The mend line mends: after it the key is unknown, and no longer changed.
    std::fs::write(desk.at("operator").join("known"), &changed_text).unwrap();
    let mended = Command::new("sh").arg("-c").arg(&mend).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(mended.success());
    let known = desk.at("operator").join("known");
    expect(
        &desk,
        &way(node.port, &desk.key, &pce::trusting(&known)),
        &[],
        &base("mended", "the host key is not known here"),
    );

    // accept-new takes an unknown key and writes it, as OpenSSH would read it, and then asks no more.
    for hashed in ["no", "yes"] {
        let new = desk.at("operator").join(format!("new-{hashed}"));
        let args = format!("{} -o StrictHostKeyChecking=accept-new -o HashKnownHosts={hashed}", pce::trusting(&new));
        one_host(&desk, &way(node.port, &desk.key, &args));
        for _ in 0..2 {
            let (code, _, out) = ping(&desk, &[]);
            assert_eq!(code, Some(0), "{}", said(&out));
        }
        let written = std::fs::read_to_string(&new).unwrap();
        assert_eq!(written.lines().count(), 1, "{written}");
        assert_eq!(written.contains("127.0.0.1"), hashed == "no", "{written}");
        let found = tool("ssh-keygen", &["-f", new.to_str().unwrap(), "-l", "-F", &name]);
        assert!(text(&found.stdout).contains(&ours), "{}", said(&found));
        one_host(&desk, &way(node.port, &desk.key, &pce::trusting(&new)));
        assert_eq!(ping(&desk, &[]).0, Some(0), "strictly, with what accept-new wrote");
    }
    // A changed key is refused all the same, and nothing is written.
    let known = desk.put("known", &changed);
    let args = format!("{} -o StrictHostKeyChecking=accept-new", pce::trusting(&known));
    expect(&desk, &way(node.port, &desk.key, &args), &[], &base("changed, accept-new", "the host key has changed"));
    assert_eq!(std::fs::read_to_string(&known).unwrap(), changed);
}

/// The same code that speaks over sockets and tunnels speaks over a pipe in memory.
#[test]
fn a_session_over_any_stream_of_bytes() {
    let desk = Desk::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let host_key = KeyPair::generate().unwrap();
        let known = desk.put("pipe", &format!("pipe.test {}\n", host_key.public().unwrap()));
        let options = Options {
            host_key,
            authorized: vec![desk.public()],
            users: vec!["ops".to_owned()],
            runner: Some(plain_runner()),
            forward: None,
            banner: None,
        };
        let target = |known: &Path| {
            Target::new(
                "pipe",
                ("pipe.test", 22),
                "ops",
                Identities::new(vec![desk.key.clone()], Vec::new(), None, Arc::new(|_| None)),
                known.to_owned(),
            )
        };
        let (near, far) = tokio::io::duplex(4096);
        let serving = tokio::spawn(serve_stream(far, options.clone()));
        let ssh = connect_over(near, &target(&known), Lane::Control, None).await.unwrap();
        let session = Session::Ssh(ssh);
        let said =
            session.run_root("echo over a pipe; echo beside >&2; exit 3", Duration::from_secs(20)).await.unwrap();
        assert_eq!((said.text().as_ref(), said.err_text().trim(), said.exit), ("over a pipe", "beside", Exit::Code(3)));
        // More than fits into the pipe and the window, there and back.
        let mut child = session.open_root("head -c 5000000 | tr a-z A-Z").await.unwrap();
        let (mut back, piece) = (0, vec![b'x'; 50_000]);
        for _ in 0..100 {
            child.write(&piece).await.unwrap();
        }
        while let Some(piece) = child.next().await {
            if let ferry::remote::Piece::Out(bytes) = piece {
                assert!(bytes.iter().all(|byte| *byte == b'X'));
                back += bytes.len();
            }
        }
        assert_eq!((back, child.exit().await), (5_000_000, Exit::Code(0)));
        drop(child);
        session.close().await;
        drop(session);
        tokio::time::timeout(Duration::from_secs(10), serving)
            .await
            .expect("the server ends with the pipe")
            .unwrap()
            .unwrap();

        // The host key is judged there as well, by the name that was asked for.
        let (near, far) = tokio::io::duplex(4096);
        let serving = tokio::spawn(serve_stream(far, options));
        let failure = connect_over(near, &target(&desk.put("empty", "")), Lane::Control, None).await.unwrap_err();
        assert_eq!(failure.what, "the host key is not known here", "{failure:?}");
        assert_eq!(failure.chain, ["ssh ops@pipe.test port 22", "host key"]);
        drop(serving);
    });
}

#[test]
fn unknown_names_are_exit_6_with_the_nearest() {
    let desk = Desk::new();
    one_host(&desk, &way(9, &desk.key, ""));
    for (args, words) in [
        (&["backup", "prd"][..], "did you mean prod"),
        (&["backup", "zzzzzzz"], "clusters are groups; there are: prod"),
        (&["ping", "prod-11"], "prod-1"),
        (&["ping", "prod:!prod-1"], "no host matches"),
        (&["ping", "prod", "-l", "prdo"], "prod"),
        (&["ping", "-i", "nowhere/hosts.yml"], "nowhere/hosts.yml"),
        (&["backup", "prod", "-i", "nowhere/hosts.yml"], "nowhere/hosts.yml"),
    ] {
        let out = desk.run(args);
        assert_eq!(out.status.code(), Some(6), "{args:?}: {}", said(&out));
        assert!(said(&out).contains(words), "{args:?}: {}", said(&out));
    }
}

/// Whatever is wrong in the operator's files is told with its place before any host is touched.
#[test]
fn bad_input_touches_no_host() {
    let desk = Desk::new();
    let listener = Odd::start(|_| ());
    let nothing = desk.put("none", "");
    let good = |args: &str| way(listener.port, &desk.key, args);
    let trust = pce::trusting(&nothing);
    let file = |name: &str| desk.at("operator").join(name).display().to_string();
    let with = |line: &str| [good(&trust), vec![line.to_owned()]].concat();
    let replaced = |at: usize, line: String| {
        let mut lines = good(&trust);
        lines[at] = line;
        lines
    };
    // It would be touched if all were right: the check below can fail.
    one_host(&desk, &good(&trust));
    assert_eq!(ping(&desk, &["-T", "1"]).0, Some(4));
    let touched = listener.came();
    assert!(touched > 0);

    let public = desk.key.with_extension("pub");
    desk.put("damaged", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n");
    desk.put("junk", "# fine\nnode ssh-ed25519 A=B\n");
    desk.put("junk2", "justonething\n");
    desk.put("open", &std::fs::read_to_string(&desk.key).unwrap());
    std::fs::set_permissions(file("open"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let inventory = |line: usize, column: usize| format!("inventory.yml:{line}:{column}");
    // What, the host's lines, the words that must be said.
    let cases: Vec<(&str, Vec<String>, Vec<String>)> = vec![
        ("a port that is none", replaced(1, "ansible_port: eleven".into()), vec![inventory(7, 25), "eleven".into()]),
        ("a become that is neither", with("ansible_become: maybe"), vec![inventory(11, 27), "maybe".into()]),
        (
            "an option of ssh",
            replaced(4, "ansible_ssh_common_args: -F /x".into()),
            vec![inventory(10, 36), "-F".into()],
        ),
        ("a connection", with("ansible_connection: winrm"), vec![inventory(11, 31), "winrm".into()]),
        ("a template without end", with("pce_work_dir: '{{ x'"), vec![inventory(11, 0).replace(":0", ":")]),
        ("a duration", with("pce_backup_timeout: soon"), vec![inventory(11, 31), "soon".into()]),
        (
            "no key",
            replaced(3, format!("ansible_private_key_file: {}", file("gone"))),
            vec![file("gone"), "does not exist".into()],
        ),
        (
            "a public key",
            replaced(3, format!("ansible_private_key_file: {}", public.display())),
            vec![format!("{}:1:1", public.display()), "is a public key".into()],
        ),
        (
            "a damaged key",
            replaced(3, format!("ansible_private_key_file: {}", file("damaged"))),
            vec![format!("{}:1:1", file("damaged")), "damaged".into()],
        ),
        (
            "a key that all can read",
            replaced(3, format!("ansible_private_key_file: {}", file("open"))),
            vec![file("open"), "chmod 600".into()],
        ),
        (
            "a line of known_hosts",
            good(&pce::trusting(Path::new(&file("junk")))),
            vec![format!("{}:2:18", file("junk")), "expected".into()],
        ),
        (
            "two files of known_hosts",
            good(&format!(
                "-o 'UserKnownHostsFile={} {}' -o GlobalKnownHostsFile=/dev/null",
                file("junk"),
                file("junk2")
            )),
            vec![format!("{}:2:18", file("junk")), format!("{}:1:", file("junk2"))],
        ),
        (
            "known_hosts that is a folder",
            good(&pce::trusting(&desk.at("operator"))),
            vec![file("").trim_end_matches('/').to_owned()],
        ),
    ];
    let mut told = 0;
    for (name, lines, words) in &cases {
        one_host(&desk, lines);
        for args in [&["ping", "prod"][..], &["backup", "prod"]] {
            let out = desk.run(&[args, &["-T", "1"]].concat());
            assert_eq!(out.status.code(), Some(1), "{name}, {args:?}: {}", said(&out));
            for word in words {
                assert!(said(&out).contains(word), "{name}, {args:?}, {word:?}: {}", said(&out));
            }
            told += 1;
        }
    }
    // Inventories that cannot be read, and a playbook.
    let head = "all:\n  children:\n    prod:\n      hosts:\n";
    for (name, text, place) in [
        ("not YAML", format!("{head}        prod-1: {{\n"), "inventory.yml:"),
        ("a list of hosts", format!("{head}        - prod-1\n"), "inventory.yml:5:9"),
        ("an unknown key", format!("{head}        prod-1: {{}}\n      host: {{}}\n"), "inventory.yml:6:7"),
    ] {
        desk.put("inventory.yml", &text);
        let out = desk.run(&["ping", "all", "-T", "1"]);
        assert_eq!(out.status.code(), Some(1), "{name}: {}", said(&out));
        assert!(said(&out).contains(place), "{name}: {}", said(&out));
        told += 1;
    }
    one_host(&desk, &good(&trust));
    let play = |tasks: &str| format!("- name: x\n  hosts: prod\n  gather_facts: false\n  tasks:\n{tasks}");
    for (name, text, place) in [
        ("an unknown module", play("    - name: y\n      pingg:\n"), "play.yml:6:7"),
        ("an unknown key of a play", "- name: x\n  host: prod\n  tasks: []\n".to_owned(), "play.yml:2:3"),
        ("a condition", play("    - name: y\n      ping:\n      when: 1 +\n"), "play.yml:7:"),
        ("no YAML", "- name: [\n".to_owned(), "play.yml:"),
    ] {
        let path = desk.put("play.yml", &text);
        let out = desk.run(&["run", path.to_str().unwrap(), "-T", "1"]);
        assert_eq!(out.status.code(), Some(1), "{name}: {}", said(&out));
        assert!(said(&out).contains(place), "{name}: {}", said(&out));
        told += 1;
    }
    assert_eq!(listener.came(), touched, "a host was touched");
    println!("{told} times bad input: exit 1, a place, no connection");
}

/// What `ansible.cfg` and Ansible's variables of the environment say of ssh and of becoming is done, below the inventory's own words.
#[test]
fn settings_of_ansible_lead_to_the_host_and_say_whom_to_become() {
    let desk = Desk::new();
    let node = RealNode::start(Opts::default());
    let locked = desk.at("operator").join("locked");
    tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", PASSPHRASE, "-C", "", "-f", locked.to_str().unwrap()]);
    authorize(&node, &std::fs::read_to_string(locked.with_extension("pub")).unwrap());
    let trust = format!("-o IdentityAgent=none {}", pce::trusting(&node.known_hosts_path));
    let cfg = format!(
        "[defaults]\nremote_user = ops\nremote_port = {}\nfrobs = 1\n[ssh_connection]\nssh_common_args = {trust}\n\
         [privilege_escalation]\nbecome = True\nbecome_user = nobody\n",
        node.port
    );
    std::fs::write(desk.at("work").join("ansible.cfg"), cfg).unwrap();
    let call = |vars: &[&str], env: &[(&str, &str)], more: &[&str]| {
        let mut lines =
            vec!["ansible_host: 127.0.0.1".to_owned(), format!("ansible_private_key_file: {}", locked.display())];
        lines.push(format!("ansible_private_key_passphrase: {}", serde_json::to_string(PASSPHRASE).unwrap()));
        lines.extend(vars.iter().map(|line| (*line).to_owned()));
        one_host(&desk, &lines);
        let mut ferry = desk.ferry();
        ferry.args(["exec", "prod-1", "-m", "shell", "-a", "id -un; echo ${BASH_VERSION:+bash}"]).args(more);
        ferry.envs(env.iter().copied());
        pce::finish(ferry.spawn().unwrap(), 60)
    };
    let cases: [(&[&str], &[(&str, &str)], &[&str], &str); 5] = [
        (&[], &[], &[], "prod-1 | nobody\nprod-1 | \n"),
        (&[], &[("ANSIBLE_BECOME_USER", "root")], &[], "prod-1 | root\nprod-1 | \n"),
        (&["ansible_sudo_user: root"], &[], &[], "prod-1 | root\nprod-1 | \n"),
        (&[], &[], &["--become-user", "root"], "prod-1 | root\nprod-1 | \n"),
        (&["ansible_become: false", "ansible_shell_executable: /bin/bash"], &[], &[], "prod-1 | ops\nprod-1 | bash\n"),
    ];
    for (vars, env, more, expected) in cases {
        let out = call(vars, env, more);
        assert_eq!(text(&out.stdout), expected, "{vars:?} {env:?} {more:?}: {}", said(&out));
        assert!(!said(&out).contains(PASSPHRASE) && !said(&out).contains("frobs"), "{}", said(&out));
    }
    // What is passed over is named, where that is asked for.
    let out = call(&["ansible_pipelining: true"], &[], &["-v"]);
    for words in ["ansible_pipelining is not used", "ferry does not use [defaults] frobs"] {
        assert!(text(&out.stderr).contains(words), "{words}: {}", said(&out));
    }
    let out = call(&["ansible_private_key: secret words"], &[], &[]);
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    assert!(
        said(&out).contains("a key in a variable is not read") && !said(&out).contains("secret words"),
        "{}",
        said(&out)
    );
}

/// What ferry does not speak is called by its name, with the way round it.
#[test]
fn kerberos_and_pkcs11_are_named_with_the_way_round() {
    let desk = Desk::new();
    let sshd_lines = [
        "PubkeyAuthentication no",
        "GSSAPIAuthentication yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
    ]
    .map(str::to_owned)
    .to_vec();
    let kerberos = RealNode::start(Opts { sshd_lines, ..Opts::default() });
    let trust = pce::trusting(&kerberos.known_hosts_path);
    let expected = Expect {
        name: "Kerberos",
        what: "does not let ops in",
        step: "authentication",
        seen: &["SHA256:", "refused", "the server still offers: gssapi-with-mic"],
        mend: "ferry does not speak Kerberos (GSSAPI): use a key",
    };
    expect(&desk, &way(kerberos.port, &desk.key, &trust), &[], &expected);
    let node = RealNode::start(Opts::default());
    let trust = pce::trusting(&node.known_hosts_path);
    for args in ["-o PKCS11Provider=/usr/lib/token.so", "-I /usr/lib/token.so"] {
        let expected = Expect {
            name: "PKCS#11",
            what: "does not let ops in",
            step: "authentication",
            seen: &["names a PKCS11Provider: ferry cannot use it"],
            mend: "load the token's keys into the agent (ssh-add -s PROVIDER)",
        };
        expect(&desk, &way(node.port, &desk.key, &format!("{trust} {args}")), &[], &expected);
    }
}

/// With `use_pty`, sudo stands between with a terminal of its own, and reads on when the connection is gone. What was sent ahead
/// must not run for nobody, and what is said must arrive all the same.
#[test]
fn where_sudo_reads_on_for_nobody_nothing_more_runs() {
    let case = |lines: &str| {
        let desk = Desk::new();
        let mut opts = pce::with_key(Opts::default(), &desk);
        opts.setup.push(format!("echo '{lines}' >/etc/sudoers.d/pty; chmod 440 /etc/sudoers.d/pty"));
        let node = RealNode::start(opts);
        let mut vars =
            way(node.port, &desk.key, &format!("-o IdentityAgent=none {}", pce::trusting(&node.known_hosts_path)));
        vars.push("ansible_become: true".to_owned());
        one_host(&desk, &vars);
        let book = |name: &str, tasks: &[&str]| {
            let mut text = "- hosts: prod-1\n  gather_facts: false\n  tasks:\n".to_owned();
            tasks.iter().for_each(|task| text.push_str(&format!("    - shell: {task}\n")));
            std::fs::write(desk.at("work").join(name), text).unwrap();
        };
        let ran = || text(&node.exec_in("cat /root/ran 2>/dev/null").stdout);
        book(
            "all.yml",
            &["id -un; echo 1 >>/root/ran", "printf 'a\\001b'; echo e >&2", "echo 2 >>/root/ran", "echo 3 >>/root/ran"],
        );
        let out = desk.run(&["run", "all.yml"]);
        assert_eq!(out.status.code(), Some(0), "{lines}: {}", said(&out));
        assert_eq!(ran(), "1\n2\n3\n", "{lines}");
        assert!(said(&out).contains("prod-1 | root") && said(&out).contains("a\\x01b"), "{lines}: {}", said(&out));
        node.exec_in("rm -f /root/ran");
        book("cut.yml", &["true", "echo 4 >>/root/ran; sleep 0.9", "echo 5 >>/root/ran"]);
        let mut child = desk.ferry().args(["run", "cut.yml"]).spawn().unwrap();
        let begun = Instant::now();
        while ran() != "4\n" {
            assert!(begun.elapsed() < Duration::from_secs(30), "{lines}: it does not begin");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(ran(), "4\n", "{lines}: what was sent ahead ran for nobody");
        let left: Vec<String> = node
            .processes()
            .iter()
            .map(|process| String::from_utf8_lossy(&process.cmdline).replace('\0', " "))
            .filter(|line| line.contains("ferry-") || line.contains("sudo "))
            .collect();
        assert!(left.is_empty(), "{lines}: {left:#?}");
    };
    std::thread::scope(|scope| {
        for lines in ["Defaults !use_pty", "Defaults use_pty"] {
            scope.spawn(move || case(lines));
        }
    });
}
