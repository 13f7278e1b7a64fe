//! Data that the image does not name (kallsyms lists functions alone: `CONFIG_KALLSYMS_ALL=n`): the code of functions that
//! are named has their addresses.

use crate::error::Result;
use crate::image::Image;
use crate::image::kallsyms::Symbols;
use crate::insn::addresses;

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
/// The longest function that is looked at.
const LONGEST: u64 = 1 << 12;

/// Where some data are, as linked: by their name, or by the code that has their address.
pub(super) fn address_of(image: &Image, symbols: &Symbols, name: &str) -> Result<Option<u64>> {
    if let Some(address) = symbols.address_of(name) {
        return Ok(Some(address));
    }
    for (_, function) in HELD.iter().filter(|&&(data, _)| data == name) {
        if let Some(start) = symbols.address_of(function)
            && let Some(address) = only(image, symbols, start)?
        {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// The one address of what is written to that the code of a function has; `None` where it has none, or several.
fn only(image: &Image, symbols: &Symbols, start: u64) -> Result<Option<u64>> {
    let end = symbols.addresses().find(|&address| address > start).unwrap_or(start).min(start.saturating_add(LONGEST));
    let Some(code) = image.read(start, (end - start) as usize) else { return Ok(None) };
    let relocations = image.relocations()?;
    let written = |address: u64| {
        let data = |name: &str| !name.starts_with(".data..percpu");
        image.sections().iter().any(|s| s.contains(address) && s.writable && !s.executable && data(&s.name))
    };
    let (mut at, mut held) = (0, None);
    while let Some(found) = addresses(image.bits(), start + at as u64, &code[at..]) {
        let here = start + at as u64;
        // What is no distance moves with the kernel.
        let moves = || relocations.is_none_or(|all| !all.touching(here, here + found.len as u64).is_empty());
        let memory = found.memory.filter(|&(_, near)| near || moves()).map(|(address, _)| address);
        for address in [memory, found.constant.filter(|_| moves())].into_iter().flatten().filter(|&at| written(at)) {
            if held.is_some_and(|other| other != address) {
                return Ok(None);
            }
            held = Some(address);
        }
        at += found.len;
    }
    Ok(held)
}
