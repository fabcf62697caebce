//! `gravity status`, pretended: what it prints and with which code it ends.

use serde_json::{Value, json};

use super::gravity::Trouble;
use super::{Generation, Member, Node, say};

const ETCD: &str = "failed to connect to etcd";

/// Runs `gravity status`.
pub(crate) fn run(node: Option<&Node>, root: bool, output: Option<&str>, token: bool) -> Result<(), Trouble> {
    let no_certificate =
        |state: &str, why: &str| Trouble::because(ETCD, format!("open {state}/secrets/etcd.cert: {why}"));
    let Some(node) = node else {
        if output != Some("json") {
            say("Failed to query Gravity cluster status. Running additional checks\n");
        }
        return Err(no_certificate("/var/lib/gravity", "no such file or directory"));
    };
    let state = node.state_dir.display().to_string();
    if !root {
        return Err(no_certificate(&state, "permission denied"));
    }
    match output {
        None | Some("text" | "json") => {}
        Some(other) => return Err(Trouble::new(format!("unknown output format {other:?}"))),
    }
    if let Some(seconds) = node.number("status-slow", 90.0) {
        std::thread::sleep(node.real(seconds));
    }
    if node.has("status-garbage") {
        say("\x1b[33mWARN\x1b[0m retrying\n{\"cluster\":{\"application\":");
        return Ok(());
    }
    if node.has("etcd-down") {
        if output != Some("json") {
            say("Failed to query Gravity cluster status. Running additional checks\n");
        }
        return Err(Trouble::because(ETCD, "dial tcp 127.0.0.1:2379: connect: connection refused"));
    }
    if token {
        say(format!("{}\n", node.token));
        return Ok(());
    }
    match output {
        Some("json") => say(json(node).to_string()),
        _ => say(text(node)),
    }
    if degraded(node) && node.generation >= Generation::G7 {
        return Err(Trouble::new("degraded"));
    }
    Ok(())
}

fn offline(node: &Node, member: &Member) -> bool {
    node.fault("node-offline").is_some_and(|name| name == member.hostname) || member.status == "offline"
}

fn ill(node: &Node, member: &Member) -> Option<String> {
    if let Some(reason) = node.fault("degraded")
        && member.hostname == node.nodes.last().map_or("", |last| last.hostname.as_str())
    {
        let usual = "disk utilization on /var/lib/gravity exceeds 90 percent";
        return Some(if reason.is_empty() { usual.to_owned() } else { reason });
    }
    if let Some(why) = node.unsettled()
        && member.hostname == node.nodes.last().map_or("", |last| last.hostname.as_str())
    {
        return Some(why.to_owned());
    }
    (member.status == "degraded")
        .then(|| member.failed_probes.first().cloned().unwrap_or_else(|| "kubelet is not healthy".to_owned()))
}

fn degraded(node: &Node) -> bool {
    node.has("degraded") || node.nodes.iter().any(|member| offline(node, member) || ill(node, member).is_some())
}

fn state(node: &Node) -> String {
    match node.fault("state") {
        Some(state) if !state.is_empty() => state,
        _ if degraded(node) => "degraded".to_owned(),
        _ => "active".to_owned(),
    }
}

/// The status as one JSON value.
pub(crate) fn json(node: &Node) -> Value {
    let g5 = node.generation == Generation::G5;
    let cluster = node.cluster_seen();
    let mut nodes = Vec::new();
    for member in &node.nodes {
        let mut shown = if offline(node, member) {
            json!({"hostname": member.hostname, "advertise_ip": member.advertise_ip, "role": "", "profile": "", "status": "offline"})
        } else {
            let mut shown = json!({"hostname": member.hostname, "advertise_ip": member.advertise_ip, "role": member.role, "profile": member.profile, "status": "healthy"});
            if let Some(reason) = ill(node, member) {
                put(&mut shown, "status", json!("degraded"));
                put(&mut shown, "failed_probes", json!([reason]));
            }
            shown
        };
        if node.generation >= Generation::G7 {
            put(&mut shown, "selinux", json!(false));
        }
        nodes.push(shown);
    }
    let version =
        json!({"edition": "enterprise", "version": node.gravity_version, "git_commit": "b45e6597", "helm": "v2.15"});
    let mut value = json!({
        "application": {"repository": "gravitational.io", "name": "anypoint", "version": node.app_version_seen()},
        "state": state(node),
    });
    if degraded(node) {
        put(&mut value, "reason", json!("cluster_degraded"));
    }
    put(&mut value, "domain", json!(cluster));
    if !g5 {
        put(&mut value, "cloud_provider", json!("onprem"));
    }
    put(
        &mut value,
        "token",
        json!({"token": node.token, "expires": "0001-01-01T00:00:00Z", "type": "expand", "account_id": "00000000-0000-0000-0000-000000000001", "site_domain": cluster, "operation_id": "", "user_email": format!("agent@{cluster}")}),
    );
    put(
        &mut value,
        "operation",
        json!({"type": "operation_install", "id": "11111111-2222-3333-4444-555555555555", "state": "completed", "created": "2026-11-20T01:02:03Z", "description": format!("{}-node install", node.nodes.len()), "progress": {"message": "Operation has completed", "completion": 100, "created": "2026-11-20T01:22:03Z"}}),
    );
    if let Some(kind) = active(node) {
        put(
            &mut value,
            "active_operations",
            json!([{"type": kind, "id": "99999999-2222-3333-4444-555555555555", "state": "in_progress", "created": "2026-11-22T01:02:03Z", "description": kind, "progress": {"message": "Operation is in progress", "completion": 42, "created": "2026-11-22T01:12:03Z"}}]),
        );
    }
    let first = node.nodes.first().map_or("10.0.0.11", |member| member.advertise_ip.as_str());
    put(
        &mut value,
        "endpoints",
        json!({"applications": {}, "cluster": {"auth_gateway": [format!("{first}:32009")], "ui": [format!("https://{first}:32009")]}}),
    );
    put(&mut value, if node.generation >= Generation::G7 { "inline" } else { "Extension" }, json!({}));
    if !node.has("site-down") && !node.site_away() {
        put(&mut value, "server_version", version.clone());
    }
    put(&mut value, "client_version", version);
    put(&mut value, "system_status", json!(if degraded(node) { 2 } else { 1 }));
    put(&mut value, "nodes", json!(nodes));
    json!({ "cluster": value })
}

fn put(value: &mut Value, key: &str, what: Value) {
    if let Some(map) = value.as_object_mut() {
        map.insert(key.to_owned(), what);
    }
}

fn active(node: &Node) -> Option<String> {
    node.fault("active-operation").map(|kind| if kind.is_empty() { "operation_update".to_owned() } else { kind })
}

/// The status as text.
fn text(node: &Node) -> String {
    let colours = node.generation >= Generation::G6;
    let paint = |colour: &str, text: &str| {
        if colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let (green, red) = ("32", "31");
    let mut out = String::new();
    out.push_str(&format!("Cluster name:\t\t{}\n", node.cluster_seen()));
    let state = state(node);
    let shown = if degraded(node) {
        format!("{} ({})", paint(red, &state), paint(red, "one or more of cluster nodes are not healthy"))
    } else {
        paint(if state == "active" { green } else { "33" }, &state)
    };
    out.push_str(&format!("Cluster status:\t\t{shown}\n"));
    let label = if node.generation >= Generation::G7 { "Cluster image" } else { "Application" };
    out.push_str(&format!("{label}:\t\tanypoint, version {}\n", node.app_version_seen()));
    if node.generation > Generation::G5 {
        out.push_str("Cloud provider:\t\tonprem\n");
    }
    out.push_str(&format!("Gravity version:\t{0} (client) / {0} (server)\n", node.gravity_version));
    out.push_str(&format!("Join token:\t\t{}\n", node.token));
    if let Some(kind) = active(node) {
        out.push_str(&format!(
            "Active operations:\n    * {kind}\n      ID:\t\t99999999-2222-3333-4444-555555555555\n      Started:\t\tSun Nov 22 01:02 UTC (1 minute ago)\n"
        ));
    }
    out.push_str(&format!(
        "Last completed operation:\n    * {}-node install\n      ID:\t\t11111111-2222-3333-4444-555555555555\n      Started:\t\tFri Nov 20 01:02 UTC (2 days ago)\n      Completed:\tFri Nov 20 01:22 UTC (2 days ago)\n",
        node.nodes.len()
    ));
    let first = node.nodes.first().map_or("10.0.0.11", |member| member.advertise_ip.as_str());
    out.push_str(&format!(
        "Cluster endpoints:\n    * Authentication gateway:\n        - {first}:32009\n    * Cluster management URL:\n        - https://{first}:32009\nCluster nodes:\n"
    ));
    for (heading, role) in [("Masters", "master"), ("Nodes", "node")] {
        let members: Vec<&Member> = node
            .nodes
            .iter()
            .filter(|member| if offline(node, member) { role == "node" } else { member.role == role })
            .collect();
        if members.is_empty() {
            continue;
        }
        out.push_str(&format!("    {heading}:\n"));
        for member in members {
            let profile = if offline(node, member) { "" } else { member.profile.as_str() };
            out.push_str(&format!("        * {} / {} / {profile}\n", member.hostname, member.advertise_ip));
            if offline(node, member) {
                out.push_str(&format!("            Status:\t\t{}\n", paint(red, "offline")));
            } else if let Some(reason) = ill(node, member) {
                out.push_str(&format!("            Status:\t\t{}\n", paint(red, "degraded")));
                out.push_str(&format!("            [×]\t\t\t{}\n", paint(red, &reason)));
            } else {
                out.push_str(&format!("            Status:\t\t{}\n", paint(green, "healthy")));
                if node.generation >= Generation::G7 {
                    out.push_str(&format!("            Remote access:\t{}\n", paint(green, "online")));
                }
            }
        }
    }
    out
}
