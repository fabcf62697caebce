//! A journal: read or refused, and summed up.
#![no_main]
pub(crate) mod common;
use ferry::report::journal;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = common::file("journal.jsonl", bytes);
    let _ = journal::read(&path);
    let _ = journal::summarise(common::folder());
});
