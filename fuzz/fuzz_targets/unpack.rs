//! Containers and compressed streams.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pvops::image::exercise::unpack(data));
