//! The tables of segments of CPUs: those that the file has are as in the file, and of others the kernel makes but a few.
//!
//! | descriptor | what it may be |
//! |---|---|
//! | one that `gdt_page` of the file has | that one (arch/x86/kernel/cpu/common.c); on i386, where bases and limits are written, of its type and privilege |
//! | another of code or data | one of user space: `set_thread_area()`, `modify_ldt()`, the CPU's number for `getcpu()` |
//! | another of the system's | in the global table a task's state or a local table |
//!
//! So no call gate is in any table: by one, user space would enter the kernel where the gate says.

use super::heard::{Disagreement, Heard};
use crate::error::Result;
use crate::image::{Bits, Image};
use crate::memory::{Location, Memory, SegmentTable, segment_tables};
use crate::numbers::u64_at;

/// The table of the file, among the per-CPU data.
const BUILT: &str = "gdt_page";
/// Set by the CPU when it uses a segment.
const ACCESSED: u64 = 1 << 40;
/// Type, kind, privilege and presence: what i386 leaves as it was built.
const ACCESS: u64 = 0xff << 40;
const PRESENT: u64 = 1 << 47;
/// Code or data, not the system's.
const ORDINARY: u64 = 1 << 44;
/// Types of the system's descriptors: a local table, the state of a task, and that of one that runs.
const OF_SYSTEM: [u64; 3] = [2, 9, 0xb];
/// The privilege of user space.
const USER: u64 = 3;
/// Of a selector: the table is the local one.
const LOCAL: u64 = 1 << 2;

/// Names the descriptors that no kernel makes.
pub(super) fn judge((memory, found, image): (&Memory, &Location, &Image), heard: &mut Heard) -> Result<()> {
    let built = image.symbols()?.and_then(|symbols| symbols.address_of(BUILT));
    let mut count = 0;
    segment_tables(memory, found, image, &mut |table| {
        let file: Vec<u64> = match built.filter(|_| !table.local) {
            Some(built) => {
                let bytes = image.read(built, table.words.len() * 8).unwrap_or_default();
                (0..bytes.len()).step_by(8).filter_map(|at| u64_at(bytes, at)).collect()
            }
            None => Vec::new(),
        };
        // Where the image does not name its table nothing is known of the kernel's own segments.
        let known = table.local || !file.is_empty();
        count += table.words.iter().filter(|&&word| word & PRESENT != 0).count() as u64;
        for (index, expected) in strange(table, &file, known, image.bits()) {
            let address = match built.filter(|_| !table.local) {
                Some(built) => built.wrapping_add(8 * index),
                None => table.base.wrapping_sub(found.slide).wrapping_add(8 * index) & image.bits().max_address(),
            };
            let selector = (8 * index) | if table.local { LOCAL } else { 0 };
            heard.disagreements.push(Disagreement {
                what: "segment",
                address,
                which: (table.cpu as u64) << 16 | selector,
                expected,
                found: table.words[index as usize],
            });
        }
    })?;
    heard.counts.extend((count > 0).then_some(("segment", count)));
    Ok(())
}

/// By index, the descriptors that may not be as they are, and what the file has.
fn strange(table: &SegmentTable, file: &[u64], known: bool, bits: Bits) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut index = 0;
    while let Some(&word) = table.words.get(index) {
        let built = file.get(index).copied().unwrap_or(0);
        let system = word & (ORDINARY | PRESENT) == PRESENT;
        let (kind, privilege) = (word >> 40 & 0xf, word >> 45 & 3);
        let legal = if built != 0 {
            let compared = if bits == Bits::B64 { !ACCESSED } else { ACCESS & !ACCESSED };
            (word ^ built) & compared == 0
        } else if system {
            !table.local && OF_SYSTEM.contains(&kind)
        } else {
            word & PRESENT == 0 || !known || privilege == USER
        };
        if !legal {
            found.push((index as u64, built));
        }
        // The system's take two words since 64 bits are.
        index += if built == 0 && system && bits == Bits::B64 { 2 } else { 1 };
    }
    found
}
