"""Hyper-V and its guests: the parts of the Top Level Functional Specification (TLFS) that locks need.

Names and numbers: the TLFS, and include/asm-generic/hyperv-tlfs.h of 6.1 (include/hyperv/hvgdk_mini.h since 6.15).
"""

from __future__ import annotations

#: CPUID: a hypervisor is present (leaf 1, ecx); "Microsoft Hv" in ebx, ecx, edx of the first of its leaves.
HYPERVISOR_PRESENT = 31
MAX_LEAF, VERSION_LEAF, FEATURES_LEAF, HINTS_LEAF = 0x40000000, 0x40000002, 0x40000003, 0x40000004
SIGNATURE = (0x7263694D, 0x666F736F, 0x76482074)
#: Of eax of the features: the MSR below can be read; of the hints: IPIs are better asked for by hypercall.
GUEST_IDLE_AVAILABLE = 1 << 10
CLUSTER_IPI_RECOMMENDED = 1 << 10
#: ebx of the hints: spins before a guest is to tell of them; all ones: never.
SPINS = 0xFFF

#: MSRs: who the guest is, where its page of hypercalls lies, the end of an interrupt, and "this CPU may sleep".
GUEST_OS_ID, HYPERCALL, EOI, GUEST_IDLE = 0x40000000, 0x40000001, 0x40000070, 0x400000F0
#: Of the second: the page is there. Its address is physical; kernels are linked so much higher.
ENABLE = 1
BASE = {32: 0xC0000000, 64: 0xFFFFFFFF80000000}

#: Calls by number, and the bit of the control word that says that the input is in registers.
NOTIFY_LONG_SPIN_WAIT, SEND_IPI = 0x0008, 0x000B
CALLS = {NOTIFY_LONG_SPIN_WAIT: "HvCallNotifyLongSpinWait", SEND_IPI: "HvCallSendSyntheticClusterIpi"}
FAST = 1 << 16
SUCCESS, INVALID_CODE, INVALID_PARAMETER = 0, 2, 5
#: Vectors below are exceptions'.
FIRST_VECTOR, LAST_VECTOR = 0x10, 0xFF

#: Of Linux: x86_platform_ipi, which kicks (arch/x86/include/asm/irq_vectors.h); and what it writes into the first MSR
#: (``hv_generate_guest_id()``: an open source system, Linux, its version).
PLATFORM_IPI_VECTOR = 0xF7
LINUX_ID = 0x8100
