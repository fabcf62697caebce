//! `amv_restore`: runs the vendor's script as a job that asks a question, and lets the question wait on the node
//! as long as it must.
//!
//! The script erases what the target has, upon approval. The approval is typed by a person who reads the
//! question word for word, or given by a pattern that the operator set; nothing else answers it. An
//! answer is written once, whatever the connection does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Done;
use super::amv_backup::{copy, find_node, forget_tool};
use super::follow::{self, Listener, Running, follow, run_log};
use super::restoring::{
    AMV_RESTORE, FoundRestore, OnNode, RestoreMeta, done_before, erases_amv, evaluate, need_lock, tell,
};
use super::world::World;
use crate::amv::{self, Action, AmvFacts, AmvOptions, AmvRestore, Outcome, Question, Verdict};
use crate::catalog::ArchiveKind;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::job::{Answered, Input, Lost, Spec, State};
use crate::name::JobId;

/// The name of the script's log in the run's folder.
pub const LOG: &str = "amv-restore.log";

/// The pattern for the script's question, read; `None` when none is set.
///
/// # Errors
/// [`Kind::CouldNotStart`] when it would fit every question.
pub fn pattern(world: &World) -> Result<Option<(amv::Pattern, String)>, Failure> {
    let var = |name: &str| world.vars.keys().find_map(|host| world.var(host, name));
    let answer = var("pce_amv_restore_answer").unwrap_or_else(|| "y".to_owned());
    var("pce_amv_restore_question").map(|text| Ok((amv::compile(&text)?, answer))).transpose()
}

/// Before anything is sent: a main node with a script that may be trusted, and room for the archive and
/// for what the script saves of the data that it erases.
pub(super) async fn ready(world: &World, first: &str, bytes: u64) -> Result<(AmvFacts, AmvOptions), Failure> {
    pattern(world)?;
    let (facts, options) = find_node(world, Some(first)).await?;
    let Some((free, _)) = facts.room_kib else {
        world.warn(Some(&facts.host), "the room for AMV's data could not be told").await;
        return Ok((facts, options));
    };
    // The archive itself, and twice its content: the script backs up what it erases first.
    let needed = (bytes >> 10).saturating_mul(3);
    if free >= needed {
        return Ok((facts, options));
    }
    let seen = format!(
        "{} MiB free, {} MiB needed (the archive, and twice its size for the script)",
        free >> 10,
        needed >> 10
    );
    if let Some(reason) = world.choices.waive.get("space") {
        world.warn(Some(&facts.host), format!("no room for AMV's restore: {seen} (waived: {reason})")).await;
        return Ok((facts, options));
    }
    Err(Failure::new(Kind::Refused, "there is no room for AMV's restore")
        .on(&facts.host)
        .saw(seen)
        .within("gate space")
        .why("the script backs up existing data before it erases them")
        .mend("set pce_amv_backup_dir to a disk with room, or --waive space=REASON"))
}

pub(super) async fn run(world: &World, hosts: &[String]) -> Result<Done, Failure> {
    if !world.choices.wants("amv") {
        return Ok(Done::skipped("not among --only"));
    }
    if world.choices.check {
        return Ok(Done::skipped("--check restores nothing"));
    }
    let (point, found) = {
        let work = world.work.lock().await;
        (work.restoring.point.clone(), work.restoring.found_amv.clone())
    };
    let Some(point) = point else {
        return Err(Failure::new(
            Kind::Refused,
            "amv_restore needs restore_gates and archive_deliver before it in the playbook",
        )
        .mend("ferry playbooks export restore shows the order"));
    };
    if !erases_amv(world, &point) {
        return Ok(Done::skipped("the point has no AMV archive"));
    }
    need_lock(world).await?;
    // Its job was cleaned up: only the journal tells of it.
    if let (None, Some(before)) = (&found, done_before(world, "amv_restore", &point)) {
        let mut work = world.work.lock().await;
        work.restoring.amv_restored = true;
        work.restoring.amv_report = before.result.get("told").and_then(Value::as_str).map(str::to_owned);
        return Ok(Done::ok(format!("run {} did it; never twice", before.run), before.result.clone()));
    }
    let (job, meta) = match found {
        Some(found) => take_over(world, found),
        None => start(world, hosts).await?,
    };
    {
        let mut work = world.work.lock().await;
        work.commands.push(format!("{}: bash amv-backup-restore.sh -v -a restore -f {}", job.host, meta.archive));
        let ours = (job.host.clone(), meta.archive.clone());
        if !work.restoring.leftovers.contains(&ours) {
            work.restoring.leftovers.push(ours);
        }
    }
    let mut asker = Asker::new(world, &job).await?;
    let path = run_log(world, LOG);
    let (state, log) = follow(world, &job, &path, Some(&mut asker)).await?;
    judge(world, &job, &meta, state, log).await
}

fn running(world: &World, id: JobId, host: &str) -> Running {
    let go_on = follow::go_on(world, "restore", &id);
    Running { id, host: host.to_owned(), what: "restore", go_on }
}

fn take_over(world: &World, found: FoundRestore) -> (Running, RestoreMeta) {
    let job = running(world, found.job.id.clone(), &found.host);
    let text = format!(
        "taking over job {} of {} (since {}, run {})",
        job.id, found.meta.who, found.meta.since, found.meta.run
    );
    world.events.note(Some(&found.host), text);
    world.job_may_run(&job);
    (job, found.meta)
}

/// What must hold right before the start. After Gravity's restore of this run the gates were asked already, and
/// the cluster may still be busy with itself; what concerns AMV is asked again all the same.
async fn permitted(world: &World, hosts: &[String]) -> Result<OnNode, Failure> {
    let cluster = world.cluster()?.to_string();
    let (point, delivered, gravity_done) = {
        let work = world.work.lock().await;
        let restoring = &work.restoring;
        (restoring.point.clone(), restoring.delivered_amv.clone(), restoring.restored_seconds.is_some())
    };
    let (Some(point), Some(delivered)) = (point, delivered) else {
        return Err(Failure::new(Kind::Refused, "amv_restore needs archive_deliver before it in the playbook")
            .why("the archive is hashed on the node before it is used"));
    };
    if world.choices.wants("gravity") && point.manifest.archive(ArchiveKind::Gravity).is_some() && !gravity_done {
        return Err(Failure::new(Kind::Refused, "Gravity is restored before AMV")
            .why("AMV's configuration is in Gravity's part; the other order leaves them apart")
            .mend("gravity_restore before amv_restore in the playbook, or --only amv"));
    }
    let archive = point.manifest.archive(ArchiveKind::Amv);
    if archive.is_none_or(|archive| {
        archive.sha256 != delivered.sha256 || point.verdict_of(archive) == crate::catalog::Verdict::Damaged
    }) {
        return Err(Failure::new(Kind::Refused, "what was delivered is not the point's archive").within("gate digest"));
    }
    if !gravity_done {
        let gates = evaluate(world, hosts, true).await?;
        if let Err(failure) = gates.permit() {
            tell(world, &gates, false);
            return Err(failure);
        }
    }
    let work = world.work.lock().await;
    let said = |word: &Option<String>| word.as_deref() == Some(cluster.as_str());
    if !said(&work.restoring.confirm) || !said(&work.restoring.erase_amv) {
        return Err(Failure::new(Kind::Refused, "erasing AMV's data is not confirmed")
            .within("gate confirmation")
            .mend(format!("--confirm {cluster} --erase-amv {cluster}")));
    }
    Ok(delivered)
}

async fn start(world: &World, hosts: &[String]) -> Result<(Running, RestoreMeta), Failure> {
    let cluster = world.cluster()?.clone();
    let delivered = permitted(world, hosts).await?;
    let (facts, options) = ready(world, &delivered.host, 0).await?;
    if facts.host != delivered.host {
        return Err(Failure::new(Kind::Failed, "the node that has the archive has no script any more")
            .on(&delivered.host)
            .mend("start again: another node is picked"));
    }
    let id = JobId::random();
    let (copied, usage) = copy(world, &facts, &options, &id).await?;
    let marker = format!("ferry-amv-{:032x}", rand::random::<u128>());
    let script = amv::restore_script(&AmvRestore {
        script: copied.script.clone(),
        script_sha256: copied.script_sha256,
        file: delivered.path.clone(),
        sha256: delivered.sha256,
        usage,
        marker: marker.clone(),
    })
    .map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()))?;
    let meta = {
        let work = world.work.lock().await;
        let Some(point) = &work.restoring.point else {
            return Err(Failure::new(Kind::Bug, "a restore without a point"));
        };
        let known = point.manifest.archive(ArchiveKind::Amv).and_then(|archive| archive.details.get("tool"));
        let known: Vec<amv::ToolFile> =
            known.and_then(|files| serde_json::from_value(files.clone()).ok()).unwrap_or_default();
        for change in if known.is_empty() { Vec::new() } else { amv::changes(&known, &copied.files) } {
            world.events.warn(Some(&facts.host), format!("AMV's script is another than at the backup: {change}"));
        }
        RestoreMeta {
            point: point.id().clone(),
            source: point.cluster.clone(),
            run: world.run.id.clone(),
            who: world.run.who.clone(),
            since: jiff::Timestamp::now(),
            archive: delivered.path.clone(),
            sha256: delivered.sha256,
            timeout_seconds: 0,
            marker,
            waived: world.choices.waive.clone(),
            only: world.choices.only.clone(),
            target: work.restoring.gates.as_ref().and_then(|gates| gates.identity.clone()),
            safety: None,
            tool: Some(copied.dir.clone()),
            amv_host: Some(delivered.host.clone()),
            amv_archive: Some(delivered.path.clone()),
        }
    };
    let job = running(world, id, &facts.host);
    // bash's `read -p` shows its question at a terminal only.
    let input = if facts.terminal { Input::Terminal } else { Input::Fifo };
    if !facts.terminal {
        let text = "this node has no script(1): a question that is asked only at a terminal will not be seen";
        world.warn(Some(&facts.host), text).await;
    }
    let spec = Spec {
        id: job.id.clone(),
        kind: AMV_RESTORE.to_owned(),
        cluster,
        script,
        meta: serde_json::to_value(&meta).map_err(|error| Failure::new(Kind::Bug, error.to_string()))?,
        umask: 0o077,
        restore_like: true,
        input,
    };
    follow::start(world, &job, &spec, meta.point.as_str()).await?;
    Ok((job, meta))
}

async fn judge(
    world: &World,
    job: &Running,
    meta: &RestoreMeta,
    state: State,
    log: follow::LogFile,
) -> Result<Done, Failure> {
    let digest = log.hasher.clone().finish();
    let rc = match state {
        State::Done { rc } => rc,
        State::Lost(how) => {
            let seen = match how {
                Lost::Reboot => "the node has restarted since the job began",
                Lost::Died => "the job and its supervisor are gone and left no result",
            };
            return Err(Failure::new(Kind::Unknown, "how AMV's restore ended is not known")
                .on(&job.host)
                .saw(seen)
                .why("it may have erased data and not put others in their place; it is never repeated by itself")
                .mend(format!(
                    "look: sudo kubectl -n dias get pods, and the log of this run ({LOG}). When you know how it ended: ferry jobs clean {}",
                    job.id
                )));
        }
        other => return Err(Failure::new(Kind::Bug, format!("a job that is {other} was judged"))),
    };
    let (outcome, report) = Outcome::of(rc, &log.tail, &meta.marker, Action::Restore);
    for row in report.rows.iter().take(50) {
        world.events.note(Some(&job.host), format!("{}: {}", row.what, row.line));
    }
    if let Some(tool) = &meta.tool {
        forget_tool(world, &job.host, tool).await;
    }
    let failure = match outcome {
        Outcome::Done => {
            let counted = format!("{} rows of its report", report.rows.len());
            let told = match report.verdict() {
                Verdict::Match => format!("{counted} agree"),
                _ => {
                    world
                        .warn(Some(&job.host), "AMV's own report was not understood: whether all is there is not known")
                        .await;
                    "validated: unknown".to_owned()
                }
            };
            let mut work = world.work.lock().await;
            work.restoring.amv_restored = true;
            work.restoring.amv_report = Some(told.clone());
            work.restoring.jobs.push((job.host.clone(), job.id.clone(), digest));
            drop(work);
            world.job_is_over();
            return Ok(Done::changed(
                format!("{} on {}, {told}", meta.point, job.host),
                json!({"node": job.host, "job": job.id, "point": meta.point, "told": told, "report": report}),
            ));
        }
        Outcome::Mismatch(lines) => {
            Failure::new(Kind::Failed, "AMV's own report names differences, whatever its exit code")
                .saw(lines.join("; "))
                .why("what the target holds now is not what the point holds")
        }
        Outcome::NeverRan(why) => {
            Failure::new(Kind::Refused, "AMV's script was not run").saw(why).within("gate digest")
        }
        Outcome::Aborted(why) => Failure::new(Kind::Failed, "AMV's script ended without restoring").saw(why),
        Outcome::Failed(why) => Failure::new(Kind::Failed, "AMV's restore failed").saw(why),
        Outcome::Unknown(why) => {
            return Err(Failure::new(Kind::Unknown, "how AMV's restore ended is not known")
                .on(&job.host)
                .saw(why)
                .mend(format!("look at the log of this run ({LOG}); then: ferry jobs clean {}", job.id)));
        }
    };
    if let Err(error) = world.jobs(&job.host).await?.clean(&job.id, digest).await {
        world.events.warn(Some(&job.host), format!("the job could not be removed from the node: {error}"));
    }
    world.job_is_over();
    Err(failure.on(&job.host).mend(format!("the whole output is in {}", run_log(world, LOG).display())))
}

/// So long nothing must have been said before a waiting job is taken at its word.
const STILL: Duration = Duration::from_millis(800);
/// So long after an answer its job is not asked again whether it waits.
const AFTER_ANSWER: Duration = Duration::from_secs(3);
/// Where nothing tells that a job waits, so much silence after what looks like a question counts as waiting.
const SILENCE: Duration = Duration::from_secs(5);
/// The same after an unfinished line that does not look like one.
const LONG_SILENCE: Duration = Duration::from_secs(60);

/// Hears the question and sees to its answer.
struct Asker {
    tail: Vec<u8>,
    waits: Option<bool>,
    heard: Instant,
    answered: Option<Instant>,
    seq: u32,
    pattern: Option<(amv::Pattern, String)>,
    /// Questions that the pattern has answered: never twice, a repeated one means that the answer was not taken.
    by_pattern: Vec<String>,
}

impl Asker {
    async fn new(world: &World, job: &Running) -> Result<Self, Failure> {
        // Another ferry may have answered before us: its answers keep their numbers.
        let given = world.jobs(&job.host).await?.answers(&job.id).await.unwrap_or_default();
        Ok(Self {
            tail: Vec::new(),
            waits: None,
            heard: Instant::now(),
            answered: None,
            seq: given.iter().map(|given| given.seq).max().unwrap_or(0) + 1,
            pattern: pattern(world)?,
            by_pattern: Vec::new(),
        })
    }

    fn question(&self) -> Question {
        amv::question(&self.tail).unwrap_or_else(|| Question {
            text: "(the script waits for an answer and has asked nothing that can be seen)".to_owned(),
        })
    }
}

/// How long the job must have been silent for what stands last to count as a question, where nothing else tells;
/// `None` when it looks like none: `shard 2 to shard 2...` and a finished line of a log wait for no answer.
fn silence_of(tail: &[u8]) -> Option<Duration> {
    let text = String::from_utf8_lossy(tail.get(tail.len().saturating_sub(400)..).unwrap_or_default()).into_owned();
    let last = text.trim_end().lines().next_back().unwrap_or_default().to_lowercase();
    let words =
        ["y/n", "yes/no", "[y]", "continue", "proceed", "confirm", "are you sure", "type yes", "enter yes", "answer"];
    if last.ends_with(['?', ':', ')', ']', '>']) && !last.ends_with("...")
        || words.iter().any(|word| last.contains(word))
    {
        return Some(SILENCE);
    }
    let unfinished = !tail.ends_with(b"\n") && !last.is_empty();
    (unfinished && !last.ends_with(['.', '%'])).then_some(LONG_SILENCE)
}

impl Listener for Asker {
    fn bytes(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > 64 << 10 {
            self.tail.drain(..self.tail.len() - (32 << 10));
        }
        self.heard = Instant::now();
    }

    fn heart(&mut self, waits: Option<bool>) {
        self.waits = waits;
    }

    fn wants(&self) -> bool {
        if self.answered.is_some_and(|answered| answered.elapsed() < AFTER_ANSWER) {
            return false;
        }
        match self.waits {
            Some(waits) => waits && self.heard.elapsed() >= STILL,
            None => {
                let fits = || self.pattern.as_ref().is_some_and(|(pattern, _)| pattern.fits(&self.question()));
                let limit = if fits() { Some(SILENCE) } else { silence_of(&self.tail) };
                limit.is_some_and(|limit| self.heard.elapsed() >= limit)
            }
        }
    }

    fn answer<'a>(
        &'a mut self,
        world: &'a World,
        job: &'a Running,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>> {
        Box::pin(async move {
            let question = self.question();
            let fits = self
                .pattern
                .as_ref()
                .filter(|(pattern, _)| pattern.fits(&question) && !self.by_pattern.contains(&question.text))
                .map(|(_, answer)| answer.clone());
            let (answer, by) = match fits {
                Some(answer) => {
                    self.by_pattern.push(question.text.clone());
                    world.events.tell(Event::Asking { question: question.text.clone() });
                    world.events.tell(Event::Answered {
                        question: question.text.clone(),
                        answer: answer.clone(),
                        by: "pattern".to_owned(),
                    });
                    (answer, "pattern")
                }
                None => (ask_person(world, job, &question).await?, "person"),
            };
            let given = world.jobs(&job.host).await?.answer(&job.id, self.seq, &answer).await;
            match given {
                Ok(Answered::Now) => {
                    if by == "person" {
                        propose(world, &question, &answer);
                    }
                }
                Ok(Answered::Before(text)) => world.events.note(
                    Some(&job.host),
                    format!("somebody else had answered already: {text:?}; nothing was written twice"),
                ),
                Ok(Answered::Unknown(text)) => world.events.warn(
                    Some(&job.host),
                    format!("whether the answer {text:?} arrived is not known; it is not written twice"),
                ),
                // Asked for again with the same number: it is written once at most.
                Err(failure) if failure.again => {
                    world.events.note(Some(&job.host), format!("the answer may not have arrived: {failure}"));
                    world.forget(&job.host).await;
                    self.answered = None;
                    self.by_pattern.retain(|text| *text != question.text);
                    return Ok(());
                }
                Err(failure) => return Err(failure),
            }
            self.seq += 1;
            self.answered = Some(Instant::now());
            self.waits = None;
            Ok(())
        })
    }
}

async fn ask_person(world: &World, job: &Running, question: &Question) -> Result<String, Failure> {
    let nobody = || {
        Failure::new(Kind::Unknown, "AMV's script asks a question that nobody here may answer")
            .on(&job.host)
            .saw(question.text.clone())
            .why("the answer erases data; the question waits on the node as long as it must")
            .mend(format!(
                "ferry jobs attach {}   at a terminal, and type the answer; or set pce_amv_restore_question to words of it, and attach",
                job.id
            ))
    };
    let last = proposal(world).map(|last| format!("\n(last time the answer was {last})")).unwrap_or_default();
    let text = format!("AMV's script on {} asks:\n{}{last}", job.host, question.text);
    world.ask(&text, "answer to be typed into it: ").await.ok_or_else(nobody)
}

/// Where the answers of earlier restores are kept, beside the runs.
fn proposals(world: &World) -> Option<std::path::PathBuf> {
    Some(world.run.dir.parent()?.join("amv-answers.json"))
}

/// Keeps question and answer as the proposal for next time. That it cannot be kept harms nothing.
fn propose(world: &World, question: &Question, answer: &str) {
    let (Some(path), Ok(cluster)) = (proposals(world), world.cluster()) else { return };
    let mut all: serde_json::Map<String, Value> =
        std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let said = json!({"question": question.text, "answer": answer, "at": jiff::Timestamp::now(), "who": world.run.who.to_string()});
    all.insert(cluster.to_string(), said);
    if let Ok(text) = serde_json::to_vec_pretty(&all) {
        let part = path.with_extension("json.part");
        if std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &path)).is_err() {
            world.events.note(None, "the answer could not be kept for next time");
        }
    }
}

fn proposal(world: &World) -> Option<String> {
    let all: Value = serde_json::from_slice(&std::fs::read(proposals(world)?).ok()?).ok()?;
    let last = all.get(world.cluster().ok()?.as_str())?;
    Some(format!("{:?}, by {}", last.get("answer")?.as_str()?, last.get("who")?.as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_last_may_be_a_question() {
        for (tail, wanted) in [
            ("erased. Do you want to continue? (y/n) ", Some(SILENCE)),
            ("Type yes to go on\n", Some(SILENCE)),
            ("Continue [y/N]", Some(SILENCE)),
            ("Password:", Some(SILENCE)),
            ("Restoring db telegraf, rp autogen, shard 2 to shard 2...", None),
            ("Copying data to node-1:8088...", None),
            ("copied 45%", None),
            ("Restored from x in 58ms\n", None),
            ("", None),
            ("\n\n", None),
            ("Erase now ", Some(LONG_SILENCE)),
        ] {
            assert_eq!(silence_of(tail.as_bytes()), wanted, "{tail:?}");
        }
    }
}
