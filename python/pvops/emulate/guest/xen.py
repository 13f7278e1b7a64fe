"""The guest side of Xen PV, 2007: hypercalls through Xen's page of them, and multicalls as batches.

Sources: arch/x86/xen/{enlighten,irq,setup,time}.c of 2.6.24.
"""

from __future__ import annotations

from pvops.assembler import Local, addr, align, asciz, data, function, label, mem, space, u32
from pvops.assembler.operands import al, eax, ebp, ebx, ecx, edi, edx, esi, esp
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    adcl,
    addl,
    andl,
    cmpb,
    cmpl,
    divl,
    je,
    jmp,
    jne,
    movb,
    movl,
    movzbl,
    popfl,
    popl,
    pushfl,
    pushl,
    rdtsc,
    ret,
    sbbl,
    shll,
    shrl,
    subl,
    testl,
    xorl,
)
from pvops.emulate.abi.xen import (
    ARCH_CR2,
    BATCH,
    CPUID_PREFIX,
    MASK,
    PENDING,
    SYSTEM_TIME,
    TSC_MUL,
    TSC_SHIFT,
    TSC_STAMP,
    WC_SEC,
)
from pvops.emulate.guest.layout import Build
from pvops.emulate.guest.xen_calls import LAZY_CPU, batches, entry, extended, hypercall, keeping, shared
from pvops.emulate.guest.xen_tables import descriptors, mmu, setup

__KERNEL_DS = 0x18


def functions(build: Build) -> Body:
    """Xen's functions for the ops of an era."""
    common = (batches(), _irq(), _cpu(), descriptors(build), mmu(build), _time(), _rest())
    if build.era == "seed":
        return (*common, setup(build))
    from pvops.emulate.guest import xen_2010

    return (*common, xen_2010.functions())


def _irq() -> Body:
    done, down = Local("done"), Local("down")
    pending = (cmpb(0, mem(shared(PENDING))), jne("xen_force_evtchn_callback"))
    return (
        function("xen_save_fl", movzbl(mem(shared(MASK)), eax), xorl(1, eax), shll(9, eax), ret()),
        function(
            "xen_restore_fl",
            *(shrl(9, eax), andl(1, eax), xorl(1, eax), movb(al, mem(shared(MASK)))),
            *(testl(eax, eax), jne(addr(done)), *pending, label(done), ret()),
        ),
        function("xen_irq_disable", movb(1, mem(shared(MASK))), ret()),
        function("xen_irq_enable", movb(0, mem(shared(MASK))), *pending, ret()),
        keeping("xen_force_evtchn_callback", xorl(ebx, ebx), xorl(ecx, ecx), hypercall("xen_version")),
        # SCHEDOP_block: events on and sleep, with no gap between.
        keeping("xen_safe_halt", movl(1, ebx), xorl(ecx, ecx), hypercall("sched_op")),
        function(
            "xen_halt", cmpb(0, mem(shared(MASK))), jne(addr(down)), jmp("xen_safe_halt"), label(down), jmp("xen_down")
        ),
        keeping("xen_down", movl(2, ebx), xorl(ecx, ecx), hypercall("vcpu_op")),
        function("xen_init_IRQ", ret()),  # event channels, of which a guest here has none bound
    )


def _cpu() -> Body:
    done = Local("done")
    return (
        function("xen_read_cr2", movl(mem(shared(ARCH_CR2)), eax), ret()),
        function("xen_write_cr2", movl(eax, mem(shared(ARCH_CR2))), ret()),
        function("xen_read_cr3", movl(mem("xen_cr3"), eax), ret()),
        function("xen_write_cr4", ret()),  # Xen keeps its own
        keeping(
            "xen_write_cr3", movl(eax, mem("xen_cr3")), extended("NEW_BASEPTR", LAZY_CPU, movl(eax, ebx), shrl(12, ebx))
        ),
        keeping("xen_get_debugreg", movl(eax, ebx), hypercall("get_debugreg")),
        keeping("xen_set_debugreg", movl(eax, ebx), movl(edx, ecx), hypercall("set_debugreg")),
        # cpuid that Xen sees, by an instruction that traps; without what Xen does itself (APIC, MCE, …).
        function(
            "xen_cpuid",
            *(pushl(ebx), pushl(esi), pushl(edi), pushl(ebp), pushl(eax), pushl(ecx), movl(eax, esi), movl(ecx, edi)),
            *(
                movl(edx, ebp),
                movl(mem(0, esi), eax),
                movl(mem(0, edi), ecx),
                cmpl(1, eax),
                pushfl(),
                data(CPUID_PREFIX),
            ),
            *(popfl(), jne(addr(done)), andl(~(1 << 7 | 1 << 9 | 1 << 12 | 1 << 14 | 1 << 22), edx), label(done)),
            *(movl(ecx, mem(0, edi)), popl(ecx), popl(edi), movl(eax, mem(0, edi)), movl(ebx, mem(0, ebp)), popl(ebp)),
            *(movl(mem(16, esp), edi), movl(edx, mem(0, edi)), popl(edi), popl(esi), popl(ebx), ret()),
        ),
        keeping(
            "xen_set_iopl_mask",
            shrl(12, eax),
            movl(eax, mem("xen_iopl")),
            movl(6, ebx),
            movl(addr("xen_iopl"), ecx),
            hypercall("physdev_op"),
        ),
        function("xen_io_delay", ret()),
        keeping("xen_load_esp0", movl(mem(0, edx), ecx), movl(__KERNEL_DS, ebx), entry("stack_switch", LAZY_CPU)),
        function("xen_store_tr", xorl(eax, eax), ret()),
    )


def _time() -> Body:
    return (
        # Nanoseconds: the shared page's last system_time, and the ticks since.
        function(
            "xen_sched_clock",
            *(rdtsc(), subl(mem(shared(TSC_STAMP)), eax), sbbl(mem(shared(TSC_STAMP + 4)), edx)),
            *(addl(mem(shared(SYSTEM_TIME)), eax), adcl(mem(shared(SYSTEM_TIME + 4)), edx), ret()),
        ),
        function("xen_get_wallclock", movl(mem(shared(WC_SEC)), eax), ret()),
        function("xen_set_wallclock", movl(-1, eax), ret()),  # not for an unprivileged domain
        function(
            "xen_cpu_khz",
            *(pushl(ebx), xorl(eax, eax), movl(1000000, edx), divl(mem(shared(TSC_MUL)))),
            *(movzbl(mem(shared(TSC_SHIFT)), ecx), testl(ecx, ecx), je(addr(_UNSHIFTED)), shrl(1, eax)),
            *(label(_UNSHIFTED), popl(ebx), ret()),
        ),
        # VCPUOP_stop_periodic_timer: the kernel sets each timer itself.
        keeping("xen_time_init", movl(7, ebx), xorl(ecx, ecx), hypercall("vcpu_op")),
    )


_UNSHIFTED = Local("unshifted")


def _rest() -> Body:
    return (
        function("xen_patch", ret()),
        function("xen_banner", movl(mem(addr("pv_info") + 12), eax), ret()),
        function(
            "xen_memory_setup",
            movl(mem("boot_params"), eax),
            movl(eax, mem("e820_map")),
            movl(addr("xen_info"), eax),
            ret(),
        ),
        # vm_assist: Xen emulates segments of 4 GiB and stores into page tables; set_callbacks: the entry for events.
        keeping(
            "xen_arch_setup",
            *(
                xorl(ebx, ebx),
                xorl(ecx, ecx),
                hypercall("vm_assist"),
                xorl(ebx, ebx),
                movl(2, ecx),
                hypercall("vm_assist"),
            ),
            *(
                movl(0x10, ebx),
                movl(addr("bad_trap"), ecx),
                movl(0x10, edx),
                movl(addr("bad_trap"), esi),
                hypercall("set_callbacks"),
            ),
        ),
        function("xen_mark_init_mm_pinned", ret()),
        function("xen_apic_write", ret()),
        function("xen_apic_read", xorl(eax, eax), ret()),
    )


def start(build: Build, fill: Body) -> Body:
    """Where Xen starts a domain; and its page of hypercalls, which it fills in itself."""
    return (
        function("xen_start_kernel", fill, jmp("start_kernel")),
        *(align(0x1000, 0xCC), label("hypercall_page"), space(0x1000, 0xCC)),
    )


def variables(build: Build) -> Body:
    """The shared info page, and the buffers of multicalls."""
    if build.era == "seed":
        more: Body = ()
    else:
        from pvops.emulate.guest import xen_2010

        more = xen_2010.variables()
    words = ("mc_count", "xen_cr3", "xen_gdt_frames", "xen_iopl")
    return (
        *(align(0x1000), label("xen_shared_info"), space(0x1000), label("mc_entries"), space(32 * BATCH)),
        *(label("mc_arguments"), space(16 * BATCH), label("xen_traps"), space(8 * 257)),
        *((label(word), u32(0)) for word in words),
        more,
        *(label("xen_info"), asciz("Xen")),
    )
