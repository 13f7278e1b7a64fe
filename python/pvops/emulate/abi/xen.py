"""Xen 3.x and its PV guests on i386: xen/include/public/{xen,sched,vcpu,physdev}.h of Xen 3.1."""

from __future__ import annotations

TRAP = 0x82
DOMID_SELF = 0x7FF0
#: How many calls a batch of the guest takes (MC_BATCH).
BATCH = 32
#: ``ud2; .ascii "xen"; cpuid``: the instruction that only Xen understands.
CPUID_PREFIX = b"\x0f\x0bxen\x0f\xa2"

CALLS = {
    0: "set_trap_table",
    1: "mmu_update",
    2: "set_gdt",
    3: "stack_switch",
    4: "set_callbacks",
    5: "fpu_taskswitch",
    8: "set_debugreg",
    9: "get_debugreg",
    10: "update_descriptor",
    13: "multicall",
    14: "update_va_mapping",
    17: "xen_version",
    21: "vm_assist",
    23: "iret",
    24: "vcpu_op",
    26: "mmuext_op",
    29: "sched_op",
    33: "physdev_op",
}
MMUEXT = {
    0: "PIN_L1_TABLE",
    1: "PIN_L2_TABLE",
    2: "PIN_L3_TABLE",
    4: "UNPIN_TABLE",
    5: "NEW_BASEPTR",
    6: "TLB_FLUSH_LOCAL",
    7: "INVLPG_LOCAL",
    8: "TLB_FLUSH_MULTI",
    13: "SET_LDT",
}

#: Offsets in the shared page: of vcpu_info[0], its arch and time parts, and the wall clock.
PENDING, MASK, ARCH_CR2 = 0, 1, 8
TSC_STAMP, SYSTEM_TIME, TSC_MUL, TSC_SHIFT = 40, 48, 56, 60
WC_SEC = 64 * 32 + 2 * 128 + 4

ENOSYS = -38
#: Of vcpu_op: where a guest wants its vcpu_info (VCPUOP_register_vcpu_info).
REGISTER_VCPU_INFO = 10

#: Event channels and sleeping: numbers of the calls and of what is asked (event_channel.h, sched.h of Xen 3.1).
XEN_VERSION, SCHED_OP, EVENT_CHANNEL_OP = 17, 29, 32
SCHEDOP_BLOCK, SCHEDOP_POLL = 1, 3
EVTCHN_SEND = 4
#: The offset of ``evtchn_pending`` in the shared page: behind 32 of ``struct vcpu_info``, of 64 bytes each.
EVTCHN_PENDING = 32 * 64

#: Of x86-64 besides (arch-x86/xen-x86_64.h, callback.h): calls; where system calls enter the kernel; bases of segments;
#: what the frame of ``iret`` says of a return from a system call.
CALLS_64 = {**CALLS, 25: "set_segment_base", 30: "callback_op", EVENT_CHANNEL_OP: "event_channel_op"}
CALLBACK_SYSCALL, CALLBACK_SYSENTER, CALLBACK_SYSCALL32 = 2, 5, 7
SEGBASE_GS_USER, SEGBASE_GS_USER_SEL = 1, 3
VGCF_IN_SYSCALL = 256
#: ``mmuext_op`` of x86-64: four levels, and the page table of user space.
MMUEXT_64 = {**MMUEXT, 3: "PIN_L4_TABLE", 15: "NEW_USER_BASEPTR"}
