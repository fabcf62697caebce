//! `ferry vault`: files and values that are encrypted with Ansible Vault.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::args::VaultOptions;
use super::{open, prompt};
use crate::failure::{Failure, Kind};
use crate::report::Sink;
use crate::secret::ExposeSecret as _;
use crate::settings::Settings;
use crate::vault::{Password, Vault, is_encrypted};

/// A file longer than this is no file of variables.
const LONGEST: u64 = 256 * 1024 * 1024;
/// How far `encrypt_string` moves the lines of a value to the right.
const INDENT: usize = 10;

/// `ferry vault`
#[derive(Debug, Subcommand)]
pub(super) enum VaultCommand {
    /// Write a new file in the editor, encrypted when it is closed
    Create(CreateArgs),
    /// Change an encrypted file in the editor
    Edit(EditArgs),
    /// Show what is in encrypted files
    View(FilesArgs),
    /// Encrypt files in place; standard input without a file
    Encrypt(EncryptArgs),
    /// Decrypt files in place; standard input without a file
    Decrypt(DecryptArgs),
    /// Encrypt files with another password
    Rekey(RekeyArgs),
    /// Encrypt texts into !vault values to paste
    #[command(name = "encrypt_string")]
    EncryptString(StringArgs),
}

/// Which of several passwords encrypts.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct EncryptWith {
    /// The vault id to encrypt with; needed where there are several
    #[arg(long, value_name = "ID")]
    encrypt_vault_id: Option<String>,
}

/// What all of them know.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Shared {
    /// Vault passwords
    #[command(flatten)]
    vault: VaultOptions,
    /// Say more
    #[arg(short = 'v', long = "verbose", action = clap::ArgAction::Count)]
    verbose: u8,
}

/// `ferry vault create`
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The file
    file: PathBuf,
    /// Open the editor without a terminal too
    #[arg(long)]
    skip_tty_check: bool,
    #[command(flatten)]
    with: EncryptWith,
    #[command(flatten)]
    shared: Shared,
}

/// `ferry vault edit`
#[derive(Debug, Args)]
pub(super) struct EditArgs {
    /// The files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    with: EncryptWith,
    #[command(flatten)]
    shared: Shared,
}

/// `ferry vault view`
#[derive(Debug, Args)]
pub(super) struct FilesArgs {
    /// The files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    shared: Shared,
}

/// `ferry vault encrypt`
#[derive(Debug, Args)]
pub(super) struct EncryptArgs {
    /// The files; - for standard input
    files: Vec<PathBuf>,
    /// Write here instead; - for standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    with: EncryptWith,
    #[command(flatten)]
    shared: Shared,
}

/// `ferry vault decrypt`
#[derive(Debug, Args)]
pub(super) struct DecryptArgs {
    /// The files; - for standard input
    files: Vec<PathBuf>,
    /// Write here instead; - for standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    shared: Shared,
}

/// `ferry vault rekey`
#[derive(Debug, Args)]
pub(super) struct RekeyArgs {
    /// The files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The new password is in this file, or this program prints it
    #[arg(long, value_name = "FILE", conflicts_with = "new_vault_id")]
    new_vault_password_file: Option<String>,
    /// The new vault id and where its password comes from
    #[arg(long, value_name = "ID@SOURCE")]
    new_vault_id: Option<String>,
    #[command(flatten)]
    with: EncryptWith,
    #[command(flatten)]
    shared: Shared,
}

/// `ferry vault encrypt_string`
#[derive(Debug, Args)]
pub(super) struct StringArgs {
    /// The texts; - or none for standard input
    texts: Vec<String>,
    /// Ask for the text
    #[arg(short = 'p', long)]
    prompt: bool,
    /// Show the text while it is typed
    #[arg(long)]
    show_input: bool,
    /// The variable's name; once for each text
    #[arg(short = 'n', long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// The name of the variable that standard input is for
    #[arg(long, value_name = "NAME")]
    stdin_name: Option<String>,
    /// Write here instead; - for standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    with: EncryptWith,
    #[command(flatten)]
    shared: Shared,
}

pub(super) async fn run(command: VaultCommand) -> Result<u8, Failure> {
    let settings = open::settings(&[], None, None, None)?;
    match command {
        VaultCommand::Create(args) => create(&args, &settings).await,
        VaultCommand::Edit(args) => edit(&args, &settings).await,
        VaultCommand::View(args) => view(&args, &settings),
        VaultCommand::Encrypt(args) => encrypt(&args, &settings),
        VaultCommand::Decrypt(args) => decrypt(&args, &settings),
        VaultCommand::Rekey(args) => rekey(&args, &settings),
        VaultCommand::EncryptString(args) => encrypt_string(&args, &settings),
    }
}

fn wrong(what: impl Into<String>) -> Failure {
    Failure::new(Kind::CouldNotStart, what)
}

fn usage(what: impl Into<String>) -> Failure {
    Failure::new(Kind::Usage, what)
}

/// The passwords; asked for where none is named. With `new` one is made.
fn passwords(shared: &Shared, settings: &Settings, new: bool) -> Result<Vault, Failure> {
    let mut options = shared.vault.clone();
    if let Some(id) = options.vault_id.iter().find(|id| id.contains(';')) {
        return Err(usage(format!("{id:?} is not a vault id: ';' divides the fields of the file's first line")));
    }
    let named = !options.vault_id.is_empty()
        || !options.vault_password_file.is_empty()
        || settings.vault_password_file.is_some()
        || !settings.vault_identity_list.is_empty();
    options.ask_vault_pass |= !named;
    let vault = open::vault_for(&options, settings, &[], new)?;
    for warning in vault.warnings() {
        crate::report::say_aside(&format!("warning: {warning}\n"));
    }
    Ok(vault)
}

/// The password that encrypts, and its vault id.
fn encrypting<'a>(vault: &'a Vault, with: &EncryptWith, settings: &Settings) -> Result<&'a Password, Failure> {
    let theirs = settings.ansible.get("defaults.vault_encrypt_identity");
    let all = vault.passwords();
    let ids = || all.iter().map(|password| password.id.as_str()).collect::<Vec<_>>().join(", ");
    match with.encrypt_vault_id.as_deref().or(theirs) {
        Some(id) => all.iter().find(|password| password.id == id).ok_or_else(|| {
            wrong(format!("there is no password for the vault id {id} to encrypt with"))
                .saw(ids())
                .mend(format!("give it with --vault-id {id}@FILE"))
        }),
        None if all.len() > 1 => Err(usage(format!("several vault passwords could encrypt: {}", ids()))
            .mend("say which with --encrypt-vault-id ID")),
        None => all.first().ok_or_else(|| wrong("there is no vault password to encrypt with")),
    }
}

/// The bytes of a file, or of standard input for `-`.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    let failed = |error: std::io::Error| wrong(format!("{} cannot be read", path.display())).saw(error.to_string());
    if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            Sink::stderr().put("reading standard input; Ctrl-D ends it\n");
        }
        std::io::stdin().take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > LONGEST {
        return Err(wrong(format!("{} is longer than 256 MiB", path.display()))
            .why("Ansible Vault keeps the whole text in memory"));
    }
    Ok(bytes)
}

/// The vault text in `bytes`.
fn encrypted<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, Failure> {
    std::str::from_utf8(bytes).ok().filter(|text| is_encrypted(text)).ok_or_else(|| {
        wrong(format!("{} is not encrypted with Ansible Vault", path.display()))
            .mend("'ferry vault encrypt' encrypts a file")
    })
}

fn opened<'a>(vault: &'a Vault, path: &Path, text: &str) -> Result<(Zeroizing<Vec<u8>>, &'a Password), Failure> {
    vault.decrypt_with(text).map_err(|locked| {
        wrong(format!("{} cannot be decrypted", path.display()))
            .saw(locked.to_string())
            .mend("give its password with --vault-password-file FILE or --vault-id ID@FILE")
    })
}

/// Writes `bytes` to standard output for `-`, else in place of the file `path`: beside it first, then renamed. The
/// mode is that of the file before, 0600 for a new one and for what is not encrypted. What was there before is written
/// over, as far as the file system lets it.
fn write(path: &Path, bytes: &[u8], plain: bool) -> Result<(), Failure> {
    if path == Path::new("-") {
        let mut out = std::io::stdout().lock();
        return out
            .write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|error| wrong("standard output cannot be written").saw(error.to_string()));
    }
    let failed = |error: std::io::Error| wrong(format!("{} cannot be written", path.display())).saw(error.to_string());
    // A link stays a link.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = std::fs::metadata(&path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return Err(wrong(format!("{} is not a regular file", path.display())));
    }
    let mode = old.as_ref().filter(|_| !plain).map_or(0o600, |old| old.permissions().mode() & 0o777);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!(".{name}.{:08x}.part", rand::random::<u32>()));
    let made = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        let before = old.as_ref().map(|_| std::fs::OpenOptions::new().write(true).open(&path)).transpose();
        std::fs::rename(&part, &path)?;
        if let (Ok(Some(mut before)), Some(old)) = (before, &old) {
            // Nothing is lost when this fails: the file in place is another one.
            let _ = std::io::copy(&mut std::io::repeat(0).take(old.len()), &mut before);
            let _ = before.sync_all();
        }
        Ok(())
    })();
    if made.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    made.map_err(failed)
}

/// The files to work on: standard input where none is named.
fn inputs<'a>(files: &'a [PathBuf], output: Option<&PathBuf>) -> Result<Vec<&'a Path>, Failure> {
    if output.is_some() && files.len() > 1 {
        return Err(usage("--output is for one file").mend("leave it out, or name one file"));
    }
    Ok(if files.is_empty() { vec![Path::new("-")] } else { files.iter().map(PathBuf::as_path).collect() })
}

fn done(what: &str) {
    if std::io::stdout().is_terminal() {
        Sink::stderr().put(&format!("{what}\n"));
    }
}

fn encrypt(args: &EncryptArgs, settings: &Settings) -> Result<u8, Failure> {
    let files = inputs(&args.files, args.output.as_ref())?;
    let vault = passwords(&args.shared, settings, true)?;
    let password = encrypting(&vault, &args.with, settings)?;
    for path in files {
        let bytes = read(path)?;
        if bytes.starts_with(crate::vault::MAGIC.as_bytes()) {
            return Err(wrong(format!("{} is encrypted already", path.display()))
                .mend("'ferry vault rekey' changes its password"));
        }
        let text = Vault::encrypt(&bytes, password, &password.id)?;
        write(args.output.as_deref().unwrap_or(path), text.as_bytes(), false)?;
    }
    done("encrypted");
    Ok(0)
}

fn decrypt(args: &DecryptArgs, settings: &Settings) -> Result<u8, Failure> {
    let files = inputs(&args.files, args.output.as_ref())?;
    let vault = passwords(&args.shared, settings, false)?;
    for path in files {
        let bytes = read(path)?;
        let (plain, _) = opened(&vault, path, encrypted(path, &bytes)?)?;
        write(args.output.as_deref().unwrap_or(path), &plain, true)?;
    }
    done("decrypted");
    Ok(0)
}

fn view(args: &FilesArgs, settings: &Settings) -> Result<u8, Failure> {
    let vault = passwords(&args.shared, settings, false)?;
    for path in &args.files {
        let bytes = read(path)?;
        let (plain, _) = opened(&vault, path, encrypted(path, &bytes)?)?;
        let mut text = if std::io::stdout().is_terminal() {
            // What acts on a terminal is written out there.
            let lines = plain.split(|byte| *byte == b'\n').map(crate::secret::clean);
            Zeroizing::new(lines.collect::<Vec<_>>().join("\n"))
        } else {
            Zeroizing::new(String::from_utf8_lossy(&plain).into_owned())
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Sink::stdout().put(&text);
    }
    Ok(0)
}

fn rekey(args: &RekeyArgs, settings: &Settings) -> Result<u8, Failure> {
    let vault = passwords(&args.shared, settings, false)?;
    let mut new = Shared::default();
    new.vault.vault_id.extend(args.new_vault_id.clone());
    new.vault.vault_password_file.extend(args.new_vault_password_file.clone());
    new.vault.ask_vault_pass = args.new_vault_id.is_none() && args.new_vault_password_file.is_none();
    // Those of the settings are the old ones.
    let mut bare = settings.clone();
    bare.vault_password_file = None;
    bare.vault_identity_list.clear();
    let new = passwords(&new, &bare, true)?;
    let password = encrypting(&new, &args.with, settings)?;
    for path in &args.files {
        let bytes = read(path)?;
        let (plain, _) = opened(&vault, path, encrypted(path, &bytes)?)?;
        write(path, Vault::encrypt(&plain, password, &password.id)?.as_bytes(), false)?;
    }
    Sink::stderr().put("Rekey successful\n");
    Ok(0)
}

fn encrypt_string(args: &StringArgs, settings: &Settings) -> Result<u8, Failure> {
    let from_stdin = args.texts.iter().any(|text| text == "-")
        || args.stdin_name.is_some()
        || (args.texts.is_empty() && !args.prompt);
    if args.prompt && from_stdin {
        return Err(usage("--prompt and standard input exclude each other"));
    }
    let vault = passwords(&args.shared, settings, true)?;
    let password = encrypting(&vault, &args.with, settings)?;
    // (text, its name, where it came from)
    let mut all: Vec<(Zeroizing<Vec<u8>>, Option<String>, &str)> = Vec::new();
    if args.prompt {
        let name = ask("Variable name (enter for no name): ")?;
        let text = if args.show_input {
            ask("String to encrypt: ")?
        } else {
            let typed = prompt::secret("String to encrypt (hidden)", "give the text on standard input")?;
            typed.expose_secret().to_owned()
        };
        let name = Some(name).filter(|name| !name.is_empty());
        all.push((Zeroizing::new(text.into_bytes()), name, "the interactive prompt"));
    }
    if from_stdin {
        all.push((read(Path::new("-"))?, args.stdin_name.clone(), "stdin"));
    }
    let mut names = args.names.iter().cloned();
    let texts: Vec<&String> = args.texts.iter().filter(|text| *text != "-").collect();
    if !args.names.is_empty() && args.names.len() < texts.len() {
        Sink::stderr().put("there are fewer --name options than texts: the last texts have no name\n");
    }
    for text in texts {
        all.push((Zeroizing::new(text.clone().into_bytes()), names.next(), "the command line args"));
    }
    if all.iter().any(|(text, ..)| text.is_empty()) {
        return Err(usage("the text to encrypt is empty"));
    }
    let mut out = String::new();
    for (at, (text, name, from)) in all.iter().enumerate() {
        let sealed = Vault::encrypt(text, password, &password.id)?;
        if all.len() > 1 {
            let number = at + 1;
            Sink::stderr().put(&match name {
                Some(name) => {
                    format!("# The encrypted version of variable ({name:?}, the string #{number} from {from}).\n")
                }
                None => format!("# The encrypted version of the string #{number} from {from}.)\n"),
            });
        }
        if let Some(name) = name {
            out.push_str(&format!("{name}: "));
        }
        out.push_str("!vault |\n");
        sealed.lines().for_each(|line| out.push_str(&format!("{:INDENT$}{line}\n", "")));
    }
    write(args.output.as_deref().unwrap_or(Path::new("-")), out.as_bytes(), false)?;
    done("encrypted");
    Ok(0)
}

/// Asks for a line that may be seen.
fn ask(question: &str) -> Result<String, Failure> {
    if !prompt::somebody() {
        return Err(wrong("there is no terminal to ask at").mend("give the text on standard input"));
    }
    Sink::stderr().put(question);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|error| wrong("the answer cannot be read").saw(error.to_string()))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

async fn create(args: &CreateArgs, settings: &Settings) -> Result<u8, Failure> {
    if !std::io::stdout().is_terminal() && !args.skip_tty_check {
        return Err(usage("there is no terminal for the editor").mend("--skip-tty-check, or 'ferry vault encrypt'"));
    }
    if args.file.exists() {
        return Err(wrong(format!("{} is there already", args.file.display())).mend("'ferry vault edit' changes it"));
    }
    let vault = passwords(&args.shared, settings, true)?;
    let password = encrypting(&vault, &args.with, settings)?;
    if let Some(folder) = args.file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        crate::report::say_aside(&format!("warning: the folder {} is not there and is made\n", folder.display()));
        crate::settings::make_private_folder(folder)?;
    }
    let plain = Desk::new(&args.file)?.edited(b"").await?;
    write(&args.file, Vault::encrypt(&plain, password, &password.id)?.as_bytes(), false)?;
    Ok(0)
}

async fn edit(args: &EditArgs, settings: &Settings) -> Result<u8, Failure> {
    let vault = passwords(&args.shared, settings, false)?;
    for path in &args.files {
        let bytes = read(path)?;
        let (plain, password) = opened(&vault, path, encrypted(path, &bytes)?)?;
        let changed = Desk::new(path)?.edited(&plain).await?;
        if changed == plain {
            continue;
        }
        let with =
            if args.with.encrypt_vault_id.is_some() { encrypting(&vault, &args.with, settings)? } else { password };
        write(path, Vault::encrypt(&changed, with, &with.id)?.as_bytes(), false)?;
    }
    Ok(0)
}

/// A private folder in memory with the one file that the editor sees; gone with this value.
struct Desk {
    folder: PathBuf,
    file: PathBuf,
}

impl Drop for Desk {
    fn drop(&mut self) {
        // An editor may have put a new file in its place, and others beside it.
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if let Ok(about) = entry.metadata()
                && about.is_file()
                && let Ok(mut file) = std::fs::OpenOptions::new().write(true).open(entry.path())
            {
                let _ = std::io::copy(&mut std::io::repeat(0).take(about.len()), &mut file);
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Whether what is written to `folder` stays in memory.
fn in_memory(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|about| crate::transfer::is_memory(&about))
}

impl Desk {
    fn new(of: &Path) -> Result<Self, Failure> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let places = runtime.into_iter().chain([PathBuf::from("/dev/shm")]);
        let usable = |path: &PathBuf| in_memory(path) && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        let mut places: Vec<PathBuf> = places.filter(usable).collect();
        if places.is_empty() {
            let disk = std::env::temp_dir();
            if !in_memory(&disk) {
                Sink::stderr().put(&format!(
                    "warning: there is no folder in memory: while the editor is open the text stands in {} in the clear\n",
                    disk.display()
                ));
            }
            places.push(disk);
        }
        let Some(place) = places.first() else { return Err(wrong("there is no place for the editor's file")) };
        let folder = place.join(format!("ferry-vault-{:032x}", rand::random::<u128>()));
        let failed = |error: std::io::Error| {
            wrong(format!("the folder {} cannot be made", folder.display())).saw(error.to_string())
        };
        std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let file = folder.join(of.file_name().unwrap_or(std::ffi::OsStr::new("vault.yml")));
        Ok(Self { folder, file })
    }

    /// What the editor makes of `plain`.
    async fn edited(self, plain: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let failed = |error: std::io::Error| {
            wrong(format!("{} cannot be used for the editor", self.file.display())).saw(error.to_string())
        };
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file).map_err(failed)?;
        file.write_all(plain).map_err(failed)?;
        drop(file);
        let editor =
            ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        // vi would wait for keys that nobody can press.
        if editor.is_none() && !std::io::stdin().is_terminal() {
            return Err(usage("there is no terminal for the editor vi")
                .mend("name one that needs none with EDITOR, or 'ferry vault decrypt' and 'ferry vault encrypt'"));
        }
        let editor = editor.unwrap_or_else(|| "vi".to_owned());
        let mut words = shlex::split(&editor).unwrap_or_default().into_iter();
        let program = words.next().ok_or_else(|| wrong("EDITOR has an open quote").saw(editor.clone()))?;
        // While it is open a signal must not end us and leave the text behind.
        let caught = |kind| tokio::signal::unix::signal(kind).map_err(failed);
        let _interrupt = caught(tokio::signal::unix::SignalKind::interrupt())?;
        let _quit = caught(tokio::signal::unix::SignalKind::quit())?;
        let mut hangup = caught(tokio::signal::unix::SignalKind::hangup())?;
        let mut end = caught(tokio::signal::unix::SignalKind::terminate())?;
        let mut child =
            tokio::process::Command::new(&program).args(words).arg(&self.file).kill_on_drop(true).spawn().map_err(
                |error| {
                    wrong(format!("the editor {editor} cannot be started"))
                        .saw(error.to_string())
                        .mend("name another one with EDITOR")
                },
            )?;
        let status = tokio::select! {
            status = child.wait() => status.map_err(failed)?,
            _ = end.recv() => return Err(Failure::new(Kind::Interrupted, "ended while the editor was open; nothing is changed")),
            _ = hangup.recv() => return Err(Failure::new(Kind::Interrupted, "the terminal is gone; nothing is changed")),
        };
        if !status.success() {
            return Err(wrong(format!("the editor {editor} failed ({status}); nothing is changed")));
        }
        let mut changed = Zeroizing::new(Vec::new());
        let read = std::fs::File::open(&self.file).and_then(|mut file| file.read_to_end(&mut changed));
        read.map_err(failed)?;
        Ok(changed)
    }
}
