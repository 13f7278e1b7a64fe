//! Where static calls go: text and data that say the same are held to the code that updates them.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;
mod symbols_support;
mod verify_support;

use elfwriter::{ElfWriter, flags};
use memory_support::{NOTES, RODATA, RODATA_SIZE, Recipe, TEXT, TEXT_SIZE};
use pvops::image::{Bits, Image};
use pvops::memory::Memory;
use pvops::verify::{Known, Slots, Unknown, Vote, hear};
use symbols_support::btf::Builder;
use verify_support::made;

const SLIDE: u64 = 0x1240_0000;
const PHYSICAL: u64 = 0x40_0000;
/// From the start of the text: functions, and the code that updates two calls.
const BUILT: u64 = 0x1000;
const CHOSEN: u64 = 0x1010;
const TAKEN: u64 = 0x1020;
const OTHER: u64 = 0x1030;
/// Taken too, and of another type.
const MISFIT: u64 = 0x1040;
const SETS: [u64; 2] = [0x1200, 0x1280];
/// A pointer to a function, and the keys of the two calls.
const DATA: u64 = 0x5_0000;
const POINTER: u64 = DATA + 0x10;
const ANOTHER: u64 = DATA + 0x18;
const KEYS: [u64; 2] = [DATA + 0x40, DATA + 0x60];

/// Types of the functions, one of which differs.
fn btf() -> Vec<u8> {
    let mut b = Builder::default();
    let int = b.int("int", 4);
    let (takes, nothing) = (b.prototype(0, &[("how", int)]), b.prototype(0, &[]));
    for (name, of) in [("built", takes), ("chosen", takes), ("taken", takes), ("misfit", nothing)] {
        b.function(name, of);
    }
    b.finish(None)
}

fn image(with_btf: bool) -> Image {
    let recipe = Recipe::new(Bits::B64);
    let mut linked = recipe.linked();
    let mut lists = recipe.lists();
    let low = |at: u64| ((TEXT + at) as u32).to_le_bytes();
    // mov $chosen,%rdx; mov $key,%rdi; call, and mov %rsi,%rdx; mov $key,%rdi; jmp.
    let first = [b"\x48\xc7\xc2", &low(CHOSEN)[..], b"\x48\xc7\xc7", &low(KEYS[0]), b"\xe8\0\0\0\0\xc3"].concat();
    let second = [b"\x48\x89\xf2\x48\xc7\xc7", &low(KEYS[1])[..], b"\xe9\0\0\0\0\xcc"].concat();
    linked[SETS[0] as usize..][..first.len()].copy_from_slice(&first);
    linked[SETS[1] as usize..][..second.len()].copy_from_slice(&second);
    // The last list is of fields of 32 bits, by address.
    lists.extend([SETS[0] + 3, SETS[0] + 10, SETS[1] + 6].map(|at| (TEXT + at) as u32));
    let last = lists.iter().rposition(|&word| word == 0).unwrap() + 1;
    lists[last..].sort_unstable();
    // The first list, between two zeros, is of fields of 64 bits.
    let end = lists.iter().skip(1).position(|&word| word == 0).unwrap() + 1;
    lists.splice(end..end, [POINTER, ANOTHER, KEYS[0], KEYS[1]].map(|at| (TEXT + at) as u32));
    let mut data = vec![0; 0x1000];
    for (at, target) in [(POINTER, TAKEN), (ANOTHER, MISFIT), (KEYS[0], BUILT), (KEYS[1], BUILT)] {
        data[(at - DATA) as usize..][..8].copy_from_slice(&(TEXT + target).to_le_bytes());
    }
    let trailer: Vec<u8> = lists.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .section(".notes", TEXT + NOTES, flags::RODATA, &linked[NOTES as usize..])
        .section(".data", TEXT + DATA, flags::DATA, &data);
    if with_btf {
        writer = writer.section(".BTF", TEXT + DATA + 0x1000, flags::RODATA, &btf());
    }
    for (name, at) in [
        ("built", BUILT),
        ("chosen", CHOSEN),
        ("taken", TAKEN),
        ("other", OTHER),
        ("misfit", MISFIT),
        ("behind", 0x1050),
    ] {
        writer = writer.symbol(name, TEXT + at, 0, 'T');
    }
    for (name, at) in [("sets", SETS[0]), ("sets_given", SETS[1]), ("after", 0x12c0)] {
        writer = writer.symbol(name, TEXT + at, 0, 'T');
    }
    Image::from_bytes("vmlinux", writer.trailer(&trailer).build()).unwrap()
}

/// Whether a call is named whose text and data both go there.
fn named(call: usize, goes: u64) -> bool {
    named_with(true, call, goes)
}

fn named_with(with_btf: bool, call: usize, goes: u64) -> bool {
    let (made, image) = (made(), image(with_btf));
    let mut report = made.judged("6.1", &made.booted("6.1"), &Known::default());
    let about = Unknown::Call(TEXT + KEYS[call]);
    report.votes = vec![Vote { about, value: TEXT + goes, votes: 2, against: 0, known: false }];
    let mut memory = Recipe::new(Bits::B64).memory(PHYSICAL, SLIDE);
    for (at, target) in [(POINTER, TAKEN), (ANOTHER, MISFIT), (KEYS[call], goes), (KEYS[1 - call], BUILT)] {
        memory[(PHYSICAL + at) as usize..][..8].copy_from_slice(&(TEXT + SLIDE + target).to_le_bytes());
    }
    let memory = Memory::from_bytes("dump", memory).unwrap();
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let heard = hear(&report, &[], &Slots::default(), (&memory, &found, &image), Ok(&[])).unwrap();
    let named = heard.disagreements.iter().any(|named| named.address == TEXT + KEYS[call]);
    assert_eq!(named, heard.disagreements.iter().any(|named| named.what == "updated_call"));
    named
}

#[test]
fn a_call_goes_where_it_was_built_to_go_or_where_code_that_updates_it_says() {
    assert!(!named(0, BUILT) && !named(0, CHOSEN));
    assert!(named(0, TAKEN) && named(0, OTHER));
}

#[test]
fn a_call_that_is_given_its_function_goes_where_the_kernel_has_the_address_of_one() {
    assert!(!named(1, BUILT) && !named(1, CHOSEN) && !named(1, TAKEN));
    assert!(named(1, OTHER));
}

#[test]
fn a_call_goes_to_functions_of_the_type_of_that_which_it_was_built_with() {
    assert!(!named_with(false, 1, MISFIT), "nothing says of which type they are");
    assert!(named(1, MISFIT));
}
