//! Where a catalog is: a folder, a folder on another host, or a bucket.
//!
//! What lives here: reading a catalog's URL. What does not: how it is reached (catalog).

use std::fmt;
use std::path::PathBuf;

/// Where one catalog is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogAt {
    /// A folder of this machine, absolute once the settings are resolved.
    Folder(PathBuf),
    /// `ssh://[USER@]HOST[:PORT]/PATH`: a folder on any host with sh.
    Ssh {
        /// Login user; else ssh's own choice.
        user: Option<String>,
        /// A name or address, or a `Host` of ssh's configuration.
        host: String,
        /// Port; else ssh's own choice.
        port: Option<u16>,
        /// The folder, absolute.
        path: String,
    },
    /// `s3://BUCKET[/PREFIX]`: S3-compatible object storage.
    S3 {
        /// The bucket.
        bucket: String,
        /// What the names of all objects begin with; empty, or without slashes at its ends.
        prefix: String,
    },
}

impl fmt::Display for CatalogAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Ssh { user, host, port, path } => {
                f.write_str("ssh://")?;
                user.as_ref().map_or(Ok(()), |user| write!(f, "{user}@"))?;
                if host.contains(':') {
                    write!(f, "[{host}]")?
                } else {
                    f.write_str(host)?
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
                f.write_str(path)
            }
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Reads the URL of a catalog; what has no `://` is a folder's path.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse(url: &str) -> Result<CatalogAt, String> {
    if url.trim().is_empty() || url.chars().any(char::is_control) {
        return Err(format!("{url:?} is not a catalog's place"));
    }
    let Some((scheme, rest)) = url.split_once("://") else { return Ok(CatalogAt::Folder(PathBuf::from(url))) };
    match scheme {
        "file" if rest.starts_with('/') => Ok(CatalogAt::Folder(PathBuf::from(rest))),
        "file" => Err(format!("{url:?} names another machine; write file:///absolute/path")),
        "ssh" => ssh(url, rest),
        "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_matches('/');
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
            if bucket.is_empty() || !bucket.chars().all(plain) {
                return Err(format!("{url:?} names no bucket; write s3://BUCKET/PREFIX"));
            }
            if prefix.split('/').any(|part| matches!(part, "." | ".."))
                || prefix.contains("//")
                || prefix.contains(['?', '#'])
            {
                return Err(format!("{url:?} has a prefix that is not taken; write s3://BUCKET/PREFIX"));
            }
            Ok(CatalogAt::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
        }
        other => Err(format!(
            "a catalog at {other}:// is not built; there are folders, ssh://HOST/PATH and s3://BUCKET/PREFIX"
        )),
    }
}

fn ssh(url: &str, rest: &str) -> Result<CatalogAt, String> {
    let wrong = |what: &str| format!("{url:?}: {what}; write ssh://USER@HOST/absolute/path");
    let (authority, path) = rest.split_once('/').ok_or_else(|| wrong("there is no path"))?;
    let path = format!("/{}", path.trim_matches('/'));
    if path == "/" || path.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(wrong("the path of a folder is expected"));
    }
    let (user, at) = match authority.rsplit_once('@') {
        Some((user, at)) => (Some(user.to_owned()), at),
        None => (None, authority),
    };
    if user.as_ref().is_some_and(|user| user.is_empty() || user.contains(':')) {
        return Err(wrong("a user's name alone is expected before @: a password never stands in a URL"));
    }
    let (host, port) = match at.strip_prefix('[').and_then(|at| at.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(|| wrong("the port is unclear"))?)),
        None => at.split_once(':').map_or((at, None), |(host, port)| (host, Some(port))),
    };
    let port = port
        .map(|port| {
            port.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong("the port is a number from 1 to 65535"))
        })
        .transpose()?;
    if host.is_empty() || host.starts_with('-') || host.chars().any(char::is_whitespace) {
        return Err(wrong("there is no host"));
    }
    Ok(CatalogAt::Ssh { user, host: host.to_owned(), port, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_said_again() {
        for url in [
            "ssh://backup@shelf.example/srv/points",
            "ssh://shelf/srv/points",
            "ssh://shelf:2222/srv",
            "ssh://ops@[fe80::1]:22/srv",
            "s3://pce-points",
            "s3://pce-points/prod/deep",
            "/srv/points",
            "points",
        ] {
            assert_eq!(parse(url).map(|at| at.to_string()), Ok(url.to_owned()));
        }
        assert_eq!(parse("file:///srv/x"), Ok(CatalogAt::Folder("/srv/x".into())));
        assert_eq!(parse("s3://b/a/").map(|at| at.to_string()), Ok("s3://b/a".to_owned()));
        for (url, says) in [
            ("file://host/x", "another machine"),
            ("ssh://shelf", "no path"),
            ("ssh://shelf/", "folder"),
            ("ssh://shelf/a/../b", "folder"),
            ("ssh://a:secret@shelf/x", "never stands in a URL"),
            ("ssh://shelf:0/x", "port"),
            ("ssh:///x", "no host"),
            ("ssh://-oProxyCommand=x/y", "no host"),
            ("s3://", "no bucket"),
            ("s3://B/x", "no bucket"),
            ("s3://b/../x", "prefix"),
            ("gs://b/x", "not built"),
            ("", "not a catalog"),
            ("a\nb", "not a catalog"),
        ] {
            assert!(parse(url).is_err_and(|said| said.contains(says)), "{url}");
        }
    }
}
