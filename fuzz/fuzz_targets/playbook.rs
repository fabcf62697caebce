//! A playbook: read or refused, every mistake with its place.
#![no_main]
use ferry::{modules, playbook::Playbook};
libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Playbook::parse("fuzz.yml", text, &modules::table());
});
