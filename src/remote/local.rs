//! This machine as a host (`ansible_connection: local`): the same conversation without a network.

use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::{Command, Exit, Piece, sudo::Become};
use crate::failure::{Failure, Kind};

/// A conversation with this machine.
#[derive(Clone, Debug)]
pub struct LocalSession {
    inner: Arc<(String, Become)>,
}

impl LocalSession {
    /// This machine under the inventory's name for it.
    pub fn new(host: impl Into<String>, become_plan: Become) -> Self {
        Self { inner: Arc::new((host.into(), become_plan)) }
    }

    pub(super) fn host(&self) -> &str {
        &self.inner.0
    }

    pub(super) fn become_plan(&self) -> &Become {
        &self.inner.1
    }

    pub(super) async fn open(&self, command: &Command) -> Result<LocalChild, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Kind::Failed, "could not start /bin/sh here").on(self.host()).saw(error.to_string())
        };
        let mut child = tokio::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(command.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (sender, pieces) = mpsc::channel(64);
        if let Some(out) = child.stdout.take() {
            tokio::spawn(pump(out, sender.clone(), Piece::Out));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(pump(err, sender, Piece::Err));
        }
        Ok(LocalChild { input: child.stdin.take(), child, pieces, kept: std::collections::VecDeque::new() })
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<Piece>, wrap: fn(Bytes) -> Piece) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return };
        if to.send(wrap(Bytes::copy_from_slice(bytes))).await.is_err() {
            return;
        }
    }
}

/// A running command of this machine.
#[derive(Debug)]
pub struct LocalChild {
    child: tokio::process::Child,
    input: Option<tokio::process::ChildStdin>,
    pieces: mpsc::Receiver<Piece>,
    kept: std::collections::VecDeque<Piece>,
}

impl LocalChild {
    pub(super) fn unread(&mut self, piece: Piece) {
        self.kept.push_front(piece);
    }

    pub(super) async fn next(&mut self) -> Option<Piece> {
        match self.kept.pop_front() {
            Some(piece) => Some(piece),
            None => self.pieces.recv().await,
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(input) = self.input.as_mut() else {
            return Err(Failure::new(Kind::Unreachable, "the command's input is closed"));
        };
        let mut rest = bytes;
        let mut ended = false;
        while !rest.is_empty() {
            tokio::select! {
                wrote = input.write(rest) => match wrote {
                    Ok(count) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
                    Ok(_) => return Err(Failure::new(Kind::Unreachable, "the command closed its input")),
                    Err(error) => return Err(Failure::new(Kind::Unreachable, "the command closed its input").saw(error.to_string())),
                },
                piece = self.pieces.recv(), if !ended => match piece {
                    Some(piece) => self.kept.push_back(piece),
                    None => ended = true,
                },
            }
        }
        input
            .flush()
            .await
            .map_err(|error| Failure::new(Kind::Unreachable, "the command closed its input").saw(error.to_string()))
    }

    pub(super) async fn close_input(&mut self) {
        self.input = None;
    }

    pub(super) async fn exit_seen(&mut self) -> Exit {
        use std::os::unix::process::ExitStatusExt as _;
        match self.child.wait().await {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal.to_string()),
                (None, None) => Exit::Lost("no exit status".to_owned()),
            },
            Err(error) => Exit::Lost(error.to_string()),
        }
    }
}
