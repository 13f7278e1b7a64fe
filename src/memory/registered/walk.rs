//! The kernel's lists in memory, whatever they are of: every walk is bounded.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::image::kallsyms::Symbols;
use crate::memory::mapped::Mapped;
use crate::memory::members::Members;

/// More entries than any list has.
pub(super) const MAX_ENTRIES: usize = 1 << 17;

/// A kernel's memory, with what says where things are in it.
pub(super) struct Walk<'a> {
    pub mapped: &'a Mapped<'a>,
    pub members: Members<'a>,
    pub symbols: Option<&'a Symbols>,
    pub slide: u64,
    pub word: usize,
    /// The kernel's code, where it runs.
    pub text: Range<u64>,
}

impl Walk<'_> {
    /// Where a symbol of the image is at run time.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        Some(self.symbols?.address_of(name)?.wrapping_add(self.slide))
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

    /// The entries of hashed lists (`struct hlist_head`), by where their node lies in them.
    pub fn hashed(&self, table: u64, lists: u64, node: u64) -> Result<Vec<u64>> {
        let mut entries = Vec::new();
        for list in 0..lists {
            let mut at = self.pointer(table.wrapping_add(list * self.word as u64))?;
            while at != 0 {
                if entries.len() >= MAX_ENTRIES {
                    return Err(Error::memory("it has more entries than any kernel, or a circle").at_address(at));
                }
                entries.push(at.wrapping_sub(node));
                at = self.pointer(at)?;
            }
        }
        Ok(entries)
    }

    /// The entries of a `struct list_head`, likewise.
    pub fn linked(&self, head: u64, node: u64) -> Result<Vec<u64>> {
        let mut entries = Vec::new();
        let mut at = self.pointer(head)?;
        while at != head {
            if entries.len() >= MAX_ENTRIES {
                return Err(Error::memory("it has more entries than any kernel, or a circle").at_address(at));
            }
            entries.push(at.wrapping_sub(node));
            at = self.pointer(at)?;
        }
        Ok(entries)
    }
}
