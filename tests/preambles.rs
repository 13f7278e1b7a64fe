//! How far before their functions preambles are, read from images made for the purpose.
#![allow(clippy::unwrap_used)]

mod elfwriter;

use elfwriter::{ElfWriter, flags};
use pvops::image::{Bits, Image};
use pvops::insn;
use pvops::sites::{Preambles, Tables};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const TABLE: u64 = 0xffff_ffff_8300_0000;
const BRANCHES: u64 = 0xffff_ffff_8310_0000;

/// A row of a table: an address, relative to its place.
fn row(place: u64, to: u64) -> [u8; 4] {
    (to.wrapping_sub(place) as u32).to_le_bytes()
}

/// A kernel of two functions, this far behind their preambles, with callers that look this far, and some code.
fn tables(distance: usize, asked: &[u8], code: &[u8]) -> pvops::Result<Preambles> {
    let function = [&b"\xb8\x44\x33\x22\x11"[..], &vec![0x90; distance - 5], b"\xf3\x0f\x1e\xfa\xc3"].concat();
    let mut text = [function.clone(), function].concat();
    let preambles = [TEXT, TEXT + (distance + 5) as u64];
    let mut branches = Vec::new();
    for back in asked {
        text.extend(
            [b"\x41\xba\xbc\xcc\xdd\xee\x45\x03\x53", &[back.wrapping_neg()][..], b"\x74\x02\x0f\x0b"].concat(),
        );
        let site = TEXT + text.len() as u64;
        branches.extend(row(BRANCHES + branches.len() as u64, site));
        text.extend(insn::call(site, TEXT));
    }
    text.extend_from_slice(code);
    let rows: Vec<u8> = (TABLE..).step_by(4).zip(preambles).flat_map(|(place, site)| row(place, site)).collect();
    let file = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &text)
        .section(".cfi_sites", TABLE, flags::RODATA, &rows)
        .section(".retpoline_sites", BRANCHES, flags::RODATA, &branches);
    let image = Image::from_bytes("made", file.build()).unwrap();
    Tables::read(&image).map(|tables| tables.preambles)
}

#[test]
fn callers_tell_the_distance_and_without_them_the_nops() {
    for distance in [16, 32, 64] {
        let found = tables(distance, &[distance as u8 - 1; 3], b"").unwrap();
        assert_eq!(found, Preambles { built: distance as u64, sealed: None });
        assert_eq!(tables(distance, &[], b"").unwrap(), found);
    }
    // Callers have the last word.
    assert_eq!(tables(32, &[63], b"").unwrap().built, 64);
}

#[test]
fn the_code_that_seals_tells_what_the_kernel_takes_for_granted() {
    // movl $0,-63(%r14,%r12), movl $0,-63(%rbx), movl $0,-15(%rbx).
    let stores: [(&[u8], u64); 3] =
        [(b"\x43\xc7\x44\x26\xc1\0\0\0\0", 64), (b"\xc7\x43\xc1\0\0\0\0", 64), (b"\xc7\x43\xf1\0\0\0\0", 16)];
    for (store, distance) in stores {
        assert_eq!(tables(64, &[63], store).unwrap().sealed, Some(distance));
        assert_eq!(tables(16, &[15], store).unwrap().sealed, None, "nobody asks");
    }
    assert_eq!(tables(64, &[63], b"\xc7\x43\xc1\0\0\0\x01").unwrap().sealed, None, "another number");
    assert_eq!(tables(64, &[63], b"\x8b\x43\xc1\0\0\0\0").unwrap().sealed, None, "no store");
}

#[test]
fn callers_that_contradict_each_other_are_refused() {
    let error = tables(64, &[63, 15], b"").unwrap_err().to_string();
    let said = "its check looks for a hash 16 bytes before a function, those before 64";
    assert!(error.contains(said) && error.contains("row 1"), "{error}");
    let error = tables(16, &[3], b"").unwrap_err().to_string();
    assert!(error.contains("4 bytes before a function; a preamble has 16"), "{error}");
}
