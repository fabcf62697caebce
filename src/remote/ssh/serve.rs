//! A small SSH server for the sandbox and for tests.
//!
//! What lives here: one that lets in exactly the keys and users it was told, runs commands with
//! `exec`, streams their three pipes, and forwards to ports it was told. What does not: what a
//! command is run in (the runner that is handed in decides), and everything that a node's sshd
//! can do beyond that; terminals, agents, X11, environment, subsystems and listening forwards are
//! refused.
//!
//! It behaves like sshd where ferry could tell the difference: standard output ends before the
//! exit status comes, a signal is told as a signal, and when a connection is lost the command's
//! pipes are closed while the command itself is left alone.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, Pty, Sig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::ChildStdin;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::failure::{Failure, Kind};

/// How many bytes of standard input one command may be behind before the whole connection waits.
/// The window is opened again by russh as bytes arrive, not as they are used, so without room
/// here a command that writes before it reads would stop its own output.
const INPUT_ROOM: usize = 64 << 20;

/// What may be under way between russh and the transport, each way, in bytes: more than the
/// window of one channel (2 MiB).
const TRANSPORT_ROOM: usize = 8 << 20;

/// How long a connection may take to log in.
const LOGIN: Duration = Duration::from_secs(30);

/// An Ed25519 key pair, in the forms that OpenSSH reads.
#[derive(Clone)]
pub struct KeyPair(PrivateKey);

impl KeyPair {
    /// A new pair.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when no key can be made.
    pub fn generate() -> Result<Self, Failure> {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)
            .map(Self)
            .map_err(|error| Failure::new(Kind::CouldNotStart, "cannot make an SSH key").saw(error.to_string()))
    }

    /// Reads a private key as [`KeyPair::private`] writes it.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when the text is no unencrypted OpenSSH private key.
    pub fn read(text: &str) -> Result<Self, Failure> {
        PrivateKey::from_openssh(text)
            .map(Self)
            .map_err(|error| Failure::new(Kind::CouldNotStart, "cannot read an SSH key").saw(error.to_string()))
    }

    /// The private key in OpenSSH's own form. Secret.
    ///
    /// # Errors
    /// [`Kind::Bug`] when the key cannot be written.
    pub fn private(&self) -> Result<String, Failure> {
        let text = self.0.to_openssh(LineEnding::LF);
        text.map(|text| text.to_string())
            .map_err(|error| Failure::new(Kind::Bug, "cannot write an SSH key").saw(error.to_string()))
    }

    /// `ssh-ed25519 AAAA…`, for `known_hosts` and `authorized_keys`.
    ///
    /// # Errors
    /// [`Kind::Bug`] when the key cannot be written.
    pub fn public(&self) -> Result<String, Failure> {
        let mut public = self.0.public_key().clone();
        public.set_comment("");
        let text = public.to_openssh();
        text.map(|text| text.trim_end().to_owned())
            .map_err(|error| Failure::new(Kind::Bug, "cannot write an SSH key").saw(error.to_string()))
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({})", self.0.public_key().fingerprint(Default::default()))
    }
}

/// What somebody who logged in asked to be run.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// The user that logged in.
    pub user: String,
    /// The command line, for a shell to read.
    pub command: Vec<u8>,
}

/// Makes the process for a request. Its three pipes are set by the server; it is spawned at once.
pub type Runner = Arc<dyn Fn(&ExecRequest) -> tokio::process::Command + Send + Sync>;

/// Which ports of 127.0.0.1 may be reached through the server (a bastion's role).
pub type Forward = Arc<dyn Fn(u16) -> bool + Send + Sync>;

/// What a server is told once.
#[derive(Clone)]
pub struct Options {
    /// The host's key.
    pub host_key: KeyPair,
    /// The public keys that are let in, each as `ssh-ed25519 AAAA…`.
    pub authorized: Vec<String>,
    /// The users that are let in; all others are refused as if their key were wrong.
    pub users: Vec<String>,
    /// How commands are run; `None` refuses them (a bastion without a shell).
    pub runner: Option<Runner>,
    /// Where one may go on from here; `None` for nowhere.
    pub forward: Option<Forward>,
    /// Shown before authentication, as sshd's `Banner`.
    pub banner: Option<String>,
}

/// A runner of `sh -c COMMAND` as the user that we are, in the environment that we have.
pub fn plain_runner() -> Runner {
    Arc::new(|request| {
        use std::os::unix::ffi::OsStrExt as _;
        let mut command = tokio::process::Command::new("sh");
        command.arg("-c").arg(std::ffi::OsStr::from_bytes(&request.command));
        command
    })
}

/// A running server. Dropping it stops listening and ends its connections; the commands that
/// were started in them go on.
pub struct Server {
    port: u16,
    accept: JoinHandle<()>,
}

impl Server {
    /// Starts to serve on `listener`. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when an authorized key cannot be read or the listener has no address.
    pub fn start(listener: TcpListener, options: Options) -> Result<Self, Failure> {
        let gate = Gate::new(options)?;
        let port = listener
            .local_addr()
            .map_err(|error| Failure::new(Kind::CouldNotStart, "cannot listen").saw(error.to_string()))?
            .port();
        let accept = tokio::spawn(async move {
            // Connections live in this set, so that they end with the server.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    Some(_) = connections.join_next() => {}
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => {
                            let _ = stream.set_nodelay(true);
                            connections.spawn(serve_gate(stream, gate.clone()));
                        }
                        // Out of file descriptors, or a connection that is gone already.
                        Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    },
                }
            }
        });
        Ok(Self { port, accept })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server(127.0.0.1:{})", self.port)
    }
}

/// Serves one connection over any stream of bytes, until it ends.
///
/// # Errors
/// [`Kind::CouldNotStart`] when an authorized key cannot be read. How the connection itself ends
/// is no error.
pub async fn serve_stream<S>(stream: S, options: Options) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_gate(stream, Gate::new(options)?).await;
    Ok(())
}

async fn serve_gate<S>(mut stream: S, gate: Gate)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // russh reads nothing while it waits to write. When both ends do so at once, each with more
    // under way than the transport holds, neither goes on; a window's worth of room in between
    // lets this end read again.
    let (inner, mut outer) = tokio::io::duplex(TRANSPORT_ROOM);
    let relay = async move {
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut outer, &mut stream, 64 << 10, 64 << 10).await;
    };
    tokio::join!(relay, converse(inner, gate));
}

async fn converse(stream: tokio::io::DuplexStream, gate: Gate) {
    let (said, mut logged_in) = watch::channel(false);
    let peer = Peer { gate: gate.clone(), user: String::new(), waiting: Vec::new(), said };
    let Ok(running) = russh::server::run_stream(gate.config.clone(), stream, peer).await else { return };
    // The session is a task of its own inside russh; told to disconnect, it ends. This guard does
    // so when we are dropped (the server was stopped) as well as when nobody logs in.
    let guard = Hangup(Some(running.handle()));
    tokio::pin!(running);
    let late = async {
        let in_time = tokio::time::timeout(LOGIN, logged_in.wait_for(|yes| *yes)).await.is_ok();
        if in_time {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = &mut running => {}
        () = late => {}
    }
    drop(guard);
}

struct Hangup(Option<russh::server::Handle>);

impl Drop for Hangup {
    fn drop(&mut self) {
        if let (Some(handle), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let _ = handle.disconnect(russh::Disconnect::ByApplication, "closed".to_owned(), String::new()).await;
            });
        }
    }
}

/// Who and what is let in.
#[derive(Clone)]
struct Gate {
    config: Arc<Config>,
    keys: Arc<Vec<PublicKey>>,
    options: Arc<Options>,
}

impl Gate {
    fn new(options: Options) -> Result<Self, Failure> {
        let keys: Result<Vec<PublicKey>, Failure> = options
            .authorized
            .iter()
            .map(|line| {
                PublicKey::from_openssh(line).map_err(|error| {
                    Failure::new(Kind::CouldNotStart, "cannot read an authorized key").saw(error.to_string())
                })
            })
            .collect();
        let config = Config {
            keys: vec![options.host_key.0.clone()],
            methods: (&[russh::MethodKind::PublicKey][..]).into(),
            auth_rejection_time: Duration::from_millis(50),
            auth_rejection_time_initial: Some(Duration::ZERO),
            max_auth_attempts: 6,
            inactivity_timeout: None,
            keepalive_interval: Some(Duration::from_secs(30)),
            keepalive_max: 3,
            nodelay: true,
            ..Config::default()
        };
        Ok(Self { config: Arc::new(config), keys: Arc::new(keys?), options: Arc::new(options) })
    }
}

/// One who connected.
struct Peer {
    gate: Gate,
    user: String,
    /// Session channels on which no command was asked for yet.
    waiting: Vec<(ChannelId, Channel<Msg>)>,
    said: watch::Sender<bool>,
}

impl Peer {
    fn verdict(&self, user: &str, key: &PublicKey) -> Auth {
        let known = self.gate.keys.iter().any(|ours| ours.key_data() == key.key_data());
        let user = self.gate.options.users.iter().any(|ours| ours == user);
        if known && user { Auth::Accept } else { Auth::reject() }
    }
}

type Answer = Result<(), russh::Error>;

impl Handler for Peer {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(self.gate.options.banner.clone())
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        Ok(self.verdict(user, offer.public_key))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let verdict = self.verdict(user, key.public_key);
        if verdict == Auth::Accept {
            self.user = user.to_owned();
            self.said.send_replace(true);
        }
        Ok(verdict)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Answer {
        self.waiting.push((channel.id(), channel));
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Answer {
        let port = u16::try_from(port).unwrap_or(0);
        let loopback = matches!(host, "127.0.0.1" | "localhost");
        let allowed = loopback && self.gate.options.forward.as_ref().is_some_and(|allows| allows(port));
        if !allowed {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        // Connecting may take its time; the session loop must not wait for it.
        tokio::spawn(async move {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(mut stream) => {
                    let _ = stream.set_nodelay(true);
                    reply.accept().await;
                    let mut tunnel = channel.into_stream();
                    let _ = tokio::io::copy_bidirectional(&mut tunnel, &mut stream).await;
                }
                Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
            }
        });
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Answer {
        let at = self.waiting.iter().position(|(waiting, _)| *waiting == id);
        let (Some(at), Some(runner)) = (at, &self.gate.options.runner) else {
            return session.channel_failure(id);
        };
        let (_, channel) = self.waiting.swap_remove(at);
        let request = ExecRequest { user: self.user.clone(), command: data.to_vec() };
        let mut command = runner(&request);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A process group of its own: a Ctrl-C at the terminal of the sandbox is not the node's.
        command.process_group(0);
        match command.spawn() {
            Ok(child) => {
                session.channel_success(id)?;
                tokio::spawn(attend(channel, session.handle(), child));
                Ok(())
            }
            Err(_) => session.channel_failure(id),
        }
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Answer {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Answer {
        session.channel_failure(id)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Answer {
        session.channel_failure(id)
    }

    async fn x11_request(&mut self, id: ChannelId, _: bool, _: &str, _: &str, _: u32, session: &mut Session) -> Answer {
        session.channel_failure(id)
    }

    async fn env_request(&mut self, id: ChannelId, _: &str, _: &str, session: &mut Session) -> Answer {
        session.channel_failure(id)
    }

    async fn subsystem_request(&mut self, id: ChannelId, _: &str, session: &mut Session) -> Answer {
        session.channel_failure(id)
    }

    async fn agent_request(&mut self, id: ChannelId, session: &mut Session) -> Result<bool, Self::Error> {
        session.channel_failure(id)?;
        Ok(false)
    }
}

/// Moves bytes between a channel and the command that runs in it, then tells how it ended.
async fn attend(channel: Channel<Msg>, handle: russh::server::Handle, mut child: tokio::process::Child) {
    let id = channel.id();
    let (from_client, to_client) = channel.split();
    // Turns true when the channel is closed or the connection is lost. Writers watch it, because
    // a writer that waits for the window is not woken when the connection dies.
    let (hang_up, gone) = watch::channel(false);
    let input = tokio::spawn(feed(from_client, child.stdin.take(), hang_up));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let streams = async {
        tokio::join!(pump(out, &to_client, None, gone.clone()), pump(err, &to_client, Some(1), gone.clone()));
    };
    streams.await;
    let told = async {
        let _ = to_client.eof().await;
        // No status is told when there is none: the client must not take it for success.
        if let Ok(status) = child.wait().await {
            if let Some(code) = status.code() {
                let _ = to_client.exit_status(u32::from(code.to_le_bytes()[0])).await;
            } else if let Some(number) = status.signal() {
                let (name, core) = (signal_name(number), status.core_dumped());
                let _ = handle.exit_signal_request(id, name, core, String::new(), String::new()).await;
            }
        }
        let _ = to_client.close().await;
    };
    tokio::select! {
        () = told => {}
        () = ended(gone.clone()) => {}
    }
    input.abort();
}

async fn ended(mut gone: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the channel.
    let _ = gone.wait_for(|gone| *gone).await;
}

/// Copies one output pipe to the client, piece by piece, no faster than the client takes it.
async fn pump<R>(pipe: Option<R>, to: &ChannelWriteHalf<Msg>, ext: Option<u32>, gone: watch::Receiver<bool>)
where
    R: AsyncRead + Unpin,
{
    let Some(mut pipe) = pipe else { return };
    let mut room = vec![0; 64 << 10];
    let copy = async {
        loop {
            let count = match pipe.read(&mut room).await {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            let bytes = Bytes::copy_from_slice(room.get(..count).unwrap_or_default());
            let sent = match ext {
                None => to.data_bytes(bytes).await,
                Some(ext) => to.extended_data_bytes(ext, bytes).await,
            };
            if sent.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = copy => {}
        () = ended(gone) => {}
    }
}

/// Feeds the command's standard input. Ends, and closes it, at the client's EOF or when the
/// connection is lost; goes on listening for the end of the channel.
async fn feed(mut from: ChannelReadHalf, stdin: Option<ChildStdin>, hang_up: watch::Sender<bool>) {
    let (queue, mut rest) = mpsc::unbounded_channel::<Bytes>();
    let (used, mut freed) = watch::channel(0_usize);
    let writer: JoinHandle<()> = tokio::spawn(async move {
        let Some(mut stdin) = stdin else { return };
        let mut pending: VecDeque<Bytes> = VecDeque::new();
        while let Some(bytes) = match pending.pop_front() {
            Some(bytes) => Some(bytes),
            None => rest.recv().await,
        } {
            // A command that closed its input takes the rest as sshd does: into nothing.
            let _ = stdin.write_all(&bytes).await;
            used.send_modify(|count| *count += bytes.len());
        }
        let _ = stdin.shutdown().await;
    });
    let mut queue = Some(queue);
    let mut taken = 0;
    while let Some(message) = from.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                taken += data.len();
                if let Some(queue) = &queue {
                    let _ = queue.send(data);
                }
                let _ = freed.wait_for(|used| taken - used <= INPUT_ROOM).await;
            }
            ChannelMsg::Eof => queue = None,
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    // The connection or the channel is gone: what was not yet taken never arrived.
    writer.abort();
    hang_up.send_replace(true);
}

/// The name of a signal's number, as RFC 4254 section 6.10 has it.
fn signal_name(number: i32) -> Sig {
    match number {
        1 => Sig::HUP,
        2 => Sig::INT,
        3 => Sig::QUIT,
        4 => Sig::ILL,
        6 => Sig::ABRT,
        8 => Sig::FPE,
        9 => Sig::KILL,
        10 => Sig::USR1,
        11 => Sig::SEGV,
        13 => Sig::PIPE,
        14 => Sig::ALRM,
        15 => Sig::TERM,
        other => Sig::Custom(format!("SIG{other}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use russh::client;
    use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};

    use super::*;

    struct Client;
    impl client::Handler for Client {
        type Error = russh::Error;
        async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
            Ok(true)
        }
    }

    fn options(key: &KeyPair) -> Options {
        Options {
            host_key: KeyPair::generate().unwrap(),
            authorized: vec![key.public().unwrap()],
            users: vec!["ops".to_owned()],
            runner: Some(plain_runner()),
            forward: None,
            banner: None,
        }
    }

    async fn connect(key: &KeyPair, user: &str, allowed: &KeyPair) -> Option<client::Handle<Client>> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(serve_stream(theirs, options(allowed)));
        let mut handle = client::connect_stream(Arc::new(client::Config::default()), ours, Client).await.unwrap();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key.0.clone()), None);
        handle.authenticate_publickey(user, key).await.unwrap().success().then_some(handle)
    }

    /// What a command said, in the order in which it came: its output counted, the rest by name.
    async fn exec(handle: &client::Handle<Client>, line: &str, pause: Duration) -> (usize, Vec<String>) {
        let mut channel = handle.channel_open_session().await.unwrap();
        channel.exec(true, line).await.unwrap();
        let (mut bytes, mut said) = (0, Vec::new());
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    bytes += data.len();
                    tokio::time::sleep(pause).await;
                }
                ChannelMsg::Eof => said.push("eof".to_owned()),
                ChannelMsg::ExitStatus { exit_status } => said.push(format!("status {exit_status}")),
                ChannelMsg::ExitSignal { signal_name, .. } => said.push(format!("signal {signal_name:?}")),
                ChannelMsg::Failure => said.push("refused".to_owned()),
                _ => {}
            }
        }
        (bytes, said)
    }

    #[tokio::test]
    async fn over_a_pipe_output_ends_before_the_status_comes() {
        let key = KeyPair::generate().unwrap();
        let handle = connect(&key, "ops", &key).await.unwrap();
        let said = exec(&handle, "printf abc; exit 3", Duration::ZERO).await;
        assert_eq!(said, (3, vec!["eof".to_owned(), "status 3".to_owned()]));
        let said = exec(&handle, "kill -TERM $$", Duration::ZERO).await;
        assert_eq!(said, (0, vec!["eof".to_owned(), "signal TERM".to_owned()]));
        // A slow reader of more than any window gets every byte.
        let said = exec(&handle, "head -c 6000000 /dev/zero", Duration::from_millis(1)).await;
        assert_eq!(said, (6_000_000, vec!["eof".to_owned(), "status 0".to_owned()]));
    }

    #[tokio::test]
    async fn another_key_another_user_and_anything_but_exec_are_refused() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        assert!(connect(&other, "ops", &key).await.is_none());
        assert!(connect(&key, "root", &key).await.is_none());
        let handle = connect(&key, "ops", &key).await.unwrap();
        let mut channel = handle.channel_open_session().await.unwrap();
        channel.set_env(true, "LD_PRELOAD", "x").await.unwrap();
        assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
        channel.request_subsystem(true, "sftp").await.unwrap();
        assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
        channel.request_shell(true).await.unwrap();
        assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
        assert!(handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await.is_err());
    }

    #[tokio::test]
    async fn a_command_that_talks_before_it_listens_is_not_blocked() {
        let key = KeyPair::generate().unwrap();
        let handle = connect(&key, "ops", &key).await.unwrap();
        let channel = handle.channel_open_session().await.unwrap();
        channel.exec(true, "head -c 5000000 /dev/zero; cat | wc -c >&2").await.unwrap();
        let (mut read, write) = channel.split();
        let send = tokio::spawn(async move {
            for _ in 0..40 {
                write.data_bytes(vec![7_u8; 256 << 10]).await.unwrap();
            }
            write.eof().await.unwrap();
        });
        let (mut out, mut err) = (0, Vec::new());
        let work = async {
            while let Some(message) = read.wait().await {
                match message {
                    ChannelMsg::Data { data } => out += data.len(),
                    ChannelMsg::ExtendedData { data, .. } => err.extend_from_slice(&data),
                    _ => {}
                }
            }
        };
        let late = tokio::time::timeout(Duration::from_secs(8), work).await.is_err();
        assert!(!late, "stuck after {out} bytes of output, {err:?}, sent: {}", send.is_finished());
        send.await.unwrap();
        assert_eq!((out, String::from_utf8_lossy(&err).trim()), (5_000_000, "10485760"));
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let key = KeyPair::generate().unwrap();
        let again = KeyPair::read(&key.private().unwrap()).unwrap();
        assert_eq!(key.public().unwrap(), again.public().unwrap());
        assert!(key.public().unwrap().starts_with("ssh-ed25519 AAAA"));
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
}
