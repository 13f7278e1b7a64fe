//! `ftrace_init()`: calls of `__fentry__` become nops, until somebody traces.
//!
//! The nop is the one of five bytes that is one instruction (`ftrace_nop_replace()`, arch/x86/kernel/ftrace.c).

use super::decision::{Kind, Reason};
use super::passes::Pass;
use super::run::{Run, row_error};
use crate::error::Result;
use crate::insn::{CALL, CALL_LEN};

pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    let nop = run.boot.nops.atomic5;
    for (row, &address) in (0..).zip(&run.tables.mcount) {
        let placed = |error| row_error(error, Pass::Mcount, row, address);
        let here = run.memory.read(address, CALL_LEN).map_err(placed)?;
        if here[0] == CALL || here == nop {
            run.poke(Pass::Mcount, row, address, &nop, Kind::Nopped, Reason::NotTraced).map_err(placed)?;
        } else {
            // ftrace stops with an error here, and leaves the rest as it is.
            run.keep(Pass::Mcount, row, address, Reason::NotFound);
        }
    }
    Ok(())
}
