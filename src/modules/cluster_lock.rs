//! `cluster_lock`: one ferry at a time. Takes the watch on more than half of Gravity's masters
//! and holds it until the run ends; then looks for jobs of ferry that are on the nodes.

use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};
use serde_json::json;

use super::{Done, World};
use crate::failure::{Failure, Kind};
use crate::gravity::{self, Policy};
use crate::job::watch::{NotTaken, Owner, Watch};
use crate::name::ClusterName;
use crate::remote::Session;

/// The masters that are hosts of ours, in order of advertise address, and how many of them are needed.
async fn masters(world: &World, hosts: &[String]) -> (Vec<String>, usize) {
    let work = world.work.lock().await;
    let nothing = Policy { cluster: world.about().map(ToString::to_string).unwrap_or_default(), ..Policy::default() };
    let seen = gravity::preflight(&work.facts, &[], &nothing);
    let ours: Vec<String> = seen.masters.iter().filter_map(|master| master.host.clone()).collect();
    if ours.is_empty() {
        // No status could be had: the same order everywhere is by name.
        let mut all = hosts.to_vec();
        all.sort();
        let need = all.len() / 2 + 1;
        return (all, need);
    }
    (ours, seen.masters.len() / 2 + 1)
}

/// How long the lock of a connection that is dead can outlive it: the node lets go after 45 s without a
/// beat, and one beat may still be on its way.
const GHOST: Duration = Duration::from_secs(65);
/// How often it is tried again meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether nobody is behind the lock any more: it is this run's own, from a connection that was lost, or
/// its process was on this machine and is gone. Only waited for, never taken away, so that a mistake (a
/// machine of the same name) costs a minute.
fn ghost(by: &Owner, us: &Owner) -> bool {
    if by.run == us.run {
        return true;
    }
    let pid = i32::try_from(by.pid).ok().and_then(Pid::from_raw);
    by.machine == us.machine && pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// Takes the watch for `cluster`.
///
/// # Errors
/// [`Kind::Refused`] when another ferry has it; [`Kind::Unreachable`] when not enough masters are reached.
pub(super) async fn take(world: &World, hosts: &[String], cluster: &ClusterName) -> Result<Watch, Failure> {
    let (masters, need) = masters(world, hosts).await;
    let mut sessions: Vec<Session> = Vec::new();
    let mut gone = Vec::new();
    for host in &masters {
        match world.session(host).await {
            Ok(session) => sessions.push(session),
            Err(failure) => gone.push(failure),
        }
    }
    let base = masters
        .first()
        .and_then(|host| world.var(host, "ferry_node_dir"))
        .unwrap_or_else(|| "/var/lib/ferry".to_owned());
    let owner = Owner {
        who: world.run.who.user.clone(),
        machine: world.run.who.machine.clone(),
        since: world.run.started,
        run: world.run.id.clone(),
        pid: std::process::id(),
        command: world.run.command.clone(),
    };
    let began = Instant::now();
    let taken = loop {
        match Watch::take(&sessions, need, &base, cluster, &owner).await {
            Err(NotTaken::Busy(busy))
                if began.elapsed() < GHOST && busy.owner.as_ref().is_some_and(|by| ghost(by, &owner)) =>
            {
                if began.elapsed() < PAUSE {
                    world.events.note(
                        Some(&busy.host),
                        "the lock of a connection that was lost is still held there; it ends within 45 s: waiting",
                    );
                }
                tokio::time::sleep(PAUSE).await;
            }
            other => break other,
        }
    };
    match taken {
        Ok(watch) => Ok(watch),
        Err(NotTaken::Busy(busy)) => {
            let line = attach_line(world, hosts).await;
            Err(busy.into_failure().within("lock").mend(line))
        }
        Err(NotTaken::Failed(mut failure)) => {
            failure.more.extend(gone);
            Err(failure.within("lock"))
        }
    }
}

/// The line that shows what the other ferry's job is doing.
async fn attach_line(world: &World, hosts: &[String]) -> String {
    for (host, job) in find(world, hosts).await.0 {
        if job.kind == super::gravity_backup::KIND {
            let flags = &world.run.flags;
            return format!("to watch it: ferry jobs attach {}{flags} (on {host}); or wait until it ends", job.id);
        }
    }
    "wait until it ends, or look with: ferry jobs list".to_owned()
}

/// Jobs of ferry on the hosts, and hosts that could not be asked.
async fn find(world: &World, hosts: &[String]) -> (Vec<(String, crate::job::Listed)>, Vec<Failure>) {
    let asked = hosts.iter().map(|host| async move {
        let listed = async { world.jobs(host).await?.list().await };
        (host.clone(), listed.await)
    });
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for (host, listed) in futures::future::join_all(asked).await {
        match listed {
            Ok(jobs) => found.extend(jobs.into_iter().map(|job| (host.clone(), job))),
            Err(failure) => failures.push(failure.on(host)),
        }
    }
    (found, failures)
}

pub(super) async fn run(world: &World, hosts: &[String]) -> Result<Done, Failure> {
    let cluster = world.cluster()?.clone();
    if world.choices.check {
        return Ok(Done::skipped("--check takes no lock"));
    }
    let watch = take(world, hosts, &cluster).await?;
    let held: Vec<String> = watch.hosts().to_vec();
    let passed: Vec<String> = watch.passed().iter().map(ToString::to_string).collect();
    let reached: Vec<String> = {
        let mut work = world.work.lock().await;
        work.watch = Some(watch);
        work.facts.iter().map(|facts| facts.host.clone()).collect()
    };
    for text in passed {
        world.warn(None, format!("the lock was not taken there: {text}")).await;
    }
    let (found, failures) = find(world, &reached).await;
    // A node that was reached a moment ago and cannot say which jobs it has: one of ours may run there.
    if let Some(failure) = Failure::all(failures.into_iter().filter(|failure| failure.kind != Kind::Unreachable)) {
        return Err(failure.within("jobs"));
    }
    let ours: Vec<_> =
        found.into_iter().filter(|(_, job)| job.cluster.as_ref() == Some(&cluster) || job.cluster.is_none()).collect();
    let result = json!({
        "held_on": held,
        "jobs": ours.iter().map(|(host, job)| json!({"host": host, "job": job.id, "state": job.state.to_string(), "kind": job.kind})).collect::<Vec<_>>(),
    });
    let message = format!("held on {}", held.join(", "));
    world.work.lock().await.found = ours;
    Ok(Done::ok(message, result))
}
