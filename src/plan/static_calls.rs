//! Static calls: each call site calls its key's function directly.
//!
//! | site | function | NULL | returns 0 | warns (7.2) | `queued_spin_unlock` (7.3) |
//! |---|---|---|---|---|---|
//! | call | `call` | nop of 5 | `xor` with prefixes (5.12 and later) | `ud1 (%edx),%rdi` | `ds ds movb $0,(%rdi)` |
//! | tail jump | `jmp` | `ret`, or to the return thunk | | | |
//! | `jcc` | `jcc` | `jcc` to a `ret` | | | |
//! | trampoline | `jmp` | as a tail jump | | | |
//!
//! `static_call_init()` runs before any return thunk is chosen: a tail jump to NULL is a `ret` then. Up to 6.4 it stays
//! one, unless calls are counted (e81dc127ef69, 6.2: `callthunks_patch_builtin_calls()` calls
//! `static_call_force_reinit()`); since 6.5 (aee9d30b9744: `apply_returns()` calls it) all sites are done again where
//! there is a thunk. Sources: arch/x86/kernel/static_call.c, kernel/static_call_inline.c of 5.10 (1e7e47883830), 5.12
//! (3f2a8fc4b15d: functions that return 0), 6.1, 6.12, 7.2 (860238af7a33: functions that warn).

use super::decision::{Kind, Reason};
use super::forms::{RET5, UNLOCK, WARN, ZERO, ZERO_DATA16};
use super::machine::Known;
use super::passes::Pass;
use super::run::{Run, row_error};
use super::{callthunks, returns};
use crate::error::{Error, Result};
use crate::insn::{self, CALL, JMP, RET};
use crate::numbers::unsigned;
use crate::sites::StaticCall;

/// The function of a key: as the machine says, else as the image has it.
pub(super) fn function(run: &Run<'_>, key: u64) -> Known<u64> {
    run.boot.static_calls.get(&key).copied().unwrap_or_else(|| Known { value: built(run, key), certain: false })
}

/// `key->func` as built; a key in `.bss` has none.
fn built(run: &Run<'_>, key: u64) -> u64 {
    (run.data)(key, run.memory.bits().word()).and_then(unsigned).unwrap_or(0)
}

/// `static_call_init()` from `setup_arch()`.
pub(super) fn initialise(run: &mut Run<'_>) -> Result<()> {
    each(run, built, false)
}

/// `static_call_init()` as an initcall, after `static_call_force_reinit()`.
pub(super) fn again(run: &mut Run<'_>) -> Result<()> {
    if !done_again(run) {
        return Ok(());
    }
    let by_then = |run: &Run<'_>, key| {
        if run.boot.early_calls.contains(&key) { function(run, key).value } else { built(run, key) }
    };
    each(run, by_then, true)
}

/// Whether `static_call_force_reinit()` was called.
fn done_again(run: &Run<'_>) -> bool {
    run.rethunk() && (run.rules.static_calls.again || run.counting)
}

/// `static_call_update()` of the keys that changed.
///
/// What changes before a return thunk is chosen (`preempt_dynamic_init()`) becomes a plain `ret`. Sites are done again
/// where an era does that; trampolines never are. Where calls are not inlined (i386) an update writes the trampoline also if
/// the call went there before: `__static_call_update()`, include/linux/static_call.h; to be seen where it went nowhere.
pub(super) fn update(run: &mut Run<'_>) -> Result<()> {
    let tables = run.tables;
    let changed = |run: &Run<'_>, key| Some(function(run, key).value).filter(|&now| now != built(run, key));
    let late = |run: &Run<'_>, key: u64| !run.boot.early_calls.contains(&key);
    let again = done_again(run);
    for (row, trampoline) in (0..).zip(&tables.trampolines) {
        if !run.runs(trampoline.address) {
            continue;
        }
        let function = match trampoline.key {
            Some(key) => changed(run, key),
            None => unkeyed(run, trampoline.address),
        };
        let key = trampoline.key.unwrap_or(trampoline.address);
        let cleared_again = || {
            tables.static_calls.is_empty()
                && !late(run, key)
                && run.boot.static_calls.get(&key).is_some_and(|known| known.value == 0)
        };
        let Some(function) = function.or_else(|| cleared_again().then_some(0)) else { continue };
        let site = StaticCall { address: trampoline.address, key: 0, tail: true };
        let thunks = late(run, key);
        transform(run, Pass::Trampolines, row, &site, function, thunks)?;
    }
    for (row, site) in (0..).zip(&tables.static_calls) {
        if !run.runs(site.address) {
            continue;
        }
        if let Some(function) = changed(run, site.key) {
            let thunks = again || late(run, site.key);
            transform(run, Pass::StaticCalls, row, site, function, thunks)?;
        }
    }
    Ok(())
}

/// Where a trampoline whose key nothing names goes, by its own address, if that is not where it goes as built. One that
/// goes nowhere is built as a return, which may be a jump to the return thunk.
fn unkeyed(run: &Run<'_>, address: u64) -> Option<u64> {
    let now = run.boot.static_calls.get(&address)?.value;
    let here = run.memory.from(address);
    let jumps = |to: u64| here.starts_with(&insn::jmp(address, to));
    let nowhere = now == 0 || Some(now) == run.landmarks.return_thunk;
    let thunks = [run.landmarks.return_thunk, run.boot.return_thunk];
    let same = match nowhere {
        true => here.first() == Some(&RET) || thunks.into_iter().flatten().any(jumps),
        false => jumps(now),
    };
    (!same).then_some(if nowhere { 0 } else { now })
}

fn each(run: &mut Run<'_>, function: impl Fn(&Run<'_>, u64) -> u64, thunks: bool) -> Result<()> {
    let tables = run.tables;
    for (row, site) in (0..).zip(&tables.static_calls) {
        if !run.runs(site.address) {
            continue;
        }
        let function = function(run, site.key);
        transform(run, Pass::StaticCalls, row, site, function, thunks)?;
    }
    Ok(())
}

/// `__static_call_transform()`; `thunks` says whether a return thunk has been chosen by then.
fn transform(run: &mut Run<'_>, pass: Pass, row: u32, site: &StaticCall, function: u64, thunks: bool) -> Result<()> {
    let address = site.address;
    let placed = |error| row_error(error, Pass::StaticCalls, row, address);
    let here = run.memory.from(address);
    let known = match here {
        [JMP | RET, ..] | [0x0f, 0x80..=0x8f, ..] if site.tail => true,
        [CALL, ..] if !site.tail => true,
        _ if site.tail => false,
        _ => here.first_chunk().is_some_and(|here| {
            *here == run.boot.nops.atomic5
                || [ZERO, ZERO_DATA16, WARN].contains(here)
                || (run.rules.static_calls.unlock && *here == UNLOCK)
        }),
    };
    if !known && run.rules.static_calls.checked {
        return Err(placed(Error::bug("BUG: no static call stands here (__static_call_validate)")));
    }
    let condition = match here {
        [0x0f, condition @ 0x80..=0x8f, ..] if site.tail => Some(*condition),
        _ => None,
    };
    let mut bytes = [0x0f; 6];
    let (len, kind, reason) = if let Some(condition) = condition {
        let target = if function != 0 { Some(function) } else { conditional_return(run, thunks) };
        let Some(target) = target else {
            return Err(placed(Error::table("no __static_call_return to jump to")));
        };
        bytes[1..].copy_from_slice(&insn::jmp(address + 1, target));
        bytes[1] = condition;
        (6, Kind::Jumped, Reason::Target)
    } else {
        let (five, kind, reason) = unconditional(run, site, function, thunks).map_err(placed)?;
        bytes[..5].copy_from_slice(&five);
        let short = run.rules.static_calls.short_ret && five == RET5;
        (if short { 1 } else { 5 }, kind, reason)
    };
    if run.memory.read(address, len).map_err(placed)? == &bytes[..len] {
        run.keep(pass, row, address, reason);
        return Ok(());
    }
    run.poke(pass, row, address, &bytes[..len], kind, reason).map_err(placed)
}

fn conditional_return(run: &Run<'_>, thunks: bool) -> Option<u64> {
    if thunks && run.rethunk() {
        return run.boot.return_thunk.or(run.landmarks.return_thunk);
    }
    run.landmarks.static_call_return
}

fn unconditional(run: &mut Run<'_>, site: &StaticCall, function: u64, thunks: bool) -> Result<([u8; 5], Kind, Reason)> {
    let address = site.address;
    Ok(match (site.tail, function) {
        (false, 0) => (run.boot.nops.atomic5, Kind::Nopped, Reason::NullTarget),
        (true, 0) if thunks => (returns::ret(run, address).0, Kind::Returned, Reason::NullTarget),
        (true, 0) => (RET5, Kind::Returned, Reason::NullTarget),
        (true, _) => (insn::jmp(address, function), Kind::Jumped, Reason::Target),
        (false, _) => {
            // Counted first: where calls are counted, none of the short forms is met.
            let function = callthunks::translate(run, function)?;
            let rules = run.rules.static_calls;
            let is = |mark: Option<u64>| mark == Some(function);
            if let (Some(zero), true) = (rules.zero.form(), is(run.landmarks.return0)) {
                (zero, Kind::Zeroed, Reason::ReturnsZero)
            } else if rules.warn && is(run.landmarks.warn_trap) {
                (WARN, Kind::Trapped, Reason::Warns)
            } else if rules.unlock && is(run.landmarks.native_unlock) {
                (UNLOCK, Kind::Inlined, Reason::Short)
            } else {
                (insn::call(address, function), Kind::Called, Reason::Target)
            }
        }
    })
}
