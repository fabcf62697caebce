//! One look at a node.
//!
//! What lives here: the one root script that gathers everything preflight needs, and the reading
//! of what it says. What does not: conclusions (preflight), reaching the host (remote).
//!
//! The script's output is cut into sections by lines that begin with a nonce, so that what a login
//! script, a banner or a tool prints besides is passed over, and a look that was cut short is told
//! as such and never taken for a healthy node.
//!
//! Gravity is run only where its binary and its database are both there: without state of a
//! cluster the command would create some. Each command that may hang has a time limit of its own
//! where the host has `timeout`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::redact::{redact, strip_ansi};
use super::status::{ClusterStatus, KubeJob, parse_jobs};
use crate::failure::{Failure, Kind};
use crate::remote::{Exit, Said, Session, quote};
use crate::secret::clean;

/// How long the whole look may take. Gravity's own status collection takes up to two minutes.
const PATIENCE: Duration = Duration::from_secs(200);

/// What is said of a host without any Gravity. Findings rely on this beginning.
pub const NO_GRAVITY: &str = "there is no Gravity on this host";

/// What is said of PCE 4 and later.
pub const PCE_4: &str = "PCE 4 and later have no Gravity: their backup and restore are REST calls of the platform itself (POST https://PLATFORM-DNS/platform/backup and /platform/restore, archives on NFS), which ferry does not do yet";

/// Whether a PCE version is one without Gravity.
pub fn is_pce_4(version: &str) -> bool {
    version
        .split('.')
        .next()
        .and_then(|major| major.trim_start_matches('v').parse::<u32>().ok())
        .is_some_and(|major| major >= 4)
}

/// Where things are on the nodes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeOptions {
    /// `pce_gravity`: the gravity command.
    pub gravity: String,
    /// `pce_kubectl`: the kubectl command.
    pub kubectl: String,
    /// `pce_state_dir`: Gravity's state directory, when the inventory names it.
    pub state_dir: Option<String>,
    /// `pce_work_dir`: where archives are made, when the inventory names it.
    pub work_dir: Option<String>,
    /// `ferry_node_dir`: ferry's own directory; the last place where an archive may be made.
    pub node_dir: String,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            gravity: "/usr/bin/gravity".to_owned(),
            kubectl: "/usr/bin/kubectl".to_owned(),
            state_dir: None,
            work_dir: None,
            node_dir: "/var/lib/ferry".to_owned(),
        }
    }
}

/// What one look at a host found.
#[derive(Serialize, Clone, Debug)]
pub struct NodeFacts {
    /// The inventory's name of the host.
    pub host: String,
    /// Its own name (`uname -n`).
    pub hostname: String,
    /// The user that the look ran as; 0 is root.
    pub uid: u32,
    /// The host's clock, seconds since 1970.
    pub epoch: i64,
    /// Our clock when the host's clock had been read.
    pub read_at: jiff::Timestamp,
    /// The kernel's id of this boot; empty where the kernel gives none.
    pub boot_id: String,
    /// Its addresses, loopback left out; empty when the host has no tool to tell them.
    pub addresses: Vec<String>,
    /// What Gravity says there; `None` when it is no Gravity node.
    pub gravity: Option<GravityFacts>,
    /// Why it is no Gravity node.
    pub not_gravity: Option<String>,
    /// On a host that is no Gravity node: the uid of the `kube-system` of the Kubernetes that answers there
    /// (PCE 4 has such nodes).
    pub kubernetes: Option<String>,
    /// The disk behind each directory that was asked for: the state directory and the places
    /// where an archive may be made.
    pub disks: BTreeMap<String, Disk>,
    /// Which of the tools that ferry can use are there (`sha256sum`, `openssl`, `flock`, `systemd-run`, …).
    pub tools: BTreeSet<String>,
}

/// What Gravity and Kubernetes say on a node.
#[derive(Serialize, Clone, Debug)]
pub struct GravityFacts {
    /// Gravity's state directory.
    pub state_dir: String,
    /// Gravity's version (`gravity version`).
    pub version: Option<String>,
    /// The cluster as this node sees it; `None` when `gravity status` gave none.
    pub status: Option<ClusterStatus>,
    /// Exit code of `gravity status`; 255 with a status is a degraded cluster of Gravity 7 or 8.
    pub status_rc: i32,
    /// What it said on standard error, or why its output was not understood; redacted.
    pub status_error: String,
    /// Jobs of `kube-system`; `None` when kubectl did not answer.
    pub kube_jobs: Option<Vec<KubeJob>>,
    /// The uid of the namespace `kube-system`: the cluster's own identity.
    pub kube_uid: Option<String>,
    /// Directories in which a hook collects data, left behind or in use.
    pub staging: Vec<Staging>,
}

/// A hook's staging directory `<state>/planet/state/<6 hex>/backup`.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Staging {
    /// Its path.
    pub path: String,
    /// Its size in KiB.
    pub kib: u64,
    /// Newest change of anything in it, seconds since 1970 by the host's clock; 0 when not known.
    pub mtime: i64,
}

/// A disk as `df -Pk` tells it, in KiB.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Where it is mounted.
    pub mount: String,
    /// The device.
    pub device: String,
    /// Size.
    pub total_kib: u64,
    /// Used.
    pub used_kib: u64,
    /// Free for use; less than size minus used where the file system keeps a reserve.
    pub available_kib: u64,
    /// True when the directory itself is there already.
    pub exists: bool,
}

/// Looks at a host: one root script, about a second on a healthy node, at most `PATIENCE`.
/// A host that is no Gravity node is an answer, not an error.
///
/// # Errors
/// [`Kind::Unreachable`] and sudo's refusals as [`Session::run_root`] gives them;
/// [`Kind::CouldNotStart`] when a directory of `options` is not absolute; [`Kind::Failed`] when
/// the answer is garbled or cut.
pub async fn probe(session: &Session, options: &ProbeOptions) -> Result<NodeFacts, Failure> {
    let nonce: u128 = rand::random();
    probe_with_nonce(session, options, &format!("ferry-{nonce:032x}")).await
}

/// What one root script says of a host; of a connection that ended on the way nothing is concluded.
///
/// # Errors
/// As [`Session::run_root`], and [`Kind::Unreachable`] where its end was not seen.
pub(super) async fn look(session: &Session, script: &str, patience: Duration) -> Result<Said, Failure> {
    let said = session.run_root(script, patience).await?;
    match &said.exit {
        Exit::Lost(why) => Err(Failure::new(Kind::Unreachable, "the connection ended while the host was looked at")
            .on(session.host())
            .saw(why.clone())
            .again()),
        _ => Ok(said),
    }
}

/// [`probe`] with a nonce that the caller knows, so that a scripted host can answer: sections are
/// `\nNONCE begin NAME\n…\nNONCE end NAME RC\n`, the last line is `\nNONCE done\n`.
///
/// # Errors
/// As [`probe`].
pub async fn probe_with_nonce(session: &Session, options: &ProbeOptions, nonce: &str) -> Result<NodeFacts, Failure> {
    let host = session.host();
    let script = script(options, nonce).map_err(|failure| failure.on(host))?;
    let said = look(session, &script, PATIENCE).await?;
    let read_at = jiff::Timestamp::now();
    read(host, nonce, &said.out, read_at).map_err(|why| {
        let err = clean(redact(&strip_ansi(&said.err_text())).replace('\n', " | ").as_bytes());
        let mut seen = format!("{why}; {}", said.exit);
        if said.cut {
            seen.push_str("; it said more than 4 MiB");
        }
        if !err.is_empty() {
            seen.push_str(&format!("; standard error: {}", tail(&err, 300)));
        }
        Failure::new(Kind::Failed, "the look at the host was cut short or garbled")
            .on(host)
            .saw(seen)
            .why("nothing is concluded from half an answer")
            .mend("start again with -vvv; the host's log then holds all that it said")
            .within("preflight")
    })
}

pub(super) fn tail(text: &str, most: usize) -> String {
    let count = text.chars().count();
    text.chars().skip(count.saturating_sub(most)).collect()
}

/// The script. Everything that varies stands quoted at its top.
fn script(options: &ProbeOptions, nonce: &str) -> Result<String, Failure> {
    let absolute = |name: &str, path: &str| {
        if path.starts_with('/') && !path.contains('\n') {
            Ok(())
        } else {
            Err(Failure::new(Kind::CouldNotStart, format!("{name} is not an absolute path"))
                .saw(format!("{path:?}"))
                .mend(format!("set {name} to a path that begins with /")))
        }
    };
    absolute("ferry_node_dir", &options.node_dir)?;
    if let Some(path) = &options.state_dir {
        absolute("pce_state_dir", path)?;
    }
    if let Some(path) = &options.work_dir {
        absolute("pce_work_dir", path)?;
    }
    let word = |text: &str| {
        quote(text).map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()).saw(format!("{text:?}")))
    };
    let trimmed = |path: &str| match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    let state_dir = options.state_dir.as_deref().map(trimmed).unwrap_or_default();
    let work_dir = options.work_dir.as_deref().map(trimmed).unwrap_or_default();
    Ok(format!(
        "N={}\nG={}\nK={}\nS={}\nW={}\nD={}\n{FUNCTIONS}given=$S\n{STATE}{BODY}",
        word(nonce)?,
        word(&options.gravity)?,
        word(&options.kubectl)?,
        word(&state_dir)?,
        word(&work_dir)?,
        word(&trimmed(&options.node_dir))?,
    ))
}

/// POSIX sh, run by dash, bash and busybox. `look NAME LIMIT COMMAND…` runs a command with a time
/// limit and tells its standard error, its standard output and its code. The clock is read last, so
/// that ours can be read right after it.
pub(super) const FUNCTIONS: &str = r#"
umask 077
exec 3>&1
begin() { printf '\n%s begin %s\n' "$N" "$1"; }
end() { printf '\n%s end %s %s\n' "$N" "$1" "$2"; }
tell() { begin "$1"; printf '%s' "$2"; end "$1" 0; }
if timeout -k 1 5 true >/dev/null 2>&1; then
  within() { within_limit=$1; shift; timeout -k 5 "$within_limit" "$@"; }
elif timeout 5 true >/dev/null 2>&1; then
  within() { within_limit=$1; shift; timeout "$within_limit" "$@"; }
else
  within() { shift; "$@"; }
fi
look() {
  name=$1; limit=$2; shift 2
  begin "$name.err"
  out=$(within "$limit" "$@" </dev/null 2>&3 3>&-)
  rc=$?
  end "$name.err" "$rc"
  begin "$name"
  printf '%s' "$out" | head -c 1500000
  end "$name" "$rc"
}
disk() {
  case $1 in /*) ;; *) return 0 ;; esac
  near=$1; there=0
  [ -e "$near" ] && there=1
  while [ -n "$near" ] && [ ! -e "$near" ]; do near=${near%/*}; done
  [ -n "$near" ] || near=/
  begin disk
  printf '%s %s\n' "$there" "$1"
  within 10 df -Pk "$near" 2>/dev/null
  end disk "$?"
}
"#;

/// Where Gravity's state directory is, when `S` is empty.
pub(super) const STATE: &str = r#"
if [ -z "$S" ]; then
  for f in /etc/.gravity.config /etc/writable/.gravity.config /writable/.gravity.config; do
    [ -r "$f" ] || continue
    S=$(tr -d '\n' <"$f" | sed -n 's/.*"stateDir"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p')
    break
  done
  case $S in /*) ;; *) S=/var/lib/gravity ;; esac
fi
"#;

const BODY: &str = r#"
tell hostname "$(uname -n)"
tell uid "$(id -u)"
tell boot_id "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
a=$(hostname -I 2>/dev/null) || a=
[ -n "$a" ] || a=$(ip -o addr 2>/dev/null | awk '{ sub("/.*", "", $4); print $4 }')
tell addresses "$a"
begin tools
for t in openssl sha256sum shasum flock systemd-run setsid timeout journalctl; do
  command -v "$t" >/dev/null 2>&1 && printf '%s\n' "$t"
done
end tools 0

p=$(command -v "$G" 2>/dev/null) || p=
case $p in /*) ;; *) p= ;; esac
node=
if [ -n "$p" ] && [ -x "$p" ] && [ ! -d "$p" ]; then tell binary "$p"; else p=; tell binary ''; fi
if [ -f "$S/local/gravity.db" ]; then tell database "$S/local/gravity.db"; [ -n "$p" ] && node=1; else tell database ''; fi

if [ -n "$node" ]; then
  if [ -z "$given" ]; then
    d=$(within 10 "$p" system state-dir </dev/null 2>/dev/null | tail -n 1)
    case $d in
      /?*) d=${d%/}; [ -f "$d/local/gravity.db" ] && S=$d ;;
    esac
  fi
  look version 10 "$p" version -o json
  look status 125 "$p" status --output=json
  case $out in
    *'"application"'*) ;;
    *) look site 15 "$p" site info --output=json ;;
  esac
  look kube_uid 15 "$K" get namespace kube-system -o json
  look jobs 15 "$K" -n kube-system get jobs -o json
  begin staging
  n=0
  for d in "$S"/planet/state/*/backup; do
    [ -d "$d" ] && [ ! -L "$d" ] || continue
    i=${d%/backup}; i=${i##*/}
    case $i in [0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]) ;; *) continue ;; esac
    n=$((n + 1))
    [ "$n" -le 20 ] || break
    k=$(within 10 du -sk "$d" 2>/dev/null | awk 'NR == 1 { print $1 }')
    m=$(within 10 find "$d" -exec stat -c %Y {} + 2>/dev/null | sort -n | tail -n 1)
    printf '%s %s %s\n' "${k:-0}" "${m:-0}" "$d"
  done
  end staging 0
else
  k=$(command -v "$K" 2>/dev/null) || k=
  case $k in /*) look kube_uid 15 "$k" get namespace kube-system -o json ;; esac
fi
tell state_dir "$S"

[ -n "$node" ] && disk "$S"
if [ -n "$W" ]; then
  [ "$W" = "$S" ] && [ -n "$node" ] || disk "$W"
else
  [ -d /var/lib/data ] && disk /var/lib/data/ferry
  [ -n "$node" ] && disk "$S/ferry"
  disk "$D"
fi
tell epoch "$(date +%s)"
printf '\n%s done\n' "$N"
exit 0
"#;

/// One section of the answer.
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    pub(super) rc: i32,
    pub(super) text: &'a [u8],
}

/// Cuts the output into its sections. What stands between sections is passed over.
pub(super) fn sections<'a>(nonce: &str, out: &'a [u8]) -> Result<Vec<Section<'a>>, String> {
    let mark = format!("\n{nonce} ");
    let mark = mark.as_bytes();
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut rest = out;
    while let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
        let (before, after) = rest.split_at(at);
        parts.push(before);
        rest = after.get(mark.len()..).unwrap_or_default();
    }
    parts.push(rest);
    let mut sections = Vec::new();
    let mut open: Option<(&str, &[u8])> = None;
    let mut done = false;
    // The first part is what was said before the first mark.
    for part in parts.into_iter().skip(1) {
        let end = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        let (head, body) = part.split_at(end);
        let body = body.get(1..).unwrap_or_default();
        let head = std::str::from_utf8(head).map_err(|_| "a section's head is not text".to_owned())?;
        let words: Vec<&str> = head.split(' ').collect();
        match (words.as_slice(), open.take()) {
            (["begin", name], None) => open = Some((name, body)),
            (["end", name, rc], Some((begun, text))) if *name == begun => {
                let rc = rc.parse().map_err(|_| format!("the section {name} ended with the code {rc:?}"))?;
                sections.push(Section { name: begun, rc, text });
            }
            (["done"], None) => done = true,
            (_, Some((begun, _))) => return Err(format!("the section {begun} has no end")),
            (_, None) => return Err(format!("{:?} stands where a section begins", clean(head.as_bytes()))),
        }
        if done {
            break;
        }
    }
    if done { Ok(sections) } else { Err("the answer has no end".to_owned()) }
}

pub(super) fn said_text(bytes: &[u8]) -> String {
    redact(&strip_ansi(&String::from_utf8_lossy(bytes))).trim().to_owned()
}

/// Reads the script's output.
fn read(host: &str, nonce: &str, out: &[u8], read_at: jiff::Timestamp) -> Result<NodeFacts, String> {
    let sections = sections(nonce, out)?;
    let section = |name: &str| sections.iter().find(|section| section.name == name);
    let need = |name: &str| section(name).ok_or_else(|| format!("the section {name} is missing"));
    let plain = |name: &str| need(name).map(|section| clean(String::from_utf8_lossy(section.text).trim().as_bytes()));
    // A path is used as it is: one that is no text is no path that we could name.
    let path = |name: &str| {
        let text = need(name)?.text;
        String::from_utf8(text.to_vec()).map_err(|_| format!("the section {name} is not UTF-8"))
    };
    let number = |name: &str| {
        plain(name)?.parse::<i64>().map_err(|_| format!("the section {name} is no number: {:?}", plain(name)))
    };
    let uid = u32::try_from(number("uid")?).map_err(|_| "the user's id is out of range".to_owned())?;
    let state_dir = path("state_dir")?;
    let binary = path("binary")?;
    let database = path("database")?;
    let asked_as = if uid == 0 { String::new() } else { format!(" (looked as user {uid}, not as root)") };
    let kubernetes = || section("kube_uid").and_then(|section| kube_uid(section.text));
    let kubernetes = if binary.is_empty() || database.is_empty() { kubernetes() } else { None };
    let (gravity, not_gravity) = match (binary.is_empty(), database.is_empty()) {
        (false, false) => (Some(read_gravity(&sections, state_dir)?), None),
        (true, true) => (
            None,
            Some(match &kubernetes {
                Some(_) => format!("{NO_GRAVITY}{asked_as}, but Kubernetes answers here: it looks like PCE 4. {PCE_4}"),
                None => format!("{NO_GRAVITY}{asked_as}. {PCE_4}"),
            }),
        ),
        (false, true) => (
            None,
            Some(format!(
                "gravity is installed, but {state_dir}/local/gravity.db is not there: this host belongs to no Gravity cluster{asked_as}"
            )),
        ),
        (true, false) => (
            None,
            Some(format!("{database} is there, but the gravity command is not where pce_gravity says{asked_as}")),
        ),
    };
    let mut disks = BTreeMap::new();
    for section in sections.iter().filter(|section| section.name == "disk") {
        let text = std::str::from_utf8(section.text).map_err(|_| "a disk's section is not UTF-8".to_owned())?;
        let (head, table) = text.split_once('\n').unwrap_or((text, ""));
        let (exists, path) = head.split_once(' ').ok_or("a disk's section has no path")?;
        if let Some(disk) = read_df(table, exists == "1") {
            disks.insert(path.to_owned(), disk);
        }
    }
    let addresses = plain_words(need("addresses")?.text)
        .filter(|address| address.parse::<std::net::IpAddr>().is_ok_and(|ip| !ip.is_loopback()))
        .collect();
    Ok(NodeFacts {
        host: host.to_owned(),
        hostname: plain("hostname")?,
        uid,
        epoch: number("epoch")?,
        read_at,
        boot_id: plain("boot_id")?,
        addresses,
        gravity,
        not_gravity,
        kubernetes,
        disks,
        tools: plain_words(need("tools")?.text).collect(),
    })
}

fn plain_words(bytes: &[u8]) -> impl Iterator<Item = String> {
    String::from_utf8_lossy(bytes).split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// The uid in the answer of `kubectl get namespace kube-system -o json`.
fn kube_uid(text: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(text).ok()?;
    value.pointer("/metadata/uid").and_then(Value::as_str).filter(|uid| !uid.is_empty()).map(str::to_owned)
}

fn read_gravity(sections: &[Section<'_>], state_dir: String) -> Result<GravityFacts, String> {
    let section = |name: &str| sections.iter().find(|section| section.name == name);
    let need = |name: &str| section(name).ok_or_else(|| format!("the section {name} is missing"));
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let at = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let status = need("status")?;
    let error = need("status.err")?;
    let mut status_error = said_text(error.text);
    let (mut parsed, status_rc) = match ClusterStatus::parse(status.text) {
        Ok(parsed) => (Some(parsed), status.rc),
        Err(why) => {
            // 5.x and 6.x print errors to standard output.
            let said = said_text(status.text);
            let parts = [why.as_str(), &limit(status.rc), &status_error, tail(&said, 400).as_str()]
                .iter()
                .filter(|part| !part.is_empty())
                .map(|part| (*part).to_owned())
                .collect::<Vec<_>>();
            status_error = parts.join("; ");
            (None, status.rc)
        }
    };
    let site = section("site").and_then(|site| json(site.text));
    if let (Some(parsed), Some(site)) = (parsed.as_mut(), &site)
        && parsed.app_version.is_empty()
    {
        parsed.app_name = at(site, "/app/name").unwrap_or_default();
        parsed.app_version = at(site, "/app/version").unwrap_or_default();
    }
    let version = json(need("version")?.text).and_then(|value| at(&value, "/version")).or_else(|| {
        let status = parsed.as_ref()?;
        status.client_version.clone().or_else(|| status.server_version.clone())
    });
    let kube_uid = kube_uid(need("kube_uid")?.text);
    let jobs = need("jobs")?;
    let kube_jobs = if jobs.rc == 0 { parse_jobs(jobs.text).ok() } else { None };
    let mut staging = Vec::new();
    for line in String::from_utf8_lossy(need("staging")?.text).lines().filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let (Some(kib), Some(mtime), Some(path)) = (words.next(), words.next(), words.next()) else {
            return Err("a line of the section staging is cut".to_owned());
        };
        staging.push(Staging {
            path: path.to_owned(),
            kib: kib.parse().unwrap_or(0),
            mtime: mtime.parse().unwrap_or(0),
        });
    }
    Ok(GravityFacts { state_dir, version, status: parsed, status_rc, status_error, kube_jobs, kube_uid, staging })
}

/// `timeout` ends with 124, or with 137 when it had to kill.
fn limit(rc: i32) -> String {
    match rc {
        124 | 137 => "it did not end within 125 s and was stopped".to_owned(),
        0 => String::new(),
        rc => format!("exit code {rc}"),
    }
}

/// The last line of `df -Pk` that has figures. Device and mount point may hold blanks.
pub(super) fn read_df(table: &str, exists: bool) -> Option<Disk> {
    table.lines().rev().find_map(|line| {
        let words: Vec<(usize, &str)> =
            line.split_whitespace().map(|word| (word.as_ptr() as usize - line.as_ptr() as usize, word)).collect();
        words.windows(4).enumerate().find_map(|(first, window)| {
            let [(start, total), (_, used), (_, available), (at, percent)] = window else { return None };
            if first == 0 || !(percent.ends_with('%') || *percent == "-") {
                return None;
            }
            let mount = line.get(at + percent.len()..)?.trim();
            // A full file system may say that less than nothing is available.
            let available = available.parse::<i64>().ok()?.max(0);
            Some(Disk {
                mount: mount.to_owned(),
                device: line.get(..*start)?.trim().to_owned(),
                total_kib: total.parse().ok()?,
                used_kib: used.parse().ok()?,
                available_kib: u64::try_from(available).ok()?,
                exists,
            })
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn df_lines() {
        let head = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n";
        for (line, device, mount, available) in [
            (
                "/dev/sdb1        262144000 117964800 144179200      46% /var/lib/gravity",
                "/dev/sdb1",
                "/var/lib/gravity",
                144_179_200,
            ),
            ("tmpfs 100 0 100 0% /a b c", "tmpfs", "/a b c", 100),
            ("nas:/my export 100 90 -5 105% /mnt", "nas:/my export", "/mnt", 0),
            ("overlay 100 90 5 - /", "overlay", "/", 5),
        ] {
            let disk = read_df(&format!("{head}{line}\n"), true).unwrap();
            assert_eq!((disk.device.as_str(), disk.mount.as_str(), disk.available_kib), (device, mount, available));
        }
        assert_eq!(read_df(head, true), None);
        assert_eq!(read_df("", true), None);
    }

    #[test]
    fn sections_are_found_in_junk_and_a_cut_is_seen() {
        let out = b"banner\nN begin fake\n\nN1 begin a\nx\ny\n\nN1 end a 3\njunk\n\nN1 begin b\n\nN1 end b 0\n\nN1 done\ntrailing";
        let seen = sections("N1", out).unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].name, seen[0].rc, seen[0].text), ("a", 3, &b"x\ny\n"[..]));
        assert_eq!((seen[1].name, seen[1].text), ("b", &b""[..]));
        let done = out.len() - b"\ntrailing".len();
        for cut in 0..done {
            assert!(sections("N1", &out[..cut]).is_err(), "cut at {cut}");
        }
        assert!(sections("N1", b"\nN1 begin a\n\nN1 begin b\n\nN1 end b 0\n\nN1 done\n").is_err());
        assert!(sections("N1", b"\nN1 end a 0\n\nN1 done\n").is_err());
        assert!(sections("N1", b"\nN1 begin a\n\nN1 end a x\n\nN1 done\n").is_err());
        assert!(sections("N1", b"\nN1 begin a\n\nN1 end b 0\n\nN1 done\n").is_err());
    }

    #[test]
    fn paths_that_are_not_absolute_are_refused() {
        let good = ProbeOptions::default();
        assert!(script(&good, "N").is_ok());
        for bad in [
            ProbeOptions { node_dir: "x".into(), ..good.clone() },
            ProbeOptions { state_dir: Some("x/y".into()), ..good.clone() },
            ProbeOptions { work_dir: Some(String::new()), ..good.clone() },
            ProbeOptions { gravity: "a\0b".into(), ..good.clone() },
        ] {
            assert_eq!(script(&bad, "N").unwrap_err().kind, Kind::CouldNotStart);
        }
    }

    /// What is quoted cannot be read as shell.
    #[test]
    fn hostile_paths_stay_words() {
        let options = ProbeOptions { state_dir: Some("/x'; touch /nope; '".into()), ..ProbeOptions::default() };
        assert!(script(&options, "N").unwrap().contains(r"S='/x'\''; touch /nope; '\'''"));
    }

    #[test]
    fn versions_without_gravity() {
        for (version, four) in [
            ("4.0", true),
            ("4.1.2", true),
            ("10.0", true),
            ("v4.0", true),
            ("3.2.0", false),
            ("", false),
            ("x", false),
        ] {
            assert_eq!(is_pce_4(version), four, "{version}");
        }
    }

    /// PCE 4: no Gravity, but Kubernetes answers. Said plainly by the look and by the gates before a backup.
    #[test]
    fn a_kubernetes_without_gravity_is_called_pce_4() {
        use super::super::preflight::{Policy, preflight};
        use super::super::target::tests::{SHELLS, run, shellcheck, tool};
        let dir = tempfile::tempdir().unwrap();
        let options = ProbeOptions {
            gravity: "/nowhere/gravity".into(),
            kubectl: tool(
                dir.path(),
                "kubectl",
                r#"[ "$*" = "get namespace kube-system -o json" ] && printf '{"metadata":{"uid":"u-4"}}'"#,
            ),
            state_dir: Some(dir.path().join("none").display().to_string()),
            ..ProbeOptions::default()
        };
        for (kubectl, uid) in [(options.kubectl.clone(), Some("u-4")), ("/nowhere/kubectl".to_owned(), None)] {
            let options = ProbeOptions { kubectl, ..options.clone() };
            let script = script(&options, "N").unwrap();
            shellcheck(&script);
            for shell in SHELLS {
                let out = run(shell, &script, "/usr/bin:/bin");
                let facts = read("n", "N", &out.stdout, jiff::Timestamp::now()).unwrap();
                assert_eq!(facts.kubernetes.as_deref(), uid, "{shell:?}");
                let why = facts.not_gravity.clone().unwrap();
                assert!(why.starts_with(NO_GRAVITY) && why.contains("/platform/restore"), "{why}");
                assert_eq!(why.contains("it looks like PCE 4"), uid.is_some(), "{why}");
                let policy = Policy { pce_version: Some("4.1.0".into()), ..Policy::default() };
                let found = preflight(&[facts], &[], &policy);
                let row = found.findings.iter().find(|row| row.gate == "identity").unwrap();
                assert!(row.what.contains("pce_version is 4.1.0") && row.what.contains("/platform/backup"), "{row:?}");
            }
        }
    }
}
