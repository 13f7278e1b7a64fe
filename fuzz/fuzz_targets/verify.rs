//! Rows and machines at random → plan → text → verify, and one byte changed.
#![no_main]

#[path = "../../tests/elfwriter/elf.rs"]
mod elfwriter;
#[path = "../../tests/verify_support/random.rs"]
mod random;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| random::check(data));
