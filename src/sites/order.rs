//! Rows by address.

/// The most bits of an address that one pass over the rows looks at.
const DIGIT: u32 = 13;

/// The numbers of these addresses, ascending by address, those of one address ascending by number.
///
/// A counting sort, digit by digit from the lowest: the addresses of a kernel's code differ in some 26 bits, so that two
/// passes do. Tables are nearly by address, object file by object file, which no merging of runs makes much of.
pub(super) fn by_address(addresses: &[u64]) -> Vec<u32> {
    let low = addresses.iter().copied().min().unwrap_or(0);
    let high = addresses.iter().copied().max().unwrap_or(0);
    let bits = u64::BITS - (high - low).leading_zeros();
    let passes = bits.div_ceil(DIGIT).max(1);
    let digit = bits.div_ceil(passes);
    let mut order: Vec<u32> = (0..addresses.len() as u32).collect();
    let mut next = vec![0; order.len()];
    for pass in 0..passes {
        let of = |&number: &u32| ((addresses[number as usize] - low) >> (pass * digit)) as usize & ((1 << digit) - 1);
        let mut places = vec![0_u32; 1 << digit];
        for number in &order {
            places[of(number)] += 1;
        }
        let mut before = 0;
        for place in &mut places {
            before += std::mem::replace(place, before);
        }
        for number in &order {
            let place = &mut places[of(number)];
            next[*place as usize] = *number;
            *place += 1;
        }
        std::mem::swap(&mut order, &mut next);
    }
    order
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
