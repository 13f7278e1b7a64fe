//! Real kernels to test on: `$PVOPS_KERNELS/kernels/vmlinuz-*`.
#![allow(dead_code, clippy::expect_used)]

use std::path::PathBuf;

use pvops::image::Image;

/// The folder with `kernels/` and `boots/`. None (and a note) when `PVOPS_KERNELS` is unset; with
/// `PVOPS_REQUIRE_KERNELS=1` that fails.
pub fn root() -> Option<PathBuf> {
    let root = std::env::var_os("PVOPS_KERNELS").map(PathBuf::from);
    if root.is_none() {
        assert!(!required(), "PVOPS_REQUIRE_KERNELS=1, but PVOPS_KERNELS is unset");
        eprintln!("skipped: PVOPS_KERNELS is unset");
    }
    root
}

fn required() -> bool {
    std::env::var_os("PVOPS_REQUIRE_KERNELS").is_some_and(|value| value == "1")
}

/// The kernels at hand, by path.
pub fn kernels() -> Vec<PathBuf> {
    let Some(root) = root() else { return Vec::new() };
    let directory = root.join("kernels");
    let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    let mut kernels: Vec<PathBuf> = entries.filter(is_kernel).collect();
    kernels.sort();
    assert!(!(required() && kernels.is_empty()), "no kernels in {}", directory.display());
    if kernels.is_empty() {
        eprintln!("skipped: no kernels in {}", directory.display());
    }
    kernels
}

/// The kernel of this release, if it is at hand.
pub fn kernel(release: &str) -> Option<Image> {
    let path = root()?.join(format!("kernels/vmlinuz-{release}"));
    Some(Image::open(&path).expect("a real kernel opens"))
}
