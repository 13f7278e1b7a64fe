"""The guest side of lguest: its ops, ``lguest_init()``, and the calls that wait while lazy.

Sources: drivers/lguest/lguest.c of the seed, arch/x86/lguest/boot.c and i386_head.S of 2.6.24 and 2.6.33.
"""

from __future__ import annotations

from pvops.assembler import Local, Value, addr, align, asciz, function, label, mem, space, u32
from pvops.assembler.operands import eax, ebx, ecx, edi, edx, esi, esp, ss
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    andl,
    call,
    cmpb,
    cmpl,
    incl,
    int_,
    iret,
    je,
    jmp,
    jne,
    js,
    leal,
    movb,
    movl,
    movzwl,
    popl,
    pushl,
    ret,
    shll,
    shrl,
    subl,
    xorl,
)
from pvops.emulate.abi.lguest import CALLS, CALLS_2_6_33, CALLS_AT, CR2, FREE, IRQ_ENABLED, RING, STATUS, TIME, TRAP
from pvops.emulate.guest.layout import GDT_ENTRIES, MM_PGD, STACK_SIZE, TLS_ARRAY, Build, pa
from pvops.emulate.paging import PAGE_OFFSET

X86_EFLAGS_IF, TS = 0x200, 8
__KERNEL_DS = 0x18
LAZY_NONE, LAZY_MMU, LAZY_CPU, LAZY_FLUSH = range(4)


def _field(offset: int) -> Value:
    return addr("lguest_data") + offset


irq_enabled = mem(_field(IRQ_ENABLED))


class _Calls:
    """The calls by name, with the era's numbers: ``hcall("TS", …)`` at once, ``lazy_hcall`` when it may wait."""

    def __init__(self, build: Build) -> None:
        table = CALLS_2_6_33 if build.era == "2.6.33" else CALLS
        self.numbers = {name: number for number, name in table.items()}

    def now(self, name: str) -> Body:
        """``hcall``; edx, ebx and ecx are its arguments."""
        return (movl(self.numbers[name], eax), int_(TRAP))

    def lazy(self, name: str) -> Body:
        """``lazy_hcall``."""
        return (movl(self.numbers[name], eax), call("lazy_hcall"))

    def lazy_op(self, op: str, name: str, *arguments: Body) -> Body:
        """An op that is one lazy call: what sets its arguments, ebx kept."""
        return function(op, pushl(ebx), *arguments, self.lazy(name), popl(ebx), ret())


def functions(build: Build) -> tuple[Body, ...]:
    """lguest's functions for the ops of an era."""
    calls = _Calls(build)
    return (
        _lazy(calls),
        _irq(build, calls),
        _cpu(build, calls),
        _descriptors(build, calls),
        _mmu(build, calls),
        _rest(calls),
    )


def _lazy(calls: _Calls) -> Body:
    """``lazy_hcall()``: into the ring while lazy (``async_hcall()``), at once otherwise; a full ring is emptied."""
    full, done, immediately = Local("full"), Local("done"), Local("immediately")
    slot = [(movl(register, mem(_field(CALLS_AT) + 4 * i, edi))) for i, register in enumerate((eax, edx, ebx, ecx))]
    leave: tuple[Body, ...] = (movl(calls.numbers["FLUSH_ASYNC"], eax), int_(TRAP), ret())
    keep = Local("keep")
    return (
        function("lazy_hcall", cmpl(LAZY_NONE, mem("paravirt_lazy_mode")), je(addr(immediately)), jmp("async_hcall")),
        *(label(immediately), int_(TRAP), ret()),
        function(
            "async_hcall",
            *(pushl(esi), pushl(edi), pushl(irq_enabled), movl(0, irq_enabled), movl(mem("next_call"), esi)),
            *(cmpb(0xFF, mem(_field(STATUS), esi)), jne(addr(full))),
            *(movl(esi, edi), shll(4, edi), *slot, movb(0, mem(_field(STATUS), esi))),
            *(incl(esi), andl(RING - 1, esi), movl(esi, mem("next_call"))),
            *(label(done), popl(irq_enabled), popl(edi), popl(esi), ret()),
            *(label(full), int_(TRAP), jmp(addr(done))),
        ),
        # The seed's one op: a mode, or LAZY_FLUSH, which leaves the mode as it is.
        function(
            "lguest_lazy_mode",
            *(cmpl(LAZY_FLUSH, eax), je(addr(keep)), movl(eax, mem("paravirt_lazy_mode"))),
            *(label(keep), cmpl(LAZY_MMU, eax), je(addr(_RETURN)), cmpl(LAZY_CPU, eax), je(addr(_RETURN))),
            *leave,
            *(label(_RETURN), ret()),
        ),
        _modes(leave),
    )


_RETURN = Local("return")


def _modes(leave: tuple[Body, ...]) -> Body:
    """What takes the place of that op in 2.6.33."""
    return (
        function("lguest_leave_lazy_mmu_mode", movl(LAZY_NONE, mem("paravirt_lazy_mode")), leave),
        function("lguest_end_context_switch", movl(LAZY_NONE, mem("paravirt_lazy_mode")), leave),
    )


def _irq(build: Build, calls: _Calls) -> Body:
    plain: tuple[Body, ...] = (
        function("save_fl", movl(irq_enabled, eax), ret()),
        function("irq_disable", movl(0, irq_enabled), ret()),
    )
    if build.era == "seed":
        plain += (
            function("restore_fl", movl(eax, irq_enabled), ret()),
            function("irq_enable", movl(X86_EFLAGS_IF, irq_enabled), ret()),
        )
    else:
        plain += (
            function("lg_restore_fl", movl(eax, irq_enabled), ret()),
            function("lg_irq_enable", movl(X86_EFLAGS_IF, irq_enabled), ret()),
            *(_callee_save(name) for name in ("save_fl", "irq_disable")),
        )
    return (
        *plain,
        # iret in ring 1 does not load the interrupt flag: it is stored in lguest_data before.
        function(
            "lguest_iret",
            *(pushl(eax), movl(mem(12, esp), eax), andl(X86_EFLAGS_IF, eax)),
            *(movl(eax, mem(_field(IRQ_ENABLED), segment=ss)), popl(eax), iret()),
        ),
        function("lguest_init_IRQ", ret()),  # the vectors of its virtual devices, of which a guest here has none
        function("lguest_safe_halt", pushl(ebx), calls.now("HALT"), popl(ebx), ret()),
    )


def _callee_save(name: str) -> Body:
    """PV_CALLEE_SAVE_REGS_THUNK."""
    return function(f"__raw_callee_save_{name}", pushl(ecx), pushl(edx), call(name), popl(edx), popl(ecx), ret())


def _cpu(build: Build, calls: _Calls) -> Body:
    leaf1, done = Local("leaf1"), Local("done")
    return (
        function("lguest_read_cr0", movl(mem("current_cr0"), eax), ret()),
        function("lguest_read_cr2", movl(mem(_field(CR2)), eax), ret()),
        function("lguest_read_cr3", movl(mem("current_cr3"), eax), ret()),
        function("lguest_read_cr4", xorl(eax, eax), ret()),
        function("lguest_write_cr4", ret()),
        function("lguest_wbinvd", ret()),
        function("lguest_set_debugreg", ret()),
        function("lguest_load_tr_desc", ret()),
        function("lguest_set_ldt", ret()),
        calls.lazy_op("lguest_write_cr0", "TS", movl(eax, mem("current_cr0")), movl(eax, edx), andl(TS, edx)),
        calls.lazy_op("lguest_clts", "TS", andl(~TS, mem("current_cr0")), xorl(edx, edx)),
        # cpuid, without the features that the host would have to emulate.
        function(
            "lguest_cpuid",
            *(pushl(mem(0, eax)), pushl(ebx), pushl(esi), movl(ecx, esi), movl(mem(16, esp), ebx)),
            *(pushl(ebx), call("native_cpuid"), popl(ebx), cmpl(1, mem(8, esp)), je(addr(leaf1)), jmp(addr(done))),
            *(label(leaf1), andl(0x2201, mem(0, esi)), andl(0x07808101, mem(0, ebx))),
            *(label(done), popl(esi), popl(ebx), popl(ecx), ret()),
        ),
        # The stack where interrupts go, and how many pages of it; ring 1's data segment.
        calls.lazy_op(
            "lguest_load_esp0" if build.era == "seed" else "lguest_load_sp0",
            "SET_STACK",
            *(movl(mem(0, edx), ebx), movl(__KERNEL_DS | 1, edx), movl(STACK_SIZE >> 12, ecx)),
        ),
    )


def _descriptors(build: Build, calls: _Calls) -> Body:
    again, done = Local("again"), Local("done")
    if build.era == "seed":  # the whole table, whatever changed
        whole = (subl(PAGE_OFFSET, eax), movl(eax, edx), movl(GDT_ENTRIES, ebx), calls.now("LOAD_GDT"))
        load_gdt: tuple[Body, ...] = (movl(mem(2, eax), eax), *whole)
        write_gdt = (*_write_entry(build), *whole)
    else:
        load_gdt = (
            *(movl(mem(2, eax), esi), xorl(edi, edi), label(again), movl(edi, edx), movl(mem(0, esi, edi, 8), ebx)),
            *(movl(mem(4, esi, edi, 8), ecx), calls.now("LOAD_GDT_ENTRY"), incl(edi)),
            *(cmpl(GDT_ENTRIES, edi), jne(addr(again))),
        )
        write_gdt = (*_write_entry(build), calls.now("LOAD_GDT_ENTRY"))
    save, restore = (pushl(ebx), pushl(esi), pushl(edi)), (popl(edi), popl(esi), popl(ebx), ret())
    next_gate = Local("next_gate")
    return (
        function("lguest_load_gdt", *save, *load_gdt, *restore),
        function("lguest_write_gdt_entry", *save, *write_gdt, *restore),
        function("lguest_write_idt_entry", *save, *_write_entry(build), calls.now("LOAD_IDT_ENTRY"), *restore),
        function(
            "lguest_load_idt",
            *save,
            *(movl(mem(2, eax), esi), movzwl(mem(0, eax), edi), incl(edi), shrl(3, edi)),
            *(label(next_gate), subl(1, edi), js(addr(done)), movl(edi, edx), movl(mem(0, esi, edi, 8), ebx)),
            *(movl(mem(4, esi, edi, 8), ecx), calls.now("LOAD_IDT_ENTRY"), jmp(addr(next_gate)), label(done)),
            *restore,
        ),
        # load_tls(thread, cpu): the host takes the array from there.
        calls.lazy_op("lguest_load_tls", "LOAD_TLS", movl(edx, ebx), leal(mem(TLS_ARRAY - PAGE_OFFSET, eax), edx)),
    )


def _write_entry(build: Build) -> tuple[Body, ...]:
    """write_..._entry(table, index, low, high) or, in 2.6.33, (table, index, descriptor): the guest's own copy first.

    Behind three saved registers. Leaves index, low and high where calls take them: edx, ebx, ecx.
    """
    if build.era == "seed":
        parts = (movl(ecx, ebx), movl(mem(16, esp), ecx))
    else:
        parts = (movl(mem(0, ecx), ebx), movl(mem(4, ecx), ecx))
    return (*parts, movl(ebx, mem(0, eax, edx, 8)), movl(ecx, mem(4, eax, edx, 8)))


def _mmu(build: Build, calls: _Calls) -> Body:
    early = Local("early")
    high = (movl(ecx, mem(4, eax)),) if build.pae else ()
    # set_pte_at(mm, address, entry, value): the value is on the stack, behind ebx and the return address.
    at: tuple[Body, ...] = (movl(mem(8, esp), ebx), movl(ebx, mem(0, ecx)))
    if build.pae:
        at = (movl(mem(12, esp), ebx), movl(ebx, mem(4, ecx)), *at)
    return (
        calls.lazy_op("lguest_write_cr3", "NEW_PGTABLE", movl(eax, mem("current_cr3")), movl(eax, edx)),
        calls.lazy_op("lguest_flush_tlb_user", "FLUSH_TLB", xorl(edx, edx)),
        calls.lazy_op("lguest_flush_tlb_kernel", "FLUSH_TLB", movl(1, edx)),
        # lguest_flush_tlb_single(): the host is given an empty entry; a fault has it read the real one again.
        calls.lazy_op(
            "lguest_flush_tlb_single", "SET_PTE", *(movl(mem("current_cr3"), edx), movl(eax, ebx), xorl(ecx, ecx))
        ),
        # lguest_set_pte(): the address is not known, so all is flushed, once there is a page table (``current_cr3``).
        function(
            "lguest_set_pte",
            *(*high, movl(edx, mem(0, eax)), cmpl(0, mem("current_cr3")), je(addr(early))),
            *(movl(1, edx), calls.lazy("FLUSH_TLB"), label(early), ret()),
        ),
        # set_pte_at(mm, address, entry, value)
        calls.lazy_op(
            "lguest_set_pte_at",
            "SET_PTE",
            *(*at, movl(ebx, ecx), movl(edx, ebx), movl(mem(MM_PGD, eax), edx), subl(PAGE_OFFSET, edx)),
        ),
        calls.lazy_op(
            "lguest_set_pmd",
            "SET_PMD",
            *(*high, movl(edx, mem(0, eax)), subl(PAGE_OFFSET, eax), movl(eax, edx), movl(eax, ebx)),
            *(andl(-0x1000, edx), andl(0xFFF, ebx), shrl(3 if build.pae else 2, ebx)),
        ),
        *(_pae(calls) if build.pae else ()),
    )


def _pae(calls: _Calls) -> tuple[Body, ...]:
    """What 2.6.33 has besides."""
    update = (movl(edx, ebx), movl(mem(MM_PGD, eax), edx), subl(PAGE_OFFSET, edx), movl(mem(0, ecx), ecx))
    return (
        function("lguest_set_pte_atomic", jmp("lguest_set_pte")),
        # pte_update(mm, address, entry): changed in place.
        calls.lazy_op("lguest_pte_update", "SET_PTE", *update),
        function("lguest_pte_clear", movl(0, mem(0, ecx)), movl(0, mem(4, ecx)), jmp("lguest_pte_update")),
        function("lguest_pmd_clear", xorl(edx, edx), xorl(ecx, ecx), jmp("lguest_set_pmd")),
        calls.lazy_op(
            "lguest_set_pud",
            "SET_PGD",
            *(movl(ecx, mem(4, eax)), movl(edx, mem(0, eax)), subl(PAGE_OFFSET, eax), movl(eax, edx)),
            *(movl(eax, ebx), andl(-0x20, edx), andl(0x1F, ebx), shrl(3, ebx)),
        ),
    )


def _rest(calls: _Calls) -> Body:
    return (
        function("lguest_patch", ret()),
        function("lguest_get_wallclock", movl(mem(_field(TIME)), eax), ret()),
        function("lguest_time_init", pushl(ebx), xorl(edx, edx), calls.now("SET_CLOCKEVENT"), popl(ebx), ret()),
        # The launcher leaves a map of one range.
        function(
            "lguest_memory_setup",
            *(movl(mem("boot_params"), eax), movl(eax, mem("e820_map")), leal(mem("lguest_map"), eax), ret()),
        ),
        function("lguest_apic_write", ret()),
        function("lguest_apic_read", xorl(eax, eax), ret()),
    )


def start(build: Build, fill: Body) -> Body:
    """Where the launcher starts a guest: tells the host where lguest_data is, and fills the structures."""
    calls = _Calls(build)
    return (
        function("lguest_entry", movl(pa("lguest_data"), edx), calls.now("LGUEST_INIT"), jmp("lguest_init")),
        function("lguest_init", fill, jmp("start_kernel")),
    )


def data(build: Build) -> Body:
    """``struct lguest_data`` and what the guest keeps for itself."""
    return (
        *(align(64), label("lguest_data"), space(STATUS), space(RING, FREE), space(16 * RING)),
        *(label("next_call"), u32(0), label("current_cr0"), u32(0), label("current_cr3"), u32(0)),
        *(label("lguest_map"), asciz("LGUEST"), label("lguest_info"), asciz("lguest")),
    )
