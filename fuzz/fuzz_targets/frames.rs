//! The frames of a job's answer: read or refused, however they are cut.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ferry::job::fuzz_frames(bytes));
