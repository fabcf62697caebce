//! A second look at a node of a cluster that is to be restored: what Gravity does not restore and must
//! be there already, as far as the node can see it.
//!
//! What lives here: the root script, and the reading of what it says: how the platform's name resolves,
//! the certificate that is served there, NFS mounts and volumes, pods, disks. What does not: conclusions
//! (gates, settle).

use std::collections::BTreeMap;

use serde::Serialize;

use std::io::Read as _;
use std::time::Duration;

use serde_json::Value;

use super::gates::platform_host;
use super::probe::{Disk, FUNCTIONS, ProbeOptions, STATE, Section, look, read_df, sections, tail};
use super::redact::{redact, strip_ansi};
use super::status::{KubeJob, is_hook_name};
use crate::failure::{Failure, Kind};
use crate::remote::{Session, quote};
use crate::secret::clean;

/// How long the whole look may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Pods are packed on the node; unpacked, no list is larger than this.
const LARGEST: u64 = 64 << 20;

/// Something that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Look<T> {
    /// It was not asked for.
    #[default]
    NotAsked,
    /// It could not be seen, and why.
    Unknown(String),
    /// It was seen.
    Seen(T),
}

impl<T> Look<T> {
    /// What was seen.
    pub fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(seen) => Some(seen),
            Self::NotAsked | Self::Unknown(_) => None,
        }
    }
}

/// What to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetQuestions {
    /// `pce_platform_dns`: a name, with or without `https://` and a port.
    pub platform_dns: Option<String>,
    /// Where the archive would be put; its disk is told.
    pub archive_dir: Option<String>,
    /// Gravity's state directory as the first look found it; else `pce_state_dir`, else the node is asked.
    pub state_dir: Option<String>,
}

/// The certificate that is served at the platform's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct CertificateSeen {
    /// Whose it is, as openssl writes it.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The subject's common name.
    pub common_name: Option<String>,
    /// DNS names of the subject alternative name.
    pub dns_names: Vec<String>,
    /// Addresses of the subject alternative name.
    pub ip_names: Vec<String>,
    /// Valid from, seconds since 1970; `None` when it could not be read.
    pub not_before: Option<i64>,
    /// Valid until, seconds since 1970; `None` when it could not be read.
    pub not_after: Option<i64>,
    /// SHA-256 of the certificate, as openssl writes it.
    pub fingerprint: String,
}

/// A mounted NFS file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NfsMount {
    /// `server:/path`.
    pub source: String,
    /// Where it is mounted.
    pub target: String,
}

/// Whether an NFS server answers on port 2049, as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// A connection was made.
    Answers,
    /// No connection was made.
    Silent,
    /// It could not be told, and why.
    Unknown(String),
}

/// A persistent volume on NFS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NfsVolume {
    /// Its name.
    pub name: String,
    /// The server.
    pub server: String,
    /// The exported path.
    pub path: String,
    /// `Bound`, `Available`, `Released`, `Failed`.
    pub phase: String,
    /// Whether the server answers.
    pub reach: Reach,
}

/// A pod that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnwellPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is wrong, a few words.
    pub why: String,
    /// The job that it belongs to, when it is a failed pod of one.
    pub job: Option<String>,
}

/// The pods of all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct PodsSeen {
    /// How many there are.
    pub total: usize,
    /// Running with all containers ready.
    pub well: usize,
    /// Ended well (Completed).
    pub completed: usize,
    /// Evicted long since: their controllers have made others.
    pub evicted: usize,
    /// Those that are not well; see [`PodsSeen::not_well`].
    pub unwell: Vec<UnwellPod>,
}

impl PodsSeen {
    /// Those that are not well, without failed pods of hook jobs that have ended: `jobs` are those of `kube-system`.
    pub fn not_well(&self, jobs: &[KubeJob]) -> Vec<&UnwellPod> {
        let over = |pod: &&UnwellPod| {
            pod.namespace == "kube-system"
                && pod
                    .job
                    .as_deref()
                    .is_some_and(|name| is_hook_name(name) && !jobs.iter().any(|job| job.name == name && job.active))
        };
        self.unwell.iter().filter(|pod| !over(pod)).collect()
    }
}

/// What the second look found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct TargetFacts {
    /// The inventory's name of the host.
    pub host: String,
    /// The addresses that the platform's name has there; seen and empty when it does not resolve.
    pub dns: Look<Vec<String>>,
    /// The certificate that is served at the platform's name.
    pub certificate: Look<CertificateSeen>,
    /// NFS mounts of the host.
    pub nfs_mounts: Look<Vec<NfsMount>>,
    /// NFS volumes of Kubernetes.
    pub nfs_volumes: Look<Vec<NfsVolume>>,
    /// Pods of all namespaces.
    pub pods: Look<PodsSeen>,
    /// Gravity's state directory.
    pub state_dir: String,
    /// The disk behind `<state>/planet/state` and the archive's directory.
    pub disks: BTreeMap<String, Disk>,
}

/// The second look at a host: one root script, at most three minutes.
///
/// # Errors
/// As [`probe`](super::probe()).
pub async fn probe_target(
    session: &Session,
    options: &ProbeOptions,
    questions: &TargetQuestions,
) -> Result<TargetFacts, Failure> {
    let nonce: u128 = rand::random();
    probe_target_with_nonce(session, options, questions, &format!("ferry-{nonce:032x}")).await
}

/// [`probe_target`] with a nonce that the caller knows, as [`probe_with_nonce`](super::probe_with_nonce).
///
/// # Errors
/// As [`probe_target`].
pub async fn probe_target_with_nonce(
    session: &Session,
    options: &ProbeOptions,
    questions: &TargetQuestions,
    nonce: &str,
) -> Result<TargetFacts, Failure> {
    let host = session.host();
    let script = script(options, questions, nonce).map_err(|failure| failure.on(host))?;
    let said = look(session, &script, PATIENCE).await?;
    read(host, nonce, &said.out).map_err(|why| {
        let err = clean(redact(&strip_ansi(&said.err_text())).replace('\n', " | ").as_bytes());
        Failure::new(Kind::Failed, "the look at the target was cut short or garbled")
            .on(host)
            .saw(format!("{why}; {}; standard error: {}", said.exit, tail(&err, 300)))
            .why("nothing is concluded from half an answer")
            .mend("start again with -vvv; the host's log then holds all that it said")
            .within("preflight")
    })
}

/// The script. Everything that varies stands quoted at its top.
fn script(options: &ProbeOptions, questions: &TargetQuestions, nonce: &str) -> Result<String, Failure> {
    let word = |text: &str| {
        quote(text).map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()).saw(format!("{text:?}")))
    };
    let absolute = |name: &str, path: Option<&str>| match path {
        None => Ok(String::new()),
        Some(path) if path.starts_with('/') && !path.contains('\n') => {
            let path = path.trim_end_matches('/');
            Ok(if path.is_empty() { "/".to_owned() } else { path.to_owned() })
        }
        Some(path) => Err(Failure::new(Kind::CouldNotStart, format!("{name} is not an absolute path"))
            .saw(format!("{path:?}"))
            .mend(format!("set {name} to a path that begins with /"))),
    };
    let state = questions.state_dir.as_deref().or(options.state_dir.as_deref());
    let state = absolute("pce_state_dir", state)?;
    let archive = absolute("pce_work_dir", questions.archive_dir.as_deref())?;
    let name = platform_host(questions.platform_dns.as_deref()).unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if name.starts_with('-') || name.len() > 253 || !name.chars().all(fits) {
        return Err(Failure::new(Kind::CouldNotStart, "pce_platform_dns is not a name")
            .saw(format!("{:?}", questions.platform_dns.as_deref().unwrap_or_default()))
            .mend("set pce_platform_dns to the name that people open, such as anypoint.example"));
    }
    let address = name.parse::<std::net::IpAddr>().ok();
    let connect = match address {
        Some(std::net::IpAddr::V6(ip)) => format!("[{ip}]:443"),
        _ => format!("{name}:443"),
    };
    // A server name is a name: an address is not sent as one.
    let server_name = if address.is_some() { "" } else { name };
    Ok(format!(
        "N={}\nK={}\nS={}\nA={}\nH={}\nC={}\nV={}\n{FUNCTIONS}{STATE}{BODY}",
        word(nonce)?,
        word(&options.kubectl)?,
        word(&state)?,
        word(&archive)?,
        word(name)?,
        word(&connect)?,
        word(server_name)?,
    ))
}

/// POSIX sh. What goes over the network is only asked where a time limit can be set.
/// Codes of our own: 200 not asked, 201 no time limit, 127 no tool.
const BODY: &str = r#"
there() { command -v "$1" >/dev/null 2>&1; }
bounded=
if timeout 5 true >/dev/null 2>&1; then bounded=1; fi

begin dns
if [ -z "$H" ]; then rc=200
elif ! there getent; then rc=127
else
  out=$(within 20 getent ahosts "$H" </dev/null 2>/dev/null); rc=$?
  if [ "$rc" -ne 0 ] || [ -z "$out" ]; then
    out=$(within 20 getent hosts "$H" </dev/null 2>/dev/null); rc=$?
  fi
  printf '%s' "$out" | head -c 20000
fi
end dns "$rc"

begin certificate
if [ -z "$H" ]; then rc=200
elif ! there openssl; then rc=127
elif [ -z "$bounded" ]; then rc=201
else
  if [ -n "$V" ]; then
    tls=$(within 20 openssl s_client -connect "$C" -servername "$V" </dev/null 2>&1)
  else
    tls=$(within 20 openssl s_client -connect "$C" </dev/null 2>&1)
  fi
  x509() { printf '%s\n' "$tls" | within 10 openssl x509 -noout -subject -issuer -enddate -fingerprint -sha256 "$@" 2>/dev/null; }
  # The first form is that of OpenSSL 1.1.1 and later; 1.0.2 has no -ext.
  out=$(x509 -startdate -ext subjectAltName) || out=$(x509 -startdate -text) || out=$(x509 -ext subjectAltName)
  rc=$?
  if [ "$rc" -eq 0 ]; then
    printf '%s' "$out" | head -c 100000
  else
    rc=1
    printf '%s' "$tls" | tail -c 400
  fi
fi
end certificate "$rc"

mounts=
begin mounts
rc=127
if there findmnt; then
  mounts=$(within 15 findmnt -rn -t nfs,nfs4 -o SOURCE,TARGET </dev/null 2>/dev/null); rc=$?
  # It ends with 1 when there is none.
  if [ "$rc" -eq 1 ] && [ -z "$mounts" ]; then rc=0; fi
fi
if [ "$rc" -ne 0 ] && [ -r /proc/mounts ]; then
  mounts=$(awk '$3 == "nfs" || $3 == "nfs4" { print $1, $2 }' /proc/mounts); rc=$?
fi
printf '%s' "$mounts" | head -c 100000
end mounts "$rc"

look volumes 20 "$K" get pv -o json
answers() {
  [ -n "$bounded" ] || return 201
  r=127
  if there nc; then within 6 nc -z -w 5 "$1" 2049 </dev/null >/dev/null 2>&1; r=$?; fi
  if [ "$r" -ne 0 ] && there bash; then
    # shellcheck disable=SC2016 # the inner shell reads it
    said=$(within 6 bash -c ': </dev/tcp/"$1"/2049' look "$1" 2>&1 </dev/null); r=$?
    # A bash that was built without it.
    case $said in *'No such file'*) r=127 ;; esac
  fi
  return "$r"
}
servers=$(
  {
    printf '%s\n' "$out" | tr ',{}' '\n\n\n' | sed -n 's/.*"server"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p'
    printf '%s\n' "$mounts" | sed -n 's/^\([^ ]*\):\/.*/\1/p'
  } | sort -u | head -n 8
)
for s in $servers; do
  case $s in -*|*[!A-Za-z0-9._:-]*) continue ;; esac
  begin reach
  answers "$s"
  rc=$?
  printf '%s' "$s"
  end reach "$rc"
done

# A list of pods has megabytes: it is packed here and read there.
pack='cat'
there gzip && pack='gzip -c'
begin pods
{ within 40 "$K" get pods --all-namespaces -o json </dev/null 2>/dev/null || printf '\nno list'; } | $pack | head -c 1500000
end pods 0

disk "$S/planet/state"
[ -z "$A" ] || disk "$A"
tell state_dir "$S"
printf '\n%s done\n' "$N"
exit 0
"#;

/// Text of a node: without colours, secrets and control characters, not longer than a line should be.
pub(super) fn plain(text: &str) -> String {
    clean(redact(&strip_ansi(text)).trim().as_bytes()).chars().take(400).collect()
}

fn read(host: &str, nonce: &str, out: &[u8]) -> Result<TargetFacts, String> {
    let sections = sections(nonce, out)?;
    let need = |name: &str| {
        sections.iter().find(|section| section.name == name).ok_or_else(|| format!("the section {name} is missing"))
    };
    let text = |section: &Section<'_>| String::from_utf8_lossy(section.text).into_owned();
    let mut reach: BTreeMap<String, Reach> = BTreeMap::new();
    for section in sections.iter().filter(|section| section.name == "reach") {
        let answer = match section.rc {
            0 => Reach::Answers,
            127 => Reach::Unknown("the node has neither nc nor a bash that could try".to_owned()),
            201 => Reach::Unknown("the node has no timeout command, so it was not tried".to_owned()),
            _ => Reach::Silent,
        };
        reach.insert(text(section).trim().to_owned(), answer);
    }
    let mut disks = BTreeMap::new();
    for section in sections.iter().filter(|section| section.name == "disk") {
        let text = text(section);
        let (head, table) = text.split_once('\n').unwrap_or((&text, ""));
        let (exists, path) = head.split_once(' ').ok_or("a disk's section has no path")?;
        if let Some(disk) = read_df(table, exists == "1") {
            disks.insert(path.to_owned(), disk);
        }
    }
    let mounts = need("mounts")?;
    let mounts = match mounts.rc {
        0 => Look::Seen(
            text(mounts)
                .lines()
                .filter_map(|line| line.split_once(' '))
                .map(|(source, target)| NfsMount { source: plain(source), target: plain(target) })
                .collect(),
        ),
        rc => Look::Unknown(format!("neither findmnt nor /proc/mounts told them (code {rc})")),
    };
    let volumes = need("volumes")?;
    let volumes = match (volumes.rc, read_volumes(volumes.text, &reach)) {
        (0, Ok(volumes)) => Look::Seen(volumes),
        (0, Err(why)) => Look::Unknown(why),
        (rc, _) => Look::Unknown(format!("kubectl get pv did not answer (code {rc})")),
    };
    let dns = need("dns")?;
    let certificate = need("certificate")?;
    Ok(TargetFacts {
        host: host.to_owned(),
        dns: read_dns(dns.rc, &text(dns)),
        certificate: read_certificate(certificate.rc, &text(certificate)),
        nfs_mounts: mounts,
        nfs_volumes: volumes,
        pods: match unpack(need("pods")?.text).and_then(|json| parse_pods(&json)) {
            Ok(pods) => Look::Seen(pods),
            Err(why) => Look::Unknown(why),
        },
        state_dir: text(need("state_dir")?),
        disks,
    })
}

fn read_dns(rc: i32, text: &str) -> Look<Vec<String>> {
    let mut addresses: Vec<String> = Vec::new();
    for address in text.lines().filter_map(|line| line.split_whitespace().next()) {
        if address.parse::<std::net::IpAddr>().is_ok() && !addresses.iter().any(|known| known == address) {
            addresses.push(address.to_owned());
        }
    }
    match rc {
        200 => Look::NotAsked,
        127 => Look::Unknown("there is no getent on the node".to_owned()),
        0 if addresses.is_empty() => Look::Unknown(format!("getent said {:?}", plain(text))),
        0 => Look::Seen(addresses),
        // Not found; or the name servers did not answer in time, which for a runtime is the same.
        2 | 124 | 137 | 143 => Look::Seen(Vec::new()),
        rc => Look::Unknown(format!("getent ended with code {rc}")),
    }
}

pub(super) fn read_certificate(rc: i32, text: &str) -> Look<CertificateSeen> {
    match rc {
        200 => return Look::NotAsked,
        127 => return Look::Unknown("there is no openssl on the node".to_owned()),
        201 => return Look::Unknown("the node has no timeout command, so it was not asked".to_owned()),
        0 => {}
        _ => {
            let said = plain(
                &text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no answer").replace('\t', " "),
            );
            return Look::Unknown(format!("no certificate was served: {}", tail(&said, 160)));
        }
    }
    let mut seen = CertificateSeen::default();
    let mut names_next = false;
    for line in text.lines() {
        let line = line.trim();
        if std::mem::take(&mut names_next) {
            for name in line.split(',').map(str::trim) {
                if let Some(dns) = name.strip_prefix("DNS:") {
                    seen.dns_names.push(plain(dns));
                } else if let Some(ip) = name.strip_prefix("IP Address:").or_else(|| name.strip_prefix("IP:")) {
                    seen.ip_names.push(plain(ip));
                }
            }
        } else if line.contains("Subject Alternative Name") {
            names_next = true;
        } else if let Some((key, value)) = line.split_once('=') {
            match key.trim().to_ascii_lowercase().as_str() {
                "subject" => {
                    seen.subject = plain(value);
                    seen.common_name = common_name(value);
                }
                "issuer" => seen.issuer = plain(value),
                "notbefore" => seen.not_before = openssl_time(value),
                "notafter" => seen.not_after = openssl_time(value),
                key if key.ends_with("fingerprint") => seen.fingerprint = plain(value),
                _ => {}
            }
        }
    }
    if seen.subject.is_empty() && seen.fingerprint.is_empty() && seen.dns_names.is_empty() {
        return Look::Unknown(format!("openssl's answer was not understood: {:?}", tail(&plain(text), 160)));
    }
    Look::Seen(seen)
}

/// The common name in a subject as openssl writes it: `/C=JP/CN=a.example` up to 1.0.2, `C = JP, CN = a.example`
/// and `C=JP, CN=a.example` since.
fn common_name(subject: &str) -> Option<String> {
    let subject = subject.trim();
    let parts: Vec<&str> =
        if subject.starts_with('/') { subject.split('/').collect() } else { subject.split([',', '+']).collect() };
    // The last one is the most specific.
    parts.iter().rev().find_map(|part| {
        let (key, value) = part.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (key.trim() == "CN" && !value.is_empty()).then(|| plain(value))
    })
}

/// A time as openssl writes it: `Nov  2 01:02:03 2027 GMT`; seconds since 1970.
fn openssl_time(text: &str) -> Option<i64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [month, day, time, year, "GMT"] = words.as_slice() else { return None };
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| name == month)? + 1;
    let day: u8 = day.parse().ok()?;
    let year: u16 = year.parse().ok()?;
    let at: jiff::Timestamp = format!("{year:04}-{month:02}-{day:02}T{time}Z").parse().ok()?;
    Some(at.as_second())
}

fn read_volumes(json: &[u8], reach: &BTreeMap<String, Reach>) -> Result<Vec<NfsVolume>, String> {
    let value: Value =
        serde_json::from_slice(json).map_err(|error| format!("kubectl get pv printed no JSON ({error})"))?;
    let items = value.get("items").and_then(Value::as_array).ok_or("kubectl get pv printed JSON without \"items\"")?;
    let word =
        |item: &Value, pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(plain).unwrap_or_default();
    Ok(items
        .iter()
        .filter(|item| item.pointer("/spec/nfs").is_some_and(Value::is_object))
        .map(|item| {
            let server = word(item, "/spec/nfs/server");
            NfsVolume {
                name: word(item, "/metadata/name"),
                path: word(item, "/spec/nfs/path"),
                phase: word(item, "/status/phase"),
                reach: reach
                    .get(&server)
                    .cloned()
                    .unwrap_or_else(|| Reach::Unknown("the node did not try it".to_owned())),
                server,
            }
        })
        .collect())
}

/// What the node packed, unpacked; as it is where the node has no gzip.
fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes.to_vec());
    }
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .take(LARGEST)
        .read_to_end(&mut out)
        .map_err(|error| format!("the list of pods did not arrive whole ({error})"))?;
    Ok(out)
}

/// Reads the output of `kubectl get pods --all-namespaces -o json`.
///
/// # Errors
/// One sentence that says why there is no list in it.
fn parse_pods(json: &[u8]) -> Result<PodsSeen, String> {
    let value: Value = serde_json::from_slice(json)
        .map_err(|error| format!("kubectl get pods did not answer with a list ({error})"))?;
    let items =
        value.get("items").and_then(Value::as_array).ok_or("kubectl get pods printed JSON without \"items\"")?;
    let word =
        |item: &Value, pointer: &str| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    // Its owner; the label that Kubernetes gives every pod of a job; a hook's pod also by its name.
    let job = |item: &Value| {
        let owners = item.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let owner = owners.and_then(|all| all.iter().find(|owner| word(owner, "/kind") == "Job"));
        let label = || {
            ["/metadata/labels/job-name", "/metadata/labels/batch.kubernetes.io~1job-name"]
                .iter()
                .map(|pointer| word(item, pointer))
                .find(|name| !name.is_empty())
        };
        let by_name = || {
            let name = word(item, "/metadata/name");
            name.rsplit_once('-').map(|(job, _)| job.to_owned()).filter(|job| is_hook_name(job))
        };
        owner.map(|owner| word(owner, "/name")).or_else(label).or_else(by_name).map(|name| plain(&name))
    };
    let mut seen = PodsSeen { total: items.len(), ..PodsSeen::default() };
    // Jobs of which a pod ended well: their failed tries are history.
    let done: Vec<(String, String)> = items
        .iter()
        .filter(|item| word(item, "/status/phase") == "Succeeded")
        .filter_map(|item| Some((word(item, "/metadata/namespace"), job(item)?)))
        .collect();
    for item in items {
        let namespace = word(item, "/metadata/namespace");
        let phase = word(item, "/status/phase");
        let reason = word(item, "/status/reason");
        let job = job(item);
        let containers =
            item.pointer("/status/containerStatuses").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let wanted = item.pointer("/spec/containers").and_then(Value::as_array).map_or(containers.len(), Vec::len);
        let ready = containers.iter().filter(|one| one.get("ready") == Some(&Value::Bool(true))).count();
        let leaving = item.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null());
        let waiting = containers.iter().map(|one| word(one, "/state/waiting/reason")).find(|reason| !reason.is_empty());
        let why = match phase.as_str() {
            "Succeeded" => {
                seen.completed += 1;
                continue;
            }
            "Failed" if reason == "Evicted" => {
                seen.evicted += 1;
                continue;
            }
            "Failed" if job.as_ref().is_some_and(|job| done.contains(&(namespace.clone(), job.clone()))) => {
                seen.completed += 1;
                continue;
            }
            "Running" if !leaving && wanted > 0 && ready >= wanted => {
                seen.well += 1;
                continue;
            }
            "Running" if leaving => "is being removed".to_owned(),
            "Running" => match waiting {
                Some(reason) => format!("{ready} of {wanted} containers ready, {reason}"),
                None => format!("{ready} of {wanted} containers ready"),
            },
            "" => "no phase".to_owned(),
            phase => {
                let reason = waiting.unwrap_or(reason);
                if reason.is_empty() { phase.to_owned() } else { format!("{phase}, {reason}") }
            }
        };
        let job = if phase == "Failed" { job } else { None };
        let name = plain(&word(item, "/metadata/name"));
        seen.unwell.push(UnwellPod { namespace: plain(&namespace), name, why: plain(&why), job });
    }
    Ok(seen)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "target_tests.rs"]
pub(super) mod tests;
