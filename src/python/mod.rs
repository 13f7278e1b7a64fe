//! The Python bindings: thin, and without the GIL on long work.

use pyo3::prelude::*;

#[cfg(target_os = "linux")]
mod alloc;
mod arrow;
mod blocks;
mod boot;
mod column;
mod columns;
mod cpu;
mod cut;
mod detached;
mod errors;
mod heard;
mod historical;
mod image;
mod lent;
mod lock;
mod lock_bench;
mod lock_check;
mod lock_ops;
mod lock_sim;
mod measure;
mod memory;
mod plan;
mod report;
mod sites;
mod template;
mod verify;

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: alloc::HugePages = alloc::HugePages;

/// The Rust core. Private: `pvops` is the interface.
// PyO3 would tell builds of Python without a GIL that this module needs none; nobody has seen it there.
#[pymodule(gil_used = true)]
mod _core {
    #[pymodule_export]
    use super::blocks::BlockCounter;
    #[pymodule_export]
    use super::boot::{Boot, PassRules, Tables, pass_order, passes};
    #[pymodule_export]
    use super::columns::{Columns, Written};
    #[pymodule_export]
    use super::cpu::cpuid;
    #[pymodule_export]
    use super::cut::words_of_cut_files;
    #[pymodule_export]
    use super::heard::{Heard, hear, registered};
    #[pymodule_export]
    use super::historical::{boot_region, patch_alternative, patch_locks, switch_locks, unlocks_at_boot};
    #[pymodule_export]
    use super::image::Image;
    #[pymodule_export]
    use super::lock::{HybridLock, TicketLock, lock_asymmetric};
    #[pymodule_export]
    use super::lock_bench::{
        lock_bench_contend, lock_bench_limits, lock_bench_mode, lock_bench_names, lock_bench_pair,
    };
    #[pymodule_export]
    use super::lock_check::{lock_check, lock_follow, lock_protocols, lock_replay, lock_standard, lock_uncatchable};
    #[pymodule_export]
    use super::lock_ops::Unkicked;
    #[pymodule_export]
    use super::lock_sim::{simulate_lock, simulated_names, usual_threshold_us};
    #[pymodule_export]
    use super::measure::measure;
    #[pymodule_export]
    use super::memory::{Location, Memory, running_kernel};
    #[pymodule_export]
    use super::plan::{Plan, UndeterminedBytes, fill_nops, patch_site, write_file};
    #[pymodule_export]
    use super::report::{Module, Report};
    #[pymodule_export]
    use super::sites::ParavirtSites;
    #[pymodule_export]
    use super::template::{Slot, TemplateRules};
    #[pymodule_export]
    use super::verify::{KernelInfo, Known, Verifier};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("PanicException", module.py().get_type::<pyo3::panic::PanicException>())?;
        module.add("__build__", build())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    /// How the core was built, for reports of faults: target, profile, features.
    fn build() -> String {
        let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let features = [("peers", cfg!(feature = "peers")), ("std", cfg!(feature = "std"))];
        let with: Vec<_> = features.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
        let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
        format!("{arch}-{os}-{libc}, {profile}, with {}, abi3 from Python 3.11", with.join(" and "))
    }
}
