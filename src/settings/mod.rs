//! Settings.

pub mod yaml;
