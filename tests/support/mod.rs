//! What tests share. Each test takes what it needs, so not all of it is used everywhere.
#![allow(dead_code, unreachable_pub)]

pub mod bed;
pub mod pce;
pub mod real;
pub mod told;
