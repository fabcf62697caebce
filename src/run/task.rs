//! One task on one host: loop, condition, arguments, the module, tries, what counts as changed and failed.
//!
//! What lives here: everything between "this task is next for this host" and its result. What does not: what follows
//! from it for others ([`super::walk`]).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::scope::{DelegateVars, Frame, truth};
use super::{PlayRun, Runner, number_of, skipped};
use crate::event::{Event, Outcome};
use crate::failure::{Failure, Kind, Place};
use crate::modules::{self, Background, Call, Done, Effect, Folders, Line};
use crate::playbook::{Action, Arg, ArgKind, Becoming, Common, Flag, Loop, Task, Text};
use crate::remote::reach::{BECOME, WAY};
use crate::remote::shell::Ahead;
use crate::settings::ansible_cfg;
use crate::template::{Scope, has_template, is_omit, is_template};

/// One task on one host.
pub(super) struct Cx<'a> {
    pub(super) run: &'a PlayRun<'a>,
    pub(super) frame: &'a Arc<Frame>,
    pub(super) task: &'a Task,
    pub(super) host: &'a str,
    pub(super) title: &'a str,
    /// What comes next for this host, if nothing fails.
    pub(super) next: Option<&'a Task>,
}

/// How a task, or one item of it, ended.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    pub(super) message: String,
    /// What `register` keeps.
    pub(super) result: Map<String, Value>,
    /// What is told as the run's failure.
    pub(super) failure: Option<Failure>,
    pub(super) ignored: bool,
    /// What windows and journal see, where it is another than `result`.
    pub(super) shown: Map<String, Value>,
    /// Handlers are to be notified, with these names.
    pub(super) notify: Option<Scope>,
}

impl Ending {
    /// Whether something was changed after all, which only the run itself could see.
    fn changes(&mut self, changed: bool) {
        self.result.insert("changed".to_owned(), json!(changed));
        if matches!(self.outcome, Outcome::Ok | Outcome::Changed) {
            self.outcome = if changed { Outcome::Changed } else { Outcome::Ok };
        }
    }
}

/// The words that Ansible has for the same: scripts and playbooks look for them.
fn as_ansible_says(what: &str) -> String {
    if what.starts_with("the arguments of ") {
        return format!("Finalization of task args failed: {what}");
    }
    if let Some((module, rest)) = what.split_once(" takes no argument ") {
        let name = rest.trim_matches('"');
        let by_action = ["assert", "debug", "fail", "pause", "wait_for_connection", "group_by", "add_host"];
        return if by_action.contains(&module) {
            format!("Invalid options for {module}: {name}")
        } else {
            format!("Unsupported parameters for ({module}) module: {name}")
        };
    }
    crate::template::python_words(what)
}

/// What failed before a module had its say: no longer "nothing was touched".
fn late(failure: Failure) -> Failure {
    let kind = match failure.kind {
        Kind::CouldNotStart | Kind::Usage | Kind::NoHost => Kind::Failed,
        other => other,
    };
    Failure { kind, ..failure }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Ending {
    fn new(outcome: Outcome, result: Map<String, Value>) -> Self {
        Self { outcome, message: String::new(), result, failure: None, ignored: false, shown: Map::new(), notify: None }
    }

    /// A failure of ferry's own finding.
    pub(super) fn of(failure: Failure) -> Self {
        Self::of_kind(late(failure))
    }

    fn of_kind(failure: Failure) -> Self {
        let outcome = match failure.kind {
            Kind::Unreachable => Outcome::Unreachable,
            Kind::Unknown => Outcome::Unknown,
            _ => Outcome::Failed,
        };
        let mut result = Map::new();
        if outcome == Outcome::Unreachable {
            result.insert("unreachable".to_owned(), json!(true));
        } else {
            result.insert("failed".to_owned(), json!(true));
        }
        result.insert("changed".to_owned(), json!(false));
        let msg = match &failure.seen {
            Some(seen) => format!("{}: {seen}", failure.what),
            None => failure.what.clone(),
        };
        result.insert("msg".to_owned(), json!(msg));
        Self { message: failure.what.clone(), failure: Some(failure), ..Self::new(outcome, result) }
    }

    /// What a module said.
    fn of_done(done: Done) -> Self {
        let mut result = match done.result {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            other => {
                let mut map = Map::new();
                map.insert("value".to_owned(), other);
                map
            }
        };
        let changed = done.outcome == Outcome::Changed;
        if !result.get("changed").is_some_and(Value::is_boolean) {
            result.insert("changed".to_owned(), json!(changed));
        }
        if done.outcome == Outcome::Failed {
            result.insert("failed".to_owned(), json!(true));
            if !result.contains_key("msg") {
                result.insert("msg".to_owned(), json!(done.message));
            }
        } else {
            result.entry("failed").or_insert(json!(false));
        }
        Self { message: done.message, ..Self::new(done.outcome, result) }
    }

    /// What a module about the whole cluster ended with: its kinds of failure stand as they are, and an unreachable node fails it.
    pub(super) fn of_cluster(ended: Result<Done, Failure>) -> Self {
        match ended {
            Ok(done) => {
                let bare = done.result.clone();
                let mut ending = Self::of_done(done);
                if ending.outcome == Outcome::Failed {
                    ending.failure = Some(Failure::new(Kind::Failed, ending.message.clone()));
                }
                if let Value::Object(map) = bare {
                    ending.result = map;
                } else {
                    ending.shown = Map::new();
                }
                ending
            }
            Err(failure) => {
                let mut ending = Self::of_kind(failure);
                if ending.outcome == Outcome::Unreachable {
                    ending.outcome = Outcome::Failed;
                }
                ending
            }
        }
    }

    fn skip(reason: &str, condition: Option<&str>) -> Self {
        Self { message: reason.to_owned(), ..Self::new(Outcome::Skipped, skipped(reason, condition)) }
    }

    fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed | Outcome::Unknown | Outcome::Unreachable)
    }
}

/// What Ansible does here and not on the host.
const BY_ACTION: &[&str] = &[
    "assert",
    "debug",
    "validate_argument_spec",
    "fail",
    "pause",
    "wait_for_connection",
    "group_by",
    "add_host",
    "set_fact",
    "include_vars",
    "script",
    "raw",
    "fetch",
];

/// One item of a loop and what is known of it.
struct Item {
    value: Value,
    var: String,
    label: String,
}

impl Runner<'_> {
    /// A failure of ferry's own finding, in Ansible's words where they are wanted.
    pub(super) fn ending_of(&self, failure: Failure) -> Ending {
        let failure = if self.shared.options.compat {
            Failure { what: as_ansible_says(&failure.what), ..failure }
        } else {
            failure
        };
        Ending::of(failure)
    }

    /// Whether all conditions hold; the first that does not.
    pub(super) fn wanted(&self, frame: &Frame, task: &Task, scope: &Scope) -> Result<Option<String>, Failure> {
        let chain = frame.chain();
        for condition in chain.iter().flat_map(|frame| &frame.common.when).chain(&task.common.when) {
            if !self.holds(condition, scope)? {
                return Ok(Some(condition.text.clone()));
            }
        }
        Ok(None)
    }

    fn holds(&self, condition: &Text, scope: &Scope) -> Result<bool, Failure> {
        if self.shared.options.compat
            && condition.text.trim_start().starts_with("{{")
            && ansible_cfg::in_force("defaults.deprecation_warnings")
                .is_none_or(|text| ansible_cfg::truth(&text) != Some(false))
            && self.shared.state().braced.insert(condition.place.to_string())
        {
            let what = "[DEPRECATION WARNING]: Conditionals should not be surrounded by templating delimiters such as {{ }} or {% %}.";
            self.world.events.warn(None, format!("{what}\nOrigin: {}", condition.place));
        }
        self.shared.templater.evaluate_condition(&condition.text, Some(&condition.place), scope)
    }

    fn all_hold(&self, conditions: &[Text], scope: &Scope) -> Result<bool, Failure> {
        for condition in conditions {
            if !self.holds(condition, scope)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn setting(
        &self,
        cx: &Cx<'_>,
        scope: &Scope,
        get: impl Fn(&crate::playbook::Common) -> Option<&crate::playbook::Flag>,
    ) -> Result<Option<bool>, Failure> {
        match cx.frame.nearest(cx.task, get) {
            Some(flag) => truth(&self.shared.templater, flag, scope).map(Some),
            None => Ok(None),
        }
    }

    /// Whether what the task says is hidden; also where `no_log` cannot be told.
    fn hides(&self, cx: &Cx<'_>, scope: &Scope) -> bool {
        self.setting(cx, scope, |common| common.no_log.as_ref()).unwrap_or(Some(true)).unwrap_or(false)
    }

    fn count_of(&self, written: Option<&crate::playbook::Written>, scope: &Scope) -> Result<Option<f64>, Failure> {
        let Some(written) = written else { return Ok(None) };
        let value = self.shared.templater.render_value(&written.value, Some(&written.place), scope)?;
        if value.is_null() || is_omit(&value) {
            return Ok(None);
        }
        number_of(&value).map(Some).ok_or_else(|| super::wrong_value(written, "a number is expected here", &value))
    }

    /// The task on the host, all its items.
    pub(super) async fn on(&self, cx: &Cx<'_>) -> Ending {
        let scope = match self.scope(cx.run, cx.frame, Some(cx.task), cx.host) {
            Ok(scope) => scope,
            Err(failure) => return self.finish(cx, &Scope::new(), self.ending_of(failure)),
        };
        let Some(repeat) = &cx.task.repeat else {
            let mut ending = self.item(cx, scope.clone(), None).await;
            self.decorate(cx, &scope, &mut ending);
            return ending;
        };
        let items = match self.items_of(repeat, &scope) {
            Ok(items) => items,
            Err(failure) => {
                // What is not wanted needs no items.
                let ending = match self.wanted(cx.frame, cx.task, &scope) {
                    Ok(Some(condition)) => Ending::skip("Conditional result was False", Some(&condition)),
                    _ => self.ending_of(failure),
                };
                return self.finish(cx, &scope, ending);
            }
        };
        if items.is_empty() {
            let mut result = Map::new();
            result.insert("changed".to_owned(), json!(false));
            result.insert("skipped".to_owned(), json!(true));
            result.insert("skipped_reason".to_owned(), json!("No items in the list"));
            result.insert("results".to_owned(), json!([]));
            let ending = Ending { message: "No items in the list".to_owned(), ..Ending::new(Outcome::Skipped, result) };
            return self.finish(cx, &scope, ending);
        }
        match self.repeat_over(cx, &scope, items).await {
            Ok(ending) => ending,
            Err(failure) => self.finish(cx, &scope, self.ending_of(failure)),
        }
    }

    /// The names of one turn of the loop.
    fn turn(&self, cx: &Cx<'_>, items: &[Value], at: usize) -> Result<(Scope, Item), Failure> {
        let templater = &self.shared.templater;
        let control = &cx.task.loop_control;
        let mut scope = self.scope(cx.run, cx.frame, Some(cx.task), cx.host)?;
        let var = match &control.loop_var {
            Some(text) => text_of(&templater.render(&text.text, Some(&text.place), &scope)?),
            None => "item".to_owned(),
        };
        let value = items.get(at).cloned().unwrap_or_default();
        let listed =
            cx.task.repeat.as_ref().is_some_and(|repeat| repeat.with.is_none() && repeat.items.value.is_array());
        if listed {
            scope.own(&var, &value);
        } else {
            scope.data(&var, &value);
        }
        scope.data("ansible_loop_var", &json!(var));
        if let Some(index) = &control.index_var {
            let name = text_of(&templater.render(&index.text, Some(&index.place), &scope)?);
            scope.data(&name, &json!(at));
            scope.data("ansible_index_var", &json!(name));
        }
        let extended = match &control.extended {
            Some(flag) => truth(templater, flag, &scope)?,
            None => false,
        };
        if extended {
            let length = items.len();
            let mut extra = json!({
                "index": at + 1, "index0": at, "first": at == 0, "last": at + 1 == length, "length": length,
                "revindex": length - at, "revindex0": length - at - 1,
            });
            if let Some(map) = extra.as_object_mut() {
                let all = match &control.extended_allitems {
                    Some(flag) => truth(templater, flag, &scope)?,
                    None => true,
                };
                if all {
                    map.insert("allitems".to_owned(), json!(items));
                }
                if let Some(next) = items.get(at + 1) {
                    map.insert("nextitem".to_owned(), next.clone());
                }
                if let Some(before) = at.checked_sub(1).and_then(|at| items.get(at)) {
                    map.insert("previtem".to_owned(), before.clone());
                }
            }
            scope.data("ansible_loop", &extra);
        }
        // The label may use what the item gives: until then it is the item, where it cannot be known.
        let shown = control
            .label
            .as_ref()
            .and_then(|label| templater.render_value(&label.value, Some(&label.place), &scope).ok());
        let label = self.python(shown.as_ref().unwrap_or(&value));
        Ok((scope, Item { value, var, label }))
    }

    /// A value as Python would print it into a text.
    fn python(&self, value: &Value) -> String {
        let mut scope = Scope::new();
        scope.data("value", value);
        match self.shared.templater.render(" {{ value }}", None, &scope) {
            Ok(Value::String(text)) => text.strip_prefix(' ').unwrap_or(&text).to_owned(),
            _ => text_of(value),
        }
    }

    async fn repeat_over(&self, cx: &Cx<'_>, outer: &Scope, items: Vec<Value>) -> Result<Ending, Failure> {
        let mut results: Vec<Value> = Vec::new();
        let (mut changed, mut failed, mut skipped, mut unreachable) = (false, None::<Failure>, true, false);
        let mut ignored_all = true;
        let mut hidden = false;
        let mut notify = None;
        let mut diffs = Vec::new();
        for at in 0..items.len() {
            if at > 0
                && let Some(pause) = self.count_of(cx.task.loop_control.pause.as_ref(), outer)?
            {
                tokio::time::sleep(Duration::from_secs_f64(pause.clamp(0.0, 86_400.0))).await;
            }
            let (scope, mut item) = self.turn(cx, &items, at)?;
            let mut ending = self.item(cx, scope.clone(), Some(&item)).await;
            if let Some(label) = &cx.task.loop_control.label {
                let mut after = scope.clone();
                self.with_result(cx, &mut after, &ending);
                match self.shared.templater.render_value(&label.value, Some(&label.place), &after) {
                    Ok(shown) => item.label = self.python(&shown),
                    Err(failure) => {
                        let failure = Failure {
                            what: format!("Failed to template loop_control.label: {}", failure.what),
                            ..failure
                        };
                        ending = self.ending_of(failure);
                    }
                }
            }
            ending.result.insert(item.var.clone(), item.value.clone());
            ending.result.insert("ansible_loop_var".to_owned(), json!(item.var));
            if scope.knows("ansible_loop")
                && let Some(turn) = scope.plain("ansible_loop")
            {
                ending.result.insert("ansible_loop".to_owned(), turn);
            }
            if let Some(index) = &cx.task.loop_control.index_var {
                ending.result.insert(index.text.clone(), json!(at));
                ending.result.insert("ansible_index_var".to_owned(), json!(index.text));
            }
            self.decorate(cx, &scope, &mut ending);
            changed |= ending.outcome == Outcome::Changed || ending.result.get("changed") == Some(&json!(true));
            skipped &= ending.outcome == Outcome::Skipped;
            unreachable |= ending.outcome == Outcome::Unreachable;
            if ending.failure.is_some() {
                ignored_all &= ending.ignored;
                failed = failed.or(ending.failure.clone());
            }
            notify = notify.or(ending.notify.take());
            let quiet = self.hides(cx, &scope);
            hidden |= quiet || ending.shown.contains_key("censored");
            if let Some(diff) = ending.result.get("diff") {
                diffs.push(diff.clone());
            }
            // What is hidden is hidden in the item too.
            if quiet || ending.shown.contains_key("censored") {
                item.label = HIDDEN.to_owned();
                ending.shown = censored(&ending.result);
            }
            let mut shown = if ending.shown.is_empty() { ending.result.clone() } else { ending.shown };
            shown.insert("_ansible_item_label".to_owned(), json!(item.label));
            self.world.events.tell(Event::ItemEnded {
                task: cx.title.to_owned(),
                host: cx.host.to_owned(),
                item: item.label,
                outcome: ending.outcome,
                ignored: ending.ignored,
                result: Value::Object(shown),
            });
            let stop = ending.outcome == Outcome::Unreachable;
            results.push(Value::Object(strip(ending.result)));
            let mut after = scope;
            if let Some(register) = &cx.task.register {
                after.data(&register.text, results.last().unwrap_or(&Value::Null));
            }
            if stop
                || !cx.task.loop_control.break_when.is_empty()
                    && self.all_hold(&cx.task.loop_control.break_when, &after)?
            {
                break;
            }
        }
        let mut result = Map::new();
        result.insert("changed".to_owned(), json!(changed));
        let message = match (&failed, skipped) {
            (Some(_), _) => "One or more items failed",
            (None, true) => "All items skipped",
            (None, false) => "All items completed",
        };
        result.insert("msg".to_owned(), json!(message));
        result.insert("results".to_owned(), Value::Array(results));
        if unreachable {
            result.insert("unreachable".to_owned(), json!(true));
        }
        if failed.is_some() {
            result.insert("failed".to_owned(), json!(true));
        }
        result.insert("skipped".to_owned(), json!(skipped && failed.is_none()));
        let outcome = match (&failed, skipped, changed) {
            (Some(_), _, _) if unreachable => Outcome::Unreachable,
            (Some(failure), _, _) if failure.kind == Kind::Unknown => Outcome::Unknown,
            (Some(_), _, _) => Outcome::Failed,
            (None, true, _) => Outcome::Skipped,
            (None, false, true) => Outcome::Changed,
            (None, false, false) => Outcome::Ok,
        };
        let ignored = failed.is_some() && ignored_all;
        let mut shown = Map::new();
        if hidden {
            shown = censored(&result);
        } else {
            shown.extend(result.clone());
        }
        shown.insert("_ansible_loop".to_owned(), json!(true));
        Ok(Ending {
            message: message.to_owned(),
            failure: failed,
            ignored,
            shown,
            notify,
            ..Ending::new(outcome, result)
        })
    }

    /// As [`decorate`](Self::decorate), for what ends before anything was done.
    fn finish(&self, cx: &Cx<'_>, scope: &Scope, mut ending: Ending) -> Ending {
        self.decorate(cx, scope, &mut ending);
        ending
    }

    /// What follows from how it ended: ignored, hidden, notified.
    fn decorate(&self, cx: &Cx<'_>, scope: &Scope, ending: &mut Ending) {
        let task = cx.task;
        if ending.has_failed() {
            if self.shared.options.compat {
                ending.result.entry("exception").or_insert(json!("(traceback unavailable)"));
                ending.result.insert("_ansible_origin".to_owned(), json!(origin(&task.place)));
            }
            let failure = ending.failure.get_or_insert_with(|| {
                let said = ending.result.get("stderr").and_then(Value::as_str).unwrap_or_default();
                let failure = Failure::new(Kind::Failed, format!("{}: {}", cx.title, ending.message)).on(cx.host);
                if said.is_empty() { failure } else { failure.saw(said.chars().take(2000).collect::<String>()) }
            });
            if failure.host.is_none() {
                failure.host = Some(cx.host.to_owned());
            }
            let get: fn(&crate::playbook::Common) -> Option<&crate::playbook::Flag> = match ending.outcome {
                Outcome::Unreachable => |common| common.ignore_unreachable.as_ref(),
                _ => |common| common.ignore_errors.as_ref(),
            };
            let ignore = self.setting(cx, scope, get).ok().flatten().unwrap_or(false);
            ending.ignored = ignore && ending.outcome != Outcome::Unknown;
            if ending.ignored && ending.outcome == Outcome::Unreachable {
                ending.result.insert("ignore_unreachable".to_owned(), json!(true));
            }
        }
        let no_log = self.hides(cx, scope) || ending.result.get("_ansible_no_log") == Some(&json!(true));
        if no_log && ending.outcome == Outcome::Skipped {
            ending.shown = censored(&ending.result);
        } else if no_log {
            ending.shown = censored(&ending.result);
            ending.message.clear();
            if let Some(failure) = &mut ending.failure {
                failure.what = format!("{} failed; what it said is hidden (no_log)", cx.title);
                failure.seen = None;
            }
        }
        if ending.outcome == Outcome::Changed {
            ending.notify = Some(scope.clone());
        }
        // What was kept before this of the place stays: the task's own is where it is called.
        // A command line has no place that would help.
        if let Some(failure) = &mut ending.failure
            && failure.place.is_none()
            && task.module_place.file != "-a"
        {
            failure.place = Some(task.module_place.clone());
        }
        let quiet = ending.result.remove("_ansible_quiet").is_some();
        if matches!(task.module, "debug" | "assert") && !quiet && !no_log && ending.outcome != Outcome::Skipped {
            if ending.shown.is_empty() {
                ending.shown = ending.result.clone();
            }
            ending.shown.insert("_ansible_verbose_always".to_owned(), json!(true));
            if task.module == "debug" {
                ending.shown.insert("_ansible_debug".to_owned(), json!(true));
            }
        }
        if let Some(on) = ending.result.remove("_ansible_on") {
            if ending.shown.is_empty() {
                ending.shown = ending.result.clone();
            }
            ending.shown.remove("_ansible_on");
            ending.shown.insert("_ansible_delegated".to_owned(), on);
        }
    }

    /// The items of a loop.
    fn items_of(&self, repeat: &Loop, scope: &Scope) -> Result<Vec<Value>, Failure> {
        let templater = &self.shared.templater;
        let place = Some(&repeat.items.place);
        let Some(with) = repeat.with.as_deref() else {
            let value = templater.render_value(&repeat.items.value, place, scope)?;
            return match value {
                Value::Array(items) => Ok(items),
                other => Err(Failure::new(
                    Kind::Failed,
                    format!(
                        "Invalid data passed to 'loop', it requires a list, got this instead: {}",
                        self.python(&other)
                    ),
                )
                .at(repeat.items.place.clone())
                .mend("give a list, for a mapping: loop: \"{{ x | dict2items }}\"")),
            };
        };
        // Bare names were allowed for with_items and still are.
        let mut value = match (&repeat.items.value, with) {
            (Value::String(text), "items" | "dict" | "list") if !is_template(text) && scope.knows(text) => {
                templater.render(&format!("{{{{ {text} }}}}"), place, scope)?
            }
            (value, "first_found") => {
                // Places that cannot be named yet are passed over by the lookup itself.
                templater.render_value(value, place, scope)?
            }
            (value, _) => templater.render_value(value, place, scope)?,
        };
        let wrong = |what: &str| Failure::new(Kind::Failed, what.to_owned()).at(repeat.items.place.clone());
        let list = |value: Value| match value {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            one => vec![one],
        };
        fn flatten(value: Value, out: &mut Vec<Value>) {
            match value {
                Value::Array(items) => items.into_iter().for_each(|item| flatten(item, out)),
                Value::Null => {}
                one => out.push(one),
            }
        }
        Ok(match with {
            "list" => list(value),
            "items" => {
                let mut out = Vec::new();
                for item in list(value) {
                    match item {
                        Value::Array(items) => out.extend(items),
                        one => out.push(one),
                    }
                }
                out
            }
            "flattened" => {
                let mut out = Vec::new();
                flatten(value, &mut out);
                out
            }
            "indexed_items" => {
                let mut out = Vec::new();
                for item in list(value) {
                    match item {
                        Value::Array(items) => out.extend(items),
                        one => out.push(one),
                    }
                }
                out.into_iter().enumerate().map(|(at, item)| json!([at, item])).collect()
            }
            "dict" => {
                if let Value::Array(items) = &mut value
                    && items.len() == 1
                {
                    value = items.pop().unwrap_or_default();
                }
                match value {
                    Value::Object(map) => {
                        map.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
                    }
                    Value::Null => Vec::new(),
                    _ => return Err(wrong("the dict lookup plugin expects a dictionary")),
                }
            }
            "together" => {
                let lists: Vec<Vec<Value>> = list(value).into_iter().map(list).collect();
                if lists.is_empty() {
                    return Err(wrong("with_together requires at least one element in each list"));
                }
                let most = lists.iter().map(Vec::len).max().unwrap_or(0);
                (0..most)
                    .map(|at| lists.iter().map(|list| list.get(at).cloned().unwrap_or(Value::Null)).collect())
                    .collect()
            }
            "nested" | "cartesian" => {
                let lists: Vec<Vec<Value>> = list(value).into_iter().map(list).collect();
                let mut out: Vec<Vec<Value>> = vec![Vec::new()];
                for one in &lists {
                    let mut next = Vec::new();
                    for start in &out {
                        for item in one {
                            let mut row = start.clone();
                            match item {
                                Value::Array(items) if with == "nested" => row.extend(items.iter().cloned()),
                                item => row.push(item.clone()),
                            }
                            next.push(row);
                        }
                    }
                    out = next;
                }
                if lists.is_empty() {
                    return Err(wrong("with_nested requires at least one element in the nested list"));
                }
                out.into_iter().map(Value::Array).collect()
            }
            "random_choice" => {
                let items = list(value);
                let at = (rand::random::<u64>() % (items.len().max(1) as u64)) as usize;
                items.get(at).cloned().into_iter().collect()
            }
            other => {
                // The lookup of that name.
                templater.query(other, &list(value), place, scope)?
            }
        })
    }

    /// The task's arguments, rendered, with what module_defaults say, as its module takes them.
    pub(super) fn arguments(&self, cx: &Cx<'_>, scope: &Scope) -> Result<Map<String, Value>, Failure> {
        let templater = &self.shared.templater;
        let task = cx.task;
        let Some(spec) = modules::TABLE.iter().find(|spec| spec.name == task.module) else {
            return Err(Failure::new(Kind::Bug, format!("no module is called {}", task.module)));
        };
        let mut rendered: Vec<Arg> = Vec::new();
        let put = |all: &mut Vec<Arg>, name: &str, place: &Place, value: Value| {
            let real = spec
                .args
                .iter()
                .find(|arg| arg.name == name || arg.aliases.contains(&name))
                .map_or(name, |arg| arg.name);
            let same = |known: &str| known == name || known == real;
            all.retain(|(known, _, _)| !same(known));
            if !is_omit(&value) {
                all.push((name.to_owned(), place.clone(), value));
            }
        };
        let chain = cx.frame.chain();
        for written in chain.iter().flat_map(|frame| &frame.common.module_defaults).chain(&task.common.module_defaults)
        {
            let all = match &written.value {
                Value::Object(map) => map.clone(),
                other => match templater.render_value(other, Some(&written.place), scope)? {
                    Value::Object(map) => map,
                    _ => continue,
                },
            };
            for (name, values) in &all {
                let short = name.trim_start_matches("ansible.builtin.").trim_start_matches("ansible.legacy.");
                if short != spec.name {
                    continue;
                }
                if let Value::Object(map) = templater.render_value(values, Some(&written.place), scope)? {
                    for (name, value) in map {
                        put(&mut rendered, &name, &written.place, value);
                    }
                }
            }
        }
        if let Some(written) = &task.args_template {
            match templater.render_value(&written.value, Some(&written.place), scope)? {
                Value::Object(map) => {
                    for (name, value) in map {
                        put(&mut rendered, &name, &written.place, value);
                    }
                }
                omitted if is_omit(&omitted) => {}
                Value::String(text) if spec.free_form => put(&mut rendered, "cmd", &written.place, Value::String(text)),
                other => {
                    return Err(Failure::new(
                        Kind::CouldNotStart,
                        format!("the arguments of {} are a mapping", spec.name),
                    )
                    .at(written.place.clone())
                    .saw(other.to_string()));
                }
            }
        }
        for (name, place, value) in &task.args {
            let expression = spec
                .args
                .iter()
                .any(|arg| (arg.name == name || arg.aliases.contains(&name.as_str())) && arg.kind == ArgKind::Expr);
            // A name may be a template too (set_fact).
            let name =
                if is_template(name) { text_of(&templater.render(name, Some(place), scope)?) } else { name.clone() };
            let value = if expression { value.clone() } else { templater.render_value(value, Some(place), scope)? };
            put(&mut rendered, &name, place, value);
        }
        spec.check_rendered(&rendered)
    }

    fn environment(&self, cx: &Cx<'_>, scope: &Scope) -> Result<Vec<(String, String)>, Failure> {
        let mut out: Vec<(String, String)> = Vec::new();
        let chain = cx.frame.chain();
        for written in chain.iter().flat_map(|frame| &frame.common.environment).chain(&cx.task.common.environment) {
            let value = match &written.value {
                // Each by itself: what uses ansible_env waits until facts are there, as in Ansible.
                Value::Object(map) => {
                    let mut known = Map::new();
                    for (name, value) in map {
                        match self.shared.templater.render_value(value, Some(&written.place), scope) {
                            Ok(value) => {
                                known.insert(name.clone(), value);
                            }
                            Err(failure) if failure.what.contains("ansible_env") && !scope.knows("ansible_env") => {}
                            Err(failure) => return Err(failure),
                        }
                    }
                    Value::Object(known)
                }
                other => self.shared.templater.render_value(other, Some(&written.place), scope)?,
            };
            let maps = match value {
                Value::Object(map) => vec![map],
                Value::Array(items) => items.into_iter().filter_map(|item| item.as_object().cloned()).collect(),
                Value::Null => Vec::new(),
                Value::String(text) if text.is_empty() || is_omit(&Value::String(text.clone())) => Vec::new(),
                other => {
                    return Err(Failure::new(Kind::CouldNotStart, "environment is a mapping")
                        .at(written.place.clone())
                        .saw(other.to_string()));
                }
            };
            for (name, value) in maps.into_iter().flatten() {
                if is_omit(&value) {
                    continue;
                }
                out.retain(|(known, _)| *known != name);
                out.push((name, self.python(&value)));
            }
        }
        Ok(out)
    }

    /// Who the task is for where it is delegated.
    fn delegate(&self, cx: &Cx<'_>, scope: &Scope) -> Result<Option<String>, Failure> {
        let Some(text) = cx.frame.nearest(cx.task, |common| common.delegate_to.as_ref()) else { return Ok(None) };
        let value = self.shared.templater.render(&text.text, Some(&text.place), scope)?;
        if is_omit(&value) || value.is_null() {
            return Ok(None);
        }
        let name = text_of(&value);
        if name.trim().is_empty() {
            return Err(Failure::new(Kind::Failed, "empty hostname produced from delegate_to").at(text.place.clone()));
        }
        Ok(Some(name))
    }

    /// The way to where the task runs, and as whom.
    fn line(&self, cx: &Cx<'_>, scope: &Scope, on: &str) -> Result<Option<Line>, Failure> {
        let shared = &self.shared;
        let Some(reach) = &self.world.reach else { return Ok(None) };
        let other;
        let scope = if on == cx.host {
            scope
        } else {
            other = self.scope(cx.run, cx.frame, Some(cx.task), on)?;
            &other
        };
        let mut vars = Map::new();
        for name in WAY.iter().chain(BECOME) {
            if scope.knows(name) {
                let value = match scope.plain(name) {
                    Some(value) => value,
                    None => shared.templater.render(&format!("{{{{ {name} }}}}"), None, scope).map_err(|failure| {
                        Failure {
                            what: format!("{name} cannot be rendered: {}", failure.what),
                            seen: None,
                            snippet: None,
                            ..failure
                        }
                    })?,
                };
                if !is_omit(&value) {
                    vars.insert((*name).to_owned(), value);
                }
            }
        }
        let keyword = |text: Option<&Text>| -> Result<Option<Value>, Failure> {
            match text {
                Some(text) => {
                    let value = shared.templater.render(&text.text, Some(&text.place), scope)?;
                    Ok((!is_omit(&value)).then_some(value))
                }
                None => Ok(None),
            }
        };
        let mut fill = |name: &str, value: Option<Value>| {
            if let Some(value) = value
                && !vars.contains_key(name)
            {
                vars.insert(name.to_owned(), value);
            }
        };
        let task = cx.task;
        fill("ansible_connection", keyword(cx.frame.nearest(task, |c| c.connection.as_ref()))?);
        fill("ansible_connection", shared.options.connection.clone().map(Value::String));
        fill("ansible_user", keyword(cx.frame.nearest(task, |c| c.remote_user.as_ref()))?);
        let port = cx.frame.nearest(task, |c| c.port.as_ref());
        if let Some(port) = port {
            fill("ansible_port", Some(shared.templater.render_value(&port.value, Some(&port.place), scope)?));
        }
        if let Some(wanted) = self.setting(cx, scope, |c| c.becoming.wanted.as_ref())? {
            fill("ansible_become", Some(Value::Bool(wanted)));
        }
        fill("ansible_become_user", keyword(cx.frame.nearest(task, |c| c.becoming.user.as_ref()))?);
        fill("ansible_become_user", shared.options.become_user.clone().map(Value::String));
        fill("ansible_become_method", keyword(cx.frame.nearest(task, |c| c.becoming.method.as_ref()))?);
        fill("ansible_become_method", shared.options.become_method.clone().map(Value::String));
        fill("ansible_become_flags", keyword(cx.frame.nearest(task, |c| c.becoming.flags.as_ref()))?);
        fill("ansible_become_exe", keyword(cx.frame.nearest(task, |c| c.becoming.exe.as_ref()))?);
        for name in ["ansible_connection", "ansible_become_method"] {
            if let Some(Value::String(text)) = vars.get_mut(name) {
                *text = text.trim_start_matches("ansible.builtin.").trim_start_matches("ansible.legacy.").to_owned();
            }
        }
        let whole = Value::Object(vars.clone()).to_string();
        let plain: Map<String, Value> = vars
            .iter()
            .filter(|(name, _)| !BECOME.contains(&name.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let key = format!("{on}\0{}", Value::Object(plain));
        let known = shared.state().ways.get(&format!("{on}\0{whole}")).cloned();
        let way = match known {
            Some(way) => way,
            None => {
                let way = Arc::new(reach.way(on, &vars).map_err(|failure| match failure.kind {
                    Kind::CouldNotStart => Failure { kind: Kind::Failed, ..failure },
                    _ => failure,
                })?);
                shared.state().ways.insert(format!("{on}\0{whole}"), Arc::clone(&way));
                way
            }
        };
        Ok(Some(Line { key, way }))
    }

    /// One item, or the task where it has no loop.
    async fn item(&self, cx: &Cx<'_>, scope: Scope, item: Option<&Item>) -> Ending {
        let mut scope = scope;
        // What cannot be rendered is told where the task goes there.
        if let Ok(Some(on)) = self.delegate(cx, &scope) {
            let there = DelegateVars { shared: Arc::downgrade(&self.shared), on, from: cx.host.to_owned() };
            scope.hosts("ansible_delegated_vars", Arc::new(there));
        }
        match self.wanted(cx.frame, cx.task, &scope) {
            Ok(None) => {}
            Ok(Some(condition)) => return Ending::skip("Conditional result was False", Some(&condition)),
            Err(mut failure) => {
                if self.shared.options.compat {
                    failure.what = format!("Error while evaluating conditional: {}", failure.what);
                }
                return self.ending_of(failure);
            }
        }
        if let Action::NotBuilt(name) = &cx.task.action {
            return Ending::of(
                Failure::new(Kind::Failed, format!("the module {name} is known to Ansible and not built yet in ferry"))
                    .at(cx.task.module_place.clone()),
            );
        }
        if let Action::Named(name) = &cx.task.action {
            let task = match self.named(cx.task, name, &scope) {
                Ok(task) => task,
                Err(failure) => return self.ending_of(failure),
            };
            let cx = Cx { task: &task, next: None, ..*cx };
            return match Box::pin(self.tries(&cx, scope, item)).await {
                Ok(ending) => ending,
                Err(failure) => self.ending_of(failure),
            };
        }
        match self.tries(cx, scope, item).await {
            Ok(ending) => ending,
            Err(failure) => self.ending_of(failure),
        }
    }

    /// The task with the module that its template names on this host.
    fn named(&self, task: &Task, name: &Text, scope: &Scope) -> Result<Task, Failure> {
        let rendered = text_of(&self.shared.templater.render(&name.text, Some(&name.place), scope)?);
        let known = self.shared.options.loader.modules.get(rendered.trim()).copied();
        let spec = known.filter(|spec| modules::scope(spec.name) == modules::Scope::Host).ok_or_else(|| {
            Failure::new(
                Kind::Failed,
                format!("couldn't resolve module/action '{rendered}': no module of ferry's that is about a host"),
            )
            .at(name.place.clone())
        })?;
        Ok(Task { module: spec.name, action: Action::Module, ..task.clone() })
    }

    async fn tries(&self, cx: &Cx<'_>, scope: Scope, item: Option<&Item>) -> Result<Ending, Failure> {
        let task = cx.task;
        let retries = self.count_of(task.retries.as_ref(), &scope)?.map(|number| number as i64);
        let tries = match (retries, task.until.is_empty()) {
            (Some(number), _) => number.max(0) + 1,
            (None, false) => 4,
            (None, true) => 1,
        };
        let delay = self.count_of(task.delay.as_ref(), &scope)?.unwrap_or(5.0).clamp(0.0, 86_400.0);
        let mut attempt = 1;
        let quiet = self.hides(cx, &scope);
        loop {
            let (mut ending, after) = self.once(cx, &scope, (tries > 1).then_some(attempt)).await?;
            if tries <= 1 {
                return Ok(ending);
            }
            ending.result.insert("attempts".to_owned(), json!(attempt));
            let good = if task.until.is_empty() {
                !ending.has_failed()
            } else {
                let mut after = after;
                self.with_result(cx, &mut after, &ending);
                self.all_hold(&task.until, &after)?
            };
            if good || ending.outcome == Outcome::Unreachable {
                return Ok(ending);
            }
            if attempt >= tries {
                ending.result.insert("attempts".to_owned(), json!(tries - 1));
                // Where the task says itself what is a failure, this is none.
                if ending.result.get("failed_when_result") == Some(&json!(false)) {
                    return Ok(ending);
                }
                ending.result.insert("failed".to_owned(), json!(true));
                ending.outcome = Outcome::Failed;
                if ending.message.is_empty() {
                    ending.message = format!("not as wanted after {} attempts", tries - 1);
                }
                ending.result.entry("msg").or_insert(json!(ending.message.clone()));
                return Ok(ending);
            }
            self.world.events.tell(Event::Retrying {
                task: cx.title.to_owned(),
                host: cx.host.to_owned(),
                item: item.map(|item| if quiet { HIDDEN.to_owned() } else { item.label.clone() }),
                left: u64::try_from(tries - attempt).unwrap_or(0),
                result: Value::Object(if quiet { censored(&ending.result) } else { strip(ending.result) }),
            });
            attempt += 1;
            tokio::time::sleep(Duration::from_secs_f64(delay)).await;
        }
    }

    /// The names that conditions on a result see.
    fn with_result(&self, cx: &Cx<'_>, scope: &mut Scope, ending: &Ending) {
        let result = Value::Object(ending.result.clone());
        if let Some(name) = &cx.task.register {
            scope.data(&name.text, &result);
        }
        if let Some(facts) = ending.result.get("ansible_facts").and_then(Value::as_object)
            && cx.task.module != "debug"
        {
            for (name, value) in facts {
                scope.data(name, value);
            }
        }
    }

    /// `async` and `poll`, where the task is to go on without us.
    fn background(&self, cx: &Cx<'_>, scope: &Scope) -> Result<Option<Background>, Failure> {
        let whole = |written: Option<&crate::playbook::Written>| -> Result<Option<u64>, Failure> {
            Ok(self.count_of(written, scope)?.map(|number| number.clamp(0.0, 1e9) as u64))
        };
        let Some(seconds) = whole(cx.task.background.as_ref())?.filter(|seconds| *seconds > 0) else { return Ok(None) };
        let poll = whole(cx.task.poll.as_ref())?.or(self.shared.options.poll).unwrap_or(15);
        Ok(Some(Background { seconds, poll }))
    }

    /// The call of a task's module, without what the task says about how it is carried out.
    fn call<'b>(
        &'b self,
        cx: &'b Cx<'_>,
        scope: &Scope,
        on: &'b str,
        args: &'b Map<String, Value>,
    ) -> Result<Call<'b>, Failure> {
        let task = cx.task;
        let role = task.role.as_ref();
        Ok(Call {
            world: self.world,
            host: cx.host,
            on,
            module: task.module,
            args,
            check: false,
            diff: false,
            environment: self.environment(cx, scope)?,
            timeout: None,
            no_log: false,
            verbosity: self.shared.options.verbosity,
            templater: self.shared.templater.clone(),
            scope: Scope::new(),
            place: Some(task.module_place.clone()),
            folders: Folders {
                playbook: cx.run.play.base.clone(),
                role: role.map(|role| role.path.clone()),
                here: task.folder.as_ref().clone(),
                parents: role
                    .map(|role| role.parents.iter().map(|role| role.path.clone()).collect())
                    .unwrap_or_default(),
            },
            line: self.line(cx, scope, on)?,
            templated: task.args_template.as_ref().map(|written| {
                let text = written.value.as_str().unwrap_or_default().trim();
                text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).unwrap_or("{").trim().to_owned()
            }),
            background: self.background(cx, scope)?,
            ahead: None,
        })
    }

    /// The script of the next task, where that is known now and runs for certain if this one ends with 0: commands alone, for one
    /// host, that ask nothing before, and of which nothing hangs on what this one says.
    fn ahead(&self, cx: &Cx<'_>, next: &Task, call: &Call<'_>) -> Ahead {
        const COMMANDS: &[&str] = &["command", "shell", "raw"];
        let (task, shared) = (cx.task, &self.shared);
        let plain = |task: &Task| {
            let common = &task.common;
            matches!(task.action, Action::Module)
                && COMMANDS.contains(&task.module)
                && common.becoming == Becoming::default()
                && [&common.connection, &common.remote_user, &common.delegate_to].iter().all(|said| said.is_none())
                && common.port.is_none()
                && task.failed_when.is_none()
                && task.repeat.is_none()
                && task.until.is_empty()
                && task.retries.is_none()
                && task.background.is_none()
                && cx.frame.nearest(task, |common| common.timeout.as_ref()).is_none()
                && cx.frame.nearest(task, |common| common.check_mode.as_ref()).is_none()
                && cx.frame.nearest(task, |common| common.delegate_to.as_ref()).is_none()
                && cx.frame.nearest(task, |common| common.throttle.as_ref()).is_none()
        };
        // An exit code of 0 is a success: no condition can fail on its own, and no handler can be missing.
        let judged = task.changed_when.iter().flatten().any(|text| !is_plain_word(&text.text));
        let notifies = cx.frame.chain().iter().any(|frame| !frame.common.notify.is_empty());
        let ends_well = !judged && task.common.notify.is_empty() && !notifies;
        // Nothing of what follows is a template that this task could give another meaning, or that could fail before it begins.
        let fixed = |common: &Common| {
            let flags = [&common.no_log, &common.diff, &common.run_once, &common.becoming.wanted];
            let becoming = &common.becoming;
            let texts = [&becoming.user, &becoming.method, &becoming.flags, &becoming.exe];
            let texts = texts.into_iter().chain([&common.connection, &common.remote_user]).flatten();
            common.when.is_empty()
                && flags.into_iter().flatten().all(|flag| matches!(flag, Flag::Is(_)))
                && texts.chain(&common.tags).all(|text| !is_template(&text.text))
                && common
                    .port
                    .iter()
                    .chain(&common.environment)
                    .chain(&common.module_defaults)
                    .all(|written| is_fixed(&written.value))
        };
        let files = &cx.run.play.play.vars_files;
        let own = next.common.vars.is_empty()
            && next.args_template.is_none()
            && next.args.iter().all(|(name, _, value)| !is_template(name) && is_fixed(value))
            && files.iter().flatten().all(|file| !is_template(&file.text));
        let wanted = plain(task)
            && plain(next)
            && ends_well
            && own
            && fixed(&next.common)
            && cx.frame.chain().iter().all(|frame| fixed(&frame.common))
            && !call.check
            && self.earlier.is_none()
            && shared.options.start_at.is_none()
            && shared.options.step.is_none();
        if !wanted {
            return None;
        }
        let scope = self.scope(cx.run, cx.frame, Some(next), cx.host).ok()?;
        // Nor may the way there, or whom to become there, be another one by then.
        let registered = task.register.as_ref().map(|name| name.text.as_str());
        if WAY
            .iter()
            .chain(BECOME)
            .chain(&["ansible_shell_executable"])
            .any(|name| may_change(name, &scope, registered, 0))
        {
            return None;
        }
        if !shared.tags.want(&self.tags(cx.frame, next, &scope)) {
            return None;
        }
        let cx = Cx { task: next, next: None, ..*cx };
        let args = self.arguments(&cx, &scope).ok()?;
        let mut then = self.call(&cx, &scope, call.on, &args).ok()?;
        then.scope = scope;
        let same = then.line.as_ref().map(|line| &line.key) == call.line.as_ref().map(|line| &line.key);
        if same { modules::command::script(&then) } else { None }
    }

    /// One attempt: the module, and what counts as changed and failed.
    async fn once(&self, cx: &Cx<'_>, scope: &Scope, attempt: Option<i64>) -> Result<(Ending, Scope), Failure> {
        let task = cx.task;
        let delegated = self.delegate(cx, scope)?;
        let on = delegated.clone().unwrap_or_else(|| cx.host.to_owned());
        let args = self.arguments(cx, scope)?;
        let check = self.setting(cx, scope, |common| common.check_mode.as_ref())?.unwrap_or(self.shared.check);
        let diff = self.setting(cx, scope, |common| common.diff.as_ref())?.unwrap_or(self.shared.options.diff);
        let no_log = self.setting(cx, scope, |common| common.no_log.as_ref())?.unwrap_or(false);
        let timeout = self
            .count_of(cx.frame.nearest(task, |common| common.timeout.as_ref()), scope)?
            .filter(|seconds| *seconds != 0.0);
        if let Some(wrong) = timeout.filter(|seconds| *seconds < 0.0 || *seconds > 100_000_000.0) {
            return Err(Failure::new(
                Kind::Failed,
                format!("Timeout {wrong} is invalid, it is 1 to 100000000 seconds"),
            ));
        }
        let timeout = timeout.map(Duration::from_secs_f64);
        let mut names = scope.clone();
        names.data("ansible_check_mode", &json!(check));
        names.data("ansible_diff_mode", &json!(diff));
        let mut call = self.call(cx, scope, &on, &args)?;
        (call.check, call.diff, call.no_log, call.timeout, call.scope) = (check, diff, no_log, timeout, names);
        call.ahead = cx.next.and_then(|next| self.ahead(cx, next, &call));
        let work = Box::pin(modules::on_host(&call));
        let ended = match timeout {
            None => work.await,
            Some(limit) => match tokio::time::timeout(limit, work).await {
                Ok(ended) => ended,
                Err(_) => {
                    let what = format!("Timed out after {} second(s).", limit.as_secs());
                    Ok(Done::failed(what.clone(), json!({"msg": what, "timedout": {"period": limit.as_secs()}})))
                }
            },
        };
        drop(call);
        let mut effect = Effect::None;
        let mut ending = match ended {
            Ok(mut done) => {
                effect = std::mem::take(&mut done.effect);
                let diffs = done.diff.take().filter(|_| diff);
                let mut ending = Ending::of_done(done);
                if self.shared.options.compat {
                    let by = if BY_ACTION.contains(&task.module) { "Action" } else { "Module" };
                    if ending.outcome == Outcome::Failed {
                        ending.result.insert("_ansible_said_by".to_owned(), json!(by));
                    }
                    if by == "Module" && self.shared.options.verbosity > 2 {
                        ending.result.insert("_ansible_invocation".to_owned(), json!({ "module_args": args }));
                    }
                }
                for warning in ending.result.get("warnings").and_then(Value::as_array).into_iter().flatten() {
                    self.world.events.warn(None, text_of(warning));
                }
                if let Some(diffs) = diffs {
                    ending.result.insert("diff".to_owned(), diffs);
                }
                ending
            }
            Err(failure) => self.ending_of(failure.clone()),
        };
        if let Some(on) = &delegated {
            ending.result.insert("_ansible_on".to_owned(), json!(on));
        }
        if let Some(attempt) = attempt {
            // What counts as changed and failed may ask for it.
            ending.result.insert("attempts".to_owned(), json!(attempt));
        }
        self.take_effect(cx, scope, effect, &mut ending, delegated.as_deref())?;
        let mut after = scope.clone();
        self.with_result(cx, &mut after, &ending);
        if ending.outcome != Outcome::Unreachable && ending.outcome != Outcome::Unknown {
            if let Some(conditions) = &task.changed_when {
                let holds = self.judge(&mut ending, "changed_when_result", conditions, &after);
                if let Some(changed) = holds {
                    ending.result.insert("changed".to_owned(), json!(changed));
                    if matches!(ending.outcome, Outcome::Ok | Outcome::Changed) {
                        ending.outcome = if changed { Outcome::Changed } else { Outcome::Ok };
                    }
                    self.with_result(cx, &mut after, &ending);
                }
            }
            if let Some(conditions) = &task.failed_when
                && ending.outcome != Outcome::Skipped
            {
                let holds = self.judge(&mut ending, "failed_when_result", conditions, &after);
                if let Some(failed) = holds {
                    ending.result.insert("failed_when_result".to_owned(), json!(failed));
                    ending.result.insert("failed".to_owned(), json!(failed));
                    if failed {
                        ending.outcome = Outcome::Failed;
                        if ending.message.is_empty() {
                            ending.message = "failed_when was true".to_owned();
                        }
                        ending.failure = None;
                    } else if ending.outcome == Outcome::Failed {
                        let why = ending.result.get("msg").cloned().unwrap_or_else(|| json!(ending.message));
                        ending.result.insert("failed_when_suppressed_exception".to_owned(), why);
                        let changed = ending.result.get("changed") == Some(&json!(true));
                        ending.outcome = if changed { Outcome::Changed } else { Outcome::Ok };
                        ending.failure = None;
                    }
                }
            }
        }
        Ok((ending, after))
    }

    /// Conditions on a result; where they cannot be evaluated the task fails and says which.
    fn judge(&self, ending: &mut Ending, name: &str, conditions: &[Text], scope: &Scope) -> Option<bool> {
        match self.all_hold(conditions, scope) {
            Ok(holds) => Some(holds),
            Err(failure) => {
                let failure = if self.shared.options.compat {
                    Failure { what: as_ansible_says(&failure.what), ..failure }
                } else {
                    failure
                };
                ending.result.insert(name.to_owned(), json!(failure.what));
                ending.result.insert("failed".to_owned(), json!(true));
                ending.result.insert("msg".to_owned(), json!(failure.what));
                ending.outcome = Outcome::Failed;
                ending.message.clone_from(&failure.what);
                ending.failure = Some(late(failure));
                None
            }
        }
    }

    /// What the module did to the run.
    fn take_effect(
        &self,
        cx: &Cx<'_>,
        scope: &Scope,
        effect: Effect,
        ending: &mut Ending,
        delegated: Option<&str>,
    ) -> Result<(), Failure> {
        let shared = &self.shared;
        let to_delegate =
            delegated.is_some() && self.setting(cx, scope, |common| common.delegate_facts.as_ref())?.unwrap_or(false);
        let whose = if to_delegate { delegated.unwrap_or(cx.host) } else { cx.host }.to_owned();
        let run_once = match cx.frame.nearest(cx.task, |common| common.run_once.as_ref()) {
            Some(flag) => truth(&shared.templater, flag, scope).unwrap_or(false),
            None => false,
        };
        let all = if run_once { shared.active(&cx.run.batch) } else { vec![whose] };
        // What is only shown sets nothing.
        let facts = ending.result.get("ansible_facts").and_then(Value::as_object).cloned();
        let facts = facts.filter(|_| cx.task.module != "debug");
        if let (Some(facts), "set_fact") = (&facts, cx.task.module) {
            for name in facts.keys() {
                let warning = crate::playbook::reserved(name, &cx.task.place, shared.options.compat);
                warning.into_iter().for_each(|warning| self.world.events.warn(None, warning));
            }
        }
        match effect {
            Effect::Vars(vars) => {
                for (name, place, _) in &vars {
                    let warning = crate::playbook::reserved(name, place, shared.options.compat);
                    warning.into_iter().for_each(|warning| self.world.events.warn(None, warning));
                }
                let mut state = shared.state();
                for host in &all {
                    let included = state.included.entry(host.clone()).or_default();
                    for (name, place, value) in &vars {
                        included.written(name, value, Some(place.clone()));
                    }
                }
                return Ok(());
            }
            Effect::AddHost { name, groups, vars } => {
                let mut inventory = shared.inventory.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                let changed = super::grow::add_host(&mut inventory, &name, &groups, &vars)?;
                drop(inventory);
                shared.state().grown.push(super::Grown::Host(name, groups, vars));
                shared.changed(None);
                ending.changes(changed);
                return Ok(());
            }
            Effect::GroupBy { key, parents } => {
                let mut inventory = shared.inventory.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                let changed = super::grow::add_to_group(&mut inventory, cx.host, &key, &parents)?;
                drop(inventory);
                shared.state().grown.push(super::Grown::Group(cx.host.to_owned(), key, parents));
                shared.changed(None);
                ending.changes(changed);
                return Ok(());
            }
            Effect::Facts => {
                if let Some(facts) = &facts {
                    let mut state = shared.state();
                    for host in &all {
                        state.facts.entry(host.clone()).or_default().extend(facts.clone());
                        state.bases.remove(host);
                        if cx.task.module == "set_fact" {
                            let late = state.late.entry(host.clone()).or_default();
                            facts.iter().for_each(|(name, value)| late.data(name, value));
                        }
                    }
                    drop(state);
                    all.iter().for_each(|host| shared.keep_facts(self.world, host));
                }
                return Ok(());
            }
            Effect::None => {}
        }
        if let Some(facts) = facts {
            let mut state = shared.state();
            for host in &all {
                if cx.task.module == "set_fact" {
                    let late = state.late.entry(host.clone()).or_default();
                    facts.iter().for_each(|(name, value)| late.data(name, value));
                } else {
                    state.facts.entry(host.clone()).or_default().extend(facts.clone());
                    state.bases.remove(host);
                }
            }
            drop(state);
            if cx.task.module != "set_fact" {
                all.iter().for_each(|host| shared.keep_facts(self.world, host));
            }
        }
        Ok(())
    }

    /// What `include_tasks` or `include_role` asks for on a host: names, with the loop's values, and the item's label.
    pub(super) async fn asks(&self, cx: &Cx<'_>) -> Result<Vec<(String, Map<String, Value>, Option<String>)>, Ending> {
        let name_of = |scope: &Scope| -> Result<String, Failure> {
            let text = match &cx.task.action {
                Action::IncludeTasks(file, _) => file,
                Action::IncludeRole(query, _) => &query.name,
                _ => return Err(Failure::new(Kind::Bug, "this task includes nothing")),
            };
            Ok(text_of(&self.shared.templater.render(&text.text, Some(&text.place), scope)?))
        };
        let bad = |scope: &Scope, failure: Failure| self.finish(cx, scope, self.ending_of(failure));
        let scope =
            self.scope(cx.run, cx.frame, Some(cx.task), cx.host).map_err(|failure| bad(&Scope::new(), failure))?;
        let Some(repeat) = &cx.task.repeat else {
            return match self.wanted(cx.frame, cx.task, &scope) {
                Ok(None) => match name_of(&scope) {
                    Ok(name) => Ok(vec![(name, Map::new(), None)]),
                    Err(failure) => Err(bad(&scope, failure)),
                },
                Ok(Some(condition)) => {
                    Err(self.finish(cx, &scope, Ending::skip("Conditional result was False", Some(&condition))))
                }
                Err(failure) => Err(bad(&scope, failure)),
            };
        };
        let items = match self.items_of(repeat, &scope) {
            Ok(items) => items,
            Err(failure) => {
                return Err(match self.wanted(cx.frame, cx.task, &scope) {
                    Ok(Some(condition)) => {
                        self.finish(cx, &scope, Ending::skip("Conditional result was False", Some(&condition)))
                    }
                    _ => bad(&scope, failure),
                });
            }
        };
        let mut out = Vec::new();
        for at in 0..items.len() {
            let (turn, item) = self.turn(cx, &items, at).map_err(|failure| bad(&scope, failure))?;
            match self.wanted(cx.frame, cx.task, &turn) {
                Ok(None) => {}
                Ok(Some(condition)) => {
                    let mut result = skipped("Conditional result was False", Some(&condition));
                    let quiet = self.hides(cx, &turn);
                    let label = if quiet { HIDDEN.to_owned() } else { item.label };
                    if !quiet {
                        result.insert(item.var.clone(), item.value.clone());
                    }
                    result.insert("_ansible_item_label".to_owned(), json!(label));
                    self.world.events.tell(Event::ItemEnded {
                        task: cx.title.to_owned(),
                        host: cx.host.to_owned(),
                        item: label,
                        outcome: Outcome::Skipped,
                        ignored: false,
                        result: Value::Object(result),
                    });
                    continue;
                }
                Err(failure) => return Err(bad(&turn, failure)),
            }
            let name = name_of(&turn).map_err(|failure| bad(&turn, failure))?;
            let mut data = Map::new();
            data.insert(item.var.clone(), item.value);
            data.insert("ansible_loop_var".to_owned(), json!(item.var));
            if let Some(index) = &cx.task.loop_control.index_var {
                data.insert(index.text.clone(), json!(at));
                data.insert("ansible_index_var".to_owned(), json!(index.text));
            }
            if turn.knows("ansible_loop")
                && let Ok(value) = self.shared.templater.render("{{ ansible_loop }}", None, &turn)
            {
                data.insert("ansible_loop".to_owned(), value);
            }
            out.push((name, data, Some(item.label)));
        }
        if out.is_empty() {
            let mut result = skipped("Conditional result was False", None);
            if items.is_empty() {
                result.insert("skipped_reason".to_owned(), json!("No items in the list"));
            }
            result.insert("results".to_owned(), json!([]));
            return Err(self.finish(cx, &scope, Ending::new(Outcome::Skipped, result)));
        }
        Ok(out)
    }
}

/// `true` or `false`, which is a condition that cannot fail.
fn is_plain_word(condition: &str) -> bool {
    ["true", "false", "yes", "no"].contains(&condition.trim().to_lowercase().as_str())
}

/// Whether what this variable gives may be another one after a task that registers `registered`: it is that one, or is made of
/// it, or of what may differ by itself.
fn may_change(name: &str, scope: &Scope, registered: Option<&str>, depth: usize) -> bool {
    const BY_THEMSELVES: &[&str] =
        &["lookup", "query", "q", "now", "random", "shuffle", "hostvars", "vars", "password", "ansible_facts"];
    if registered == Some(name) || depth > MOST_NAMES {
        return true;
    }
    let Some(written) = scope.as_written(name).filter(has_template) else { return false };
    let text = written.to_string();
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && *word != name)
        .any(|word| BY_THEMSELVES.contains(&word) || may_change(word, scope, registered, depth + 1))
}

/// So many variables may be made of one another before it is not looked any further.
const MOST_NAMES: usize = 8;

/// No template in it, at any depth.
fn is_fixed(value: &Value) -> bool {
    match value {
        Value::String(text) => !is_template(text),
        Value::Array(items) => items.iter().all(is_fixed),
        Value::Object(map) => map.iter().all(|(name, value)| !is_template(name) && is_fixed(value)),
        _ => true,
    }
}

/// Where something is written, with the lines around it, as Ansible shows it.
fn origin(place: &Place) -> String {
    let file = super::scope::absolute(std::path::Path::new(&place.file));
    let mut out = format!("Origin: {file}:{}:{}\n", place.line, place.column);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    if text.is_empty() || crate::vault::is_encrypted(&text) {
        return out;
    }
    out.push('\n');
    let lead = place.line.to_string().len();
    let begin = place.line.saturating_sub(2).max(1);
    for (at, line) in text.lines().enumerate().skip(begin - 1).take(place.line + 1 - begin) {
        out.push_str(format!("{:>lead$} {}", at + 1, line.chars().take(200).collect::<String>()).trim_end());
        out.push('\n');
    }
    out.push_str(&format!("{}^ column {}\n", " ".repeat(lead + place.column), place.column));
    out
}

/// A result without what is for windows only.
pub(super) fn strip(result: Map<String, Value>) -> Map<String, Value> {
    result.into_iter().filter(|(name, _)| !name.starts_with("_ansible_")).collect()
}

/// What stands in the place of an item that is hidden.
const HIDDEN: &str = "(censored due to no_log)";

/// What is shown of a result that is hidden.
fn censored(result: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert(
        "censored".to_owned(),
        json!("the output has been hidden due to the fact that 'no_log: true' was specified for this result"),
    );
    for name in ["changed", "failed", "skipped", "unreachable", "attempts", "retries"] {
        if let Some(value) = result.get(name) {
            out.insert(name.to_owned(), value.clone());
        }
    }
    out
}
