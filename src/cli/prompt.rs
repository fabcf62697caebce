//! Questions to the person at the terminal. Without a terminal nobody is asked.

use std::io::IsTerminal as _;
use std::path::Path;

use crate::failure::{Failure, Kind};
use crate::secret::SecretString;

/// True when somebody can be asked.
pub(super) fn somebody() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for something that is not shown.
///
/// # Errors
/// [`Kind::CouldNotStart`] without a terminal, naming the option to use instead.
pub(super) fn secret(question: &str, instead: &str) -> Result<SecretString, Failure> {
    let nobody = || {
        Failure::new(Kind::CouldNotStart, format!("{question} is needed and there is no terminal to ask at"))
            .mend(instead.to_owned())
    };
    if !somebody() {
        return Err(nobody());
    }
    rpassword::prompt_password(format!("{question}: "))
        .map(SecretString::from)
        .map_err(|error| nobody().saw(error.to_string()))
}

/// Reads a secret from the first line of a file; of one that can be executed, from the first line that it prints, as in
/// Ansible.
///
/// # Errors
/// [`Kind::CouldNotStart`] when it cannot be read or run, is empty, or others may read it.
pub(super) fn secret_file(path: &Path) -> Result<SecretString, Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let wrong = |what: String| Failure::new(Kind::CouldNotStart, what);
    let meta = std::fs::metadata(path).map_err(|error| wrong(format!("{}: {error}", path.display())))?;
    if meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        return secret_of_program(path);
    }
    if meta.is_file() && meta.permissions().mode() & 0o077 != 0 {
        return Err(wrong(format!("{}: others may read this file with a secret", path.display()))
            .saw(format!("mode {:04o}", meta.permissions().mode() & 0o7777))
            .mend(format!("chmod 600 {}", path.display())));
    }
    let text = zeroize::Zeroizing::new(
        std::fs::read_to_string(path).map_err(|error| wrong(format!("{}: {error}", path.display())))?,
    );
    match text.lines().next().map(|line| line.trim_end_matches('\r')) {
        Some(line) if !line.is_empty() => Ok(SecretString::from(line.to_owned())),
        _ => Err(wrong(format!("{}: is empty", path.display())).why("the secret is expected in its first line")),
    }
}

/// The first line that a program prints. Its questions and complaints are the operator's to see.
fn secret_of_program(path: &Path) -> Result<SecretString, Failure> {
    let wrong = |what: &str| Failure::new(Kind::CouldNotStart, format!("{}: {what}", path.display()));
    // A bare name would be looked for in PATH.
    let program = if path.components().count() == 1 { Path::new(".").join(path) } else { path.to_owned() };
    let ended = std::process::Command::new(program)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| {
            wrong("the password program cannot be run")
                .saw(error.to_string())
                .mend("if it is no program, take its executable bit away: chmod -x")
        })?;
    let said = zeroize::Zeroizing::new(ended.stdout);
    if !ended.status.success() {
        return Err(wrong("the password program failed").saw(ended.status.to_string()));
    }
    let line = said.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match std::str::from_utf8(line).map(|line| line.trim_end_matches('\r')) {
        Ok("") | Err(_) => Err(wrong("the password program printed no line of text")),
        Ok(line) => Ok(SecretString::from(line.to_owned())),
    }
}

/// Reads a secret from a variable that the operator named. What ferry starts does not inherit it:
/// ferry starts nothing here that gets its environment.
///
/// # Errors
/// [`Kind::CouldNotStart`] when it is not set.
pub(super) fn secret_env(name: &str) -> Result<SecretString, Failure> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(SecretString::from(value)),
        _ => Err(Failure::new(Kind::CouldNotStart, format!("the environment variable {name} is not set or empty"))),
    }
}

/// Asks a question that wants yes.
///
/// # Errors
/// [`Kind::CouldNotStart`] without a terminal, naming the option to use instead.
pub(super) fn yes(question: &str, instead: &str) -> Result<bool, Failure> {
    if !somebody() {
        return Err(
            Failure::new(Kind::CouldNotStart, format!("{question} Nobody is there to answer")).mend(instead.to_owned())
        );
    }
    crate::report::Sink::stderr().put(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    Ok(read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// Asks for a line at the terminal.
///
/// # Errors
/// [`Kind::CouldNotStart`] when the terminal went away or its input ended.
pub(super) fn line(question: &str) -> Result<String, Failure> {
    crate::report::Sink::stderr().put(question);
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(count) if count > 0 => Ok(answer),
        _ => Err(Failure::new(Kind::CouldNotStart, "the answers ended: nothing was written")),
    }
}

/// The person at the terminal, for questions in the middle of a run.
pub(super) struct Person;

impl crate::modules::Ask for Person {
    fn ask(&self, prompt: &str) -> Option<String> {
        crate::report::Sink::stderr().put(prompt);
        let mut answer = String::new();
        match std::io::stdin().read_line(&mut answer) {
            Ok(count) if count > 0 => Some(answer.trim_end_matches(['\n', '\r']).to_owned()),
            _ => None,
        }
    }
}

/// A line that is typed, shown or not while it is typed; `None` without a terminal or at its end.
pub(super) fn answer(question: &str, shown: bool) -> Option<String> {
    if !somebody() {
        return None;
    }
    if !shown {
        return rpassword::prompt_password(question).ok();
    }
    crate::modules::Ask::ask(&Person, question)
}
