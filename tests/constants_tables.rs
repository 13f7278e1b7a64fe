//! Tables that lie among data and are as they were built: ORC's, and that of bugs but for what was warned of once.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;

use elfwriter::{ElfWriter, flags};
use memory_support::{RODATA, RODATA_SIZE, Recipe, TEXT, TEXT_SIZE};
use pvops::image::{Bits, Image};
use pvops::memory::Memory;
use pvops::verify::{Rodata, rodata};

const SLIDE: u64 = 0x1240_0000;
const PHYSICAL: u64 = 0x40_0000;
/// Where the tables are, from the start of the text, and a `ud2`.
const BUGS: u64 = 0x5_0000;
const IP: u64 = 0x5_1000;
const ORC: u64 = 0x5_2000;
const LOOKUP: u64 = 0x5_3000;
/// A row of it for each 256 bytes of code, and one for its end.
const BLOCKS: usize = TEXT_SIZE / 256 + 1;
const TRAP: u64 = 0x24;
/// `WARN()`, and `WARN_ONCE()`.
const FLAGS: [u16; 4] = [1, 3, 1 | 9 << 8, 3 | 9 << 8];

/// Rows of `__bug_table`: where, a file, a line, flags.
fn bugs(row: usize) -> Vec<u8> {
    let rows = (0u64..).zip(FLAGS).flat_map(|(i, flags)| {
        let mut bytes = vec![0x11; row];
        let here = BUGS + i * row as u64;
        bytes[..4].copy_from_slice(&(TRAP.wrapping_sub(here) as u32).to_le_bytes());
        let at = if row == 8 { 4 } else { row - 2 };
        bytes[at..at + 2].copy_from_slice(&flags.to_le_bytes());
        bytes
    });
    rows.collect()
}

/// ORC's addresses, relative to themselves, in this order.
fn addresses(order: [u64; 3]) -> Vec<u8> {
    (0u64..).zip(order).flat_map(|(i, at)| (at.wrapping_sub(IP + 4 * i) as u32).to_le_bytes()).collect()
}

/// Memory that is changed before, from the start of the text on.
fn judged(row: usize, order: [u64; 3], change: impl Fn(&mut [u8])) -> Rodata {
    let recipe = Recipe::new(Bits::B64);
    let mut linked = recipe.linked();
    linked[TRAP as usize..][..2].copy_from_slice(b"\x0f\x0b");
    let lists: Vec<u8> = recipe.lists().iter().flat_map(|word| word.to_le_bytes()).collect();
    let tables =
        [(BUGS, "__bug_table", bugs(row)), (IP, ".orc_unwind_ip", addresses(order)), (ORC, ".orc_unwind", vec![7; 18])];
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .section(".notes", TEXT + memory_support::NOTES, flags::RODATA, &linked[memory_support::NOTES as usize..])
        .symbol("__start_ro_after_init", TEXT + RODATA, 0, 'R')
        .symbol("__end_ro_after_init", TEXT + RODATA, 0, 'R')
        .trailer(&lists);
    let mut memory = recipe.memory(PHYSICAL, SLIDE);
    memory[PHYSICAL as usize + TRAP as usize..][..2].copy_from_slice(b"\x0f\x0b");
    for (at, name, bytes) in &tables {
        writer = writer.section(name, TEXT + at, flags::DATA, bytes);
        memory[(PHYSICAL + at) as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    writer = writer.nobits(".orc_lookup", TEXT + LOOKUP, flags::DATA, 4 * BLOCKS as u64);
    let image = Image::from_bytes("vmlinux", writer.build()).unwrap();
    memory[(PHYSICAL + LOOKUP) as usize..][..4 * BLOCKS].copy_from_slice(&lookup());
    change(&mut memory[PHYSICAL as usize..]);
    let memory = Memory::from_bytes("dump", memory).unwrap();
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    rodata(&memory, &found, &image).unwrap().unwrap()
}

/// Where it differs, from the start of the text.
fn wrong(found: &Rodata) -> Vec<u64> {
    found.changed.iter().map(|run| run.address - TEXT).collect()
}

const SORTED: [u64; 3] = [0x10, 0x220, 0x4000];

/// Which of these rows each block begins in, the first where none begins before it.
fn lookup() -> Vec<u8> {
    let row = |block: usize| match block {
        0..3 => 0u32,
        3..64 => 1,
        _ => 2,
    };
    (0..BLOCKS).flat_map(|block| row(block).to_le_bytes()).collect()
}

#[test]
fn they_are_as_in_the_file() {
    for row in [8, 12, 16] {
        let found = judged(row, SORTED, |_| ());
        let tables = [".orc_unwind_ip", ".orc_unwind", ".orc_lookup", "__bug_table"].map(String::from);
        assert_eq!((found.tables, found.wrong), (tables.to_vec(), 0));
        assert_eq!(found.size, (RODATA_SIZE + 12 + 18 + 4 * BLOCKS + 4 * row) as u64);
    }
}

#[test]
fn what_was_warned_of_once_is_marked_and_nothing_else_may_be() {
    for row in [8, 12, 16] {
        let flags = if row == 8 { 4 } else { row - 2 };
        for (i, built) in FLAGS.into_iter().enumerate() {
            let at = BUGS as usize + i * row + flags;
            let once = built & 2 != 0;
            let done = judged(row, SORTED, |memory| memory[at] |= 4);
            assert_eq!(wrong(&done), if once { vec![] } else { vec![at as u64] }, "{built:#x}");
            // No warning becomes a BUG(), and none is moved to other code.
            assert_eq!(wrong(&judged(row, SORTED, |memory| memory[at] ^= 5)), [at as u64]);
            assert_eq!(wrong(&judged(row, SORTED, |memory| memory[at - flags] ^= 1)), [(at - flags) as u64]);
        }
    }
}

#[test]
fn a_changed_row_of_orc_is_named() {
    for at in [IP, IP + 11, ORC, ORC + 17, LOOKUP, LOOKUP + 4 * 63, LOOKUP + 4 * BLOCKS as u64 - 1] {
        assert_eq!(wrong(&judged(12, SORTED, |memory| memory[at as usize] ^= 0x40)), [at]);
    }
}

#[test]
fn orc_that_the_kernel_sorts_at_boot_is_not_judged() {
    let found = judged(12, [0x220, 0x10, 0x4000], |memory| memory[IP as usize..][..12].fill(0));
    assert_eq!((found.tables, found.wrong), (vec!["__bug_table".into()], 0));
}
