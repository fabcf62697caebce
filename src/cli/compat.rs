//! `FERRY_COMPAT=ansible`: Ansible's own numbers and forms, where ferry stands in for `ansible-playbook` or `ansible`.

use std::sync::OnceLock;

use crate::failure::{Failure, Kind};

static ON: OnceLock<bool> = OnceLock::new();

/// Reads `compat` of ferry.toml too: for `run`, `exec`, `inventory` and `vault`, before anything else asks.
pub(super) fn learn() {
    // Settings that are wrong are told where they are used.
    let settings = || super::open::settings(&[], None, None, None).is_ok_and(|settings| settings.compat_ansible);
    let _ = ON.set(std::env::var("FERRY_COMPAT").is_ok_and(|value| value == "ansible") || settings());
}

/// Whether ferry behaves as Ansible does where the two differ.
pub(super) fn on() -> bool {
    *ON.get_or_init(|| std::env::var("FERRY_COMPAT").is_ok_and(|value| value == "ansible"))
}

/// What is wrong in a playbook is a class of its own there: it is told apart by this chain.
const PARSING: &str = "reading the playbook";

/// A failure of reading playbooks.
pub(super) fn of_parsing(failure: Failure) -> Failure {
    if on() && failure.place.is_some() { failure.within(PARSING) } else { failure }
}

/// The exit code of a failure before there was a run.
pub(super) fn exit_code(failure: &Failure) -> u8 {
    if !on() {
        return failure.kind.exit_code();
    }
    match failure.kind {
        Kind::CouldNotStart if failure.chain.first().is_some_and(|step| step == PARSING) => 4,
        // A wrong command line is 2 there; what its options say together is 5.
        Kind::Usage => 5,
        Kind::Bug => 250,
        Kind::Interrupted => 99,
        Kind::Unreachable => 4,
        Kind::Failed | Kind::Unknown | Kind::Refused => 2,
        Kind::CouldNotStart | Kind::NoHost | Kind::Bad => 1,
    }
}

/// The exit code of a run by the worst that happened.
pub(super) fn run_code(worst: Option<Kind>) -> u8 {
    let Some(kind) = worst else { return 0 };
    if !on() {
        return kind.exit_code();
    }
    match kind {
        Kind::Unreachable => 4,
        Kind::Bug => 250,
        Kind::Interrupted => 99,
        Kind::CouldNotStart => 1,
        _ => 2,
    }
}
