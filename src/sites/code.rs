//! Where code lies in an image: every site must.

use crate::error::{Error, Result};
use crate::image::Image;
use crate::insn::{CALL, CALL_LEN};

/// The executable sections of an image, with their bytes.
pub(crate) struct Code<'a> {
    image: &'a Image,
    /// By address; sections do not overlap.
    ranges: Vec<Range<'a>>,
    /// Nearly everything is asked about `.text`.
    largest: usize,
}

struct Range<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl<'a> Code<'a> {
    pub fn of(image: &'a Image) -> Code<'a> {
        let executable = image.sections().iter().filter(|s| s.executable && s.allocated && s.bits_present);
        let mut ranges: Vec<_> =
            executable.map(|s| Range { start: s.address, bytes: image.section_bytes(s) }).collect();
        ranges.sort_by_key(|range| range.start);
        let largest = (0..ranges.len()).max_by_key(|&i| ranges[i].bytes.len()).unwrap_or(0);
        Code { image, ranges, largest }
    }

    pub fn image(&self) -> &'a Image {
        self.image
    }

    /// Address and bytes of each executable section, by address.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, &'a [u8])> + '_ {
        self.ranges.iter().map(|range| (range.start, range.bytes))
    }

    /// The code from this address to the end of its section; `None` where there is none.
    pub fn from(&self, address: u64) -> Option<&'a [u8]> {
        let rest = |range: &Range<'a>| {
            let at = address.checked_sub(range.start)?;
            let rest = range.bytes.get(usize::try_from(at).ok()?..)?;
            (!rest.is_empty()).then_some(rest)
        };
        self.ranges.get(self.largest).and_then(rest).or_else(|| self.below(address).and_then(rest))
    }

    /// The last range that does not begin behind this address.
    fn below(&self, address: u64) -> Option<&Range<'a>> {
        self.ranges.get(self.ranges.partition_point(|range| range.start <= address).checked_sub(1)?)
    }

    /// Fails unless `len` bytes of code are at this address.
    #[inline]
    pub fn holds(&self, address: u64, len: usize) -> Result<&'a [u8]> {
        let held = |range: &Range<'a>| {
            let at = usize::try_from(address.checked_sub(range.start)?).ok()?;
            range.bytes.get(at..)?.get(..len)
        };
        match self.ranges.get(self.largest).and_then(held) {
            Some(held) => Ok(held),
            None => self.holds_elsewhere(address, len),
        }
    }

    fn holds_elsewhere(&self, address: u64, len: usize) -> Result<&'a [u8]> {
        let Some(rest) = self.from(address) else {
            return Err(Error::table("the site lies in no executable section").at_address(address));
        };
        rest.get(..len)
            .ok_or_else(|| Error::table(format!("a site of {len} bytes leaves its section")).at_address(address))
    }

    /// Whether this address is one of code, or the end of some.
    pub fn reaches(&self, address: u64) -> bool {
        let end = |range: &Range<'_>| address - range.start <= range.bytes.len() as u64;
        self.below(address).is_some_and(end) || self.from(address.wrapping_sub(1)).is_some_and(|rest| rest.len() == 1)
    }
}

/// Where the `call rel32` at an address goes; `None` where none is there.
pub(crate) fn call_target(code: &Code<'_>, address: u64) -> Option<u64> {
    let here = code.from(address)?.get(..CALL_LEN)?;
    let target = address.wrapping_add(CALL_LEN as u64).wrapping_add(Record(here).s32(1) as u64);
    (here[0] == CALL).then_some(target & code.image().bits().max_address())
}

/// The little-endian numbers of a record, checked for room by its reader.
pub(crate) struct Record<'a>(pub &'a [u8]);

impl Record<'_> {
    pub fn u8(&self, at: usize) -> u8 {
        self.0[at]
    }

    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    pub fn s32(&self, at: usize) -> i32 {
        i32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// A pointer of this many bytes.
    pub fn pointer(&self, at: usize, word: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..word].copy_from_slice(&self.0[at..at + word]);
        u64::from_le_bytes(bytes)
    }
}

/// An address given relative to the place it is given at; i386 computes with 32 bits.
pub(crate) fn relative(place: u64, offset: i64, word: usize) -> u64 {
    let sum = place.wrapping_add(offset as u64);
    if word == 4 { sum & 0xffff_ffff } else { sum }
}
