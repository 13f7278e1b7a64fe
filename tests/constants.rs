//! `.rodata` in memory held to the file: relocated, but for what the kernel writes at boot.
#![allow(clippy::unwrap_used)]

mod elfwriter;
#[path = "symbols_support/kallsyms.rs"]
#[allow(dead_code)]
mod kallsyms;
mod memory_support;

use elfwriter::dump::CoreWriter;
use elfwriter::{ElfWriter, flags};
use memory_support::{RODATA, RODATA_SIZE, Recipe, TEXT, TEXT_SIZE};
use pvops::image::{Bits, Image};
use pvops::memory::Memory;
use pvops::verify::{Rodata, rodata};

const SLIDE: u64 = 0x1240_0000;
const PHYSICAL: usize = 0x40_0000;
/// What the kernel writes, from the start of `.rodata`.
const WRITTEN: std::ops::Range<u64> = 0x4000..0x5000;
/// A relocated field of 8 bytes, likewise.
const FIELD: usize = 0x203;
/// What `set_rdt_options()` is given where a CPU has the quirk, likewise.
const OPTIONS: usize = 0x3100;
const GIVEN: &[u8] = b"\0!cmt,!mbmtotal,!mbmlocal,!l3cat\0";

/// The small kernel, with the symbols between which it writes its constants.
fn image(recipe: &Recipe, named: bool) -> Image {
    let mut linked = recipe.linked();
    linked[RODATA as usize + OPTIONS..][..GIVEN.len()].copy_from_slice(GIVEN);
    let lists: Vec<u8> = recipe.lists().iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .section(".notes", TEXT + memory_support::NOTES, flags::RODATA, &linked[memory_support::NOTES as usize..])
        .trailer(&lists);
    if named {
        writer = writer.symbol("__start_ro_after_init", TEXT + RODATA + WRITTEN.start, 0, 'R').symbol(
            "__end_ro_after_init",
            TEXT + RODATA + WRITTEN.end,
            0,
            'R',
        );
    }
    Image::from_bytes("vmlinux", writer.build()).unwrap()
}

/// The memory of a machine that the kernel runs on.
fn memory(recipe: &Recipe) -> Vec<u8> {
    let mut memory = recipe.memory(PHYSICAL as u64, SLIDE);
    memory[PHYSICAL + RODATA as usize + OPTIONS..][..GIVEN.len()].copy_from_slice(GIVEN);
    memory
}

/// `.rodata` in memory that is changed before.
fn compared(change: impl Fn(&mut [u8])) -> Rodata {
    let recipe = Recipe::new(Bits::B64);
    let image = image(&recipe, true);
    let mut memory = memory(&recipe);
    change(&mut memory[PHYSICAL + RODATA as usize..][..RODATA_SIZE]);
    let memory = Memory::from_bytes("dump", memory).unwrap();
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    rodata(&memory, &found, &image).unwrap().unwrap()
}

#[test]
fn a_kernel_that_slid_has_the_constants_of_its_file() {
    let found = compared(|_| {});
    assert_eq!((found.size, found.wrong, found.changed.len()), ((RODATA_SIZE as u64) - 0x1000, 0, 0));
    assert!(found.unread.is_empty());
    assert_eq!(found.written, TEXT + RODATA + WRITTEN.start..TEXT + RODATA + WRITTEN.end);
}

#[test]
fn a_string_that_the_kernel_cuts_at_its_commas_is_cut_at_all_or_none() {
    let commas: Vec<usize> = (0..GIVEN.len()).filter(|&at| GIVEN[at] == b',').map(|at| OPTIONS + at).collect();
    let cut = |at: &[usize]| compared(|rodata| at.iter().for_each(|&at| rodata[at] = 0)).wrong;
    assert_eq!((cut(&commas), cut(&commas[..2]), cut(&commas[2..])), (0, 2, 1));
    assert_eq!(compared(|rodata| rodata[OPTIONS + 2] ^= 1).wrong, 1);
}

#[test]
fn what_the_kernel_writes_is_not_judged() {
    let pointers: Vec<usize> =
        (0..60).map(|i| FIELD + 0x200 * i).filter(|&at| WRITTEN.contains(&(at as u64))).collect();
    let found = compared(|rodata| {
        let written = WRITTEN.start as usize..WRITTEN.end as usize;
        for (at, byte) in written.clone().zip(&mut rodata[written]) {
            if !pointers.iter().any(|&pointer| (pointer..pointer + 8).contains(&at)) {
                *byte = 0xaa;
            }
        }
    });
    assert_eq!((found.wrong, found.pointers), (0, pointers.len() as u64));
}

#[test]
fn pointers_to_functions_in_what_the_kernel_writes_are_such_or_nothing() {
    let pointer = FIELD + 0x200 * 32;
    let with = |value: u64| compared(|rodata| rodata[pointer..pointer + 8].copy_from_slice(&value.to_le_bytes()));
    for legal in [0, TEXT + SLIDE, TEXT + SLIDE + 0x77] {
        assert_eq!(with(legal).wrong, 0, "{legal:#x}");
    }
    let built = Recipe::new(Bits::B64).linked()[RODATA as usize + pointer..][..8].to_vec();
    let unmoved = u64::from_le_bytes(*built.first_chunk().unwrap());
    for outside in [0xffff_ffff_c012_3450, TEXT + SLIDE + RODATA, unmoved, 1] {
        let found = with(outside);
        let [changed] = &found.changed[..] else { panic!("{outside:#x}: {found:?}") };
        assert_eq!((changed.address, &changed.expected), (TEXT + RODATA + pointer as u64, &built));
    }
}

#[test]
fn a_changed_constant_and_a_changed_pointer_are_named() {
    let found = compared(|rodata| {
        rodata[0x3000] ^= 0xff;
        rodata[FIELD..FIELD + 8].copy_from_slice(&0xffff_ffff_c012_3450u64.to_le_bytes());
        rodata[RODATA_SIZE - 1] ^= 1;
    });
    let addresses: Vec<u64> = found.changed.iter().map(|run| run.address - TEXT - RODATA).collect();
    assert_eq!(addresses, [FIELD as u64, 0x3000, RODATA_SIZE as u64 - 1]);
    assert_eq!(found.changed[1].expected[0] ^ found.changed[1].found[0], 0xff);
    assert!(found.wrong > 3, "most bytes of the pointer");
}

#[test]
fn a_pointer_that_did_not_move_with_the_kernel_is_wrong() {
    let linked = Recipe::new(Bits::B64).linked();
    let found = compared(|rodata| rodata[FIELD..FIELD + 8].copy_from_slice(&linked[RODATA as usize + FIELD..][..8]));
    assert_eq!(found.changed.len(), 1);
}

#[test]
fn what_is_not_in_the_dump_is_unread() {
    let recipe = Recipe::new(Bits::B64);
    let image = image(&recipe, true);
    let memory = memory(&recipe);
    let hole = PHYSICAL + RODATA as usize + 0x8000;
    let core = CoreWriter::new(Bits::B64)
        .physical(0, &memory[..hole])
        .physical(hole as u64 + 0x1000, &memory[hole + 0x1000..])
        .build();
    let memory = Memory::from_bytes("dump", core).unwrap();
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let rodata = rodata(&memory, &found, &image).unwrap().unwrap();
    let gap = TEXT + RODATA + 0x8000;
    assert_eq!((rodata.wrong, rodata.unread.len()), (0, 1));
    assert_eq!(rodata.unread[0], gap..gap + 0x1000);
}

#[test]
fn an_image_that_does_not_name_what_it_writes_is_not_judged() {
    let recipe = Recipe::new(Bits::B64);
    let image = image(&recipe, false);
    let memory = Memory::from_bytes("dump", recipe.memory(PHYSICAL as u64, SLIDE)).unwrap();
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let why = rodata(&memory, &found, &image).unwrap().unwrap_err();
    assert!(why.contains("does not name __start_ro_after_init"), "{why}");
}

#[test]
fn where_kallsyms_lists_no_data_constants_are_judged_as_far_as_kallsyms() {
    const TABLES: usize = 0x9000; // behind the fields
    let recipe = Recipe::new(Bits::B64);
    let functions = (0..300).map(|i| (TEXT + 16 * i, format!("t{}_{i}", ["native", "xen"][i as usize % 2]))).collect();
    // Up to 6.3 the index of tokens is the last table, then the ranks are before it.
    let layout = kallsyms::layouts(8).into_iter().find(|layout| layout.seqs && !layout.after).unwrap();
    let (tables, places) = kallsyms::encode(&functions, layout, TEXT + RODATA + TABLES as u64, &[]);
    let end = TEXT + RODATA + (TABLES + places.iter().find(|(name, _)| *name == "end").unwrap().1) as u64;
    let put = |rodata: &mut [u8]| rodata[TABLES..][..tables.len()].copy_from_slice(&tables);

    let mut linked = recipe.linked();
    put(&mut linked[RODATA as usize..]);
    let lists: Vec<u8> = recipe.lists().iter().flat_map(|word| word.to_le_bytes()).collect();
    let writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .section(".notes", TEXT + memory_support::NOTES, flags::RODATA, &linked[memory_support::NOTES as usize..])
        .trailer(&lists);
    let image = Image::from_bytes("vmlinux", writer.build()).unwrap();
    let judged = |change: usize| {
        let mut memory = recipe.memory(PHYSICAL as u64, SLIDE);
        put(&mut memory[PHYSICAL + RODATA as usize..]);
        memory[PHYSICAL + RODATA as usize + change] ^= 1;
        let memory = Memory::from_bytes("dump", memory).unwrap();
        let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
        rodata(&memory, &found, &image).unwrap().unwrap()
    };
    let before = judged(TABLES + 5);
    assert_eq!(before.written, end..TEXT + RODATA + RODATA_SIZE as u64);
    assert_eq!((before.size, before.wrong), (end - TEXT - RODATA, 1));
    assert_eq!(before.changed[0].address, TEXT + RODATA + TABLES as u64 + 5);
    assert_eq!(judged((end - TEXT - RODATA) as usize).wrong, 0);
}

#[test]
fn what_the_linker_puts_behind_constants_is_held_too() {
    // .notes lies behind .rodata, and nothing names where read-only data end: up to .data, which is not there.
    let recipe = Recipe::new(Bits::B64);
    let linked = recipe.linked();
    let notes = memory_support::NOTES as usize;
    let lists: Vec<u8> = recipe.lists().iter().flat_map(|word| word.to_le_bytes()).collect();
    let whole = || {
        ElfWriter::new(Bits::B64)
            .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
            .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
            .section(".notes", TEXT + memory_support::NOTES, flags::RODATA, &linked[notes..])
            .symbol("__start_ro_after_init", TEXT + RODATA + WRITTEN.start, 0, 'R')
            .symbol("__end_ro_after_init", TEXT + RODATA + WRITTEN.end, 0, 'R')
            .trailer(&lists)
    };
    let end = TEXT + memory_support::NOTES + (linked.len() - notes) as u64;
    for (writer, wrong) in [(whole(), 0), (whole().symbol("__end_rodata", end, 0, 'R'), 1)] {
        let image = Image::from_bytes("vmlinux", writer.build()).unwrap();
        let mut memory = recipe.memory(PHYSICAL as u64, SLIDE);
        memory[PHYSICAL + linked.len() - 1] ^= 1;
        let memory = Memory::from_bytes("dump", memory).unwrap();
        let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
        let found = rodata(&memory, &found, &image).unwrap().unwrap();
        assert_eq!(found.wrong, wrong);
        assert_eq!(found.changed.iter().map(|run| run.address).next(), (wrong > 0).then_some(end - 1));
    }
}

#[test]
fn a_field_of_a_note_is_moved_or_as_it_was_linked() {
    let recipe = Recipe::new(Bits::B64);
    let mut linked = recipe.linked();
    let notes = memory_support::NOTES as usize;
    // Behind the note: a pointer that the lists name.
    let field = linked.len().next_multiple_of(8);
    linked.resize(field, 0);
    linked.extend(TEXT.to_le_bytes());
    let mut lists = recipe.lists();
    // The first list, between two zeros, is of fields of 64 bits, by address.
    let end = lists.iter().skip(1).position(|&word| word == 0).unwrap() + 1;
    lists.insert(end, (TEXT + field as u64) as u32);
    let lists: Vec<u8> = lists.iter().flat_map(|word| word.to_le_bytes()).collect();
    let image = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .section(".notes", TEXT + memory_support::NOTES, flags::RODATA, &linked[notes..])
        .symbol("__start_ro_after_init", TEXT + RODATA + WRITTEN.start, 0, 'R')
        .symbol("__end_ro_after_init", TEXT + RODATA + WRITTEN.end, 0, 'R')
        .symbol("__end_rodata", TEXT + linked.len() as u64, 0, 'R')
        .trailer(&lists);
    let image = Image::from_bytes("vmlinux", image.build()).unwrap();
    for (value, wrong) in [(TEXT + SLIDE, false), (TEXT, false), (TEXT + SLIDE + 1, true)] {
        let mut memory = recipe.memory(PHYSICAL as u64, SLIDE);
        memory[PHYSICAL + field..][..8].copy_from_slice(&value.to_le_bytes());
        let memory = Memory::from_bytes("dump", memory).unwrap();
        let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
        assert_eq!(found.slide, SLIDE);
        let found = rodata(&memory, &found, &image).unwrap().unwrap();
        assert_eq!(found.wrong > 0, wrong, "{value:#x}");
    }
}
