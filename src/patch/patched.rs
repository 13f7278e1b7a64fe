//! The file after a plan's writes, in pieces: what no write touches is not copied.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::image::{Image, LargeBytes};
use crate::plan::Plan;

/// A patched file. Its bytes are the image's, but for its head, for the stretches that writes lie in, and for what stands
/// between the ELF file and what follows it.
#[derive(Debug)]
pub struct PatchedFile<'a> {
    bytes: &'a [u8],
    /// What stands instead of the first bytes.
    pub(super) head: Vec<u8>,
    /// By offset, none overlapping.
    changed: Vec<(usize, LargeBytes)>,
    /// What is added before the bytes from `end` on.
    pub(super) added: Vec<u8>,
    /// Where the ELF file ends.
    pub(super) end: usize,
}

impl<'a> PatchedFile<'a> {
    /// An image after the writes of a plan.
    ///
    /// Fails where a write lies in no bytes of the image.
    pub(super) fn of(image: &'a Image, plan: &Plan) -> Result<PatchedFile<'a>> {
        let bytes = image.bytes();
        let mut file =
            PatchedFile { bytes, head: Vec::new(), changed: Vec::new(), added: Vec::new(), end: bytes.len() };
        let mut places = Places { image, last: 0..0, offset: 0 };
        // The bytes of each section that has writes; sections may overlap in a file.
        let mut sections: Vec<Range<usize>> = Vec::new();
        for write in plan.writes() {
            let (at, section) = places.of(write.address, plan.bytes(write).len())?;
            if sections.last().is_none_or(|last| !last.contains(&at)) && !sections.contains(&section) {
                sections.push(section);
            }
        }
        sections.sort_unstable_by_key(|section| section.start);
        let mut stretches: Vec<Range<usize>> = Vec::new();
        for section in sections {
            match stretches.last_mut() {
                Some(last) if section.start < last.end => last.end = last.end.max(section.end),
                _ => stretches.push(section),
            }
        }
        let copy = |stretch: Range<usize>| {
            let mut copy = LargeBytes::with_capacity(stretch.len());
            copy.extend_from_slice(&bytes[stretch.clone()]);
            (stretch.start, copy)
        };
        file.changed = stretches.into_iter().map(copy).collect();
        for write in plan.writes() {
            let written = plan.bytes(write);
            let (at, _) = places.of(write.address, written.len())?;
            let stretch = file.changed.partition_point(|(start, _)| *start <= at).checked_sub(1);
            if let Some((start, held)) = stretch.map(|stretch| &mut file.changed[stretch]) {
                held[at - *start..at - *start + written.len()].copy_from_slice(written);
            }
        }
        Ok(file)
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.added.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes, piece by piece.
    pub fn pieces(&self) -> Vec<&[u8]> {
        let mut pieces = vec![self.head.as_slice()];
        self.between(self.head.len()..self.end, &mut pieces);
        pieces.push(&self.added);
        self.between(self.end..self.bytes.len(), &mut pieces);
        pieces
    }

    /// The pieces of a range of the image's file.
    fn between<'s>(&'s self, range: Range<usize>, pieces: &mut Vec<&'s [u8]>) {
        let mut at = range.start;
        for (start, held) in &self.changed {
            let (from, to) = (at.max(*start), range.end.min(start + held.len()));
            if from < to {
                pieces.push(&self.bytes[at..from]);
                pieces.push(&held[from - start..to - start]);
                at = to;
            }
        }
        pieces.push(&self.bytes[at..range.end.max(at)]);
    }
}

/// Where addresses lie in a file. Most writes lie in the section of the one before.
struct Places<'a> {
    image: &'a Image,
    last: Range<u64>,
    offset: usize,
}

impl Places<'_> {
    /// The offset of this many bytes at an address, and that of all of their section.
    fn of(&mut self, address: u64, len: usize) -> Result<(usize, Range<usize>)> {
        let outside = || Error::table("a write outside the image").at_address(address).in_file(self.image.name());
        if !self.last.contains(&address) {
            let section = self.image.section_at(address).ok_or_else(outside)?;
            let held = self.image.section_bytes(section).len() as u64;
            self.last = section.address..section.address + held;
            self.offset = usize::try_from(section.offset).map_err(|_| outside())?;
        }
        let size = (self.last.end - self.last.start) as usize;
        let at = address.checked_sub(self.last.start).map(|at| at as usize).filter(|&at| at + len <= size);
        Ok((self.offset + at.ok_or_else(outside)?, self.offset..self.offset + size))
    }
}
