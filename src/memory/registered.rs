//! Who has registered with a kernel to change its text: its own lists of kprobes, traced functions, BPF trampolines and live
//! patches, read in memory.
//!
//! | list | symbol | of each is read |
//! |---|---|---|
//! | kprobes (`kernel/kprobes.c`) | `kprobe_table`: 64 hashed lists | `addr`, `flags`, `pre_handler` |
//! | traced functions (`kernel/trace/ftrace.c`) | `ftrace_pages_start`: a list of pages of `struct dyn_ftrace` | `ip`, `flags` |
//! | BPF trampolines (`kernel/bpf/trampoline.c`) | `trampoline_table`, in 7.2 `trampoline_key_table`: 1024 hashed lists | `func.addr` |
//! | live patches (`kernel/livepatch/core.c`) | `klp_patches`, their objects, their functions | `old_func`, `new_func` |
//!
//! Where the members are, the kernel's BTF says; without it the first two lists are read as they are declared, if what is
//! read looks like it, trampolines where one member alone names a function of the kernel in all of them, and of live patches
//! whether there is one. Memory may say anything: every walk is bounded.

use std::ops::Range;

use super::location::Location;
use super::mapped::Mapped;
use super::members::Members;
use super::read::Memory;
use crate::error::{Error, Result};
use crate::image::Image;

/// `1 << KPROBE_HASH_BITS`, and `TRAMPOLINE_TABLE_SIZE`.
const KPROBE_LISTS: u64 = 64;
const TRAMPOLINE_LISTS: u64 = 1024;
/// How many words of a `struct bpf_trampoline` are looked at.
const TRAMPOLINE_WORDS: u64 = 40;
/// More entries than any list has.
const MAX_ENTRIES: usize = 1 << 17;
/// More than any kernel has functions that can be traced.
const MAX_TRACED: u64 = 1 << 20;
/// `KPROBE_FLAG_GONE` and `KPROBE_FLAG_DISABLED`: nothing is written for these.
const KPROBE_OFF: u32 = 1 | 2;
/// All flags of a probe there are, `KPROBE_FLAG_GONE` to `KPROBE_FLAG_ON_FUNC_ENTRY` (5.18).
const KPROBE_FLAGS: u32 = 0x1f;
/// The lowest `PAGE_OFFSET` of i386.
const LOWEST_32: u64 = 0x4000_0000;
/// `FTRACE_FL_ENABLED`: the site is a call.
const FTRACE_ENABLED: u64 = 1 << 31;

/// A place in text, and who comes there. Addresses are run-time ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is.
    pub owner: Registrar,
    /// Where text is changed.
    pub address: u64,
    /// What is called then, where the list says it; 0 elsewhere.
    pub handler: u64,
}

/// Whose list it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Registrar {
    /// Kprobes, optimised or not.
    Kprobes,
    /// The function tracer, and all that use it.
    Ftrace,
    /// BPF trampolines.
    Bpf,
    /// Live patches.
    Livepatch,
}

impl Registrar {
    /// All of them.
    pub const ALL: [Registrar; 4] = [Registrar::Kprobes, Registrar::Ftrace, Registrar::Bpf, Registrar::Livepatch];

    /// Where its list begins; the name it had first, and later ones.
    fn symbols(self) -> &'static [&'static str] {
        match self {
            Registrar::Kprobes => &["kprobe_table"],
            Registrar::Ftrace => &["ftrace_pages_start"],
            Registrar::Bpf => &["trampoline_table", "trampoline_key_table"],
            Registrar::Livepatch => &["klp_patches"],
        }
    }

    /// The name that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Registrar::Kprobes => "kprobes",
            Registrar::Ftrace => "ftrace",
            Registrar::Bpf => "bpf",
            Registrar::Livepatch => "livepatch",
        }
    }
}

/// What is registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    /// All entries of all lists that could be read.
    pub entries: Vec<Entry>,
    /// Whose lists could be read: who has no entry there has not registered.
    pub read: Vec<Registrar>,
    /// Whose could not, and why.
    pub unread: Vec<(Registrar, String)>,
}

/// Reads all lists that a kernel has.
///
/// # Errors
/// Memory that has no virtual addresses; what is wrong with one list is in the answer.
pub fn registered(memory: &Memory, found: &Location, image: &Image) -> Result<Registered> {
    let mapped = Mapped::new(memory, found, image).map_err(|error| error.in_file(memory.name()))?;
    let word = image.bits().word();
    let text = image.section(".text").map_or(0..0, |section| section.address..section.end());
    let text = text.start.wrapping_add(found.slide)..text.end.wrapping_add(found.slide);
    let walk = Walk { mapped: &mapped, members: Members { btf: image.btf()?, word }, word, text };
    let mut registered = Registered::default();
    for owner in Registrar::ALL {
        let names = owner.symbols();
        let symbols = image.symbols()?;
        let head = symbols.and_then(|symbols| names.iter().find_map(|name| symbols.address_of(name)));
        let Some(head) = head else {
            registered.unread.push((owner, format!("the image does not name {}", names.join(" or "))));
            continue;
        };
        let mut entries = Vec::new();
        match walk.list(owner, head.wrapping_add(found.slide), &mut entries) {
            Ok(()) => {
                registered.entries.extend(entries);
                registered.read.push(owner);
            }
            Err(error) => registered.unread.push((owner, error.to_string())),
        }
    }
    registered.entries.sort_unstable_by_key(|entry| (entry.address, entry.owner));
    Ok(registered)
}

struct Walk<'a> {
    mapped: &'a Mapped<'a>,
    members: Members<'a>,
    word: usize,
    /// The kernel's code, where it runs.
    text: Range<u64>,
}

impl Walk<'_> {
    fn list(&self, owner: Registrar, head: u64, entries: &mut Vec<Entry>) -> Result<()> {
        match owner {
            Registrar::Kprobes => self.kprobes(head, entries),
            Registrar::Ftrace => self.ftrace(head, entries),
            Registrar::Bpf => self.trampolines(head, entries),
            Registrar::Livepatch => self.livepatches(head, entries),
        }
    }

    fn offset(&self, of: &str, path: &str) -> Result<u64> {
        self.members.offset(of, path)
    }

    fn number(&self, address: u64, width: usize) -> Result<u64> {
        let mut bytes = [0; 8];
        if !self.mapped.read(address, &mut bytes[..width])? {
            return Err(Error::memory("an entry of it is not in memory").at_address(address));
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn pointer(&self, address: u64) -> Result<u64> {
        self.number(address, self.word)
    }

    /// The entries of hashed lists (`struct hlist_head`), by where their node lies in them.
    fn hashed(&self, table: u64, lists: u64, node: u64) -> Result<Vec<u64>> {
        let mut entries = Vec::new();
        for list in 0..lists {
            let mut at = self.pointer(table.wrapping_add(list * self.word as u64))?;
            while at != 0 {
                if entries.len() >= MAX_ENTRIES {
                    return Err(Error::memory("it has more entries than any kernel, or a circle").at_address(at));
                }
                entries.push(at.wrapping_sub(node));
                at = self.pointer(at)?;
            }
        }
        Ok(entries)
    }

    /// The entries of a `struct list_head`, likewise.
    fn linked(&self, head: u64, node: u64) -> Result<Vec<u64>> {
        let mut entries = Vec::new();
        let mut at = self.pointer(head)?;
        while at != head {
            if entries.len() >= MAX_ENTRIES {
                return Err(Error::memory("it has more entries than any kernel, or a circle").at_address(at));
            }
            entries.push(at.wrapping_sub(node));
            at = self.pointer(at)?;
        }
        Ok(entries)
    }

    fn kprobes(&self, table: u64, entries: &mut Vec<Entry>) -> Result<()> {
        let at = |name: &str| self.offset("kprobe", name);
        let (address, handler) = (at("addr")?, at("pre_handler")?);
        let probes = self.hashed(table, KPROBE_LISTS, at("hlist")?)?;
        let flags = self.flags(&probes)?;
        for (probe, flags) in probes.into_iter().zip(flags) {
            if flags & KPROBE_OFF == 0 {
                let (address, handler) =
                    (self.pointer(probe.wrapping_add(address))?, self.pointer(probe.wrapping_add(handler))?);
                self.code(address)?;
                entries.push(Entry { owner: Registrar::Kprobes, address, handler });
            }
        }
        Ok(())
    }

    /// The flags of probes. Where they are declared at several offsets: at each that holds nothing but flags, and all such
    /// have to say the same of which probes are armed.
    fn flags(&self, probes: &[u64]) -> Result<Vec<u32>> {
        let mut found: Option<Vec<u32>> = None;
        for offset in self.members.offsets("kprobe", "flags")? {
            let flags = probes.iter().map(|probe| Ok(self.number(probe.wrapping_add(offset), 4)? as u32));
            let flags = flags.collect::<Result<Vec<u32>>>()?;
            if self.members.declared() && flags.iter().any(|flags| flags & !KPROBE_FLAGS != 0) {
                continue;
            }
            let off = |flags: &[u32]| flags.iter().map(|flags| flags & KPROBE_OFF).collect::<Vec<_>>();
            match &found {
                Some(other) if off(other) != off(&flags) => {
                    return Err(Error::memory("which probes are armed is declared at several places, which differ"));
                }
                _ => found = Some(flags),
            }
        }
        found.ok_or_else(|| Error::memory("its probes are not as they are declared: none of their flags can be"))
    }

    /// Where structures are taken as declared, code has to be where one says that it is: in the kernel's half of memory.
    fn code(&self, address: u64) -> Result<()> {
        let kernels = if self.word == 8 { address >> 63 != 0 } else { address >= LOWEST_32 };
        if self.members.declared() && !kernels {
            return Err(Error::memory("an entry of it is not as declared: no code can be there").at_address(address));
        }
        Ok(())
    }

    fn ftrace(&self, start: u64, entries: &mut Vec<Entry>) -> Result<()> {
        let (next, records, index) = (
            self.offset("ftrace_page", "next")?,
            self.offset("ftrace_page", "records")?,
            self.offset("ftrace_page", "index")?,
        );
        let (ip, flags) = (self.offset("dyn_ftrace", "ip")?, self.offset("dyn_ftrace", "flags")?);
        let size = self.members.record()?;
        let (mut page, mut seen, mut pages) = (self.pointer(start)?, 0, 0);
        while page != 0 {
            let count = self.number(page.wrapping_add(index), 4)?;
            (seen, pages) = (seen + count, pages + 1);
            if seen > MAX_TRACED || pages > MAX_ENTRIES {
                return Err(Error::memory("it has more records than any kernel, or a circle").at_address(page));
            }
            let mut bytes = vec![0; count as usize * size];
            let first = self.pointer(page.wrapping_add(records))?;
            if !self.mapped.read(first, &mut bytes)? {
                return Err(Error::memory("its records are not in memory").at_address(first));
            }
            for record in bytes.chunks_exact(size.max(1)) {
                let word = |at: u64| {
                    let found = record.get(at as usize..).and_then(|rest| rest.get(..self.word)).unwrap_or_default();
                    found.iter().rev().fold(0, |word: u64, &byte| word << 8 | u64::from(byte))
                };
                if word(ip) != 0 {
                    self.code(word(ip))?;
                }
                if word(flags) & FTRACE_ENABLED != 0 {
                    entries.push(Entry { owner: Registrar::Ftrace, address: word(ip), handler: 0 });
                }
            }
            page = self.pointer(page.wrapping_add(next))?;
        }
        Ok(())
    }

    fn trampolines(&self, table: u64, entries: &mut Vec<Entry>) -> Result<()> {
        let (trampolines, address) = if self.members.declared() {
            // `struct hlist_node` is its first member.
            let trampolines = self.hashed(table, TRAMPOLINE_LISTS, 0)?;
            let Some(address) = self.function_of_all(&trampolines)? else { return Ok(()) };
            (trampolines, address)
        } else {
            let node =
                self.offset("bpf_trampoline", "hlist").or_else(|_| self.offset("bpf_trampoline", "hlist_key"))?;
            (self.hashed(table, TRAMPOLINE_LISTS, node)?, self.offset("bpf_trampoline", "func.addr")?)
        };
        for trampoline in trampolines {
            let address = self.pointer(trampoline.wrapping_add(address))?;
            entries.push(Entry { owner: Registrar::Bpf, address, handler: 0 });
        }
        Ok(())
    }

    /// Where trampolines have `func.addr`, if nothing describes them: at the one place where each has code of the kernel's.
    /// None where there is no trampoline.
    fn function_of_all(&self, trampolines: &[u64]) -> Result<Option<u64>> {
        let word = self.word as u64;
        let mut places: Vec<u64> = (2..TRAMPOLINE_WORDS).map(|at| at * word).collect();
        for &trampoline in trampolines {
            let mut held = Vec::new();
            for &place in &places {
                let there = self.mapped.fill(trampoline.wrapping_add(place), &mut [0; 8][..self.word])?.is_empty();
                if there && self.text.contains(&self.pointer(trampoline.wrapping_add(place))?) {
                    held.push(place);
                }
            }
            places = held;
        }
        match places[..] {
            _ if trampolines.is_empty() => Ok(None),
            [place] => Ok(Some(place)),
            _ => Err(Error::memory(format!(
                "the image has no BTF, and of its {} trampolines {} names a function",
                trampolines.len(),
                if places.is_empty() { "no member" } else { "more than one member" }
            ))),
        }
    }

    fn livepatches(&self, head: u64, entries: &mut Vec<Entry>) -> Result<()> {
        if self.pointer(head)? == head {
            return Ok(());
        }
        let at = |of: &str, name: &str| self.offset(of, name);
        let (old, new) = (at("klp_func", "old_func")?, at("klp_func", "new_func")?);
        for patch in self.linked(head, at("klp_patch", "list")?)? {
            for object in self.linked(patch.wrapping_add(at("klp_patch", "obj_list")?), at("klp_object", "node")?)? {
                let functions = object.wrapping_add(at("klp_object", "func_list")?);
                for function in self.linked(functions, at("klp_func", "node")?)? {
                    let address = self.pointer(function.wrapping_add(old))?;
                    let handler = self.pointer(function.wrapping_add(new))?;
                    entries.push(Entry { owner: Registrar::Livepatch, address, handler });
                }
            }
        }
        Ok(())
    }
}
