//! What is declared here of kernels of 4.20 to 5.12, and no image tells: what the patch function copies over calls of ops.

/// What `native_patch()` copies (4.20 to 5.12 arch/x86/kernel/paravirt_patch.c, before 5.3 paravirt_patch_64.c; x86-64), by
/// the function that the op has on bare hardware; of locks only while it has that.
pub const COPIED: [(&str, &[u8], bool); 12] = [
    ("native_wbinvd", b"\x0f\x09", false),
    ("native_save_fl", b"\x9c\x58", false),
    ("native_restore_fl", b"\x57\x9d", false),
    ("native_irq_disable", b"\xfa", false),
    ("native_irq_enable", b"\xfb", false),
    ("native_read_cr2", b"\x0f\x20\xd0", false),
    ("__native_read_cr3", b"\x0f\x20\xd8", false),
    ("native_write_cr3", b"\x0f\x22\xdf", false),
    ("native_usergs_sysret64", b"\x0f\x01\xf8\x48\x0f\x07", false), // gone in stable kernels of 5.10
    ("native_swapgs", b"\x0f\x01\xf8", false),
    ("__raw_callee_save___native_queued_spin_unlock", b"\xc6\x07\x00", true),
    ("__raw_callee_save___native_vcpu_is_preempted", b"\x31\xc0", true),
];
