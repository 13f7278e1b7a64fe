//! Opens hostile memory and touches all that can be: what the fuzz targets and the hostile-input tests call.

use super::read::Memory;
use crate::image::Image;

/// Opens `data` as a dump and looks for an image in it; whatever comes, no promise may be broken.
pub fn open(image: &Image, data: &[u8]) {
    let memory = match Memory::from_bytes("hostile", data.to_vec()) {
        Ok(memory) => memory,
        Err(error) => {
            assert!(error.to_string().starts_with("hostile: "), "{error} does not name the file");
            return;
        }
    };
    for pair in memory.physical().extents().windows(2) {
        assert!(pair[0].address + pair[0].size <= pair[1].address, "{pair:?} overlap");
    }
    match memory.find(image, &mut |_, _| Ok(())) {
        Ok(found) => {
            for section in image.sections().iter().filter(|section| section.allocated) {
                let Ok(held) = found.read(&memory, image, section.address..section.end()) else { continue };
                assert_eq!(held.bytes.len() as u64, section.size);
                assert!(held.unread.iter().all(|gap| section.address <= gap.start && gap.end <= section.end()));
            }
        }
        Err(error) => assert!(error.to_string().starts_with("hostile: "), "{error} does not name the file"),
    }
}
