//! Becoming root (or another user) with `sudo`, by nonces.
//!
//! What lives here: the exchange that gets a script to a shell of the become user, and the
//! telling apart of sudo's refusals. What does not: where the password comes from (cli, inventory).
//!
//! The exchange. One channel runs `env LC_ALL=C sudo -k -S -p NONCE -- /bin/sh -c BOOTSTRAP`. sudo prints the
//! nonce when it wants a password, and only then the password is sent, once; a second nonce means that it was
//! wrong. The bootstrap prints a second nonce from the other side, and only after that the script is
//! sent: so a password can never be read as a command, nor a command as a password. `-k` makes the
//! answer the same whether or not a ticket is cached. The bootstrap reads the script by its exact
//! length before anything of it runs: a cut script runs nothing. No PTY, unless sudo refuses without one (requiretty):
//! on a PTY standard error is not told apart and input has no end.
//!
//! What sudo says of a refusal is in the language of the login, and is our only way to tell some of them apart: with
//! `LC_ALL=C` it is one that we know. sudo-rs writes a prompt of its own around the nonce, `[sudo: NONCE] Password:`, and
//! asks everything else that PAM wants to know in the same way: by the words behind a second nonce a
//! password whose time is over is told from a wrong one.
//!
//! Where no password was given nothing can be asked for: sudo gets `-n` instead, which never reads its input, and the
//! script is sent at once, which saves a round trip. What the script says then follows the ready nonce in the
//! same breath, on both streams. When that way ends in anything but a clear answer (a login shell ate part of the
//! script, a refusal in another language), the waiting way is gone once: nothing has run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::{Child, Command, Exit, Piece, Session, quote};
use crate::failure::{Failure, Kind};
use crate::secret::{ExposeSecret as _, SecretString, clean};

/// How long sudo may take to say something, in all. PAM's delay after a wrong password is 2 s, a
/// directory server that does not answer takes up to 15 s.
const PATIENCE: Duration = Duration::from_secs(30);

const UNTRIED: u8 = 0;
const PROVEN: u8 = 1;
const REFUSED: u8 = 2;

/// A password for sudo, shared by all hosts that it was given for. After one host has refused it, it is
/// sent to no other: three hosts with a typing error would be three steps to a locked account.
#[derive(Debug)]
pub struct Password {
    value: SecretString,
    state: AtomicU8,
    first: Arc<tokio::sync::Mutex<()>>,
}

impl Password {
    /// A password that was not tried yet.
    pub fn new(value: SecretString) -> Arc<Self> {
        Arc::new(Self { value, state: AtomicU8::new(UNTRIED), first: Arc::default() })
    }
}

/// Who we become, and how (Ansible's `become_*`).
#[derive(Debug, Clone)]
pub struct Become {
    /// False: scripts run as the user that we logged in as.
    pub on: bool,
    /// `become_user`; `root` by default.
    pub user: String,
    /// `become_exe`; `sudo` by default.
    pub exe: String,
    /// Further flags of `become_flags`, those that the exchange sets itself left out.
    pub flags: Vec<String>,
    /// The password, when one was given.
    pub password: Option<Arc<Password>>,
}

impl Become {
    /// No becoming: scripts run as the user that we logged in as.
    pub fn off() -> Self {
        Self { on: false, user: "root".to_owned(), exe: "sudo".to_owned(), flags: Vec::new(), password: None }
    }

    /// Root through `sudo`, with this password if sudo asks for one.
    pub fn root(password: Option<Arc<Password>>) -> Self {
        Self { on: true, password, ..Self::off() }
    }
}

/// sudo's ways to say no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It asked for a password and we have none.
    #[error("sudo asks for a password and none was given")]
    PasswordNeeded,
    /// It asked again after the one that we sent.
    #[error("sudo did not accept the password")]
    WrongPassword,
    /// Another host refused this password before.
    #[error("sudo asks for a password; the one given was refused by another host and is not sent again")]
    RefusedElsewhere,
    /// Password or account expired.
    #[error("sudo says that the password or the account has expired")]
    Expired,
    /// There is nobody of the name that we are to become.
    #[error("there is no such user on the host to become")]
    NoUser,
    /// sudo does not take one of the flags.
    #[error("sudo there does not take these ansible_become_flags")]
    Flags,
    /// The user may not run this.
    #[error("sudo does not allow this user to run commands there")]
    NotAllowed,
    /// sudo wants a terminal.
    #[error("sudo wants a terminal (requiretty)")]
    RequireTty,
    /// There is no sudo.
    #[error("there is no sudo on the host")]
    NoSudo,
    /// It said nothing for half a minute.
    #[error("sudo did not answer within 30 s")]
    Silent,
    /// It ended in another way.
    #[error("sudo ended before the shell began")]
    Other,
}

impl Denied {
    /// Nothing more would be learnt by asking in another way.
    fn is_clear(self) -> bool {
        matches!(
            self,
            Self::PasswordNeeded
                | Self::NotAllowed
                | Self::RequireTty
                | Self::NoSudo
                | Self::Expired
                | Self::NoUser
                | Self::Flags
        )
    }

    fn failure(self, host: &str, plan: &Become, said: &[u8]) -> Failure {
        let user = &plan.user;
        // A host that failed, exit 2: gates are ferry's own, and sudo is none of them.
        let kind = match self {
            // A link that has just died is as silent as a sudo that hangs: it is known dead a little later.
            Self::Silent => Kind::Unreachable,
            _ => Kind::Failed,
        };
        let mut failure = Failure::new(kind, self.to_string()).on(host).within("sudo");
        let said = clean(said.get(said.len().saturating_sub(400)..).unwrap_or_default());
        if !said.trim().is_empty() {
            failure = failure.saw(said.trim().replace("\\x0a", " | "));
        }
        match self {
            Self::PasswordNeeded => failure
                .mend("give one with -K, --become-password-file FILE or ansible_become_password, or allow NOPASSWD"),
            Self::WrongPassword | Self::RefusedElsewhere => failure
                .why("one password is sent at most, so that no account is locked")
                .mend("check the password and start again"),
            Self::Expired => failure.mend("log in there once by hand and set a new password"),
            Self::NotAllowed => failure.mend(format!("add the user to sudoers on {host} so that it may become {user}")),
            Self::RequireTty => failure.mend("in sudoers there: Defaults:THE_USER !requiretty"),
            Self::NoSudo if plan.exe != "sudo" => failure
                .why(format!("ansible_become_exe is {}", plan.exe))
                .mend("name one that is there and may be run by the login user"),
            Self::NoSudo => failure.mend("install sudo there, or log in as root with ansible_become: false"),
            Self::NoUser => failure.why(format!("ansible_become_user is {user}")).mend("correct ansible_become_user"),
            Self::Flags => failure
                .why(format!("ansible_become_flags are {}", plan.flags.join(" ")))
                .mend("leave out what the sudo of this host does not know (sudo -h there)"),
            Self::Silent => failure.why("the connection may be dead, or PAM or a directory server hangs there").again(),
            // A node that is just being shut down ends everything: the next attempt may meet another answer.
            Self::Other => failure.again(),
        }
    }
}

/// How the bootstrap reads the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// By the shell itself, so many lines, each with its line feed: to start another program for a short script takes longer.
    Lines(usize),
    /// By a program, so many bytes.
    Bytes,
}

/// The longest script that is read line by line, in bytes: the shell takes them one by one.
const SHORT: usize = 2 << 10;

/// The shell line that says that it is there and reads `length` bytes of script and runs them. One line without line feeds,
/// so that every login shell passes it on. It says so on both streams where the script is sent at once: only then
/// anything of the script could stand before it. Elsewhere nobody waits for the second word, and it would be taken
/// for the script's own. Names stand in braces: with the flags `-i` and `-s` sudo gives the line to a shell, and hides every
/// character from it but letters, digits and `$`.
///
/// What follows behind the script is the script's own input. The shell leaves it where it is, and `head` is known to do so in
/// GNU's coreutils only: busybox's takes more from a pipe than it gives out. Elsewhere `dd` reads byte by byte.
fn bootstrap(nonce: &str, length: usize, at_once: bool, reading: Reading) -> String {
    let read = match reading {
        Reading::Lines(1) => "IFS= read -r s || exit 97; s=${s}${n}".to_owned(),
        Reading::Lines(lines) => format!(
            "s=; k={lines}; while [ ${{k}} -gt 0 ]; do IFS= read -r l || exit 97; s=${{s}}${{l}}${{n}}; k=$((k-1)); done"
        ),
        Reading::Bytes => format!(
            "s=$(case $(head --version 2>&1) in *GNU*) head -c {length};; *) dd ibs=1 obs=4096 count={length} 2>/dev/null;; esac)"
        ),
    };
    let feed = if reading == Reading::Bytes { "" } else { "n=$(printf \"\\nx\"); n=${n%x}; " };
    let both = if at_once { format!("printf \"%s\\n\" {nonce} >&2; ") } else { String::new() };
    format!(
        "LC_ALL=C; export LC_ALL; PATH=${{PATH}}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH; \
         printf \"%s\\n\" {nonce}; {both}{feed}{read}; [ ${{#s}} -eq {length} ] || exit 97; eval \"unset s n k l; ${{s}}\""
    )
}

/// Exit code of the bootstrap when the script did not arrive whole.
const CUT: i32 = 97;

pub(super) async fn open_root(session: &Session, script: &str) -> Result<Child, Failure> {
    let plan = session.become_plan();
    // A scripted host says what its script says to the exchange that its tests know.
    let nothing_to_ask = (!plan.on || plan.password.is_none()) && !matches!(session, Session::Fake(_));
    if nothing_to_ask {
        match exchange(session, script, Manner::AtOnce).await? {
            Ok(child) => return Ok(child),
            // A sudo that wants a terminal says so before it asks for anything.
            Err((Denied::RequireTty, _)) => {}
            Err((denied, said)) if denied.is_clear() => {
                return Err(denied.failure(session.host(), session.become_plan(), &said));
            }
            // Nothing of the script has run: the bootstrap reads it to its last byte first.
            Err((denied, _)) => tracing::debug!(host = session.host(), %denied, "once more, waiting for the shell"),
        }
    }
    let mut refused = match exchange(session, script, Manner::Waiting).await? {
        Ok(child) => return Ok(child),
        Err(refused) => refused,
    };
    if refused.0 == Denied::RequireTty {
        // No password was sent: this sudo asks for the terminal first. Only here a terminal is asked for, for with one there
        // is no end of input and standard error is not told apart.
        refused = match exchange(session, script, Manner::Terminal).await? {
            Ok(child) => return Ok(child),
            Err(refused) => refused,
        };
    }
    let (denied, said) = refused;
    Err(denied.failure(session.host(), session.become_plan(), &said))
}

/// How the script gets to the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// With the command, where nothing can be asked for.
    AtOnce,
    /// After the shell's word that it is there.
    Waiting,
    /// So too, on a terminal of the host's.
    Terminal,
}

/// One way to the shell; refused with sudo's answer and what was said with it.
async fn exchange(
    session: &Session,
    script: &str,
    manner: Manner,
) -> Result<Result<Child, (Denied, Vec<u8>)>, Failure> {
    let at_once = manner == Manner::AtOnce;
    let plan = session.become_plan().clone();
    let host = session.host().to_owned();
    let nonce: u128 = rand::random();
    let (prompt, ready) = (format!("ferry-{nonce:032x}-password"), format!("ferry-{nonce:032x}-ready"));
    // The shell's $( ) drops line feeds at the end, and the length must still agree.
    let mut script = script.trim_end().to_owned();
    // A scripted host counts the bytes that it is told of.
    let reading = if script.len() < SHORT && !matches!(session, Session::Fake(_)) {
        script.push('\n');
        Reading::Lines(script.matches('\n').count())
    } else {
        Reading::Bytes
    };
    let boot = bootstrap(&ready, script.len(), at_once, reading);
    let boot = quote(&boot).map_err(|nul| Failure::new(Kind::Bug, nul.to_string()))?;
    let line = if plan.on {
        let mode = if at_once { "-n" } else { "-S" };
        let mut words: Vec<String> =
            ["env", "LC_ALL=C", &plan.exe, "-H", "-k", mode].into_iter().map(str::to_owned).collect();
        words.extend(plan.flags.iter().cloned());
        if !at_once {
            words.extend(["-p".into(), prompt.clone()]);
        }
        if plan.user != "root" {
            words.extend(["-u".into(), plan.user.clone()]);
        }
        let words = Command::words(&words).map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()))?;
        format!("exec {words} -- /bin/sh -c {boot}")
    } else {
        format!("exec /bin/sh -c {boot}")
    };
    tracing::debug!(host, become_user = %plan.user, become_on = plan.on, bytes = script.len(), "opening a shell");
    let command = Command::shell(line);
    let mut child = match manner {
        Manner::Terminal => match session.open_with_terminal(&command).await? {
            Some(child) => child,
            None => return Ok(Err((Denied::RequireTty, Vec::new()))),
        },
        Manner::AtOnce | Manner::Waiting => session.open(&command).await?,
    };
    // A refusal may close its input before it has taken all: the answer says more than the write.
    let sent = if at_once { child.write(script.as_bytes()).await.is_ok() } else { false };
    let mut talk = Talk { child, out: Vec::new(), err: Vec::new(), sent_at: None, at_once };
    let talked = tokio::time::timeout(PATIENCE, talk.until_ready(&plan, &prompt, &ready)).await;
    match talked {
        Ok(Ok(())) => {}
        Ok(Err(Stop::Denied(denied))) => return Ok(Err((denied, talk.err))),
        Ok(Err(Stop::Failure(failure))) => return Err(failure),
        Err(_) if plan.on => return Err(Denied::Silent.failure(&host, &plan, &talk.err)),
        Err(_) => {
            return Err(Failure::new(Kind::Unreachable, "no shell began within 30 s")
                .on(&host)
                .why("the connection may be dead, or the host overloaded")
                .again());
        }
    }
    let (after_out, after_err) = talk.after(&ready);
    let Talk { mut child, .. } = talk;
    if !sent {
        child.write(script.as_bytes()).await?;
        return Ok(Ok(child));
    }
    // In this order: what is given back last is heard first.
    for piece in [Piece::Err(after_err.into()), Piece::Out(after_out.into())] {
        child.unread(piece);
    }
    Ok(Ok(child))
}

enum Stop {
    Denied(Denied),
    Failure(Failure),
}

struct Talk {
    child: Child,
    out: Vec<u8>,
    err: Vec<u8>,
    /// How much each stream had said when the password was sent.
    sent_at: Option<(usize, usize)>,
    /// The script was sent already: what it says follows at once.
    at_once: bool,
}

/// What sudo and PAM say about a password or account whose time is over.
const EXPIRED: &[&str] = &[
    "expired",
    "password change required",
    "account validation failure",
    "is your password locked",
    "account or password is",
];

/// What sudo and the login shell may say before the shell is ready, in bytes of each stream: a
/// hostile or broken host is cut off here.
const MOST_BEFORE_READY: usize = 256 << 10;

/// How long the rest of a prompt may take after its nonce.
const SECOND_PIECE: Duration = Duration::from_millis(300);

fn says(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

fn find(haystack: &[u8], needle: &str) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle.as_bytes())
}

impl Talk {
    async fn until_ready(&mut self, plan: &Become, prompt: &str, ready: &str) -> Result<(), Stop> {
        let mut guard = None;
        let mut sent = false;
        loop {
            if self.is_ready(ready) {
                if let (true, Some(password)) = (sent, &plan.password) {
                    password.state.store(PROVEN, Ordering::SeqCst);
                }
                drop(guard);
                return Ok(());
            }
            // sudo asks on standard error; a wrapper may have merged the streams.
            let asked = self.take_prompt(prompt);
            if asked && sent {
                self.rest_of_the_prompt().await;
                // sudo-rs: PAM wants a new password, and has taken the old one.
                if says(&self.text(), &["current password", "new password"]) {
                    self.child.close_input().await;
                    return Err(Stop::Denied(Denied::Expired));
                }
                if let Some(password) = &plan.password {
                    password.state.store(REFUSED, Ordering::SeqCst);
                }
                self.child.close_input().await;
                return Err(Stop::Denied(Denied::WrongPassword));
            }
            if asked {
                let Some(password) = plan.password.clone() else {
                    self.child.close_input().await;
                    return Err(Stop::Denied(Denied::PasswordNeeded));
                };
                if password.state.load(Ordering::SeqCst) == UNTRIED {
                    // The first host that asks proves it for all; the others wait for the answer.
                    guard = Some(Arc::clone(&password.first).lock_owned().await);
                    if password.state.load(Ordering::SeqCst) != UNTRIED {
                        guard = None;
                    }
                }
                if password.state.load(Ordering::SeqCst) == REFUSED {
                    self.child.close_input().await;
                    return Err(Stop::Denied(Denied::RefusedElsewhere));
                }
                let line = zeroize::Zeroizing::new(format!("{}\n", password.value.expose_secret()));
                self.child.write(line.as_bytes()).await.map_err(Stop::Failure)?;
                sent = true;
                self.sent_at = Some((self.out.len(), self.err.len()));
            }
            if self.says_expired() {
                // PAM goes on to ask for a new password, by prompts of its own: it gets none.
                self.child.close_input().await;
                return Err(Stop::Denied(Denied::Expired));
            }
            match self.child.next().await {
                Some(Piece::Out(bytes)) => self.out.extend_from_slice(&bytes),
                Some(Piece::Err(bytes)) => self.err.extend_from_slice(&bytes),
                None => {
                    let exit = self.child.exit().await;
                    if let Exit::Lost(why) = exit {
                        let host = Failure::new(Kind::Unreachable, "the connection ended before the shell began");
                        return Err(Stop::Failure(host.saw(why).again()));
                    }
                    let denied = self.classify(&exit, sent);
                    // A sudo that asks once only (passwd_tries=1) ends in words of its own or of its
                    // locale: what was sent and did not lead to the shell counts as refused, unless
                    // it is clear that something else was.
                    if let (true, Denied::WrongPassword | Denied::Other, Some(password)) =
                        (sent, denied, &plan.password)
                    {
                        password.state.store(REFUSED, Ordering::SeqCst);
                    }
                    return Err(Stop::Denied(denied));
                }
            }
            if self.out.len() > MOST_BEFORE_READY || self.err.len() > MOST_BEFORE_READY {
                return Err(Stop::Denied(Denied::Other));
            }
        }
    }

    /// True when the shell has said that it is there, on both streams. A wrapper may have merged them.
    fn is_ready(&self, ready: &str) -> bool {
        let Some(at) = find(&self.out, ready) else { return false };
        let merged = self.out.get(at + ready.len()..).is_some_and(|rest| find(rest, ready).is_some());
        // Nothing of the script can be among what came before, where it was not sent yet.
        !self.at_once || merged || find(&self.err, ready).is_some()
    }

    /// What each stream said behind the word that the shell is there.
    fn after(&self, ready: &str) -> (Vec<u8>, Vec<u8>) {
        let behind = |said: &[u8]| {
            let mut rest = said;
            while let Some(at) = find(rest, ready) {
                rest = rest.get(at + ready.len()..).unwrap_or_default();
                rest = rest.strip_prefix(b"\r").unwrap_or(rest);
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            rest.to_vec()
        };
        (behind(&self.out), if find(&self.err, ready).is_some() { behind(&self.err) } else { Vec::new() })
    }

    /// True when the prompt's nonce is in what came since the last call; takes it out.
    fn take_prompt(&mut self, prompt: &str) -> bool {
        for said in [&mut self.err, &mut self.out] {
            if let Some(at) = find(said, prompt) {
                said.drain(..at + prompt.len());
                return true;
            }
        }
        false
    }

    /// Hears what stands behind the nonce of a prompt, which may come in a second piece.
    async fn rest_of_the_prompt(&mut self) {
        let begun = tokio::time::Instant::now();
        while !says(&self.text(), &["assword: ", "assword:"]) && begun.elapsed() < SECOND_PIECE {
            match tokio::time::timeout(SECOND_PIECE, self.child.next()).await {
                Ok(Some(Piece::Out(bytes))) => self.out.extend_from_slice(&bytes),
                Ok(Some(Piece::Err(bytes))) => self.err.extend_from_slice(&bytes),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// All that is left of what was said, in small letters.
    fn text(&self) -> String {
        String::from_utf8_lossy(&[self.err.as_slice(), self.out.as_slice()].concat()).to_lowercase()
    }

    /// True when the answer to the password was that its time is over.
    fn says_expired(&self) -> bool {
        let Some((out, err)) = self.sent_at else { return false };
        [self.out.get(out..), self.err.get(err..)].into_iter().flatten().any(|said| {
            let said = String::from_utf8_lossy(said).to_lowercase();
            EXPIRED.iter().any(|words| said.contains(words))
        })
    }

    /// sudo ended before the shell began. By the text only where nothing else tells: a sudo may speak in other
    /// words than those that we know (`badpass_message`, a wrapper).
    fn classify(&self, exit: &Exit, sent: bool) -> Denied {
        let text = self.text();
        let says = |words: &[&str]| says(&text, words);
        if self.at_once && says(&["a password is required", "interactive authentication is required"]) {
            Denied::PasswordNeeded
        } else if says(&["you must have a tty", "a terminal is required", "no tty present"]) && !sent {
            Denied::RequireTty
        } else if says(EXPIRED) {
            Denied::Expired
        } else if says(&[
            "not in the sudoers",
            "not allowed to",
            "may not run sudo",
            "a password is not allowed",
            "i'm sorry",
            "is not allowed to execute",
        ]) {
            Denied::NotAllowed
        } else if says(&["unknown user", "unknown uid"]) || says(&["sudo: user '"]) && says(&["' not found"]) {
            Denied::NoUser
        } else if says(&["unrecognized option", "invalid option", "unknown option", "usage: sudo"]) {
            Denied::Flags
        } else if matches!(exit, Exit::Code(126 | 127))
            || says(&["sudo: not found", "sudo: command not found", "no such file or directory"])
                && !says(&["sudo: unable"])
        {
            Denied::NoSudo
        } else if sent
            && says(&["incorrect password", "try again", "authentication fail", "maximum", "no password was provided"])
        {
            Denied::WrongPassword
        } else {
            Denied::Other
        }
    }
}

/// True when a root shell ended because its script did not arrive whole.
pub fn was_cut(exit: &Exit) -> bool {
    *exit == Exit::Code(CUT)
}
