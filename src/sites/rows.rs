//! Any table's rows in one shape, whatever the table.

use super::tables::Tables;
use super::{AddressTable, Alternative};
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

impl Tables {
    /// The rows of a table, in the table's order; run-time constants one constant after the other.
    ///
    /// Fails where there is no table of that name.
    pub fn rows(&self, image: &Image, table: &str) -> Result<Vec<Row>> {
        // Direct branches: five bytes, six with a condition or a prefix.
        let branch = |address: u64| match image.read(address, 1) {
            Some([0x0f | 0x2e]) => 6,
            _ => 5,
        };
        let addresses = |list: &AddressTable, len: &dyn Fn(u64) -> u16| -> Vec<Row> {
            list.rows().map(|(index, address)| Row::plain(index, address, len(address))).collect()
        };
        Ok(match table {
            "paravirt" => (0..)
                .zip(self.paravirt.iter().flat_map(|table| &table.sites))
                .map(|(index, site)| Row {
                    op_type: Some(site.op_type.into()),
                    clobbers: site.clobbers,
                    ..Row::plain(index, site.address, site.len.into())
                })
                .collect(),
            "alternatives" => {
                (0..).zip(self.alternatives.iter().flat_map(|table| &table.rows)).map(alternative).collect()
            }
            "retpolines" => addresses(&self.retpolines, &branch),
            "returns" => addresses(&self.returns, &branch),
            "call_sites" => addresses(&self.call_sites, &|_| 5),
            "ibt" => addresses(&self.ibt, &|_| 4),
            "cfi" => addresses(&self.cfi, &|_| 16),
            "smp_locks" => addresses(&self.smp_locks, &|_| 1),
            "mcount" => (0..).zip(&self.mcount).map(|(index, &address)| Row::plain(index, address, 5)).collect(),
            "jump_labels" => (0..)
                .zip(&self.jump_labels)
                .map(|(index, label)| Row {
                    inverted: Some(label.branch),
                    key: Some(label.key),
                    target: Some(label.target),
                    ..Row::plain(index, label.address, label.len.into())
                })
                .collect(),
            "static_calls" => (0..)
                .zip(&self.static_calls)
                .map(|(index, call)| Row {
                    key: Some(call.key),
                    ..Row::plain(index, call.address, branch(call.address))
                })
                .collect(),
            "trampolines" => (0..)
                .zip(&self.trampolines)
                .map(|(index, call)| Row { key: call.key, ..Row::plain(index, call.address, 8) })
                .collect(),
            "runtime_const" => (0..)
                .zip(&self.constants)
                .flat_map(|(constant, found)| {
                    (0..).zip(found.table.rows()).map(move |(index, (_, address))| Row {
                        constant: Some(constant),
                        ..Row::plain(index, address, found.width.into())
                    })
                })
                .collect(),
            _ => return Err(Error::ops(format!("no table {table:?}"))),
        })
    }
}

fn alternative((index, row): (u32, &Alternative)) -> Row {
    Row {
        feature: Some(row.feature),
        inverted: Some(row.inverted),
        direct_call: Some(row.direct_call),
        target: Some(row.replacement),
        ..Row::plain(index, row.address, row.len.into())
    }
}
