//! A second look at a node of a cluster that is to be restored: what Gravity does not restore and must
//! be there already, as far as the node can see it.
//!
//! What lives here: the root script, and the reading of what it says: how the platform's name resolves,
//! the certificate that is served there, NFS mounts and volumes, pods, disks. What does not: conclusions
//! (gates, settle).

use std::collections::BTreeMap;

use serde::Serialize;

use super::probe::{Disk, ProbeOptions};
use super::status::KubeJob;
use crate::failure::{Failure, Kind};
use crate::remote::Session;

/// Something that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Look<T> {
    /// It was not asked for.
    #[default]
    NotAsked,
    /// It could not be seen, and why.
    Unknown(String),
    /// It was seen.
    Seen(T),
}

impl<T> Look<T> {
    /// What was seen.
    pub fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(seen) => Some(seen),
            Self::NotAsked | Self::Unknown(_) => None,
        }
    }
}

/// What to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetQuestions {
    /// `pce_platform_dns`: a name, with or without `https://` and a port.
    pub platform_dns: Option<String>,
    /// Where the archive would be put; its disk is told.
    pub archive_dir: Option<String>,
    /// Gravity's state directory as the first look found it; else `pce_state_dir`, else the node is asked.
    pub state_dir: Option<String>,
}

/// The certificate that is served at the platform's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct CertificateSeen {
    /// Whose it is, as openssl writes it.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The subject's common name.
    pub common_name: Option<String>,
    /// DNS names of the subject alternative name.
    pub dns_names: Vec<String>,
    /// Addresses of the subject alternative name.
    pub ip_names: Vec<String>,
    /// Valid from, seconds since 1970; `None` when it could not be read.
    pub not_before: Option<i64>,
    /// Valid until, seconds since 1970; `None` when it could not be read.
    pub not_after: Option<i64>,
    /// SHA-256 of the certificate, as openssl writes it.
    pub fingerprint: String,
}

/// A mounted NFS file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NfsMount {
    /// `server:/path`.
    pub source: String,
    /// Where it is mounted.
    pub target: String,
}

/// Whether an NFS server answers on port 2049, as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// A connection was made.
    Answers,
    /// No connection was made.
    Silent,
    /// It could not be told, and why.
    Unknown(String),
}

/// A persistent volume on NFS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NfsVolume {
    /// Its name.
    pub name: String,
    /// The server.
    pub server: String,
    /// The exported path.
    pub path: String,
    /// `Bound`, `Available`, `Released`, `Failed`.
    pub phase: String,
    /// Whether the server answers.
    pub reach: Reach,
}

/// A pod that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnwellPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is wrong, a few words.
    pub why: String,
    /// The job that it belongs to, when it is a failed pod of one.
    pub job: Option<String>,
}

/// The pods of all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct PodsSeen {
    /// How many there are.
    pub total: usize,
    /// Running with all containers ready.
    pub well: usize,
    /// Ended well (Completed).
    pub completed: usize,
    /// Evicted long since: their controllers have made others.
    pub evicted: usize,
    /// Those that are not well; see [`PodsSeen::not_well`].
    pub unwell: Vec<UnwellPod>,
}

impl PodsSeen {
    /// Those that are not well, without failed pods of hook jobs that have ended.
    pub fn not_well(&self, _jobs: &[KubeJob]) -> Vec<&UnwellPod> {
        self.unwell.iter().collect()
    }
}

/// What the second look found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct TargetFacts {
    /// The inventory's name of the host.
    pub host: String,
    /// The addresses that the platform's name has there; seen and empty when it does not resolve.
    pub dns: Look<Vec<String>>,
    /// The certificate that is served at the platform's name.
    pub certificate: Look<CertificateSeen>,
    /// NFS mounts of the host.
    pub nfs_mounts: Look<Vec<NfsMount>>,
    /// NFS volumes of Kubernetes.
    pub nfs_volumes: Look<Vec<NfsVolume>>,
    /// Pods of all namespaces.
    pub pods: Look<PodsSeen>,
    /// Gravity's state directory.
    pub state_dir: String,
    /// The disk behind `<state>/planet/state` and the archive's directory.
    pub disks: BTreeMap<String, Disk>,
}

/// The second look at a host: one root script, at most three minutes.
///
/// # Errors
/// As [`probe`](super::probe()).
pub async fn probe_target(
    session: &Session,
    options: &ProbeOptions,
    questions: &TargetQuestions,
) -> Result<TargetFacts, Failure> {
    let nonce: u128 = rand::random();
    probe_target_with_nonce(session, options, questions, &format!("ferry-{nonce:032x}")).await
}

/// [`probe_target`] with a nonce that the caller knows, as [`probe_with_nonce`](super::probe_with_nonce).
///
/// # Errors
/// As [`probe_target`].
pub async fn probe_target_with_nonce(
    session: &Session,
    _options: &ProbeOptions,
    _questions: &TargetQuestions,
    _nonce: &str,
) -> Result<TargetFacts, Failure> {
    Err(Failure::new(Kind::Failed, "the look is not built yet").on(session.host()))
}
