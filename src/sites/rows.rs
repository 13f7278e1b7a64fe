//! Any table's rows in one shape, whatever the table.

use super::Alternative;
use super::tables::Tables;
use crate::error::{Error, Result};
use crate::image::Image;

/// The tables by the names that listings have for them, in the order in which they are listed.
pub const TABLES: [&str; 13] = [
    "paravirt",
    "alternatives",
    "retpolines",
    "returns",
    "smp_locks",
    "static_calls",
    "trampolines",
    "jump_labels",
    "ibt",
    "cfi",
    "mcount",
    "call_sites",
    "runtime_const",
];

/// One row of any table. What the table does not have is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Row {
    /// Its place in the table, from 0.
    pub index: u32,
    /// Address of the site, as linked.
    pub address: u64,
    /// Length of the site in bytes.
    pub len: u16,
    /// The op's number in `paravirt_patch_template`.
    pub op_type: Option<u32>,
    /// Registers the site lets go.
    pub clobbers: Option<u16>,
    /// Number of the feature an alternative asks for.
    pub feature: Option<u16>,
    /// It asks for the feature's absence; of a jump label: it jumps where the key is off.
    pub inverted: Option<bool>,
    /// The replacement is a direct call of what the site's indirect call would call.
    pub direct_call: Option<bool>,
    /// Address of the static key or of the static call's key.
    pub key: Option<u64>,
    /// Address of the replacement, or where a jump label jumps to.
    pub target: Option<u64>,
    /// Which run-time constant, among [`Tables::constants`].
    pub constant: Option<u8>,
}

impl Row {
    fn plain(index: u32, address: u64, len: u16) -> Row {
        Row { index, address, len, ..Row::default() }
    }

    /// Whether the site touches the addresses from `low` up to but not including `high`.
    pub fn touches(&self, low: u64, high: u64) -> bool {
        self.address < high && self.address.saturating_add(self.len.max(1).into()) > low
    }
}

/// A list of rows that are alike: those of a table, or of one run-time constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    table: Table,
    /// Which run-time constant, among [`Tables::constants`].
    constant: u8,
}

/// A table, by its place among [`TABLES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Paravirt,
    Alternatives,
    Retpolines,
    Returns,
    SmpLocks,
    StaticCalls,
    Trampolines,
    JumpLabels,
    Ibt,
    Cfi,
    Mcount,
    CallSites,
    RuntimeConst,
}

const KINDS: [Table; TABLES.len()] = [
    Table::Paravirt,
    Table::Alternatives,
    Table::Retpolines,
    Table::Returns,
    Table::SmpLocks,
    Table::StaticCalls,
    Table::Trampolines,
    Table::JumpLabels,
    Table::Ibt,
    Table::Cfi,
    Table::Mcount,
    Table::CallSites,
    Table::RuntimeConst,
];

impl Part {
    /// The place of its table among [`TABLES`].
    pub(super) fn table(self) -> u8 {
        self.table as u8
    }

    /// Whether it is `.parainstructions`.
    pub(super) fn is_paravirt(self) -> bool {
        self.table == Table::Paravirt
    }

    /// Whether its sites may call ops.
    pub(super) fn may_call_op(self) -> bool {
        matches!(self.table, Table::Paravirt | Table::Alternatives)
    }
}

impl Tables {
    /// The rows of a table, in the table's order; run-time constants one constant after the other.
    ///
    /// Fails where there is no table of that name.
    pub fn rows(&self, image: &Image, table: &str) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for part in self.parts(table)? {
            rows.reserve(self.len_of(part));
            rows.extend((0..self.len_of(part)).filter_map(|index| self.row(image, part, index)));
        }
        Ok(rows)
    }

    /// The parts of a table of this name.
    pub(super) fn parts(&self, name: &str) -> Result<Vec<Part>> {
        let known = TABLES.iter().position(|known| *known == name);
        let table = KINDS[known.ok_or_else(|| Error::ops(format!("no table {name:?}")))?];
        let parts = if table == Table::RuntimeConst { self.constants.len() } else { 1 };
        // Which constant is a byte where rows are listed: what is beyond it cannot be.
        u8::try_from(parts)
            .map_err(|_| Error::table(format!("{parts} run-time constants: more than any kernel has")))?;
        Ok((0..parts).map(|constant| Part { table, constant: constant as u8 }).collect())
    }

    /// How many rows a part has; some may name no site.
    pub(super) fn len_of(&self, part: Part) -> usize {
        match part.table {
            Table::Paravirt => self.paravirt.as_ref().map_or(0, |table| table.sites.len()),
            Table::Alternatives => self.alternatives.as_ref().map_or(0, |table| table.rows.len()),
            Table::StaticCalls => self.static_calls.len(),
            Table::Trampolines => self.trampolines.len(),
            Table::JumpLabels => self.jump_labels.len(),
            Table::Mcount => self.mcount.len(),
            _ => self.addresses(part).len(),
        }
    }

    /// The addresses of a table that lists nothing else; 0 where a row names no site.
    fn addresses(&self, part: Part) -> &[u64] {
        match part.table {
            Table::Retpolines => &self.retpolines.sites,
            Table::Returns => &self.returns.sites,
            Table::SmpLocks => &self.smp_locks.sites,
            Table::Ibt => &self.ibt.sites,
            Table::Cfi => &self.cfi.sites,
            Table::CallSites => &self.call_sites.sites,
            Table::RuntimeConst => self.constants.get(usize::from(part.constant)).map_or(&[], |c| &c.table.sites),
            _ => &[],
        }
    }

    /// Appends the addresses of a part's rows; 0 where a row names no site.
    pub(super) fn push_addresses(&self, part: Part, out: &mut Vec<u64>) {
        match part.table {
            Table::Paravirt => out.extend(self.paravirt.iter().flat_map(|table| &table.sites).map(|site| site.address)),
            Table::Alternatives => {
                out.extend(self.alternatives.iter().flat_map(|table| &table.rows).map(|row| row.address))
            }
            Table::StaticCalls => out.extend(self.static_calls.iter().map(|call| call.address)),
            Table::Trampolines => out.extend(self.trampolines.iter().map(|call| call.address)),
            Table::JumpLabels => out.extend(self.jump_labels.iter().map(|label| label.address)),
            Table::Mcount => out.extend(&self.mcount),
            _ => out.extend(self.addresses(part)),
        }
    }

    /// How many sites some tables have: places that one or more of their rows name.
    ///
    /// Fails where there is no table of a name.
    pub fn count_sites(&self, names: &[&str]) -> Result<usize> {
        let mut listed = Vec::new();
        for name in names {
            for part in self.parts(name)? {
                self.push_addresses(part, &mut listed);
            }
        }
        listed.sort_unstable();
        listed.dedup();
        // Rows that name no site have address 0.
        Ok(listed.len() - usize::from(listed.first() == Some(&0)))
    }

    /// One row; `None` where there is no such row, or it names no site.
    pub(super) fn row(&self, image: &Image, part: Part, index: usize) -> Option<Row> {
        let number = index as u32;
        // Direct branches: five bytes, six with a condition or a prefix.
        let branch = |address: u64| match image.read(address, 1) {
            Some([0x0f | 0x2e]) => 6,
            _ => 5,
        };
        let listed = |len: &dyn Fn(u64) -> u16| {
            let address = self.addresses(part).get(index).copied().filter(|&address| address != 0)?;
            Some(Row::plain(number, address, len(address)))
        };
        match part.table {
            Table::Paravirt => self.paravirt.as_ref()?.sites.get(index).map(|site| Row {
                op_type: Some(site.op_type.into()),
                clobbers: site.clobbers,
                ..Row::plain(number, site.address, site.len.into())
            }),
            Table::Alternatives => self.alternatives.as_ref()?.rows.get(index).map(|row| alternative(number, row)),
            Table::Retpolines | Table::Returns => listed(&branch),
            Table::CallSites => listed(&|_| 5),
            Table::Ibt => listed(&|_| 4),
            Table::Cfi => listed(&|_| self.preambles.built as u16),
            Table::SmpLocks => listed(&|_| 1),
            Table::Mcount => self.mcount.get(index).map(|&address| Row::plain(number, address, 5)),
            Table::JumpLabels => self.jump_labels.get(index).map(|label| Row {
                inverted: Some(label.branch),
                key: Some(label.key),
                target: Some(label.target),
                ..Row::plain(number, label.address, label.len.into())
            }),
            Table::StaticCalls => self
                .static_calls
                .get(index)
                .map(|call| Row { key: Some(call.key), ..Row::plain(number, call.address, branch(call.address)) }),
            Table::Trampolines => {
                self.trampolines.get(index).map(|call| Row { key: call.key, ..Row::plain(number, call.address, 8) })
            }
            Table::RuntimeConst => {
                let width = self.constants.get(usize::from(part.constant))?.width;
                Some(Row { constant: Some(part.constant), ..listed(&|_| width.into())? })
            }
        }
    }
}

fn alternative(index: u32, row: &Alternative) -> Row {
    Row {
        feature: Some(row.feature),
        inverted: Some(row.inverted),
        direct_call: Some(row.direct_call),
        target: Some(row.replacement),
        ..Row::plain(index, row.address, row.len.into())
    }
}
