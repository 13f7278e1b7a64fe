//! Jump labels: `__jump_label_set_jump_code()`, arch/x86/kernel/jump_label.c (5.10 on).

use crate::insn;
use crate::verify::site_map::SiteMap;
use crate::verify::state::State;

impl SiteMap<'_> {
    /// A jump label where its key is so, and its length.
    pub(in crate::verify) fn jump_label(&self, row: u32, on: bool, state: &State) -> ([u8; 5], usize) {
        let label = &self.tables.jump_labels[row as usize];
        let mut bytes = [0; 5];
        match (label.len, on != label.branch) {
            (2, true) => bytes[..2].copy_from_slice(&[0xeb, label.target.wrapping_sub(label.address + 2) as u8]),
            (2, false) => state.nops.fill(&mut bytes[..2]),
            (_, true) => bytes = insn::jmp(label.address, label.target),
            (_, false) => bytes = self.rules.nop5(self.bits, state.nops),
        }
        (bytes, label.len.into())
    }
}
