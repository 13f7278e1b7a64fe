//! Rows by address, or other numbers.

/// The most bits of an address that one pass over the rows looks at.
const DIGIT: u32 = 13;

/// The numbers of these addresses, ascending by address, those of one address ascending by number.
///
/// A counting sort, digit by digit from the lowest: the addresses of a kernel's code differ in some 26 bits, so that two
/// passes do. Tables are nearly by address, object file by object file, which no merging of runs makes much of.
pub(crate) fn by_address(addresses: &[u64]) -> Vec<u32> {
    again(0..addresses.len() as u32, addresses)
}

/// These numbers by the addresses they stand for; those of one address stay in the order in which they come.
pub(crate) fn again(numbers: impl Iterator<Item = u32>, addresses: &[u64]) -> Vec<u32> {
    let low = addresses.iter().copied().min().unwrap_or(0);
    let high = addresses.iter().copied().max().unwrap_or(0);
    let bits = u64::BITS - (high - low).leading_zeros();
    let passes = bits.div_ceil(DIGIT).max(1);
    let digit = bits.div_ceil(passes);
    let offsets = numbers.map(|number| (addresses[number as usize] - low, number));
    if bits > u32::BITS {
        return sorted(offsets.collect(), passes, digit, |offset, from| offset >> from);
    }
    // Half as much to move.
    let offsets = offsets.map(|(offset, number)| (offset as u32, number));
    sorted(offsets.collect(), passes, digit, |offset, from| u64::from(offset >> from))
}

/// The numbers of these (key, number) by key: `shifted` moves a bit of a key to the lowest place.
fn sorted<K: Copy + Default>(
    mut keys: Vec<(K, u32)>,
    passes: u32,
    digit: u32,
    shifted: impl Fn(K, u32) -> u64,
) -> Vec<u32> {
    let mut next = vec![(K::default(), 0); keys.len()];
    let mut places = vec![0_u32; 1 << digit];
    let mask = places.len() - 1;
    for pass in 0..passes {
        let of = |key: K| shifted(key, pass * digit) as usize & mask;
        places.fill(0);
        for &(key, _) in &keys {
            places[of(key)] += 1;
        }
        let mut before = 0;
        for place in &mut places {
            before += std::mem::replace(place, before);
        }
        for &entry in &keys {
            let place = &mut places[of(entry.0)];
            next[*place as usize] = entry;
            *place += 1;
        }
        std::mem::swap(&mut keys, &mut next);
    }
    keys.into_iter().map(|(_, number)| number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_by_address_and_then_by_number(
            addresses in proptest::collection::vec(prop_oneof![any::<u64>(), 0xffff_ffff_8100_0000_u64..0xffff_ffff_8100_0100], 0..300),
        ) {
            let mut sorted: Vec<u32> = (0..addresses.len() as u32).collect();
            sorted.sort_by_key(|&number| addresses[number as usize]);
            prop_assert_eq!(by_address(&addresses), sorted);
        }
    }

    #[test]
    fn the_highest_and_the_lowest_address_there_can_be_are_in_order() {
        assert_eq!(by_address(&[u64::MAX, 0, 1 << 63, 0]), [1, 3, 2, 0]);
        assert!(by_address(&[]).is_empty());
    }
}
