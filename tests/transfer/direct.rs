//! From node to node: what it moves, what it leaves, and what its key and its agent are good for.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ferry::remote::ssh::lend::OneKey;
use ferry::transfer::direct::Direct;

use super::*;

/// A node's file of keys, as it is.
fn keys(node: &RealNode) -> Option<Vec<u8>> {
    there(node, "/home/ops/.ssh/authorized_keys")
}

/// What a transfer from node to node leaves lying: nothing.
fn nothing_left(node: &RealNode) {
    let said = node.exec_in("ls -d /run/ferry-direct-* /var/lib/ferry/direct-* /home/ops/.ferry-direct-* 2>/dev/null; ls -A /home/ops/.ssh; grep -l FERRY_DIRECT= /proc/[0-9]*/environ 2>/dev/null");
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "authorized_keys\n");
}

#[test]
fn from_node_to_node_as_it_is_typed() {
    let opts = |password: &str| Opts { password: password.to_owned(), ..Opts::sudo(Sudo::Password) };
    let typed = Typed::new([opts("one of a's"), opts("another, of b's")]);
    let content = bytes(21 * MIB + 5);
    let sha = Sha256::of(&content).to_string();
    put(&typed.pair.a, "/var/lib/x/archive.tar.gz", &content);
    let before = keys(&typed.pair.b).unwrap();
    let words = ["transfer", "a:/var/lib/x/archive.tar.gz", "b:/var/lib/x/", "--via", "direct"];
    typed.ferry(&[&words[..], &["-C"]].concat()).must(
        0,
        &["direct: from node to node, as asked for (auto never takes it)", "OpenSSH_", "good for an hour only"],
    );
    assert_eq!(keys(&typed.pair.b).unwrap(), before);
    let said = typed.ferry(&[&words[..], &["--mode", "0640", "--owner", "ops", "--sha256"]].concat());
    said.must(0, &[&sha, "6 chunks equal at both ends"]);
    println!("{:?}", said.took);
    assert!(there(&typed.pair.b, "/var/lib/x/archive.tar.gz") == Some(content.clone()));
    let stat = typed.pair.b.exec_in("stat -c '%a %U' /var/lib/x/archive.tar.gz; ls -A /var/lib/x").stdout;
    assert_eq!(String::from_utf8(stat).unwrap(), "640 ops\narchive.tar.gz\n");
    assert_eq!(keys(&typed.pair.b).unwrap(), before);
    nothing_left(&typed.pair.a);
    nothing_left(&typed.pair.b);
}

/// Thirty-two bytes that are text, so that tools for text find them.
const SEED: &[u8; 32] = b"ferry-test-seed-5b1d7c94-a0e2f38";

fn direct(order: Order) -> Order {
    let key = Some(Arc::new(OneKey::of(SEED).unwrap()));
    Order { direct: Some(Direct { key, ..Direct::new("/var/lib/ferry") }), ..order }
}

fn base64(bytes: &[u8]) -> String {
    let said = run_input("base64", &["-w0"], bytes);
    String::from_utf8(said).unwrap()
}

fn run_input(program: &str, words: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Process::new(program)
        .args(words)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().stdout
}

/// The private key in every form in which it could lie somewhere, and the passwords.
fn secrets(passwords: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = passwords.iter().map(ToString::to_string).collect();
    all.push(String::from_utf8(SEED.to_vec()).unwrap());
    all.push(SEED.iter().map(|byte| format!("{byte:02x}")).collect());
    // Base 64 of something that has it in the middle, at each of three places.
    for before in 0..3 {
        let text = base64(&[vec![b'x'; before], SEED.to_vec()].concat());
        let skip = [0, 2, 3][before];
        all.push(text[skip..skip + 36].to_owned());
    }
    all.push("PRIVATE KEY-----".to_owned());
    all
}

/// The first of these that is in a file below one of the folders.
fn in_files(folders: &[PathBuf], secrets: &[String]) -> Option<String> {
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), secrets.join("\n")).unwrap();
    let said = Process::new("grep")
        .args(["-rlaF", "--exclude=node_host_key", "-f"])
        .arg(list.path())
        .arg("--")
        .args(folders)
        .output()
        .unwrap();
    String::from_utf8_lossy(&said.stdout).lines().next().map(str::to_owned)
}

fn in_processes(node: &RealNode, secrets: &[String]) -> Option<String> {
    node.processes().into_iter().find_map(|process| {
        let text = [process.cmdline, process.environ].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        secrets.iter().find(|secret| text.contains(secret.as_str())).map(|secret| format!("{secret} in {text}"))
    })
}

/// The same way with a jump host before it.
fn through(way: &Way, hop: &Way) -> Way {
    let (Way::Ssh(target), Way::Ssh(hop)) = (way, hop) else { panic!("no ssh") };
    Way::Ssh(Box::new(Target { jump: Some(hop.clone()), ..(**target).clone() }))
}

/// Waits until something is so.
fn until<T>(what: &str, mut is: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = is() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(90), "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn entry(node: &RealNode) -> Option<String> {
    let text = String::from_utf8_lossy(&keys(node)?).into_owned();
    text.lines().find(|line| line.contains(" ferry-direct-1 ")).map(str::to_owned)
}

/// Logs in at a node with a key of its own, which the file of keys has with what stands before ours.
fn try_key(node: &RealNode, key: &Path, options: &[&str], words: &[&str]) -> (i32, String) {
    let said = Process::new("timeout")
        .args([
            "10",
            "ssh",
            "-F",
            "/dev/null",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "ExitOnForwardFailure=yes",
        ])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", node.known_hosts_path.display()))
        .arg("-i")
        .arg(key)
        .args(options)
        .args(["-p", &node.port.to_string(), "ops@127.0.0.1"])
        .args(words)
        .env_remove("SSH_AUTH_SOCK")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    (said.status.code().unwrap_or(-1), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn its_key_opens_one_stream_and_no_secret_is_seen() {
    let pair = pair(Harm::Cut, &[]);
    let content = bytes(16 * MIB);
    put(&pair.a, "/var/lib/x/source", &content);
    let secrets = secrets(&["one of a's", "another, of b's"]);
    let (plain_a, plain_b) = (way(&pair.a, pair.a.port), way(&pair.b, pair.b.port));
    // ferry itself reaches b through a only.
    let to = on("b", &through(&plain_b, &plain_a), "/var/lib/x/arrived");
    let order = direct(Order { limit_rate: Some(2 * MIB), ..order(on("a", &plain_a, "/var/lib/x/source"), to) });
    let before = keys(&pair.b).unwrap();
    let running = tokio::spawn(async move { go(&order).await });
    let stop = AtomicBool::new(false);
    /// Also when the test fails in between, the sampler ends.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let theirs = std::thread::scope(|scope| {
        let (nodes, stop) = ([&pair.a, &pair.b], &stop);
        let stopping = Stop(stop);
        let sampler = scope.spawn({
            let secrets = &secrets;
            move || {
                let mut samples = 0;
                while !stop.load(Ordering::SeqCst) {
                    for node in nodes {
                        assert_eq!(in_processes(node, secrets), None);
                        samples += 1;
                    }
                }
                samples
            }
        });
        let line = until("the entry", || entry(&pair.b));
        assert!(line.starts_with("restrict,from=\"127.0.0.1"), "{line}");
        assert!(line.contains(",expiry-time=\"20") && line.contains(",command=\"exec env 'FERRY_DIRECT="), "{line}");
        until("the first byte", || {
            let part = pair.b.root_dir().join("var/lib/x/arrived.ferry-part");
            std::fs::metadata(part).ok().filter(|meta| meta.len() > 0)
        });
        // The agent, asked by the source's own root: one key, and no second signature of any kind.
        let script = "for s in /tmp/ssh-*/agent.*; do export SSH_AUTH_SOCK=$s; done; cd /tmp; ssh-add -L >listed; cat listed; echo x >text; \
                      ssh-keygen -Y sign -n file -f listed text; echo \"sign $?\"; ssh-add -D; echo \"delete $?\"; ssh-add -x </dev/null; echo \"lock $?\"; \
                      ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p PORT ops@127.0.0.1 id; echo \"login $?\"";
        let said = pair.a.exec_in(&script.replace("PORT", &pair.b.port.to_string()));
        let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        let line_key = OneKey::of(SEED).unwrap().line();
        assert_eq!(said.lines().filter(|line| line.starts_with("ssh-ed25519 ")).count(), 1, "{said}");
        assert!(said.contains(&line_key), "{said}");
        for (word, code) in [("sign", 255), ("delete", 1), ("login", 255)] {
            assert!(said.contains(&format!("{word} {code}")), "{word}: {said}");
        }
        assert!(!said.contains("lock 0") && !said.contains("uid="), "{said}");

        // A key of our own in the place of ferry's: what does its entry let it do?
        let ours = pair.b.dir().join("attack");
        assert!(
            Process::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&ours)
                .status()
                .unwrap()
                .success()
        );
        let public = std::fs::read_to_string(ours.with_extension("pub")).unwrap();
        let public = public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let (permits, _) = line.split_once(" ssh-ed25519 ").unwrap();
        let expired = permits
            .split_once("expiry-time=\"")
            .map(|(head, rest)| format!("{head}expiry-time=\"2020{}", &rest[4..]))
            .unwrap();
        let path = pair.b.root_dir().join("home/ops/.ssh/authorized_keys");
        let add = |line: &str| {
            let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(line.as_bytes()).unwrap();
        };
        // Without what holds it, it would open everything: the test can see a difference.
        let open = format!("{public} open\n");
        let with_entry = std::fs::read(&path).unwrap();
        add(&open);
        assert!(try_key(&pair.b, &ours, &[], &["id"]).1.contains("uid="));
        std::fs::write(&path, &with_entry).unwrap();
        add(&format!("{expired} {public} attack\n"));
        assert!(try_key(&pair.b, &ours, &[], &["id"]).1.contains("Permission denied"));
        std::fs::write(&path, &with_entry).unwrap();
        let theirs = format!("{permits} {public} attack\n");
        add(&theirs);
        let port = pair.b.port.to_string();
        for (options, words, sentence) in [
            (vec![], vec!["id; touch /tmp/owned"], ""),
            (vec!["-tt"], vec!["id; touch /tmp/owned"], "PTY allocation request failed"),
            (vec!["-W", &format!("127.0.0.1:{port}")], vec![], "prohibited"),
            (vec!["-R", "0:127.0.0.1:22"], vec!["id"], "forward"),
            (vec!["-s"], vec!["sftp"], ""),
            (vec!["-b", "127.0.0.2"], vec!["id"], "Permission denied"),
        ] {
            let (_, said) = try_key(&pair.b, &ours, &options, &words);
            assert!(!said.contains("uid=") && said.contains(sentence), "{options:?} {words:?}: {said}");
        }
        assert!(there(&pair.b, "/tmp/owned").is_none());
        let folders = [pair.a.written(), pair.b.written()].concat();
        assert_eq!(in_files(&folders, &secrets), None);
        drop(stopping);
        let samples = sampler.join().unwrap();
        assert!(samples >= 20, "{samples} samples");
        println!("{samples} samples of all processes");
        theirs
    });
    let moved = running.await.unwrap().unwrap();
    assert!(there(&pair.b, "/var/lib/x/arrived") == Some(content), "{moved:?}");
    // Ours went from between what was there and what came meanwhile.
    assert_eq!(keys(&pair.b).unwrap(), [before, theirs.into_bytes()].concat());
    let folders = [pair.a.written(), pair.b.written()].concat();
    assert_eq!(in_files(&folders, &secrets), None);
    // What is planted is found: the search can fail.
    let known: BTreeSet<usize> = (0..secrets.len()).collect();
    let mut found = BTreeSet::new();
    for (number, secret) in secrets.iter().enumerate() {
        put(&pair.a, "/var/lib/x/leak", format!("x{secret}x").as_bytes());
        if in_files(&folders, &secrets).is_some_and(|file| file.ends_with("leak")) {
            found.insert(number);
        }
    }
    assert_eq!(found, known);
    let leak = format!("exec env 'LEAK={}' sleep 3 </dev/null >/dev/null 2>&1 &", secrets[2]);
    pair.a.exec_in(&leak);
    until("the planted leak", || in_processes(&pair.a, &secrets));
}

#[test]
fn killed_it_leaves_no_key() {
    let opts = |password: &str| Opts { password: password.to_owned(), ..Opts::sudo(Sudo::Password) };
    let typed = Typed::new([opts("one of a's"), opts("another, of b's")]);
    let b = &typed.pair.b;
    let content = bytes(24 * MIB);
    put(&typed.pair.a, "/var/lib/x/source", &content);
    std::fs::write(typed.dir.path().join("small"), b"small").unwrap();
    // As somebody's editor may leave it.
    let path = b.root_dir().join("home/ops/.ssh/authorized_keys");
    let mut before = keys(b).unwrap();
    assert_eq!(before.pop(), Some(b'\n'));
    std::fs::write(&path, &before).unwrap();
    let words = ["transfer", "a:/var/lib/x/source", "b:/var/lib/x/arrived", "--via", "direct"];
    let start = |more: &[&str]| {
        let mut slow = typed.command(&[&words[..], &["--limit-rate", "4M"], more].concat());
        let child = slow.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        until("the entry", || entry(b));
        until("some bytes", || {
            let part = b.root_dir().join("var/lib/x/arrived.ferry-part.journal");
            std::fs::read_to_string(part).ok().filter(|text| text.lines().count() > 1)
        });
        child
    };
    // The shell at the target hears that ferry is gone, and takes the entry away.
    let mut child = start(&[]);
    child.kill().unwrap();
    child.wait().unwrap();
    until("the end of the entry", || keys(b).filter(|now| *now == before));

    // That shell is killed as well: the next transfer to that host does it, of whatever kind.
    let mut child = start(&["--resume"]);
    let holders: Vec<u32> = b
        .processes()
        .into_iter()
        .filter(|process| process.environ.windows(12).any(|window| window == b"FERRY_HOLDS="))
        .map(|process| process.pid)
        .collect();
    assert!(!holders.is_empty());
    for pid in holders {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    until("the end of the stream", || {
        Some(()).filter(|()| {
            !b.processes().iter().any(|process| process.environ.windows(13).any(|window| window == b"FERRY_DIRECT="))
        })
    });
    assert!(entry(b).is_some(), "nobody was there to remove it");
    typed.ferry(&["transfer", "small", "b:/var/lib/x/small"]).must(0, &[]);
    assert_eq!(keys(b).unwrap(), before);
    typed.ferry(&[&words[..], &["--resume"]].concat()).must(0, &["goes on with the", "6 chunks equal at both ends"]);
    assert!(there(b, "/var/lib/x/arrived") == Some(content));
    assert_eq!(keys(b).unwrap(), before);
    nothing_left(&typed.pair.a);
    nothing_left(b);
}

/// kill -9 of ferry at any moment, now and then of the shell as well that holds the key's entry: the next run to that host leaves no
/// trace of it, and no password was seen anywhere.
#[test]
fn killed_at_any_moment_the_next_run_removes_its_key() {
    let opts = |password: &str| Opts { password: password.to_owned(), ..Opts::sudo(Sudo::Password) };
    let typed = Typed::new([opts("one of a's"), opts("another, of b's")]);
    let (a, b) = (&typed.pair.a, &typed.pair.b);
    put(a, "/var/lib/x/source", &bytes(24 * MIB));
    std::fs::write(typed.dir.path().join("small"), b"small").unwrap();
    let before = keys(b).unwrap();
    let secrets = ["one of a's".to_owned(), "another, of b's".to_owned(), "PRIVATE KEY-----".to_owned()];
    let of = |word: &str| {
        let has = |environ: &[u8]| environ.windows(word.len()).any(|window| window == word.as_bytes());
        b.processes()
            .into_iter()
            .filter(|process| has(&process.environ))
            .map(|process| process.pid)
            .collect::<Vec<u32>>()
    };
    let (rounds, mut entries, mut held, mut orphans, mut samples) = (if long() { 60 } else { 2 }, 0, 0, 0, 0);
    for round in 0..rounds {
        let words = [
            "transfer",
            "a:/var/lib/x/source",
            "b:/var/lib/x/arrived",
            "--via",
            "direct",
            "--limit-rate",
            "8M",
            "--force",
        ];
        let mut slow = typed.command(&words);
        let mut child = slow.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        // Mostly while the entry is there, which is the end of what comes before; else before that.
        let early = chance(4) == 0;
        if !early {
            until("the entry", || entry(b));
        }
        let (began, moment) = (Instant::now(), Duration::from_millis(chance(if early { 2500 } else { 1500 })));
        while began.elapsed() < moment {
            for node in [a, b] {
                assert_eq!(in_processes(node, &secrets), None, "round {round}");
                samples += 1;
            }
        }
        // Its holder goes first, so that nobody is there to hear that ferry is gone.
        let with_holder = chance(2) == 0;
        for pid in if with_holder { of("FERRY_HOLDS=") } else { Vec::new() } {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        entries += u32::from(entry(b).is_some());
        let ended = Instant::now();
        while !(of("FERRY_DIRECT=").is_empty() && of("FERRY_HOLDS=").is_empty()) {
            let all = || {
                b.processes()
                    .into_iter()
                    .map(|one| format!("{} {}\n", one.pid, String::from_utf8_lossy(&one.cmdline)))
                    .collect::<String>()
            };
            let late = ended.elapsed() > Duration::from_secs(60);
            assert!(
                !late,
                "round {round}, early: {early}, {moment:?}, its holder killed: {with_holder}: FERRY_DIRECT {:?}, FERRY_HOLDS {:?}, of\n{}",
                of("FERRY_DIRECT="),
                of("FERRY_HOLDS="),
                all()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = entry(b).is_some();
        held += u32::from(!left && !with_holder);
        orphans += u32::from(left);
        typed.ferry(&["transfer", "small", "b:/var/lib/x/small", "--force"]).must(0, &[]);
        assert_eq!(keys(b).unwrap(), before, "round {round}, after {moment:?}, its holder killed: {with_holder}");
    }
    let folders = [a.written(), b.written(), vec![typed.dir.path().join("runs")]].concat();
    assert_eq!(in_files(&folders, &secrets), None);
    println!(
        "{rounds} kills: {entries} with the entry there, {held} taken away by its holder or not come yet, {orphans} left and removed by the next \
         run; {samples} samples of all processes"
    );
    assert!(rounds < 20 || orphans >= rounds / 10, "{orphans} entries were left: it shows little");
    typed
        .ferry(&["transfer", "a:/var/lib/x/source", "b:/var/lib/x/arrived", "--via", "direct", "--force"])
        .must(0, &[]);
    nothing_left(a);
    nothing_left(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_file_of_keys_is_it_is_the_same_afterwards() {
    let extra = Opts {
        sshd_lines: vec!["AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/extra_keys".to_owned()],
        setup: vec![
            "cp /home/ops/.ssh/authorized_keys /etc/ssh/extra_keys && chmod 644 /etc/ssh/extra_keys".to_owned(),
        ],
        ..Opts::sudo(Sudo::NoPasswd)
    };
    let node = RealNode::start(extra);
    put(&node, "/var/lib/x/source", &bytes(MIB + 1));
    let to = way(&node, node.port);
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1c2FtcGxlc2FtcGxlc2FtcGxlc2FtcGxlc2Ft me@here";
    let cases = [
        (
            "no line feed at the end",
            format!("printf '%s' '{key}' >keys; install -o ops -m 600 keys .ssh/authorized_keys"),
        ),
        ("no folder", "rm -rf .ssh".to_owned()),
        ("a link", format!("printf '%s\\n' '{key}' >keys; chown ops keys; ln -s ../keys .ssh/authorized_keys")),
        ("no file", ":".to_owned()),
        ("an empty file", "install -o ops -m 644 /dev/null .ssh/authorized_keys".to_owned()),
        ("no text", "head -c 3000 /dev/urandom >keys; install -o ops -m 600 keys .ssh/authorized_keys".to_owned()),
        (
            "line ends of another world",
            format!("printf '%s\\r\\n\\r\\n# %s\\r' '{key}' x >keys; install -o ops -m 640 keys .ssh/authorized_keys"),
        ),
    ];
    let sample = if long() { cases.len() } else { 3 };
    for (what, make) in cases.into_iter().take(sample) {
        let look = || {
            let said = node.exec_in("cd /home/ops && find .ssh keys -printf '%p %y %m %U %i %l\\n' 2>/dev/null | sort; cat .ssh/authorized_keys 2>/dev/null | sha256sum");
            String::from_utf8(said.stdout).unwrap()
        };
        let made = node.exec_in(&format!(
            "cd /home/ops && rm -rf .ssh keys /var/lib/x/arrived && mkdir -m 700 .ssh && chown ops .ssh && {make}"
        ));
        assert!(made.status.success(), "{what}: {}", String::from_utf8_lossy(&made.stderr));
        let before = look();
        let order = direct(order(on("a", &to, "/var/lib/x/source"), on("b", &to, "/var/lib/x/arrived")));
        let moved = go(&order).await.unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
        assert_eq!(moved.bytes, MIB + 1);
        assert_eq!(look(), before, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_between_the_nodes_it_goes_on_at_the_byte() {
    let pair = pair(Harm::Cut, &[]);
    let size = 9 * MIB + 4321;
    let content = bytes(size);
    put(&pair.a, "/var/lib/x/source", &content);
    let before = keys(&pair.b).unwrap();
    let (mut cuts, mut again) = (0, 0);
    let rounds = if long() { 60 } else { 2 };
    for round in 0..rounds {
        let to = format!("/var/lib/x/arrived-{round}");
        // The source reaches the target through the second wire as well.
        let place = if round == 0 { 6 * MIB } else { 100 * 1024 + chance(size) };
        let hit = usize::from(round == 0 || chance(4) > 0);
        let slow = Order {
            limit_rate: Some(24 * MIB),
            ..order(on("a", &pair.ways[0], "/var/lib/x/source"), on("b", &pair.ways[1], &to))
        };
        pair.wires[hit].after(place);
        let moved =
            go(&direct(slow)).await.unwrap_or_else(|failure| panic!("round {round}, cut at {place}: {failure:?}"));
        pair.wires[hit].after(u64::MAX >> 2);
        assert!(there(&pair.b, &to).as_ref() == Some(&content), "round {round}: other bytes");
        assert!(moved.sent_again <= u64::from(moved.cuts) * 8 * MIB, "{moved:?}");
        (cuts, again) = (cuts + moved.cuts, again + moved.sent_again);
        pair.b.exec_in(&format!("rm -f {to}"));
        assert_eq!(keys(&pair.b).unwrap(), before, "round {round}");
    }
    println!("{rounds} transfers, {cuts} cuts while a stream ran, {again} bytes sent again");
    assert!(cuts > 0);
    nothing_left(&pair.a);
    nothing_left(&pair.b);
}

/// A byte that the target's disk changes before it is read there: found by the digests of the whole, then by the chunk's, which is sent
/// again between the nodes.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_changes_a_byte_is_found_between_the_nodes() {
    let pair = pair(Harm::Cut, &[]);
    // No zero, which is what a byte is that was not written yet.
    let content: Vec<u8> = bytes(20 * MIB + 3).into_iter().map(|byte| byte | 1).collect();
    put(&pair.a, "/var/lib/x/source", &content);
    let to = "/var/lib/x/arrived";
    let order = Order {
        limit_rate: Some(24 * MIB),
        ..order(on("a", &pair.ways[0], "/var/lib/x/source"), on("b", &pair.ways[1], to))
    };
    let over = Arc::new(AtomicBool::new(false));
    let flipping = flip(pair.b.root_dir().join("var/lib/x/arrived.ferry-part"), 6 * MIB + 77, Arc::clone(&over));
    let moved = go(&direct(order)).await;
    over.store(true, Ordering::Relaxed);
    assert!(flipping.join().unwrap(), "nobody changed it");
    let moved = moved.unwrap();
    assert!(there(&pair.b, to).as_ref() == Some(&content), "{moved:?}");
    assert_eq!((moved.sent_again, moved.cuts), (CHUNK, 0), "{moved:?}");
    nothing_left(&pair.a);
    nothing_left(&pair.b);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_needs_is_said_by_name() {
    let bare = RealNode::start(Opts {
        sshd_lines: vec!["AuthorizedKeysFile /etc/ssh/extra_keys".to_owned(), "AllowAgentForwarding no".to_owned()],
        setup: vec![
            "cp /home/ops/.ssh/authorized_keys /etc/ssh/extra_keys && chmod 644 /etc/ssh/extra_keys && rm /usr/bin/ssh"
                .to_owned(),
        ],
        ..Opts::sudo(Sudo::NoPasswd)
    });
    let full =
        RealNode::start(Opts { sshd_lines: vec!["AllowAgentForwarding no".to_owned()], ..Opts::sudo(Sudo::NoPasswd) });
    for node in [&bare, &full] {
        put(node, "/var/lib/x/source", &bytes(1000));
        node.exec_in("mkdir /var/lib/x/folder");
    }
    let (bare_way, full_way) = (way(&bare, bare.port), way(&full, full.port));
    let new = "/var/lib/x/new";
    for (from, to, sentence) in [
        (on("c", &bare_way, "/var/lib/x/source"), on("d", &full_way, new), "there is no ssh"),
        (on("d", &full_way, "/var/lib/x/source"), on("c", &bare_way, new), "does not look into ~/.ssh/authorized_keys"),
        (on("d", &full_way, "/var/lib/x/source"), on("e", &full_way, new), "does not let an agent be forwarded"),
        (on("d", &full_way, "/var/lib/x/folder"), on("e", &full_way, new), "a folder does not go from node to node"),
    ] {
        let failure = go(&direct(order(from, to))).await.unwrap_err();
        assert!(failure.kind == Kind::Refused && failure.what.contains(sentence), "{sentence}: {failure:?}");
        assert!(entry(&full).is_none() && entry(&bare).is_none());
    }
    // Another machine where the source's network has the target.
    let (other, b) = (RealNode::start(Opts::sudo(Sudo::NoPasswd)), RealNode::start(Opts::sudo(Sudo::NoPasswd)));
    put(&b, "/var/lib/x/source", &bytes(1000));
    let Way::Ssh(target) = way(&b, b.port) else { panic!("no ssh") };
    let mut wrong = (*target).clone();
    // ferry's own socket goes to b by a command; the source goes where the name says.
    wrong.port = other.port;
    let line = std::fs::read_to_string(&b.known_hosts_path)
        .unwrap()
        .replace(&format!("]:{} ", b.port), &format!("]:{} ", other.port));
    wrong.known_hosts = vec![b.dir().join("known_hosts_of_the_other")];
    std::fs::write(&wrong.known_hosts[0], line).unwrap();
    wrong.proxy = Some(ferry::remote::ssh::connect::Proxy {
        command: format!("busybox nc 127.0.0.1 {}", b.port),
        hide: Vec::new(),
    });
    let b_way = way(&b, b.port);
    let failure = go(&direct(order(on("b", &b_way, "/var/lib/x/source"), on("f", &Way::Ssh(Box::new(wrong)), new))))
        .await
        .unwrap_err();
    assert!(failure.kind == Kind::Refused && failure.what.contains("another host key"), "{failure:?}");
    assert!(entry(&b).is_none() && entry(&other).is_none());
}

/// Whatever a node lacks or says is told by name, and nothing of the transfer stays at either.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_nodes_say_is_told_by_name() {
    // The nodes let us in by another file, so that the one that ferry writes to may be anything.
    let node = || {
        RealNode::start(Opts {
            sshd_lines: vec!["AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/extra_keys".to_owned()],
            setup: vec![
                "cp /home/ops/.ssh/authorized_keys /etc/ssh/extra_keys && chmod 644 /etc/ssh/extra_keys".to_owned(),
            ],
            ..Opts::sudo(Sudo::NoPasswd)
        })
    };
    let (a, b) = (node(), node());
    put(&a, "/var/lib/x/source", &bytes(300_000));
    b.exec_in("mkdir -p /var/lib/x");
    let (from, to) = (way(&a, a.port), way(&b, b.port));
    let stub = |name: &str, lines: &str| {
        format!("printf '%s\\n' '#!/bin/sh' '{lines}' >/usr/local/bin/{name}; chmod 755 /usr/local/bin/{name}")
    };
    let undo = |name: &str| format!("rm -f /usr/local/bin/{name}");
    let ssh = |lines: &str| stub("ssh", &format!("case $1 in -V) echo OpenSSH_9.2p1 >&2 ;; -Q) ;; *) {lines} ;; esac"));
    let keys_gone = "cd /home/ops && rm -rf .ssh && mkdir -m 700 .ssh && chown ops .ssh";
    let keys_back = "cd /home/ops && rm -rf .ssh && mkdir -m 700 .ssh && chown ops .ssh && install -o ops -m 600 /etc/ssh/extra_keys .ssh/authorized_keys";
    // Where, what is made, what undoes it, and what is told: the kind, at which end, in which words.
    let cases: Vec<(&RealNode, String, String, Kind, &str, &[&str])> = vec![
        (
            &a,
            stub("ssh", "echo Sun_SSH_1.1 >&2"),
            undo("ssh"),
            Kind::Refused,
            "a",
            &["the ssh there is not OpenSSH", "Sun_SSH_1.1", "--via relay"],
        ),
        (
            &a,
            ssh("echo ssh: connect to host b port 22: Connection refused >&2; exit 255"),
            undo("ssh"),
            Kind::Unreachable,
            "a",
            &["does not reach the target by its own network", "Connection refused", "--via relay"],
        ),
        (
            &a,
            ssh("echo ops@b: Permission denied, publickey. >&2; exit 255"),
            undo("ssh"),
            Kind::Refused,
            "b",
            &["did not let the transfer", "Permission denied", "behind NAT"],
        ),
        (
            &a,
            ssh("echo something broke >&2; exit 7"),
            undo("ssh"),
            Kind::Unreachable,
            "a",
            &["from node to node was cut", "its ssh ended with 7: something broke", "--resume goes on"],
        ),
        (
            &b,
            "mv /usr/bin/mkfifo /usr/bin/mkfifo.off".to_owned(),
            "mv /usr/bin/mkfifo.off /usr/bin/mkfifo".to_owned(),
            Kind::Refused,
            "b",
            &["there is no mkfifo", "--via relay"],
        ),
        (
            &b,
            stub("mkfifo", "echo no >&2; exit 1"),
            undo("mkfifo"),
            Kind::Failed,
            "b",
            &["the FIFO could not be made", "nofifo"],
        ),
        (
            &b,
            stub("sshd", "echo authorizedkeysfile /etc/keys/%u"),
            undo("sshd"),
            Kind::Refused,
            "b",
            &["does not look into ~/.ssh/authorized_keys", "AuthorizedKeysFile /etc/keys/%u"],
        ),
        (
            &b,
            format!("{keys_gone} && mkdir .ssh/authorized_keys"),
            keys_back.to_owned(),
            Kind::Refused,
            "b",
            &["authorized_keys is no file", "--via relay"],
        ),
        (
            &b,
            format!("{keys_gone} && ln -s /nowhere .ssh/authorized_keys"),
            keys_back.to_owned(),
            Kind::Refused,
            "b",
            &["authorized_keys is no file"],
        ),
        (
            &b,
            format!("{keys_back} && chown root:root .ssh/authorized_keys && chmod 644 .ssh/authorized_keys"),
            keys_back.to_owned(),
            Kind::Refused,
            "b",
            &["may not write to ~/.ssh/authorized_keys", "644 root"],
        ),
        (
            &b,
            format!("{keys_back} && head -c 300000 /dev/zero >>.ssh/authorized_keys"),
            keys_back.to_owned(),
            Kind::Refused,
            "b",
            &["more than 256 KiB"],
        ),
        (&b, stub("od", "echo zz"), undo("od"), Kind::Failed, "b", &["a file was not understood", "zz"]),
        (&b, stub("od", "exit 1"), undo("od"), Kind::Failed, "b", &["a file did not come whole"]),
        (
            &b,
            stub("date", "echo today"),
            undo("date"),
            Kind::Failed,
            "b",
            &["the clock there was not understood", "today"],
        ),
    ];
    let order = |from: &Way, to: &Way| {
        let order = order(on("a", from, "/var/lib/x/source"), on("b", to, "/var/lib/x/new"));
        direct(Order { force: true, ..order })
    };
    let told = |failure: &Failure, kind: Kind, at: &str, words: &[&str]| {
        assert_eq!((failure.kind, failure.host.as_deref()), (kind, Some(at)), "{words:?}: {failure:?}");
        let parts = [Some(&failure.what), failure.seen.as_ref(), failure.why.as_ref(), failure.mend.as_ref()];
        let all = parts.into_iter().flatten().cloned().collect::<Vec<_>>().join("; ");
        assert!(words.iter().all(|word| all.contains(word)), "{words:?}: {all}");
    };
    for (node, make, undo, kind, at, words) in cases {
        let made = node.exec_in(&make);
        assert!(made.status.success(), "{make}: {}", String::from_utf8_lossy(&made.stderr));
        // What looks like a cut is tried again for as long.
        let patience = Duration::from_secs(if words.contains(&"--resume goes on") { 1 } else { 20 });
        let failure = go(&Order { patience, ..order(&from, &to) }).await.unwrap_err();
        told(&failure, kind, at, words);
        assert!(node.exec_in(&undo).status.success(), "{undo}");
        assert!(entry(&b).is_none(), "{words:?}: {:?}: {failure:?}", entry(&b));
        let left = b.exec_in("ls -d /run/ferry-direct-* /var/lib/x/new 2>/dev/null").stdout;
        assert_eq!(String::from_utf8(left).unwrap(), "", "{words:?}");
    }
    // The users that we become: neither root nor whom we log in as.
    let daemon = |way: &Way| {
        let Way::Ssh(target) = way else { panic!("no ssh") };
        let become_plan = Become { user: "daemon".to_owned(), ..target.become_plan.clone() };
        Way::Ssh(Box::new(Target { become_plan, ..(**target).clone() }))
    };
    a.exec_in("chmod 755 /var/lib/x; chmod 644 /var/lib/x/source");
    b.exec_in("chown daemon /var/lib/x");
    let failure = go(&order(&daemon(&from), &to)).await.unwrap_err();
    told(&failure, Kind::Refused, "a", &["the agent's socket there is open to root", "as ops and become daemon"]);
    let failure = go(&order(&from, &daemon(&to))).await.unwrap_err();
    told(
        &failure,
        Kind::Refused,
        "b",
        &["given to the user that we log in as by root only", "as ops and become daemon"],
    );
    // And with nothing of it in the way it goes.
    b.exec_in("chown root /var/lib/x");
    assert_eq!(go(&order(&from, &to)).await.unwrap().bytes, 300_000);
    nothing_left(&a);
    nothing_left(&b);
}
