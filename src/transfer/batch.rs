//! Pieces that go to another thread many at a time.
//!
//! What lives here: the holding back. What does not: what the pieces are. A thread that has nothing to do sleeps, and waking it
//! for each packet cost as much as what it did with it: 29,000 times for 1 GiB.

use tokio::sync::mpsc;

use super::PIECE;

/// How many batches may wait for the thread.
const WAITING: usize = 16;

/// The end that gives.
pub(super) struct Batches<T> {
    to: mpsc::Sender<Vec<T>>,
    held: Vec<T>,
    bytes: usize,
}

impl<T> Batches<T> {
    pub(super) fn new() -> (Self, mpsc::Receiver<Vec<T>>) {
        let (to, taken) = mpsc::channel(WAITING);
        (Self { to, held: Vec::new(), bytes: 0 }, taken)
    }

    /// Another such end for the same thread. What this one holds stays here.
    pub(super) fn another(&self) -> Self {
        Self { to: self.to.clone(), held: Vec::new(), bytes: 0 }
    }

    /// Gives a piece of so many bytes, at once with others; whether the thread still takes any.
    pub(super) async fn give(&mut self, piece: T, bytes: usize) -> bool {
        self.held.push(piece);
        self.bytes += bytes;
        self.bytes < PIECE || self.flush().await
    }

    /// Gives what is held.
    pub(super) async fn flush(&mut self) -> bool {
        self.bytes = 0;
        self.held.is_empty() || self.to.send(std::mem::take(&mut self.held)).await.is_ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_piece_comes_once_and_in_order() {
        let (mut pieces, mut taken) = Batches::new();
        for number in 0..40 {
            assert!(pieces.give(number, PIECE / 8 + 1).await);
        }
        assert!(pieces.another().flush().await && pieces.flush().await);
        drop(pieces);
        let (mut all, mut batches) = (Vec::new(), 0);
        while let Some(batch) = taken.recv().await {
            batches += 1;
            all.extend(batch);
        }
        assert_eq!((all, batches), ((0..40).collect(), 5));
    }

    #[tokio::test]
    async fn a_thread_that_has_ended_takes_none() {
        let (mut pieces, taken) = Batches::new();
        drop(taken);
        assert!(pieces.give((), 1).await);
        assert!(!pieces.give((), PIECE).await);
    }
}
