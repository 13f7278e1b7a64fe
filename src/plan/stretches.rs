//! Stretches of code by address, asked for mostly one after the other.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Stretches that do not overlap, ascending: (start, end).
#[derive(Debug)]
pub(super) struct Stretches {
    ranges: Vec<(u64, u64)>,
    near: Near,
    /// The answer before this one: who asks mostly goes on from there.
    last: AtomicUsize,
}

impl Stretches {
    /// Of these ranges; those that overlap are one.
    pub fn of(ranges: Vec<(u64, u64)>) -> Stretches {
        let ranges = merged(ranges);
        Stretches { near: Near::to(&ranges), ranges, last: AtomicUsize::new(0) }
    }

    /// All of them.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Which is the first that ends behind an address; their number where none does.
    pub fn behind(&self, address: u64) -> usize {
        let ends_before = |i: usize| self.ranges.get(i).is_some_and(|range| range.1 <= address);
        let last = self.last.load(Ordering::Relaxed);
        if !ends_before(last) && last.checked_sub(1).is_none_or(ends_before) {
            return last;
        }
        let found = self.ranges.partition_point(|range| range.1 <= address);
        self.last.store(found, Ordering::Relaxed);
        found
    }

    /// The first that has an address from `low` up to but not including `high`.
    pub fn touching(&self, low: u64, high: u64) -> Option<(u64, u64)> {
        if !self.near.may_have(low, high) {
            return None;
        }
        self.ranges.get(self.behind(low)).copied().filter(|range| range.0 < high)
    }

    /// Whether one has this address.
    pub fn has(&self, address: u64) -> bool {
        self.touching(address, address.saturating_add(1)).is_some()
    }
}

/// Which addresses may lie in some ranges: a bit for each [`Near::PART`] of the address space, many of which share one. Of
/// hundreds of thousands of sites all but few are told at once to lie in none.
#[derive(Debug, Clone)]
struct Near(Box<[u64; Near::WORDS]>);

impl Near {
    /// Bytes of a part, as a power of 2: more than nearly all sites have.
    const PART: u32 = 8;
    /// How many bits there are, as a power of 2.
    const BITS: u32 = 16;
    const WORDS: usize = 1 << (Near::BITS - 6);

    fn to(ranges: &[(u64, u64)]) -> Near {
        let mut bits = Box::new([0; Near::WORDS]);
        for &(low, high) in ranges {
            let (first, last) = (low >> Near::PART, high.saturating_sub(1) >> Near::PART);
            for part in first..=last.min(first.saturating_add((1 << Near::BITS) - 1)) {
                let (word, bit) = Near::bit(part);
                bits[word] |= 1 << bit;
            }
        }
        Near(bits)
    }

    fn bit(part: u64) -> (usize, u32) {
        let bit = part & ((1 << Near::BITS) - 1);
        ((bit / 64) as usize, (bit % 64) as u32)
    }

    /// Whether one of the ranges may have an address from `low` up to but not including `high`.
    fn may_have(&self, low: u64, high: u64) -> bool {
        let is_set = |part| {
            let (word, bit) = Near::bit(part);
            self.0[word] >> bit & 1 != 0
        };
        let (first, last) = (low >> Near::PART, high.saturating_sub(1) >> Near::PART);
        is_set(first) || is_set(last) || last > first + 1
    }
}

/// Ranges by address; those that overlap are one.
pub(super) fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut found: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match found.last_mut() {
            Some(last) if low < last.1 => last.1 = last.1.max(high),
            _ => found.push((low, high)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_are_one_and_those_that_touch_are_two() {
        assert_eq!(Stretches::of(vec![(8, 9), (1, 3), (2, 5), (5, 6)]).ranges(), [(1, 5), (5, 6), (8, 9)]);
    }

    #[test]
    fn each_address_is_found_whatever_was_asked_before() {
        let stretches = Stretches::of(vec![(2, 4), (4, 6), (9, 12)]);
        let behind = |address| [2..4, 4..6, 9..12].iter().take_while(|range| range.end <= address).count();
        for first in 0..14 {
            for then in 0..14 {
                assert_eq!(stretches.behind(first), behind(first));
                assert_eq!(stretches.behind(then), behind(then));
                assert_eq!(stretches.has(then), (2..6).contains(&then) || (9..12).contains(&then));
            }
        }
        assert_eq!(stretches.touching(0, 2), None);
        assert_eq!(stretches.touching(0, 3), Some((2, 4)));
        assert_eq!(stretches.touching(6, 10), Some((9, 12)));
    }

    #[test]
    fn long_ranges_and_long_questions_are_answered_too() {
        let stretches = Stretches::of(vec![(0x1000, 0x9000), (1 << 40, (1 << 40) + 1)]);
        assert!((0x1000..0x9000).step_by(0x80).all(|address| stretches.has(address)));
        assert!(![0xfff, 0x9000, 0x1000 + (1 << 24), (1 << 40) + 1].into_iter().any(|address| stretches.has(address)));
        assert_eq!(stretches.touching(0x9000, u64::MAX), Some((1 << 40, (1 << 40) + 1)));
        assert_eq!(Stretches::of(vec![(0, u64::MAX)]).touching(5, 6), Some((0, u64::MAX)));
    }
}
