//! What the tests of symbols and BTF share: real kernels to read, and encoders to make tables with.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod btf;
pub mod kallsyms;

#[path = "../kernels/mod.rs"]
mod kernels;

use pvops::image::kallsyms::Region;

#[allow(unused_imports)]
pub use kernels::root;

/// A section of a kernel: name, address, contents, whether it is code.
pub type Section = (String, u64, Vec<u8>, bool);

/// Allocated sections with contents, and the size of a word, of the kernel in `vmlinuz-NAME`.
pub fn open(name: &str) -> Option<(Vec<Section>, usize)> {
    let image = kernels::kernel(name)?;
    let sections = image
        .sections()
        .iter()
        .filter(|s| s.allocated && s.bits_present && s.size > 0)
        .map(|s| (s.name.clone(), s.address, image.section_bytes(s).to_vec(), s.executable));
    Some((sections.collect(), image.bits().word()))
}

/// The sections, as the reader of symbols wants them.
pub fn regions(sections: &[Section]) -> Vec<Region<'_>> {
    sections
        .iter()
        .map(|(name, address, bytes, executable)| Region { name, address: *address, bytes, executable: *executable })
        .collect()
}
