//! Every row of the tables, grouped by site: what listings, counts and look-ups are made from.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::order;
use super::parts::Parts;
use super::rows::{Part, Row};
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

/// No site is longer: tables that list lengths have a byte for them.
const LONGEST: u64 = u8::MAX as u64;

/// The sites of an image: those of `.parainstructions` in the table's order, then all others by address. A site has
/// rows, in the order in which the kernel's passes go through their tables.
///
/// A column has one entry a row. Entries of one site lie together: those of site `i` from `first[i]` up to `first[i + 1]`.
/// Only the addresses and the order are kept; a row is read in its table, and a column is made when one is asked for.
#[derive(Debug)]
pub struct Columns {
    image: Arc<Image>,
    tables: Arc<Tables>,
    /// Where the op of each number lies in memory.
    slots: HashMap<u64, u32>,
    /// The tables, their rows numbered one table after the other.
    parts: Parts,
    /// Address of the site of each row, as linked.
    address: Vec<u64>,
    /// The number of each row.
    order: Vec<u32>,
    /// First row of each site, and behind the last the number of rows.
    first: Vec<u32>,
    /// The sites by address, where they are not in this order.
    by_address: Option<Vec<u32>>,
    made: Made,
}

/// Columns that were asked for.
#[derive(Debug, Default)]
struct Made {
    len: OnceLock<Vec<u32>>,
    table: OnceLock<Vec<u8>>,
    index: OnceLock<Vec<u32>>,
    op_type: OnceLock<Vec<u32>>,
    clobbers: OnceLock<Vec<u32>>,
    feature: OnceLock<Vec<u32>>,
    inverted: OnceLock<Vec<u8>>,
    direct_call: OnceLock<Vec<u8>>,
    key: OnceLock<Vec<u64>>,
    target: OnceLock<Vec<u64>>,
    constant: OnceLock<Vec<u8>>,
}

impl Columns {
    /// The sites of some tables.
    ///
    /// `names` is the order of rows within a site. `slots` is where the op of each number lies in memory: it tells which
    /// op a direct-call row's site calls.
    ///
    /// Fails where there is no table of a name, or too many rows.
    pub fn of(image: Arc<Image>, tables: Arc<Tables>, names: &[&str], slots: HashMap<u64, u32>) -> Result<Columns> {
        Columns::among(image, tables, names, slots, 0..u64::MAX)
    }

    /// Likewise, of the sites that may touch some addresses: to look up a few takes no order of all.
    pub fn among(
        image: Arc<Image>,
        tables: Arc<Tables>,
        names: &[&str],
        slots: HashMap<u64, u32>,
        range: Range<u64>,
    ) -> Result<Columns> {
        let mut lengths = Vec::new();
        for name in names {
            lengths.extend(tables.parts(name)?.into_iter().map(|part| (part, tables.len_of(part))));
        }
        let rows = lengths.iter().map(|(_, len)| len).sum();
        let Some(parts) = Parts::of(&lengths) else {
            return Err(Error::table(format!("{rows} rows: more than any kernel has")));
        };
        let mut listed = Vec::with_capacity(rows);
        for part in parts.iter() {
            tables.push_addresses(part, &mut listed);
        }
        // Rows that name no site have address 0.
        let order = if range == (0..u64::MAX) {
            let mut order = order::by_address(&listed);
            order.drain(..order.partition_point(|&number| listed[number as usize] == 0));
            order
        } else {
            let low = range.start.saturating_sub(LONGEST).max(1);
            let near = (0..).zip(&listed).filter(|&(_, address)| (low..range.end).contains(address));
            let mut order: Vec<u32> = near.map(|(number, _)| number).collect();
            order.sort_by_key(|&number| listed[number as usize]);
            order
        };
        let mut columns = Columns {
            address: order.iter().map(|&number| listed[number as usize]).collect(),
            image,
            tables,
            slots,
            parts,
            order,
            first: Vec::new(),
            by_address: None,
            made: Made::default(),
        };
        columns.find_first();
        columns.put_paravirt_first();
        Ok(columns)
    }

    fn find_first(&mut self) {
        let begins = |&row: &usize| row == 0 || self.address[row - 1] != self.address[row];
        self.first = (0..self.order.len()).filter(begins).map(|row| row as u32).collect();
        self.first.push(self.order.len() as u32);
    }

    /// Puts the sites of .parainstructions before all others, in the order of their rows.
    fn put_paravirt_first(&mut self) {
        let numbers = self.parts.paravirt();
        if numbers.is_empty() {
            return;
        }
        // (place in the table, site) of those, and the others.
        let (mut listed, mut others) = (Vec::new(), Vec::new());
        for site in 0..self.sites() {
            match self.order[self.rows_of(site)].iter().find(|number| numbers.contains(number)) {
                Some(&number) => listed.push((number, site as u32)),
                None => others.push(site as u32),
            }
        }
        listed.sort_unstable();
        let sites: Vec<u32> = listed.into_iter().map(|(_, site)| site).chain(others).collect();
        let rows = || sites.iter().flat_map(|&site| self.rows_of(site as usize));
        let (address, order) =
            (rows().map(|row| self.address[row]).collect(), rows().map(|row| self.order[row]).collect());
        let mut by_address = vec![0; sites.len()];
        for (now, &before) in (0..).zip(&sites) {
            by_address[before as usize] = now;
        }
        (self.address, self.order, self.by_address) = (address, order, Some(by_address));
        self.find_first();
    }

    /// The rows of some sites, which are checked, and nothing that finds them.
    pub fn of_sites(&self, sites: &[u32]) -> Columns {
        let rows = || sites.iter().flat_map(|&site| self.rows_of(site as usize));
        Columns {
            image: Arc::clone(&self.image),
            tables: Arc::clone(&self.tables),
            slots: self.slots.clone(),
            parts: self.parts.clone(),
            address: rows().map(|row| self.address[row]).collect(),
            order: rows().map(|row| self.order[row]).collect(),
            first: Vec::new(),
            by_address: None,
            made: Made::default(),
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.order.len()
    }

    /// How many sites there are.
    pub fn sites(&self) -> usize {
        self.first.len().saturating_sub(1)
    }

    /// The rows of a site.
    pub fn rows_of(&self, site: usize) -> Range<usize> {
        self.first[site] as usize..self.first[site + 1] as usize
    }

    /// The table of a row, among [`TABLES`](super::rows::TABLES), and its place in the table or in that of its constant.
    pub(super) fn place_of(&self, row: usize) -> (Part, usize) {
        self.parts.place(self.order[row])
    }

    /// A row.
    pub fn row(&self, row: usize) -> Row {
        self.table_and_row(row).1
    }

    /// A row's table, among [`TABLES`](super::rows::TABLES), and the row.
    pub(super) fn table_and_row(&self, row: usize) -> (u8, Row) {
        let (part, index) = self.place_of(row);
        // Numbers of rows that name no site were left out.
        let mut found = self.tables.row(&self.image, part, index).unwrap_or_default();
        if found.direct_call == Some(true) {
            found.op_type = direct_op(&self.image, found.address, &self.slots);
        }
        (part.table(), found)
    }

    /// The table of a row, among [`TABLES`](super::rows::TABLES).
    pub fn table_of(&self, row: usize) -> u8 {
        self.place_of(row).0.table()
    }

    /// Where a site is.
    pub fn site_address(&self, site: usize) -> u64 {
        self.address[self.first[site] as usize]
    }

    /// How long a site is in bytes: as its longest row.
    pub fn site_len(&self, site: usize) -> u16 {
        self.rows_of(site).map(|row| self.row(row).len).max().unwrap_or(0)
    }

    /// The op of a site: its number, of the first row that has one.
    pub fn op_of(&self, site: usize) -> Option<u32> {
        self.rows_of(site).find_map(|row| self.place_of(row).0.may_call_op().then(|| self.row(row).op_type)?)
    }

    /// What stands at a site as built; where not all of it is in the image, what the first row covers of it.
    pub fn bytes_of(&self, site: usize) -> &[u8] {
        let address = self.site_address(site);
        let read = |len: u16| self.image.read(address, usize::from(len));
        read(self.site_len(site)).or_else(|| read(self.row(self.first[site] as usize).len)).unwrap_or_default()
    }

    /// The site that is at this place when they are by address.
    fn by_address(&self, place: usize) -> u32 {
        self.by_address.as_ref().map_or(place as u32, |sites| sites[place])
    }

    /// How many sites lie before those for which this does not hold.
    fn partition(&self, before: impl Fn(u64) -> bool) -> usize {
        let (mut low, mut high) = (0, self.sites());
        while low < high {
            let middle = low.midpoint(high);
            if before(self.site_address(self.by_address(middle) as usize)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The sites that touch the addresses from `low` up to but not including `high`, by address.
    pub fn within(&self, low: u64, high: u64) -> Vec<u32> {
        let from = self.partition(|address| address.saturating_add(LONGEST) <= low);
        let to = self.partition(|address| address < high);
        let touches =
            |&site: &u32| self.site_address(site as usize) + u64::from(self.site_len(site as usize).max(1)) > low;
        (from.min(to)..to).map(|place| self.by_address(place)).filter(touches).collect()
    }

    /// The site at this very address.
    pub fn at(&self, address: u64) -> Option<u32> {
        let found = self.partition(|site| site < address);
        let site = (found < self.sites()).then(|| self.by_address(found))?;
        (self.site_address(site as usize) == address).then_some(site)
    }

    /// The site whose address is nearest; of two as near the lower.
    pub fn nearest(&self, address: u64) -> Option<u32> {
        let found = self.partition(|site| site < address);
        let around = [found.checked_sub(1), (found < self.sites()).then_some(found)];
        let sites = around.into_iter().flatten().map(|place| self.by_address(place));
        sites.min_by_key(|&site| self.site_address(site as usize).abs_diff(address))
    }

    /// The sites of an op, in order.
    pub fn of_op(&self, op: u32) -> Vec<u32> {
        (0..self.sites() as u32).filter(|&site| self.op_of(site as usize) == Some(op)).collect()
    }
}

/// The columns, one entry a row.
impl Columns {
    fn each<T>(&self, value: impl Fn(Row) -> T) -> Vec<T> {
        (0..self.rows()).map(|row| value(self.row(row))).collect()
    }

    /// Address of the site, as linked.
    pub fn address(&self) -> &Vec<u64> {
        &self.address
    }

    /// First row of each site, and behind the last the number of rows.
    pub fn first(&self) -> &Vec<u32> {
        &self.first
    }

    /// Length of the row's part of the site in bytes.
    pub fn len(&self) -> &Vec<u32> {
        self.made.len.get_or_init(|| self.each(|row| row.len.into()))
    }

    /// Which table, among [`TABLES`](super::rows::TABLES).
    pub fn table(&self) -> &Vec<u8> {
        self.made.table.get_or_init(|| (0..self.rows()).map(|row| self.table_of(row)).collect())
    }

    /// Its place in the table, from 0.
    pub fn index(&self) -> &Vec<u32> {
        self.made.index.get_or_init(|| (0..self.rows()).map(|row| self.place_of(row).1 as u32).collect())
    }

    /// The op's number, or [`NONE_32`].
    pub fn op_type(&self) -> &Vec<u32> {
        self.made.op_type.get_or_init(|| self.each(|row| row.op_type.unwrap_or(NONE_32)))
    }

    /// Registers the site lets go, or [`NONE_32`].
    pub fn clobbers(&self) -> &Vec<u32> {
        self.made.clobbers.get_or_init(|| self.each(|row| row.clobbers.map_or(NONE_32, u32::from)))
    }

    /// Number of the feature, or [`NONE_32`].
    pub fn feature(&self) -> &Vec<u32> {
        self.made.feature.get_or_init(|| self.each(|row| row.feature.map_or(NONE_32, u32::from)))
    }

    /// Whether it asks for the feature's absence, or jumps where the key is off; or [`NONE_8`].
    pub fn inverted(&self) -> &Vec<u8> {
        self.made.inverted.get_or_init(|| self.each(|row| row.inverted.map_or(NONE_8, u8::from)))
    }

    /// Whether it is a direct call of what the site's indirect call would call; or [`NONE_8`].
    pub fn direct_call(&self) -> &Vec<u8> {
        self.made.direct_call.get_or_init(|| self.each(|row| row.direct_call.map_or(NONE_8, u8::from)))
    }

    /// Address of the static key or the static call's key, or [`NONE_64`].
    pub fn key(&self) -> &Vec<u64> {
        self.made.key.get_or_init(|| self.each(|row| row.key.unwrap_or(NONE_64)))
    }

    /// Address of the replacement, or where the jump goes; or [`NONE_64`].
    pub fn target(&self) -> &Vec<u64> {
        self.made.target.get_or_init(|| self.each(|row| row.target.unwrap_or(NONE_64)))
    }

    /// Which run-time constant, or [`NONE_8`].
    pub fn constant(&self) -> &Vec<u8> {
        self.made.constant.get_or_init(|| self.each(|row| row.constant.unwrap_or(NONE_8)))
    }
}

/// The op that a direct-call row's site calls: that of the slot its `call *mem` goes through.
fn direct_op(image: &Image, address: u64, slots: &HashMap<u64, u32>) -> Option<u32> {
    let slot = insn::called_pointer(image.bits(), address, image.read(address, 6)?)?;
    slots.get(&slot).copied()
}
