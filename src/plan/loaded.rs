//! The working copy of a kernel's code: what the passes read and write, each seeing what those before it wrote.

use super::stretches::merged;
use crate::error::{Error, Result};
use crate::image::{Bits, Image, LargeBytes};

/// Stretches of code at their addresses, as an image has them or a copy of it.
#[derive(Debug, Clone)]
pub struct KernelCode<'a> {
    bits: Bits,
    /// By address.
    regions: Vec<Region>,
    /// Nearly everything is asked about `.text`.
    largest: usize,
    /// All of an image's file, where nothing is copied.
    lent: Option<&'a [u8]>,
    copied: LargeBytes,
}

/// A copy that passes write to.
pub type LoadedCode = KernelCode<'static>;

#[derive(Debug, Clone, Copy)]
struct Region {
    start: u64,
    at: usize,
    len: usize,
}

impl<'a> KernelCode<'a> {
    /// The code of an image where the image has it, for who does not write; `more` are other stretches of the image that
    /// are asked about, by address and length.
    pub fn lent(image: &'a Image, more: impl IntoIterator<Item = (u64, usize)>) -> KernelCode<'a> {
        let place = |(start, len): (u64, usize)| {
            let section = image.section_at(start)?;
            image.read(start, len)?;
            Some(Region { start, at: usize::try_from(section.offset + (start - section.address)).ok()?, len })
        };
        let code = image.sections().iter().filter(|s| s.executable && s.allocated && s.bits_present);
        let code = code.map(|section| (section.address, image.section_bytes(section).len()));
        let regions = code.chain(more).filter(|&(_, len)| len > 0).filter_map(place).collect();
        KernelCode::in_order(image.bits(), regions, Some(image.bytes()), LargeBytes::with_capacity(0))
    }

    fn in_order(bits: Bits, mut regions: Vec<Region>, lent: Option<&'a [u8]>, copied: LargeBytes) -> KernelCode<'a> {
        regions.sort_by_key(|region| region.start);
        let largest = (0..regions.len()).max_by_key(|&i| regions[i].len).unwrap_or(0);
        KernelCode { bits, regions, largest, lent, copied }
    }

    fn bytes(&self) -> &[u8] {
        self.lent.unwrap_or(&self.copied)
    }
}

impl LoadedCode {
    /// A copy of all code of an image: `.text`, `.init.text`, `.altinstr_replacement` and so on; in 7.2 also `.data`, which
    /// holds the code that kexec copies.
    pub fn of(image: &Image) -> LoadedCode {
        let code = image.sections().iter().filter(|s| s.executable && s.allocated && s.bits_present);
        LoadedCode::new(image.bits(), code.map(|s| (s.address, image.section_bytes(s))))
    }

    /// A copy of the code of an image from some addresses up to others, with some behind each: an instruction that begins
    /// in one of these stretches is there as a whole.
    pub(super) fn part_of(image: &Image, stretches: &[(u64, u64)]) -> LoadedCode {
        const BEHIND: u64 = 32;
        let sections = image.sections().iter().filter(|s| s.executable && s.allocated && s.bits_present);
        let parts = sections.flat_map(|section| {
            let code = image.section_bytes(section);
            let end = section.address.saturating_add(code.len() as u64);
            let clipped = stretches.iter().map(move |&(low, high)| {
                (low.clamp(section.address, end), high.saturating_add(BEHIND).clamp(section.address, end))
            });
            let wanted = merged(clipped.filter(|(low, high)| low < high).collect());
            let offset = |address: u64| (address - section.address) as usize;
            wanted.into_iter().map(move |(low, high)| (low, &code[offset(low)..offset(high)]))
        });
        LoadedCode::new(image.bits(), parts)
    }

    /// A copy of these bytes at these addresses, which must not overlap.
    pub fn new<'a>(bits: Bits, parts: impl IntoIterator<Item = (u64, &'a [u8])>) -> LoadedCode {
        let parts: Vec<_> = parts.into_iter().collect();
        let mut bytes = LargeBytes::with_capacity(parts.iter().map(|(_, part)| part.len()).sum());
        let mut regions = Vec::with_capacity(parts.len());
        for (start, part) in parts {
            regions.push(Region { start, at: bytes.len(), len: part.len() });
            bytes.extend_from_slice(part);
        }
        KernelCode::in_order(bits, regions, None, bytes)
    }

    /// Adds bytes at an address where there are none.
    pub fn add(&mut self, start: u64, bytes: &[u8]) {
        let region = Region { start, at: self.bytes().len(), len: bytes.len() };
        self.own().extend_from_slice(bytes);
        let place = self.regions.partition_point(|other| other.start < start);
        self.regions.insert(place, region);
        self.largest += usize::from(place <= self.largest);
    }

    /// Overwrites what is at this address.
    pub fn poke(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let place = self.place(address);
        let place = place.and_then(|(at, end)| self.own().get_mut(..end)?.get_mut(at..at + bytes.len()));
        place.ok_or_else(|| outside(address, bytes.len()))?.copy_from_slice(bytes);
        Ok(())
    }

    fn own(&mut self) -> &mut LargeBytes {
        if let Some(bytes) = self.lent.take() {
            self.copied.extend_from_slice(bytes);
        }
        &mut self.copied
    }
}

impl KernelCode<'_> {
    /// Pointer size.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// Where this address is in `bytes`, and where its region ends.
    fn place(&self, address: u64) -> Option<(usize, usize)> {
        let place = |region: &Region| {
            let at = address.checked_sub(region.start).filter(|&at| at < region.len as u64)?;
            Some((region.at + at as usize, region.at + region.len))
        };
        self.regions.get(self.largest).and_then(place).or_else(|| {
            let after = self.regions.partition_point(|region| region.start <= address);
            place(self.regions.get(after.checked_sub(1)?)?)
        })
    }

    /// The code from this address to the end of its region; empty where there is none.
    pub fn from(&self, address: u64) -> &[u8] {
        self.place(address).map_or(&[], |(at, end)| &self.bytes()[at..end])
    }

    /// `len` bytes at this address.
    pub fn read(&self, address: u64, len: usize) -> Result<&[u8]> {
        self.from(address).get(..len).ok_or_else(|| outside(address, len))
    }

    /// Where a branch of `len` bytes with this displacement goes.
    pub fn target(&self, address: u64, len: usize, displacement: &[u8]) -> u64 {
        let offset = match *displacement {
            [a] => i64::from(a as i8),
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            _ => 0,
        };
        address.wrapping_add(len as u64).wrapping_add(offset as u64) & self.bits.max_address()
    }
}

fn outside(address: u64, len: usize) -> Error {
    Error::table(format!("{len} bytes are not all in one section of code")).at_address(address)
}
