//! Where the kernel refuses to be probed: what its own tables and sections say.
//!
//! | what | where | refused by |
//! |---|---|---|
//! | `NOKPROBE_SYMBOL()` | `_kprobe_blacklist`, between `__start_kprobe_blacklist` and `__stop_kprobe_blacklist`, of which `init_kprobes()` has the addresses | `within_kprobe_blacklist()` |
//! | `.kprobes.text`, `.noinstr.text`, `.entry.text` | between the symbols `__kprobes_text_start` … | `populate_kprobe_blacklist()` |
//! | `BUG()`, `WARN()` | `__bug_table` | `find_bug()`, since 5.4 (e336b4027775) |
//! | preambles of functions | symbols `__cfi_*`, `__pfx_*` | `is_cfi_preamble_symbol()`, since 6.6 (de02f2ac5d8c) |
//! | functions with fixups | `__ex_table` | `can_optimize()`: no jump, a breakpoint may be |
//!
//! kernel/kprobes.c: `check_kprobe_address_safe()`; arch/x86/kernel/kprobes/opt.c: `can_optimize()`.
//!
//! ```c
//! unsigned long _kprobe_blacklist[];                                        /* functions */
//! struct bug_entry { s32 bug_addr; s32 file; u16 line; u16 flags; };        /* 12 bytes; 8 without file and line, */
//! struct bug_entry { s32 bug_addr; s32 format; s32 file; u16 line, flags; } /* 16 since 7.0; i386 to 5.17: pointers */
//! struct exception_table_entry { s32 insn, fixup, handler; };               /* 12 bytes; 8 up to 4.5 */
//! ```

use super::code::{Code, Record, relative};
use crate::error::{Error, Result};
use crate::image::kallsyms::Symbols;
use crate::image::{Bits, Image, Section, code_addresses};

const BLACKLIST: &str = "_kprobe_blacklist";
/// What has the addresses of its ends (kernel/kprobes.c, since 3.16).
const READS_BLACKLIST: &str = "init_kprobes";
const BUGS: &str = "__bug_table";
const EXCEPTIONS: &str = "__ex_table";
/// Ranges of code, between the symbols `__NAME_start` and `__NAME_end`; in modules they are sections.
const RANGES: [(&str, &str, &str); 3] = [
    ("__kprobes_text_start", "__kprobes_text_end", ".kprobes.text"),
    ("__noinstr_text_start", "__noinstr_text_end", ".noinstr.text"),
    ("__entry_text_start", "__entry_text_end", ".entry.text"),
];

/// What names of the preambles of functions begin with: code that is not called, but through pointers under kCFI.
pub const PREAMBLES: [&str; 2] = ["__cfi_", "__pfx_"];

/// What may not be probed, or not by a jump.
#[derive(Debug, Clone, Default)]
pub struct Reserved {
    /// Where functions have preambles, by address.
    pub preambles: Vec<u64>,
    /// First address and the one behind the last, by address; they may overlap.
    ranges: Vec<(u64, u64)>,
    /// By address.
    bugs: Vec<u64>,
    /// Instructions with a fixup, by address.
    exceptions: Vec<u64>,
}

impl Reserved {
    /// Reads what an image says.
    ///
    /// # Errors
    /// A function on the blacklist that is in no code.
    pub fn read(image: &Image) -> Result<Reserved> {
        let code = Code::of(image);
        let symbols = image.symbols()?;
        let preambles: Vec<u64> =
            symbols.iter().flat_map(|symbols| symbols.addresses_starting_with(&PREAMBLES)).collect();
        let mut reserved = Reserved {
            ranges: ranges(&code, &preambles)?,
            preambles,
            bugs: image.section(BUGS).map_or_else(Vec::new, |section| bugs(&code, section)),
            exceptions: image.section(EXCEPTIONS).map_or_else(Vec::new, |section| exceptions(&code, section)),
        };
        // Those of preambles are one long run in order.
        reserved.ranges.sort();
        // Each reaches as far as any before it, so that one look at the last is enough.
        let mut end = 0;
        for range in &mut reserved.ranges {
            end = range.1.max(end);
            range.1 = end;
        }
        reserved.bugs.sort_unstable();
        reserved.exceptions.sort_unstable();
        Ok(reserved)
    }

    /// Whether the kernel refuses a probe of the instruction at an address.
    pub fn refuses(&self, address: u64) -> bool {
        let after = self.ranges.partition_point(|range| range.0 <= address);
        // Ranges were merged from the left: the last one that begins here or before has the farthest end of them all.
        let within = after.checked_sub(1).is_some_and(|at| address < self.ranges[at].1);
        within || self.bugs.binary_search(&address).is_ok()
    }

    /// Whether an instruction of this stretch has a fixup.
    pub fn excepted(&self, start: u64, end: u64) -> bool {
        let from = self.exceptions.partition_point(|&insn| insn < start);
        self.exceptions.get(from).is_some_and(|&insn| insn < end)
    }
}

fn ranges(code: &Code<'_>, preambles: &[u64]) -> Result<Vec<(u64, u64)>> {
    let image = code.image();
    let symbols = image.symbols()?;
    let named = |name: &str| symbols.and_then(|symbols| symbols.address_of(name));
    let mut ranges = Vec::new();
    for (start, end, section) in RANGES {
        ranges.extend(named(start).zip(named(end)));
        ranges.extend(image.section(section).filter(|s| s.executable).map(|s| (s.address, s.end())));
    }
    let addresses: Vec<u64> = symbols.iter().flat_map(|symbols| symbols.addresses()).collect();
    // As `kallsyms_lookup_size_offset()`: a function ends where the next one begins.
    let function = |start: u64| {
        let after = addresses.partition_point(|&address| address <= start);
        (start, addresses.get(after).copied().unwrap_or(start.saturating_add(1)))
    };
    ranges.extend(preambles.iter().map(|&preamble| function(preamble)));
    let word = image.bits().word();
    let placed = |e: Error| e.in_section(BLACKLIST).in_file(image.name());
    let between = match named("__start_kprobe_blacklist").zip(named("__stop_kprobe_blacklist")) {
        None => symbols.map(|symbols| unnamed(image, symbols)).transpose()?.flatten(),
        named => named,
    };
    let table = match (image.section(BLACKLIST), between) {
        (Some(section), _) => image.section_bytes(section),
        (None, Some((start, stop))) => {
            let len = stop.checked_sub(start).and_then(|len| usize::try_from(len).ok());
            len.and_then(|len| image.read(start, len)).ok_or_else(|| {
                placed(Error::table(format!("its end {stop:#x} and start are in no one section")).at_address(start))
            })?
        }
        (None, None) => &[],
    };
    for (row, record) in table.chunks_exact(word).enumerate() {
        let address = Record(record).pointer(0, word);
        if address != 0 {
            code.holds(address, 1).map_err(|e| placed(e.at_row(row)))?;
            ranges.push(function(address));
        }
    }
    Ok(ranges)
}

/// Where the blacklist is, which kallsyms does not name: between the two places in what is freed after boot that the code of
/// `init_kprobes()` has the addresses of and between which nothing but functions is listed, the most of them.
fn unnamed(image: &Image, symbols: &Symbols) -> Result<Option<(u64, u64)>> {
    let word = image.bits().word();
    let freed = |address: &u64| image.section_at(*address).is_some_and(|section| section.name.starts_with(".init"));
    let mut ends: Vec<u64> = code_addresses(image, symbols, READS_BLACKLIST)?.into_iter().filter(freed).collect();
    ends.sort_unstable();
    ends.dedup();
    let listed = |&(start, stop): &(u64, u64)| {
        let list = image.read(start, (stop - start) as usize).filter(|list| list.len().is_multiple_of(word));
        let function = |row: &[u8]| symbols.at(Record(row).pointer(0, word)).is_some_and(|(_, behind)| behind == 0);
        list.is_some_and(|list| list.chunks_exact(word).all(function))
    };
    let pairs = ends.iter().zip(ends.iter().skip(1)).map(|(&start, &stop)| (start, stop));
    Ok(pairs.filter(listed).max_by_key(|&(start, stop)| stop - start))
}

/// How many bytes a row of `__bug_table` has; none where there is no such table.
pub(crate) fn bug_row(image: &Image) -> Option<usize> {
    let section = image.section(BUGS)?;
    let rows = bugs(&Code::of(image), section).len();
    image.section_bytes(section).len().checked_div(rows).filter(|&row| row >= 8)
}

/// The addresses of `__bug_table`: by the layout where the most rows name a trap, all of them code. Empty where there is
/// no such layout.
fn bugs(code: &Code<'_>, section: &Section) -> Vec<u64> {
    let image = code.image();
    let bytes = image.section_bytes(section);
    let word = image.bits().word();
    let mut best = (0, Vec::new());
    for stride in [12, 16, 8] {
        for absolute in [false, true] {
            if !bytes.len().is_multiple_of(stride) || absolute && image.bits() == Bits::B64 {
                continue;
            }
            let address = |(row, record): (usize, &[u8])| match absolute {
                true => Record(record).pointer(0, 4),
                false => relative(section.address + (stride * row) as u64, Record(record).s32(0).into(), word),
            };
            let sites: Vec<u64> = bytes.chunks_exact(stride).enumerate().map(address).collect();
            if sites.iter().all(|&site| code.from(site).is_some()) {
                let traps = sites.iter().filter(|&&site| code.from(site).is_some_and(is_trap)).count();
                if traps > best.0 {
                    best = (traps, sites);
                }
            }
        }
    }
    best.1
}

/// `ud2`, or `ud1` behind prefixes (7.0 on).
fn is_trap(code: &[u8]) -> bool {
    let prefixes = code.iter().take_while(|b| matches!(b, 0x67 | 0x48)).count();
    matches!(code.get(prefixes..), Some([0x0f, 0x0b | 0xb9, ..]))
}

/// The instructions of `__ex_table`; empty where no layout has all of them in code.
fn exceptions(code: &Code<'_>, section: &Section) -> Vec<u64> {
    let image = code.image();
    let bytes = image.section_bytes(section);
    let word = image.bits().word();
    for stride in [12, 8] {
        if !bytes.len().is_multiple_of(stride) {
            continue;
        }
        let field = |row: usize, record: &[u8], at: usize| {
            relative(section.address + (stride * row + at) as u64, Record(record).s32(at).into(), word)
        };
        let rows = || bytes.chunks_exact(stride).enumerate();
        let valid = |(row, record): (usize, &[u8])| {
            code.from(field(row, record, 0)).is_some() && code.reaches(field(row, record, 4))
        };
        if rows().all(valid) {
            return rows().map(|(row, record)| field(row, record, 0)).collect();
        }
    }
    Vec::new()
}
