//! What lies among the data that the kernel writes, and is as it was built all the same: ORC's tables, the table of bugs but
//! for one flag, and pointers to functions in what is read-only after boot.
//!
//! | where | held to |
//! |---|---|
//! | `.orc_header`, `.orc_unwind_ip`, `.orc_unwind` | the file, where the build sorted them (since 5.6, 57fa18994285; unwind_init() did at boot before) |
//! | `.orc_lookup` | what unwind_init() makes of these |
//! | `__bug_table` | the file; a `WARN_ONCE()` that came has `BUGFLAG_DONE` (__report_bug() of lib/bug.c, since 4.12) |
//! | between `__start_ro_after_init` and `__end_ro_after_init` | what the file has as the address of code is that of code, or 0 |

use super::pointers::pointers;
use super::rodata::{Rodata, compare};
use crate::error::Result;
use crate::image::{Image, Section};
use crate::memory::{Location, Memory};
use crate::numbers::i32_at;
use crate::sites::reserved;

const ORC: [&str; 3] = [".orc_header", ".orc_unwind_ip", ".orc_unwind"];
/// What `unwind_init()` fills, and how much code each of its rows is for (`LOOKUP_BLOCK_SIZE`).
const LOOKUP: &str = ".orc_lookup";
const BLOCK: u64 = 256;
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
        lookup(memory, found, image, rodata)?;
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

/// Whether ORC's table of addresses is in order.
fn sorted(table: &[u8]) -> bool {
    places(table).is_sorted()
}

/// The addresses in ORC's table, from its start: each row is relative to itself.
fn places(table: &[u8]) -> impl Iterator<Item = i64> + '_ {
    table.chunks_exact(4).enumerate().map(|(at, row)| i32_at(row, 0).map_or(0, i64::from) + 4 * at as i64)
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
    rodata.judged.push(section.address..section.end());
    compare(held, built, rodata);
    Ok(())
}

/// Pointers in what is written at boot: what was built as the address of code still is, or was set to nothing.
fn functions(memory: &Memory, found: &Location, image: &Image, rodata: &mut Rodata) -> Result<()> {
    let pointers = pointers(memory, found, image, rodata.written.clone(), true)?;
    rodata.pointers = pointers.count;
    let bytes = |address: u64| address.to_le_bytes()[..image.bits().word()].to_vec();
    for stray in pointers.strays {
        rodata.changed(stray.address, &bytes(stray.built), &bytes(stray.found));
    }
    Ok(())
}

/// Holds `.orc_lookup` to what `unwind_init()` makes of the sorted tables: for each block of code the last row that begins
/// at its start or before (arch/x86/kernel/unwind_orc.c, since ee9f8fce9964 of 4.14).
fn lookup(memory: &Memory, found: &Location, image: &Image, rodata: &mut Rodata) -> Result<()> {
    let (Some(ip), Some(lookup), Some(text)) = (image.section(ORC[1]), image.section(LOOKUP), image.section(".text"))
    else {
        return Ok(());
    };
    let named =
        |name: &str| Ok::<_, crate::error::Error>(image.symbols()?.and_then(|symbols| symbols.address_of(name)));
    let (start, stop) = (named("_stext")?.unwrap_or(text.address), named("_etext")?.unwrap_or(text.end()));
    let rows: Vec<u64> = places(image.section_bytes(ip)).map(|place| ip.address.wrapping_add(place as u64)).collect();
    let blocks = (lookup.size / 4).checked_sub(1);
    let there = image.section_bytes(text).len() as u64;
    let inside = start >= text.address && stop.saturating_sub(text.address) <= there;
    let fits = inside && blocks == Some(stop.saturating_sub(start).div_ceil(BLOCK));
    let Some(blocks) = blocks.filter(|_| fits && !rows.is_empty()) else { return Ok(()) };
    let last = |address: u64| rows.partition_point(|&row| row <= address).saturating_sub(1) as u32;
    let starts = (0..blocks).map(|block| start + block * BLOCK).chain([stop]);
    let made: Vec<u8> = starts.flat_map(|address| last(address).to_le_bytes()).collect();
    let held = found.read(memory, image, lookup.address..lookup.address + made.len() as u64)?;
    rodata.tables.push(LOOKUP.to_owned());
    rodata.judged.push(lookup.address..lookup.end());
    compare(held, &made, rodata);
    Ok(())
}
