//! `pvops._core.cpuid`: what this machine's CPU says of itself.

use pyo3::prelude::*;

/// `cpuid`: (eax, ebx, ecx, edx) of a leaf of the CPU this runs on; None where it is no x86.
#[pyfunction]
#[pyo3(signature = (leaf, subleaf = 0))]
pub fn cpuid(leaf: u32, subleaf: u32) -> Option<(u32, u32, u32, u32)> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 CPU has the instruction, and it touches nothing but the four registers. Newer compilers
        // call it safe.
        #[allow(unused_unsafe)]
        let found = unsafe { std::arch::x86_64::__cpuid_count(leaf, subleaf) };
        Some((found.eax, found.ebx, found.ecx, found.edx))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (leaf, subleaf);
        None
    }
}
