//! How far before their functions the preambles of `.cfi_sites` begin.
//!
//! A preamble is `mov $hash,%eax` and nops up to the function: `CFI_OFFSET` bytes, by the alignment of functions 16, 32
//! (CONFIG_CALL_THUNKS_DEBUG) or 64 (CONFIG_DEBUG_FORCE_FUNCTION_ALIGN_64B). Callers name the distance, as they load the
//! hash from there: `mov $-hash,%r10d; add -15(%r11),%r10d; je; ud2`. Without callers the nops tell.
//!
//! Up to 24c8147abb39 (7.0; 6.18 and 6.19, stable) the kernel itself took 16 for granted. Which it does is told by the code
//! that seals a hash (`poison_cfi()`, `poison_hash()` of arch/x86/kernel/alternative.c): clang stores its 0 at the very
//! distance, which is odd, where the compiler's own variables are aligned.

use super::code::Code;
use super::relative::AddressTable;
use crate::error::{Error, Result};
use crate::insn::NOP;

/// A preamble of functions that are aligned to 16 bytes; none is smaller where a kernel rewrites them.
pub const USUAL: u64 = 16;
/// The bytes of `mov $hash,%eax`.
const MOV: u64 = 5;
/// The bytes of a caller's check, before its call.
const CHECK: u64 = 14;

/// How far before their functions preambles begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preambles {
    /// As built.
    pub built: u64,
    /// As the kernel's own code has it, where that was asked and tells.
    pub sealed: Option<u64>,
}

impl Default for Preambles {
    fn default() -> Preambles {
        Preambles { built: USUAL, sealed: None }
    }
}

impl Preambles {
    /// Asks callers, then the preambles themselves, then the kernel's code.
    ///
    /// # Errors
    /// Callers of which one has another distance than the others, or less room than a preamble takes.
    pub(super) fn read(code: &Code<'_>, preambles: &AddressTable, branches: &AddressTable) -> Result<Preambles> {
        if preambles.is_empty() {
            return Ok(Preambles::default());
        }
        let mut called: Option<u64> = None;
        for (row, site) in branches.rows() {
            let Some(distance) = code.from(site.wrapping_sub(CHECK)).and_then(asked) else { continue };
            let placed = |reason| Error::table(reason).at_row(row as usize).at_address(site);
            if distance < USUAL {
                let reason =
                    format!("its check looks for a hash {distance} bytes before a function; a preamble has 16");
                return Err(placed(reason));
            }
            if let Some(others) = called.filter(|&others| others != distance) {
                let reason =
                    format!("its check looks for a hash {distance} bytes before a function, those before {others}");
                return Err(placed(reason));
            }
            called = Some(distance);
        }
        let built = called.or_else(|| filled(code, preambles)).unwrap_or(USUAL);
        let sealed = if built == USUAL { None } else { [built, USUAL].into_iter().find(|&at| seals(code, at)) };
        Ok(Preambles { built, sealed })
    }
}

/// How far before a function this check looks for a hash; `None` where the code is none.
fn asked(check: &[u8]) -> Option<u64> {
    match *check {
        [0x41, 0xba, _, _, _, _, 0x45, 0x03, 0x53, back @ 0x80..=0xff, 0x74, 0x02, 0x0f, 0x0b, ..] => {
            Some(1 + u64::from(back.wrapping_neg()))
        }
        _ => None,
    }
}

/// How many bytes the most preambles have, with the nops behind them.
fn filled(code: &Code<'_>, preambles: &AddressTable) -> Option<u64> {
    const MOST: usize = 128;
    let mut counts = [0u32; MOST];
    for (_, preamble) in preambles.rows() {
        let behind = match code.from(preamble) {
            Some([0xb8..=0xbf, _, _, _, _, behind @ ..]) => behind,
            _ => continue,
        };
        let nops = behind.iter().take(MOST).take_while(|&&byte| byte == NOP).count();
        if let Some(count) = counts.get_mut(nops) {
            *count += 1;
        }
    }
    let most = *counts.iter().max()?;
    let nops = counts.iter().position(|&count| count == most && most > 0)?;
    Some(MOV + nops as u64).filter(|&distance| distance >= USUAL)
}

/// Whether some code stores a zero of four bytes behind the `mov` of a preamble that far before a function.
fn seals(code: &Code<'_>, distance: u64) -> bool {
    let Some(back) = u8::try_from(distance - 1).ok().filter(|&back| back <= 128) else { return false };
    let store = [back.wrapping_neg(), 0, 0, 0, 0];
    code.ranges().any(|(_, bytes)| {
        memchr::memmem::find_iter(bytes, &store).any(|at| {
            // `movl $0,-15(%rax)`, and with an index: `movl $0,-15(%rax,%rbx)`.
            let before = &bytes[..at];
            matches!(before, [.., 0xc7, 0x44, _] | [.., 0xc7, 0x40..=0x43 | 0x45..=0x47])
        })
    })
}
