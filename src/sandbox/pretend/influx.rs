//! `kubectl exec` into the pods of AMV, pretended: `influxd-ctl`, `influx`, and the few ordinary
//! commands that a script needs there.
//!
//! What lives here: InfluxDB's answers, its backup into a folder of the pod and its restore from
//! one. What does not: who calls it (amv's script), the data's beginning (content).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::record::Record;
use super::{Node, amv, content, say, say_err};

/// In the shared folder: the file system of the pods.
const POD: &str = "amv-pod";
/// The pods of AMV.
pub(crate) const COMPONENT: &str = "dias-prov-k8s-am-influxdb-comp";

/// The names of AMV's pods.
pub(crate) fn pods() -> impl Iterator<Item = String> {
    let meta = (0..3).map(|at| format!("{COMPONENT}-meta-{at}"));
    meta.chain((0..2).map(|at| format!("{COMPONENT}-data-{at}")))
}

/// Runs `kubectl -n dias exec [-i] [-t] [-c CONTAINER] POD -- COMMAND…`.
pub(crate) fn exec(node: &Node, argv: &[String]) -> u8 {
    let (mut namespace, mut pod, mut stdin) = (String::new(), String::new(), false);
    let mut words = argv.iter();
    let mut command: Vec<&str> = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-n" | "--namespace" => namespace = words.next().cloned().unwrap_or_default(),
            "-c" | "--container" => drop(words.next()),
            "-i" | "--stdin" => stdin = true,
            "-t" | "--tty" => {}
            "-it" | "-ti" => stdin = true,
            "exec" if pod.is_empty() => {}
            "--" => {
                command = words.map(String::as_str).collect();
                break;
            }
            word if word.starts_with("--namespace=") => word.split_at(12).1.clone_into(&mut namespace),
            word => pod = word.trim_start_matches("pod/").to_owned(),
        }
    }
    if namespace != "dias" || !pods().any(|known| known == pod) {
        say_err(format!("Error from server (NotFound): pods \"{pod}\" not found\n"));
        return 1;
    }
    if content::ensure(node).is_err() {
        return 1;
    }
    match carry_out(node, &command, stdin) {
        Ok(code) => {
            if code != 0 {
                say_err(format!("command terminated with exit code {code}\n"));
            }
            code
        }
        Err(error) => {
            say_err(format!("{}: {error}\ncommand terminated with exit code 1\n", command.first().unwrap_or(&"")));
            1
        }
    }
}

/// A path of the pod as a path of ours.
fn inside(node: &Node, path: &str) -> io::Result<PathBuf> {
    if path.split('/').any(|part| part == "..") {
        return Err(io::Error::other("a path with .. is not pretended"));
    }
    Ok(node.shared.join(POD).join(path.trim_start_matches('/')))
}

fn carry_out(node: &Node, command: &[&str], stdin: bool) -> io::Result<u8> {
    match command {
        ["true"] => {
            if stdin {
                swallow();
            }
            Ok(0)
        }
        ["influxd-ctl", "backup", rest @ ..] => backup(node, rest),
        ["influxd-ctl", "restore", rest @ ..] => restore(node, rest),
        ["influx", rest @ ..] => influx(node, rest),
        ["mkdir", "-p", path] => fs::create_dir_all(inside(node, path)?).map(|()| 0),
        ["rm", "-rf", path] => match fs::remove_dir_all(inside(node, path)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(0),
        },
        ["du", "-sk", path] => {
            let sizes = content::files(&node.shared.join(content::AMV))?;
            let bytes: u64 = sizes.values().filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).sum();
            say(format!("{}\t{path}\n", bytes.div_ceil(1024)));
            Ok(0)
        }
        ["tee", path] => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes)?;
            fs::write(inside(node, path)?, &bytes)?;
            say(bytes);
            Ok(0)
        }
        ["tar", "-C", folder, rest @ ..] => {
            let status = Command::new("/bin/tar")
                .arg("-C")
                .arg(inside(node, folder)?)
                .args(rest)
                .stdin(if stdin { Stdio::inherit() } else { Stdio::null() })
                .status()?;
            Ok(u8::try_from(status.code().unwrap_or(2)).unwrap_or(2))
        }
        _ => {
            say_err(format!("OCI runtime exec failed: {:?}: executable file not found in $PATH\n", command.first()));
            Ok(126)
        }
    }
}

/// `kubectl exec -i` sends all that waits on its standard input into the pod, whether anybody there
/// reads it or not.
fn swallow() {
    std::thread::spawn(|| io::copy(&mut io::stdin().lock(), &mut io::sink()));
    std::thread::sleep(std::time::Duration::from_millis(300));
}

fn databases(node: &Node) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    match fs::read_dir(node.shared.join(content::AMV).join("databases")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

/// `influx [-format csv] [-database NAME] -execute QUERY`, as csv.
fn influx(node: &Node, argv: &[&str]) -> io::Result<u8> {
    let value = |name: &str| argv.iter().position(|word| *word == name).and_then(|at| argv.get(at + 1)).copied();
    let query = value("-execute").unwrap_or_default();
    let dir = node.shared.join(content::AMV).join("databases").join(value("-database").unwrap_or("none"));
    let measurements = || content::files(&dir.join("measurements"));
    let rows: Vec<String> = if query == "SHOW DATABASES" {
        let names = databases(node)?;
        if !names.is_empty() {
            say("name,name\n");
        }
        names.into_iter().map(|name| format!("databases,{name}")).collect()
    } else if query == "SHOW MEASUREMENTS" {
        say("name,name\n");
        measurements()?.into_keys().map(|name| format!("measurements,{name}")).collect()
    } else if query == "SHOW RETENTION POLICIES" {
        say("name,duration,shardGroupDuration,replicaN,default\n");
        let text = fs::read_to_string(dir.join("retention-policies")).unwrap_or_default();
        let row = |(at, line): (usize, &str)| format!("{},24h0m0s,2,{}", line.replace(' ', ","), at == 0);
        text.lines().enumerate().map(row).collect()
    } else if query.starts_with("SHOW SERIES") {
        say("count\n");
        let texts = measurements()?.into_values().filter_map(|path| fs::read_to_string(path).ok());
        vec![texts.map(|text| text.lines().count()).sum::<usize>().to_string()]
    } else if let Some(name) = query.strip_prefix("DROP DATABASE ") {
        let name = name.trim_matches('"');
        let gone = databases(node)?.iter().any(|known| known == name);
        if gone {
            fs::remove_dir_all(node.shared.join(content::AMV).join("databases").join(name))?;
            let erased = Record::new(node, "amv", "restore", "erased", &amv::run_id());
            Record { note: name.to_owned(), ..erased }.put(node);
        }
        Vec::new()
    } else {
        say_err(format!("ERR: error parsing query: {query}\n"));
        return Ok(1);
    };
    say(rows.iter().map(|row| format!("{row}\n")).collect::<String>());
    Ok(0)
}

fn tar(args: &[&str], dir: &Path, file: &Path, what: Option<&str>) -> io::Result<()> {
    let status = Command::new("/bin/tar").arg("-C").arg(dir).args(args).arg(file).args(what).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("a shard is damaged")) }
}

/// `influxd-ctl backup [-strategy full|only-meta] DIR`.
fn backup(node: &Node, argv: &[&str]) -> io::Result<u8> {
    let Some(to) = argv.last() else { return Ok(1) };
    let only_meta = argv.contains(&"only-meta");
    let (dir, data) = (inside(node, to)?, node.shared.join(content::AMV));
    fs::create_dir_all(&dir)?;
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut total = 0_u64;
    let mut manifest = BTreeMap::new();
    if data.join("meta").is_dir() {
        let file = dir.join(format!("{stamp}.meta"));
        total += fs::copy(data.join("meta/users.json"), &file)?;
        say(format!("Backing up meta data... Done. {total} bytes transferred\n"));
        manifest.insert("meta".to_owned(), format!("{stamp}.meta"));
    }
    let shards = if only_meta { Vec::new() } else { databases(node)? };
    for (at, database) in shards.iter().enumerate() {
        let shard = at + 2;
        let name = format!("{stamp}.s{shard}.tar.gz");
        tar(&["-czf"], &data, &dir.join(&name), Some(&format!("databases/{database}")))?;
        let bytes = fs::metadata(dir.join(&name))?.len();
        total += bytes;
        say(format!(
            "Backing up node {COMPONENT}-data-{}:8088, db {database}, rp autogen, shard {shard}... Done. Backed up in 15.184391ms, {bytes} bytes transferred\n",
            at % 2
        ));
        manifest.insert(database.clone(), name);
    }
    fs::write(dir.join(format!("{stamp}.manifest")), serde_json::to_vec(&manifest)?)?;
    say(format!("Backed up to {to} in 51.388233ms, transferred {total} bytes\n"));
    Ok(0)
}

/// `influxd-ctl restore DIR`, into databases that are not there.
fn restore(node: &Node, argv: &[&str]) -> io::Result<u8> {
    let Some(from) = argv.last() else { return Ok(1) };
    let (dir, data) = (inside(node, from)?, node.shared.join(content::AMV));
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(manifest) =
        content::files(&dir)?.into_values().find(|path| path.extension().is_some_and(|ending| ending == "manifest"))
    else {
        say_err("restore: no manifest files found\n");
        return Ok(1);
    };
    say(format!("Using manifest: {}\n", name(&manifest)));
    let parts: BTreeMap<String, String> = serde_json::from_slice(&fs::read(&manifest)?)?;
    let there = databases(node)?;
    if let Some(taken) = parts.keys().find(|name| there.contains(name)) {
        say_err(format!("restore: database {taken} already exists\n"));
        return Ok(1);
    }
    let mut total = 0_u64;
    for (at, (database, file)) in parts.iter().enumerate() {
        let path = dir.join(file);
        if database == "meta" {
            // A backup may have been filtered.
            if path.exists() {
                fs::create_dir_all(data.join("meta"))?;
                total += fs::copy(&path, data.join("meta/users.json"))?;
                say("Restoring meta data... Done. Restored in 9.585639ms, 1 shards mapped\n");
            }
            continue;
        }
        let bytes = fs::metadata(&path)?.len();
        fs::create_dir_all(&data)?;
        tar(&["-xzf"], &data, &path, None)?;
        total += bytes;
        let shard = at + 2;
        say(format!(
            "Restoring db {database}, rp autogen, shard {shard} to shard {shard}...\nCopying data to {COMPONENT}-data-{}:8088... Done. Restored shard {shard} into shard {shard} in 48ms, {bytes} bytes transferred\n",
            at % 2
        ));
    }
    lose(node, &data)?;
    say(format!("Restored from {from} in 58.58301ms, transferred {total} bytes\n"));
    Record::new(node, "amv", "restore", "written", &amv::run_id()).put(node);
    Ok(0)
}

/// The fault `amv-mismatch`: something of what was restored is not there, and nobody says so.
fn lose(node: &Node, data: &Path) -> io::Result<()> {
    let Some(what) = node.fault("amv-mismatch") else { return Ok(()) };
    let Some(last) = databases(node)?.pop() else { return Ok(()) };
    let dir = data.join("databases").join(last);
    let first = content::files(&dir.join("measurements"))?.into_values().next();
    match (what.as_str(), first) {
        ("databases", _) => fs::remove_dir_all(dir),
        ("policies", _) => fs::write(dir.join("retention-policies"), ""),
        ("series", Some(path)) => {
            let text = fs::read_to_string(&path)?;
            fs::write(path, text.split_inclusive('\n').skip(1).collect::<String>())
        }
        (_, Some(path)) => fs::remove_file(path),
        _ => Ok(()),
    }
}
