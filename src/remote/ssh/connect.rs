//! Making a connection: name, TCP, banner, key exchange, host key, authentication, each with its
//! own time limit and its own sentence when it fails; directly, through one jump host, or over any
//! byte stream that is handed in.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use russh::client::{ChannelOpenHandle, Config, DisconnectReason, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::Algorithm;
use russh::keys::ssh_key::PublicKey;
use russh::{Channel, cipher, compression, kex, mac};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use super::auth::{self, Identities};
use super::hub::Hub;
use super::known_hosts::{KnownHosts, Offered, Verdict};
use super::lend::{self, HostKey};
use super::{Inner, SshSession};
use crate::failure::{Failure, Kind};
use crate::remote::sudo::Become;
use crate::secret::clean;

/// A byte stream that SSH can be spoken over: a socket, a tunnel through a bastion, a test's pipe.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// What to do with a host key that no known_hosts file knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strict {
    /// Refuse it (OpenSSH's `yes`; ours without a terminal).
    Yes,
    /// Ask the person at the terminal before the run begins ([`introduce`]); what was not accepted then is refused
    /// (OpenSSH's `ask`; ours at a terminal).
    Ask,
    /// Write it down and go on (OpenSSH's `accept-new`).
    AcceptNew,
}

/// What a connection is for: it decides the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Commands and logs.
    Control,
    /// One stream of an archive: a window that fills a long link.
    Bulk,
    /// One of several such streams, which fill the link together.
    Strand,
}

impl Lane {
    /// The window to open, in bytes, for a peer that is one `round_trip` away (`None`: not known).
    ///
    /// russh opens the window again when half of it is used, so a stream gets half a window a round trip: twice the link's
    /// rate times the round trip fills it, here up to 5 Gbit/s, which is what one sshd encrypts. No more than that: what sshd
    /// may send and the link does not take lies in its own buffer, and it moves that about with every packet. On loopback 32 MiB
    /// instead of 2 cost half as much again of wall time.
    fn window(self, round_trip: Option<Duration>) -> u32 {
        const LEAST: u64 = 2 << 20;
        const MOST: u64 = 32 << 20;
        // A window is memory here where what comes is taken away more slowly: each of eight may have this.
        const SHARE: u64 = 4 << 20;
        const BYTES_A_MICROSECOND: u64 = 625;
        let wanted = match (self, round_trip) {
            (Self::Control, _) => LEAST,
            (Self::Bulk, None) => MOST,
            (Self::Strand, None) => SHARE,
            (Self::Bulk | Self::Strand, Some(time)) => {
                let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                let most = if self == Self::Strand { SHARE } else { MOST };
                micros.saturating_mul(2 * BYTES_A_MICROSECOND).clamp(LEAST, most)
            }
        };
        u32::try_from(wanted).unwrap_or(u32::MAX)
    }

    /// The largest packet that a peer may send, in bytes. What a packet costs beside its bytes is paid half as often with
    /// larger ones, and sshd makes them where there is enough to send. russh warns of more.
    fn packet(self) -> u32 {
        match self {
            Self::Control => 32 << 10,
            Self::Bulk | Self::Strand => 65535,
        }
    }

    /// So many packets wait for whoever takes them before the connection is no longer read. With few the next one is
    /// copied into memory that is still in the processor's cache.
    fn waiting(self) -> usize {
        match self {
            Self::Control => 100,
            Self::Bulk | Self::Strand => 16,
        }
    }
}

/// Everything that is needed to reach one host.
#[derive(Clone)]
pub struct Target {
    /// The inventory's name of the host, for messages.
    pub host: String,
    /// Name or address to connect to.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// Login user.
    pub user: String,
    /// Keys and agent to offer.
    pub identities: Identities,
    /// known_hosts files; the first is the one that `accept-new` writes to.
    pub known_hosts: Vec<PathBuf>,
    /// The name looked up in known_hosts instead of the address (`HostKeyAlias`).
    pub host_key_alias: Option<String>,
    /// What to do with an unknown key.
    pub strict: Strict,
    /// `HashKnownHosts` for what `accept-new` writes.
    pub hash_known_hosts: bool,
    /// Limit of each step: TCP, handshake, authentication.
    pub timeout: Duration,
    /// The last of the jump hosts; it has its own before it, as many as there are.
    pub jump: Option<Box<Target>>,
    /// Who to become there.
    pub become_plan: Become,
    /// What the connections of the run share.
    pub hub: Hub,
    /// Host key checking was switched off: new keys are taken with a warning, and nothing that moves archives runs so.
    pub careless: bool,
    /// A command whose input and output are the connection, instead of a socket.
    pub proxy: Option<Proxy>,
    /// Which addresses to take, and where to come from.
    pub socket: Socket,
    /// Algorithms that the operator wants.
    pub algorithms: Algorithms,
    /// `ServerAliveInterval` in seconds and `ServerAliveCountMax`; never slower than our own.
    pub alive: Option<(u64, u64)>,
    /// What ssh_config allows and ferry does not have: told when nothing lets us in.
    pub notes: Vec<String>,
}

impl Target {
    /// A host at an address and a port as it is reached with nothing else configured: its key has to be known, no jump host, nobody
    /// to become, ten seconds for each step.
    pub fn new(
        host: &str,
        (address, port): (&str, u16),
        user: &str,
        identities: Identities,
        known_hosts: PathBuf,
    ) -> Self {
        Self {
            host: host.to_owned(),
            address: address.to_owned(),
            port,
            user: user.to_owned(),
            identities,
            known_hosts: vec![known_hosts],
            host_key_alias: None,
            strict: Strict::Yes,
            hash_known_hosts: false,
            timeout: Duration::from_secs(10),
            jump: None,
            become_plan: Become::off(),
            hub: Hub::default(),
            careless: false,
            proxy: None,
            socket: Socket::default(),
            algorithms: Algorithms::default(),
            alive: None,
            notes: Vec::new(),
        }
    }
}

/// A `ProxyCommand`, tokens filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// A line for the operator's shell.
    pub command: String,
    /// Variables that it does not inherit.
    pub hide: Vec<String>,
}

/// `AddressFamily`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `inet`.
    V4,
    /// `inet6`.
    V6,
}

/// What our end of the socket is to be like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Socket {
    /// Addresses of this family only.
    pub family: Option<Family>,
    /// `BindAddress`.
    pub bind: Option<std::net::IpAddr>,
    /// How often a connection that was not made is tried once more (`ansible_ssh_retries`), with pauses that grow to 30 s.
    pub retries: u32,
}

/// `KexAlgorithms`, `Ciphers`, `MACs` and `HostKeyAlgorithms` as written, with `+`, `-`, `^` and patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Algorithms {
    /// Key exchange.
    pub kex: Option<String>,
    /// Ciphers.
    pub ciphers: Option<String>,
    /// Message authentication.
    pub macs: Option<String>,
    /// Types of host keys.
    pub host_keys: Option<String>,
}

/// Names of signatures that keys may be offered with (`PubkeyAcceptedAlgorithms`).
pub const SIGNATURES: &[&str] = &[
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "sk-ssh-ed25519-cert-v01@openssh.com",
    "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.address, self.port)
    }
}

impl Target {
    fn step(&self) -> String {
        format!("ssh {}@{} port {}", self.user, self.address, self.port)
    }

    /// What is wrong in the operator's files that this connection needs, the jump host's as well: told
    /// before any host is touched. [`Kind::CouldNotStart`]: a named key that cannot be used, a
    /// known_hosts file that cannot be read, a line there that means nothing. Asks for passphrases,
    /// so it may wait for a person.
    pub fn wrong(&self) -> Vec<Failure> {
        let known = KnownHosts::load(&self.known_hosts).map(|known| known.warnings().to_vec());
        let mut wrong = known.unwrap_or_else(|failure| vec![failure]);
        wrong.extend(self.identities.wrong());
        wrong.extend(self.algorithms.wrong().map(|what| Failure::new(Kind::CouldNotStart, what).on(&self.host)));
        wrong.extend(self.jump.iter().flat_map(|hop| hop.wrong()));
        wrong
    }

    /// The servers on the way whose keys are taken unseen, each a sentence.
    pub(in crate::remote) fn careless(&self) -> Vec<String> {
        let mut all = self.jump.as_ref().map(|hop| hop.careless()).unwrap_or_default();
        if self.careless {
            all.push(format!(
                "host key checking is switched off for {}: a new key is taken and recorded unseen; a changed one is refused all the same",
                self.host
            ));
        }
        all
    }

    /// The servers on the way, the nearest first.
    pub fn way(&self) -> String {
        self.chain()
    }

    pub(super) fn chain(&self) -> String {
        let before = self.jump.as_ref().map(|hop| hop.chain() + " > ").unwrap_or_default();
        format!("{before}{}:{}", self.address, self.port)
    }

    /// Whether a connection to `other` may serve for this one: the same server by the same way, the same user, let in
    /// by the same means, trusted by the same files. What is done there afterwards does not matter.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let jump = match (&self.jump, &other.jump) {
            (None, None) => true,
            (Some(this), Some(other)) => this.same_as(other),
            _ => false,
        };
        jump && self.address == other.address
            && self.port == other.port
            && self.user == other.user
            && self.known_hosts == other.known_hosts
            && self.host_key_alias == other.host_key_alias
            && self.strict == other.strict
            && self.proxy == other.proxy
            && self.socket == other.socket
            && self.algorithms == other.algorithms
            && self.identities.same_as(&other.identities)
    }

    /// The step of a failure on the way through the jump host.
    fn through(&self) -> String {
        format!("through jump host {}", self.jump.as_ref().map_or("", |hop| &hop.address))
    }

    fn lookup(&self) -> (&str, u16) {
        // As OpenSSH: an alias is looked up without the port.
        self.host_key_alias.as_deref().map_or((self.address.as_str(), self.port), |alias| (alias, 22))
    }
}

fn unreachable(target: &Target, what: impl Into<String>) -> Failure {
    Failure::new(Kind::Unreachable, what).on(&target.host)
}

/// Connects, through the jump host where there is one.
///
/// # Errors
/// [`Kind::Unreachable`] with the chain of steps and the one that failed; [`Kind::CouldNotStart`]
/// when a key or known_hosts file here is wrong.
pub async fn connect(target: &Target, lane: Lane) -> Result<SshSession, Failure> {
    let mut began = Instant::now();
    let (mut attempt, mut retried) = (0, 0);
    loop {
        attempt += 1;
        tracing::info!(host = %target.host, address = %target.address, port = target.port, user = %target.user, attempt, "connecting");
        match connect_once(target, lane).await {
            // sshd drops handshakes at random when many come at once (MaxStartups). A host that is not
            // there now is for the caller to try again, who knows how long that is worth while; and one
            // that kept us waiting for a whole step would do so each time.
            Err(failure)
                if failure.again
                    && attempt < if failure.what == BUSY { 40 } else { 4 }
                    && began.elapsed() < target.timeout
                    && !failure.chain.iter().any(|step| step == "TCP" || step == "DNS") =>
            {
                let jitter: u64 = rand::random_range(50..250);
                tokio::time::sleep(Duration::from_millis(jitter * attempt.min(4))).await;
            }
            // Never after a refusal: a password that is sent again and again locks an account.
            Err(failure) if failure.again && retried < target.socket.retries => {
                retried += 1;
                let pause = Duration::from_secs((1_u64 << retried.min(5)).saturating_sub(1).min(30));
                tracing::info!(host = %target.host, retried, of = target.socket.retries, what = %failure.what, "once more");
                tokio::time::sleep(pause).await;
                (began, attempt) = (Instant::now(), 0);
            }
            other => return other,
        }
    }
}

/// How far away a server is, by the time that its way took to make and by what the server itself took to answer before.
/// Whatever ends TCP on the way (a load balancer, a forwarded port) makes the first too short; the second holds what the server
/// does before it answers, most for the first channel of a connection.
fn distance(way: Option<Duration>, answer: Option<Duration>) -> Option<Duration> {
    const SERVER: Duration = Duration::from_millis(20);
    match (way, answer) {
        (Some(way), Some(answer)) => Some(way.max(answer.saturating_sub(SERVER))),
        (way, answer) => way.or(answer),
    }
}

async fn connect_once(target: &Target, lane: Lane) -> Result<SshSession, Failure> {
    let road = road(target, lane).await?;
    let through = road.through.is_some();
    let round_trip = distance(road.round_trip, target.hub.round_trip(target));
    let made = over(road.stream, target, lane, round_trip, road.through).await;
    match made {
        Err(failure) if through => Err(failure.within(target.through())),
        Err(failure) => Err(match road.said {
            Some(said) => said.explain(failure).await,
            None => failure,
        }),
        made => made,
    }
}

/// What a `ProxyCommand` says on its standard error, the first 4 KiB.
#[derive(Clone, Default)]
struct Complaint(Arc<Mutex<Vec<u8>>>);

impl Complaint {
    async fn hear(self, mut from: tokio::process::ChildStderr) {
        use tokio::io::AsyncReadExt as _;
        let mut buffer = [0; 1024];
        while let Ok(count) = from.read(&mut buffer).await {
            if count == 0 {
                return;
            }
            let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let room = 4096_usize.saturating_sub(heard.len()).min(count);
            heard.extend_from_slice(buffer.get(..room).unwrap_or_default());
        }
    }

    /// The command's words with a failure, where it said any. It may still be about to.
    async fn explain(&self, failure: Failure) -> Failure {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let said = crate::secret::clean(heard.trim_ascii());
        if said.is_empty() { failure } else { failure.why(format!("the ProxyCommand said: {said}")) }
    }
}

/// A stream of bytes to a server, on which nothing was said yet.
struct Road {
    stream: Box<dyn Stream>,
    /// How long the way there and back is; `None` when that is not known.
    round_trip: Option<Duration>,
    /// The bastion's connection that it runs through.
    through: Option<SshSession>,
    /// What the `ProxyCommand` complains about.
    said: Option<Complaint>,
    /// Our place among the handshakes with this server.
    _door: Option<OwnedSemaphorePermit>,
}

/// Makes the way to a server: a socket, or a tunnel through the jump host, which is reached first.
async fn road(target: &Target, lane: Lane) -> Result<Road, Failure> {
    if let Some(proxy) = &target.proxy {
        let _door = target.hub.door(target).await;
        let (stream, said) = proxy.start().map_err(|error| {
            unreachable(target, "the ProxyCommand could not be started")
                .saw(format!("{}: {error}", proxy.command))
                .within(target.step())
        })?;
        return Ok(Road { stream: Box::new(stream), round_trip: None, through: None, said: Some(said), _door });
    }
    let Some(hop) = &target.jump else {
        let _door = target.hub.door(target).await;
        let (stream, round_trip) = tcp(target).await.map_err(|failure| failure.within(target.step()))?;
        return Ok(Road { stream: Box::new(stream), round_trip: Some(round_trip), through: None, said: None, _door });
    };
    let reached = Box::pin(connect(hop, lane));
    let bastion = match lane {
        Lane::Control => target.hub.bastion(hop, reached).await,
        Lane::Bulk | Lane::Strand => reached.await,
    };
    let bastion = bastion.map_err(|failure| failure.on(&target.host).within(target.through()))?;
    let _door = target.hub.door(target).await;
    // The jump host answers when its connection stands: that takes the round trip to it and on to the target.
    let began = Instant::now();
    let tunnel =
        bastion.inner.handle.channel_open_direct_tcpip(target.address.clone(), u32::from(target.port), "127.0.0.1", 0);
    let failure = match tokio::time::timeout(target.timeout, tunnel).await {
        Ok(Ok(channel)) => {
            return Ok(Road {
                stream: Box::new(channel.into_stream()),
                round_trip: Some(began.elapsed()),
                through: Some(bastion),
                said: None,
                _door,
            });
        }
        Ok(Err(error)) => {
            unreachable(target, format!("the jump host could not reach {} port {}", target.address, target.port))
                .saw(error.to_string())
                .mend(format!("on the jump host: nc -vz {} {}", target.address, target.port))
        }
        Err(_) => unreachable(
            target,
            format!("the jump host did not reach {} within {} s", target.address, target.timeout.as_secs()),
        )
        .again(),
    };
    Err(failure.within(target.through()))
}

/// The way to a server behind others, those logged in to, and nothing said on it yet: for looking at what answers there.
/// `None` where a command or nothing lies before it; then the address says as much.
///
/// # Errors
/// As [`connect`] to the last server before it, or that this one could not be reached from there.
pub async fn knock(target: &Target) -> Result<Option<impl AsyncRead + AsyncWrite + Unpin + use<>>, Failure> {
    if target.jump.is_none() || target.proxy.is_some() {
        return Ok(None);
    }
    let Road { stream, through, .. } = road(target, Lane::Control).await?;
    Ok(Some(Kept { stream, _with: through }))
}

/// A stream, and what has to live as long as it does: the connection that it runs through, the command whose pipes it is.
struct Kept<S, K> {
    stream: S,
    _with: K,
}

impl<S: AsyncRead + Unpin, K: Unpin> AsyncRead for Kept<S, K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin, K: Unpin> AsyncWrite for Kept<S, K> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a person decides about a key that nobody recorded.
pub type Decide<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// Meets the servers on the way to `target` whose keys nobody recorded, where [`Strict::Ask`] holds, and asks the person
/// about each: `yes`, or the fingerprint typed, records the key. For the time before a run begins: a question in its
/// middle would be drawn over, and outlast the server's patience. A server that is not reached is not asked
/// about; the run will say why.
///
/// # Errors
/// [`Kind::CouldNotStart`] when a known_hosts file cannot be read or written.
pub async fn introduce(target: &Target, ask: Decide<'_>) -> Result<(), Failure> {
    if let Some(hop) = &target.jump {
        Box::pin(introduce(hop, ask)).await?;
    }
    let (name, port) = target.lookup();
    let known = KnownHosts::load(&target.known_hosts)?;
    let (Strict::Ask, Some(file)) = (target.strict, target.known_hosts.first()) else { return Ok(()) };
    if known.records(name, port) {
        return Ok(());
    }
    let Ok(road) = road(target, Lane::Control).await else { return Ok(()) };
    let met = Arc::new(Mutex::new(None));
    let config = config(Lane::Control, None, target, known.algorithms(name, port), Vec::new());
    let client = Client {
        target: target.clone(),
        known: known.clone(),
        refusal: Arc::default(),
        ended: Arc::default(),
        accepted: None,
        host_key: Arc::default(),
        lent: Arc::default(),
        meet: Some(Arc::clone(&met)),
    };
    let shaking = russh::client::connect_stream(Arc::new(config), road.stream, client);
    let _ = tokio::time::timeout(target.timeout, shaking).await;
    let Some(key) = met.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
    let offered = Offered::PublicKey(key.clone());
    let shown = offered.fingerprint();
    let entry = if port == 22 { name.to_owned() } else { format!("[{name}]:{port}") };
    let via = target.jump.as_ref().map(|hop| format!(", through {}", hop.chain())).unwrap_or_default();
    let elsewhere = known.other_names(name, port, &offered);
    let elsewhere = if elsewhere.is_empty() { String::new() } else { format!("Of other names: {elsewhere}.\n") };
    let question = format!(
        "The host key of {entry} (host {}, {}:{}{via}) is not recorded for it.\n  {shown}\n{elsewhere}\
         Compare it with the host's own: ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there.\n\
         Record it in {}? Type yes, no, or the fingerprint: ",
        target.host,
        target.address,
        target.port,
        file.display(),
    );
    let answer = ask(&question).unwrap_or_default();
    let answer = answer.trim();
    if answer.eq_ignore_ascii_case("yes") || answer == shown {
        KnownHosts::accept_new(file, name, port, &key, target.hash_known_hosts)?;
    }
    Ok(())
}

/// Name and TCP, each address in turn; and how long the address that answered took to.
async fn tcp(target: &Target) -> Result<(Prompt, Duration), Failure> {
    let looked_up =
        tokio::time::timeout(target.timeout, tokio::net::lookup_host((target.address.as_str(), target.port))).await;
    let addresses: Vec<SocketAddr> = match looked_up {
        Ok(Ok(addresses)) => addresses.filter(|address| target.socket.takes(address)).collect(),
        Ok(Err(error)) => {
            return Err(unreachable(target, format!("the name {} could not be resolved", target.address))
                .saw(error.to_string())
                .mend("set ansible_host to an address, or mend DNS")
                .within("DNS")
                .again());
        }
        Err(_) => {
            return Err(unreachable(
                target,
                format!("resolving {} took more than {} s", target.address, target.timeout.as_secs()),
            )
            .within("DNS")
            .again());
        }
    };
    let mut last = unreachable(target, format!("the name {} has no address", target.address)).within("DNS").again();
    for address in addresses {
        let began = Instant::now();
        match tokio::time::timeout(target.timeout, target.socket.connect(address)).await {
            Ok(Ok(stream)) => {
                let took = began.elapsed();
                tune(&stream);
                return Ok((Prompt { stream, left: Prompt::TURNS, owes: false }, took));
            }
            Ok(Err(error)) => {
                let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
                last = unreachable(target, format!("no TCP connection to {address}"))
                    .saw(error.to_string())
                    .mend(if refused {
                        "is sshd running there, and is this its port (ansible_port)?"
                    } else {
                        "is the address right, and does a firewall let us through?"
                    })
                    .within("TCP")
                    .again();
            }
            Err(_) => {
                last = unreachable(
                    target,
                    format!("no TCP connection to {address} within {} s", target.timeout.as_secs()),
                )
                .mend("is the host up, and does a firewall drop us? ansible_ssh_timeout raises the limit")
                .within("TCP")
                .again();
            }
        }
    }
    Err(last)
}

impl Socket {
    fn takes(&self, address: &SocketAddr) -> bool {
        let same_as_bound = self.bind.is_none_or(|bind| bind.is_ipv4() == address.is_ipv4());
        same_as_bound
            && match self.family {
                None => true,
                Some(Family::V4) => address.is_ipv4(),
                Some(Family::V6) => address.is_ipv6(),
            }
    }

    async fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let Some(bind) = self.bind else { return TcpStream::connect(address).await };
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(bind, 0))?;
        socket.connect(address).await
    }
}

/// A socket that acknowledges at once what comes while a connection is made.
///
/// Until its first command sshd sends small packets by Nagle's rule: the next one waits until the one before is acknowledged, and
/// Linux keeps an acknowledgement back for 40 ms in the hope of something to send along with it. So every connection stood
/// still for 40 ms before its first channel.
struct Prompt {
    stream: TcpStream,
    /// So often more it is done.
    left: u32,
    /// Something came since.
    owes: bool,
}

impl Prompt {
    /// Of a dozen reads that a handshake waits for; jump hosts and questions make it more.
    const TURNS: u32 = 64;
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.left > 0 {
            match polled {
                Poll::Ready(_) => self.owes = true,
                Poll::Pending if self.owes => {
                    (self.owes, self.left) = (false, self.left - 1);
                    #[cfg(target_os = "linux")]
                    let _ = socket2::SockRef::from(&self.stream).set_tcp_quickack(true);
                }
                Poll::Pending => {}
            }
        }
        polled
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// No delay for small packets; a peer that acknowledges nothing for 45 s is dead, also while we
/// are blocked in a write, when no keepalive is sent.
fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let alive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(20)).with_interval(Duration::from_secs(10));
    let _ = stream.set_nodelay(true);
    let _ = socket.set_tcp_keepalive(&alive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(Duration::from_secs(45)));
}

/// Speaks SSH over `stream`: banner, key exchange, host key, authentication.
///
/// # Errors
/// As [`connect`].
pub async fn connect_over(
    stream: impl Stream,
    target: &Target,
    lane: Lane,
    through: Option<SshSession>,
) -> Result<SshSession, Failure> {
    over(stream, target, lane, None, through).await
}

async fn over(
    stream: impl Stream,
    target: &Target,
    lane: Lane,
    round_trip: Option<Duration>,
    through: Option<SshSession>,
) -> Result<SshSession, Failure> {
    handshake(stream, target, lane, round_trip, through).await.map_err(|failure| failure.within(target.step()))
}

async fn handshake(
    stream: impl Stream,
    target: &Target,
    lane: Lane,
    round_trip: Option<Duration>,
    through: Option<SshSession>,
) -> Result<SshSession, Failure> {
    let known = KnownHosts::load(&target.known_hosts)?;
    let (name, port) = target.lookup();
    let (keys, certificates) = (known.algorithms(name, port), known.certificate_algorithms(name, port));
    let config = config(lane, round_trip, target, keys, certificates);
    let refusal = Arc::new(Mutex::new(None));
    let ended = Arc::new(Mutex::new(None));
    let banner = Arc::new(Mutex::new(Vec::new()));
    let host_key = Arc::new(Mutex::new(None));
    let lent = Arc::default();
    let client = Client {
        target: target.clone(),
        known,
        refusal: Arc::clone(&refusal),
        ended: Arc::clone(&ended),
        accepted: None,
        host_key: Arc::clone(&host_key),
        lent: Arc::clone(&lent),
        meet: None,
    };
    let stream = Overheard { stream, heard: Arc::clone(&banner) };
    let shaking = russh::client::connect_stream(Arc::new(config), stream, client);
    let mut handle = match tokio::time::timeout(target.timeout, shaking).await {
        Ok(Ok(handle)) => handle,
        outcome => {
            let refused = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(failure) = refused {
                return Err(failure);
            }
            let error = match outcome {
                Ok(Err(error)) => error.to_string(),
                _ => format!("nothing within {} s", target.timeout.as_secs()),
            };
            let heard = banner.lock().unwrap_or_else(PoisonError::into_inner).clone();
            return Err(handshake_failure(target, &heard, error));
        }
    };
    tracing::debug!(host = %target.host, "key exchange done, host key accepted");
    let by = auth::authenticate(&mut handle, target, &ended).await?;
    tracing::info!(host = %target.host, "authenticated");
    Ok(SshSession {
        inner: Arc::new(Inner {
            handle,
            host: target.host.clone(),
            become_plan: target.become_plan.clone(),
            target: target.clone(),
            spare: tokio::sync::Mutex::default(),
            by,
            ended,
            host_key: host_key.lock().unwrap_or_else(PoisonError::into_inner).take(),
            server: greeting(&banner.lock().unwrap_or_else(PoisonError::into_inner)),
            lent,
            _through: through,
        }),
        plan: None,
    })
}

/// The line of a server's first words that says what it is.
fn greeting(heard: &[u8]) -> String {
    let line = heard.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"SSH-")).unwrap_or_default();
    clean(line.trim_ascii()).chars().take(255).collect()
}

/// A server that drops new connections for a moment.
const BUSY: &str = "the server has too many connections that have not logged in yet";

fn handshake_failure(target: &Target, heard: &[u8], error: String) -> Failure {
    let first = String::from_utf8_lossy(heard.get(..heard.len().min(120)).unwrap_or_default()).trim().to_owned();
    if heard.starts_with(b"Exceeded MaxStartups") {
        unreachable(target, BUSY)
            .saw(first)
            .why("sshd drops new connections while too many have not logged in yet (MaxStartups)")
            .mend("raise MaxStartups in its sshd_config, or go with less forks (-f)")
            .within("banner")
            .again()
    } else if heard.is_empty() {
        unreachable(target, "the server took the connection and sent no SSH banner")
            .saw(error)
            .mend("sshd drops new connections when too many come at once (MaxStartups), or TCP wrappers refuse us: look in its log")
            .within("banner")
            .again()
    } else if !heard.starts_with(b"SSH-") && !heard.windows(5).any(|line| line == b"\nSSH-") {
        unreachable(target, "what answers there does not speak SSH")
            .saw(first)
            .mend("is the port right (ansible_port)?")
            .within("banner")
    } else {
        let common = error.contains("No common") || error.contains("common");
        let failure = unreachable(target, "the key exchange failed")
            .saw(format!("{error}; the server is {}", first.lines().next().unwrap_or_default()));
        let failure = if common {
            failure.mend("the server offers only algorithms that ferry refuses (SHA-1, CBC); bring it up to date")
        } else {
            failure.again()
        };
        failure.within("key exchange")
    }
}

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];

/// russh's own order, and behind it the curves of NIST, which a FIPS server may have only.
fn key_exchanges() -> Vec<kex::Name> {
    let mut all = russh::Preferred::DEFAULT.kex.to_vec();
    for name in [kex::ECDH_SHA2_NISTP256, kex::ECDH_SHA2_NISTP384, kex::ECDH_SHA2_NISTP521] {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// What of `ours` is left of an algorithm list. Names that russh adds for its own signalling stay.
fn chosen<N: AsRef<str> + Copy>(spec: Option<&str>, ours: &[N]) -> Vec<N> {
    let Some(spec) = spec else { return ours.to_vec() };
    let signal = |name: &str| name.starts_with("ext-info-") || name.starts_with("kex-strict-");
    let names: Vec<&str> = ours.iter().map(AsRef::as_ref).filter(|name| !signal(name)).collect();
    let wanted = super::config::algorithms(spec, &names, &names);
    let mut chosen: Vec<N> =
        wanted.iter().filter_map(|name| ours.iter().find(|known| known.as_ref() == name).copied()).collect();
    chosen.extend(ours.iter().filter(|name| signal(name.as_ref())));
    chosen
}

impl Algorithms {
    /// A list of which ferry has nothing: nobody could be reached with it.
    fn wrong(&self) -> impl Iterator<Item = String> + use<'_> {
        let some = |names: Vec<&str>| {
            names.iter().any(|name| !name.starts_with("ext-info-") && !name.starts_with("kex-strict-"))
        };
        let kex = key_exchanges();
        let lists = [
            ("KexAlgorithms", &self.kex, some(chosen(self.kex.as_deref(), &kex).iter().map(AsRef::as_ref).collect())),
            (
                "Ciphers",
                &self.ciphers,
                some(chosen(self.ciphers.as_deref(), CIPHERS).iter().map(AsRef::as_ref).collect()),
            ),
            ("MACs", &self.macs, some(chosen(self.macs.as_deref(), MACS).iter().map(AsRef::as_ref).collect())),
            ("HostKeyAlgorithms", &self.host_keys, !self.of_host_keys(super::known_hosts::all_algorithms()).is_empty()),
        ];
        lists.into_iter().filter(|(_, spec, some)| spec.is_some() && !some).map(|(name, spec, _)| {
            format!(
                "{name} {}: ferry has none of these (SHA-1 and CBC are never used)",
                spec.as_deref().unwrap_or_default()
            )
        })
    }

    /// What of these types of host keys is wanted, in the order that the operator wrote; their own where nothing is wanted.
    fn of_host_keys(&self, ours: Vec<Algorithm>) -> Vec<Algorithm> {
        let Some(spec) = self.host_keys.as_deref() else { return ours };
        let names: Vec<&str> = ours.iter().map(Algorithm::as_str).collect();
        let wanted = super::config::algorithms(spec, &names, &names);
        wanted.iter().filter_map(|name| ours.iter().find(|known| known.as_str() == name).cloned()).collect()
    }
}

fn config(
    lane: Lane,
    round_trip: Option<Duration>,
    target: &Target,
    keys: Vec<Algorithm>,
    certificates: Vec<Algorithm>,
) -> Config {
    // 10 s times 3, and whatever the socket notices: a dead peer is known within a minute.
    let (interval, count) = target.alive.unwrap_or((10, 3));
    let mut config = Config {
        window_size: lane.window(round_trip),
        maximum_packet_size: lane.packet(),
        channel_buffer_size: lane.waiting(),
        keepalive_interval: Some(Duration::from_secs(interval.clamp(1, 10))),
        keepalive_max: usize::try_from(count.clamp(1, 3)).unwrap_or(3),
        inactivity_timeout: Some(Duration::from_secs(55)),
        nodelay: true,
        client_id: russh::SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-ferry_", env!("CARGO_PKG_VERSION")))),
        ..Config::default()
    };
    let algorithms = &target.algorithms;
    config.preferred.kex = Cow::Owned(chosen(algorithms.kex.as_deref(), &key_exchanges()));
    config.preferred.cipher = Cow::Owned(chosen(algorithms.ciphers.as_deref(), CIPHERS));
    config.preferred.mac = Cow::Owned(chosen(algorithms.macs.as_deref(), MACS));
    config.preferred.key = Cow::Owned(algorithms.of_host_keys(keys));
    config.preferred.host_key_certificates = Cow::Owned(certificates);
    config.preferred.compression = Cow::Owned(vec![compression::NONE]);
    config
}

/// The pipes of a `ProxyCommand`. It is ended with the connection.
type Piped = Kept<tokio::io::Join<tokio::process::ChildStdout, tokio::process::ChildStdin>, tokio::process::Child>;

impl Proxy {
    fn start(&self) -> std::io::Result<(Piped, Complaint)> {
        let mut command = tokio::process::Command::new("/bin/sh");
        command.arg("-c").arg(format!("exec {}", self.command));
        for name in &self.hide {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // A Ctrl-C at the terminal is ferry's to decide about.
        command.process_group(0);
        let mut child = command.spawn()?;
        let said = Complaint::default();
        if let Some(err) = child.stderr.take() {
            tokio::spawn(said.clone().hear(err));
        }
        match (child.stdout.take(), child.stdin.take()) {
            (Some(out), Some(input)) => Ok((Kept { stream: tokio::io::join(out, input), _with: child }, said)),
            _ => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Keeps the first bytes of what the server says, to tell a wrong port from a failed key exchange.
struct Overheard<S> {
    stream: S,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < 512 {
            heard.extend_from_slice(buffer.filled().get(before..).unwrap_or_default());
        }
        drop(heard);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Our end of russh's callbacks.
pub(super) struct Client {
    target: Target,
    known: KnownHosts,
    refusal: Arc<Mutex<Option<Failure>>>,
    ended: Arc<Mutex<Option<String>>>,
    /// The fingerprint of the key that was accepted, were russh to show one again: the verdict holds for this one only.
    accepted: Option<String>,
    /// The key that was accepted.
    host_key: Arc<Mutex<Option<HostKey>>>,
    /// The agent of ours that is lent to the server, while one is.
    lent: Arc<Mutex<Option<Arc<lend::Agent>>>>,
    /// The key is only met: it goes here, and the connection ends.
    meet: Option<Arc<Mutex<Option<PublicKey>>>>,
}

type Answer = Result<(), russh::Error>;

impl russh::client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let offered = match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => Offered::PublicKey(key.clone()),
            PublicKeyOrCertificate::Certificate(certificate) => Offered::Certificate(certificate.clone()),
        };
        // russh asks once. The key of a re-key is not asked about: it comes from the peer that proved the first
        // one, inside the connection that this proof protects.
        if let Some(accepted) = &self.accepted {
            return Ok(*accepted == offered.fingerprint());
        }
        if let Some(met) = &self.meet {
            if let Offered::PublicKey(key) = offered {
                *met.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
            }
            return Ok(false);
        }
        // accept-new waits for a lock on the file: not on a thread that others need.
        let (target, known, shown) = (self.target.clone(), self.known.clone(), offered.fingerprint());
        let key = HostKey::new(match &offered {
            Offered::PublicKey(key) => key.key_data(),
            Offered::Certificate(certificate) => certificate.public_key(),
        });
        let judged = tokio::task::spawn_blocking(move || judge(&target, &known, &offered)).await;
        let judged = judged
            .unwrap_or_else(|error| Err(Failure::new(Kind::Bug, "a host key was not judged").saw(error.to_string())));
        match judged {
            Ok(()) => {
                self.accepted = Some(shown);
                *self.host_key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
                Ok(true)
            }
            Err(failure) => {
                *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.within("host key"));
                Ok(false)
            }
        }
    }

    // We ask for no forwarding but a lent agent's, so a channel that the server opens is one that nobody wants: a dropped
    // reply refuses it. russh would accept them all and keep each for as long as the connection lives.

    async fn server_channel_open_session(&mut self, _: Channel<Msg>, _: ChannelOpenHandle, _: &mut Session) -> Answer {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Answer {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Answer {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Answer {
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Answer {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Answer {
        Ok(())
    }

    // Only while an agent of ours is lent to this very server, and only that one: never the operator's.
    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Answer {
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(agent) = lent {
            reply.accept().await;
            tokio::spawn(agent.serve(channel.into_stream()));
        }
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let (text, result) = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                // Up to 256 KiB of a host's words.
                let said: String = clean(info.message.as_bytes()).chars().take(300).collect();
                (format!("the server ended it: {said}"), Ok(()))
            }
            DisconnectReason::Error(error) => (error.to_string(), Err(error)),
        };
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        result
    }
}

/// What a verdict means for this connection.
fn judge(target: &Target, known: &KnownHosts, offered: &Offered) -> Result<(), Failure> {
    let (name, port) = target.lookup();
    let shown = offered.fingerprint();
    let entry = if port == 22 { name.to_owned() } else { format!("[{name}]:{port}") };
    let elsewhere = known.other_names(name, port, offered);
    let elsewhere = |failure: Failure, why: &str| {
        failure.why(if elsewhere.is_empty() { why.to_owned() } else { format!("{why}; {elsewhere}") })
    };
    let forget = |file: &std::path::Path| {
        format!("after making sure that the key really changed: ssh-keygen -f {} -R '{entry}'", file.display())
    };
    match known.check(name, port, None, offered, std::time::SystemTime::now()) {
        Verdict::Match { .. } | Verdict::CaSigned { .. } => Ok(()),
        Verdict::Unknown => match (target.strict, offered, target.known_hosts.first()) {
            (Strict::AcceptNew, Offered::PublicKey(key), Some(file)) => KnownHosts::accept_new(file, name, port, key, target.hash_known_hosts),
            _ => Err(elsewhere(unreachable(target, "the host key is not known here"), "an unknown key may be somebody else's")
                .saw(format!("{shown}, offered as {entry}"))
                .mend(format!("compare it with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub there), then: ssh-keyscan -p {port} {name} >> {}", offered.file_word(),
                    target.known_hosts.first().map(|file| file.display().to_string()).unwrap_or_default()))),
        },
        Verdict::OtherType { known } => {
            let on_record: Vec<String> = known.iter().map(|(kind, file, line)| format!("{kind} in {}:{line}", file.display())).collect();
            let failure = unreachable(target, "the host offered a key of another type than the one on record")
                .saw(format!("{shown}; on record: {}", on_record.join(", ")));
            let failure = elsewhere(failure, "OpenSSH treats this as a changed key");
            Err(match known.first() {
                Some((_, file, _)) => failure.mend(forget(file)),
                None => failure,
            })
        }
        Verdict::Changed { file, line, known_fingerprint } => {
            let failure = unreachable(target, "the host key has changed")
                .saw(format!("{shown}; on record: {known_fingerprint} in {}:{line}", file.display()))
                .mend(forget(&file));
            Err(elsewhere(failure, "either the host was set up anew, or somebody sits in between"))
        }
        Verdict::Revoked { file, line } => Err(unreachable(target, "the host key is revoked")
            .saw(format!("{shown}, by {}:{line}", file.display()))
            .why("somebody marked this key as stolen or retired")
            .mend(format!("give the host another key; if the mark is a mistake, take line {line} out of {}", file.display()))),
        Verdict::Unfit { why } => Err(unreachable(target, "the host key is not fit to be one").saw(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_fits_the_way() {
        let window = |micros| Lane::Bulk.window(Some(Duration::from_micros(micros))) >> 20;
        assert_eq!((window(50), window(800), window(8_400), window(80_000)), (2, 2, 10, 32));
        assert_eq!(Lane::Bulk.window(None), 32 << 20);
        assert_eq!(Lane::Bulk.window(Some(Duration::MAX)), 32 << 20);
        assert_eq!(Lane::Strand.window(Some(Duration::MAX)), 4 << 20);
        assert_eq!(Lane::Control.window(Some(Duration::from_secs(1))), 2 << 20);
    }

    #[test]
    fn a_proxy_that_is_near_does_not_bring_its_server_nearer() {
        let ms = Duration::from_millis;
        assert_eq!(distance(Some(ms(0)), Some(ms(80))), Some(ms(60)));
        assert_eq!(distance(Some(ms(5)), Some(ms(18))), Some(ms(5)), "the server took its time");
        assert_eq!(distance(Some(ms(90)), Some(ms(80))), Some(ms(90)));
        assert_eq!((distance(None, Some(ms(7))), distance(Some(ms(3)), None)), (Some(ms(7)), Some(ms(3))));
        assert_eq!(distance(None, None), None);
    }
}
