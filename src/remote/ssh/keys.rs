//! Private keys from files.

use std::path::Path;

use russh::keys::PrivateKey;

use crate::failure::{Failure, Kind};
use crate::secret::{ExposeSecret as _, SecretString};

pub enum Trouble {
    NeedsPassphrase,
    Other(String),
}
impl Trouble {
    pub fn failure(self, path: &Path) -> Failure {
        Failure::new(
            Kind::CouldNotStart,
            format!(
                "{}: {}",
                path.display(),
                match self {
                    Self::NeedsPassphrase => "needs a passphrase".to_owned(),
                    Self::Other(what) => what,
                }
            ),
        )
    }
}
pub fn load(path: &Path, passphrase: Option<&SecretString>) -> Result<PrivateKey, Trouble> {
    russh::keys::load_secret_key(path, passphrase.map(|p| p.expose_secret())).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => Trouble::NeedsPassphrase,
        other => Trouble::Other(other.to_string()),
    })
}
