//! Numbers by chance, the same in every run: xorshift64*, Vigna 2016.
#![allow(dead_code)]

/// The generator; what it is made of must not be 0.
pub struct Dice(pub u64);

impl Dice {
    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`, which is 0 where `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n.max(1)
    }

    /// One of a list, which must have one.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// At most so many of a list, in any order.
    pub fn shuffled<T: Copy>(&mut self, list: &[T], most: usize) -> Vec<T> {
        let mut list = list.to_vec();
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
        list.truncate(most);
        list
    }

    /// Overwrites, copies, cuts or zeroes a few places of a blob, often with numbers that lie near a bound.
    pub fn mutate(&mut self, blob: &mut Vec<u8>) {
        for _ in 0..1 + self.below(8) {
            let (at, n) = (self.below(blob.len()), 1 + self.below(16));
            let end = (at + n).min(blob.len());
            match self.below(8) {
                0 => blob[at..end].fill(0xff),
                1 => blob[at..end].fill(0),
                2 => blob.truncate(at.max(1)),
                3 => {
                    let from = self.below(blob.len() - (end - at) + 1);
                    blob.copy_within(from..from + (end - at), at);
                }
                4 => blob[at] = blob[at].wrapping_add(1),
                5 => blob[at] ^= 1 << self.below(8),
                6 => blob[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][self.below(6)],
                _ => blob[at] = self.next() as u8,
            }
        }
    }
}
