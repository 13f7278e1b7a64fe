//! Hostile images: cut at every place, with bytes changed, with headers that lie. Whatever comes, an error or an image that
//! keeps its promises; never a panic, a hang, or memory without bound. The same bodies as the fuzz targets have, on
//! mutations that are the same in every run.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod elfwriter;

use std::time::{Duration, Instant};

use elfwriter::{ElfWriter, flags, pack};
use proptest::prelude::*;
use pvops::image::{Bits, Compression, exercise};

/// How long each mutator runs.
const BUDGET: Duration = Duration::from_secs(1);

/// A generator that is the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Numbers that lie well: around powers of two, ends of types, lengths of the file.
    fn interesting(&mut self, len: usize) -> u64 {
        let base = [0, 1, 4, 0x40, len as u64, u64::from(u32::MAX), u64::MAX, i64::MAX as u64, 1 << 31, 1 << 30];
        base[self.below(base.len())].wrapping_add(self.next() % 5).wrapping_sub(2)
    }

    /// Changes a few bytes, a field, or the length.
    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        // Headers decide more than data does: half of the changes go to the first 0x300 bytes or the last.
        for _ in 0..=self.below(4) {
            let len = bytes.len();
            if len == 0 {
                break;
            }
            let at = match self.below(4) {
                0 => self.below(len.min(0x80)),
                1 => len - 1 - self.below(len.min(0x300)),
                _ => self.below(len),
            };
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.next() as u8,
                2 => {
                    let value = self.interesting(len).to_le_bytes();
                    let width = [1, 2, 4, 8][self.below(4)].min(len - at);
                    bytes[at..at + width].copy_from_slice(&value[..width]);
                }
                3 => bytes.truncate(at),
                4 => {
                    let n = self.below(64).min(len - at);
                    bytes.drain(at..at + n);
                }
                _ => {
                    let from = self.below(len);
                    let n = self.below(64).min(len - from).min(len - at);
                    bytes.copy_within(from..from + n, at);
                }
            }
        }
        bytes
    }
}

fn small_elf(bits: Bits) -> Vec<u8> {
    let text = if bits == Bits::B64 { 0xffff_ffff_8100_0000 } else { 0xc100_0000 };
    let config = pack::compress(Compression::Gzip, b"CONFIG_PARAVIRT=y\n");
    let rodata = [b"Linux version 6.1.0 (a@b) #1\n\0IKCFG_ST", config.as_slice(), b"IKCFG_ED"].concat();
    ElfWriter::new(bits)
        .section(".text", text, flags::TEXT, &[0xe8, 0x12, 0x34, 0, 0, 0x90].repeat(40))
        .section(".rodata", text + 0x1000, flags::RODATA, &rodata)
        .section(".data..percpu", 0, flags::DATA, &[0; 32])
        .nobits(".bss", text + 0x2000, flags::DATA, 0x1000)
        .symbol("_text", text, 0, 'T')
        .symbol("data", text + 0x1000, 8, 'r')
        .trailer(&[0; 12])
        .build()
}

/// Runs mutations of the seeds until the time is up.
fn storm(seed: u64, seeds: &[Vec<u8>], target: fn(&[u8])) {
    let mut random = Random(seed);
    let start = Instant::now();
    let mut runs = 0u32;
    while start.elapsed() < BUDGET {
        for seed in seeds {
            target(&random.mutate(seed));
        }
        runs += seeds.len() as u32;
    }
    assert!(runs > 100, "only {runs} runs: something takes far too long");
}

#[test]
fn mutated_elf_files() {
    let seeds = [
        small_elf(Bits::B64),
        small_elf(Bits::B32),
        ElfWriter::new(Bits::B64).section(".text", 4096, flags::TEXT, &[0; 9]).without_section_headers().build(),
    ];
    storm(1, &seeds, exercise::open);
}

#[test]
fn mutated_site_tables() {
    let seed = |bits: Bits, text: u64| {
        let (word, stride) = (bits.word(), 2 * bits.word());
        let row = |i: u64| {
            let mut row = vec![0; stride];
            row[..word].copy_from_slice(&(text + 8 * i).to_le_bytes()[..word]);
            row[word..word + 4].copy_from_slice(&[i as u8, 6, 1, 0]);
            row
        };
        ElfWriter::new(bits)
            .section(".text", text, flags::TEXT, &b"\xff\x15\x10\x20\x30\x40\xcc\xcc".repeat(24))
            .section(".parainstructions", text + 0x1000, flags::RODATA, &(0..24).flat_map(row).collect::<Vec<u8>>())
            .build()
    };
    storm(4, &[seed(Bits::B64, 0xffff_ffff_8100_0000), seed(Bits::B32, 0xc100_0000)], pvops::sites::exercise::table);
}

#[test]
fn mutated_streams() {
    let elf = small_elf(Bits::B64);
    let seeds: Vec<Vec<u8>> = Compression::ALL.into_iter().map(|kind| pack::payload(kind, &elf)).collect();
    storm(2, &seeds, exercise::unpack);
}

#[test]
fn mutated_bzimages() {
    let elf = small_elf(Bits::B32);
    let pack = |(i, kind)| {
        let payload = pack::payload(kind, &elf);
        let version = if i % 2 == 0 { 0x20f } else { 0x204 };
        pack::bzimage_with(&payload, version, 0x40, payload.len() as u32)
    };
    let seeds: Vec<Vec<u8>> = Compression::ALL.into_iter().enumerate().map(pack).collect();
    storm(3, &seeds, exercise::open);
}

#[test]
fn cut_at_every_offset() {
    for bits in [Bits::B32, Bits::B64] {
        let elf = small_elf(bits);
        for end in 0..elf.len() {
            exercise::open(&elf[..end]);
        }
        for kind in Compression::ALL {
            let payload = pack::payload(kind, &elf);
            for end in 0..payload.len() {
                exercise::unpack(&payload[..end]);
            }
        }
    }
}

#[test]
fn every_header_byte_changed() {
    for bits in [Bits::B32, Bits::B64] {
        let elf = small_elf(bits);
        for at in (0..elf.len().min(0x200)).chain(elf.len().saturating_sub(0x300)..elf.len()) {
            for value in [0, 1, 0x7f, 0x80, 0xff, elf[at] ^ 1] {
                let mut bytes = elf.clone();
                bytes[at] = value;
                exercise::open(&bytes);
            }
        }
    }
}

#[test]
fn decoys_before_the_payload_do_not_take_all_day() {
    let bomb = {
        let mut bytes = small_elf(Bits::B64);
        bytes.resize(4 << 20, 0);
        pack::compress(Compression::Xz, &bytes[1..])
    };
    let decoys = bomb.repeat(200);
    let start = Instant::now();
    exercise::open(&pack::bzimage_with(&decoys, 0x204, 0, 0));
    assert!(start.elapsed() < Duration::from_secs(5));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_at_all(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        exercise::open(&bytes);
        exercise::open(&[b"\x7fELF\x02\x01\x01\0", bytes.as_slice()].concat());
        exercise::unpack(&[b"\x02\x21\x4c\x18".as_slice(), bytes.as_slice()].concat());
        exercise::unpack(&[b"\x89LZO\0\r\n\x1a\n".as_slice(), bytes.as_slice()].concat());
    }

    #[test]
    fn any_section_header(
        index in 0usize..7,
        field in 0usize..8,
        value in prop_oneof![any::<u64>(), Just(u64::MAX), Just(0), 0u64..5000],
    ) {
        let mut elf = small_elf(Bits::B64);
        let table = u64::from_le_bytes(elf[0x28..0x30].try_into().unwrap()) as usize;
        let at = table + index * 64 + field * 8;
        elf[at..at + 8].copy_from_slice(&value.to_le_bytes());
        exercise::open(&elf);
    }
}
