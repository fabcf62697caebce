//! `migrate_begin`, `migrate_gates`, `migrate_hand_over`, `migrate_end`: what a migration has beside its
//! backup and its restore.
//!
//! The restore of a migration takes the point that this run made, or the run that it carries on, and no other one: it
//! is handed over here, once, when it is sealed, verified and complete.

use serde_json::{Value, json};

use super::restore_gates::confirm;
use super::restoring::{AMV_RESTORE, FoundRestore, GRAVITY_RESTORE, look_for_jobs, meta_of};
use super::{Done, World, gravity_preflight, point_seal};
use crate::catalog::{Entry, Point, Verdict};
use crate::event::{Event, Finding, Severity};
use crate::failure::{Failure, Kind};
use crate::gravity::{self, ClusterIdentity, NodeFacts, Policy};
use crate::name::ClusterName;

fn migration(world: &World) -> Result<&super::world::Migrate, Failure> {
    world.choices.restore.migrate.as_ref().ok_or_else(|| {
        Failure::new(Kind::CouldNotStart, "this task is part of a migration, and no source was named")
            .mend("ferry migrate SOURCE TARGET, or ferry run PLAYBOOK -e ferry_source=SOURCE -e ferry_cluster=TARGET")
    })
}

/// The point that the run which is carried on has sealed.
async fn sealed_before(world: &World) -> Result<Option<Point>, Failure> {
    let Some(id) = world.before.get("point_seal").and_then(|before| before.result.get("point")).and_then(Value::as_str)
    else {
        return Ok(None);
    };
    let (catalog, cluster) = (world.catalog()?.clone(), world.cluster()?.clone());
    let entries = tokio::task::spawn_blocking(move || catalog.list(Some(&cluster)))
        .await
        .map_err(|error| Failure::new(Kind::Bug, error.to_string()))??;
    let found = entries.into_iter().find_map(|entry| match entry {
        Entry::Sealed(point) if point.id().as_str() == id => Some(*point),
        _ => None,
    });
    // A run that was stopped on its last words had removed it already.
    Ok(found.or_else(|| {
        let runs = world.run.dir.parent()?;
        let earlier = world.before.values().map(|before| runs.join(&before.run).join(MIGRATED));
        earlier.filter_map(|folder| Point::open(&folder).ok()).find(|point| point.id().as_str() == id)
    }))
}

/// The folder of a run that has the manifest of a point that was restored and not kept.
const MIGRATED: &str = "migrated";

/// Keeps the manifest of a point that is about to be removed with the run: what was moved, and how it was proved.
fn keep_manifest(point: &Point, run: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = run.join(MIGRATED);
    match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let to = folder.join("manifest.json");
    std::fs::copy(point.dir.join("manifest.json"), &to)?;
    std::fs::File::open(&to)?.sync_all()
}

/// Finds what the run that is carried on has made of the source already.
pub(super) async fn begin(world: &World) -> Result<Done, Failure> {
    migration(world)?;
    match sealed_before(world).await? {
        Some(point) => {
            let text = format!("{}/{} is sealed already", point.cluster, point.id());
            let result = json!({"sealed": true, "point": point.id()});
            world.work.lock().await.sealed = Some(point);
            Ok(Done::ok(text, result))
        }
        None => Ok(Done::ok("the source is backed up first", json!({"sealed": false}))),
    }
}

fn identity(cluster: &ClusterName, facts: &[NodeFacts]) -> Option<ClusterIdentity> {
    gravity::preflight(facts, &[], &Policy { cluster: cluster.to_string(), ..Policy::default() }).cluster
}

/// The gates that can be answered before anything is backed up: the two are different clusters of the same version.
fn compare(source: &ClusterIdentity, target: &ClusterIdentity) -> Vec<Finding> {
    let row = |gate: &str, severity, what: String, why: &str, mend: &str| Finding {
        gate: gate.to_owned(),
        severity,
        host: None,
        what,
        why: why.to_owned(),
        mend: mend.to_owned(),
    };
    let same_uid = source.kube_system_uid.is_some() && source.kube_system_uid == target.kube_system_uid;
    let same_place = source.gravity_name == target.gravity_name
        && source.advertise_addresses.iter().any(|address| target.advertise_addresses.contains(address));
    let mut rows = vec![if same_uid || same_place {
        row(
            "identity",
            Severity::Refuse,
            format!("source and target are the same cluster ({})", target.gravity_name),
            "a migration onto itself would destroy what it saves",
            "name two clusters; to go back in place: ferry restore POINT --to CLUSTER --in-place",
        )
    } else {
        let what = format!("{} goes into {}", source.gravity_name, target.gravity_name);
        row("identity", Severity::Pass, what, "", "")
    }];
    rows.push(match (&source.pce_version, &target.pce_version) {
        (Some(from), Some(to)) if from == to => row("version", Severity::Pass, format!("both run PCE {from}"), "", ""),
        (from, to) => row(
            "version",
            Severity::Refuse,
            format!(
                "the source runs PCE {}, the target {}",
                from.as_deref().unwrap_or("of a version that is not known"),
                to.as_deref().unwrap_or("one that is not known")
            ),
            "PCE restores only into the very version that was backed up, and Gravity does not check it",
            "bring both to the same version first",
        ),
    });
    rows
}

/// A restore is on the target. Where it is of a point that an earlier migration of the same two sealed, that one is gone on with,
/// and nothing is backed up anew; a restore of anything else refuses now, not after an hour's backup.
async fn go_on_with(world: &World, source: &ClusterName) -> Result<Done, Failure> {
    let begun = || Done::ok("the restore has begun already", json!({"begun": true}));
    if world.work.of_source().await.sealed.is_some() {
        return Ok(begun());
    }
    let found = {
        let work = world.work.lock().await;
        let mut jobs = work.found.iter().filter(|(_, job)| job.kind == GRAVITY_RESTORE || job.kind == AMV_RESTORE);
        jobs.find_map(|(host, job)| Some(FoundRestore { host: host.clone(), job: job.clone(), meta: meta_of(job)? }))
    };
    // The journal alone knows of it: the steps of the restore look for themselves.
    let Some(found) = found else { return Ok(begun()) };
    look_for_jobs(world, &found.meta.point).await?;
    let Some(catalog) = world.spool.clone().or_else(|| world.catalog.clone()) else { return Ok(begun()) };
    let (of, wanted) = (source.clone(), found.meta.point.clone());
    let entries = tokio::task::spawn_blocking(move || catalog.list(Some(&of)))
        .await
        .map_err(|error| Failure::new(Kind::Bug, error.to_string()))??;
    let point = entries.into_iter().find_map(|entry| match entry {
        Entry::Sealed(point) if *point.id() == wanted => Some(*point),
        _ => None,
    });
    let Some(point) = point else {
        return Err(Failure::new(Kind::Refused, format!("a restore of another point ({}) is on the target", found.meta.point))
            .on(&found.host)
            .within("gate active")
            .saw(format!("job {} ({}), {}; {source} has no such point here", found.job.id, found.job.kind, found.job.state))
            .why("a restore is never begun over another whose end nobody has seen, and nothing is backed up for one that would be refused")
            .mend(format!("ferry jobs attach {0}; when you know how it ended: ferry jobs clean {0}", found.job.id)));
    };
    let name = format!("{source}/{}", point.id());
    let text = format!(
        "{} is being restored there since {} (job {}, {}): that is gone on with, and nothing is backed up anew",
        name, found.meta.since, found.job.id, found.job.state
    );
    world
        .warn(Some(&found.host), format!("{text}; for a fresh one: ferry jobs clean {}, and once more", found.job.id))
        .await;
    let result = json!({"begun": true, "point": point.id()});
    // At the source as well: its steps find nothing to do.
    world.work.of_source().await.sealed = Some(point);
    Ok(Done::ok(text, result))
}

/// Asks what can be asked before the backup, so that no hour is spent on one that cannot be restored, and the
/// confirmation.
pub(super) async fn gates(world: &World) -> Result<Done, Failure> {
    let source = migration(world)?.source.clone();
    let target = world.cluster()?.clone();
    if source == target {
        return Err(Failure::new(Kind::Refused, "migrate_gates is about the target, and was given the source's hosts"));
    }
    let seen_source = identity(&source, &world.work.of_source().await.facts);
    let seen_target = identity(&target, &world.work.lock().await.facts);
    let (Some(from), Some(to)) = (seen_source, seen_target) else {
        return Err(Failure::new(Kind::Refused, "which cluster source or target is cannot be seen")
            .within("gate identity")
            .why("their status is the only thing that tells them apart")
            .mend("sudo gravity status on a main node of each; ferry status CLUSTER"));
    };
    let findings = compare(&from, &to);
    for finding in &findings {
        world.events.tell(Event::Found { finding: finding.clone() });
    }
    if let Some(failure) = gravity_preflight::refusal(&findings) {
        return Err(failure);
    }
    let begun = {
        let work = world.work.lock().await;
        work.found.iter().any(|(_, job)| job.kind == GRAVITY_RESTORE || job.kind == AMV_RESTORE)
            || ["gravity_restore", "amv_restore"].iter().any(|part| world.before.contains_key(*part))
    };
    if begun {
        return go_on_with(world, &source).await;
    }
    if world.choices.check {
        return Ok(Done::ok(
            "source and target fit; the gates of the restore are asked when there is a point",
            json!({}),
        ));
    }
    // AMV is part of it where the source has it; the restore asks again when the point says so.
    let erases = world.choices.wants("amv")
        && world.vars.keys().any(|host| world.belongs(host, &source) && world.flag(host, "pce_amv"));
    {
        let mut work = world.work.lock().await;
        work.restoring.confirm.clone_from(&world.choices.restore.confirm);
        work.restoring.erase_amv.clone_from(&world.choices.restore.erase_amv);
    }
    confirm(world, target.as_str(), erases).await;
    let work = world.work.lock().await;
    let not = |what: String, flag: String| {
        Failure::new(Kind::Refused, what)
            .within("gate confirmation")
            .why("it is asked before the backup, so that nobody waits for an hour to be refused")
            .mend(flag)
    };
    if work.restoring.confirm.as_deref() != Some(target.as_str()) {
        let typed = work.restoring.confirm.clone().unwrap_or_else(|| "nothing".to_owned());
        return Err(not(format!("that {target} is overwritten was not confirmed"), format!("--confirm {target}"))
            .saw(format!("{typed} was given")));
    }
    if erases && work.restoring.erase_amv.as_deref() != Some(target.as_str()) {
        return Err(not(
            format!("that {target}'s monitoring data is erased was not confirmed"),
            format!("--erase-amv {target}, or --only gravity"),
        ));
    }
    Ok(Done::ok(format!("{source} into {target}"), json!({"source": source, "target": target})))
}

/// Lets the restore have the point: sealed, verified and complete.
pub(super) async fn hand_over(world: &World) -> Result<Done, Failure> {
    let target = world.cluster.as_ref().map(ToString::to_string).unwrap_or_default();
    migration(world)?;
    let Some(point) = world.work.of_source().await.sealed.clone() else {
        return Err(Failure::new(Kind::Failed, "the source's point was not sealed: there is nothing to restore"));
    };
    let name = format!("{}/{}", point.cluster, point.id());
    let go_on = format!("to restore it all the same: ferry restore {name} --to {target}; to begin anew: ferry migrate");
    if point.verdict() != Verdict::Verified {
        return Err(Failure::new(Kind::Refused, format!("{name} is {}", point.verdict()))
            .within("gate verdict")
            .why("a migration overwrites the target with verified archives only")
            .mend(format!("look at it: ferry points show {name}; {go_on}")));
    }
    if !point.manifest.complete {
        return Err(Failure::new(Kind::Failed, format!("{name} is not complete: nothing is overwritten with a part"))
            .saw(point.manifest.warnings.join("; "))
            .mend(go_on));
    }
    let result = json!({"point": point.id(), "path": point.dir});
    world.hand_over(point);
    Ok(Done::ok(name, result))
}

/// Removes what was kept for the way only.
pub(super) async fn end(world: &World) -> Result<Done, Failure> {
    let migrate = migration(world)?.clone();
    let Some(point) = world.handed() else { return Ok(Done::skipped("nothing was migrated")) };
    {
        let work = world.work.lock().await;
        let restoring = &work.restoring;
        if restoring.restored_seconds.is_none() && !restoring.amv_restored && restoring.nfs_restored.is_none() {
            return Ok(Done::skipped("nothing was restored"));
        }
    }
    let name = format!("{}/{}", point.cluster, point.id());
    // Until now the source's node had the only other copy of what went straight.
    if migrate.spool.is_some() {
        world.work.turn(true);
        let tidied = point_seal::cleanup_now(world).await;
        world.work.turn(false);
        tidied?;
    }
    let Some(spool) = migrate.spool else {
        return Ok(Done::ok(format!("{name} is kept in the catalog"), json!({"point": point.id(), "kept": true})));
    };
    // The folder is ours alone: its name says which two clusters it is for.
    let gone = tokio::task::spawn_blocking({
        let (spool, point, run) = (spool.clone(), point.clone(), world.run.dir.clone());
        move || match keep_manifest(&point, &run).and_then(|()| std::fs::remove_dir_all(spool)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    })
    .await
    .map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
    match gone {
        Ok(()) => {
            Ok(Done::changed(format!("{name} was not kept (--no-keep)"), json!({"point": point.id(), "kept": false})))
        }
        Err(error) => {
            let text = format!("{}: {error}; it holds every secret of {}: remove it", spool.display(), migrate.source);
            world.warn(None, format!("the point could not be removed: {text}")).await;
            Ok(Done::ok("the point could not be removed", json!({"point": point.id(), "kept": true})))
        }
    }
}
