//! A known_hosts file: whatever stands in it, an answer comes, and a revoked key is never a yes.
#![no_main]
pub(crate) mod common;
use ferry::remote::ssh::known_hosts::{KnownHosts, Offered};
use std::time::SystemTime;
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut revoked = bytes.to_vec();
    revoked.extend_from_slice(format!("\n@revoked * {KEY}\n").as_bytes());
    for (bytes, revoked) in [(bytes.to_vec(), false), (revoked, true)] {
        let path = common::file("known_hosts", &bytes);
        if let Ok(known) = KnownHosts::load(&[path])
            && let Ok(key) = KEY.parse()
        {
            let verdict = known.check("node-1", 22, None, &Offered::PublicKey(key), SystemTime::now());
            assert!(!(revoked && verdict.yes()), "a revoked key was accepted");
            let _ = known.algorithms("node-1", 22);
        }
    }
});
