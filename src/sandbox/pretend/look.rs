//! Tools of the system by which one looks whether a target is ready, pretended: `getent`, `openssl
//! s_client` and `findmnt`.
//!
//! What lives here: what they say of the platform's name, certificate and NFS mounts. Everything
//! else that they are asked goes to the system's own tool. What does not: `df` and `kubectl`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Node, say, say_err};

/// The system's own tool, which ours may stand in front of.
fn real(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let ours = fs::metadata("/proc/self/exe").ok().map(|meta| (meta.dev(), meta.ino()));
    let places = ["/opt/ferry-sandbox/real", "/usr/bin", "/bin", "/usr/sbin"];
    let mut paths = places.iter().map(|place| Path::new(place).join(name));
    paths.find(|path| fs::metadata(path).is_ok_and(|meta| Some((meta.dev(), meta.ino())) != ours))
}

/// Becomes the system's own tool.
fn pass(name: &str, argv: &[String]) -> u8 {
    use std::os::unix::process::CommandExt as _;
    let Some(path) = real(name) else {
        say_err(format!("sh: {name}: not found\n"));
        return 127;
    };
    let error = Command::new(path).args(argv).exec();
    say_err(format!("{name}: {error}\n"));
    126
}

/// The address behind a name, as this node sees it.
fn resolve(node: &Node, name: &str) -> Option<String> {
    let name = name.trim_end_matches('.');
    if name == node.platform_dns && !name.is_empty() {
        if node.has("dns-missing") {
            return None;
        }
        if let Some(elsewhere) = node.fault("dns-elsewhere") {
            return Some(if elsewhere.is_empty() { "192.0.2.77".to_owned() } else { elsewhere });
        }
        return Some(node.nodes.first().map_or_else(|| node.advertise_ip.clone(), |first| first.advertise_ip.clone()));
    }
    let members = node.nodes.iter().find(|member| member.hostname == name).map(|member| member.advertise_ip.clone());
    members.or_else(|| node.other_names.get(name).cloned())
}

/// Runs `getent ahosts|ahostsv4|hosts NAME`.
pub(crate) fn getent(node: Option<&Node>, argv: &[String]) -> u8 {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let (Some(node), [kind @ ("ahosts" | "ahostsv4" | "hosts"), name]) = (node, words.as_slice()) else {
        return pass("getent", argv);
    };
    let known = *name == node.platform_dns || name.parse::<std::net::IpAddr>().is_err() && *name != "localhost";
    if !known {
        return pass("getent", argv);
    }
    let Some(address) = resolve(node, name) else { return 2 };
    say(if *kind == "hosts" {
        format!("{address:<15} {name}\n")
    } else {
        format!("{address:<15} STREAM {name}\n{address:<15} DGRAM  \n{address:<15} RAW    \n")
    });
    0
}

/// Runs `findmnt`; of NFS mounts it says what the node has.
pub(crate) fn findmnt(node: Option<&Node>, argv: &[String]) -> u8 {
    let mut kinds = None;
    let (mut raw, mut head, mut columns) = (false, true, "TARGET,SOURCE,FSTYPE,OPTIONS".to_owned());
    let mut words = argv.iter();
    let mut others = 0;
    while let Some(word) = words.next() {
        match word.as_str() {
            "-t" | "--types" => kinds = words.next().cloned(),
            "-o" | "--output" => columns = words.next().cloned().unwrap_or_default(),
            "-r" | "--raw" => raw = true,
            "-n" | "--noheadings" => head = false,
            "-rn" | "-nr" => (raw, head) = (true, false),
            _ => others += 1,
        }
    }
    let nfs = kinds.as_ref().is_some_and(|kinds| kinds.split(',').all(|kind| matches!(kind, "nfs" | "nfs4")));
    let (Some(node), true, 0) = (node, nfs, others) else { return pass("findmnt", argv) };
    let Some((server, path)) = nfs_source(node) else { return 1 };
    if !kinds.is_some_and(|kinds| kinds.split(',').any(|kind| kind == "nfs4")) {
        return 1;
    }
    let cell = |name: &str| match name {
        "SOURCE" => Some(format!("{server}:{path}")),
        "TARGET" => Some("/var/lib/gravity/planet/share/nfs".to_owned()),
        "FSTYPE" => Some("nfs4".to_owned()),
        "OPTIONS" => Some("rw,relatime,vers=4.0,hard,proto=tcp".to_owned()),
        _ => None,
    };
    let names: Vec<String> = columns.split(',').map(str::to_uppercase).collect();
    let Some(cells) = names.iter().map(|name| cell(name)).collect::<Option<Vec<_>>>() else {
        say_err(format!("findmnt: unknown column: {columns}\n"));
        return 1;
    };
    let gap = if raw { " " } else { "  " };
    if head {
        say(format!("{}\n", names.join(gap)));
    }
    say(format!("{}\n", cells.join(gap)));
    0
}

/// Where the cluster's NFS comes from: server and path. `None` when there is none.
pub(crate) fn nfs_source(node: &Node) -> Option<(String, String)> {
    if node.has("nfs-missing") || node.nfs_source.is_empty() {
        return None;
    }
    let other = node
        .fault("nfs-other")
        .map(|other| if other.is_empty() { "nfs.elsewhere.example:/x".to_owned() } else { other });
    let source = other.unwrap_or_else(|| node.nfs_source.clone());
    let (server, path) = source.split_once(':')?;
    Some((server.to_owned(), path.to_owned()))
}

/// Runs `openssl`; only what `s_client` sees is pretended.
pub(crate) fn openssl(node: Option<&Node>, argv: &[String]) -> u8 {
    let (Some(node), Some("s_client")) = (node, argv.first().map(String::as_str)) else {
        return pass("openssl", argv);
    };
    let value = |name: &str| argv.iter().position(|word| word == name).and_then(|at| argv.get(at + 1));
    let to = value("-connect").cloned().unwrap_or_else(|| "localhost:4433".to_owned());
    let (host, port) = to.rsplit_once(':').unwrap_or((&to, "443"));
    let host = host.trim_matches(['[', ']']);
    let address = if host.parse::<std::net::IpAddr>().is_ok() { Some(host.to_owned()) } else { resolve(node, host) };
    let Some(address) = address else {
        say_err("BIO_lookup_ex:system lib:Name or service not known\nconnect:errno=0\n");
        return 1;
    };
    let here = node.nodes.iter().any(|member| member.advertise_ip == address) || address == "127.0.0.1";
    if node.has("cert-none") || !here || !matches!(port, "443" | "32009" | "30443") {
        say_err("BIO_connect:Connection refused:calling connect()\nconnect:errno=111\n");
        return 1;
    }
    match certificate(node) {
        Ok((name, pem)) => {
            let about = format!("CN = {name}");
            say_err(format!(
                "depth=0 {about}\nverify error:num=18:self signed certificate\nverify return:1\ndepth=0 {about}\nverify return:1\nDONE\n"
            ));
            say(format!(
                "CONNECTED(00000003)\n---\nCertificate chain\n 0 s:{about}\n   i:{about}\n---\nServer certificate\n{pem}subject={about}\n\nissuer={about}\n\n---\nNo client certificate CA names sent\nPeer signing digest: SHA256\nPeer signature type: ECDSA\nServer Temp Key: X25519, 253 bits\n---\nSSL handshake has read 777 bytes and written 395 bytes\nVerification error: self signed certificate\n---\nNew, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384\nServer public key is 256 bit\nVerify return code: 18 (self signed certificate)\n---\n"
            ));
            0
        }
        Err(error) => {
            say_err(format!("openssl: {error}\n"));
            1
        }
    }
}

/// The certificate that the platform shows, made by the system's own openssl when it is first asked
/// for: its name and its PEM.
fn certificate(node: &Node) -> io::Result<(String, String)> {
    let name = match node.fault("cert-name") {
        Some(name) if name.is_empty() => "other.example".to_owned(),
        Some(name) => name,
        None => node.platform_dns.clone(),
    };
    let name: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*' | '_')).collect();
    let days = match (node.has("cert-expired"), node.number("cert-expires", 5.0)) {
        (true, _) => -3.0,
        (false, Some(days)) => days,
        (false, None) => 300.0,
    };
    let path = node.shared.join(format!("platform-{}-{days}.pem", name.replace('*', "any")));
    if let Ok(pem) = fs::read_to_string(&path) {
        return Ok((name, pem));
    }
    let dir = node.shared.join(format!(".certificate.{:08x}", rand::random::<u32>()));
    fs::create_dir_all(&dir)?;
    let made = make_certificate(&dir, &name, days);
    let _ = fs::remove_dir_all(&dir);
    let pem = made?;
    // Several nodes may ask at once: the first that is there is everybody's.
    let own = node.shared.join(format!(".platform.{:08x}.pem", rand::random::<u32>()));
    fs::write(&own, &pem)?;
    let linked = fs::hard_link(&own, &path);
    fs::remove_file(&own)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok((name, fs::read_to_string(&path)?)),
    }
}

fn make_certificate(dir: &Path, name: &str, days: f64) -> io::Result<String> {
    let Some(openssl) = real("openssl") else {
        return Err(io::Error::other("the system has no openssl to make a certificate with"));
    };
    // `req -x509` cannot make a certificate that is over already; `ca` can.
    let config = format!(
        "[ca]\ndefault_ca=d\n[d]\ndir=.\ndatabase=./index\nnew_certs_dir=.\nserial=./serial\ndefault_md=sha256\npolicy=p\nx509_extensions=x\nunique_subject=no\nemail_in_dn=no\n[p]\ncommonName=supplied\n[x]\nsubjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n[req]\ndistinguished_name=dn\n[dn]\n"
    );
    fs::write(dir.join("config"), config)?;
    fs::write(dir.join("index"), "")?;
    fs::write(dir.join("serial"), format!("{:016x}\n", rand::random::<u64>() >> 1))?;
    let run = |args: &[&str]| -> io::Result<()> {
        let out = Command::new(&openssl).args(args).current_dir(dir).stdin(Stdio::null()).output()?;
        if out.status.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&out.stderr).into_owned()))
    };
    let subject = format!("/CN={name}");
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key"];
    run(&[&["req", "-new", "-config", "config", "-out", "request", "-subj", &subject], key.as_slice()].concat())?;
    let now = jiff::Timestamp::now();
    let day = |days: f64| {
        let at = now.checked_add(jiff::SignedDuration::from_secs((days * 86400.0) as i64)).unwrap_or(now);
        at.strftime("%Y%m%d%H%M%SZ").to_string()
    };
    let (from, until) = (day(-200.0), day(days));
    run(&[
        "ca",
        "-batch",
        "-selfsign",
        "-config",
        "config",
        "-in",
        "request",
        "-keyfile",
        "key",
        "-startdate",
        &from,
        "-enddate",
        &until,
        "-notext",
        "-out",
        "certificate",
    ])?;
    fs::read_to_string(dir.join("certificate"))
}
