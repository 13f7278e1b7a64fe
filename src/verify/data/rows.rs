//! The tables of jump labels and of static calls: the kernel sorts their rows at boot, and takes from them where it writes
//! branches later, and where these go. Each row that memory has is one that the file has.

use std::collections::HashMap;
use std::ops::Range;

use super::heard::{Disagreement, Heard};
use crate::error::Result;
use crate::image::Image;
use crate::memory::Words;
use crate::sites::{INIT, SortedTable, sorted};

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
            heard.held.push(table.start..table.start + table.size as u64);
            compare(&table, built, &held, image, slide, heard);
        }
    }
    Ok(())
}

fn compare(table: &SortedTable, built: &[u8], held: &[u8], image: &Image, slide: u64, heard: &mut Heard) {
    let word = image.bits().word();
    let (mut left, mut rows, mut initial) = (HashMap::<Row, usize>::new(), 0, 0);
    let names = |name: &str| [".init", ".exit", ".altinstr"].iter().any(|of| name.starts_with(of));
    let freed: Vec<Range<u64>> = image
        .sections()
        .iter()
        .filter(|section| names(&section.name))
        .map(|section| section.address..section.end())
        .collect();
    let is_freed = |row: &Row| freed.iter().any(|section| section.contains(&row[0]));
    // The kernel marks rows of what it frees at boot, and no others: as built the flag has other uses (objtool's, since 5.14).
    let unmarked = |[site, target, key]: Row| [site, target, key & !INIT];
    for (_, row) in table.rows(built, word, 0) {
        *left.entry(unmarked(row)).or_default() += 1;
        rows += 1;
        initial += usize::from(is_freed(&row));
    }
    let mut other = Vec::new();
    for (place, row) in table.rows(held, word, slide) {
        let row = if is_freed(&row) { unmarked(row) } else { row };
        match left.get_mut(&row).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            // jump_label_invalidate_module_init() and its like, up to 4.19: rows of code that was freed name none.
            None if row[0] == 0 && initial > 0 => initial -= 1,
            None => other.push((place, row)),
        }
    }
    heard.counts.push((if table.stride == 8 { "static_call_site" } else { "jump_entry" }, rows));
    let left = left.into_iter().flat_map(|(row, count)| std::iter::repeat_n(row, count)).collect();
    for (place, row, near) in pairs(left, other) {
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

/// Which of the file's rows each strange one was, by where they lie: first those that have two fields alike are taken
/// together, then those with one, then any.
fn pairs(mut left: Vec<Row>, mut strange: Vec<(u64, Row)>) -> Vec<(u64, Row, Row)> {
    const ALIKE: [[bool; 3]; 7] = [
        [true, true, false],
        [true, false, true],
        [false, true, true],
        [true, false, false],
        [false, true, false],
        [false, false, true],
        [false; 3],
    ];
    let mut pairs = Vec::with_capacity(strange.len());
    for alike in ALIKE {
        let part = |row: &Row| -> Row { std::array::from_fn(|field| if alike[field] { row[field] } else { 0 }) };
        left.sort_unstable_by(|one, other| other.cmp(one));
        let mut by: HashMap<Row, Vec<Row>> = HashMap::new();
        left.drain(..).for_each(|row| by.entry(part(&row)).or_default().push(row));
        strange.retain(|&(place, row)| match by.get_mut(&part(&row)).and_then(Vec::pop) {
            Some(near) => {
                pairs.push((place, row, near));
                false
            }
            None => true,
        });
        left.extend(by.into_values().flatten());
    }
    pairs.sort_unstable_by_key(|&(place, ..)| place);
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_row_was_the_one_that_it_has_most_of() {
        let left = vec![[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]];
        let strange = vec![(0, [4, 50, 60]), (16, [1, 2, 30]), (32, [70, 80, 90]), (48, [100, 11, 12])];
        let near = pairs(left, strange).into_iter().map(|(place, _, near)| (place, near)).collect::<Vec<_>>();
        assert_eq!(near, [(0, [4, 5, 6]), (16, [1, 2, 3]), (32, [7, 8, 9]), (48, [10, 11, 12])]);
    }

    #[test]
    fn rows_that_are_all_strange_take_no_longer_than_they_are_long() {
        let count = 200_000;
        let left = (0..count).map(|at| [at, at, at]).collect();
        let strange = (0..count).map(|at| (at, [at + count, at + count, at / 2]));
        assert_eq!(pairs(left, strange.collect()).len(), count as usize);
    }
}
