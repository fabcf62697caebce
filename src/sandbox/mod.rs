//! (being built)
pub mod pretend;
