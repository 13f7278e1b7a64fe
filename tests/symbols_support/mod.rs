//! What the tests of symbols and BTF share: real kernels to read, and encoders to make tables with.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod btf;
pub mod kallsyms;

use object::{Object, ObjectSection, SectionFlags, elf};
use pvops::image::kallsyms::Region;
use std::io::Read;
use std::path::PathBuf;

/// A section of a kernel: name, address, contents, whether it is code.
pub type Section = (String, u64, Vec<u8>, bool);

/// The folder with `kernels/` and `boots/`, or `None` after a note on why the test is skipped.
pub fn kernels() -> Option<PathBuf> {
    let dir = std::env::var_os("PVOPS_KERNELS").map(PathBuf::from);
    if dir.is_none() {
        assert!(std::env::var_os("PVOPS_REQUIRE_KERNELS").is_none_or(|v| v != "1"), "PVOPS_KERNELS is not set");
        println!("skipped: PVOPS_KERNELS is not set");
    }
    dir
}

/// Allocated sections with contents, and the size of a word, of the kernel in `vmlinuz-NAME`.
pub fn open(name: &str) -> Option<(Vec<Section>, usize)> {
    let file = std::fs::read(kernels()?.join(format!("kernels/vmlinuz-{name}"))).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let start = (usize::from(file[0x1f1]) + 1) * 512 + u32_at(0x248);
    let payload = &file[start..start + u32_at(0x24c) - 4];
    let mut elf = Vec::new();
    if payload.starts_with(b"\xfd7zXZ") {
        liblzma::read::XzDecoder::new(payload).read_to_end(&mut elf).unwrap();
    } else {
        zstd::stream::read::Decoder::new(payload).unwrap().single_frame().read_to_end(&mut elf).unwrap();
    }
    let elf = object::File::parse(&*elf).unwrap();
    let sections = elf.sections().filter_map(|section| {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { return None };
        let data = section.data().ok().filter(|data| !data.is_empty() && sh_flags.0 & elf::SHF_ALLOC.0 != 0)?;
        let code = sh_flags.0 & elf::SHF_EXECINSTR.0 != 0;
        Some((section.name().unwrap().to_owned(), section.address(), data.to_vec(), code))
    });
    Some((sections.collect(), if elf.is_64() { 8 } else { 4 }))
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
