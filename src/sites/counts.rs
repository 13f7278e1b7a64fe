//! How many rows and sites there are, by what people ask for.

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
        let (mut sections, mut ops) = (vec![], vec![]);
        let mut shared: Vec<(u16, usize, usize)> = Vec::new();
        // Most sites lie in the section of the site before.
        let mut around: Option<(std::ops::RangeInclusive<u64>, &str)> = None;
        for site in sites {
            let site = site as usize;
            let (mut tables, mut several) = (0_u16, false);
            for row in columns.rows_of(site) {
                let table = columns.table_of(row);
                if rows[usize::from(table)] == 0 {
                    seen.push(table);
                }
                rows[usize::from(table)] += 1;
                several |= tables != 0 && tables & 1 << table == 0;
                tables |= 1 << table;
            }
            let address = columns.site_address(site);
            let section = match &around {
                Some((range, name)) if range.contains(&address) => *name,
                _ => {
                    let found = image.section_at(address);
                    around = found.map(|section| (section.address..=section.end() - 1, section.name.as_str()));
                    found.map_or("", |section| section.name.as_str())
                }
            };
            count(&mut sections, section);
            if let Some(op) = columns.op_of(site) {
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

/// Counts one more of something, among few kinds, in the order in which they first come.
fn count<T: PartialEq>(counts: &mut Vec<(T, usize)>, kind: T) {
    match counts.iter_mut().find(|(known, _)| *known == kind) {
        Some((_, n)) => *n += 1,
        None => counts.push((kind, 1)),
    }
}
