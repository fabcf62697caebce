//! A `sh` that stays open on a host, as the become user, and runs one script after another: one
//! connection a host, one round trip a task, one sudo.
//!
//! What lives here: the loop on the host, the frames that keep what a script says apart from everything
//! else, and when a shell is given up. What does not: how it is opened (sudo), which host it is for
//! (modules). Jobs and archives have channels of their own; nothing waits behind them.
//!
//! The frames. Each script runs in a subshell with its input from /dev/null and its two outputs in pipes of its own,
//! which two `cat` copy to the channel. Only when both have seen the end, which means that nobody holds those pipes any
//! more, the loop says the script's nonce and its exit code, on standard output and on standard error. So
//! bytes of any kind may pass, a last line needs no line feed, a process that a script left behind cannot speak into
//! the next one's output (as over `ssh`, its output is waited for), and neither stream can overtake
//! the other's end. On a terminal (sudo with requiretty) both are one stream, with one end. The nonce is new for each script and on the host it is known to the loop only.
//!
//! A script is sent by its exact number of lines: one that was cut runs nothing. The loop ends with its input,
//! so with the connection, and leaves nothing.
//!
//! One script may be sent ahead while the one before it runs ([`Ahead`]): the loop runs it only if that one ended with 0 and
//! somebody still hears of it. So two tasks take one round trip where a link is long. Which script may be sent so is for
//! the caller to know. That somebody hears is seen by the pipes that lead to sshd, which break with the connection. Where that could not be seen the loop says
//! that it has not run it, and it is asked for once more in the usual way: behind a script that took longer than a moment (a
//! link that swallows everything is believed by the host for hours), and where sudo has put a terminal of its own between
//! (`use_pty`: it reads on when nobody is there).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Child, Exit, Piece, Said, Session, gather, quote, too_long};
use crate::failure::{Failure, Kind};

/// What runs one script: `_n` is its nonce, `_s` the script, which sees none of the loop's names. Redirections are made by `exec` in the subshell itself: busybox
/// undoes those of a group before it runs the trap of an exit.
const RUN: &str = r#"exec 3>&1 4>&2
_nl='
'
_run() {
  _r=$(
    exec 5>&1
    {
      {
        (
          exec </dev/null 2>&1 1>&6 3>&- 4>&- 5>&- 6>&-
          eval "unset -f _run _up; unset _n _m _k _g _s _l _r _t _b _x _nl; $_s"
        )
        echo $? >&5
      } | cat >&4 5>&- 6>&-
    } 6>&1 | cat >&3 5>&-
  )
  printf '%s %s\n' "$_n" "${_r:-?}" || exit 96
  [ -t 2 ] || printf '%s %s\n' "$_n" "${_r:-?}" >&2
}
"#;

/// The loop. A request is the nonce, how the script is sent, and how many lines it has (`l`), or how many bytes (`b`): many
/// lines are slow to read one by one. `a` behind them: only if the script before ended with 0, and a moment ago; the answer `x` says
/// that it was not run. The first script comes with the loop itself, in one breath: what follows a script
/// that is read by `head` could be lost, for busybox's reads ahead.
const LOOP: &str = r#"_up() {
  _t=
  { read -r _t _x </proc/uptime; } 2>/dev/null
  _t=${_t%%.*}
}
_up
_b=$_t
_run
while read -r _n _m _k _g; do
  _s=
  if [ "$_m" = b ]; then
    _s=$(head -c "$_k"; echo x)
    _s=${_s%x}
    [ ${#_s} -eq "$_k" ] || exit 97
  else
    while [ "$_k" -gt 0 ]; do
      IFS= read -r _l || exit 97
      _s=$_s$_l$_nl
      _k=$((_k - 1))
    done
  fi
  _up
  if [ "$_g" = a ]; then
    [ "$_r" = 0 ] || [ "$_r" = x ] || exit 95
    if [ "$_r" = x ] || [ -z "$_t" ] || [ $((_t - _b)) -gt 1 ] || { true </dev/tty; } 2>/dev/null; then
      _r=x
      printf '%s x\n' "$_n" || exit 96
      [ -t 2 ] || printf '%s x\n' "$_n" >&2
      continue
    fi
  fi
  _b=$_t
  _run
done
exit 0"#;

/// So much a script that was sent ahead may say before the one before it has ended on both streams, in bytes.
const MOST_EARLY: usize = 16 << 20;

/// From so many bytes on a script is sent by its length.
const LONG: usize = 4 << 10;

/// One host's shell, opened when it is first needed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shell {
    slot: Arc<Mutex<Option<Open>>>,
    /// The next script is the first and likely the last.
    alone: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Open {
    session: Session,
    child: Child,
    /// What was sent ahead and is not begun here yet: its nonce and its text.
    ahead: Option<(String, String)>,
    /// What that one has said already, behind the end of the one before it.
    early: VecDeque<Piece>,
    early_bytes: usize,
}

/// The script that follows for certain if the one before it ends with 0: the same text, in the same shell, and nothing between.
pub type Ahead = Option<String>;

impl Shell {
    /// A shell of which one script is expected: that runs on a channel of its own, without the loop and the processes that keep
    /// its output apart from the next one's. A second script opens the loop all the same.
    pub fn for_one() -> Self {
        Self { slot: Arc::default(), alone: Arc::new(AtomicBool::new(true)) }
    }

    /// Runs `script` in the shell of `session`, which is opened when it is not yet. The script's input is empty. While
    /// another script runs in the shell, this one gets a channel of its own.
    ///
    /// # Errors
    /// As [`Session::open_root`].
    pub async fn start(&self, session: &Session, script: &str) -> Result<Child, Failure> {
        self.start_before(session, script, None).await
    }

    /// As [`Shell::start`], and sends ahead what follows.
    ///
    /// # Errors
    /// As [`Session::open_root`], and [`Kind::Unknown`] where something else follows than was sent ahead.
    pub async fn start_before(&self, session: &Session, script: &str, ahead: Ahead) -> Result<Child, Failure> {
        // A scripted host says what its script says to the exchange that its tests know.
        let alone = self.alone.swap(false, Ordering::Relaxed);
        let free = if alone || matches!(session, Session::Fake(_)) {
            None
        } else {
            Arc::clone(&self.slot).try_lock_owned().ok()
        };
        let Some(mut slot) = free else {
            let mut child = session.open_root(script).await?;
            child.close_input().await;
            return Ok(child);
        };
        if let Some((sent, text)) = slot.as_mut().and_then(|open| open.ahead.take()) {
            if text != script || !slot.as_ref().is_some_and(|open| open.session.same(session)) {
                *slot = None;
                return Err(Failure::new(Kind::Unknown, "a command was sent ahead, and whether it ran is not known")
                    .on(session.host())
                    .why("the connection was lost before its answer came, or another command follows"));
            }
            return Ok(Task::begin(slot, &sent, ahead, script, true).await);
        }
        let nonce = new_nonce();
        let request = request(&nonce, script, false);
        // A connection that was made anew has no shell yet.
        if slot.as_ref().is_some_and(|open| !open.session.same(session)) {
            *slot = None;
        }
        let sent = match slot.as_mut() {
            Some(open) => open.child.write(request.as_bytes()).await.is_ok(),
            None => false,
        };
        if !sent {
            // Nothing of a request runs before all of it is there: it may be sent once more, to a new shell.
            *slot = None;
            let first = quote(script.trim_end_matches('\n'))
                .map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()))?;
            let child = session.open_root(&format!("{RUN}_n={nonce}\n_s={first}\n{LOOP}")).await?;
            *slot = Some(Open { session: session.clone(), child, ahead: None, early: VecDeque::new(), early_bytes: 0 });
        }
        Ok(Task::begin(slot, &nonce, ahead, script, false).await)
    }

    /// Runs a short script and gathers what it says, at most [`super::SHORT`] bytes of each stream.
    ///
    /// # Errors
    /// As [`Shell::start`], and [`Kind::Unreachable`] when it takes longer than
    /// `patience`.
    pub async fn run(&self, session: &Session, script: &str, patience: Duration) -> Result<Said, Failure> {
        let work = async {
            let child = self.start(session, script).await?;
            gather(session.host(), child, patience).await
        };
        match tokio::time::timeout(patience + Duration::from_secs(60), work).await {
            Ok(said) => said,
            Err(_) => Err(too_long(session.host(), patience)),
        }
    }
}

fn new_nonce() -> String {
    format!("@@{:032x}", rand::random::<u128>())
}

/// What is written to the loop for one script.
fn request(nonce: &str, script: &str, ahead: bool) -> String {
    let script = script.trim_end_matches('\n');
    let guard = if ahead { " a" } else { "" };
    if script.len() >= LONG {
        format!("{nonce} b {}{guard}\n{script}", script.len())
    } else {
        format!("{nonce} l {}{guard}\n{script}\n", script.split('\n').count())
    }
}

/// A script that runs in a shell. When it is dropped before its end was seen, the shell is given up.
#[derive(Debug)]
pub struct Task {
    slot: OwnedMutexGuard<Option<Open>>,
    /// The ends of standard output and standard error.
    ends: [End; 2],
    /// Both outputs come as the first.
    merged: bool,
    ready: VecDeque<Piece>,
    lost: Option<Exit>,
    /// It was sent ahead: its text, for when the host did not run it.
    text: Option<String>,
    /// What was sent behind it before that was known: the host says that it did not run this one either.
    refused: Option<[End; 2]>,
}

impl Task {
    /// A script that was sent under `nonce`, `early` if it was sent ahead; sends ahead what follows it.
    async fn begin(
        mut slot: OwnedMutexGuard<Option<Open>>,
        nonce: &str,
        ahead: Ahead,
        script: &str,
        sent_ahead: bool,
    ) -> Child {
        let ends = [End::new(nonce), End::new(nonce)];
        let merged = slot.as_ref().is_some_and(|open| open.child.has_terminal());
        // What is read by `head` may take with it what stands behind it.
        let ahead = ahead.filter(|text| !merged && script.len() < LONG && text.len() < LONG);
        if let (Some(open), Some(text)) = (slot.as_mut(), ahead) {
            let nonce = new_nonce();
            // A link that is gone shows in the script that runs; of a request that was cut nothing runs.
            if open.child.write(request(&nonce, &text, true).as_bytes()).await.is_ok() {
                open.ahead = Some((nonce, text));
            }
        }
        let early = slot.as_mut().map(|open| {
            open.early_bytes = 0;
            std::mem::take(&mut open.early)
        });
        let text = sent_ahead.then(|| script.to_owned());
        let mut task = Self { slot, ends, merged, ready: VecDeque::new(), lost: None, text, refused: None };
        for piece in early.into_iter().flatten() {
            task.hear(piece);
        }
        Child::Shell(Box::new(task))
    }

    /// Takes in what the loop said; what is behind this script's end is the next one's.
    fn hear(&mut self, piece: Piece) {
        let Some(open) = self.slot.as_mut() else { return };
        let mut piece = piece;
        if let Some([out, err]) = &mut self.refused {
            let mut nothing = VecDeque::new();
            piece = match piece {
                Piece::Out(bytes) => Piece::Out(out.pass(bytes, Piece::Out, &mut nothing)),
                Piece::Err(bytes) => Piece::Err(err.pass(bytes, Piece::Err, &mut nothing)),
            };
            let wrong = [out, err].iter().any(|end| end.code.as_deref().is_some_and(|code| code != REFUSED));
            if wrong || !nothing.is_empty() {
                self.lost = Some(Exit::Lost("the host's answers are not in order".to_owned()));
                return;
            }
        }
        let [out, err] = &mut self.ends;
        let (end, bytes, wrap): (_, _, fn(Bytes) -> Piece) = match piece {
            Piece::Out(bytes) => (out, bytes, Piece::Out),
            Piece::Err(bytes) => (err, bytes, Piece::Err),
        };
        let behind = end.take(bytes, wrap, open.ahead.is_some(), &mut self.ready);
        if !behind.is_empty() {
            open.early_bytes += behind.len();
            open.early.push_back(wrap(behind));
        }
        // Both ends come in one breath: a host that goes on and on between them is not heard any more.
        if open.early_bytes > MOST_EARLY {
            self.lost = Some(Exit::Lost("the script's end was not seen on both streams".to_owned()));
        }
    }

    /// The host has not run what was sent ahead.
    fn is_refused(&self) -> bool {
        self.text.is_some() && self.ends.iter().all(|end| end.code.as_deref() == Some(REFUSED))
    }

    /// Sends once more what was not run, and what was sent behind it.
    async fn ask_again(&mut self) {
        let (Some(text), Some(open)) = (self.text.take(), self.slot.as_mut()) else { return };
        // Whoever is stopped in the middle of it knows nothing of what was sent.
        self.lost = Some(Exit::Lost("the script was being sent".to_owned()));
        let (nonce, next) = (new_nonce(), new_nonce());
        let mut both = request(&nonce, &text, false);
        self.ends = [End::new(&nonce), End::new(&nonce)];
        if let Some((sent, behind)) = open.ahead.take() {
            self.refused = Some([End::new(&sent), End::new(&sent)]);
            both.push_str(&request(&next, &behind, true));
            open.ahead = Some((next, behind));
        }
        let sent = open.child.write(both.as_bytes()).await;
        let early = std::mem::take(&mut open.early);
        self.lost = sent.err().map(|failure| Exit::Lost(failure.what));
        for piece in early {
            self.hear(piece);
        }
    }

    /// Something was sent behind this script and waits for its end.
    fn has_ahead(&self) -> bool {
        self.slot.as_ref().is_some_and(|open| open.ahead.is_some())
    }

    pub(super) async fn next(&mut self) -> Option<Piece> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            if self.lost.is_none() && self.is_refused() {
                Box::pin(self.ask_again()).await;
                continue;
            }
            if self.lost.is_some() || self.has_ended() {
                return None;
            }
            let open = self.slot.as_mut()?;
            match Box::pin(open.child.next()).await {
                Some(piece) => self.hear(piece),
                None => {
                    // The shell ended under the script: the connection is gone, or the script killed its parent.
                    let mut why = match Box::pin(open.child.exit()).await {
                        Exit::Lost(why) => why,
                        other => format!("the shell that the script ran in ended ({other})"),
                    };
                    if open.ahead.is_some() {
                        why.push_str("; the next command was sent already, and ran if this one ended with 0");
                    }
                    self.lost = Some(Exit::Lost(why));
                    let [out, err] = &mut self.ends;
                    out.rest(Piece::Out, &mut self.ready);
                    err.rest(Piece::Err, &mut self.ready);
                }
            }
        }
    }

    fn has_ended(&self) -> bool {
        let count = if self.merged { 1 } else { 2 };
        self.ends.iter().take(count).all(|end| end.code.is_some())
    }

    pub(super) fn exit_seen(&self) -> Exit {
        if let Some(exit) = &self.lost {
            return exit.clone();
        }
        let codes = self.ends.each_ref().map(|end| end.code.as_deref());
        match if self.merged { [codes[0], codes[0]] } else { codes } {
            [Some(out), Some(err)] if out == err => match out.parse() {
                Ok(code) => Exit::Code(code),
                Err(_) => Exit::Lost("the shell did not learn how the script ended".to_owned()),
            },
            _ => Exit::Lost("the script's end was not seen".to_owned()),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let ended = self.lost.is_none() && self.has_ended();
        // The loop has ended where what was sent ahead was not to run.
        let over = self.has_ahead() && self.exit_seen() != Exit::Code(0);
        if !ended || over {
            *self.slot = None;
        }
    }
}

/// Looks for the end of one stream: the nonce, a blank, the exit code, a line feed; and nothing behind them, but where a script was
/// sent ahead: then what that one says.
#[derive(Debug)]
struct End {
    nonce: Vec<u8>,
    /// What came and may be the beginning of the end.
    held: Vec<u8>,
    code: Option<String>,
}

/// Said in the place of an exit code: the script was not run.
const REFUSED: &str = "x";

/// The longest that can follow the nonce: a blank, a code, a line feed.
const TRAILER: usize = 8;

impl End {
    fn new(nonce: &str) -> Self {
        Self { nonce: nonce.as_bytes().to_vec(), held: Vec::new(), code: None }
    }

    /// Takes in a piece in front of what is heard otherwise: all of it, when the end was seen before.
    fn pass(&mut self, bytes: Bytes, wrap: fn(Bytes) -> Piece, ready: &mut VecDeque<Piece>) -> Bytes {
        if self.code.is_some() || bytes.is_empty() { bytes } else { self.take(bytes, wrap, true, ready) }
    }

    /// Takes in a piece, and returns what stands behind the end where something `follows`.
    fn take(&mut self, bytes: Bytes, wrap: fn(Bytes) -> Piece, follows: bool, ready: &mut VecDeque<Piece>) -> Bytes {
        if self.code.is_some() {
            // Nobody but the loop can speak here. Where it waits for us, a host that does so all the same is not heard.
            return if follows { bytes } else { Bytes::new() };
        }
        let bytes = if self.held.is_empty() {
            bytes
        } else {
            let mut joined = std::mem::take(&mut self.held);
            joined.extend_from_slice(&bytes);
            Bytes::from(joined)
        };
        // Where nothing follows the end, it can only begin this far from the last byte.
        let from = if follows { 0 } else { bytes.len().saturating_sub(self.nonce.len() + TRAILER) };
        let Some(at) = self.begins(&bytes, from) else {
            ready.push_back(wrap(bytes));
            return Bytes::new();
        };
        let tail = bytes.slice(at..);
        let line = if follows { tail.iter().position(|byte| *byte == b'\n') } else { tail.len().checked_sub(1) };
        let code = line
            .filter(|at| tail.get(*at) == Some(&b'\n'))
            .and_then(|at| Some((at, tail.get(self.nonce.len() + 1..at)?)));
        let behind = match code {
            Some((line, code)) => {
                self.code = Some(String::from_utf8_lossy(code).into_owned());
                tail.slice(line + 1..)
            }
            None => {
                self.held = tail.to_vec();
                Bytes::new()
            }
        };
        if at > 0 {
            ready.push_back(wrap(bytes.slice(..at)));
        }
        behind
    }

    /// Where the end begins, or may begin when more has come.
    fn begins(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let first = self.nonce.first();
        let mut at = from;
        loop {
            let tail = bytes.get(at..)?;
            let here = tail.iter().position(|byte| Some(byte) == first)?;
            let tail = tail.get(here..)?;
            let known = tail.len().min(self.nonce.len());
            if tail.get(..known) == self.nonce.get(..known) {
                return Some(at + here);
            }
            at += here + 1;
        }
    }

    /// What was held back and turned out to be no end.
    fn rest(&mut self, wrap: fn(Bytes) -> Piece, ready: &mut VecDeque<Piece>) {
        if !self.held.is_empty() {
            ready.push_back(wrap(Bytes::from(std::mem::take(&mut self.held))));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::remote::local::LocalSession;
    use crate::remote::sudo::Become;

    /// This machine, with `words` for the `/bin/sh` that a stand-in for sudo starts.
    fn with(words: &str, yard: &tempfile::TempDir) -> Session {
        use std::os::unix::fs::PermissionsExt as _;
        let sudo = yard.path().join("sudo");
        let text = format!("#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nexec {words} \"$@\"\n");
        std::fs::write(&sudo, text).unwrap();
        std::fs::set_permissions(&sudo, std::fs::Permissions::from_mode(0o755)).unwrap();
        let plan = Become { exe: sudo.display().to_string(), ..Become::root(None) };
        Session::Local(LocalSession::new("here", plan))
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_confuses_a_shell_that_stays_open() {
        let long = format!("printf %s {}\nprintf ' %s' end", "x".repeat(20_000));
        let table: &[(&str, &str, &str, Exit)] = &[
            ("echo hello", "hello\n", "", Exit::Code(0)),
            ("printf 'no line feed'", "no line feed", "", Exit::Code(0)),
            ("printf 'a\\000\\377@@b'; printf '@@' >&2; exit 3", "a\0\u{fffd}@@b", "@@", Exit::Code(3)),
            ("cat; read -r x; echo \"<$x>\"", "<>\n", "", Exit::Code(0)),
            ("cd /; umask 0; x=leaked; set -e; exec 2>/dev/null; false; echo not reached", "", "", Exit::Code(1)),
            ("printf %s \"$x\"; umask | tail -c 3; pwd | grep -c '^/$'", "22\n0\n", "", Exit::Code(1)),
            ("exec false", "", "", Exit::Code(1)),
            ("(sleep 0.3; echo late) & echo now", "now\nlate\n", "", Exit::Code(0)),
            ("trap 'echo bye' EXIT; exit 4", "bye\n", "", Exit::Code(4)),
            ("exec >/dev/null 2>&1; echo nobody hears this", "", "", Exit::Code(0)),
            ("cat <<'E'\n  two\nlines $x\nE\n", "  two\nlines $x\n", "", Exit::Code(0)),
            ("kill -9 $(exec sh -c 'echo $PPID')", "", "*", Exit::Code(137)),
            (
                "i=0; while [ $i -lt 300 ]; do echo $i; echo $i >&2; i=$((i+1)); done | tail -n 1",
                "299\n",
                "*",
                Exit::Code(0),
            ),
            (&long, "*", "", Exit::Code(0)),
            ("echo 5 >&5 || echo closed", "closed\n", "*", Exit::Code(0)),
            // Neither names nor functions of the loop, nor of what began it, are the script's.
            ("set | grep -c '@@[0-9a-f]' ; echo \"<$s$n$k$l$r$t$b$x>\"; run; _run; up; _up", "*", "*", Exit::Code(127)),
            ("set | grep '@@[0-9a-f]'; echo \"<$s$n$k$l$r$t$b$x$_n$_s$_r$_t>\"", "<>\n", "", Exit::Code(0)),
            ("echo last", "last\n", "", Exit::Code(0)),
        ];
        for words in ["dash", "bash --posix", "bash", "busybox sh"] {
            let yard = tempfile::tempdir().unwrap();
            let session = with(words, &yard);
            let shell = Shell::default();
            for (script, out, err, exit) in table {
                let said = shell.run(&session, script, PATIENCE).await.unwrap();
                let case = format!("{words}: {}", script.chars().take(60).collect::<String>());
                let umask = script.contains("umask |");
                assert_eq!(said.exit, *exit, "{case}: {}", said.err_text());
                if *out != "*" {
                    let seen = String::from_utf8_lossy(&said.out).into_owned();
                    assert!(seen == *out || umask && seen.ends_with("22\n0\n"), "{case}: {seen:?}");
                }
                if *err != "*" {
                    assert_eq!(String::from_utf8_lossy(&said.err), *err, "{case}");
                }
            }
            assert!(shell.slot.lock().await.is_some(), "{words}: one shell ran them all");
            // One that expects a single script runs the first beside it, and the others in it.
            let shell = Shell::for_one();
            for (at, (script, out, _, exit)) in table.iter().enumerate() {
                let said = shell.run(&session, script, PATIENCE).await.unwrap();
                assert_eq!(said.exit, *exit, "{words}: {script}: {}", said.err_text());
                assert!(
                    *out == "*" || script.contains("umask") || String::from_utf8_lossy(&said.out) == *out,
                    "{script}"
                );
                assert_eq!(shell.slot.lock().await.is_some(), at > 0, "{words}: {script}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_megabyte_of_any_bytes_passes_whole() {
        let yard = tempfile::tempdir().unwrap();
        let session = with("dash", &yard);
        let shell = Shell::default();
        let bytes: Vec<u8> = (0..1_048_577_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let file = yard.path().join("bytes");
        std::fs::write(&file, &bytes).unwrap();
        for _ in 0..3 {
            let said = shell.run(&session, &format!("cat {f}; cat {f} >&2", f = file.display()), PATIENCE).await;
            let said = said.unwrap();
            assert_eq!(said.exit, Exit::Code(0));
            assert!(said.out == bytes && said.err == bytes, "{} {}", said.out.len(), said.err.len());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_shell_that_was_lost_is_opened_anew_and_a_busy_one_is_not_waited_for() {
        let yard = tempfile::tempdir().unwrap();
        let session = with("dash", &yard);
        let shell = Shell::default();
        // The script's parent is the shell itself.
        let said = shell.run(&session, "echo before; kill -9 $$; sleep 1", PATIENCE).await.unwrap();
        assert!(matches!(said.exit, Exit::Lost(_)), "{:?}", said.exit);
        let said = shell.run(&session, "echo again", PATIENCE).await.unwrap();
        assert_eq!((said.text().as_str(), said.exit), ("again", Exit::Code(0)));
        // One that is dropped in the middle is given up: its output cannot reach the next.
        let mut task = shell.start(&session, "echo first; sleep 0.5; echo stray").await.unwrap();
        assert!(task.next().await.is_some());
        let beside = shell.run(&session, "echo beside", PATIENCE).await.unwrap();
        assert_eq!(beside.text(), "beside");
        drop(task);
        let said = shell.run(&session, "sleep 0.7; echo own", PATIENCE).await.unwrap();
        assert_eq!(said.text(), "own");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_sent_ahead_runs_only_behind_a_success() {
        for words in ["dash", "bash --posix", "busybox sh"] {
            let yard = tempfile::tempdir().unwrap();
            let session = with(words, &yard);
            let shell = Shell::default();
            let note = yard.path().join("ran");
            let ran = || std::fs::read_to_string(&note).unwrap_or_default();
            let script = |at: usize, code: u8| format!("echo {at} >>{}; echo {at}; exit {code}", note.display());
            let run = async |at: usize, code: u8, ahead: Option<(usize, u8)>| {
                let ahead = ahead.map(|(at, code)| script(at, code));
                let child = shell.start_before(&session, &script(at, code), ahead).await?;
                gather("here", child, PATIENCE).await
            };
            for at in 0..9 {
                let said = run(at, 0, Some((at + 1, 0))).await.unwrap();
                assert_eq!((said.text(), said.exit), (at.to_string(), Exit::Code(0)), "{words}");
            }
            let said = run(9, 3, None).await;
            assert!(matches!(&said, Err(failure) if failure.kind == Kind::Unknown), "another one follows: {said:?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
            std::fs::write(&note, "").unwrap();
            let said = run(1, 3, Some((2, 0))).await.unwrap();
            assert_eq!((said.text().as_str(), said.exit), ("1", Exit::Code(3)), "{words}");
            assert_eq!(ran(), "1\n", "{words}: what was sent behind a failure ran");
            // The same is asked for all the same (its failure was ignored): in a shell of its own, once.
            let said = run(2, 0, Some((3, 0))).await.unwrap();
            assert_eq!((said.text().as_str(), said.exit), ("2", Exit::Code(0)), "{words}");
            let said = run(3, 0, None).await.unwrap();
            assert_eq!((said.text().as_str(), ran().as_str()), ("3", "1\n2\n3\n"), "{words}");
            // Nobody hears of the first any more: the second does not run.
            std::fs::write(&note, "").unwrap();
            let slow = format!("sleep 1.5; {}", script(4, 0));
            let child = shell.start_before(&session, &slow, Some(script(5, 0))).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(child);
            tokio::time::sleep(Duration::from_millis(2000)).await;
            assert!(!ran().contains('5'), "{words}: {}", ran());
        }
    }

    /// Nobody may hear any more when a script took its time, and a host believes a dead link for long.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_sent_ahead_of_a_slow_script_is_asked_for_again() {
        let mut all = tokio::task::JoinSet::new();
        for words in ["dash", "bash --posix", "busybox sh"] {
            all.spawn(async move {
                let yard = tempfile::tempdir().unwrap();
                let session = with(words, &yard);
                let shell = Shell::default();
                let note = yard.path().join("ran");
                let ran = || std::fs::read_to_string(&note).unwrap_or_default();
                let script = |at: usize| format!("echo {at} >>{}; echo {at}; echo e{at} >&2", note.display());
                let slow = format!("{}; sleep 2.6", script(1));
                let first = shell.start_before(&session, &slow, Some(script(2))).await.unwrap();
                assert_eq!(gather("here", first, PATIENCE).await.unwrap().text(), "1", "{words}");
                tokio::time::sleep(Duration::from_millis(200)).await;
                assert_eq!(ran(), "1\n", "{words}: it ran although nobody may hear it");
                for at in 2..6 {
                    let child = shell.start_before(&session, &script(at), (at < 5).then(|| script(at + 1))).await;
                    let said = gather("here", child.unwrap(), PATIENCE).await.unwrap();
                    let all = (said.text(), said.err_text(), said.exit);
                    assert_eq!(all, (at.to_string(), format!("e{at}"), Exit::Code(0)), "{words}");
                }
                assert_eq!(ran(), "1\n2\n3\n4\n5\n", "{words}");
                assert!(shell.slot.lock().await.is_some(), "{words}: one shell ran them all");
            });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
    }

    /// What a script that was sent ahead says may stand in one piece with the end of the one before it.
    #[test]
    fn what_the_next_one_says_is_the_next_ones_however_the_bytes_are_cut() {
        let whole = b"some @@ output@@00112233 0\nthe next @@one\n@@44556677 3\n";
        for cut in 0..whole.len() {
            for second in cut..whole.len() {
                let mut ends = [End::new("@@00112233"), End::new("@@44556677")];
                let mut said = [VecDeque::new(), VecDeque::new()];
                for part in [&whole[..cut], &whole[cut..second], &whole[second..]] {
                    let behind = ends[0].take(Bytes::copy_from_slice(part), Piece::Out, true, &mut said[0]);
                    if !behind.is_empty() {
                        let left = ends[1].take(behind, Piece::Out, false, &mut said[1]);
                        assert!(left.is_empty());
                    }
                }
                let text = |pieces: &VecDeque<Piece>| -> Vec<u8> {
                    pieces.iter().flat_map(|(Piece::Out(bytes) | Piece::Err(bytes))| bytes.to_vec()).collect()
                };
                assert_eq!(ends.each_ref().map(|end| end.code.as_deref()), [Some("0"), Some("3")], "{cut} {second}");
                assert_eq!(text(&said[0]), b"some @@ output", "{cut} {second}");
                assert_eq!(text(&said[1]), b"the next @@one\n", "{cut} {second}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn scripts_that_are_sent_ahead_and_quick_keep_their_own_words() {
        for words in ["dash", "bash --posix", "busybox sh"] {
            let yard = tempfile::tempdir().unwrap();
            let session = with(words, &yard);
            let shell = Shell::default();
            let script = |at: usize| format!("echo out {at}; echo err {at} >&2");
            for at in 0..60 {
                let ahead = (at < 59).then(|| script(at + 1));
                let child = shell.start_before(&session, &script(at), ahead).await.unwrap();
                // Slow to hear: the next one is through by then.
                if at % 3 == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                let said = gather("here", child, PATIENCE).await.unwrap();
                assert_eq!((said.text(), said.exit.clone()), (format!("out {at}"), Exit::Code(0)), "{words}");
                assert_eq!(said.err_text().trim(), format!("err {at}"), "{words}");
            }
        }
    }

    #[test]
    fn the_end_is_found_however_the_bytes_are_cut() {
        let whole = b"some @@ output @@0000 without a line feed@@00112233 17\n";
        for cut in 0..whole.len() {
            for second in cut..whole.len() {
                let mut end = End::new("@@00112233");
                let mut ready = VecDeque::new();
                for part in [&whole[..cut], &whole[cut..second], &whole[second..]] {
                    let behind = end.take(Bytes::copy_from_slice(part), Piece::Out, false, &mut ready);
                    assert!(behind.is_empty());
                }
                let said: Vec<u8> = ready
                    .iter()
                    .flat_map(|piece| match piece {
                        Piece::Out(bytes) | Piece::Err(bytes) => bytes.to_vec(),
                    })
                    .collect();
                assert_eq!(end.code.as_deref(), Some("17"), "{cut} {second}");
                assert_eq!(said, b"some @@ output @@0000 without a line feed", "{cut} {second}");
            }
        }
    }
}
