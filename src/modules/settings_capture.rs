//! `settings_capture`: what Gravity's backup leaves out and a restore needs to be there, as the nodes see it now: the
//! platform's name, the certificate that is served, NFS mounts and volumes, node profiles, versions, disks. Kept in
//! `settings/` of the point, compared with the last point's, and before a restore with the target's.
//!
//! It never fails a backup: what cannot be seen is told, and kept as not seen.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Done, World};
use crate::catalog::{Entry, Point};
use crate::failure::Failure;
use crate::gravity::{self, Kept, KeptQuestions, Look, NodeFacts, TargetFacts, TargetQuestions};

/// The file that holds what is compared.
const SUMMARY: &str = "settings/summary.json";
/// The topic of certificates in files.
const FILES: &str = "certificate files";
/// A certificate that ends within so many seconds is told.
const SOON: i64 = 30 * 24 * 3600;
/// How many differences are told one by one.
const MOST: usize = 30;

/// What is compared, topic by topic: facts that would be the same on a cluster set up alike.
type Shape = BTreeMap<String, BTreeSet<String>>;

fn seen<T>(look: &Look<T>, of: impl Fn(&T) -> Vec<String>) -> Vec<String> {
    look.seen().map(of).unwrap_or_default()
}

fn date(seconds: Option<i64>) -> String {
    seconds
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| "an unknown day".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

/// The shape of what was seen of a cluster.
fn shape(facts: &[NodeFacts], targets: &BTreeMap<String, TargetFacts>) -> Shape {
    let mut shape = Shape::new();
    let mut put = |topic: &str, all: Vec<String>| shape.entry(topic.to_owned()).or_default().extend(all);
    for target in targets.values() {
        put("DNS", seen(&target.dns, Clone::clone));
        put(
            "certificate",
            seen(&target.certificate, |seen| {
                let names: Vec<&str> = seen.dns_names.iter().chain(&seen.ip_names).map(String::as_str).collect();
                vec![
                    format!("{} for {}, from {}", seen.subject, names.join(" "), seen.issuer),
                    format!("valid until {}", date(seen.not_after)),
                    format!("fingerprint {}", seen.fingerprint),
                ]
            }),
        );
        put(
            "NFS mounts",
            seen(&target.nfs_mounts, |all| all.iter().map(|one| format!("{} on {}", one.source, one.target)).collect()),
        );
        put(
            "NFS volumes",
            seen(&target.nfs_volumes, |all| {
                all.iter().map(|one| format!("{}: {}:{}", one.name, one.server, one.path)).collect()
            }),
        );
    }
    for facts in facts {
        put(
            "disks",
            // A disk is there whether or not a folder of ours is on it at the moment.
            facts.disks.values().map(|disk| format!("{}: {} GiB", disk.mount, disk.total_kib >> 20)).collect(),
        );
        let Some(gravity) = &facts.gravity else { continue };
        put("versions", gravity.version.iter().map(|version| format!("gravity {version}")).collect());
        let Some(status) = &gravity.status else { continue };
        put("versions", vec![format!("PCE {}", status.app_version)]);
        let mut profiles: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for node in &status.nodes {
            *profiles.entry((&node.role, &node.profile)).or_default() += 1;
        }
        put("nodes", profiles.iter().map(|((role, profile), count)| format!("{count} × {role} {profile}")).collect());
    }
    shape
}

/// What was found in files, as facts that are compared.
fn shape_of_files(kept: &BTreeMap<String, Kept>) -> Shape {
    let mut shape = Shape::new();
    for (host, kept) in kept {
        for one in kept.certificates.iter().filter(|one| one.place.starts_with('/')) {
            let fact = format!(
                "{host}:{} {}, valid until {}, fingerprint {}",
                one.place,
                one.seen.subject,
                date(one.seen.not_after),
                one.seen.fingerprint
            );
            shape.entry(FILES.to_owned()).or_default().insert(fact);
        }
        shape.entry("NFS exports".to_owned()).or_default().extend(kept.exports.iter().cloned());
    }
    shape.retain(|_, facts| !facts.is_empty());
    shape
}

/// `pce_certificate_paths`: a list, or one text with commas.
fn certificate_paths(world: &World, host: &str) -> Vec<String> {
    match world.vars.get(host).and_then(|vars| vars.get("pce_certificate_paths")) {
        Some(Value::Array(paths)) => paths.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(text)) => {
            text.split(',').map(str::trim).filter(|path| !path.is_empty()).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// Certificates in files of the nodes, and what the NFS host exports. What cannot be seen is told.
async fn look_at_files(world: &World, nodes: &[(String, Option<String>)]) -> BTreeMap<String, Kept> {
    let nfs = super::nfs::export(world).ok().flatten().map(|(host, _)| (host, None));
    let hosts = nodes.iter().cloned().chain(nfs.filter(|(host, _)| !nodes.iter().any(|(node, _)| node == host)));
    let looks = hosts.map(|(host, state_dir)| async move {
        let questions = KeptQuestions {
            paths: certificate_paths(world, &host),
            state_dir: state_dir.clone().unwrap_or_default(),
            platform_dns: state_dir.and_then(|_| world.var(&host, "pce_platform_dns")),
        };
        let look = async { gravity::kept(&world.session(&host).await?, &questions).await };
        let look = look.await;
        (host, look)
    });
    let mut all = BTreeMap::new();
    for (host, look) in futures::future::join_all(looks).await {
        match look {
            Ok(kept) => {
                all.insert(host, kept);
            }
            Err(failure) => {
                world.warn(Some(&host), format!("its certificates and exports could not be read: {failure}")).await
            }
        }
    }
    all
}

/// Says which certificates end soon: Gravity's own renew nobody.
async fn tell_ends(world: &World, kept: &BTreeMap<String, Kept>) {
    let soon = jiff::Timestamp::now().as_second() + SOON;
    for (host, kept) in kept {
        let ending = kept.certificates.iter().filter(|one| one.seen.not_after.is_some_and(|end| end < soon));
        for one in ending.filter(|one| one.place.starts_with('/')).take(MOST) {
            let text = format!("the certificate {} ends on {}", one.place, date(one.seen.not_after));
            world.warn(Some(host), text).await;
        }
    }
}

/// What is in one and not in the other, a sentence each.
fn differences(before: &Shape, now: &Shape, then_word: &str, now_word: &str) -> Vec<String> {
    let mut all = Vec::new();
    let topics: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let nothing = BTreeSet::new();
    for topic in topics {
        let (before, now) = (before.get(topic).unwrap_or(&nothing), now.get(topic).unwrap_or(&nothing));
        all.extend(before.difference(now).map(|fact| format!("{topic}: {then_word} {fact}")));
        all.extend(now.difference(before).map(|fact| format!("{topic}: {now_word} {fact}")));
    }
    all
}

fn shape_of(point: &Point) -> Option<Shape> {
    let text = std::fs::read_to_string(point.dir.join(SUMMARY)).ok()?;
    serde_json::from_str(&text).ok()
}

/// The last sealed point of the cluster that has settings.
async fn last(world: &World) -> Option<(String, Shape)> {
    let (catalog, cluster) = (world.catalog().ok()?.clone(), world.cluster().ok()?.clone());
    let entries = tokio::task::spawn_blocking(move || catalog.list(Some(&cluster))).await.ok()?.ok()?;
    entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Sealed(point) => Some((point.manifest.finished, point.id().to_string(), shape_of(point)?)),
            _ => None,
        })
        .max_by_key(|(finished, ..)| *finished)
        .map(|(_, id, shape)| (id, shape))
}

pub(super) async fn run(world: &World) -> Result<Done, Failure> {
    let nodes: Vec<(String, Option<String>)> = {
        let work = world.work.lock().await;
        if work.point.is_none() {
            return Ok(Done::skipped("no point is being made"));
        }
        let state = |facts: &NodeFacts| facts.gravity.as_ref().map(|gravity| gravity.state_dir.clone());
        work.facts.iter().map(|facts| (facts.host.clone(), state(facts))).collect()
    };
    let kept = look_at_files(world, &nodes).await;
    tell_ends(world, &kept).await;
    let looks = nodes.into_iter().filter_map(|(host, state_dir)| Some((host, state_dir?))).map(
        |(host, state_dir)| async move {
            let questions = TargetQuestions {
                platform_dns: world.var(&host, "pce_platform_dns"),
                state_dir: Some(state_dir),
                ..TargetQuestions::default()
            };
            let look = async {
                gravity::probe_target(&world.session(&host).await?, &world.probe_options(&host), &questions).await
            };
            (host.clone(), look.await)
        },
    );
    let mut targets = BTreeMap::new();
    for (host, look) in futures::future::join_all(looks).await {
        match look {
            Ok(target) => {
                targets.insert(host, target);
            }
            Err(failure) => world.warn(Some(&host), format!("its settings could not be captured: {failure}")).await,
        }
    }
    if targets.is_empty() {
        return Ok(Done::skipped("no node could be looked at"));
    }
    let before = last(world).await;
    let work = world.work.lock().await;
    let mut now = shape(&work.facts, &targets);
    now.extend(shape_of_files(&kept));
    let now = now;
    let pem: String = kept
        .iter()
        .flat_map(|(host, kept)| {
            kept.certificates.iter().map(move |one| format!("# {host}: {}\n{}", one.place, one.pem))
        })
        .collect();
    let files_of = |of: fn(&Kept) -> Value| {
        kept.iter().map(|(host, kept)| (host.clone(), of(kept))).collect::<serde_json::Map<String, Value>>()
    };
    let topic = |of: fn(&TargetFacts) -> Value| {
        targets.iter().map(|(host, target)| (host.clone(), of(target))).collect::<serde_json::Map<String, Value>>()
    };
    let status = work.facts.iter().find_map(|facts| facts.gravity.as_ref()?.status.as_ref());
    let disks: BTreeMap<&str, Value> =
        work.facts.iter().map(|facts| (facts.host.as_str(), json!(facts.disks))).collect();
    let files = [
        ("settings/dns.json", json!(topic(|target| json!(target.dns)))),
        ("settings/certificates.json", json!(topic(|target| json!(target.certificate)))),
        (
            "settings/nfs.json",
            json!(topic(|target| json!({"mounts": target.nfs_mounts, "volumes": target.nfs_volumes}))),
        ),
        ("settings/certificate-files.json", json!(files_of(|kept| json!(kept.certificates)))),
        ("settings/exports.json", json!(files_of(|kept| json!(kept.exports)))),
        ("settings/nodes.json", json!(status.map(|status| &status.nodes))),
        ("settings/disks.json", json!(disks)),
        (SUMMARY, json!(now)),
    ];
    let mut lost = Vec::new();
    let mut written = 0;
    if let Some(point) = &work.point {
        for (name, value) in &files {
            let text = serde_json::to_string_pretty(value).unwrap_or_default();
            match point.write_file(name, format!("{}\n", world.events.masker().mask(&text)).as_bytes()) {
                Ok(()) => written += 1,
                Err(failure) => lost.push(failure),
            }
        }
    }
    if let (Some(point), false) = (&work.point, pem.is_empty()) {
        match point.write_file("settings/certificates.pem", pem.as_bytes()) {
            Ok(()) => written += 1,
            Err(failure) => lost.push(failure),
        }
    }
    drop(work);
    for failure in lost {
        world.warn(None, format!("settings could not be kept with the point: {failure}")).await;
    }
    let changed = before.map(|(id, before)| (differences(&before, &now, "no longer", "now"), id));
    let mut told = Vec::new();
    if let Some((changed, id)) = changed {
        for text in changed.iter().take(MOST) {
            world.events.note(None, format!("settings changed since {id}: {text}"));
        }
        told = changed;
    }
    let message = match told.len() {
        0 => format!("{written} files"),
        count => format!("{written} files, {count} settings changed since the last point"),
    };
    Ok(Done::ok(message, json!({"files": written, "changed": told})))
}

/// Before a restore: where the target is set up otherwise than the point's cluster was. Told, not judged: the gates
/// judge what matters.
pub(super) async fn tell_differences(world: &World, point: &Point) {
    let then = match &world.choices.restore.away {
        Some(away) => {
            let name = format!("{}/{}/{SUMMARY}", point.cluster, point.id());
            let text = away.place.read(&name).await.ok().flatten();
            text.and_then(|text| serde_json::from_slice(&text).ok())
        }
        None => shape_of(point),
    };
    let Some(mut then): Option<Shape> = then else { return };
    // The NFS host's exports; a node's own certificates are another cluster's in any case.
    let exports = shape_of_files(&look_at_files(world, &[]).await);
    let work = world.work.lock().await;
    let mut now = shape(&work.facts, &work.restoring.targets);
    drop(work);
    now.extend(exports);
    then.remove(FILES);
    now.remove(FILES);
    // What was not looked at on both sides does not differ.
    if super::nfs::export(world).ok().flatten().is_none() {
        then.remove("NFS exports");
    }
    let all = differences(&then, &now, "the point's cluster had", "the target has");
    for text in all.iter().take(MOST) {
        world.events.note(None, format!("differs: {text}"));
    }
    if all.len() > MOST {
        world.events.note(None, format!("differs in {} more settings", all.len() - MOST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(facts: &[(&str, &str)]) -> Shape {
        let mut shape = Shape::new();
        for (topic, fact) in facts {
            shape.entry((*topic).to_owned()).or_default().insert((*fact).to_owned());
        }
        shape
    }

    #[test]
    fn differences_are_told_both_ways_and_equal_ones_not() {
        let before = of(&[("DNS", "10.0.0.1"), ("nodes", "3 × master node"), ("NFS mounts", "a on b")]);
        let now = of(&[("DNS", "10.0.0.2"), ("nodes", "3 × master node"), ("certificate", "x")]);
        assert_eq!(
            differences(&before, &now, "no longer", "now"),
            ["DNS: no longer 10.0.0.1", "DNS: now 10.0.0.2", "NFS mounts: no longer a on b", "certificate: now x"]
        );
        assert!(differences(&now, &now, "no longer", "now").is_empty());
    }
}
