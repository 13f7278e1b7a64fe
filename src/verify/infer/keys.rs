//! Static keys: one state for all jump labels of a key.

use super::{Inference, Unknown};
use crate::plan::Pass;
use crate::verify::visit::Kind;

impl Inference<'_, '_, '_> {
    pub(super) fn keys(&mut self) {
        let map = self.map;
        let mut counts = vec![[0u32; 2]; map.keys.len()];
        // Where all sites of a key hold neither form, the state is that of the nearer one.
        let mut distances = vec![[0usize; 2]; map.keys.len()];
        for cluster in map.group(Pass::JumpLabels) {
            for visit in map.visits(cluster) {
                let Kind::Jump { row, key } = visit.kind else { continue };
                let Some(found) = self.view.bytes(visit.address, visit.len.into()) else { continue };
                for on in [false, true] {
                    let (bytes, len) = map.jump_label(row, on, &self.state);
                    let distance = bytes[..len].iter().zip(found).filter(|(a, b)| a != b).count();
                    counts[usize::from(key)][usize::from(on)] += u32::from(distance == 0);
                    distances[usize::from(key)][usize::from(on)] += distance;
                }
            }
        }
        for (index, (count, &(address, built))) in counts.iter().zip(&map.keys).enumerate() {
            let known = self.known.keys.get(&address).copied();
            let [off_by, on_by] = distances[index];
            let nearer = if off_by == on_by { built } else { on_by < off_by };
            let on = known.unwrap_or(if count[0] == count[1] { nearer } else { count[1] > count[0] });
            self.state.keys[index] = on;
            self.vote(
                Unknown::Key(address),
                on.into(),
                count[usize::from(on)],
                count[usize::from(!on)],
                known.is_some(),
            );
        }
    }
}
