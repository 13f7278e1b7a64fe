//! Rows numbered through: which part has the row of a number.

use super::rows::Part;

/// How many bits of a number do not tell where to look for its part.
const NEAR: u32 = 12;

/// Parts whose rows are counted one part after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    /// Each with the number of its first row.
    parts: Vec<(u32, Part)>,
    /// The part of each number whose lower bits are 0.
    near: Vec<u16>,
}

impl Parts {
    /// Of parts with so many rows. None where there are more rows, or parts, than numbers.
    pub(super) fn of(lengths: &[(Part, usize)]) -> Option<Parts> {
        u16::try_from(lengths.len()).ok()?;
        let (mut parts, mut near, mut rows) = (Vec::with_capacity(lengths.len()), Vec::new(), 0_u32);
        for (number, &(part, len)) in (0..).zip(lengths) {
            parts.push((rows, part));
            rows = rows.checked_add(u32::try_from(len).ok()?)?;
            near.resize(rows.div_ceil(1 << NEAR) as usize, number);
        }
        Some(Parts { parts, near })
    }

    /// The part that has the row of a number, and its place there. The number is one of a row.
    pub(super) fn place(&self, number: u32) -> (Part, usize) {
        let mut at = usize::from(self.near[(number >> NEAR) as usize]);
        // One without rows begins where the next does.
        while self.parts.get(at + 1).is_some_and(|next| next.0 <= number) {
            at += 1;
        }
        let (from, part) = self.parts[at];
        (part, (number - from) as usize)
    }

    /// The numbers of the rows of `.parainstructions`; none without it.
    pub(super) fn paravirt(&self) -> std::ops::Range<u32> {
        let Some(place) = self.parts.iter().position(|(_, part)| part.is_paravirt()) else { return 0..0 };
        self.parts[place].0..self.parts.get(place + 1).map_or(u32::MAX, |next| next.0)
    }

    /// The parts in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Part> {
        self.parts.iter().map(|&(_, part)| part)
    }
}
