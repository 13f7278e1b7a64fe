//! `__jump_table`: branches that are a nop or a jump, by a static key.
//!
//! ```c
//! struct jump_entry {     /* include/linux/jump_label.h, relative since 4.20 (9ae033aca8d6); 16 bytes, on i386 12 */
//!         s32 code;       /* all three relative to their own field */
//!         s32 target;
//!         long key;       /* bit 0: the branch is taken where the key is off; bit 1: in init code (set at boot) */
//! };
//! struct jump_entry {     /* 2.6.37 to 4.19: 24 bytes, on i386 12; bit 0 since 4.3 (11276d5306b8) */
//!         jump_label_t code, target, key;
//! };
//! ```
//!
//! Before 4.3 the key says whether its branches are taken where it is off: bit 0 of what follows the count, as built
//! (`JUMP_LABEL_TRUE_BRANCH`, include/linux/jump_label.h of 3.3). The table is merged into another section, between
//! `__start___jump_table` and `__stop___jump_table`; where kallsyms lists no data, it is found by what is in it.

use super::bounded;
use super::code::{Code, Record, relative};
use super::layouts;
use super::sorted::{Fields, SortedTable};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::insn::{JMP, JMP_SHORT};

const TABLE: &str = "__jump_table";
const FLAGS: u64 = 3;
const BRANCH: u64 = 1;

/// A run shorter than this is no table.
const LEAST_RUN: usize = 16;
/// The same of rows whose sites all jump to what follows, as no compiler has code do.
const LEAST_INITIAL_RUN: usize = 4;
/// `JUMP_LABEL_INITIAL_NOP` of 2.6.37 (arch/x86/include/asm/jump_label.h), which a 3.4.4 still has.
const INITIAL: [u8; 5] = [JMP, 0, 0, 0, 0];

/// How rows name addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// By the distance from the field.
    Relative,
    /// By the address.
    Absolute,
}

impl Layout {
    const ALL: [Layout; 2] = [Layout::Relative, Layout::Absolute];

    fn stride(self, word: usize) -> usize {
        match self {
            Layout::Relative => 8 + word,
            Layout::Absolute => 3 * word,
        }
    }

    fn name(self) -> String {
        match self {
            Layout::Relative => "relative rows".to_owned(),
            Layout::Absolute => "rows of pointers".to_owned(),
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JumpLabel {
    /// Address of the nop or jump.
    pub address: u64,
    /// Where the jump goes.
    pub target: u64,
    /// Address of the static key.
    pub key: u64,
    /// It jumps where the key is off.
    pub branch: bool,
    /// Length of the instruction: 2 or 5.
    pub len: u8,
}

/// The table: where it begins, how its rows name addresses, and the rows in its order.
struct Found {
    start: u64,
    layout: Layout,
    labels: Vec<JumpLabel>,
}

/// The rows in table order; empty where the kernel has no such table.
pub(crate) fn read(code: &Code<'_>) -> Result<Vec<JumpLabel>> {
    Ok(table(code)?.map_or_else(Vec::new, |found| found.labels))
}

/// Where the table begins, how long it is and how long a row; what reads one; what a pointer in it is moved by.
pub(crate) fn sorted(code: &Code<'_>) -> Result<Option<SortedTable>> {
    let word = code.image().bits().word();
    Ok(table(code)?.map(|Found { start, layout, labels }| {
        let stride = layout.stride(word);
        let fields: Fields = match layout {
            Layout::Relative => |place, row, word, _| label(Layout::Relative, place, row, word, 0),
            Layout::Absolute => |place, row, word, slide| label(Layout::Absolute, place, row, word, slide),
        };
        SortedTable { name: TABLE, start, size: stride * labels.len(), stride, fields }
    }))
}

/// Site, target, and the key with its flags, as linked.
fn label(layout: Layout, place: u64, row: &[u8], word: usize, slide: u64) -> [u64; 3] {
    let (site, target, key) = fields(layout, word, place, row);
    let linked = |address: u64| if address == 0 { 0 } else { relative(address, (slide as i64).wrapping_neg(), word) };
    [linked(site), linked(target), linked(key)]
}

fn table(code: &Code<'_>) -> Result<Option<Found>> {
    let word = code.image().bits().word();
    let Some(table) = bounded::find(code, TABLE, "__jump_table")? else { return Ok(find(code)) };
    let rows = |layout: &Layout| {
        let stride = layout.stride(word);
        bounded::whole(code, TABLE, table.bytes, stride)?;
        let row = |(row, (place, record))| {
            parse(code, *layout, place, record).ok_or_else(|| {
                let site = fields(*layout, word, place, record).0;
                Error::table("no nop or jump that fits the row").at_row(row).at_address(site)
            })
        };
        table.rows(stride).enumerate().map(row).collect::<Result<Vec<_>>>()
    };
    let (layout, mut labels): (_, Vec<JumpLabel>) = layouts::only(Layout::ALL, |layout| layout.name(), rows)
        .map_err(|e| e.in_section(TABLE).in_file(code.image().name()))?;
    by_key(code, layout, &mut labels);
    Ok(Some(Found { start: table.start, layout, labels }))
}

/// Where no row says when its branch is taken, the keys do.
fn by_key(code: &Code<'_>, layout: Layout, labels: &mut [JumpLabel]) {
    if layout == Layout::Relative || labels.iter().any(|label| label.branch) {
        return;
    }
    let word = code.image().bits().word() as u64;
    for label in labels {
        label.branch = code.image().read_word(label.key + word).is_some_and(|word| word & BRANCH != 0);
    }
}

/// Site, target, and the key with its flags.
fn fields(layout: Layout, word: usize, place: u64, bytes: &[u8]) -> (u64, u64, u64) {
    let record = Record(bytes);
    match layout {
        Layout::Absolute => (record.pointer(0, word), record.pointer(word, word), record.pointer(2 * word, word)),
        Layout::Relative => {
            let raw = record.pointer(8, word);
            let offset = if word == 4 { i64::from(raw as i32) } else { raw as i64 };
            let key = relative(place + 8, offset & !(FLAGS as i64), word) | raw & FLAGS;
            (relative(place, record.s32(0).into(), word), relative(place + 4, record.s32(4).into(), word), key)
        }
    }
}

/// One row; `None` where it makes no sense.
fn parse(code: &Code<'_>, layout: Layout, place: u64, bytes: &[u8]) -> Option<JumpLabel> {
    let (address, target, flagged) = fields(layout, code.image().bits().word(), place, bytes);
    let here = code.from(address)?;
    let len = instruction(here, address, target)?;
    if !code.reaches(target) {
        return None;
    }
    let key = flagged & !FLAGS;
    is_data(code.image(), key).then_some(JumpLabel { address, target, key, branch: flagged & BRANCH != 0, len })
}

/// The length of the nop or jump, as built.
fn instruction(code: &[u8], address: u64, target: u64) -> Option<u8> {
    let distance = |len: u64| target.wrapping_sub(address.wrapping_add(len)) as u32;
    match code {
        [0x66, 0x90, ..] | [0x89, 0xf6, ..] => Some(2),
        [0x0f, 0x1f, 0x44, 0, 0, ..] | [0x3e, 0x8d, 0x74, 0x26, 0, ..] | [0x66, 0x66, 0x66, 0x66, 0x90, ..] => Some(5),
        _ if code.starts_with(&INITIAL) => Some(5),
        [JMP_SHORT, to, ..] if distance(2) as u8 == *to => Some(2),
        [JMP, a, b, c, d, ..] if distance(5) == u32::from_le_bytes([*a, *b, *c, *d]) => Some(5),
        _ => None,
    }
}

fn is_data(image: &Image, address: u64) -> bool {
    image.section_at(address).is_some_and(|section| section.name != ".text")
}

/// The longest run of rows that make sense, over all data.
fn find(code: &Code<'_>) -> Option<Found> {
    let word = code.image().bits().word();
    let mut longest: Option<Found> = None;
    for layout in Layout::ALL {
        let row = |place, record: &[u8], _: &[JumpLabel]| parse(code, layout, place, record);
        let initial = |label: &JumpLabel| code.from(label.address).is_some_and(|site| site.starts_with(&INITIAL));
        let is_table = |labels: &[JumpLabel]| {
            labels.len() >= LEAST_RUN || labels.len() >= LEAST_INITIAL_RUN && labels.iter().all(initial)
        };
        let found = bounded::longest_run(code, layout.stride(word), row, is_table);
        let before = longest.as_ref().map_or(0, |found| found.labels.len());
        if let Some((start, mut labels)) = found.filter(|(_, labels)| labels.len() > before) {
            by_key(code, layout, &mut labels);
            longest = Some(Found { start, layout, labels });
        }
    }
    longest
}
