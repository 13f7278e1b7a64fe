//! Memory at run-time addresses, the kernel's image or not: what modules lie in.

use std::cell::Cell;
use std::ops::Range;

use super::location::Location;
use super::pagetables::{self, Root};
use super::read::{Memory, PAGE, Place, push};
use crate::error::{Error, Result};
use crate::image::Image;

/// Virtual memory of a kernel that was found.
#[derive(Debug)]
pub struct Mapped<'a> {
    memory: &'a Memory,
    /// The page tables to walk; `None` where virtual memory is read as it is.
    root: Option<Root>,
    /// The page that was translated last, and where it lies.
    last: Cell<Option<(u64, u64)>>,
}

impl<'a> Mapped<'a> {
    /// The virtual memory in which an image was found.
    ///
    /// # Errors
    /// Memory that is `.text` alone, or that has no page tables that map the kernel to where it lies.
    pub fn new(memory: &'a Memory, found: &Location, image: &Image) -> Result<Mapped<'a>> {
        let root = match found.place {
            Place::Text => return Err(Error::memory("is .text alone")),
            Place::Virtual(_) => None,
            Place::Physical(delta) => {
                let text = image.section(".text").map_or(0, |section| section.address);
                let root = pagetables::root(memory, image, delta, found.slide, text)?;
                Some(root.ok_or_else(|| Error::memory("has no page tables that map the kernel to where it lies"))?)
            }
        };
        Ok(Mapped { memory, root, last: Cell::new(None) })
    }

    /// Fills the buffer; returns what is not mapped or not there, whose bytes are left as they were.
    pub fn fill(&self, address: u64, buffer: &mut [u8]) -> Result<Vec<Range<u64>>> {
        let Some(root) = &self.root else { return self.memory.fill(Place::Virtual(0), 0, address, buffer) };
        let mut unread = Vec::new();
        let mut done = 0;
        while done < buffer.len() {
            let at = address.wrapping_add(done as u64);
            let n = (buffer.len() - done).min((PAGE - at % PAGE) as usize);
            let there = match self.translate(root, at)? {
                Some(physical) => self.memory.read_physical(physical, &mut buffer[done..][..n])?,
                None => false,
            };
            if !there {
                push(&mut unread, at, n as u64);
            }
            done += n;
        }
        Ok(unread)
    }

    fn translate(&self, root: &Root, address: u64) -> Result<Option<u64>> {
        let within = address % PAGE;
        if let Some((page, physical)) = self.last.get()
            && page == address - within
        {
            return Ok(Some(physical + within));
        }
        let found = pagetables::translate(self.memory, root, address)?;
        self.last.set(found.map(|physical| (address - within, physical - within)));
        Ok(found)
    }

    /// Fills the buffer; whether all of it is there.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        Ok(self.fill(address, buffer)?.is_empty())
    }
}
