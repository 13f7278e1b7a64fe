//! Votes, counted.

use std::collections::BTreeMap;

/// How many sites say what.
pub(super) struct Tally<K>(pub BTreeMap<K, u32>);

impl<K: Copy + Ord> Tally<K> {
    pub fn new() -> Tally<K> {
        Tally(BTreeMap::new())
    }

    pub fn add(&mut self, value: K) {
        *self.0.entry(value).or_default() += 1;
    }

    /// The value most say, the lowest of several; how many say so, and how many there are in all.
    pub fn winner(&self) -> Option<(K, u32, u32)> {
        let all = self.0.values().sum();
        self.0
            .iter()
            .map(|(&value, &n)| (value, n))
            .min_by_key(|&(value, n)| (u32::MAX - n, value))
            .map(|(v, n)| (v, n, all))
    }
}
