//! Two boots compared: which places they leave otherwise, and what of a boot hangs on features that nobody tells.
#![allow(clippy::unwrap_used)]

mod elfwriter;

use elfwriter::{ElfWriter, flags};
use pvops::image::{Bits, Image};
use pvops::plan::{Decision, Kind, Otherwise, Pass, Plan, Reason, differences, undetermined};
use pvops::sites::{Alternative, AlternativeTable, Tables, alternatives};

const TEXT: u64 = 0xffff_ffff_8100_0000;

fn image() -> Image {
    let file = ElfWriter::new(Bits::B64).section(".text", TEXT, flags::TEXT, &[0x90; 64]).build();
    Image::from_bytes("image", file).unwrap()
}

/// A plan of writes: (offset into text, pass, bytes); no bytes where a row changes nothing.
fn plan(writes: &[(u64, Pass, &[u8])]) -> Plan {
    let mut plan = Plan::default();
    for (row, &(offset, pass, bytes)) in (0..).zip(writes) {
        let decision = Decision { kind: Kind::Kept, reason: Reason::ByType, used: bytes.len() as u16 };
        plan.push(TEXT + offset, pass, row, bytes, decision);
    }
    plan
}

/// (offset, what the first leaves, what the second leaves, the writes of each there).
type Place = (u64, Vec<u8>, Vec<u8>, Vec<u32>, Vec<u32>);

fn differing(a: &Plan, b: &Plan) -> Vec<Place> {
    let found = differences(&image(), a, b).into_iter();
    found.map(|d| (d.address - TEXT, d.a.bytes, d.b.bytes, d.a.writes, d.b.writes)).collect()
}

#[test]
fn boots_that_leave_the_same_bytes_do_not_differ_however_they_write_them() {
    let a = plan(&[(4, Pass::Paravirt, b"\x01\x02"), (4, Pass::Alternatives, b"\x03\x04")]);
    let b = plan(&[(4, Pass::Paravirt, b""), (4, Pass::Alternatives, b"\x03\x04")]);
    assert_eq!(differing(&a, &b), []);
    assert_eq!(differing(&a, &a), []);
}

#[test]
fn writes_that_overlap_are_one_place_with_all_that_is_written_there() {
    let a = plan(&[(0, Pass::Mcount, b"\xaa"), (8, Pass::Returns, b"\x01\x02\x03"), (10, Pass::SmpLocks, b"\x05\x06")]);
    let b = plan(&[(0, Pass::Mcount, b"\xaa"), (8, Pass::Returns, b""), (10, Pass::SmpLocks, b"\x05\x06")]);
    let (left, right) = (vec![1, 2, 5, 6], vec![0x90, 0x90, 5, 6]);
    assert_eq!(differing(&a, &b), [(8, left, right, vec![1, 2], vec![1, 2])]);
}

#[test]
fn rows_need_not_come_in_the_same_order() {
    let one: [(u64, Pass, &[u8]); 3] =
        [(0, Pass::Returns, b"\x01"), (20, Pass::Mcount, b"\x02"), (30, Pass::Ibt, b"\x03")];
    let other = [one[2], one[0], (20, Pass::Mcount, b"\x04")];
    assert_eq!(differing(&plan(&one), &plan(&other)), [(20, vec![2], vec![4], vec![1], vec![2])]);
}

#[test]
fn places_that_touch_without_overlapping_stay_two() {
    let a = plan(&[(0, Pass::Returns, b"\x01\x01"), (2, Pass::Returns, b"\x02\x02")]);
    let places: Vec<u64> = differing(&a, &Plan::default()).into_iter().map(|place| place.0).collect();
    assert_eq!(places, [0, 2]);
}

fn asking(rows: &[(u64, u8, u16)]) -> Tables {
    let row = |&(offset, len, feature): &(u64, u8, u16)| Alternative {
        address: TEXT + offset,
        replacement: TEXT,
        feature,
        inverted: false,
        direct_call: false,
        len,
        replacement_len: 0,
        pad: 0,
    };
    let layout = alternatives::Layout::of_2007(Bits::B64);
    let rows = rows.iter().map(row).collect();
    Tables { alternatives: Some(AlternativeTable { layout, rows }), ..Tables::default() }
}

#[test]
fn what_the_opposite_of_an_untold_feature_would_leave_is_open() {
    let planned = plan(&[(4, Pass::Alternatives, b"\x01\x02"), (16, Pass::Alternatives, b"\x03")]);
    let other = plan(&[(4, Pass::Alternatives, b""), (16, Pass::Alternatives, b"\x03"), (32, Pass::Returns, b"\x04")]);
    let tables = asking(&[(4, 2, 7), (4, 2, 9), (16, 1, 9)]);
    let found = |unknown: &[u16]| {
        let otherwise = Otherwise::of(other.clone(), unknown.to_vec());
        let open = undetermined(&image(), &tables, &planned, Some(&otherwise));
        open.iter().map(|o| (o.address - TEXT, o.len, o.row, o.forms(&planned))).collect::<Vec<_>>()
    };
    let forms = |forms: &[&str]| forms.iter().map(|&form| form.to_owned()).collect::<Vec<_>>();
    let only_the_other_writes = (32, 1, None, forms(&["90", "04"]));
    assert_eq!(found(&[7]), [(4, 2, Some(0), forms(&["0102", "9090"])), only_the_other_writes.clone()]);
    // Two such features: what only one of them makes of it is neither.
    assert_eq!(found(&[7, 9]), [(4, 2, Some(0), forms(&["0102", "9090", "????"])), only_the_other_writes]);
    assert_eq!(undetermined(&image(), &tables, &planned, None), []);
}
