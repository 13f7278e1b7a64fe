//! `.text` as memory has it, and where it has none.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::memory::is_read;

/// `.text` in memory, at its linked addresses.
#[derive(Debug, Clone, Copy)]
pub struct View<'v> {
    address: u64,
    bytes: &'v [u8],
    /// By address, none overlapping.
    unread: &'v [Range<u64>],
}

impl<'v> View<'v> {
    /// The bytes of `.text`, and which of them could not be read.
    pub fn new(text: (u64, u64), bytes: &'v [u8], unread: &'v [Range<u64>]) -> Result<View<'v>> {
        let size = text.1 - text.0;
        if bytes.len() as u64 != size {
            return Err(Error::memory(format!("{} bytes of text, the image has {size}", bytes.len())));
        }
        if unread.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return Err(Error::memory("ranges that could not be read overlap"));
        }
        Ok(View { address: text.0, bytes, unread })
    }

    /// All of it.
    pub fn all(&self) -> &'v [u8] {
        self.bytes
    }

    /// What could not be read.
    pub fn unread(&self) -> &'v [Range<u64>] {
        self.unread
    }

    /// Whether all bytes of a range were read.
    pub fn is_read(&self, start: u64, end: u64) -> bool {
        is_read(self.unread, start, end)
    }

    /// What a range holds; `None` where not all of it is in `.text`, and was read.
    pub fn bytes(&self, address: u64, len: usize) -> Option<&'v [u8]> {
        let at = usize::try_from(address.checked_sub(self.address)?).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(len)?)?;
        self.is_read(address, address + len as u64).then_some(bytes)
    }
}
