//! Code that is in no section of code: the page of vsyscalls, the code by which CPUs come up, pages of ITS thunks.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;
mod verify_support;

use elfwriter::dump::CoreWriter;
use elfwriter::{ElfWriter, flags};
use memory_support::{NOTES, RODATA, RODATA_SIZE, Recipe, TEXT, TEXT_SIZE, map, noise};
use pvops::image::{Bits, Image};
use pvops::memory::Memory;
use pvops::verify::{Heard, Known, Slots, hear};
use verify_support::made;

const SLIDE: u64 = 0x1240_0000;
const PHYSICAL: u64 = 0x40_0000;
const TABLES: u64 = 0x2000;
/// From the start of the text: the page of vsyscalls, and the pointer to the code for real mode; that code as built, and its
/// relocations.
const DATA: u64 = 0x5_0000;
const POINTER: u64 = DATA + 0x1000;
const BLOB: u64 = 0x6_0000;
const RELOCS: u64 = 0x6_3000;
/// Where the code for real mode is in memory, and how much of it stays.
const LOW: u64 = 0x9_8000;
/// Another entry of the last table than that of the thunks, which all share it.
const DIRECT: u64 = 0xffff_8880_0020_0000;
const STAYS: u32 = 0x1100;
const SEGMENT: usize = 0x1006;
const ADDRESSES: [usize; 3] = [0, 4, 0x1040];
/// A page of thunks, at run time and in memory.
const THUNKS: u64 = 0xffff_ffff_c000_0000;
const THUNKS_LIE: u64 = 0x60_0000;

fn blob() -> Vec<u8> {
    let mut blob = noise(7, 0x2000);
    for (at, word) in [(0, 0x1000), (4, STAYS), (0x1040, 0x1080)] {
        blob[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    blob
}

/// The code as the kernel lays it.
fn laid() -> Vec<u8> {
    let mut laid = blob();
    laid[SEGMENT..SEGMENT + 2].copy_from_slice(&((LOW >> 4) as u16).to_le_bytes());
    for at in ADDRESSES {
        let word = u32::from_le_bytes(*laid[at..].first_chunk().unwrap()) + LOW as u32;
        laid[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    // What is behind is written.
    laid[STAYS as usize..].fill(0x11);
    laid
}

fn image() -> Image {
    let recipe = Recipe::new(Bits::B64);
    let linked = recipe.linked();
    let trailer: Vec<u8> = recipe.lists().iter().flat_map(|word| word.to_le_bytes()).collect();
    let relocs = [1, SEGMENT as u32, 3, 0, 4, 0x1040];
    let relocs: Vec<u8> = relocs.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .section(".notes", TEXT + NOTES, flags::RODATA, &linked[NOTES as usize..])
        .section(".data", TEXT + DATA, flags::DATA, &[noise(9, 0x1000), vec![0; 0x100]].concat())
        .section(".init.data", TEXT + BLOB, flags::DATA, &[blob(), vec![0; 0x1000], relocs].concat());
    for (name, at) in [
        ("__start_ro_after_init", RODATA + RODATA_SIZE as u64),
        ("__end_ro_after_init", RODATA + RODATA_SIZE as u64),
        ("__vsyscall_page", DATA),
        ("real_mode_header", POINTER),
        ("real_mode_blob", BLOB),
        ("real_mode_blob_end", BLOB + 0x2000),
        ("real_mode_relocs", RELOCS),
    ] {
        writer = writer.symbol(name, TEXT + at, 0, 'D');
    }
    Image::from_bytes("vmlinux", writer.trailer(&trailer).build()).unwrap()
}

/// A page of thunks as the kernel fills it.
fn thunks() -> Vec<u8> {
    let mut page = vec![0xcc; 0x1000];
    page[32..34].copy_from_slice(b"\xff\xe0");
    page[96..99].copy_from_slice(b"\x41\xff\xe3");
    page
}

/// What is heard of memory in which these bytes stand at these places.
fn heard(tables: bool, changes: &[(u64, &[u8])]) -> Heard {
    let image = image();
    let mut memory = Recipe::new(Bits::B64).memory(PHYSICAL, SLIDE);
    for (at, lies) in [(TEXT + SLIDE, PHYSICAL), (DIRECT, 0), (THUNKS, THUNKS_LIE)] {
        map(&mut memory, TABLES as usize, at, lies);
    }
    let pointer = (DIRECT + LOW).to_le_bytes();
    for (at, bytes) in [
        (PHYSICAL + DATA, noise(9, 0x1000).as_slice()),
        (PHYSICAL + POINTER, &pointer),
        (LOW, &laid()),
        (THUNKS_LIE, &thunks()),
    ]
    .into_iter()
    .chain(changes.iter().copied())
    {
        memory[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    let cr3 = if tables { TABLES } else { 0x20_0000 };
    let core = CoreWriter::new(Bits::B64).cpu(cr3, 0x20).physical(0, &memory).build();
    let made = made();
    let mut report = made.judged("6.1", &made.booted("6.1"), &Known::default());
    report.votes.clear();
    report.thunks = vec![(THUNKS - SLIDE, thunks())];
    let memory = Memory::from_bytes("dump", core).unwrap();
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    hear(&report, &[], &Slots::default(), (&memory, &found, &image), Ok(&[])).unwrap()
}

/// Where bytes are wrong, and how many.
fn wrong(changes: &[(u64, &[u8])]) -> Vec<(u64, usize)> {
    let rodata = heard(true, changes).rodata.unwrap();
    rodata.changed.iter().map(|run| (run.address, run.found.len())).collect()
}

#[test]
fn as_the_kernel_left_it_all_of_it_is_as_built() {
    assert_eq!(wrong(&[]), []);
    let tables = heard(true, &[]).rodata.unwrap().tables;
    for name in ["the vsyscall page", "ITS thunks", "real-mode code"] {
        assert!(tables.iter().any(|table| table == name), "{name}: {tables:?}");
    }
}

#[test]
fn a_byte_of_it_that_was_changed_is_named() {
    assert_eq!(wrong(&[(PHYSICAL + DATA + 0x400, &[noise(9, 0x1000)[0x400] ^ 1])]), [(TEXT + DATA + 0x400, 1)]);
    assert_eq!(wrong(&[(THUNKS_LIE + 33, b"\xe3")]), [(THUNKS - SLIDE + 33, 1)]);
    assert_eq!(wrong(&[(THUNKS_LIE + 0xfff, b"\x90")]), [(THUNKS - SLIDE + 0xfff, 1)]);
    for at in [8, SEGMENT, 0x1041, 0x10ff] {
        let changed = [laid()[at] ^ 0x40];
        assert_eq!(wrong(&[(LOW + at as u64, &changed)]), [(TEXT + BLOB + at as u64, 1)], "{at:#x}");
    }
    assert_eq!(wrong(&[(LOW + u64::from(STAYS), b"\x90")]), [], "the kernel writes what is behind");
    // It is said to lie elsewhere: nothing fits.
    assert!(!wrong(&[(LOW, &0x1234_5678u32.to_le_bytes())]).is_empty());
}

#[test]
fn what_is_not_there_is_said() {
    let unheard = |tables, changes: &[(u64, &[u8])]| heard(tables, changes).unheard.join("; ");
    let found = unheard(true, &[(PHYSICAL + POINTER, &[0x33; 8])]);
    assert!(found.contains("real-mode code: it is not in memory"), "{found}");
    let found = unheard(false, &[]);
    assert!(found.contains("real-mode code: has no page") && found.contains("ITS thunks: has no page"), "{found}");
    // A guest of Xen's without a machine of its own has no such code.
    let found = heard(true, &[(PHYSICAL + POINTER, &[0; 8])]);
    assert!(!found.unheard.iter().any(|why| why.contains("real-mode")), "{:?}", found.unheard);
}
