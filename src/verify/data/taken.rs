//! Which functions the kernel has the address of, to put it somewhere.
//!
//! | what has it | example |
//! |---|---|
//! | a field that moves with the kernel, in code or data | `mov $function,%rdi`; a table of functions |
//! | code, as a distance | `lea function(%rip),%rdi` |
//! | what is exported, as a distance: modules put it somewhere | `__ksymtab` (since 4.19; before, a field) |
//!
//! Lists of places are none: those of the tracer, and of functions that may have no probes.

use std::collections::HashMap;

use crate::error::Result;
use crate::image::{Bits, Image, Relocation};
use crate::numbers::{i32_at, unsigned};

const LISTS: [(&str, &str); 2] =
    [("__start_mcount_loc", "__stop_mcount_loc"), ("__start_kprobe_blacklist", "__stop_kprobe_blacklist")];
const OF_THE_TRACER: &str = "__mcount_loc";
const EXPORTED: &str = "__ksymtab";
/// `lea` of a distance: its first byte, and the second but for the register.
const LEA: u8 = 0x8d;
const NEAR: (u8, u8) = (0xc7, 0x05);

/// Says of each of these functions whether it is one.
pub(super) fn taken(image: &Image, functions: impl Iterator<Item = u64>) -> Result<HashMap<u64, bool>> {
    let mut taken: HashMap<u64, bool> = functions.map(|function| (function, false)).collect();
    let Some(relocations) = image.relocations()?.filter(|_| !taken.is_empty()) else { return Ok(taken) };
    let symbols = image.symbols()?;
    let named = |name: &str| symbols.and_then(|symbols| symbols.address_of(name));
    let bounds = LISTS.map(|(start, end)| named(start).zip(named(end)));
    let listed = |address: u64| bounds.iter().flatten().any(|&(start, end)| (start..end).contains(&address));
    let present = image.sections().iter().filter(|section| section.bits_present && section.name != OF_THE_TRACER);
    for section in present {
        let mut take = |address: Option<u64>| {
            if let Some(taken) = address.and_then(|address| taken.get_mut(&address)) {
                *taken = true;
            }
        };
        let fields = relocations.touching(section.address, section.end());
        fields.iter().filter(|field| !listed(field.address)).for_each(|field| take(value(image, field)));
        let bytes = image.section_bytes(section);
        let near = |at: usize, behind: usize| {
            let distance = i64::from(i32_at(bytes, at)?);
            Some((section.address + (at + behind) as u64).wrapping_add(distance as u64) & image.bits().max_address())
        };
        if section.name.starts_with(EXPORTED) {
            (0..bytes.len()).step_by(4).for_each(|at| take(near(at, 0)));
        } else if section.executable && image.bits() == Bits::B64 {
            let leas = memchr::memchr_iter(LEA, bytes);
            let near_ones = leas.filter(|&at| bytes.get(at + 1).is_some_and(|mode| mode & NEAR.0 == NEAR.1));
            near_ones.for_each(|at| take(near(at + 2, 4)));
        }
    }
    Ok(taken)
}

/// The address that a field of the image holds.
pub(super) fn value(image: &Image, field: &Relocation) -> Option<u64> {
    let bytes = image.read(field.address, field.kind.width())?;
    match bytes.len() {
        4 if image.bits() == Bits::B64 => i32_at(bytes, 0).map(|word| i64::from(word) as u64),
        _ => unsigned(bytes),
    }
}
