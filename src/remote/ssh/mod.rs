//! SSH by russh: the client, host keys, and the small server that the sandbox and tests use.
//! russh is seen in this folder and nowhere else.
//!
//! What lives here: connecting over any byte stream, authentication, host keys, channels as
//! children. What does not: what is run on them.
//!
//! Three of russh's ways need care, and get it here. A lost connection looks like a clean end of a
//! channel: only a seen exit status is an exit ([`Exit::Lost`] else), and only when the output's end was seen as well, since
//! a server tells the status while output still waits for its window. A writer that waits for the
//! window is not woken when the connection dies: every write races with the reading half. A channel
//! that nobody reads stops the whole connection: bulk streams get a connection of their own.

mod agent;
mod ahead;
pub mod auth;
mod certificate;
pub mod config;
pub mod connect;
pub mod hub;
pub mod keys;
pub mod known_hosts;
pub mod lend;
pub mod options;
mod password;
pub mod serve;
mod short_ecdsa;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty, Sig};

use self::ahead::Ahead;
use super::{Command, Exit, Piece, sudo::Become};
use crate::failure::{Failure, Kind};
use crate::secret::clean;

/// How long opening a channel may take.
const OPENING: Duration = Duration::from_secs(30);
/// The largest piece that is handed to russh at once, in bytes: one packet, so that no write spans a re-key.
const PACKET: usize = 32 << 10;
/// Output that is kept while we write, in bytes. A host that floods us instead of reading is cut off.
const MOST_KEPT: usize = 64 << 20;
/// What keeping a piece costs beside its bytes: a flood of single bytes counts for what it takes.
const PIECE_COST: usize = 256;

/// So many connections are made beside the first where a server allows few channels on one.
const MOST_SPARE: usize = 8;

struct Inner {
    handle: russh::client::Handle<connect::Client>,
    host: String,
    become_plan: Become,
    /// The way here, for a connection beside this one.
    target: connect::Target,
    /// Connections beside this one, for a server that allows few channels on one (`MaxSessions 1`).
    spare: tokio::sync::Mutex<Vec<SshSession>>,
    /// What logged us in.
    by: String,
    /// Why the connection ended, once it has.
    ended: Arc<Mutex<Option<String>>>,
    /// The key that the server proved.
    host_key: Option<lend::HostKey>,
    /// How the server called itself, at most 255 characters.
    server: String,
    /// The agent of ours that is lent to this host, while one is.
    lent: Arc<Mutex<Option<Arc<lend::Agent>>>>,
    /// The bastion's connection that this one runs through: it lives as long as we do.
    _through: Option<SshSession>,
}

/// Why there is no channel.
enum Unopened {
    /// The server allows no further one on this connection.
    Refused(Failure),
    /// Something else.
    Failed(Failure),
}

/// An authenticated SSH connection. Cheap to clone; it ends when the last clone is dropped.
#[derive(Clone)]
pub struct SshSession {
    inner: Arc<Inner>,
    /// Who to become, where it is another than the connection was made for.
    plan: Option<Arc<Become>>,
}

impl std::fmt::Debug for SshSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SshSession({})", self.inner.host)
    }
}

impl SshSession {
    pub(super) fn host(&self) -> &str {
        &self.inner.host
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(super) fn become_plan(&self) -> &Become {
        self.plan.as_deref().unwrap_or(&self.inner.become_plan)
    }

    pub(super) fn becoming(&self, plan: &Become) -> Self {
        Self { inner: Arc::clone(&self.inner), plan: Some(Arc::new(plan.clone())) }
    }

    /// What logged us in, for people: the key, or the method.
    pub fn logged_in_by(&self) -> &str {
        &self.inner.by
    }

    /// Why the connection ended, in the server's or the socket's words.
    fn why_ended(&self) -> String {
        let ended = self.inner.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.clone().unwrap_or_else(|| "the connection ended".to_owned())
    }

    fn gone(&self, error: &russh::Error) -> Failure {
        let why = if self.inner.handle.is_closed() { self.why_ended() } else { error.to_string() };
        Failure::new(Kind::Unreachable, "the connection to the host is gone").on(self.host()).saw(why).again()
    }

    /// Starts a command. With `terminal` it gets one of the host's, in raw mode: every byte passes as it is, nothing is
    /// echoed, and standard error comes with standard output.
    ///
    /// A server that allows no further channel on this connection (`MaxSessions`) gets another connection, which is kept for
    /// the next: a backup holds a shell and follows a job at the same time.
    pub(super) async fn open(&self, command: &Command, terminal: bool) -> Result<SshChild, Failure> {
        let refused = match self.open_here(command, terminal).await {
            Err(Unopened::Refused(refused)) => refused,
            Err(Unopened::Failed(failure)) => return Err(failure),
            Ok(child) => return Ok(child),
        };
        let mut spare = self.inner.spare.lock().await;
        spare.retain(|session| !session.is_closed());
        for session in spare.iter() {
            if let Ok(child) = session.open_here(command, terminal).await {
                return Ok(child);
            }
        }
        if spare.len() >= MOST_SPARE {
            return Err(refused);
        }
        tracing::info!(host = self.host(), beside = spare.len() + 1, "no further channel here: another connection");
        let session = match Box::pin(connect::connect(&self.inner.target, connect::Lane::Control)).await {
            Ok(session) => session,
            Err(failure) => return Err(refused.why(format!("and no connection beside it could be made: {failure}"))),
        };
        // One that refuses its first channel would refuse every other.
        match session.open_here(command, terminal).await {
            Err(Unopened::Refused(failure) | Unopened::Failed(failure)) => Err(failure),
            Ok(child) => {
                spare.push(session);
                Ok(child)
            }
        }
    }

    /// As [`super::Session::round_trip`].
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.inner.target.hub.round_trip(&self.inner.target)
    }

    /// Starts a command on this very connection.
    async fn open_here(&self, command: &Command, terminal: bool) -> Result<SshChild, Unopened> {
        let opening = async {
            let began = Instant::now();
            let channel = self.inner.handle.channel_open_session().await?;
            self.inner.target.hub.heard(&self.inner.target, began.elapsed());
            if terminal {
                // OpenSSH takes what is not named from the host's defaults: all that would change a byte is named.
                let raw = [
                    (Pty::ECHO, 0),
                    (Pty::ICANON, 0),
                    (Pty::ISIG, 0),
                    (Pty::IEXTEN, 0),
                    (Pty::ICRNL, 0),
                    (Pty::INLCR, 0),
                    (Pty::IGNCR, 0),
                    (Pty::ISTRIP, 0),
                    (Pty::IXON, 0),
                    (Pty::IXOFF, 0),
                    (Pty::IXANY, 0),
                    (Pty::PARMRK, 0),
                    (Pty::INPCK, 0),
                    (Pty::OPOST, 0),
                    (Pty::ONLCR, 0),
                    (Pty::CS8, 1),
                    (Pty::PARENB, 0),
                ];
                channel.request_pty(false, "dumb", 80, 24, 0, 0, &raw).await?;
            }
            channel.exec(true, command.as_str().as_bytes()).await?;
            Ok::<_, russh::Error>(channel)
        };
        let channel = match tokio::time::timeout(OPENING, opening).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => {
                let refused = Failure::new(Kind::Unreachable, "the server refused to open a channel")
                    .on(self.host())
                    .saw(format!("{reason:?}"))
                    .why("sshd allows MaxSessions channels on a connection")
                    .again();
                return Err(Unopened::Refused(refused));
            }
            Ok(Err(error)) => return Err(Unopened::Failed(self.gone(&error))),
            Err(_) => {
                let late = Failure::new(Kind::Unreachable, "the server did not open a channel within 30 s");
                return Err(Unopened::Failed(late.on(self.host()).again()));
            }
        };
        Ok(self.child(channel, terminal))
    }

    /// The key that the server proved when this connection was made.
    pub fn host_key(&self) -> Option<&lend::HostKey> {
        self.inner.host_key.as_ref()
    }

    /// How the server calls itself, cleaned: `SSH-2.0-OpenSSH_9.2p1 …`.
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    /// Lends this host an agent that knows `key` alone and signs one login with it. No other agent is ever forwarded.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the server lets no agent be forwarded, or one is lent already; [`Kind::Unreachable`].
    pub async fn lend(&self, key: Arc<lend::OneKey>, purpose: lend::Purpose) -> Result<lend::Lent, Failure> {
        let agent = Arc::new(lend::Agent::new(key, purpose));
        let slot = Arc::clone(&self.inner.lent);
        {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if slot.is_some() {
                return Err(Failure::new(Kind::Refused, "an agent is lent on this connection already").on(self.host()));
            }
            *slot = Some(Arc::clone(&agent));
        }
        let told = self.forward().await;
        match told {
            Ok((child, socket)) => Ok(lend::Lent { agent, slot, socket, _child: child }),
            Err(failure) => {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(failure)
            }
        }
    }

    /// Asks for the agent's socket, on a channel that stays open as long as it is wanted.
    async fn forward(&self) -> Result<(SshChild, String), Failure> {
        let mark = format!("@@{:032x}", rand::random::<u128>());
        let refused = || {
            Failure::new(Kind::Refused, "the server does not let an agent be forwarded")
                .on(self.host())
                .why("AllowAgentForwarding or DisableForwarding in its sshd_config says no")
        };
        let asking = async {
            let mut channel = self.inner.handle.channel_open_session().await.map_err(|error| self.gone(&error))?;
            channel.agent_forward(true).await.map_err(|error| self.gone(&error))?;
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Success) => break,
                    Some(ChannelMsg::Failure) | None => return Err(refused()),
                    Some(_) => {}
                }
            }
            let line = format!("exec /bin/sh -c 'printf \"%s %s\\n\" {mark} \"$SSH_AUTH_SOCK\"; exec cat'");
            channel.exec(true, line.as_bytes()).await.map_err(|error| self.gone(&error))?;
            let mut child = self.child(channel, false);
            let mut said = Vec::new();
            while said.len() < 64 << 10 {
                match child.next().await {
                    Some(Piece::Out(bytes)) => said.extend_from_slice(&bytes),
                    Some(Piece::Err(_)) => {}
                    None => return Err(child.lost()),
                }
                let text = String::from_utf8_lossy(&said).into_owned();
                let Some((_, rest)) = text.split_once(&mark) else { continue };
                let Some((path, _)) = rest.split_once('\n') else { continue };
                let path = path.trim().to_owned();
                let fits = path.starts_with('/') && path.len() < 108 && !path.chars().any(char::is_control);
                return if fits { Ok((child, path)) } else { Err(refused()) };
            }
            Err(Failure::new(Kind::Failed, "the host said something else than where its socket is").on(self.host()))
        };
        match tokio::time::timeout(OPENING, asking).await {
            Ok(told) => told,
            Err(_) => Err(Failure::new(Kind::Unreachable, "the server did not forward an agent within 30 s")
                .on(self.host())
                .again()),
        }
    }

    fn child(&self, channel: russh::Channel<Msg>, terminal: bool) -> SshChild {
        let (read, write) = channel.split();
        SshChild {
            session: self.clone(),
            read,
            write: Some(write),
            heard: Heard::new(),
            ended: false,
            input_closed: false,
            terminal,
        }
    }

    pub(super) async fn close(&self) {
        let spare = std::mem::take(&mut *self.inner.spare.lock().await);
        for session in spare {
            Box::pin(session.close()).await;
        }
        let bye = self.inner.handle.disconnect(russh::Disconnect::ByApplication, "", "");
        let _ = tokio::time::timeout(Duration::from_secs(2), bye).await;
    }

    /// True when the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.handle.is_closed()
    }
}

/// A command that runs on the host. Dropping it closes our end of the channel.
pub struct SshChild {
    session: SshSession,
    read: ChannelReadHalf,
    /// `None` only while being dropped.
    write: Option<ChannelWriteHalf<Msg>>,
    heard: Heard,
    ended: bool,
    input_closed: bool,
    /// It runs on a terminal: both its outputs come as one.
    pub(in crate::remote) terminal: bool,
}

/// What a command's channel said, besides the output that was handed on.
struct Heard {
    /// Output that came while we wrote.
    kept: VecDeque<Piece>,
    kept_bytes: usize,
    exit: Option<Exit>,
    /// The server said that no more output comes.
    output_ended: bool,
    ahead: Ahead,
}

impl Heard {
    fn new() -> Self {
        Self { kept: VecDeque::new(), kept_bytes: 0, exit: None, output_ended: false, ahead: Ahead::new() }
    }

    /// Keeps what is output; whether no more than we keep was said.
    fn keep(&mut self, message: ChannelMsg) -> bool {
        if let Some(piece) = self.heed(message) {
            self.kept_bytes += size(&piece) + PIECE_COST;
            self.kept.push_back(piece);
        }
        self.kept_bytes <= MOST_KEPT
    }

    fn heed(&mut self, message: ChannelMsg) -> Option<Piece> {
        let end = match message {
            ChannelMsg::WindowAdjusted { new_size } => {
                self.ahead.hear(new_size);
                return None;
            }
            ChannelMsg::Data { data } => return Some(Piece::Out(data)).filter(|piece| size(piece) > 0),
            ChannelMsg::ExtendedData { data, ext: 1 } => {
                return Some(Piece::Err(data)).filter(|piece| size(piece) > 0);
            }
            ChannelMsg::ExitStatus { exit_status } => Exit::Code(i32::try_from(exit_status).unwrap_or(i32::MAX)),
            ChannelMsg::ExitSignal { signal_name: Sig::Custom(name), .. } => {
                Exit::Signal(clean(name.as_bytes()).chars().take(40).collect())
            }
            ChannelMsg::ExitSignal { signal_name, .. } => Exit::Signal(format!("{signal_name:?}")),
            ChannelMsg::Failure => Exit::Lost("the server refused to run a command".to_owned()),
            ChannelMsg::Eof | ChannelMsg::Close => {
                self.output_ended = true;
                return None;
            }
            _ => return None,
        };
        // A command ends once. From a server that tells two ends, a success is not believed.
        if self.exit.as_ref().is_none_or(Exit::ok) {
            self.exit = Some(end);
        }
        None
    }
}

impl std::fmt::Debug for SshChild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SshChild({})", self.session.host())
    }
}

impl SshChild {
    pub(super) async fn next(&mut self) -> Option<Piece> {
        if let Some(piece) = self.heard.kept.pop_front() {
            self.heard.kept_bytes -= size(&piece) + PIECE_COST;
            return Some(piece);
        }
        // OpenSSH says EOF before the exit status: only the channel's own end is the end.
        while !self.ended {
            match self.read.wait().await {
                Some(message) => {
                    if let Some(piece) = self.heard.heed(message) {
                        return Some(piece);
                    }
                }
                None => self.ended = true,
            }
        }
        None
    }

    pub(super) fn unread(&mut self, piece: Piece) {
        self.heard.kept_bytes += size(&piece) + PIECE_COST;
        self.heard.kept.push_front(piece);
    }

    fn lost(&self) -> Failure {
        let what = if self.session.is_closed() {
            "the connection to the host is gone"
        } else {
            "the command has ended and takes no more input"
        };
        let mut failure = Failure::new(Kind::Unreachable, what).on(self.session.host()).again();
        if self.session.is_closed() {
            failure = failure.saw(self.session.why_ended());
        }
        failure
    }

    /// Writes, and hears at the same time: the reading half is what notices that the connection has died.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write_bytes(Bytes::copy_from_slice(bytes)).await
    }

    pub(super) async fn write_bytes(&mut self, mut bytes: Bytes) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let packet = bytes.split_to(bytes.len().min(PACKET));
            self.give_way().await?;
            if self.ended || self.input_closed {
                return Err(self.lost());
            }
            let Some(write) = &self.write else { return Err(self.lost()) };
            self.heard.ahead.sends(packet.len());
            let mut sending = std::pin::pin!(write.data_bytes(packet));
            loop {
                let message = tokio::select! {
                    biased;
                    sent = &mut sending => {
                        sent.map_err(|_| self.lost())?;
                        break;
                    }
                    message = self.read.wait() => message,
                };
                let Some(message) = message else {
                    self.ended = true;
                    return Err(self.lost());
                };
                if !self.heard.keep(message) {
                    return Err(self.flooded());
                }
            }
        }
        Ok(())
    }

    /// Waits while the command has enough before it.
    async fn give_way(&mut self) -> Result<(), Failure> {
        // Output is no word that anything was taken: who talks without end does not make us wait longer.
        let mut until = tokio::time::Instant::now() + ahead::PATIENCE;
        while self.heard.ahead.enough() {
            match tokio::time::timeout_at(until, self.read.wait()).await {
                Err(_) => {
                    self.heard.ahead.waited();
                    until = tokio::time::Instant::now() + ahead::PATIENCE;
                }
                Ok(Some(message)) => {
                    if !self.heard.keep(message) {
                        return Err(self.flooded());
                    }
                }
                Ok(None) => {
                    self.ended = true;
                    break;
                }
            }
        }
        Ok(())
    }

    fn flooded(&self) -> Failure {
        Failure::new(Kind::Failed, "the host floods us instead of reading")
            .on(self.session.host())
            .why("no more than 64 MiB of output is kept while input waits to be taken")
    }

    pub(super) async fn close_input(&mut self) {
        if !self.input_closed {
            self.input_closed = true;
            if let Some(write) = &self.write {
                let _ = tokio::time::timeout(OPENING, write.eof()).await;
            }
        }
    }

    pub(super) fn exit_seen(&mut self) -> Exit {
        // A command that ended may have said more than what came before the connection died.
        self.heard.exit.clone().filter(|exit| self.heard.output_ended || matches!(exit, Exit::Lost(_))).unwrap_or_else(
            || {
                Exit::Lost(if self.session.is_closed() {
                    self.session.why_ended()
                } else {
                    "the channel was closed".to_owned()
                })
            },
        )
    }
}

impl Drop for SshChild {
    /// russh leaves a dropped channel open at the server: closing it takes a task.
    fn drop(&mut self) {
        if let (false, Some(write), Ok(runtime)) =
            (self.ended, self.write.take(), tokio::runtime::Handle::try_current())
        {
            let session = self.session.clone();
            runtime.spawn(async move {
                let _ = tokio::time::timeout(OPENING, write.close()).await;
                drop(session);
            });
        }
    }
}

/// What a message of the channel means to us: a piece, or a note about the end. The rest is dropped
/// at once, since a server may send any number of it.
fn size(piece: &Piece) -> usize {
    match piece {
        Piece::Out(bytes) | Piece::Err(bytes) => bytes.len(),
    }
}
