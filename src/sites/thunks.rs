//! Functions that sites call by the thousand, found by what the sites call: no symbol is needed.

use std::collections::HashMap;

use memchr::memmem;

use super::alternatives::{Alternative, AlternativeTable};
use super::code::{Code, Record};
use super::relative::{self, RETPOLINES, RETURNS};
use super::static_calls;
use crate::error::Result;
use crate::image::{Bits, Image};
use crate::insn::{self, CALL, CALL_LEN, INT3, JMP, NOP, RET, THUNK_SIZE};

/// `__x86_return_thunk`: every row of `.return_sites` is a jump to it. `None` where no address has more than half of them.
pub fn return_thunk(image: &Image) -> Result<Option<u64>> {
    let code = Code::of(image);
    let sites = relative::read(&code, RETURNS)?;
    Ok(most(sites.rows().filter_map(|(_, site)| branch(&code, site))))
}

/// `__x86_indirect_thunk_array`: thunks of 32 bytes in the order of registers' numbers, to which the rows of
/// `.retpoline_sites` branch. Which register a thunk is for, its code says: `call 1f; int3; 1: mov %REG,(%rsp)`
/// (`RETPOLINE`, arch/x86/lib/retpoline.S, since 5.17; 5.10.262 and 6.1.192 have the longer trap of before).
pub fn indirect_thunks(image: &Image) -> Result<Option<u64>> {
    let code = Code::of(image);
    let sites = relative::read(&code, RETPOLINES)?;
    let base = |site: u64| {
        let thunk = branch(&code, site)?;
        let register = register(code.from(thunk)?)?;
        Some(thunk.wrapping_sub(THUNK_SIZE * u64::from(register)))
    };
    Ok(most(sites.rows().filter_map(|(_, site)| base(site))))
}

/// `BUG_func`: the replacement of every direct-call row calls it (since 6.8).
pub fn placeholder(image: &Image) -> Result<Option<u64>> {
    let code = Code::of(image);
    let Some(table) = AlternativeTable::read_in(&code)? else { return Ok(None) };
    let rows = table.rows.iter().filter(|row| row.direct_call);
    Ok(most(rows.filter_map(|row| branch(&code, row.replacement))))
}

/// `nop_func`: of the functions that direct-call rows call as built and that do nothing, the one most call (since 6.8).
pub fn nothing(image: &Image) -> Result<Option<u64>> {
    let code = Code::of(image);
    let Some(table) = AlternativeTable::read_in(&code)? else { return Ok(None) };
    let called = |row: &Alternative| {
        let site = code.from(row.address)?.get(..row.len.into())?;
        let function = image.read_word(insn::called_pointer(image.bits(), row.address, site)?)?;
        returns_at_once(code.from(function)?).then_some(function)
    };
    Ok(most(table.rows.iter().filter(|row| row.direct_call).filter_map(called)))
}

/// The functions that static calls are built with, ascending.
pub fn statically_called(image: &Image) -> Result<Vec<u64>> {
    let code = Code::of(image);
    let sites = static_calls::read(&code)?;
    let mut found: Vec<u64> = sites.iter().filter_map(|site| image.read_word(site.key)).collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// `__static_call_return0`: of the functions that static calls are built with and that return 0, the one that the text
/// compares with, as `__static_call_transform()` does (arch/x86/kernel/static_call.c, 3f2a8fc4b15d, 5.12). native_steal_clock
/// returns 0 too.
pub fn returns_zero(image: &Image, statically_called: &[u64]) -> Option<u64> {
    only(image, statically_called, |own| matches!(own, [0x31, 0xc0, RET | JMP, ..]))
}

/// `__WARN_trap`, which is `ud1 (%edx), %rdi; ret` and which `__static_call_transform()` compares with too (860238af7a33,
/// 6.19).
pub fn warns(image: &Image, statically_called: &[u64]) -> Option<u64> {
    only(image, statically_called, |own| matches!(own, [0x67, 0x48, 0x0f, 0xb9, 0x3a, RET | JMP, ..]))
}

/// The only one of these functions whose own code is such and that the text compares with.
fn only(image: &Image, functions: &[u64], is: impl Fn(&[u8]) -> bool) -> Option<u64> {
    let code = Code::of(image);
    let fits = |&&function: &&u64| {
        let Some(here) = code.from(function) else { return false };
        let own = here.strip_prefix(b"\xf3\x0f\x1e\xfa").unwrap_or(here);
        // A traced function begins with a call of `__fentry__`.
        let own = if own.first() == Some(&CALL) { own.get(CALL_LEN..).unwrap_or_default() } else { own };
        is(own) && compared(image, function).next().is_some()
    };
    let mut found = functions.iter().filter(fits);
    found.next().filter(|_| found.next().is_none()).copied()
}

/// How far from its comparison with `__static_call_return0` `__static_call_transform()` may reach.
const TRANSFORM: usize = 0x200;

/// `__static_call_return`, which is `ret; int3`: of the addresses of such code that the text loads into a register around
/// the comparison with `__static_call_return0`, the only one. Both are `__static_call_transform()`'s (ac0ee0a9560c, 6.3).
pub fn conditional_return(image: &Image, returns_zero: u64) -> Option<u64> {
    let code = Code::of(image);
    let text = text(image);
    let mut found = Vec::new();
    for at in compared(image, returns_zero) {
        let around = &text[at.saturating_sub(TRANSFORM)..text.len().min(at + TRANSFORM)];
        found.extend(around.windows(7).filter_map(|here| {
            let low = match (image.bits(), here) {
                (Bits::B64, [0x48 | 0x49, 0xc7, 0xc0..=0xc7, low @ ..]) => i64::from(Record(low).s32(0)) as u64,
                (Bits::B32, [0xb8..=0xbf, low @ ..]) => u64::from(Record(low).s32(0) as u32),
                _ => return None,
            };
            code.from(low)?.starts_with(&[RET, INT3]).then_some(low)
        }));
    }
    found.sort_unstable();
    found.dedup();
    if let [function] = found[..] { Some(function) } else { None }
}

/// `__bhi_args` (arch/x86/lib/bhi.S, 6.15, 0c92385dc05e): 32 bytes for each number of arguments, of which the first two
/// are `jne; ret` and `jne; cmovne %rax,%rdi; ret` (up to 6.17 `%r10`).
pub fn clears_arguments(image: &Image) -> Option<u64> {
    let text = image.section(".text")?;
    let code = image.section_bytes(text);
    let finder = [b"\x48\x0f\x45\xf8\xc3\xcc", b"\x49\x0f\x45\xfa\xc3\xcc"];
    let first = |one: usize| {
        let none = one.checked_sub(2 + ARGUMENTS)?;
        let is = matches!(code[none..], [0x75, _, RET, INT3, ..]) && code[one - 2] == 0x75;
        let address = text.address.wrapping_add(none as u64);
        (is && address % ARGUMENTS as u64 == 0).then_some(address)
    };
    finder.iter().find_map(|one| memmem::find_iter(code, *one).find_map(first))
}

/// Bytes of each number of arguments.
const ARGUMENTS: usize = 32;

fn text(image: &Image) -> &[u8] {
    image.section(".text").map_or(&[][..], |section| image.section_bytes(section))
}

/// Where in the text a register is compared with this address: `cmp $ADDRESS, %REG`, which has its lower 32 bits.
fn compared(image: &Image, address: u64) -> impl Iterator<Item = usize> + '_ {
    let text = text(image);
    let low = (address as u32).to_le_bytes();
    memmem::find_iter(text, &low).collect::<Vec<_>>().into_iter().filter(move |&at| match image.bits() {
        Bits::B64 => matches!(text[..at], [.., 0x48, 0x3d] | [.., 0x48 | 0x49, 0x81, 0xf8..=0xff]),
        Bits::B32 => matches!(text[..at], [.., 0x3d] | [.., 0x81, 0xf8..=0xff]),
    })
}

/// Whether a function returns at once, as built: `endbr64` and room for counting calls may stand before, and it may return
/// through a thunk.
pub(crate) fn returns_at_once(function: &[u8]) -> bool {
    let own = function.strip_prefix(b"\xf3\x0f\x1e\xfa").unwrap_or(function);
    matches!(own.iter().find(|&&byte| byte != NOP), Some(&(RET | JMP)))
}

/// What the call of a retpoline leads over: `int3`; in stable releases before 6.1 `pause; lfence; jmp .-7`.
const TRAPS: [&[u8]; 2] = [&[CALL, 1, 0, 0, 0, 0xcc], &[CALL, 7, 0, 0, 0, 0xf3, 0x90, 0x0f, 0xae, 0xe8, 0xeb, 0xf9]];

/// The register of a thunk as built.
fn register(thunk: &[u8]) -> Option<u8> {
    let Some(after) = TRAPS.iter().find_map(|trap| thunk.strip_prefix(*trap)) else {
        // Up to 5.18 an indirect jump stands there, and a row replaces it by the retpoline.
        return match thunk {
            [0xff, modrm @ 0xe0..=0xe7, ..] => Some(modrm & 7),
            [0x41, 0xff, modrm @ 0xe0..=0xe7, ..] => Some(8 + (modrm & 7)),
            _ => None,
        };
    };
    match after {
        [rex @ (0x48 | 0x4c), 0x89, modrm, 0x24, ..] if modrm & 0xc7 == 0x04 => {
            Some((modrm >> 3 & 7) + if *rex == 0x4c { 8 } else { 0 })
        }
        [0x89, modrm, 0x24, ..] if modrm & 0xc7 == 0x04 => Some(modrm >> 3 & 7),
        _ => None,
    }
}

/// Where the direct call or jump at an address goes; a prefix or a condition may stand before it.
fn branch(code: &Code<'_>, address: u64) -> Option<u64> {
    let here = code.from(address)?;
    let at = match here {
        [CALL | JMP, ..] => 1,
        [0x2e, CALL | JMP, ..] | [0x0f, 0x80..=0x8f, ..] => 2,
        _ => return None,
    };
    let displacement = Record(here.get(..at + 4)?).s32(at);
    let next = address.wrapping_add(at as u64 + 4);
    Some(next.wrapping_add(displacement as u64) & code.image().bits().max_address())
}

/// The value that more than half of these have.
fn most(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut counts: HashMap<u64, usize> = HashMap::new();
    let mut all = 0;
    for value in values {
        *counts.entry(value).or_default() += 1;
        all += 1;
    }
    counts.into_iter().find(|&(_, count)| 2 * count > all).map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thunk_says_which_register_it_is_for() {
        assert_eq!(register(b"\xe8\x01\0\0\0\xcc\x48\x89\x04\x24\xe9"), Some(0));
        assert_eq!(register(b"\xe8\x01\0\0\0\xcc\x4c\x89\x3c\x24\xe9"), Some(15));
        assert_eq!(register(b"\xe8\x01\0\0\0\xcc\x89\x2c\x24\xe9"), Some(5));
        assert_eq!(register(b"\xe8\x07\0\0\0\xf3\x90\x0f\xae\xe8\xeb\xf9\x4c\x89\x04\x24\xe9"), Some(8));
        assert_eq!(register(b"\xff\xe0\xcc\xcc"), Some(0));
        assert_eq!(register(b"\x41\xff\xe7\xcc"), Some(15));
        assert_eq!(register(b"\xe8\x07\0\0\0\xcc\x48\x89\x04\x24\xe9"), None);
    }
}
