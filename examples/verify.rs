//! Judges what a dump holds of a kernel's text: `cargo run --release --example verify -- vmlinuz-6.1.0-… guest.core`
//!
//! The core knows no name of a feature, an op or a hypervisor: it wants numbers and addresses. What the image does not
//! tell is declared here for kernels of 2.6.24 to 7.3: the numbers of `asm/cpufeatures.h` that passes ask for, what KVM's init
//! code of 3.15 and later puts into the ops, and what `native_patch()` up to 5.12 copies for them. Everything else, other
//! guests and what releases took from later ones among it, is declared in Python (`pvops.eras`, `pvops.backends`).
//! Exit status 0 where everything is explained, 1 where not, 2 in trouble.

mod declared;

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;

use pvops::image::Image;
use pvops::memory::Memory;
use pvops::plan::Rules;
use pvops::sites::{Tables, nops};
use pvops::verify::{
    FeatureNumbers, Inlined, KernelInfo, Known, Ops, PossibleBackend, Report, Verifier, View, code, text,
};

/// Numbers of `arch/x86/include/asm/cpufeatures.h`: word · 32 + bit. In 5.16 to 5.18 retpolines were in word 7.
const RETPOLINE: u16 = 11 * 32 + 12;
const RETPOLINE_TO_5_18: u16 = 7 * 32 + 12;
const RETHUNK: u16 = 11 * 32 + 14;
const CALL_DEPTH: u16 = 11 * 32 + 19; // since 6.2
const XENPV: u16 = 8 * 32 + 16; // since 4.3

/// What a slot holds as built, and what `kvm_guest_init()` and `kvm_spinlock_init()` (`arch/x86/kernel/kvm.c`) may put
/// there instead.
const KVM: [(&str, &[&str]); 11] = [
    ("native_io_delay", &["kvm_io_delay"]),
    ("native_sched_clock", &["kvm_sched_clock_read"]), // an op, as the next three are, in 5.10
    ("native_steal_clock", &["kvm_steal_clock"]),
    ("native_flush_tlb_others", &["kvm_flush_tlb_others"]),
    ("tlb_remove_page", &["tlb_remove_table"]),
    ("native_flush_tlb_multi", &["kvm_flush_tlb_multi"]),
    ("native_queued_spin_lock_slowpath", &["__pv_queued_spin_lock_slowpath"]),
    ("__raw_callee_save___native_queued_spin_unlock", &["__raw_callee_save___pv_queued_spin_unlock"]),
    ("__raw_callee_save___native_vcpu_is_preempted", &["__raw_callee_save___kvm_vcpu_is_preempted"]),
    ("_paravirt_nop", &["kvm_wait", "kvm_kick_cpu"]), // its name to 6.7
    ("nop_func", &["kvm_wait", "kvm_kick_cpu"]),
];
/// And where it has static calls go.
const KVM_CALLS: [(&str, &str); 2] =
    [("__SCK__pv_sched_clock", "kvm_sched_clock_read"), ("__SCK__pv_steal_clock", "kvm_steal_clock")];

/// The number of `X86_FEATURE_INDIRECT_THUNK_ITS`, which each branch of releases put elsewhere.
fn its(version: [u32; 3]) -> Option<u16> {
    Some(match version {
        [5, 10, _] => 11 * 32 + 9,
        [6, 1, _] => 21 * 32 + 5,
        [6, 12, _] => 21 * 32 + 6,
        [6, 15, _] => 21 * 32 + 9,
        [6, minor, _] if minor < 16 => return None,
        [6 | 7, ..] => 21 * 32 + 10,
        _ => return None,
    })
}

/// The rules of a kernel, and the numbers of its features; neither where they are not declared here.
fn generation(image: &Image, tables: &Tables) -> pvops::Result<Option<(&'static str, FeatureNumbers)>> {
    let (Some(rules), Some(version)) = (declared::rules(image, tables)?, declared::version(image)) else {
        return Ok(None);
    };
    let its = its(version);
    if its.is_none() && declared::named(image, "its_return_thunk")? {
        return Ok(None);
    }
    let returns = !tables.returns.is_empty();
    let retpoline = if returns || version >= [6, 0, 0] { RETPOLINE } else { RETPOLINE_TO_5_18 };
    let retpolines = !tables.retpolines.is_empty();
    let numbers = FeatureNumbers {
        retpoline: retpolines.then_some(retpoline),
        retpoline_lfence: retpolines.then_some(retpoline + 1),
        rethunk: returns.then_some(RETHUNK),
        its,
        call_depth: (version >= [6, 2, 0]).then_some(CALL_DEPTH),
        xenpv: (version >= [4, 3, 0]).then_some(XENPV),
    };
    Ok(Some((rules, numbers)))
}

/// What the paravirt pass does with an op: up to 5.12 it copies some, and jumps where an op never returns.
fn inlined(op: &Option<declared::Op<'_>>) -> Inlined {
    let Some(op) = op else { return Inlined::default() };
    Inlined {
        code: op.copied.map(|(code, _)| code.into()),
        only_while: op.copied.and_then(|(_, guarded)| guarded.then_some(op.held)),
        jump: op.jumps(),
        ..Inlined::default()
    }
}

/// Native and KVM: what each may put into the slots of `pv_ops` (and of `pv_ops_lock`, since 7.0), and where it may have
/// static calls go.
fn backends(image: &Image, tables: &Tables) -> pvops::Result<Vec<PossibleBackend>> {
    let native = PossibleBackend { name: "native".into(), ..PossibleBackend::default() };
    let Some(symbols) = image.symbols()? else { return Ok(vec![native]) };
    let mut places: Vec<u64> = Vec::new();
    if declared::apart(image) {
        places.extend(declared::ops(image, tables)?.iter().flatten().map(|op| op.place));
    }
    for ops in ["pv_ops", "pv_ops_lock"].into_iter().filter_map(|name| symbols.address_of(name)) {
        let end = symbols.iter().map(|(address, ..)| address).filter(|&address| address > ops).min().unwrap_or(ops);
        places.extend((ops..end).step_by(image.bits().word()));
    }
    let mut slots = HashMap::new();
    for slot in places {
        let Some(built) = image.read_word(slot) else { continue };
        for (native, instead) in KVM {
            if symbols.addresses_of(native).any(|address| address == built) {
                let others = instead.iter().filter_map(|name| symbols.address_of(name));
                slots.insert(slot, std::iter::once(built).chain(others).collect());
            }
        }
    }
    let call = |&(key, function): &(&str, &str)| Some((symbols.address_of(key)?, vec![symbols.address_of(function)?]));
    let calls = KVM_CALLS.iter().filter_map(call).collect();
    Ok(vec![native, PossibleBackend { name: "kvm".into(), slots, calls, ..PossibleBackend::default() }])
}

/// What the memory says of the image's text, and how far the kernel slid.
///
/// # Errors
///
/// Nothing is declared here for this kernel, or the image, its tables or the memory cannot be read.
pub fn judged(image: &Image, memory: &Memory) -> Result<(Report, u64), Box<dyn Error>> {
    let tables = Tables::read(image)?;
    let (era, numbers) = generation(image, &tables)?.ok_or_else(|| {
        let release = image.release().unwrap_or("a kernel without a banner");
        format!("{}: {release}: declared here are 2.6.24 to 7.3, ITS thunks of some branches alone", image.name())
    })?;
    if declared::apart(image) && tables.paravirt.is_some() && image.symbols()?.is_none() {
        return Err(format!("{}: no symbols, and before 4.20 nothing else tells the ops", image.name()).into());
    }
    let symbol = |name: &str| Ok::<_, pvops::Error>(image.symbols()?.and_then(|symbols| symbols.address_of(name)));
    let mut ops = Ops { nop: symbol("_paravirt_nop")?, bug: symbol("paravirt_BUG")?, ..Ops::default() };
    if symbol("native_patch")?.is_some() {
        let found = declared::ops(image, &tables)?;
        ops.inlined = found.iter().map(inlined).collect();
        let identities = [("_paravirt_ident_32", 32), ("_paravirt_ident_64", 64)];
        for (name, bits) in identities {
            ops.identities.extend(symbol(name)?.map(|function| (function, bits)));
        }
        ops.call_clobbers = declared::call_clobbers(image);
        if declared::apart(image) {
            ops.places = found.iter().map(|op| op.as_ref().map_or(0, |op| op.place)).collect();
        }
    }
    let info = KernelInfo { numbers, ops, backends: backends(image, &tables)?, nops: nops::tables(image) };

    let found = memory.find(image, &mut |_, _| Ok(()))?;
    let held = text(memory, &found, image)?;
    let verifier = Verifier::new(image, &tables, Rules::by_name(era)?, info, code(image, found.slide)?)?;
    let view = View::new(verifier.text(), &held.bytes, &held.unread)?;
    Ok((verifier.verify(&view, &Known::default()), found.slide))
}

fn main() -> ExitCode {
    told().unwrap_or_else(|error| {
        eprintln!("verify: {error}");
        ExitCode::from(2)
    })
}

fn told() -> Result<ExitCode, Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(kernel), Some(dump)) = (words.next(), words.next()) else {
        return Err("usage: verify KERNEL DUMP".into());
    };
    let (report, slide) = judged(&Image::open(kernel.as_ref())?, &Memory::open(dump.as_ref())?)?;
    println!("{kernel}, slide {slide:#x}; inferred: {}", report.backends.join(" or "));
    for explained in report.explained.iter().filter(|explained| explained.bytes > 0) {
        println!("  {:13}{:>8} bytes", explained.pass.name(), explained.bytes);
    }
    for run in &report.unexplained {
        println!("  {:016x}  is {:02x?}, should be {:02x?}", run.address, run.found, run.expected);
    }
    println!("{} runs unexplained, {} unread", report.unexplained.len(), report.unread.len());
    Ok(if report.unexplained.is_empty() && report.unread.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
