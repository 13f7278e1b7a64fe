"""The tour on x86-64: every op of 2.6.33 and of 3.12 that comes to the same everywhere, and all ways to user space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pvops.assembler import addr, label, mem
from pvops.assembler import x86 as x
from pvops.assembler.operands import Operand, eax, edx
from pvops.assembler.statements import Body
from pvops.emulate.cpu64 import (
    CSTAR,
    KERNEL_CS,
    KERNEL_GS_BASE,
    LSTAR,
    SFMASK,
    STAR,
    SYSENTER_CS,
    SYSENTER_EIP,
    SYSENTER_ESP,
    USER32_CS,
)
from pvops.emulate.guest.wide import locks
from pvops.emulate.guest.wide.entry import lazy
from pvops.emulate.guest.wide.layout import MMS, PAGE_FLAGS, USER, USER_GS, below, entry_of, pa, pte_of
from pvops.emulate.macros.paravirt import Paravirt
from pvops.errors import RunError

#: With TS, which the last context switch clears.
CR0 = 0x8005003B
_ENTRY = USER[0] | PAGE_FLAGS
_AT: tuple[Operand, ...] = (addr("mm0"), USER[0], pte_of(0, 0))
_PFN = 0x1213
_LOCK = addr("spinlock")

#: What each op is called with; nothing where it is not here.
ARGUMENTS: Mapping[str, tuple[Operand, ...]] = {
    "pv_time_ops.steal_clock": (0,),
    "pv_cpu_ops.get_debugreg": (6,),
    "pv_cpu_ops.set_debugreg": (7, 0x400),
    "pv_cpu_ops.write_cr0": (CR0,),
    "pv_cpu_ops.write_cr4": (0x20,),
    "pv_cpu_ops.write_cr8": (0,),
    "pv_cpu_ops.load_gdt": (addr("gdt_descr"),),
    "pv_cpu_ops.load_idt": (addr("idt_descr"),),
    "pv_cpu_ops.store_gdt": (addr("stored_descr"),),
    "pv_cpu_ops.store_idt": (addr("stored_descr"),),
    "pv_cpu_ops.set_ldt": (0, 0),
    "pv_cpu_ops.load_tls": (addr("thread0"), 0),
    "pv_cpu_ops.load_gs_index": (0,),
    "pv_cpu_ops.write_ldt_entry": (addr("ldt_table"), 1, addr("a_descriptor")),
    "pv_cpu_ops.write_gdt_entry": (addr("gdt_table"), 20, addr("a_descriptor"), 0),
    "pv_cpu_ops.write_idt_entry": (addr("idt_table"), 6, addr("gate_6")),
    "pv_cpu_ops.alloc_ldt": (addr("ldt_table"), 8),
    "pv_cpu_ops.free_ldt": (addr("ldt_table"), 8),
    "pv_cpu_ops.load_sp0": (addr("init_tss"), addr("thread0")),
    "pv_cpu_ops.set_iopl_mask": (0,),
    "pv_cpu_ops.cpuid": tuple(addr("scratch") + 4 * i for i in range(4)),
    "pv_cpu_ops.read_msr": (SYSENTER_CS, addr("scratch")),
    "pv_cpu_ops.write_msr": (SYSENTER_CS, KERNEL_CS, 0),
    "pv_cpu_ops.rdmsr_regs": (addr("scratch"),),
    "pv_cpu_ops.wrmsr_regs": (addr("scratch"),),
    "pv_cpu_ops.read_pmc": (0,),
    "pv_cpu_ops.read_tscp": (addr("scratch"),),
    "pv_cpu_ops.start_context_switch": (addr("thread0"),),
    "pv_cpu_ops.end_context_switch": (addr("thread0"),),
    "pv_irq_ops.restore_fl": (0x200,),
    "pv_apic_ops.startup_ipi_hook": (0, addr("start_kernel"), addr("kernel_stack")),
    "pv_mmu_ops.write_cr2": (USER[0],),
    "pv_mmu_ops.write_cr3": (pa("mm0_pgd"),),
    "pv_mmu_ops.activate_mm": (addr("mm0"), addr("mm1")),
    "pv_mmu_ops.dup_mmap": (addr("mm0"), addr("mm1")),
    "pv_mmu_ops.exit_mmap": (addr("mm1"),),
    "pv_mmu_ops.flush_tlb_single": (USER[0],),
    "pv_mmu_ops.flush_tlb_others": (addr("scratch"), addr("mm0"), USER[0], USER[0] + 0x1000),
    **{f"pv_mmu_ops.alloc_{level}": (addr("mm0"), _PFN) for level in ("pte", "pmd", "pud")},
    "pv_mmu_ops.alloc_pmd_clone": (_PFN, _PFN, 0, 4),
    **{f"pv_mmu_ops.release_{level}": (_PFN,) for level in ("pte", "pmd", "pud")},
    "pv_mmu_ops.pgd_alloc": (addr("mm0"),),
    "pv_mmu_ops.pgd_free": (addr("mm0"), addr("mm0_pgd")),
    "pv_mmu_ops.set_pte": (pte_of(0, 1), _ENTRY),
    "pv_mmu_ops.set_pte_at": (*_AT, _ENTRY),
    **{f"pv_mmu_ops.set_{level}": (entry_of(level, 0), below(level, 0)) for level in ("pmd", "pud", "pgd")},
    "pv_mmu_ops.set_pmd_at": (addr("mm0"), USER[0], entry_of("pmd", 0), below("pmd", 0)),
    "pv_mmu_ops.pte_update": _AT,
    "pv_mmu_ops.pte_update_defer": _AT,
    "pv_mmu_ops.pmd_update": _AT,
    "pv_mmu_ops.pmd_update_defer": _AT,
    "pv_mmu_ops.ptep_modify_prot_start": _AT,
    "pv_mmu_ops.ptep_modify_prot_commit": (*_AT, _ENTRY),
    "pv_mmu_ops.set_fixmap": (1, 0x1000, 0x63),
    **{f"pv_mmu_ops.{level}_val": (_ENTRY,) for level in ("pte", "pmd", "pud", "pgd")},
    **{f"pv_mmu_ops.make_{level}": (_ENTRY,) for level in ("pte", "pmd", "pud", "pgd")},
    **{
        f"pv_lock_ops.{name}": (_LOCK,)
        for name in ("spin_lock", "spin_unlock", "spin_trylock", "spin_is_locked", "spin_is_contended")
    },
    "pv_lock_ops.spin_lock_flags": (_LOCK, 0x200),
    # The ticket that is served; that of the CPU that waits.
    "pv_lock_ops.lock_spinning": (addr(locks.LOCK), locks.TICKET - 1),
    "pv_lock_ops.unlock_kick": (addr(locks.LOCK), locks.TICKET),
}

#: Ops that entry code alone uses, by their macros; `functions` of `pvops.emulate.guest.wide.entry` has all of them.
ENTRY = frozenset(
    f"pv_cpu_ops.{op}" for op in ("iret", "irq_enable_sysexit", "usergs_sysret64", "usergs_sysret32", "swapgs")
) | {"pv_irq_ops.adjust_exception_frame", "pv_mmu_ops.read_cr2"}

#: No op of a running kernel; and the release of a lock, which follows each that takes it.
_ASIDE = frozenset({"pv_init_ops.patch", "pv_lock_ops.spin_unlock"})

#: Ops that some backend leaves NULL, in 2.6.33.
NULL = frozenset(f"pv_cpu_ops.{op}" for op in ("read_cr8", "write_cr8", "rdmsr_regs", "wrmsr_regs", "read_tscp"))

_LOCKED = frozenset(f"pv_lock_ops.{op}" for op in ("spin_lock", "spin_lock_flags", "spin_trylock"))
#: Ops that C calls as any pointer, without a site.
_PLAIN = frozenset({"pv_time_ops.sched_clock", "pv_cpu_ops.io_delay"})
#: What the results of these are is a result of the guest's.
_RECORDED = frozenset(
    {
        *("pv_time_ops.sched_clock", "pv_cpu_ops.read_tsc", "pv_mmu_ops.read_cr3"),
        *("pv_mmu_ops.ptep_modify_prot_start", "pv_mmu_ops.make_pte", "pv_mmu_ops.pte_val"),
    }
)


class Tour:
    """Makes the instructions of the tour.

    Args:
        pv: the macros of the era.
        called: the ops to call, in order; those that the era lacks are left out.

    Attributes:
        plain: label of each call that is no site → its op.
    """

    def __init__(self, pv: Paravirt, called: Iterable[str]) -> None:
        self.pv = pv
        self.called = tuple(called)
        self.plain: dict[str, str] = {}

    def body(self) -> Body:
        """All of it, in order."""
        return (
            *(self.descriptors(), self.entries(), self.spaces(), [self.op(op) for op in self.called], self.spaces()),
            # Entries that only one era's ops have changed are the same in the end.
            [self.op("pv_mmu_ops.set_pte", pte_of(0, page), _ENTRY) for page in (0, 1, 2)],
            *(lazy(self.pv, mode, leave=leave) for mode in ("mmu", "cpu") for leave in (False, True)),
            *((self.switch(mm), x.movl(mem(USER[mm] + 0x5000), edx)) for mm in (0, 1, 0)),
            # Behind load_gs_index(), which makes it zero.
            self.op("pv_cpu_ops.write_msr", _signed(KERNEL_GS_BASE), USER_GS, 0),
            *(x.call("to_user_64"), x.call("to_user_32"), x.call("to_user_sysenter")),
            *(self.op("pv_irq_ops.save_fl"), x.andl(0x200, eax), x.call("record")),
        )

    def op(self, name: str, *words: Operand) -> Body:
        """A call of an op as the kernel's C has it; nothing where the era has no such op."""
        if name not in self.pv.template:
            return ()
        words = words or ARGUMENTS.get(name, ())
        found = self.pv.op(name)
        if found is None:
            raise RunError(f"{name} is configured out")
        if name in _PLAIN:
            at = f"call_{len(self.plain)}.{name}"
            self.plain[at] = name
            body: Body = (label(at), x.call(mem(self.pv.pointer(found))))
        else:
            body = (self.pv.PVOP_CALLEE if found.op.callee_save else self.pv.PVOP_CALL)(name, *words)
        unlocked = self.op("pv_lock_ops.spin_unlock") if name in _LOCKED else ()
        return (body, x.call("record") if name in _RECORDED else (), unlocked)

    def descriptors(self) -> Body:
        """Descriptor tables, a gate for page faults, the task state with the stack for exceptions."""
        return (
            *(
                self.op("pv_cpu_ops.load_gdt"),
                self.op("pv_cpu_ops.write_idt_entry", addr("idt_table"), 14, addr("gate_14")),
            ),
            *(self.op("pv_cpu_ops.load_idt"), self.op("pv_cpu_ops.load_tr_desc"), self.op("pv_cpu_ops.load_sp0")),
        )

    def entries(self) -> Body:
        """``syscall_init()``: where system calls enter, by MSRs; below Xen a hypercall has said it before."""

        def points(msr: int, at: str) -> Body:
            return self.op("pv_cpu_ops.write_msr", _signed(msr), addr(at), -1)

        return (
            self.op("pv_cpu_ops.write_msr", _signed(STAR), 0, USER32_CS << 16 | KERNEL_CS),
            *(points(LSTAR, "system_call"), points(CSTAR, "ia32_cstar_target")),
            self.op("pv_cpu_ops.write_msr", _signed(SFMASK), 0x200, 0),
            *(points(SYSENTER_EIP, "ia32_sysenter_target"), points(SYSENTER_ESP, "init_tss")),
            self.op("pv_cpu_ops.write_msr", SYSENTER_CS, KERNEL_CS, 0),
        )

    def spaces(self) -> Body:
        """Both address spaces have tables of all levels; the first is in force."""
        return (
            [
                self.op(f"pv_mmu_ops.set_{level}", entry_of(level, mm), below(level, mm))
                for mm in range(MMS)
                for level in ("pgd", "pud", "pmd")
            ],
            *(self.switch(0), self.op("pv_irq_ops.irq_enable")),
        )

    def switch(self, mm: int) -> Body:
        """switch_mm() and __switch_to(): page table, stack, TLS, CR0.TS."""
        thread = addr(f"thread{mm}")
        return (
            *(x.movq(addr(f"mm{mm}"), mem("current_mm")), x.movq(addr(f"mm{mm}_pt"), mem("current_pt"))),
            *(self.op("pv_mmu_ops.write_cr3", pa(f"mm{mm}_pgd")), lazy(self.pv, "cpu")),
            *(self.op("pv_cpu_ops.load_sp0", addr("init_tss"), thread), self.op("pv_cpu_ops.load_tls", thread, 0)),
            *(self.op("pv_cpu_ops.clts"), lazy(self.pv, "cpu", leave=True)),
        )


def _signed(msr: int) -> int:
    """A number of 32 bits, as an operand that is sign-extended."""
    return msr - (1 << 32) if msr >> 31 else msr


def everywhere(held: Mapping[str, object]) -> list[str]:
    """The ops that the shipped tour calls, of those of an era with what bare hardware has there."""
    return [op for op in of_backend(held) if op not in NULL]


def of_backend(held: Mapping[str, object]) -> list[str]:
    """Every op that is a function there: for a test of each."""
    return [op for op, function in held.items() if function is not None and op not in ENTRY | _ASIDE]
