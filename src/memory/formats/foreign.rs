//! What a file is that is known and not read: named for what it is, with the command that makes of it what is read.

use super::dump::{Dump, Opened};
use crate::error::{Error, Result};

/// How a file is told: bytes at an offset.
struct Sign(u64, &'static [u8]);

/// Where `S1SUSPEND` stands in a swap device: at the end of its first page (`kernel/power/swap.c`, `struct swsusp_header`).
const SWSUSP: u64 = 4096 - 10;

/// A sign, what it is a sign of, and what helps.
const FOREIGN: &[(Sign, &str, &str)] = &[
    (Sign(0, b"LibvirtQemudSave"), "what virsh save wrote: a saved machine, not its memory", VIRSH),
    (Sign(0, b"LibvirtQemudPart"), "what virsh save wrote, and not to its end", VIRSH),
    (Sign(0, b"QEVM"), "a saved state of QEMU's (savevm, migrate), not memory", QEMU),
    (
        Sign(0, b"QFI\xfb"),
        "a disk (qcow2), not memory",
        "a snapshot in it is memory once it runs: loadvm NAME, then dump-guest-memory FILE",
    ),
    (Sign(0, b"KDMV"), "a disk (vmdk), not memory", VMWARE),
    (Sign(0, b"COWD"), "a disk (vmdk), not memory", VMWARE),
    (Sign(0, b"<<< "), "a disk (vdi), not memory", VIRTUALBOX),
    (Sign(0, b"conectix"), "a disk (vhd), not memory", HYPERV),
    (Sign(0, b"vhdxfile"), "a disk (vhdx), not memory", HYPERV),
    (Sign(0, b"\x7fVirtualBox SavedState"), "a saved state of VirtualBox's (.sav), not memory", VIRTUALBOX),
    (Sign(0, b"\x01\x40\x28\x01"), "a saved state of Hyper-V's (.vmrs)", HYPERV),
    (
        Sign(0, b"Xen saved domain"),
        "what xl save wrote: a saved domain, not its memory",
        "xl restore, then xl dump-core DOMAIN FILE",
    ),
    (
        Sign(0, b"LinuxGuestRecord"),
        "what Xen's xm save wrote: a saved domain, not its memory",
        "xl dump-core DOMAIN FILE of it running",
    ),
    (Sign(0, b"PAGEDUMP"), "a crash dump of Windows", LINUX),
    (Sign(0, b"PAGEDU64"), "a crash dump of Windows", LINUX),
    (Sign(0, b"MDMP"), "a minidump of Windows", LINUX),
    (Sign(0, b"hibr"), "a hibernation file of Windows", LINUX),
    (Sign(0, b"HIBR"), "a hibernation file of Windows", LINUX),
    (Sign(SWSUSP, b"S1SUSPEND"), "a swap device that a kernel hibernated to", HIBERNATED),
    (Sign(SWSUSP, b"SWAPSPACE2"), "a swap device", "memory of a running kernel is what is asked for"),
    (Sign(0, b"EVF\x09\x0d\x0a\xff\0"), "in EnCase's format (EWF)", "ewfexport -f raw FILE makes it plain memory"),
    (Sign(0, b"EVF2\x0d\x0a\x81\0"), "in EnCase's format (EWF)", "ewfexport -f raw FILE makes it plain memory"),
    (Sign(0, b"\x1f\x8b"), "packed by gzip", "gunzip FILE"),
    (Sign(0, b"\xfd7zXZ\0"), "packed by xz", "unxz FILE"),
    (Sign(0, b"\x28\xb5\x2f\xfd"), "packed by zstd", "unzstd FILE"),
    (Sign(0, b"\x04\x22\x4d\x18"), "packed by lz4", "unlz4 FILE"),
    (Sign(0, b"BZh"), "packed by bzip2", "bunzip2 FILE"),
    (Sign(0, b"\x89LZO\0"), "packed by lzop", "lzop -d FILE"),
    (Sign(0, b"PK\x03\x04"), "a zip archive", "unzip FILE"),
    (Sign(0, b"7z\xbc\xaf\x27\x1c"), "a 7z archive", "7z x FILE"),
    (Sign(0, b"\xff\x06\x00\x00sNaPpY"), "packed by Snappy", "snzip -d FILE"),
    (
        Sign(257, b"ustar"),
        "a tar archive",
        "tar -xf FILE; of Proxmox's vma, dump the running machine with dump-guest-memory",
    ),
    (Sign(0, b"VMA\0"), "a backup of Proxmox's (vma): disks, not memory", QEMU),
];

const VIRSH: &str = "virsh restore FILE, then virsh dump --memory-only DOMAIN OUT";
const QEMU: &str = "dump-guest-memory FILE in QEMU's monitor (qm monitor on Proxmox) writes memory";
const VMWARE: &str = "suspend it, or take a snapshot with memory: .vmem with .vmss or .vmsn are read";
const VIRTUALBOX: &str = "VBoxManage debugvm NAME dumpvmcore --filename FILE of it running writes an ELF core";
const HYPERV: &str = "dump it from within with AVML or LiME, or VM2DMP's raw output of its saved state";
const LINUX: &str = "memory of a Linux kernel is what is asked for";
const HIBERNATED: &str = "resume it and dump it running, with AVML or LiME";

/// Takes nothing, and refuses what it knows.
pub(super) fn probe(dump: &Dump) -> Result<Option<Opened>> {
    for (Sign(offset, bytes), what, help) in FOREIGN {
        let mut found = vec![0; bytes.len()];
        if dump.store.read(*offset, &mut found)? == bytes.len() && found == *bytes {
            return Err(Error::memory(format!("is {what}, which is not read as memory: {help}")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Given;
    use crate::memory::store::Store;

    #[test]
    fn a_format_that_is_not_read_is_named_with_what_helps() {
        for (Sign(offset, bytes), what, help) in FOREIGN {
            let mut file = vec![0; *offset as usize];
            file.extend(*bytes);
            file.resize(8192, 0);
            let dump = Dump::new(Store::Bytes(Given::new(file))).unwrap();
            let reason = probe(&dump).map(|_| ()).unwrap_err().reason;
            assert!(reason.contains(what) && reason.contains(help), "{reason}");
        }
        for plain in [vec![0; 64], vec![0; 8192], b"\xf3\x0f\x1e\xfa".to_vec()] {
            assert!(probe(&Dump::new(Store::Bytes(Given::new(plain))).unwrap()).unwrap().is_none());
        }
    }
}
