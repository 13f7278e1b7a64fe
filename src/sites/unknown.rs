//! Sections that list addresses of code, and that this crate does not know: a kernel may rewrite what they name.

use super::code::{Code, Record, relative};
use crate::image::Image;

/// Sections of such rows that are known: those that the passes go by, and those by which no text is rewritten.
const KNOWN: [&str; 23] = [
    ".retpoline_sites",
    ".return_sites",
    ".call_sites",
    ".ibt_endbr_seal",
    ".cfi_sites",
    ".smp_locks",
    ".altinstructions",
    ".parainstructions",
    "__jump_table",
    "__mcount_loc",
    ".static_call_sites",
    // Unwinding, exceptions, tracing, warnings: looked up, never written by.
    ".orc_unwind_ip",
    ".orc_unwind",
    ".orc_lookup",
    "__ex_table",
    "__bug_table",
    // Where kCFI traps (is_cfi_trap(), kernel/cfi.c, 6.1).
    "__kcfi_traps",
    ".eh_frame",
    ".eh_frame_hdr",
    ".kprobe_blacklist",
    "__patchable_function_entries",
    ".pci_fixup",
    ".initcall.init",
];

/// Fewer rows tell nothing.
const LEAST: usize = 4;

/// The name of each section whose bytes are all distances from themselves to code, four bytes a row, and of each that ends
/// in `_sites`, but for those known.
pub fn sections(image: &Image) -> Vec<String> {
    let code = Code::of(image);
    let word = image.bits().word();
    let unknown = image.sections().iter().filter(|section| {
        let known = KNOWN.contains(&section.name.as_str()) || section.name.starts_with("runtime_");
        if known || !section.allocated || section.executable || section.writable {
            return false;
        }
        let bytes = image.section_bytes(section);
        let rows = bytes.as_chunks::<4>();
        let names = |(row, record): (usize, &[u8; 4])| {
            let offset = Record(record).s32(0);
            offset != 0 && code.from(relative(section.address + 4 * row as u64, offset.into(), word)).is_some()
        };
        section.name.ends_with("_sites")
            || rows.1.is_empty() && rows.0.len() >= LEAST && rows.0.iter().enumerate().all(names)
    });
    unknown.map(|section| section.name.clone()).collect()
}
