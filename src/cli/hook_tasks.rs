//! Hooks that are tasks: `before`, `after` and `on_error` of `[hooks]` may name a file with tasks, which run on this
//! machine, or with plays, which run on the hosts that they name.
//!
//! Each has a journal of its own in the run's folder (`hooks/before/`): what fails in it is nothing of the run. They see
//! `ferry_hook`, what is told of the run: `run title cluster`, and behind it `exit ok seconds summary failures`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::args::Common;
use super::open::{self, Opened};
use super::{river, run as runs};
use crate::digest::Hasher;
use crate::event::{Event, Events};
use crate::failure::{Failure, Kind};
use crate::modules::world::World;
use crate::modules::{self, Choices, RunInfo};
use crate::name::RunId;
use crate::plan::{Plan, Tags};
use crate::playbook::Loader;
use crate::report::journal;
use crate::run;
use crate::settings::yaml::Document;

/// How long the tasks of one hook may take.
const LIMIT: Duration = Duration::from_secs(600);

/// What the tasks of hooks need.
pub(super) struct HookTasks {
    opened: Opened,
    common: Common,
}

/// Whether a file holds plays; else it holds tasks.
fn has_plays(document: &Document) -> bool {
    let value = document.root.to_json();
    let first = value.as_array().and_then(|items| items.first());
    first.is_some_and(|first| first.get("hosts").is_some() || first.get("import_playbook").is_some())
}

impl HookTasks {
    /// Nothing is read yet.
    pub(super) fn new(opened: &Opened, common: &Common) -> Self {
        Self { opened: opened.clone(), common: common.clone() }
    }

    /// Carries out the file; what went wrong, in a sentence.
    pub(super) async fn carry_out(&self, name: &str, path: &Path, told: &Value, run_dir: &Path) -> Result<(), String> {
        let dir = run_dir.join("hooks").join(name);
        let work = self.work(name, path, told, dir.clone());
        match tokio::time::timeout(LIMIT, work).await {
            Err(_) => Err(format!("{}: no end within {} s", path.display(), LIMIT.as_secs())),
            Ok(Err(failure)) => Err(failure.to_string()),
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(kind))) => {
                Err(format!("{}: exit {}; its journal is in {}", path.display(), kind.exit_code(), dir.display()))
            }
        }
    }

    async fn work(&self, name: &str, path: &Path, told: &Value, dir: PathBuf) -> Result<Option<Kind>, Failure> {
        let seen = Arc::new(Mutex::new(Hasher::new()));
        let read = runs::reader(&self.opened.vault, &seen, None);
        let plays = has_plays(&read(path)?);
        let mut loader = Loader::new(modules::table());
        loader.roles_path = runs::roles_path(&self.opened.settings);
        loader.extra = self.opened.extra.clone();
        loader.base = path.parent().unwrap_or(Path::new(".")).to_path_buf();
        let first = if plays {
            loader.read = read;
            path.to_path_buf()
        } else {
            // Tasks alone are about this machine.
            let play = loader.base.join(format!("hooks.{name}"));
            let text = format!(
                "- name: \"hooks.{name}\"\n  hosts: localhost\n  connection: local\n  gather_facts: false\n  become: false\n  tasks:\n    - import_tasks: {}\n",
                serde_json::to_string(&path.display().to_string()).unwrap_or_default()
            );
            let itself = play.clone();
            loader.read = Arc::new(move |path| match path == itself {
                true => Document::read(&itself.display().to_string(), &text),
                false => read(path),
            });
            play
        };
        let playbook = loader.playbook(&first)?;
        let extra = loader.extra.clone();
        let inventory = self.opened.inventory.clone();
        let mut plan = Plan::make(&inventory, &[playbook], &extra, None, self.opened.settings.forks, false)?;
        plan.tags = Tags::default();
        // The failures among it are in a host's words: they are read as they are, and never rendered.
        plan.told.insert("ferry_hook".to_owned(), told.clone());
        let (ways, vars) = self.opened.ways(&plan.hosts())?;
        let cannot = |error: std::io::Error| {
            Failure::new(Kind::CouldNotStart, "the hook's journal cannot be kept").saw(error.to_string())
        };
        std::fs::create_dir_all(dir.parent().unwrap_or(&dir)).map_err(cannot)?;
        let journal = journal::Journal::create(&dir).map_err(cannot)?;
        let events = Events::new(self.opened.masker.clone(), Some(Box::new(journal)), Vec::new());
        let started = jiff::Timestamp::now();
        let began = Instant::now();
        let (id, who) = (RunId::at(started), open::who());
        let command = vec!["ferry".to_owned(), format!("hooks.{name}"), path.display().to_string()];
        events.commit(Event::RunStarted {
            format: journal::FORMAT,
            run: id.to_string(),
            ferry: env!("CARGO_PKG_VERSION").to_owned(),
            command: command.clone(),
            user: who.user.clone(),
            machine: who.machine.clone(),
            ci: who.ci.clone(),
            dir: dir.display().to_string(),
            cwd: None,
            playbook_sha256: None,
            inventory_sha256: None,
            resumes: None,
            point: None,
        })?;
        let info = RunInfo {
            id,
            dir,
            who,
            command: command.join(" "),
            flags: String::new(),
            catalog_flag: String::new(),
            started,
            inventory_sha256: None,
            playbook_sha256: None,
        };
        let choices = Choices::plain(river::patience()?);
        let mut world = World::new(events.clone(), info, choices, None, ways, vars, None);
        world.reach = Some(Arc::clone(&self.opened.reach));
        let manner = runs::Manner { loader: Some(loader), ..runs::Manner::default() };
        let options = manner.options(inventory, self.common.verbose, false);
        let recap = run::carry_on(&world, &plan, options, None).await;
        let worst = events.worst();
        let exit = worst.map_or(0, Kind::exit_code);
        events.commit(Event::RunEnded { exit, seconds: began.elapsed().as_secs_f64(), recap })?;
        events.close();
        Ok(worst)
    }
}
