//! Memory of a kernel that slid, and the code it was loaded with: both where it was linked, both as they stand in memory.
//!
//! A replacement that holds an absolute address is relocated where it lies, and then copied to its site: the site holds the
//! slide though no relocation names it. So code is judged as loaded, not as linked.

use std::borrow::Cow;
use std::ops::Range;

use super::counting::MAX_TEMPLATE;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::memory::{LinkedBytes, Location, Memory as Dump, is_read};
use crate::plan::{KernelCode, Landmarks, LoadedCode};
use crate::sites::data_in_text;

/// `.text` as a dump has it.
#[derive(Debug)]
pub struct Text<'m> {
    /// Its bytes; 0 where unread.
    pub bytes: Cow<'m, [u8]>,
    /// What could not be read, by linked address.
    pub unread: Vec<Range<u64>>,
}

/// All code of an image as loaded this far from where it was linked, before any pass. It is copied only where it slid.
pub fn code(image: &Image, slide: u64) -> Result<KernelCode<'_>> {
    // The template of what counts calls is data, copied into text as the rest of what is loaded.
    let template = Landmarks::of(image)?.call_template.and_then(|(start, end)| {
        let len = end.checked_sub(start).filter(|&len| len <= MAX_TEMPLATE)? as usize;
        Some((start, image.read(start, len)?))
    });
    if slide == 0 {
        let code = KernelCode::lent(image, None);
        return Ok(match template.filter(|&(start, _)| code.from(start).is_empty()) {
            Some((start, bytes)) => KernelCode::lent(image, Some((start, bytes.len()))),
            None => code,
        });
    }
    let mut code = LoadedCode::of(image);
    if let Some((start, bytes)) = template.filter(|&(start, _)| code.from(start).is_empty()) {
        code.add(start, bytes);
    }
    if let Some(relocations) = image.relocations()? {
        for field in relocations.all() {
            let width = field.kind.width();
            if let Ok(linked) = code.read(field.address, width) {
                let mut moved = linked.to_vec();
                field.kind.apply(&mut moved, slide);
                code.poke(field.address, &moved)?;
            }
        }
    }
    Ok(code)
}

/// What a dump holds of an image's `.text`, as it stands there; data in it are as the file has them: the kernel writes
/// those, and they are not judged.
pub fn text<'m>(dump: &'m Dump, found: &Location, image: &Image) -> Result<Text<'m>> {
    let mut text = held(dump, found, image)?;
    for data in data_in_text(image)? {
        let Some(section) = image.section(".text") else { break };
        let range = (data.start - section.address) as usize..(data.end - section.address) as usize;
        if let (Some(built), Some(held)) =
            (image.section_bytes(section).get(range.clone()), text.bytes.to_mut().get_mut(range))
        {
            held.copy_from_slice(built);
        }
    }
    Ok(text)
}

fn held<'m>(dump: &'m Dump, found: &Location, image: &Image) -> Result<Text<'m>> {
    let section = image.section(".text").ok_or_else(|| Error::image("no section .text").in_file(image.name()))?;
    let size = image.section_bytes(section).len() as u64;
    let range = section.address..section.address + size;
    if let Some(bytes) = found.lent(dump, image, range.clone()) {
        return Ok(Text { bytes: Cow::Borrowed(bytes), unread: Vec::new() });
    }
    let held = found.read(dump, image, range)?;
    raw(held, image, found.slide)
}

/// The bytes that were handed out as if the kernel had not slid, as they were.
fn raw(held: LinkedBytes, image: &Image, slide: u64) -> Result<Text<'static>> {
    let LinkedBytes { address, mut bytes, unread, strays } = held;
    let Some(relocations) = image.relocations()?.filter(|_| slide != 0) else {
        return Ok(Text { bytes: Cow::Owned(bytes), unread });
    };
    let end = address + bytes.len() as u64;
    let mut strays = strays.iter().map(|field| field.address).peekable();
    for field in relocations.touching(address, end) {
        if strays.next_if_eq(&field.address).is_some() {
            continue;
        }
        let Some(linked) = image.read(field.address, field.kind.width()) else { continue };
        if !is_read(&unread, field.address, field.end()) {
            continue;
        }
        let mut moved = linked.to_vec();
        field.kind.apply(&mut moved, slide);
        for (at, byte) in (field.address..).zip(moved) {
            if let Some(place) = at.checked_sub(address).and_then(|at| bytes.get_mut(at as usize)) {
                *place = byte;
            }
        }
    }
    Ok(Text { bytes: Cow::Owned(bytes), unread })
}
