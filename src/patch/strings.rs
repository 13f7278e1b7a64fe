//! A string table of an ELF file in which a string that another ends with is part of that one, as linkers make them.

use std::cmp::Ordering;

use crate::sites::by_address;

/// The table, and where each string is in it.
pub(super) struct Strings {
    /// A zero, and the strings, each with a zero behind it.
    pub table: Vec<u8>,
    /// The offset of each string, in the order in which they were given.
    pub offsets: Vec<u32>,
}

impl Strings {
    /// Of strings that have no zeros, all of which fit 32 bits.
    pub(super) fn of<'s>(strings: impl ExactSizeIterator<Item = &'s str> + Clone) -> Strings {
        let listed: Vec<&[u8]> = strings.map(str::as_bytes).collect();
        // By their bytes from the last to the first: a string comes right before those that end with it. Eight bytes tell
        // most of them apart.
        let last: Vec<u64> = listed.iter().map(|string| last_bytes(string)).collect();
        let mut order = by_address(&last);
        let at = |number: u32| listed[number as usize];
        for alike in order.chunk_by_mut(|&a, &b| last[a as usize] == last[b as usize]) {
            alike.sort_unstable_by(|&a, &b| from_the_end(at(a), at(b)));
        }
        let mut table = Vec::with_capacity(listed.iter().map(|string| string.len() + 1).sum::<usize>() + 1);
        table.push(0);
        let mut offsets = vec![0; listed.len()];
        let mut longest: &[u8] = &[];
        for &number in order.iter().rev() {
            let string = at(number);
            if !longest.ends_with(string) {
                table.extend_from_slice(string);
                table.push(0);
                longest = string;
            }
            offsets[number as usize] = (table.len() - string.len() - 1) as u32;
        }
        Strings { table, offsets }
    }
}

/// The last eight bytes of a string, the last of them the highest; zeros where it has fewer.
fn last_bytes(string: &[u8]) -> u64 {
    if let Some(bytes) = string.last_chunk() {
        return u64::from_le_bytes(*bytes);
    }
    let mut bytes = [0; 8];
    bytes[8 - string.len()..].copy_from_slice(string);
    u64::from_le_bytes(bytes)
}

/// Which of two strings without zeros comes first by their bytes from the last to the first.
fn from_the_end(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        match last_bytes(a).cmp(&last_bytes(b)) {
            // Where one has ended the other has too.
            Ordering::Equal if a.is_empty() => return Ordering::Equal,
            Ordering::Equal => (a, b) = (&a[..a.len().saturating_sub(8)], &b[..b.len().saturating_sub(8)]),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::write::StringTable;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_table_is_the_one_that_the_library_makes(names in proptest::collection::vec("[ab_]{0,4}[a_]{0,18}", 0..60)) {
            let mut library = StringTable::default();
            let ids: Vec<_> = names.iter().map(|name| library.add(name.as_bytes())).collect();
            let mut bytes = vec![0];
            library.write(&mut bytes, 1).unwrap();
            let ours = Strings::of(names.iter().map(String::as_str));
            prop_assert_eq!(ours.table, bytes);
            prop_assert_eq!(ours.offsets, ids.into_iter().map(|id| library.get_offset(id)).collect::<Vec<_>>());
        }
    }
}
