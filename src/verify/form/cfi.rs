//! Hashes before functions and indirect calls: `apply_fineibt()`, `poison_cfi()`, arch/x86/kernel/alternative.c (6.2 on,
//! 931ab63664f0, 0c3e806ec0f9; 9831c6253ace, 6.5).
//!
//! | | kCFI | FineIBT | `cfi=off` |
//! |---|---|---|---|
//! | preamble | `mov $hash,%eax` | the image's code with the hash in it | as kCFI |
//! | .. BHI | | its end lets go of arguments, or calls `__bhi_args` | |
//! | the function's `endbr` | stays | poisoned | stays |
//! | caller | `mov $-hash,%r10d; …` | the image's code with the hash in it, paranoid with its call | a jump over the check |
//! | sealed function | hash 0 | hash 0, `endbr` poisoned | stays |
//!
//! A hash is the built one xor the seed of the boot, but where that would look like `endbr` (`cfi_rehash()`).

use super::code::ClusterCode;
use super::retpolines::to_thunk;
use crate::insn::{JMP, JMP_SHORT};
use crate::numbers::u32_at;
use crate::plan::forms::ENDBR64;
use crate::plan::{Bhi, CfiMode, arguments};
use crate::verify::hashes::{CALLER, PARANOID, PREAMBLE, caller_hash, preamble_hash};
use crate::verify::site_map::SiteMap;
use crate::verify::state::State;
use crate::verify::visit::Branch;

/// What stands for the hash in FineIBT's code.
const PLACEHOLDER: [u8; 4] = 0x1234_5678_u32.to_le_bytes();
/// `fineibt_preamble_start` and `fineibt_caller_start` of 6.2, where the image does not name its own.
const PREAMBLE_CODE: [u8; PREAMBLE] = *b"\xf3\x0f\x1e\xfa\x41\x81\xea\x78\x56\x34\x12\x74\x03\x0f\x0b\x90";
const CALLER_CODE: [u8; CALLER] = *b"\x41\xba\x78\x56\x34\x12\x49\x83\xeb\x10\x0f\x1f\x40\x00";

/// What 7.3 writes into callers behind their comparison (`cfi_enable_callers()`).
const TO_UDB: [u8; 4] = *b"\x75\x01\xa8\xd6";

/// `__is_endbr()`.
fn is_endbr(word: &[u8], poison: [u8; 4]) -> bool {
    matches!(word, [0xf3, 0x0f, 0x1e, 0xfa | 0xfb]) || word == poison
}

/// `cfi_rehash()`: the hash xor the seed, shifted on (a Galois LFSR of 0x80200003) while it or its negative is an `endbr`.
fn rehash(built: u32, seed: u32, poison: [u8; 4]) -> u32 {
    let endbr = |word: u32| is_endbr(&word.to_le_bytes(), poison);
    let mut hash = built ^ seed;
    while endbr(hash) || endbr(hash.wrapping_neg()) {
        hash = hash >> 1 ^ if hash & 1 != 0 { 0x8020_0003 } else { 0 };
    }
    hash
}

/// A template with a hash in it.
fn filled<const N: usize>(mut code: [u8; N], hash: u32) -> [u8; N] {
    if let Some(at) = code.windows(4).position(|window| window == PLACEHOLDER) {
        code[at..at + 4].copy_from_slice(&hash.to_le_bytes());
    }
    code
}

/// The hash that code has where its template has the placeholder, if it is that template.
fn taken(template: &[u8], code: &[u8]) -> Option<u32> {
    let at = template.windows(4).position(|window| window == PLACEHOLDER)?;
    let hash = u32_at(code, at)?;
    let same = code.get(..at) == template.get(..at) && code.get(at + 4..template.len()) == template.get(at + 4..);
    same.then_some(hash)
}

impl SiteMap<'_> {
    fn preamble_code(&self) -> [u8; PREAMBLE] {
        self.landmarks.fineibt_preamble.unwrap_or(PREAMBLE_CODE)
    }

    fn caller_code(&self) -> [u8; CALLER] {
        self.landmarks.fineibt_caller.unwrap_or(CALLER_CODE)
    }

    /// FineIBT's code before a function of so many arguments, with the placeholder in it.
    fn fine_preamble(&self, address: u64, arguments: u8, bhi: Bhi) -> [u8; PREAMBLE] {
        let mut code = self.preamble_code();
        if let Some(with) = &self.landmarks.fineibt_bhi {
            with.put(bhi, arguments, address, &mut code);
        }
        code
    }

    /// What FineIBT's code before a function says, given with the preamble's address: the hash, and what becomes of
    /// arguments, where it has any.
    pub(in crate::verify) fn fine_says(&self, preamble: u64, found: &[u8]) -> Option<(u32, Option<Bhi>)> {
        let arguments = arguments(self.code.from(preamble));
        let address = preamble.wrapping_add(self.preamble - PREAMBLE as u64);
        let ways = [Bhi::Keeps, Bhi::Clears, Bhi::Calls];
        let mut fit = ways.into_iter().filter_map(|bhi| {
            let hash = taken(&self.fine_preamble(address, arguments, bhi), found)?;
            Some((hash, bhi))
        });
        let (hash, bhi) = fit.next()?;
        // Without arguments, or with more than one, several ways are one text.
        let tells = arguments > 0 && self.landmarks.fineibt_bhi.is_some();
        Some((hash, tells.then_some(bhi)))
    }

    /// What a caller says: the mode, and the hash.
    pub(in crate::verify) fn caller_says(&self, found: &[u8]) -> Option<(CfiMode, u32)> {
        let off = || match *found {
            [JMP_SHORT, skip, a, b, c, d, ..] if usize::from(skip) == CALLER - 2 => {
                Some((CfiMode::Off, u32::from_le_bytes([a, b, c, d]).wrapping_neg()))
            }
            _ => None,
        };
        let fine = || taken(&self.caller_code(), found).map(|hash| (CfiMode::FineIbt, hash));
        let paranoid = || {
            let code = self.landmarks.fineibt_paranoid?;
            taken(&code[..CALLER], found).map(|hash| (CfiMode::Paranoid, hash))
        };
        caller_hash(found).map(|hash| (CfiMode::Kcfi, hash)).or_else(off).or_else(fine).or_else(paranoid)
    }

    /// Preambles are looked at before they are sealed, and rewritten only where an `endbr` follows: since 6.15.
    pub(in crate::verify) fn checks_endbr(&self) -> bool {
        self.landmarks.fineibt_paranoid.is_some()
    }

    /// Whether a preamble stays kCFI's with FineIBT too, as the function behind it has no `endbr`.
    pub(in crate::verify) fn keeps_preamble(&self, preamble: u64) -> bool {
        let function = self.code.from(preamble.wrapping_add(self.preamble));
        self.checks_endbr() && function.get(..4).is_none_or(|word| !is_endbr(word, self.rules.endbr_poison))
    }

    /// `cfi_rand_preamble()`, `cfi_rewrite_preamble()`.
    pub(super) fn preamble(&self, address: u64, state: &State, code: &mut ClusterCode<'_>) {
        let Some(built) = code.at(address, PREAMBLE).and_then(|site| preamble_hash(site)) else { return };
        let hash = rehash(built, state.cfi.seed, self.rules.endbr_poison);
        code.put(address + 1, &hash.to_le_bytes());
        if state.cfi.mode.is_fineibt() && !self.keeps_preamble(address) {
            let arguments = arguments(self.code.from(address));
            // Behind the `mov`, where functions are aligned to more than 16 bytes.
            let start = address + self.preamble - PREAMBLE as u64;
            code.put(start, &filled(self.fine_preamble(start, arguments, state.cfi.bhi), hash));
        }
    }

    /// `cfi_rewrite_endbr()` (6.5, 04505bbbbb15): with FineIBT indirect calls land on the preamble, not on the function.
    pub(super) fn checked_endbr(&self, address: u64, state: &State, code: &mut ClusterCode<'_>) {
        let preamble = self.code.from(address.wrapping_sub(self.preamble));
        if self.rules.seals_hashes
            && state.cfi.mode.is_fineibt()
            && preamble_hash(preamble).is_some()
            && let Some(site) = code.at(address, 4)
            && site == ENDBR64
        {
            let with = self.landmarks.fineibt_bhi.as_ref();
            let sealed = with.and_then(|with| with.sealed(state.cfi.bhi, arguments(preamble)));
            site.copy_from_slice(sealed.unwrap_or(&self.rules.endbr_poison));
        }
    }

    /// `cfi_rand_callers()`, `cfi_rewrite_callers()`, `cfi_disable_callers()`.
    pub(super) fn caller(&self, row: u32, address: u64, state: &State, code: &mut ClusterCode<'_>) {
        let Some(built) = code.at(address, CALLER).and_then(|site| caller_hash(site)) else { return };
        let hash = rehash(built, state.cfi.seed, self.rules.endbr_poison);
        let field = hash.wrapping_neg().to_le_bytes();
        let disable = |code: &mut ClusterCode<'_>| {
            code.put(address, &[JMP_SHORT, CALLER as u8 - 2]);
            code.put(address + 2, &field);
        };
        match (state.cfi.mode, self.landmarks.fineibt_paranoid) {
            (CfiMode::Paranoid, Some(paranoid)) => match self.paranoid_call(row) {
                Some(call) => {
                    let mut bytes = filled(paranoid, hash);
                    if let Some(thunk) = self.paranoid_thunk(row, state) {
                        let site = address + CALLER as u64;
                        to_thunk(site, call, thunk, &mut bytes[CALLER..]);
                    } else if call.opcode == JMP {
                        let jump = if self.rules.retpolines.cs { b"\x41\xff\xe3\xcc" } else { b"\x41\xff\xe3\x90" };
                        bytes[PARANOID - jump.len()..].copy_from_slice(jump);
                    }
                    code.put(address, &bytes);
                }
                None => disable(code),
            },
            (CfiMode::FineIbt | CfiMode::Paranoid, _) => code.put(address, &filled(self.caller_code(), hash)),
            (CfiMode::Kcfi, _) => {
                code.put(address + 2, &field);
                if self.rules.kcfi_udb {
                    code.put(address + 10, &TO_UDB);
                }
            }
            (CfiMode::Off, _) => disable(code),
        }
    }

    /// The opcode of the call or jump behind a check, where a paranoid check takes its place too: six bytes.
    fn paranoid_call(&self, row: u32) -> Option<Branch> {
        let branch = self.branches.get(row as usize).copied().flatten()?;
        (branch.len as usize == PARANOID - CALLER && !branch.conditional).then_some(branch)
    }

    /// The ITS thunk in which a paranoid check ends, where it does (`emit_paranoid_trampoline()`, e52c1dc7455d).
    fn paranoid_thunk(&self, row: u32, state: &State) -> Option<u64> {
        let (page, offset) = self.its(state).get(row as usize).copied().flatten().filter(|_| state.branches.its())?;
        Some(state.pages.get(usize::from(page))?.wrapping_add(offset.into()))
    }

    /// Callers check too.
    pub(in crate::verify) fn is_paranoid(&self, state: &State) -> bool {
        state.cfi.mode == CfiMode::Paranoid && self.landmarks.fineibt_paranoid.is_some()
    }

    /// Whether the branch at a site belongs to the paranoid check before it.
    pub(in crate::verify) fn is_in_check(&self, row: u32, site: u64, state: &State) -> bool {
        let check = site.wrapping_sub(CALLER as u64);
        self.is_paranoid(state) && caller_hash(self.code.from(check)).is_some() && self.paranoid_call(row).is_some()
    }

    /// `poison_cfi()`: the preamble of a function that nothing calls indirectly accepts no caller.
    pub(super) fn poison_cfi(&self, function: u64, state: &State, code: &mut ClusterCode<'_>) {
        if !state.sealed || !self.rules.seals_hashes {
            return;
        }
        let checks = self.checks_endbr();
        let mode = state.cfi.mode;
        let preamble = function.wrapping_sub(if mode.is_fineibt() { PREAMBLE as u64 } else { self.preamble });
        match mode {
            CfiMode::Off => {}
            CfiMode::Kcfi if checks && code.at(preamble, PREAMBLE).is_none_or(|site| preamble_hash(site).is_none()) => {
            }
            CfiMode::FineIbt | CfiMode::Paranoid
                if checks && code.at(preamble, 4).is_none_or(|site| !is_endbr(site, self.rules.endbr_poison)) => {}
            CfiMode::Kcfi => code.put(preamble + 1, &[0; 4]),
            CfiMode::FineIbt | CfiMode::Paranoid => {
                let template = self.preamble_code();
                let at = template.windows(4).position(|window| window == PLACEHOLDER).unwrap_or(7);
                if code.at(preamble, 4).is_some_and(|site| site == ENDBR64) {
                    code.put(preamble, &self.rules.endbr_poison);
                }
                code.put(preamble + at as u64, &[0; 4]);
            }
        }
    }
}
