//! A small kernel that can be moved, and the memory of a machine it runs on.
#![allow(dead_code, clippy::unwrap_used)]

use pvops::image::{Bits, Image};

use crate::elfwriter::{ElfWriter, flags};

pub const TEXT: u64 = 0xffff_ffff_8100_0000;
pub const TEXT_32: u64 = 0xc100_0000;
pub const TEXT_SIZE: usize = 0x20000;
pub const RODATA_SIZE: usize = 0x10000;
/// From the start of `.text`.
pub const RODATA: u64 = 0x20000;
pub const NOTES: u64 = 0x30000;
pub const IMAGE_SIZE: usize = 0x30040;
pub const BANNER: &str = "Linux version 6.1.0-test (a@b) (gcc) #1 SMP Test 6.1.1-1 (2026-01-01)";
/// How much memory the machine has.
pub const MEMORY: usize = 8 << 20;

/// Bytes without order, the same in every run.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 24
    };
    (0..len).map(|_| next() as u8).collect()
}

/// A page of `.rodata` that begins with the banner, by which the kernel is found.
pub fn rodata() -> Vec<u8> {
    let mut rodata = noise(2, 0x1000);
    rodata[..BANNER.len() + 1].copy_from_slice(format!("{BANNER}\0").as_bytes());
    rodata
}

/// Reads virtual memory that has these bytes at these addresses, and nothing else.
pub fn read_from(stretches: &[(u64, &[u8])], address: u64, buffer: &mut [u8]) -> bool {
    for (start, bytes) in stretches {
        let at = usize::try_from(address.wrapping_sub(*start)).unwrap();
        if let Some(found) = at.checked_add(buffer.len()).and_then(|end| bytes.get(at..end)) {
            buffer.copy_from_slice(found);
            return true;
        }
    }
    false
}

/// What a kernel is made of.
#[derive(Clone)]
pub struct Recipe {
    pub bits: Bits,
    pub seed: u64,
    pub banner: String,
    pub build_id: u8,
    /// Whether the image says where its absolute addresses are.
    pub relocatable: bool,
    /// Whether it has the list of fields that hold per-CPU offsets.
    pub inverse: bool,
}

impl Recipe {
    pub fn new(bits: Bits) -> Recipe {
        Recipe { bits, seed: 1, banner: BANNER.to_owned(), build_id: 7, relocatable: true, inverse: bits == Bits::B64 }
    }

    pub fn text(&self) -> u64 {
        if self.bits == Bits::B64 { TEXT } else { TEXT_32 }
    }

    /// Every field: offset from the start of the text, width, direction.
    pub fn fields(&self) -> Vec<(u64, usize, i64)> {
        let mut fields: Vec<(u64, usize, i64)> = (0..40).map(|i| (0x41 + i * 0x400, 4, 1)).collect();
        if self.bits == Bits::B64 {
            fields.extend((0..60).map(|i| (RODATA + 0x203 + i * 0x200, 8, 1)));
        }
        if self.inverse {
            fields.extend((0..5).map(|i| (0x101 + i * 0x1000, 4, -1)));
        }
        fields
    }

    /// Text, constants and notes in one piece, as linked.
    pub fn linked(&self) -> Vec<u8> {
        let mut bytes = noise(self.seed, IMAGE_SIZE);
        // Half of it is there twice, so that its pages can be packed.
        for line in bytes.chunks_exact_mut(64) {
            line.copy_within(..32, 32);
        }
        let banner = format!("{}\n\0", self.banner);
        bytes[RODATA as usize + 0x40..][..banner.len()].copy_from_slice(banner.as_bytes());
        let note = [4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0];
        bytes[NOTES as usize..].fill(0);
        bytes[NOTES as usize..][..16].copy_from_slice(&note);
        bytes[NOTES as usize + 16..][..20].fill(self.build_id);
        for (i, (at, width, _)) in (0u64..).zip(self.fields()) {
            let target = (self.text() + 16 * i).to_le_bytes();
            bytes[at as usize..][..width].copy_from_slice(&target[..width]);
        }
        bytes
    }

    /// The same, moved.
    pub fn moved(&self, slide: u64) -> Vec<u8> {
        let mut bytes = self.linked();
        for (at, width, direction) in self.fields() {
            let field = &mut bytes[at as usize..][..width];
            let mut wide = [0; 8];
            wide[..width].copy_from_slice(field);
            let slide = if direction < 0 { slide.wrapping_neg() } else { slide };
            field.copy_from_slice(&u64::from_le_bytes(wide).wrapping_add(slide).to_le_bytes()[..width]);
        }
        bytes
    }

    /// `vmlinux.relocs`.
    pub fn lists(&self) -> Vec<u32> {
        let list = |width: usize, direction: i64| {
            let of = self.fields().into_iter().filter(move |&(_, w, d)| (w, d) == (width, direction));
            let mut list: Vec<u32> = of.map(|(at, ..)| (self.text() + at) as u32).collect();
            list.sort_unstable();
            list
        };
        let mut out = vec![0];
        if self.bits == Bits::B64 {
            out.extend(list(8, 1));
            out.push(0);
        }
        if self.inverse {
            out.extend(list(4, -1));
            out.push(0);
        }
        out.extend(list(4, 1));
        out
    }

    pub fn elf(&self, lists: &[u32]) -> Vec<u8> {
        let (text, linked) = (self.text(), self.linked());
        let trailer: Vec<u8> = lists.iter().flat_map(|word| word.to_le_bytes()).collect();
        ElfWriter::new(self.bits)
            .section(".text", text, flags::TEXT, &linked[..TEXT_SIZE])
            .section(".rodata", text + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
            .section(".notes", text + NOTES, flags::RODATA, &linked[NOTES as usize..])
            .nobits(".bss", text + 0x40000, flags::DATA, 0x1000)
            .trailer(if self.relocatable { &trailer } else { &[] })
            .build()
    }

    pub fn image(&self) -> Image {
        Image::from_bytes("vmlinux", self.elf(&self.lists())).unwrap()
    }

    /// The physical memory of a machine that runs it, moved and placed.
    pub fn memory(&self, physical: u64, slide: u64) -> Vec<u8> {
        let mut memory = vec![0; MEMORY];
        memory[physical as usize..][..IMAGE_SIZE].copy_from_slice(&self.moved(slide));
        memory
    }
}

/// Page tables of four levels in a page each from `at` on, which map 2 MiB at a virtual address.
pub fn map(memory: &mut [u8], at: usize, virtual_: u64, physical: u64) {
    for (level, shift) in [39, 30, 21].into_iter().enumerate() {
        let entry = if shift == 21 { physical | 0x80 } else { (at + 4096 * (level + 1)) as u64 };
        let index = (virtual_ >> shift & 511) as usize;
        memory[at + 4096 * level + 8 * index..][..8].copy_from_slice(&(entry | 1).to_le_bytes());
    }
}
