//! What is behind `.text` on its last page: it is mapped as code, though no section has it. The kernel keeps it as its file's
//! segment has it; pages that have nothing of `.text` are freed (mark_rodata_ro() of arch/x86/mm/init_64.c).

use super::rodata::{Rodata, compare};
use crate::error::Result;
use crate::image::Image;
use crate::memory::{Location, Memory};

const PAGE: u64 = 4096;
/// What the report calls it.
const NAME: &str = "the rest of .text's last page";

/// Holds it to the file.
pub(super) fn judge(memory: &Memory, found: &Location, image: &Image, rodata: &mut Rodata) -> Result<()> {
    let Some(text) = image.section(".text").filter(|section| section.bits_present) else { return Ok(()) };
    let start = text.end();
    let behind = image.sections().iter().filter(|section| section.allocated && section.address >= start);
    let next = behind.map(|section| section.address).min().unwrap_or(start);
    let end = start.checked_next_multiple_of(PAGE).unwrap_or(start).min(next);
    let Some(built) = image.read_loaded(start, (end - start) as usize).filter(|built| !built.is_empty()) else {
        return Ok(());
    };
    let mut held = found.read(memory, image, start..end)?;
    held.settle(found, image, |_| false);
    rodata.tables.push(NAME.to_owned());
    rodata.judged.push(start..end);
    compare(held, built, rodata);
    Ok(())
}
