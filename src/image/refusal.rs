//! Says what a file is that is not a kernel we can open.

use memchr::memmem;

use super::banner;
use super::bzimage::{self, SetupHeader};
use crate::error::Error;

/// Bytes, and where in a file they are.
type Magic = (usize, &'static [u8]);

/// Where a file has which bytes, and what it is then: the first that fits. Sources: `Documentation/arch/arm64/booting.rst`,
/// `Documentation/arch/riscv/boot-image-header.rst`, `drivers/firmware/efi/libstub/zboot-header.S`.
const KINDS: [(&[Magic], &str); 21] = [
    (&[(0, b"MZ"), (4, b"zimg")], "is an EFI zboot image, which x86 kernels are never built as"),
    (&[(0x38, b"ARM\x64")], "is a kernel image for arm64, only x86 kernels can be opened"),
    (&[(0x38, b"RSC\x05")], "is a kernel image for RISC-V, only x86 kernels can be opened"),
    (&[(0, b"MZ")], "is a PE file with neither a kernel's setup header nor a kernel in a section .linux"),
    (&[(0, &UBOOT), (UBOOT_ARCH, &[3])], "is a U-Boot image, not a kernel: give the kernel in it"),
    (&[(0, &UBOOT), (UBOOT_ARCH, &[24])], "is a U-Boot image, not a kernel: give the kernel in it"),
    (&[(0, &UBOOT)], "is a U-Boot image for a machine that is no x86, only x86 kernels can be opened"),
    (&[(0, b"KDUMP   ")], "is a memory dump, not a kernel"),
    (&[(0, b"EMiL")], "is a memory dump, not a kernel"),
    (&[(0, b"!<arch>\n")], "is an archive (of ar, as Debian's packages are), not a kernel: give the kernel in it"),
    (&[(0, &[0xed, 0xab, 0xee, 0xdb])], "is an RPM package, not a kernel: give the kernel in it"),
    (&[(0, b"hsqs")], "is a file system (squashfs), not a kernel: give the kernel in it"),
    (&[(0, b"QFI\xfb")], "is a disk image (qcow2), not a kernel: give the kernel in it"),
    (&[(0, b"ANDROID!")], "is an Android boot image, not a kernel: give the kernel in it"),
    (&[(0, b"070701")], "is a cpio archive (an initramfs), not a kernel"),
    (&[(0, b"070702")], "is a cpio archive (an initramfs), not a kernel"),
    (&[(0, b"PK\x03\x04")], "is a zip archive, not a kernel"),
    (&[(257, b"ustar")], "is a tar archive, not a kernel"),
    (&[(0x8001, b"CD001")], "is an ISO image, not a kernel: give the kernel in it"),
    (
        &[(0, &[0x04, 0x22, 0x4d, 0x18])],
        "is an lz4 frame, where kernels are packed in lz4's legacy one: unpack it first",
    ),
    (&[(0x24, &[0x18, 0x28, 0x6f, 0x01])], "is a kernel image for arm, only x86 kernels can be opened"),
];

/// How a U-Boot image begins, and where it says for which machine it is (`include/image.h`: `IH_ARCH_I386`, `IH_ARCH_X86_64`).
const UBOOT: [u8; 4] = [0x27, 0x05, 0x19, 0x56];
const UBOOT_ARCH: usize = 29;

/// How many of the kernels that a file holds are named.
const MOST_NAMED: usize = 3;

/// How much of a file is looked through: more than any kernel has, so that a file of terabytes is refused at once.
pub(super) const LOOKED_THROUGH: usize = 1 << 28;

/// How much of a stream is read to name what it is. A kernel as a raw binary has its banner within.
pub(super) const OF_A_STREAM: usize = 1 << 26;

/// An error that names what these bytes are, as far as their first bytes tell.
pub(super) fn explain(bytes: &[u8]) -> Error {
    let at = |&(offset, magic): &Magic| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let kind = KINDS.iter().find(|(magics, _)| magics.iter().all(at));
    let looked_through = &bytes[..bytes.len().min(LOOKED_THROUGH)];
    let what = if bytes.is_empty() {
        "is empty"
    } else if let Some(&(_, what)) = kind {
        what
    } else if let Some(release) = banner::find(looked_through).and_then(banner::release) {
        return Error::image(format!(
            "has the banner of Linux {release}, but is neither an ELF file nor a bzImage: give the vmlinux, whose section \
             headers say where its tables are"
        ));
    } else if at(&(0x1fe, &[0x55, 0xaa])) {
        "begins with a boot sector, but not with a Linux kernel's (2.1.0 and later have a setup header in it)"
    } else {
        "is neither an ELF file, nor a bzImage, nor in a compression the kernel supports"
    };
    Error::image(format!("{what}{}", held(looked_through)))
}

/// The bzImages that lie in these bytes as they are, in words; nothing where there is none.
fn held(bytes: &[u8]) -> String {
    let kernels = memmem::find_iter(bytes, b"HdrS").filter_map(|at| {
        let start = at.checked_sub(bzimage::HEADER)?;
        let file = &bytes[start..];
        let release = SetupHeader::booted(file)?.release(file)?;
        banner::of_linux(&release).then(|| format!("{release} at offset {start:#x}"))
    });
    let named: Vec<String> = kernels.take(MOST_NAMED).collect();
    if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_images_are_named() {
        let mut arm = vec![0; 64];
        arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
        assert!(explain(&arm).reason.contains("arm64"));
        assert!(explain(b"MZ\0\0zimg").reason.contains("zboot"));
        assert!(explain(b"").reason.contains("empty"));
        assert!(explain(b"hello").reason.contains("neither"));
        let starting = |offset: usize, magic: &[u8]| {
            let mut file = vec![0; offset];
            file.extend_from_slice(magic);
            explain(&file).reason
        };
        for (offset, magic, named) in [
            (0, b"ANDROID!".as_slice(), "an Android boot image"),
            (0, b"070701", "an initramfs"),
            (0, b"PK\x03\x04", "a zip archive"),
            (257, b"ustar", "a tar archive"),
            (0x8001, b"CD001", "an ISO image"),
            (0, b"\x04\x22\x4d\x18", "an lz4 frame"),
            (0x24, b"\x18\x28\x6f\x01", "for arm"),
            (0x1fe, b"\x55\xaa", "a boot sector"),
        ] {
            assert!(starting(offset, magic).contains(named), "{named}");
        }
        let raw = starting(64, b"Linux version 5.4.0 (a@b) (gcc) #1 SMP Fri\n\0");
        assert!(raw.starts_with("has the banner of Linux 5.4.0, but is neither"), "{raw}");
    }
}
