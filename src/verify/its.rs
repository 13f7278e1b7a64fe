//! Where ITS thunks are: pages that the kernel allocates, filled in the order of `.retpoline_sites`.
//!
//! `its_allocate_thunk()`, arch/x86/kernel/alternative.c (6.15, 8754e67ad4ac; read of 7.2, stable 5.10, 6.1, 6.12): a
//! branch whose last byte would be in the lower half of a cache line goes to a thunk in an upper half. Which place in which
//! page follows from the table; only where the pages are does not. A paranoid check of FineIBT ends in the thunk
//! (`emit_paranoid_trampoline()`, e52c1dc7455d), and checks are rewritten before all other branches.

use std::sync::OnceLock;

use super::visit::Branch;
use crate::sites::AddressTable;

const PAGE: u16 = 4096;
const LINE: u16 = 64;
/// Set in addresses of the upper half of a cache line.
const UPPER: u64 = 0x20;

/// Page and offset in it.
pub(super) type Place = (u16, u16);

/// The place of each row's thunk: unfenced and fenced, and both with callers that check too.
#[derive(Debug, Default)]
pub(super) struct Thunks([OnceLock<Vec<Option<Place>>>; 4]);

/// What decides where thunks are, beside the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// `lfence` goes before a branch.
    pub fenced: bool,
    /// With paranoid FineIBT the end of a check is in the thunk, and checks get theirs before all other branches.
    pub paranoid: bool,
}

/// The thunks as they are allocated.
struct Pages {
    page: u16,
    offset: u16,
    /// Bytes of a check's end.
    before: u16,
}

impl Pages {
    /// `its_allocate_thunk()`: where a branch goes.
    fn allocate(&mut self, register: u8) -> Place {
        let size = 3 + u16::from(register / 8) + self.before;
        if self.offset + size > PAGE {
            self.page += 1;
            self.offset = LINE / 2;
        }
        if (self.offset + size - 1) % LINE < LINE / 2 {
            self.offset = ((self.offset - 1) | (LINE - 1)) + 1 + LINE / 2;
        }
        let place = (self.page - 1, self.offset + u16::from(self.before > 0));
        self.offset += size;
        place
    }
}

impl Thunks {
    /// By row of `.retpoline_sites`: page and offset of its thunk, where it has one. `in_check` says whether the branch of a
    /// row, at its address, belongs to a paranoid check.
    pub(super) fn places(
        &self,
        sites: &AddressTable,
        branches: &[Option<Branch>],
        layout: Layout,
        in_check: impl Fn(u32, u64) -> bool,
    ) -> &[Option<Place>] {
        let Layout { fenced, paranoid } = layout;
        self.0[usize::from(fenced) + 2 * usize::from(paranoid)].get_or_init(|| {
            let mut pages = Pages { page: 0, offset: PAGE, before: if paranoid { 3 } else { 0 } };
            let mut places = vec![None; branches.len()];
            let rows = || sites.rows().filter_map(|(row, at)| Some((row, at, branches.get(row as usize).copied()??)));
            let checks = |row, address| paranoid && in_check(row, address);
            for (row, address, branch) in rows().filter(|&(row, address, _)| checks(row, address)) {
                // Behind the comparison, two bytes into what was the branch.
                if address.wrapping_add(4) & UPPER == 0 {
                    places[row as usize] = Some(pages.allocate(branch.register));
                }
            }
            for (row, address, branch) in rows().filter(|&(row, address, _)| !checks(row, address)) {
                let before = if fenced { 3 } else { 0 } + if branch.conditional { 2 } else { 0 };
                let last = address.wrapping_add(before + 1 + u64::from(branch.register / 8));
                if last & UPPER == 0 {
                    places[row as usize] = Some(pages.allocate(branch.register));
                }
            }
            places
        })
    }
}
