//! A file from node to node, not through ferry: only when asked for, for what would not fit our link.
//!
//! What lives here: the key of one transfer, what it may do, and the two commands that meet. What does not: chunks, digests,
//! the journal and the last step (`carry`: they are the same), the bytes of authorized_keys (`authorized`), and the agent
//! (`remote::ssh::lend`).
//!
//! ferry makes a key pair in memory. Its public half goes into the target user's authorized_keys, with what it may do: write
//! to one FIFO, which ferry's own session at the target reads as root. The private half stays here. The source runs its own
//! `ssh`, which asks an agent that ferry lends it: that knows this key alone and signs one login, at this server. The target's
//! host key, as ferry has verified it, is given along. The entry stays as long as a shell at the target hears ferry, which then
//! cuts the file off where it was; what a crash leaves the next transfer to that host removes, and the server itself
//! takes it for an hour only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::authorized::{self, Entry, Permit, entries, is_id};
use super::carry::{Job, Order, Span};
use super::ends::{Answer, End, Place, Post, mark, meant, script};
use super::prove::Landed;
use super::streams::{changed, ready};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::remote::ssh::connect::{Lane, Target};
use crate::remote::ssh::lend::{HostKey, Lent, OneKey, Purpose};
use crate::remote::sudo::Become;
use crate::remote::{Child, Exit, Piece, Session, Way};
use crate::secret::clean;

/// What a host is asked about its own files.
const ASKING: Duration = Duration::from_secs(60);
/// So long no byte may come before a stream counts as dead.
const STALL: Duration = Duration::from_secs(60);
/// How long an entry is good for a new login. Each attempt writes a new one.
const GOOD_FOR: i64 = 3600;
/// Bytes that the source is told to send at once, and how many such words may be unanswered.
const TOKEN: u64 = 16 << 20;
const TOKENS: u64 = 4;
/// The source's tools send pieces of this many bytes.
const PIECE: u64 = 256 << 10;
/// Addresses that an entry names at most.
const MOST_ADDRESSES: usize = 64;

/// That a file goes from node to node.
#[derive(Debug, Clone)]
pub struct Direct {
    /// The folder of ferry's at the source (`ferry_node_dir`): the target's host key lies there while the stream runs.
    pub node_dir: String,
    /// The key, for tests that look for it where it must not be; else one is made.
    #[doc(hidden)]
    pub key: Option<Arc<OneKey>>,
}

impl Direct {
    /// With a key of its own.
    pub fn new(node_dir: impl Into<String>) -> Self {
        Self { node_dir: node_dir.into(), key: None }
    }
}

/// What was found at both ends.
#[derive(Debug, Clone)]
pub(super) struct Found {
    host_key: HostKey,
    /// What the source's `ssh` says it is.
    pub(super) ssh: String,
    /// It proves to an agent which server it talks to.
    binds: bool,
    /// What the target's server says it is.
    pub(super) server: String,
    /// It knows when an entry's time is over.
    pub(super) expires: bool,
    /// Addresses that the source may come from.
    from: Vec<String>,
    /// What a FIFO's folder begins with.
    base: String,
}

fn refused(end: &End, what: &str) -> Failure {
    Failure::new(Kind::Refused, what.to_owned()).on(end.host())
}

const RELAY: &str = "--via relay goes through ferry";

/// The way to an end, as the user that we log in as.
fn target(end: &End) -> Result<&Target, Failure> {
    match &end.place {
        Place::Host { way: Way::Ssh(target), .. } => Ok(target),
        _ => Err(Failure::new(Kind::CouldNotStart, "via direct is for two hosts that are reached by SSH")
            .on(end.host())
            .mend("leave --via away: one end is here")),
    }
}

/// The same end, without becoming anybody there.
fn as_login(end: &End) -> Result<End, Failure> {
    let plain = Target { become_plan: Become::off(), ..target(end)?.clone() };
    let name = end.host().to_owned();
    Ok(End { place: Place::Host { name, way: Way::Ssh(Box::new(plain)) }, path: end.path.clone() })
}

/// Major and minor of `OpenSSH_9.2p1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let rest = text.split_once("OpenSSH_")?.1;
    let rest = rest.strip_prefix("for_Windows_").unwrap_or(rest);
    let (major, rest) = rest.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Addresses of the source's, as the kernel has them; those of its own loop only where the target is there.
fn addresses(said: &Answer, to: &str) -> Vec<String> {
    let loops = to == "localhost" || to.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let four = said.all("address").filter_map(|text| text.trim().parse::<Ipv4Addr>().ok()).map(IpAddr::V4);
    let six = said.all("address6").filter_map(|text| u128::from_str_radix(text.trim(), 16).ok());
    let six = six.map(|bits| IpAddr::V6(Ipv6Addr::from(bits)));
    let mut all: Vec<IpAddr> = four.chain(six).filter(|address| address.is_loopback() == loops).collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(MOST_ADDRESSES);
    all.iter().map(ToString::to_string).collect()
}

/// Whether the key's entry can be where the server looks for it.
fn looks_there(file: &str, user: &str) -> bool {
    [".ssh/authorized_keys", "%h/.ssh/authorized_keys"].contains(&file)
        || file == format!("/home/{user}/.ssh/authorized_keys")
        || file == "/home/%u/.ssh/authorized_keys"
        || (user == "root" && file == "/root/.ssh/authorized_keys")
}

/// Looks whether the two nodes can do it. Changes nothing.
pub(super) async fn look(order: &Order, from: &mut Post, to: &mut Post) -> Result<Found, Failure> {
    let (source, there) = (target(&order.from)?.clone(), target(&order.to)?.clone());
    if there.user.chars().any(|c| c.is_whitespace() || c == '\'' || c.is_control()) || there.user.starts_with('-') {
        return Err(refused(&order.to, "the user's name there cannot be given to ssh").mend(RELAY));
    }
    let values = [("U", there.user.clone()), ("D", String::new())];
    let (at_source, at_target) =
        tokio::join!(from.ask(&[], "direct_look_source", ASKING), to.ask(&values, "direct_look_target", ASKING));
    let (at_source, at_target) = (at_source?, at_target?);
    let me = at_source.get("me").unwrap_or_default();
    if me != "root" && me != source.user {
        return Err(refused(
            &order.from,
            "the agent's socket there is open to root and to the user that we log in as only",
        )
        .saw(format!("we log in as {} and become {me}", source.user))
        .mend("become root there, or nobody"));
    }
    let Some(ssh) = at_source.get("ssh") else {
        return Err(refused(&order.from, "there is no ssh, and via direct needs the source's own")
            .why("the source itself connects to the target")
            .mend("install openssh-clients there, or --via relay, which needs nothing"));
    };
    let Some(client) = version(ssh) else {
        return Err(refused(&order.from, "the ssh there is not OpenSSH's, whose options are needed")
            .saw(ssh.to_owned())
            .mend(RELAY));
    };
    let session = to.session().await?;
    let Session::Ssh(session) = &session else { return Err(bug()) };
    let server = session.server().to_owned();
    // `restrict` is from 7.2, `expiry-time` from 7.7; an entry with an option that is not known is no entry at all.
    let Some(host) = version(&server).filter(|version| *version >= (7, 2)) else {
        return Err(refused(&order.to, "the server there cannot hold a key to one command (OpenSSH 7.2 or later can)")
            .saw(server)
            .mend(RELAY));
    };
    let host_key = session.host_key().cloned().ok_or_else(bug)?;
    if at_target.get("nofifo").is_some() {
        return Err(refused(&order.to, "there is no mkfifo").mend(RELAY));
    }
    let me = at_target.get("me").unwrap_or_default();
    if me != "root" && me != there.user {
        return Err(refused(&order.to, "a FIFO there can be given to the user that we log in as by root only")
            .saw(format!("we log in as {} and become {me}", there.user))
            .mend("become root there, or nobody"));
    }
    if let Some(files) = at_target.get("keysfile")
        && !files.split_whitespace().any(|file| looks_there(file, &there.user))
    {
        return Err(refused(&order.to, "the server there does not look into ~/.ssh/authorized_keys")
            .saw(format!("AuthorizedKeysFile {files}"))
            .why("the key of this transfer would have to be written where only root writes")
            .mend(RELAY));
    }
    let keys = Keys::read(&mut Post::new(&as_login(&order.to)?, order.patience), &[]).await?;
    if let Some(wrong) = keys.wrong {
        return Err(wrong);
    }
    let from = addresses(&at_source, &there.address);
    if from.is_empty() {
        return Err(refused(&order.from, "its addresses are not known")
            .why("the key would be good from anywhere")
            .mend(RELAY));
    }
    let base = at_target.get("base").unwrap_or_default().to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !base.starts_with('/') || !base.chars().all(plain) {
        return Err(refused(&order.to, "there is no place for a FIFO").saw(base).mend(RELAY));
    }
    Ok(Found {
        host_key,
        ssh: ssh.chars().take(60).collect(),
        binds: client >= (8, 9),
        server,
        expires: host >= (7, 7),
        from,
        base,
    })
}

fn bug() -> Failure {
    Failure::new(Kind::Bug, "a host's key was not kept")
}

/// The authorized_keys of the user that we log in as.
struct Keys {
    content: Option<Vec<u8>>,
    folder: bool,
    /// Of the ids that were asked about, those whose transfer runs.
    alive: Vec<String>,
    /// Seconds since 1970 on the clock there, and how far its local time is ahead.
    now: (i64, i64),
    /// Why it may not be changed.
    wrong: Option<Failure>,
}

impl Keys {
    async fn read(post: &mut Post, ids: &[String]) -> Result<Self, Failure> {
        let said = post.ask(&[("W", ids.join(" "))], "direct_keys", ASKING).await?;
        let end = post.end.clone();
        let size = said.get("size").and_then(|size| size.parse::<usize>().ok());
        let mut wrong = None;
        if said.get("odd").is_some() {
            wrong = Some(refused(&end, "~/.ssh/authorized_keys is no file").mend(RELAY));
        } else if let Some(mode) = said.get("nowrite") {
            wrong = Some(
                refused(&end, "the user that we log in as may not write to ~/.ssh/authorized_keys")
                    .saw(mode.to_owned())
                    .mend(RELAY),
            );
        } else if size.is_some_and(|size| size > 256 << 10) {
            wrong = Some(refused(&end, "~/.ssh/authorized_keys has more than 256 KiB").mend(RELAY));
        }
        let mut content = size.map(|_| Vec::new());
        if let (Some(content), None) = (&mut content, &wrong) {
            for word in said.all("bytes").flat_map(str::split_whitespace) {
                content.push(u8::from_str_radix(word, 16).map_err(|_| end.failed("a file was not understood", word))?);
            }
            if Some(content.len()) != size {
                return Err(end.failed("a file did not come whole", "authorized_keys").again());
            }
        }
        let now = said.get("now").unwrap_or_default();
        let (seconds, zone) = now.split_once(' ').unwrap_or((now, "+0000"));
        let zone = zone.parse::<i64>().unwrap_or(0);
        let ahead = (zone / 100) * 3600 + (zone % 100) * 60;
        let seconds = seconds.parse::<i64>().map_err(|_| end.failed("the clock there was not understood", now))?;
        Ok(Self {
            content,
            folder: said.get("folder").is_some(),
            alive: said.all("alive").map(str::to_owned).collect(),
            now: (seconds, ahead),
            wrong,
        })
    }

    /// When an entry ends that is written now, as the server's clock and time zone say it.
    fn until(&self) -> Option<String> {
        let (seconds, ahead) = self.now;
        let time = jiff::Timestamp::from_second(seconds + ahead + GOOD_FOR).ok()?;
        Some(time.strftime("%Y%m%d%H%M%S").to_string())
    }
}

/// Removes entries of transfers that run no more, and `ours` whatever runs. Gives the file as it is then.
async fn sweep(post: &mut Post, ours: Option<&str>) -> Result<Keys, Failure> {
    for _ in 0..20 {
        let keys = Keys::read(post, &[]).await?;
        let Some(content) = &keys.content else { return Ok(keys) };
        let found = entries(content);
        if found.is_empty() {
            return Ok(keys);
        }
        let ids: Vec<String> = found.iter().map(|entry| entry.id.clone()).collect();
        let asked = Keys::read(post, &ids).await?;
        if asked.content.as_ref() != Some(content) {
            continue;
        }
        let gone: Vec<Entry> = found
            .into_iter()
            .filter(|entry| ours == Some(entry.id.as_str()) || !asked.alive.contains(&entry.id))
            .collect();
        if gone.is_empty() {
            return Ok(asked);
        }
        let kept = authorized::without(content, &gone);
        let rows: Vec<String> = kept.iter().map(|range| format!("{} {}", range.start, range.len())).collect();
        let made = |flag: fn(&Entry) -> bool, text: &'static str| if gone.iter().any(flag) { text } else { "" };
        let made = [made(|entry| entry.made_file, "c"), made(|entry| entry.made_folder, "d")].concat();
        let values = [("G", Sha256::of(content).to_string()), ("R", rows.join(" ")), ("V", made)];
        post.ask(&values, "direct_edit", ASKING).await?;
    }
    Err(Failure::new(Kind::Failed, "~/.ssh/authorized_keys changes all the time")
        .on(post.end.host())
        .why("something else writes to it"))
}

/// Removes what earlier transfers from node to node have left in the authorized_keys of the user that we log in as at `end`.
pub(super) async fn tidy(end: &End, patience: Duration) -> Result<(), Failure> {
    let mut post = Post::new(&as_login(end)?, patience);
    sweep(&mut post, None).await.map(|_| ())
}

/// The way of one transfer: its key, and what is at the target for it.
pub(super) struct Fare {
    id: String,
    key: Arc<OneKey>,
    found: Found,
    node_dir: String,
    /// A byte has come this way: what fails now is a cut.
    worked: AtomicBool,
    /// One stream at a time: there is one FIFO.
    state: Mutex<State>,
}

struct State {
    /// As the user that we log in as at the target.
    login: Post,
    /// As root there, for the FIFO.
    root: Post,
    /// The shell that keeps the entry.
    holder: Option<(Session, Child)>,
}

impl Fare {
    pub(super) fn new(order: &Order, direct: &Direct, found: &Found) -> Result<Self, Failure> {
        let key = match &direct.key {
            Some(key) => Arc::clone(key),
            None => Arc::new(OneKey::make(found.host_key.is_ed25519())?),
        };
        let id = format!("{:016x}", rand::random::<u64>());
        debug_assert!(is_id(&id));
        let state = State {
            login: Post::new(&as_login(&order.to)?, order.patience),
            root: Post::new(&order.to, order.patience),
            holder: None,
        };
        Ok(Self {
            id,
            key,
            found: found.clone(),
            node_dir: direct.node_dir.clone(),
            worked: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    fn fifo(&self) -> String {
        format!("{}{}/in", self.found.base, self.id)
    }

    /// Writes the entry, and leaves a shell there that keeps it as long as it hears us.
    async fn authorize(&self, state: &mut State) -> Result<(), Failure> {
        self.let_go(state).await;
        for _ in 0..20 {
            let keys = sweep(&mut state.login, Some(&self.id)).await?;
            if let Some(wrong) = keys.wrong {
                return Err(wrong);
            }
            let until = if self.found.expires { keys.until() } else { None };
            let (key, fifo) = (self.key.line(), self.fifo());
            let permit =
                Permit { id: &self.id, key: &key, from: &self.found.from, until: until.as_deref(), fifo: &fifo };
            let text = authorized::entry(&permit, keys.content.as_deref(), keys.folder);
            let made = [if keys.content.is_none() { "c" } else { "" }, if keys.folder { "" } else { "d" }].concat();
            let size = keys.content.as_ref().map_or(0, Vec::len);
            let mark = mark();
            let values = [("I", self.id.clone()), ("E", text), ("N", size.to_string()), ("V", made)];
            let session = state.login.session().await?;
            let script = script(&state.login.end, &mark, &values, "direct_hold")?;
            let mut child = session.open_root(&script).await?;
            match ready(&state.login.end, &mut child, &mark, ASKING).await {
                Ok(_) => {
                    state.holder = Some((session, child));
                    return Ok(());
                }
                Err(failure) if failure.seen.as_deref().is_some_and(|seen| seen.contains("moved")) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::new(Kind::Failed, "~/.ssh/authorized_keys changes all the time").on(state.login.end.host()))
    }

    /// Tells the shell to remove the entry, and waits until it did.
    async fn let_go(&self, state: &mut State) {
        if let Some((_, mut child)) = state.holder.take() {
            child.close_input().await;
            let _ = tokio::time::timeout(Duration::from_secs(10), child.exit()).await;
        }
    }

    /// Removes all that was made, and looks that it is gone.
    pub(super) async fn end(&self) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        self.let_go(&mut state).await;
        let closed = state.root.ask(&[("Q", self.fifo())], "direct_close", ASKING).await;
        let swept = sweep(&mut state.login, Some(&self.id)).await;
        let left = swept
            .map(|keys| keys.content.is_some_and(|content| entries(&content).iter().any(|entry| entry.id == self.id)));
        let told = |what: &str, seen: String, why: String, which: &str| {
            Failure::new(Kind::Failed, format!("{what} may still be there"))
                .on(state.login.end.host())
                .saw(seen)
                .why(why)
                .mend(format!("the next ferry transfer{which} to that host removes it"))
        };
        let entry = |seen: String| {
            let fifo = if closed.is_ok() { "a FIFO that is gone" } else { "the FIFO of this transfer" };
            let limit = if self.found.expires { "; it is good for an hour only" } else { "" };
            told("the key's entry in authorized_keys", seen, format!("it opens nothing but {fifo}{limit}"), "")
        };
        match (left, &closed) {
            (Ok(false), Ok(_)) => Ok(()),
            (Ok(true), _) => Err(entry("it was written back".to_owned())),
            (Err(failure), _) => Err(entry(failure.to_string())),
            (Ok(false), Err(failure)) => {
                let why = "the key that opens it is gone".to_owned();
                Err(told("the FIFO of this transfer", failure.to_string(), why, " --via direct"))
            }
        }
    }

    /// One stream from where the part stands to the end of the span.
    pub(super) async fn attempt(&self, job: &Job, span: &mut Span) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        let to = &job.order.to;
        span.attempts += 1;
        self.authorize(&mut state).await?;
        let there = target(to)?;
        let values =
            [("I", self.id.clone()), ("Q", self.fifo()), ("U", there.user.clone()), ("D", self.node_dir.clone())];
        let opened = state.root.ask(&values, "direct_open", ASKING).await?;
        if opened.get("opened").is_none() {
            return Err(to.failed("the FIFO could not be made", &opened.shown()));
        }
        let session = to.way().connect(Lane::Control).await?;
        let to_mark = mark();
        let values = [
            ("H", job.header.clone()),
            ("S", span.name.clone()),
            ("O", span.landed.to_string()),
            ("X", span.sent.to_string()),
            ("Q", self.fifo()),
        ];
        let mut writer = session.open_root(&script(to, &to_mark, &values, "target_write")?).await?;
        writer.close_input().await;
        let said = ready(to, &mut writer, &to_mark, STALL).await?;
        let at = said.split_once(' ').and_then(|(_, at)| at.parse::<u64>().ok());
        let Some(at) = at.filter(|at| (span.landed..=span.sent).contains(at)) else {
            return Err(to.failed("the host said something else than it should", &said));
        };
        job.again.fetch_add(span.sent - at, Ordering::Relaxed);
        if at > span.landed {
            job.passed.fetch_add(at - span.landed, Ordering::Relaxed);
            job.arrived(span, Landed::Certain, span.landed, at);
        }
        (span.landed, span.sent) = (at, at);
        job.reads(span);
        let ran = self.run(job, span, &mut writer, &to_mark).await;
        let (left, refusal) = match ran {
            Ok(left) => (left, None),
            Err(failure) => (None, Some(failure)),
        };
        // Whoever waits for a first byte at the target gets none.
        if left.is_none() {
            let _ = state.root.ask(&[("Q", self.fifo())], "direct_release", ASKING).await;
        }
        let ended = tokio::time::timeout(STALL, last_words(to, &mut writer, &to_mark)).await;
        session.close().await;
        let stood = match ended {
            Ok(Ok(at)) => {
                let at = at.clamp(span.landed, span.end);
                let before = span.landed;
                span.landed = at;
                span.sent = span.sent.max(at);
                job.passed.fetch_add(at - before, Ordering::Relaxed);
                job.arrived(span, Landed::Certain, before, at);
                at
            }
            Ok(Err(failure)) => {
                let failure = match refusal {
                    Some(refusal) if failure.again => refusal,
                    _ => failure,
                };
                return Err(failure);
            }
            Err(_) => return Err(refusal.unwrap_or_else(|| lost(to, "the writer there does not end"))),
        };
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        job.has_read(span);
        if stood != span.end {
            return Err(lost(to, format!("byte {stood} of {}", span.end)));
        }
        Ok(())
    }

    /// Runs the source's `ssh`, telling it how much to send. `Some` when it ended as it should.
    async fn run(&self, job: &Job, span: &mut Span, writer: &mut Child, to_mark: &str) -> Result<Option<()>, Failure> {
        let (from, to) = (&job.order.from, &job.order.to);
        let there = target(to)?;
        let connection = from.way().connect(Lane::Control).await?;
        let Session::Ssh(ssh) = &connection else { return Err(bug()) };
        let purpose =
            Purpose { user: there.user.clone(), host: self.found.host_key.clone(), must_bind: self.found.binds };
        let lent = ssh.lend(Arc::clone(&self.key), purpose).await?;
        let from_mark = mark();
        let values = [
            ("I", self.id.clone()),
            ("D", self.node_dir.clone()),
            ("O", span.landed.to_string()),
            ("A", lent.socket().to_owned()),
            ("K", format!("ferry-direct {}", self.found.host_key.line())),
            ("B", self.found.host_key.algorithms()),
            ("U", there.user.clone()),
            ("T", there.address.clone()),
            ("Z", there.port.to_string()),
        ];
        let mut reader = connection.open_root(&script(from, &from_mark, &values, "direct_read")?).await?;
        let seen = ready(from, &mut reader, &from_mark, STALL).await?;
        if seen != job.identity {
            return Err(changed(from, &job.identity, &seen));
        }
        let mut complaint = Vec::new();
        let result = self.stream(job, span, writer, to_mark, &mut reader, &from_mark, &lent, &mut complaint).await;
        // Its last words say how it ended; this says why: a full disk, for example.
        writer.unread(Piece::Err(complaint.into()));
        reader.close_input().await;
        drop(lent);
        connection.close().await;
        result
    }

    #[allow(clippy::too_many_arguments)]
    async fn stream(
        &self,
        job: &Job,
        span: &mut Span,
        writer: &mut Child,
        to_mark: &str,
        reader: &mut Child,
        from_mark: &str,
        lent: &Lent,
        complaint: &mut Vec<u8>,
    ) -> Result<Option<()>, Failure> {
        let (from, to) = (&job.order.from, &job.order.to);
        let first_byte = span.landed;
        let (mut told, mut open) = (span.landed, 0_u64);
        let (mut out, mut err, mut there) = (Vec::new(), Vec::new(), Vec::new());
        let mut moved = Instant::now();
        let piece = match job.order.limit_rate {
            Some(rate) => (rate / 8 / PIECE * PIECE).clamp(PIECE, TOKEN),
            None => TOKEN,
        };
        let mut closed = false;
        // Kept over the turns of the loop: what it has waited for so far counts.
        let mut due: Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
        loop {
            let next = piece.min(span.end - told);
            if next == 0 && !closed {
                closed = true;
                reader.close_input().await;
            }
            if next > 0 && open < TOKENS && due.is_none() {
                due = Some(Box::pin(job.limiter.take(next)));
            }
            tokio::select! {
                biased;
                heard = reader.next() => match heard {
                    Some(Piece::Out(bytes)) => {
                        out.extend_from_slice(&bytes);
                        for line in lines(&mut out, from)? {
                            match meant(&line, from_mark) {
                                Some(("sent", count)) => {
                                    open = open.saturating_sub(1);
                                    span.sent = (span.sent + count.parse::<u64>().unwrap_or(0)).min(span.end);
                                    moved = Instant::now();
                                }
                                Some(("end", rest)) => {
                                    let (status, after) = rest.split_once(' ').unwrap_or((rest, ""));
                                    if after != job.identity {
                                        return Err(changed(from, &job.identity, after));
                                    }
                                    if status == "0" {
                                        return Ok(Some(()));
                                    }
                                    let progress = span.landed > first_byte;
                                    return Err(self.explain(&job.order, status, &err, lent, progress));
                                }
                                _ => {}
                            }
                        }
                    }
                    Some(Piece::Err(bytes)) => {
                        if err.len() < 8192 {
                            err.extend_from_slice(&bytes);
                        }
                    }
                    None => {
                        return Err(match reader.exit().await {
                            Exit::Lost(why) => lost(from, why),
                            exit => lost(from, format!("{exit}; {}", String::from_utf8_lossy(&err))),
                        });
                    }
                },
                heard = writer.next() => match heard {
                    Some(Piece::Out(bytes)) => {
                        there.extend_from_slice(&bytes);
                        for line in lines(&mut there, to)? {
                            match meant(&line, to_mark) {
                                Some(("at", at)) => {
                                    let at = at.parse::<u64>().unwrap_or(0).clamp(span.landed, span.end);
                                    if at > span.landed {
                                        let before = span.landed;
                                        self.worked.store(true, Ordering::Relaxed);
                                        span.landed = at;
                                        span.sent = span.sent.max(at);
                                        job.passed.fetch_add(at - before, Ordering::Relaxed);
                                        job.arrived(span, Landed::Certain, before, at);
                                        moved = Instant::now();
                                    }
                                }
                                Some(("end", _)) => {
                                    // Kept for `last_words`.
                                    writer.unread(Piece::Out(format!("{line}\n").into()));
                                    // The source has more to say: why.
                                    let rest = tokio::time::timeout(Duration::from_secs(20), self.rest(reader, from_mark, &mut out, &mut err)).await;
                                    return match rest {
                                        Ok(Some((status, after))) if status == "0" && after == job.identity => Ok(Some(())),
                                        Ok(Some((_, after))) if after != job.identity => Err(changed(from, &job.identity, &after)),
                                        Ok(Some((status, _))) => Err(self.explain(&job.order, &status, &err, lent, true)),
                                        _ => Err(lost(to, "the stream ended there, and the source says nothing")),
                                    };
                                }
                                _ => {}
                            }
                        }
                    }
                    Some(Piece::Err(bytes)) => {
                        if complaint.len() < 8192 {
                            complaint.extend_from_slice(&bytes);
                        }
                    }
                    None => return Err(lost(to, "the writer there ended")),
                },
                () = async { if let Some(due) = &mut due { due.await } }, if due.is_some() => {
                    due = None;
                    reader.write(format!("{next}\n").as_bytes()).await?;
                    told += next;
                    if open == 0 {
                        moved = Instant::now();
                    }
                    open += 1;
                }
                () = tokio::time::sleep_until(moved + STALL) => {
                    if open > 0 || closed {
                        return Err(lost(to, format!("nothing arrived for {} s", STALL.as_secs())));
                    }
                    moved = Instant::now();
                }
            }
        }
    }

    /// What the source says until its stream has ended: the status of its ssh, and which file it was.
    async fn rest(
        &self,
        reader: &mut Child,
        from_mark: &str,
        out: &mut Vec<u8>,
        err: &mut Vec<u8>,
    ) -> Option<(String, String)> {
        reader.close_input().await;
        while let Some(piece) = reader.next().await {
            match piece {
                Piece::Out(bytes) if out.len() < 64 << 10 => out.extend_from_slice(&bytes),
                Piece::Err(bytes) if err.len() < 8192 => err.extend_from_slice(&bytes),
                _ => {}
            }
        }
        let text = String::from_utf8_lossy(out).into_owned();
        text.lines().find_map(|line| {
            let (word, rest) = meant(line, from_mark)?;
            let (status, after) = rest.split_once(' ')?;
            (word == "end").then(|| (status.to_owned(), after.to_owned()))
        })
    }

    /// Why the source's ssh ended with this status.
    fn explain(&self, order: &Order, status: &str, said: &[u8], lent: &Lent, progress: bool) -> Failure {
        let text: String = clean(said.trim_ascii()).chars().take(400).collect();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let way = target(&order.to).map(|to| format!("{to:?}")).unwrap_or_default();
        if let Some(why) = lent.refused() {
            return refused(&order.from, "the source asked ferry's agent for something else than its one login")
                .saw(why)
                .mend(RELAY);
        }
        if progress {
            self.worked.store(true, Ordering::Relaxed);
        }
        if self.worked.load(Ordering::Relaxed) {
            return lost(&order.from, format!("its ssh ended with {status}: {text}"));
        }
        if says(&["Permission denied"]) {
            return refused(&order.to, "the server there did not let the transfer's key in")
                .saw(format!("{way}: {text}"))
                .why(format!(
                    "it must look into ~/.ssh/authorized_keys, take keys, and see the source come from one of {}",
                    self.found.from.join(", ")
                ))
                .mend("is the source behind NAT? --via relay goes through ferry");
        }
        if says(&["Host key verification failed", "host key"]) {
            return refused(&order.to, "what the source reaches there has another host key than what ferry reaches")
                .saw(format!("{way}: {text}"))
                .why("it is another machine, or somebody sits in between")
                .mend(RELAY);
        }
        if says(&["Could not resolve", "Connection refused", "timed out", "No route", "unreachable", "Name or service"])
        {
            return Failure::new(Kind::Unreachable, "the source does not reach the target by its own network")
                .on(order.from.host())
                .saw(format!("{way}: {text}"))
                .mend(RELAY);
        }
        lost(&order.from, format!("its ssh ended with {status}: {text}"))
    }
}

fn lost(end: &End, why: impl Into<String>) -> Failure {
    Failure::new(Kind::Unreachable, "the stream from node to node was cut").on(end.host()).saw(why).again()
}

/// Whole lines of what was said so far.
fn lines(said: &mut Vec<u8>, end: &End) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    while let Some(at) = said.iter().position(|byte| *byte == b'\n') {
        let rest = said.split_off(at + 1);
        let line = std::mem::replace(said, rest);
        all.push(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
    if said.len() > 64 << 10 {
        return Err(end.failed("the host said something else than it should", ""));
    }
    Ok(all)
}

/// Where the writer stood at last.
async fn last_words(end: &End, writer: &mut Child, mark: &str) -> Result<u64, Failure> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut at = None;
    while let Some(piece) = writer.next().await {
        match piece {
            Piece::Out(bytes) => {
                out.extend_from_slice(&bytes);
                for line in lines(&mut out, end)? {
                    if let Some(("end", rest)) = meant(&line, mark) {
                        let (status, stood) = rest.split_once(' ').unwrap_or((rest, ""));
                        at = stood.parse::<u64>().ok().map(|stood| (status.to_owned(), stood));
                    }
                }
            }
            Piece::Err(bytes) if err.len() < 8192 => err.extend_from_slice(&bytes),
            Piece::Err(_) => {}
        }
    }
    match (writer.exit().await, at) {
        (Exit::Code(0), Some((_, at))) => Ok(at),
        (Exit::Lost(why), _) => Err(lost(end, why)),
        (Exit::Signal(name), _) => Err(lost(end, format!("the writer there was ended by {name}"))),
        (Exit::Code(code), None) if code > 128 => Err(lost(end, format!("the writer there was ended: {code}"))),
        (exit, _) => {
            Err(end.failed("the host could not write the file", &format!("{exit}; {}", String::from_utf8_lossy(&err))))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (text, expected) in [
            ("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.22", Some((9, 2))),
            ("SSH-2.0-OpenSSH_7.4", Some((7, 4))),
            ("OpenSSH_10.0p2", Some((10, 0))),
            ("OpenSSH_for_Windows_8.1p1", Some((8, 1))),
            ("SSH-2.0-dropbear_2022.83", None),
            ("Sun_SSH_1.1", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn the_server_must_look_where_we_write() {
        assert!(looks_there(".ssh/authorized_keys", "ops"));
        assert!(looks_there("%h/.ssh/authorized_keys", "ops"));
        assert!(looks_there("/home/ops/.ssh/authorized_keys", "ops"));
        for file in ["none", "/etc/ssh/keys/%u", ".ssh/authorized_keys2", "/home/other/.ssh/authorized_keys"] {
            assert!(!looks_there(file, "ops"), "{file}");
        }
    }
}
