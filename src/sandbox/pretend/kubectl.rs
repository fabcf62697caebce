//! The pretend `kubectl`: jobs, pods, logs, nodes and the identity of the cluster.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::hook::{self, NAMESPACE};
use super::record::Record;
use super::{Node, amv, influx, look, say, say_err};

/// Runs the pretend kubectl; the exit code.
pub(crate) fn run(node: Option<&Node>, argv: &[String]) -> u8 {
    if let (Some(node), Some(amv::ASK)) = (node, argv.first().map(String::as_str)) {
        return amv::ask(node, argv);
    }
    match answer(node, argv) {
        Ok(code) => code,
        Err(text) => {
            say_err(format!("{text}\n"));
            1
        }
    }
}

/// What was asked: the words without options, and the options that matter.
#[derive(Default)]
struct Asked {
    words: Vec<String>,
    namespace: Option<String>,
    all: bool,
    output: Option<String>,
    selector: Option<String>,
    bare: bool,
    ignore_missing: bool,
    tail: Option<usize>,
    columns: Option<String>,
}

fn parse(argv: &[String]) -> Result<Asked, String> {
    let mut asked = Asked::default();
    let mut words = argv.iter();
    while let Some(word) = words.next() {
        let (name, given) = match word.split_once('=') {
            Some((name, value)) if name.starts_with('-') => (name, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        let mut value = || {
            given
                .clone()
                .or_else(|| words.next().cloned())
                .ok_or_else(|| format!("error: flag needs an argument: {name}"))
        };
        match name {
            "-n" | "--namespace" => asked.namespace = Some(value()?),
            "-o" | "--output" => asked.output = Some(value()?),
            "-l" | "--selector" => asked.selector = Some(value()?),
            "-L" | "--label-columns" => asked.columns = Some(value()?),
            "--tail" => asked.tail = value()?.parse().ok(),
            "-c" | "--container" | "--request-timeout" | "--kubeconfig" | "--cascade" | "--grace-period"
            | "--timeout" => {
                value()?;
            }
            "-A" | "--all-namespaces" => asked.all = true,
            "--no-headers" => asked.bare = true,
            "--ignore-not-found" => asked.ignore_missing = given.as_deref() != Some("false"),
            "--wait" | "--timestamps" | "--all-containers" | "--now" | "--force" => {}
            other if other.starts_with('-') && other.len() > 1 => {
                return Err(format!(
                    "Error: unknown {} {}\nSee 'kubectl --help' for usage.",
                    if other.starts_with("--") { "flag:" } else { "shorthand flag:" },
                    other
                ));
            }
            _ if word.starts_with("-o") && word.len() > 2 => asked.output = word.get(2..).map(str::to_owned),
            _ => asked.words.push(word.clone()),
        }
    }
    Ok(asked)
}

fn answer(node: Option<&Node>, argv: &[String]) -> Result<u8, String> {
    // `-ojson` is one word.
    let argv: Vec<String> = argv
        .iter()
        .flat_map(|word| match word.strip_prefix("-o") {
            Some(form) if !form.is_empty() && !word.starts_with("-o=") => vec!["-o".to_owned(), form.to_owned()],
            _ => vec![word.clone()],
        })
        .collect();
    // What comes behind `--` is not kubectl's.
    let own: Vec<String> = argv.iter().take_while(|word| *word != "--").cloned().collect();
    let execs = own.iter().any(|word| word == "exec");
    let asked = if execs { Asked::default() } else { parse(&own)? };
    let Some(node) = node else {
        return Err("error: stat /etc/kubernetes/kubectl-host.kubeconfig: no such file or directory".to_owned());
    };
    if !(rustix::process::geteuid().is_root() || node.pretend_root) {
        return Err("error: open /etc/kubernetes/kubectl-host.kubeconfig: permission denied".to_owned());
    }
    if node.has("kubectl-down") {
        return Err("The connection to the server leader.telekube.local:6443 was refused - did you specify the right host or port?".to_owned());
    }
    if execs {
        return Ok(influx::exec(node, &argv));
    }
    let words: Vec<&str> = asked.words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["get", kind, rest @ ..] => get(node, &asked, kind, rest),
        ["delete", kind, rest @ ..] => {
            let mut names: Vec<&str> = rest.to_vec();
            let kind = match kind.split_once('/') {
                Some((kind, name)) => {
                    names.insert(0, name);
                    kind
                }
                None => kind,
            };
            match plural(kind) {
                Some("jobs") => names.iter().try_for_each(|name| delete(node, &asked, name)),
                _ => Err(no_type(kind)),
            }
        }
        ["logs", target] => logs(node, &asked, target),
        ["version", ..] => {
            say("Client Version: v1.17.9\nServer Version: v1.17.9\n");
            Ok(())
        }
        [] => Err("kubectl controls the Kubernetes cluster manager.".to_owned()),
        [other, ..] => {
            Err(format!("Error: unknown command \"{other}\" for \"kubectl\"\nRun 'kubectl --help' for usage."))
        }
    };
    done.map(|()| 0)
}

fn plural(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "job" | "jobs" | "jobs.batch" | "job.batch" => "jobs",
        "pod" | "pods" | "po" => "pods",
        "node" | "nodes" | "no" => "nodes",
        "namespace" | "namespaces" | "ns" => "namespaces",
        "pv" | "persistentvolume" | "persistentvolumes" => "persistentvolumes",
        _ => return None,
    })
}

fn no_type(kind: &str) -> String {
    format!("error: the server doesn't have a resource type \"{kind}\"")
}

fn read_all(dir: &Path) -> Vec<Value> {
    let mut paths: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let json = paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    json.filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok()).collect()
}

fn jobs(node: &Node) -> Vec<Value> {
    let mut all = read_all(&hook::jobs(node));
    if let Some(name) = node.fault("foreign-hook-job") {
        let name = if name.is_empty() { "anypoint-backup-f0f0f0".to_owned() } else { name };
        let begun = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(300)).unwrap_or_default();
        let begun = begun.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        all.push(json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "namespace": NAMESPACE, "creationTimestamp": begun, "labels": {"app": "anypoint"}},
            "spec": {"activeDeadlineSeconds": 1200, "backoffLimit": 6, "completions": 1, "template": {"spec": {
                "nodeSelector": {"kubernetes.io/hostname": node.nodes.last().map(|last| last.advertise_ip.clone())},
                "containers": [{"name": "hook"}],
                "volumes": [{"name": "backup", "hostPath": {"path": "/ext/state/f0f0f0/backup"}}],
            }}},
            "status": {"active": 1, "startTime": begun},
        }));
    }
    all
}

fn nodes(node: &Node) -> Vec<Value> {
    node.nodes
        .iter()
        .map(|member| {
            let offline = member.status == "offline" || node.fault("node-offline").as_ref() == Some(&member.hostname);
            json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": member.advertise_ip, "labels": {
                    "kubernetes.io/hostname": member.advertise_ip,
                    "gravitational.io/k8s-role": member.role,
                    "gravitational.io/advertise-ip": member.advertise_ip,
                    "role": member.profile,
                }},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": member.advertise_ip}, {"type": "Hostname", "address": member.advertise_ip}],
                    "conditions": [{"type": "Ready", "status": if offline { "Unknown" } else { "True" }}],
                },
            })
        })
        .collect()
}

/// Pods that are there whatever anybody does: name, namespace, and how they are.
fn standing_pods(node: &Node) -> Vec<Value> {
    let site = format!("gravity-site-{}", node.nodes.len());
    let mut all = vec![
        (site, NAMESPACE, "Running"),
        ("coredns-7xk2p".to_owned(), NAMESPACE, "Running"),
        ("exchange-api-6f7d9c5b8-q4w2x".to_owned(), "default", "Running"),
        ("stolon-keeper-0".to_owned(), "default", "Running"),
        // An earlier backup's pod stays, and is none that is ill.
        ("anypoint-backup-0a1b2c-x7k2p".to_owned(), NAMESPACE, "Succeeded"),
    ];
    if node.amv {
        all.extend(influx::pods().map(|name| (name, "dias", "Running")));
    }
    let crashing = node.fault("pod-crashing");
    if let Some(name) = &crashing
        && !all.iter().any(|(known, ..)| known == name)
    {
        let name = if name.is_empty() { "runtime-manager-5c8b7d-zz9k4" } else { name };
        all.push((name.to_owned(), "default", "Running"));
    }
    let ip = node.nodes.first().map_or(node.advertise_ip.as_str(), |first| first.advertise_ip.as_str());
    let unsettled = node.unsettled().is_some();
    let show = |(name, namespace, phase): (String, &str, &str)| {
        let ill =
            crashing.as_ref().is_some_and(|ill| *ill == name || ill.is_empty() && name.starts_with("runtime-manager"));
        let starting = unsettled && name.starts_with("exchange-api");
        let running = phase == "Running";
        let ready = running && !ill && !starting;
        let state = match (running, ill, starting) {
            (false, ..) => json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
            (_, true, _) => {
                json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}})
            }
            (_, _, true) => json!({"waiting": {"reason": "ContainerCreating"}}),
            _ => json!({"running": {"startedAt": "2026-11-20T01:25:00Z"}}),
        };
        let phase = if starting { "Pending" } else { phase };
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-11-20T01:25:00Z", "labels": {}},
            "spec": {"nodeName": ip},
            "status": {
                "phase": phase,
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
                "containerStatuses": [{"name": "main", "ready": ready, "restartCount": if ill { 17 } else { 0 }, "state": state}],
            },
        })
    };
    all.into_iter().map(show).collect()
}

/// The volumes of the cluster: those that come from NFS say from where.
fn volumes(node: &Node) -> Vec<Value> {
    let volume = |name: &str, source: Value| {
        let mut spec = json!({"accessModes": ["ReadWriteMany"], "capacity": {"storage": "250Gi"}, "persistentVolumeReclaimPolicy": "Retain"});
        if let (Some(spec), Value::Object(source)) = (spec.as_object_mut(), source) {
            spec.extend(source);
        }
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec, "status": {"phase": "Bound"}})
    };
    let mut all = vec![volume("local-postgres-0", json!({"local": {"path": "/var/lib/data/postgres"}}))];
    if let Some((server, path)) = look::nfs_source(node) {
        all.push(volume("pce-nfs", json!({"nfs": {"server": server, "path": path}})));
    }
    all
}

fn at<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn get(node: &Node, asked: &Asked, kind: &str, rest: &[&str]) -> Result<(), String> {
    if matches!(kind, "event" | "events" | "ev") {
        // What happened in the cluster: a file of the sandbox, where somebody put one.
        match fs::read(hook::logs(node).join("events.txt")) {
            Ok(text) => say(text),
            Err(_) => say_err("No resources found\n"),
        }
        return Ok(());
    }
    let (kind, name) = match kind.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (kind, rest.first().copied()),
    };
    let Some(kinds) = plural(kind) else { return Err(no_type(kind)) };
    let mut all = match kinds {
        "jobs" => jobs(node),
        "pods" => {
            let mut all = standing_pods(node);
            all.extend(read_all(&hook::pods(node)));
            all
        }
        "nodes" => nodes(node),
        "persistentvolumes" => volumes(node),
        _ => ["default", NAMESPACE, "dias"]
            .iter()
            .filter(|name| **name != "dias" || node.amv)
            .map(|name| {
                let uid = if *name == NAMESPACE { node.uid_seen() } else { "0f0f0f0f-0000-4000-8000-000000000001".to_owned() };
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": uid, "creationTimestamp": "2026-11-20T01:05:00Z"}, "status": {"phase": "Active"}})
            })
            .collect(),
    };
    let spaced = matches!(kinds, "jobs" | "pods");
    if spaced && !asked.all {
        let namespace = asked.namespace.as_deref().unwrap_or("default");
        all.retain(|item| at(item, "/metadata/namespace") == namespace);
    }
    if let Some(selector) = &asked.selector {
        for part in selector.split(',') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim_start_matches('=');
            all.retain(|item| {
                let label = item.pointer("/metadata/labels").and_then(|labels| labels.get(key)).and_then(Value::as_str);
                label.is_some_and(|label| value.is_empty() || label == value)
            });
        }
    }
    if let Some(name) = name {
        all.retain(|item| at(item, "/metadata/name") == name);
        let Some(one) = all.first() else {
            if asked.ignore_missing {
                return Ok(());
            }
            let group = if kinds == "jobs" { "jobs.batch" } else { kinds };
            return Err(format!("Error from server (NotFound): {group} \"{name}\" not found"));
        };
        return show(asked, kinds, &all, one);
    }
    let list =
        json!({"apiVersion": "v1", "items": all, "kind": "List", "metadata": {"resourceVersion": "", "selfLink": ""}});
    if all.is_empty() && asked.output.is_none() {
        let where_to = asked.namespace.as_deref().unwrap_or("default");
        say_err(if asked.all {
            "No resources found\n".to_owned()
        } else {
            format!("No resources found in {where_to} namespace.\n")
        });
        return Ok(());
    }
    show(asked, kinds, &all, &list)
}

fn show(asked: &Asked, kinds: &str, rows: &[Value], value: &Value) -> Result<(), String> {
    match asked.output.as_deref() {
        Some("json") => {
            let text = serde_json::to_string_pretty(value).map_err(|error| format!("error: {error}"))?;
            say(text.replace("  ", "    ") + "\n");
            Ok(())
        }
        Some("name") => {
            let prefix = if kinds == "jobs" { "job.batch" } else { kinds.trim_end_matches('s') };
            say(rows.iter().map(|row| format!("{prefix}/{}\n", at(row, "/metadata/name"))).collect::<String>());
            Ok(())
        }
        Some(form) if form.starts_with("jsonpath=") => {
            let path = form.trim_start_matches("jsonpath=").trim_matches(['\'', '"']).trim_matches(['{', '}']);
            let pointer = path.replace('.', "/");
            match value.pointer(&pointer) {
                Some(Value::String(text)) => say(text),
                Some(other) => say(other.to_string()),
                None => {}
            }
            Ok(())
        }
        None | Some("wide") => {
            say(table(asked, kinds, rows));
            Ok(())
        }
        Some(other) => Err(format!(
            "error: unable to match a printer suitable for the output format \"{other}\", allowed formats are: custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-file,name,template,templatefile,wide,yaml"
        )),
    }
}

fn age(row: &Value) -> String {
    let created = at(row, "/metadata/creationTimestamp").parse::<jiff::Timestamp>().unwrap_or_default();
    let seconds = jiff::Timestamp::now().as_second() - created.as_second();
    match seconds {
        ..120 => format!("{}s", seconds.max(0)),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

fn table(asked: &Asked, kinds: &str, rows: &[Value]) -> String {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let head: &[&str] = match kinds {
        "jobs" => &["NAME", "COMPLETIONS", "DURATION", "AGE"],
        "pods" => &["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
        "nodes" => &["NAME", "STATUS", "ROLES", "AGE", "VERSION"],
        _ => &["NAME", "STATUS", "AGE"],
    };
    if !asked.bare {
        lines.push(head.iter().map(|&cell| cell.to_owned()).collect());
        if let (Some(columns), Some(line)) = (&asked.columns, lines.first_mut()) {
            line.push(columns.to_uppercase());
        }
    }
    for row in rows {
        let name = at(row, "/metadata/name").to_owned();
        let mut line = match kinds {
            "jobs" => {
                let done = row.pointer("/status/succeeded").and_then(Value::as_u64).unwrap_or(0);
                vec![name, format!("{done}/1"), age(row), age(row)]
            }
            "pods" => {
                let phase = at(row, "/status/phase").to_owned();
                let restarts =
                    row.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_u64).unwrap_or(0);
                let shown = if phase == "Succeeded" { "Completed".to_owned() } else { phase.clone() };
                let shown = if phase == "Failed" { "Error".to_owned() } else { shown };
                let waits = at(row, "/status/containerStatuses/0/state/waiting/reason");
                let shown = if waits.is_empty() { shown } else { waits.to_owned() };
                let ready = row.pointer("/status/containerStatuses/0/ready").and_then(Value::as_bool);
                let ready = ready.unwrap_or(phase == "Running");
                vec![name, format!("{}/1", u8::from(ready)), shown, restarts.to_string(), age(row)]
            }
            "nodes" => {
                let ready = if at(row, "/status/conditions/0/status") == "True" { "Ready" } else { "NotReady" };
                vec![name, ready.to_owned(), "<none>".to_owned(), "2d".to_owned(), "v1.17.9".to_owned()]
            }
            _ => vec![name, "Active".to_owned(), age(row)],
        };
        if let Some(columns) = &asked.columns {
            let label = row.pointer("/metadata/labels").and_then(|labels| labels.get(columns)).and_then(Value::as_str);
            line.push(label.unwrap_or_default().to_owned());
        }
        lines.push(line);
    }
    let wide = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0);
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (column, cell) in line.iter().enumerate() {
            text.push_str(&format!("{cell:<width$}   ", width = wide(column)));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

fn delete(node: &Node, asked: &Asked, name: &str) -> Result<(), String> {
    let path = hook::jobs(node).join(format!("{name}.json"));
    let here = asked.namespace.as_deref() == Some(NAMESPACE) && !name.contains('/');
    if !here || fs::remove_file(path).is_err() {
        if asked.ignore_missing {
            return Ok(());
        }
        return Err(format!("Error from server (NotFound): jobs.batch \"{name}\" not found"));
    }
    Record { args: vec![name.to_owned()], ..Record::new(node, "kubectl", "delete-job", "done", "") }.put(node);
    say(format!("job.batch \"{name}\" deleted\n"));
    Ok(())
}

fn logs(node: &Node, asked: &Asked, target: &str) -> Result<(), String> {
    let pod = target.strip_prefix("pod/").unwrap_or(target);
    let standing = standing_pods(node).iter().any(|item| at(item, "/metadata/name") == pod);
    if standing && !pod.contains('/') {
        // What a pod that is always there has said: a file of the sandbox, where somebody put one.
        let said = fs::read(hook::logs(node).join(format!("{pod}.log")));
        say(said.unwrap_or_else(|_| format!("{pod}: ready\n").into_bytes()));
        return Ok(());
    }
    let name = target.strip_prefix("job/").or_else(|| target.strip_prefix("jobs/"));
    let job = match name {
        Some(job) => job.to_owned(),
        None => {
            let all = read_all(&hook::pods(node));
            let pod = target.strip_prefix("pod/").unwrap_or(target);
            let pod = all.iter().find(|item| at(item, "/metadata/name") == pod);
            pod.map(|pod| at(pod, "/metadata/labels/job-name").to_owned()).unwrap_or_default()
        }
    };
    let known = !job.is_empty() && !job.contains('/');
    let has_pod = read_all(&hook::pods(node)).iter().any(|pod| at(pod, "/metadata/labels/job-name") == job);
    let text = if known && has_pod { fs::read(hook::logs(node).join(format!("{job}.log"))).ok() } else { None };
    let Some(text) = text else {
        let kind = if name.is_some() { "jobs.batch" } else { "pods" };
        let bare = name.unwrap_or(target);
        return Err(format!("Error from server (NotFound): {kind} \"{bare}\" not found"));
    };
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let from = asked.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    say(lines.get(from..).unwrap_or_default().concat());
    Ok(())
}
