//! Tasks in order, hosts side by side: lists, blocks, handlers, includes, `meta`.
//!
//! What lives here: which task comes next for whom, and what follows from how it ended. What does not: doing it ([`super::task`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use super::scope::{Frame, truth};
use super::task::{Cx, Ending};
use super::{PlayRun, Recorded, Runner, Step1, first_number, number_of, shown};
use crate::event::{Event, Outcome};
use crate::failure::{Failure, Kind, Place};
use crate::modules::{self, Done, Scope as ModuleScope};
use crate::playbook::{Action, Block, Common, Flag, Stands, Step, Strategy, Task, Text};
use crate::settings::ansible_cfg;
use crate::template::Scope;

/// A frame around everything of the play.
fn root(run: &PlayRun<'_>) -> Arc<Frame> {
    let common = Common { name: None, vars: Vec::new(), ..run.play.play.common.clone() };
    Arc::new(Frame { common, params: false, data: Map::new(), rescuable: false, deferred: false, up: None })
}

/// One batch of a play.
pub(super) async fn play(runner: &Runner<'_>, run: &PlayRun<'_>) {
    let root = root(run);
    match run.strategy {
        Strategy::Linear => runner.sections(run, &run.batch, &root).await,
        Strategy::Free | Strategy::HostPinned => {
            // Each host by itself, so many at once.
            futures::stream::iter(run.batch.clone())
                .map(|host| {
                    let root = Arc::clone(&root);
                    async move {
                        let alone = [host];
                        runner.sections(run, &alone, &root).await;
                    }
                })
                .buffer_unordered(run.forks)
                .collect::<Vec<()>>()
                .await;
        }
    }
}

/// What an include brought.
enum Included {
    Role(Box<Block>),
    Tasks(Vec<Step>),
}

/// How a task ended before, or that it must be run.
enum Work {
    Now(String),
    Before(String, Recorded),
}

impl Runner<'_> {
    async fn sections(&self, run: &PlayRun<'_>, hosts: &[String], root: &Arc<Frame>) {
        self.gather(run, hosts, root).await;
        let play = &run.play.play;
        let lists: [&[&[Step]]; 3] = [&[&play.pre_tasks], &[&play.roles, &play.tasks], &[&play.post_tasks]];
        for section in lists {
            for list in section {
                self.items(run, hosts, list, root).await;
            }
            self.flush(run, hosts, root).await;
        }
    }

    /// Facts, where the play wants them.
    async fn gather(&self, run: &PlayRun<'_>, hosts: &[String], root: &Arc<Frame>) {
        let play = &run.play.play;
        let Some(spec) = modules::TABLE.iter().find(|spec| spec.name == "setup") else { return };
        let wanted = match &play.gather_facts {
            None => self.shared.options.gathering,
            Some(Flag::Is(value)) => *value,
            Some(flag) => {
                let names = self.play_names(run.play, &run.prompted);
                truth(&self.shared.templater, flag, &names).unwrap_or(true)
            }
        };
        if !wanted {
            return;
        }
        let mut hosts = hosts.to_vec();
        for host in &hosts {
            self.shared.recall(host);
        }
        for what in std::mem::take(&mut self.shared.state().unread) {
            self.world.events.warn(None, what);
        }
        if self.shared.options.smart {
            let state = self.shared.state();
            let known = |host: &String| state.facts.get(host).is_some_and(|facts| facts.contains_key("module_setup"));
            hosts.retain(|host| !known(host));
        }
        let always = Text { text: "always".to_owned(), place: play.place.clone() };
        let mut common = Common {
            name: Some(Text { text: "Gathering Facts".to_owned(), place: play.place.clone() }),
            ..Common::default()
        };
        if play.common.tags.is_empty() {
            common.tags.push(always);
        }
        let args = play
            .gather_subset
            .iter()
            .map(|subset| ("gather_subset".to_owned(), subset.place.clone(), subset.value.clone()))
            .chain(play.facts.iter().cloned())
            .collect();
        let mut task = Task::of(spec.name, play.place.clone(), Arc::new(play.folder.clone()));
        task.common = common;
        task.args = args;
        Box::pin(self.task(run, &hosts, &task, root, false, None)).await;
    }

    /// Items in order, for those of the hosts that go on.
    async fn items(&self, run: &PlayRun<'_>, hosts: &[String], items: &[Step], frame: &Arc<Frame>) {
        let alone = run.strategy == Strategy::Linear || run.batch.len() == 1;
        for (at, item) in items.iter().enumerate() {
            let active = self.shared.active(hosts);
            if active.is_empty() {
                return;
            }
            match item {
                Step::Task(task) => {
                    let next = match items.get(at + 1) {
                        // Nobody else goes on meanwhile, who might wait for this host, be throttled with it or be delegated to it.
                        Some(Step::Task(next)) if active.len() == 1 && alone => Some(next.as_ref()),
                        _ => None,
                    };
                    Box::pin(self.task(run, &active, task, frame, false, next)).await;
                }
                Step::Block(block) => Box::pin(self.block(run, &active, block, frame)).await,
            }
        }
    }

    async fn block(&self, run: &PlayRun<'_>, hosts: &[String], block: &Block, outer: &Arc<Frame>) {
        let shared = &self.shared;
        let mut hosts = hosts.to_vec();
        if let Stands::Role(role, key) = &block.stands
            && !role.allow_duplicates
        {
            let state = shared.state();
            hosts.retain(|host| !state.roles_done.contains(&(host.clone(), key.clone())));
        }
        if hosts.is_empty() {
            return;
        }
        let frame = |rescuable: bool, deferred: bool| {
            Arc::new(Frame {
                common: Common { name: None, ..block.common.clone() },
                params: matches!(block.stands, Stands::File | Stands::Role(..)),
                data: Map::new(),
                rescuable: rescuable || outer.rescuable,
                deferred: deferred || outer.deferred,
                up: Some(Arc::clone(outer)),
            })
        };
        let number = first_number(block);
        let mended_before = {
            let mut state = shared.state();
            let before = state.mended.clone();
            if let Some(earlier) = self.earlier {
                let here: Vec<String> = hosts
                    .iter()
                    .filter(|host| !state.left.contains(*host) && earlier.rescued(number, host))
                    .cloned()
                    .collect();
                state.mended.extend(here);
            }
            before
        };
        self.items(
            run,
            &hosts,
            &block.block,
            &frame(!block.rescue.is_empty(), !block.rescue.is_empty() || !block.always.is_empty()),
        )
        .await;
        shared.state().mended = mended_before;
        let failed = |among: &[String]| -> Vec<String> {
            let state = shared.state();
            let standing = |host: &String| state.standing.get(host).copied().unwrap_or_default();
            among.iter().filter(|host| standing(host).failed && !standing(host).unreachable).cloned().collect()
        };
        if !block.rescue.is_empty() {
            let broken = failed(&hosts);
            if !broken.is_empty() {
                for host in &broken {
                    shared.stand(host, |standing| standing.failed = false);
                }
                self.items(run, &broken, &block.rescue, &frame(false, !block.always.is_empty())).await;
                let still = failed(&broken);
                let saved: Vec<String> = broken.iter().filter(|host| !still.contains(host)).cloned().collect();
                if !saved.is_empty() {
                    self.world.events.tell(Event::Rescued { first: number, hosts: saved });
                }
            }
        }
        if !block.always.is_empty() {
            // What always runs, runs for those too that failed within.
            let broken = failed(&hosts);
            for host in &broken {
                shared.stand(host, |standing| standing.failed = false);
            }
            let before = shared.state().clearings;
            self.items(run, &hosts, &block.always, &frame(false, false)).await;
            if shared.state().clearings == before {
                for host in &broken {
                    shared.stand(host, |standing| standing.failed = true);
                }
            }
        }
        if let Stands::Role(role, key) = &block.stands {
            let which = Arc::as_ptr(role) as usize;
            let mut state = shared.state();
            for host in &hosts {
                let standing = state.standing.entry(host.clone()).or_default();
                standing.out_of_role = false;
                let standing = *standing;
                if standing.goes_on() && state.roles_ran.contains(&(host.clone(), which)) {
                    state.roles_done.insert((host.clone(), key.clone()));
                }
            }
        }
    }

    /// The task's tags with those of all that stands around it, rendered.
    pub(super) fn tags(&self, frame: &Frame, task: &Task, scope: &Scope) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        let mut add = |tag: String| {
            if !tag.is_empty() && !out.contains(&tag) {
                out.push(tag);
            }
        };
        let chain = frame.chain();
        for tag in chain.iter().flat_map(|frame| &frame.common.tags).chain(&task.common.tags) {
            match self.shared.templater.render(&tag.text, Some(&tag.place), scope) {
                Ok(Value::Array(items)) => {
                    items.iter().for_each(|item| add(item.as_str().map_or_else(|| item.to_string(), str::to_owned)));
                }
                Ok(Value::String(text)) => text.split(',').for_each(|tag| add(tag.trim().to_owned())),
                Ok(other) => add(other.to_string()),
                Err(_) => add(tag.text.clone()),
            }
        }
        out
    }

    /// Whether the task is to be run at all: tags, `--start-at-task`, `--step`.
    fn begins(&self, frame: &Frame, task: &Task, title: &str, scope: &Scope, handler: bool) -> bool {
        let shared = &self.shared;
        if !handler && !shared.tags.want(&self.tags(frame, task, scope)) {
            return false;
        }
        if let Some(start) = &shared.options.start_at
            && !shared.state().begun
        {
            let bare = task.common.name.as_ref().map_or(task.module, |name| name.text.as_str());
            let fits = |name: &str| name == start || glob(start, name);
            let implicit = task.number == 0 && task.module == "setup";
            if !implicit {
                if !(fits(bare) || fits(title)) {
                    return false;
                }
                shared.state().begun = true;
            }
        }
        if let Some(ask) = &shared.options.step
            && !shared.state().unstepped
        {
            self.world.events.shown();
            match ask(title) {
                Step1::Yes => {}
                Step1::No => return false,
                Step1::Continue => shared.state().unstepped = true,
            }
        }
        true
    }

    /// A name as it is shown, rendered for the first host; as it is written where it cannot be.
    fn title(&self, task: &Task, scope: &Scope) -> String {
        let written = shown(task);
        match self.shared.templater.render(&written, None, scope) {
            Ok(Value::String(text)) => text,
            Ok(other) => other.to_string(),
            Err(_) => written,
        }
    }

    async fn task(
        &self,
        run: &PlayRun<'_>,
        hosts: &[String],
        task: &Task,
        frame: &Arc<Frame>,
        handler: bool,
        next: Option<&Task>,
    ) {
        let shared = &self.shared;
        let active = shared.active(hosts);
        let Some(first) = active.first().cloned() else { return };
        let scope = match self.scope(run, frame, Some(task), &first) {
            Ok(scope) => scope,
            Err(failure) => {
                for host in &active {
                    self.settle(run, frame, task, &shown(task), host, Ending::of(failure.clone()), 0.0);
                }
                return;
            }
        };
        let title = self.title(task, &scope);
        if let Action::Meta(what) = &task.action {
            // Handlers that wait run whatever tags are asked for.
            if what.text != "flush_handlers" && !shared.tags.want(&self.tags(frame, task, &scope)) {
                return;
            }
            return Box::pin(self.meta(run, &active, task, what, frame, &scope)).await;
        }
        if !self.begins(frame, task, &title, &scope, handler) {
            return;
        }
        self.world.events.tell(Event::TaskStarted { task: title.clone(), number: task.number, of: self.of, handler });
        match &task.action {
            Action::IncludeTasks(..) | Action::IncludeRole(..) => {
                return Box::pin(self.include(run, &active, task, frame, &title, handler)).await;
            }
            Action::Module if modules::scope(task.module) == ModuleScope::Cluster => {
                return self.cluster_task(run, task, frame, &active, &first, &title, &scope).await;
            }
            _ => {}
        }
        let run_once = match frame.nearest(task, |common| common.run_once.as_ref()) {
            Some(flag) => truth(&shared.templater, flag, &scope).unwrap_or(false),
            None => false,
        };
        let everybody = run_once || task.module == "add_host";
        let number = task.number;
        let settled = if everybody && number > 0 { self.before_once(number, &active) } else { None };
        let hosts: Vec<String> = match (everybody, &settled) {
            (true, Some(host)) => vec![host.clone()],
            (true, None) => vec![first],
            (false, _) => active.clone(),
        };
        let mut work = Vec::new();
        for host in &hosts {
            let before =
                if number == 0 || handler || everybody && settled.is_none() { None } else { self.before(number, host) };
            work.push(match before {
                Some(recorded) => Work::Before(host.clone(), recorded),
                None => Work::Now(host.clone()),
            });
        }
        let gathers = number == 0 && task.module == "setup";
        if !(handler || gathers) {
            let mut state = shared.state();
            for one in &work {
                if let Work::Now(host) = one {
                    // What a `run_once` task does, it does for all.
                    state.left.extend(if everybody { active.clone() } else { vec![host.clone()] });
                }
            }
        }
        let throttle = match self.throttle(frame, task, &scope) {
            Ok(throttle) => throttle,
            Err(failure) => {
                for host in &hosts {
                    self.settle(run, frame, task, &title, host, self.ending_of(failure.clone()), 0.0);
                }
                return;
            }
        };
        // Where each host goes on by itself, a task's hosts meet here.
        let gate = throttle.filter(|_| run.strategy != Strategy::Linear).map(|most| {
            let place = &task.place;
            let key = (place.file.clone(), place.line, place.column);
            Arc::clone(shared.state().gates.entry(key).or_insert_with(|| Arc::new(tokio::sync::Semaphore::new(most))))
        });
        let gate = gate.as_deref();
        let at_once = throttle.map_or(run.forks, |most| most.min(run.forks)).max(1);
        let title = &title;
        let mut ending = futures::stream::iter(work)
            .map(|work| async move {
                let began = Instant::now();
                match work {
                    Work::Before(host, recorded) => (host, Err(recorded), 0.0),
                    Work::Now(host) => {
                        let _permit = match gate {
                            Some(gate) => gate.acquire().await.ok(),
                            None => None,
                        };
                        let cx = Cx { run, frame, task, host: &host, title, next };
                        let ended = self.on(&cx).await;
                        (host, Ok(ended), began.elapsed().as_secs_f64())
                    }
                }
            })
            // Not in their order: a host that is slow must not keep those behind it waiting for a place.
            .buffer_unordered(at_once);
        let mut failures = Vec::new();
        // Each is told as soon as it has ended: what the journal holds is not run again.
        while let Some((host, ended, seconds)) = ending.next().await {
            let (failed, result) = match ended {
                Ok(ended) => {
                    let result = ended.result.clone();
                    (self.settle(run, frame, task, title, &host, ended, seconds), result)
                }
                Err(recorded) => {
                    let result = recorded.result.as_object().cloned().unwrap_or_default();
                    (self.repeat(task, number, &host, recorded, frame), result)
                }
            };
            if everybody {
                for other in active.iter().filter(|other| **other != host) {
                    self.keep(task, other, &result, false);
                }
            }
            if failed {
                failures.push(host);
            }
        }
        drop(ending);
        if failures.is_empty() {
            return;
        }
        self.after_failures(run, frame, task, &scope, &active, everybody && failures.len() == hosts.len());
    }

    /// How many hosts at once a task is for, where it says.
    fn throttle(&self, frame: &Frame, task: &Task, scope: &Scope) -> Result<Option<usize>, Failure> {
        let Some(written) = frame.nearest(task, |common| common.throttle.as_ref()) else { return Ok(None) };
        let wrong = |why: String| {
            Failure::new(Kind::Failed, format!("Failed to convert the throttle value to an integer: {why}"))
                .at(written.place.clone())
        };
        let value = self
            .shared
            .templater
            .render_value(&written.value, Some(&written.place), scope)
            .map_err(|failure| wrong(failure.what))?;
        if value.is_null() {
            return Ok(None);
        }
        let number = number_of(&value).ok_or_else(|| {
            let shown = value.as_str().map_or_else(|| value.to_string(), |text| format!("'{text}'"));
            wrong(format!("invalid literal for int: {shown}"))
        })?;
        Ok(Some(number as usize).filter(|number| *number > 0))
    }

    /// What follows for the others when some have failed.
    fn after_failures(
        &self,
        run: &PlayRun<'_>,
        frame: &Frame,
        task: &Task,
        scope: &Scope,
        active: &[String],
        for_all: bool,
    ) {
        let shared = &self.shared;
        let fatal = match frame.nearest(task, |common| common.any_errors_fatal.as_ref()) {
            Some(flag) => truth(&shared.templater, flag, scope).unwrap_or(false),
            None => false,
        };
        if for_all || fatal {
            let mut state = shared.state();
            for host in active {
                let standing = state.standing.entry(host.clone()).or_default();
                standing.direct |= !standing.unreachable && !standing.failed;
                standing.failed |= !standing.unreachable;
            }
            if fatal && !frame.rescuable {
                run.broken.store(true, Ordering::SeqCst);
            }
        }
        if let Some(most) = run.max_fail
            && run.strategy == Strategy::Linear
        {
            let direct = {
                let state = shared.state();
                run.batch.iter().filter(|host| state.standing.get(host).is_some_and(|standing| standing.direct)).count()
            };
            if direct as f64 / run.batch.len().max(1) as f64 * 100.0 > most {
                // The play ends here, for whoever waits elsewhere too.
                let mut state = shared.state();
                for host in &run.batch {
                    let standing = state.standing.entry(host.clone()).or_default();
                    standing.failed |= !standing.unreachable;
                    standing.ended = true;
                }
                run.exceeded.store(true, Ordering::SeqCst);
                run.broken.store(true, Ordering::SeqCst);
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    async fn cluster_task(
        &self,
        run: &PlayRun<'_>,
        task: &Task,
        frame: &Arc<Frame>,
        active: &[String],
        first: &str,
        title: &str,
        scope: &Scope,
    ) {
        let began = Instant::now();
        let cx = Cx { run, frame, task, host: first, title, next: None };
        let ended = match self.wanted(frame, task, scope) {
            Ok(None) => match self.arguments(&cx, scope) {
                Ok(args) => modules::on_cluster(self.world, task.module, active, &args).await,
                Err(failure) => Err(failure),
            },
            Ok(Some(_)) => Ok(Done::skipped("Conditional result was False")),
            Err(failure) => Err(failure),
        };
        let name = self.world.cluster_of(active).map_or_else(|| first.to_owned(), ToString::to_string);
        let ended = Ending::of_cluster(ended);
        let result = ended.result.clone();
        let failed = self.settle(run, frame, task, title, &name, ended, began.elapsed().as_secs_f64());
        for host in active {
            self.keep(task, host, &result, false);
        }
        if failed {
            let mut state = self.shared.state();
            state.standing.remove(&name);
            for host in active {
                state.standing.entry(host.clone()).or_default().failed = true;
            }
            if !frame.rescuable {
                run.broken.store(true, Ordering::SeqCst);
            }
        }
    }

    /// How a task ended on a host in the earlier run, where that still holds.
    fn before(&self, number: usize, host: &str) -> Option<Recorded> {
        let state = self.shared.state();
        let earlier = self.earlier.filter(|_| !state.left.contains(host))?;
        let failed = || state.mended.contains(host).then(|| earlier.failed(number, host)).flatten();
        earlier.passed(number, host).or_else(failed).cloned()
    }

    /// The host whose record settles a `run_once` task for all of these.
    fn before_once(&self, number: usize, active: &[String]) -> Option<String> {
        let earlier = self.earlier.filter(|_| {
            let state = self.shared.state();
            !active.iter().any(|host| state.left.contains(host))
        })?;
        let settled = |host: &&String| earlier.counts_for_all(number, host) && self.before(number, host).is_some();
        active.iter().find(settled).cloned()
    }

    /// Tells how a task ended on a host in the earlier run; true when it failed there and that counts.
    fn repeat(&self, task: &Task, number: usize, host: &str, recorded: Recorded, frame: &Frame) -> bool {
        let Recorded { outcome, ignored, result, run, .. } = recorded;
        let failed = !ignored && !matches!(outcome, Outcome::Ok | Outcome::Changed | Outcome::Skipped);
        let (changed, ran) = (outcome == Outcome::Changed, outcome != Outcome::Skipped);
        let (outcome, word, message) = if failed {
            (
                outcome,
                if frame.rescuable { "rescued" } else { "failed" },
                format!("failed in run {run}, which mended it"),
            )
        } else if ignored {
            (Outcome::Skipped, "skipped", format!("failed in run {run} and was ignored"))
        } else {
            (Outcome::Skipped, "skipped", format!("done in run {run}"))
        };
        self.shared.count(host, word);
        if let Some(role) = task.role.as_ref().filter(|_| ran) {
            self.shared.state().roles_ran.insert((host.to_owned(), Arc::as_ptr(role) as usize));
        }
        if let Some(map) = result.as_object() {
            self.keep(task, host, map, false);
        }
        if changed {
            // Its handlers wait as they did then.
            let scope = self.shared.of_host(host);
            self.notify(task, frame, host, &scope);
        }
        if failed {
            self.shared.stand(host, |standing| standing.failed = true);
        }
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
    #[allow(clippy::too_many_arguments)]
    pub(super) fn settle(
        &self,
        run: &PlayRun<'_>,
        frame: &Frame,
        task: &Task,
        title: &str,
        host: &str,
        ended: Ending,
        seconds: f64,
    ) -> bool {
        let shared = &self.shared;
        let Ending { outcome, message, mut result, failure, ignored, mut shown, notify } = ended;
        let word = match outcome {
            _ if ignored => "ignored",
            Outcome::Ok => "ok",
            Outcome::Changed => "changed",
            Outcome::Skipped => "skipped",
            Outcome::Failed | Outcome::Unknown if frame.rescuable => "rescued",
            Outcome::Failed | Outcome::Unknown => "failed",
            Outcome::Unreachable => "unreachable",
        };
        shared.count(host, word);
        if let Some(role) = &task.role
            && matches!(outcome, Outcome::Ok | Outcome::Changed | Outcome::Failed)
        {
            shared.state().roles_ran.insert((host.to_owned(), Arc::as_ptr(role) as usize));
        }
        // Ansible counts it as changed as well.
        if ignored && result.get("changed") == Some(&json!(true)) {
            shared.count(host, "ignored_changed");
        }
        self.keep(task, host, &result, true);
        if let Some(scope) = notify {
            self.notify(task, frame, host, &scope);
        }
        let bad = failure.is_some() && !ignored;
        if bad {
            let unreachable = outcome == Outcome::Unreachable;
            shared.stand(host, |standing| {
                standing.failed |= !unreachable;
                standing.unreachable |= unreachable;
                standing.direct |= !unreachable && !frame.deferred;
            });
            let mut about = Map::new();
            // Without the role that stands before it in titles; a task without a name has none.
            let role = task.role.as_ref().map(|role| format!("{} : ", role.name)).unwrap_or_default();
            let name = task.common.name.as_ref().map(|_| title.strip_prefix(&role).unwrap_or(title));
            about.insert("name".to_owned(), json!(name.unwrap_or_default()));
            about.insert("action".to_owned(), json!(task.called.as_deref().unwrap_or(task.module)));
            let mut state = shared.state();
            let late = state.late.entry(host.to_owned()).or_default();
            late.data("ansible_failed_task", &Value::Object(about));
            late.data("ansible_failed_result", &Value::Object(super::task::strip(result.clone())));
        }
        if shown.is_empty() {
            shown = std::mem::take(&mut result);
        }
        self.world.events.tell(Event::TaskEnded {
            task: title.to_owned(),
            host: host.to_owned(),
            outcome,
            seconds,
            message,
            result: Value::Object(shown),
            number: task.number,
            ignored,
            done_in: None,
        });
        let _ = run;
        match failure {
            Some(failure) if bad && frame.rescuable && failure.kind == Kind::Failed => {
                self.world.events.warn(Some(host), format!("rescued: {failure}"));
                true
            }
            Some(failure) if bad => {
                self.world.events.tell(Event::Failed { failure });
                true
            }
            _ => false,
        }
    }

    /// What a task leaves for later ones. Facts were kept when they came, where `facts_kept` says so.
    pub(super) fn keep(&self, task: &Task, host: &str, result: &Map<String, Value>, facts_kept: bool) {
        // Of each item of a loop too.
        let items = result.get("results").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
        if task.module == "set_stats" {
            for stats in items.chain([result]).filter_map(|result| result.get("ansible_stats")) {
                self.shared.count_stats(host, stats);
            }
        }
        let mut state = self.shared.state();
        let late = state.late.entry(host.to_owned()).or_default();
        if !facts_kept
            && let Some(facts) = result.get("ansible_facts").and_then(Value::as_object)
            && !["setup", "debug"].contains(&task.module)
        {
            for (name, value) in facts {
                late.data(name, value);
            }
        }
        if let Some(name) = &task.register {
            let shown: Map<String, Value> = result
                .iter()
                .filter(|(name, _)| !name.starts_with("_ansible_"))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            late.data(&name.text, &Value::Object(shown));
        }
    }

    /// Lets the handlers wait that a task names.
    fn notify(&self, task: &Task, frame: &Frame, host: &str, scope: &Scope) {
        let shared = &self.shared;
        let chain = frame.chain();
        let names: Vec<&Text> =
            chain.iter().flat_map(|frame| &frame.common.notify).chain(&task.common.notify).collect();
        for name in names {
            let wanted = match shared.templater.render(&name.text, Some(&name.place), scope) {
                Ok(Value::Array(items)) => {
                    items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
                }
                Ok(value) => vec![value.as_str().map_or_else(|| value.to_string(), str::to_owned)],
                Err(_) => vec![name.text.clone()],
            };
            for wanted in wanted {
                let found = self.handlers_called(&wanted, scope);
                if found.is_empty() {
                    let what = format!(
                        "The requested handler '{wanted}' was not found in either the main handlers list nor in the listening handlers list"
                    );
                    let setting = ansible_cfg::in_force("defaults.error_on_missing_handler");
                    if setting.is_some_and(|text| ansible_cfg::truth(&text) == Some(false)) {
                        self.world.events.tell(Event::Warning { host: None, text: what });
                        continue;
                    }
                    let failure = Failure::new(Kind::Failed, what).on(host).at(name.place.clone());
                    shared.stand(host, |standing| standing.failed = true);
                    shared.count(host, "failed");
                    self.world.events.tell(Event::Failed { failure });
                    continue;
                }
                shared.state().notified.entry(host.to_owned()).or_default().extend(found);
            }
        }
    }

    /// The handlers of that name (the last one), and those that listen to it.
    fn handlers_called(&self, wanted: &str, scope: &Scope) -> Vec<usize> {
        let shared = &self.shared;
        let handlers = shared.state().handlers.clone();
        let mut found = Vec::new();
        let called = |handler: &Task| {
            let Some(name) = &handler.common.name else { return false };
            let name = match shared.templater.render(&name.text, Some(&name.place), scope) {
                Ok(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                Err(failure) => {
                    let what = format!(
                        "Handler '{}' is unusable because it has no listen topics and the name could not be templated: {}",
                        name.text, failure.what
                    );
                    if handler.listen.is_empty() && shared.state().unusable.insert(name.place.to_string()) {
                        self.world.events.warn(None, what);
                    }
                    name.text.clone()
                }
            };
            let roles = handler.role.iter().flat_map(|role| [role.name.as_str(), role.own_name()]);
            name == wanted || roles.into_iter().any(|role| format!("{role} : {name}") == wanted)
        };
        // Of one name, the last file counts, and in it the first.
        let same = |one: &Arc<Task>, other: &Arc<Task>| one.place.file == other.place.file && one.role == other.role;
        let mut end = handlers.len();
        for list in handlers.chunk_by(same).rev() {
            let begin = end - list.len();
            if let Some(at) = list.iter().position(|handler| called(handler)) {
                found.push(begin + at);
                break;
            }
            end = begin;
        }
        for (at, handler) in handlers.iter().enumerate() {
            let mut roles = handler.role.iter().flat_map(|role| [role.name.as_str(), role.own_name()]);
            let meant = roles.find_map(|role| wanted.strip_prefix(role)?.strip_prefix(" : "));
            let listens = handler.listen.iter().any(|topic| {
                // A topic is never a template: so it is in Ansible.
                topic.text == wanted || meant == Some(topic.text.as_str())
            });
            if listens && !found.contains(&at) {
                found.push(at);
            }
        }
        found
    }

    /// Runs the handlers that wait.
    async fn flush(&self, run: &PlayRun<'_>, hosts: &[String], frame: &Arc<Frame>) {
        let shared = &self.shared;
        // A handler may let others wait, but not without end.
        for _ in 0..100 {
            let waiting: BTreeMap<usize, Vec<String>> = {
                let state = shared.state();
                let mut all: BTreeMap<usize, Vec<String>> = BTreeMap::new();
                for host in hosts {
                    let standing = state.standing.get(host).copied().unwrap_or_default();
                    let may = standing.goes_on()
                        || run.force_handlers && standing.failed && !standing.unreachable && !standing.ended;
                    if !may {
                        continue;
                    }
                    for at in state.notified.get(host).into_iter().flatten() {
                        all.entry(*at).or_default().push(host.clone());
                    }
                }
                all
            };
            if waiting.is_empty() {
                return;
            }
            let last = waiting.keys().max().copied().unwrap_or(0);
            let mut at = waiting.keys().min().copied().unwrap_or(0);
            while at <= last {
                let (handler, whose) = {
                    let mut state = shared.state();
                    let whose: Vec<String> = hosts
                        .iter()
                        .filter(|host| state.notified.get(*host).is_some_and(|set| set.contains(&at)))
                        .filter(|host| {
                            let standing = state.standing.get(host).copied().unwrap_or_default();
                            standing.goes_on() || run.force_handlers && standing.failed && !standing.unreachable
                        })
                        .cloned()
                        .collect();
                    for host in &whose {
                        if let Some(set) = state.notified.get_mut(host) {
                            set.remove(&at);
                        }
                    }
                    (state.handlers.get(at).cloned(), whose)
                };
                at += 1;
                let Some(handler) = handler.filter(|_| !whose.is_empty()) else { continue };
                let failed: BTreeSet<String> = {
                    let mut state = shared.state();
                    let mut failed = BTreeSet::new();
                    for host in &whose {
                        let standing = state.standing.entry(host.clone()).or_default();
                        if standing.failed {
                            failed.insert(host.clone());
                            standing.failed = false;
                        }
                    }
                    failed
                };
                Box::pin(self.task(run, &whose, &handler, frame, true, None)).await;
                for host in &failed {
                    shared.stand(host, |standing| standing.failed = true);
                }
            }
        }
    }

    /// Reads the inventory again; what came on the way stays.
    fn refresh(&self) -> Result<(), Failure> {
        let shared = &self.shared;
        if let Some(reread) = &shared.options.reread {
            let mut inventory = reread()?;
            let grown = shared.state().grown.clone();
            for one in &grown {
                match one {
                    super::Grown::Host(name, groups, vars) => {
                        super::grow::add_host(&mut inventory, name, groups, vars)?;
                    }
                    // A host that is gone has no groups.
                    super::Grown::Group(host, key, parents) => {
                        let _ = super::grow::add_to_group(&mut inventory, host, key, parents);
                    }
                }
            }
            *shared.inventory.write().unwrap_or_else(std::sync::PoisonError::into_inner) = inventory;
        }
        shared.changed(None);
        Ok(())
    }

    /// What Ansible says of a meta task with `-vv`.
    fn meta_says(&self, what: &str) {
        if self.shared.options.compat {
            self.world.events.tell(Event::Note { host: None, text: format!("META: {what}") });
        }
    }

    async fn meta(
        &self,
        run: &PlayRun<'_>,
        active: &[String],
        task: &Task,
        what: &Text,
        frame: &Arc<Frame>,
        scope: &Scope,
    ) {
        let shared = &self.shared;
        let rendered = shared.templater.render(&what.text, Some(&what.place), scope);
        let what = match &rendered {
            Ok(value) => value.as_str().unwrap_or_default(),
            Err(failure) => {
                for host in active {
                    self.settle(run, frame, task, &shown(task), host, Ending::of(failure.clone()), 0.0);
                }
                return;
            }
        };
        let holds = |host: &String| -> bool {
            let scope = self.scope(run, frame, Some(task), host);
            match scope.and_then(|scope| self.wanted(frame, task, &scope)) {
                Ok(wanted) => {
                    if wanted.is_some() {
                        let on = if what == "end_role" { "continuing role" } else { "continuing execution" };
                        let reason = format!("{what} conditional evaluated to False, {on} for {host}");
                        self.meta_says(&format!(
                            "{reason}\nskipping: [{host}] => {}",
                            crate::template::json_text(&json!({"msg": reason, "skip_reason": reason}))
                        ));
                    }
                    wanted.is_none()
                }
                Err(failure) => {
                    self.settle(run, frame, task, &shown(task), host, Ending::of(failure), 0.0);
                    false
                }
            }
        };
        let one_for_all = matches!(what, "end_play" | "end_batch" | "clear_host_errors" | "refresh_inventory");
        // Ansible's own title, which it has for each host that it asks.
        if shared.options.compat {
            let title = self.title(task, scope);
            for _ in active.iter().take(if one_for_all { 1 } else { usize::MAX }) {
                let (number, handler) = (0, false);
                self.world.events.tell(Event::TaskStarted { task: title.clone(), number, of: self.of, handler });
            }
        }
        if one_for_all && !active.first().is_some_and(&holds) {
            return;
        }
        match what {
            "flush_handlers" => {
                let wanted: Vec<String> = active.iter().filter(|host| holds(host)).cloned().collect();
                if !wanted.is_empty() {
                    self.flush(run, &wanted, frame).await;
                }
            }
            "end_play" | "end_batch" => {
                self.meta_says(if what == "end_play" { "ending play" } else { "ending batch" });
                if what == "end_play" {
                    run.ended.store(true, Ordering::SeqCst);
                }
                let mut state = shared.state();
                for host in &run.batch {
                    state.standing.entry(host.clone()).or_default().ended = true;
                }
            }
            "end_host" | "end_role" => {
                for host in active.iter().filter(|host| holds(host)) {
                    let role = task.role.as_ref().map(|role| role.name.as_str()).unwrap_or_default();
                    self.meta_says(&match what {
                        "end_host" => format!("ending play for {host}"),
                        _ => format!("ending role {role} for {host}"),
                    });
                    shared.stand(host, |standing| match what {
                        "end_host" => standing.ended = true,
                        _ => standing.out_of_role = true,
                    });
                }
            }
            "clear_host_errors" => {
                self.meta_says("cleared host errors");
                run.broken.store(false, Ordering::SeqCst);
                self.world.events.forgive(&run.batch);
                let mut state = shared.state();
                state.clearings += 1;
                for host in &run.batch {
                    let standing = state.standing.entry(host.clone()).or_default();
                    // Who failed for good comes back with the next play; who is in an `always` goes on.
                    standing.ended |= standing.failed;
                    standing.failed = false;
                    standing.unreachable = false;
                    standing.direct = false;
                }
            }
            "clear_facts" => {
                for host in active.iter().filter(|host| holds(host)) {
                    shared.state().facts.remove(host);
                    shared.state().recalled.insert(host.clone());
                    shared.changed(Some(host));
                    if let Some(cache) = &shared.options.facts {
                        cache.remove(host);
                    }
                }
            }
            "reset_connection" => {
                for host in active.iter().filter(|host| holds(host)) {
                    self.world.forget(host).await;
                }
            }
            "refresh_inventory" => match self.refresh() {
                Ok(()) => self.meta_says("inventory successfully refreshed"),
                Err(failure) => {
                    for host in active {
                        self.settle(run, frame, task, &shown(task), host, Ending::of(failure.clone()), 0.0);
                    }
                }
            },
            "noop" | "role_complete" => {}
            other => {
                let failure = Failure::new(Kind::Failed, format!("invalid meta action requested: {other}"))
                    .at(task.place.clone());
                for host in active {
                    self.settle(run, frame, task, &shown(task), host, Ending::of(failure.clone()), 0.0);
                }
            }
        }
    }

    /// `include_tasks` and `include_role`: reads what each host asks for, and runs it for those that asked for the same.
    async fn include(
        &self,
        run: &PlayRun<'_>,
        active: &[String],
        task: &Task,
        frame: &Arc<Frame>,
        title: &str,
        handler: bool,
    ) {
        struct Group {
            name: String,
            data: Map<String, Value>,
            label: Option<String>,
            hosts: Vec<String>,
        }
        let shared = &self.shared;
        let bad = AtomicBool::new(false);
        let mut groups: Vec<Group> = Vec::new();
        shared.state().left.extend(active.iter().cloned());
        let run_once = match frame.nearest(task, |common| common.run_once.as_ref()) {
            Some(Flag::Is(value)) => *value,
            _ => false,
        };
        for host in active.iter().take(if run_once { 1 } else { usize::MAX }) {
            let cx = Cx { run, frame, task, host, title, next: None };
            match self.asks(&cx).await {
                Ok(asked) => {
                    let mut result = Map::new();
                    result.insert("changed".to_owned(), json!(false));
                    let included = !asked.is_empty();
                    for (name, data, label) in asked {
                        let group = groups.iter_mut().find(|group| group.name == name && group.data == data);
                        match group {
                            Some(group) => group.hosts.push(host.clone()),
                            None => groups.push(Group { name, data, label, hosts: vec![host.clone()] }),
                        }
                    }
                    if included {
                        if let Some(role) = &task.role {
                            shared.state().roles_ran.insert((host.clone(), Arc::as_ptr(role) as usize));
                        }
                        result.insert("include".to_owned(), json!(title));
                        self.keep(task, host, &result, true);
                    }
                }
                Err(ended) => {
                    bad.fetch_or(self.settle(run, frame, task, title, host, ended, 0.0), Ordering::SeqCst);
                }
            }
        }
        if run_once {
            for group in &mut groups {
                group.hosts = active.to_vec();
            }
        }
        // All are read before the first is run, as in Ansible: what is wrong with a later one is known before.
        let mut read: Vec<(Included, Vec<String>, Arc<Frame>)> = Vec::new();
        let told = |what: String, label: Option<String>, hosts: &[String]| {
            self.world.events.tell(Event::Included { what, label, hosts: hosts.to_vec() });
            hosts.iter().for_each(|host| shared.count(host, "ok"));
        };
        for Group { name, data, label, hosts } in groups {
            let hosts = shared.active(&hosts);
            if hosts.is_empty() {
                continue;
            }
            let refused = |failure: Failure| {
                for host in &hosts {
                    let failure =
                        Failure { place: failure.place.clone().or(Some(task.place.clone())), ..failure.clone() };
                    bad.fetch_or(
                        self.settle(run, frame, task, title, host, Ending::of(failure), 0.0),
                        Ordering::SeqCst,
                    );
                }
            };
            let mut common = match &task.action {
                Action::IncludeTasks(_, apply) | Action::IncludeRole(_, apply) => apply.as_ref().clone(),
                _ => Common::default(),
            };
            common.vars = [common.vars, task.common.vars.clone()].concat();
            common.name = None;
            let around = Arc::new(Frame {
                common,
                params: true,
                data,
                rescuable: frame.rescuable,
                deferred: frame.deferred,
                up: Some(Arc::clone(frame)),
            });
            if let Action::IncludeRole(query, _) = &task.action {
                let mut query = query.as_ref().clone();
                let scope = match hosts.first().map(|host| self.scope(run, &around, Some(task), host)) {
                    Some(Ok(scope)) => scope,
                    Some(Err(failure)) => {
                        refused(failure);
                        continue;
                    }
                    None => continue,
                };
                query.name.text.clone_from(&name);
                let mut wrong = None;
                for part in
                    [&mut query.tasks_from, &mut query.vars_from, &mut query.defaults_from, &mut query.handlers_from]
                        .into_iter()
                        .flatten()
                {
                    match shared.templater.render(&part.text, Some(&part.place), &scope) {
                        Ok(value) => part.text = value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                        Err(failure) => wrong = Some(failure),
                    }
                }
                if let Some(failure) = wrong {
                    refused(failure);
                    continue;
                }
                let loaded =
                    shared.options.loader.include_role(&query, &Common::default(), &task.folder, task.role.clone());
                let loaded = match loaded {
                    Ok(loaded) => loaded,
                    Err(failure) => {
                        refused(failure);
                        continue;
                    }
                };
                told(name.clone(), label, &hosts);
                self.add_handlers(loaded.handlers, &around, &task.place);
                let (handlers, roles) = shared.options.loader.left_over();
                self.add_handlers(handlers, &around, &task.place);
                shared.state().open_roles.extend(roles);
                if query.public {
                    shared.state().open_roles.extend(loaded.roles);
                }
                let mut block = loaded.block;
                if let Stands::Role(role, key) = &block.stands {
                    // What is included runs each time, unless it is told not to.
                    if query.allow_duplicates != Some(false) {
                        block.stands = Stands::Role(Arc::clone(role), format!("{key}{}", rand::random::<u64>()));
                    }
                }
                read.push((Included::Role(Box::new(block)), hosts, around));
                continue;
            }
            let role = task.role.as_ref().map(|role| role.path.as_path());
            let path = shared.options.loader.find_tasks(&name, &task.folder, role, handler, true);
            let steps = match shared.options.loader.include(&path, task.role.clone(), handler) {
                Ok(steps) => steps,
                Err(failure) => {
                    refused(failure);
                    continue;
                }
            };
            told(super::scope::absolute(&path), label, &hosts);
            let (handlers, roles) = shared.options.loader.left_over();
            self.add_handlers(handlers, &around, &task.place);
            shared.state().open_roles.extend(roles);
            read.push((Included::Tasks(steps), hosts, around));
        }
        if bad.load(Ordering::SeqCst)
            && let Some(Ok(scope)) = active.first().map(|host| self.scope(run, frame, Some(task), host))
        {
            self.after_failures(run, frame, task, &scope, active, false);
        }
        for (included, hosts, around) in read {
            let hosts = shared.active(&hosts);
            match included {
                _ if hosts.is_empty() => {}
                Included::Role(block) => Box::pin(self.block(run, &hosts, &block, &around)).await,
                Included::Tasks(steps) => Box::pin(self.items(run, &hosts, &steps, &around)).await,
            }
        }
    }

    /// Handlers of a role that came while the run went on, with what stands around it below the play.
    fn add_handlers(&self, steps: Vec<Step>, around: &Frame, place: &Place) {
        let chain = around.chain();
        let common = chain
            .iter()
            .filter(|frame| frame.up.is_some())
            .fold(Common::default(), |outer, frame| frame.common.clone().within(&outer));
        let mut state = self.shared.state();
        for new in super::flat_handlers(&Block::of_handlers(steps, place, &common)) {
            let same = state.handlers.iter().position(|known| known.place == new.place && known.role == new.role);
            match same {
                Some(at) => {
                    if let Some(slot) = state.handlers.get_mut(at) {
                        *slot = new;
                    }
                }
                None => state.handlers.push(new),
            }
        }
    }
}

/// `*` and `?` in `pattern`.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let mut expression = String::from("^");
    for c in pattern.chars() {
        match c {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            c => expression.push_str(&regex::escape(&c.to_string())),
        }
    }
    expression.push('$');
    regex::Regex::new(&expression).is_ok_and(|expression| expression.is_match(text))
}
