//! Playbooks as they are written: plays, blocks, tasks, roles, each node knowing file, line and column.
//!
//! What lives here: reading playbooks and the files that they name ([`Loader`]) and telling everything that is
//! wrong in them at once, before any host is touched. What does not: which hosts, in which order, with which values
//! (plan and run), and what the modules do (modules).
//!
//! What is *imported* is read at once and stands in the playbook as a block; what is *included* is read by `run` when it gets
//! there, with the same reader.

mod freeform;
mod load;
mod module;
mod read;
mod words;

pub use freeform::pairs;
pub use load::{LoadedRole, Loader, RoleQuery};
pub use module::{Arg, ArgKind, ArgSpec, ModuleSpec, ModuleTable};
pub use read::is_identifier;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::failure::{Failure, Place};
use crate::settings::yaml::showable;

/// A variable as written: name, place of its value, value. Templates in it are not rendered yet.
pub type Var = (String, Place, Value);

/// A text and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// The text, templates not rendered.
    pub text: String,
    /// Where it begins.
    pub place: Place,
}

/// A value of any type as written and where it begins; templates in it are not rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The value.
    pub value: Value,
    /// Where it begins.
    pub place: Place,
}

/// Something that is true or false: written out, or a template or condition to evaluate.
#[derive(Debug, Clone, PartialEq)]
pub enum Flag {
    /// Written out.
    Is(bool),
    /// A template (`"{{ x }}"`) that must give true or false.
    Template(Text),
}

/// What every play, block and task can say about becoming another user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Becoming {
    /// `become`.
    pub wanted: Option<Flag>,
    /// `become_user`.
    pub user: Option<Text>,
    /// `become_method`.
    pub method: Option<Text>,
    /// `become_flags`.
    pub flags: Option<Text>,
    /// `become_exe`.
    pub exe: Option<Text>,
}

/// What plays, roles, blocks and tasks have in common. What one does not say, the one around it does.
#[derive(Debug, Clone, Default)]
pub struct Common {
    /// `name`.
    pub name: Option<Text>,
    /// `when`: all must be true, outer ones first. Bare expressions. A play has none of its own; an import gives it some.
    pub when: Vec<Text>,
    /// `vars`.
    pub vars: Vec<Var>,
    /// `tags`; a template may give several.
    pub tags: Vec<Text>,
    /// `become` and its like.
    pub becoming: Becoming,
    /// `connection`.
    pub connection: Option<Text>,
    /// `remote_user`.
    pub remote_user: Option<Text>,
    /// `port`.
    pub port: Option<Written>,
    /// `environment`: maps, or templates that give one, lowest first.
    pub environment: Vec<Written>,
    /// `module_defaults`: maps of maps, lowest first.
    pub module_defaults: Vec<Written>,
    /// `no_log`.
    pub no_log: Option<Flag>,
    /// `check_mode`.
    pub check_mode: Option<Flag>,
    /// `diff`.
    pub diff: Option<Flag>,
    /// `run_once`.
    pub run_once: Option<Flag>,
    /// `ignore_errors`.
    pub ignore_errors: Option<Flag>,
    /// `ignore_unreachable`.
    pub ignore_unreachable: Option<Flag>,
    /// `any_errors_fatal`.
    pub any_errors_fatal: Option<Flag>,
    /// `throttle`: how many hosts at once.
    pub throttle: Option<Written>,
    /// `timeout`, in seconds.
    pub timeout: Option<Written>,
    /// `delegate_to`.
    pub delegate_to: Option<Text>,
    /// `delegate_facts`.
    pub delegate_facts: Option<Flag>,
    /// `notify`.
    pub notify: Vec<Text>,
}

impl Common {
    /// This, where `outer` stands around it: the nearest word wins, and conditions, variables, tags, `environment` and
    /// `module_defaults` add up, those of `outer` first. Names and `notify` are its own.
    #[must_use]
    pub fn within(self, outer: &Self) -> Self {
        fn both<T: Clone>(outer: &[T], inner: Vec<T>) -> Vec<T> {
            outer.iter().cloned().chain(inner).collect()
        }
        macro_rules! nearest {
            ($($field:ident).+) => {
                self.$($field).+.or_else(|| outer.$($field).+.clone())
            };
        }
        Self {
            name: self.name,
            when: both(&outer.when, self.when),
            vars: both(&outer.vars, self.vars),
            tags: both(&outer.tags, self.tags),
            becoming: Becoming {
                wanted: nearest!(becoming.wanted),
                user: nearest!(becoming.user),
                method: nearest!(becoming.method),
                flags: nearest!(becoming.flags),
                exe: nearest!(becoming.exe),
            },
            connection: nearest!(connection),
            remote_user: nearest!(remote_user),
            port: nearest!(port),
            environment: both(&outer.environment, self.environment),
            module_defaults: both(&outer.module_defaults, self.module_defaults),
            no_log: nearest!(no_log),
            check_mode: nearest!(check_mode),
            diff: nearest!(diff),
            run_once: nearest!(run_once),
            ignore_errors: nearest!(ignore_errors),
            ignore_unreachable: nearest!(ignore_unreachable),
            any_errors_fatal: nearest!(any_errors_fatal),
            throttle: nearest!(throttle),
            timeout: nearest!(timeout),
            delegate_to: nearest!(delegate_to),
            delegate_facts: nearest!(delegate_facts),
            notify: self.notify,
        }
    }
}

/// A playbook.
#[derive(Debug, Clone)]
pub struct Playbook {
    /// The file as the operator would name it.
    pub file: String,
    /// Its text, for snippets.
    pub text: Arc<str>,
    /// Its plays in order, those of imported playbooks among them.
    pub plays: Vec<Play>,
}

/// `vars_prompt`: one question.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// The variable.
    pub name: String,
    /// The question; the variable's name where there is none.
    pub question: Option<Text>,
    /// What is typed is not shown.
    pub private: bool,
    /// What an empty answer means.
    pub default: Option<Written>,
    /// It is asked for twice.
    pub confirm: bool,
    /// Where it stands.
    pub place: Place,
}

/// Who goes next when a task has ended on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// All hosts do one task before any does the next.
    #[default]
    Linear,
    /// Each host goes on by itself.
    Free,
    /// As free, and a host keeps its place until it is through.
    HostPinned,
}

/// A play.
#[derive(Debug, Clone)]
pub struct Play {
    /// Where it begins.
    pub place: Place,
    /// The folder of its file.
    pub folder: PathBuf,
    /// What it shares with blocks and tasks.
    pub common: Common,
    /// `hosts`: patterns, joined by commas when it is a list.
    pub hosts: Text,
    /// `hosts` as it is written: several patterns where it is a list.
    pub patterns: Vec<String>,
    /// `gather_facts`.
    pub gather_facts: Option<Flag>,
    /// `gather_subset`.
    pub gather_subset: Option<Written>,
    /// `gather_timeout` and `fact_path`, as arguments of the module that gathers.
    pub facts: Vec<Arg>,
    /// `vars_files`: each a path, or several of which the first that is there is taken.
    pub vars_files: Vec<Vec<Text>>,
    /// `vars_prompt`.
    pub vars_prompt: Vec<Prompt>,
    /// `serial`: how many hosts, or which part of them (`30%`), each batch has; the last one repeats.
    pub serial: Option<Written>,
    /// `strategy`.
    pub strategy: Option<Strategy>,
    /// `order`.
    pub order: Option<Text>,
    /// `max_fail_percentage`.
    pub max_fail_percentage: Option<Written>,
    /// `force_handlers`.
    pub force_handlers: Option<Flag>,
    /// `pre_tasks`.
    pub pre_tasks: Vec<Step>,
    /// `roles`, each a block.
    pub roles: Vec<Step>,
    /// `tasks`.
    pub tasks: Vec<Step>,
    /// `post_tasks`.
    pub post_tasks: Vec<Step>,
    /// Handlers, those of roles first.
    pub handlers: Vec<Step>,
    /// Roles whose defaults and variables the whole play sees.
    pub open_roles: Vec<Arc<Role>>,
}

/// A role as far as its tasks need to know it.
#[derive(Debug, PartialEq)]
pub struct Role {
    /// Its name as it was called.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// `defaults/main`.
    pub defaults: Vec<Var>,
    /// `vars/main`.
    pub vars: Vec<Var>,
    /// What it was given where it is named.
    pub params: Vec<Var>,
    /// The roles that depend on it, nearest first.
    pub parents: Vec<Arc<Role>>,
    /// It may run more than once.
    pub allow_duplicates: bool,
    /// It was included or imported by a task of its nearest parent, and is no dependency of it.
    pub included: bool,
    /// Defaults and variables of the roles that it depends on, in their order.
    pub below: std::sync::OnceLock<(Vec<Var>, Vec<Var>)>,
}

impl Role {
    /// Its name without that of its collection.
    pub fn own_name(&self) -> &str {
        let collected = self.path.components().any(|part| part.as_os_str() == "ansible_collections");
        if collected { self.name.rsplit('.').next().unwrap_or(&self.name) } else { &self.name }
    }

    /// The roles whose tasks included this one, nearest first.
    pub fn includers(&self) -> Vec<&Self> {
        let mut out = Vec::new();
        let mut at = self;
        while at.included
            && let Some(parent) = at.parents.first()
        {
            out.push(parent.as_ref());
            at = parent;
        }
        out
    }
}

/// One entry of a list of tasks.
#[derive(Debug, Clone)]
pub enum Step {
    /// A task.
    Task(Box<Task>),
    /// A block.
    Block(Box<Block>),
}

impl Step {
    /// Where it begins.
    pub fn place(&self) -> &Place {
        match self {
            Self::Task(task) => &task.place,
            Self::Block(block) => &block.place,
        }
    }
}

/// What a task does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Calls its module with its arguments.
    Module,
    /// `include_tasks`: the file, and what its tasks are given besides.
    IncludeTasks(Text, Box<Common>),
    /// `include_role`.
    IncludeRole(Box<RoleQuery>, Box<Common>),
    /// `meta`.
    Meta(Text),
    /// The module's name is a template: known when the task runs.
    Named(Text),
    /// Ansible has this module and ferry has not: only where told to behave as Ansible does, and then the task fails.
    NotBuilt(String),
}

/// `loop` or one of the `with_` forms.
#[derive(Debug, Clone, PartialEq)]
pub struct Loop {
    /// `None` for `loop`, else the lookup's name: `items`, `dict`, …
    pub with: Option<String>,
    /// The items as written.
    pub items: Written,
}

/// `loop_control`.
#[derive(Debug, Clone, Default)]
pub struct LoopControl {
    /// `loop_var`; `item` where there is none.
    pub loop_var: Option<Text>,
    /// `index_var`.
    pub index_var: Option<Text>,
    /// `label`.
    pub label: Option<Written>,
    /// `pause`, in seconds.
    pub pause: Option<Written>,
    /// `extended`.
    pub extended: Option<Flag>,
    /// `extended_allitems`.
    pub extended_allitems: Option<Flag>,
    /// `break_when`.
    pub break_when: Vec<Text>,
}

/// A task: one module with its arguments.
#[derive(Debug, Clone)]
pub struct Task {
    /// Where it begins.
    pub place: Place,
    /// What it shares with blocks.
    pub common: Common,
    /// What it does.
    pub action: Action,
    /// The module, by its short name.
    pub module: &'static str,
    /// The module as it is written, where that is another name than its short one: what people see of a task without a name.
    pub called: Option<String>,
    /// Where the module is named.
    pub module_place: Place,
    /// Its arguments in the order they are written; values with templates are not checked yet. The text
    /// of a free-form module is the argument `cmd`.
    pub args: Vec<Arg>,
    /// Arguments that a template gives: a map, below those of `args`.
    pub args_template: Option<Written>,
    /// `register`.
    pub register: Option<Text>,
    /// `changed_when`: all must be true. Bare expressions.
    pub changed_when: Option<Vec<Text>>,
    /// `failed_when`: all must be true. Bare expressions.
    pub failed_when: Option<Vec<Text>>,
    /// `loop` or `with_…`.
    pub repeat: Option<Loop>,
    /// `loop_control`.
    pub loop_control: LoopControl,
    /// `until`: all must be true. Bare expressions.
    pub until: Vec<Text>,
    /// `retries`.
    pub retries: Option<Written>,
    /// `delay`, in seconds.
    pub delay: Option<Written>,
    /// `async`, in seconds: how long it may go on without us.
    pub background: Option<Written>,
    /// `poll`, in seconds: how often it is asked for; 0 is not at all.
    pub poll: Option<Written>,
    /// `listen`, of a handler.
    pub listen: Vec<Text>,
    /// The folder of its file.
    pub folder: Arc<PathBuf>,
    /// The role that it is in.
    pub role: Option<Arc<Role>>,
    /// Its number in the plan, from 1; 0 for what is included while the run goes on.
    pub number: usize,
}

impl Task {
    /// A task that calls `module`, without arguments and keys.
    pub fn of(module: &'static str, place: Place, folder: Arc<PathBuf>) -> Self {
        Self {
            module_place: place.clone(),
            place,
            common: Common::default(),
            action: Action::Module,
            module,
            called: None,
            args: Vec::new(),
            args_template: None,
            register: None,
            changed_when: None,
            failed_when: None,
            repeat: None,
            loop_control: LoopControl::default(),
            until: Vec::new(),
            retries: None,
            delay: None,
            background: None,
            poll: None,
            listen: Vec::new(),
            folder,
            role: None,
            number: 0,
        }
    }
}

/// What a block stands for.
#[derive(Debug, Clone, Default)]
pub enum Stands {
    /// A block as written.
    #[default]
    Block,
    /// The tasks of an imported or included file: `vars` count as its parameters.
    File,
    /// A role with all that it depends on; the text tells it apart from the same role with other parameters.
    Role(Arc<Role>, String),
}

impl Block {
    /// Handlers with what stands around the role or file that brings them; none where there is none.
    pub fn of_handlers(handlers: Vec<Step>, place: &Place, common: &Common) -> Vec<Step> {
        if handlers.is_empty() {
            return handlers;
        }
        vec![Step::Block(Box::new(Self {
            place: place.clone(),
            common: common.clone(),
            stands: Stands::Block,
            block: handlers,
            rescue: Vec::new(),
            always: Vec::new(),
        }))]
    }
}

/// A block.
#[derive(Debug, Clone)]
pub struct Block {
    /// Where it begins.
    pub place: Place,
    /// What it shares with tasks.
    pub common: Common,
    /// What it stands for.
    pub stands: Stands,
    /// `block`.
    pub block: Vec<Step>,
    /// `rescue`.
    pub rescue: Vec<Step>,
    /// `always`.
    pub always: Vec<Step>,
}

impl Play {
    /// Every list of tasks in the order in which they run, handlers last.
    pub fn lists(&self) -> [&[Step]; 5] {
        [&self.pre_tasks, &self.roles, &self.tasks, &self.post_tasks, &self.handlers]
    }

    /// As [`lists`](Self::lists), to change them.
    pub fn lists_mut(&mut self) -> [&mut Vec<Step>; 5] {
        [&mut self.pre_tasks, &mut self.roles, &mut self.tasks, &mut self.post_tasks, &mut self.handlers]
    }
}

/// What is to be said of a variable whose name means something else already; `None` for any other name. `words` are Ansible's.
pub fn reserved(name: &str, place: &crate::failure::Place, words: bool) -> Option<String> {
    if !words::RESERVED.contains(&name) {
        return None;
    }
    Some(if words {
        format!("Found variable using reserved name '{name}'.\nOrigin: {place}")
    } else {
        format!(
            "{place}: the variable {name} has the name of a keyword or function: templates may take one for the other"
        )
    })
}

impl Playbook {
    /// Reads the playbook `text` of `file`. Modules and their arguments are checked against `modules`.
    ///
    /// # Errors
    /// [`crate::failure::Kind::CouldNotStart`] with all that is wrong, each with file, line, column and snippet.
    pub fn parse(file: &str, text: &str, modules: &ModuleTable) -> Result<Self, Failure> {
        Loader::new(modules.clone()).playbook_text(file, text)
    }

    /// A failure at a place of this playbook with its snippet.
    pub fn failure_at(&self, place: &Place, what: impl Into<String>) -> Failure {
        Failure::new(crate::failure::Kind::CouldNotStart, what).in_text(
            &place.file,
            &showable(&self.text),
            place.line,
            place.column,
        )
    }
}
