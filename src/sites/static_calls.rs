//! Static calls: direct calls whose target the kernel changes by rewriting them.
//!
//! ```c
//! struct static_call_site {   /* include/linux/static_call_types.h, since 5.10; laid down by objtool, x86-64 only */
//!         s32 addr;           /* both relative to their own field */
//!         s32 key;            /* bit 0: a tail call; bit 1: in init code (set at boot) */
//! };
//! struct static_call_key { void *func; … };
//! ```
//!
//! Rows lie between `__start_static_call_sites` and `__stop_static_call_sites`. Each key `__SCK__name` has a trampoline
//! `__SCT__name`, `jmp rel32` or `ret` and `int3`, then `ud1 %esp,%ecx`, which no compiler makes (arch/x86/include/asm/
//! static_call.h). i386 has trampolines only.

use super::code::{Code, Record, relative};
use crate::error::{Error, Result};
use crate::image::KERNEL;
use crate::insn::{JMP, RET};

const TABLE: &str = ".static_call_sites";
const FLAGS: i64 = 3;
const TAIL: u64 = 1;

/// Behind the five bytes of a trampoline: `ud1 %esp,%ecx`; before 6.1 and its stable ports the letters `SCT`, at first
/// nothing certain.
pub const TRAMPOLINE_ENDS: [[u8; 3]; 2] = [[0x0f, 0xb9, 0xcc], *b"SCT"];

/// One call site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticCall {
    /// Address of the call or jump.
    pub address: u64,
    /// Address of its key.
    pub key: u64,
    /// A jump at the end of a function.
    pub tail: bool,
}

/// One trampoline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trampoline {
    /// Where it is.
    pub address: u64,
    /// Address of its key, where kallsyms lists data.
    pub key: Option<u64>,
}

/// The call sites in table order.
pub(crate) fn read(code: &Code<'_>) -> Result<Vec<StaticCall>> {
    let image = code.image();
    let symbols = image.symbols()?;
    let named = |name: &str| symbols.and_then(|s| s.address_of(name));
    let (Some(start), Some(stop)) = (named("__start_static_call_sites"), named("__stop_static_call_sites")) else {
        return Ok(Vec::new());
    };
    let placed = |e: Error| e.in_section(TABLE).in_file(image.name());
    let len = stop.checked_sub(start).and_then(|len| usize::try_from(len).ok());
    let Some(bytes) = len.and_then(|len| image.read(start, len)).filter(|bytes| bytes.len().is_multiple_of(8)) else {
        return Err(placed(Error::table(format!("no rows of 8 bytes up to {stop:#x}")).at_address(start)));
    };
    let word = image.bits().word();
    let mut sites = Vec::with_capacity(bytes.len() / 8);
    for (row, record) in bytes.chunks_exact(8).enumerate() {
        let (place, record) = (start + 8 * row as u64, Record(record));
        let address = relative(place, record.s32(0).into(), word);
        code.holds(address, 5).map_err(|e| placed(e.at_row(row)))?;
        let key = relative(place + 4, record.s32(4).into(), word);
        let (tail, key) = (key & TAIL != 0, key & !(FLAGS as u64));
        if image.section_at(key).is_none() {
            let reason = format!("its key {key:#x} is in no section");
            return Err(placed(Error::table(reason).at_row(row).at_address(address)));
        }
        sites.push(StaticCall { address, key, tail });
    }
    Ok(sites)
}

/// The trampolines, by address.
pub(crate) fn trampolines(code: &Code<'_>) -> Result<Vec<Trampoline>> {
    let Some(symbols) = code.image().symbols()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut key = String::new();
    for (address, _, name) in symbols.iter() {
        let Some(name) = name.strip_prefix("__SCT__") else { continue };
        // The trampolines that a module uses of the kernel's are not in it.
        if code.image().section_at(address).is_some_and(|section| section.name == KERNEL) {
            continue;
        }
        let branches = code.from(address).is_some_and(|c| c.len() >= 5 && matches!(c[0], JMP | RET));
        if !branches {
            let reason = format!("the trampoline __SCT__{name} neither jumps nor returns");
            return Err(Error::table(reason).at_address(address).in_file(code.image().name()));
        }
        key.clear();
        key.push_str("__SCK__");
        key.push_str(name);
        found.push(Trampoline { address, key: symbols.address_of(&key) });
    }
    found.sort_by_key(|t| t.address);
    Ok(found)
}
