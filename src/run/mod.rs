//! Carries a playbook out: plays in order, tasks in order, hosts side by side.
//!
//! What lives here: order, blocks, `when`, `register`, `run_once`, who is still in the play. What
//! does not: what a module does (modules), how it looks (report).
//!
//! A failed host leaves the play, an unreachable one too. With `any_errors_fatal`, and for modules
//! that are about the whole cluster, one failure ends the block; `always` runs all the same.

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
    number: usize,
    of: usize,
    recap: Recap,
    /// How many blocks with a `rescue` we are inside of: what fails there is not the run's failure.
    rescuing: usize,
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

/// Carries out the plan. What went wrong was told as [`Event::Failed`].
pub async fn carry_out(world: &World, plan: &Plan) -> Recap {
    let mut runner = Runner {
        world,
        templater: Templater::new(),
        extra: plan.extra.clone(),
        forks: plan.forks.max(1),
        number: 0,
        of: plan.tasks(),
        recap: Recap::new(),
        rescuing: 0,
        facts: BTreeMap::new(),
    };
    for play in &plan.plays {
        world.events.tell(Event::PlayStarted { play: play.title.clone(), hosts: play.hosts.clone() });
        let mut state = PlayState { play, hosts: play.hosts.clone(), gone: BTreeSet::new() };
        if runner.items(&mut state, &play.play.tasks, &[]).await == Flow::Stop {
            break;
        }
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

    async fn items(&mut self, state: &mut PlayState<'_>, items: &[Step], inherited: &[Condition]) -> Flow {
        for item in items {
            let flow = match item {
                Step::Task(task) => self.task(state, task, inherited).await,
                Step::Block(block) => Box::pin(self.block(state, block, inherited)).await,
            };
            if flow == Flow::Stop {
                return Flow::Stop;
            }
            if state.active().is_empty() {
                return Flow::Stop;
            }
        }
        Flow::On
    }

    async fn block(&mut self, state: &mut PlayState<'_>, block: &Block, inherited: &[Condition]) -> Flow {
        let conditions: Vec<Condition> = inherited.iter().chain(&block.common.when).cloned().collect();
        let before = state.gone.clone();
        let rescuable = usize::from(!block.rescue.is_empty());
        self.rescuing += rescuable;
        let mut flow = self.items(state, &block.block, &conditions).await;
        self.rescuing -= rescuable;
        let failed: BTreeSet<String> = state.gone.difference(&before).cloned().collect();
        if (flow == Flow::Stop || !failed.is_empty()) && !block.rescue.is_empty() {
            state.gone = before.clone();
            flow = self.items(state, &block.rescue, &conditions).await;
            if flow == Flow::On {
                for host in &failed {
                    self.count(host, "rescued");
                }
            }
        }
        if !block.always.is_empty() {
            // What always runs, runs for those too that failed within.
            let gone = std::mem::replace(&mut state.gone, before);
            let after = self.items(state, &block.always, &conditions).await;
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
            let value = if task.module == "assert" && name == "that" {
                self.truths(value, place, scope)?
            } else if task.module == "debug" && name == "var" {
                let text = value.as_str().unwrap_or_default();
                self.templater.render(&format!("{{{{ {text} }}}}"), Some(place), scope)?
            } else {
                self.templater.render_value(value, Some(place), scope)?
            };
            rendered.push((name.clone(), place.clone(), value));
        }
        match modules::TABLE.iter().find(|spec| spec.name == task.module) {
            Some(spec) => spec.check_rendered(&rendered),
            None => Err(Failure::new(Kind::Bug, format!("no module is called {}", task.module))),
        }
    }

    fn truths(&self, value: &Value, place: &crate::failure::Place, scope: &Scope) -> Result<Value, Failure> {
        Ok(match value {
            Value::String(text) => Value::Bool(self.templater.evaluate_condition(text, Some(place), scope)?),
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.truths(item, place, scope)).collect::<Result<_, _>>()?)
            }
            other => other.clone(),
        })
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

    async fn task(&mut self, state: &mut PlayState<'_>, task: &Task, inherited: &[Condition]) -> Flow {
        self.number += 1;
        let active = state.active();
        let Some(first) = active.first().cloned() else { return Flow::Stop };
        self.world.events.tell(Event::TaskStarted { task: shown(task), number: self.number, of: self.of });
        if modules::scope(task.module) == ModuleScope::Cluster {
            return self.cluster_task(state, task, inherited, &active, &first).await;
        }
        let run_once = self.flag(task.common.run_once.as_ref(), &self.scope(state, &first, task));
        let hosts: Vec<String> = if run_once { vec![first] } else { active.clone() };
        let mut work = Vec::new();
        for host in &hosts {
            let scope = self.scope(state, host, task);
            let prepared = match self.wanted(inherited, &task.common.when, &scope) {
                Ok(None) => self.arguments(task, &scope).map(Some),
                Ok(Some(_)) => Ok(None),
                Err(failure) => Err(failure),
            };
            work.push((host.clone(), prepared));
        }
        let world = self.world;
        let ended: Vec<_> = futures::stream::iter(work)
            .map(|(host, prepared)| async move {
                let began = Instant::now();
                let ended = match prepared {
                    Ok(None) => Ok(Done::skipped("Conditional result was False")),
                    Ok(Some(args)) => modules::on_host(world, task.module, &host, &args).await,
                    Err(failure) => Err(failure),
                };
                (host, ended, began.elapsed().as_secs_f64())
            })
            .buffered(self.forks)
            .collect()
            .await;
        let mut flow = Flow::On;
        let fatal = self.flag(state.play.play.any_errors_fatal.as_ref(), &Scope::of_data(&self.extra));
        for (host, ended, seconds) in ended {
            let failed = self.end(task, &host, ended, seconds);
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
        let name = self.world.cluster.as_ref().map_or_else(|| first.to_owned(), ToString::to_string);
        let failed = self.end(task, &name, ended, began.elapsed().as_secs_f64());
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

    /// Tells how a task ended on a host; true when it failed and that counts.
    fn end(&mut self, task: &Task, host: &str, ended: Result<Done, Failure>, seconds: f64) -> bool {
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
