//! A pattern over a fixed inventory: what it selects is in the inventory, once each.
#![no_main]
pub(crate) mod common;
use ferry::inventory::Inventory;
use std::sync::OnceLock;
static INVENTORY: OnceLock<Inventory> = OnceLock::new();
libfuzzer_sys::fuzz_target!(|text: &str| {
    let inventory = INVENTORY.get_or_init(|| {
        let text = "all:\n  children:\n    prod:\n      hosts: { prod-1: {}, prod-2: {}, prod-3: {} }\n    dr:\n      hosts: { dr-1: {}, dr-2: {} }\n    mains: { hosts: { prod-1: {}, dr-1: {} } }\n";
        Inventory::load(&[common::file("patterns.yml", text.as_bytes())]).expect("the fuzzer's own inventory")
    });
    if let Ok(mut hosts) = inventory.select(text) {
        let many = hosts.len();
        hosts.sort();
        hosts.dedup();
        assert_eq!(many, hosts.len());
        // This machine can be named although it is not in the inventory.
        let implicit = ["localhost", "127.0.0.1", "::1"];
        assert!(hosts.iter().all(|host| implicit.contains(&host.as_str()) || inventory.hosts().any(|known| known == host)));
    }
});
