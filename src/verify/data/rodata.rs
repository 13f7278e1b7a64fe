//! `.rodata` held to the file: constants, tables of pointers such as the system call table; and the sections that the linker
//! puts behind it, among them `__ex_table`, `__ksymtab` and `__param` (`RO_DATA` of `include/asm-generic/vmlinux.lds.h`).

use std::ops::Range;

use super::strings::end_of_strings;
use crate::error::Result;
use crate::image::{Image, Section};
use crate::memory::{LinkedBytes, Location, Memory, is_read};
use crate::numbers::i32_at;
use crate::sites::{SortedTable, sorted};

/// What lies in `.rodata` and is written at boot: from one symbol to the other (`RO_AFTER_INIT_DATA` of
/// `include/asm-generic/vmlinux.lds.h`). Jump labels and static calls are in it, sorted.
const WRITTEN: (&str, &str) = ("__start_ro_after_init", "__end_ro_after_init");
/// Where read-only data end.
const END: &str = "__end_rodata";
/// How much is compared at a time.
const CHUNK: u64 = 1 << 20;
/// Wrong bytes that are no farther apart than this are one run: a pointer's may agree with those that were there.
const JOINED: usize = 8;
/// So many runs are named.
const NAMED: usize = 1000;

/// What `set_rdt_options()` is given on Skylake's servers of stepping 4 and below (arch/x86/kernel/cpu/resctrl/core.c, since 4.14),
/// and cuts at its commas with strsep(), where it stands.
const CUT: &[u8] = b"\0!cmt,!mbmtotal,!mbmlocal,!l3cat\0";

/// Constants that are not what the file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The first byte that differs.
    pub address: u64,
    /// What the file has, moved as the kernel moved.
    pub expected: Vec<u8>,
    /// What memory has.
    pub found: Vec<u8>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rodata {
    /// How many bytes were held to the file.
    pub size: u64,
    /// Where it begins, and where the last of the sections ends.
    pub range: Range<u64>,
    /// Where they differ, by address: the first of them, where there are very many.
    pub changed: Vec<Changed>,
    /// How many bytes differ.
    pub wrong: u64,
    /// What could not be read.
    pub unread: Vec<Range<u64>>,
    /// What the kernel writes at boot, and is not judged, but for pointers to functions.
    pub written: Range<u64>,
    /// How many such pointers were looked at.
    pub pointers: u64,
    /// What of it was held to the file: each vDSO.
    pub vdso: Vec<Range<u64>>,
    /// Sections elsewhere that were held to the file too.
    pub tables: Vec<String>,
    /// All that was held to something, section by section; what is in `written` aside.
    pub judged: Vec<Range<u64>>,
}

/// Holds `.rodata` to the file; the reason, where the image does not say what of it the kernel writes.
///
/// # Errors
/// Memory that cannot be read.
pub(super) fn hold(memory: &Memory, found: &Location, image: &Image) -> Result<std::result::Result<Rodata, String>> {
    let Some(section) = image.section(".rodata").filter(|section| section.bits_present) else {
        return Ok(Err("the image has no section .rodata".to_owned()));
    };
    let whole = section.address..section.address + image.section_bytes(section).len() as u64;
    let symbols = image.symbols()?;
    let bound = |name: &str| symbols.and_then(|symbols| symbols.address_of(name));
    let kallsyms = || symbols?.tables_end().filter(|at| whole.contains(at));
    let (start, end) = match (bound(WRITTEN.0), bound(WRITTEN.1)) {
        (Some(start), Some(end)) => (start, end),
        _ => match kallsyms() {
            Some(start) => unnamed(image, section, start)?,
            None => {
                return Ok(Err(format!(
                    "the image does not name {} and {}, between which it is written",
                    WRITTEN.0, WRITTEN.1
                )));
            }
        },
    };
    let written = start.clamp(whole.start, whole.end)..end.clamp(whole.start, whole.end);
    let behind = behind(image, whole.end, bound(END));
    let end = behind.last().map_or(whole.end, |last| last.end);
    let judged = [whole.clone()].into_iter().chain(behind.iter().cloned()).collect();
    let cut = cut(memory, found, image, section)?;
    let mut rodata = Rodata { range: whole.start..end, written: written.clone(), judged, ..Rodata::default() };
    for part in [whole.start..written.start, written.end.max(written.start)..whole.end].into_iter().chain(behind) {
        let mut at = part.start;
        while at < part.end {
            let end = part.end.min(at + CHUNK);
            chunk((memory, found, image), at..end, cut.as_ref(), &mut rodata)?;
            at = end;
        }
    }
    Ok(Ok(rodata))
}

/// Where what is written begins and ends at the most, where kallsyms lists no data: RO_DATA puts `*(.rodata)`, which has
/// kallsyms in it, and `*(.rodata.*)`, in which strings are, before it; and its last are the tables that the kernel sorts.
fn unnamed(image: &Image, section: &Section, kallsyms: u64) -> Result<(u64, u64)> {
    let inside = |table: &SortedTable| table.start >= kallsyms && section.contains(table.start);
    let tables: Vec<SortedTable> = sorted(image)?.into_iter().filter(inside).collect();
    let first = tables.iter().map(|table| table.start).min();
    let last = tables.iter().map(|table| table.start + table.size as u64).max();
    let (Some(first), Some(last)) = (first, last) else { return Ok((kallsyms, section.end())) };
    let before = image.read(kallsyms, (first - kallsyms) as usize).unwrap_or_default();
    Ok((kallsyms + end_of_strings(before) as u64, last))
}

/// The sections behind `.rodata` that stay as they are linked, by address: up to the end of what is read-only, or to `.data`.
fn behind(image: &Image, start: u64, end: Option<u64>) -> Vec<Range<u64>> {
    let data = image.section(".data").map(|section| section.address);
    let Some(end) = end.or(data).filter(|&end| end > start) else { return Vec::new() };
    let constant = |section: &&Section| {
        let inside = section.address >= start && section.end() <= end && section.size > 0;
        // sort_main_extable() sorts it at boot where the build did not.
        let stays = section.name != "__ex_table" || is_sorted(image.section_bytes(section));
        inside && section.allocated && section.bits_present && !section.executable && stays
    };
    let mut found: Vec<_> = image.sections().iter().filter(constant).map(|s| s.address..s.end()).collect();
    found.sort_unstable_by_key(|range| range.start);
    found.dedup_by(|next, last| next.start < last.end);
    found
}

/// Whether a table of exceptions is sorted by where they happen: rows of three words of 32 bits, the first of them being
/// relative to itself (since 4.6; of two before).
fn is_sorted(table: &[u8]) -> bool {
    [12, 8].into_iter().any(|row| {
        let places = table
            .chunks_exact(row)
            .enumerate()
            .filter_map(|(at, row)| Some(i64::from(i32_at(row, 0)?) + (at * row.len()) as i64));
        table.len().is_multiple_of(row) && places.is_sorted()
    })
}

/// Where the string lies that was cut at its commas, if it was: at all of them.
fn cut(memory: &Memory, found: &Location, image: &Image, section: &Section) -> Result<Option<Range<u64>>> {
    let Some(at) = memchr::memmem::find(image.section_bytes(section), CUT) else { return Ok(None) };
    let start = section.address + at as u64;
    let range = start..start + CUT.len() as u64;
    let cut: Vec<u8> = CUT.iter().map(|&byte| if byte == b',' { 0 } else { byte }).collect();
    let held = found.read(memory, image, range.clone())?;
    Ok((held.bytes == cut).then_some(range))
}

fn chunk(
    (memory, found, image): (&Memory, &Location, &Image),
    range: Range<u64>,
    cut: Option<&Range<u64>>,
    rodata: &mut Rodata,
) -> Result<()> {
    let mut held = found.read(memory, image, range.clone())?;
    // walk_relocs() of relocs.c leaves notes as they are linked (since the fix of aaa8736370db, 2024, and in stable kernels of
    // then); a vmlinux with its relocation sections lists them all the same. So a note's field holds either.
    let notes = image.section(".notes").map(|section| section.address..section.end());
    held.settle(found, image, |field| notes.as_ref().is_some_and(|notes| notes.contains(&field.address)));
    let Some(built) = image.read(range.start, held.bytes.len()) else { return Ok(()) };
    for address in cut.into_iter().cloned().flatten().filter(|address| range.contains(address)) {
        let at = (address - range.start) as usize;
        held.bytes[at] = built[at];
    }
    compare(held, built, rodata);
    Ok(())
}

/// Notes where what memory holds differs from what was built.
pub(in crate::verify) fn compare(held: LinkedBytes, built: &[u8], rodata: &mut Rodata) {
    rodata.size += built.len() as u64;
    if held.bytes != built {
        let there = |at: usize| {
            let address = held.address + at as u64;
            is_read(&held.unread, address, address + 1)
        };
        let mut runs: Vec<Range<usize>> = Vec::new();
        for at in (0..built.len()).filter(|&at| held.bytes[at] != built[at] && there(at)) {
            match runs.last_mut() {
                Some(last) if at - last.end < JOINED => last.end = at + 1,
                _ => runs.push(at..at + 1),
            }
        }
        for run in runs {
            rodata.changed(held.address + run.start as u64, &built[run.clone()], &held.bytes[run]);
        }
    }
    rodata.unread.extend(held.unread);
}

impl Rodata {
    /// Notes a run that differs.
    pub(super) fn changed(&mut self, address: u64, expected: &[u8], found: &[u8]) {
        self.wrong += expected.iter().zip(found).filter(|(expected, found)| expected != found).count() as u64;
        if self.changed.len() < NAMED {
            self.changed.push(Changed { address, expected: expected.to_vec(), found: found.to_vec() });
        }
    }
}
