//! `__mcount_loc`: where each traced function calls `__fentry__`, or `mcount`.
//!
//! ```c
//! unsigned long __mcount_loc[];   /* between __start_mcount_loc and __stop_mcount_loc, in .init.data */
//! ```
//!
//! (include/asm-generic/vmlinux.lds.h, scripts/recordmcount.c, kernel/trace/ftrace.c: `ftrace_init()`.) Up to 2.6.36 a row
//! is the address behind the call's opcode (`ftrace_call_adjust()`, arch/x86/include/asm/ftrace.h: `addr - 1`; recordmcount
//! has done that since 2.6.37). Where kallsyms lists no data, the table is found by what is in it: the one long run of
//! words that are all addresses of calls to one function, which does nothing until somebody traces.

use super::bounded;
use super::code::{Code, Record, call_target};
use super::thunks::returns_at_once;
use crate::error::{Error, Result};
use crate::image::LOWEST_KERNEL;
use crate::insn::{CALL, CALL_LEN};

const TABLE: &str = "__mcount_loc";

/// A run shorter than this is no table. Real ones have tens of thousands of rows.
const LEAST_RUN: usize = 16;

/// Addresses of the calls, in table order; empty where the kernel has no such table.
pub(crate) fn read(code: &Code<'_>) -> Result<Vec<u64>> {
    let word = code.image().bits().word();
    let Some(table) = bounded::find(code, TABLE, "mcount_loc")? else { return Ok(find(code)) };
    bounded::whole(code, TABLE, table.bytes, word)?;
    // Rows of weak functions that lost are zeros since 6.15 (scripts/sorttable.c), and in 6.12's stable releases. They are
    // still relocated: in an image that was moved each holds the slide, which is no address.
    let all = || table.rows(word).enumerate().map(|(row, (_, record))| (row, Record(record).pointer(0, word)));
    let slide = all().map(|(_, site)| site).min().filter(|&site| site < LOWEST_KERNEL).unwrap_or(0);
    let rows = || all().filter(|&(_, site)| site != 0 && site != slide);
    let calls = |behind: u64| {
        let starts = |(_, site): &(usize, u64)| code.from(site.wrapping_sub(behind)).is_some_and(|c| c[0] == CALL);
        rows().filter(starts).count()
    };
    let at = calls(0);
    let behind = u64::from(at < rows().count() && calls(1) > at);
    let mut sites = Vec::with_capacity(table.bytes.len() / word);
    for (row, site) in rows() {
        let placed = |e: Error| e.in_section(TABLE).in_file(code.image().name()).at_row(row);
        let site = site.wrapping_sub(behind);
        code.holds(site, CALL_LEN).map_err(placed)?;
        sites.push(site);
    }
    Ok(sites)
}

/// The longest run of words, behind one another or a byte further on, that are addresses of calls to one function that
/// does nothing. A `switch` may have as many, but its cases call something, or are one.
fn find(code: &Code<'_>) -> Vec<u64> {
    let word = code.image().bits().word();
    let run = |behind: u64| {
        let mut target = 0;
        let row = |_, record: &[u8], run: &[u64]| {
            let site = Record(record).pointer(0, word).wrapping_sub(behind);
            let here = call_target(code, site)?;
            // Functions of one object follow each other.
            let same = if run.is_empty() { does_nothing(code, here) } else { here == target };
            target = here;
            (same && run.last() != Some(&site)).then_some(site)
        };
        let rows = bounded::longest_run(code, word, row, |rows| rows.len() >= LEAST_RUN);
        rows.map(|(_, rows)| rows).unwrap_or_default()
    };
    let (at, behind) = (run(0), run(1));
    if behind.len() > at.len() { behind } else { at }
}

/// Whether a function does nothing as built, as `__fentry__` and `mcount` do. What lies outside an image, as the kernel's
/// does for a module, is believed.
fn does_nothing(code: &Code<'_>, function: u64) -> bool {
    match code.from(function) {
        Some(here) => returns_at_once(here),
        None => code.image().section_at(function).is_some(),
    }
}
