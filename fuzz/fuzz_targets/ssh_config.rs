//! An ssh_config: resolved or refused. Match exec would run commands: such texts are left out.
#![no_main]
pub(crate) mod common;
use ferry::remote::ssh::config::{self, Files, Here};
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let lower = bytes.to_ascii_lowercase();
    if lower.windows(4).any(|word| word == b"exec") || lower.windows(7).any(|word| word == b"include") {
        return;
    }
    let path = common::file("ssh_config", bytes);
    let here = Here {
        home: common::folder().to_owned(),
        user: "ops".to_owned(),
        uid: 0,
        machine: "here".to_owned(),
        env: |_| None,
    };
    let _ = config::resolve("node-1", &[], &Files::only(&path), &here);
    let _ = config::hops(&String::from_utf8_lossy(bytes));
});
