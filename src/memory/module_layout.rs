//! Where `struct module` has what is read of it: by BTF; where an image has none, as it was declared, if one layout alone fits
//! every module there is.
//!
//! | release | where its memory is |
//! |---|---|
//! | to 4.4 | `module_init`, `module_core`; `init_size`, `core_size`, `init_text_size`, `core_text_size` |
//! | 4.5 to 6.3 | `core_layout`: `base`; `size`, `text_size` (7523e4dc5057) |
//! | since 6.4 | `mem[]`: `base`, `size` each; text, data, rodata, ro_after_init, … (ac3b43283923) |
//!
//! `state`, `list` and `name` have been its first members since 2.6. How far behind them the rest is hangs on the kernel's
//! options, so it is looked for. What fits is told by what holds of every module: its memory begins at a page, it has code
//! and no more of it than memory, and `struct module` itself is in its data (`.gnu.linkonce.this_module`).

use crate::error::{Error, Result};
use crate::image::btf::Btf;
use crate::image::{Blocks, Image};
use crate::numbers::unsigned;

/// No `struct module` is longer.
pub(super) const MAX_STRUCT: usize = 1 << 14;
/// No module is larger.
const MAX_SIZE: u64 = 256 << 20;
const PAGE: u64 = 4096;
/// How far into a `struct module` its memory is looked for.
const FARTHEST: usize = 0x600;
/// Behind `name`: `MODULE_NAME_LEN` is 64 less a `long`.
const NAME_END: usize = 64;

/// Offsets of what is read, in bytes.
#[derive(Debug)]
pub(super) struct Layout {
    pub size: usize,
    pub state: usize,
    pub list: usize,
    pub name: usize,
    pub percpu: Option<usize>,
    /// `None` where it has to be looked for.
    pub memory: Option<Parts>,
}

/// Offsets of what says where a module's memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// Offsets of `base`, `size` and `text_size`.
    Core(usize, usize, usize),
    /// Offsets of `mem`; size of an element; offsets of `base` and `size` in it.
    Apart(usize, usize, usize, usize),
}

/// Where a module's memory is: its sections; its code, and how much; how much in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub blocks: Blocks,
    pub text: (u64, u64),
    pub size: u64,
}

impl Layout {
    pub fn of(image: &Image) -> Result<Layout> {
        let Some(btf) = image.btf()? else {
            let word = image.bits().word();
            return Ok(Layout { size: FARTHEST, state: 0, list: word, name: 3 * word, percpu: None, memory: None });
        };
        let (size, module) = members(&btf, "module")?;
        let offset = |name: &str| {
            let found = module.iter().find(|(member, _)| member == name).map(|&(_, at)| at);
            found.ok_or_else(|| Error::memory(format!("BTF: struct module has no member {name}")))
        };
        let inner = |of: &str, name: &str| {
            let (_, members) = members(&btf, of)?;
            let found = members.iter().find(|(member, _)| member == name).map(|&(_, at)| at);
            found.ok_or_else(|| Error::memory(format!("BTF: struct {of} has no member {name}")))
        };
        let memory = match offset("core_layout") {
            Ok(core) => {
                let at = |name: &str| Ok::<_, Error>(core + inner("module_layout", name)?);
                Parts::Core(at("base")?, at("size")?, at("text_size")?)
            }
            Err(_) => {
                let (size, _) = members(&btf, "module_memory")?;
                Parts::Apart(offset("mem")?, size, inner("module_memory", "base")?, inner("module_memory", "size")?)
            }
        };
        if size > MAX_STRUCT {
            return Err(Error::memory(format!("BTF: a struct module of {size} bytes")));
        }
        Ok(Layout {
            size,
            state: offset("state")?,
            list: offset("list")?,
            name: offset("name")?,
            percpu: offset("percpu").ok(),
            memory: Some(memory),
        })
    }
}

/// Size of a structure, and its members with their offsets, both in bytes.
fn members(btf: &Btf<'_>, name: &str) -> Result<(usize, Vec<(String, usize)>)> {
    let id = btf.find_struct(name).ok_or_else(|| Error::memory(format!("BTF has no struct {name}")))?;
    let members = btf.members(id)?.iter().map(|m| (m.name.to_owned(), m.bit_offset as usize / 8)).collect();
    Ok((btf.size_of(id)?, members))
}

/// The number of this many bytes; 0 where they leave the structure.
pub(super) fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    at.checked_add(width).and_then(|end| bytes.get(at..end)).and_then(unsigned).unwrap_or(0)
}

impl Parts {
    /// What a `struct module` says of its memory.
    ///
    /// # Errors
    /// No module's memory is like that.
    pub fn read(self, word: usize, bytes: &[u8]) -> std::result::Result<Extent, String> {
        let found = match self {
            Parts::Core(base, size, text) => {
                let base = number(bytes, base, word);
                let (size, text) = (number(bytes, size, 4), number(bytes, text, 4));
                Extent { blocks: Blocks::Together(base), text: (base, text), size }
            }
            Parts::Apart(at, stride, base, size) => {
                let part =
                    |i: usize| (number(bytes, at + i * stride + base, word), number(bytes, at + i * stride + size, 4));
                // `enum mod_mem_type`: text, data, rodata, data that is read-only after init.
                let (text, data, rodata, ro_after_init) = (part(0), part(1), part(2), part(3));
                let size = text.1 + data.1 + rodata.1 + ro_after_init.1;
                let (text_at, rodata, ro_after_init, data) = (text.0, rodata.0, ro_after_init.0, data.0);
                Extent { blocks: Blocks::Apart { text: text_at, rodata, ro_after_init, data }, text, size }
            }
        };
        let (text, size) = (found.text, found.size);
        let end = text.0.checked_add(size.max(text.1));
        if size > MAX_SIZE || text.1 > size || text.0 % PAGE != 0 || end.is_none() {
            return Err(format!("{} bytes of code of {size} at {:#x}", text.1, text.0));
        }
        Ok(found)
    }

    /// Whether a structure at this address may be a module that is up, if its memory is told here.
    fn fits(self, word: usize, bytes: &[u8], address: u64) -> Option<Extent> {
        let found = self.read(word, bytes).ok()?;
        let kernels = |base: u64| base.is_multiple_of(PAGE) && base >> (8 * word - 2) != 0;
        let within = |base: u64, size: u64| kernels(base) && address.wrapping_sub(base) < size;
        let fits = match self {
            Parts::Core(..) => within(found.text.0, found.size),
            Parts::Apart(at, stride, base, size) => (1..4).all(|i| {
                let start = number(bytes, at + i * stride + base, word);
                let len = number(bytes, at + i * stride + size, 4);
                // What has no memory was never allocated.
                if i == 1 { within(start, len) } else { start == 0 && len == 0 || kernels(start) && len > 0 }
            }),
        };
        (fits && kernels(found.text.0) && found.text.1 > 0).then_some(found)
    }

    /// Where memory is told in each of these structures, by address and bytes: as the only layout says that fits them all.
    pub fn search(word: usize, structures: &[(u64, Vec<u8>)]) -> Result<Vec<Extent>> {
        let mut fitting: Vec<Vec<Extent>> = Vec::new();
        for at in (3 * word + NAME_END - word..FARTHEST).step_by(word) {
            for parts in Parts::declared(at, word) {
                let read = |(address, bytes): &(u64, Vec<u8>)| parts.fits(word, bytes, *address);
                let found: Option<Vec<Extent>> = structures.iter().map(read).collect();
                if let Some(found) = found.filter(|found| !fitting.contains(found)) {
                    fitting.push(found);
                }
            }
        }
        match fitting.pop() {
            Some(found) if fitting.is_empty() => Ok(found),
            found => Err(Error::memory(format!(
                "the image has no BTF, and {} of struct module as they were declared fits all modules",
                if found.is_none() { "none of the layouts" } else { "more than one of the layouts" }
            ))),
        }
    }

    /// The layouts that releases had at an offset, of `module_core` and what came of it.
    fn declared(at: usize, word: usize) -> impl Iterator<Item = Parts> {
        let old = Parts::Core(at + word, at + 2 * word + 4, at + 2 * word + 12);
        let core = Parts::Core(at, at + word, at + word + 4);
        // Behind `size`, with CONFIG_MODULES_TREE_LOOKUP, a pointer and two `struct rb_node`. Before it `is_rox` since 6.13,
        // in some releases behind a pointer.
        let tree = [0, 7 * word];
        let sizes = [word, word + 4, 2 * word + 4];
        let apart = tree.into_iter().flat_map(move |tree| {
            let element = move |size: usize| (size + 4).next_multiple_of(word) + tree;
            sizes.into_iter().map(move |size| Parts::Apart(at, element(size), 0, size))
        });
        [old, core].into_iter().chain(apart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Modules whose memory is told like this at 0x150, with some pointers around it.
    fn structures(word: usize, parts: Parts) -> Vec<(u64, Vec<u8>)> {
        let top = if word == 8 { 0xffff_ffff_c000_0000u64 } else { 0xf800_0000 };
        let made = [0u64, 1, 5].map(|i| {
            let (base, data) = (top + i * 0x10_0000, top + 0x4000 + i * 0x10_0000);
            let mut bytes = vec![0; FARTHEST];
            let mut put = |at: usize, value: u64, width: usize| {
                bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            };
            for at in (0x80..0x140).step_by(word) {
                put(at, data + at as u64 * 3, word);
            }
            put(0x500, base + 0x123, word);
            match parts {
                Parts::Core(at, size, text) => {
                    put(at, base, word);
                    put(size, 0x7000, 4);
                    put(text, 0x2000 + 0x1000 * (i % 2), 4);
                }
                Parts::Apart(at, stride, start, size) => {
                    for (kind, (place, len)) in
                        [(base, 0x2000), (data, 0x3000), (base + 0x8000, 0x1000), (0, 0)].into_iter().enumerate()
                    {
                        put(at + kind * stride + start, place, word);
                        put(at + kind * stride + size, len, 4);
                    }
                }
            }
            (data + 0x240, bytes)
        });
        made.to_vec()
    }

    #[test]
    fn each_layout_that_was_declared_is_found_by_what_holds_of_all_modules() {
        for word in [4, 8] {
            for parts in Parts::declared(0x150, word) {
                let structures = structures(word, parts);
                let found = Parts::search(word, &structures).unwrap();
                let told: Vec<Extent> = structures.iter().map(|(_, bytes)| parts.read(word, bytes).unwrap()).collect();
                assert_eq!(found, told, "{parts:?}");
            }
        }
    }

    #[test]
    fn data_at_the_end_of_the_address_space_are_no_overflow() {
        let parts = Parts::Apart(0x150, 16, 0, 8);
        let mut last = structures(8, parts);
        for (_, bytes) in &mut last {
            bytes[0x160..0x168].copy_from_slice(&0xffff_ffff_ffff_f000u64.to_le_bytes());
        }
        assert!(Parts::search(8, &last).unwrap_err().reason.contains("none of the layouts"));
    }

    #[test]
    fn what_fits_no_module_or_is_told_twice_is_said() {
        let parts = Parts::Core(0x150, 0x158, 0x15c);
        let mut none = structures(8, parts);
        none[1].0 = 0xffff_ffff_a000_0000;
        assert!(Parts::search(8, &none).unwrap_err().reason.contains("none of the layouts"));
        let mut twice = structures(8, parts);
        for (_, bytes) in &mut twice {
            let told = bytes[0x150..0x160].to_vec();
            bytes[0x300..0x310].copy_from_slice(&told);
            bytes[0x308] = 1;
        }
        assert!(Parts::search(8, &twice).unwrap_err().reason.contains("more than one"));
    }
}
