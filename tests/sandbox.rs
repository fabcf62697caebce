//! The sandbox as others meet it: over a real `ssh`, with its processes and files counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{pce, real};

use ferry::sandbox::{self, Mode, NodeUp, Options, Up, pretend};

fn options() -> Options {
    Options {
        exe: Some(PathBuf::from(env!("CARGO_BIN_EXE_ferry"))),
        time_scale: 120.0,
        hook_seconds: 60.0,
        archive_mib: 2,
        ..Options::default()
    }
}

/// Ends a sandbox whatever becomes of the test.
struct Guard(tempfile::TempDir);

impl Guard {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("ferry-sandbox").tempdir().unwrap())
    }
    fn dir(&self) -> &Path {
        self.0.path()
    }
    fn up(&self, options: &Options) -> Up {
        sandbox::up(self.dir(), options).unwrap()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = sandbox::down(self.0.path());
    }
}

fn node<'a>(up: &'a Up, name: &str) -> &'a NodeUp {
    up.nodes.iter().find(|node| node.name == name).unwrap()
}

fn ssh_with(up: &Up, name: &str, key: &Path, more: &[&str], command: &str) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]);
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", up.known_hosts.display()));
    ssh.args(["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10"]);
    ssh.arg("-i").arg(key).args(["-p", &node(up, name).port.to_string()]).args(more);
    ssh.args(["root@127.0.0.1", command]).stdin(Stdio::null());
    ssh
}

fn ssh(up: &Up, name: &str, command: &str) -> Output {
    ssh_with(up, name, &up.key, &[], command).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The processes that carry a sandbox's mark.
fn marked(id: &str) -> Vec<String> {
    let mark = format!("FERRY_SANDBOX_ID={id}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let has = std::fs::read(entry.path().join("environ"))
            .is_ok_and(|all| all.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()));
        if has {
            found.push(text(&std::fs::read(entry.path().join("cmdline")).unwrap_or_default()).replace('\0', " "));
        }
    }
    found
}

fn until(patience: u64, what: &str, mut test: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !test() {
        assert!(begun.elapsed() < Duration::from_secs(patience), "not within {patience} s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn both_modes() -> Vec<Mode> {
    vec![Mode::Namespaces, Mode::Path]
}

#[test]
fn a_real_ssh_client_backs_up_a_node() {
    for mode in both_modes() {
        let guard = Guard::new();
        let up = guard.up(&Options { mode: Some(mode), ..options() });
        assert_eq!(up.nodes.len(), 6);
        let status = ssh(&up, "dr-2", "gravity status --output=json");
        assert_eq!(status.status.code(), Some(0), "{mode:?} {status:?}");
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status["cluster"]["domain"], "pce-dr");
        assert_eq!(status["cluster"]["nodes"].as_array().unwrap().len(), 3);

        let state = ssh(&up, "prod-1", "gravity system state-dir");
        let state = text(&state.stdout).trim().to_owned();
        let target = format!("{state}/planet/share/b.tar.gz");
        let backup = ssh(&up, "prod-1", &format!("gravity backup {target} --follow --timeout=5m; echo rc $?"));
        assert!(text(&backup.stdout).ends_with("has completed, 1 minute elapsed.\nrc 0\n"), "{mode:?} {backup:?}");
        let listed = ssh(&up, "prod-1", &format!("tar -tzf {target}"));
        assert!(text(&listed.stdout).contains("secrets/platform-secrets.json\n"), "{listed:?}");
        assert!(node(&up, "prod-1").root.join("var/lib/gravity/planet/share/b.tar.gz").is_file());
        // The other nodes of the cluster see its jobs' pods, the other cluster does not; a pod of an
        // earlier day is in each.
        let pods = "kubectl -n kube-system get pods --no-headers";
        assert!(text(&ssh(&up, "prod-3", pods).stdout).contains("Completed"));
        assert!(text(&ssh(&up, "prod-3", pods).stdout).contains("anypoint-backup-"));
        let made = |name: &str| text(&ssh(&up, name, &format!("{pods} | grep -vc 0a1b2c-")).stdout);
        assert_eq!((made("prod-3").trim(), made("dr-1").trim()), ("3", "2"));
    }
}

#[test]
fn a_node_has_a_root_of_its_own_and_a_name() {
    let guard = Guard::new();
    let up = guard.up(&options());
    if up.mode != Mode::Namespaces {
        println!("this kernel gives no namespaces: nodes are kept apart by PATH");
        return;
    }
    let said = ssh(
        &up,
        "prod-2",
        "id -u; uname -n; ls /var/lib; touch /usr/x 2>/dev/null || echo read-only; df -P / | tail -1 | wc -l; cat /etc/hostname; ls -ld /run/systemd 2>/dev/null",
    );
    assert_eq!(text(&said.stdout), "0\nprod-2\ngravity\nread-only\n1\nprod-2\n", "{said:?}");
    let before = text(&ssh(&up, "prod-2", "cat /proc/sys/kernel/random/boot_id").stdout);
    sandbox::reboot(guard.dir(), "prod-2").unwrap();
    let after = text(&ssh(&up, "prod-2", "cat /proc/sys/kernel/random/boot_id").stdout);
    assert_eq!(before.len(), after.len());
    assert_ne!(before, after);
    assert_eq!(before, text(&ssh(&up, "prod-1", "cat /proc/sys/kernel/random/boot_id").stdout));
}

/// The inventory's words for where a tool is on a node.
fn tool(up: &Up, name: &str, variable: &str) -> String {
    let inventory: serde_json::Value = serde_yaml::from_str(&std::fs::read_to_string(&up.inventory).unwrap()).unwrap();
    let group = &inventory["all"]["children"][&node(up, name).cluster];
    let places = [&group["hosts"][name], &group["vars"], &inventory["all"]["vars"]];
    places.iter().find_map(|vars| vars[variable].as_str()).unwrap_or_else(|| panic!("{variable} of {name}")).to_owned()
}

#[test]
fn what_one_cluster_saved_the_other_restores() {
    for mode in both_modes() {
        let guard = Guard::new();
        let up = guard.up(&Options { mode: Some(mode), amv: true, ..options() });
        let content = |cluster: &str| sandbox::content(guard.dir(), cluster).unwrap();
        let amv = |cluster: &str| sandbox::amv_content(guard.dir(), cluster).unwrap();
        assert!(content("prod").keys().eq(content("dr").keys()) && content("prod") != content("dr"));
        sandbox::change(guard.dir(), "prod", "databases/postgres/exchange.dump").unwrap();
        sandbox::amv_change(guard.dir(), "prod", "databases/telegraf/measurements/cpu").unwrap();
        let (saved, saved_amv) = (content("prod"), amv("prod"));
        assert!(amv("dr") != saved_amv && amv("dr").len() == 14);

        // As a job does it: by the inventory's paths, with nothing in the environment.
        let bare = "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        let (gravity, dr) = (tool(&up, "prod-2", "pce_gravity"), tool(&up, "dr-3", "pce_gravity"));
        let dir = tool(&up, "prod-2", "pce_amv_backup_dir");
        let script = |state: &str| {
            format!("{state}/{}/3.0.2/{}/amv-backup-restore.sh", pretend::amv::UNPACKED, pretend::amv::FOLDER)
        };
        let state = |name: &str, gravity: &str| {
            let said = text(&ssh(&up, name, &format!("{bare} {gravity} system state-dir")).stdout);
            said.trim().to_owned()
        };
        let here = state("prod-2", &gravity);
        let done = ssh(
            &up,
            "prod-2",
            &format!(
                "{bare} {gravity} backup -q {here}/planet/share/b.tar.gz && {bare} bash {} -va backup -f night -d {dir}; echo rc $?",
                script(&here)
            ),
        );
        assert!(text(&done.stdout).ends_with("rc 0\n"), "{mode:?} {done:?}");
        let there = state("dr-3", &dr);
        let archives = ["prod-2", "dr-3"].map(|name| node(&up, name).root.clone());
        let dr_dir = tool(&up, "dr-3", "pce_amv_backup_dir");
        std::fs::copy(archives[0].join("var/lib/gravity/planet/share/b.tar.gz"), archives[1].join("tmp/b.tar.gz"))
            .unwrap();
        std::fs::copy(archives[0].join("srv/amv-backup/night.tar.gz"), archives[1].join("tmp/night.tar.gz")).unwrap();
        let tmp = if mode == Mode::Path { archives[1].join("tmp") } else { PathBuf::from("/tmp") };
        // The script runs from a copy, wherever that is on the node.
        let job = tmp.join("job");
        let restore = format!(
            "mkdir {job} && cp $(dirname {script})/* {job}/ && {bare} {dr} restore -q {tmp}/b.tar.gz && echo y | {bare} bash {job}/amv-backup-restore.sh -v -a restore -f {tmp}/night.tar.gz -d {dr_dir}; echo rc $?",
            job = job.display(),
            script = script(&there),
            tmp = tmp.display(),
        );
        let done = ssh(&up, "dr-3", &restore);
        assert!(text(&done.stdout).ends_with("rc 0\n"), "{mode:?} {done:?}");
        assert_eq!((content("dr"), amv("dr")), (saved.clone(), saved_amv.clone()), "{mode:?}");
        assert_eq!((content("prod"), amv("prod")), (saved, saved_amv));

        let record = sandbox::record(guard.dir()).unwrap();
        let steps = |tool: &str, act: &str| {
            let all = record.iter().filter(|line| line.tool == tool && line.act == act);
            all.map(|line| format!("{} {}", line.node, line.step)).collect::<Vec<_>>()
        };
        let hook = ["called", "hook-began", "hook-ended", "ended"].map(|step| format!("prod-2 {step}"));
        assert_eq!(steps("gravity", "backup"), hook);
        let hook = ["called", "opened", "hook-began", "hook-ended", "ended"].map(|step| format!("dr-3 {step}"));
        assert_eq!(steps("gravity", "restore"), hook);
        assert_eq!(steps("amv", "backup"), ["prod-2 called", "prod-2 ended"]);
        assert_eq!(steps("amv", "restore").len(), 3 + 3 + 2);
        let digest = |at: usize, name: &str| {
            ferry::digest::Sha256::of(&std::fs::read(archives[at].join(name)).unwrap()).to_string()
        };
        let used =
            |tool: &str| record.iter().find(|line| line.is(tool, "restore", "opened")).unwrap().sha256.clone().unwrap();
        assert_eq!(used("gravity"), digest(1, "tmp/b.tar.gz"));
        assert_eq!(used("amv"), digest(0, "srv/amv-backup/night.tar.gz"));
        assert!(sandbox::content(guard.dir(), "other").is_err());
    }
}

#[test]
fn a_hook_that_lost_the_mark_ends_with_the_sandbox() {
    let guard = Guard::new();
    let up = guard.up(&Options { mode: Some(Mode::Path), ..options() });
    sandbox::set_faults(guard.dir(), &["hook-seconds=60000".parse().unwrap()]).unwrap();
    let gravity = tool(&up, "prod-1", "pce_gravity");
    let line = format!("env -i PATH=/usr/bin:/bin setsid {gravity} backup -q /dev/null >/dev/null 2>&1 </dev/null &");
    assert!(ssh(&up, "prod-1", &line).status.success());
    let serving = || {
        let mark = format!("FERRY_SANDBOX_NODE={}/", up.dir.display());
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let environs = all.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
        environs.filter(|environ| text(environ).contains(&mark)).count()
    };
    until(10, "the hook runs", || serving() > 0);
    sandbox::down(guard.dir()).unwrap();
    assert_eq!(serving(), 0);
}

#[test]
fn clusters_may_differ_in_version_and_one_may_have_no_gravity() {
    for mode in both_modes() {
        let guard = Guard::new();
        let versions = BTreeMap::from([("dr".to_owned(), "3.2.0".to_owned())]);
        let up = guard.up(&Options { mode: Some(mode), versions, amv: true, ..options() });
        let version = |name: &str| {
            let said = ssh(&up, name, "gravity site info --output=json");
            serde_json::from_slice::<serde_json::Value>(&said.stdout).unwrap()["app"]["version"].to_string()
        };
        assert_eq!((version("prod-1"), version("dr-1")), ("\"3.0.2\"".to_owned(), "\"3.2.0\"".to_owned()));
        let unpacked = node(&up, "dr-1").root.join("var/lib/gravity").join(pretend::amv::UNPACKED);
        assert!(unpacked.join("3.2.0").join(pretend::amv::FOLDER).is_dir() && !unpacked.join("3.0.2").exists());

        sandbox::set_faults(guard.dir(), &["dr:pce4".parse().unwrap()]).unwrap();
        let gravity = tool(&up, "dr-2", "pce_gravity");
        let look =
            format!("test -e {gravity} && echo there; command -v gravity; kubectl get nodes --no-headers | wc -l");
        let said = ssh(&up, "dr-2", &look);
        assert_eq!(text(&said.stdout).trim(), "3", "{mode:?} {said:?}");
        assert!(!node(&up, "dr-2").root.join("var/lib/gravity/local/gravity.db").exists());
        assert_eq!(version("prod-2"), "\"3.0.2\"");
        sandbox::set_faults(guard.dir(), &["dr:pce4=off".parse().unwrap()]).unwrap();
        assert_eq!(version("dr-2"), "\"3.2.0\"");
    }
}

#[test]
fn a_target_is_looked_at_from_its_own_nodes() {
    let guard = Guard::new();
    let up = guard.up(&Options { amv: false, faults: vec!["dr:cert-expired".parse().unwrap()], ..options() });
    let dns = tool(&up, "dr-1", "pce_platform_dns");
    let inventory = std::fs::read_to_string(&up.inventory).unwrap();
    assert!(dns == "anypoint.dr.example" && !inventory.contains("pce_amv"), "{inventory}");
    let look = |name: &str, dns: &str| {
        let script = format!(
            "a=$(getent ahosts {dns} | awk '{{print $1; exit}}'); echo $a; openssl s_client -connect $a:443 -servername {dns} </dev/null 2>/dev/null | openssl x509 -noout -checkend 0 >/dev/null; echo $?; findmnt -rn -t nfs,nfs4 -o SOURCE"
        );
        text(&ssh(&up, name, &script).stdout)
    };
    assert_eq!(look("dr-1", &dns), "10.0.1.11\n1\nnfs.dr.example:/srv/pce\n");
    assert_eq!(look("prod-3", "anypoint.prod.example"), "10.0.0.11\n0\nnfs.prod.example:/srv/pce\n");
    // Another cluster's name leads to the other cluster.
    assert!(look("dr-1", "anypoint.prod.example").starts_with("10.0.0.11\n"));
}

#[test]
fn real_nodes_have_the_same_tools_behind_sshd_and_sudo() {
    use std::os::unix::fs::MetadataExt as _;
    let desk = pce::Desk::new();
    let amv = |node: &mut pretend::Node| node.amv = true;
    let prod = pce::Cluster::start_as(&desk, "prod", 1, &real::Opts::default(), amv);
    let dr = pce::Cluster::start_as(&desk, "dr", 2, &real::Opts::default(), amv);
    // Run by the user's own shell, with sudo in between.
    let sudo = |node: &real::RealNode, script: &str| {
        let output = node.ssh().arg(format!("sudo sh -c '{script}'")).output().unwrap();
        (text(&output.stdout), text(&output.stderr), output.status.code())
    };
    prod.change("secrets/platform-secrets.json");
    prod.amv_change("databases/dias/measurements/jvm_metric");
    let folder = format!("/var/lib/gravity/{}/3.0.2/{}", pretend::amv::UNPACKED, pretend::amv::FOLDER);
    let script = format!("{folder}/amv-backup-restore.sh");
    let made = sudo(
        &prod.nodes[0],
        &format!("gravity backup -q /tmp/b.tar.gz && bash {script} -va backup -f night -d /srv/amv"),
    );
    assert_eq!((made.1.as_str(), made.2), ("", Some(0)), "{}", made.0);
    for file in ["tmp/b.tar.gz", "srv/amv/night.tar.gz"] {
        let name = Path::new(file).file_name().unwrap();
        std::fs::copy(prod.nodes[0].root_dir().join(file), dr.nodes[1].root_dir().join("tmp").join(name)).unwrap();
    }
    let copied = format!("mkdir /root/job && cp {folder}/* /root/job/");
    let put = format!(
        "{copied} && gravity restore -q /tmp/b.tar.gz && echo yes | bash /root/job/amv-backup-restore.sh -v -a restore -f /tmp/night.tar.gz -d /srv/amv"
    );
    let restored = sudo(&dr.nodes[1], &put);
    assert_eq!((restored.1.as_str(), restored.2), ("", Some(0)), "{}", restored.0);
    assert_eq!((dr.content(), dr.amv_content()), (prod.content(), prod.amv_content()));
    assert!(dr.record().iter().all(|line| line.node == "dr-2" && line.cluster == "pce-dr"));
    assert!(dr.record().iter().any(|line| line.is("amv", "restore", "erased")));

    // As the vendor leaves it, by number.
    let root = dr.nodes[0].root_dir();
    for path in [script.as_str(), folder.as_str(), "/var/lib/gravity/site", "/var/lib/gravity/planet/share"] {
        let meta = std::fs::metadata(root.join(path.trim_start_matches('/'))).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o022), (pce::SERVICE_UID, 0), "{path}");
    }
    dr.node_fault(0, "amv-owner", "4711");
    dr.fault("nfs-other", "10.9.9.9:/x");
    let look = "getent ahosts anypoint.dr.example; openssl s_client -connect 10.0.1.11:443 -servername anypoint.dr.example </dev/null 2>/dev/null | openssl x509 -noout -subject; findmnt -rn -t nfs,nfs4 -o SOURCE; getent passwd ops";
    let (out, err, code) = sudo(&dr.nodes[0], look);
    for said in ["10.0.1.11       STREAM", "anypoint.dr.example\n", "10.9.9.9:/x\n", "ops:x:4242:"] {
        assert!(out.contains(said), "{said}: {out} {err} {code:?}");
    }
    assert_eq!(std::fs::metadata(root.join(script.trim_start_matches('/'))).unwrap().uid(), 4711);
    // Without sudo the tools refuse.
    let refused = dr.nodes[0].ssh().arg("gravity backup /tmp/x; kubectl get nodes").output().unwrap();
    let refused = text(&refused.stderr);
    assert!(refused.contains("should be run as root") && refused.contains("permission denied"), "{refused}");
    drop((prod, dr));
    let pce4 = pce::Cluster::start_as(&desk, "new", 1, &real::Opts::default(), |node| {
        node.faults.insert("pce4".to_owned(), true.into());
    });
    let (out, _, _) =
        sudo(&pce4.nodes[0], "command -v gravity; ls -d /var/lib/gravity; kubectl get nodes --no-headers");
    assert!(out.starts_with("10.0.1.11 "), "{out}");
}

#[test]
fn one_key_and_nothing_but_exec_is_let_in() {
    let guard = Guard::new();
    let up = guard.up(&options());
    let other = guard.dir().join("other");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&other).status().unwrap();
    assert!(made.success());
    let refused = ssh_with(&up, "prod-1", &other, &[], "echo in").output().unwrap();
    assert_eq!(refused.status.code(), Some(255));
    assert!(text(&refused.stderr).contains("Permission denied (publickey)"), "{refused:?}");
    let refused = ssh_with(&up, "prod-1", &up.key, &["-l", "mallory"], "echo in").output().unwrap();
    assert!(text(&refused.stderr).contains("Permission denied (publickey)"), "{refused:?}");
    // Neither a terminal nor a subsystem nor the environment.
    let terminal = ssh_with(&up, "prod-1", &up.key, &["-tt"], "echo in").output().unwrap();
    assert!(text(&terminal.stderr).contains("PTY allocation request failed"), "{terminal:?}");
    let subsystem = ssh_with(&up, "prod-1", &up.key, &["-s"], "sftp").output().unwrap();
    assert!(
        !subsystem.status.success() && text(&subsystem.stderr).contains("subsystem request failed"),
        "{subsystem:?}"
    );
    // Forwarding reaches the sandbox's own ports and no other.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let outside = listener.local_addr().unwrap().port();
    let denied = ssh_with(&up, "prod-1", &up.key, &["-W", &format!("127.0.0.1:{outside}")], "");
    let mut denied = denied;
    let denied = denied.output().unwrap();
    assert!(text(&denied.stderr).contains("administratively prohibited"), "{denied:?}");
    let inside = format!("127.0.0.1:{}", node(&up, "dr-1").port);
    let mut reached = ssh_with(&up, "prod-1", &up.key, &["-W", &inside], "");
    let mut reached = reached.stdout(Stdio::piped()).spawn().unwrap();
    let mut banner = [0; 8];
    std::io::Read::read_exact(reached.stdout.as_mut().unwrap(), &mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    reached.kill().unwrap();
    reached.wait().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&up.key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn bytes_codes_and_signals_arrive_as_they_are() {
    let guard = Guard::new();
    let up = guard.up(&Options { mode: Some(Mode::Path), ..options() });
    assert_eq!(ssh(&up, "prod-1", "exit 7").status.code(), Some(7));
    // OpenSSH's client tells a signal as 255.
    assert_eq!(ssh(&up, "prod-1", "kill -9 $$").status.code(), Some(255));
    let both = ssh(&up, "prod-1", "printf out; printf err >&2");
    assert_eq!((text(&both.stdout), text(&both.stderr)), ("out".to_owned(), "err".to_owned()));
    // Sixteen MiB there and back through one channel.
    let mut echo =
        ssh_with(&up, "prod-1", &up.key, &[], "cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let bytes: Vec<u8> = (0..16_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (mut input, sent) = (echo.stdin.take().unwrap(), bytes.clone());
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, &sent).unwrap());
    let back = echo.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(back.status.success() && back.stdout == bytes, "{} bytes came back", back.stdout.len());
}

#[test]
fn a_lost_connection_closes_the_pipes_and_kills_nothing() {
    let guard = Guard::new();
    let up = guard.up(&Options { mode: Some(Mode::Path), ..options() });
    let mark = guard.dir().join("mark");
    let line = format!("cat >/dev/null; echo end-of-input >{0}; sleep 0.3; echo still-here >>{0}", mark.display());
    let mut client = ssh_with(&up, "prod-1", &up.key, &[], &line).stdin(Stdio::piped()).spawn().unwrap();
    until(10, "the command runs", || marked(&up.id).iter().any(|line| line.contains("end-of-input")));
    client.kill().unwrap();
    client.wait().unwrap();
    until(10, "the command ends by itself", || {
        std::fs::read_to_string(&mark).is_ok_and(|said| said == "end-of-input\nstill-here\n")
    });
}

#[test]
fn down_leaves_no_process_nor_does_up_after_a_kill() {
    for mode in both_modes() {
        let guard = Guard::new();
        let up = guard.up(&Options { mode: Some(mode), ..options() });
        let again = sandbox::up(guard.dir(), &options()).unwrap_err();
        assert!(again.what.contains("a sandbox is up in this folder"), "{again:?}");
        // A job that left its session, and a hook that runs for long.
        sandbox::set_faults(guard.dir(), &["hook-seconds=6000".parse().unwrap()]).unwrap();
        let job = "setsid sh -c 'gravity backup /tmp/never.tar.gz >/dev/null 2>&1' >/dev/null 2>&1 </dev/null & setsid sleep 300 >/dev/null 2>&1 </dev/null &";
        assert!(ssh(&up, "prod-1", job).status.success());
        until(10, "the hook runs", || marked(&up.id).iter().any(|line| line.contains("__pretend-hook ")));
        assert!(marked(&up.id).len() >= 4, "{:?}", marked(&up.id));
        sandbox::down(guard.dir()).unwrap();
        assert_eq!(marked(&up.id), Vec::<String>::new());
        assert!(
            !Path::new(&format!("/proc/{}/fd", up.pid)).join("0").exists() || !alive(up.pid),
            "the server still runs"
        );

        let up = guard.up(&Options { mode: Some(mode), ..options() });
        sandbox::set_faults(guard.dir(), &["hook-seconds=6000".parse().unwrap()]).unwrap();
        assert!(ssh(&up, "prod-1", job).status.success());
        until(10, "the hook runs", || marked(&up.id).iter().any(|line| line.contains("__pretend-hook ")));
        assert!(Command::new("kill").args(["-9", &up.pid.to_string()]).status().unwrap().success());
        until(10, "the server is gone", || !alive(up.pid));
        assert!(!marked(&up.id).is_empty(), "the kill of the server must not be what ends the nodes");
        let next = guard.up(&Options { mode: Some(mode), ..options() });
        assert_eq!(marked(&up.id), Vec::<String>::new());
        assert_eq!(ssh(&next, "prod-1", "true").status.code(), Some(0));
    }
}

fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

/// All files below these folders with what would change if they were written.
fn tree(of: &[&Path], except: &Path) -> BTreeMap<PathBuf, (u64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = BTreeMap::new();
    let mut left: Vec<PathBuf> = of.iter().map(|path| path.to_path_buf()).collect();
    while let Some(path) = left.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if path == except {
            continue;
        }
        if meta.is_dir() {
            left.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            found.insert(path, (0, 0));
        } else {
            found.insert(path, (meta.len(), meta.mtime()));
        }
    }
    found
}

#[test]
fn nothing_outside_the_folder_is_written() {
    for mode in both_modes() {
        let guard = Guard::new();
        // Other tests and other people write to /tmp, so there only what a node could have
        // written is looked for; the rest is compared file by file.
        let places = [
            Path::new("/var/lib/gravity"),
            Path::new("/var/lib/ferry"),
            Path::new("/var/lib/data"),
            Path::new("/etc"),
            Path::new("/opt"),
            Path::new("/root/.ssh"),
            Path::new("/usr/bin"),
            Path::new("/usr/local"),
        ];
        let before = tree(&places, guard.dir());
        let up = guard.up(&Options { mode: Some(mode), ..options() });
        let script = "echo x >$HOME/.from-node; echo x >${TMPDIR:-/tmp}/from-a-ferry-node; d=$(gravity system state-dir); gravity backup $d/planet/share/x.tar.gz -q && gravity status >/dev/null && gravity report --file=$d/r.tar.gz >/dev/null && kubectl get nodes >/dev/null && echo fine";
        let done = ssh(&up, "prod-1", script);
        assert_eq!(text(&done.stdout), "fine\n", "{mode:?} {done:?}");
        if mode == Mode::Namespaces {
            let evil = "for d in /etc /opt /var/lib /usr/bin /usr/local; do echo x >$d/from-a-ferry-node; done 2>/dev/null; rm -rf /usr/bin/ls /etc 2>/dev/null; echo tried";
            assert_eq!(text(&ssh(&up, "prod-2", evil).stdout), "tried\n");
        }
        assert!(Command::new("kill").args(["-9", &up.pid.to_string()]).status().unwrap().success());
        until(10, "the server is gone", || !alive(up.pid));
        assert_eq!(before, tree(&places, guard.dir()), "{mode:?}");
        assert!(!Path::new("/tmp/from-a-ferry-node").exists(), "{mode:?}");
        assert!(!std::env::home_dir().unwrap().join(".from-node").exists(), "{mode:?}");
    }
}

#[test]
fn a_folder_that_is_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "x").unwrap();
    let refused = sandbox::up(dir.path(), &options()).unwrap_err();
    assert!(refused.what.contains("not empty and no sandbox"), "{refused:?}");
    assert!(sandbox::down(dir.path()).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn faults_are_switched_while_the_sandbox_is_up() {
    let guard = Guard::new();
    let up = guard.up(&Options { faults: vec!["dr:degraded".parse().unwrap()], ..options() });
    assert_eq!(ssh(&up, "dr-1", "gravity status >/dev/null 2>&1").status.code(), Some(255));
    assert_eq!(ssh(&up, "prod-1", "gravity status >/dev/null 2>&1").status.code(), Some(0));
    let set = |text: &str| sandbox::set_faults(guard.dir(), &[text.parse().unwrap()]).unwrap();
    set("dr:degraded=off");
    set("prod-2:stray=pce-other");
    set("prod:leaked-staging=1");
    set("prod-3:clock-skew=3600");
    assert_eq!(ssh(&up, "dr-1", "gravity status >/dev/null 2>&1").status.code(), Some(0));
    assert_eq!(text(&ssh(&up, "prod-2", "gravity local-site").stdout), "pce-other");
    assert_eq!(text(&ssh(&up, "prod-1", "gravity local-site").stdout), "pce-prod");
    assert!(node(&up, "prod-1").root.join("var/lib/gravity/planet/state/badbad/backup/leaked.bin").is_file());
    let there: i64 = text(&ssh(&up, "prod-3", "date +%s").stdout).trim().parse().unwrap();
    let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!((there - here - 3600).abs() < 30, "{there} {here}");
    let unknown = "hook-fail".parse::<sandbox::FaultSetting>().unwrap_err();
    assert!(unknown.why.unwrap().contains("hook-fails"));
    assert!("prod-9:degraded".parse::<sandbox::FaultSetting>().is_err());
}

#[test]
fn the_inventory_leads_ssh_to_every_node() {
    let guard = Guard::new();
    let up = guard.up(&options());
    let inventory = std::fs::read_to_string(&up.inventory).unwrap();
    let read: serde_json::Value = serde_yaml::from_str(&inventory).unwrap();
    for node in &up.nodes {
        assert_eq!(read["all"]["children"][&node.cluster]["hosts"][&node.name]["ansible_port"], node.port);
        assert!(read["all"]["children"]["mains"]["hosts"].get(&node.name).is_some());
    }
    assert_eq!(read["all"]["vars"]["ansible_private_key_file"], up.key.to_str().unwrap());
    assert!(up.config.is_file());
}

/// The same, with no other writer about: `/tmp`, `/var/tmp` and `$HOME` are empty file systems of
/// the test's own, `/etc` and `/var` are looked at whole, and the sandbox is killed in the end.
#[test]
fn nothing_outside_the_folder_is_written_in_a_world_of_its_own() {
    const SCRIPT: &str = r#"set -eu
world=$1 exe=$2 mode=$3
mount -t tmpfs world "$world"
cp "$exe" "$world/ferry"
mkdir "$world/box"
printf '{"mode":%s,"time_scale":120,"hook_seconds":30,"archive_mib":1}' "$mode" >"$world/box/options.json"
: >"$world/box/.ferry-sandbox"
ln -s ferry "$world/ferry-sandbox"
mount --bind "$world" /tmp
mount -t tmpfs other /var/tmp
mount -t tmpfs home "$HOME"
sleep 1.1
: >/tmp/began
/tmp/ferry-sandbox /tmp/box </dev/null >/tmp/server.out 2>&1 &
server=$!
tries=0
until [ -f /tmp/box/sandbox.json ]; do
  tries=$((tries + 1)); [ $tries -lt 200 ] || { cat /tmp/server.out; exit 1; }
  sleep 0.05
done
port=$(sed -n 's/.*ansible_port: //p' /tmp/box/inventory.yml | head -n 1)
ssh -F /dev/null -o BatchMode=yes -o IdentityAgent=none -o UserKnownHostsFile=/tmp/box/known_hosts -o StrictHostKeyChecking=yes \
  -o GlobalKnownHostsFile=/dev/null -i /tmp/box/id_ed25519 -p "$port" root@127.0.0.1 \
  'd=$(gravity system state-dir); gravity backup -q $d/planet/share/x.tar.gz; gravity status >/dev/null; echo x >~/from-node; echo x >${TMPDIR:-/tmp}/from-node; sleep 60 >/dev/null 2>&1 & echo done' </dev/null
kill -9 $server
echo written:
find /tmp /var/tmp "$HOME" -mindepth 1 ! -path '/tmp/box*' ! -path /tmp/ferry ! -path /tmp/ferry-sandbox ! -path /tmp/began ! -path /tmp/server.out
find /etc /var /usr/local /opt /srv -xdev -newer /tmp/began ! -type d ! -path '/var/tmp/*' -print 2>/dev/null || :
find /tmp/box -name x.tar.gz | wc -l
cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -c FERRY_SANDBOX_ID= >/dev/null
for mark in /proc/[0-9]*/environ; do
  if tr '\0' '\n' <"$mark" 2>/dev/null | grep -q "^FERRY_SANDBOX_ID=$(sed 's/.*"id":"\([0-9a-f]*\)".*/\1/' /tmp/box/server.json)$"; then
    pid=${mark#/proc/}; kill -9 "${pid%/environ}" || :
  fi
done
"#;
    let can = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        println!("this kernel gives no namespaces: the other test has compared the tree");
        return;
    }
    for mode in ["\"path\"", "\"namespaces\""] {
        let world = tempfile::tempdir().unwrap();
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"])
            .arg(world.path())
            .args([env!("CARGO_BIN_EXE_ferry"), mode])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(text(&output.stdout), "done\nwritten:\n1\n", "{mode} {output:?}");
    }
}
