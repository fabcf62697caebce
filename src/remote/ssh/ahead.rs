//! How far what is sent runs ahead of the command that takes it. A server keeps the rest in a buffer of its own, as much as its
//! window allows, and OpenSSH's moves all of that about with every packet: on loopback a third of its CPU. What fills the way
//! to it is enough. How long that is shows at the beginning, with a little on it at a time; where it is long there is no limit.
//!
//! What lives here: the count and the limit. What does not: who waits for it.

use std::time::{Duration, Instant};

/// What is sent to see how long the way is, in bytes: OpenSSH tells of what was taken after 96 KiB.
const LOOK: usize = 128 << 10;
/// How often that is done.
const LOOKS: u32 = 4;
/// What a command may have before it in any case, in bytes.
const LEAST: usize = 512 << 10;
/// As [`Lane`](super::connect::Lane) has it, and as much again: the word that bytes were taken comes late.
const BYTES_A_MICROSECOND: usize = 2 * 625;
/// A server that takes longer is far, tells more seldom, or has a slow disk.
pub(super) const PATIENCE: Duration = Duration::from_millis(10);

/// See above.
pub(super) struct Ahead {
    /// So many bytes at the most.
    most: usize,
    /// The widest that its window was seen: with nothing left to be taken.
    widest: usize,
    /// Sent, and not taken as far as we know.
    untaken: usize,
    /// So often it is still to be seen how long the way is.
    looks: u32,
    /// When the bytes were sent that show it.
    since: Option<Instant>,
    /// The shortest of it so far.
    way: Duration,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self { most: LOOK, widest: 0, untaken: 0, looks: LOOKS, since: None, way: Duration::MAX }
    }

    pub(super) fn enough(&self) -> bool {
        self.untaken >= self.most
    }

    pub(super) fn sends(&mut self, bytes: usize) {
        self.untaken = self.untaken.saturating_add(bytes);
        if self.looks > 0 && self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    /// Some was taken; the window as it is now, in bytes.
    pub(super) fn hear(&mut self, window: u32) {
        let full = self.enough();
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        self.widest = self.widest.max(window);
        self.untaken = self.widest - window;
        if full && let Some(since) = self.since.take() {
            self.way = self.way.min(since.elapsed());
            self.looks -= 1;
            if self.looks == 0 {
                let micros = usize::try_from(self.way.as_micros()).unwrap_or(usize::MAX);
                self.most = micros.saturating_mul(BYTES_A_MICROSECOND).saturating_add(LEAST);
            }
        }
    }

    /// Nothing was taken for as long as we wait.
    pub(super) fn waited(&mut self) {
        self.most = if self.looks > 0 { usize::MAX } else { self.most.saturating_mul(2) };
        (self.looks, self.since) = (0, None);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A server with this window that tells of what was taken after `step` bytes, each time `takes` after they were sent.
    fn sent_at_once(window: usize, step: usize, takes: Duration, total: usize) -> (Ahead, usize, u32) {
        let mut ahead = Ahead::new();
        let (mut sent, mut taken, mut most, mut waits) = (0, 0, 0, 0);
        while sent < total {
            while ahead.enough() {
                let ready = sent - taken;
                if ready >= step && takes < PATIENCE {
                    ahead.since = ahead.since.and_then(|since| since.checked_sub(takes));
                    taken += ready / step * step;
                    ahead.hear(u32::try_from(window - (sent - taken)).unwrap());
                } else {
                    waits += 1;
                    ahead.waited();
                }
            }
            if sent - taken + (32 << 10) > window {
                taken = sent;
                ahead.hear(u32::try_from(window).unwrap());
            }
            sent += 32 << 10;
            ahead.sends(32 << 10);
            most = most.max(sent - taken);
        }
        (ahead, most, waits)
    }

    #[test]
    fn near_it_keeps_back_and_far_it_does_not() {
        const MIB: usize = 1 << 20;
        // OpenSSH's window and step.
        let (ahead, most, waits) = sent_at_once(2 * MIB, 96 << 10, Duration::from_micros(200), 64 * MIB);
        assert!(ahead.looks == 0 && waits == 0 && (LEAST..LEAST + MIB / 2).contains(&ahead.most), "{}", ahead.most);
        assert!((LEAST..MIB + MIB / 4).contains(&most), "{most}");
        // So far away that the window alone counts.
        let (ahead, most, waits) = sent_at_once(2 * MIB, 96 << 10, Duration::from_millis(3), 64 * MIB);
        assert!(ahead.most > 2 * MIB && waits == 0 && most > 2 * MIB - MIB / 4, "{} {most}", ahead.most);
        let (ahead, _, waits) = sent_at_once(2 * MIB, 96 << 10, Duration::from_millis(80), 64 * MIB);
        assert_eq!((ahead.most, waits), (usize::MAX, 1));
        // A server that tells seldom is waited for once.
        let (ahead, _, waits) = sent_at_once(2 * MIB, MIB, Duration::from_micros(200), 64 * MIB);
        assert_eq!((ahead.most, waits), (usize::MAX, 1));
    }

    #[test]
    fn a_disk_that_stops_is_given_more() {
        let (mut ahead, ..) = sent_at_once(2 << 20, 96 << 10, Duration::from_micros(200), 64 << 20);
        let before = ahead.most;
        ahead.waited();
        assert_eq!(ahead.most, 2 * before);
        ahead.hear(u32::MAX);
        assert!(!ahead.enough());
    }
}
