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
//! static_call.h). i386 has trampolines only. Where kallsyms lists no data the rows are found by what they name: calls and
//! jumps to trampolines; where it lists nothing, the trampolines by the `ud1` behind them.

use std::collections::BTreeMap;

use memchr::memmem;

use super::bounded;
use super::code::{Code, Record, relative};
use super::sorted::SortedTable;
use crate::error::{Error, Result};
use crate::image::KERNEL;
use crate::insn::{CALL, INT3, JMP, NOP, RET};

const TABLE: &str = ".static_call_sites";
const FLAGS: i64 = 3;
const TAIL: u64 = 1;

/// Behind the five bytes of a trampoline: `ud1 %esp,%ecx`; before 5.19 and its stable ports the letters `SCT`, before 5.16
/// (2105a92748e8) and its stable ports nops up to the next multiple of 4 (`NOPS_BEHIND`).
pub const TRAMPOLINE_ENDS: [[u8; 3]; 2] = [[0x0f, 0xb9, 0xcc], *b"SCT"];

/// What assemblers and linkers fill three bytes with.
const NOPS_BEHIND: [[u8; 3]; 4] = [[0x0f, 0x1f, 0x00], [NOP, NOP, NOP], [0x66, NOP, NOP], [INT3, INT3, INT3]];

/// Those that go nowhere: `ret` and four nops, and in stable kernels `ret; int3` and three.
const NOWHERE: [[u8; BRANCH]; 2] = [[RET, NOP, NOP, NOP, NOP], [RET, INT3, NOP, NOP, NOP]];

/// A run shorter than this is no table.
const LEAST_RUN: usize = 8;
/// Bytes of a row, whatever the machine's word is.
const STRIDE: usize = 8;
/// Bytes of a trampoline before its signature.
const BRANCH: usize = 5;

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
    /// Address of its key, where kallsyms lists data, or a site calls it.
    pub key: Option<u64>,
}

/// The call sites in table order.
pub(crate) fn read(code: &Code<'_>) -> Result<Vec<StaticCall>> {
    let Some(table) = bounded::find(code, TABLE, "static_call_sites")? else { return Ok(find(code)) };
    bounded::whole(code, TABLE, table.bytes, STRIDE)?;
    let row = |(row, (place, record))| {
        let site = parse(code, place, record);
        let placed = |e: Error| e.in_section(TABLE).in_file(code.image().name()).at_row(row);
        code.holds(site.address, BRANCH).map_err(placed)?;
        if code.image().section_at(site.key).is_none() {
            let reason = format!("its key {:#x} is in no section", site.key);
            return Err(placed(Error::table(reason).at_address(site.address)));
        }
        Ok(site)
    };
    table.rows(STRIDE).enumerate().map(row).collect()
}

/// Where the table is, and what reads its rows.
pub(crate) fn sorted(code: &Code<'_>) -> Result<Option<SortedTable>> {
    let made = |start, size| SortedTable { name: TABLE, start, size, stride: STRIDE, fields: site };
    Ok(match bounded::find(code, TABLE, "static_call_sites")? {
        Some(table) => Some(made(table.start, table.bytes.len())),
        None => run(code).map(|(start, sites)| made(start, STRIDE * sites.len())),
    })
}

/// Site, nothing, and the key with its flags.
fn site(place: u64, row: &[u8], word: usize, _: u64) -> [u64; 3] {
    let record = Record(row);
    let key = relative(place + 4, record.s32(4).into(), word);
    [relative(place, record.s32(0).into(), word), 0, key]
}

fn parse(code: &Code<'_>, place: u64, bytes: &[u8]) -> StaticCall {
    let [address, _, key] = site(place, bytes, code.image().bits().word(), 0);
    StaticCall { address, key: key & !(FLAGS as u64), tail: key & TAIL != 0 }
}

fn find(code: &Code<'_>) -> Vec<StaticCall> {
    run(code).map(|(_, sites)| sites).unwrap_or_default()
}

/// The longest run of rows whose sites call or jump to trampolines, and whose keys are data; where it begins.
fn run(code: &Code<'_>) -> Option<(u64, Vec<StaticCall>)> {
    let row = |place, record: &[u8], _: &[StaticCall]| {
        let site = parse(code, place, record);
        // The linker marks 7.2's .data as code too.
        let data = code.image().section_at(site.key).is_some_and(|section| !section.executable || section.writable);
        (data && called(code, &site).is_some()).then_some(site)
    };
    bounded::longest_run(code, STRIDE, row, |rows| rows.len() >= LEAST_RUN)
}

/// The trampoline that a site calls, as built.
fn called(code: &Code<'_>, site: &StaticCall) -> Option<u64> {
    let here = code.from(site.address)?;
    let (len, displacement) = match here {
        [CALL, a, b, c, d, ..] if !site.tail => (5, [*a, *b, *c, *d]),
        [JMP, a, b, c, d, ..] if site.tail => (5, [*a, *b, *c, *d]),
        [0x0f, 0x80..=0x8f, a, b, c, d, ..] if site.tail => (6, [*a, *b, *c, *d]),
        _ => return None,
    };
    let next = site.address.wrapping_add(len);
    let target = next.wrapping_add(i32::from_le_bytes(displacement) as u64) & code.image().bits().max_address();
    is_trampoline(code, target).then_some(target)
}

/// Whether a trampoline stands at an address.
fn is_trampoline(code: &Code<'_>, address: u64) -> bool {
    let held = |at: u64, len: usize| code.from(at).and_then(|bytes| bytes.get(..len));
    let aligned = |at: u64| held(at, STRIDE).is_some_and(|bytes| ends_in_nops(at, bytes));
    let signed = held(address, STRIDE).is_some_and(|bytes| {
        TRAMPOLINE_ENDS.iter().any(|end| bytes[BRANCH..] == *end) && matches!(bytes[0], JMP | RET)
    });
    // The last one of those without a signature has nothing to be aligned behind it.
    let last =
        || held(address, BRANCH).is_some_and(|branch| branches(address, branch)) && aligned(address - STRIDE as u64);
    signed || aligned(address) || (address >= STRIDE as u64 && last())
}

/// Whether a trampoline of those without a signature stands at an address, with the nops behind it.
fn ends_in_nops(address: u64, bytes: &[u8]) -> bool {
    let (branch, behind) = bytes.split_at(BRANCH);
    branches(address, branch) && NOPS_BEHIND.iter().any(|nops| behind == nops)
}

fn branches(address: u64, branch: &[u8]) -> bool {
    address.is_multiple_of(4) && (branch[0] == JMP || NOWHERE.iter().any(|nowhere| branch == nowhere))
}

/// Where trampolines are, by the `ud1` that ends each.
fn by_signature(code: &Code<'_>) -> Vec<u64> {
    let mut found = Vec::new();
    for (start, bytes) in code.ranges() {
        for at in memmem::find_iter(bytes, &TRAMPOLINE_ENDS[0]) {
            let Some(begin) = at.checked_sub(BRANCH) else { continue };
            let target = |d: [u8; 4]| start.wrapping_add(at as u64).wrapping_add(i32::from_le_bytes(d) as u64);
            let branches = match bytes[begin..at] {
                [JMP, a, b, c, d] => code.from(target([a, b, c, d]) & code.image().bits().max_address()).is_some(),
                // Without a target: `ret; int3`, then nops, or nothing but `int3`.
                [RET, ref rest @ ..] => rest.iter().all(|&byte| matches!(byte, INT3 | NOP)),
                _ => false,
            };
            if branches {
                found.push(start + begin as u64);
            }
        }
    }
    found
}

/// The trampolines, by address. Where no symbol tells its key, the sites that call one do.
pub(crate) fn trampolines(code: &Code<'_>, sites: &[StaticCall]) -> Result<Vec<Trampoline>> {
    let mut found = named(code)?;
    if found.is_empty() {
        let mut places = by_signature(code);
        // Without a signature, those that sites call are known.
        places.extend(sites.iter().filter_map(|site| called(code, site)));
        places.sort_unstable();
        places.dedup();
        found = places.into_iter().map(|address| Trampoline { address, key: None }).collect();
    }
    if found.iter().any(|trampoline| trampoline.key.is_none()) {
        let keys: BTreeMap<u64, u64> = sites.iter().filter_map(|s| Some((called(code, s)?, s.key))).collect();
        for trampoline in &mut found {
            trampoline.key = trampoline.key.or_else(|| keys.get(&trampoline.address).copied());
        }
    }
    Ok(found)
}

/// What the names of trampolines begin with.
const PREFIX: &str = "__SCT__";

/// The trampolines that have names.
fn named(code: &Code<'_>) -> Result<Vec<Trampoline>> {
    let Some(symbols) = code.image().symbols()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut key = String::new();
    for (address, name) in symbols.starting_with(PREFIX) {
        let Some(name) = name.strip_prefix(PREFIX) else { continue };
        // The trampolines that a module uses of the kernel's are not in it.
        if code.image().section_at(address).is_some_and(|section| section.name == KERNEL) {
            continue;
        }
        let branches = code.from(address).is_some_and(|c| c.len() >= BRANCH && matches!(c[0], JMP | RET));
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
