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

/// A small generator of reproducible numbers (xorshift64*), for mutators.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n.max(1)
    }

    /// Overwrites, copies, cuts or zeroes a few places of a blob, often with numbers that lie near a bound.
    pub fn mutate(&mut self, blob: &mut Vec<u8>) {
        for _ in 0..1 + self.below(8) {
            let (at, n) = (self.below(blob.len()), 1 + self.below(16));
            let end = (at + n).min(blob.len());
            match self.below(8) {
                0 => blob[at..end].fill(0xff),
                1 => blob[at..end].fill(0),
                2 => blob.truncate(at.max(1)),
                3 => {
                    let from = self.below(blob.len() - (end - at) + 1);
                    blob.copy_within(from..from + (end - at), at);
                }
                4 => blob[at] = blob[at].wrapping_add(1),
                5 => blob[at] ^= 1 << self.below(8),
                6 => blob[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][self.below(6)],
                _ => blob[at] = self.next() as u8,
            }
        }
    }
}
