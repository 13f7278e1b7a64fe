//! `apply_ibt_endbr()` (5.18, ed53a0d97192), since 6.5 `apply_seal_endbr()` (be0fffa5ca89): an `endbr64` that no
//! indirect branch needs becomes a nop, at which an indirect branch faults.
//!
//! It is written on every CPU where the kernel is built for IBT (arch/x86/kernel/alternative.c). `gen_endbr_poison()` in
//! arch/x86/include/asm/ibt.h: `66 0f 1f 00`, since 6.18 `0f 1f 40 d6` (85a2d4a890dc).

use super::cfi;
use super::decision::{Kind, Reason};
use super::forms::{ENDBR32, ENDBR64};
use super::passes::Pass;
use super::run::{Run, row_error};
use crate::error::Result;

pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    let poison = run.rules.endbr_poison;
    let tables = run.tables;
    for (row, address) in tables.ibt.rows() {
        if !run.runs(address) {
            continue;
        }
        let placed = |error| row_error(error, Pass::Ibt, row, address);
        let here = run.memory.read(address, 4).map_err(placed)?;
        if here == ENDBR64 || here == ENDBR32 || here == poison {
            run.poke(Pass::Ibt, row, address, &poison, Kind::Sealed, Reason::Unneeded).map_err(placed)?;
        } else {
            run.keep(Pass::Ibt, row, address, Reason::NotFound);
        }
        // Whatever poison_endbr() found (apply_seal_endbr() since 9831c6253ace).
        cfi::seal(run, row, address).map_err(placed)?;
    }
    Ok(())
}
