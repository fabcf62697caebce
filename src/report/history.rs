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
    /// What was typed for it: only a run that did the same kind of work says what is to be expected.
    pub command: Vec<String>,
}

/// What of a command line decides how long it takes: whether it only looks, and which parts it is about.
fn kind_of_work(command: &[String]) -> (bool, Vec<String>) {
    // What stands behind `--` is a command for hosts.
    let own: Vec<&str> = command.iter().map(String::as_str).take_while(|word| *word != "--").collect();
    let short = |word: &str| word.starts_with('-') && !word.starts_with("--") && word.contains('C');
    let looks = own.iter().any(|word| *word == "--check" || short(word));
    let mut parts: Vec<String> = own
        .iter()
        .zip(own.iter().skip(1).map(Some).chain(std::iter::once(None)))
        .filter_map(|(word, next)| match word.strip_prefix("--only") {
            Some("") => next.map(|next| (*next).to_owned()),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        })
        .flat_map(|parts| parts.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    parts.sort_unstable();
    parts.dedup();
    (looks, parts)
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
    /// The newest run that played `play`, did the same kind of work, and ended with exit 0.
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
        let kind = kind_of_work(&self.command);
        runs.iter().rev().take(MOST_RUNS).find_map(|journal| past(journal, play, &kind))
    }
}

fn past(journal: &std::path::Path, play: &str, kind: &(bool, Vec<String>)) -> Option<Past> {
    let mut past = Past { seconds: 0.0, steps: HashMap::new() };
    let (mut same, mut well) = (false, false);
    for event in Reader::open(journal).ok()? {
        match event.ok()?.event {
            // One that was carried on took other steps in each part.
            Event::RunStarted { resumes: Some(_), .. } => return None,
            Event::RunStarted { command, .. } if kind_of_work(&command) != *kind => return None,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(line: &str) -> (bool, Vec<String>) {
        kind_of_work(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_look_is_not_compared_with_a_backup_nor_a_part_with_the_whole() {
        assert_eq!(kind("ferry backup prod"), (false, vec![]));
        for look in ["ferry backup prod --check", "ferry backup prod -C", "ferry run p.yml -DC"] {
            assert!(kind(look).0, "{look}");
        }
        assert_eq!(kind("ferry exec prod -- tar -C /x"), (false, vec![]));
        assert_eq!(kind("ferry backup prod --only nfs,amv"), kind("ferry backup prod --only=amv --only nfs --label x"));
        assert_ne!(kind("ferry backup prod --only nfs"), kind("ferry backup prod"));
    }
}
