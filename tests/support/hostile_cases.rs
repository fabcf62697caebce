//! What each hostile server does, and what must come of it. How the protocol is spoken rightly is in `hostile_wire`.
#![allow(dead_code, unreachable_pub)]

use std::io;
use std::time::Duration;

use crate::wire::*;

/// What the client of a case does after it has connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// Runs a short command, 3 s.
    Run,
    /// The same, 60 s.
    Long,
    /// Runs a script through sudo, with a password if it is asked for, 3 s.
    Root,
    /// Writes 16 MiB into a command, 5 s.
    Write,
    /// The same, 40 s.
    Flood,
    /// Lists the jobs on the node.
    List,
    /// Follows a job.
    Follow,
    /// Brings a file here.
    Pull,
    /// Reaches another host through the server.
    Through,
    /// The whole program with these words.
    Ferry(&'static [&'static str]),
}

/// What known_hosts says of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Its key.
    Key,
    /// Another key.
    Changed,
    /// That its key is revoked.
    Revoked,
    /// Nothing.
    Nothing,
    /// Nothing, and whatever comes first is written down.
    AcceptNew,
}

/// One hostile server.
#[derive(Clone)]
pub struct Case {
    /// What it does.
    pub name: &'static str,
    /// How.
    pub script: Script,
    pub drive: Drive,
    pub known: Known,
    /// Seconds after which the client hangs: its own limits, and room for a busy machine.
    pub limit: u64,
    /// Words that the outcome must have.
    pub expect: &'static [&'static str],
    /// How often it may get the password.
    pub passwords: usize,
}

/// The job that is followed.
pub const JOB: &str = "0123456789abcdef0123456789abcdef";

const PING: &[&str] = &["ping", "all", "-i", "hosts.yml"];
const PING_JSON: &[&str] = &["ping", "all", "-i", "hosts.yml", "--json"];
const PLAY: &[&str] = &["run", "play.yml", "-i", "hosts.yml"];
const TWO: &[&str] = &["run", "two.yml", "-i", "hosts.yml"];
const EXEC: &[&str] = &["exec", "all", "-i", "hosts.yml", "--", "echo", "asked"];
const JOBS: &[&str] = &["jobs", "list", "all", "-i", "hosts.yml"];
const JOBS_JSON: &[&str] = &["jobs", "list", "all", "-i", "hosts.yml", "--json"];

fn case(name: &'static str, drive: Drive, expect: &'static [&'static str], script: Script) -> Case {
    Case { name, script, drive, known: Known::Key, limit: 25, expect, passwords: 0 }
}

impl Case {
    fn known(mut self, known: Known) -> Self {
        self.known = known;
        self
    }
    fn limit(mut self, seconds: u64) -> Self {
        self.limit = seconds;
        self
    }
    fn passwords(mut self, count: usize) -> Self {
        self.passwords = count;
        self
    }
}

/// A server that answers everything as it should.
pub fn honest_case() -> Case {
    case("honest", Drive::Run, &[], |w| {
        w.up()?;
        loop {
            let line = w.next_command()?;
            if !line.contains("ferry-") {
                if line == "cat" {
                    while w.wait(u8::MAX).is_ok() {}
                }
                w.out(b"hello\n")?;
                w.eof()?;
                w.status(0)?;
                w.close()?;
                continue;
            }
            let script = w.shell(&line)?;
            w.out(&honest_answer(&script))?;
            w.done(&script)?;
        }
    })
}

/// What the honest server is asked, and what must be believed.
pub fn honest() -> Vec<(Drive, &'static str)> {
    vec![
        (Drive::Run, "exit code 0, 6 bytes out, 0 err, cut false"),
        (Drive::Root, "exit code 0, 6 bytes out, 0 err, cut false"),
        (Drive::List, "1 jobs"),
        (Drive::Follow, "followed: done, exit code 7 | 4 bytes, 1 hearts"),
        (Drive::Pull, "arrived: 5 bytes"),
    ]
}

fn nonce(script: &str) -> String {
    between(script, "f_nonce=", "\n").trim_matches('\'').to_owned()
}

/// The mark that the answers of a script begin with; the shell's own nonce is another.
fn mark(script: &str) -> String {
    let nonce = between(script, "\n_n=", "\n");
    let at =
        script.match_indices("@@").map(|(at, _)| at).find(|at| nonce.is_empty() || !script[*at..].starts_with(&nonce));
    let at = at.unwrap_or(script.len());
    script[at..].chars().take(34).collect()
}

const META: &str = r#"{"kind":"gravity-backup","cluster":"prod","meta":null}"#;

/// The answer of a node to one of ferry's scripts.
fn honest_answer(script: &str) -> Vec<u8> {
    if script.contains("f_nonce=") {
        let n = nonce(script);
        let verb = between(script, "j_verb=", "\n").trim_matches('\'').to_owned();
        return match verb.as_str() {
            "list" => format!(
                "\n@{n} hello 1\n@{n} job {JOB} done 7 flock 1700000000 4 - {}\n{META}\n@{n} bye\n",
                META.len()
            ),
            _ => format!(
                "\n@{n} hello 1\n@{n} D 0 4\nlog\n\n@{n} d 4\n@{n} H running 5 flock 4 -\n@{n} state done 7 flock 0\n\n@{n} bye\n"
            ),
        }
        .into_bytes();
    }
    if script.contains("dgst") {
        let digest = {
            use sha2::Digest as _;
            sha2::Sha256::digest(b"12345").iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        return format!("{} openssl {digest}\n", mark(script)).into_bytes();
    }
    if script.contains("SOURCE") {
        let m = mark(script);
        return format!("{m} SOURCE 5 1 2 3\n12345{m} END 5 1 2 3\n").into_bytes();
    }
    if script.contains("stat -c") {
        return format!("{} 5 1 2 3\n", mark(script)).into_bytes();
    }
    if script.contains("uname -n") {
        return ping_answer(script, b"ops", b"Debian");
    }
    b"hello\n".to_vec()
}

fn ping_answer(script: &str, user: &[u8], os: &[u8]) -> Vec<u8> {
    let m = mark(script).into_bytes();
    let mut said = Vec::new();
    for (key, value) in [(&b" user "[..], user), (b" root ", b"0"), (b" name ", b"n"), (b" os ", os)] {
        said.extend_from_slice(&[m.as_slice(), key, value, b"\n"].concat());
    }
    said
}

/// As [`honest_case`], with another answer to every script.
fn answering(w: &mut Wire, answer: fn(&str) -> Vec<u8>) -> io::Result<()> {
    w.up()?;
    loop {
        w.scripted(answer)?;
    }
}

/// After the key exchange with a spoiled part, all goes on rightly: whoever is not stopped there succeeds.
fn go_on(w: &mut Wire) -> io::Result<()> {
    w.service()?;
    w.let_in()?;
    w.next_command()?;
    w.end(0)
}

fn spoiled(w: &mut Wire, how: Kex) -> io::Result<()> {
    w.banner()?;
    w.kex(how)?;
    go_on(w)
}

/// A banner, then these bytes, then patience.
fn raw_after_banner(w: &mut Wire, bytes: &[u8]) -> io::Result<()> {
    w.banner()?;
    w.raw(bytes)?;
    w.linger()
}

fn open_to(kind: &str, w: &mut Wire) -> io::Result<()> {
    let head = packet(OPEN).string(kind).number(7).number(1 << 20).number(32 << 10);
    let packet = match kind {
        "x11" => head.string("1.2.3.4").number(5),
        "forwarded-tcpip" | "direct-tcpip" => head.string("127.0.0.1").number(22).string("1.2.3.4").number(5),
        "forwarded-streamlocal@openssh.com" => head.string("/tmp/s").string(""),
        _ => head,
    };
    w.send(&packet)
}

const UNASKED: [&str; 7] = [
    "session",
    "x11",
    "auth-agent@openssh.com",
    "forwarded-tcpip",
    "direct-tcpip",
    "forwarded-streamlocal@openssh.com",
    "nonsense@example",
];

const UNREACHABLE: &[&str] = &["connect: Unreachable"];
const KEX_FAILED: &[&str] = &["connect: Unreachable", "the key exchange failed"];
const NOT_SSH: &[&str] = &["connect: Unreachable", "does not speak SSH"];
const NOT_FOR_EVER: &[&str] = &["run: Unreachable", "no answer within 3 s"];
const LOST: &[&str] = &["connection lost before an exit status was seen"];
const FINE: &[&str] = &["exit code 0"];
const AUTH: &[&str] = &["connect: Unreachable", "authentication"];

pub fn all() -> Vec<Case> {
    [
        before_kex(),
        in_kex(),
        in_authentication(),
        on_channels(),
        as_bastion(),
        writing(),
        asking(),
        jobs(),
        files(),
        program(),
    ]
    .concat()
}

fn before_kex() -> Vec<Case> {
    use Drive::Run;
    vec![
        case("garbage instead of a banner", Run, NOT_SSH, |w| {
            let garbage: Vec<u8> = (0..65_536_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            w.raw(garbage)?;
            w.linger()
        }),
        case("nothing is said", Run, &["connect: Unreachable", "no SSH banner"], |w| w.freeze()),
        case("hangs up at once", Run, &["connect: Unreachable", "no SSH banner"], |_| Ok(())),
        case("reset at once", Run, UNREACHABLE, |w| w.reset()),
        case("endless lines before the banner", Run, NOT_SSH, |w| {
            loop {
                w.raw(b"Welcome to the machine. All that you type is kept.\r\n".repeat(100))?;
            }
        }),
        case("a mebibyte of banner without a line end", Run, UNREACHABLE, |w| {
            w.raw(b"SSH-2.0-")?;
            w.raw(vec![b'x'; 1 << 20])?;
            w.linger()
        }),
        case("SSH-1.5", Run, UNREACHABLE, |w| {
            w.raw(b"SSH-1.5-old\n")?;
            w.linger()
        }),
        case("SSH-1.99, and right from there on", Run, FINE, |w| {
            w.version = "SSH-1.99-both".to_owned();
            w.shaken()?;
            go_on(w)
        }),
        case("a NUL in the banner", Run, UNREACHABLE, |w| {
            w.raw(b"SSH-2.0-a\0b\r\n")?;
            w.linger()
        }),
        case("a web server", Run, NOT_SSH, |w| w.raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")),
        case("an alert of TLS", Run, NOT_SSH, |w| {
            w.raw([21, 3, 3, 0, 2, 2, 40])?;
            w.linger()
        }),
        case("a banner, then nothing", Run, KEX_FAILED, |w| {
            w.banner()?;
            w.freeze()
        }),
        case("a banner, then hangs up", Run, KEX_FAILED, |w| w.raw(b"SSH-2.0-bye\r\n")),
        case("a banner, then a reset", Run, KEX_FAILED, |w| {
            w.banner()?;
            w.reset()
        }),
        case("a banner at a byte a second", Run, UNREACHABLE, |w| w.drip(&[b'S'; 200])),
        case("a key exchange at a byte a second", Run, KEX_FAILED, |w| {
            w.banner()?;
            w.drip(&[0; 200])
        }),
        case("a banner that acts on terminals, then hangs up", Drive::Ferry(PING), &["exit Some(4)"], |w| {
            w.raw(b"SSH-2.0-")?;
            w.raw(ACTS)?;
            w.raw(b"\r\n")
        }),
        case("lines that act on terminals before the banner", Drive::Ferry(PING), &["exit Some(4)"], |w| {
            w.raw(ACTS)?;
            w.raw(b"\r\n")
        }),
        case("empty lists of algorithms", Run, KEX_FAILED, |w| {
            w.banner()?;
            w.send(&kexinit(&[""; 10]))?;
            w.linger()
        }),
        case("huge lists of algorithms", Run, KEX_FAILED, |w| {
            w.banner()?;
            let huge = "no-such-algorithm@example,".repeat(900);
            w.send(&kexinit(&[huge.trim_end_matches(','); 10]))?;
            w.linger()
        }),
        case("a list of algorithms that lies about its length", Run, KEX_FAILED, |w| {
            w.banner()?;
            w.send(&packet(KEXINIT).raw([7; 16]).number(u32::MAX).raw(b"curve25519-sha256"))?;
            w.linger()
        }),
        case("lists of algorithms that break off", Run, KEX_FAILED, |w| {
            w.banner()?;
            w.send(&packet(KEXINIT).raw([7; 16]).string("curve25519-sha256"))?;
            w.linger()
        }),
        case("algorithms that are no text", Run, KEX_FAILED, |w| {
            w.banner()?;
            w.send(&(0..10).fold(packet(KEXINIT).raw([7; 16]), |made, _| made.string(ACTS)).byte(0).number(0))?;
            w.linger()
        }),
        case("no algorithm in common", Run, &["the key exchange failed", "only algorithms that ferry refuses"], |w| {
            w.banner()?;
            let (cipher, mac) = ("3des-cbc", "hmac-md5");
            let kex = "diffie-hellman-group1-sha1";
            w.send(&kexinit(&[kex, "ssh-dss", cipher, cipher, mac, mac, "none", "none", "", ""]))?;
            w.linger()
        }),
        case("packet length 0", Run, KEX_FAILED, |w| raw_after_banner(w, &[0; 64])),
        case("packet length 4 GiB", Run, KEX_FAILED, |w| {
            raw_after_banner(w, &[&[0xff; 4][..], &[4; 1 << 16]].concat())
        }),
        case("packet length of a negative number and much data", Run, KEX_FAILED, |w| {
            w.banner()?;
            w.raw([0x80, 0, 0, 0])?;
            loop {
                w.raw(vec![0; 1 << 16])?;
            }
        }),
        case("an odd packet length", Run, KEX_FAILED, |w| {
            raw_after_banner(w, &[&[0, 0, 0, 3, 1, 20, 0][..], &[0; 64]].concat())
        }),
        case("more padding than packet", Run, KEX_FAILED, |w| {
            raw_after_banner(w, &[&[0, 0, 0, 12, 255, 20][..], &[0; 64]].concat())
        }),
        case("no padding", Run, KEX_FAILED, |w| raw_after_banner(w, &[&[0, 0, 0, 12, 0, 20][..], &[0; 64]].concat())),
        case("a packet with nothing in it", Run, KEX_FAILED, |w| {
            raw_after_banner(w, &[&[0, 0, 0, 12, 11][..], &[0; 64]].concat())
        }),
        case("endless ignored packets before the key exchange", Run, KEX_FAILED, |w| {
            w.banner()?;
            loop {
                w.send(&packet(IGNORE).string([0; 1000]))?;
            }
        }),
        case("endless debug messages that act on terminals", Drive::Ferry(PING), &["exit Some(4)"], |w| {
            w.banner()?;
            loop {
                w.send(&packet(DEBUG).byte(1).string(ACTS_TEXT).string(""))?;
            }
        }),
        case("goodbye in words that act on terminals", Drive::Ferry(PING), &["exit Some(4)"], |w| {
            w.banner()?;
            w.disconnect(ACTS_TEXT.as_bytes())?;
            w.linger()
        }),
    ]
}

fn other_key_at_rekey(w: &mut Wire) -> io::Result<()> {
    w.running()?;
    w.kex(Kex { seed: OTHER_KEY, ..Kex::default() })?;
    w.out(b"with another key\n")?;
    w.end(0)
}

fn in_kex() -> Vec<Case> {
    use Drive::Run;
    vec![
        case("nothing spoiled", Run, FINE, |w| spoiled(w, Kex::default())),
        case("no strict form offered", Run, FINE, |w| spoiled(w, Kex { strict: false, ..Kex::default() })),
        case("the strict form taken out on the way", Run, KEX_FAILED, |w| {
            spoiled(w, Kex { stripped: true, ..Kex::default() })
        }),
        case("an ignored packet within the strict form", Run, KEX_FAILED, |w| {
            let ignored = |w: &mut Wire| w.send(&packet(IGNORE).string("x"));
            spoiled(w, Kex { after_init: ignored, ..Kex::default() })
        }),
        case("an ignored packet before NEWKEYS within the strict form", Run, KEX_FAILED, |w| {
            let ignored = |w: &mut Wire| w.send(&packet(IGNORE).string("x"));
            spoiled(w, Kex { before_newkeys: ignored, ..Kex::default() })
        }),
        case("extensions before NEWKEYS", Run, KEX_FAILED, |w| {
            let early = |w: &mut Wire| w.send(&packet(EXT_INFO).number(1).string("server-sig-algs").string("x"));
            spoiled(w, Kex { before_newkeys: early, ..Kex::default() })
        }),
        case("a second KEXINIT within the first", Run, KEX_FAILED, |w| {
            let again = |w: &mut Wire| w.send(&kexinit(&usual_lists(true)));
            spoiled(w, Kex { after_init: again, ..Kex::default() })
        }),
        case("let in before the key exchange ends", Run, KEX_FAILED, |w| {
            let early = |w: &mut Wire| w.send(&packet(USERAUTH_SUCCESS));
            spoiled(w, Kex { after_init: early, ..Kex::default() })
        }),
        case("a wrong signature of the host key", Run, KEX_FAILED, |w| {
            spoiled(w, Kex { bad_signature: true, ..Kex::default() })
        }),
        case("a signature of no bytes", Run, KEX_FAILED, |w| {
            let reply = |blob: &[u8], point: &[u8], _: &[u8]| packet(ECDH_REPLY).string(blob).string(point).string("");
            spoiled(w, Kex { reply, ..Kex::default() })
        }),
        case("a host key that is none", Run, KEX_FAILED, |w| {
            let reply = |_: &[u8], point: &[u8], sig: &[u8]| packet(ECDH_REPLY).string(ACTS).string(point).string(sig);
            spoiled(w, Kex { reply, ..Kex::default() })
        }),
        case("the point zero", Run, KEX_FAILED, |w| {
            let reply = |blob: &[u8], _: &[u8], sig: &[u8]| packet(ECDH_REPLY).string(blob).string([0; 32]).string(sig);
            spoiled(w, Kex { reply, ..Kex::default() })
        }),
        case("a point that is too short", Run, KEX_FAILED, |w| {
            let reply =
                |blob: &[u8], at: &[u8], sig: &[u8]| packet(ECDH_REPLY).string(blob).string(&at[1..]).string(sig);
            spoiled(w, Kex { reply, ..Kex::default() })
        }),
        case("a reply of nothing", Run, KEX_FAILED, |w| {
            spoiled(w, Kex { reply: |_, _, _| packet(ECDH_REPLY), ..Kex::default() })
        }),
        case("no reply to the key exchange", Run, KEX_FAILED, |w| {
            w.banner()?;
            w.send(&kexinit(&usual_lists(true)))?;
            w.freeze()
        }),
        case("NEWKEYS never comes", Run, KEX_FAILED, |w| {
            spoiled(w, Kex { before_newkeys: |w| w.freeze(), ..Kex::default() })
        }),
        case("plain text after NEWKEYS", Run, UNREACHABLE, |w| {
            w.shaken()?;
            w.raw([0; 4096])?;
            w.linger()
        }),
        case("an encrypted length of 4 GiB", Run, UNREACHABLE, |w| {
            w.shaken()?;
            w.send_plain([&[0xff; 4][..], &[0; 64]].concat())?;
            w.linger()
        }),
        case("an encrypted packet with nothing in it, and nothing more", Run, AUTH, |w| {
            w.shaken()?;
            w.send_plain([&[0, 0, 0, 8, 7][..], &[0; 7]].concat())?;
            w.linger()
        })
        .limit(60),
        case("an unknown host key", Run, &["connect: Unreachable", "the host key is not known here"], |w| w.up())
            .known(Known::Nothing),
        case("another host key", Run, &["connect: Unreachable", "the host key has changed"], |w| w.up())
            .known(Known::Changed),
        case("a revoked host key", Run, &["connect: Unreachable", "the host key is revoked"], |w| w.up())
            .known(Known::Revoked),
        // Harmless: a re-key is spoken inside the connection, so it is the peer that has proved the recorded key. russh
        // asks about a key once. What counts is that the other one is recorded nowhere.
        case("the host key changes at a re-key", Run, FINE, other_key_at_rekey),
        case("a host key that was new changes at a re-key", Run, FINE, other_key_at_rekey).known(Known::AcceptNew),
        case("another signature at a re-key", Run, LOST, |w| {
            w.running()?;
            w.kex(Kex { bad_signature: true, ..Kex::default() })?;
            w.end(0)
        }),
        case("two hundred re-keys", Run, FINE, |w| {
            w.running()?;
            for _ in 0..200 {
                w.kex(Kex::default())?;
            }
            w.end(0)
        }),
        case("a re-key that never ends", Run, NOT_FOR_EVER, |w| {
            w.running()?;
            w.send(&kexinit(&usual_lists(true)))?;
            w.freeze()
        }),
        case("KEXINIT over and over", Run, LOST, |w| {
            w.running()?;
            loop {
                w.send(&kexinit(&usual_lists(true)))?;
            }
        }),
    ]
}

fn in_authentication() -> Vec<Case> {
    use Drive::Run;
    vec![
        case("another service is granted", Run, AUTH, |w| {
            w.shaken()?;
            w.wait(SERVICE_REQUEST)?;
            w.send(&packet(SERVICE_ACCEPT).string("ssh-connection"))?;
            w.serve()
        })
        .limit(60),
        case("let in is never answered", Run, AUTH, |w| {
            w.shaken()?;
            w.service()?;
            w.serve()
        })
        .limit(60),
        case("let in before it was asked", Run, UNREACHABLE, |w| {
            w.shaken()?;
            w.send(&packet(USERAUTH_SUCCESS))?;
            w.serve()
        }),
        case("let in at once, without looking at the key", Run, FINE, |w| {
            w.shaken()?;
            w.service()?;
            w.wait(USERAUTH_REQUEST)?;
            w.send(&packet(USERAUTH_SUCCESS))?;
            w.next_command()?;
            w.end(0)
        }),
        case("a mebibyte of login banner that acts on terminals", Drive::Ferry(PING), &["exit Some(0)"], |w| {
            w.shaken()?;
            w.service()?;
            w.wait(USERAUTH_REQUEST)?;
            for _ in 0..8 {
                w.send(&packet(USERAUTH_BANNER).string(ACTS_TEXT.repeat(4096)).string(""))?;
            }
            w.send(&packet(USERAUTH_SUCCESS))?;
            loop {
                w.scripted(honest_answer)?;
            }
        }),
        case("endless login banners", Run, AUTH, |w| {
            w.shaken()?;
            w.service()?;
            w.wait(USERAUTH_REQUEST)?;
            loop {
                w.send(&packet(USERAUTH_BANNER).string([b'x'; 30_000]).string(""))?;
            }
        })
        .limit(60),
        case("half let in, for ever", Run, AUTH, |w| {
            w.shaken()?;
            w.service()?;
            loop {
                w.wait(USERAUTH_REQUEST)?;
                w.send(&packet(USERAUTH_FAILURE).string("publickey,password").byte(1))?;
            }
        }),
        case("refused without another way", Run, &["connect: Unreachable", "does not let ops in", "[1 came]"], |w| {
            w.shaken()?;
            w.service()?;
            w.wait(USERAUTH_REQUEST)?;
            // Tried again it would count twice where somebody counts (fail2ban).
            let came = w.seen.connections.load(std::sync::atomic::Ordering::SeqCst);
            w.note(format!("{came} came"));
            w.send(&packet(USERAUTH_FAILURE).string("").byte(0))?;
            w.serve()
        }),
        case("refused with ways that act on terminals", Drive::Ferry(PING), &["exit Some(4)"], |w| {
            w.shaken()?;
            w.service()?;
            loop {
                w.wait(USERAUTH_REQUEST)?;
                w.send(&packet(USERAUTH_FAILURE).string(format!("publickey,{ACTS_TEXT}")).byte(0))?;
            }
        }),
        case("refused a million times", Run, UNREACHABLE, |w| {
            w.shaken()?;
            w.service()?;
            w.wait(USERAUTH_REQUEST)?;
            loop {
                w.send(&packet(USERAUTH_FAILURE).string("publickey").byte(0))?;
            }
        }),
        case("every key is fine, over and over", Run, UNREACHABLE, |w| {
            w.shaken()?;
            w.service()?;
            loop {
                w.wait(USERAUTH_REQUEST)?;
                for _ in 0..100 {
                    w.send(&packet(USERAUTH_PK_OK).string("ssh-ed25519").string("key"))?;
                }
            }
        })
        .limit(60),
        case("thousands of questions that nobody asked for", Run, UNREACHABLE, |w| {
            w.shaken()?;
            w.service()?;
            w.wait(USERAUTH_REQUEST)?;
            let mut ask = packet(USERAUTH_PK_OK).string(ACTS_TEXT).string(ACTS_TEXT).string("").number(5000);
            for _ in 0..5000 {
                ask = ask.string("Password: ").byte(0);
            }
            w.send(&ask)?;
            w.serve()
        })
        .limit(60),
        case("reset while it lets in", Run, UNREACHABLE, |w| {
            w.shaken()?;
            w.service()?;
            w.wait(USERAUTH_REQUEST)?;
            w.reset()
        }),
        case("data of a channel before it lets in", Run, UNREACHABLE, |w| {
            w.shaken()?;
            w.service()?;
            w.wait(USERAUTH_REQUEST)?;
            w.send(&packet(DATA).number(0).string("early"))?;
            w.serve()
        }),
        case("a channel of its own before it lets in", Run, UNREACHABLE, |w| {
            w.shaken()?;
            w.service()?;
            w.wait(USERAUTH_REQUEST)?;
            open_to("session", w)?;
            w.serve()
        }),
        case("a million extensions", Run, UNREACHABLE, |w| {
            w.shaken()?;
            let mut many = packet(EXT_INFO).number(1_000_000);
            for _ in 0..20_000 {
                many = many.string("x").string("y");
            }
            w.send(&many)?;
            w.service()?;
            w.let_in()?;
            w.serve()
        }),
        case("goodbye of 200 KiB after it let in", Run, UNREACHABLE, |w| {
            w.shaken()?;
            w.service()?;
            w.let_in()?;
            w.asked()?;
            w.disconnect(ACTS_TEXT.repeat(8000).as_bytes())?;
            w.linger()
        }),
    ]
    .into_iter()
    .map(|mut case| {
        if case.name.starts_with("goodbye of 200") {
            case.expect = &["run: Unreachable"];
        }
        case
    })
    .collect()
}

fn on_channels() -> Vec<Case> {
    use Drive::Run;
    vec![
        case("a channel is never opened", Run, &["run: Unreachable", "did not open a channel within"], |w| {
            w.up()?;
            w.asked()?;
            w.serve()
        })
        .limit(50),
        case("a channel is opened that nobody asked for", Run, &["run: Unreachable"], |w| {
            w.up()?;
            let channel = w.asked()?;
            w.send(&packet(OPEN_CONFIRMATION).number(channel + 77).number(0).number(1 << 20).number(1 << 15))?;
            w.serve()
        }),
        case("a channel is opened twice", Run, FINE, |w| {
            w.up()?;
            let channel = w.asked()?;
            for _ in 0..2 {
                w.send(&packet(OPEN_CONFIRMATION).number(channel).number(0).number(1 << 20).number(1 << 15))?;
            }
            w.command()?;
            w.end(0)
        }),
        case("a channel is refused in words that act on terminals", Drive::Ferry(PING), &["exit Some(4)"], |w| {
            w.up()?;
            let channel = w.asked()?;
            w.send(&packet(OPEN_FAILURE).number(channel).number(2).string(ACTS_TEXT).string(ACTS_TEXT))?;
            w.serve()
        }),
        case(
            "a channel is refused for an unknown reason",
            Run,
            &["run: Unreachable", "refused to open a channel"],
            |w| {
                w.up()?;
                let channel = w.asked()?;
                w.send(&packet(OPEN_FAILURE).number(channel).number(u32::MAX).string("no").string(""))?;
                w.serve()
            },
        ),
        case("the command is refused", Run, &["the server refused to run a command"], |w| {
            w.up()?;
            w.confirm(1 << 20, 1 << 15)?;
            w.command()?;
            w.send(&packet(CHANNEL_FAILURE).number(w.channel))?;
            w.close()?;
            w.serve()
        }),
        case("the command is refused, then nothing", Run, NOT_FOR_EVER, |w| {
            w.up()?;
            w.confirm(1 << 20, 1 << 15)?;
            w.command()?;
            w.send(&packet(CHANNEL_FAILURE).number(w.channel))?;
            w.serve()
        }),
        case("output before the command was accepted", Run, FINE, |w| {
            w.up()?;
            w.confirm(1 << 20, 1 << 15)?;
            w.out(b"early\n")?;
            w.command()?;
            w.send(&packet(CHANNEL_SUCCESS).number(w.channel))?;
            w.end(0)
        }),
        case("an end without a status", Run, LOST, |w| {
            w.running()?;
            w.out(b"all is well\n")?;
            w.eof()?;
            w.close()?;
            w.serve()
        }),
        case("a close without anything", Run, LOST, |w| {
            w.running()?;
            w.close()?;
            w.serve()
        }),
        case("an end of output, and nothing after it", Run, NOT_FOR_EVER, |w| {
            w.running()?;
            w.eof()?;
            w.serve()
        }),
        case("a status, and no end", Run, NOT_FOR_EVER, |w| {
            w.running()?;
            w.eof()?;
            w.status(0)?;
            w.serve()
        }),
        // OpenSSH tells the status while output waits for its window: what comes behind it may be most of an archive.
        case("a status, and the connection ends before the output", Run, LOST, |w| {
            w.running()?;
            w.out(b"all is w")?;
            w.status(0)
        }),
        case("two statuses", Run, &["exit code 5"], |w| {
            w.running()?;
            w.eof()?;
            w.status(0)?;
            w.status(5)?;
            w.close()?;
            w.serve()
        }),
        case("a status after a signal", Run, &["killed by signal TERM"], |w| {
            w.running()?;
            w.signal(b"TERM", b"")?;
            w.status(0)?;
            w.close()?;
            w.serve()
        }),
        case("a refusal after a status", Run, &["refused to run a command"], |w| {
            w.running()?;
            w.status(0)?;
            w.send(&packet(CHANNEL_FAILURE).number(w.channel))?;
            w.close()?;
            w.serve()
        }),
        case("a status of 2^32 - 1", Run, &["exit code 2147483647"], |w| {
            w.running()?;
            w.end(u32::MAX)
        }),
        case("a status that breaks off", Run, LOST, |w| {
            w.running()?;
            w.send(&packet(CHANNEL_REQUEST).number(w.channel).string("exit-status").byte(0).byte(0))?;
            w.close()?;
            w.serve()
        }),
        case("a signal that acts on terminals", Drive::Ferry(TWO), &["exit Some(8)"], |w| {
            w.up()?;
            let line = w.next_command()?;
            w.shell(&line)?;
            w.signal(ACTS_TEXT.as_bytes(), ACTS_TEXT.as_bytes())?;
            w.close()?;
            w.serve()
        }),
        case("a signal of 200 KiB", Run, &["killed by signal"], |w| {
            w.running()?;
            w.signal(&[b'A'; 200 << 10], b"")?;
            w.close()?;
            w.serve()
        }),
        case("streams of unknown kinds", Run, &["exit code 0, 0 bytes out, 0 err"], |w| {
            w.running()?;
            for kind in [0, 2, 3, u32::MAX] {
                w.send(&packet(EXTENDED_DATA).number(w.channel).number(kind).string("what is this"))?;
            }
            w.end(0)
        }),
        case("ten million lines", Drive::Long, &["exit code 0", "cut true"], |w| {
            w.running()?;
            let lines = b"a line\n".repeat(4_096);
            for _ in 0..10_000_000 / 4_096 {
                w.out(&lines)?;
            }
            w.end(0)
        })
        .limit(60),
        case("a line of a gibibyte", Drive::Long, &["cut true"], |w| {
            w.running()?;
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..1024 {
                w.out(&piece)?;
            }
            w.end(0)
        })
        .limit(60),
        case("a gibibyte of complaints", Drive::Long, &["cut true"], |w| {
            w.running()?;
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..1024 {
                w.err(&piece)?;
            }
            w.end(0)
        })
        .limit(60),
        case("output by single bytes", Run, &["exit code 0, 10000 bytes out"], |w| {
            w.running()?;
            for _ in 0..10_000 {
                w.out(b"x")?;
            }
            w.end(0)
        }),
        case("output of no bytes, without end", Run, NOT_FOR_EVER, |w| {
            w.running()?;
            loop {
                w.send(&packet(DATA).number(w.channel).string(""))?;
            }
        }),
        case("output for channels that are not there", Run, &["exit code 0, 3 bytes out"], |w| {
            w.running()?;
            for channel in [w.channel + 1, 99, u32::MAX] {
                w.send(&packet(DATA).number(channel).string([b'x'; 1000]))?;
                w.send(&packet(CHANNEL_REQUEST).number(channel).string("exit-status").byte(0).number(9))?;
                w.send(&packet(EOF).number(channel))?;
                w.send(&packet(WINDOW_ADJUST).number(channel).number(1))?;
                w.send(&packet(CLOSE).number(channel))?;
            }
            w.out(b"ok\n")?;
            w.end(0)
        }),
        case("output after the close", Run, FINE, |w| {
            w.running()?;
            w.status(0)?;
            w.close()?;
            w.send(&packet(DATA).number(w.channel).string("late"))?;
            w.status(3)?;
            w.serve()
        }),
        case("output beyond the window", Run, NOT_FOR_EVER, |w| {
            w.running()?;
            loop {
                w.send(&packet(DATA).number(w.channel).string([b'x'; 32 << 10]))?;
            }
        }),
        case("a packet of data larger than agreed", Run, FINE, |w| {
            w.running()?;
            w.send(&packet(DATA).number(w.channel).string([b'x'; 200 << 10]))?;
            w.end(0)
        }),
        case("channels of its own, of every kind", Run, &["exit code 0", "[7 refused, 0 confirmed]"], |w| {
            w.running()?;
            for kind in UNASKED {
                open_to(kind, w)?;
            }
            let (mut refused, mut confirmed) = (0, 0);
            while refused + confirmed < UNASKED.len() {
                match w.recv()?.first() {
                    Some(&OPEN_FAILURE) => refused += 1,
                    Some(&OPEN_CONFIRMATION) => confirmed += 1,
                    _ => {}
                }
            }
            w.note(format!("{refused} refused, {confirmed} confirmed"));
            w.end(0)
        }),
        case("ten thousand channels of its own", Drive::Long, FINE, |w| {
            w.running()?;
            for _ in 0..100 {
                for _ in 0..100 {
                    open_to("session", w)?;
                }
                for _ in 0..100 {
                    w.recv()?;
                }
            }
            w.end(0)
        })
        .limit(60),
        case("questions to all, ten thousand that want an answer", Drive::Long, FINE, |w| {
            w.running()?;
            for _ in 0..100 {
                for _ in 0..100 {
                    w.send(&packet(GLOBAL_REQUEST).string(ACTS_TEXT).byte(1))?;
                }
                for _ in 0..100 {
                    w.recv()?;
                }
            }
            w.end(0)
        })
        .limit(60),
        case("questions without end, and no answer is read", Run, NOT_FOR_EVER, |w| {
            w.running()?;
            loop {
                w.send(&packet(GLOBAL_REQUEST).string("keepalive@openssh.com").byte(1))?;
            }
        })
        .limit(80),
        case("answers that nobody asked for", Run, FINE, |w| {
            w.running()?;
            for _ in 0..1000 {
                w.send(&packet(REQUEST_SUCCESS))?;
                w.send(&packet(REQUEST_FAILURE))?;
                w.send(&packet(CHANNEL_SUCCESS).number(w.channel))?;
            }
            w.end(0)
        }),
        case("a thousand new host keys are announced", Run, FINE, |w| {
            w.running()?;
            let mut keys = packet(GLOBAL_REQUEST).string("hostkeys-00@openssh.com").byte(0);
            for seed in 0..1000_u32 {
                let key = Packet::default().string("ssh-ed25519").string([seed as u8; 32]).0;
                keys = keys.string(key);
            }
            w.send(&keys)?;
            w.end(0)
        }),
        case("messages of unknown kinds", Run, &["exit code 0"], |w| {
            w.running()?;
            for kind in [9, 29, 49, 79, 127, 128, 191, 200, 255] {
                w.send(&packet(kind).string("what is this"))?;
            }
            w.end(0)
        }),
        case("wishes of the channel, without end", Run, NOT_FOR_EVER, |w| {
            w.running()?;
            loop {
                w.send(&packet(CHANNEL_REQUEST).number(w.channel).string(ACTS_TEXT).byte(0))?;
            }
        }),
        case("an empty packet in the middle", Run, FINE, |w| {
            w.running()?;
            w.send_plain([&[0, 0, 0, 8, 7][..], &[0; 7]].concat())?;
            w.end(0)
        }),
        case("silence in the middle of the output", Run, NOT_FOR_EVER, |w| {
            w.running()?;
            w.out(b"half of a li")?;
            w.freeze()
        }),
        case("output at a byte a second", Run, NOT_FOR_EVER, |w| {
            w.running()?;
            loop {
                w.out(b"x")?;
                std::thread::sleep(Duration::from_secs(1));
            }
        }),
        case("half of the connection is closed", Run, LOST, |w| {
            w.running()?;
            w.out(b"half of a li")?;
            w.stream.shutdown(std::net::Shutdown::Write)?;
            w.linger()
        }),
        case("a reset in the middle of the output", Run, LOST, |w| {
            w.running()?;
            w.out(b"half of a li")?;
            w.reset()
        }),
        case("a reset after the status", Run, FINE, |w| {
            w.running()?;
            w.eof()?;
            w.status(0)?;
            std::thread::sleep(Duration::from_millis(300));
            w.reset()
        }),
        case("a packet that was changed on the way", Run, LOST, |w| {
            w.running()?;
            w.out(b"one\n")?;
            w.raw([5; 400])?;
            w.linger()
        }),
    ]
}

fn as_bastion() -> Vec<Case> {
    use Drive::Through;
    const BASTION: &[&str] = &["connect: Unreachable", "through jump host 127.0.0.1"];
    vec![
        case(
            "a bastion that never opens the way",
            Through,
            &["connect: Unreachable", "did not reach 192.0.2.1"],
            |w| {
                w.up()?;
                w.asked()?;
                w.serve()
            },
        ),
        case("a bastion that refuses the way", Through, &["connect: Unreachable", "could not reach 192.0.2.1"], |w| {
            w.up()?;
            let channel = w.asked()?;
            w.send(&packet(OPEN_FAILURE).number(channel).number(1).string(ACTS_TEXT).string(""))?;
            w.serve()
        }),
        case("a bastion that talks garbage for the host behind it", Through, BASTION, |w| {
            w.up()?;
            w.confirm(1 << 20, 1 << 15)?;
            w.out(&ACTS.repeat(100))?;
            w.serve()
        }),
        case("a bastion whose way is closed at once", Through, BASTION, |w| {
            w.up()?;
            w.confirm(1 << 20, 1 << 15)?;
            w.close()?;
            w.serve()
        }),
        case("a bastion whose way has no window", Through, BASTION, |w| {
            w.up()?;
            w.confirm(0, 1 << 15)?;
            w.out(b"SSH-2.0-behind\r\n")?;
            w.serve()
        }),
        case("a bastion that floods for the host behind it", Through, BASTION, |w| {
            w.up()?;
            w.confirm(1 << 20, 1 << 15)?;
            w.out(b"SSH-2.0-behind\r\n")?;
            loop {
                w.out(&[0; 32 << 10])?;
            }
        }),
        case("a bastion that freezes", Through, BASTION, |w| {
            w.up()?;
            w.confirm(1 << 20, 1 << 15)?;
            w.freeze()
        }),
    ]
}

fn writing() -> Vec<Case> {
    use Drive::Write;
    const WAITING: &[&str] = &["still waiting to write"];
    const FLOODED: &[&str] = &["write: Failed", "floods us instead of reading"];
    vec![
        case("no window", Write, WAITING, |w| {
            w.up()?;
            w.confirm(0, 1 << 15)?;
            w.command()?;
            w.serve()
        }),
        case("a window of one byte", Write, WAITING, |w| {
            w.up()?;
            w.confirm(1, 1 << 15)?;
            w.command()?;
            loop {
                w.wait(DATA)?;
                w.send(&packet(WINDOW_ADJUST).number(w.channel).number(1))?;
                std::thread::sleep(Duration::from_millis(1));
            }
        }),
        case("packets of one byte", Write, WAITING, |w| {
            w.up()?;
            w.confirm(u32::MAX, 1)?;
            w.command()?;
            w.serve()
        }),
        case("packets of no byte", Write, &["open: Unreachable"], |w| {
            w.up()?;
            w.confirm(u32::MAX, 0)?;
            w.command()?;
            w.serve()
        }),
        case("a window that overflows", Write, &["written"], |w| {
            w.up()?;
            w.confirm(u32::MAX, 1 << 15)?;
            w.command()?;
            for _ in 0..100 {
                w.send(&packet(WINDOW_ADJUST).number(w.channel).number(u32::MAX))?;
            }
            w.wait(EOF)?;
            w.end(0)
        }),
        case("no window, and the window grows by nothing", Write, WAITING, |w| {
            w.up()?;
            w.confirm(0, 1 << 15)?;
            w.command()?;
            let nothing = packet(WINDOW_ADJUST).number(w.channel).number(0);
            loop {
                w.burst(&nothing, 500)?;
            }
        }),
        case("no window, and output by single bytes", Drive::Flood, FLOODED, |w| {
            w.up()?;
            w.confirm(0, 1 << 15)?;
            w.command()?;
            let byte = packet(DATA).number(w.channel).string("x");
            loop {
                w.burst(&byte, 500)?;
            }
        })
        .limit(60),
        case("no window, and much output", Drive::Flood, FLOODED, |w| {
            w.up()?;
            w.confirm(0, 1 << 15)?;
            w.command()?;
            loop {
                w.out(&[b'x'; 32 << 10])?;
            }
        }),
        case("no window, and yes without end", Write, WAITING, |w| {
            w.up()?;
            w.confirm(0, 1 << 15)?;
            w.command()?;
            let yes = packet(CHANNEL_SUCCESS).number(w.channel);
            loop {
                w.burst(&yes, 500)?;
            }
        }),
        case("no window, and a frozen connection", Write, WAITING, |w| {
            w.up()?;
            w.confirm(0, 1 << 15)?;
            w.command()?;
            w.freeze()
        }),
        case("a reset while we write", Write, &["write: Unreachable"], |w| {
            w.up()?;
            w.confirm(4096, 1 << 15)?;
            w.command()?;
            w.wait(DATA)?;
            w.reset()
        }),
        case("a close while we write", Write, &["write: Unreachable"], |w| {
            w.up()?;
            w.confirm(4096, 1 << 15)?;
            w.command()?;
            w.wait(DATA)?;
            w.status(0)?;
            w.close()?;
            w.serve()
        }),
        case("nothing is read from the socket", Write, WAITING, |w| {
            w.up()?;
            w.confirm(u32::MAX, 1 << 15)?;
            w.command()?;
            // Else this machine's kernel may hold all that is written.
            socket2::SockRef::from(&w.stream).set_recv_buffer_size(64 << 10)?;
            w.stream.set_nodelay(true)?;
            w.freeze()
        }),
    ]
}

fn asking() -> Vec<Case> {
    use Drive::Root;
    fn prompt(line: &str) -> String {
        word(line, "ferry-", "-password")
    }
    vec![
        case("sudo's prompt over and over", Root, &["root: Failed", "did not accept the password"], |w| {
            let line = w.running()?;
            loop {
                w.err(prompt(&line).as_bytes())?;
                std::thread::sleep(Duration::from_millis(20));
            }
        })
        .passwords(1),
        case("a thousand of sudo's prompts at once", Root, &["root: Failed", "did not accept the password"], |w| {
            let line = w.running()?;
            w.err(prompt(&line).repeat(1000).as_bytes())?;
            w.serve()
        })
        .passwords(1),
        case("sudo's prompt on both streams", Root, &["root: Failed", "did not accept the password"], |w| {
            let line = w.running()?;
            w.out(prompt(&line).as_bytes())?;
            w.err(prompt(&line).as_bytes())?;
            w.serve()
        })
        .passwords(1),
        case("sudo's prompt after the shell has begun", Root, FINE, |w| {
            let line = w.running()?;
            w.shell(&line)?;
            w.err(prompt(&line).repeat(3).as_bytes())?;
            w.out(prompt(&line).repeat(3).as_bytes())?;
            w.end(0)
        }),
        case("another prompt than sudo's", Root, &["root: Failed"], |w| {
            w.running()?;
            w.err(b"[sudo] password for ops: ")?;
            std::thread::sleep(Duration::from_secs(1));
            w.end(1)
        }),
        case("hangs up after the password", Root, &["root: Unreachable"], |w| {
            let line = w.running()?;
            w.err(prompt(&line).as_bytes())?;
            w.wait(DATA)?;
            w.reset()
        })
        .passwords(1),
        case("prints the password back", Drive::Ferry(PING), &["exit Some(2)"], |w| {
            let line = w.running()?;
            w.err(prompt(&line).as_bytes())?;
            let payload = w.wait(DATA)?;
            let mut reader = Reader(&payload[1..]);
            reader.number()?;
            let password = reader.string()?.to_vec();
            w.err(&[b"you said ", password.as_slice()].concat())?;
            w.end(1)
        })
        .passwords(1),
        case("run: the password in pieces", Drive::Ferry(PLAY), &["exit Some(0)"], |w| {
            let line = w.running()?;
            let script = w.shell(&line)?;
            for piece in ["correct-ho", "rse-batt", "ery\n"] {
                w.out(piece.as_bytes())?;
                std::thread::sleep(Duration::from_millis(50));
            }
            w.done(&script)?;
            w.serve()
        }),
        case("a megabyte before the shell begins", Root, &["root: Failed", "sudo ended before"], |w| {
            w.running()?;
            let noise = [ACTS, b"\n"].concat().repeat(20_000);
            w.out(&noise)?;
            w.end(0)
        }),
        case("no word from sudo", Root, &["root: Unreachable", "sudo did not answer within 30 s"], |w| {
            w.running()?;
            w.serve()
        })
        .limit(50),
        case("status 0 before the shell has begun", Root, &["root: Failed"], |w| {
            w.running()?;
            w.end(0)
        }),
        case("the script's status before the script was read", Root, &["root: Unreachable"], |w| {
            w.up()?;
            w.confirm(0, 1 << 15)?;
            let line = w.command()?;
            w.ready(&line)?;
            w.end(0)
        }),
        case("a banner of .bashrc with a prompt of another run", Root, FINE, |w| {
            let line = w.running()?;
            w.err(b"ferry-00000000000000000000000000000000-password")?;
            w.shell(&line)?;
            w.end(0)
        }),
        case("the shell gives the script back", Root, &["exit code 0"], |w| {
            let line = w.running()?;
            let script = w.shell(&line)?;
            w.out(script.as_bytes())?;
            w.end(0)
        }),
    ]
}

fn jobs() -> Vec<Case> {
    use Drive::{Follow, List};
    const GARBLED: &[&str] = &["list: Unknown", "garbled"];
    vec![
        case("a list of jobs without a frame", List, &["list: Unknown", "broke off"], |w| {
            answering(w, |_| b"no job here\n".to_vec())
        }),
        case("a list of jobs that breaks off", List, &["list: Unknown", "broke off"], |w| {
            answering(w, |script| {
                let mut answer = honest_answer(script);
                answer.truncate(answer.len() - 10);
                answer
            })
        }),
        case("a list of jobs that lies about a length", List, GARBLED, |w| {
            answering(w, |script| {
                let n = nonce(script);
                format!("\n@{n} hello 1\n@{n} job {JOB} done 7 flock 1 4 - 999999999\n{META}\n@{n} bye\n").into_bytes()
            })
        }),
        case("a list of jobs with more behind the end", List, GARBLED, |w| {
            answering(w, |script| [honest_answer(script), b"and more\n".to_vec()].concat())
        }),
        case("a list of 20 MiB before the first frame", List, &["list: Unknown"], |w| {
            answering(w, |script| [b"x\n".repeat(10 << 20), honest_answer(script)].concat())
        }),
        case("a hundred thousand jobs", List, &["list: Unknown"], |w| {
            answering(w, |script| {
                let n = nonce(script);
                let one = format!("@{n} job {JOB} done 7 flock 1 4 - {}\n{META}\n", META.len());
                format!("\n@{n} hello 1\n{}@{n} bye\n", one.repeat(100_000)).into_bytes()
            })
        }),
        case("a job whose id leads elsewhere", List, GARBLED, |w| {
            answering(w, |script| {
                let n = nonce(script);
                format!("\n@{n} hello 1\n@{n} job ../../etc/passwd done 7 flock 1 4 - 0\n\n@{n} bye\n").into_bytes()
            })
        }),
        case("jobs whose words act on terminals", Drive::Ferry(JOBS), &["exit Some(0)", JOB], |w| {
            answering(w, acting_jobs)
        }),
        case("jobs whose words act on terminals, as JSON", Drive::Ferry(JOBS_JSON), &["exit Some(0)", JOB], |w| {
            answering(w, acting_jobs)
        }),
        case("a refusal whose words act on terminals", Drive::Ferry(JOBS), &["exit Some(7)"], |w| {
            answering(w, |script| {
                let n = nonce(script).into_bytes();
                let head = format!("no dir-owner {}\n", ACTS.len()).into_bytes();
                [b"\n@", &n[..], b" hello 1\n@", &n, b" ", &head, ACTS, b"\n@", &n, b" bye\n"].concat()
            })
        }),
        case("a log at another offset", Follow, &["follow: Unknown", "garbled", "0 bytes"], |w| {
            answering(w, |script| {
                let n = nonce(script);
                format!("\n@{n} hello 1\n@{n} D 5 4\nlog\n\n@{n} d 9\n@{n} state done 0 flock 0\n\n@{n} bye\n")
                    .into_bytes()
            })
        }),
        case("a log whose pieces overlap", Follow, &["follow: Unknown", "garbled", "4 bytes"], |w| {
            answering(w, |script| {
                let n = nonce(script);
                format!("\n@{n} hello 1\n@{n} D 0 4\nlog\n\n@{n} d 4\n@{n} D 2 4\nlog\n\n@{n} d 6\n").into_bytes()
            })
        }),
        case("a piece of log that does not say where it ends", Follow, &["follow: Unknown", "0 bytes"], |w| {
            answering(w, |script| {
                let n = nonce(script);
                format!("\n@{n} hello 1\n@{n} D 0 4\nlog\n\n@{n} d 5\n@{n} state done 0 flock 0\n\n").into_bytes()
            })
        }),
        case("a piece of log of 4 GiB", Follow, &["follow: Unknown", "0 bytes"], |w| {
            answering(w, |script| {
                let n = nonce(script);
                format!("\n@{n} hello 1\n@{n} D 0 4294967295\nlog\n").into_bytes()
            })
        }),
        case("a job that is done with 256", Follow, &["follow: Unknown"], |w| {
            answering(w, |script| {
                let n = nonce(script);
                format!("\n@{n} hello 1\n@{n} state done 256 flock 0\n\n@{n} bye\n").into_bytes()
            })
        }),
        case("a header that never ends", Follow, &["follow: Unknown"], |w| {
            answering(w, |script| {
                let n = nonce(script);
                [format!("\n@{n} hello 1\n@{n} H running ").into_bytes(), vec![b'1'; 8 << 20]].concat()
            })
        }),
        case("a log that falls silent", Follow, &["follow: Unreachable", "nothing was heard", "4 bytes"], |w| {
            w.up()?;
            let line = w.next_command()?;
            let script = w.shell(&line)?;
            let n = nonce(&script);
            w.out(format!("\n@{n} hello 1\n@{n} D 0 4\nlog\n\n@{n} d 4\n").as_bytes())?;
            w.serve()
        }),
        case("complaints without end instead of a log", Follow, &["follow: Unreachable", "nothing was heard"], |w| {
            let line = w.running()?;
            w.shell(&line)?;
            loop {
                w.err(b"there is more\n")?;
                std::thread::sleep(Duration::from_millis(50));
            }
        }),
        case("a job's end, then the connection's, before the frame is whole", Follow, &["follow: Unreachable"], |w| {
            w.up()?;
            let line = w.next_command()?;
            let script = w.shell(&line)?;
            let n = nonce(&script);
            w.out(format!("\n@{n} hello 1\n@{n} state done 0 flo").as_bytes())?;
            w.reset()
        }),
        case("frames of a nonce that is not ours", Follow, &["follow: Unknown"], |w| {
            answering(w, |_| b"\n@ab hello 1\n@ab state done 0 flock 0\n\n@ab bye\n".to_vec())
        }),
    ]
}

fn acting_jobs(script: &str) -> Vec<u8> {
    let n = nonce(script);
    let meta = serde_json::json!({"kind": ACTS_TEXT, "cluster": "prod", "meta": {"who": ACTS_TEXT, "log": "********"}});
    let meta = meta.to_string();
    let mut answer =
        format!("\n@{n} hello 1\n@{n} job {JOB} done 7 flock 1700000000 4 - {}\n{meta}\n", meta.len()).into_bytes();
    // One whose notes are no text.
    answer.extend_from_slice(format!("@{n} job {JOB} running 7 pid - 4 - {}\n", ACTS.len()).as_bytes());
    answer.extend_from_slice(ACTS);
    answer.extend_from_slice(format!("\n@{n} bye\n").as_bytes());
    answer
}

/// The node's answers to a pull, the stream spoiled.
fn pulling(w: &mut Wire, stream: fn(&mut Wire, &str) -> io::Result<()>) -> io::Result<()> {
    w.up()?;
    loop {
        let line = w.next_command()?;
        let script = w.shell(&line)?;
        if script.contains("SOURCE") {
            stream(w, &mark(&script))?;
        } else {
            w.out(&honest_answer(&script))?;
        }
        w.done(&script)?;
    }
}

fn files() -> Vec<Case> {
    use Drive::Pull;
    vec![
        case("a file with more bytes than promised", Pull, &["pull: Failed", "could not be read"], |w| {
            pulling(w, |w, m| w.out(format!("{m} SOURCE 5 1 2 3\n1234567890{m} END 5 1 2 3\n").as_bytes()))
        }),
        case("a file with fewer bytes than promised", Pull, &["pull: Failed", "could not be read"], |w| {
            pulling(w, |w, m| w.out(format!("{m} SOURCE 5 1 2 3\n123").as_bytes()))
        }),
        case("a file without its end", Pull, &["pull: Failed", "could not be read"], |w| {
            pulling(w, |w, m| w.out(format!("{m} SOURCE 5 1 2 3\n12345").as_bytes()))
        }),
        case("a file that another one has become", Pull, &["pull: Failed", "changed while it was read"], |w| {
            pulling(w, |w, m| w.out(format!("{m} SOURCE 5 1 2 3\n12345{m} END 5 1 2 4\n").as_bytes()))
        }),
        case("another file than was looked at", Pull, &["pull: Failed", "changed while it was read"], |w| {
            pulling(w, |w, m| w.out(format!("{m} SOURCE 6 1 2 3\n123456{m} END 6 1 2 3\n").as_bytes()))
        }),
        case("other bytes than the node's digest is of", Pull, &["differs: Failed", "digest"], |w| {
            pulling(w, |w, m| w.out(format!("{m} SOURCE 5 1 2 3\n54321{m} END 5 1 2 3\n").as_bytes()))
        }),
        case("a file that never ends", Pull, &["pull: Failed", "more bytes than the archive has"], |w| {
            pulling(w, |w, m| {
                w.out(format!("{m} SOURCE 5 1 2 3\n12345").as_bytes())?;
                loop {
                    w.out(&[b'x'; 32 << 10])?;
                }
            })
        })
        .limit(60),
        case("complaints without end instead of a file", Pull, &["pull: Unreachable", "nothing of the archive"], |w| {
            pulling(w, |w, m| {
                w.out(format!("{m} SOURCE 5 1 2 3\n12").as_bytes())?;
                loop {
                    w.err(b"tail: there is more\n")?;
                    std::thread::sleep(Duration::from_millis(50));
                }
            })
        })
        .limit(60),
        case("noise instead of a file", Pull, &["pull: Failed", "something else than the archive"], |w| {
            pulling(w, |w, _| {
                for _ in 0..100 {
                    w.out(&ACTS.repeat(100))?;
                }
                Ok(())
            })
        }),
        case("a file of 2^64 - 1 bytes", Pull, &["pull: "], |w| {
            w.up()?;
            loop {
                w.scripted(|script| {
                    let m = mark(script);
                    let end = if script.contains("SOURCE") { " SOURCE" } else { "" };
                    format!("{m}{end} 18446744073709551615 1 2 3\n12345").into_bytes()
                })?;
            }
        }),
        case("a file whose size is no number", Pull, &["pull: Failed", "no regular file"], |w| {
            w.up()?;
            loop {
                w.scripted(|script| format!("{} -5 1 2 3\n", mark(script)).into_bytes())?;
            }
        }),
        case("a file that falls silent", Pull, &["pull: Unreachable", "nothing of the archive came"], |w| {
            pulling(w, |w, m| {
                w.out(format!("{m} SOURCE 5 1 2 3\n12").as_bytes())?;
                w.serve()
            })
        })
        .limit(60),
        case("a status of 0 and a reset in the middle of a file", Pull, &["pull: Unreachable"], |w| {
            pulling(w, |w, m| {
                w.out(format!("{m} SOURCE 5 1 2 3\n12").as_bytes())?;
                w.reset()
            })
        })
        .limit(60),
        case("a digest that never comes", Pull, &["pull: Unreachable", "digest did not come"], |w| {
            w.up()?;
            loop {
                let line = w.next_command()?;
                let script = w.shell(&line)?;
                if script.contains("dgst") {
                    return w.serve();
                }
                w.out(&honest_answer(&script))?;
                w.done(&script)?;
            }
        })
        .limit(60),
        case("a digest that is none", Pull, &["pull: Failed", "digest could not be read"], |w| {
            w.up()?;
            loop {
                w.scripted(|script| {
                    if script.contains("dgst") {
                        [mark(script).as_bytes(), b" ", ACTS].concat()
                    } else {
                        honest_answer(script)
                    }
                })?;
            }
        }),
    ]
}

fn program() -> Vec<Case> {
    vec![
        case("ping: names that act on terminals", Drive::Ferry(PING), &["exit Some(0)"], |w| {
            answering(w, |script| ping_answer(script, ACTS, ACTS))
        }),
        case("ping: names that act on terminals, as JSON", Drive::Ferry(PING_JSON), &["exit Some(0)"], |w| {
            answering(w, |script| ping_answer(script, ACTS, ACTS_TEXT.replace(['\r', '\n', '\u{2028}'], "").as_bytes()))
        }),
        case("ping: an answer of 40 MiB", Drive::Ferry(PING), &["exit Some(2)"], |w| {
            answering(w, |script| [ACTS.repeat(1 << 20), ping_answer(script, b"ops", b"Debian")].concat())
        }),
        case("ping: masks that are not ours", Drive::Ferry(PING), &["exit Some(0)", "********"], |w| {
            answering(w, |script| ping_answer(script, b"********", b"********"))
        }),
        case("ping: an answer that gives the script back", Drive::Ferry(PING), &["exit Some(2)"], |w| {
            answering(w, |script| script.as_bytes().to_vec())
        }),
        case("run: output that acts on terminals", Drive::Ferry(PLAY), &["exit Some(0)"], |w| {
            answering(w, |_| [ACTS, b"\n"].concat().repeat(1000))
        }),
        case("run: a line of 64 MiB", Drive::Ferry(PLAY), &["exit Some(0)"], |w| {
            answering(w, |_| vec![b'x'; 64 << 20])
        })
        .limit(60),
        case("run: a million lines", Drive::Ferry(PLAY), &["exit Some(0)"], |w| {
            answering(w, |_| b"a line\n".repeat(1_000_000))
        })
        .limit(60),
        case("run: masks that are not ours", Drive::Ferry(PLAY), &["exit Some(0)"], |w| {
            answering(w, |_| b"****\n********\n<masked>\n[secret]\n".to_vec())
        }),
        case("exec: output that acts on terminals", Drive::Ferry(EXEC), &["exit Some(0)"], |w| {
            let line = w.running()?;
            let script = w.shell(&line)?;
            w.out(&[ACTS, b"\n"].concat().repeat(100))?;
            w.err(&[ACTS, b"\n"].concat().repeat(100))?;
            w.done(&script)?;
            w.serve()
        }),
        case("exec: a line of 64 MiB", Drive::Ferry(EXEC), &["exit Some(0)"], |w| {
            let line = w.running()?;
            let script = w.shell(&line)?;
            for _ in 0..64 {
                w.out(&[b'x'; 1 << 20])?;
            }
            w.done(&script)?;
            w.serve()
        })
        .limit(60),
        case("run: two ends that differ", Drive::Ferry(TWO), &["exit Some(8)"], |w| {
            let line = w.running()?;
            let script = w.shell(&line)?;
            let nonce = between(&script, "\n_n=", "\n");
            w.out(format!("{nonce} 0\n").as_bytes())?;
            w.err(format!("{nonce} 1\n").as_bytes())?;
            w.serve()
        }),
        case("exec: a signal that acts on terminals", Drive::Ferry(EXEC), &["exit Some(2)", "killed by signal"], |w| {
            let line = w.running()?;
            w.shell(&line)?;
            w.signal(ACTS_TEXT.as_bytes(), b"")?;
            w.close()?;
            w.serve()
        }),
        case("exec: an end without a status", Drive::Ferry(EXEC), &["exit Some(8)"], |w| {
            let line = w.running()?;
            w.shell(&line)?;
            w.out(b"asked\n")?;
            w.eof()?;
            w.close()?;
            w.serve()
        }),
        case("run: an end without a status", Drive::Ferry(PLAY), &["exit Some(8)"], |w| {
            w.up()?;
            let line = w.next_command()?;
            w.shell(&line)?;
            w.out(b"asked\n")?;
            w.eof()?;
            w.close()?;
            w.serve()
        })
        .limit(60),
        case("run: goodbye in words that act on terminals", Drive::Ferry(PLAY), &["exit Some(8)"], |w| {
            w.up()?;
            let line = w.next_command()?;
            w.shell(&line)?;
            w.disconnect(ACTS_TEXT.repeat(1000).as_bytes())?;
            w.linger()
        })
        .limit(60),
        case("run: hangs up in the middle", Drive::Ferry(PLAY), &["exit Some(8)"], |w| {
            w.up()?;
            let line = w.next_command()?;
            w.shell(&line)?;
            w.out(b"half of a li")?;
            w.reset()
        })
        .limit(60),
    ]
}
