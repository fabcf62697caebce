//! What there is to read about a cluster when something went wrong: from every node its journal, the logs of
//! Gravity and AMV, disks; from one main node pods, jobs and their logs; on request `gravity report`.
//!
//! What lives here: the commands, each bounded in time and size, and the names of the files that their output
//! goes to. What does not: taking secrets out (redact), where the files are kept (the module). A command that fails is
//! told in its own file: an absent log is news as well.

use std::time::Duration;

use super::probe::{FUNCTIONS, ProbeOptions, STATE};
use super::status::is_hook_name;
use crate::failure::{Failure, Kind};
use crate::remote::{Exit, Session, quote};

/// How much of each source is brought home at most, in bytes: its end.
pub const MOST: usize = 3 << 20;
/// Pods whose logs are brought home at most.
const PODS: usize = 40;

/// What one source gave.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// Where it goes, relative, such as `journal.txt`.
    pub file: String,
    /// The command that was run, for people.
    pub source: String,
    /// What it printed, standard error behind standard output, as it came: hostile, and full of secrets.
    pub text: String,
    /// Only its end: there was more than [`MOST`].
    pub cut: bool,
    /// How the command ended, when not well.
    pub failed: Option<String>,
}

struct Source {
    file: String,
    source: String,
    script: String,
}

fn word(text: &str) -> Result<String, Failure> {
    quote(text).map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()).saw(format!("{text:?}")))
}

fn head(options: &ProbeOptions) -> Result<String, Failure> {
    Ok(format!(
        "N=x\nG={}\nK={}\nS={}\nD={}\n{FUNCTIONS}{STATE}",
        word(&options.gravity)?,
        word(&options.kubectl)?,
        word(options.state_dir.as_deref().unwrap_or_default())?,
        word(options.node_dir.trim_end_matches('/'))?,
    ))
}

async fn ask(session: &Session, head: &str, source: Source) -> Result<Gathered, Failure> {
    // One byte more than is kept tells that there was more.
    let script = format!("{head}\n{{\n{}\n}} 2>&1 </dev/null | tail -c {}\n", source.script, MOST + 1);
    let said = session.run_root(&script, Duration::from_secs(180)).await?;
    if let Exit::Lost(why) = &said.exit {
        return Err(Failure::new(Kind::Unreachable, "the connection ended while logs were read")
            .on(session.host())
            .saw(why.clone())
            .again());
    }
    let cut = said.out.len() > MOST;
    let mut text = String::from_utf8_lossy(&said.out).into_owned();
    if cut {
        // Half a line may be half a secret, which nothing would know as one.
        text = text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    }
    let (kept, code) = match text.rsplit_once("\n@@rc ") {
        Some((kept, code)) => (kept.to_owned(), code.trim().parse::<i32>().ok()),
        None => (text.clone(), None),
    };
    let failed = match (&said.exit, code) {
        (Exit::Code(0), Some(0)) => None,
        (Exit::Code(0), Some(code)) => Some(format!("exit code {code}")),
        (exit, _) => Some(exit.to_string()),
    };
    Ok(Gathered { file: source.file, source: source.source, text: kept, cut, failed })
}

fn source(file: &str, shown: &str, script: &str) -> Source {
    Source { file: file.to_owned(), source: shown.to_owned(), script: format!("{script}\nprintf '\\n@@rc %s' \"$?\"") }
}

/// Reads every source of one node. `since_epoch` bounds the journals, in seconds since 1970 by the node's clock;
/// `amv_dir` is where AMV's script writes.
///
/// # Errors
/// [`Kind::Unreachable`] and sudo's refusals as [`Session::run_root`] gives them.
pub async fn gather_node(
    session: &Session,
    options: &ProbeOptions,
    since_epoch: i64,
    amv_dir: Option<&str>,
) -> Result<Vec<Gathered>, Failure> {
    let since = since_epoch.max(0);
    let head = head(options)?;
    let no_journal = "command -v journalctl >/dev/null 2>&1 || { echo 'there is no journalctl here'; exit 0; }";
    let amv = word(amv_dir.unwrap_or_default())?;
    let log = |name: &str| {
        source(
            name,
            &format!("/var/log/{name}"),
            &format!("f=/var/log/{name}; if [ -f \"$f\" ]; then tail -c {MOST} \"$f\"; else echo 'there is none'; fi"),
        )
    };
    let sources = vec![
        source(
            "gravity-cli.journal",
            "journalctl -t gravity-cli",
            &format!("{no_journal}\nwithin 60 journalctl -t gravity-cli --no-pager --since=@{since}"),
        ),
        source(
            "journal.txt",
            "journalctl",
            &format!("{no_journal}\nwithin 120 journalctl --no-pager --since=@{since}"),
        ),
        source(
            "planet-journal.txt",
            "journalctl -D <state>/planet/log/journal",
            &format!(
                "{no_journal}\nd=$S/planet/log/journal; [ -d \"$d\" ] || {{ echo 'there is none'; exit 0; }}\nwithin 120 journalctl -D \"$d\" --no-pager --since=@{since}"
            ),
        ),
        log("gravity-system.log"),
        log("gravity-install.log"),
        source(
            "gravity-status.txt",
            "gravity status",
            "if [ -x \"$G\" ] && [ -f \"$S/local/gravity.db\" ]; then within 125 \"$G\" status; else echo 'this is no Gravity node'; fi",
        ),
        source(
            "disk.txt",
            "df, df -i, mount",
            "within 20 df -Pk; within 20 df -Pi; within 10 cat /proc/mounts; ls -la \"$S/planet/state\" \"$S/planet/share\" 2>&1; :",
        ),
        source(
            "amv.txt",
            "*.log in pce_amv_backup_dir and /var/lib/data/influxdb/backup",
            &format!(
                "for d in {amv} /var/lib/data/influxdb/backup; do [ -n \"$d\" ] || continue; for f in \"$d\"/*.log; do [ -f \"$f\" ] && [ ! -L \"$f\" ] || continue; printf '==> %s <==\\n' \"$f\"; tail -c 500000 \"$f\"; printf '\\n'; done; done; :"
            ),
        ),
        source(
            "ferry-jobs.txt",
            "output of ferry's jobs",
            "for d in \"$D\"/jobs/*/; do [ -f \"${d}out\" ] || continue; printf '==> %s <==\\n' \"$d\"; tail -c 500000 \"${d}out\"; printf '\\n'; done; :",
        ),
    ];
    let mut all = Vec::new();
    for source in sources {
        all.push(ask(session, &head, source).await?);
    }
    Ok(all)
}

/// A pod's name that can stand in a command and in a file's name.
fn pod_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !name.is_empty() && name.len() <= 200 && !name.starts_with(['-', '.']) && name.bytes().all(fits)
}

/// Pods of a listing whose logs are worth having: those of hooks and of Gravity's controller, and InfluxDB's.
fn worth_reading(namespace: &str, listing: &str) -> Vec<String> {
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let wanted = |name: &String| {
        let of_hook = name.rsplit_once('-').is_some_and(|(job, _)| is_hook_name(job));
        pod_name(name)
            && match namespace {
                "kube-system" => of_hook || is_hook_name(name) || name.starts_with("gravity-site"),
                _ => name.contains("influxdb"),
            }
    };
    listing.lines().filter_map(first).filter(wanted).take(PODS).collect()
}

/// Reads what Kubernetes tells about the cluster, from one main node.
///
/// # Errors
/// As [`gather_node`].
pub async fn gather_cluster(session: &Session, options: &ProbeOptions) -> Result<Vec<Gathered>, Failure> {
    let head = head(options)?;
    let kubectl =
        |file: &str, words: &str| source(file, &format!("kubectl {words}"), &format!("within 60 \"$K\" {words}"));
    let mut all = Vec::new();
    for (file, words) in [
        ("nodes.txt", "get nodes -o wide"),
        ("pods.txt", "get pods --all-namespaces -o wide"),
        ("jobs.txt", "-n kube-system get jobs -o wide"),
        ("events.txt", "get events --all-namespaces"),
    ] {
        all.push(ask(session, &head, kubectl(file, words)).await?);
    }
    for (namespace, folder) in [("kube-system", "kube-system"), ("dias", "influxdb")] {
        let listed = ask(session, &head, kubectl("", &format!("-n {namespace} get pods --no-headers"))).await?;
        for pod in worth_reading(namespace, &listed.text) {
            let words = format!("-n {namespace} logs {pod} --all-containers --tail=20000");
            all.push(ask(session, &head, kubectl(&format!("{folder}/{pod}.log"), &words)).await?);
        }
    }
    Ok(all)
}

/// `gravity report` on a node: the archive's path there, or why there is none. The archive holds secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It lies there, with this many bytes.
    There(u64),
    /// gravity left an empty file, which is what it does when it fails.
    Empty(String),
    /// gravity failed and left nothing.
    None(String),
}

/// Runs `gravity report` into `path`, which nobody but root can read. It may take ten minutes.
///
/// # Errors
/// As [`gather_node`].
pub async fn report(session: &Session, options: &ProbeOptions, path: &str, since: Duration) -> Result<Report, Failure> {
    let script = format!(
        "{}\nf={}\nmkdir -p \"${{f%/*}}\" || exit 1\nrm -f -- \"$f\"\n\
         out=$(within 900 \"$G\" report --file=\"$f\" --since={since}s </dev/null 2>&1); rc=$?\n\
         case $out in *\"unknown long flag '--since'\"*) out=$(within 900 \"$G\" report --file=\"$f\" </dev/null 2>&1); rc=$? ;; esac\n\
         chmod 600 \"$f\" 2>/dev/null\n\
         n=none; [ -f \"$f\" ] && [ ! -L \"$f\" ] && n=$(stat -c %s \"$f\")\n\
         printf '%s\\n@@report %s %s\\n' \"$(printf '%s' \"$out\" | tail -c 2000)\" \"$rc\" \"$n\"\n",
        head(options)?,
        word(path)?,
        since = since.as_secs().max(60),
    );
    let said = session.run_root(&script, Duration::from_secs(2000)).await?;
    let text = said.text();
    let (spoken, end) = text.rsplit_once("@@report ").unwrap_or((text.as_str(), ""));
    let spoken = format!("{}{}", spoken.trim(), said.err_text());
    let mut words = end.split_whitespace();
    let (rc, size) = (words.next().unwrap_or("?").to_owned(), words.next().and_then(|size| size.parse::<u64>().ok()));
    let told = format!("exit code {rc}; {spoken}");
    Ok(match size {
        Some(0) => Report::Empty(told),
        Some(bytes) => Report::There(bytes),
        None => Report::None(told),
    })
}

/// Removes the report from the node.
///
/// # Errors
/// As [`gather_node`].
pub async fn forget_report(session: &Session, path: &str) -> Result<(), Failure> {
    let script = format!("rm -f -- {}", word(path)?);
    session.run_root(&script, Duration::from_secs(60)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_named_by_a_host_and_only_names_pass() {
        let listing = "anypoint-backup-0a1b2c-x7k2p 0/1 Completed\ngravity-site-3 1/1 Running\ncoredns-7xk2p 1/1\n-n-0a1b2c-x 1/1\n$(reboot)-0a1b2c-abcde 1\n../x-0a1b2c-abcde 1\n";
        assert_eq!(worth_reading("kube-system", listing), ["anypoint-backup-0a1b2c-x7k2p", "gravity-site-3"]);
        assert_eq!(worth_reading("dias", "dias-prov-k8s-am-influxdb-comp-meta-0 1/1\nother 1/1\n").len(), 1);
    }
}
