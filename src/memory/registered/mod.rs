//! Who has registered with a kernel to change its text: its own lists of kprobes, traced functions, BPF trampolines and live
//! patches, read in memory.
//!
//! | list | symbol | of each is read |
//! |---|---|---|
//! | kprobes (`kernel/kprobes.c`) | `kprobe_table`: 64 hashed lists | `addr`, `flags`, `pre_handler`; `optinsn.insn`, where one was optimised |
//! | traced functions (`kernel/trace/ftrace.c`) | `ftrace_pages_start`: a list of pages of `struct dyn_ftrace` | `ip`, `flags` |
//! | who traces | `ftrace_ops_list` | `func`, `trampoline` |
//! | what the tracer's code calls | `saved_ftrace_func`, `ftrace_graph_active` | the word |
//! | BPF trampolines (`kernel/bpf/trampoline.c`) | `trampoline_table`, in 7.2 `trampoline_key_table`: 1024 hashed lists | `func.addr`, `cur_image.image` |
//! | BPF dispatchers (`kernel/bpf/dispatcher.c`) | `bpf_dispatcher_*` | `num_progs`, `image`, `image_off` |
//! | live patches (`kernel/livepatch/core.c`) | `klp_patches`, their objects, their functions | `old_func`, `new_func` |
//!
//! Where kallsyms lists functions alone, the code of functions that are named has the addresses of the first two.
//!
//! Where the members are, the kernel's BTF says; without it the first two lists are read as they are declared, if what is
//! read looks like it, trampolines where one member alone names a function of the kernel in all of them, and of live patches
//! whether there is one; then nothing says where trampolines are. Memory may say anything: every walk is bounded.

mod branches;
mod lists;
mod walk;

use std::cell::Cell;
use std::collections::HashSet;

use self::walk::Walk;
use super::location::Location;
use super::mapped::Mapped;
use super::members::Members;
use super::pokes::pokes;
use super::read::Memory;
use crate::error::Result;
use crate::image::Image;

/// A place in text, and who comes there. Addresses are run-time ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is.
    pub owner: Registrar,
    /// Where text is changed.
    pub address: u64,
    /// What is called then, where the list says it; 0 elsewhere.
    pub handler: u64,
    /// Where the text there branches to, but for the tracer's own functions; 0 where it does not, `None` where the list
    /// does not say.
    pub branch: Option<u64>,
}

/// Who traces, and the code that `create_trampoline()` made for it (arch/x86/kernel/ftrace.c), which the text may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracer {
    /// Where that code is; 0 where it has none.
    pub trampoline: u64,
    /// What it calls.
    pub function: u64,
    /// For whom.
    pub owner: Registrar,
    /// What it traces; `None` for all functions.
    pub places: Option<Vec<u64>>,
}

/// What the kernel's own code for tracing calls, by its variables; `None` where the image does not name one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tracing {
    /// `saved_ftrace_func`: where `ftrace_call` and `ftrace_regs_call` were last written to go (`ftrace_startup_enable()`), while
    /// `ftrace_enabled`; where the image does not name it, `ftrace_trace_function`, which the calls follow.
    pub function: Option<u64>,
    /// `ftrace_graph_active`: whether `ftrace_graph_call` goes to the graph tracer.
    pub graph: Option<bool>,
}

/// A dispatcher of BPF programs, and the code it goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatcher {
    /// Its function, or the trampoline of its static call.
    pub function: u64,
    /// Where these go, while there are programs.
    pub target: u64,
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
    /// Who traces; `None` where that could not be read.
    pub tracers: Option<Vec<Tracer>>,
    /// Dispatchers that have programs; `None` where these could not be read.
    pub dispatchers: Option<Vec<Dispatcher>>,
    /// What the kernel's own code for tracing calls.
    pub tracing: Tracing,
    /// Where probes are by entries that are in the list of another address, in which the kernel does not look for them.
    pub misplaced: Vec<u64>,
    /// Functions of modules that are traced by their records, though a nop is there.
    pub idle: Vec<u64>,
    /// Whose could not, or not all of it, and why.
    pub unread: Vec<(Registrar, String)>,
}

impl Registered {
    /// Where code was made for tracers and BPF programs, as if the kernel had not slid.
    pub fn made(&self, slide: u64) -> Vec<u64> {
        let traced = self.tracers.iter().flatten().map(|tracer| tracer.trampoline);
        let branches =
            self.entries.iter().filter(|entry| entry.owner == Registrar::Bpf).filter_map(|entry| entry.branch);
        traced.chain(branches).filter(|&at| at != 0).map(|at| at.wrapping_sub(slide)).collect()
    }
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
    let members = Members { btf: image.btf()?, word };
    let walk = Walk {
        mapped: &mapped,
        members,
        image,
        symbols: image.symbols()?,
        slide: found.slide,
        word,
        text,
        left: Cell::new(0),
    };
    let mut registered = Registered::default();
    for owner in Registrar::ALL {
        let names = owner.symbols();
        let mut heads = names.iter().map(|name| walk.data(name)).filter_map(Result::transpose);
        let Some(head) = heads.next().transpose()? else {
            registered.unread.push((owner, format!("the image does not name {}", names.join(" or "))));
            continue;
        };
        let mut entries = Vec::new();
        match walk.list(owner, head, &mut entries, &mut registered.misplaced) {
            Ok(()) => {
                registered.entries.extend(entries);
                registered.read.push(owner);
            }
            Err(error) => registered.unread.push((owner, error.to_string())),
        }
    }
    match walk.tracers() {
        Ok(tracers) => registered.tracers = Some(tracers),
        Err(error) => registered.unread.push((Registrar::Ftrace, format!("whose trampolines there are: {error}"))),
    }
    let named = |name: &str, width: usize| walk.symbol(name).map(|at| walk.number(at, width)).transpose();
    // The variable is 0 before the first tracer, and after `sysctl kernel.ftrace_enabled` without one.
    let written = || {
        let (saved, enabled) = (named("saved_ftrace_func", word)?, named("ftrace_enabled", 4)?);
        match saved.zip(enabled) {
            Some((saved, enabled)) => Ok((saved != 0 && enabled != 0).then_some(saved)),
            None => named("ftrace_trace_function", word),
        }
    };
    match (written(), named("ftrace_graph_active", 4)) {
        (Ok(function), Ok(graph)) => registered.tracing = Tracing { function, graph: graph.map(|active| active != 0) },
        (Err(error), _) | (_, Err(error)) => {
            registered.unread.push((Registrar::Ftrace, format!("what the tracer calls: {error}")));
        }
    }
    match walk.dispatchers() {
        Ok(dispatchers) => registered.dispatchers = Some(dispatchers),
        Err(error) => registered.unread.push((Registrar::Bpf, format!("where dispatchers go: {error}"))),
    }
    registered.entries.sort_unstable_by_key(|entry| (entry.address, entry.owner));
    registered.idle = walk.idle(&registered.entries)?;
    if !registered.idle.is_empty() {
        // Records are written before the text is (`ftrace_replace_code()` of arch/x86/kernel/ftrace.c).
        let written: HashSet<u64> = pokes(memory, found, image)?.iter().map(|poke| poke.address).collect();
        let linked = |at: u64| at.wrapping_sub(found.slide) & image.bits().max_address();
        registered.idle.retain(|&at| !written.contains(&linked(at)));
    }
    Ok(registered)
}
