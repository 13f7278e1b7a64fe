//! Page tables that map a page of the kernel elsewhere: what lies where the kernel does is as built, and another page runs.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;

use elfwriter::dump::CoreWriter;
use elfwriter::{ElfWriter, flags};
use memory_support::{IMAGE_SIZE, NOTES, RODATA, RODATA_SIZE, Recipe, TEXT, TEXT_SIZE, map};
use pvops::image::{Bits, Image};
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

/// Moves so many pages elsewhere, from the second on or from the first.
fn moved(memory: &mut [u8], pages: std::ops::Range<u64>) {
    for page in pages {
        let entry = (ELSEWHERE + 4096 * page) | 1;
        memory[(PAGES + 8 * page) as usize..][..8].copy_from_slice(&entry.to_le_bytes());
    }
}

#[test]
fn where_all_but_one_page_are_mapped_elsewhere_all_these_are_named() {
    let (pages, strays) = judged(true, |memory| moved(memory, 1..ALL));
    assert_eq!((pages, strays.len()), (ALL, ALL as usize - 1));
}

#[test]
fn page_tables_of_something_else_say_nothing() {
    let (pages, strays) = judged(true, |memory| moved(memory, 0..ALL));
    assert_eq!((pages, strays), (0, vec![]));
}

fn text() -> std::ops::Range<u64> {
    TEXT..TEXT + TEXT_SIZE as u64
}

/// The image, with a name for the kernel's own page tables.
fn named(recipe: &Recipe) -> Image {
    let linked = recipe.linked();
    let trailer: Vec<u8> = recipe.lists().iter().flat_map(|word| word.to_le_bytes()).collect();
    let writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .section(".notes", TEXT + NOTES, flags::RODATA, &linked[NOTES as usize..])
        .symbol("a_function", TEXT + 0x1000, 0, 'T')
        .symbol("init_top_pgt", TEXT + 0x4_0000, 0, 'D');
    Image::from_bytes("vmlinux", writer.trailer(&trailer).build()).unwrap()
}

/// The kernel's own, in its image: whatever they map is this kernel's.
#[test]
fn all_that_the_kernels_own_tables_map_elsewhere_is_named() {
    let recipe = Recipe::new(Bits::B64);
    let mut memory = recipe.memory(PHYSICAL, SLIDE);
    map(&mut memory, PHYSICAL as usize + 0x4_0000, TEXT + SLIDE, ELSEWHERE);
    let memory = Memory::from_bytes("dump", CoreWriter::new(Bits::B64).physical(0, &memory).build()).unwrap();
    let image = named(&recipe);
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let (pages, strays) = remapped(&memory, &found, &image, &[text()]).unwrap();
    let stray = Remapped { address: TEXT, expected: PHYSICAL, found: ELSEWHERE };
    assert_eq!((pages, strays), (TEXT_SIZE as u64 / 4096, vec![stray]));
}

/// With page-table isolation a process runs with the page behind the kernel's, which maps the entry code alone: the CPU's, or
/// the kernel's own.
#[test]
fn what_a_process_runs_with_is_the_kernels_if_the_other_half_is() {
    // The top tables, and below the second the same as below the first but for the last: a page of entry code.
    const TOP: u64 = 0x10_0000;
    const ENTRY: u64 = 5;
    let recipe = Recipe::new(Bits::B64);
    let with = |own: bool, lies: u64, cr3: u64| {
        let mut memory = recipe.memory(PHYSICAL, SLIDE);
        let top = if own { PHYSICAL + 0x4_0000 } else { TOP };
        let tables = TOP + 0x2000;
        map(&mut memory, tables as usize, TEXT + SLIDE, PHYSICAL);
        memory.copy_within(tables as usize..tables as usize + 4096, top as usize);
        let mine = TOP + 0x1_0000;
        map(&mut memory, mine as usize, TEXT + SLIDE, PHYSICAL);
        memory.copy_within(mine as usize..mine as usize + 4096, top as usize + 4096);
        let entry = (mine + 0x2000 + 8 * ((TEXT + SLIDE) >> 21 & 511)) as usize;
        memory[entry..][..8].copy_from_slice(&(PAGES | 1).to_le_bytes());
        memory[PAGES as usize..][..4096].fill(0);
        memory[(PAGES + 8 * ENTRY) as usize..][..8].copy_from_slice(&(lies | 1).to_le_bytes());
        let core = CoreWriter::new(Bits::B64).cpu(if own { tables } else { cr3 }, 0x20).physical(0, &memory).build();
        let image = named(&recipe);
        let memory = Memory::from_bytes("dump", core).unwrap();
        let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
        remapped(&memory, &found, &image, &[text()]).unwrap()
    };
    let (right, pages) = (PHYSICAL + 4096 * ENTRY, TEXT_SIZE as u64 / 4096);
    let stray = Remapped { address: TEXT + 4096 * ENTRY, expected: right, found: ELSEWHERE };
    for own in [true, false] {
        assert_eq!(with(own, right, TOP | 0x1000), (pages, vec![]), "{own}");
        assert_eq!(with(own, ELSEWHERE, TOP | 0x1000), (pages, vec![stray]), "{own}");
    }
    // In the kernel nobody asks for what lies behind a CPU's own.
    assert_eq!(with(false, ELSEWHERE, TOP), (pages, vec![]));
}

/// Each of two copies has page tables of its own, as the kernel's lie in it: the registers of a CPU tell which runs.
#[test]
fn which_of_two_copies_runs_is_said_where_something_tells() {
    const OTHER: u64 = 0x20_0000;
    let recipe = Recipe::new(Bits::B64);
    let mut memory = recipe.memory(PHYSICAL, SLIDE);
    memory.copy_within(PHYSICAL as usize..PHYSICAL as usize + IMAGE_SIZE, OTHER as usize);
    for copy in [PHYSICAL, OTHER] {
        map(&mut memory, copy as usize + 0x4_0000, TEXT + SLIDE, copy);
    }
    let how = |dump: Vec<u8>| {
        let memory = Memory::from_bytes("dump", dump).unwrap();
        memory.find(&named(&recipe), &mut |_, _| Ok(())).unwrap()
    };
    let found = how(CoreWriter::new(Bits::B64).cpu(PHYSICAL + 0x4_0000, 0x20).physical(0, &memory).build());
    assert_eq!(found.physical, Some(PHYSICAL));
    assert_eq!(found.how.last().unwrap(), "2 copies of the image are in memory; this one runs");
    let found = how(CoreWriter::new(Bits::B64).physical(0, &memory).build());
    assert!(found.how.last().unwrap().starts_with("2 copies of the image are in memory, and nothing tells"));
}
