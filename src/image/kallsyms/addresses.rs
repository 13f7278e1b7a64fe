//! `kallsyms_addresses`, or `kallsyms_offsets` and `kallsyms_relative_base`: one reading of five must make sense.
//!
//! ```c
//! /* kernel/kallsyms.c, kallsyms_sym_address() */
//! kallsyms_addresses[i]                                     /* before 4.6, or without KALLSYMS_BASE_RELATIVE    */
//! kallsyms_relative_base + (u32)kallsyms_offsets[i]         /* 4.6 to 6.19                                     */
//! kallsyms_offsets[i] >= 0 ? kallsyms_offsets[i]            /* 4.6 to 6.14 with KALLSYMS_ABSOLUTE_PERCPU       */
//!                          : kallsyms_relative_base - 1 - kallsyms_offsets[i]
//! (unsigned long)&kallsyms_offsets[i] + kallsyms_offsets[i] /* since 7.0                                       */
//! (u32)kallsyms_offsets[i]                                  /* since 7.0, 32 bits and not relocatable          */
//! ```

use super::names::{Layout, Names};
use super::region::{Region, View};
use super::symbols::Symbols;
use crate::error::Result;
use crate::numbers::unsigned;

/// Where code may be.
pub(super) struct Text {
    ranges: Vec<(u64, u64)>,
}

impl Text {
    pub(super) fn new(regions: &[Region<'_>]) -> Text {
        let mut ranges: Vec<(u64, u64)> = regions
            .iter()
            .filter(|r| r.executable && !r.bytes.is_empty())
            .map(|r| (r.address, r.address.saturating_add(r.bytes.len() as u64)))
            .collect();
        ranges.sort_unstable();
        Text { ranges }
    }

    /// Whether a region with code begins here.
    fn begins(&self, address: u64) -> bool {
        self.ranges.binary_search_by_key(&address, |range| range.0).is_ok()
    }

    /// The region with code that this address lies in, or at the end of, where the linker's markers are.
    fn around(&self, address: u64) -> Option<(u64, u64)> {
        let after = self.ranges.partition_point(|range| range.0 <= address);
        self.ranges[..after].iter().rev().take(2).copied().find(|range| address <= range.1)
    }
}

/// One way to read a table of addresses.
struct Reading<'a> {
    what: &'static str,
    table: &'a [u8],
    size: usize,
    /// The base that offsets are relative to: the lowest address of a symbol that is not absolute
    /// (`record_relative_base` in scripts/kallsyms.c), which need not be listed (without KALLSYMS_ALL).
    base: Option<u64>,
    how: How,
    mask: u64,
}

/// What the numbers of a table say.
#[derive(Clone, Copy)]
enum How {
    Address,
    /// Offsets from the base.
    Relative(u64),
    /// Below 0, offsets below the base; else addresses.
    AbsolutePercpu(u64),
    /// Offsets from where each stands; the first stands here.
    PlaceRelative(u64),
}

impl Reading<'_> {
    /// The address of a symbol by its place in the table, and its number there.
    fn address(&self, place: usize, number: u64) -> u64 {
        let signed = i64::from(number as u32 as i32);
        let address = match self.how {
            How::Address => number,
            How::Relative(base) => base.wrapping_add(number),
            How::AbsolutePercpu(_) if signed >= 0 => number,
            How::AbsolutePercpu(base) => base.wrapping_sub(1).wrapping_sub(signed as u64),
            How::PlaceRelative(start) => start.wrapping_add(4 * place as u64).wrapping_add(signed as u64),
        };
        address & self.mask
    }

    /// The address of each symbol.
    fn addresses(&self) -> impl Iterator<Item = u64> {
        self.table.chunks_exact(self.size).enumerate().map(|(i, bytes)| self.address(i, unsigned(bytes).unwrap_or(0)))
    }
}

/// Fills in the addresses of the names.
pub(super) fn read(view: &View<'_>, layout: &Layout, names: Names, text: &Text) -> Result<Symbols> {
    let mut valid: Option<Reading<'_>> = None;
    for reading in readings(view, layout).into_iter().filter(|reading| makes_sense(reading, &names, text)) {
        match &valid {
            Some(other) if !other.addresses().eq(reading.addresses()) => {
                let reason = format!("kallsyms addresses make sense as {} and as {}", other.what, reading.what);
                return Err(view.error(layout.names, reason));
            }
            Some(_) => {}
            None => valid = Some(reading),
        }
    }
    let Some(reading) = valid else {
        let reason =
            format!("no ascending addresses with text symbols in code beside the {} kallsyms names", layout.count);
        return Err(view.error(layout.names, reason));
    };
    let Names { packed, mut entries } = names;
    for (entry, address) in entries.iter_mut().zip(reading.addresses()) {
        entry.address = address;
    }
    Ok(Symbols::packed(packed, entries))
}

/// Whether the addresses under this reading ascend, as the kernel's own binary search needs them to (`get_symbol_pos` in
/// kernel/kallsyms.c), one symbol or the first code is at their base, and seven in eight text symbols lie in code.
fn makes_sense(reading: &Reading<'_>, names: &Names, text: &Text) -> bool {
    let mut before = 0;
    let (mut all, mut outside) = (0_usize, 0_usize);
    let mut near = (1, 0);
    let mut based = reading.base.is_none_or(|base| text.begins(base));
    for (address, entry) in reading.addresses().zip(&names.entries) {
        if address < before {
            return false;
        }
        before = address;
        based |= reading.base == Some(address);
        if entry.kind.is_text() {
            if !(near.0..=near.1).contains(&address) {
                match text.around(address) {
                    Some(range) => near = range,
                    None => outside += 1,
                }
            }
            all += 1;
            if 8 * outside > names.entries.len() {
                return false;
            }
        }
    }
    based && all > 0 && 8 * outside <= all
}

/// All readings whose tables lie within the region.
fn readings<'a>(view: &'a View<'_>, layout: &Layout) -> Vec<Reading<'a>> {
    let (n, word) = (layout.count, view.word);
    let mask = if word == 4 { u64::from(u32::MAX) } else { u64::MAX };
    let mut readings = Vec::new();
    let mut add = |what, at: usize, size, base, how| {
        if let Some(table) = view.table(at, n, size) {
            readings.push(Reading { what, table, size, base, how, mask });
        }
    };
    // Before the count (up to 6.3): offsets and their base, or addresses. After the token index: offsets, then the base.
    let before = layout.count_at.checked_sub(word).and_then(|base| Some((base.checked_sub(view.padded(4 * n))?, base)));
    let after = Some((layout.end, layout.end + view.padded(4 * n)));
    for (offsets, base_at) in [before, after].into_iter().flatten() {
        if let Some(base) = view.number(base_at, word) {
            add("relative", offsets, 4, Some(base), How::Relative(base));
            add("relative with absolute per-CPU symbols", offsets, 4, Some(base), How::AbsolutePercpu(base));
        }
    }
    if let Some(addresses) = layout.count_at.checked_sub(n * word) {
        add("absolute", addresses, word, None, How::Address);
    }
    add("place-relative", layout.end, 4, None, How::PlaceRelative(view.address(layout.end)));
    if word == 4 {
        add("absolute after the token index", layout.end, 4, None, How::Address);
    }
    readings
}
