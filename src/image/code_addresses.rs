//! The addresses that the code of a function has in itself: where data are that the image does not name.

use super::Image;
use super::kallsyms::Symbols;
use crate::error::Result;
use crate::insn::addresses;

/// The longest function that is looked at.
const LONGEST: u64 = 1 << 12;

/// Every address that a function's code has, of memory or as a constant, in the order of the code: those that move with the
/// kernel. None where no symbol has that name.
///
/// # Errors
/// Tables of the image that are malformed.
pub(crate) fn code_addresses(image: &Image, symbols: &Symbols, function: &str) -> Result<Vec<u64>> {
    let Some(start) = symbols.address_of(function) else { return Ok(Vec::new()) };
    let end = symbols.addresses().find(|&address| address > start).unwrap_or(start).min(start.saturating_add(LONGEST));
    let Some(code) = image.read(start, (end - start) as usize) else { return Ok(Vec::new()) };
    let relocations = image.relocations()?;
    let (mut at, mut held) = (0, Vec::new());
    while let Some(found) = addresses(image.bits(), start + at as u64, &code[at..]) {
        let here = start + at as u64;
        // What is no distance moves with the kernel.
        let moves = || relocations.is_none_or(|all| !all.touching(here, here + found.len as u64).is_empty());
        held.extend(found.memory.filter(|&(_, near)| near || moves()).map(|(address, _)| address));
        held.extend(found.constant.filter(|_| moves()));
        at += found.len;
    }
    Ok(held)
}
