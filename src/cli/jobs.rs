//! `ferry jobs`: jobs on the nodes, from any machine that can reach them.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::json;

use super::args::{Common, JobsCommand};
use super::{backup, open, ping, prompt, restore, river};
use crate::catalog::Catalog;
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::gravity::{self, Leaked};
use crate::job::{Follow, Listed, State};
use crate::modules::gravity_backup::{KIND, as_ours};
use crate::modules::restoring::{AMV_RESTORE, GRAVITY_RESTORE, meta_of};
use crate::modules::world::World;
use crate::modules::{Choices, RestoreChoices, amv_backup, restore_summary};
use crate::report::figures::{human_bytes, human_seconds};
use crate::report::render::{Style, print_failure};
use crate::report::tables::Table;
use crate::report::{Sink, journal};
use crate::secret::{clean, clean_json};

pub(super) async fn run(command: JobsCommand) -> Result<u8, Failure> {
    match command {
        JobsCommand::List { pattern, json, common } => list(&pattern, common.json(json), &common).await,
        JobsCommand::Attach { job, common } => attach(&job, *common).await,
        JobsCommand::Cancel { job, hook, yes, common } => cancel(&job, hook, yes, &common).await,
        JobsCommand::Clean { job, staging: true, yes, json, common } => {
            staging(job.as_deref().unwrap_or("all"), yes, common.json(json), &common).await
        }
        JobsCommand::Clean { job, yes, common, .. } => remove(&job.unwrap_or_default(), yes, &common).await,
    }
}

/// Jobs of all hosts of a pattern, and the hosts that could not be asked.
async fn gather(world: &World, hosts: &[String]) -> (Vec<(String, Listed)>, Vec<Failure>) {
    let asked = hosts.iter().map(|host| async move {
        let listed = async { world.jobs(host).await?.list().await };
        (host.clone(), listed.await)
    });
    let (mut jobs, mut failures) = (Vec::new(), Vec::new());
    for (host, listed) in futures::future::join_all(asked).await {
        match listed {
            Ok(listed) => jobs.extend(listed.into_iter().map(|job| (host.clone(), job))),
            Err(failure) => failures.push(failure),
        }
    }
    (jobs, failures)
}

async fn list(pattern: &str, as_json: bool, common: &Common) -> Result<u8, Failure> {
    let opened = open::open(common, None)?;
    let hosts = opened.select(pattern, common.limit.as_deref())?;
    let world = ping::world(&opened, &hosts).await?;
    let (jobs, failures) = gather(&world, &hosts).await;
    if as_json {
        let all: Vec<_> = jobs
            .iter()
            .map(|(host, job)| json!({"host": host, "job": job.id, "kind": job.kind, "cluster": job.cluster, "state": job.state.to_string(), "started": job.started, "out_bytes": job.out_bytes, "meta": job.meta}))
            .collect();
        Sink::stdout().put(&format!("{}\n", clean_json(&serde_json::to_string_pretty(&all).unwrap_or_default())));
    } else if jobs.is_empty() && failures.is_empty() {
        crate::report::say("no job of ferry is on these hosts\n");
    } else {
        let mut table = Table::new(["host", "job", "kind", "cluster", "state", "since", "by"]);
        for (host, job) in &jobs {
            let meta = as_ours(host, job);
            let since = job.started.and_then(|at| jiff::Timestamp::from_second(i64::try_from(at).ok()?).ok());
            table.row([
                host.clone(),
                job.id.to_string(),
                clean(job.kind.as_bytes()),
                job.cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
                job.state.to_string(),
                since.map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default(),
                meta.map(|ours| clean(ours.meta.who.to_string().as_bytes())).unwrap_or_default(),
            ]);
        }
        table.print();
    }
    for failure in &failures {
        super::show_failure(failure);
    }
    // A host that was not asked may have a job: that is told by the code as well.
    Ok(failures.iter().map(|failure| failure.kind).reduce(Kind::worse).map_or(0, Kind::exit_code))
}

/// The job whose id begins so, on any host.
async fn find(world: &World, hosts: &[String], id: &str) -> Result<(String, Listed), Failure> {
    let (jobs, failures) = gather(world, hosts).await;
    let mut fits: Vec<_> = jobs.into_iter().filter(|(_, job)| job.id.as_str().starts_with(id)).collect();
    match (fits.len(), fits.pop()) {
        (1, Some(found)) => Ok(found),
        (0, _) => Err(match Failure::all(failures) {
            Some(failure) => {
                failure.why(format!("job {id} was not found on the hosts that were reached; it may be on this one"))
            }
            None => Failure::new(Kind::CouldNotStart, format!("no host has a job {id}")).mend("see: ferry jobs list"),
        }),
        _ => Err(Failure::new(Kind::CouldNotStart, format!("several jobs begin with {id}"))
            .mend("give more of the id: ferry jobs list")),
    }
}

/// True when a run of this machine started the job: its journal is here.
fn journal_is_here(opened: &open::Opened, job: &str) -> bool {
    let runs = journal::list(&opened.settings.runs).unwrap_or_default();
    runs.iter().filter_map(|(_, run)| run.as_ref().ok()).any(|run| run.jobs.iter().any(|known| known.job == job))
}

async fn attach(id: &str, common: Common) -> Result<u8, Failure> {
    let opened = open::open(&common, None)?;
    let hosts = opened.select("all", common.limit.as_deref())?;
    let world = ping::world(&opened, &hosts).await?;
    let (host, job) = find(&world, &hosts, id).await?;
    let cluster = job.cluster.clone();
    if let (Some(cluster), true, true) =
        (&cluster, job.kind == KIND || job.kind == amv_backup::KIND, journal_is_here(&opened, job.id.as_str()))
    {
        let ours = as_ours(&host, &job);
        let choices = Choices {
            check: false,
            only: ours.as_ref().map(|ours| ours.meta.only.clone()).unwrap_or_default(),
            label: ours.and_then(|ours| ours.meta.label),
            hold: None,
            waive: Default::default(),
            patience: river::patience()?,
            restore: Default::default(),
        };
        let cluster = cluster.to_string();
        drop(world);
        return backup::backup(&cluster, choices, common).await;
    }
    if let (Some(cluster), true) = (&cluster, [GRAVITY_RESTORE, AMV_RESTORE].contains(&job.kind.as_str()))
        && let Some(meta) = meta_of(&job)
    {
        let root = opened.settings.catalogs.first();
        let point = format!("{}/{}", meta.source, meta.point);
        let here = root.is_some_and(|root| Catalog::open_read(root).and_then(|shelf| shelf.find(&point, None)).is_ok());
        if here {
            let choices = Choices {
                check: false,
                only: meta.only,
                label: None,
                hold: None,
                waive: meta.waived,
                patience: river::patience()?,
                restore: RestoreChoices { point: Some(point), ..RestoreChoices::default() },
            };
            let cluster = cluster.to_string();
            drop(world);
            return restore::restore(&cluster, choices, common).await;
        }
    }
    let (mut out, mut lines) = (Sink::stdout(), crate::event::Lines::sparing(&opened.masker));
    let mut offset = 0;
    let (patience, mut heard) = (river::patience()?, std::time::Instant::now());
    let lost = |what: &str| {
        Failure::new(Kind::Unknown, format!("job {} was not followed to its end", job.id))
            .on(&host)
            .saw(what.to_owned())
            .why("it goes on by itself, if it was begun")
            .mend(format!("ferry jobs attach {}{}", job.id, common.again()))
    };
    let state = loop {
        let followed = async {
            let (jobs, from) = (world.jobs(&host).await?, offset);
            let each = |what: Follow<'_>| {
                heard = std::time::Instant::now();
                if let Follow::Bytes(bytes) = what {
                    offset += bytes.len() as u64;
                    lines.feed(bytes, |line| {
                        out.put(&format!("{}\n", ping::wash(&opened, &String::from_utf8_lossy(line))));
                    });
                }
            };
            jobs.follow(&job.id, from, each).await
        };
        match followed.await {
            Ok(state) if state.is_final() || state == State::Absent => break state,
            Ok(_) if heard.elapsed() < patience => tokio::time::sleep(Duration::from_secs(1)).await,
            Err(failure) if failure.again && heard.elapsed() < patience => {
                world.forget(&host).await;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Ok(state) => return Err(lost(&format!("the node says: {state}"))),
            Err(failure) if failure.again => return Err(lost(&failure.to_string())),
            Err(failure) => return Err(failure),
        }
    };
    lines.end(|line| out.put(&format!("{}\n", ping::wash(&opened, &String::from_utf8_lossy(line)))));
    let next = cluster
        .map(|cluster| format!("; the archive is brought home and sealed by: ferry backup {cluster}"))
        .unwrap_or_default();
    crate::report::say_aside(&format!("{host}: job {} {state}{next}\n", job.id));
    Ok(match state {
        State::Done { rc: 0 } => 0,
        State::Done { .. } => Kind::Failed.exit_code(),
        _ => Kind::Unknown.exit_code(),
    })
}

async fn cancel(id: &str, hook: bool, yes: bool, common: &Common) -> Result<u8, Failure> {
    let opened = open::open(common, None)?;
    let hosts = opened.select("all", common.limit.as_deref())?;
    let world = ping::world(&opened, &hosts).await?;
    let (host, job) = find(&world, &hosts, id).await?;
    if !yes
        && !prompt::yes(&format!("End job {} ({}, {}) on {host}?", job.id, job.kind, job.state), "say so with --yes")?
    {
        return Err(Failure::new(Kind::Refused, "not confirmed: the job goes on"));
    }
    let jobs = world.jobs(&host).await?;
    let mut log = Vec::new();
    // The name of Gravity's own job stands in the output; it is read before anything is ended, and no longer than it takes.
    let named = tokio::sync::Notify::new();
    let reading = jobs.follow(&job.id, 0, |what| {
        if let Follow::Bytes(bytes) = what
            && log.len() < 1 << 20
        {
            log.extend_from_slice(bytes);
            if crate::gravity::hook_job_name(&log).is_some() {
                named.notify_one();
            }
        }
    });
    tokio::select! {
        _ = tokio::time::timeout(Duration::from_secs(5), reading) => {}
        () = named.notified() => {}
    }
    let state = jobs.cancel(&job.id, Duration::from_secs(10)).await?;
    crate::report::say(&format!("{host}: job {} {state}\n", job.id));
    let options = world.probe_options(&host);
    match crate::gravity::hook_job_name(&log) {
        Some(name) if hook => {
            let words = [options.kubectl.as_str(), "-n", "kube-system", "delete", "job", &name];
            let command =
                crate::remote::Command::words(words).map_err(|nul| Failure::new(Kind::Bug, nul.to_string()))?;
            let said = world.session(&host).await?.run_root(command.as_str(), Duration::from_secs(60)).await?;
            let gone = !said.exit.ok() && said.err_text().contains("(NotFound)");
            if gone {
                crate::report::say(&format!(
                    "{host}: Gravity's job {} is not there any more\n",
                    clean(name.as_bytes())
                ));
                return Ok(0);
            }
            if !said.exit.ok() {
                return Err(Failure::new(Kind::Failed, format!("Gravity's job {name} could not be deleted"))
                    .on(&host)
                    .saw(said.err_text()));
            }
            crate::report::say(&format!("{host}: Gravity's job {} deleted\n", clean(name.as_bytes())));
        }
        Some(name) => {
            let name = clean(name.as_bytes());
            crate::report::say_aside(&format!(
                "Gravity's own job {name} may still run in the cluster: sudo kubectl -n kube-system delete job {name}   (or --hook)\n"
            ));
        }
        None if hook => {
            return Err(Failure::new(Kind::Failed, "the job's output does not name Gravity's job")
                .on(&host)
                .mend("look: sudo kubectl -n kube-system get jobs"));
        }
        None => {}
    }
    Ok(0)
}

async fn remove(id: &str, yes: bool, common: &Common) -> Result<u8, Failure> {
    let opened = open::open(common, None)?;
    let hosts = opened.select("all", common.limit.as_deref())?;
    let world = ping::world(&opened, &hosts).await?;
    let (host, job) = find(&world, &hosts, id).await?;
    let question =
        format!("Remove job {} ({}, {}) and its archive from {host}? They are gone then.", job.id, job.kind, job.state);
    if !yes && !prompt::yes(&question, "say so with --yes")? {
        return Err(Failure::new(Kind::Refused, "not confirmed: nothing was removed"));
    }
    let jobs = world.jobs(&host).await?;
    if matches!(job.state, State::NotStarted | State::Absent) {
        jobs.cancel(&job.id, Duration::from_secs(5)).await?;
        jobs.clean(&job.id, Sha256::of(b"")).await?;
    } else {
        if !job.state.is_final() {
            return Err(Failure::new(Kind::Refused, "the job has not ended")
                .on(&host)
                .saw(job.state.to_string())
                .mend(format!("end it first: ferry jobs cancel {}", job.id)));
        }
        let (digest, _) = jobs.log_sha256(&job.id).await?;
        let digest = digest.unwrap_or_else(|| Sha256::of(b""));
        if let Some(meta) = meta_of(&job) {
            for path in [Some(meta.archive), meta.amv_archive].into_iter().flatten() {
                restore_summary::remove(&world, &host, &path).await?;
            }
        }
        match as_ours(&host, &job) {
            Some(ours) => crate::modules::gravity_backup::remove_from_node(&world, &ours, digest).await?,
            None => jobs.clean(&job.id, digest).await?,
        }
    }
    crate::report::say(&format!("{host}: job {} removed\n", job.id));
    Ok(0)
}

/// What became of a staging folder in this call.
struct Folder {
    found: Leaked,
    /// `kept`, `removed`, `gone`, `not removed`, or `listed` while nothing was done.
    done: &'static str,
}

/// The staging folders of one host.
async fn folders_of(world: &World, host: &str) -> Result<Vec<Leaked>, Failure> {
    let (session, options) = (world.session(host).await?, world.probe_options(host));
    let facts = gravity::probe(&session, &options).await?;
    if facts.gravity.as_ref().is_none_or(|gravity| gravity.staging.is_empty()) {
        return Ok(Vec::new());
    }
    let jobs = gravity::staging_jobs(&session, &options).await?;
    Ok(gravity::leaked(&facts, jobs.as_deref()))
}

/// Staging folders of all hosts, and the hosts that could not be asked.
async fn look(opened: &open::Opened, world: &World, hosts: Vec<String>) -> (Vec<Folder>, Vec<Failure>) {
    let mut asked = futures::stream::iter(hosts)
        .map(|host| async move { folders_of(world, &host).await })
        .buffered(opened.settings.forks.max(10));
    let (mut folders, mut failures) = (Vec::new(), Vec::new());
    while let Some(found) = asked.next().await {
        match found {
            Ok(found) => folders.extend(found.into_iter().map(|found| {
                let done = if found.kept.is_some() { "kept" } else { "listed" };
                Folder { found, done }
            })),
            Err(failure) => failures.push(failure),
        }
    }
    (folders, failures)
}

fn told(folders: &[Folder]) -> String {
    let all: Vec<_> = folders
        .iter()
        .map(|folder| {
            let mut value = serde_json::to_value(&folder.found).unwrap_or_default();
            if let Some(object) = value.as_object_mut() {
                object.insert("done".to_owned(), json!(folder.done));
            }
            value
        })
        .collect();
    format!("{}\n", clean_json(&serde_json::to_string_pretty(&all).unwrap_or_default()))
}

async fn staging(pattern: &str, yes: bool, as_json: bool, common: &Common) -> Result<u8, Failure> {
    let opened = open::open(common, None)?;
    let hosts = opened.select(pattern, common.limit.as_deref())?;
    let world = ping::world(&opened, &hosts).await?;
    let (mut folders, mut failures) = look(&opened, &world, hosts).await;
    let put = |text: &str| Sink::stdout().put(&opened.masker.mask(text));
    if !as_json && folders.is_empty() && failures.is_empty() {
        put("no staging folder of Gravity is on these hosts\n");
    } else if !as_json {
        let mut table = Table::new(["host", "folder", "size", "unchanged for", "job", "state", ""]).right(2);
        for Folder { found, .. } in &folders {
            table.row([
                found.host.clone(),
                clean(found.path.as_bytes()),
                human_bytes(found.kib.saturating_mul(1024)),
                found.age_seconds.map(|age| human_seconds(age as f64)).unwrap_or_else(|| "?".to_owned()),
                found.job.as_ref().map(|job| clean(job.as_bytes())).unwrap_or_default(),
                found.state.to_string(),
                found.kept.as_ref().map(|why| format!("stays: {why}")).unwrap_or_default(),
            ]);
        }
        table.print();
    }
    let count = folders.iter().filter(|folder| folder.found.kept.is_none()).count();
    if count > 0 && !yes {
        let question = format!("Remove {count} staging folder{} for good?", if count == 1 { "" } else { "s" });
        let answer = prompt::yes(&question, "say so with --yes");
        if !matches!(answer, Ok(true)) {
            if as_json {
                put(&told(&folders));
            }
            failures.iter().for_each(|failure| print_failure(failure, Style::stderr()));
            answer?;
            return Err(Failure::new(Kind::Refused, "not confirmed: nothing was removed"));
        }
    }
    for folder in folders.iter_mut().filter(|folder| folder.found.kept.is_none()) {
        let host = folder.found.host.clone();
        let removed = async {
            gravity::remove_staging(&world.session(&host).await?, &world.probe_options(&host), &folder.found).await
        };
        match removed.await {
            Ok(gravity::StagingRemoved::Removed) => folder.done = "removed",
            Ok(gravity::StagingRemoved::Gone) => folder.done = "gone",
            Err(failure) => {
                folder.done = "not removed";
                failures.push(failure);
            }
        }
        if !as_json && folder.done != "not removed" {
            put(&format!("{host}: {} {}\n", clean(folder.found.path.as_bytes()), folder.done));
        }
    }
    if as_json {
        put(&told(&folders));
    }
    failures.iter().for_each(|failure| print_failure(failure, Style::stderr()));
    Ok(failures.iter().map(|failure| failure.kind).reduce(Kind::worse).map_or(0, Kind::exit_code))
}
