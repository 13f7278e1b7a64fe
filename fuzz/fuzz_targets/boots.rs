//! All tables of an ELF image, and the passes of every era over them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pvops::patch::exercise::boots(data));
