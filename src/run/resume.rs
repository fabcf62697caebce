//! What earlier runs did already, read from their journals: the record by which a run is carried on.
//!
//! What lives here: which task is done on which host, and for how long that record holds. What does
//! not: finding the journals (cli), running tasks ([`super`]).
//!
//! The rules, host by host:
//! * A task of scope *host* that ended ok, changed or skipped there, or failed and was ignored, is done: it is not
//!   run again, and what it registered is what it registered then. `set_fact` is such a task.
//! * The first that failed or was cut off runs again, and everything after it on that host: from
//!   there on the record no longer holds, also not for an `always` part that had run.
//! * A block whose `rescue` mended it is over: its failure is told again from the record and nothing of
//!   it runs. A block whose `rescue` was cut off or failed begins again at the task that failed.
//! * `run_once` counts for all hosts: done when it was done on any, run again when any host of
//!   the play runs something again.
//! * Modules of scope *cluster* always run: they look for themselves at what is there, and take
//!   over what they find. What they ended with is told to them ([`Resume::of_cluster`]): a restore whose job was
//!   cleaned up has left nothing that could be found, and must not happen again.
//!
//! A command that was cut off in the middle may have done its work: it runs again, as it would when a
//! person typed it again. The journal's events are told, not flushed: what a power cut took of
//! them runs again as well; killing ferry loses none.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::shown;
use crate::event::{Event, Outcome};
use crate::failure::{Failure, Kind};
use crate::modules::{self, Before, Scope};
use crate::plan::Plan;
use crate::playbook::{Action, Step, Task};
use crate::secret::MASK;

/// How a task ended on a host in an earlier run.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// How it came out.
    pub outcome: Outcome,
    /// It failed, and the host went on.
    pub ignored: bool,
    /// What `register` kept.
    pub result: Value,
    /// The run that did it.
    pub run: String,
    /// It still counts where the task is `run_once`.
    once: bool,
}

impl Recorded {
    /// True when the host went on from there.
    fn passed(&self) -> bool {
        self.ignored || matches!(self.outcome, Outcome::Ok | Outcome::Changed | Outcome::Skipped)
    }
}

/// What earlier runs of the same playbooks did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resume {
    /// By the task's number and the host.
    done: BTreeMap<(usize, String), Recorded>,
    /// Blocks that were mended, by the number of their first task, and the host.
    rescued: BTreeSet<(usize, String)>,
    /// Tasks about the whole cluster that changed something, by the task's number: the last word of each.
    cluster: BTreeMap<usize, Before>,
}

/// Every task of a plan with its number; handlers and what reads further files are none of those that are done once.
fn numbered(plan: &Plan) -> BTreeMap<usize, &Task> {
    fn walk<'a>(items: &'a [Step], all: &mut BTreeMap<usize, &'a Task>) {
        for item in items {
            match item {
                Step::Task(task) => {
                    all.insert(task.number, task);
                }
                Step::Block(block) => {
                    for part in [&block.block, &block.rescue, &block.always] {
                        walk(part, all);
                    }
                }
            }
        }
    }
    let mut all = BTreeMap::new();
    for play in &plan.plays {
        let [pre_tasks, roles, tasks, post_tasks, _] = play.play.lists();
        for list in [pre_tasks, roles, tasks, post_tasks] {
            walk(list, &mut all);
        }
    }
    all
}

/// Whether what an earlier run did of it counts: not where it changes the run itself.
fn once(task: &Task) -> bool {
    matches!(task.action, Action::Module)
        && modules::scope(task.module) == Scope::Host
        && !["include_vars", "add_host", "group_by", "setup"].contains(&task.module)
}

impl Resume {
    /// The record of a chain of runs, the oldest first, each carrying on the one before: a run's id and its events.
    pub fn of<'a>(plan: &Plan, runs: impl IntoIterator<Item = (&'a str, Vec<&'a Event>)>) -> Self {
        let tasks = numbered(plan);
        let of_hosts: BTreeSet<usize> = tasks.iter().filter(|(_, task)| once(task)).map(|(n, _)| *n).collect();
        let mut resume = Self::default();
        for (run, events) in runs {
            resume.add(run, &events, &of_hosts);
        }
        resume
    }

    fn add(&mut self, run: &str, events: &[&Event], of_hosts: &BTreeSet<usize>) {
        // Where this run really did something, what older ones did from there on no longer holds.
        let mut from: BTreeMap<&str, usize> = BTreeMap::new();
        for event in events {
            if let Event::TaskEnded { host, number, done_in: None, .. } = event
                && of_hosts.contains(number)
            {
                let first = from.entry(host).or_insert(*number);
                *first = (*first).min(*number);
            }
        }
        let any = from.values().min().copied();
        let holds = |number: usize, host: &str| from.get(host).is_none_or(|first| number < *first);
        self.done.retain(|(number, host), _| holds(*number, host));
        self.rescued.retain(|(number, host)| holds(*number, host));
        for ((number, _), recorded) in &mut self.done {
            recorded.once &= any.is_none_or(|any| *number < any);
        }
        for event in events {
            match event {
                Event::TaskEnded { host, outcome, result, number, ignored, done_in, .. }
                    if of_hosts.contains(number) =>
                {
                    let recorded = Recorded {
                        outcome: *outcome,
                        ignored: *ignored,
                        result: result.clone(),
                        run: done_in.clone().unwrap_or_else(|| run.to_owned()),
                        once: true,
                    };
                    self.done.insert((*number, host.clone()), recorded);
                }
                Event::TaskEnded { outcome: Outcome::Changed, result, number, .. } => {
                    let before = Before { run: run.to_owned(), result: result.clone() };
                    self.cluster.insert(*number, before);
                }
                Event::Rescued { first, hosts } => {
                    self.rescued.extend(hosts.iter().map(|host| (*first, host.clone())));
                }
                _ => {}
            }
        }
    }

    /// What modules of scope *cluster* changed, by the module's name.
    pub fn of_cluster(&self, plan: &Plan) -> BTreeMap<String, Before> {
        let tasks = numbered(plan);
        self.cluster
            .iter()
            .filter_map(|(number, before)| Some((tasks.get(number)?.module.to_owned(), before.clone())))
            .collect()
    }

    /// How many tasks are not run again, counted once a host.
    pub fn count(&self) -> usize {
        self.done.values().filter(|recorded| recorded.passed()).count()
    }

    /// What keeps the record from being used: a value that a later step may need was masked on its way into
    /// the journal.
    pub fn masked(&self, plan: &Plan) -> Option<Failure> {
        let tasks = numbered(plan);
        Failure::all(self.done.iter().filter_map(|((number, host), recorded)| {
            let task = tasks.get(number)?;
            let kept = task.register.is_some() || recorded.result.get("ansible_facts").is_some();
            let hidden = has_mask(&recorded.result) || recorded.result.get("censored").is_some();
            (kept && recorded.passed() && hidden).then(|| {
                Failure::new(
                    Kind::CouldNotStart,
                    format!("what task {number} ({}) left for later steps held a secret", shown(task)),
                )
                .on(host)
                .why("no journal keeps a secret, so the run cannot be carried on with that value")
                .mend("start the playbook again from its beginning")
            })
        }))
    }

    /// The record of a task on a host that was passed.
    pub(super) fn passed(&self, number: usize, host: &str) -> Option<&Recorded> {
        self.done.get(&(number, host.to_owned())).filter(|recorded| recorded.passed())
    }

    /// The record of a task that failed on a host.
    pub(super) fn failed(&self, number: usize, host: &str) -> Option<&Recorded> {
        self.done.get(&(number, host.to_owned())).filter(|recorded| !recorded.passed())
    }

    /// Whether a `run_once` of these hosts is settled by this host's record.
    pub(super) fn counts_for_all(&self, number: usize, host: &str) -> bool {
        self.done.get(&(number, host.to_owned())).is_some_and(|recorded| recorded.once)
    }

    /// Whether the block that begins with this task was mended on the host.
    pub(super) fn rescued(&self, first: usize, host: &str) -> bool {
        self.rescued.contains(&(first, host.to_owned()))
    }
}

fn has_mask(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(MASK),
        Value::Array(items) => items.iter().any(has_mask),
        Value::Object(map) => map.iter().any(|(key, item)| key.contains(MASK) || has_mask(item)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ended(number: usize, host: &str, outcome: Outcome, done_in: Option<&str>) -> Event {
        Event::TaskEnded {
            task: String::new(),
            host: host.to_owned(),
            outcome,
            seconds: 0.0,
            message: String::new(),
            result: Value::from(number),
            number,
            ignored: false,
            done_in: done_in.map(str::to_owned),
        }
    }

    /// `a3+` ended well, `a3!` failed, `a3=` was told as done before, `a3^` is a block that was mended.
    fn chain(runs: &[&str]) -> Resume {
        // Task 9 is about the cluster.
        let of_hosts: BTreeSet<usize> = (1..=8).collect();
        let mut resume = Resume::default();
        for (at, run) in runs.iter().enumerate() {
            let events: Vec<Event> = run
                .split_whitespace()
                .map(|word| {
                    let (host, number) = (&word[..1], word[1..2].parse().unwrap());
                    match &word[2..] {
                        "+" => ended(number, host, Outcome::Changed, None),
                        "!" => ended(number, host, Outcome::Failed, None),
                        "=" => ended(number, host, Outcome::Skipped, Some("run 0")),
                        _ => Event::Rescued { first: number, hosts: vec![host.to_owned()] },
                    }
                })
                .collect();
            resume.add(&format!("run {at}"), &events.iter().collect::<Vec<_>>(), &of_hosts);
        }
        resume
    }

    #[test]
    fn what_holds_of_a_chain_of_runs() {
        let table: &[(&[&str], &str)] = &[
            (&["a1+ b1+ a2+ b2! a3+"], "a1 a2 a3 b1"),
            // The second run was killed while it told what the first had done: the first still says it.
            (&["a1+ a2+ a3+ a4!", "a1="], "a1 a2 a3"),
            // It mended step 2 on b and was killed: what b had done after step 2 is done again, a's is not.
            (&["a1+ a2+ a5+ b1+ b2! b5+", "a1= b1= a2= b2+"], "a1 a2 a5 b1 b2"),
            (&["a1+ a2!", "a1= a2!", "a1= a2+ a3!"], "a1 a2"),
            // A task about the cluster runs every time and takes nothing back.
            (&["a1+ a9+ a2!", "a9+ a1="], "a1"),
            (&["a9+"], ""),
        ];
        for (runs, done) in table {
            let resume = chain(runs);
            let seen: BTreeSet<String> = (1..=9)
                .flat_map(|number| ["a", "b"].map(|host| (number, host)))
                .filter(|(number, host)| resume.passed(*number, host).is_some())
                .map(|(number, host)| format!("{host}{number}"))
                .collect();
            assert_eq!(seen, done.split_whitespace().map(str::to_owned).collect(), "{runs:?}");
            assert_eq!(resume.count(), seen.len());
        }
        // Who did it is remembered through a chain, and so is its value.
        let resume = chain(&["a1+ a2!", "a1= a2+ a3!"]);
        let (one, two) = (resume.passed(1, "a").unwrap(), resume.passed(2, "a").unwrap());
        assert_eq!((one.run.as_str(), two.run.as_str(), &two.result), ("run 0", "run 1", &Value::from(2)));
        assert!(resume.failed(3, "a").is_some() && resume.failed(2, "a").is_none());
    }

    #[test]
    fn what_is_done_once_for_all_and_blocks_are_taken_back_too() {
        let resume = chain(&["a1+ a2^ a3+ b3! a5+", "a1= a2^ b3+"]);
        // b ran something again from 3 on: a `run_once` of a at 5 is no longer for b.
        assert!(resume.counts_for_all(1, "a") && !resume.counts_for_all(5, "a"));
        assert!(resume.passed(5, "a").is_some());
        assert!(resume.rescued(2, "a") && !resume.rescued(2, "b"));
        // a went on in the block itself: it is no longer mended.
        assert!(!chain(&["a1+ a2^ a4+", "a2+"]).rescued(2, "a"));
    }

    #[test]
    fn a_mask_is_found_wherever_it_stands() {
        for (value, there) in [
            (serde_json::json!({"stdout": "x ******** y"}), true),
            (serde_json::json!({"l": [1, {"********": null}]}), true),
            (serde_json::json!({"stdout": "*******", "rc": 0, "b": [true]}), false),
        ] {
            assert_eq!(has_mask(&value), there, "{value}");
        }
    }
}
