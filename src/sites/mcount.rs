//! `__mcount_loc`: where each traced function calls `__fentry__`.
//!
//! ```c
//! unsigned long __mcount_loc[];   /* between __start_mcount_loc and __stop_mcount_loc, in .init.data */
//! ```
//!
//! (include/asm-generic/vmlinux.lds.h, scripts/recordmcount.c, kernel/trace/ftrace.c: `ftrace_init()`.) The section is
//! merged into `.init.data`. Where kallsyms lists no data (i386 at Debian), the table is found by what is in it: the one
//! long run of words that are all addresses of calls to `__fentry__`.

use super::code::{Code, Record};
use crate::error::{Error, Result};
use crate::insn::{CALL, CALL_LEN};

const TABLE: &str = "__mcount_loc";

/// A run shorter than this is no table. Real ones have tens of thousands of rows.
const LEAST_RUN: usize = 16;

/// Addresses of the calls, in table order; empty where the kernel has no such table.
pub(crate) fn read(code: &Code<'_>) -> Result<Vec<u64>> {
    let image = code.image();
    let word = image.bits().word();
    let symbols = image.symbols()?;
    let named = |name: &str| symbols.and_then(|s| s.address_of(name));
    let placed = |e: Error| e.in_section(TABLE).in_file(image.name());
    if let (Some(start), Some(stop)) = (named("__start_mcount_loc"), named("__stop_mcount_loc")) {
        let len = stop.checked_sub(start).and_then(|len| usize::try_from(len).ok());
        let Some(bytes) = len.and_then(|len| image.read(start, len)) else {
            return Err(placed(
                Error::table(format!("its end {stop:#x} and start are in no one section")).at_address(start),
            ));
        };
        let mut sites = Vec::with_capacity(bytes.len() / word);
        for (row, record) in bytes.chunks_exact(word).enumerate() {
            let site = Record(record).pointer(0, word);
            // Rows of weak functions that lost are zeros since 6.15.
            if site != 0 {
                code.holds(site, CALL_LEN).map_err(|e| placed(e.at_row(row)))?;
                sites.push(site);
            }
        }
        return Ok(sites);
    }
    match named("__fentry__") {
        Some(tracer) => Ok(find(code, tracer)),
        None => Ok(Vec::new()),
    }
}

/// The longest run of words that are addresses of calls to the tracer, over all data.
fn find(code: &Code<'_>, tracer: u64) -> Vec<u64> {
    let image = code.image();
    let word = image.bits().word();
    let calls = |site: u64| {
        let call = code.from(site)?.get(..CALL_LEN)?;
        let target = site.wrapping_add(CALL_LEN as u64).wrapping_add(Record(call).s32(1) as u64);
        Some(call[0] == CALL && target & image.bits().max_address() == tracer)
    };
    let mut longest = Vec::new();
    for section in image.sections().iter().filter(|s| s.allocated && !s.executable) {
        let mut run = Vec::new();
        for record in image.section_bytes(section).chunks_exact(word) {
            let site = Record(record).pointer(0, word);
            if calls(site) == Some(true) {
                run.push(site);
            } else if run.len() > longest.len() {
                longest = std::mem::take(&mut run);
            } else {
                run.clear();
            }
        }
        if run.len() > longest.len() {
            longest = run;
        }
    }
    if longest.len() < LEAST_RUN { Vec::new() } else { longest }
}
