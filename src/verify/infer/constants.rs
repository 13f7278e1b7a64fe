//! Run-time constants: each table holds one value.

use super::tally::Tally;
use super::{Inference, Unknown};

impl Inference<'_, '_, '_> {
    pub(super) fn constants(&mut self) {
        let map = self.map;
        for (index, constant) in map.tables.constants.iter().enumerate() {
            let mut tally = Tally::new();
            for (_, address) in constant.table.rows() {
                if let Some(found) = self.view.bytes(address, constant.width.into()) {
                    let mut bytes = [0; 8];
                    bytes[..found.len()].copy_from_slice(found);
                    tally.add(u64::from_le_bytes(bytes));
                }
            }
            let known = self.known.constants.get(&constant.table.section).copied();
            let (value, votes, all) = tally.winner().unwrap_or((0, 0, 0));
            let (value, votes) = known.map_or((value, votes), |k| (k, tally.0.get(&k).copied().unwrap_or(0)));
            self.state.constants[index] = value;
            self.vote(Unknown::Constant(index as u16), value, votes, all - votes, known.is_some());
        }
    }
}
