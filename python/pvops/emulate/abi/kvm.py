"""KVM of 2010 and its guests: arch/x86/include/asm/kvm_para.h of 2.6.33."""

from __future__ import annotations

#: The one hypercall with a state (KVM_HC_MMU_OP), and VAPIC_POLL_IRQ beside it.
MMU_OP = 2
CALLS = {1: "VAPIC_POLL_IRQ", MMU_OP: "MMU_OP"}
#: Requests in its buffer, and their sizes in bytes.
WRITE_PTE, FLUSH_TLB, RELEASE_PT = 1, 2, 3
SIZES = {WRITE_PTE: 24, FLUSH_TLB: 8, RELEASE_PT: 16}
NAMES = {WRITE_PTE: "WRITE_PTE", FLUSH_TLB: "FLUSH_TLB", RELEASE_PT: "RELEASE_PT"}

#: "KVMKVMKVM" in ebx, ecx, edx of CPUID leaf 0x40000000; NOP_IO_DELAY and MMU_OP in eax of the next.
SIGNATURE = (0x4B4D564B, 0x564B4D56, 0x4D)
FEATURES = 1 << 1 | 1 << 2

#: KVM_HC_KICK_CPU, since 3.12 (include/uapi/linux/kvm_para.h): ends the halt of the virtual CPU with this APIC number.
KICK_CPU = 5
