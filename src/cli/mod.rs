//! The roof: one file per command. Here the operator's flags meet work and reports.
//!
//! What lives here: reading the command line, questions to a person, hints that need to know the
//! flags. What does not: the work itself.

mod args;
mod backup;
mod compat;
mod completions;
mod demo;
mod doc;
mod doctor;
mod drill;
mod encryption;
mod examples;
mod exec;
mod explain;
mod hook_tasks;
mod init;
mod inventory;
mod jobs;
mod logs;
mod man;
mod migrate;
mod notify;
mod open;
mod ping;
mod playbooks;
mod playing;
mod points;
mod points_args;
mod points_keep;
mod points_move;
mod points_place;
mod points_report;
mod prompt;
mod restore;
mod resume;
mod river;
mod run;
mod runs;
mod sandbox;
mod schedule;
mod status;
mod transfer;
mod vault;

use std::process::ExitCode;
use std::sync::OnceLock;

use crate::event;
use crate::failure::{Failure, Kind};
use crate::report::Sink;
use crate::report::render::{Style, print_failure, print_narrow};
use crate::secret::Masker;
use args::{Cli, Command};

pub use man::reference;

/// Parses, calls, and turns the outcome into an exit code.
pub fn main() -> ExitCode {
    if completions::answer() {
        return ExitCode::SUCCESS;
    }
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            let wrong = error.use_stderr();
            if !wrong || !print_narrow(&error.render().to_string()) {
                let _ = error.print();
            }
            if wrong {
                Sink::stderr().put("code: F500 (ferry explain F500)\n");
            }
            return ExitCode::from(if wrong { wrong_usage() } else { 0 });
        }
    };
    no_core_dumps();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dispatch(cli)));
    let code = match ended {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => {
            show_failure(&failure);
            compat::exit_code(&failure)
        }
        Err(_) => {
            Sink::stderr().put("this is a bug in ferry; what was said above may help whoever mends it\ncode: F999 (ferry explain F999)\n");
            Kind::Bug.exit_code()
        }
    };
    ExitCode::from(code)
}

/// What a wrong command line ends with. ferry.toml has not been read by then: only the environment can ask for
/// Ansible's number.
fn wrong_usage() -> u8 {
    let command = std::env::args().nth(1).unwrap_or_default();
    let compat = std::env::var("FERRY_COMPAT").is_ok_and(|word| word == "ansible");
    let of_ansible = ["run", "exec", "inventory", "vault"].contains(&command.as_str());
    if compat && of_ansible { 2 } else { Kind::Usage.exit_code() }
}

/// The secrets that this command was given. One for the process: a failure may reach `main` from
/// anywhere, and what a host said is in it.
static MASKER: OnceLock<Masker> = OnceLock::new();

/// Tells a failure where there is no run that would, masked as in a run.
fn show_failure(failure: &Failure) {
    let masker = MASKER.get_or_init(Masker::new);
    let failure = event::washed_failure(masker, failure);
    if compat::on() {
        crate::report::ansible::print_failure(&failure);
    } else {
        print_failure(&failure, Style::stderr());
    }
}

/// A core file would hold passwords and keys.
fn no_core_dumps() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}

/// `--junit` is about the steps of a run.
fn no_junit(name: &str, common: &args::Common) -> Result<(), Failure> {
    match &common.junit {
        None => Ok(()),
        Some(_) => Err(Failure::new(Kind::Usage, format!("--junit: ferry {name} has no steps to write down"))
            .mend("it is for backup, restore, run, exec and runs resume")),
    }
}

fn dispatch(cli: Cli) -> Result<u8, Failure> {
    match &cli.command {
        Command::Ping(args) => no_junit("ping", &args.common)?,
        Command::Doctor(args) => no_junit("doctor", &args.common)?,
        Command::Jobs(args::JobsCommand::List { common, .. }) => no_junit("jobs list", common)?,
        Command::Jobs(args::JobsCommand::Cancel { common, .. }) => no_junit("jobs cancel", common)?,
        Command::Jobs(args::JobsCommand::Clean { common, .. }) => no_junit("jobs clean", common)?,
        _ => {}
    }
    if matches!(cli.command, Command::Run(_) | Command::Exec(_) | Command::Inventory(_) | Command::Vault(_)) {
        compat::learn();
    }
    match cli.command {
        Command::Init(args) => init::run(&args),
        Command::Ping(args) => block_on(ping::run(args)),
        Command::Doctor(args) => block_on(doctor::run(args)),
        // Beside the connections that it reads from: every piece would wake another thread else.
        Command::Exec(args) => block_on(async { tokio::spawn(exec::run(args)).await.unwrap_or_else(gone) }),
        Command::Backup(args) => block_on(backup::run(args)),
        Command::Restore(args) => block_on(restore::run(args)),
        Command::Drill(args) => block_on(drill::run(*args)),
        Command::Status(args) => block_on(status::run(args)),
        Command::Logs(args) => block_on(logs::run(args)),
        Command::Migrate(args) => block_on(migrate::run(*args)),
        Command::Run(args) => block_on(run::run(args)),
        Command::Inventory(command) => inventory::run(command),
        Command::Vault(command) => block_on(vault::run(command)),
        // Beside the connections that it reads from: every piece would wake another thread else.
        Command::Transfer(args) => block_on(async { tokio::spawn(transfer::run(args)).await.unwrap_or_else(gone) }),
        Command::Points(command) => block_on(points::run(command)),
        Command::Catalog(points_args::CatalogCommand::BreakLock { point, place }) => {
            block_on(points_keep::break_lock(&point, &place))
        }
        Command::Jobs(command) => block_on(jobs::run(command)),
        Command::Runs(args::RunsCommand::Resume(args)) => block_on(resume::run(*args)),
        Command::Runs(command) => runs::run(command),
        Command::Doc(args) => doc::run(&args),
        Command::Playbooks(command) => playbooks::run(&command),
        Command::Sandbox(command) => sandbox::run(command),
        Command::Explain(args) => explain::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Demo(args) => demo::run(&args),
    }
}

/// A task that did not come to its end: it panicked.
fn gone<T>(error: tokio::task::JoinError) -> Result<T, Failure> {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => Err(Failure::new(Kind::Bug, "the work was given up").saw(error.to_string())),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Bug, "the runtime could not be started").saw(error.to_string()))?;
    let result = runtime.block_on(work);
    // A thread that waits for a terminal's answer must not hold us.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}
