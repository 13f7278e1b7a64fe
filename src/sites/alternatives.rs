//! `.altinstructions`: code that replaces other code where the CPU has a feature.
//!
//! ```c
//! struct alt_instr {       /* 2.6.24 to 2.6.35: 12 bytes, on x86-64 24 */
//!         u8 *instr;  u8 *replacement;  u8 cpuid;  u8 instrlen;  u8 replacementlen;  u8 pad1;  /* x86-64: u32 pad2; */
//! };
//! struct alt_instr {       /* 2.6.36 to 3.2 (83a7a2ad2a91): 12 bytes, on x86-64 24 */
//!         u8 *instr;  u8 *replacement;  u16 cpuid;  u8 instrlen;  u8 replacementlen;  /* x86-64: u32 pad2; */
//! };
//! struct alt_instr {       /* 4.1 to 5.12 (4332195c5615): 13 bytes, packed */
//!         s32 instr_offset;  s32 repl_offset;  u16 cpuid;  u8 instrlen;  u8 replacementlen;  u8 padlen;
//! };
//! struct alt_instr {       /* 3.3 to 4.0 (59e97e4d6fbc), 5.13 to 6.2 and stable (23c1ad538f4f): 12 bytes;
//!                             since 5.13 bit 15 of cpuid inverts */
//!         s32 instr_offset;  s32 repl_offset;  u16 cpuid;  u8 instrlen;  u8 replacementlen;
//! };
//! struct alt_instr {       /* since 6.3 (5d1dd961e743): 14 bytes, packed; flags: 1 NOT, 2 DIRECT_CALL */
//!         s32 instr_offset;  s32 repl_offset;  u16 cpuid;  u16 flags;  u8 instrlen;  u8 replacementlen;
//! };
//! ```
//!
//! Sources: arch/x86/include/asm/alternative.h of 2.6.24, 2.6.33, 5.10, 6.1, 6.12. Offsets are relative to their own
//! field. `pad1` is 0, or from 2.6.33 on the assembler's check that a replacement fits, `0xff + rlen - slen`
//! (1b1d9258181b). Which layout a table has is found by holding every row to every layout. A replacement of no bytes has no
//! address: `static_cpu_has()` up to 5.12 writes 0 in its place.

use super::code::{Code, Record, relative};
use super::layouts;
use crate::error::{Error, Result};
use crate::image::{Bits, Image};

/// The section's name.
pub const SECTION: &str = ".altinstructions";

/// More feature and bug words than any kernel has (24 to 26 today): a higher number is a misread row.
const MAX_FEATURE: u16 = 64 * 32;
/// Likewise of the kernels whose rows hold pointers: 10 words up to 3.2.
const MAX_FEATURE_OF_2011: u16 = 12 * 32;

const FLAG_NOT: u16 = 1;
const FLAG_DIRECT_CALL: u16 = 2;
const INVERTED: u16 = 1 << 15;

/// What follows the two addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// u8 cpuid, u8 instrlen, u8 replacementlen, u8 pad1.
    Byte,
    /// u16 cpuid, u8 instrlen, u8 replacementlen.
    Word,
    /// u16 cpuid, u8 instrlen, u8 replacementlen; bit 15 inverts.
    Inverted,
    /// u16 cpuid, u8 instrlen, u8 replacementlen, u8 padlen.
    Padlen,
    /// u16 cpuid, u16 flags, u8 instrlen, u8 replacementlen.
    Flags,
}

/// A record layout.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// What a summary shows: `14-byte rows, flags`.
    pub name: &'static str,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Bytes of a row that mean something; the last row may end there.
    pub used: usize,
    /// The pointer size, where rows hold pointers.
    pointers: Option<Bits>,
    tail: Tail,
}

impl Layout {
    /// The layout of 2.6.24 to 2.6.33.
    pub fn of_2007(bits: Bits) -> &'static Layout {
        match bits {
            Bits::B32 => &LAYOUTS[0],
            Bits::B64 => &LAYOUTS[1],
        }
    }
}

static LAYOUTS: [Layout; 7] = [
    Layout { name: "12-byte rows, pointers", stride: 12, used: 11, pointers: Some(Bits::B32), tail: Tail::Byte },
    Layout { name: "24-byte rows, pointers", stride: 24, used: 19, pointers: Some(Bits::B64), tail: Tail::Byte },
    Layout {
        name: "12-byte rows, pointers, 16-bit features",
        stride: 12,
        used: 12,
        pointers: Some(Bits::B32),
        tail: Tail::Word,
    },
    Layout {
        name: "24-byte rows, pointers, 16-bit features",
        stride: 24,
        used: 20,
        pointers: Some(Bits::B64),
        tail: Tail::Word,
    },
    Layout { name: "12-byte rows", stride: 12, used: 12, pointers: None, tail: Tail::Inverted },
    Layout { name: "13-byte rows, padlen", stride: 13, used: 13, pointers: None, tail: Tail::Padlen },
    Layout { name: "14-byte rows, flags", stride: 14, used: 14, pointers: None, tail: Tail::Flags },
];

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alternative {
    /// Address of the site, as linked.
    pub address: u64,
    /// Address of the replacement.
    pub replacement: u64,
    /// Number of the feature, or bug.
    pub feature: u16,
    /// Taken where the CPU has the feature not.
    pub inverted: bool,
    /// The replacement is a direct call of what the site's indirect call would call (since 6.8).
    pub direct_call: bool,
    /// Length of the site.
    pub len: u8,
    /// Length of the replacement.
    pub replacement_len: u8,
    /// How many of the site's last bytes the assembler added for a longer replacement; 0 where rows do not say.
    pub pad: u8,
}

/// The table of alternatives of an image.
#[derive(Debug)]
pub struct AlternativeTable {
    /// The layout every row was valid under.
    pub layout: &'static Layout,
    /// One entry per row, in table order.
    pub rows: Vec<Alternative>,
}

impl AlternativeTable {
    /// Reads the table; `None` where the image has none.
    ///
    /// Fails where no layout, or more than one, makes sense of every row.
    pub fn read(image: &Image) -> Result<Option<AlternativeTable>> {
        Self::read_in(&Code::of(image))
    }

    pub(crate) fn read_in(code: &Code<'_>) -> Result<Option<AlternativeTable>> {
        let image = code.image();
        let Some(section) = image.section(SECTION) else { return Ok(None) };
        let bytes = image.section_bytes(section);
        let layouts = LAYOUTS.iter().filter(|l| l.pointers.is_none_or(|bits| bits == image.bits()));
        let (layout, rows) = layouts::only(
            layouts,
            |layout| layout.name.to_owned(),
            |layout| rows(code, layout, section.address, bytes),
        )
        .map_err(|e: Error| e.in_section(SECTION).in_file(image.name()))?;
        Ok(Some(AlternativeTable { layout, rows }))
    }
}

fn rows(code: &Code<'_>, layout: &Layout, address: u64, bytes: &[u8]) -> Result<Vec<Alternative>> {
    let tail = bytes.len() % layout.stride;
    if tail != 0 && tail < layout.used {
        return Err(Error::table(format!("{} bytes are no whole number of {}", bytes.len(), layout.name)));
    }
    let mut rows = Vec::with_capacity(bytes.len() / layout.stride + 1);
    for (row, record) in bytes.chunks(layout.stride).enumerate() {
        let place = address + (row * layout.stride) as u64;
        rows.push(parse(code, layout, place, record).map_err(|e| e.at_row(row))?);
    }
    Ok(rows)
}

fn parse(code: &Code<'_>, layout: &Layout, place: u64, bytes: &[u8]) -> Result<Alternative> {
    let record = Record(bytes);
    let (address, replacement, at) = match layout.pointers {
        Some(bits) => (record.pointer(0, bits.word()), record.pointer(bits.word(), bits.word()), 2 * bits.word()),
        None => {
            let word = code.image().bits().word();
            let field = |at: usize| relative(place + at as u64, record.s32(at).into(), word);
            (field(0), field(4), 8)
        }
    };
    let refuse = |reason: String| Err(Error::table(reason).at_address(address));
    let behind = &bytes[layout.used..];
    let checked = layout.tail == Tail::Byte
        && behind.first() == Some(&record.u8(at + 2).wrapping_sub(record.u8(at + 1)).wrapping_add(0xff));
    if behind.iter().skip(usize::from(checked)).any(|&b| b != 0) {
        return refuse("bytes behind the row's last member are not zero".to_owned());
    }
    let (cpuid, flags, lens) = match layout.tail {
        Tail::Byte => (record.u8(at).into(), 0, at + 1),
        Tail::Flags => (record.u16(at), record.u16(at + 2), at + 4),
        Tail::Inverted | Tail::Padlen | Tail::Word => (record.u16(at), 0, at + 2),
    };
    if flags & !(FLAG_NOT | FLAG_DIRECT_CALL) != 0 {
        return refuse(format!("flags {flags:#x} are not known"));
    }
    let inverts = layout.tail == Tail::Inverted && cpuid & INVERTED != 0;
    let feature = if inverts { cpuid & !INVERTED } else { cpuid };
    let beyond = if layout.tail == Tail::Word { MAX_FEATURE_OF_2011 } else { MAX_FEATURE };
    if feature >= beyond {
        return refuse(format!("feature {feature:#x} is beyond any kernel's"));
    }
    let (len, replacement_len) = (record.u8(lens), record.u8(lens + 1));
    let pad = if layout.tail == Tail::Padlen { record.u8(lens + 2) } else { 0 };
    if pad > len {
        return refuse(format!("{pad} bytes of padding in a site of {len}"));
    }
    code.holds(address, len.into())?;
    let there = code.from(replacement).is_some_and(|rest| rest.len() >= replacement_len.into());
    if !there && replacement_len != 0 {
        return refuse(format!("its replacement of {replacement_len} bytes at {replacement:#x} is no code"));
    }
    Ok(Alternative {
        address,
        replacement,
        feature,
        inverted: inverts || flags & FLAG_NOT != 0,
        direct_call: flags & FLAG_DIRECT_CALL != 0,
        len,
        replacement_len,
        pad,
    })
}
