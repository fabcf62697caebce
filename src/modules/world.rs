//! What modules may reach: the hosts, the catalog, the door, and what earlier steps of the same run found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::follow::Running;
use crate::catalog::{Catalog, Past, Who};
use crate::digest::Sha256;
use crate::event::{Event, Events};
use crate::failure::{Failure, Kind};
use crate::gravity::{NodeFacts, Preflight, ProbeOptions};
use crate::job::watch::Watch;
use crate::job::{Jobs, Listed};
use crate::name::{ClusterName, JobId, PointId, RunId};
use crate::remote::shell::Shell;
use crate::remote::ssh::connect::Lane;
use crate::remote::{Session, Way};

/// The run that all this belongs to.
#[derive(Debug, Clone)]
pub struct RunInfo {
    /// Its id.
    pub id: RunId,
    /// Its folder.
    pub dir: PathBuf,
    /// Who started it, where.
    pub who: Who,
    /// What was typed, secrets masked.
    pub command: String,
    /// The options that say which hosts, keys and places are meant, as another command needs them to mean the
    /// same: empty, or words with a blank before them, quoted for the shell, secrets masked.
    pub flags: String,
    /// `--catalog` among them, for commands that take no other.
    pub catalog_flag: String,
    /// When it began.
    pub started: jiff::Timestamp,
    /// Digest of the inventory as read.
    pub inventory_sha256: Option<Sha256>,
    /// Digest of the playbook as read.
    pub playbook_sha256: Option<Sha256>,
}

/// What was asked for on the command line and concerns modules.
#[derive(Debug, Clone)]
pub struct Choices {
    /// `--check`: say what would be done.
    pub check: bool,
    /// `--only`; empty means all.
    pub only: Vec<String>,
    /// `--label`.
    pub label: Option<String>,
    /// `--hold`: for so long nothing deletes the point.
    pub hold: Option<Duration>,
    /// `--waive GATE=REASON`.
    pub waive: BTreeMap<String, String>,
    /// How long a lost connection is sought again without progress before ferry gives up.
    pub patience: Duration,
    /// What a restore was asked for.
    pub restore: RestoreChoices,
}

impl Choices {
    /// Nothing was asked for but to be carried out.
    pub fn plain(patience: Duration) -> Self {
        Self {
            check: false,
            only: Vec::new(),
            label: None,
            hold: None,
            waive: BTreeMap::new(),
            patience,
            restore: RestoreChoices::default(),
        }
    }
}

/// What was asked for on the command line and concerns a restore.
#[derive(Debug, Clone, Default)]
pub struct RestoreChoices {
    /// The point: id, unique prefix, `CLUSTER/ID`, `latest`, or the path of a point's folder.
    pub point: Option<String>,
    /// `--from`: the cluster whose point it is.
    pub from: Option<String>,
    /// `--in-place`: the target is the cluster that the point came from.
    pub in_place: bool,
    /// `--confirm`.
    pub confirm: Option<String>,
    /// `--erase-amv`.
    pub erase_amv: Option<String>,
    /// `--accept-suspect`: the digest of a suspect archive, typed.
    pub suspect_sha: Option<String>,
    /// The restore is the second half of a migration.
    pub migrate: Option<Migrate>,
    /// The restore is a rehearsal.
    pub drill: bool,
    /// `--nfs-into`: an empty directory of the target's NFS host.
    pub nfs_into: Option<String>,
    /// `--nfs-over`: a directory whose files may be overwritten.
    pub nfs_over: Option<String>,
    /// Files that open encrypted archives, instead of those of the settings.
    pub identities: Vec<std::path::PathBuf>,
    /// Where a passphrase comes from, instead of what the settings say.
    pub passphrase_from: Option<String>,
    /// The point lies in this place only: its archives stream from there to the nodes.
    pub away: Option<Away>,
}

/// A point that lies in no folder of this machine.
#[derive(Debug, Clone)]
pub struct Away {
    /// The point.
    pub point: Box<crate::catalog::Point>,
    /// Where it lies.
    pub place: crate::catalog::place::Place,
}

impl Away {
    /// One of its archives as a stream.
    pub fn reader(
        &self,
        archive: &crate::catalog::Archive,
        identities: Option<Arc<crate::vault::age::Identities>>,
    ) -> crate::volume::Reader {
        let folder = format!("{}/{}", self.point.cluster, self.point.id());
        let encrypted = archive.encryption.is_some();
        crate::volume::Reader::away(self.place.fetch(&folder), &archive.stored(), encrypted, identities)
    }
}

/// What was asked for on the command line and concerns a migration. The cluster of the run is its target.
#[derive(Debug, Clone)]
pub struct Migrate {
    /// The cluster that is backed up.
    pub source: ClusterName,
    /// `--no-keep`: where the point lies until it is restored, instead of in the catalog.
    pub spool: Option<PathBuf>,
}

/// Somebody who can be asked: the person at the terminal.
pub trait Ask: Send + Sync {
    /// Asks and waits for the line that is typed; `None` when nothing can be read. Blocks its thread.
    fn ask(&self, prompt: &str) -> Option<String>;
}

impl Choices {
    /// Whether a part of the backup (`gravity`, `amv`, `nfs`) is wanted.
    pub fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

/// A job of ours on a node.
#[derive(Debug, Clone)]
pub struct OurJob {
    /// Its id.
    pub id: JobId,
    /// The inventory's name of the node.
    pub host: String,
    /// What the node keeps beside it.
    pub meta: JobMeta,
}

/// What is kept beside a backup job on the node: all that another ferry needs to finish the run.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct JobMeta {
    /// The point that is being made.
    pub point: PointId,
    /// The run that started it.
    pub run: RunId,
    /// Who started it.
    pub who: Who,
    /// When, UTC.
    pub since: jiff::Timestamp,
    /// Where the archive is written on the node, absolute.
    pub archive: String,
    /// `--label`.
    pub label: Option<String>,
    /// `--timeout` given to gravity, in seconds.
    pub timeout_seconds: u64,
    /// Parts that were asked for.
    pub only: Vec<String>,
    /// Which cluster it was, as seen before the start.
    pub cluster: Option<crate::gravity::ClusterIdentity>,
    /// Gravity's status before the start, redacted.
    pub status_before: Value,
    /// What was told as a warning before the start.
    pub warnings: Vec<String>,
    /// The gates that were waived, with the reasons.
    #[serde(default)]
    pub waived: BTreeMap<String, String>,
    /// What only this kind of job needs (AMV: marker, copy of the script, what the manifest keeps).
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// What the steps of a backup found so far.
#[derive(Default)]
pub struct Work {
    /// What each main node said.
    pub facts: Vec<NodeFacts>,
    /// Main nodes that were not reached, and why.
    pub unreachable: Vec<(String, Failure)>,
    /// The lock, held until the run ends.
    pub watch: Option<Watch>,
    /// Jobs of ours that were found on the nodes.
    pub found: Vec<(String, Listed)>,
    /// The gates.
    pub preflight: Option<Preflight>,
    /// Earlier points.
    pub history: Vec<Past>,
    /// The job of this backup.
    pub job: Option<OurJob>,
    /// The point that is being made.
    pub point: Option<crate::catalog::PointInProgress>,
    /// How long gravity worked, in seconds by the node's clock.
    pub backup_seconds: Option<f64>,
    /// Digest of the job's output as collected.
    pub log_sha256: Option<Sha256>,
    /// The archive as it arrived.
    pub arrived: Option<crate::transfer::Arrived>,
    /// Archives that lie at the target of a migration instead of here, by their name in the point.
    pub landed: BTreeMap<String, super::straight::OnTarget>,
    /// The sealed point.
    pub sealed: Option<crate::catalog::Point>,
    /// Gravity's status afterwards, redacted.
    pub status_after: Value,
    /// Logs were brought home.
    pub logs_home: bool,
    /// Commands as run.
    pub commands: Vec<String>,
    /// Warnings of this run.
    pub warnings: Vec<String>,
    /// Parts that were wanted and are missing, each a sentence.
    pub shortfalls: Vec<String>,
    /// The AMV part of this backup.
    pub amv: super::amv_backup::AmvPart,
    /// The NFS part of this backup.
    pub nfs: super::nfs::NfsPart,
    /// What the steps of a restore found so far.
    pub restoring: super::restoring::Restoring,
    /// What became of the copies in other places.
    pub replicas: Vec<super::point_keep::Replica>,
}

/// What a module about a whole cluster did in an earlier run that is carried on.
#[derive(Debug, Clone, PartialEq)]
pub struct Before {
    /// That run.
    pub run: String,
    /// What it ended with.
    pub result: Value,
}

/// Bounds of each command on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// After so many seconds a command is ended there; it takes as long as it takes without.
    pub seconds: Option<u64>,
    /// How much of each stream a result keeps, in bytes. The host's log has all of it.
    pub kept: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { seconds: None, kept: 1 << 20 }
    }
}

/// What was found so far, cluster by cluster: a migration is about two. Whoever locks it gets the part of the
/// cluster whose turn it is ([`World::turn_to`]).
#[derive(Default)]
pub struct Works {
    target: tokio::sync::Mutex<Work>,
    source: tokio::sync::Mutex<Work>,
    at_source: AtomicBool,
}

impl Works {
    pub(super) fn at_source(&self) -> bool {
        self.at_source.load(Ordering::SeqCst)
    }

    /// Gives the turn to a migration's source, or to its target, for a part of a step that is about both.
    pub(super) fn turn(&self, to_source: bool) {
        self.at_source.store(to_source, Ordering::SeqCst);
    }

    fn current(&self) -> &tokio::sync::Mutex<Work> {
        if self.at_source() { &self.source } else { &self.target }
    }

    /// What was found of the cluster whose turn it is.
    pub async fn lock(&self) -> tokio::sync::MutexGuard<'_, Work> {
        self.current().lock().await
    }

    /// What was found of the cluster that a migration takes from, whosever turn it is.
    pub async fn of_source(&self) -> tokio::sync::MutexGuard<'_, Work> {
        self.source.lock().await
    }

    /// The locks that are held on clusters, to be let go of. One that is in use by a step that was given up is not
    /// among them: it ends with the connection.
    pub fn take_watches(&self) -> Vec<Watch> {
        let take = |work: &tokio::sync::Mutex<Work>| work.try_lock().ok().and_then(|mut work| work.watch.take());
        [&self.target, &self.source].into_iter().filter_map(take).collect()
    }
}

/// What modules may reach.
pub struct World {
    /// The door.
    pub events: Events,
    /// The run.
    pub run: RunInfo,
    /// What was asked for.
    pub choices: Choices,
    /// The cluster, where the playbook is about one.
    pub cluster: Option<ClusterName>,
    /// The way to each host.
    pub ways: BTreeMap<String, Way>,
    /// Each host's variables, rendered.
    pub vars: BTreeMap<String, Map<String, Value>>,
    /// Makes ways while the run goes on: a task may say how its host is reached.
    pub reach: Option<Arc<crate::remote::reach::Reach>>,
    /// The shelf.
    pub catalog: Option<Catalog>,
    /// The other places of the catalog: a point is copied there after its seal.
    pub others: Vec<(String, Result<crate::catalog::place::Place, Failure>)>,
    /// In what form archives are kept: encrypted for whom, in volumes of what size, and what opens them here.
    pub kept: crate::volume::Keep,
    /// The rules by which points are kept.
    pub keep: crate::settings::Keep,
    /// Who can be asked; `None` without a terminal.
    pub person: Option<Arc<dyn Ask>>,
    /// Bounds of each command on a host.
    pub limits: Limits,
    /// No host gets more than one task: its script needs no shell that stays open.
    pub one_task: bool,
    /// What earlier runs that are carried on did to the cluster, by the module's name.
    pub before: BTreeMap<String, Before>,
    /// What was found so far.
    pub work: Works,
    /// Where a migration puts its point, when that is not the catalog.
    pub spool: Option<Catalog>,
    /// How long each step about a cluster took, in seconds, in their order.
    phases: Mutex<Vec<(String, f64)>>,
    /// The point that a migration made, once it may be restored.
    handed: Mutex<Option<crate::catalog::Point>>,
    /// What a script says of itself, where it must not be taken for what a command says: new in each run.
    pub mark: String,
    shells: Mutex<BTreeMap<String, Shell>>,
    /// Hosts on which a command of the operator's was begun and its end was not seen.
    under_way: Mutex<Vec<String>>,
    sessions: tokio::sync::Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Option<Session>>>>>,
    started: Mutex<Option<Running>>,
    job_state: Mutex<String>,
    over: AtomicBool,
}

impl World {
    /// A world in which nothing was found yet.
    pub fn new(
        events: Events,
        run: RunInfo,
        choices: Choices,
        cluster: Option<ClusterName>,
        ways: BTreeMap<String, Way>,
        vars: BTreeMap<String, Map<String, Value>>,
        catalog: Option<Catalog>,
    ) -> Self {
        Self {
            events,
            run,
            choices,
            cluster,
            ways,
            vars,
            reach: None,
            catalog,
            kept: crate::volume::Keep::default(),
            person: None,
            limits: Limits::default(),
            one_task: false,
            before: BTreeMap::new(),
            others: Vec::new(),
            keep: crate::settings::Keep::default(),
            work: Works::default(),
            spool: None,
            phases: Mutex::default(),
            handed: Mutex::default(),
            mark: super::node::mark(),
            shells: Mutex::default(),
            under_way: Mutex::default(),
            sessions: tokio::sync::Mutex::default(),
            started: Mutex::default(),
            job_state: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    /// The control connection to a host: the one that is open, or a new one.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] with the chain.
    pub async fn session(&self, host: &str) -> Result<Session, Failure> {
        let way = self.way(host)?;
        self.session_by(host, way).await
    }

    /// The connection that is kept under `key`: the one that is open, or a new one by `way`; as `way` says who to become.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] with the chain.
    pub async fn session_by(&self, key: &str, way: &Way) -> Result<Session, Failure> {
        let slot = Arc::clone(self.sessions.lock().await.entry(key.to_owned()).or_default());
        let mut slot = slot.lock().await;
        if let Some(session) = slot.as_ref()
            && !matches!(session, Session::Ssh(ssh) if ssh.is_closed())
        {
            return Ok(session.becoming(way));
        }
        let session = way.connect(Lane::Control).await?;
        *slot = Some(session.clone());
        Ok(session)
    }

    /// The shell that stays open on a host, for tasks.
    pub fn shell(&self, host: &str) -> Shell {
        let new = || if self.one_task { Shell::for_one() } else { Shell::default() };
        self.shells.lock().unwrap_or_else(PoisonError::into_inner).entry(host.to_owned()).or_insert_with(new).clone()
    }

    /// Forgets the control connection to a host: one that is frozen is not yet closed, and the next
    /// attempt must not wait for it again.
    pub async fn forget(&self, host: &str) {
        let slot = self.sessions.lock().await.get(host).cloned();
        if let Some(slot) = slot {
            *slot.lock().await = None;
        }
    }

    /// The way to a host.
    ///
    /// # Errors
    /// [`Kind::Bug`] for a host that no play has.
    pub fn way(&self, host: &str) -> Result<&Way, Failure> {
        self.ways.get(host).ok_or_else(|| Failure::new(Kind::Bug, "a host without a way to it").on(host))
    }

    /// A host's variable as text.
    pub fn var(&self, host: &str, name: &str) -> Option<String> {
        match self.vars.get(host)?.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    /// A host's variable as a list of texts; one text is a list of one.
    pub fn words(&self, host: &str, name: &str) -> Vec<String> {
        match self.vars.get(host).and_then(|vars| vars.get(name)) {
            Some(Value::Array(items)) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
            Some(Value::String(text)) => vec![text.clone()],
            _ => Vec::new(),
        }
    }

    /// A host's variable as true or false; false when it is not set.
    pub fn flag(&self, host: &str, name: &str) -> bool {
        matches!(self.var(host, name).map(|word| word.to_lowercase()).as_deref(), Some("true" | "yes" | "on" | "1"))
    }

    /// The jobs on a host.
    ///
    /// # Errors
    /// [`Kind::Unreachable`].
    pub async fn jobs(&self, host: &str) -> Result<Jobs, Failure> {
        let base = self.var(host, "ferry_node_dir").unwrap_or_else(|| "/var/lib/ferry".to_owned());
        Ok(Jobs::new(self.session(host).await?).at(base))
    }

    /// Where Gravity's things are on a host.
    pub fn probe_options(&self, host: &str) -> ProbeOptions {
        ProbeOptions {
            gravity: self.var(host, "pce_gravity").unwrap_or_else(|| "/usr/bin/gravity".to_owned()),
            kubectl: self.var(host, "pce_kubectl").unwrap_or_else(|| "/usr/bin/kubectl".to_owned()),
            state_dir: self.var(host, "pce_state_dir"),
            work_dir: self.var(host, "pce_work_dir"),
            node_dir: self.var(host, "ferry_node_dir").unwrap_or_else(|| "/var/lib/ferry".to_owned()),
        }
    }

    /// Notes that from now on a job runs, or may run, on a node: a signal detaches instead of stopping.
    pub fn job_may_run(&self, job: &Running) {
        self.over.store(false, Ordering::SeqCst);
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(job.clone());
    }

    /// Remembers the job's state; true when it is another than before.
    pub fn job_state_changes(&self, state: &str) -> bool {
        let mut known = self.job_state.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = *known != state;
        state.clone_into(&mut known);
        changes
    }

    /// Notes that nothing of ours is left on a node.
    pub fn job_is_over(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// The job that runs, or may run, on a node.
    pub fn running_job(&self) -> Option<Running> {
        if self.over.load(Ordering::SeqCst) {
            return None;
        }
        self.started.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A command begins on a host: until [`World::seen_to_end`] it may run there, whoever waits for it.
    pub(super) fn begins(&self, host: &str) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).push(host.to_owned());
    }

    /// A command's end was seen.
    pub(super) fn seen_to_end(&self, host: &str) {
        let mut hosts = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = hosts.iter().position(|known| known == host) {
            hosts.swap_remove(at);
        }
    }

    /// The hosts on which a command was begun and its end was not seen, sorted.
    pub fn under_way(&self) -> Vec<String> {
        let mut hosts = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).clone();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// Asks the person at the terminal; `None` when there is nobody or nothing was typed. Question and
    /// answer are in the journal.
    pub async fn ask(&self, question: &str, prompt: &str) -> Option<String> {
        let person = self.person.clone()?;
        self.events.tell(Event::Asking { question: question.to_owned() });
        let (events, prompt) = (self.events.clone(), prompt.to_owned());
        let answer = tokio::task::spawn_blocking(move || {
            events.shown();
            person.ask(&prompt)
        })
        .await
        .ok()
        .flatten();
        let said = answer.clone().unwrap_or_default();
        self.events.tell(Event::Answered { question: question.to_owned(), answer: said, by: "person".to_owned() });
        answer.filter(|answer| !answer.is_empty())
    }

    /// Warns, and keeps the warning for the manifest.
    pub async fn warn(&self, host: Option<&str>, text: impl Into<String>) {
        let text = text.into();
        self.events.warn(host, text.clone());
        let text = host.map_or(text.clone(), |host| format!("{host}: {text}"));
        self.work.lock().await.warnings.push(text);
    }

    /// Commits what has happened already. A journal that cannot hold it is told and stops nothing: what
    /// follows does not rest on it, and a point that could be sealed is worth more than its journal.
    pub async fn commit_done(&self, event: Event) {
        if let Err(failure) = self.events.commit(event) {
            let seen = failure.seen.map(|seen| format!(" ({seen})")).unwrap_or_default();
            self.warn(None, format!("{}{seen}: it is told here only", failure.what)).await;
        }
    }

    /// Whether a host belongs to a cluster's group.
    pub fn belongs(&self, host: &str, cluster: &ClusterName) -> bool {
        let groups = self.vars.get(host).and_then(|vars| vars.get("group_names")).and_then(Value::as_array);
        groups.is_some_and(|groups| groups.iter().any(|group| group.as_str() == Some(cluster.as_str())))
    }

    /// Whether these hosts are those that a migration takes from; false where there is no migration.
    ///
    /// # Errors
    /// [`Kind::Refused`] when they are not all of one of the two clusters.
    fn are_source(&self, hosts: &[String]) -> Result<bool, Failure> {
        let (Some(migrate), Some(target)) = (&self.choices.restore.migrate, &self.cluster) else { return Ok(false) };
        let all = |cluster: &ClusterName| hosts.iter().all(|host| self.belongs(host, cluster));
        match (all(&migrate.source), all(target)) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => Err(Failure::new(Kind::Refused, "these hosts are not those of one cluster of the migration")
                .saw(hosts.join(", "))
                .within("gate identity")
                .why("a step of a migration is about its source or about its target, and what belongs to both is no other cluster")
                .mend("give each of the two clusters a group of its own")),
        }
    }

    /// From now on it is the turn of the cluster that these hosts belong to.
    ///
    /// # Errors
    /// [`Kind::Refused`] when they are not all of one cluster of a migration.
    pub fn turn_to(&self, hosts: &[String]) -> Result<(), Failure> {
        self.work.turn(self.are_source(hosts)?);
        Ok(())
    }

    /// The cluster that these hosts are worked on as; `None` when the playbook is about none.
    pub fn cluster_of(&self, hosts: &[String]) -> Option<&ClusterName> {
        match (&self.choices.restore.migrate, self.are_source(hosts)) {
            (Some(migrate), Ok(true)) => Some(&migrate.source),
            _ => self.cluster.as_ref(),
        }
    }

    /// The cluster whose turn it is; `None` when the playbook is about none.
    pub fn about(&self) -> Option<&ClusterName> {
        match &self.choices.restore.migrate {
            Some(migrate) if self.work.at_source() => Some(&migrate.source),
            _ => self.cluster.as_ref(),
        }
    }

    /// Remembers how long a step about a cluster took.
    pub(super) fn phase_took(&self, module: &str, seconds: f64) {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner).push((module.to_owned(), seconds));
    }

    /// How long each step about a cluster took, in seconds, in their order.
    pub fn phases(&self) -> Vec<(String, f64)> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An archive of the point that is restored, as a stream from where it lies.
    pub fn archive_reader(
        &self,
        point: &crate::catalog::Point,
        archive: &crate::catalog::Archive,
    ) -> crate::volume::Reader {
        let identities = self.kept.identities.clone();
        match self.choices.restore.away.as_ref().filter(|away| away.point.dir == point.dir) {
            Some(away) => away.reader(archive, identities),
            None => archive.reader(&point.dir, identities),
        }
    }

    /// Notes something on the point that is restored, where it lies.
    ///
    /// # Errors
    /// As [`crate::catalog::shelf::note`].
    pub async fn note_on(
        &self,
        point: &mut crate::catalog::Point,
        remark: crate::catalog::Remark,
    ) -> Result<(), Failure> {
        match self.choices.restore.away.as_ref().filter(|away| away.point.dir == point.dir) {
            Some(away) => crate::catalog::shelf::note(&away.place, point, &self.run.who, remark).await,
            None => {
                let note = crate::catalog::Note { at: jiff::Timestamp::now(), who: self.run.who.clone(), remark };
                point.note(&crate::catalog::Disk::default(), note)
            }
        }
    }

    /// Hands the point that a migration made over to its restore.
    pub fn hand_over(&self, point: crate::catalog::Point) {
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner) = Some(point);
    }

    /// The point that a migration made.
    pub fn handed(&self) -> Option<crate::catalog::Point> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The cluster that the playbook is about; of a migration's two the one whose turn it is.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when it is about none.
    pub fn cluster(&self) -> Result<&ClusterName, Failure> {
        self.about().ok_or_else(|| {
            Failure::new(Kind::CouldNotStart, "this playbook works on a cluster, and none was named")
                .mend("start it with: ferry backup CLUSTER, or ferry run PLAYBOOK -e ferry_cluster=CLUSTER")
        })
    }

    /// The catalog that points of the cluster whose turn it is are kept in.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] when there is none.
    pub fn catalog(&self) -> Result<&Catalog, Failure> {
        if self.work.at_source()
            && let Some(spool) = &self.spool
        {
            return Ok(spool);
        }
        self.catalog
            .as_ref()
            .ok_or_else(|| Failure::new(Kind::CouldNotStart, "this step needs a catalog and none is open"))
    }
}
