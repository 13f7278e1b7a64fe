//! Files that a packed kernel lies in whole: a unified kernel image, and the program that unpacks a bzImage.

use std::ops::Range;

use super::section::Section;
use crate::error::{Error, Result};
use crate::numbers::{u16_at, u32_at};

/// Where a PE file says where its header is, which begins with [`PE`].
const PE_OFFSET: usize = 0x3c;
const PE: [u8; 4] = *b"PE\0\0";

/// Offsets in the PE header: how many sections there are, how long the optional header before their table is, and its start.
const SECTIONS: usize = 6;
const OPTIONAL_SIZE: usize = 20;
const OPTIONAL: usize = 24;

/// Size of a section's header, and what of it is read.
const SECTION_HEADER: usize = 40;
const VIRTUAL_SIZE: usize = 8;
const RAW_SIZE: usize = 16;
const RAW_OFFSET: usize = 20;

/// The section that a unified kernel image has its kernel in (the UAPI group's specification of such images).
const LINUX: [u8; 8] = *b".linux\0\0";

/// Where a unified kernel image has its kernel, checked against the file; `None` for anything else.
pub(super) fn in_unified(bytes: &[u8]) -> Option<Result<Range<usize>>> {
    let header = bytes.get(u32_at(bytes, PE_OFFSET)? as usize..)?;
    if !bytes.starts_with(b"MZ") || !header.starts_with(&PE) {
        return None;
    }
    let table = header.get(OPTIONAL + usize::from(u16_at(header, OPTIONAL_SIZE)?)..)?;
    let mut sections = table.chunks_exact(SECTION_HEADER).take(u16_at(header, SECTIONS)?.into());
    let section = sections.find(|section| section.starts_with(&LINUX))?;
    let offset = u32_at(section, RAW_OFFSET)? as usize;
    // In the file a section is filled up to a multiple of some size; in memory it is as long as the kernel.
    let size = match (u32_at(section, RAW_SIZE)?, u32_at(section, VIRTUAL_SIZE)?) {
        (raw, 0) => raw,
        (raw, size) => raw.min(size),
    } as usize;
    let end = offset.saturating_add(size);
    if end > bytes.len() {
        let length = bytes.len();
        let error = Error::image(format!("{size} bytes leave the file of {length} bytes (a unified kernel image)"));
        return Some(Err(error.in_section(".linux").at_offset(offset as u64)));
    }
    Some(Ok(offset..end))
}

/// Where `arch/x86/boot/compressed/vmlinux` has the kernel that it unpacks: the section into which `piggy.S` puts it, `.rodata..compressed`
/// (`.rodata.compressed` up to 2.6.34, `.data.compressed` before). `None` for any other ELF file.
pub(super) fn in_decompressor(sections: &[Section]) -> Option<Range<usize>> {
    let section = sections.iter().find(|section| section.bits_present && section.name.ends_with(".compressed"))?;
    let (start, size) = (usize::try_from(section.offset).ok()?, usize::try_from(section.size).ok()?);
    Some(start..start.checked_add(size)?)
}
