//! Where the kernel refuses probes: what its blacklist names, found by the code that reads it where kallsyms lists functions
//! alone.
#![allow(clippy::unwrap_used)]

mod elfwriter;

use elfwriter::{ElfWriter, flags};
use pvops::image::{Bits, Image};
use pvops::sites::Reserved;

const TEXT: u32 = 0xc100_0000;
const INIT: u32 = 0xc200_0000;
/// The functions, at `STEP` from one to the next.
const FUNCTIONS: [&str; 5] = ["plain", "listed", "init_kprobes", "also_listed", "last"];
const STEP: u32 = 0x20;
/// The list in the data that are freed, between initcalls and numbers.
const LIST: u32 = INIT + 8;

fn at(name: &str) -> u32 {
    TEXT + STEP * FUNCTIONS.iter().position(|&function| function == name).unwrap() as u32
}

/// A kernel of 32 bits whose `init_kprobes()` has the addresses of these two ends: `mov $start,%ebx; cmp $stop,%ebx; ret`.
fn kernel(ends: (u32, u32), list: [u32; 2]) -> Image {
    let mut text = vec![0x90; STEP as usize * FUNCTIONS.len()];
    let code = [&b"\xbb"[..], &ends.0.to_le_bytes(), b"\x81\xfb", &ends.1.to_le_bytes(), b"\xc3"].concat();
    text[(at("init_kprobes") - TEXT) as usize..][..code.len()].copy_from_slice(&code);
    let words = [at("plain"), at("last"), list[0], list[1], at("last"), 7];
    let init: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut writer = ElfWriter::new(Bits::B32).section(".text", TEXT.into(), flags::TEXT, &text).section(
        ".init.data",
        INIT.into(),
        flags::DATA,
        &init,
    );
    for name in FUNCTIONS {
        writer = writer.symbol(name, at(name).into(), 0, 'T');
    }
    Image::from_bytes("vmlinux", writer.build()).unwrap()
}

/// Which functions are refused.
fn refused(image: &Image) -> Vec<&'static str> {
    let reserved = Reserved::read(image).unwrap();
    FUNCTIONS.into_iter().filter(|name| reserved.refuses(u64::from(at(name)) + 3)).collect()
}

#[test]
fn the_blacklist_is_where_the_code_that_reads_it_has_its_ends() {
    let list = [at("listed"), at("also_listed")];
    assert_eq!(refused(&kernel((LIST, LIST + 8), list)), ["listed", "also_listed"]);
    // What is no list of functions is none.
    assert!(refused(&kernel((LIST, LIST + 8), [at("listed"), at("also_listed") + 1])).is_empty());
    assert!(refused(&kernel((LIST, LIST + 6), list)).is_empty());
    assert!(refused(&kernel((LIST, LIST + 16), list)).is_empty());
    assert!(refused(&kernel((LIST, LIST), list)).is_empty());
    assert!(refused(&kernel((LIST, at("last")), list)).is_empty(), "one end alone is in what is freed");
}
