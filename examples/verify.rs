//! Judges what a dump holds of a kernel's text: `cargo run --release --example verify -- vmlinuz-6.1.0-… guest.core`
//!
//! The core knows no name of a feature, an op or a hypervisor: it wants numbers and addresses. What the image does not
//! tell is declared here for five releases: the numbers of `asm/cpufeatures.h`, what KVM's init code puts into the ops, and
//! what `native_patch()` of 5.4 and 5.10 copies for them (x86-64). For all others that is declared in Python (`pvops.eras`,
//! `pvops.backends`), so this refuses them: before 4.20 each structure of ops is a variable of its own, and other releases
//! have other numbers.
//! Exit status 0 where everything is explained, 1 where not.

mod declared;

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;

use declared::COPIED;

use pvops::image::{Bits, Image};
use pvops::memory::Memory;
use pvops::plan::Rules;
use pvops::sites::{Tables, nops};
use pvops::verify::{
    FeatureNumbers, Inlined, KernelInfo, Known, Ops, PossibleBackend, Report, Verifier, View, code, text,
};

/// `arch/x86/include/asm/cpufeatures.h`, as stable releases of 5.10, 6.1, 6.12 and 7.2 have it (5.4: XENPV): word · 32 + bit.
const RETPOLINE: u16 = 11 * 32 + 12;
const RETPOLINE_LFENCE: u16 = 11 * 32 + 13;
const RETHUNK: u16 = 11 * 32 + 14;
const CALL_DEPTH: u16 = 11 * 32 + 19;
const XENPV: u16 = 8 * 32 + 16;

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

/// The rules of a release, and the number of `X86_FEATURE_INDIRECT_THUNK_ITS` in it.
fn generation(release: &str) -> Option<(&'static str, FeatureNumbers)> {
    let both = FeatureNumbers {
        retpoline: Some(RETPOLINE),
        retpoline_lfence: Some(RETPOLINE_LFENCE),
        rethunk: Some(RETHUNK),
        xenpv: Some(XENPV),
        ..FeatureNumbers::default()
    };
    let (era, its, call_depth) = match release.split('.').collect::<Vec<_>>()[..] {
        // It has no tables of retpolines and returns, nor ITS, and its rows of alternatives count their padding.
        ["5", "4", ..] => return Some(("5.10.0", FeatureNumbers { xenpv: Some(XENPV), ..FeatureNumbers::default() })),
        ["5", "10", ..] => ("5.10", 11 * 32 + 9, None),
        ["6", "1", ..] => ("6.1", 21 * 32 + 5, None),
        ["6", "12", ..] => ("6.12", 21 * 32 + 6, Some(CALL_DEPTH)),
        ["7", "2", ..] => ("7.2", 21 * 32 + 10, Some(CALL_DEPTH)),
        _ => return None,
    };
    Some((era, FeatureNumbers { its: Some(its), call_depth, ..both }))
}

/// What the paravirt pass does with each op, by its number: up to 5.12 it copies some, and jumps where an op never returns.
fn inlined(image: &Image, tables: &Tables) -> pvops::Result<Vec<Inlined>> {
    let (Some(table), Some(symbols)) = (&tables.paravirt, image.symbols()?) else { return Ok(Vec::new()) };
    let ops = table.ops_address(image.bits())?;
    let last = table.sites.iter().map(|site| u64::from(site.op_type)).max().unwrap_or(0);
    // Several functions may have one name: each file that takes the address of an inline function has one of its own.
    let mut names: HashMap<u64, Vec<&str>> = HashMap::new();
    symbols.iter().for_each(|(address, _, name)| names.entry(address).or_default().push(name));
    let of = |number| {
        let built = image.read_word(ops + number * image.bits().word() as u64)?;
        let is = |name: &str| names.get(&built).is_some_and(|names| names.contains(&name));
        let copied = COPIED.iter().find(|(native, ..)| is(native));
        Some(Inlined {
            code: copied.map(|&(_, code, _)| code.into()),
            only_while: copied.and_then(|&(.., guarded)| guarded.then_some(built)),
            jump: is("native_iret") || is("native_usergs_sysret64"),
            ..Inlined::default()
        })
    };
    Ok((0..=last).map(|number| of(number).unwrap_or_default()).collect())
}

/// Native and KVM: what each may put into the slots of `pv_ops` (and of `pv_ops_lock`, since 7.0), and where it may have
/// static calls go.
fn backends(image: &Image) -> pvops::Result<Vec<PossibleBackend>> {
    let native = PossibleBackend { name: "native".into(), ..PossibleBackend::default() };
    let Some(symbols) = image.symbols()? else { return Ok(vec![native]) };
    let mut slots = HashMap::new();
    for ops in ["pv_ops", "pv_ops_lock"].into_iter().filter_map(|name| symbols.address_of(name)) {
        let end = symbols.iter().map(|(address, ..)| address).filter(|&address| address > ops).min().unwrap_or(ops);
        for slot in (ops..end).step_by(image.bits().word()) {
            let Some(built) = image.read_word(slot) else { continue };
            for (native, instead) in KVM {
                if symbols.address_of(native) == Some(built) {
                    let others = instead.iter().filter_map(|name| symbols.address_of(name));
                    slots.insert(slot, std::iter::once(built).chain(others).collect());
                }
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
    let release = image.release().unwrap_or("a kernel without a banner");
    let (era, numbers) =
        generation(release).filter(|&(era, _)| !era.starts_with("5.10") || image.bits() == Bits::B64).ok_or_else(
            || format!("{}: {release}: declared here are 5.4 and 5.10 (64 bits), 6.1, 6.12 and 7.2", image.name()),
        )?;
    let symbol = |name: &str| Ok::<_, pvops::Error>(image.symbols()?.and_then(|symbols| symbols.address_of(name)));
    let tables = Tables::read(image)?;
    let mut ops = Ops { nop: symbol("_paravirt_nop")?, bug: symbol("paravirt_BUG")?, ..Ops::default() };
    if era.starts_with("5.10") {
        ops.inlined = inlined(image, &tables)?;
        ops.identities = symbol("_paravirt_ident_64")?.map(|function| (function, 64)).into_iter().collect();
    }
    let info = KernelInfo { numbers, ops, backends: backends(image)?, nops: nops::tables(image) };

    let found = memory.find(image, &mut |_, _| Ok(()))?;
    let held = text(memory, &found, image)?;
    let verifier = Verifier::new(image, &tables, Rules::by_name(era)?, info, code(image, found.slide)?)?;
    let view = View::new(verifier.text(), &held.bytes, &held.unread)?;
    Ok((verifier.verify(&view, &Known::default()), found.slide))
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
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
