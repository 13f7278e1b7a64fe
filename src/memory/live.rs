//! The kernel this runs on: its memory, and the file it was booted from.

use std::path::{Path, PathBuf};

use super::space::Space;
use super::store::Store;
use super::{Memory, MemoryKind, Source, elf_core};
use crate::error::{Error, ErrorKind, Result};

/// The kernel's memory as an ELF core (`fs/proc/kcore.c`).
pub const KCORE: &str = "/proc/kcore";

/// Opens [`KCORE`], or a file that has its form.
pub(super) fn open(path: &Path) -> Result<Memory> {
    let store = Store::open_endless(path).map_err(|mut error| {
        if error.reason.contains("ermission") {
            error.reason.push_str(": reading the kernel's memory takes root");
        }
        error
    })?;
    let core = elf_core::parse(&store).map_err(|mut error| {
        if error.kind == ErrorKind::Io {
            error.reason.push_str(": reading the kernel's memory takes root, and a kernel that is not locked down");
        }
        error
    })?;
    Ok(Memory {
        name: path.display().to_string(),
        kind: MemoryKind::Live,
        source: Source::Store(store),
        physical: Space::default(),
        virtual_: core.virtual_,
        notes: core.notes,
    })
}

/// Reads the live kernel's virtual memory; whether all of it is there. What cannot be read (`EFAULT`) is not.
pub(super) fn read(store: &Store, space: &Space, address: u64, buffer: &mut [u8]) -> bool {
    let end = address.saturating_add(buffer.len() as u64);
    let mut next = address;
    for extent in space.within(address..end) {
        let from = (extent.address - address) as usize;
        let part = &mut buffer[from..][..extent.size as usize];
        if extent.address != next || store.read(extent.offset, part).is_ok_and(|n| n < part.len()) {
            return false;
        }
        next = extent.address + extent.size;
    }
    next == end
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
