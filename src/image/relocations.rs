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

use super::{Bits, Image};
use crate::error::{Error, Result};

/// What errors call the lists.
const SECTION: &str = "vmlinux.relocs";

/// How a field changes with the slide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RelocationKind {
    /// 8 bytes, an address: grows by the slide.
    Word64,
    /// 4 bytes, an address (sign-extended on x86-64): grows by the slide.
    Word32,
    /// 4 bytes, the distance from code, which moves, to a per-CPU offset, which does not: shrinks by the slide.
    Inverse32,
}

impl RelocationKind {
    /// How many bytes the field has.
    pub fn width(self) -> usize {
        match self {
            RelocationKind::Word64 => 8,
            RelocationKind::Word32 | RelocationKind::Inverse32 => 4,
        }
    }

    /// Adds the slide to a field, as the kernel does at boot. `field` has [`RelocationKind::width`] bytes.
    pub fn apply(self, field: &mut [u8], slide: u64) {
        match (self, field) {
            (RelocationKind::Word64, field) => {
                if let Some(field) = field.first_chunk_mut::<8>() {
                    *field = u64::from_le_bytes(*field).wrapping_add(slide).to_le_bytes();
                }
            }
            (kind, field) => {
                if let Some(field) = field.first_chunk_mut::<4>() {
                    let slide = if kind == RelocationKind::Inverse32 { slide.wrapping_neg() } else { slide };
                    *field = u32::from_le_bytes(*field).wrapping_add(slide as u32).to_le_bytes();
                }
            }
        }
    }

    /// What was added to a field between two of its contents. Of a 32-bit field the slide's low half is known, and
    /// sign-extended: kernels slide by less than 2 GiB.
    pub fn slide_between(self, linked: &[u8], found: &[u8]) -> Option<u64> {
        let half = |bytes: &[u8]| Some(u32::from_le_bytes(*bytes.first_chunk()?));
        let extended = |slide: u32| i64::from(slide as i32) as u64;
        Some(match self {
            RelocationKind::Word64 => {
                u64::from_le_bytes(*found.first_chunk()?).wrapping_sub(u64::from_le_bytes(*linked.first_chunk()?))
            }
            RelocationKind::Word32 => extended(half(found)?.wrapping_sub(half(linked)?)),
            RelocationKind::Inverse32 => extended(half(linked)?.wrapping_sub(half(found)?)),
        })
    }
}

/// One field that follows the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relocation {
    /// Where the field begins, as linked.
    pub address: u64,
    /// How wide it is, and which way it goes.
    pub kind: RelocationKind,
}

impl Relocation {
    /// The address behind its last byte.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.kind.width() as u64)
    }
}

/// The fields of an image that follow the kernel, by address; no two overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relocations(Vec<Relocation>);

impl Relocations {
    /// Sorts fields and checks that no two overlap.
    pub(super) fn new(mut fields: Vec<Relocation>) -> Result<Relocations> {
        // Sorted lists one after the other: a merge sort finds the runs.
        fields.sort();
        for (row, pair) in fields.windows(2).enumerate() {
            if pair[0].end() > pair[1].address {
                let reason = format!("field overlaps that at {:#x}", pair[0].address);
                return Err(Error::image(reason).in_section(SECTION).at_row(row + 1).at_address(pair[1].address));
            }
        }
        Ok(Relocations(fields))
    }

    /// All of them, by address.
    pub fn all(&self) -> &[Relocation] {
        &self.0
    }

    /// Those that have a byte in `start..end`.
    pub fn touching(&self, start: u64, end: u64) -> &[Relocation] {
        let from = self.0.partition_point(|field| field.end() <= start);
        let to = self.0.partition_point(|field| field.address < end);
        self.0.get(from..to).unwrap_or_default()
    }

    /// Moves bytes that were linked at `address` by a slide: every field that lies in them whole is changed as the kernel
    /// changes it at boot. The inverse of a slide is its negation.
    pub fn apply(&self, address: u64, bytes: &mut [u8], slide: u64) {
        let end = address.saturating_add(bytes.len() as u64);
        for field in self.touching(address, end) {
            let Some(at) = field.address.checked_sub(address).and_then(|at| usize::try_from(at).ok()) else { continue };
            if let Some(held) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..field.kind.width())) {
                field.kind.apply(held, slide);
            }
        }
    }
}

/// Reads the lists behind the ELF file; `None` where nothing follows it.
pub(super) fn behind(image: &Image) -> Result<Option<Relocations>> {
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
    // The kernel reads from the end until each zero: what stands before the first zero is nobody's.
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
            RelocationKind::Word64 => held.first_chunk().map(|&word| u64::from_le_bytes(word)),
            RelocationKind::Word32 => held.first_chunk().map(|&word| match image.bits() {
                Bits::B32 => u64::from(u32::from_le_bytes(word)),
                Bits::B64 => i64::from(i32::from_le_bytes(word)) as u64,
            }),
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
