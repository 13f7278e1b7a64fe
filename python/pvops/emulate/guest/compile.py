"""Steps to instructions: the C of the kernel, with the macros of an era around every op."""

from __future__ import annotations

from collections.abc import Iterable

from pvops.assembler import Local, Value, addr, function, label, mem
from pvops.assembler.operands import Operand, Register, eax, ebp, ebx, ecx, edi, edx, esi, esp
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    addl,
    andl,
    call,
    cmpb,
    cmpl,
    decb,
    decl,
    je,
    jle,
    jmp,
    jne,
    jns,
    lock,
    movb,
    movl,
    orl,
    pause,
    popl,
    pushl,
    ret,
    shll,
    shrl,
)
from pvops.emulate.cpu import EXIT
from pvops.emulate.guest.eras import GONE, NEW, RENAMED
from pvops.emulate.guest.layout import MMS, PAGE_FLAGS, Build, pa, pmd_of
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
    Sysexit,
    Table,
    Touch,
)
from pvops.emulate.macros.paravirt import Paravirt
from pvops.errors import RunError

X86_EFLAGS_IF = 0x200

LAZY = {"none": 0, "mmu": 1, "cpu": 2, "flush": 3}
#: How many results a guest may record.
RESULTS = 512

_COUNTERS = (ebx, esi, edi)

#: Ops that the kernel calls as any function pointer, without a site (init.h, time.h, apic.h of 2.6.24).
PLAIN = frozenset(
    f"{struct}.{op}"
    for struct, ops in {
        "pv_init_ops": "arch_setup memory_setup post_allocator_init banner",
        "pv_time_ops": "time_init get_cpu_khz sched_clock",
        "pv_irq_ops": "init_IRQ",
        "pv_cpu_ops": "io_delay",
        "pv_apic_ops": "setup_boot_clock setup_secondary_clock",
        "pv_mmu_ops": "pagetable_setup_start pagetable_setup_done kmap_atomic_pte",
    }.items()
    for op in ops.split()
)

#: Ops that the kernel asks for before it calls them.
NULLABLE = frozenset({"pv_init_ops.post_allocator_init"})

_DESCRIPTOR_WRITES = frozenset(f"pv_cpu_ops.write_{table}_entry" for table in ("ldt", "gdt", "idt"))

_SETUP_ARCH: tuple[tuple[str, tuple[Operand, ...]], ...] = (
    ("pv_init_ops.memory_setup", ()),
    ("pv_init_ops.arch_setup", ()),
    ("pv_mmu_ops.pagetable_setup_start", (addr("mm0_pgd"),)),
    ("pv_mmu_ops.pagetable_setup_done", (addr("mm0_pgd"),)),
)


class Compiler:
    """Makes the instructions of one program.

    Args:
        build: what for.
        pv: the macros.

    Attributes:
        plain: label of each call that is no site → its op.
    """

    def __init__(self, build: Build, pv: Paravirt) -> None:
        self.build = build
        self.pv = pv
        self.plain: dict[str, str] = {}

    def program(self, program: Program) -> Body:
        """``start_kernel``, the page fault handler, and what records results."""
        return (
            # setup_arch(): before the kernel patches itself.
            function("start_kernel", [self.call(op, *words) for op, words in _SETUP_ARCH], jmp("check_bugs")),
            function("check_bugs", self.steps(program.steps, 0), function_end()),
            self._page_fault(program.fault_around),
            function(
                "record",
                *(pushl(ecx), movl(mem("result_count"), ecx), cmpl(RESULTS, ecx), je(addr(_FULL))),
                *(
                    movl(eax, mem("results", None, ecx, 4)),
                    addl(1, mem("result_count")),
                    label(_FULL),
                    popl(ecx),
                    ret(),
                ),
            ),
        )

    def steps(self, steps: Iterable[Step], depth: int) -> list[Body]:
        """The instructions of steps, so many loops deep."""
        return [self.step(step, depth) for step in steps]

    def step(self, step: Step, depth: int) -> Body:
        """One step."""
        match step:
            case Call():
                return self.call(step.op, *self.words(step.arguments), record=step.record)
            case Loop():
                return self._loop(step, depth)
            case Lazy():
                return (self.lazy(step.mode), self.steps(step.steps, depth), self.lazy(step.mode, leave=True))
            case IrqSave():
                saved = (self.pv.raw_local_save_flags(), pushl(eax), self.pv.raw_local_irq_disable())
                return (*saved, self.steps(step.steps, depth), popl(eax), self.pv.raw_local_irq_restore())
            case Locked():
                return (self._spin_lock(), self.steps(step.steps, depth), self._spin_unlock())
            case Touch():
                return self._touch(step)
            case Switch():
                return self._switch(step.mm)
            case Sysexit():
                return (movl(EXIT, edx), movl(esp, ecx), self.pv.ENABLE_INTERRUPTS_SYSEXIT())
            case Raw():
                return step.body

    # Calls

    def call(self, op: str, *words: Operand, record: bool = False) -> Body:
        """An op through its site, as the kernel's C or assembler has it; nothing where the era has no such op."""
        name = self.name(op)
        if name in (NEW if self.build.era == "seed" else GONE):
            return ()
        body: tuple[Body, ...]
        wrappers = {
            "pv_irq_ops.save_fl": self.pv.raw_local_save_flags,
            "pv_irq_ops.restore_fl": self.pv.raw_local_irq_restore,
            "pv_irq_ops.irq_disable": self.pv.raw_local_irq_disable,
            "pv_irq_ops.irq_enable": self.pv.raw_local_irq_enable,
        }
        found = self.pv.op(name)
        known = found is not None and found.op.callee_save
        if name in wrappers:
            loads = tuple(movl(w, r) for w, r in zip(words, (eax,), strict=False))
            body = (*loads, *wrappers[name]())
        elif known:
            body = self.pv.PVOP_CALLEE(name, *words)
        elif name in PLAIN or len(words) > 4:
            body = self._plain(name, words)
        elif self.build.era != "seed" and name in _DESCRIPTOR_WRITES:
            # A descriptor is handed over by its address since 2.6.25.
            table, index, low, high = words
            stored = (movl(low, mem("descriptor")), movl(high, mem(addr("descriptor") + 4)))
            body = (*stored, *self.pv.PVOP_CALL(name, table, index, addr("descriptor")))
        else:
            body = self.pv.PVOP_CALL(name, *words)
        if not record:
            return body
        # Of the flags only the interrupt flag counts: the other bits are whatever the last comparison left.
        only = (andl(X86_EFLAGS_IF, eax),) if name == "pv_irq_ops.save_fl" else ()
        return (*body, *only, call("record"))

    def name(self, op: str) -> str:
        """The era's name of an op of the seed's."""
        if self.build.era == "seed":
            return op
        return RENAMED.get(op, op)

    def _plain(self, op: str, words: tuple[Operand, ...]) -> tuple[Body, ...]:
        found = self.pv.op(op)
        in_registers = tuple(movl(w, r) for w, r in zip(words, (eax, edx, ecx), strict=False))
        on_stack = tuple(pushl(w) for w in reversed(words[3:]))
        after = (addl(4 * len(on_stack), esp),) if on_stack else ()
        if found is None:
            return (*on_stack, *in_registers, *self.pv.direct(op), *after)
        at = f"call_{len(self.plain)}.{op}"
        self.plain[at] = op
        if op in NULLABLE:
            # if (pv_init_ops.post_allocator_init) …
            none = Local("none")
            guarded = (
                cmpl(0, mem(self.pv.pointer(found))),
                je(addr(none)),
                label(at),
                call(mem(self.pv.pointer(found))),
            )
            return (*guarded, label(none))
        return (*on_stack, *in_registers, label(at), call(mem(self.pv.pointer(found))), *after)

    def words(self, arguments: Iterable[object]) -> list[Operand]:
        """Arguments as words: entries of page tables are two with PAE."""
        words: list[Operand] = []
        for argument in arguments:
            match argument:
                case Entry():
                    words += self._entry(argument.value)
                case Table():
                    words += self._entry(pa(f"mm{argument.mm}_pt") + 0x67)
                case Pmd():
                    words.append(pmd_of(self.build, argument.mm))
                case Pte():
                    words.append(addr(f"mm{argument.mm}_pt") + argument.page * self.build.entry)
                case int() | Value():
                    words.append(argument)
                case _:
                    raise RunError(f"{argument!r} is no argument of an op")
        return words

    def _entry(self, low: Operand) -> list[Operand]:
        return [low, 0] if self.build.pae else [low]

    # Lazy mode

    def lazy(self, mode: str, *, leave: bool = False) -> Body:
        """Enters or leaves a lazy mode, if the run wants lazy sections."""
        without = Local("without")
        if mode not in ("mmu", "cpu"):
            raise RunError(f"no lazy mode {mode} (there are mmu and cpu)")
        if self.build.era == "seed":
            op: Body = self.pv.PVOP_VCALL("pv_misc_ops.set_lazy_mode", LAZY["none" if leave else mode])
        elif mode == "mmu":
            op = self.pv.PVOP_VCALL(f"pv_mmu_ops.lazy_mode.{'leave' if leave else 'enter'}")
        else:
            op = self.pv.PVOP_VCALL(f"pv_cpu_ops.{'end' if leave else 'start'}_context_switch", addr("thread0"))
        return (cmpl(0, mem("lazy_sections")), je(addr(without)), op, label(without))

    # Loops, locks, switches and faults

    def _loop(self, step: Loop, depth: int) -> Body:
        if depth >= len(_COUNTERS):
            raise RunError(f"loops {depth + 1} deep: at most {len(_COUNTERS)}")
        if not 0 < step.times < 1 << 31:
            raise RunError(f"a loop of {step.times} turns")
        counter, again = _COUNTERS[depth], Local("again")
        return (
            movl(step.times, counter),
            label(again),
            self.steps(step.steps, depth + 1),
            decl(counter),
            jne(addr(again)),
        )

    def _spin_lock(self) -> Body:
        """2.6.24 include/asm-x86/spinlock_32.h: a byte, 1 when free; from 2.6.30 on tickets, behind pv_lock_ops."""
        if self.build.era != "seed":
            return self.call("pv_lock_ops.spin_lock", addr("spinlock"))
        again, wait, taken = Local("again"), Local("wait"), Local("taken")
        byte = mem("spinlock")
        return (
            *(label(again), lock(decb(byte)), jns(addr(taken)), label(wait), pause(), cmpb(0, byte), jle(addr(wait))),
            *(jmp(addr(again)), label(taken)),
        )

    def _spin_unlock(self) -> Body:
        if self.build.era != "seed":
            return self.call("pv_lock_ops.spin_unlock", addr("spinlock"))
        return movb(1, mem("spinlock"))

    def _touch(self, step: Touch) -> Body:
        self._check_mm(step.mm)
        at = mem(f"touched{step.mm}")
        return (movl(at, eax), movl(mem(0, eax), edx), addl(step.stride << 12, at))

    def _switch(self, mm: int) -> Body:
        """switch_mm() and __switch_to(): page table, stack, TLS, CR0.TS."""
        self._check_mm(mm)
        thread = addr(f"thread{mm}")
        return (
            *(movl(addr(f"mm{mm}"), mem("current_mm")), movl(addr(f"mm{mm}_pt"), mem("current_pt"))),
            self.call("pv_mmu_ops.write_cr3", pa(f"mm{mm}_pgd")),
            self.lazy("cpu"),
            self.call("pv_cpu_ops.load_esp0", addr("init_tss"), thread),
            self.call("pv_cpu_ops.load_tls", thread, 0),
            self.call("pv_cpu_ops.clts"),
            self.lazy("cpu", leave=True),
        )

    def _check_mm(self, mm: int) -> None:
        if not 0 <= mm < MMS:
            raise RunError(f"no mm {mm}: a guest has {MMS}")

    def _page_fault(self, around: int) -> Body:
        """The handler: maps the pages around the address, in one lazy section, and returns."""
        again = Local("again")
        if around not in (1, 2, 4, 8, 16, 32, 64):
            raise RunError(f"fault_around {around}: a power of two up to 64")
        saved: tuple[Register, ...] = (eax, ecx, edx, ebx, esi, edi, ebp)
        index = (movl(ebx, ecx), shrl(12, ecx), andl(0x1FF, ecx))
        entry = (
            shll(3 if self.build.pae else 2, ecx),
            addl(mem("current_pt"), ecx),
            movl(ebx, eax),
            orl(PAGE_FLAGS, eax),
        )
        at: tuple[Body, ...]
        if self.build.pae:
            at = (pushl(0), pushl(eax), movl(mem("current_mm"), eax), movl(ebx, edx))
            call_ = (*self._called_here("pv_mmu_ops.set_pte_at"), addl(8, esp))
        else:
            at = (pushl(eax), movl(mem("current_mm"), eax), movl(ebx, edx))
            call_ = (self.pv.PVOP_VCALL("pv_mmu_ops.set_pte_at"), addl(4, esp))
        return function(
            "page_fault",
            *(pushl(r) for r in saved),
            self.call("pv_mmu_ops.read_cr2"),
            *(movl(eax, ebx), andl(-around << 12, ebx), movl(around, esi)),
            self.lazy("mmu"),
            *(label(again), *index, *entry, *at, *call_, addl(0x1000, ebx), decl(esi), jne(addr(again))),
            self.lazy("mmu", leave=True),
            *(popl(r) for r in reversed(saved)),
            addl(4, esp),
            self.pv.INTERRUPT_RETURN(),
        )

    def _called_here(self, op: str) -> tuple[Body, ...]:
        """A plain call whose arguments are in their places."""
        return self._plain(op, ())


_FULL = Local("full")


def function_end() -> Body:
    """The end of a guest: a jump to the address where the emulator stops."""
    return jmp(Value(None, EXIT))
