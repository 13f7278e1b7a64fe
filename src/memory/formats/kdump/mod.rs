//! kdump-compressed dumps: makedumpfile's (`-c`, `-l`, `-p`, `-z` or none), QEMU's and virsh's `kdump-zlib`, `kdump-lzo` and
//! `kdump-snappy`, diskdump's. Pages are packed each by itself, and read as they are asked for.
//!
//! | blocks | what |
//! |---|---|
//! | 1 | `struct disk_dump_header` |
//! | `sub_hdr_size` | `struct kdump_sub_header`; VMCOREINFO and notes lie behind it |
//! | `bitmap_blocks` | two bitmaps, a bit a page: memory that there is, and pages that were dumped; before 2006 one |
//! | then | `struct page_desc` for each page that was dumped, in order |
//! | then | the pages |
//!
//! A dump that was split (`makedumpfile --split`) is as many files, each with its own headers and a range of pages; the
//! others of its set are looked for beside the one that is opened.

mod bitmap;
mod codec;
mod header;
mod parts;

use super::dump::{Content, Dump, Opened};
use crate::error::{Error, Result};
use crate::memory::frames::Frames;
use crate::memory::kind::MemoryKind;
use crate::memory::pages::{Cache, Pages};
use crate::memory::space::{Extent, Space};
use header::{BLOCK, Header};
use parts::Part;

/// How many pages are kept unpacked.
const CACHED: usize = 64;
/// More stretches of pages than this are listed with the gaps between them.
const MAX_STRETCHES: usize = 1 << 16;

/// A dump, or as many of its parts as there are, by page.
struct Kdump {
    parts: Vec<Part>,
    cache: Cache,
}

pub(super) fn probe(dump: &Dump) -> Result<Option<Opened>> {
    if !header::SIGNATURES.iter().any(|signature| dump.begins_with(signature)) {
        return Ok(None);
    }
    let header = Header::read(&dump.store)?;
    let notes = header.notes(&dump.store)?;
    let (parts, remark) = parts::of(dump, header)?;
    let mut stretches: Vec<Extent> = Vec::new();
    for part in &parts {
        part.bitmap.runs(&part.store, part.pages.clone(), &mut |run| {
            let (address, end) = (run.start.saturating_mul(BLOCK), run.end.saturating_mul(BLOCK));
            let full = stretches.len() >= MAX_STRETCHES;
            match stretches.last_mut() {
                Some(last) if last.address + last.size == address => last.size = end - last.address,
                Some(last) if full => last.size = end - last.address,
                _ => stretches.push(Extent { address, size: end - address, offset: address }),
            }
        })?;
    }
    if stretches.is_empty() {
        let reason = match remark {
            Some(remark) => format!("has no memory in it: {remark}"),
            None => "has no memory in it: no page was dumped".to_owned(),
        };
        return Err(Error::memory(reason).in_section("bitmap"));
    }
    let content = Content::Pages(Box::new(Kdump { parts, cache: Cache::new(CACHED) }));
    let (physical, virtual_) = (Space::new(stretches), Space::default());
    let remarks = remark.into_iter().collect();
    Ok(Some(Opened { kind: MemoryKind::Kdump, content, physical, virtual_, notes, remarks, frames: Frames::default() }))
}

impl Pages for Kdump {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<bool> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset.wrapping_add(done as u64);
            let (number, within) = (at / BLOCK, (at % BLOCK) as usize);
            let part = self.parts.iter().enumerate().find(|(_, part)| part.pages.contains(&number));
            let Some((file, part)) = part else { return Ok(false) };
            let Some(packed) = part.locate(number)? else { return Ok(false) };
            let n = (buffer.len() - done).min(BLOCK as usize - within);
            let into = &mut buffer[done..done + n];
            if n == BLOCK as usize {
                // Whole pages are mostly asked for once.
                match part.unpack(packed)? {
                    Some(page) => into.copy_from_slice(&page),
                    None => return Ok(false),
                }
            } else {
                // Pages of zeros are packed once for all.
                let place = packed.offset ^ (file as u64) << 56;
                match self.cache.get(place, || part.unpack(packed))? {
                    Some(page) => into.copy_from_slice(&page[within..within + n]),
                    None => return Ok(false),
                }
            }
            done += n;
        }
        Ok(true)
    }

    fn next(&self, offset: u64) -> u64 {
        let number = offset / BLOCK;
        let later = self.parts.iter().filter(|part| part.pages.end > number);
        // Reading tells what is wrong there.
        let found = later.map(|part| part.next(number).unwrap_or(Some(number))).find_map(|next| next);
        found.map_or(u64::MAX, |next| offset.max(next.saturating_mul(BLOCK)))
    }
}
