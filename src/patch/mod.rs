//! Plan → text.

pub mod exercise;
mod kcore;
mod patched;
mod strings;
mod symbols;
mod whole;

use std::path::Path;

use crate::error::{Error, Result};
use crate::image::{Image, Section};
use crate::plan::Plan;

pub use patched::PatchedFile;
pub use whole::{Contents, write_file};

/// The whole unpacked image, an ELF file, as it is after the plan's writes.
pub fn image<'a>(image: &'a Image, plan: &'a Plan) -> Result<PatchedFile<'a>> {
    PatchedFile::of(image, plan)
}

/// As [`image()`], with a symbol table where the file has none and the image names symbols.
pub fn elf<'a>(image: &'a Image, plan: &'a Plan) -> Result<PatchedFile<'a>> {
    symbols::added(image, PatchedFile::of(image, plan)?)
}

/// As [`image()`], as a core file: what perf takes for `/proc/kcore`.
pub fn kcore<'a>(image: &'a Image, plan: &'a Plan) -> Result<PatchedFile<'a>> {
    kcore::made(image, PatchedFile::of(image, plan)?)
}

/// The raw bytes of `.text` as they are after the plan's writes; writes to other sections are left out.
pub fn text(image: &Image, plan: &Plan) -> Result<Vec<u8>> {
    let mut out = vec![0; text_len(image)?];
    text_into(image, plan, &mut out)?;
    Ok(out)
}

/// Saves what [`text()`] gives, which is nowhere whole meanwhile.
pub fn save_text(image: &Image, plan: &Plan, path: &Path) -> Result<()> {
    let section = text_section(image)?;
    let start = usize::try_from(section.offset).unwrap_or(usize::MAX);
    let changed = patched::Changed::in_section(image, section, plan)?;
    write_file(path, &mut |out| changed.write(start..start + image.section_bytes(section).len(), out))
}

fn text_section(image: &Image) -> Result<&Section> {
    image.section(".text").ok_or_else(|| Error::image("no section .text").in_file(image.name()))
}

/// How many bytes of `.text` the file has: what its header claims beyond them costs no memory.
pub fn text_len(image: &Image) -> Result<usize> {
    text_section(image).map(|section| image.section_bytes(section).len())
}

/// As [`text()`], into a buffer of [`text_len()`] bytes: whoever has one need not hold the text twice.
pub fn text_into(image: &Image, plan: &Plan, out: &mut [u8]) -> Result<()> {
    let section = text_section(image)?;
    let built = image.section_bytes(section);
    if built.len() != out.len() {
        return Err(Error::image(format!("{} bytes of room for .text", out.len())).in_file(image.name()));
    }
    out.copy_from_slice(built);
    write_into(image, section, plan, out)
}

/// Has the writes of a plan made in a section as built.
fn write_into(image: &Image, section: &Section, plan: &Plan, out: &mut [u8]) -> Result<()> {
    for write in plan.writes().iter().filter(|w| section.contains(w.address)) {
        let bytes = plan.bytes(write);
        let at = (write.address - section.address) as usize;
        let Some(place) = out.get_mut(at..at + bytes.len()) else {
            return Err(Error::table("a write leaves .text").at_address(write.address).in_file(image.name()));
        };
        place.copy_from_slice(bytes);
    }
    Ok(())
}
