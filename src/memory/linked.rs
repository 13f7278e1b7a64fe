//! What memory holds, as if the kernel had not slid.
//!
//! A field that the kernel relocated holds its linked content plus the slide. Where memory holds exactly that, the bytes
//! handed out are the linked ones, and nothing differs from the file. Where it does not, something wrote there: the kernel
//! (a call through an absolute address that became a direct call) or somebody else. Which, this room cannot know, so such
//! fields are handed out raw, and listed.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::image::{Image, Relocation, Relocations};

use super::location::Location;
use super::read::Memory;

/// What memory holds at a range of linked addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedBytes {
    /// The first address, as linked.
    pub address: u64,
    /// The bytes, as if the kernel had not slid, but for the fields in `strays`, which stand as memory has them; 0 where
    /// unread.
    pub bytes: Vec<u8>,
    /// What could not be read, by linked address.
    pub unread: Vec<Range<u64>>,
    /// Relocated fields that do not hold what the kernel's relocation left there. Each lies in the range with a byte at
    /// least, and was read whole.
    pub strays: Vec<Relocation>,
}

/// Whether all bytes of a range were read, by what could not be: by address, none overlapping.
pub(crate) fn is_read(unread: &[Range<u64>], start: u64, end: u64) -> bool {
    let after = unread.partition_point(|gap| gap.end <= start);
    unread.get(after).is_none_or(|gap| gap.start >= end)
}

impl LinkedBytes {
    /// Settles the strays that nothing overwrote on purpose, as far as `overwritten` knows: their bits are made to differ
    /// from the linked ones exactly where memory differs from the relocated ones. A field that was moved back to what the
    /// file holds differs then, and one flipped bit is one flipped bit.
    pub fn settle(&mut self, found: &Location, image: &Image, overwritten: impl Fn(&Relocation) -> bool) {
        let (address, bytes) = (self.address, &mut self.bytes);
        self.strays.retain(|field| {
            if overwritten(field) {
                return true;
            }
            let Some(linked) = image.read(field.address, field.kind.width()) else { return true };
            let mut moved = linked.to_vec();
            field.kind.apply(&mut moved, found.slide);
            for (i, (linked, moved)) in linked.iter().zip(&moved).enumerate() {
                let at = (field.address + i as u64).checked_sub(address).and_then(|at| bytes.get_mut(at as usize));
                if let Some(byte) = at {
                    *byte ^= linked ^ moved;
                }
            }
            false
        });
    }
}

/// The longest range that is read at a time: more than any kernel's image.
const LONGEST: u64 = 1 << 30;

impl Location {
    /// What memory holds at a range of linked addresses, as if the kernel had not slid.
    pub fn read(&self, memory: &Memory, image: &Image, range: Range<u64>) -> Result<LinkedBytes> {
        read(memory, image, self, range).map_err(|error| error.in_file(&memory.name))
    }

    /// What memory holds at a range of addresses of a kernel that did not slide, where it is; none where it has to be read.
    pub fn lent<'m>(&self, memory: &'m Memory, image: &Image, range: Range<u64>) -> Option<&'m [u8]> {
        let text = image.section(".text").map_or(0, |section| section.address);
        let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        if self.slide == 0 { memory.lent(self.place, text, range.start, len) } else { None }
    }
}

/// Reads a range of linked addresses.
fn read(memory: &Memory, image: &Image, found: &Location, range: Range<u64>) -> Result<LinkedBytes> {
    if range.end.checked_sub(range.start).is_none_or(|size| size > LONGEST) {
        let reason = format!("{:#x} to {:#x} is no range of an image", range.start, range.end);
        return Err(Error::memory(reason).at_address(range.start));
    }
    let none = Relocations::default();
    let relocations = if found.slide == 0 { &none } else { image.relocations()?.unwrap_or(&none) };
    let fields = relocations.touching(range.start, range.end);
    // Fields that cross an end of the range are read whole, and cut afterwards.
    let low = fields.first().map_or(range.start, |field| field.address.min(range.start));
    let high = fields.last().map_or(range.end, |field| field.end().max(range.end));
    let mut bytes = vec![0; usize::try_from(high.saturating_sub(low)).unwrap_or(usize::MAX)];
    let text = image.section(".text").map_or(0, |section| section.address);
    let mut unread = memory.fill(found.place, text, low, &mut bytes)?;
    let mut strays = Vec::new();
    let mut gaps = unread.iter().peekable();
    let mut moved = [0; 8];
    for field in fields {
        while gaps.next_if(|gap| gap.end <= field.address).is_some() {}
        if gaps.peek().is_some_and(|gap| gap.start < field.end()) {
            continue;
        }
        let width = field.kind.width();
        let held = &mut bytes[(field.address - low) as usize..][..width];
        let Some(linked) = image.read(field.address, width) else { continue };
        let moved = &mut moved[..width];
        moved.copy_from_slice(linked);
        field.kind.apply(moved, found.slide);
        if held == moved {
            held.copy_from_slice(linked);
        } else {
            strays.push(*field);
        }
    }
    bytes.truncate((range.end - low) as usize);
    bytes.drain(..(range.start - low) as usize);
    for gap in &mut unread {
        *gap = gap.start.max(range.start)..gap.end.min(range.end);
    }
    unread.retain(|gap| gap.start < gap.end);
    Ok(LinkedBytes { address: range.start, bytes, unread, strays })
}
