//! Hostile dumps: cut at every place, with bytes changed, with headers that lie; and hostile lists of relocations. Whatever
//! comes, an error or a kernel; never a panic, a hang, or memory without bound.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;

use std::time::{Duration, Instant};

use elfwriter::dump::{CoreWriter, lime};
use elfwriter::hypervisors::{vmware_state, xen_core};
use elfwriter::packed::{KdumpWriter, Packing, avml, flattened};
use memory_support::{Recipe, TEXT, noise};
use proptest::prelude::*;
use pvops::image::{Bits, exercise};

const BUDGET: Duration = Duration::from_secs(2);
const SLIDE: u64 = 0x1240_0000;

/// Dumps of no more than the kernel: the smaller, the more of a change hits something that matters.
fn seeds() -> Vec<Vec<u8>> {
    let recipe = Recipe::new(Bits::B64);
    let moved = recipe.moved(SLIDE);
    let note = b"KERNELOFFSET=12400000\nNUMBER(phys_base)=0\n";
    let core = |bits| CoreWriter::new(bits).note("VMCOREINFO", 0, note).cpu(0x1000, 0x20).physical(0x40_0000, &moved);
    vec![
        core(Bits::B64).build(),
        core(Bits::B32).build(),
        CoreWriter::new(Bits::B64).stretch(TEXT + SLIDE, u64::MAX, &moved).build(),
        lime(&[(0x40_0000, &moved), (0x80_0000, &[1; 64])]),
        moved,
    ]
}

/// The same in the formats that pack or scatter memory, the kernel from 0 on.
fn packed_seeds() -> Vec<Vec<u8>> {
    let mut memory = Recipe::new(Bits::B64).moved(SLIDE);
    memory.resize(memory.len().next_multiple_of(4096), 0);
    let notes = CoreWriter::new(Bits::B64).cpu(0x1000, 0x20).note_bytes().to_vec();
    let kdump = |packing| KdumpWriter::new(&memory, packing).vmcoreinfo("KERNELOFFSET=12400000\n").notes(&notes);
    let pages: Vec<(u64, &[u8])> = memory.chunks(4096).enumerate().map(|(i, page)| (i as u64, page)).collect();
    let count = pages.len() as u32;
    let mut seeds: Vec<Vec<u8>> = Packing::ALL.into_iter().map(|packing| kdump(packing).build()).collect();
    seeds.extend([
        kdump(Packing::Zlib).narrow().version(5).build(),
        kdump(Packing::Lzo).part(3..40),
        flattened(&kdump(Packing::Snappy).build(), 9000),
        avml(&[(0, &memory[..0x20000]), (0x20000, &memory[0x20000..])]),
        xen_core(&pages, false),
        xen_core(&pages, true),
        vmware_state(
            &[(0, 0, count / 2), (count / 2, count / 2, count - count / 2)],
            Some((0x1000, 0x20)),
            Some(&memory),
        ),
    ]);
    seeds
}

#[test]
fn mutated_dumps() {
    mutate(&seeds(), 0x400);
}

#[test]
fn mutated_dumps_of_formats_that_pack() {
    // Headers, and the bitmaps, descriptors, chunks or tags behind them.
    mutate(&packed_seeds(), 0x400);
    mutate(&packed_seeds(), 0x6000);
}

/// Changes what is in the first bytes of dumps, for a while.
fn mutate(seeds: &[Vec<u8>], reach: usize) {
    let image = Recipe::new(Bits::B64).image();
    let order = noise(1, 1 << 20);
    let (mut words, mut runs) = (order.chunks_exact(8).cycle(), 0u32);
    let mut next = || u64::from_le_bytes(words.next().unwrap().try_into().unwrap()) as usize;
    let start = Instant::now();
    while start.elapsed() < BUDGET {
        for seed in seeds {
            let mut dump = seed.clone();
            for _ in 0..=next() % 3 {
                let at = next() % dump.len().min(reach);
                let value =
                    [0, 1, u64::MAX, next() as u64, 1 << 63, dump.len() as u64, 0xffff][next() % 7].to_le_bytes();
                let width = [1, 2, 4, 8][next() % 4].min(dump.len() - at);
                dump[at..at + width].copy_from_slice(&value[..width]);
            }
            if next() % 8 == 0 {
                dump.truncate(next() % seed.len());
            }
            pvops::memory::exercise::open(&image, &dump);
            runs += 1;
        }
    }
    assert!(runs > 50, "only {runs} dumps: something takes far too long");
}

#[test]
fn cut_at_every_offset_of_the_headers() {
    let image = Recipe::new(Bits::B64).image();
    for seed in seeds() {
        for end in (0..0x400).chain([seed.len() - 1]) {
            pvops::memory::exercise::open(&image, &seed[..end]);
        }
    }
    for seed in packed_seeds() {
        for end in (0..0x6000.min(seed.len())).step_by(61).chain([seed.len() - 1]) {
            pvops::memory::exercise::open(&image, &seed[..end]);
        }
    }
}

#[test]
fn headers_that_ask_for_the_world() {
    let image = Recipe::new(Bits::B64).image();
    let mut core = CoreWriter::new(Bits::B64).physical(0, &[0; 64]).build();
    // A million program headers, said by the section header and by nothing else.
    core[0x38..0x3a].copy_from_slice(&[0xff, 0xff]);
    core[64 + 44..64 + 48].copy_from_slice(&0xffff_ffffu32.to_le_bytes());
    pvops::memory::exercise::open(&image, &core);
    // A range as long as the address space.
    let mut endless = lime(&[(0, &[0; 64])]);
    endless[8..24].copy_from_slice(&[[0; 8], [0xff; 8]].concat());
    pvops::memory::exercise::open(&image, &endless);
    // A thousand banners, each a candidate.
    let banner = [memory_support::BANNER.as_bytes(), b"\n\0"].concat().repeat(100_000);
    let start = Instant::now();
    pvops::memory::exercise::open(&image, &banner);
    assert!(start.elapsed() < Duration::from_secs(5));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_lists_at_all(words in prop::collection::vec(prop_oneof![Just(0u32), any::<u32>(), 0x8100_0000u32..0x8103_0100], 0..40)) {
        let recipe = Recipe::new(Bits::B64);
        exercise::open(&recipe.elf(&words));
    }

    #[test]
    fn any_change_to_the_lists(at in 0usize..110, value in prop_oneof![Just(0u32), any::<u32>(), 0x8100_0000u32..0x8103_0100]) {
        let recipe = Recipe::new(Bits::B64);
        let mut lists = recipe.lists();
        let at = at % lists.len();
        lists[at] = value;
        exercise::open(&recipe.elf(&lists));
    }

    #[test]
    fn any_bytes_after_a_magic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let image = Recipe::new(Bits::B64).image();
        let magics: [&[u8]; 6] = [
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0",
            b"EMiL\x01\0\0\0",
            b"AVML\x02\0\0\0",
            b"KDUMP   \x06\0\0\0",
            b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01",
            b"\xd2\xbe\xd2\xbe\x08\0\0\0\x02\0\0\0",
        ];
        for magic in magics {
            pvops::memory::exercise::open(&image, &[magic, &bytes].concat());
        }
    }
}
