//! The paravirt sites of real kernels (`PVOPS_KERNELS`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kernels;

use kernels::kernel;
use pvops::image::{Bits, Image};
use pvops::sites::ParavirtTable;

fn table(image: &Image) -> ParavirtTable {
    ParavirtTable::read(image).expect("a real table is valid").expect("there is one")
}

#[test]
fn debian_5_10_amd64_has_calls_of_seven_bytes_two_jumps_of_six_and_a_last_row_cut_short() {
    let Some(image) = kernel("5.10.0-46-amd64") else { return };
    let table = table(&image);
    assert_eq!(table.sites.len(), 7577);
    let jumps: Vec<_> = table.sites.iter().filter(|s| s.branch.is_some_and(|b| b.jump)).collect();
    assert_eq!(jumps.iter().map(|s| s.len).collect::<Vec<_>>(), [6, 6]);
    assert!(table.sites.iter().filter(|s| s.branch.is_some_and(|b| !b.jump)).all(|s| s.len == 7));
    assert_eq!(image.section(".parainstructions").expect("the table").size % 16, 12);
    assert_eq!(table.ops_address(Bits::B64), Ok(0xffff_ffff_8263_3120));
}

#[test]
fn debian_5_10_i386_has_rows_of_eight_bytes() {
    let Some(image) = kernel("5.10.0-30-686-pae") else { return };
    let table = table(&image);
    assert_eq!((table.sites.len(), table.layout.stride), (3312, 8));
    assert_eq!(table.ops_address(Bits::B32), Ok(0xc1ac_1a40));
}

#[test]
fn debian_6_1_amd64_has_calls_of_six_bytes_and_a_clobbers_word_its_struct_no_longer_has() {
    let Some(image) = kernel("6.1.0-56-amd64") else { return };
    let table = table(&image);
    assert_eq!(table.sites.len(), 3848);
    assert!(table.sites.iter().all(|s| s.len == 6));
    let text = image.sections().iter().position(|s| s.name == ".text").expect(".text");
    assert_eq!(table.sites.iter().filter(|s| usize::from(s.section) == text).count(), 3676);
    let count = |clobbers| table.sites.iter().filter(|s| s.clobbers == Some(clobbers)).count();
    assert_eq!((count(1), count(0x1ff)), (2290, 1558));
    assert_eq!(table.ops_address(Bits::B64), Ok(0xffff_ffff_82a3_b680));
}

#[test]
fn debian_6_1_i386_has_265_rows() {
    let Some(image) = kernel("6.1.0-50-686-pae") else { return };
    let table = table(&image);
    assert_eq!(table.sites.len(), 265);
    assert_eq!(table.ops_address(Bits::B32), Ok(0xc1c6_e820));
}

#[test]
fn kernels_since_6_8_have_no_such_table() {
    for release in ["6.12.117+deb12-amd64", "7.2.13+deb14-amd64"] {
        let Some(image) = kernel(release) else { return };
        assert!(ParavirtTable::read(&image).expect("no table is no error").is_none());
    }
}
