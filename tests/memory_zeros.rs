//! Pages of zeros share one packed page of a kdump, and others do in one that makes much memory of few bytes: a search passes
//! over them, and finds what lies between.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;

use elfwriter::packed::{KdumpWriter, Packing};
use memory_support::{MEMORY, Recipe, noise};
use pvops::image::Bits;
use pvops::memory::Memory;

const SLIDE: u64 = 0x1240_0000;

#[test]
fn a_kernel_between_pages_of_zeros_is_found_wherever_it_lies() {
    let recipe = Recipe::new(Bits::B64);
    for physical in [0x20_0000, 0x40_0000, 0x40_3000, 0x1f_f000, 0x1000] {
        let dump = KdumpWriter::new(&recipe.memory(physical, SLIDE), Packing::Snappy).build();
        let memory = Memory::from_bytes("dump", dump).unwrap();
        let found = memory.find(&recipe.image(), &mut |_, _| Ok(())).unwrap();
        assert_eq!((found.physical, found.slide), (Some(physical), SLIDE), "{physical:#x}");
    }
}

/// A dump in which another page is packed once for all where zeros are.
fn crowded(memory: &[u8], page: &[u8]) -> Vec<u8> {
    let mut dump = KdumpWriter::new(memory, Packing::None).build();
    let bare = KdumpWriter::new(&vec![0; memory.len()], Packing::None).build().len() - page.len();
    let zeros = (bare..dump.len()).step_by(page.len()).find(|&at| dump[at..at + page.len()].iter().all(|&b| b == 0));
    dump[zeros.unwrap()..][..page.len()].copy_from_slice(page);
    dump
}

#[test]
fn a_kernel_between_pages_that_are_one_in_the_file_is_found() {
    let (recipe, page) = (Recipe::new(Bits::B64), noise(3, 4096));
    for physical in [0x20_0000, 0x40_3000, 0x1000] {
        let dump = crowded(&recipe.memory(physical, SLIDE), &page);
        assert!(MEMORY > 16 * dump.len());
        let memory = Memory::from_bytes("dump", dump).unwrap();
        let found = memory.find(&recipe.image(), &mut |_, _| Ok(())).unwrap();
        assert_eq!((found.physical, found.slide), (Some(physical), SLIDE), "{physical:#x}");
    }
}

#[test]
fn of_pages_that_are_one_in_the_file_little_is_gone_through() {
    // One for all; each of several again and again.
    let (recipe, pages) = (Recipe::new(Bits::B64), noise(3, 8 * 4096));
    let one = crowded(&vec![0; 8 * MEMORY], &pages[..4096]);
    let mut several = crowded(&[&pages, &vec![0; 8 * MEMORY][..]].concat(), &pages[..4096]);
    let count = 8 * MEMORY / 4096 + 8;
    let table = several.len() - 9 * 4096 - 24 * count;
    let first = several[table..table + 8 * 24].to_vec();
    for row in (table..table + 24 * count).step_by(8 * 24).take(count / 8) {
        several[row..row + 8 * 24].copy_from_slice(&first);
    }
    for dump in [one, several] {
        let memory = Memory::from_bytes("dump", dump).unwrap();
        let mut noted = 0;
        let error = memory.find(&recipe.image(), &mut |_, _| {
            noted += 1;
            Ok(())
        });
        assert!(error.unwrap_err().to_string().contains("no kernel"));
        assert!(noted <= 2, "{noted}");
    }
}

#[test]
fn of_nothing_but_zeros_little_is_gone_through() {
    let recipe = Recipe::new(Bits::B64);
    let dump = KdumpWriter::new(&vec![0; 8 * MEMORY], Packing::Zlib).build();
    let memory = Memory::from_bytes("dump", dump).unwrap();
    let mut noted = 0;
    let error = memory.find(&recipe.image(), &mut |_, _| {
        noted += 1;
        Ok(())
    });
    assert!(error.unwrap_err().to_string().contains("holds nothing but zeros"));
    // Once for each stretch that is read, of which there is one at the beginning.
    assert!(noted <= 2, "{noted}");
}
