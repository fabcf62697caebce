//! What earlier runs took: so that a screen can say what is to be expected, and an end can be compared.
//!
//! What lives here: finding the newest run of the same play that came to a good end, and its times. What does not: the
//! history of a cluster's archives (catalog), by which timeouts are chosen.

use std::collections::HashMap;
use std::path::PathBuf;

use super::journal::{FILE, Reader};
use crate::event::Event;

/// So many runs are looked at, newest first.
const MOST_RUNS: usize = 40;
/// A journal that is larger is not read for this, in bytes.
const LARGEST: u64 = 8 << 20;

/// The runs of this machine.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The folder of runs.
    pub runs: PathBuf,
    /// The run that is going on.
    pub except: String,
}

/// An earlier run of the same play that came to a good end.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// How long it took in all, in seconds.
    pub seconds: f64,
    /// How long each step took on the host where it took longest, in seconds.
    pub steps: HashMap<String, f64>,
}

impl Memory {
    /// The newest run that played `play` and ended with exit 0.
    pub fn of(&self, play: &str) -> Option<Past> {
        let mut runs: Vec<PathBuf> = std::fs::read_dir(&self.runs)
            .ok()?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy() != self.except)
            .map(|entry| entry.path().join(FILE))
            .filter(|journal| journal.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST))
            .collect();
        // Ids begin with their time.
        runs.sort();
        runs.iter().rev().take(MOST_RUNS).find_map(|journal| past(journal, play))
    }
}

fn past(journal: &std::path::Path, play: &str) -> Option<Past> {
    let mut past = Past { seconds: 0.0, steps: HashMap::new() };
    let (mut same, mut well) = (false, false);
    for event in Reader::open(journal).ok()? {
        match event.ok()?.event {
            // One that was carried on took other steps in each part.
            Event::RunStarted { resumes: Some(_), .. } => return None,
            Event::PlayStarted { play: name, .. } => {
                if !same && name != play {
                    return None;
                }
                same = true;
            }
            Event::TaskEnded { task, seconds, done_in: None, .. } => {
                let longest = past.steps.entry(task).or_insert(0.0);
                *longest = longest.max(seconds);
            }
            Event::RunEnded { exit, seconds, .. } => (well, past.seconds) = (exit == 0, seconds),
            _ => {}
        }
    }
    (same && well).then_some(past)
}
