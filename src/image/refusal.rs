//! Says what a file is that is not a kernel we can open.

use crate::error::Error;

/// An error that names what these bytes are, as far as their first bytes tell.
pub(super) fn explain(bytes: &[u8]) -> Error {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    // `Documentation/arch/arm64/booting.rst`, `Documentation/arch/riscv/boot-image-header.rst`,
    // `drivers/firmware/efi/libstub/zboot-header.S`.
    let what = if bytes.is_empty() {
        "is empty"
    } else if at(0, b"MZ") && at(4, b"zimg") {
        "is an EFI zboot image, which x86 kernels are never built as"
    } else if at(0x38, b"ARM\x64") {
        "is a kernel image for arm64, only x86 kernels can be opened"
    } else if at(0x38, b"RSC\x05") {
        "is a kernel image for RISC-V, only x86 kernels can be opened"
    } else if at(0, b"MZ") {
        "is a PE file without a kernel's setup header (of a unified kernel image, give the section .linux)"
    } else if at(0, &[0x27, 0x05, 0x19, 0x56]) {
        "is a U-Boot image, only x86 kernels can be opened"
    } else if at(0, b"KDUMP   ") || at(0, b"EMiL") {
        "is a memory dump, not a kernel"
    } else if at(0, b"!<arch>\n") {
        "is an archive, not a kernel"
    } else {
        "is neither an ELF file, nor a bzImage, nor in a compression the kernel supports"
    };
    Error::image(what)
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
    }
}
