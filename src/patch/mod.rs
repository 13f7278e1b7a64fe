//! Plan → text, and files that appear whole or not at all.

pub mod exercise;
mod kcore;
mod patched;
mod strings;
mod symbols;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::image::{Image, LargeBytes, Section};
use crate::plan::Plan;

pub use patched::PatchedFile;

/// The whole unpacked image, an ELF file, as it is after the plan's writes.
pub fn image<'a>(image: &'a Image, plan: &Plan) -> Result<PatchedFile<'a>> {
    PatchedFile::of(image, plan)
}

/// As [`image()`], with a symbol table where the file has none and the image names symbols.
pub fn elf<'a>(image: &'a Image, plan: &Plan) -> Result<PatchedFile<'a>> {
    symbols::added(image, PatchedFile::of(image, plan)?)
}

/// As [`image()`], as a core file: what perf takes for `/proc/kcore`.
pub fn kcore<'a>(image: &'a Image, plan: &Plan) -> Result<PatchedFile<'a>> {
    kcore::made(image, PatchedFile::of(image, plan)?)
}

/// The raw bytes of `.text` as they are after the plan's writes; writes to other sections are left out.
pub fn text(image: &Image, plan: &Plan) -> Result<Vec<u8>> {
    let mut out = vec![0; text_len(image)?];
    text_into(image, plan, &mut out)?;
    Ok(out)
}

/// As [`text()`], in huge pages.
pub fn large_text(image: &Image, plan: &Plan) -> Result<LargeBytes> {
    let section = text_section(image)?;
    let built = image.section_bytes(section);
    let mut out = LargeBytes::with_capacity(built.len());
    out.extend_from_slice(built);
    write_into(image, section, plan, &mut out)?;
    Ok(out)
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

/// Writes a file so that it appears whole or not at all: beside its place, under another name, then moved there.
///
/// What already stands there and is no regular file (a pipe, a device) is written to as it is. The bytes come in pieces.
pub fn write_file(path: &Path, pieces: &[&[u8]]) -> Result<()> {
    let placed = |e: io::Error| Error::io(&e).in_file(&path.display().to_string());
    let target = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Err(placed(io::ErrorKind::IsADirectory.into())),
        Ok(meta) if !meta.is_file() => {
            return OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|mut f| write_all(&mut f, pieces))
                .map_err(placed);
        }
        // A symbolic link stays one: what it points to is replaced.
        Ok(_) => fs::canonicalize(path).map_err(placed)?,
        Err(_) => path.to_owned(),
    };
    let (scratch, file) = scratch_beside(&target).map_err(placed)?;
    let written = fill(file, pieces, &target).and_then(|()| fs::rename(&scratch, &target));
    if written.is_err() {
        // The error to report is the first one.
        let _ = fs::remove_file(&scratch);
    }
    written.map_err(placed)
}

fn write_all(file: &mut File, pieces: &[&[u8]]) -> io::Result<()> {
    pieces.iter().try_for_each(|piece| file.write_all(piece))
}

fn fill(mut file: File, pieces: &[&[u8]], target: &Path) -> io::Result<()> {
    write_all(&mut file, pieces)?;
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
