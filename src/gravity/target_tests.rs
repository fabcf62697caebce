//! The second look: the script under three shells, and every form of what it may say.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;
use crate::remote::Exit;
use crate::remote::fake::{FakeSession, Reply};

const NONCE: &str = "ferry-nonce";

/// The shells that the nodes may have; a shell that this machine lacks is no shell of a test that passed.
pub(in crate::gravity) const SHELLS: [&[&str]; 3] = [&["dash"], &["bash", "--posix"], &["busybox", "sh"]];

pub(in crate::gravity) fn run(shell: &[&str], script: &str, path: &str) -> std::process::Output {
    let mut child = Command::new(shell[0])
        .args(&shell[1..])
        .arg("-s")
        .env_clear()
        .env("PATH", path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(script.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

pub(in crate::gravity) fn tool(dir: &std::path::Path, name: &str, body: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

pub(in crate::gravity) fn shellcheck(script: &str) {
    let mut child = Command::new("shellcheck")
        .args(["-s", "sh", "-S", "warning", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
}

fn questions(dns: &str, dir: &std::path::Path) -> TargetQuestions {
    TargetQuestions {
        platform_dns: Some(dns.into()),
        archive_dir: Some(dir.join("work/not/yet").display().to_string()),
        state_dir: Some(dir.display().to_string()),
    }
}

const PODS: &str = r#"{"items":[
 {"metadata":{"namespace":"default","name":"a"},"spec":{"containers":[{},{}]},"status":{"phase":"Running","containerStatuses":[{"ready":true},{"ready":true}]}},
 {"metadata":{"namespace":"default","name":"b"},"spec":{"containers":[{},{}]},"status":{"phase":"Running","containerStatuses":[{"ready":true},{"ready":false,"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}},
 {"metadata":{"namespace":"default","name":"c"},"spec":{"containers":[{}]},"status":{"phase":"Running"}},
 {"metadata":{"namespace":"kube-system","name":"anypoint-backup-1a2b3c-x"},"status":{"phase":"Succeeded"}},
 {"metadata":{"namespace":"kube-system","name":"anypoint-restore-4d5e6f-y","ownerReferences":[{"kind":"Job","name":"anypoint-restore-4d5e6f"}]},"status":{"phase":"Failed","reason":"DeadlineExceeded"}},
 {"metadata":{"namespace":"x","name":"try-1","ownerReferences":[{"kind":"Job","name":"try"}]},"status":{"phase":"Failed"}},
 {"metadata":{"namespace":"x","name":"try-2","ownerReferences":[{"kind":"Job","name":"try"}]},"status":{"phase":"Succeeded"}},
 {"metadata":{"namespace":"y","name":"try-3","ownerReferences":[{"kind":"Job","name":"try"}]},"status":{"phase":"Failed"}},
 {"metadata":{"namespace":"x","name":"old"},"status":{"phase":"Failed","reason":"Evicted"}},
 {"metadata":{"namespace":"x","name":"p"},"spec":{"containers":[{}]},"status":{"phase":"Pending"}},
 {"metadata":{"namespace":"x","name":"z","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"containers":[{}]},"status":{"phase":"Running","containerStatuses":[{"ready":true}]}},
 {"metadata":{"namespace":"x","name":"u"},"status":{"phase":"Unknown"}},
 {"metadata":{"namespace":"x","name":"n"}}]}"#;

#[test]
fn pods_are_well_when_completed_or_ready() {
    let pods = parse_pods(PODS.as_bytes()).unwrap();
    assert_eq!((pods.total, pods.well, pods.completed, pods.evicted), (13, 1, 3, 1));
    let names: Vec<&str> = pods.unwell.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["b", "c", "anypoint-restore-4d5e6f-y", "try-3", "p", "z", "u", "n"]);
    assert_eq!(pods.unwell[0].why, "1 of 2 containers ready, CrashLoopBackOff");
    assert_eq!(pods.unwell[1].why, "0 of 1 containers ready");
    let hook = |active| KubeJob { name: "anypoint-restore-4d5e6f".into(), active, ..KubeJob::default() };
    assert_eq!(pods.not_well(&[hook(true)]).len(), 8);
    assert_eq!(pods.not_well(&[hook(false)]).len(), 7);
    assert_eq!(pods.not_well(&[]).len(), 7);
    assert!(parse_pods(b"{}").is_err() && parse_pods(b"\nno list").is_err());
}

#[test]
fn certificates_of_every_openssl_are_read() {
    let old = "subject= /C=JP/O=Example, Inc./CN=anypoint.example\nissuer= /CN=ca\nnotBefore=Nov  2 01:02:03 2026 GMT\nnotAfter=Dec 31 23:59:59 2027 GMT\nSHA256 Fingerprint=AA:BB\nCertificate:\n    Data:\n        Subject: C=JP, CN=x\n            X509v3 Subject Alternative Name: \n                DNS:anypoint.example, DNS:*.anypoint.example, IP Address:10.0.0.1\n    Signature";
    let Look::Seen(seen) = read_certificate(0, old) else { panic!() };
    assert_eq!(seen.common_name.as_deref(), Some("anypoint.example"));
    assert_eq!(seen.dns_names, ["anypoint.example", "*.anypoint.example"]);
    assert_eq!(seen.ip_names, ["10.0.0.1"]);
    assert_eq!(seen.fingerprint, "AA:BB");
    assert_eq!(seen.not_before, Some("2026-11-02T01:02:03Z".parse::<jiff::Timestamp>().unwrap().as_second()));
    assert_eq!(seen.not_after, Some("2027-12-31T23:59:59Z".parse::<jiff::Timestamp>().unwrap().as_second()));
    for (subject, name) in [
        ("C = JP, O = \"Example, Inc.\", CN = a.example", Some("a.example")),
        ("C=JP, CN=a.example", Some("a.example")),
        ("CN=ca.example + CN=a.example", Some("a.example")),
        ("O=nobody", None),
        ("", None),
        ("CN=", None),
    ] {
        assert_eq!(common_name(subject).as_deref(), name, "{subject}");
    }
    for bad in ["", "Nov 2 2027", "Foo  2 01:02:03 2027 GMT", "Nov 32 01:02:03 2027 GMT", "Nov  2 25:02:03 2027 GMT"] {
        assert_eq!(openssl_time(bad), None, "{bad}");
    }
    assert_eq!(read_certificate(200, ""), Look::NotAsked);
    for (rc, text) in [(127, ""), (201, ""), (1, "connect: Connection refused"), (0, "nonsense"), (0, "")] {
        assert!(matches!(read_certificate(rc, text), Look::Unknown(_)), "{rc} {text}");
    }
}

#[test]
fn names_that_do_not_resolve_are_seen_as_such() {
    let both = "10.0.0.1 STREAM a\n10.0.0.1 DGRAM\nfe80::1 STREAM";
    for (rc, text, look) in [
        (0, both, Look::Seen(vec!["10.0.0.1".to_owned(), "fe80::1".to_owned()])),
        (2, "", Look::Seen(vec![])),
        (124, "", Look::Seen(vec![])),
        (200, "", Look::NotAsked),
    ] {
        assert_eq!(read_dns(rc, text), look);
    }
    for (rc, text) in [(127, ""), (1, ""), (0, "junk")] {
        assert!(matches!(read_dns(rc, text), Look::Unknown(_)), "{rc} {text}");
    }
}

#[test]
fn hostile_words_are_refused_or_quoted() {
    let dir = std::path::Path::new("/tmp");
    for bad in ["-x", "a b", "$(touch x)", "a'b", "a\nb", "a\0b"] {
        let failure = script(&ProbeOptions::default(), &questions(bad, dir), NONCE).unwrap_err();
        assert_eq!(failure.kind, Kind::CouldNotStart, "{bad:?}");
    }
    let relative = TargetQuestions { archive_dir: Some("x".into()), ..TargetQuestions::default() };
    assert!(script(&ProbeOptions::default(), &relative, NONCE).is_err());
    let six = script(&ProbeOptions::default(), &questions("https://[2001:db8::1]/", dir), NONCE).unwrap();
    assert!(six.contains("C='[2001:db8::1]:443'") && six.contains("\nV=''\n"), "{six}");
    shellcheck(&six);
}

/// The whole look on a machine with pretend tools, under each shell.
#[test]
fn the_look_says_the_same_under_three_shells() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let pods = dir.path().join("pods.json");
    std::fs::write(&pods, PODS).unwrap();
    let kubectl = tool(
        &bin,
        "kubectl",
        &format!(
            r#"case "$*" in
"get pv -o json") printf '%s' '{{"items":[{{"metadata":{{"name":"o"}},"spec":{{"nfs":{{"path":"/srv","server":"nas-1"}}}},"status":{{"phase":"Bound"}}}},{{"metadata":{{"name":"q"}},"spec":{{"nfs":{{"path":"/b","server":"nas-2"}}}}}},{{"metadata":{{"name":"h"}},"spec":{{"hostPath":{{}}}}}}]}}' ;;
"get pods --all-namespaces -o json") cat {} ;;
*) exit 1 ;;
esac"#,
            pods.display()
        ),
    );
    tool(&bin, "getent", r#"[ "$1" = hosts ] || exit 2; printf '10.2.0.100      %s\n' "$2""#);
    tool(
        &bin,
        "openssl",
        r#"case "$*" in
*s_client*"-connect anypoint.example:443 -servername anypoint.example"*) printf 'CERT\n' ;;
x509*-ext*) exit 1 ;;
x509*-text*) read -r pem; [ "$pem" = CERT ] || exit 1
  printf 'subject= /CN=anypoint.example\nissuer= /CN=ca\nnotAfter=Dec 31 23:59:59 2027 GMT\nSHA256 Fingerprint=AA\n X509v3 Subject Alternative Name: \n  DNS:anypoint.example\n' ;;
*) exit 1 ;;
esac"#,
    );
    tool(&bin, "findmnt", r"printf 'nas-1:/srv /mnt/nfs\n'");
    tool(&bin, "nc", r#"case "$*" in *"nas-1 2049") exit 0 ;; *) exit 1 ;; esac"#);
    tool(&bin, "bash", "exit 1");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let options = ProbeOptions { kubectl, ..ProbeOptions::default() };
    let script = script(&options, &questions("anypoint.example", dir.path()), NONCE).unwrap();
    shellcheck(&script);
    for shell in SHELLS {
        let shell: Vec<&str> = if shell[0] == "bash" { vec!["/bin/bash", "--posix"] } else { shell.to_vec() };
        let out = run(&shell, &script, &path);
        let seen = read("h", NONCE, &out.stdout).unwrap_or_else(|why| panic!("{shell:?}: {why}: {out:?}"));
        assert_eq!(seen.dns, Look::Seen(vec!["10.2.0.100".into()]), "{shell:?}");
        let certificate = seen.certificate.seen().unwrap_or_else(|| panic!("{shell:?}: {:?}", seen.certificate));
        assert_eq!(certificate.dns_names, ["anypoint.example"]);
        assert_eq!(
            seen.nfs_mounts,
            Look::Seen(vec![NfsMount { source: "nas-1:/srv".into(), target: "/mnt/nfs".into() }])
        );
        let reach: Vec<Reach> = seen.nfs_volumes.seen().unwrap().iter().map(|volume| volume.reach.clone()).collect();
        assert_eq!(reach, [Reach::Answers, Reach::Silent], "{shell:?}");
        assert_eq!(seen.pods.seen().map(|pods| pods.total), Some(13), "{shell:?}: {:?}", seen.pods);
        let disks: Vec<&String> = seen.disks.keys().collect();
        assert_eq!(disks.len(), 2, "{disks:?}");
        assert!(seen.disks.values().all(|disk| !disk.exists && disk.total_kib > 0));
        for cut in (0..out.stdout.len().saturating_sub(1)).step_by(97) {
            assert!(read("h", NONCE, &out.stdout[..cut]).is_err(), "{shell:?} cut at {cut}");
        }
    }
}

/// A bare machine tells nothing, and says so.
#[test]
fn a_host_without_tools_is_unknown_and_not_ill() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for name in ["awk", "cat", "df", "grep", "head", "id", "sed", "sort", "tail", "tr", "uname", "date"] {
        let real =
            ["/usr/bin", "/bin"].iter().map(|at| format!("{at}/{name}")).find(|it| std::path::Path::new(it).exists());
        std::os::unix::fs::symlink(real.unwrap(), bin.join(name)).unwrap();
    }
    let options = ProbeOptions { kubectl: "/nowhere/kubectl".into(), ..ProbeOptions::default() };
    let script = script(&options, &questions("anypoint.example", dir.path()), NONCE).unwrap();
    let out = run(&["/bin/dash"], &script, &bin.display().to_string());
    let seen = read("h", NONCE, &out.stdout).unwrap();
    assert!(matches!(seen.dns, Look::Unknown(_)), "{:?}", seen.dns);
    assert!(matches!(seen.certificate, Look::Unknown(_)), "{:?}", seen.certificate);
    assert!(matches!(seen.nfs_volumes, Look::Unknown(_)), "{:?}", seen.nfs_volumes);
    assert!(matches!(seen.pods, Look::Unknown(_)), "{:?}", seen.pods);
    assert!(seen.nfs_mounts.seen().is_some(), "/proc/mounts tells them: {:?}", seen.nfs_mounts);
}

#[tokio::test]
async fn a_lost_or_garbled_look_is_a_failure() {
    for (out, exit, kind) in [
        ("", Exit::Lost("reset".into()), Kind::Unreachable),
        ("banner\n", Exit::Code(0), Kind::Failed),
        ("\nferry-nonce begin dns\n", Exit::Code(0), Kind::Failed),
    ] {
        let reply = Reply { when: "N='ferry-nonce'".into(), out: out.into(), err: vec![], exit };
        let bare = Reply { when: "N=ferry-nonce".into(), ..reply.clone() };
        let session = Session::Fake(FakeSession::new("dr-1", vec![reply, bare]));
        let failure =
            probe_target_with_nonce(&session, &ProbeOptions::default(), &TargetQuestions::default(), NONCE).await;
        let failure = failure.unwrap_err();
        assert_eq!((failure.kind, failure.host.as_deref()), (kind, Some("dr-1")), "{failure}");
    }
}

#[test]
fn a_packed_list_that_is_cut_is_unknown() {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(PODS.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    assert_eq!(unpack(&gz).unwrap(), PODS.as_bytes());
    assert!(unpack(&gz[..gz.len() / 2]).is_err());
    assert_eq!(unpack(b"{}").unwrap(), b"{}");
}

/// What the openssl of this machine says of a certificate, with and without `-ext`.
#[test]
fn a_real_certificate_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("c.pem");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "90",
            "-subj",
            "/C=JP/O=Example, Inc./CN=anypoint.example",
        ])
        .args([
            "-addext",
            "subjectAltName=DNS:anypoint.example,DNS:*.anypoint.example,IP:10.2.0.100",
            "-keyout",
            "/dev/null",
            "-out",
        ])
        .arg(&pem)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for refuse in ["-ext", "-nothing"] {
        tool(
            &bin,
            "openssl",
            &format!(
                "case \" $* \" in *' s_client '*) echo 'depth=0 CN = x' >&2; cat '{}'; exit 1 ;; *' {refuse} '*) exit 1 ;; esac\nPATH=/usr/bin:/bin exec openssl \"$@\"",
                pem.display()
            ),
        );
        let script = script(&ProbeOptions::default(), &questions("anypoint.example", dir.path()), NONCE).unwrap();
        let out = run(&["dash"], &script, &format!("{}:/usr/bin:/bin", bin.display()));
        let facts = read("h", NONCE, &out.stdout).unwrap();
        let seen = facts.certificate.seen().unwrap_or_else(|| panic!("{refuse}: {:?}", facts.certificate));
        assert_eq!(seen.common_name.as_deref(), Some("anypoint.example"), "{refuse}");
        assert_eq!(seen.dns_names, ["anypoint.example", "*.anypoint.example"], "{refuse}");
        assert_eq!(seen.ip_names, ["10.2.0.100"], "{refuse}");
        assert_eq!(seen.fingerprint.len(), 95, "{refuse} {}", seen.fingerprint);
        assert_eq!(seen.not_after.unwrap() - seen.not_before.unwrap(), 90 * 86_400, "{refuse}");
    }
}
