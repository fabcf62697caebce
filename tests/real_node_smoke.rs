//! The nodes that other tests work on are what they claim to be: real logins, real sudo, real
//! reboots, and nothing left behind on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::real::{Kind, Opts, RealNode, Sudo, processes_in};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn over_ssh(node: &RealNode, command: &str, input: &[u8]) -> Output {
    let mut child =
        node.ssh().arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The other side may refuse before it reads.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

const ROOT: &str = "sudo -k -S -p 'ask:' -- id -u";

#[test]
fn key_login_and_sudo_without_password() {
    let opts = Opts {
        texts: vec![("/opt/tools/hello".into(), "#!/bin/sh\necho hello from $(hostname)\n".into(), 0o755)],
        tmpfs: vec![("/small".into(), 64)],
        setup: vec!["echo made >/etc/made".into()],
        ..Opts::default()
    };
    let node = RealNode::start(opts);
    let out = over_ssh(&node, "id -un; /opt/tools/hello; cat /etc/made; sudo -n id -u", b"");
    assert_eq!(text(&out.stdout), "ops\nhello from node-1\nmade\n0\n", "{}", text(&out.stderr));
    let full = over_ssh(&node, "sudo dd if=/dev/zero of=/small/x bs=1k count=100", b"");
    assert!(text(&full.stderr).contains("No space left"), "{}", text(&full.stderr));
    assert!(node.password.is_none());
    assert!(node.root_dir().join("etc/made").exists());
    let holds = |name: &str| node.written().iter().any(|folder| folder.join(name).exists());
    assert!(holds("etc/made") && holds("x"), "the overlay and the small disk are searched");
}

#[test]
fn a_node_works_where_only_memory_can_be_written() {
    let opts = Opts { in_memory: true, setup: vec!["echo made >/etc/made".into()], ..Opts::default() };
    let node = RealNode::start(opts);
    assert!(node.in_memory());
    assert_eq!(text(&over_ssh(&node, "sudo id -u; cat /etc/made", b"").stdout), "0\nmade\n");
    assert!(node.written().iter().any(|folder| folder.join("made").exists()));
}

#[test]
fn sudo_wants_the_right_password() {
    let node = RealNode::start(Opts::sudo(Sudo::Password));
    let password = node.password.clone().unwrap();
    let right = over_ssh(&node, ROOT, format!("{password}\n").as_bytes());
    assert_eq!(text(&right.stdout), "0\n", "{}", text(&right.stderr));
    assert!(text(&right.stderr).contains("ask:"));
    let wrong = over_ssh(&node, ROOT, b"wrong\n");
    assert_eq!(text(&wrong.stdout), "");
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("try again"), "{}", text(&wrong.stderr));
    let none = over_ssh(&node, "sudo -n id -u", b"");
    assert!(text(&none.stderr).contains("password is required"), "{}", text(&none.stderr));
}

#[test]
fn sudo_refuses_in_its_other_ways() {
    for (sudo, words) in [
        (Sudo::NotInSudoers, "not in the sudoers file"),
        (Sudo::RequireTty, "you must have a tty"),
        (Sudo::Expired, "expired"),
    ] {
        let node = RealNode::start(Opts::sudo(sudo));
        let password = node.password.clone().unwrap();
        let out = over_ssh(&node, &format!("export LC_ALL=C; {ROOT}"), format!("{password}\n").as_bytes());
        // PAM's own words come on standard output.
        let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
        assert!(!out.status.success() && !text(&out.stdout).contains('0'), "{sudo:?}: {said}");
        assert!(said.contains(words), "{sudo:?}: {said}");
    }
}

#[test]
fn dropbear_logs_in() {
    let node = RealNode::start(Opts { kind: Kind::Dropbear, ..Opts::default() });
    let out = over_ssh(&node, "id -un; sudo -n id -u", b"");
    assert_eq!(text(&out.stdout), "ops\n0\n", "{} {}", text(&out.stderr), node.log());
    assert!(node.processes().iter().any(|process| text(&process.cmdline).contains("dropbear")));
}

#[test]
fn a_node_is_a_bastion() {
    let bastion = RealNode::start(Opts { hostname: "bastion".into(), ..Opts::default() });
    let node = RealNode::start(Opts::default());
    let jump = bastion.ssh_with(&["-W", &format!("127.0.0.1:{}", node.port)]);
    let words = std::iter::once(jump.get_program()).chain(jump.get_args());
    let proxy: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let out = node.ssh_with(&["-o", &format!("ProxyCommand={}", proxy.join(" "))]).arg("hostname").output().unwrap();
    assert_eq!(text(&out.stdout), "node-1\n", "{}", text(&out.stderr));
    assert!(bastion.log().contains("Accepted publickey"));
}

#[test]
fn a_reboot_ends_all_and_changes_the_boot_id() {
    let mut node = RealNode::start(Opts::default());
    let read = "cat /proc/sys/kernel/random/boot_id";
    let before = text(&over_ssh(&node, read, b"").stdout);
    assert_eq!(before.trim(), node.boot_id());
    let out = over_ssh(&node, "sudo -n true; touch kept; setsid sleep 4242 >/dev/null 2>&1 </dev/null & echo ok", b"");
    assert_eq!(text(&out.stdout), "ok\n");
    let sleeping =
        |node: &RealNode| node.processes().iter().any(|process| text(&process.cmdline) == "sleep\u{0}4242\u{0}");
    let begun = Instant::now();
    while !sleeping(&node) {
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", node.processes());
        std::thread::sleep(Duration::from_millis(10));
    }
    // Orphans are collected: no zombies pile up.
    for _ in 0..3 {
        over_ssh(&node, "setsid sh -c 'sleep 0.1 & exit' >/dev/null 2>&1 </dev/null", b"");
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(node.processes().iter().all(|process| process.state != 'Z'), "{:?}", node.processes());
    let (namespace, port) = (node.namespace(), node.port);
    node.reboot();
    assert!(processes_in(&namespace).is_empty());
    assert_eq!(node.port, port);
    let after = text(&over_ssh(&node, read, b"").stdout);
    assert!(!after.is_empty() && after != before && after.trim() == node.boot_id());
    assert!(!sleeping(&node));
    assert!(over_ssh(&node, "test -e kept", b"").status.success());
}

/// Of every file: size, modes, owner, time of change. Content by size and time.
fn state(paths: &[&str]) -> BTreeMap<String, (u64, u32, u32, i64, i64)> {
    let mut all = BTreeMap::new();
    let mut todo: Vec<_> = paths.iter().map(|path| Path::new(path).to_owned()).collect();
    while let Some(path) = todo.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())));
        }
        all.insert(path.display().to_string(), (meta.len(), meta.mode(), meta.uid(), meta.mtime(), meta.mtime_nsec()));
    }
    all
}

#[test]
fn nothing_of_this_machine_changes_and_nothing_stays() {
    let places = ["/etc", "/home", "/var/lib/sudo", "/var/mail", "/opt", "/srv", "/var/log/x", "/root/x"];
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let mounts = || {
        let text = std::fs::read_to_string("/proc/self/mounts").unwrap();
        text.lines().filter(|line| line.contains("node-")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = state(&places);
    let node = RealNode::start(Opts::sudo(Sudo::Password));
    let (namespace, dir, key) = (node.namespace(), node.dir().to_owned(), node.key_path.clone());
    let input = format!("{}\n", node.password.clone().unwrap());
    let planted = "sudo -k -S -p '' sh -c 'echo x | tee -a /etc/passwd /etc/sudoers.d/x /home/x /opt/x /var/log/x /root/x /srv/x; nohup sleep 4242 >/dev/null 2>&1 & echo done'";
    let out = over_ssh(&node, planted, input.as_bytes());
    assert!(text(&out.stdout).ends_with("done\n"), "{}", text(&out.stderr));
    assert!(text(&node.exec_in("cat /opt/x; id -u; hostname").stdout) == "x\n0\nnode-1\n");
    assert!(mounts().is_empty(), "{:?}", mounts());
    assert!(processes_in(&namespace).len() >= 3 && key.exists());
    drop(node);
    assert!(processes_in(&namespace).is_empty());
    assert!(!dir.exists(), "{} is still there", dir.display());
    let after = state(&places);
    let changed: Vec<_> = before
        .iter()
        .filter(|(path, own)| after.get(*path) != Some(own))
        .map(|(path, _)| path)
        .chain(after.keys().filter(|path| !before.contains_key(*path)))
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host_name);
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap(), boot_id);
}

#[test]
fn a_node_ends_with_the_process_that_holds_it() {
    // This test starts itself as that process.
    if std::env::var_os("HOLD_A_NODE").is_some() {
        let node = RealNode::start(Opts::default());
        println!("\n{} {}", node.namespace(), node.dir().display());
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "a_node_ends_with_the_process_that_holds_it"])
        .env("HOLD_A_NODE", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.into_iter().find(|line| line.starts_with("pid:[")).expect("the holder says what it holds");
    let (namespace, dir) = line.split_once(' ').unwrap();
    assert!(!processes_in(namespace).is_empty());
    holder.kill().unwrap();
    holder.wait().unwrap();
    let begun = Instant::now();
    while !processes_in(namespace).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", processes_in(namespace));
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::remove_dir_all(dir).unwrap();
}
