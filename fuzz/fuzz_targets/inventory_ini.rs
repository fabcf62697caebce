//! An INI inventory: read or refused, and `all` is all of its hosts.
#![no_main]
pub(crate) mod common;
use ferry::inventory::Inventory;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = common::file("hosts.ini", bytes);
    if let Ok(inventory) = Inventory::load(&[path]) {
        let hosts = inventory.hosts().count();
        assert_eq!(inventory.select("all").map_or(hosts, |all| all.len()), hosts);
    }
});
