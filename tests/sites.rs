//! `.parainstructions` in every layout, and every way it can lie.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod elfwriter;

use elfwriter::{ElfWriter, flags};
use proptest::prelude::*;
use pvops::error::ErrorKind;
use pvops::image::{Bits, Image};
use pvops::sites::ParavirtTable;

const TEXT: u64 = 0xffff_ffff_8100_0000;
const TEXT_32: u64 = 0xc100_0000;
const OPS: u64 = 0xffff_ffff_8200_0000;
const OPS_32: u64 = 0xc200_0000;

/// A row to write: offset of the site in `.text`, type, length, clobbers.
type Row = (u64, u8, u8, u16);

/// How rows are written: distance, bytes that mean something, with clobbers.
type Shape = (Bits, usize, usize, bool);

const SHAPES: [Shape; 5] = [
    (Bits::B32, 8, 8, true),
    (Bits::B32, 8, 6, false),
    (Bits::B64, 16, 12, true),
    (Bits::B64, 16, 10, false),
    (Bits::B64, 12, 12, true),
];

fn base(bits: Bits) -> (u64, u64) {
    match bits {
        Bits::B32 => (TEXT_32, OPS_32),
        Bits::B64 => (TEXT, OPS),
    }
}

fn table(shape: Shape, rows: &[Row], cut: bool) -> Vec<u8> {
    let (bits, stride, used, clobbers) = shape;
    let mut out = Vec::new();
    for &(at, op_type, len, clobber) in rows {
        let mut record = vec![0; stride];
        let word = bits.word();
        record[..word].copy_from_slice(&(base(bits).0 + at).to_le_bytes()[..word]);
        record[word] = op_type;
        record[word + 1] = len;
        if clobbers {
            record[word + 2..word + 4].copy_from_slice(&clobber.to_le_bytes());
        }
        out.extend_from_slice(&record);
    }
    if cut {
        out.truncate(out.len() - (stride - used));
    }
    out
}

/// `.text` with an indirect call of the right op at each row's site.
fn text(bits: Bits, rows: &[Row]) -> Vec<u8> {
    let (start, ops) = base(bits);
    let mut out = vec![0xcc; 0x1000];
    for &(at, op_type, len, _) in rows {
        let slot = ops + u64::from(op_type) * bits.word() as u64;
        let call = match bits {
            Bits::B32 => [&b"\xff\x15"[..], &(slot as u32).to_le_bytes()].concat(),
            Bits::B64 => [&b"\xff\x15"[..], &(slot.wrapping_sub(start + at + 6) as u32).to_le_bytes()].concat(),
        };
        let len = usize::from(len).min(6);
        if let Some(place) = out.get_mut(at as usize..at as usize + len) {
            place.copy_from_slice(&call[..len]);
        }
    }
    out
}

fn image(bits: Bits, rows: &[Row], table: &[u8]) -> Image {
    let (start, _) = base(bits);
    let file = ElfWriter::new(bits)
        .section(".text", start, flags::TEXT, &text(bits, rows))
        .section(".parainstructions", start + 0x10_0000, flags::RODATA, table)
        .build();
    Image::from_bytes("test.elf", file).expect("the writer writes a good file")
}

fn message(bits: Bits, rows: &[Row], table: &[u8]) -> String {
    let error = ParavirtTable::read(&image(bits, rows, table)).expect_err("a lying table");
    assert_eq!(error.kind, ErrorKind::Table);
    error.to_string()
}

const ROWS: [Row; 3] = [(0x10, 30, 6, 1), (0x20, 31, 6, 0x1ff), (0x30, 0, 6, 0)];

#[test]
fn every_layout_is_recognised_by_its_rows_alone() {
    for shape in SHAPES {
        for cut in [false, true] {
            let (bits, stride, used, clobbers) = shape;
            if cut && stride == used {
                continue;
            }
            let image = image(bits, &ROWS, &table(shape, &ROWS, cut));
            let found = ParavirtTable::read(&image).expect("valid").expect("there");
            let layout = (found.layout.bits, found.layout.stride, found.layout.used, found.layout.clobbers);
            assert_eq!(layout, shape, "cut: {cut}");
            let rows: Vec<_> = found.sites.iter().map(|s| (s.address, s.op_type, s.len, s.clobbers)).collect();
            let expected: Vec<_> =
                ROWS.iter().map(|r| (base(bits).0 + r.0, r.1, r.2, clobbers.then_some(r.3))).collect();
            assert_eq!(rows, expected);
            assert_eq!(found.ops_address(bits), Ok(base(bits).1));
        }
    }
}

#[test]
fn an_empty_table_is_none() {
    let image = image(Bits::B64, &[], &[]);
    assert!(ParavirtTable::read(&image).is_ok_and(|table| table.is_none()));
}

#[test]
fn a_lying_row_is_an_error_that_names_file_section_row_address_and_reason() {
    let shape = SHAPES[2];
    let lie = |row: Row| {
        let rows = [ROWS[0], ROWS[1], row, ROWS[2]];
        message(Bits::B64, &ROWS, &table(shape, &rows, true))
    };
    assert_eq!(
        lie((0x40_0000, 1, 6, 1)),
        "test.elf: .parainstructions row 2 (0xffffffff81400000): the site lies in no executable section"
    );
    assert_eq!(
        lie((0xffe, 1, 6, 1)),
        "test.elf: .parainstructions row 2 (0xffffffff81000ffe): a site of 6 bytes leaves its section"
    );
    assert_eq!(lie((0x50, 1, 0, 1)), "test.elf: .parainstructions row 2 (0xffffffff81000050): a site of no bytes");
    assert_eq!(
        lie((0x12, 1, 6, 1)),
        "test.elf: .parainstructions row 2 (0xffffffff81000012): the site overlaps that of row 0, 0xffffffff81000010"
    );
}

#[test]
fn a_table_cut_inside_a_row_is_an_error() {
    let whole = table(SHAPES[2], &ROWS, false);
    for len in 1..whole.len() {
        let cut = &whole[..len];
        let read = ParavirtTable::read(&image(Bits::B64, &ROWS, cut));
        if len % 16 == 0 || len % 16 == 12 || len == 10 {
            continue; // whole rows, or the first alone as a layout without clobbers has it: a shorter table, and a good one
        }
        assert!(read.is_err(), "{len} bytes");
    }
}

#[test]
fn sites_that_disagree_about_the_ops_are_named() {
    let rows = [ROWS[0], ROWS[1], (0x40, 5, 6, 1), (0x50, 6, 6, 1)];
    let mut wrong = rows;
    wrong[2].1 = 9; // the row says type 9, its call goes through slot 5
    let image = image(Bits::B64, &rows, &table(SHAPES[2], &wrong, true));
    let found = ParavirtTable::read(&image).expect("each row by itself is good").expect("there");
    let error = found.ops_address(Bits::B64).expect_err("they disagree").to_string();
    assert_eq!(
        error,
        ".parainstructions row 2 (0xffffffff81000040): the ops would lie at 0xffffffff82000000 by most rows, \
         but this one (type 9) says 0xffffffff81ffffe0"
    );
}

#[test]
fn a_site_without_an_indirect_call_says_nothing_about_the_ops() {
    let rows = [ROWS[0], ROWS[1]];
    let with_more = [ROWS[0], ROWS[1], (0x60, 2, 3, 1)];
    let image = image(Bits::B64, &rows, &table(SHAPES[2], &with_more, true));
    let found = ParavirtTable::read(&image).expect("valid").expect("there");
    let error = found.ops_address(Bits::B64).expect_err("one row says nothing").to_string();
    assert!(error.contains("row 2") && error.contains("no call or jump through memory"), "{error}");
}

proptest! {
    #[test]
    fn rows_of_any_layout_read_back(shape in 0..SHAPES.len(), types in prop::collection::vec(any::<u8>(), 1..60), cut: bool) {
        let shape = SHAPES[shape];
        let clobbers = |i: usize| if i == 0 { 1 } else { (i % 3) as u16 };
        let rows: Vec<Row> =
            types.iter().enumerate().map(|(i, &t)| (16 * i as u64, t, 6, clobbers(i))).collect();
        let image = image(shape.0, &rows, &table(shape, &rows, cut));
        let found = ParavirtTable::read(&image).expect("valid").expect("there");
        let read: Vec<_> = found.sites.iter().map(|s| (s.address - base(shape.0).0, s.op_type, s.len)).collect();
        prop_assert_eq!(read, rows.iter().map(|r| (r.0, r.1, r.2)).collect::<Vec<_>>());
        prop_assert_eq!(found.ops_address(shape.0), Ok(base(shape.0).1));
    }

    #[test]
    fn any_bytes_are_a_table_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400), wide: bool) {
        let bits = if wide { Bits::B64 } else { Bits::B32 };
        if let Ok(Some(found)) = ParavirtTable::read(&image(bits, &ROWS, &bytes)) {
            let _ = found.ops_address(bits);
        }
    }
}
