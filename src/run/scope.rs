//! What variables a task sees, lowest first, as Ansible orders them.
//!
//! What lives here: the precedence of variables, magic variables, and what a task inherits from what stands around it. What does
//! not: where inventory variables come from (inventory), how templates are rendered (template).

use std::path::Path;
use std::sync::{Arc, Weak};

use serde_json::{Map, Value, json};

use super::{PlayRun, Runner, Shared};
use crate::failure::{Failure, Kind};
use crate::name::HostName;
use crate::plan::PlannedPlay;
use crate::playbook::{Common, Flag, Role, Task, Var};
use crate::settings::ansible_cfg;
use crate::template::{HostScopes, Ready, Scope, Templater};

/// What stands around a task: blocks, files, roles, the play at the end.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) common: Common,
    /// Its variables are parameters of an include: they win over registered ones.
    pub(super) params: bool,
    /// Values of its parameters that are data, such as the item of a loop.
    pub(super) data: Map<String, Value>,
    /// What failed within is mended by a `rescue`.
    pub(super) rescuable: bool,
    /// A `rescue` or an `always` comes before what failed within counts.
    pub(super) deferred: bool,
    pub(super) up: Option<Arc<Frame>>,
}

impl Frame {
    pub(super) fn chain(&self) -> Vec<&Self> {
        let mut all = vec![self];
        let mut at = self;
        while let Some(up) = &at.up {
            all.push(up);
            at = up;
        }
        all.reverse();
        all
    }

    /// The nearest word on something: the task's own, else that of what stands around it.
    pub(super) fn nearest<'a, T>(&'a self, task: &'a Task, get: impl Fn(&'a Common) -> Option<T>) -> Option<T> {
        if let Some(found) = get(&task.common) {
            return Some(found);
        }
        let mut at = Some(self);
        while let Some(frame) = at {
            if let Some(found) = get(&frame.common) {
                return Some(found);
            }
            at = frame.up.as_deref();
        }
        None
    }
}

/// Whether a flag is set.
pub(super) fn truth(templater: &Templater, flag: &Flag, scope: &Scope) -> Result<bool, Failure> {
    match flag {
        Flag::Is(value) => Ok(*value),
        Flag::Template(text) => {
            let value = templater.render(&text.text, Some(&text.place), scope)?;
            truthy(&value).ok_or_else(|| {
                let what =
                    format!("The value '{}' could not be converted to 'bool': it is neither true nor false", text.text);
                Failure::new(Kind::CouldNotStart, what).at(text.place.clone()).saw(value.to_string())
            })
        }
    }
}

/// A value as Ansible takes it for true or false.
pub(super) fn truthy(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Number(number) => match number.as_i64() {
            Some(1) => Some(true),
            Some(0) => Some(false),
            _ => None,
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "y" | "t" | "1" | "1.0" => Some(true),
            "no" | "false" | "off" | "n" | "f" | "0" | "0.0" | "" => Some(false),
            _ => None,
        },
        Value::Null => Some(false),
        _ => None,
    }
}

/// `hostvars`.
#[derive(Debug)]
pub(super) struct HostVarsOf(pub(super) Weak<Shared>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl HostScopes for HostVarsOf {
    fn names(&self) -> Vec<String> {
        self.0.upgrade().map(|shared| shared.inventory().hosts().map(ToString::to_string).collect()).unwrap_or_default()
    }

    fn matching(&self, pattern: &str) -> Option<Vec<String>> {
        let shared = self.0.upgrade()?;
        let inventory = shared.inventory();
        crate::plan::select(&inventory, pattern, None).ok()
    }

    fn scope(&self, host: &str) -> Option<Scope> {
        let shared = self.0.upgrade()?;
        let known = {
            let inventory = shared.inventory();
            let name: HostName = host.parse().ok()?;
            inventory.hosts().any(|known| *known == name)
                || !inventory.vars(&name).is_empty()
                || ["localhost", "127.0.0.1", "::1"].contains(&host)
        };
        known.then(|| shared.of_host(host))
    }
}

/// `ansible_delegated_vars`: the variables of the host that a task is delegated to, under its name.
#[derive(Debug)]
pub(super) struct DelegateVars {
    pub(super) shared: Weak<Shared>,
    /// Where the task runs.
    pub(super) on: String,
    /// The host that it runs for.
    pub(super) from: String,
}

impl HostScopes for DelegateVars {
    fn names(&self) -> Vec<String> {
        vec![self.on.clone()]
    }

    fn scope(&self, host: &str) -> Option<Scope> {
        if host != self.on {
            return None;
        }
        let mut scope = HostVarsOf(self.shared.clone()).scope(host).unwrap_or_default();
        if !scope.knows("ansible_host") {
            scope.data("ansible_host", &json!(host));
        }
        // As Ansible has it: the task is still about the host that it runs for.
        scope.data("inventory_hostname", &json!(self.from));
        Some(scope)
    }
}

impl Shared {
    /// Inventory and facts of a host.
    fn base(&self, host: &str) -> Scope {
        if let Some(known) = self.state().bases.get(host) {
            return known.clone();
        }
        self.recall(host);
        let mut scope = Scope::new();
        {
            let inventory = self.inventory();
            if let Ok(name) = host.parse::<HostName>() {
                for (variable, value) in inventory.vars(&name) {
                    scope.written(variable, value, inventory.place_of(&name, variable));
                }
            }
        }
        scope.ready("groups", &self.groups());
        if !scope.knows("group_names") {
            scope.data("group_names", &json!([]));
        }
        if ["localhost", "127.0.0.1", "::1"].contains(&host) && !scope.knows("ansible_connection") {
            scope.data("ansible_connection", &json!("local"));
        }
        // The implicit one alone has it.
        if self.options.compat && host == "localhost" && !scope.knows("ansible_python_interpreter") {
            scope.data("ansible_python_interpreter", &json!(python()));
        }
        let mut state = self.state();
        let facts = state.facts.get(host).cloned().unwrap_or_default();
        let mut plain = Map::new();
        let injects = ansible_cfg::in_force("defaults.inject_facts_as_vars").and_then(|text| ansible_cfg::truth(&text))
            != Some(false);
        for (name, value) in &facts {
            // Facts of the host's own files are there in any case, as in Ansible.
            if injects || name == "ansible_local" {
                scope.data(name, value);
            }
            plain.insert(name.strip_prefix("ansible_").unwrap_or(name).to_owned(), value.clone());
        }
        scope.data("ansible_facts", &Value::Object(plain));
        scope.data("inventory_hostname", &json!(host));
        scope.data("inventory_hostname_short", &json!(host.split('.').next().unwrap_or(host)));
        state.bases.insert(host.to_owned(), scope.clone());
        scope
    }

    /// What earlier runs knew of a host, looked for once.
    pub(super) fn recall(&self, host: &str) {
        let Some(cache) = &self.options.facts else { return };
        let mut state = self.state();
        if !state.recalled.insert(host.to_owned()) || state.facts.contains_key(host) {
            return;
        }
        match cache.read(host) {
            Ok(Some(facts)) => {
                state.facts.insert(host.to_owned(), facts);
                state.bases.remove(host);
            }
            Ok(None) => {}
            Err(what) => state.unread.push(what),
        }
    }

    /// A path from the root, worked out once.
    fn absolute(&self, path: &Path) -> String {
        let mut state = self.state();
        if let Some(known) = state.absolutes.get(path) {
            return known.clone();
        }
        let found = absolute(path);
        state.absolutes.insert(path.to_owned(), found.clone());
        found
    }

    fn groups(&self) -> Ready {
        if let Some(ready) = &self.state().groups {
            return ready.clone();
        }
        let ready = Ready::of(self.inventory().groups_value());
        self.state().groups = Some(ready.clone());
        ready
    }

    /// The magic lists of the play's hosts: all, those that go on, those of the batch that go on.
    fn lists(&self) -> [Ready; 3] {
        let state = self.state();
        let changes = state.standing.changes;
        if let Some((made, lists)) = &state.lists
            && *made == changes
        {
            return lists.clone();
        }
        let (all, batch) = (state.play_hosts.clone(), state.play_batch.clone());
        drop(state);
        let lists = [
            Ready::of(&json!(all)),
            Ready::of(&json!(self.active_of_play(&all))),
            Ready::of(&json!(self.active_of_play(&batch))),
        ];
        self.state().lists = Some((changes, lists.clone()));
        lists
    }

    /// A host's variables without a play around them.
    pub(super) fn of_host(&self, host: &str) -> Scope {
        let mut scope = self.base(host);
        {
            let state = self.state();
            for more in [state.included.get(host), state.late.get(host)].into_iter().flatten() {
                scope.merge(more);
            }
        }
        scope.merge(&self.extra_scope);
        self.magic(&mut scope, host);
        scope
    }

    /// Forgets what was put together of hosts' variables: the inventory or facts have changed.
    pub(super) fn changed(&self, host: Option<&str>) {
        let mut state = self.state();
        match host {
            Some(host) => {
                state.bases.remove(host);
            }
            None => {
                state.bases.clear();
                state.groups = None;
            }
        }
    }

    fn magic(&self, scope: &mut Scope, host: &str) {
        scope.data("inventory_hostname", &json!(host));
        let [all, on, batch] = self.lists();
        scope.ready("ansible_play_hosts_all", &all);
        scope.ready("ansible_play_hosts", &on);
        scope.ready("play_hosts", &batch);
        scope.ready("ansible_play_batch", &batch);
        scope.merge(self.constants.get_or_init(|| self.constant()));
    }

    /// What is the same for all hosts and tasks.
    fn constant(&self) -> Scope {
        let mut scope = Scope::new();
        scope.data("ansible_check_mode", &json!(self.check));
        scope.data("ansible_diff_mode", &json!(self.options.diff));
        scope.data("ansible_verbosity", &json!(self.options.verbosity));
        scope.data("ansible_forks", &json!(self.forks));
        let inventory = self.inventory();
        // What is a path is one from wherever it is used; a list of hosts stays as it was typed.
        let given = inventory.given().iter();
        let given = given.map(|path| if path.exists() { absolute(path) } else { path.display().to_string() });
        scope.data("ansible_inventory_sources", &json!(given.collect::<Vec<_>>()));
        drop(inventory);
        if let Some(limit) = &self.limit {
            scope.data("ansible_limit", &json!(limit));
        }
        let only = if self.tags.only.is_empty() { json!(["all"]) } else { json!(self.tags.only) };
        scope.data("ansible_run_tags", &only);
        scope.data("ansible_skip_tags", &json!(self.tags.skip));
        scope.data(
            "ansible_version",
            &json!({"full": "2.19.14", "major": 2, "minor": 19, "revision": 14, "string": "2.19.14"}),
        );
        scope.data("ansible_playbook_python", &json!(python()));
        scope
    }

    fn active_of_play(&self, hosts: &[String]) -> Vec<String> {
        let state = self.state();
        hosts
            .iter()
            .filter(|host| state.standing.get(host).is_none_or(|standing| !standing.failed && !standing.unreachable))
            .cloned()
            .collect()
    }
}

/// A Python of this machine, for playbooks that ask for one.
fn python() -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for name in ["python3", "python"] {
        if let Some(found) = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file()) {
            return found.display().to_string();
        }
    }
    "/usr/bin/python3".to_owned()
}

fn write_all(scope: &mut Scope, vars: &[Var]) {
    for (name, place, value) in vars {
        scope.written(name, value, Some(place.clone()));
    }
}

impl Runner<'_> {
    /// The names that a play's own words may use.
    pub(super) fn play_names(&self, play: &PlannedPlay, prompted: &Map<String, Value>) -> Scope {
        let shared = &self.shared;
        let mut scope = {
            let inventory = shared.inventory();
            crate::plan::play_scope(&inventory, &play.play, &shared.extra)
        };
        for (name, value) in prompted {
            scope.data(name, value);
        }
        scope.hosts("hostvars", Arc::new(HostVarsOf(Arc::downgrade(shared))));
        scope.merge(&shared.extra_scope);
        shared.magic(&mut scope, "localhost");
        scope
    }

    /// All that a task's templates see on a host.
    pub(super) fn scope(
        &self,
        run: &PlayRun<'_>,
        frame: &Frame,
        task: Option<&Task>,
        host: &str,
    ) -> Result<Scope, Failure> {
        let shared = &self.shared;
        let mut scope = shared.base(host);
        let chain = frame.chain();
        let role = task.and_then(|task| task.role.as_ref());
        let open: Vec<Arc<Role>> =
            run.play.play.open_roles.iter().cloned().chain(shared.state().open_roles.iter().cloned()).collect();
        // Defaults stand below all: they fill what is not there.
        if let Some(role) = role {
            let outer: Vec<&Arc<Role>> = role.parents.iter().rev().collect();
            scope.fill(&role.defaults);
            for role in outer.into_iter().rev() {
                scope.fill(&role.defaults);
            }
        }
        for role in open.iter().rev() {
            scope.fill(&role.defaults);
        }
        write_all(&mut scope, &run.play.play.common.vars);
        for (name, value) in &run.prompted {
            scope.data(name, value);
        }
        self.vars_files(run, host, &mut scope)?;
        for role in &open {
            write_all(&mut scope, &role.vars);
        }
        if let Some(role) = role {
            for role in role.parents.iter().rev().chain([role]) {
                if let Some((_, vars)) = role.below.get() {
                    write_all(&mut scope, vars);
                }
                write_all(&mut scope, &role.vars);
            }
        }
        for frame in chain.iter().skip(1).filter(|frame| !frame.params) {
            write_all(&mut scope, &frame.common.vars);
        }
        if let Some(task) = task {
            write_all(&mut scope, &task.common.vars);
        }
        {
            let state = shared.state();
            for more in [state.included.get(host), state.late.get(host)].into_iter().flatten() {
                scope.merge(more);
            }
        }
        if let Some(role) = role {
            for role in role.parents.iter().rev().chain([role]) {
                write_all(&mut scope, &role.params);
            }
            scope.data("role_name", &json!(role.own_name()));
            scope.data("ansible_role_name", &json!(role.name));
            scope.data("role_path", &json!(shared.absolute(&role.path)));
            let includers = role.includers();
            if !includers.is_empty() {
                let parents: Vec<&str> = includers.iter().map(|role| role.name.as_str()).collect();
                let paths: Vec<String> = includers.iter().map(|role| shared.absolute(&role.path)).collect();
                scope.data("ansible_parent_role_names", &json!(parents));
                scope.data("ansible_parent_role_paths", &json!(paths));
            }
        }
        // Whom a task logs in as is there to be read where the host does not say it itself.
        if let Some(task) = task
            && !scope.knows("ansible_user")
        {
            let keyword = frame.nearest(task, |common| common.remote_user.as_ref());
            let said = keyword.map(|text| shared.templater.render(&text.text, Some(&text.place), &scope));
            let user = match said {
                Some(Ok(user)) => Some(user),
                // It is told where the connection is made.
                Some(Err(_)) => None,
                None => shared.options.remote_user.clone().map(Value::String),
            };
            if let Some(user) = user {
                scope.data("ansible_user", &user);
            }
        }
        let (mut named, mut dependent): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        for role in &open {
            let list = if role.parents.is_empty() || role.included { &mut named } else { &mut dependent };
            if !list.contains(&role.name.as_str()) {
                list.push(&role.name);
            }
        }
        let mut all = named.clone();
        all.extend(dependent.iter().filter(|name| !named.contains(name)));
        scope.data("role_names", &json!(named));
        scope.data("ansible_play_role_names", &json!(named));
        scope.data("ansible_dependent_role_names", &json!(dependent));
        scope.data("ansible_role_names", &json!(all));
        for frame in chain.iter().skip(1).filter(|frame| frame.params) {
            write_all(&mut scope, &frame.common.vars);
            for (name, value) in &frame.data {
                scope.data(name, value);
            }
        }
        scope.merge(&shared.extra_scope);
        shared.magic(&mut scope, host);
        if shared.options.compat && !scope.knows("ansible_host") && !scope.knows("ansible_ssh_host") {
            scope.data("ansible_host", &json!(host));
        }
        scope.data("playbook_dir", &json!(shared.absolute(&run.play.base)));
        if let Some(name) = &run.play.play.common.name {
            scope.written("ansible_play_name", &json!(name.text), Some(name.place.clone()));
        } else {
            scope.data("ansible_play_name", &json!(run.play.title));
        }
        let mut search: Vec<std::path::PathBuf> = Vec::new();
        if let Some(task) = task {
            search.extend(task.role.iter().map(|role| role.path.clone()));
            search.push(task.folder.as_ref().clone());
        }
        search.push(run.play.base.clone());
        let mut search: Vec<String> = search.iter().map(|folder| shared.absolute(folder)).collect();
        search.dedup();
        scope.data("ansible_search_path", &json!(search));
        scope.hosts("hostvars", Arc::new(HostVarsOf(Arc::downgrade(shared))));
        Ok(scope)
    }

    fn vars_files(&self, run: &PlayRun<'_>, host: &str, scope: &mut Scope) -> Result<(), Failure> {
        let shared = &self.shared;
        if run.play.play.vars_files.is_empty() {
            return Ok(());
        }
        let mut seen = scope.clone();
        {
            let state = shared.state();
            for more in [state.included.get(host), state.late.get(host)].into_iter().flatten() {
                seen.merge(more);
            }
        }
        seen.merge(&shared.extra_scope);
        for choice in &run.play.play.vars_files {
            let (mut found, mut missing) = (None, None);
            for name in choice {
                let rendered = match shared.templater.render(&name.text, Some(&name.place), &seen) {
                    Ok(value) => value,
                    // Facts may come later.
                    Err(failure) => {
                        missing.get_or_insert(failure);
                        continue;
                    }
                };
                let text = rendered.as_str().map_or_else(|| rendered.to_string(), str::to_owned);
                let given = Path::new(&text);
                let candidates = [
                    run.play.play.folder.join("vars").join(given),
                    run.play.play.folder.join(given),
                    run.play.base.join(given),
                ];
                if let Some(path) = candidates.into_iter().find(|path| path.is_file()) {
                    found = Some(path);
                    break;
                }
                let what = if shared.options.compat {
                    format!("Could not find or access '{text}'")
                } else {
                    format!("the file {text} of vars_files is not there")
                };
                missing = Some(Failure::new(Kind::CouldNotStart, what).at(name.place.clone()));
            }
            let Some(path) = found else {
                match missing {
                    Some(failure) if !failure.what.contains("not defined") => return Err(failure),
                    _ => continue,
                }
            };
            let known = shared.state().files.get(&path).cloned();
            let vars = match known {
                Some(vars) => vars,
                None => {
                    let vars = Arc::new(shared.options.loader.vars_file(&path)?);
                    shared.state().files.insert(path, Arc::clone(&vars));
                    vars
                }
            };
            write_all(scope, &vars);
            write_all(&mut seen, &vars);
        }
        Ok(())
    }
}

pub(super) fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}
