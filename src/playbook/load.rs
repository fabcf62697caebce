//! Reads the files that a playbook names: imported playbooks and tasks, roles, files of variables.
//!
//! What lives here: where such files are looked for and how a role is put together. What does not: what stands in
//! them (read).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use super::read::{Parser, Within};
use super::{Block, Common, ModuleTable, Play, Playbook, Role, Stands, Step, Text, Var};
use crate::failure::{Failure, Kind, Place};
use crate::settings::yaml::{Document, Node, Yaml};
use crate::template::{Scope, Templater, is_template};

/// How deep files stand in files.
const DEEPEST: usize = 100;

/// Which role, and how it is meant.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleQuery {
    /// Its name, or the path of its folder.
    pub name: Text,
    /// Another file of `tasks/` than `main`.
    pub tasks_from: Option<Text>,
    /// Another file of `vars/`.
    pub vars_from: Option<Text>,
    /// Another file of `defaults/`.
    pub defaults_from: Option<Text>,
    /// Another file of `handlers/`.
    pub handlers_from: Option<Text>,
    /// The whole play sees its defaults and variables.
    pub public: bool,
    /// It runs again although it ran; else as the role says.
    pub allow_duplicates: Option<bool>,
    /// What it is given.
    pub params: Vec<Var>,
    /// A task includes or imports it.
    pub included: bool,
    /// Its arguments are not held against what it says of them (`rolespec_validate: false`).
    pub unvalidated: bool,
}

impl Default for RoleQuery {
    fn default() -> Self {
        Self {
            name: Text { text: String::new(), place: Place { file: String::new(), line: 1, column: 1 } },
            tasks_from: None,
            vars_from: None,
            defaults_from: None,
            handlers_from: None,
            public: false,
            allow_duplicates: None,
            params: Vec::new(),
            included: false,
            unvalidated: false,
        }
    }
}

/// A role, read.
#[derive(Debug, Clone)]
pub struct LoadedRole {
    /// Those that it depends on, then its own tasks.
    pub block: Block,
    /// Handlers, those of the roles that it depends on first.
    pub handlers: Vec<Step>,
    /// The roles whose variables come with it, itself last.
    pub roles: Vec<Arc<Role>>,
}

/// What static imports leave for the play that they stand in.
#[derive(Default)]
struct Kept {
    handlers: Vec<Step>,
    roles: Vec<Arc<Role>>,
    vars: Vec<Var>,
}

/// Reads playbooks and what they name.
#[derive(Clone)]
pub struct Loader {
    /// The modules that there are.
    pub modules: ModuleTable,
    /// Reads a document: from disk, decrypted where it is a vault.
    pub read: Arc<dyn Fn(&Path) -> Result<Document, Failure> + Send + Sync>,
    /// Where roles are looked for besides beside the playbook.
    pub roles_path: Vec<PathBuf>,
    /// As Ansible does: arguments and templates are looked at when a task runs.
    pub lenient: bool,
    /// `-e`, for names of imported files.
    pub extra: Map<String, Value>,
    /// The folder of the playbook that is run.
    pub base: PathBuf,
    /// Reads templates.
    pub templater: Templater,
    kept: Arc<Mutex<Kept>>,
    defaults: Arc<AtomicBool>,
    warned: Arc<Mutex<Vec<String>>>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loader({})", self.base.display())
    }
}

fn from_disk(path: &Path) -> Result<Document, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", path.display())))?;
    Document::read(&path.display().to_string(), &text)
}

impl Loader {
    /// A reader of files as they are.
    pub fn new(modules: ModuleTable) -> Self {
        Self {
            modules,
            read: Arc::new(from_disk),
            roles_path: Vec::new(),
            lenient: false,
            extra: Map::new(),
            base: PathBuf::from("."),
            templater: Templater::new(),
            kept: Arc::default(),
            defaults: Arc::default(),
            warned: Arc::default(),
        }
    }

    /// A document, with what it warns of kept for [`Loader::warnings`].
    fn document(&self, path: &Path) -> Result<Document, Failure> {
        let document = (self.read)(path)?;
        let mut warned = self.warned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for warning in &document.warnings {
            if !warned.contains(warning) {
                warned.push(warning.clone());
            }
        }
        drop(warned);
        self.trust(&document.root);
        Ok(document)
    }

    /// Notes the texts that the operator wrote: those of them that are conditions may come by way of a template.
    fn trust(&self, node: &Node) {
        match &node.value {
            Yaml::Text(text) => self.templater.trust(text),
            Yaml::List(items) => items.iter().for_each(|item| self.trust(item)),
            Yaml::Map(entries) => entries.iter().for_each(|entry| self.trust(&entry.value)),
            _ => {}
        }
    }

    /// Keeps a warning for [`Loader::warnings`].
    pub(super) fn warn(&self, warning: String) {
        let mut warned = self.warned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !warned.contains(&warning) {
            warned.push(warning);
        }
    }

    /// What the files that were read so far warn of, each once.
    pub fn warnings(&self) -> Vec<String> {
        self.warned.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A play's variables, for names of what it imports. Gives what was kept before.
    pub(super) fn lend(&self, vars: &[Var]) -> (Vec<Step>, Vec<Arc<Role>>, Vec<Var>) {
        let mut kept = self.kept();
        let before = std::mem::take(&mut *kept);
        kept.vars = vars.to_vec();
        (before.handlers, before.roles, before.vars)
    }

    /// What imports left, and what was kept before is kept again.
    pub(super) fn take_back(
        &self,
        (handlers, roles, vars): (Vec<Step>, Vec<Arc<Role>>, Vec<Var>),
    ) -> (Vec<Step>, Vec<Arc<Role>>) {
        let mut kept = self.kept();
        let mine = std::mem::replace(&mut *kept, Kept { handlers, roles, vars });
        (mine.handlers, mine.roles)
    }

    /// Keeps what an import brings for its play.
    pub(super) fn keep(&self, handlers: Vec<Step>, roles: Vec<Arc<Role>>) {
        let mut kept = self.kept();
        kept.handlers.extend(handlers);
        kept.roles.extend(roles);
    }

    /// How many groups of handlers are kept by now.
    pub(super) fn handlers_kept(&self) -> usize {
        self.kept().handlers.len()
    }

    /// Puts what stands around an import around the handlers that were kept behind the first `from`.
    pub(super) fn wrap_handlers(&self, from: usize, place: &Place, common: &super::Common) {
        let mut kept = self.kept();
        let from = from.min(kept.handlers.len());
        let mine = kept.handlers.split_off(from);
        kept.handlers.extend(Block::of_handlers(mine, place, common));
    }

    /// What static imports left since the last time: handlers and roles that the play sees.
    pub fn left_over(&self) -> (Vec<Step>, Vec<Arc<Role>>) {
        let mine = std::mem::take(&mut *self.kept());
        (mine.handlers, mine.roles)
    }

    /// Whether module_defaults may give what a task does not.
    pub(super) fn has_defaults(&self) -> bool {
        self.defaults.load(Ordering::Relaxed)
    }

    /// Notes that module_defaults stand somewhere.
    pub(super) fn saw_defaults(&self) {
        self.defaults.store(true, Ordering::Relaxed);
    }

    /// A name that is needed while playbooks are read, rendered.
    pub(super) fn early(&self, text: &Text, vars: &[Var], role: Option<&Role>) -> Result<String, Failure> {
        if !is_template(&text.text) {
            return Ok(text.text.clone());
        }
        let mut scope = Scope::new();
        {
            let kept = self.kept();
            for (name, place, value) in kept.vars.iter().chain(vars) {
                scope.written(name, value, Some(place.clone()));
            }
        }
        scope.data("playbook_dir", &Value::from(self.base.display().to_string()));
        if let Some(role) = role {
            scope.data("role_path", &Value::from(role.path.display().to_string()));
            scope.data("role_name", &Value::from(role.name.clone()));
        }
        for (name, value) in &self.extra {
            scope.written(name, value, None);
        }
        let value = self.templater.render(&text.text, Some(&text.place), &scope)?;
        Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// Reads a playbook.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] with all that is wrong in it and in what it names.
    pub fn playbook(&self, path: &Path) -> Result<Playbook, Failure> {
        self.playbook_at(path, 0)
    }

    pub(super) fn playbook_at(&self, path: &Path, depth: usize) -> Result<Playbook, Failure> {
        if depth > DEEPEST {
            return Err(Failure::new(Kind::CouldNotStart, "playbooks import one another without an end")
                .saw(path.display().to_string()));
        }
        let document = self.document(path)?;
        self.playbook_of(&path.display().to_string(), &document, depth)
    }

    /// Reads the playbook `text`, whose failures name `file`.
    ///
    /// # Errors
    /// As [`Loader::playbook`].
    pub fn text(&self, file: &str, text: &str) -> Result<Playbook, Failure> {
        self.playbook_text(file, text)
    }

    pub(super) fn playbook_text(&self, file: &str, text: &str) -> Result<Playbook, Failure> {
        self.playbook_of(file, &Document::read(file, text)?, 0)
    }

    fn playbook_of(&self, file: &str, document: &Document, depth: usize) -> Result<Playbook, Failure> {
        let within = Within { folder: Arc::new(folder_of(Path::new(file))), role: None, handlers: false, depth };
        let mut parser = Parser::new(document, self, within);
        let plays: Vec<Play> = parser.plays();
        match Failure::all(parser.errors) {
            Some(failure) => Err(failure),
            None => Ok(Playbook { file: file.to_owned(), text: document.text.clone(), plays }),
        }
    }

    /// Where a file of tasks is: beside the one that names it, else in its role, else beside the playbook.
    pub(super) fn tasks_path(&self, name: &str, within: &Within) -> PathBuf {
        let role = within.role.as_ref().map(|role| role.path.as_path());
        self.find_tasks(name, &within.folder, role, within.handlers, false)
    }

    /// Where the file of tasks `name` is, seen from `folder` and the role at `role`. An import takes the one beside the file that
    /// names it first, an include on the way (`late`) that of the role's own tasks: so has Ansible it.
    pub fn find_tasks(&self, name: &str, folder: &Path, role: Option<&Path>, handlers: bool, late: bool) -> PathBuf {
        let given = Path::new(name);
        if given.is_absolute() {
            return given.to_path_buf();
        }
        let mut all = vec![folder.join(given)];
        if let Some(role) = role {
            let own = role.join(if handlers { "handlers" } else { "tasks" }).join(given);
            all.insert(if late { 0 } else { 1 }, own);
            all.push(role.join("tasks").join(given));
            all.push(role.join(given));
        }
        all.push(self.base.join("tasks").join(given));
        all.push(self.base.join(given));
        all.iter().find(|path| path.is_file()).cloned().unwrap_or_else(|| folder.join(given))
    }

    pub(super) fn tasks_in(&self, path: &Path, within: &Within, depth: usize) -> Result<Vec<Step>, Failure> {
        if within.depth > DEEPEST {
            return Err(Failure::new(Kind::CouldNotStart, "files of tasks import one another without an end")
                .saw(path.display().to_string()));
        }
        let document = self.document(path).map_err(|failure| self.unread(path, failure))?;
        let within = Within { folder: Arc::new(folder_of(path)), ..within.clone() };
        let mut parser = Parser::new(&document, self, within);
        let what = if parser.within.handlers { "handlers" } else { "a file of tasks" };
        let steps = parser.steps(&document.root, what, depth.min(8));
        Failure::all(parser.errors).map_or(Ok(steps), Err)
    }

    fn unread(&self, path: &Path, failure: Failure) -> Failure {
        if self.lenient && !path.exists() {
            return Failure::new(
                Kind::CouldNotStart,
                format!("Could not find or access '{}' on the Ansible Controller.", path.display()),
            );
        }
        failure
    }

    /// Reads a file of tasks while a run goes on.
    ///
    /// # Errors
    /// As [`Loader::playbook`].
    pub fn include(&self, path: &Path, role: Option<Arc<Role>>, handlers: bool) -> Result<Vec<Step>, Failure> {
        let within = Within { folder: Arc::new(folder_of(path)), role, handlers, depth: 0 };
        self.tasks_in(path, &within, 0)
    }

    /// Where a role is.
    fn role_path(&self, name: &str, within: &Within) -> Result<PathBuf, Failure> {
        let mut all: Vec<PathBuf> = Vec::new();
        let home = std::env::var_os("HOME").map(PathBuf::from);
        if let (Some(rest), Some(home)) = (name.strip_prefix("~/"), &home) {
            all.push(home.join(rest));
        } else if name.starts_with('/') {
            all.push(PathBuf::from(name));
        } else {
            if let Some(role) = &within.role {
                // Beside the role that names it, and below it.
                all.extend(role.path.parent().map(|folder| folder.join(name)));
                all.push(role.path.join("roles").join(name));
            }
            if let [space, collection, role] = name.split('.').collect::<Vec<_>>().as_slice() {
                let within = Path::new("ansible_collections").join(space).join(collection).join("roles").join(role);
                let paths = std::env::var_os("ANSIBLE_COLLECTIONS_PATH").unwrap_or_default();
                all.push(self.base.join("collections").join(&within));
                all.extend(
                    std::env::split_paths(&paths).filter(|path| path.is_absolute()).map(|path| path.join(&within)),
                );
                all.extend(home.iter().map(|home| home.join(".ansible/collections").join(&within)));
            }
            all.push(self.base.join("roles").join(name));
            all.push(within.folder.join("roles").join(name));
            if self.roles_path.is_empty() {
                all.extend(home.map(|home| home.join(".ansible/roles").join(name)));
                all.push(Path::new("/usr/share/ansible/roles").join(name));
                all.push(Path::new("/etc/ansible/roles").join(name));
            }
            all.extend(self.roles_path.iter().map(|folder| folder.join(name)));
            all.push(self.base.join(name));
            all.push(within.folder.join(name));
        }
        all.iter().find(|path| path.is_dir()).cloned().ok_or_else(|| {
            let mut list: Vec<String> = Vec::new();
            for path in &all {
                let shown = path.parent().unwrap_or(path).display().to_string();
                if !list.contains(&shown) {
                    list.push(shown);
                }
            }
            let what = if self.lenient {
                match name.contains(',') {
                    true => format!("Invalid old style role requirement: {name}"),
                    false => format!("the role '{name}' was not found in {}", list.join(":")),
                }
            } else {
                format!("the role {name:?} is not there")
            };
            Failure::new(Kind::CouldNotStart, what)
                .saw(format!("looked in {}", list.join(", ")))
                .mend("put it there, or name its folder in ANSIBLE_ROLES_PATH")
        })
    }

    /// A file of a role's folder: `main`, or the one that was named, with or without its ending.
    fn role_file(&self, folder: &Path, from: Option<&str>) -> Result<Option<PathBuf>, Failure> {
        let name = from.unwrap_or("main");
        // A path that leads out of the role is none of its files.
        let mut depth = 0_i64;
        for part in Path::new(name).components() {
            depth += match part {
                std::path::Component::ParentDir => -1,
                std::path::Component::CurDir => 0,
                std::path::Component::Normal(_) => 1,
                _ => -1000,
            };
            if depth < 0 {
                return Err(Failure::new(
                    Kind::CouldNotStart,
                    format!(
                        "Failed to find '{name}' as it is not inside the expected role path: '{}'",
                        folder.display()
                    ),
                ));
            }
        }
        let names = [format!("{name}.yml"), format!("{name}.yaml"), format!("{name}.json"), name.to_owned()];
        for name in &names {
            let path = folder.join(name);
            if path.is_file() {
                return Ok(Some(path));
            }
        }
        match from {
            None => Ok(None),
            Some(from) => {
                let mut role =
                    folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
                if role.is_empty() {
                    role = folder.display().to_string();
                }
                Err(Failure::new(
                    Kind::CouldNotStart,
                    format!(
                        "Could not find specified file in role: {}/{from}",
                        folder.file_name().unwrap_or_default().to_string_lossy()
                    ),
                )
                .saw(format!("the role {role}")))
            }
        }
    }

    /// Variables of a file or a folder of files.
    fn role_vars(&self, folder: &Path, from: Option<&str>) -> Result<Vec<Var>, Failure> {
        let mut out = Vec::new();
        let main = folder.join(from.unwrap_or("main"));
        if main.is_dir() {
            let mut all: Vec<PathBuf> = Vec::new();
            collect(&main, &mut all);
            for path in all {
                out.extend(self.vars_file(&path)?);
            }
        } else if let Some(path) = self.role_file(folder, from)? {
            out = self.vars_file(&path)?;
        }
        Ok(out)
    }

    /// The variables of a file, as they are written.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`]: it cannot be read, or is no mapping.
    pub fn vars_file(&self, path: &Path) -> Result<Vec<Var>, Failure> {
        let document = self.document(path)?;
        let Yaml::Map(entries) = &document.root.value else {
            if document.root.value == Yaml::Null {
                return Ok(Vec::new());
            }
            return Err(document
                .failure(document.root.spot, "a file of variables is a mapping")
                .saw(document.says(&document.root)));
        };
        Ok(entries
            .iter()
            .map(|entry| (entry.name(), document.place(entry.value.spot), entry.value.to_json()))
            .collect())
    }

    /// Reads a role. `common` is what its entry says; `parents` are the roles that depend on it, nearest first.
    pub(super) fn role(
        &self,
        query: &RoleQuery,
        common: &Common,
        within: &Within,
        parents: &[Arc<Role>],
    ) -> Result<LoadedRole, Failure> {
        if parents.len() > DEEPEST || within.depth > DEEPEST {
            return Err(Failure::new(Kind::CouldNotStart, "roles depend on one another without an end")
                .saw(query.name.text.clone()));
        }
        let name = self.early(&query.name, &query.params, within.role.as_deref())?;
        let path = self
            .role_path(&name, within)
            .map_err(|failure| Failure { place: Some(query.name.place.clone()), ..failure })?;
        if parents.iter().filter(|role| role.path == path).count() > 20 {
            return Err(
                Failure::new(Kind::CouldNotStart, "a recursion loop was detected with the roles").saw(name.clone())
            );
        }
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.text.clone());
        let defaults = self.role_vars(&path.join("defaults"), text(&query.defaults_from).as_deref())?;
        let vars = self.role_vars(&path.join("vars"), text(&query.vars_from).as_deref())?;
        let meta = self.role_file(&path.join("meta"), None)?;
        let mut allow_duplicates = query.allow_duplicates;
        let mut wanted = Vec::new();
        let shown = name.rsplit('/').next().unwrap_or(&name).to_owned();
        if let Some(meta) = meta {
            let document = self.document(&meta)?;
            if let Yaml::Map(entries) = &document.root.value {
                for entry in entries {
                    match entry.name().as_str() {
                        "allow_duplicates" => {
                            let truth = matches!(&entry.value.value, Yaml::Bool(true))
                                || matches!(&entry.value.value, Yaml::Text(text) if ["yes", "true"].contains(&text.to_lowercase().as_str()));
                            allow_duplicates = allow_duplicates.or(Some(truth));
                        }
                        "dependencies" => {
                            let items = match &entry.value.value {
                                Yaml::List(items) => items.as_slice(),
                                _ => &[],
                            };
                            let mut parser = Parser::new(&document, self, within.clone());
                            wanted.extend(items.iter().filter_map(|item| parser.role_entry(item)));
                            if let Some(failure) = Failure::all(parser.errors) {
                                return Err(failure);
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        let role = Arc::new(Role {
            name: shown,
            path: path.clone(),
            defaults,
            vars,
            params: query.params.clone(),
            parents: parents.to_vec(),
            allow_duplicates: allow_duplicates.unwrap_or(false),
            included: query.included,
            below: std::sync::OnceLock::new(),
        });
        let inside = Within {
            folder: Arc::new(path.join("tasks")),
            role: Some(Arc::clone(&role)),
            handlers: false,
            depth: within.depth + 1,
        };
        let (mut steps, mut handlers, mut roles) = (Vec::new(), Vec::new(), Vec::new());
        let mut chain = vec![Arc::clone(&role)];
        chain.extend(parents.iter().cloned());
        for (query, common) in wanted {
            let loaded = self.role(&query, &common, &inside, &chain)?;
            steps.push(Step::Block(Box::new(loaded.block)));
            handlers.extend(loaded.handlers);
            roles.extend(loaded.roles);
        }
        let mut below = (Vec::new(), Vec::new());
        for one in &roles {
            if let Some((defaults, vars)) = one.below.get() {
                below.0.extend(defaults.iter().cloned());
                below.1.extend(vars.iter().cloned());
            }
            below.0.extend(one.defaults.iter().cloned());
            below.1.extend(one.vars.iter().cloned());
        }
        let _ = role.below.set(below);
        if let Some(file) = self.role_file(&path.join("handlers"), text(&query.handlers_from).as_deref())? {
            let within = Within { handlers: true, ..inside.clone() };
            handlers.extend(self.tasks_in(&file, &within, 0)?);
        }
        // What is said of a role is said of its handlers too: `become`, say.
        let handlers = Block::of_handlers(handlers, &query.name.place, common);
        if !query.unvalidated {
            let entry = text(&query.tasks_from).unwrap_or_else(|| "main".to_owned());
            steps.extend(self.argument_spec(&role, &inside, &entry)?.map(|task| Step::Task(Box::new(task))));
        }
        if let Some(file) = self.role_file(&path.join("tasks"), text(&query.tasks_from).as_deref())? {
            steps.extend(self.tasks_in(&file, &inside, 0)?);
        }
        roles.push(Arc::clone(&role));
        let told = |texts: &[Text]| texts.iter().map(|text| text.text.clone()).collect::<Vec<_>>();
        let key = serde_json::json!([
            role.path.display().to_string(),
            role.params.iter().map(|(name, _, value)| (name.clone(), value.clone())).collect::<Map<String, Value>>(),
            told(&common.tags),
            told(&common.when),
            text(&query.tasks_from),
        ])
        .to_string();
        let block = Block {
            place: query.name.place.clone(),
            common: common.clone(),
            stands: Stands::Role(Arc::clone(&role), key),
            block: steps,
            rescue: Vec::new(),
            always: Vec::new(),
        };
        Ok(LoadedRole { block, handlers, roles })
    }

    /// The task that holds what the role is given against what it says of its arguments, in `meta/argument_specs` or else in
    /// `meta/main`: before its own tasks, always.
    fn argument_spec(&self, role: &Arc<Role>, within: &Within, entry: &str) -> Result<Option<super::Task>, Failure> {
        let meta = role.path.join("meta");
        let named = ["yml", "yaml", "json"].map(|end| meta.join(format!("argument_specs.{end}")));
        let file = match named.into_iter().find(|path| path.is_file()) {
            Some(file) => file,
            None => match self.role_file(&meta, None)? {
                Some(file) => file,
                None => return Ok(None),
            },
        };
        let document = self.document(&file)?;
        let find = |node: &Node, name: &str| match &node.value {
            Yaml::Map(entries) => entries.iter().find(|entry| entry.name() == name).map(|entry| entry.value.clone()),
            _ => None,
        };
        let entry = Path::new(entry).with_extension("").display().to_string();
        let Some(spec) = find(&document.root, "argument_specs").and_then(|specs| find(&specs, &entry)) else {
            return Ok(None);
        };
        let place = document.place(spec.spot);
        let Yaml::Map(entries) = &spec.value else {
            return if spec.value == Yaml::Null {
                Ok(None)
            } else {
                Err(document
                    .failure(
                        spec.spot,
                        format!("the argument spec {} is a mapping", crate::settings::yaml::quoted(&entry)),
                    )
                    .saw(document.says(&spec)))
            };
        };
        if entries.is_empty() {
            return Ok(None);
        }
        let Some(module) = self.modules.get("validate_argument_spec") else { return Ok(None) };
        let said = find(&spec, "short_description").map(|node| node.to_json());
        let said = said.as_ref().and_then(Value::as_str).map(|said| format!(" - {said}")).unwrap_or_default();
        let options = find(&spec, "options").map(|node| node.to_json()).filter(|options| !options.is_null());
        let context = serde_json::json!({
            "type": "role",
            // A collection's role is called by its own name here.
            "name": role.own_name(),
            "argument_spec_name": entry,
            "path": std::path::absolute(&role.path).unwrap_or_else(|_| role.path.clone()).display().to_string(),
        });
        let text = |text: String| Text { text, place: place.clone() };
        let common = Common {
            name: Some(text(format!("Validating arguments against arg spec '{entry}'{said}"))),
            tags: vec![text("always".to_owned())],
            ..Common::default()
        };
        let args = vec![
            ("argument_spec".to_owned(), place.clone(), options.unwrap_or_else(|| Value::Object(Map::new()))),
            ("validate_args_context".to_owned(), place.clone(), context),
        ];
        let mut task = super::Task::of(module.name, place.clone(), Arc::clone(&within.folder));
        task.common = common;
        task.args = args;
        task.role = Some(Arc::clone(role));
        Ok(Some(task))
    }

    /// Reads a role while a run goes on. `folder` is that of the file which names it, `inside` the role that the file is in.
    ///
    /// # Errors
    /// As [`Loader::playbook`].
    pub fn include_role(
        &self,
        query: &RoleQuery,
        common: &Common,
        folder: &Path,
        inside: Option<Arc<Role>>,
    ) -> Result<LoadedRole, Failure> {
        let parents: Vec<Arc<Role>> =
            inside.iter().cloned().chain(inside.iter().flat_map(|role| role.parents.iter().cloned())).collect();
        let within = Within { folder: Arc::new(folder.to_path_buf()), role: inside, handlers: false, depth: 0 };
        self.role(&RoleQuery { included: true, ..query.clone() }, common, &within, &parents)
    }
}

fn collect(folder: &Path, all: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if path.is_dir() {
            collect(&path, all);
        } else if path.extension().is_none_or(|end| ["yml", "yaml", "json"].iter().any(|known| end == *known)) {
            all.push(path);
        }
    }
}

/// The folder of a file; `.` where its name has none.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
