//! Data that no text speaks of, held to the file: pointers to functions, the rows that the kernel writes branches by, the gates
//! of interrupts. In a kernel that slid.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;
mod verify_support;

use elfwriter::dump::CoreWriter;
use elfwriter::{ElfWriter, flags};
use memory_support::{RODATA, RODATA_SIZE, Recipe, TEXT, TEXT_SIZE, map};
use pvops::image::{Bits, Image};
use pvops::memory::Memory;
use pvops::verify::{Heard, Known, Slots, hear};
use verify_support::made;

const SLIDE: u64 = 0x1240_0000;
const PHYSICAL: u64 = 0x40_0000;
/// From the start of the text: data, the tables of rows, the gates, and what these are made of.
const DATA: u64 = 0x5_0000;
const LABELS: u64 = 0x5_1000;
const CALLS: u64 = 0x5_2000;
const IDT: u64 = 0x5_4000;
const GATES: u64 = 0x5_6000;
/// Pointers to functions: of the kernel's own use, and of a static call.
const POINTER: u64 = DATA + 0x10;
const CALL_KEY: u64 = DATA + 0x40;
const KEYS: [u64; 2] = [DATA + 0x80, DATA + 0x90];
/// Functions; of entry code the last two.
const FUNCTIONS: [u64; 4] = [0x1000, 0x1100, ENTRY, STUBS];
const ENTRY: u64 = 0x2000;
const STUBS: u64 = 0x3000;
/// What `__pfx_` names, before a function.
const PREAMBLE: u64 = 0x10f0;
/// Functions that code has as a distance, that is exported, and that nothing has the address of.
const NEAR: u64 = 0x1200;
const EXPORTED: u64 = 0x1210;
const NOWHERE: u64 = 0x1220;
const EXPORTS: u64 = 0x5_7000;
/// Where rows of labels have their nops, and where these would jump.
const NOPS: [u64; 3] = [0x1110, 0x1120, 0x1130];
const MODULE: (u64, u64) = (0xffff_ffff_c040_0000, 0x2000);

/// Site, target and key of the labels as they are built, by key in the other order than they are sorted in.
const ROWS: [(u64, u64, u64); 3] =
    [(NOPS[0], 0x1180, KEYS[1]), (NOPS[1], 0x1190, KEYS[0] | 1), (NOPS[2], 0x11a0, KEYS[0])];
/// As built some have a flag, which boot clears.
fn built((site, target, key): (u64, u64, u64)) -> (u64, u64, u64) {
    (site, target, key | (2 * (site / NOPS[2])))
}

const SITES: [(u64, u64); 2] = [(0x1140, CALL_KEY), (0x1150, CALL_KEY | 1)];

fn labels(rows: &[(u64, u64, u64)]) -> Vec<u8> {
    let row = |(place, &(site, target, key)): (u64, &(u64, u64, u64))| {
        let mut bytes = Vec::new();
        bytes.extend((site.wrapping_sub(place) as u32).to_le_bytes());
        bytes.extend((target.wrapping_sub(place + 4) as u32).to_le_bytes());
        bytes.extend(key.wrapping_sub(place + 8).to_le_bytes());
        bytes
    };
    (LABELS..).step_by(16).zip(rows).flat_map(row).collect()
}

fn calls(rows: &[(u64, u64)]) -> Vec<u8> {
    let row = |(place, &(site, key)): (u64, &(u64, u64))| {
        [site.wrapping_sub(place) as u32, key.wrapping_sub(place + 4) as u32].map(u32::to_le_bytes).concat()
    };
    (CALLS..).step_by(8).zip(rows).flat_map(row).collect()
}

/// `def_idts`: the first exception, one that user space may raise, and a vector of the system's.
const LISTED: [(u32, u16, u64); 5] =
    [(0, 0x8e00, ENTRY), (3, 0xee00, ENTRY), (14, 0x8e00, ENTRY), (0xf0, 0x8e00, ENTRY), (0xff, 0x8e00, ENTRY + 0x60)];

fn listed() -> Vec<u8> {
    let row = |&(vector, bits, target): &(u32, u16, u64)| {
        let mut bytes = vector.to_le_bytes().to_vec();
        bytes.extend(0x10u32.to_le_bytes());
        bytes.extend(u64::from(bits).to_le_bytes());
        bytes.extend((TEXT + target).to_le_bytes());
        bytes
    };
    LISTED.iter().flat_map(row).collect()
}

fn gate(bits: u16, target: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(target as u16).to_le_bytes());
    bytes[2..4].copy_from_slice(&0x10u16.to_le_bytes());
    bytes[4..6].copy_from_slice(&bits.to_le_bytes());
    bytes[6..12].copy_from_slice(&target.to_le_bytes()[2..]);
    bytes
}

/// What is in memory at each place from the start of the text, of a kernel that booted.
fn booted() -> Vec<(u64, Vec<u8>)> {
    let run = |at: u64| (TEXT + SLIDE + at).to_le_bytes().to_vec();
    let mut gates = vec![[0; 16]; 256];
    for (at, stub) in (STUBS..).step_by(8).zip(&mut gates[32..]) {
        *stub = gate(0x8e00, TEXT + SLIDE + at);
    }
    for (vector, bits, target) in LISTED {
        gates[vector as usize] = gate(bits, TEXT + SLIDE + target);
    }
    // alloc_intr_gate(), of entry code.
    gates[0xf3] = gate(0x8e00, TEXT + SLIDE + ENTRY + 0x40);
    let sorted = [ROWS[2], ROWS[1], ROWS[0]];
    vec![
        (POINTER, run(0x1000)),
        (CALL_KEY, run(0x1100)),
        (LABELS, labels(&sorted)),
        (CALLS, calls(&[SITES[1], SITES[0]])),
        (IDT, gates.concat()),
    ]
}

/// What has the addresses of the table of gates and of what it is made of: `lea IDT(%rip),%rdi`, `lea GATES(%rip),%rsi`.
const SETUP: u64 = 0x1800;

fn setup() -> Vec<u8> {
    let to = |at: u64, from: u64| (at - from).to_le_bytes()[..4].to_vec();
    [b"\x48\x8d\x3d".to_vec(), to(IDT, SETUP + 7), b"\x48\x8d\x35".to_vec(), to(GATES, SETUP + 14), b"\xc3".to_vec()]
        .concat()
}

/// The kernel; `data` says whether it names data too.
fn image(data: bool) -> Image {
    let recipe = Recipe::new(Bits::B64);
    let mut linked = recipe.linked();
    linked[SETUP as usize..][..15].copy_from_slice(&setup());
    // lea NEAR(%rip),%rdx
    let lea = [b"\x48\x8d\x15".to_vec(), (NEAR.wrapping_sub(SETUP + 0x27) as u32).to_le_bytes().to_vec()].concat();
    linked[SETUP as usize + 0x20..][..7].copy_from_slice(&lea);
    for at in NOPS {
        linked[at as usize..][..5].copy_from_slice(b"\x0f\x1f\x44\x00\x00");
    }
    let mut bytes = vec![0; 0x1000];
    for (at, target) in [(POINTER, 0x1000), (CALL_KEY, 0x1100)] {
        bytes[(at - DATA) as usize..][..8].copy_from_slice(&(TEXT + target).to_le_bytes());
    }
    let mut lists = recipe.lists();
    // The first list, between two zeros, is of fields of 64 bits, by address.
    let end = lists.iter().skip(1).position(|&word| word == 0).unwrap() + 1;
    lists.splice(end..end, [POINTER, CALL_KEY].map(|at| (TEXT + at) as u32));
    let trailer: Vec<u8> = lists.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .section(".notes", TEXT + memory_support::NOTES, flags::RODATA, &linked[memory_support::NOTES as usize..])
        .section(".data", TEXT + DATA, flags::DATA, &bytes)
        .section("__jump_table", TEXT + LABELS, flags::DATA, &labels(&ROWS.map(built)))
        .section(".static_call_sites", TEXT + CALLS, flags::DATA, &calls(&SITES))
        .nobits(".bss", TEXT + IDT, flags::DATA, 0x1000)
        .section(".init.data", TEXT + GATES, flags::DATA, &listed())
        .section("__ksymtab", TEXT + EXPORTS, flags::RODATA, &(EXPORTED.wrapping_sub(EXPORTS) as u32).to_le_bytes());
    let (labels_end, calls_end) = (LABELS + 16 * ROWS.len() as u64, CALLS + 8 * SITES.len() as u64);
    for (name, at) in [
        ("__start___jump_table", LABELS),
        ("__stop___jump_table", labels_end),
        ("__start_static_call_sites", CALLS),
        ("__stop_static_call_sites", calls_end),
        ("__SCK__a_call", CALL_KEY),
        ("idt_table", IDT),
        ("def_idts", GATES),
        ("__entry_text_start", ENTRY),
        ("__entry_text_end", STUBS + 0x800),
        ("irq_entries_start", STUBS),
        ("async_page_fault", ENTRY + 0x80),
        ("asm_sysvec_hyperv_callback", ENTRY + 0x40),
        ("asm_sysvec_hyperv_stimer0", ENTRY + 0xc0),
        ("asm_sysvec_of_a_later_kernel", ENTRY + 0x100),
        ("asm_exc_of_no_table", ENTRY + 0x140),
        ("__pfx_function_1", PREAMBLE),
        ("idt_setup_traps", SETUP),
        ("idt_load", SETUP + 15),
        ("near", NEAR),
        ("exported", EXPORTED),
        ("nowhere", NOWHERE),
    ] {
        if data || at < DATA {
            writer = writer.symbol(name, TEXT + at, 0, 'D');
        }
    }
    for (i, at) in FUNCTIONS.into_iter().enumerate() {
        writer = writer.symbol(&format!("function_{i}"), TEXT + at, 0, 'T');
    }
    Image::from_bytes("vmlinux", writer.trailer(&trailer).build()).unwrap()
}

/// What is heard of memory in which these bytes stand at these places.
fn heard(modules: Result<&[(u64, u64)], &str>, changes: &[(u64, Vec<u8>)]) -> Heard {
    heard_of(&image(true), modules, changes)
}

fn heard_of(image: &Image, modules: Result<&[(u64, u64)], &str>, changes: &[(u64, Vec<u8>)]) -> Heard {
    heard_in(image, modules, memory_with(changes), "native")
}

fn memory_with(changes: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut memory = Recipe::new(Bits::B64).memory(PHYSICAL, SLIDE);
    for (at, bytes) in booted().iter().chain(changes) {
        memory[(PHYSICAL + at) as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    memory
}

fn heard_in(image: &Image, modules: Result<&[(u64, u64)], &str>, dump: Vec<u8>, backend: &str) -> Heard {
    let made = made();
    let mut report = made.judged("6.1", &made.booted("6.1"), &Known::default());
    report.votes.clear();
    report.backends = vec![backend.to_owned()];
    let memory = Memory::from_bytes("dump", dump).unwrap();
    let found = memory.find(image, &mut |_, _| Ok(())).unwrap();
    assert_eq!(found.slide, SLIDE);
    hear(&report, &[], &Slots::default(), (&memory, &found, image), modules).unwrap()
}

/// (what, where from the start of the text, what should be there, what is) of what is wrong.
fn wrong(found: &Heard) -> Vec<(&str, u64, u64, u64)> {
    found.disagreements.iter().map(|d| (d.what, d.address - TEXT, d.expected, d.found)).collect()
}

#[test]
fn a_kernel_that_booted_has_them_as_in_the_file() {
    let found = heard(Ok(&[]), &[]);
    assert_eq!(wrong(&found), []);
    assert_eq!(found.counts, [("jump_entry", 3), ("static_call_site", 2), ("gate", 256), ("function", 2)]);
}

#[test]
fn a_pointer_to_a_function_is_one_to_a_function_or_to_none() {
    let with = |value: u64, modules| heard(modules, &[(POINTER, value.to_le_bytes().to_vec())]);
    for value in [0, TEXT + SLIDE + 0x1100, MODULE.0 + 0x1fff] {
        assert_eq!(wrong(&with(value, Ok(&[MODULE]))), [], "{value:#x}");
    }
    for value in [TEXT + SLIDE + 0x1104, TEXT + SLIDE + DATA, MODULE.0 + MODULE.1, 1] {
        let found = value.wrapping_sub(SLIDE);
        assert_eq!(wrong(&with(value, Ok(&[MODULE]))), [("function", POINTER, TEXT + 0x1000, found)], "{value:#x}");
    }
    // What is before a function is none.
    let before = TEXT + SLIDE + PREAMBLE;
    assert_eq!(wrong(&with(before, Ok(&[MODULE]))), [("function", POINTER, TEXT + 0x1000, before - SLIDE)]);
    // Nothing says where modules are: what may go to one is said.
    let unlisted = with(MODULE.0, Err("no list"));
    assert_eq!(wrong(&unlisted), []);
    assert!(unlisted.unheard.iter().any(|why| why.starts_with("1 pointers") && why.ends_with("no list")));
    assert_eq!(wrong(&with(TEXT + SLIDE + 0x1104, Err("no list"))).len(), 1);
}

#[test]
fn a_pointer_that_was_changed_goes_to_a_function_that_the_kernel_has_the_address_of() {
    let with = |at: u64| heard(Ok(&[]), &[(POINTER, (TEXT + SLIDE + at).to_le_bytes().to_vec())]);
    for taken in [0x1000, 0x1100, NEAR, EXPORTED] {
        assert_eq!(wrong(&with(taken)), [], "{taken:#x}");
    }
    assert_eq!(wrong(&with(NOWHERE)), [("function", POINTER, TEXT + 0x1000, TEXT + NOWHERE)]);
}

#[test]
fn where_a_static_call_goes_is_heard_with_its_text() {
    assert_eq!(wrong(&heard(Ok(&[]), &[(CALL_KEY, MODULE.0.to_le_bytes().to_vec())])), []);
}

#[test]
fn rows_are_those_of_the_file_wherever_they_went() {
    let with = |rows: [(u64, u64, u64); 3]| heard(Ok(&[]), &[(LABELS, labels(&rows))]);
    assert_eq!(wrong(&with([ROWS[1], ROWS[2], ROWS[0]])), []);
    let (site, target, key) = ROWS[1];
    for (row, expected, found) in [
        ((site, 0x1000, key), target, 0x1000),
        ((0x1170, target, key), site, 0x1170),
        ((site, target, KEYS[1] | 1), key, KEYS[1] | 1),
        ((site, target, key ^ 1), key, key ^ 1),
        // Whoever marks it as a site in code that was freed has it written no more.
        ((site, target, key | 2), key, key | 2),
    ] {
        assert_eq!(wrong(&with([ROWS[2], row, ROWS[0]])), [("jump_entry", LABELS + 16, TEXT + expected, TEXT + found)]);
    }
    // A row that is there twice is one that is missing.
    assert_eq!(wrong(&with([ROWS[0], ROWS[2], ROWS[2]])).len(), 1);
    let found = heard(Ok(&[]), &[(CALLS, calls(&[SITES[1], (0x1148, CALL_KEY)]))]);
    assert_eq!(wrong(&found), [("static_call_site", CALLS + 8, TEXT + SITES[0].0, TEXT + 0x1148)]);
    let found = heard(Ok(&[]), &[(CALLS, calls(&[(SITES[0].0, CALL_KEY | 2), SITES[1]]))]);
    assert_eq!(wrong(&found), [("static_call_site", CALLS, TEXT + CALL_KEY, TEXT + CALL_KEY + 2)]);
}

#[test]
fn a_gate_goes_where_the_tables_say_and_who_may_take_it_stays() {
    let with = |vector: u64, bits, target: u64| heard(Ok(&[]), &[(IDT + 16 * vector, gate(bits, target).to_vec())]);
    let run = TEXT + SLIDE;
    let at = |vector: u64| IDT + 16 * vector;
    for (vector, target, expected) in [
        (0, MODULE.0, ENTRY),
        (3, run + 0x1000, ENTRY),
        (33, run + STUBS, STUBS + 8),
        (0xf3, run + 0x1000, STUBS + 8 * (0xf3 - 32)),
        (0xf3, run + ENTRY + 4, STUBS + 8 * (0xf3 - 32)),
        // What a table lists goes there, or to its stub, and no other vector does.
        (0xf0, run + ENTRY + 0x40, ENTRY),
        (0xf3, run + ENTRY, STUBS + 8 * (0xf3 - 32)),
        (40, run + STUBS + 72, STUBS + 64),
        (40, run + STUBS, STUBS + 64),
    ] {
        let found = with(vector, if vector == 3 { 0xee00 } else { 0x8e00 }, target);
        assert_eq!(wrong(&found), [("gate", at(vector), TEXT + expected, target - SLIDE)], "{vector}");
    }
    assert_eq!(wrong(&with(0, 0xee00, run + ENTRY)), [("gate_bits", at(0), 0x10_8e00, 0x10_ee00)]);
    assert_eq!(wrong(&with(0xf0, 0x8e00, run + STUBS + 8 * (0xf0 - 32))), [], "a machine without that interrupt");
    // The segment, and what is reserved, of a stub's gate and of one that is listed.
    for (vector, byte, bit) in [(40, 2, 2), (0, 3, 0x40), (60, 15, 1), (0xf3, 12, 0x80)] {
        let mut bytes = booted().into_iter().find(|&(at, _)| at == IDT).unwrap().1;
        bytes[16 * vector + byte] ^= bit;
        assert_eq!(wrong(&heard(Ok(&[]), &[(IDT, bytes)])).len(), 1, "{vector}");
    }
    assert_eq!(wrong(&with(40, 0xee00, run + STUBS + 64)).len(), 1);
    // What the kernel gives vectors that no table lists goes to those alone; code that is not known may be any such vector's.
    for (vector, target, legal) in [
        (0xf3, 0x40, true),
        (0xed, 0xc0, true),
        (0xee, 0x40, false),
        (0xed, 0x40, false),
        (0xf3, 0xc0, false),
        (200, 0x40, false),
        (200, 0x100, true),
        (200, 0x140, false),
        (0xf0, 0x100, false),
    ] {
        assert_eq!(wrong(&with(vector, 0x8e00, run + ENTRY + target)).is_empty(), legal, "{vector:#x} {target:#x}");
    }
    // A guest of KVM waits for pages that its host has swapped out.
    let awaited = TEXT + SLIDE + ENTRY + 0x80;
    assert_eq!(wrong(&with(14, 0x8e00, awaited)), []);
    assert_eq!(wrong(&with(0, 0x8e00, awaited)).len(), 1);
    // Under Xen PV interrupts have no gates; exceptions have.
    assert_eq!(wrong(&heard(Ok(&[]), &[(at(32), vec![0; 16 * 224])])), []);
    let mut some = vec![0; 16 * 224];
    some[16 * 100 + 4] = 2;
    let found = heard(Ok(&[]), &[(at(32), some)]);
    assert_eq!(wrong(&found), [("gate_bits", at(132), 0, 2)], "nobody wrote it, as the others");
    assert_eq!(wrong(&heard(Ok(&[]), &[(at(0xf0), vec![0; 16]), (at(50), vec![0; 16])])).len(), 2);
    assert_eq!(wrong(&heard(Ok(&[]), &[(at(0), vec![0; 16])])).len(), 1);
}

#[test]
fn vectors_of_the_apic_that_nobody_asked_for_share_the_spurious_ones_entry_up_to_5_2() {
    let with = |vector: u64, target: u64| {
        let found = heard(Ok(&[]), &[(IDT + 16 * vector, gate(0x8e00, TEXT + SLIDE + target).to_vec())]);
        wrong(&found).len()
    };
    assert_eq!(with(0xf8, ENTRY + 0x60), 0);
    assert_eq!(with(0xf8, ENTRY), 1, "another's");
    assert_eq!(with(0xf0, ENTRY + 0x60), 1, "it is listed");
    assert_eq!(with(40, ENTRY + 0x60), 1, "no vector of the APIC's");
}

#[test]
fn where_no_data_have_names_the_code_that_fills_the_table_of_gates_has_their_addresses() {
    let image = image(false);
    let with = |vector: u64, target: u64| {
        heard_of(&image, Ok(&[]), &[(IDT + 16 * vector, gate(0x8e00, TEXT + SLIDE + target).to_vec())])
    };
    assert_eq!(wrong(&with(0, ENTRY)), []);
    assert!(with(0, ENTRY).counts.contains(&("gate", 256)));
    assert_eq!(wrong(&with(0, 0x1000)), [("gate", IDT, TEXT + ENTRY, TEXT + 0x1000)]);
    assert_eq!(wrong(&with(40, 0x1000)), [("gate", IDT + 16 * 40, TEXT + STUBS + 64, TEXT + 0x1000)]);
}

/// Another table, copied from the kernel's, may go anywhere: the register of the CPU that uses it says so.
#[test]
fn a_cpu_that_has_its_gates_elsewhere_is_named() {
    // Bit 12 is not the kernel's: a CPU in user mode has it set in cr3.
    const TABLES: usize = 0x2000;
    let with = |cr3: usize, cr4: u64, base: u64, backend: &str| {
        let mut memory = memory_with(&[]);
        map(&mut memory, TABLES, TEXT + SLIDE, PHYSICAL);
        let core = CoreWriter::new(Bits::B64).cpu_with(TABLES as u64, 0x20, TEXT + SLIDE + IDT);
        let core = core.cpu_with(cr3 as u64, cr4, base).physical(0, &memory).build();
        heard_in(&image(true), Ok(&[]), core, backend)
    };
    let clean = with(TABLES, 0x20, TEXT + SLIDE + IDT, "native");
    assert_eq!(wrong(&clean), []);
    assert!(clean.counts.contains(&("idt_register", 2)), "{:?}", clean.counts);
    // Mapped to other data, and to nothing.
    for (base, found) in [(TEXT + SLIDE + DATA, TEXT + DATA), (0xffff_fe00_0000_0000, 0xffff_fe00_0000_0000)] {
        assert_eq!(wrong(&with(TABLES, 0x20, base, "native")), [("idt_register", IDT, TEXT + IDT, found)]);
        // Xen's own; a CPU that has other page tables, uses FRED, or of which the dump says nothing.
        for found in [with(TABLES, 0x20, base, "xen"), with(0x9000, 0x20, base, "native")] {
            assert_eq!(wrong(&found), []);
        }
        assert_eq!(wrong(&with(TABLES, 0x1_0000_0020, base, "native")), []);
    }
    assert_eq!(wrong(&with(TABLES, 0x20, 0, "native")), []);
}
