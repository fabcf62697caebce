//! `gravity_facts`: looks at the main nodes, all at once.

use serde_json::json;

use super::{Done, World};
use crate::failure::{Failure, Kind};
use crate::gravity;

pub(super) async fn run(world: &World, hosts: &[String]) -> Result<Done, Failure> {
    let looks = hosts.iter().map(|host| async move {
        let look = async { gravity::probe(&world.session(host).await?, &world.probe_options(host)).await };
        (host.clone(), look.await)
    });
    let looks = futures::future::join_all(looks).await;
    let mut work = world.work.lock().await;
    work.facts.clear();
    work.unreachable.clear();
    let mut failures = Vec::new();
    for (host, look) in looks {
        match look {
            Ok(facts) => work.facts.push(facts),
            Err(failure) if failure.kind == Kind::Unreachable => work.unreachable.push((host, failure)),
            Err(failure) => failures.push(if failure.host.is_none() { failure.on(host) } else { failure }),
        }
    }
    if let Some(failure) = Failure::all(failures) {
        return Err(failure);
    }
    if work.facts.is_empty() {
        let all = work.unreachable.iter().map(|(_, failure)| failure.clone());
        return Err(Failure::all(all).unwrap_or_else(|| Failure::new(Kind::NoHost, "the play has no host")));
    }
    let unreachable = work.unreachable.clone();
    let hosts: Vec<_> = work.facts.iter().map(|facts| facts.host.clone()).collect();
    let result =
        json!({ "hosts": &work.facts, "unreachable": unreachable.iter().map(|(host, _)| host).collect::<Vec<_>>() });
    drop(work);
    for (host, failure) in unreachable {
        world.warn(Some(&host), format!("not reached, goes on without it: {failure}")).await;
    }
    Ok(Done::ok(format!("looked at {}", hosts.join(", ")), result))
}
