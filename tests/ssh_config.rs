//! ssh_config, read side by side with the installed OpenSSH: what `ssh -G` says is what ferry must say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use ferry::remote::ssh::config::{Files, Here, Resolved, algorithms, resolve};

fn here() -> Here {
    let said = |program: &str, args: &[&str]| {
        String::from_utf8(Command::new(program).args(args).output().unwrap().stdout).unwrap().trim().to_owned()
    };
    Here {
        home: PathBuf::from(said("sh", &["-c", "getent passwd $(id -u) | cut -d: -f6"])),
        user: said("id", &["-un"]),
        uid: said("id", &["-u"]).parse().unwrap(),
        machine: said("hostname", &[]),
        env: |name| std::env::var(name).ok(),
    }
}

/// One line of options for each, as `ssh -G` prints them.
type Answer = BTreeMap<String, Vec<String>>;

const COMPARED: &[&str] = &[
    "hostname",
    "port",
    "user",
    "identityfile",
    "identitiesonly",
    "certificatefile",
    "identityagent",
    "proxyjump",
    "proxycommand",
    "userknownhostsfile",
    "globalknownhostsfile",
    "hostkeyalias",
    "stricthostkeychecking",
    "hashknownhosts",
    "connecttimeout",
    "serveraliveinterval",
    "serveralivecountmax",
    "ciphers",
    "macs",
    "kexalgorithms",
    "hostkeyalgorithms",
    "pubkeyacceptedalgorithms",
    "addressfamily",
    "bindaddress",
    "passwordauthentication",
    "kbdinteractiveauthentication",
    "preferredauthentications",
    "numberofpasswordprompts",
    "batchmode",
    "connectionattempts",
];

/// What OpenSSH says; `Err` with its words when it refuses.
fn openssh(file: &Path, given: &[(String, String)], host: &str) -> Result<Answer, String> {
    let mut ssh = Command::new("ssh");
    ssh.arg("-G").arg("-F").arg(file);
    for (keyword, value) in given {
        ssh.arg("-o").arg(format!("{keyword}={value}"));
    }
    let out = ssh.arg(host).output().unwrap();
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    let mut answer = Answer::new();
    for line in String::from_utf8(out.stdout).unwrap().lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        answer.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    Ok(answer)
}

/// What ferry says, with OpenSSH's defaults (`default`: its answer to an empty file) where it says nothing.
fn ours(resolved: &Resolved, default: &Answer, all: &Answer, host: &str, here: &Here) -> Answer {
    let mut answer = Answer::new();
    for name in COMPARED {
        let one = |value: Option<&str>| value.map(|value| vec![value.to_owned()]);
        let truth = |value: Option<&str>| match value {
            Some("yes") => Some(vec!["yes".to_owned()]),
            Some(other) => Some(vec![other.to_owned()]),
            None => None,
        };
        let value = match *name {
            "hostname" => Some(vec![resolved.host_name.clone()]),
            "port" => resolved.port().map(|port| vec![port.to_string()]),
            "identityfile" | "certificatefile" => Some(resolved.list(name).to_vec()).filter(|list| !list.is_empty()),
            "globalknownhostsfile" => {
                Some(resolved.list(name)).filter(|list| !list.is_empty()).map(|list| vec![list.join(" ")])
            }
            "userknownhostsfile" => {
                let port = resolved.port().unwrap_or(22);
                let user = resolved.value("user").unwrap_or(&here.user).to_owned();
                let filled = |path: &String| match path.as_str() {
                    "none" => path.clone(),
                    path => resolved.path(path, host, port, &user, here).unwrap().display().to_string(),
                };
                let list: Vec<String> = resolved.list(name).iter().map(filled).collect();
                Some(vec![list.join(" ")]).filter(|_| !list.is_empty())
            }
            "identityagent" => resolved.value(name).map(|value| match value {
                "none" | "SSH_AUTH_SOCK" => vec![value.to_owned()],
                path => {
                    let port = resolved.port().unwrap_or(22);
                    let user = resolved.value("user").unwrap_or(&here.user).to_owned();
                    vec![resolved.path(path, host, port, &user, here).unwrap().display().to_string()]
                }
            }),
            "proxyjump" => {
                let hops = resolved.proxy_jump();
                let text: Vec<String> = hops
                    .iter()
                    .map(|hop| {
                        let user = hop.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                        let port = hop.port.map(|port| format!(":{port}")).unwrap_or_default();
                        let host = if hop.host.contains(':') { format!("[{}]", hop.host) } else { hop.host.clone() };
                        format!("{user}{host}{port}")
                    })
                    .collect();
                Some(vec![text.join(",")]).filter(|_| !hops.is_empty())
            }
            "ciphers" | "macs" | "kexalgorithms" | "hostkeyalgorithms" | "pubkeyacceptedalgorithms" => {
                resolved.value(name).map(|spec| {
                    let split =
                        |answer: &Answer| -> Vec<String> { answer[*name][0].split(',').map(str::to_owned).collect() };
                    let (default, all) = (split(default), split(all));
                    let default: Vec<&str> = default.iter().map(String::as_str).collect();
                    let all: Vec<&str> = all.iter().map(String::as_str).collect();
                    vec![algorithms(spec, &default, &all).join(",")]
                })
            }
            "connecttimeout" | "serveraliveinterval" => resolved.value(name).map(|_| match resolved.seconds(name) {
                Some(seconds) => vec![seconds.to_string()],
                None => vec!["none".to_owned()],
            }),
            "stricthostkeychecking" => truth(resolved.value(name)),
            "proxycommand" => one(resolved.value(name).filter(|command| !command.eq_ignore_ascii_case("none"))),
            name => one(resolved.value(name)),
        };
        match value.or_else(|| default.get(*name).cloned()) {
            Some(value) => answer.insert((*name).to_owned(), value),
            None => None,
        };
    }
    answer
}

/// `true` and `yes` are one word, so are the brackets of a hop that needs none.
fn same(name: &str, values: &[String]) -> Vec<String> {
    let word = |value: &String| match (name, value.as_str()) {
        ("stricthostkeychecking" | "hashknownhosts", "true") => "yes".to_owned(),
        ("stricthostkeychecking" | "hashknownhosts", "false" | "off") => "no".to_owned(),
        ("proxycommand", text) => text.trim().to_owned(),
        (_, text) => text.to_owned(),
    };
    values.iter().map(word).collect()
}

struct Case {
    text: String,
    given: Vec<(String, String)>,
    host: String,
}

fn case(text: &str, given: &[(&str, &str)], host: &str) -> Case {
    let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Case { text: text.to_owned(), given, host: host.to_owned() }
}

fn written(yard: &Path) -> Vec<Case> {
    let inc = yard.join("inc").display().to_string();
    let mut cases = vec![
        case("", &[], "node"),
        case("Host *\n Port 2222\nHost node\n Port 23\n", &[], "node"),
        case("Host node\n Port 23\nHost *\n Port 2222\n", &[], "node"),
        case("Host no*,x\n Port 23\n", &[], "node"),
        case("Host x no?e\n Port 23\n", &[], "node"),
        case("Host * !node\n Port 23\n", &[], "node"),
        case("Host !node *\n Port 23\n", &[], "node"),
        case("Host !other *\n Port 23\n", &[], "node"),
        case("Host NODE\n Port 23\n", &[], "node"),
        case("Host node\n Port 23\n", &[], "NODE"),
        case("HostName real-%h.example\nHost real*\n Port 23\n", &[], "node"),
        case("HostName %%%h\n", &[], "node"),
        case("Match host real.example\n Port 23\nHost node\n HostName real.example\n", &[], "node"),
        case("Host node\n HostName real.example\nMatch host real.example\n Port 23\n", &[], "node"),
        case("Host node\n HostName REAL.example\nMatch host real.example\n Port 23\n", &[], "node"),
        case("Host node\n HostName real.example\nMatch originalhost node\n Port 23\n", &[], "node"),
        case("Host node\n HostName real.example\nMatch originalhost real.example\n Port 23\n", &[], "node"),
        case("Match user ops\n Port 23\n", &[("User", "ops")], "node"),
        case("User ops\nMatch user ops\n Port 23\n", &[], "node"),
        case("Match user ops\n Port 23\nMatch all\n User ops\n", &[], "node"),
        case("Match !user nobody\n Port 23\n", &[], "node"),
        case("Match localuser root\n Port 23\n", &[], "node"),
        case("Match exec \"test %h = node\"\n Port 23\n", &[], "node"),
        case("Match exec \"test %h = other\"\n Port 23\n", &[], "node"),
        case("Match host node exec \"test %p = 22\" user root\n Port 23\n", &[], "node"),
        case("Match host other exec \"false\"\n Port 23\nMatch host node !exec \"false\"\n Port 24\n", &[], "node"),
        case("Match host=node\n Port 23\n", &[], "node"),
        case("Match host \"node,other\"\n Port 23\n", &[], "node"),
        case("Match host node,!node\n Port 23\n", &[], "node"),
        case("Match final host real\n Port 23\nHost node\n HostName real\n", &[], "node"),
        case("Match canonical\n Port 23\n", &[], "node"),
        case(
            "Host node\n HostName real\n IdentityFile ~/a\nMatch final all\n IdentityFile ~/b\nHost real\n Port 24\n",
            &[],
            "node",
        ),
        case("Match all\n Port 23\n", &[], "node"),
        case("Port=23\nUser = ops\nHostName   =    x\n", &[], "node"),
        case("  Port\t23  \t\n\tUser\tops\r\n", &[], "node"),
        case("Port 23 # a comment\nUser ops#notone\n", &[], "node"),
        case("User \"a b\"\nIdentityFile \"~/my key\" \n", &[], "node"),
        case("User 'a b'\nIdentityFile ~/my\\ key\n", &[], "node"),
        case("User a\\\"b\n", &[], "node"),
        case("IdentityFile ~/a\nIdentityFile ~/b\nIdentityFile ~/a\n", &[], "node"),
        case("IdentityFile ~/a\n", &[("IdentityFile", "~/first")], "node"),
        case("IdentityFile none\n", &[], "node"),
        case("CertificateFile ~/a-cert.pub\nCertificateFile ~/b-cert.pub\n", &[], "node"),
        case("IdentityAgent none\n", &[], "node"),
        case("IdentityAgent SSH_AUTH_SOCK\n", &[], "node"),
        case("IdentityAgent ~/agent-%h-%p-%r-%u-%n.sock\nUser ops\nPort 23\n", &[], "node"),
        case("IdentitiesOnly yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n", &[], "node"),
        case("ChallengeResponseAuthentication no\n", &[], "node"),
        case("PreferredAuthentications publickey,password\n", &[], "node"),
        case("ProxyJump bastion\n", &[], "node"),
        case("ProxyJump ops@bastion:2222\n", &[], "node"),
        case("ProxyJump a,ops@b:24,c\n", &[], "node"),
        case("ProxyJump ssh://ops@bastion:2222\n", &[], "node"),
        case("ProxyJump ops@[2001:db8::1]:2222\n", &[], "node"),
        case("ProxyJump none\nProxyJump bastion\n", &[], "node"),
        case("Host node\n ProxyJump none\nHost *\n ProxyCommand nc %h %p\n", &[], "node"),
        case("ProxyCommand nc \"%h\" %p # not a comment\nProxyJump bastion\n", &[], "node"),
        case("ProxyJump bastion\nProxyCommand nc %h %p\n", &[], "node"),
        case("ProxyCommand=nc %h %p\n", &[], "node"),
        case("ProxyCommand none\n", &[], "node"),
        case("ProxyJump bastion\n", &[("ProxyJump", "other")], "node"),
        case("ProxyJump bastion\n", &[("ProxyCommand", "nc %h %p")], "node"),
        case("UserKnownHostsFile ~/a ~/b\nUserKnownHostsFile ~/c\n", &[], "node"),
        case("UserKnownHostsFile \"~/a b\" ~/c\n", &[], "node"),
        case("UserKnownHostsFile ~/a none\n", &[], "node"),
        case("UserKnownHostsFile none\nGlobalKnownHostsFile /dev/null\n", &[], "node"),
        case("HostKeyAlias the-cluster\nHashKnownHosts yes\n", &[], "node"),
        case("AddressFamily inet6\nBindAddress ::1\n", &[], "node"),
        case(
            "ConnectTimeout 1m30s\nServerAliveInterval 1h\nServerAliveCountMax 7\nConnectionAttempts 3\n",
            &[],
            "node",
        ),
        case("ConnectTimeout none\nServerAliveInterval 15\n", &[], "node"),
        case("ConnectTimeout 5\n", &[("ConnectTimeout", "9")], "node"),
        case("IgnoreUnknown Use*,Foo\nUseKeychain yes\nFoo bar\nPort 23\n", &[], "node"),
        case(
            "ForwardAgent yes\nForwardX11 yes\nLocalForward 1 localhost:2\nSendEnv LANG LC_*\nCompression yes\n",
            &[],
            "node",
        ),
        case("Ciphers aes128-ctr,aes256-ctr\nMACs hmac-sha2-256\nKexAlgorithms curve25519-sha256\n", &[], "node"),
        case("Ciphers +3des-cbc\nMACs -*sha1*\nKexAlgorithms ^ecdh-sha2-nistp256\n", &[], "node"),
        case("Ciphers -aes*\nHostKeyAlgorithms ssh-ed25519\n", &[], "node"),
        case("HostKeyAlgorithms ^rsa-sha2-512\nPubkeyAcceptedAlgorithms +ssh-rsa\n", &[], "node"),
        case("PubkeyAcceptedKeyTypes ssh-ed25519\nHostKeyAlgorithms -ecdsa*,ssh-ed25519\n", &[], "node"),
        // Debian's ssh has a default of its own for this interval under BatchMode.
        case("BatchMode yes\nServerAliveInterval 5\nNumberOfPasswordPrompts 1\n", &[], "node"),
        case("Host 10.0.*\n User ten\nHost 2001:db8::*\n User six\n", &[], "2001:db8::7"),
        case("Host 10.0.*\n User ten\n", &[], "10.0.3.4"),
    ];
    for value in ["yes", "no", "ask", "accept-new", "off", "true", "false", "YES"] {
        cases.push(case(&format!("StrictHostKeyChecking {value}\n"), &[], "node"));
    }
    for included in [
        "Port 23\n",
        "Host node\n Port 23\n",
        "Host other\n Port 23\n",
        "Match all\n Port 23\n",
        "Host x\n Port 1\nHost node\n User ops\n",
    ] {
        std::fs::write(format!("{inc}-{}", cases.len()), included).unwrap();
        let file = format!("{inc}-{}", cases.len());
        for frame in [
            "Include F\nUser after\n",
            "Host node\n Include F\n User after\n",
            "Host other\n Include F\nHost node\n User after\n",
        ] {
            cases.push(case(&frame.replace('F', &file), &[], "node"));
        }
    }
    cases.push(case(&format!("Include {inc}-*\nInclude {inc}-missing\nPort 99\n"), &[], "node"));
    cases
}

/// Files put together by chance from pieces in which order, blocks and first values matter.
fn generated(count: usize) -> Vec<Case> {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 33) as usize % below
    };
    let blocks = [
        "Host node",
        "Host other",
        "Host *",
        "Host n* !node",
        "Host node other",
        "Match host node",
        "Match originalhost node",
        "Match all",
        "Match user ops",
        "Match !host node",
        "Match host real",
        "Match host node user ops",
        "Match exec \"true\"",
        "Host real",
    ];
    let options = [
        "Port 23",
        "Port 24",
        "User ops",
        "User dev",
        "HostName real",
        "HostName %h.example",
        "ProxyJump bastion",
        "ProxyJump none",
        "ProxyCommand nc %h %p",
        "IdentityFile ~/a",
        "IdentityFile ~/b",
        "IdentitiesOnly yes",
        "IdentitiesOnly no",
        "HostKeyAlias one",
        "StrictHostKeyChecking no",
        "StrictHostKeyChecking accept-new",
        "UserKnownHostsFile ~/k1 ~/k2",
        "UserKnownHostsFile ~/k3",
        "ConnectTimeout 7",
        "ConnectTimeout 2m",
        "Ciphers aes128-ctr",
        "Ciphers +aes128-cbc",
        "MACs -hmac-sha1*",
        "BindAddress 127.0.0.1",
        "PasswordAuthentication no",
        "ServerAliveInterval 30",
        "AddressFamily inet",
        "CertificateFile ~/c",
        "IdentityAgent none",
    ];
    (0..count)
        .map(|_| {
            let mut text = String::new();
            for _ in 0..1 + next(5) {
                if next(4) > 0 {
                    text += blocks[next(blocks.len())];
                    text += "\n";
                }
                for _ in 0..1 + next(5) {
                    text += &format!("  {}\n", options[next(options.len())]);
                }
            }
            let given = match next(4) {
                0 => vec![("Port".to_owned(), "26".to_owned())],
                1 => vec![("User".to_owned(), "ops".to_owned())],
                _ => Vec::new(),
            };
            Case { text, given, host: ["node", "other", "real"][next(3)].to_owned() }
        })
        .collect()
}

#[test]
fn every_answer_is_that_of_ssh_g() {
    let yard = tempfile::tempdir().unwrap();
    let here = here();
    let file = yard.path().join("config");
    std::fs::write(&file, "").unwrap();
    let default = openssh(&file, &[], "node").unwrap();
    // All names that there are, for patterns.
    let mut all = default.clone();
    for (name, query) in [
        ("ciphers", "cipher"),
        ("macs", "mac"),
        ("kexalgorithms", "kex"),
        ("hostkeyalgorithms", "HostKeyAlgorithms"),
        ("pubkeyacceptedalgorithms", "PubkeyAcceptedAlgorithms"),
    ] {
        let out = Command::new("ssh").args(["-Q", query]).output().unwrap().stdout;
        all.insert(name.to_owned(), vec![String::from_utf8(out).unwrap().lines().collect::<Vec<_>>().join(",")]);
    }
    let count = if std::env::var_os("FERRY_LONG").is_some() { 3_000 } else { 150 };
    let (mut compared, mut different) = (0, Vec::new());
    for case in written(yard.path()).into_iter().chain(generated(count)) {
        std::fs::write(&file, &case.text).unwrap();
        let theirs = openssh(&file, &case.given, &case.host);
        let mine = resolve(&case.host, &case.given, &Files::only(&file), &here);
        let shown = format!("{}\n{:?} {}", case.text, case.given, case.host);
        match (theirs, mine) {
            (Ok(theirs), Ok(mine)) => {
                let mine = ours(&mine, &default, &all, &case.host, &here);
                for name in COMPARED {
                    let empty = Vec::new();
                    let (a, b) = (theirs.get(*name).unwrap_or(&empty), mine.get(*name).unwrap_or(&empty));
                    // The default of an empty answer is not the answer of another host.
                    let b = if *name == "hostname" { &vec![mine["hostname"][0].clone()] } else { b };
                    if same(name, a) != same(name, b) {
                        different.push(format!("{shown}\n  {name}: OpenSSH {a:?}, ferry {b:?}"));
                    }
                }
                compared += 1;
            }
            (Err(_), Err(_)) => compared += 1,
            (theirs, mine) => different.push(format!(
                "{shown}\n  OpenSSH {:?}, ferry {:?}",
                theirs.err(),
                mine.err().map(|failure| failure.what)
            )),
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n---\n"));
    assert!(compared >= 100 + count);
    println!("{compared} configurations: the same answer as ssh -G");
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_openssh_refuses_it_too() {
    let yard = tempfile::tempdir().unwrap();
    let file = yard.path().join("config");
    for (text, line, column, what, also) in [
        ("Host a\n  Prt 22\n", 2, 3, "Prt is no option of ssh", true),
        ("Port 0\n", 1, 6, "Port \"0\": 1 to 65535 expected", true),
        ("Host other\n Port many\n", 2, 7, "Port \"many\"", true),
        ("User\n", 1, 1, "User needs a value", true),
        ("User a b\n", 1, 8, "User takes one value", true),
        ("IdentitiesOnly maybe\n", 1, 16, "yes or no expected", true),
        ("User \"a\n", 1, 1, "a quote is not closed", true),
        ("StrictHostKeyChecking often\n", 1, 23, "accept-new expected", true),
        ("ConnectTimeout soon\n", 1, 16, "a time expected", true),
        ("ProxyJump a:b:c@\n", 1, 11, "is no jump host", true),
        ("Match\n", 1, 1, "needs a value", true),
        ("Match host\n", 1, 7, "Match host needs a value", true),
        ("Match weather fine\n", 1, 7, "no criterion", true),
        ("AddressFamily inet5\n", 1, 15, "inet6 expected", true),
        // What ferry cannot honour and OpenSSH can.
        ("Port 23\nKnownHostsCommand /bin/x %H\n", 2, 1, "ferry runs no command for host keys", false),
        ("CanonicalizeHostname yes\n", 1, 1, "does not complete host names", false),
        ("RevokedHostKeys /etc/ssh/krl\n", 1, 1, "revocation", false),
        ("BindInterface lo\n", 1, 1, "interface", false),
        ("ProxyUseFdpass yes\n", 1, 1, "ProxyCommand", false),
    ] {
        std::fs::write(&file, text).unwrap();
        let failure = resolve("node", &[], &Files::only(&file), &here()).unwrap_err();
        assert!(failure.what.contains(what), "{text}: {}", failure.what);
        let place = failure.place.unwrap();
        assert_eq!((place.line, place.column), (line, column), "{text}: {place}");
        assert!(failure.snippet.is_some());
        assert_eq!(openssh(&file, &[], "node").is_err(), also, "{text}");
    }
    // In a block that is not this host's, what cannot be honoured does not matter.
    std::fs::write(&file, "Host other\n CanonicalizeHostname yes\n").unwrap();
    assert!(resolve("node", &[], &Files::only(&file), &here()).is_ok());
    // Several are told at once.
    std::fs::write(&file, "Port 0\nPrt 1\n").unwrap();
    assert_eq!(resolve("node", &[], &Files::only(&file), &here()).unwrap_err().more.len(), 1);
}

#[test]
fn a_file_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".ssh/config");
    std::fs::create_dir(home.path().join(".ssh")).unwrap();
    std::fs::write(&file, "Port 23\n").unwrap();
    let here = Here { home: home.path().to_owned(), ..here() };
    let files = Files { system: None, ..Files::usual(home.path()) };
    assert_eq!(resolve("node", &[], &files, &here).unwrap().port(), Some(23));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let failure = resolve("node", &[], &files, &here).unwrap_err();
    assert!(failure.what.contains("others may write"), "{failure:?}");
    assert!(failure.mend.unwrap().starts_with("chmod go-w"));
}

#[test]
fn tokens_and_variables_are_filled_in() {
    let yard = tempfile::tempdir().unwrap();
    let file = yard.path().join("config");
    std::fs::write(&file, "HostName real.%h\nUser ops\nProxyCommand nc -X %% %h %n %p %r\nHostKeyAlias al\n").unwrap();
    let here = here();
    let resolved = resolve("node", &[], &Files::only(&file), &here).unwrap();
    assert_eq!(resolved.proxy_command("node", 23, "ops").unwrap().unwrap(), "nc -X % real.node node 23 ops");
    let path = |text: &str| resolved.path(text, "node", 23, "ops", &here).map(|path| path.display().to_string());
    let short = here.machine.split('.').next().unwrap();
    let expected = format!("/real.node-node-23-ops-{}-{}-{}-{}-al", here.user, here.uid, here.machine, short);
    assert_eq!(path("/%h-%n-%p-%r-%u-%i-%l-%L-%k").unwrap(), expected);
    assert_eq!(path("~/x").unwrap(), here.home.join("x").display().to_string());
    assert_eq!(path("%d/x").unwrap(), here.home.join("x").display().to_string());
    assert_eq!(path("${HOME}/x").unwrap(), format!("{}/x", std::env::var("HOME").unwrap()));
    assert!(path("${FERRY_NO_SUCH_VARIABLE}/x").is_err() && path("%Q").is_err() && path("${HOME").is_err());
}
