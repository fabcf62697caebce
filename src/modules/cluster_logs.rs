//! `cluster_logs`: gathers what there is to read about a cluster into one folder and a tarball of it, with secrets
//! taken out and a list of what was taken out. Changes nothing on a node.
//!
//! What cannot be had is told in the folder's index and as a warning: whoever gathers logs has a cluster that is ill.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use super::{Done, World};
use crate::archive::TarWriter;
use crate::event::{Event, SummaryLine};
use crate::failure::{Failure, Kind};
use crate::gravity::{self, Gathered, Report};
use crate::transfer::{self, Pull};

/// How far back journals are read unless `since` says otherwise.
const SINCE: Duration = Duration::from_secs(24 * 3600);
/// Nodes that are read at once.
const FORKS: usize = 5;

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Failed, format!("could not write {}", path.display()))
        .saw(error.to_string())
        .mend("name another place: ferry logs CLUSTER --dir DIR")
}

/// A name that a path may have: what a host said never leads out of the folder.
fn safe(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('/')
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && !name.chars().any(|c| c.is_control() || c == '\\')
}

/// What is written, in the order in which it is written, and what was taken out of it.
struct Folder {
    root: PathBuf,
    files: Vec<(String, Vec<u8>)>,
    index: Vec<String>,
    redacted: Vec<String>,
    kinds: BTreeMap<&'static str, usize>,
    lacking: usize,
}

impl Folder {
    fn make(root: &Path) -> Result<Self, Failure> {
        if std::fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Failure::new(Kind::CouldNotStart, format!("{} is not empty", root.display()))
                .mend("name another place: ferry logs CLUSTER --dir DIR"));
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(|error| cannot(root, &error))?;
        Ok(Self {
            root: root.to_owned(),
            files: Vec::new(),
            index: Vec::new(),
            redacted: Vec::new(),
            kinds: BTreeMap::new(),
            lacking: 0,
        })
    }

    fn write(&mut self, name: &str, content: Vec<u8>) -> Result<(), Failure> {
        let path = self.root.join(name);
        let folder = path.parent().unwrap_or(&self.root);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| cannot(folder, &error))?;
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.and_then(|mut file| file.write_all(&content)).map_err(|error| cannot(&path, &error))?;
        self.files.push((name.to_owned(), content));
        Ok(())
    }

    /// One source: its secrets out, its control characters written out, and a line for the index.
    fn add(&mut self, world: &World, place: &str, gathered: &Gathered) -> Result<(), Failure> {
        let name = format!("{place}/{}", gathered.file);
        if !safe(&name) {
            return Err(Failure::new(Kind::Bug, "a log has a name that is no name").saw(format!("{name:?}")));
        }
        let (text, taken) = gravity::redact_log(&gathered.text);
        let mut washed = String::with_capacity(text.len() + 1);
        for line in text.lines() {
            washed.push_str(&world.events.washed_text(line));
            washed.push('\n');
        }
        for taken in &taken {
            self.redacted.push(format!("{name}:{} {}", taken.line, taken.kind));
            *self.kinds.entry(taken.kind).or_default() += 1;
        }
        let mut remarks = Vec::new();
        if gathered.cut {
            remarks.push(format!("only its last {} MiB", gravity::MOST >> 20));
        }
        if let Some(failed) = &gathered.failed {
            self.lacking += 1;
            remarks.push(format!("NOT WELL: {failed}"));
        }
        let source = world.events.washed_text(&gathered.source);
        self.index.push(format!(
            "{name}  ({} lines, {source}){}{}",
            text.lines().count(),
            if remarks.is_empty() { "" } else { "  " },
            remarks.join("; ")
        ));
        self.write(&name, washed.into_bytes())
    }

    /// Index and list, and the tarball of all. Returns its path.
    fn finish(mut self, title: &str) -> Result<(PathBuf, Self), Failure> {
        let list = if self.redacted.is_empty() {
            "Nothing that is known as a secret was found.\n".to_owned()
        } else {
            format!(
                "What was taken out, as FILE:LINE KIND. The line itself stays, with ******** in the secret's place.\n\n{}\n",
                self.redacted.join("\n")
            )
        };
        let index = format!("{title}\n\n{}\n", self.index.join("\n"));
        self.write("GATHERED.txt", index.into_bytes())?;
        self.write("REDACTED.txt", list.into_bytes())?;
        let mut path = self.root.clone().into_os_string();
        path.push(".tar.gz");
        let path = PathBuf::from(path);
        let packed = || -> std::io::Result<()> {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            let mut tar = TarWriter::new(file);
            let top = self.root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let now = jiff::Timestamp::now().as_second();
            for (name, content) in &self.files {
                tar.file(&format!("{top}/{name}"), 0o600, now, content)?;
            }
            tar.finish()?.sync_all()
        };
        packed().map_err(|error| cannot(&path, &error))?;
        Ok((path, self))
    }
}

fn is_main(world: &World, host: &str) -> bool {
    let groups = world.vars.get(host).and_then(|vars| vars.get("group_names")).and_then(Value::as_array);
    groups.is_some_and(|groups| groups.iter().any(|group| group.as_str() == Some("mains")))
}

pub(super) async fn run(world: &World, hosts: &[String], args: &Map<String, Value>) -> Result<Done, Failure> {
    let cluster = world.cluster()?.clone();
    let text = |name: &str| args.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let since = match text("since") {
        None => SINCE,
        Some(text) => crate::settings::duration::parse(text)
            .map_err(|what| Failure::new(Kind::CouldNotStart, format!("since {text:?}: {what}")))?,
    };
    let wants_report = args.get("report").and_then(Value::as_bool) == Some(true);
    let root = text("dest").map_or_else(|| world.run.dir.join("gathered"), PathBuf::from);
    if world.choices.check {
        return Ok(Done::skipped("--check gathers nothing"));
    }
    let mut folder = Folder::make(&root)?;
    let since_epoch = jiff::Timestamp::now().as_second() - i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2);
    let gathered: Vec<(String, Result<Vec<Gathered>, Failure>)> = futures::stream::iter(hosts.to_vec())
        .map(|host| async move {
            let amv = world.var(&host, "pce_amv_backup_dir");
            let node = async {
                let session = world.session(&host).await?;
                gravity::gather_node(&session, &world.probe_options(&host), since_epoch, amv.as_deref()).await
            };
            (host.clone(), node.await)
        })
        .buffered(FORKS)
        .collect()
        .await;
    let (mut reached, mut failures) = (Vec::new(), Vec::new());
    for (host, node) in gathered {
        match node {
            Ok(sources) => {
                for source in &sources {
                    folder.add(world, &host, source)?;
                }
                reached.push(host);
            }
            Err(failure) => {
                let failure = if failure.host.is_none() { failure.on(&host) } else { failure };
                folder.index.push(world.events.washed_text(&format!("{host}  NOT REACHED: {failure}")));
                world.warn(Some(&host), format!("its logs could not be had: {failure}")).await;
                failures.push(failure);
            }
        }
    }
    if reached.is_empty() {
        return Err(Failure::all(failures).unwrap_or_else(|| Failure::new(Kind::NoHost, "the play has no host")));
    }
    let main = reached.iter().find(|host| is_main(world, host)).or(reached.first()).cloned().unwrap_or_default();
    let told = async { gravity::gather_cluster(&world.session(&main).await?, &world.probe_options(&main)).await };
    match told.await {
        Ok(sources) => {
            for source in &sources {
                folder.add(world, "cluster", source)?;
            }
        }
        Err(failure) => {
            folder.index.push(world.events.washed_text(&format!("cluster  NOT READ: {failure}")));
            world.warn(Some(&main), format!("what Kubernetes tells could not be had: {failure}")).await;
        }
    }
    let title = format!("Logs of {cluster}, gathered {} by {}", jiff::Timestamp::now(), world.run.who);
    let (packed, folder) = tokio::task::spawn_blocking(move || folder.finish(&title))
        .await
        .map_err(|error| Failure::new(Kind::Bug, error.to_string()))??;
    let line = |word: &str, text: String| SummaryLine { word: word.to_owned(), text };
    let kinds: Vec<String> = folder.kinds.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    let mut lines = vec![
        line("folder", root.display().to_string()),
        line("packed", packed.display().to_string()),
        line("nodes", format!("{} read, {} not reached", reached.len(), hosts.len() - reached.len())),
        line("sources", format!("{}, {} of them not well (GATHERED.txt)", folder.index.len(), folder.lacking)),
        line(
            "taken out",
            if kinds.is_empty() {
                "nothing was known as a secret".to_owned()
            } else {
                format!("{} (REDACTED.txt)", kinds.join(", "))
            },
        ),
    ];
    let report = if wants_report { Some(report(world, &main, &root, since).await) } else { None };
    match &report {
        Some(Ok(text)) => lines.push(line("report", text.clone())),
        Some(Err(failure)) => lines.push(line("NO REPORT", failure.to_string())),
        None => {}
    }
    let next = vec!["read it before you give it away: what is not known as a secret is still in it".to_owned()];
    world.events.tell(Event::Summary { lines, next });
    if let Some(Err(failure)) = report {
        return Err(failure);
    }
    Ok(Done::ok(
        packed.display().to_string(),
        json!({"folder": root, "packed": packed, "nodes": reached, "redacted": folder.redacted.len()}),
    ))
}

/// `gravity report`, beside the folder and not in its tarball: it holds a dump of all of etcd.
async fn report(world: &World, host: &str, root: &Path, since: Duration) -> Result<String, Failure> {
    world.events.warn(
        Some(host),
        "gravity report holds secrets (a dump of etcd among them) and is not redacted: it is kept beside the folder, for you alone",
    );
    let options = world.probe_options(host);
    let session = world.session(host).await?;
    let facts = gravity::probe(&session, &options).await?;
    let path = format!("{}/gravity-report-{:012x}.tar.gz", options.node_dir, rand::random::<u64>() >> 16);
    let made = gravity::report(&session, &options, &path, since).await;
    let brought = async {
        match made? {
            Report::There(_) => {}
            Report::Empty(said) => {
                return Err(Failure::new(Kind::Failed, "gravity report left an empty file")
                    .on(host)
                    .saw(said)
                    .why("gravity makes the file first and leaves it when it fails")
                    .mend(format!("sudo gravity status; then again: ferry logs {} --report", world.cluster()?)));
            }
            Report::None(said) => {
                return Err(Failure::new(Kind::Failed, "gravity report failed").on(host).saw(said));
            }
        }
        let nodes: Vec<String> = facts
            .gravity
            .as_ref()
            .and_then(|gravity| gravity.status.as_ref())
            .map(|status| status.nodes.iter().map(|node| node.hostname.clone()).collect())
            .unwrap_or_default();
        let mut here = root.to_path_buf().into_os_string();
        here.push(".gravity-report.tar.gz");
        let here = PathBuf::from(here);
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&here)
            .map_err(|error| cannot(&here, &error))?;
        let pull = Pull {
            host: host.to_owned(),
            source: path.clone(),
            destination: here.clone(),
            required: nodes.iter().map(|node| format!("{node}-debug-logs.tar.gz")).collect(),
            walk: true,
            patience: world.choices.patience,
        };
        let way = world.way(host)?.clone();
        let arrived = transfer::pull(&way, &session, &pull, |_, _| {}).await;
        let _ = std::fs::remove_file(transfer::note_path(&here));
        let arrived = arrived.map_err(|trouble| {
            let _ = std::fs::remove_file(&here);
            match trouble {
                transfer::Trouble::NotWhole(fault) => {
                    Failure::new(Kind::Failed, "gravity report is no whole archive").on(host).saw(fault.to_string())
                }
                transfer::Trouble::Differs(failure) | transfer::Trouble::Failure(failure) => failure,
            }
        })?;
        let missing: Vec<String> = arrived
            .walk
            .iter()
            .flat_map(|walk| &walk.missing)
            .map(|name| name.trim_end_matches("-debug-logs.tar.gz").to_owned())
            .collect();
        let mut text = format!("{} (holds secrets, not redacted)", here.display());
        if !missing.is_empty() {
            let lacks = format!("gravity report lacks {}: gravity says nothing of that", missing.join(", "));
            world.warn(Some(host), lacks.clone()).await;
            text = format!("{text}; {lacks}");
        }
        Ok(text)
    };
    let brought = brought.await;
    if let Err(failure) = gravity::forget_report(&session, &path).await {
        world.warn(Some(host), format!("the report is still on the node and holds secrets: {path}: {failure}")).await;
    }
    brought
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for good in ["prod-1/journal.txt", "cluster/influxdb/a-0.log"] {
            assert!(safe(good), "{good}");
        }
        for bad in ["", "/etc/x", "a/../b", "a//b", "a/.hidden", "a/b\n", "a\\b"] {
            assert!(!safe(bad), "{bad:?}");
        }
    }
}
