"""The native functions of x86-64 that are more than a few instructions (`pvops.emulate.macros.natives` has the others).

Arguments are where the ABI has them. Sources: arch/x86/include/asm/{paravirt,processor,desc,msr,spinlock}.h and
arch/x86/kernel of 2.6.33 and 3.12.
"""

from __future__ import annotations

from collections.abc import Callable

from pvops.assembler import Local, Value, Within, addr, label, mem, u64
from pvops.assembler import operands as o
from pvops.assembler import x86 as x
from pvops.assembler.statements import Body
from pvops.emulate.guest.wide.layout import GDT_LDT, GDT_TLS, GDT_TSS, SP0, TLS_ARRAY, TLS_ENTRIES

EFAULT = 14
_DEBUG = {0: o.dr0, 1: o.dr1, 2: o.dr2, 3: o.dr3, 6: o.dr6, 7: o.dr7}
Functions = dict[str, tuple[Body, ...]]


def may_fault(fixup: Local, instruction: Body) -> tuple[Body, ...]:
    """An instruction and its row of ``__ex_table``: if it faults, go on at the fixup."""
    at = Local("may_fault")
    return (label(at), Within("__ex_table", u64(addr(at), addr(fixup))), instruction)


def functions() -> Functions:
    """Name → instructions, of both eras."""
    return {**_cpu(), **_descriptors(), **_msr(), **_time(), **_mmu(), **_lazy(), **_locks()}


def _cpu() -> Functions:
    return {
        "native_patch": (x.ret(),),
        "native_set_iopl_mask": (
            *(x.pushfq(), x.popq(o.rdx), x.andl(~0x3000, o.edx), x.orl(o.edi, o.edx), x.pushq(o.rdx), x.popfq()),
            x.ret(),
        ),
        # cpuid(eax, ebx, ecx, edx): four pointers, each read or written.
        "native_cpuid": (
            *(x.pushq(o.rbx), x.movq(o.rdx, o.r8), x.movq(o.rcx, o.r9), x.movl(mem(0, o.rdi), o.eax)),
            *(x.movl(mem(0, o.r8), o.ecx), x.cpuid(), x.movl(o.eax, mem(0, o.rdi)), x.movl(o.ebx, mem(0, o.rsi))),
            *(x.movl(o.ecx, mem(0, o.r8)), x.movl(o.edx, mem(0, o.r9)), x.popq(o.rbx), x.ret()),
        ),
        "native_get_debugreg": _each_debug(lambda register: x.movq(register, o.rax)),
        "native_set_debugreg": _each_debug(lambda register: x.movq(o.rsi, register)),
        # load_gs_index(): a new selector of user space, with its base; the kernel's stays.
        "native_load_gs_index": (
            x.swapgs(),
            x.movl(o.edi, o.eax),
            x.movl(o.eax, o.gs),
            x.mfence(),
            x.swapgs(),
            x.ret(),
        ),
    }


def _each_debug(access: Callable[[o.Register], Body]) -> tuple[Body, ...]:
    body: list[Body] = []
    for number, register in _DEBUG.items():
        other = Local(f"not_{number}")
        body += [x.cmpl(number, o.edi), x.jne(addr(other)), access(register), x.ret(), label(other)]
    return (*body, x.ret())


def _descriptors() -> Functions:
    some, wide = Local("some"), Local("wide")
    busy = 0x200
    tls = [
        (x.movq(mem(TLS_ARRAY + 8 * n, o.rdi), o.rax), x.movq(o.rax, mem(gdt(GDT_TLS) + 8 * n)))
        for n in range(TLS_ENTRIES)
    ]
    low = (x.movq(mem(0, o.rdx), o.rax), x.movl(o.esi, o.esi))
    return {
        "native_load_tr_desc": (x.andl(~busy, mem(gdt(GDT_TSS) + 4)), x.movl(8 * GDT_TSS, o.eax), x.ltr(o.ax), x.ret()),
        # set_ldt(address, entries): a descriptor of 16 bytes.
        "native_set_ldt": (
            *(x.testl(o.esi, o.esi), x.jne(addr(some)), x.lldt(o.si), x.ret()),
            *(label(some), x.shll(3, o.esi), x.subl(1, o.esi), x.movl(o.edi, o.eax), x.shll(16, o.eax)),
            *(x.orl(o.eax, o.esi), x.movl(o.esi, mem(gdt(GDT_LDT))), x.movl(o.edi, o.eax), x.movl(o.edi, o.edx)),
            *(x.shrl(16, o.edx), x.andl(0xFF, o.edx), x.andl(0xFF000000, o.eax), x.orl(o.edx, o.eax)),
            *(x.orl(0x8200, o.eax), x.movl(o.eax, mem(gdt(GDT_LDT) + 4)), x.shrq(32, o.rdi)),
            *(x.movq(o.rdi, mem(gdt(GDT_LDT) + 8)), x.movl(8 * GDT_LDT, o.eax), x.lldt(o.ax), x.ret()),
        ),
        "native_load_tls": (*tls, x.ret()),
        # write_ldt_entry(table, index, descriptor); of the GDT with its type, which says how many bytes it has.
        "native_write_ldt_entry": (*low, x.movq(o.rax, mem(0, o.rdi, o.rsi, 8)), x.ret()),
        "native_write_gdt_entry": (
            *(*low, x.movq(o.rax, mem(0, o.rdi, o.rsi, 8)), x.cmpl(9, o.ecx), x.je(addr(wide)), x.ret()),
            *(label(wide), x.movq(mem(8, o.rdx), o.rax), x.movq(o.rax, mem(8, o.rdi, o.rsi, 8)), x.ret()),
        ),
        "native_write_idt_entry": (
            *(*low, x.shlq(4, o.rsi), x.addq(o.rsi, o.rdi), x.movq(o.rax, mem(0, o.rdi))),
            *(x.movq(mem(8, o.rdx), o.rax), x.movq(o.rax, mem(8, o.rdi)), x.ret()),
        ),
        "native_load_sp0": (x.movq(mem(SP0, o.rsi), o.rax), x.movq(o.rax, mem(4, o.rdi)), x.ret()),
    }


def gdt(index: int) -> Value:
    """Where a descriptor lies."""
    return addr("gdt_table") + 8 * index


def _msr() -> Functions:
    failed, refused, absent = Local("failed"), Local("refused"), Local("absent")
    whole = (x.shlq(32, o.rdx), x.orq(o.rdx, o.rax))
    return {
        # u64 read_msr(msr, int *err)
        "native_read_msr_safe": (
            *(x.movl(o.edi, o.ecx), may_fault(failed, x.rdmsr()), whole, x.movl(0, mem(0, o.rsi)), x.ret()),
            *(label(failed), x.xorl(o.eax, o.eax), x.movl(-EFAULT, mem(0, o.rsi)), x.ret()),
        ),
        # int write_msr(msr, low, high)
        "native_write_msr_safe": (
            *(x.movl(o.edi, o.ecx), x.movl(o.esi, o.eax), may_fault(refused, x.wrmsr()), x.xorl(o.eax, o.eax), x.ret()),
            *(label(refused), x.movl(-EFAULT, o.eax), x.ret()),
        ),
        # The kernel's has no fixup; without one a guest could not ask at all where the counters are not its own.
        "native_read_pmc": (
            *(x.movl(o.edi, o.ecx), may_fault(absent, x.rdpmc()), whole, x.ret()),
            *(label(absent), x.xorl(o.eax, o.eax), x.ret()),
        ),
        # What both do without an MSR: the error.
        "native_rdmsr_safe_regs": (x.movl(-EFAULT, o.eax), x.ret()),
        "native_wrmsr_safe_regs": (x.movl(-EFAULT, o.eax), x.ret()),
        "native_read_tscp": (x.movl(0, mem(0, o.rdi)), x.rdtsc(), whole, x.ret()),
    }


def _time() -> Functions:
    return {
        # A nanosecond is a tick of the TSC.
        "native_sched_clock": (x.rdtsc(), x.shlq(32, o.rdx), x.orq(o.rdx, o.rax), x.ret()),
        "native_steal_clock": (x.xorl(o.eax, o.eax), x.ret()),
    }


def _mmu() -> Functions:
    store = (x.movq(o.rcx, mem(0, o.rdx)), x.ret())
    return {
        # One CPU: the interrupt to the others is asked of the APIC, and nobody gets it.
        "native_flush_tlb_others": (x.movl(0xFD, mem(addr("apic_page") + 0x300)), x.ret()),
        # set_pte_at(mm, address, entry, value), set_pmd_at() likewise
        "native_set_pte_at": store,
        "native_set_pmd_at": store,
        "__paravirt_pgd_alloc": (x.xorl(o.eax, o.eax), x.ret()),
        # ptep_modify_prot_start(mm, address, entry): what it was, and it is taken out meanwhile.
        "__ptep_modify_prot_start": (x.xorl(o.eax, o.eax), x.xchgq(o.rax, mem(0, o.rdx)), x.ret()),
        "__ptep_modify_prot_commit": (x.jmp("native_set_pte_at"),),
        # Nothing is mapped at fixed addresses here.
        "native_set_fixmap": (x.ret(),),
    }


def _lazy() -> Functions:
    """arch/x86/kernel/paravirt.c: what every backend with a lazy mode builds on."""
    mode = mem("paravirt_lazy_mode")
    return {
        "paravirt_enter_lazy_mmu": (x.movl(1, mode), x.ret()),
        "paravirt_leave_lazy_mmu": (x.movl(0, mode), x.ret()),
        "paravirt_start_context_switch": (x.movl(2, mode), x.ret()),
        "paravirt_end_context_switch": (x.movl(0, mode), x.ret()),
    }


def _locks() -> Functions:
    """2.6.33 arch/x86/include/asm/spinlock.h: tickets of a byte, the next in the high one."""
    spin, taken, busy = Local("spin"), Local("taken"), Local("busy")
    lock = mem(0, o.rdi)
    look = x.movzwl(lock, o.eax)
    answer = (x.setne(o.al), x.movzbl(o.al, o.eax), x.ret())
    return {
        "__ticket_spin_lock": (
            *(x.movl(0x100, o.edx), x.lock(x.xaddw(o.dx, lock))),
            *(label(spin), x.cmpb(o.dl, o.dh), x.je(addr(taken)), x.pause(), x.movb(lock, o.dl), x.jmp(addr(spin))),
            *(label(taken), x.ret()),
        ),
        "default_spin_lock_flags": (x.jmp("__ticket_spin_lock"),),
        "__ticket_spin_trylock": (
            *(look, x.cmpb(o.al, o.ah), x.jne(addr(busy)), x.leal(mem(0x100, o.rax), o.edx)),
            *(x.lock(x.cmpxchgw(o.dx, lock)), x.sete(o.al), x.movzbl(o.al, o.eax), x.ret()),
            *(label(busy), x.xorl(o.eax, o.eax), x.ret()),
        ),
        "__ticket_spin_unlock": (x.incb(lock), x.ret()),
        "__ticket_spin_is_locked": (look, x.cmpb(o.al, o.ah), answer),
        "__ticket_spin_is_contended": (look, x.subb(o.al, o.ah), x.cmpb(1, o.ah), answer),
    }
