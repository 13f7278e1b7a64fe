//! `apply_fineibt()`: kernels that clang built with kCFI get new hashes at each boot, and FineIBT where the CPU has IBT.
//!
//! | | preamble before each function | caller, 14 bytes before each indirect call |
//! |---|---|---|
//! | kCFI, as built | `mov $hash,%eax`, nops | `mov $-hash,%r10d; add -15(%r11),%r10d; je; ud2` |
//! | re-hashed (`cfi=norand`: not) | the hash xor the boot's seed | likewise |
//! | FineIBT | `endbr64; sub $hash,%r10d; je; ud2; nop` | `mov $hash,%r10d; sub $16,%r11; nop` |
//! | .. BHI | `endbr64; sub $hash,%eax; cmovne %rax,%rdi; jne; nop`, or `call __bhi_args` for more arguments than one | the same |
//! | .. paranoid | the same | the call too: `mov $hash,%r10d; cmp -9(%r11),%r10d; lea -16(%r11),%r11; jne; call *%r11` |
//! | `cfi=off` | re-hashed | `jmp` over the check |
//! | function sealed, see [`super::ibt`] | hash 0 | – |
//!
//! Source: arch/x86/kernel/alternative.c of 6.2 to 6.12: FineIBT (931ab63664f0), the choice (082c4c815252), new hashes
//! (0c3e806ec0f9); since 6.5 the function's own `endbr64` goes (04505bbbbb15). The code of FineIBT is the image's own
//! (`fineibt_preamble_start`, `fineibt_caller_start`), with 0x12345678 where the hash goes; else 6.2's. 6.18.2 and 7.3-rc7:
//! `fineibt_paranoid_start` came with 6.15; since then functions without `endbr` keep their preambles, and only what is a
//! preamble is sealed. With ITS the rest of a paranoid check is in the thunk (e52c1dc7455d). BHI:
//! `cfi_fineibt_bhi_preamble()` of 6.15 to 7.3, where clang tells the number of arguments.
//!
//! A preamble begins 16 bytes before its function. Where functions are aligned to more it begins farther, and FineIBT's code
//! is written 16 bytes before the function all the same: 24c8147abb39 of 7.0, and stable. Kernels before that look 16 bytes
//! behind a preamble for its function, and 16 bytes before a function for its preamble, whatever is there.

use super::decision::{Kind, Reason};
use super::fineibt::{arguments, place};
use super::forms::ENDBR64;
use super::guess::{Forms, Guess};
use super::machine::{Cfi, CfiMode};
use super::passes::Pass;
use super::retpolines;
use super::run::{Run, row_error};
use crate::error::Result;
use crate::insn::{JMP, JMP_SHORT};

/// Where FineIBT's code begins before its function.
const PREAMBLE: u64 = 16;
/// Where the caller's check begins before its call.
const CALLER: u64 = 14;
/// `fineibt_preamble_start` and `fineibt_caller_start` of 6.2.
const PREAMBLE_CODE: [u8; 16] = *b"\xf3\x0f\x1e\xfa\x41\x81\xea\x78\x56\x34\x12\x74\x03\x0f\x0b\x90";
const CALLER_CODE: [u8; 14] = *b"\x41\xba\x78\x56\x34\x12\x49\x83\xeb\x10\x0f\x1f\x40\x00";

/// Where a paranoid caller's call begins in its code.
const PARANOID_CALL: usize = 16;
/// `cfi_enable_callers()` of 7.3: `jne .+3; test $0xd6,%al`, whose immediate is the `udb` that the jump leads to.
pub const JUMP_TO_UDB: [u8; 4] = *b"\x75\x01\xa8\xd6";

/// `__is_endbr()`: `endbr64` and `endbr32`, and since 6.2 the poison; a hash may not look like one.
pub fn is_endbr(word: [u8; 4], poison: [u8; 4]) -> bool {
    matches!(word, [0xf3, 0x0f, 0x1e, 0xfa | 0xfb]) || word == poison
}

/// `cfi_rehash()`.
pub fn rehash(hash: u32, seed: u32, poison: [u8; 4]) -> u32 {
    let mut hash = hash ^ seed;
    while is_endbr(hash.to_le_bytes(), poison) || is_endbr(hash.wrapping_neg().to_le_bytes(), poison) {
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
        // The register says how many arguments there are, where the compiler tells (6.15, 0c92385dc05e).
        [0xb8..=0xbf, a, b, c, d, ..] => Some(u32::from_le_bytes([*a, *b, *c, *d])).filter(|&hash| hash != 0),
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
    let Cfi { mode, seed, .. } = run.boot.cfi;
    for (row, address) in tables.cfi.rows() {
        preamble(run, row, address).map_err(|error| row_error(error, Pass::Cfi, row, address))?;
    }
    for (row, site) in tables.retpolines.rows() {
        let address = site.wrapping_sub(CALLER);
        caller(run, row, address, mode, seed).map_err(|error| row_error(error, Pass::CfiCallers, row, address))?;
    }
    Ok(())
}

/// `cfi_rand_preamble()`, `cfi_rewrite_preamble()`, `cfi_rewrite_endbr()`.
fn preamble(run: &mut Run<'_>, row: u32, address: u64) -> Result<()> {
    let Cfi { mode, bhi, seed } = run.boot.cfi;
    let Some(built) = preamble_hash(run, address) else {
        run.keep(Pass::Cfi, row, address, Reason::NotFound);
        return Ok(());
    };
    let poison = run.rules.endbr_poison;
    let hash = seed.map_or(built, |seed| rehash(built, seed, poison)).to_le_bytes();
    let function = address.wrapping_add(run.preamble());
    if !mode.is_fineibt() || checks_endbr(run) && !endbr_at(run, function) {
        return run.poke(Pass::Cfi, row, address.wrapping_add(1), &hash, Kind::Constant, Reason::Rehashed);
    }
    let start = function.wrapping_sub(PREAMBLE);
    if start != address {
        run.poke(Pass::Cfi, row, address.wrapping_add(1), &hash, Kind::Constant, Reason::Rehashed)?;
    }
    let mut code = run.landmarks.fineibt_preamble.unwrap_or(PREAMBLE_CODE);
    fill(&mut code, hash);
    let arguments = arguments(run.memory.from(address));
    let with = run.landmarks.fineibt_bhi.as_ref();
    if let Some(with) = with {
        with.put(bhi, arguments, start, &mut code);
    }
    let sealed = with.and_then(|with| with.sealed(bhi, arguments));
    run.poke(Pass::Cfi, row, start, &code, Kind::Inlined, Reason::FineIbt)?;
    if run.rules.seals_hashes && run.memory.read(function, 4).is_ok_and(|here| here == ENDBR64) {
        run.poke(Pass::Cfi, row, function, sealed.unwrap_or(&poison), Kind::Sealed, Reason::FineIbt)?;
    }
    Ok(())
}

/// `cfi_rand_callers()`, `cfi_rewrite_callers()`.
fn caller(run: &mut Run<'_>, row: u32, address: u64, mode: CfiMode, seed: Option<u32>) -> Result<()> {
    // A caller without a check has none to change.
    let Some(built) = caller_hash(run, address) else { return Ok(()) };
    let hash = seed.map_or(built, |seed| rehash(built, seed, run.rules.endbr_poison));
    match (mode, run.landmarks.fineibt_paranoid) {
        (CfiMode::Paranoid, Some(code)) => paranoid(run, row, address, code, hash),
        (CfiMode::FineIbt | CfiMode::Paranoid, _) => {
            let mut code = run.landmarks.fineibt_caller.unwrap_or(CALLER_CODE);
            fill(&mut code, hash.to_le_bytes());
            run.poke(Pass::CfiCallers, row, address, &code, Kind::Inlined, Reason::FineIbt)
        }
        (CfiMode::Kcfi, _) => {
            let field = hash.wrapping_neg().to_le_bytes();
            run.poke(Pass::CfiCallers, row, address.wrapping_add(2), &field, Kind::Constant, Reason::Rehashed)?;
            if run.rules.kcfi_udb {
                let jump = address.wrapping_add(10);
                run.poke(Pass::CfiCallers, row, jump, &JUMP_TO_UDB, Kind::Constant, Reason::Rehashed)?;
            }
            Ok(())
        }
        (CfiMode::Off, _) => run.poke(Pass::CfiCallers, row, address, &disabled(hash), Kind::Jumped, Reason::CfiOff),
    }
}

/// `cfi_disable_callers()`: a jump over the check, whose hash stays.
fn disabled(hash: u32) -> [u8; 6] {
    let [a, b, c, d] = hash.wrapping_neg().to_le_bytes();
    [JMP_SHORT, CALLER as u8 - 2, a, b, c, d]
}

/// `cfi_rewrite_callers()` with `cfi_paranoid`: check and call are written at once.
fn paranoid(run: &mut Run<'_>, row: u32, address: u64, mut code: [u8; 20], hash: u32) -> Result<()> {
    let site = address.wrapping_add(CALLER);
    let Some(branch) = retpolines::find(run, site)?.filter(|branch| !branch.conditional && branch.len == 6) else {
        return run.poke(Pass::CfiCallers, row, address, &disabled(hash), Kind::Jumped, Reason::CfiOff);
    };
    fill(&mut code, hash.to_le_bytes());
    // The last byte of the indirect call, and which half of a cache line it is in.
    let last = address.wrapping_add(PARANOID_CALL as u64 + 2);
    let mut guess = None;
    if run.boot.with(run.boot.its) && last & 0x20 == 0 {
        let (bytes, thunk) = retpolines::its_branch(run, row, &branch);
        code[CALLER as usize..].copy_from_slice(&bytes);
        guess = thunk;
    } else if branch.opcode == JMP {
        let jump = if run.rules.retpolines.cs { *b"\x41\xff\xe3\xcc" } else { *b"\x41\xff\xe3\x90" };
        code[PARANOID_CALL..].copy_from_slice(&jump);
    }
    run.poke(Pass::CfiCallers, row, address, &code, Kind::Inlined, Reason::FineIbt)?;
    if let Some(guess) = guess {
        run.plan.guess(Guess { pass: Pass::CfiCallers, ..guess });
    }
    Ok(())
}

/// Preambles are looked at before they are sealed, and rewritten only where an `endbr` follows: since 6.15.
fn checks_endbr(run: &Run<'_>) -> bool {
    run.landmarks.fineibt_paranoid.is_some()
}

/// `is_endbr()`.
fn endbr_at(run: &Run<'_>, address: u64) -> bool {
    let here = run.memory.read(address, 4).ok().and_then(|here| <[u8; 4]>::try_from(here).ok());
    here.is_some_and(|here| is_endbr(here, run.rules.endbr_poison))
}

/// Puts the hash in its place.
fn fill(code: &mut [u8], hash: [u8; 4]) {
    if let Some(at) = place(code) {
        code[at..at + 4].copy_from_slice(&hash);
    }
}

/// `poison_cfi()` (6.5, 9831c6253ace): the preamble of a sealed function accepts no caller.
pub(super) fn seal(run: &mut Run<'_>, row: u32, function: u64) -> Result<()> {
    if run.tables.cfi.is_empty() || !run.rules.seals_hashes {
        return Ok(());
    }
    let checks = checks_endbr(run);
    let mode = run.boot.cfi.mode;
    let address = function.wrapping_sub(if mode.is_fineibt() { PREAMBLE } else { run.preamble() });
    let (poisoned, at) = match mode {
        CfiMode::Off => return Ok(()),
        CfiMode::Kcfi if checks && preamble_hash(run, address).is_none() => return Ok(()),
        CfiMode::FineIbt | CfiMode::Paranoid if checks && !endbr_at(run, address) => return Ok(()),
        CfiMode::Kcfi => (false, 1),
        CfiMode::FineIbt | CfiMode::Paranoid => {
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
    let fine = run.boot.cfi.mode.is_fineibt();
    let written = run.landmarks.fineibt_preamble.unwrap_or(PREAMBLE_CODE);
    let preamble = place(&written).unwrap_or(7);
    let behind = run.preamble() - PREAMBLE;
    let paranoid = run.landmarks.fineibt_paranoid.filter(|_| run.boot.cfi.mode == CfiMode::Paranoid);
    let plain = run.landmarks.fineibt_caller.unwrap_or(CALLER_CODE);
    let called = paranoid.and_then(|code| code[..CALLER as usize].try_into().ok()).unwrap_or(plain);
    let caller = place(&called).unwrap_or(2);
    for (row, address) in tables.cfi.rows() {
        let plain = matches!(run.memory.from(address), [0xb8..=0xbf, ..]);
        if plain {
            note(run, Pass::Cfi, row, address.wrapping_add(1));
        }
        let start = address.wrapping_add(behind);
        let here = run.memory.from(start);
        // The code is where no `mov` is, or behind it: its `endbr` goes where a function is sealed.
        let opcode = ENDBR64.len()..preamble;
        let has_code = !plain || behind > 0 && here.get(opcode.clone()) == written.get(opcode);
        if fine && here.len() >= written.len() && has_code {
            note(run, Pass::Cfi, row, start.wrapping_add(preamble as u64));
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
        let poison = *b"\x66\x0f\x1f\x00";
        assert_eq!(rehash(5, 3, poison), 6);
        let hash = rehash(endbr, 0, poison);
        assert!(!is_endbr(hash.to_le_bytes(), poison) && !is_endbr(hash.wrapping_neg().to_le_bytes(), poison));
        assert_eq!(hash, endbr >> 1 ^ 0x8020_0003);
        assert_ne!(rehash(endbr.wrapping_neg(), 0, poison), endbr.wrapping_neg());
        // Since 6.18 `endbr` becomes another nop.
        let poisoned = u32::from_le_bytes(*b"\x0f\x1f\x40\xd6");
        assert_eq!(rehash(poisoned, 0, poison), poisoned);
        assert_ne!(rehash(poisoned, 0, *b"\x0f\x1f\x40\xd6"), poisoned);
    }
}
