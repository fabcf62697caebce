//! Facts that are kept from one run to the next (`fact_caching = jsonfile`).
//!
//! What lives here: where they are kept and in which form: that of ansible-core 2.19, so that either reads what the other wrote.
//! What does not: which facts a host has, and when they are gathered.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::failure::{Failure, Kind};
use crate::secret::Masker;
use crate::settings::ansible_cfg;

/// The key under which the facts stand, as a text of JSON.
const PAYLOAD: &str = "__payload__";
/// The key that says what an object stands for.
const TYPE: &str = "__ansible_type";
/// What stands before a host's name in the name of its file.
const SCHEMA: &str = "s1_";
/// More than this is no file of facts.
const MOST: u64 = 16 << 20;

/// A folder with one file of facts for each host.
#[derive(Debug, Clone)]
pub struct FactCache {
    folder: PathBuf,
    prefix: String,
    /// How long facts hold; `None` for ever.
    lasts: Option<Duration>,
}

impl FactCache {
    /// What the settings in force say; `None` where facts are kept for the run only.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`]: another kind of cache, no folder, a folder that cannot be made, a time that is none.
    pub fn in_force() -> Result<Option<Self>, Failure> {
        let wrong = |what: String| Failure::new(Kind::CouldNotStart, what);
        let Some(kind) = ansible_cfg::in_force("defaults.fact_caching") else { return Ok(None) };
        match kind.trim().trim_start_matches("ansible.builtin.").trim_start_matches("ansible.legacy.") {
            "memory" => return Ok(None),
            "jsonfile" => {}
            other => {
                return Err(wrong(format!("fact_caching = {other} is not built in ferry"))
                    .mend("take jsonfile, which keeps facts in a folder, or memory, which keeps them for one run"));
            }
        }
        let folder = ansible_cfg::in_force("defaults.fact_caching_connection").ok_or_else(|| {
            wrong("fact_caching = jsonfile needs a folder".to_owned())
                .mend("name it: fact_caching_connection in ansible.cfg, or ANSIBLE_CACHE_PLUGIN_CONNECTION")
        })?;
        let folder = ansible_cfg::at_home(&folder);
        std::fs::create_dir_all(&folder).map_err(|error| {
            wrong(format!("the folder {} for facts cannot be made", folder.display())).saw(error.to_string())
        })?;
        let seconds = match ansible_cfg::in_force("defaults.fact_caching_timeout") {
            None => 86_400.0,
            Some(text) => {
                text.trim().parse::<f64>().ok().filter(|seconds| (0.0..1e12).contains(seconds)).ok_or_else(|| {
                    wrong(format!("fact_caching_timeout is a number of seconds, 0 for ever; not {text:?}"))
                })?
            }
        };
        let prefix = ansible_cfg::in_force("defaults.fact_caching_prefix").unwrap_or_default();
        if prefix.contains('/') {
            return Err(wrong(format!("fact_caching_prefix begins the names of files, and {prefix:?} names a folder")));
        }
        Ok(Some(Self { folder, prefix, lasts: (seconds > 0.0).then(|| Duration::from_secs_f64(seconds)) }))
    }

    fn path(&self, host: &str) -> PathBuf {
        self.folder.join(format!("{}{SCHEMA}{host}", self.prefix))
    }

    fn expired(&self, path: &Path) -> bool {
        let age = std::fs::metadata(path).and_then(|about| about.modified()).ok().and_then(|at| at.elapsed().ok());
        matches!((self.lasts, age), (Some(lasts), Some(age)) if age > lasts)
    }

    /// What is kept of a host: nothing where that is too old, or no such file. They are data, whoever wrote them.
    pub(super) fn read(&self, host: &str) -> Result<Option<Map<String, Value>>, String> {
        let path = self.path(host);
        let Ok(about) = std::fs::metadata(&path) else { return Ok(None) };
        if self.expired(&path) {
            return Ok(None);
        }
        let wrong = |what: String| format!("{} is not used: {what}", path.display());
        if about.len() > MOST {
            return Err(wrong("it is too long for a file of facts".to_owned()));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let kept: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let kept = match kept.get(PAYLOAD).and_then(Value::as_str) {
            Some(inner) => serde_json::from_str(inner).map_err(|error| wrong(error.to_string()))?,
            None => kept,
        };
        match plain(kept) {
            Some(Value::Object(map)) => Ok(Some(map)),
            _ => Err(wrong("facts are an object".to_owned())),
        }
    }

    /// Keeps a host's facts; the file is for its owner alone, and appears whole. Facts with a secret in them are left out: their
    /// names.
    pub(super) fn write(&self, host: &str, facts: &Map<String, Value>, masker: &Masker) -> Result<Vec<String>, String> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let (secret, kept): (Vec<_>, Vec<_>) = facts
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .partition(|(_, value)| masker.finds(value.to_string().as_bytes()) || holds(value, masker));
        let kept: Map<String, Value> = kept.into_iter().collect();
        let path = self.path(host);
        let text = json!({ PAYLOAD: Value::Object(kept).to_string() }).to_string();
        let put = || -> std::io::Result<()> {
            let fresh = self.folder.join(format!(".{host}.{:016x}", rand::random::<u64>()));
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            let done = file.write_all(text.as_bytes()).and_then(|()| std::fs::rename(&fresh, &path));
            if done.is_err() {
                let _ = std::fs::remove_file(&fresh);
            }
            done
        };
        put().map_err(|error| format!("the facts of {host} could not be kept in {}: {error}", path.display()))?;
        Ok(secret.into_iter().map(|(name, _)| name).collect())
    }

    /// Forgets what is kept of a host.
    pub(super) fn remove(&self, host: &str) {
        let _ = std::fs::remove_file(self.path(host));
    }

    /// Forgets what is kept of all hosts.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`]: the folder cannot be read, or a file not be removed.
    pub fn flush(&self) -> Result<(), Failure> {
        let wrong = |path: &Path, error: std::io::Error| {
            Failure::new(Kind::CouldNotStart, format!("{} cannot be emptied", path.display())).saw(error.to_string())
        };
        let begin = format!("{}{SCHEMA}", self.prefix);
        for entry in std::fs::read_dir(&self.folder).map_err(|error| wrong(&self.folder, error))? {
            let entry = entry.map_err(|error| wrong(&self.folder, error))?;
            if entry.file_name().to_string_lossy().starts_with(&begin) {
                std::fs::remove_file(entry.path()).map_err(|error| wrong(&entry.path(), error))?;
            }
        }
        Ok(())
    }
}

/// Whether a text inside of it is, or has, a secret: quoting may hide one from a look at the whole.
fn holds(value: &Value, masker: &Masker) -> bool {
    match value {
        Value::String(text) => masker.finds(text.as_bytes()),
        Value::Array(items) => items.iter().any(|item| holds(item, masker)),
        Value::Object(map) => map.iter().any(|(name, value)| masker.finds(name.as_bytes()) || holds(value, masker)),
        _ => false,
    }
}

/// A value without what Ansible notes beside it; `None` for one that only Ansible can make sense of.
fn plain(value: Value) -> Option<Value> {
    match value {
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(plain).collect())),
        Value::Object(mut map) if map.contains_key(TYPE) => {
            let tagged = map.get(TYPE).and_then(Value::as_str).is_some_and(|name| name.starts_with("_AnsibleTagged"));
            if tagged { map.remove("value").and_then(plain) } else { map.remove("iso8601").and_then(plain) }
        }
        Value::Object(map) => {
            Some(Value::Object(map.into_iter().filter_map(|(name, value)| Some((name, plain(value)?))).collect()))
        }
        other => Some(other),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cache(folder: &Path, lasts: Option<Duration>) -> FactCache {
        FactCache { folder: folder.to_owned(), prefix: "p_".to_owned(), lasts }
    }

    #[test]
    fn facts_come_back_and_secrets_are_left_out() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let kept = cache(folder.path(), None);
        let masker = Masker::new();
        masker.learn(&crate::secret::SecretString::from("hunter2-hunter2".to_owned()));
        let facts = json!({"a": [1, {"b": "c"}], "s": {"deep": "x hunter2-hunter2"}});
        let left = kept.write("h", facts.as_object().unwrap(), &masker).unwrap();
        assert_eq!(left, ["s"]);
        let path = folder.path().join("p_s1_h");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("hunter2"));
        let read = kept.read("h").unwrap().unwrap();
        assert_eq!(Value::Object(read), json!({"a": [1, {"b": "c"}]}));
        assert!(cache(folder.path(), Some(Duration::ZERO)).read("h").unwrap().is_none());
        std::fs::write(folder.path().join("other"), "").unwrap();
        kept.flush().unwrap();
        assert!(kept.read("h").unwrap().is_none());
        assert!(folder.path().join("other").exists());
    }

    #[test]
    fn what_ansible_wrote_is_read_without_its_tags() {
        let folder = tempfile::tempdir().unwrap();
        let tagged = json!({
            "a": {"value": "bar", "tags": [{"path": "p", "__ansible_type": "Origin"}], "__ansible_type": "_AnsibleTaggedStr"},
            "l": {"value": [{"value": 1, "tags": [], "__ansible_type": "_AnsibleTaggedInt"}, {"k": "v"}], "__ansible_type": "_AnsibleTaggedList"},
            "e": {"ciphertext": "x", "__ansible_type": "EncryptedString"},
        });
        let text = json!({"__payload__": tagged.to_string()}).to_string();
        std::fs::write(folder.path().join("p_s1_h"), text).unwrap();
        let read = cache(folder.path(), None).read("h").unwrap().unwrap();
        assert_eq!(Value::Object(read), json!({"a": "bar", "l": [1, {"k": "v"}]}));
        std::fs::write(folder.path().join("p_s1_i"), "{").unwrap();
        assert!(cache(folder.path(), None).read("i").unwrap_err().contains("is not used"));
    }
}
