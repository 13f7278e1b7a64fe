//! Every row of the tables as columns, grouped by site: what listings, counts and look-ups are made from.

use std::collections::HashMap;

use super::rows::{Row, TABLES};
use super::tables::Tables;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::insn;

/// Stands in a column of 32 bits where a row has no value.
pub const NONE_32: u32 = u32::MAX;
/// Stands in a column of addresses where a row has none: no site, key or target is at the last byte there can be.
pub const NONE_64: u64 = u64::MAX;
/// Stands in a column of flags where a row has none; else 0 or 1.
pub const NONE_8: u8 = u8::MAX;

/// The sites of an image: those of `.parainstructions` in the table's order, then all others by address. A site has
/// rows, in the order in which the kernel's passes go through their tables.
///
/// A column has one entry a row. Entries of one site lie together: those of site `i` from `first[i]` up to `first[i + 1]`.
#[derive(Debug, Default, Clone)]
pub struct Columns {
    /// Address of the site, as linked.
    pub address: Vec<u64>,
    /// Length of the row's part of the site in bytes.
    pub len: Vec<u32>,
    /// Which table, among [`TABLES`].
    pub table: Vec<u8>,
    /// Its place in the table, from 0.
    pub index: Vec<u32>,
    /// The op's number, or [`NONE_32`].
    pub op_type: Vec<u32>,
    /// Registers the site lets go, or [`NONE_32`].
    pub clobbers: Vec<u32>,
    /// Number of the feature, or [`NONE_32`].
    pub feature: Vec<u32>,
    /// Whether it asks for the feature's absence, or jumps where the key is off; or [`NONE_8`].
    pub inverted: Vec<u8>,
    /// Whether it is a direct call of what the site's indirect call would call; or [`NONE_8`].
    pub direct_call: Vec<u8>,
    /// Address of the static key or the static call's key, or [`NONE_64`].
    pub key: Vec<u64>,
    /// Address of the replacement, or where the jump goes; or [`NONE_64`].
    pub target: Vec<u64>,
    /// Which run-time constant, or [`NONE_8`].
    pub constant: Vec<u8>,
    /// First row of each site, and behind the last the number of rows.
    pub first: Vec<u32>,
    /// The sites by address.
    by_address: Vec<u32>,
    /// The longest site in bytes.
    longest: u64,
}

impl Columns {
    /// The columns of some tables.
    ///
    /// `tables` is the order of rows within a site. `slots` is where the op of each number lies in memory: it tells which
    /// op a direct-call row's site calls.
    ///
    /// Fails where there is no table of a name, or too many rows.
    pub fn of(image: &Image, tables: &Tables, names: &[&str], slots: &HashMap<u64, u32>) -> Result<Columns> {
        let mut all = Columns::default();
        // Sites of .parainstructions come first, in the order of their rows.
        let mut place = HashMap::new();
        let mut orders = [0u8; TABLES.len()];
        for (order, name) in (0..).zip(names) {
            let table = TABLES.iter().position(|known| known == name);
            let table = table.ok_or_else(|| Error::ops(format!("no table {name:?}")))?;
            orders[table] = order;
            for mut row in tables.rows(image, name)? {
                if row.direct_call == Some(true) {
                    row.op_type = direct_op(image, row.address, slots);
                }
                if *name == "paravirt" {
                    place.entry(row.address).or_insert(u64::from(row.index));
                }
                all.push(table as u8, &row);
            }
        }
        if u32::try_from(all.address.len()).is_err() {
            return Err(Error::table(format!("{} rows: more than any kernel has", all.address.len())));
        }
        // Rows of one table at one address stay in the table's order. Tables are by address, mostly: what is sorted are
        // runs already, and the numbers are small to move.
        let key = |(number, (&address, &table)): (u128, (&u64, &u8))| {
            let place = if place.is_empty() { None } else { place.get(&address) };
            let (others, site) = place.map_or((1, address), |&place| (0, place));
            others << 127 | u128::from(site) << 40 | u128::from(orders[usize::from(table)]) << 32 | number
        };
        let mut keys: Vec<u128> = (0..).zip(all.address.iter().zip(&all.table)).map(key).collect();
        keys.sort();
        let order: Vec<u32> = keys.into_iter().map(|key| key as u32).collect();
        let mut columns = all.reordered(&order);
        columns.first = (0..order.len())
            .filter(|&row| row == 0 || columns.address[row - 1] != columns.address[row])
            .map(|row| row as u32)
            .collect();
        columns.first.push(order.len() as u32);
        columns.by_address = (0..columns.sites() as u32).collect();
        columns.by_address.sort_by_key(|&site| columns.address[columns.first[site as usize] as usize]);
        columns.longest = columns.len.iter().copied().max().unwrap_or(0).into();
        Ok(columns)
    }

    /// The same rows in another order, or some of them; one column after the other, so that few are there twice.
    fn reordered(self, rows: &[u32]) -> Columns {
        fn taken<T: Copy>(column: Vec<T>, rows: &[u32]) -> Vec<T> {
            rows.iter().map(|&row| column[row as usize]).collect()
        }
        Columns {
            address: taken(self.address, rows),
            len: taken(self.len, rows),
            table: taken(self.table, rows),
            index: taken(self.index, rows),
            op_type: taken(self.op_type, rows),
            clobbers: taken(self.clobbers, rows),
            feature: taken(self.feature, rows),
            inverted: taken(self.inverted, rows),
            direct_call: taken(self.direct_call, rows),
            key: taken(self.key, rows),
            target: taken(self.target, rows),
            constant: taken(self.constant, rows),
            ..Columns::default()
        }
    }

    fn push(&mut self, table: u8, row: &Row) {
        let flag = |value: Option<bool>| value.map_or(NONE_8, u8::from);
        self.address.push(row.address);
        self.len.push(row.len.into());
        self.table.push(table);
        self.index.push(row.index);
        self.op_type.push(row.op_type.unwrap_or(NONE_32));
        self.clobbers.push(row.clobbers.map_or(NONE_32, u32::from));
        self.feature.push(row.feature.map_or(NONE_32, u32::from));
        self.inverted.push(flag(row.inverted));
        self.direct_call.push(flag(row.direct_call));
        self.key.push(row.key.unwrap_or(NONE_64));
        self.target.push(row.target.unwrap_or(NONE_64));
        self.constant.push(row.constant.unwrap_or(NONE_8));
    }

    /// The rows of some sites, which are checked, and nothing that finds them.
    pub fn of_sites(&self, sites: &[u32]) -> Columns {
        let rows: Vec<u32> = sites.iter().flat_map(|&site| self.rows_of(site as usize)).map(|row| row as u32).collect();
        self.clone().reordered(&rows)
    }

    /// How many sites there are.
    pub fn sites(&self) -> usize {
        self.first.len().saturating_sub(1)
    }

    /// The rows of a site.
    pub fn rows_of(&self, site: usize) -> std::ops::Range<usize> {
        self.first[site] as usize..self.first[site + 1] as usize
    }

    /// Where a site is.
    pub fn site_address(&self, site: usize) -> u64 {
        self.address[self.first[site] as usize]
    }

    /// How long a site is in bytes: as its longest row.
    pub fn site_len(&self, site: usize) -> u32 {
        self.rows_of(site).map(|row| self.len[row]).max().unwrap_or(0)
    }

    /// The op of a site: its number, of the first row that has one.
    pub fn op_of(&self, site: usize) -> Option<u32> {
        self.rows_of(site).map(|row| self.op_type[row]).find(|&op| op != NONE_32)
    }

    /// What stands at a site as built; where not all of it is in the image, what the first row covers of it.
    pub fn bytes_of<'a>(&self, image: &'a Image, site: usize) -> &'a [u8] {
        let address = self.site_address(site);
        let read = |len: u32| image.read(address, len as usize);
        read(self.site_len(site)).or_else(|| read(self.len[self.first[site] as usize])).unwrap_or_default()
    }

    /// The sites that touch the addresses from `low` up to but not including `high`, by address.
    pub fn within(&self, low: u64, high: u64) -> Vec<u32> {
        let address = |site: &u32| self.site_address(*site as usize);
        let from = self.by_address.partition_point(|site| address(site).saturating_add(self.longest) <= low);
        let to = self.by_address.partition_point(|site| address(site) < high);
        let touches = |site: &&u32| address(site) + u64::from(self.site_len(**site as usize).max(1)) > low;
        self.by_address[from.min(to)..to].iter().filter(touches).copied().collect()
    }

    /// The site at this very address.
    pub fn at(&self, address: u64) -> Option<u32> {
        let found = self.by_address.partition_point(|&site| self.site_address(site as usize) < address);
        self.by_address.get(found).copied().filter(|&site| self.site_address(site as usize) == address)
    }

    /// The site whose address is nearest; of two as near the lower.
    pub fn nearest(&self, address: u64) -> Option<u32> {
        let found = self.by_address.partition_point(|&site| self.site_address(site as usize) < address);
        let around = [found.checked_sub(1), Some(found)];
        let sites = around.iter().flatten().filter_map(|&i| self.by_address.get(i).copied());
        sites.min_by_key(|&site| self.site_address(site as usize).abs_diff(address))
    }

    /// The sites of an op, in order.
    pub fn of_op(&self, op: u32) -> Vec<u32> {
        (0..self.sites() as u32).filter(|&site| self.op_of(site as usize) == Some(op)).collect()
    }
}

/// How many rows and sites there are, by what people ask for; each list with most first, but tables in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts<'a> {
    /// Rows of each table.
    pub rows: Vec<(&'static str, usize)>,
    /// Sites in each section, by its name; none for sites in no section.
    pub sections: Vec<(&'a str, usize)>,
    /// Sites of each op, by its number.
    pub ops: Vec<(u32, usize)>,
    /// Sites that several tables name, by those tables.
    pub shared: Vec<(Vec<&'static str>, usize)>,
}

impl Columns {
    /// Counts the rows of some sites.
    pub fn counts<'a>(&self, image: &'a Image, sites: &[u32]) -> Counts<'a> {
        let (mut rows, mut sections, mut ops, mut shared) = (vec![], vec![], vec![], vec![]);
        for &site in sites {
            let site = site as usize;
            let mut names: Vec<u8> = Vec::new();
            for row in self.rows_of(site) {
                let table = self.table[row];
                count(&mut rows, table);
                if !names.contains(&table) {
                    names.push(table);
                }
            }
            let section = image.section_at(self.site_address(site));
            count(&mut sections, section.map_or("", |section| section.name.as_str()));
            if let Some(op) = self.op_of(site) {
                count(&mut ops, op);
            }
            if names.len() > 1 {
                count(&mut shared, names);
            }
        }
        let name = |table: u8| TABLES[usize::from(table)];
        let mut counts = Counts {
            rows: rows.into_iter().map(|(table, n)| (name(table), n)).collect(),
            sections,
            ops,
            shared: shared.into_iter().map(|(tables, n)| (tables.into_iter().map(name).collect(), n)).collect(),
        };
        counts.sections.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        counts.ops.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        counts.shared.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        counts
    }
}

/// Counts one more of something, among few kinds, in the order in which they first come.
fn count<T: PartialEq>(counts: &mut Vec<(T, usize)>, kind: T) {
    match counts.iter_mut().find(|(known, _)| *known == kind) {
        Some((_, n)) => *n += 1,
        None => counts.push((kind, 1)),
    }
}

/// The op that a direct-call row's site calls: that of the slot its `call *mem` goes through.
fn direct_op(image: &Image, address: u64, slots: &HashMap<u64, u32>) -> Option<u32> {
    let slot = insn::called_pointer(image.bits(), address, image.read(address, 6)?)?;
    slots.get(&slot).copied()
}
