//! The modules that a kernel has loaded: its list of them, read in memory.
//!
//! ```c
//! struct list_head modules;                   /* kernel/module/main.c; kernel/module.c before 5.19 */
//! struct module {                             /* include/linux/module.h */
//!         enum module_state state;
//!         struct list_head list;
//!         char name[MODULE_NAME_LEN];
//!         void __percpu *percpu;
//!         struct module_layout core_layout;   /* up to 6.3: base, size, text_size */
//!         struct module_memory mem[];         /* since 6.4: base, size; text, data, rodata, ro_after_init, … */
//! };
//! ```
//!
//! Where the members are, the kernel's BTF says. Memory may say anything: the walk is bounded, each step is checked against
//! the one before it, and an error names the module behind which the list is broken.

use std::collections::HashSet;

use super::location::Location;
use super::mapped::Mapped;
use super::read::Memory;
use crate::error::{Error, Result};
use crate::image::btf::Btf;
use crate::image::{Blocks, Image};

/// More modules than any kernel has loaded.
const MAX_MODULES: usize = 4096;
/// No `struct module` is longer.
const MAX_STRUCT: usize = 1 << 14;
/// No module is larger.
const MAX_SIZE: u64 = 256 << 20;
/// Longest name (`MODULE_NAME_LEN`: 64 less a `long`, so 56 or 60).
const MAX_NAME: usize = 60;
/// `MODULE_STATE_LIVE`.
const LIVE: u32 = 0;
const PAGE: u64 = 4096;

/// A module in memory. Addresses are run-time ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedModule {
    /// Its name.
    pub name: String,
    /// Where its `struct module` is.
    pub address: u64,
    /// Whether it is up: neither being loaded nor unloaded.
    pub live: bool,
    /// Where its code is: the first address, and how many bytes, in whole pages.
    pub text: (u64, u64),
    /// Bytes of all that stays loaded.
    pub size: u64,
    /// Where its sections were put.
    pub blocks: Blocks,
    /// Its per-CPU offset.
    pub percpu: u64,
}

/// Offsets of what is read, in bytes.
#[derive(Debug)]
struct Layout {
    size: usize,
    state: usize,
    list: usize,
    name: usize,
    percpu: Option<usize>,
    memory: Parts,
}

#[derive(Debug)]
enum Parts {
    /// Offsets of `base`, `size` and `text_size`.
    Core(usize, usize, usize),
    /// Offsets of `mem`; size of an element; offsets of `base` and `size` in it.
    Apart(usize, usize, usize, usize),
}

impl Layout {
    fn of(image: &Image) -> Result<Layout> {
        let Some(btf) = image.btf()? else {
            return Err(Error::memory("the image has no BTF, which says what a struct module looks like"));
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
            memory,
        })
    }
}

/// Size of a structure, and its members with their offsets, both in bytes.
fn members(btf: &Btf<'_>, name: &str) -> Result<(usize, Vec<(String, usize)>)> {
    let id = btf.find_struct(name).ok_or_else(|| Error::memory(format!("BTF has no struct {name}")))?;
    let members = btf.members(id)?.iter().map(|m| (m.name.to_owned(), m.bit_offset as usize / 8)).collect();
    Ok((btf.size_of(id)?, members))
}

/// The modules that are loaded, the newest first.
///
/// # Errors
/// Memory that cannot be read by virtual addresses, an image without BTF or without the symbol `modules`, a list that is
/// broken.
pub fn modules(memory: &Memory, found: &Location, image: &Image) -> Result<Vec<LoadedModule>> {
    list(memory, found, image).map_err(|error| error.in_file(memory.name()))
}

fn list(memory: &Memory, found: &Location, image: &Image) -> Result<Vec<LoadedModule>> {
    let mapped = Mapped::new(memory, found, image)?;
    let layout = Layout::of(image)?;
    let symbols = image.symbols()?;
    let mut trouble = None;
    // A name of statics too: the list is the one that holds together.
    for head in symbols.into_iter().flat_map(|symbols| symbols.addresses_of("modules")) {
        match walk(&mapped, &layout, image.bits().word(), head.wrapping_add(found.slide)) {
            Ok(modules) => return Ok(modules),
            Err(error) => trouble.get_or_insert(error),
        };
    }
    Err(trouble.unwrap_or_else(|| Error::memory("the image does not name its list of modules (symbol modules)")))
}

fn walk(mapped: &Mapped<'_>, layout: &Layout, word: usize, head: u64) -> Result<Vec<LoadedModule>> {
    let mut modules: Vec<LoadedModule> = Vec::new();
    let mut seen = HashSet::new();
    let mut buffer = vec![0; layout.size];
    let mut links = [0; 16];
    if !mapped.read(head, &mut links[..2 * word])? {
        return Err(Error::memory("the head of the list of modules could not be read").at_address(head));
    }
    let last = number(&links, word, word);
    let (mut before, mut node) = (head, number(&links, 0, word));
    while node != head {
        let address = node.wrapping_sub(layout.list as u64);
        let broken = |reason: &str| {
            let behind = modules.last().map_or("at its head".to_owned(), |m| format!("behind {}", m.name));
            Error::memory(format!("the list of modules is broken {behind}: {reason}")).at_address(address)
        };
        if !seen.insert(node) {
            return Err(broken("it comes back to a module it has already"));
        }
        if modules.len() == MAX_MODULES {
            return Err(broken("it has more modules than any kernel"));
        }
        if !mapped.read(address, &mut buffer)? {
            return Err(broken("the next struct module could not be read"));
        }
        if number(&buffer, layout.list + word, word) != before {
            return Err(broken("the next does not point back"));
        }
        let module = parse(layout, word, &buffer, address).map_err(|reason| broken(&reason))?;
        modules.push(module);
        (before, node) = (node, number(&buffer, layout.list, word));
    }
    if last != before {
        return Err(Error::memory("the list of modules does not end where its head says").at_address(head));
    }
    Ok(modules)
}

/// The number of this many bytes; 0 where they leave the structure.
fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    let mut number = [0; 8];
    if let Some(found) = at.checked_add(width).and_then(|end| bytes.get(at..end)) {
        number[..width].copy_from_slice(found);
    }
    u64::from_le_bytes(number)
}

fn parse(layout: &Layout, word: usize, bytes: &[u8], address: u64) -> std::result::Result<LoadedModule, String> {
    let name = bytes.get(layout.name..).unwrap_or_default();
    let name = &name[..name.len().min(MAX_NAME)];
    let name = name.split(|&b| b == 0).next().filter(|found| found.len() < name.len()).unwrap_or_default();
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return Err("the next has no name".to_owned());
    }
    let name = String::from_utf8_lossy(name).into_owned();
    let (blocks, text, size) = match layout.memory {
        Parts::Core(base, size, text) => {
            let base = number(bytes, base, word);
            let (size, text) = (number(bytes, size, 4), number(bytes, text, 4));
            (Blocks::Together(base), (base, text), size)
        }
        Parts::Apart(at, stride, base, size) => {
            let part =
                |i: usize| (number(bytes, at + i * stride + base, word), number(bytes, at + i * stride + size, 4));
            // `enum mod_mem_type`: text, data, rodata, data that is read-only after init.
            let (text, data, rodata, ro_after_init) = (part(0), part(1), part(2), part(3));
            let size = text.1 + data.1 + rodata.1 + ro_after_init.1;
            (Blocks::Apart { text: text.0, rodata: rodata.0, ro_after_init: ro_after_init.0, data: data.0 }, text, size)
        }
    };
    let end = text.0.checked_add(size.max(text.1));
    if size > MAX_SIZE || text.1 > size || text.0 % PAGE != 0 || end.is_none() {
        return Err(format!("{name} has {} bytes of code of {size} at {:#x}", text.1, text.0));
    }
    let percpu = layout.percpu.map_or(0, |at| number(bytes, at, word));
    Ok(LoadedModule { name, address, live: number(bytes, layout.state, 4) as u32 == LIVE, text, size, blocks, percpu })
}
