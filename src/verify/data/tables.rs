//! What lies among the data that the kernel writes, and is as it was built all the same: ORC's tables, the table of bugs but
//! for one flag, and pointers to functions in what is read-only after boot.
//!
//! | where | held to |
//! |---|---|
//! | `.orc_header`, `.orc_unwind_ip`, `.orc_unwind` | the file, where the build sorted them (since 5.6, 57fa18994285; unwind_init() did at boot before) |
//! | `__bug_table` | the file; a `WARN_ONCE()` that came has `BUGFLAG_DONE` (__report_bug() of lib/bug.c, since 4.12) |
//! | between `__start_ro_after_init` and `__end_ro_after_init` | what the file has as the address of code is that of code, or 0 |

use std::ops::Range;

use super::rodata::{Rodata, compare};
use crate::error::Result;
use crate::image::{Image, Section};
use crate::memory::{Location, Memory};
use crate::sites::reserved;

const ORC: [&str; 3] = [".orc_header", ".orc_unwind_ip", ".orc_unwind"];
const BUGS: &str = "__bug_table";
/// `BUGFLAG_ONCE` and `BUGFLAG_DONE` (include/asm-generic/bug.h).
const ONCE: u8 = 1 << 1;
const DONE: u8 = 1 << 2;

/// Holds all of them.
pub(super) fn judge(memory: &Memory, found: &Location, image: &Image, rodata: &mut Rodata) -> Result<()> {
    let table = |name: &str| image.section(name).filter(|section| section.bits_present && section.size > 0);
    if table(ORC[1]).is_some_and(|section| sorted(image.section_bytes(section))) {
        for section in ORC.iter().filter_map(|name| table(name)) {
            hold(memory, found, image, section, rodata, |_, _| ())?;
        }
    }
    if let Some(section) = table(BUGS)
        && let Some(row) = reserved::bug_row(image)
    {
        let flags = if row == 8 { 4 } else { row - 2 };
        let done = |built: &[u8], held: &mut [u8]| {
            for (built, held) in built.chunks_exact(row).zip(held.chunks_exact_mut(row)) {
                if built[flags] & ONCE != 0 {
                    held[flags] = held[flags] & !DONE | built[flags] & DONE;
                }
            }
        };
        hold(memory, found, image, section, rodata, done)?;
    }
    functions(memory, found, image, rodata)
}

/// Whether ORC's table of addresses is in order: each row is relative to itself.
fn sorted(table: &[u8]) -> bool {
    let row = |(at, row): (usize, &[u8])| {
        i64::from(row.first_chunk().map_or(0, |&word| i32::from_le_bytes(word))) + 4 * at as i64
    };
    table.chunks_exact(4).enumerate().map(row).is_sorted()
}

/// Holds a section to the file, once what the kernel may have written is put back.
fn hold(
    memory: &Memory,
    found: &Location,
    image: &Image,
    section: &Section,
    rodata: &mut Rodata,
    put_back: impl Fn(&[u8], &mut [u8]),
) -> Result<()> {
    let built = image.section_bytes(section);
    let range = section.address..section.address + built.len() as u64;
    let mut held = found.read(memory, image, range)?;
    held.settle(found, image, |_| false);
    if held.bytes.len() == built.len() {
        put_back(built, &mut held.bytes);
    }
    rodata.tables.push(section.name.clone());
    compare(held, built, rodata);
    Ok(())
}

/// Pointers in what is written at boot: what was built as the address of code still is, or was set to nothing.
fn functions(memory: &Memory, found: &Location, image: &Image, rodata: &mut Rodata) -> Result<()> {
    let Range { start, end } = rodata.written;
    let (word, most) = (image.bits().word(), image.bits().max_address());
    let Some(relocations) = image.relocations()? else { return Ok(()) };
    if start >= end {
        return Ok(());
    }
    let held = found.read(memory, image, start..end)?;
    let code = |address: u64| image.section_at(address).is_some_and(|section| section.executable);
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number: u64, &byte| number << 8 | u64::from(byte));
    for field in relocations.touching(start, end) {
        let inside = field.address >= start && field.end() <= end && field.kind.width() == word;
        let Some(built) = image.read(field.address, word).filter(|_| inside) else { continue };
        if !code(number(built)) || held.unread.iter().any(|gap| gap.start < field.end() && field.address < gap.end) {
            continue;
        }
        rodata.pointers += 1;
        let bytes = &held.bytes[(field.address - start) as usize..][..word];
        // What holds the linked address plus the slide was handed out as linked.
        if held.strays.binary_search_by_key(&field.address, |stray| stray.address).is_err() && bytes == built {
            continue;
        }
        let address = number(bytes).wrapping_sub(found.slide) & most;
        if number(bytes) != 0 && !code(address) {
            rodata.changed(field.address, built, &address.to_le_bytes()[..word]);
        }
    }
    Ok(())
}
