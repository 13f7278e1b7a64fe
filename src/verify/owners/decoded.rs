//! The instructions of one function, where they begin and where they jump: what lets a probe be set in it.

use std::ops::Range;

use crate::insn::{self, CALL};
use crate::verify::site_map::SiteMap;

/// The instructions of a function, as they should be.
#[derive(Default)]
pub(super) struct Decoded {
    pub range: Range<u64>,
    /// Where they begin, as far as they can be decoded.
    starts: Vec<u64>,
    /// Where they jump, in order.
    targets: Vec<u64>,
    /// Whether nobody knows where all of them jump.
    anywhere: bool,
}

impl Decoded {
    /// Decodes a function of a text that begins where the map's does.
    pub fn of(map: &SiteMap<'_>, text: &[u8], range: Range<u64>) -> Decoded {
        let mut decoded = Decoded { range: range.clone(), anywhere: true, ..Decoded::default() };
        let offset = |address: u64| usize::try_from(address.checked_sub(map.text.0)?).ok();
        let Some((mut at, end)) = offset(range.start).zip(offset(range.end)) else { return decoded };
        let (base, mut anywhere) = (map.text.0, false);
        while at < end {
            decoded.starts.push(base + at as u64);
            let Some(code) = text.get(at..end) else { return decoded };
            let Some(step) = insn::step(map.bits, code) else { return decoded };
            let field = match step.opcode[0] {
                CALL => None,
                0xe0..=0xe3 => Some(step.len - 1),
                _ => step.branch().map(|(field, _)| field),
            };
            if let Some(field) = field {
                decoded.targets.push(map.code.target(base + at as u64, step.len, &code[field..step.len]));
            }
            // Without retpolines a jump table may lead anywhere.
            let indirect = step.opcode[0] == 0xff && step.opcode[1] >> 3 & 6 == 4;
            anywhere |= indirect && map.landmarks.indirect_thunks.is_none();
            at += step.len;
        }
        decoded.targets.sort_unstable();
        decoded.anywhere = anywhere;
        decoded
    }

    pub fn begins(&self, address: u64) -> bool {
        self.starts.binary_search(&address).is_ok()
    }

    pub fn jumps_into(&self, range: Range<u64>) -> bool {
        let first = self.targets.partition_point(|&target| target < range.start);
        self.anywhere || self.targets.get(first).is_some_and(|&target| target < range.end)
    }
}
