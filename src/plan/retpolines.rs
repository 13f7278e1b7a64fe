//! `apply_retpolines()`: calls and jumps to `__x86_indirect_thunk_REG`, as built; indirect again where no retpoline is
//! wanted.
//!
//! | features | becomes |
//! |---|---|
//! | RETPOLINE, not LFENCE | stays; with CALL_DEPTH (6.2 and later) the thunk that counts |
//! | LFENCE | `lfence` before the indirect branch, where it fits |
//! | neither | `call *%reg`, `jmp *%reg` |
//! | ITS, last byte of the branch in the lower half of a cache line | a thunk in pages the kernel allocates |
//!
//! Since 6.1 a jump is followed by an `int3` (8c03af3e090e); up to 6.17 the rest are nops, since 6.18 a call is stretched
//! with `cs` prefixes and a jump followed by nothing but `int3` (4a1e02b15ac1). Sources: `patch_retpoline()` (5.16, 750850090081),
//! `emit_indirect()`, `its_allocate_thunk()` (6.15, 8754e67ad4ac, and stable) in arch/x86/kernel/alternative.c of
//! 5.10.262, 6.1, 6.12, 7.2.

use super::decision::{Kind, Reason};
use super::guess::{Forms, Guess};
use super::landmarks::Landmarks;
use super::loaded::KernelCode;
use super::machine::Boot;
use super::optimise::optimise;
use super::passes::Pass;
use super::rules::Retpolines;
use super::run::{Run, row_error};
use crate::error::{Error, Result};
use crate::insn::{self, CALL, CS, INT3, JMP, NOP, THUNK_SIZE};

const LFENCE: [u8; 3] = [0x0f, 0xae, 0xe8];
const REX_B: u8 = 0x41;
/// Where the area of modules begins (`MODULES_VADDR` with `CONFIG_RANDOMIZE_BASE`): what is allocated first, without KASLR.
const MODULES: u64 = 0xffff_ffff_c000_0000;

/// A call or jump to a thunk, as it stands at a site.
pub(super) struct Branch {
    address: u64,
    pub(super) len: usize,
    /// `CALL`, `JMP`, or the second byte of `jcc rel32`.
    pub(super) opcode: u8,
    pub(super) conditional: bool,
    register: u8,
}

pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    let tables = run.tables;
    for (row, address) in tables.retpolines.rows() {
        if run.runs(address) {
            patch(run, row, address).map_err(|error| row_error(error, Pass::Retpolines, row, address))?;
        } else {
            pass_over(run, address);
        }
    }
    Ok(())
}

/// Thunks of ITS lie in the order of all rows: one that is not run takes its place among them too. What the image has there
/// is what this pass meets: to the branches it knows no pass before it writes.
fn pass_over(run: &mut Run<'_>, address: u64) {
    let boot = run.boot;
    if !boot.with(boot.its) || keeps(boot) {
        return;
    }
    let branch = run.elsewhere.as_ref().and_then(|code| branch_at(code, run.landmarks, address).ok()?);
    if let Some(branch) = branch.filter(|branch| goes_to_its(boot, branch, before(boot, branch))) {
        run.its.thunk(branch.register, run.is_paranoid());
    }
}

/// Whether branches stay retpolines, as built.
fn keeps(boot: &Boot) -> bool {
    boot.with(boot.retpoline) && !boot.with(boot.retpoline_lfence)
}

/// How many bytes stand before the indirect branch that a site becomes.
fn before(boot: &Boot, branch: &Branch) -> usize {
    let condition = if branch.conditional { 2 } else { 0 };
    condition + if boot.with(boot.retpoline_lfence) { LFENCE.len() } else { 0 }
}

/// Whether that indirect branch, behind so many bytes, would end in the lower half of a cache line, and ITS forbids it.
fn goes_to_its(boot: &Boot, branch: &Branch, before: usize) -> bool {
    let last = branch.address.wrapping_add(before as u64 + 1 + u64::from(branch.register / 8));
    boot.with(boot.its) && last & 0x20 == 0
}

fn patch(run: &mut Run<'_>, row: u32, address: u64) -> Result<()> {
    let boot = run.boot;
    let Some(branch) = find(run, address)? else {
        let reason = if run.is_paranoid() { Reason::FineIbt } else { Reason::NotFound };
        run.keep(Pass::Retpolines, row, address, reason);
        return Ok(());
    };
    let lfence = boot.with(boot.retpoline_lfence);
    if keeps(boot) {
        let (Some(calls), Some(jumps), true) =
            (run.landmarks.call_thunks, run.landmarks.jump_thunks, boot.with(boot.call_depth))
        else {
            run.keep(Pass::Retpolines, row, address, Reason::Retpoline);
            return Ok(());
        };
        let base = if branch.opcode == CALL { calls } else { jumps };
        let target = base.wrapping_add(THUNK_SIZE * u64::from(branch.register));
        let (bytes, len) = thunk_branch(&branch, target);
        return run.poke(Pass::Retpolines, row, address, &bytes[..len], Kind::Thunked, Reason::CallDepth);
    }

    let mut bytes = [NOP; 16];
    let mut used = 0;
    if branch.conditional {
        // The condition turned round, over the jump.
        bytes[..2].copy_from_slice(&[0x70 + (branch.opcode & 0xf ^ 1), branch.len as u8 - 2]);
        used += 2;
    }
    if lfence {
        bytes[used..used + 3].copy_from_slice(&LFENCE);
        used += 3;
    }
    if goes_to_its(boot, &branch, used) {
        return its(run, row, &branch);
    }
    if !indirect(run.rules.retpolines, &branch, &mut bytes, used) {
        let (need, have) = ((used + 2 + usize::from(branch.register / 8)) as u16, branch.len as u16);
        run.keep(Pass::Retpolines, row, address, Reason::NoRoom { need, have });
        return Ok(());
    }
    let site = &mut bytes[..branch.len];
    optimise(run.rules.alternatives.nops, run.memory.bits(), boot.nops, site);
    let reason = if lfence { Reason::Lfence } else { Reason::NoRetpoline };
    run.poke(Pass::Retpolines, row, address, site, Kind::Indirect, reason)
}

/// The branch at a site; `None` where the kernel would warn and go on.
pub(super) fn find(run: &Run<'_>, address: u64) -> Result<Option<Branch>> {
    branch_at(&run.memory, run.landmarks, address)
}

fn branch_at(memory: &KernelCode<'_>, landmarks: &Landmarks, address: u64) -> Result<Option<Branch>> {
    let code = memory.from(address);
    let Some(step) = insn::step(memory.bits(), code) else { return Ok(None) };
    let (opcode, conditional) = match step.opcode {
        [opcode @ (CALL | JMP), _] => (opcode, false),
        [0x0f, opcode @ 0x80..=0x8f] => (opcode, true),
        _ => return Ok(None),
    };
    let (Some((at, _)), Some(array)) = (step.branch(), landmarks.indirect_thunks) else { return Ok(None) };
    let target = memory.target(address, step.len, &code[at..step.len]);
    let distance = target.wrapping_sub(array);
    if distance % THUNK_SIZE != 0 || distance / THUNK_SIZE > 15 {
        return Ok(None);
    }
    let register = (distance / THUNK_SIZE) as u8;
    if register == 4 {
        return Err(Error::bug("BUG: an indirect branch through %rsp (patch_retpoline)"));
    }
    Ok(Some(Branch { address, len: step.len, opcode, conditional, register }))
}

/// `emit_indirect()`, and the filling behind it. False where it does not fit.
fn indirect(rules: Retpolines, branch: &Branch, bytes: &mut [u8; 16], mut at: usize) -> bool {
    let call = !branch.conditional && branch.opcode == CALL;
    let need = 2 + usize::from(branch.register / 8);
    let Some(spare) = branch.len.checked_sub(at + need) else { return false };
    if rules.cs && call && spare <= 3 {
        bytes[at..at + spare].fill(CS);
        at += spare;
    }
    if branch.register >= 8 {
        bytes[at] = REX_B;
        at += 1;
    }
    bytes[at] = 0xff;
    bytes[at + 1] = if call { 0xd0 } else { 0xe0 } + branch.register % 8;
    at += 2;
    if !call && rules.cs {
        bytes[at..branch.len].fill(INT3);
    } else if !call && rules.int3 && at < branch.len {
        bytes[at] = INT3;
    }
    true
}

/// `emit_its_trampoline()`: to a thunk whose page is allocated at boot.
fn its(run: &mut Run<'_>, row: u32, branch: &Branch) -> Result<()> {
    let (bytes, guess) = its_branch(run, row, branch);
    run.poke(Pass::Retpolines, row, branch.address, &bytes[..branch.len.clamp(5, 6)], Kind::Thunked, Reason::Its)?;
    if let Some(guess) = guess {
        run.plan.guess(guess);
    }
    Ok(())
}

/// A branch to the next thunk; a guess, where nobody says where its page is.
pub(super) fn its_branch(run: &mut Run<'_>, row: u32, branch: &Branch) -> ([u8; 6], Option<Guess>) {
    let (page, offset) = run.its.thunk(branch.register, run.is_paranoid());
    let known = run.boot.its_pages.get(page).copied();
    let first = MODULES.wrapping_add(run.rules.retpolines.its_stride.wrapping_mul(page as u64));
    let target = known.unwrap_or(first).wrapping_add(offset);
    let (bytes, len) = thunk_branch(branch, target);
    let guess = known.is_none().then(|| {
        let forms = Forms::Thunk { page: page as u16, offset: offset as u16 };
        // Of the instruction only the displacement, its last four bytes.
        let address = branch.address + len as u64 - 4;
        Guess { address, len: 4, pass: Pass::Retpolines, row, forms }
    });
    (bytes, guess)
}

/// `__emit_trampoline()`: the branch as it was, to another place.
fn thunk_branch(branch: &Branch, target: u64) -> ([u8; 6], usize) {
    let mut bytes = [CS; 6];
    let len = branch.len.clamp(5, 6);
    let at = len - 5;
    if branch.conditional {
        bytes[0] = 0x0f;
    }
    bytes[at..len].copy_from_slice(&insn::jmp(branch.address + at as u64, target));
    bytes[at] = branch.opcode;
    (bytes, len)
}
