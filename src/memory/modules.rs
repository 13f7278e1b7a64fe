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
//! Where the members are, `module_layout` says. Memory may say anything: the walk is bounded, each step is checked against
//! the one before it, and an error names the module behind which the list is broken.

use std::collections::HashSet;

use super::location::Location;
use super::mapped::Mapped;
use super::module_layout::{Extent, Layout, Parts, number};
use super::read::Memory;
use super::unnamed;
use crate::error::{Error, Result};
use crate::image::{Blocks, Image};

/// More modules than any kernel has loaded.
const MAX_MODULES: usize = 4096;
/// Longest name (`MODULE_NAME_LEN`: 64 less a `long`, so 56 or 60).
const MAX_NAME: usize = 60;
/// `MODULE_STATE_LIVE`.
const LIVE: u32 = 0;

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
    /// Its per-CPU offset; `None` where the image has no BTF, which says where that is.
    pub percpu: Option<u64>,
}

/// The modules that are loaded, the newest first.
///
/// # Errors
/// Memory that cannot be read by virtual addresses, an image without the symbol `modules`, a list that is broken, or of whose
/// structures nothing tells what they look like.
pub fn modules(memory: &Memory, found: &Location, image: &Image) -> Result<Vec<LoadedModule>> {
    list(memory, found, image).map_err(|error| error.in_file(memory.name()))
}

fn list(memory: &Memory, found: &Location, image: &Image) -> Result<Vec<LoadedModule>> {
    let mapped = Mapped::new(memory, found, image)?;
    let layout = Layout::of(image)?;
    let symbols = image.symbols()?;
    let mut trouble = None;
    // A name of statics too: the list is the one that holds together.
    let mut heads: Vec<u64> = symbols.into_iter().flat_map(|symbols| symbols.addresses_of("modules")).collect();
    if let Some(symbols) = symbols.filter(|_| heads.is_empty()) {
        heads.extend(unnamed::address_of(image, symbols, "modules")?);
    }
    for head in heads {
        match walk(&mapped, &layout, image.bits().word(), head.wrapping_add(found.slide)) {
            Ok(modules) => return Ok(modules),
            Err(error) => trouble.get_or_insert(error),
        };
    }
    Err(trouble.unwrap_or_else(|| Error::memory("the image does not name its list of modules (symbol modules)")))
}

fn walk(mapped: &Mapped<'_>, layout: &Layout, word: usize, head: u64) -> Result<Vec<LoadedModule>> {
    let mut modules: Vec<LoadedModule> = Vec::new();
    // Of those whose layout has to be looked for.
    let mut structures = Vec::new();
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
        buffer.fill(0);
        // Nobody knows how long one is whose layout has to be looked for.
        let needed = if layout.memory.is_some() { layout.size } else { layout.name + MAX_NAME };
        let unread = mapped.fill(address, &mut buffer)?;
        if unread.first().is_some_and(|gap| gap.start.wrapping_sub(address) < needed as u64) {
            return Err(broken("the next struct module could not be read"));
        }
        if number(&buffer, layout.list + word, word) != before {
            return Err(broken("the next does not point back"));
        }
        let module = parse(layout, word, &buffer, address).map_err(|reason| broken(&reason))?;
        modules.push(module);
        (before, node) = (node, number(&buffer, layout.list, word));
        if layout.memory.is_none() {
            structures.push((address, buffer.clone()));
        }
    }
    if last != before {
        return Err(Error::memory("the list of modules does not end where its head says").at_address(head));
    }
    if !structures.is_empty() {
        for (module, extent) in modules.iter_mut().zip(Parts::search(word, &structures)?) {
            module.put(extent);
        }
    }
    Ok(modules)
}

impl LoadedModule {
    fn put(&mut self, Extent { blocks, text, size }: Extent) {
        (self.blocks, self.text, self.size) = (blocks, text, size);
    }
}

fn parse(layout: &Layout, word: usize, bytes: &[u8], address: u64) -> std::result::Result<LoadedModule, String> {
    let name = bytes.get(layout.name..).unwrap_or_default();
    let name = &name[..name.len().min(MAX_NAME)];
    let name = name.split(|&b| b == 0).next().filter(|found| found.len() < name.len()).unwrap_or_default();
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return Err("the next has no name".to_owned());
    }
    let name = String::from_utf8_lossy(name).into_owned();
    let live = number(bytes, layout.state, 4) as u32 == LIVE;
    let percpu = layout.percpu.map(|at| number(bytes, at, word));
    let blocks = Blocks::Together(0);
    let mut module = LoadedModule { name, address, live, text: (0, 0), size: 0, blocks, percpu };
    if let Some(parts) = layout.memory {
        module.put(parts.read(word, bytes).map_err(|reason| format!("{} has {reason}", module.name))?);
    }
    Ok(module)
}
