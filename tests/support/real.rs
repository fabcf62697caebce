//! A node with the real thing: OpenSSH's sshd (or dropbear), sudo and PAM, users of its own.
//!
//! The node is this machine's root as the lower layer of an overlay, in a mount, PID and host name
//! namespace of its own. It has its own `/etc/passwd`, `/etc/sudoers`, host keys, `/home`, `/root`,
//! `/tmp` and `/run`; whatever it writes lies in one temporary folder. Its first process ends with
//! the [`RealNode`], or with the process that holds it (also after `kill -9`), and the kernel then
//! ends all others. Nothing of this machine is changed. It needs root, and says so.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What sudo asks of the node's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sudo {
    /// Everything, without a password.
    #[default]
    NoPasswd,
    /// Everything, with the user's password.
    Password,
    /// The user has a password and may do nothing.
    NotInSudoers,
    /// Everything, with the password, from a terminal only.
    RequireTty,
    /// As `Password`, but the password must be changed first.
    Expired,
}

/// Which server the node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// OpenSSH's sshd.
    #[default]
    OpenSsh,
    /// dropbear.
    Dropbear,
    /// A server by Python's paramiko.
    Paramiko,
}

/// What a node is to be like. Take the default and change what matters.
#[derive(Debug, Clone)]
pub struct Opts {
    /// What sudo asks.
    pub sudo: Sudo,
    /// Which server.
    pub kind: Kind,
    /// The password of the user. Used where [`Sudo`] has one, and for password logins.
    pub password: String,
    /// The user who logs in, uid 4242.
    pub user: String,
    /// The user's login shell.
    pub shell: String,
    /// The node's host name.
    pub hostname: String,
    /// Copied into the node: path here, path there, mode.
    pub files: Vec<(PathBuf, String, u32)>,
    /// Written in the node: path there, content, mode.
    pub texts: Vec<(String, String, u32)>,
    /// Small disks: path there, size in KiB. Empty again after a reboot.
    pub tmpfs: Vec<(String, u64)>,
    /// Files and folders of this machine that the node sees, and may write: path here, path there.
    pub binds: Vec<(PathBuf, String)>,
    /// More lines for sshd_config.
    pub sshd_lines: Vec<String>,
    /// Commands that root runs in the node before its first start.
    pub setup: Vec<String>,
    /// Keep the node's disk in memory even where that is not needed. Such a node cannot be rebooted.
    pub in_memory: bool,
}

impl Default for Opts {
    fn default() -> Self {
        Self {
            sudo: Sudo::default(),
            kind: Kind::default(),
            password: "Corr3ct-horse battery".to_owned(),
            user: "ops".to_owned(),
            shell: "/bin/bash".to_owned(),
            hostname: "node-1".to_owned(),
            files: Vec::new(),
            texts: Vec::new(),
            tmpfs: Vec::new(),
            binds: Vec::new(),
            sshd_lines: Vec::new(),
            setup: Vec::new(),
            in_memory: false,
        }
    }
}

impl Opts {
    /// The default with this sudo.
    pub fn sudo(sudo: Sudo) -> Self {
        Self { sudo, ..Self::default() }
    }
}

/// A process of a node, as `/proc` shows it from outside.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number on this machine, not in the node.
    pub pid: u32,
    /// `/proc/PID/cmdline`: arguments, each ended by a NUL.
    pub cmdline: Vec<u8>,
    /// `/proc/PID/environ`, likewise.
    pub environ: Vec<u8>,
    /// The letter of its state (`S`, `R`, `Z`, …).
    pub state: char,
}

/// A running node. Dropping it ends all its processes and removes all it wrote.
#[derive(Debug)]
pub struct RealNode {
    /// Where the server listens, on 127.0.0.1.
    pub port: u16,
    /// Who may log in.
    pub user: String,
    /// A private key that logs in, 0600.
    pub key_path: PathBuf,
    /// A known_hosts file with the node's key.
    pub known_hosts_path: PathBuf,
    /// The user's password, where sudo wants one.
    pub password: Option<String>,
    opts: Opts,
    keeper: Option<Child>,
    claim: UnixListener,
    init: u32,
    // Last, so that it is removed when all else has ended.
    dir: tempfile::TempDir,
}

fn tool(name: &str, package: &str) {
    let paths = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/openssh"];
    assert!(
        paths.iter().any(|path| Path::new(path).join(name).exists()),
        "this test needs {name}: apt-get install {package}"
    );
}

fn run(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A word for sh.
fn q(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl RealNode {
    /// Builds a node and starts it. Returns when its server greets.
    ///
    /// # Panics
    /// When this is not root, a package is missing, or the node does not come up.
    pub fn start(opts: Opts) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test builds nodes with users and sudoers of their own in mount namespaces: run it as root"
        );
        for (name, package) in [
            ("unshare", "util-linux"),
            ("nsenter", "util-linux"),
            ("sudo", "sudo"),
            ("openssl", "openssl"),
            ("ssh-keygen", "openssh-client"),
        ] {
            tool(name, package);
        }
        match opts.kind {
            Kind::OpenSsh => tool("sshd", "openssh-server"),
            Kind::Paramiko => assert!(
                Path::new("/usr/lib/python3/dist-packages/paramiko").exists(),
                "this test needs paramiko: apt-get install python3-paramiko"
            ),
            Kind::Dropbear => {
                tool("dropbear", "dropbear-bin");
                tool("dropbearkey", "dropbear-bin");
            }
        }
        let dir = tempfile::Builder::new().prefix("node-").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["upper", "work", "root", "home", "home-root", "tmp", "disk", "files"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        mode(&at("upper"), 0o755);
        mode(&at("home"), 0o755);
        mode(&at("home-root"), 0o700);
        mode(&at("tmp"), 0o1777);
        let (port, claim) = free_port();
        let key_path = at("id");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(&key_path));
        let public = match opts.kind {
            Kind::OpenSsh | Kind::Paramiko => {
                run(Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                    .arg(at("host-key")));
                std::fs::read_to_string(at("host-key.pub")).unwrap()
            }
            Kind::Dropbear => run(Command::new("dropbearkey").args(["-t", "ed25519", "-f"]).arg(at("host-key"))),
        };
        let public = public.lines().find(|line| line.starts_with("ssh-ed25519 ")).expect("a public host key");
        let known_hosts_path = at("known_hosts");
        let bare: Vec<&str> = public.split_whitespace().take(2).collect();
        std::fs::write(&known_hosts_path, format!("[127.0.0.1]:{port} {}\n", bare.join(" "))).unwrap();
        let password = (opts.sudo != Sudo::NoPasswd).then(|| opts.password.clone());
        let mut node = Self {
            port,
            user: opts.user.clone(),
            key_path,
            known_hosts_path,
            password,
            opts,
            keeper: None,
            claim,
            init: 0,
            dir,
        };
        if node.opts.in_memory {
            std::fs::write(node.dir.path().join("in-memory"), "").unwrap();
        }
        node.write_first_boot();
        node.write_boot();
        node.new_boot_id();
        node.boot();
        node
    }

    /// All that a reboot does: every process ends at once, `/run` and small disks are empty, the
    /// boot id is another one; the disk stays. Returns when the server greets again, on the same
    /// port.
    ///
    /// # Panics
    /// When the node's disk is in memory only: it would not stay.
    pub fn reboot(&mut self) {
        assert!(
            !self.in_memory(),
            "a node can be rebooted only where overlay mounts work on the disk of {}: set TMPDIR to such a disk",
            self.dir.path().display()
        );
        self.halt();
        self.new_boot_id();
        self.boot();
    }

    /// Ends every process of the node at once, as a power cut would. [`RealNode::reboot`] brings it back.
    pub fn halt(&mut self) {
        let gone = |init: u32| init == 0 || !Path::new(&format!("/proc/{init}")).exists();
        if let Some(init) = i32::try_from(self.init).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(init, rustix::process::Signal::KILL);
        }
        let begun = Instant::now();
        while !gone(self.init) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the node's first process does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.init = 0;
        if let Some(mut keeper) = self.keeper.take() {
            // Its input ends; it kills what is left and ends itself. It would have killed the first
            // process too, but more slowly: the kernel takes its time over an orphan.
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }

    /// The node's file tree as seen from here. Good while the node runs.
    pub fn root_dir(&self) -> PathBuf {
        assert!(self.init != 0, "the node is halted");
        PathBuf::from(format!("/proc/{}/root", self.init))
    }

    /// Folders here that hold every file that the node has written (and some that were put there
    /// for it), for searching. While it is halted, those in memory (`/run`, small disks) are gone.
    pub fn written(&self) -> Vec<PathBuf> {
        let names = ["upper", "home", "home-root", "tmp", "sshd.log"];
        let mut places: Vec<PathBuf> = names.iter().map(|name| self.dir.path().join(name)).collect();
        if self.init != 0 {
            let root = self.root_dir();
            let small = self.opts.tmpfs.iter().map(|(path, _)| path.as_str());
            let mut in_memory: Vec<&str> = small.chain(["/run"]).collect();
            if self.in_memory() {
                in_memory.extend(["/etc", "/opt", "/srv", "/usr/local", "/var"]);
            }
            places.extend(in_memory.into_iter().map(|path| root.join(path.trim_start_matches('/'))));
        }
        places
    }

    /// Whether the overlay's upper layer had to be put into memory (this machine's root is an
    /// overlay itself, as in containers). Such a node cannot be rebooted.
    pub fn in_memory(&self) -> bool {
        self.dir.path().join("in-memory").exists()
    }

    /// What the server said so far.
    pub fn log(&self) -> String {
        std::fs::read(self.dir.path().join("sshd.log"))
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The boot id that the node shows now.
    pub fn boot_id(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("boot_id")).unwrap().trim().to_owned()
    }

    /// The number of the node's first process on this machine.
    pub fn init_pid(&self) -> u32 {
        self.init
    }

    /// Runs `sh -c cmd` in the node as root.
    pub fn exec_in(&self, cmd: &str) -> Output {
        assert!(self.init != 0, "the node is halted");
        Command::new("nsenter")
            .args(["-t", &self.init.to_string(), "-m", "-p", "-u", "-r", "-w", "--", "/bin/sh", "-c", cmd])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// All processes of the node at this moment.
    pub fn processes(&self) -> Vec<Process> {
        if self.init == 0 {
            return Vec::new();
        }
        processes_in(&pid_namespace(self.init))
    }

    /// A name for the node's PID namespace: with [`processes_in`] it is possible to ask for its
    /// processes after it was dropped.
    pub fn namespace(&self) -> String {
        pid_namespace(self.init)
    }

    /// Where all of the node lies on this machine's disk.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// An `ssh` command that logs in by the key and is ready for the command:
    /// no files of this machine's user, strict host keys, no questions.
    pub fn ssh(&self) -> Command {
        self.ssh_with(&[])
    }

    /// As [`RealNode::ssh`], with options before the host.
    pub fn ssh_with(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(options)
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"])
            .args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.known_hosts_path.display()))
            .arg("-i")
            .arg(&self.key_path)
            .args(["-p", &self.port.to_string(), "-l", &self.user, "127.0.0.1"])
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null());
        command
    }

    fn new_boot_id(&self) {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
        // In place: the file is mounted, and a new one of the same name would not be seen.
        std::fs::write(self.dir.path().join("boot_id"), id).unwrap();
    }

    /// The script that makes the users and files of the node; runs once, as its first process.
    fn write_first_boot(&self) {
        let (opts, t) = (&self.opts, self.dir.path().display());
        let user = &opts.user;
        let hash = if opts.sudo == Sudo::NoPasswd && opts.kind != Kind::Dropbear {
            "*".to_owned()
        } else {
            run(Command::new("openssl").args(["passwd", "-6", &opts.password])).trim().to_owned()
        };
        // The day of the last change; 0 means that it must be changed now.
        let changed = if opts.sudo == Sudo::Expired { 0 } else { 19_000 };
        let rule = match opts.sudo {
            Sudo::NoPasswd => format!("{user} ALL=(ALL:ALL) NOPASSWD: ALL\n"),
            Sudo::Password | Sudo::Expired => format!("{user} ALL=(ALL:ALL) ALL\n"),
            Sudo::NotInSudoers => String::new(),
            Sudo::RequireTty => format!("Defaults:{user} requiretty\n{user} ALL=(ALL:ALL) ALL\n"),
        };
        let pam = if opts.sudo == Sudo::Expired { "no" } else { "yes" };
        let mut config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey /etc/ssh/node_host_key\nPidFile /run/sshd.pid\n\
             AuthorizedKeysFile .ssh/authorized_keys\nStrictModes no\nMaxStartups 100\nMaxSessions 100\nUsePAM {pam}\n\
             PasswordAuthentication yes\nKbdInteractiveAuthentication yes\nPermitRootLogin no\nAllowTcpForwarding yes\n\
             PrintMotd no\nPrintLastLog no\nUseDNS no\nLogLevel VERBOSE\nSubsystem sftp internal-sftp\n",
            self.port
        );
        // sshd takes the first of two values: what the test says goes before what stands here.
        let said = |line: &str| {
            let word = |line: &str| line.split_whitespace().next().unwrap_or_default().to_lowercase();
            opts.sshd_lines.iter().any(|own| !own.starts_with("Match") && word(own) == word(line))
        };
        config = config.lines().filter(|line| !said(line)).map(|line| format!("{line}\n")).collect();
        for line in &opts.sshd_lines {
            config += &format!("{line}\n");
        }
        let put = |name: &str, text: &str| std::fs::write(self.dir.path().join("files").join(name), text).unwrap();
        put("sshd_config", &config);
        put("rule", &rule);
        put(
            "sudoers",
            "Defaults env_reset\nDefaults mail_badpass\n\
             Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n\
             root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n",
        );
        put("passwd-line", &format!("{user}:x:4242:4242::/home/{user}:{}\n", opts.shell));
        put("shadow-line", &format!("{user}:{hash}:{changed}:0:99999:7:::\n"));
        put("group-line", &format!("{user}:x:4242:\n"));
        let mut script = format!(
            "set -eu\nT={t}\nR=$T/root\nF=$T/files\n\
             for name in passwd shadow group; do\n\
             grep -v -e '^{user}:' -e ':4242:' \"/etc/$name\" >\"$F/$name\" || :\n\
             cat \"$F/$name-line\" >>\"$F/$name\"\n\
             cat \"$F/$name\" >\"$R/etc/$name\"\ndone\n\
             chmod 640 \"$R/etc/shadow\"\n\
             cat \"$F/sudoers\" >\"$R/etc/sudoers\"\nchmod 440 \"$R/etc/sudoers\"\n\
             mkdir -p \"$R/etc/sudoers.d\" \"$R/etc/ssh\" \"$R/var/lib\"\nrm -f \"$R\"/etc/sudoers.d/* \"$R\"/etc/ssh/ssh_host_*\n\
             install -m 440 \"$F/rule\" \"$R/etc/sudoers.d/{user}\"\n\
             install -m 600 \"$T/host-key\" \"$R/etc/ssh/node_host_key\"\n\
             install -m 644 \"$F/sshd_config\" \"$R/etc/ssh/sshd_config\"\n\
             rm -rf \"$R/etc/ssh/sshd_config.d\"\n\
             mkdir -p \"$R/home/{user}/.ssh\"\n\
             install -m 600 \"$T/id.pub\" \"$R/home/{user}/.ssh/authorized_keys\"\n\
             chmod 700 \"$R/home/{user}/.ssh\"\nchown -R 4242:4242 \"$R/home/{user}\"\n\
             printf '%s\\n' {0} >\"$R/etc/hostname\"\nprintf '127.0.0.1 localhost %s\\n' {0} >\"$R/etc/hosts\"\n",
            q(&opts.hostname)
        );
        let mut install = |from: &Path, to: &str, mode: u32| {
            script += &format!(
                "mkdir -p \"$(dirname \"$R\"{to})\"\ninstall -m {mode:o} {from} \"$R\"{to}\n",
                to = q(to),
                from = q(&from.display().to_string())
            );
        };
        if opts.kind == Kind::Paramiko {
            let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/paramiko_server.py");
            install(&server, "/opt/paramiko_server.py", 0o644);
        }
        for (from, to, mode) in &opts.files {
            install(&std::path::absolute(from).unwrap(), to, *mode);
        }
        for (number, (to, text, mode)) in opts.texts.iter().enumerate() {
            let from = self.dir.path().join(format!("files/text-{number}"));
            std::fs::write(&from, text).unwrap();
            install(&from, to, *mode);
        }
        for command in &opts.setup {
            script += &format!("chroot \"$R\" /bin/sh -c {}\n", q(command));
        }
        std::fs::write(self.dir.path().join("first.sh"), script).unwrap();
    }

    /// The script of the node's first process: mounts, then the server, then waiting.
    fn write_boot(&self) {
        let (opts, t) = (&self.opts, self.dir.path().display());
        let mut script = format!(
            "set -eu\nT={t}\nR=$T/root\nhostname {0}\n\
             layers() {{ mount -t overlay overlay -o \"lowerdir=/,upperdir=$1/upper,workdir=$1/work$2\" \"$R\"; }}\n\
             # volatile: ending a node does not wait for the disk. The kernel marks the folder of a\n\
             # volatile layer that was not unmounted, and a reboot mounts it again.\n\
             over() {{ rm -rf \"$1/work/work/incompat\"; layers \"$1\" ,volatile || layers \"$1\" ''; }}\n\
             if [ -e \"$T/in-memory\" ] || ! over \"$T\" 2>/dev/null; then\n\
             # The file system here cannot be an upper layer: memory can.\n\
             touch \"$T/in-memory\"\nmount -t tmpfs -o mode=755 tmpfs \"$T/disk\"\nmkdir \"$T/disk/upper\" \"$T/disk/work\"\n\
             over \"$T/disk\"\nfi\n\
             mount -t proc proc \"$R/proc\"\nmount --rbind /dev \"$R/dev\"\n\
             mount --bind \"$T/home\" \"$R/home\"\nmount --bind \"$T/home-root\" \"$R/root\"\nmount --bind \"$T/tmp\" \"$R/tmp\"\n\
             mount -t tmpfs -o mode=755 tmpfs \"$R/run\"\nmkdir -m 755 \"$R/run/sshd\" \"$R/run/lock\"\n\
             mount --bind \"$T/boot_id\" \"$R/proc/sys/kernel/random/boot_id\"\n\
             if ! [ -e \"$T/made\" ]; then sh \"$T/first.sh\"; touch \"$T/made\"; fi\n",
            q(&opts.hostname)
        );
        for (path, size) in &opts.tmpfs {
            script +=
                &format!("mkdir -p \"$R\"{0}\nmount -t tmpfs -o mode=755,size={size}k tmpfs \"$R\"{0}\n", q(path));
        }
        for (from, to) in &opts.binds {
            let from = std::path::absolute(from).unwrap();
            let make = if from.is_dir() { "mkdir -p" } else { "touch" };
            script += &format!(
                "mkdir -p \"$(dirname \"$R\"{to})\"\n{make} \"$R\"{to}\nmount --bind {from} \"$R\"{to}\n",
                to = q(to),
                from = q(&from.display().to_string())
            );
        }
        let server = match opts.kind {
            Kind::OpenSsh => "/usr/sbin/sshd -D -e".to_owned(),
            Kind::Dropbear => {
                let path = if Path::new("/usr/sbin/dropbear").exists() { "/usr/sbin/dropbear" } else { "dropbear" };
                format!("{path} -F -E -p 127.0.0.1:{} -r /etc/ssh/node_host_key", self.port)
            }
            Kind::Paramiko => {
                let user = &opts.user;
                format!("/usr/bin/python3 /opt/paramiko_server.py {} /etc/ssh/node_host_key {user}", self.port)
            }
        };
        // The shell stays the first process and collects the orphans while it waits.
        script += &format!("cd /\nexec chroot \"$R\" /bin/sh -c '{server} & wait $!'\n");
        std::fs::write(self.dir.path().join("boot.sh"), script).unwrap();
    }

    fn boot(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("sshd.log")).unwrap();
        // The keeper stays outside. Its input ends when we drop it or die, and it then kills.
        let script = "unshare --mount --uts --pid --fork --kill-child=KILL sh \"$1\" </dev/null & node=$!; read -r _; kill -9 $node; wait";
        let keeper = Command::new("sh")
            .args(["-c", script, "keeper"])
            .arg(self.dir.path().join("boot.sh"))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let keeper_pid = keeper.id();
        self.keeper = Some(keeper);
        let begun = Instant::now();
        loop {
            if self.init == 0 {
                let unshare = children(keeper_pid);
                self.init = unshare.first().and_then(|pid| children(*pid).first().copied()).unwrap_or(0);
            }
            if self.init != 0 && greets(self.port) {
                return;
            }
            let gone = self.init != 0 && !Path::new(&format!("/proc/{}", self.init)).exists();
            assert!(!gone && begun.elapsed() < Duration::from_secs(30), "the node does not come up: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for RealNode {
    fn drop(&mut self) {
        self.halt();
    }
}

/// A port on 127.0.0.1 that nobody listens on, and the claim to it: as long as that is held, no
/// other test takes the port, in this process or another. Below the ports that the kernel gives to
/// clients.
pub fn free_port() -> (u16, UnixListener) {
    let begin = u32::from_le_bytes(rand::random());
    for step in 0..10_000_u32 {
        let port = 20_000 + u16::try_from((begin % 10_000 + step) % 10_000).unwrap();
        let name = SocketAddr::from_abstract_name(format!("ferry-test-port-{port}")).unwrap();
        if let Ok(claim) = UnixListener::bind_addr(&name)
            && TcpListener::bind(("127.0.0.1", port)).is_ok()
        {
            return (port, claim);
        }
    }
    panic!("no port is free between 20000 and 30000");
}

fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut head = [0_u8; 4];
    let ok = stream.read_exact(&mut head).is_ok() && &head == b"SSH-";
    let _ = stream.write_all(b"SSH-2.0-hello\r\n");
    ok
}

/// Processes whose parent is `pid`.
fn children(pid: u32) -> Vec<u32> {
    all_pids().into_iter().filter(|child| stat(*child).is_some_and(|(_, parent)| parent == pid)).collect()
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = text.rsplit_once(')')?.1;
    let mut words = rest.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

fn all_pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn pid_namespace(pid: u32) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).map_or_else(|_| String::new(), |link| link.display().to_string())
}

/// All processes of a PID namespace as [`RealNode::namespace`] named it.
pub fn processes_in(namespace: &str) -> Vec<Process> {
    let mut found = Vec::new();
    for pid in all_pids() {
        if namespace.is_empty() || pid_namespace(pid) != namespace {
            continue;
        }
        let Some((state, _)) = stat(pid) else { continue };
        let bytes = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        found.push(Process { pid, cmdline: bytes("cmdline"), environ: bytes("environ"), state });
    }
    found
}

/// The way to a node as its user, root by sudo, by this port of the machine: its own, or that of something before it.
pub fn way(node: &RealNode, port: u16) -> ferry::remote::Way {
    use ferry::remote::ssh::auth::Identities;
    use ferry::remote::ssh::connect::Target;
    let known = node.dir().join(format!("known_hosts_{port}"));
    let text = std::fs::read_to_string(&node.known_hosts_path).unwrap();
    std::fs::write(&known, text.replace(&format!("]:{} ", node.port), &format!("]:{port} "))).unwrap();
    let password = node.password.clone().map(|text| ferry::remote::sudo::Password::new(text.into()));
    let ask = std::sync::Arc::new(|_: &Path| None);
    let identities = Identities::new(vec![node.key_path.clone()], Vec::new(), None, ask);
    ferry::remote::Way::Ssh(Box::new(Target {
        // sshd of a machine with much to do takes its time for a banner.
        timeout: Duration::from_secs(40),
        become_plan: ferry::remote::sudo::Become::root(password),
        ..Target::new("node-1", ("127.0.0.1", port), &node.user, identities, known)
    }))
}
