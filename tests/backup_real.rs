//! A whole backup of a cluster on real sshd, sudo and PAM, with a password, and the search for that
//! password everywhere: processes, files here, files there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use support::pce::{self, Cluster, Desk, FERRY, said, text};
use support::real::{Opts, RealNode, Sudo};

/// Quote, backslash, percent sign, blank and letters beyond ASCII: its encoded forms differ from it.
const PASSWORD: &str = "Gr4u\"Fähre\\%7 zK";

/// The forms in which a secret may be found, each with its name.
fn forms(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let url = |unreserved: &[u8]| {
        let keep = |byte: u8| byte.is_ascii_alphanumeric() || unreserved.contains(&byte);
        secret
            .bytes()
            .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect::<String>()
    };
    let json = serde_json::to_string(secret).unwrap();
    let ascii: String = json
        .trim_matches('"')
        .chars()
        .map(|c| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", c as u32) })
        .collect();
    let mut forms = vec![
        ("plain", secret.as_bytes().to_vec()),
        ("json", json.trim_matches('"').as_bytes().to_vec()),
        ("json in ASCII", ascii.into_bytes()),
        ("debug", format!("{secret:?}").trim_matches('"').as_bytes().to_vec()),
        ("url", url(b"-_.~").into_bytes()),
        ("url in lower case", url(b"-_.~").to_lowercase().into_bytes()),
        ("shell", secret.replace('\'', r"'\''").into_bytes()),
        ("hex", secret.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()),
        // A part of it is a leak as well.
        ("its first half", secret.chars().take(8).collect::<String>().into_bytes()),
        ("its second half", secret.chars().skip(8).collect::<String>().into_bytes()),
    ];
    // Base64 looks different by where the secret begins within three bytes; the characters that also hold
    // bits of its neighbours are left off.
    for (before, name) in [(0, "base64"), (1, "base64 + 1"), (2, "base64 + 2")] {
        let padded = [vec![0; before], secret.as_bytes().to_vec()].concat();
        let whole = padded.len() * 8 / 6;
        for (engine, name) in [
            (&base64::engine::general_purpose::STANDARD_NO_PAD, name),
            (&base64::engine::general_purpose::URL_SAFE_NO_PAD, name),
        ] {
            let coded = engine.encode(&padded);
            forms.push((name, coded.as_bytes()[(before * 8_usize).div_ceil(6)..whole].to_vec()));
        }
    }
    // For some secrets some forms are the same.
    let mut known = BTreeSet::new();
    forms.retain(|(_, form)| known.insert(form.clone()));
    forms
}

/// The forms as something that looks for all of them at once.
struct Search {
    names: Vec<&'static str>,
    set: regex::bytes::RegexSet,
}

impl Search {
    fn new(secret: &str) -> Self {
        let forms = forms(secret);
        let literal = |form: &[u8]| form.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let patterns = forms.iter().map(|(_, form)| format!("(?-u){}", literal(form)));
        Self {
            names: forms.iter().map(|(name, _)| *name).collect(),
            set: regex::bytes::RegexSet::new(patterns).unwrap(),
        }
    }

    /// The names of the forms that are in these bytes.
    fn found(&self, bytes: &[u8]) -> Vec<&'static str> {
        self.set.matches(bytes).into_iter().map(|at| self.names[at]).collect()
    }
}

/// Files below these places that hold one of the forms; also names of files. Counts what was read.
fn search(places: &[PathBuf], secret: &Search) -> (Vec<String>, usize) {
    let (mut hits, mut files, mut todo) = (Vec::new(), 0, places.to_vec());
    while let Some(path) = todo.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        for name in secret.found(path.as_os_str().as_encoded_bytes()) {
            hits.push(format!("{name} in the name {}", path.display()));
        }
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())));
        } else if meta.is_file() {
            // Whole files: the largest are archives of a few MiB.
            assert!(meta.size() < 256 << 20, "{} is larger than this search reads", path.display());
            let mut bytes = Vec::new();
            std::fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
            files += 1;
            for name in secret.found(&bytes) {
                hits.push(format!("{name} in {}", path.display()));
            }
        }
    }
    (hits, files)
}

/// What was seen of all processes while a [`Sampler`] looked.
#[derive(Default)]
struct Seen {
    /// Where the secret was: process, which file, its command line.
    hits: BTreeSet<(u32, &'static str, String)>,
    passes: usize,
    processes: BTreeSet<(u32, String)>,
}

/// Reads `/proc/*/cmdline` and `/proc/*/environ` of every process that there is, without pause.
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Seen>,
}

impl Sampler {
    fn start(secret: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ours, secret) = (Arc::clone(&stop), Search::new(secret));
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            // A process's environment is fixed when it begins and is searched once for each of its
            // programs; command lines are read on every pass, for a process can rewrite its own.
            let mut known: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
            while !ours.load(Ordering::Relaxed) {
                seen.passes += 1;
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                        continue;
                    };
                    let Ok(cmdline) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
                    if cmdline.is_empty() || known.get(&pid) == Some(&cmdline) {
                        continue;
                    }
                    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                    let line = text(&cmdline).replace('\0', " ");
                    for (place, bytes) in [("cmdline", &cmdline), ("environ", &environ)] {
                        if !secret.found(bytes).is_empty() {
                            seen.hits.insert((pid, place, line.clone()));
                        }
                    }
                    seen.processes.insert((pid, line));
                    known.insert(pid, cmdline);
                }
            }
            seen
        });
        Self { stop, thread }
    }

    fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// How the password is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    File,
    Variable,
    Inventory,
    Terminal,
}

struct Scene {
    desk: Desk,
    cluster: Cluster,
    bastion: RealNode,
}

fn scene() -> Scene {
    let desk = Desk::new();
    let password = PASSWORD.to_owned();
    let opts = Opts { sudo: Sudo::Password, password, ..Opts::default() };
    let bastion = RealNode::start(pce::with_key(Opts { hostname: "bastion".into(), ..Opts::default() }, &desk));
    let cluster = Cluster::start(&desk, 3, &opts);
    Scene { desk, cluster, bastion }
}

impl Scene {
    /// Writes the inventory: as it is, through the bastion, with the password in it.
    fn write_inventory(&self, through_bastion: bool, with_password: bool) {
        let known = pce::known_hosts(&self.desk, &self.cluster.nodes);
        let mut args = pce::trusting(&known);
        if through_bastion {
            args += &format!(" -J ops@127.0.0.1:{}", self.bastion.port);
        }
        let mut vars = vec![format!("ansible_ssh_common_args: \"{args}\"")];
        if with_password {
            vars.push(format!("ansible_become_password: '{}'", PASSWORD.replace('\'', "''")));
        }
        let vars: Vec<&str> = vars.iter().map(String::as_str).collect();
        self.desk.put("inventory.yml", &self.cluster.inventory(&self.desk, &vars));
        let mut file = std::fs::OpenOptions::new().append(true).open(known).unwrap();
        file.write_all(&std::fs::read(&self.bastion.known_hosts_path).unwrap()).unwrap();
    }

    /// Where anything was written: here, on the nodes, on the bastion, in the cluster.
    fn written(&self) -> Vec<PathBuf> {
        let mut places = self.desk.written();
        places.extend(self.cluster.nodes.iter().flat_map(RealNode::written));
        places.extend(self.bastion.written());
        places.push(self.cluster.shared.path().to_owned());
        places
    }

    /// One whole backup while all processes are watched.
    fn backup(&self, given: Given, through_bastion: bool) {
        let name = format!("{given:?}{}", if through_bastion { " through a bastion" } else { "" });
        self.write_inventory(through_bastion, given == Given::Inventory);
        let before = self.cluster.runs();
        let jumped = self.bastion.log().matches("Accepted publickey").count();
        let sampler = Sampler::start(PASSWORD);
        let begun = Instant::now();
        let mut ferry = self.desk.ferry();
        ferry.args(["backup", "prod", "-vvvv", "--waive", "space=the disk of a test machine"]);
        let (own, out) = match given {
            Given::File => {
                let file = self.desk.put("password", &format!("{PASSWORD}\n"));
                let child = ferry.arg("--become-password-file").arg(file).spawn().unwrap();
                (child.id(), pce::finish(child, 120))
            }
            Given::Variable => {
                ferry.args(["--become-password-env", "MY_SUDO_WORD"]).env("MY_SUDO_WORD", PASSWORD);
                let child = ferry.spawn().unwrap();
                (child.id(), pce::finish(child, 120))
            }
            Given::Inventory => {
                let child = ferry.spawn().unwrap();
                (child.id(), pce::finish(child, 120))
            }
            Given::Terminal => self.at_a_terminal(),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let seen = sampler.end();
        assert_eq!(out.status.code(), Some(0), "{name}: {}", said(&out));
        assert_eq!(self.cluster.runs(), before + 1, "{name}: {}", said(&out));
        let through = self.bastion.log().matches("Accepted publickey").count() - jumped;
        assert_eq!(through > 0, through_bastion, "{name}: {through} logins at the bastion");

        // The search saw what it must have seen: sudo and gravity on the nodes, ferry here.
        for word in ["sudo -H -k -S", "gravity backup", "sshd: ops", "/ferry backup prod -vvvv"] {
            let hit = seen.processes.iter().any(|(_, line)| line.contains(word));
            assert!(hit, "{name}: no process with {word:?} was seen in {} passes", seen.passes);
        }
        // The operator gave it to this one process in its environment, and to nobody else.
        let leaks: Vec<_> = seen
            .hits
            .iter()
            .filter(|(pid, place, _)| !(given == Given::Variable && *pid == own && *place == "environ"))
            .collect();
        assert!(leaks.is_empty(), "{name}: {leaks:?}");
        if given == Given::Variable {
            assert_eq!(seen.hits.len(), 1, "{name}: the variable of ferry itself was not even seen");
        }
        let secret = Search::new(PASSWORD);
        let shown = secret.found(&[out.stdout.as_slice(), &out.stderr].concat());
        assert!(shown.is_empty(), "{name}: {shown:?} on ferry's screen: {}", said(&out));
        let (hits, files) = search(&self.written(), &secret);
        assert!(hits.is_empty(), "{name}: {hits:#?}");
        println!(
            "{name}: exit 0 in {seconds:.1} s; {} processes in {} passes, {files} files searched, 0 hits",
            seen.processes.len(),
            seen.passes
        );
    }

    /// `-K` at a terminal of its own: asked once, not echoed.
    fn at_a_terminal(&self) -> (u32, std::process::Output) {
        let mut script = Command::new("script");
        self.desk.dress(&mut script);
        script.args(["-qec", &format!("{FERRY} backup prod -vvvv -K --output plain"), "/dev/null"]);
        let mut child = script.stdin(Stdio::piped()).spawn().unwrap();
        let (pid, mut stdin, mut stdout) = (child.id(), child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let (mut all, mut answered, mut piece) = (Vec::new(), false, [0; 4096]);
            while let Ok(count @ 1..) = stdout.read(&mut piece) {
                all.extend_from_slice(&piece[..count]);
                if !answered && text(&all).contains("BECOME password: ") {
                    answered = true;
                    // The prompt is written before the echo is switched off or after: wait for both.
                    std::thread::sleep(Duration::from_millis(300));
                    stdin.write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
                }
            }
            assert!(answered, "nobody was asked: {}", text(&all));
            assert_eq!(text(&all).matches("BECOME password: ").count(), 1, "asked more than once");
            all
        });
        let mut out = pce::finish(child, 120);
        out.stdout = reader.join().unwrap();
        (pid, out)
    }

    fn points(&self) -> Vec<String> {
        let out = self.desk.run(&["points", "list", "--json"]);
        assert!(out.status.success(), "{}", said(&out));
        let list: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let all = list.as_array().unwrap();
        all.iter().map(|point| point["id"].as_str().unwrap_or_else(|| panic!("{point}")).to_owned()).collect()
    }
}

#[test]
fn a_whole_backup_with_a_password_that_is_found_nowhere() {
    let scene = scene();
    for (given, through_bastion) in
        [(Given::File, false), (Given::Variable, true), (Given::Inventory, false), (Given::Terminal, true)]
    {
        scene.backup(given, through_bastion);
    }
    assert_eq!(scene.points().len(), 4);
    let out = scene.desk.run(&["points", "verify"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    // At -vvvv there is a trace, and it was searched.
    let traces: Vec<_> = std::fs::read_dir(scene.desk.at("work/runs"))
        .unwrap()
        .map(|run| std::fs::metadata(run.unwrap().path().join("debug.log")).map(|meta| meta.len()))
        .collect();
    assert!(traces.len() == 4 && traces.iter().all(Result::is_ok), "{traces:?}");
    // Nothing of ours is left on the nodes.
    for node in &scene.cluster.nodes {
        let left = text(&node.exec_in("find / -xdev -path '*ferry*' -name '*.tar.gz' 2>/dev/null").stdout);
        assert!(left.is_empty(), "{left}");
    }

    // The control run: planted leaks are found by the same search, in every form that is searched for.
    let forms = forms(PASSWORD);
    let sampler = Sampler::start(PASSWORD);
    let hold = |command: &mut Command| {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(400));
        child.kill().unwrap();
        child.wait().unwrap();
        child.id()
    };
    let in_argv = hold(Command::new("sh").args(["-c", "sleep 5; :", "helper", PASSWORD]));
    let in_environ = hold(Command::new("sh").args(["-c", "sleep 5; :"]).env("MY_SUDO_WORD", PASSWORD));
    let there = scene.cluster.nodes[1].exec_in(&format!("sh -c 'sleep 0.4; :' helper {}", quoted(PASSWORD)));
    assert!(there.status.success());
    let seen = sampler.end();
    for (pid, place) in [(in_argv, "cmdline"), (in_environ, "environ")] {
        assert!(seen.hits.iter().any(|(hit, at, _)| *hit == pid && *at == place), "{place}: {:?}", seen.hits);
    }
    assert!(
        seen.hits.iter().any(|(_, _, line)| line.starts_with("sh -c sleep 0.4") && line.contains("helper")),
        "on a node: {:?}",
        seen.hits
    );
    let mut planted = Vec::new();
    for (number, (name, form)) in forms.iter().enumerate() {
        let content = [b"before ".as_slice(), form, b" after"].concat();
        let here = scene.desk.at("work/runs").join(format!("planted-{number}"));
        std::fs::write(&here, &content).unwrap();
        for (node, folder) in [(0, "var/lib"), (1, "home/ops"), (2, "tmp"), (0, "run"), (1, "root")] {
            std::fs::write(
                scene.cluster.nodes[node].root_dir().join(folder).join(format!("planted-{number}")),
                &content,
            )
            .unwrap();
        }
        planted.push((number, *name));
    }
    let (hits, _) = search(&scene.written(), &Search::new(PASSWORD));
    for (number, name) in &planted {
        let end = format!("/planted-{number}");
        let found = hits.iter().filter(|hit| hit.starts_with(&format!("{name} in ")) && hit.ends_with(&end)).count();
        assert_eq!(found, 6, "{name} ({number}) was planted in 6 places: {hits:#?}");
    }
    println!("control: 3 planted processes and {} planted files found", planted.len() * 6);
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[test]
fn a_proxyjump_option_means_the_same_as_j() {
    let desk = Desk::new();
    let bastion = RealNode::start(pce::with_key(Opts { hostname: "bastion".into(), ..Opts::default() }, &desk));
    let cluster = Cluster::start(&desk, 1, &Opts { hostname: "prod-1".into(), ..Opts::default() });
    let known = pce::known_hosts(&desk, &cluster.nodes);
    let both = [std::fs::read(&known).unwrap(), std::fs::read(&bastion.known_hosts_path).unwrap()].concat();
    let trust = desk.put("known_both", &text(&both));
    let args = format!(
        "ansible_ssh_common_args: \"{} -o ProxyJump=ops@127.0.0.1:{}\"",
        pce::trusting(Path::new(&trust)),
        bastion.port
    );
    desk.put("inventory.yml", &cluster.inventory(&desk, &[&args]));
    let out = desk.run(&["backup", "prod", "--waive", "space=the disk of a test machine"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(bastion.log().contains("Accepted publickey"));
    let out = desk.run(&["points", "verify"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
}
