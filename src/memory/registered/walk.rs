//! The kernel's lists in memory, whatever they are of: every walk is bounded.

use std::cell::Cell;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::kallsyms::Symbols;
use crate::memory::mapped::Mapped;
use crate::memory::members::Members;
use crate::memory::unnamed;

/// More entries than any list has, those of lists in it among them.
const MAX_ENTRIES: usize = 1 << 18;
/// So many hashed lists, whose heads are read at a time, count as an entry.
const LISTS: usize = 64;

/// A kernel's memory, with what says where things are in it.
pub(super) struct Walk<'a> {
    pub mapped: &'a Mapped<'a>,
    pub members: Members<'a>,
    pub image: &'a Image,
    pub symbols: Option<&'a Symbols>,
    pub slide: u64,
    pub word: usize,
    /// The kernel's code, where it runs.
    pub text: Range<u64>,
    /// How many more entries the list that is read may have.
    pub left: Cell<usize>,
}

/// Where a list was: it is a circle, if it comes there again. The place moves on as the list gets longer, so that a circle
/// is known after few rounds (Brent's algorithm).
pub(super) struct Trail {
    at: u64,
    steps: usize,
}

impl Trail {
    pub fn new() -> Trail {
        Trail { at: 0, steps: 0 }
    }

    fn comes_again(&mut self, at: u64) -> bool {
        let again = self.steps > 0 && at == self.at;
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.at = at;
        }
        again
    }
}

impl Walk<'_> {
    /// Where a symbol of the image is at run time.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        Some(self.symbols?.address_of(name)?.wrapping_add(self.slide))
    }

    /// Where data is at run time, of which some can be found where the image does not name them.
    pub fn data(&self, name: &str) -> Result<Option<u64>> {
        let Some(symbols) = self.symbols else { return Ok(None) };
        Ok(unnamed::address_of(self.image, symbols, name)?.map(|address| address.wrapping_add(self.slide)))
    }

    pub fn offset(&self, of: &str, path: &str) -> Result<u64> {
        self.members.offset(of, path)
    }

    pub fn number(&self, address: u64, width: usize) -> Result<u64> {
        let mut bytes = [0; 8];
        if !self.mapped.read(address, &mut bytes[..width])? {
            return Err(Error::memory("an entry of it is not in memory").at_address(address));
        }
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn pointer(&self, address: u64) -> Result<u64> {
        self.number(address, self.word)
    }

    /// Begins another list.
    pub fn begin(&self) {
        self.left.set(MAX_ENTRIES);
    }

    /// Comes to an entry of a list.
    ///
    /// # Errors
    /// It is one too many.
    pub fn step(&self, trail: &mut Trail, at: u64) -> Result<()> {
        let count = if trail.comes_again(at) { usize::MAX } else { 1 };
        self.spend(count, at)
    }

    fn spend(&self, count: usize, at: u64) -> Result<()> {
        let left = self.left.get().checked_sub(count);
        let error = || Error::memory("it has more entries than any kernel, or a circle").at_address(at);
        self.left.set(left.ok_or_else(error)?);
        Ok(())
    }

    /// The entries of hashed lists (`struct hlist_head`), by where their node lies in them.
    pub fn hashed(&self, table: u64, lists: u64, node: u64) -> Result<Vec<u64>> {
        Ok(self.hashed_by_list(table, lists, node)?.into_iter().map(|(_, entry)| entry).collect())
    }

    /// Likewise, each with the number of its list.
    pub fn hashed_by_list(&self, table: u64, lists: u64, node: u64) -> Result<Vec<(u64, u64)>> {
        // Empty lists count as well: a table of them is read for each of those that trace.
        self.spend(lists as usize / LISTS, table)?;
        let mut heads = vec![0; lists as usize * self.word];
        if !self.mapped.read(table, &mut heads)? {
            return Err(Error::memory("its table is not in memory").at_address(table));
        }
        let mut entries = Vec::new();
        for (list, head) in (0..).zip(heads.chunks_exact(self.word)) {
            let mut trail = Trail::new();
            let mut at = head.iter().rev().fold(0, |at: u64, &byte| at << 8 | u64::from(byte));
            while at != 0 {
                self.step(&mut trail, at)?;
                entries.push((list, at.wrapping_sub(node)));
                at = self.pointer(at)?;
            }
        }
        Ok(entries)
    }

    /// The entries of a `struct list_head`, likewise.
    pub fn linked(&self, head: u64, node: u64) -> Result<Vec<u64>> {
        let mut entries = Vec::new();
        let mut trail = Trail::new();
        let mut at = self.pointer(head)?;
        while at != head {
            self.step(&mut trail, at)?;
            entries.push(at.wrapping_sub(node));
            at = self.pointer(at)?;
        }
        Ok(entries)
    }
}
