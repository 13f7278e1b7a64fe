#![no_main]
use libfuzzer_sys::fuzz_target;
use pvops::image::btf::{Btf, TypeId};

fuzz_target!(|data: &[u8]| {
    let Ok(btf) = Btf::parse(data) else { return };
    (0..=btf.len() as u32).for_each(|id| drop(btf.members(TypeId(id))));
    let _ = btf.flatten_pointers("paravirt_patch_template", 8);
});
