//! Page tables that map a page of the kernel elsewhere: what lies where the kernel does is as built, and another page runs.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;

use elfwriter::dump::CoreWriter;
use memory_support::{IMAGE_SIZE, RODATA, RODATA_SIZE, Recipe, TEXT, TEXT_SIZE, map};
use pvops::image::Bits;
use pvops::memory::{Memory, Remapped, remapped};

const SLIDE: u64 = 0x1240_0000;
const PHYSICAL: u64 = 0x40_0000;
/// Page tables: three pages, and one of entries for pages of 4 KiB.
const TABLES: u64 = 0x1000;
const PAGES: u64 = 0x8000;
/// Where a page lies that is no kernel's.
const ELSEWHERE: u64 = 0x60_0000;

/// How many pages are mapped, and which elsewhere, of a machine whose page tables are changed before. `small` maps in pages
/// of 4 KiB.
fn judged(small: bool, change: impl Fn(&mut [u8])) -> (u64, Vec<Remapped>) {
    let recipe = Recipe::new(Bits::B64);
    let mut memory = recipe.memory(PHYSICAL, SLIDE);
    map(&mut memory, TABLES as usize, TEXT + SLIDE, PHYSICAL);
    if small {
        let index = (TEXT + SLIDE) >> 21 & 511;
        let entry = (TABLES + 0x2000 + 8 * index) as usize;
        memory[entry..][..8].copy_from_slice(&(PAGES | 1).to_le_bytes());
        for page in 0..IMAGE_SIZE.div_ceil(4096) as u64 {
            memory[(PAGES + 8 * page) as usize..][..8].copy_from_slice(&((PHYSICAL + 4096 * page) | 1).to_le_bytes());
        }
    }
    change(&mut memory);
    let core = CoreWriter::new(Bits::B64).cpu(TABLES, 0x20).physical(0, &memory).build();
    let (image, memory) = (recipe.image(), Memory::from_bytes("dump", core).unwrap());
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let ranges = [TEXT..TEXT + TEXT_SIZE as u64, TEXT + RODATA..TEXT + RODATA + RODATA_SIZE as u64];
    remapped(&memory, &found, &image, &ranges).unwrap()
}

/// The page tables of so many CPUs, each at `STEP` from the one before.
const CPUS: u64 = 80;
const FIRST: u64 = 0x8_0000;
const STEP: u64 = 0x3000;

#[test]
fn of_many_cpus_each_is_asked() {
    let recipe = Recipe::new(Bits::B64);
    for changed in [0, CPUS - 1] {
        let mut memory = recipe.memory(PHYSICAL, SLIDE);
        (0..CPUS).for_each(|cpu| map(&mut memory, (FIRST + STEP * cpu) as usize, TEXT + SLIDE, PHYSICAL));
        let table = FIRST + STEP * changed + 0x2000;
        let entry = table + 8 * ((TEXT + SLIDE) >> 21 & 511);
        memory[entry as usize..][..8].copy_from_slice(&(PAGES | 1).to_le_bytes());
        for page in 0..IMAGE_SIZE.div_ceil(4096) as u64 {
            let lies = if page == 3 { ELSEWHERE } else { PHYSICAL + 4096 * page };
            memory[(PAGES + 8 * page) as usize..][..8].copy_from_slice(&(lies | 1).to_le_bytes());
        }
        let core = (0..CPUS).fold(CoreWriter::new(Bits::B64), |core, cpu| core.cpu(FIRST + STEP * cpu, 0x20));
        let memory = Memory::from_bytes("dump", core.physical(0, &memory).build()).unwrap();
        let image = recipe.image();
        let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
        let stray = Remapped { address: TEXT + 0x3000, expected: PHYSICAL + 0x3000, found: ELSEWHERE };
        let text = TEXT..TEXT + TEXT_SIZE as u64;
        assert_eq!(remapped(&memory, &found, &image, &[text]).unwrap(), (TEXT_SIZE as u64 / 4096, vec![stray]));
    }
}

/// All pages of text and constants.
const ALL: u64 = (TEXT_SIZE + RODATA_SIZE) as u64 / 4096;

#[test]
fn a_kernel_is_mapped_to_where_it_lies_in_pages_of_any_size() {
    for small in [false, true] {
        assert_eq!(judged(small, |_| ()), (ALL, vec![]));
    }
}

#[test]
fn a_page_that_is_mapped_elsewhere_is_named() {
    for page in [0, 7, 31, 33] {
        let (pages, strays) = judged(true, |memory| {
            memory[(PAGES + 8 * page) as usize..][..8].copy_from_slice(&(ELSEWHERE | 1).to_le_bytes());
        });
        let at = 4096 * page;
        let stray = Remapped { address: TEXT + at, expected: PHYSICAL + at, found: ELSEWHERE };
        assert_eq!((pages, strays), (ALL, vec![stray]));
    }
}

#[test]
fn pages_that_are_not_mapped_are_nowhere_else() {
    // A CPU in user mode under page-table isolation has the kernel's entry code alone.
    let (pages, strays) = judged(true, |memory| memory[PAGES as usize + 8 * 4..][..8 * 20].fill(0));
    assert_eq!((pages, strays), (ALL - 20, vec![]));
}

#[test]
fn page_tables_of_something_else_say_nothing() {
    let (pages, strays) = judged(true, |memory| {
        for page in 0..40 {
            let entry = (ELSEWHERE + 4096 * page) | 1;
            memory[(PAGES + 8 * page) as usize..][..8].copy_from_slice(&entry.to_le_bytes());
        }
    });
    assert_eq!((pages, strays), (0, vec![]));
}
