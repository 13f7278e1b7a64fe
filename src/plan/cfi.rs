//! `apply_fineibt()`: kernels that clang built with kCFI get new hashes at each boot, and FineIBT where the CPU has IBT.
//!
//! | | preamble, 16 bytes before each function | caller, 14 bytes before each indirect call |
//! |---|---|---|
//! | kCFI, as built | `mov $hash,%eax`, nops | `mov $-hash,%r10d; add -15(%r11),%r10d; je; ud2` |
//! | re-hashed (`cfi=norand`: not) | the hash xor the boot's seed | likewise |
//! | FineIBT | `endbr64; sub $hash,%r10d; je; ud2; nop` | `mov $hash,%r10d; sub $16,%r11; nop` |
//! | `cfi=off` | re-hashed | `jmp` over the check |
//! | function sealed, see [`super::ibt`] | hash 0 | – |
//!
//! Source: arch/x86/kernel/alternative.c of 6.2 to 6.12: FineIBT (931ab63664f0), the choice (082c4c815252), new hashes
//! (0c3e806ec0f9); since 6.5 the function's own `endbr64` goes (04505bbbbb15). The code of FineIBT is the image's own
//! (`fineibt_preamble_start`, `fineibt_caller_start`), with 0x12345678 where the hash goes; else 6.2's.

use super::decision::{Kind, Reason};
use super::forms::ENDBR64;
use super::guess::{Forms, Guess};
use super::landmarks::PLACEHOLDER;
use super::machine::{Cfi, CfiMode};
use super::passes::Pass;
use super::run::{Run, row_error};
use crate::error::Result;
use crate::insn::JMP_SHORT;

/// Where the function begins behind its preamble.
const PREAMBLE: u64 = 16;
/// Where the caller's check begins before its call.
const CALLER: u64 = 14;
/// `fineibt_preamble_start` and `fineibt_caller_start` of 6.2.
const PREAMBLE_CODE: [u8; 16] = *b"\xf3\x0f\x1e\xfa\x41\x81\xea\x78\x56\x34\x12\x74\x03\x0f\x0b\x90";
const CALLER_CODE: [u8; 14] = *b"\x41\xba\x78\x56\x34\x12\x49\x83\xeb\x10\x0f\x1f\x40\x00";

/// `is_endbr()`: `endbr64` and `endbr32`, and since 6.2 the poison; a hash may not look like one.
fn is_endbr(word: u32) -> bool {
    matches!(word.to_le_bytes(), [0xf3, 0x0f, 0x1e, 0xfa | 0xfb] | [0x66, 0x0f, 0x1f, 0x00])
}

/// `cfi_rehash()`.
pub fn rehash(hash: u32, seed: u32) -> u32 {
    let mut hash = hash ^ seed;
    while is_endbr(hash) || is_endbr(hash.wrapping_neg()) {
        let low = hash & 1 != 0;
        hash >>= 1;
        if low {
            hash ^= 0x8020_0003;
        }
    }
    hash
}

/// The hash that a kCFI preamble holds.
fn preamble_hash(run: &Run<'_>, address: u64) -> Option<u32> {
    match run.memory.from(address) {
        [0xb8, a, b, c, d, ..] => Some(u32::from_le_bytes([*a, *b, *c, *d])).filter(|&hash| hash != 0),
        _ => None,
    }
}

/// The hash that a caller asks for.
fn caller_hash(run: &Run<'_>, address: u64) -> Option<u32> {
    match run.memory.from(address) {
        [0x41, 0xba, a, b, c, d, 0x45, 0x03, ..] => {
            Some(u32::from_le_bytes([*a, *b, *c, *d]).wrapping_neg()).filter(|&hash| hash != 0)
        }
        _ => None,
    }
}

pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    let tables = run.tables;
    if tables.cfi.is_empty() {
        return Ok(());
    }
    let Cfi { mode, seed } = run.boot.cfi;
    for (row, address) in tables.cfi.rows() {
        preamble(run, row, address, mode, seed).map_err(|error| row_error(error, Pass::Cfi, row, address))?;
    }
    for (row, site) in tables.retpolines.rows() {
        let address = site.wrapping_sub(CALLER);
        caller(run, row, address, mode, seed).map_err(|error| row_error(error, Pass::CfiCallers, row, address))?;
    }
    Ok(())
}

/// `cfi_rand_preamble()`, `cfi_rewrite_preamble()`, `cfi_rewrite_endbr()`.
fn preamble(run: &mut Run<'_>, row: u32, address: u64, mode: CfiMode, seed: Option<u32>) -> Result<()> {
    let Some(built) = preamble_hash(run, address) else {
        run.keep(Pass::Cfi, row, address, Reason::NotFound);
        return Ok(());
    };
    let hash = seed.map_or(built, |seed| rehash(built, seed)).to_le_bytes();
    if mode != CfiMode::FineIbt {
        return run.poke(Pass::Cfi, row, address.wrapping_add(1), &hash, Kind::Constant, Reason::Rehashed);
    }
    let mut code = run.landmarks.fineibt_preamble.unwrap_or(PREAMBLE_CODE);
    fill(&mut code, hash);
    run.poke(Pass::Cfi, row, address, &code, Kind::Inlined, Reason::FineIbt)?;
    let function = address.wrapping_add(PREAMBLE);
    let poison = run.rules.endbr_poison;
    if run.rules.seals_hashes && run.memory.read(function, 4).is_ok_and(|here| here == ENDBR64) {
        run.poke(Pass::Cfi, row, function, &poison, Kind::Sealed, Reason::FineIbt)?;
    }
    Ok(())
}

/// `cfi_rand_callers()`, `cfi_rewrite_callers()`.
fn caller(run: &mut Run<'_>, row: u32, address: u64, mode: CfiMode, seed: Option<u32>) -> Result<()> {
    // A caller without a check has none to change.
    let Some(built) = caller_hash(run, address) else { return Ok(()) };
    let hash = seed.map_or(built, |seed| rehash(built, seed));
    match mode {
        CfiMode::FineIbt => {
            let mut code = run.landmarks.fineibt_caller.unwrap_or(CALLER_CODE);
            fill(&mut code, hash.to_le_bytes());
            run.poke(Pass::CfiCallers, row, address, &code, Kind::Inlined, Reason::FineIbt)
        }
        CfiMode::Kcfi => {
            let field = hash.wrapping_neg().to_le_bytes();
            run.poke(Pass::CfiCallers, row, address.wrapping_add(2), &field, Kind::Constant, Reason::Rehashed)
        }
        CfiMode::Off => {
            let [a, b, c, d] = hash.wrapping_neg().to_le_bytes();
            let code = [JMP_SHORT, CALLER as u8 - 2, a, b, c, d];
            run.poke(Pass::CfiCallers, row, address, &code, Kind::Jumped, Reason::CfiOff)
        }
    }
}

/// Puts the hash in its place.
fn fill(code: &mut [u8], hash: [u8; 4]) {
    if let Some(at) = place(code) {
        code[at..at + 4].copy_from_slice(&hash);
    }
}

/// Where FineIBT's code has the hash.
fn place(code: &[u8]) -> Option<usize> {
    code.windows(4).position(|window| window == PLACEHOLDER)
}

/// `poison_cfi()` (6.5, 9831c6253ace): the preamble of a sealed function accepts no caller.
pub(super) fn seal(run: &mut Run<'_>, row: u32, function: u64) -> Result<()> {
    if run.tables.cfi.is_empty() || !run.rules.seals_hashes {
        return Ok(());
    }
    let address = function.wrapping_sub(PREAMBLE);
    let (poisoned, at) = match run.boot.cfi.mode {
        CfiMode::Off => return Ok(()),
        CfiMode::Kcfi => (false, 1),
        CfiMode::FineIbt => {
            let code = run.landmarks.fineibt_preamble.unwrap_or(PREAMBLE_CODE);
            (true, place(&code).unwrap_or(7) as u64)
        }
    };
    if poisoned && run.memory.read(address, 4).is_ok_and(|here| here == ENDBR64) {
        let poison = run.rules.endbr_poison;
        run.poke(Pass::Ibt, row, address, &poison, Kind::Sealed, Reason::Unneeded)?;
    }
    run.poke(Pass::Ibt, row, address.wrapping_add(at), &[0; 4], Kind::Sealed, Reason::Unneeded)
}

/// Notes the hashes as guesses where the seed is not given.
pub(super) fn guesses(run: &mut Run<'_>) {
    if run.tables.cfi.is_empty() || run.boot.cfi_known {
        return;
    }
    let tables = run.tables;
    let note = |run: &mut Run<'_>, pass, row, address: u64| {
        // A sealed function's hash is 0 whatever the seed.
        if run.memory.read(address, 4).is_ok_and(|hash| hash != [0; 4]) {
            run.plan.guess(Guess { address, len: 4, pass, row, forms: Forms::Hash });
        }
    };
    let fine = run.boot.cfi.mode == CfiMode::FineIbt;
    let preamble = place(&run.landmarks.fineibt_preamble.unwrap_or(PREAMBLE_CODE)).unwrap_or(7);
    let called = run.landmarks.fineibt_caller.unwrap_or(CALLER_CODE);
    let caller = place(&called).unwrap_or(2);
    for (row, address) in tables.cfi.rows() {
        let here = run.memory.from(address);
        if matches!(here, [0xb8, ..]) && !fine {
            note(run, Pass::Cfi, row, address.wrapping_add(1));
        } else if fine && here.len() >= PREAMBLE_CODE.len() {
            note(run, Pass::Cfi, row, address.wrapping_add(preamble as u64));
        }
    }
    for (row, site) in tables.retpolines.rows() {
        let address = site.wrapping_sub(CALLER);
        let here = run.memory.from(address);
        let checked = matches!(here, [0x41, 0xba, _, _, _, _, 0x45, 0x03, ..]);
        if checked {
            note(run, Pass::CfiCallers, row, address.wrapping_add(2));
        } else if fine
            && here.starts_with(&called[..caller])
            && here.get(caller + 4..).is_some_and(|rest| rest.starts_with(&called[caller + 4..]))
        {
            note(run, Pass::CfiCallers, row, address.wrapping_add(caller as u64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_never_looks_like_endbr() {
        let endbr = u32::from_le_bytes([0xf3, 0x0f, 0x1e, 0xfa]);
        assert_eq!(rehash(5, 3), 6);
        let hash = rehash(endbr, 0);
        assert!(!is_endbr(hash) && !is_endbr(hash.wrapping_neg()));
        assert_eq!(hash, endbr >> 1 ^ 0x8020_0003);
        assert_ne!(rehash(endbr.wrapping_neg(), 0), endbr.wrapping_neg());
    }
}
