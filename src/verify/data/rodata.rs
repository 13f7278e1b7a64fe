//! `.rodata` held to the file: constants, tables of pointers such as the system call table, and what is constant after init.

use std::ops::Range;

use crate::error::Result;
use crate::image::Image;
use crate::memory::{Location, Memory};

/// What lies in `.rodata` and is written at boot: from one symbol to the other (`RO_AFTER_INIT_DATA` of
/// `include/asm-generic/vmlinux.lds.h`). Jump labels and static calls are in it, sorted.
const WRITTEN: (&str, &str) = ("__start_ro_after_init", "__end_ro_after_init");
/// How much is compared at a time.
const CHUNK: u64 = 1 << 20;
/// Wrong bytes that are no farther apart than this are one run: a pointer's may agree with those that were there.
const JOINED: usize = 8;
/// So many runs are named.
const NAMED: usize = 1000;

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
    /// Where it begins, and where it ends.
    pub range: Range<u64>,
    /// Where they differ, by address: the first of them, where there are very many.
    pub changed: Vec<Changed>,
    /// How many bytes differ.
    pub wrong: u64,
    /// What could not be read.
    pub unread: Vec<Range<u64>>,
    /// What the kernel writes at boot, and is not judged.
    pub written: Range<u64>,
}

/// Holds `.rodata` to the file; the reason, where the image does not say what of it the kernel writes.
///
/// # Errors
/// Memory that cannot be read.
pub fn rodata(memory: &Memory, found: &Location, image: &Image) -> Result<std::result::Result<Rodata, String>> {
    let Some(section) = image.section(".rodata").filter(|section| section.bits_present) else {
        return Ok(Err("the image has no section .rodata".to_owned()));
    };
    let whole = section.address..section.address + image.section_bytes(section).len() as u64;
    let symbols = image.symbols()?;
    let bound = |name: &str| symbols.and_then(|symbols| symbols.address_of(name));
    // Where kallsyms lists no data: RO_DATA puts `*(.rodata)`, which has kallsyms in it, before what is written.
    let kallsyms = || symbols?.tables_end().filter(|at| whole.contains(at));
    let (start, end) = match (bound(WRITTEN.0), bound(WRITTEN.1)) {
        (Some(start), Some(end)) => (start, end),
        _ => match kallsyms() {
            Some(start) => (start, whole.end),
            None => {
                return Ok(Err(format!(
                    "the image does not name {} and {}, between which it is written",
                    WRITTEN.0, WRITTEN.1
                )));
            }
        },
    };
    let written = start.clamp(whole.start, whole.end)..end.clamp(whole.start, whole.end);
    let mut rodata = Rodata { range: whole.clone(), written: written.clone(), ..Rodata::default() };
    for part in [whole.start..written.start, written.end.max(written.start)..whole.end] {
        let mut at = part.start;
        while at < part.end {
            let end = part.end.min(at + CHUNK);
            chunk(memory, found, image, at..end, &mut rodata)?;
            at = end;
        }
    }
    Ok(Ok(rodata))
}

fn chunk(memory: &Memory, found: &Location, image: &Image, range: Range<u64>, rodata: &mut Rodata) -> Result<()> {
    let mut held = found.read(memory, image, range.clone())?;
    held.settle(found, image, |_| false);
    let Some(built) = image.read(range.start, held.bytes.len()) else { return Ok(()) };
    rodata.size += built.len() as u64;
    if held.bytes != built {
        let there = |at: usize| {
            let address = range.start + at as u64;
            !held.unread.iter().any(|gap| gap.contains(&address))
        };
        let mut runs: Vec<Range<usize>> = Vec::new();
        for at in (0..built.len()).filter(|&at| held.bytes[at] != built[at] && there(at)) {
            rodata.wrong += 1;
            match runs.last_mut() {
                Some(last) if at - last.end < JOINED => last.end = at + 1,
                _ => runs.push(at..at + 1),
            }
        }
        let room = NAMED.saturating_sub(rodata.changed.len());
        rodata.changed.extend(runs.into_iter().take(room).map(|run| Changed {
            address: range.start + run.start as u64,
            expected: built[run.clone()].to_vec(),
            found: held.bytes[run].to_vec(),
        }));
    }
    rodata.unread.extend(held.unread);
    Ok(())
}
