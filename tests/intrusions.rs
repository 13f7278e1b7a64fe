//! Branches into the middle of a site: planted ones are found, and real kernels have none.
#![allow(clippy::expect_used)]

mod elfwriter;
mod kernels;

use elfwriter::{ElfWriter, flags};
use pvops::image::{Bits, Image};
use pvops::sites::{Intrusion, Tables, intrusions};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const TABLE: u64 = TEXT + 0x10_0000;
const SITE: u64 = TEXT + 0x100;

/// A kernel with one return site of five bytes, and this code at an offset.
fn planted(at: usize, code: &[u8]) -> Vec<Intrusion> {
    let mut text = vec![0x90; 0x400];
    text[0x100..0x105].copy_from_slice(b"\xe9\x40\x00\x00\x00");
    text[at..at + code.len()].copy_from_slice(code);
    let row = (SITE.wrapping_sub(TABLE) as u32).to_le_bytes();
    let file = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &text)
        .section(".return_sites", TABLE, flags::RODATA, &row)
        .build();
    let image = Image::from_bytes("planted", file).expect("it opens");
    let tables = Tables::read(&image).expect("a valid table");
    intrusions(&image, &tables)
}

#[test]
fn a_planted_branch_of_every_kind_is_found() {
    let found = |at: usize, code: &[u8], to: u64| {
        let intrusion = Intrusion { from: TEXT + at as u64, to, site_address: SITE };
        assert_eq!(planted(at, code), [intrusion], "{code:x?}");
    };
    found(0xf0, b"\xeb\x0f", SITE + 1);
    found(0xf0, b"\x74\x12", SITE + 4);
    found(0xf0, b"\xe2\x10", SITE + 2);
    found(0xf0, b"\xe3\x10", SITE + 2);
    found(0xf0, b"\xe8\x0c\x00\x00\x00", SITE + 1);
    found(0xf0, b"\x2e\xe9\x0b\x00\x00\x00", SITE + 1);
    found(0x200, b"\x0f\x84\xfb\xfe\xff\xff", SITE + 1);
    // At both ends of the section.
    found(0, b"\xe9\xfe\x00\x00\x00", SITE + 3);
    found(0x3fb, b"\xe8\x02\xfd\xff\xff", SITE + 2);
}

#[test]
fn branches_to_the_ends_of_a_site_and_operands_that_look_like_one_are_none() {
    assert_eq!(planted(0xf0, b"\xeb\x0e"), []);
    assert_eq!(planted(0xf0, b"\xeb\x13"), []);
    // mov $0x90900feb, %eax
    assert_eq!(planted(0xef, b"\xb8\xeb\x0f\x90\x90"), []);
}

#[test]
fn real_kernels_have_no_branch_into_the_middle_of_a_site() {
    for path in kernels::kernels() {
        let image = Image::open(&path).expect("a real kernel opens");
        let tables = Tables::read(&image).expect("real tables are valid");
        let found = intrusions(&image, &tables);
        assert!(found.is_empty(), "{}: {} {found:x?}", path.display(), found.len());
    }
}
