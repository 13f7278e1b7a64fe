//! What happens next: one time per physical CPU, and the least of them found by a tournament.

/// Nothing happens there.
pub(super) const NEVER: u64 = u64::MAX;

/// One time per slot. The earliest comes first; of equals, the lowest slot.
#[derive(Debug)]
pub(super) struct Calendar {
    /// Rounded up to a power of two.
    slots: usize,
    /// A heap-shaped tree: leaves are `slots..2 * slots`, and each node has the least of its two.
    times: Vec<u64>,
}

impl Calendar {
    pub fn new(slots: usize) -> Calendar {
        let slots = slots.next_power_of_two();
        Calendar { slots, times: vec![NEVER; 2 * slots] }
    }

    #[inline]
    pub fn set(&mut self, slot: usize, time: u64) {
        let mut node = self.slots + slot;
        self.times[node] = time;
        while node > 1 {
            let least = self.times[node].min(self.times[node ^ 1]);
            node >>= 1;
            self.times[node] = least;
        }
    }

    /// (time, slot) of the next.
    #[inline]
    pub fn first(&self) -> (u64, usize) {
        let time = self.times[1];
        let mut node = 1;
        while node < self.slots {
            node = 2 * node + usize::from(self.times[2 * node] != time);
        }
        (time, node - self.slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_of_equals_the_lowest() {
        for slots in [1, 2, 3, 8, 9, 33] {
            let mut calendar = Calendar::new(slots);
            let mut plain = vec![NEVER; slots];
            let mut x = 12345u64;
            for _ in 0..2000 {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let (slot, time) = ((x >> 33) as usize % slots, (x >> 20) % 7);
                calendar.set(slot, time);
                plain[slot] = time;
                let least = plain.iter().copied().min().unwrap_or(NEVER);
                let place = plain.iter().position(|&t| t == least).unwrap_or(0);
                assert_eq!(calendar.first(), (least, place));
            }
        }
    }
}
