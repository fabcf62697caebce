//! ferry: backs up, restores and moves Anypoint Platform PCE clusters over SSH.
//!
//! This file is the map. The rooms stand here in floor order, from the ground up, and nowhere
//! else is that order written: `tests/floors.rs` reads it from the `// floor:` lines and fails on
//! an import that climbs.

// floor: words
pub mod codes;
pub mod digest;
pub mod event;
pub mod failure;
pub mod name;
pub mod secret;

// floor: paper
pub mod inventory;
pub mod playbook;
pub mod settings;
pub mod template;
pub mod vault;

// floor: wire
pub mod remote;

// floor: crafts
pub mod amv;
pub mod archive;
pub mod catalog;
pub mod gravity;
pub mod job;
pub mod nfs;
pub mod transfer;
pub mod volume;

// floor: work
pub mod modules;
pub mod plan;
pub mod run;

// floor: windows
pub mod report;

// floor: roof
pub mod cli;
pub mod sandbox;
