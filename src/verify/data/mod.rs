//! The kernel's own data, compared with its text: where the two disagree, one of them was changed, and both values are
//! reported.
//!
//! | data | text |
//! |---|---|
//! | `static_key.enabled` | the jump labels of the key |
//! | `static_call_key.func` | the sites and the trampoline of the call |
//! | slots of `pv_ops` | the calls of the op; where there are none, the backend that was found |
//! | `x86_return_thunk` | where returns jump |
//! | `boot_cpu_data.x86_capability` | what is keyed on a feature |
//! | `alternatives_patched` | that it is patched at all |
//! | `tracepoint.funcs` | the key of the tracepoint, and where its call goes |
//! | flags of `pr_debug()`, security hooks, `x86_pmu`, `apic` | keys and calls that are made by them |
//! | variables that are written with a key; hooks and programs that are attached | the key |
//! | the constants of code that updates static calls | where these go |
//! | `.rodata`, `__bug_table`, ORC's tables | the file, with its relocations |
//! | the tables of jump labels and static calls | the file, in any order |
//! | what is read-only after boot, `.data` | pointers to functions are such |
//! | `idt_table` | the tables that it is made of; the registers of CPUs go there |
//! | tables of segments | the file's, and what user space may have |
//! | the vDSO | the file, but for its alternatives |
//! | what is behind `.text` on its last page | the file |
//! | pages of ITS thunks | what the kernel fills them with |
//! | the code by which CPUs come up | the file, with its own relocations |
//! | page tables | text, constants and data are mapped to where they were judged |
//!
//! Neither is believed against the other: an attacker may have changed either.

mod attached;
mod capabilities;
mod gates;
mod heard;
mod pointers;
mod realmode;
mod rodata;
mod rows;
mod segments;
mod strings;
mod tables;
mod tail;
mod taken;
mod thunks;
mod told;
mod tracepoints;
mod updates;
mod variables;
mod vdso;
mod votes;
mod witnesses;

use std::collections::HashSet;

use crate::error::Result;
use crate::image::Image;
use crate::memory::{Location, Memory, Words, remapped};
use crate::verify::Report;
use crate::verify::infer::Unknown;

use pointers::{Pointers, pointers};

pub use heard::{Disagreement, Heard, Slots};
pub(super) use rodata::compare;
pub use rodata::{Changed, Rodata};

/// Reads the data of a kernel whose text was judged. `modules` is where their code runs, address and size each, or why that
/// is not known.
///
/// # Errors
/// Memory that cannot be read, or has no data.
pub fn hear(
    report: &Report,
    backends: &[super::PossibleBackend],
    slots: &Slots,
    (memory, found, image): (&Memory, &Location, &Image),
    modules: std::result::Result<&[(u64, u64)], &str>,
) -> Result<Heard> {
    let words = Words::new(memory, found, image)?;
    let said = votes::Said::of(report);
    let mut heard = votes::hear(&said, backends, slots, &words, image)?;
    rows::judge(&words, image, found.slide, &mut heard)?;
    let below_xen = report.backends.iter().any(|name| name == "xen");
    gates::judge(&words, (memory, found, image), below_xen, &mut heard)?;
    if !below_xen {
        segments::judge((memory, found, image), &mut heard)?;
    }
    tracepoints::judge(&said, &words, (memory, found, image), &mut heard)?;
    witnesses::judge(&said, &words, (memory, found, image), &mut heard)?;
    updates::judge(&said, &words, image, &mut heard)?;
    heard.unheard.extend(untyped(image)?);
    functions(report, (memory, found, image), modules, &mut heard)?;
    pages((memory, found, image), &mut heard)?;
    heard.rodata = rodata(memory, found, image)?;
    thunks::judge(report, (memory, found, image), &mut heard)?;
    realmode::judge(&words, (memory, found, image), &mut heard)?;
    heard.held.extend(heard.rodata.iter().flat_map(|rodata| rodata.vdso.iter().cloned()));
    Ok(heard)
}

/// Symbols of what `tracepoints` and `witnesses` read.
const TYPED: [&str; 6] =
    ["__start___tracepoints_ptrs", "__start___dyndbg", "x86_pmu", "apic", "sysctl_sched_features", "nf_hooks_needed"];
/// What they tell of.
const UNTYPED: &str = "tracepoints, debug messages, security hooks, x86_pmu, apic, features of the scheduler, keys that \
                       variables tell of, hooks of netfilter, BPF programs of control groups: the image has no BTF";

/// What is not heard because nothing says where its members are.
fn untyped(image: &Image) -> Result<Option<String>> {
    let Some(symbols) = image.symbols()?.filter(|_| matches!(image.btf(), Ok(None))) else { return Ok(None) };
    let there = TYPED.iter().any(|name| symbols.address_of(name).is_some());
    Ok(there.then(|| UNTYPED.to_owned()))
}

/// The pages of text, constants and data: page tables may map another page there than that which was judged.
fn pages((memory, found, image): (&Memory, &Location, &Image), heard: &mut Heard) -> Result<()> {
    let there = |name: &str| image.section(name).map(|section| section.address..section.end());
    let ranges: Vec<_> = [".text", ".rodata", ".data", ".bss"].into_iter().filter_map(there).collect();
    let (pages, strays) = remapped(memory, found, image, &ranges)?;
    heard.counts.extend((pages > 0).then_some(("page", pages)));
    heard.disagreements.extend(strays.iter().map(|page| Disagreement {
        what: "page",
        address: page.address,
        which: page.address,
        expected: page.expected,
        found: page.found,
    }));
    Ok(())
}

/// The pointers to functions in `.data`. What static calls go to is heard with their text.
fn functions(
    report: &Report,
    (memory, found, image): (&Memory, &Location, &Image),
    modules: std::result::Result<&[(u64, u64)], &str>,
    heard: &mut Heard,
) -> Result<()> {
    let Some(data) = image.section(".data").filter(|section| section.bits_present) else { return Ok(()) };
    let Pointers { count, strays } = pointers(memory, found, image, data.address..data.end(), false)?;
    heard.counts.extend((count > 0).then_some(("function", count)));
    let voted: HashSet<u64> = report
        .votes
        .iter()
        .filter_map(|vote| if let Unknown::Call(address) = vote.about { Some(address) } else { None })
        .collect();
    let symbols = image.symbols()?;
    let key = |address| {
        symbols.is_some_and(|s| s.at(address).is_some_and(|(name, at)| at == 0 && name.starts_with("__SCK__")))
    };
    let named: HashSet<u64> = heard.disagreements.iter().map(|named| named.address).collect();
    let mut unknown = 0;
    for stray in strays.iter().filter(|stray| !named.contains(&stray.address)) {
        if voted.contains(&stray.address) || key(stray.address) {
            continue;
        }
        let runs = stray.found.wrapping_add(found.slide) & image.bits().max_address();
        match modules {
            Ok(modules) if modules.iter().any(|&(start, size)| runs.wrapping_sub(start) < size) => {}
            Err(_) if image.section_at(stray.found).is_none() => unknown += 1,
            _ => heard.disagreements.push(Disagreement {
                what: "function",
                address: stray.address,
                which: stray.address,
                expected: stray.built,
                found: stray.found,
            }),
        }
    }
    if let (Err(why), 1..) = (modules, unknown) {
        let reason = format!("{unknown} pointers to functions of .data go outside the kernel, maybe to modules: {why}");
        heard.unheard.push(reason);
    }
    Ok(())
}

/// Holds `.rodata` and the tables among the data to the file; the reason, where the image does not say what of `.rodata` the
/// kernel writes.
///
/// # Errors
/// Memory that cannot be read.
pub fn rodata(memory: &Memory, found: &Location, image: &Image) -> Result<std::result::Result<Rodata, String>> {
    let mut held = rodata::hold(memory, found, image)?;
    if let Ok(rodata) = &mut held {
        tables::judge(memory, found, image, rodata)?;
        vdso::judge(memory, found, image, rodata)?;
        tail::judge(memory, found, image, rodata)?;
    }
    Ok(held)
}
