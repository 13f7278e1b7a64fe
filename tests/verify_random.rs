//! The verifier is the checker of the passes, as an allocator of registers has one: rows and machines at random, planned,
//! applied, and explained in every byte; one byte changed is found where it is. The fuzz target `verify` does the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod elfwriter;
#[path = "verify_support/random.rs"]
mod random;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_the_passes_write_is_explained_and_one_byte_is_found(choices in prop::collection::vec(any::<u8>(), 0..600)) {
        random::check(&choices);
    }
}

#[test]
fn without_any_choice_there_is_a_kernel_and_a_machine() {
    random::check(&[]);
}
