//! Data that the image does not name (kallsyms lists functions alone: `CONFIG_KALLSYMS_ALL=n`): the code of functions that
//! are named has their addresses.

use crate::error::Result;
use crate::image::kallsyms::Symbols;
use crate::image::{Image, code_addresses};

/// Data, and a function whose code has no other address of what is written to.
const HELD: [(&str, &str); 5] = [
    // kernel/kprobes.c: `head = &kprobe_table[hash_ptr(addr, KPROBE_HASH_BITS)]`.
    ("kprobe_table", "get_kprobe"),
    // kernel/kprobes.c: `if (!kprobes_all_disarmed)`.
    ("kprobes_all_disarmed", "read_enabled_file_bool"),
    // kernel/trace/ftrace.c: `for (pg = ftrace_pages_start; pg; pg = pg->next)`, in a function of its own since 5.8.
    ("ftrace_pages_start", "lookup_rec"),
    ("ftrace_pages_start", "ftrace_location_range"),
    // kernel/module.c, kernel/module/main.c: `list_for_each_entry_rcu(mod, &modules, list)`.
    ("modules", "find_module_all"),
];

/// Where some data are, as linked: by their name, or by the code that has their address.
pub(super) fn address_of(image: &Image, symbols: &Symbols, name: &str) -> Result<Option<u64>> {
    if let Some(address) = symbols.address_of(name) {
        return Ok(Some(address));
    }
    for (_, function) in HELD.iter().filter(|&&(data, _)| data == name) {
        if let Some(address) = only(image, &code_addresses(image, symbols, function)?) {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// The one address of what is written to; `None` where there is none, or several.
fn only(image: &Image, held: &[u64]) -> Option<u64> {
    let written = |address: &&u64| {
        let data = |name: &str| !name.starts_with(".data..percpu");
        image.sections().iter().any(|s| s.contains(**address) && s.writable && !s.executable && data(&s.name))
    };
    let mut addresses = held.iter().filter(written);
    let first = addresses.next()?;
    addresses.all(|address| address == first).then_some(*first)
}
