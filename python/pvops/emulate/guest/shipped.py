"""The shipped guests of i386: a boot, context switches and page faults, a lock, and every op once."""

from __future__ import annotations

from pvops.assembler import addr, mem
from pvops.assembler.operands import eax
from pvops.assembler.x86 import call, incl, movl
from pvops.emulate.guest import tour, wide
from pvops.emulate.guest.layout import PAGE_FLAGS, USER, gate, pa
from pvops.emulate.guest.opening import CR0, address_spaces, descriptors
from pvops.emulate.guest.program import (
    Call,
    Entry,
    IrqSave,
    Lazy,
    Locked,
    Loop,
    Pmd,
    Program,
    Pte,
    Raw,
    Step,
    Switch,
    Table,
    Touch,
)
from pvops.errors import RunError, there_are


def _boot() -> Program:
    def entry(page: int) -> Entry:
        return Entry(USER[0] + (page << 12) | PAGE_FLAGS)

    steps: tuple[Step, ...] = (
        Call("pv_cpu_ops.cpuid", tuple(addr("scratch") + 4 * i for i in range(4))),
        *descriptors(),
        Call("pv_cpu_ops.write_gdt_entry", (addr("gdt_table"), 20, 0x0000FFFF, 0x00CF9A00)),
        Call("pv_cpu_ops.load_tr_desc"),
        Call("pv_cpu_ops.set_ldt", (0, 0)),
        Call("pv_cpu_ops.load_esp0", (addr("init_tss"), addr("thread0"))),
        *(Call("pv_cpu_ops.write_idt_entry", (addr("idt_table"), vector, *gate(vector))) for vector in (0, 6, 13)),
        Call("pv_irq_ops.init_IRQ"),
        Call("pv_time_ops.time_init"),
        Call("pv_time_ops.get_wallclock"),
        Call("pv_cpu_ops.write_cr0", (CR0,)),
        Call("pv_cpu_ops.read_cr0", record=True),
        Call("pv_cpu_ops.wbinvd"),
        # paging_init(): entry by entry, in one lazy section.
        *(Call("pv_mmu_ops.set_pmd", (Pmd(mm), Table(mm))) for mm in range(len(USER))),
        Lazy("mmu", tuple(Call("pv_mmu_ops.set_pte", (Pte(0, page), entry(page))) for page in range(32))),
        Call("pv_mmu_ops.write_cr3", (pa("mm0_pgd"),)),
        Lazy("mmu", tuple(Call("pv_mmu_ops.set_pte", (Pte(0, page), entry(page))) for page in range(32, 64))),
        Call("pv_mmu_ops.flush_tlb_kernel"),
        Call("pv_mmu_ops.flush_tlb_single", (USER[0],)),
        Call("pv_mmu_ops.make_pte", (Entry(0x1067),), record=True),
        Call("pv_mmu_ops.pte_val", (Entry(0x2067),), record=True),
        Call("pv_time_ops.sched_clock", record=True),
        Call("pv_cpu_ops.read_tsc", record=True),
        Raw((call("cons_init"), call("lg_init"))),
        Call("pv_irq_ops.irq_enable"),
        Call("pv_irq_ops.save_fl", record=True),
        Touch(0),
        Call("pv_irq_ops.safe_halt"),
    )
    return Program("boot", "a boot: descriptors, interrupts, clock, page tables, the first process", steps)


def _switch() -> Program:
    turn: tuple[Step, ...] = (Switch(0), Touch(0, 16), Touch(0, 16), Switch(1), Touch(1, 16))
    steps = (*descriptors(), *address_spaces(), Call("pv_irq_ops.irq_enable"), Loop(16, turn))
    return Program("switch", "two processes take turns, and fault their pages in", steps)


def _lock() -> Program:
    steps: tuple[Step, ...] = (
        *descriptors(),
        Call("pv_irq_ops.irq_enable"),
        Loop(256, (IrqSave((Locked((Raw((incl(mem("counter")),)),)),)),)),
        Raw((movl(mem("counter"), eax), call("record"))),
        Call("pv_irq_ops.save_fl", record=True),
    )
    return Program("lock", "a counter behind a lock, with interrupts off", steps)


_GUESTS = {"boot": _boot, "switch": _switch, "lock": _lock, "tour": tour.everywhere}

#: Their names.
NAMES = tuple(_GUESTS)


def program(name: str) -> Program:
    """One of them by name; `RunError` where there is none."""
    try:
        return _GUESTS[name]()
    except KeyError:
        raise RunError(f"no guest {name}{there_are(name, (*NAMES, wide.NAME))}") from None
