//! `runtime_const_fixup()`: constants in instructions (arch/x86/include/asm/runtime-const.h, 6.11, e3c92e81711d).

use super::decision::{Kind, Reason};
use super::machine::Known;
use super::passes::Pass;
use super::run::{Run, row_error};
use crate::error::Result;

/// Writes every constant that is known; the others stay as built, undetermined.
pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    let (tables, boot) = (run.tables, run.boot);
    for constant in &tables.constants {
        let section = &constant.table.section;
        let Some(&Known { value, .. }) = boot.constants.get(section) else { continue };
        let bytes = value.to_le_bytes();
        for (row, address) in constant.table.rows() {
            if !run.runs(address) {
                continue;
            }
            run.poke(Pass::RuntimeConst, row, address, &bytes[..constant.width.into()], Kind::Constant, Reason::AtBoot)
                .map_err(|error| row_error(error.in_section(section), Pass::RuntimeConst, row, address))?;
        }
    }
    Ok(())
}
