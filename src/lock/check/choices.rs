//! Which of the ways on that a program leaves open a step takes.

/// Bits of one way in the number of a choice: a step has at most eight ways on at a place.
const BITS: u32 = 3;
/// Places a choice has room for: more than any program passes between two steps.
const PLACES: u32 = u32::BITS / BITS;

/// The ways that a step takes at the places where several are open, one after another. Which places it passes depends on
/// what it took at those before, so how many choices there are is known only from taking them in order: [`Self::next`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Choices {
    /// The way at each place, the first lowest.
    wanted: u32,
    /// The last way at each place passed, likewise.
    last: u32,
    passed: u32,
}

impl Choices {
    pub fn new(wanted: u32) -> Choices {
        Choices { wanted, ..Choices::default() }
    }

    /// The way to take at a place with this many; nothing is decided where there is one.
    pub fn take(&mut self, ways: u8) -> u8 {
        if ways < 2 {
            return 0;
        }
        // The programs here are the crate's own, and none has so many.
        debug_assert!(ways <= 1 << BITS && self.passed < PLACES);
        let up = self.passed * BITS;
        let last = ways - 1;
        self.last |= u32::from(last) << up;
        self.passed += 1;
        digit(self.wanted, up).min(last)
    }

    /// Whether each way wanted was there to take, and none was wanted where nothing was open.
    pub fn are_there(&self) -> bool {
        let more = self.wanted.checked_shr(self.passed * BITS).unwrap_or(0);
        let within = (0..self.passed).all(|place| digit(self.wanted, place * BITS) <= digit(self.last, place * BITS));
        more == 0 && within
    }

    /// The choice after this one: the next way at the last place that has another, and the first at those behind it.
    pub fn next(&self) -> Option<u32> {
        let up = (0..self.passed).rev().map(|place| place * BITS);
        let mut another = up.filter(|&up| digit(self.wanted, up) < digit(self.last, up));
        another.next().map(|up| (self.wanted & ((1 << up) - 1)) + ((u32::from(digit(self.wanted, up)) + 1) << up))
    }
}

fn digit(number: u32, up: u32) -> u8 {
    (number >> up) as u8 & ((1 << BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All choices of a step, with the ways it took.
    fn all(step: impl Fn(&mut Choices) -> Vec<u8>) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut next = Some(0);
        while let Some(choice) = next {
            let mut choices = Choices::new(choice);
            found.push(step(&mut choices));
            assert!(choices.are_there());
            next = choices.next();
        }
        found
    }

    #[test]
    fn each_way_is_taken_with_each_of_those_behind_it() {
        assert_eq!(all(|c| vec![c.take(2), c.take(3)]), [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]);
    }

    #[test]
    fn what_is_open_behind_depends_on_the_way_taken() {
        let step = |c: &mut Choices| match c.take(3) {
            0 => vec![0, c.take(2)],
            way => vec![way],
        };
        assert_eq!(all(step), [vec![0, 0], vec![0, 1], vec![1], vec![2]]);
    }

    #[test]
    fn one_way_is_no_choice() {
        assert_eq!(all(|c| vec![c.take(1), c.take(0), c.take(2)]), [[0, 0, 0], [0, 0, 1]]);
    }

    #[test]
    fn ways_that_are_not_there_are_seen() {
        for (wanted, there) in [(1, true), (2, false), (0o10, false)] {
            let mut choices = Choices::new(wanted);
            choices.take(2);
            assert_eq!(choices.are_there(), there, "{wanted:o}");
        }
    }
}
