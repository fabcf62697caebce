//! A YAML inventory: read or refused, and every host's variables can be listed.
#![no_main]
pub(crate) mod common;
use ferry::inventory::Inventory;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = common::file("hosts.yml", bytes);
    if let Ok(inventory) = Inventory::load(&[path]) {
        let hosts: Vec<_> = inventory.hosts().cloned().collect();
        assert!(hosts.iter().all(|host| inventory.vars(host).len() < 1 << 20));
        // A host of that name hides the group, as in Ansible; it is warned of.
        let expected = if hosts.iter().any(|host| host.to_string() == "all") { 1 } else { hosts.len() };
        assert_eq!(inventory.select("all").map_or(expected, |all| all.len()), expected);
    }
});
