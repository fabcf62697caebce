//! Our verdicts on host keys, equal to those of the installed OpenSSH client.
//!
//! For each case a real `ssh` connects to a real `sshd -i` (through ProxyCommand: no port, no
//! network) with a known_hosts file of the case, and what it says is compared with what
//! [`KnownHosts::check`] says of the same file and the key that the same server shows. The line
//! that OpenSSH names is compared too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use ferry::remote::ssh::known_hosts::{KnownHosts, Offered, Verdict};
use russh::keys::{Certificate, PublicKey};

/// What `ssh` did, with the line it named where it names one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Match(usize),
    CaSigned(usize),
    Unknown,
    Changed(usize),
    Revoked,
    /// Something that this test does not know: its last words.
    Odd(String),
}

impl Said {
    fn yes(&self) -> bool {
        matches!(self, Self::Match(_) | Self::CaSigned(_))
    }
    fn word(&self) -> &'static str {
        match self {
            Self::Match(_) => "match",
            Self::CaSigned(_) => "signed by an authority",
            Self::Unknown => "unknown",
            Self::Changed(_) => "changed",
            Self::Revoked => "revoked",
            Self::Odd(_) => "odd",
        }
    }
}

/// Whom a certificate is for. With and without the name that is asked for, as patterns, and nobody named: anybody.
const PRINCIPALS: [(&str, &str); 6] = [
    ("us", "node1"),
    ("among", "other,node1,node1.example"),
    ("not", "node2,node11,xnode1"),
    ("anybody", ""),
    ("star", "*"),
    ("address", "10.0.0.1"),
];

/// When it holds.
const VALIDITIES: [(&str, &str); 4] =
    [("always", ""), ("now", "20200101:20900101"), ("past", "20100101:20110101"), ("soon", "20900101:20910101")];

#[derive(Debug)]
struct Case {
    name: String,
    file: Vec<u8>,
    host: &'static str,
    port: u16,
    server: &'static str,
    accept_new: bool,
}

/// Keys, certificates and one sshd configuration per server, made by the real tools.
struct Yard {
    dir: tempfile::TempDir,
    servers: Vec<&'static str>,
}

fn run(command: &mut Command) {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; this test needs openssh-client and openssh-server (apt-get install them)")
    });
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

impl Yard {
    fn new() -> Self {
        assert!(Path::new("/usr/sbin/sshd").exists(), "no /usr/sbin/sshd: apt-get install openssh-server");
        let dir = tempfile::tempdir().unwrap();
        let mut yard = Self { dir, servers: Vec::new() };
        // Root's sshd wants its empty folder in /run; where there is none it gets a /run of its own.
        std::fs::write(
            yard.at("sshd.sh"),
            "if [ \"$(id -u)\" = 0 ] && ! [ -d /run/sshd ]; then\n\
             exec unshare -m sh -c 'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -i -f \"$1\"' sh \"$1\"\n\
             fi\nexec /usr/sbin/sshd -i -f \"$1\"\n",
        )
        .unwrap();
        for (name, kind, bits) in [
            ("ed", "ed25519", "256"),
            ("ed-other", "ed25519", "256"),
            ("ec", "ecdsa", "256"),
            ("ec-other", "ecdsa", "256"),
            ("ec384", "ecdsa", "384"),
            ("rsa", "rsa", "2048"),
            ("rsa-other", "rsa", "2048"),
            ("ca", "ed25519", "256"),
            ("ca-other", "ed25519", "256"),
            ("ca-rsa", "rsa", "2048"),
            ("ca-ec", "ecdsa", "256"),
        ] {
            run(Command::new("ssh-keygen")
                .args(["-q", "-N", "", "-t", kind, "-b", bits, "-C", "", "-f"])
                .arg(yard.at(name)));
        }
        for key in ["ed", "ec", "rsa"] {
            yard.server(key, key, None);
        }
        // name, authority, arguments of ssh-keygen -s
        let host: &[&str] = &["-h"];
        for (name, key, ca, args) in [
            ("cert", "ed", "ca", [host, &["-n", "node1,other"]].concat()),
            ("cert-rsa", "rsa", "ca-rsa", [host, &["-n", "node1"]].concat()),
            ("cert-ec", "ec", "ca", [host, &["-n", "node1"]].concat()),
            ("cert-anybody", "ed", "ca", host.to_vec()),
            ("cert-not-ours", "ed", "ca", [host, &["-n", "node2"]].concat()),
            ("cert-upper", "ed", "ca", [host, &["-n", "NODE1"]].concat()),
            ("cert-pattern", "ed", "ca", [host, &["-n", "node*"]].concat()),
            ("cert-with-port", "ed", "ca", [host, &["-n", "[node1]:2222"]].concat()),
            ("cert-old", "ed", "ca", [host, &["-n", "node1", "-V", "20100101:20110101"]].concat()),
            ("cert-early", "ed", "ca", [host, &["-n", "node1", "-V", "20900101:20910101"]].concat()),
            ("cert-user", "ed", "ca", vec!["-n", "node1"]),
            ("cert-critical", "ed", "ca", [host, &["-n", "node1", "-O", "critical:nothing@example.com=1"]].concat()),
            ("cert-sha1", "ed", "ca-rsa", [host, &["-n", "node1", "-t", "ssh-rsa"]].concat()),
        ] {
            yard.certify(name, key, ca, &args);
        }
        // A certificate for every principal, validity, authority and key that a host may show.
        for (who, principals) in PRINCIPALS {
            for (when, validity) in VALIDITIES {
                for (ca, key) in [("ca", "ed"), ("ca-rsa", "ec"), ("ca-ec", "rsa")] {
                    let name = format!("made-{who}-{when}-{ca}").leak();
                    let mut args = vec!["-h"];
                    if !principals.is_empty() {
                        args.extend(["-n", principals]);
                    }
                    if !validity.is_empty() {
                        args.extend(["-V", validity]);
                    }
                    yard.certify(name, key, ca, &args);
                }
            }
        }
        yard
    }

    /// A server with a copy of `key` and a certificate of `ca` for it.
    fn certify(&mut self, name: &'static str, key: &str, ca: &str, args: &[&str]) {
        std::fs::copy(self.at(key), self.at(name)).unwrap();
        std::fs::copy(self.at(&format!("{key}.pub")), self.at(&format!("{name}.pub"))).unwrap();
        let mut command = Command::new("ssh-keygen");
        command.arg("-q").arg("-s").arg(self.at(ca)).args(["-I", name]).args(args);
        run(command.arg(self.at(&format!("{name}.pub"))));
        self.server(name, name, Some(&format!("{name}-cert.pub")));
    }

    fn server(&mut self, name: &'static str, key: &str, certificate: Option<&str>) {
        let mut config = format!("HostKey {}\n", self.at(key).display());
        if let Some(certificate) = certificate {
            config += &format!("HostCertificate {}\n", self.at(certificate).display());
        }
        config +=
            "UsePAM no\nStrictModes no\nLogLevel QUIET\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n";
        std::fs::write(self.at(&format!("{name}.conf")), config).unwrap();
        self.servers.push(name);
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `KEYTYPE BASE64`.
    fn key(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.at(&format!("{name}.pub"))).unwrap();
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// The whole file, with every name hashed by the real tool.
    fn hashed(&self, text: &str) -> String {
        let file = self.at("to-hash");
        std::fs::write(&file, text).unwrap();
        run(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file));
        std::fs::read_to_string(&file).unwrap()
    }

    /// What the installed ssh says.
    fn openssh(&self, number: usize, case: &Case) -> Said {
        let file = self.at(&format!("known_hosts-{number}"));
        std::fs::write(&file, &case.file).unwrap();
        let proxy =
            format!("/bin/sh {} {}", self.at("sshd.sh").display(), self.at(&format!("{}.conf", case.server)).display());
        let out = Command::new("ssh")
            .args(["-F", "none", "-v", "-n", "-o", "BatchMode=yes", "-o", "GlobalKnownHostsFile=/dev/null"])
            .args(["-o", "PubkeyAuthentication=no", "-o", "UpdateHostKeys=no", "-o", "ConnectTimeout=20"])
            .args(["-o", &format!("UserKnownHostsFile={}", file.display())])
            .args(["-o", &format!("StrictHostKeyChecking={}", if case.accept_new { "accept-new" } else { "yes" })])
            .args(["-o", &format!("ProxyCommand={proxy}")])
            .args(["-p", &case.port.to_string(), "-l", "nobody-at-all", case.host, "true"])
            .env_remove("SSH_AUTH_SOCK")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        let named = |marker: &str| {
            let at = text.rfind(marker)?;
            let rest = text[at + marker.len()..].lines().next()?;
            rest.rsplit_once(':')?.1.trim().parse::<usize>().ok()
        };
        let accepted = text.contains("Permission denied") || text.contains("No more authentication methods");
        let odd = || Said::Odd(text.clone().into_owned());
        let known = if text.contains("REVOKED HOST KEY DETECTED") {
            // Under accept-new ssh warns of a key that is revoked without its port, and goes on.
            (!accepted || case.accept_new).then_some(Said::Revoked)
        } else if text.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            let line = ["ED25519", "ECDSA", "RSA", "DSA", "ED25519-CERT"]
                .iter()
                .find_map(|kind| named(&format!("Offending {kind} key in ")));
            line.filter(|_| !accepted).map(Said::Changed)
        } else if text.contains("Permanently added") {
            (accepted && case.accept_new).then_some(Said::Unknown)
        } else if text.contains("requested strict checking") {
            (!accepted && !case.accept_new).then_some(Said::Unknown)
        } else if !accepted {
            None
        } else if let Some(line) = named("Found key in ") {
            Some(Said::Match(line))
        } else {
            named("Found CA key in ").map(Said::CaSigned)
        };
        known.unwrap_or_else(odd)
    }

    /// What we say, of the key that this server shows to a client that asks as we do.
    fn ours(&self, number: usize, case: &Case) -> (Said, Verdict) {
        let file = self.at(&format!("our-known_hosts-{number}"));
        std::fs::write(&file, &case.file).unwrap();
        let known = KnownHosts::load(&[file]).unwrap();
        let certificate = self.at(&format!("{}-cert.pub", case.server));
        let offered = if certificate.exists() && !known.certificate_algorithms(case.host, case.port).is_empty() {
            let text = std::fs::read_to_string(certificate).unwrap();
            Offered::Certificate(Certificate::from_openssh(text.trim()).unwrap())
        } else {
            Offered::PublicKey(PublicKey::from_openssh(&self.key(case.server)).unwrap())
        };
        let verdict = known.check(case.host, case.port, None, &offered, SystemTime::now());
        let said = match &verdict {
            Verdict::Match { line, .. } => Said::Match(*line),
            Verdict::CaSigned { line, .. } => Said::CaSigned(*line),
            Verdict::Unknown => Said::Unknown,
            Verdict::Changed { line, .. } => Said::Changed(*line),
            // OpenSSH calls this changed as well and names the last of the lines.
            Verdict::OtherType { known } => Said::Changed(known.last().unwrap().2),
            Verdict::Revoked { .. } => Said::Revoked,
            Verdict::Unfit { why } => panic!("{}: unfit: {why}", case.name),
        };
        (said, verdict)
    }
}

/// Forms of a line: name, text with `K` for the key, host, port.
fn forms() -> Vec<(&'static str, String, &'static str, u16)> {
    let many: Vec<String> = (0..300).map(|at| format!("host-{at}.example.com")).collect();
    let many = many.join(",");
    let long = "x".repeat(1100);
    let almost = "x".repeat(1022);
    let plain = [
        ("plain", "node1 K\n"),
        ("list, first", "node1,10.0.0.1 K\n"),
        ("list, last", "10.0.0.1,node1 K\n"),
        ("list with empty names", ",,node1,, K\n"),
        ("upper case", "NODE1 K\n"),
        ("mixed case wildcard", "No*E1 K\n"),
        ("tabs", "node1\tK\n"),
        ("leading blanks", " \t  node1 K\n"),
        ("many blanks", "node1   \t K\n"),
        ("comment behind", "node1 K somebody @somewhere # x\n"),
        ("CR LF", "node1 K\r\n"),
        ("no last line end", "node1 K"),
        ("comments around", "# node1 nothing\n\n \t\n   # more\nnode1 K\n#\n"),
        ("star", "* K\n"),
        ("star in front", "*ode1 K\n"),
        ("star behind", "nod* K\n"),
        ("stars in between", "n**d*1 K\n"),
        ("question mark", "n?de? K\n"),
        ("question mark too many", "node1? K\n"),
        ("question mark as empty", "?node1 K\n"),
        ("negated, in front", "!node1,node* K\n"),
        ("negated, behind", "node*,!node1 K\n"),
        ("negated pattern", "node1,!n* K\n"),
        ("another one negated", "node*,!node2 K\n"),
        ("only negated", "!node2 K\n"),
        ("twice negated", "!!node1,node1 K\n"),
        ("another host", "node2 K\n"),
        ("prefix of the name", "node K\n"),
        ("longer than the name", "node1.example.com K\n"),
        ("with a trailing dot", "node1. K\n"),
        ("with the standard port", "[node1]:22 K\n"),
        ("with another port", "[node1]:2222 K\n"),
        ("in brackets", "[node1] K\n"),
        ("commented out", "#node1 K\n"),
        ("unknown marker", "@trusted node1 K\n"),
        ("marker in capitals", "@REVOKED node1 K\n"),
        ("two markers", "@cert-authority @revoked node1 K\n"),
        ("blank line with CR", "\r\nnode1 K\n"),
        ("key first", "K node1\n"),
        ("quoted", "\"node1\" K\n"),
        ("hash that is broken", "|1|AAAA|BBBB K\n"),
        ("hash of another kind", "|2|node1|x K\n"),
        ("form feed as blank", "node1\x0cK\n"),
        ("no host", " K\n"),
    ];
    let mut forms: Vec<_> = plain.into_iter().map(|(name, text)| (name, text.to_owned(), "node1", 22)).collect();
    forms.extend([
        ("list of 300", format!("{many},node1 K\n"), "node1", 22),
        ("list with a name too long, behind", format!("node1,{long} K\n"), "node1", 22),
        ("list with a name too long, in front", format!("{long},node1 K\n"), "node1", 22),
        ("list with a name as long as can be", format!("{almost},node1 K\n"), "node1", 22),
        ("long comment", format!("node1 K {}\n", "c".repeat(100_000)), "node1", 22),
        ("port", "[node1]:2222 K\n".to_owned(), "node1", 2222),
        ("port and wildcard", "[node*]:2222 K\n".to_owned(), "node1", 2222),
        ("any port", "[node1]:* K\n".to_owned(), "node1", 2222),
        ("port not recorded", "node1 K\n".to_owned(), "node1", 2222),
        ("star and port", "* K\n".to_owned(), "node1", 2222),
        ("wrong port", "[node1]:2223 K\n".to_owned(), "node1", 2222),
        ("host in capitals", "node1 K\n".to_owned(), "NODE1", 22),
        ("address", "10.0.0.1 K\n".to_owned(), "10.0.0.1", 22),
        ("address and wildcard", "10.0.*.1 K\n".to_owned(), "10.0.0.1", 22),
        ("address of six", "fe80::1 K\n".to_owned(), "fe80::1", 22),
        ("address of six and port", "[fe80::1]:2022 K\n".to_owned(), "fe80::1", 2022),
        ("hashed", "HASHED node1 K\n".to_owned(), "node1", 22),
        ("hashed, in capitals", "HASHED node1 K\n".to_owned(), "Node1", 22),
        ("hashed with port", "HASHED [node1]:2222 K\n".to_owned(), "node1", 2222),
        ("hashed without the port", "HASHED node1 K\n".to_owned(), "node1", 2222),
        ("hashed, another host", "HASHED node2 K\n".to_owned(), "node1", 22),
    ]);
    forms
}

#[allow(clippy::too_many_lines)]
fn cases(yard: &Yard) -> Vec<Case> {
    let mut cases = Vec::new();
    let fill = |form: &str, marker: &str, key: &str| -> String {
        let (hash, form) = match form.strip_prefix("HASHED ") {
            Some(rest) => (true, rest),
            None => (false, form),
        };
        let text = form.replace('K', &yard.key(key));
        let text = if hash { yard.hashed(&text) } else { text };
        if marker.is_empty() { text } else { format!("{marker} {text}") }
    };
    // {form of line} x {same key, other key, other type, revoked, CA}
    let contents: [(&str, &'static str, &str, &str, bool); 6] = [
        ("same key", "ed", "", "ed", false),
        ("other key", "ed", "", "ed-other", false),
        ("other type", "ed", "", "ec", false),
        ("revoked beside the same key", "ed", "@revoked", "ed", true),
        ("authority", "cert", "@cert-authority", "ca", false),
        ("other authority", "cert", "@cert-authority", "ca-other", false),
    ];
    for (at, (form_name, form, host, port)) in forms().into_iter().enumerate() {
        for (content, (name, server, marker, key, beside)) in contents.into_iter().enumerate() {
            // Same and other key for every form; of the rest each form has two, in turn.
            let chosen = content < 2 || (content + at) % 2 == 0;
            if !chosen {
                continue;
            }
            let mut file = fill(&form, marker, key);
            if beside {
                file = format!("{}{}{}", fill(&form, "", key), if form.ends_with('\n') { "" } else { "\n" }, file);
            }
            cases.push(Case {
                name: format!("{form_name}: {name}"),
                file: file.into_bytes(),
                host,
                port,
                server,
                accept_new: (at + content) % 5 == 0,
            });
        }
    }
    let (ed, other, ec, rsa) = (yard.key("ed"), yard.key("ed-other"), yard.key("ec"), yard.key("rsa"));
    let (ec384, ca, ca_other, ca_rsa) = (yard.key("ec384"), yard.key("ca"), yard.key("ca-other"), yard.key("ca-rsa"));
    let certificate = std::fs::read_to_string(yard.at("cert-cert.pub")).unwrap();
    let blob = |key: &str| key.split(' ').nth(1).unwrap().to_owned();
    let cut = &ed[..ed.len() - 8];
    let mut special: Vec<(&str, &'static str, String, u16)> = vec![
        ("empty file", "ed", String::new(), 22),
        ("other line, then the same", "ed", format!("node1 {other}\nnode1 {ed}\n"), 22),
        ("the same, then another", "ed", format!("node1 {ed}\nnode1 {other}\n"), 22),
        ("three others", "ed", format!("node1 {ec}\nnode1 {rsa}\nnode1 {other}\n"), 22),
        ("other types only", "ed", format!("node1 {ec}\nnode1 {rsa}\n"), 22),
        ("other key behind a wildcard", "ed", format!("node* {other}\nnode1 {ed}\n"), 22),
        ("two files' worth, other hosts between", "ed", format!("node2 {other}\nnode1 {ed}\nnode3 {ec}\n"), 22),
        ("revoked first", "ed", format!("@revoked node1 {ed}\nnode1 {ed}\n"), 22),
        ("revoked last", "ed", format!("node1 {ed}\n@revoked * {ed}\n"), 22),
        ("revoked only", "ed", format!("@revoked node1 {ed}\n"), 22),
        ("revoked for another host", "ed", format!("@revoked node2 {ed}\nnode1 {ed}\n"), 22),
        ("another key revoked", "ed", format!("@revoked node1 {other}\nnode1 {ed}\n"), 22),
        ("another key revoked, nothing else", "ed", format!("@revoked node1 {other}\n"), 22),
        ("revoked, negated", "ed", format!("@revoked *,!node1 {ed}\nnode1 {ed}\n"), 22),
        ("revoked, marker ends with a tab", "ed", format!("@revoked\tnode1 {ed}\nnode1 {ed}\n"), 22),
        ("revoked, all tabs", "ed", format!("@revoked\tnode1\t{}\nnode1 {ed}\n", ed.replace(' ', "\t")), 22),
        ("revoked, two blanks", "ed", format!("@revoked  \tnode1 {ed}\nnode1 {ed}\n"), 22),
        ("revoked, blanks in front", "ed", format!("  @revoked node1 {ed}\nnode1 {ed}\n"), 22),
        ("revoked at the port", "ed", format!("@revoked [node1]:2222 {ed}\nnode1 {ed}\n"), 2222),
        ("revoked without the port", "ed", format!("@revoked node1 {ed}\n[node1]:2222 {ed}\n"), 2222),
        ("revoked without the port, nothing else", "ed", format!("@revoked node1 {ed}\n"), 2222),
        ("revoked without the port, known there", "ed", format!("@revoked node1 {ed}\nnode1 {ed}\n"), 2222),
        ("authority's line beside a bare key server", "ed", format!("@cert-authority node1 {ca}\n"), 22),
        ("the bare key marked as an authority", "ed", format!("@cert-authority node1 {ed}\n"), 22),
        ("type and key differ", "ed", format!("node1 ssh-rsa {}\n", blob(&ed)), 22),
        ("type unknown", "ed", format!("node1 ssh-foo {}\n", blob(&ed)), 22),
        ("type unknown, then good", "ed", format!("node1 ssh-foo {}\nnode1 {ed}\n", blob(&ed)), 22),
        ("type in capitals", "ed", format!("node1 SSH-ED25519 {}\n", blob(&ed)), 22),
        ("short type", "ed", format!("node1 ED25519 {}\n", blob(&ed)), 22),
        ("no type", "ed", format!("node1 {}\n", blob(&ed)), 22),
        ("no key", "ed", "node1 ssh-ed25519\n".into(), 22),
        ("no key but a blank", "ed", "node1 ssh-ed25519 \n".into(), 22),
        ("host only", "ed", "node1\n".into(), 22),
        ("key cut short", "ed", format!("node1 {cut}\n"), 22),
        ("key cut short, then good", "ed", format!("node1 {cut}\nnode1 {ed}\n"), 22),
        ("key with junk behind", "ed", format!("node1 {ed}AAAA\n"), 22),
        ("key in quotes", "ed", format!("node1 \"{ed}\"\n"), 22),
        ("comment with a NUL", "ed", format!("node1 {ed} a\0b\n"), 22),
        ("options as in authorized_keys", "ed", format!("node1 no-pty {ed}\n"), 22),
        ("certificate instead of a key", "ed", format!("node1 {certificate}"), 22),
        ("certificate instead of a key, and the key", "ed", format!("node1 {certificate}node1 {ed}\n"), 22),
        ("revoked by its certificate", "ed", format!("node1 {ed}\n@revoked node1 {certificate}"), 22),
        ("bytes that are no UTF-8", "ed", format!("n\u{fc}de1 {other}\nnode1 {ed} \u{fc}\n"), 22),
        ("old line of protocol 1", "ed", "node1 1024 35 1234567890\n".into(), 22),
        ("rsa by its plain name", "rsa", format!("node1 {rsa}\n"), 22),
        ("rsa by a signature's name", "rsa", format!("node1 rsa-sha2-512 {}\n", blob(&rsa)), 22),
        ("rsa, other key", "rsa", format!("node1 {}\n", yard.key("rsa-other")), 22),
        ("rsa, ed25519 recorded", "rsa", format!("node1 {ed}\n"), 22),
        ("ecdsa", "ec", format!("node1 {ec}\n"), 22),
        ("ecdsa, other key", "ec", format!("node1 {}\n", yard.key("ec-other")), 22),
        ("ecdsa, other curve", "ec", format!("node1 {ec384}\n"), 22),
        ("ecdsa, curve of the name differs", "ec", format!("node1 ecdsa-sha2-nistp384 {}\n", blob(&ec)), 22),
        ("ecdsa, ed25519 recorded", "ec", format!("node1 {ed}\n"), 22),
        ("authority and port", "cert", format!("@cert-authority [node1]:2222 {ca}\n"), 2222),
        ("authority without the port", "cert", format!("@cert-authority node1 {ca}\n"), 2222),
        (
            "authority without the port, other key at the port",
            "cert",
            format!("@cert-authority node1 {ca}\n[node1]:2222 {other}\n"),
            2222,
        ),
        (
            "other authority at the port",
            "cert",
            format!("@cert-authority node1 {ca}\n@cert-authority [node1]:2222 {ca_other}\n"),
            2222,
        ),
        ("authority of all", "cert", format!("@cert-authority * {ca}\n"), 22),
        ("authority, negated", "cert", format!("@cert-authority *,!node1 {ca}\n"), 22),
        ("authority, marker ends with a tab", "cert", format!("@cert-authority\tnode1 {ca}\n"), 22),
        ("two authorities", "cert", format!("@cert-authority node1 {ca_other}\n@cert-authority node1 {ca}\n"), 22),
        ("authority revoked", "cert", format!("@cert-authority node1 {ca}\n@revoked node1 {ca}\n"), 22),
        (
            "authority revoked, key recorded",
            "cert",
            format!("@cert-authority node1 {ca}\nnode1 {ed}\n@revoked node1 {ca}\n"),
            22,
        ),
        ("certificate's key revoked", "cert", format!("@cert-authority node1 {ca}\n@revoked node1 {ed}\n"), 22),
        ("authority revoked elsewhere", "cert", format!("@cert-authority node1 {ca}\n@revoked node2 {ca}\n"), 22),
        ("other authority, key recorded", "cert", format!("@cert-authority node1 {ca_other}\nnode1 {ed}\n"), 22),
        (
            "other authority, other key recorded",
            "cert",
            format!("@cert-authority node1 {ca_other}\nnode1 {other}\n"),
            22,
        ),
        ("authority, other key recorded", "cert", format!("node1 {other}\n@cert-authority node1 {ca}\n"), 22),
        ("authority as a plain line", "cert", format!("node1 {ca}\n"), 22),
        ("certificate server, key recorded", "cert", format!("node1 {ed}\n"), 22),
        ("certificate server, other key recorded", "cert", format!("node1 {other}\n"), 22),
        ("certificate server, nothing recorded", "cert", String::new(), 22),
        ("rsa certificate of an rsa authority", "cert-rsa", format!("@cert-authority node1 {ca_rsa}\n"), 22),
        ("rsa certificate, other authority", "cert-rsa", format!("@cert-authority node1 {ca}\n"), 22),
        ("ecdsa certificate", "cert-ec", format!("@cert-authority node1 {ca}\n"), 22),
        ("authority signs with SHA-1", "cert-sha1", format!("@cert-authority node1 {ca_rsa}\n"), 22),
        (
            "authority signs with SHA-1, key recorded",
            "cert-sha1",
            format!("@cert-authority node1 {ca_rsa}\nnode1 {ed}\n"),
            22,
        ),
    ];
    for (server, recorded_too) in [
        ("cert-anybody", false),
        ("cert-not-ours", true),
        ("cert-upper", true),
        ("cert-pattern", true),
        ("cert-with-port", true),
        ("cert-old", true),
        ("cert-early", true),
        ("cert-user", true),
        ("cert-critical", true),
    ] {
        special.push((server, server, format!("@cert-authority node1 {ca}\n"), 22));
        special.push((server, server, format!("@cert-authority [node1]:2222 {ca}\n"), 2222));
        if recorded_too {
            special.push((server, server, format!("@cert-authority node1 {ca}\nnode1 {ed}\n"), 22));
            special.push((server, server, format!("@cert-authority node1 {ca}\nnode1 {other}\n"), 22));
        }
    }
    // {principals} x {validity} x {authority} x {what is recorded}: each certificate meets one half of the files, in turn.
    let mut number = 0;
    for (who, _) in PRINCIPALS {
        for (when, _) in VALIDITIES {
            for (signer, bare) in [("ca", "ed"), ("ca-rsa", "ec"), ("ca-ec", "rsa")] {
                let server: &'static str = format!("made-{who}-{when}-{signer}").leak();
                let (right, wrong, key) = (yard.key(signer), yard.key("ca-other"), yard.key(bare));
                let another = if bare == "ed" { other.clone() } else { ed.clone() };
                let files: [(&str, String, u16); 10] = [
                    ("its authority", format!("@cert-authority node1 {right}\n"), 22),
                    ("wrong authority", format!("@cert-authority node1 {wrong}\n"), 22),
                    (
                        "wrong authority, then its",
                        format!("@cert-authority node1 {wrong}\n@cert-authority * {right}\n"),
                        22,
                    ),
                    ("its authority, revoked", format!("@cert-authority node1 {right}\n@revoked * {right}\n"), 22),
                    (
                        "its authority, its key revoked",
                        format!("@revoked node1 {key}\n@cert-authority node1 {right}\n"),
                        22,
                    ),
                    ("its authority for another host", format!("@cert-authority node2 {right}\n"), 22),
                    ("its authority and its key", format!("@cert-authority node1 {right}\nnode1 {key}\n"), 22),
                    ("its authority and another key", format!("node1 {another}\n@cert-authority node1 {right}\n"), 22),
                    ("its authority at the port", format!("@cert-authority [node1]:2222 {right}\n"), 2222),
                    ("its authority without the port", format!("@cert-authority node* {right}\nnode1 {key}\n"), 2222),
                ];
                for (at, (what, text, port)) in files.into_iter().enumerate() {
                    number += 1;
                    // By hand all of them, in CI every third.
                    if std::env::var_os("FERRY_LONG").is_some() || (number + at) % 3 == 0 {
                        special.push((format!("{server}: {what}").leak(), server, text, port));
                    }
                }
            }
        }
    }
    for (at, (name, server, text, port)) in special.into_iter().enumerate() {
        cases.push(Case {
            name: name.to_owned(),
            file: text.into_bytes(),
            host: "node1",
            port,
            server,
            accept_new: at % 4 == 3,
        });
    }
    cases
}

#[test]
fn verdicts_are_those_of_openssh() {
    let begun = Instant::now();
    let yard = Yard::new();
    let cases = cases(&yard);
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, (Said, Said, Verdict)>> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { break };
                    let theirs = yard.openssh(number, case);
                    let (ours, verdict) = yard.ours(number, case);
                    results.lock().unwrap().insert(number, (theirs, ours, verdict));
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    assert_eq!(results.len(), cases.len());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (number, (theirs, ours, verdict)) in &results {
        let case = &cases[*number];
        *counts.entry(theirs.word()).or_default() += 1;
        if theirs != ours {
            wrong.push(format!(
                "{} ({}:{}, server {}, accept-new {}): ssh {theirs:?}, we {verdict:?}\n{}",
                case.name,
                case.host,
                case.port,
                case.server,
                case.accept_new,
                String::from_utf8_lossy(&case.file[..case.file.len().min(400)])
            ));
        }
    }
    let refused = results.values().filter(|(theirs, ..)| !theirs.yes()).count();
    let new = cases.iter().filter(|case| case.accept_new).count();
    let certificates = cases.iter().filter(|case| !["ed", "ec", "rsa"].contains(&case.server)).count();
    assert!(certificates >= 250, "{certificates} cases with a certificate");
    println!(
        "{} cases ({new} with accept-new, {certificates} with a host certificate), {refused} refused, {:.1} s: {counts:?}",
        cases.len(),
        begun.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases.len() >= 300);
    assert!(counts.values().all(|count| *count >= 5) && counts.len() == 5, "every verdict occurs: {counts:?}");
    // A matcher that always says yes would be wrong in each of these.
    assert!(refused * 3 >= cases.len(), "only {refused} of {} are refused", cases.len());
}
