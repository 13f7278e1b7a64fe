//! Data that lie in `.text`: those of arch/x86/kernel/head_64.S (2.6.32) beside and behind its code, which the kernel
//! writes.

use std::ops::Range;

use crate::error::Result;
use crate::image::Image;
use crate::insn::Bits;

/// The top page table: where it is not in `.text`, the others are not.
const FIRST: &str = "init_level4_pgt";
/// What there is (`NEXT_PAGE()`, `ENTRY()`), and of how many bytes: page tables, and what the next CPU starts with.
const DATA: [(&str, u64); 11] = [
    (FIRST, 4096),
    ("level3_ident_pgt", 4096),
    ("level3_kernel_pgt", 4096),
    ("level2_fixmap_pgt", 4096),
    ("level1_fixmap_pgt", 4096),
    ("level2_ident_pgt", 4096),
    ("level2_kernel_pgt", 4096),
    ("level2_spare_pgt", 4096),
    ("initial_code", 8),
    ("initial_gs", 8),
    ("stack_start", 8),
];

/// Where they are, by address; nothing where they lie elsewhere, or the image does not name them.
pub fn data_in_text(image: &Image) -> Result<Vec<Range<u64>>> {
    let (Some(text), Bits::B64) = (image.section(".text"), image.bits()) else { return Ok(Vec::new()) };
    let Some(symbols) = image.symbols()? else { return Ok(Vec::new()) };
    let place = |&(name, size): &(&str, u64)| {
        let start = symbols.address_of(name).filter(|start| start.is_multiple_of(size.min(8)))?;
        let end = start.checked_add(size)?;
        (text.address <= start && end <= text.end()).then_some(start..end)
    };
    if place(&DATA[0]).is_none() {
        return Ok(Vec::new());
    }
    let mut found: Vec<Range<u64>> = DATA.iter().filter_map(place).collect();
    found.sort_unstable_by_key(|range| range.start);
    found.dedup_by(|next, before| {
        let follows = next.start <= before.end;
        if follows {
            before.end = before.end.max(next.end);
        }
        follows
    });
    Ok(found)
}
