//! How S3-compatible storage is reached, as the AWS tools have it.
//!
//! What lives here: the `AWS_` variables and `~/.aws/credentials` and `~/.aws/config`, read for one
//! profile. What does not: the storage itself (catalog).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::files::read_text;
use crate::failure::{Failure, Kind};
use crate::secret::SecretString;

/// What is known of an account and its storage. What is `None` is left to the storage's own ways (the roles of
/// containers and machines).
#[derive(Clone, Default)]
pub struct Aws {
    /// Access key id.
    pub key_id: Option<String>,
    /// Its secret.
    pub secret: Option<SecretString>,
    /// Session token of temporary credentials.
    pub token: Option<SecretString>,
    /// Region.
    pub region: Option<String>,
    /// Address of a storage that is not Amazon's.
    pub endpoint: Option<String>,
    /// Where the credentials come from, for people.
    pub from: String,
}

impl std::fmt::Debug for Aws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aws(from {})", self.from)
    }
}

type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// Reads the form of the AWS files: `[section]`, then `name = value`; nested lines belong to nothing here.
fn sections(text: &str) -> Sections {
    let (mut all, mut here) = (Sections::new(), String::new());
    for line in text.lines() {
        let plain = line.trim();
        if plain.is_empty() || plain.starts_with(['#', ';']) || line.starts_with([' ', '\t']) {
            continue;
        }
        if let Some(name) = plain.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            here = name.trim().strip_prefix("profile ").unwrap_or(name).trim().to_owned();
        } else if let Some((name, value)) = plain.split_once('=') {
            all.entry(here.clone()).or_default().insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    all
}

/// What the environment and the files say. The environment goes before the files; with `AWS_PROFILE` that profile's
/// credentials are used where the variables with credentials are not set.
///
/// # Errors
/// [`Kind::CouldNotStart`]: the profile that was named is in no file, half of a pair is missing, a file cannot be read.
pub fn aws(env: &dyn Fn(&str) -> Option<String>) -> Result<Aws, Failure> {
    let value = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    let home = value("HOME").map(PathBuf::from);
    let place = |variable: &str, name: &str| {
        value(variable).map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(".aws").join(name)))
    };
    let read = |path: Option<PathBuf>| match path {
        Some(path) if path.is_file() => read_text(&path).map(|text| sections(&text)),
        _ => Ok(Sections::new()),
    };
    let credentials = read(place("AWS_SHARED_CREDENTIALS_FILE", "credentials"))?;
    let config = read(place("AWS_CONFIG_FILE", "config"))?;
    let named = value("AWS_PROFILE").or_else(|| value("AWS_DEFAULT_PROFILE"));
    let profile = named.clone().unwrap_or_else(|| "default".to_owned());
    if named.is_some() && !credentials.contains_key(&profile) && !config.contains_key(&profile) {
        let known: Vec<&str> = credentials.keys().chain(config.keys()).map(String::as_str).collect();
        return Err(Failure::new(
            Kind::CouldNotStart,
            format!("AWS_PROFILE names {profile:?}, which no file of AWS has"),
        )
        .mend(format!("there are: {}", known.join(", "))));
    }
    let of = |name: &str| [&credentials, &config].into_iter().find_map(|file| file.get(&profile)?.get(name).cloned());
    let region = value("AWS_REGION").or_else(|| value("AWS_DEFAULT_REGION")).or_else(|| of("region"));
    let endpoint = value("AWS_ENDPOINT_URL_S3").or_else(|| value("AWS_ENDPOINT_URL")).or_else(|| of("endpoint_url"));
    let (id, secret, token, from) = if value("AWS_ACCESS_KEY_ID").is_some() || value("AWS_SECRET_ACCESS_KEY").is_some()
    {
        (
            value("AWS_ACCESS_KEY_ID"),
            value("AWS_SECRET_ACCESS_KEY"),
            value("AWS_SESSION_TOKEN"),
            "the environment".to_owned(),
        )
    } else {
        (of("aws_access_key_id"), of("aws_secret_access_key"), of("aws_session_token"), format!("profile {profile}"))
    };
    if id.is_some() != secret.is_some() {
        return Err(Failure::new(Kind::CouldNotStart, format!("the credentials of {from} are half there"))
            .why("an access key's id and its secret belong together")
            .mend("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or both in ~/.aws/credentials"));
    }
    Ok(Aws {
        key_id: id,
        secret: secret.map(SecretString::from),
        token: token.map(SecretString::from),
        region,
        endpoint,
        from,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::secret::ExposeSecret as _;

    #[test]
    fn the_environment_goes_before_the_files_and_profiles_are_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(".aws").join(name), text).unwrap();
        write(
            "credentials",
            "[default]\naws_access_key_id = A\naws_secret_access_key = sa\n# x\n[shelf]\naws_access_key_id=B\naws_secret_access_key=sb\naws_session_token=t\n[half]\naws_access_key_id=C\n",
        );
        write(
            "config",
            "[default]\nregion = eu-1\n[profile shelf]\nregion = eu-2\nendpoint_url = https://s3.example\ns3 =\n  region = nested\n",
        );
        let home = dir.path().display().to_string();
        let read = |set: &[(&str, &str)]| {
            let get = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
                found.or_else(|| (name == "HOME").then(|| home.clone()))
            };
            aws(&get)
        };
        let seen = |aws: &Aws| {
            (aws.key_id.clone().unwrap(), aws.secret.as_ref().unwrap().expose_secret().to_owned(), aws.region.clone())
        };
        assert_eq!(seen(&read(&[]).unwrap()), ("A".into(), "sa".into(), Some("eu-1".into())));
        let shelf = read(&[("AWS_PROFILE", "shelf")]).unwrap();
        assert_eq!(seen(&shelf), ("B".into(), "sb".into(), Some("eu-2".into())));
        assert_eq!(shelf.endpoint.as_deref(), Some("https://s3.example"));
        assert!(shelf.token.is_some() && !format!("{shelf:?}").contains("sb"));
        let env = [
            ("AWS_ACCESS_KEY_ID", "E"),
            ("AWS_SECRET_ACCESS_KEY", "se"),
            ("AWS_REGION", "us-9"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ];
        assert_eq!(seen(&read(&env).unwrap()), ("E".into(), "se".into(), Some("us-9".into())));
        assert!(read(&env[..1]).unwrap_err().what.contains("half there"));
        assert!(read(&[("AWS_PROFILE", "half")]).unwrap_err().what.contains("half there"));
        assert!(read(&[("AWS_PROFILE", "none")]).unwrap_err().mend.unwrap().contains("shelf"));
    }
}
