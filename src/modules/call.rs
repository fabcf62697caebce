//! One call of a module on one host: what a module of scope *host* is given, and its ways to that host.
//!
//! What lives here: [`Call`] with its arguments, the conversation with the host as the task's own user, and where
//! files beside the playbook are looked for. What does not: whether the task runs at all (`run`), what single modules do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Done, World};
use crate::event::Outcome;
use crate::failure::{Failure, Kind, Place};
use crate::remote::shell::{Ahead, Shell};
use crate::remote::{Child, Said, Session, Way, quote};
use crate::template::{Scope, Templater};

/// Where files that a task names are looked for, nearest first.
#[derive(Debug, Clone, Default)]
pub struct Folders {
    /// The playbook's folder.
    pub playbook: PathBuf,
    /// The role that the task is in.
    pub role: Option<PathBuf>,
    /// The folder of the file that the task is written in.
    pub here: PathBuf,
    /// The roles that depend on or include this one, nearest first.
    pub parents: Vec<PathBuf>,
}

impl Folders {
    /// Where `name` is looked for, in order. `kind` is the folder that such files are in by custom: `files`, `templates`, `vars`, `tasks`.
    pub fn candidates(&self, kind: &str, name: &str) -> Vec<PathBuf> {
        let given = expand_home(name);
        if given.is_absolute() {
            return vec![given];
        }
        let mut all: Vec<PathBuf> = Vec::new();
        let mut add = |path: PathBuf| {
            if !all.contains(&path) {
                all.push(path);
            }
        };
        let roles = self.role.iter().chain(&self.parents);
        for role in roles {
            add(role.join(kind).join(&given));
            add(role.join(&given));
            add(role.join("tasks").join(kind).join(&given));
            add(role.join("tasks").join(&given));
        }
        for folder in [&self.here, &self.playbook] {
            add(folder.join(kind).join(&given));
            add(folder.join(&given));
        }
        all
    }
}

fn expand_home(name: &str) -> PathBuf {
    match (name.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(name),
    }
}

/// What a call talks to: a way and the name under which its connection is kept.
#[derive(Debug, Clone)]
pub struct Line {
    /// Tells connections apart: the host and what its connection variables say for this task.
    pub key: String,
    /// The way, with the task's become plan in it.
    pub way: Arc<Way>,
}

/// One call of a module on one host.
pub struct Call<'a> {
    /// What modules may reach.
    pub world: &'a World,
    /// The inventory's name of the host whose task it is.
    pub host: &'a str,
    /// Where it runs: the host itself, or that of `delegate_to`.
    pub on: &'a str,
    /// The module's short name.
    pub module: &'static str,
    /// Its arguments, rendered, checked, in the types of its [`ModuleSpec`](crate::playbook::ModuleSpec), defaults filled in. Arguments of kind
    /// [`ArgKind::Expr`](crate::playbook::ArgKind::Expr) are as written: see [`Call::scope`].
    pub args: &'a Map<String, Value>,
    /// Say what would be done, and change nothing.
    pub check: bool,
    /// Say what differs: fill [`Done::diff`].
    pub diff: bool,
    /// `environment`, rendered, lowest first. [`Call::run`] and [`Call::start`] set it.
    pub environment: Vec<(String, String)>,
    /// `timeout` of the task; carried out by whoever calls. A module needs it only to tell the host.
    pub timeout: Option<Duration>,
    /// Neither arguments nor results are shown or kept anywhere.
    pub no_log: bool,
    /// How many `-v` were given.
    pub verbosity: u8,
    /// Renders what the module reads from files ([`Call::search`]) or takes as expressions.
    pub templater: Templater,
    /// The task's variables.
    pub scope: Scope,
    /// Where the module is named.
    pub place: Option<Place>,
    /// Where files are looked for.
    pub folders: Folders,
    /// What it talks to; `None` means the inventory's way to [`Call::on`].
    pub line: Option<Line>,
    /// Its arguments came out of a template as a whole, of this expression: expressions among them are not the operator's own words.
    pub templated: Option<String>,
    /// `async`: it goes on without us.
    pub background: Option<Background>,
    /// The script of the task that follows for certain if this one ends with 0, with its [`Call::prelude`].
    pub ahead: Ahead,
}

/// `async` and `poll` of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Background {
    /// How long it may take, in seconds.
    pub seconds: u64,
    /// How often it is asked for, in seconds; 0: it is not waited for.
    pub poll: u64,
}

impl<'a> Call<'a> {
    /// A call without a playbook around it.
    pub fn plain(world: &'a World, host: &'a str, module: &'static str, args: &'a Map<String, Value>) -> Self {
        Self {
            world,
            host,
            on: host,
            module,
            args,
            check: world.choices.check,
            diff: false,
            environment: Vec::new(),
            timeout: None,
            no_log: false,
            verbosity: 0,
            templater: Templater::new(),
            scope: Scope::new(),
            place: None,
            folders: Folders::default(),
            line: None,
            templated: None,
            background: None,
            ahead: None,
        }
    }

    /// The conversation with the host, as the task's user: [`Session::open_root`] there becomes whom the task becomes, or nobody.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] with the chain.
    pub async fn session(&self) -> Result<Session, Failure> {
        match &self.line {
            Some(line) => self.world.session_by(&line.key, &line.way).await,
            None => self.world.session(self.on).await,
        }
    }

    fn shell(&self, session: &Session) -> Shell {
        let plan = session.become_plan();
        let who =
            if plan.on { format!("{}\0{}\0{}", plan.exe, plan.user, plan.flags.join(" ")) } else { String::new() };
        let key = self.line.as_ref().map_or(self.on, |line| line.key.as_str());
        self.world.shell(&format!("{key}\0{who}"))
    }

    /// Whether this is the name of the loop's item.
    pub fn is_item(&self, name: &str) -> bool {
        let known = self.templater.render("{{ ansible_loop_var | default('') }}", None, &self.scope);
        known.is_ok_and(|known| known.as_str() == Some(name))
    }

    /// True where the task runs on this machine, without a connection.
    pub fn is_local(&self) -> bool {
        match &self.line {
            Some(line) => matches!(*line.way, Way::Local(_)),
            None => matches!(self.world.way(self.on), Ok(Way::Local(_))),
        }
    }

    /// The lines that stand before each script: the folder (on this machine the playbook's, elsewhere the user's own) and `environment`.
    ///
    /// # Errors
    /// A NUL in a value.
    pub fn prelude(&self) -> Result<String, Failure> {
        let nul =
            |_| Failure::new(Kind::CouldNotStart, "a NUL cannot be part of an environment variable").on(self.host);
        let mut out = String::new();
        if self.is_local() && !self.folders.playbook.as_os_str().is_empty() {
            let folder = std::path::absolute(&self.folders.playbook).unwrap_or_else(|_| self.folders.playbook.clone());
            out.push_str(&format!("cd {} 2>/dev/null || :\n", quote(&folder.to_string_lossy()).map_err(nul)?));
        }
        for (name, value) in &self.environment {
            let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !good {
                return Err(Failure::new(
                    Kind::CouldNotStart,
                    format!("environment: {name:?} is not the name of a variable"),
                )
                .on(self.host));
            }
            out.push_str(&format!("export {name}={}\n", quote(value).map_err(nul)?));
        }
        Ok(out)
    }

    /// Runs a short script as the task's user, in its environment, with empty input, and gathers what it says.
    ///
    /// # Errors
    /// As [`Shell::run`].
    pub async fn run(&self, script: &str, patience: Duration) -> Result<Said, Failure> {
        let session = self.session().await?;
        let script = format!("{}{script}", self.prelude()?);
        self.shell(&session).run(&session, &script, patience).await
    }

    /// Starts a script as the task's user, in its environment, with empty input; its output is read piece by piece.
    ///
    /// # Errors
    /// As [`Shell::start`].
    pub async fn start(&self, script: &str) -> Result<Child, Failure> {
        let session = self.session().await?;
        let script = format!("{}{script}", self.prelude()?);
        self.shell(&session).start(&session, &script).await
    }

    /// As [`Call::start`], for the one script that the task is: [`Call::ahead`] goes with it.
    ///
    /// # Errors
    /// As [`Shell::start_before`].
    pub async fn start_task(&self, script: &str) -> Result<Child, Failure> {
        let session = self.session().await?;
        let script = format!("{}{script}", self.prelude()?);
        self.shell(&session).start_before(&session, &script, self.ahead.clone()).await
    }

    /// Starts a script on a channel of its own, whose input stays open for what the script reads.
    ///
    /// # Errors
    /// As [`Session::open_root`].
    pub async fn open(&self, script: &str) -> Result<Child, Failure> {
        let session = self.session().await?;
        session.open_root(&format!("{}{script}", self.prelude()?)).await
    }

    /// A file or folder beside the playbook or in its role: the first that is there. `kind` as in [`Folders::candidates`].
    ///
    /// # Errors
    /// [`Kind::Failed`] with all places where it was looked for.
    pub fn search(&self, kind: &str, name: &str) -> Result<PathBuf, Failure> {
        let all = self.folders.candidates(kind, name);
        if let Some(found) = all.iter().find(|path| path.exists()) {
            return Ok(found.clone());
        }
        let list: Vec<String> = all.iter().map(|path| path.display().to_string()).collect();
        Err(Failure::new(Kind::Failed, format!("could not find or access {name:?}"))
            .on(self.host)
            .saw(format!("looked for {}", list.join(", ")))
            .mend("put the file there, or name it by its whole path"))
    }

    /// An argument as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.args.get(name).and_then(Value::as_str)
    }

    /// An argument that is true or false; `false` when it is not given.
    pub fn flag(&self, name: &str) -> bool {
        self.args.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// An argument that is a whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.args.get(name).and_then(Value::as_i64)
    }

    /// An argument that is a list of texts; empty when it is not given.
    pub fn list(&self, name: &str) -> Vec<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match self.args.get(name) {
            Some(Value::Array(items)) => items.iter().map(text).collect(),
            Some(Value::Null) | None => Vec::new(),
            Some(other) => vec![text(other)],
        }
    }

    /// The module's own way to fail: `msg` and what else its result has. The host is failed, `register` keeps all of it.
    pub fn failed(&self, message: impl Into<String>, result: Value) -> Done {
        Done::failed(message, result)
    }

    /// The folder that relative paths on this side begin in.
    pub fn base(&self) -> &Path {
        &self.folders.playbook
    }
}

/// What a module does to the run itself, beside its host: carried out by `run`.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Effect {
    /// Nothing.
    #[default]
    None,
    /// `add_host`.
    AddHost {
        /// The new host's name.
        name: String,
        /// The groups that it is put in, made where they are not there.
        groups: Vec<String>,
        /// Its variables.
        vars: Map<String, Value>,
    },
    /// `group_by`: the host is put in this group.
    GroupBy {
        /// The group.
        key: String,
        /// Its parents.
        parents: Vec<String>,
    },
    /// `include_vars`: variables as the operator wrote them, templates not rendered.
    Vars(Vec<crate::playbook::Var>),
    /// Everything that [`Done::result`] has under `ansible_facts` is kept as facts of the host, not as variables of the run.
    Facts,
}

impl Done {
    /// The module failed, in its own words.
    pub fn failed(message: impl Into<String>, result: Value) -> Self {
        let mut done = Self { outcome: Outcome::Failed, ..Self::ok(message, result) };
        if let Some(map) = done.result.as_object_mut() {
            map.insert("failed".to_owned(), Value::Bool(true));
            if !map.contains_key("msg") {
                map.insert("msg".to_owned(), Value::String(done.message.clone()));
            }
        }
        done
    }

    /// With what differs, as Ansible's `diff` has it: objects with `before`, `after`, `before_header`, `after_header`, or `prepared`.
    #[must_use]
    pub fn with_diff(mut self, diff: Value) -> Self {
        self.diff = Some(diff);
        self
    }

    /// With what it does to the run.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }
}
