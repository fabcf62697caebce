//! The agent that holds keys for us: what it holds, and its signatures.
//!
//! What lives here: the three requests of the agent's protocol that logging in takes (list, sign,
//! OpenSSH's session-bind), each bounded in size and time. What does not: which of the keys are offered
//! (auth). russh has a client of its own; it gives up the whole list for one key of a kind that it does not
//! know, and has no time limit.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use russh::keys::agent::AgentSessionBinding;
use russh::keys::ssh_encoding::{Decode as _, Encode as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::certificate::Public;

pub(super) const REQUEST_IDENTITIES: u8 = 11;
pub(super) const IDENTITIES_ANSWER: u8 = 12;
pub(super) const SIGN_REQUEST: u8 = 13;
pub(super) const SIGN_RESPONSE: u8 = 14;
pub(super) const EXTENSION: u8 = 27;

/// The largest answer that is read, in bytes (OpenSSH's own limit).
const LARGEST: usize = 256 << 10;
/// How long the agent may take to say what it holds.
const LISTING: Duration = Duration::from_secs(5);
/// How long it may take to sign: it may ask a person, or wait for a finger on a security key.
pub(super) const SIGNING: Duration = Duration::from_secs(90);

/// A key or certificate that the agent can sign for.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// As the agent names it: what a request to sign must repeat.
    pub(super) blob: Vec<u8>,
    pub(super) comment: String,
    pub(super) public: Public,
}

/// A request with its length before it.
fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), body].concat()
}

/// How long the answer is that this head announces.
fn announced(head: [u8; 4]) -> std::io::Result<usize> {
    usize::try_from(u32::from_be_bytes(head))
        .ok()
        .filter(|length| (1..=LARGEST).contains(length))
        .ok_or_else(|| std::io::Error::other("its answer has an impossible length"))
}

/// Keys in an answer to a listing. Those of a kind that is not known here are passed over.
fn held(answer: &[u8]) -> Result<Vec<Held>, String> {
    let broken = |_| "its list of keys is damaged".to_owned();
    let Some((&IDENTITIES_ANSWER, mut rest)) = answer.split_first() else {
        return Err("it refuses to list its keys (locked?)".to_owned());
    };
    let mut all = Vec::new();
    for _ in 0..u32::decode(&mut rest).map_err(broken)? {
        let blob = Vec::<u8>::decode(&mut rest).map_err(broken)?;
        let comment = Vec::<u8>::decode(&mut rest).map_err(broken)?;
        if let Some(public) = Public::from_blob(&blob) {
            all.push(Held { blob, comment: crate::secret::clean(&comment), public });
        }
    }
    Ok(all)
}

/// What the agent behind this socket holds, asked without a runtime: for the time before connections are made.
pub(super) fn list_now(socket: &Path) -> Result<Vec<Held>, String> {
    let asked = || {
        let mut agent = std::os::unix::net::UnixStream::connect(socket)?;
        agent.set_read_timeout(Some(LISTING))?;
        agent.set_write_timeout(Some(LISTING))?;
        agent.write_all(&framed(&[REQUEST_IDENTITIES]))?;
        let mut head = [0; 4];
        agent.read_exact(&mut head)?;
        let mut answer = vec![0; announced(head)?];
        agent.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    held(&asked().map_err(|error| error.to_string())?)
}

/// A conversation with the agent, for one connection.
pub(super) struct Agent {
    stream: tokio::net::UnixStream,
}

impl Agent {
    /// Connects, and tells the agent which server this is for: keys that were added for certain
    /// destinations only are of no use without.
    pub(super) async fn connect(socket: &Path, binding: Option<&AgentSessionBinding>) -> Result<Self, String> {
        let connecting = tokio::net::UnixStream::connect(socket);
        let stream = match tokio::time::timeout(LISTING, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("it does not answer".to_owned()),
        };
        let mut agent = Self { stream };
        if let Some(binding) = binding {
            let mut body = vec![EXTENSION];
            let fields =
                [b"session-bind@openssh.com".as_slice(), binding.host_key(), binding.session_id(), binding.signature()];
            for field in fields {
                field.encode(&mut body).map_err(|error| error.to_string())?;
            }
            // Not forwarded.
            body.push(0);
            // An agent that does not know it says failure, and serves all the same.
            agent.ask(&body, LISTING).await?;
        }
        Ok(agent)
    }

    async fn ask(&mut self, body: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
        let asking = async {
            self.stream.write_all(&framed(body)).await?;
            let mut head = [0; 4];
            self.stream.read_exact(&mut head).await?;
            let mut answer = vec![0; announced(head)?];
            self.stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        match tokio::time::timeout(patience, asking).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it did not answer within {} s", patience.as_secs())),
        }
    }

    /// What it holds.
    pub(super) async fn list(&mut self) -> Result<Vec<Held>, String> {
        held(&self.ask(&[REQUEST_IDENTITIES], LISTING).await?)
    }

    /// Its signature over `data`, as SSH writes signatures. `flags`: 2 for RSA with SHA-256, 4 with SHA-512.
    pub(super) async fn sign(&mut self, blob: &[u8], data: &[u8], flags: u32) -> Result<Vec<u8>, String> {
        let mut body = vec![SIGN_REQUEST];
        let encoded =
            blob.encode(&mut body).and_then(|()| data.encode(&mut body)).and_then(|()| flags.encode(&mut body));
        encoded.map_err(|error| error.to_string())?;
        let answer = self.ask(&body, SIGNING).await?;
        match answer.split_first() {
            Some((&SIGN_RESPONSE, mut rest)) => {
                let signature = Vec::<u8>::decode(&mut rest).map_err(|error| error.to_string())?;
                // An old agent ignores the flags and signs with SHA-1: no server would take that.
                let expected = match flags {
                    2 => Some("rsa-sha2-256"),
                    4 => Some("rsa-sha2-512"),
                    _ => None,
                };
                let algorithm = String::decode(&mut signature.as_slice()).map_err(|error| error.to_string())?;
                match expected.filter(|expected| *expected != algorithm) {
                    Some(expected) => Err(format!(
                        "it signed with {} where {expected} was asked",
                        crate::secret::clean(algorithm.as_bytes())
                    )),
                    None => Ok(signature),
                }
            }
            _ => Err("it refused to sign".to_owned()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn list(keys: &[&[u8]]) -> Vec<u8> {
        let mut answer = vec![IDENTITIES_ANSWER];
        u32::try_from(keys.len()).unwrap().encode(&mut answer).unwrap();
        for key in keys {
            key.encode(&mut answer).unwrap();
            "a comment\x1b[2J".encode(&mut answer).unwrap();
        }
        answer
    }

    #[test]
    fn a_key_of_an_unknown_kind_does_not_hide_the_others() {
        let mut good = Vec::new();
        "ssh-ed25519".encode(&mut good).unwrap();
        [7_u8; 32].as_slice().encode(&mut good).unwrap();
        let mut odd = Vec::new();
        "ssh-of-the-future".encode(&mut odd).unwrap();
        let all = held(&list(&[&odd, b"", b"\0\0\0\x09", &good])).unwrap();
        assert_eq!(all.last().unwrap().blob, good);
        assert!(all.iter().all(|held| !held.comment.contains('\x1b')));
        assert!(held(&[5]).is_err());
        assert!(held(&[IDENTITIES_ANSWER, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_answered(bytes: Vec<u8>) {
            let _ = held(&bytes);
            let _ = held(&[[IDENTITIES_ANSWER].as_slice(), &bytes].concat());
        }
    }
}
