//! `apply_returns()`: jumps to `__x86_return_thunk`, as built; `ret` where no thunk is wanted.
//!
//! Source: arch/x86/kernel/alternative.c (5.19, 15e67227c49a, and stable), `patch_return()`, `cpu_wants_rethunk_at()`
//! (5.10.262, 6.1, 6.12, 7.2). Where returns go through `its_return_thunk` (6.15, a75bf27fe41a, and stable), only those
//! in the lower half of a cache line do.

use super::decision::{Kind, Reason};
use super::forms::RET5;
use super::passes::Pass;
use super::run::{Run, row_error};
use crate::error::Result;
use crate::insn::{self, INT3, JMP, RET};
use crate::sites::static_calls::TRAMPOLINE_ENDS;

/// What a return at this address becomes.
pub(super) fn ret(run: &Run<'_>, address: u64) -> ([u8; 5], Reason) {
    let thunk = run.boot.return_thunk.or(run.landmarks.return_thunk);
    match thunk {
        _ if !run.rethunk() => (RET5, Reason::NoReturnThunk),
        None => (RET5, Reason::NoReturnThunk),
        Some(thunk) if Some(thunk) == run.landmarks.its_return_thunk && address & 0x20 != 0 => {
            (RET5, Reason::UpperHalf)
        }
        Some(thunk) => (insn::jmp(address, thunk), Reason::ReturnThunk),
    }
}

/// The length of the return at this address, where `apply_returns()` knows it: a jump to the thunk, to which clang puts a
/// prefix (`cs jmp`).
fn len(run: &Run<'_>, address: u64) -> Option<usize> {
    let code = run.memory.from(address);
    // __static_call_fixup(): a trampoline without target, which static_call_init() may have rewritten already.
    if let [RET, _, _, _, _, x, y, z, ..] = code {
        return TRAMPOLINE_ENDS.contains(&[*x, *y, *z]).then_some(RET5.len());
    }
    let step = insn::step(run.memory.bits(), code).filter(|step| step.opcode[0] == JMP)?;
    let (at, _) = step.branch()?;
    let target = run.memory.target(address, step.len, &code[at..step.len]);
    (Some(target) == run.landmarks.return_thunk).then_some(step.len)
}

pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    let tables = run.tables;
    for (row, address) in tables.returns.rows() {
        if !run.runs(address) {
            continue;
        }
        let Some(len) = len(run, address) else {
            run.keep(Pass::Returns, row, address, Reason::NotFound);
            continue;
        };
        let (five, reason) = ret(run, address);
        let mut bytes = [INT3; 16];
        bytes[..five.len()].copy_from_slice(&five);
        run.poke(Pass::Returns, row, address, &bytes[..len], Kind::Returned, reason)
            .map_err(|error| row_error(error, Pass::Returns, row, address))?;
    }
    Ok(())
}
