//! Carries a playbook out: plays in order, tasks in order, hosts side by side.
//!
//! What lives here: order (`walk`), one task on one host (`task`), what variables it sees (`scope`), what is included on the
//! way, handlers, who is still in the play, and what an earlier run did already ([`Resume`]). What does not: what a module does
//! (modules), how it looks (report).
//!
//! A failed host leaves the run, an unreachable one too. With `any_errors_fatal`, and for modules
//! that are about the whole cluster, one failure ends the block for all; `rescue` and `always` run all the same.
//!
//! Tasks have numbers, in the order in which they are written, `rescue` included: the same playbook
//! gives the same numbers whatever happens, and a journal names a task by its number. What is included while the run goes on has none
//! (0): a run that is carried on begins it anew.

mod cached;
mod grow;
mod resume;
mod scope;
mod task;
mod walk;

pub use cached::FactCache;
pub use resume::{Recorded, Resume};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use serde_json::{Map, Value, json};

use crate::event::Event;
use crate::failure::Failure;
use crate::inventory::Inventory;
use crate::modules::World;
use crate::plan::{Plan, PlannedPlay, Tags};
use crate::playbook::{Block, Loader, Role, Step, Strategy, Task};
use crate::template::{Scope, Templater};

/// Counts per host, as Ansible's recap has them.
pub type Recap = BTreeMap<String, BTreeMap<String, u64>>;

/// Reads the inventory again.
pub type Reread = Arc<dyn Fn() -> Result<Inventory, Failure> + Send + Sync>;

/// What came into the inventory while the run went on.
#[derive(Debug, Clone)]
enum Grown {
    /// `add_host`: name, groups, variables.
    Host(String, Vec<String>, Map<String, Value>),
    /// `group_by`: host, group, parents.
    Group(String, String, Vec<String>),
}

/// How a run is meant, beside its plan.
pub struct Options {
    /// Hosts, groups and their variables; modules may add to them.
    pub inventory: Inventory,
    /// Reads what is included on the way.
    pub loader: Loader,
    /// `--diff`.
    pub diff: bool,
    /// `--force-handlers`.
    pub force_handlers: bool,
    /// `ANSIBLE_STRATEGY`, where a play does not say.
    pub strategy: Option<Strategy>,
    /// `--start-at-task`: a task's name, or a pattern of one.
    pub start_at: Option<String>,
    /// `--step`: asks before each task.
    pub step: Option<Arc<dyn Fn(&str) -> Step1 + Send + Sync>>,
    /// How many `-v`.
    pub verbosity: u8,
    /// As Ansible does it where ferry does it otherwise.
    pub compat: bool,
    /// `-c`.
    pub connection: Option<String>,
    /// `-u`, or the setting of the same: what `ansible_user` is where nobody says it.
    pub remote_user: Option<String>,
    /// `--become-method`, `--become-user`.
    pub become_method: Option<String>,
    /// `--become-user`.
    pub become_user: Option<String>,
    /// Facts are gathered where a play does not say.
    pub gathering: bool,
    /// Facts that are there are not gathered again by a later play (`ANSIBLE_GATHERING=smart`).
    pub smart: bool,
    /// Where facts are kept for later runs.
    pub facts: Option<FactCache>,
    /// How often a task in the background is asked for, in seconds, where it does not say.
    pub poll: Option<u64>,
    /// Reads the inventory again (`meta: refresh_inventory`).
    pub reread: Option<Reread>,
    /// Asks for a value of `vars_prompt`: the question, whether it is shown while it is typed.
    pub prompt: Option<Arc<dyn Fn(&str, bool) -> Option<String> + Send + Sync>>,
}

/// An answer to `--step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step1 {
    /// Run this task.
    Yes,
    /// Not this one.
    No,
    /// This and all that follow.
    Continue,
}

/// Where a host stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Standing {
    failed: bool,
    unreachable: bool,
    /// `meta: end_host` and its like: it is through with the play.
    ended: bool,
    /// `meta: end_role`: it is through with the role that it is in.
    out_of_role: bool,
    /// It failed where neither a `rescue` nor an `always` comes after: what `max_fail_percentage` counts.
    direct: bool,
}

impl Standing {
    fn goes_on(self) -> bool {
        !self.failed && !self.unreachable && !self.ended && !self.out_of_role
    }
}

/// Where all hosts stand, and how often that may have changed.
#[derive(Default)]
struct Standings {
    of: HashMap<String, Standing>,
    changes: u64,
}

impl Standings {
    fn get(&self, host: &str) -> Option<&Standing> {
        self.of.get(host)
    }

    fn entry(&mut self, host: String) -> std::collections::hash_map::Entry<'_, String, Standing> {
        self.changes += 1;
        self.of.entry(host)
    }

    fn remove(&mut self, host: &str) {
        self.changes += 1;
        self.of.remove(host);
    }
}

/// What changes while a run goes on.
#[derive(Default)]
struct State {
    recap: Recap,
    standing: Standings,
    /// The magic lists of the play's hosts, with [`Standings::changes`] when they were made: all, those that go on, those of the batch.
    lists: Option<(u64, [crate::template::Ready; 3])>,
    /// The magic variable `groups`, until the inventory changes.
    groups: Option<crate::template::Ready>,
    /// Facts of hosts, as they were gathered.
    facts: HashMap<String, Map<String, Value>>,
    /// Hosts whose facts of earlier runs were looked for.
    recalled: BTreeSet<String>,
    /// Where handlers stand whose names cannot be rendered, told once.
    unusable: BTreeSet<String>,
    /// Where conditions stand that are templates, told once.
    braced: BTreeSet<String>,
    /// Names in patterns that are no host and no group, told once.
    unmatched: BTreeSet<String>,
    /// Paths from the root of folders that templates are told of.
    absolutes: HashMap<PathBuf, String>,
    /// Files of facts that could not be read, not told yet.
    unread: Vec<String>,
    /// What `set_stats` counted: of hosts, of the run.
    statistics: (BTreeMap<String, Map<String, Value>>, Map<String, Value>),
    /// Inventory and facts of a host, as templates see them; dropped when either changes.
    bases: HashMap<String, Scope>,
    /// What `include_vars` read.
    included: HashMap<String, Scope>,
    /// What `register` and `set_fact` left.
    late: HashMap<String, Scope>,
    /// Which handlers wait, by host: their places in the play's list.
    notified: HashMap<String, BTreeSet<usize>>,
    /// The play's handlers.
    handlers: Vec<Arc<Task>>,
    /// Roles that ran on a host.
    roles_done: BTreeSet<(String, String)>,
    /// Roles of which a task did something on a host: only such a one is done.
    roles_ran: BTreeSet<(String, usize)>,
    /// How many hosts at once a task is for (`throttle`), where hosts go on by themselves; by where it stands.
    gates: HashMap<(String, usize, usize), Arc<tokio::sync::Semaphore>>,
    /// What came into the inventory: it stays when that is read again.
    grown: Vec<Grown>,
    /// How often `clear_host_errors` was met.
    clearings: u64,
    /// Roles that were included with `public`.
    open_roles: Vec<Arc<Role>>,
    /// Files of `vars_files`, read.
    files: HashMap<PathBuf, Arc<Vec<crate::playbook::Var>>>,
    /// Hosts on which something ran again: what the earlier run did after that no longer holds.
    left: BTreeSet<String>,
    /// Hosts that are inside of a block which the earlier run mended: its failure is told again.
    mended: BTreeSet<String>,
    /// `--start-at-task` was met, or was not asked for.
    begun: bool,
    /// `--step` was answered with "continue".
    unstepped: bool,
    /// What the play's hosts are, for variables.
    play_hosts: Vec<String>,
    play_batch: Vec<String>,
    /// Ways by what their variables say.
    ways: HashMap<String, Arc<crate::remote::Way>>,
}

/// What everything that runs sees.
struct Shared {
    inventory: RwLock<Inventory>,
    state: Mutex<State>,
    templater: Templater,
    extra: Map<String, Value>,
    extra_scope: Scope,
    check: bool,
    tags: Tags,
    limit: Option<String>,
    forks: usize,
    options: Carried,
    /// Magic variables that stay the same for the whole run.
    constants: std::sync::OnceLock<Scope>,
}

/// [`Options`] without what is kept elsewhere.
struct Carried {
    loader: Loader,
    diff: bool,
    force_handlers: bool,
    strategy: Option<Strategy>,
    start_at: Option<String>,
    step: Option<Arc<dyn Fn(&str) -> Step1 + Send + Sync>>,
    verbosity: u8,
    compat: bool,
    connection: Option<String>,
    become_method: Option<String>,
    remote_user: Option<String>,
    become_user: Option<String>,
    gathering: bool,
    smart: bool,
    facts: Option<FactCache>,
    poll: Option<u64>,
    reread: Option<Reread>,
    prompt: Option<Arc<dyn Fn(&str, bool) -> Option<String> + Send + Sync>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inventory(&self) -> RwLockReadGuard<'_, Inventory> {
        self.inventory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn active(&self, hosts: &[String]) -> Vec<String> {
        let state = self.state();
        hosts.iter().filter(|host| state.standing.get(host).copied().unwrap_or_default().goes_on()).cloned().collect()
    }

    fn stand(&self, host: &str, change: impl FnOnce(&mut Standing)) {
        change(self.state().standing.entry(host.to_owned()).or_default());
    }

    /// Takes up what a task said that is to be counted (`set_stats`).
    fn count_stats(&self, host: &str, stats: &Value) {
        let Some(data) = stats.get("data").and_then(Value::as_object) else { return };
        let is = |name: &str| stats.get(name) == Some(&Value::Bool(true));
        let mut state = self.state();
        let (hosts, run) = &mut state.statistics;
        let into = if is("per_host") { hosts.entry(host.to_owned()).or_default() } else { run };
        for (name, value) in data {
            let value = match into.get(name).filter(|_| is("aggregate")) {
                None => Some(value.clone()),
                Some(known) => added(known, value),
            };
            if let Some(value) = value {
                into.insert(name.clone(), value);
            }
        }
    }

    /// Keeps what is known of a host for later runs, where that is wanted.
    fn keep_facts(&self, world: &World, host: &str) {
        let Some(cache) = &self.options.facts else { return };
        let facts = self.state().facts.get(host).cloned().unwrap_or_default();
        match cache.write(host, &facts, world.events.masker()) {
            Err(what) => world.events.warn(Some(host), what),
            Ok(secret) => {
                for name in secret {
                    world.events.warn(Some(host), format!("the fact {name} has a secret in it and is not kept"));
                }
            }
        }
    }

    fn count(&self, host: &str, word: &str) {
        *self.state().recap.entry(host.to_owned()).or_default().entry(word.to_owned()).or_default() += 1;
    }
}

struct Runner<'a> {
    world: &'a World,
    shared: Arc<Shared>,
    of: usize,
    /// What an earlier run did.
    earlier: Option<&'a Resume>,
}

/// A play while it runs.
struct PlayRun<'a> {
    play: &'a PlannedPlay,
    /// The hosts of the batch that runs.
    batch: Vec<String>,
    /// Variables that the whole play sees: those of `vars` and `vars_prompt`.
    prompted: Map<String, Value>,
    /// How many batches there are: `max_fail_percentage` counts within one.
    strategy: Strategy,
    /// One task at a time on so many hosts.
    forks: usize,
    max_fail: Option<f64>,
    force_handlers: bool,
    /// Nothing of the play is begun any more, since too much failed.
    broken: std::sync::atomic::AtomicBool,
    /// `max_fail_percentage` ended the play.
    exceeded: std::sync::atomic::AtomicBool,
    /// `meta: end_play`.
    ended: std::sync::atomic::AtomicBool,
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

/// The number of a block's first task; 0 where it has none.
fn first_number(block: &Block) -> usize {
    fn of(items: &[Step]) -> Option<usize> {
        items.iter().find_map(|item| match item {
            Step::Task(task) => Some(task.number),
            Step::Block(block) => of(&block.block).or_else(|| of(&block.rescue)).or_else(|| of(&block.always)),
        })
    }
    of(&block.block).or_else(|| of(&block.rescue)).or_else(|| of(&block.always)).unwrap_or(0)
}

/// What people see of a task: its name, else its module.
fn shown(task: &Task) -> String {
    crate::plan::shown(task)
}

/// Carries out the plan, without what an earlier run of it did. What went wrong was told as [`Event::Failed`].
pub async fn carry_on(world: &World, plan: &Plan, options: Options, earlier: Option<&Resume>) -> Recap {
    let mut extra_scope = Scope::new();
    for (name, value) in &plan.extra {
        extra_scope.written(name, value, None);
    }
    for (name, value) in &plan.told {
        extra_scope.data(name, value);
    }
    let begun = options.start_at.is_none();
    let shared = Arc::new(Shared {
        inventory: RwLock::new(options.inventory),
        state: Mutex::new(State { begun, ..State::default() }),
        templater: options.loader.templater.clone(),
        extra: plan.extra.clone(),
        extra_scope,
        check: world.choices.check,
        tags: plan.tags.clone(),
        limit: plan.limit.clone(),
        forks: plan.forks.max(1),
        constants: std::sync::OnceLock::new(),
        options: Carried {
            loader: options.loader,
            diff: options.diff,
            force_handlers: options.force_handlers,
            strategy: options.strategy,
            start_at: options.start_at,
            step: options.step,
            verbosity: options.verbosity,
            compat: options.compat,
            connection: options.connection,
            become_method: options.become_method,
            become_user: options.become_user,
            remote_user: options.remote_user,
            gathering: options.gathering,
            smart: options.smart,
            facts: options.facts,
            poll: options.poll,
            reread: options.reread,
            prompt: options.prompt,
        },
    });
    let of = plan.plays.iter().flat_map(|play| play.play.lists()).map(size).sum();
    let runner = Runner { world, shared: Arc::clone(&shared), of, earlier };
    for play in &plan.plays {
        match runner.play(play).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(failure) => {
                world.events.tell(Event::Failed { failure });
                break;
            }
        }
    }
    let (hosts, run) = std::mem::take(&mut shared.state().statistics);
    if !hosts.is_empty() || !run.is_empty() {
        world.events.tell(Event::Statistics { hosts, run });
    }
    std::mem::take(&mut shared.state().recap)
}

/// `new` added to what there is: mappings are joined, lists and texts get longer, numbers are summed; what does not fit is left
/// out, as Ansible does it.
fn added(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut out = old.clone();
            for (name, value) in new {
                let value = match (out.get(name), value) {
                    (Some(Value::Object(_)), Value::Object(_)) => {
                        out.get(name).and_then(|known| added(known, value)).unwrap_or_else(|| value.clone())
                    }
                    _ => value.clone(),
                };
                out.insert(name.clone(), value);
            }
            Some(Value::Object(out))
        }
        (Value::Array(old), Value::Array(new)) => Some(Value::Array([old.clone(), new.clone()].concat())),
        (Value::String(old), Value::String(new)) => Some(Value::String(format!("{old}{new}"))),
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one.checked_add(other).map(Value::from),
            (None, None) => Some(json!(one.as_f64()? + other.as_f64()?)),
            _ => None,
        },
        (Value::Bool(one), Value::Bool(other)) => Some(json!(i64::from(*one) + i64::from(*other))),
        _ => None,
    }
}

impl Runner<'_> {
    /// One play in all its batches; false when nothing further is to be begun.
    async fn play(&self, play: &PlannedPlay) -> Result<bool, Failure> {
        let shared = &self.shared;
        let (pattern, title, hosts) = self.hosts_of(play)?;
        if hosts.is_empty() {
            self.world.events.tell(Event::PlayStarted { play: title, hosts: Vec::new() });
            self.world.events.tell(Event::NoHosts { pattern });
            return Ok(true);
        }
        let prompted = self.prompts(play)?;
        let names = self.play_names(play, &prompted);
        let strategy = play.play.strategy.or(shared.options.strategy).unwrap_or_default();
        let batches = self.batches(play, &names, &hosts)?;
        let percentage = match &play.play.max_fail_percentage {
            None => None,
            Some(written) => {
                let value = shared.templater.render_value(&written.value, Some(&written.place), &names)?;
                Some(number_of(&value).ok_or_else(|| wrong_value(written, "max_fail_percentage is a number", &value))?)
            }
        };
        let force = match &play.play.force_handlers {
            Some(flag) => scope::truth(&shared.templater, flag, &names)?,
            None => false,
        };
        let mut on = true;
        for batch in batches {
            self.world.events.tell(Event::PlayStarted { play: title.clone(), hosts: batch.clone() });
            {
                let mut state = shared.state();
                state.play_hosts.clone_from(&hosts);
                state.play_batch.clone_from(&batch);
                state.lists = None;
                state.notified.clear();
                state.open_roles.clear();
                state.handlers = flat_handlers(&play.play.handlers);
                state.roles_done.clear();
                state.roles_ran.clear();
                for host in &batch {
                    let standing = state.standing.entry(host.clone()).or_default();
                    standing.ended = false;
                    standing.out_of_role = false;
                    standing.direct = false;
                    state.recap.entry(host.clone()).or_default();
                }
            }
            let run = PlayRun {
                play,
                batch: batch.clone(),
                prompted: prompted.clone(),
                strategy,
                forks: shared.forks,
                max_fail: percentage,
                force_handlers: if play.play.force_handlers.is_some() { force } else { shared.options.force_handlers },
                broken: std::sync::atomic::AtomicBool::new(false),
                exceeded: std::sync::atomic::AtomicBool::new(false),
                ended: std::sync::atomic::AtomicBool::new(false),
            };
            let gone_before = self.gone(&hosts);
            walk::play(self, &run).await;
            let gone = self.gone(&hosts).saturating_sub(gone_before);
            if run.broken.load(std::sync::atomic::Ordering::SeqCst) || gone >= batch.len() {
                // Ansible has this title only where max_fail_percentage ended the play, and there twice.
                if shared.options.compat {
                    if run.exceeded.load(std::sync::atomic::Ordering::SeqCst) {
                        self.world.events.tell(Event::NoHostsLeft);
                        self.world.events.tell(Event::NoHostsLeft);
                    }
                } else if self.gone(&batch) >= batch.len() {
                    self.world.events.tell(Event::NoHostsLeft);
                }
                on = false;
                break;
            }
            if run.ended.load(std::sync::atomic::Ordering::SeqCst) {
                break;
            }
        }
        Ok(on)
    }

    fn gone(&self, hosts: &[String]) -> usize {
        let state = self.shared.state();
        hosts
            .iter()
            .filter(|host| state.standing.get(host).is_some_and(|standing| standing.failed || standing.unreachable))
            .count()
    }

    /// The play's pattern, name and hosts, as they are now.
    fn hosts_of(&self, play: &PlannedPlay) -> Result<(String, String, Vec<String>), Failure> {
        let shared = &self.shared;
        let inventory = shared.inventory();
        let mut scope = crate::plan::play_scope(&inventory, &play.play, &shared.extra);
        scope.hosts("hostvars", Arc::new(scope::HostVarsOf(Arc::downgrade(shared))));
        drop(inventory);
        let pattern = shared.templater.render(&play.play.hosts.text, Some(&play.play.hosts.place), &scope)?;
        let pattern = crate::plan::pattern_of(&pattern);
        let title = match &play.play.common.name {
            Some(name) => match shared.templater.render(&name.text, Some(&name.place), &scope) {
                Ok(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                Err(_) => name.text.clone(),
            },
            None => pattern.clone(),
        };
        let inventory = shared.inventory();
        let mut hosts = crate::plan::select(&inventory, &pattern, shared.limit.as_deref())?;
        // Names that are nobody's take nothing from the others, and are told once.
        let limit = shared.limit.as_deref().map(|limit| inventory.limit_matching(&[], limit));
        let missing = [Some(inventory.matching(&pattern)), limit].into_iter().flatten().flatten();
        let missing: Vec<String> = missing.flat_map(|matched| matched.missing).collect();
        drop(inventory);
        for name in missing {
            if shared.state().unmatched.insert(name.clone()) {
                self.world.events.warn(None, format!("Could not match supplied host pattern, ignoring: {name}"));
            }
        }
        if let Some(order) = &play.play.order {
            let text = shared.templater.render(&order.text, Some(&order.place), &scope)?;
            match text.as_str().unwrap_or_default() {
                "inventory" => {}
                "sorted" => hosts.sort(),
                "reverse_sorted" => {
                    hosts.sort();
                    hosts.reverse();
                }
                "reverse_inventory" => hosts.reverse(),
                "shuffle" => {
                    for at in (1..hosts.len()).rev() {
                        let other = (rand::random::<u64>() % (at as u64 + 1)) as usize;
                        hosts.swap(at, other);
                    }
                }
                other => {
                    return Err(Failure::new(
                        crate::failure::Kind::CouldNotStart,
                        format!("there is no order {other:?}"),
                    )
                    .at(order.place.clone())
                    .mend("inventory, sorted, reverse_sorted, reverse_inventory or shuffle"));
                }
            }
        }
        Ok((pattern, title, hosts))
    }

    /// Asks what `vars_prompt` wants to know.
    fn prompts(&self, play: &PlannedPlay) -> Result<Map<String, Value>, Failure> {
        let shared = &self.shared;
        let mut out = Map::new();
        for prompt in &play.play.vars_prompt {
            if shared.extra.contains_key(&prompt.name) {
                continue;
            }
            let scope = {
                let inventory = shared.inventory();
                crate::plan::play_scope(&inventory, &play.play, &shared.extra)
            };
            let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let default = match &prompt.default {
                Some(written) => {
                    Some(text(shared.templater.render_value(&written.value, Some(&written.place), &scope)?))
                }
                None => None,
            };
            let question = match &prompt.question {
                Some(question) => text(shared.templater.render(&question.text, Some(&question.place), &scope)?),
                None => prompt.name.clone(),
            };
            let shown = match &default {
                Some(default) => format!("{question} [{default}]: "),
                None => format!("{question}: "),
            };
            let answer = match &shared.options.prompt {
                None => None,
                Some(ask) => {
                    self.world.events.shown();
                    let mut answer = ask(&shown, !prompt.private);
                    while prompt.confirm && answer.is_some() {
                        let again = ask(&format!("confirm {shown}"), !prompt.private);
                        if answer == again {
                            break;
                        }
                        answer = ask(&shown, !prompt.private);
                    }
                    answer
                }
            };
            let answer = answer.filter(|answer| !answer.is_empty()).or(default.clone());
            let value = match answer {
                Some(answer) => answer,
                None if shared.options.compat || shared.options.prompt.is_some() => String::new(),
                None => {
                    return Err(Failure::new(
                        crate::failure::Kind::CouldNotStart,
                        format!("{} is asked for, and there is no terminal", prompt.name),
                    )
                    .at(prompt.place.clone())
                    .mend(format!("give it: -e {}=VALUE, or -e @FILE", prompt.name)));
                }
            };
            if prompt.private && !value.is_empty() && default.as_deref() != Some(value.as_str()) {
                self.world.events.masker().learn(&crate::secret::SecretString::from(value.clone()));
            }
            out.insert(prompt.name.clone(), Value::String(value));
        }
        Ok(out)
    }

    /// The play's hosts in the batches of `serial`.
    fn batches(&self, play: &PlannedPlay, names: &Scope, hosts: &[String]) -> Result<Vec<Vec<String>>, Failure> {
        let Some(written) = &play.play.serial else { return Ok(vec![hosts.to_vec()]) };
        let value = self.shared.templater.render_value(&written.value, Some(&written.place), names)?;
        if crate::template::is_omit(&value) {
            return Ok(vec![hosts.to_vec()]);
        }
        let items = match &value {
            Value::Array(items) => items.clone(),
            one => vec![one.clone()],
        };
        let mut sizes = Vec::new();
        for item in &items {
            let size = match item {
                Value::String(text) if text.trim().ends_with('%') => {
                    let part = text.trim().trim_end_matches('%').trim().parse::<f64>().ok();
                    part.map(|part| ((hosts.len() as f64 * part / 100.0) as usize).max(1))
                }
                other => number_of(other).map(|number| number.max(0.0) as usize),
            };
            sizes.push(size.ok_or_else(|| {
                wrong_value(written, "serial is a number of hosts, a part of them such as 30%, or a list", item)
            })?);
        }
        let (mut out, mut left, mut at) = (Vec::new(), hosts, 0);
        while !left.is_empty() {
            let size = sizes.get(at).or(sizes.last()).copied().unwrap_or(0);
            let size = if size == 0 { left.len() } else { size.min(left.len()) };
            let (batch, rest) = left.split_at(size);
            out.push(batch.to_vec());
            left = rest;
            at += 1;
        }
        Ok(out)
    }
}

/// Handlers as a flat list; blocks of static imports are opened.
fn flat_handlers(steps: &[Step]) -> Vec<Arc<Task>> {
    fn add(steps: &[Step], outer: &crate::playbook::Common, all: &mut Vec<Arc<Task>>) {
        for step in steps {
            match step {
                Step::Task(task) => {
                    let mut task = task.as_ref().clone();
                    task.common = task.common.within(outer);
                    all.push(Arc::new(task));
                }
                Step::Block(block) => add(&block.block, &block.common.clone().within(outer), all),
            }
        }
    }
    let mut all = Vec::new();
    add(steps, &crate::playbook::Common::default(), &mut all);
    all
}

/// A number, written as one or as text.
fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        _ => None,
    }
}

fn wrong_value(written: &crate::playbook::Written, what: &str, seen: &Value) -> Failure {
    Failure::new(crate::failure::Kind::CouldNotStart, what.to_owned()).at(written.place.clone()).saw(seen.to_string())
}

/// What a task that was not wanted leaves.
fn skipped(reason: &str, condition: Option<&str>) -> Map<String, Value> {
    let mut result = Map::new();
    result.insert("changed".to_owned(), json!(false));
    result.insert("skipped".to_owned(), json!(true));
    result.insert("skip_reason".to_owned(), json!(reason));
    if let Some(condition) = condition {
        // What was written as a truth is one.
        result.insert("false_condition".to_owned(), if condition == "false" { json!(false) } else { json!(condition) });
    }
    result
}
