//! Judges what a dump holds of a kernel's text: `cargo run --release --example verify -- vmlinuz-6.1.0-… guest.core`
//!
//! The core knows no name of a feature, an op or a hypervisor: it wants numbers and addresses. What the image does not
//! tell is declared here for three releases: the numbers of `asm/cpufeatures.h`, and what KVM's init code puts into the
//! ops. For all others that is declared in Python (`pvops.eras`, `pvops.backends`), so this refuses them: before 5.13 it
//! would take a table of the instructions that are copied for each op, and other releases have other numbers.
//! Exit status 0 where everything is explained, 1 where not.

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;

use pvops::image::Image;
use pvops::memory::Memory;
use pvops::plan::Rules;
use pvops::sites::{Tables, nops};
use pvops::verify::{FeatureNumbers, KernelInfo, Known, Ops, PossibleBackend, Report, Verifier, View, code, text};

/// `arch/x86/include/asm/cpufeatures.h`, as stable releases of 6.1, 6.12 and 7.2 have it: word · 32 + bit.
const RETPOLINE: u16 = 11 * 32 + 12;
const RETPOLINE_LFENCE: u16 = 11 * 32 + 13;
const RETHUNK: u16 = 11 * 32 + 14;
const CALL_DEPTH: u16 = 11 * 32 + 19;
const XENPV: u16 = 8 * 32 + 16;

/// What a slot holds as built, and what `kvm_guest_init()` and `kvm_spinlock_init()` (`arch/x86/kernel/kvm.c`) may put
/// there instead.
const KVM: [(&str, &[&str]); 7] = [
    ("native_io_delay", &["kvm_io_delay"]),
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
        ["6", "1", ..] => ("6.1", 5, None),
        ["6", "12", ..] => ("6.12", 6, Some(CALL_DEPTH)),
        ["7", "2", ..] => ("7.2", 10, Some(CALL_DEPTH)),
        _ => return None,
    };
    Some((era, FeatureNumbers { its: Some(21 * 32 + its), call_depth, ..both }))
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
    let (era, numbers) = generation(release)
        .ok_or_else(|| format!("{}: {release}: declared here are 6.1, 6.12 and 7.2", image.name()))?;
    let symbol = |name: &str| Ok::<_, pvops::Error>(image.symbols()?.and_then(|symbols| symbols.address_of(name)));
    let ops = Ops { nop: symbol("_paravirt_nop")?, bug: symbol("paravirt_BUG")?, ..Ops::default() };
    let info = KernelInfo { numbers, ops, backends: backends(image)?, nops: nops::tables(image) };

    let found = memory.find(image, &mut |_, _| Ok(()))?;
    let held = text(memory, &found, image)?;
    let tables = Tables::read(image)?;
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
