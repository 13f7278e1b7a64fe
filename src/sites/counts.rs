//! How many rows and sites there are, by what people ask for.

use std::ops::RangeInclusive;

use super::columns::Columns;
use super::rows::TABLES;
use crate::image::Image;

/// How many rows and sites there are; each list with most first, but tables in order.
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

impl<'a> Counts<'a> {
    /// Counts the rows of some sites.
    pub fn of(columns: &Columns, image: &'a Image, sites: impl IntoIterator<Item = u32>) -> Counts<'a> {
        let (mut rows, mut seen) = ([0; TABLES.len()], vec![]);
        let (mut sections, mut ops): (Vec<(&str, usize)>, _) = (vec![], vec![]);
        let mut shared: Vec<(u16, usize, usize)> = Vec::new();
        // Most sites lie in the section of the site before: its addresses, and its place among the counts.
        let mut around: Option<(RangeInclusive<u64>, usize)> = None;
        for site in sites {
            let site = site as usize;
            let (mut tables, mut several, mut op) = (0_u16, false, None);
            for row in columns.rows_of(site) {
                let part = columns.place_of(row).0;
                let table = part.table();
                if rows[usize::from(table)] == 0 {
                    seen.push(table);
                }
                rows[usize::from(table)] += 1;
                several |= tables != 0 && tables & 1 << table == 0;
                tables |= 1 << table;
                if op.is_none() && part.may_call_op() {
                    op = columns.row(row).op_type;
                }
            }
            let address = columns.site_address(site);
            if let Some((_, place)) = around.as_ref().filter(|(range, _)| range.contains(&address)) {
                sections[*place].1 += 1;
            } else {
                let found = image.section_at(address);
                let place = count(&mut sections, found.map_or("", |section| section.name.as_str()));
                around = found.map(|section| (section.address..=section.end() - 1, place));
            }
            if let Some(op) = op {
                count(&mut ops, op);
            }
            if several {
                match shared.iter_mut().find(|(known, ..)| *known == tables) {
                    Some((_, _, n)) => *n += 1,
                    None => shared.push((tables, site, 1)),
                }
            }
        }
        let name = |table: u8| TABLES[usize::from(table)];
        // The same tables have rows in the same order at every site.
        let named = |site: usize| {
            let mut tables: Vec<_> = columns.rows_of(site).map(|row| name(columns.table_of(row))).collect();
            tables.dedup();
            tables
        };
        let mut counts = Counts {
            rows: seen.into_iter().map(|table| (name(table), rows[usize::from(table)])).collect(),
            sections,
            ops,
            shared: shared.into_iter().map(|(_, site, n)| (named(site), n)).collect(),
        };
        counts.sections.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        counts.ops.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        counts.shared.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        counts
    }
}

/// Counts one more of something, among few kinds, in the order in which they first come; where that count is.
fn count<T: PartialEq>(counts: &mut Vec<(T, usize)>, kind: T) -> usize {
    let place = counts.iter().position(|(known, _)| *known == kind).unwrap_or(counts.len());
    match counts.get_mut(place) {
        Some((_, n)) => *n += 1,
        None => counts.push((kind, 1)),
    }
    place
}
