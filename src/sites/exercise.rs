//! Reads the tables of hostile images: what the fuzz target and the hostile-input tests call. What is done with them is in
//! [`crate::patch::exercise`].
//!
//! It is a bug if anything panics, hangs, or breaks a promise that later rooms build on; those are asserted.

use super::listing::listing;
use super::paravirt::ParavirtTable;
use crate::image::Image;

/// Small enough that a compression bomb costs a test milliseconds.
const LIMIT: usize = 8 << 20;

/// Opens `data` as a kernel, and lists its paravirt sites if it has any.
pub fn table(data: &[u8]) {
    let Ok(image) = Image::from_bytes_at_most("hostile", data.to_vec(), LIMIT) else { return };
    match ParavirtTable::read(&image) {
        Ok(Some(table)) => {
            let _ = table.ops_address(image.bits());
            let lines = listing(&image, &table.sites, &[], &|_| None);
            assert_eq!(lines.lines().count(), table.sites.len());
        }
        Ok(None) => {}
        Err(error) => assert!(error.to_string().starts_with("hostile: .parainstructions"), "{error}"),
    }
}
