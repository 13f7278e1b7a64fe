//! `__jump_table`: branches that are a nop or a jump, by a static key.
//!
//! ```c
//! struct jump_entry {     /* include/linux/jump_label.h, since 4.19; 16 bytes, on i386 12 */
//!         s32 code;       /* all three relative to their own field */
//!         s32 target;
//!         long key;       /* bit 0: the branch is taken where the key is off; bit 1: in init code (set at boot) */
//! };
//! ```
//!
//! The section is merged into `.rodata`, between `__start___jump_table` and `__stop___jump_table`; where kallsyms lists no
//! data, it is found by what is in it.

use super::code::{Code, Record, relative};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::insn::{JMP, JMP_SHORT};

const TABLE: &str = "__jump_table";
const FLAGS: u64 = 3;
const BRANCH: u64 = 1;

/// A run shorter than this is no table.
const LEAST_RUN: usize = 16;

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

/// The rows in table order; empty where the kernel has no such table.
pub(crate) fn read(code: &Code<'_>) -> Result<Vec<JumpLabel>> {
    let image = code.image();
    let symbols = image.symbols()?;
    let named = |name: &str| symbols.and_then(|s| s.address_of(name));
    let placed = |e: Error| e.in_section(TABLE).in_file(image.name());
    let (Some(start), Some(stop)) = (named("__start___jump_table"), named("__stop___jump_table")) else {
        return Ok(find(code));
    };
    let len = stop.checked_sub(start).and_then(|len| usize::try_from(len).ok());
    let Some(bytes) = len.and_then(|len| image.read(start, len)) else {
        return Err(placed(
            Error::table(format!("its end {stop:#x} and start are in no one section")).at_address(start),
        ));
    };
    let stride = 8 + image.bits().word();
    if !bytes.len().is_multiple_of(stride) {
        return Err(placed(Error::table(format!("{} bytes are no whole number of rows of {stride}", bytes.len()))));
    }
    let row = |(row, record)| {
        let place = start + (row * stride) as u64;
        parse(code, place, record).ok_or_else(|| {
            let site = relative(place, Record(record).s32(0).into(), image.bits().word());
            placed(Error::table("no nop or jump that fits the row").at_row(row).at_address(site))
        })
    };
    bytes.chunks_exact(stride).enumerate().map(row).collect()
}

/// One row; `None` where it makes no sense.
fn parse(code: &Code<'_>, place: u64, bytes: &[u8]) -> Option<JumpLabel> {
    let word = code.image().bits().word();
    let record = Record(bytes);
    let address = relative(place, record.s32(0).into(), word);
    let here = code.from(address)?;
    let target = relative(place + 4, record.s32(4).into(), word);
    let len = instruction(here, address, target)?;
    if !code.reaches(target) {
        return None;
    }
    let raw = record.pointer(8, word);
    let offset = if word == 4 { i64::from(raw as i32) } else { raw as i64 };
    let key = relative(place + 8, offset & !(FLAGS as i64), word);
    is_data(code.image(), key).then_some(JumpLabel { address, target, key, branch: raw & BRANCH != 0, len })
}

/// The length of the nop or jump, as built.
fn instruction(code: &[u8], address: u64, target: u64) -> Option<u8> {
    let distance = |len: u64| target.wrapping_sub(address.wrapping_add(len)) as u32;
    match code {
        [0x66, 0x90, ..] | [0x89, 0xf6, ..] => Some(2),
        [0x0f, 0x1f, 0x44, 0, 0, ..] | [0x3e, 0x8d, 0x74, 0x26, 0, ..] => Some(5),
        [JMP_SHORT, to, ..] if distance(2) as u8 == *to => Some(2),
        [JMP, a, b, c, d, ..] if distance(5) == u32::from_le_bytes([*a, *b, *c, *d]) => Some(5),
        _ => None,
    }
}

fn is_data(image: &Image, address: u64) -> bool {
    image.section_at(address).is_some_and(|section| section.name != ".text")
}

/// The longest run of rows that make sense, over all data.
fn find(code: &Code<'_>) -> Vec<JumpLabel> {
    let image = code.image();
    let stride = 8 + image.bits().word();
    let mut longest = Vec::new();
    for section in image.sections().iter().filter(|s| s.allocated && !s.executable) {
        let bytes = image.section_bytes(section);
        let mut at = 0;
        while at + stride <= bytes.len() {
            let mut run = Vec::new();
            while let Some(record) = bytes.get(at..at + stride)
                && let Some(row) = parse(code, section.address + at as u64, record)
            {
                run.push(row);
                at += stride;
            }
            if run.len() > longest.len() {
                longest = run;
            }
            at += 4;
        }
    }
    if longest.len() < LEAST_RUN { Vec::new() } else { longest }
}
