//! Opens hostile bytes and touches all that can be: what the fuzz targets and the hostile-input tests call.
//!
//! Nothing here judges whether the bytes should open. It is a bug if anything panics, hangs, or breaks a promise of
//! [`Image`] to the rooms that build on it; those promises are asserted.

use super::opened::Image;
use super::unpack::Compression;

/// Small enough that a compression bomb costs a test milliseconds.
const LIMIT: usize = 8 << 20;

/// Opens `data` as a file and touches all of it.
pub fn open(data: &[u8]) {
    match Image::from_bytes_at_most("hostile", data.to_vec(), LIMIT) {
        Ok(image) => touch(&image),
        Err(error) => assert!(error.to_string().starts_with("hostile: "), "{error} does not name the file"),
    }
}

/// Opens `data` as a file; if it begins a compressed stream, as the payload of a bzImage too.
pub fn unpack(data: &[u8]) {
    open(data);
    if Compression::detect(data).is_some() {
        let mut file = vec![0; 0x400];
        file[0x1f1] = 1;
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        file[0x24c..0x250].copy_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
        file.extend_from_slice(data);
        open(&file);
    }
}

fn touch(image: &Image) {
    let sections = image.sections();
    for section in sections {
        let bytes = image.section_bytes(section);
        assert_eq!(bytes.len() as u64, if section.bits_present { section.size } else { 0 }, "{section:?}");
        if !section.allocated || section.size == 0 {
            continue;
        }
        let last = section.end().wrapping_sub(1);
        assert_eq!(image.section_at(section.address), Some(section));
        assert_eq!(image.section_at(last), Some(section));
        assert_eq!(image.read(section.address, bytes.len()), section.bits_present.then_some(bytes));
        assert_eq!(image.read(last, 1).is_some(), section.bits_present);
        assert_eq!(image.read(last, 2), None);
        assert_eq!(image.read(section.address, usize::MAX), None);
        let _ = image.read_word(section.address);
    }
    for address in [0, 1, u64::MAX, 1 << 63, 0xffff_ffff_8100_0000] {
        let _ = (image.section_at(address), image.read(address, 1), image.read_word(address));
    }
    for segment in image.segments() {
        let _ = image.read(segment.address, 1);
    }
    if let Some(banner) = image.banner() {
        assert!(image.is_module() || image.release().is_some_and(|release| banner.contains(release)));
    }
    let _ = (image.config(), image.trailer(), image.container().to_string());
    if let Ok(Some(relocations)) = image.relocations() {
        for field in relocations.all() {
            assert_eq!(relocations.touching(field.address, field.end()), [*field]);
        }
    }
    for symbol in image.elf_symbols().flatten() {
        assert!(!symbol.name.contains('\0'));
    }
}
