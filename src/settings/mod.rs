//! Settings: flags over environment over `ferry.toml` over defaults.
//!
//! What lives here: finding and reading `ferry.toml`, the `FERRY_` and `ANSIBLE_` variables, where
//! things are kept, and the two readers that every file of ours goes through. What does not: what an
//! inventory or a playbook means.

pub mod duration;
pub mod files;
pub mod yaml;
