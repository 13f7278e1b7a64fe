//! Data that lie in `.text`: those of arch/x86/kernel/head_64.S (2.6.32) beside and behind its code, which the kernel
//! writes.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::error::Result;
use crate::image::Image;
use crate::insn::Bits;
use crate::numbers::u64_at;

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

/// Where the kernel's image is mapped (`__START_KERNEL_map`): an entry of a table has its place without this.
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// How much of `.text` is searched for the top table where nothing names it; the code before it is less than a page.
const HEAD: u64 = 16 * PAGE;
const PAGE: u64 = 4096;
/// Entries of the top table: of the first GiB, of all memory (`L4_PAGE_OFFSET` of 2.6.27 to 2.6.32), of the kernel's image.
const TOP: [usize; 3] = [0, 272, 511];
/// What an entry says beside a place: it is there, and itself maps a large page.
const PRESENT: u64 = 1;
const LARGE: u64 = 0x80;

/// Where they are, by address; nothing where they lie elsewhere.
pub fn data_in_text(image: &Image) -> Result<Vec<Range<u64>>> {
    let (Some(text), Bits::B64) = (image.section(".text"), image.bits()) else { return Ok(Vec::new()) };
    let found = named(image, text.address..text.end())?;
    if !found.is_empty() {
        return Ok(found);
    }
    let bytes = image.read(text.address, text.size.min(4 * HEAD) as usize).unwrap_or_default();
    Ok(joined(unnamed(bytes, text.address)))
}

/// Of tables that nothing names, as those of a kernel that lists functions alone: the top one by what is in it, the others
/// by where entries lead; and what the code before them reads for the next CPU.
fn unnamed(text: &[u8], start: u64) -> Vec<Range<u64>> {
    let table = |place: u64| {
        let at = usize::try_from(place.checked_sub(start)?).ok()?;
        text.get(at..)?.get(..PAGE as usize)
    };
    let entry = |table: &[u8], index: usize| u64_at(table, index * 8).unwrap_or(0);
    let led = |entry: u64| ((entry & !0xfff) < 1 << 30).then_some((entry & !0xfff) | START_KERNEL_MAP);
    let is_top = |place: u64| {
        let Some(page) = table(place) else { return false };
        let [first, all, kernel] = TOP.map(|index| entry(page, index));
        let rest = (0..512).filter(|index| !TOP.contains(index)).all(|index| entry(page, index) == 0);
        let leads = |entry: u64| entry & PRESENT != 0 && entry & LARGE == 0 && led(entry).and_then(table).is_some();
        rest && first == all && first != kernel && leads(first) && leads(kernel)
    };
    let Some(top) = (start.next_multiple_of(PAGE)..start + HEAD).step_by(PAGE as usize).find(|&place| is_top(place))
    else {
        return Vec::new();
    };
    let mut found = BTreeSet::from([top]);
    let mut level = vec![top];
    for _ in 1..4 {
        let entries = level.iter().filter_map(|&place| table(place)).flat_map(|page| (0..512).map(|i| entry(page, i)));
        let below = entries.filter(|entry| entry & PRESENT != 0 && entry & LARGE == 0).filter_map(led);
        level = below.filter(|&place| table(place).is_some() && found.insert(place)).collect();
    }
    let read = read_by_code(&text[..(top - start) as usize], start);
    found.into_iter().map(|place| place..place + PAGE).chain(read).collect()
}

/// The words between the code before the tables that it reads: `mov stack_start(%rip),%rsp`, `mov initial_code(%rip),%rax`,
/// `mov initial_gs(%rip),%eax`.
fn read_by_code(head: &[u8], start: u64) -> Vec<Range<u64>> {
    let inside = |at: usize, length: usize| {
        let displacement = i32::from_le_bytes(*head.get(at + length - 4..at + length)?.first_chunk()?);
        let place = (start + (at + length) as u64).checked_add_signed(displacement.into())?;
        (place >= start && place.is_multiple_of(8) && place + 8 <= start + head.len() as u64)
            .then_some(place..place + 8)
    };
    let reads = |at: usize| match &head[at..] {
        [0x48, 0x8b, 0x25 | 0x05, ..] => inside(at, 7),
        [0x8b, 0x05, ..] => inside(at, 6),
        _ => None,
    };
    (0..head.len().saturating_sub(7)).filter_map(reads).collect()
}

/// Those that symbols name.
fn named(image: &Image, text: Range<u64>) -> Result<Vec<Range<u64>>> {
    let Some(symbols) = image.symbols()? else { return Ok(Vec::new()) };
    let place = |&(name, size): &(&str, u64)| {
        let start = symbols.address_of(name).filter(|start| start.is_multiple_of(size.min(8)))?;
        let end = start.checked_add(size)?;
        (text.start <= start && end <= text.end).then_some(start..end)
    };
    if place(&DATA[0]).is_none() {
        return Ok(Vec::new());
    }
    Ok(joined(DATA.iter().filter_map(place).collect()))
}

/// By address, those that touch as one.
fn joined(mut found: Vec<Range<u64>>) -> Vec<Range<u64>> {
    found.sort_unstable_by_key(|range| range.start);
    found.dedup_by(|next, before| {
        let follows = next.start <= before.end;
        if follows {
            before.end = before.end.max(next.end);
        }
        follows
    });
    found
}
