//! `ferry exec`: words stay words, codes are true, what hosts say arrives whole, quickly and clean; against the sandbox and
//! a real sshd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ferry::sandbox::Options;
use ferry::sandbox::pretend::Generation;
use serde_json::Value;
use support::bed::{self, Bed, find_in_files, run_limited};
use support::real::{Opts, RealNode, Sudo};

fn bed() -> Bed {
    Bed::with(Options { generation: Generation::G7, amv: false, ..Bed::options() })
}

/// Lines of standard output, sorted: hosts end in any order.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// A port where nobody listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The lines of a host's log with their stream.
fn log_of(run: &Path, host: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(run.join("hosts").join(format!("{host}.log"))).unwrap_or_default();
    text.lines()
        .map(|line| {
            let (lead, text) = line.split_once(" | ").unwrap();
            (lead.split_once(' ').unwrap().1.trim().to_owned(), text.to_owned())
        })
        .collect()
}

#[test]
fn words_arrive_as_they_are_and_codes_are_true() {
    let bed = bed();
    let odd = ["a  b", "{{.Names}}", "{% x %}", "$HOME", "*", "'q\"", "|", "-n", "", "é\u{202e}", "{{ '{' }}"];
    let mut words = vec!["exec", "prod", "-b", "--", "printf", "<%s>"];
    words.extend(odd);
    let said = bed.ferry(&words);
    said.must(0, &["3 hosts: 3 done"]);
    let shown: String = odd.iter().map(|word| format!("<{}>", word.replace('\u{202e}', "\\u{202e}"))).collect();
    let expected: Vec<String> = (1..=3).map(|node| format!("prod-{node} | {shown}")).collect();
    assert_eq!(sorted(&said.out), expected, "standard output has what hosts said and nothing else");
    for node in 1..=3 {
        assert!(said.err.contains(&format!("prod-{node}: exit code 0")), "{}", said.err);
    }

    // One text is cut into words as `ansible -a` cuts it; several words are never cut again.
    assert_eq!(bed.ferry(&["exec", "prod-1", "--", "printf '%s-' \"a b\" c"]).out, "prod-1 | a b-c-\n");
    assert_eq!(bed.ferry(&["exec", "prod-1", "-a", "echo {{ inventory_hostname }}"]).out, "prod-1 | prod-1\n");
    assert_eq!(
        bed.ferry(&["exec", "prod-1", "-m", "shell", "-a", "echo a | tr a b; echo c"]).out,
        "prod-1 | b\nprod-1 | c\n"
    );
    assert_eq!(
        bed.ferry(&["exec", "prod-1", "-m", "raw", "--", "echo", "a;", "echo", "b"]).out,
        "prod-1 | a\nprod-1 | b\n"
    );
    assert_eq!(
        bed.ferry(&["exec", "prod-1", "-m", "command", "-a", r#"{"argv": ["echo", "x  y"], "chdir": "/"}"#]).out,
        "prod-1 | x  y\n"
    );
    assert_eq!(
        bed.ferry(&["exec", "prod-1", "-m", "debug", "-a", "msg='hello {{ inventory_hostname }}'"]).out,
        "prod-1 | hello prod-1\n"
    );

    let said =
        bed.ferry(&["exec", "prod", "--", "sh", "-c", "test $(uname -n) = prod-2 && exit 0; echo no >&2; exit 42"]);
    said.must(2, &["prod-1: exit code 42", "prod-2: exit code 0", "prod-3: exit code 42", "1 done, 2 failed"]);
    assert!(said.out.is_empty() && said.err.contains("prod-1 ! no"), "{}", said.all());
    bed.ferry(&["exec", "prod-1", "--", "sh", "-c", "kill -9 $$"]).must(2, &["prod-1: exit code 137"]);
    bed.ferry(&["exec", "prod-1", "--", "no-such-program"])
        .must(2, &["prod-1: ", "No such file or directory", "no-such-program"]);

    // A host that is not there weighs more than one that failed, and keeps nobody waiting.
    let port = closed_port();
    let text =
        format!("all:\n  hosts:\n    gone: {{ ansible_host: 127.0.0.1, ansible_port: {port}, ansible_user: root }}\n");
    std::fs::write(bed.aside("gone.yml"), text).unwrap();
    let gone = bed.aside("gone.yml").display().to_string();
    let both = ["exec", "gone:prod", "-f", "1", "-i", bed.up.inventory.to_str().unwrap(), "-i", &gone];
    let said = bed.ferry(&[&both[..], &["--", "false"]].concat());
    said.must(4, &["gone: UNREACHABLE: no TCP connection", "prod-3: exit code 1", "3 failed, 1 unreachable"]);
    let said = bed.ferry(&[&both[..], &["-o", "--", "uname", "-n"]].concat());
    said.must(4, &["gone | UNREACHABLE! | no TCP connection", "prod-2 | CHANGED | rc=0 | (stdout) prod-2"]);
    assert_eq!(said.out.lines().count(), 4, "{}", said.out);
}

#[test]
fn hosts_that_said_the_same_are_folded_and_output_speaks_as_elsewhere() {
    let bed = bed();
    let script = "echo same; echo second; case $(uname -n) in *-2) echo other; exit 3;; esac";
    let said = bed.ferry(&["exec", "all", "--gather", "--", "sh", "-c", script]);
    said.must(2, &[]);
    assert_eq!(
        said.out,
        "prod-[1,3],dr-[1,3] (4 hosts): exit code 0\n  same\n  second\n\
         prod-2,dr-2 (2 hosts): exit code 3\n  same\n  second\n  other\n"
    );
    let said = bed.ferry(&["exec", "prod", "-o", "--", "sh", "-c", "echo a; echo b; echo e >&2"]);
    let expected: Vec<String> =
        (1..=3).map(|node| format!("prod-{node} | CHANGED | rc=0 | (stdout) a\\nb (stderr) e")).collect();
    assert_eq!(sorted(&said.out), expected);
    // What was cut is not called the same.
    let said = bed.ferry(&["exec", "prod", "--gather", "--", "sh", "-c", "yes | head -c 600000"]);
    said.must(0, &["not all of it is shown"]);
    assert_eq!(said.out.lines().filter(|line| line.contains("exit code 0")).count(), 3);

    assert_eq!(bed.ferry(&["exec", "prod:!prod-2", "--list-hosts"]).must(0, &[]).out, "prod-1\nprod-3\n");
    assert_eq!(bed.ferry(&["exec", "all", "-l", "dr-3", "--list-hosts"]).must(0, &[]).out, "dr-3\n");

    let events: Vec<Value> = bed
        .ferry(&["exec", "prod-1", "--output", "json", "--", "echo", "hi"])
        .must(0, &[])
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).cloned().collect::<Vec<_>>();
    assert_eq!(of("line")[0]["text"], "hi");
    assert_eq!(of("task_ended")[0]["result"]["rc"], 0);
    assert_eq!(of("run_ended")[0]["exit"], 0);
    let seqs: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=events.len() as u64).collect::<Vec<_>>(), "no gaps");
    bed.ferry(&["exec", "prod-1", "--output", "plain", "--", "echo", "hi"]).must(0, &["Z prod-1 | hi\n"]);
    let quiet = bed.ferry(&["exec", "prod-1", "--output", "quiet", "--", "echo", "hi"]);
    quiet.must(0, &["exit 0"]).never("hi\n");

    // --check touches nobody.
    let said = bed.ferry(&["exec", "prod", "-C", "--", "touch", "/tmp/mark"]);
    said.must(0, &["prod-1: not run", "3 not run"]);
    assert!(said.out.is_empty(), "{}", said.out);
    bed.ferry(&["exec", "prod", "--", "test", "-e", "/tmp/mark"]).must(2, &["3 failed"]);

    // A failed host is done again by resume, the others are not.
    let script = "echo ran; case $(uname -n) in *-2) test -e /tmp/flag || { touch /tmp/flag; exit 1; };; esac";
    let failed = bed.ferry(&["exec", "prod", "--", "sh", "-c", script]);
    failed.must(2, &["prod-2: exit code 1"]);
    let run = bed.last_run().file_name().unwrap().to_string_lossy().into_owned();
    let resumed = bed.ferry(&["runs", "resume", &run]);
    resumed.must(0, &["prod-2: exit code 0", "done in run"]);
    assert_eq!(resumed.out, "prod-2 | ran\n", "only the host that failed ran it again");
}

#[test]
fn what_is_wrong_on_the_command_line_is_told_before_any_host_is_touched() {
    let bed = bed();
    for (words, code, sentence) in [
        (&["exec", "prod"][..], 5, "there is nothing to run"),
        (&["exec", "prod", "-a", "x", "--", "y"], 5, "given twice"),
        (&["exec", "prod", "--", "a | b"], 5, "means something to a shell only"),
        (&["exec", "prod", "--", "echo 'x"], 5, "a quote is not closed"),
        (&["exec", "prod", "--", ""], 5, "name is empty"),
        (&["exec", "prod", "-m", "comand", "-a", "x"], 5, "did you mean command?"),
        (&["exec", "prod", "-m", "gravity_restore"], 5, "about a whole cluster"),
        (&["exec", "prod", "-m", "command", "-a", "{\"argvv\": []}"], 5, "did you mean argv?"),
        (&["exec", "prod", "-m", "command", "-a", "{\"argv\": "], 5, "no JSON object"),
        (&["exec", "prod", "-m", "ping", "-a", "x=1"], 5, "takes no argument"),
        (&["exec", "prod", "-m", "shell", "-a", "echo {{ x"], 5, "{{"),
        (&["exec", "prod", "--timeout", "0", "--", "x"], 5, "--timeout"),
        (&["exec", "prod", "--gather", "-o", "--", "x"], 5, "cannot be used with"),
        (&["exec", "prod", "no-dashes"], 5, "unexpected argument"),
        (&["exec", "prodd", "--", "x"], 6, "did you mean prod"),
        (&["exec", "prod:!prod", "--", "x"], 6, "no host matches"),
        (&["exec", "prod", "-l", "drr", "--", "x"], 6, "did you mean dr"),
        (&["exec", "prod", "-i", "/nonexistent", "--", "x"], 6, "/nonexistent"),
    ] {
        bed.ferry(words).must(code, &[sentence]).never("panicked");
    }
    assert!(!bed.up.dir.join("runs").exists(), "no run was begun");
}

#[test]
fn what_hosts_say_is_cleaned_and_masked_and_ends_where_it_ended() {
    let bed = bed();
    let secret = bed.aside("password");
    std::fs::write(&secret, "hunter-2222\n").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let script = r"printf 'a\033]0;t\007b\n\033[31mred\033[0m\r\n'; printf '\377\000x\n'; echo 'is hunter-2222 here'; printf 'last %s' part";
    let said =
        bed.ferry(&["exec", "prod-1", "--become-password-file", secret.to_str().unwrap(), "--", "sh", "-c", script]);
    said.must(0, &[]);
    let expected = ["a\\x1b]0;t\\x07b", "red", "\u{fffd}\\x00x", "is ******** here", "last part"];
    let lines: Vec<&str> = said.out.lines().map(|line| line.strip_prefix("prod-1 | ").unwrap()).collect();
    assert_eq!(lines, expected);
    let log: Vec<String> = log_of(&bed.last_run(), "prod-1").into_iter().map(|(_, text)| text).collect();
    assert_eq!(log, expected);
    assert_eq!(find_in_files(&bed.last_run(), b"hunter-2222"), None);

    // Lines of more than 16 KiB are shown in pieces, and none of their bytes is lost.
    let said =
        bed.ferry(&["exec", "prod-1", "--", "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end"]);
    let lines: Vec<&str> = said.out.lines().map(|line| line.strip_prefix("prod-1 | ").unwrap()).collect();
    let (last, long) = lines.split_last().unwrap();
    assert_eq!((*last, long.concat()), ("end", "x".repeat(100_000)));
}

#[test]
fn a_command_that_takes_too_long_is_ended_there_with_all_it_started() {
    let bed = bed();
    let naps = || -> usize {
        let mut count = 0;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            count +=
                usize::from(line.windows(12).any(|words| words == b"sleep\x004242\x00" || words == b"sleep\x004242 ;"));
        }
        count
    };
    assert_eq!(naps(), 0);
    let began = Instant::now();
    for words in [&["--", "sleep", "4242"][..], &["-m", "shell", "-a", "sleep 4242 | cat; echo over"]] {
        let said = bed.ferry(&[&["exec", "prod", "--timeout", "1"], words].concat());
        said.must(2, &["prod-1: exit code 124: took more than 1 s and was ended there", "3 failed"]).never("over");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let gone = Instant::now();
    while naps() > 0 {
        assert!(gone.elapsed() < Duration::from_secs(5), "something is left on a host");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Its own code, in time, is its own.
    let said = bed.ferry(&["exec", "prod-1", "--task-timeout", "30", "--", "sh", "-c", "exit 124"]);
    said.must(2, &["prod-1: exit code 124 ("]);
}

const LINE: &str = "2026-11-24T04:15:00.123Z INFO  a line of a usual log, of a usual length, with number 0123456789";

#[test]
fn a_flood_of_lines_is_whole_quick_and_takes_no_memory() {
    let bed = bed();
    let bytes: usize = if std::env::var_os("FERRY_LONG").is_some() { 1 << 30 } else { 64 << 20 };
    let lines = bytes / (LINE.len() + 1);
    let script = format!("yes '{LINE}' | head -n {lines}");
    let count = format!("{} exec prod-1 -- sh -c \"$SCRIPT\" | wc -lc", env!("CARGO_BIN_EXE_ferry"));
    let mut command = bed::ferry(Some(&bed.up.config), bed.up.dir.as_path());
    let environment: BTreeMap<_, _> =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    let mut piped = Command::new("sh");
    for (name, value) in environment {
        match value {
            Some(value) => piped.env(name, value),
            None => piped.env_remove(name),
        };
    }
    // A reader that takes all gets all, whatever its speed.
    piped.current_dir(&bed.up.dir).env("SCRIPT", &script).args(["-c", &count]);
    let said = run_limited(piped, Duration::from_secs(if bytes > 1 << 27 { 400 } else { 80 }));
    let all = format!("{} {}", lines, lines * (LINE.len() + 1 + "prod-1 | ".len()));
    assert_eq!(said.out.split_whitespace().collect::<Vec<_>>().join(" "), all, "{}", said.err);
    let log = std::fs::metadata(bed.last_run().join("hosts/prod-1.log")).unwrap().len();
    assert_eq!(log, (lines * (LINE.len() + 1 + "2026-11-24T04:15:00.123Z out | ".len())) as u64);

    // Without a reader in between: how much memory it takes.
    command.args(["exec", "prod-1", "-o", "--", "sh", "-c", &script]);
    let said = run_limited(command, Duration::from_secs(if bytes > 1 << 27 { 400 } else { 80 }));
    said.must(0, &["cut: the host's log has it all"]);
    assert!(said.peak_kib < 64 << 10, "{} KiB", said.peak_kib);
    println!("{} MiB of lines: {:.1} s, at most {} KiB of memory", bytes >> 20, said.took.as_secs_f64(), said.peak_kib);
}

#[test]
fn the_first_line_is_shown_at_once_and_a_screen_that_hangs_holds_nothing_up() {
    let bed = bed();
    let mut command = bed::ferry(Some(&bed.up.config), &bed.up.dir);
    command.args(["exec", "prod-1", "--", "sh", "-c", "echo first; sleep 4; echo second"]);
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let first = began.elapsed();
    assert_eq!(line, "prod-1 | first\n");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "prod-1 | second\n");
    assert!(child.wait().unwrap().success());
    assert!(first + Duration::from_secs(2) < began.elapsed(), "{first:?} of {:?}", began.elapsed());

    // A terminal that nobody reads: the host's log is whole before anything of the screen is read.
    let lines = (8 << 20) / (LINE.len() + 1);
    let log_bytes = lines * (LINE.len() + 1 + "2026-11-24T04:15:00.123Z out | ".len());
    let pty = r#"
import os, subprocess, sys, time
log, size, argv = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
master, slave = os.openpty()
proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave)
os.close(slave)
end = time.monotonic() + 40
def whole():
    for root, _, files in os.walk(log):
        for name in files:
            if name == "prod-1.log" and os.path.getsize(os.path.join(root, name)) >= size: return True
    return False
while not whole():
    if time.monotonic() > end: proc.kill(); sys.exit("the log did not grow while the screen hung")
    time.sleep(0.05)
print("whole")
seen = b""
while True:
    try: data = os.read(master, 65536)
    except OSError: break
    if not data: break
    seen += data
print(proc.wait())
print("skipped" if b"lines were not shown" in seen else "nothing was skipped")
"#;
    let mut command = bed::ferry(Some(&bed.up.config), &bed.up.dir);
    let environment: Vec<_> =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    command = Command::new("python3");
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    std::fs::remove_dir_all(bed.up.dir.join("runs")).unwrap();
    command.current_dir(&bed.up.dir).args(["-c", pty]).arg(bed.up.dir.join("runs")).arg(log_bytes.to_string());
    command.args([
        env!("CARGO_BIN_EXE_ferry"),
        "exec",
        "prod-1",
        "--",
        "sh",
        "-c",
        &format!("yes '{LINE}' | head -n {lines}"),
    ]);
    let said = run_limited(command, Duration::from_secs(60));
    assert_eq!(said.out, "whole\n0\nskipped\n", "{}", said.err);
}

/// `FERRY_COMPAT=ansible`: what ansible-core 2.19.14 writes and ends with in the same cases.
#[test]
fn as_ansible_where_that_is_asked_for() {
    let bed = bed();
    let call = |args: &[&str]| {
        let all: Vec<&str> = ["exec"].iter().chain(args).copied().collect();
        bed.ferry_with(&all, &[("FERRY_COMPAT", "ansible")])
    };
    let of = |said: &bed::Said, code: i32, out: &str| {
        said.must(code, &[]);
        assert_eq!(said.out, out, "{}\n{}", said.line, said.all());
    };
    of(&call(&["prod-1", "-a", "echo hi"]), 0, "prod-1 | CHANGED | rc=0 >>\nhi\n");
    let said = call(&["prod-1", "-m", "shell", "-a", "echo out; echo err >&2; exit 3"]);
    of(&said, 2, "prod-1 | FAILED | rc=3 >>\nouterrnon-zero return code\n");
    assert_eq!(said.err, "", "what failed is on standard output, and no more");
    let script = "printf 'a\\nb\\n'; echo err >&2";
    let said = call(&["prod", "-f", "1", "-o", "-m", "shell", "-a", script]);
    let line = |host: &str| format!("{host} | CHANGED | rc=0 | (stdout) a\\nb (stderr) err");
    assert_eq!(sorted(&said.out), [line("prod-1"), line("prod-2"), line("prod-3")]);
    let json = |word: &str, fields: &str| format!("prod-1 | {word} => {{\n{fields}\n}}\n");
    of(
        &call(&["prod-1", "-m", "fail", "-a", "msg=no"]),
        2,
        &json("FAILED!", "    \"changed\": false,\n    \"msg\": \"no\""),
    );
    of(&call(&["prod-1", "-m", "debug", "-a", "msg=hello"]), 0, &json("SUCCESS", "    \"msg\": \"hello\""));
    of(&call(&["prod-1", "-C", "-a", "echo hi"]), 0, "prod-1 | SKIPPED\n");
    of(&call(&["prod", "--list-hosts"]), 0, "  hosts (3):\n    prod-1\n    prod-2\n    prod-3\n");
    // A large answer is whole.
    let said = call(&["prod-1", "-m", "shell", "-a", "yes line | head -n 100000"]);
    assert_eq!(said.must(0, &[]).out.lines().count(), 100_001);

    // Nobody is no error there; an unreachable host is 4, a wrong command line 2.
    let said = call(&["nomatch", "-a", "true"]);
    of(&said, 0, "");
    assert!(said.err.contains("[WARNING]: ") && said.err.contains("nomatch"), "{}", said.err);
    assert!(said.err.ends_with("[WARNING]: No hosts matched, nothing to do\n"), "{}", said.err);
    of(&call(&["all", "-i", "/no/such/inventory", "-a", "true"]), 0, "");
    of(&call(&["prod", "--no-such-option"]), 2, "");
    of(&call(&["prod"]), 5, "");
    of(&call(&["prod", "-m", "no_such_module"]), 2, "");
    let port = format!("ansible_port={}", closed_port());
    let said = call(&["prod-1", "-o", "-e", &port, "-a", "true"]);
    said.must(4, &[]);
    assert!(said.out.starts_with("prod-1 | UNREACHABLE!: "), "{}", said.all());
    let said = call(&["prod-1", "-e", &port, "-a", "true"]);
    said.must(4, &["\n    \"unreachable\": true\n}\n"]);
    assert!(
        said.out.starts_with("prod-1 | UNREACHABLE! => {\n    \"changed\": false,\n    \"msg\": \""),
        "{}",
        said.all()
    );
    // Without it, ferry's own.
    bed.ferry(&["exec", "nomatch", "-a", "true"]).must(6, &[]);
}

#[test]
fn through_a_real_sshd_and_sudo() {
    let node = RealNode::start(Opts::sudo(Sudo::Password));
    let dir = tempfile::Builder::new().prefix("ferry-exec").tempdir().unwrap();
    let text = format!(
        "all:\n  hosts:\n    node-1:\n      ansible_host: 127.0.0.1\n      ansible_port: {}\n      ansible_user: ops\n      ansible_ssh_private_key_file: {}\n      ansible_ssh_common_args: '-o UserKnownHostsFile={}'\n",
        node.port,
        node.key_path.display(),
        node.known_hosts_path.display()
    );
    std::fs::write(dir.path().join("inventory.yml"), text).unwrap();
    std::fs::write(dir.path().join("password"), format!("{}\n", node.password.as_ref().unwrap())).unwrap();
    std::fs::set_permissions(dir.path().join("password"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let call = |words: &[&str]| {
        let mut command = bed::ferry(None, dir.path());
        command.env("HOME", dir.path()).args(["exec", "all", "-i", "inventory.yml", "--run-dir", "runs"]).args(words);
        run_limited(command, Duration::from_secs(90))
    };
    let root = ["-b", "--become-password-file", "password"];
    assert_eq!(call(&["--", "id", "-un"]).must(0, &[]).out, "node-1 | ops\n");
    assert_eq!(call(&[&root[..], &["--", "id", "-un"]].concat()).must(0, &[]).out, "node-1 | root\n");
    call(&["-b", "--", "id"]).must(2, &["node-1: FAILED: sudo asks for a password and none was given", "-K"]);
    call(&["-i", "inventory.yml", "-e", "ansible_user=nobody-here", "--", "id"]).must(4, &["node-1: UNREACHABLE"]);
    // Both streams, binary, and a code, as root.
    let said = call(&[&root[..], &["--", "sh", "-c", "printf 'out\\001'; echo err >&2; exit 7"]].concat());
    said.must(2, &["node-1: exit code 7", "node-1 ! err"]);
    assert_eq!(said.out, "node-1 | out\\x01\n");
    let lines = (32 << 20) / (LINE.len() + 1);
    let said = call(&[&root[..], &["--", "sh", "-c", &format!("yes '{LINE}' | head -n {lines}")]].concat());
    said.must(0, &[]);
    assert_eq!(said.out.lines().count(), lines);
    assert!(said.out.lines().all(|line| line.strip_prefix("node-1 | ") == Some(LINE)));
    assert!(said.peak_kib < 64 << 10, "{} KiB", said.peak_kib);
}

/// Whoever stops ferry is told the truth: what was under way may go on, and nothing comes after it.
#[test]
fn what_was_under_way_when_ferry_was_stopped_is_named() {
    let bed = bed();
    std::fs::write(
        bed.aside("slow.yml"),
        "- hosts: prod-1\n  gather_facts: false\n  tasks:\n    - shell: echo begun >>/tmp/went; sleep 2; echo end >>/tmp/went\n    - shell: echo next >>/tmp/went\n",
    )
    .unwrap();
    let went = || bed.ferry(&["exec", "prod-1", "-m", "shell", "-a", "cat /tmp/went 2>/dev/null || :"]).out;
    let child = bed::ferry(Some(&bed.up.config), &bed.aside(""))
        .args(["run", "slow.yml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !went().contains("begun") {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not begin");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(99), "{said}");
    assert!(said.contains("a command was under way on prod-1") && !said.contains("nothing of ferry runs"), "{said}");
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!went().contains("next"), "{}", went());
}
