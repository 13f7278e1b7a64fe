//! The site table of an ELF image, and patching by it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pvops::sites::exercise::table(data));
