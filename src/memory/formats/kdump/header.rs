//! The headers of a kdump-compressed dump: `struct disk_dump_header`, and `struct kdump_sub_header` in the next block
//! (makedumpfile's `diskdump_mod.h`, QEMU's `include/sysemu/dump.h`).

use std::ops::Range;

use crate::error::{Error, Result};
use crate::memory::formats::notes::{self, Notes, VmCoreInfo};
use crate::memory::store::Store;
use crate::numbers;

/// What a header begins with: kdump's, and diskdump's.
pub(super) const SIGNATURES: [&[u8]; 2] = [b"KDUMP   ", b"DISKDUMP"];
/// Bytes of a block, and of a page: there is no other on x86.
pub(super) const BLOCK: u64 = 4096;
/// The dump ended before all pages were written.
const INCOMPLETE: u32 = 8;
/// More than any VMCOREINFO.
const MAX_VMCOREINFO: u64 = 64 << 10;
/// More pages than 52 bits of physical addresses have.
const MAX_PAGES: u64 = 1 << 40;

/// Where the members are behind `utsname`, which a 32-bit `struct timeval` and a 64-bit one decide.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Bytes of a `long`.
    word: usize,
    /// Offset of `status` in the header.
    status: usize,
}

const LAYOUTS: [Layout; 2] = [Layout { word: 8, status: 424 }, Layout { word: 4, status: 412 }];

/// What the headers say.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub incomplete: bool,
    /// The pages of this file, where the dump was split.
    pub split: Option<Range<u64>>,
    /// How many pages the bitmaps are for.
    pub pages: u64,
    /// Where the bitmap of the pages that were dumped is in the file.
    pub bitmap: u64,
    /// Where the descriptors of pages begin in the file.
    pub descriptors: u64,
    vmcoreinfo: (u64, u64),
    notes: (u64, u64),
    /// Who was dumped and when: what the parts of one dump have in common.
    pub identity: Vec<u8>,
}

impl Header {
    pub fn read(store: &Store) -> Result<Header> {
        let bytes = store.read_exactly(0, BLOCK as usize, "its header")?;
        let Some(layout) = LAYOUTS.into_iter().find(|layout| layout.fits(&bytes)) else {
            let reason =
                format!("does not say, where a 64-bit or a 32-bit kernel does, that blocks have {BLOCK} bytes");
            return Err(Error::memory(reason).in_section("header"));
        };
        let number = |at: usize| u64::from(u32_at(&bytes, layout.status + at));
        let (sub, bitmaps) = (number(8), number(12));
        if (1 + sub + bitmaps) * BLOCK > store.len() {
            let reason =
                format!("is truncated: its bitmaps of {bitmaps} blocks leave the file of {} bytes", store.len());
            return Err(Error::memory(reason).in_section("header"));
        }
        let version = u32_at(&bytes, 8);
        let kdump = bytes.starts_with(SIGNATURES[0]);
        let body =
            if kdump && sub > 0 { store.read_exactly(BLOCK, BLOCK as usize, "its sub-header")? } else { Vec::new() };
        let sub_header = SubHeader { bytes: &body, word: layout.word };
        let pages = match version {
            6.. if kdump => sub_header.pages(),
            _ => number(16),
        };
        let of = |pages: u64| pages.div_ceil(8).div_ceil(BLOCK);
        if pages == 0 || pages > MAX_PAGES || of(pages) > bitmaps {
            let reason = format!("{pages} pages have no room in bitmaps of {bitmaps} blocks");
            return Err(Error::memory(reason).in_section("header"));
        }
        // Where there are two bitmaps, the second is of the pages that were dumped (crash's `dump_is_partial()`).
        let first = (1 + sub) * BLOCK;
        let bitmap = if bitmaps >= 2 * of(pages) { first + bitmaps / 2 * BLOCK } else { first };
        let split = sub_header.split(version);
        if let Some(Range { start, end }) = split
            && (start > end || end > pages)
        {
            let reason = format!("a part of a split dump, whose pages {start} to {end} are not among its {pages}");
            return Err(Error::memory(reason).in_section("sub-header"));
        }
        Ok(Header {
            incomplete: number(0) as u32 & INCOMPLETE != 0,
            split,
            pages,
            bitmap,
            descriptors: first + bitmaps * BLOCK,
            vmcoreinfo: if version >= 3 { sub_header.vmcoreinfo() } else { (0, 0) },
            notes: if version >= 4 { sub_header.notes() } else { (0, 0) },
            identity: bytes[12..layout.status].to_vec(),
        })
    }

    /// VMCOREINFO, and the notes of the core that was compressed.
    pub fn notes(&self, store: &Store) -> Result<Notes> {
        let mut found = Notes::default();
        let (offset, size) = self.notes;
        if size > 0 {
            notes::read(store, offset, size, &mut found).map_err(|error| error.in_section("notes"))?;
        }
        let (offset, size) = self.vmcoreinfo;
        if size > 0 {
            if size > MAX_VMCOREINFO {
                return Err(Error::memory(format!("VMCOREINFO of {size} bytes")).in_section("sub-header"));
            }
            let bytes = store.read_exactly(offset, size as usize, "VMCOREINFO")?;
            found.vmcoreinfo = Some(VmCoreInfo::new(String::from_utf8_lossy(&bytes).trim_end_matches('\0')));
        }
        Ok(found)
    }
}

impl Layout {
    /// Whether the members make sense: `block_size` is a page's, and `bitmap_blocks` is not 0.
    fn fits(self, bytes: &[u8]) -> bool {
        let number = |at: usize| u64::from(u32_at(bytes, self.status + at));
        number(4) == BLOCK && number(12) > 0
    }
}

/// `struct kdump_sub_header`. `off_t` has 8 bytes everywhere; 32-bit x86 aligns it by 4.
struct SubHeader<'a> {
    bytes: &'a [u8],
    word: usize,
}

impl SubHeader<'_> {
    /// A `long`, or 0 where the header ends.
    fn long(&self, at: usize) -> u64 {
        if self.word == 8 { u64_at(self.bytes, at) } else { u64::from(u32_at(self.bytes, at)) }
    }

    /// `start_pfn` and `end_pfn`, if `split` says so: since version 2, and by 64 bits since version 6.
    fn split(&self, version: u32) -> Option<Range<u64>> {
        let word = self.word;
        let wide = if word == 8 { 80 } else { 56 };
        let is_split = version >= 2 && u32_at(self.bytes, word + 4) == 1;
        is_split.then(|| match version {
            6.. => u64_at(self.bytes, wide)..u64_at(self.bytes, wide + 8),
            _ => self.long(word + 8)..self.long(2 * word + 8),
        })
    }

    fn vmcoreinfo(&self) -> (u64, u64) {
        let at = 3 * self.word + 8;
        (u64_at(self.bytes, at), self.long(at + 8))
    }

    fn notes(&self) -> (u64, u64) {
        let at = 4 * self.word + 16;
        (u64_at(self.bytes, at), self.long(at + 8))
    }

    /// `max_mapnr_64`, since version 6.
    fn pages(&self) -> u64 {
        u64_at(self.bytes, if self.word == 8 { 96 } else { 72 })
    }
}

/// The number at an offset; 0 behind the end.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    numbers::u32_at(bytes, at).unwrap_or(0)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    numbers::u64_at(bytes, at).unwrap_or(0)
}
