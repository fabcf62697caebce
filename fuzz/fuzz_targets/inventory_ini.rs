//! An INI inventory: read or refused, and `all` is all of its hosts, or the one that is called so.
#![no_main]
pub(crate) mod common;
use ferry::inventory::Inventory;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = common::file("hosts.ini", bytes);
    if let Ok(inventory) = Inventory::load(&[path]) {
        let hosts = inventory.hosts().count();
        // A host of that name hides the group, as in Ansible; it is warned of.
        let expected = if inventory.hosts().any(|host| host.to_string() == "all") { 1 } else { hosts };
        assert_eq!(inventory.select("all").map_or(expected, |all| all.len()), expected);
    }
});
