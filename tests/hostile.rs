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

/// An image with a row or more in every table that a section or a pair of symbols names.
fn every_table(alternative: &[u8]) -> Vec<u8> {
    const TEXT: u64 = 0xffff_ffff_8100_0000;
    const TABLES: u64 = TEXT + 0x1000;
    // A paravirt call, a retpoline, a return, a static call, a nop that is a jump label, an endbr64, a lock prefix, an
    // alternative; then the functions they go to.
    let mut text = vec![0xcc; 0x200];
    let mut put = |at: usize, code: &[u8]| text[at..at + code.len()].copy_from_slice(code);
    put(0x00, b"\xff\x15\x10\x20\x30\x40");
    put(0x10, &pvops::insn::call(TEXT + 0x10, TEXT + 0x100));
    put(0x20, &pvops::insn::jmp(TEXT + 0x20, TEXT + 0x180));
    put(0x30, &pvops::insn::call(TEXT + 0x30, TEXT + 0x1c0));
    put(0x40, b"\x0f\x1f\x44\x00\x00");
    put(0x50, b"\xf3\x0f\x1e\xfa");
    put(0x60, b"\xf0\x0f\xb1\x17");
    put(0x70, b"\xfb\x90\x90\x90\x90\x90");
    put(0x80, &pvops::insn::call(TEXT + 0x80, TEXT + 0x1e0));
    put(0x180, b"\xc3");
    put(0x1c0, &pvops::insn::jmp(TEXT + 0x1c0, TEXT + 0x50));
    put(0x1c5, b"\x0f\xb9\xcc");
    let relative = |place: u64, to: u64| (to.wrapping_sub(place) as u32).to_le_bytes();
    let paravirt = [&TEXT.to_le_bytes()[..], &[3, 6, 0, 0, 0, 0, 0, 0]].concat();
    let at = |i: u64| TABLES + 0x100 * i;
    let alternatives = [&relative(at(1), TEXT + 0x70)[..], &relative(at(1) + 4, at(9)), alternative].concat();
    let label =
        [&relative(at(2), TEXT + 0x40)[..], &relative(at(2) + 4, TEXT + 0x60), &(at(8) - at(2) - 8).to_le_bytes()];
    let call = [relative(at(3), TEXT + 0x30), relative(at(3) + 4, at(8) + 16)].concat();
    ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &text)
        .section(".parainstructions", at(0), flags::RODATA, &paravirt)
        .section(".altinstructions", at(1), flags::RODATA, &alternatives)
        .section("__jump_table", at(2), flags::RODATA, &label.concat())
        .section(".static_call_sites", at(3), flags::RODATA, &call)
        .section(".retpoline_sites", at(4), flags::RODATA, &relative(at(4), TEXT + 0x10))
        .section(".return_sites", at(5), flags::RODATA, &relative(at(5), TEXT + 0x20))
        .section(".ibt_endbr_seal", at(6), flags::RODATA, &relative(at(6), TEXT + 0x50))
        .section(".smp_locks", at(7), flags::RODATA, &relative(at(7), TEXT + 0x60))
        .section(".data", at(8), flags::DATA, &[0; 64])
        .section(".altinstr_replacement", at(9), flags::TEXT, b"\xfa\x90\x90\x90\x90\x90\x90\x90")
        .section(".init.data", at(10), flags::DATA, &(TEXT + 0x80).to_le_bytes())
        .symbol("__start___jump_table", at(2), 0, 'R')
        .symbol("__stop___jump_table", at(2) + 16, 0, 'R')
        .symbol("__start_static_call_sites", at(3), 0, 'R')
        .symbol("__stop_static_call_sites", at(3) + 8, 0, 'R')
        .symbol("__start_mcount_loc", at(10), 0, 'R')
        .symbol("__stop_mcount_loc", at(10) + 8, 0, 'R')
        .symbol("__fentry__", TEXT + 0x1e0, 0, 'T')
        .symbol("__x86_indirect_thunk_array", TEXT + 0x100, 0, 'T')
        .symbol("__x86_return_thunk", TEXT + 0x180, 0, 'T')
        .symbol("__SCT__call", TEXT + 0x1c0, 8, 'T')
        .symbol("__SCK__call", at(8) + 16, 16, 'D')
        .build()
}

#[test]
fn mutated_tables_of_every_kind() {
    let seeds = [every_table(&[0, 0, 6, 1]), every_table(&[0, 0, 1, 0, 6, 1])];
    for seed in &seeds {
        let image = pvops::image::Image::from_bytes("seed", seed.clone()).unwrap();
        let tables = pvops::sites::Tables::read(&image).unwrap();
        let rows = [
            tables.paravirt.map_or(0, |table| table.sites.len()),
            tables.alternatives.map_or(0, |table| table.rows.len()),
            tables.retpolines.sites.len(),
            tables.returns.sites.len(),
            tables.ibt.sites.len(),
            tables.smp_locks.sites.len(),
            tables.mcount.len(),
            tables.jump_labels.len(),
            tables.static_calls.len(),
            tables.trampolines.len(),
        ];
        assert_eq!(rows, [1; 10], "the seed has a row in each table");
    }
    storm(5, &seeds, pvops::patch::exercise::boots);
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
