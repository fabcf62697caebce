//! A job of ours, followed to its end through lost connections, with its output kept here and its
//! questions answered.
//!
//! What lives here: what backups, restores and AMV jobs have in common once they run. What does not:
//! starting them, and what their end means (each module's own).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cluster_lock;
use super::world::World;
use crate::digest::Hasher;
use crate::event::{Event, Events, Lines, Stream};
use crate::failure::{Failure, Kind};
use crate::job::{Follow, Spec, State};
use crate::name::JobId;
use crate::secret::clean;

/// A job that runs, or may run, on a node.
#[derive(Debug, Clone)]
pub struct Running {
    /// Its id.
    pub id: JobId,
    /// The inventory's name of the node.
    pub host: String,
    /// What it is, for people: `backup`, `restore`.
    pub what: &'static str,
    /// The command that goes on with it.
    pub go_on: String,
}

/// The commands that go on with a job.
pub fn go_on(world: &World, what: &str, job: &JobId) -> String {
    let flags = &world.run.flags;
    match (world.about(), what) {
        (Some(cluster), "backup") if world.choices.restore.migrate.is_none() => {
            format!("ferry jobs attach {job}{flags}   (or the same command again: ferry backup {cluster}{flags})")
        }
        _ => format!("ferry jobs attach {job}{flags}   (or: ferry runs resume {})", world.run.id),
    }
}

pub(super) fn tell_state(world: &World, job: &Running, state: State) {
    let (state, rc) = match state {
        State::Done { rc } => ("done".to_owned(), Some(rc)),
        other => (other.to_string(), None),
    };
    // Followed anew after a cut, it says the same state again: that is no change.
    if world.job_state_changes(&format!("{} {state}", job.id)) {
        world.events.tell(Event::JobState { job: job.id.to_string(), host: job.host.clone(), state, rc });
    }
}

pub(super) fn unknown(job: &Running, what: &str, cause: &Failure) -> Failure {
    let mut failure = Failure::new(Kind::Unknown, what)
        .on(&job.host)
        .why("the job goes on by itself, or never began")
        .mend(job.go_on.clone());
    failure.seen = Some(cause.to_string());
    failure.chain.clone_from(&cause.chain);
    failure
}

/// Starts a job: its id is in the journal, on disk, before anything is sent. An answer that was lost
/// is asked for again; the same id never runs twice.
///
/// # Errors
/// [`Kind::Unknown`] when it may have begun; anything else when it clearly did not.
pub(super) async fn start(world: &World, job: &Running, spec: &Spec, point: &str) -> Result<(), Failure> {
    world.events.commit(Event::JobStarting {
        job: job.id.to_string(),
        host: job.host.clone(),
        kind: spec.kind.clone(),
        cluster: spec.cluster.to_string(),
        point: point.to_owned(),
        spec_sha256: crate::digest::Sha256::of(spec.script.as_bytes()).to_string(),
        meta: spec.meta.clone(),
    })?;
    world.job_may_run(job);
    let began = Instant::now();
    loop {
        let started = async { world.jobs(&job.host).await?.start(spec).await };
        tracing::info!(job = %job.id, host = %job.host, "asking the node to start the job");
        match started.await {
            // Its supervisor was sent off and has claimed nothing, nor said why. One that is late takes it,
            // and another one is sent meanwhile: only one of them ever runs it.
            Ok(State::NotStarted) if began.elapsed() < world.choices.patience => {
                tell_state(world, job, State::NotStarted);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(State::NotStarted) => {
                let cause = Failure::new(Kind::Unknown, "its supervisor does not begin and does not say why");
                return Err(unknown(job, "the job does not begin", &cause));
            }
            Ok(state) => {
                tell_state(world, job, state);
                return Ok(());
            }
            // The answer was lost, or never came: the same id can be asked for again without harm.
            Err(failure) if failure.again && began.elapsed() < world.choices.patience => {
                world.forget(&job.host).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(failure) if failure.kind == Kind::Unreachable || failure.kind == Kind::Unknown => {
                return Err(unknown(job, "whether the job was started is not known", &failure));
            }
            Err(failure) => {
                // It said clearly that nothing began.
                world.job_is_over();
                return Err(failure);
            }
        }
    }
}

/// The file here that the job's output is written to, and the output so far.
pub(super) struct LogFile {
    file: std::io::BufWriter<std::fs::File>,
    offset: u64,
    pub(super) hasher: Hasher,
    lines: Lines,
    /// The last bytes, for judging.
    pub(super) tail: Vec<u8>,
}

/// How much of the output is kept for judging, in bytes.
pub(super) const TAIL: usize = 64 << 10;

impl LogFile {
    /// What was written by an earlier attempt is read again from the node: it is small, and only what came from there is sure.
    fn create(path: &Path, events: &Events) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        if let Some(folder) = path.parent() {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let file = std::io::BufWriter::new(file);
        Ok(Self { file, offset: 0, hasher: Hasher::new(), lines: Lines::sparing(events.masker()), tail: Vec::new() })
    }

    /// The digest is of the bytes as the node has them; what is kept here is masked and cleaned,
    /// since people read it at their terminals.
    fn take(&mut self, bytes: &[u8], events: &Events, host: &str) -> std::io::Result<()> {
        self.offset += bytes.len() as u64;
        self.hasher.update(bytes);
        let (file, mut written) = (&mut self.file, Ok(()));
        self.lines.feed(bytes, |line| {
            if written.is_ok() {
                written = keep(file, events, line);
            }
            events.line(host, Stream::Log, line);
        });
        written?;
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > 2 * TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
        Ok(())
    }

    /// The output has ended: what stands without a line end is a line, and all is on disk.
    fn end(&mut self, events: &Events, host: &str) -> std::io::Result<()> {
        let (file, mut written) = (&mut self.file, Ok(()));
        self.lines.end(|line| {
            written = keep(file, events, line);
            events.line(host, Stream::Log, line);
        });
        written?;
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

fn keep(file: &mut impl std::io::Write, events: &Events, line: &[u8]) -> std::io::Result<()> {
    let text = String::from_utf8_lossy(line);
    writeln!(file, "{}", clean(events.masker().mask(&text).as_bytes()))
}

/// Hears what a followed job says, for those who must answer it.
pub(super) trait Listener: Send {
    /// The next bytes of output.
    fn bytes(&mut self, bytes: &[u8]);
    /// A sign of life; `waits` says whether the job waits for input, `None` where that cannot be told.
    fn heart(&mut self, waits: Option<bool>);
    /// Whether there is a question to be answered now. It ends this round of following.
    fn wants(&self) -> bool;
    /// Answers it.
    fn answer<'a>(
        &'a mut self,
        world: &'a World,
        job: &'a Running,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;
}

/// Follows the job to a final state, through lost connections. While the job runs, our wait has no
/// limit; while the node is silent, the patience is it. Its output is kept in `path`.
///
/// # Errors
/// [`Kind::Unknown`] when its end was not seen; [`Kind::Refused`] when another ferry has taken it over.
pub(super) async fn follow(
    world: &World,
    job: &Running,
    path: &Path,
    mut listener: Option<&mut dyn Listener>,
) -> Result<(State, LogFile), Failure> {
    let mut log = LogFile::create(path, &world.events).map_err(|error| {
        Failure::new(Kind::Failed, format!("could not write {}", path.display()))
            .saw(error.to_string())
            .mend(job.go_on.clone())
    })?;
    let mut heard = Instant::now();
    let mut pause = Duration::from_millis(250);
    let mut told = None;
    loop {
        let offset = log.offset;
        let mut broken: Option<std::io::Error> = None;
        let asked = tokio::sync::Notify::new();
        let attempt = async {
            keep_watch(world).await?;
            let mut jobs = world.jobs(&job.host).await?;
            if listener.is_some() {
                // Whether it waits for an answer is asked more often than whether it lives.
                jobs.manner.heart = Duration::from_secs(2);
            }
            jobs.follow(&job.id, offset, |what| {
                heard = Instant::now();
                match what {
                    Follow::Bytes(bytes) => {
                        if let Err(error) = log.take(bytes, &world.events, &job.host) {
                            broken.get_or_insert(error);
                        }
                        if let Some(listener) = &mut listener {
                            listener.bytes(bytes);
                        }
                    }
                    Follow::Heart { state, waits, .. } => {
                        if told != Some(std::mem::discriminant(&state)) {
                            told = Some(std::mem::discriminant(&state));
                            tell_state(world, job, state);
                        }
                        if let Some(listener) = &mut listener {
                            listener.heart(waits);
                            if listener.wants() {
                                asked.notify_one();
                            }
                        }
                    }
                }
            })
            .await
        };
        let result = tokio::select! {
            result = attempt => Some(result),
            () = asked.notified() => None,
        };
        let not_kept = |error: std::io::Error| {
            Failure::new(Kind::Unknown, format!("the job's log could not be kept here ({})", path.display()))
                .saw(error.to_string())
                .why("the job goes on by itself, or has ended, and what it made stays on the node")
                .mend(job.go_on.clone())
        };
        if let Some(error) = broken {
            return Err(not_kept(error));
        }
        let Some(result) = result else {
            if let Some(listener) = &mut listener {
                listener.answer(world, job).await?;
            }
            continue;
        };
        match result {
            Ok(state) if state.is_final() => {
                log.end(&world.events, &job.host).map_err(not_kept)?;
                tell_state(world, job, state);
                return Ok((state, log));
            }
            Ok(State::Absent) => {
                return Err(Failure::new(Kind::Unknown, "the node does not know the job")
                    .on(&job.host)
                    .saw(format!("job {}", job.id))
                    .why("it was never started, or somebody removed it")
                    .mend("ferry jobs list; on the node: journalctl -t gravity-cli"));
            }
            Ok(state) if heard.elapsed() < world.choices.patience => {
                tell_state(world, job, state);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(state) => {
                let cause = Failure::new(Kind::Unknown, format!("the node says: {state}"));
                return Err(unknown(job, "the job does not begin", &cause));
            }
            // An answer that broke off says as little as one that never came: it is asked for again.
            Err(failure)
                if (failure.again || failure.kind == Kind::Unknown) && heard.elapsed() < world.choices.patience =>
            {
                world.events.note(
                    Some(&job.host),
                    format!("connection lost ({}); the job goes on, trying again", failure.what),
                );
                world.forget(&job.host).await;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(15));
            }
            Err(failure) if failure.kind == Kind::Refused => return Err(failure),
            Err(failure) => return Err(unknown(job, "the job was not followed to its end", &failure)),
        }
    }
}

/// The lock ends with its connections. After a long cut it may be gone: it is taken again before
/// anything else, and if another ferry has it now, that one carries on.
async fn keep_watch(world: &World) -> Result<(), Failure> {
    let lost = world.work.lock().await.watch.as_ref().is_none_or(|watch| watch.is_lost());
    if !lost {
        return Ok(());
    }
    let cluster = world.cluster()?.clone();
    let hosts: Vec<String> = world.work.lock().await.facts.iter().map(|facts| facts.host.clone()).collect();
    if let Some(old) = world.work.lock().await.watch.take() {
        old.release().await;
    }
    let watch = cluster_lock::take(world, &hosts, &cluster).await?;
    world.work.lock().await.watch = Some(watch);
    Ok(())
}

/// Asks a node as root, again and again within the patience: for questions that change nothing.
///
/// # Errors
/// The last attempt's.
pub(super) async fn ask_root(
    world: &World,
    host: &str,
    script: &str,
    limit: Duration,
) -> Result<crate::remote::Said, Failure> {
    let began = Instant::now();
    loop {
        let asked = async { world.session(host).await?.run_root(script, limit).await };
        let failure = match asked.await {
            Ok(said) => match &said.exit {
                crate::remote::Exit::Lost(why) => {
                    Failure::new(Kind::Unreachable, "the connection ended before the answer did")
                        .on(host)
                        .saw(why.clone())
                        .again()
                }
                _ => return Ok(said),
            },
            Err(failure) => failure,
        };
        if !failure.again || began.elapsed() >= world.choices.patience {
            return Err(failure);
        }
        world.forget(host).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Where the output of a job that belongs to no point is kept.
pub(super) fn run_log(world: &World, name: &str) -> PathBuf {
    world.run.dir.join(name)
}
