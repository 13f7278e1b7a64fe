//! Real kernels to test on: `$PVOPS_KERNELS/kernels/vmlinuz-*`.
#![allow(dead_code)]

use std::path::PathBuf;

/// The kernels at hand, by name. None (and a note) when `PVOPS_KERNELS` is unset; with `PVOPS_REQUIRE_KERNELS=1` that fails.
pub fn kernels() -> Vec<PathBuf> {
    let required = std::env::var_os("PVOPS_REQUIRE_KERNELS").is_some_and(|value| value == "1");
    let Some(root) = std::env::var_os("PVOPS_KERNELS").map(PathBuf::from) else {
        assert!(!required, "PVOPS_REQUIRE_KERNELS=1, but PVOPS_KERNELS is unset");
        eprintln!("skipped: PVOPS_KERNELS is unset");
        return Vec::new();
    };
    let directory = root.join("kernels");
    let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    let mut kernels: Vec<PathBuf> = entries.filter(is_kernel).collect();
    kernels.sort();
    assert!(!(required && kernels.is_empty()), "no kernels in {}", directory.display());
    if kernels.is_empty() {
        eprintln!("skipped: no kernels in {}", directory.display());
    }
    kernels
}
