//! How often each byte value comes: what tells memory from noise, and from nothing.

use crate::error::Error;

/// Above this many bits a byte there is no order in bytes: they are encrypted, compressed, or noise.
pub(super) const NOISE: f64 = 7.9;
/// What is looked at together.
const PAGE: usize = 4096;
/// Fewer different bytes than these are in no memory of a machine that is not nearly empty: code alone has all.
const FEW_BYTES: usize = 128;

/// How often each byte value came.
pub(super) struct Histogram([u64; 256]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram([0; 256])
    }
}

impl Histogram {
    pub fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0[usize::from(byte)] += 1;
        }
    }

    fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub fn is_zero(&self) -> bool {
        self.total() == self.0[0]
    }

    /// Shannon's entropy, in bits a byte.
    pub fn bits(&self) -> f64 {
        let total = self.total().max(1) as f64;
        let bits = |&count: &u64| {
            let share = count as f64 / total;
            if count == 0 { 0.0 } else { -share * share.log2() }
        };
        self.0.iter().map(bits).sum()
    }
}

/// Why the beginning of plain memory is none, if it is none: it is noise, or says one thing again and again. Pages of zeros
/// say nothing for it or against it, unless there are no others: what starts a machine's CPUs lies low.
pub(super) fn never_memory(start: &[u8]) -> Option<Error> {
    let mut histogram = Histogram::default();
    let (mut zeros, mut pages) = (0, 0);
    for page in start.chunks(PAGE) {
        pages += 1;
        zeros += usize::from(page.iter().all(|&byte| byte == 0));
        histogram.add(page);
    }
    let (bits, different) = (histogram.bits(), histogram.0.iter().filter(|&&count| count > 0).count());
    let what = if histogram.is_zero() {
        "nothing but zeros".to_owned()
    } else if bits > NOISE {
        format!("{bits:.2} bits of information a byte: encrypted, compressed or noise")
    } else if zeros < pages / 2 && different < FEW_BYTES {
        format!("{different} different bytes in all")
    } else {
        return None;
    };
    Some(Error::memory(format!("its first {} MiB are no memory of a machine: {what}", start.len() >> 20)))
}
