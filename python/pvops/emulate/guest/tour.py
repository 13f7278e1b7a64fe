"""A guest that calls every op its backend has: for the table of forms, and for a test of each function."""

from __future__ import annotations

from collections.abc import Mapping

from pvops import eras as ops
from pvops.assembler import addr
from pvops.backends.headers import held_by
from pvops.emulate.guest.eras import RENAMED
from pvops.emulate.guest.layout import PAGE_FLAGS, USER, gate, pa
from pvops.emulate.guest.opening import CR0, address_spaces, descriptors
from pvops.emulate.guest.program import (
    Argument,
    Call,
    Entry,
    Lazy,
    Pmd,
    Program,
    Pte,
    Step,
    Switch,
    Sysexit,
    Table,
    Touch,
)

_ENTRY = Entry(USER[0] | PAGE_FLAGS)
_AT: tuple[Argument, ...] = (addr("mm0"), USER[0], Pte(0, 0))

#: What each op is called with; nothing where it is not here.
ARGUMENTS: Mapping[str, tuple[Argument, ...]] = {
    "pv_cpu_ops.get_debugreg": (6,),
    "pv_cpu_ops.set_debugreg": (7, 0x400),
    "pv_cpu_ops.write_cr0": (CR0,),
    "pv_cpu_ops.write_cr4": (0,),
    "pv_cpu_ops.load_gdt": (addr("gdt_descr"),),
    "pv_cpu_ops.load_idt": (addr("idt_descr"),),
    "pv_cpu_ops.store_gdt": (addr("stored_descr"),),
    "pv_cpu_ops.store_idt": (addr("stored_descr"),),
    "pv_cpu_ops.set_ldt": (0, 0),
    "pv_cpu_ops.load_tls": (addr("thread0"), 0),
    "pv_cpu_ops.write_ldt_entry": (addr("ldt_table"), 1, 0x0000FFFF, 0x00CFF200),
    "pv_cpu_ops.write_gdt_entry": (addr("gdt_table"), 20, 0x0000FFFF, 0x00CF9A00),
    "pv_cpu_ops.write_idt_entry": (addr("idt_table"), 6, *gate(6)),
    "pv_cpu_ops.alloc_ldt": (addr("ldt_table"), 8),
    "pv_cpu_ops.free_ldt": (addr("ldt_table"), 8),
    "pv_cpu_ops.load_esp0": (addr("init_tss"), addr("thread0")),
    "pv_cpu_ops.set_iopl_mask": (0,),
    "pv_cpu_ops.cpuid": tuple(addr("scratch") + 4 * i for i in range(4)),
    "pv_cpu_ops.read_msr": (0x174, addr("scratch")),
    "pv_cpu_ops.write_msr": (0x174, 0x60, 0),
    "pv_cpu_ops.rdmsr_regs": (addr("scratch"),),
    "pv_cpu_ops.wrmsr_regs": (addr("scratch"),),
    "pv_cpu_ops.read_tscp": (addr("scratch"),),
    "pv_cpu_ops.start_context_switch": (addr("thread0"),),
    "pv_cpu_ops.end_context_switch": (addr("thread0"),),
    "pv_irq_ops.restore_fl": (0x200,),
    "pv_misc_ops.set_lazy_mode": (0,),
    "pv_time_ops.set_wallclock": (1192436234,),
    "pv_apic_ops.apic_write": (0x80, 0),
    "pv_apic_ops.apic_write_atomic": (0x80, 0),
    "pv_apic_ops.apic_read": (0x80,),
    "pv_apic_ops.startup_ipi_hook": (0, addr("start_kernel"), addr("kernel_stack")),
    "pv_mmu_ops.write_cr2": (USER[0],),
    "pv_mmu_ops.write_cr3": (pa("mm0_pgd"),),
    "pv_mmu_ops.activate_mm": (addr("mm0"), addr("mm1")),
    "pv_mmu_ops.dup_mmap": (addr("mm0"), addr("mm1")),
    "pv_mmu_ops.exit_mmap": (addr("mm1"),),
    "pv_mmu_ops.flush_tlb_single": (USER[0],),
    "pv_mmu_ops.flush_tlb_others": (addr("scratch"), addr("mm0"), USER[0]),
    "pv_mmu_ops.alloc_pt": (addr("mm0"), 0x213),
    "pv_mmu_ops.alloc_pd": (addr("mm0"), 0x213),
    "pv_mmu_ops.alloc_pd_clone": (0x213, 0x213, 0, 4),
    "pv_mmu_ops.alloc_pud": (addr("mm0"), 0x213),
    "pv_mmu_ops.release_pt": (0x213,),
    "pv_mmu_ops.release_pd": (0x213,),
    "pv_mmu_ops.release_pud": (0x213,),
    "pv_mmu_ops.pgd_alloc": (addr("mm0"),),
    "pv_mmu_ops.pgd_free": (addr("mm0"), addr("mm0_pgd")),
    "pv_mmu_ops.set_pte": (Pte(0, 1), _ENTRY),
    "pv_mmu_ops.set_pte_at": (*_AT, _ENTRY),
    "pv_mmu_ops.set_pte_atomic": (Pte(0, 2), _ENTRY),
    "pv_mmu_ops.set_pmd": (Pmd(0), Table(0)),
    "pv_mmu_ops.set_pud": (addr("mm0_pgd"), pa("mm0_pmd") + 1, 0),
    "pv_mmu_ops.pte_clear": (addr("mm0"), USER[0] + 0x1000, Pte(0, 1)),
    "pv_mmu_ops.pmd_clear": (Pmd(1),),
    "pv_mmu_ops.pte_update": _AT,
    "pv_mmu_ops.pte_update_defer": _AT,
    "pv_mmu_ops.ptep_modify_prot_start": _AT,
    "pv_mmu_ops.ptep_modify_prot_commit": (*_AT, _ENTRY),
    "pv_mmu_ops.pagetable_setup_start": (addr("mm0_pgd"),),
    "pv_mmu_ops.pagetable_setup_done": (addr("mm0_pgd"),),
    "pv_mmu_ops.set_fixmap": (1, 0x1000, 0x63, 0),
    **{f"pv_mmu_ops.{name}": (_ENTRY,) for name in ("pte_val", "pmd_val", "make_pte", "make_pmd")},
    **{f"pv_mmu_ops.{name}": (_ENTRY,) for name in ("pgd_val", "make_pgd")},
    **{
        f"pv_lock_ops.{name}": (addr("spinlock"),)
        for name in ("spin_lock", "spin_unlock", "spin_trylock", "spin_is_locked", "spin_is_contended")
    },
    "pv_lock_ops.spin_lock_flags": (addr("spinlock"), 0x200),
}

#: Ops that end or suspend the guest, or that page faults call; and those that only other ops or x86-64 call.
ELSEWHERE = frozenset(
    {
        "pv_init_ops.patch",
        "pv_cpu_ops.iret",
        "pv_cpu_ops.irq_enable_sysexit",
        "pv_cpu_ops.swapgs",
        "pv_mmu_ops.read_cr2",
    }
)

#: What each backend leaves native although its guests may not do that: they would be stopped.
FORBIDDEN = {
    "lguest": frozenset(
        {"pv_cpu_ops.get_debugreg", "pv_cpu_ops.read_cr4_safe", "pv_irq_ops.halt", "pv_mmu_ops.write_cr2"}
    ),
}


def tour(backend: str, era: str) -> Program:
    """A program that calls each op that is a function there, for one backend of an era."""
    structures = ops.era(era)
    config = structures.default_config(32, **_options(era))
    held = held_by(backend, structures, config)
    names = {new: old for old, new in RENAMED.items()} if era != "seed" else {}
    skipped = ELSEWHERE | FORBIDDEN.get(backend, frozenset())
    called = [op for op, function in held.items() if function is not None and op not in skipped]
    called += ["pv_mmu_ops.set_pte"] if "pv_mmu_ops.set_pte" not in called else []  # NULL at first on Xen
    # Locks are taken before they are asked about, and let go of before they are taken again.
    called.sort(
        key=lambda op: (op.startswith("pv_lock_ops"), "unlock" not in op if op.startswith("pv_lock_ops") else 0)
    )
    steps: list[Step] = [*descriptors(), *address_spaces(), Call("pv_irq_ops.irq_enable")]
    for op in called:
        name = names.get(op, op)
        if op.startswith("pv_lock_ops.spin_") and op.endswith(("lock", "flags")) and "unlock" not in op:
            steps += [Call(name, ARGUMENTS[name]), Call("pv_lock_ops.spin_unlock", (addr("spinlock"),))]
        elif op != "pv_lock_ops.spin_unlock":
            steps.append(Call(name, ARGUMENTS.get(name, ())))
    steps += [*address_spaces(), Call("pv_irq_ops.irq_enable"), Lazy("mmu", ()), Lazy("cpu", ())]
    steps += [Switch(0), Touch(0), Switch(1), Touch(1)]
    if held["pv_cpu_ops.irq_enable_sysexit"] is not None and backend != "lguest":  # whose cpuid hides SEP
        steps += [Call("pv_cpu_ops.write_msr", (0x174, 0x60, 0)), Sysexit()]
    return Program(f"tour-{backend}", f"every op that {backend} has", tuple(steps))


#: Ops that the guest for every backend leaves out: their results differ between backends, or some backend lacks them.
APART = {
    "pv_time_ops.get_cpu_khz": "bare hardware measures it and so reads the clock, Xen says it",
    "pv_mmu_ops.alloc_pud": "NULL below Xen",
    "pv_mmu_ops.release_pud": "NULL below Xen",
    "pv_cpu_ops.rdmsr_regs": "NULL below Xen",
    "pv_cpu_ops.wrmsr_regs": "NULL below Xen",
    "pv_cpu_ops.read_tscp": "NULL below Xen",
}


def everywhere() -> Program:
    """A program that calls, below any backend and in either era, each op that comes to the same everywhere."""
    ops_of = {era: held_by("native", ops.era(era), ops.era(era).default_config(32, **_options(era))) for era in _ERAS}
    old = {new: name for name, new in RENAMED.items()}
    called = [
        old.get(op, op) if era != "seed" else op
        for era, held in ops_of.items()
        for op, function in held.items()
        if function is not None
    ]
    left_out = ELSEWHERE | FORBIDDEN["lguest"] | APART.keys()
    steps: list[Step] = [*descriptors(), *address_spaces(), Call("pv_irq_ops.irq_enable")]
    for op in dict.fromkeys(called):
        if op in left_out or op == "pv_lock_ops.spin_unlock":
            continue
        steps.append(Call(op, ARGUMENTS.get(op, ())))
        if op in ("pv_lock_ops.spin_lock", "pv_lock_ops.spin_lock_flags", "pv_lock_ops.spin_trylock"):
            steps.append(Call("pv_lock_ops.spin_unlock", (addr("spinlock"),)))
    # Entries that only one era's ops have changed are the same in the end.
    entries = tuple(Call("pv_mmu_ops.set_pte", (Pte(0, page), _ENTRY)) for page in (0, 1, 2))
    steps += [*address_spaces(), *entries, Call("pv_irq_ops.irq_enable"), Lazy("mmu", ()), Lazy("cpu", ())]
    steps += [Switch(0), Touch(0), Switch(1), Touch(1)]
    return Program("tour", "every op that comes to the same everywhere, once", tuple(steps))


_ERAS = ("seed", "2.6.33")


def _options(era: str) -> dict[str, bool]:
    return {"X86_PAE": False} if era == "seed" else {"X86_PAE": True, "PARAVIRT_SPINLOCKS": True}
