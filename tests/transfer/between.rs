//! What two nodes may say of a transfer that goes from one to the other. Both are scripted, behind a real server of SSH: each answer
//! leads to one failure that says what was seen and what to do, and none to a file.

use std::collections::HashMap;

use ferry::remote::fake::FakeSession;
use ferry::remote::ssh::serve::KeyPair;
use ferry::remote::{Child, Command, Exit, Piece, Session};
use ferry::transfer::direct::Direct;
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelMsg, SshId};

use super::said::{Said, WHICH, breaks, digest, ends, heard, host, says};
use super::*;

/// The server of a scripted host: it lets everybody in, and runs nothing.
#[derive(Clone)]
struct Door {
    host: FakeSession,
    /// The calls that say no more than their first line at first, and the rest late: the source's reader when its input has ended,
    /// the target's writer when it is released.
    late: &'static [&'static str],
    /// It asks the agent that it is lent for more than a login.
    greedy: bool,
}

/// One connection to it.
struct Peer {
    door: Door,
    waiting: HashMap<ChannelId, Channel<Msg>>,
}

/// How much of a command's input is its script, and the word that it greets with on both streams, where the script is sent with
/// the command.
fn bootstrap(line: &str) -> Option<(usize, Option<&str>)> {
    let greeting = line.split_once("printf \"%s\\n\" ")?.1.split_once(';')?.0;
    let length = line.split_once(" -eq ")?.1.split_once(' ')?.0.parse().ok()?;
    Some((length, line.contains(&format!("{greeting} >&2;")).then_some(greeting)))
}

/// Asks the agent that was lent to delete all that it knows.
async fn grab(handle: &russh::server::Handle) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut agent = handle.channel_open_agent().await.unwrap().into_stream();
    agent.write_all(&[0, 0, 0, 1, 19]).await.unwrap();
    let mut answer = [0; 5];
    agent.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0, 0, 0, 1, 5], "it was not refused");
}

/// Answers for one command until it ends.
async fn talk(door: Door, channel: Channel<Msg>, handle: russh::server::Handle, mut child: Child, line: String) {
    let id = channel.id();
    let (mut from, to) = channel.split();
    if door.greedy && line.contains(SOCKET) {
        grab(&handle).await;
    }
    let (mut missing, mut script, mut late) = (0, Vec::new(), None);
    if let Some((length, greeting)) = bootstrap(&line) {
        missing = length;
        if let Some(Piece::Out(bytes)) = child.next().await {
            to.data_bytes(bytes).await.unwrap();
        }
        if let Some(greeting) = greeting {
            to.extended_data_bytes(1, format!("{greeting}\n")).await.unwrap();
        }
    }
    let (mut kept, mut closed, mut ended) = (None, false, false);
    loop {
        let released = || door.host.heard().iter().any(|text| text.ends_with("direct_release"));
        if ended && (late != Some("target_write") && closed || late == Some("target_write") && released()) {
            let _ = to.data_bytes(kept.take().unwrap_or_default()).await;
            break;
        }
        tokio::select! {
            biased;
            message = from.wait() => match message {
                Some(ChannelMsg::Data { data }) => {
                    let of_it = data.len().min(missing);
                    script.extend_from_slice(&data[..of_it]);
                    if missing > 0 && missing == of_it {
                        let script = String::from_utf8_lossy(&script);
                        late = door.late.iter().copied().find(|call| script.ends_with(call));
                    }
                    missing -= of_it;
                    let _ = child.write(&data).await;
                }
                Some(ChannelMsg::Eof) => {
                    closed = true;
                    child.close_input().await;
                }
                Some(ChannelMsg::Close) | None => return,
                Some(_) => {}
            },
            // Before its script has come it has nothing to say.
            piece = child.next(), if missing == 0 && !ended => match piece {
                Some(Piece::Out(bytes)) if late.is_some() && kept.is_none() => {
                    let at = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
                    kept = Some(bytes.slice(at..));
                    let _ = to.data_bytes(bytes.slice(..at)).await;
                }
                Some(Piece::Out(bytes)) => drop(to.data_bytes(bytes).await),
                Some(Piece::Err(bytes)) => drop(to.extended_data_bytes(1, bytes).await),
                None if late.is_some() => ended = true,
                None => break,
            },
            () = tokio::time::sleep(Duration::from_millis(2)), if ended => {}
        }
    }
    let exit = child.exit().await;
    if let Exit::Lost(_) = exit {
        let _ = handle.disconnect(russh::Disconnect::ByApplication, String::new(), String::new()).await;
        return;
    }
    let _ = to.eof().await;
    match exit {
        Exit::Code(code) => drop(to.exit_status(u32::try_from(code).unwrap()).await),
        _ => drop(handle.exit_signal_request(id, russh::Sig::KILL, false, String::new(), String::new()).await),
    }
    let _ = to.close().await;
}

impl Handler for Peer {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut russh::server::Session,
    ) -> Result<(), russh::Error> {
        self.waiting.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn agent_request(
        &mut self,
        id: ChannelId,
        session: &mut russh::server::Session,
    ) -> Result<bool, russh::Error> {
        session.channel_success(id)?;
        Ok(true)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        data: &[u8],
        session: &mut russh::server::Session,
    ) -> Result<(), russh::Error> {
        let line = String::from_utf8_lossy(data).into_owned();
        let channel = self.waiting.remove(&id).unwrap();
        let child = Session::Fake(self.door.host.clone()).open(&Command::shell(line.clone())).await.unwrap();
        session.channel_success(id)?;
        tokio::spawn(talk(self.door.clone(), channel, session.handle(), child, line));
        Ok(())
    }
}

/// The keys of two hosts and of the user, and what their servers say they are.
struct Desk {
    dir: tempfile::TempDir,
    server: &'static str,
    user: &'static str,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        executable(&dir.path().join("key"), &KeyPair::generate().unwrap().private().unwrap());
        std::fs::set_permissions(dir.path().join("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { dir, server: "SSH-2.0-OpenSSH_9.2p1", user: "ops" }
    }

    /// The way to a scripted host, whose server runs as long as the set.
    async fn reach(&self, name: &str, door: Door, serving: &mut tokio::task::JoinSet<()>) -> Way {
        let key = self.dir.path().join(format!("host-{name}"));
        if !key.exists() {
            executable(&key, &KeyPair::generate().unwrap().private().unwrap());
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let public = KeyPair::read(&std::fs::read_to_string(&key).unwrap()).unwrap().public().unwrap();
        let config = Arc::new(Config {
            server_id: SshId::Standard(self.server.into()),
            keys: vec![russh::keys::load_secret_key(&key, None).unwrap()],
            auth_rejection_time: Duration::ZERO,
            ..Config::default()
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let known = self.dir.path().join(format!("known-{name}-{port}"));
        std::fs::write(&known, format!("[127.0.0.1]:{port} {public}\n")).unwrap();
        serving.spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let peer = Peer { door: door.clone(), waiting: HashMap::new() };
                let config = Arc::clone(&config);
                all.spawn(async move {
                    if let Ok(running) = russh::server::run_stream(config, stream, peer).await {
                        let _ = running.await;
                    }
                });
            }
        });
        Way::Ssh(Box::new(Target {
            timeout: Duration::from_secs(20),
            ..Target::new(
                name,
                ("127.0.0.1", port),
                self.user,
                Identities::new(vec![self.dir.path().join("key")], Vec::new(), None, Arc::new(|_: &Path| None)),
                known,
            )
        }))
    }

    /// Moves the five bytes from the one to the other.
    async fn go(&self, from: &Door, to: &Door, patience: u64) -> Result<Moved, Failure> {
        let mut serving = tokio::task::JoinSet::new();
        let source = self.reach("node-9", from.clone(), &mut serving).await;
        let target = self.reach("node-8", to.clone(), &mut serving).await;
        let order = order(on("node-9", &source, "/x/source"), on("node-8", &target, "/x/target"));
        let direct = Some(Direct::new("/var/lib/ferry"));
        go(&Order { direct, patience: Duration::from_secs(patience), ..order }).await
    }
}

fn source(other: &[Said], late: &'static [&'static str]) -> Door {
    let usual = vec![
        says("direct_look_source\n", &["me ops", "ssh OpenSSH_9.2p1", "address 10.0.0.9", "address 127.0.0.1", "over"]),
        ends(SOCKET, "{mark} /tmp/agent.1\n", "", 0),
        says("direct_read\n", &[&format!("ready {WHICH}"), "sent 5", &format!("end 0 {WHICH}")]),
    ];
    let host = host(&[usual, super::said::source()].concat(), other).listening(SOCKET);
    Door { host, late, greedy: false }
}

/// What the target's user has in authorized_keys.
fn keys(content: &str, alive: &str) -> Said {
    let bytes: String = content.bytes().map(|byte| format!("{byte:02x} ")).collect();
    let (size, bytes) = (format!("size {}", content.len()), format!("bytes {bytes}"));
    let alive = format!("alive {alive}");
    says("direct_keys\n", &["now 1795000000 +0900", "folder", &size, &bytes, &alive, "over"])
}

/// An entry of ours, as an earlier transfer left it.
fn entry(id: &str) -> String {
    format!("restrict,from=\"127.0.0.1\",command=\"exec x\" ssh-ed25519 AAAA ferry-direct-1 {id} -\n")
}

fn target(other: &[Said], late: &'static [&'static str]) -> Door {
    let usual = vec![
        says("direct_look_target\n", &["me ops", "base /run/ferry-direct-", "over"]),
        says("direct_keys\n", &["now 1795000000 +0000", "over"]),
        says("direct_hold\n", &["ready"]),
        says("direct_open\n", &["opened", "over"]),
        says("direct_edit\n", &["edited", "over"]),
        says("direct_release\n", &["over"]),
        says("direct_close\n", &["over"]),
        says("target_write\n", &["ready 77 0", "at 5", "end 0 5"]),
    ];
    let usual = [usual, super::said::target().into_iter().filter(|said| said.0 != "target_write\n").collect()].concat();
    let ends = other.iter().any(|said| said.0 == "direct_hold\n");
    let host = host(&usual, other);
    // What keeps an entry stays until it is let go.
    Door { host: if ends { host } else { host.listening("direct_hold\n") }, late, greedy: false }
}

const CUT: &str = "the stream from node to node was cut";
/// What asks where the agent's socket is.
const SOCKET: &str = "\"$SSH_AUTH_SOCK\"; exec cat";
const READER: &[&str] = &["direct_read"];
const WRITER: &[&str] = &["target_write"];

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_says_between_two_nodes() {
    let desk = Desk::new();
    let moved = desk.go(&source(&[], &[]), &target(&[], &[]), 0).await.unwrap();
    assert_eq!((moved.bytes, moved.cuts, moved.sent_again, moved.sha256), (5, 0, 0, Some(digest("hello"))));
    let another = "5 12 1 2026-11-26 2026-11-26";
    let read = |lines: &[&str]| says("direct_read\n", lines);
    let ready = format!("ready {WHICH}");
    let fails = |err: &str| ends("direct_read\n", format!("{{mark}} {ready}\n{{mark}} end 255 {WHICH}\n"), err, 0);
    let junk = format!("{{mark}} {ready}\n{}", "x".repeat(70_000));
    // What the source says, whether it says it late, and what comes of it.
    let cases: Vec<(Said, &'static [&'static str], Kind, &str, &[&str])> = vec![
        (
            says("direct_look_source\n", &["me ops", "ssh OpenSSH_9.2p1", "address 10.0.0.9", "over"]),
            &[],
            Kind::Refused,
            "node-9",
            &["its addresses are not known", "good from anywhere", "--via relay"],
        ),
        (
            says("direct_look_source\n", &["me ops", "nossh", "over"]),
            &[],
            Kind::Refused,
            "node-9",
            &["there is no ssh", "install openssh-clients", "--via relay"],
        ),
        (read(&[&format!("ready {another}")]), &[], Kind::Failed, "node-9", &["the source changed while it was read"]),
        (
            read(&[&ready, "sent 5", &format!("end 0 {another}")]),
            &[],
            Kind::Failed,
            "node-9",
            &["the source changed while it was read", "something else writes to it"],
        ),
        (
            ends("direct_read\n", "{mark} unseekable 3\n", "", 4),
            &[],
            Kind::Failed,
            "node-9",
            &["the dd there does not seek"],
        ),
        (
            ends("direct_read\n", "{mark} gone\n", "", 3),
            &[],
            Kind::Failed,
            "node-9",
            &["the source changed while it was read"],
        ),
        (ends("direct_read\n", junk.as_str(), "", 0), &[], Kind::Failed, "node-9", &["something else than it should"]),
        (
            ends("direct_read\n", format!("{{mark}} {ready}\n"), "dd: Input/output error\n", 5),
            &[],
            Kind::Unreachable,
            "node-9",
            &[CUT, "exit code 5; dd: Input/output error", "--resume goes on"],
        ),
        (
            breaks("direct_read\n", format!("{{mark}} {ready}\n"), Exit::Lost("reset".to_owned())),
            &[],
            Kind::Unreachable,
            "node-9",
            &[CUT, "--resume goes on"],
        ),
        (
            fails("Host key verification failed.\n"),
            READER,
            Kind::Refused,
            "node-8",
            &["has another host key than what ferry reaches", "verification failed", "another machine", "--via relay"],
        ),
        (
            fails("ssh: connect to host b port 22: No route to host\n"),
            READER,
            Kind::Unreachable,
            "node-9",
            &["does not reach the target by its own network", "No route", "--via relay"],
        ),
        (
            fails("ops@b: Permission denied (publickey).\n"),
            READER,
            Kind::Refused,
            "node-8",
            &["did not let the transfer's key in", "from one of 127.0.0.1", "behind NAT"],
        ),
        (
            fails("something broke\n"),
            READER,
            Kind::Unreachable,
            "node-9",
            &[CUT, "its ssh ended with 255: something broke", "--resume goes on"],
        ),
    ];
    for (said, late, kind, at, words) in cases {
        let to = target(&[says("target_write\n", &["ready 77 0", "end 0 0"])], WRITER);
        let failure = desk.go(&source(&[said], late), &to, 0).await.unwrap_err();
        told(&failure, kind, at, words);
        assert_eq!(heard(&to.host, "target_finish"), 0, "{failure:?}");
        assert!(heard(&to.host, "direct_open") == 0 || heard(&to.host, "direct_close") > 0, "{failure:?}");
    }
    // It wants more of the agent that it is lent than its login.
    let from = Door { greedy: true, ..source(&[fails("Permission denied\n")], READER) };
    let to = target(&[says("target_write\n", &["ready 77 0", "end 0 0"])], WRITER);
    told(
        &desk.go(&from, &to, 0).await.unwrap_err(),
        Kind::Refused,
        "node-9",
        &["asked ferry's agent for something else than its one login", "neither a list nor a signature"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_says_between_two_nodes() {
    let desk = Desk::new();
    let write = |lines: &[&str]| says("target_write\n", lines);
    let changing: Vec<Said> = (0..60).map(|turn| keys(&entry(&format!("{:016x}", turn % 2)), "")).collect();
    let full = "cat: write error: No space left on device\n";
    let ready = "{mark} ready 77 0\n";
    let cases: Vec<(Vec<Said>, Kind, &[&str], usize)> = vec![
        (
            vec![says("direct_look_target\n", &["me ops", "base /home/o ps/.ferry-direct-", "over"])],
            Kind::Refused,
            &["there is no place for a FIFO", "/home/o ps/", "--via relay"],
            0,
        ),
        (changing, Kind::Failed, &["authorized_keys changes all the time", "something else writes to it"], 0),
        (
            vec![ends("direct_hold\n", "{mark} moved\n", "", 3)],
            Kind::Failed,
            &["authorized_keys changes all the time"],
            0,
        ),
        (
            vec![ends("direct_hold\n", "", "mkdir: read-only\n", 4)],
            Kind::Failed,
            &["could not begin the stream", "exit code 4", "mkdir: read-only"],
            0,
        ),
        (
            vec![
                says("direct_keys\n", &["now 1 +0000", "over"]),
                says("direct_keys\n", &["now 1 +0000", "odd", "over"]),
            ],
            Kind::Refused,
            &["authorized_keys is no file", "--via relay"],
            0,
        ),
        (
            vec![says("direct_open\n", &["noowner", "over"])],
            Kind::Failed,
            &["the FIFO could not be made", "noowner"],
            0,
        ),
        (vec![write(&["ready 77 9"])], Kind::Failed, &["something else than it should", "77 9"], 0),
        (
            vec![breaks("target_write\n", ready, Exit::Signal("KILL".to_owned()))],
            Kind::Unreachable,
            &["was cut", "the writer there was ended by KILL", "--resume goes on"],
            0,
        ),
        (
            vec![ends("target_write\n", ready, "", 137)],
            Kind::Unreachable,
            &["was cut", "the writer there was ended: 137"],
            0,
        ),
        (
            vec![breaks("target_write\n", ready, Exit::Lost("reset".to_owned()))],
            Kind::Unreachable,
            &["was cut", "--resume goes on"],
            0,
        ),
        (
            vec![ends("target_write\n", format!("{ready}{{mark}} end 1 0\n"), full, 1)],
            Kind::Failed,
            &["could not write the file", "No space left", "the disk there is full"],
            1,
        ),
        (
            vec![ends("target_write\n", format!("{ready}{}", "x".repeat(70_000)), "", 0)],
            Kind::Failed,
            &["something else than it should"],
            0,
        ),
        (vec![write(&["ready 77 0", "end 0 3"])], Kind::Unreachable, &["was cut", "byte 3 of 5"], 0),
    ];
    for (said, kind, words, dropped) in cases {
        let to = target(&said, &[]);
        let failure = desk.go(&source(&[], &[]), &to, 0).await.unwrap_err();
        told(&failure, kind, "node-8", words);
        assert_eq!((heard(&to.host, "target_finish"), heard(&to.host, "target_drop")), (0, dropped), "{failure:?}");
    }
    // The writer says first how far it came, and the source then why, or nothing.
    let another = "5 12 1 2026-11-26 2026-11-26";
    let end = |rest: &str| says("direct_read\n", &[&format!("ready {WHICH}"), rest]);
    let silent =
        |lines: &[&str]| (says("direct_read\n", lines), Kind::Unreachable, "node-8", "the source says nothing");
    for (said, kind, at, words) in [
        (end(&format!("end 255 {WHICH}")), Kind::Unreachable, "node-9", "its ssh ended with 255"),
        (end(&format!("end 0 {another}")), Kind::Failed, "node-9", "the source changed while it was read"),
        silent(&[&format!("ready {WHICH}")]),
    ] {
        let to = target(&[write(&["ready 77 0", "at 3", "end 0 3"])], &[]);
        let failure = desk.go(&source(&[said], READER), &to, 0).await.unwrap_err();
        told(&failure, kind, at, &[words]);
    }
    // It ends without a word, or on a full disk, while the source waits to be told more.
    for (said, kind, words) in [
        (ends("target_write\n", ready, "", 137), Kind::Unreachable, "the writer there ended"),
        (ends("target_write\n", ready, full, 1), Kind::Failed, "the disk there is full"),
    ] {
        let waits = Door { late: READER, ..source(&[end("")], READER) };
        told(&desk.go(&waits, &target(&[said], &[]), 0).await.unwrap_err(), kind, "node-8", &[words]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transfer_between_two_nodes_leaves() {
    let mut desk = Desk::new();
    // What was cut goes on where the target says that it stands.
    let writes = [
        breaks("target_write\n", "{mark} ready 77 0\n", Exit::Signal("KILL".to_owned())),
        says("target_write\n", &["ready 78 3", "at 5", "end 0 5"]),
    ];
    let reads = ["sent 5", "sent 2"];
    let reads = reads.map(|sent| says("direct_read\n", &[&format!("ready {WHICH}"), sent, &format!("end 0 {WHICH}")]));
    let (from, to) = (source(&reads, &[]), target(&writes, &[]));
    let moved = desk.go(&from, &to, 20).await.unwrap();
    assert_eq!((moved.cuts, moved.sent_again), (1, 2));
    let second = from.host.heard().into_iter().filter(|script| script.ends_with("direct_read")).nth(1).unwrap();
    assert!(second.contains("\nO=3\n"), "{second}");

    // An entry of a transfer that is over goes, one of a transfer that runs stays; so does what is not ours.
    let (old, runs) = ("0123456789abcdef", "fedcba9876543210");
    let other = "ssh-ed25519 AAAA me@here\n";
    let all = format!("{other}{}{}", entry(old), entry(runs));
    let less = format!("{other}{}", entry(runs));
    let (all, less) = (keys(&all, runs), keys(&less, runs));
    let to = target(&[all.clone(), all.clone(), all, less], &[]);
    desk.go(&source(&[], &[]), &to, 0).await.unwrap();
    let edits: Vec<String> = to.host.heard().into_iter().filter(|script| script.ends_with("direct_edit")).collect();
    assert_eq!(edits.len(), 1);
    let (first, last) = (other.len(), entry(old).len());
    let rows = format!("\nR='0 {first} {} {}'\n", first + last, entry(runs).len());
    assert!(edits[0].contains(&rows), "{rows}: {}", edits[0].split("say()").next().unwrap());

    // The file is in its place, and what the key opened may not be gone.
    let to = target(&[ends("direct_close\n", "", "rm: not today\n", 4)], &[]);
    let failure = desk.go(&source(&[], &[]), &to, 0).await.unwrap_err();
    let words = [
        "the FIFO of this transfer may still be there",
        "rm: not today",
        "whole and in its place; the key that opens it is gone",
        "the next ferry transfer --via direct",
    ];
    told(&failure, Kind::Failed, "node-8", &words);
    assert_eq!(heard(&to.host, "target_finish"), 1);
    let seen = says("direct_keys\n", &["now 1 +0000", "over"]);
    let to = target(&[seen.clone(), seen, ends("direct_keys\n", "", "cat: not today\n", 4)], &[]);
    let failure = desk.go(&source(&[], &[]), &to, 0).await.unwrap_err();
    let words = [
        "the key's entry in authorized_keys may still be there",
        "cat: not today",
        "whole and in its place; it opens nothing but a FIFO that is gone",
        "the next ferry transfer to that host",
    ];
    told(&failure, Kind::Failed, "node-8", &words);
    assert_eq!(heard(&to.host, "target_finish"), 1);

    // Servers of an earlier time: without a limit of time, and without a key that may do one thing only.
    let expiring = |door: &Door| {
        door.host.heard().iter().any(|script| script.ends_with("direct_hold") && script.contains("expiry-time="))
    };
    let to = target(&[], &[]);
    desk.go(&source(&[], &[]), &to, 0).await.unwrap();
    assert!(expiring(&to));
    desk.server = "SSH-2.0-OpenSSH_7.4";
    let to = target(&[], &[]);
    desk.go(&source(&[], &[]), &to, 0).await.unwrap();
    assert!(!expiring(&to) && heard(&to.host, "direct_hold") == 1);
    for server in ["SSH-2.0-OpenSSH_7.1", "SSH-2.0-dropbear_2022.83"] {
        desk.server = server;
        let failure = desk.go(&source(&[], &[]), &target(&[], &[]), 0).await.unwrap_err();
        told(&failure, Kind::Refused, "node-8", &["cannot hold a key to one command", server, "--via relay"]);
    }
    desk.server = "SSH-2.0-OpenSSH_9.2p1";
    desk.user = "o'ps";
    let failure = desk.go(&source(&[], &[]), &target(&[], &[]), 0).await.unwrap_err();
    told(&failure, Kind::Refused, "node-8", &["the user's name there cannot be given to ssh", "--via relay"]);
}
