//! Making a connection: name, TCP, banner, key exchange, host key, authentication, each with its
//! own time limit and its own sentence when it fails; directly, through one jump host, or over any
//! byte stream that is handed in.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use russh::client::{ChannelOpenHandle, Config, DisconnectReason, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::Algorithm;
use russh::{Channel, cipher, compression};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::auth::{self, Identities};
use super::known_hosts::{KnownHosts, Offered, Verdict};
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
    /// Write it down and go on (OpenSSH's `accept-new`).
    AcceptNew,
}

/// What a connection is for: it decides the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Commands and logs.
    Control,
    /// One stream of an archive: a window that fills a long link (32 MiB).
    Bulk,
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
    /// The jump host.
    pub jump: Option<Box<Target>>,
    /// Who to become there.
    pub become_plan: Become,
}

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
        wrong.extend(self.identities.named.iter().filter_map(|path| self.identities.read(path).err()));
        self.identities.read_usual();
        wrong.extend(self.jump.iter().flat_map(|hop| hop.wrong()));
        wrong
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
    let began = Instant::now();
    let mut attempt = 0;
    loop {
        attempt += 1;
        tracing::info!(host = %target.host, address = %target.address, port = target.port, user = %target.user, attempt, "connecting");
        match connect_once(target, lane).await {
            // sshd drops handshakes at random when many come at once (MaxStartups). A host that is not
            // there now is for the caller to try again, who knows how long that is worth while; and one
            // that kept us waiting for a whole step would do so each time.
            Err(failure)
                if failure.again
                    && attempt < 4
                    && began.elapsed() < target.timeout
                    && !failure.chain.iter().any(|step| step == "TCP" || step == "DNS") =>
            {
                let jitter: u64 = rand::random_range(50..250);
                tokio::time::sleep(Duration::from_millis(jitter * attempt)).await;
            }
            other => return other,
        }
    }
}

async fn connect_once(target: &Target, lane: Lane) -> Result<SshSession, Failure> {
    let Some(hop) = &target.jump else {
        let stream = tcp(target).await.map_err(|failure| failure.within(target.step()))?;
        return connect_over(stream, target, lane, None).await;
    };
    let through = || format!("through jump host {}", hop.address);
    let bastion = Box::pin(connect(hop, lane)).await.map_err(|failure| failure.on(&target.host).within(through()))?;
    let tunnel =
        bastion.inner.handle.channel_open_direct_tcpip(target.address.clone(), u32::from(target.port), "127.0.0.1", 0);
    let channel = match tokio::time::timeout(target.timeout, tunnel).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => {
            return Err(unreachable(
                target,
                format!("the jump host could not reach {} port {}", target.address, target.port),
            )
            .saw(error.to_string())
            .mend(format!("on the jump host: nc -vz {} {}", target.address, target.port))
            .within(through()));
        }
        Err(_) => {
            return Err(unreachable(
                target,
                format!("the jump host did not reach {} within {} s", target.address, target.timeout.as_secs()),
            )
            .again()
            .within(through()));
        }
    };
    connect_over(channel.into_stream(), target, lane, Some(bastion)).await.map_err(|failure| failure.within(through()))
}

/// Name and TCP, each address in turn.
async fn tcp(target: &Target) -> Result<TcpStream, Failure> {
    let looked_up =
        tokio::time::timeout(target.timeout, tokio::net::lookup_host((target.address.as_str(), target.port))).await;
    let addresses: Vec<SocketAddr> = match looked_up {
        Ok(Ok(addresses)) => addresses.collect(),
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
        match tokio::time::timeout(target.timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream);
                return Ok(stream);
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
    handshake(stream, target, lane, through).await.map_err(|failure| failure.within(target.step()))
}

async fn handshake(
    stream: impl Stream,
    target: &Target,
    lane: Lane,
    through: Option<SshSession>,
) -> Result<SshSession, Failure> {
    let known = KnownHosts::load(&target.known_hosts)?;
    let (name, port) = target.lookup();
    let config = config(lane, known.algorithms(name, port), known.certificate_algorithms(name, port));
    let refusal = Arc::new(Mutex::new(None));
    let ended = Arc::new(Mutex::new(None));
    let banner = Arc::new(Mutex::new(Vec::new()));
    let client = Client {
        target: target.clone(),
        known,
        refusal: Arc::clone(&refusal),
        ended: Arc::clone(&ended),
        accepted: None,
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
    if let Err(failure) = auth::authenticate(&mut handle, target).await {
        let why = ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        return Err(why.map_or(failure.clone(), |why| broke_off(failure, &why)));
    }
    tracing::info!(host = %target.host, "authenticated");
    Ok(SshSession {
        inner: Arc::new(Inner {
            handle,
            host: target.host.clone(),
            become_plan: target.become_plan.clone(),
            ended,
            _through: through,
        }),
    })
}

/// What [`Client::disconnected`] puts before the server's own words.
const GOODBYE: &str = "the server ended it: ";

/// russh tells a connection that was lost during authentication as a refusal. A refusal it is only where the
/// server said so, and no other way is left.
fn broke_off(failure: Failure, why: &str) -> Failure {
    if why == russh::Error::NoAuthMethod.to_string() {
        return failure;
    }
    let before = failure.seen.map(|seen| format!("; before that: {seen}")).unwrap_or_default();
    let mut broken = Failure::new(Kind::Unreachable, "the connection ended during authentication")
        .saw(format!("{why}{before}"))
        .why("a server ends the connection after MaxAuthTries keys")
        .within("authentication");
    broken.host = failure.host;
    // One that said goodbye meant it.
    if why.starts_with(GOODBYE) { broken } else { broken.again() }
}

fn handshake_failure(target: &Target, heard: &[u8], error: String) -> Failure {
    let first = String::from_utf8_lossy(heard.get(..heard.len().min(120)).unwrap_or_default()).trim().to_owned();
    if heard.is_empty() {
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

fn config(lane: Lane, keys: Vec<Algorithm>, certificates: Vec<Algorithm>) -> Config {
    let mut config = Config {
        window_size: match lane {
            Lane::Control => 2 << 20,
            Lane::Bulk => 32 << 20,
        },
        maximum_packet_size: 32 << 10,
        channel_buffer_size: 100,
        // 10 s times 3, and whatever the socket notices: a dead peer is known within a minute.
        keepalive_interval: Some(Duration::from_secs(10)),
        keepalive_max: 3,
        inactivity_timeout: Some(Duration::from_secs(55)),
        nodelay: true,
        client_id: russh::SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-ferry_", env!("CARGO_PKG_VERSION")))),
        ..Config::default()
    };
    config.preferred.cipher = Cow::Borrowed(CIPHERS);
    config.preferred.key = Cow::Owned(keys);
    config.preferred.host_key_certificates = Cow::Owned(certificates);
    config.preferred.compression = Cow::Owned(vec![compression::NONE]);
    config
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
        // accept-new waits for a lock on the file: not on a thread that others need.
        let (target, known, shown) = (self.target.clone(), self.known.clone(), offered.fingerprint());
        let judged = tokio::task::spawn_blocking(move || judge(&target, &known, &offered)).await;
        let judged = judged
            .unwrap_or_else(|error| Err(Failure::new(Kind::Bug, "a host key was not judged").saw(error.to_string())));
        match judged {
            Ok(()) => {
                self.accepted = Some(shown);
                Ok(true)
            }
            Err(failure) => {
                *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.within("host key"));
                Ok(false)
            }
        }
    }

    // We never ask for forwarding, so a channel that the server opens is one that nobody wants: a dropped
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

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Answer {
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let (text, result) = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                // Up to 256 KiB of a host's words.
                let said: String = clean(info.message.as_bytes()).chars().take(300).collect();
                (format!("{GOODBYE}{said}"), Ok(()))
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
    let forget = |file: &std::path::Path| {
        format!("after making sure that the key really changed: ssh-keygen -f {} -R '{entry}'", file.display())
    };
    match known.check(name, port, None, offered, std::time::SystemTime::now()) {
        Verdict::Match { .. } | Verdict::CaSigned { .. } => Ok(()),
        Verdict::Unknown => match (target.strict, offered, target.known_hosts.first()) {
            (Strict::AcceptNew, Offered::PublicKey(key), Some(file)) => KnownHosts::accept_new(file, name, port, key, target.hash_known_hosts),
            _ => Err(unreachable(target, "the host key is not known here")
                .saw(format!("{shown}, offered as {entry}"))
                .why("an unknown key may be somebody else's")
                .mend(format!("compare it with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub there), then: ssh-keyscan -p {port} {name} >> {}",
                    target.known_hosts.first().map(|file| file.display().to_string()).unwrap_or_default()))),
        },
        Verdict::OtherType { known } => {
            let on_record: Vec<String> = known.iter().map(|(kind, file, line)| format!("{kind} in {}:{line}", file.display())).collect();
            let failure = unreachable(target, "the host offered a key of another type than the one on record")
                .saw(format!("{shown}; on record: {}", on_record.join(", ")))
                .why("OpenSSH treats this as a changed key");
            Err(match known.first() {
                Some((_, file, _)) => failure.mend(forget(file)),
                None => failure,
            })
        }
        Verdict::Changed { file, line, known_fingerprint } => Err(unreachable(target, "the host key has changed")
            .saw(format!("{shown}; on record: {known_fingerprint} in {}:{line}", file.display()))
            .why("either the host was set up anew, or somebody sits in between")
            .mend(forget(&file))),
        Verdict::Revoked { file, line } => Err(unreachable(target, "the host key is revoked")
            .saw(format!("{shown}, by {}:{line}", file.display()))
            .why("somebody marked this key as stolen or retired")),
        Verdict::Unfit { why } => Err(unreachable(target, "the host key is not fit to be one").saw(why)),
    }
}
