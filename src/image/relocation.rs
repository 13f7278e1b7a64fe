//! The fields that hold absolute addresses, and how they follow the kernel.

use crate::error::{Error, Result};
use crate::numbers::{u32_at, u64_at};

/// What errors call the lists.
pub(in crate::image) const SECTION: &str = "vmlinux.relocs";

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
        let extended = |slide: u32| i64::from(slide as i32) as u64;
        Some(match self {
            RelocationKind::Word64 => u64_at(found, 0)?.wrapping_sub(u64_at(linked, 0)?),
            RelocationKind::Word32 => extended(u32_at(found, 0)?.wrapping_sub(u32_at(linked, 0)?)),
            RelocationKind::Inverse32 => extended(u32_at(linked, 0)?.wrapping_sub(u32_at(found, 0)?)),
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
        fields.sort_by_key(|field| field.address);
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
