//! Parse, call, exit code; nothing else.

fn main() -> std::process::ExitCode {
    if let Some(code) = ferry::sandbox::pretend::dispatch() {
        return std::process::ExitCode::from(code);
    }
    ferry::cli::main()
}
