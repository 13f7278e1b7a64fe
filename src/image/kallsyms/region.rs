//! Where kallsyms are looked for, read as tables of a machine's words, and the bounds of any real kernel's.

use crate::error::Error;
use crate::numbers::unsigned;

/// `KSYM_NAME_LEN` (include/linux/kallsyms.h, since 6.1; 128 before): a name is shorter than this.
pub const MAX_NAME: usize = 512;

/// More symbols than any kernel has (about 200,000 in a distribution's, a million with everything built in).
pub const MAX_SYMBOLS: usize = 4 << 20;

/// Most bytes that all names together may take.
pub(super) const MAX_NAMES: usize = 64 << 20;

/// Most token tables looked into in one region, and most readings of the names for one of them. An honest image has one.
pub(super) const MAX_CANDIDATES: usize = 16;

/// Most steps (names walked, places tried) that a search may take before it gives up; an honest image needs 1 % of it.
pub(super) const MAX_STEPS: u64 = 1 << 26;

/// One section with contents, as it lies in the kernel's address space.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a> {
    /// Its name, for messages, and because `.rodata` is searched first.
    pub name: &'a str,
    /// Where it is linked.
    pub address: u64,
    /// What is in it.
    pub bytes: &'a [u8],
    /// Whether it holds code; text symbols must lie in such a region.
    pub executable: bool,
}

/// A region, read as tables of a machine's words. Offsets are from the region's start.
pub(super) struct View<'a> {
    pub region: &'a Region<'a>,
    pub word: usize,
    /// Where tables may start: every word, or since 7.0, which has no table of words left, every 4 bytes.
    pub align: usize,
}

impl View<'_> {
    pub fn bytes(&self) -> &[u8] {
        self.region.bytes
    }

    /// The unsigned little-endian number of this many bytes (at most 8), if it lies within.
    pub fn number(&self, at: usize, size: usize) -> Option<u64> {
        unsigned(self.bytes().get(at..at.checked_add(size)?)?)
    }

    /// The table of this many entries of this many bytes, if it lies within.
    pub fn table(&self, at: usize, entries: usize, size: usize) -> Option<&[u8]> {
        self.bytes().get(at..at.checked_add(entries.checked_mul(size)?)?)
    }

    /// This size and the zeros up to where the next table may start.
    pub fn padded(&self, size: usize) -> usize {
        size.next_multiple_of(self.align)
    }

    /// The first offset at which a table may start.
    pub fn first(&self) -> usize {
        (self.region.address.wrapping_neg() % self.align as u64) as usize
    }

    /// Whether a table may start at this offset.
    pub fn aligned(&self, at: usize) -> bool {
        at % self.align == self.first()
    }

    /// Whether `from..to` is what an assembler puts before an aligned table: a few zeros.
    pub fn is_padding(&self, from: usize, to: usize) -> bool {
        self.bytes().get(from..to).is_some_and(|pad| pad.len() < self.align && pad.iter().all(|&b| b == 0))
    }

    pub fn address(&self, at: usize) -> u64 {
        self.region.address.wrapping_add(at as u64)
    }

    pub fn error(&self, at: usize, reason: impl Into<String>) -> Error {
        Error::image(reason).in_section(self.region.name).at_address(self.address(at))
    }
}
