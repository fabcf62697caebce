//! `ferry runs resume RUN`: carries a failed or interrupted run on at the step that did not finish.
//!
//! What lives here: finding the run and those that carried it on before, parsing its command line
//! again in its folder, and looking whether playbook and inventory are the same. What does not: which
//! tasks are done already (`run::Resume`), the commands themselves.
//!
//! The command line that is repeated is the first run's; a run that was carried on several times is carried on
//! from all their journals together. What was added for one resume is for that one: a confirmation
//! is given anew.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{Cli, Command, Common, Confirmation, JobsCommand, ResumeArgs};
use super::{backup, drill, exec, jobs, logs, migrate, open, restore, run, runs};
use crate::digest::Sha256;
use crate::event::{Event, Events};
use crate::failure::{Failure, Kind};
use crate::plan::Plan;
use crate::report::journal::{self, RunSummary};
use crate::run::Resume;
use crate::secret::MASK;

/// The runs that are carried on, the oldest first, as their journals tell them.
#[derive(Debug, Clone)]
pub(super) struct Given(Arc<Chain>);

#[derive(Debug)]
struct Chain {
    runs: Vec<(String, journal::Contents)>,
    /// Held until the end: nobody else carries the same run on meanwhile.
    _held: File,
}

/// What flows into the run: which one is carried on, what it did, and what to say of it.
pub(super) struct Earlier {
    pub(super) run: String,
    pub(super) done: Resume,
    typed: String,
    warning: Option<String>,
}

impl Earlier {
    /// Says so in the new run.
    pub(super) fn tell(&self, events: &Events) {
        let count = match self.done.count() {
            0 => "none of its steps on single hosts is done".to_owned(),
            1 => "one step on a host is done and is not run again".to_owned(),
            count => format!("{count} steps on hosts are done and are not run again"),
        };
        events.note(
            None,
            format!(
                "carries on run {} ({}): {count}; what is about a whole cluster is looked at again",
                self.run, self.typed
            ),
        );
        if let Some(warning) = &self.warning {
            events.warn(None, warning.clone());
        }
    }
}

/// The first line of a journal, as far as it concerns us.
struct Started<'a> {
    command: &'a [String],
    cwd: Option<&'a str>,
    playbook: Option<&'a str>,
    inventory: Option<&'a str>,
    point: Option<&'a str>,
}

fn started(contents: &journal::Contents) -> Result<Started<'_>, Failure> {
    match contents.events.first().map(|stamped| &stamped.event) {
        Some(Event::RunStarted { command, cwd, playbook_sha256, inventory_sha256, point, .. }) => Ok(Started {
            command,
            cwd: cwd.as_deref(),
            playbook: playbook_sha256.as_deref(),
            inventory: inventory_sha256.as_deref(),
            point: point.as_deref(),
        }),
        _ => Err(Failure::new(Kind::CouldNotStart, "the run's journal has no beginning")
            .why("the run ended before anything was begun")
            .mend("start its command again")),
    }
}

fn too_old(run: &str, what: &str) -> Failure {
    Failure::new(Kind::CouldNotStart, format!("run {run} cannot be carried on: its journal does not say {what}"))
        .why("it was written by an older ferry")
        .mend("start its command again")
}

impl Given {
    /// What is done already, when `plan` is still the plan of those runs.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`]: the playbook is another, or a value that is needed was masked.
    pub(super) fn read(
        &self,
        plan: &Plan,
        playbook: Option<Sha256>,
        inventory: Option<Sha256>,
    ) -> Result<Earlier, Failure> {
        let Some((run, contents)) = self.0.runs.last() else {
            return Err(Failure::new(Kind::Bug, "no run is carried on"));
        };
        let then = started(contents)?;
        let before = then.playbook.ok_or_else(|| too_old(run, "which playbook it was"))?;
        let now = playbook.map(|digest| digest.to_string()).unwrap_or_default();
        if before != now {
            return Err(Failure::new(Kind::CouldNotStart, format!("the playbook is another than in run {run}"))
                .saw(format!("then sha256 {before}, now sha256 {now}"))
                .why("a step is known by its place in the playbook: with another one nobody can say which steps are done")
                .mend("put the playbook back (or use the ferry of that run), or start the command anew"));
        }
        let warning = match (then.inventory, inventory.map(|digest| digest.to_string())) {
            (Some(before), Some(now)) if before == now => None,
            (before, now) => Some(format!(
                "the inventory is another than in run {run} (then sha256 {}, now sha256 {}): hosts are known by their names",
                before.unwrap_or("unknown"),
                now.as_deref().unwrap_or("unknown")
            )),
        };
        let chain = self.0.runs.iter().map(|(run, contents)| {
            (run.as_str(), contents.events.iter().map(|stamped| &stamped.event).collect::<Vec<_>>())
        });
        let done = Resume::of(plan, chain);
        match done.masked(plan) {
            Some(failure) => Err(failure),
            None => {
                let first = self.0.runs.first().map(|(_, contents)| started(contents)).transpose()?;
                let typed = first.map(|first| first.command.join(" ")).unwrap_or_default();
                Ok(Earlier { run: run.clone(), done, typed, warning })
            }
        }
    }
}

type Known = Vec<(PathBuf, RunSummary)>;

fn known(runs: &Path) -> Result<Known, Failure> {
    let listed = journal::list(runs)
        .map_err(|error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", runs.display())))?;
    Ok(listed.into_iter().filter_map(|(dir, run)| Some((dir, run.ok()?))).collect())
}

/// The last run of those that carried this one on, itself when nobody did.
fn last<'a>(all: &'a Known, mut at: &'a (PathBuf, RunSummary)) -> &'a (PathBuf, RunSummary) {
    // A chain is never longer than the list: a circle in damaged journals ends here too.
    for _ in 0..all.len() {
        let next = all.iter().filter(|(_, run)| run.resumes.as_deref() == Some(at.1.id.as_str()));
        match next.max_by_key(|(_, run)| run.started) {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}

/// The runs from the first to `at`, the first first.
fn chain<'a>(all: &'a Known, at: &'a (PathBuf, RunSummary)) -> Result<Vec<&'a (PathBuf, RunSummary)>, Failure> {
    let mut chain = vec![at];
    while let Some(before) = chain.last().and_then(|(_, run)| run.resumes.as_deref()) {
        let found = all.iter().find(|(_, run)| run.id == before).filter(|_| chain.len() <= all.len());
        chain.push(found.ok_or_else(|| {
            Failure::new(Kind::CouldNotStart, format!("run {before}, which run {} carried on, cannot be read", at.1.id))
                .why("its journal says what was typed and which steps are done")
                .mend("put its folder back beside the others, or start the command anew")
        })?);
    }
    chain.reverse();
    Ok(chain)
}

fn goes_on(run: &RunSummary) -> Failure {
    let mend = match run.jobs.last() {
        Some(job) if !job.cleaned => format!("wait until it ends, or watch its job: ferry jobs attach {}", job.job),
        _ => "wait until it ends".to_owned(),
    };
    Failure::new(Kind::Refused, format!("run {} is still going on", run.id))
        .saw(format!("another ferry has its journal open: {}", run.command.join(" ")))
        .why("two ferries would do the same steps")
        .mend(mend)
}

pub(super) async fn run(args: ResumeArgs) -> Result<u8, Failure> {
    let runs = open::settings(&[], None, args.common.run_dir.as_deref(), None)?.runs;
    let (all, held, asked) = loop {
        let all = known(&runs)?;
        let asked = runs::find(&runs, &args.run)?;
        let Some(first) = all.iter().find(|(dir, _)| *dir == asked) else {
            // Its own reader says what is wrong with it.
            journal::summarise(&asked)?;
            return Err(Failure::new(Kind::CouldNotStart, format!("run {} cannot be read", args.run)));
        };
        let newest = last(&all, first);
        if newest.1.exit == Some(0) {
            let by =
                if newest.1.id == first.1.id { String::new() } else { format!(", carried on by run {},", newest.1.id) };
            crate::report::say(&format!("run {}{by} ended with 0: there is nothing to resume\n", first.1.id));
            return Ok(0);
        }
        let held = match journal::hold(&newest.0) {
            Ok(held) => held,
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => return Err(goes_on(&newest.1)),
            Err(error) => {
                return Err(Failure::new(Kind::CouldNotStart, "the run's journal cannot be opened")
                    .saw(format!("{}: {error}", newest.0.display())));
            }
        };
        // Somebody may have carried it on, or it may have ended, between the look and the hold.
        let again = known(&runs)?;
        let same = again
            .iter()
            .find(|(dir, _)| *dir == newest.0)
            .is_some_and(|run| last(&again, run).1.id == newest.1.id && run.1.exit == newest.1.exit);
        if same {
            let dir = newest.0.clone();
            break (all, held, dir);
        }
    };
    let Some(at) = all.iter().find(|(dir, _)| *dir == asked) else {
        return Err(Failure::new(Kind::Bug, "the run is gone"));
    };
    let mut chained = Vec::new();
    for (dir, run) in chain(&all, at)? {
        chained.push((run.id.clone(), journal::read(&dir.join(journal::FILE))?));
    }
    let given = Given(Arc::new(Chain { runs: chained, _held: held }));
    repeat(args, given, runs).await
}

/// Parses the first run's command line again and carries it out with what is known.
async fn repeat(args: ResumeArgs, given: Given, runs: PathBuf) -> Result<u8, Failure> {
    let ResumeArgs { run: _, waive, confirmation, common: own } = args;
    let Some((id, contents)) = given.0.runs.first() else {
        return Err(Failure::new(Kind::Bug, "no run is carried on"));
    };
    let then = started(contents)?;
    let typed = then.command.join(" ");
    if then.command.iter().any(|word| word.contains(MASK)) {
        return Err(Failure::new(Kind::CouldNotStart, format!("the command line of run {id} cannot be repeated"))
            .saw(typed)
            .why("a secret stood in it, and no journal keeps a secret")
            .mend("start the command again; keep secrets in files: --become-password-file FILE, -e @FILE"));
    }
    let cwd = PathBuf::from(then.cwd.ok_or_else(|| too_old(id, "in which folder it was started"))?);
    let own = anchored(own)?;
    std::env::set_current_dir(&cwd).map_err(|error| {
        Failure::new(Kind::CouldNotStart, format!("the folder that run {id} was started in cannot be entered"))
            .saw(format!("{}: {error}", cwd.display()))
            .why("relative paths of its command line begin there")
    })?;
    let cli = Cli::read(then.command.iter().map(std::ffi::OsString::from)).map_err(|error| {
        Failure::new(Kind::CouldNotStart, format!("this ferry does not understand the command line of run {id}"))
            .saw(format!("{typed}: {}", error.to_string().lines().next().unwrap_or_default()))
            .mend("carry it on with the ferry that wrote it, or start the command anew")
    })?;
    let point = then.point.map(str::to_owned);
    let known = given.clone();
    let mine = |common: Common| merged(common, own, known, runs);
    match cli.command {
        Command::Backup(mut args) => {
            // What it made counts as young: the run is carried on to its end all the same.
            args.if_older_than = None;
            args.common = mine(args.common);
            args.waive.extend(waive);
            backup::run(args).await
        }
        Command::Restore(mut args) => {
            args.common = mine(args.common);
            args.waive.extend(waive);
            args.confirmation = confirmed(args.confirmation, confirmation);
            if let Some(point) = point {
                // The very point of that run, whatever is the latest now.
                (args.point, args.from) = (point, None);
            }
            restore::run(args).await
        }
        Command::Migrate(mut args) => {
            args.common = mine(args.common);
            args.waive.extend(waive);
            args.confirmation = confirmed(args.confirmation, confirmation);
            migrate::run(*args).await
        }
        Command::Drill(mut args) => {
            args.common = mine(args.common);
            args.waive.extend(waive);
            args.confirmation = confirmed(args.confirmation, confirmation);
            if let Some(point) = point {
                (args.point, args.from) = (point, None);
            }
            drill::run(*args).await
        }
        Command::Logs(mut args) => {
            args.common = mine(args.common);
            logs::run(args).await
        }
        Command::Run(mut args) => {
            args.common = mine(args.common);
            args.waive.extend(waive);
            args.confirmation = confirmed(args.confirmation, confirmation);
            run::run(args).await
        }
        Command::Exec(mut args) => {
            args.common = mine(args.common);
            exec::run(args).await
        }
        Command::Jobs(JobsCommand::Attach { job, common }) => {
            jobs::run(JobsCommand::Attach { job, common: Box::new(mine(*common)) }).await
        }
        _ => Err(Failure::new(Kind::CouldNotStart, format!("run {id} is none that can be carried on"))
            .saw(typed)
            .mend("start the command again")),
    }
}

/// Paths of the new command line begin in the folder where it was typed, not in the run's.
fn anchored(mut common: Common) -> Result<Common, Failure> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", path.display())))
    };
    for path in [
        &mut common.connection_password_file,
        &mut common.become_password_file,
        &mut common.key_passphrase_file,
        &mut common.private_key,
    ]
    .into_iter()
    .flatten()
    {
        *path = absolute(path)?;
    }
    for source in &mut common.inventory {
        // A list of hosts is no path.
        if !source.contains(',') {
            *source = absolute(Path::new(source))?.display().to_string();
        }
    }
    for vars in &mut common.extra_vars {
        if let Some(path) = vars.strip_prefix('@') {
            *vars = format!("@{}", absolute(Path::new(path))?.display());
        }
    }
    if let Some(url) = &mut common.catalog
        && !url.contains("://")
    {
        *url = absolute(Path::new(url))?.display().to_string();
    }
    Ok(common)
}

/// The run's own options, with those that were given now instead. How a run speaks is for whoever reads
/// along now, so it is never taken from the earlier one.
fn merged(theirs: Common, own: Common, given: Given, runs: PathBuf) -> Common {
    let password = own.ask_become_pass || own.become_password_file.is_some() || own.become_password_env.is_some();
    let become_by = if password { own.clone() } else { theirs.clone() };
    let login = own.ask_pass || own.connection_password_file.is_some();
    let login_by = if login { own.clone() } else { theirs.clone() };
    let vault_by =
        own.vault.ask_vault_pass || !own.vault.vault_password_file.is_empty() || !own.vault.vault_id.is_empty();
    let vault = if vault_by { own.vault.clone() } else { theirs.vault.clone() };
    Common {
        inventory: if own.inventory.is_empty() { theirs.inventory } else { own.inventory },
        limit: own.limit.or(theirs.limit),
        extra_vars: theirs.extra_vars.into_iter().chain(own.extra_vars).collect(),
        forks: own.forks.or(theirs.forks),
        user: own.user.or(theirs.user),
        become_on: own.become_on || theirs.become_on,
        ask_pass: login_by.ask_pass,
        connection_password_file: login_by.connection_password_file,
        ask_become_pass: become_by.ask_become_pass,
        become_password_file: become_by.become_password_file,
        become_password_env: become_by.become_password_env,
        vault,
        key_passphrase_file: own.key_passphrase_file.or(theirs.key_passphrase_file),
        private_key: own.private_key.or(theirs.private_key),
        ssh_common_args: own.ssh_common_args.or(theirs.ssh_common_args),
        timeout: own.timeout.or(theirs.timeout),
        output: own.output,
        catalog: own.catalog.or(theirs.catalog),
        // Where the earlier one is: the next resume finds both.
        run_dir: Some(runs),
        junit: own.junit,
        verbose: own.verbose.max(theirs.verbose),
        resume: Some(given),
        exec: None,
        manner: super::run::Manner::default(),
    }
}

fn confirmed(theirs: Confirmation, own: Confirmation) -> Confirmation {
    Confirmation {
        confirm: own.confirm.or(theirs.confirm),
        erase_amv: own.erase_amv.or(theirs.erase_amv),
        in_place: own.in_place || theirs.in_place,
        accept_suspect: own.accept_suspect.or(theirs.accept_suspect),
        nfs_into: own.nfs_into.or(theirs.nfs_into),
        nfs_over: own.nfs_over.or(theirs.nfs_over),
        open: super::encryption::OpenArgs {
            identity: if own.open.identity.is_empty() { theirs.open.identity } else { own.open.identity },
            passphrase_from: own.open.passphrase_from.or(theirs.open.passphrase_from),
        },
    }
}
