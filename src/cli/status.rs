//! `ferry status CLUSTER`: how the cluster is, what runs in it, what was left in it, and how old its newest
//! recovery point is. Changes nothing.
//!
//! Exit codes: 0 the cluster is well; 2 it is degraded, or nobody can tell how it is; 4 no main node was reached. A node
//! that was not reached while another one answered is a warning, and so is what was left over.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::args::Common;
use super::{open, ping, river};
use crate::catalog::check::{Worth, look};
use crate::catalog::{ArchiveKind, Catalog};
use crate::failure::{Failure, Kind};
use crate::gravity::{self, Leaked, NodeFacts, Policy};
use crate::job::{Listed, State};
use crate::name::ClusterName;
use crate::report::Sink;
use crate::report::figures::{human_bytes, human_duration};
use crate::report::tables::Table;
use crate::secret::clean_json;

/// `ferry status`
///
/// Exit code 0: the cluster is well. 2: it is degraded, or how it is cannot be told. 4: no main node was reached.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The cluster: a group of the inventory
    pub(super) cluster: String,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Shared options
    #[command(flatten)]
    pub(super) common: Common,
}

/// What one node said.
struct Node {
    facts: NodeFacts,
    jobs: Result<Vec<Listed>, Failure>,
    leaked: Vec<Leaked>,
}

/// The newest archive of a kind that can be restored.
struct Newest {
    kind: ArchiveKind,
    point: String,
    age: Duration,
}

fn newest(root: &std::path::Path, cluster: &ClusterName) -> Result<Vec<Newest>, Failure> {
    let shelf = look(&Catalog::open_read(root)?.list(Some(cluster))?);
    let now = jiff::Timestamp::now();
    let mut all = Vec::new();
    for kind in [ArchiveKind::Gravity, ArchiveKind::Amv, ArchiveKind::Nfs] {
        let good = shelf.archives.iter().filter(|on| on.kind == Some(kind) && on.worth == Worth::Verified);
        if let Some((started, on)) = good.filter_map(|on| Some((on.started?, on))).max_by_key(|(started, _)| *started) {
            let age = Duration::from_secs(u64::try_from(now.as_second() - started.as_second()).unwrap_or(0));
            all.push(Newest { kind, point: on.point.to_string(), age });
        }
    }
    Ok(all)
}

pub(super) async fn run(args: StatusArgs) -> Result<u8, Failure> {
    let opened = open::open(&args.common, None)?;
    let cluster = river::cluster(&opened.inventory, &args.cluster)?;
    let hosts = opened.select(&format!("{cluster}:&mains"), args.common.limit.as_deref())?;
    let mut world = ping::world(&opened, &hosts).await?;
    world.cluster = Some(cluster.clone());
    let world = &world;
    let looks = hosts.iter().map(|host| async move {
        let node = async {
            let session = world.session(host).await?;
            let options = world.probe_options(host);
            let facts = gravity::probe(&session, &options).await?;
            let jobs = async { world.jobs(host).await?.list().await };
            let (jobs, kube) = (jobs.await, gravity::staging_jobs(&session, &options).await?);
            let leaked = gravity::leaked(&facts, kube.as_deref());
            Ok::<_, Failure>(Node { facts, jobs, leaked })
        };
        (host.clone(), node.await)
    });
    let (mut nodes, mut failures) = (Vec::new(), Vec::new());
    for (host, look) in futures::future::join_all(looks).await {
        match look {
            Ok(node) => nodes.push(node),
            Err(failure) => failures.push(if failure.host.is_none() { failure.on(host) } else { failure }),
        }
    }
    if nodes.is_empty() {
        return Err(
            Failure::all(failures).unwrap_or_else(|| Failure::new(Kind::NoHost, "the cluster has no main node"))
        );
    }
    let points = match opened.settings.catalogs.first() {
        Some(root) => newest(root, &cluster),
        None => Err(Failure::new(Kind::CouldNotStart, "no catalog is named")),
    };
    tell(&opened, &cluster, &args, &nodes, &failures, &points)
}

fn state_word(state: State) -> String {
    match state {
        State::Done { rc } => format!("done, exit code {rc}"),
        other => other.to_string(),
    }
}

fn tell(
    opened: &open::Opened,
    cluster: &ClusterName,
    args: &StatusArgs,
    nodes: &[Node],
    failures: &[Failure],
    points: &Result<Vec<Newest>, Failure>,
) -> Result<u8, Failure> {
    let facts: Vec<NodeFacts> = nodes.iter().map(|node| node.facts.clone()).collect();
    let unreachable: Vec<(String, String)> =
        failures.iter().map(|failure| (failure.host.clone().unwrap_or_default(), failure.what.clone())).collect();
    let seen = gravity::preflight(&facts, &unreachable, &Policy { cluster: cluster.to_string(), ..Policy::default() });
    let status = facts.iter().filter_map(|facts| facts.gravity.as_ref()?.status.as_ref());
    // One that names nodes says more than one of a node that lost its cluster.
    let status = status.max_by_key(|status| (status.nodes.len(), status.server_version.is_some()));
    let mut warnings: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let well = match status {
        Some(status) => !status.degraded() && status.state == "active",
        None => false,
    };
    let mut jobs = Vec::new();
    for node in nodes {
        match &node.jobs {
            Ok(listed) => jobs.extend(listed.iter().map(|job| (node.facts.host.clone(), job))),
            Err(failure) => warnings.push(format!("{}: ferry's jobs cannot be listed: {failure}", node.facts.host)),
        }
    }
    let leaked: Vec<&Leaked> = nodes
        .iter()
        .flat_map(|node| &node.leaked)
        .filter(|leaked| leaked.state != gravity::StagingJob::Active)
        .collect();
    // Every node tells the same jobs of Kubernetes.
    let hooks: Vec<_> = facts
        .iter()
        .find_map(|facts| facts.gravity.as_ref()?.kube_jobs.as_ref())
        .map(|jobs| jobs.iter().filter(|job| job.is_hook()).collect())
        .unwrap_or_default();
    let failed_hooks = hooks.iter().filter(|job| job.failed.is_some()).count();
    if !leaked.is_empty() {
        let kib: u64 = leaked.iter().map(|leaked| leaked.kib).sum();
        warnings.push(format!(
            "{} folder(s) with secrets were left by hooks that failed, {}: ferry jobs clean --staging {cluster}",
            leaked.len(),
            human_bytes(kib << 10)
        ));
    }
    if failed_hooks > 0 {
        warnings.push(format!("{failed_hooks} hook job(s) failed and are still there: ferry logs {cluster}"));
    }
    let disks: Vec<(String, String, u64, u64)> = facts
        .iter()
        .flat_map(|facts| {
            let mut mounts: Vec<_> = facts.disks.values().collect();
            mounts.sort_by(|a, b| a.mount.cmp(&b.mount));
            mounts.dedup_by(|a, b| a.mount == b.mount);
            mounts
                .into_iter()
                .map(|disk| {
                    let percent = (disk.used_kib * 100).checked_div(disk.used_kib + disk.available_kib).unwrap_or(0);
                    (facts.host.clone(), disk.mount.clone(), percent, disk.available_kib << 10)
                })
                .collect::<Vec<_>>()
        })
        .collect();
    for (host, mount, percent, free) in &disks {
        // From 80 % on Gravity warns; from 90 % on it calls the node degraded.
        if *percent >= 80 {
            warnings.push(format!("{host}: {mount} is {percent} % full, {} free", human_bytes(*free)));
        }
    }
    let code = if well { 0 } else { Kind::Failed.exit_code() };
    if args.common.json(args.json) {
        let value = json!({
            "cluster": cluster,
            "well": well,
            "gravity_name": seen.cluster.as_ref().map(|cluster| &cluster.gravity_name),
            "state": status.map(|status| &status.state),
            "reason": status.and_then(|status| status.reason.clone()),
            "pce_version": seen.cluster.as_ref().and_then(|cluster| cluster.pce_version.clone()),
            "gravity_version": seen.cluster.as_ref().and_then(|cluster| cluster.gravity_version.clone()),
            "operations": status.map(|status| status.active_operations.clone()).unwrap_or_default(),
            "nodes": status.map(|status| json!(status.nodes)).unwrap_or_else(|| json!([])),
            "disks": disks.iter().map(|(host, mount, percent, free)| json!({"host": host, "mount": mount, "used_percent": percent, "free_bytes": free})).collect::<Vec<_>>(),
            "jobs": jobs.iter().map(|(host, job)| json!({"host": host, "job": job.id, "kind": job.kind, "state": state_word(job.state)})).collect::<Vec<_>>(),
            "hooks": hooks,
            "leaked": leaked,
            "points": points.as_ref().map(|points| {
                points.iter().map(|newest| (newest.kind.to_string(), json!({"point": newest.point, "age_seconds": newest.age.as_secs()}))).collect::<serde_json::Map<String, Value>>()
            }).unwrap_or_default(),
            "unreachable": unreachable.iter().map(|(host, what)| json!({"host": host, "why": what})).collect::<Vec<_>>(),
            "warnings": warnings,
        });
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        Sink::stdout().put(&format!("{}\n", clean_json(&opened.masker.mask(&text))));
        return Ok(code);
    }
    let mut out = Sink::stdout();
    let width = crate::report::stdout_width();
    // What does not fit hangs under its own text.
    let mut say = |word: &str, text: &str| {
        let rows = crate::report::render::wrap(&ping::wash(opened, text), width.saturating_sub(11));
        for (number, row) in rows.iter().enumerate() {
            out.put(&format!("{:<11}{row}\n", if number == 0 { word } else { "" }));
        }
    };
    let of = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    say(
        "cluster",
        &format!("{cluster}, Gravity's name {}", of(seen.cluster.as_ref().map(|cluster| cluster.gravity_name.clone()))),
    );
    let state = match status {
        Some(status) => {
            let reason = status.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("{}{reason}", if status.state.is_empty() { "unknown" } else { &status.state })
        }
        None => {
            let why = facts.iter().find_map(|facts| match &facts.gravity {
                Some(gravity) => Some(gravity.status_error.clone()),
                None => facts.not_gravity.clone(),
            });
            format!("unknown: {}", why.unwrap_or_default())
        }
    };
    say("state", &format!("{}{state}", if well { "" } else { "NOT WELL: " }));
    say(
        "versions",
        &format!(
            "PCE {}, Gravity {}",
            of(seen.cluster.as_ref().and_then(|cluster| cluster.pce_version.clone())),
            of(seen.cluster.as_ref().and_then(|cluster| cluster.gravity_version.clone()))
        ),
    );
    for operation in status.iter().flat_map(|status| &status.active_operations) {
        say("operation", operation);
    }
    match points {
        Ok(points) if points.is_empty() => say("points", "none that could be restored"),
        Ok(points) => {
            for newest in points {
                say("point", &format!("{}: {}, {} old", newest.kind, newest.point, human_duration(newest.age)));
            }
        }
        Err(failure) => say("points", &format!("cannot be told: {failure}")),
    }
    if jobs.is_empty() {
        say("jobs", "none of ferry's");
    }
    for (host, job) in &jobs {
        say("job", &format!("{} on {host}: {}, {}", job.id, job.kind, state_word(job.state)));
    }
    for hook in &hooks {
        let state = match (&hook.failed, hook.complete) {
            (Some(reason), _) => format!("failed ({reason})"),
            (None, true) => "complete".to_owned(),
            (None, false) => "RUNS".to_owned(),
        };
        say("hook", &format!("{}: {state}", hook.name));
    }
    for leaked in &leaked {
        say(
            "left over",
            &format!("{}:{} {}, job {}", leaked.host, leaked.path, human_bytes(leaked.kib << 10), leaked.state),
        );
    }
    if let Some(status) = status {
        let mut table = Table::new(["node", "address", "role", "profile", "status"]);
        for node in &status.nodes {
            let failed = if node.failed_probes.is_empty() {
                String::new()
            } else {
                format!(": {}", node.failed_probes.join("; "))
            };
            table.row([
                ping::wash(opened, &node.hostname),
                ping::wash(opened, &node.advertise_ip),
                ping::wash(opened, &node.role),
                ping::wash(opened, &node.profile),
                ping::wash(opened, &format!("{}{failed}", node.status)),
            ]);
        }
        table.print();
    }
    let mut table = Table::new(["host", "disk", "used", "free"]).right(2).right(3);
    for (host, mount, percent, free) in &disks {
        table.row([host.clone(), ping::wash(opened, mount), format!("{percent} %"), human_bytes(*free)]);
    }
    table.print();
    for warning in &warnings {
        crate::report::say_aside(&format!("warning: {}\n", ping::wash(opened, warning)));
    }
    Ok(code)
}
