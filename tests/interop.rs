//! Servers and shells of other kinds: each is reached, becomes root, and gives back what odd words and bytes went in.
//! With `FERRY_WRITE_INTEROP=1` the table goes to `docs/interop.md`; without it, it must be what stands there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::sync::Mutex;

use support::pce::{self, Cluster, Desk, said};
use support::real::{Kind, Opts, RealNode};

/// Characters that some shell takes for something else.
const ODD: &str = "it's \"odd\": !x $y `z` \\ * ~ {a,b} ; & | > < # % ^ ( ) [q] \u{fc}";

struct Row {
    name: &'static str,
    /// What is said of it in the table.
    how: &'static str,
    opts: Opts,
    /// How many hosts of the inventory are this node.
    hosts: usize,
}

fn row(name: &'static str, how: &'static str, opts: Opts) -> Row {
    Row { name, how, opts, hosts: 1 }
}

fn lines(lines: &[&str]) -> Opts {
    Opts { sshd_lines: lines.iter().map(|line| (*line).to_owned()).collect(), ..Opts::default() }
}

fn shell(path: &str) -> Opts {
    Opts { shell: path.to_owned(), ..Opts::default() }
}

fn with(setup: &str) -> Opts {
    Opts { setup: vec![setup.to_owned()], ..Opts::default() }
}

fn rows() -> Vec<Row> {
    let old = [
        "KexAlgorithms curve25519-sha256,ecdh-sha2-nistp256,diffie-hellman-group14-sha256",
        "Ciphers chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr,aes128-gcm@openssh.com",
        "MACs umac-64-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-256",
        "HostKeyAlgorithms rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256,ssh-ed25519",
    ];
    let fips = [
        "KexAlgorithms ecdh-sha2-nistp256,ecdh-sha2-nistp384",
        "Ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com",
        "MACs hmac-sha2-256,hmac-sha2-512",
        "PubkeyAcceptedAlgorithms ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512",
    ];
    let etm = ["Ciphers aes256-ctr", "MACs hmac-sha2-512", "KexAlgorithms diffie-hellman-group16-sha512"];
    let banner = "head -c 1048576 /dev/zero | tr '\\0' b | fold -w 100 > /etc/issue.long";
    vec![
        row("OpenSSH", "as installed", Opts::default()),
        row("OpenSSH, algorithms of 7.4", "only those; it is not 7.4 itself", lines(&old)),
        row("OpenSSH, a FIPS-like set", "curves of NIST, AES-GCM", lines(&fips)),
        row("OpenSSH, AES-CTR and a plain MAC", "diffie-hellman-group16, hmac-sha2-512", lines(&etm)),
        row("dropbear", "as installed", Opts { kind: Kind::Dropbear, ..Opts::default() }),
        row(
            "paramiko",
            "python3-paramiko of Debian, a server of its own kind",
            Opts { kind: Kind::Paramiko, ..Opts::default() },
        ),
        row("MaxSessions 1", "one channel on a connection; a backup, too", lines(&["MaxSessions 1"])),
        Row { hosts: 6, ..row("MaxStartups 2", "six hosts of the inventory are this one", lines(&["MaxStartups 2"])) },
        row(
            "a Banner of 1 MiB",
            "before authentication",
            Opts { sshd_lines: vec!["Banner /etc/issue.long".to_owned()], ..with(banner) },
        ),
        row("no sftp-server", "no Subsystem", with("rm -f /usr/lib/openssh/sftp-server")),
        row("login shell bash", "", shell("/bin/bash")),
        row("login shell dash", "", shell("/bin/dash")),
        row("login shell csh", "tcsh", shell("/bin/tcsh")),
        row("login shell fish", "", shell("/usr/bin/fish")),
        row("a .bashrc that prints", "", with("printf 'echo welcome; echo beware >&2\\n' > /home/ops/.bashrc")),
        row("a .bashrc that takes a second", "", with("printf 'sleep 1\\n' > /home/ops/.bashrc")),
        row("TMOUT", "readonly, 1 s", with("printf 'readonly TMOUT=1; export TMOUT\\n' > /home/ops/.bashrc")),
        row("umask 077", "in .bashrc", with("printf 'umask 077\\n' > /home/ops/.bashrc")),
        Row {
            opts: Opts {
                tmpfs: vec![("/tmp".to_owned(), 4096)],
                ..with("mount -o remount,noexec /tmp 2>/dev/null || :")
            },
            ..row("noexec /tmp", "a disk of its own", Opts::default())
        },
    ]
}

/// Reaches it, becomes root, gets everything back as it was.
fn check(row: &Row) {
    let desk = Desk::new();
    let node = RealNode::start(pce::with_key(row.opts.clone(), &desk));
    let hosts: String = (1..=row.hosts).map(|number| format!("        h{number}: {{}}\n")).collect();
    desk.put(
        "inventory.yml",
        &format!(
            "all:\n  children:\n    prod:\n      vars:\n        ansible_host: 127.0.0.1\n        ansible_port: {}\n        ansible_user: ops\n        ansible_private_key_file: {}\n        ansible_ssh_common_args: \"{}\"\n      hosts:\n{hosts}",
            node.port,
            desk.key.display(),
            pce::trusting(&node.known_hosts_path)
        ),
    );
    let out = desk.run(&["ping", "prod", "-f", "8"]);
    assert_eq!(out.status.code(), Some(0), "{}: {}", row.name, said(&out));
    assert!(said(&out).contains("root: yes") || said(&out).contains("user ops"), "{}: {}", row.name, said(&out));
    let out = desk.run(&["exec", "h1", "-b", "--", "printf", "%s\n", ODD]);
    assert_eq!(out.status.code(), Some(0), "{}: {}", row.name, said(&out));
    assert!(said(&out).contains(ODD), "{}: {}", row.name, said(&out));
    // Both streams, with a pause in between.
    let twice = ["exec", "h1", "-b", "-m", "shell", "-a", "id -un; sleep 0.2; id -un >&2"];
    let out = desk.run(&twice);
    assert_eq!(out.status.code(), Some(0), "{}: {}", row.name, said(&out));
    assert_eq!(said(&out).matches("root").count(), 2, "{}: {}", row.name, said(&out));
    let out = desk.run(&["exec", "h1", "-b", "-m", "shell", "-a", "id -u; head -c 300000 /dev/zero | wc -c; exit 7"]);
    assert_eq!(out.status.code(), Some(2), "{}: {}", row.name, said(&out));
    assert!(said(&out).contains("300000") && said(&out).contains("exit code 7"), "{}: {}", row.name, said(&out));
}

/// A backup holds a shell, follows a job and fetches an archive at the same time: where the server allows one channel on a
/// connection, by connections beside it.
#[test]
fn a_backup_passes_where_one_channel_is_allowed() {
    let desk = Desk::new();
    let cluster = Cluster::start(&desk, 1, &lines(&["MaxSessions 1"]));
    let node = &cluster.nodes[0];
    // That the server means it: of two values sshd takes the first.
    let settings = node.exec_in("/usr/sbin/sshd -T");
    assert!(String::from_utf8_lossy(&settings.stdout).contains("maxsessions 1\n"), "{settings:?}");

    desk.put("inventory.yml", &cluster.inventory(&desk, &[]));
    let out = desk.run(&["backup", "prod", "--waive", "space=the disk of a test machine"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!(cluster.runs(), 1);
    let out = desk.run(&["points", "verify"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    // And no connection more than it takes.
    let logins = node.log().matches("Accepted publickey").count();
    assert!(logins < 40, "{logins} logins");
    println!("{logins} logins");
}

#[test]
fn every_server_and_shell_is_reached() {
    let rows = rows();
    for needed in ["/bin/tcsh", "/usr/bin/fish"] {
        assert!(std::path::Path::new(needed).exists(), "{needed} is not installed: tests/run installs it");
    }
    let left = Mutex::new(rows.iter());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(row) = left.lock().unwrap().next() else { return };
                    if std::panic::catch_unwind(|| check(row)).is_err() {
                        wrong.lock().unwrap().push(row.name);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "not reached as they should be: {wrong:?}");
    let mut table = String::from(
        "# Servers and shells\n\nWritten by `tests/interop.rs`, which reaches each of these: `ping`, `exec` as root with odd words, an exit code.\n\n| what | how |\n|---|---|\n",
    );
    for row in &rows {
        table += &format!("| {} | {} |\n", row.name, row.how);
    }
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/interop.md");
    if std::env::var_os("FERRY_WRITE_INTEROP").is_some() {
        std::fs::write(&page, &table).unwrap();
    }
    let stands = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(stands == table, "docs/interop.md is not what was tried: FERRY_WRITE_INTEROP=1 cargo test --test interop");
}
