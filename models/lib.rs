//! The room `src/lock`, alone: under loom and shuttle, under sanitizers, and without std.
#![cfg_attr(not(feature = "std"), no_std)]

#[path = "../src/lock/mod.rs"]
pub mod lock;

pub use lock::*;
