//! The river: read, plan, show, run, report. `backup` and `run` both flow through here.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{Common, OutputKind};
use super::open::{self, Opened};
use super::{compat, encryption, hook_tasks, notify, points_place, prompt};
use crate::catalog::Catalog;
use crate::digest::Sha256;
use crate::event::{Event, Events, Window};
use crate::failure::{Failure, Kind};
use crate::inventory::Inventory;
use crate::modules::world::World;
use crate::modules::{Choices, RestoreChoices, RunInfo};
use crate::name::{ClusterName, RunId};
use crate::plan::Plan;
use crate::playbook::Playbook;
use crate::report::{self, Output, journal};
use crate::run;
use crate::volume::Keep;

/// How a run is asked to speak.
pub(super) fn output(kind: OutputKind) -> Output {
    match kind {
        OutputKind::Human => Output::Human,
        OutputKind::Json => Output::Json,
        OutputKind::Plain => Output::Plain,
        OutputKind::Quiet => Output::Quiet,
    }
}

/// `GATE=REASON`, several.
pub(super) fn waivers(given: &[String]) -> Result<std::collections::BTreeMap<String, String>, Failure> {
    let known = crate::modules::gravity_preflight::WAIVABLE;
    let mut waive = std::collections::BTreeMap::new();
    for text in given {
        let wrong = |what: String| {
            Failure::new(Kind::Usage, format!("--waive {text}: {what}"))
                .mend("--waive GATE=REASON, the reason is kept in journal and point")
        };
        let (gate, reason) = text.split_once('=').ok_or_else(|| wrong("there is no reason".to_owned()))?;
        if reason.trim().is_empty() {
            return Err(wrong("the reason is empty".to_owned()));
        }
        if !known.contains(&gate) {
            let never = ["digest", "verdict", "version", "identity", "confirmation", "lock", "active"];
            let what = if never.contains(&gate) {
                format!("nothing waives the gate {gate}")
            } else {
                format!("there is no gate {gate}; these can be waived: {}", known.join(", "))
            };
            return Err(wrong(what));
        }
        waive.insert(gate.to_owned(), reason.to_owned());
    }
    Ok(waive)
}

/// What opens archives, as it was typed for a restore.
pub(super) fn openers(asked: &RestoreChoices) -> encryption::OpenArgs {
    encryption::OpenArgs { identity: asked.identities.clone(), passphrase_from: asked.passphrase_from.clone() }
}

/// What a run needs to begin.
pub(super) struct Journey {
    pub(super) opened: Opened,
    pub(super) playbooks: Vec<Playbook>,
    pub(super) playbook_digest: Option<Sha256>,
    pub(super) cluster: Option<ClusterName>,
    pub(super) choices: Choices,
    pub(super) common: Common,
    /// Lines that open the first screen.
    pub(super) title: String,
    pub(super) first: Vec<String>,
    pub(super) needs_catalog: bool,
}

impl Journey {
    /// Of a playbook that was made of what was typed, where no cluster, catalog or first screen is in play.
    ///
    /// # Errors
    /// As [`patience`].
    pub(super) fn typed(
        opened: Opened,
        playbook: Playbook,
        digest: Sha256,
        title: String,
        check: bool,
        common: Common,
    ) -> Result<Self, Failure> {
        let choices = Choices { check, ..Choices::plain(patience()?) };
        Ok(Self {
            opened,
            playbooks: vec![playbook],
            playbook_digest: Some(digest),
            cluster: None,
            choices,
            common,
            title,
            first: Vec::new(),
            needs_catalog: false,
        })
    }
}

/// How long a lost connection is sought again. `FERRY_LINK_PATIENCE` in seconds.
pub(super) fn patience() -> Result<Duration, Failure> {
    match std::env::var("FERRY_LINK_PATIENCE") {
        Err(_) => Ok(Duration::from_secs(15 * 60)),
        Ok(text) => text
            .parse()
            .map(Duration::from_secs)
            .map_err(|_| Failure::new(Kind::CouldNotStart, "FERRY_LINK_PATIENCE is no number of seconds").saw(text)),
    }
}

/// The run's door, journal and windows.
struct Telling {
    events: Events,
    windows: Vec<JoinHandle<()>>,
    dir: PathBuf,
    id: RunId,
}

fn begin_telling(
    opened: &Opened,
    common: &Common,
    started: jiff::Timestamp,
    playbooks: Vec<(String, usize)>,
) -> Result<Telling, Failure> {
    let id = RunId::at(started);
    let dir = opened.settings.runs.join(id.as_str());
    let cannot = |error: std::io::Error| {
        Failure::new(Kind::CouldNotStart, "the run's folder cannot be made")
            .saw(format!("{}: {error}", dir.display()))
            .mend("name another with --run-dir DIR")
    };
    let journal = journal::Journal::create(&dir).map_err(cannot)?;
    let (window, shown) = match common.exec {
        Some(speech) => speech.open(output(common.output), &dir).map_err(cannot)?,
        None if compat::on() && common.output == OutputKind::Human => {
            let window = Window::patient();
            let shown =
                report::ansible::spawn(window.clone(), report::ansible::Form::Playbook, common.verbose, playbooks);
            (window, shown.map_err(cannot)?)
        }
        None => {
            let window = Window::default();
            let memory = report::Memory {
                runs: opened.settings.runs.clone(),
                except: id.to_string(),
                command: std::env::args().collect(),
            };
            let shown = report::spawn(window.clone(), output(common.output), Some(memory)).map_err(cannot)?;
            (window, shown)
        }
    };
    trace(&dir, common.verbose, &opened.masker);
    let (mut seen, mut windows) = (vec![window], vec![shown]);
    if let Some(tree) = &common.manner.tree {
        let (window, kept) = report::tree::open(tree).map_err(|error| {
            Failure::new(Kind::CouldNotStart, "the folder for what comes of each host cannot be made")
                .saw(format!("{}: {error}", tree.display()))
                .mend("name another with --tree DIR")
        })?;
        seen.push(window);
        windows.push(kept);
    }
    let events = Events::new(opened.masker.clone(), Some(Box::new(journal)), seen);
    Ok(Telling { events, windows, dir, id })
}

/// ferry's own trace, through the same masking as everything else. russh is never traced: it would
/// write every packet.
fn trace(dir: &std::path::Path, verbose: u8, masker: &crate::secret::Masker) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 | 3 => "debug",
        _ => "trace",
    };
    let Ok(file) = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join("debug.log")) else {
        return;
    };
    let filter = tracing_subscriber::EnvFilter::new(format!("{level},russh=warn"));
    let masked = Masked { file: Arc::new(std::sync::Mutex::new(file)), masker: masker.clone() };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(move || masked.clone())
        .try_init();
}

#[derive(Clone)]
struct Masked {
    file: Arc<std::sync::Mutex<std::fs::File>>,
    masker: crate::secret::Masker,
}

impl std::io::Write for Masked {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let washed: Vec<String> =
            self.masker.mask(&text).split('\n').map(|line| crate::secret::clean(line.as_bytes())).collect();
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::io::Write::write_all(&mut *file, washed.join("\n").as_bytes())?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The cluster's group, checked: unknown names are told with the nearest.
pub(super) fn cluster(inventory: &Inventory, name: &str) -> Result<ClusterName, Failure> {
    let cluster: ClusterName =
        name.parse().map_err(|error: crate::name::BadName| Failure::new(Kind::NoHost, error.to_string()))?;
    if inventory.hosts_of(name).is_none() {
        let groups: Vec<&str> = inventory
            .groups()
            .map(|group| group.as_str())
            .filter(|group| !["all", "ungrouped", "mains", "amv", "nfs"].contains(group))
            .collect();
        let near = crate::name::nearest(name, groups.iter().copied(), 3);
        let failure = Failure::new(Kind::NoHost, format!("there is no cluster {name:?} in the inventory"));
        return Err(if near.is_empty() {
            failure.mend(format!("clusters are groups; there are: {}", groups.join(", ")))
        } else {
            failure.mend(format!("did you mean {}?", near.join(" or ")))
        });
    }
    Ok(cluster)
}

/// Plans, shows, runs, reports. Returns the exit code.
///
/// # Errors
/// What is wrong before a run exists.
pub(super) async fn flow(mut journey: Journey) -> Result<u8, Failure> {
    let started = jiff::Timestamp::now();
    let began = Instant::now();
    if let Some(cluster) = &journey.cluster {
        journey.opened.extra.insert("ferry_cluster".to_owned(), json!(cluster.as_str()));
    }
    if let Some(migrate) = &journey.choices.restore.migrate {
        journey.opened.extra.insert("ferry_source".to_owned(), json!(migrate.source.as_str()));
    }
    let opened = &journey.opened;
    let mut plan = Plan::make(
        &opened.inventory,
        &journey.playbooks,
        &opened.extra,
        journey.common.limit.as_deref(),
        opened.settings.forks,
        compat::on(),
    )?;
    plan.tags = journey.common.manner.tags.clone();
    if let Some(list) = journey.common.manner.lists.of(&plan) {
        report::Sink::stdout().put(&list);
        return Ok(0);
    }
    // The ways of all hosts of the cluster are read, not only of those that are worked on: a wrong
    // variable anywhere is told before any host is touched.
    let mut hosts = plan.hosts();
    let source = journey.choices.restore.migrate.as_ref().map(|migrate| &migrate.source);
    for cluster in journey.cluster.iter().chain(source) {
        for host in opened.inventory.hosts_of(cluster.as_str()).unwrap_or_default() {
            if !hosts.iter().any(|known| known == host.as_str()) {
                hosts.push(host.to_string());
            }
        }
    }
    let (ways, vars) = opened.ways(&hosts)?;
    let careless = open::careless(&ways);
    if let (true, Some(first)) = (journey.needs_catalog, careless.first()) {
        return Err(Failure::new(Kind::CouldNotStart, "archives do not go where host keys are not checked")
            .saw(first.clone())
            .why("an archive holds every secret of a platform, and whoever sits in between would have it")
            .mend("take host key checking off nowhere: record the keys (ssh-keyscan), or -o StrictHostKeyChecking=accept-new"));
    }
    opened.introduce(&ways).await?;
    let catalog = match (journey.needs_catalog, opened.settings.catalogs.first()) {
        (true, Some(root)) => Some(Catalog::open(root)?),
        // What is restored streams from another place; a fresh backup of the target has none to go to.
        (true, None) if journey.choices.restore.away.is_some() => None,
        (true, None) => {
            let named: Vec<String> = opened.settings.places.iter().map(ToString::to_string).collect();
            let failure = Failure::new(Kind::CouldNotStart, "no catalog in a folder of this machine is named");
            return Err(if named.is_empty() { failure } else { failure.saw(named.join(", ")) }
                .why("a backup is proved and sealed in a folder here, and copied to other places then; a restore reads it here")
                .mend("name a folder as well: catalog = [\"points\", \"ssh://…\"] in ferry.toml, or --catalog DIR"));
        }
        (false, _) => None,
    };
    let migrate = journey.choices.restore.migrate.as_ref();
    let spool = migrate.and_then(|migrate| migrate.spool.as_deref()).map(Catalog::open).transpose()?;
    // A restore needs no other place, and is not kept back by one that is set up wrongly.
    let others = match &catalog {
        Some(_) if journey.choices.restore.point.is_none() => points_place::others(&opened.settings),
        _ => Vec::new(),
    };
    let inventory_sha256 = opened.inventory_digest();
    let earlier = match &journey.common.resume {
        Some(given) => Some(given.read(&plan, journey.playbook_digest, inventory_sha256)?),
        None => None,
    };
    openers(&journey.choices.restore).over(&mut journey.opened.settings)?;
    let opened = &journey.opened;
    // Wrong recipients and identities are told before any host is touched.
    let kept = if journey.needs_catalog { encryption::keep(&opened.settings)? } else { Keep::default() };
    let writes = journey.needs_catalog && journey.choices.restore.point.is_none();
    if let (true, Some(recipients)) = (writes, &kept.recipients) {
        recipients.ready()?;
    }
    let telling = begin_telling(
        opened,
        &journey.common,
        started,
        journey.playbooks.iter().map(|playbook| (playbook.file.clone(), playbook.plays.len())).collect(),
    )?;
    let command: Vec<String> = std::env::args().collect();
    let who = open::who();
    telling.events.commit(Event::RunStarted {
        format: journal::FORMAT,
        run: telling.id.to_string(),
        ferry: env!("CARGO_PKG_VERSION").to_owned(),
        command: command.clone(),
        user: who.user.clone(),
        machine: who.machine.clone(),
        ci: who.ci.clone(),
        dir: telling.dir.display().to_string(),
        cwd: std::env::current_dir().ok().map(|cwd| cwd.display().to_string()),
        playbook_sha256: journey.playbook_digest.map(|digest| digest.to_string()),
        inventory_sha256: inventory_sha256.map(|digest| digest.to_string()),
        resumes: earlier.as_ref().map(|earlier| earlier.run.clone()),
        point: journey.choices.restore.point.clone(),
    })?;
    if let Some(earlier) = &earlier {
        earlier.tell(&telling.events);
    }
    let mut lines = journey.first.clone();
    lines.extend(plan.lines());
    telling.events.tell(Event::Plan { title: journey.title.clone(), lines });
    let read = journey.common.manner.loader.as_ref().map(crate::playbook::Loader::warnings).unwrap_or_default();
    for warning in opened.vault.warnings().iter().chain(opened.inventory.warnings()).chain(&careless).chain(&read) {
        telling.events.warn(None, warning.clone());
    }
    let written = journey.choices.restore.migrate.as_ref().map(|migrate| &migrate.source).or(journey.cluster.as_ref());
    let lapsed = catalog.as_ref().zip(written).and_then(|(catalog, of)| encryption::lapsed(&kept, catalog, of));
    for warning in encryption::warnings(&kept).into_iter().chain(lapsed).filter(|_| writes) {
        telling.events.warn(None, warning);
    }
    let info = RunInfo {
        id: telling.id.clone(),
        dir: telling.dir.clone(),
        who,
        // The lock on the nodes and the catalog's notes hold these: what was typed may have a secret in it.
        command: opened.masker.mask(&command.join(" ")).into_owned(),
        flags: opened.masker.mask(&journey.common.again()).into_owned(),
        catalog_flag: journey.common.catalog_again(),
        started,
        inventory_sha256,
        playbook_sha256: journey.playbook_digest,
    };
    let mut world =
        World::new(telling.events.clone(), info, journey.choices.clone(), journey.cluster.clone(), ways, vars, catalog);
    world.spool = spool;
    world.others = others;
    world.keep = opened.settings.keep.clone();
    world.kept = kept;
    world.before = earlier.as_ref().map(|earlier| earlier.done.of_cluster(&plan)).unwrap_or_default();
    world.one_task = plan.tasks() == 1;
    if let Some(speech) = journey.common.exec {
        world.limits = speech.limits();
    }
    if prompt::somebody() && matches!(journey.common.output, OutputKind::Human | OutputKind::Plain) {
        world.person = Some(Arc::new(prompt::Person));
    }
    let notifier = journey.needs_catalog.then(|| notify::Notifier {
        hooks: opened.settings.hooks.clone(),
        masker: opened.masker.clone(),
        run: telling.id.to_string(),
        dir: telling.dir.clone(),
        title: journey.title.clone(),
        cluster: journey.cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
        catalog: opened.settings.catalogs.first().cloned(),
        tasks: hook_tasks::HookTasks::new(opened, &journey.common),
    });
    if let Some(notifier) = &notifier {
        notifier.began(&telling.events).await;
    }
    let person = world.person.is_some();
    let Opened { inventory, reach, vault, reading, .. } = journey.opened;
    world.reach = Some(reach);
    let mut options = journey.common.manner.options(inventory, journey.common.verbose, person);
    options.reread = Some(Arc::new(move || Inventory::read(reading.clone())));
    options.loader.templater.opens_with(Arc::new(move |path, _| vault.read_text(path)));
    // A command of a lookup is waited for: it has to end before anybody hears of the signal here.
    // A thread of its own, since all others may be waiting for such commands.
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            signalled().await;
            crate::template::end_commands();
        });
    });
    let recap = tokio::select! {
        recap = run::carry_on(&world, &plan, options, earlier.as_ref().map(|earlier| &earlier.done)) => recap,
        signal = signalled() => {
            telling.events.tell(Event::Failed { failure: interrupted(&world, signal) });
            run::Recap::new()
        }
    };
    // The lock is let go of before anything is said to be over.
    for watch in world.work.take_watches() {
        watch.release().await;
    }
    if let Some(failure) = left_out(&world, &journey.common.manner, telling.events.worst()) {
        telling.events.commit(Event::Failed { failure })?;
    }
    let exit = compat::run_code(telling.events.worst());
    let ended = telling.events.commit(Event::RunEnded { exit, seconds: began.elapsed().as_secs_f64(), recap });
    telling.events.close();
    for window in telling.windows {
        let _ = window.join();
    }
    super::runs::report_after(&telling.dir, journey.common.junit.as_deref());
    if let Some(notifier) = &notifier {
        notifier.ended(exit, began.elapsed().as_secs_f64()).await;
    }
    if let Err(failure) = ended {
        // Everything was done and told; only the journal's last line is missing.
        report::render::print_failure(&failure, report::render::Style::stderr());
        return Ok(if exit == 0 { Kind::Failed.exit_code() } else { exit });
    }
    Ok(exit)
}

/// A run of which only some steps were chosen, and not those that it is for: it must not look like one that saved or
/// restored something.
fn left_out(world: &World, manner: &super::run::Manner, worst: Option<Kind>) -> Option<Failure> {
    let chosen =
        !manner.tags.only.is_empty() || !manner.tags.skip.is_empty() || manner.start_at.is_some() || manner.step;
    // A playbook of the operator's own is for what it says.
    if !chosen || manner.loader.is_some() || world.choices.check || worst.is_some() {
        return None;
    }
    let done = world.phases();
    let restores = world.choices.restore.point.is_some() || world.choices.restore.migrate.is_some();
    let wanted: &[&str] = match (restores, world.catalog.is_some()) {
        (true, _) => &["gravity_restore", "amv_restore", "nfs_restore"],
        (false, true) => &["point_seal"],
        (false, false) => return None,
    };
    if done.iter().any(|(module, _)| wanted.contains(&module.as_str())) {
        return None;
    }
    Some(
        Failure::new(Kind::Failed, if restores { "nothing was restored" } else { "nothing was saved" })
            .saw(format!("none of the steps {} was among those that were chosen", wanted.join(", ")))
            .mend("without --tags, --skip-tags, --start-at-task and --step all steps are done"),
    )
}

/// Waits for Ctrl-C, SIGTERM or SIGHUP and names it.
async fn signalled() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    }
}

/// Before a job is started, a signal stops; after, it detaches: the job goes on.
fn interrupted(world: &World, signal: &str) -> Failure {
    match world.running_job() {
        None => {
            let failure =
                Failure::new(Kind::Interrupted, format!("stopped by {signal}; nothing of ferry runs on a node"));
            let hosts = world.under_way();
            if hosts.is_empty() {
                return failure;
            }
            // As over `ssh`: a command without a terminal does not hear that nobody waits any more.
            let what = format!("stopped by {signal}; no job of ferry's runs on a node");
            Failure { what, ..failure }
                .saw(format!("a command was under way on {}", hosts.join(", ")))
                .why("it may run on there to its end: only what was to come after it does not run")
                .mend("look there with ps; a limit that the host itself keeps: --timeout of ferry exec, or the program timeout")
        }
        Some(job) => Failure::new(Kind::Unknown, format!("detached by {signal}; the job goes on"))
            .on(&job.host)
            .saw(format!("job {}", job.id))
            .why(format!("a {} that has begun is not thrown away", job.what))
            .mend(job.go_on),
    }
}

/// The inventory's host variable as text, for the first screen.
pub(super) fn shown(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
