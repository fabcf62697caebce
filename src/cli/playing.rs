//! Ansible's letters that are about a playbook, for `run` and for the commands that are playbooks underneath: backup,
//! restore, migrate, drill, logs. What does not live here: what they mean for the engine (`run::Manner`).
//!
//! None of them switches a gate off: gates, digests and confirmation are inside the modules that destroy.

use clap::Args;

use super::args::Common;
use super::run::{Manner, tags};
use super::{compat, prompt};
use crate::failure::{Failure, Kind};
use crate::plan::{Plan, Tags};

/// Which parts of the playbook, and what of it is only listed.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Playing {
    /// Show what differs in files
    #[arg(short = 'D', long)]
    diff: bool,
    /// Only tasks with these tags; may be given several times
    #[arg(short = 't', long, value_name = "TAGS")]
    tags: Vec<String>,
    /// Not the tasks with these tags; may be given several times
    #[arg(long, value_name = "TAGS")]
    skip_tags: Vec<String>,
    /// Read everything, tell errors, and stop
    #[arg(long)]
    syntax_check: bool,
    /// List the hosts and stop
    #[arg(long)]
    list_hosts: bool,
    /// List the tasks and stop
    #[arg(long)]
    list_tasks: bool,
    /// List the tags and stop
    #[arg(long)]
    list_tags: bool,
    /// Ask before each task
    #[arg(long)]
    step: bool,
    /// Begin at the task of this name, or the first that fits the pattern
    #[arg(long, value_name = "NAME")]
    start_at_task: Option<String>,
}

/// What is listed instead of being done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lists {
    /// Nothing but that it can be read.
    pub(super) syntax: bool,
    /// Hosts.
    pub(super) hosts: bool,
    /// Tasks.
    pub(super) tasks: bool,
    /// Tags.
    pub(super) tags: bool,
}

impl Lists {
    /// Whether the run ends with a list.
    pub(super) fn any(self) -> bool {
        self.syntax || self.of_plan()
    }

    /// Whether something of the plan is listed.
    pub(super) fn of_plan(self) -> bool {
        self.hosts || self.tasks || self.tags
    }

    /// The list, where one is asked for.
    pub(super) fn of(self, plan: &Plan) -> Option<String> {
        if self.of_plan() {
            return Some(plan.listing(self.hosts, self.tasks, self.tags, !compat::on()));
        }
        self.syntax.then(|| "the playbooks can be read\n".to_owned())
    }
}

/// `--step` asks a person: without one every task would be left out without a word.
///
/// # Errors
/// [`Kind::CouldNotStart`] without a terminal.
pub(super) fn step_needs_somebody(step: bool) -> Result<(), Failure> {
    if !step || prompt::somebody() {
        return Ok(());
    }
    Err(Failure::new(Kind::CouldNotStart, "--step asks before each task and there is no terminal to ask at")
        .why("unanswered, every task would be left out, and the run would look as if it had gone well")
        .mend("leave --step out, and choose tasks with --tags, --skip-tags or --start-at-task"))
}

impl Playing {
    /// Puts it into the options that flow with the run.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`]: a person is needed and none is there.
    pub(super) fn put(self, common: &mut Common) -> Result<(), Failure> {
        let manner = self.manner();
        step_needs_somebody(manner.step && !manner.lists.any())?;
        common.manner = manner;
        Ok(())
    }

    /// What it says to the engine.
    pub(super) fn manner(self) -> Manner {
        Manner {
            diff: self.diff,
            tags: Tags { only: tags(&self.tags), skip: tags(&self.skip_tags) },
            start_at: self.start_at_task,
            step: self.step,
            lists: Lists {
                syntax: self.syntax_check,
                hosts: self.list_hosts,
                tasks: self.list_tasks,
                tags: self.list_tags,
            },
            ..Manner::default()
        }
    }
}
