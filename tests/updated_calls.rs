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
use pvops::plan::{self, Boot};
use pvops::sites::Tables;
use pvops::verify::{Known, Owned, Owner, Slots, Unexplained, Unknown, Vote, hear};
use symbols_support::btf::Builder;
use verify_support::{Made, made};

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
/// A trampoline that stands for its key, and the code that updates its call.
const TRAMPOLINE: u64 = 0x1060;
const SETS_TRAMPOLINE: u64 = 0x1300;
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
    // The same with the trampoline as a constant: mov $chosen,%rdx; mov $trampoline,%rsi; call.
    let third = [b"\x48\xc7\xc2", &low(CHOSEN)[..], b"\x48\xc7\xc6", &low(TRAMPOLINE), b"\xe8\0\0\0\0\xc3"].concat();
    linked[SETS_TRAMPOLINE as usize..][..third.len()].copy_from_slice(&third);
    let jump = (BUILT as u32).wrapping_sub(TRAMPOLINE as u32 + 5);
    linked[TRAMPOLINE as usize..][..5].copy_from_slice(&[&[0xe9][..], &jump.to_le_bytes()].concat());
    linked[SETS[0] as usize..][..first.len()].copy_from_slice(&first);
    linked[SETS[1] as usize..][..second.len()].copy_from_slice(&second);
    // The last list is of fields of 32 bits, by address.
    lists.extend(
        [SETS[0] + 3, SETS[0] + 10, SETS[1] + 6, SETS_TRAMPOLINE + 3, SETS_TRAMPOLINE + 10]
            .map(|at| (TEXT + at) as u32),
    );
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
        ("__SCT__call", TRAMPOLINE),
        ("behind", 0x1070),
    ] {
        writer = writer.symbol(name, TEXT + at, 0, 'T');
    }
    for (name, at) in [
        ("sets", SETS[0]),
        ("sets_given", SETS[1]),
        ("after", 0x12c0),
        ("sets_third", SETS_TRAMPOLINE),
        ("after_that", 0x1340),
    ] {
        writer = writer.symbol(name, TEXT + at, 0, 'T');
    }
    Image::from_bytes("vmlinux", writer.trailer(&trailer).build()).unwrap()
}

/// Whether a call is named whose text and data both go there.
fn named(call: usize, goes: u64) -> bool {
    named_with(true, call, goes)
}

fn named_with(with_btf: bool, call: usize, goes: u64) -> bool {
    let named = named_at(with_btf, TEXT + KEYS[call], goes, &[(KEYS[call], goes), (KEYS[1 - call], BUILT)]);
    assert!(named.iter().all(|&what| what == "updated_call"));
    !named.is_empty()
}

/// What is named of a call whose text goes there, in memory with these pointers.
fn named_at(with_btf: bool, call: u64, goes: u64, pointers: &[(u64, u64)]) -> Vec<&'static str> {
    named_of(with_btf, call, goes, pointers, None)
}

/// A branch of a call that goes outside the kernel.
fn going_outside(call: u64, target: u64) -> Unexplained {
    let owned = Owned {
        address: TEXT + 0x1400,
        bytes: vec![0xe8; 5],
        owners: vec![Owner::Bpf],
        target: Some(target),
        call: Some(call),
    };
    let site = (owned.address, vec![0xe8; 5], vec![0xe8; 5]);
    let (expected, found) = (vec![0; 5], vec![0xe8; 5]);
    let (address, nearest, suspects) = (owned.address, None, Vec::new());
    Unexplained { address, expected, found, wrong: 5, site, pass: None, owned: Some(owned), nearest, suspects }
}

/// Likewise, where all sites go outside the kernel, if they do.
fn named_of(with_btf: bool, call: u64, goes: u64, pointers: &[(u64, u64)], outside: Option<u64>) -> Vec<&'static str> {
    let (made, image) = (made(), image(with_btf));
    let mut report = made.judged("6.1", &made.booted("6.1"), &Known::default());
    report.unexplained = outside.iter().map(|&target| going_outside(call, TEXT + target)).collect();
    let about = Unknown::Call(call);
    report.votes = vec![Vote { about, value: TEXT + goes, votes: 2, against: 0, known: false }];
    let mut memory = Recipe::new(Bits::B64).memory(PHYSICAL, SLIDE);
    let taken = [(POINTER, TAKEN), (ANOTHER, MISFIT)];
    for &(at, target) in taken.iter().chain(pointers) {
        memory[(PHYSICAL + at) as usize..][..8].copy_from_slice(&(TEXT + SLIDE + target).to_le_bytes());
    }
    let memory = Memory::from_bytes("dump", memory).unwrap();
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let heard = hear(&report, &[], &Slots::default(), (&memory, &found, &image), Ok(&[])).unwrap();
    heard.disagreements.iter().filter(|named| named.address == call).map(|named| named.what).collect()
}

#[test]
fn of_a_call_that_goes_outside_the_kernel_no_function_of_the_kernel_s_is_asked() {
    let outside = 0x4000_0000;
    let named = |pointer| named_of(true, TEXT + KEYS[0], OTHER, &[(KEYS[0], pointer), (KEYS[1], BUILT)], Some(outside));
    assert!(named(outside).is_empty());
    assert_eq!(named(OTHER), ["static_call"]);
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

#[test]
fn a_trampoline_stands_for_its_key_where_data_have_no_names() {
    let named = |goes| named_at(false, TEXT + TRAMPOLINE, goes, &[(KEYS[0], BUILT), (KEYS[1], BUILT)]);
    assert!(named(BUILT).is_empty() && named(CHOSEN).is_empty());
    assert_eq!((named(TAKEN), named(OTHER)), (vec!["updated_call"], vec!["updated_call"]));
}

#[test]
fn where_calls_are_not_inlined_a_trampoline_to_nowhere_may_have_been_written_again() {
    const AGAIN: u64 = TEXT + 0x20;
    const BUILT: &[u8] = b"\xc3\xcc\x90\x90\x90\x0f\xb9\xcc";
    let mut text = vec![0xcc; 0x100];
    text[..6].copy_from_slice(b"\x55\x31\xc0\x5d\xc3\xcc");
    for at in [0x20, 0x40] {
        text[at..at + BUILT.len()].copy_from_slice(BUILT);
    }
    let mut file = ElfWriter::new(Bits::B64).section(".text", TEXT, flags::TEXT, &text);
    for (name, at) in [("_text", 0), ("plain", 0), ("__SCT__again", 0x20), ("__SCT__never", 0x40), ("_etext", 0x100)] {
        file = file.symbol(name, TEXT + at, 0, 'T');
    }
    let image = Image::from_bytes("made", file.build()).unwrap();
    let tables = Tables::read(&image).unwrap();
    let made = Made { image, tables };
    let mut memory = made.booted("6.12");
    assert_eq!(memory, text);
    memory[0x20..0x25].copy_from_slice(b"\xc3\xcc\xcc\xcc\xcc");
    let report = made.judged("6.12", &memory, &Known::default());
    assert_eq!((&report.unexplained[..], &report.early_calls[..]), (&[][..], &[AGAIN][..]));
    let nowhere = plan::Known { value: 0, certain: true };
    let calls = [AGAIN, TEXT + 0x40].map(|trampoline| (trampoline, nowhere)).into();
    let early_calls = report.early_calls.into_iter().collect();
    let boot = Boot { features: vec![0; 32], static_calls: calls, early_calls, ..Boot::default() };
    assert_eq!(made.booted_on("6.12", &boot), memory);
}
