//! What may go wrong on this machine: places and their space, keys, agent, known hosts, clock, terminal, limits.
//!
//! What lives here: looking, without a change. What does not: hosts (`way`).

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Found, Seen};
use crate::cli::args::Common;
use crate::cli::{open, prompt};
use crate::failure::Kind;
use crate::remote::ssh::keys;
use crate::remote::ssh::known_hosts::KnownHosts;
use crate::report::figures::human_bytes;
use crate::settings::Settings;

/// A catalog with less room than this will not take the next archive.
const LEAST_CATALOG: u64 = 1 << 30;
/// A catalog with less room than this is soon full.
const LITTLE_CATALOG: u64 = 20 << 30;
/// Journals and host logs need little.
const LEAST_RUNS: u64 = 64 << 20;
const LITTLE_RUNS: u64 = 1 << 30;
/// Before this the clock is surely wrong: ferry was not yet written. Seconds since 1970, 1 January 2026.
const NOT_BEFORE: i64 = 1_767_225_600;
/// sshd gives up after so many keys (`MaxAuthTries`).
const MANY_KEYS: u32 = 6;
/// A connection takes two descriptors at most, its logs one; ferry itself takes few.
const FILES_A_HOST: u64 = 4;
const FILES_OF_OURS: u64 = 64;

/// Looks at all of it.
pub(super) fn look(common: &Common) -> Seen {
    let mut seen = Seen::default();
    seen.found.extend(clock());
    match open::settings(&common.inventory, common.catalog.as_deref(), common.run_dir.as_deref(), common.forks) {
        // Told by whoever opens the rest: see `run`.
        Err(_) => {}
        Ok(settings) => places(&settings, &mut seen),
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/"));
    let agent = agent(&mut seen);
    let named = common.private_key.clone();
    key_files(&home, named, agent, common.key_passphrase_file.is_some(), &mut seen);
    ssh_files(&home, &mut seen);
    terminal(&mut seen);
    seen
}

fn clock() -> Option<Found> {
    let now = jiff::Timestamp::now();
    (now.as_second() < NOT_BEFORE).then(|| {
        Found::wrong("clock", Kind::CouldNotStart, format!("this machine says that it is {now}"))
            .why("certificates are judged, and points named and retired, by the clock")
            .mend("timedatectl set-ntp true")
    })
}

/// The path itself, or the nearest folder above it that is there.
fn nearest(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| path.exists())
}

/// The room at a path for us, in bytes.
pub(super) fn room(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn place(gate: &str, path: &Path, option: &str, least: u64, little: u64) -> (Option<Found>, Option<u64>) {
    let shown = path.display();
    let another = format!("name another place: {option}");
    let Some(there) = nearest(path) else {
        return (
            Some(Found::wrong(gate, Kind::CouldNotStart, format!("{shown}: there is no such place")).mend(another)),
            None,
        );
    };
    if !there.is_dir() {
        let what = format!("{} is no folder", there.display());
        return (Some(Found::wrong(gate, Kind::CouldNotStart, what).mend(another)), None);
    }
    if rustix::fs::access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_err() {
        let what = format!("{} cannot be written by this user", there.display());
        let found = Found::wrong(gate, Kind::CouldNotStart, what)
            .why(if there == path { "nothing can be kept there" } else { "the folder would have to be made in it" })
            .mend(format!("ls -ld {}; or {another}", there.display()));
        return (Some(found), None);
    }
    let Some(free) = room(there) else {
        return (
            Some(
                Found::warn(gate, format!("{shown}: its free space is not known"))
                    .mend(format!("df -h {}", there.display())),
            ),
            None,
        );
    };
    let found = if free < least {
        Some(Found::wrong(gate, Kind::CouldNotStart, format!("{shown} has {} free", human_bytes(free))))
    } else {
        (free < little).then(|| Found::warn(gate, format!("{shown} has {} free", human_bytes(free))))
    };
    let found = found.map(|found| {
        found
            .why("a run stops when its disk is full")
            .mend(format!("du -xsh {}/*; ferry points list; or {another}", there.display()))
    });
    (found, Some(free))
}

fn places(settings: &Settings, seen: &mut Seen) {
    match &settings.file {
        Some(file) => {
            seen.facts.push(("settings", file.display().to_string()));
            if std::fs::metadata(file).is_ok_and(|meta| meta.mode() & 0o002 != 0) {
                seen.found.push(
                    Found::warn("settings", format!("everybody may write {}", file.display()))
                        .why("whoever does decides where archives go and which hosts are meant")
                        .mend(format!("chmod o-w {}", file.display())),
                );
            }
        }
        None => seen.facts.push(("settings", "no ferry.toml".to_owned())),
    }
    if settings.inventory.is_empty() {
        seen.found.push(
            Found::warn("inventory", "no inventory is named")
                .why("every command needs -i then")
                .mend("ferry init, or inventory in ferry.toml"),
        );
    }
    for (number, catalog) in settings.catalogs.iter().enumerate() {
        let (found, free) =
            place("catalog", catalog, "--catalog DIR, or catalog in ferry.toml", LEAST_CATALOG, LITTLE_CATALOG);
        seen.found.extend(found);
        if std::fs::metadata(catalog).is_ok_and(|meta| meta.mode() & 0o002 != 0) {
            seen.found.push(
                Found::wrong("catalog", Kind::CouldNotStart, format!("everybody may write {}", catalog.display()))
                    .why("a catalog in a world-writable folder is refused: anybody could change what is restored")
                    .mend(format!("chmod o-w {}", catalog.display())),
            );
        }
        if let (0, Some(free)) = (number, free) {
            seen.facts.push(("catalog", format!("catalog {} free", human_bytes(free))));
        }
    }
    let (found, free) = place("runs", &settings.runs, "--run-dir DIR, or runs in ferry.toml", LEAST_RUNS, LITTLE_RUNS);
    seen.found.extend(found);
    if let Some(free) = free {
        seen.facts.push(("runs", format!("runs {} free", human_bytes(free))));
    }
    for path in [&settings.become_password_file, &settings.connection_password_file].into_iter().flatten() {
        if let Err(failure) = prompt::secret_file(path) {
            seen.found.extend(Found::of("settings", &failure));
        }
    }
    if settings.host_key_checking == Some(false) {
        seen.found.push(
            Found::warn("host key", "host key checking is switched off")
                .why("backup, restore, migrate, drill and transfer refuse to run so")
                .mend("remove ANSIBLE_HOST_KEY_CHECKING, and record the keys: ssh-keyscan"),
        );
    }
}

/// How many keys the agent holds; `None` without one.
fn agent(seen: &mut Seen) -> Option<u32> {
    let path = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from)?;
    let unlocked = "the keys that it holds cannot be used";
    match ask_agent(&path) {
        Ok(0) => {
            seen.found.push(Found::warn("agent", "the ssh-agent holds no key").mend("ssh-add"));
            Some(0)
        }
        Ok(count) => {
            let keys = if count == 1 { "1 key".to_owned() } else { format!("{count} keys") };
            seen.facts.push(("agent", format!("agent with {keys}")));
            if count >= MANY_KEYS {
                seen.found.push(
                    Found::warn("agent", format!("the ssh-agent holds {count} keys"))
                        .why("a server gives up after 6 of them (MaxAuthTries), perhaps before the right one")
                        .mend("name the key: --private-key FILE, or IdentitiesOnly yes with IdentityFile"),
                );
            }
            Some(count)
        }
        Err(what) => {
            seen.found.push(
                Found::warn("agent", format!("SSH_AUTH_SOCK names {}, and {what}", path.display()))
                    .why(unlocked)
                    .mend("eval \"$(ssh-agent)\"; ssh-add, or unset SSH_AUTH_SOCK"),
            );
            None
        }
    }
}

/// Asks an agent how many keys it holds (SSH_AGENTC_REQUEST_IDENTITIES).
fn ask_agent(path: &Path) -> Result<u32, String> {
    let limit = Some(Duration::from_secs(3));
    let nobody = |error: std::io::Error| format!("nobody answers there ({error})");
    let mut stream = UnixStream::connect(path).map_err(nobody)?;
    stream.set_read_timeout(limit).and_then(|()| stream.set_write_timeout(limit)).map_err(nobody)?;
    stream.write_all(&[0, 0, 0, 1, 11]).map_err(nobody)?;
    let mut head = [0; 9];
    stream.read_exact(&mut head).map_err(nobody)?;
    let [_, _, _, _, kind, count @ ..] = head;
    if kind != 12 {
        return Err("what answers there is no ssh-agent, or it is locked".to_owned());
    }
    Ok(u32::from_be_bytes(count))
}

fn key_files(home: &Path, named: Option<PathBuf>, agent: Option<u32>, passphrase: bool, seen: &mut Seen) {
    let usual = ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| home.join(".ssh").join(name));
    let given = named.is_some();
    let files: Vec<PathBuf> = named.map_or_else(|| usual.to_vec(), |path| vec![path]);
    let mut usable = 0;
    for path in files {
        let shown = path.display().to_string();
        let Ok(meta) = std::fs::metadata(&path) else {
            if given {
                seen.found.push(
                    Found::wrong("key", Kind::CouldNotStart, format!("{shown}: there is no such key"))
                        .mend("--private-key FILE names another"),
                );
            }
            continue;
        };
        if meta.mode() & 0o077 != 0 {
            seen.found.push(
                Found::warn("key", format!("others may read {shown} (mode {:04o})", meta.mode() & 0o7777))
                    .why("whoever copies it can log in as you; ssh ignores such a key")
                    .mend(format!("chmod 600 {shown}")),
            );
        }
        match keys::load(&path, None) {
            Ok(_) => usable += 1,
            Err(failure) if keys::wants_passphrase(&failure) => {
                if passphrase || agent.is_some_and(|count| count > 0) || prompt::somebody() {
                    usable += 1;
                } else {
                    seen.found.push(
                        Found::warn("key", format!("{shown} has a passphrase, and nobody is here to type it"))
                            .mend("ssh-add, or --key-passphrase-file FILE"),
                    );
                }
            }
            Err(failure) => {
                let mut found = Found::of("key", &failure);
                for found in found.iter_mut().filter(|_| !given) {
                    found.finding.severity = crate::event::Severity::Warn;
                }
                seen.found.extend(found);
            }
        }
    }
    if usable > 0 {
        seen.facts.push(("keys", if usable == 1 { "1 key file".to_owned() } else { format!("{usable} key files") }));
    }
}

fn ssh_files(home: &Path, seen: &mut Seen) {
    let uid = rustix::process::getuid().as_raw();
    let folder = home.join(".ssh");
    for path in [folder.clone(), folder.join("config"), folder.join("known_hosts")] {
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        if meta.mode() & 0o022 != 0 || meta.uid() != uid && meta.uid() != 0 {
            seen.found.push(
                Found::warn(
                    "ssh",
                    format!("others than you may change {} (mode {:04o})", path.display(), meta.mode() & 0o7777),
                )
                .why("it decides which hosts are reached and trusted; ssh refuses a config like that")
                .mend(format!("chmod go-w {0}; chown {uid} {0}", path.display())),
            );
        }
    }
    let config = folder.join("config");
    match std::fs::read(&config) {
        Ok(_) => seen.facts.push(("ssh_config", "ssh_config".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => seen.found.push(
            Found::warn("ssh", format!("{} cannot be read: {error}", config.display()))
                .mend(format!("ls -l {}", config.display())),
        ),
    }
    let files = ["known_hosts", "known_hosts2"].map(|name| folder.join(name));
    let system = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"].map(PathBuf::from);
    let files: Vec<PathBuf> = files.into_iter().chain(system).filter(|path| path.exists()).collect();
    if files.is_empty() {
        seen.facts.push(("known_hosts", "no known_hosts".to_owned()));
    }
    match KnownHosts::load(&files) {
        Err(failure) => seen.found.extend(Found::of("known_hosts", &failure)),
        Ok(known) => {
            for warning in known.warnings() {
                for mut found in Found::of("known_hosts", warning) {
                    found.finding.severity = crate::event::Severity::Warn;
                    seen.found.push(found);
                }
            }
        }
    }
}

fn terminal(seen: &mut Seen) {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if prompt::somebody() {
        match set("TERM").as_deref() {
            None => seen.found.push(
                Found::warn("terminal", "TERM is not set")
                    .why("nobody knows what this terminal can show")
                    .mend("export TERM=xterm-256color"),
            ),
            Some("dumb") => seen.facts.push(("terminal", "TERM=dumb: plain lines".to_owned())),
            Some(_) => {}
        }
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let lower = locale.to_lowercase();
        if !lower.contains("utf-8") && !lower.contains("utf8") {
            let shown = if locale.is_empty() { "not set".to_owned() } else { locale };
            seen.found.push(
                Found::warn("terminal", format!("the locale ({shown}) is not UTF-8"))
                    .why("what hosts say beyond ASCII is written out as \\u{…}")
                    .mend("export LANG=C.UTF-8"),
            );
        }
    } else {
        seen.facts.push(("terminal", "no terminal: nobody is asked".to_owned()));
    }
}

/// Whether so many hosts can be talked to at once.
pub(super) fn enough_files(hosts: usize) -> Option<Found> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = FILES_OF_OURS + FILES_A_HOST * hosts as u64;
    let current = limit.current.filter(|current| *current < wanted)?;
    Some(
        Found::warn("limits", format!("this shell allows {current} open files; {hosts} hosts take up to {wanted}"))
            .why("connections fail when they are used up")
            .mend(format!("ulimit -n {}", limit.maximum.map_or(wanted, |most| most.min(wanted)))),
    )
}
