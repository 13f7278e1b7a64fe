//! Relocated fields that an alternative brought to its site.
//!
//! A replacement is relocated where it lies, and then copied: `apply_alternatives()` leaves the KASLR offset in a field that
//! no relocation names. Memory is handed out as linked, so there it is taken away too. A distance from the code that was
//! copied is moved by the way from the replacement to the site (`apply_relocation()`).

use crate::image::{Image, RelocationKind};
use crate::memory::LinkedBytes;
use crate::sites::Tables;

/// Makes fields that were copied with replacements as if the kernel had not slid, in bytes that otherwise are. Strays that
/// are such fields are none any more.
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
                // What is relative to the code that has it.
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
