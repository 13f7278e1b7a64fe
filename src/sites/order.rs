//! Rows by address, or other numbers.

/// The most bits of an address that one pass over the rows looks at.
const DIGIT: u32 = 13;
/// As many places as any digit has: of an array of so many none need be looked up with care.
const PLACES: usize = 1 << DIGIT;

/// The numbers of these addresses, ascending by address, those of one address ascending by number.
///
/// A counting sort, digit by digit from the lowest: the addresses of a kernel's code differ in some 26 bits, so that two
/// passes do. Tables are nearly by address, object file by object file, which no merging of runs makes much of.
pub(crate) fn by_address(addresses: &[u64]) -> Vec<u32> {
    let bounds = |(low, high): (u64, u64), &address: &u64| (low.min(address), high.max(address));
    let (low, high) = addresses.iter().fold((u64::MAX, 0), bounds);
    let bits = u64::BITS - high.saturating_sub(low).leading_zeros();
    let offsets = || addresses.iter().map(|address| address.wrapping_sub(low)).zip(0..);
    if bits > u32::BITS {
        return sorted(offsets().collect(), bits, |offset, from| offset >> from);
    }
    // Half as much to move.
    sorted(offsets().map(|(offset, number)| (offset as u32, number)).collect(), bits, |offset, from| {
        u64::from(offset >> from)
    })
}

/// The numbers of these (key, number) by key: `shifted` moves a bit of a key to the lowest place.
fn sorted<K: Copy + Default>(mut keys: Vec<(K, u32)>, bits: u32, shifted: impl Fn(K, u32) -> u64) -> Vec<u32> {
    let passes = bits.div_ceil(DIGIT).max(1);
    let digit = bits.div_ceil(passes);
    let mut next = vec![(K::default(), 0); keys.len()];
    for pass in 0..passes {
        let mut places = [0_u32; PLACES];
        let (from, mask) = (pass * digit, (1 << digit) - 1);
        let of = |key: K| shifted(key, from) as usize & mask & (PLACES - 1);
        for &(key, _) in &keys {
            places[of(key)] += 1;
        }
        let mut before = 0;
        for place in &mut places[..=mask] {
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
