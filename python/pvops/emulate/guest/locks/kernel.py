"""The kernel of a lock's guest: every CPU takes one lock, adds one to a counter that nothing else protects, lets go.

It has the code of every backend, as distributions ship it. What differs is where it starts, and what its init code puts
into the ops; then its sites are patched, and the CPUs start.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from pvops import eras
from pvops.assembler import Built, Image, Local, addr, align, asciz, elf, function, label, mem, space, u32
from pvops.assembler.operands import eax
from pvops.assembler.statements import Body
from pvops.assembler.values import Value
from pvops.assembler.x86 import decl, incl, je, jmp, jne, movl, ret, testl
from pvops.emulate.guest.locks import hyperv, hypervisor, interrupts, user, width
from pvops.emulate.guest.locks.code import CPUS, PER_CPU, VCPU_INFO, Code, Protocol
from pvops.emulate.guest.locks.steps import DONE, ENTER, Step, Steps
from pvops.emulate.macros.paravirt import Paravirt
from pvops.errors import RunError, there_are

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.kernel import Kernel

STACK_SIZE = 0x400
#: What the program is told, as words of memory: turns of each CPU, and how long it thinks and holds, in loops.
TOLD = ("turns", "think", "hold", "nr_cpus", "interrupts")


class LockImage:
    """A lock's guest, assembled.

    Args:
        protocol: the lock.
        bits: 32 or 64.
        threshold: looks at the lock before a waiter blocks.
        mutant: the bug to plant.

    Raises:
        RunError: the protocol has no such mutant.
    """

    def __init__(self, protocol: Protocol, bits: int = 32, *, threshold: int = 16, mutant: str | None = None) -> None:
        if mutant is not None and mutant not in protocol.mutants:
            raise RunError(f"{protocol.name} has no mutant {mutant} here{there_are(mutant, protocol.mutants)}")
        if not 0 < threshold < 1 << 31:
            raise RunError(f"a threshold of {threshold} looks: at least one")
        self.protocol = protocol
        self.bits = bits
        self.threshold = threshold
        self.mutant = mutant
        self.era = protocol.eras[bits]
        era = eras.era(self.era)
        options = {o.symbol for o in era.configs}
        spinlocks = {"PARAVIRT_SPINLOCKS": True} if "PARAVIRT_SPINLOCKS" in options else {}
        self.config = era.default_config(bits, **spinlocks)
        self.pv = Paravirt(self.era, self.config)
        self.w = width.of(bits)
        self._steps = Steps()
        self.code = Code(self.w, self.pv, self._steps, threshold, mutant, {})
        self.built = self._assemble()
        self.symbols = self.built.symbols
        self.code.symbols.update(self.symbols)

    def _assemble(self) -> Built:
        image = Image(self.bits)
        image.section(".text.unlikely", flags=elf.EXECUTE)
        natives = self.protocol.natives(self.code)
        self.pv.kernel(image, defined=natives)
        if self.protocol.key:
            image.section("__jump_table")(label("__start___jump_table"))
        text = image.text
        text(*(function(name, body) for name, body in natives.items()))
        for backend, ops in self.protocol.backends.items():
            filled = {**ops, **(hypervisor.xen_ops(self.bits) if backend == "xen" else {})}
            fill = self._fill(filled, self.protocol.pointers.get(backend, {}))
            if backend == "hyperv":
                tells = {"pv_lock_ops.lock_spinning": "__raw_callee_save_hyperv_long_spin"}
                text(hyperv.entry(self.bits, fill, self._fill(tells, {})), hyperv.functions(self.code))
            elif backend not in hyperv.BACKENDS:
                text(function(f"{backend}_entry", fill, jmp("start_kernel")))
            text(self.protocol.functions(self.code, backend))
        text(hypervisor.xen_irq(self.code))
        text(align(0x1000, 0xCC), label("hypercall_page"), space(0x1000, 0xCC))
        text(function("start_kernel", jmp("check_bugs")), function("check_bugs", ret()))
        text(interrupts.functions(self.code, self.protocol))
        text(function("cpu_start", self._program()), function("exit", jmp("exit")))
        if self.bits == 64:
            text(user.functions(self.code, self.protocol, self._pass("think"), self._pass("hold")))
        image.data(*self._variables())
        if self.protocol.key:
            image.section("__jump_table")(label("__stop___jump_table"))
        return image.build("native_entry")

    def _program(self) -> Body:
        """What each CPU does."""
        w, code, turn = self.w, self.code, Local("turn")
        silent = Local("silent")
        count = mem("counter")
        return (
            *(testl(1, mem("interrupts")), je(addr(silent)), self.pv.raw_local_irq_enable(), label(silent)),
            *(movl(mem("turns"), w.turns), w.load("the_lock", w.lock), label(turn), self._pass("think")),
            *(label("cpu_acquire"), self.protocol.acquire(code, "the_lock"), label("cpu_enter")),
            code.steps("the_lock", (), movl(count, w.also), mark=ENTER),
            *(self._pass("hold"), incl(w.also), movl(w.also, count)),
            *(label("cpu_release"), self.protocol.release(code, "the_lock"), label("cpu_done")),
            *(code.steps("the_lock", (), decl(w.turns), mark=DONE), jne(addr(turn)), jmp("exit")),
        )

    def _pass(self, told: str) -> Body:
        """Waits: so many turns of a loop of two instructions."""
        again, none = Local("again"), Local("none")
        return (
            *(movl(mem(told), eax), testl(eax, eax), je(addr(none))),
            *(label(again), decl(eax), jne(addr(again)), label(none)),
        )

    def _fill(self, ops: Mapping[str, str], pointers: Mapping[str, str]) -> Body:
        """Init code: writes what differs from the native structures."""
        body: list[Body] = []
        for name, held in ops.items():
            op = self.pv.op(name)
            if op is None:
                raise RunError(f"{self.era} has no {name}")
            body += self._points(held, self.pv.pointer(op))
        for name, held in pointers.items():
            body += self._points(held, addr(name))
        return body

    def _points(self, function: str, at: Value) -> tuple[Body, ...]:
        return (self.w.load(function, self.w.result), self.w.mov(self.w.result, mem(at)))

    def _variables(self) -> list[Body]:
        # The locks, and the table beside them, each on cache lines of its own.
        out: list[Body] = [align(64), [(label(name), space(64)) for name in ("the_lock", "irq_lock", "slots")]]
        out += [(label(name), u32(0)) for name in ("counter", "irq_counter", *TOLD)]
        for name in dict.fromkeys(name for held in self.protocol.pointers.values() for name in held):
            out += [align(8), label(name), space(8)]
        if self.protocol.key:
            out += [align(8), label(self.protocol.key), space(16)]
        # The template of per-CPU data: each CPU has a copy of it.
        out += [align(64), label("per_cpu_start"), space(VCPU_INFO), label("per_cpu__xen_vcpu_info"), space(64)]
        out += [align(0x1000), label("per_cpu_areas"), space(PER_CPU * CPUS)]
        out += [align(0x1000), label("xen_shared_info"), space(0x1000)]
        out += [label("stacks"), space(STACK_SIZE * CPUS), label("end_of_data"), asciz("end")]
        return out

    # What the machine and reports ask of it

    @cached_property
    def kernel(self) -> Kernel:
        """The image, opened as any kernel."""
        from pvops.kernel import open as open_kernel

        return open_kernel(self.built.elf)

    @cached_property
    def steps(self) -> Mapping[int, Step]:
        """The steps by address."""
        return {self.symbols[step.name]: step for step in self._steps.all}

    def address(self, name: str) -> int:
        """The address of a symbol; `RunError` where there is none."""
        try:
            return self.symbols[name]
        except KeyError:
            raise RunError(f"the guest has no symbol {name}") from None

    def stack(self, cpu: int) -> int:
        """Where a CPU's stack starts, at its top."""
        return self.address("stacks") + STACK_SIZE * (cpu + 1) - 64

    def per_cpu(self, cpu: int) -> int:
        """Where a CPU's data lies."""
        return self.address("per_cpu_areas") + PER_CPU * cpu

    @cached_property
    def _by_address(self) -> list[tuple[int, str]]:
        return sorted((a, name) for name, a in self.symbols.items() if not name.startswith("step_"))

    def place(self, address: int) -> str:
        """``kvm_lock_spinning+0x12``, or the address in hexadecimal."""
        from bisect import bisect_right

        found = bisect_right(self._by_address, (address, "\x7f")) - 1
        if found < 0:
            return f"{address:#x}"
        start, name = self._by_address[found]
        return name if start == address else f"{name}+{address - start:#x}"

    def sites(self) -> dict[int, str]:
        """Address of each site → its op."""
        names = {op.type: op.name for op in self.pv.template}
        rows = self.kernel.paravirt.rows() if self.kernel.paravirt is not None else ()
        return {row[0]: names[row[2]] for row in rows}

    def features(self, backend: str) -> tuple[int, ...]:
        """Numbers of the features that this guest's CPU has below a backend, for its alternatives."""
        return self.protocol.features.get(backend, ())

    def direct_code(self) -> dict[str, bytes]:
        """What ``xen_patch`` inlines: of the irq ops, those without a call in their code."""
        start, text = self.built.sections[".text"]
        at = self.address("xen_irq_disable_direct") - start
        return {"pv_irq_ops.irq_disable": text[at : self.address("xen_irq_disable_direct_end") - start]}
