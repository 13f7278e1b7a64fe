//! What a random kernel is made by: decisions read from bytes, so that fuzzing can choose them.

/// Decisions, as long as they last; then the first choice of each.
pub struct Choices<'c>(pub &'c [u8]);

impl Choices<'_> {
    /// One of so many numbers from 0 on.
    pub fn roll(&mut self, sides: usize) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first) % sides
    }

    /// One of a list.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.roll(list.len())]
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.roll(2) == 1
    }
}
