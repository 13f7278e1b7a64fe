//! `runtime_ptr_*`, `runtime_shift_*`, `runtime_mask_*`: constants the kernel writes into its code once it knows them.
//!
//! One section for each constant, its rows as in [`super::relative`], each the address of the immediate itself: the word of
//! a `mov`, the one byte of a shift, 4 bytes of an `and` (include/asm/runtime-const.h, 6.11; masks since 7.3).

use super::code::Code;
use super::relative::{self, AddressTable, Kind};
use crate::error::Result;

/// The sites of one constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstantTable {
    /// The sites; the section's name tells the constant.
    pub table: AddressTable,
    /// Bytes at each site.
    pub width: u8,
}

pub(crate) fn read(code: &Code<'_>) -> Result<Vec<ConstantTable>> {
    // What the sections' names begin with, and how many bytes each site has.
    let word = code.image().bits().word() as u8;
    let kinds = [("runtime_ptr_", word), ("runtime_shift_", 1), ("runtime_mask_", 4)];
    let mut tables = Vec::new();
    for section in code.image().sections() {
        let Some(&(_, width)) = kinds.iter().find(|(prefix, _)| section.name.starts_with(prefix)) else { continue };
        let table = relative::read(code, Kind::of(&section.name, width.into()))?;
        tables.push(ConstantTable { table, width });
    }
    Ok(tables)
}
