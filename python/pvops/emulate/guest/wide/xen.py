"""The guest side of Xen PV on x86-64: its kernel is in ring 3, and system calls of user space come by way of Xen.

Sources: arch/x86/xen/{enlighten,mmu,irq}.c, xen-asm.S and xen-asm_64.S of 2.6.33 and 3.12. A physical page is the
machine page of the same number here, so that what converts one into the other has nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.assembler import Local, Value, addr, align, asciz, data, function, label, mem, space, u32, u64
from pvops.assembler import operands as o
from pvops.assembler import x86 as x
from pvops.assembler.statements import Body
from pvops.backends.xen_direct import direct
from pvops.emulate.abi.xen import (
    ARCH_CR2,
    BATCH,
    CALLBACK_SYSCALL,
    CALLBACK_SYSCALL32,
    CALLBACK_SYSENTER,
    CPUID_PREFIX,
    EVTCHN_SEND,
    MASK,
    PENDING,
    REGISTER_VCPU_INFO,
    SEGBASE_GS_USER,
    SEGBASE_GS_USER_SEL,
    SYSTEM_TIME,
    TSC_STAMP,
)
from pvops.emulate.cpu64 import KERNEL_DS, KERNEL_GS_BASE
from pvops.emulate.guest.wide import locks
from pvops.emulate.guest.wide.layout import GDT_TLS, SP0, TLS_ARRAY, TLS_ENTRIES
from pvops.emulate.guest.wide.xen_calls import (
    LAZY_CPU,
    LAZY_MMU,
    NUMBERS,
    batches,
    entry,
    extended,
    hypercall,
    issue,
    shared,
)
from pvops.emulate.macros.paravirt import Paravirt
from pvops.emulate.paging import START_KERNEL

TS, PGE, PSE = 8, 0x80, 0x10
IF = 0x200
_OFFSET = START_KERNEL - (1 << 64)
#: C functions behind a thunk that saves all registers; the irq ops are direct since vcpu_info is placed.
SAVED = (
    *("save_fl", "restore_fl", "irq_disable", "irq_enable"),
    *(f"{level}_val" for level in ("pte", "pmd", "pud", "pgd")),
    *(f"make_{level}" for level in ("pte", "pmd", "pud", "pgd")),
)
#: What 3.12 has there that 2.6.33 has not.
OPS_3_12: Mapping[str, str] = {
    "pv_cpu_ops.read_cr8": "xen_read_cr8",
    "pv_cpu_ops.write_cr8": "xen_write_cr8",
    "pv_cpu_ops.read_tscp": "native_read_tscp",
    "pv_time_ops.steal_clock": "native_steal_clock",
    "pv_mmu_ops.lazy_mode.flush": "xen_flush_lazy_mmu",
    "pv_mmu_ops.ptep_modify_prot_start": "xen_ptep_modify_prot_start",
    "pv_mmu_ops.ptep_modify_prot_commit": "xen_ptep_modify_prot_commit",
    "pv_lock_ops.lock_spinning": "__raw_callee_save_xen_lock_spinning",
    "pv_lock_ops.unlock_kick": "xen_unlock_kick",
    **{f"pv_irq_ops.{op}": f"xen_{op}_direct" for op in ("save_fl", "restore_fl", "irq_disable", "irq_enable")},
}


def functions(pv: Paravirt) -> Body:
    """Xen's functions for the ops that it fills."""
    later = pv.era.name != "2.6.33"
    thunks = [*SAVED, *(("lock_spinning",) if later else ())]
    return (
        *(pv.PV_CALLEE_SAVE_REGS_THUNK(f"xen_{name}") for name in thunks),
        *(batches(), _irq(), _cpu(), _descriptors(), _mmu(), _placed(later)),
        _later() if later else (),
    )


def _irq() -> Body:
    mask, pending = mem(shared(MASK)), mem(shared(PENDING))
    quiet, on = Local("quiet"), Local("on")
    return (
        function("xen_save_fl", x.xorl(o.eax, o.eax), x.cmpb(0, mask), x.sete(o.ah), x.addb(o.ah, o.ah), x.ret()),
        function(
            "xen_restore_fl",
            *(x.testl(IF, o.edi), x.sete(o.al), x.movb(o.al, mask), x.testb(o.al, o.al), x.jne(addr(quiet))),
            *(x.cmpb(0, pending), x.je(addr(quiet)), x.call("xen_force_evtchn_callback"), label(quiet), x.ret()),
        ),
        function("xen_irq_disable", x.movb(1, mask), x.ret()),
        function(
            "xen_irq_enable",
            *(x.movb(0, mask), x.cmpb(0, pending), x.je(addr(on)), x.call("xen_force_evtchn_callback"), label(on)),
            x.ret(),
        ),
        function(
            "xen_force_evtchn_callback", x.xorl(o.edi, o.edi), x.xorl(o.esi, o.esi), hypercall("xen_version"), x.ret()
        ),
        # SCHEDOP_block; halted for ever with events off: VCPUOP_down, which nobody asks for here.
        function("xen_safe_halt", x.movl(1, o.edi), x.xorl(o.esi, o.esi), hypercall("sched_op"), x.ret()),
        function("xen_halt", x.jmp("xen_safe_halt")),
        # Behind an exception Xen has rcx and r11 on the stack.
        function(
            "xen_adjust_exception_frame",
            *(x.movq(mem(8, o.rsp), o.rcx), x.movq(mem(16, o.rsp), o.r11), x.popq(o.r10)),
            *(x.addq(16, o.rsp), x.jmp(o.r10)),
        ),
    )


def _cpu() -> Body:
    done = Local("done")
    ts = (x.movq(mem("xen_cr0"), o.rdi), x.andl(TS, o.edi), x.shrl(3, o.edi))
    base, other = Local("base"), Local("other")
    fast = [Local(f"fast_{n}") for n in range(2)]
    hidden = ~(1 << 7 | 1 << 9 | 1 << 12 | 1 << 14 | 1 << 22)
    return (
        function("xen_patch", x.ret()),
        function("xen_get_debugreg", hypercall("get_debugreg"), x.ret()),
        function("xen_set_debugreg", hypercall("set_debugreg"), x.ret()),
        function(
            "xen_clts", x.andq(~TS, mem("xen_cr0")), x.xorl(o.edi, o.edi), entry("fpu_taskswitch", LAZY_CPU), x.ret()
        ),
        function("xen_read_cr0", x.movq(mem("xen_cr0"), o.rax), x.ret()),
        function("xen_write_cr0", x.movq(o.rdi, mem("xen_cr0")), *ts, entry("fpu_taskswitch", LAZY_CPU), x.ret()),
        function("xen_write_cr4", x.andl(~(PGE | PSE), o.edi), x.jmp("native_write_cr4")),
        function("xen_store_tr", x.xorl(o.eax, o.eax), x.ret()),
        # cpuid by the prefix that only Xen understands; leaf 1 without what Xen does itself.
        function(
            "xen_cpuid",
            *(x.pushq(o.rbx), x.movq(o.rdx, o.r8), x.movq(o.rcx, o.r9), x.movl(mem(0, o.rdi), o.eax)),
            *(x.movl(mem(0, o.r8), o.ecx), x.cmpl(1, o.eax), x.pushfq(), data(CPUID_PREFIX), x.popfq()),
            *(x.jne(addr(done)), x.andl(hidden, o.edx), label(done), x.movl(o.eax, mem(0, o.rdi))),
            *(x.movl(o.ebx, mem(0, o.rsi)), x.movl(o.ecx, mem(0, o.r8)), x.movl(o.edx, mem(0, o.r9))),
            *(x.popq(o.rbx), x.ret()),
        ),
        # physdev_op: PHYSDEVOP_set_iopl.
        function(
            "xen_set_iopl_mask",
            *(x.shrl(12, o.edi), x.movl(o.edi, mem("xen_iopl")), x.movl(6, o.edi), x.movq(addr("xen_iopl"), o.rsi)),
            *(hypercall("physdev_op"), x.ret()),
        ),
        function("xen_io_delay", x.ret()),
        function(
            "xen_load_sp0",
            *(x.movq(mem(SP0, o.rsi), o.rsi), x.movq(o.rsi, mem("xen_sp0")), x.movl(KERNEL_DS, o.edi)),
            *(entry("stack_switch", LAZY_CPU), x.ret()),
        ),
        function(
            "xen_load_gs_index",
            x.movl(o.edi, o.esi),
            x.movl(SEGBASE_GS_USER_SEL, o.edi),
            hypercall("set_segment_base"),
            x.ret(),
        ),
        # MSRs of system calls are ignored, since hypercalls say where those go; of segments a call sets the base.
        function(
            "xen_write_msr_safe",
            *(x.leal(mem(0x3FFFFF7F, o.rdi), o.eax), x.cmpl(3, o.eax), x.jbe(addr(fast[0]))),
            *(x.leal(mem(-0x174, o.rdi), o.eax), x.cmpl(2, o.eax), x.jbe(addr(fast[0]))),
            *(x.cmpl(KERNEL_GS_BASE - (1 << 32), o.edi), x.je(addr(base)), x.jmp("native_write_msr_safe")),
            *(
                label(base),
                x.movl(o.esi, o.esi),
                x.shlq(32, o.rdx),
                x.orq(o.rdx, o.rsi),
                x.movl(SEGBASE_GS_USER, o.edi),
            ),
            *(hypercall("set_segment_base"), label(other), label(fast[0]), x.xorl(o.eax, o.eax), x.ret()),
        ),
        # Nanoseconds: the shared page's last system_time, and the ticks since.
        function(
            "xen_clocksource_read",
            *(x.rdtsc(), x.shlq(32, o.rdx), x.orq(o.rdx, o.rax), x.subq(mem(shared(TSC_STAMP)), o.rax)),
            *(x.addq(mem(shared(SYSTEM_TIME)), o.rax), x.ret()),
        ),
        function("xen_end_context_switch", x.call("xen_mc_flush"), x.jmp("paravirt_end_context_switch")),
        # The CPU's own frame, with a word more: a hypercall takes it.
        function("xen_iret", x.pushq(0), x.jmp(addr("hypercall_page") + 32 * 23)),
    )


def _descriptors() -> Body:
    tls: list[Body] = []
    for n in range(TLS_ENTRIES):
        here = addr("gdt_table") + (8 * (GDT_TLS + n) - START_KERNEL)
        tls += [x.movq(here, o.rdi), x.movq(mem(TLS_ARRAY + 8 * n, o.rbx), o.rsi)]
        tls += [x.movl(NUMBERS["update_descriptor"], o.eax), x.call("xen_mc_entry")]
    # write_..._entry(table, index, descriptor): a hypercall of its own, after those that are queued.
    update = (
        *(x.movl(o.esi, o.esi), x.leaq(mem(0, o.rdi, o.rsi, 8), o.rdi), x.subq(_OFFSET, o.rdi)),
        *(x.movq(mem(0, o.rdx), o.rsi),),
        *(x.call("xen_mc_flush"), hypercall("update_descriptor"), x.ret()),
    )
    again, done, none = Local("again"), Local("done"), Local("none")
    return (
        function("xen_load_tls", x.pushq(o.rbx), x.movq(o.rdi, o.rbx), *tls, issue(LAZY_CPU), x.popq(o.rbx), x.ret()),
        function("xen_write_gdt_entry", *update),
        function("xen_write_ldt_entry", *update),
        function(
            "xen_load_gdt",
            *(
                x.movq(mem(2, o.rdi), o.rax),
                x.subq(_OFFSET, o.rax),
                x.shrq(12, o.rax),
                x.movq(o.rax, mem("xen_frames")),
            ),
            *(x.movzwl(mem(0, o.rdi), o.esi), x.incl(o.esi), x.shrl(3, o.esi), x.movq(addr("xen_frames"), o.rdi)),
            *(entry("set_gdt", LAZY_CPU), x.ret()),
        ),
        function("xen_set_ldt", extended("SET_LDT", LAZY_CPU), x.ret()),
        # cvt_gate_to_trap(): vector eax, gate at rsi, trap_info (16 bytes) at rdi, which moves on if it is a gate.
        function(
            "xen_cvt_gate",
            *(x.movl(mem(4, o.rsi), o.ecx), x.movl(o.ecx, o.edx), x.shrl(8, o.edx), x.andl(0x1E, o.edx)),
            *(x.cmpl(0xE, o.edx), x.jne(addr(none)), x.movb(o.al, mem(0, o.rdi)), x.movl(o.ecx, o.edx)),
            *(x.shrl(13, o.edx), x.andl(3, o.edx), x.testl(0x100, o.ecx), x.jne(addr(done)), x.orl(4, o.edx)),
            *(label(done), x.movb(o.dl, mem(1, o.rdi)), x.movl(mem(0, o.rsi), o.edx), x.shrl(16, o.edx)),
            *(x.movw(o.dx, mem(2, o.rdi)), x.movzwl(mem(0, o.rsi), o.edx), x.andl(0xFFFF0000, o.ecx)),
            *(x.orl(o.ecx, o.edx), x.movl(o.edx, mem(8, o.rdi)), x.movl(mem(8, o.rsi), o.edx)),
            *(x.movl(o.edx, mem(12, o.rdi)), x.addq(16, o.rdi), label(none), x.movq(0, mem(8, o.rdi)), x.ret()),
        ),
        function(
            "xen_load_idt",
            *(x.pushq(o.rbx), x.movq(mem(2, o.rdi), o.rsi), x.movzwl(mem(0, o.rdi), o.ebx), x.incl(o.ebx)),
            *(x.shrl(4, o.ebx), x.xorl(o.eax, o.eax), x.movq(addr("xen_traps"), o.rdi)),
            *(
                label(again),
                x.call("xen_cvt_gate"),
                x.addq(16, o.rsi),
                x.incl(o.eax),
                x.decl(o.ebx),
                x.jne(addr(again)),
            ),
            *(
                x.popq(o.rbx),
                x.call("xen_mc_flush"),
                x.movq(addr("xen_traps"), o.rdi),
                hypercall("set_trap_table"),
                x.ret(),
            ),
        ),
        function(
            "xen_write_idt_entry",
            *(x.movl(o.esi, o.eax), x.shlq(4, o.rsi), x.addq(o.rdi, o.rsi), x.movq(mem(0, o.rdx), o.rcx)),
            *(x.movq(o.rcx, mem(0, o.rsi)), x.movq(mem(8, o.rdx), o.rcx), x.movq(o.rcx, mem(8, o.rsi))),
            *(x.movq(addr("xen_traps"), o.rdi), x.call("xen_cvt_gate"), x.call("xen_mc_flush")),
            *(x.movq(addr("xen_traps"), o.rdi), hypercall("set_trap_table"), x.ret()),
        ),
        function("xen_alloc_ldt", x.ret()),  # pages of an LDT become read-only, on which nothing here depends
        function("xen_free_ldt", x.ret()),
    )


def _mmu() -> Body:
    other = Local("other")
    none = x.xorl(o.edi, o.edi)
    pgd = (x.movq(mem(0, o.rdi), o.rdi), x.subq(_OFFSET, o.rdi), x.shrq(12, o.rdi))
    cr3 = (x.movq(o.rdi, mem("xen_cr3")), x.shrq(12, o.rdi))
    hyper = (x.subq(_OFFSET, o.rdi), x.jmp("xen_mmu_update"))
    return (
        function("xen_read_cr2", x.movq(mem(shared(ARCH_CR2)), o.rax), x.ret()),
        function("xen_write_cr2", x.movq(o.rdi, mem(shared(ARCH_CR2))), x.ret()),
        function("xen_read_cr3", x.movq(mem("xen_cr3"), o.rax), x.ret()),
        # Both page tables: the kernel's, and that of user space, which is the same here.
        function(
            "xen_write_cr3",
            *(*cr3, x.pushq(o.rdi), extended("NEW_BASEPTR", LAZY_CPU), x.popq(o.rdi)),
            *(extended("NEW_USER_BASEPTR", LAZY_CPU), x.ret()),
        ),
        # A store into a table that is Xen's: it faults, and Xen carries it out (writable page tables).
        function("xen_set_pte", x.movq(o.rsi, mem(0, o.rdi)), x.ret()),
        # set_pte_at(mm, address, entry, value): by address if the tables are those in force.
        function(
            "xen_set_pte_at",
            *(x.cmpq(o.rdi, mem("current_mm")), x.jne(addr(other)), x.movq(o.rsi, o.rdi), x.movq(o.rcx, o.rsi)),
            *(x.xorl(o.edx, o.edx), entry("update_va_mapping", LAZY_MMU), x.ret()),
            *(label(other), x.movq(o.rcx, mem(0, o.rdx)), x.ret()),
        ),
        *(function(f"xen_set_{level}_hyper", *hyper) for level in ("pmd", "pud", "pgd")),
        function("xen_flush_tlb", extended("TLB_FLUSH_LOCAL", LAZY_MMU, none), x.ret()),
        function("xen_flush_tlb_single", extended("INVLPG_LOCAL", LAZY_MMU), x.ret()),
        function("xen_flush_tlb_others", extended("TLB_FLUSH_MULTI", LAZY_MMU, none), x.ret()),
        function("xen_activate_mm", x.movq(o.rsi, o.rdi), extended("PIN_L4_TABLE", LAZY_MMU, *pgd), x.ret()),
        function("xen_dup_mmap", x.movq(o.rsi, o.rdi), extended("PIN_L4_TABLE", LAZY_MMU, *pgd), x.ret()),
        function("xen_exit_mmap", extended("UNPIN_TABLE", LAZY_MMU, *pgd), x.ret()),
        function("xen_pgd_alloc", x.xorl(o.eax, o.eax), x.ret()),
        function("xen_pgd_free", x.ret()),
        *(
            function(f"xen_alloc_{level}_init", extended("PIN_L1_TABLE", LAZY_MMU, x.movq(o.rsi, o.rdi)), x.ret())
            for level in ("pte", "pmd")
        ),
        *(
            function(f"xen_release_{level}_init", extended("UNPIN_TABLE", LAZY_MMU), x.ret())
            for level in ("pte", "pmd")
        ),
        *(
            function(f"xen_{name}", x.movq(o.rdi, o.rax), x.ret())
            for name in SAVED
            if "_fl" not in name and "irq" not in name
        ),
        function("xen_leave_lazy_mmu", x.call("xen_mc_flush"), x.jmp("paravirt_leave_lazy_mmu")),
        function("xen_set_fixmap", x.ret()),  # nothing is mapped at fixed addresses here
    )


def _later() -> Body:
    # xen_send_IPI_one(): struct evtchn_send { port }.
    kick = (
        *(x.addl(1, o.ecx), x.pushq(o.rcx), x.movl(EVTCHN_SEND, o.edi), x.movq(o.rsp, o.rsi)),
        *(hypercall("event_channel_op"), x.popq(o.rcx)),
    )
    return (
        function("xen_read_cr8", x.xorl(o.eax, o.eax), x.ret()),
        function("xen_write_cr8", x.ret()),
        function("xen_flush_lazy_mmu", x.jmp("xen_mc_flush")),
        # The entry stays as it is until the commit.
        function("xen_ptep_modify_prot_start", x.movq(mem(0, o.rdx), o.rax), x.ret()),
        function(
            "xen_ptep_modify_prot_commit",
            *(x.movq(o.rdx, o.rdi), x.movq(o.rcx, o.rsi), x.subq(_OFFSET, o.rdi), x.orl(2, o.edi)),
            x.jmp("xen_mmu_update"),
        ),
        function("xen_lock_spinning", locks.spinning(x.call("xen_safe_halt"))),
        function("xen_unlock_kick", locks.kicking(kick)),
    )


def _placed(later: bool) -> Body:
    """The irq ops without a call, where vcpu_info is in the kernel's data (which is where it was, here)."""
    if not later:
        return ()
    bodies = direct(64, smp=False, vcpu_info="xen_shared_info", check_events="check_events", since_3_4=True)
    saved = (o.rax, o.rcx, o.rdx, o.rsi, o.rdi, o.r8, o.r9, o.r10, o.r11)
    return (
        *(
            function(
                f"xen_{op.partition('.')[2]}_direct", body, label(f"xen_{op.partition('.')[2]}_direct_end"), x.ret()
            )
            for op, body in bodies.items()
        ),
        function(
            "check_events",
            *(*(x.pushq(r) for r in saved), x.call("xen_force_evtchn_callback"), *(x.popq(r) for r in reversed(saved))),
            x.ret(),
        ),
    )


def start(fill: Body, later: bool) -> Body:
    """Where Xen starts a domain: says where system calls go, in 3.12 where vcpu_info is; and Xen's page of calls."""
    callbacks = [
        (x.xorl(o.edi, o.edi), x.movq(addr("xen_callbacks") + 16 * n, o.rsi), hypercall("callback_op"))
        for n in range(3)
    ]
    place = (
        *(x.movl(REGISTER_VCPU_INFO, o.edi), x.xorl(o.esi, o.esi), x.movq(addr("xen_shared_info"), o.rdx)),
        *(hypercall("vcpu_op"), x.movl(1, mem("have_vcpu_info_placement"))),
    )
    return (
        function("xen_start_kernel", *callbacks, *(place if later else ()), fill, x.jmp("start_kernel")),
        *(align(0x1000, 0xCC), label("hypercall_page"), space(0x1000, 0xCC)),
    )


def variables() -> Body:
    """The shared info page, the buffers of multicalls, where system calls go, and what Xen does not keep."""
    targets = (
        (CALLBACK_SYSCALL, "xen_syscall_target"),
        (CALLBACK_SYSCALL32, "xen_syscall32_target"),
        (CALLBACK_SYSENTER, "xen_sysenter_target"),
    )
    words: dict[str, int | Value] = {
        "xen_cr3": 0,
        "xen_frames": 0,
        "xen_sp0": 0,
        "xen_cr0": 0x80050033,
    }
    return (
        *(align(0x1000), label("xen_shared_info"), space(0x1000), label("mc_entries"), space(64 * BATCH)),
        *(label("mc_arguments"), space(32 * BATCH), label("xen_traps"), space(16 * 257)),
        *((label(word), u64(value)) for word, value in words.items()),
        *(label("mc_count"), u32(0), label("xen_iopl"), u32(0), align(16), label("xen_callbacks")),
        *(u64(kind, addr(target)) for kind, target in targets),
        *(label("xen_info"), asciz("Xen")),
    )
