//! An address space of a dump: which addresses it has, and where in the file.

use std::ops::Range;

/// A stretch of memory that is in one piece in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its first address.
    pub address: u64,
    /// How many bytes it has.
    pub size: u64,
    /// Where in the file they are.
    pub offset: u64,
}

impl Extent {
    fn end(&self) -> u64 {
        self.address.saturating_add(self.size)
    }
}

/// Extents by address, no two of which overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Space(Vec<Extent>);

impl Space {
    /// Sorts extents. Where they overlap the one that begins first has the bytes: a core with page tables walked lists the
    /// same memory many times.
    pub(super) fn new(mut extents: Vec<Extent>) -> Space {
        extents.retain(|extent| extent.size > 0);
        extents.sort_by_key(|extent| (extent.address, u64::MAX - extent.size));
        let mut end = 0u64;
        let mut kept: Vec<Extent> = Vec::with_capacity(extents.len());
        for mut extent in extents {
            let covered = end.saturating_sub(extent.address);
            if covered >= extent.size && !kept.is_empty() {
                continue;
            }
            extent.address += covered;
            extent.offset = extent.offset.saturating_add(covered);
            extent.size -= covered;
            end = extent.end();
            match kept.last_mut() {
                // Neighbours in memory that are neighbours in the file are one.
                Some(last) if last.end() == extent.address && last.offset + last.size == extent.offset => {
                    last.size += extent.size;
                }
                _ => kept.push(extent),
            }
        }
        Space(kept)
    }

    /// The extents by address.
    pub fn extents(&self) -> &[Extent] {
        &self.0
    }

    /// How many bytes of memory it has.
    pub fn size(&self) -> u64 {
        self.0.iter().fold(0, |sum, extent| sum.saturating_add(extent.size))
    }

    /// The parts of a range that are there, by address.
    pub(super) fn within(&self, range: Range<u64>) -> impl Iterator<Item = Extent> + '_ {
        let from = self.0.partition_point(|extent| extent.end() <= range.start);
        self.0.get(from..).unwrap_or_default().iter().map_while(move |extent| {
            let address = extent.address.max(range.start);
            let end = extent.end().min(range.end);
            let offset = extent.offset.saturating_add(address - extent.address);
            (address < end).then(|| Extent { address, size: end - address, offset })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(address: u64, size: u64, offset: u64) -> Extent {
        Extent { address, size, offset }
    }

    #[test]
    fn what_is_listed_twice_is_there_once() {
        let space = Space::new(vec![extent(10, 5, 100), extent(0, 20, 0), extent(15, 10, 200), extent(3, 0, 7)]);
        assert_eq!(space.extents(), [extent(0, 20, 0), extent(20, 5, 205)]);
        assert_eq!(space.size(), 25);
    }

    #[test]
    fn neighbours_become_one() {
        let space = Space::new(vec![extent(0x1000, 0x1000, 0x5000), extent(0x2000, 0x1000, 0x6000)]);
        assert_eq!(space.extents(), [extent(0x1000, 0x2000, 0x5000)]);
    }

    #[test]
    fn a_range_has_parts_and_holes() {
        let space = Space::new(vec![extent(10, 10, 0), extent(30, 10, 10)]);
        let parts: Vec<Extent> = space.within(15..35).collect();
        assert_eq!(parts, [extent(15, 5, 5), extent(30, 5, 10)]);
        assert_eq!(space.within(20..30).count(), 0);
    }

    #[test]
    fn the_end_of_the_address_space_is_no_trap() {
        let space = Space::new(vec![extent(u64::MAX - 10, 20, 5), extent(u64::MAX, 1, 0)]);
        assert!(space.within(0..u64::MAX).count() > 0);
    }
}
