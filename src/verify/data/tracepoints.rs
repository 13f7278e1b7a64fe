//! Tracepoints: a list of functions, by which the kernel turns a static key on and has a static call go.
//!
//! ```c
//! struct tracepoint {                          /* include/linux/tracepoint-defs.h */
//!         struct static_key key;               /* on while there are functions */
//!         void *iterator;                      /* calls all of them; since 5.10, as the call (d25e37d89dd2) */
//!         struct tracepoint_func { void *func; void *data; int prio; } *funcs;    /* up to one without a func */
//! };
//! ```
//!
//! The call `tp_func_NAME` goes to the iterator, or to the one function there is (`tracepoint_update_call()` of
//! kernel/tracepoint.c). So a key and a call that were changed together, text and data, are told by a third.

use super::heard::{Disagreement, Heard};
use super::votes::Said;
use crate::error::Result;
use crate::image::Image;
use crate::memory::{Location, Mapped, Members, Memory, Words};

const PREFIX: &str = "__tracepoint_";
/// More than all tracepoints have.
const MAX_FUNCTIONS: u64 = 1 << 16;

/// Where members are, in bytes.
struct Offsets {
    key: u64,
    functions: u64,
    iterator: Option<u64>,
    function: u64,
    row: u64,
}

/// Holds the keys and calls of tracepoints to their lists; nothing, where the image has no BTF.
pub(super) fn judge(
    said: &Said<'_>,
    words: &Words<'_>,
    (memory, found, image): (&Memory, &Location, &Image),
    heard: &mut Heard,
) -> Result<()> {
    let (Some(symbols), Some(btf)) = (image.symbols()?, image.btf()?) else { return Ok(()) };
    let row = btf.find_struct("tracepoint_func").map(|id| btf.size_of(id)).transpose()?;
    let members = Members { btf: Some(btf), word: image.bits().word() };
    let at = |of: &str, member: &str| members.offset(of, member).ok();
    let (Some(key), Some(functions), Some(function), Some(row)) =
        (at("tracepoint", "key"), at("tracepoint", "funcs"), at("tracepoint_func", "func"), row.filter(|&row| row > 0))
    else {
        return Ok(());
    };
    let offsets = Offsets { key, functions, function, iterator: at("tracepoint", "iterator"), row: row as u64 };
    let mapped = Mapped::new(memory, found, image).ok();
    let (mut count, mut left) = (0, MAX_FUNCTIONS);
    for (address, name) in symbols.starting_with(PREFIX) {
        let Some(name) = name.strip_prefix(PREFIX).filter(|_| image.section_at(address).is_some()) else { continue };
        let Some(list) = words.pointer(address.wrapping_add(offsets.functions))? else { continue };
        count += 1;
        heard.alone.remove(&address.wrapping_add(offsets.key));
        if let Some(on) = said.key(address.wrapping_add(offsets.key)).filter(|&on| on != (list != 0)) {
            let (expected, found) = (u64::from(on), u64::from(!on));
            heard.disagreements.push(Disagreement { what: "tracepoint", address, which: address, expected, found });
        }
        let Some(call) = symbols.address_of(&format!("__SCK__tp_func_{name}")) else { continue };
        let (Some(iterator), Some(goes)) = (offsets.iterator, said.call(call)) else { continue };
        let Some(iterator) = words.pointer(address.wrapping_add(iterator))? else { continue };
        if goes == iterator {
            continue;
        }
        let Some(functions) = functions_of(words, mapped.as_ref(), found, list, &offsets, &mut left)? else { continue };
        if !functions.contains(&goes) {
            let found = functions.first().copied().unwrap_or(iterator);
            let what = "tracepoint_call";
            heard.disagreements.push(Disagreement { what, address: call, which: address, expected: goes, found });
        }
    }
    heard.counts.extend((count > 0).then_some(("tracepoint", count)));
    if left == 0 {
        heard.unheard.push("tracepoints: they have more functions than any kernel's".to_owned());
    }
    Ok(())
}

/// The functions of a list, as linked; `None` where it could not be read.
fn functions_of(
    words: &Words<'_>,
    mapped: Option<&Mapped<'_>>,
    found: &Location,
    list: u64,
    offsets: &Offsets,
    left: &mut u64,
) -> Result<Option<Vec<u64>>> {
    let mut functions = Vec::new();
    if list == 0 {
        return Ok(Some(functions));
    }
    let Some(mapped) = mapped else { return Ok(None) };
    let list = list.wrapping_add(found.slide);
    for row in 0.. {
        let mut bytes = [0; 8];
        let Some(fewer) = left.checked_sub(1) else { return Ok(None) };
        *left = fewer;
        if !mapped.read(list.wrapping_add(row * offsets.row + offsets.function), &mut bytes[..words.width()])? {
            return Ok(None);
        }
        match words.linked(u64::from_le_bytes(bytes)) {
            0 => break,
            function => functions.push(function),
        }
    }
    Ok(Some(functions))
}
