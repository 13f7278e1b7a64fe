//! Pages of zeros share one packed page of a kdump: a search passes over them, and finds what lies between.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;

use elfwriter::packed::{KdumpWriter, Packing};
use memory_support::{MEMORY, Recipe};
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
