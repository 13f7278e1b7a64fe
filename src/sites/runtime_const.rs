//! `runtime_ptr_*`, `runtime_shift_*`, `runtime_mask_*`: constants the kernel writes into its code once it knows them.
//!
//! One section for each constant, its rows as in [`super::relative`], each the address of the immediate itself: 8 bytes of
//! a `mov`, the one byte of a shift, 4 bytes of an `and` (include/asm/runtime-const.h, 6.11; masks since 7.3).

use super::code::Code;
use super::relative::{self, AddressTable, Shape};
use crate::error::Result;

/// What the sections' names begin with, and how many bytes each site has.
const KINDS: [(&str, u8); 3] = [("runtime_ptr_", 8), ("runtime_shift_", 1), ("runtime_mask_", 4)];

/// The sites of one constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstantTable {
    /// The sites; the section's name tells the constant.
    pub table: AddressTable,
    /// Bytes at each site.
    pub width: u8,
}

pub(crate) fn read(code: &Code<'_>) -> Result<Vec<ConstantTable>> {
    let mut tables = Vec::new();
    for section in code.image().sections() {
        let Some(&(_, width)) = KINDS.iter().find(|(prefix, _)| section.name.starts_with(prefix)) else { continue };
        let table = relative::read_section(code, section, Shape { least: width.into(), holes: false })?;
        tables.push(ConstantTable { table, width });
    }
    Ok(tables)
}
