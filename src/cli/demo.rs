//! `ferry demo`: the whole job against pretend clusters, through the same code as in production:
//! this binary is called as an operator would call it.

use std::path::{Path, PathBuf};

use super::args::{DemoArgs, OutputKind};
use crate::failure::{Failure, Kind};
use crate::report::Sink;
use crate::sandbox::{self, Options};

fn say(text: &str) {
    Sink::stdout().put(&format!("{text}\n"));
}

/// Calls this binary in the sandbox's folder and returns its exit code.
fn ferry(dir: &Path, words: &[&str]) -> Result<i32, Failure> {
    say(&format!("\n$ ferry {}", words.join(" ")));
    let failed = |error: std::io::Error| Failure::new(Kind::Bug, "ferry could not call itself").saw(error.to_string());
    let exe = std::env::current_exe().map_err(failed)?;
    let status = std::process::Command::new(exe)
        .args(words)
        .current_dir(dir)
        .env("FERRY_CONFIG", dir.join("ferry.toml"))
        .status()
        .map_err(failed)?;
    Ok(status.code().unwrap_or(-1))
}

/// A new folder that only we can enter.
fn fresh() -> Result<PathBuf, Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let dir = std::env::temp_dir().join(format!("ferry-demo-{:08x}", rand::random::<u32>()));
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .map_err(|error| Failure::new(Kind::CouldNotStart, format!("{}: {error}", dir.display())))?;
    Ok(dir)
}

pub(super) fn run(args: &DemoArgs) -> Result<u8, Failure> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => fresh()?,
    };
    say("ferry demo: two pretend PCE clusters on this machine, prod and dr, three main nodes each,");
    say("a real backup of prod over SSH, with AMV: preflight, Gravity's hook, collection, verification, seal;");
    say("and its restore into dr: gates, a fresh backup of dr first, delivery, Gravity, AMV and its question;");
    say("and at the end a migration: prod moves to dr in one go, and no point is kept.");
    let up = sandbox::up(&dir, &Options { time_scale: 1.0, hook_seconds: 3.0, archive_mib: 48, ..Options::default() })?;
    let ended = steps(&up.dir, args.output);
    let down = sandbox::down(&up.dir);
    let code = ended?;
    down?;
    if code != 0 {
        return Err(Failure::new(Kind::Failed, format!("a step of the demo ended with exit code {code}"))
            .mend(format!("everything is still in {}", up.dir.display())));
    }
    let dir = up.dir.display();
    say(&format!("\nAll of it lies in {dir}:"));
    say("  catalog/prod/…      the recovery point: archives, manifest, logs");
    say("  catalog/dr/…        what dr held before the restore: the way back");
    say("  runs/…              the run's journal and what each host said");
    say("  inventory.yml, ferry.toml, known_hosts, id_ed25519");
    say("\nTry next:");
    say(&format!("  ferry sandbox up --dir {dir}     and then, in that folder: ferry ping, ferry backup prod"));
    say("  ferry sandbox up --fault exit0-empty-archive     a Gravity that lies: see what ferry says");
    say("  ferry init                                 an inventory for clusters of your own");
    Ok(0)
}

fn steps(dir: &Path, output: OutputKind) -> Result<i32, Failure> {
    let output = match output {
        OutputKind::Human => "human",
        OutputKind::Json => "json",
        OutputKind::Plain => "plain",
        OutputKind::Quiet => "quiet",
    };
    let told = |error: Failure| error.within("demo");
    let then = held(dir, "prod").map_err(told)?;
    // The words that the pretend AMV script asks with; on a real cluster they are the operator's to set.
    let question = r#"{"pce_amv_restore_question": "backed up and erased"}"#;
    let steps: [&[&str]; 6] = [
        &["ping"],
        &["backup", "prod", "--label", "demo", "--output", output],
        &["points", "verify"],
        &[
            "restore",
            "latest",
            "--from",
            "prod",
            "--to",
            "dr",
            "--confirm",
            "dr",
            "--erase-amv",
            "dr",
            "-e",
            question,
            "--output",
            output,
        ],
        &["points", "list"],
        &["points", "check", "prod", "--max-age", "gravity=26h", "--max-age", "amv=8d"],
    ];
    for words in steps {
        let code = ferry(dir, words)?;
        if code != 0 {
            return Ok(code);
        }
    }
    compare(&then, &held(dir, "dr").map_err(told)?)?;
    say("\nWork goes on in prod; then all of it moves to dr at once: backup, archives across, restore.");
    sandbox::change(dir, "prod", "a day later").map_err(told)?;
    let then = held(dir, "prod").map_err(told)?;
    let words = [
        "migrate",
        "prod",
        "dr",
        "--confirm",
        "dr",
        "--erase-amv",
        "dr",
        "-e",
        question,
        "--output",
        output,
        "--no-keep",
    ];
    let code = ferry(dir, &words)?;
    if code != 0 {
        return Ok(code);
    }
    compare(&then, &held(dir, "dr").map_err(told)?)?;
    Ok(0)
}

/// Whether dr holds what prod held, file by file.
fn compare(then: &[(String, String)], now: &[(String, String)]) -> Result<(), Failure> {
    let (same, all) = (then.iter().filter(|file| now.contains(*file)).count(), then.len());
    say(&format!(
        "\ndr holds now {same} of the {all} files that prod held at its backup, and {} others.",
        now.len() - same
    ));
    if same != all || now.len() != all {
        return Err(
            Failure::new(Kind::Failed, "what dr holds is not what prod held").mend("look at the runs of this demo")
        );
    }
    Ok(())
}

/// What a pretend cluster holds, Gravity's part and AMV's: path and digest of every file.
fn held(dir: &Path, cluster: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut all: Vec<(String, String)> = sandbox::content(dir, cluster)?.into_iter().collect();
    all.extend(sandbox::amv_content(dir, cluster)?.into_iter().map(|(path, digest)| (format!("amv/{path}"), digest)));
    Ok(all)
}
