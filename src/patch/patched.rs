//! The file after a plan's writes, made as it is written: no part of it is there twice.

use std::io::{self, Write};
use std::ops::Range;

use crate::error::{Error, Result};
use crate::image::{Image, Section};
use crate::plan::Plan;

/// How many bytes are patched and written at a time: they stay in the cache.
const CHUNK: usize = 256 << 10;

/// A patched file. Its bytes are the image's, but for its head, for what writes change, and for what stands between the ELF
/// file and what follows it.
#[derive(Debug)]
pub struct PatchedFile<'a> {
    changed: Changed<'a>,
    /// What stands instead of the first bytes.
    pub(super) head: Vec<u8>,
    /// What is added before the bytes from `end` on.
    pub(super) added: Vec<u8>,
    /// Where the ELF file ends.
    pub(super) end: usize,
}

impl<'a> PatchedFile<'a> {
    /// An image after the writes of a plan.
    ///
    /// Fails where a write lies in no bytes of the image.
    pub(super) fn of(image: &'a Image, plan: &'a Plan) -> Result<PatchedFile<'a>> {
        let mut places = Places { image, last: 0..0, offset: 0 };
        let changed = Changed::of(image.bytes(), plan, |address, len| places.of(address, len).map(Some))?;
        Ok(PatchedFile { changed, head: Vec::new(), added: Vec::new(), end: image.bytes().len() })
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.changed.bytes.len() + self.added.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes all of it.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.head)?;
        self.changed.write(self.head.len()..self.end, out)?;
        out.write_all(&self.added)?;
        self.changed.write(self.end..self.changed.bytes.len(), out)
    }
}

/// The bytes of an image's file, and what of them a plan changes.
#[derive(Debug)]
pub(super) struct Changed<'a> {
    bytes: &'a [u8],
    plan: &'a Plan,
    /// By chunk; those of a chunk in the order of the plan.
    writes: Vec<Placed>,
}

/// A write of a plan, by its number, at an offset of the file. One that reaches into the next chunk is there as well.
#[derive(Debug, Clone, Copy)]
struct Placed {
    chunk: u32,
    number: u32,
    at: usize,
}

impl<'a> Changed<'a> {
    /// A file and the writes that `place` has an offset for, by address and length.
    fn of(
        bytes: &'a [u8],
        plan: &'a Plan,
        mut place: impl FnMut(u64, usize) -> Result<Option<usize>>,
    ) -> Result<Changed<'a>> {
        let mut writes = Vec::with_capacity(plan.writes().len());
        for (number, write) in (0..).zip(plan.writes()) {
            let len = plan.bytes(write).len();
            if let (Some(at), Some(last)) = (place(write.address, len)?, len.checked_sub(1)) {
                let chunks = at / CHUNK..=(at + last) / CHUNK;
                writes.extend(chunks.map(|chunk| Placed { chunk: chunk as u32, number, at }));
            }
        }
        writes.sort_by_key(|write| write.chunk);
        Ok(Changed { bytes, plan, writes })
    }

    /// The writes to one section.
    ///
    /// Fails where a write leaves it.
    pub(super) fn in_section(image: &'a Image, section: &Section, plan: &'a Plan) -> Result<Changed<'a>> {
        let size = image.section_bytes(section).len();
        let offset = usize::try_from(section.offset).unwrap_or(usize::MAX);
        Changed::of(image.bytes(), plan, |address, len| {
            let Some(at) = address.checked_sub(section.address).filter(|_| section.contains(address)) else {
                return Ok(None);
            };
            let at = usize::try_from(at).ok().filter(|at| at.checked_add(len).is_some_and(|end| end <= size));
            let leaves = || Error::table(format!("a write leaves {}", section.name));
            let at = at.ok_or_else(|| leaves().at_address(address).in_file(image.name()))?;
            Ok(Some(offset + at))
        })
    }

    /// Writes a range of the file.
    pub(super) fn write(&self, range: Range<usize>, out: &mut dyn Write) -> io::Result<()> {
        let mut patched = Vec::new();
        let mut from = range.start;
        let mut left = &self.writes[self.writes.partition_point(|write| (write.chunk as usize) < from / CHUNK)..];
        while from < range.end {
            let chunk = from / CHUNK;
            let to = range.end.min((chunk + 1) * CHUNK);
            let (here, behind) = left.split_at(left.partition_point(|write| write.chunk as usize <= chunk));
            left = behind;
            if here.is_empty() {
                // Up to the next chunk that has a write.
                let next = behind.first().map_or(range.end, |write| write.chunk as usize * CHUNK);
                let to = range.end.min(next);
                out.write_all(&self.bytes[from..to])?;
                from = to;
                continue;
            }
            patched.clear();
            patched.extend_from_slice(&self.bytes[from..to]);
            for write in here {
                let written = self.plan.bytes(&self.plan.writes()[write.number as usize]);
                let (low, high) = (write.at.max(from), (write.at + written.len()).min(to));
                if low < high {
                    patched[low - from..high - from].copy_from_slice(&written[low - write.at..high - write.at]);
                }
            }
            out.write_all(&patched)?;
            from = to;
        }
        Ok(())
    }
}

/// Where addresses lie in a file. Most writes lie in the section of the one before.
struct Places<'a> {
    image: &'a Image,
    last: Range<u64>,
    offset: usize,
}

impl Places<'_> {
    /// The offset of this many bytes at an address.
    fn of(&mut self, address: u64, len: usize) -> Result<usize> {
        let outside = || Error::table("a write outside the image").at_address(address).in_file(self.image.name());
        if !self.last.contains(&address) {
            let section = self.image.section_at(address).ok_or_else(outside)?;
            let held = self.image.section_bytes(section).len() as u64;
            self.last = section.address..section.address + held;
            self.offset = usize::try_from(section.offset).map_err(|_| outside())?;
        }
        let size = (self.last.end - self.last.start) as usize;
        let at = address.checked_sub(self.last.start).map(|at| at as usize).filter(|&at| at + len <= size);
        Ok(self.offset + at.ok_or_else(outside)?)
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;
    use crate::plan::{Decision, Kind, Pass, Reason};

    #[test]
    fn writes_are_made_in_their_order_across_chunks() {
        let built: Vec<u8> = (0..3 * CHUNK + 7).map(|i| i as u8).collect();
        let mut plan = Plan::with_capacity(6, 8);
        let places = [CHUNK - 3, 2 * CHUNK - 8, CHUNK - 5, 5, CHUNK, 3 * CHUNK + 3];
        let mut patched = built.clone();
        for (row, at) in (0..).zip(places) {
            let bytes = [row as u8 + 100; 8];
            let bytes = &bytes[..8.min(built.len() - at)];
            let decision = Decision { kind: Kind::Constant, reason: Reason::AtBoot, used: 0 };
            plan.push(at as u64, Pass::RuntimeConst, row, bytes, decision);
            patched[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let changed = Changed::of(&built, &plan, |address, _| Ok(Some(address as usize))).expect("all have a place");
        for range in [0..built.len(), 0..CHUNK, CHUNK - 4..CHUNK + 2, CHUNK..2 * CHUNK + 1, 9..9] {
            let mut out = Vec::new();
            changed.write(range.clone(), &mut out).expect("memory takes all");
            assert!(out == patched[range.clone()], "{range:?}");
        }
    }
}
