//! The tables of sites as kernels of other eras laid them down, in images made for the purpose.
#![allow(clippy::unwrap_used)]

mod elfwriter;

use elfwriter::{ElfWriter, flags};
use pvops::image::{Bits, Image};
use pvops::insn::{self, NOP_TABLES};
use pvops::sites::{JumpLabel, Tables, nops, unknown};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const DATA: u64 = 0xffff_ffff_8200_0000;
const TABLE: u64 = 0xffff_ffff_8300_0000;
const TEXT_32: u64 = 0xc100_0000;
const DATA_32: u64 = 0xc200_0000;
const TABLE_32: u64 = 0xc300_0000;

fn read(file: &ElfWriter) -> pvops::Result<Tables> {
    Tables::read(&Image::from_bytes("made", file.build())?)
}

fn with_text(bits: Bits, text: &[u8]) -> ElfWriter {
    let address = if bits == Bits::B64 { TEXT } else { TEXT_32 };
    ElfWriter::new(bits).section(".text", address, flags::TEXT, text)
}

/// A distance from a field to an address, four bytes.
fn from(place: u64, to: u64) -> [u8; 4] {
    (to.wrapping_sub(place) as u32).to_le_bytes()
}

fn word(bits: Bits, value: u64) -> Vec<u8> {
    value.to_le_bytes()[..bits.word()].to_vec()
}

// ---- .altinstructions

/// Rows of `s32, s32`, then these bytes.
fn relative_rows(rows: &[(u64, u64, &[u8])]) -> Vec<u8> {
    let mut table: Vec<u8> = Vec::new();
    for &(site, replacement, tail) in rows {
        let place = TABLE + table.len() as u64;
        table.extend(from(place, site));
        table.extend(from(place + 4, replacement));
        table.extend(tail);
    }
    table
}

#[test]
fn a_replacement_of_nothing_needs_no_address() {
    // static_cpu_has() of 4.20: a jump that is always taken, then the feature with no replacement and offset 0.
    let rows = relative_rows(&[
        (TEXT, TEXT + 0x20, &[0x60, 0, 5, 5, 5]),
        (TEXT, TABLE + 17, &[9, 0, 5, 0, 0]),
        (TEXT + 8, TEXT + 0x25, &[10, 0, 3, 2, 0]),
    ]);
    let file = with_text(Bits::B64, &[0x90; 64]).section(".altinstructions", TABLE, flags::RODATA, &rows);
    let table = read(&file).unwrap().alternatives.unwrap();
    assert_eq!(table.layout.name, "13-byte rows, padlen");
    assert_eq!(table.rows.iter().map(|row| row.replacement_len).collect::<Vec<_>>(), [5, 0, 2]);
}

#[test]
fn a_replacement_that_is_no_code_is_refused_by_the_layout_that_came_furthest() {
    let rows = relative_rows(&[
        (TEXT, TEXT + 0x20, &[0x60, 0, 5, 5, 5]),
        (TEXT + 8, TEXT + 0x20, &[0x60, 0, 5, 5, 5]),
        (TEXT + 16, TABLE, &[9, 0, 5, 3, 0]),
    ]);
    let file = with_text(Bits::B64, &[0x90; 64]).section(".altinstructions", TABLE, flags::RODATA, &rows);
    let error = read(&file).unwrap_err().to_string();
    assert_eq!(
        error,
        "made: .altinstructions row 2 (0xffffffff81000010): its replacement of 3 bytes at 0xffffffff83000000 is no code"
    );
}

/// A row of pointers, as up to 3.2.
fn pointer_row(bits: Bits, site: u64, replacement: u64, tail: &[u8]) -> Vec<u8> {
    let mut row = [word(bits, site), word(bits, replacement), tail.to_vec()].concat();
    row.resize(if bits == Bits::B64 { 24 } else { 12 }, 0);
    row
}

#[test]
fn rows_of_2_6_33_end_in_the_assemblers_check() {
    for (bits, text) in [(Bits::B32, TEXT_32), (Bits::B64, TEXT)] {
        // 0xff + rlen - slen.
        let rows = [
            pointer_row(bits, text, text + 0x20, &[8, 7, 3, 0xfb]),
            pointer_row(bits, text + 8, text + 0x20, &[9, 4, 4, 0xff]),
        ];
        let table = if bits == Bits::B64 { TABLE } else { TABLE_32 };
        let file = with_text(bits, &[0x90; 64]).section(".altinstructions", table, flags::RODATA, &rows.concat());
        let found = read(&file).unwrap().alternatives.unwrap();
        assert_eq!(found.rows.iter().map(|row| (row.feature, row.len)).collect::<Vec<_>>(), [(8, 7), (9, 4)]);

        let wrong = [pointer_row(bits, text, text + 0x20, &[8, 7, 3, 0xfa])].concat();
        let file = with_text(bits, &[0x90; 64]).section(".altinstructions", table, flags::RODATA, &wrong);
        assert!(read(&file).unwrap_err().to_string().contains("row 0"), "{bits:?}");
    }
}

#[test]
fn features_of_2_6_36_have_two_bytes() {
    let rows = [
        pointer_row(Bits::B64, TEXT, TEXT + 0x20, &[0x20, 1, 7, 3]),
        pointer_row(Bits::B64, TEXT + 8, TEXT + 0x20, &[9, 0, 4, 4]),
    ];
    let file = with_text(Bits::B64, &[0x90; 64]).section(".altinstructions", TABLE, flags::RODATA, &rows.concat());
    let table = read(&file).unwrap().alternatives.unwrap();
    assert_eq!(table.layout.name, "24-byte rows, pointers, 16-bit features");
    assert_eq!(table.rows.iter().map(|row| (row.feature, row.len)).collect::<Vec<_>>(), [(0x120, 7), (9, 4)]);
}

// ---- .parainstructions

#[test]
fn a_site_that_is_the_native_swapgs_says_nothing_of_the_ops() {
    let call = |at: u64, slot: u64| [&[0xff, 0x15][..], &from(TEXT + at + 6, DATA + 8 * slot)].concat();
    let text = [&call(0, 5)[..], &call(6, 7), b"\x0f\x01\xf8", &[0x90; 16]].concat();
    let row = |address: u64, op: u8, len: u8| [&address.to_le_bytes()[..], &[op, len, 1, 0, 0, 0, 0, 0]].concat();
    let rows = |last: u8| [row(TEXT, 5, 6), row(TEXT + 6, 7, 6), row(TEXT + 12, 9, last)].concat();
    let file = |rows: &[u8]| with_text(Bits::B64, &text).section(".parainstructions", TABLE, flags::RODATA, rows);
    let found = read(&file(&rows(3))).unwrap().paravirt.unwrap();
    assert_eq!(found.ops_address(Bits::B64), Ok(DATA));
    assert!(found.sites[2].bare);
    // Any other site without a call is a mistake.
    let error = read(&file(&rows(4))).unwrap().paravirt.unwrap().ops_address(Bits::B64).unwrap_err();
    assert!(error.to_string().contains("says nothing"), "{error}");
}

// ---- __jump_table

fn jump_table(bits: Bits, text: &[u8], rows: &[u8], keys: &[u8], symbols: bool) -> ElfWriter {
    let (table, data) = if bits == Bits::B64 { (TABLE, DATA) } else { (TABLE_32, DATA_32) };
    let file =
        with_text(bits, text).section(".data", data, flags::DATA, keys).section(".rodata", table, flags::RODATA, rows);
    if !symbols {
        return file;
    }
    file.symbol("__start___jump_table", table, 0, 'R').symbol("__stop___jump_table", table + rows.len() as u64, 0, 'R')
}

#[test]
fn jump_labels_up_to_4_19_are_pointers() {
    for (bits, text, data) in [(Bits::B64, TEXT, DATA), (Bits::B32, TEXT_32, DATA_32)] {
        let nop: &[u8] = if bits == Bits::B64 { b"\x0f\x1f\x44\0\0" } else { b"\x3e\x8d\x74\x26\0" };
        // The third is JUMP_LABEL_INITIAL_NOP of 2.6.37.
        let code = [nop, nop, b"\xe9\0\0\0\0", &[0x90; 32]].concat();
        let row = |at: u64, key: u64| [word(bits, text + at), word(bits, text + 0x20), word(bits, data + key)].concat();
        let rows = [row(0, 0), row(5, 16 | 1), row(10, 32)].concat();
        let found = read(&jump_table(bits, &code, &rows, &[0; 64], true)).unwrap().jump_labels;
        let label = |at: u64, key: u64, branch| JumpLabel {
            address: text + at,
            target: text + 0x20,
            key: data + key,
            branch,
            len: 5,
        };
        assert_eq!(found, [label(0, 0, false), label(5, 16, true), label(10, 32, false)]);
    }
}

#[test]
fn before_4_3_the_key_says_when_its_branches_are_taken() {
    let nop = b"\x0f\x1f\x44\0\0";
    let row = |at: u64, key: u64| [TEXT + at, TEXT + 0x20, DATA + key].map(u64::to_le_bytes).concat();
    // Count 1, entries with JUMP_LABEL_TRUE_BRANCH; and a key that is off.
    let keys = [1u64, 1, 0, 0].map(u64::to_le_bytes).concat();
    let code = [&nop[..], nop, &[0x90; 32]].concat();
    let found =
        read(&jump_table(Bits::B64, &code, &[row(0, 0), row(5, 16)].concat(), &keys, true)).unwrap().jump_labels;
    assert_eq!(found.iter().map(|label| label.branch).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_jump_table_is_found_by_what_is_in_it() {
    let code = [&b"\x0f\x1f\x44\0\0".repeat(20)[..], &[0x90; 16]].concat();
    let absolute: Vec<u8> =
        (0..20).flat_map(|i| [TEXT + 5 * i, TEXT + 0x60, DATA + 16 * i].map(u64::to_le_bytes).concat()).collect();
    let relative: Vec<u8> = (0..20u64)
        .flat_map(|i| {
            let place = TABLE + 16 * i;
            let key = (DATA + 16 * i).wrapping_sub(place + 8).to_le_bytes();
            [&from(place, TEXT + 5 * i)[..], &from(place + 4, TEXT + 0x60), &key].concat()
        })
        .collect();
    for rows in [absolute, relative] {
        let found = read(&jump_table(Bits::B64, &code, &rows, &[0; 512], false)).unwrap().jump_labels;
        assert_eq!(found.len(), 20);
        assert!(found.iter().zip(0..).all(|(label, i)| label.address == TEXT + 5 * i && label.key == DATA + 16 * i));
    }
}

#[test]
fn a_few_rows_are_a_table_where_their_sites_jump_to_what_follows() {
    let data = [0; 512];
    let found = |site: &[u8], sites: u64, rows: u64| {
        let code = [&site.repeat(sites as usize)[..], &[0x90; 128]].concat();
        let row = |i| [TEXT + 5 * i, TEXT + 0x60, DATA + 16 * i].map(u64::to_le_bytes).concat();
        let rows: Vec<u8> = (0..rows).flat_map(row).collect();
        read(&jump_table(Bits::B64, &code, &rows, &data, false)).unwrap().jump_labels.len()
    };
    let (initial, nop) = (b"\xe9\0\0\0\0", b"\x0f\x1f\x44\0\0");
    assert_eq!((found(initial, 20, 4), found(initial, 20, 15)), (4, 15));
    assert_eq!((found(initial, 20, 3), found(nop, 20, 15)), (0, 0));
    // Rows whose sites are something else end it.
    assert_eq!(found(initial, 6, 15), 6);
}

#[test]
fn an_empty_table_at_the_end_of_a_section_is_empty() {
    let rodata = [0; 32];
    let end = TABLE + 32;
    let file = with_text(Bits::B64, &[0x90; 16]).section(".rodata", TABLE, flags::RODATA, &rodata);
    let names = ["__jump_table", "mcount_loc", "static_call_sites"];
    let file = names.iter().fold(file, |file, name| {
        file.symbol(&format!("__start_{name}"), end, 0, 'R').symbol(&format!("__stop_{name}"), end, 0, 'R')
    });
    let tables = read(&file).unwrap();
    assert!(tables.jump_labels.is_empty() && tables.mcount.is_empty() && tables.static_calls.is_empty());
}

// ---- __mcount_loc

#[test]
fn up_to_2_6_36_a_row_of_mcount_is_the_address_behind_the_opcode() {
    let tracer = TEXT + 0x100;
    let mut text = vec![0x90; 0x110];
    text[0x10f] = 0xc3;
    let sites: Vec<u64> = (0..20).map(|i| TEXT + 12 * i).collect();
    for &site in &sites {
        let at = (site - TEXT) as usize;
        text[at..at + 5].copy_from_slice(&insn::call(site, tracer));
    }
    for (behind, symbols) in [(0, true), (1, true), (0, false), (1, false)] {
        let rows: Vec<u8> = sites.iter().flat_map(|site| (site + behind).to_le_bytes()).collect();
        let mut file = with_text(Bits::B64, &text).section(".init.data", TABLE, flags::DATA, &rows);
        if symbols {
            let stop = TABLE + rows.len() as u64;
            file = file.symbol("__start_mcount_loc", TABLE, 0, 'D').symbol("__stop_mcount_loc", stop, 0, 'D');
        }
        assert_eq!(read(&file).unwrap().mcount, sites, "{behind} {symbols}");
    }
}

#[test]
fn addresses_of_calls_are_no_mcount_table_where_the_function_does_something_or_the_call_is_one() {
    let (tracer, other) = (TEXT + 0x180, TEXT + 0x1c0);
    let mut text = vec![0x90; 0x200];
    text[0x180] = 0xc3;
    text[0x1c0..0x1c2].copy_from_slice(b"\x53\xc3"); // push %rbx; ret
    let sites = |called: u64, many: u64, text: &mut [u8]| -> Vec<u8> {
        let site = |i: u64| TEXT + 12 * (i % many);
        for i in 0..20 {
            let at = (site(i) - TEXT) as usize;
            text[at..at + 5].copy_from_slice(&insn::call(site(i), called));
        }
        (0..20).flat_map(|i| site(i).to_le_bytes()).collect()
    };
    for (called, many, rows) in [(tracer, 20, 20), (other, 20, 0), (tracer, 1, 0)] {
        let table = sites(called, many, &mut text);
        let file = with_text(Bits::B64, &text).section(".init.data", TABLE, flags::DATA, &table);
        assert_eq!(read(&file).unwrap().mcount.len(), rows, "{called:#x} {many}");
    }
}

// ---- static calls

/// Ten calls, one of them a tail, of two trampolines: one that jumps and one that goes nowhere, and what ends them.
fn calls_without_symbols(nowhere: &[u8; 5], end: &[u8; 3], keys: u64) -> pvops::Result<Tables> {
    let trampolines = [TEXT + 0x100, TEXT + 0x108];
    let mut text = vec![0xcc; 0x120];
    for (branch, at) in [(nowhere, 0x108), (b"\xe9\0\0\0\0", 0x100)] {
        text[at..at + 5].copy_from_slice(branch);
        text[at + 5..at + 8].copy_from_slice(end);
    }
    if end == b"\x0f\x1f\x00" {
        // What is behind the last one is not its own.
        text[0x10d..0x110].copy_from_slice(b"\x0f\x01\xf8");
    }
    let mut rows = Vec::new();
    for i in 0..10u64 {
        let (site, tail, target) = (TEXT + 16 * i, i == 9, trampolines[i as usize % 2]);
        let at = (site - TEXT) as usize;
        text[at..at + 5].copy_from_slice(&if tail { insn::jmp(site, target) } else { insn::call(site, target) });
        let place = TABLE + 8 * i;
        rows.extend(from(place, site));
        rows.extend(from(place + 4, DATA + 16 * (i % 2) + u64::from(tail)));
    }
    let data = with_text(Bits::B64, &text).section(".data", DATA, keys, &[0; 64]);
    read(&data.section(".rodata", TABLE, flags::RODATA, &rows))
}

#[test]
fn static_calls_are_found_without_a_symbol() {
    // Since 6.1, in 5.17, and at first, when nothing but the alignment stood behind a trampoline.
    let eras: [(&[u8; 5], &[u8; 3]); 4] = [
        (b"\xc3\xcc\x90\x90\x90", b"\x0f\xb9\xcc"),
        (b"\xc3\xcc\xcc\xcc\xcc", b"SCT"),
        (b"\xc3\x90\x90\x90\x90", b"\x0f\x1f\x00"),
        (b"\xc3\xcc\x90\x90\x90", b"\xcc\xcc\xcc"),
    ];
    // 7.2's .data is marked as code.
    let keys = [flags::DATA, flags::DATA | flags::EXEC];
    for ((nowhere, end), keys) in eras.into_iter().flat_map(|era| keys.map(|keys| (era, keys))) {
        let tables = calls_without_symbols(nowhere, end, keys).unwrap();
        assert_eq!(tables.static_calls.len(), 10, "{end:x?}");
        assert!(tables.static_calls[9].tail && !tables.static_calls[8].tail);
        let found: Vec<_> = tables.trampolines.iter().map(|trampoline| (trampoline.address, trampoline.key)).collect();
        assert_eq!(found, [(TEXT + 0x100, Some(DATA)), (TEXT + 0x108, Some(DATA + 16))], "{end:x?}");
    }
}

#[test]
fn calls_of_functions_are_no_static_calls() {
    // A function that returns, and what is aligned behind it, is no trampoline: nothing says that it may be changed.
    for nowhere in [b"\xc3\xcc\xcc\xcc\xcc", b"\x55\x90\x90\x90\xc3"] {
        let tables = calls_without_symbols(nowhere, b"\x0f\x1f\x00", flags::DATA).unwrap();
        assert_eq!(tables.static_calls, []);
    }
}

// ---- others

#[test]
fn a_pointer_known_at_boot_is_a_word() {
    for (bits, width) in [(Bits::B64, 8), (Bits::B32, 4)] {
        let (text, table) = if bits == Bits::B64 { (TEXT, TABLE) } else { (TEXT_32, TABLE_32) };
        let file =
            with_text(bits, &[0x90; 64]).section("runtime_ptr_table", table, flags::RODATA, &from(table, text + 4));
        let constants = read(&file).unwrap().constants;
        assert_eq!((constants[0].width, &constants[0].table.sites[..]), (width, &[text + 4][..]));
    }
}

#[test]
fn locks_of_2_6_are_pointers() {
    let rows = [TEXT + 4, TEXT + 9, 0].map(u64::to_le_bytes).concat();
    let file = with_text(Bits::B64, &[0xf0; 16]).section(".smp_locks", TABLE, flags::RODATA, &rows);
    assert_eq!(read(&file).unwrap().smp_locks.sites, [TEXT + 4, TEXT + 9, 0]);
}

#[test]
fn an_image_says_which_nops_it_has() {
    for table in NOP_TABLES {
        let bytes: Vec<u8> = table.bytes().collect();
        let file =
            with_text(Bits::B64, &[0x90; 16]).section(".rodata", TABLE, flags::RODATA, &[&[0; 3][..], &bytes].concat());
        let found = nops::tables(&Image::from_bytes("made", file.build()).unwrap());
        let expected = if table.name == "p6" { "x86" } else { table.name };
        assert_eq!(found.iter().map(|table| table.name).collect::<Vec<_>>(), [expected]);
    }
    // Up to 5.12 there are several, and the CPU decides.
    let both: Vec<u8> = NOP_TABLES.iter().filter(|t| matches!(t.name, "k8" | "p6")).flat_map(|t| t.bytes()).collect();
    let file = with_text(Bits::B64, &[0x90; 16]).section(".rodata", TABLE, flags::RODATA, &both);
    let found = nops::tables(&Image::from_bytes("made", file.build()).unwrap());
    assert_eq!(found.iter().map(|table| table.name).collect::<Vec<_>>(), ["k8", "p6"]);
}

#[test]
fn a_section_of_sites_that_nobody_knows_is_named() {
    let rows: Vec<u8> = (0..8u64).flat_map(|i| from(TABLE + 4 * i, TEXT + i)).collect();
    for (name, named) in [
        (".brand_new_sites", true),
        (".rewritten", true),
        (".return_sites", false),
        (".orc_unwind_ip", false),
        // kCFI's traps: looked up, never written by.
        ("__kcfi_traps", false),
    ] {
        let file = with_text(Bits::B64, &[0x90; 16]).section(name, TABLE, flags::RODATA, &rows);
        let found = unknown::sections(&Image::from_bytes("made", file.build()).unwrap());
        assert_eq!(found, if named { vec![name.to_owned()] } else { Vec::new() });
    }
}
