//! `ferry doctor`: it finds what will go wrong, says what mends it, and changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferry::sandbox::Options;
use serde_json::Value;
use support::bed::{self, Bed, Said, run_limited};
use support::pce;
use support::real::{Opts, RealNode, Sudo};

/// Every file below a folder with its size and time of change.
fn everything(dir: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let mut all = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            left.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        all.insert(path, (if meta.is_dir() { 0 } else { meta.len() }, meta.modified().unwrap()));
    }
    all
}

/// The findings of a place that are not good, as `gate: what`.
fn findings(place: &Value) -> Vec<String> {
    let list = place["findings"].as_array().unwrap();
    let bad = list.iter().filter(|found| found["severity"] != "pass");
    bad.map(|found| {
        format!(
            "{} {}: {}",
            found["severity"].as_str().unwrap(),
            found["gate"].as_str().unwrap(),
            found["what"].as_str().unwrap()
        )
    })
    .collect()
}

#[track_caller]
fn finds(place: &Value, start: &str, words: &str) {
    let all = findings(place);
    assert!(all.iter().any(|line| line.starts_with(start) && line.contains(words)), "{start} {words}: {all:#?}");
    for found in place["findings"].as_array().unwrap().iter().filter(|found| found["severity"] != "pass") {
        let told = ["why", "mend"].iter().any(|name| found[*name].as_str().is_some_and(|text| !text.is_empty()));
        assert!(told, "a finding without a way on: {found}");
    }
}

/// A home of its own: this machine's keys and known hosts are not the test's.
fn home(bed: &Bed) -> PathBuf {
    let home = bed.aside("home");
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    std::fs::set_permissions(home.join(".ssh"), std::fs::Permissions::from_mode(0o700)).unwrap();
    home
}

fn doctor(bed: &Bed, words: &[&str], env: &[(&str, &str)]) -> Said {
    let home = home(bed);
    let mut all = vec![("HOME", home.to_str().unwrap())];
    all.extend(env);
    bed.ferry_with(&[&["doctor"], words].concat(), &all)
}

#[test]
fn the_sandbox_is_well_and_nothing_is_changed() {
    let bed = Bed::with(Options { amv: false, ..Bed::options() });
    let home = home(&bed);
    let before = (everything(&bed.up.dir.join("clusters")), everything(&home));
    let said = doctor(&bed, &["all", "--json"], &[]);
    let all = said.json();
    let names: Vec<&String> = all["hosts"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["prod-1", "prod-2", "prod-3", "dr-1", "dr-2", "dr-3"]);
    for (host, seen) in all["hosts"].as_object().unwrap() {
        assert_ne!(seen["verdict"], "refuse", "{host}: {:#?}", findings(seen));
        for fact in ["server", "tcp", "login", "user", "root", "clock", "disk"] {
            assert!(seen["facts"][fact].as_str().is_some_and(|text| !text.is_empty()), "{host} {fact}: {seen}");
        }
    }
    assert_eq!(said.code, i32::try_from(all["exit"].as_u64().unwrap()).unwrap());
    let table = doctor(&bed, &["prod"], &[]);
    assert_eq!(table.out.lines().filter(|line| line.starts_with("prod-")).count(), 3, "{}", table.out);
    assert!(table.out.contains("this machine"), "{}", table.out);
    doctor(&bed, &["prodd"], &[]).must(6, &["did you mean prod"]);
    let after = (everything(&bed.up.dir.join("clusters")), everything(&home));
    assert_eq!(before, after);
    assert!(!bed.up.dir.join("runs").exists() && !bed.up.dir.join("catalog").exists(), "no folder was made");
}

#[test]
fn what_is_wrong_on_the_way_is_named_with_what_mends_it() {
    let bed = Bed::with(Options { amv: false, ..Bed::options() });
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // What answers there is no SSH server.
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let web_port = web.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in web.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read(&mut [0; 64]);
        }
    });
    let node = bed.up.nodes.iter().find(|node| node.name == "prod-1").unwrap();
    let known = bed.aside("known_hosts");
    std::fs::write(&known, "").unwrap();
    let mine = format!(
        "ansible_host: 127.0.0.1, ansible_user: root, ansible_ssh_private_key_file: {}",
        bed.up.dir.join("id_ed25519").display()
    );
    let unknown = |strict: &str| {
        format!(
            "ansible_ssh_common_args: '-o UserKnownHostsFile={} -o StrictHostKeyChecking={strict}'",
            known.display()
        )
    };
    let text = format!(
        "all:\n  hosts:\n    closed: {{ {mine}, ansible_port: {closed} }}\n    web: {{ {mine}, ansible_port: {web_port} }}\n    \
         nameless: {{ ansible_host: no-such-host.invalid }}\n    \
         strange: {{ {mine}, ansible_port: {port}, {} }}\n    trusting: {{ {mine}, ansible_port: {port}, {} }}\n    \
         odd: {{ {mine}, ansible_ssh_common_args: -o NoSuchOption=1 }}\n    stranger: {{ ansible_host: 127.0.0.1, ansible_port: {port}, ansible_user: root, \
         ansible_ssh_common_args: '-o UserKnownHostsFile={}' }}\n",
        unknown("yes"),
        unknown("accept-new"),
        bed.up.known_hosts.display(),
        port = node.port,
    );
    let inventory = bed.aside("odd.yml");
    std::fs::write(&inventory, text).unwrap();
    let said = doctor(&bed, &["all", "--json", "-T", "3", "-i", inventory.to_str().unwrap()], &[]);
    said.must(4, &[]);
    let all = said.json();
    let hosts = &all["hosts"];
    finds(&hosts["closed"], "refuse TCP", "no connection to 127.0.0.1");
    finds(&hosts["web"], "refuse banner", "does not speak SSH: HTTP/1.1 400");
    finds(&hosts["nameless"], "refuse DNS", "no-such-host.invalid");
    finds(&hosts["strange"], "refuse host key", "not known here");
    finds(&hosts["trusting"], "warn host key", "not known here");
    finds(&hosts["odd"], "refuse settings", "ansible_ssh_common_args");
    assert_eq!(hosts["stranger"]["verdict"], "refuse", "{}", hosts["stranger"]);
    assert_eq!(std::fs::read_to_string(&known).unwrap(), "", "no key was written down");
    // The table names each, what is worst first.
    let table = doctor(&bed, &["all", "-T", "3", "-i", inventory.to_str().unwrap()], &[]);
    table.must(4, &["closed", "does not speak SSH", "ssh-keyscan"]);
}

#[test]
fn what_is_wrong_here_is_named_with_what_mends_it() {
    let bed = Bed::with(Options { amv: false, ..Bed::options() });
    let home = home(&bed);
    let write = |path: PathBuf, text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let key = std::fs::read_to_string(bed.up.dir.join("id_ed25519")).unwrap();
    write(home.join(".ssh/id_ed25519"), &key, 0o644);
    write(home.join(".ssh/config"), "Host x\n", 0o666);
    write(home.join(".ssh/known_hosts"), "this is no line of known_hosts\n", 0o600);
    let shelf = bed.aside("shelf");
    std::fs::create_dir(&shelf).unwrap();
    std::fs::set_permissions(&shelf, std::fs::Permissions::from_mode(0o777)).unwrap();
    let nowhere = bed.aside("file");
    std::fs::write(&nowhere, "").unwrap();
    let agent = bed.aside("agent.sock");
    drop(std::os::unix::net::UnixListener::bind(&agent).unwrap());
    let runs = nowhere.join("runs");
    let said = doctor(
        &bed,
        &["prod-1", "--json", "--catalog", shelf.to_str().unwrap(), "--run-dir", runs.to_str().unwrap()],
        &[("SSH_AUTH_SOCK", agent.to_str().unwrap())],
    );
    let all = said.json();
    let here = &all["here"];
    finds(here, "warn key", "others may read");
    finds(here, "warn ssh", "/.ssh/config");
    finds(here, "warn known_hosts", "known_hosts:1");
    finds(here, "refuse catalog", "everybody may write");
    finds(here, "refuse runs", "is no folder");
    finds(here, "warn agent", "nobody answers there");
    said.must(1, &[]);
    let table = doctor(&bed, &["prod-1", "--catalog", shelf.to_str().unwrap()], &[]);
    table.must(1, &["here: catalog: everybody may write", "chmod o-w"]);

    // An inventory that cannot be read is a finding, with its place.
    std::fs::write(bed.aside("broken.yml"), "all: [\n").unwrap();
    let said = doctor(&bed, &["all", "--json", "-i", bed.aside("broken.yml").to_str().unwrap()], &[]);
    finds(&said.json()["here"], "refuse settings", "broken.yml");
    assert_eq!(said.code, 1);
    assert!(said.json()["hosts"].as_object().unwrap().is_empty());
}

/// Disks of a known size in a mount namespace: what is found is a matter of the disk that is asked, not of this machine's.
#[test]
fn a_disk_that_is_nearly_full_is_found_before_tonight() {
    let bed = Bed::with(Options { amv: false, ..Bed::options() });
    let home = home(&bed);
    let places = ["shelf", "journals"].map(|name| bed.aside(name));
    places.iter().for_each(|place| std::fs::create_dir(place).unwrap());
    let look = |catalog: &str, runs: &str| {
        let ferry = bed::ferry(Some(&bed.up.config), bed.up.dir.as_path());
        let mut command = std::process::Command::new("unshare");
        const MOUNT: &str = r#"mount -t tmpfs -o size=$1,mode=700 a "$2" && mount -t tmpfs -o size=$3,mode=700 b "$4" && exec "$5" doctor prod-1 --json --catalog "$2" --run-dir "$4""#;
        command.args(["--mount", "sh", "-c", MOUNT, "sh", catalog]).arg(&places[0]).arg(runs).arg(&places[1]);
        command.arg(ferry.get_program()).current_dir(&bed.up.dir);
        for (name, value) in ferry.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("HOME", &home);
        let said = run_limited(command, Duration::from_secs(60));
        (said.code, said.json()["here"].clone())
    };
    let (code, here) = look("64g", "64g");
    assert!(findings(&here).iter().all(|found| !found.contains("free")), "{here}");
    assert_eq!(code, 0, "{here}");
    let (code, here) = look("10g", "500m");
    finds(&here, "warn catalog", "has 10.0 GiB free");
    finds(&here, "warn runs", "has 500 MiB free");
    assert_eq!(code, 0, "{here}");
    let (code, here) = look("900m", "32m");
    finds(&here, "refuse catalog", "has 900 MiB free");
    finds(&here, "refuse runs", "has 32.0 MiB free");
    assert_eq!(code, 1, "{here}");
}

fn real(node: &RealNode, dir: &Path, words: &[&str]) -> Value {
    let text = format!(
        "all:\n  hosts:\n    node-1:\n      ansible_host: 127.0.0.1\n      ansible_port: {}\n      ansible_user: ops\n      ansible_become: true\n      ansible_ssh_private_key_file: {}\n      ansible_ssh_common_args: '-o UserKnownHostsFile={}'\n      ferry_node_dir: /small/ferry\n",
        node.port,
        node.key_path.display(),
        node.known_hosts_path.display()
    );
    std::fs::write(dir.join("inventory.yml"), text).unwrap();
    let mut command = bed::ferry(None, dir);
    command
        .env("HOME", dir)
        .args(["doctor", "-i", "inventory.yml", "--json", "--run-dir", "runs", "--catalog", "catalog"])
        .args(words);
    let said = run_limited(command, Duration::from_secs(60));
    let mut all = said.json();
    all["code"] = said.code.into();
    all
}

#[test]
fn a_real_sshd_tells_its_limits_and_sudo_how_it_is_given() {
    let dir = tempfile::Builder::new().prefix("ferry-doctor").tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let node = RealNode::start(Opts {
        sudo: Sudo::Password,
        tmpfs: vec![("/small".into(), 256)],
        texts: vec![("/home/ops/.bashrc".into(), "echo welcome to this host\n".into(), 0o644)],
        sshd_lines: vec!["MaxAuthTries 2".into(), "MaxStartups 3".into()],
        ..Opts::default()
    });
    secret("right", node.password.as_ref().unwrap());
    secret("wrong", "not the password");
    let all = real(&node, dir.path(), &["--become-password-file", "right"]);
    let host = &all["hosts"]["node-1"];
    let fact = |name: &str| host["facts"][name].as_str().unwrap_or_default().to_owned();
    assert!(fact("server").starts_with("OpenSSH_"), "{host}");
    assert_eq!(fact("user"), "ops with /bin/bash");
    assert!(
        fact("login").starts_with("login by ") && fact("login").contains("(ssh-ed25519 SHA256:"),
        "{}",
        fact("login")
    );
    assert_eq!(fact("root"), "root by sudo");
    assert_eq!(fact("sudo_password"), "sudo by password");
    finds(host, "warn sshd", "MaxAuthTries is 2");
    finds(host, "warn sshd", "MaxStartups is 3");
    finds(host, "warn shell", "welcome to this host");
    finds(host, "refuse space", "/small/ferry is on /small");
    assert_eq!(all["code"], 2);

    let all = real(&node, dir.path(), &["--become-password-file", "wrong"]);
    finds(&all["hosts"]["node-1"], "refuse sudo", "did not accept the password");
    assert_eq!(all["code"], 2);
    let all = real(&node, dir.path(), &[]);
    finds(&all["hosts"]["node-1"], "refuse sudo", "asks for a password");
    assert!(!dir.path().join("runs").exists() && !dir.path().join("catalog").exists());
}

/// Every server on the way is looked at, not the first alone: what the one in the middle offers, and what answers behind it.
#[test]
fn servers_behind_a_jump_host_are_looked_at_as_well() {
    let desk = pce::Desk::new();
    let start = |opts: Opts| RealNode::start(pce::with_key(opts, &desk));
    let named = |hostname: &str| Opts { hostname: hostname.into(), ..Opts::default() };
    let one = start(named("bastion-1"));
    let old =
        start(Opts { sshd_lines: vec!["KexAlgorithms diffie-hellman-group14-sha1".into()], ..named("bastion-2") });
    let new = start(named("bastion-2"));
    let node = start(Opts { kind: support::real::Kind::Dropbear, ..named("node") });
    let known: String =
        [&one, &old, &new, &node].map(|node| std::fs::read_to_string(&node.known_hosts_path).unwrap()).concat();
    let known = desk.put("known", &known);
    let look = |second: &RealNode, port: u16| {
        let jump = format!("-J ops@127.0.0.1:{},ops@127.0.0.1:{}", one.port, second.port);
        desk.put(
            "inventory.yml",
            &format!(
                "all:\n  hosts:\n    node-1:\n      ansible_host: 127.0.0.1\n      ansible_port: {port}\n      ansible_user: ops\n      ansible_private_key_file: {}\n      ansible_ssh_common_args: \"{} {jump}\"\n",
                desk.key.display(),
                pce::trusting(&known)
            ),
        );
        let out = desk.run(&["doctor", "node-1", "--json", "-T", "5"]);
        let all: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", pce::said(&out)));
        all["hosts"]["node-1"].clone()
    };
    let host = look(&new, node.port);
    assert_eq!(host["facts"]["hops"], "through 2 jump hosts", "{host}");
    assert!(host["facts"]["server"].as_str().unwrap().starts_with("jump host 127.0.0.1 OpenSSH_"), "{host}");
    assert!(host["facts"]["behind"].as_str().unwrap().starts_with("the host dropbear"), "{host}");
    assert!(host["facts"]["login"].as_str().unwrap().starts_with("login by"), "{host}");
    // The greeting of the one in the middle is judged before anything is tried with it.
    finds(&look(&old, node.port), "refuse key exchange", "SHA-1 only");
    let closed = support::real::free_port();
    finds(&look(&new, closed.0), "refuse", &format!("could not reach 127.0.0.1 port {}", closed.0));
    let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in web.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    finds(&look(&new, port), "refuse banner", "does not speak SSH: HTTP/1.1 400");
}
