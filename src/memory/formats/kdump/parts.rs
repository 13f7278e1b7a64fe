//! The files of a dump: one, or the parts that `makedumpfile --split` wrote.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::bitmap::{Bitmap, PAGES};
use super::codec::Codec;
use super::header::{BLOCK, Header, SIGNATURES};
use crate::error::{Error, Result};
use crate::memory::formats::dump::Dump;
use crate::memory::store::Store;
use crate::numbers::{u32_at, u64_at};

/// Bytes of a `struct page_desc`.
const DESCRIPTOR: u64 = 24;
/// So many times as much memory as the file has bytes is much: pages are packed to a few dozen bytes then, or several in one
/// place. Who writes a dump packs its pages one behind the other (makedumpfile, QEMU), but for those of zeros.
const CROWDED: u64 = 16;
/// How many files of a folder are looked at for other parts.
const MAX_BESIDE: usize = 4096;

/// A file of a dump.
pub(super) struct Part {
    pub store: Arc<Store>,
    /// Which pages it is for.
    pub pages: Range<u64>,
    pub bitmap: Bitmap,
    descriptors: u64,
    /// How many pages were dumped before its first one.
    before: u64,
    incomplete: bool,
    /// Where in the file a page of zeros is packed: once for all such pages.
    zeros: OnceLock<u64>,
    /// Of each group of pages, where the last of what was packed up to its end ends; of the first groups.
    frontiers: Mutex<Vec<u64>>,
}

/// The files of the dump that this one is of, by page; and what there is to say of that.
pub(super) fn of(dump: &Dump, header: Header) -> Result<(Vec<Part>, Option<String>)> {
    let (split, all) = (header.split.clone(), header.pages);
    let beside = match (&split, dump.path()) {
        (Some(_), Some(path)) => beside(path, &header),
        _ => Vec::new(),
    };
    let mut parts = vec![Part::new(Arc::clone(&dump.store), header)?];
    for (store, header) in beside {
        let overlaps = |part: &Part| {
            header.split.as_ref().is_none_or(|new| new.start < part.pages.end && part.pages.start < new.end)
        };
        if !parts.iter().any(overlaps) {
            parts.push(Part::new(Arc::new(store), header)?);
        }
    }
    parts.sort_by_key(|part| part.pages.start);
    let remark = split.map(|_| {
        let covered: u64 = parts.iter().map(|part| part.pages.end - part.pages.start).sum();
        let missing = if covered < all { ", others are missing" } else { "" };
        format!("the dump was split: {} of its parts were found side by side{missing}", parts.len())
    });
    Ok((parts, remark))
}

/// Other parts of the same dump in the folder of one; of more parts than there are stretches to share out some are empty.
/// What cannot be read is none of them.
fn beside(path: &Path, header: &Header) -> Vec<(Store, Header)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.take(MAX_BESIDE).filter_map(|entry| Some(entry.ok()?.path())).collect();
    names.sort();
    let same = |name: &std::path::PathBuf| {
        let store = Store::open(name).ok()?;
        let mut head = [0; 8];
        let is_dump = store.read(0, &mut head).ok()? == head.len() && SIGNATURES.contains(&head.as_slice());
        let other = is_dump.then(|| Header::read(&store)).and_then(Result::ok)?;
        let of_this = other.identity == header.identity && other.pages == header.pages;
        let another =
            other.split.as_ref().is_some_and(|split| split.is_empty() || Some(split) != header.split.as_ref());
        (of_this && another).then_some((store, other))
    };
    names.iter().filter(|name| name.file_name() != path.file_name()).filter_map(same).collect()
}

impl Part {
    fn new(store: Arc<Store>, header: Header) -> Result<Part> {
        let bitmap = Bitmap::read(&store, header.bitmap, header.pages)?;
        let pages = header.split.clone().unwrap_or(0..header.pages);
        let (before, _) = bitmap.rank(&store, pages.start)?;
        Ok(Part {
            store,
            pages,
            bitmap,
            descriptors: header.descriptors,
            before,
            incomplete: header.incomplete,
            zeros: OnceLock::new(),
            frontiers: Mutex::default(),
        })
    }

    /// Where a page is packed; `None` where it was not dumped.
    pub fn locate(&self, number: u64) -> Result<Option<Packed>> {
        let Some(place) = self.bitmap.place(&self.store, number)? else { return Ok(None) };
        let row = place.saturating_sub(self.before);
        let at = row.checked_mul(DESCRIPTOR).and_then(|at| at.checked_add(self.descriptors));
        let Some(at) = at else { return wrong(number, "has no descriptor", self.descriptors) };
        let mut descriptor = [0; DESCRIPTOR as usize];
        let len = self.store.read(at, &mut descriptor)?;
        let word = |at: usize| u32_at(&descriptor, at).unwrap_or(0);
        let offset = u64::from(word(0)) | u64::from(word(4)) << 32;
        let (size, flags) = (word(8), word(12));
        // A dump that ended too early (no space left) has descriptors that were never filled.
        if len == descriptor.len() && offset == 0 || len < descriptor.len() && self.incomplete {
            return Ok(None);
        }
        if len < descriptor.len() {
            return wrong(number, "is truncated: the file ends before its descriptor", at);
        }
        if size == 0 || u64::from(size) > BLOCK {
            return wrong(number, &format!("has {size} bytes, and no page has more than {BLOCK}"), at);
        }
        let Some(codec) = Codec::of(flags) else {
            return wrong(number, &format!("is packed in a way not known, flags {flags:#x}"), at);
        };
        Ok(Some(Packed { number, offset, size, codec }))
    }

    /// The first page from this one on that was dumped, those of zeros aside once it is known where they are packed. Of a part
    /// that makes much memory of few bytes no page counts that is packed where others were before.
    pub fn next(&self, number: u64) -> Result<Option<u64>> {
        let first = |number: u64| self.bitmap.next(number).filter(|next| self.pages.contains(next));
        let mut next = first(number.max(self.pages.start));
        while let Some(number) = next
            && (self.crowded() || self.zeros.get().is_some())
        {
            let group = number / PAGES;
            let start = if self.crowded() { self.pages.start.max(group * PAGES) } else { number };
            let end = self.pages.end.min((group + 1) * PAGES);
            let mut runs = Vec::new();
            self.bitmap.runs(&self.store, start..end, &mut |run| runs.push(run))?;
            let count: u64 = runs.iter().map(|run| run.end - run.start).sum();
            let rows = self.rows(self.bitmap.rank(&self.store, start)?.0, count)?;
            let mut rows = rows.chunks_exact(DESCRIPTOR as usize);
            let mut frontier = if self.crowded() { self.frontier(group)? } else { 0 };
            for page in runs.into_iter().flatten() {
                let Some((offset, end)) = rows.next().map(extent) else { return Ok(Some(page.max(number))) };
                let again = offset < frontier || self.zeros.get() == Some(&offset);
                if self.crowded() {
                    frontier = frontier.max(end);
                }
                if page >= number && !again {
                    return Ok(Some(page));
                }
            }
            next = first(end);
        }
        Ok(next)
    }

    /// Whether it makes much memory of few bytes.
    fn crowded(&self) -> bool {
        self.bitmap.total().saturating_mul(BLOCK) / CROWDED > self.store.len()
    }

    /// So many descriptors, of which so many pages were dumped before the first in all parts.
    fn rows(&self, before: u64, count: u64) -> Result<Vec<u8>> {
        let mut rows = vec![0; (count * DESCRIPTOR) as usize];
        let at = before.saturating_sub(self.before).saturating_mul(DESCRIPTOR).saturating_add(self.descriptors);
        let read = self.store.read(at, &mut rows)?;
        rows.truncate(read);
        Ok(rows)
    }

    /// Where the last of what was packed before a group of pages ends.
    fn frontier(&self, group: u64) -> Result<u64> {
        let mut known = self.frontiers.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = self.bitmap.counted();
        let index = groups.partition_point(|&(number, _)| number < group);
        while known.len() < index {
            let (_, before) = groups[known.len()];
            let after = groups.get(known.len() + 1).map_or(self.bitmap.total(), |&(_, after)| after);
            let rows = self.rows(before.max(self.before), after.saturating_sub(before.max(self.before)))?;
            let ends = rows.chunks_exact(DESCRIPTOR as usize).map(|row| extent(row).1);
            let last = known.last().copied().unwrap_or(0);
            known.push(ends.max().unwrap_or(0).max(last));
        }
        Ok(index.checked_sub(1).and_then(|last| known.get(last)).copied().unwrap_or(0))
    }

    /// Unpacks a page; `None` where the dump ended before it was written.
    pub fn unpack(&self, packed: Packed) -> Result<Option<Vec<u8>>> {
        let Packed { number, offset, size, codec } = packed;
        let mut bytes = vec![0; size as usize];
        if self.store.read(offset, &mut bytes)? < bytes.len() {
            if self.incomplete {
                return Ok(None);
            }
            let reason = format!("is truncated: its {size} bytes leave the file of {} bytes", self.store.len());
            return wrong(number, &reason, offset);
        }
        let mut page = vec![0; BLOCK as usize];
        match codec.unpack(&bytes, &mut page) {
            Ok(()) => {
                if page.iter().all(|&byte| byte == 0) {
                    self.zeros.get_or_init(|| offset);
                }
                Ok(Some(page))
            }
            Err(reason) => wrong(number, &format!("cannot be unpacked: {reason}"), offset),
        }
    }
}

/// A page that was dumped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    number: u64,
    /// Where it is in the file: the same for all pages of zeros.
    pub offset: u64,
    size: u32,
    codec: Codec,
}

/// Where a page is packed, by its descriptor, and where that ends.
fn extent(row: &[u8]) -> (u64, u64) {
    let offset = u64_at(row, 0).unwrap_or(0);
    (offset, offset.saturating_add(u32_at(row, 8).unwrap_or(0).into()))
}

fn wrong<T>(number: u64, reason: &str, offset: u64) -> Result<T> {
    let reason = format!("page {number:#x} (physical {:#x}) {reason}", number.saturating_mul(BLOCK));
    Err(Error::memory(reason).in_section("pages").at_offset(offset))
}
