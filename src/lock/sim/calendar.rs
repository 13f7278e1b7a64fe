//! What happens next: one time per physical CPU, and the least of them found by a tournament.

/// Nothing happens there.
pub(super) const NEVER: u64 = u64::MAX;

/// How many compete at once: few enough to be compared without a branch, so many that most machines need one round.
const MATCH: usize = 8;

/// One match: the times of those who compete, and whose they are.
#[derive(Debug, Clone, Copy)]
struct Match {
    times: [u64; MATCH],
    slots: [u32; MATCH],
}

impl Match {
    /// (time, slot) of the earliest; of equals, the first.
    #[inline]
    fn winner(&self) -> (u64, u32) {
        let earlier = |a: (u64, u32), b: (u64, u32)| if b.0 < a.0 { b } else { a };
        let at = |i: usize| (self.times[i], self.slots[i]);
        let low = earlier(earlier(at(0), at(1)), earlier(at(2), at(3)));
        let high = earlier(earlier(at(4), at(5)), earlier(at(6), at(7)));
        earlier(low, high)
    }
}

/// One time per slot. The earliest comes first; of equals, the lowest slot.
#[derive(Debug)]
pub(super) struct Calendar {
    /// Rounds, the first with all slots, the last with one match.
    rounds: Vec<Vec<Match>>,
    first: (u64, u32),
}

impl Calendar {
    pub fn new(slots: usize) -> Calendar {
        let mut rounds = Vec::new();
        let mut entrants = slots;
        while rounds.is_empty() || entrants > 1 {
            let matches = entrants.div_ceil(MATCH);
            let slot = |place: usize| if rounds.is_empty() { place as u32 } else { 0 };
            let of = |m: usize| Match { times: [NEVER; MATCH], slots: std::array::from_fn(|i| slot(m * MATCH + i)) };
            rounds.push((0..matches).map(of).collect());
            entrants = matches;
        }
        Calendar { rounds, first: (NEVER, 0) }
    }

    #[inline]
    pub fn set(&mut self, slot: usize, time: u64) {
        let (mut place, mut best) = (slot, (time, slot as u32));
        for round in &mut self.rounds {
            let game = &mut round[place / MATCH];
            (game.times[place % MATCH], game.slots[place % MATCH]) = best;
            best = game.winner();
            place /= MATCH;
        }
        self.first = best;
    }

    /// (time, slot) of the next.
    #[inline]
    pub fn first(&self) -> (u64, usize) {
        (self.first.0, self.first.1 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_of_equals_the_lowest() {
        for slots in [1, 2, 3, 8, 9, 33, 64, 65, 600] {
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
