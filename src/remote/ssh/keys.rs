//! Private keys from files.
//!
//! What lives here: reading one key file, and saying in plain words why it is none that can be
//! used. What does not: which files are tried and where a passphrase comes from (the client and
//! cli), and agents (the client).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use russh::keys::ssh_key::{self, Algorithm};
use russh::keys::{Error, PrivateKey, decode_secret_key};
use zeroize::Zeroizing;

use super::short_ecdsa;
use crate::failure::{Failure, Kind, Place};
use crate::secret::{ExposeSecret, SecretString};

/// A key file above this size (bytes) is something else.
const LARGEST: u64 = 1 << 20;

/// How a private key is written, by its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OpenSsh,
    Pkcs1,
    Pkcs8,
    Pkcs8Encrypted,
    Sec1,
    Dsa,
}

impl Form {
    fn of(line: &str) -> Option<Self> {
        let name = line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
        Some(match name {
            "OPENSSH PRIVATE KEY" => Self::OpenSsh,
            "RSA PRIVATE KEY" => Self::Pkcs1,
            "PRIVATE KEY" => Self::Pkcs8,
            "ENCRYPTED PRIVATE KEY" => Self::Pkcs8Encrypted,
            "EC PRIVATE KEY" => Self::Sec1,
            "DSA PRIVATE KEY" => Self::Dsa,
            _ => return None,
        })
    }
}

/// Whether a failure of [`load`] means that a passphrase is wanted: then the caller may ask for
/// one and try again.
pub fn wants_passphrase(failure: &Failure) -> bool {
    failure.what.ends_with(NEEDS_PASSPHRASE)
}

const NEEDS_PASSPHRASE: &str = "is protected by a passphrase, and none was given";

/// Reads the private key in the file `path`: OpenSSH's own format, PKCS#1, PKCS#8 or SEC1, plain
/// or encrypted (SEC1 plain only). A passphrase that is not needed is not used.
///
/// # Errors
/// [`Kind::CouldNotStart`], each with its own sentence and what to do: no such file, not readable,
/// a folder, readable by others than its owner, empty, too large, a public key or certificate,
/// PuTTY's format, a form that is not supported, damaged, passphrase missing or wrong.
pub fn load(path: &Path, passphrase: Option<&SecretString>) -> Result<PrivateKey, Failure> {
    let shown = path.display();
    let failure = |what: &str| Failure::new(Kind::CouldNotStart, format!("the private key {shown} {what}"));
    let mut file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failure("does not exist")
            .why("a file with a private key was expected there")
            .mend(format!("correct the path, or make a key: ssh-keygen -t ed25519 -f {shown}")),
        _ => failure("cannot be opened")
            .saw(error.to_string())
            .mend(format!("chown \"$USER\" {shown}; chmod 600 {shown}")),
    })?;
    let meta = file.metadata().map_err(|error| failure("cannot be looked at").saw(error.to_string()))?;
    if !meta.is_file() {
        let seen = if meta.is_dir() { "a folder" } else { "no plain file" };
        return Err(failure("is not a file").saw(seen).mend("name the file with the private key"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    (&mut file)
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failure("cannot be read").saw(error.to_string()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(failure("is too large for a private key")
            .saw("more than 1 MiB")
            .mend("name the file with the private key"));
    }
    if bytes.starts_with(b"SSH PRIVATE KEY FILE FORMAT 1.1") {
        return Err(failure("is a key of SSH protocol 1")
            .why("that protocol is broken, and no server of today speaks it")
            .mend("make a new key: ssh-keygen -t ed25519"));
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err(failure("is not text")
            .why("expected a key that begins with -----BEGIN … PRIVATE KEY-----; a binary (DER) key is not read")
            .mend(format!("openssl pkey -inform DER -in {shown} -out {shown}.pem")));
    };
    // As OpenSSH: only a key of one's own is refused for its mode; one that root holds for all is
    // root's decision.
    // A public key may be read by all: that it is one is what has to be said of it.
    let public = text.lines().find(|line| !line.trim().is_empty()).is_some_and(is_public);
    if !public && meta.uid() == rustix::process::getuid().as_raw() && meta.mode() & 0o077 != 0 {
        return Err(failure("can be read by others than its owner")
            .saw(format!("mode {:04o}", meta.mode() & 0o7777))
            .why("OpenSSH ignores such a key as well: it must count as known to others")
            .mend(format!("chmod 600 {shown}")));
    }
    decode(text, passphrase, path)
}

/// The public half that a private key in OpenSSH's format shows without its passphrase. `None` for every other file.
pub(super) fn public_half(path: &Path) -> Option<ssh_key::PublicKey> {
    let mut text = Zeroizing::new(String::new());
    File::open(path).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    public_part(&text)
}

fn public_part(text: &str) -> Option<ssh_key::PublicKey> {
    let unix = Zeroizing::new(text.replace('\r', ""));
    let begin = unix.find("-----BEGIN OPENSSH")?;
    let read = PrivateKey::from_openssh(unix.get(begin..)?).ok().map(|key| key.public_key().clone());
    read.or_else(|| short_ecdsa::public_half(&unix))
}

/// The key in the text of the file `path`.
fn decode(text: &str, passphrase: Option<&SecretString>, path: &Path) -> Result<PrivateKey, Failure> {
    let shown = path.display();
    let failure = |what: &str| Failure::new(Kind::CouldNotStart, format!("the private key {shown} {what}"));
    let place = |line: usize| Place { file: shown.to_string(), line, column: 1 };
    if text.trim().is_empty() {
        return Err(failure("is empty").mend("bring back the key from where it was copied"));
    }
    // Told before anything else, for the wrong one of two files is the commonest mistake.
    let (at, first) =
        text.lines().enumerate().find(|(_, line)| !line.trim().is_empty()).map_or((1, ""), |(at, line)| (at + 1, line));
    if is_public(first) {
        let private = shown.to_string();
        let private = private.strip_suffix("-cert.pub").or(private.strip_suffix(".pub"));
        return Err(failure("is a public key")
            .at(place(at))
            .saw(first.split_whitespace().next().unwrap_or_default())
            .why("the private key is wanted, which stays on this machine")
            .mend(private.map_or_else(
                || "name the file without .pub".to_owned(),
                |private| format!("name {private}, which usually lies beside it"),
            )));
    }
    if first.starts_with("PuTTY-User-Key-File-") {
        return Err(failure("is in PuTTY's format (.ppk)")
            .at(place(at))
            .why("expected OpenSSH's or a PEM format")
            .mend(format!("puttygen {shown} -O private-openssh -o {shown}.openssh")));
    }
    if first.starts_with("---- BEGIN SSH2 ") {
        return Err(failure("is in the format of ssh.com (Tectia)")
            .at(place(at))
            .why("expected OpenSSH's or a PEM format")
            .mend(format!(
                "ssh-keygen -i -f {shown} > {shown}.openssh   (with a passphrase: take it off with ssh-keygen-g3 first)"
            )));
    }
    let begins = text.lines().enumerate().find_map(|(at, line)| Some((at + 1, Form::of(line)?)));
    let Some((at, form)) = begins else {
        return Err(failure("holds no private key that is known here")
            .at(place(at))
            .why("expected a line -----BEGIN OPENSSH PRIVATE KEY----- (or RSA, EC, or none of these words)")
            .mend("name the file with the private key"));
    };
    if !text.lines().skip(at).any(|line| line.starts_with("-----END ")) {
        return Err(failure("is cut short: its last line is missing")
            .at(place(at))
            .why("expected a line -----END … PRIVATE KEY-----")
            .mend("copy the whole file again"));
    }
    let pem_encrypted = text.lines().any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"));
    let convert = format!("ssh-keygen -p -f {shown}");
    let dsa = || {
        failure("is a DSA key")
            .at(place(at))
            .why("OpenSSH servers have refused these since 2015")
            .mend("make a new key: ssh-keygen -t ed25519")
    };
    if form == Form::Dsa {
        return Err(dsa());
    }
    // Told without a passphrase: with one it would be of no more use.
    if let Some(public) = public_part(text) {
        match public.algorithm() {
            Algorithm::Dsa => return Err(dsa()),
            Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => {
                return Err(failure("belongs to a security key (FIDO), which signs only through an agent")
                    .at(place(at))
                    .saw(public.algorithm().as_str())
                    .why("the file holds a handle; the key itself never leaves the device")
                    .mend(format!("ssh-add {shown}, with SSH_AUTH_SOCK set, and name the same file")));
            }
            _ => {}
        }
    }
    if pem_encrypted && form != Form::Pkcs1 {
        return Err(failure("is an encrypted EC key in the old PEM form, which is not supported")
            .at(place(at))
            .why("OpenSSH's own format protects it better")
            .mend(format!("{convert}   (asks for the passphrase and writes OpenSSH's format)")));
    }
    // Only this cipher is read by the library below; others would look like a wrong passphrase.
    let cipher = text.lines().find_map(|line| line.strip_prefix("DEK-Info:"));
    if let Some(cipher) = cipher.filter(|cipher| !cipher.trim().starts_with("AES-128-CBC,")) {
        let name = cipher.trim().split(',').next().unwrap_or_default();
        return Err(failure("is encrypted with an old cipher that is not supported")
            .at(place(at))
            .saw(name)
            .mend(format!("{convert}   (asks for the passphrase and writes OpenSSH's format)")));
    }
    let encrypted = pem_encrypted || form == Form::Pkcs8Encrypted || (form == Form::OpenSsh && openssh_encrypted(text));
    if encrypted && passphrase.is_none() {
        return Err(failure(NEEDS_PASSPHRASE)
            .at(place(at))
            .mend("run ferry at a terminal, where it asks; or load the key into an agent: ssh-add"));
    }
    let passphrase = passphrase.filter(|_| encrypted).map(ExposeSecret::expose_secret);
    // The library takes marker lines only without a carriage return.
    let unix = Zeroizing::new(text.replace('\r', ""));
    let read = decode_secret_key(&unix, passphrase);
    let wrong = |error: &Error| encrypted && wrong_passphrase(error, form);
    let read = match read {
        Err(error) if form == Form::OpenSsh && !wrong(&error) => short_ecdsa::load(&unix, passphrase).ok_or(error),
        read => read,
    };
    read.map_err(|error| {
        if wrong(&error) {
            return failure("does not open: wrong passphrase")
                .at(place(at))
                .mend(format!("try it: ssh-keygen -y -f {shown}"));
        }
        failure("cannot be read: it is damaged or of a kind that is not supported")
            .at(place(at))
            .saw(error.to_string())
            .why("read are Ed25519, ECDSA (P-256, P-384, P-521) and RSA keys")
            .mend(format!(
                "see what OpenSSH says of it: ssh-keygen -y -f {shown}; {convert} rewrites it in OpenSSH's format"
            ))
    })
}

/// Whether a line is a public key or certificate as OpenSSH, PEM or RFC 4716 writes it.
fn is_public(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or_default();
    let openssh = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|begin| word.starts_with(begin));
    openssh || (line.starts_with("---") && (line.contains(" PUBLIC KEY") || line.contains("SSH2 PUBLIC KEY")))
}

/// Whether the key in OpenSSH's format is encrypted; false too when it cannot be told.
fn openssh_encrypted(text: &str) -> bool {
    let unix = Zeroizing::new(text.replace('\r', ""));
    let begin = unix.find("-----BEGIN OPENSSH").unwrap_or(0);
    let block = unix.get(begin..).unwrap_or_default();
    PrivateKey::from_openssh(block).is_ok_and(|key| key.is_encrypted())
}

/// Which errors of the decoder mean, for an encrypted key, that the passphrase was wrong. The
/// result of decrypting with a wrong one is noise: for PKCS it is seen by padding or by ASN.1
/// that makes no sense, for OpenSSH by the two check numbers.
fn wrong_passphrase(error: &Error, form: Form) -> bool {
    match form {
        Form::OpenSsh => matches!(error, Error::SshKey(ssh_key::Error::Crypto)),
        Form::Pkcs1 => {
            matches!(error, Error::Pad(_) | Error::Unpad(_) | Error::Pkcs1(_) | Error::Der(_) | Error::Rsa(_))
        }
        Form::Pkcs8Encrypted => matches!(error, Error::Pkcs8(_) | Error::Der(_) | Error::Pad(_) | Error::Unpad(_)),
        Form::Pkcs8 | Form::Sec1 | Form::Dsa => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use super::*;

    struct Yard(tempfile::TempDir);

    impl Yard {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }
        fn run(program: &str, args: &[&str]) {
            let out = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
            assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
        /// A key by the real ssh-keygen: `form` empty for OpenSSH's own.
        fn key(&self, name: &str, kind: &[&str], form: &str, passphrase: &str) -> PathBuf {
            let path = self.at(name);
            let mut args = vec!["-q", "-C", "", "-N", passphrase, "-f", path.to_str().unwrap(), "-t"];
            args.extend(kind);
            if !form.is_empty() {
                args.extend(["-m", form]);
            }
            Self::run("ssh-keygen", &args);
            path
        }
        fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
            let path = self.at(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        }
    }

    fn public(path: &Path) -> String {
        let text = std::fs::read_to_string(format!("{}.pub", path.display())).unwrap();
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn refused(path: &Path, passphrase: Option<&str>, words: &str) -> Failure {
        let failure = load(path, passphrase.map(SecretString::from).as_ref()).unwrap_err();
        assert_eq!(failure.kind, Kind::CouldNotStart);
        assert!(failure.what.contains(words), "{failure:?}");
        assert!(failure.what.contains(&path.display().to_string()));
        assert!(failure.mend.is_some(), "{failure:?}");
        assert!(!format!("{failure:?}").contains("wr0ng"), "{failure:?}");
        failure
    }

    #[test]
    fn every_form_that_ssh_keygen_writes_is_read() {
        let yard = Yard::new();
        let secret = "pass phrase ü";
        let kinds: [&[&str]; 5] = [
            &["ed25519"],
            &["ecdsa", "-b", "256"],
            &["ecdsa", "-b", "384"],
            &["ecdsa", "-b", "521"],
            &["rsa", "-b", "2048"],
        ];
        let mut read = 0;
        for (number, kind) in kinds.iter().enumerate() {
            for form in ["", "PEM", "PKCS8"] {
                for passphrase in ["", secret] {
                    // ssh-keygen writes Ed25519 in its own format whatever it is told.
                    if kind[0] == "ed25519" && !form.is_empty() {
                        continue;
                    }
                    let path = yard.key(&format!("k{number}-{form}-{}", passphrase.is_empty()), kind, form, passphrase);
                    if kind[0] == "ecdsa" && form == "PEM" && !passphrase.is_empty() {
                        let failure = refused(&path, Some(secret), "encrypted EC key");
                        assert!(failure.mend.unwrap().contains(&format!("ssh-keygen -p -f {}", path.display())));
                        continue;
                    }
                    if !passphrase.is_empty() {
                        assert!(wants_passphrase(&refused(&path, None, "none was given")));
                        assert!(!wants_passphrase(&refused(&path, Some("wr0ng"), "wrong passphrase")));
                    }
                    // A passphrase that is not needed does no harm.
                    let key = load(&path, Some(&secret.into())).unwrap();
                    let text = key.public_key().to_openssh().unwrap();
                    assert_eq!(text.trim(), public(&path), "{kind:?} {form} {passphrase}");
                    read += 1;
                }
            }
        }
        assert_eq!(read, 2 + 3 * 5 + 6);
    }

    #[test]
    fn wrong_passphrases_are_never_taken_for_damage() {
        let yard = Yard::new();
        for (name, kind, form) in [
            ("a", ["ecdsa", "-b", "256"], "PKCS8"),
            ("b", ["rsa", "-b", "2048"], "PEM"),
            ("c", ["rsa", "-b", "2048"], "PKCS8"),
        ] {
            let path = yard.key(name, &kind, form, "right");
            // Padding fits by chance about once in 256.
            for number in 0..if form == "PEM" { 600 } else { 3 } {
                refused(&path, Some(&format!("wr0ng-{number}")), "wrong passphrase");
            }
        }
    }

    #[test]
    fn line_ends_of_windows_and_text_before_the_key_are_fine() {
        let yard = Yard::new();
        for form in ["", "PEM", "PKCS8"] {
            let path = yard.key(&format!("k{form}"), &["rsa", "-b", "2048"], form, "p4ssphrase");
            let text = std::fs::read_to_string(&path).unwrap();
            let windows = yard.file(&format!("w{form}"), text.replace('\n', "\r\n"));
            assert!(load(&windows, Some(&"p4ssphrase".into())).is_ok(), "{form}");
            assert!(wants_passphrase(&refused(&windows, None, "none was given")));
            let before = yard.file(&format!("b{form}"), format!("my key\n\n{text}"));
            assert!(load(&before, Some(&"p4ssphrase".into())).is_ok(), "{form}");
        }
    }

    #[test]
    fn each_mistake_has_its_own_sentence() {
        let yard = Yard::new();
        let good = yard.key("id", &["ed25519"], "", "");
        refused(&yard.at("none"), None, "does not exist");
        refused(yard.0.path(), None, "is not a file");
        refused(&yard.file("empty", " \n"), None, "is empty");
        refused(&yard.file("binary", b"\x30\x82\xff\xfe"), None, "is not text");
        refused(&yard.file("other", "hello\n"), None, "no private key that is known");
        refused(&yard.file("x.ppk", "PuTTY-User-Key-File-3: ssh-ed25519\n"), None, "PuTTY");
        refused(&yard.file("dsa", "-----BEGIN DSA PRIVATE KEY-----\nAA\n-----END DSA PRIVATE KEY-----\n"), None, "DSA");
        refused(&yard.file("ssh1", b"SSH PRIVATE KEY FILE FORMAT 1.1\n\0\xff"), None, "SSH protocol 1");
        let tectia = "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/56wAA\n---- END SSH2 ENCRYPTED PRIVATE KEY ----\n";
        refused(&yard.file("tectia", tectia), None, "ssh.com");
        refused(&yard.file("large", "x".repeat(2 << 20)), None, "too large");
        let text = std::fs::read_to_string(&good).unwrap();
        refused(&yard.file("cut", &text[..text.len() - 40]), None, "cut short");
        let mut damaged = text.clone();
        damaged.replace_range(60..64, "AAAA");
        refused(&yard.file("damaged", damaged), None, "damaged");
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,0123456789ABCDEF\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        refused(&yard.file("old", old), Some("x"), "old cipher");
        let public = PathBuf::from(format!("{}.pub", good.display()));
        std::fs::set_permissions(&public, std::fs::Permissions::from_mode(0o600)).unwrap();
        let failure = refused(&public, None, "is a public key");
        assert!(failure.mend.unwrap().contains(&format!("name {},", good.display())));
        assert_eq!(failure.place.unwrap().line, 1);
        for mode in [0o640, 0o604, 0o620, 0o644] {
            std::fs::set_permissions(&good, std::fs::Permissions::from_mode(mode)).unwrap();
            let failure = refused(&good, None, "by others");
            assert!(failure.seen.unwrap().contains(&format!("{mode:04o}")));
        }
        std::fs::set_permissions(&good, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(load(&good, None).is_ok());
    }

    /// As ssh-keygen writes it, with a device that nobody has.
    #[test]
    fn a_security_key_is_named_as_what_it_is() {
        use base64::Engine as _;
        let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let name = string(b"sk-ssh-ed25519@openssh.com");
        let public = [name.clone(), string(&[7; 32]), string(b"ssh:")].concat();
        let mut private = [
            [1, 2, 3, 4, 1, 2, 3, 4].to_vec(),
            public.clone(),
            vec![1],
            string(b"handle"),
            string(b""),
            string(b"comment"),
        ]
        .concat();
        private.extend((1_u8..).take((8 - private.len() % 8) % 8));
        let whole = [
            b"openssh-key-v1\0".to_vec(),
            string(b"none"),
            string(b"none"),
            string(b""),
            vec![0, 0, 0, 1],
            string(&public),
            string(&private),
        ]
        .concat();
        let text = base64::engine::general_purpose::STANDARD.encode(whole);
        let lines: Vec<&str> = text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let yard = Yard::new();
        let file = yard.file(
            "id_ed25519_sk",
            format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n", lines.join("\n")),
        );
        let failure = refused(&file, None, "security key");
        assert!(failure.mend.unwrap().starts_with(&format!("ssh-add {}", file.display())));
        assert_eq!(public_half(&file).unwrap().algorithm(), Algorithm::SkEd25519);
    }

    /// A key of nobody, found among some hundred by ssh-keygen: its number has 31 bytes.
    #[test]
    fn a_p256_number_that_begins_with_a_zero_byte_is_read() {
        let plain = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAaAAAABNlY2RzYS\n1zaGEyLW5pc3RwMjU2AAAACG5pc3RwMjU2AAAAQQRUDC7+gN/7HAXXAQLeNGDjXtK+0jVl\ndyV21q+GHHI38wsrWmYGxKLrPvDNrG/Ag5amTq8qg1cDHDDSj0pWT6AsAAAAoLCmV+uwpl\nfrAAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFQMLv6A3/scBdcB\nAt40YONe0r7SNWV3JXbWr4YccjfzCytaZgbEous+8M2sb8CDlqZOryqDVwMcMNKPSlZPoC\nwAAAAfesCPNs7EehCl0V0EzrEg3haEAUersyadtBwSvWv/TwAAAAVzaG9ydAECAwQ=\n-----END OPENSSH PRIVATE KEY-----\n";
        let locked = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABDs1vYR8n\nrN9Sgkoz12rHf9AAAAAQAAAAEAAABoAAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlz\ndHAyNTYAAABBBFQMLv6A3/scBdcBAt40YONe0r7SNWV3JXbWr4YccjfzCytaZgbEous+8M\n2sb8CDlqZOryqDVwMcMNKPSlZPoCwAAACgNti6hxi7xKbm7lX2AV1q1b3fSqTsrcJhBx5w\n5231Ai700tgHNP5MW6w/7FwjX94pf1obID5g17yFPLVWYWVT4Oak/DUEnEB7tUdBE/prIO\noByfuqvqIWkJO1c0qODkbxlGV3wTr4UHm6iyZhp7+Rj4EvQVNjQNarU3qnU7q9NSl9xlqZ\njizv6nf5xhaGsIZJdAqIeVtxarwIqdmzRs8wGQ==\n-----END OPENSSH PRIVATE KEY-----\n";
        let public = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFQMLv6A3/scBdcBAt40YONe0r7SNWV3JXbWr4YccjfzCytaZgbEous+8M2sb8CDlqZOryqDVwMcMNKPSlZPoCw=";
        let yard = Yard::new();
        let plain = yard.file("plain", plain);
        let locked = yard.file("locked", locked);
        for (path, passphrase) in [(&plain, None), (&plain, Some("not needed")), (&locked, Some("pass phrase"))] {
            let key = load(path, passphrase.map(SecretString::from).as_ref()).unwrap();
            assert_eq!(key.public_key().to_openssh().unwrap(), format!("{public} short"));
            // It signs, and what it signs holds.
            let signature = key.sign("file", ssh_key::HashAlg::Sha256, b"text").unwrap();
            key.public_key().verify("file", b"text", &signature).unwrap();
            assert!(key.public_key().verify("file", b"other", &signature).is_err());
            assert_eq!(public_half(path).unwrap().key_data(), key.public_key().key_data());
        }
        assert!(wants_passphrase(&refused(&locked, None, "none was given")));
        refused(&locked, Some("wr0ng"), "wrong passphrase");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(text: String, head in 0_usize..4) {
            let heads = ["", "-----BEGIN RSA PRIVATE KEY-----\n", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\n"];
            let text = format!("{}{text}\n-----END X-----\n", heads[head]);
            let _ = decode(&text, Some(&"x".into()), Path::new("k"));
        }
    }
}
