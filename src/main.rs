//! The binary: parse, call, exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = ferry::sandbox::pretend::dispatch() {
        return ExitCode::from(code);
    }
    ExitCode::SUCCESS
}
