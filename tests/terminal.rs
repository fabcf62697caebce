//! The whole command at a terminal: what a person sees in windows of several sizes, with and without
//! colours and Unicode, while the window changes, and where there is no terminal at all; and the
//! questions that are asked there. A small terminal of the tests' own reads along.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use ferry::sandbox::pretend::Generation;
use serde_json::{Value, json};
use support::bed::{Bed, find_in_files};

/// Runs a command at a pseudo-terminal. On its input: what to run, the window's size, and what to do
/// when the screen has said something. On its output: every piece that came, with its time.
const PTY: &str = r#"
import base64, fcntl, json, os, select, signal, struct, subprocess, sys, termios, time
plan = json.loads(sys.stdin.read())
def resize(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
master, slave = os.openpty()
resize(slave, *plan["size"])
before = termios.tcgetattr(slave)
def child():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
began = time.monotonic()
proc = subprocess.Popen(plan["argv"], stdin=slave, stdout=slave, stderr=slave, env=plan["env"], cwd=plan["cwd"],
                        preexec_fn=child, close_fds=True)
pieces, seen, mark, acts, due, late = [], b"", 0, plan["acts"], None, False
while True:
    if time.monotonic() - began > plan["limit"]:
        late = True
        os.killpg(proc.pid, signal.SIGKILL)
        break
    ready, _, _ = select.select([master], [], [], 0.02)
    if ready:
        data = os.read(master, 65536)
        pieces.append([time.monotonic() - began, base64.b64encode(data).decode(), None])
        seen += data
    elif proc.poll() is not None:
        break
    # What came before a change of the size is read before it.
    if acts and due is None and acts[0]["after"].encode() in seen[mark:]:
        mark, due = len(seen), time.monotonic() + acts[0]["wait"]
    if due is not None and not ready and time.monotonic() >= due:
        act, due = acts.pop(0), None
        if "send" in act:
            os.write(master, act["send"].encode())
        if "size" in act:
            resize(master, *act["size"])
            pieces.append([time.monotonic() - began, "", act["size"]])
echo = termios.tcgetattr(slave) == before
json.dump({"code": proc.wait(), "pieces": pieces, "left": len(acts), "late": late, "as_before": echo}, sys.stdout)
"#;

/// What a run at a terminal was.
struct Shown {
    code: i64,
    /// Everything that the terminal got.
    raw: String,
    screen: Screen,
    /// When live lines were drawn, in seconds.
    frames: Vec<f64>,
}

/// A terminal that understands what ferry may send, and nothing else: the rest is a failed test.
struct Screen {
    rows: usize,
    cols: usize,
    /// Everything that ever stood there, the window is its end.
    lines: Vec<Vec<char>>,
    top: usize,
    row: usize,
    col: usize,
    /// The last column was written: the next character would go to a new row.
    full: bool,
    hidden: bool,
    painted: bool,
    /// Rows that did not fit, and whether that counted then.
    wrapped: Vec<String>,
    strange: Vec<String>,
}

impl Screen {
    fn new(rows: usize, cols: usize) -> Self {
        Self {
            rows,
            cols,
            lines: vec![Vec::new()],
            top: 0,
            row: 0,
            col: 0,
            full: false,
            hidden: false,
            painted: false,
            wrapped: Vec::new(),
            strange: Vec::new(),
        }
    }

    fn resize(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        self.col = self.col.min(cols - 1);
        self.top = self.top.max((self.row + 1).saturating_sub(rows));
    }

    fn down(&mut self) {
        self.row += 1;
        if self.row == self.lines.len() {
            self.lines.push(Vec::new());
        }
        self.top = self.top.max((self.row + 1).saturating_sub(self.rows));
    }

    fn put(&mut self, c: char, strict: bool) {
        let wide = console::measure_text_width(c.encode_utf8(&mut [0; 4]));
        if self.full || self.col + wide > self.cols {
            if strict {
                self.wrapped.push(self.lines[self.row].iter().collect::<String>() + &format!(" then {c:?}"));
            }
            self.down();
            (self.col, self.full) = (0, false);
        }
        let line = &mut self.lines[self.row];
        line.resize(line.len().max(self.col + wide), ' ');
        line[self.col] = c;
        self.col += wide;
        if self.col == self.cols {
            (self.col, self.full) = (self.cols - 1, true);
        }
    }

    /// Takes text. With `strict` a row that does not fit counts.
    fn feed(&mut self, text: &str, strict: bool) {
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => (self.col, self.full) = (0, false),
                '\n' => {
                    self.full = false;
                    self.down();
                }
                '\x1b' => self.sequence(&mut rest),
                c if c.is_control() => self.strange.push(format!("{c:?}")),
                c => self.put(c, strict),
            }
        }
    }

    fn sequence(&mut self, rest: &mut std::str::Chars<'_>) {
        let Some('[') = rest.next() else {
            self.strange.push("an escape that begins no CSI".to_owned());
            return;
        };
        let mut words = String::new();
        let end = loop {
            match rest.next() {
                Some(c) if c.is_ascii_digit() || ";?".contains(c) => words.push(c),
                Some(c) => break c,
                None => break ' ',
            }
        };
        let count = words.parse().unwrap_or(1).max(1);
        self.full = false;
        match (words.as_str(), end) {
            (_, 'm') => self.painted = !["", "0"].contains(&words.as_str()),
            ("" | "0" | "2", 'K') => {
                let from = if words == "2" { 0 } else { self.col };
                self.lines[self.row].truncate(from);
            }
            ("", 'J') => {
                self.lines[self.row].truncate(self.col);
                self.lines.truncate(self.row + 1);
            }
            (_, 'A') => self.row = self.row.saturating_sub(count).max(self.top),
            (_, 'B') => self.row = (self.row + count).min(self.lines.len() - 1),
            (_, 'G') => self.col = count - 1,
            ("?25", 'l') => self.hidden = true,
            ("?25", 'h') => self.hidden = false,
            _ => self.strange.push(format!("CSI {words}{end}")),
        }
    }

    fn text(&self) -> String {
        let rows: Vec<String> =
            self.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect();
        rows.join("\n")
    }
}

/// The signs that live lines begin with; nothing else has them.
const FRAMES: &[char] = &['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// How long after a window's change what was laid out before may still come, in seconds.
const IN_FLIGHT: f64 = 0.8;

#[track_caller]
fn at_terminal(bed: &Bed, size: (usize, usize), env: &[(&str, &str)], args: &[&str], acts: Value) -> Shown {
    let mut environment = serde_json::Map::new();
    for (name, value) in [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", bed.aside("home").to_str().unwrap()),
        ("USER", "operator"),
        ("TERM", "xterm-256color"),
        ("LANG", "C.UTF-8"),
        ("FERRY_CONFIG", bed.up.config.to_str().unwrap()),
        ("FERRY_LINK_PATIENCE", "20"),
    ]
    .iter()
    .chain(env)
    {
        environment.insert((*name).to_owned(), json!(value));
    }
    let mut argv = vec![env!("CARGO_BIN_EXE_ferry")];
    argv.extend(args);
    let plan = json!({
        "size": [size.0, size.1], "argv": argv, "env": environment, "cwd": bed.aside(""), "acts": acts, "limit": 90,
    });
    let mut python =
        Command::new("python3").args(["-c", PTY]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(plan.to_string().as_bytes()).unwrap();
    let out = python.wait_with_output().unwrap();
    let seen: Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut screen = Screen::new(size.0, size.1);
    let (mut raw, mut frames, mut changed, mut cut) = (String::new(), Vec::new(), f64::MIN, Vec::new());
    for piece in seen["pieces"].as_array().unwrap() {
        let at = piece[0].as_f64().unwrap();
        if let Some(new) = piece[2].as_array() {
            let number = |at: usize| usize::try_from(new[at].as_u64().unwrap()).unwrap();
            screen.resize(number(0), number(1));
            changed = at;
        }
        cut.extend(base64::engine::general_purpose::STANDARD.decode(piece[1].as_str().unwrap()).unwrap());
        // A character may be cut between two pieces.
        let whole = match std::str::from_utf8(&cut) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        // So may a sequence.
        let whole = cut[..whole]
            .iter()
            .rposition(|byte| *byte == 0x1b)
            .filter(|from| whole - from < 12)
            .map_or(whole, |from| if cut[from + 1..whole].iter().any(u8::is_ascii_alphabetic) { whole } else { from });
        let text = String::from_utf8(cut.drain(..whole).collect()).unwrap();
        frames.extend(text.chars().filter(|c| FRAMES.contains(c)).map(|_| at));
        screen.feed(&text, at > changed + IN_FLIGHT);
        raw.push_str(&text);
    }
    assert!(cut.is_empty(), "an unfinished end: {cut:?}");
    assert_eq!(seen["late"], false, "not within 90 s: {args:?}\n{}", screen.text());
    assert_eq!(seen["left"], 0, "what was waited for did not come: {args:?}\n{}", screen.text());
    assert_eq!(seen["as_before"], true, "the terminal's settings were not put back: {args:?}");
    Shown { code: seen["code"].as_i64().unwrap(), raw, screen, frames }
}

impl Shown {
    /// What holds at every terminal.
    #[track_caller]
    fn must(&self, code: i64, says: &[&str]) -> &Self {
        let text = self.screen.text();
        assert_eq!(self.code, code, "{text}");
        assert!(self.screen.strange.is_empty(), "{:?}\n{text}", self.screen.strange);
        assert!(self.screen.wrapped.is_empty(), "wider than the window: {:#?}", self.screen.wrapped);
        assert!(!self.screen.hidden && !self.screen.painted, "the cursor is hidden or paints");
        assert_eq!(self.screen.col, 0, "the cursor does not stand at a line's beginning\n{text}");
        assert!(!text.contains(FRAMES), "a live line was left\n{text}");
        for sentence in says {
            // A window may break it anywhere.
            let flat = |text: &str| text.split_whitespace().collect::<String>();
            assert!(flat(&text).contains(&flat(sentence)), "{sentence:?} was not said\n{text}");
        }
        self
    }

    /// The most live lines that were drawn in any second.
    fn busiest(&self) -> usize {
        let within = |from: f64| self.frames.iter().filter(|at| (from..from + 1.0).contains(*at)).count();
        self.frames.iter().map(|at| within(*at)).max().unwrap_or(0)
    }
}

#[test]
fn what_these_tests_forbid_they_see() {
    let seen = |rows, cols, text: &str| {
        let mut screen = Screen::new(rows, cols);
        screen.feed(text, true);
        screen
    };
    let row = "x".repeat(80);
    assert!(seen(24, 80, &format!("{row}\r\n")).wrapped.is_empty());
    assert_eq!(seen(24, 80, &format!("{row}y\r\n")).wrapped.len(), 1);
    assert_eq!(seen(24, 80, &format!("{}日\r\n", "x".repeat(79))).wrapped.len(), 1);
    for (text, strange) in [
        ("a\x07", true),
        ("a\u{9b}2J", true),
        ("\x1b]0;title\x07", true),
        ("\x1b[2J", true),
        ("\x1b[?1049h", true),
        ("\x1bc", true),
        ("\x1b[32mok\x1b[0m\r\n", false),
    ] {
        assert_eq!(!seen(24, 80, text).strange.is_empty(), strange, "{text:?}");
    }
    assert!(seen(24, 80, "\x1b[?25l").hidden && seen(24, 80, "\x1b[31mred").painted);
    let busiest = |frames: &[f64]| {
        let shown = Shown { code: 0, raw: String::new(), screen: Screen::new(1, 1), frames: frames.to_vec() };
        shown.busiest()
    };
    let tenth = |count: u32| (0..count).map(|at| 3.0 + f64::from(at) * 0.09).collect::<Vec<_>>();
    assert_eq!((busiest(&tenth(11)), busiest(&tenth(30)), busiest(&[1.0, 2.0, 3.5])), (11, 12, 1));
}

/// Every command that a person reads: no row wider than the window, and the same said as in a wide one.
#[test]
fn listings_and_commands_fit_their_window() {
    let bed = Bed::new(Generation::G7);
    bed.ferry(&["backup", "prod", "--only", "gravity", "--label", "before the upgrade of tonight"]).must(0, &[]);
    let id = bed.points("prod").into_keys().next().unwrap();
    let long = "printf '%s ' one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen; echo x";
    let commands: &[(&[&str], &[&str])] = &[
        (&["ping"], &["prod-1", "dr-3"]),
        (&["status", "prod"], &["pce-prod", "prod-3", "10.0.0.13"]),
        (&["doctor", "prod"], &["prod-3"]),
        (&["points", "list"], &["verified", "prod yes (in place)"]),
        (&["points", "show", &id], &["In the backup, and what is not", "runtimes"]),
        (&["points", "verify"], &["verified"]),
        (&["points", "check", "prod", "--max-age", "gravity=26h"], &["gravity"]),
        (&["points", "prune", "--check", "--keep-last", "1"], &["newest"]),
        (&["runs", "list"], &["--label before the upgrade"]),
        (&["jobs", "list"], &["no job of ferry is on these hosts"]),
        (&["exec", "prod", "-m", "shell", "-a", long], &["fifteen sixteen x", "3 hosts: 3 done"]),
        (&["exec", "prod", "--gather", "-m", "shell", "-a", long], &["fifteen sixteen x", "(3 hosts): exit code 0"]),
        (&["inventory", "graph"], &["prod-1"]),
        (&["explain", "F411"], &["the host key has changed"]),
        (&["playbooks", "list"], &["migrate"]),
        (&["sandbox", "faults"], &["report-fails"]),
        (&["backup", "prdo"], &["did you mean prod?"]),
    ];
    let mut wrong = Vec::new();
    for (rows, columns) in [(24, 80), (15, 40)] {
        for (words, says) in commands {
            let shown = at_terminal(&bed, (rows, columns), &[], words, json!([]));
            let text = shown.screen.text();
            let flat = |text: &str| text.split_whitespace().collect::<String>();
            for sentence in *says {
                if !flat(&text).contains(&flat(sentence)) {
                    wrong.push(format!("{columns}: ferry {words:?} does not say {sentence:?}\n{text}"));
                }
            }
            if !shown.screen.wrapped.is_empty() || !shown.screen.strange.is_empty() || shown.screen.col != 0 {
                wrong.push(format!(
                    "{columns}: ferry {words:?}: {:#?} {:?}\n{text}",
                    shown.screen.wrapped, shown.screen.strange
                ));
            }
            if words.starts_with(&["points", "list"]) && !text.contains(&id) {
                wrong.push(format!("{columns}: the id is broken\n{text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

const SEALED: &[&str] = &["is sealed: verified", "exit 0: everything asked for was done and verified"];

#[test]
fn a_run_fits_its_window_and_leaves_the_terminal_as_it_was() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:hook-seconds=240"]);
    for size in [(24, 80), (15, 40), (10, 20)] {
        let shown = at_terminal(&bed, size, &[], &["backup", "prod"], json!([]));
        shown.must(0, SEALED);
        println!("{size:?}: {} live lines drawn, at most {} in a second", shown.frames.len(), shown.busiest());
        assert!(shown.frames.len() >= 4, "nothing moved");
        assert!(shown.busiest() <= 10, "{:?}", shown.frames);
        assert!(shown.raw.contains("\x1b[32m"), "no colours");
    }
    // What destroys, in the narrow one: gates, questions that were answered, the list of what stays to be done by hand.
    let words = ["migrate", "prod", "dr", "--only", "gravity", "--confirm", "dr", "--waive", "safety_backup=a test"];
    let shown = at_terminal(&bed, (15, 40), &[], &words, json!([]));
    shown.must(0, &["restored", "by hand", "runtimes", SEALED[1]]);
    assert!(shown.busiest() <= 10, "{:?}", shown.frames);
    let text = shown.screen.text();
    let (_, end) = text.rsplit_once("\n  restored").unwrap();
    assert!(!end.contains("/32]") && !text.contains("ferry-restore-") && !text.contains("ferry-amv-"), "{text}");
}

#[test]
fn a_window_may_shrink_and_grow_in_the_middle() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:hook-seconds=720"]);
    let shown = at_terminal(
        &bed,
        (24, 100),
        &[],
        &["backup", "prod"],
        json!([
            {"after": "Gravity backup", "wait": 1, "size": [15, 40]},
            {"after": "bytes", "wait": 1.2, "size": [10, 20]},
            {"after": "Collect", "wait": 0, "size": [24, 80]},
        ]),
    );
    shown.must(0, SEALED);
    assert!(shown.busiest() <= 10, "{:?}", shown.frames);
}

#[test]
fn a_hook_that_talks_without_end_draws_no_more_than_ten_times_a_second() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:hostile-output=60000"]);
    let shown = at_terminal(&bed, (24, 80), &[], &["backup", "prod"], json!([]));
    shown.must(0, &[SEALED[0], "lines were not shown"]);
    println!("at most {} live lines in a second", shown.busiest());
    assert!(shown.busiest() <= 10, "{:?}", shown.frames);
}

#[test]
fn colours_characters_and_movements_are_used_only_where_the_terminal_has_them() {
    let bed = Bed::new(Generation::G7);
    let plain = at_terminal(&bed, (24, 80), &[("NO_COLOR", "1")], &["backup", "prod"], json!([]));
    plain.must(0, SEALED);
    assert!(!plain.raw.contains("\x1b[3") && !plain.raw.contains("\x1b[1m"), "colours in spite of NO_COLOR");

    let ascii = at_terminal(&bed, (24, 80), &[("LC_ALL", "C")], &["backup", "prod"], json!([]));
    ascii.must(0, SEALED);
    let foreign: String = ascii.raw.chars().filter(|c| !c.is_ascii()).collect();
    assert_eq!(foreign, "", "not ASCII in the locale C");
    let ascii = at_terminal(&bed, (24, 80), &[("LC_ALL", "C")], &["backup", "prdo"], json!([]));
    assert!(ascii.code == 6 && ascii.raw.is_ascii(), "{}", ascii.raw);

    let dumb = at_terminal(&bed, (24, 80), &[("TERM", "dumb")], &["backup", "prod"], json!([]));
    assert_eq!(dumb.code, 0, "{}", dumb.raw);
    assert!(!dumb.raw.contains('\x1b') && !dumb.raw.contains(FRAMES), "{}", dumb.raw);
    assert_eq!(dumb.raw.replace("\r\n", "").find('\r'), None);
}

#[test]
fn without_a_terminal_there_are_plain_lines_with_times() {
    let bed = Bed::new(Generation::G7);
    for locale in ["C", "C.UTF-8"] {
        let said = bed.ferry_with(&["backup", "prod"], &[("LC_ALL", locale), ("TERM", "xterm-256color")]);
        said.must(0, &["is sealed: verified"]);
        assert!(!said.all().contains(['\x1b', '\r']), "{}", said.all());
        assert!(!said.all().contains("ferry-amv-"), "{}", said.all());
        assert!(locale != "C" || said.all().is_ascii(), "{}", said.all());
        let form = |line: &str| {
            let (time, rest) = line.split_once(' ')?;
            time.parse::<jiff::Timestamp>().ok()?;
            rest.split_once(" |").map(|(who, _)| !who.is_empty())
        };
        for line in said.all().lines() {
            assert_eq!(form(line), Some(true), "{line:?}");
        }
    }
    let said = bed.ferry_with(&["backup", "prod"], &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "0")]);
    assert!(!said.all().contains('\x1b'));
}

#[test]
fn ctrl_c_detaches_and_the_last_line_says_how_to_attach() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:hook-seconds=600"]);
    let shown = at_terminal(
        &bed,
        (24, 80),
        &[],
        &["backup", "prod"],
        json!([{"after": "Running", "wait": 0.7, "send": "\u{3}"}]),
    );
    let text = shown.screen.text();
    assert_eq!(shown.code, 8, "{text}");
    assert!(text.contains("detached by Ctrl-C; the job goes on"), "{text}");
    let (_, last) = text.rsplit_once("exit 8").unwrap();
    assert!(last.contains("ferry jobs attach"), "{last}");
    bed.faults(&["prod:hook-seconds=1"]);
    bed.ferry(&["backup", "prod"]).must(0, &["taking over job", "is sealed: verified"]);
    assert_eq!(bed.runs("prod"), 1);
}

/// The name is typed for the cluster, and once more for what AMV's own restore erases; any other word and an empty line
/// refuse, and nothing was called.
#[test]
fn a_restore_is_confirmed_by_the_names_that_are_typed() {
    let bed = Bed::with(ferry::sandbox::Options { amv: true, ..Bed::options() });
    bed.ferry(&["backup", "prod"]).must(0, SEALED);
    let called = || {
        let record = ferry::sandbox::record(&bed.up.dir).unwrap();
        record.iter().filter(|line| line.act == "restore" && line.step == "called").count()
    };
    let pattern = r#"{"pce_amv_restore_question": "existing data*continue"}"#;
    let words = ["restore", "latest", "--from", "prod", "--to", "dr", "--waive", "safety_backup=a test", "-e", pattern];
    let first = |typed: &str| json!({"after": "cluster to be overwritten", "wait": 0.3, "send": typed});
    let second = |typed: &str| json!({"after": "cluster whose AMV data is erased", "wait": 0.3, "send": typed});
    for (acts, says) in [
        (json!([first("prod\n")]), "was given as the cluster's name; it is dr"),
        (json!([first("\n")]), "to be overwritten was not confirmed"),
        (json!([first("dr\n"), second("y\n")]), "AMV's data on dr is erased was not confirmed"),
    ] {
        let shown = at_terminal(&bed, (24, 80), &[], &words, acts.clone());
        let text = shown.screen.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!((shown.code, called()), (7, 0), "{acts}\n{text}");
        assert!(text.contains(says), "{acts}: {says}\n{text}");
    }
    let shown = at_terminal(&bed, (24, 80), &[], &words, json!([first("dr\n"), second("dr\n")]));
    let text = shown.screen.text();
    assert_eq!((shown.code, called()), (0, 2), "{text}");
    // Asked once each, after the table was shown.
    assert_eq!(shown.raw.matches("cluster to be overwritten").count(), 1, "{text}");
}

const PASSPHRASE: &str = "open sesame 42";

/// A copy of the sandbox's key that wants a passphrase.
fn locked_key(bed: &Bed, path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(&bed.up.key, path).unwrap();
    let out = Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", PASSPHRASE, "-f", path.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    std::fs::create_dir_all(bed.aside("home")).unwrap();
}

#[test]
fn a_passphrase_is_asked_for_once_for_all_hosts() {
    let bed = Bed::new(Generation::G7);
    let key = bed.aside("keys/locked");
    locked_key(&bed, &key);
    let inventory = bed.inventory("locked.yml", &[(bed.up.key.to_str().unwrap(), key.to_str().unwrap())]);
    let answer = json!([{"after": "passphrase of", "wait": 0.3, "send": format!("{PASSPHRASE}\n")}]);

    let shown = at_terminal(&bed, (24, 80), &[], &["backup", "prod", "-i", &inventory], answer.clone());
    shown.must(0, SEALED);
    assert_eq!(shown.raw.matches("passphrase of").count(), 1, "{}", shown.raw);
    assert!(!shown.raw.contains(PASSPHRASE), "it was echoed");
    assert_eq!(find_in_files(&bed.up.dir, PASSPHRASE.as_bytes()), None, "it was written down");
    // All six hosts of both clusters.
    let shown = at_terminal(&bed, (24, 80), &[], &["ping", "-i", &inventory], answer.clone());
    assert_eq!((shown.code, shown.raw.matches("passphrase of").count()), (0, 1), "{}", shown.raw);
    // One that does not open the key is told before any host is touched, and not asked for again.
    let wrong = json!([{"after": "passphrase of", "wait": 0.3, "send": "no such sesame\n"}]);
    let shown = at_terminal(&bed, (24, 80), &[], &["ping", "-i", &inventory], wrong);
    shown.must(1, &["does not open: wrong passphrase"]);
    assert_eq!(shown.raw.matches("passphrase of").count(), 1, "{}", shown.raw);

    // The key that everybody has, which no inventory names: asked for before the run begins, where no live
    // line draws over the question.
    locked_key(&bed, &bed.aside("home/.ssh/id_ed25519"));
    let line = format!("    ansible_private_key_file: {}\n", bed.up.key.display());
    let inventory = bed.inventory("usual.yml", &[(&line, "")]);
    let shown = at_terminal(&bed, (24, 80), &[], &["backup", "prod", "-i", &inventory], answer);
    shown.must(0, SEALED);
    assert_eq!(shown.raw.matches("passphrase of").count(), 1, "{}", shown.raw);
    assert!(shown.raw.find("passphrase of") < shown.raw.find("Backup of prod"), "asked in the middle of the run");
}

#[test]
fn without_a_terminal_a_passphrase_comes_from_a_file_or_its_flag_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = Bed::new(Generation::G7);
    let key = bed.aside("keys/locked");
    locked_key(&bed, &key);
    let inventory = bed.inventory("locked.yml", &[(bed.up.key.to_str().unwrap(), key.to_str().unwrap())]);
    let file = bed.aside("passphrase");
    let backup =
        |file: &Path| bed.ferry(&["backup", "prod", "-i", &inventory, "--key-passphrase-file", file.to_str().unwrap()]);
    bed.ferry(&["backup", "prod", "-i", &inventory]).must(1, &["passphrase", "--key-passphrase-file"]);
    bed.ferry(&["ping", "-i", &inventory]).must(1, &["--key-passphrase-file"]);
    backup(&bed.aside("nowhere")).must(1, &["nowhere: No such file"]);
    std::fs::write(&file, format!("{PASSPHRASE}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    backup(&file).must(1, &["others may read", "chmod 600"]);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    backup(&file).must(0, &["is sealed: verified"]).never(PASSPHRASE);
    std::fs::write(&file, "no such sesame\n").unwrap();
    backup(&file).must(1, &["wrong passphrase"]);
    assert_eq!(bed.runs("prod"), 1);
    assert_eq!(find_in_files(&bed.up.dir, PASSPHRASE.as_bytes()), None, "it was written down");
}

/// What tmux showed: every picture of the window that was seen, the last one with what scrolled away.
fn in_tmux(bed: &Bed, columns: usize, rows: usize) -> (Vec<String>, String) {
    let socket = format!("ferry-test-{}-{columns}", std::process::id());
    let tmux = |words: &[&str]| {
        let out =
            Command::new("tmux").args(["-L", &socket, "-f", "/dev/null"]).args(words).env("LANG", "C.UTF-8").output();
        out.expect("tmux is needed, tests/run installs it")
    };
    let line = format!(
        "cd {} && env LANG=C.UTF-8 HOME={} FERRY_CONFIG={} FERRY_LINK_PATIENCE=20 {} backup prod --only gravity; echo over; sleep 60",
        bed.aside("").display(),
        bed.aside("home").display(),
        bed.up.config.display(),
        env!("CARGO_BIN_EXE_ferry")
    );
    let (width, height) = (columns.to_string(), rows.to_string());
    let began = tmux(&["new-session", "-d", "-x", &width, "-y", &height, "sh", "-c", &line]);
    assert!(began.status.success(), "{}", String::from_utf8_lossy(&began.stderr));
    let mut pictures: Vec<String> = Vec::new();
    let since = std::time::Instant::now();
    loop {
        let seen = String::from_utf8_lossy(&tmux(&["capture-pane", "-p"]).stdout).into_owned();
        let over = seen.lines().any(|line| line == "over");
        if pictures.last() != Some(&seen) {
            pictures.push(seen);
        }
        if over || since.elapsed() > std::time::Duration::from_secs(60) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    let all = String::from_utf8_lossy(&tmux(&["capture-pane", "-p", "-S", "-2000"]).stdout).into_owned();
    tmux(&["kill-server"]);
    (pictures, all)
}

#[test]
fn tmux_shows_a_calm_screen_that_says_what_no_terminal_says_as_well() {
    let bed = Bed::new(Generation::G7);
    bed.faults(&["prod:hook-seconds=400"]);
    // The first run is what the others are compared with.
    let plain = bed.ferry(&["backup", "prod", "--only", "gravity"]);
    plain.must(0, &["is sealed: verified"]);
    for (columns, rows) in [(80, 24), (40, 15)] {
        let (pictures, all) = in_tmux(&bed, columns, rows);
        let last = pictures.last().unwrap();
        assert!(last.lines().any(|line| line == "over"), "it did not end\n{last}");
        for picture in &pictures {
            for line in picture.lines() {
                assert!(console::measure_text_width(line) <= columns, "{columns}: {line:?}");
            }
        }
        // What goes on, which step of how many, and what it took last time.
        let live = |words: &str| pictures.iter().any(|picture| picture.contains(FRAMES) && picture.contains(words));
        assert!(live("] Gravity backup  "), "{pictures:#?}");
        assert!(live(" in all") || columns < 80, "{pictures:#?}");
        assert!(live(" of about ") || columns < 80, "{pictures:#?}");
        assert!(!all.contains(FRAMES), "a live line was left\n{all}");
        let flat = |text: &str| text.split_whitespace().collect::<String>();
        for says in [
            "every CRC, length and header",
            "is sealed: verified",
            "last time",
            "exit 0: everything asked for was done and verified",
        ] {
            assert!(flat(&all).contains(&flat(says)), "{columns}: {says:?} is missing\n{all}");
        }
        // The summary is what still stands there in the morning: no step comes behind it, and no journal of Gravity's own.
        let (before, after) = all.split_once("\n  point  ").expect("no summary");
        assert!(before.contains("[18/18]") && !after.contains("/18]"), "{columns}\n{all}");
        for says in
            ["saved", "verified", "not in it", "yours to cover", "took", "last time", "next: ferry points verify"]
        {
            assert!(flat(after).contains(&flat(says)), "{columns}: {says:?} is not in the summary\n{after}");
        }
        assert!(!all.contains(" gravity-cli["), "{all}");
        // Whatever lasts at a terminal is said without one, and the other way round: each step and each proof.
        for says in plain.out.lines().filter_map(|line| line.split_once(" | ")).map(|(_, text)| text.trim()) {
            if says.starts_with('[') || says.starts_with("verified  ") {
                assert!(flat(&all).contains(&flat(says)), "{columns}: {says:?} is missing\n{all}");
            }
        }
        println!("{columns}x{rows}: {} pictures", pictures.len());
    }
}

#[test]
fn init_asks_a_few_questions_at_a_terminal() {
    let bed = Bed::new(Generation::G7);
    std::fs::create_dir_all(bed.aside("home")).unwrap();
    let dir = bed.aside("asked");
    let answers = json!([
        {"after": "Name of the cluster", "wait": 0.1, "send": "mains\n"},
        {"after": "name of a role", "wait": 0.1, "send": "prod\n"},
        {"after": "Its main nodes", "wait": 0.1, "send": "prod-1=192.0.2.11 prod-2\n"},
        {"after": "Who logs in", "wait": 0.1, "send": "\n"},
        {"after": "Private key", "wait": 0.1, "send": "\n"},
        {"after": "Bastion", "wait": 0.1, "send": "ops@bastion.example\n"},
    ]);
    let shown = at_terminal(&bed, (24, 80), &[], &["init", dir.to_str().unwrap()], answers);
    assert_eq!(shown.code, 0, "{}", shown.screen.text());
    let text = std::fs::read_to_string(dir.join("inventory/hosts.yml")).unwrap();
    for says in [
        "ansible_user: \"ops\"",
        "\"prod-1\": { ansible_host: \"192.0.2.11\" }",
        "\"prod-2\": {}",
        "-J ops@bastion.example",
    ] {
        assert!(text.contains(says), "{says}\n{text}");
    }
}
