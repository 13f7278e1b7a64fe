//! The kernel this runs on: its memory, and the file it was booted from.

use std::path::{Path, PathBuf};

use super::formats;
use super::kind::MemoryKind;
use super::read::{Memory, Source};
use super::space::Space;
use super::store::Store;
use crate::error::{Error, ErrorKind, Result};

/// The kernel's memory as an ELF core (`fs/proc/kcore.c`).
pub const KCORE: &str = "/proc/kcore";

impl Memory {
    /// Opens the memory of a running kernel: [`KCORE`], which takes root, or a file of its form.
    pub fn live(path: &Path) -> Result<Memory> {
        open(path).map_err(|error| error.in_file(&path.display().to_string()))
    }
}

/// Opens [`KCORE`], or a file that has its form.
fn open(path: &Path) -> Result<Memory> {
    let store = Store::open_endless(path).map_err(|mut error| {
        if error.reason.contains("ermission") {
            error.reason.push_str(": reading the kernel's memory takes root");
        }
        error
    })?;
    let core = formats::parse_core(&store).map_err(|mut error| {
        if error.kind == ErrorKind::Io {
            error.reason.push_str(": reading the kernel's memory takes root, and a kernel that is not locked down");
        }
        error
    })?;
    Ok(Memory {
        name: path.display().to_string(),
        kind: MemoryKind::Live,
        source: Source::Live(store),
        physical: Space::default(),
        virtual_: core.virtual_,
        notes: core.notes,
        remarks: Vec::new(),
    })
}

/// The file that the running kernel was booted from, by its release: where distributions put it.
pub fn running_kernel() -> Result<PathBuf> {
    let path = Path::new("/proc/sys/kernel/osrelease");
    let release =
        std::fs::read_to_string(path).map_err(|error| Error::io(&error).in_file(&path.display().to_string()))?;
    let release = release.trim();
    let tried = [
        format!("/boot/vmlinuz-{release}"),
        format!("/usr/lib/modules/{release}/vmlinuz"),
        format!("/lib/modules/{release}/vmlinuz"),
        format!("/boot/vmlinuz-{release}.efi"),
        format!("/boot/kernel-{release}"),
        format!("/usr/lib/debug/boot/vmlinux-{release}"),
        format!("/lib/modules/{release}/build/vmlinux"),
    ];
    let found = tried.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| {
        let reason = format!("no image of the running kernel {release}: tried {}", tried.join(", "));
        Error::new(ErrorKind::Io, reason)
    })
}
