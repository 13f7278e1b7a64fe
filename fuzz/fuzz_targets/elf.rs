//! ELF headers, and all that is read through them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut file = b"\x7fELF".to_vec();
    file.extend_from_slice(data);
    pvops::image::exercise::open(&file);
});
