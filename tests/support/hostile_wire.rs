//! An SSH server that does as its script says, byte by byte: what lives here is the protocol as it should be
//! spoken, in steps that a script may leave out, repeat or spoil. What is spoiled is in `hostile_cases`.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::aead::chacha20_poly1305_openssh::{OpeningKey, SealingKey};
use aws_lc_rs::agreement;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

pub const DISCONNECT: u8 = 1;
pub const IGNORE: u8 = 2;
pub const DEBUG: u8 = 4;
pub const SERVICE_REQUEST: u8 = 5;
pub const SERVICE_ACCEPT: u8 = 6;
pub const EXT_INFO: u8 = 7;
pub const KEXINIT: u8 = 20;
pub const NEWKEYS: u8 = 21;
pub const ECDH_INIT: u8 = 30;
pub const ECDH_REPLY: u8 = 31;
pub const USERAUTH_REQUEST: u8 = 50;
pub const USERAUTH_FAILURE: u8 = 51;
pub const USERAUTH_SUCCESS: u8 = 52;
pub const USERAUTH_BANNER: u8 = 53;
/// Both the answer to an offered key and a question of keyboard-interactive.
pub const USERAUTH_PK_OK: u8 = 60;
pub const GLOBAL_REQUEST: u8 = 80;
pub const REQUEST_SUCCESS: u8 = 81;
pub const REQUEST_FAILURE: u8 = 82;
pub const OPEN: u8 = 90;
pub const OPEN_CONFIRMATION: u8 = 91;
pub const OPEN_FAILURE: u8 = 92;
pub const WINDOW_ADJUST: u8 = 93;
pub const DATA: u8 = 94;
pub const EXTENDED_DATA: u8 = 95;
pub const EOF: u8 = 96;
pub const CLOSE: u8 = 97;
pub const CHANNEL_REQUEST: u8 = 98;
pub const CHANNEL_SUCCESS: u8 = 99;
pub const CHANNEL_FAILURE: u8 = 100;

/// Text that would act on a terminal, and bytes that are no text.
pub const ACTS: &[u8] =
    b"\x1b]0;owned\x07\x1b[2J\x1b[1;1H\x1b[?1049h\x1bP1$r\x1b\\\x9b2J\r\x08\x0c\x7f\x00\xc2\x9b2J\xe2\x80\xae\xff";
/// The same as valid UTF-8.
pub const ACTS_TEXT: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[1;1H\r\n\u{8}\u{7f}\u{9b}2J\u{202e}\u{2028}";

/// A payload in the making.
#[derive(Clone, Default)]
pub struct Packet(pub Vec<u8>);

pub fn packet(kind: u8) -> Packet {
    Packet(vec![kind])
}

impl Packet {
    pub fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    pub fn number(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }
    pub fn string(mut self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.0.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        self.0.extend_from_slice(value);
        self
    }
    pub fn raw(mut self, value: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(value.as_ref());
        self
    }
}

/// Reads a payload from the front.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(io::ErrorKind::InvalidData)?;
        self.0 = rest;
        Ok(head)
    }
    pub fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }
    pub fn number(&mut self) -> io::Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().unwrap()))
    }
    pub fn string(&mut self) -> io::Result<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).unwrap())
    }
}

/// A host key by the seed that makes it.
fn host_key(seed: u8) -> (Ed25519KeyPair, Vec<u8>) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let blob = Packet::default().string("ssh-ed25519").string(pair.public_key().as_ref()).0;
    (pair, blob)
}

/// A line for known_hosts.
pub fn known_line(marker: &str, port: u16, seed: u8) -> String {
    let key = base64::engine::general_purpose::STANDARD.encode(host_key(seed).1);
    format!("{marker}[127.0.0.1]:{port} ssh-ed25519 {key}\n")
}

/// The key that the server shows unless its script says otherwise.
pub const KEY: u8 = 1;
/// Another one.
pub const OTHER_KEY: u8 = 2;

/// How a key exchange is spoken; the default is right.
#[derive(Clone, Copy)]
pub struct Kex {
    /// The host key.
    pub seed: u8,
    /// Whether the strict form is offered.
    pub strict: bool,
    /// The server signs another KEXINIT than the one that was sent (somebody in between took out the strict form).
    pub stripped: bool,
    /// The signature is of something else.
    pub bad_signature: bool,
    /// Packets right after our KEXINIT.
    pub after_init: fn(&mut Wire) -> io::Result<()>,
    /// Packets right before our NEWKEYS.
    pub before_newkeys: fn(&mut Wire) -> io::Result<()>,
    /// The reply in another form: host key blob, public point, signature.
    pub reply: fn(&[u8], &[u8], &[u8]) -> Packet,
}

impl Default for Kex {
    fn default() -> Self {
        Self {
            seed: KEY,
            strict: true,
            stripped: false,
            bad_signature: false,
            after_init: |_| Ok(()),
            before_newkeys: |_| Ok(()),
            reply: |blob, point, signature| packet(ECDH_REPLY).string(blob).string(point).string(signature),
        }
    }
}

/// A KEXINIT with these lists; ten of them make a right one.
pub fn kexinit(lists: &[&str]) -> Packet {
    let mut made = packet(KEXINIT).raw([7; 16]);
    for list in lists {
        made = made.string(list);
    }
    made.byte(0).number(0)
}

pub fn usual_lists(strict: bool) -> [&'static str; 10] {
    let kex = if strict { "curve25519-sha256,kex-strict-s-v00@openssh.com" } else { "curve25519-sha256" };
    let (cipher, mac) = ("chacha20-poly1305@openssh.com", "hmac-sha2-256");
    [kex, "ssh-ed25519", cipher, cipher, mac, mac, "none", "none", "", ""]
}

/// What was seen of the client over all its connections.
#[derive(Default)]
pub struct Seen {
    /// What came on channels, the first mebibyte.
    pub data: Mutex<Vec<u8>>,
    /// What a script found out.
    pub notes: Mutex<Vec<String>>,
    /// How many connections there were.
    pub connections: AtomicUsize,
    /// The server has ended.
    pub over: AtomicBool,
}

/// One connection.
pub struct Wire {
    pub stream: TcpStream,
    pub seen: Arc<Seen>,
    pub version: String,
    client_version: Vec<u8>,
    client_init: Option<Vec<u8>>,
    sending: Option<SealingKey>,
    opening: Option<OpeningKey>,
    sent: u32,
    received: u32,
    session_id: Option<Vec<u8>>,
    strict: bool,
    /// What came during a re-key.
    stashed: Vec<Vec<u8>>,
    /// What the client still takes on its channel.
    window: u64,
    /// The number of the client's channel.
    pub channel: u32,
    /// Packets that go out together.
    gathered: Option<Vec<u8>>,
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl Wire {
    fn new(stream: TcpStream, seen: Arc<Seen>) -> Self {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(120)));
        let _ = stream.set_write_timeout(Some(Duration::from_secs(120)));
        Self {
            stream,
            seen,
            version: "SSH-2.0-hostile_1".to_owned(),
            client_version: Vec::new(),
            client_init: None,
            sending: None,
            opening: None,
            sent: 0,
            received: 0,
            session_id: None,
            strict: false,
            stashed: Vec::new(),
            window: 0,
            channel: 0,
            gathered: None,
        }
    }

    pub fn note(&self, text: impl Into<String>) {
        let mut notes = self.seen.notes.lock().unwrap();
        if notes.len() < 100 {
            notes.push(text.into());
        }
    }

    pub fn raw(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// One byte a second, until nobody listens.
    pub fn drip(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            self.raw([*byte])?;
            std::thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }

    /// The connection ends with a reset.
    pub fn reset(&mut self) -> io::Result<()> {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        Err(gone())
    }

    /// Says nothing and reads nothing until the server ends.
    pub fn freeze(&mut self) -> io::Result<()> {
        while !self.seen.over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(gone())
    }

    /// Reads without an answer until the client hangs up.
    pub fn linger(&mut self) -> io::Result<()> {
        let mut room = [0; 4096];
        while self.stream.read(&mut room)? > 0 {}
        Err(gone())
    }

    /// Our identification, and the client's.
    pub fn banner(&mut self) -> io::Result<()> {
        let line = format!("{}\r\n", self.version);
        self.raw(line)?;
        self.client_banner()
    }

    pub fn client_banner(&mut self) -> io::Result<()> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        while matches!(line.last(), Some(b'\r' | b'\n')) {
            line.pop();
        }
        self.client_version = line;
        Ok(())
    }

    /// Sends a payload as one packet.
    pub fn send(&mut self, payload: &Packet) -> io::Result<()> {
        let body = &payload.0;
        let head = if self.sending.is_some() { 1 } else { 5 };
        let mut padding = 8 - (head + body.len()) % 8;
        if padding < 4 {
            padding += 8;
        }
        let mut plain = u32::try_from(1 + body.len() + padding).unwrap().to_be_bytes().to_vec();
        plain.push(u8::try_from(padding).unwrap());
        plain.extend_from_slice(body);
        plain.resize(plain.len() + padding, 0);
        self.send_plain(plain)
    }

    /// Sends a packet whose length and padding are the script's own.
    pub fn send_plain(&mut self, mut plain: Vec<u8>) -> io::Result<()> {
        if let Some(key) = &self.sending {
            let mut tag = [0; 16];
            key.seal_in_place(self.sent, &mut plain, &mut tag);
            plain.extend_from_slice(&tag);
        }
        self.sent = self.sent.wrapping_add(1);
        match &mut self.gathered {
            Some(gathered) => gathered.extend_from_slice(&plain),
            None => self.stream.write_all(&plain)?,
        }
        Ok(())
    }

    /// The next payload of the client.
    pub fn recv(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        let seq = self.received;
        self.received = self.received.wrapping_add(1);
        let length = match &self.opening {
            Some(key) => u32::from_be_bytes(key.decrypt_packet_length(seq, head)),
            None => u32::from_be_bytes(head),
        };
        if length > 1 << 20 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut body)?;
        if let Some(key) = &self.opening {
            let mut tag = [0; 16];
            self.stream.read_exact(&mut tag)?;
            let mut whole = [head.as_slice(), &body].concat();
            body = key.open_in_place(seq, &mut whole, &tag).map_err(|_| io::ErrorKind::InvalidData)?.to_vec();
        }
        let padding = usize::from(*body.first().ok_or(io::ErrorKind::InvalidData)?);
        let end = body.len().checked_sub(padding).ok_or(io::ErrorKind::InvalidData)?;
        Ok(body.get(1..end).ok_or(io::ErrorKind::InvalidData)?.to_vec())
    }

    /// The next payload of this kind during a key exchange; what else comes is kept.
    fn recv_kex(&mut self, kind: u8) -> io::Result<Vec<u8>> {
        loop {
            let payload = self.recv()?;
            match payload.first() {
                Some(first) if *first == kind => return Ok(payload),
                Some(&DISCONNECT) | None => return Err(gone()),
                Some(_) => self.stashed.push(payload),
            }
        }
    }

    /// A key exchange, the first or a later one.
    pub fn kex(&mut self, how: Kex) -> io::Result<()> {
        let init = kexinit(&usual_lists(how.strict && !how.stripped));
        let signed = kexinit(&usual_lists(how.strict));
        self.send(&init)?;
        (how.after_init)(self)?;
        let client_init = match self.client_init.take() {
            Some(init) => init,
            None => self.recv_kex(KEXINIT)?,
        };
        let first = self.session_id.is_none();
        if first {
            let offers = client_init.windows(20).any(|window| window == b"kex-strict-c-v00@ope");
            self.strict = how.strict && offers;
        }
        let ecdh = self.recv_kex(ECDH_INIT)?;
        let theirs = Reader(&ecdh[1..]).string()?.to_vec();
        let secret = agreement::EphemeralPrivateKey::generate(&agreement::X25519, &SystemRandom::new()).unwrap();
        let ours = secret.compute_public_key().unwrap().as_ref().to_vec();
        let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, &theirs);
        let shared = agreement::agree_ephemeral(secret, peer, gone(), |shared| Ok(shared.to_vec()))?;
        let (pair, blob) = host_key(how.seed);
        let start = shared.iter().position(|byte| *byte != 0).unwrap_or(shared.len());
        let mut mpint = shared[start..].to_vec();
        if mpint.first().is_some_and(|byte| byte & 0x80 != 0) {
            mpint.insert(0, 0);
        }
        let hashed = Packet::default()
            .string(&self.client_version)
            .string(&self.version)
            .string(&client_init)
            .string(&signed.0)
            .string(&blob)
            .string(&theirs)
            .string(&ours)
            .string(&mpint);
        let hash = Sha256::digest(&hashed.0).to_vec();
        let session_id = self.session_id.get_or_insert_with(|| hash.clone()).clone();
        let raw = if how.bad_signature { pair.sign(b"something else") } else { pair.sign(&hash) };
        let signature = Packet::default().string("ssh-ed25519").string(raw.as_ref()).0;
        self.send(&(how.reply)(&blob, &ours, &signature))?;
        (how.before_newkeys)(self)?;
        self.send(&packet(NEWKEYS))?;
        if self.strict {
            self.sent = 0;
        }
        let derive = |letter: u8| {
            let k = Packet::default().string(&mpint).0;
            let one = Sha256::digest([&k[..], &hash, &[letter], &session_id].concat()).to_vec();
            let two = Sha256::digest([&k[..], &hash, &one].concat()).to_vec();
            <[u8; 64]>::try_from([one, two].concat()).unwrap()
        };
        self.sending = Some(SealingKey::new(&derive(b'D')));
        self.recv_kex(NEWKEYS)?;
        if self.strict {
            self.received = 0;
        }
        self.opening = Some(OpeningKey::new(&derive(b'C')));
        Ok(())
    }

    /// The service that authentication is.
    pub fn service(&mut self) -> io::Result<()> {
        self.wait(SERVICE_REQUEST)?;
        self.send(&packet(SERVICE_ACCEPT).string("ssh-userauth"))
    }

    /// The next request to be let in: whether it carries a signature.
    pub fn auth_request(&mut self) -> io::Result<bool> {
        let payload = self.wait(USERAUTH_REQUEST)?;
        let mut reader = Reader(&payload[1..]);
        let (_, _, method) = (reader.string()?, reader.string()?, reader.string()?);
        Ok(method == b"publickey" && reader.byte()? == 1)
    }

    /// Lets in whoever asks with a key.
    pub fn let_in(&mut self) -> io::Result<()> {
        loop {
            let payload = self.wait(USERAUTH_REQUEST)?;
            let mut reader = Reader(&payload[1..]);
            let (_, _, method) = (reader.string()?, reader.string()?, reader.string()?);
            if method != b"publickey" {
                self.send(&packet(USERAUTH_FAILURE).string("publickey").byte(0))?;
            } else if reader.byte()? == 1 {
                return self.send(&packet(USERAUTH_SUCCESS));
            } else {
                let (algorithm, key) = (reader.string()?, reader.string()?);
                self.send(&packet(USERAUTH_PK_OK).string(algorithm).string(key))?;
            }
        }
    }

    /// All that is before the first channel.
    pub fn up(&mut self) -> io::Result<()> {
        self.shaken()?;
        self.service()?;
        self.let_in()
    }

    /// Identification and key exchange.
    pub fn shaken(&mut self) -> io::Result<()> {
        self.banner()?;
        self.kex(Kex::default())
    }

    /// The next payload of this kind; what a client says by the way is answered.
    pub fn wait(&mut self, kind: u8) -> io::Result<Vec<u8>> {
        loop {
            let payload = if self.stashed.is_empty() { self.recv()? } else { self.stashed.remove(0) };
            let what = *payload.first().ok_or_else(gone)?;
            self.listen(&payload)?;
            if what == kind {
                return Ok(payload);
            }
        }
    }

    fn listen(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut reader = Reader(&payload[1..]);
        match payload[0] {
            DISCONNECT => Err(gone()),
            GLOBAL_REQUEST => {
                reader.string()?;
                if reader.byte()? == 1 { self.send(&packet(REQUEST_FAILURE)) } else { Ok(()) }
            }
            WINDOW_ADJUST => {
                reader.number()?;
                self.window += u64::from(reader.number()?);
                Ok(())
            }
            DATA => {
                reader.number()?;
                let bytes = reader.string()?;
                let mut data = self.seen.data.lock().unwrap();
                if data.len() < 1 << 20 {
                    data.extend_from_slice(bytes);
                }
                Ok(())
            }
            KEXINIT if self.session_id.is_some() => {
                self.client_init = Some(payload.to_vec());
                self.kex(Kex::default())
            }
            _ => Ok(()),
        }
    }

    /// Confirms the next channel, with this window and packet size.
    pub fn confirm(&mut self, window: u32, most: u32) -> io::Result<()> {
        let channel = self.asked()?;
        self.send(&packet(OPEN_CONFIRMATION).number(channel).number(0).number(window).number(most))
    }

    /// The client's wish for a channel: its number.
    pub fn asked(&mut self) -> io::Result<u32> {
        let payload = self.wait(OPEN)?;
        let mut reader = Reader(&payload[1..]);
        reader.string()?;
        self.channel = reader.number()?;
        self.window = u64::from(reader.number()?);
        Ok(self.channel)
    }

    /// The command line that the client wants run.
    pub fn command(&mut self) -> io::Result<String> {
        let payload = self.wait(CHANNEL_REQUEST)?;
        let mut reader = Reader(&payload[1..]);
        reader.number()?;
        let what = reader.string()?;
        reader.byte()?;
        if what != b"exec" {
            self.note(format!("asked for {}", String::from_utf8_lossy(what)));
        }
        Ok(String::from_utf8_lossy(reader.string().unwrap_or_default()).into_owned())
    }

    /// Up to a command that is accepted.
    pub fn running(&mut self) -> io::Result<String> {
        self.up()?;
        self.next_command()
    }

    /// Another channel with a command that is accepted.
    pub fn next_command(&mut self) -> io::Result<String> {
        self.confirm(2 << 20, 32 << 10)?;
        let line = self.command()?;
        self.send(&packet(CHANNEL_SUCCESS).number(self.channel))?;
        Ok(line)
    }

    /// Output, within the client's window.
    pub fn out(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(32 << 10) {
            self.room(piece.len())?;
            self.send(&packet(DATA).number(self.channel).string(piece))?;
        }
        Ok(())
    }

    /// Output of the second stream, within the client's window.
    pub fn err(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(32 << 10) {
            self.room(piece.len())?;
            self.send(&packet(EXTENDED_DATA).number(self.channel).number(1).string(piece))?;
        }
        Ok(())
    }

    fn room(&mut self, wanted: usize) -> io::Result<()> {
        while self.window < wanted as u64 {
            self.wait(WINDOW_ADJUST)?;
        }
        self.window -= wanted as u64;
        Ok(())
    }

    pub fn status(&mut self, code: u32) -> io::Result<()> {
        self.send(&packet(CHANNEL_REQUEST).number(self.channel).string("exit-status").byte(0).number(code))
    }

    pub fn signal(&mut self, name: &[u8], text: &[u8]) -> io::Result<()> {
        let head = packet(CHANNEL_REQUEST).number(self.channel).string("exit-signal").byte(0).string(name);
        self.send(&head.byte(0).string(text).string(""))
    }

    pub fn eof(&mut self) -> io::Result<()> {
        self.send(&packet(EOF).number(self.channel))
    }

    pub fn close(&mut self) -> io::Result<()> {
        self.send(&packet(CLOSE).number(self.channel))
    }

    /// A right end, and then whatever the client still says.
    pub fn end(&mut self, code: u32) -> io::Result<()> {
        self.eof()?;
        self.status(code)?;
        self.close()?;
        self.serve()
    }

    /// Answers what is asked by the way, until the client has gone.
    pub fn serve(&mut self) -> io::Result<()> {
        self.wait(u8::MAX).map(|_| ())
    }

    pub fn disconnect(&mut self, text: &[u8]) -> io::Result<()> {
        self.send(&packet(DISCONNECT).number(2).string(text).string(""))
    }

    /// The exchange that a script of ferry is opened with, from the line that was to be run; returns the script.
    pub fn shell(&mut self, line: &str) -> io::Result<String> {
        self.ready(line)?;
        self.script(line)
    }

    /// What the shell says when it is there.
    pub fn ready(&mut self, line: &str) -> io::Result<()> {
        let ready = format!("{}\n", word(line, "ferry-", "-ready"));
        self.out(ready.as_bytes())?;
        if line.contains("-ready >&2") { self.err(ready.as_bytes()) } else { Ok(()) }
    }

    /// The end of a script: of the channel, or, where the script runs in a shell that stays open, as its loop tells it.
    pub fn done(&mut self, script: &str) -> io::Result<()> {
        let nonce = between(script, "\n_n=", "\n");
        if nonce.starts_with("@@") {
            let end = format!("{nonce} 0\n");
            self.out(end.as_bytes())?;
            return self.err(end.as_bytes());
        }
        self.eof()?;
        self.status(0)?;
        self.close()
    }

    /// The script that follows after the shell has said that it is ready.
    pub fn script(&mut self, line: &str) -> io::Result<String> {
        let length: usize = between(line, " -eq ", " ]").parse().map_err(|_| io::ErrorKind::InvalidData)?;
        let mut script = Vec::new();
        while script.len() < length {
            let payload = self.wait(DATA)?;
            let mut reader = Reader(&payload[1..]);
            reader.number()?;
            script.extend_from_slice(reader.string()?);
        }
        script.truncate(length);
        Ok(String::from_utf8_lossy(&script).into_owned())
    }

    /// A whole run of a script, answered by what `answer` makes of it, and exit code 0.
    pub fn scripted(&mut self, answer: impl FnOnce(&str) -> Vec<u8>) -> io::Result<()> {
        let line = self.next_command()?;
        let script = self.shell(&line)?;
        self.out(&answer(&script))?;
        self.done(&script)
    }

    /// Many packets in one write.
    pub fn burst(&mut self, payload: &Packet, count: usize) -> io::Result<()> {
        let direct = self.gathered.replace(Vec::new());
        for _ in 0..count {
            self.send(payload)?;
        }
        match std::mem::replace(&mut self.gathered, direct) {
            Some(bytes) => self.stream.write_all(&bytes),
            None => Ok(()),
        }
    }
}

/// The first word that begins with `from` and ends with `to`.
pub fn word(text: &str, from: &str, to: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c == ';' || c == '\'' || c == '"')
        .find(|word| word.starts_with(from) && word.ends_with(to))
        .unwrap_or_default()
        .to_owned()
}

/// What stands between two texts.
pub fn between(text: &str, from: &str, to: &str) -> String {
    let rest = text.split_once(from).map_or("", |(_, rest)| rest);
    rest.split_once(to).map_or(rest, |(inner, _)| inner).to_owned()
}

/// What a server does with every connection.
pub type Script = fn(&mut Wire) -> io::Result<()>;

/// A listening server; its connections end with it.
pub struct Server {
    pub port: u16,
    pub seen: Arc<Seen>,
    streams: Arc<Mutex<BTreeMap<usize, TcpStream>>>,
}

impl Server {
    pub fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let streams: Arc<Mutex<BTreeMap<usize, TcpStream>>> = Arc::default();
        let (see, keep) = (Arc::clone(&seen), Arc::clone(&streams));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if see.over.load(Ordering::SeqCst) {
                    return;
                }
                let number = see.connections.fetch_add(1, Ordering::SeqCst);
                if let Ok(clone) = stream.try_clone() {
                    keep.lock().unwrap().insert(number, clone);
                }
                let (see, keep) = (Arc::clone(&see), Arc::clone(&keep));
                std::thread::spawn(move || {
                    let mut wire = Wire::new(stream, see);
                    let _ = script(&mut wire);
                    // The last of the two hangs up, or resets where the script asked for that.
                    keep.lock().unwrap().remove(&number);
                });
            }
        });
        Self { port, seen, streams }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.seen.over.store(true, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}
