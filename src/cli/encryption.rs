//! Encryption at rest as the operator set it up: recipients and identities loaded, passphrases had from where they are.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;

use super::prompt;
use crate::catalog::{Archive, Catalog, Entry, Point};
use crate::failure::{Failure, Kind};
use crate::modules::world::Away;
use crate::name::ClusterName;
use crate::secret::{ExposeSecret as _, Masker, SecretString};
use crate::settings::Settings;
use crate::settings::encryption::{PassphraseFrom, passphrase_from};
use crate::vault::age::{AskPassphrase, Identities, Recipients};
use crate::volume::{Keep, Wrong};

/// What opens encrypted archives, as it is typed.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct OpenArgs {
    /// Opens encrypted archives: a file with identities of age, or a private SSH key; several
    #[arg(long, value_name = "FILE")]
    pub(super) identity: Vec<PathBuf>,
    /// Where the passphrase of archives or identities comes from: prompt, file:PATH or env:NAME
    #[arg(long, value_name = "SOURCE")]
    pub(super) passphrase_from: Option<String>,
}

impl OpenArgs {
    /// Puts what was typed over the settings.
    ///
    /// # Errors
    /// [`Kind::Usage`].
    pub(super) fn over(&self, settings: &mut Settings) -> Result<(), Failure> {
        if !self.identity.is_empty() {
            let absolute = self.identity.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
            settings.encryption.identities = absolute.collect();
        }
        if let Some(text) = &self.passphrase_from {
            let from = passphrase_from(text)
                .map_err(|what| Failure::new(Kind::Usage, format!("--passphrase-from: {what}")))?;
            settings.encryption.passphrase_from = Some(from);
        }
        Ok(())
    }
}

const INSTEAD: &str = "--passphrase-from file:PATH or env:NAME, or passphrase_from in ferry.toml";

/// Asks where the settings say, at most once for each question.
fn asking(from: Option<PassphraseFrom>, masker: &Masker) -> AskPassphrase {
    let known: Mutex<Vec<(String, SecretString)>> = Mutex::default();
    let masker = masker.clone();
    Arc::new(move |what| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, secret)) = known.iter().find(|(asked, _)| asked == what) {
            return Ok(secret.clone());
        }
        let secret = match &from {
            None | Some(PassphraseFrom::Prompt) => prompt::secret(what, INSTEAD)?,
            Some(PassphraseFrom::File(path)) => prompt::secret_file(path)?,
            Some(PassphraseFrom::Variable(name)) => prompt::secret_env(name)?,
        };
        if secret.expose_secret().is_empty() {
            return Err(Failure::new(Kind::CouldNotStart, format!("{what} is empty")));
        }
        masker.learn(&secret);
        known.push((what.to_owned(), secret.clone()));
        Ok(secret)
    })
}

fn masker() -> Masker {
    super::MASKER.get_or_init(Masker::new).clone()
}

/// What opens archives here; `None` where nothing is named for it.
///
/// # Errors
/// [`Kind::CouldNotStart`]: a file that was named is no identity.
pub(super) fn identities(settings: &Settings) -> Result<Option<Arc<Identities>>, Failure> {
    let set = &settings.encryption;
    let masker = masker();
    let ask = asking(set.passphrase_from.clone(), &masker);
    let with_passphrase = set.passphrase_from.is_some() || prompt::somebody();
    let passphrase = with_passphrase.then(|| Arc::clone(&ask));
    let all = Identities::load(&set.identities, &ask, passphrase, &masker)?;
    Ok((!all.is_empty()).then(|| Arc::new(all)))
}

/// How archives are kept: for whom they are encrypted, and what opens them here.
///
/// # Errors
/// [`Kind::CouldNotStart`]: a recipient or an identity that is none.
pub(super) fn keep(settings: &Settings) -> Result<Keep, Failure> {
    let set = &settings.encryption;
    let recipients = Recipients::read(&set.recipients, &asking(set.passphrase_from.clone(), &masker()))?;
    Ok(Keep { recipients: recipients.map(Arc::new), identities: identities(settings)?, volume_size: set.volume_size })
}

/// Recipients that nobody here can open: told while there is time to do something about it.
pub(super) fn warnings(keep: &Keep) -> Vec<String> {
    let Some(recipients) = &keep.recipients else { return Vec::new() };
    let nothing = Identities::default();
    let identities = keep.identities.as_deref().unwrap_or(&nothing);
    let names = recipients.names();
    let closed = recipients.not_opened_by(identities);
    if closed.is_empty() {
        return Vec::new();
    }
    let all = closed.len() == names.len();
    let what = if all {
        "no identity here opens what is encrypted: a restore from here will need one of"
    } else {
        "no identity here opens what is encrypted for these recipients: make sure that somebody else has theirs:"
    };
    vec![format!("{what} {} (see whether it is kept: ferry points verify POINT --identity FILE)", closed.join(", "))]
}

/// Where the last point of a cluster is encrypted and the next one would not be: somebody may have lost a setting.
pub(super) fn lapsed(keep: &Keep, catalog: &Catalog, cluster: &ClusterName) -> Option<String> {
    if keep.recipients.is_some() {
        return None;
    }
    let entries = catalog.list(Some(cluster)).ok()?;
    let last = entries.iter().rev().find_map(|entry| match entry {
        Entry::Sealed(point) => Some(point),
        _ => None,
    })?;
    let was = last.manifest.archives.iter().find_map(|archive| archive.encryption.as_ref())?;
    Some(format!(
        "{cluster}/{} is encrypted (for {}), and this point is not: no recipients are set here",
        last.id(),
        was.recipients.join(", ")
    ))
}

/// Whether something here opens the archives of a point that are wanted, before any host is touched.
///
/// # Errors
/// [`Kind::CouldNotStart`] naming what is missing.
pub(super) fn must_open(
    point: &Point,
    away: Option<&Away>,
    keep: &Keep,
    wanted: &dyn Fn(&Archive) -> bool,
) -> Result<(), Failure> {
    use std::io::Read as _;
    for archive in point.manifest.archives.iter().filter(|archive| archive.encryption.is_some() && wanted(archive)) {
        let mut reader = match away {
            Some(away) => away.reader(archive, keep.identities.clone()),
            None => archive.reader(&point.dir, keep.identities.clone()),
        };
        let Err(error) = reader.read(&mut [0; 1]) else { continue };
        // What is damaged is the gates' matter: they say so with all that belongs to it.
        let Some(Wrong { why, .. }) = Wrong::of(&error) else { continue };
        if matches!(why, crate::vault::age::Locked::Damaged(_)) {
            continue;
        }
        let recipients = archive.encryption.iter().flat_map(|encryption| encryption.recipients.clone());
        return Err(Failure::new(
            Kind::CouldNotStart,
            format!("{}/{}: {} cannot be opened", point.cluster, point.id(), archive.file),
        )
        .saw(why.to_string())
        .why(format!("it is encrypted for {}", recipients.collect::<Vec<_>>().join(", ")))
        .mend("--identity FILE (or identities in ferry.toml); for a passphrase --passphrase-from prompt"));
    }
    Ok(())
}

/// For a migration, which reads at once what it has just written.
///
/// # Errors
/// [`Kind::CouldNotStart`] where nothing here opens it.
pub(super) fn must_open_own(keep: &Keep) -> Result<(), Failure> {
    let Some(recipients) = &keep.recipients else { return Ok(()) };
    let nothing = Identities::default();
    let closed = recipients.not_opened_by(keep.identities.as_deref().unwrap_or(&nothing));
    if closed.len() < recipients.names().len() || recipients.names() == [crate::vault::age::PASSPHRASE] {
        return Ok(());
    }
    Err(Failure::new(
        Kind::CouldNotStart,
        "a migration restores the very point that it makes, and nothing here opens it",
    )
    .saw(format!("it would be encrypted for {}", closed.join(", ")))
    .mend("--identity FILE, or identities in ferry.toml"))
}
