//! Where absolute addresses stand in a relocatable kernel, so that they can follow it to where it is loaded.
//!
//! A bzImage carries them behind the payload's ELF file (`vmlinux.relocs`, made by `arch/x86/tools/relocs.c`, used by
//! `handle_relocations()` of `arch/x86/boot/compressed/misc.c`): lists of the low 32 bits of addresses, each list headed by
//! a zero, because the kernel walks them from the end of the file backwards.
//!
//! | kernel | lists, in file order |
//! |---|---|
//! | i386 | 0, 32-bit fields |
//! | x86-64, up to 6.14 | 0, 64-bit fields, 0, fields relative to code that hold a per-CPU offset, 0, 32-bit fields |
//! | x86-64, since 6.15 | 0, 64-bit fields, 0, 32-bit fields |
//!
//! Which of the two an x86-64 kernel has is told by how many lists there are, and each list is held to what it must be:
//! ascending, every field in a section of the image, and most of what the fields hold an address of the image. A field of
//! per-CPU data that is linked at 0 is named by where that data is loaded.

use crate::error::{Error, Result};
use crate::image::opened::Image;
use crate::image::relocation::{Relocation, RelocationKind, Relocations, SECTION};
use crate::insn::Bits;
use crate::numbers::{i32_at, unsigned};

/// Reads the lists behind the ELF file; `None` where nothing follows it.
pub(super) fn read(image: &Image) -> Result<Option<Relocations>> {
    let trailer = image.trailer();
    if trailer.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let refuse = |reason: String| Err(Error::image(reason).in_section(SECTION));
    let (words, rest) = trailer.as_chunks::<4>();
    if !rest.is_empty() {
        return refuse(format!("{} bytes are no whole number of 32-bit words", trailer.len()));
    }
    let words: Vec<u32> = words.iter().map(|&word| u32::from_le_bytes(word)).collect();
    // The kernel reads from the end until each zero: what stands before the first zero is no relocation.
    let lists: Vec<&[u32]> = words.split(|&word| word == 0).collect();
    use RelocationKind::{Inverse32, Word32, Word64};
    let kinds: &[RelocationKind] = match (image.bits(), lists.len()) {
        (Bits::B32, 2) => &[Word32],
        (Bits::B64, 3) => &[Word64, Word32],
        (Bits::B64, 4) => &[Word64, Inverse32, Word32],
        (_, found) => return refuse(format!("{} lists are in no layout of this kind of kernel", found - 1)),
    };
    if !lists[0].is_empty() {
        return refuse("does not begin with a zero".to_owned());
    }
    let mut fields = Vec::with_capacity(words.len());
    let mut row = 0;
    for (&kind, list) in kinds.iter().zip(&lists[1..]) {
        row += 1;
        check_list(image, kind, list, row, &mut fields)?;
        row += list.len();
    }
    Relocations::new(fields).map(Some)
}

/// Checks one list and adds its fields. Rows count words from the start of the lists.
fn check_list(
    image: &Image,
    kind: RelocationKind,
    list: &[u32],
    first: usize,
    fields: &mut Vec<Relocation>,
) -> Result<()> {
    let (low, high) = image.bounds();
    let mut inside = 0usize;
    let mut last = None;
    // Runs of rows lie in one section: asking for it anew for each row would be most of the work.
    let mut section: Option<(u64, u64, &[u8])> = None;
    for (i, &word) in list.iter().enumerate() {
        let address = match image.bits() {
            Bits::B32 => u64::from(word),
            Bits::B64 => i64::from(word as i32) as u64,
        };
        let refuse = |reason: &str| Err(Error::image(reason).in_section(SECTION).at_row(first + i).at_address(address));
        if last.is_some_and(|last| last >= word) {
            return refuse("addresses do not ascend");
        }
        last = Some(word);
        if !section.is_some_and(|(start, end, _)| (start..end).contains(&address)) {
            let linked = image.section_at(address).map(|s| (s.address, s.end(), image.section_bytes(s)));
            section = linked.or_else(|| image.loaded_at(address));
        }
        let held = section.and_then(|(start, _, bytes)| {
            bytes.get(usize::try_from(address.checked_sub(start)?).ok()?..)?.get(..kind.width())
        });
        let Some(held) = held else { return refuse("field lies in no section with bytes") };
        let value = match kind {
            RelocationKind::Word32 if image.bits() == Bits::B64 => i32_at(held, 0).map(|word| i64::from(word) as u64),
            RelocationKind::Word64 | RelocationKind::Word32 => unsigned(held),
            RelocationKind::Inverse32 => None,
        };
        inside += usize::from(value.is_some_and(|value| (low..=high).contains(&value)));
        fields.push(Relocation { address, kind });
    }
    // A few are page-table entries and the like, which are physical.
    if kind != RelocationKind::Inverse32 && inside < list.len().div_ceil(2) {
        let reason =
            format!("only {inside} of {} fields of {} bytes hold an address of the image", list.len(), kind.width());
        return Err(Error::image(reason).in_section(SECTION).at_row(first));
    }
    Ok(())
}
