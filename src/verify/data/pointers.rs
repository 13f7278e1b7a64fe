//! Pointers to functions among what the kernel writes: `.data`, and what is read-only after boot. Where the file has the
//! address of a function, memory has that of one, or none: the kernel's own code puts another of its functions there (of
//! some 10,000 in `.data` a boot changes ten to a hundred), of which it has the address then; modules put theirs. What security modules have in their lists of
//! hooks stays: `security_add_hooks()` links these and writes no function (security/security.c).

use std::ops::Range;

use super::taken::taken;
use crate::error::Result;
use crate::image::Image;
use crate::memory::{Location, Memory, is_read};
use crate::sites::reserved::PREAMBLES;

/// A pointer to what is no function, or one that the kernel has the address of nowhere.
pub(super) struct Stray {
    /// Where it is, as linked.
    pub address: u64,
    /// The function that the file has.
    pub built: u64,
    /// What memory has, moved back as the kernel moved.
    pub found: u64,
}

/// Pointers to functions of one stretch of data.
#[derive(Default)]
pub(super) struct Pointers {
    /// How many could be read.
    pub count: u64,
    pub strays: Vec<Stray>,
}

/// How the names end of the lists of hooks of security modules, `selinux_hooks`, `safesetid_security_hooks`; and of the
/// table of the calls of all hooks (since 6.12).
const HOOKS: [&str; 2] = ["_hooks", "static_calls_table"];

/// Looks at the pointers to functions in a range of addresses; none, where the image does not say where pointers are. In what
/// is read-only after boot those of lists of hooks have to be the file's.
pub(super) fn pointers(
    memory: &Memory,
    found: &Location,
    image: &Image,
    range: Range<u64>,
    read_only: bool,
) -> Result<Pointers> {
    let Range { start, end } = range;
    let (word, most) = (image.bits().word(), image.bits().max_address());
    let mut pointers = Pointers::default();
    let Some(relocations) = image.relocations()?.filter(|_| start < end) else { return Ok(pointers) };
    let symbols = image.symbols()?;
    let held = found.read(memory, image, range)?;
    let stays = |field: u64| {
        let named = |name: &str| HOOKS.iter().any(|end| name.ends_with(end));
        read_only && symbols.and_then(|symbols| symbols.at(field)).is_some_and(|(name, _)| named(name))
    };
    // What slots of ops hold is asked of the backends.
    let is_op = |field: u64| {
        let named =
            |(name, _): (&str, u64)| name.starts_with("pv_") && name.ends_with("_ops") || name == "paravirt_ops";
        symbols.and_then(|symbols| symbols.at(field)).is_some_and(named)
    };
    let mut others = Vec::new();
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number: u64, &byte| number << 8 | u64::from(byte));
    for field in relocations.touching(start, end) {
        let inside = field.address >= start && field.end() <= end && field.kind.width() == word;
        let Some(built) = image.read(field.address, word).filter(|_| inside) else { continue };
        if !is_read(&held.unread, field.address, field.end()) || !is_code(image, number(built)) {
            continue;
        }
        pointers.count += 1;
        let bytes = &held.bytes[(field.address - start) as usize..][..word];
        // What holds the linked address plus the slide was handed out as linked.
        if held.strays.binary_search_by_key(&field.address, |stray| stray.address).is_err() && bytes == built {
            continue;
        }
        let address = number(bytes).wrapping_sub(found.slide) & most;
        let begins = || symbols.and_then(|symbols| symbols.at(address)).is_none_or(is_function);
        let stray = Stray { address: field.address, built: number(built), found: address };
        if stays(field.address) || number(bytes) != 0 && !(is_code(image, address) && begins()) {
            pointers.strays.push(stray);
        } else if number(bytes) != 0 && !is_op(field.address) && symbols.is_some_and(|s| s.at(address).is_some()) {
            others.push(stray);
        }
    }
    let taken = taken(image, others.iter().map(|other| other.found))?;
    pointers.strays.extend(others.into_iter().filter(|other| taken.get(&other.found) == Some(&false)));
    pointers.strays.sort_unstable_by_key(|stray| stray.address);
    Ok(pointers)
}

/// Whether that is a function's first byte, by the symbol before it and how far behind that it is.
fn is_function((name, offset): (&str, u64)) -> bool {
    offset == 0 && !PREAMBLES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the image has code at an address: the linker marks 7.2's `.data` as code too.
pub(super) fn is_code(image: &Image, address: u64) -> bool {
    image.section_at(address).is_some_and(|section| section.executable && section.name != ".data")
}
