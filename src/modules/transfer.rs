//! `transfer`: a file from a host to a host, or between a host and this machine. `ferry transfer` is a play of this task.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Done, World, arg};
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};
use crate::transfer::carry::{Moved, Order, Survey, carry, parse_end, parse_rate, survey};
use crate::transfer::direct::Direct;
use crate::transfer::ends::{End, Place};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "transfer",
    "Moves a file or a folder between two hosts, or a host and here, and proves every chunk at both ends",
    &[
        arg("src", ArgKind::Str, "HOST:PATH, or a path here").required(),
        arg("dest", ArgKind::Str, "HOST:PATH, or a path here; with / at its end the file keeps its name").required(),
        arg(
            "via",
            ArgKind::Str,
            "relay: through ferry, nothing on our disk; disk: through a spool here; direct: from node to node, by a key of this one \
             transfer; auto takes relay",
        )
        .default("auto"),
        arg("force", ArgKind::Bool, "replace a file that is there, and what an earlier transfer left"),
        arg("resume", ArgKind::Bool, "go on with what an earlier transfer left"),
        arg("mode", ArgKind::Str, "permissions of the file there, octal").default("0600"),
        arg("owner", ArgKind::Str, "USER or USER:GROUP that it belongs to there; else who writes it"),
        arg("sha256", ArgKind::Bool, "make the SHA-256 of the whole as well, which is no part of the proof where both ends have openssl 3"),
        arg("limit_rate", ArgKind::Str, "bytes a second at most: 10M"),
        arg("streams", ArgKind::Str, "connections at once: auto, or 1 to 8").default("auto"),
    ],
);

/// The way for a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Via {
    /// From stream to stream.
    Relay,
    /// Through a spool on our disk.
    Disk,
    /// From node to node.
    Direct,
}

fn wrong(what: impl Into<String>) -> Failure {
    Failure::new(Kind::CouldNotStart, what)
}

/// A path here as it is meant from the folder we are in, its links followed up to its folder.
fn here(path: &str) -> Result<String, Failure> {
    let told = |error: std::io::Error| wrong("there is no such folder here").saw(format!("{path}: {error}"));
    let absolute = std::path::absolute(path).map_err(told)?;
    let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(wrong("this is no place for a file").saw(path.to_owned()));
    };
    let whole = folder.canonicalize().map_err(told)?.join(name);
    whole.into_os_string().into_string().map_err(|odd| {
        wrong("a path that is no text cannot be moved").saw(crate::secret::clean(odd.as_encoded_bytes()))
    })
}

fn end(world: &World, text: &str, name: Option<&str>) -> Result<End, Failure> {
    let (host, path) = parse_end(text);
    let mut path = path.to_owned();
    if path.ends_with('/') {
        path.push_str(name.unwrap_or_default());
    }
    if path.is_empty() || path.ends_with('/') {
        return Err(wrong("a file is to be named").saw(text.to_owned()).mend("HOST:/ABSOLUTE/PATH, or a path here"));
    }
    let Some(host) = host else { return Ok(End { place: Place::Here, path: here(&path)? }) };
    let Some(way) = world.ways.get(host) else {
        return Err(wrong(format!("{host} is none of the play's hosts"))
            .saw(text.to_owned())
            .mend("name it in the play's hosts; a path here that has a colon is written ./a:b"));
    };
    // An archive holds every secret of a platform.
    if let Some(careless) = way.careless().first() {
        return Err(wrong("files do not go where host keys are not checked")
            .on(host)
            .saw(careless.clone())
            .why("whoever sits in between would have them")
            .mend("take host key checking off nowhere: record the keys (ssh-keyscan), or -o StrictHostKeyChecking=accept-new"));
    }
    Ok(End { place: Place::Host { name: host.to_owned(), way: way.clone() }, path })
}

fn mode(text: &str) -> Result<u32, Failure> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| wrong("mode is an octal number of permissions").saw(text.to_owned()).mend("mode: \"0640\""))
}

fn owner(text: &str) -> Result<String, Failure> {
    let fits = !text.is_empty()
        && !text.starts_with('-')
        && text.matches(':').count() <= 1
        && text.chars().all(|c| c.is_alphanumeric() || "._-:@\\".contains(c));
    if fits { Ok(text.to_owned()) } else { Err(wrong("owner is USER or USER:GROUP").saw(text.to_owned())) }
}

/// What the arguments mean. Touches no host.
fn order(world: &World, args: &Map<String, Value>) -> Result<(Order, Via), Failure> {
    let text = |name: &str| args.get(name).and_then(Value::as_str);
    let flag = |name: &str| args.get(name).and_then(Value::as_bool).unwrap_or(false);
    let (src, dest) = (text("src").unwrap_or_default(), text("dest").unwrap_or_default());
    let name = parse_end(src).1.rsplit('/').next();
    let (from, to) = (end(world, src, None)?, end(world, dest, name)?);
    let both_hosts = !from.is_here() && !to.is_here();
    if from.is_here() && to.is_here() {
        return Err(wrong("both ends are here: that is work for cp")
            .saw(format!("{src} {dest}"))
            .mend("name a host: HOST:PATH"));
    }
    let via = match text("via").unwrap_or("auto") {
        "auto" | "relay" => Via::Relay,
        "disk" if both_hosts => Via::Disk,
        "disk" => return Err(wrong("via disk is for two hosts; one end of this one is here already")),
        "direct" if both_hosts => Via::Direct,
        "direct" => return Err(wrong("via direct is for two hosts; one end of this one is here already")),
        other => return Err(wrong(format!("there is no way called {other:?}")).mend("auto, relay, disk, direct")),
    };
    let streams = match text("streams").unwrap_or("auto") {
        "auto" => None,
        number => Some(
            number
                .parse::<usize>()
                .ok()
                .filter(|number| (1..=8).contains(number))
                .ok_or_else(|| wrong("streams is auto, or a number from 1 to 8").saw(number.to_owned()))?,
        ),
    };
    let limit_rate = match text("limit_rate") {
        None => None,
        Some(text) => Some(parse_rate(text).ok_or_else(|| {
            wrong("limit_rate is a number of bytes a second").saw(text.to_owned()).mend("10M, 500k, 1G")
        })?),
    };
    if via == Via::Direct && streams.is_some_and(|streams| streams > 1) {
        return Err(wrong("via direct has one stream").saw(format!("streams {}", streams.unwrap_or(1))));
    }
    let direct = (via == Via::Direct).then(|| {
        let dir = world.var(from.host(), "ferry_node_dir");
        Direct::new(dir.unwrap_or_else(|| "/var/lib/ferry".to_owned()).trim_end_matches('/'))
    });
    let order = Order {
        from,
        to,
        force: flag("force"),
        resume: flag("resume"),
        mode: mode(text("mode").unwrap_or("0600"))?,
        owner: text("owner").map(owner).transpose()?,
        limit_rate,
        sha256: flag("sha256"),
        streams,
        patience: world.choices.patience,
        direct,
    };
    Ok((order, via))
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What will be done, for people.
fn plan(order: &Order, via: Via, found: &Survey) -> Vec<String> {
    let way = match via {
        Via::Disk => "disk: a spool in this run's folder, removed at the end, as asked for".to_owned(),
        Via::Relay if order.from.is_here() || order.to.is_here() => "straight: one end is here".to_owned(),
        Via::Relay => "relay: from stream to stream through ferry, nothing on our disk".to_owned(),
        Via::Direct => {
            let (ssh, server, expires) = found.direct().unwrap_or_default();
            let expires = if expires { "; good for an hour only" } else { "; this server knows no expiry" };
            format!(
                "direct: from node to node, as asked for (auto never takes it). The source's own ssh ({ssh}) logs in at the target \
                 ({server}) with a key of this one transfer, which stays in ferry; its entry in authorized_keys there is held to \
                 one command and to the source's addresses{expires}, and removed at the end"
            )
        }
    };
    let mut lines = vec![
        format!("{} to {}, {}", order.from.shown(), order.to.shown(), mib(found.bytes)),
        format!("way: {way}"),
        format!(
            "connections: {} ({}); chunks of {} MiB, {} of each by {} there and {} at the target",
            found.streams,
            found.why_streams,
            found.chunk >> 20,
            if found.gmac { "GMAC" } else { "SHA-256" },
            found.tools[0],
            found.tools[1]
        ),
    ];
    if found.folder {
        lines.pop();
        lines.push(format!(
            "a folder: one tar stream, its digest made by {} there, of the stream, and by {} at the target; then unpacked, modes as at the source",
            found.tools[0], found.tools[1]
        ));
    }
    let owner = order.owner.as_ref().map(|owner| format!(", owner {owner}")).unwrap_or_default();
    let free = found.free.map_or_else(|| "free space not known".to_owned(), |free| format!("{} free", mib(free)));
    let mode = if found.folder { "a new folder".to_owned() } else { format!("mode {:04o}", order.mode) };
    lines.push(format!("there: {mode}{owner}; {free}"));
    if found.replaces {
        lines.push("the file that is there will be replaced, once the new one is proved".to_owned());
    }
    if let Some(part) = found.resumes {
        lines.push(format!("goes on with the {} of an earlier transfer, which are proved again", mib(part)));
    }
    lines
}

/// Removes the spool, whatever happens.
struct Spool(PathBuf);

impl Spool {
    fn make(run: &Path) -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt as _;
        let dir = run.join("spool");
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|error| wrong("the spool cannot be made").saw(format!("{}: {error}", dir.display())))?;
        Ok(Self(dir))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn leg(world: &World, order: &Order, found: &Survey, what: &str) -> Result<Moved, Failure> {
    let mut last: Option<(std::time::Instant, u64)> = None;
    carry(order, found, |done, total| {
        if last.is_none_or(|(last, told)| last.elapsed().as_millis() >= 250 || (done == total && told != done)) {
            last = Some((std::time::Instant::now(), done));
            world.events.tell(Event::Progress {
                what: what.to_owned(),
                host: order.to.host().to_owned(),
                done,
                total: Some(total),
                unit: "bytes".to_owned(),
            });
        }
    })
    .await
}

pub(super) async fn run(world: &World, args: &Map<String, Value>) -> Result<Done, Failure> {
    let (order, via) = order(world, args)?;
    let found = survey(&order).await?;
    for line in plan(&order, via, &found) {
        world.events.note(None, line);
    }
    let what = format!("{} to {}", order.from.shown(), order.to.shown());
    if world.choices.check {
        return Ok(Done {
            effect: Default::default(),
            ..Done::changed(format!("would move {what}"), json!({"bytes": found.bytes, "would": true}))
        });
    }
    let name = order.to.path.rsplit('/').next().unwrap_or_default().to_owned();
    let moved = match via {
        Via::Relay | Via::Direct => leg(world, &order, &found, &format!("transfer {name}")).await?,
        Via::Disk if found.folder => {
            return Err(wrong("a folder does not go through a spool")
                .mend("--via relay; or pack it there and move the archive"));
        }
        Via::Disk => {
            let spool = Spool::make(&world.run.dir)?;
            let between = End { place: Place::Here, path: spool.0.join("file").display().to_string() };
            let first = Order {
                to: between.clone(),
                force: false,
                resume: false,
                mode: 0o600,
                owner: None,
                sha256: true,
                ..order.clone()
            };
            let brought = leg(world, &first, &survey(&first).await?, &format!("fetch {name}")).await?;
            let second = Order { from: between, sha256: true, ..order.clone() };
            let mut moved = leg(world, &second, &survey(&second).await?, &format!("deliver {name}")).await?;
            moved.took += brought.took;
            moved.cuts += brought.cuts;
            moved.sent_again += brought.sent_again;
            moved.started_over |= brought.started_over;
            if let (Some(here), Some(there)) = (brought.sha256, moved.sha256)
                && here != there
            {
                return Err(Failure::new(Kind::Failed, "the spool was changed between coming and going")
                    .saw(format!("{here} came, {there} went")));
            }
            moved
        }
    };
    if moved.started_over {
        world.warn(Some(order.from.host()), "the file changed while it was read; all was moved anew").await;
    }
    let rate = moved.bytes as f64 / moved.took.as_secs_f64().max(0.001) / f64::from(1 << 20);
    let digest = moved.sha256.map(|digest| format!(", sha256 {digest}")).unwrap_or_default();
    let cuts = match moved.cuts {
        0 => String::new(),
        cuts => format!(", through {cuts} cuts ({} sent again)", mib(moved.sent_again)),
    };
    let proof = match found.folder {
        true => "a tar stream, equal at both ends and in between".to_owned(),
        false => {
            let by = if found.gmac { "GMAC" } else { "SHA-256" };
            format!("{} chunks equal at both ends, by {by}", moved.chunks)
        }
    };
    let message = format!("{} at {rate:.0} MiB/s{cuts}; {proof}{digest}", mib(moved.bytes));
    let result = json!({
        "src": order.from.shown(),
        "dest": order.to.shown(),
        "bytes": moved.bytes,
        "sha256": moved.sha256.map(|digest| digest.to_string()),
        "chunks": moved.chunks,
        "chunk_bytes": found.chunk,
        "streams": moved.streams,
        "cuts": moved.cuts,
        "bytes_sent_again": moved.sent_again,
        "bytes_kept": moved.kept,
        "seconds": moved.took.as_secs_f64(),
    });
    Ok(Done::changed(message, result))
}
