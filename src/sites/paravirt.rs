//! `.parainstructions`: one row for each paravirt call site.
//!
//! ```c
//! struct paravirt_patch_site {    /* 2.6.24 to 6.1 */     /* 6.2 to 6.7 (5736b1b70170) */
//!         u8 *instr;              /* the call */          u8 *instr;
//!         u8 type;                /* its op's number */   u8 type;
//!         u8 len;                 /* of the site */       u8 len;
//!         u16 clobbers;           /* what it lets go */
//! };
//! ```
//!
//! Rows are laid down by assembler macros, object by object, aligned to a pointer: 8 bytes apart on i386, 16 on x86-64,
//! where the last row is cut short behind its last member. Debian's 6.1 still lays down the clobbers that its struct no
//! longer has. Which layout a table has is found by holding every row to every layout; the kernel's version is not
//! asked, as distributions backport.

use super::layouts;
use crate::error::{Error, Result};
use crate::image::{Bits, Image, Section};
use crate::insn::{self, MemoryBranch};

/// The section's name.
pub const SECTION: &str = ".parainstructions";

const SWAPGS: [u8; 3] = [0x0f, 0x01, 0xf8];

/// A record layout.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// Pointer size.
    pub bits: Bits,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Bytes of a row that mean something; the last row may end there.
    pub used: usize,
    /// Rows have a clobbers word.
    pub clobbers: bool,
}

impl Layout {
    /// As the summary of `pvops sites` shows it: `16-byte rows, clobbers`.
    pub fn describe(&self) -> String {
        format!("{}-byte rows, {}", self.stride, if self.clobbers { "clobbers" } else { "no clobbers" })
    }

    /// The layout of 2.6.24 to 2.6.33.
    pub fn of_2007(bits: Bits) -> &'static Layout {
        match bits {
            Bits::B32 => &LAYOUTS[0],
            Bits::B64 => &LAYOUTS[2],
        }
    }

    /// How many rows a table of this size has; `None` where the size does not fit.
    fn rows(&self, size: usize) -> Option<usize> {
        match size % self.stride {
            0 => Some(size / self.stride),
            tail if tail == self.used => Some(size / self.stride + 1),
            _ => None,
        }
    }
}

static LAYOUTS: [Layout; 5] = [
    Layout { bits: Bits::B32, stride: 8, used: 8, clobbers: true },
    Layout { bits: Bits::B32, stride: 8, used: 6, clobbers: false },
    Layout { bits: Bits::B64, stride: 16, used: 12, clobbers: true },
    Layout { bits: Bits::B64, stride: 16, used: 10, clobbers: false },
    Layout { bits: Bits::B64, stride: 12, used: 12, clobbers: true },
];

/// One row of the table, with the site it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Address of the site, as linked.
    pub address: u64,
    /// Where its bytes lie in the unpacked image.
    pub offset: u64,
    /// Index of the section it lies in, among [`Image::sections`].
    pub section: u16,
    /// Number of its op in `paravirt_patch_template`.
    pub op_type: u8,
    /// Its length in bytes.
    pub len: u8,
    /// Registers the site lets go; `None` where rows do not say.
    pub clobbers: Option<u16>,
    /// The indirect call or jump through the op's slot; `None` where the site has none.
    pub branch: Option<MemoryBranch>,
    /// The site is built as the native instruction: the bare `swapgs` of `SWAPGS_UNSAFE_STACK` (2.6.30 to 5.11).
    pub bare: bool,
}

/// The table of paravirt sites of an image.
#[derive(Debug)]
pub struct ParavirtTable {
    /// The layout every row was valid under.
    pub layout: &'static Layout,
    /// One entry per row, in table order.
    pub sites: Vec<Site>,
}

impl ParavirtTable {
    /// Reads the table; `None` where the image has none (no `CONFIG_PARAVIRT`, or 6.8 and later).
    ///
    /// Fails where no layout, or more than one, makes sense of every row, and where two sites overlap.
    pub fn read(image: &Image) -> Result<Option<ParavirtTable>> {
        // The linker script names its bounds, so a kernel without CONFIG_PARAVIRT may have the section, and nothing in it.
        let Some(section) = image.section(SECTION).filter(|section| section.size > 0) else { return Ok(None) };
        let placed = |e: Error| e.in_section(SECTION).in_file(image.name());
        let table = Self::parse(image, section).map_err(placed)?;
        no_overlap(&table.sites).map_err(placed)?;
        Ok(Some(table))
    }

    fn parse(image: &Image, section: &Section) -> Result<ParavirtTable> {
        let bytes = image.section_bytes(section);
        let reader = Reader::new(image);
        let layouts = LAYOUTS.iter().filter(|l| l.bits == image.bits());
        // One row of 12 bytes reads the same packed or padded.
        let (layout, sites) = layouts::only(layouts, |layout| layout.describe(), |layout| reader.rows(layout, bytes))?;
        Ok(ParavirtTable { layout, sites })
    }

    /// The address of `pv_ops`: `pointer − word · type`, which is one constant over all rows.
    ///
    /// Rows whose site is the native instruction itself say nothing. Fails where the others disagree, and says which.
    pub fn ops_address(&self, bits: Bits) -> Result<u64> {
        let base =
            |site: &Site| site.branch.map(|b| b.pointer.wrapping_sub(bits.word() as u64 * u64::from(site.op_type)));
        let Some(majority) = majority(self.sites.iter().filter_map(base)) else {
            return Err(Error::table("no row's site calls or jumps through memory: is the image already patched?")
                .in_section(SECTION));
        };
        let mut strays = self.sites.iter().enumerate().filter(|(_, site)| !site.bare && base(site) != Some(majority));
        let Some((row, site)) = strays.next() else { return Ok(majority) };
        let says = match base(site) {
            Some(other) => format!("{other:#x}"),
            None => "nothing (no call or jump through memory)".to_owned(),
        };
        let more: Vec<String> = strays.by_ref().take(8).map(|(row, _)| row.to_string()).collect();
        let rest = strays.count();
        let others = match (more.is_empty(), rest) {
            (true, _) => String::new(),
            (false, 0) => format!("; so do rows {}", more.join(", ")),
            (false, n) => format!("; so do rows {} and {n} more", more.join(", ")),
        };
        Err(Error::table(format!(
            "the ops would lie at {majority:#x} by most rows, but this one (type {}) says {says}{others}",
            site.op_type
        ))
        .in_section(SECTION)
        .at_row(row)
        .at_address(site.address))
    }
}

/// Boyer–Moore vote; with no true majority the winner is arbitrary, and the caller reports who disagrees.
fn majority(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut leader = None;
    let mut lead = 0usize;
    for value in values {
        if lead == 0 {
            leader = Some(value);
        }
        if leader == Some(value) {
            lead += 1;
        } else {
            lead -= 1;
        }
    }
    leader
}

fn no_overlap(sites: &[Site]) -> Result<()> {
    let mut order: Vec<(u64, u32)> = sites.iter().zip(0..).map(|(s, row)| (s.address, row)).collect();
    order.sort_unstable();
    for pair in order.windows(2) {
        let (first, second) = (pair[0].1 as usize, pair[1].1 as usize);
        if pair[1].0 - pair[0].0 < u64::from(sites[first].len) {
            return Err(Error::table(format!("the site overlaps that of row {first}, {:#x}", pair[0].0))
                .at_row(second)
                .at_address(pair[1].0));
        }
    }
    Ok(())
}

/// A section that sites may lie in.
struct SiteSection<'a> {
    index: u16,
    start: u64,
    offset: u64,
    bytes: &'a [u8],
}

struct Reader<'a> {
    bits: Bits,
    code: Vec<SiteSection<'a>>,
}

impl<'a> Reader<'a> {
    fn new(image: &'a Image) -> Reader<'a> {
        let code =
            image.sections().iter().zip(0..).filter(|(s, _)| s.executable && s.allocated).map(|(s, index)| {
                SiteSection { index, start: s.address, offset: s.offset, bytes: image.section_bytes(s) }
            });
        Reader { bits: image.bits(), code: code.collect() }
    }

    fn rows(&self, layout: &Layout, bytes: &[u8]) -> Result<Vec<Site>> {
        let count = layout.rows(bytes.len()).ok_or_else(|| {
            Error::table(format!("{} bytes are no whole number of {}", bytes.len(), layout.describe()))
        })?;
        let mut sites = Vec::with_capacity(count);
        for (row, record) in bytes.chunks(layout.stride).enumerate() {
            let placed = |e: Error| e.at_row(row);
            let site = self.row(layout, record).map_err(placed)?;
            sites.push(site);
        }
        // Without this, rows of a layout without clobbers would be valid under the one with them, too.
        let tail_says = bytes.len() % layout.stride == layout.used;
        if layout.clobbers && !tail_says && !sites.is_empty() && sites.iter().all(|s| s.clobbers == Some(0)) {
            return Err(Error::table("no row has a clobbers word"));
        }
        Ok(sites)
    }

    fn row(&self, layout: &Layout, record: &[u8]) -> Result<Site> {
        let word = layout.bits.word();
        if record.len() < layout.used {
            return Err(Error::table(format!("a row of {} bytes is cut short", record.len())));
        }
        if record[layout.used..].iter().any(|&b| b != 0) {
            return Err(Error::table("bytes behind the row's last member are not zero"));
        }
        let mut pointer = [0; 8];
        pointer[..word].copy_from_slice(&record[..word]);
        let address = u64::from_le_bytes(pointer);
        let (op_type, len) = (record[word], record[word + 1]);
        let clobbers = layout.clobbers.then(|| u16::from_le_bytes([record[word + 2], record[word + 3]]));

        let placed = |e: Error| e.at_address(address);
        if len == 0 {
            return Err(placed(Error::table("a site of no bytes")));
        }
        let home = self.code.iter().find(|c| address >= c.start && address - c.start < c.bytes.len() as u64);
        let Some(home) = home else {
            return Err(placed(Error::table("the site lies in no executable section")));
        };
        let within = (address - home.start) as usize;
        let Some(code) = home.bytes.get(within..within + usize::from(len)) else {
            return Err(placed(Error::table(format!("a site of {len} bytes leaves its section"))));
        };
        let branch = insn::memory_branch(self.bits, address, code);
        let bare = code == SWAPGS;
        let offset = home.offset + within as u64;
        Ok(Site { address, offset, section: home.index, op_type, len, clobbers, branch, bare })
    }
}
