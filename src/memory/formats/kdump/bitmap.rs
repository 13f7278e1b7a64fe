//! The bitmap of the pages that were dumped: whether a page is there, and how many stand before it.

use std::ops::Range;

use crate::error::Result;
use crate::memory::store::Store;

/// How many bytes of the bitmap are counted together.
const GROUP: usize = 512;
/// How many pages those are for.
pub(super) const PAGES: u64 = GROUP as u64 * 8;
/// How many groups are read at a time.
const BATCH: usize = 256;

/// A bitmap in a file. Of it only two numbers for each group that has pages are kept: 1 byte for each MiB of memory.
#[derive(Debug)]
pub(super) struct Bitmap {
    offset: u64,
    pages: u64,
    /// The groups that have pages, and how many were dumped before each.
    before: Vec<(u64, u64)>,
    /// How many pages were dumped.
    total: u64,
}

impl Bitmap {
    /// Counts the pages of a bitmap, which lies in the file.
    pub fn read(store: &Store, offset: u64, pages: u64) -> Result<Bitmap> {
        let bitmap = Bitmap { offset, pages, before: Vec::new(), total: 0 };
        let (mut total, mut before) = (0, Vec::new());
        bitmap.groups(store, 0..pages, &mut |number, group| {
            let ones = group.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
            if ones > 0 {
                before.push((number, total));
                total += ones;
            }
        })?;
        Ok(Bitmap { before, total, ..bitmap })
    }

    /// Hands over the groups that are for a range of pages, each with its number; bits beyond the last page are cleared. Those
    /// that lie in holes of a sparse file are passed over: they have no pages.
    fn groups(&self, store: &Store, pages: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        let bytes = self.pages.div_ceil(8);
        let mut number = pages.start / PAGES;
        while number * PAGES < pages.end.min(self.pages) {
            let start = number * GROUP as u64;
            let place = self.offset.saturating_add(start);
            let empty = (store.data(place) - place) / GROUP as u64;
            if empty > 0 {
                number += empty;
                continue;
            }
            let asked = pages.end.div_ceil(PAGES).saturating_mul(GROUP as u64) - start;
            let len = (bytes - start).min(asked).min((GROUP * BATCH) as u64) as usize;
            let mut batch = store.read_exactly(place, len, "its bitmap of pages")?;
            if start + len as u64 == bytes
                && !self.pages.is_multiple_of(8)
                && let Some(last) = batch.last_mut()
            {
                *last &= (1 << (self.pages % 8)) - 1;
            }
            for group in batch.chunks(GROUP) {
                each(number, group);
                number += 1;
            }
        }
        Ok(())
    }

    /// How many pages were dumped before this one, if it was dumped itself.
    pub fn place(&self, store: &Store, page: u64) -> Result<Option<u64>> {
        let (before, there) = self.rank(store, page)?;
        Ok(there.then_some(before))
    }

    /// How many pages were dumped before this one, and whether it was.
    pub fn rank(&self, store: &Store, page: u64) -> Result<(u64, bool)> {
        if page >= self.pages {
            return Ok((0, false));
        }
        let number = page / PAGES;
        let within = (page % PAGES) as usize;
        let start = self.offset.saturating_add(number * GROUP as u64);
        let bytes = store.read_exactly(start, within / 8 + 1, "its bitmap of pages")?;
        let (last, whole) = bytes.split_last().map_or((0, [].as_slice()), |(last, whole)| (*last, whole));
        let ones: u64 = whole.iter().map(|byte| u64::from(byte.count_ones())).sum();
        let below = last & ((1 << (within % 8)) - 1);
        let group = self.before.partition_point(|&(group, _)| group < number);
        let before = self.before.get(group).map_or(self.total, |&(_, before)| before);
        Ok((before + ones + u64::from(below.count_ones()), last >> (within % 8) & 1 == 1))
    }

    /// The groups that have pages, and how many were dumped before each.
    pub fn counted(&self) -> &[(u64, u64)] {
        &self.before
    }

    /// How many pages were dumped.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The first page from this one on that may have been dumped; none, where no later one was.
    pub fn next(&self, page: u64) -> Option<u64> {
        let group = self.before.partition_point(|&(group, _)| group < page / PAGES);
        self.before.get(group).map(|&(group, _)| page.max(group * PAGES))
    }

    /// Hands over the stretches of pages in a range that were dumped.
    pub fn runs(&self, store: &Store, pages: Range<u64>, each: &mut dyn FnMut(Range<u64>)) -> Result<()> {
        let mut open: Option<Range<u64>> = None;
        self.groups(store, pages.clone(), &mut |number, group| {
            for (i, &byte) in group.iter().enumerate() {
                let first = number * PAGES + i as u64 * 8;
                let mut add = |run: Range<u64>| match open.as_mut() {
                    Some(last) if last.end == run.start => last.end = run.end,
                    _ => {
                        if let Some(done) = open.replace(run) {
                            each(done);
                        }
                    }
                };
                match byte {
                    0 => {}
                    0xff if pages.start <= first && first + 8 <= pages.end => add(first..first + 8),
                    _ => (0..8)
                        .filter(|bit| byte >> bit & 1 == 1 && pages.contains(&(first + bit)))
                        .for_each(|bit| add(first + bit..first + bit + 1)),
                }
            }
        })?;
        if let Some(done) = open {
            each(done);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Given;

    /// Every third page of the first thousand, and all of some later ones.
    fn sample() -> (Store, Bitmap, Vec<u64>) {
        let (pages, mut bytes) = (20_003u64, vec![0xee; 7]);
        let dumped: Vec<u64> =
            (0..pages).filter(|page| page % 3 == 0 && *page < 1000 || (9000..9100).contains(page)).collect();
        let mut bitmap = vec![0u8; pages.div_ceil(8) as usize];
        dumped.iter().for_each(|page| bitmap[*page as usize / 8] |= 1 << (page % 8));
        *bitmap.last_mut().unwrap() |= 0xf8;
        bytes.extend(bitmap);
        let store = Store::Bytes(Given::new(bytes));
        let bitmap = Bitmap::read(&store, 7, pages).unwrap();
        (store, bitmap, dumped)
    }

    #[test]
    fn a_page_has_as_many_before_it_as_were_dumped() {
        let (store, bitmap, dumped) = sample();
        for (before, page) in dumped.iter().enumerate() {
            assert_eq!(bitmap.place(&store, *page).unwrap(), Some(before as u64));
        }
        for page in [1, 8999, 9100, 20_002, 20_003, u64::MAX] {
            assert_eq!(bitmap.place(&store, page).unwrap(), None, "{page}");
        }
        assert_eq!(
            [0, 4095, 4096, 9000, 20_002].map(|page| bitmap.rank(&store, page).unwrap().0),
            [0, 334, 334, 334, 434]
        );
        // By groups of 4096 pages.
        assert_eq!([7, 4095, 4096, 9099].map(|page| bitmap.next(page)), [Some(7), Some(4095), Some(8192), Some(9099)]);
        assert_eq!([12_288, 20_003, u64::MAX].map(|page| bitmap.next(page)), [None; 3]);
    }

    #[test]
    fn stretches_are_whole() {
        let (store, bitmap, _) = sample();
        let mut runs = Vec::new();
        bitmap.runs(&store, 990..9050, &mut |run| runs.push(run)).unwrap();
        assert_eq!(runs, [990..991, 993..994, 996..997, 999..1000, 9000..9050]);
    }
}
