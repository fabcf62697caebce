//! Numbers by chance that are the same for the same seed: as Python's `random.Random` draws them.
//!
//! What lives here: the generator (MT19937), how a seed becomes its state, and what is drawn from it. Playbooks rely on these numbers
//! (`59 | random(seed=inventory_hostname)` in a crontab), so they stay what they were. What does not: anything that must not be guessed.

use minijinja::{Error, Value};
use sha2::Digest as _;

use super::python::{text, type_name, wrong};

const WORDS: usize = 624;
const MIDDLE: usize = 397;

/// Where numbers come from.
pub(super) enum Chance {
    /// The system.
    System,
    /// A seed.
    Seeded(Box<Twister>),
}

/// The state of the generator.
pub(super) struct Twister {
    state: [u32; WORDS],
    at: usize,
}

impl Twister {
    /// From a number's words, the lowest first; there is at least one.
    fn new(key: &[u32]) -> Self {
        let mut state = [0_u32; WORDS];
        let mut last = 19_650_218_u32;
        for (at, word) in (0_u32..).zip(state.iter_mut()) {
            if at > 0 {
                last = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(at);
            }
            *word = last;
        }
        let get = |state: &[u32; WORDS], at: usize| state.get(at).copied().unwrap_or(0);
        let mut at = 1;
        // The state is walked around: behind its end comes its second word, and the first is as the last.
        let step = |state: &mut [u32; WORDS], at: &mut usize, by: u32, mix: &dyn Fn(u32, usize) -> u32| {
            let before = get(state, *at - 1);
            let mixed = get(state, *at) ^ (before ^ (before >> 30)).wrapping_mul(by);
            if let Some(word) = state.get_mut(*at) {
                *word = mix(mixed, *at);
            }
            *at += 1;
            if *at >= WORDS {
                let last = get(state, WORDS - 1);
                if let Some(first) = state.first_mut() {
                    *first = last;
                }
                *at = 1;
            }
        };
        for turn in 0..WORDS.max(key.len()) {
            let place = turn % key.len().max(1);
            let word = key.get(place).copied().unwrap_or(0).wrapping_add(place as u32);
            step(&mut state, &mut at, 1_664_525, &|mixed, _| mixed.wrapping_add(word));
        }
        for _ in 1..WORDS {
            step(&mut state, &mut at, 1_566_083_941, &|mixed, at| mixed.wrapping_sub(at as u32));
        }
        if let Some(first) = state.first_mut() {
            *first = 0x8000_0000;
        }
        Self { state, at: WORDS }
    }

    fn next(&mut self) -> u32 {
        let get = |state: &[u32; WORDS], at: usize| state.get(at % WORDS).copied().unwrap_or(0);
        if self.at >= WORDS {
            for at in 0..WORDS {
                let joined = (get(&self.state, at) & 0x8000_0000) | (get(&self.state, at + 1) & 0x7fff_ffff);
                let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                let word = get(&self.state, at + MIDDLE) ^ (joined >> 1) ^ odd;
                if let Some(slot) = self.state.get_mut(at) {
                    *slot = word;
                }
            }
            self.at = 0;
        }
        let mut word = get(&self.state, self.at);
        self.at += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }
}

/// The words of a number that is written in bytes, the highest first.
fn words(bytes: &[u8]) -> Vec<u32> {
    let word = |part: &[u8]| part.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    let mut out: Vec<u32> = bytes.rchunks(4).map(word).collect();
    while out.len() > 1 && out.last() == Some(&0) {
        out.pop();
    }
    if out.is_empty() { vec![0] } else { out }
}

impl Chance {
    /// From a seed: a text or a whole number. None is no seed.
    pub(super) fn of(seed: Option<&Value>) -> Result<Self, Error> {
        let Some(seed) = seed.filter(|seed| !seed.is_none()) else { return Ok(Self::System) };
        let key = match (seed.as_str(), seed.as_i64()) {
            (Some(text), _) => return Ok(Self::of_text(text)),
            (None, Some(number)) => words(&number.unsigned_abs().to_be_bytes()),
            _ if seed.kind() == minijinja::value::ValueKind::Bool => vec![u32::from(seed.is_true())],
            _ => {
                return Err(wrong(format!(
                    "a seed is a text or a whole number, not {} ({})",
                    type_name(seed),
                    text(seed)?
                )));
            }
        };
        Ok(Self::Seeded(Box::new(Twister::new(&key))))
    }

    /// From a text.
    pub(super) fn of_text(seed: &str) -> Self {
        let mut bytes = seed.as_bytes().to_vec();
        bytes.extend_from_slice(&sha2::Sha512::digest(seed.as_bytes()));
        Self::Seeded(Box::new(Twister::new(&words(&bytes))))
    }

    fn bits(&mut self, count: u32) -> u64 {
        match self {
            Self::System => rand::random::<u64>().checked_shr(64 - count).unwrap_or(0),
            Self::Seeded(twister) if count <= 32 => u64::from(twister.next().checked_shr(32 - count).unwrap_or(0)),
            Self::Seeded(twister) => {
                let low = u64::from(twister.next());
                low | u64::from(twister.next().checked_shr(64 - count).unwrap_or(0)) << 32
            }
        }
    }

    /// A number below `most`; 0 where that is 0.
    pub(super) fn below(&mut self, most: u64) -> u64 {
        let count = u64::BITS - most.leading_zeros();
        if count == 0 {
            return 0;
        }
        loop {
            let drawn = self.bits(count);
            if drawn < most {
                return drawn;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// As CPython 3.11 draws them.
    #[test]
    fn numbers_are_those_of_python() {
        let mut drawn = Chance::of_text("node-1");
        let first: Vec<u64> = (0..6).map(|_| drawn.below(60)).collect();
        assert_eq!(first, NODE_1);
        let mut drawn = Chance::of(Some(&Value::from(0))).unwrap();
        let first: Vec<u64> = (0..4).map(|_| drawn.bits(32)).collect();
        assert_eq!(first, ZERO);
        let mut drawn = Chance::of(Some(&Value::from(-123_456_789_012_i64))).unwrap();
        let first: Vec<u64> = (0..3).map(|_| drawn.below(1 << 40)).collect();
        assert_eq!(first, WIDE);
        // The whole state is used up and made anew.
        let mut drawn = Chance::of_text("");
        assert_eq!((0..2000).map(|_| drawn.bits(32)).last(), Some(LATE));
        assert!(Chance::of(Some(&Value::from(1.5))).is_err());
        assert!(Chance::System.below(7) < 7);
    }

    const NODE_1: [u64; 6] = [14, 31, 7, 58, 51, 15];
    const ZERO: [u64; 4] = [3626764237, 1654615998, 3255389356, 3823568514];
    const WIDE: [u64; 3] = [575614506416, 915431070603, 322981920683];
    const LATE: u64 = 19958477;
}
