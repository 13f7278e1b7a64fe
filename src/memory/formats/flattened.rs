//! makedumpfile's flattened format (`-F`, and QEMU's `dump-guest-memory` in kdump's formats): pieces of a dump as they came,
//! each with where it belongs, so that it can go through a pipe. In order, it is a dump like any other.
//!
//! A block of 4096 bytes says "makedumpfile", type and version; then each piece has a header of two numbers of 8 bytes, the
//! most significant byte first: where it belongs, and how long it is. The last has -1 for both (makedumpfile's
//! `struct makedumpfile_data_header`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dump::Dump;
use crate::error::{Error, Result};
use crate::memory::space::Extent;
use crate::memory::store::Store;

const MAGIC: &[u8] = b"makedumpfile\0\0\0\0";
const HEADER: u64 = 4096;
/// How much of a dump may be in no piece.
const MAX_HOLES: u64 = 1 << 30;
/// How many pieces may be for places that others are for.
const MAX_WRITTEN_AGAIN: usize = 1 << 19;
/// Where the last piece says that it belongs.
const END: u64 = u64::MAX;

/// The dump in order, if this is one that was flattened.
pub(super) fn unfold(dump: &Dump) -> Result<Option<Store>> {
    if !dump.begins_with(MAGIC) {
        return Ok(None);
    }
    let store = &dump.store;
    let head = store.read_exactly(0, 32, "its header")?;
    let (kind, version) = (number(&head, 16), number(&head, 24));
    if (kind, version) != (1, 1) {
        let reason = format!("is flattened by type {kind} in version {version}: only type 1, version 1 is known");
        return Err(Error::memory(reason).in_section("header"));
    }
    let mut pieces: Vec<Extent> = Vec::new();
    let mut at = HEADER;
    for row in 0.. {
        let place = |error: Error| error.in_section("pieces").at_row(row).at_offset(at);
        let head = store.read_exactly(at, 16, "the header of a piece").map_err(place)?;
        let (address, size) = (number(&head, 0), number(&head, 8));
        if address == END {
            break;
        }
        let offset = at + 16;
        let end = offset.checked_add(size).filter(|&end| end <= store.len());
        let (Some(end), Some(_)) = (end, address.checked_add(size).filter(|&end| end < 1 << 63)) else {
            let reason = format!("is truncated: {size} bytes for {address:#x} leave the file of {} bytes", store.len());
            return Err(place(Error::memory(reason)));
        };
        if size > 0 {
            pieces.push(Extent { address, size, offset });
        }
        at = end;
    }
    let joined = in_order(pieces).map_err(|error| error.in_section("pieces"))?;
    // A dump has no holes to speak of; nobody goes through exabytes of them.
    let there = joined.iter().fold(0, |sum: u64, piece| sum.saturating_add(piece.size));
    let holes = joined.last().map_or(0, |last| last.address + last.size).saturating_sub(there);
    if holes > MAX_HOLES {
        let reason = format!("are of a dump with {holes} bytes in none of them, and {there} in them");
        return Err(Error::memory(reason).in_section("pieces"));
    }
    Ok(Some(Store::pieces(Arc::clone(store), joined)))
}

/// Pieces by where they belong. Where some are for one place, as of a header that is written again, the later hold.
fn in_order(mut pieces: Vec<Extent>) -> Result<Vec<Extent>> {
    pieces.sort_unstable_by_key(|piece| piece.address);
    let mut again = Vec::new();
    let mut first = 0;
    while first < pieces.len() {
        let (mut after, mut end) = (first, 0);
        while let Some(piece) = pieces.get(after).filter(|piece| after == first || piece.address < end) {
            (after, end) = (after + 1, end.max(piece.address + piece.size));
        }
        if after - first > 1 {
            again.extend_from_slice(&pieces[first..after]);
            pieces[first..after].iter_mut().for_each(|piece| piece.size = 0);
        }
        first = after;
    }
    if again.len() > MAX_WRITTEN_AGAIN {
        let reason =
            format!("{} are for places of others, and more than {MAX_WRITTEN_AGAIN} are too many", again.len());
        return Err(Error::memory(reason));
    }
    again.sort_unstable_by_key(|piece| piece.offset);
    let mut sorted: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for Extent { address, size, offset } in again {
        insert(&mut sorted, address, address + size, offset);
    }
    pieces.retain(|piece| piece.size > 0);
    pieces.extend(sorted.into_iter().map(|(address, (end, offset))| Extent { address, size: end - address, offset }));
    pieces.sort_unstable_by_key(|piece| piece.address);
    Ok(pieces)
}

/// Adds a piece, and cuts what it covers of others.
fn insert(pieces: &mut BTreeMap<u64, (u64, u64)>, start: u64, end: u64, offset: u64) {
    if let Some((&before, &(its_end, its_offset))) = pieces.range(..start).next_back()
        && its_end > start
    {
        pieces.insert(before, (start, its_offset));
        if its_end > end {
            pieces.insert(end, (its_end, its_offset + (end - before)));
        }
    }
    while let Some((&covered, &(its_end, its_offset))) = pieces.range(start..end).next() {
        pieces.remove(&covered);
        if its_end > end {
            pieces.insert(end, (its_end, its_offset + (end - covered)));
        }
    }
    pieces.insert(start, (end, offset));
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&word| u64::from_be_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_pieces_for_one_place_holds() {
        let mut pieces = BTreeMap::new();
        for (start, end, offset) in [(0, 10, 100), (20, 30, 200), (5, 25, 300), (7, 8, 400)] {
            insert(&mut pieces, start, end, offset);
        }
        let expected = [(0, (5, 100)), (5, (7, 300)), (7, (8, 400)), (8, (25, 303)), (25, (30, 205))];
        assert_eq!(pieces.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn pieces_are_put_in_order_and_those_alone_at_their_place_stay() {
        let extent = |address, size, offset| Extent { address, size, offset };
        let found = in_order(vec![extent(40, 5, 10), extent(0, 10, 20), extent(45, 5, 30), extent(4, 2, 40)]).unwrap();
        let expected = [extent(0, 4, 20), extent(4, 2, 40), extent(6, 4, 26), extent(40, 5, 10), extent(45, 5, 30)];
        assert_eq!(found, expected);
    }

    #[test]
    fn millions_of_pieces_for_one_place_are_refused() {
        let pieces =
            |of: u64, step: u64| (0..of).map(|i| Extent { address: i * step, size: 2, offset: 100 * i }).collect();
        let many = MAX_WRITTEN_AGAIN as u64 + 1;
        assert_eq!(in_order(pieces(many, 2)).unwrap().len() as u64, many);
        assert!(in_order(pieces(many, 1)).unwrap_err().to_string().contains("for places of others"));
    }
}
