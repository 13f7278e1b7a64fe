//! What runs as code and is in no section of code. What is behind `.text` on its last page is mapped as code; the kernel keeps
//! it as its file's segment has it, and frees pages that have nothing of `.text` (mark_rodata_ro() of arch/x86/mm/init_64.c).
//! The page of vsyscalls lies among the data, and every process may run it (arch/x86/entry/vsyscall, since 3.1).

use super::rodata::{Rodata, compare};
use crate::error::Result;
use crate::image::Image;
use crate::memory::{Location, Memory};

const PAGE: u64 = 4096;
/// What the report calls it.
const NAME: &str = "the rest of .text's last page";
const VSYSCALLS: (&str, &str) = ("__vsyscall_page", "the vsyscall page");

/// Holds both to the file.
pub(super) fn judge(memory: &Memory, found: &Location, image: &Image, rodata: &mut Rodata) -> Result<()> {
    if let Some(start) = image.symbols()?.and_then(|symbols| symbols.address_of(VSYSCALLS.0))
        && start.is_multiple_of(PAGE)
        && let Some(built) = image.read(start, PAGE as usize)
    {
        hold((memory, found, image), start, built, VSYSCALLS.1, rodata)?;
    }
    let Some(text) = image.section(".text").filter(|section| section.bits_present) else { return Ok(()) };
    let start = text.end();
    let behind = image.sections().iter().filter(|section| section.allocated && section.address >= start);
    let next = behind.map(|section| section.address).min().unwrap_or(start);
    let end = start.checked_next_multiple_of(PAGE).unwrap_or(start).min(next);
    let Some(built) = image.read_loaded(start, (end - start) as usize).filter(|built| !built.is_empty()) else {
        return Ok(());
    };
    hold((memory, found, image), start, built, NAME, rodata)
}

fn hold(
    (memory, found, image): (&Memory, &Location, &Image),
    start: u64,
    built: &[u8],
    name: &str,
    rodata: &mut Rodata,
) -> Result<()> {
    let range = start..start + built.len() as u64;
    let mut held = found.read(memory, image, range.clone())?;
    held.settle(found, image, |_| false);
    rodata.tables.push(name.to_owned());
    rodata.judged.push(range);
    compare(held, built, rodata);
    Ok(())
}
