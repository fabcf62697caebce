//! Carries a playbook out: plays in order, tasks in order, hosts side by side.
//!
//! What lives here: order, blocks, `when`, `register`, `run_once`, who is still in the play, and what an
//! earlier run did already ([`Resume`]). What does not: what a module does (modules), how it looks
//! (report).
//!
//! A failed host leaves the play, an unreachable one too. With `any_errors_fatal`, and for modules
//! that are about the whole cluster, one failure ends the block; `always` runs all the same.
//!
//! Tasks have numbers, in the order in which they are written, `rescue` included: the same playbook
//! gives the same numbers whatever happens, and a journal names a task by its number.

mod resume;

pub use resume::{Recorded, Resume};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use crate::event::{Event, Outcome};
use crate::failure::{Failure, Kind};
use crate::modules::{self, Done, Scope as ModuleScope, World};
use crate::plan::{Plan, PlannedPlay};
use crate::playbook::{Block, Flag, Step, Task, Text};
use crate::template::{Scope, Templater};

/// Counts per host, as Ansible's recap has them.
pub type Recap = BTreeMap<String, BTreeMap<String, u64>>;

struct Runner<'a> {
    world: &'a World,
    templater: Templater,
    extra: Map<String, Value>,
    forks: usize,
    of: usize,
    recap: Recap,
    /// How many blocks with a `rescue` we are inside of: what fails there is not the run's failure.
    rescuing: usize,
    /// What an earlier run did.
    earlier: Option<&'a Resume>,
    /// Hosts on which something ran again: what the earlier run did after that no longer holds.
    left: BTreeSet<String>,
    /// Hosts that are inside of a block which the earlier run mended: its failure is told again.
    mended: BTreeSet<String>,
    /// What `register` and `set_fact` left, per host.
    facts: BTreeMap<String, Map<String, Value>>,
}

struct PlayState<'a> {
    play: &'a PlannedPlay,
    hosts: Vec<String>,
    gone: BTreeSet<String>,
}

impl PlayState<'_> {
    fn active(&self) -> Vec<String> {
        self.hosts.iter().filter(|host| !self.gone.contains(*host)).cloned().collect()
    }
}

/// Whether a list of items came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    /// A failure that ends the play.
    Stop,
}

/// How many tasks there are, `rescue` included.
fn size(items: &[Step]) -> usize {
    items
        .iter()
        .map(|item| match item {
            Step::Task(_) => 1,
            Step::Block(block) => size(&block.block) + size(&block.rescue) + size(&block.always),
        })
        .sum()
}

/// What is there instead of running a task: how it ended in an earlier run.
enum Ended {
    Now(Result<Done, Failure>),
    Before(Recorded),
}

/// Carries out the plan. What went wrong was told as [`Event::Failed`].
pub async fn carry_out(world: &World, plan: &Plan) -> Recap {
    carry_on(world, plan, None).await
}

/// Carries out the plan, without what an earlier run of it did.
pub async fn carry_on(world: &World, plan: &Plan, earlier: Option<&Resume>) -> Recap {
    let mut runner = Runner {
        world,
        templater: Templater::new(),
        extra: plan.extra.clone(),
        forks: plan.forks.max(1),
        of: plan.plays.iter().map(|play| size(&play.play.tasks)).sum(),
        recap: Recap::new(),
        rescuing: 0,
        earlier,
        left: BTreeSet::new(),
        mended: BTreeSet::new(),
        facts: BTreeMap::new(),
    };
    let mut number = 1;
    for play in &plan.plays {
        world.events.tell(Event::PlayStarted { play: play.title.clone(), hosts: play.hosts.clone() });
        let mut state = PlayState { play, hosts: play.hosts.clone(), gone: BTreeSet::new() };
        if runner.items(&mut state, &play.play.tasks, &[], number).await == Flow::Stop {
            break;
        }
        number += size(&play.play.tasks);
    }
    runner.recap
}

/// A condition that a task inherits from its blocks.
type Condition = Text;

/// What people see of a task: its name, else its module.
fn shown(task: &Task) -> String {
    task.common.name.as_ref().map_or_else(|| task.module.to_owned(), |name| name.text.clone())
}

impl Runner<'_> {
    fn count(&mut self, host: &str, word: &str) {
        *self.recap.entry(host.to_owned()).or_default().entry(word.to_owned()).or_default() += 1;
    }

    /// Items in order; the first task among them has this number.
    async fn items(
        &mut self,
        state: &mut PlayState<'_>,
        items: &[Step],
        inherited: &[Condition],
        mut number: usize,
    ) -> Flow {
        for item in items {
            let flow = match item {
                Step::Task(task) => self.task(state, task, inherited, number).await,
                Step::Block(block) => Box::pin(self.block(state, block, inherited, number)).await,
            };
            number += size(std::slice::from_ref(item));
            if flow == Flow::Stop {
                return Flow::Stop;
            }
            if state.active().is_empty() {
                return Flow::Stop;
            }
        }
        Flow::On
    }

    async fn block(
        &mut self,
        state: &mut PlayState<'_>,
        block: &Block,
        inherited: &[Condition],
        number: usize,
    ) -> Flow {
        let conditions: Vec<Condition> = inherited.iter().chain(&block.common.when).cloned().collect();
        let before = state.gone.clone();
        let rescuable = usize::from(!block.rescue.is_empty());
        let (rescue, always) = (number + size(&block.block), number + size(&block.block) + size(&block.rescue));
        let mended = self.mended.clone();
        if let Some(earlier) = self.earlier {
            let active = state.active();
            let here = active.into_iter().filter(|host| !self.left.contains(host) && earlier.rescued(number, host));
            self.mended.extend(here);
        }
        self.rescuing += rescuable;
        let mut flow = self.items(state, &block.block, &conditions, number).await;
        self.rescuing -= rescuable;
        self.mended = mended;
        let failed: BTreeSet<String> = state.gone.difference(&before).cloned().collect();
        if (flow == Flow::Stop || !failed.is_empty()) && !block.rescue.is_empty() {
            state.gone = before.clone();
            flow = self.items(state, &block.rescue, &conditions, rescue).await;
            if flow == Flow::On {
                for host in &failed {
                    self.count(host, "rescued");
                }
                let hosts = failed.difference(&state.gone).cloned().collect();
                self.world.events.tell(Event::Rescued { first: number, hosts });
            }
        }
        if !block.always.is_empty() {
            // What always runs, runs for those too that failed within.
            let gone = std::mem::replace(&mut state.gone, before);
            let after = self.items(state, &block.always, &conditions, always).await;
            state.gone.extend(gone);
            if after == Flow::Stop {
                flow = Flow::Stop;
            }
        }
        flow
    }

    /// The variables that a host's templates see, lowest first: the host's own, the play's, the
    /// task's, what was registered, what was given with -e; then the magic ones.
    fn scope(&self, state: &PlayState<'_>, host: &str, task: &Task) -> Scope {
        let mut scope = Scope::new();
        for (name, value) in self.world.vars.get(host).into_iter().flatten() {
            scope.data(name, value);
        }
        for (name, place, value) in state.play.play.vars.iter().chain(&task.common.vars) {
            scope.written(name, value, Some(place.clone()));
        }
        for (name, value) in self.facts.get(host).into_iter().flatten().chain(&self.extra) {
            scope.data(name, value);
        }
        scope.data("inventory_hostname", &json!(host));
        scope.data("ansible_play_hosts", &json!(state.active()));
        scope.data("ansible_play_hosts_all", &json!(state.hosts));
        scope.data("ansible_check_mode", &json!(self.world.choices.check));
        scope
    }

    /// A flag that may be a template; one that cannot be evaluated counts as not set.
    fn flag(&self, flag: Option<&Flag>, scope: &Scope) -> bool {
        match flag {
            None => false,
            Some(Flag::Is(value)) => *value,
            Some(Flag::Template(text)) => {
                self.templater.evaluate_condition(&text.text, Some(&text.place), scope).unwrap_or(false)
            }
        }
    }

    /// Whether all conditions hold.
    fn wanted(&self, conditions: &[Condition], own: &[Condition], scope: &Scope) -> Result<Option<String>, Failure> {
        for condition in conditions.iter().chain(own) {
            if !self.templater.evaluate_condition(&condition.text, Some(&condition.place), scope)? {
                return Ok(Some(condition.text.clone()));
            }
        }
        Ok(None)
    }

    fn arguments(&self, task: &Task, scope: &Scope) -> Result<Map<String, Value>, Failure> {
        let mut rendered = Vec::new();
        for (name, place, value) in &task.args {
            // A condition is an expression, not a template.
            let spec = modules::TABLE.iter().find(|spec| spec.name == task.module);
            let expression = spec.is_some_and(|spec| {
                spec.args.iter().any(|arg| arg.name == name && arg.kind == crate::playbook::ArgKind::Expr)
            });
            let value =
                if expression { value.clone() } else { self.templater.render_value(value, Some(place), scope)? };
            rendered.push((name.clone(), place.clone(), value));
        }
        match modules::TABLE.iter().find(|spec| spec.name == task.module) {
            Some(spec) => spec.check_rendered(&rendered),
            None => Err(Failure::new(Kind::Bug, format!("no module is called {}", task.module))),
        }
    }

    fn keep(&mut self, task: &Task, host: &str, result: &Value) {
        let facts = self.facts.entry(host.to_owned()).or_default();
        if let Some(new) = result.get("ansible_facts").and_then(Value::as_object) {
            facts.extend(new.clone());
        }
        if let Some(name) = &task.register {
            facts.insert(name.text.clone(), result.clone());
        }
    }

    /// How a task ended on a host in the earlier run, where that still holds.
    fn before(&self, number: usize, host: &str) -> Option<Recorded> {
        let earlier = self.earlier.filter(|_| !self.left.contains(host))?;
        let failed = || self.mended.contains(host).then(|| earlier.failed(number, host)).flatten();
        earlier.passed(number, host).or_else(failed).cloned()
    }

    /// The host whose record settles a `run_once` task for all of these.
    fn before_once(&self, number: usize, active: &[String]) -> Option<String> {
        let earlier = self.earlier.filter(|_| !active.iter().any(|host| self.left.contains(host)))?;
        let settled = |host: &&String| earlier.counts_for_all(number, host) && self.before(number, host).is_some();
        active.iter().find(settled).cloned()
    }

    async fn task(&mut self, state: &mut PlayState<'_>, task: &Task, inherited: &[Condition], number: usize) -> Flow {
        let active = state.active();
        let Some(first) = active.first().cloned() else { return Flow::Stop };
        self.world.events.tell(Event::TaskStarted { task: shown(task), number, of: self.of });
        if modules::scope(task.module) == ModuleScope::Cluster {
            return self.cluster_task(state, task, inherited, &active, &first, number).await;
        }
        let run_once = self.flag(task.common.run_once.as_ref(), &self.scope(state, &first, task));
        let settled = if run_once { self.before_once(number, &active) } else { None };
        let hosts: Vec<String> = match (run_once, &settled) {
            (true, Some(host)) => vec![host.clone()],
            (true, None) => vec![first],
            (false, _) => active.clone(),
        };
        let mut work = Vec::new();
        for host in &hosts {
            let before = if run_once && settled.is_none() { None } else { self.before(number, host) };
            if let Some(recorded) = before {
                work.push((host.clone(), Err(recorded)));
                continue;
            }
            let scope = self.scope(state, host, task);
            let prepared = match self.wanted(inherited, &task.common.when, &scope) {
                Ok(None) => self.arguments(task, &scope).map(|args| Some((args, scope))),
                Ok(Some(_)) => Ok(None),
                Err(failure) => Err(failure),
            };
            work.push((host.clone(), Ok(prepared)));
        }
        for (host, _) in work.iter().filter(|(_, work)| work.is_ok()) {
            // What a `run_once` task does, it does for all.
            self.left.extend(if run_once { active.clone() } else { vec![host.clone()] });
        }
        let world = self.world;
        let mut ending = futures::stream::iter(work)
            .map(|(host, work)| async move {
                let began = Instant::now();
                let ended = match work {
                    Err(recorded) => Ended::Before(recorded),
                    Ok(Ok(None)) => Ended::Now(Ok(Done::skipped("Conditional result was False"))),
                    Ok(Ok(Some((args, scope)))) => {
                        let mut call = modules::Call::plain(world, &host, task.module, &args);
                        call.scope = scope;
                        call.place = Some(task.module_place.clone());
                        Ended::Now(modules::on_host(&call).await)
                    }
                    Ok(Err(failure)) => Ended::Now(Err(failure)),
                };
                (host, ended, began.elapsed().as_secs_f64())
            })
            // Not in their order: a host that is slow must not keep those behind it waiting for a place.
            .buffer_unordered(self.forks);
        let mut flow = Flow::On;
        let fatal = self.flag(state.play.play.any_errors_fatal.as_ref(), &Scope::of_data(&self.extra));
        // Each is told as soon as it has ended: what the journal holds is not run again.
        while let Some((host, ended, seconds)) = ending.next().await {
            let failed = match ended {
                Ended::Now(ended) => self.end(task, number, &host, ended, seconds),
                Ended::Before(recorded) => self.repeat(task, number, &host, recorded),
            };
            let everybody = run_once && hosts.len() < active.len();
            if everybody {
                let result = self.facts.get(&host).cloned().unwrap_or_default();
                if let Some(value) = task.register.as_ref().and_then(|name| result.get(&name.text)).cloned() {
                    active.iter().for_each(|other| self.keep(task, other, &value));
                }
            }
            if failed {
                state.gone.insert(host);
                if everybody || fatal {
                    flow = Flow::Stop;
                }
            }
        }
        flow
    }

    async fn cluster_task(
        &mut self,
        state: &mut PlayState<'_>,
        task: &Task,
        inherited: &[Condition],
        active: &[String],
        first: &str,
        number: usize,
    ) -> Flow {
        let scope = self.scope(state, first, task);
        let began = Instant::now();
        let ended = match self.wanted(inherited, &task.common.when, &scope) {
            Ok(None) => match self.arguments(task, &scope) {
                Ok(args) => modules::on_cluster(self.world, task.module, active, &args).await,
                Err(failure) => Err(failure),
            },
            Ok(Some(_)) => Ok(Done::skipped("Conditional result was False")),
            Err(failure) => Err(failure),
        };
        let name = self.world.cluster_of(active).map_or_else(|| first.to_owned(), ToString::to_string);
        let failed = self.end(task, number, &name, ended, began.elapsed().as_secs_f64());
        if let Some(value) =
            task.register.as_ref().and_then(|register| self.facts.get(&name)?.get(&register.text)).cloned()
        {
            active.iter().for_each(|host| self.keep(task, host, &value));
        }
        if failed {
            state.gone.extend(active.iter().cloned());
            return Flow::Stop;
        }
        Flow::On
    }

    /// Tells how a task ended on a host in the earlier run; true when it failed there and that counts.
    fn repeat(&mut self, task: &Task, number: usize, host: &str, recorded: Recorded) -> bool {
        let Recorded { outcome, ignored, result, run, .. } = recorded;
        let failed = !ignored && !matches!(outcome, Outcome::Ok | Outcome::Changed | Outcome::Skipped);
        let (outcome, word, message) = if failed {
            (outcome, "failed", format!("failed in run {run}, which mended it"))
        } else if ignored {
            (Outcome::Skipped, "skipped", format!("failed in run {run} and was ignored"))
        } else {
            (Outcome::Skipped, "skipped", format!("done in run {run}"))
        };
        self.count(host, word);
        self.keep(task, host, &result);
        let (task, host) = (shown(task), host.to_owned());
        let done_in = Some(run);
        self.world.events.tell(Event::TaskEnded {
            task,
            host,
            outcome,
            seconds: 0.0,
            message,
            result,
            number,
            ignored: false,
            done_in,
        });
        failed
    }

    /// Tells how a task ended on a host; true when it failed and that counts.
    fn end(&mut self, task: &Task, number: usize, host: &str, ended: Result<Done, Failure>, seconds: f64) -> bool {
        let (outcome, message, result, failure) = match ended {
            Ok(done) => {
                let failure = (done.outcome == Outcome::Failed).then(|| {
                    let said = done.result.get("stderr").and_then(Value::as_str).unwrap_or_default();
                    let failure = Failure::new(Kind::Failed, format!("{}: {}", shown(task), done.message)).on(host);
                    if said.is_empty() { failure } else { failure.saw(said.chars().take(2000).collect::<String>()) }
                });
                (done.outcome, done.message, done.result, failure)
            }
            Err(failure) => {
                let outcome = match failure.kind {
                    Kind::Unreachable => Outcome::Unreachable,
                    Kind::Unknown => Outcome::Unknown,
                    _ => Outcome::Failed,
                };
                let result =
                    json!({"failed": true, "unreachable": outcome == Outcome::Unreachable, "msg": failure.what});
                (outcome, failure.what.clone(), result, Some(failure))
            }
        };
        let ignore = self.flag(task.common.ignore_errors.as_ref(), &Scope::of_data(&self.extra));
        let ignored = failure.is_some() && ignore && outcome == Outcome::Failed;
        let word = match outcome {
            Outcome::Ok => "ok",
            Outcome::Changed => "changed",
            Outcome::Skipped => "skipped",
            Outcome::Failed if ignored => "ignored",
            Outcome::Failed | Outcome::Unknown => "failed",
            Outcome::Unreachable => "unreachable",
        };
        self.count(host, word);
        self.keep(task, host, &result);
        self.world.events.tell(Event::TaskEnded {
            task: shown(task),
            host: host.to_owned(),
            outcome,
            seconds,
            message,
            result,
            number,
            ignored,
            done_in: None,
        });
        match failure {
            Some(failure) if !ignored && self.rescuing > 0 && failure.kind == Kind::Failed => {
                self.world.events.warn(Some(host), format!("rescued: {failure}"));
                true
            }
            Some(failure) if !ignored => {
                self.world.events.tell(Event::Failed { failure });
                true
            }
            _ => false,
        }
    }
}
