//! Data of a kernel's image as memory holds it now: words, by the addresses they were linked at.

use super::location::Location;
use super::read::{Memory, Place};
use crate::error::{Error, Result};
use crate::image::Image;

/// A kernel's data.
#[derive(Debug)]
pub struct Words<'a> {
    memory: &'a Memory,
    found: &'a Location,
    image: &'a Image,
    /// Where `.text` was linked.
    text: u64,
}

impl<'a> Words<'a> {
    /// The data of an image that was found.
    ///
    /// # Errors
    /// Memory that is `.text` alone.
    pub fn new(memory: &'a Memory, found: &'a Location, image: &'a Image) -> Result<Words<'a>> {
        if found.place == Place::Text {
            return Err(Error::memory("is .text alone").in_file(memory.name()));
        }
        let text = image.section(".text").map_or(0, |section| section.address);
        Ok(Words { memory, found, image, text })
    }

    /// Fills the buffer; whether all of it is there.
    pub fn bytes(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        let unread = self.memory.fill(self.found.place, self.text, address, buffer);
        Ok(unread.map_err(|error| error.in_file(self.memory.name()))?.is_empty())
    }

    /// A number of 4 bytes; `None` where it is not there.
    pub fn int(&self, address: u64) -> Result<Option<i32>> {
        let mut bytes = [0; 4];
        Ok(self.bytes(address, &mut bytes)?.then(|| i32::from_le_bytes(bytes)))
    }

    /// A pointer, as if the kernel had not slid; 0 is nothing, wherever the kernel is.
    pub fn pointer(&self, address: u64) -> Result<Option<u64>> {
        let mut bytes = [0; 8];
        let there = self.bytes(address, &mut bytes[..self.image.bits().word()])?;
        Ok(there.then(|| self.linked(u64::from_le_bytes(bytes))))
    }

    /// The pointer that the image has there.
    pub fn built(&self, address: u64) -> Option<u64> {
        self.image.read_word(address)
    }

    /// Whether data of the image are at an address that stay: what is freed after boot says nothing.
    pub fn stays(&self, address: u64) -> bool {
        let section = self.image.section_at(address);
        section.is_some_and(|section| !section.name.starts_with(".init") && section.name != ".text")
    }

    /// How many bytes a pointer has.
    pub fn width(&self) -> usize {
        self.image.bits().word()
    }

    /// Where an address of the image runs.
    pub fn runs(&self, address: u64) -> u64 {
        address.wrapping_add(self.found.slide) & self.image.bits().max_address()
    }

    /// A run-time address as if the kernel had not slid.
    pub fn linked(&self, address: u64) -> u64 {
        if address == 0 { 0 } else { address.wrapping_sub(self.found.slide) & self.image.bits().max_address() }
    }
}
