//! Waiting times, counted in buckets of bounded relative width: memory does not grow with the run.

/// Buckets below 2^FINE are exact; above, each power of two is cut in 2^FINE.
const FINE: u32 = 6;
const BUCKETS: usize = ((64 - FINE as usize) + 1) << FINE;

/// A histogram of times in ps. A bucket is at most 1/64 of its times wide.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

#[inline]
fn bucket(time: u64) -> usize {
    let shift = (63 - (time | 1).leading_zeros()).saturating_sub(FINE);
    ((shift as usize) << FINE) + (time >> shift) as usize
}

/// The longest time that a bucket holds.
fn upper(bucket: usize) -> u64 {
    let shift = (bucket >> FINE).saturating_sub(1) as u32;
    let low = (bucket as u64 - (u64::from(shift) << FINE)) << shift;
    low + ((1 << shift) - 1)
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], total: 0, longest: 0 }
    }
}

impl Histogram {
    #[inline]
    pub(super) fn add(&mut self, time: u64) {
        // Most locks are free.
        if time == 0 {
            self.counts[0] += 1;
        } else {
            self.counts[bucket(time)] += 1;
            self.longest = self.longest.max(time);
        }
        self.total += 1;
    }

    /// How many times were added.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The longest, exactly; 0 where there is none.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// The time that at least this share (0 to 1) did not exceed: the upper end of its bucket, at most the longest.
    /// None where nothing was added.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        self.counts.iter().enumerate().find_map(|(i, count)| {
            seen += count;
            (seen >= rank).then(|| upper(i).min(self.longest))
        })
    }

    /// (longest time of the bucket, count) of each bucket that holds something, shortest first.
    pub fn rows(&self) -> Vec<(u64, u64)> {
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(i, &count)| (upper(i), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_its_bucket() {
        let mut times: Vec<u64> = (0..300).collect();
        times.extend((8..64).flat_map(|e| [(1u64 << e) - 1, 1 << e, (1 << e) + 1, (1 << e) + (1 << (e - 1))]));
        times.push(u64::MAX);
        for time in times {
            let b = bucket(time);
            assert!(upper(b) >= time, "{time}");
            assert!(b == 0 || upper(b - 1) < time, "{time}");
            assert!((upper(b) - time) as f64 <= time as f64 / 64.0, "{time}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let mut h = Histogram::default();
        assert_eq!(h.quantile(0.5), None);
        (1..=1000u64).for_each(|t| h.add(t * 1000));
        for (share, exact) in [(0.5, 500_000u64), (0.999, 999_000), (1.0, 1_000_000)] {
            let found = h.quantile(share).unwrap_or_default();
            assert!(found >= exact && (found - exact) as f64 <= exact as f64 / 64.0, "{share}: {found}");
        }
        assert_eq!(h.rows().iter().map(|r| r.1).sum::<u64>(), 1000);
    }
}
