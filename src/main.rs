//! Parse, call, exit code; nothing else.

// Chosen in the program, not in the library: see Cargo.toml.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    if let Some(code) = ferry::sandbox::pretend::dispatch() {
        return std::process::ExitCode::from(code);
    }
    ferry::cli::main()
}
