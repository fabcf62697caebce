//! What may go wrong on the way to a host and on it.
//!
//! What lives here: name, TCP and greeting of the first server on the way, the greetings of those behind it, the real
//! connection by which everything else is done, sudo, and what ferry needs there. What does not: this machine (`here`).
//!
//! A key that nobody recorded is told and not written down, whatever the settings say.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::greeting::{self, Greeting};
use super::{Found, Seen};
use crate::cli::open::Opened;
use crate::event::Severity;
use crate::failure::{Failure, Kind};
use crate::remote::ssh::connect::{self, Lane, Strict, Target};
use crate::remote::{Command, Session, Way, quote};
use crate::report::figures::human_bytes;

/// A clock that is off by more than this is told, in seconds.
pub(super) const CLOCK_OFF: i64 = 30;
/// A login or a sudo that takes longer than this is slow.
const SLOW: Duration = Duration::from_secs(3);
/// Job folders need little; logs of a long job some.
const LEAST_NODE: u64 = 64 << 20;
const LITTLE_NODE: u64 = 1 << 30;
/// How long what is run on a host may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the login user sees. One line for every login shell: it is given to `sh`.
const LOGIN: &str = r#"
printf '%s user %s\n' "$M" "$(id -un)"
printf '%s shell %s\n' "$M" "${SHELL:-?}"
printf '%s name %s\n' "$M" "$(uname -n)"
if [ -n "$N" ]; then
  if sudo -n -k true </dev/null >/dev/null 2>&1; then printf '%s sudo_free yes\n' "$M"; else printf '%s sudo_free no\n' "$M"; fi
fi
"#;

/// What the become user sees. Everything is read, nothing is written.
const ROOT: &str = r#"
printf '%s now %s\n' "$M" "$(date +%s)"
printf '%s uid %s\n' "$M" "$(id -u)"
[ "$(printf abc | head -c 2 2>/dev/null)" = ab ] && printf '%s has head\n' "$M"
case $(stat -c %s / 2>/dev/null) in ''|*[!0-9]*) ;; *) printf '%s has stat\n' "$M" ;; esac
for t in mktemp setsid systemd-run gzip openssl sha256sum shasum timeout df od tar flock nohup; do
  command -v "$t" >/dev/null 2>&1 && printf '%s has %s\n' "$M" "$t"
done
p=$D
while [ ! -d "$p" ] && [ "$p" != / ] && [ -n "$p" ]; do p=${p%/*}; [ -n "$p" ] || p=/; done
df -Pk "$p" 2>/dev/null | while read -r _ total _ avail _ at; do
  case $total in
    ''|*[!0-9]*) ;;
    *)
      printf '%s disk %s %s\n' "$M" "$avail" "$at"
      while read -r _ on _ options _; do
        [ "$on" = "$at" ] && printf '%s mount %s\n' "$M" "$options"
      done </proc/mounts
      ;;
  esac
done
printf '%s tmout %s\n' "$M" "${TMOUT:-}"
if [ "$(id -u)" = 0 ] && command -v sshd >/dev/null 2>&1; then
  sshd -T 2>/dev/null | while read -r name value; do
    case $name in maxsessions|maxstartups|maxauthtries|clientaliveinterval|clientalivecountmax) printf '%s sshd %s %s\n' "$M" "$name" "$value" ;; esac
  done
fi
exit 0
"#;

/// What was seen of a server before anybody logged in: the time of TCP, and its greeting.
type Door = Arc<OnceCell<Result<(Duration, Greeting), Box<Found>>>>;

/// Looks at hosts; servers that several share are looked at once.
pub(super) struct Looker<'a> {
    opened: &'a Opened,
    doors: Mutex<HashMap<(String, u16), Door>>,
}

/// Never writes a key down, on no hop.
fn careful(target: &mut Target) {
    target.strict = Strict::Yes;
    if let Some(hop) = &mut target.jump {
        careful(hop);
    }
}

fn first_hop(target: &Target) -> &Target {
    target.jump.as_deref().map_or(target, first_hop)
}

fn hops(target: &Target) -> usize {
    target.jump.as_deref().map_or(0, |hop| 1 + hops(hop))
}

/// The servers behind the first, in the order of the way.
fn behind(target: &Target) -> Vec<&Target> {
    let mut all = target.jump.as_deref().map(behind).unwrap_or_default();
    if target.jump.is_some() {
        all.push(target);
    }
    all
}

/// The greeting of a server behind others, seen from the last of them.
async fn beyond(target: &Target) -> Result<Option<Greeting>, Vec<Found>> {
    match connect::knock(target).await {
        Ok(None) => Ok(None),
        Ok(Some(mut stream)) => match greeting::read(&mut stream, target.timeout).await {
            Ok(greeting) => Ok(Some(greeting)),
            Err(what) => Err(vec![
                Found::wrong("banner", Kind::Unreachable, format!("{} port {}: {what}", target.address, target.port))
                    .why(format!("the jump host reaches something there, by {}", target.way()))
                    .mend("is it the right port (ansible_port)? else look in sshd's log there"),
            ]),
        },
        Err(failure) => Err(refused(&failure, false)),
    }
}

fn milliseconds(time: Duration) -> String {
    let micros = time.as_micros();
    if micros < 10_000 {
        format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
    } else {
        format!("{} ms", micros / 1000)
    }
}

impl<'a> Looker<'a> {
    pub(super) fn new(opened: &'a Opened) -> Self {
        Self { opened, doors: Mutex::default() }
    }

    /// All about one host.
    pub(super) async fn look(&self, host: &str) -> Seen {
        let mut seen = Seen::default();
        match self.opened.ways(&[host.to_owned()]) {
            Err(failure) => seen.found.extend(Found::of("settings", &failure)),
            Ok((mut ways, vars)) => {
                let vars = vars.get(host).cloned().unwrap_or_default();
                let node_dir = vars.get("ferry_node_dir").and_then(|value| value.as_str()).unwrap_or("/var/lib/ferry");
                if let Some(way) = ways.remove(host) {
                    self.reach(host, way, node_dir, &mut seen).await;
                }
            }
        }
        for found in &mut seen.found {
            found.finding.host.get_or_insert_with(|| host.to_owned());
        }
        seen
    }

    async fn door(&self, target: &Target) -> Result<(Duration, Greeting), Box<Found>> {
        let key = (target.address.clone(), target.port);
        let door = Arc::clone(self.doors.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        door.get_or_init(|| knock(target)).await.clone()
    }

    async fn reach(&self, host: &str, mut way: Way, node_dir: &str, seen: &mut Seen) {
        let mut writes_keys = false;
        if let Way::Ssh(target) = &mut way {
            writes_keys = target.strict == Strict::AcceptNew;
            careful(target);
            let first = first_hop(target);
            let through = hops(target);
            if target.careless {
                seen.found.push(
                    Found::warn("host key", "host key checking is switched off for it")
                        .why("backup, restore, migrate, drill and transfer refuse to run so")
                        .mend("record its key: ssh-keyscan; and remove ansible_host_key_checking: false"),
                );
            }
            let door = match &first.proxy {
                // What the command reaches only the real attempt can tell.
                Some(_) => {
                    seen.facts.push(("proxy", "by ProxyCommand".to_owned()));
                    None
                }
                None => Some(self.door(first).await),
            };
            match door {
                None => {}
                Some(Ok((time, greeting))) => {
                    let where_ = if through > 0 { format!("jump host {} ", first.address) } else { String::new() };
                    seen.facts.push(("server", format!("{where_}{}", greeting.software())));
                    seen.facts.push(("tcp", milliseconds(time)));
                    if !greeting.kex.is_empty() {
                        let text = format!("{} offers {}", first.address, greeting.kex.join(", "));
                        seen.found.push(Found::pass("key exchange", text));
                    }
                    seen.found.extend(judge(&greeting, first));
                }
                Some(Err(found)) => {
                    // The real attempt would say the same again.
                    seen.found.push(*found);
                    return;
                }
            }
            if through > 0 {
                seen.facts
                    .push(("hops", format!("through {through} jump host{}", if through == 1 { "" } else { "s" })));
                for server in behind(target) {
                    match beyond(server).await {
                        Ok(None) => {}
                        Ok(Some(greeting)) => {
                            if server.jump.is_some() && hops(server) == through {
                                seen.facts.push(("behind", format!("the host {}", greeting.software())));
                            }
                            if !greeting.kex.is_empty() {
                                let text = format!("{} offers {}", server.address, greeting.kex.join(", "));
                                seen.found.push(Found::pass("key exchange", text));
                            }
                            seen.found.extend(judge(&greeting, server));
                        }
                        Err(found) => {
                            // The real attempt would come no further.
                            seen.found.extend(found);
                            return;
                        }
                    }
                }
            }
        }
        let began = Instant::now();
        let session = match way.connect(Lane::Control).await {
            Ok(session) => session,
            Err(failure) => {
                seen.found.extend(refused(&failure, writes_keys));
                return;
            }
        };
        let took = began.elapsed();
        let by = if let Session::Ssh(ssh) = &session { format!(" by {}", ssh.logged_in_by()) } else { String::new() };
        seen.facts.push(("login", format!("login{by} in {}", milliseconds(took))));
        if took > SLOW {
            seen.found.push(
                Found::warn("login", format!("logging in took {:.1} s", took.as_secs_f64()))
                    .why("every command waits for it once")
                    .mend("there: UseDNS no and GSSAPIAuthentication no in sshd_config; look whether DNS or PAM hangs"),
            );
        }
        self.login(&session, seen).await;
        self.root(host, &session, node_dir, seen).await;
        session.close().await;
    }

    /// The login user's shell.
    async fn login(&self, session: &Session, seen: &mut Seen) {
        let mark = format!("@@{:032x}", rand::random::<u128>());
        let plan = session.become_plan();
        let asks = if plan.on && plan.password.is_some() { "1" } else { "" };
        // csh takes no line feed within a command: sh reads its script from its input.
        let began = Instant::now();
        let said = login_says(session, &format!("M={mark} N={asks}\n{LOGIN}")).await;
        let took = began.elapsed();
        let (out, err) = match said {
            Ok(said) => said,
            Err(failure) => {
                seen.found.extend(Found::of("shell", &failure));
                return;
            }
        };
        let find = |key: &str| find(&out, &mark, key);
        if let (Some(user), Some(shell)) = (find("user"), find("shell")) {
            seen.facts.push(("user", format!("{user} with {shell}")));
        } else {
            seen.found.push(
                Found::wrong("shell", Kind::Failed, format!("no shell runs commands there{}", said_in_brackets(&err)))
                    .why("everything is done by sh on the host")
                    .mend("log in by hand and look at the user's shell: getent passwd USER"),
            );
        }
        let noise = out.split(mark.as_str()).next().unwrap_or_default().trim();
        if !noise.is_empty() {
            seen.found.push(
                Found::warn("shell", format!("the login shell says something before any command: {}", short(noise)))
                    .why("scp, rsync and sftp stumble over it; ferry does not")
                    .mend("there, in .bashrc or .cshrc: nothing may print when the shell is not interactive"),
            );
        }
        if took > SLOW {
            seen.found.push(
                Found::warn("shell", format!("a command took {:.1} s to begin", took.as_secs_f64()))
                    .mend("there: look at what .bashrc, .profile or .cshrc do"),
            );
        }
        if let Some(free) = find("sudo_free") {
            seen.facts.push((
                "sudo_password",
                if free == "yes" { "sudo without its password" } else { "sudo by password" }.to_owned(),
            ));
        }
    }

    /// The become user, and what ferry needs there.
    async fn root(&self, host: &str, session: &Session, node_dir: &str, seen: &mut Seen) {
        let mark = format!("@@{:032x}", rand::random::<u128>());
        let Ok(dir) = quote(node_dir) else { return };
        let (began, before) = (Instant::now(), jiff::Timestamp::now().as_second());
        let said = match session.run_root(&format!("M={mark} D={dir}\n{ROOT}"), PATIENCE).await {
            Ok(said) => said,
            Err(failure) => {
                let gate = failure.chain.last().cloned().unwrap_or_else(|| "sudo".to_owned());
                seen.found.extend(Found::of(&gate, &failure));
                return;
            }
        };
        let (took, after) = (began.elapsed(), jiff::Timestamp::now().as_second());
        let text = said.text();
        let find = |key: &str| find(&text, &mark, key);
        let plan = session.become_plan();
        match (find("uid").as_deref(), plan.on) {
            (Some("0"), true) => seen.facts.push(("root", "root by sudo".to_owned())),
            (Some("0"), false) => seen.facts.push(("root", "root".to_owned())),
            (Some(_), true) => seen.facts.push(("root", format!("{} by sudo", plan.user))),
            (Some(uid), false) => seen.found.push(
                Found::warn("sudo", format!("commands run as uid {uid} there"))
                    .why("gravity, and the folders of jobs, need root")
                    .mend("-b, or ansible_become: true in the inventory"),
            ),
            (None, _) => seen.found.push(
                Found::wrong("shell", Kind::Failed, "what the host answered could not be read")
                    .why("everything is done by sh on the host")
                    .mend(format!("ferry exec {host} -- id")),
            ),
        }
        if took > SLOW {
            seen.found.push(
                Found::warn("sudo", format!("becoming {} took {:.1} s", plan.user, took.as_secs_f64()))
                    .mend("there: look whether DNS, PAM or a directory server hangs; time sudo true"),
            );
        }
        if find("uid").is_none() {
            return;
        }
        if let Some(now) = find("now").and_then(|now| now.parse::<i64>().ok()) {
            // The answer came from between the two looks at our clock.
            let off = if now < before { now - before } else { (now - after).max(0) };
            seen.clock = Some(off);
            seen.facts
                .push(("clock", if off == 0 { "clock agrees".to_owned() } else { format!("clock off by {off} s") }));
            if off.abs() > CLOCK_OFF {
                seen.found.push(
                    Found::warn("clock", format!("its clock differs from this machine's by {off} s"))
                        .why("certificates fail, and times in logs of several nodes do not fit")
                        .mend("there: timedatectl set-ntp true; chronyc makestep"),
                );
            }
        }
        let has: Vec<String> = all(&text, &mark, "has").collect();
        seen.found.extend(tools(&has));
        if let Some((free, at)) = find("disk").and_then(|line| {
            let (free, at) = line.split_once(' ')?;
            Some((free.parse::<u64>().ok()?.saturating_mul(1024), at.to_owned()))
        }) {
            seen.facts.push(("disk", format!("{} free on {at}", human_bytes(free))));
            let what = format!("{node_dir} is on {at}, which has {} free", human_bytes(free));
            let found = match free {
                free if free < LEAST_NODE => Some(Found::wrong("space", Kind::Failed, what)),
                free if free < LITTLE_NODE => Some(Found::warn("space", what)),
                _ => None,
            };
            seen.found.extend(found.map(|found| {
                found
                    .why("jobs keep their logs there, and archives are made beside them")
                    .mend(format!("there: du -xsh {at}/* | sort -h; or set ferry_node_dir"))
            }));
        } else {
            seen.found
                .push(Found::warn("space", format!("the free space of {node_dir} is not known")).mend("there: df -Pk"));
        }
        // A mount point may be covered: the last one counts.
        let options = all(&text, &mark, "mount").last().unwrap_or_default();
        let options: Vec<&str> = options.split(',').collect();
        if options.contains(&"noexec") {
            seen.facts.push(("noexec", "noexec".to_owned()));
            seen.found.push(Found::pass(
                "space",
                format!("{node_dir} is mounted noexec; ferry gives its scripts to sh and minds not"),
            ));
        }
        if options.contains(&"ro") {
            seen.found.push(
                Found::wrong(
                    "space",
                    Kind::Failed,
                    format!("{node_dir} is on a file system that is mounted read-only"),
                )
                .why("no job can be started there")
                .mend("there: mount | grep ' ro,'; dmesg; or set ferry_node_dir"),
            );
        }
        if let Some(seconds) = find("tmout").filter(|value| !value.is_empty()) {
            seen.found.push(Found::pass(
                "shell",
                format!("TMOUT={seconds} is set there; it ends idle interactive shells only"),
            ));
        }
        limits(&text, &mark, seen);
    }
}

/// A script given to `sh` as the login user, and what was said.
async fn login_says(session: &Session, script: &str) -> Result<(String, String), Failure> {
    let work = async {
        let mut child = session.open(&Command::shell("exec /bin/sh")).await?;
        // Said before the script was read to its end: an input that ended is for the answer to tell.
        let _ = child.write(script.as_bytes()).await;
        child.close_input().await;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(piece) = child.next().await {
            let (into, bytes) = match &piece {
                crate::remote::Piece::Out(bytes) => (&mut out, bytes),
                crate::remote::Piece::Err(bytes) => (&mut err, bytes),
            };
            let room = (64_usize << 10).saturating_sub(into.len()).min(bytes.len());
            into.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        Ok((String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned()))
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| {
        Err(Failure::new(Kind::Unreachable, format!("a command did not end within {} s", PATIENCE.as_secs()))
            .on(session.host()))
    })
}

/// Every line that begins with the mark and this key, without them.
fn all<'t>(text: &'t str, mark: &'t str, key: &'t str) -> impl Iterator<Item = String> + 't {
    text.lines().filter_map(move |line| {
        let rest = line.get(line.find(mark)? + mark.len()..)?.strip_prefix(' ')?.strip_prefix(key)?;
        rest.is_empty().then_some("").or_else(|| rest.strip_prefix(' ')).map(|rest| rest.trim().to_owned())
    })
}

fn find(text: &str, mark: &str, key: &str) -> Option<String> {
    all(text, mark, key).next()
}

fn short(text: &str) -> String {
    let line: String = text.lines().next().unwrap_or_default().chars().take(80).collect();
    format!("{line:?}")
}

fn said_in_brackets(text: &str) -> String {
    if text.trim().is_empty() { String::new() } else { format!(" ({})", short(text.trim())) }
}

/// Name, TCP and greeting of a server.
async fn knock(target: &Target) -> Result<(Duration, Greeting), Box<Found>> {
    let name = format!("{} port {}", target.address, target.port);
    let wrong = |gate: &str, what: String| Found::wrong(gate, Kind::Unreachable, what);
    let looked =
        tokio::time::timeout(target.timeout, tokio::net::lookup_host((target.address.as_str(), target.port))).await;
    let addresses: Vec<SocketAddr> = match looked {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            return Err(Box::new(
                wrong("DNS", format!("the name {} could not be resolved ({error})", target.address))
                    .why("there is no way to the host without its address")
                    .mend(format!("getent hosts {}; or set ansible_host to an address", target.address)),
            ));
        }
        Err(_) => {
            return Err(Box::new(
                wrong("DNS", format!("resolving {} took more than {} s", target.address, target.timeout.as_secs()))
                    .mend("look at /etc/resolv.conf"),
            ));
        }
    };
    let mut last = wrong("DNS", format!("the name {} has no address", target.address));
    for address in addresses {
        let began = Instant::now();
        match tokio::time::timeout(target.timeout, TcpStream::connect(address)).await {
            Ok(Ok(mut stream)) => {
                let time = began.elapsed();
                return match greeting::read(&mut stream, target.timeout).await {
                    Ok(greeting) => Ok((time, greeting)),
                    Err(what) => Err(Box::new(
                        wrong("banner", format!("{name}: {what}"))
                            .why("sshd drops connections when too many come at once (MaxStartups) or after failed ones (PerSourcePenalties)")
                            .mend("is it the right port (ansible_port)? else look in sshd's log there"),
                    )),
                };
            }
            Ok(Err(error)) => {
                let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
                last = wrong("TCP", format!("no connection to {address} ({error})")).mend(if refused {
                    "is sshd running there, and is this its port (ansible_port)?"
                } else {
                    "is the address right, and does a firewall let us through?"
                });
            }
            Err(_) => {
                last = wrong("TCP", format!("no connection to {address} within {} s", target.timeout.as_secs()))
                    .mend("is the host up, and does a firewall drop us? -T SECONDS raises the limit");
            }
        }
    }
    Err(Box::new(last.why("there is no way to the host")))
}

/// What a greeting tells about tonight.
fn judge(greeting: &Greeting, target: &Target) -> Vec<Found> {
    let mut found = Vec::new();
    if !greeting.banner.starts_with("SSH-2.0-") && !greeting.banner.starts_with("SSH-1.99-") {
        found.push(
            Found::wrong(
                "banner",
                Kind::Unreachable,
                format!("{} speaks an SSH of before 2006: {}", target.address, greeting.banner),
            )
            .mend("bring its server up to date"),
        );
    }
    // Markers of extensions are no algorithms.
    let kex: Vec<&String> =
        greeting.kex.iter().filter(|name| !name.starts_with("kex-strict") && !name.starts_with("ext-info")).collect();
    if !kex.is_empty() && kex.iter().all(|name| name.ends_with("sha1")) {
        found.push(
            Found::wrong(
                "key exchange",
                Kind::Unreachable,
                format!("{} offers key exchanges by SHA-1 only", target.address),
            )
            .why("ferry refuses them, as current ssh does")
            .mend("there: KexAlgorithms in sshd_config, or a server that is up to date"),
        );
    }
    if !greeting.keys.is_empty() && greeting.keys.iter().all(|name| name == "ssh-rsa" || name == "ssh-dss") {
        found.push(
            Found::wrong(
                "host key",
                Kind::Unreachable,
                format!("{} proves itself by SHA-1 only ({})", target.address, greeting.keys.join(", ")),
            )
            .why("ferry refuses that, as current ssh does")
            .mend("there: ssh-keygen -A, and HostKeyAlgorithms in sshd_config"),
        );
    }
    if !greeting.ciphers.is_empty()
        && greeting.ciphers.iter().all(|name| name.contains("cbc") || name.starts_with("arcfour"))
    {
        found.push(
            Found::wrong("key exchange", Kind::Unreachable, format!("{} offers CBC ciphers only", target.address))
                .why("ferry refuses them, as current ssh does")
                .mend("there: Ciphers in sshd_config"),
        );
    }
    found
}

/// Why the real connection was not made.
fn refused(failure: &Failure, writes_keys: bool) -> Vec<Found> {
    let gate = failure.chain.last().cloned().unwrap_or_else(|| "ssh".to_owned());
    let mut all = Found::of(&gate, failure);
    if gate == "host key" && writes_keys && failure.what.contains("is not known here") {
        for found in &mut all {
            found.finding.severity = Severity::Warn;
            found.finding.why =
                "the first connection will write it down (accept-new); ferry doctor writes nothing, so it looks no further".to_owned();
        }
    }
    all
}

/// What ferry needs or likes to have on a node.
fn tools(has: &[String]) -> Vec<Found> {
    let there = |name: &str| has.iter().any(|has| has == name);
    let any = |names: &[&str]| names.iter().any(|name| there(name));
    let mut found = Vec::new();
    let mut missing = |severity: Severity, what: &str, why: &str, package: &str| {
        let base = Found::new("tools", severity, format!("there is no {what}")).why(why);
        found.push(Found { kind: Kind::Failed, ..base }.mend(format!("there: install {package}")));
    };
    if !there("head") {
        missing(Severity::Refuse, "`head -c`", "scripts and archives are read by their exact length", "coreutils");
    }
    if !there("stat") {
        missing(Severity::Refuse, "`stat -c`", "the size and time of archives are asked of it", "coreutils");
    }
    if !any(&["setsid", "systemd-run"]) {
        missing(Severity::Refuse, "setsid and no systemd-run", "a job could not outlive the connection", "util-linux");
    }
    if !any(&["sha256sum", "openssl", "shasum"]) {
        missing(
            Severity::Warn,
            "sha256sum, openssl or shasum",
            "an archive could not be compared with its digest there",
            "coreutils",
        );
    }
    for (name, why, package) in [
        ("mktemp", "temporary folders are named by it", "coreutils"),
        ("gzip", "archives are compressed and tested by it", "gzip"),
        ("tar", "archives are made by it", "tar"),
        ("df", "free space is asked of it", "coreutils"),
        ("timeout", "a command that hangs could not be ended there", "coreutils"),
        ("flock", "two runs could not keep each other out by a lock of the node", "util-linux"),
    ] {
        if !there(name) {
            missing(Severity::Warn, name, why, package);
        }
    }
    found
}

/// sshd's limits, where it tells them.
fn limits(text: &str, mark: &str, seen: &mut Seen) {
    for line in all(text, mark, "sshd") {
        let Some((name, value)) = line.split_once(' ') else { continue };
        let number: Option<u64> = value.split(':').next().and_then(|first| first.parse().ok());
        match (name, number) {
            ("maxsessions", Some(number)) if number < 4 => seen.found.push(
                Found::warn("sshd", format!("MaxSessions is {number} there"))
                    .why("tasks, jobs and their logs use channels of one connection; with fewer, each needs a connection of its own")
                    .mend("there, in sshd_config: MaxSessions 10"),
            ),
            ("maxstartups", Some(number)) if number < 8 => seen.found.push(
                Found::warn("sshd", format!("MaxStartups is {value} there"))
                    .why("connections that come at the same time are dropped at random, and tried again")
                    .mend("there, in sshd_config: MaxStartups 10:30:100"),
            ),
            ("maxauthtries", Some(number)) if number < 3 => seen.found.push(
                Found::warn("sshd", format!("MaxAuthTries is {number} there"))
                    .why("an agent with several keys is refused before the right one is tried")
                    .mend("name the key: --private-key FILE"),
            ),
            ("maxsessions" | "maxstartups", Some(_)) => {
                let found = Found::pass("sshd", format!("{name} {value}"));
                seen.found.push(found);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_by_their_mark() {
        let text =
            "noise @@ab user evil\n@@abc user ops\n@@abc has head\n@@abc has stat\n@@abc tmout \n@@abc users x\n";
        assert_eq!(find(text, "@@abc", "user").as_deref(), Some("ops"));
        assert_eq!(find(text, "@@abc", "tmout").as_deref(), Some(""));
        assert_eq!(all(text, "@@abc", "has").collect::<Vec<_>>(), ["head", "stat"]);
        assert_eq!(find(text, "@@abc", "nothing"), None);
    }

    #[test]
    fn what_is_missing_is_told_with_what_brings_it() {
        let has = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let every = ["head", "stat", "setsid", "sha256sum", "mktemp", "gzip", "tar", "df", "timeout", "flock"];
        assert!(tools(&has(&every)).is_empty());
        assert_eq!(tools(&[]).len(), 10);
        let few = tools(&has(&["head", "stat", "systemd-run", "openssl", "mktemp", "gzip", "tar", "df", "flock"]));
        let [one] = few.as_slice() else { panic!("{few:?}") };
        assert_eq!((one.finding.severity, one.finding.what.as_str()), (Severity::Warn, "there is no timeout"));
        assert!(!one.finding.why.is_empty() && one.finding.mend.contains("coreutils"));
    }
}
