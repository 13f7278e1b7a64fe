//! Relocated fields that were copied to a site with an alternative's replacement.
//!
//! A replacement is relocated where it lies, and then copied: `apply_alternatives()` leaves the KASLR offset in a field that
//! no relocation names. Memory is handed out as linked, so the offset is subtracted there too. A field that is relative to
//! its own place also changes by the distance from the replacement to the site (`apply_relocation()`).

use crate::image::{Image, RelocationKind};
use crate::memory::LinkedBytes;
use crate::sites::Tables;

/// Moves the fields that were copied with replacements back to linked addresses; all other fields of these bytes are moved
/// back already. A field that was listed as a stray and is such a copy is taken off the list.
pub fn unslide(held: &mut LinkedBytes, image: &Image, tables: &Tables, slide: u64) {
    let (Some(table), Ok(Some(relocations))) = (&tables.alternatives, image.relocations()) else { return };
    if slide == 0 {
        return;
    }
    let end = held.address.saturating_add(held.bytes.len() as u64);
    for row in &table.rows {
        let site_end = row.address.saturating_add(u64::from(row.len));
        if row.address < held.address || site_end > end {
            continue;
        }
        let behind = row.replacement.saturating_add(u64::from(row.replacement_len));
        for field in relocations.touching(row.replacement, behind) {
            let width = field.kind.width();
            let Some(at) = field.address.checked_sub(row.replacement).and_then(|at| row.address.checked_add(at)) else {
                continue;
            };
            let Some(linked) = image.read(field.address, width).filter(|_| at + width as u64 <= site_end) else {
                continue;
            };
            let own = relocations.touching(at, at + width as u64);
            if own.iter().any(|own| !held.strays.contains(own)) {
                continue;
            }
            let mut linked = linked.to_vec();
            if field.kind == RelocationKind::Inverse32 {
                // The field is relative to its own place.
                RelocationKind::Word32.apply(&mut linked, field.address.wrapping_sub(at));
            }
            let mut moved = linked.clone();
            field.kind.apply(&mut moved, slide);
            let place = (at - held.address) as usize;
            if held.bytes.get(place..place + width) == Some(&moved) {
                held.bytes[place..place + width].copy_from_slice(&linked);
                let copied = at..at + width as u64;
                held.strays.retain(|stray| !(copied.start <= stray.address && stray.end() <= copied.end));
            }
        }
    }
}
