//! Tables of segments in memory: those of the file stay, and by no other does user space enter the kernel.
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
/// Where the page tables are whose CPU is asked: without page-table isolation bit 12 is one of their address.
const TABLES: u64 = 0x3000;
/// Where the tables lie, from the start of the text; and in the file, among data that every CPU has of its own.
const GDT: u64 = 0x5_0000;
const LDT: u64 = 0x5_1000;
const BUILT: u64 = 0x6_0000;
/// As x86-64 has them: three of the kernel's, three of user space; then room.
const OF_FILE: [u64; 16] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
];
/// A task's state, which takes two words; the CPU's number.
const TASK: u64 = 0x0000_8b00_3000_4087;
const NUMBER: u64 = 0x0040_f500_0000_0001;
/// By a far call of its selector user space runs code of the kernel's.
const GATE: u64 = 0x0000_ec00_0010_1000;

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A table that booted, with some descriptors changed.
fn table(changes: &[(usize, u64)]) -> Vec<u64> {
    let mut words = OF_FILE.to_vec();
    (words[8], words[9], words[15]) = (TASK, 0xffff_fe00, NUMBER);
    changes.iter().for_each(|&(index, word)| words[index] = word);
    words
}

fn image(named: bool) -> Image {
    let recipe = Recipe::new(Bits::B64);
    let linked = recipe.linked();
    let trailer: Vec<u8> = recipe.lists().iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .section(".notes", TEXT + memory_support::NOTES, flags::RODATA, &linked[memory_support::NOTES as usize..])
        .section(".data..percpu", TEXT + BUILT, flags::DATA, &bytes(&OF_FILE))
        .symbol("a_function", TEXT + 0x1000, 0, 'T');
    if named {
        writer = writer.symbol("gdt_page", TEXT + BUILT, 0, 'D');
    }
    Image::from_bytes("vmlinux", writer.trailer(&trailer).build()).unwrap()
}

fn heard(image: &Image, backend: &str, cr3: u64, gdt: (&[u64], u32), ldt: (&[u64], u32)) -> Heard {
    let mut memory = Recipe::new(Bits::B64).memory(PHYSICAL, SLIDE);
    map(&mut memory, TABLES as usize, TEXT + SLIDE, PHYSICAL);
    for (at, (words, _)) in [(GDT, gdt), (LDT, ldt)] {
        memory[(PHYSICAL + at) as usize..][..words.len() * 8].copy_from_slice(&bytes(words));
    }
    let runs = |at: u64, (words, limit): (&[u64], u32)| (if words.is_empty() { 0 } else { TEXT + SLIDE + at }, limit);
    let core = CoreWriter::new(Bits::B64).cpu(0x9000, 0x20).cpu_of(cr3, runs(GDT, gdt), runs(LDT, ldt));
    let made = made();
    let mut report = made.judged("6.1", &made.booted("6.1"), &Known::default());
    report.votes.clear();
    report.backends = vec![backend.to_owned()];
    let memory = Memory::from_bytes("dump", core.physical(0, &memory).build()).unwrap();
    let found = memory.find(image, &mut |_, _| Ok(())).unwrap();
    hear(&report, &[], &Slots::default(), (&memory, &found, image), Ok(&[])).unwrap()
}

/// (where from the start of the text, CPU and selector, what should be there, what is) of segments that are wrong.
fn wrong(found: &Heard) -> Vec<(u64, u64, u64, u64)> {
    let segments = found.disagreements.iter().filter(|named| named.what == "segment");
    segments.map(|named| (named.address - TEXT, named.which, named.expected, named.found)).collect()
}

/// What is wrong in a global table with these changes, on the second CPU of the dump.
fn changed(changes: &[(usize, u64)]) -> Vec<(u64, u64, u64, u64)> {
    wrong(&heard(&image(true), "native", TABLES, (&table(changes), 127), (&[], 0)))
}

#[test]
fn a_table_is_as_its_file_has_it_but_for_what_the_kernel_adds() {
    let found = heard(&image(true), "native", TABLES, (&table(&[]), 127), (&[], 0));
    assert_eq!(wrong(&found), []);
    assert!(found.counts.contains(&("segment", 8)), "{:?}", found.counts);
    // What a process asks for with set_thread_area(), a local table, a segment that was not used yet, one that is absent.
    let legal = [(12, 0x00cf_f300_0000_ffff), (10, 0x0000_8200_1000_000f), (3, OF_FILE[3] & !(1 << 40)), (14, 1 << 44)];
    for change in legal {
        assert_eq!(changed(&[change]), [], "{change:x?}");
    }
}

#[test]
fn a_gate_into_the_kernel_is_named_and_so_is_a_segment_of_another_privilege() {
    let kernels = 0x00af_9b00_0000_ffff;
    let on = |index: usize| (BUILT + 8 * index as u64, (1 << 16) | (8 * index as u64));
    for (index, word) in [(7, GATE), (12, GATE), (14, kernels), (2, kernels | 3 << 45), (6, kernels), (8, GATE), (4, 0)]
    {
        let (at, which) = on(index);
        assert_eq!(changed(&[(index, word)]), [(at, which, OF_FILE[index], word)], "{index} {word:#x}");
    }
    // The second word of a task's state is no descriptor of its own.
    assert_eq!(changed(&[(9, GATE & !0xffff)]), []);
}

#[test]
fn a_local_table_has_segments_of_user_space_alone() {
    let local = |words: &[u64]| {
        wrong(&heard(&image(true), "native", TABLES, (&table(&[]), 127), (words, (words.len() * 8 - 1) as u32)))
    };
    assert_eq!(local(&[0, NUMBER, 0x00cf_fb00_0000_ffff]), []);
    for word in [GATE, TASK, 0x00af_9b00_0000_ffff] {
        assert_eq!(local(&[0, word]), [(LDT + 8, (1 << 16) | 8 | 4, 0, word)], "{word:#x}");
    }
}

#[test]
fn tables_of_others_say_nothing_and_without_a_name_gates_alone_do() {
    let bad = table(&[(7, GATE), (2, 0x00af_fb00_0000_ffff), (14, 0x00af_9b00_0000_ffff)]);
    // Xen's own; a CPU of other page tables; no register.
    for (backend, cr3) in [("xen", TABLES), ("native", 0x9000)] {
        assert_eq!(wrong(&heard(&image(true), backend, cr3, (&bad, 127), (&[], 0))), []);
    }
    assert_eq!(wrong(&heard(&image(true), "native", TABLES, (&[], 127), (&[], 0))), []);
    // Behind the limit there is no table.
    assert_eq!(wrong(&heard(&image(true), "native", TABLES, (&bad, 15), (&[], 0))), []);
    let found = heard(&image(false), "native", TABLES, (&bad, 127), (&[], 0));
    assert_eq!(wrong(&found), [(GDT + 56, (1 << 16) | 56, 0, GATE)]);
}
