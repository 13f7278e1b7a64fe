//! `callthunks_patch_builtin_calls()`: with `retbleed=stuff`, every direct call is counted.
//!
//! Each call in `.call_sites` from core text to core text goes to the padding in front of its function instead, which
//! becomes the counting instruction. Source: arch/x86/kernel/callthunks.c (6.2, e81dc127ef69; the sites of
//! `.parainstructions` too while there were any, from 6.8 to 6.14 those of `.altinstructions`).

use super::decision::{Kind, Reason};
use super::passes::Pass;
use super::relocate::{self, Move};
use super::run::{Run, row_error};
use crate::error::Result;
use crate::insn::{self, CALL, NOP};

/// Longest template there is room for.
const MAX_TEMPLATE: u64 = 32;

pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    if !run.boot.with(run.boot.call_depth) {
        return Ok(());
    }
    let tables = run.tables;
    for (row, address) in tables.call_sites.rows() {
        patch(run, row, address).map_err(|error| row_error(error, Pass::CallSites, row, address))?;
    }
    for (row, site) in (0..).zip(tables.paravirt.iter().flat_map(|table| &table.sites)) {
        let address = site.address;
        patch(run, row, address).map_err(|error| row_error(error, Pass::Paravirt, row, address))?;
    }
    if run.rules.count_alternatives
        && let Some(table) = &tables.alternatives
    {
        for (row, alternative) in (0..).zip(&table.rows) {
            let address = alternative.address;
            patch(run, row, address).map_err(|error| row_error(error, Pass::Alternatives, row, address))?;
        }
    }
    run.counting = true;
    Ok(())
}

/// `patch_call()`.
fn patch(run: &mut Run<'_>, row: u32, address: u64) -> Result<()> {
    let [CALL, a, b, c, d, ..] = *run.memory.from(address) else { return Ok(()) };
    let target = run.memory.target(address, 5, &[a, b, c, d]);
    if !run.landmarks.in_text(address) || !counts(run, target) {
        return Ok(());
    }
    let Some(pad) = pad(run, row, target)? else { return Ok(()) };
    run.poke(Pass::CallSites, row, address, &insn::call(address, pad), Kind::Thunked, Reason::CallDepth)
}

/// `callthunks_translate_call_dest()`: where a call of this function goes.
pub(super) fn translate(run: &mut Run<'_>, function: u64) -> Result<u64> {
    if !run.counting || !counts(run, function) {
        return Ok(function);
    }
    Ok(pad(run, 0, function)?.unwrap_or(function))
}

/// `skip_addr()`, `is_coretext()`.
fn counts(run: &Run<'_>, function: u64) -> bool {
    run.landmarks.in_text(function) && !run.landmarks.is_uncounted(function)
}

/// `patch_dest()`: the counting code before a function, written if it is not there yet; `None` where there is no room.
fn pad(run: &mut Run<'_>, row: u32, function: u64) -> Result<Option<u64>> {
    let Some((start, end)) = run.landmarks.call_template else { return Ok(None) };
    let len = end.wrapping_sub(start).min(MAX_TEMPLATE) as usize;
    let Some(template) = (run.data)(start, len) else { return Ok(None) };
    let mut buffer = [0; MAX_TEMPLATE as usize];
    let code = &mut buffer[..len];
    code.copy_from_slice(template);
    let pad = function.wrapping_sub(len as u64);
    relocate::every(Move { from: start, len, to: pad }, run.memory.bits(), code)?;
    let here = run.memory.from(pad).get(..len).unwrap_or_default();
    if here == code {
        return Ok(Some(pad));
    }
    if here.len() != len || here.iter().any(|&b| b != NOP) {
        return Ok(None);
    }
    run.poke(Pass::CallSites, row, pad, code, Kind::Filled, Reason::CallDepth)?;
    Ok(Some(pad))
}
