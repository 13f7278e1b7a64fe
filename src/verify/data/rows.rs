//! The tables of jump labels and of static calls: the kernel sorts their rows at boot, and takes from them where it writes
//! branches later, and where these go. Each row that memory has is one that the file has.

use std::collections::HashMap;

use super::heard::{Disagreement, Heard};
use crate::error::Result;
use crate::image::Image;
use crate::memory::Words;
use crate::sites::{SortedTable, sorted};

/// What a row says: site, target, key.
type Row = [u64; 3];

/// Holds both tables to the file.
pub(super) fn judge(words: &Words<'_>, image: &Image, slide: u64, heard: &mut Heard) -> Result<()> {
    for table in sorted(image)? {
        let mut held = vec![0; table.size];
        if !words.bytes(table.start, &mut held)? {
            heard.unheard.push(format!("{}: could not be read", table.name));
            continue;
        }
        if let Some(built) = image.read(table.start, table.size) {
            heard.sorted.push(table.start..table.start + table.size as u64);
            compare(&table, built, &held, image, slide, heard);
        }
    }
    Ok(())
}

fn compare(table: &SortedTable, built: &[u8], held: &[u8], image: &Image, slide: u64, heard: &mut Heard) {
    let word = image.bits().word();
    let (mut left, mut rows, mut initial) = (HashMap::<Row, usize>::new(), 0, 0);
    for (_, row) in table.rows(built, word, 0) {
        *left.entry(row).or_default() += 1;
        rows += 1;
        let freed = |name: &str| name.starts_with(".init") || name.starts_with(".exit");
        initial += usize::from(image.section_at(row[0]).is_some_and(|section| freed(&section.name)));
    }
    let mut other = Vec::new();
    for (place, row) in table.rows(held, word, slide) {
        match left.get_mut(&row).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            // jump_label_invalidate_module_init() and its like, up to 4.19: rows of code that was freed name none.
            None if row[0] == 0 && initial > 0 => initial -= 1,
            None => other.push((place, row)),
        }
    }
    heard.counts.push((if table.stride == 8 { "static_call_site" } else { "jump_entry" }, rows));
    let mut left: Vec<Row> = left.into_iter().flat_map(|(row, count)| std::iter::repeat_n(row, count)).collect();
    left.sort_unstable();
    for (place, row) in other {
        let alike = |one: &Row| one.iter().zip(row).filter(|(one, other)| **one == *other).count();
        let nearest = (0..left.len()).max_by_key(|&at| (alike(&left[at]), std::cmp::Reverse(at)));
        let Some(near) = nearest.map(|at| left.remove(at)) else { continue };
        let field = (0..3).find(|&field| near[field] != row[field]).unwrap_or(0);
        heard.disagreements.push(Disagreement {
            what: if table.stride == 8 { "static_call_site" } else { "jump_entry" },
            address: place,
            which: near[0],
            expected: near[field],
            found: row[field],
        });
    }
}
