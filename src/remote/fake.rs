//! A host that says what its script says: for tests of the rooms above, without a network.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::{Command, Exit, Piece, sudo::Become};
use crate::failure::{Failure, Kind};

/// One thing that the host knows to answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// A text that the command, or the script that it is fed, has to contain.
    pub when: String,
    /// What it says on standard output. `{mark}` in it becomes the mark (`@@` and 32 digits) that the script wants to be
    /// answered with.
    pub out: Vec<u8>,
    /// What it says on standard error.
    pub err: Vec<u8>,
    /// How it ends.
    pub exit: Exit,
}

#[derive(Debug)]
struct Inner {
    host: String,
    plan: Become,
    replies: Vec<Reply>,
    heard: Mutex<Vec<String>>,
}

/// A conversation with a scripted host.
#[derive(Clone, Debug)]
pub struct FakeSession {
    inner: Arc<Inner>,
}

impl FakeSession {
    /// A host that answers the first reply whose `when` is in the command or script.
    pub fn new(host: impl Into<String>, replies: Vec<Reply>) -> Self {
        let inner = Inner { host: host.into(), plan: Become::off(), replies, heard: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Commands and scripts that the host was given, in order.
    pub fn heard(&self) -> Vec<String> {
        self.inner.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn host(&self) -> &str {
        &self.inner.host
    }

    pub(super) fn become_plan(&self) -> &Become {
        &self.inner.plan
    }

    pub(super) async fn open(&self, command: &Command) -> Result<FakeChild, Failure> {
        let text = command.as_str();
        // The bootstrap of a root script: greet, then wait for the script.
        let greeting = text
            .split_once("printf \"%s\\n\" ")
            .and_then(|(_, rest)| rest.split_once(';'))
            .map(|(nonce, _)| nonce.to_owned());
        let length = text
            .split_once(" -eq ")
            .and_then(|(_, rest)| rest.split_once(' '))
            .and_then(|(length, _)| length.parse().ok());
        let mut child = FakeChild { session: self.clone(), pieces: VecDeque::new(), exit: Exit::Code(0), script: None };
        match (greeting, length) {
            (Some(nonce), Some(length)) => {
                child.pieces.push_back(Piece::Out(Bytes::from(format!("{nonce}\n"))));
                child.script = Some((length, Vec::new()));
            }
            _ => child.answer(text),
        }
        Ok(child)
    }
}

/// What is said, with the script's own mark in it.
fn marked(out: &[u8], script: &str) -> Vec<u8> {
    let mark = script.split_once("@@").and_then(|(_, rest)| rest.get(..32)).unwrap_or_default();
    match std::str::from_utf8(out) {
        Ok(text) if text.contains("{mark}") => text.replace("{mark}", &format!("@@{mark}")).into_bytes(),
        _ => out.to_vec(),
    }
}

/// A scripted command.
#[derive(Debug)]
pub struct FakeChild {
    session: FakeSession,
    pieces: VecDeque<Piece>,
    exit: Exit,
    script: Option<(usize, Vec<u8>)>,
}

impl FakeChild {
    fn answer(&mut self, text: &str) {
        let inner = &self.session.inner;
        inner.heard.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
        match inner.replies.iter().find(|reply| text.contains(&reply.when)) {
            Some(reply) => {
                if !reply.out.is_empty() {
                    self.pieces.push_back(Piece::Out(Bytes::from(marked(&reply.out, text))));
                }
                if !reply.err.is_empty() {
                    self.pieces.push_back(Piece::Err(Bytes::from(reply.err.clone())));
                }
                self.exit = reply.exit.clone();
            }
            None => {
                self.pieces.push_back(Piece::Err(Bytes::from(format!("no reply is scripted for: {text}"))));
                self.exit = Exit::Code(127);
            }
        }
    }

    pub(super) async fn next(&mut self) -> Option<Piece> {
        self.pieces.pop_front()
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some((length, mut script)) = self.script.take() else { return Ok(()) };
        script.extend_from_slice(bytes);
        if script.len() < length {
            self.script = Some((length, script));
        } else {
            let text = String::from_utf8(script).map_err(|_| Failure::new(Kind::Bug, "a script is not UTF-8"))?;
            self.answer(&text);
        }
        Ok(())
    }

    pub(super) async fn close_input(&mut self) {}

    pub(super) fn exit_seen(&mut self) -> Exit {
        self.exit.clone()
    }
}
