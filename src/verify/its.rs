//! Where ITS thunks are: pages that the kernel allocates, filled in the order of `.retpoline_sites`.
//!
//! `its_allocate_thunk()`, arch/x86/kernel/alternative.c (6.15, 8754e67ad4ac; read of 7.2, stable 5.10, 6.1, 6.12): a
//! branch whose last byte would be in the lower half of a cache line goes to a thunk in an upper half. Which place in which
//! page follows from the table; only where the pages are does not.

use std::sync::OnceLock;

use super::visit::Branch;
use crate::sites::AddressTable;

const PAGE: u16 = 4096;
const LINE: u16 = 64;

/// Page and offset in it.
pub(super) type Place = (u16, u16);

/// The place of each row's thunk, unfenced and fenced.
#[derive(Debug, Default)]
pub(super) struct Thunks([OnceLock<Vec<Option<Place>>>; 2]);

impl Thunks {
    /// By row of `.retpoline_sites`: page and offset of its thunk, where it has one.
    pub(super) fn places(&self, sites: &AddressTable, branches: &[Option<Branch>], fenced: bool) -> &[Option<Place>] {
        self.0[usize::from(fenced)].get_or_init(|| {
            let (mut page, mut offset) = (0, PAGE);
            let mut places = vec![None; branches.len()];
            for (row, address) in sites.rows() {
                let Some(branch) = branches.get(row as usize).copied().flatten() else { continue };
                let extended = u64::from(branch.register / 8);
                let before = if fenced { 3 } else { 0 } + if branch.conditional { 2 } else { 0 };
                if address.wrapping_add(before + 1 + extended) & 0x20 != 0 {
                    continue;
                }
                let size = 3 + extended as u16;
                if offset + size > PAGE {
                    page += 1;
                    offset = LINE / 2;
                }
                if (offset + size - 1) % LINE < LINE / 2 {
                    offset = ((offset - 1) | (LINE - 1)) + 1 + LINE / 2;
                }
                places[row as usize] = Some((page - 1, offset));
                offset += size;
            }
            places
        })
    }
}
