//! Plan → text, and files that appear whole or not at all.

pub mod exercise;
mod kcore;
mod patched;
mod strings;
mod symbols;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::image::{Image, Section};
use crate::plan::Plan;

pub use patched::PatchedFile;

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

/// Writes what a file is to hold.
pub type Contents<'a> = &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// Writes a file so that it appears whole or not at all: beside its place, under another name, then moved there.
///
/// What already stands there and is no regular file (a pipe, a device) is written to as it is. `contents` writes the bytes.
pub fn write_file(path: &Path, contents: Contents<'_>) -> Result<()> {
    let placed = |e: io::Error| Error::io(&e).in_file(&path.display().to_string());
    let target = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Err(placed(io::ErrorKind::IsADirectory.into())),
        Ok(meta) if !meta.is_file() => {
            return OpenOptions::new().write(true).open(path).and_then(|mut f| contents(&mut f)).map_err(placed);
        }
        // A symbolic link stays one: what it points to is replaced.
        Ok(_) => fs::canonicalize(path).map_err(placed)?,
        Err(_) => path.to_owned(),
    };
    let (scratch, file) = scratch_beside(&target).map_err(placed)?;
    let written = fill(file, contents, &target).and_then(|()| fs::rename(&scratch, &target));
    if written.is_err() {
        // The error to report is the first one.
        let _ = fs::remove_file(&scratch);
    }
    written.map_err(placed)
}

fn fill(mut file: File, contents: Contents<'_>, target: &Path) -> io::Result<()> {
    contents(&mut file)?;
    if let Ok(meta) = fs::metadata(target) {
        file.set_permissions(meta.permissions())?;
    }
    Ok(())
}

fn scratch_beside(target: &Path) -> io::Result<(PathBuf, File)> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let mut attempt = 0u32;
    loop {
        let scratch = target.with_file_name(format!(".{name}.{}.{attempt}.part", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&scratch) {
            Ok(file) => return Ok((scratch, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            Err(e) => return Err(e),
        }
    }
}
