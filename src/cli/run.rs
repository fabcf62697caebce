//! `ferry run PLAYBOOK…`: any playbook.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;

use super::args::{Common, Confirmation};
use super::playing::{Playing, step_needs_somebody};
use super::river::{self, Journey};
use super::{compat, open, prompt};
use crate::digest::Hasher;
use crate::failure::{Failure, Kind};
use crate::inventory::Inventory;
use crate::modules::{self, Choices};
use crate::plan::{self, Plan, Tags};
use crate::playbook::{Loader, Playbook};
use crate::report::Sink;
use crate::run::{Options, Step1};
use crate::settings::yaml::Document;
use crate::settings::{Settings, ansible_cfg};
use crate::vault::Vault;

/// `ferry run`
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Playbooks, in order
    #[arg(required = true, value_name = "PLAYBOOK")]
    pub(super) playbooks: Vec<PathBuf>,
    /// Say what would be done
    #[arg(short = 'C', long)]
    pub(super) check: bool,
    #[command(flatten)]
    pub(super) playing: Playing,
    /// Run handlers although a task has failed
    #[arg(long)]
    force_handlers: bool,
    /// Forget the facts that were kept from earlier runs (fact_caching in ansible.cfg)
    #[arg(long)]
    flush_cache: bool,
    /// As Ansible's: ferry's modules are inside of it
    #[arg(short = 'M', long, value_name = "DIR")]
    module_path: Option<PathBuf>,
    /// How hosts are reached where nothing says so: ssh, local
    #[arg(short = 'c', long, value_name = "KIND")]
    connection: Option<String>,
    /// How to become another user where nothing says so: sudo
    #[arg(long, value_name = "METHOD")]
    become_method: Option<String>,
    /// Whom to become where nothing says so
    #[arg(long, value_name = "USER")]
    become_user: Option<String>,
    /// Further options of ssh
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    ssh_extra_args: Option<String>,
    /// As Ansible's: ferry starts no sftp
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    sftp_extra_args: Option<String>,
    /// As Ansible's: ferry starts no scp
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    scp_extra_args: Option<String>,
    /// Go on although this gate says no: GATE=REASON
    #[arg(long, value_name = "GATE=REASON")]
    pub(super) waive: Vec<String>,
    /// What a restore in the playbook must be told
    #[command(flatten)]
    pub(super) confirmation: Confirmation,
    /// Shared options
    #[command(flatten)]
    pub(super) common: Common,
}

/// What `run` was told besides what all commands know.
#[derive(Debug, Clone, Default)]
pub(super) struct Manner {
    pub(super) facts: Option<crate::run::FactCache>,
    pub(super) diff: bool,
    pub(super) tags: Tags,
    pub(super) start_at: Option<String>,
    pub(super) step: bool,
    pub(super) force_handlers: bool,
    pub(super) connection: Option<String>,
    pub(super) remote_user: Option<String>,
    pub(super) become_method: Option<String>,
    pub(super) become_user: Option<String>,
    /// Facts are gathered only where a play says so.
    pub(super) no_facts: bool,
    /// What is listed instead of being done.
    pub(super) lists: super::playing::Lists,
    /// The folder that `exec` puts a file for each host into.
    pub(super) tree: Option<PathBuf>,
    /// Reads what is included on the way; `None` where nothing can be.
    pub(super) loader: Option<Loader>,
}

/// Tags as they are typed: several words, commas within.
pub(super) fn tags(given: &[String]) -> Vec<String> {
    given
        .iter()
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .map(str::to_owned)
        .collect()
}

impl Manner {
    /// What the engine is told.
    pub(super) fn options(&self, inventory: Inventory, verbosity: u8, person: bool) -> Options {
        let mut loader = self.loader.clone().unwrap_or_else(|| Loader::new(modules::table()));
        loader.lenient = compat::on();
        Options {
            inventory,
            loader,
            diff: self.diff || ansible_cfg::says("diff.always"),
            force_handlers: self.force_handlers || ansible_cfg::says("defaults.force_handlers"),
            // The playbooks that ferry brings are written for one order.
            strategy: match ansible_cfg::in_force("defaults.strategy").filter(|_| self.loader.is_some()).as_deref() {
                Some("free") => Some(crate::playbook::Strategy::Free),
                Some("host_pinned") => Some(crate::playbook::Strategy::HostPinned),
                Some("linear") => Some(crate::playbook::Strategy::Linear),
                _ => None,
            },
            start_at: self.start_at.clone(),
            step: self.step.then(|| Arc::new(ask_step) as Arc<dyn Fn(&str) -> Step1 + Send + Sync>),
            verbosity,
            compat: compat::on(),
            connection: self.connection.clone(),
            remote_user: self.remote_user.clone().or_else(|| ansible_cfg::in_force("defaults.remote_user")),
            become_method: self.become_method.clone(),
            become_user: self.become_user.clone(),
            gathering: self.loader.is_some()
                && !self.no_facts
                && ansible_cfg::in_force("defaults.gathering").as_deref() != Some("explicit"),
            smart: ansible_cfg::in_force("defaults.gathering").as_deref() == Some("smart"),
            reread: None,
            facts: self.facts.clone(),
            poll: ansible_cfg::in_force("defaults.poll_interval").and_then(|text| text.trim().parse().ok()),
            prompt: (person || compat::on())
                .then(|| Arc::new(prompt::answer) as Arc<dyn Fn(&str, bool) -> Option<String> + Send + Sync>),
        }
    }
}

/// What Ansible's settings say for plays that do not say it themselves.
pub(super) fn put_settings_into(playbooks: &mut [Playbook]) {
    use crate::playbook::{Flag, Written};
    let written = |name: &str, place: &crate::failure::Place| {
        let text = ansible_cfg::in_force(name)?;
        let value = text.trim().parse::<i64>().map_or(serde_json::Value::String(text), Into::into);
        Some(Written { value, place: place.clone() })
    };
    let flag = |name: &str| ansible_cfg::says(name).then_some(Flag::Is(true));
    for play in playbooks.iter_mut().flat_map(|playbook| &mut playbook.plays) {
        let place = play.place.clone();
        let common = &mut play.common;
        common.any_errors_fatal = common.any_errors_fatal.take().or_else(|| flag("defaults.any_errors_fatal"));
        common.no_log = common.no_log.take().or_else(|| flag("defaults.no_log"));
        let timeout = || written("defaults.task_timeout", &place).filter(|given| given.value != 0);
        common.timeout = common.timeout.take().or_else(timeout);
        let subset = || written("defaults.gather_subset", &place);
        play.gather_subset = play.gather_subset.take().or_else(subset);
    }
}

fn ask_step(task: &str) -> Step1 {
    let answer = prompt::answer(&format!("Perform task: {task} (N)o/(y)es/(c)ontinue: "), true);
    match answer.unwrap_or_default().trim().to_lowercase().as_str() {
        "y" | "yes" => Step1::Yes,
        "c" | "continue" => Step1::Continue,
        _ => Step1::No,
    }
}

/// Where roles are looked for besides beside the playbook.
pub(super) fn roles_path(settings: &Settings) -> Vec<PathBuf> {
    let typed = std::env::var("ANSIBLE_ROLES_PATH").or_else(|_| std::env::var("FERRY_ROLES_PATH")).ok();
    let typed = typed.filter(|given| !given.is_empty());
    // In a file, paths begin where the file is.
    let (given, folder) = match (typed, ansible_cfg::in_force("defaults.roles_path")) {
        (Some(given), _) => (given, None),
        (None, Some(given)) => (given, settings.ansible.folder()),
        (None, None) => return Vec::new(),
    };
    let home = std::env::var_os("HOME").map(PathBuf::from);
    std::env::split_paths(&given)
        .filter(|path| !path.as_os_str().is_empty())
        .map(|path| match (path.strip_prefix("~"), &home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => folder.map_or_else(|| path.clone(), |folder| folder.join(&path)),
        })
        .collect()
}

/// A reader of documents that keeps their digests.
pub(super) fn reader(
    vault: &Arc<Vault>,
    seen: &Arc<Mutex<Hasher>>,
    twice: Option<&str>,
) -> Arc<dyn Fn(&Path) -> Result<Document, Failure> + Send + Sync> {
    let (vault, seen) = (Arc::clone(vault), Arc::clone(seen));
    let twice = twice.map(str::to_owned);
    Arc::new(move |path| {
        let mut document = vault.read_document(path)?;
        match (twice.as_deref(), document.warnings.first()) {
            (Some("ignore"), _) => document.warnings.clear(),
            (Some("error"), Some(first)) => {
                let mut failure = Failure::new(Kind::CouldNotStart, first.clone());
                failure.place = Some(document.place(document.root.spot));
                return Err(failure);
            }
            _ => {}
        }
        seen.lock().unwrap_or_else(PoisonError::into_inner).update(document.text.as_bytes());
        Ok(document)
    })
}

/// `playbooks` as they are read, all that is wrong told at once.
fn read(paths: &[PathBuf], loader: &Loader) -> Result<Vec<Playbook>, Failure> {
    let (mut playbooks, mut failures) = (Vec::new(), Vec::new());
    for path in paths {
        if !path.exists() && loader.lenient {
            let what = format!("the playbook: {} could not be found", path.display());
            failures.push(Failure::new(Kind::CouldNotStart, what));
            continue;
        }
        let mut loader = loader.clone();
        loader.base =
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
        match loader.playbook(path) {
            Ok(playbook) => playbooks.push(playbook),
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures).map_or(Ok(playbooks), Err)
}

pub(super) async fn run(mut args: RunArgs) -> Result<u8, Failure> {
    let folder = args
        .playbooks
        .first()
        .map(|path| path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned());
    if let Some(more) = &args.ssh_extra_args {
        let before = args.common.ssh_common_args.take().map(|before| format!("{before} ")).unwrap_or_default();
        args.common.ssh_common_args = Some(format!("{before}{more}"));
    }
    if let Some(modules) = &args.module_path {
        open::warn([&format!("-M {}: ferry's modules are inside of it, and no others are run", modules.display())]);
    }
    let opened = open::open(&args.common, folder.as_deref());
    // Playbooks are read first: what is wrong in them and in the inventory is told together where both can be.
    let seen = Arc::new(Mutex::new(Hasher::new()));
    let (vault, extra) = match &opened {
        Ok(opened) => (Arc::clone(&opened.vault), opened.extra.clone()),
        Err(_) => (Arc::new(Vault::default()), serde_json::Map::new()),
    };
    let mut loader = Loader::new(modules::table());
    let twice = opened.as_ref().ok().and_then(|opened| opened.settings.ansible.get("defaults.duplicate_dict_key"));
    loader.read = reader(&vault, &seen, twice);
    loader.roles_path = opened.as_ref().map(|opened| roles_path(&opened.settings)).unwrap_or_default();
    loader.lenient = compat::on();
    let opener = Arc::clone(&vault);
    loader.templater.opens_with(Arc::new(move |path, _| opener.read_text(path)));
    loader.extra = extra;
    loader.base = folder.unwrap_or_else(|| PathBuf::from("."));
    let mut playbooks = match read(&args.playbooks, &loader) {
        Ok(playbooks) => playbooks,
        Err(failure) => {
            return Err(match opened {
                Err(other) => Failure::all([other, failure]).unwrap_or_else(|| Failure::new(Kind::Bug, "no failure")),
                Ok(_) => compat::of_parsing(failure),
            });
        }
    };
    let opened = opened?;
    put_settings_into(&mut playbooks);
    let more = ansible_cfg::in_force("defaults.verbosity").and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0);
    args.common.verbose = args.common.verbose.saturating_add(more.min(6));
    let cluster = match opened.extra.get("ferry_cluster").and_then(|value| value.as_str()) {
        Some(name) => Some(river::cluster(&opened.inventory, name)?),
        None => None,
    };
    if let (true, Some(limit)) = (compat::on(), args.common.limit.as_deref()) {
        let all = opened.inventory.select("all").unwrap_or_default();
        let none = match opened.inventory.limit_matching(&all, limit) {
            Ok(left) => left.hosts.is_empty(),
            Err(failure) if failure.kind == Kind::NoHost => true,
            Err(failure) => {
                return Err(Failure {
                    kind: Kind::CouldNotStart,
                    what: format!("{} (what --limit names behind @ must be a file)", failure.what),
                    ..failure
                });
            }
        };
        if none && !all.is_empty() {
            let what = "Specified inventory, host pattern and/or --limit leaves us with no hosts to target.";
            return Err(Failure::new(Kind::CouldNotStart, what).saw(limit.to_owned()));
        }
    }
    let mut manner = args.playing.manner();
    for (setting, list) in [("tags.run", &mut manner.tags.only), ("tags.skip", &mut manner.tags.skip)] {
        if list.is_empty() {
            *list = tags(&ansible_cfg::in_force(setting).into_iter().collect::<Vec<_>>());
        }
    }
    if manner.lists.any() {
        let mut plan = Plan::make(
            &opened.inventory,
            &playbooks,
            &opened.extra,
            args.common.limit.as_deref(),
            opened.settings.forks,
            compat::on(),
        )?;
        plan.tags = manner.tags;
        let text = if compat::on() && !manner.lists.of_plan() {
            plan.plays.first().map(|play| format!("\nplaybook: {}\n", play.file))
        } else {
            manner.lists.of(&plan)
        };
        Sink::stdout().put(&text.unwrap_or_default());
        return Ok(0);
    }
    if !compat::on() {
        step_needs_somebody(manner.step)?;
    }
    let needs_catalog = playbooks.iter().flat_map(|playbook| &playbook.plays).any(|play| {
        play.lists().iter().any(|list| {
            plan::calls(
                list,
                &[
                    "gravity_preflight",
                    "gravity_backup",
                    "amv_backup",
                    "nfs_backup",
                    "nfs_restore",
                    "archive_collect",
                    "point_seal",
                    "restore_gates",
                    "safety_backup",
                    "archive_deliver",
                    "gravity_restore",
                    "amv_restore",
                ],
            )
        })
    });
    let title = args.playbooks.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let choices = Choices {
        check: args.check,
        only: Vec::new(),
        label: None,
        hold: None,
        waive: river::waivers(&args.waive)?,
        patience: river::patience()?,
        restore: super::restore::choices(
            opened.extra.get("ferry_point").and_then(|value| value.as_str()).map(str::to_owned),
            opened.extra.get("ferry_from").and_then(|value| value.as_str()).map(str::to_owned),
            args.confirmation,
        ),
    };
    let digest = seen.lock().unwrap_or_else(PoisonError::into_inner).clone().finish();
    let facts = crate::run::FactCache::in_force()?;
    if let (true, Some(cache)) = (args.flush_cache, &facts) {
        cache.flush()?;
    }
    args.common.manner = Manner {
        remote_user: args.common.user.clone(),
        facts,
        force_handlers: args.force_handlers,
        connection: args.connection,
        become_method: args.become_method,
        become_user: args.become_user,
        loader: Some(loader),
        ..manner
    };
    river::flow(Journey {
        opened,
        playbooks,
        playbook_digest: Some(digest),
        cluster,
        choices,
        common: args.common,
        title,
        first: Vec::new(),
        needs_catalog,
    })
    .await
}
