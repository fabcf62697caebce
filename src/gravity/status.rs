//! What `gravity status --output=json` and `kubectl get jobs -o json` say.
//!
//! What lives here: reading both leniently over Gravity 5.2 to 8.0, and what "degraded" means.
//! What does not: running the commands (probe) and the conclusions (preflight).

use serde::Serialize;
use serde_json::Value;

use super::redact::redact_json;

/// A cluster as `gravity status` of one node describes it. Texts that the node did not give are empty.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub struct ClusterStatus {
    /// The cluster's name (`domain`); empty when the cluster could not be read.
    pub name: String,
    /// The cluster image's name: `anypoint` for PCE.
    pub app_name: String,
    /// The cluster image's version: the PCE version.
    pub app_version: String,
    /// `active`, `degraded`, `updating`, `expanding`, …
    pub state: String,
    /// Why it is in that state (`cluster_degraded`, `license_invalid`, …).
    pub reason: Option<String>,
    /// What the node agents say: 0 unknown, 1 running, 2 degraded; absent when no agent answered.
    pub system_status: Option<i64>,
    /// Gravity's version of the cluster's controller; absent while that is down.
    pub server_version: Option<String>,
    /// Gravity's version of the command that was run.
    pub client_version: Option<String>,
    /// The cluster's nodes.
    pub nodes: Vec<StatusNode>,
    /// Operations that run now, one sentence each.
    pub active_operations: Vec<String>,
    /// The whole answer, with tokens and other secrets taken out.
    pub raw: Value,
}

/// One node as `gravity status` lists it.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct StatusNode {
    /// Its own host name.
    pub hostname: String,
    /// The address that it announces to the cluster.
    pub advertise_ip: String,
    /// `master` or `node`; empty for a node that is offline.
    pub role: String,
    /// PCE's node profile (`node`, `node_amv`, …).
    pub profile: String,
    /// `healthy`, `degraded` or `offline`.
    pub status: String,
    /// What is wrong with it, as Gravity says it.
    pub failed_probes: Vec<String>,
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn some_text(value: Option<&Value>) -> Option<String> {
    Some(text(value)).filter(|text| !text.is_empty())
}

impl ClusterStatus {
    /// Reads the standard output of `gravity status --output=json`, whatever the exit code was: a
    /// degraded cluster of Gravity 7 and 8 ends with 255 and still prints everything. Text before
    /// and after the JSON is passed over (Gravity 5 and 6 print errors there too).
    ///
    /// # Errors
    /// One sentence that says why there is no status in it.
    pub fn parse(stdout: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(stdout);
        if text.trim().is_empty() {
            return Err("gravity status printed nothing".to_owned());
        }
        let mut why = "gravity status printed no JSON".to_owned();
        // The answer is one object; 64 tries keep a hostile output from costing quadratic time.
        for (at, _) in text.match_indices('{').take(64) {
            let rest = text.get(at..).unwrap_or_default();
            match serde_json::Deserializer::from_str(rest).into_iter::<Value>().next() {
                Some(Ok(value)) if value.get("cluster").is_some() => return Ok(Self::from_value(value)),
                Some(Ok(_)) => why = "gravity status printed JSON without the key \"cluster\"".to_owned(),
                Some(Err(error)) if error.is_eof() => {
                    why = format!("the JSON of gravity status is cut off ({error})");
                    break;
                }
                Some(Err(_)) | None => {}
            }
        }
        Err(why)
    }

    fn from_value(mut raw: Value) -> Self {
        redact_json(&mut raw);
        let cluster = raw.get("cluster").cloned().unwrap_or(Value::Null);
        let version = |key: &str| {
            let version = cluster.get(key)?;
            some_text(version.get("version")).or_else(|| some_text(Some(version)))
        };
        let nodes = list(cluster.get("nodes"))
            .iter()
            .map(|node| StatusNode {
                hostname: text(node.get("hostname")),
                advertise_ip: text(node.get("advertise_ip")),
                role: text(node.get("role")),
                profile: text(node.get("profile")),
                status: text(node.get("status")),
                failed_probes: list(node.get("failed_probes")).iter().map(|probe| text(Some(probe))).collect(),
            })
            .collect();
        let system_status = match cluster.get("system_status") {
            Some(Value::Number(number)) => number.as_i64(),
            // The enumeration's names, should a build print them.
            Some(Value::String(name)) => match name.to_lowercase().as_str() {
                "running" => Some(1),
                "degraded" => Some(2),
                _ => Some(0),
            },
            _ => None,
        };
        Self {
            name: text(cluster.get("domain")),
            app_name: text(cluster.pointer("/application/name")),
            app_version: text(cluster.pointer("/application/version")),
            state: text(cluster.get("state")),
            reason: some_text(cluster.get("reason")),
            system_status,
            server_version: version("server_version"),
            client_version: version("client_version"),
            nodes,
            active_operations: list(cluster.get("active_operations")).iter().map(operation).collect(),
            raw,
        }
    }

    /// Gravity's own rule: the cluster could not be read, its state is `degraded`, no agent
    /// answered, or the agents say anything but "running".
    pub fn degraded(&self) -> bool {
        self.name.is_empty() || self.state == "degraded" || self.system_status != Some(1)
    }

    /// The parts of it that a manifest and a report keep: no token, no endpoint.
    pub fn summary(&self) -> Value {
        serde_json::json!({
            "cluster": self.name,
            "application": format!("{}:{}", self.app_name, self.app_version),
            "state": self.state,
            "reason": self.reason,
            "degraded": self.degraded(),
            "gravity": self.server_version.as_ref().or(self.client_version.as_ref()),
            "active_operations": self.active_operations,
            "nodes": self.nodes,
        })
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn operation(value: &Value) -> String {
    let kind = text(value.get("type"));
    let (description, state) = (text(value.get("description")), text(value.get("state")));
    let mut out = if description.is_empty() { kind.clone() } else { description };
    if out.is_empty() {
        out = "an operation without a name".to_owned();
    }
    let mut more: Vec<String> = Vec::new();
    if !kind.is_empty() && kind != out {
        more.push(kind);
    }
    if !state.is_empty() {
        more.push(state);
    }
    if let Some(done) = value.pointer("/progress/completion").and_then(Value::as_i64) {
        more.push(format!("{done} %"));
    }
    if !more.is_empty() {
        out.push_str(&format!(" ({})", more.join(", ")));
    }
    out
}

/// A Kubernetes job of the namespace `kube-system`.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct KubeJob {
    /// Its name.
    pub name: String,
    /// True while it is neither complete nor failed. Also between two tries, when no pod runs:
    /// Kubernetes will start the next one.
    pub active: bool,
    /// True when it ended well.
    pub complete: bool,
    /// Why it failed (`DeadlineExceeded`, `BackoffLimitExceeded`, …), when it did.
    pub failed: Option<String>,
    /// When it began, as Kubernetes writes it (RFC 3339, UTC).
    pub started: Option<String>,
}

impl KubeJob {
    /// True when Gravity made it for a hook: such names end in `-` and six hexadecimal digits.
    pub fn is_hook(&self) -> bool {
        is_hook_name(&self.name)
    }

    pub(super) fn from_value(item: &Value) -> Self {
        let condition = |kind: &str| {
            list(item.pointer("/status/conditions"))
                .iter()
                .find(|condition| text(condition.get("type")) == kind && text(condition.get("status")) == "True")
        };
        let complete = condition("Complete").is_some();
        let failed = condition("Failed")
            .map(|failed| some_text(failed.get("reason")).unwrap_or_else(|| "no reason given".to_owned()));
        Self {
            name: text(item.pointer("/metadata/name")),
            active: !complete && failed.is_none(),
            complete,
            failed,
            started: some_text(item.pointer("/status/startTime")),
        }
    }
}

pub(super) fn is_hook_name(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(head, tail)| {
        !head.is_empty() && tail.len() == 6 && tail.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Reads the output of `kubectl -n kube-system get jobs -o json`.
///
/// # Errors
/// One sentence that says why there is no list in it.
pub fn parse_jobs(stdout: &[u8]) -> Result<Vec<KubeJob>, String> {
    let value: Value =
        serde_json::from_slice(stdout).map_err(|error| format!("kubectl get jobs printed no JSON ({error})"))?;
    let items =
        value.get("items").and_then(Value::as_array).ok_or("kubectl get jobs printed JSON without \"items\"")?;
    Ok(items.iter().map(KubeJob::from_value).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hook_names() {
        for (name, hook) in [
            ("anypoint-backup-1a2b3c", true),
            ("restore-000000", true),
            ("anypoint-backup", false),
            ("cleanup-1605840000", false),
            ("a-1A2B3C", false),
            ("-1a2b3c", false),
            ("a-1a2b3", false),
        ] {
            assert_eq!(is_hook_name(name), hook, "{name}");
        }
    }

    #[test]
    fn jobs_are_active_until_kubernetes_says_otherwise() {
        let jobs = parse_jobs(
            br#"{"items":[
            {"metadata":{"name":"a-000001"},"status":{"active":1,"startTime":"2026-11-20T01:02:03Z"}},
            {"metadata":{"name":"b-000002"},"status":{"failed":2}},
            {"metadata":{"name":"c-000003"},"status":{"conditions":[{"type":"Complete","status":"True"}]}},
            {"metadata":{"name":"d-000004"},"status":{"conditions":[{"type":"Failed","status":"True","reason":"DeadlineExceeded"}]}},
            {"metadata":{"name":"e-000005"},"status":{"conditions":[{"type":"Failed","status":"False"}]}},
            {"metadata":{"name":"f-000006"}}]}"#,
        )
        .unwrap();
        let active: Vec<bool> = jobs.iter().map(|job| job.active).collect();
        assert_eq!(active, [true, true, false, false, true, true]);
        assert!(jobs[2].complete);
        assert_eq!(jobs[3].failed.as_deref(), Some("DeadlineExceeded"));
        assert_eq!(jobs[0].started.as_deref(), Some("2026-11-20T01:02:03Z"));
        assert!(parse_jobs(b"The connection to the server was refused").is_err());
        assert!(parse_jobs(b"{}").is_err());
    }
}
